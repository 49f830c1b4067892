//! Orders: the one write that involves money.
//!
//! An order is opened (stock taken, row written, state `charging`), charged at payments, and closed. Once it
//! is open it is finished in a task of its own: a client that leaves drops the request's handler, and must
//! not cut the order in half. What stays open all the same (a lost answer, a crash) is settled by `reconcile`.
//! An order that was answered 201 is on disk; the same key brings the same answer and no second charge.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Deserialize;
use tracing::Instrument;

use super::charge::Charged;
use super::{Shop, exists, now_ms};
use crate::choices::connection_scope;
use crate::http::extract::{JsonBody, PathId};
use crate::http::{Deadline, Problem};
use crate::store::model::{Order, Status};
use crate::store::{self, Lease, Operation};
use crate::telemetry::catalog;

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

/// Why an order was not opened.
enum Ending {
    Replayed(Order),
    Refused(Problem),
}

impl From<store::Error> for Ending {
    fn from(error: store::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// `GET /orders/{id}`
pub(super) async fn show(
    State(shop): State<Shop>,
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
    State(shop): State<Shop>,
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
    let tasks = shop.tasks.clone();
    let finishing = tasks.spawn(run(shop, key, order, deadline).in_current_span());
    finishing.await.map_err(|error| Problem::internal(&error))?
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
    shop: Shop,
    key: String,
    new: NewOrder,
    deadline: Deadline,
) -> Result<Response, Problem> {
    let Shop {
        store,
        orders,
        payments,
        ..
    } = shop;
    let acquire = || {
        let store = store.clone();
        async move { Ok::<_, Ending>(store.connection().await?) }
    };
    let open = async move |lease: Lease| {
        let (lease, opened) = open(lease, key, new).await?;
        Ok((lease, orders.enter(opened)))
    };
    let charge = async move |ticket: Ticket| payments.charge(&ticket.0.order, deadline).await;
    let close = async move |lease: Lease, ticket: Ticket, charged: Charged| {
        close(lease, ticket.0.order.clone(), charged)
            .await
            .map_err(Ending::Refused)
    };
    let option = connection_scope::CHOICE.option();
    let result = connection_scope::around_charge(option, acquire, open, charge, close).await;
    let (outcome, answer) = match result {
        Ok(order) => (order.status.name(), answer(order, false)),
        Err(Ending::Replayed(order)) => ("replayed", answer(order, true)),
        Err(Ending::Refused(problem)) => (
            if problem.status == 504 {
                "unknown"
            } else {
                "refused"
            },
            Err(problem),
        ),
    };
    catalog::firedrill_orders_total(outcome).increment(1);
    answer
}

async fn open(lease: Lease, key: String, new: NewOrder) -> Result<(Lease, Order), Ending> {
    let write = lease.write(Operation::new("INSERT", "orders"), move |transaction| {
        open_in(transaction, &key, &new)
            .map(Ok)
            .or_else(|refusal| match refusal {
                Refusal::Database(error) => Err(error),
                Refusal::Ending(ending) => Ok(Err(ending)),
            })
    });
    let (lease, opened) = write.await?;
    Ok((lease, opened?))
}

enum Refusal {
    Database(rusqlite::Error),
    Ending(Ending),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Ending(Ending::Refused(problem))
    }
}

/// Takes the stock and writes the row. What is refused has changed nothing.
fn open_in(transaction: &Transaction<'_>, key: &str, new: &NewOrder) -> Result<Order, Refusal> {
    let by_key = format!(
        "SELECT {} FROM orders WHERE idempotency_key = ?1",
        Order::COLUMNS
    );
    if let Some(order) = transaction
        .prepare_cached(&by_key)?
        .query_row([key], Order::from_row)
        .optional()?
    {
        return Err(Refusal::Ending(replay(order, key, new)));
    }
    if !exists(transaction, "customers", new.customer_id)? {
        return Err(Problem::not_found("customer", "customer_id", new.customer_id).into());
    }
    let price = transaction
        .prepare_cached("SELECT price_cents FROM items WHERE id = ?1")?
        .query_row([new.item_id], |row| row.get::<_, i64>(0))
        .optional()?
        .ok_or_else(|| Problem::not_found("item", "item_id", new.item_id))?;
    let taken = transaction
        .prepare_cached("UPDATE items SET stock = stock - ?2 WHERE id = ?1 AND stock >= ?2")?
        .execute([new.item_id, new.quantity])?;
    if taken == 0 {
        let sold_out = Problem::new(StatusCode::CONFLICT, "There are not that many left.");
        return Err(sold_out.field("quantity").value(new.quantity).into());
    }
    let amount_cents = price * new.quantity;
    transaction
        .prepare_cached(
            "INSERT INTO orders (customer_id, item_id, quantity, amount_cents, status, idempotency_key, created_at_ms)
             VALUES (?1, ?2, ?3, ?4, 'charging', ?5, ?6)",
        )?
        .execute(params![new.customer_id, new.item_id, new.quantity, amount_cents, key, now_ms()])?;
    let id = transaction.last_insert_rowid();
    let NewOrder {
        customer_id,
        item_id,
        quantity,
    } = *new;
    Ok(Order {
        id,
        customer_id,
        item_id,
        quantity,
        amount_cents,
        status: Status::Charging,
    })
}

/// What a key that was seen before brings: the same answer, or the reason why not.
fn replay(order: Order, key: &str, new: &NewOrder) -> Ending {
    let conflict = |detail: &str| {
        Problem::new(StatusCode::CONFLICT, detail)
            .field("Idempotency-Key")
            .value(key)
    };
    let same = (order.customer_id, order.item_id, order.quantity)
        == (new.customer_id, new.item_id, new.quantity);
    if !same {
        return Ending::Refused(
            conflict("This key was used for another order.")
                .allowed("a key of its own for each order"),
        );
    }
    match order.status {
        Status::Paid | Status::Declined => Ending::Replayed(order),
        Status::Charging => {
            Ending::Refused(conflict("This order is not settled yet.").retry_after(1))
        }
        Status::Cancelled => Ending::Refused(
            conflict("This order was cancelled and not charged.")
                .allowed("a new key, for a new try"),
        ),
    }
}

/// Writes down what the charge came to. An unknown outcome leaves the order open.
async fn close(lease: Lease, order: Order, charged: Charged) -> Result<Order, Problem> {
    let status = match charged {
        Charged::Yes => Status::Paid,
        Charged::Declined => Status::Declined,
        Charged::No => Status::Cancelled,
        Charged::Unknown => {
            let detail = format!(
                "Whether order {} was charged is not known yet; ask again with the same key.",
                order.id
            );
            return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
                .error_type("timeout")
                .retry_after(5));
        }
    };
    let write = lease.write(Operation::new("UPDATE", "orders"), move |transaction| {
        settle(transaction, order, status)
    });
    let (_, order) = write.await?;
    if order.status == Status::Cancelled {
        let detail = "Payments cannot take the charge at the moment; nothing was charged.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .error_type("payments")
            .retry_after(1));
    }
    Ok(order)
}

/// Moves an open order to `status`: a paid one leaves an event in the outbox, in the same transaction; the
/// others give their stock back. An order that is settled already stays as it is.
pub(super) fn settle(
    transaction: &Transaction<'_>,
    mut order: Order,
    status: Status,
) -> rusqlite::Result<Order> {
    let moved = transaction
        .prepare_cached("UPDATE orders SET status = ?2 WHERE id = ?1 AND status = 'charging'")?
        .execute(params![order.id, status.name()])?;
    if moved == 0 {
        let by_id = format!("SELECT {} FROM orders WHERE id = ?1", Order::COLUMNS);
        return transaction
            .prepare_cached(&by_id)?
            .query_row([order.id], Order::from_row);
    }
    if status == Status::Paid {
        transaction
            .prepare_cached("INSERT INTO outbox (order_id, created_at_ms) VALUES (?1, ?2)")?
            .execute([order.id, now_ms()])?;
    } else {
        transaction
            .prepare_cached("UPDATE items SET stock = stock + ?2 WHERE id = ?1")?
            .execute([order.item_id, order.quantity])?;
    }
    order.status = status;
    Ok(order)
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
