//! The call to payments: which replica, how long, how often.
//!
//! Two choices meet here: `charge_timeout` says how long one attempt may take, `retries` how many are made.
//! What this module owes the order is the truth about its outcome: charged, not charged, or not known.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::catalog::Counter;
use axum::http::{Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::choices::charge_timeout;
use crate::choices::retries::{self, Budget, Transient, Withheld};
use crate::http::client;
use crate::http::{Client, Deadline};
use crate::store::model::Order;
use crate::telemetry::catalog;

const PEER: &str = "payments";

/// For how long a replica that could not be reached is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// Entries of the ledger that are read at once.
const LEDGER_PAGE: u32 = 1_000;

/// How a charge ended, as far as the shop can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charged {
    /// The money moved.
    Yes,
    /// The bank said no.
    Declined,
    /// It was not begun.
    No,
    /// An attempt may have reached the bank, and its answer did not come.
    Unknown,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// The peer refused it, or was not reached: nothing was charged.
    Refused,
    /// No answer came.
    Lost,
}

impl Transient for Failed {
    fn is_transient(&self) -> bool {
        true
    }
}

/// A page of the ledger.
#[derive(Debug, Deserialize)]
pub(super) struct LedgerPage {
    pub(super) charges: Vec<LedgerEntry>,
    /// What to ask for next; absent on the last page.
    pub(super) after: Option<String>,
}

/// A row of the ledger.
#[derive(Debug, Deserialize)]
pub(super) struct LedgerEntry {
    pub(super) key: String,
    pub(super) order_id: Option<i64>,
    pub(super) status: String,
}

/// Payments, as the shop sees it.
#[derive(Debug)]
pub(super) struct Payments {
    client: Client,
    shop_id: String,
    replicas: Vec<Replica>,
    budget: Budget,
    attempts: Counter,
}

#[derive(Debug)]
struct Replica {
    url: String,
    in_flight: AtomicUsize,
    passed_over_until: Mutex<Option<Instant>>,
}

impl Payments {
    /// Payments at these base URLs, for the shop with this id.
    pub(super) fn new(urls: &[String], shop_id: &str) -> Result<Self, String> {
        if urls.is_empty() {
            return Err("--payments needs at least one URL".into());
        }
        for outcome in ["charged", "declined", "refused", "unknown"] {
            catalog::firedrill_client_calls_total(PEER, outcome).absolute(0);
        }
        for reason in ["budget", "deadline"] {
            catalog::firedrill_client_retries_withheld_total(PEER, reason).absolute(0);
        }
        let attempts = catalog::firedrill_client_attempts_total(PEER);
        attempts.absolute(0);
        let replicas = urls
            .iter()
            .map(|url| Replica::new(url))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client: Client::new(),
            shop_id: shop_id.into(),
            replicas,
            budget: Budget::new(),
            attempts,
        })
    }

    /// Charges an order.
    pub(super) async fn charge(&self, order: &Order, deadline: Deadline) -> Charged {
        let lost = AtomicBool::new(false);
        let lost_some = &lost;
        let attempt = |number| async move {
            let result = self.attempt(order, deadline, number).await;
            lost_some.fetch_or(result == Err(Failed::Lost), Ordering::Relaxed);
            result
        };
        let withheld = |why| {
            let reason = match why {
                Withheld::Budget => "budget",
                Withheld::Deadline => "deadline",
            };
            catalog::firedrill_client_retries_withheld_total(PEER, reason).increment(1);
        };
        let option = retries::CHOICE.option();
        let result = retries::call(option, &self.budget, deadline.0, attempt, withheld).await;
        let charged = match result {
            Ok(charged) => charged,
            Err(_) if lost.into_inner() => Charged::Unknown,
            Err(_) => Charged::No,
        };
        let outcome = match charged {
            Charged::Yes => "charged",
            Charged::Declined => "declined",
            Charged::No => "refused",
            Charged::Unknown => "unknown",
        };
        catalog::firedrill_client_calls_total(PEER, outcome).increment(1);
        charged
    }

    async fn attempt(
        &self,
        order: &Order,
        deadline: Deadline,
        number: u32,
    ) -> Result<Charged, Failed> {
        let limit = charge_timeout::limit(charge_timeout::CHOICE.option(), deadline.remaining());
        if limit.is_some_and(|limit| limit.is_zero()) {
            // The caller has left: its card must not be charged for an answer that nobody hears.
            return Err(Failed::Refused);
        }
        self.attempts.increment(1);
        let replica = self.pick();
        let body = json!({ "key": order.charge_key(&self.shop_id), "order_id": order.id, "amount_cents": order.amount_cents });
        let request = Request::post(format!("{}/charges", replica.url))
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .expect("the URL was checked at start");
        let _in_flight = InFlight::enter(&replica.in_flight);
        match self.client.attempt(request, limit, number).await {
            Ok(answer) => match answer.status {
                StatusCode::CREATED => Ok(Charged::Yes),
                StatusCode::PAYMENT_REQUIRED => Ok(Charged::Declined),
                // Voided before: it was not charged and will not be.
                StatusCode::CONFLICT => Ok(Charged::No),
                // Refused before the bank saw it, or by the bank: nothing was charged.
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => Err(Failed::Refused),
                status => {
                    tracing::warn!(target: "charge", %status, "Payments gave an answer that was not expected.");
                    Err(Failed::Lost)
                }
            },
            Err(client::Error::Connect(..)) => {
                replica.pass_over();
                Err(Failed::Refused)
            }
            Err(_) => Err(Failed::Lost),
        }
    }

    /// Asks that this order not be charged any more, and how it stands then: the ledger decides once and for
    /// all, so a charge that is still in the bank's queue cannot surface later.
    pub(super) async fn void(&self, order: &Order) -> Result<Charged, String> {
        let url = format!(
            "{}/charges/{}/void",
            self.pick().url,
            order.charge_key(&self.shop_id)
        );
        let request = Request::post(url)
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .send(request, Some(Duration::from_secs(2)))
            .await
            .map_err(|error| error.to_string())?;
        let entry: serde_json::Value = answer.json().map_err(|error| error.to_string())?;
        match entry["status"].as_str() {
            Some("charged") => Ok(Charged::Yes),
            Some("declined") => Ok(Charged::Declined),
            Some("voided") => Ok(Charged::No),
            _ => Err(format!("payments answered {} to a void", answer.status)),
        }
    }

    /// A page of what the ledger holds of this shop, behind the key `after`.
    pub(super) async fn ledger_page(&self, after: &str) -> Result<LedgerPage, String> {
        let replica = self.pick();
        let url = format!(
            "{}/charges?prefix={}&after={}&limit={LEDGER_PAGE}",
            replica.url,
            Order::charge_prefix(&self.shop_id),
            client::query_value(after)
        );
        let request = Request::get(url)
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let sent = self.client.send(request, Some(Duration::from_secs(2)));
        let answer = sent.await.map_err(|error| {
            if matches!(error, client::Error::Connect(..)) {
                replica.pass_over();
            }
            error.to_string()
        })?;
        if answer.status != StatusCode::OK {
            return Err(format!("payments answered {}", answer.status));
        }
        answer.json().map_err(|error| error.to_string())
    }

    /// Of two replicas picked at random, the one with less under way.
    fn pick(&self) -> &Replica {
        let now = Instant::now();
        let reachable: Vec<&Replica> = self
            .replicas
            .iter()
            .filter(|replica| replica.is_reachable(now))
            .collect();
        let candidates = if reachable.is_empty() {
            self.replicas.iter().collect()
        } else {
            reachable
        };
        let random = || candidates[fastrand::usize(..candidates.len())];
        let (one, other) = (random(), random());
        if one.in_flight.load(Ordering::Relaxed) <= other.in_flight.load(Ordering::Relaxed) {
            one
        } else {
            other
        }
    }
}

impl Replica {
    fn new(url: &str) -> Result<Self, String> {
        Ok(Self {
            url: client::base_url("--payments", url, "http://127.0.0.1:8081")?,
            in_flight: AtomicUsize::new(0),
            passed_over_until: Mutex::new(None),
        })
    }

    fn is_reachable(&self, now: Instant) -> bool {
        self.passed_over_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none_or(|until| until <= now)
    }

    fn pass_over(&self) {
        let until = Some(Instant::now() + PASSED_OVER);
        *self
            .passed_over_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Counts a request under way, also when it is given up.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
