//! The data plane's runtime: how many workers, how busy, how late.
//!
//! Tasks take turns on a few threads; when one of them does not let go, every route slows down and nothing
//! else tells why. Two signals need no unstable feature: the time each worker was busy, and how much later
//! than asked a short timer fires.

use std::fmt::Write as _;
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
    let name = "tokio_worker_busy_seconds_total";
    let help = "Time that a worker of the data plane was not idle.";
    write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n")
        .expect("writing to a string cannot fail");
    for worker in 0..metrics.num_workers() {
        let busy = metrics.worker_total_busy_duration(worker).as_secs_f64();
        writeln!(text, "{name}{{worker=\"{worker}\"}} {busy}")
            .expect("writing to a string cannot fail");
    }
    text.push('\n');
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
}
