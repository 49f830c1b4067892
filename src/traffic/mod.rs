//! Traffic: the users, and their view of the truth.
//!
//! Users do not wait for each other: they arrive at times of their own (a Poisson process), whether or not the
//! shop keeps up. A load generator that waits for an answer before it sends the next request slows down
//! together with the server and reports that all is well. Here each request has an intended start, and its
//! latency counts from there.
//!
//! - [`load`]: how many arrive, to do what; changes while running
//! - `journeys`: what one user does
//! - `crawler`: a visitor who is none of them
//! - [`report`]: what became of it, second by second

mod crawler;
mod journeys;
pub mod load;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use crate::control::lifecycle::{self, Context, Extras, Running};
use crate::http::Problem;
use crate::http::extract::{JsonBody, ValidQuery};
use crate::telemetry::{catalog, context};
use crawler::Crawler;
use journeys::Users;
use load::{Change, Journey, Load};
use report::{Recorder, Report};

/// Users on their way at the same time, at most, and the descriptors that are left for everything else: each
/// user needs one. What does not fit is counted as failed, never left out.
const ACTIVE_MAX: usize = 8_000;
const DESCRIPTORS_KEPT: usize = 64;

/// How often a load that was set for a time is looked at.
const EXPIRY: Duration = Duration::from_millis(200);

/// How to run traffic.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every role is told.
    pub role: lifecycle::Config,
    /// Where the shop listens.
    pub shop: String,
    /// Arrivals a second, of all journeys together.
    pub rate: f64,
    /// Makes arrivals and what users do repeatable.
    pub seed: u64,
}

/// Runs traffic until it is told to stop.
pub fn run(config: Config) -> Result<(), String> {
    let load = Arc::new(Load::new(config.rate)?);
    let recorder = Arc::new(Recorder::new());
    let routes = Router::new()
        .route("/report", get(read_report))
        .with_state(Arc::clone(&recorder))
        .merge(
            Router::new()
                .route(
                    "/load",
                    get(read_load).put(change_load).delete(give_back_load),
                )
                .with_state(Arc::clone(&load)),
        );
    let crawler = Crawler::new();
    let sent = Arc::clone(&crawler);
    let extras = Extras {
        shocks: load::shocks(&load).with(crawler::SPEC, move |values| sent.set(values)),
        routes,
    };
    let (shop, seed) = (config.shop, config.seed);
    lifecycle::run(&config.role, extras, async move |context: Context| {
        load.publish();
        recorder.meters();
        let users = Arc::new(Users::new(&shop, Arc::clone(&load))?);
        tracing::info!(target: "traffic", seed, shop, "Users arrive.");
        let crawling = crawler.run(users.shop().to_owned());
        let late = catalog::firedrill_journey_start_delay_seconds();
        let arrivals = tokio::spawn(arrive(Arc::clone(&load), recorder, users, late, seed));
        let visitors = [arrivals, tokio::spawn(crawling)];
        let stop = context.stop.clone();
        tokio::spawn(async move {
            while tokio::time::timeout(EXPIRY, stop.cancelled())
                .await
                .is_err()
            {
                load.expire();
            }
            visitors.iter().for_each(tokio::task::JoinHandle::abort);
        });
        Ok(Running {
            router: Router::new(),
            finish: async || {},
        })
    })
}

/// Sends users on their way, each at its own time.
async fn arrive(
    load: Arc<Load>,
    recorder: Arc<Recorder>,
    users: Arc<Users>,
    late: catalog::Histogram,
    seed: u64,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let places = Arc::new(Semaphore::new(active_max()));
    let mut changes = load.changes();
    let mut intended = Instant::now();
    loop {
        let rates = load.rates();
        let total: f64 = rates.iter().sum();
        if total > 0.0 {
            intended += exponential(&mut random, total);
            tokio::select! {
                // Who is due goes first: a change must not forget those who are waiting already.
                biased;
                () = tokio::time::sleep_until(intended) => {}
                // A Poisson process has no memory: from the change on, it may simply start anew.
                _ = changes.changed() => {
                    intended = Instant::now();
                    continue;
                }
            }
        } else {
            drop(changes.changed().await);
            intended = Instant::now();
            continue;
        }
        late.record(intended.elapsed().as_secs_f64());
        let journey = pick(&mut random, &rates, total);
        let ticket = recorder.meant_to_start(journey, intended);
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            ticket.ended(Err("too_many_users"));
            continue;
        };
        let (users, choice) = (Arc::clone(&users), random.fork());
        tokio::spawn(async move {
            let (account, span) = context::open(None, || journeys::span(journey));
            let journey = users.go(journey, choice, intended);
            let outcome = account.follow(journey.instrument(span.clone())).await;
            account.enter(|| ticket.ended(outcome));
            if let Err(error) = outcome {
                span.record("error.type", error);
                span.record("otel.status_code", "ERROR");
            }
            drop(place);
        });
    }
}

fn active_max() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    descriptors
        .saturating_sub(DESCRIPTORS_KEPT)
        .clamp(1, ACTIVE_MAX)
}

/// The time until the next arrival of a Poisson process.
fn exponential(random: &mut fastrand::Rng, per_second: f64) -> Duration {
    // 1 - f64() lies in (0, 1], so the logarithm is finite.
    Duration::from_secs_f64(-(1.0 - random.f64()).ln() / per_second)
}

fn pick(random: &mut fastrand::Rng, rates: &[f64; 4], total: f64) -> Journey {
    let mut point = random.f64() * total;
    for (journey, rate) in Journey::ALL.into_iter().zip(rates) {
        if point < *rate {
            return journey;
        }
        point -= rate;
    }
    Journey::Browse
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    since: Option<f64>,
    until: Option<f64>,
}

/// `GET /report?since=&until=`
async fn read_report(
    State(recorder): State<Arc<Recorder>>,
    ValidQuery(window): ValidQuery<Window>,
) -> Json<Report> {
    Json(recorder.report(window.since, window.until))
}

/// `GET /load`
async fn read_load(State(load): State<Arc<Load>>) -> Json<load::Status> {
    Json(load.status())
}

/// `PUT /load`
async fn change_load(
    State(load): State<Arc<Load>>,
    body: JsonBody<Change>,
) -> Result<Json<load::Status>, Problem> {
    load.change(&body.value)?;
    Ok(Json(load.status()))
}

/// `DELETE /load`
async fn give_back_load(State(load): State<Arc<Load>>) -> Json<load::Status> {
    load.give_back();
    Json(load.status())
}
