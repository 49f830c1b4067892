//! The bank: N slots, a service time, a bounded queue.
//!
//! Its physics are those of a real one. First in, first out. What was accepted cannot be cancelled: it takes
//! its place and its slot although its caller has left. The key is decided when the slot ends, so a replay
//! costs a slot too. Capacity is slots divided by service time, paced by the clock and not by the processor,
//! so that it is the same on every machine: a slot that falls behind because the machine was busy makes up
//! for it. It does not make up for a ledger that takes nothing more: until then the charge stays in its slot.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::catalog::{Counter, Gauge, Histogram};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::conditions::Conditions;
use super::ledger::{self, Charge, Ledger, Place, Verdict};
use crate::telemetry::account::{self, Account};
use crate::telemetry::catalog;

/// The size and speed of a bank.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Charges that are worked on at the same time.
    pub slots: usize,
    /// How long each takes.
    pub service_time: Duration,
    /// Charges that may wait for a slot.
    pub queue: usize,
}

/// What came of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stands in the ledger.
    Decided(Verdict),
    /// The bank could not do it; nothing was charged.
    Failed,
    /// The key stands in the ledger for another amount, in cents; nothing was charged.
    KeyReused(i64),
}

/// The queue was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

struct Entry {
    charge: Charge,
    arrived: Instant,
    answer: oneshot::Sender<Decision>,
    account: Option<Arc<Account>>,
    span: Span,
}

/// A bank that is open.
#[derive(Debug)]
pub struct Bank {
    queue: mpsc::Sender<Entry>,
    refused: Counter,
}

impl Bank {
    /// Opens a bank: from now on its slots take charges from the queue.
    #[must_use]
    pub fn open(config: Config, ledger: &Ledger, conditions: &Arc<Conditions>) -> Self {
        let (queue, entries) = mpsc::channel(config.queue);
        let meters = Arc::new(Meters::new(config));
        let entries = Arc::new(Mutex::new(entries));
        for _ in 0..config.slots {
            let slot = Slot {
                entries: Arc::clone(&entries),
                ledger: ledger.clone(),
                conditions: Arc::clone(conditions),
                meters: Arc::clone(&meters),
                service_time: config.service_time,
            };
            tokio::spawn(slot.run());
        }
        let refused = catalog::firedrill_requests_shed_total("queue_full");
        refused.absolute(0);
        Self { queue, refused }
    }

    /// Sets the gauge of the queue.
    pub fn collect(&self) {
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        catalog::firedrill_queue_depth("bank").set(waiting as f64);
    }

    /// Puts a charge in the queue. Its decision comes when its slot has ended, to whoever still waits.
    pub fn submit(&self, charge: Charge) -> Result<oneshot::Receiver<Decision>, Refused> {
        let (answer, decision) = oneshot::channel();
        let entry = Entry {
            charge,
            arrived: Instant::now(),
            answer,
            account: account::current(),
            span: Span::current(),
        };
        self.queue.try_send(entry).map_err(|_| {
            self.refused.increment(1);
            Refused
        })?;
        Ok(decision)
    }
}

struct Slot {
    entries: Arc<Mutex<mpsc::Receiver<Entry>>>,
    ledger: Ledger,
    conditions: Arc<Conditions>,
    meters: Arc<Meters>,
    service_time: Duration,
}

impl Slot {
    /// Works until the bank is closed.
    async fn run(self) {
        let mut free_since = Instant::now();
        loop {
            let next = self.next().await;
            let Some(entry) = next else { return };
            // By the clock: the slot began when it was free and the charge was there, however late the
            // machine comes to notice.
            let began = free_since.max(entry.arrived);
            let ends = began + self.service_time.mul_f64(self.conditions.slowdown());
            self.meters
                .waits
                .record((began - entry.arrived).as_secs_f64());
            self.meters.busy.increment(1.0);
            let span = if entry.span.is_none() {
                Span::none()
            } else {
                tracing::info_span!(parent: &entry.span, "bank", otel.name = "bank slot")
            };
            tokio::time::sleep_until(ends).instrument(span).await;
            // Written down beside the slot's next charge: while the ledger gets on, the disk does not change the
            // bank's capacity.
            let place = if let Some(place) = self.ledger.try_place() {
                free_since = ends;
                place
            } else {
                let place = self.ledger.place().await;
                free_since = Instant::now();
                place
            };
            self.meters.busy.decrement(1.0);
            let account = entry.account.clone();
            let decided = decide(
                entry,
                place,
                self.ledger.clone(),
                Arc::clone(&self.conditions),
                Arc::clone(&self.meters),
            );
            tokio::spawn(account::carry_for(account, decided));
        }
    }

    async fn next(&self) -> Option<Entry> {
        self.entries.lock().await.recv().await
    }
}

async fn decide(
    mut entry: Entry,
    place: Place,
    ledger: Ledger,
    conditions: Arc<Conditions>,
    meters: Arc<Meters>,
) {
    let decision = if conditions.fails() {
        drop(place);
        meters.failed.increment(1);
        Decision::Failed
    } else {
        match ledger
            .decide(entry.charge, place)
            .instrument(entry.span.clone())
            .await
        {
            Ok(verdict) => {
                meters.decided(verdict);
                Decision::Decided(verdict)
            }
            Err(ledger::Error::KeyReused(amount_cents)) => {
                meters.key_reused.increment(1);
                Decision::KeyReused(amount_cents)
            }
            // The ledger said why in the log; the caller sees its answer end.
            Err(ledger::Error::Failed(_)) => {
                meters.not_written.increment(1);
                return;
            }
        }
    };
    // Held back for as long as somebody waits: an answer without a caller is not worth a task.
    tokio::select! {
        () = entry.answer.closed() => {}
        () = conditions.hold_answer() => {}
    }
    if entry.answer.send(decision).is_err() {
        meters.unclaimed.increment(1);
    }
}

#[derive(Debug)]
struct Meters {
    waits: Histogram,
    busy: Gauge,
    charged: Counter,
    declined: Counter,
    voided: Counter,
    failed: Counter,
    key_reused: Counter,
    not_written: Counter,
    unclaimed: Counter,
}

impl Meters {
    fn new(config: Config) -> Self {
        let outcome = |outcome| {
            let counter = catalog::firedrill_bank_charges_total(outcome);
            counter.absolute(0);
            counter
        };
        let meters = Self {
            waits: catalog::firedrill_queue_wait_seconds("bank"),
            busy: catalog::firedrill_bank_slots_busy(),
            charged: outcome("charged"),
            declined: outcome("declined"),
            voided: outcome("voided"),
            failed: outcome("failed"),
            key_reused: outcome("key_reused"),
            not_written: outcome("not_written"),
            unclaimed: catalog::firedrill_bank_answers_unclaimed_total(),
        };
        meters.unclaimed.absolute(0);
        meters.busy.set(0.0);
        catalog::firedrill_queue_capacity("bank").set(config.queue as f64);
        catalog::firedrill_bank_slots().set(config.slots as f64);
        meters
    }

    fn decided(&self, verdict: Verdict) {
        match verdict {
            Verdict::Charged => self.charged.increment(1),
            Verdict::Declined => self.declined.increment(1),
            Verdict::Voided => self.voided.increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(order_id: i64) -> Charge {
        Charge {
            key: format!("order-{order_id}"),
            order_id,
            amount_cents: 100,
        }
    }

    fn open(directory: &tempfile::TempDir, config: Config) -> Bank {
        let ledger = Ledger::open(&directory.path().join("ledger.db")).unwrap();
        Bank::open(config, &ledger, &Conditions::new())
    }

    const SMALL: Config = Config {
        slots: 1,
        service_time: Duration::from_millis(20),
        queue: 2,
    };

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let bank = open(&directory, SMALL);
        // One in the slot or on its way there, two in the queue; what comes on top is refused.
        let accepted: Vec<_> = (0..20).map(|order| bank.submit(charge(order))).collect();
        assert!(accepted.iter().filter(|result| result.is_err()).count() >= 17);
    }

    #[tokio::test]
    async fn what_was_accepted_is_decided_although_the_caller_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        let bank = Bank::open(SMALL, &ledger, &Conditions::new());
        drop(bank.submit(charge(1)).unwrap());
        let after = bank.submit(charge(2)).unwrap().await.unwrap();
        assert_eq!(after, Decision::Decided(Verdict::Charged));
        let first = async { while ledger.find("order-1".into()).await.unwrap().is_none() {} };
        tokio::time::timeout(Duration::from_secs(10), first)
            .await
            .expect("the first charge is decided");
    }

    #[tokio::test]
    async fn a_ledger_that_stalls_stops_the_slots() {
        const LEFT: usize = 40;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let config = Config {
            slots: 4,
            service_time: Duration::from_micros(10),
            queue: 2 * ledger::LINE_MAX,
        };
        let bank = Bank::open(config, &ledger, &Conditions::new());
        let charges = ledger::LINE_MAX + config.slots + LEFT;
        let orders = 0..i64::try_from(charges).unwrap();
        let answers: Vec<_> = orders.map(|id| bank.submit(charge(id)).unwrap()).collect();
        let waiting = || bank.queue.max_capacity() - bank.queue.capacity();
        let full = async {
            while ledger.waiting() < ledger::LINE_MAX || waiting() > LEFT {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(8), full)
            .await
            .expect("the line before the ledger is full");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((ledger.waiting(), waiting()), (ledger::LINE_MAX, LEFT));
        other.execute_batch("ROLLBACK").unwrap();
        for answer in answers {
            assert_eq!(answer.await.unwrap(), Decision::Decided(Verdict::Charged));
        }
    }

    #[tokio::test]
    async fn a_replay_costs_a_slot_and_is_charged_once() {
        let directory = tempfile::tempdir().unwrap();
        let bank = open(&directory, Config { queue: 8, ..SMALL });
        let began = Instant::now();
        let answers: Vec<_> = (0..4).map(|_| bank.submit(charge(1)).unwrap()).collect();
        for answer in answers {
            assert_eq!(answer.await.unwrap(), Decision::Decided(Verdict::Charged));
        }
        assert!(
            began.elapsed() >= SMALL.service_time * 4,
            "four slots were used"
        );
        let rows = rusqlite::Connection::open(directory.path().join("ledger.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM charges", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap();
        assert_eq!(rows, 1);
    }
}
