//! What users got, as traffic reports it, and the last three minutes of it.
//!
//! Traffic keeps its own clock and begins anew when it is restarted. The console keeps each settled second
//! under the time of day, so that the charts go on across a restart, with a gap where nothing was known.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How much of the past is kept, in seconds.
pub const HISTORY_S: u32 = 180;

/// How long 99 % of the good journeys may take, in seconds, as the alert rules have it. What is not here has no promise.
const PROMISES: [(&str, f64); 3] = [("browse", 0.25), ("login", 0.5), ("order", 0.5)];

/// How long 99 % of the good journeys of this name may take, in seconds.
#[must_use]
pub fn promise_s(journey: &str) -> Option<f64> {
    let of_journey = PROMISES.iter().find(|(name, _)| *name == journey);
    of_journey.map(|(_, promise)| *promise)
}

/// Traffic's answer to `GET /report`.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// Seconds since traffic began.
    pub now_s: f64,
    /// Where the window begins, on the same clock.
    pub since_s: f64,
    /// Where the window ends: the last second whose requests have all ended.
    pub until_s: f64,
    /// All journeys together.
    pub total: Window,
    /// Each journey.
    pub journeys: BTreeMap<String, Window>,
    /// Each second of the window.
    pub seconds: Vec<Second>,
}

/// What users got within a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Journeys that users meant to start.
    pub offered: u64,
    /// Those that ended well and in time.
    pub good: u64,
    /// Those that did not.
    pub bad: u64,
    /// Journeys a second that users meant to start.
    pub offered_per_s: f64,
    /// Good ones a second.
    pub good_per_s: f64,
    /// The median duration, in seconds; `null` if there was none.
    pub p50_s: Option<f64>,
    /// What 99 % of durations stayed below, in seconds.
    pub p99_s: Option<f64>,
    /// The longest duration, in seconds.
    pub max_s: Option<f64>,
    /// The bad ones, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// One second.
#[derive(Debug, Clone, Deserialize)]
pub struct Second {
    /// When, in seconds since traffic began.
    pub at_s: f64,
    /// All journeys together.
    pub total: Counts,
}

/// What users got within one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Journeys that users meant to start.
    pub offered: u64,
    /// Those that ended well and in time.
    pub good: u64,
    /// Those that did not.
    pub bad: u64,
    /// The median duration, in seconds.
    pub p50_s: Option<f64>,
    /// What 99 % of durations stayed below, in seconds.
    pub p99_s: Option<f64>,
}

/// One second under the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// When, in seconds since the epoch.
    pub at_s: f64,
    /// What users got.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The last [`HISTORY_S`] seconds.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    /// When traffic began, in seconds since the epoch.
    began_s: Option<f64>,
    /// The last second that is known, on traffic's clock.
    last_s: Option<f64>,
}

impl History {
    /// Notes when traffic began: at `now_s` (seconds since the epoch) it has run for `ran_s`.
    pub fn note_clock(&mut self, now_s: f64, ran_s: f64) {
        let began_s = now_s - ran_s;
        // Answers take a while, so the difference wavers; a restart moves it by more.
        if self
            .began_s
            .is_none_or(|known| (known - began_s).abs() > 2.0)
        {
            self.began_s = Some(began_s);
            self.last_s = None;
        }
    }

    /// From when on traffic has to be asked, on its own clock, because `report` begins after a gap.
    #[must_use]
    pub fn gap_before(&self, report: &Report) -> Option<f64> {
        let oldest = (report.until_s - f64::from(HISTORY_S)).max(0.0).floor();
        let wanted = self.last_s.map_or(oldest, |last| (last + 1.0).max(oldest));
        (wanted < report.since_s).then_some(wanted)
    }

    /// Adds the seconds of `report` that are new, and lets go of what is too old.
    pub fn add(&mut self, report: &Report) {
        let Some(began_s) = self.began_s else { return };
        for second in &report.seconds {
            if self.last_s.is_some_and(|last| second.at_s <= last) {
                continue;
            }
            self.last_s = Some(second.at_s);
            self.points.push_back(Point {
                at_s: began_s + second.at_s,
                counts: second.total,
            });
        }
        while self.points.len() > HISTORY_S as usize {
            self.points.pop_front();
        }
    }

    /// What is not older than [`HISTORY_S`] at `now_s` (seconds since the epoch), oldest first.
    #[must_use]
    pub fn since(&self, now_s: f64) -> Vec<Point> {
        let oldest = now_s - f64::from(HISTORY_S);
        self.points
            .iter()
            .filter(|point| point.at_s >= oldest)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(since: u32, until: u32) -> Report {
        let counts = json!({"offered": 100, "good": 99, "bad": 1, "p50_s": 0.004, "p99_s": null});
        let window = json!({"offered": 1000, "good": 990, "bad": 10, "offered_per_s": 100.0,
            "good_per_s": 99.0, "p50_s": 0.004, "p99_s": 0.2, "max_s": 0.3, "errors": {"503": 10}});
        let second = |at: u32| json!({"at_s": at, "total": counts, "journeys": {"order": counts}});
        let seconds: Vec<_> = (since..until).map(second).collect();
        let answer = json!({"now_s": until + 3, "since_s": since, "until_s": until,
            "total": window, "journeys": {"order": window}, "seconds": seconds});
        serde_json::from_value(answer).unwrap()
    }

    fn times(history: &History) -> Vec<f64> {
        history.points.iter().map(|point| point.at_s).collect()
    }

    #[test]
    fn what_is_promised_is_what_the_rules_ask_for() {
        let rules = crate::rules::PRODUCTION.lines();
        let of_users = rules.filter(|line| {
            line.contains("firedrill_journey_duration_seconds_bucket{") && line.contains("le=\"")
        });
        let quoted = |line: &str, after: &str| {
            let rest = line.split(after).nth(1)?;
            Some(rest.split('"').next()?.to_owned())
        };
        let mut found = BTreeMap::new();
        for line in of_users {
            let names = quoted(line, "journey=\"").or_else(|| quoted(line, "journey=~\""));
            let bound: f64 = quoted(line, "le=\"").unwrap().parse().unwrap();
            for name in names.unwrap().split('|') {
                found.insert(name.to_owned(), bound);
                assert_eq!(promise_s(name), Some(bound), "{line}");
            }
        }
        assert_eq!(found.len(), PROMISES.len());
        assert_eq!(promise_s("search"), None);
    }

    #[test]
    fn overlapping_reports_give_each_second_once() {
        let mut history = History::default();
        history.note_clock(1013.0, 13.0);
        history.add(&report(0, 10));
        history.note_clock(1014.2, 14.0);
        history.add(&report(1, 11));
        let expected: Vec<f64> = (1000..=1010).map(f64::from).collect();
        assert_eq!(times(&history), expected);
    }

    #[test]
    fn a_gap_is_asked_for_but_not_beyond_what_is_kept() {
        let mut history = History::default();
        history.note_clock(1013.0, 13.0);
        assert_eq!(history.gap_before(&report(0, 10)), None);
        assert_eq!(history.gap_before(&report(90, 100)), Some(0.0));
        assert_eq!(history.gap_before(&report(490, 500)), Some(320.0));
        history.add(&report(0, 10));
        assert_eq!(history.gap_before(&report(1, 11)), None);
        assert_eq!(history.gap_before(&report(30, 40)), Some(10.0));
    }

    #[test]
    fn a_restart_of_traffic_continues_the_history() {
        let mut history = History::default();
        history.note_clock(1013.0, 13.0);
        history.add(&report(0, 10));
        history.note_clock(1030.0, 5.0);
        assert_eq!(history.gap_before(&report(0, 2)), None);
        history.add(&report(0, 2));
        assert_eq!(times(&history)[9..], [1009.0, 1025.0, 1026.0]);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut history = History::default();
        history.note_clock(1603.0, 603.0);
        history.add(&report(0, 600));
        assert_eq!(times(&history).len(), HISTORY_S as usize);
        assert_eq!(history.since(1600.0).len(), HISTORY_S as usize);
        assert_eq!(history.since(1700.0).len(), 80);
        assert_eq!(history.since(9999.0), []);
    }
}
