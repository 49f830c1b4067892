//! `/api/v1` as Prometheus has it, so that Grafana, promtool, the page and the drills can ask the console.
//!
//! What reads the store runs on threads for blocking work, a few at a time: a question from outside may be as heavy
//! as its limits allow, and the page must go on meanwhile.

mod envelope;
mod parameters;
mod query;
mod state;

use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodRouter, get};

use super::Judge;
pub use envelope::in_envelope;

/// A route: its path, the methods with the statuses that are usual, and what answers.
pub type Route<S> = (
    &'static str,
    &'static [(Method, &'static [u16])],
    MethodRouter<S>,
);

const GET: &[(Method, &[u16])] = &[(Method::GET, &[200])];
const GET_AND_POST: &[(Method, &[u16])] = &[(Method::GET, &[200]), (Method::POST, &[200])];

/// The routes of the API. They have no guard of their own.
#[must_use]
pub fn routes<S: Clone + Send + Sync + 'static>(judge: &Arc<Judge>) -> Vec<Route<S>> {
    let both = |methods: MethodRouter<Arc<Judge>>| methods.with_state(Arc::clone(judge));
    vec![
        (
            "/api/v1/query",
            GET_AND_POST,
            both(get(query::instant).post(query::instant)),
        ),
        (
            "/api/v1/query_range",
            GET_AND_POST,
            both(get(query::range).post(query::range)),
        ),
        (
            "/api/v1/series",
            GET_AND_POST,
            both(get(query::series).post(query::series)),
        ),
        (
            "/api/v1/labels",
            GET_AND_POST,
            both(get(query::labels).post(query::labels)),
        ),
        (
            "/api/v1/label/{name}/values",
            GET,
            both(get(query::label_values)),
        ),
        (
            "/api/v1/query_exemplars",
            GET_AND_POST,
            both(get(state::exemplars).post(state::exemplars)),
        ),
        ("/api/v1/rules", GET, both(get(state::rules))),
        ("/api/v1/alerts", GET, both(get(state::alerts))),
        ("/api/v1/metadata", GET, both(get(state::metadata))),
        ("/api/v1/targets", GET, both(get(state::targets))),
        ("/api/v1/status/buildinfo", GET, both(get(state::buildinfo))),
    ]
}
