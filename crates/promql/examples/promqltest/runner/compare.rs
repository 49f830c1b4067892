//! Whether an answer is the expected one.

use promql::{InstantSeries, Labels, Sample, Value};

use super::notation::Point;
use super::script::{Eval, Times};

/// How much a value may differ, relative to its size.
const TOLERANCE: f64 = 1e-6;

pub(super) fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::Scalar(sample) => match eval.expected_number {
            Some(expected) if nearly(expected, sample.value) => Ok(()),
            expected => Err(format!(
                "expected {expected:?}, got scalar {}",
                sample.value
            )),
        },
        Value::String { text, .. } => match &eval.expected_text {
            Some(expected) if expected == text => Ok(()),
            expected => Err(format!("expected {expected:?}, got string {text:?}")),
        },
        Value::Vector(series) => vector(eval, series),
        Value::Matrix(series) => {
            let found = series.iter().map(|s| (&s.labels, &*s.samples));
            matrix(eval, &found.collect::<Vec<_>>())
        }
    }
}

/// What a range query found at one of its steps.
pub(super) fn vector_at(range: &Value, time: i64) -> Value {
    let Value::Matrix(series) = range else {
        return range.clone();
    };
    let at_step = series.iter().filter_map(|series| {
        let sample = series.samples.iter().find(|s| s.timestamp == time)?;
        Some(InstantSeries {
            labels: series.labels.clone(),
            sample: *sample,
        })
    });
    Value::Vector(at_step.collect())
}

fn vector(eval: &Eval, found: &[InstantSeries]) -> Result<(), String> {
    if let Some(number) = eval.expected_number {
        return Err(format!("expected scalar {number}, got a vector"));
    }
    let values = found
        .iter()
        .map(|series| (&series.labels, std::slice::from_ref(&series.sample)));
    let values: Vec<_> = values.collect();
    if eval.ordered {
        let names = values.iter().map(|(labels, _)| *labels);
        let expected = eval.expected.iter().map(|(labels, _)| labels);
        if !names.clone().eq(expected) {
            return Err(format!("wrong order: {:?}", names.collect::<Vec<_>>()));
        }
    }
    series(eval, &values, |_| 0)
}

fn matrix(eval: &Eval, found: &[(&Labels, &[Sample])]) -> Result<(), String> {
    let (start, step) = match (eval.range_vector, eval.times) {
        (Some(times), _) => times,
        (None, Times::Range { start, step, .. }) => (start, step),
        (None, Times::Instant(_)) => return Err("got an unexpected range vector".into()),
    };
    let ascending = found.is_sorted_by(|(a, _), (b, _)| a < b);
    if !ascending {
        return Err("the series are not sorted by labels".into());
    }
    series(eval, found, |position| start + position * step)
}

/// Compares each series; `time` is that of the expected point at a position, or 0 if it does not matter.
fn series(
    eval: &Eval,
    found: &[(&Labels, &[Sample])],
    time: impl Fn(i64) -> i64,
) -> Result<(), String> {
    for (labels, samples) in found {
        let same = eval
            .expected
            .iter()
            .find(|(expected, _)| expected == *labels);
        let Some((_, points)) = same else {
            return Err(format!("unexpected {labels}: {samples:?}"));
        };
        let expected = (0_i64..)
            .zip(points)
            .filter_map(|(position, point)| match point {
                Point::Value(value) => Some((time(position), *value)),
                _ => None,
            });
        let expected: Vec<(i64, f64)> = expected.collect();
        let equal = |((at, value), sample): (&(i64, f64), &Sample)| {
            nearly(*value, sample.value) && (*at == 0 || *at == sample.timestamp)
        };
        if expected.len() != samples.len() || !expected.iter().zip(*samples).all(equal) {
            return Err(format!("{labels}: expected {expected:?}, got {samples:?}"));
        }
    }
    let missing = eval
        .expected
        .iter()
        .find(|(labels, _)| !found.iter().any(|(have, _)| *have == labels));
    match missing {
        Some((labels, _)) => Err(format!("{labels} is missing")),
        None => Ok(()),
    }
}

fn nearly(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if difference == 0.0 || a.is_infinite() || b.is_infinite() {
        return difference == 0.0 || a.to_bits() == b.to_bits();
    }
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}
