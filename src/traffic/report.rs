//! What became of the users, second by second.
//!
//! Each request belongs to the second in which it was *meant* to start, whenever it ended: a stalled server
//! cannot make bad seconds disappear by answering late. Latencies are kept in HDR histograms, so a quantile
//! over any window is exact to two digits and not an average of averages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::telemetry::catalog::{Counter, Gauge};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::load::Journey;
use crate::telemetry::catalog;

/// Seconds that are kept.
const KEPT_S: usize = 600;

/// After how many seconds every request of a second has ended: patience, and some for a late start.
const SETTLED_S: u64 = 3;

/// Seconds of a report that is not asked for a window.
const WINDOW_S: u64 = 10;

/// Latencies are kept in units of 10 µs, up to a minute.
const UNIT_S: f64 = 1e-5;
const LATENCY_UNITS_MAX: u64 = 6_000_000;

/// Keeps what became of the users.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    seconds: Mutex<VecDeque<Second>>,
    meters: OnceLock<Meters>,
}

#[derive(Debug)]
pub(super) struct Meters {
    arrivals: [Counter; 4],
    active: Gauge,
}

impl Meters {
    fn new() -> Self {
        let arrivals = Journey::ALL.map(|journey| {
            let counter = catalog::firedrill_journey_arrivals_total(journey.name());
            counter.absolute(0);
            for outcome in ["good", "bad"] {
                drop(catalog::firedrill_journey_duration_seconds(
                    journey.name(),
                    outcome,
                ));
            }
            counter
        });
        let active = catalog::firedrill_journeys_active();
        active.set(0.0);
        Self { arrivals, active }
    }
}

#[derive(Debug)]
struct Second {
    at_s: u64,
    cells: [Cell; 4],
}

#[derive(Debug, Default, Clone)]
struct Cell {
    offered: u64,
    good: u64,
    errors: BTreeMap<&'static str, u64>,
    latencies: Option<Histogram<u32>>,
}

impl Cell {
    fn record(&mut self, outcome: Result<(), &'static str>, latency_s: f64) {
        match outcome {
            Ok(()) => self.good += 1,
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
        let histogram = self.latencies.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LATENCY_UNITS_MAX, 2).expect("the bounds are valid")
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a duration is not negative"
        )]
        histogram.saturating_record((latency_s / UNIT_S) as u64);
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.good += other.good;
        for (error, count) in &other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        match (&mut self.latencies, &other.latencies) {
            (_, None) => {}
            (None, Some(theirs)) => self.latencies = Some(theirs.clone()),
            (Some(ours), Some(theirs)) => ours.add(theirs).expect("the bounds are the same"),
        }
    }

    fn sum<'a>(cells: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for cell in cells {
            sum.add(cell);
        }
        sum
    }

    fn quantile_s(&self, quantile: f64) -> Option<f64> {
        self.latencies
            .as_ref()
            .map(|histogram| histogram.value_at_quantile(quantile) as f64 * UNIT_S)
    }
}

impl Recorder {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            seconds: Mutex::default(),
            meters: OnceLock::new(),
        }
    }

    /// The meters, which exist from the first call on. Not before the role has started: a meter that is older
    /// than the exporter counts into nothing.
    pub(super) fn meters(&self) -> &Meters {
        self.meters.get_or_init(Meters::new)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Second>> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a user meant to start at `intended`.
    pub(super) fn meant_to_start(self: &Arc<Self>, journey: Journey, intended: Instant) -> Ticket {
        let at_s = intended.saturating_duration_since(self.started).as_secs();
        self.meters().arrivals[journey as usize].increment(1);
        self.meters().active.increment(1.0);
        self.with_cell(at_s, journey, |cell| cell.offered += 1);
        Ticket {
            recorder: Arc::clone(self),
            journey,
            intended,
            at_s,
        }
    }

    fn with_cell(&self, at_s: u64, journey: Journey, change: impl FnOnce(&mut Cell)) {
        let mut seconds = self.lock();
        let position = seconds.iter().rposition(|second| second.at_s <= at_s);
        let index = match position {
            Some(index) if seconds[index].at_s == at_s => index,
            _ => {
                let index = position.map_or(0, |index| index + 1);
                seconds.insert(
                    index,
                    Second {
                        at_s,
                        cells: Default::default(),
                    },
                );
                index
            }
        };
        change(&mut seconds[index].cells[journey as usize]);
        while seconds.len() > KEPT_S {
            seconds.pop_front();
        }
    }

    /// What became of the users from `since` until `until`, in seconds since the start; only seconds that are
    /// settled. Without bounds: the last ten.
    #[must_use]
    pub fn report(&self, since: Option<f64>, until: Option<f64>) -> Report {
        let now_s = self.started.elapsed().as_secs_f64();
        let settled = self.started.elapsed().as_secs().saturating_sub(SETTLED_S);
        let until_s = until.map_or(settled, |until| whole(until).min(settled));
        let since_s = since
            .map_or(until_s.saturating_sub(WINDOW_S), whole)
            .min(until_s);
        let seconds = self.lock();
        let within: Vec<&Second> = seconds
            .iter()
            .filter(|second| (since_s..until_s).contains(&second.at_s))
            .collect();
        let length_s = (until_s - since_s) as f64;
        let of = |journey: Journey| {
            Cell::sum(within.iter().map(|second| &second.cells[journey as usize]))
        };
        let by_journey = Journey::ALL.map(|journey| (journey.name(), of(journey)));
        Report {
            now_s,
            since_s,
            until_s,
            total: Window::new(
                &Cell::sum(by_journey.iter().map(|(_, cell)| cell)),
                length_s,
            ),
            journeys: by_journey
                .iter()
                .map(|(name, cell)| (*name, Window::new(cell, length_s)))
                .collect(),
            seconds: (since_s.max(until_s.saturating_sub(KEPT_S as u64))..until_s)
                .map(|at_s| {
                    let kept = within.iter().find(|second| second.at_s == at_s);
                    kept.map_or_else(
                        || SecondReport::empty(at_s),
                        |second| SecondReport::new(second),
                    )
                })
                .collect(),
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is meant"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// A user on their way.
#[derive(Debug)]
pub(super) struct Ticket {
    recorder: Arc<Recorder>,
    journey: Journey,
    intended: Instant,
    at_s: u64,
}

impl Ticket {
    /// Notes how it ended.
    pub(super) fn ended(self, outcome: Result<(), &'static str>) {
        let latency_s = self.intended.elapsed().as_secs_f64();
        self.recorder.meters().active.decrement(1.0);
        self.recorder.with_cell(self.at_s, self.journey, |cell| {
            cell.record(outcome, latency_s);
        });
        let name = if outcome.is_ok() { "good" } else { "bad" };
        catalog::firedrill_journey_duration_seconds(self.journey.name(), name).record(latency_s);
    }
}

/// What became of the users in a window of time.
#[derive(Debug, Serialize)]
pub struct Report {
    now_s: f64,
    since_s: u64,
    until_s: u64,
    total: Window,
    journeys: BTreeMap<&'static str, Window>,
    seconds: Vec<SecondReport>,
}

#[derive(Debug, Serialize)]
struct Window {
    #[serde(flatten)]
    counts: Counts,
    offered_per_s: f64,
    good_per_s: f64,
    max_s: Option<f64>,
    errors: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Counts {
    offered: u64,
    good: u64,
    bad: u64,
    p50_s: Option<f64>,
    p99_s: Option<f64>,
}

impl Counts {
    fn new(cell: &Cell) -> Self {
        Self {
            offered: cell.offered,
            good: cell.good,
            bad: cell.errors.values().sum(),
            p50_s: cell.quantile_s(0.5),
            p99_s: cell.quantile_s(0.99),
        }
    }
}

impl Window {
    fn new(cell: &Cell, length_s: f64) -> Self {
        let per_s = |count: u64| {
            if length_s > 0.0 {
                count as f64 / length_s
            } else {
                0.0
            }
        };
        Self {
            counts: Counts::new(cell),
            offered_per_s: per_s(cell.offered),
            good_per_s: per_s(cell.good),
            max_s: cell
                .latencies
                .as_ref()
                .map(|histogram| histogram.max() as f64 * UNIT_S),
            errors: cell.errors.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SecondReport {
    at_s: u64,
    total: Counts,
    journeys: BTreeMap<&'static str, Counts>,
}

impl SecondReport {
    /// A second in which nobody meant to start.
    fn empty(at_s: u64) -> Self {
        Self::new(&Second {
            at_s,
            cells: Default::default(),
        })
    }

    fn new(second: &Second) -> Self {
        let journeys = Journey::ALL
            .map(|journey| (journey.name(), Counts::new(&second.cells[journey as usize])));
        Self {
            at_s: second.at_s,
            total: Counts::new(&Cell::sum(&second.cells)),
            journeys: journeys.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stalled_server_cannot_hide_its_bad_seconds() {
        let recorder = Arc::new(Recorder::new());
        let start = Instant::now();
        let tickets: Vec<_> = (0..10)
            .map(|n| {
                recorder.meant_to_start(Journey::Order, start + Duration::from_millis(100 * n))
            })
            .collect();
        // The server stands still for two seconds and then answers all at once.
        tokio::time::advance(Duration::from_secs(2)).await;
        for ticket in tickets {
            ticket.ended(Ok(()));
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        let report = recorder.report(Some(0.0), Some(1.0));
        assert_eq!(report.total.counts.offered, 10);
        assert!(
            report.total.counts.p50_s.unwrap() > 1.4,
            "latency counts from the intended start"
        );
        assert_eq!(recorder.report(Some(1.0), None).total.counts.offered, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_without_users_is_a_second_all_the_same() {
        let recorder = Arc::new(Recorder::new());
        tokio::time::advance(Duration::from_secs(10)).await;
        let report = recorder.report(Some(2.0), None);
        let seconds: Vec<_> = report.seconds.iter().map(|second| second.at_s).collect();
        assert_eq!(seconds, [2, 3, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ended_is_still_offered() {
        let recorder = Arc::new(Recorder::new());
        drop(recorder.meant_to_start(Journey::Browse, Instant::now()));
        tokio::time::advance(Duration::from_secs(10)).await;
        let report = recorder.report(Some(0.0), None);
        assert_eq!(
            (report.total.counts.offered, report.total.counts.good),
            (1, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_outside_what_is_known_is_empty() {
        let recorder = Arc::new(Recorder::new());
        tokio::time::advance(Duration::from_secs(10)).await;
        for (since, until) in [
            (Some(1e300), None),
            (Some(-5.0), Some(-1.0)),
            (Some(9.0), Some(2.0)),
            (Some(f64::NAN), None),
        ] {
            assert_eq!(recorder.report(since, until).total.counts.offered, 0);
        }
    }
}
