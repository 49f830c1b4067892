//! The CPU profile: where threads were, at even steps of the CPU time that they used.
//!
//! Runs on a thread that may block; whoever asked waits elsewhere. While it lasts the stacks are taken apart as they
//! come, so that what is kept is small: addresses and a count for each distinct stack.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::ticks::Ticks;
use super::unwind::Unwinder;
use super::{HZ_MAX, NotTaken, OneAtATime, Profile, Stack, Taken, images};

/// How often the waiting samples are looked after.
const PAUSE: Duration = Duration::from_millis(5);

static TURN: OneAtATime = OneAtATime::new();

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
        let used_before = used();
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
        let used = used().saturating_sub(used_before);
        drain();
        let sampled = stacks.values().map(|values| values[1]).sum::<i64>();
        Ok(Profile {
            measures: vec![("samples", "count"), ("cpu", "nanoseconds")],
            period,
            began,
            lasted: clock.elapsed(),
            stacks,
            images,
            used,
            remarks: remarks(ticks.lost(), sampled, used),
            _turn: self.0,
        })
    }
}

/// CPU time of all threads of this process until now.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What is wrong with the samples, if something is. The kernel looks at the timer at its own ticks and keeps one signal
/// in wait, so that of many cores at work it misses some.
fn remarks(lost: u64, sampled_ns: i64, used: Duration) -> Vec<String> {
    let mut remarks = Vec::new();
    if lost > 0 {
        remarks.push(format!("{lost} samples were lost"));
    }
    let sampled = Duration::from_nanos(sampled_ns.unsigned_abs());
    let off = sampled.abs_diff(used);
    if off > used / 10 && off > Duration::from_millis(100) {
        let (sampled, used) = (sampled.as_secs_f64(), used.as_secs_f64());
        remarks.push(format!(
            "the samples stand for {sampled:.2} s, but the process used {used:.2} s"
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_do_not_add_up_are_remarked() {
        let second = Duration::from_secs(1);
        assert_eq!(remarks(0, 950_000_000, second), Vec::<String>::new());
        let told = remarks(3, 700_000_000, second);
        assert_eq!(told[0], "3 samples were lost");
        assert!(
            told[1].contains("0.70 s") && told[1].contains("1.00 s"),
            "{told:?}"
        );
        let few = remarks(0, 0, Duration::from_millis(50));
        assert_eq!(few, Vec::<String>::new(), "a tick or two are no finding");
    }
}
