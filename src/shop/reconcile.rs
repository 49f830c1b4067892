//! Settles the orders that were left open: the answer of payments was lost, or the shop died.
//!
//! A timeout says nothing about whether the card was charged, so guessing either way would be wrong for
//! someone: a charge without an order, or an order without a charge. The ledger knows. It is asked to void
//! the charge; if that comes too late the order is completed, and if not it is cancelled. The ledger's word
//! is final, so it does not matter whether a late attempt still waits in the bank's queue.

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

/// How often open orders are looked for, and how many are settled in one go.
const PAUSE: Duration = Duration::from_millis(500);
const BATCH: i64 = 100;

/// Settles until it is told to stop.
pub(super) async fn run(shop: Shop, stop: CancellationToken) {
    for outcome in ["completed", "cancelled", "declined"] {
        catalog::firedrill_orders_reconciled_total(outcome).absolute(0);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let open = match left_open(&shop).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(target: "reconcile", error = %error, "Open orders could not be looked for.");
                continue;
            }
        };
        for order in open
            .into_iter()
            .filter(|order| !shop.orders.works_on(order.id))
        {
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = settle(&shop, order).await {
                tracing::warn!(target: "reconcile", error, "An open order could not be settled yet.");
                break;
            }
        }
    }
}

async fn left_open(shop: &Shop) -> Result<Vec<Order>, store::Error> {
    let before = now_ms() - GRACE_MS;
    let read = shop.store.read(Operation::new("SELECT", "orders"), move |connection| {
        let query = format!(
            "SELECT {} FROM orders WHERE status = 'charging' AND created_at_ms < ?1 ORDER BY created_at_ms LIMIT ?2",
            Order::COLUMNS
        );
        connection.prepare_cached(&query)?.query_map([before, BATCH], Order::from_row)?.collect()
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
