//! Selectors: from the store's samples to what an expression sees of them.

use super::column::Column;
use super::{Evaluator, Grid, Result};
use crate::labels::Labels;
use crate::plan::{Range, Selector};
use crate::store::Series;
use crate::value::Sample;

/// From when to when a range looks, at each step: after the first, up to the second, in milliseconds since 1970.
type Spans = Vec<(i64, i64)>;

impl Evaluator<'_> {
    /// The newest sample of each series at each time, unless it is too old or marks the series as gone.
    pub(super) fn select(
        &self,
        selector: &Selector,
        grid: Grid,
        value: impl Fn(&Sample) -> f64,
    ) -> Result<Vec<Column>> {
        let lookback = self.options.lookback_ms();
        let times: Vec<i64> = grid
            .times()
            .map(|time| self.resolve(selector.when, time))
            .collect();
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Ok(Vec::new());
        };
        let from = self.first_of_span(first - lookback);
        let mut samples = Vec::new();
        let mut columns = Vec::new();
        for series in self.source.series(selector) {
            samples.clear();
            read(series, from, *last, grid.has_one_step(), &mut samples);
            self.budget.samples(samples.len() + grid.steps)?;
            let mut next = 0;
            let cells = times.iter().map(|time| {
                next += samples[next..].partition_point(|sample| sample.timestamp <= *time);
                let newest = &samples[next.checked_sub(1)?];
                let fresh = newest.timestamp >= self.first_of_span(time - lookback);
                (fresh && !newest.is_stale()).then(|| value(newest))
            });
            let column = Column {
                cells: cells.collect(),
                labels: series.labels().clone(),
            };
            if !column.is_empty() {
                columns.push(column);
            }
        }
        Ok(columns)
    }

    /// From when to when a range looks at each step.
    pub(super) fn spans(&self, range: &Range, grid: Grid) -> Spans {
        let (when, length) = match range {
            Range::Select { selector, range } => (selector.when, *range),
            Range::Subquery { when, range, .. } => (*when, *range),
        };
        grid.times()
            .map(|time| {
                let end = self.resolve(when, time);
                (end - length, end)
            })
            .collect()
    }

    /// Hands the samples of each series to `visit`: all that any step looks at, oldest first, no stale markers.
    pub(crate) fn each_range(
        &self,
        range: &Range,
        grid: Grid,
        mut visit: impl FnMut(&Labels, &[Sample]) -> Result<()>,
    ) -> Result<()> {
        let spans = self.spans(range, grid);
        let (Some((start, _)), Some((_, end))) = (spans.first(), spans.last()) else {
            return Ok(());
        };
        let from = self.first_of_span(*start);
        let mut samples = Vec::new();
        match range {
            Range::Select { selector, .. } => {
                for series in self.source.series(selector) {
                    samples.clear();
                    series.read(from, *end, &mut samples);
                    self.budget.samples(samples.len())?;
                    samples.retain(|sample| !sample.is_stale());
                    if !samples.is_empty() {
                        visit(series.labels(), &samples)?;
                    }
                }
            }
            Range::Subquery { of, step, .. } => {
                let inner = self.subquery_grid(from, *end, *step)?;
                // All steps of the query share this one evaluation.
                for column in self.vector(of, inner)? {
                    samples.clear();
                    let pairs = inner.times().zip(&column.cells);
                    samples.extend(pairs.filter_map(|(t, cell)| Some(Sample::new(t, (*cell)?))));
                    self.budget.work(samples.len())?;
                    if !samples.is_empty() {
                        visit(&column.labels, &samples)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The times of a subquery: the multiples of its step, so that it does not depend on when it is asked.
    fn subquery_grid(&self, from: i64, end: i64, step: Option<i64>) -> Result<Grid> {
        let step = step.unwrap_or_else(|| self.options.subquery_step_ms());
        let start = from.div_euclid(step) * step;
        let start = if start < from { start + step } else { start };
        Grid::between(start, end, step, self.budget.max_samples())
            .ok_or_else(|| self.budget.too_many_samples())
    }
}

/// Reads what a selector may need of a series. At a single time no older sample than the newest matters, and mostly
/// that is the newest of all, which needs no decoding.
fn read(series: &Series, from: i64, to: i64, single_time: bool, into: &mut Vec<Sample>) {
    match series.last() {
        Some(last) if single_time && last.timestamp <= to => {
            if last.timestamp >= from {
                into.push(last);
            }
        }
        _ => series.read(from, to, into),
    }
}
