//! What the judge itself knows: rules, alerts, targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::envelope::{Failure, Success};
use super::parameters::Parameters;
use crate::judge::Judge;
use crate::judge::ask::{Alert, Alerts};
use crate::judge::ingest::Metadata;
use crate::judge::rules::{self, Group, Recording, Rule, RuleKind};
use crate::judge::scrape::{Health, JOB, Target};
use crate::judge::time::{format_duration, rfc3339};

/// The version of Prometheus whose API and PromQL this is: Grafana decides by it what it may ask.
const PROMETHEUS: &str = "3.5.0";

type Answer<T> = Result<Success<T>, Failure>;

/// Runs what may have to wait for an evaluation or a scrape to be written.
async fn look<T: Send + 'static>(
    judge: Arc<Judge>,
    look: impl FnOnce(&Judge) -> T + Send + 'static,
) -> Result<T, Failure> {
    let looking = tokio::task::spawn_blocking(move || look(&judge));
    looking.await.map_err(|error| Failure::internal(&error))
}

/// `/api/v1/alerts`: the alerts that are pending or firing.
pub(super) async fn alerts(State(judge): State<Arc<Judge>>) -> Answer<Alerts> {
    let alerts = look(judge, Judge::alerts).await?;
    Ok(Success::new(Alerts { alerts }))
}

impl From<&rules::Alert> for Alert {
    fn from(alert: &rules::Alert) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            labels: alert.labels.iter().map(owned).collect(),
            annotations: alert.annotations.iter().cloned().collect(),
            state: alert.state.as_str().into(),
            active_at: rfc3339(alert.active_at),
            keep_firing_since: alert.keep_firing_since.map(rfc3339),
            value: crate::judge::number::scientific(alert.value),
        }
    }
}

/// `/api/v1/rules`: every rule and how it did at last.
pub(super) async fn rules(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer<Value> {
    let kind = match asked.get("type") {
        None => None,
        Some("alert") => Some("alerting"),
        Some("record") => Some("recording"),
        Some(other) => {
            let why = format!("not supported value {other:?}; allowed are alert and record");
            return Err(Failure::parameter("type", &why));
        }
    };
    let names = |name: &str| asked.all(name).map(str::to_owned).collect::<Vec<_>>();
    let (groups, rules) = (names("rule_group[]"), names("rule_name[]"));
    let files = names("file[]");
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    let answer = look(judge, move |judge| {
        let mut answer = Vec::new();
        judge.each_group(|file, group| {
            if !wanted(&groups, &group.name) || !wanted(&files, file) {
                return;
            }
            let of_group = group
                .rules
                .iter()
                .filter(|rule| wanted(&rules, rule.name()));
            let of_group: Vec<Value> = of_group
                .map(rule)
                .filter(|rule| kind.is_none_or(|kind| rule["type"] == kind))
                .collect();
            // Whoever asks for some rules does not want the groups that have none of them.
            if !of_group.is_empty() || (kind.is_none() && rules.is_empty()) {
                answer.push(described(file, group, &of_group));
            }
        });
        answer
    });
    Ok(Success::new(json!({ "groups": answer.await? })))
}

fn described(file: &str, group: &Group, rules: &[Value]) -> Value {
    json!({
        "name": group.name,
        "file": file,
        "rules": rules,
        "interval": group.interval.as_secs_f64(),
        "limit": group.limit,
        "evaluationTime": group.evaluation_time.as_secs_f64(),
        "lastEvaluation": moment(group.last_evaluation),
    })
}

/// A time; that of a thing that has not happened yet is the one that Go prints for none.
fn moment(ms: i64) -> String {
    if ms == 0 {
        "0001-01-01T00:00:00Z".into()
    } else {
        rfc3339(ms)
    }
}

fn rule(rule: &Rule) -> Value {
    let mut told = match &rule.kind {
        RuleKind::Recording(Recording { name, labels }) => json!({
            "name": name,
            "labels": labels.iter().cloned().collect::<BTreeMap<_, _>>(),
            "type": "recording",
        }),
        RuleKind::Alerting(alerting) => {
            let (labels, annotations) = alerting.templates();
            let alerts: Vec<Alert> = alerting.alerts().map(Alert::from).collect();
            let (hold, keep_firing) = alerting.durations();
            json!({
                "name": alerting.name(),
                "state": alerting.state().as_str(),
                "duration": hold.as_secs_f64(),
                "keepFiringFor": keep_firing.as_secs_f64(),
                "labels": labels,
                "annotations": annotations,
                "alerts": alerts,
                "type": "alerting",
            })
        }
    };
    told["query"] = rule.query.text().into();
    told["evaluationTime"] = rule.evaluation_time.as_secs_f64().into();
    told["lastEvaluation"] = moment(rule.last_evaluation).into();
    told["health"] = match &rule.last_error {
        _ if rule.last_evaluation == 0 => "unknown".into(),
        None => "ok".into(),
        Some(_) => "err".into(),
    };
    if let Some(error) = &rule.last_error {
        told["lastError"] = error.as_str().into();
    }
    told
}

/// `/api/v1/targets`: what is scraped, and how that went at last.
pub(super) async fn targets(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer<Value> {
    let active = match asked.get("state").unwrap_or("any") {
        "active" | "any" => true,
        "dropped" => false,
        other => {
            let why = format!("{other:?} is none of active, dropped and any");
            return Err(Failure::parameter("state", &why));
        }
    };
    let pace = judge.scraper.pace();
    let targets = judge.scraper.targets();
    let targets = targets.iter().filter(|_| active);
    let told: Vec<Value> = targets
        .map(|(target, health)| one(target, health, pace))
        .collect();
    Ok(Success::new(json!({
        "activeTargets": told,
        "droppedTargets": [],
        "droppedTargetCounts": { JOB: 0 },
    })))
}

fn one(target: &Target, health: &Health, (interval, timeout): (Duration, Duration)) -> Value {
    let labels: BTreeMap<_, _> = target.labels().into();
    let discovered = json!({
        "__address__": target.instance,
        "__metrics_path__": "/metrics",
        "__scheme__": "http",
        "__scrape_interval__": format_duration(interval),
        "__scrape_timeout__": format_duration(timeout),
        "job": JOB,
        "role": target.role,
    });
    json!({
        "discoveredLabels": discovered,
        "labels": labels,
        "scrapePool": JOB,
        "scrapeUrl": target.url(),
        "globalUrl": target.url(),
        "lastError": health.error,
        "lastScrape": moment(health.at),
        "lastScrapeDuration": health.duration.as_secs_f64(),
        "health": match health.up {
            None => "unknown",
            Some(true) => "up",
            Some(false) => "down",
        },
        "scrapeInterval": format_duration(interval),
        "scrapeTimeout": format_duration(timeout),
    })
}

/// `/api/v1/metadata`: type and help text of each metric.
pub(super) async fn metadata(
    State(judge): State<Arc<Judge>>,
    asked: Parameters,
) -> Answer<BTreeMap<String, Vec<Value>>> {
    let limit = asked.limit()?;
    let mut all = look(judge, |judge| judge.scraper.metadata()).await?;
    if let Some(metric) = asked.get("metric") {
        all.retain(|name, _| name == metric);
    }
    let wanted = if limit == 0 { all.len() } else { limit };
    let told = |Metadata { kind, help }: Metadata| {
        let kind = if kind.is_empty() { "unknown" } else { &kind };
        json!({ "type": kind, "help": help, "unit": "" })
    };
    let one = |(name, list): (String, Vec<Metadata>)| (name, list.into_iter().map(told).collect());
    Ok(Success::new(
        all.into_iter().take(wanted).map(one).collect(),
    ))
}

/// `/api/v1/query_exemplars`: none are kept, which is no error.
pub(super) async fn exemplars() -> (StatusCode, Success<Vec<Value>>) {
    (StatusCode::OK, Success::new(Vec::new()))
}

/// `/api/v1/status/buildinfo`: which Prometheus this is to be taken for.
pub(super) async fn buildinfo() -> Success<Value> {
    Success::new(json!({
        "version": PROMETHEUS,
        "revision": concat!("firedrill ", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}
