//! The drills as JSON, for load tools that play the users in place of `traffic`.
//!
//! A script that kept numbers of its own would soon fly another drill than the file describes. The export holds
//! what such a tool can do and see: load, shock, choices, fix, and the bounds on what users get. What only the
//! servers see is left out. `loadtest/drills.json` is this, and a test fails when the two differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::condition::Condition;
use super::format::{
    Action, Drill, Expectation, Experiment, Harm, Load, Meanwhile, OptionName, Outage, Shock,
};

/// What a load tool needs of a drill.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    title: &'a str,
    harm: Harm,
    /// What is poor in the poor leg.
    poor: &'a BTreeMap<String, OptionName>,
    /// What is poor in both legs.
    masks: Vec<&'a str>,
    load: &'a Load,
    shock: &'a [Shock],
    meanwhile: &'a [Meanwhile],
    /// Whether the harm goes on when the shock is over; if not, the shock must go on while the fix is tried.
    lasts: bool,
    fix: &'a [Action],
    /// What a tool must ask `/api/v1` for before it can send the shock, by name.
    calibrate: BTreeMap<&'a str, String>,
    /// How long each stretch lasts, in seconds.
    seconds: Seconds,
    bounds: Bounds<'a>,
}

#[derive(Debug, Serialize)]
struct Seconds {
    steady: f64,
    shock: f64,
    watch: f64,
    recover: f64,
}

/// The users' view of what must hold, by leg.
#[derive(Debug, Serialize)]
struct Bounds<'a> {
    both: Vec<&'a Condition>,
    poor: Vec<&'a Condition>,
    sound: Vec<&'a Condition>,
    fixed: Vec<&'a Condition>,
}

/// The drills as JSON text, by their ids.
pub(super) fn json(drills: &[Drill]) -> Result<String, String> {
    let by_id: BTreeMap<_, _> = drills
        .iter()
        .map(|drill| (drill.experiment.id.as_str(), exported(drill)))
        .collect();
    serde_json::to_string_pretty(&by_id)
        .map_err(|error| format!("the drills cannot be exported: {error}"))
}

fn exported(drill: &Drill) -> Exported<'_> {
    let experiment = &drill.experiment;
    // A leg watches for as long as its own bounds ask; a tool that flies either takes the longer one.
    let watch_s = [OptionName::Poor, OptionName::Sound].map(|option| experiment.watch_s(option));
    Exported {
        title: &experiment.title,
        harm: experiment.harm,
        poor: &experiment.poor,
        masks: experiment.masks.keys().map(String::as_str).collect(),
        load: &experiment.load,
        shock: &experiment.shock,
        meanwhile: &experiment.meanwhile,
        lasts: experiment.outage == Outage::Lasts,
        fix: &experiment.fix,
        calibrate: experiment.calibrations().collect(),
        seconds: Seconds {
            steady: experiment.steady_s(),
            shock: experiment.shock_s(),
            watch: watch_s.into_iter().fold(0.0, f64::max),
            recover: experiment.recover_s(),
        },
        bounds: bounds(experiment),
    }
}

fn bounds(experiment: &Experiment) -> Bounds<'_> {
    let Experiment {
        steady,
        prove,
        harm_bounds,
        ..
    } = experiment;
    Bounds {
        both: of_users(steady).chain(of_users(prove)).collect(),
        poor: of_users(of_leg(harm_bounds.poor.as_ref())).collect(),
        sound: of_users(&harm_bounds.sound.must).collect(),
        fixed: of_users(of_leg(harm_bounds.fixed.as_ref())).collect(),
    }
}

fn of_leg(leg: Option<&Expectation>) -> &[Condition] {
    leg.map_or(&[], |leg| &leg.must)
}

/// The signals that a load tool measures itself.
const MEASURED: [&str; 5] = [
    "goodput_ratio",
    "offered_per_s",
    "good_per_s",
    "p99_s",
    "good_p99_s",
];

/// The bounds on these.
fn of_users(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    let users = |condition: &&Condition| MEASURED.contains(&condition.signal.as_str());
    conditions.iter().filter(users)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{all, export};
    use super::*;

    #[test]
    fn the_file_of_the_load_scripts_is_the_export() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest/drills.json");
        let file = std::fs::read_to_string(path).unwrap();
        assert!(
            file == export().unwrap() + "\n",
            "run: firedrill drill export > loadtest/drills.json"
        );
    }

    #[test]
    fn every_drill_is_there_with_what_users_see_of_it() {
        let exported: Value = serde_json::from_str(&export().unwrap()).unwrap();
        for drill in all().unwrap() {
            let one = &exported[&drill.experiment.id];
            assert_eq!(one["load"]["rate"], drill.experiment.load.rate);
            assert!(one["seconds"]["steady"].as_f64() > Some(0.0));
            let seen = drill.experiment.harm == Harm::Users;
            for leg in ["both", "poor", "sound", "fixed"].iter().filter(|_| seen) {
                let bounds = one["bounds"][leg].as_array().unwrap();
                assert!(!bounds.is_empty(), "{leg} has no bound that users can see");
                let mut journeys = bounds.iter().map(|bound| &bound["journey"]);
                assert!(journeys.all(Value::is_string));
            }
        }
    }
}
