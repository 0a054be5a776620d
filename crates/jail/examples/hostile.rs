//! Not an example: the child that this crate's tests start. It jails itself, or not, and then does one thing.
//!
//! `hostile <jail> <act> <folder> <other folder>`; exit code 0: done; 10: refused by the kernel; 11: it failed otherwise.
#![allow(unsafe_code, reason = "attacks are made of system calls that have no safe form")]
#![allow(
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    reason = "a test's program; each block is one system call"
)]
#![allow(clippy::print_stdout, reason = "what it reports")]
#![allow(clippy::disallowed_methods, reason = "a program reads clocks; that it can is what is tested")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use strongroom_jail::Jail;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        return forked();
    }
    let [jail, act, folder, other] = &args[..] else { panic!("four arguments") };
    if jail == "free" && act.contains(' ') {
        return print!("{}", said(apart(act)));
    }
    parent();
    let report = match jail.as_str() {
        "free" => None,
        "vault" => Some(Jail::vault(folder)),
        "threads" => Some(Jail::vault(folder).threads()),
        "compute" => Some(Jail::compute_only()),
        "late" => {
            std::thread::spawn(std::thread::park);
            Some(Jail::vault(folder))
        }
        _ => panic!("unknown jail"),
    }
    .map(|jail| jail.apply().unwrap());
    let outcome = perform(act, Path::new(folder), Path::new(other), report.as_ref());
    std::process::exit(match outcome {
        Ok(()) => 0,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => 10,
        Err(error) => {
            eprintln!("{act}: {error}");
            11
        }
    });
}

/// A zygote; each process that it forks reads an act from its socket, and answers what came of it.
fn forked() {
    let Some(mut born) = strongroom_jail::zygote::serve(|| {}).unwrap() else { return };
    let mut act = String::new();
    born.socket.read_to_string(&mut act).unwrap();
    if act.is_empty() {
        return;
    }
    let outcome = said(apart(act.trim_end()));
    born.socket.write_all(outcome.as_bytes()).unwrap();
}

fn said(outcome: io::Result<String>) -> String {
    match outcome {
        Ok(said) => said,
        // Without the number behind it.
        Err(error) => error.to_string().split(" (").next().unwrap().to_owned(),
    }
}

/// What only a process that is set apart cannot do.
fn apart(act: &str) -> io::Result<String> {
    let (act, about) = act.split_once(' ').unwrap_or((act, ""));
    match act {
        "signal" => call(unsafe { libc::kill(about.parse().unwrap(), 0) })?,
        "open" => drop(fs::File::open(about)?),
        "dial" => drop(std::net::TcpStream::connect(about)?),
        "queue" => call(unsafe { libc::msgget(about.parse().unwrap(), 0) })?,
        "descriptors" => {
            let open = (0..1_024).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
            return Ok(open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" "));
        }
        _ => panic!("unknown act"),
    }
    Ok("done".to_owned())
}

fn perform(act: &str, folder: &Path, other: &Path, report: Option<&strongroom_jail::JailReport>) -> io::Result<()> {
    match act {
        "report" => println!("{}", report.unwrap()),
        // The network.
        "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")?),
        "unix_socket" => drop(std::os::unix::net::UnixDatagram::unbound()?),
        "datagram_pair" => drop(std::os::unix::net::UnixDatagram::pair()?),
        // Landlock does not look at a message that names a socket's file.
        "datagram_out" => {
            let sent = std::os::unix::net::UnixDatagram::pair()?.0.send_to(b"a secret", other.join("socket"))?;
            assert_eq!(sent, 8);
        }
        "named_message" => {
            let (pair, _far) = UnixStream::pair()?;
            let address = libc::sockaddr { sa_family: 1, sa_data: [0; 14] };
            let (fd, data) = (std::os::fd::AsRawFd::as_raw_fd(&pair), b"x".as_ptr().cast());
            let sent = unsafe { libc::sendto(fd, data, 1, 0, &raw const address, 16) };
            call(i32::try_from(sent).unwrap()).or_else(unless(libc::EISCONN, libc::EOPNOTSUPP))?;
        }
        "connect" => {
            call(unsafe { libc::connect(0, std::ptr::null(), 0) }).or_else(unless(libc::EFAULT, libc::ENOTSOCK))?
        }
        // Files.
        "read_outside" => drop(fs::read("/etc/passwd")?),
        "list_outside" => drop(fs::read_dir("/etc")?),
        "read_another_vault" => drop(fs::read(other.join("database"))?),
        "write_outside" => fs::write(other.join("new"), "x")?,
        "rename_out" => fs::rename(folder.join("database"), other.join("stolen"))?,
        "truncate_outside" => drop(fs::OpenOptions::new().write(true).truncate(true).open(other.join("database"))?),
        "chmod_outside" => {
            fs::set_permissions(other.join("database"), std::os::unix::fs::PermissionsExt::from_mode(0o666))?
        }
        // What came by accident: standard streams are 0 to 2.
        "read_inherited" => {
            let mut byte = 0u8;
            let read = unsafe { libc::read(9, (&raw mut byte).cast(), 1) };
            if read < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
            call(i32::try_from(read).unwrap())?;
        }
        "symlink" => std::os::unix::fs::symlink("/etc/passwd", folder.join("link"))?,
        "make_pipe" => call(unsafe { libc::mkfifo(c"pipe".as_ptr(), 0o600) })?,
        "read_inside" => drop(fs::read(folder.join("database"))?),
        // Other programs and processes.
        "exec" => drop(Command::new("/bin/true").status()?),
        "exec_itself" => {
            let program = c"/bin/true".as_ptr();
            call(unsafe { libc::execv(program, [program, std::ptr::null()].as_ptr()) })?;
        }
        "fork" => match unsafe { libc::fork() } {
            0 => unsafe { libc::_exit(0) },
            pid => call(pid)?,
        },
        "thread" => drop(std::thread::Builder::new().spawn(|| ())?.join()),
        "ptrace_parent" => call(ptrace(parent()))?,
        "read_parent" => {
            let mut byte = 0u8;
            let mine = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
            let theirs = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
            let read = unsafe { libc::process_vm_readv(parent(), &raw const mine, 1, &raw const theirs, 1, 0) };
            call(i32::try_from(read).unwrap()).or_else(unless(libc::EFAULT, libc::EFAULT))?;
        }
        "signal_parent" => call(unsafe { libc::kill(parent(), 0) })?,
        "read_environment_of_parent" => drop(fs::read(format!("/proc/{}/environ", parent()))?),
        // The kernel.
        "io_uring" => {
            let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
            call(i32::try_from(made).unwrap()).or_else(unless(libc::EFAULT, libc::EFAULT))?;
        }
        "unshare" => call(unsafe { libc::unshare(libc::CLONE_NEWUTS) })?,
        "executable_memory" => map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?,
        "make_executable" => {
            let page = map_page(libc::PROT_READ)?;
            call(unsafe { libc::mprotect(page, 4_096, libc::PROT_READ | libc::PROT_EXEC) })?;
        }
        "raise_limit" => {
            let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
            call(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
        }
        "limit_parent" => {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            set_limit(parent(), &raw const limit)?;
        }
        "limit_parent_from_high_memory" => set_limit(parent(), high_limit()?)?,
        "limit_from_high_memory" => set_limit(0, high_limit()?)?,
        "read_limit_of_parent" => {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            call(unsafe { libc::prlimit(parent(), libc::RLIMIT_CORE, std::ptr::null(), &raw mut limit) })?;
        }
        "unlock_memory" => {
            let page = map_page(libc::PROT_READ | libc::PROT_WRITE)?;
            call(unsafe { libc::munlock(page, 4_096) })?;
        }
        "lock_little" => {
            let page = map_page(libc::PROT_READ | libc::PROT_WRITE)?;
            call(unsafe { libc::mlock(page, 4_096) })?;
        }
        "lock_key_heap" => {
            let heap = vec![0u8; 65_536];
            call(unsafe { libc::mlock(heap.as_ptr().cast(), 49_640) })?;
        }
        "lock_large_value" => {
            let value = vec![0u8; 1 << 20];
            call(unsafe { libc::mlock(value.as_ptr().cast(), 524_288) })?;
        }
        "much_memory" => {
            let page = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
                libc::mmap(std::ptr::null_mut(), 8 << 30, libc::PROT_READ, flags, -1, 0)
            };
            // Out of address space is as good as refused.
            if page == libc::MAP_FAILED {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
        "fill_memory" => {
            // As its libraries do: from the allocator, and each page written.
            let (written, mut held) = ([7; 1 << 12], Vec::new());
            for _ in 0..768 << 8 {
                let mut block: Vec<u8> = Vec::new();
                block.try_reserve_exact(written.len()).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
                block.extend_from_slice(&written);
                held.push(block);
            }
        }
        "large_file" => {
            // Without the signal's default, which ends the process, the call is refused.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            let file = fs::File::create(folder.join("large"))?;
            file.set_len(9 << 30).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        }
        "panic" => panic!("a panic is written and ends the process"),
        "abort" => std::process::abort(),
        "work" => work(folder)?,
        "compute" => {
            let mut input = Vec::new();
            io::stdin().read_to_end(&mut input)?;
            let mut copies = input.repeat(1_000);
            copies.reverse();
            io::stdout().write_all(&copies[..input.len()])?;
        }
        _ => panic!("unknown act"),
    }
    Ok(())
}

/// What a vault process does all day.
fn work(folder: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let (mut near, mut far) = (tokio::net::UnixStream::from_std(near)?, tokio::net::UnixStream::from_std(far)?);
        near.write_all(b"ping").await?;
        let mut answer = [0; 4];
        far.read_exact(&mut answer).await?;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        io::Result::Ok(())
    })?;
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(folder.join("new"))?;
    file.write_all(&[7; 10_000])?;
    file.sync_all()?;
    file.set_len(100)?;
    fs::File::open(folder)?.sync_all()?;
    fs::create_dir(folder.join("attachments"))?;
    fs::rename(folder.join("new"), folder.join("attachments/one"))?;
    assert_eq!(fs::read_dir(folder.join("attachments"))?.count(), 1);
    assert_eq!(fs::metadata(folder.join("attachments/one"))?.len(), 100);
    fs::remove_file(folder.join("attachments/one"))?;
    secret_memory()?;
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let _ = (std::time::Instant::now(), std::time::SystemTime::now(), std::thread::available_parallelism());
    std::thread::sleep(std::time::Duration::from_millis(1));
    Ok(())
}

fn secret_memory() -> io::Result<()> {
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).unwrap();
    call(fd)?;
    call(unsafe { libc::ftruncate(fd, 4_096) })?;
    let flags = libc::MAP_SHARED;
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4_096, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    call(unsafe { libc::close(fd) })?;
    let heap = map_page(libc::PROT_READ | libc::PROT_WRITE)?;
    call(unsafe { libc::mlock2(heap, 4_096, libc::MLOCK_ONFAULT) })?;
    call(unsafe { libc::madvise(heap, 4_096, libc::MADV_DONTDUMP) })?;
    call(unsafe { libc::madvise(heap, 4_096, libc::MADV_WIPEONFORK) })?;
    call(unsafe { libc::munmap(heap, 4_096) })
}

fn set_limit(pid: i32, limit: *const libc::rlimit) -> io::Result<()> {
    call(unsafe { libc::prlimit(pid, libc::RLIMIT_CORE, limit, std::ptr::null_mut()) })
}

/// A limit at an address whose low 32 bits are zero: a filter that looks at those alone takes it for none.
fn high_limit() -> io::Result<*const libc::rlimit> {
    let (place, flags) = (1_usize << 32, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    let page =
        unsafe { libc::mmap(place as *mut libc::c_void, 4_096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page.cast_const().cast()) }
}

fn map(protection: i32) -> io::Result<()> {
    map_page(protection).map(|_| ())
}

fn map_page(protection: i32) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4_096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

/// PTRACE_SEIZE attaches without stopping.
fn ptrace(pid: i32) -> i32 {
    let none = std::ptr::null_mut::<u8>();
    i32::try_from(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) }).unwrap()
}

fn call(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel got as far as looking at arguments that are wrong on purpose: the call itself was allowed.
fn unless(one: i32, other: i32) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if [Some(one), Some(other)].contains(&error.raw_os_error()) { Ok(()) } else { Err(error) }
}

/// Asked before the jail: it is not among the calls that a vault makes.
static PARENT: OnceLock<i32> = OnceLock::new();

fn parent() -> i32 {
    *PARENT.get_or_init(|| rustix::process::getppid().unwrap().as_raw_nonzero().get())
}
