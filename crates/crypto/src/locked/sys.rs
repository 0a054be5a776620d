//! The system calls behind the pool. Nothing here keeps state.

use std::ptr::NonNull;

/// Pages of `memfd_secret`, private to this process and locked by their nature; `None` where the kernel has none to give.
#[cfg(target_os = "linux")]
pub(super) fn map_memfd_secret(bytes: usize) -> Option<NonNull<u8>> {
    let size = libc::off_t::try_from(bytes).ok()?;
    // SAFETY: takes one integer and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the descriptor is ours, and no pointer is passed.
    let sized = unsafe { libc::ftruncate(fd, size) } == 0;
    let start = if sized { map(bytes, libc::MAP_SHARED, fd) } else { None };
    // SAFETY: closed once; the mapping keeps the memory alive.
    unsafe { libc::close(fd) };
    let start = start?;
    // A shared mapping would otherwise be shared with a child.
    keep(start, bytes, advise(start, bytes, libc::MADV_DONTFORK))
}

/// Anonymous pages, locked as they are touched, in no core dump and no child; `None` where the limit is used up.
#[cfg(target_os = "linux")]
pub(super) fn map_mlocked(bytes: usize) -> Option<NonNull<u8>> {
    let start = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    // SAFETY: the range was just mapped and is ours.
    let locked = unsafe { libc::syscall(libc::SYS_mlock2, start.as_ptr(), bytes, libc::MLOCK_ONFAULT) } == 0;
    let hidden = locked && advise(start, bytes, libc::MADV_DONTDUMP) && advise(start, bytes, libc::MADV_DONTFORK);
    keep(start, bytes, hidden)
}

/// Gives a mapping back.
///
/// # Safety
/// `start` and `bytes` are those of one mapping made here, and nothing refers to it any more.
#[cfg(target_os = "linux")]
pub(super) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
}

#[cfg(target_os = "linux")]
fn map(bytes: usize, flags: libc::c_int, fd: libc::c_int) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is replaced.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

#[cfg(target_os = "linux")]
fn advise(start: NonNull<u8>, bytes: usize, advice: libc::c_int) -> bool {
    // SAFETY: the range was just mapped and is ours; neither advice used here changes its contents.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, advice) == 0 }
}

/// The mapping if everything worked, else it is given back.
#[cfg(target_os = "linux")]
fn keep(start: NonNull<u8>, bytes: usize, worked: bool) -> Option<NonNull<u8>> {
    if !worked {
        // SAFETY: mapped by our caller a moment ago, and nobody else has seen it.
        unsafe { unmap(start, bytes) };
        return None;
    }
    Some(start)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn map_memfd_secret(_bytes: usize) -> Option<NonNull<u8>> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(super) fn map_mlocked(_bytes: usize) -> Option<NonNull<u8>> {
    None
}

/// Never reached: nothing is mapped on this system.
///
/// # Safety
/// None needed.
#[cfg(not(target_os = "linux"))]
pub(super) unsafe fn unmap(_start: NonNull<u8>, _bytes: usize) {}
