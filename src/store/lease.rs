//! A connection that somebody has, and the turn to write on it.
//!
//! A caller that leaves drops its lease at once, while the statement goes on upon its thread. So what belongs to the
//! connection (its place among the writers, the time that it is held, the duration of the statement) travels with
//! the connection and not with the caller: else more would write than may, and what took longest would be told least.

use std::sync::Arc;
use std::time::Instant;

use deadpool::managed::Object;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tracing::{Instrument, field};

use super::pool::Manager;
use super::{Error, Operation, Shared, wait_left};
use crate::telemetry::account::{self, Part};
use crate::telemetry::context;
use crate::telemetry::wait::Wait;

/// A connection, leased. It goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct Lease {
    held: Option<Held>,
    /// The wait for a first turn to write, which began when the connection was asked for.
    turn: Option<Wait>,
    shared: Arc<Shared>,
}

/// The connection, with what ends when it goes back.
#[derive(Debug)]
struct Held {
    connection: Object<Manager>,
    /// Its place among the writers, until it has written.
    seat: Option<OwnedSemaphorePermit>,
    _use: Wait,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It did not come to write.
        if let Some(turn) = self.turn.take() {
            turn.void();
        }
    }
}

impl Lease {
    pub(super) fn new(
        connection: Object<Manager>,
        seat: Option<OwnedSemaphorePermit>,
        turn: Option<Wait>,
        shared: Arc<Shared>,
    ) -> Self {
        let held = Held {
            connection,
            seat,
            _use: Wait::begin().recorded_in(&shared.uses),
        };
        Self {
            held: Some(held),
            turn,
            shared,
        }
    }

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
        let turn = self.turn().await?;
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
        if let Some(held) = &mut lease.held {
            held.seat = None;
        }
        Ok((lease, result))
    }

    /// Waits until it is this writer's turn: for what is left of the time since it asked for a connection, or for as
    /// long if it has written before.
    async fn turn(&mut self) -> Result<OwnedMutexGuard<()>, Error> {
        let since_asked = self.turn.take();
        let queued = since_asked.unwrap_or_else(|| Wait::begin().recorded_in(&self.shared.turns));
        let _charged = Wait::begin().charged_to(Part::Pool);
        let _in_line = self.shared.writers.enter();
        let turn = Arc::clone(&self.shared.writer).lock_owned();
        let turn = tokio::time::timeout(wait_left(&queued), turn).await;
        turn.map_err(|_| self.shared.gave_up())
    }

    async fn run<T: Send + 'static>(
        mut self,
        operation: Operation,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let span = database_span(operation);
        let started = Instant::now();
        let mut held = self.held.take().ok_or(Error::Lost)?;
        let (on_thread, shared) = (span.clone(), Arc::clone(&self.shared));
        // If the caller leaves, the thread ends its statement and then returns the connection to the pool.
        let work = account::carry_work(Part::Database, move || {
            let result = on_thread.in_scope(|| work(&mut held.connection));
            shared.record(operation, result.is_err(), started.elapsed());
            (held, result)
        });
        let work = tokio::task::spawn_blocking(work);
        let (held, result) = work
            .instrument(span.clone())
            .await
            .map_err(|_| Error::Lost)?;
        self.held = Some(held);
        if result.is_err() {
            span.record("error.type", "database");
            span.record("otel.status_code", "ERROR");
        }
        Ok((self, result?))
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
