//! Classic histograms: quantiles and fractions from the cumulative counts of buckets.

use std::collections::HashMap;

use super::column::{self, Column};
use super::{Evaluator, Grid, Result};
use crate::labels::Labels;
use crate::plan::{BucketFunction, Vector};
use crate::value::nearly_equal;

/// The label that holds the upper bound of a bucket.
const BOUND: &str = "le";

/// Relative differences between buckets below this come from rounding, not from observations.
const TOLERANCE: f64 = 1e-12;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    bound: f64,
    /// Of all observations up to the bound.
    count: f64,
}

/// The buckets of one histogram: bound and position of the column.
type Histogram = Vec<(f64, usize)>;

impl Evaluator<'_> {
    pub(super) fn buckets(
        &self,
        function: &BucketFunction,
        of: &Vector,
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let columns = self.vector(of, grid)?;
        let parameters: Vec<Vec<f64>> = match function {
            BucketFunction::Quantile(q) => vec![self.scalar(q, grid)?],
            BucketFunction::Fraction { lower, upper } => {
                vec![self.scalar(lower, grid)?, self.scalar(upper, grid)?]
            }
        };
        let value = |step: usize, buckets: &mut Vec<Bucket>| match function {
            BucketFunction::Quantile(_) => quantile(parameters[0][step], buckets),
            BucketFunction::Fraction { .. } => {
                fraction(parameters[0][step], parameters[1][step], buckets)
            }
        };
        let mut results = Vec::new();
        let mut buckets = Vec::new();
        for (labels, histogram) in histograms(&columns) {
            self.budget.samples(grid.steps)?;
            let mut cells = Vec::with_capacity(grid.steps);
            for step in 0..grid.steps {
                self.budget.work(histogram.len())?;
                buckets.clear();
                buckets.extend(histogram.iter().filter_map(|(bound, at)| {
                    let count = columns[*at].cells[step]?;
                    Some(Bucket {
                        bound: *bound,
                        count,
                    })
                }));
                cells.push((!buckets.is_empty()).then(|| value(step, &mut buckets)));
            }
            results.push(Column { labels, cells });
        }
        column::without_metadata(results)
    }
}

/// The histograms that the columns are buckets of, each with its bounds ascending. Columns without a bound that is a
/// number are none.
fn histograms(columns: &[Column]) -> Vec<(Labels, Histogram)> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Histogram)> = Vec::new();
    for (position, column) in columns.iter().enumerate() {
        let bound = column.labels.get(BOUND).parse::<f64>();
        let Some(bound) = bound.ok().filter(|bound| !bound.is_nan()) else {
            continue;
        };
        let labels = column.labels.filtered(|name| name != BOUND);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            histograms.push((labels, Vec::new()));
            histograms.len() - 1
        });
        histograms[place].1.push((bound, position));
    }
    for (_, histogram) in &mut histograms {
        histogram.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    }
    histograms
}

/// Whether the buckets say how many observations there were in all.
fn has_total(buckets: &[Bucket]) -> bool {
    buckets
        .last()
        .is_some_and(|last| last.bound == f64::INFINITY)
}

/// Joins buckets whose bounds are the same number, such as `1` and `1.0`.
fn join_same_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound.total_cmp(&kept.bound).is_eq();
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Makes counts ascend: buckets are not read at one instant, and their rates are rounded.
fn make_monotonic(buckets: &mut [Bucket]) {
    let Some((first, others)) = buckets.split_first_mut() else {
        return;
    };
    let mut before = first.count;
    for bucket in others {
        if bucket.count < before || nearly_equal(before, bucket.count, TOLERANCE) {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
}

/// The value below which the share `q` of the observations lies, linear within a bucket.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if !has_total(buckets) {
        return f64::NAN;
    }
    join_same_bounds(buckets);
    make_monotonic(buckets);
    let [finite @ .., total] = &**buckets else {
        return f64::NAN;
    };
    let Some(highest) = finite.last() else {
        return f64::NAN;
    };
    if total.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * total.count;
    let position = finite.partition_point(|bucket| {
        // As Prometheus searches: with NaN the rank is never reached.
        !matches!(
            bucket.count.partial_cmp(&rank),
            Some(std::cmp::Ordering::Equal | std::cmp::Ordering::Greater)
        )
    });
    let Some(bucket) = finite.get(position) else {
        // Beyond the highest finite bound nothing is known but that bound.
        return highest.bound;
    };
    if position == 0 && bucket.bound <= 0.0 {
        return bucket.bound;
    }
    let (start, below) = match position.checked_sub(1) {
        Some(before) => (finite[before].bound, finite[before].count),
        None => (0.0, 0.0),
    };
    start + (bucket.bound - start) * ((rank - below) / (bucket.count - below))
}

/// The share of the observations that lie between two values, linear within a bucket.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !has_total(buckets) {
        return f64::NAN;
    }
    join_same_bounds(buckets);
    let total = buckets.last().map_or(0.0, |last| last.count);
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |value: f64| {
        let rank = rank_of(value, buckets);
        // Not `min`, which would turn NaN into the total.
        if rank > total { total } else { rank }
    };
    (below(upper) - below(lower)) / total
}

/// How many observations lie below a value. The first bucket begins at 0 if its bound is above.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let (mut start, mut below) = match buckets.first() {
        Some(first) if first.bound > 0.0 => (0.0, 0.0),
        _ => (f64::NEG_INFINITY, 0.0),
    };
    for bucket in buckets {
        if start >= value {
            return below;
        }
        if bucket.bound > value {
            if start == f64::NEG_INFINITY {
                // Nothing is known of where in it they lie; Prometheus takes them to be below.
                return bucket.count;
            }
            let inside = (value - start) / (bucket.bound - start);
            return below + (bucket.count - below) * inside;
        }
        (start, below) = (bucket.bound, bucket.count);
    }
    below
}
