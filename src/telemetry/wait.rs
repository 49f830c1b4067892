//! A time that is told however it ends.
//!
//! What stands behind an `.await` does not run when the client leaves: its handler is dropped there. Users leave
//! because it takes long, so a wait that is recorded behind its `.await` is missing exactly when it was one of the
//! longest, and an outage shows as calm. This is charged and recorded in `Drop`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{self, Account, Part};
use super::catalog::Histogram;

/// Something that the request on this thread waits for, or holds, until this is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Wait {
    since: Instant,
    /// Whose it is: when it is dropped the request does not need to run on that thread.
    account: Option<Arc<Account>>,
    part: Option<Part>,
    histogram: Option<Histogram>,
}

impl Wait {
    /// Begins now, and tells nobody yet.
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            account: account::current(),
            part: None,
            histogram: None,
        }
    }

    /// Will be charged to `part` of the request's time.
    pub fn charged_to(mut self, part: Part) -> Self {
        self.part = Some(part);
        self
    }

    /// Will be recorded in `histogram`, in seconds.
    pub fn recorded_in(mut self, histogram: &Histogram) -> Self {
        self.histogram = Some(histogram.clone());
        self
    }

    /// How long it has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// It was none after all: nothing is charged or recorded.
    pub fn void(mut self) {
        self.part = None;
        self.histogram = None;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let elapsed = self.elapsed();
        let record = || {
            if let Some(histogram) = &self.histogram {
                histogram.record(elapsed.as_secs_f64());
            }
        };
        let Some(account) = &self.account else {
            return record();
        };
        // As this request, so that a slow one leaves its ids.
        account.enter(record);
        if let Some(part) = self.part {
            account.charge(part, elapsed);
        }
    }
}

/// A histogram that keeps what is recorded in it, for tests.
#[cfg(test)]
pub mod kept {
    use std::sync::{Arc, Mutex, PoisonError};

    use metrics::HistogramFn;

    use super::Histogram;

    /// All that was recorded.
    #[derive(Debug, Default)]
    pub struct Kept(Mutex<Vec<f64>>);

    impl Kept {
        /// All that was recorded until now.
        pub fn samples(&self) -> Vec<f64> {
            let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            samples.clone()
        }
    }

    impl HistogramFn for Kept {
        fn record(&self, value: f64) {
            let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push(value);
        }
    }

    /// Such a histogram, and what it keeps.
    pub fn histogram() -> (Histogram, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        (Histogram::from_arc(Arc::clone(&kept)), kept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::context;
    use super::*;

    #[tokio::test]
    async fn a_wait_whose_caller_left_is_told() {
        let account = context::untraced();
        let (histogram, kept) = kept::histogram();
        let waiting = async {
            let _wait = Wait::begin().charged_to(Part::Pool).recorded_in(&histogram);
            std::future::pending::<()>().await;
        };
        let patience = Duration::from_millis(20);
        let left = tokio::time::timeout(patience, account.follow(waiting)).await;
        assert!(left.is_err());
        assert!(account.spent(Part::Pool) >= patience);
        assert!(matches!(kept.samples()[..], [waited] if waited >= patience.as_secs_f64()));
    }

    #[test]
    fn one_that_was_none_is_not_told() {
        let account = context::untraced();
        let (histogram, kept) = kept::histogram();
        account.enter(|| {
            Wait::begin()
                .charged_to(Part::Pool)
                .recorded_in(&histogram)
                .void();
        });
        assert_eq!(account.spent(Part::Pool), Duration::ZERO);
        assert!(kept.samples().is_empty());
    }
}
