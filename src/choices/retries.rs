//! Retries: what a caller does when an attempt fails.
//!
//! # The problem
//! One attempt in a thousand fails for a reason that is gone a moment later: a dropped connection, a busy
//! replica. Trying again hides it from the user, so everyone does it.
//!
//! # What breaks
//! A retry is load, and it is sent exactly when the peer has none to spare. If each call makes up to three
//! attempts, a peer that was at 60 % of its capacity is offered 180 % as soon as it fails. Its queue fills,
//! every attempt waits longer than its caller does, so every attempt fails, so every call makes three. The
//! spike that started it may be long over: the retries alone keep the peer down. Such an outage is called
//! metastable. A restart of the caller or of the peer empties the queue, and the next spike brings it back.
//!
//! # Under load
//! The trap is open when `rate < capacity < rate x attempts` and a full queue lasts longer than the
//! caller's timeout. Then the peer works at full speed, reports success, and nobody is there to read it.
//!
//! # The cure
//! A budget: each call earns a tenth of a retry, and a retry is only made while some are left. In normal
//! times that hides single failures; in an outage it caps the extra load at 10 %. Around it, a pause that
//! doubles and is random (callers that failed together must not come back together), and a look at the
//! deadline: an attempt that cannot end in time is not begun.
//!
//! # Who was bitten
//! More than half of the metastable failures collected by Huang et al., "Metastable Failures in the Wild"
//! (OSDI 2022), are sustained by retries; AWS us-east-1 in December 2021
//! (<https://aws.amazon.com/message/12721/>) is one of many.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Choice, ChoiceOption};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "retries",
    &["shop"],
    "three attempts, each at once",
    "a budget of 10 %, a random pause, and a look at the deadline",
    include_str!("retries.rs"),
);

/// The most attempts that one call makes.
pub const ATTEMPTS_MAX: u32 = 3;

/// The longest first pause; it doubles with each attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// Tells a failure that may be gone at the next attempt from one that will not.
pub trait Transient {
    /// Whether another attempt can bring another result.
    fn is_transient(&self) -> bool;
}

/// Why a further attempt was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The budget is spent: too many calls fail at the moment.
    Budget,
    /// The caller would be gone before the answer.
    Deadline,
}

/// Makes attempts until one succeeds, fails for good, or no more are allowed. `attempt` is given its
/// number, from 0; `withheld` hears of an attempt that was not made.
pub async fn call<T, E: Transient, A: Future<Output = Result<T, E>>>(
    option: ChoiceOption,
    budget: &Budget,
    deadline: Instant,
    mut attempt: impl FnMut(u32) -> A,
    mut withheld: impl FnMut(Withheld),
) -> Result<T, E> {
    budget.earn();
    let mut number = 0;
    loop {
        let result = attempt(number).await;
        number += 1;
        match &result {
            Err(error) if error.is_transient() && number < ATTEMPTS_MAX => {}
            _ => return result,
        }
        match option {
            ChoiceOption::Poor => {}
            ChoiceOption::Sound => {
                let pause = PAUSE.mul_f64(f64::from(1 << (number - 1)) * fastrand::f64());
                if Instant::now() + pause >= deadline {
                    withheld(Withheld::Deadline);
                    return result;
                }
                if !budget.spend() {
                    withheld(Withheld::Budget);
                    return result;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// How many retries may still be made, over all calls to one peer.
#[derive(Debug)]
pub struct Budget {
    tokens: Mutex<f64>,
}

/// What one call adds to the budget: one retry for each ten calls.
const EARNED: f64 = 0.1;

/// The most that is saved up, so that a quiet hour does not pay for a storm.
const SAVED_MAX: f64 = 10.0;

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tokens: Mutex::new(SAVED_MAX),
        }
    }

    fn earn(&self) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens = (*tokens + EARNED).min(SAVED_MAX);
    }

    fn spend(&self) -> bool {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        allowed
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Down;

    impl Transient for Down {
        fn is_transient(&self) -> bool {
            true
        }
    }

    /// The attempts that 1000 calls make against a peer that is down.
    async fn attempts_on_a_dead_peer(option: ChoiceOption) -> u32 {
        let budget = Budget::new();
        let mut attempts = 0;
        for _ in 0..1000 {
            let deadline = Instant::now() + Duration::from_secs(2);
            let attempt = |_| {
                attempts += 1;
                async { Err::<(), Down>(Down) }
            };
            call(option, &budget, deadline, attempt, |_| {})
                .await
                .unwrap_err();
        }
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn poor_triples_the_load_on_a_peer_that_is_down() {
        assert_eq!(attempts_on_a_dead_peer(ChoiceOption::Poor).await, 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn sound_adds_a_tenth() {
        let attempts = attempts_on_a_dead_peer(ChoiceOption::Sound).await;
        assert!(
            (1000..=1111).contains(&attempts),
            "{attempts} attempts for 1000 calls"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn both_hide_a_single_failure() {
        for option in [ChoiceOption::Poor, ChoiceOption::Sound] {
            let deadline = Instant::now() + Duration::from_secs(2);
            let attempt = |number| async move { if number == 0 { Err(Down) } else { Ok(number) } };
            let answer = call(option, &Budget::new(), deadline, attempt, |_| {}).await;
            assert_eq!(answer.unwrap(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sound_begins_no_attempt_that_cannot_end_in_time() {
        let mut heard = Vec::new();
        let deadline = Instant::now();
        let attempt = |_| async { Err::<(), Down>(Down) };
        call(
            ChoiceOption::Sound,
            &Budget::new(),
            deadline,
            attempt,
            |why| heard.push(why),
        )
        .await
        .unwrap_err();
        assert_eq!(heard, [Withheld::Deadline]);
    }
}
