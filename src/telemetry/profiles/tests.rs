//! The profile of this very process: what it must name, count and survive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::*;

/// There is one timer, and tests run side by side.
static ALONE: Mutex<()> = Mutex::new(());

#[inline(never)]
fn burn_the_processor(until: &AtomicBool) -> u64 {
    let mut x = 1_u64;
    while !until.load(Ordering::Relaxed) {
        x = std::hint::black_box(x.wrapping_mul(31));
    }
    x
}

fn profile(lasting: Duration) -> Profile {
    let turn = CpuTurn::take().unwrap();
    turn.profile(HZ_DEFAULT, lasting, || false).unwrap()
}

/// A profile of two seconds, during which `work` runs on a thread called "under test". No other test takes one while it
/// is looked at.
fn while_working(work: impl Fn(&AtomicBool) + Sync, look: impl FnOnce(&Profile)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = AtomicBool::new(false);
    let profile = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("under test".into());
        worker.spawn_scoped(scope, || work(&done)).unwrap();
        let profile = profile(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        profile
    });
    look(&profile);
}

/// Samples of the thread under test with each of these functions on the stack, and all of its samples.
fn samples<const N: usize>(profile: &Profile, functions: [&str; N]) -> ([i64; N], i64) {
    let names = profile.names();
    let (mut counts, mut all) = ([0; N], 0);
    let stacks = profile.stacks.iter();
    for (stack, values) in stacks.filter(|(stack, _)| stack.thread == "under test") {
        all += values[0];
        for (count, function) in counts.iter_mut().zip(functions) {
            let mut calls = stack.addresses.iter().flat_map(|address| &names[address]);
            if calls.any(|call| call.name.contains(function)) {
                *count += values[0];
            }
        }
    }
    (counts, all)
}

#[test]
fn work_shows_under_its_own_name_and_its_stack_is_whole() {
    let work = |done: &AtomicBool| {
        burn_the_processor(done);
    };
    while_working(work, |profile| {
        // Outermost is what the standard library starts a thread with.
        let functions = [
            "burn_the_processor",
            "thread_start",
            "[the rest of the stack",
        ];
        let ([burning, whole, cut], all) = samples(profile, functions);
        assert!(burning > 0 && burning * 10 >= all * 9, "{burning} of {all}");
        assert!(whole * 10 >= all * 9, "{whole} of {all}");
        assert!(cut * 10 <= all, "{cut} of {all}");
    });
}

#[test]
fn the_samples_add_up_to_the_time_that_was_used() {
    let work = |done: &AtomicBool| {
        std::thread::scope(|scope| {
            scope.spawn(|| burn_the_processor(done));
            burn_the_processor(done);
        });
    };
    while_working(work, |profile| {
        let sampled = Duration::from_nanos(profile.total().unsigned_abs());
        let used = profile.used();
        assert!(used > Duration::from_millis(500), "{used:?}");
        // The kernel merges ticks when many cores are at work, which other tests may put there.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let least = if cores <= 2 { 0.75 } else { 1.0 / cores as f64 };
        let share = sampled.as_secs_f64() / used.as_secs_f64();
        assert!((least..1.25).contains(&share), "{sampled:?} of {used:?}");
    });
}

#[test]
fn it_is_safe_where_an_unwinder_in_the_handler_would_not_be() {
    // Panics hold the unwinder's locks, allocations the allocator's: a handler that took either would stand still.
    let work = |done: &AtomicBool| {
        while !done.load(Ordering::Relaxed) {
            let caught =
                std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new([0_u8; 64])));
            assert!(caught.is_err());
            drop(std::hint::black_box(vec![0_u8; 1 << 12]));
        }
    };
    while_working(work, |profile| {
        assert!(samples(profile, ["resume_unwind"]).0 > [0]);
    });
}

#[test]
fn one_at_a_time_until_it_is_told() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = profile(Duration::from_millis(10));
    for _ in 0..2 {
        assert!(matches!(CpuTurn::take(), Err(NotTaken::Busy)));
    }
    drop(taken);
    let turn = CpuTurn::take().unwrap();
    let cancelled = turn.profile(HZ_DEFAULT, Duration::from_secs(60), || true);
    assert!(matches!(cancelled, Err(NotTaken::Cancelled)));
    profile(Duration::from_millis(10));
}

#[test]
fn an_idle_process_has_a_flamegraph_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut profile = profile(Duration::from_millis(1));
    profile.stacks.clear();
    let svg = String::from_utf8(profile.flamegraph("idle").unwrap()).unwrap();
    assert!(svg.contains("no thread used the processor"), "{svg}");
}
