//! What can go wrong, in words for whoever asked.

/// Why a series or a sample was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A series needs at least one label with a value.
    #[error("a series needs at least one label")]
    NoLabels,
    /// The bound on the number of series is reached.
    #[error("the store holds its limit of {limit} series")]
    TooManySeries {
        /// [`Limits::max_series`](crate::store::Limits::max_series)
        limit: usize,
    },
    /// The bound on memory is reached.
    #[error("the store has used its limit of {limit} bytes")]
    OutOfMemory {
        /// [`Limits::max_bytes`](crate::store::Limits::max_bytes)
        limit: usize,
    },
    /// The series had no sample left and was dropped; register it again.
    #[error("the series is no longer in the store")]
    UnknownSeries,
    /// The sample is older than the newest one of its series.
    #[error("the sample at {timestamp} ms is older than the newest one, at {newest} ms")]
    OutOfOrder {
        /// The time of the sample that was refused.
        timestamp: i64,
        /// The time of the newest sample.
        newest: i64,
    },
    /// The series has another value at that time.
    #[error("the series has another value at {timestamp} ms")]
    Duplicate {
        /// The time of the sample that was refused.
        timestamp: i64,
    },
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is not PromQL.
    #[error("{0}")]
    Parse(String),
    /// The text is PromQL that this engine does not answer.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Start, end and step of the query make no sense together.
    #[error("{0}")]
    Range(String),
    /// The data does not allow the operation, such as a match that is not unique.
    #[error("{0}")]
    Execution(String),
    /// The query took longer than it may.
    #[error("the query took longer than its limit of {} ms", .0.as_millis())]
    Timeout(std::time::Duration),
    /// The query would have read and made more samples than it may.
    #[error("the query needs more than its limit of {limit} samples")]
    TooManySamples {
        /// [`Options::max_samples`](crate::Options::max_samples)
        limit: usize,
    },
}

impl QueryError {
    /// The `errorType` of Prometheus' HTTP API.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::Unsupported(_) | Self::Range(_) => "bad_data",
            Self::Execution(_) | Self::TooManySamples { .. } => "execution",
            Self::Timeout(_) => "timeout",
        }
    }
}
