//! For tests: a lab over real HTTP whose metrics follow from a few numbers, on a clock that runs faster than ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::drills::{Clock, LabAddresses};

/// A drill on that lab. Its signals are names that the lab knows; its windows leave room for a machine that is
/// too busy to answer at once.
pub(super) const DRILL: &str = "---
schema: drill/v1
id: fake
title: A fake
harm: users
poor: {retries: poor}
load: {rate: 100, mix: {order: 30, browse: 70}}
calibrate:
  speed: {says: How fast it is., expr: 'speed[$window]', min: 1, max: 9, why: It is a fake.}
shock:
  - {at_s: 0, role: traffic, name: surge, parameters: {order: {of: speed, times: 2}}, ttl_s: 3}
meanwhile:
  - {at_s: 1, do: {log: {shop: warn}}}
signals:
  good: {says: how good it is, expr: 'good[$window]'}
  asked: {says: how much is asked, expr: 'asked[$window]'}
steady:
  - {signal: good, since_shock_begin_s: [-3, 0], min: 0.9, why: Healthy.}
prove:
  - {signal: asked, since_shock_end_s: [4, 12], max: 40, why: It is over.}
harm_bounds:
  poor: {says: It stays down., must: [{signal: good, since_shock_end_s: [4, 12], max: 0.1, why: Down.}]}
  sound: {says: It heals., must: [{signal: good, since_shock_end_s: [8, 12], min: 0.9, why: Healed.}]}
  fixed: {says: It is cured., must: [{signal: good, since_fix_s: [8, 12], min: 0.9, why: Cured.}]}
alerts:
  expected: [{name: Burn, within_s: 10}]
  allowed_sound: {Burn: The shock is more than can be had.}
  cleared_within_s: 90
headline: [{signal: good}]
answer: {component: a, mechanism: b, trigger: c, sustained_by: d}
fix: [{choice: {retries: sound}}]
reject:
  - {do: silence, why: Nothing changes.}
  - {do: {restart: shop}, why: It comes back.}
hints: [None.]
---
";

/// How many seconds an outage needs to be over once nothing keeps it up.
const HEALS_S: f64 = 3.0;

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a knob that a test turns"
)]
struct Inside {
    clock: Clock,
    poor: bool,
    other_is_poor: bool,
    answers: bool,
    /// What the fake calls its speed, for the calibration.
    speed: f64,
    /// Whether the poor option can be cured by a restart for good.
    forgives: bool,
    /// When it went down and up again, one after the other.
    downs: Vec<(f64, f64)>,
    load: Option<Value>,
    /// When the shock ends.
    surge_end_s: f64,
    /// How often it was started.
    starts: u32,
    /// For how many questions the process of before still answers.
    restarting: u32,
    heard: Vec<String>,
}

type Shared = Arc<Mutex<Inside>>;

/// Its control planes and its metrics, all at one address.
#[derive(Debug)]
pub(super) struct FakeLab {
    inside: Shared,
    at: SocketAddr,
}

impl FakeLab {
    /// A healthy lab; `scale` of its seconds pass in one of ours.
    pub(super) async fn start(scale: f64) -> Self {
        let inside = Inside {
            clock: Clock::faster(scale),
            poor: false,
            other_is_poor: false,
            answers: true,
            speed: 2.5,
            forgives: false,
            downs: Vec::new(),
            load: None,
            surge_end_s: 0.0,
            starts: 1,
            restarting: 0,
            heard: Vec::new(),
        };
        let inside = Arc::new(Mutex::new(inside));
        let router = Router::new()
            .route("/load", get(get_load).put(set_load).delete(give_back_load))
            .route("/shocks", get(shocks))
            .route("/shocks/surge", put(begin_surge).delete(end_surge))
            .route("/choices", get(choices))
            .route("/choices/retries", put(set_choice))
            .route("/exit", post(exit))
            .route("/log", put(set_log))
            .route("/readyz", get(async || StatusCode::OK))
            .route("/changes", get(running))
            .route("/api/v1/{*path}", get(metrics))
            .with_state(Arc::clone(&inside));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { inside, at }
    }

    pub(super) fn addresses(&self) -> LabAddresses {
        let url = format!("http://{}", self.at);
        LabAddresses {
            metrics: url.clone(),
            traffic: url.clone(),
            shop: url.clone(),
            payments: vec![url],
            token: None,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    pub(super) fn clock(&self) -> Clock {
        self.inside().clock
    }

    pub(super) fn stop_answering(&self) {
        self.inside().answers = false;
    }

    /// Lets everything fail, from before the run on.
    pub(super) fn break_it(&self) {
        self.inside().downs.push((0.0, f64::INFINITY));
    }

    pub(super) fn be_too_slow(&self) {
        self.inside().speed = 0.5;
    }

    /// From now on a restart cures the poor option.
    pub(super) fn forgive(&self) {
        self.inside().forgives = true;
    }

    pub(super) fn make_another_choice_poor(&self) {
        self.inside().other_is_poor = true;
    }

    pub(super) fn let_another_drill_begin(&self) {
        self.inside().load = Some(json!({ "rate": 5 }));
    }

    /// What was asked of it, in order.
    pub(super) fn heard(&self) -> Vec<String> {
        self.inside().heard.clone()
    }

    /// Whether load, choice and shock are how they were found.
    pub(super) fn is_as_found(&self) -> bool {
        let inside = self.inside();
        inside.load.is_none() && !inside.poor && !inside.surges()
    }
}

impl Inside {
    fn go_down(&mut self) {
        let now_s = self.clock.now_s();
        let heals_s = if self.poor {
            f64::INFINITY
        } else {
            now_s + 3.0 + HEALS_S
        };
        self.downs.push((now_s, heals_s));
    }

    /// Ends the outage after a while, however it came about, if nothing begins it anew.
    fn heal(&mut self) {
        if self.surges() && self.poor {
            return;
        }
        let up_s = self.clock.now_s() + HEALS_S;
        for (_, heals_s) in &mut self.downs {
            *heals_s = heals_s.min(up_s);
        }
    }

    fn surges(&self) -> bool {
        self.clock.now_s() < self.surge_end_s
    }

    fn is_down(&self, at_s: f64) -> bool {
        self.downs
            .iter()
            .any(|(from_s, to_s)| at_s >= *from_s && at_s < *to_s)
    }

    /// The share of the window's seconds in which it was up.
    fn good(&self, from_s: f64, to_s: f64) -> f64 {
        let up = |step: &u32| !self.is_down(from_s + (to_s - from_s) * f64::from(*step) / 100.0);
        (0..100).filter(up).count() as f64 / 100.0
    }
}

#[derive(Deserialize)]
struct Asked {
    query: Option<String>,
    time: Option<f64>,
    start: Option<f64>,
    end: Option<f64>,
}

async fn metrics(
    State(inside): State<Shared>,
    Path(path): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, StatusCode> {
    let inside = inside.lock().unwrap();
    if !inside.answers {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let data = match path.as_str() {
        "status/buildinfo" => json!({ "version": "3.0.0", "revision": "" }),
        "query" => number(&inside, &asked).ok_or(StatusCode::BAD_REQUEST)?,
        "query_range" => alerts(&inside, &asked),
        "rules" => json!({ "groups": [{ "rules": [{ "name": "Burn", "type": "alerting" }] }] }),
        _ => return Err(StatusCode::NOT_FOUND),
    };
    Ok(Json(json!({ "status": "success", "data": data })))
}

/// `NAME[3000ms]` at a time; nothing else is understood.
fn number(inside: &Inside, asked: &Asked) -> Option<Value> {
    let query = asked.query.as_deref().unwrap();
    let (name, rest) = query.split_once('[')?;
    let length_ms: f64 = rest.split_once("ms]").unwrap().0.parse().unwrap();
    let to_s = asked.time.unwrap();
    let value = match name {
        "good" => inside.good(to_s - length_ms / 1e3, to_s),
        "asked" => 30.0,
        "speed" => inside.speed,
        _ => return Some(json!({ "resultType": "vector", "result": [] })),
    };
    let value = [json!(to_s), json!(value.to_string())];
    let result = [json!({ "metric": {}, "value": value })];
    Some(json!({ "resultType": "vector", "result": result }))
}

/// The alert fires two seconds after each outage began, and a second longer than it lasts.
fn alerts(inside: &Inside, asked: &Asked) -> Value {
    let seconds = |begin_s: f64, end_s: f64| {
        let mut at_s = asked.start.unwrap();
        let mut seconds = Vec::new();
        while at_s <= asked.end.unwrap() {
            if at_s >= begin_s + 2.0 && at_s <= end_s + 1.0 {
                seconds.push(json!([at_s, "1"]));
            }
            at_s += 1.0;
        }
        seconds
    };
    let firing = inside
        .downs
        .iter()
        .map(|(begin_s, end_s)| seconds(*begin_s, *end_s));
    let firing = firing.filter(|seconds| !seconds.is_empty());
    let metric = json!({ "__name__": "ALERTS", "alertname": "Burn", "alertstate": "firing", "severity": "critical" });
    let series: Vec<_> = firing
        .map(|seconds| json!({ "metric": metric, "values": seconds }))
        .collect();
    json!({ "resultType": "matrix", "result": series })
}

async fn get_load(State(inside): State<Shared>) -> Json<Value> {
    let ends_in_s = inside.lock().unwrap().load.is_some().then_some(30.0);
    Json(json!({ "rate": 100, "ends_in_s": ends_in_s }))
}

async fn shocks(State(inside): State<Shared>) -> Json<Value> {
    let values = inside
        .lock()
        .unwrap()
        .surges()
        .then(|| json!({ "order": 5 }));
    Json(json!({ "role": "traffic", "shocks": [
        { "name": "surge", "parameters": [{ "name": "order" }], "values": values },
    ] }))
}

async fn set_load(State(inside): State<Shared>, Json(load): Json<Value>) {
    assert!(
        load["ttl_s"].is_number(),
        "a killed drill must leave nothing behind"
    );
    let mut inside = inside.lock().unwrap();
    let before = inside.load.as_ref().map(|load| load["rate"].clone());
    if before.as_ref() != Some(&load["rate"]) {
        inside.heard.push(format!("rate {}", load["rate"]));
    }
    inside.load = Some(load);
}

async fn give_back_load(State(inside): State<Shared>) {
    inside.lock().unwrap().load = None;
}

async fn begin_surge(State(inside): State<Shared>, Json(surge): Json<Value>) {
    let mut inside = inside.lock().unwrap();
    assert_eq!(surge["order"], 5.0, "2.5 was measured, times 2");
    let begins = !inside.surges();
    inside.surge_end_s = inside.clock.now_s() + surge["ttl_s"].as_f64().unwrap();
    if begins {
        inside.go_down();
        inside.heard.push("surge".into());
    }
}

async fn end_surge(State(inside): State<Shared>) {
    inside.lock().unwrap().surge_end_s = 0.0;
}

async fn choices(State(inside): State<Shared>) -> Json<Value> {
    let inside = inside.lock().unwrap();
    let option = |poor: bool| if poor { "poor" } else { "sound" };
    let retries = json!({ "name": "retries", "option": option(inside.poor) });
    let other = json!({ "name": "another", "option": option(inside.other_is_poor) });
    Json(json!({ "role": "shop", "choices": [retries, other] }))
}

async fn set_choice(State(inside): State<Shared>, Json(asked): Json<Value>) {
    let mut inside = inside.lock().unwrap();
    let option = asked["option"].as_str().unwrap().to_owned();
    let poor = option == "poor";
    assert!(
        !poor || asked["ttl_s"].is_number(),
        "a killed drill must leave nothing behind"
    );
    let was_poor = std::mem::replace(&mut inside.poor, poor);
    if was_poor && !poor {
        inside.heal();
    }
    if was_poor != poor {
        inside.heard.push(format!("choice {option}"));
    }
}

async fn set_log(State(inside): State<Shared>, Json(asked): Json<Value>) {
    assert!(
        asked["ttl_s"].is_number(),
        "a killed drill must leave nothing behind"
    );
    let filter = asked["filter"].as_str().unwrap();
    inside.lock().unwrap().heard.push(format!("log {filter}"));
}

async fn exit(State(inside): State<Shared>, Json(asked): Json<Value>) {
    let mut inside = inside.lock().unwrap();
    inside.starts += 1;
    inside.restarting = 2;
    inside.heal();
    inside.poor &= !inside.forgives;
    let version = asked["service_version"].as_str();
    let restart = version.map_or("restart".into(), |version| format!("deploy {version}"));
    inside.heard.push(restart);
}

async fn running(State(inside): State<Shared>) -> Json<Value> {
    let mut inside = inside.lock().unwrap();
    inside.restarting = inside.restarting.saturating_sub(1);
    let starts = if inside.restarting > 0 {
        inside.starts - 1
    } else {
        inside.starts
    };
    Json(json!({ "service_version": "0.1.0", "started_at_s": starts }))
}
