//! The page and its JSON API.
//!
//! The page is static and embedded: nothing is fetched from elsewhere, so that it works on a machine without
//! a network and during an outage. It is open; it holds nothing. What it shows comes from the API, which is
//! guarded like a control plane. Its script takes the token from the part of the address after `#`, which is
//! never sent to a server.

mod api;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

use super::runbooks;
use super::status::Watch;
use super::traces::Traces;
use crate::control::{Guard, guard};
use crate::http::{Problem, Routes};
use crate::judge::{self, Judge};

/// What the page shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The traces.
    pub traces: Arc<Traces>,
    /// The lab.
    pub watch: Arc<Watch>,
    /// Where the OTLP receiver listens.
    pub otlp: SocketAddr,
    /// What answers `/api/v1`, unless a Prometheus does it elsewhere.
    pub judge: Option<Arc<Judge>>,
}

/// The parts of the page: path, content type, content.
const PARTS: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    ("/app.js", JAVASCRIPT, include_str!("app.js")),
    ("/alerts.js", JAVASCRIPT, include_str!("alerts.js")),
    ("/dom.js", JAVASCRIPT, include_str!("dom.js")),
    ("/charts.js", JAVASCRIPT, include_str!("charts.js")),
    ("/traces.js", JAVASCRIPT, include_str!("traces.js")),
];

/// Requests that the page works on at the same time.
const REQUESTS_MAX: usize = 64;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// What a browser may do with the page: run its own scripts and ask its own server, nothing else. Should a
/// span's name ever be taken for markup, it still could not run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page; `rules` guard its API.
pub fn router(shown: Shown, rules: &Guard) -> Router {
    let guarded =
        |methods: MethodRouter<Shown>| methods.layer(from_fn_with_state(rules.clone(), guard));
    let mut routes = Routes::new(REQUESTS_MAX);
    for (path, content_type, content) in PARTS {
        routes = routes.add(path, &[(Method::GET, &[200])], part(content_type, content));
    }
    for (path, expected, methods) in shown.judge.iter().flat_map(judge::api::routes) {
        routes = routes.add(path, expected, guarded(methods));
    }
    // A Prometheus asks one of them for what it is to scrape.
    for path in ["/sd", "/api/targets"] {
        routes = routes.add(path, &[(Method::GET, &[200])], guarded(get(api::targets)));
    }
    routes
        .add(
            "/runbooks/{name}",
            &[(Method::GET, &[200, 404])],
            get(runbook),
        )
        .add(
            "/api/status",
            &[(Method::GET, &[200])],
            guarded(get(api::status)),
        )
        .add(
            "/api/traces",
            &[(Method::GET, &[200])],
            guarded(get(api::traces)),
        )
        .add(
            "/api/traces/{id}",
            &[(Method::GET, &[200, 404])],
            guarded(get(api::trace)),
        )
        .build(shown)
        .layer(from_fn(judge::api::in_envelope))
}

fn part(content_type: &'static str, content: &'static str) -> MethodRouter<Shown> {
    let headers = headers(content_type);
    get(async move || (headers, content).into_response())
}

/// A runbook is open like the page: what to do in an outage is no secret.
async fn runbook(
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<impl IntoResponse, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match runbooks::page(&name) {
        Some(page) => Ok((headers("text/html; charset=utf-8"), page)),
        None => Err(Problem::not_found("runbook", "name", name)),
    }
}

fn headers(content_type: &'static str) -> [(header::HeaderName, HeaderValue); 5] {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The next version of the binary has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::console::places::Source;
    use crate::console::span::{Span, SpanId, Status, TraceId};
    use crate::console::traces::LIMITS;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn page(token: Option<&str>) -> Router {
        let address = SocketAddr::from(([127, 0, 0, 1], 8900));
        let traces = Arc::new(Traces::new(LIMITS));
        let span = Span {
            trace: TRACE.parse::<TraceId>().unwrap(),
            id: SpanId::from_bytes(&[1; 8]).unwrap(),
            parent: None,
            name: "<script>alert(1)</script>".into(),
            service: Arc::from("shop"),
            instance: Arc::from("shop-7"),
            kind: "server",
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_000_500_000_000,
            status: Status::Error,
            message: String::new(),
            attributes: vec![("http.response.status_code".into(), 503.into())],
        };
        traces.add(vec![span], 0);
        let targets = vec!["shop=http://127.0.0.1:9464".parse().unwrap()];
        let shown = Shown {
            traces,
            watch: Arc::new(Watch::new(Source::Given(targets), None)),
            otlp: SocketAddr::from(([127, 0, 0, 1], 4318)),
            judge: Some(Arc::new(a_judge())),
        };
        router(shown, &Guard::new(address, token))
    }

    fn a_judge() -> Judge {
        Judge::new(judge::Config {
            rules_name: "none".into(),
            rules: "groups: []".into(),
            interval: std::time::Duration::from_secs(1),
            alertmanager: None,
        })
        .unwrap()
    }

    async fn ask(page: Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Vec<u8>) {
        let mut request = Request::get(path).header("host", "127.0.0.1:8900");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = page.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    async fn json(path: &str) -> (u16, Value) {
        let (status, body) = ask(page(None), path, &[]).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn the_page_is_whole_and_open() {
        for (path, _, content) in PARTS {
            let (status, body) = ask(page(Some("secret")), path, &[]).await;
            assert_eq!(
                (status.as_u16(), body.as_slice()),
                (200, content.as_bytes())
            );
        }
        // Each part that the page names is served, and nothing comes from elsewhere.
        for (_, _, content) in PARTS {
            assert!(!content.contains("https://"));
            for mark in ["from '", "src=\"", "href=\"", "ask('"] {
                for rest in content.split(mark).skip(1) {
                    let named = rest.split(['"', '\'']).next().unwrap();
                    let path = named.trim_start_matches('.');
                    let served = PARTS.iter().any(|part| part.0 == path);
                    let other = path.starts_with("/api/") || path.starts_with("data:");
                    assert!(served || other, "{named}");
                }
            }
        }
    }

    #[tokio::test]
    async fn the_api_is_guarded() {
        for path in [
            "/api/status",
            "/api/targets",
            "/sd",
            "/api/v1/query?query=1",
            "/api/v1/alerts",
            "/api/traces",
            &format!("/api/traces/{TRACE}"),
        ] {
            let status = async |headers: &[(&str, &str)]| {
                ask(page(Some("secret")), path, headers).await.0.as_u16()
            };
            assert_eq!(status(&[]).await, 401);
            assert_eq!(status(&[("authorization", "Bearer secret")]).await, 200);
            let elsewhere = [
                ("authorization", "Bearer secret"),
                ("origin", "http://evil.example"),
            ];
            assert_eq!(status(&elsewhere).await, 403);
        }
    }

    #[tokio::test]
    async fn a_trace_is_found_by_filters_and_by_id() {
        let (_, list) = json("/api/traces?errors=1&min_ms=500&service=shop&limit=5").await;
        assert_eq!(list["traces"][0]["id"], TRACE);
        assert_eq!(list["traces"][0]["failed"], true);
        assert_eq!(json("/api/traces?min_ms=501").await.1["matched"], 0);
        let (_, trace) = json(&format!("/api/traces/{TRACE}")).await;
        assert_eq!(trace["duration_s"], 0.5);
        assert_eq!(trace["rows"][0]["parent"], Value::Null);
        assert_eq!(
            trace["rows"][0]["attributes"]["http.response.status_code"],
            503
        );
    }

    #[tokio::test]
    async fn a_prometheus_finds_the_roles() {
        for path in ["/sd", "/api/targets"] {
            let (code, targets) = json(path).await;
            assert_eq!(code, 200);
            assert_eq!(targets[0]["targets"][0], "127.0.0.1:9464");
            assert_eq!(targets[0]["labels"]["role"], "shop");
        }
    }

    #[tokio::test]
    async fn runbooks_are_open() {
        let (status, body) = ask(page(Some("secret")), "/runbooks/FiredrillRoleDown", &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains("<h1>FiredrillRoleDown</h1>")
        );
        let (status, _) = ask(page(None), "/runbooks/..%2fsecret", &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_cannot_be_answered_names_the_field() {
        let unknown = "f".repeat(32);
        for (path, status, field) in [
            (format!("/api/traces/{unknown}"), 404, "id"),
            ("/api/traces/nonsense".into(), 400, "id"),
            ("/api/traces/%ff".into(), 400, "id"),
            ("/api/traces?errors=maybe".into(), 400, "errors"),
            ("/api/traces?min_ms=-1".into(), 400, "min_ms"),
            ("/api/traces?min_ms=NaN".into(), 400, "min_ms"),
            ("/api/traces?quiet_ms=soon".into(), 400, "quiet_ms"),
            ("/api/traces?limit=0".into(), 400, "limit"),
            ("/api/traces?limit=99999".into(), 400, "limit"),
            ("/api/traces?slow=1".into(), 400, "query"),
            ("/api/nothing".into(), 404, "path"),
        ] {
            let (got, problem) = json(&path).await;
            assert_eq!((got, &problem["field"]), (status, &field.into()), "{path}");
        }
    }

    #[tokio::test]
    async fn whoever_speaks_with_a_prometheus_reads_its_errors() {
        let (status, answer) = json("/api/v1/nothing").await;
        let told = (&answer["status"], &answer["errorType"]);
        assert_eq!(
            (status, told),
            (404, (&"error".into(), &"not_found".into()))
        );
        assert_eq!(answer["error"], "There is no such path.");
        let (status, body) = ask(page(Some("secret")), "/api/v1/alerts", &[]).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status.as_u16(), &answer["errorType"]),
            (401, &"bad_data".into())
        );
        // A house so full that nobody else is let in.
        let none: &[(Method, &[u16])] = &[];
        let routes = Routes::new(0).add("/api/v1/query", none, get(async || "never"));
        let full = routes.build(()).layer(from_fn(judge::api::in_envelope));
        let (status, body) = ask(full, "/api/v1/query", &[]).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status.as_u16(), &answer["errorType"]),
            (503, &"unavailable".into())
        );
    }

    #[tokio::test]
    async fn the_status_names_the_receiver_and_tells_no_choice() {
        let (code, status) = json("/api/status").await;
        assert_eq!(code, 200);
        assert_eq!(status["otlp"], "127.0.0.1:4318");
        assert_eq!(status["store"]["traces"], 1);
        let text = status.to_string();
        assert!(!text.contains("choice") && !text.contains("shock"));
    }
}
