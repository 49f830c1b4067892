//! The outgoing side: a pooled client whose every attempt is a span, a metric and bounded in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::catalog::{Gauge, Histogram};
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tracing::{Instrument, field};

use super::connections::{CountingConnector, Peer, peer};
use crate::telemetry::account::{self, Account, Part};
use crate::telemetry::observe::status_error_type;
use crate::telemetry::{catalog, context};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why an attempt brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was sent: the peer could not be reached.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, String),
    /// No answer came in time. Whether the peer did the work is unknown.
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
    /// The connection broke. Whether the peer did the work is unknown.
    #[error("the connection to {0} broke: {1}")]
    Broken(String, String),
    /// The answer could not be read.
    #[error("the answer of {0} cannot be read: {1}")]
    Unreadable(String, String),
}

impl Error {
    /// A fixed word for the label `error_type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(..) => "connect",
            Self::Timeout(..) => "timeout",
            Self::Broken(..) => "broken",
            Self::Unreadable(..) => "unreadable",
        }
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// An HTTP/1.1 client. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<CountingConnector, Full<Bytes>>,
    series: Arc<Mutex<HashMap<SeriesKey, Histogram>>>,
}

type SeriesKey = (Method, Peer, u16, &'static str);

impl Client {
    /// A client that keeps idle connections for 20 seconds.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(CountingConnector(connector));
        Self {
            inner,
            series: Arc::default(),
        }
    }

    /// One attempt. `timeout` spans the whole exchange; `None` waits as long as the peer does.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Option<Duration>,
    ) -> Result<Answer, Error> {
        self.attempt(request, timeout, 0).await
    }

    /// Like [`Client::send`], for the attempt `resend` of a call (0 is the first).
    pub async fn attempt(
        &self,
        mut request: Request<Full<Bytes>>,
        timeout: Option<Duration>,
        resend: u32,
    ) -> Result<Answer, Error> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let peer = uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let span = client_span(&method, &uri, resend);
        context::inject(&span, request.headers_mut());
        let attempt = Attempt::start(self, method, &uri, span.clone());
        let exchange = exchange(&self.inner, request, &peer).instrument(span);
        let result = match timeout {
            None => exchange.await,
            Some(limit) => match tokio::time::timeout(limit, exchange).await {
                Ok(result) => result,
                Err(_) => Err(Error::Timeout(peer, limit)),
            },
        };
        attempt.finish(&result);
        result
    }

    /// `GET url`, read as JSON, for control planes: anything but a 2xx is an error in one sentence.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        url: &str,
        token: Option<&str>,
    ) -> Result<T, String> {
        let answer = self.control(Method::GET, url, None, token).await?;
        answer
            .json()
            .map_err(|error| format!("{url} answered what cannot be read: {error}"))
    }

    /// One request to a control plane, in 5 s at most: anything but a 2xx is an error in one sentence.
    pub async fn control(
        &self,
        method: Method,
        url: &str,
        body: Option<&serde_json::Value>,
        token: Option<&str>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let text = body.map(ToString::to_string).unwrap_or_default();
        let request = request
            .body(Full::from(text))
            .map_err(|error| format!("{url} is not a URL that can be asked: {error}"))?;
        let answer = self
            .send(request, Some(Duration::from_secs(5)))
            .await
            .map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let said = answer.json::<super::Problem>().map(|problem| {
            let allowed = problem
                .allowed
                .map(|allowed| format!(" Allowed: {allowed}."))
                .unwrap_or_default();
            format!("{}{allowed}", problem.detail)
        });
        Err(said.unwrap_or_else(|_| {
            // As a Prometheus says it.
            let body = answer.json::<serde_json::Value>().unwrap_or_default();
            let why = body["error"].as_str().map(|why| format!(": {why}"));
            format!(
                "{url} answered {}{}",
                answer.status,
                why.unwrap_or_default()
            )
        }))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// The base URL of a server that `flag` names, without a slash at its end; or a sentence that says what is wrong
/// with it and shows an `example`.
pub fn base_url(flag: &str, text: &str, example: &str) -> Result<String, String> {
    let url = text.trim().trim_end_matches('/');
    let is_base = |uri: Uri| {
        let Some(authority) = uri.authority() else {
            return false;
        };
        let port = authority.as_str().strip_prefix(authority.host());
        // A number that is no port is parsed as none; one's name and password go into the token, not here.
        let port_is_one =
            port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
        uri.scheme_str() == Some("http") && port_is_one && uri.query().is_none()
    };
    if url.parse().is_ok_and(is_base) {
        return Ok(url.into());
    }
    Err(format!(
        "{flag}: {text:?} is no URL of a server; it should look like {example}"
    ))
}

/// `text` as the value of a parameter in a URL's query.
#[must_use]
pub fn query_value(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Calls that belong to no trace start none: polls would bury the orders.
fn client_span(method: &Method, uri: &Uri, resend: u32) -> tracing::Span {
    if !context::sampled() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        "client",
        otel.name = %method,
        otel.kind = "client",
        otel.status_code = field::Empty,
        http.request.method = %method,
        http.request.resend_count = (resend > 0).then_some(i64::from(resend)),
        http.response.status_code = field::Empty,
        error.type = field::Empty,
        server.address = uri.host(),
        server.port = uri.port_u16().map(i64::from),
        url.full = %uri,
    )
}

async fn exchange(
    client: &hyper_util::client::legacy::Client<CountingConnector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    peer: &str,
) -> Result<Answer, Error> {
    let response = client.request(request).await.map_err(|error| {
        let cause = deepest(&error);
        if error.is_connect() {
            Error::Connect(peer.into(), cause)
        } else {
            Error::Broken(peer.into(), cause)
        }
    })?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body
        .map_err(|error| Error::Unreadable(peer.into(), error.to_string()))?
        .to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// The innermost cause: the outer ones only say "client error".
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Records an attempt when it ends, also when its caller stops waiting.
struct Attempt<'a> {
    client: &'a Client,
    method: Method,
    peer: Peer,
    span: tracing::Span,
    started: Instant,
    active: Gauge,
    account: Option<Arc<Account>>,
    outcome: (u16, &'static str),
}

impl<'a> Attempt<'a> {
    fn start(client: &'a Client, method: Method, uri: &Uri, span: tracing::Span) -> Self {
        let peer = peer(uri);
        let (host, port) = peer.clone();
        let active = catalog::http_client_active_requests(host, port);
        active.increment(1.0);
        Self {
            client,
            method,
            peer,
            span,
            started: Instant::now(),
            active,
            account: account::current(),
            outcome: (0, "cancelled"),
        }
    }

    fn finish(mut self, result: &Result<Answer, Error>) {
        self.outcome = match result {
            // To a client both 4xx and 5xx are errors (semantic conventions).
            Ok(answer) => {
                let status = answer.status.as_u16();
                (status, status_error_type(status))
            }
            Err(error) => (0, error.kind()),
        };
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.active.decrement(1.0);
        let elapsed = self.started.elapsed();
        if let Some(account) = &self.account {
            account.charge(Part::Downstream, elapsed);
        }
        let (status, error_type) = self.outcome;
        let failed = !error_type.is_empty();
        tracing::record_all!(
            self.span,
            http.response.status_code = (status > 0).then_some(i64::from(status)),
            error.type = failed.then_some(error_type),
            otel.status_code = failed.then_some("ERROR")
        );
        let key = (self.method.clone(), self.peer.clone(), status, error_type);
        let mut series = self
            .client
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let histogram = series.entry(key).or_insert_with(|| {
            let (host, port) = self.peer.clone();
            let code = if status == 0 {
                String::new()
            } else {
                status.to_string()
            };
            catalog::http_client_request_duration_seconds(
                self.method.to_string(),
                host,
                port,
                code,
                error_type,
            )
        });
        histogram.record(elapsed.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_server_and_perhaps_a_path() {
        let base = |text| base_url("--shop", text, "http://127.0.0.1:8080");
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            (" http://shop/ ", "http://shop"),
            (
                "http://[::1]:9090/prometheus/",
                "http://[::1]:9090/prometheus",
            ),
        ] {
            assert_eq!(base(text).as_deref(), Ok(url));
        }
        for text in [
            "",
            "shop:8080",
            "https://shop",
            "http://",
            "http://shop:99999",
            "http://shop:",
            "http://shop?x=1",
            "http://name:password@shop",
        ] {
            let error = base(text).unwrap_err();
            assert!(
                error.contains("--shop") && error.contains(":8080"),
                "{error}"
            );
        }
    }
}
