//! Tells an Alertmanager what fires and what is resolved.
//!
//! Rules hand alerts over and never wait: between them and the network is a queue with a bound. What does not fit or
//! does not arrive is counted and not tried again; whatever still fires is told again a minute later anyway.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::rules::Alert;
use super::time::{rfc3339, to_ms};
use crate::http::Client;
use crate::telemetry::catalog;

/// How often an alert that fires is told again.
pub const RESEND: Duration = Duration::from_secs(60);

/// How many alerts may wait to be told.
const QUEUE_MAX: usize = 1_000;

/// How many are told in one request.
const BATCH_MAX: usize = 64;

/// How long the Alertmanager may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where alerts are handed over.
#[derive(Debug)]
pub struct Notifier {
    queue: mpsc::Sender<Value>,
}

/// The other end of the queue.
#[derive(Debug)]
pub struct Messenger {
    queue: mpsc::Receiver<Value>,
    client: Client,
    url: String,
}

/// Makes the counters exist, also where there is nobody to tell.
pub(super) fn register_metrics() {
    for outcome in ["sent", "failed", "dropped"] {
        catalog::firedrill_judge_notifications_total(outcome).absolute(0);
    }
}

/// A notifier, and what carries its messages to the Alertmanager at `url`.
#[must_use]
pub fn to(url: &str) -> (Notifier, Messenger) {
    catalog::firedrill_queue_capacity("notifications").set(QUEUE_MAX as f64);
    catalog::firedrill_queue_depth("notifications").set(0.0);
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let messenger = Messenger {
        queue: receiver,
        client: Client::new(),
        url: format!("{url}/api/v2/alerts"),
    };
    (Notifier { queue: sender }, messenger)
}

impl Notifier {
    /// Hands an alert over. `interval` is that of its group: an alert that is not told again ends by itself after
    /// four times the longer of that and [`RESEND`]. `generator` is where its expression can be looked at.
    pub fn tell(&self, alert: &Alert, at: i64, interval: Duration, generator: &str) {
        let message = message(alert, at, interval, generator);
        if self.queue.try_send(message).is_err() {
            catalog::firedrill_judge_notifications_total("dropped").increment(1);
        }
        self.show_depth();
    }

    fn show_depth(&self) {
        let depth = self.queue.max_capacity() - self.queue.capacity();
        catalog::firedrill_queue_depth("notifications").set(depth as f64);
    }
}

fn message(alert: &Alert, at: i64, interval: Duration, generator: &str) -> Value {
    let ends_at = match alert.resolved_at {
        Some(resolved) => resolved,
        None => at + 4 * to_ms(interval.max(RESEND)),
    };
    let annotations = alert.annotations.iter();
    json!({
        "labels": alert.labels,
        "annotations": annotations.cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "startsAt": rfc3339(alert.fired_at.unwrap_or(alert.active_at)),
        "endsAt": rfc3339(ends_at),
        "generatorURL": generator,
    })
}

impl Messenger {
    /// Sends what is handed over until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut works = true;
        loop {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.queue.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
            }
            let depth = self.queue.len() as f64;
            catalog::firedrill_queue_depth("notifications").set(depth);
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = self.send(&batch) => result,
            };
            let outcome = if result.is_ok() { "sent" } else { "failed" };
            catalog::firedrill_judge_notifications_total(outcome).increment(batch.len() as u64);
            match result {
                Err(error) if works => {
                    tracing::warn!(target: "judge", error, "The Alertmanager cannot be told.");
                }
                Ok(()) if !works => {
                    tracing::info!(target: "judge", "The Alertmanager can be told again.");
                }
                _ => {}
            }
            works = outcome == "sent";
        }
    }

    async fn send(&self, batch: &[Value]) -> Result<(), String> {
        let body = Value::from(batch.to_vec()).to_string();
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(Bytes::from(body)))
            .map_err(|error| format!("{} cannot be asked: {error}", self.url))?;
        let answer = self.client.send(request, Some(PATIENCE)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(format!("{} answered {}", self.url, answer.status))
    }
}

#[cfg(test)]
mod tests {
    use promql::Labels;

    use super::*;
    use crate::judge::rules::load;

    fn firing() -> Alert {
        let rules = "groups: [{name: g, rules: [{alert: A, expr: '1', labels: {x: y}}]}]";
        let mut groups = load(rules, RESEND).unwrap();
        let store = std::sync::RwLock::new(promql::Store::new(promql::Limits::default()));
        let engine = promql::Engine::default();
        let mut due = groups[0].evaluate(&store, &engine, 5_000, RESEND).due;
        due.remove(0).1
    }

    #[test]
    fn a_message_says_when_it_began_and_when_it_ends() {
        let mut alert = firing();
        let told = message(&alert, 6_000, Duration::from_secs(1), "http://x");
        assert_eq!(told["startsAt"], "1970-01-01T00:00:05Z");
        assert_eq!(told["endsAt"], "1970-01-01T00:04:06Z");
        assert_eq!(told["labels"], json!({"alertname": "A", "x": "y"}));
        assert_eq!(told["generatorURL"], "http://x");
        assert_eq!(alert.labels, Labels::new([("alertname", "A"), ("x", "y")]));
        alert.resolved_at = Some(7_500);
        let told = message(&alert, 8_000, Duration::from_secs(1), "");
        assert_eq!(told["endsAt"], "1970-01-01T00:00:07.5Z");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_does_not_wait() {
        let (notifier, messenger) = to("http://127.0.0.1:1");
        let alert = firing();
        for _ in 0..2 * QUEUE_MAX {
            notifier.tell(&alert, 0, RESEND, "");
        }
        assert_eq!(messenger.queue.len(), QUEUE_MAX);
    }

    #[tokio::test]
    async fn nobody_at_the_other_end_is_an_error_in_words() {
        let (_, messenger) = to("http://127.0.0.1:1");
        let error = messenger.send(&[json!({})]).await.unwrap_err();
        assert!(error.contains("127.0.0.1:1"), "{error}");
    }
}
