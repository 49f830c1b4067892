//! The ledger: one row for each key that was decided, on disk before anybody hears of it.
//!
//! All replicas share the file, so a retry that lands on another replica is still charged once. One thread
//! writes and commits what has come in meanwhile as one transaction: the disk's latency is paid once for
//! many charges, and not at all by the bank's slots: unless it stalls for so long that the bounded line before the
//! ledger is full. Then the slots wait too, for what they go on charging would pile up here and be seen nowhere.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::telemetry::catalog;

/// The most that a card pays at once, in cents.
pub const CARD_LIMIT_CENTS: i64 = 1_000_000;

/// Decisions in one transaction, at most.
const BATCH: usize = 256;

/// What the ledger was asked and has not answered yet, at most: as much again as what it works on.
pub(super) const LINE_MAX: usize = 2 * BATCH;

/// A charge as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// What makes a second try the same charge.
    pub key: String,
    /// The order it is for.
    pub order_id: i64,
    /// How much, in cents.
    pub amount_cents: i64,
}

/// What stands in the ledger for a key. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The money moved, once.
    Charged,
    /// The card's limit was too low.
    Declined,
    /// The shop asked that it not be charged, before it was.
    Voided,
}

impl Verdict {
    /// As the table and the API have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::Declined => "declined",
            Self::Voided => "voided",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "charged" => Self::Charged,
            "declined" => Self::Declined,
            _ => Self::Voided,
        }
    }
}

/// Why the ledger did not decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It could not be written.
    #[error("the ledger failed: {0}")]
    Failed(String),
    /// The key stands there for another amount.
    #[error("this key was used for a charge of {0} cents")]
    KeyReused(i64),
}

enum Command {
    Decide(Charge, oneshot::Sender<Result<Verdict, Error>>),
    Void(String, oneshot::Sender<Result<Verdict, Error>>),
    Find(String, oneshot::Sender<Result<Option<Verdict>, Error>>),
}

/// A place in the line before the ledger; free again when it has answered.
pub type Place = OwnedSemaphorePermit;

/// A command and its place.
type Entry = (Command, Place);

/// The ledger. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    entries: mpsc::Sender<Entry>,
    /// Bounds the entries: the channel itself does not.
    places: Arc<Semaphore>,
}

impl Ledger {
    /// Opens the ledger at `path` and starts its thread.
    pub fn open(path: &Path) -> Result<Self, String> {
        let in_words = |error: &dyn std::fmt::Display| {
            format!("the ledger {} cannot be opened: {error}", path.display())
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| in_words(&error))?;
        }
        let connection = connect(path).map_err(|error| in_words(&error))?;
        let (entries, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || work(connection, &inbox))
            .map_err(|error| in_words(&error))?;
        catalog::firedrill_queue_capacity("ledger").set(LINE_MAX as f64);
        Ok(Self {
            entries,
            places: Arc::new(Semaphore::new(LINE_MAX)),
        })
    }

    /// Sets the gauge of the line.
    pub fn collect(&self) {
        catalog::firedrill_queue_depth("ledger").set(self.waiting() as f64);
    }

    /// What was asked and is not answered yet.
    pub(super) fn waiting(&self) -> usize {
        LINE_MAX - self.places.available_permits()
    }

    /// A place in the line, if one is free.
    pub(super) fn try_place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place in the line.
    pub async fn place(&self) -> Place {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// Decides a charge: as it was decided before, or anew.
    pub async fn decide(&self, charge: Charge, place: Place) -> Result<Verdict, Error> {
        self.ask(place, |answer| Command::Decide(charge, answer))
            .await
    }

    /// Voids a key, unless it was decided before; says what stands there now.
    pub async fn void(&self, key: String) -> Result<Verdict, Error> {
        self.ask(self.place().await, |answer| Command::Void(key, answer))
            .await
    }

    /// What stands there for a key.
    pub async fn find(&self, key: String) -> Result<Option<Verdict>, Error> {
        self.ask(self.place().await, |answer| Command::Find(key, answer))
            .await
    }

    async fn ask<T>(
        &self,
        place: Place,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let gone = || Error::Failed("its thread ended".into());
        let (answer, answered) = oneshot::channel();
        let entry = (command(answer), place);
        self.entries.send(entry).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS charges (
            key TEXT PRIMARY KEY,
            order_id INTEGER,
            amount_cents INTEGER NOT NULL,
            verdict TEXT NOT NULL CHECK (verdict IN ('charged', 'declined', 'voided')),
            decided_at_ms INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000)
        ) STRICT, WITHOUT ROWID",
    )?;
    Ok(connection)
}

/// Takes what has come in, commits it as one, and only then answers.
fn work(mut connection: Connection, inbox: &mpsc::Receiver<Entry>) {
    while let Ok(first) = inbox.recv() {
        let (batch, _places): (Vec<Command>, Vec<Place>) = std::iter::once(first)
            .chain(inbox.try_iter().take(BATCH - 1))
            .unzip();
        match decide_all(&mut connection, &batch) {
            Ok(results) => {
                for (command, result) in batch.into_iter().zip(results) {
                    reply(command, result);
                }
            }
            Err(error) => {
                tracing::error!(target: "ledger", error = %error, "A batch could not be written; nothing of it was decided.");
                for command in batch {
                    reply(command, Err(Error::Failed(error.to_string())));
                }
            }
        }
    }
}

/// What a command came to; an error of the database itself undoes the whole batch.
type Answer = Result<Option<Verdict>, Error>;

fn decide_all(connection: &mut Connection, batch: &[Command]) -> rusqlite::Result<Vec<Answer>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answers = batch
        .iter()
        .map(|command| match command {
            Command::Decide(charge, _) => decide(&transaction, charge),
            Command::Void(key, _) => {
                let standing = enter(&transaction, key, None, 0, Verdict::Voided)?;
                Ok(Ok(Some(standing.verdict)))
            }
            Command::Find(key, _) => Ok(Ok(stands(&transaction, key)?.map(|row| row.verdict))),
        })
        .collect::<rusqlite::Result<Vec<_>>>()?;
    transaction.commit()?;
    Ok(answers)
}

fn decide(transaction: &Transaction<'_>, charge: &Charge) -> rusqlite::Result<Answer> {
    let amount_cents = charge.amount_cents;
    let verdict = if amount_cents > CARD_LIMIT_CENTS {
        Verdict::Declined
    } else {
        Verdict::Charged
    };
    let order_id = Some(charge.order_id);
    let standing = enter(transaction, &charge.key, order_id, amount_cents, verdict)?;
    if standing.verdict != Verdict::Voided && standing.amount_cents != amount_cents {
        return Ok(Err(Error::KeyReused(standing.amount_cents)));
    }
    Ok(Ok(Some(standing.verdict)))
}

/// What stands in the ledger for a key.
struct Standing {
    verdict: Verdict,
    amount_cents: i64,
}

/// Enters a verdict, unless there is one, and says what stands there now.
fn enter(
    transaction: &Transaction<'_>,
    key: &str,
    order_id: Option<i64>,
    amount_cents: i64,
    verdict: Verdict,
) -> rusqlite::Result<Standing> {
    let entered = transaction
        .prepare_cached(
            "INSERT INTO charges (key, order_id, amount_cents, verdict) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO NOTHING",
        )?
        .execute(params![key, order_id, amount_cents, verdict.name()])?;
    if entered == 1 {
        return Ok(Standing {
            verdict,
            amount_cents,
        });
    }
    stands(transaction, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn stands(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<Option<Standing>> {
    transaction
        .prepare_cached("SELECT verdict, amount_cents FROM charges WHERE key = ?1")?
        .query_row([key], |row| {
            let verdict = Verdict::from_name(&row.get::<_, String>(0)?);
            Ok(Standing {
                verdict,
                amount_cents: row.get(1)?,
            })
        })
        .optional()
}

/// Answers; whoever asked may have left.
fn reply(command: Command, result: Answer) {
    match command {
        Command::Decide(_, answer) | Command::Void(_, answer) => {
            let verdict = result
                .and_then(|verdict| verdict.ok_or_else(|| Error::Failed("no verdict".into())));
            drop(answer.send(verdict));
        }
        Command::Find(_, answer) => drop(answer.send(result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn decide(ledger: &Ledger, amount_cents: i64) -> Result<Verdict, Error> {
        let charge = Charge {
            key: "order-1".into(),
            order_id: 1,
            amount_cents,
        };
        ledger.decide(charge, ledger.place().await).await
    }

    #[tokio::test]
    async fn the_first_word_is_final() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger.db")).unwrap();
        assert_eq!(ledger.find("order-1".into()).await, Ok(None));
        assert_eq!(ledger.void("order-1".into()).await, Ok(Verdict::Voided));
        assert_eq!(
            decide(&ledger, 100).await,
            Ok(Verdict::Voided),
            "a late charge does not surface"
        );
        assert_eq!(
            ledger.find("order-1".into()).await,
            Ok(Some(Verdict::Voided))
        );
    }

    #[tokio::test]
    async fn a_void_that_comes_too_late_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger.db")).unwrap();
        assert_eq!(decide(&ledger, 100).await, Ok(Verdict::Charged));
        assert_eq!(ledger.void("order-1".into()).await, Ok(Verdict::Charged));
    }

    #[tokio::test]
    async fn a_key_stands_for_one_amount() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger.db")).unwrap();
        assert_eq!(decide(&ledger, 100).await, Ok(Verdict::Charged));
        assert_eq!(decide(&ledger, 101).await, Err(Error::KeyReused(100)));
    }

    #[tokio::test]
    async fn two_replicas_share_one_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let (one, other) = (Ledger::open(&path).unwrap(), Ledger::open(&path).unwrap());
        assert_eq!(
            decide(&one, CARD_LIMIT_CENTS + 1).await,
            Ok(Verdict::Declined)
        );
        assert_eq!(
            decide(&other, CARD_LIMIT_CENTS + 1).await,
            Ok(Verdict::Declined)
        );
    }
}
