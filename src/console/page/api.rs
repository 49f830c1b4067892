//! What the page asks for.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shown;
use crate::console::places;
use crate::console::span::TraceId;
use crate::console::traces::{Filter, Listing};
use crate::console::waterfall::{Waterfall, waterfall};
use crate::http::Problem;
use crate::http::extract::ValidQuery;

/// How many traces are listed if nothing else is asked for, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

/// The longest duration that can be asked for: a day.
const MILLISECONDS_MAX: f64 = 86_400_000.0;

pub(super) async fn status(State(shown): State<Shown>) -> Json<Value> {
    let status = shown.watch.latest();
    let mut answer = json!(*status);
    answer["otlp"] = shown.otlp.to_string().into();
    answer["store"] = json!(shown.traces.stats());
    Json(answer)
}

/// Where the roles' metrics are, for `http_sd_configs` of a Prometheus.
pub(super) async fn targets(State(shown): State<Shown>) -> Json<Value> {
    let (places, _) = shown.watch.places().await;
    Json(places::discovery(&places))
}

/// Parameters as text, so that each can be refused by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    errors: Option<String>,
    min_ms: Option<String>,
    service: Option<String>,
    quiet_ms: Option<String>,
    limit: Option<String>,
}

impl Parameters {
    fn filter(self) -> Result<Filter, Problem> {
        let errors = match self.errors.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(bad("errors", other, "0 or 1")),
        };
        let limit = match self.limit.as_deref() {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| bad("limit", text, &format!("a number from 1 to {LIMIT_MAX}")))?,
        };
        Ok(Filter {
            errors,
            at_least: milliseconds("min_ms", self.min_ms.as_deref())?,
            service: self.service,
            quiet: milliseconds("quiet_ms", self.quiet_ms.as_deref())?,
            limit,
        })
    }
}

fn milliseconds(field: &str, text: Option<&str>) -> Result<Duration, Problem> {
    let text = text.unwrap_or("0");
    text.parse()
        .ok()
        .filter(|ms| (0.0..=MILLISECONDS_MAX).contains(ms))
        .map(|ms| Duration::from_secs_f64(ms / 1000.0))
        .ok_or_else(|| {
            let allowed = format!("a number of milliseconds from 0 to {MILLISECONDS_MAX}");
            bad(field, text, &allowed)
        })
}

fn bad(field: &str, value: &str, allowed: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("{field} must be {allowed}."),
    )
    .field(field)
    .value(value)
    .allowed(allowed)
}

pub(super) async fn traces(
    State(shown): State<Shown>,
    ValidQuery(parameters): ValidQuery<Parameters>,
) -> Result<Json<Listing>, Problem> {
    Ok(Json(shown.traces.list(&parameters.filter()?)))
}

pub(super) async fn trace(
    State(shown): State<Shown>,
    id: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<Waterfall>, Problem> {
    let text = id.map(|Path(id)| id).unwrap_or_default();
    let id: TraceId = text
        .parse()
        .map_err(|allowed: String| bad("id", &text, &allowed))?;
    let trace = shown
        .traces
        .get(&id)
        .ok_or_else(|| Problem::not_found("trace", "id", text.as_str()))?;
    Ok(Json(waterfall(&trace)))
}
