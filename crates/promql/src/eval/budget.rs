//! What a query may cost: time and samples.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::error::QueryError;

/// How much work lies between two looks at the clock: well below a millisecond's.
const WORK_BETWEEN_LOOKS: usize = 20_000;

/// Counts what a query has read and made, and ends it when that is more than it may.
#[derive(Debug)]
pub(crate) struct Budget {
    started: Instant,
    timeout: Option<Duration>,
    max_samples: usize,
    samples: Cell<usize>,
    work: Cell<usize>,
}

impl Budget {
    pub(crate) fn new(timeout: Option<Duration>, max_samples: usize) -> Self {
        Self {
            started: Instant::now(),
            timeout,
            max_samples,
            samples: Cell::new(0),
            work: Cell::new(0),
        }
    }

    /// The most samples that one part of the query could be allowed.
    pub(crate) fn max_samples(&self) -> usize {
        self.max_samples
    }

    pub(crate) fn too_many_samples(&self) -> QueryError {
        QueryError::TooManySamples {
            limit: self.max_samples,
        }
    }

    /// Accounts for samples that were read or are about to be made.
    pub(crate) fn samples(&self, count: usize) -> Result<(), QueryError> {
        let total = self.samples.get().saturating_add(count);
        self.samples.set(total);
        if total > self.max_samples {
            return Err(self.too_many_samples());
        }
        self.work(count)
    }

    /// Accounts for looking at so many samples, and looks at the clock now and then.
    pub(crate) fn work(&self, count: usize) -> Result<(), QueryError> {
        // Each call counts, even for nothing: a loop without samples must end, too.
        let total = self.work.get().saturating_add(count).saturating_add(1);
        if total < WORK_BETWEEN_LOOKS {
            self.work.set(total);
            return Ok(());
        }
        self.work.set(0);
        match self.timeout {
            Some(timeout) if self.started.elapsed() > timeout => Err(QueryError::Timeout(timeout)),
            _ => Ok(()),
        }
    }
}
