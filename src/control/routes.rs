//! The routes that every control plane has.
//!
//! The same for all roles, so that a Prometheus, a supervisor and a drill need to know one set of paths. What is
//! read-only is open; what can break something is guarded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::changes::{self, Kind};
use super::{Plane, auth, debug, release, shocks};
use crate::choices::ChoiceOption;
use crate::http::Problem;
use crate::http::extract::JsonBody;
use crate::http::routes::method_not_allowed;
use crate::telemetry::Format;

/// The routes of `plane`, and the role's own in `more`.
pub(super) fn router(plane: Plane, more: Router) -> Router {
    let guard = plane.guard.clone();
    let guarded = Router::new()
        .route("/choices", get(choices))
        .route("/choices/{name}", put(set_choice))
        .route("/changes", get(list_changes).post(note_change))
        .route("/shocks", get(list_shocks))
        .route("/shocks/{name}", put(begin_shock).delete(end_shock))
        .route("/log", get(log).put(set_log))
        .route("/exit", post(exit))
        .route("/debug/pprof/profile", get(debug::cpu))
        .route("/debug/pprof/heap", get(debug::heap))
        .route("/debug/flamegraph", get(debug::flamegraph))
        .with_state(plane.clone())
        .merge(more)
        .fallback(async |request: axum::extract::Request| {
            Problem::not_found("path", "path", request.uri().path())
        })
        .layer(from_fn_with_state(guard, auth::guard));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(plane)
        .merge(guarded)
        .method_not_allowed_fallback(method_not_allowed)
}

async fn metrics(State(plane): State<Plane>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let format = Format::accepted(accept);
    let content_type = HeaderValue::from_static(format.content_type());
    (
        [(header::CONTENT_TYPE, content_type)],
        plane.telemetry.render(format),
    )
        .into_response()
}

async fn readyz(State(plane): State<Plane>) -> Response {
    if plane.readiness.get() {
        return "ok\n".into_response();
    }
    let detail = format!("{} is starting or stopping.", plane.role);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}

async fn choices(State(plane): State<Plane>) -> Json<Value> {
    Json(json!({ "role": plane.role, "choices": plane.book.status() }))
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with option and, if wanted, ttl_s and description"
)]
struct SetChoice {
    option: String,
    ttl_s: Option<Value>,
    description: Option<String>,
}

async fn set_choice(
    State(plane): State<Plane>,
    Path(name): Path<String>,
    body: JsonBody<SetChoice>,
) -> Result<Json<Value>, Problem> {
    let choice = plane.book.choice(&name).ok_or_else(|| {
        let names: Vec<_> = plane.book.choices().map(|choice| choice.name).collect();
        let allowed = if names.is_empty() {
            format!("none: {} has no choices", plane.role)
        } else {
            names.join(", ")
        };
        Problem::not_found("choice", "name", name.as_str()).allowed(allowed)
    })?;
    let asked = body.value;
    let option: ChoiceOption = asked
        .option
        .parse()
        .map_err(|_| Problem::invalid("option", asked.option.as_str(), "poor or sound"))?;
    let ttl = shocks::ttl_if_given(asked.ttl_s.as_ref())?;
    let description = changes::description(asked.description)?;
    // Off this thread: while the disk stands still, the rest of the control plane must answer.
    let book = Arc::clone(&plane.book);
    let changed = tokio::task::spawn_blocking(move || book.set(choice, option, ttl))
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::internal(&error))?;
    if changed {
        plane.changes.note(Kind::Config, &description);
    }
    Ok(choices(State(plane)).await)
}

async fn list_changes(State(plane): State<Plane>) -> Json<Value> {
    Json(json!({
        "role": plane.role,
        "service_version": plane.release.version(),
        "started_at_s": plane.release.started_at_s(),
        "changes": plane.changes.list(),
    }))
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with kind and, if wanted, description"
)]
struct NoteChange {
    kind: String,
    description: Option<String>,
}

/// Notes a change that was made elsewhere, or none at all: most changes before an outage have nothing to do with it.
async fn note_change(
    State(plane): State<Plane>,
    body: JsonBody<NoteChange>,
) -> Result<Json<Value>, Problem> {
    let kind = Kind::parse(&body.value.kind)?;
    let description = changes::description(body.value.description)?;
    plane.changes.note(kind, &description);
    Ok(list_changes(State(plane)).await)
}

async fn list_shocks(State(plane): State<Plane>) -> Json<Value> {
    Json(json!({ "role": plane.role, "shocks": plane.shocks.status() }))
}

async fn begin_shock(
    State(plane): State<Plane>,
    Path(name): Path<String>,
    body: JsonBody<BTreeMap<String, Value>>,
) -> Result<Json<Value>, Problem> {
    plane.shocks.begin(&name, &body.value)?;
    Ok(list_shocks(State(plane)).await)
}

async fn end_shock(
    State(plane): State<Plane>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    plane.shocks.end(&name)?;
    Ok(list_shocks(State(plane)).await)
}

async fn log(State(plane): State<Plane>) -> Json<Value> {
    let status = plane.telemetry.log_filter().status();
    let expires_in_s = status.expires_in.map(|left| left.as_secs());
    Json(json!({ "role": plane.role, "filter": status.filter, "expires_in_s": expires_in_s }))
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with filter and, if wanted, ttl_s"
)]
struct SetLog {
    filter: String,
    ttl_s: Option<Value>,
}

async fn set_log(
    State(plane): State<Plane>,
    body: JsonBody<SetLog>,
) -> Result<Json<Value>, Problem> {
    let SetLog { filter, ttl_s } = body.value;
    let ttl = shocks::ttl_if_given(ttl_s.as_ref())?;
    let before = plane.telemetry.log_filter().status().filter;
    let changed = plane.telemetry.log_filter().change(&filter, ttl);
    changed.map_err(|complaint| {
        let detail = format!("The filter cannot be read: {complaint}.");
        Problem::new(StatusCode::BAD_REQUEST, detail)
            .field("filter")
            .value(filter)
            .allowed("a filter in the syntax of RUST_LOG, like info or info,http=debug")
    })?;
    if plane.telemetry.log_filter().status().filter != before {
        plane.changes.note(Kind::Config, "");
    }
    Ok(log(State(plane)).await)
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with how and, if wanted, service_version"
)]
struct Exit {
    how: String,
    service_version: Option<String>,
}

/// How long a process that was told to end waits with it.
const ANSWER_FIRST: Duration = Duration::from_millis(200);

/// Ends the process: `term` drains, `kill` does not. For places where no supervisor of ours can send a signal. With a
/// version, that one runs after the next start.
async fn exit(State(plane): State<Plane>, body: JsonBody<Exit>) -> Result<StatusCode, Problem> {
    let Exit {
        how,
        service_version,
    } = body.value;
    if !matches!(how.as_str(), "term" | "kill") {
        return Err(Problem::invalid("how", how, "term or kill"));
    }
    if let Some(version) = service_version {
        release::valid(&version)?;
        let release = Arc::clone(&plane.release);
        tokio::task::spawn_blocking(move || release.plan(&version))
            .await
            .map_err(|error| Problem::internal(&error))?
            .map_err(|error| Problem::internal(&error))?;
    }
    match how.as_str() {
        "term" => {
            // The answer goes first: whoever asked must be able to tell that they were heard.
            let stop = plane.stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(ANSWER_FIRST).await;
                stop.cancel();
            });
        }
        _ => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .map_err(|error| Problem::internal(&error))?;
        }
    }
    Ok(StatusCode::ACCEPTED)
}
