//! The judgement on a run: a function of what was seen.
//!
//! It can be made again from a record, and it is tested without a lab. It keeps two failures apart. A run
//! whose world was not as the drill needs it (too slow a machine, a shock that did not arrive) is invalid and
//! says nothing about the choice; a run in a good world that went another way than the file says is not as
//! expected.

use serde::Serialize;

use super::condition::{Condition, Marks};
use super::plan::{Leg, WARM_UP_MAX_S};
use super::seen::Observations;

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What the file says.
    AsExpected,
    /// Something else.
    NotAsExpected,
    /// The run does not count.
    Invalid,
}

/// The part of the drill to which a condition belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Before the shock.
    Steady,
    /// The shock was delivered, the machine kept up.
    Prove,
    /// What came of it.
    HarmBounds,
}

/// A condition and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// To which part it belongs.
    pub part: Part,
    /// The condition.
    #[serde(flatten)]
    pub condition: Condition,
    /// What was measured; none if it could not be.
    pub measured: Option<f64>,
    /// Whether the condition holds.
    pub held: bool,
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let measured = self.measured.map_or("not measured".into(), number);
        let bounds = self.condition.bounds();
        write!(f, "{}: {measured} ({bounds})", self.condition)
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
    format!("{value:.digits$}")
}

/// The marks as if the shock began where the last settled second ends.
pub(super) fn steady_marks(seen: &Observations) -> Marks {
    let now_s = seen.settled_s().unwrap_or_default();
    Marks {
        shock_begin_s: now_s,
        shock_end_s: now_s,
        fix_s: None,
    }
}

/// The steady conditions, as if the shock began where the last settled second ends.
pub(super) fn judge_steady(leg: Leg<'_>, seen: &Observations) -> Vec<Judged> {
    let marks = steady_marks(seen);
    let steady = leg.conditions().filter(|(part, _)| *part == Part::Steady);
    judge(steady, &marks, seen)
}

pub(super) fn judge<'a>(
    conditions: impl Iterator<Item = (Part, &'a Condition)>,
    marks: &Marks,
    seen: &Observations,
) -> Vec<Judged> {
    let one = |(part, condition): (Part, &Condition)| {
        let window = condition.window.on(marks);
        let measured = window.and_then(|(from_s, to_s)| {
            seen.measure(condition.signal, condition.journey, from_s, to_s)
        });
        Judged {
            part,
            condition: condition.clone(),
            measured,
            held: measured.is_some_and(|measured| condition.holds(measured)),
        }
    };
    conditions.map(one).collect()
}

pub(super) fn verdict(conditions: &[Judged], was_steady: bool) -> (Verdict, Vec<String>) {
    let reason = |judged: &Judged| format!("{judged}. {}", judged.condition.why);
    if !was_steady {
        let unmet = conditions.iter().filter(|judged| !judged.held).map(reason);
        let first = format!("The lab was not steady within {WARM_UP_MAX_S:.0} s.");
        return (
            Verdict::Invalid,
            std::iter::once(first).chain(unmet).collect(),
        );
    }
    let voids = |judged: &&Judged| {
        judged.measured.is_none() || (!judged.held && judged.part != Part::HarmBounds)
    };
    let invalid: Vec<String> = conditions.iter().filter(voids).map(reason).collect();
    if !invalid.is_empty() {
        return (Verdict::Invalid, invalid);
    }
    let unmet = conditions.iter().filter(|judged| !judged.held);
    let unmet: Vec<String> = unmet.map(reason).collect();
    if unmet.is_empty() {
        (Verdict::AsExpected, unmet)
    } else {
        (Verdict::NotAsExpected, unmet)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::world::World;
    use super::super::{OptionName, Record, find};
    use super::*;

    /// A run of the first drill in a world that behaves as the drill says.
    pub(in super::super) fn run(world: World, option: OptionName, fix: bool) -> Record {
        let world = World {
            poor: option == OptionName::Poor,
            fix_s: fix.then_some(110.0),
            ..world
        };
        judged(world, option, fix)
    }

    /// A run of 160 s whose shock lasts from 40 to 44 s, and whose fix comes at 110 s.
    fn judged(world: World, option: OptionName, fix: bool) -> Record {
        let drill = find("after-the-spike").unwrap();
        let marks = Marks {
            shock_begin_s: 40.0,
            shock_end_s: 44.0,
            fix_s: fix.then_some(110.0),
        };
        let world = World {
            shock: Some((40.0, 44.0)),
            ..world
        };
        let leg = Leg { drill, option, fix };
        Record::new(leg, 1, Some(marks), Vec::new(), world.observe(160))
    }

    fn said(record: &Record) -> String {
        format!("{:?}: {}", record.verdict, record.reasons.join(" "))
    }

    #[test]
    fn an_outage_that_outlives_its_shock_is_what_the_poor_option_is_about() {
        let record = run(World::HEALTHY, OptionName::Poor, false);
        assert_eq!(said(&record), "AsExpected: ");
        let record = run(World::HEALTHY, OptionName::Poor, true);
        assert_eq!(said(&record), "AsExpected: ");
    }

    #[test]
    fn the_sound_option_heals_by_itself() {
        let record = run(World::HEALTHY, OptionName::Sound, false);
        assert_eq!(said(&record), "AsExpected: ");
    }

    #[test]
    fn a_poor_option_that_heals_is_not_as_expected() {
        let record = judged(World::HEALTHY, OptionName::Poor, false);
        assert_eq!(record.verdict, Verdict::NotAsExpected);
        assert!(said(&record).contains("order: share of good answers, 0 to 60 s"));
    }

    #[test]
    fn a_sound_option_that_stays_down_is_not_as_expected() {
        let poor = World {
            poor: true,
            ..World::HEALTHY
        };
        let record = judged(poor, OptionName::Sound, false);
        assert_eq!(record.verdict, Verdict::NotAsExpected);
    }

    #[test]
    fn a_fix_that_does_not_cure_is_not_as_expected() {
        let poor = World {
            poor: true,
            ..World::HEALTHY
        };
        let record = judged(poor, OptionName::Poor, true);
        assert_eq!(record.verdict, Verdict::NotAsExpected);
        assert!(said(&record).contains("15 to 45 s from the fix"));
    }

    #[test]
    fn what_was_not_measured_makes_the_run_invalid() {
        let mut seen = World {
            shock: Some((40.0, 44.0)),
            poor: true,
            ..World::HEALTHY
        }
        .observe(160);
        for sample in &mut seen.samples {
            sample.attempts = None;
        }
        let judged = run(World::HEALTHY, OptionName::Poor, false);
        let leg = Leg {
            drill: find("after-the-spike").unwrap(),
            option: OptionName::Poor,
            fix: false,
        };
        let record = Record::new(leg, 1, judged.marks, Vec::new(), seen);
        assert_eq!(record.verdict, Verdict::Invalid);
        assert!(said(&record).contains("attempts per order"));
        assert!(said(&record).contains("not measured"));
    }

    #[test]
    fn a_world_that_is_not_what_the_drill_needs_makes_the_run_invalid() {
        for (world, reason) in [
            (
                World {
                    bank: 40.0,
                    ..World::HEALTHY
                },
                "charges a second while some waited",
            ),
            (
                World {
                    late: 0.02,
                    ..World::HEALTHY
                },
                "started over 100 ms late",
            ),
            (
                World {
                    spike: 30.0,
                    ..World::HEALTHY
                },
                "order: offered a second, 0 to 4 s",
            ),
        ] {
            for option in [OptionName::Poor, OptionName::Sound] {
                let record = run(world, option, false);
                assert_eq!(record.verdict, Verdict::Invalid, "{}", said(&record));
                assert!(said(&record).contains(reason), "{}", said(&record));
            }
        }
    }

    #[test]
    fn a_lab_that_was_never_steady_is_judged_on_that_alone() {
        let drill = find("after-the-spike").unwrap();
        let leg = Leg {
            drill,
            option: OptionName::Poor,
            fix: false,
        };
        let world = World {
            late: 0.5,
            ..World::HEALTHY
        };
        let record = Record::new(leg, 1, None, Vec::new(), world.observe(90));
        assert_eq!(record.verdict, Verdict::Invalid);
        assert!(
            said(&record).contains("not steady within 90 s"),
            "{}",
            said(&record)
        );
        assert!(
            record
                .conditions
                .iter()
                .all(|judged| judged.part == Part::Steady)
        );
    }

    #[test]
    fn a_record_can_be_written_as_json() {
        let record = run(World::HEALTHY, OptionName::Poor, true);
        let value = serde_json::to_value(&record).unwrap();
        assert_eq!(value["verdict"], "as_expected");
        assert_eq!(value["option"], "poor");
        assert_eq!(value["conditions"][0]["signal"], "offered_per_s");
        assert_eq!(value["conditions"][0]["since_shock_begin_s"][0], -20.0);
        assert_eq!(value["conditions"][0]["measured"], 30.0);
        assert_eq!(
            value["observations"]["seconds"][0]["journeys"]["order"]["offered"],
            30
        );
    }
}
