//! What was changed in the last minutes, and which version of each role runs.
//!
//! A graph that steps says when something happened; a mark beside the step says that somebody did something then. A
//! process that was started again has forgotten what was done to the one before it, so it is remembered here.

use axum::http::Method;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::report::HISTORY_S;
use crate::control::changes::Change;
use crate::http::Client;

/// The most that are shown, as many as a role keeps.
const SHOWN_MAX: usize = 100;

/// What a role says of itself.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    pub(super) service_version: String,
    changes: Vec<Change>,
}

/// A change, and the name of the process that it was made to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    name: String,
    #[serde(flatten)]
    change: Change,
}

/// Asks the role at `control`; nothing, if it does not say until `deadline`.
pub(super) async fn ask(
    client: Client,
    control: String,
    token: Option<String>,
    deadline: Instant,
) -> Option<Told> {
    let url = format!("http://{control}/changes");
    let asking = client.control(Method::GET, &url, None, token.as_deref());
    timeout_at(deadline, asking).await.ok()?.ok()?.json().ok()
}

/// Those that are remembered.
#[derive(Debug, Default)]
pub(super) struct Memory(Vec<Shown>);

impl Memory {
    /// Adds what `told` brings of the process `name`.
    pub(super) fn add(&mut self, name: &str, told: &Told) {
        for change in &told.changes {
            let shown = Shown {
                name: name.into(),
                change: change.clone(),
            };
            if !self.0.contains(&shown) {
                self.0.push(shown);
            }
        }
    }

    /// Those of the last minutes before `now_s`, oldest first.
    pub(super) fn lately(&mut self, now_s: f64) -> Vec<Shown> {
        let since_s = now_s - f64::from(HISTORY_S);
        self.0.retain(|shown| shown.change.at_s >= since_s);
        self.0
            .sort_by(|a, b| a.change.at_s.total_cmp(&b.change.at_s));
        let more = self.0.len().saturating_sub(SHOWN_MAX);
        self.0[more..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::changes::Kind;

    fn told(times: &[f64]) -> Told {
        let changes = times.iter().map(|at_s| Change {
            kind: Kind::Config,
            at_s: *at_s,
            description: String::new(),
        });
        Told {
            service_version: "1".into(),
            changes: changes.collect(),
        }
    }

    #[test]
    fn what_a_role_has_forgotten_is_still_shown_for_a_while() {
        let mut memory = Memory::default();
        memory.add("shop", &told(&[1_000.0, 1_010.0]));
        memory.add("payments", &told(&[1_005.0]));
        memory.add("shop", &told(&[1_010.0]));
        memory.add("shop", &told(&[]));
        let times = |memory: &mut Memory, now_s| -> Vec<f64> {
            let shown = memory.lately(now_s).into_iter();
            shown.map(|shown| shown.change.at_s).collect()
        };
        assert_eq!(times(&mut memory, 1_020.0), [1_000.0, 1_005.0, 1_010.0]);
        assert_eq!(times(&mut memory, 1_188.0), [1_010.0]);
    }
}
