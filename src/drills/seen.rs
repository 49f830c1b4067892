//! What was seen during a run, from both sides.
//!
//! Users are counted by the second in which they meant to start; servers are counters that are read once a
//! second. Both are kept whole, so that every window is judged afterwards from the same record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::Journey;
use super::text_format::{LabelTest, Scrape};

/// What users meant to start in one second, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The second's begin, on the users' clock.
    pub at_s: f64,
    /// By journey; one that nobody was on is left out.
    pub journeys: BTreeMap<String, Count>,
}

/// Journeys, and how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Meant to start.
    pub offered: u64,
    /// Answered well and in time.
    pub good: u64,
}

/// What the servers' counters stood at. `None` is a metric that was not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// When, on the users' clock.
    pub at_s: f64,
    /// Attempts that the shop made at payments.
    pub attempts: Option<f64>,
    /// Logical calls of the shop to payments.
    pub calls: Option<f64>,
    /// Orders that the shop answered with success.
    pub shop_orders_ok: Option<f64>,
    /// Charges that the bank finished.
    pub bank_served: Option<f64>,
    /// Answers of the bank that nobody waited for.
    pub bank_unclaimed: Option<f64>,
    /// Charges that waited at the bank; not a counter.
    pub bank_queue_depth: Option<f64>,
    /// Journeys that users started.
    pub starts: Option<f64>,
    /// Journeys that users started at most 100 ms late.
    pub starts_in_time: Option<f64>,
    /// Writes of the shop.
    pub writes: Option<f64>,
    /// Writes of the shop that waited at most 500 ms for their turn.
    pub writes_in_time: Option<f64>,
}

/// The latency that 99 % of a journey stayed within, over a window of whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct P99 {
    /// Which journey.
    pub journey: Journey,
    /// The window's begin, on the users' clock.
    pub from_s: f64,
    /// The window's end.
    pub to_s: f64,
    /// In seconds; none if nobody was on the journey.
    pub p99_s: Option<f64>,
}

/// All that was seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Observations {
    /// The users' seconds, in order.
    pub seconds: Vec<Second>,
    /// The servers' counters, in order.
    pub samples: Vec<Sample>,
    /// The windows for which the users were asked for a quantile: it cannot be had from those of its seconds.
    pub p99: Vec<P99>,
}

impl Sample {
    /// Reads the counters out of the metrics of the three roles.
    pub(super) fn read(at_s: f64, shop: &Scrape, payments: &[Scrape], traffic: &Scrape) -> Self {
        let bank = |name: &str, tests: &[LabelTest<'_>]| {
            let values = payments
                .iter()
                .filter_map(|replica| replica.sum(name, tests));
            values.reduce(|sum, value| sum + value)
        };
        let to_payments: &[LabelTest<'_>] = &[("peer", &|peer| peer == "payments")];
        let orders_ok: &[LabelTest<'_>] = &[
            ("http_request_method", &|method| method == "POST"),
            ("http_route", &|route| route == "/orders"),
            ("http_response_status_code", &|code| code.starts_with('2')),
        ];
        let in_time: &[LabelTest<'_>] = &[("le", &|bound| bound == "0.1")];
        let writer: LabelTest<'_> = ("queue", &|queue| queue == "writer");
        Self {
            at_s,
            attempts: shop.sum("firedrill_client_attempts_total", to_payments),
            calls: shop.sum("firedrill_client_calls_total", to_payments),
            shop_orders_ok: shop.sum("http_server_request_duration_seconds_count", orders_ok),
            bank_served: bank("firedrill_bank_charges_total", &[]),
            bank_unclaimed: bank("firedrill_bank_answers_unclaimed_total", &[]),
            bank_queue_depth: bank(
                "firedrill_queue_depth",
                &[("queue", &|queue| queue == "bank")],
            ),
            starts: traffic.sum("firedrill_journey_start_delay_seconds_count", &[]),
            starts_in_time: traffic.sum("firedrill_journey_start_delay_seconds_bucket", in_time),
            writes: shop.sum("firedrill_queue_wait_seconds_count", &[writer]),
            writes_in_time: shop.sum(
                "firedrill_queue_wait_seconds_bucket",
                &[writer, ("le", &|bound| bound == "0.5")],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_found_in_the_metrics_of_the_roles() {
        let shop = r#"firedrill_client_attempts_total{peer="payments"} 9
            firedrill_client_calls_total{peer="payments",outcome="ok"} 2
            firedrill_client_calls_total{peer="payments",outcome="timeout"} 1
            http_server_request_duration_seconds_count{http_request_method="POST",http_route="/orders",http_response_status_code="201"} 5
            http_server_request_duration_seconds_count{http_request_method="POST",http_route="/orders",http_response_status_code="503"} 6
            http_server_request_duration_seconds_count{http_request_method="GET",http_route="/orders/{id}",http_response_status_code="200"} 7
            firedrill_queue_wait_seconds_bucket{queue="writer",le="0.5"} 58
            firedrill_queue_wait_seconds_bucket{queue="writer",le="1"} 59
            firedrill_queue_wait_seconds_count{queue="writer"} 60
            firedrill_queue_wait_seconds_count{queue="password_hashing"} 7"#;
        let payments = r#"firedrill_bank_charges_total{outcome="charged"} 40
            firedrill_bank_answers_unclaimed_total 3
            firedrill_queue_depth{queue="bank"} 12
            firedrill_queue_depth{queue="other"} 99"#;
        let traffic = r#"firedrill_journey_start_delay_seconds_bucket{le="0.05"} 80
            firedrill_journey_start_delay_seconds_bucket{le="0.1"} 90
            firedrill_journey_start_delay_seconds_bucket{le="+Inf"} 100
            firedrill_journey_start_delay_seconds_count 100"#;
        let read = |text| Scrape::parse(text).unwrap();
        let replicas = [read(payments), read(payments)];
        assert_eq!(
            Sample::read(5.0, &read(shop), &replicas, &read(traffic)),
            Sample {
                at_s: 5.0,
                attempts: Some(9.0),
                calls: Some(3.0),
                shop_orders_ok: Some(5.0),
                bank_served: Some(80.0),
                bank_unclaimed: Some(6.0),
                bank_queue_depth: Some(24.0),
                starts: Some(100.0),
                starts_in_time: Some(90.0),
                writes: Some(60.0),
                writes_in_time: Some(58.0),
            }
        );
    }
}
