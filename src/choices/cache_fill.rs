//! Cache fill: who loads a value that a cache has not got any more, and what the others do meanwhile.
//!
//! # The problem
//! A list of what sells best is asked for all the time and costs a tenth of a second of a core: it adds up a hundred
//! thousand orders. So it is kept for two seconds. Look in the cache; if there is nothing, load it and put it there.
//!
//! # What breaks
//! In the moment in which the value expires nobody has it, and *everybody* who comes until the first of them has
//! loaded it loads it too: with a cost `c` and `r` requests a second at least `r x c` of them, each for the same
//! answer. What is popular is what is hit hardest. Below one request in `c` nothing of this shows.
//!
//! # Under load
//! Loads are processor work behind a pool: `pool` of them begin at once, on `k = min(cores, pool)` cores, so that the
//! first ends after `T = c x pool / k`. By then `r x T` have missed. They stand in line for a connection, and when it
//! is their turn nobody looks again: each loads what is fresh by now. All of it takes
//!
//! ```text
//! D = r x T x c / k = r x pool x (c / k)^2
//! ```
//!
//! and for so long every other query of the shop waits at the end of that line: orders too, which have nothing to do
//! with the list. When it is gone all who stood in it move on at once, and the next queue is full, that of the bank.
//! Then all is well for as long as a value lives, and it begins again: a comb of spikes whose period is `TTL + D`.
//! With `c` = 0.1 s, a pool of 8 and two cores, 50 requests a second make `D` a second; on eight cores and more 800 do.
//! The hit ratio is over 80 % all the while: it counts those who found the value, not what the others cost.
//!
//! A cold cache is the same spike, once, as long as `T` is within the patience of who asks. If it is not, each load is
//! dropped when its caller leaves, nothing is ever kept, and the cache never fills: a restart has then turned a healthy
//! service into one that cannot come up.
//!
//! # The cure
//! - **One load at a time** for each key. It is a task of its own: it ends, and fills the cache, also if whoever
//!   asked for it has left.
//! - **The old value meanwhile.** An answer that is some tenths of a second older is better than a wait. Only who
//!   finds nothing at all waits, for that one load.
//! - **A random life**, up to a fifth shorter, so that keys filled together (after a restart, or by several processes)
//!   do not expire together.
//!
//! The price: an answer may be older than its TTL, by the time of one load while somebody asks all the time, and by
//! the limit set for it after a quiet spell.
//!
//! # Who was bitten
//! Facebook on 23 September 2010: clients that found a configuration value invalid deleted it from the cache and
//! asked the database instead, all of them at once, and its errors made them do so again. The site had to be turned
//! off to let the databases recover. Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), describe the cure
//! that they have for a "thundering herd": a lease lets one client fill a key, and the others wait or take a stale value.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::ops::compute::Op;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Choice, ChoiceOption};
use crate::telemetry::account;

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "cache_fill",
    &["shop"],
    "whoever misses loads",
    "one load at a time, the old value meanwhile, lives of random length",
    include_str!("cache_fill.rs"),
);

/// By how much of its TTL a value's life is shortened at random, at most.
const JITTER: f64 = 0.2;

/// What a look into the cache found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A value that is fresh.
    Fresh,
    /// One that is older than its TTL, and is taken all the same.
    Stale,
    /// None that could be taken: the caller waits for a load.
    Nothing,
}

/// The value for `key`: from the cache, or from `load`. `told` hears at once what was found.
pub async fn get<K, V, E, L>(
    option: ChoiceOption,
    cache: &Filled<K, V>,
    key: K,
    load: impl FnOnce() -> L + Send + 'static,
    told: impl FnOnce(Found),
) -> Result<V, Arc<E>>
where
    K: Hash + Eq + Shared,
    V: Clone + Shared,
    E: Shared,
    L: Future<Output = Result<V, E>> + Send + 'static,
{
    let kept = cache.kept.get(&key).await;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh()) {
        told(Found::Fresh);
        return Ok(kept.value.clone());
    }
    let (all, ttl) = (cache.kept.clone(), cache.ttl);
    match (option, kept) {
        (ChoiceOption::Poor, _) => {
            told(Found::Nothing);
            let value = load().await.map_err(Arc::new)?;
            all.insert(key, Kept::fresh_for(ttl, value.clone())).await;
            Ok(value)
        }
        (ChoiceOption::Sound, Some(stale)) => {
            told(Found::Stale);
            // If it fails the old value stays, and the next who asks tries again.
            drop(spawn(async move {
                let renew = async |kept: Option<moka::Entry<K, Arc<Kept<V>>>>| {
                    if kept.is_some_and(|kept| kept.value().is_fresh()) {
                        return Ok(Op::Nop);
                    }
                    let value = load().await?;
                    Ok::<_, E>(Op::Put(Kept::fresh_for(jittered(ttl), value)))
                };
                let entry = all.entry(key);
                entry.and_try_compute_if_nobody_else(renew).await.map(drop)
            }));
            Ok(stale.value.clone())
        }
        (ChoiceOption::Sound, None) => {
            told(Found::Nothing);
            let filling = spawn(async move {
                let fill = async { Ok(Kept::fresh_for(jittered(ttl), load().await?)) };
                all.try_get_with(key, fill).await
            });
            let kept = filling.await.expect("a load does not panic")?;
            Ok(kept.value.clone())
        }
    }
}

/// Runs `work` as the current request, and to its end also when that has gone.
fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(account::carry(work.in_current_span()))
}

fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - JITTER * fastrand::f64())
}

/// What several tasks may have in hand at the same time.
pub trait Shared: Send + Sync + 'static {}

impl<T: Send + Sync + 'static> Shared for T {}

/// Values that are expensive to come by, and how long each counts as fresh. Clones share them.
#[derive(Debug, Clone)]
pub struct Filled<K: Hash + Eq + Shared, V: Shared> {
    kept: Cache<K, Arc<Kept<V>>>,
    ttl: Duration,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    fresh_until: Instant,
}

impl<V> Kept<V> {
    fn fresh_for(time: Duration, value: V) -> Arc<Self> {
        Arc::new(Self {
            value,
            fresh_until: Instant::now() + time,
        })
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.fresh_until
    }
}

impl<K: Hash + Eq + Shared, V: Shared> Filled<K, V> {
    /// Nothing yet. At most `entries_max` values are kept, each for `stale_max` after its `ttl` has ended.
    #[must_use]
    pub fn new(entries_max: u64, ttl: Duration, stale_max: Duration) -> Self {
        let kept = Cache::builder()
            .max_capacity(entries_max)
            .time_to_live(ttl + stale_max)
            .build();
        Self { kept, ttl }
    }

    /// How many values it has.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.kept.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::sync::Semaphore;
    use tokio::time::{sleep, timeout};

    use super::*;

    const TTL: Duration = Duration::from_secs(60);
    const LOAD: Duration = Duration::from_secs(1);

    /// A load takes a connection of two for a second, and brings its number.
    #[derive(Clone)]
    struct World {
        option: ChoiceOption,
        cache: Filled<usize, usize>,
        pool: Arc<Semaphore>,
        loads: Arc<AtomicUsize>,
        broken: Arc<AtomicBool>,
    }

    impl World {
        fn new(option: ChoiceOption) -> Self {
            Self {
                option,
                cache: Filled::new(1_000, TTL, TTL),
                pool: Arc::new(Semaphore::new(2)),
                loads: Arc::default(),
                broken: Arc::default(),
            }
        }

        async fn ask(&self, key: usize) -> (Result<usize, Arc<&'static str>>, Found) {
            let this = self.clone();
            let load = async move || {
                let _connection = this.pool.acquire().await.unwrap();
                sleep(LOAD).await;
                let number = this.loads.fetch_add(1, Ordering::SeqCst) + 1;
                if this.broken.load(Ordering::SeqCst) {
                    return Err("broken");
                }
                Ok(number)
            };
            let mut found = None;
            let value = get(self.option, &self.cache, key, load, |told| {
                found = Some(told);
            });
            (value.await, found.unwrap())
        }

        fn loads(&self) -> usize {
            self.loads.load(Ordering::SeqCst)
        }
    }

    /// How many loads follow when a value has expired and fifty ask for it at once, and for how many seconds another
    /// query then waits for a connection.
    async fn at_expiry(option: ChoiceOption) -> (usize, f64) {
        let world = World::new(option);
        world.ask(1).await.0.unwrap();
        sleep(TTL).await;
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let world = world.clone();
                tokio::spawn(async move { world.ask(1).await })
            })
            .collect();
        sleep(LOAD / 100).await;
        let asked = Instant::now();
        drop(world.pool.acquire().await.unwrap());
        let waited = asked.elapsed().as_secs_f64();
        for asked in asking {
            asked.await.unwrap().0.unwrap();
        }
        sleep(LOAD).await;
        (world.loads() - 1, waited)
    }

    #[tokio::test(start_paused = true)]
    async fn poor_loads_once_for_each_who_missed_and_others_wait_for_all_of_it() {
        let (loads, waited) = at_expiry(ChoiceOption::Poor).await;
        assert_eq!(loads, 50);
        assert!(waited > 20.0, "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn sound_loads_once_and_others_do_not_notice() {
        let (loads, waited) = at_expiry(ChoiceOption::Sound).await;
        assert_eq!(loads, 1);
        assert!(waited < 0.01, "{waited}");
    }

    /// What the last of ten found, each of whom leaves after half of the time that a load takes.
    async fn found_by_the_impatient(option: ChoiceOption) -> Option<Found> {
        let world = World::new(option);
        let mut last = None;
        for _ in 0..10 {
            last = timeout(LOAD / 2, world.ask(1)).await.ok();
        }
        last.map(|(_, found)| found)
    }

    #[tokio::test(start_paused = true)]
    async fn poor_never_fills_for_those_who_leave() {
        assert_eq!(found_by_the_impatient(ChoiceOption::Poor).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn sound_fills_although_who_asked_has_left() {
        let found = found_by_the_impatient(ChoiceOption::Sound).await;
        assert_eq!(found, Some(Found::Fresh));
    }

    /// How many of a hundred values that were loaded together are still fresh nine tenths of a TTL later.
    async fn still_fresh(option: ChoiceOption) -> usize {
        let mut world = World::new(option);
        world.pool = Arc::new(Semaphore::new(100));
        let asking = (0..100).map(|key| {
            let world = world.clone();
            tokio::spawn(async move { world.ask(key).await })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap().0.unwrap();
        }
        sleep(TTL.mul_f64(0.9)).await;
        let mut fresh = 0;
        for key in 0..100 {
            fresh += usize::from(world.ask(key).await.1 == Found::Fresh);
        }
        fresh
    }

    #[tokio::test(start_paused = true)]
    async fn poor_lets_what_was_loaded_together_expire_together() {
        assert_eq!(still_fresh(ChoiceOption::Poor).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn sound_spreads_it() {
        let fresh = still_fresh(ChoiceOption::Sound).await;
        assert!((20..80).contains(&fresh), "{fresh}");
    }

    #[tokio::test(start_paused = true)]
    async fn sound_keeps_what_it_has_while_loading_fails_and_tries_again() {
        let world = World::new(ChoiceOption::Sound);
        world.broken.store(true, Ordering::SeqCst);
        assert_eq!(*world.ask(1).await.0.unwrap_err(), "broken");
        world.broken.store(false, Ordering::SeqCst);
        assert_eq!(world.ask(1).await, (Ok(2), Found::Nothing));
        sleep(TTL).await;
        world.broken.store(true, Ordering::SeqCst);
        assert_eq!(world.ask(1).await, (Ok(2), Found::Stale));
        sleep(2 * LOAD).await;
        world.broken.store(false, Ordering::SeqCst);
        assert_eq!(world.ask(1).await, (Ok(2), Found::Stale));
        sleep(2 * LOAD).await;
        assert_eq!(world.ask(1).await, (Ok(4), Found::Fresh));
    }
}
