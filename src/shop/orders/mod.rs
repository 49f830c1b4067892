//! Orders: the one write that involves money.
//!
//! An order is opened (stock taken, row written, state `charging`), charged at payments, and closed. Once it
//! is open it is finished in a task of its own: a client that leaves drops the request's handler, and must
//! not cut the order in half. What stays open all the same (a lost answer, a crash) is settled by `reconcile`.
//! An order that was answered 201 is on disk; the same key brings the same answer and no second charge.

mod rows;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::OptionalExtension;
use serde::Deserialize;
use tracing::Instrument;

use super::Shop;
use super::charge::Charged;
use crate::choices::admission::{self, Full};
use crate::choices::connection_scope;
use crate::http::extract::{JsonBody, PathId};
use crate::http::{Deadline, Problem};
use crate::store::model::{Order, Status};
use crate::store::{self, Lease, Operation};
use crate::telemetry::{account, catalog};
use rows::Refusal;
pub(super) use rows::settle;

/// The largest quantity of one order.
const QUANTITY_MAX: i64 = 100;

/// The longest idempotency key.
const KEY_CHARS_MAX: usize = 64;

const OUTCOMES: [&str; 6] = [
    "paid",
    "declined",
    "cancelled",
    "unknown",
    "replayed",
    "refused",
];

/// Why an order was refused at the door.
const TOO_MANY: &str = "too_many_orders";

/// What an order may be answered.
pub(super) const PLACED: [(u16, &str); 10] = [
    (201, ""),
    (402, ""),
    (404, ""),
    (409, ""),
    (422, ""),
    (500, ""),
    super::POOL_TIMEOUT,
    (503, "payments"),
    (503, TOO_MANY),
    (504, "timeout"),
];

/// What is being worked on in this process: `reconcile` must leave it alone.
#[derive(Debug)]
pub struct Orders {
    active: Mutex<HashSet<i64>>,
}

impl Orders {
    pub(super) fn new() -> Self {
        for outcome in OUTCOMES {
            catalog::firedrill_orders_total(outcome).absolute(0);
        }
        catalog::firedrill_requests_shed_total(TOO_MANY).absolute(0);
        Self {
            active: Mutex::default(),
        }
    }

    fn active(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders that are being charged by this process.
    pub(super) fn open(&self) -> usize {
        self.active().len()
    }

    /// Whether this process works on the order.
    pub(super) fn works_on(&self, id: i64) -> bool {
        self.active().contains(&id)
    }

    fn enter(self: &Arc<Self>, order: Order) -> Ticket {
        self.active().insert(order.id);
        Ticket(Arc::new(Entered {
            order,
            orders: Arc::clone(self),
        }))
    }
}

/// An open order; while a clone of it lives, the order is being worked on.
#[derive(Debug, Clone)]
struct Ticket(Arc<Entered>);

#[derive(Debug)]
struct Entered {
    order: Order,
    orders: Arc<Orders>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.orders.active().remove(&self.order.id);
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    customer_id: i64,
    item_id: i64,
    quantity: i64,
}

/// How an order ended, if not with a row that was just paid or declined.
enum Ending {
    /// The key was seen before; this is what became of it then.
    Replayed(Order),
    /// A rule forbids it, or the shop could not begin: nothing has changed.
    Refused(Problem),
    /// Payments did not take the charge: nothing was charged, and the stock is back.
    Cancelled,
    /// Order `.0` began to charge, and what came of it is not known or not written down yet.
    Unknown(i64),
}

impl From<store::Error> for Ending {
    fn from(error: store::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// `GET /orders/{id}`
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    PathId(id): PathId<i64>,
) -> Result<Json<Order>, Problem> {
    let read = shop
        .store
        .read(Operation::new("SELECT", "orders"), move |connection| {
            let query = format!("SELECT {} FROM orders WHERE id = ?1", Order::COLUMNS);
            connection
                .prepare_cached(&query)?
                .query_row([id], Order::from_row)
                .optional()
        });
    read.await?
        .map(Json)
        .ok_or_else(|| Problem::not_found("order", "id", id))
}

/// `POST /orders`
pub(super) async fn place(
    State(shop): State<Arc<Shop>>,
    deadline: Deadline,
    headers: HeaderMap,
    body: JsonBody<NewOrder>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let order = body.value;
    if !(1..=QUANTITY_MAX).contains(&order.quantity) {
        return Err(Problem::invalid(
            "quantity",
            order.quantity,
            format!("a number from 1 to {QUANTITY_MAX}"),
        ));
    }
    let (tasks, bound) = (shop.tasks.clone(), Arc::clone(&shop.orders_bound));
    let work = run(shop, key, order, deadline);
    let admitted = admission::admit(admission::CHOICE.option(), &bound, work);
    let admitted = admitted.map_err(|Full| too_many())?;
    let finishing = tasks.spawn(account::carry(admitted.in_current_span()));
    finishing.await.map_err(|error| Problem::internal(&error))?
}

/// The answer to an order for which nothing was done.
fn too_many() -> Problem {
    catalog::firedrill_requests_shed_total(TOO_MANY).increment(1);
    catalog::firedrill_orders_total("refused").increment(1);
    let detail = "Too many orders are under way; nothing was ordered.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .retry_after(1)
        .error_type(TOO_MANY)
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let sent = headers.get("idempotency-key");
    let text = sent
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !text.is_empty() && text.len() <= KEY_CHARS_MAX && text.chars().all(|c| c.is_ascii_graphic())
    {
        return Ok(text.to_owned());
    }
    let what = if sent.is_none() {
        "The Idempotency-Key is missing."
    } else {
        "The Idempotency-Key cannot be used."
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, what)
        .field("Idempotency-Key")
        .value(text)
        .allowed(format!(
            "1 to {KEY_CHARS_MAX} printable ASCII characters without spaces"
        )))
}

async fn run(
    shop: Arc<Shop>,
    key: String,
    new: NewOrder,
    deadline: Deadline,
) -> Result<Response, Problem> {
    let shop = &*shop;
    let acquire = async || Ok::<_, Ending>(shop.store.writing_connection().await?);
    let open = async move |lease: Lease| {
        let (lease, opened) = open(lease, key, new).await?;
        Ok((lease, shop.orders.enter(opened)))
    };
    let charge = async move |ticket: Ticket| shop.payments.charge(&ticket.0.order, deadline).await;
    let close = async move |lease: Result<Lease, Ending>, ticket: Ticket, charged: Charged| {
        close(lease, &ticket.0.order, charged).await
    };
    let option = connection_scope::CHOICE.option();
    let result = connection_scope::around_charge(option, acquire, open, charge, close).await;
    let (outcome, answer) = conclude(result);
    catalog::firedrill_orders_total(outcome).increment(1);
    answer
}

async fn open(lease: Lease, key: String, new: NewOrder) -> Result<(Lease, Order), Ending> {
    let write = lease.write(Operation::new("INSERT", "orders"), move |transaction| {
        rows::open(transaction, &key, &new)
            .map(Ok)
            .or_else(|refusal| match refusal {
                Refusal::Database(error) => Err(error),
                Refusal::Ending(ending) => Ok(Err(ending)),
            })
    });
    let (lease, opened) = write.await?;
    Ok((lease, opened?))
}

/// Writes down what the charge came to. From here on a failure of ours must not read as "not ordered": the card
/// may have been charged, so whatever cannot be written leaves the order open, and says so.
async fn close(
    lease: Result<Lease, Ending>,
    order: &Order,
    charged: Charged,
) -> Result<Order, Ending> {
    let unknown = || Ending::Unknown(order.id);
    let status = match charged {
        Charged::Yes => Status::Paid,
        Charged::Declined => Status::Declined,
        Charged::No => Status::Cancelled,
        Charged::Unknown => return Err(unknown()),
    };
    let lease = lease.map_err(|_| unknown())?;
    let open = order.clone();
    let write = lease.write(Operation::new("UPDATE", "orders"), move |transaction| {
        rows::settle(transaction, open, status)
    });
    let (_, order) = write.await.map_err(|error| {
        tracing::warn!(target: "orders", order_id = order.id, error = %error, "An order could not be closed.");
        unknown()
    })?;
    match order.status {
        Status::Cancelled => Err(Ending::Cancelled),
        _ => Ok(order),
    }
}

/// The outcome that is counted, and the answer.
fn conclude(result: Result<Order, Ending>) -> (&'static str, Result<Response, Problem>) {
    match result {
        Ok(order) => (order.status.name(), answer(order, false)),
        Err(Ending::Replayed(order)) => ("replayed", answer(order, true)),
        Err(Ending::Refused(problem)) => ("refused", Err(problem)),
        Err(Ending::Cancelled) => {
            let detail = "Payments cannot take the charge at the moment; nothing was charged.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            (
                "cancelled",
                Err(problem.error_type("payments").retry_after(1)),
            )
        }
        Err(Ending::Unknown(id)) => {
            let detail = format!(
                "Whether order {id} was charged is not known yet; ask again with the same key."
            );
            let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, detail);
            ("unknown", Err(problem.error_type("timeout").retry_after(5)))
        }
    }
}

fn answer(order: Order, replayed: bool) -> Result<Response, Problem> {
    if order.status == Status::Declined {
        return Err(Problem::new(
            StatusCode::PAYMENT_REQUIRED,
            "The bank declined the charge.",
        )
        .field("amount_cents")
        .value(order.amount_cents));
    }
    let location = format!("/orders/{}", order.id);
    let mut response = (
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(order),
    )
        .into_response();
    if replayed {
        response.headers_mut().insert(
            "idempotent-replayed",
            "true".parse().expect("true is a header value"),
        );
    }
    Ok(response)
}
