//! The account of a request: where its time went, what memory it asked for, and who it is to the traces.
//!
//! A duration says that a request was slow; it does not say whether it worked, waited for a thread, for a
//! connection, or for somebody else. Every request has an account that is charged where the time is spent. It
//! follows the request: it is this thread's current one exactly while the request runs on this thread, and
//! work that is handed to another task or to a blocking thread takes it along ([`carry`], [`carry_work`]).
//! Logs, exemplars and outgoing requests read the trace's identity from it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;

use super::alloc;
use super::context::Identity;

/// What a request's time is spent on. Waits for other things (a semaphore, a timer) are in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Running on a thread, statements of the database excepted.
    Busy,
    /// Ready to run, and waiting for a thread that does.
    Ready,
    /// Waiting for a database connection, or for the turn to write.
    Pool,
    /// In a statement of the database.
    Database,
    /// Waiting for the answer of another service.
    Downstream,
}

impl Part {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 5] = [
        Self::Busy,
        Self::Ready,
        Self::Pool,
        Self::Database,
        Self::Downstream,
    ];

    /// Its name in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Ready => "ready",
            Self::Pool => "pool",
            Self::Database => "database",
            Self::Downstream => "downstream",
        }
    }
}

/// The account of one request.
#[derive(Debug, Default)]
pub struct Account {
    identity: Option<Identity>,
    trace_state: Option<HeaderValue>,
    spent_ns: [AtomicU64; 5],
    polls: AtomicU64,
    database_operations: AtomicU64,
    allocated: AtomicU64,
}

impl Account {
    pub(super) fn new(identity: Option<Identity>, trace_state: Option<HeaderValue>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            trace_state,
            ..Self::default()
        })
    }

    /// Charges `spent` to `part`.
    pub fn charge(&self, part: Part, spent: Duration) {
        let nanoseconds = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.spent_ns[part as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What `part` took until now, summed over everything that ran for the request, also at the same time.
    #[must_use]
    pub fn spent(&self, part: Part) -> Duration {
        Duration::from_nanos(self.spent_ns[part as usize].load(Ordering::Relaxed))
    }

    /// How often a runtime let the request run.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// How often it went to the database.
    #[must_use]
    pub fn database_operations(&self) -> u64 {
        self.database_operations.load(Ordering::Relaxed)
    }

    /// Bytes that it asked the allocator for; what it gave back is not taken off.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(super) fn trace_state(&self) -> Option<&HeaderValue> {
        self.trace_state.as_ref()
    }

    /// Runs `future` as this request, and charges it at each poll. Whoever calls this polls it at once: only what
    /// is carried waits for its first turn.
    pub fn follow<F: Future>(self: &Arc<Self>, future: F) -> Carried<F> {
        Carried::new(Some(Arc::clone(self)), Wakes::default(), future)
    }

    /// Makes it this thread's current account while `work` runs, and charges nothing.
    pub fn enter<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _current = Current::set(Some(Arc::clone(self)));
        work()
    }

    /// Runs `work` as this request, on this thread, and charges it.
    pub(super) fn run<T>(self: &Arc<Self>, part: Part, work: impl FnOnce() -> T) -> T {
        if part == Part::Database {
            self.database_operations.fetch_add(1, Ordering::Relaxed);
        }
        let _turn = Turn::begin(self, part);
        work()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Account>>> = const { RefCell::new(None) };
}

/// The account of the request that runs on this thread, if one does.
#[must_use]
pub fn current() -> Option<Arc<Account>> {
    with(Arc::clone)
}

/// Charges `spent` to `part` of the request that runs on this thread, if one does.
pub fn charge(part: Part, spent: Duration) {
    let _none = with(|account| account.charge(part, spent));
}

/// Looks into the current account, if there is one.
pub(super) fn with<T>(look: impl FnOnce(&Arc<Account>) -> T) -> Option<T> {
    // A thread that ends has none any more.
    CURRENT
        .try_with(|current| current.borrow().as_ref().map(look))
        .ok()
        .flatten()
}

/// Puts back the account that was current before, when it is dropped: also when the work panics.
struct Current(Option<Arc<Account>>);

impl Current {
    fn set(account: Option<Arc<Account>>) -> Self {
        Self(CURRENT.replace(account))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// One stay on a thread: charged when it is dropped.
struct Turn<'a> {
    account: &'a Account,
    part: Part,
    began: Instant,
    asked_before: u64,
    _current: Current,
}

impl<'a> Turn<'a> {
    fn begin(account: &'a Arc<Account>, part: Part) -> Self {
        Self {
            account,
            part,
            began: Instant::now(),
            asked_before: alloc::asked_by_this_thread(),
            _current: Current::set(Some(Arc::clone(account))),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let asked = alloc::asked_by_this_thread().wrapping_sub(self.asked_before);
        self.account.allocated.fetch_add(asked, Ordering::Relaxed);
        self.account.charge(self.part, self.began.elapsed());
    }
}

pin_project_lite::pin_project! {
    /// A future whose every poll is charged to an account; see [`carry`].
    #[derive(Debug)]
    pub struct Carried<F> {
        #[pin]
        inner: F,
        account: Option<(Arc<Account>, Arc<Wakes>, Waker)>,
    }
}

/// Lets `future`, which will run as a task of its own, run as the current request.
pub fn carry<F: Future>(future: F) -> Carried<F> {
    carry_for(current(), future)
}

/// Lets `future`, which will run as a task of its own, run as the request with this account; as nobody's if there is
/// none. A task is ready from its spawn on, so until its first turn it waits for a thread.
pub fn carry_for<F: Future>(account: Option<Arc<Account>>, future: F) -> Carried<F> {
    Carried::new(account, Wakes::ready(), future)
}

/// Lets `work`, which will run on a blocking thread, run as the current request; its time is charged to `part`, and
/// the time from now until it runs to the wait for a thread.
pub fn carry_work<T>(part: Part, work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let account = current().map(|account| (account, Instant::now()));
    move || match account {
        Some((account, ready)) => {
            account.charge(Part::Ready, ready.elapsed());
            account.run(part, work)
        }
        None => work(),
    }
}

impl<F> Carried<F> {
    fn new(account: Option<Arc<Account>>, wakes: Wakes, inner: F) -> Self {
        let account = account.map(|account| {
            let wakes = Arc::new(wakes);
            (account, Arc::clone(&wakes), Waker::from(wakes))
        });
        Self { inner, account }
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some((account, wakes, waker)) = this.account else {
            return this.inner.poll(context);
        };
        let turn = Turn::begin(account, Part::Busy);
        account.polls.fetch_add(1, Ordering::Relaxed);
        if let Some(waited) = wakes.begin(turn.began, context.waker()) {
            account.charge(Part::Ready, waited);
        }
        this.inner.poll(&mut Context::from_waker(waker))
    }
}

/// When a task was woken, so that the time until it runs can be told.
#[derive(Debug)]
struct Wakes {
    /// Nanoseconds since [`EPOCH`]; zero while nothing has woken it.
    woken: AtomicU64,
    task: Mutex<Waker>,
}

/// A moment before every other; wakes are counted from it.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, in nanoseconds since [`EPOCH`]; never zero.
fn now_ns() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

impl Default for Wakes {
    fn default() -> Self {
        Self {
            woken: AtomicU64::new(0),
            task: Mutex::new(Waker::noop().clone()),
        }
    }
}

impl Wakes {
    /// Of a task that is ready now.
    fn ready() -> Self {
        let wakes = Self::default();
        wakes.woken.store(now_ns(), Ordering::Release);
        wakes
    }

    /// Called when the task runs, as `task`: for how long it had been ready.
    fn begin(&self, now: Instant, task: &Waker) -> Option<Duration> {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(task) {
            known.clone_from(task);
        }
        drop(known);
        let woken = self.woken.swap(0, Ordering::AcqRel);
        (woken > 0).then(|| now.saturating_duration_since(*EPOCH + Duration::from_nanos(woken)))
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The first wake counts: from then on the task was ready.
        let _before = self
            .woken
            .compare_exchange(0, now_ns(), Ordering::AcqRel, Ordering::Relaxed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let task = task.clone();
        task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn allocate_a_mebibyte() {
        drop(std::hint::black_box(vec![0_u8; 1 << 20]));
    }

    /// Keeps its thread for as long as a person would notice, and says for how long.
    fn hold_the_thread() -> Duration {
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        began.elapsed()
    }

    fn account() -> Arc<Account> {
        Account::new(None, None)
    }

    #[tokio::test]
    async fn work_shows_as_work_and_its_memory_is_counted() {
        let account = account();
        let held = account.follow(async {
            allocate_a_mebibyte();
            hold_the_thread()
        });
        let held = held.await;
        assert!(account.spent(Part::Busy) >= held);
        assert_eq!(account.polls(), 1);
        assert!(
            (MIB..MIB + MIB / 8).contains(&account.allocated()),
            "{}",
            account.allocated()
        );
    }

    /// Repeats a request until `told` held of its account in most of eleven tries. Whoever is charged for time in
    /// which it did not run is charged each time; a machine that is busy with other things charges for a turn that
    /// it interrupts only now and then.
    async fn mostly<T>(
        request: impl AsyncFn(&Arc<Account>) -> T,
        told: impl Fn(&Account, T) -> bool,
    ) {
        const TRIES: u32 = 11;
        let mut held = 0;
        for _ in 0..TRIES {
            let account = account();
            let result = request(&account).await;
            held += u32::from(told(&account, result));
            if held > TRIES / 2 {
                return;
            }
        }
        panic!("only {held} times in {TRIES}");
    }

    #[tokio::test]
    async fn waiting_is_not_work() {
        const WAIT: Duration = Duration::from_millis(50);
        let waiting = async |account: &Arc<Account>| {
            account.follow(tokio::time::sleep(WAIT)).await;
            assert!(account.polls() >= 2);
        };
        mostly(waiting, |account, ()| account.spent(Part::Busy) < WAIT / 2).await;
    }

    #[tokio::test]
    async fn who_is_ready_and_finds_no_thread_waits_for_one() {
        let kept_waiting = async |account: &Arc<Account>| {
            let (wake, woken) = tokio::sync::oneshot::channel::<()>();
            let waiting = tokio::spawn(account.follow(woken));
            tokio::task::yield_now().await;
            // On the only thread that there is: whoever was woken must wait for its end.
            wake.send(()).unwrap();
            let held = hold_the_thread();
            waiting.await.unwrap().unwrap();
            let ready = account.spent(Part::Ready);
            assert!(ready >= held, "{ready:?} of {held:?}");
            held
        };
        mostly(kept_waiting, |account, held| {
            account.spent(Part::Busy) < held
        })
        .await;
    }

    #[tokio::test]
    async fn what_was_handed_on_waits_for_its_first_turn() {
        let account = account();
        let (task, work) = account.enter(|| {
            let task = tokio::spawn(carry(async {}));
            (task, carry_work(Part::Database, || ()))
        });
        // On the only thread that there is.
        let held = hold_the_thread();
        task.await.unwrap();
        let ready = account.spent(Part::Ready);
        assert!(ready >= held, "{ready:?} of {held:?}");
        work();
        let both = account.spent(Part::Ready);
        assert!(both >= ready + held, "{both:?} of twice {held:?}");
    }

    #[tokio::test]
    async fn what_is_handed_on_is_charged_all_the_same() {
        let handing_on = async |account: &Arc<Account>| {
            let request = account.follow(async {
                let task = tokio::spawn(carry(async {
                    allocate_a_mebibyte();
                    charge(Part::Pool, Duration::from_secs(7));
                }));
                task.await.unwrap();
                let work = carry_work(Part::Database, || {
                    allocate_a_mebibyte();
                    hold_the_thread()
                });
                tokio::task::spawn_blocking(work).await.unwrap()
            });
            let held = request.await;
            assert!(account.spent(Part::Database) >= held);
            assert_eq!(account.database_operations(), 1);
            assert_eq!(account.spent(Part::Pool), Duration::from_secs(7));
            assert!(account.allocated() >= 2 * MIB);
            held
        };
        mostly(handing_on, |account, held| account.spent(Part::Busy) < held).await;
    }

    #[tokio::test]
    async fn a_panic_leaves_no_account_behind() {
        let account = account();
        let broken = tokio::spawn(account.follow(async {
            assert!(current().is_none(), "on purpose");
        }));
        assert!(broken.await.is_err());
        assert!(current().is_none());
        charge(Part::Pool, Duration::from_secs(1));
        assert_eq!(account.spent(Part::Pool), Duration::ZERO);
    }

    #[test]
    fn without_a_request_nothing_is_charged() {
        assert_eq!(carry_work(Part::Busy, || 7)(), 7);
        assert!(current().is_none());
    }
}
