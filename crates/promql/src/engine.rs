//! The engine: queries, and what they are answered with.

use std::time::Duration;

use crate::error::QueryError;
use crate::eval::{Budget, Column, Evaluator, Grid, Source};
use crate::labels::METRIC_NAME;
use crate::plan::{self, Range, Root};
use crate::store::{Matcher, Series, Store};
use crate::value::{InstantSeries, RangeSeries, Sample, Value};

/// The furthest time from 1970 that a query may name, in milliseconds: 285 000 years.
const TIME_MAX_MS: i64 = 1 << 53;

/// Whose rules hold where they changed between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Semantics {
    /// Prometheus 3: a range does not contain a sample at its very start.
    #[default]
    V3,
    /// Prometheus 2: it does, and rates are extrapolated in another order. Only there to compare with one.
    V2,
}

/// How queries are answered.
#[derive(Debug, Clone)]
pub struct Options {
    /// How old a sample may be and still count as the current one. Prometheus: 5 minutes.
    pub lookback: Duration,
    /// The step of a subquery that names none. Prometheus: the evaluation interval, by default 1 minute.
    pub subquery_step: Duration,
    /// How long a query may take; `None` for as long as it needs. Prometheus: 2 minutes.
    pub timeout: Option<Duration>,
    /// How many samples a query may read and make, those in between included. Each 16 bytes of a label's value that it
    /// makes count as one.
    pub max_samples: usize,
    /// How many steps a range query may have. Prometheus: 11 000.
    pub max_points: usize,
    /// Whose rules hold.
    pub semantics: Semantics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            timeout: Some(Duration::from_secs(120)),
            max_samples: 50_000_000,
            max_points: 11_000,
            semantics: Semantics::V3,
        }
    }
}

impl Options {
    pub(crate) fn lookback_ms(&self) -> i64 {
        bounded_ms(self.lookback)
    }

    pub(crate) fn subquery_step_ms(&self) -> i64 {
        bounded_ms(self.subquery_step)
    }
}

fn bounded_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(TIME_MAX_MS, |ms| ms.clamp(1, TIME_MAX_MS))
}

/// A query that was read and checked, to be evaluated any number of times.
#[derive(Debug)]
pub struct Query {
    text: String,
    root: Root,
}

impl Query {
    /// Reads a query.
    ///
    /// Fails if it is not PromQL, or PromQL that this engine does not answer: native histograms, experimental
    /// functions, modifiers and aggregations.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        Ok(Self {
            text: text.to_owned(),
            root: plan::plan(text)?,
        })
    }

    /// The query as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The conditions of each of its selectors, from left to right.
    #[must_use]
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let selectors = self.root.selectors().into_iter();
        selectors.map(|selector| &*selector.matchers).collect()
    }

    /// The metric names that its selectors ask for by equality, sorted, each once.
    #[must_use]
    pub fn metric_names(&self) -> Vec<&str> {
        let matchers = self.selectors().into_iter().flatten();
        let mut names: Vec<&str> = matchers
            .filter(|matcher| matcher.name() == METRIC_NAME)
            .filter_map(Matcher::equal_value)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Reads a selector, such as the `match[]` of Prometheus' HTTP API.
///
/// Fails if the text is no selector, or would select everything.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    plan::selector_matchers(text)
}

/// A query with copies of the series that it asks about, as they were when it was loaded. It does not need the store, so
/// a lock on that is held while it is loaded and not while it is evaluated.
#[derive(Debug)]
pub struct Loaded<'a> {
    engine: &'a Engine,
    query: &'a Query,
    /// Of each selector, by its number.
    series: Vec<Vec<Series>>,
}

impl Loaded<'_> {
    /// As [`Engine::instant`].
    pub fn instant(&self, time: i64) -> Result<Value, QueryError> {
        let source = Source::Loaded(&self.series);
        self.engine.instant_from(source, self.query, time)
    }

    /// As [`Engine::range`].
    pub fn range(&self, start: i64, end: i64, step: i64) -> Result<Value, QueryError> {
        let source = Source::Loaded(&self.series);
        self.engine
            .range_from(source, self.query, (start, end), step)
    }
}

/// Answers queries. It has no state but its options.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    options: Options,
}

impl Engine {
    /// An engine with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Copies the series that a query selects, to evaluate it later without the store. Sealed chunks are shared, so of
    /// each series only the open one is copied. The copies are beyond the store's limits.
    #[must_use]
    pub fn load<'a>(&'a self, store: &Store, query: &'a Query) -> Loaded<'a> {
        let mut series = Vec::new();
        for selector in query.root.selectors() {
            if series.len() <= selector.number {
                series.resize_with(selector.number + 1, Vec::new);
            }
            let found = store.select(&selector.matchers).into_iter();
            series[selector.number] = found.cloned().collect();
        }
        Loaded {
            engine: self,
            query,
            series,
        }
    }

    /// Evaluates a query at one time, in milliseconds since 1970.
    ///
    /// Fails if the data does not allow it, or if it would exceed a limit.
    pub fn instant(&self, store: &Store, query: &Query, time: i64) -> Result<Value, QueryError> {
        self.instant_from(Source::Store(store), query, time)
    }

    fn instant_from(
        &self,
        source: Source<'_>,
        query: &Query,
        time: i64,
    ) -> Result<Value, QueryError> {
        let grid = Grid::instant(checked_time("time", time)?);
        let evaluator = self.evaluator(source, (time, time));
        Ok(match &query.root {
            Root::Scalar(scalar) => {
                let value = evaluator.scalar(scalar, grid)?[0];
                Value::Scalar(Sample::new(time, value))
            }
            Root::Text(text) => Value::String {
                timestamp: time,
                text: text.clone(),
            },
            Root::Vector(vector) => {
                let columns = evaluator.vector(vector, grid)?;
                Value::Vector(
                    columns
                        .into_iter()
                        .filter_map(|c| instant_series(c, time))
                        .collect(),
                )
            }
            Root::Range(range) => Value::Matrix(evaluator.samples(range, grid)?),
        })
    }

    /// Evaluates a query at each step from `start` to `end`, all in milliseconds. The answer is a matrix.
    ///
    /// Fails if the times make no sense or are too many, if the query is a range or a string, if the data does not
    /// allow it, or if it would exceed a limit.
    pub fn range(
        &self,
        store: &Store,
        query: &Query,
        start: i64,
        end: i64,
        step: i64,
    ) -> Result<Value, QueryError> {
        self.range_from(Source::Store(store), query, (start, end), step)
    }

    fn range_from(
        &self,
        source: Source<'_>,
        query: &Query,
        (start, end): (i64, i64),
        step: i64,
    ) -> Result<Value, QueryError> {
        let grid = self.grid(start, end, step)?;
        let evaluator = self.evaluator(source, (start, end));
        let columns = match &query.root {
            Root::Vector(vector) => evaluator.vector(vector, grid)?,
            Root::Scalar(scalar) => evaluator.as_vector(scalar, grid)?,
            Root::Range(_) => return Err(no_range_over("range vector")),
            Root::Text(_) => return Err(no_range_over("string")),
        };
        let series = columns.into_iter().map(|column| range_series(column, grid));
        Ok(Value::Matrix(sorted(series)))
    }

    fn grid(&self, start: i64, end: i64, step: i64) -> Result<Grid, QueryError> {
        let (start, end) = (checked_time("start", start)?, checked_time("end", end)?);
        if step <= 0 {
            return Err(QueryError::Range(format!(
                "the step is {step} ms; it must be at least 1 ms"
            )));
        }
        if end < start {
            return Err(QueryError::Range(
                "end timestamp must not be before start time".into(),
            ));
        }
        // Prometheus counts the distances, not the points.
        Grid::between(start, end, step, self.options.max_points.saturating_add(1)).ok_or_else(|| {
            QueryError::Range(format!(
                "exceeded maximum resolution of {} points per timeseries; use a longer step than {step} ms",
                self.options.max_points
            ))
        })
    }

    fn evaluator<'a>(&'a self, source: Source<'a>, whole: (i64, i64)) -> Evaluator<'a> {
        let budget = Budget::new(self.options.timeout, self.options.max_samples);
        Evaluator {
            source,
            options: &self.options,
            budget,
            whole,
        }
    }
}

impl Evaluator<'_> {
    /// The samples that a range holds at a single time.
    fn samples(&self, range: &Range, grid: Grid) -> Result<Vec<RangeSeries>, QueryError> {
        let mut found = Vec::new();
        self.each_range(range, grid, |labels, samples| {
            found.push(RangeSeries {
                labels: labels.clone(),
                samples: samples.to_vec(),
            });
            Ok(())
        })?;
        Ok(sorted(found.into_iter()))
    }
}

fn checked_time(what: &str, time: i64) -> Result<i64, QueryError> {
    if time.abs_diff(0) > TIME_MAX_MS.unsigned_abs() {
        return Err(QueryError::Range(format!(
            "the {what} is {time} ms; at most {TIME_MAX_MS} ms before or after 1970 are allowed"
        )));
    }
    Ok(time)
}

fn no_range_over(kind: &str) -> QueryError {
    QueryError::Range(format!(
        "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
    ))
}

fn instant_series(column: Column, time: i64) -> Option<InstantSeries> {
    let value = column.cells.first().copied().flatten()?;
    Some(InstantSeries {
        labels: column.labels,
        sample: Sample::new(time, value),
    })
}

fn range_series(column: Column, grid: Grid) -> RangeSeries {
    let values = grid.times().zip(column.cells);
    RangeSeries {
        labels: column.labels,
        samples: values
            .filter_map(|(time, cell)| Some(Sample::new(time, cell?)))
            .collect(),
    }
}

fn sorted(series: impl Iterator<Item = RangeSeries>) -> Vec<RangeSeries> {
    let mut series: Vec<RangeSeries> = series.filter(|s| !s.samples.is_empty()).collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    series
}
