//! The audit: whether what must always be true is true.
//!
//! Some mistakes raise no error and cost no time: an item is sold that was not there, a card is charged twice, a card
//! is charged and there is no order. No request fails, so only a comparison of the books finds them. This makes it
//! over and over, beside the requests: in bounded pages, through connections that cannot write, resting for most of
//! the time. The numbers it exposes are those of the last turn that went through to its end; a turn that cannot
//! (payments is down) changes none of them, and the time of the last success tells how old they are. The time of the
//! last page tells whether it gets on at all: a turn goes through all books, and these only grow.
//!
//! - [`stock`]: the shop's own books, so it goes on while payments is down
//! - [`charges`]: the ledger against the orders

mod charges;
mod stock;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::Shop;
use crate::telemetry::catalog::{self, Gauge, Histogram};
use crate::telemetry::{account, context};

/// How long it rests between two turns.
const PAUSE: Duration = Duration::from_secs(5);

/// After each page it rests ten times as long as the page took, and so works for a tenth of the time at most. A rest
/// has a bound: on a machine so busy that a page takes more than 25 ms, a turn must end all the same, and the audit
/// then works for a larger share.
const REST_FACTOR: u32 = 10;
const REST_MAX: Duration = Duration::from_millis(250);

/// Violations of one kind that are named in the log.
const EXAMPLES_MAX: usize = 5;

/// What the audits expose; nothing is violated before the first turn.
#[derive(Debug)]
pub(super) struct Audits {
    stock: Audit,
    charges: Audit,
}

impl Audits {
    pub(super) fn new() -> Self {
        Self {
            stock: Audit::new("stock", &["oversold"]),
            charges: Audit::new("charges", &["charged_twice", "charge_without_order"]),
        }
    }
}

/// Audits until it is told to stop.
pub(super) async fn run(shop: Arc<Shop>, audits: Audits, stop: CancellationToken) {
    // It belongs to no request, and its pages would bury the traces that do.
    let turns = account::carry_for(Some(context::untraced()), turns(shop, audits));
    tokio::select! {
        () = stop.cancelled() => {}
        () = turns => {}
    }
}

async fn turns(shop: Arc<Shop>, audits: Audits) {
    let Audits {
        mut stock,
        mut charges,
    } = audits;
    let stock = async {
        loop {
            let started = Instant::now();
            let found = stock::turn(&shop.reader, &stock.pages).await;
            stock.ended(started, found.map(|found| vec![found]));
            tokio::time::sleep(PAUSE).await;
        }
    };
    let charges = async {
        loop {
            let started = Instant::now();
            let found = charges::turn(&shop, &charges.pages).await;
            let found = found.map(|(twice, orderless)| vec![twice, orderless]);
            charges.ended(started, found);
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Beside each other: each grows with books of its own, and must not wait for the other's.
    let ((), ()) = tokio::join!(stock, charges);
}

/// Tells that pages are read.
#[derive(Debug)]
struct Pages {
    last: Gauge,
}

impl Pages {
    /// Notes a page that was read.
    fn read(&self) {
        self.last.set(now_s());
    }
}

/// Rests after a page that was begun then.
async fn rest(begun: Instant) {
    tokio::time::sleep((begun.elapsed() * REST_FACTOR).min(REST_MAX)).await;
}

/// Now, in seconds since the epoch.
fn now_s() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// Violations of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    count: u64,
    /// Some of them, in the words of the log.
    examples: Vec<String>,
}

impl Found {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what());
        }
    }
}

/// One of the comparisons, as telemetry shows it.
#[derive(Debug)]
struct Audit {
    name: &'static str,
    invariants: Vec<Invariant>,
    durations: Histogram,
    pages: Pages,
    last_success: Gauge,
}

#[derive(Debug)]
struct Invariant {
    name: &'static str,
    violations: Gauge,
    found: Found,
}

impl Audit {
    fn new(name: &'static str, invariants: &[&'static str]) -> Self {
        let invariant = |name: &&'static str| {
            let violations = catalog::firedrill_invariant_violations(*name);
            violations.set(0.0);
            Invariant {
                name,
                violations,
                found: Found::default(),
            }
        };
        let last_success = catalog::firedrill_audit_last_success_timestamp_seconds(name);
        last_success.set(0.0);
        let last = catalog::firedrill_audit_last_page_timestamp_seconds(name);
        last.set(0.0);
        Self {
            name,
            invariants: invariants.iter().map(invariant).collect(),
            durations: catalog::firedrill_audit_duration_seconds(name),
            pages: Pages { last },
            last_success,
        }
    }

    /// Takes in what a turn found, one entry an invariant, or why it did not get to its end.
    fn ended(&mut self, started: Instant, found: Result<Vec<Found>, String>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(target: "audit", audit = self.name, error, "A turn of the audit was given up; its numbers are those of the one before.");
                return;
            }
        };
        self.durations.record(started.elapsed().as_secs_f64());
        self.last_success.set(now_s());
        for (invariant, found) in self.invariants.iter_mut().zip(found) {
            invariant.violations.set(found.count as f64);
            if found.count > 0 && found != invariant.found {
                let (name, count, examples) =
                    (invariant.name, found.count, found.examples.join("; "));
                tracing::error!(target: "audit", invariant = name, count, examples, "What must always be true is not.");
            }
            invariant.found = found;
        }
    }
}
