//! Admission: how much work is let in at once.
//!
//! # The problem
//! A service can do so much a second, and at times more is asked of it. What is over must go somewhere: into a line,
//! or back to whoever sent it. A line hides a short burst, so most programs let everything in and let it wait.
//!
//! # What breaks
//! A line is time. Work is begun when its turn comes, not while somebody wants it, so as soon as the line is longer
//! than callers are patient all of it is done for people who have left. The service is as busy as it can be, and
//! nobody gets anything: the load exceeds the capacity by a half, and what is lost is not a third but everything.
//!
//! # Under load
//! The bank does 6 slots / 0.120 s = 50 charges a second, first in, first out; up to 50 wait, and the shop waits
//! 0.5 s for an answer. At 90 orders a second the line grows by 40 a second. After half a second 20 wait, which is
//! as much as 0.5 s allow for; after 50 / 40 = 1.25 s it is full and 50 / 50 = 1 s long. From then on the bank
//! charges 50 cards a second, every one a success, and every answer comes too late.
//!
//! # The cure
//! Bound the work under way, and refuse the rest before anything was done for it. With N orders in charge the last
//! of them waits (N - 6) / 50 + 0.120 s; with 20 that is 0.40 s, so whatever was let in is answered in time and the
//! bank's 50 a second are 50 good orders. The others hear within a millisecond that it is too much, and when to ask
//! again. A place is held until the *work* ends and not until its caller leaves: those who gave up would else make
//! room for more while their work goes on. The price: the bound follows from the capacity of somebody else, so
//! it must be known and be changed with it, and it refuses a short burst that a line would have hidden.
//!
//! # Who was bitten
//! Facebook found in its worst incidents of latency large numbers of requests that sat in a queue (Maurer, "Fail at
//! Scale", ACM Queue, 2015). Amazon tells how goodput falls to nothing while throughput looks well (Yanacek, "Using
//! load shedding to avoid overload", Amazon Builders' Library).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Choice, ChoiceOption};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "admission",
    &["shop"],
    "let every order in, however many are under way",
    "a bound on the orders under way, and an early 503 for the rest",
    include_str!("admission.rs"),
);

/// The bound was reached: nothing was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Lets `work` in, or says that there is too much under way. What it returns holds a place until it has ended: give
/// it to a task, or a caller that leaves ends it half done.
pub fn admit<W: Future>(
    option: ChoiceOption,
    bound: &Arc<Bound>,
    work: W,
) -> Result<impl Future<Output = W::Output> + use<W>, Full> {
    let place = match option {
        ChoiceOption::Poor => Bound::enter(bound),
        ChoiceOption::Sound => Bound::try_enter(bound)?,
    };
    Ok(async move {
        let result = work.await;
        drop(place);
        result
    })
}

/// Counts the work under way, however it was let in: so a bound that comes into force counts what is there already.
#[derive(Debug)]
pub struct Bound {
    under_way: AtomicUsize,
    max: usize,
}

impl Bound {
    /// At most `max` at once, where there is a bound.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        let under_way = AtomicUsize::new(0);
        Arc::new(Self { under_way, max })
    }

    /// How much is under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How much may be, if that has a bound.
    #[must_use]
    pub fn max(&self, option: ChoiceOption) -> Option<usize> {
        match option {
            ChoiceOption::Poor => None,
            ChoiceOption::Sound => Some(self.max),
        }
    }

    fn enter(bound: &Arc<Self>) -> Place {
        bound.under_way.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(bound))
    }

    fn try_enter(bound: &Arc<Self>) -> Result<Place, Full> {
        let one_more = |inside| (inside < bound.max).then_some(inside + 1);
        bound
            .under_way
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Full)?;
        Ok(Place(Arc::clone(bound)))
    }
}

/// Counted until it is dropped.
#[derive(Debug)]
struct Place(Arc<Bound>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{Semaphore, oneshot};
    use tokio::time::Instant;

    use super::*;

    /// Somebody else's computer: 6 at once for 0.120 s each, 50 in line, and what it took it does to the end.
    struct Bank {
        slots: Arc<Semaphore>,
        places: Arc<Semaphore>,
    }

    impl Bank {
        fn new() -> Self {
            let [slots, places] = [6, 6 + 50].map(|permits| Arc::new(Semaphore::new(permits)));
            Self { slots, places }
        }

        /// Whether the answer came while its caller waited.
        async fn charge(&self) -> bool {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                return false;
            };
            let (answer, answered) = oneshot::channel();
            let slots = Arc::clone(&self.slots);
            tokio::spawn(async move {
                let slot = slots.acquire().await;
                tokio::time::sleep(Duration::from_millis(120)).await;
                drop((slot, place));
                answer.send(()).ok();
            });
            let patience = Duration::from_millis(500);
            matches!(tokio::time::timeout(patience, answered).await, Ok(Ok(())))
        }
    }

    /// Of 10 s with 90 arrivals a second, after 5 s of the same: how many were let in, and how many of these went well.
    async fn surge(option: ChoiceOption) -> (usize, usize) {
        let (bound, bank) = (Bound::new(20), Arc::new(Bank::new()));
        let (mut admitted, began) = (Vec::new(), Instant::now());
        for number in 0..90 * 15 {
            tokio::time::sleep_until(began + Duration::from_secs(1) * number / 90).await;
            let bank = Arc::clone(&bank);
            let work = async move { bank.charge().await };
            if let Ok(work) = admit(option, &bound, work) {
                let task = tokio::spawn(work);
                admitted.extend((number >= 90 * 5).then_some(task));
            }
        }
        let mut good = 0;
        let let_in = admitted.len();
        for task in admitted {
            good += usize::from(task.await.unwrap());
        }
        (let_in, good)
    }

    #[tokio::test(start_paused = true)]
    async fn poor_keeps_the_bank_busy_for_nobody() {
        let (let_in, good) = surge(ChoiceOption::Poor).await;
        assert_eq!(let_in, 900);
        assert!(good < 50, "{good} of 500 that the bank did");
    }

    #[tokio::test(start_paused = true)]
    async fn sound_turns_all_of_the_capacity_into_good_answers() {
        let (let_in, good) = surge(ChoiceOption::Sound).await;
        assert_eq!(good, let_in, "what was let in is answered in time");
        assert!(
            (450..=510).contains(&good),
            "{good} of 500 that the bank can"
        );
    }

    #[tokio::test]
    async fn a_place_is_held_until_the_work_has_ended() {
        let bound = Bound::new(1);
        let (release, held) = oneshot::channel::<()>();
        let work = admit(ChoiceOption::Sound, &bound, held).unwrap();
        let task = tokio::spawn(work);
        let refused = || admit(ChoiceOption::Sound, &bound, async {}).err();
        assert_eq!(
            refused(),
            Some(Full),
            "nobody waits for the task, and it goes on"
        );
        release.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(bound.under_way(), 0);
        assert_eq!(refused(), None);
    }

    #[tokio::test]
    async fn a_bound_that_comes_late_counts_what_is_there() {
        let bound = Bound::new(2);
        let work = || admit(ChoiceOption::Poor, &bound, std::future::pending::<()>());
        let all = [work(), work(), work()];
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(
            (bound.under_way(), bound.max(ChoiceOption::Poor)),
            (3, None)
        );
        assert!(admit(ChoiceOption::Sound, &bound, async {}).is_err());
        drop(all);
        assert!(admit(ChoiceOption::Sound, &bound, async {}).is_ok());
    }
}
