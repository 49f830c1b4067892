//! The data plane's runtime: how many workers, how busy, how late.
//!
//! Tasks take turns on a few threads; when one of them does not let go, every route slows down and nothing
//! else tells why. Two signals need no unstable feature: the time each worker was busy, and how much later
//! than asked a short timer fires.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::catalog;

static DATA_PLANE: OnceLock<Handle> = OnceLock::new();

const PROBE: Duration = Duration::from_millis(10);

/// Watches the runtime that this is called on, until it ends. Only the first runtime is watched.
pub fn probe() {
    let handle = Handle::current();
    if DATA_PLANE.set(handle.clone()).is_err() {
        return;
    }
    let delay = catalog::tokio_scheduler_delay_seconds();
    handle.spawn(async move {
        loop {
            let due = Instant::now() + PROBE;
            tokio::time::sleep_until(due).await;
            delay.record(due.elapsed().as_secs_f64());
        }
    });
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
