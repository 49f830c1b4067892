//! The rules as the console evaluates them, against what a real Prometheus made of the same samples.
//!
//! Only what was scraped is taken over; whatever rules record is made anew, at the very times at which Prometheus did
//! it. These are told by a rule that is added to each group of the copy that Prometheus loads:
//!
//! ```yaml
//! - {record: differential:evaluated, expr: vector(1), labels: {group: NAME}}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;
use std::time::Duration;

use firedrill::judge::rules::{self, Group, RuleKind};
use promql::{Labels, Limits, Matcher, Sample, Store};

use crate::compare;
use crate::report::say;
use crate::run::Pair;

/// The series that tells when a group was evaluated, and its label with the name of the group.
const PROBE: &str = "differential:evaluated";
const PROBE_LABEL: &str = "group";

/// Longer than any run.
const KEPT: Duration = Duration::from_secs(86_400);

/// Every second of a group whose `interval` is not given.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many differences are printed.
const SHOWN: usize = 20;

/// The samples of one series by time.
type Samples = BTreeMap<i64, Sample>;

/// Compares all evaluations that the recording holds; returns whether nothing differed but the first ones. `delay` is
/// the `rule_query_offset` of that Prometheus, in milliseconds: rules look at, and write to, the time so long ago, so
/// that every scrape of that time has been stored.
pub(crate) fn compare(pair: &Pair<'_>, text: &str, delay: i64) -> Result<bool, String> {
    let (recorded, (_, end)) = (pair.store, pair.bounds);
    let engine = pair.engine(None);
    let mut groups = rules::load(text, INTERVAL)?;
    let names: BTreeSet<String> = groups.iter().flat_map(made_names).collect();
    let store = RwLock::new(only_scraped(recorded, &names)?);
    let mut evaluations = BTreeSet::new();
    for (position, group) in groups.iter().enumerate() {
        let times = probe_times(recorded, &group.name);
        if times.is_empty() {
            return Err(format!("no {PROBE} of the group {:?}", group.name));
        }
        evaluations.extend(
            times
                .into_iter()
                .filter(|at| *at <= end)
                .map(|at| (at, position)),
        );
    }
    for (at, position) in &evaluations {
        groups[*position].evaluate(&store, &engine, *at, INTERVAL);
    }
    let store = store.into_inner().map_err(|error| error.to_string())?;
    let mut table = Table::default();
    for name in &names {
        table.add(
            name,
            &made(recorded, name, end, delay),
            &made(&store, name, end, 0),
            &evaluations,
        );
    }
    say(&format!(
        "\n{} evaluations of {} groups\n{table}",
        evaluations.len(),
        groups.len()
    ));
    Ok(table.different == 0)
}

/// The names of the series that a group writes.
fn made_names(group: &Group) -> impl Iterator<Item = String> {
    group.rules.iter().flat_map(|rule| match &rule.kind {
        RuleKind::Recording(recording) => vec![recording.name.clone()],
        RuleKind::Alerting(_) => vec!["ALERTS".into(), "ALERTS_FOR_STATE".into()],
    })
}

fn only_scraped(recorded: &Store, names: &BTreeSet<String>) -> Result<Store, String> {
    let mut store = Store::new(Limits {
        max_series: 1_000_000,
        max_bytes: 4 << 30,
    });
    for series in recorded.select(&[Matcher::not_equal("__name__", PROBE)]) {
        if names.contains(series.labels().metric_name()) {
            continue;
        }
        let mut samples = Vec::new();
        series.read(i64::MIN, i64::MAX, &mut samples);
        let copy = store
            .register(series.labels(), KEPT)
            .map_err(|error| error.to_string())?;
        for sample in samples {
            store
                .append(copy, sample)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(store)
}

fn probe_times(recorded: &Store, group: &str) -> Vec<i64> {
    let matchers = [
        Matcher::equal("__name__", PROBE),
        Matcher::equal(PROBE_LABEL, group),
    ];
    let mut samples = Vec::new();
    for series in recorded.select(&matchers) {
        series.read(i64::MIN, i64::MAX, &mut samples);
    }
    samples
        .iter()
        .filter(|sample| !sample.is_stale())
        .map(|sample| sample.timestamp)
        .collect()
}

/// The series with a name and their samples up to `end`, stale markers included. `ALERTS_FOR_STATE` holds a time of
/// the clock, which is `delay` ahead of the time that the rule looks at.
fn made(store: &Store, name: &str, end: i64, delay: i64) -> BTreeMap<Labels, Samples> {
    let mut found = BTreeMap::new();
    for series in store.select(&[Matcher::equal("__name__", name)]) {
        let mut samples = Vec::new();
        series.read(i64::MIN, end, &mut samples);
        for sample in &mut samples {
            if name == "ALERTS_FOR_STATE" && !sample.is_stale() {
                sample.value -= delay as f64 / 1e3;
            }
        }
        let by_time = samples
            .into_iter()
            .map(|sample| (sample.timestamp, sample))
            .collect();
        found.insert(series.labels().clone(), by_time);
    }
    found
}

/// What was compared, by name of the series.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<(String, Counts)>,
    different: usize,
    shown: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    series: usize,
    equal: usize,
    /// Ours alone, at the first evaluations: Prometheus writes no `ALERTS` before it has restored their state.
    held_back: usize,
    different: usize,
}

impl Table {
    fn add(
        &mut self,
        name: &str,
        theirs: &BTreeMap<Labels, Samples>,
        ours: &BTreeMap<Labels, Samples>,
        evaluations: &BTreeSet<(i64, usize)>,
    ) {
        let nothing = Samples::new();
        let all: BTreeSet<&Labels> = theirs.keys().chain(ours.keys()).collect();
        let mut counts = Counts {
            series: all.len(),
            ..Counts::default()
        };
        for labels in all {
            let (theirs, ours) = (
                theirs.get(labels).unwrap_or(&nothing),
                ours.get(labels).unwrap_or(&nothing),
            );
            let times: BTreeSet<&i64> = theirs.keys().chain(ours.keys()).collect();
            for at in times {
                match (theirs.get(at), ours.get(at)) {
                    (Some(a), Some(b)) if same(a, b) => counts.equal += 1,
                    (None, Some(_)) if name.starts_with("ALERTS") && is_first(*at, evaluations) => {
                        counts.held_back += 1;
                    }
                    (a, b) => {
                        counts.different += 1;
                        let show = |sample: Option<&Sample>| {
                            sample.map_or("nothing".into(), |sample| {
                                if sample.is_stale() {
                                    "stale".into()
                                } else {
                                    sample.value.to_string()
                                }
                            })
                        };
                        self.shown.push(format!(
                            "{labels} at {at}: theirs {}, ours {}",
                            show(a),
                            show(b)
                        ));
                    }
                }
            }
        }
        self.different += counts.different;
        self.rows.push((name.to_owned(), counts));
    }
}

fn same(a: &Sample, b: &Sample) -> bool {
    a.is_stale() == b.is_stale() && compare::nearly(a.value, b.value)
}

/// Whether so early that Prometheus still restores alerts: the first two evaluations of a group.
fn is_first(at: i64, evaluations: &BTreeSet<(i64, usize)>) -> bool {
    let groups = evaluations
        .iter()
        .filter(|(time, _)| *time == at)
        .map(|(_, group)| *group);
    groups.into_iter().any(|group| {
        let earlier = evaluations
            .iter()
            .filter(|(time, other)| *other == group && *time < at);
        earlier.count() < 2
    })
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:44} {:>8} {:>8} {:>10} {:>9}",
            "written by rules", "series", "equal", "held back", "different"
        )?;
        for (name, counts) in &self.rows {
            let Counts {
                series,
                equal,
                held_back,
                different,
            } = counts;
            writeln!(
                f,
                "{name:44} {series:>8} {equal:>8} {held_back:>10} {different:>9}"
            )?;
        }
        for line in self.shown.iter().take(SHOWN) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}
