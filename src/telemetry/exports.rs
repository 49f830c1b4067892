//! What became of what was exported: counted for each item, told for each change.
//!
//! The SDK reports a failure as log text only, one for each batch. A receiver that is down for an hour would fill
//! the log with it, and nothing could be asked for the number.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, SharedString};
use opentelemetry_sdk::error::OTelSdkResult;

/// The exports of one signal.
#[derive(Debug)]
pub(super) struct Exports {
    what: &'static str,
    exported: Counter,
    failed: Counter,
    healthy: AtomicBool,
}

impl Exports {
    /// Counts in `series`, by error type; the log calls the items `what`.
    pub(super) fn new(what: &'static str, series: impl Fn(SharedString) -> Counter) -> Self {
        let (exported, failed) = (series("".into()), series("export_failed".into()));
        exported.absolute(0);
        failed.absolute(0);
        Self {
            what,
            exported,
            failed,
            healthy: AtomicBool::new(true),
        }
    }

    /// Counts a batch of `items`, and logs the change from success to failure and back.
    pub(super) fn count(&self, items: usize, result: &OTelSdkResult) {
        let counter = match result {
            Ok(()) => &self.exported,
            Err(_) => &self.failed,
        };
        counter.increment(items as u64);
        let was_healthy = self.healthy.swap(result.is_ok(), Ordering::Relaxed);
        let what = self.what;
        match result {
            Err(error) if was_healthy => {
                tracing::warn!(target: "telemetry", error = %error, "{what} cannot be exported; further failures are only counted.");
            }
            Ok(()) if !was_healthy => {
                tracing::info!(target: "telemetry", "{what} are exported again.");
            }
            _ => {}
        }
    }
}
