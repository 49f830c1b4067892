//! Charge timeout: how long the shop waits for an answer about money.
//!
//! # The problem
//! A dependency can be slow without being down. Someone must decide when to stop waiting, and the default of
//! most clients is: never.
//!
//! # What breaks
//! A call that never ends fails nothing. It raises no error, so no error rate moves; it has no duration yet,
//! so no latency histogram moves. It only holds what it holds: a task, memory, perhaps a connection. The
//! user has long gone; the number of requests under way climbs without a bound.
//!
//! # Under load
//! Requests under way are arrivals a second times the time each one stays (Little's law). With one charge in
//! ten stalled and 30 orders a second, 3 more are stuck with each second that passes.
//!
//! # The cure
//! The caller says how long it will wait, and each attempt gets what is left of that, and never more than an
//! answer is worth. What is not known by then is answered as "unknown", and settled later from the
//! ledger: a timeout says nothing about whether the card was charged.
//!
//! # Who was bitten
//! The BBC in July 2014: a database was throttled, callers without a local fallback and with long waits
//! piled up behind it. "Gray Failure" (Huang et al., HotOS 2017) describes the class: the health check
//! says yes while the users say no.

use std::time::Duration;

use super::{Choice, ChoiceOption};

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "charge_timeout",
    &["shop"],
    "wait for the payment's answer for as long as it takes",
    "wait 500 ms at most, and never longer than the caller does",
    include_str!("charge_timeout.rs"),
);

/// The longest wait for one attempt: four times what a charge takes.
pub const ATTEMPT_MAX: Duration = Duration::from_millis(500);

/// How long one attempt may take, when the caller waits for `remaining` more; `None` is without an end.
#[must_use]
pub fn limit(option: ChoiceOption, remaining: Duration) -> Option<Duration> {
    match option {
        ChoiceOption::Poor => None,
        ChoiceOption::Sound => Some(remaining.min(ATTEMPT_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::Full;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::client::{Client, Error};

    /// Calls a peer that takes the connection and never answers.
    async fn call_a_stalled_peer(option: ChoiceOption, patience: Duration) -> Option<Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/charges", listener.local_addr().unwrap());
        let request = Request::post(url).body(Full::default()).unwrap();
        let client = Client::new();
        let call = client.send(request, limit(option, Duration::from_millis(50)));
        tokio::time::timeout(patience, call)
            .await
            .ok()
            .map(Result::unwrap_err)
    }

    #[tokio::test]
    async fn poor_is_still_waiting_long_after_the_caller_left() {
        assert_eq!(
            call_a_stalled_peer(ChoiceOption::Poor, Duration::from_secs(1)).await,
            None
        );
    }

    #[tokio::test]
    async fn sound_gives_up_when_the_caller_does() {
        let outcome = call_a_stalled_peer(ChoiceOption::Sound, Duration::from_secs(30)).await;
        assert!(matches!(outcome, Some(Error::Timeout(..))), "{outcome:?}");
    }

    #[test]
    fn sound_waits_no_longer_than_a_charge_is_worth() {
        assert_eq!(
            limit(ChoiceOption::Sound, Duration::from_secs(60)),
            Some(ATTEMPT_MAX)
        );
    }
}
