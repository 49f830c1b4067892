//! The outbox: what must happen after an order was paid.
//!
//! The event is written in the order's own transaction, so that there is never an order without its event
//! nor an event without its order. This worker delivers: it asks for the shipment and removes the event, both
//! in one transaction, so that a crash at any point neither loses nor doubles it.

use std::time::Duration;

use crate::telemetry::catalog::{Counter, Gauge};
use rusqlite::{Connection, Transaction};
use tokio_util::sync::CancellationToken;

use super::now_ms;
use crate::store::{Operation, Store};
use crate::telemetry::catalog;

/// Events that one transaction delivers.
const BATCH: i64 = 100;

/// How long the worker rests when there is nothing to do, or when a batch failed.
const REST: Duration = Duration::from_millis(200);

/// Delivers until it is told to stop.
pub(super) async fn run(store: Store, stop: CancellationToken) {
    let meters = Meters::new();
    while !stop.is_cancelled() {
        let delivered = store
            .write(Operation::new("DELETE", "outbox"), deliver)
            .await;
        match delivered {
            Ok(batch) => {
                meters.report(&batch);
                if batch.delivered == BATCH.unsigned_abs() {
                    continue;
                }
            }
            Err(error) => {
                meters.failed.increment(1);
                tracing::warn!(target: "outbox", error = %error, "A batch was not delivered; it will be tried again.");
                // What cannot be delivered still gets older, and it can be read while nothing can be written.
                let backlog = store.read(Operation::new("SELECT", "outbox"), backlog);
                if let Ok(backlog) = backlog.await {
                    meters.waiting(&backlog);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(REST) => {}
        }
    }
}

struct Batch {
    delivered: u64,
    backlog: Backlog,
}

/// What is not delivered.
struct Backlog {
    events: i64,
    oldest_ms: Option<i64>,
}

fn deliver(transaction: &Transaction<'_>) -> rusqlite::Result<Batch> {
    let mut select =
        transaction.prepare_cached("SELECT id, order_id FROM outbox ORDER BY id LIMIT ?1")?;
    let rows = select.query_map([BATCH], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let events = rows.collect::<Result<Vec<_>, _>>()?;
    for (event, order) in &events {
        transaction
            .prepare_cached("INSERT INTO shipments VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([*order, now_ms()])?;
        transaction
            .prepare_cached("DELETE FROM outbox WHERE id = ?1")?
            .execute([*event])?;
    }
    Ok(Batch {
        delivered: events.len() as u64,
        backlog: backlog(transaction)?,
    })
}

fn backlog(connection: &Connection) -> rusqlite::Result<Backlog> {
    connection
        .prepare_cached("SELECT count(*), min(created_at_ms) FROM outbox")?
        .query_row([], |row| {
            Ok(Backlog {
                events: row.get(0)?,
                oldest_ms: row.get(1)?,
            })
        })
}

struct Meters {
    delivered: Counter,
    failed: Counter,
    depth: Gauge,
    lag: Gauge,
}

impl Meters {
    fn new() -> Self {
        let meters = Self {
            delivered: catalog::firedrill_outbox_events_total("delivered"),
            failed: catalog::firedrill_outbox_events_total("failed"),
            depth: catalog::firedrill_queue_depth("outbox"),
            lag: catalog::firedrill_outbox_lag_seconds(),
        };
        meters.delivered.absolute(0);
        meters.failed.absolute(0);
        meters.depth.set(0.0);
        meters.lag.set(0.0);
        meters
    }

    fn report(&self, batch: &Batch) {
        self.delivered.increment(batch.delivered);
        self.waiting(&batch.backlog);
    }

    fn waiting(&self, backlog: &Backlog) {
        self.depth.set(backlog.events as f64);
        let age_ms = backlog
            .oldest_ms
            .map_or(0, |oldest| now_ms().saturating_sub(oldest));
        self.lag.set(age_ms as f64 / 1000.0);
    }
}
