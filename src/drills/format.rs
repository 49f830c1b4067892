//! A drill's file: Markdown with YAML front matter between `---` lines.
//!
//! The front matter is the experiment, the body is the lesson. One source for both, so that what is taught,
//! what is done and what is judged cannot drift apart. The body up to its first `##` heading is the briefing
//! and gives nothing away; all below it may name the cause.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// A drill.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    /// The file's name.
    pub file: String,
    /// The experiment.
    pub experiment: Experiment,
    /// The lesson, as Markdown.
    pub body: String,
}

/// The front matter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The version of this format.
    pub schema: Schema,
    /// The drill's name, as commands take it; the file is `NN-id.md`.
    pub id: String,
    /// A title that does not name the cause.
    pub title: String,
    /// Whom it harms.
    pub harm: Harm,
    /// The choices under test, and their option in the poor leg; in the sound leg they are sound.
    pub poor: BTreeMap<String, OptionName>,
    /// Choices that are poor in both legs, because they would hide the harm, and why.
    #[serde(default)]
    pub masks: BTreeMap<String, String>,
    /// What users do all the time.
    pub load: Load,
    /// What the world does.
    pub shock: Vec<Shock>,
    /// What holds before the shock, whichever leg; else the run is invalid.
    pub steady: Vec<Condition>,
    /// What shows that the shock was delivered and the machine kept up; else the run is invalid.
    pub prove: Vec<Condition>,
    /// What must come of each leg.
    pub harm_bounds: HarmBounds,
    /// Which alerts may fire.
    #[serde(default)]
    pub alerts: Alerts,
    /// The cause, in words.
    pub answer: Answer,
    /// What cures it while it lasts.
    pub fix: Vec<Fix>,
    /// What looks like a cure and is none.
    #[serde(default)]
    pub reject: Vec<Reject>,
    /// Help, from vague to plain.
    pub hints: Vec<String>,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Schema {
    /// The first.
    #[serde(rename = "drill/v1")]
    V1,
}

/// Whom a drill harms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Harm {
    /// Those who want an answer.
    Users,
    /// Those who run it: cost, scrapes, disks.
    Operators,
}

/// An option of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionName {
    /// The option that fails.
    Poor,
    /// The option that holds.
    Sound,
}

impl OptionName {
    /// `poor` or `sound`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poor => "poor",
            Self::Sound => "sound",
        }
    }
}

impl std::str::FromStr for OptionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "poor" => Ok(Self::Poor),
            "sound" => Ok(Self::Sound),
            _ => Err(format!("{text:?} is no option; allowed: poor, sound")),
        }
    }
}

/// What users do all the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Arrivals a second.
    pub rate: u32,
    /// The parts of the journeys in it.
    pub mix: BTreeMap<String, u32>,
}

/// One thing that the world does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shock {
    /// Seconds after the first shock, which has 0.
    pub at_s: f64,
    /// The role that it hits.
    pub role: RoleName,
    /// Its name on that role's control plane.
    pub name: String,
    /// Its numbers.
    #[serde(default)]
    pub parameters: BTreeMap<String, f64>,
    /// How long it lasts, in seconds.
    pub ttl_s: f64,
}

/// A role that a shock can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// The shop.
    Shop,
    /// Payments, all replicas.
    Payments,
    /// The users.
    Traffic,
}

/// What must come of each leg.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HarmBounds {
    /// The poor option meets the shock.
    pub poor: Expectation,
    /// The sound option meets the same shock.
    pub sound: Expectation,
    /// The fix is applied while the poor option does its harm.
    pub fixed: Expectation,
}

/// What is expected of a leg.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// In words.
    pub says: String,
    /// In numbers.
    pub must: Vec<Condition>,
}

/// Alerts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Must fire in the poor leg.
    pub expected: Vec<String>,
    /// May fire.
    pub allowed: Vec<String>,
    /// Must not fire.
    pub forbidden: Vec<String>,
}

/// The cause.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Where it sits.
    pub component: String,
    /// What it is.
    pub mechanism: String,
    /// What set it off.
    pub trigger: String,
    /// What keeps it going when the trigger is over.
    pub sustained_by: String,
}

/// One step of a cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// The choice.
    pub choice: String,
    /// The option that it is set to.
    pub option: OptionName,
}

/// A step that is no cure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// What is done.
    pub action: String,
    /// Why it is no cure.
    pub why: String,
}
