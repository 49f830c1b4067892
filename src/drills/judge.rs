//! The judgement: what must be, what was measured, and what follows from all of it.
//!
//! It keeps two failures apart. A run whose world was not as the drill needs it (too slow a machine, a shock
//! that did not arrive) is invalid and says nothing about the choice; a run in a good world that went another
//! way than the file says is not as expected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{Alerts, ExpectedAlert};
use super::prometheus::Firing;

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What the file says.
    AsExpected,
    /// Something else.
    NotAsExpected,
    /// The run does not count.
    Invalid,
}

impl Verdict {
    /// What several runs say together: one that failed is not excused by another that did not count.
    #[must_use]
    pub fn of_all(runs: impl Iterator<Item = Self> + Clone) -> Self {
        let mut runs = runs.peekable();
        if runs.clone().any(|one| one == Self::NotAsExpected) {
            Self::NotAsExpected
        } else if runs.peek().is_none() || runs.any(|one| one == Self::Invalid) {
            Self::Invalid
        } else {
            Self::AsExpected
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Before the shock.
    Steady,
    /// What this machine can do.
    Calibrate,
    /// The shock was delivered, the machine kept up.
    Prove,
    /// What came of it.
    HarmBounds,
    /// Which alerts fired.
    Alerts,
    /// The fix cured.
    Fixed,
    /// The fixed lab met the shock again.
    Replay,
    /// What looks like a cure was none.
    Rejected,
}

/// Something that must be, and what was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What it is about.
    pub part: Part,
    /// What was looked at, in words.
    pub says: String,
    /// The question that was asked of the metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// For which second it was asked, since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_s: Option<f64>,
    /// The least that is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most that is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// What was measured; none if it could not be.
    pub measured: Option<f64>,
    /// Whether it is as it must be.
    pub held: bool,
    /// Where the bounds come from, in a sentence.
    pub why: String,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Check>,
}

impl Check {
    /// A check of a number against its bounds; what was not measured does not hold.
    pub(super) fn of(
        part: Part,
        says: String,
        (min, max): (Option<f64>, Option<f64>),
        measured: Option<f64>,
        why: &str,
    ) -> Self {
        let within = |number: f64| {
            min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max)
        };
        Self {
            part,
            says,
            expr: None,
            at_s: None,
            min,
            max,
            measured,
            held: measured.is_some_and(within),
            why: why.into(),
            because: Vec::new(),
        }
    }

    /// Whether the run says nothing because of it, whatever else it says.
    fn voids(&self) -> bool {
        !self.held && matches!(self.part, Part::Steady | Part::Calibrate | Part::Prove)
    }

    /// Whether it could not be measured, nor anything that would have been enough.
    fn is_unseen(&self) -> bool {
        let unseen = self.expr.is_some() && self.measured.is_none();
        let broken = |check: &Self| check.is_broken();
        unseen || (self.because.iter().any(Self::is_unseen) && !self.because.iter().any(broken))
    }

    /// Whether it was measured and is not as it must be.
    fn is_broken(&self) -> bool {
        !self.held && !self.is_unseen()
    }

    fn reason(&self) -> String {
        let because: Vec<_> = self.because.iter().map(ToString::to_string).collect();
        let because = because.join("; ");
        let between = if because.is_empty() { "" } else { " (" };
        let end = if because.is_empty() { "" } else { ")" };
        format!("{self}{between}{because}{end}. {}", self.why)
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nothing = if self.expr.is_some() {
            "not measured, for no series has it"
        } else {
            "never"
        };
        let measured = self.measured.map_or(nothing.into(), number);
        let bounds = match (self.min.map(number), self.max.map(number)) {
            (Some(min), Some(max)) => format!("must be {min} to {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (None, Some(max)) => format!("must be at most {max}"),
            (None, None) => return f.write_str(&self.says),
        };
        write!(f, "{}: {measured} ({bounds})", self.says)
    }
}

/// A number with about three digits that matter.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// What all of the checks say together, and why, a sentence each.
pub(super) fn verdict<'a>(checks: impl Iterator<Item = &'a Check>) -> (Verdict, Vec<String>) {
    let checks: Vec<_> = checks.collect();
    let reasons = |is_one: fn(&Check) -> bool| -> Vec<String> {
        let those = checks.iter().filter(|check| is_one(check));
        those.map(|check| check.reason()).collect()
    };
    let void = reasons(Check::voids);
    if !void.is_empty() {
        return (Verdict::Invalid, void);
    }
    // In a good world a bound that was measured and is broken tells enough: where nobody gets a good answer, none of
    // them has a latency.
    let broken = reasons(Check::is_broken);
    if !broken.is_empty() {
        return (Verdict::NotAsExpected, broken);
    }
    let unseen = reasons(Check::is_unseen);
    if !unseen.is_empty() {
        return (Verdict::Invalid, unseen);
    }
    (Verdict::AsExpected, Vec::new())
}

/// Whether what looks like a cure was none: it must break a bound of the oracle.
pub(super) fn rejected(action: &str, why: &str, oracle: Vec<Check>) -> Check {
    let cures = oracle.iter().all(|check| check.held);
    let broken = oracle.iter().filter(|check| !check.held);
    let broken: Vec<_> = broken.map(ToString::to_string).collect();
    let says = if cures {
        format!("{action}: it cures, and must not")
    } else {
        format!("{action} is no cure: {}", broken.join("; "))
    };
    Check {
        because: oracle,
        held: !cures,
        ..Check::of(Part::Rejected, says, (None, None), None, why)
    }
}

impl ExpectedAlert {
    /// Whether this is the one.
    #[must_use]
    pub fn is(&self, firing: &Firing) -> bool {
        let has = |(key, value): (&String, &String)| firing.label(key) == value;
        firing.name == self.name && self.labels.iter().all(has)
    }

    /// Its name, with the labels that are asked for.
    #[must_use]
    pub fn title(&self) -> String {
        let labels: Vec<_> = self.labels.values().map(String::as_str).collect();
        if labels.is_empty() {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, labels.join(", "))
        }
    }
}

impl Alerts {
    /// Whether this alert belongs to the drill.
    pub(super) fn expects(&self, firing: &Firing) -> bool {
        self.expected.iter().any(|expected| expected.is(firing))
    }
}

/// Each expected alert fires in its time from `begin_s` on.
pub(super) fn expected(alerts: &Alerts, fired: &[Firing], begin_s: f64) -> Vec<Check> {
    let check = |expected: &ExpectedAlert| {
        let those = fired.iter().filter(|firing| expected.is(firing));
        let first_s = those.map(|firing| firing.from_s - begin_s).reduce(f64::min);
        Check::of(
            Part::Alerts,
            format!("seconds until {} fires", expected.title()),
            (Some(1.0), Some(expected.within_s)),
            first_s,
            "One that comes too late, or never, leaves the users to tell you; one that is there at once was there before.",
        )
    };
    alerts.expected.iter().map(check).collect()
}

/// None of `unwanted` fired.
pub(super) fn silent(part: Part, what: &str, unwanted: &[&Firing], why: &str) -> Check {
    let named: Vec<_> = unwanted.iter().map(ToString::to_string).collect();
    let named = if named.is_empty() {
        String::new()
    } else {
        format!(" ({})", named.join(", "))
    };
    Check::of(
        part,
        format!("{what}{named}"),
        (None, Some(0.0)),
        Some(unwanted.len() as f64),
        why,
    )
}

/// The alerts of `fired` that page and that nobody foresaw.
pub(super) fn unforeseen<'a>(
    alerts: &Alerts,
    allowed: &BTreeMap<String, String>,
    with_expected: bool,
    fired: &'a [Firing],
) -> Vec<&'a Firing> {
    let foreseen = |firing: &Firing| {
        allowed.contains_key(&firing.name) || (with_expected && alerts.expects(firing))
    };
    fired
        .iter()
        .filter(|firing| firing.pages() && !foreseen(firing))
        .collect()
}

impl std::fmt::Display for Firing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = ["journey", "slo", "role", "queue", "peer"];
        let labels = keys.map(|key| self.label(key));
        let labels: Vec<_> = labels
            .into_iter()
            .filter(|label| !label.is_empty())
            .collect();
        write!(f, "{}[{}]", self.name, labels.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: Part, measured: Option<f64>) -> Check {
        Check {
            expr: Some("a".into()),
            ..Check::of(part, "a".into(), (Some(1.0), Some(2.0)), measured, "b")
        }
    }

    fn firing(name: &str, severity: &str, from_s: f64) -> Firing {
        let labels = [("severity", severity), ("journey", "order")];
        let owned = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Firing {
            name: name.into(),
            labels: owned.into(),
            from_s,
            to_s: from_s + 5.0,
        }
    }

    fn alerts() -> Alerts {
        let expected = ExpectedAlert {
            name: "Burn".into(),
            labels: BTreeMap::from([("journey".into(), "order".into())]),
            within_s: 20.0,
        };
        Alerts {
            expected: vec![expected],
            allowed: BTreeMap::from([("Other".into(), "It may.".into())]),
            ..Alerts::default()
        }
    }

    #[test]
    fn a_bad_world_is_not_a_bad_option() {
        for part in [Part::Steady, Part::Calibrate, Part::Prove] {
            let checks = [check(part, Some(3.0)), check(Part::HarmBounds, Some(3.0))];
            assert_eq!(verdict(checks.iter()).0, Verdict::Invalid);
        }
        for part in [Part::HarmBounds, Part::Fixed, Part::Replay, Part::Alerts] {
            let (verdict, reasons) = verdict([check(part, Some(3.0))].iter());
            assert_eq!(verdict, Verdict::NotAsExpected);
            assert_eq!(reasons, ["a: 3 (must be 1 to 2). b"]);
        }
    }

    #[test]
    fn a_run_that_failed_is_not_excused_by_one_that_does_not_count() {
        use Verdict::{AsExpected, Invalid, NotAsExpected};
        for (runs, together) in [
            (vec![], Invalid),
            (vec![AsExpected, AsExpected], AsExpected),
            (vec![AsExpected, Invalid], Invalid),
            (vec![Invalid, NotAsExpected, AsExpected], NotAsExpected),
        ] {
            assert_eq!(Verdict::of_all(runs.into_iter()), together);
        }
    }

    #[test]
    fn what_was_not_measured_makes_the_run_invalid() {
        let unseen = [check(Part::HarmBounds, None)];
        assert_eq!(verdict(unseen.iter()).0, Verdict::Invalid);
        let none = rejected("restart shop", "", unseen.clone().into());
        assert_eq!(verdict([none].iter()).0, Verdict::Invalid);
        // Unless what was measured is enough.
        let broken = check(Part::HarmBounds, Some(3.0));
        let both = [unseen[0].clone(), broken];
        assert_eq!(verdict(both.iter()).0, Verdict::NotAsExpected);
        let none = rejected("restart shop", "", both.into());
        assert_eq!(verdict([none].iter()).0, Verdict::AsExpected);
    }

    #[test]
    fn what_is_no_cure_must_break_a_bound() {
        let good = check(Part::Fixed, Some(1.5));
        let bad = check(Part::Fixed, Some(0.5));
        let none = rejected("restart shop", "", vec![good.clone(), bad]);
        assert_eq!(verdict([none].iter()).0, Verdict::AsExpected);
        let cure = rejected("restart shop", "", vec![good]);
        let (verdict, reasons) = verdict([cure].iter());
        assert_eq!(verdict, Verdict::NotAsExpected);
        assert!(reasons[0].contains("it cures"), "{reasons:?}");
    }

    #[test]
    fn an_alert_must_come_in_time() {
        let at = |from_s| expected(&alerts(), &[firing("Burn", "critical", from_s)], 100.0);
        assert!(at(120.0)[0].held);
        assert!(!at(121.0)[0].held);
        assert!(!expected(&alerts(), &[firing("Other", "critical", 101.0)], 100.0)[0].held);
        // One that never fires is a finding and not a bad world.
        let never = expected(&alerts(), &[], 100.0);
        assert_eq!(verdict(never.iter()).0, Verdict::NotAsExpected);
    }

    #[test]
    fn a_page_that_nobody_foresaw_is_named() {
        let fired = [
            firing("Burn", "critical", 101.0),
            firing("Other", "critical", 102.0),
            firing("Third", "critical", 103.0),
            firing("Fourth", "warning", 104.0),
        ];
        let alerts = alerts();
        let names = |allowed, with_expected| {
            let those = unforeseen(&alerts, allowed, with_expected, &fired);
            those
                .iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&alerts.allowed, true), ["Third"]);
        assert_eq!(
            names(&alerts.allowed_sound, false),
            ["Burn", "Other", "Third"]
        );
        let third = [&fired[2]];
        let check = silent(Part::Alerts, "pages", &third, "");
        assert!(!check.held);
        assert_eq!(
            check.to_string(),
            "pages (Third[order]): 1 (must be at most 0)"
        );
    }
}
