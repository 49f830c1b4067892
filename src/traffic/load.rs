//! How many users arrive, and to do what.
//!
//! Rate and mix change while running; a surge multiplies the arrivals of a journey and ends by itself, and so do the
//! visits of those who look at the largest customer's orders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::control::shocks::{Parameter, Shocks, Spec};
use crate::http::Problem;
use crate::telemetry::catalog;

/// The most arrivals a second that one process is asked to play.
pub const RATE_MAX: f64 = 20_000.0;

/// What a user comes to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journey {
    /// Looks at items and past orders.
    Browse,
    /// Orders something.
    Order,
    /// Logs in.
    Login,
    /// Searches.
    Search,
}

impl Journey {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Browse, Self::Order, Self::Login, Self::Search];

    /// As metrics, files and the API have it.
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

/// Shares of the default world: of 100 users 60 browse, 30 order, 5 log in and 5 search.
const MIX: [f64; 4] = [60.0, 30.0, 5.0, 5.0];

#[derive(Debug, Clone, Copy)]
struct State {
    rate: f64,
    mix: [f64; 4],
    surge: [f64; 4],
    /// Users a second who come for the orders of the largest customer, on top of all others.
    wholesale: f64,
}

/// The load, as it is at the moment.
#[derive(Debug)]
pub struct Load {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// A change of the load; what is absent stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    rate: Option<f64>,
    mix: Option<BTreeMap<String, f64>>,
}

/// The load as the control plane shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    rate: f64,
    mix: BTreeMap<&'static str, f64>,
    arrivals_per_s: BTreeMap<&'static str, f64>,
}

impl Load {
    /// The default mix at `rate` arrivals a second.
    pub fn new(rate: f64) -> Result<Self, String> {
        check_rate(rate).map_err(|problem| format!("--rate: {}", problem.detail))?;
        Ok(Self {
            state: Mutex::new(State {
                rate,
                mix: MIX,
                surge: [1.0; 4],
                wholesale: 0.0,
            }),
            changed: watch::Sender::new(()),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arrivals a second, in the order of [`Journey::ALL`].
    #[must_use]
    pub fn rates(&self) -> [f64; 4] {
        let state = *self.lock();
        let whole: f64 = state.mix.iter().sum();
        let mut rates: [f64; 4] =
            std::array::from_fn(|index| state.rate * state.mix[index] / whole * state.surge[index]);
        rates[Journey::Browse as usize] += state.wholesale;
        rates
    }

    /// The share of those who browse that came for the orders of the largest customer.
    pub(super) fn wholesale_share(&self) -> f64 {
        let browse = self.rates()[Journey::Browse as usize];
        let wholesale = self.lock().wholesale;
        if browse > 0.0 {
            wholesale / browse
        } else {
            0.0
        }
    }

    /// Tells of each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Changes rate, mix, or both.
    pub fn change(&self, change: &Change) -> Result<(), Problem> {
        let mut next = *self.lock();
        if let Some(rate) = change.rate {
            check_rate(rate)?;
            next.rate = rate;
        }
        if let Some(mix) = &change.mix {
            next.mix = read_mix(mix)?;
        }
        *self.lock() = next;
        self.publish();
        Ok(())
    }

    fn surge(&self, surge: [f64; 4]) {
        self.lock().surge = surge;
        self.publish();
    }

    fn wholesale(&self, rate: f64) {
        self.lock().wholesale = rate;
        self.publish();
    }

    /// Tells the metrics and the arrivals what the load is; once by itself when the role has started, because
    /// before that there is no exporter.
    pub(super) fn publish(&self) {
        for (journey, rate) in Journey::ALL.into_iter().zip(self.rates()) {
            catalog::firedrill_journey_target_rate(journey.name()).set(rate);
        }
        self.changed.send_replace(());
    }

    /// The load as the control plane shows it.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = *self.lock();
        let named = |values: [f64; 4]| {
            Journey::ALL
                .into_iter()
                .map(Journey::name)
                .zip(values)
                .collect()
        };
        Status {
            rate: state.rate,
            mix: named(state.mix),
            arrivals_per_s: named(self.rates()),
        }
    }
}

fn check_rate(rate: f64) -> Result<(), Problem> {
    if (0.0..=RATE_MAX).contains(&rate) {
        return Ok(());
    }
    Err(Problem::invalid(
        "rate",
        rate,
        format!("a number from 0 to {RATE_MAX}"),
    ))
}

fn read_mix(given: &BTreeMap<String, f64>) -> Result<[f64; 4], Problem> {
    let known = Journey::ALL.map(Journey::name);
    if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Problem::invalid(
            "mix",
            name.as_str(),
            format!("one of {}", known.join(", ")),
        ));
    }
    let mix = known.map(|name| given.get(name).copied().unwrap_or(0.0));
    if mix.iter().all(|share| (0.0..=1e6).contains(share)) && mix.iter().sum::<f64>() > 0.0 {
        return Ok(mix);
    }
    Err(Problem::invalid(
        "mix",
        serde_json::json!(given),
        "shares from 0 on, and one of them above 0",
    ))
}

const fn factor(name: &'static str) -> Parameter {
    Parameter {
        name,
        help: "how many times as many arrive",
        min: 0.0,
        max: 100.0,
        default: 1.0,
    }
}

const SURGE: Spec = Spec {
    name: "surge",
    help: "more users arrive than usual",
    parameters: &[
        factor("browse"),
        factor("order"),
        factor("login"),
        factor("search"),
    ],
};

const WHOLESALE: Spec = Spec {
    name: "wholesale",
    help: "the largest customer's people look at all of its orders",
    parameters: &[Parameter {
        name: "rate",
        help: "how many more who browse a second",
        min: 0.0,
        max: 2_000.0,
        default: 80.0,
    }],
};

/// The shocks that act on the load.
#[must_use]
pub fn shocks(load: &Arc<Load>) -> Shocks {
    let (surging, wholesale) = (Arc::clone(load), Arc::clone(load));
    Shocks::none()
        .with(SURGE, move |values| {
            let factor = |journey: Journey| values.map_or(1.0, |values| values[journey.name()]);
            surging.surge(Journey::ALL.map(factor));
        })
        .with(WHOLESALE, move |values| {
            wholesale.wholesale(values.map_or(0.0, |values| values["rate"]));
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_possible_truncation, reason = "rates of a test are small")]
    fn whole(load: &Load) -> [i64; 4] {
        load.rates().map(|rate| rate.round() as i64)
    }

    fn change(text: &str) -> Result<Status, Option<String>> {
        let load = Load::new(100.0).unwrap();
        load.change(&serde_json::from_str(text).unwrap())
            .map_err(|problem| problem.field)?;
        Ok(load.status())
    }

    #[test]
    fn the_default_world_is_a_hundred_arrivals() {
        let load = Load::new(100.0).unwrap();
        assert_eq!(whole(&load), [60, 30, 5, 5]);
    }

    #[test]
    fn a_mix_is_relative() {
        let status = change(r#"{"rate":10,"mix":{"order":1,"login":1}}"#).unwrap();
        assert_eq!(status.arrivals_per_s["order"].to_bits(), 5.0_f64.to_bits());
        assert_eq!(status.arrivals_per_s["browse"].to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(
            change(r#"{"rate":-1}"#).unwrap_err().as_deref(),
            Some("rate")
        );
        assert_eq!(
            change(r#"{"rate":1e9}"#).unwrap_err().as_deref(),
            Some("rate")
        );
        assert_eq!(
            change(r#"{"mix":{"order":0}}"#).unwrap_err().as_deref(),
            Some("mix")
        );
        assert_eq!(
            change(r#"{"mix":{"ordre":1}}"#).unwrap_err().as_deref(),
            Some("mix")
        );
    }

    #[test]
    fn a_surge_multiplies_and_ends() {
        let load = Arc::new(Load::new(100.0).unwrap());
        let shocks = shocks(&load);
        let given = serde_json::from_str(r#"{"order":5,"ttl_s":4}"#).unwrap();
        shocks.begin("surge", &given).unwrap();
        assert_eq!(whole(&load), [60, 150, 5, 5]);
        shocks.end("surge").unwrap();
        assert_eq!(whole(&load), [60, 30, 5, 5]);
    }
    #[test]
    fn those_who_come_for_the_largest_customer_come_on_top_and_leave() {
        let load = Arc::new(Load::new(100.0).unwrap());
        let shocks = shocks(&load);
        assert!(load.wholesale_share() < f64::EPSILON);
        let given = serde_json::from_str(r#"{"rate":20,"ttl_s":4}"#).unwrap();
        shocks.begin("wholesale", &given).unwrap();
        assert_eq!(whole(&load), [80, 30, 5, 5]);
        assert!((load.wholesale_share() - 0.25).abs() < 1e-9);
        shocks.end("wholesale").unwrap();
        assert_eq!(whole(&load), [60, 30, 5, 5]);
        assert!(load.wholesale_share() < f64::EPSILON);
    }
}
