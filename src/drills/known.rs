//! Whether a lab has all that a drill's file names: choices, shocks and their parameters, alerts, signals.
//!
//! Asked before anything is done. A misspelt alert that is found out at the end has cost the whole flight, and reads
//! as one that never fired.

use super::format::{Action, Drill, Experiment};
use super::lab::Lab;
use super::prometheus::Metrics;

/// The length of the window over which each question is asked once, in seconds.
const WINDOW_S: f64 = 20.0;

impl Experiment {
    /// The choices that the file names.
    pub fn choices(&self) -> impl Iterator<Item = &String> {
        let actions = self.fix.iter();
        let actions = actions.chain(self.reject.iter().map(|one| &one.action));
        let set = actions.filter_map(|action| match action {
            Action::Choice(options) => Some(options.keys()),
            Action::Restart(_)
            | Action::Deploy(_)
            | Action::Log(_)
            | Action::Silence
            | Action::Rate(_) => None,
        });
        let named = self.poor.keys().chain(self.masks.keys());
        named.chain(set.flatten())
    }

    /// The alerts that the file names.
    pub fn alert_names(&self) -> impl Iterator<Item = &String> {
        let alerts = &self.alerts;
        let allowed = alerts.allowed.keys().chain(alerts.allowed_sound.keys());
        alerts.expected.iter().map(|one| &one.name).chain(allowed)
    }
}

/// Refuses a drill that names what this lab does not have. A sentence says the file, what it is, and what there is.
pub(super) async fn require(
    drill: &Drill,
    lab: &Lab<'_>,
    metrics: &Metrics,
    now_s: f64,
) -> Result<(), String> {
    let Drill {
        file, experiment, ..
    } = drill;
    let missing = |what: &str, name: &str, there: &[String]| {
        let there = there.join(", ");
        format!("{file}: there is no {what} {name:?} in this lab; there are: {there}")
    };
    let choices = lab.choices().await?;
    if let Some(name) = experiment.choices().find(|one| !choices.contains(one)) {
        return Err(missing("choice", name, &choices));
    }
    for shock in &experiment.shock {
        let shocks = lab.shocks(shock.role).await?;
        let Some(known) = shocks.iter().find(|known| known.name == shock.name) else {
            let names: Vec<_> = shocks.into_iter().map(|one| one.name).collect();
            return Err(missing("shock", &shock.name, &names));
        };
        let names: Vec<_> = known
            .parameters
            .iter()
            .map(|one| one.name.clone())
            .collect();
        if let Some(name) = shock.parameters.keys().find(|one| !names.contains(one)) {
            return Err(missing(
                &format!("parameter of {}", shock.name),
                name,
                &names,
            ));
        }
    }
    let alerts = metrics.alert_names().await?;
    if let Some(name) = experiment.alert_names().find(|one| !alerts.contains(one)) {
        return Err(missing("alert", name, &alerts));
    }
    for (name, question) in experiment.questions(WINDOW_S) {
        let answer = metrics.number(&question, now_s).await;
        answer.map_err(|error| format!("{file}: {name}: {error}"))?;
    }
    Ok(())
}
