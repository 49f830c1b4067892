//! The state of the lab, looked at once a second and kept for whoever asks.
//!
//! The page is drawn from memory: with ten pages open the roles are asked as often as with one, and a page
//! that has just been opened shows the last three minutes at once. All questions of one look together have less
//! than a second, so that a role that hangs is shown as hanging and holds up nothing else.
//!
//! Nothing here tells which choices are poor or which shocks are under way: to find out is the exercise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::alerts::{self, Alerts};
use super::changes;
use super::places::{Place, Source};
use super::report::{HISTORY_S, History, Point, Report, Window, promise_s};
use crate::http::Client;
use crate::judge::scrape::Target;

/// How long one look may wait for answers.
const PATIENCE: Duration = Duration::from_millis(900);

/// For how long the last report still counts as the present, in seconds.
const REPORT_AGE_MAX_S: f64 = 5.0;

/// What the page shows of the lab.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// When this was found out, in seconds since the epoch.
    pub at_s: f64,
    /// What is missing and what to do about it, in a sentence.
    pub notice: Option<String>,
    /// What fires or is about to.
    pub alerts: Alerts,
    /// Each process of the lab.
    pub roles: Vec<Role>,
    /// What users get now; `null` while traffic says nothing.
    pub window: Option<Current>,
    /// What users got, second by second.
    pub history: Vec<Point>,
    /// How far back the history goes, in seconds.
    pub history_s: u32,
    /// What was changed in that time.
    pub changes: Vec<changes::Shown>,
}

/// One process of the lab.
#[derive(Debug, Clone, Serialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its process; 0 while it is down, `null` where that is not known.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Which version of it runs; `null` where it does not say.
    pub version: Option<String>,
    /// Whether it says that it can do its work.
    pub ready: bool,
    /// `ready`, `not ready`, `no answer` or `down`.
    pub state: &'static str,
    /// Where its data plane listens.
    pub data: Option<String>,
    /// Where its control plane listens.
    pub control: String,
}

/// What users get now.
#[derive(Debug, Clone, Serialize)]
pub struct Current {
    /// The length of the window, in seconds.
    pub seconds: f64,
    /// All journeys together.
    pub total: Window,
    /// Each journey.
    pub journeys: BTreeMap<String, Served>,
}

/// What users of one journey get now.
#[derive(Debug, Clone, Serialize)]
pub struct Served {
    /// What they get.
    #[serde(flatten)]
    pub window: Window,
    /// How long 99 % of the good ones may take, in seconds; `null` where nothing is promised.
    pub promise_s: Option<f64>,
}

/// Looks at a lab.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    source: Source,
    token: Option<String>,
    alerts: Option<alerts::Source>,
    /// The control plane of this console, where nobody else names it.
    own: Option<String>,
    targets: watch::Sender<Vec<Target>>,
    latest: Mutex<Arc<Status>>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
struct Memory {
    history: History,
    report: Option<(f64, Report)>,
    changes: changes::Memory,
}

impl Watch {
    /// A watch of the roles that `source` names, with the token of their control planes.
    #[must_use]
    pub fn new(source: Source, token: Option<String>) -> Self {
        Self {
            client: Client::new(),
            source,
            token,
            alerts: None,
            own: None,
            targets: watch::Sender::default(),
            latest: Mutex::default(),
        }
    }

    /// Also tells what fires.
    #[must_use]
    pub fn with_alerts(mut self, source: alerts::Source) -> Self {
        self.alerts = Some(source);
        self
    }

    /// Counts this console, whose control plane is at `control`, among the roles if nobody else does: who watches
    /// must be watched.
    #[must_use]
    pub fn with_itself(mut self, control: String) -> Self {
        self.own = Some(control);
        self
    }

    /// Where the roles are, now. Reads a file.
    pub async fn places(&self) -> (Vec<Place>, Option<String>) {
        let source = self.source.clone();
        let reading = tokio::task::spawn_blocking(move || source.places());
        let (mut places, notice) = reading.await.unwrap_or_default();
        let known = places.iter().any(|place| place.role == "console");
        if let (Some(own), false) = (&self.own, known || places.is_empty()) {
            places.push(Place::this_console(own));
        }
        (places, notice)
    }

    /// What is to be scraped, also as it changes.
    #[must_use]
    pub fn targets(&self) -> watch::Receiver<Vec<Target>> {
        self.targets.subscribe()
    }

    /// What was last seen.
    #[must_use]
    pub fn latest(&self) -> Arc<Status> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks every second until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut memory = Memory::default();
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let looking = async {
            loop {
                tick.tick().await;
                let status = Arc::new(self.look(&mut memory).await);
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = status;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looking => {}
        }
    }

    async fn look(&self, memory: &mut Memory) -> Status {
        let (places, mut notice) = self.places().await;
        self.tell_targets(&places);
        let deadline = Instant::now() + PATIENCE;
        let traffic = places
            .iter()
            .find(|place| place.role == "traffic" && place.pid != Some(0));
        let listening = async {
            match traffic {
                Some(traffic) => self.listen(&traffic.control, memory, deadline).await,
                None => Err("Nobody plays the users: traffic is not running.".to_owned()),
            }
        };
        let alerts = async {
            match &self.alerts {
                Some(source) => timeout_at(deadline, source.look())
                    .await
                    .unwrap_or_else(|_| Alerts {
                        error: Some("The alerts are not known: who judges takes too long.".into()),
                        ..Alerts::default()
                    }),
                None => Alerts::default(),
            }
        };
        let (seen, heard, alerts) = tokio::join!(self.roles(&places, deadline), listening, alerts);
        let (roles, told): (Vec<Role>, Vec<_>) = seen.into_iter().unzip();
        for (role, told) in roles.iter().zip(told) {
            memory.changes.add(&role.name, &told.unwrap_or_default());
        }
        if let (Err(silence), None) = (heard, &notice) {
            notice = Some(silence);
        }
        let at_s = now_s();
        Status {
            at_s,
            notice,
            alerts,
            roles,
            window: memory.current(at_s),
            history: memory.history.since(at_s),
            history_s: HISTORY_S,
            changes: memory.changes.lately(at_s),
        }
    }

    fn tell_targets(&self, places: &[Place]) {
        let targets: Vec<_> = places
            .iter()
            .map(|place| Target {
                instance: place.control.clone(),
                role: place.role.clone(),
            })
            .collect();
        self.targets.send_if_modified(|now| {
            let changed = *now != targets;
            if changed {
                *now = targets;
            }
            changed
        });
    }

    /// Asks every role at the same time whether it is ready, and what was changed.
    async fn roles(
        &self,
        places: &[Place],
        deadline: Instant,
    ) -> Vec<(Role, Option<changes::Told>)> {
        let asked: Vec<_> = places
            .iter()
            .map(|place| {
                let (client, control) = (self.client.clone(), place.control.clone());
                let token = self.token.clone();
                let told = changes::ask(client.clone(), control.clone(), token, deadline);
                let state = state(client, place.pid, control, deadline);
                tokio::spawn(async { tokio::join!(state, told) })
            })
            .collect();
        let mut roles = Vec::with_capacity(places.len());
        for (place, asked) in places.iter().cloned().zip(asked) {
            let (state, told) = asked.await.unwrap_or(("no answer", None));
            let role = Role {
                name: place.name,
                role: place.role,
                pid: place.pid,
                restarts: place.restarts,
                version: told.as_ref().map(|told| told.service_version.clone()),
                ready: state == "ready",
                state,
                data: place.data,
                control: place.control,
            };
            roles.push((role, told));
        }
        roles
    }

    /// Asks traffic for its last seconds, and for those in between if some were missed.
    async fn listen(
        &self,
        traffic: &str,
        memory: &mut Memory,
        deadline: Instant,
    ) -> Result<(), String> {
        let report = self.report(traffic, None, deadline).await?;
        memory.history.note_clock(now_s(), report.now_s);
        if let Some(since_s) = memory.history.gap_before(&report) {
            // Without an answer the charts have a gap; the present is still worth showing.
            if let Ok(missed) = self.report(traffic, Some(since_s), deadline).await {
                memory.history.add(&missed);
            }
        }
        memory.history.add(&report);
        memory.report = Some((now_s(), report));
        Ok(())
    }

    async fn report(
        &self,
        traffic: &str,
        since_s: Option<f64>,
        deadline: Instant,
    ) -> Result<Report, String> {
        let since = since_s.map(|since| format!("?since={since}"));
        let url = format!("http://{traffic}/report{}", since.unwrap_or_default());
        let asking = self.client.get_json(&url, self.token.as_deref());
        match timeout_at(deadline, asking).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(format!("Traffic does not report: {error}.")),
            Err(_) => Err("Traffic does not report: it takes too long to answer.".into()),
        }
    }
}

impl Memory {
    fn current(&self, at_s: f64) -> Option<Current> {
        let (heard_s, report) = self.report.as_ref()?;
        let seconds = report.until_s - report.since_s;
        (at_s - heard_s <= REPORT_AGE_MAX_S && seconds > 0.0).then(|| Current {
            seconds,
            total: report.total.clone(),
            journeys: report.journeys.iter().map(served).collect(),
        })
    }
}

fn served((name, window): (&String, &Window)) -> (String, Served) {
    let served = Served {
        window: window.clone(),
        promise_s: promise_s(name),
    };
    (name.clone(), served)
}

async fn state(
    client: Client,
    pid: Option<u32>,
    control: String,
    deadline: Instant,
) -> &'static str {
    if pid == Some(0) {
        return "down";
    }
    let url = format!("http://{control}/readyz");
    let Ok(request) = Request::get(url).body(Full::<Bytes>::default()) else {
        return "no answer";
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match client.send(request, Some(left)).await {
        Ok(answer) if answer.status.is_success() => "ready",
        Ok(_) => "not ready",
        Err(_) => "no answer",
    }
}

fn now_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use serde_json::{Value, json};

    use super::*;
    use crate::control::lab::{Lab, Member};
    use crate::http::server::{Limits, serve};

    const WINDOW: &str = r#"{"offered":1000,"good":990,"bad":10,"offered_per_s":100,"good_per_s":99,
        "p50_s":0.004,"p99_s":0.2,"max_s":0.3,"errors":{"503":10}}"#;

    /// A control plane of traffic that wants the token `secret` and has run for 100 s.
    async fn traffic(stop: CancellationToken) -> SocketAddr {
        let report = async |headers: HeaderMap, uri: axum::http::Uri| {
            if headers
                .get("authorization")
                .is_none_or(|sent| sent != "Bearer secret")
            {
                return Err(StatusCode::UNAUTHORIZED);
            }
            let window: Value = serde_json::from_str(WINDOW).unwrap();
            let since = uri.query().map_or(90, |query| query[6..].parse().unwrap());
            let seconds: Vec<_> = (since..100)
                .map(|at| json!({"at_s": at, "total": window}))
                .collect();
            Ok(axum::Json(
                json!({"now_s": 103.2, "since_s": since, "until_s": 100,
                "total": window, "journeys": {"order": window}, "seconds": seconds}),
            ))
        };
        let router = Router::new()
            .route("/readyz", get(async || StatusCode::SERVICE_UNAVAILABLE))
            .route("/report", get(report));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, Limits::default(), stop));
        address
    }

    fn lab(traffic: SocketAddr, pid: u32) -> Lab {
        let member = |name: &str, control, pid| Member {
            name: name.into(),
            role: name.into(),
            pid,
            data: None,
            control,
            restarts: 2,
        };
        // Nobody listens on port 1.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        Lab {
            pid,
            members: vec![
                member("shop", nobody, 7),
                member("payments", nobody, 0),
                member("traffic", traffic, 8),
            ],
        }
    }

    #[tokio::test]
    async fn a_lab_is_seen_with_the_history_before_the_first_look() {
        let stop = CancellationToken::new();
        let dir = tempfile::tempdir().unwrap();
        let traffic = traffic(stop.clone()).await;
        lab(traffic, std::process::id()).write(dir.path()).unwrap();
        let watch = Watch::new(
            Source::Lab(dir.path().join(Lab::FILE)),
            Some("secret".into()),
        );
        let status = watch.look(&mut Memory::default()).await;
        assert_eq!(status.notice, None);
        let seen: Vec<_> = status.roles.iter().map(|role| role.state).collect();
        assert_eq!(seen, ["no answer", "down", "not ready"]);
        assert_eq!(status.history.len(), 100);
        let current = status.window.unwrap();
        assert_eq!(current.total.errors["503"], 10);
        let told = json!(current.journeys["order"]);
        assert_eq!(
            (&told["promise_s"], &told["bad"]),
            (&0.5.into(), &10.into())
        );
        stop.cancel();
    }

    #[tokio::test]
    async fn roles_without_a_lab_are_watched_by_name() {
        let stop = CancellationToken::new();
        let port = traffic(stop.clone()).await.port();
        let targets = [
            "shop=http://localhost:1".to_owned(),
            format!("traffic=http://localhost:{port}"),
        ];
        let targets = targets.iter().map(|text| text.parse().unwrap()).collect();
        let watch = Watch::new(Source::Given(targets), Some("secret".into()));
        let status = watch.look(&mut Memory::default()).await;
        assert_eq!(status.notice, None);
        let seen: Vec<_> = status.roles.iter().map(|role| role.state).collect();
        assert_eq!(seen, ["no answer", "not ready"]);
        assert_eq!(json!(status.roles[0])["pid"], Value::Null);
        assert!(status.window.is_some());
        stop.cancel();
    }

    #[tokio::test]
    async fn what_is_missing_is_said() {
        let stop = CancellationToken::new();
        let dir = tempfile::tempdir().unwrap();
        let notice = async |dir: Option<&Path>| {
            let source = dir.map_or(Source::Nobody, |dir| Source::Lab(dir.into()));
            let watch = Watch::new(source, None);
            let status = watch.look(&mut Memory::default()).await;
            assert!(status.window.is_none());
            status.notice.unwrap()
        };
        assert!(notice(None).await.contains("--lab"));
        assert!(notice(Some(dir.path())).await.contains("no lab"));
        // 0 is no process's number.
        let traffic = traffic(stop.clone()).await;
        lab(traffic, 0).write(dir.path()).unwrap();
        assert!(notice(Some(dir.path())).await.contains("has ended"));
        lab(traffic, std::process::id()).write(dir.path()).unwrap();
        assert!(notice(Some(dir.path())).await.contains("does not report"));
        std::fs::write(dir.path().join(Lab::FILE), "{").unwrap();
        assert!(notice(Some(dir.path())).await.contains("cannot be read"));
        stop.cancel();
    }

    #[test]
    fn an_old_report_is_not_the_present() {
        let report: Report = serde_json::from_value(json!({"now_s": 13, "since_s": 0, "until_s": 10,
            "total": serde_json::from_str::<Value>(WINDOW).unwrap(), "journeys": {}, "seconds": []}))
        .unwrap();
        let memory = Memory {
            report: Some((1000.0, report)),
            ..Memory::default()
        };
        assert!(memory.current(1003.0).is_some());
        assert!(memory.current(1006.0).is_none());
    }
}
