//! Changes: what somebody did to a role, as events, as they would be in life.
//!
//! Most outages begin with a change, so whoever looks for a cause looks first at what was changed when. A metric and a
//! log line tell that something was, and of which kind; what it was stays with whoever changed it, as it would where a
//! thousand flags are flipped a day. Both directions look alike, and some changes change nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::http::Problem;
use crate::telemetry::catalog;

/// How many are kept to be listed.
const KEPT_MAX: usize = 100;

/// The longest description, in characters.
const DESCRIPTION_MAX: usize = 120;

/// What kind of change it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Another version was started.
    Deploy,
    /// A setting was changed while it ran.
    Config,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Deploy, Self::Config];

    /// As metrics and the API have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Config => "config",
        }
    }

    /// Reads its name.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| Problem::invalid("kind", text, Self::ALL.map(Self::name).join(", ")))
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What kind it was.
    pub kind: Kind,
    /// When, in seconds since the epoch.
    pub at_s: f64,
    /// What whoever made it says of it; may be empty.
    pub description: String,
}

/// The changes of this process, and the last deployment before it.
#[derive(Debug, Default)]
pub struct Changes(Mutex<VecDeque<Change>>);

impl Changes {
    /// None yet, but for the `deployed` version that this process runs. Call it when there are metrics.
    #[must_use]
    pub fn new(deployed: Option<Change>) -> Self {
        for kind in Kind::ALL {
            catalog::firedrill_last_change_timestamp_seconds(kind.name()).set(0.0);
        }
        let changes = Self::default();
        if let Some(deployed) = deployed {
            changes.add(deployed);
        }
        changes
    }

    /// Notes that something was changed just now.
    pub fn note(&self, kind: Kind, description: &str) {
        tracing::info!(target: "control", kind = kind.name(), description, "A change was made.");
        self.add(Change {
            kind,
            at_s: now_s(),
            description: description.into(),
        });
    }

    fn add(&self, change: Change) {
        let kind = change.kind.name();
        catalog::firedrill_last_change_timestamp_seconds(kind).set(change.at_s);
        let mut kept = self.lock();
        kept.push_back(change);
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// Those that are kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Change> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody says of a change: a line, and a short one.
pub(super) fn description(given: Option<String>) -> Result<String, Problem> {
    let text = given.unwrap_or_default();
    if text.chars().count() <= DESCRIPTION_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let allowed = format!("one line of up to {DESCRIPTION_MAX} characters");
    Err(Problem::invalid("description", text, allowed))
}

/// Now, in seconds since the epoch.
pub(super) fn now_s() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept() {
        let changes = Changes::new(None);
        for number in 0..KEPT_MAX + 7 {
            changes.note(Kind::Config, &number.to_string());
        }
        let list = changes.list();
        assert_eq!((list.len(), list[0].description.as_str()), (KEPT_MAX, "7"));
    }

    #[test]
    fn a_description_is_a_short_line() {
        assert_eq!(description(None), Ok(String::new()));
        assert!(description(Some("ä".repeat(DESCRIPTION_MAX))).is_ok());
        for wrong in ["a\nb".to_owned(), "x".repeat(DESCRIPTION_MAX + 1)] {
            let problem = description(Some(wrong)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("description"));
        }
    }
}
