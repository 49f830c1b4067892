//! The shape of every answer of Prometheus' API, and its errors.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use promql::QueryError;
use serde::Serialize;

/// An answer: `status` and `data`, or `errorType` and `error`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<T> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

/// What went well, with what the reader should know of it.
#[derive(Debug)]
pub(super) struct Success<T> {
    pub(super) data: T,
    pub(super) warnings: Vec<&'static str>,
}

impl<T> Success<T> {
    pub(super) fn new(data: T) -> Self {
        Self {
            data,
            warnings: Vec::new(),
        }
    }
}

impl<T> Success<Vec<T>> {
    /// Leaves out what is beyond the limit, and says so.
    pub(super) fn limited(mut list: Vec<T>, limit: usize) -> Self {
        let cut = limit > 0 && list.len() > limit;
        if cut {
            list.truncate(limit);
        }
        Self {
            data: list,
            warnings: if cut { vec![TRUNCATED] } else { Vec::new() },
        }
    }
}

/// What Prometheus says when a limit was reached.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        Json(Envelope {
            status: "success",
            data: Some(self.data),
            error_type: None,
            error: None,
            warnings: self.warnings,
        })
        .into_response()
    }
}

/// What went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    error: String,
}

impl Failure {
    fn new(kind: &'static str, error: impl Into<String>) -> Self {
        let status = match kind {
            "bad_data" => StatusCode::BAD_REQUEST,
            "execution" => StatusCode::UNPROCESSABLE_ENTITY,
            "timeout" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            kind,
            error: error.into(),
        }
    }

    pub(super) fn bad_data(error: impl Into<String>) -> Self {
        Self::new("bad_data", error)
    }

    pub(super) fn parameter(name: &str, why: &str) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {why}"))
    }

    pub(super) fn timeout(error: impl Into<String>) -> Self {
        Self::new("timeout", error)
    }

    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(target: "judge", error = %cause, "A question could not be answered.");
        Self::new(
            "internal",
            "The question failed for a reason that is not yours.",
        )
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Envelope::<()> {
            status: "error",
            data: None,
            error_type: Some(self.kind),
            error: Some(self.error),
            warnings: Vec::new(),
        };
        (self.status, Json(body)).into_response()
    }
}
