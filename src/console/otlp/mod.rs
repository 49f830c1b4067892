//! The OTLP receiver: spans over HTTP, from every role and from anyone else who speaks the protocol.
//!
//! It listens apart from the page and takes no token, as collectors do, so that an exporter needs nothing but
//! an address. It has its own bound on connections: a page that is reloaded in a hurry must not keep spans
//! out. Protobuf only, uncompressed; every refusal says what would have been accepted.

mod messages;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::traces::Traces;
use crate::control::{Guard, guard};
use crate::http::extract::read_body;
use crate::http::server::Limits;
use crate::http::{Problem, Routes};

/// The largest export that is read.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

const PROTOBUF: &str = "application/x-protobuf";

/// The bounds of the receiver: each connection may hold one body in memory.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        listener: "otlp",
        connections_max: 32,
        ..Limits::default()
    }
}

/// Batches that are decoded at the same time.
const REQUESTS_MAX: usize = 64;

/// The receiver's routes, for a listener on `address`. A web page on another site cannot reach a receiver on
/// loopback: it would have to forge its `Host` or its `Origin`.
pub fn router(traces: Arc<Traces>, address: SocketAddr) -> Router {
    let rules = Guard::new(address, None);
    let methods = post(export).layer(from_fn_with_state(rules, guard));
    Routes::new(REQUESTS_MAX)
        .add("/v1/traces", &[(Method::POST, &[200, 400])], methods)
        .build(traces)
}

async fn export(State(traces): State<Arc<Traces>>, request: Request) -> Result<Response, Problem> {
    require_protobuf(request.headers())?;
    let body = read_body(request, BODY_BYTES_MAX).await?;
    let request = ExportTraceServiceRequest::decode(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("The body is no ExportTraceServiceRequest: {error}."),
        )
        .field("body")
    })?;
    let received = messages::read(request);
    let answer = answer(received.rejected);
    traces.add(received.spans, received.rejected);
    let content_type = HeaderValue::from_static(PROTOBUF);
    Ok((
        [(header::CONTENT_TYPE, content_type)],
        answer.encode_to_vec(),
    )
        .into_response())
}

fn require_protobuf(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    let refused = |detail: &str, field: &str, value: String, allowed: &str| {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            .field(field)
            .value(value)
            .allowed(allowed)
    };
    let kind = sent(header::CONTENT_TYPE);
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(PROTOBUF) {
        let detail = "Spans are taken as binary protobuf only: set the protocol to http/protobuf.";
        return Err(refused(detail, "Content-Type", kind, PROTOBUF));
    }
    let encoding = sent(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let detail = "Compressed spans are not taken: set the compression to none.";
        return Err(refused(detail, "Content-Encoding", encoding, "identity"));
    }
    Ok(())
}

/// Success, or partial success if some spans were rejected. A sender must not send those again.
fn answer(rejected: u64) -> ExportTraceServiceResponse {
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: "A span needs a trace id of 16 bytes and a span id of 8, not all of them 0."
            .into(),
    });
    ExportTraceServiceResponse { partial_success }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Full;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::console::traces::{Filter, LIMITS};
    use crate::http::client::{Answer, Client};
    use crate::http::server::{Drained, serve};

    struct Receiver {
        address: SocketAddr,
        traces: Arc<Traces>,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<Drained>,
    }

    impl Receiver {
        async fn start() -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let traces = Arc::new(Traces::new(LIMITS));
            let stop = CancellationToken::new();
            let router = router(Arc::clone(&traces), address);
            let serving = tokio::spawn(serve(listener, router, limits(), stop.clone()));
            Self {
                address,
                traces,
                stop,
                serving,
            }
        }

        async fn post(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
            let url = format!("http://{}/v1/traces", self.address);
            let mut request = axum::http::Request::post(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::from(body)).unwrap();
            let limit = Some(Duration::from_secs(10));
            Client::new().send(request, limit).await.unwrap()
        }

        async fn end(self) {
            self.stop.cancel();
            assert_eq!(self.serving.await.unwrap(), Drained::Complete);
        }
    }

    fn export_of(spans: Vec<Span>) -> Vec<u8> {
        let scope_spans = vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }];
        let resource_spans = vec![ResourceSpans {
            scope_spans,
            ..ResourceSpans::default()
        }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn span(name: &str) -> Span {
        Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: name.into(),
            ..Span::default()
        }
    }

    const IS_PROTOBUF: (&str, &str) = ("content-type", PROTOBUF);

    #[tokio::test]
    async fn an_export_is_answered_in_protobuf_and_kept() {
        let receiver = Receiver::start().await;
        let bad = Span::default();
        // Larger than what other routes accept.
        let body = export_of(vec![span(&"n".repeat(100_000)), bad]);
        let answer = receiver.post(&[IS_PROTOBUF], body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], PROTOBUF);
        let said = ExportTraceServiceResponse::decode(answer.body).unwrap();
        assert_eq!(said.partial_success.unwrap().rejected_spans, 1);
        assert_eq!(receiver.traces.list(&Filter::all(10)).traces.len(), 1);

        let answer = receiver.post(&[IS_PROTOBUF], Vec::new()).await;
        let said = ExportTraceServiceResponse::decode(answer.body).unwrap();
        assert_eq!(said.partial_success, None, "an empty export is valid");
        receiver.end().await;
    }

    #[tokio::test]
    async fn a_refusal_says_what_would_have_been_accepted() {
        let receiver = Receiver::start().await;
        let gzip = ("content-encoding", "gzip");
        let json = ("content-type", "application/json");
        let cases = [
            (vec![json], b"{}".to_vec(), 415),
            (vec![], export_of(vec![]), 415),
            (vec![IS_PROTOBUF, gzip], vec![31, 139], 415),
            (vec![IS_PROTOBUF], b"not protobuf".to_vec(), 400),
            (vec![IS_PROTOBUF], vec![0; BODY_BYTES_MAX + 1], 413),
            (vec![IS_PROTOBUF, ("host", "evil.example")], vec![], 421),
        ];
        for (headers, body, status) in cases {
            let answer = receiver.post(&headers, body).await;
            assert_eq!(answer.status, status, "{headers:?}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            let problem: Problem = answer.json().unwrap();
            assert!(problem.field.is_some(), "{headers:?}: {problem:?}");
        }
        assert_eq!(receiver.traces.stats().traces, 0);
        receiver.end().await;
    }
}
