//! The judge: what a Prometheus does in a lab, with nothing installed.
//!
//! It scrapes every role, keeps the samples in memory, evaluates the very rule files that a Prometheus loads, tells
//! an Alertmanager, and answers `/api/v1`. A failure that no alert finds teaches nothing; this is what finds it.
//!
//! - [`text`], [`ingest`], [`scrape`]: from a target's metrics to samples
//! - [`rules`], [`template`], [`number`]: from samples to alerts
//! - [`notify`]: to an Alertmanager
//! - [`api`]: answers questions; [`ask`] asks them, here or of a real Prometheus

pub mod api;
pub mod ask;
pub mod ingest;
pub mod notify;
pub mod number;
pub mod rules;
pub mod scrape;
pub mod template;
pub mod text;
pub mod time;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use promql::{Engine, Limits, Options, Store};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::catalog;
use notify::{Messenger, Notifier, RESEND};
use rules::{Evaluation, Group, GroupView};
use scrape::{Scraper, Target};
use time::{Beat, now_ms};

/// How much the store may hold; when it is full new samples are dropped and counted. A lab with three replicas of
/// payments has 9 000 series, which take some 110 MB in 75 minutes; a series that seldom changes takes half of what
/// others do.
const STORE: Limits = Limits {
    max_series: 45_000,
    max_bytes: 192 << 20,
};

/// How full it may be and still take scraped samples: the rest is for `up` and what rules record. Otherwise targets
/// that expose too much would silence the alerts about all others.
const SCRAPED: Limits = Limits {
    max_series: 40_000,
    max_bytes: 160 << 20,
};

/// How many samples a question or a rule may read and make: some 100 MB.
const SAMPLES_MAX: usize = 5_000_000;

/// Questions to the store at the same time: with more, those who ask wait.
const QUESTIONS_MAX: usize = 4;

/// How often the store is looked at, and how many looks lie between two removals of what is too old.
const LOOK: Duration = Duration::from_secs(5);
const LOOKS_PER_TRIM: u32 = 12;

/// How long one rule may take.
const RULE_TIME_MAX: Duration = Duration::from_secs(10);

/// What the judge is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the rule file, for whoever asks.
    pub rules_name: String,
    /// The rule file's text.
    pub rules: String,
    /// How often targets are scraped, and rules evaluated whose group does not say.
    pub interval: Duration,
    /// The URL of an Alertmanager to tell, without a slash at its end.
    pub alertmanager: Option<String>,
}

/// Scrapes, evaluates, answers.
#[derive(Debug)]
pub struct Judge {
    store: Arc<RwLock<Store>>,
    scraper: Arc<Scraper>,
    rules_name: String,
    notice: Option<String>,
    groups: Vec<Evaluated>,
    engine: Engine,
    notifier: Option<Notifier>,
    messenger: Mutex<Option<Messenger>>,
    places: Arc<Semaphore>,
    /// Where this judge can be asked, once that is known.
    url: OnceLock<String>,
}

/// A group, and how its last evaluation left it.
#[derive(Debug)]
struct Evaluated {
    /// Held while it is evaluated.
    group: Mutex<Group>,
    view: Mutex<Arc<GroupView>>,
}

impl Evaluated {
    fn new(group: Group) -> Self {
        Self {
            view: Mutex::new(Arc::new(GroupView::from(&group))),
            group: Mutex::new(group),
        }
    }

    fn view(&self) -> Arc<GroupView> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, group: &Group) -> Arc<GroupView> {
        let now = Arc::new(GroupView::from(group));
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::clone(&now);
        now
    }
}

impl Judge {
    /// A judge by these rules. A sentence names the group and the rule that cannot be loaded.
    pub fn new(config: Config) -> Result<Self, String> {
        let groups = rules::load(&config.rules, config.interval)
            .map_err(|why| format!("the rules {} cannot be loaded: {why}", config.rules_name))?;
        let notice = rules::notice(&groups, config.interval);
        if let Some(notice) = &notice {
            tracing::warn!(target: "judge", rules = config.rules_name, "{notice}");
        }
        let store = Arc::new(RwLock::new(Store::new(STORE)));
        let (notifier, messenger) = config.alertmanager.as_deref().map(notify::to).unzip();
        notify::register_metrics();
        catalog::firedrill_judge_series_max().set(STORE.max_series as f64);
        catalog::firedrill_judge_store_bytes_max().set(STORE.max_bytes as f64);
        for outcome in ["ok", "failed"] {
            catalog::firedrill_judge_rule_evaluations_total(outcome).absolute(0);
        }
        catalog::firedrill_judge_rule_iterations_missed_total().absolute(0);
        let judge = Self {
            scraper: Arc::new(Scraper::new(Arc::clone(&store), SCRAPED, config.interval)),
            store,
            rules_name: config.rules_name,
            notice,
            groups: groups.into_iter().map(Evaluated::new).collect(),
            engine: Engine::new(Options {
                timeout: Some(RULE_TIME_MAX),
                max_samples: SAMPLES_MAX,
                subquery_step: config.interval,
                ..Options::default()
            }),
            notifier,
            messenger: Mutex::new(messenger),
            places: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            url: OnceLock::new(),
        };
        show(&judge.store.read().unwrap_or_else(PoisonError::into_inner));
        Ok(judge)
    }

    /// Runs until `stop` is cancelled. `targets` says what is to be scraped, `url` where this judge can be asked.
    pub async fn run(
        self: Arc<Self>,
        targets: watch::Receiver<Vec<Target>>,
        url: String,
        stop: CancellationToken,
    ) {
        // A second run would have the same address.
        drop(self.url.set(url));
        let tasks = TaskTracker::new();
        tasks.spawn(Arc::clone(&self.scraper).run(targets, stop.clone()));
        let messenger = self.messenger.lock();
        if let Some(messenger) = messenger.unwrap_or_else(PoisonError::into_inner).take() {
            tasks.spawn(messenger.run(stop.clone()));
        }
        for index in 0..self.groups.len() {
            let evaluating = Arc::clone(&self).evaluate(index);
            tasks.spawn(until(stop.clone(), evaluating));
        }
        tasks.spawn(until(stop, Arc::clone(&self).keep_house()));
        tasks.close();
        tasks.wait().await;
    }

    /// Evaluates one group, again and again.
    async fn evaluate(self: Arc<Self>, index: usize) {
        let group = self.groups[index].view();
        let mut beat = Beat::new(group.interval, &group.name);
        loop {
            let (at, missed) = beat.next().await;
            catalog::firedrill_judge_rule_iterations_missed_total().increment(missed);
            let judge = Arc::clone(&self);
            let evaluating = tokio::task::spawn_blocking(move || judge.evaluate_once(index, at));
            if let Err(error) = evaluating.await {
                tracing::error!(target: "judge", error = %error, "A group could not be evaluated.");
            }
        }
    }

    fn evaluate_once(&self, index: usize, at: i64) {
        let evaluated = &self.groups[index];
        let group = evaluated.group.lock();
        let mut group = group.unwrap_or_else(PoisonError::into_inner);
        let before = evaluated.view();
        let evaluation = group.evaluate(&self.store, &self.engine, at, RESEND);
        count(&group, &evaluation);
        log_changes(&before, &evaluated.show(&group));
        if let Some(notifier) = &self.notifier {
            for (expression, alert) in &evaluation.due {
                notifier.tell(alert, at, group.interval, &self.generator(expression));
            }
        }
    }

    /// Where the value of an expression can be looked at.
    fn generator(&self, expression: &str) -> String {
        let url = self.url.get().map_or("", String::as_str);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("query", expression);
        format!("{url}/api/v1/query?{}", query.finish())
    }

    /// Shows how full the store is, and removes what is too old.
    async fn keep_house(self: Arc<Self>) {
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        for look in 1_u32.. {
            beat.tick().await;
            let judge = Arc::clone(&self);
            let looking = tokio::task::spawn_blocking(move || {
                if look.is_multiple_of(LOOKS_PER_TRIM) {
                    let mut store = judge.store.write().unwrap_or_else(PoisonError::into_inner);
                    store.trim(now_ms());
                }
                show(&judge.store.read().unwrap_or_else(PoisonError::into_inner));
            });
            if let Err(error) = looking.await {
                tracing::error!(target: "judge", error = %error, "The store could not be trimmed.");
            }
        }
    }

    /// Each group as its last evaluation left it.
    pub fn groups(&self) -> impl Iterator<Item = Arc<GroupView>> {
        self.groups.iter().map(Evaluated::view)
    }

    /// What whoever reads the alerts should know about the rules, in a sentence.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// The alerts that are pending or firing.
    #[must_use]
    pub fn alerts(&self) -> Vec<ask::Alert> {
        let mut alerts = Vec::new();
        for group in self.groups() {
            let alerting = group.rules.iter().filter_map(|rule| rule.alerting.as_ref());
            alerts.extend(alerting.flat_map(|rule| &rule.alerts).map(ask::Alert::from));
        }
        alerts
    }

    /// The rules that failed at their last evaluation: name and error.
    #[must_use]
    pub fn broken_rules(&self) -> Vec<(String, String)> {
        let mut broken = Vec::new();
        for group in self.groups() {
            let failed = group.rules.iter().filter_map(|rule| {
                let error = rule.last_error.clone()?;
                Some((rule.name.clone(), error))
            });
            broken.extend(failed);
        }
        broken
    }
}

/// Tells the log which rules fail that did not, and which do not any more.
fn log_changes(before: &GroupView, now: &GroupView) {
    let group = now.name.as_str();
    for (rule, error, failed) in changes(before, now) {
        if failed {
            tracing::warn!(target: "judge", group, rule, error, "A rule cannot be evaluated.");
        } else {
            tracing::info!(target: "judge", group, rule, "A rule can be evaluated again.");
        }
    }
}

/// The rules that fail and did not, and those that do not any more, with the error of now or of before.
fn changes<'a>(
    before: &'a GroupView,
    now: &'a GroupView,
) -> impl Iterator<Item = (&'a str, &'a str, bool)> {
    let both = before.rules.iter().zip(&now.rules);
    both.filter_map(|(old, new)| match (&old.last_error, &new.last_error) {
        (None, Some(error)) => Some((new.name.as_str(), error.as_str(), true)),
        (Some(error), None) => Some((new.name.as_str(), error.as_str(), false)),
        _ => None,
    })
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn show(store: &Store) {
    let stats = store.stats();
    catalog::firedrill_judge_series().set(stats.series as f64);
    catalog::firedrill_judge_store_bytes().set(stats.bytes as f64);
}

fn count(group: &Group, evaluation: &Evaluation) {
    let Evaluation {
        samples,
        refused,
        failures,
        ..
    } = evaluation;
    let (rules, failures) = (group.rules.len() as u64, *failures as u64);
    catalog::firedrill_judge_rule_evaluations_total("ok").increment(rules - failures);
    catalog::firedrill_judge_rule_evaluations_total("failed").increment(failures);
    catalog::firedrill_judge_samples_total("kept")
        .increment((samples - samples.min(refused)) as u64);
    catalog::firedrill_judge_samples_total("dropped").increment(*refused as u64);
    let seconds = group.evaluation_time.as_secs_f64();
    catalog::firedrill_judge_rule_group_duration_seconds(group.name.clone()).record(seconds);
}

#[cfg(test)]
mod tests {
    use promql::{Labels, Sample};

    use super::*;

    fn judge(rules: &str) -> Arc<Judge> {
        let config = Config {
            rules_name: "own".into(),
            rules: format!("groups: [{{name: g, rules: [{rules}]}}]"),
            interval: Duration::from_secs(1),
            alertmanager: None,
        };
        Arc::new(Judge::new(config).unwrap())
    }

    #[test]
    fn alerts_are_told_while_rules_are_evaluated() {
        let judge = judge("{alert: A, expr: vector(1)}");
        assert_eq!(judge.alerts().len(), 0);
        judge.evaluate_once(0, 1_000);
        let evaluating = judge.groups[0].group.lock().unwrap();
        let other = Arc::clone(&judge);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send((other.alerts().len(), other.broken_rules().len())));
        let told = told.recv_timeout(Duration::from_secs(60));
        assert_eq!(told, Ok((1, 0)), "it waits for the evaluation");
        drop(evaluating);
    }

    #[test]
    fn the_log_names_the_rules_that_have_changed() {
        let judge = judge(
            "{record: a, expr: 'm * on () m'}, {record: b, expr: m, labels: {x: same}}, {record: c, expr: m}",
        );
        let write = |x: &str, at: i64, stale: bool| {
            let mut store = judge.store.write().unwrap();
            let series = Labels::new([("__name__", "m"), ("x", x)]);
            let series = store.register(&series, RULE_TIME_MAX * 600).unwrap();
            let sample = if stale {
                Sample::stale(at)
            } else {
                Sample::new(at, 1.0)
            };
            store.append(series, sample).unwrap();
        };
        let step = |at: i64| -> Vec<(String, bool)> {
            let before = judge.groups[0].view();
            judge.evaluate_once(0, at);
            let now = judge.groups[0].view();
            let changed = changes(&before, &now);
            changed
                .map(|(rule, error, failed)| {
                    assert!(!error.is_empty());
                    (rule.to_owned(), failed)
                })
                .collect()
        };
        write("1", 1_000, false);
        assert_eq!(step(1_000), []);
        write("2", 2_000, false);
        assert_eq!(
            step(2_000),
            [("a".to_owned(), true), ("b".to_owned(), true)]
        );
        assert_eq!(step(3_000), []);
        write("2", 4_000, true);
        assert_eq!(
            step(4_000),
            [("a".to_owned(), false), ("b".to_owned(), false)]
        );
    }
}
