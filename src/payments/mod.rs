//! Payments: charges a card at a simulated bank whose capacity is real and bounded.
//!
//! Every shop depends on someone else's computer. This one has a queue, slots and a service time, and no
//! choice of ours governs it: what a choice in the shop does to it is what it would do to a real bank.
//!
//! - [`bank`]: the physics
//! - [`ledger`]: what was decided, on disk, once and for all
//! - `listing`: the same, page by page, for who audits it
//! - [`conditions`]: slow, failing, stalled: set as shocks

pub mod bank;
pub mod conditions;
pub mod ledger;
mod listing;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;

use crate::control::lifecycle::{self, Context, Extras, Running};
use crate::http::extract::{JsonBody, PathId};
use crate::http::{Problem, Routes};
use crate::store::Reader;
use crate::telemetry::account::Part;
use crate::telemetry::wait::Wait;
use bank::{Bank, Decision, Refused};
use conditions::Conditions;
use ledger::{Charge, Ledger, Verdict};

/// Requests that payments works on at the same time: more than the bank takes, so that its refusal is heard.
const REQUESTS_MAX: usize = 512;

/// How to run a replica of payments.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every role is told.
    pub role: lifecycle::Config,
    /// The size and speed of this replica's share of the bank.
    pub bank: bank::Config,
    /// The ledger's file; all replicas share it. By default it lies in the role's directory.
    pub ledger: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Payments {
    bank: Arc<Bank>,
    ledger: Ledger,
    /// Reads the ledger beside the thread that writes it.
    reader: Reader,
}

/// Runs payments until it is told to stop.
pub fn run(config: Config) -> Result<(), String> {
    let conditions = Conditions::new();
    let extras = Extras {
        shocks: conditions::shocks(&conditions),
        ..Extras::default()
    };
    let bank = config.bank;
    let path = config
        .ledger
        .unwrap_or_else(|| config.role.dir.join("ledger.db"));
    lifecycle::run(&config.role, extras, async move |context: Context| {
        let ledger = Ledger::open(&path)?;
        let reader = Reader::open(&path)?;
        let bank = Arc::new(Bank::open(bank, &ledger, &conditions));
        let observed = (Arc::clone(&bank), ledger.clone());
        context.telemetry.collect(move || {
            observed.0.collect();
            observed.1.collect();
        });
        let router = Routes::new(REQUESTS_MAX)
            .add(
                "/charges",
                &[(Method::POST, &CHARGED), (Method::GET, &[(200, "")])],
                post(charge).get(listing::list),
            )
            .on(Method::GET, "/charges/{key}", &[200, 404], find)
            .on(Method::POST, "/charges/{key}/void", &[200], void)
            .build(Payments {
                bank,
                ledger,
                reader,
            });
        Ok(Running {
            router,
            finish: async || {},
        })
    })
}

/// What a charge may be answered.
const CHARGED: [(u16, &str); 7] = [
    (201, ""),
    (402, ""),
    (409, ""),
    (422, ""),
    (500, ""),
    (502, "bank"),
    (503, "queue_full"),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCharge {
    key: String,
    order_id: i64,
    amount_cents: i64,
}

/// `POST /charges`: waits in the bank's queue, for a slot, and for the slot to end.
async fn charge(
    State(payments): State<Payments>,
    body: JsonBody<NewCharge>,
) -> Result<Response, Problem> {
    let NewCharge {
        key,
        order_id,
        amount_cents,
    } = body.value;
    if key.is_empty() || key.len() > 64 {
        return Err(Problem::invalid("key", key, "1 to 64 bytes"));
    }
    if amount_cents <= 0 {
        return Err(Problem::invalid(
            "amount_cents",
            amount_cents,
            "a number above 0",
        ));
    }
    let charge = Charge {
        key,
        order_id,
        amount_cents,
    };
    let decision = payments.bank.submit(charge).map_err(|Refused| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The bank's queue is full; nothing was charged.",
        )
        .error_type("queue_full")
    })?;
    let wait = Wait::begin().charged_to(Part::Downstream);
    let decision = decision.await;
    drop(wait);
    match decision {
        Ok(Decision::Decided(verdict)) => Ok(answer(verdict)),
        Ok(Decision::Failed) => {
            let detail = "The bank could not do it; nothing was charged.";
            Err(Problem::new(StatusCode::BAD_GATEWAY, detail).error_type("bank"))
        }
        Ok(Decision::KeyReused(standing)) => Err(Problem::invalid(
            "amount_cents",
            amount_cents,
            format!("{standing}, as before with this key"),
        )),
        Err(_) => Err(Problem::internal(&"the ledger did not answer")),
    }
}

fn answer(verdict: Verdict) -> Response {
    let status = match verdict {
        Verdict::Charged => StatusCode::CREATED,
        Verdict::Declined => {
            return Problem::new(
                StatusCode::PAYMENT_REQUIRED,
                "The bank declined the charge.",
            )
            .into_response();
        }
        Verdict::Voided => {
            let detail = "This charge was voided before it could be made.";
            return Problem::new(StatusCode::CONFLICT, detail).into_response();
        }
    };
    (status, Json(json!({ "status": verdict.name() }))).into_response()
}

/// `GET /charges/{key}`
async fn find(
    State(payments): State<Payments>,
    PathId(key): PathId<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let found = payments
        .ledger
        .find(key.clone())
        .await
        .map_err(|error| Problem::internal(&error))?;
    let verdict = found.ok_or_else(|| Problem::not_found("charge", "key", key))?;
    Ok(Json(json!({ "status": verdict.name() })))
}

/// `POST /charges/{key}/void`: from now on this key is not charged, unless it was already.
async fn void(
    State(payments): State<Payments>,
    PathId(key): PathId<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let verdict = payments
        .ledger
        .void(key)
        .await
        .map_err(|error| Problem::internal(&error))?;
    Ok(Json(json!({ "status": verdict.name() })))
}
