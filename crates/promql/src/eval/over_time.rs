//! Functions over the samples of a span of time: rates, trends, and statistics of one series.

use super::column::{self, Column};
use super::math::{self, Sum};
use super::{Evaluator, Grid, Result};
use crate::engine::Semantics;
use crate::plan::{OverTime, Range};
use crate::value::Sample;

/// A function of this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeFunction {
    call: fn(&mut Window<'_>) -> Option<f64>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Looks at each sample.
    Plain,
    /// Looks at the ends of the span and at the resets in between.
    Counter,
    /// Returns a sample of the series, which therefore keeps its name.
    KeepsName,
}

/// What a function sees: at least one sample.
struct Window<'a> {
    samples: &'a [Sample],
    /// The value before each reset of the counter within.
    before_resets: &'a [(usize, f64)],
    start: i64,
    end: i64,
    now: i64,
    parameter: f64,
    semantics: Semantics,
    /// Room for the values alone.
    values: &'a mut Vec<f64>,
}

/// The functions over a span of time, by name.
pub(crate) fn function(name: &str) -> Option<RangeFunction> {
    let plain = |call| RangeFunction {
        call,
        kind: Kind::Plain,
    };
    let counter = |call| RangeFunction {
        call,
        kind: Kind::Counter,
    };
    Some(match name {
        "rate" => counter(|window| window.extrapolated(window.counter_increase()?, true, true)),
        "increase" => {
            counter(|window| window.extrapolated(window.counter_increase()?, true, false))
        }
        "delta" => plain(|window| window.extrapolated(window.difference()?, false, false)),
        "irate" => plain(|window| window.last_two(true)),
        "idelta" => plain(|window| window.last_two(false)),
        "deriv" => plain(deriv),
        "predict_linear" => plain(predict_linear),
        "changes" => plain(|window| Some(window.count_pairs(differ))),
        "resets" => plain(|window| Some(window.count_pairs(|before, after| after < before))),
        "avg_over_time" => plain(|window| Some(math::mean(window.values()))),
        "sum_over_time" => plain(|window| Some(math::sum(window.values()))),
        "min_over_time" => plain(|window| Some(math::smallest(window.values()))),
        "max_over_time" => plain(|window| Some(math::largest(window.values()))),
        "count_over_time" => plain(|window| Some(window.samples.len() as f64)),
        "present_over_time" => plain(|_| Some(1.0)),
        "stddev_over_time" => plain(|window| Some(math::variance(window.values()).sqrt())),
        "stdvar_over_time" => plain(|window| Some(math::variance(window.values()))),
        "quantile_over_time" => plain(|window| {
            let q = window.parameter;
            Some(math::quantile(q, window.values()))
        }),
        "last_over_time" => RangeFunction {
            call: |window| window.samples.last().map(|sample| sample.value),
            kind: Kind::KeepsName,
        },
        _ => return None,
    })
}

fn differ(before: f64, after: f64) -> bool {
    differ_exactly(before, after) && !(before.is_nan() && after.is_nan())
}

/// NaN differs from NaN here.
#[expect(
    clippy::float_cmp,
    reason = "a value that moved by the least bit has moved"
)]
fn differ_exactly(a: f64, b: f64) -> bool {
    a != b
}

impl Window<'_> {
    fn values(&mut self) -> &mut [f64] {
        self.values.clear();
        self.values
            .extend(self.samples.iter().map(|sample| sample.value));
        self.values
    }

    fn count_pairs(&self, counts: fn(f64, f64) -> bool) -> f64 {
        let pairs = self.samples.windows(2);
        pairs
            .filter(|pair| counts(pair[0].value, pair[1].value))
            .count() as f64
    }

    /// The last value less the first, if there are two.
    fn difference(&self) -> Option<f64> {
        match self.samples {
            [first, .., last] => Some(last.value - first.value),
            _ => None,
        }
    }

    /// The same for a counter: what it had before a reset is added.
    fn counter_increase(&self) -> Option<f64> {
        let resets = self.before_resets.iter();
        Some(resets.fold(self.difference()?, |sum, (_, before)| sum + before))
    }

    /// Scales a change between the first and the last sample to the whole span. Samples hardly ever lie at the ends
    /// of a span. Where one is missing at most 1.1 average distances, the span is covered; beyond that, the series
    /// is taken to begin or end half a distance away. A counter does not begin below zero.
    fn extrapolated(&self, change: f64, is_counter: bool, per_second: bool) -> Option<f64> {
        let [first, .., last] = self.samples else {
            return None;
        };
        let seconds = |ms: i64| ms as f64 / 1e3;
        let sampled = seconds(last.timestamp - first.timestamp);
        let distance = sampled / (self.samples.len() - 1) as f64;
        let threshold = distance * 1.1;
        let bounded = |gap: f64| {
            if gap >= threshold {
                distance / 2.0
            } else {
                gap
            }
        };
        let to_zero = |gap: f64| {
            if is_counter && change > 0.0 && first.value >= 0.0 {
                gap.min(sampled * (first.value / change))
            } else {
                gap
            }
        };
        let gap = seconds(first.timestamp - self.start);
        let before = match self.semantics {
            Semantics::V3 => to_zero(bounded(gap)),
            Semantics::V2 => bounded(to_zero(gap)),
        };
        let after = bounded(seconds(self.end - last.timestamp));
        let mut factor = (sampled + before + after) / sampled;
        if per_second {
            factor /= seconds(self.end - self.start);
        }
        Some(change * factor)
    }

    fn last_two(&self, is_rate: bool) -> Option<f64> {
        let [.., before, last] = self.samples else {
            return None;
        };
        let was_reset = is_rate && last.value < before.value;
        let change = if was_reset {
            last.value
        } else {
            last.value - before.value
        };
        if is_rate {
            Some(change / ((last.timestamp - before.timestamp) as f64 / 1e3))
        } else {
            Some(change)
        }
    }
}

fn deriv(window: &mut Window<'_>) -> Option<f64> {
    match window.samples {
        // Near the samples, because their squares would lose digits far away.
        [first, _, ..] => Some(line(window.samples, first.timestamp).0),
        _ => None,
    }
}

fn predict_linear(window: &mut Window<'_>) -> Option<f64> {
    if window.samples.len() < 2 {
        return None;
    }
    let (slope, now) = line(window.samples, window.now);
    Some(slope * window.parameter + now)
}

/// The line with the least squares: its slope by the second, and its value at `origin`.
fn line(samples: &[Sample], origin: i64) -> (f64, f64) {
    let first = samples[0].value;
    // NaN is not constant: a line through it is NaN.
    if samples
        .iter()
        .all(|sample| !differ_exactly(sample.value, first))
    {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Sum::default(); 4];
    for sample in samples {
        let x = (sample.timestamp - origin) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(sample.value);
        xy_sum.add(x * sample.value);
        xx_sum.add(x * x);
    }
    let n = samples.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(Sum::total);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

impl Evaluator<'_> {
    pub(super) fn over_time(&self, node: &OverTime, grid: Grid) -> Result<Vec<Column>> {
        let parameters = match &node.parameter {
            Some(parameter) => self.scalar(parameter, grid)?,
            None => Vec::new(),
        };
        let spans = self.spans(&node.of, grid);
        let mut columns = Vec::new();
        let (mut values, mut resets) = (Vec::new(), Vec::new());
        let kind = node.function.kind;
        self.each_range(&node.of, grid, |labels, samples| {
            resets.clear();
            if kind == Kind::Counter {
                find_resets(samples, &mut resets);
            }
            self.budget.samples(grid.steps)?;
            let (mut from, mut to) = (0, 0);
            let mut cells = Vec::with_capacity(grid.steps);
            for (step, (now, (start, end))) in grid.times().zip(&spans).enumerate() {
                let first = self.first_of_span(*start);
                from += samples[from..].partition_point(|sample| sample.timestamp < first);
                to += samples[to..].partition_point(|sample| sample.timestamp <= *end);
                if from >= to {
                    cells.push(None);
                    continue;
                }
                let looked_at = if kind == Kind::Plain { to - from } else { 1 };
                self.budget.work(looked_at)?;
                let mut window = Window {
                    samples: &samples[from..to],
                    before_resets: within(&resets, from, to),
                    start: *start,
                    end: *end,
                    now,
                    parameter: parameters.get(step).copied().unwrap_or_default(),
                    semantics: self.options.semantics,
                    values: &mut values,
                };
                cells.push((node.function.call)(&mut window));
            }
            let column = Column {
                labels: labels.clone(),
                cells,
            };
            if !column.is_empty() {
                columns.push(column);
            }
            Ok(())
        })?;
        if kind == Kind::KeepsName {
            return Ok(columns);
        }
        column::without_metadata_unique(columns)
    }

    pub(super) fn absent_over_time(
        &self,
        of: &Range,
        labels: &crate::labels::Labels,
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let spans = self.spans(of, grid);
        let mut cells = vec![Some(1.0); grid.steps];
        self.each_range(of, grid, |_, samples| {
            self.budget.work(grid.steps)?;
            for (cell, (start, end)) in cells.iter_mut().zip(&spans) {
                let first = self.first_of_span(*start);
                let from = samples.partition_point(|sample| sample.timestamp < first);
                if samples
                    .get(from)
                    .is_some_and(|sample| sample.timestamp <= *end)
                {
                    *cell = None;
                }
            }
            Ok(())
        })?;
        Ok(vec![Column {
            labels: labels.clone(),
            cells,
        }])
    }
}

/// Where a counter falls, and what it had before.
fn find_resets(samples: &[Sample], into: &mut Vec<(usize, f64)>) {
    for (before, pair) in samples.windows(2).enumerate() {
        if pair[1].value < pair[0].value {
            into.push((before, pair[0].value));
        }
    }
}

/// The resets between the samples of `from..to`.
fn within(resets: &[(usize, f64)], from: usize, to: usize) -> &[(usize, f64)] {
    let first = resets.partition_point(|(before, _)| *before < from);
    let end = resets.partition_point(|(before, _)| before + 1 < to);
    &resets[first..end.max(first)]
}
