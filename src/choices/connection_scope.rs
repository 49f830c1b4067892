//! Connection scope: for how long one order holds a database connection.
//!
//! # The problem
//! An order reads and writes before the charge, and writes again after it. Taking a connection once and
//! keeping it for both looks tidy and saves a trip to the pool.
//!
//! # What breaks
//! The connection is now held while the order waits for another company's computer. The database does
//! nothing in that time, and still the pool is one connection poorer.
//!
//! # Under load
//! Connections in use are orders a second times the time each holds one. At 30 orders a second and 0.15 s
//! that is 4.5 of 8; when the bank needs 0.6 s it would be 18. The pool is empty, every other query of the
//! shop waits behind orders that wait for the bank, and the database is idle all the while.
//!
//! # The cure
//! Hold it for the statements, give it back for the wait, take one again. The order's state is in its row,
//! not in the connection. The price is that the second take can fail, so what happens then must be
//! decided: here the order stays open and is settled from the ledger.
//!
//! # Who was bitten
//! Public reports rarely name it, because from outside it reads as "the database was slow" while every graph of
//! the database is calm. The general form is hold-and-wait, one of the four conditions of a deadlock
//! (Coffman, Elphick and Shoshani, "System Deadlocks", 1971).

use super::{Choice, ChoiceOption};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "connection_scope",
    &["shop"],
    "hold one connection from the order's first statement to its last",
    "give the connection back while the charge is under way",
    include_str!("connection_scope.rs"),
);

/// Runs `open`, then `charge`, then `close`; the first and the last with a connection from `acquire`. `close`
/// always runs once the charge has been made, also when there is no connection for it any more.
pub async fn around_charge<C, A: Future<Output = Result<C, E>>, O: Clone, R, T, E>(
    option: ChoiceOption,
    acquire: impl Fn() -> A,
    open: impl AsyncFnOnce(C) -> Result<(C, O), E>,
    charge: impl AsyncFnOnce(O) -> R,
    close: impl AsyncFnOnce(Result<C, E>, O, R) -> Result<T, E>,
) -> Result<T, E> {
    let (connection, opened) = open(acquire().await?).await?;
    match option {
        ChoiceOption::Poor => {
            let charged = charge(opened.clone()).await;
            close(Ok(connection), opened, charged).await
        }
        ChoiceOption::Sound => {
            drop(connection);
            let charged = charge(opened.clone()).await;
            close(acquire().await, opened, charged).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{OwnedSemaphorePermit, Semaphore};
    use tokio::time::Instant;

    use super::*;

    async fn take(pool: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ()> {
        pool.acquire_owned().await.map_err(|_| ())
    }

    /// Simulated seconds until another query gets one of 8 connections, while 20 orders wait 1 s each for
    /// the bank.
    async fn wait_of_another_query(option: ChoiceOption) -> f64 {
        let pool = Arc::new(Semaphore::new(8));
        for _ in 0..20 {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let bank = async |()| tokio::time::sleep(Duration::from_secs(1)).await;
                let acquire = || take(Arc::clone(&pool));
                around_charge(
                    option,
                    acquire,
                    async |c| Ok((c, ())),
                    bank,
                    async |_, (), ()| Ok(()),
                )
                .await
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let asked = Instant::now();
        drop(take(Arc::clone(&pool)).await.unwrap());
        asked.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn poor_makes_every_other_query_wait_for_the_bank() {
        assert!(wait_of_another_query(ChoiceOption::Poor).await > 0.9);
    }

    #[tokio::test(start_paused = true)]
    async fn sound_leaves_the_pool_to_the_others() {
        assert!(wait_of_another_query(ChoiceOption::Sound).await < 0.01);
    }
}
