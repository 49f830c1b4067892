//! How long a caller waits, told in a header.
//!
//! A server that does not know when its caller leaves works for nobody: the answer is computed, the slot is
//! used, and the socket is closed. HTTP has no standard header for it; gRPC has `grpc-timeout`.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::time::Instant;

use super::Problem;

/// For how many more milliseconds the caller will wait.
pub const HEADER: &str = "x-request-timeout-ms";

/// What a caller without the header is taken to wait, and the most that is believed.
const DEFAULT: Duration = Duration::from_secs(2);
const MAX: Duration = Duration::from_secs(30);

/// When the caller will be gone.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// What is left until then.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Deadline {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self(Instant::now() + DEFAULT));
        };
        let text = value.to_str().unwrap_or_default();
        match text.parse() {
            Ok(milliseconds @ 1..=30_000) => {
                Ok(Self(Instant::now() + Duration::from_millis(milliseconds)))
            }
            _ => Err(
                Problem::new(StatusCode::BAD_REQUEST, format!("{HEADER} cannot be used."))
                    .field(HEADER)
                    .value(text)
                    .allowed(format!("whole milliseconds from 1 to {}", MAX.as_millis())),
            ),
        }
    }
}
