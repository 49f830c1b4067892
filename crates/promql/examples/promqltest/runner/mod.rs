//! A runner for test scripts: load series, evaluate queries, compare with what the script expects.

mod compare;
mod notation;
mod script;

use std::fmt;
use std::time::Duration;

use promql::{Engine, Labels, Limits, Query, QueryError, Sample, Store, Value};

use notation::Point;
use script::{Command, Eval, Load, Times};

/// Longer than any script.
const RETENTION: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Besides the given time, an instant query is evaluated as the middle step of a range with this step.
const RANGE_STEP_MS: i64 = 60_000;

/// What became of a script.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Evaluations with the expected answer.
    pub(crate) passed: usize,
    /// Evaluations with another answer, or with an error instead of one.
    pub(crate) failed: usize,
    /// Those of the failed that got an error where an answer was expected, or another error than expected: nobody
    /// takes either for an answer.
    pub(crate) refused: usize,
    /// Evaluations that the engine says it does not support.
    pub(crate) unsupported: usize,
    /// Evaluations that were left out because they need native histograms.
    pub(crate) skipped: usize,
    /// A line for each failed or unsupported one.
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            refused,
            unsupported,
            skipped,
            ..
        } = self;
        write!(
            f,
            "{passed} passed, {failed} failed ({refused} of them refused), {unsupported} unsupported, \
             {skipped} skipped"
        )
    }
}

/// Runs a script. Fails if it cannot be read.
pub(crate) fn run(text: &str) -> Result<Report, String> {
    let mut session = Session {
        store: Store::new(Limits::default()),
        histograms: Vec::new(),
        engine: Engine::default(),
    };
    let mut report = Report::default();
    for command in script::parse(text)? {
        match command {
            Command::Clear => {
                session.store = Store::new(Limits::default());
                session.histograms.clear();
            }
            Command::Load(load) => session.load(&load)?,
            Command::Eval(eval) => session.evaluate(&eval, &mut report),
        }
    }
    Ok(report)
}

struct Session {
    store: Store,
    /// Series of native histograms that were not loaded.
    histograms: Vec<Labels>,
    engine: Engine,
}

/// Why an evaluation did not pass.
enum Problem {
    Wrong(String),
    Refused(String),
    Unsupported(String),
    Skipped,
}

impl Session {
    fn load(&mut self, load: &Load) -> Result<(), String> {
        for (labels, points) in &load.series {
            if load.with_custom_buckets {
                let name = labels.metric_name().to_owned();
                let base = ["_bucket", "_count", "_sum"]
                    .iter()
                    .find_map(|s| name.strip_suffix(s));
                let base = base.unwrap_or(&name).to_owned();
                let kept = labels.iter().filter(|(name, _)| *name != "le");
                let renamed = kept.chain([("__name__", &*base)]);
                self.histograms.push(Labels::new(renamed));
            }
            if points.iter().any(|point| matches!(point, Point::Histogram)) {
                self.histograms.push(labels.clone());
                continue;
            }
            let said = |error| format!("line {}: {labels}: {error}", load.line);
            let series = self.store.register(labels, RETENTION).map_err(said)?;
            for (position, point) in (0_i64..).zip(points) {
                if let Point::Value(value) = point {
                    let sample = Sample::new(position * load.step, *value);
                    self.store.append(series, sample).map_err(said)?;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, eval: &Eval, report: &mut Report) {
        let line = |text: &str| format!("line {}: {}: {text}", eval.line, eval.query);
        match self.check(eval) {
            Ok(()) => report.passed += 1,
            Err(Problem::Skipped) => report.skipped += 1,
            Err(Problem::Unsupported(text)) => {
                report.unsupported += 1;
                report.problems.push(line(&text));
            }
            Err(Problem::Refused(text)) => {
                report.failed += 1;
                report.refused += 1;
                report.problems.push(line(&text));
            }
            Err(Problem::Wrong(text)) => {
                report.failed += 1;
                report.problems.push(line(&text));
            }
        }
    }

    fn check(&self, eval: &Eval) -> Result<(), Problem> {
        let query = match Query::parse(&eval.query) {
            Ok(query) => query,
            Err(QueryError::Unsupported(what)) if what.contains("native histogram") => {
                return Err(Problem::Skipped);
            }
            Err(error) => return failure(eval, &error),
        };
        if eval.expects_histograms() || self.needs_histograms(&query) {
            return Err(Problem::Skipped);
        }
        let answer = match eval.times {
            Times::Instant(time) => self.engine.instant(&self.store, &query, time),
            Times::Range { start, end, step } => {
                self.engine.range(&self.store, &query, start, end, step)
            }
        };
        match answer {
            Ok(_) if eval.fails => Err(Problem::Wrong("did not fail".into())),
            Ok(value) => {
                compare::value(eval, &value).map_err(Problem::Wrong)?;
                self.check_as_range(eval, &query, &value)
            }
            Err(error) => failure(eval, &error),
        }
    }

    /// An instant query must find the same as a step of a range query.
    fn check_as_range(&self, eval: &Eval, query: &Query, value: &Value) -> Result<(), Problem> {
        let Times::Instant(time) = eval.times else {
            return Ok(());
        };
        let comparable = matches!(value, Value::Vector(_)) && !eval.ordered;
        if !comparable || eval.query.contains("start()") || eval.query.contains("end()") {
            return Ok(());
        }
        let (start, end) = (time - RANGE_STEP_MS, time + RANGE_STEP_MS);
        let range = self
            .engine
            .range(&self.store, query, start, end, RANGE_STEP_MS);
        let range = range.map_err(|error| Problem::Wrong(format!("as a range: {error}")))?;
        let at_step = compare::vector_at(&range, time);
        compare::value(eval, &at_step).map_err(|text| Problem::Wrong(format!("as a range: {text}")))
    }

    fn needs_histograms(&self, query: &Query) -> bool {
        query.selectors().iter().any(|matchers| {
            self.histograms.iter().any(|labels| {
                let fits = |m: &promql::Matcher| m.is_match(labels.get(m.name()));
                matchers.iter().all(fits)
            })
        })
    }
}

fn failure(eval: &Eval, error: &QueryError) -> Result<(), Problem> {
    match error {
        QueryError::Unsupported(_) => Err(Problem::Unsupported(error.to_string())),
        _ if !eval.fails => Err(Problem::Refused(error.to_string())),
        _ => match &eval.message {
            Some(part) if !error.to_string().contains(part) => Err(Problem::Refused(format!(
                "failed with {error:?}, which does not contain {part:?}"
            ))),
            _ => Ok(()),
        },
    }
}
