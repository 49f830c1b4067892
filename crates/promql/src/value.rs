//! Samples, and what a query answers.

use crate::labels::Labels;

/// The value that says: from here on the series is gone. A NaN that no arithmetic yields.
pub const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// Whether a value is the marker of a series that is gone.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_MARKER
}

/// Whether two values differ by less than `tolerance`, relative to their sizes, as Prometheus compares. NaN is equal to
/// NaN. A number is equal to zero only if it differs by less than the tolerance of the smallest normal number.
#[must_use]
pub fn nearly_equal(a: f64, b: f64, tolerance: f64) -> bool {
    if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if difference == 0.0 {
        return true;
    }
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    // With one infinity or NaN this is no number or an infinite one, and no comparison holds.
    difference / sum.min(f64::MAX) < tolerance
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_equal_is_relative() {
        let near = |a, b| nearly_equal(a, b, 1e-6) && nearly_equal(b, a, 1e-6);
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (a, b) in [
            (1.0, 1.0 + 1e-7),
            (1e300, 1e300 + 1e293),
            (0.0, -0.0),
            (nan, nan),
            (infinity, infinity),
        ] {
            assert!(near(a, b), "{a} {b}");
        }
        assert!(near(f64::from_bits(STALE_MARKER), nan));
        for (a, b) in [
            (1.0, 1.0 + 1e-5),
            (0.0, 1e-9),
            (nan, 1.0),
            (infinity, f64::MAX),
            (infinity, -infinity),
            (nan, infinity),
            (f64::MAX, -f64::MAX),
            (1.0, -1.0),
        ] {
            assert!(!near(a, b), "{a} {b}");
        }
    }
}
