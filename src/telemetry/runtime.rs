//! The data plane's runtime: how many workers, how busy, how late.
//!
//! Tasks take turns on a few threads; when one of them does not let go, every route slows down and nothing
//! else tells why. Two signals need no unstable feature: the time each worker was busy, and how much later
//! than on schedule a short timer fires.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::catalog::{self, Histogram};

static DATA_PLANE: OnceLock<Handle> = OnceLock::new();

const PROBE: Duration = Duration::from_millis(10);

/// Ticks that are recorded at once, at most: ten seconds. A machine that slept for hours must not write them down for
/// minutes.
const MISSED_MAX: u32 = 1_000;

/// Watches the runtime that this is called on, until it ends. Only the first runtime is watched.
pub fn probe() {
    let handle = Handle::current();
    if DATA_PLANE.set(handle.clone()).is_err() {
        return;
    }
    let delay = catalog::tokio_scheduler_delay_seconds();
    handle.spawn(tick(delay));
}

/// Ticks on a fixed schedule, and records how late each tick is. Were the next one only due after the last was noticed,
/// a thread that is held for a second would count as one late tick among a hundred quick ones.
async fn tick(delay: Histogram) {
    let mut due = Instant::now() + PROBE;
    loop {
        tokio::time::sleep_until(due).await;
        due = record_until(Instant::now(), due, &delay);
    }
}

/// Records the ticks from `due` until `now`, each as late as it is; when the next is due.
fn record_until(now: Instant, mut due: Instant, delay: &Histogram) -> Instant {
    for _ in 0..MISSED_MAX {
        if due > now {
            return due;
        }
        delay.record((now - due).as_secs_f64());
        due += PROBE;
    }
    now + PROBE
}

/// Appends the busy time of each worker.
pub(super) fn render(text: &mut String) {
    let Some(handle) = DATA_PLANE.get() else {
        return;
    };
    let metrics = handle.metrics();
    let busy = (0..metrics.num_workers()).map(|worker| {
        let busy = metrics.worker_total_busy_duration(worker);
        (worker.to_string(), busy.as_secs_f64())
    });
    catalog::write_counter(text, "tokio_worker_busy_seconds_total", busy);
}

/// Sets the gauges of the runtime.
pub(super) fn collect() {
    let Some(handle) = DATA_PLANE.get() else {
        return;
    };
    let metrics = handle.metrics();
    catalog::tokio_workers().set(metrics.num_workers() as f64);
    catalog::tokio_alive_tasks().set(metrics.num_alive_tasks() as f64);
    catalog::tokio_global_queue_depth().set(metrics.global_queue_depth() as f64);
    for worker in 0..metrics.num_workers() {
        let parks = metrics.worker_park_count(worker);
        catalog::tokio_worker_parks_total(worker.to_string()).absolute(parks);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wait::kept;
    use super::*;

    #[tokio::test]
    async fn a_held_thread_is_late_for_every_tick() {
        let (delay, kept) = kept::histogram();
        let ticking = tokio::spawn(tick(delay));
        // Lets it ask for its first tick.
        tokio::task::yield_now().await;
        std::thread::sleep(PROBE * 50);
        tokio::time::sleep(PROBE).await;
        ticking.abort();
        let late = |than: Duration| {
            let samples = kept.samples().into_iter();
            samples.filter(|s| *s >= than.as_secs_f64()).count()
        };
        // Of 50 ticks the first is 49 late, and the one in the middle half of that.
        assert!(late(PROBE * 10) >= 39, "{:?}", kept.samples());
        assert!(late(PROBE * 40) >= 9, "{:?}", kept.samples());
    }

    #[test]
    fn a_machine_that_slept_does_not_record_for_ever() {
        let (delay, kept) = kept::histogram();
        let due = Instant::now();
        let now = due + Duration::from_secs(3600);
        assert_eq!(record_until(now, due, &delay), now + PROBE);
        assert_eq!(kept.samples().len(), MISSED_MAX as usize);
    }
}
