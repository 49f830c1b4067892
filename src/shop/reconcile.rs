//! Settles the orders that were left open: the answer of payments was lost, or the shop died.
//!
//! A timeout says nothing about whether the card was charged, so guessing either way would be wrong for
//! someone: a charge without an order, or an order without a charge. The ledger knows. It is asked to void
//! the charge; if that comes too late the order is completed, and if not it is cancelled. The ledger's word
//! is final, so it does not matter whether a late attempt still waits in the bank's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::charge::Charged;
use super::{Shop, now_ms, orders};
use crate::store::model::{Order, Status};
use crate::store::{self, Operation};
use crate::telemetry::catalog;

/// How old an open order must be: the bank gets that long to decide, so that most orders whose answer was lost
/// are completed and not cancelled.
const GRACE_MS: i64 = 3_000;

/// How often open orders are looked for, and how many are read at once.
const PAUSE: Duration = Duration::from_millis(500);
const PAGE: i64 = 100;

/// Settles until it is told to stop.
pub(super) async fn run(shop: Arc<Shop>, stop: CancellationToken) {
    for outcome in ["completed", "cancelled", "declined"] {
        catalog::firedrill_orders_reconciled_total(outcome).absolute(0);
    }
    while !stop.is_cancelled() {
        if let Err(error) = round(&shop, &stop).await {
            tracing::warn!(target: "reconcile", error, "Open orders could not be settled yet.");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Goes once through all open orders, in pages: those that this process works on must not hide the others.
async fn round(shop: &Shop, stop: &CancellationToken) -> Result<(), String> {
    let mut after = 0;
    loop {
        let page = left_open(shop, after)
            .await
            .map_err(|error| error.to_string())?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        for order in page {
            if stop.is_cancelled() {
                return Ok(());
            }
            if !shop.orders.works_on(order.id) {
                settle(shop, order).await?;
            }
        }
    }
}

async fn left_open(shop: &Shop, after: i64) -> Result<Vec<Order>, store::Error> {
    let before = now_ms() - GRACE_MS;
    let read = shop
        .store
        .read(Operation::new("SELECT", "orders"), move |connection| {
            let query = format!(
                "SELECT {} FROM orders WHERE status = 'charging' AND created_at_ms < ?1 AND id > ?2
                 ORDER BY id LIMIT ?3",
                Order::COLUMNS
            );
            connection
                .prepare_cached(&query)?
                .query_map([before, after, PAGE], Order::from_row)?
                .collect()
        });
    read.await
}

async fn settle(shop: &Shop, order: Order) -> Result<(), String> {
    let (status, outcome) = match shop.payments.void(&order).await? {
        Charged::Yes => (Status::Paid, "completed"),
        Charged::Declined => (Status::Declined, "declined"),
        Charged::No => (Status::Cancelled, "cancelled"),
        Charged::Unknown => return Err("the ledger did not say".into()),
    };
    let id = order.id;
    let write = shop
        .store
        .write(Operation::new("UPDATE", "orders"), move |transaction| {
            orders::settle(transaction, order, status)
        });
    write.await.map_err(|error| error.to_string())?;
    catalog::firedrill_orders_reconciled_total(outcome).increment(1);
    tracing::info!(target: "reconcile", order_id = id, outcome, "An open order was settled.");
    Ok(())
}
