//! Profiles: which functions the processor's time goes into, and who holds the memory.
//!
//! A trace tells that a request was on a thread for 300 ms, not what it did there. A profile does, and it costs
//! nothing until it is asked for.
//!
//! Taking a stack apart inside a signal handler, as profilers commonly do, is not safe: the unwinder takes locks
//! and allocates, and the interrupted code may hold that very lock. So the work is split. The handler
//! copies registers and stack, nothing else; a plain thread does the rest.
//!
//! - `ticks`: the timer, and the handler that copies
//! - `images`: the binary and its libraries, as they lie in memory
//! - `unwind`, `symbols`: from a copied stack to return addresses, from addresses to names
//! - `cpu`, `heap`: the two profiles
//! - `pprof`, `flamegraph`: the two forms in which they are told

mod cpu;
mod flamegraph;
mod heap;
mod images;
mod pprof;
mod symbols;
mod ticks;
mod unwind;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use cpu::CpuTurn;
pub use heap::heap;

/// Samples in a second of CPU time, unless asked for otherwise.
pub const HZ_DEFAULT: u32 = 100;

/// The most samples in a second of CPU time. Common kernels do not look at the timer more often than that.
pub const HZ_MAX: u32 = 250;

/// A profile: stacks, and what each of them stands for.
#[derive(Debug)]
pub struct Profile {
    /// What is counted, as (type, unit); every stack has one value for each.
    measures: Vec<(&'static str, &'static str)>,
    /// What one sample stands for, in the unit of the last measure.
    period: i64,
    began: SystemTime,
    lasted: Duration,
    stacks: HashMap<Stack, Vec<i64>>,
    images: Vec<images::Image>,
    /// The CPU time that the process used meanwhile, by the kernel's account; zero where none was sampled.
    used: Duration,
    /// What a reader should know about how it was taken.
    remarks: Vec<String>,
    _turn: Taken,
}

/// Where a thread was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stack {
    /// Innermost first. [`CUT`] stands for frames that are not known.
    addresses: Vec<u64>,
    /// The thread's name; empty where a profile does not tell threads apart.
    thread: String,
}

/// The address of no function: from here on outwards the stack is not known.
const CUT: u64 = 0;

impl Profile {
    /// The sum of the last measure over all stacks: nanoseconds of CPU time, or bytes.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.stacks
            .values()
            .filter_map(|values| values.last())
            .sum()
    }

    /// The CPU time that the process used while it was taken, by the kernel's account and not by the samples.
    #[must_use]
    pub fn used(&self) -> Duration {
        self.used
    }

    /// The names at every address that occurs.
    fn names(&self) -> HashMap<u64, Vec<symbols::Function>> {
        let mut addresses: Vec<u64> = self
            .stacks
            .keys()
            .flat_map(|stack| stack.addresses.iter().copied())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        symbols::names(&self.images, addresses)
    }
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Another one is being taken or told: there is one timer in a process, and telling it costs memory.
    #[error("another one is being taken")]
    Busy,
    /// Whoever asked has gone, or the process ends.
    #[error("it was broken off")]
    Cancelled,
    /// This build or this machine cannot; the sentence says what would help.
    #[error("{0}")]
    Unavailable(String),
}

/// Whether somebody has the turn.
#[derive(Debug)]
struct OneAtATime(AtomicBool);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
struct Taken(&'static OneAtATime);

impl OneAtATime {
    const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn take(&'static self) -> Option<Taken> {
        let taken = self
            .0
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
        // Made only then: dropping one gives the turn back.
        taken.is_ok().then(|| Taken(self))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
