//! Password hashing: where work that needs a processor for long is done.
//!
//! # The problem
//! Checking a password is slow on purpose: some 20 ms of pure computation, so that a thief cannot guess
//! many. An async runtime has about one worker a core, and a task keeps its worker until it awaits.
//!
//! # What breaks
//! While a worker hashes, it runs nothing else: no timer, no socket, no other request that was queued behind
//! it. Each login stops a share of *every* route for 20 ms, also of the trivial one.
//!
//! # Under load
//! On two workers, 60 logins a second of 25 ms each are 75 % of all the time that the workers have. A page
//! that needs a millisecond waits behind hashes it has nothing to do with. The processor is busy and no span
//! shows who; what shows is the time between "ready to run" and "running".
//!
//! # The cure
//! Hand the work to threads that may block, and bound them: as many hashes at once as there are cores, a
//! short line before them, and a refusal behind it. Without the bound the threads would fight for the same
//! cores, and the wave would come back as memory and context switches.
//!
//! # Who was bitten
//! Canva on 12 November 2024: a telemetry library took a lock on the event loop of its gateways, and each
//! request waited behind it, just when a wave of them arrived
//! (<https://www.canva.dev/blog/engineering/canva-incident-report-api-gateway-outage/>).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, TryAcquireError};

use super::{Choice, ChoiceOption};
use crate::telemetry::account::{self, Part};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "password_hashing",
    &["shop"],
    "hash on the worker that serves requests",
    "hash on a bounded number of blocking threads",
    include_str!("password_hashing.rs"),
);

/// The line was full: nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Runs `hash`. `waited` hears how long it stood in line, in seconds.
pub async fn run<T: Send + 'static>(
    option: ChoiceOption,
    pool: &HashingPool,
    hash: impl FnOnce() -> T + Send + 'static,
    waited: impl FnOnce(f64),
) -> Result<T, Busy> {
    match option {
        ChoiceOption::Poor => {
            waited(0.0);
            Ok(hash())
        }
        ChoiceOption::Sound => {
            let place = Arc::clone(&pool.places).try_acquire_owned();
            let place = place.map_err(|_: TryAcquireError| Busy)?;
            let arrived = Instant::now();
            let permit = Arc::clone(&pool.cores)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            waited(arrived.elapsed().as_secs_f64());
            // Both go with the work: a caller that leaves cannot free a core that is still in use.
            let work = account::carry_work(Part::Busy, move || {
                let result = hash();
                drop((permit, place));
                result
            });
            let work = tokio::task::spawn_blocking(work);
            Ok(work.await.expect("hashing does not panic"))
        }
    }
}

/// As many hashes at once as there are cores, and a line before them.
#[derive(Debug)]
pub struct HashingPool {
    cores: Arc<Semaphore>,
    /// One for each hash under way, and one for each that waits.
    places: Arc<Semaphore>,
    cores_max: usize,
    line_max: usize,
}

impl HashingPool {
    /// `cores` hashes at once; `line` more may wait.
    #[must_use]
    pub fn new(cores: usize, line: usize) -> Self {
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores + line)),
            cores_max: cores,
            line_max: line,
        }
    }

    /// Tells `report` the queue's name, how many hashes wait in line, and how many may.
    pub fn collect(&self, report: impl FnOnce(&'static str, usize, usize)) {
        let taken = |max: usize, of: &Semaphore| max.saturating_sub(of.available_permits());
        let inside = taken(self.cores_max + self.line_max, &self.places);
        let under_way = taken(self.cores_max, &self.cores);
        let waiting = inside.saturating_sub(under_way);
        report("password_hashing", waiting, self.line_max);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Whether another task of the same worker got a turn while a password was hashed: the "hash" computes
    /// until it sees a beat of that task, or gives up.
    fn others_run_meanwhile(option: ChoiceOption) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let beats = Arc::new(AtomicU64::new(0));
            let beating = Arc::clone(&beats);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    beating.fetch_add(1, Ordering::SeqCst);
                }
            });
            tokio::time::sleep(Duration::from_millis(5)).await;
            let hash = move || {
                let (before, started) = (beats.load(Ordering::SeqCst), Instant::now());
                while started.elapsed() < Duration::from_secs(2) {
                    if beats.load(Ordering::SeqCst) > before {
                        return true;
                    }
                    std::hint::spin_loop();
                }
                false
            };
            run(option, &HashingPool::new(1, 1), hash, |_| {})
                .await
                .unwrap()
        })
    }

    #[test]
    fn poor_stops_everything_else_on_the_worker() {
        assert!(!others_run_meanwhile(ChoiceOption::Poor));
    }

    #[test]
    fn sound_lets_others_run() {
        assert!(others_run_meanwhile(ChoiceOption::Sound));
    }

    #[tokio::test]
    async fn sound_refuses_what_does_not_fit_in_line() {
        let pool = Arc::new(HashingPool::new(1, 0));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let first = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                run(
                    ChoiceOption::Sound,
                    &pool,
                    move || held.recv().is_err(),
                    |_| {},
                )
                .await
            })
        };
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            run(ChoiceOption::Sound, &pool, || (), |_| {}).await,
            Err(Busy)
        );
        drop(release);
        assert_eq!(first.await.unwrap(), Ok(true));
    }

    #[tokio::test]
    async fn only_those_who_wait_stand_in_line() {
        let pool = Arc::new(HashingPool::new(2, 3));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let hashing = |_: usize| {
            let (pool, held) = (Arc::clone(&pool), Arc::clone(&held));
            let hash = move || held.lock().unwrap().recv().is_err();
            tokio::spawn(async move { run(ChoiceOption::Sound, &pool, hash, |_| {}).await })
        };
        let hashes: Vec<_> = (0..4).map(hashing).collect();
        while pool.cores.available_permits() > 0 || pool.places.available_permits() > 1 {
            tokio::task::yield_now().await;
        }
        let told = || {
            let mut told = None;
            pool.collect(|_, depth, capacity| told = Some((depth, capacity)));
            told.unwrap()
        };
        assert_eq!(told(), (2, 3), "two of the four are under way");
        drop(release);
        for hash in hashes {
            assert_eq!(hash.await.unwrap(), Ok(true));
        }
        assert_eq!(told(), (0, 3));
    }
}
