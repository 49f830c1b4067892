//! What a lab's metrics say, asked of one `/api/v1` URL: the console's, or that of a Prometheus.
//!
//! A drill knows nothing of how metrics are kept. What was not seen is `None`, never zero: a drill must not
//! pass because a metric was renamed.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::http::Client;
use crate::http::client::query_value;

/// An alert that fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Its name.
    pub name: String,
    /// Its other labels.
    pub labels: BTreeMap<String, String>,
    /// The first second in which it fired, since the epoch.
    pub from_s: f64,
    /// The last second in which it fired.
    pub to_s: f64,
}

impl Firing {
    /// Whether it wakes somebody up.
    #[must_use]
    pub fn pages(&self) -> bool {
        self.label("severity") == "critical"
    }

    /// Whether it is about a promise and wakes nobody up: such alerts have windows that outlive a drill, or that
    /// a new lab has not filled yet.
    pub(super) fn is_a_ticket(&self) -> bool {
        !self.pages() && !self.label("slo").is_empty()
    }

    /// A label; empty where there is none.
    pub(super) fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }
}

/// A process that is scraped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) role: String,
    /// The base URL of its control plane.
    pub(super) control: String,
}

/// Where metrics are asked for.
#[derive(Debug)]
pub(super) struct Metrics {
    client: Client,
    base: String,
    token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Success<T> {
    data: T,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Found {
    Vector(Vec<Instant>),
    Scalar(Sample),
    Matrix(Vec<Range>),
}

/// When, and what.
type Sample = (f64, String);

#[derive(Debug, Deserialize)]
struct Instant {
    value: Sample,
}

#[derive(Debug, Deserialize)]
struct Range {
    metric: BTreeMap<String, String>,
    values: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<ActiveTarget>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget {
    labels: BTreeMap<String, String>,
    scrape_url: String,
}

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    name: String,
}

impl Metrics {
    /// Asks at this base URL (`http://127.0.0.1:9090`).
    pub(super) fn new(base: &str, token: Option<&str>) -> Self {
        Self {
            client: Client::new(),
            base: base.into(),
            token: token.map(str::to_owned),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}/api/v1/{path}", self.base);
        let answer = self.client.get_json(&url, self.token.as_deref()).await;
        let answer: Success<T> = answer.map_err(|error| {
            let hint = if error.contains(" 401 ") {
                ": is --token the lab's?"
            } else {
                ""
            };
            if error.contains(&self.base) {
                format!("{error}{hint}")
            } else {
                format!("{url}: {error}{hint}")
            }
        })?;
        Ok(answer.data)
    }

    /// Which program answers.
    pub(super) async fn program(&self) -> Result<String, String> {
        let info: BTreeMap<String, serde_json::Value> = self.get("status/buildinfo").await?;
        let text = |key: &str| info.get(key).and_then(serde_json::Value::as_str);
        let (revision, version) = (text("revision"), text("version").unwrap_or_default());
        let own = revision.filter(|revision| revision.starts_with("firedrill "));
        Ok(own.map_or_else(
            || format!("prometheus {version}").trim_end().to_owned(),
            str::to_owned,
        ))
    }

    /// The one number that `expr` brings at `at_s`; none if it brings nothing, or no number.
    pub(super) async fn number(&self, expr: &str, at_s: f64) -> Result<Option<f64>, String> {
        let asked = format!("query?query={}&time={at_s:.3}", query_value(expr));
        let samples: Vec<Sample> = match self.get(&asked).await? {
            Found::Scalar(sample) => vec![sample],
            Found::Vector(vector) => vector.into_iter().map(|one| one.value).collect(),
            Found::Matrix(_) => {
                return Err(format!("{expr} brings ranges, and must bring a number"));
            }
        };
        match samples.as_slice() {
            [] => Ok(None),
            [(_, text)] => Ok(text.parse().ok().filter(|number: &f64| number.is_finite())),
            more => Err(format!(
                "{expr} brings {} numbers, and must bring one",
                more.len()
            )),
        }
    }

    /// The alerts that fired in some second from `from_s` to `to_s`.
    pub(super) async fn firing(&self, from_s: f64, to_s: f64) -> Result<Vec<Firing>, String> {
        let expr = query_value(r#"ALERTS{alertstate="firing"}"#);
        let asked = format!("query_range?query={expr}&start={from_s:.0}&end={to_s:.0}&step=1");
        let Found::Matrix(ranges) = self.get(&asked).await? else {
            return Err("the alerts of a stretch of time are no ranges".into());
        };
        let firing = ranges
            .into_iter()
            .filter_map(|Range { mut metric, values }| {
                let (from_s, to_s) = (values.first()?.0, values.last()?.0);
                let name = metric.remove("alertname")?;
                metric.retain(|key, _| key != "__name__" && key != "alertstate");
                Some(Firing {
                    name,
                    labels: metric,
                    from_s,
                    to_s,
                })
            });
        Ok(firing.collect())
    }

    /// The names of the alerts that somebody evaluates there.
    pub(super) async fn alert_names(&self) -> Result<Vec<String>, String> {
        let Rules { groups } = self.get("rules?type=alert").await?;
        let rules = groups.into_iter().flat_map(|group| group.rules);
        let mut names: Vec<_> = rules.map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The processes that are scraped, by the role that their label says.
    pub(super) async fn targets(&self) -> Result<Vec<Target>, String> {
        let Targets { active_targets } = self.get("targets?state=active").await?;
        let targets = active_targets.into_iter().filter_map(|target| {
            Some(Target {
                role: target.labels.get("role")?.clone(),
                control: target.scrape_url.strip_suffix("/metrics")?.into(),
            })
        });
        Ok(targets.collect())
    }
}
