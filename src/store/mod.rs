//! The shop's database: a pool of connections that shows who waits, and one way to run a statement.
//!
//! SQLite calls block, so each runs on a thread that may; a connection is leased for it, and the wait, the use
//! and the statement are measured apart. Without that split "the database is slow" could mean any of three
//! things. SQLite has one writer at a time: writers queue here, in order, instead of in its busy loop, which
//! is neither fair nor visible.

pub mod model;
mod pool;
mod reader;
mod schema;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::catalog::Histogram;
use deadpool::managed::{Object, Pool, PoolError, Timeouts};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, field};

use crate::telemetry::account::{self, Part};
use crate::telemetry::{catalog, context};
use pool::Manager;
pub use reader::Reader;
pub use schema::{SEED_PASSWORD, Seed};

/// The pool's name, as metrics show it.
const POOL: &str = "shop";

/// Connections in the pool: enough readers for two cores, and few enough that a leak shows.
pub const CONNECTIONS_MAX: usize = 8;

/// Connections that are taken in order to write, at most. One writes and the others wait for it; without a bound a
/// slow disk would empty the pool of writers that do nothing, and readers would wait for a disk they do not need.
const WRITERS_MAX: usize = CONNECTIONS_MAX / 2;

/// How long a request waits for a connection.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Why a statement brought no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection became free in time.
    #[error("no database connection became free within {WAIT_MAX:?}")]
    PoolTimeout,
    /// The database refused.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The thread that ran the statement is gone.
    #[error("the statement's thread was lost")]
    Lost,
}

/// What a statement does, for its span and its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    /// `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub name: &'static str,
    /// The table it is about.
    pub collection: &'static str,
}

impl Operation {
    /// `name` on `collection`.
    #[must_use]
    pub const fn new(name: &'static str, collection: &'static str) -> Self {
        Self { name, collection }
    }
}

/// The database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    pool: Pool<Manager>,
    /// Held by whoever writes.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Taken by who has a connection in order to write.
    seats: Arc<Semaphore>,
    waits: Histogram,
    uses: Histogram,
    turns: Histogram,
    operations: Mutex<HashMap<(Operation, bool), Histogram>>,
}

impl Store {
    /// Opens the database at `path`, brings its schema up to date and fills an empty one. Blocks.
    pub fn open(path: &Path, seed: Seed) -> Result<Self, String> {
        let manager = Manager {
            path: path.to_owned(),
            creations: catalog::db_client_connection_create_time_seconds(POOL),
        };
        let in_words = |error: rusqlite::Error| {
            format!("the database {} cannot be opened: {error}", path.display())
        };
        let mut connection = manager.connect().map_err(in_words)?;
        schema::migrate(&mut connection).map_err(in_words)?;
        schema::seed(&mut connection, seed).map_err(in_words)?;
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_MAX),
                ..Timeouts::default()
            })
            .build()
            .map_err(|error| format!("the pool cannot be built: {error}"))?;
        let id = connection
            .query_row("SELECT id FROM shop", [], |row| row.get(0))
            .map_err(in_words)?;
        catalog::db_client_connection_max(POOL).set(CONNECTIONS_MAX as f64);
        catalog::db_client_connection_timeouts_total(POOL).absolute(0);
        let shared = Shared {
            id,
            pool,
            writer: Arc::default(),
            seats: Arc::new(Semaphore::new(WRITERS_MAX)),
            waits: catalog::db_client_connection_wait_time_seconds(POOL),
            uses: catalog::db_client_connection_use_time_seconds(POOL),
            turns: catalog::firedrill_queue_wait_seconds("writer"),
            operations: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What tells this shop's database from every other.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Sets the gauges of the pool.
    pub fn collect(&self) {
        let status = self.shared.pool.status();
        let used = status.size.saturating_sub(status.available);
        catalog::db_client_connection_count(POOL, "used").set(used as f64);
        catalog::db_client_connection_count(POOL, "idle").set(status.available as f64);
        catalog::db_client_connection_pending_requests(POOL).set(status.waiting as f64);
    }

    /// Waits for a connection, to read.
    pub async fn connection(&self) -> Result<Lease, Error> {
        self.lease(Instant::now(), None).await
    }

    /// Waits for a connection, to write: at most half of the pool is given out for that.
    pub async fn writing_connection(&self) -> Result<Lease, Error> {
        let asked = Instant::now();
        let seat = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.shared.seats).acquire_owned());
        let Ok(seat) = seat.await else {
            return Err(self.gave_up(asked));
        };
        let seat = seat.expect("the semaphore is never closed");
        self.lease(asked, Some(seat)).await
    }

    async fn lease(
        &self,
        asked: Instant,
        seat: Option<OwnedSemaphorePermit>,
    ) -> Result<Lease, Error> {
        let connection = match self.shared.pool.get().await {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => return Err(Error::Database(error)),
            Err(_) => return Err(self.gave_up(asked)),
        };
        self.waited(asked);
        Ok(Lease {
            connection: Some(connection),
            seat,
            asked: Some(asked),
            since: Instant::now(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Accounts for a wait that began at `asked`.
    fn waited(&self, asked: Instant) {
        let waited = asked.elapsed();
        self.shared.waits.record(waited.as_secs_f64());
        account::charge(Part::Pool, waited);
    }

    /// Accounts for a wait that ended without a connection, in whichever of the two lines it was.
    fn gave_up(&self, asked: Instant) -> Error {
        self.waited(asked);
        catalog::db_client_connection_timeouts_total(POOL).increment(1);
        Error::PoolTimeout
    }

    /// Runs `statement` on a connection of its own.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.connection().await?.read(operation, statement).await?.1)
    }

    /// Runs `statements` in a transaction, on a connection of its own.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: Operation,
        statements: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let lease = self.writing_connection().await?;
        Ok(lease.write(operation, statements).await?.1)
    }
}

/// A connection, leased. It goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Object<Manager>>,
    /// Its place among the writers, until it has written.
    seat: Option<OwnedSemaphorePermit>,
    /// Since when it is waited for a first write.
    asked: Option<Instant>,
    since: Instant,
    shared: Arc<Shared>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.uses.record(self.since.elapsed().as_secs_f64());
    }
}

impl Lease {
    /// Runs `statement` and gives the lease back with its result.
    pub async fn read<T: Send + 'static>(
        self,
        operation: Operation,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        self.run(operation, move |connection| statement(connection))
            .await
    }

    /// Runs `statements` in a transaction, when it is this writer's turn. An error rolls all of it back.
    pub async fn write<T: Send + 'static>(
        mut self,
        operation: Operation,
        statements: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let asked = self.asked.take().unwrap_or_else(Instant::now);
        let turn_asked = Instant::now();
        let turn = Arc::clone(&self.shared.writer).lock_owned().await;
        self.shared.turns.record(asked.elapsed().as_secs_f64());
        account::charge(Part::Pool, turn_asked.elapsed());
        let transaction = move |connection: &mut Connection| {
            // Goes with the work: a caller that leaves must not let the next writer in before it has ended.
            let _turn = turn;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = statements(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let (mut lease, result) = self.run(operation, transaction).await?;
        lease.seat = None;
        Ok((lease, result))
    }

    async fn run<T: Send + 'static>(
        mut self,
        operation: Operation,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let span = database_span(operation);
        let started = Instant::now();
        let mut connection = self.connection.take().ok_or(Error::Lost)?;
        let on_thread = span.clone();
        // If the caller leaves, the thread ends its statement and then returns the connection to the pool.
        let work = account::carry_work(Part::Database, move || {
            let result = on_thread.in_scope(|| work(&mut connection));
            (connection, result)
        });
        let work = tokio::task::spawn_blocking(work);
        let (connection, result) = work
            .instrument(span.clone())
            .await
            .map_err(|_| Error::Lost)?;
        self.connection = Some(connection);
        self.shared
            .record(operation, result.is_err(), started.elapsed());
        if result.is_err() {
            span.record("error.type", "database");
            span.record("otel.status_code", "ERROR");
        }
        Ok((self, result?))
    }
}

impl Shared {
    fn record(&self, operation: Operation, failed: bool, elapsed: Duration) {
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let histogram = operations.entry((operation, failed)).or_insert_with(|| {
            let error_type = if failed { "database" } else { "" };
            catalog::db_client_operation_duration_seconds(
                "sqlite",
                operation.name,
                operation.collection,
                error_type,
            )
        });
        histogram.record(elapsed.as_secs_f64());
    }
}

/// Work that belongs to no trace starts none: the polls of the workers would bury the orders.
fn database_span(operation: Operation) -> tracing::Span {
    if !context::sampled() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        "database",
        otel.name = format!("{} {}", operation.name, operation.collection),
        otel.kind = "client",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        db.system.name = "sqlite",
        db.operation.name = operation.name,
        db.collection.name = operation.collection,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const WRITE: Operation = Operation::new("UPDATE", "items");
    const READ: Operation = Operation::new("SELECT", "items");

    #[tokio::test]
    async fn readers_do_not_wait_for_writers_that_wait() {
        let dir = tempfile::tempdir().unwrap();
        let seed = Seed {
            items: 1,
            customers: 1,
            orders: 1,
        };
        let store = Store::open(&dir.path().join("shop.db"), seed).unwrap();
        let (release, stalled) = mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let first = store.clone();
        let slow = tokio::spawn(async move {
            let stall = move |_: &Transaction<'_>| {
                began.send(()).expect("the test waits for it");
                Ok(stalled.recv().is_err())
            };
            first.write(WRITE, stall).await
        });
        begun.await.unwrap();
        let waiting: Vec<_> = (0..4 * CONNECTIONS_MAX)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.write(WRITE, |_| Ok(())).await })
            })
            .collect();
        let count = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM items", [], |row| row.get::<_, i64>(0))
        };
        // Several rounds, so that the writers have come to stand in line before the last of them.
        for _ in 0..20 {
            tokio::task::yield_now().await;
            assert_eq!(store.read(READ, count).await.unwrap(), 1);
        }
        drop(release);
        assert!(slow.await.unwrap().unwrap());
        for write in waiting {
            write.await.unwrap().unwrap();
        }
    }
}
