//! For tests: the control planes of a lab over real HTTP, on a clock that runs faster than ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::drills::LabAddresses;
use crate::drills::world::World;

/// A drill with a load that is not the one in which the lab is found. Its windows leave room for a machine
/// that is too busy to answer at once.
pub(super) const DRILL: &str = "---
schema: drill/v1
id: fake
title: A fake
harm: users
poor: {retries: poor}
load: {rate: 100, mix: {order: 30, browse: 70}}
shock:
  - {at_s: 0, role: traffic, name: surge, parameters: {order: 5}, ttl_s: 3}
steady:
  - {signal: goodput_ratio, journey: order, since_shock_begin_s: [-3, 0], min: 0.9, why: Healthy.}
  - {signal: p99_s, journey: order, since_shock_begin_s: [-3, 0], max: 0.5, why: Fast.}
prove:
  - {signal: offered_per_s, journey: order, since_shock_end_s: [0, 12], max: 100, why: It is over.}
harm_bounds:
  poor:
    says: It stays down.
    must:
      - {signal: goodput_ratio, journey: order, since_shock_end_s: [4, 12], max: 0.1, why: Down.}
      - {signal: bank_queue_depth, since_shock_end_s: [0, 12], min: 40, why: Full.}
  sound:
    says: It heals.
    must: [{signal: goodput_ratio, journey: order, since_shock_end_s: [12, 16], min: 0.9, why: Healed.}]
  fixed:
    says: It is cured.
    must: [{signal: goodput_ratio, journey: order, since_fix_s: [12, 16], min: 0.9, why: Cured.}]
answer: {component: a, mechanism: b, trigger: c, sustained_by: d}
fix: [{choice: retries, option: sound}]
hints: [None.]
---
";

#[derive(Debug)]
struct Inside {
    started: Instant,
    time_scale: f64,
    world: World,
    other_is_poor: bool,
    reports: bool,
    load: Value,
    heard: Vec<String>,
}

type Shared = Arc<Mutex<Inside>>;

/// Three control planes.
#[derive(Debug)]
pub(super) struct FakeLab {
    inside: Shared,
    traffic: SocketAddr,
    shop: SocketAddr,
    payments: SocketAddr,
}

impl FakeLab {
    /// A healthy lab; `time_scale` of its seconds pass in one of ours.
    pub(super) async fn start(time_scale: f64) -> Self {
        let inside = Inside {
            started: Instant::now(),
            time_scale,
            world: World::HEALTHY,
            other_is_poor: false,
            reports: true,
            load: found_load(),
            heard: Vec::new(),
        };
        let inside = Arc::new(Mutex::new(inside));
        let traffic = Router::new()
            .route("/metrics", get(traffic_metrics))
            .route("/report", get(report))
            .route("/load", get(load).put(set_load))
            .route("/shocks/surge", put(begin_surge).delete(end_surge));
        let shop = Router::new()
            .route("/metrics", get(shop_metrics))
            .route("/choices", get(choices))
            .route("/choices/retries", put(set_choice));
        let payments = Router::new().route("/metrics", get(payments_metrics));
        Self {
            traffic: serve(traffic, &inside).await,
            shop: serve(shop, &inside).await,
            payments: serve(payments, &inside).await,
            inside,
        }
    }

    pub(super) fn addresses(&self) -> LabAddresses {
        let url = |address: SocketAddr| format!("http://{address}");
        LabAddresses {
            traffic_control: url(self.traffic),
            shop_control: url(self.shop),
            payments_controls: vec![url(self.payments)],
            token: None,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    pub(super) fn stop_reporting(&self) {
        self.inside().reports = false;
    }

    /// Lets every order fail, from before the run on.
    pub(super) fn break_orders(&self) {
        let mut inside = self.inside();
        inside.world.shock = Some((0.0, 0.0));
        inside.world.poor = true;
    }

    pub(super) fn time_scale(&self) -> f64 {
        self.inside().time_scale
    }

    pub(super) fn make_another_choice_poor(&self) {
        self.inside().other_is_poor = true;
    }

    /// What was asked of it, in order.
    pub(super) fn heard(&self) -> Vec<String> {
        self.inside().heard.clone()
    }

    /// Whether the last word on each of load, choice and shock is how it was found.
    pub(super) fn is_as_found(&self) -> bool {
        let inside = self.inside();
        let last = |kind: &str| {
            let mut of_kind = inside.heard.iter().filter(|heard| heard.contains(kind));
            of_kind.next_back().cloned()
        };
        inside.load == found_load()
            && last("choice").is_none_or(|last| last == "choice sound for good")
            && last("surge").is_none_or(|last| last == "no surge")
    }
}

fn found_load() -> Value {
    json!({ "rate": 50, "mix": { "order": 50, "browse": 50 } })
}

async fn serve(router: Router<Shared>, inside: &Shared) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router.with_state(Arc::clone(inside));
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

impl Inside {
    fn now_s(&self) -> f64 {
        100.0 + self.started.elapsed().as_secs_f64() * self.time_scale
    }
}

#[derive(Deserialize)]
struct Since {
    since: Option<f64>,
}

async fn report(
    State(inside): State<Shared>,
    Query(query): Query<Since>,
) -> Result<Json<Value>, (StatusCode, &'static str)> {
    let inside = inside.lock().unwrap();
    if !inside.reports {
        return Err((
            StatusCode::NOT_FOUND,
            r#"{"status":404,"title":"","detail":"no report"}"#,
        ));
    }
    let now_s = inside.now_s();
    let since_s = query.since.unwrap_or(now_s.floor() - 3.0);
    let seconds: Vec<_> = (0..600)
        .map(|second| since_s + f64::from(second))
        .take_while(|at_s| at_s + 4.0 <= now_s)
        .map(|at_s| inside.world.second(at_s))
        .collect();
    let journeys = json!({ "order": { "p99_s": 0.2 } });
    Ok(Json(
        json!({ "now_s": now_s, "journeys": journeys, "seconds": seconds }),
    ))
}

async fn load(State(inside): State<Shared>) -> Json<Value> {
    Json(inside.lock().unwrap().load.clone())
}

async fn set_load(State(inside): State<Shared>, Json(load): Json<Value>) {
    inside.lock().unwrap().load = load;
}

async fn begin_surge(State(inside): State<Shared>, Json(surge): Json<Value>) {
    let mut inside = inside.lock().unwrap();
    assert_eq!(surge["order"], 5.0);
    // From the whole second on, as the second in which a request was meant to start is what counts.
    let begin_s = inside.now_s().floor();
    inside.world.shock = Some((begin_s, begin_s + surge["ttl_s"].as_f64().unwrap()));
    inside.heard.push("surge".into());
}

async fn end_surge(State(inside): State<Shared>) {
    inside.lock().unwrap().heard.push("no surge".into());
}

async fn choices(State(inside): State<Shared>) -> Json<Value> {
    let other = if inside.lock().unwrap().other_is_poor {
        "poor"
    } else {
        "sound"
    };
    let retries = json!({ "name": "retries", "option": "sound", "poor": "", "sound": "" });
    let other = json!({ "name": "another", "option": other, "poor": "", "sound": "" });
    Json(json!({ "role": "shop", "choices": [retries, other] }))
}

async fn set_choice(State(inside): State<Shared>, Json(asked): Json<Value>) {
    let mut inside = inside.lock().unwrap();
    let option = asked["option"].as_str().unwrap();
    if option == "poor" {
        inside.world.poor = true;
    } else if inside.world.poor && inside.world.fix_s.is_none() {
        inside.world.fix_s = Some(inside.now_s());
    }
    let end = if asked["ttl_s"].is_null() {
        " for good"
    } else {
        ""
    };
    inside.heard.push(format!("choice {option}{end}"));
}

async fn shop_metrics(State(inside): State<Shared>) -> String {
    let inside = inside.lock().unwrap();
    let sample = inside.world.sample(inside.now_s());
    format!(
        "firedrill_client_attempts_total{{peer=\"payments\"}} {}\n\
         firedrill_client_calls_total{{peer=\"payments\",outcome=\"ok\"}} {}\n\
         firedrill_queue_wait_seconds_bucket{{queue=\"writer\",le=\"0.5\"}} {}\n\
         firedrill_queue_wait_seconds_count{{queue=\"writer\"}} {}\n",
        sample.attempts.unwrap(),
        sample.calls.unwrap(),
        sample.writes_in_time.unwrap(),
        sample.writes.unwrap(),
    )
}

async fn payments_metrics(State(inside): State<Shared>) -> String {
    let inside = inside.lock().unwrap();
    let sample = inside.world.sample(inside.now_s());
    format!(
        "firedrill_bank_charges_total{{outcome=\"charged\"}} {}\n\
         firedrill_bank_answers_unclaimed_total {}\n\
         firedrill_queue_depth{{queue=\"bank\"}} {}\n",
        sample.bank_served.unwrap(),
        sample.bank_unclaimed.unwrap(),
        sample.bank_queue_depth.unwrap(),
    )
}

async fn traffic_metrics(State(inside): State<Shared>) -> String {
    let inside = inside.lock().unwrap();
    let sample = inside.world.sample(inside.now_s());
    format!(
        "firedrill_journey_start_delay_seconds_bucket{{le=\"0.1\"}} {}\n\
         firedrill_journey_start_delay_seconds_count {}\n",
        sample.starts_in_time.unwrap(),
        sample.starts.unwrap(),
    )
}
