//! How a connection is made and checked.
//!
//! A connection that comes back with a transaction left open is thrown away: the next request would work inside
//! somebody else's.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use deadpool::managed;
use rusqlite::Connection;

use crate::telemetry::catalog::Histogram;

/// Makes connections to one database file.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) path: PathBuf,
    /// How long it took to make each.
    pub(super) creations: Histogram,
}

impl Manager {
    /// Opens one connection. Every commit is on disk before it is answered (WAL with `synchronous=FULL`).
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = rusqlite::Error;

    async fn create(&self) -> Result<Connection, rusqlite::Error> {
        // Opening takes well under a millisecond and happens once for each place in the pool.
        let began = Instant::now();
        let connection = self.connect()?;
        self.creations.record(began.elapsed().as_secs_f64());
        Ok(connection)
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<rusqlite::Error> {
        if connection.is_autocommit() {
            return Ok(());
        }
        Err(managed::RecycleError::message(
            "a transaction was left open",
        ))
    }
}
