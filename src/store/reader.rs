//! A connection that only reads, outside of the pool: for who looks through a whole database at leisure.
//!
//! From the pool it would take a place that some request waits for, and it could not look while the pool is what is
//! broken. It cannot write, so it never stands in a writer's way: in a WAL, readers hold up nobody.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Error;

/// One connection that only reads. Clones share it, and use it one after the other.
#[derive(Debug, Clone)]
pub struct Reader {
    connection: Arc<Mutex<Connection>>,
}

impl Reader {
    /// Opens the database at `path`, which must exist. Blocks.
    pub fn open(path: &Path) -> Result<Self, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| {
            let path = path.display();
            format!("the database {path} cannot be opened to be read: {error}")
        })?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Runs `statement` on a thread that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.connection);
        let work = tokio::task::spawn_blocking(move || {
            statement(&shared.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(work.await.map_err(|_| Error::Lost)??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_reads_what_was_committed_and_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        assert!(Reader::open(&path).unwrap_err().contains("a.db"));
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER) STRICT")
            .unwrap();
        let reader = Reader::open(&path).unwrap();
        let count = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        };
        writer
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
            .unwrap();
        assert_eq!(
            reader.read(count).await.unwrap(),
            0,
            "no waiting for the writer"
        );
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(reader.read(count).await.unwrap(), 1);
        let write = |connection: &Connection| connection.execute("DELETE FROM t", []);
        assert!(
            reader
                .read(write)
                .await
                .unwrap_err()
                .to_string()
                .contains("readonly")
        );
    }
}
