//! Settles the orders that were left open: the answer of payments was lost, or the shop died.
//!
//! A timeout says nothing about whether the card was charged, so guessing either way would be wrong for
//! someone: a charge without an order, or an order without a charge. The ledger knows. It is asked to void
//! the charge; if that comes too late the order is completed, and if not it is cancelled. The ledger's word
//! is final, so it does not matter whether a late attempt still waits in the bank's queue.
//!
//! How many orders are unsettled, and since when, is looked up here as well, through the connection beside the pool:
//! nothing of what can keep orders open keeps them from being counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::charge::Charged;
use super::{Shop, now_ms, orders};
use crate::store::model::{Order, Status};
use crate::store::{self, Operation, Reader};
use crate::telemetry::catalog::{self, Gauge};

/// How old an open order must be: the bank gets that long to decide, so that most orders whose answer was lost
/// are completed and not cancelled.
const GRACE_MS: i64 = 3_000;

/// How often open orders are looked for, and how many are read at once.
const PAUSE: Duration = Duration::from_millis(500);
const PAGE: i64 = 100;

/// Settles until it is told to stop.
pub(super) async fn run(shop: Arc<Shop>, mut unsettled: Unsettled, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = round(&shop, &stop, &mut unsettled).await {
            tracing::warn!(target: "reconcile", error, "Open orders could not be settled yet.");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Goes once through all open orders, in pages: those that this process works on must not hide the others.
async fn round(
    shop: &Shop,
    stop: &CancellationToken,
    unsettled: &mut Unsettled,
) -> Result<(), String> {
    let mut after = 0;
    unsettled.look(&shop.reader).await?;
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
                unsettled.look_again(&shop.reader).await?;
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

/// What the gauges show of the orders that are unsettled.
#[derive(Debug)]
pub(super) struct Unsettled {
    count: Gauge,
    oldest_age: Gauge,
    looked: Instant,
}

impl Unsettled {
    /// Nothing is unsettled yet, nor was anything settled.
    pub(super) fn new() -> Self {
        for outcome in ["completed", "cancelled", "declined"] {
            catalog::firedrill_orders_reconciled_total(outcome).absolute(0);
        }
        let unsettled = Self {
            count: catalog::firedrill_orders_unsettled(),
            oldest_age: catalog::firedrill_orders_oldest_unsettled_age_seconds(),
            looked: Instant::now(),
        };
        unsettled.count.set(0.0);
        unsettled.oldest_age.set(0.0);
        unsettled
    }

    /// Sets the gauges.
    async fn look(&mut self, reader: &Reader) -> Result<(), String> {
        let now = now_ms();
        let read = reader.read(move |connection| count(connection, now - GRACE_MS));
        let (count, oldest_ms) = read.await.map_err(|error| error.to_string())?;
        let age_ms = oldest_ms.map_or(0, |oldest| now.saturating_sub(oldest));
        self.count.set(count as f64);
        self.oldest_age.set(age_ms as f64 / 1000.0);
        self.looked = Instant::now();
        Ok(())
    }

    /// Sets them if they are old: where payments is slow, a round takes long.
    async fn look_again(&mut self, reader: &Reader) -> Result<(), String> {
        if self.looked.elapsed() < PAUSE {
            return Ok(());
        }
        self.look(reader).await
    }
}

/// How many open orders are older than `before_ms`, and when the oldest was opened.
fn count(connection: &Connection, before_ms: i64) -> rusqlite::Result<(i64, Option<i64>)> {
    connection
        .prepare_cached(
            "SELECT count(*), min(created_at_ms) FROM orders
             WHERE status = 'charging' AND created_at_ms < ?1",
        )?
        .query_row([before_ms], |row| Ok((row.get(0)?, row.get(1)?)))
}
