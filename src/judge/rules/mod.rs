//! Rules: recorded series and alerts, evaluated as Prometheus evaluates them.
//!
//! A group's rules run one after the other at one time, so that a rule sees what those before it have recorded at
//! that very time. Anyone with a store can run them: [`load`] a file and call [`Group::evaluate`].

pub mod alert;
mod file;
mod reach;
mod view;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use alert::{Alert, Alerting, State};
use promql::{AppendError, Engine, InstantSeries, Labels, Query, Sample, SeriesRef, Store, Value};
pub use view::{AlertingView, GroupView, RuleView};

/// How long recorded series are kept: the whole budget period of the drill profile.
pub const RECORDED_KEPT: Duration = Duration::from_secs(12 * 3_600);

/// A series and its value, to be written at the time of the evaluation.
pub type Written = (Labels, f64);

fn same_labels(kind: &str) -> String {
    format!("vector contains metrics with the same labelset after applying {kind} labels")
}

/// Reads a rule file. A group without an interval of its own is evaluated every `interval`. A sentence names the
/// group and the rule that cannot be loaded.
pub fn load(text: &str, interval: Duration) -> Result<Vec<Group>, String> {
    file::read(text, interval)
}

/// A sentence about the rules that look back further than samples are kept; none if there are none.
#[must_use]
pub fn notice(groups: &[Group], interval: Duration) -> Option<String> {
    reach::notice(groups, interval)
}

/// Rules that are evaluated together.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How often it is evaluated.
    pub interval: Duration,
    /// How many series or alerts a rule may give; 0 for any number.
    pub limit: usize,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// When it was last evaluated, in milliseconds since 1970; 0 if never.
    pub last_evaluation: i64,
    /// How long that took.
    pub evaluation_time: Duration,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its expression.
    pub query: Query,
    /// What becomes of the result.
    pub kind: RuleKind,
    /// Why the last evaluation failed; `None` if it did not.
    pub last_error: Option<String>,
    /// When it was last evaluated, in milliseconds since 1970; 0 if never.
    pub last_evaluation: i64,
    /// How long that took.
    pub evaluation_time: Duration,
    /// The series that the last evaluation wrote.
    previous: HashMap<Labels, SeriesRef>,
}

/// What becomes of a rule's result.
#[derive(Debug)]
pub enum RuleKind {
    /// It is written as a series.
    Recording(Recording),
    /// It raises alerts.
    Alerting(Alerting),
}

/// A rule that records.
#[derive(Debug)]
pub struct Recording {
    /// The name of the series.
    pub name: String,
    /// Labels that it gets.
    pub labels: Vec<(String, String)>,
}

/// What an evaluation of a group did.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// Samples that were written, stale markers aside.
    pub samples: usize,
    /// Samples that the store did not take.
    pub refused: usize,
    /// Rules that failed; [`Rule::last_error`] says why.
    pub failures: usize,
    /// Alerts that an Alertmanager has to be told, each with its rule's expression.
    pub due: Vec<(String, Alert)>,
}

/// What an evaluation is made with.
struct Now<'a> {
    store: &'a RwLock<Store>,
    engine: &'a Engine,
    at: i64,
    limit: usize,
}

impl Group {
    fn new(name: String, interval: Duration, limit: usize, rules: Vec<Rule>) -> Self {
        Self {
            name,
            interval,
            limit,
            rules,
            last_evaluation: 0,
            evaluation_time: Duration::ZERO,
        }
    }

    /// Evaluates every rule at `at`, in milliseconds since 1970, and writes the results into the store. An alert
    /// that fires is due to be told again after `resend`.
    pub fn evaluate(
        &mut self,
        store: &RwLock<Store>,
        engine: &Engine,
        at: i64,
        resend: Duration,
    ) -> Evaluation {
        let began = Instant::now();
        let mut evaluation = Evaluation::default();
        let now = Now {
            store,
            engine,
            at,
            limit: self.limit,
        };
        for rule in &mut self.rules {
            rule.evaluate(&now, &mut evaluation);
            if let RuleKind::Alerting(alerting) = &mut rule.kind
                && rule.last_error.is_none()
            {
                let due = alerting.due(at, resend);
                let text = rule.query.text();
                let due = due.into_iter().map(|alert| (text.to_owned(), alert));
                evaluation.due.extend(due);
            }
        }
        self.last_evaluation = at;
        self.evaluation_time = began.elapsed();
        evaluation
    }
}

impl Rule {
    fn new(query: Query, kind: RuleKind) -> Self {
        Self {
            query,
            kind,
            last_error: None,
            last_evaluation: 0,
            evaluation_time: Duration::ZERO,
            previous: HashMap::new(),
        }
    }

    /// Its name: that of the alert or of the recorded series.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording(recording) => &recording.name,
            RuleKind::Alerting(alerting) => alerting.name(),
        }
    }

    fn evaluate(&mut self, now: &Now<'_>, evaluation: &mut Evaluation) {
        let (began, at) = (Instant::now(), now.at);
        let loaded = {
            let store = now.store.read().unwrap_or_else(PoisonError::into_inner);
            now.engine.load(&store, &self.query)
        };
        let result = loaded
            .instant(at)
            .map_err(|error| error.to_string())
            .and_then(vector)
            .and_then(|found| self.kind.apply(&found, at, now.limit));
        match result {
            Ok(written) => {
                self.last_error = None;
                let mut store = now.store.write().unwrap_or_else(PoisonError::into_inner);
                evaluation.samples += written.len();
                evaluation.refused += self.write(&mut store, written, at);
            }
            // As in Prometheus nothing is written, not even that the series of the last time are gone.
            Err(error) => {
                evaluation.failures += 1;
                self.last_error = Some(error);
            }
        }
        self.last_evaluation = at;
        self.evaluation_time = began.elapsed();
    }

    /// Writes the samples, and marks the series that are there no more. Returns how many were not taken.
    fn write(&mut self, store: &mut Store, written: Vec<Written>, at: i64) -> usize {
        let mut refused = 0;
        let mut present = HashMap::with_capacity(written.len());
        for (labels, value) in written {
            let known = self.previous.remove(&labels);
            match append(store, &labels, known, Sample::new(at, value)) {
                Ok(series) => drop(present.insert(labels, series)),
                Err(_) => refused += 1,
            }
        }
        for series in self.previous.values() {
            match store.append(*series, Sample::stale(at)) {
                // One that the store has dropped needs no marker.
                Ok(()) | Err(AppendError::UnknownSeries) => {}
                Err(_) => refused += 1,
            }
        }
        self.previous = present;
        refused
    }
}

/// Appends by the reference, or registers the series if there is none any more.
fn append(
    store: &mut Store,
    labels: &Labels,
    known: Option<SeriesRef>,
    sample: Sample,
) -> Result<SeriesRef, AppendError> {
    if let Some(series) = known {
        match store.append(series, sample) {
            Err(AppendError::UnknownSeries) => {}
            result => return result.map(|()| series),
        }
    }
    let series = store.register(labels, RECORDED_KEPT)?;
    store.append(series, sample).map(|()| series)
}

impl RuleKind {
    fn apply(
        &mut self,
        found: &[InstantSeries],
        at: i64,
        limit: usize,
    ) -> Result<Vec<Written>, String> {
        match self {
            Self::Recording(recording) => recording.apply(found, limit),
            Self::Alerting(alerting) => alerting.update(found, at, limit),
        }
    }
}

impl Recording {
    fn apply(&self, found: &[InstantSeries], limit: usize) -> Result<Vec<Written>, String> {
        let given = || self.labels.iter().map(|(name, value)| (&**name, &**value));
        let written: Vec<Written> = found
            .iter()
            .map(|series| {
                let name = [("__name__", self.name.as_str())];
                let labels = series.labels.iter().chain(given()).chain(name);
                (Labels::new(labels), series.sample.value)
            })
            .collect();
        let mut seen = std::collections::HashSet::with_capacity(written.len());
        if !written.iter().all(|(labels, _)| seen.insert(labels)) {
            return Err(same_labels("rule"));
        }
        if limit > 0 && written.len() > limit {
            return Err(format!(
                "exceeded limit of {limit} with {} series",
                written.len()
            ));
        }
        Ok(written)
    }
}

/// A rule may give a vector, or a number, which is a vector of one series without labels.
fn vector(value: Value) -> Result<Vec<InstantSeries>, String> {
    match value {
        Value::Vector(series) => Ok(series),
        Value::Scalar(sample) => Ok(vec![InstantSeries {
            labels: Labels::default(),
            sample,
        }]),
        Value::String { .. } | Value::Matrix(_) => {
            Err("rule result is not a vector or scalar".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use promql::Limits;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Lab {
        store: RwLock<Store>,
        engine: Engine,
        groups: Vec<Group>,
    }

    impl Lab {
        fn new(rules: &str) -> Self {
            let text = format!("groups:\n- name: g\n  rules:\n{rules}");
            Self {
                store: RwLock::new(Store::new(Limits::default())),
                engine: Engine::default(),
                groups: load(&text, SECOND).unwrap(),
            }
        }

        /// Writes a sample; `None` marks the series stale.
        fn set(&self, series: &[(&str, &str)], at_s: i64, value: Option<f64>) {
            let mut store = self.store.write().unwrap();
            let labels = Labels::new(series.iter().copied());
            let series = store.register(&labels, SECOND * 3600).unwrap();
            let at = at_s * 1000;
            let sample = value.map_or(Sample::stale(at), |value| Sample::new(at, value));
            store.append(series, sample).unwrap();
        }

        fn evaluate(&mut self, at_s: i64) -> Evaluation {
            let group = &mut self.groups[0];
            group.evaluate(&self.store, &self.engine, at_s * 1000, 60 * SECOND)
        }

        fn ask(&self, query: &str, at_s: i64) -> Vec<(String, f64)> {
            let query = Query::parse(query).unwrap();
            let store = self.store.read().unwrap();
            let value = self.engine.instant(&store, &query, at_s * 1000).unwrap();
            let one = |s: &InstantSeries| (s.labels.to_string(), s.sample.value);
            value.vector().iter().map(one).collect()
        }
    }

    const UP: [(&str, &str); 2] = [("__name__", "up"), ("x", "1")];

    #[test]
    fn a_rule_sees_what_those_before_it_recorded_at_the_same_time() {
        let mut lab = Lab::new(
            "  - {record: a, expr: up * 2, labels: {y: z}}\n  - {record: b, expr: a + 1}\n",
        );
        lab.set(&UP, 10, Some(1.0));
        let evaluation = lab.evaluate(10);
        assert_eq!((evaluation.samples, evaluation.failures), (2, 0));
        let expected = [(r#"b{x="1", y="z"}"#.to_owned(), 3.0)];
        assert_eq!(lab.ask("b", 10), expected);
    }

    #[test]
    fn a_series_that_is_recorded_no_more_ends_at_once() {
        let mut lab = Lab::new("  - {record: a, expr: up}\n");
        lab.set(&UP, 10, Some(1.0));
        lab.evaluate(10);
        lab.set(&UP, 11, None);
        let evaluation = lab.evaluate(11);
        assert_eq!((evaluation.samples, evaluation.refused), (0, 0));
        assert_eq!(lab.ask("a", 10).len(), 1);
        assert_eq!(lab.ask("a", 11).len(), 0);
        lab.set(&UP, 12, Some(5.0));
        lab.evaluate(12);
        assert_eq!(lab.ask("a", 12), [(r#"a{x="1"}"#.to_owned(), 5.0)]);
    }

    #[test]
    fn a_series_that_the_store_has_dropped_needs_no_marker() {
        let mut lab = Lab::new("  - {record: a, expr: up}\n");
        lab.set(&UP, 10, Some(1.0));
        lab.evaluate(10);
        let later = i64::try_from(2 * RECORDED_KEPT.as_secs()).unwrap();
        lab.store.write().unwrap().trim(later * 1000);
        let evaluation = lab.evaluate(later);
        assert_eq!((evaluation.samples, evaluation.refused), (0, 0));
        assert_eq!(lab.store.read().unwrap().stats().series, 0);
    }

    #[test]
    fn an_alert_is_a_series_while_it_lasts() {
        let mut lab = Lab::new("  - {alert: A, expr: up == 0, for: 2s}\n");
        for (at, up) in [(10, 0.0), (11, 0.0), (12, 0.0), (13, 1.0)] {
            lab.set(&UP, at, Some(up));
            let due = lab.evaluate(at).due;
            assert_eq!(due.len(), usize::from(at >= 12), "{at}");
        }
        let states = |at| {
            let found = lab.ask("sum by (alertstate) (ALERTS)", at);
            found
                .into_iter()
                .map(|(labels, _)| labels)
                .collect::<Vec<_>>()
        };
        assert_eq!(states(11), [r#"{alertstate="pending"}"#]);
        assert_eq!(states(12), [r#"{alertstate="firing"}"#]);
        assert_eq!(states(13), Vec::<String>::new());
        assert_eq!(lab.ask("ALERTS_FOR_STATE", 12)[0].1.to_string(), "10");
        assert_eq!(lab.ask("ALERTS_FOR_STATE", 13).len(), 0);
    }

    #[test]
    fn a_rule_that_fails_says_why_and_the_others_go_on() {
        let mut lab = Lab::new(
            "  - {record: a, expr: 'label_replace(up, \"x\", \"\", \"x\", \".*\")'}\n  \
             - {record: b, expr: up, labels: {x: same}}\n  - {record: c, expr: '1'}\n  \
             - {record: d, expr: '\"text\"'}\n",
        );
        lab.set(&UP, 10, Some(1.0));
        lab.set(&[("__name__", "up"), ("x", "2")], 10, Some(1.0));
        let evaluation = lab.evaluate(10);
        assert_eq!(evaluation.failures, 3);
        let errors: Vec<_> = lab.groups[0]
            .rules
            .iter()
            .map(|rule| rule.last_error.clone().unwrap_or_default())
            .collect();
        assert!(errors[1].contains("same labelset"), "{errors:?}");
        assert_eq!(errors[2], "");
        assert!(errors[3].contains("not a vector"), "{errors:?}");
        assert_eq!(lab.ask("c", 10), [("c".to_owned(), 1.0)]);
    }

    #[test]
    fn a_full_store_is_counted_and_nothing_breaks() {
        let mut lab = Lab::new("  - {record: a, expr: '1'}\n  - {alert: A, expr: '1'}\n");
        lab.store = RwLock::new(Store::new(Limits {
            max_series: 1,
            max_bytes: 1 << 20,
        }));
        let evaluation = lab.evaluate(10);
        assert_eq!((evaluation.samples, evaluation.refused), (3, 2));
        assert_eq!(lab.ask("a", 10).len(), 1);
    }
}
