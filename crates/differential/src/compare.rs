//! Whether two answers are the same, as Prometheus' own tests see it: equal labels, values within one millionth,
//! and the order of series only where the query asks for one.

use std::collections::BTreeMap;

use promql::{Labels, QueryError, Sample, Value, nearly_equal};

use crate::peer::Answer;

/// How much a value may differ, relative to its size.
const TOLERANCE: f64 = 1e-6;

/// How close the equal answers of many queries were.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Closeness {
    pub(crate) values: usize,
    /// Values with the very same bits, or both NaN.
    pub(crate) identical: usize,
    /// The largest difference of the others, relative to their size.
    pub(crate) largest: f64,
}

impl Closeness {
    pub(crate) fn add(&mut self, other: Self) {
        self.values += other.values;
        self.identical += other.identical;
        self.largest = self.largest.max(other.largest);
    }

    fn note(&mut self, a: f64, b: f64) {
        self.values += 1;
        if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
            self.identical += 1;
        } else if a != 0.0 || b != 0.0 {
            self.largest = self.largest.max((a - b).abs() / (a.abs() + b.abs()));
        }
    }
}

/// Compares the answer of Prometheus with ours. The error says where they part.
pub(crate) fn answers(
    theirs: &Answer,
    ours: &Result<Value, QueryError>,
    ordered: bool,
) -> Result<Closeness, String> {
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => values(theirs, ours, ordered),
        (Err(theirs), Err(ours)) if theirs.kind == ours.kind() => Ok(Closeness::default()),
        (Err(theirs), Err(ours)) => Err(format!(
            "theirs fails with {} ({}), ours with {} ({ours})",
            theirs.kind,
            theirs.message,
            ours.kind()
        )),
        (Ok(_), Err(ours)) => Err(format!("ours fails: {ours}")),
        (Err(theirs), Ok(_)) => Err(format!("theirs fails: {}", theirs.message)),
    }
}

fn values(theirs: &Value, ours: &Value, ordered: bool) -> Result<Closeness, String> {
    match (theirs, ours) {
        (Value::Scalar(a), Value::Scalar(b)) => {
            let (a, b) = (std::slice::from_ref(a), std::slice::from_ref(b));
            samples(a, b)
        }
        (Value::String { .. }, Value::String { .. }) if theirs == ours => Ok(Closeness::default()),
        (Value::Vector(a), Value::Vector(b)) => {
            if ordered {
                let values = |series: &[promql::InstantSeries]| -> Vec<Sample> {
                    series.iter().map(|series| series.sample).collect()
                };
                samples(&values(a), &values(b)).map_err(|text| format!("in order: {text}"))?;
            }
            let slices =
                |series: &promql::InstantSeries| (series.labels.clone(), vec![series.sample]);
            series(a.iter().map(slices), b.iter().map(slices))
        }
        (Value::Matrix(a), Value::Matrix(b)) => {
            let slices =
                |series: &promql::RangeSeries| (series.labels.clone(), series.samples.clone());
            series(a.iter().map(slices), b.iter().map(slices))
        }
        _ => Err(format!("different kinds: theirs {theirs:?}, ours {ours:?}")),
    }
}

fn series(
    theirs: impl Iterator<Item = (Labels, Vec<Sample>)>,
    ours: impl Iterator<Item = (Labels, Vec<Sample>)>,
) -> Result<Closeness, String> {
    let mut ours: BTreeMap<Labels, Vec<Sample>> = ours.collect();
    let mut closeness = Closeness::default();
    for (labels, theirs) in theirs {
        let Some(ours) = ours.remove(&labels) else {
            return Err(format!("only theirs: {labels} {}", first(&theirs)));
        };
        let close = samples(&theirs, &ours).map_err(|text| format!("{labels}: {text}"))?;
        closeness.add(close);
    }
    match ours.first_key_value() {
        Some((labels, samples)) => Err(format!("only ours: {labels} {}", first(samples))),
        None => Ok(closeness),
    }
}

fn samples(theirs: &[Sample], ours: &[Sample]) -> Result<Closeness, String> {
    let mut closeness = Closeness::default();
    for (theirs, ours) in theirs.iter().zip(ours) {
        if theirs.timestamp != ours.timestamp || !nearly(theirs.value, ours.value) {
            return Err(format!("theirs {}, ours {}", show(theirs), show(ours)));
        }
        closeness.note(theirs.value, ours.value);
    }
    if theirs.len() != ours.len() {
        let shorter = theirs.len().min(ours.len());
        let further = theirs.get(shorter).or(ours.get(shorter)).map(show);
        return Err(format!(
            "theirs has {} samples, ours {}; the first that is missing: {}",
            theirs.len(),
            ours.len(),
            further.unwrap_or_default()
        ));
    }
    Ok(closeness)
}

fn first(samples: &[Sample]) -> String {
    samples.first().map(show).unwrap_or_default()
}

fn show(sample: &Sample) -> String {
    format!("{} @ {}", sample.value, sample.timestamp)
}

pub(crate) fn nearly(a: f64, b: f64) -> bool {
    nearly_equal(a, b, TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Refusal;
    use promql::InstantSeries;

    fn vector(values: &[(&str, f64)]) -> Value {
        let one = |(name, value): &(&str, f64)| InstantSeries {
            labels: Labels::new([("__name__", *name)]),
            sample: Sample::new(1, *value),
        };
        Value::Vector(values.iter().map(one).collect())
    }

    #[test]
    fn sees_each_kind_of_difference() {
        let theirs = vector(&[("a", 1.0), ("b", f64::NAN)]);
        let same = vector(&[("b", f64::NAN), ("a", 1.0 + 1e-9)]);
        let close = values(&theirs, &same, false).unwrap();
        assert_eq!((close.values, close.identical), (2, 1));
        assert!(close.largest > 0.0);
        assert!(values(&theirs, &same, true).is_err());
        for other in [
            vector(&[("a", 1.0)]),
            vector(&[("a", 1.0), ("c", f64::NAN)]),
            vector(&[("a", 1.0), ("b", 0.0)]),
            vector(&[("a", 1.1), ("b", f64::NAN)]),
            vector(&[("a", 1.0), ("b", f64::NAN), ("c", 1.0)]),
            vector(&[("a", f64::INFINITY), ("b", f64::NAN)]),
            Value::Matrix(Vec::new()),
        ] {
            assert!(values(&theirs, &other, false).is_err(), "{other:?}");
        }
    }

    #[test]
    fn failures_are_equal_if_their_kind_is() {
        let refusal = |kind: &str| {
            Err(Refusal {
                kind: kind.into(),
                message: "no".into(),
            })
        };
        let ours = Err(QueryError::Execution("neither".into()));
        assert!(answers(&refusal("execution"), &ours, false).is_ok());
        assert!(answers(&refusal("bad_data"), &ours, false).is_err());
        assert!(answers(&Ok(vector(&[])), &ours, false).is_err());
        assert!(answers(&refusal("execution"), &Ok(vector(&[])), false).is_err());
    }
}
