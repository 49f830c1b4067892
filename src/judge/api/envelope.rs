//! The shape of every answer of Prometheus' API, and its errors.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use promql::QueryError;
use serde::Serialize;

use crate::http::Problem;

/// The longest problem that is put into another shape: it repeats little of what was asked.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

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

impl<T: Serialize> Success<T> {
    /// The answer as JSON. A large one takes a while to write: do it on a thread for blocking work.
    pub(super) fn written(self) -> Result<Written, Failure> {
        let envelope = Envelope {
            status: "success",
            data: Some(self.data),
            error_type: None,
            error: None,
            warnings: self.warnings,
        };
        let json = serde_json::to_vec(&envelope);
        json.map(Written).map_err(|error| Failure::internal(&error))
    }
}

/// For answers that are small.
impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        self.written().into_response()
    }
}

/// An answer, ready to be sent.
#[derive(Debug)]
pub(super) struct Written(Vec<u8>);

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], self.0).into_response()
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

/// What a layer outside of the API refused, in the shape of the API: whoever speaks with a Prometheus reads no other.
pub async fn in_envelope(request: Request, next: Next) -> Response {
    let asked = request.uri().path().starts_with("/api/v1/");
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_problem = kind.is_some_and(|kind| kind == "application/problem+json");
    if !asked || !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem = axum::body::to_bytes(body, PROBLEM_BYTES_MAX).await;
    let problem = problem
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
    let failure = Failure {
        status: parts.status,
        kind: match parts.status.as_u16() {
            404 => "not_found",
            503 => "unavailable",
            500.. => "internal",
            _ => "bad_data",
        },
        error: problem.map_or_else(|| parts.status.to_string(), |problem| problem.detail),
    };
    let (shape, body) = failure.into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(shape.headers);
    Response::from_parts(parts, body)
}
