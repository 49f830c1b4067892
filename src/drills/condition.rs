//! Conditions: what a signal must have been over a window of time.
//!
//! They are data in the drill's file, not code: the same line decides a run, stands in its report and is read
//! by the learner. The set of signals is closed, so that a misspelt one is an error and not a silent pass.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Users' view: good answers divided by journeys offered, 0 to 1.
    GoodputRatio,
    /// Users' view: journeys that users meant to start, a second.
    OfferedPerS,
    /// Users' view: good answers, a second.
    GoodPerS,
    /// Users' view: 99 % of the journeys took at most this many seconds from their intended start.
    P99S,
    /// The share of journeys that started over 100 ms late, because the machine could not play the users.
    LateStartRatio,
    /// The share of the shop's writes that waited over 500 ms for their turn, because the machine's disk stood
    /// still.
    LateWriteRatio,
    /// The shop's view: attempts at payments divided by logical calls.
    AttemptsPerOrder,
    /// The bank's view: charges it finished, a second.
    BankServedPerS,
    /// Like [`Signal::BankServedPerS`], but only over the time in which charges were waiting: how fast the
    /// bank can work, whatever it is offered. It tells a slow machine from an idle bank.
    BankSpeedPerS,
    /// The bank's view: charges that wait for a slot, on average.
    BankQueueDepth,
    /// The bank's view: answers that nobody waited for any more, a second.
    BankUnclaimedPerS,
    /// The shop's view: orders that it answered with success, a second.
    ShopOrdersOkPerS,
}

impl Signal {
    /// Whether it is measured for one journey of the users.
    #[must_use]
    pub fn is_of_a_journey(self) -> bool {
        matches!(
            self,
            Self::GoodputRatio | Self::OfferedPerS | Self::GoodPerS | Self::P99S
        )
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::GoodputRatio => "share of good answers",
            Self::OfferedPerS => "offered a second",
            Self::GoodPerS => "good answers a second",
            Self::P99S => "p99 in seconds",
            Self::LateStartRatio => "share of journeys started over 100 ms late",
            Self::LateWriteRatio => "share of writes over 500 ms late",
            Self::AttemptsPerOrder => "attempts per order",
            Self::BankServedPerS => "charges the bank served a second",
            Self::BankSpeedPerS => "charges a second while some waited",
            Self::BankQueueDepth => "charges waiting at the bank",
            Self::BankUnclaimedPerS => "answers nobody waited for a second",
            Self::ShopOrdersOkPerS => "orders the shop called good a second",
        }
    }
}

/// What users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// The moment from which a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The first shock began.
    ShockBegin,
    /// The last shock ended.
    ShockEnd,
    /// The fix was applied.
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

/// When the anchors of a run were, in seconds on the users' clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Marks {
    /// The first shock began.
    pub shock_begin_s: f64,
    /// The last shock ended.
    pub shock_end_s: f64,
    /// The fix was applied.
    pub fix_s: Option<f64>,
}

impl Window {
    /// The window on the users' clock; `None` if its anchor did not happen.
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

/// A bound on a signal over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Condition {
    /// What is measured.
    pub signal: Signal,
    /// For which journey, if it is the users' view.
    pub journey: Option<Journey>,
    /// When.
    pub window: Window,
    /// The least that is allowed.
    pub min: Option<f64>,
    /// The most that is allowed.
    pub max: Option<f64>,
    /// Where the bound comes from, in a sentence.
    pub why: String,
}

impl Condition {
    /// Whether `measured` is within the bounds.
    #[must_use]
    pub fn holds(&self, measured: f64) -> bool {
        self.min.is_none_or(|min| measured >= min) && self.max.is_none_or(|max| measured <= max)
    }

    /// The journey and the window of which the users must be asked for a quantile, if this is about one.
    pub(super) fn quantile(&self, marks: &Marks) -> Option<(Journey, f64, f64)> {
        let journey = self.journey.filter(|_| self.signal == Signal::P99S)?;
        let (from_s, to_s) = self.window.on(marks)?;
        Some((journey, from_s, to_s))
    }

    /// The bounds in words.
    #[must_use]
    pub fn bounds(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("must be {min} to {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (None, max) => format!("must be at most {}", max.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(journey) = self.journey {
            write!(f, "{}: ", journey.name())?;
        }
        let Window {
            anchor,
            from_s,
            to_s,
        } = self.window;
        let anchor = match anchor {
            Anchor::ShockBegin => "shock's begin",
            Anchor::ShockEnd => "shock's end",
            Anchor::Fix => "fix",
        };
        let words = self.signal.words();
        write!(f, "{words}, {from_s} to {to_s} s from the {anchor}")
    }
}

/// A condition as the file has it: the window's field says from where it counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    signal: Signal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journey: Option<Journey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_shock_begin_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_shock_end_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_fix_s: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
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
        if from_s >= to_s {
            return Err("a window ends after it begins");
        }
        if fields.min.is_none() && fields.max.is_none() {
            return Err("a condition has min, max or both");
        }
        if fields.signal.is_of_a_journey() != fields.journey.is_some() {
            return Err(
                "journey goes with goodput_ratio, offered_per_s, good_per_s and p99_s, and only with these",
            );
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
            "max": 0.1, "why": "Metastable."});
        let condition = read(value.clone()).unwrap();
        assert!(condition.holds(0.1));
        assert!(!condition.holds(0.11));
        assert_eq!(serde_json::to_value(&condition).unwrap(), value);
        assert_eq!(
            condition.to_string(),
            "order: share of good answers, 0 to 60 s from the shock's end"
        );
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        for (value, complaint) in [
            (
                json!({"signal": "bank_queue_depth", "min": 1, "why": ""}),
                "exactly one",
            ),
            (
                json!({"signal": "bank_queue_depth", "since_fix_s": [0, 1], "since_shock_end_s": [0, 1], "min": 1, "why": ""}),
                "exactly one",
            ),
            (
                json!({"signal": "bank_queue_depth", "since_fix_s": [1, 1], "min": 1, "why": ""}),
                "ends after",
            ),
            (
                json!({"signal": "bank_queue_depth", "since_fix_s": [0, 1], "why": ""}),
                "min, max",
            ),
            (
                json!({"signal": "goodput_ratio", "since_fix_s": [0, 1], "min": 1, "why": ""}),
                "journey goes",
            ),
            (
                json!({"signal": "goodput", "since_fix_s": [0, 1], "min": 1, "why": ""}),
                "goodput_ratio",
            ),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
