//! Questions to the store.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use promql::{
    Engine, Labels, Loaded, Matcher, Options, Query, QueryError, Store, Value, parse_selector,
};
use serde::Serialize;

use super::envelope::{Failure, Success, TRUNCATED, Written};
use super::parameters::Parameters;
use crate::judge::time::to_ms;
use crate::judge::{Judge, SAMPLES_MAX};

/// How long a question may take. Others wait only while what it asks for is copied out of the store.
const QUERY_TIME_MAX: Duration = Duration::from_secs(10);

/// The most selectors of one question about series.
const SELECTORS_MAX: usize = 64;

type Answer = Result<Written, Failure>;

/// `/api/v1/query`: the value of an expression at one time.
pub(super) async fn instant(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer {
    let bounds = (timeout(&asked)?, asked.limit()?);
    let at = asked.time_or_now("time")?;
    evaluated(judge, asked, bounds, move |loaded| loaded.instant(at)).await
}

/// `/api/v1/query_range`: the values of an expression over some time.
pub(super) async fn range(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer {
    let bounds = (timeout(&asked)?, asked.limit()?);
    let of = |name: &str| {
        asked.required(name)?;
        asked.time_or_now(name)
    };
    let (start, end) = (of("start")?, of("end")?);
    asked.required("step")?;
    let step = to_ms(asked.duration("step")?.unwrap_or_default());
    if end < start {
        return Err(Failure::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    if step == 0 {
        let why = "zero or negative query resolution step widths are not accepted. \
                   Try a positive integer";
        return Err(Failure::parameter("step", why));
    }
    let value = evaluated(judge, asked, bounds, move |loaded| {
        loaded.range(start, end, step)
    });
    value.await
}

/// What `evaluate` makes of the query that is asked for, within its timeout and its limit.
async fn evaluated(
    judge: Arc<Judge>,
    asked: Parameters,
    (timeout, limit): (Duration, usize),
    evaluate: impl FnOnce(&Loaded<'_>) -> Result<Value, QueryError> + Send + 'static,
) -> Answer {
    let value = ask(judge, timeout, move |judge, deadline| {
        let query = parsed(&asked)?;
        let engine = engine(judge, &asked, deadline)?;
        let loaded = judge.reading(|store| engine.load(store, &query));
        let value = evaluate(&loaded).map_err(|error| failed(error, timeout))?;
        Ok(cut(value, limit))
    });
    value.await
}

/// `/api/v1/series`: the series that match.
pub(super) async fn series(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer {
    if asked.all("match[]").next().is_none() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let found = matching::<Labels>(judge, asked, |store, selectors, from, to| {
        store.series(selectors, from, to)
    });
    found.await
}

/// `/api/v1/labels`: the names of labels.
pub(super) async fn labels(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer {
    let found = matching::<String>(judge, asked, |store, selectors, from, to| {
        store.label_names(selectors, from, to)
    });
    found.await
}

/// `/api/v1/label/{name}/values`: the values of a label.
pub(super) async fn label_values(
    State(judge): State<Arc<Judge>>,
    name: Result<Path<String>, PathRejection>,
    asked: Parameters,
) -> Answer {
    let Ok(Path(name)) = name else {
        return Err(Failure::bad_data("invalid label name: it is not UTF-8"));
    };
    let found = matching::<String>(judge, asked, move |store, selectors, from, to| {
        store.label_values(&name, selectors, from, to)
    });
    found.await
}

/// What the store finds for each selector, sorted, each once. The store is free for others between two selectors.
async fn matching<T: Ord + Serialize + Send + 'static>(
    judge: Arc<Judge>,
    asked: Parameters,
    find: impl Fn(&Store, &[Vec<Matcher>], i64, i64) -> Vec<T> + Send + 'static,
) -> Answer {
    let ((start, end), limit) = (asked.span()?, asked.limit()?);
    let count = asked.all("match[]").count();
    if count > SELECTORS_MAX {
        let why = format!("{count} selectors are more than the limit of {SELECTORS_MAX}");
        return Err(Failure::parameter("match[]", &why));
    }
    let found = ask(judge, QUERY_TIME_MAX, move |judge, deadline| {
        let mut selectors = Vec::with_capacity(count);
        for text in asked.all("match[]") {
            left(deadline)?;
            let parsed = parse_selector(text);
            selectors.push(parsed.map_err(|e| Failure::parameter("match[]", &e.to_string()))?);
        }
        if selectors.len() < 2 {
            let found = judge.reading(|store| find(store, &selectors, start, end));
            return Ok(Success::limited(found, limit));
        }
        let mut found = BTreeSet::new();
        for one in selectors.chunks(1) {
            left(deadline)?;
            found.extend(judge.reading(|store| find(store, one, start, end)));
        }
        Ok(Success::limited(found.into_iter().collect(), limit))
    });
    found.await
}

fn parsed(asked: &Parameters) -> Result<Query, Failure> {
    let text = asked.required("query")?;
    Query::parse(text).map_err(|error| match error {
        QueryError::Parse(why) => Failure::parameter("query", &why),
        other => other.into(),
    })
}

/// Part of the time may have gone by before the engine began; what is told is the whole.
fn failed(error: QueryError, timeout: Duration) -> Failure {
    match error {
        QueryError::Timeout(_) => QueryError::Timeout(timeout).into(),
        other => other.into(),
    }
}

/// How long this question may take.
fn timeout(asked: &Parameters) -> Result<Duration, Failure> {
    let wanted = asked.duration("timeout")?.unwrap_or(QUERY_TIME_MAX);
    Ok(wanted.min(QUERY_TIME_MAX))
}

/// How much time is left.
fn left(deadline: Instant) -> Result<Duration, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Failure::timeout("query timed out"));
    }
    Ok(left)
}

/// An engine with the limits of this question.
fn engine(judge: &Judge, asked: &Parameters, deadline: Instant) -> Result<Engine, Failure> {
    let mut options = Options {
        timeout: Some(left(deadline)?),
        max_samples: SAMPLES_MAX,
        subquery_step: judge.scraper.pace().0,
        ..Options::default()
    };
    if let Some(lookback) = asked.duration("lookback_delta")? {
        options.lookback = lookback;
    }
    Ok(Engine::new(options))
}

/// Answers on a thread of its own, once fewer than the most questions are under way. What was asked is read there,
/// too, and the answer is written there: both may be large. The place is given back when all of it is done.
async fn ask<T: Serialize>(
    judge: Arc<Judge>,
    timeout: Duration,
    answer: impl FnOnce(&Judge, Instant) -> Result<Success<T>, Failure> + Send + 'static,
) -> Answer {
    let deadline = Instant::now() + timeout;
    let place = tokio::time::timeout(timeout, Arc::clone(&judge.places).acquire_owned());
    let place = place
        .await
        .map_err(|_| Failure::timeout("query timed out in query queue"))?
        .map_err(|error| Failure::internal(&error))?;
    let answering = tokio::task::spawn_blocking(move || {
        let written = answer(&judge, deadline).and_then(Success::written);
        drop(place);
        written
    });
    answering.await.map_err(|error| Failure::internal(&error))?
}

impl Judge {
    /// Asks the store, which cannot be written meanwhile.
    fn reading<T>(&self, question: impl FnOnce(&Store) -> T) -> T {
        question(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Leaves out the series that are beyond the limit, and says so.
fn cut(mut value: Value, limit: usize) -> Success<Value> {
    let length = match &mut value {
        Value::Vector(series) => shorten(series, limit),
        Value::Matrix(series) => shorten(series, limit),
        Value::Scalar(_) | Value::String { .. } => 0,
    };
    let warnings = if limit > 0 && length > limit {
        vec![TRUNCATED]
    } else {
        Vec::new()
    };
    Success {
        data: value,
        warnings,
    }
}

fn shorten<T>(list: &mut Vec<T>, limit: usize) -> usize {
    let length = list.len();
    if limit > 0 {
        list.truncate(limit);
    }
    length
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use axum::response::IntoResponse as _;
    use serde_json::Value as Json;
    use tower::ServiceExt as _;

    use super::*;
    use crate::judge::{Config, QUESTIONS_MAX};

    fn judge() -> Arc<Judge> {
        let config = Config {
            rules_name: "none".into(),
            rules: "groups: []".into(),
            interval: Duration::from_secs(1),
            alertmanager: None,
        };
        Arc::new(Judge::new(config).unwrap())
    }

    async fn get(judge: &Arc<Judge>, path: &str) -> (u16, Json) {
        let mut router = axum::Router::new();
        for (route, _, methods) in crate::judge::api::routes(judge) {
            router = router.route(route, methods);
        }
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_in_time_and_nothing_is_read_before() {
        let judge = judge();
        let all = u32::try_from(QUESTIONS_MAX).unwrap();
        let places = Arc::clone(&judge.places).acquire_many_owned(all).await;
        for query in ["up", "up{"] {
            let path = format!(
                "/api/v1/query?query={}&timeout=20ms",
                query.replace('{', "%7B")
            );
            let (status, answer) = get(&judge, &path).await;
            assert_eq!((status, &answer["errorType"]), (503, &"timeout".into()));
            assert_eq!(answer["error"], "query timed out in query queue");
        }
        drop(places);
        assert_eq!(get(&judge, "/api/v1/query?query=up").await.0, 200);
        assert_eq!(get(&judge, "/api/v1/query?query=up%7B").await.0, 400);
    }

    #[tokio::test]
    async fn selectors_are_bounded() {
        let judge = judge();
        for path in ["series", "labels", "label/job/values"] {
            let ask = |count| format!("/api/v1/{path}?{}", "&match[]=up".repeat(count));
            let (status, answer) = get(&judge, &ask(SELECTORS_MAX + 1)).await;
            assert_eq!((status, &answer["errorType"]), (400, &"bad_data".into()));
            let error = answer["error"].as_str().unwrap();
            assert!(
                error.contains("65 selectors are more than the limit of 64"),
                "{error}"
            );
            assert_eq!(get(&judge, &ask(SELECTORS_MAX)).await.0, 200);
        }
    }

    /// Tells where it was serialized, and how many places were free then.
    struct Watched(Arc<Judge>, std::thread::ThreadId);

    impl Serialize for Watched {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            assert_eq!(self.0.places.available_permits(), QUESTIONS_MAX - 1);
            assert_ne!(
                std::thread::current().id(),
                self.1,
                "on the runtime's own thread"
            );
            to.serialize_str("written")
        }
    }

    #[tokio::test]
    async fn an_answer_is_written_in_its_place_and_not_by_the_runtime() {
        let judge = judge();
        let watched = Watched(Arc::clone(&judge), std::thread::current().id());
        let written = ask(Arc::clone(&judge), QUERY_TIME_MAX, |_, _| {
            Ok(Success::new(watched))
        });
        let answer = written.await.unwrap().into_response();
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(judge.places.available_permits(), QUESTIONS_MAX);
    }
}
