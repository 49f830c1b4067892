//! The rows of an order, each change one transaction: opening it, replaying it, settling it.
//!
//! What must be true together is written together: stock and order, status and event. A crash between two of
//! these transactions leaves an open order, and `reconcile` knows what to do with it.

use axum::http::StatusCode;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Ending, NewOrder};
use crate::http::Problem;
use crate::shop::{exists, now_ms};
use crate::store::model::{Order, Status};
use crate::telemetry::context;

/// Why a transaction did not open an order: the database failed, or a rule forbids it.
pub(super) enum Refusal {
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
pub(super) fn open(
    transaction: &Transaction<'_>,
    key: &str,
    new: &NewOrder,
) -> Result<Order, Refusal> {
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

/// Moves an open order to `status`: a paid one leaves an event in the outbox, in the same transaction; the
/// others give their stock back. An order that is settled already stays as it is.
pub(in crate::shop) fn settle(
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
            .prepare_cached(
                "INSERT INTO outbox (order_id, created_at_ms, traceparent) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![order.id, now_ms(), context::traceparent()])?;
    } else {
        transaction
            .prepare_cached("UPDATE items SET stock = stock + ?2 WHERE id = ?1")?
            .execute([order.item_id, order.quantity])?;
    }
    order.status = status;
    Ok(order)
}
