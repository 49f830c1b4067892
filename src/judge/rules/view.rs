//! What is told of a group: how it was when its last evaluation had ended.
//!
//! An evaluation may take seconds. Whoever asks for alerts meanwhile is answered from here and does not wait.

use std::time::Duration;

use super::{Alert, Group, Recording, Rule, RuleKind, State};

/// Names and texts, in the order of the names.
type Texts = Vec<(String, String)>;

/// A group as its last evaluation left it.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// How often it is evaluated.
    pub interval: Duration,
    /// How many series or alerts a rule may give; 0 for any number.
    pub limit: usize,
    /// Its rules, in order.
    pub rules: Vec<RuleView>,
    /// When it was last evaluated, in milliseconds since 1970; 0 if never.
    pub last_evaluation: i64,
    /// How long that took.
    pub evaluation_time: Duration,
}

/// A rule as its last evaluation left it.
#[derive(Debug, Clone)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub query: String,
    /// Its labels as they are written.
    pub labels: Texts,
    /// What only an alert has.
    pub alerting: Option<AlertingView>,
    /// Why the last evaluation failed; `None` if it did not.
    pub last_error: Option<String>,
    /// When it was last evaluated, in milliseconds since 1970; 0 if never.
    pub last_evaluation: i64,
    /// How long that took.
    pub evaluation_time: Duration,
}

/// What only a rule has that raises alerts.
#[derive(Debug, Clone)]
pub struct AlertingView {
    /// How long its expression has to hold.
    pub hold: Duration,
    /// How long an alert is kept firing afterwards.
    pub keep_firing: Duration,
    /// Its annotations as they are written.
    pub annotations: Texts,
    /// The state of its alert which is furthest.
    pub state: State,
    /// The alerts that are pending or firing.
    pub alerts: Vec<Alert>,
}

impl From<&Group> for GroupView {
    fn from(group: &Group) -> Self {
        Self {
            name: group.name.clone(),
            interval: group.interval,
            limit: group.limit,
            rules: group.rules.iter().map(RuleView::from).collect(),
            last_evaluation: group.last_evaluation,
            evaluation_time: group.evaluation_time,
        }
    }
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        let (labels, alerting) = match &rule.kind {
            RuleKind::Recording(Recording { labels, .. }) => (labels.clone(), None),
            RuleKind::Alerting(alerting) => {
                let (labels, annotations) = alerting.templates();
                let (hold, keep_firing) = alerting.durations();
                let view = AlertingView {
                    hold,
                    keep_firing,
                    annotations: owned(annotations),
                    state: alerting.state(),
                    alerts: alerting.alerts().cloned().collect(),
                };
                (owned(labels), Some(view))
            }
        };
        Self {
            name: rule.name().to_owned(),
            query: rule.query.text().to_owned(),
            labels,
            alerting,
            last_error: rule.last_error.clone(),
            last_evaluation: rule.last_evaluation,
            evaluation_time: rule.evaluation_time,
        }
    }
}

fn owned<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Texts {
    let owned = texts.into_iter();
    owned
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}
