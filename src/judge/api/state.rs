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
use crate::judge::rules::{self, GroupView, RuleView};
use crate::judge::scrape::{Health, JOB, Target};
use crate::judge::time::{format_duration, rfc3339};

/// The version of Prometheus whose API and PromQL this is: Grafana decides by it what it may ask.
const PROMETHEUS: &str = "3.5.0";

type Answer<T> = Result<Success<T>, Failure>;

/// `/api/v1/alerts`: the alerts that are pending or firing.
pub(super) async fn alerts(State(judge): State<Arc<Judge>>) -> Success<Alerts> {
    let alerts = judge.alerts();
    Success::new(Alerts { alerts })
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
    asked.refuse(&["match[]", "group_limit", "group_next_token"])?;
    let alerting = match asked.get("type") {
        None => None,
        Some("alert") => Some(true),
        Some("record") => Some(false),
        Some(other) => {
            let why = format!("not supported value {other:?}; allowed are alert and record");
            return Err(Failure::parameter("type", &why));
        }
    };
    let with_alerts = !asked.switch("exclude_alerts")?;
    let wanted = |parameter: &str, name: &str| {
        let mut all = asked.all(parameter).peekable();
        all.peek().is_none() || all.any(|one| one == name)
    };
    let by_rule = asked.all("rule_name[]").next().is_some();
    let mut answer = Vec::new();
    for group in judge.groups() {
        if !wanted("rule_group[]", &group.name) || !wanted("file[]", &judge.rules_name) {
            continue;
        }
        let of_group = group.rules.iter().filter(|rule| {
            wanted("rule_name[]", &rule.name)
                && alerting.is_none_or(|alerting| rule.alerting.is_some() == alerting)
        });
        let of_group: Vec<Value> = of_group.map(|rule| told(rule, with_alerts)).collect();
        // Whoever asks for some rules does not want the groups that have none of them.
        if !of_group.is_empty() || (alerting.is_none() && !by_rule) {
            answer.push(described(&judge.rules_name, &group, &of_group));
        }
    }
    Ok(Success::new(json!({ "groups": answer })))
}

fn described(file: &str, group: &GroupView, rules: &[Value]) -> Value {
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

fn told(rule: &RuleView, with_alerts: bool) -> Value {
    let by_name = |texts: &[(String, String)]| texts.iter().cloned().collect::<BTreeMap<_, _>>();
    let mut told = json!({
        "name": rule.name,
        "query": rule.query,
        "labels": by_name(&rule.labels),
        "evaluationTime": rule.evaluation_time.as_secs_f64(),
        "lastEvaluation": moment(rule.last_evaluation),
        "health": match &rule.last_error {
            _ if rule.last_evaluation == 0 => "unknown",
            None => "ok",
            Some(_) => "err",
        },
        "type": if rule.alerting.is_some() { "alerting" } else { "recording" },
    });
    if let Some(error) = &rule.last_error {
        told["lastError"] = error.as_str().into();
    }
    if let Some(alerting) = &rule.alerting {
        let alerts = alerting.alerts.iter().filter(|_| with_alerts);
        told["state"] = alerting.state.as_str().into();
        told["duration"] = alerting.hold.as_secs_f64().into();
        told["keepFiringFor"] = alerting.keep_firing.as_secs_f64().into();
        told["annotations"] = json!(by_name(&alerting.annotations));
        told["alerts"] = json!(alerts.map(Alert::from).collect::<Vec<_>>());
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
    let in_pool = asked.get("scrapePool").is_none_or(|pool| pool == JOB);
    let pace = judge.scraper.pace();
    let targets = judge.scraper.targets();
    let targets = targets.iter().filter(|_| active && in_pool);
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
    let (limit, per_metric) = (asked.limit()?, asked.number("limit_per_metric")?);
    // It may have to wait for a scrape to be written.
    let looking = tokio::task::spawn_blocking(move || judge.scraper.metadata());
    let mut all = looking.await.map_err(|error| Failure::internal(&error))?;
    if let Some(metric) = asked.get("metric") {
        all.retain(|name, _| name == metric);
    }
    let wanted = if limit == 0 { all.len() } else { limit };
    let told = |Metadata { kind, help }: Metadata| {
        let kind = if kind.is_empty() { "unknown" } else { &kind };
        json!({ "type": kind, "help": help, "unit": "" })
    };
    let one = |(name, mut list): (String, Vec<Metadata>)| {
        if per_metric > 0 {
            list.truncate(per_metric);
        }
        (name, list.into_iter().map(told).collect())
    };
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

#[cfg(test)]
mod tests {
    use axum::extract::FromRequest as _;

    use super::*;
    use crate::judge::Config;

    fn judge() -> Arc<Judge> {
        let config = Config {
            rules_name: "own".into(),
            rules: "groups: [{name: g, rules: [{record: r, expr: '1'}, {alert: A, expr: '1'}]}]"
                .into(),
            interval: Duration::from_secs(1),
            alertmanager: None,
        };
        let judge = Judge::new(config).unwrap();
        judge.evaluate_once(0, 1_000);
        Arc::new(judge)
    }

    async fn asked(query: &str) -> Parameters {
        let request = axum::http::Request::get(format!("/?{query}"));
        let request = request.body(axum::body::Body::empty()).unwrap();
        Parameters::from_request(request, &()).await.unwrap()
    }

    async fn of_rules(query: &str) -> Result<Value, Failure> {
        let answer = rules(State(judge()), asked(query).await).await?;
        Ok(answer.data["groups"].clone())
    }

    #[tokio::test]
    async fn rules_are_chosen_as_prometheus_does() {
        let count = |groups: &Value| groups[0]["rules"].as_array().map(Vec::len);
        assert_eq!(count(&of_rules("").await.unwrap()), Some(2));
        for (query, expected) in [
            ("type=alert", Some(1)),
            ("rule_name[]=r&rule_group[]=g&file[]=own", Some(1)),
            ("rule_name[]=other", None),
            ("file[]=other", None),
        ] {
            assert_eq!(count(&of_rules(query).await.unwrap()), expected, "{query}");
        }
        let alerts = async |query| {
            let groups = of_rules(query).await.unwrap();
            groups[0]["rules"][1]["alerts"].as_array().unwrap().len()
        };
        assert_eq!(alerts("exclude_alerts=false").await, 1);
        assert_eq!(alerts("exclude_alerts=true").await, 0);
        for (query, field) in [
            ("match[]=up", "match[]"),
            ("group_limit=5", "group_limit"),
            ("exclude_alerts=perhaps", "exclude_alerts"),
        ] {
            let refused = of_rules(query).await.unwrap_err();
            assert!(format!("{refused:?}").contains(field), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn targets_belong_to_one_pool() {
        let (_targets, named) = tokio::sync::watch::channel(vec![Target {
            instance: "127.0.0.1:1".into(),
            role: "shop".into(),
        }]);
        let judge = judge();
        let stop = tokio_util::sync::CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&judge.scraper).run(named, stop.clone()));
        while judge.scraper.targets().is_empty() {
            tokio::task::yield_now().await;
        }
        let count = async |query| {
            let answer = targets(State(Arc::clone(&judge)), asked(query).await).await;
            let answer = answer.unwrap().data;
            answer["activeTargets"].as_array().unwrap().len()
        };
        assert_eq!(count("").await, 1);
        assert_eq!(count("scrapePool=firedrill").await, 1);
        assert_eq!(count("scrapePool=other").await, 0);
        stop.cancel();
        running.await.unwrap();
    }
}
