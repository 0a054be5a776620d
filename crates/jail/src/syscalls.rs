//! The system calls a jailed process may make: each with the path that needs it.
//!
//! Three filters, so that one call can have one of three answers. A call on the list passes. A call that no code of ours or
//! of our libraries makes, and that has no innocent reading (another program, another process's memory, the network), ends
//! the process at once: [`HOSTILE`]. Everything else is answered `EPERM`, so that a library which probes for something new
//! falls back instead of taking an open vault down.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use libc::{c_long, c_ulong};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Which lists apply.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    lists: &'static [&'static [Call]],
    pub(crate) threads: bool,
}

impl Calls {
    pub(crate) fn vault() -> Self {
        Self { lists: &[COMPUTING, STREAMS, EVENTS, FILES, LOCKED_MEMORY], threads: false }
    }

    pub(crate) fn compute_only() -> Self {
        Self { lists: &[COMPUTING, STREAMS], threads: false }
    }

    fn is_vaults(&self) -> bool {
        !self.threads && self.lists.len() == Self::vault().lists.len()
    }

    fn all(&self) -> impl Iterator<Item = &'static Call> {
        let threads: &'static [Call] = if self.threads { THREADS } else { &[] };
        self.lists.iter().copied().flatten().chain(threads)
    }
}

/// One call, when it is allowed, and which path needs it.
#[derive(Debug)]
struct Call {
    number: c_long,
    when: When,
    #[allow(dead_code, reason = "read by whoever reviews the list")]
    reason: &'static str,
}

#[derive(Debug)]
enum When {
    Always,
    /// The argument of this index, which the kernel takes as 32 bits, has one of these values.
    ArgumentIs(u8, &'static [u64]),
    /// The arguments of these indices, masked, have these values, in all their 64 bits: a pointer is null.
    All(&'static [(u8, u64, u64)]),
    /// The argument of this index is at least this and below that.
    Between(u8, u64, u64),
    /// The argument of this index has none of these bits.
    WithoutBits(u8, u64),
    /// The argument of this index is the process itself.
    Itself(u8),
}

/// Puts the filters in force, for good.
pub(crate) fn allow_only(calls: &Calls) -> Result<(), seccompiler::Error> {
    let made = VAULTS.get().filter(|made| made.process == std::process::id() && calls.is_vaults());
    match made {
        Some(made) => apply(&made.filters),
        None => apply(&filters(calls, std::process::id())?),
    }
}

/// Makes the filters of a vault whose process has this number, for all that are forked from here on.
pub(crate) fn make_vaults(process: u32) {
    if let Ok(filters) = filters(&Calls::vault(), process) {
        // Made before: by whoever called this first.
        let _ = VAULTS.set(Made { process, filters });
    }
}

struct Made {
    process: u32,
    filters: [BpfProgram; 3],
}

static VAULTS: OnceLock<Made> = OnceLock::new();

fn apply(filters: &[BpfProgram; 3]) -> Result<(), seccompiler::Error> {
    filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter))
}

fn filters(calls: &Calls, process: u32) -> Result<[BpfProgram; 3], seccompiler::Error> {
    let eperm = SeccompAction::Errno(errno(libc::EPERM));
    // clone3 hides its flags in memory; with ENOSYS the C library falls back to clone, whose flags a filter can read.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let hostile = HOSTILE.iter().map(|number| (*number, Vec::new())).collect();
    let mut allowed = rules(calls, process)?;
    // Passes here because two refusals of one rank would be answered by the newest filter's number, and that is EPERM.
    allowed.insert(libc::SYS_clone3, Vec::new());
    Ok([
        program(clone3, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))?,
        program(hostile, SeccompAction::Allow, SeccompAction::KillProcess)?,
        // The last one: it takes away the call that installs filters.
        program(allowed, eperm, SeccompAction::Allow)?,
    ])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, seccompiler::Error> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch)?;
    Ok(filter.try_into()?)
}

fn rules(calls: &Calls, process: u32) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls.all() {
        let conditions = conditions(&call.when, process)?;
        debug_assert!(!rules.contains_key(&call.number), "call {} is listed twice", call.number);
        rules.insert(call.number, conditions);
    }
    Ok(rules)
}

fn conditions(when: &When, process: u32) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    use SeccompCmpArgLen::{Dword, Qword};
    Ok(match *when {
        When::Always => Vec::new(),
        When::ArgumentIs(index, values) => {
            values.iter().map(|value| rule(index, Dword, SeccompCmpOp::Eq, *value)).collect::<Result<_, _>>()?
        }
        When::All(arguments) => vec![SeccompRule::new(
            arguments
                .iter()
                .map(|(index, mask, value)| SeccompCondition::new(*index, Qword, SeccompCmpOp::MaskedEq(*mask), *value))
                .collect::<Result<_, _>>()?,
        )?],
        When::Between(index, least, beyond) => vec![SeccompRule::new(vec![
            SeccompCondition::new(index, Qword, SeccompCmpOp::Ge, least)?,
            SeccompCondition::new(index, Qword, SeccompCmpOp::Lt, beyond)?,
        ])?],
        When::WithoutBits(index, bits) => vec![rule(index, Qword, SeccompCmpOp::MaskedEq(bits), 0)?],
        When::Itself(index) => vec![rule(index, Dword, SeccompCmpOp::Eq, u64::from(process))?],
    })
}

fn rule(index: u8, length: SeccompCmpArgLen, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::Error> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(index, length, op, value)?])?)
}

const fn always(number: c_long, reason: &'static str) -> Call {
    Call { number, when: When::Always, reason }
}

const fn only(number: c_long, when: When, reason: &'static str) -> Call {
    Call { number, when, reason }
}

const fn bits(value: i32) -> u64 {
    assert!(value >= 0);
    value.unsigned_abs() as u64
}

const fn errno(value: i32) -> u32 {
    value.unsigned_abs()
}

/// All bits of an argument, those that the kernel reads of an `int`, and those of a socket's type beside its flags.
const WHOLE: u64 = u64::MAX;
const INT: u64 = u32::MAX as u64;
const SOCKET_TYPE: u64 = 0xf;

const EXECUTABLE: When = When::WithoutBits(2, bits(libc::PROT_EXEC));

/// Memory, time, chance, signals to oneself, and leaving.
const COMPUTING: &[Call] = &[
    only(libc::SYS_mmap, EXECUTABLE, "the allocator; locked memory; never executable"),
    only(libc::SYS_mprotect, EXECUTABLE, "the allocator grows its heap; guard pages; never executable"),
    always(libc::SYS_munmap, "the allocator; wiped memory is given back"),
    always(libc::SYS_mremap, "the allocator grows a large block in place"),
    always(libc::SYS_brk, "the allocator"),
    always(libc::SYS_madvise, "the allocator; secrets are kept out of dumps and forks"),
    always(libc::SYS_futex, "locks and once-cells of the standard library"),
    always(libc::SYS_getrandom, "keys and nonces; hash maps"),
    always(libc::SYS_clock_gettime, "time, where the vDSO cannot tell it"),
    always(libc::SYS_clock_getres, "OpenSSL's timer set-up"),
    always(libc::SYS_gettimeofday, "SQLite's clock, where the vDSO cannot tell it"),
    always(libc::SYS_clock_nanosleep, "SQLite waits for a lock; waits of the program"),
    always(libc::SYS_nanosleep, "the same on older C libraries"),
    always(libc::SYS_sched_yield, "spinning locks give way"),
    always(libc::SYS_sched_getaffinity, "how many processors there are"),
    always(libc::SYS_getpid, "SQLite and OpenSSL tell a fork by it"),
    always(libc::SYS_gettid, "abort and panic messages"),
    always(libc::SYS_getuid, "OpenSSL asks whether it runs with borrowed rights"),
    always(libc::SYS_geteuid, "SQLite asks whether it is root; OpenSSL as above"),
    always(libc::SYS_getgid, "OpenSSL as above"),
    always(libc::SYS_getegid, "OpenSSL as above"),
    always(libc::SYS_uname, "OpenSSL and the C library look at the kernel's version"),
    always(libc::SYS_sysinfo, "the C library's sorting asks how much memory there is"),
    always(libc::SYS_getrusage, "a program that measures itself"),
    only(libc::SYS_prlimit64, When::All(&[(0, INT, 0), (2, WHOLE, 0)]), "reading its own limits, never setting any"),
    always(libc::SYS_rt_sigaction, "the standard library's stack guard; SIGPIPE"),
    always(libc::SYS_rt_sigprocmask, "abort; signal set-up"),
    always(libc::SYS_rt_sigreturn, "the end of every signal handler"),
    always(libc::SYS_sigaltstack, "the standard library's stack guard, at thread end"),
    only(libc::SYS_tgkill, When::Itself(0), "abort signals the process itself"),
    always(libc::SYS_restart_syscall, "a wait goes on after a stop"),
    always(libc::SYS_exit, "end of a thread"),
    always(libc::SYS_exit_group, "end of the process"),
];

/// Reading and writing what is open.
const STREAMS: &[Call] = &[
    always(libc::SYS_read, "socket, pipes, files"),
    always(libc::SYS_write, "socket, pipes, files"),
    always(libc::SYS_readv, "socket, several buffers at once"),
    always(libc::SYS_writev, "socket, several buffers at once; panic messages"),
    always(libc::SYS_recvfrom, "the socket to the host"),
    only(libc::SYS_sendto, When::All(&[(4, WHOLE, 0)]), "the socket to the host, which is connected"),
    always(libc::SYS_recvmsg, "the socket to the host, several buffers at once"),
    always(libc::SYS_sendmsg, "the socket to the host, several buffers at once"),
    always(libc::SYS_shutdown, "the end of a conversation"),
    always(libc::SYS_close, "what is not needed any more"),
    always(libc::SYS_fstat, "the size and kind of what is open"),
    always(libc::SYS_lseek, "the length of a file"),
    always(libc::SYS_ppoll, "waiting for the socket without a runtime"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_poll, "the same"),
    only(
        libc::SYS_fcntl,
        When::ArgumentIs(
            1,
            &[
                bits(libc::F_GETFD),
                bits(libc::F_SETFD),
                bits(libc::F_GETFL),
                bits(libc::F_SETFL),
                bits(libc::F_DUPFD_CLOEXEC),
                bits(libc::F_GETLK),
                bits(libc::F_SETLK),
                bits(libc::F_SETLKW),
                bits(libc::F_OFD_SETLK),
            ],
        ),
        "non-blocking sockets, locks of SQLite; not F_SETOWN, which sends signals",
    ),
    only(libc::SYS_ioctl, When::ArgumentIs(1, &[libc::FIONBIO as c_ulong]), "non-blocking sockets"),
];

/// The tokio runtime of one thread.
const EVENTS: &[Call] = &[
    always(libc::SYS_epoll_create1, "the runtime's queue"),
    always(libc::SYS_epoll_ctl, "the runtime watches the socket"),
    always(libc::SYS_epoll_pwait, "the runtime waits"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_epoll_wait, "the runtime waits"),
    always(libc::SYS_eventfd2, "the runtime wakes itself"),
    only(
        libc::SYS_socketpair,
        // A datagram socket sends wherever a message says, connected or not.
        When::All(&[(0, INT, bits(libc::AF_UNIX)), (1, SOCKET_TYPE, bits(libc::SOCK_STREAM))]),
        "the runtime's signal driver: a pair that leads nowhere but here",
    ),
    only(
        libc::SYS_getsockopt,
        When::ArgumentIs(1, &[bits(libc::SOL_SOCKET)]),
        "the runtime asks a socket for its error",
    ),
];

/// The store: database, write-ahead log, header files, attachments. Landlock says where.
const FILES: &[Call] = &[
    always(libc::SYS_openat, "store opens database, log, headers, attachments"),
    always(libc::SYS_newfstatat, "store asks whether a file is there"),
    always(libc::SYS_statx, "the standard library's metadata"),
    always(libc::SYS_fstatfs, "store asks how much room is left, before something new is taken"),
    always(libc::SYS_faccessat, "SQLite asks whether a log is there"),
    always(libc::SYS_faccessat2, "the same on newer C libraries"),
    always(libc::SYS_pread64, "SQLite reads pages"),
    always(libc::SYS_pwrite64, "SQLite writes pages"),
    always(libc::SYS_fsync, "no log, no use: what is answered is on the disk"),
    always(libc::SYS_fdatasync, "the same"),
    always(libc::SYS_ftruncate, "SQLite cuts the log; locked memory gets its size"),
    always(libc::SYS_fallocate, "SQLite grows files"),
    always(libc::SYS_fadvise64, "a backup is read once"),
    always(libc::SYS_fchmod, "SQLite gives the log the database's mode"),
    always(libc::SYS_flock, "store keeps a second process out"),
    always(libc::SYS_unlinkat, "SQLite and store remove what was replaced"),
    always(libc::SYS_renameat2, "store puts a complete file in place"),
    always(libc::SYS_mkdirat, "the folder of attachments"),
    always(libc::SYS_getdents64, "store looks for leftovers"),
    always(libc::SYS_getcwd, "SQLite makes a path whole"),
    always(libc::SYS_readlinkat, "SQLite resolves links in a path"),
    always(libc::SYS_umask, "files are made for this user only"),
    #[cfg(not(target_arch = "riscv64"))]
    always(libc::SYS_renameat, "the same as renameat2 on older C libraries"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_open, "the older forms of the calls above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_stat, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_lstat, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_access, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_unlink, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_rename, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_mkdir, "as above"),
    #[cfg(target_arch = "x86_64")]
    always(libc::SYS_readlink, "as above"),
];

/// The size of the heap in which SQLCipher keeps keys (`SQLCIPHER_PRIVATE_HEAP_SIZE_DEFAULT`).
const KEY_HEAP_BYTES: u64 = 49_152;

/// Memory that holds keys. SQLCipher asks for `mlock` and `munlock` of each allocation and goes on without: a vault's memory is
/// locked as a whole where it can be, and pages hold more than one allocation, so that to unlock one would unlock its neighbours.
/// A large value is refused as well: it would be locked and never unlocked, and keys would find no room.
const LOCKED_MEMORY: &[Call] = &[
    always(libc::SYS_memfd_secret, "keys in memory that even root cannot read"),
    always(libc::SYS_mlock2, "keys stay out of swap, where not all memory is locked"),
    only(libc::SYS_mlock, When::Between(1, KEY_HEAP_BYTES, 2 * KEY_HEAP_BYTES), "SQLCipher's heap for keys"),
];

const THREAD_FLAGS: u64 = bits(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND);
const NAMESPACE_FLAGS: u64 = bits(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP,
);

/// Threads, where the jail allows them: clone with the flags of a thread, without those of a new process.
const THREADS: &[Call] = &[
    only(libc::SYS_clone, When::All(&[(0, THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS)]), "a thread, never a process"),
    always(libc::SYS_set_robust_list, "start of a thread"),
    always(libc::SYS_rseq, "start of a thread"),
    only(libc::SYS_prctl, When::ArgumentIs(0, &[bits(libc::PR_SET_NAME)]), "a thread's name"),
];

/// What ends the process.
const HOSTILE: &[c_long] = &[
    // Another program.
    libc::SYS_execve,
    libc::SYS_execveat,
    // The network, and local sockets that lead elsewhere.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel's larger doors.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(calls: &Calls) -> Vec<c_long> {
        calls.all().map(|call| call.number).collect()
    }

    #[test]
    fn no_call_is_listed_twice_or_both_allowed_and_hostile() {
        for calls in [Calls { threads: true, ..Calls::vault() }, Calls { threads: true, ..Calls::compute_only() }] {
            let mut seen = std::collections::HashSet::new();
            for number in numbers(&calls) {
                assert!(seen.insert(number), "call {number} twice");
                assert!(!HOSTILE.contains(&number), "call {number} both ways");
            }
        }
    }

    #[test]
    fn computing_opens_nothing() {
        let calls = numbers(&Calls::compute_only());
        for refused in [libc::SYS_openat, libc::SYS_socketpair, libc::SYS_memfd_secret, libc::SYS_clone] {
            assert!(!calls.contains(&refused));
        }
    }

    #[test]
    fn both_lists_compile_to_filters() {
        for calls in [Calls::vault(), Calls::compute_only(), Calls { threads: true, ..Calls::vault() }] {
            let rules = rules(&calls, 1).expect("the lists are well formed");
            program(rules, SeccompAction::Errno(1), SeccompAction::Allow).expect("a filter");
        }
    }
}
