//! `firedrill health`: whether one address answers well, as an exit code.
//!
//! A container's health check needs a program inside the image, and an image that holds nothing but ours has
//! no curl.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Request;
use http_body_util::Full;

use super::args::HealthArgs;
use super::small_runtime;
use crate::http::Client;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs the command: 0 if the answer is a success, else a sentence and 1.
pub(super) fn run(args: &HealthArgs) -> Result<u8, String> {
    let url = &args.url;
    let request = Request::get(url)
        .body(Full::<Bytes>::default())
        .map_err(|_| {
            format!("{url:?} is no URL; it should look like http://127.0.0.1:9464/readyz")
        })?;
    let answer = small_runtime()?.block_on(Client::new().send(request, Some(PATIENCE)));
    let sentence = match answer {
        Ok(answer) if answer.status.is_success() => return Ok(0),
        Ok(answer) => format!("{url} answers {}", answer.status),
        Err(error) => format!("{url} does not answer: {error}"),
    };
    super::say(&format!("firedrill: {sentence}"));
    Ok(1)
}
