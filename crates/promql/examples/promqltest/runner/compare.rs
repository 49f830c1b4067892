//! Whether an answer is the expected one.

use promql::{InstantSeries, Labels, Sample, Value, nearly_equal};

use super::notation::Point;
use super::script::{Eval, Times};

/// How much a value may differ, relative to its size.
const TOLERANCE: f64 = 1e-6;

pub(super) fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::Scalar(sample) => match eval.expected_number {
            Some(expected) if nearly_equal(expected, sample.value, TOLERANCE) => Ok(()),
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
    series(eval, &values, |_| None)
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
    series(eval, found, |position| Some(start + position * step))
}

/// Compares each series; `time` is that of the expected point at a position, unless it does not matter.
fn series(
    eval: &Eval,
    found: &[(&Labels, &[Sample])],
    time: impl Fn(i64) -> Option<i64>,
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
        let expected: Vec<(Option<i64>, f64)> = expected.collect();
        let equal = |((at, value), sample): (&(Option<i64>, f64), &Sample)| {
            let same_time = at.is_none_or(|at| at == sample.timestamp);
            same_time && nearly_equal(*value, sample.value, TOLERANCE)
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
