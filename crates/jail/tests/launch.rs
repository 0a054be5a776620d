//! A started process has what it was given, and nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use strongroom_jail::Launch;

/// The shell tells through its inherited socket what it sees.
fn tell(script: &str) -> String {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let (_second, also_theirs) = UnixStream::pair().unwrap();
    let launch = Launch::new("/bin/sh").arg("-c").arg(script).folder("/usr").inherit(theirs).inherit(also_theirs);
    let mut child = launch.start().unwrap();
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    said
}

#[test]
fn descriptors_folder_environment_and_session_are_as_given() {
    let _open = std::fs::File::open("/etc/passwd").unwrap();
    // The last one is the folder being listed.
    assert_eq!(tell("exec ls /proc/self/fd >&3"), "0\n1\n2\n3\n4\n5\n");
    assert_eq!(tell("pwd >&3"), "/usr\n");
    assert_eq!(
        tell("seen=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo $seen >&3"),
        "/dev/null /dev/null /dev/null\n"
    );
    assert_eq!(tell("cat /proc/$$/environ >&3"), "");
    let session = tell("cut -d' ' -f1,6 /proc/$$/stat >&3");
    let (pid, session) = session.trim().split_once(' ').unwrap();
    assert_eq!(pid, session, "a session of its own");
}

#[test]
fn many_start_at_once_and_each_gets_its_own_socket() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..10 {
                    assert_eq!(tell(&format!("echo {number}/{round} >&3")), format!("{number}/{round}\n"));
                }
            });
        }
    });
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let started = Launch::new("/nowhere/program").inherit(theirs).start();
    assert_eq!(started.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn another_user_has_no_further_groups_and_still_dies_with_its_parent() {
    if !rustix::process::geteuid().is_root() {
        // Only root can change users.
        return;
    }
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let script = "echo $(id -u) $(id -g) $(id -G) >&3; exec sleep 100 3>&-";
    let starter = std::thread::spawn(move || {
        let launch = Launch::new("/bin/sh").arg("-c").arg(script).folder("/").user(65_534, 65_534).inherit(theirs);
        let child = launch.start().unwrap();
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        (child, said)
    });
    // The thread that started it ends here, and with it the process.
    let (mut child, said) = starter.join().unwrap();
    assert_eq!(said, "65534 65534 65534\n");
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}
