//! A visitor who is no user: a crawler that asks for pages nobody ever linked to.
//!
//! It works through its list at a pace of its own, reads no answer twice and gives up on none for long. What becomes
//! of its requests is nobody's journey: no one was promised anything, so none of the users' metrics counts it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::control::shocks::{Parameter, Spec, Values};
use crate::http::{Client, client};

/// What the control plane knows of it.
pub(super) const SPEC: Spec = Spec {
    name: "crawler",
    help: "a crawler asks for pages that are not there",
    parameters: &[Parameter {
        name: "rate",
        help: "pages that it asks for in a second",
        min: 0.1,
        max: 200.0,
        default: 5.0,
    }],
};

/// Pages on its list. Scanners work through lists; this one is longer than what a role that counts by path keeps, and
/// short enough that whoever watches a lab for long can bear them all.
const PAGES: u64 = 1_200;

/// Its connections at the same time: it waits when all are busy, as crawlers do.
const CONNECTIONS_MAX: usize = 16;

/// After how long it gives up a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// How fast it goes; nothing, when it is not here.
#[derive(Debug)]
pub(super) struct Crawler(watch::Sender<Option<f64>>);

impl Crawler {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(None)))
    }

    /// It comes, goes faster or slower, or leaves.
    pub(super) fn set(&self, values: Option<&Values>) {
        self.0.send_replace(values.map(|values| values["rate"]));
    }

    /// Asks the server at `base` for one page after the other, whenever it is here.
    pub(super) async fn run(self: Arc<Self>, base: String) {
        let (client, places) = (Client::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let mut rate = self.0.subscribe();
        let mut due = Instant::now();
        for number in 0.. {
            let Some(place) = self.next(&mut rate, &mut due, &places).await else {
                return;
            };
            let (client, url) = (client.clone(), format!("{base}{}", page(number)));
            tokio::spawn(async move {
                visit(&client, &url).await;
                drop(place);
            });
        }
    }

    /// Waits until the next page is due and one of the `places` is free.
    async fn next(
        &self,
        rate: &mut watch::Receiver<Option<f64>>,
        due: &mut Instant,
        places: &Arc<Semaphore>,
    ) -> Option<tokio::sync::OwnedSemaphorePermit> {
        loop {
            let now = *rate.borrow_and_update();
            let Some(per_second) = now else {
                rate.changed().await.ok()?;
                *due = Instant::now();
                continue;
            };
            let next = *due + Duration::from_secs_f64(1.0 / per_second);
            tokio::select! {
                () = sleep_until(next) => {}
                changed = rate.changed() => {
                    changed.ok()?;
                    continue;
                }
            }
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            // What it could not ask for in time it does not make up for.
            *due = next.max(Instant::now() - Duration::from_secs_f64(1.0 / per_second));
            return Some(place);
        }
    }
}

/// The page with this place on its list, which begins anew at its end. The names look made up, and are the same in
/// each run.
fn page(number: u64) -> String {
    let name = fastrand::Rng::with_seed(number % PAGES).u64(..);
    format!("/pages/{name:016x}")
}

async fn visit(client: &Client, url: &str) {
    let request = Request::get(url).body(Full::default());
    let request = request.expect("the URL was checked at start");
    let answer: Result<client::Answer, _> = client.send(request, Some(PATIENCE)).await;
    // It was there for the asking, not for the answer.
    drop(answer);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn its_list_is_long_and_ends() {
        let pages = |from: u64| (from..from + PAGES).map(page).collect::<BTreeSet<_>>();
        assert_eq!(pages(0).len(), 1_200);
        assert_eq!(pages(0), pages(123));
    }

    async fn pages_in(crawler: &Arc<Crawler>, time: Duration) -> u32 {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut rate = crawler.0.subscribe();
        let (mut due, mut number) = (Instant::now(), 0);
        let visiting = async {
            while crawler.next(&mut rate, &mut due, &places).await.is_some() {
                number += 1;
            }
        };
        drop(tokio::time::timeout(time, visiting).await);
        number
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_its_pace_and_comes_only_when_it_is_sent() {
        let crawler = Crawler::new();
        let minute = Duration::from_millis(60_001);
        assert_eq!(pages_in(&crawler, minute).await, 0);
        crawler.set(Some(&Values::from([("rate", 50.0)])));
        assert_eq!(pages_in(&crawler, minute).await, 3_000);
        crawler.set(None);
        assert_eq!(pages_in(&crawler, minute).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_while_all_its_connections_are_busy() {
        let crawler = Crawler::new();
        crawler.set(Some(&Values::from([("rate", 200.0)])));
        let places = Arc::new(Semaphore::new(1));
        let (mut rate, mut due) = (crawler.0.subscribe(), Instant::now());
        let held = crawler.next(&mut rate, &mut due, &places).await;
        assert!(held.is_some());
        let waiting = crawler.next(&mut rate, &mut due, &places);
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_err());
    }
}
