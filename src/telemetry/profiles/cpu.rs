//! The CPU profile: where threads were, at even steps of the CPU time that they used.
//!
//! Runs on a thread that may block; whoever asked waits elsewhere. While it lasts the stacks are taken apart as they
//! come, so that what is kept is small: addresses and a count for each distinct stack.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::ticks::Ticks;
use super::unwind::Unwinder;
use super::{HZ_MAX, NotTaken, Profile, Stack, Taken, Turn, images};

/// How often the waiting samples are looked after.
const PAUSE: Duration = Duration::from_millis(5);

static TURN: Turn = Turn::new();

/// The turn to take a CPU profile; nobody else's until it, or the profile, is dropped.
#[derive(Debug)]
pub struct CpuTurn(Taken);

impl CpuTurn {
    /// Takes it at once, or says that somebody else has it.
    pub fn take() -> Result<Self, NotTaken> {
        TURN.take().map(Self).ok_or(NotTaken::Busy)
    }

    /// Takes a profile of all threads for as long as `lasting`, with `hz` samples in each second of CPU time,
    /// 1 to [`HZ_MAX`]. Gives up when `cancelled` says so. Blocks.
    pub fn profile(
        self,
        hz: u32,
        lasting: Duration,
        cancelled: impl Fn() -> bool,
    ) -> Result<Profile, NotTaken> {
        let hz = hz.clamp(1, HZ_MAX);
        let unavailable = |error: std::io::Error| NotTaken::Unavailable(error.to_string());
        let images = images::of_this_process().map_err(unavailable)?;
        let mut unwinder = Unwinder::new(&images);
        let mut stacks: HashMap<Stack, Vec<i64>> = HashMap::new();
        let (began, clock) = (SystemTime::now(), Instant::now());
        let ticks = Ticks::start(hz).map_err(unavailable)?;
        let period = i64::from(1_000_000_000 / hz);
        let mut drain = || {
            ticks.drain(|sample| {
                let stack = Stack {
                    addresses: unwinder.addresses(sample),
                    thread: sample.thread(),
                };
                let values = stacks.entry(stack).or_insert_with(|| vec![0, 0]);
                values[0] += 1;
                values[1] += period;
            })
        };
        while clock.elapsed() < lasting {
            if cancelled() {
                return Err(NotTaken::Cancelled);
            }
            std::thread::sleep(PAUSE.min(lasting.saturating_sub(clock.elapsed())));
            drain();
        }
        ticks.pause();
        drain();
        let mut remarks = Vec::new();
        if ticks.lost() > 0 {
            remarks.push(format!("{} samples were lost", ticks.lost()));
        }
        Ok(Profile {
            measures: vec![("samples", "count"), ("cpu", "nanoseconds")],
            period,
            began,
            lasted: clock.elapsed(),
            stacks,
            images,
            remarks,
            _turn: self.0,
        })
    }
}
