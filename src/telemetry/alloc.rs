//! The allocator: the system's, with a count of the bytes that each thread has asked for.
//!
//! How much memory a request moves is invisible in every other signal: it shows as time in the allocator and as
//! a resident size that never shrinks. Read before and after a piece of work on the same thread, the counter
//! tells exactly what that work asked for. It costs an addition; there is no lock and no table.
//!
//! With the feature `jemalloc` the memory comes from jemalloc, which can also say who holds it.

#![expect(
    unsafe_code,
    reason = "an allocator cannot be written nor asked without it; every call is handed on unchanged"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

#[cfg(not(feature = "jemalloc"))]
use std::alloc::System as Inner;
#[cfg(feature = "jemalloc")]
use tikv_jemallocator::Jemalloc as Inner;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    // Without a destructor and without a lazy start: reading it never allocates, and it outlives the thread's other
    // variables, whose destructors may still allocate.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that this thread has asked for since it began.
pub(super) fn asked_by_this_thread() -> u64 {
    ASKED.get()
}

struct Counting;

fn count(bytes: usize) {
    ASKED.set(ASKED.get().wrapping_add(bytes as u64));
}

// SAFETY: every method hands its arguments to `Inner` as they came, so the contract that the caller keeps with
// us is the one that we keep with `Inner`, and its guarantees are ours. Counting touches no allocated memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: see the implementation's.
        unsafe { Inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: see the implementation's.
        unsafe { Inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.saturating_sub(layout.size()));
        // SAFETY: see the implementation's.
        unsafe { Inner.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: see the implementation's.
        unsafe { Inner.dealloc(pointer, layout) }
    }
}

/// What the allocators hold for this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Held {
    /// Asked for and not given back.
    pub(super) used: f64,
    /// Given back, and kept for the next who asks: why a resident size does not shrink.
    pub(super) free: f64,
}

/// Asks the allocators; `None` where none of them says. Takes their locks one after the other, for some
/// microseconds to milliseconds: for scrapes, not for requests.
pub(super) fn held() -> Option<Held> {
    let parts = [by_the_system(), by_jemalloc()];
    let known = parts.into_iter().flatten();
    known.reduce(|sum, part| Held {
        used: sum.used + part.used,
        free: sum.free + part.free,
    })
}

/// The system's: of everything, or beside jemalloc of what C code asks for, as SQLite does.
#[cfg(target_env = "gnu")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "this allocator always says; others do not"
)]
fn by_the_system() -> Option<Held> {
    // SAFETY: takes no argument and fills a structure of numbers; it may be called from any thread at any time.
    let info = unsafe { libc::mallinfo2() };
    Some(Held {
        used: (info.uordblks + info.hblkhd) as f64,
        free: info.fordblks as f64,
    })
}

#[cfg(not(target_env = "gnu"))]
fn by_the_system() -> Option<Held> {
    None
}

#[cfg(feature = "jemalloc")]
fn by_jemalloc() -> Option<Held> {
    use tikv_jemalloc_ctl::{epoch, stats};
    // Its numbers are those of the last epoch.
    epoch::advance().ok()?;
    let (allocated, resident) = (
        stats::allocated::read().ok()?,
        stats::resident::read().ok()?,
    );
    Some(Held {
        used: allocated as f64,
        free: resident.saturating_sub(allocated) as f64,
    })
}

#[cfg(not(feature = "jemalloc"))]
fn by_jemalloc() -> Option<Held> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_what_it_asks_for() {
        let before = asked_by_this_thread();
        let kept = std::hint::black_box(vec![0_u8; 1 << 20]);
        let asked = asked_by_this_thread() - before;
        assert!((1 << 20..(1 << 20) + 4096).contains(&asked), "{asked}");
        let elsewhere = std::thread::spawn(|| drop(std::hint::black_box(vec![1_u8; 1 << 20])));
        elsewhere.join().unwrap();
        assert!(asked_by_this_thread() - before < (1 << 20) + 64 * 1024);
        drop(kept);
    }

    #[test]
    fn growing_counts_what_is_added() {
        let mut kept: Vec<u8> = Vec::with_capacity(1 << 16);
        let before = asked_by_this_thread();
        kept.reserve_exact(1 << 17);
        let asked = asked_by_this_thread() - before;
        assert!((1 << 16..=1 << 17).contains(&asked), "{asked}");
    }

    #[test]
    #[cfg(any(target_env = "gnu", feature = "jemalloc"))]
    fn what_is_kept_is_held() {
        let used = || held().unwrap().used;
        let before = used();
        let kept = std::hint::black_box(vec![1_u8; 64 << 20]);
        // Other tests allocate and free beside this one, but not as much.
        assert!(used() > before + f64::from(32 << 20));
        drop(kept);
    }
}
