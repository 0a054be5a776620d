//! Memory for keys and plaintext that is never swapped, dumped or inherited by a child, and wiped when it is freed.
//!
//! A request is served from the first of these that works, and [`stats`] says how much lies where:
//!
//! 1. `memfd_secret` (Linux 5.14): pages that not even the kernel maps, so `/proc/<pid>/mem`, `ptrace` and a core dump cannot
//!    read them;
//! 2. anonymous pages with `mlock2` and `MADV_DONTDUMP`: never swapped, not in a core dump;
//! 3. the ordinary heap, wiped when freed. That happens where the limit on locked memory is used up, and on other systems.
//!
//! Arenas of 64 KiB are cut into pages of 4 KiB, each for one power of two from 32 bytes on; a page is only backed once it is
//! touched, so a process with a hundred keys pays for one. What is larger than a page gets a mapping of its own.
//!
//! **Left out.** There are no guard pages: nothing here hands out an address without its length. After `fork` the child finds
//! these pages unmapped; it can allocate its own, and touching a key of its parent ends it.
#![expect(unsafe_code, reason = "the one place of this crate that asks the kernel for memory and hands it out")]

use std::{
    hint,
    ops::Range,
    process,
    ptr::NonNull,
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

mod sys;

/// Plaintext for the duration of one call: in locked memory, not printable, not cloneable, wiped when dropped.
pub struct SecretBytes {
    block: Block,
    /// The part that counts: opening strips padding without moving the bytes.
    part: Range<usize>,
}

impl SecretBytes {
    /// `len` zero bytes, to be written through [`expose_mut`](Self::expose_mut).
    pub fn zeroed(len: usize) -> Self {
        Self { block: pool().allocate(len), part: 0..len }
    }

    /// A copy of `bytes`, which the caller goes on to own and to wipe.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        // EXPOSE: written here, before anyone else has the value.
        copy.expose_mut().copy_from_slice(bytes);
        copy
    }

    /// Takes `bytes` over: they are copied and the original is wiped.
    pub fn take(mut bytes: Vec<u8>) -> Self {
        let taken = Self::copy_of(&bytes);
        bytes.zeroize();
        taken
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.part.is_empty()
    }

    /// The bytes. Each call states why it needs them.
    pub fn expose(&self) -> &[u8] {
        &self.block.bytes()[self.part.clone()]
    }

    /// The bytes, to write them.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.block.bytes_mut()[self.part.clone()]
    }

    /// Keeps only `part`, counted from the start of what it is now.
    ///
    /// # Panics
    /// If `part` goes beyond the end.
    #[must_use]
    pub fn narrow(mut self, part: Range<usize>) -> Self {
        assert!(part.start <= part.end && part.end <= self.part.len(), "a part lies inside the whole");
        self.part = self.part.start + part.start..self.part.start + part.end;
        self
    }
}

impl ConstantTimeEq for SecretBytes {
    fn ct_eq(&self, other: &Self) -> Choice {
        // EXPOSE: compared in constant time, not kept.
        self.expose().ct_eq(other.expose())
    }
}

impl ZeroizeOnDrop for SecretBytes {}

/// Which kinds of locked memory may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The best that works.
    Auto,
    /// Everything but `memfd_secret`: it keeps a machine from hibernating, and a debugger from seeing a key in tests.
    NoMemfdSecret,
}

/// How many bytes lie where, counted as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// In `memfd_secret` pages.
    pub memfd_secret_bytes: usize,
    /// In pages locked with `mlock2`.
    pub mlocked_bytes: usize,
    /// On the ordinary heap, because nothing better was to be had.
    pub heap_bytes: usize,
    /// How often the heap had to do since the program started.
    pub heap_fallbacks: u64,
    /// Address space set aside in arenas; only touched pages take memory.
    pub arena_bytes: usize,
}

/// The mode was asked for after keys had been placed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("locked memory was in use before its mode was chosen")]
pub struct TooLate;

/// Chooses the mode and sets the first arena aside, so that a program can do both before it gives up the system calls they
/// need. Without it, the first key does so in mode [`Mode::Auto`].
///
/// # Errors
/// When memory was already handed out in another mode.
pub fn init(mode: Mode) -> Result<(), TooLate> {
    let mut pool = pool();
    pool.enter_process();
    if pool.mode != mode && !pool.arenas.is_empty() {
        return Err(TooLate);
    }
    pool.mode = mode;
    if pool.arenas.is_empty() {
        pool.add_arena();
    }
    Ok(())
}

/// How much lies where.
pub fn stats() -> Stats {
    pool().stats
}

/// Overwrites 64 KiB of stack below the caller, where ciphers and signatures leave copies of keys behind.
#[inline(never)]
pub fn scrub_stack() {
    let mut below = [0_u8; 64 * 1024];
    below.zeroize();
    hint::black_box(&mut below);
}

/// Bytes of one length in locked memory, owned alone and wiped when dropped.
pub(crate) struct Block {
    start: NonNull<u8>,
    len: usize,
    home: Home,
    process: u32,
}

// SAFETY: a block is the only owner of its bytes, wherever they lie; no thread keeps anything of its own beside them.
unsafe impl Send for Block {}
// SAFETY: shared access only reads.
unsafe impl Sync for Block {}

impl Block {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        pool().allocate(len)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` initialised bytes until drop, and `&self` keeps writers away.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` keeps everyone else away.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // In a child of fork the pages are not mapped; the parent wipes them.
        if self.process == process::id() || matches!(self.home, Home::Heap) {
            self.bytes_mut().zeroize();
            pool().release(self);
        }
    }
}

/// Where a block came from.
#[derive(Clone, Copy)]
enum Home {
    Slot { arena: usize, page: usize, slot: u32 },
    Mapping { place: Place, bytes: usize },
    Heap,
}

/// The two kinds of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    MemfdSecret,
    Mlocked,
}

struct Pool {
    mode: Mode,
    process: u32,
    arenas: Vec<Arena>,
    stats: Stats,
}

struct Arena {
    start: NonNull<u8>,
    place: Place,
    pages: [Page; ARENA_PAGES],
}

// SAFETY: an arena is an address range that only the pool, behind its mutex, divides.
unsafe impl Send for Arena {}

/// One page of an arena: slots of `1 << class` bytes, or not in use.
#[derive(Clone, Copy)]
struct Page {
    class: u32,
    used: u128,
}

impl Pool {
    const fn new(mode: Mode) -> Self {
        let stats = Stats { memfd_secret_bytes: 0, mlocked_bytes: 0, heap_bytes: 0, heap_fallbacks: 0, arena_bytes: 0 };
        Self { mode, process: 0, arenas: Vec::new(), stats }
    }

    /// Zero bytes from the best place there is. Never fails: the heap is the last resort.
    fn allocate(&mut self, len: usize) -> Block {
        self.enter_process();
        let (start, home) = self.locked(len).unwrap_or_else(|| (on_heap(len), Home::Heap));
        if matches!(home, Home::Heap) && len > 0 {
            self.stats.heap_fallbacks += 1;
        }
        *self.counter(home) += len;
        Block { start, len, home, process: self.process }
    }

    /// Takes back a block whose bytes have been wiped.
    fn release(&mut self, block: &Block) {
        let counter = self.counter(block.home);
        *counter = counter.saturating_sub(block.len);
        match block.home {
            Home::Slot { arena, page, slot } => {
                let page = &mut self.arenas[arena].pages[page];
                page.used &= !(1 << slot);
                if page.used == 0 {
                    *page = Page::FREE;
                }
            }
            // SAFETY: the mapping was made for this block alone, with this length, and the block is being dropped.
            Home::Mapping { bytes, .. } => unsafe { sys::unmap(block.start, bytes) },
            Home::Heap => {
                let whole = NonNull::slice_from_raw_parts(block.start, block.len);
                // SAFETY: `on_heap` leaked a box of just this length, and the block is being dropped.
                drop(unsafe { Box::from_raw(whole.as_ptr()) });
            }
        }
    }

    fn locked(&mut self, len: usize) -> Option<(NonNull<u8>, Home)> {
        if len == 0 {
            return None;
        }
        if len > PAGE_BYTES {
            let bytes = len.checked_next_multiple_of(ARENA_BYTES / ARENA_PAGES)?;
            let (start, place) = self.map(bytes)?;
            return Some((start, Home::Mapping { place, bytes }));
        }
        let class = len.next_power_of_two().max(SLOT_BYTES_MIN).ilog2();
        if let Some(found) = self.slot(class) {
            return Some(found);
        }
        self.add_arena();
        self.slot(class)
    }

    /// A free slot of the class: in a page that has one, else in a page not in use.
    fn slot(&mut self, class: u32) -> Option<(NonNull<u8>, Home)> {
        let full = Page::full(class);
        let pages = || {
            self.arenas
                .iter()
                .enumerate()
                .flat_map(|(a, arena)| arena.pages.iter().enumerate().map(move |(p, page)| (a, p, page)))
        };
        let (arena, page) = pages()
            .find(|(_, _, page)| page.class == class && page.used != full)
            .or_else(|| pages().find(|(_, _, page)| page.class == 0))
            .map(|(arena, page, _)| (arena, page))?;
        let start = self.arenas[arena].start;
        let entry = &mut self.arenas[arena].pages[page];
        entry.class = class;
        let slot = entry.used.trailing_ones();
        entry.used |= 1 << slot;
        let offset = page * PAGE_BYTES + (usize::try_from(slot).ok()? << class);
        // SAFETY: a page has `PAGE_BYTES >> class` slots and `slot` is one that was free, so the offset is inside the arena.
        let start = unsafe { start.add(offset) };
        Some((start, Home::Slot { arena, page, slot }))
    }

    fn add_arena(&mut self) {
        if let Some((start, place)) = self.map(ARENA_BYTES) {
            self.arenas.push(Arena { start, place, pages: [Page::FREE; ARENA_PAGES] });
            self.stats.arena_bytes += ARENA_BYTES;
        }
    }

    fn map(&self, bytes: usize) -> Option<(NonNull<u8>, Place)> {
        let secret = match self.mode {
            Mode::Auto => sys::map_memfd_secret(bytes),
            Mode::NoMemfdSecret => None,
        };
        let mlocked = || sys::map_mlocked(bytes).map(|start| (start, Place::Mlocked));
        secret.map(|start| (start, Place::MemfdSecret)).or_else(mlocked)
    }

    /// Forgets arenas that a parent process made: they are not mapped in its child.
    fn enter_process(&mut self) {
        let process = process::id();
        if self.process != process {
            *self = Self::new(self.mode);
            self.process = process;
        }
    }

    fn counter(&mut self, home: Home) -> &mut usize {
        let place = match home {
            Home::Slot { arena, .. } => self.arenas[arena].place,
            Home::Mapping { place, .. } => place,
            Home::Heap => return &mut self.stats.heap_bytes,
        };
        match place {
            Place::MemfdSecret => &mut self.stats.memfd_secret_bytes,
            Place::Mlocked => &mut self.stats.mlocked_bytes,
        }
    }
}

impl Page {
    const FREE: Self = Self { class: 0, used: 0 };

    /// `used` of a page whose slots are all taken.
    fn full(class: u32) -> u128 {
        let slots = PAGE_BYTES >> class;
        if slots >= 128 { u128::MAX } else { (1 << slots) - 1 }
    }
}

fn on_heap(len: usize) -> NonNull<u8> {
    NonNull::from(Box::leak(vec![0_u8; len].into_boxed_slice())).cast()
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic while it was held leaves the pool as it was: nothing in it panics between two writes.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new(Mode::Auto));

const ARENA_BYTES: usize = 64 * 1024;
const PAGE_BYTES: usize = 4096;
const ARENA_PAGES: usize = ARENA_BYTES / PAGE_BYTES;
const SLOT_BYTES_MIN: usize = 32;

const _: () = assert!(PAGE_BYTES / SLOT_BYTES_MIN == 128, "the slots of a page fit in a u128");

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// What lies at a block that was released. Its arena stays mapped.
    fn look(start: NonNull<u8>, len: usize) -> Vec<u8> {
        // SAFETY: only called on slots of arenas, which are never unmapped, from the one thread that uses that pool.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }.to_vec()
    }

    /// A pool of a test's own; its blocks must be given back by [`give_back`], not dropped.
    fn own_pool(mode: Mode) -> Pool {
        let mut pool = Pool::new(mode);
        pool.enter_process();
        pool
    }

    fn give_back(pool: &mut Pool, mut block: Block) {
        block.bytes_mut().zeroize();
        pool.release(&block);
        std::mem::forget(block);
    }

    #[test]
    fn a_released_slot_is_wiped() {
        for mode in [Mode::Auto, Mode::NoMemfdSecret] {
            let mut pool = own_pool(mode);
            for len in [1, 32, 33, 100, 4096] {
                let mut block = pool.allocate(len);
                block.bytes_mut().fill(0xA5);
                let start = block.start;
                give_back(&mut pool, block);
                if !pool.arenas.is_empty() {
                    assert_eq!(look(start, len), vec![0; len], "{mode:?}, {len} bytes");
                }
            }
        }
    }

    #[test]
    fn this_machine_gives_locked_memory_in_both_modes() {
        for mode in [Mode::Auto, Mode::NoMemfdSecret] {
            let mut pool = own_pool(mode);
            let small = pool.allocate(32);
            let large = pool.allocate(10_000);
            assert_eq!(pool.stats.heap_bytes, 0, "{mode:?}");
            assert_eq!(pool.stats.memfd_secret_bytes + pool.stats.mlocked_bytes, 10_032);
            assert!(mode == Mode::Auto || pool.stats.memfd_secret_bytes == 0);
            give_back(&mut pool, small);
            give_back(&mut pool, large);
            assert_eq!(pool.stats.memfd_secret_bytes + pool.stats.mlocked_bytes, 0);
        }
    }

    #[test]
    fn what_cannot_be_locked_lies_on_the_heap_and_is_counted() {
        let mut pool = own_pool(Mode::Auto);
        let block = Block { start: on_heap(48), len: 48, home: Home::Heap, process: pool.process };
        *pool.counter(Home::Heap) += 48;
        assert_eq!(block.bytes(), [0; 48]);
        give_back(&mut pool, block);
        assert_eq!(pool.stats.heap_bytes, 0);
        // Larger than any address space: no mapping, and the caller falls back.
        assert!(pool.locked(usize::MAX / 2).is_none());
        assert!(pool.locked(usize::MAX).is_none());
    }

    #[test]
    fn a_hundred_keys_take_one_page() {
        let mut pool = own_pool(Mode::NoMemfdSecret);
        let blocks: Vec<_> = (0..100).map(|_| pool.allocate(32)).collect();
        assert_eq!(pool.arenas.len(), 1);
        assert_eq!(pool.arenas[0].pages.iter().filter(|page| page.class != 0).count(), 1);
        for block in blocks {
            give_back(&mut pool, block);
        }
        assert!(pool.arenas[0].pages.iter().all(|page| page.class == 0));
    }

    #[test]
    fn a_full_arena_gets_a_second_one() {
        let mut pool = own_pool(Mode::NoMemfdSecret);
        let blocks: Vec<_> = (0..17).map(|_| pool.allocate(PAGE_BYTES)).collect();
        assert_eq!(pool.arenas.len(), 2);
        for block in blocks {
            give_back(&mut pool, block);
        }
    }

    #[test]
    fn many_threads_share_the_pool() {
        thread::scope(|scope| {
            for mark in 0..8_u8 {
                scope.spawn(move || {
                    for len in 1..200 {
                        let secrets: Vec<_> = (0..4).map(|_| SecretBytes::copy_of(&vec![mark; len])).collect();
                        assert!(secrets.iter().all(|secret| secret.expose().iter().all(|byte| *byte == mark)));
                    }
                });
            }
        });
    }

    #[test]
    fn a_part_of_a_secret_is_a_secret() {
        let secret = SecretBytes::take(b"0123456789".to_vec()).narrow(2..8).narrow(1..3);
        assert_eq!(secret.expose(), b"34");
        assert!(SecretBytes::zeroed(0).is_empty());
        scrub_stack();
    }

    proptest! {
        #[test]
        fn blocks_never_overlap(lens in proptest::collection::vec(1_usize..6000, 1..60)) {
            let mut pool = own_pool(Mode::NoMemfdSecret);
            let mut blocks: Vec<(Block, u8)> = Vec::new();
            for (turn, len) in lens.into_iter().enumerate() {
                let mark = u8::try_from(turn + 1).unwrap();
                let mut block = pool.allocate(len);
                prop_assert!(block.bytes().iter().all(|byte| *byte == 0));
                block.bytes_mut().fill(mark);
                blocks.push((block, mark));
                if turn % 3 == 2 {
                    let (block, mark) = blocks.swap_remove(turn / 3);
                    prop_assert!(block.bytes().iter().all(|byte| *byte == mark));
                    give_back(&mut pool, block);
                }
            }
            for (block, mark) in blocks {
                prop_assert!(block.bytes().iter().all(|byte| *byte == mark));
                give_back(&mut pool, block);
            }
            for arena in &pool.arenas {
                // SAFETY: made by `map` with this length; no block of it is left.
                unsafe { sys::unmap(arena.start, ARENA_BYTES) };
            }
        }
    }
}
