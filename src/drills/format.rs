//! A drill's file: Markdown with YAML front matter between `---` lines.
//!
//! The front matter is the experiment, the body is the lesson. One source for both, so that what is taught,
//! what is done and what is judged cannot drift apart. The body up to its first `##` heading is the briefing
//! and gives nothing away; all below it may name the cause.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::{Amount, Condition, Journey};

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
    /// Whom it harms; a control harms nobody.
    pub harm: Harm,
    /// The choices under test, and their option in the poor leg; in the sound leg they are sound.
    #[serde(default)]
    pub poor: BTreeMap<String, OptionName>,
    /// Choices that are poor in both legs, because they would hide the harm, and why.
    #[serde(default)]
    pub masks: BTreeMap<String, String>,
    /// How many replicas of payments the lab has, which share the bank.
    #[serde(default = "one")]
    pub payments_replicas: u8,
    /// What users do all the time.
    pub load: Load,
    /// What is measured of this machine before the first shock, by name.
    #[serde(default)]
    pub calibrate: BTreeMap<String, Calibration>,
    /// What the world does.
    #[serde(default)]
    pub shock: Vec<Shock>,
    /// What operators do meanwhile in every leg that meets the shock, none of it harmful.
    #[serde(default)]
    pub meanwhile: Vec<Meanwhile>,
    /// Signals of this drill alone, by name.
    #[serde(default)]
    pub signals: BTreeMap<String, OwnSignal>,
    /// What holds before the shock, whichever leg; else the run is invalid.
    pub steady: Vec<Condition>,
    /// What shows that the shock was delivered and the machine kept up; else the run is invalid.
    pub prove: Vec<Condition>,
    /// What must come of each leg.
    pub harm_bounds: HarmBounds,
    /// Whether the outage outlives its shock.
    #[serde(default)]
    pub outage: Outage,
    /// Which alerts may fire.
    #[serde(default)]
    pub alerts: Alerts,
    /// What the table of proofs shows, for the poor and the sound leg.
    pub headline: Vec<Headline>,
    /// The cause, in words; of a control there is none.
    pub answer: Option<Answer>,
    /// What cures it while it lasts.
    #[serde(default)]
    pub fix: Vec<Action>,
    /// What looks like a cure and is none.
    #[serde(default)]
    pub reject: Vec<Reject>,
    /// Help, from vague to plain.
    #[serde(default)]
    pub hints: Vec<String>,
}

fn one() -> u8 {
    1
}

/// What is measured of this machine, over the last [`CALIBRATE_S`] seconds before the first shock.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What it is, and its unit.
    pub says: String,
    /// PromQL with `$window`, which brings one number.
    pub expr: String,
    /// A machine on which it is less cannot run this drill.
    pub min: Option<f64>,
    /// A machine on which it is more cannot run this drill.
    pub max: Option<f64>,
    /// Where the bounds come from, in a sentence.
    pub why: String,
}

/// The length of the window over which is calibrated, in seconds.
pub const CALIBRATE_S: f64 = 20.0;

/// A signal of one drill.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSignal {
    /// What it is, in a few words.
    pub says: String,
    /// PromQL with `$window` and perhaps `$journey`, which brings one number.
    pub expr: String,
}

/// Something that operators do while the shock is met, in every leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meanwhile {
    /// Seconds after the shock began.
    pub at_s: f64,
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
}

/// Whether the outage outlives its shock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It goes on until somebody cures it.
    #[default]
    Lasts,
    /// It ends with the shock, which therefore goes on while cures are tried: the first of them this many
    /// seconds after it began.
    WhileShock(f64),
}

/// A signal in the table of proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headline {
    /// Its name.
    pub signal: String,
    /// Of which journey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<Journey>,
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
    /// Nobody: the file is a control, in which nothing is wrong and no alert may fire.
    Nobody,
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
    pub mix: BTreeMap<Journey, u32>,
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
    pub parameters: BTreeMap<String, Amount>,
    /// How long it lasts, in seconds.
    pub ttl_s: f64,
}

/// A role that a shock can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// The shop.
    Shop,
    /// Payments, all replicas.
    Payments,
    /// The users.
    Traffic,
}

impl RoleName {
    /// As the lab calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Payments => "payments",
            Self::Traffic => "traffic",
        }
    }
}

/// What must come of each leg. A control has only the sound one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HarmBounds {
    /// The poor option meets the shock.
    pub poor: Option<Expectation>,
    /// The sound option meets the same shock; so must the fixed lab when it comes again.
    pub sound: Expectation,
    /// The fix is applied while the poor option does its harm; what is no cure must break one of these, or fail
    /// when the shock comes again.
    pub fixed: Option<Expectation>,
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

/// Alerts by name. A critical one that is not named must not fire; others are not looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Must fire in the poor leg.
    pub expected: Vec<ExpectedAlert>,
    /// May fire in the poor leg, and why.
    pub allowed: BTreeMap<String, String>,
    /// May fire in the sound leg, and why.
    pub allowed_sound: BTreeMap<String, String>,
    /// Seconds after the fix by which all of these must be silent.
    pub cleared_within_s: f64,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            expected: Vec::new(),
            allowed: BTreeMap::new(),
            allowed_sound: BTreeMap::new(),
            cleared_within_s: 90.0,
        }
    }
}

/// An alert that must fire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedAlert {
    /// Its name.
    pub name: String,
    /// Labels that it must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Seconds after the shock's begin by which it fires.
    pub within_s: f64,
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

/// Something that operators do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Deploy these options.
    Choice(BTreeMap<String, OptionName>),
    /// Restart a role, one replica after the other.
    Restart(RoleName),
    /// Start a role as the next version, one replica after the other.
    Deploy(RoleName),
    /// Change the log filters of these roles, for [`LOG_S`].
    Log(BTreeMap<RoleName, String>),
    /// Switch the alerts off: nothing else changes, and whether users suffer is asked of their own view.
    Silence,
    /// Let only so many users in, in arrivals a second.
    Rate(u32),
}

/// How long a log filter that a drill sets is in force, in seconds.
pub const LOG_S: f64 = 30.0;

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Choice(options) => {
                let set = |(choice, option): (&String, &OptionName)| {
                    format!("set {choice} to {}", option.name())
                };
                let set: Vec<_> = options.iter().map(set).collect();
                f.write_str(&set.join(" and "))
            }
            Self::Restart(role) => write!(f, "restart {}", role.name()),
            Self::Deploy(role) => write!(f, "deploy the next version of {}", role.name()),
            Self::Log(filters) => {
                let set = |(role, filter): (&RoleName, &String)| {
                    format!("set the log filter of {} to {filter}", role.name())
                };
                let set: Vec<_> = filters.iter().map(set).collect();
                f.write_str(&set.join(" and "))
            }
            Self::Silence => f.write_str("silence the alerts"),
            Self::Rate(rate) => write!(f, "let in {rate} users a second"),
        }
    }
}

/// A step that is no cure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
    /// Why it is no cure.
    pub why: String,
}
