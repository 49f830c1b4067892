//! Samples, and what a query answers.

use crate::labels::Labels;

/// The value that says: from here on the series is gone. A NaN that no arithmetic yields.
pub const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the marker of a series that is gone.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_MARKER
}

/// A value at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The value; any 64-bit float.
    pub value: f64,
}

impl Sample {
    /// A value at a time in milliseconds since 1970.
    #[must_use]
    pub fn new(timestamp: i64, value: f64) -> Self {
        Self { timestamp, value }
    }

    /// The marker that a series is gone as of `timestamp`.
    #[must_use]
    pub fn stale(timestamp: i64) -> Self {
        Self::new(timestamp, f64::from_bits(STALE_MARKER))
    }

    /// Whether this marks a series that is gone.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.value)
    }
}

/// A series of an instant vector: one value.
#[derive(Debug, Clone, PartialEq)]
pub struct InstantSeries {
    /// What identifies it.
    pub labels: Labels,
    /// Its value, at the time of the evaluation.
    pub sample: Sample,
}

/// A series of a range vector: values in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSeries {
    /// What identifies it.
    pub labels: Labels,
    /// Its values, oldest first, at least one.
    pub samples: Vec<Sample>,
}

/// What a query answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number without labels.
    Scalar(Sample),
    /// A string, at a time in milliseconds since 1970.
    String {
        /// The time of the evaluation.
        timestamp: i64,
        /// The text.
        text: String,
    },
    /// One value for each series, in the order that the query asks for.
    Vector(Vec<InstantSeries>),
    /// Several values for each series, sorted by labels.
    Matrix(Vec<RangeSeries>),
}

impl Value {
    /// The series of an instant vector; none for the other kinds.
    #[must_use]
    pub fn vector(&self) -> &[InstantSeries] {
        match self {
            Self::Vector(series) => series,
            _ => &[],
        }
    }
}
