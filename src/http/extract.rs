//! Extractors whose refusals are problems: a JSON body, a path parameter, a query.
//!
//! The framework's extractors answer in plain text, and do not say which field was wrong.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Problem;

/// The largest JSON body that is read.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body.
#[derive(Debug)]
pub struct JsonBody<T> {
    /// The body, read.
    pub value: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request, BODY_BYTES_MAX).await?;
        let value = parse(&bytes)?;
        Ok(Self { value })
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = sent
        .as_deref()
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON.")
            .field("Content-Type")
            .value(sent.as_deref().unwrap_or_default())
            .allowed("application/json"),
    )
}

/// Reads a body of at most `bytes_max` bytes, in ten seconds at most.
pub async fn read_body(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let Ok(read) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        let detail = "The body did not arrive in time.";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail).field("body"));
    };
    read.map(Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.")
                .field("body")
                .allowed(format!("at most {bytes_max} bytes"));
        }
        Problem::new(StatusCode::BAD_REQUEST, "The body could not be read.").field("body")
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("The body is not UTF-8 from byte {at} on."),
        )
        .field("body")
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let cause = error.into_inner();
        match cause.classify() {
            Category::Data => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{cause}."))
                .field(if field == "." {
                    "body".to_owned()
                } else {
                    field
                }),
            _ => Problem::new(
                StatusCode::BAD_REQUEST,
                format!("The body is not JSON: {cause}."),
            )
            .field("body"),
        }
    })?;
    reader.end().map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("The body is not JSON: {error}."),
        )
        .field("body")
    })?;
    Ok(value)
}

/// The one parameter of a route's path.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr + Send> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let bad = |value: &str| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "The id in the path cannot be read.",
            )
            .field("id")
            .value(value)
            .allowed("a whole number")
        };
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| bad(parts.uri.path()))?;
        text.parse().map(Self).map_err(|_| bad(&text))
    }
}

/// The query of a URL.
#[derive(Debug)]
pub struct ValidQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ValidQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| {
                Problem::new(StatusCode::BAD_REQUEST, rejection.body_text())
                    .field("query")
                    .value(parts.uri.query().unwrap_or_default())
            })?;
        Ok(Self(query.0))
    }
}
