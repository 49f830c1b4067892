//! The evaluation of a plan against a store.

mod aggregate;
mod binary;
mod buckets;
mod budget;
mod column;
pub(crate) mod date;
mod functions;
mod grid;
mod matching;
pub(crate) mod math;
pub(crate) mod over_time;
mod selector;
mod set;

pub(crate) use budget::Budget;
pub(crate) use column::Column;
pub(crate) use grid::Grid;

use crate::engine::{Options, Semantics};
use crate::error::QueryError;
use crate::plan::{At, Scalar, Selector, Vector, When};
use crate::store::{Series, Store};

type Result<T> = std::result::Result<T, QueryError>;

/// Where the samples of a query are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Store(&'a Store),
    /// The series of each selector, by its number.
    Loaded(&'a [Vec<Series>]),
}

impl<'a> Source<'a> {
    fn series(self, selector: &Selector) -> Vec<&'a Series> {
        match self {
            Self::Store(store) => store.select(&selector.matchers),
            Self::Loaded(selectors) => selectors
                .get(selector.number)
                .map_or_else(Vec::new, |series| series.iter().collect()),
        }
    }
}

/// One evaluation of one query.
#[derive(Debug)]
pub(crate) struct Evaluator<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) options: &'a Options,
    pub(crate) budget: Budget,
    /// From when to when the whole query is asked, which `@ start()` and `@ end()` mean. Its last step may be earlier.
    pub(crate) whole: (i64, i64),
}

impl Evaluator<'_> {
    /// The time that a selector looks at when the evaluation is at `time`.
    fn resolve(&self, when: When, time: i64) -> i64 {
        let base = match when.at {
            None => time,
            Some(At::Start) => self.whole.0,
            Some(At::End) => self.whole.1,
            Some(At::Time(at)) => at,
        };
        base - when.offset
    }

    /// The first millisecond of a span that ends `length` after `start`: in Prometheus 3 a span does not contain
    /// its start, in Prometheus 2 it did.
    fn first_of_span(&self, start: i64) -> i64 {
        match self.options.semantics {
            Semantics::V3 => start + 1,
            Semantics::V2 => start,
        }
    }

    pub(crate) fn scalar(&self, scalar: &Scalar, grid: Grid) -> Result<Vec<f64>> {
        self.budget.samples(grid.steps)?;
        Ok(match scalar {
            Scalar::Number(number) => vec![*number; grid.steps],
            Scalar::Time => grid.times().map(|time| time as f64 / 1e3).collect(),
            Scalar::Negate(of) => self.scalar(of, grid)?.into_iter().map(|x| -x).collect(),
            Scalar::Binary(operator, left, right) => {
                let (left, right) = (self.scalar(left, grid)?, self.scalar(right, grid)?);
                let pairs = left.into_iter().zip(right);
                pairs.map(|(a, b)| operator.number(a, b)).collect()
            }
            Scalar::FromVector(of) => {
                let columns = self.vector(of, grid)?;
                let only_value = |step: usize| {
                    let mut values = columns.iter().filter_map(|column| column.cells[step]);
                    match (values.next(), values.next()) {
                        (Some(value), None) => value,
                        _ => f64::NAN,
                    }
                };
                (0..grid.steps).map(only_value).collect()
            }
        })
    }

    pub(crate) fn vector(&self, vector: &Vector, grid: Grid) -> Result<Vec<Column>> {
        match vector {
            Vector::Select(selector) => self.select(selector, grid, |sample| sample.value),
            Vector::SampleTime(selector) => {
                let times = self.select(selector, grid, |sample| sample.timestamp as f64 / 1e3)?;
                column::without_metadata(times)
            }
            Vector::FromScalar(scalar) => self.as_vector(scalar, grid),
            Vector::Map(function, of) => self.map(*function, of, grid),
            Vector::MapWith(function, of, scalars) => self.map_with(*function, of, scalars, grid),
            Vector::EvaluationTime(of) => self.evaluation_time(of, grid),
            Vector::OverTime(over_time) => self.over_time(over_time, grid),
            Vector::Absent(of, labels) => self.absent(of, labels, grid),
            Vector::AbsentOverTime(of, labels) => self.absent_over_time(of, labels, grid),
            Vector::Buckets(function, of) => self.buckets(function, of, grid),
            Vector::Relabel(change, of) => self.relabel(change, of, grid),
            Vector::Sort { of, descending } => self.sort(of, *descending, grid),
            Vector::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            Vector::WithScalar(operation) => self.with_scalar(operation, grid),
            Vector::Match(operation) => self.match_vectors(operation, grid),
            Vector::Set(operation) => self.set(operation, grid),
        }
    }
}
