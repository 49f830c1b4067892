//! How many users arrive, and to do what.
//!
//! Rate and mix change while running, for good or for a time; a surge multiplies the arrivals of a journey and
//! ends by itself, and so do those who come for one page alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::control::shocks::{self, Parameter, Shocks, Spec, Values};
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
    usual: World,
    /// Instead of the usual, until then.
    leased: Option<(World, Instant)>,
    surge: [f64; 4],
    /// Those who come for one page alone, a second, on top of all others; by [`Sight`].
    sights: [f64; 2],
}

/// What some of those who browse come for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// What sells best.
    HotPage,
    /// All orders of the largest customer.
    Wholesale,
}

#[derive(Debug, Clone, Copy)]
struct World {
    rate: f64,
    mix: [f64; 4],
}

impl State {
    fn world(&self) -> World {
        self.leased.map_or(self.usual, |(world, _)| world)
    }

    fn rates(&self) -> [f64; 4] {
        let World { rate, mix } = self.world();
        let whole: f64 = mix.iter().sum();
        let mut rates: [f64; 4] =
            std::array::from_fn(|index| rate * mix[index] / whole * self.surge[index]);
        rates[Journey::Browse as usize] += self.sights.iter().sum::<f64>();
        rates
    }
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
    /// For how long; for good if it is absent.
    ttl_s: Option<serde_json::Value>,
}

/// The load as the control plane shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    rate: f64,
    mix: BTreeMap<&'static str, f64>,
    arrivals_per_s: BTreeMap<&'static str, f64>,
    /// Seconds after which the usual load is back, if this one is for a time.
    ends_in_s: Option<f64>,
}

impl Load {
    /// The default mix at `rate` arrivals a second.
    pub fn new(rate: f64) -> Result<Self, String> {
        check_rate(rate).map_err(|problem| format!("--rate: {}", problem.detail))?;
        Ok(Self {
            state: Mutex::new(State {
                usual: World { rate, mix: MIX },
                leased: None,
                surge: [1.0; 4],
                sights: [0.0; 2],
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
        self.lock().rates()
    }

    /// What one of those who browse came for alone, if it is that; `chance` is from 0 to 1.
    pub(super) fn sight(&self, chance: f64) -> Option<Sight> {
        let state = *self.lock();
        let mut among = chance * state.rates()[Journey::Browse as usize];
        [Sight::HotPage, Sight::Wholesale]
            .into_iter()
            .find(|sight| {
                among -= state.sights[*sight as usize];
                among < 0.0
            })
    }

    /// Tells of each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Changes rate, mix, or both; for good, or for a time and then back to what was for good.
    pub fn change(&self, change: &Change) -> Result<(), Problem> {
        let ttl = shocks::ttl_if_given(change.ttl_s.as_ref())?;
        let mut state = self.lock();
        let mut next = state.world();
        if let Some(rate) = change.rate {
            check_rate(rate)?;
            next.rate = rate;
        }
        if let Some(mix) = &change.mix {
            next.mix = read_mix(mix)?;
        }
        state.leased = ttl.map(|ttl| (next, Instant::now() + ttl));
        if ttl.is_none() {
            state.usual = next;
        }
        drop(state);
        self.publish();
        Ok(())
    }

    /// Ends what was set for a time.
    pub fn give_back(&self) {
        self.lock().leased = None;
        self.publish();
    }

    /// Ends what was set for a time, if that is over.
    pub(super) fn expire(&self) {
        let over = |(_, ends)| ends <= Instant::now();
        if self.lock().leased.is_some_and(over) {
            self.give_back();
        }
    }

    fn surge(&self, surge: [f64; 4]) {
        self.lock().surge = surge;
        self.publish();
    }

    fn draw(&self, sight: Sight, rate: f64) {
        self.lock().sights[sight as usize] = rate;
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
        let World { rate, mix } = state.world();
        let left = |(_, ends): (_, Instant)| ends.saturating_duration_since(Instant::now());
        let named = |values: [f64; 4]| {
            Journey::ALL
                .into_iter()
                .map(Journey::name)
                .zip(values)
                .collect()
        };
        Status {
            rate,
            mix: named(mix),
            arrivals_per_s: named(state.rates()),
            ends_in_s: state.leased.map(|leased| left(leased).as_secs_f64()),
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
        max: 1000.0,
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

const HOT_PAGE: Spec = Spec {
    name: "hot_page",
    help: "users come to see what sells best",
    parameters: &[Parameter {
        name: "rate",
        help: "how many more who browse a second",
        min: 0.0,
        max: RATE_MAX,
        default: 100.0,
    }],
};

const WHOLESALE: Spec = Spec {
    name: "wholesale",
    help: "the largest customer's people look at all of its orders",
    parameters: &[Parameter {
        name: "rate",
        help: "how many more who browse a second",
        min: 0.0,
        max: RATE_MAX,
        default: 80.0,
    }],
};

/// The shocks that act on the load.
#[must_use]
pub fn shocks(load: &Arc<Load>) -> Shocks {
    let surging = Arc::clone(load);
    let draws = |sight: Sight| {
        let load = Arc::clone(load);
        move |values: Option<&Values>| {
            load.draw(sight, values.map_or(0.0, |values| values["rate"]));
        }
    };
    Shocks::none()
        .with(SURGE, move |values| {
            let factor = |journey: Journey| values.map_or(1.0, |values| values[journey.name()]);
            surging.surge(Journey::ALL.map(factor));
        })
        .with(HOT_PAGE, draws(Sight::HotPage))
        .with(WHOLESALE, draws(Sight::Wholesale))
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

    #[tokio::test(start_paused = true)]
    async fn a_load_for_a_time_goes_back_to_the_usual_one() {
        let load = Load::new(100.0).unwrap();
        let change = |text| load.change(&serde_json::from_str(text).unwrap());
        change(r#"{"rate":10,"ttl_s":30}"#).unwrap();
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        change(r#"{"mix":{"order":1},"ttl_s":30}"#).unwrap();
        load.expire();
        assert_eq!(whole(&load), [0, 10, 0, 0], "it was set anew");
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        load.expire();
        assert_eq!(whole(&load), [60, 30, 5, 5]);
        change(r#"{"rate":10,"ttl_s":30}"#).unwrap();
        load.give_back();
        assert_eq!(load.status().ends_in_s, None);
        assert_eq!(whole(&load), [60, 30, 5, 5]);
        let problem = change(r#"{"rate":10,"ttl_s":0}"#).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("ttl_s"));
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
    fn who_comes_for_one_page_alone_comes_on_top_and_leaves() {
        let load = Arc::new(Load::new(100.0).unwrap());
        let shocks = shocks(&load);
        assert_eq!(load.sight(0.0), None);
        let begin = |name, rate: u32| {
            let given = serde_json::json!({ "rate": rate, "ttl_s": 4 });
            shocks
                .begin(name, &serde_json::from_value(given).unwrap())
                .unwrap();
        };
        begin("hot_page", 120);
        begin("wholesale", 20);
        assert_eq!(whole(&load), [200, 30, 5, 5]);
        assert_eq!(load.sight(0.59), Some(Sight::HotPage));
        assert_eq!(load.sight(0.61), Some(Sight::Wholesale));
        assert_eq!(load.sight(0.71), None);
        shocks.end("hot_page").unwrap();
        shocks.end("wholesale").unwrap();
        assert_eq!(whole(&load), [60, 30, 5, 5]);
        assert_eq!(load.sight(0.0), None);
    }
}
