//! The shop's database: a pool of connections that shows who waits, and one way to run a statement.
//!
//! SQLite calls block, so each runs on a thread that may; a connection is leased for it, and the wait, the use
//! and the statement are measured apart. Without that split "the database is slow" could mean any of three
//! things. SQLite has one writer at a time: writers queue here, in order, instead of in its busy loop, which
//! is neither fair nor visible.

mod lease;
mod line;
pub mod model;
mod pool;
mod reader;
mod schema;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::catalog::{Counter, Histogram};
use deadpool::managed::{Pool, PoolError, Timeouts};
use rusqlite::{Connection, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::account::Part;
use crate::telemetry::catalog;
use crate::telemetry::wait::Wait;
pub use lease::Lease;
pub(crate) use line::Line;
use pool::Manager;
pub use reader::Reader;
pub use schema::{LARGEST_CUSTOMER, SEED_PASSWORD, Seed};

/// The pool's name, as metrics show it.
const POOL: &str = "shop";

/// Connections in the pool: enough readers for two cores, and few enough that a leak shows.
pub const CONNECTIONS_MAX: usize = 8;

/// Connections that are taken in order to write, at most. One writes and the others wait for it; without a bound a
/// slow disk would empty the pool of writers that do nothing, and readers would wait for a disk they do not need.
const WRITERS_MAX: usize = CONNECTIONS_MAX / 2;

/// How long a request waits for a connection, and if it is to write for its turn as well.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Why a statement brought no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection became free in time, or the turn to write did not come.
    #[error("no database connection became free, or no turn to write came, within {WAIT_MAX:?}")]
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
    /// Those who wait for one of the seats.
    unseated: Line,
    /// Those who have a connection and wait for their turn to write.
    writers: Line,
    timeouts: Counter,
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
            .build()
            .map_err(|error| format!("the pool cannot be built: {error}"))?;
        let id = connection
            .query_row("SELECT id FROM shop", [], |row| row.get(0))
            .map_err(in_words)?;
        catalog::db_client_connection_max(POOL).set(CONNECTIONS_MAX as f64);
        // Whoever waits for a turn has a connection, and so has the one whose turn it is.
        catalog::firedrill_queue_capacity("writer").set((CONNECTIONS_MAX - 1) as f64);
        let timeouts = catalog::db_client_connection_timeouts_total(POOL);
        timeouts.absolute(0);
        let shared = Shared {
            id,
            pool,
            writer: Arc::default(),
            seats: Arc::new(Semaphore::new(WRITERS_MAX)),
            unseated: Line::default(),
            writers: Line::default(),
            timeouts,
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
        let pending = status.waiting + self.shared.unseated.len();
        catalog::db_client_connection_pending_requests(POOL).set(pending as f64);
        catalog::firedrill_queue_depth("writer").set(self.shared.writers.len() as f64);
    }

    /// Waits for a connection, to read.
    pub async fn connection(&self) -> Result<Lease, Error> {
        self.lease(self.wait(), None, None).await
    }

    /// Waits for a connection, to write: at most half of the pool is given out for that.
    pub async fn writing_connection(&self) -> Result<Lease, Error> {
        let wait = self.wait();
        let turn = Wait::begin().recorded_in(&self.shared.turns);
        let unseated = self.shared.unseated.enter();
        let seat = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.shared.seats).acquire_owned());
        let Ok(seat) = seat.await else {
            return Err(self.shared.gave_up());
        };
        drop(unseated);
        let seat = seat.expect("the semaphore is never closed");
        self.lease(wait, Some(seat), Some(turn)).await
    }

    /// A wait for a connection that begins now.
    fn wait(&self) -> Wait {
        Wait::begin()
            .charged_to(Part::Pool)
            .recorded_in(&self.shared.waits)
    }

    async fn lease(
        &self,
        wait: Wait,
        seat: Option<OwnedSemaphorePermit>,
        turn: Option<Wait>,
    ) -> Result<Lease, Error> {
        let in_time = Timeouts {
            wait: Some(wait_left(&wait)),
            ..Timeouts::default()
        };
        let connection = match self.shared.pool.timeout_get(&in_time).await {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => return Err(Error::Database(error)),
            Err(_) => return Err(self.shared.gave_up()),
        };
        drop(wait);
        let shared = Arc::clone(&self.shared);
        Ok(Lease::new(connection, seat, turn, shared))
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

/// What a wait may still take.
fn wait_left(wait: &Wait) -> Duration {
    WAIT_MAX.saturating_sub(wait.elapsed())
}

impl Shared {
    /// Accounts for a wait that ended without a connection or a turn, in whichever of the lines it was.
    fn gave_up(&self) -> Error {
        self.timeouts.increment(1);
        Error::PoolTimeout
    }

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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::telemetry::context;
    use crate::telemetry::wait::kept;

    const WRITE: Operation = Operation::new("UPDATE", "items");
    const READ: Operation = Operation::new("SELECT", "items");

    fn open(dir: &tempfile::TempDir) -> Store {
        let seed = Seed {
            items: 1,
            customers: 1,
            orders: 1,
        };
        Store::open(&dir.path().join("shop.db"), seed).unwrap()
    }

    #[tokio::test]
    async fn who_leaves_while_it_waits_is_recorded() {
        const PATIENCE: Duration = Duration::from_millis(20);
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        let ((waits, waited), (turns, queued)) = (kept::histogram(), kept::histogram());
        let shared = Arc::get_mut(&mut store.shared).unwrap();
        (shared.waits, shared.turns) = (waits, turns);
        let left = |samples: Vec<f64>| {
            let patience = PATIENCE.as_secs_f64();
            samples.into_iter().filter(|s| *s >= patience).count()
        };
        let mut leases = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            leases.push(store.connection().await.unwrap());
        }
        let account = context::untraced();
        let read = account.follow(store.read(READ, |_| Ok(())));
        assert!(tokio::time::timeout(PATIENCE, read).await.is_err());
        assert!(account.spent(Part::Pool) >= PATIENCE);
        assert_eq!(left(waited.samples()), 1, "of the reader");
        let write = store.write(WRITE, |_| Ok(()));
        assert!(tokio::time::timeout(PATIENCE, write).await.is_err());
        assert_eq!(left(waited.samples()), 2, "of the writer");
        assert_eq!(left(queued.samples()), 1, "and in its queue");
        drop(leases);
        let _turn = store.shared.writer.lock().await;
        let account = context::untraced();
        let write = account.follow(store.write(WRITE, |_| Ok(())));
        assert!(tokio::time::timeout(PATIENCE, write).await.is_err());
        assert!(account.spent(Part::Pool) >= PATIENCE);
        assert_eq!(left(queued.samples()), 2, "for want of a turn");
        drop(store.writing_connection().await.unwrap());
        assert_eq!(queued.samples().len(), 2, "who does not write has no turn");
    }

    #[tokio::test]
    async fn writers_that_find_no_turn_are_seen_and_give_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let _turn = store.shared.writer.lock().await;
        let writers = 2 * CONNECTIONS_MAX;
        let writing: Vec<_> = (0..writers)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.write(WRITE, |_| Ok(())).await })
            })
            .collect();
        let seen = async {
            let shared = &store.shared;
            while (shared.unseated.len(), shared.writers.len())
                != (writers - WRITERS_MAX, WRITERS_MAX)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, seen)
            .await
            .expect("all of them wait, in one line or the other");
        for write in writing {
            assert!(matches!(write.await.unwrap(), Err(Error::PoolTimeout)));
        }
        assert_eq!(store.shared.unseated.len() + store.shared.writers.len(), 0);
    }

    #[tokio::test]
    async fn a_statement_whose_caller_left_is_recorded_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        let ((uses, used), (operations, ended)) = (kept::histogram(), kept::histogram());
        let shared = Arc::get_mut(&mut store.shared).unwrap();
        shared.uses = uses;
        shared.operations = Mutex::new(HashMap::from([((READ, false), operations)]));
        let (release, stalled) = mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let read = store.read(READ, move |_| {
            began.send(()).expect("the test waits for it");
            Ok(stalled.recv().is_err())
        });
        tokio::select! {
            _ = read => panic!("it is stalled"),
            begun = begun => begun.unwrap(),
        }
        assert!(used.samples().is_empty(), "the connection is in use");
        drop(release);
        let both = async {
            while used.samples().is_empty() || ended.samples().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .expect("the statement and the use of its connection are recorded");
    }

    #[tokio::test]
    async fn readers_do_not_wait_for_writers_that_wait() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
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
