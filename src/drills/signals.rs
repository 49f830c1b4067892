//! How a signal is measured over a window of what was seen.
//!
//! What was not seen is `None`, never zero: a drill must not pass because a metric was renamed.

use super::condition::{Journey, Signal};
use super::seen::{Count, Observations, P99, Sample};

/// The longest gap between two readings of the counters that is bridged, in seconds.
const GAP_MAX_S: f64 = 3.0;

impl Observations {
    /// The signal over the window, on the users' clock; `None` if not all of the window was seen.
    #[must_use]
    pub fn measure(
        &self,
        signal: Signal,
        journey: Option<Journey>,
        from_s: f64,
        to_s: f64,
    ) -> Option<f64> {
        let rate = |value: fn(&Sample) -> Option<f64>| {
            Some(self.increase(from_s, to_s, value)? / (to_s - from_s))
        };
        let ratio = |part: fn(&Sample) -> Option<f64>, whole: fn(&Sample) -> Option<f64>| {
            let whole = self.increase(from_s, to_s, whole)?;
            (whole > 0.0).then_some(self.increase(from_s, to_s, part)? / whole)
        };
        match signal {
            Signal::OfferedPerS | Signal::GoodPerS | Signal::GoodputRatio => {
                let (count, seconds) = self.count(journey?, from_s, to_s)?;
                let (offered, good) = (count.offered as f64, count.good as f64);
                match signal {
                    Signal::OfferedPerS => Some(offered / seconds),
                    Signal::GoodPerS => Some(good / seconds),
                    _ => (offered > 0.0).then_some(good / offered),
                }
            }
            Signal::P99S => self.find_p99(journey?, from_s, to_s)?.p99_s,
            Signal::LateStartRatio => {
                ratio(|s| s.starts_in_time, |s| s.starts).map(|in_time| 1.0 - in_time)
            }
            Signal::LateWriteRatio => {
                ratio(|s| s.writes_in_time, |s| s.writes).map(|in_time| 1.0 - in_time)
            }
            Signal::AttemptsPerOrder => ratio(|s| s.attempts, |s| s.calls),
            Signal::BankServedPerS => rate(|s| s.bank_served),
            Signal::BankUnclaimedPerS => rate(|s| s.bank_unclaimed),
            Signal::ShopOrdersOkPerS => rate(|s| s.shop_orders_ok),
            Signal::BankSpeedPerS => self.bank_speed(from_s, to_s),
            Signal::BankQueueDepth => {
                let depths: Option<Vec<f64>> = self
                    .within(from_s, to_s)
                    .iter()
                    .map(|s| s.bank_queue_depth)
                    .collect();
                let depths = depths.filter(|depths| !depths.is_empty())?;
                Some(depths.iter().sum::<f64>() / depths.len() as f64)
            }
        }
    }

    /// The quantile of a window, if the users were asked for it.
    pub(super) fn find_p99(&self, journey: Journey, from_s: f64, to_s: f64) -> Option<&P99> {
        let (from_s, to_s) = whole_seconds(from_s, to_s);
        let same = |a: f64, b: f64| (a - b).abs() < 0.5;
        self.p99
            .iter()
            .find(|p99| p99.journey == journey && same(p99.from_s, from_s) && same(p99.to_s, to_s))
    }

    /// The end of the last second of which all is known.
    #[must_use]
    pub fn settled_s(&self) -> Option<f64> {
        self.seconds.last().map(|second| second.at_s + 1.0)
    }

    /// Whether the users reported on all of the window.
    pub(super) fn covers(&self, from_s: f64, to_s: f64) -> bool {
        let (from_s, to_s) = whole_seconds(from_s, to_s);
        let first = self.seconds.first().map(|second| second.at_s);
        first.is_some_and(|first_s| first_s < from_s + 0.5) && self.settled_s() > Some(to_s - 0.5)
    }

    /// The journeys of the whole seconds in the window, and how many seconds these are.
    fn count(&self, journey: Journey, from_s: f64, to_s: f64) -> Option<(Count, f64)> {
        let (from_s, to_s) = whole_seconds(from_s, to_s);
        let seconds = self
            .seconds
            .iter()
            .filter(|second| second.at_s > from_s - 0.5 && second.at_s < to_s - 0.5);
        let mut sum = Count::default();
        let mut seen = 0_u32;
        for second in seconds {
            let count = second.journeys.get(journey.name()).copied();
            let count = count.unwrap_or_default();
            sum.offered += count.offered;
            sum.good += count.good;
            seen += 1;
        }
        let seen = f64::from(seen);
        (seen > 0.0 && (seen - (to_s - from_s)).abs() < 0.5).then_some((sum, seen))
    }

    /// By how much a counter rose in the window.
    fn increase(&self, from_s: f64, to_s: f64, value: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let increase = self.counter_at(to_s, value)? - self.counter_at(from_s, value)?;
        let samples = self.within(from_s, to_s);
        // A counter that falls belongs to a process that was started anew: what it had counted is lost.
        let fell = samples
            .windows(2)
            .any(|pair| value(&pair[1]) < value(&pair[0]));
        (!fell && increase >= 0.0).then_some(increase)
    }

    /// What a counter stood at, on the straight line between the readings before and after.
    fn counter_at(&self, at_s: f64, value: fn(&Sample) -> Option<f64>) -> Option<f64> {
        let next = self.samples.partition_point(|sample| sample.at_s < at_s);
        let after = self.samples.get(next)?;
        if after.at_s - at_s < 1e-6 {
            return value(after);
        }
        let before = self.samples.get(next.checked_sub(1)?)?;
        let gap_s = after.at_s - before.at_s;
        if gap_s > GAP_MAX_S {
            return None;
        }
        let (low, high) = (value(before)?, value(after)?);
        Some(low + (high - low) * (at_s - before.at_s) / gap_s)
    }

    fn within(&self, from_s: f64, to_s: f64) -> &[Sample] {
        let begin = self.samples.partition_point(|sample| sample.at_s < from_s);
        let end = self.samples.partition_point(|sample| sample.at_s <= to_s);
        self.samples.get(begin..end).unwrap_or_default()
    }

    /// Charges a second over the gaps at both ends of which some were waiting.
    fn bank_speed(&self, from_s: f64, to_s: f64) -> Option<f64> {
        let waited = |sample: &Sample| sample.bank_queue_depth.is_some_and(|depth| depth >= 1.0);
        let (mut served, mut spent_s) = (0.0, 0.0);
        for pair in self.within(from_s, to_s).windows(2) {
            let [before, after] = pair else { continue };
            if waited(before) && waited(after) {
                served += after.bank_served? - before.bank_served?;
                spent_s += after.at_s - before.at_s;
            }
        }
        (spent_s > 0.0).then_some(served / spent_s)
    }
}

/// The whole seconds inside a window.
pub(super) fn whole_seconds(from_s: f64, to_s: f64) -> (f64, f64) {
    ((from_s - 1e-6).ceil(), (to_s + 1e-6).floor())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::seen::Second;
    use super::*;

    /// 20 seconds: 30 orders offered and 15 good in each; counters that rise by 10, 20, ... a second.
    fn observations() -> Observations {
        let mut observations = Observations::default();
        for at in 0..20_u32 {
            let at_s = f64::from(at);
            let count = Count {
                offered: 30,
                good: 15,
            };
            observations.seconds.push(Second {
                at_s,
                journeys: BTreeMap::from([("order".into(), count)]),
            });
            observations.samples.push(Sample {
                at_s: at_s + 0.25,
                attempts: Some(30.0 * at_s),
                calls: Some(10.0 * at_s),
                bank_served: Some(if at < 10 { 50.0 * at_s } else { 500.0 }),
                bank_queue_depth: Some(if at < 10 { 40.0 } else { 0.0 }),
                starts: Some(100.0 * at_s),
                starts_in_time: Some(98.0 * at_s),
                writes: Some(60.0 * at_s),
                writes_in_time: Some(57.0 * at_s),
                ..Sample::default()
            });
        }
        observations
    }

    fn near(measured: Option<f64>, expected: f64) {
        let measured = measured.expect("it was seen");
        assert!(
            (measured - expected).abs() < 1e-6,
            "{measured} is not {expected}"
        );
    }

    #[test]
    fn users_are_counted_by_whole_seconds() {
        let observations = observations();
        let order = Some(Journey::Order);
        near(
            observations.measure(Signal::OfferedPerS, order, 2.3, 7.9),
            30.0,
        );
        near(
            observations.measure(Signal::GoodPerS, order, 2.0, 7.0),
            15.0,
        );
        near(
            observations.measure(Signal::GoodputRatio, order, 0.0, 20.0),
            0.5,
        );
        near(
            observations.measure(Signal::OfferedPerS, Some(Journey::Login), 0.0, 20.0),
            0.0,
        );
    }

    #[test]
    fn what_was_not_seen_is_not_zero() {
        let mut observations = observations();
        let order = Some(Journey::Order);
        let measure =
            |seen: &Observations, signal, from_s, to_s| seen.measure(signal, order, from_s, to_s);
        assert_eq!(
            measure(&observations, Signal::OfferedPerS, 15.0, 21.0),
            None,
            "after the end"
        );
        assert_eq!(
            measure(&observations, Signal::OfferedPerS, 5.2, 5.8),
            None,
            "no whole second"
        );
        assert_eq!(measure(&observations, Signal::GoodputRatio, 5.0, 5.0), None);
        assert_eq!(
            measure(&observations, Signal::BankServedPerS, 0.0, 5.0),
            None,
            "before the first"
        );
        assert_eq!(
            measure(&observations, Signal::BankUnclaimedPerS, 2.0, 5.0),
            None,
            "no such metric"
        );
        assert_eq!(
            measure(&observations, Signal::P99S, 2.0, 5.0),
            None,
            "never asked"
        );
        observations.seconds.remove(10);
        assert_eq!(
            measure(&observations, Signal::OfferedPerS, 5.0, 15.0),
            None,
            "a hole"
        );
        observations.samples.drain(5..10);
        assert_eq!(
            measure(&observations, Signal::AttemptsPerOrder, 7.0, 15.0),
            None,
            "a hole"
        );
    }

    #[test]
    fn counters_are_rates_over_exactly_the_window() {
        let observations = observations();
        let measure = |signal, from_s, to_s| observations.measure(signal, None, from_s, to_s);
        near(measure(Signal::AttemptsPerOrder, 3.0, 9.0), 3.0);
        near(measure(Signal::BankServedPerS, 3.0, 9.0), 50.0);
        near(measure(Signal::BankServedPerS, 5.25, 15.25), 25.0);
        near(measure(Signal::LateStartRatio, 3.0, 9.0), 0.02);
        near(measure(Signal::LateWriteRatio, 3.0, 9.0), 0.05);
        near(measure(Signal::BankQueueDepth, 5.25, 14.25), 20.0);
    }

    #[test]
    fn an_idle_bank_is_not_a_slow_bank() {
        let observations = observations();
        near(
            observations.measure(Signal::BankSpeedPerS, None, 0.0, 20.0),
            50.0,
        );
        assert_eq!(
            observations.measure(Signal::BankSpeedPerS, None, 12.0, 20.0),
            None
        );
    }

    #[test]
    fn a_process_that_was_started_anew_is_not_measured_across() {
        let mut observations = observations();
        for sample in &mut observations.samples[8..] {
            sample.calls = Some(sample.at_s);
        }
        assert_eq!(
            observations.measure(Signal::AttemptsPerOrder, None, 3.0, 15.0),
            None
        );
    }
}
