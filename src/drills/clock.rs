//! The time by which a drill goes: the same seconds since the epoch by which metrics are kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that never goes back, whatever happens to the machine's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_s: f64,
    scale: f64,
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn wall() -> Self {
        Self::faster(1.0)
    }

    /// For tests with a lab whose time runs `scale` times as fast as ours.
    #[must_use]
    pub fn faster(scale: f64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: Instant::now(),
            started_s: now.unwrap_or_default().as_secs_f64(),
            scale,
        }
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn now_s(&self) -> f64 {
        self.started_s + self.started.elapsed().as_secs_f64() * self.scale
    }

    /// Waits until `at_s`; not at all if that is past.
    pub async fn wait_until(&self, at_s: f64) {
        let wait_s = (at_s - self.now_s()).max(0.0) / self.scale;
        tokio::time::sleep(Duration::from_secs_f64(wait_s)).await;
    }
}
