//! Scrapes every target once per interval.
//!
//! Each target has a task of its own, so that one that hangs costs its own scrape and nothing else. What touches the
//! store does so on a thread for blocking work: a query may hold the store for a while, and the page must not wait
//! for that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Request, header};
use http_body_util::Full;
use promql::{Limits, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ingest::{Fault, Ingest, Metadata, Report};
use super::time::{Beat, now_ms};
use crate::http::Client;
use crate::telemetry::catalog;

/// The job that every target belongs to: the rules ask for this name.
pub const JOB: &str = "firedrill";

/// How late a scrape may begin and still get the time that was meant. As in Prometheus: equal distances compress
/// better and give calmer rates.
const ALIGNED_WITHIN_MS: i64 = 2;

/// What a target that follows the rules of the format says that it sends.
const TEXT: &str = "text/plain";

/// A process to scrape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Host and port of its control plane; the label `instance`.
    pub instance: String,
    /// The label `role`.
    pub role: String,
}

impl Target {
    /// The labels that its series carry.
    #[must_use]
    pub fn labels(&self) -> [(&'static str, &str); 3] {
        [
            ("instance", &self.instance),
            ("job", JOB),
            ("role", &self.role),
        ]
    }

    /// Where its metrics are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.instance)
    }
}

/// How a target did at last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Whether the last scrape succeeded; `None` before the first.
    pub up: Option<bool>,
    /// Why it did not, empty if it did.
    pub error: String,
    /// When it began, in milliseconds since 1970.
    pub at: i64,
    /// How long it took.
    pub duration: Duration,
}

#[derive(Debug)]
struct Scraped {
    ingest: Mutex<Ingest>,
    health: Mutex<Health>,
    stop: CancellationToken,
}

/// Every target, and what scrapes it.
#[derive(Debug)]
pub struct Scraper {
    store: Arc<RwLock<Store>>,
    /// How full the store may be and still take scraped samples.
    room: Limits,
    client: Client,
    interval: Duration,
    timeout: Duration,
    targets: Mutex<BTreeMap<Target, Arc<Scraped>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scraper {
    /// Scrapes into `store` every `interval`, as long as it holds less than `room`. A target has nine tenths of the
    /// interval to answer.
    #[must_use]
    pub fn new(store: Arc<RwLock<Store>>, room: Limits, interval: Duration) -> Self {
        for outcome in ["ok", "failed", "refused"] {
            catalog::firedrill_judge_scrapes_total(outcome).absolute(0);
        }
        catalog::firedrill_judge_samples_total("kept").absolute(0);
        catalog::firedrill_judge_samples_total("dropped").absolute(0);
        Self {
            store,
            room,
            client: Client::new(),
            interval,
            timeout: interval * 9 / 10,
            targets: Mutex::default(),
        }
    }

    /// How often a target is scraped, and how long it may take.
    #[must_use]
    pub fn pace(&self) -> (Duration, Duration) {
        (self.interval, self.timeout)
    }

    /// Every target and how it did at last.
    #[must_use]
    pub fn targets(&self) -> Vec<(Target, Health)> {
        let targets = lock(&self.targets);
        let one = |(target, scraped): (&Target, &Arc<Scraped>)| {
            (target.clone(), lock(&scraped.health).clone())
        };
        targets.iter().map(one).collect()
    }

    /// What the targets say of their metrics: by name, each text once. May wait for a scrape to be written.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, Vec<Metadata>> {
        let scraped: Vec<_> = lock(&self.targets).values().cloned().collect();
        let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
        for one in scraped {
            for (name, told) in lock(&one.ingest).metadata() {
                let of_name = all.entry(name.to_owned()).or_default();
                if !of_name.contains(&told) {
                    of_name.push(told);
                }
            }
        }
        all
    }

    /// Scrapes what `wanted` names, also as it changes, until `stop` is cancelled.
    pub async fn run(
        self: Arc<Self>,
        mut wanted: watch::Receiver<Vec<Target>>,
        stop: CancellationToken,
    ) {
        let mut watchers = Watchers::default();
        loop {
            let targets = wanted.borrow_and_update().clone();
            self.change(&targets, &mut watchers, &stop);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = wanted.changed() => if changed.is_err() {
                    // Nobody will name others.
                    stop.cancelled().await;
                    break;
                },
            }
        }
        watchers.tasks.close();
        watchers.tasks.wait().await;
    }

    fn change(
        self: &Arc<Self>,
        wanted: &[Target],
        watchers: &mut Watchers,
        stop: &CancellationToken,
    ) {
        let mut targets = lock(&self.targets);
        targets.retain(|target, scraped| {
            let stays = wanted.contains(target);
            if !stays {
                scraped.stop.cancel();
            }
            stays
        });
        for target in wanted {
            if targets.contains_key(target) {
                continue;
            }
            let labels = target.labels();
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let scraped = Arc::new(Scraped {
                ingest: Mutex::new(Ingest::new(labels.into(), self.room)),
                health: Mutex::default(),
                stop: stop.child_token(),
            });
            targets.insert(target.clone(), Arc::clone(&scraped));
            let watching = Arc::clone(self).watch(target.clone(), scraped);
            watchers.start(target, watching);
        }
    }

    /// Scrapes one target until it is to stop.
    async fn watch(self: Arc<Self>, target: Target, scraped: Arc<Scraped>) {
        self.touch(&scraped, |ingest, store| {
            ingest.begin(&mut store.write().unwrap_or_else(PoisonError::into_inner));
        })
        .await;
        let mut beat = Beat::new(self.interval, &target.instance);
        let stop = &scraped.stop;
        while let Some((meant, _)) = stop.run_until_cancelled(beat.next()).await {
            let (now, began) = (now_ms(), Instant::now());
            let late = now - meant;
            let aligned = (0..=ALIGNED_WITHIN_MS).contains(&late);
            let at = if aligned { meant } else { now };
            let Some(body) = stop.run_until_cancelled(self.fetch(&target)).await else {
                break;
            };
            let writing = Writing {
                store: Arc::clone(&self.store),
                scraped: Arc::clone(&scraped),
                target: target.clone(),
                at,
                began,
            };
            // Not cut short: what is still being written would come after the end.
            let written = tokio::task::spawn_blocking(move || writing.write(&body)).await;
            if let Err(error) = written {
                tracing::error!(target: "judge", error = %error, "A scrape could not be written.");
            }
        }
        self.touch(&scraped, |ingest, store| ingest.end(store, now_ms()))
            .await;
    }

    async fn touch(
        &self,
        scraped: &Arc<Scraped>,
        work: impl FnOnce(&mut Ingest, &RwLock<Store>) + Send + 'static,
    ) {
        let (store, scraped) = (Arc::clone(&self.store), Arc::clone(scraped));
        let work = tokio::task::spawn_blocking(move || work(&mut lock(&scraped.ingest), &store));
        // The process may be about to end, and then nobody asks any more.
        drop(work.await);
    }

    async fn fetch(&self, target: &Target) -> Result<Bytes, String> {
        let request = Request::get(target.url())
            .header(header::ACCEPT, "text/plain;version=0.0.4")
            .body(Full::default())
            .map_err(|error| format!("{} cannot be asked: {error}", target.url()))?;
        let answer = self.client.send(request, Some(self.timeout)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != axum::http::StatusCode::OK {
            return Err(format!("server returned HTTP status {}", answer.status));
        }
        let kind = answer.headers.get(header::CONTENT_TYPE);
        match kind.map(|kind| String::from_utf8_lossy(kind.as_bytes())) {
            Some(kind) if !kind.starts_with(TEXT) => {
                Err(format!("the content type is {kind:?}, not {TEXT}"))
            }
            _ => Ok(answer.body),
        }
    }
}

/// What scrapes the targets.
#[derive(Default)]
struct Watchers {
    tasks: TaskTracker,
    /// The last task of each target, also of one that is none any more.
    last: HashMap<Target, JoinHandle<()>>,
}

impl Watchers {
    /// Begins when the task before it has ended, if there is one: that one marks the target's series as gone, and
    /// the mark must not come after the first samples of this one.
    fn start(&mut self, target: &Target, watching: impl Future<Output = ()> + Send + 'static) {
        self.last.retain(|_, task| !task.is_finished());
        let before = self.last.remove(target);
        let task = self.tasks.spawn(async move {
            if let Some(before) = before {
                // However it ended.
                drop(before.await);
            }
            watching.await;
        });
        self.last.insert(target.clone(), task);
    }
}

/// A scrape that has come to its end, to be written.
struct Writing {
    store: Arc<RwLock<Store>>,
    scraped: Arc<Scraped>,
    target: Target,
    at: i64,
    began: Instant,
}

impl Writing {
    fn write(self, body: &Result<Bytes, String>) {
        let answer = body.as_deref().map_err(Clone::clone);
        let outcome = lock(&self.scraped.ingest).take(&self.store, answer, self.at, self.began);
        let (report, counts) = (outcome.report, outcome.report.counts);
        let kept = if report.up {
            counts.scraped - counts.refused
        } else {
            0
        };
        let refused = counts.refused + outcome.report_refused;
        catalog::firedrill_judge_samples_total("kept").increment(kept as u64);
        catalog::firedrill_judge_samples_total("dropped").increment(refused as u64);
        let (word, error) = match outcome.result {
            Ok(()) => ("ok", String::new()),
            Err(fault @ Fault::Failed(_)) => ("failed", fault.to_string()),
            Err(fault @ Fault::Refused(_)) => ("refused", fault.to_string()),
        };
        catalog::firedrill_judge_scrapes_total(word).increment(1);
        self.note(report, error);
    }

    /// Keeps how it went, and tells the log when that changes.
    fn note(&self, report: Report, error: String) {
        let mut health = lock(&self.scraped.health);
        if health.up != Some(report.up) {
            let instance = self.target.instance.as_str();
            if report.up {
                tracing::info!(target: "judge", instance, "A target answers.");
            } else {
                tracing::warn!(target: "judge", instance, error, "A target could not be scraped.");
            }
        }
        *health = Health {
            up: Some(report.up),
            error,
            at: self.at,
            duration: report.duration,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_that_comes_back_is_watched_after_its_end() {
        let target = Target {
            instance: "a:1".into(),
            role: "shop".into(),
        };
        let mut watchers = Watchers::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let told = Arc::new(Mutex::new(Vec::new()));
        let first = Arc::clone(&told);
        watchers.start(&target, async move {
            drop(ended.await);
            lock(&first).push("the end of the first");
        });
        let second = Arc::clone(&told);
        watchers.start(&target, async move {
            lock(&second).push("the second");
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(lock(&told).is_empty(), "it did not wait");
        end.send(()).unwrap();
        watchers.tasks.close();
        watchers.tasks.wait().await;
        assert_eq!(*lock(&told), ["the end of the first", "the second"]);
        watchers.start(&target, async {});
        assert_eq!(watchers.last.len(), 1);
    }
}
