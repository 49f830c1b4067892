//! For tests: a lab without processes. What its users and servers see follows from a few numbers.

use std::collections::BTreeMap;

use super::seen::{Count, Observations, P99, Sample, Second};
use super::{condition::Journey, record::JOURNEY};

/// A shop in which a shock starts an outage, and whether it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    /// When the shock begins and ends.
    pub(super) shock: Option<(f64, f64)>,
    /// Orders a second while it lasts; 30 otherwise.
    pub(super) spike: f64,
    /// Whether the outage goes on after the shock.
    pub(super) poor: bool,
    /// When the outage is cured.
    pub(super) fix_s: Option<f64>,
    /// Charges a second that the bank can do.
    pub(super) bank: f64,
    /// The share of journeys that start over 100 ms late.
    pub(super) late: f64,
}

impl World {
    pub(super) const HEALTHY: Self = Self {
        shock: None,
        spike: 150.0,
        poor: false,
        fix_s: None,
        bank: 50.0,
        late: 0.0,
    };

    fn is_in_shock(&self, at_s: f64) -> bool {
        self.shock
            .is_some_and(|(begin_s, end_s)| at_s >= begin_s && at_s < end_s)
    }

    /// Whether orders fail. After the shock, or the cure, the queue needs 3 s to drain.
    fn is_down(&self, at_s: f64) -> bool {
        let Some((begin_s, end_s)) = self.shock else {
            return false;
        };
        let heals_s = match (self.poor, self.fix_s) {
            (false, _) => end_s,
            (true, Some(fix_s)) => fix_s,
            (true, None) => f64::INFINITY,
        };
        at_s >= begin_s && at_s < heals_s + 3.0
    }

    fn offered(&self, at_s: f64) -> f64 {
        if self.is_in_shock(at_s) {
            self.spike
        } else {
            30.0
        }
    }

    fn attempts(&self, at_s: f64) -> f64 {
        let each = if self.is_down(at_s) && self.poor {
            3.0
        } else {
            1.0
        };
        self.offered(at_s) * each
    }

    fn served(&self, at_s: f64) -> f64 {
        if self.is_down(at_s) { self.bank } else { 30.0 }
    }

    /// What a rate adds up to from 0 on, in steps of a tenth of a second.
    fn total(at_s: f64, rate: impl Fn(f64) -> f64) -> f64 {
        let steps = (0_u32..)
            .map(f64::from)
            .take_while(|step| step / 10.0 < at_s);
        let width = |step: f64| (at_s - step / 10.0).min(0.1);
        steps.map(|step| rate(step / 10.0) * width(step)).sum()
    }

    pub(super) fn second(&self, at_s: f64) -> Second {
        let offered = if self.is_in_shock(at_s) { 150 } else { 30 };
        // The spike of the tests is either delivered whole or not at all.
        let offered = if self.spike < 100.0 { 30 } else { offered };
        let good = if self.is_down(at_s) { 0 } else { offered };
        let count = Count { offered, good };
        Second {
            at_s,
            journeys: BTreeMap::from([(JOURNEY.name().to_owned(), count)]),
        }
    }

    pub(super) fn sample(&self, at_s: f64) -> Sample {
        let total = |rate: fn(&Self, f64) -> f64| Some(Self::total(at_s, |at_s| rate(self, at_s)));
        Sample {
            at_s,
            attempts: total(Self::attempts),
            calls: total(Self::offered),
            shop_orders_ok: None,
            bank_served: total(Self::served),
            bank_unclaimed: total(
                |world, at_s| {
                    if world.is_down(at_s) { world.bank } else { 0.0 }
                },
            ),
            bank_queue_depth: Some(if self.is_down(at_s) { 50.0 } else { 0.0 }),
            starts: Some(100.0 * at_s),
            starts_in_time: Some(100.0 * at_s * (1.0 - self.late)),
            writes: Some(60.0 * at_s),
            writes_in_time: Some(60.0 * at_s),
        }
    }

    /// What a run would have seen of the first `length_s` seconds.
    pub(super) fn observe(&self, length_s: u32) -> Observations {
        let seconds = (0..length_s).map(f64::from);
        Observations {
            seconds: seconds.clone().map(|at_s| self.second(at_s)).collect(),
            samples: seconds.map(|at_s| self.sample(at_s)).collect(),
            p99: vec![P99 {
                journey: Journey::Order,
                from_s: 20.0,
                to_s: 40.0,
                p99_s: Some(0.18),
            }],
        }
    }
}
