//! The disk of the vaults fills up, or the kernel turns it read-only. Root alone can mount one; for others the store's own tests
//! (`crates/store/tests/full_disk.rs`) do so in a name space.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use strongroom_client::channel::new_request_id;
use strongroom_client::wire::device::{DeliverRequest, DeviceRequest};
use strongroom_client::wire::limits;
use strongroom_client::wire::policy::Consumer;
use strongroom_e2e::crowd::{Came, Under};
use strongroom_e2e::members::SharedFactors;
use strongroom_e2e::{Place, processes};

/// A disk of its own in the place of the data folder.
struct Disk {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// In memory, of so many MiB.
    fn small(place: &Place, mib: u32) -> Option<Self> {
        let disk = Self { at: place.path("data"), image: None };
        let size = format!("size={mib}m,mode=0700");
        disk.mount(&["-t", "tmpfs", "-o", &size, "tmpfs"]).then_some(disk)
    }

    /// A file with an ext4 in it, which can be made to fail as a disk does.
    fn that_fails(place: &Place) -> Option<Self> {
        let image = place.path("disk");
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("a file");
        if !run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image)) {
            eprintln!("skipped: there is no mkfs.ext4");
            return None;
        }
        let disk = Self { at: place.path("data"), image: Some(image) };
        disk.mount_image("loop").then_some(disk)
    }

    fn mount(&self, what: &[&str]) -> bool {
        fs::create_dir_all(&self.at).expect("a folder");
        let root = rustix::process::geteuid().is_root();
        let mounted = root && run(Command::new("mount").args(what).arg(&self.at));
        if !mounted {
            eprintln!("skipped: no disk can be mounted here");
        }
        mounted
    }

    fn mount_image(&self, options: &str) -> bool {
        let image = self.image.as_ref().and_then(|image| image.to_str()).expect("a path");
        self.mount(&["-t", "ext4", "-o", options, image])
    }

    /// The kernel finds an error, and lets nobody write any more, whatever they have open.
    fn fail(&self) {
        assert!(run(Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at)), "it does not fail");
        File::create(self.at.join("file")).expect_err("it is read-only");
    }

    /// What is on it is checked, and mounted again. No server may run.
    fn mend(&mut self, options: &str) {
        assert!(processes::until(10, || run(Command::new("umount").arg(&self.at))), "it is in use");
        // As another disk: a process that another test has just started may have this one in its mounts.
        let image = self.image.as_mut().expect("a disk that fails");
        let next = image.with_added_extension("next");
        fs::copy(&*image, &next).expect("copied");
        fs::remove_file(&*image).expect("removed");
        *image = next;
        // 1: errors were corrected.
        let checked = Command::new("e2fsck").arg("-p").args(&self.image).output().expect("it comes with mkfs.ext4");
        assert!(checked.status.code().is_some_and(|code| code <= 1), "{checked:?}");
        assert!(self.mount_image(options));
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.at).expect("a disk");
        found.f_bavail * found.f_frsize
    }

    /// Leaves no more than so many bytes free, until the file is removed.
    fn fill(&self, name: &str, left: u64) -> PathBuf {
        let path = self.at.join(name);
        let mut file = File::create(&path).expect("a file");
        let piece = vec![0; 64 << 10];
        while self.free() > left {
            let size = usize::try_from(self.free() - left).map_or(piece.len(), |size| size.min(piece.len()));
            if file.write_all(&piece[..size]).is_err() {
                break;
            }
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may still run; what it has open goes with it.
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn run(command: &mut Command) -> bool {
    let output = command.output();
    if let Ok(output) = &output {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_disk_that_is_nearly_full_takes_nothing_new_and_everything_that_frees_or_ends_something() {
    let mut place = Place::new();
    let Some(disk) = Disk::small(&place, 64) else { return };
    with_vault_and_guest(&mut place);
    let ballast = disk.fill("ballast", 8 << 20);
    asked_anew();

    for line in ["item add note New --stdin", "guest add another", "config set --history 30"] {
        let refused = place.say(line).stdin("text").refused(1, "disk_full");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("16 MiB")), "{refused}");
    }
    place.say("use --guest helper sign Release").stdin("release: 1").refused(1, "disk_full");
    let kit = place.path("kit-second");
    place.say("--profile second create --phrase-to-file").args([&kit]).refused(1, "disk_full");

    reads(&place);
    place.say("audit verify").ok();
    place.run(["exec", "--env", "V=Kept", "--", "sh", "-c", "test \"$V\" = \"a note\""]).ok();
    place.say("item remove Old --purge --yes").ok();
    place.say("guest suspend helper").ok();
    place.say("lock").ok();
    place.say("unlock").ok();
    place.say("guest revoke helper --yes").ok();
    // Also for a server that is started on it.
    place.stop();
    place.serve(&[]);
    place.say("unlock").ok();
    reads(&place);

    fs::remove_file(ballast).expect("removed");
    place.say("item add note New --stdin").stdin("text").ok();
    let items = place.say("item list").ok();
    assert!(items.contains("New") && !items.contains("Old"), "{items}");
    place.say("audit verify").ok();
}

#[test]
fn a_full_disk_loses_nothing_shows_everything_and_hands_nothing_out_unlogged() {
    let mut place = Place::new();
    let Some(disk) = Disk::small(&place, 64) else { return };
    with_vault_and_guest(&mut place);
    let factors = SharedFactors::derive().expect("factors");
    let socket = place.socket();
    let mut others = Under::found(&mut place, &factors, 2);
    place.say("unlock").ok();
    let [other, idle] = &mut others[..] else { panic!("two of them") };
    for _ in 0..5 {
        assert_eq!(other.write(&socket, &factors).expect("written"), Came::Done);
    }
    let acknowledged = other.log_size(&socket, &factors).expect("verified");
    let ballast = disk.fill("ballast", 0);
    assert!(disk.free() < 4_096);
    asked_anew();

    place.say("item add note New --stdin").stdin("text").refused(1, "disk_full");
    place.say("use --guest helper sign Release").stdin("release: 1").refused(1, "disk_full");
    reads(&place);
    // What is not refused early is refused by the disk itself, before anything of it leaves: no log, no use.
    let export = DeviceRequest::Deliver(DeliverRequest {
        consumer: Consumer::Export,
        references: vec![other.key()],
        after: None,
        program: None,
    });
    let mut handed_out = 0;
    let refused = loop {
        match other.ask_fresh(&socket, &factors, new_request_id(), &export) {
            Ok(_) => handed_out += 1,
            Err(trouble) => break trouble.to_string(),
        }
        assert!(handed_out < 1_000, "the log has room without end");
    };
    assert!(refused.contains("full"), "{refused}");
    // A lock is never refused; an unlock is.
    place.say("lock").ok();
    assert_eq!(place.say("status").json()["state"], "locked");
    refuses_to_unlock(&place, &["full"]);

    fs::remove_file(ballast).expect("removed");
    place.say("unlock").ok();
    place.say("item add note New --stdin").stdin("text").ok();
    place.say("use --guest helper sign Release").stdin("release: 1").ok();
    reads(&place);
    let now = other.log_size(&socket, &factors).expect("verified");
    assert!(
        now >= acknowledged + handed_out,
        "{handed_out} values left, and the log grew from {acknowledged} to {now}"
    );
    for member in [other, idle] {
        assert_eq!(member.write(&socket, &factors).expect("written"), Came::Done);
        member.check(&socket, &factors).expect("nothing is lost");
    }

    // Power fails while the disk is full.
    let ballast = disk.fill("ballast", 0);
    place.kill_server();
    place.serve(&[]);
    refuses_to_unlock(&place, &["full"]);
    fs::remove_file(ballast).expect("removed");
    place.say("unlock").ok();
    reads(&place);
    assert!(place.say("item list").ok().contains("New"));
    place.say("audit verify").ok();
}

#[test]
fn a_disk_that_turns_read_only_loses_nothing_and_says_so() {
    let mut place = Place::new();
    let Some(mut disk) = Disk::that_fails(&place) else { return };
    with_vault_and_guest(&mut place);
    // With the vault open.
    disk.fail();
    for _ in 0..2 {
        let refused = place.say("item add note New --stdin").stdin("text").refused(1, "store_failed");
        assert!(refused.to_string().contains("refuses to write"), "{refused}");
        reads(&place);
    }
    place.say("use --guest helper sign Release").stdin("release: 1").refused(1, "store_failed");
    reads(&place);
    place.say("lock").ok();
    refuses_to_unlock(&place, &["read-only", "refuses to write"]);
    place.stop();
    disk.mend("loop");
    place.serve(&[]);
    place.say("unlock").ok();
    reads(&place);
    place.say("use --guest helper sign Release").stdin("release: 1").ok();
    place.say("item add note New --stdin").stdin("text").ok();

    // With the vault locked.
    place.say("lock").ok();
    disk.fail();
    refuses_to_unlock(&place, &["read-only", "refuses to write"]);
    place.stop();

    // From the start.
    disk.mend("loop,ro");
    let mut server = place.serve_command(&[]);
    assert!(!server.status().expect("it ends").success(), "{}", place.log());
    let log = place.log();
    assert!(log.contains("Read-only file system") && log.contains("cannot be used"), "{log}");
    disk.mend("loop");
    place.serve(&[]);
    place.say("unlock").ok();
    reads(&place);
    assert!(place.say("item list").ok().contains("New"));
    place.say("audit verify").ok();
}

fn with_vault_and_guest(place: &mut Place) {
    place.serve(&[]);
    place.create();
    place.say("item add note Kept --stdin").stdin("a note").ok();
    place.say("item add note Old --stdin").stdin("another").ok();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    place.say("guest add helper").ok();
    place.say("grant add --guest helper Release sign --prefix release: --mode always").ok();
    place.say("use --guest helper sign Release").stdin("release: 1").ok();
}

/// What needs no room goes on.
fn reads(place: &Place) {
    assert_eq!(place.say("status").json()["state"], "open");
    assert!(place.say("item list").ok().contains("Kept"));
    assert!(place.say("item show Kept").ok().contains("Kept"));
    place.say("grant list").ok();
}

/// A vault goes for a moment by the room that there was.
fn asked_anew() {
    thread::sleep(Duration::from_millis(limits::DISK_ASKED_EVERY_MS + 100));
}

/// An attempt that cannot be counted is none.
fn refuses_to_unlock(place: &Place, why: &[&str]) {
    let ran = place.say("--json unlock").run();
    let said = ran.failure().unwrap_or_else(|| panic!("{ran}")).to_string();
    assert!(matches!(ran.error(), Some("disk_full" | "store_failed")), "{ran}");
    assert!(why.iter().any(|why| said.contains(why)), "{ran}");
    assert_eq!(place.say("status").json()["state"], "locked");
}
