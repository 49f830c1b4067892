//! Errors as `application/problem+json` (RFC 9457), with the field, the value and what is allowed.
//!
//! Without one shape each route would invent its own, and a client could not tell what to mend.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::telemetry::observe::ErrorType;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The status of the answer, 400 to 599.
    pub status: u16,
    /// What kind of problem this is, in a few words that do not vary.
    pub title: String,
    /// What happened, in a sentence.
    pub detail: String,
    /// The part of the request that is at fault.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<serde_json::Value>,
    /// What may stand there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allowed: Option<String>,
    /// After how many seconds another try makes sense.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u64>,
    /// The value of the label `error_type`, where the status alone does not tell.
    #[serde(skip)]
    error_type: Option<&'static str>,
}

/// The longest piece of a client's own input that an error repeats, in characters.
const VALUE_CHARS_MAX: usize = 120;

impl Problem {
    /// A problem with `status`, in the words of `detail`.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            detail: detail.into(),
            field: None,
            value: None,
            allowed: None,
            retry_after_s: None,
            error_type: None,
        }
    }

    /// 422: `field` holds `value`, but only `allowed` may stand there.
    #[must_use]
    pub fn invalid(
        field: &str,
        value: impl Into<serde_json::Value>,
        allowed: impl Into<String>,
    ) -> Self {
        let allowed = allowed.into();
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{field} must be {allowed}."),
        )
        .field(field)
        .value(value)
        .allowed(allowed)
    }

    /// 404: there is no `what` with this id.
    #[must_use]
    pub fn not_found(what: &str, field: &str, value: impl Into<serde_json::Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what}."))
            .field(field)
            .value(value)
    }

    /// 500, with the cause in the log only: it may name things that are not the client's business.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(target: "http", error = %cause, "A request failed.");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The request failed for a reason that is not yours.",
        )
    }

    /// Names the part of the request that is at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Repeats what stood there; long text is cut.
    #[must_use]
    pub fn value(mut self, value: impl Into<serde_json::Value>) -> Self {
        self.value = Some(match value.into() {
            serde_json::Value::String(text) if text.chars().count() > VALUE_CHARS_MAX => format!(
                "{}...",
                text.chars().take(VALUE_CHARS_MAX).collect::<String>()
            )
            .into(),
            other => other,
        });
        self
    }

    /// Says what may stand there.
    #[must_use]
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Says when to try again, also in the header `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Sets the value of the label `error_type`.
    #[must_use]
    pub fn error_type(mut self, error_type: &'static str) -> Self {
        self.error_type = Some(error_type);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error_type = self.error_type;
        let retry_after = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(error_type) = error_type {
            response.extensions_mut().insert(ErrorType(error_type));
        }
        response
    }
}
