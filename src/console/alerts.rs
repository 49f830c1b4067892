//! The alerts that the page shows: those of the judge in this process, or those of a Prometheus.
//!
//! An alert is news for a person, so each comes with what it says, since when, and the runbook that says what to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::runbooks;
use crate::judge::Judge;
use crate::judge::ask::{Alert, Ask};
use crate::judge::time::parse_rfc3339;

/// The most alerts that the page shows: who reads more than these at once reads none of them.
const SHOWN_MAX: usize = 100;

/// Where alerts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The judge in this process.
    Judge(Arc<Judge>),
    /// A Prometheus.
    Prometheus(Ask),
}

/// What the page shows of alerts.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Alerts {
    /// Who found them: the URL of a Prometheus, or nothing where it is this console.
    pub source: Option<String>,
    /// Why there may be others, in a sentence.
    pub error: Option<String>,
    /// What the reader should know about the rules, in a sentence.
    pub notice: Option<String>,
    /// How many there are, also those that are not in the list.
    pub count: usize,
    /// The alerts, the most urgent first.
    pub list: Vec<Shown>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// `firing` or `pending`.
    pub state: String,
    /// Its label `severity`.
    pub severity: String,
    /// What happens, in a sentence.
    pub summary: String,
    /// More of it.
    pub description: String,
    /// Since when its expression has held, in seconds since 1970.
    pub since_s: f64,
    /// Where its runbook is.
    pub runbook: Option<String>,
    /// Its other labels.
    pub labels: BTreeMap<String, String>,
}

impl Source {
    /// The alerts now.
    pub async fn look(&self) -> Alerts {
        let mut notice = None;
        let (source, result) = match self {
            Self::Judge(judge) => {
                notice = judge.notice().map(str::to_owned);
                (None, Ok(of_judge(judge)))
            }
            Self::Prometheus(ask) => {
                let told = ask.alerts().await;
                (
                    Some(ask.url().to_owned()),
                    told.map(|alerts| (alerts, None)),
                )
            }
        };
        let (alerts, error) = match result {
            Ok((alerts, error)) => (alerts, error),
            Err(error) => (Vec::new(), Some(error)),
        };
        let count = alerts.len();
        let mut list: Vec<Shown> = alerts.into_iter().map(Shown::from).collect();
        list.sort_by(|a, b| {
            a.urgency()
                .cmp(&b.urgency())
                .then(a.since_s.total_cmp(&b.since_s))
        });
        list.truncate(SHOWN_MAX);
        Alerts {
            source,
            error,
            notice,
            count,
            list,
        }
    }
}

/// The alerts of the last evaluations, and a sentence if there may be others.
fn of_judge(judge: &Judge) -> (Vec<Alert>, Option<String>) {
    let broken = judge.broken_rules();
    let error = broken.first().map(|(rule, error)| {
        let count = broken.len();
        format!("Rules that cannot be evaluated: {count}, such as {rule}: {error}")
    });
    (judge.alerts(), error)
}

impl From<Alert> for Shown {
    fn from(mut alert: Alert) -> Self {
        let mut label = |name: &str| alert.labels.remove(name).unwrap_or_default();
        let (name, severity) = (label("alertname"), label("severity"));
        let mut text = |name: &str| alert.annotations.remove(name).unwrap_or_default();
        Self {
            name,
            severity,
            summary: text("summary"),
            description: text("description"),
            runbook: runbooks::link(&text("runbook_url")),
            since_s: parse_rfc3339(&alert.active_at).unwrap_or(0) as f64 / 1e3,
            state: alert.state,
            labels: alert.labels,
        }
    }
}

impl Shown {
    /// What fires comes before what is pending, what pages before what warns.
    fn urgency(&self) -> (bool, bool) {
        (self.state != "firing", self.severity != "critical")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, severity: &str, state: &str) -> Alert {
        let pairs = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            owned.collect::<BTreeMap<_, _>>()
        };
        Alert {
            labels: pairs(&[
                ("alertname", name),
                ("severity", severity),
                ("role", "shop"),
            ]),
            annotations: pairs(&[
                ("summary", "It is down."),
                ("runbook_url", "docs/runbooks/FiredrillRoleDown.md"),
            ]),
            state: state.into(),
            active_at: "1970-01-01T00:00:01.5Z".into(),
            keep_firing_since: None,
            value: "0e+00".into(),
        }
    }

    #[test]
    fn an_alert_comes_with_its_runbook() {
        let shown = Shown::from(alert("A", "critical", "firing"));
        assert_eq!(
            (shown.name.as_str(), shown.summary.as_str()),
            ("A", "It is down.")
        );
        assert_eq!(
            shown.runbook.as_deref(),
            Some("/runbooks/FiredrillRoleDown")
        );
        assert!((shown.since_s - 1.5).abs() < 1e-9);
        assert_eq!(shown.labels.keys().collect::<Vec<_>>(), ["role"]);
    }

    #[test]
    fn what_is_urgent_comes_first() {
        let mut list: Vec<Shown> = [
            alert("C", "critical", "pending"),
            alert("B", "warning", "firing"),
            alert("A", "critical", "firing"),
        ]
        .map(Shown::from)
        .into();
        list.sort_by_key(Shown::urgency);
        let names: Vec<_> = list.iter().map(|shown| shown.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C"]);
    }

    #[tokio::test]
    async fn a_prometheus_that_does_not_answer_is_told() {
        let ask = Ask::new(
            "http://127.0.0.1:1",
            None,
            std::time::Duration::from_secs(5),
        );
        let alerts = Source::Prometheus(ask).look().await;
        assert_eq!(alerts.source.as_deref(), Some("http://127.0.0.1:1"));
        assert!(alerts.error.unwrap().contains("127.0.0.1:1"));
    }
}
