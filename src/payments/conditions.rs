//! The bank's state of health: slow, failing or stalled, for a share of the calls. Set as shocks.
//!
//! Somebody else's computer is the one thing in this lab that may be slow by a timer. Were the shop slowed down the
//! same way, its outages would be played and no design could cure them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::control::shocks::{Parameter, Shocks, Spec, Values};

/// What the world does to the bank at the moment. All quiet at start.
#[derive(Debug)]
pub struct Conditions {
    slow_factor: Number,
    slow_share: Number,
    failing_share: Number,
    stalled_share: watch::Sender<f64>,
}

/// A number that is read on the request path.
#[derive(Debug)]
struct Number(AtomicU64);

impl Number {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Conditions {
    /// All quiet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            slow_factor: Number::new(1.0),
            slow_share: Number::new(0.0),
            failing_share: Number::new(0.0),
            stalled_share: watch::Sender::new(0.0),
        })
    }

    /// By how much the service time of this charge is multiplied.
    pub(super) fn slowdown(&self) -> f64 {
        if hit(self.slow_share.get()) {
            self.slow_factor.get()
        } else {
            1.0
        }
    }

    /// Whether this charge fails.
    pub(super) fn fails(&self) -> bool {
        hit(self.failing_share.get())
    }

    /// Holds the answer of a stalled charge back until the stall is over.
    pub(super) async fn hold_answer(&self) {
        let mut share = self.stalled_share.subscribe();
        if hit(*share.borrow_and_update()) {
            // An error means that the sender is gone, and with it the stall.
            drop(share.wait_for(|share| *share == 0.0).await);
        }
    }
}

fn hit(share: f64) -> bool {
    share > 0.0 && fastrand::f64() < share
}

const SHARE: Parameter = Parameter {
    name: "share",
    help: "share of the charges that are hit",
    min: 0.0,
    max: 1.0,
    default: 1.0,
};

const SLOW: Spec = Spec {
    name: "bank_slow",
    help: "charges take longer",
    parameters: &[
        Parameter {
            name: "factor",
            help: "how many times as long",
            min: 1.0,
            max: 1000.0,
            default: 5.0,
        },
        SHARE,
    ],
};

const FAILING: Spec = Spec {
    name: "bank_failing",
    help: "charges fail; nothing is charged",
    parameters: &[SHARE],
};

const STALLED: Spec = Spec {
    name: "bank_stalled",
    help: "charges are made and their answers held back",
    parameters: &[SHARE],
};

/// The shocks that set these conditions.
#[must_use]
pub fn shocks(conditions: &Arc<Conditions>) -> Shocks {
    let share = |values: Option<&Values>| values.map_or(0.0, |values| values["share"]);
    let (slow, failing, stalled) = (
        Arc::clone(conditions),
        Arc::clone(conditions),
        Arc::clone(conditions),
    );
    Shocks::none()
        .with(SLOW, move |values| {
            slow.slow_factor
                .set(values.map_or(1.0, |values| values["factor"]));
            slow.slow_share.set(share(values));
        })
        .with(FAILING, move |values| {
            failing.failing_share.set(share(values));
        })
        .with(STALLED, move |values| {
            stalled.stalled_share.send_replace(share(values));
        })
}
