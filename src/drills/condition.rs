//! Conditions: what a signal must have been over a window of time.
//!
//! They are data in the drill's file, not code: the same line decides a run, stands in its report and is read
//! by the learner.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journey {
    /// Look at items.
    Browse,
    /// Place an order.
    Order,
    /// Log in.
    Login,
    /// Search.
    Search,
}

impl Journey {
    /// Its name, as the users' report has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Order => "order",
            Self::Login => "login",
            Self::Search => "search",
        }
    }
}

/// The longest that anything in a drill may take, in seconds.
pub const LONGEST_S: f64 = 3600.0;

/// The moment from which a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The first shock began.
    ShockBegin,
    /// The last shock ended.
    ShockEnd,
    /// The fix, or what is no fix, was applied.
    Fix,
}

/// A stretch of time, in seconds from an anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// From where it counts.
    pub anchor: Anchor,
    /// Its begin; negative is before the anchor.
    pub from_s: f64,
    /// Its end, after its begin.
    pub to_s: f64,
}

/// When the anchors of a leg were, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// The first shock began.
    pub shock_begin_s: f64,
    /// The last shock ended.
    pub shock_end_s: f64,
    /// The fix, or what is no fix, was applied.
    pub fix_s: Option<f64>,
}

impl Window {
    /// The window in seconds since the epoch; `None` if its anchor did not happen.
    #[must_use]
    pub fn on(&self, marks: &Marks) -> Option<(f64, f64)> {
        let anchor_s = match self.anchor {
            Anchor::ShockBegin => marks.shock_begin_s,
            Anchor::ShockEnd => marks.shock_end_s,
            Anchor::Fix => marks.fix_s?,
        };
        Some((anchor_s + self.from_s, anchor_s + self.to_s))
    }
}

/// A number of the file: itself, or a multiple of one that was calibrated on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, or {of: what is calibrated, times: a number, plus: a number}"
)]
pub enum Amount {
    /// The same on every machine.
    Fixed(f64),
    /// What this machine can do, times a number.
    Scaled(Scaled),
}

/// A multiple of a calibrated number, and perhaps something more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The name under `calibrate`.
    pub of: String,
    /// By what it is multiplied.
    pub times: f64,
    /// What is added to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plus: Option<f64>,
}

impl Scaled {
    /// The number where `measured` was calibrated.
    #[must_use]
    pub fn number(&self, measured: f64) -> f64 {
        measured.mul_add(self.times, self.plus.unwrap_or_default())
    }
}

/// What was calibrated, by name.
pub type Calibrated = BTreeMap<String, f64>;

impl Amount {
    /// The number; a sentence if what it is a multiple of was not calibrated.
    pub fn number(&self, calibrated: &Calibrated) -> Result<f64, String> {
        match self {
            Self::Fixed(number) => Ok(*number),
            Self::Scaled(scaled) => {
                let measured = calibrated.get(&scaled.of);
                let measured = measured.ok_or_else(|| format!("{} was not calibrated", scaled.of));
                measured.map(|measured| scaled.number(*measured))
            }
        }
    }

    /// The name of what it is a multiple of.
    #[must_use]
    pub fn of(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Scaled(scaled) => Some(&scaled.of),
        }
    }
}

/// A bound on a signal over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Condition {
    /// What is measured: the name of a signal of the drill or of every drill.
    pub signal: String,
    /// For which journey, if it is the users' view.
    pub journey: Option<Journey>,
    /// When.
    pub window: Window,
    /// The least that is allowed.
    pub min: Option<Amount>,
    /// The most that is allowed.
    pub max: Option<Amount>,
    /// Where the bound comes from, in a sentence.
    pub why: String,
}

impl Condition {
    /// Its bounds.
    pub fn amounts(&self) -> impl Iterator<Item = &Amount> {
        self.min.iter().chain(&self.max)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            anchor,
            from_s,
            to_s,
        } = self;
        let anchor = match anchor {
            Anchor::ShockBegin => "shock's begin",
            Anchor::ShockEnd => "shock's end",
            Anchor::Fix => "action",
        };
        write!(f, "{from_s} to {to_s} s from the {anchor}")
    }
}

/// A condition as the file has it: the window's field says from where it counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    signal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journey: Option<Journey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_shock_begin_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_shock_end_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_fix_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Amount>,
    why: String,
}

impl TryFrom<Fields> for Condition {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let windows = [
            (Anchor::ShockBegin, fields.since_shock_begin_s),
            (Anchor::ShockEnd, fields.since_shock_end_s),
            (Anchor::Fix, fields.since_fix_s),
        ];
        let mut given = windows
            .into_iter()
            .filter_map(|(anchor, window)| window.map(|window| (anchor, window)));
        let (Some((anchor, [from_s, to_s])), None) = (given.next(), given.next()) else {
            return Err(
                "a condition has exactly one of since_shock_begin_s, since_shock_end_s, since_fix_s",
            );
        };
        let near = |second: f64| second.abs() <= LONGEST_S;
        if !near(from_s) || !near(to_s) {
            return Err("a window lies within 3600 s of its anchor");
        }
        if from_s >= to_s {
            return Err("a window ends after it begins");
        }
        if let (Some(Amount::Fixed(min)), Some(Amount::Fixed(max))) = (&fields.min, &fields.max)
            && min > max
        {
            return Err("min is not above max");
        }
        if fields.min.is_none() && fields.max.is_none() {
            return Err("a condition has min, max or both");
        }
        Ok(Self {
            signal: fields.signal,
            journey: fields.journey,
            window: Window {
                anchor,
                from_s,
                to_s,
            },
            min: fields.min,
            max: fields.max,
            why: fields.why,
        })
    }
}

impl From<Condition> for Fields {
    fn from(condition: Condition) -> Self {
        let Window {
            anchor,
            from_s,
            to_s,
        } = condition.window;
        let window = |of| (of == anchor).then_some([from_s, to_s]);
        Self {
            signal: condition.signal,
            journey: condition.journey,
            since_shock_begin_s: window(Anchor::ShockBegin),
            since_shock_end_s: window(Anchor::ShockEnd),
            since_fix_s: window(Anchor::Fix),
            min: condition.min,
            max: condition.max,
            why: condition.why,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Condition, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn windows_count_from_their_anchor() {
        let marks = Marks {
            shock_begin_s: 60.0,
            shock_end_s: 64.0,
            fix_s: None,
        };
        let window = |anchor| Window {
            anchor,
            from_s: -15.0,
            to_s: 5.0,
        };
        assert_eq!(window(Anchor::ShockBegin).on(&marks), Some((45.0, 65.0)));
        assert_eq!(window(Anchor::ShockEnd).on(&marks), Some((49.0, 69.0)));
        assert_eq!(window(Anchor::Fix).on(&marks), None);
    }

    #[test]
    fn a_condition_reads_and_writes_the_same_fields() {
        let value = json!({"signal": "goodput_ratio", "journey": "order", "since_shock_end_s": [0.0, 60.0],
            "min": {"of": "cores", "times": 2.0}, "max": 0.1, "why": "Metastable."});
        let condition = read(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&condition).unwrap(), value);
        assert_eq!(
            condition.window.to_string(),
            "0 to 60 s from the shock's end"
        );
        let min = condition.min.unwrap();
        assert!(min.number(&Calibrated::new()).is_err());
        let two = Calibrated::from([("cores".to_owned(), 2.0)]);
        assert_eq!(min.number(&two), Ok(4.0));
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        for (value, complaint) in [
            (json!({"signal": "a", "min": 1, "why": ""}), "exactly one"),
            (
                json!({"signal": "a", "since_fix_s": [0, 1], "since_shock_end_s": [0, 1], "min": 1, "why": ""}),
                "exactly one",
            ),
            (
                json!({"signal": "a", "since_fix_s": [1, 1], "min": 1, "why": ""}),
                "ends after",
            ),
            (
                json!({"signal": "a", "since_fix_s": [0, 1], "why": ""}),
                "min, max",
            ),
            (
                json!({"signal": "a", "since_fix_s": [0, 1], "min": "1", "why": ""}),
                "a number, or",
            ),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
