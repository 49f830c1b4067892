//! The alert rules: what each alert must carry, that its metrics exist, and that the drill profile is made of
//! the production one. What the rules do is tested by `promtool` (alerts/tests, `.ci/check-rules`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firedrill::rules::{PRODUCTION, compress};
use firedrill::telemetry::catalog::{CATALOGUE, Kind};
use serde::Deserialize;

use crate::support::firedrill;

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    interval: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn parsed(text: &str) -> Vec<Group> {
    serde_saphyr::from_str::<File>(text).unwrap().groups
}

fn rules() -> Vec<Rule> {
    parsed(PRODUCTION)
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

pub(crate) fn alerts() -> BTreeSet<String> {
    rules().into_iter().filter_map(|rule| rule.alert).collect()
}

#[test]
fn every_alert_says_what_it_means_and_where_to_look() {
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let severity = rule.labels["severity"].as_str();
        assert!(["critical", "warning"].contains(&severity), "{alert}");
        assert!(!rule.labels["service"].is_empty(), "{alert}");
        for key in ["summary", "description"] {
            let text = &rule.annotations[key];
            assert!(text.len() > 10, "{alert}: {key} {text:?}");
            // A window in words would be wrong in the other profile.
            let is_time = |word: &str| {
                let number = word.trim_end_matches(['s', 'm', 'h', 'd']);
                number != word && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
            };
            assert!(!text.split_whitespace().any(is_time), "{alert}: {text}");
        }
        let runbook = &rule.annotations["runbook_url"];
        assert_eq!(runbook, &format!("docs/runbooks/{alert}.md"));
        let text = read(runbook);
        assert!(text.starts_with(&format!("# {alert}\n")), "{runbook}");
        for part in [
            "What it means",
            "Look first",
            "Likely causes",
            "Stop the bleeding",
        ] {
            assert!(
                text.contains(&format!("\n## {part}\n")),
                "{runbook}: {part}"
            );
        }
    }
}

#[test]
fn every_runbook_belongs_to_an_alert() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(alerts().contains(name.trim_end_matches(".md")), "{name}");
    }
}

/// The words of an expression that could be the name of a metric.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| {
            ["firedrill_", "http_", "db_", "tokio_", "process_", "otel_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
                || word.contains(':')
        })
}

/// The names of series and labels that a rule or a drill may ask for.
pub(crate) fn series_that_exist() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = [
        "process_cpu_seconds_total",
        "tokio_worker_busy_seconds_total",
        // Those of whoever scrapes.
        "scrape_samples_scraped",
        "scrape_duration_seconds",
    ]
    .map(str::to_owned)
    .into();
    for metric in CATALOGUE {
        known.extend(metric.labels.iter().map(|label| (*label).to_owned()));
        if metric.kind == Kind::Histogram {
            known.extend(["_bucket", "_count", "_sum"].map(|end| metric.name.to_owned() + end));
        } else {
            known.insert(metric.name.to_owned());
        }
    }
    known.extend(rules().into_iter().filter_map(|rule| rule.record));
    known
}

#[test]
fn every_metric_that_a_rule_asks_for_exists() {
    let known = series_that_exist();
    let mut asked = 0;
    for rule in rules() {
        for word in words(&rule.expr) {
            assert!(known.contains(word), "{word} in {}", rule.expr);
            asked += 1;
        }
    }
    assert!(asked > 100, "the words were not found: {asked}");
}

#[test]
fn bounds_of_buckets_exist_and_are_no_whole_numbers() {
    for rule in rules() {
        for (position, found) in rule.expr.match_indices("le=\"") {
            let rest = &rule.expr[position + found.len()..];
            let le: f64 = rest.split('"').next().unwrap().parse().unwrap();
            assert!(
                le.fract() > 0.0,
                "{le}: Prometheus 2 and 3 write it differently"
            );
            let buckets = firedrill::telemetry::catalog::REQUEST_SECONDS;
            assert!(
                buckets.iter().any(|bucket| (bucket - le).abs() < 1e-12),
                "{le}"
            );
        }
    }
}

#[test]
fn the_drill_profile_is_the_production_one_with_shorter_time() {
    let made = compress(PRODUCTION, 60).unwrap();
    assert!(
        made == read("alerts/firedrill.drill.rules.yml"),
        "make it anew: firedrill rules --compress 60 > alerts/firedrill.drill.rules.yml"
    );
    let (production, drill) = (parsed(PRODUCTION), parsed(&made));
    assert_eq!(production.len(), drill.len());
    for (long, short) in production.iter().zip(&drill) {
        assert_eq!(long.name, short.name);
        assert_ne!(long.interval, short.interval);
        for (long, short) in long.rules.iter().zip(&short.rules) {
            assert_eq!((&long.record, &long.alert), (&short.record, &short.alert));
            assert_eq!(long.annotations, short.annotations);
            let floor = short
                .lasting
                .as_deref()
                .is_none_or(|wait| !["1s", "2s", "3s", "4s"].contains(&wait));
            assert!(floor, "{:?}", short.alert);
        }
    }
}

#[test]
fn the_command_prints_both_profiles_and_refuses_others() {
    let run = |arguments: &[&str]| firedrill().args(arguments).output().unwrap();
    let production = run(&["rules"]);
    assert_eq!(String::from_utf8(production.stdout).unwrap(), PRODUCTION);
    let drill = run(&["rules", "--compress", "60"]);
    let committed = read("alerts/firedrill.drill.rules.yml");
    assert_eq!(String::from_utf8(drill.stdout).unwrap(), committed);
    assert_eq!(run(&["rules", "--compress", "0"]).status.code(), Some(2));
}

/// What `alerts/seen-live.md` says of each alert: whether it was seen firing.
fn record() -> BTreeMap<String, String> {
    let record = read("alerts/seen-live.md");
    let mut listed = BTreeMap::new();
    for line in record.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [alert, seen, how] = cells[..] else {
            panic!("three cells: {line}");
        };
        assert!(["yes", "never"].contains(&seen), "{line}");
        assert!(
            !how.is_empty() && (seen == "yes" || how.len() > 40),
            "{line}"
        );
        let alert = alert.trim_matches('`').to_owned();
        assert!(listed.insert(alert, seen.to_owned()).is_none(), "{line}");
    }
    listed
}

/// Each alert stands once in the record: seen on a real Prometheus, or never seen, with a reason.
#[test]
fn every_alert_was_seen_or_is_listed_as_never_seen() {
    assert_eq!(record().into_keys().collect::<BTreeSet<_>>(), alerts());
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<TestCase>,
}

#[derive(Deserialize)]
struct TestCase {
    #[serde(default)]
    alert_rule_test: Vec<Moment>,
}

/// What is expected of an alert at one moment of a test.
#[derive(Deserialize)]
struct Moment {
    alertname: String,
    exp_alerts: Vec<BTreeMap<String, BTreeMap<String, String>>>,
}

/// The files of rule tests that ask for an alert, each with how often it must fire and be silent there.
fn tested() -> BTreeMap<String, BTreeMap<String, (usize, usize)>> {
    let mut found: BTreeMap<_, BTreeMap<_, (usize, usize)>> = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file: TestFile =
            serde_saphyr::from_str(&read(&format!("alerts/tests/{name}"))).unwrap();
        let stem = name.trim_end_matches(".test.yml");
        for moment in file.tests.into_iter().flat_map(|case| case.alert_rule_test) {
            let of = found.entry(moment.alertname).or_default();
            let (fires, silent) = of.entry(stem.to_owned()).or_default();
            *(if moment.exp_alerts.is_empty() {
                silent
            } else {
                fires
            }) += 1;
        }
    }
    found
}

/// The table of `alerts/README.md` is made of the rules, their tests and the record.
#[test]
fn the_table_of_alerts_is_up_to_date() {
    let (record, tested) = (record(), tested());
    let mut table = String::from(
        "| alert | severity | its rule tests: file, fires, silent | seen live |\n|---|---|---|---|\n",
    );
    let mut named = BTreeSet::new();
    for rule in rules() {
        let Some(alert) = rule.alert.filter(|alert| named.insert(alert.clone())) else {
            continue;
        };
        let of = tested.get(&alert);
        let of = of.unwrap_or_else(|| panic!("{alert} has no rule test"));
        let fires: usize = of.values().map(|(fires, _)| fires).sum();
        let silent: usize = of.values().map(|(_, silent)| silent).sum();
        assert!(
            fires >= 1 && silent >= 2,
            "{alert} must fire once, and be silent before and after: {of:?}"
        );
        let severities: BTreeSet<_> = rules()
            .into_iter()
            .filter(|other| other.alert.as_deref() == Some(&alert))
            .map(|other| other.labels["severity"].clone())
            .collect();
        let severities: Vec<_> = severities.into_iter().collect();
        let files: Vec<_> = of
            .iter()
            .map(|(file, (fires, silent))| format!("{file}, {fires}, {silent}"))
            .collect();
        let cells = [
            format!("[`{alert}`](../docs/runbooks/{alert}.md)"),
            severities.join(", "),
            files.join("; "),
            record[&alert].clone(),
        ];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    assert!(
        read("alerts/README.md").contains(&table),
        "alerts/README.md must hold this table:\n\n{table}"
    );
}
