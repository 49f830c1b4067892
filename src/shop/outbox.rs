//! The outbox: what must happen after an order was paid.
//!
//! The event is written in the order's own transaction, so that there is never an order without its event
//! nor an event without its order. This worker delivers: it asks for the shipment and removes the event, both
//! in one transaction, so that a crash at any point neither loses nor doubles it. A delivery is a trace of its own,
//! for many orders share it, and has a link to each order that it is for.

use std::time::Duration;

use crate::telemetry::catalog::{Counter, Gauge};
use rusqlite::{Connection, Transaction};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field};

use super::now_ms;
use crate::store::{self, Operation, Store};
use crate::telemetry::{catalog, context};

/// Events that one transaction delivers.
const BATCH: usize = 100;

/// How long the worker rests when there is nothing to do, or when a batch failed.
const REST: Duration = Duration::from_millis(200);

/// Delivers until it is told to stop.
pub(super) async fn run(store: Store, meters: Meters, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match deliver_some(&store, &meters).await {
            Ok(BATCH) => continue,
            Ok(_) => {}
            Err(error) => {
                meters.failed.increment(1);
                tracing::warn!(target: "outbox", error = %error, "A batch was not delivered; it will be tried again.");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Delivers the oldest events; how many there were.
async fn deliver_some(store: &Store, meters: &Meters) -> Result<usize, store::Error> {
    let waiting = store.read(Operation::new("SELECT", "outbox"), look).await?;
    meters.show(&waiting);
    let events = waiting.oldest;
    let count = events.len();
    if count == 0 {
        return Ok(0);
    }
    let origins = events
        .iter()
        .filter_map(|event| event.traceparent.as_deref());
    let (account, span) = context::open_linked(origins, || delivery_span(count));
    let delivering = store.write(Operation::new("DELETE", "outbox"), move |transaction| {
        deliver(transaction, &events)
    });
    let delivered = account.follow(delivering.instrument(span.clone())).await;
    if delivered.is_err() {
        span.record("error.type", "database");
        span.record("otel.status_code", "ERROR");
    }
    delivered?;
    meters.delivered.increment(count as u64);
    Ok(count)
}

fn delivery_span(events: usize) -> Span {
    tracing::info_span!(
        "outbox",
        otel.name = "process outbox",
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        messaging.system = "outbox",
        messaging.destination.name = "outbox",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.batch.message_count = i64::try_from(events).unwrap_or(i64::MAX),
    )
}

struct Waiting {
    count: i64,
    oldest_ms: Option<i64>,
    oldest: Vec<Event>,
}

struct Event {
    id: i64,
    order: i64,
    traceparent: Option<String>,
}

fn look(connection: &Connection) -> rusqlite::Result<Waiting> {
    let (count, oldest_ms) = connection
        .prepare_cached("SELECT count(*), min(created_at_ms) FROM outbox")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let query = format!("SELECT id, order_id, traceparent FROM outbox ORDER BY id LIMIT {BATCH}");
    let oldest = connection
        .prepare_cached(&query)?
        .query_map([], |row| {
            Ok(Event {
                id: row.get(0)?,
                order: row.get(1)?,
                traceparent: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Waiting {
        count,
        oldest_ms,
        oldest,
    })
}

fn deliver(transaction: &Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
    for event in events {
        transaction
            .prepare_cached("INSERT INTO shipments VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([event.order, now_ms()])?;
        transaction
            .prepare_cached("DELETE FROM outbox WHERE id = ?1")?
            .execute([event.id])?;
    }
    Ok(())
}

/// What the worker exposes. Made before it is spawned, or the first scrape would miss the zeros from which rates count.
#[derive(Debug)]
pub(super) struct Meters {
    delivered: Counter,
    failed: Counter,
    depth: Gauge,
    lag: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
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

    fn show(&self, waiting: &Waiting) {
        self.depth.set(waiting.count as f64);
        let age_ms = waiting
            .oldest_ms
            .map_or(0, |oldest| now_ms().saturating_sub(oldest));
        self.lag.set(age_ms as f64 / 1000.0);
    }
}
