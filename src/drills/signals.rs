//! What can be measured: PromQL, so that whoever doubts a verdict can ask the same of any Prometheus.
//!
//! These are the signals that any drill may need; what only one can need it adds under `signals`. In each,
//! `$window` stands for the length of the stretch that is judged, and `$journey` for a journey of the users.

use std::borrow::Cow;

use super::condition::{Condition, Journey};
use super::format::{CALIBRATE_S, Experiment};

/// A signal: its name in the files, what it is in a few words, and how it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub says: &'a str,
    /// PromQL with `$window` and perhaps `$journey`, which brings one number.
    pub expr: &'a str,
}

/// The signals of every drill.
pub static SIGNALS: &[Signal<'static>] = &[
    Signal {
        name: "goodput_ratio",
        says: "share of good answers",
        // Of those that ended: each does, for users give up.
        expr: r#"sum(increase(firedrill_journey_duration_seconds_count{journey="$journey",outcome="good"}[$window]))
            / sum(increase(firedrill_journey_duration_seconds_count{journey="$journey"}[$window]))"#,
    },
    Signal {
        name: "offered_per_s",
        says: "offered a second",
        expr: r#"sum(rate(firedrill_journey_arrivals_total{journey="$journey"}[$window]))"#,
    },
    Signal {
        name: "good_per_s",
        says: "good answers a second",
        expr: r#"sum(rate(firedrill_journey_duration_seconds_count{journey="$journey",outcome="good"}[$window]))"#,
    },
    Signal {
        name: "p99_s",
        says: "p99 in seconds",
        expr: r#"histogram_quantile(0.99,
            sum by (le) (rate(firedrill_journey_duration_seconds_bucket{journey="$journey"}[$window])))"#,
    },
    Signal {
        name: "good_p99_s",
        says: "p99 of the good answers in seconds",
        expr: r#"histogram_quantile(0.99, sum by (le)
            (rate(firedrill_journey_duration_seconds_bucket{journey="$journey",outcome="good"}[$window])))"#,
    },
    Signal {
        name: "late_start_ratio",
        says: "share of journeys started over 100 ms late",
        expr: r#"1 - sum(increase(firedrill_journey_start_delay_seconds_bucket{le="0.1"}[$window]))
            / sum(increase(firedrill_journey_start_delay_seconds_count[$window]))"#,
    },
    Signal {
        name: "late_write_ratio",
        says: "share of writes over 500 ms late",
        expr: r#"1 - sum(increase(firedrill_queue_wait_seconds_bucket{queue="writer",le="0.5"}[$window]))
            / sum(increase(firedrill_queue_wait_seconds_count{queue="writer"}[$window]))"#,
    },
    Signal {
        name: "attempts_per_order",
        says: "attempts per order",
        expr: r#"sum(increase(firedrill_client_attempts_total{peer="payments"}[$window]))
            / sum(increase(firedrill_client_calls_total{peer="payments"}[$window]))"#,
    },
    Signal {
        name: "bank_served_per_s",
        says: "charges the bank served a second",
        expr: "sum(rate(firedrill_bank_charges_total[$window]))",
    },
    // How fast the bank can work, whatever it is offered: it tells a slow machine from an idle bank.
    Signal {
        name: "bank_speed_per_s",
        says: "charges a second while some waited",
        expr: r#"avg_over_time((sum(rate(firedrill_bank_charges_total[5s]))
            and on () sum(min_over_time(firedrill_queue_depth{queue="bank"}[5s])) >= 1)[$window:1s])"#,
    },
    Signal {
        name: "bank_queue_depth",
        says: "charges waiting at the bank",
        expr: r#"sum(avg_over_time(firedrill_queue_depth{queue="bank"}[$window]))"#,
    },
    Signal {
        name: "pool_waiting",
        says: "requests that wait for a connection",
        expr: r#"sum(avg_over_time(db_client_connection_pending_requests{role="shop"}[$window]))"#,
    },
];

impl Signal<'_> {
    /// Whether it is measured for one journey of the users.
    #[must_use]
    pub fn is_of_a_journey(&self) -> bool {
        self.expr.contains("$journey")
    }

    /// What it is, of whom.
    #[must_use]
    pub fn title(&self, journey: Option<Journey>) -> String {
        let journey = journey.map_or("", Journey::name);
        format!("{journey} {}", self.says).trim_start().to_owned()
    }

    /// The question over a window of `length_s` seconds, in one line.
    #[must_use]
    pub fn ask(&self, journey: Option<Journey>, length_s: f64) -> String {
        let mut expr = Cow::from(self.expr);
        if let Some(journey) = journey {
            expr = expr.replace("$journey", journey.name()).into();
        }
        let window = format!("{:.0}ms", (length_s * 1e3).max(1.0));
        let expr = expr.replace("$window", &window);
        expr.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Experiment {
    /// The signal with this name: the drill's own, or one of every drill.
    #[must_use]
    pub fn signal<'a>(&'a self, name: &'a str) -> Option<Signal<'a>> {
        let own = self.signals.get_key_value(name);
        let own = own.map(|(name, own)| Signal {
            name,
            says: &own.says,
            expr: &own.expr,
        });
        own.or_else(|| SIGNALS.iter().find(|one| one.name == name).copied())
    }

    /// What is measured of this machine: each name, and how it is asked for.
    pub(super) fn calibrations(&self) -> impl Iterator<Item = (&str, String)> {
        self.calibrate.iter().map(|(name, calibration)| {
            let signal = Signal {
                name,
                says: &calibration.says,
                expr: &calibration.expr,
            };
            (name.as_str(), signal.ask(None, CALIBRATE_S))
        })
    }

    /// Each question that the drill asks, over so many seconds, under the name of its signal.
    pub(super) fn questions(&self, length_s: f64) -> impl Iterator<Item = (&str, String)> {
        let asked = self.asked().filter_map(move |(name, journey)| {
            let signal = self.signal(name)?;
            Some((name, signal.ask(journey, length_s)))
        });
        asked.chain(self.calibrations())
    }

    /// What a condition measures, in words.
    #[must_use]
    pub fn words(&self, condition: &Condition) -> String {
        let says = self
            .signal(&condition.signal)
            .map_or(condition.signal.as_str(), |signal| signal.says);
        let journey = condition.journey.map_or("", Journey::name);
        let between = if journey.is_empty() { "" } else { ": " };
        format!("{journey}{between}{says}, {}", condition.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line_without_placeholders() {
        for signal in SIGNALS {
            let asked = signal.ask(Some(Journey::Order), 2.5);
            assert!(!asked.contains('$'), "{asked}");
            assert!(!asked.contains('\n'), "{asked}");
            assert!(asked.contains("[2500ms"), "{asked}");
            assert_eq!(signal.is_of_a_journey(), asked.contains("\"order\""));
        }
    }
}
