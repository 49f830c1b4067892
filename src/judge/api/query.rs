//! Questions to the store.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use promql::{Engine, Labels, Matcher, Options, Query, QueryError, Store, Value, parse_selector};

use super::envelope::{Failure, Success, TRUNCATED};
use super::parameters::Parameters;
use crate::judge::time::to_ms;
use crate::judge::{Judge, SAMPLES_MAX};

/// How long a question may take: while it reads, no scrape can be written.
const QUERY_TIME_MAX: Duration = Duration::from_secs(10);

type Answer<T> = Result<Success<T>, Failure>;

/// `/api/v1/query`: the value of an expression at one time.
pub(super) async fn instant(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer<Value> {
    let query = parsed(&asked)?;
    let (engine, limit) = (engine(&judge, &asked)?, asked.limit()?);
    let at = asked.time_or_now("time")?;
    let value = ask(&judge, &engine.0, move |store| {
        engine.1.instant(store, &query, at)
    });
    Ok(cut(value.await??, limit))
}

/// `/api/v1/query_range`: the values of an expression over some time.
pub(super) async fn range(State(judge): State<Arc<Judge>>, asked: Parameters) -> Answer<Value> {
    let query = parsed(&asked)?;
    let (engine, limit) = (engine(&judge, &asked)?, asked.limit()?);
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
    let value = ask(&judge, &engine.0, move |store| {
        engine.1.range(store, &query, start, end, step)
    });
    Ok(cut(value.await??, limit))
}

/// `/api/v1/series`: the series that match.
pub(super) async fn series(
    State(judge): State<Arc<Judge>>,
    asked: Parameters,
) -> Answer<Vec<Labels>> {
    let matchers = selectors(&asked)?;
    if matchers.is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let ((start, end), limit) = (asked.span()?, asked.limit()?);
    let found = ask(&judge, &QUERY_TIME_MAX, move |store| {
        store.series(&matchers, start, end)
    });
    Ok(Success::limited(found.await?, limit))
}

/// `/api/v1/labels`: the names of labels.
pub(super) async fn labels(
    State(judge): State<Arc<Judge>>,
    asked: Parameters,
) -> Answer<Vec<String>> {
    let matchers = selectors(&asked)?;
    let ((start, end), limit) = (asked.span()?, asked.limit()?);
    let found = ask(&judge, &QUERY_TIME_MAX, move |store| {
        store.label_names(&matchers, start, end)
    });
    Ok(Success::limited(found.await?, limit))
}

/// `/api/v1/label/{name}/values`: the values of a label.
pub(super) async fn label_values(
    State(judge): State<Arc<Judge>>,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
    asked: Parameters,
) -> Answer<Vec<String>> {
    let Ok(Path(name)) = name else {
        return Err(Failure::bad_data("invalid label name: it is not UTF-8"));
    };
    let matchers = selectors(&asked)?;
    let ((start, end), limit) = (asked.span()?, asked.limit()?);
    let found = ask(&judge, &QUERY_TIME_MAX, move |store| {
        store.label_values(&name, &matchers, start, end)
    });
    Ok(Success::limited(found.await?, limit))
}

fn parsed(asked: &Parameters) -> Result<Query, Failure> {
    let text = asked.required("query")?;
    Query::parse(text).map_err(|error| match error {
        QueryError::Parse(why) => Failure::parameter("query", &why),
        other => other.into(),
    })
}

fn selectors(asked: &Parameters) -> Result<Vec<Vec<Matcher>>, Failure> {
    let read =
        |text| parse_selector(text).map_err(|e| Failure::parameter("match[]", &e.to_string()));
    asked.all("match[]").map(read).collect()
}

/// An engine with the limits of this question, and its longest time.
fn engine(judge: &Judge, asked: &Parameters) -> Result<(Duration, Engine), Failure> {
    let timeout = asked.duration("timeout")?.unwrap_or(QUERY_TIME_MAX);
    let timeout = timeout.min(QUERY_TIME_MAX);
    let mut options = Options {
        timeout: Some(timeout),
        max_samples: SAMPLES_MAX,
        subquery_step: judge.scraper.pace().0,
        ..Options::default()
    };
    if let Some(lookback) = asked.duration("lookback_delta")? {
        options.lookback = lookback;
    }
    Ok((timeout, Engine::new(options)))
}

/// Asks the store on a thread of its own, once fewer than the most questions are under way.
async fn ask<T: Send + 'static>(
    judge: &Arc<Judge>,
    patience: &Duration,
    question: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let place = tokio::time::timeout(*patience, Arc::clone(&judge.places).acquire_owned());
    let place = place
        .await
        .map_err(|_| Failure::timeout("query timed out in query queue"))?
        .map_err(|error| Failure::internal(&error))?;
    let judge = Arc::clone(judge);
    let answering = tokio::task::spawn_blocking(move || {
        let answer = question(&judge.store.read().unwrap_or_else(PoisonError::into_inner));
        drop(place);
        answer
    });
    answering.await.map_err(|error| Failure::internal(&error))
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
