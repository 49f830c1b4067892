//! The outermost layer of a server: every request is counted, whatever becomes of it.
//!
//! Code behind an `.await` does not run when the client leaves or a timeout drops the handler, so a layer
//! that records there loses the slowest requests exactly when they matter. The guard here records in `Drop`
//! and travels with the answer's body, so that the duration ends when the last byte was handed over. It
//! belongs to one route, and its handles are cached: a request builds no label.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response};
use metrics::{Gauge, Histogram};
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};

use super::{catalog, context};

/// Put into a response's extensions by who knows why it is an error: a short, fixed word for the label
/// `error_type` (`timeout`, `shed`, ...). Without it a 5xx is labelled with its status.
#[derive(Debug, Clone, Copy)]
pub struct ErrorType(pub &'static str);

/// The label and span name of requests that match no route. Their paths are the client's to choose and must
/// never become label values.
pub const UNMATCHED: &str = "unmatched";

/// Observes the requests of one route.
#[derive(Debug, Clone)]
pub struct Observe {
    route: Arc<Route>,
}

#[derive(Debug)]
struct Route {
    name: &'static str,
    series: RwLock<HashMap<(&'static str, u16, &'static str), Histogram>>,
    active: HashMap<&'static str, Gauge>,
}

impl Observe {
    /// Observes `route`; the series of each of `expected` (method and status) exist at zero from now on.
    #[must_use]
    pub fn new(route: &'static str, expected: &[(Method, u16)]) -> Self {
        let active = METHODS
            .iter()
            .map(|method| {
                (
                    *method,
                    catalog::http_server_active_requests(*method, "http"),
                )
            })
            .collect();
        let route = Route {
            name: route,
            series: RwLock::default(),
            active,
        };
        for (method, status) in expected {
            drop(route.histogram(method_name(method), *status, default_error_type(*status)));
        }
        Self {
            route: Arc::new(route),
        }
    }
}

impl Route {
    fn histogram(&self, method: &'static str, status: u16, error_type: &'static str) -> Histogram {
        let key = (method, status, error_type);
        let cached = self
            .series
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        cached.unwrap_or_else(|| {
            let code = if status == 0 {
                String::new()
            } else {
                status.to_string()
            };
            let made =
                catalog::http_server_request_duration_seconds(method, self.name, code, error_type);
            let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
            series.entry(key).or_insert(made).clone()
        })
    }
}

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "_OTHER",
];

/// A bounded name: methods that the client invents all become `_OTHER`.
fn method_name(method: &Method) -> &'static str {
    METHODS
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("_OTHER")
}

fn default_error_type(status: u16) -> &'static str {
    match status {
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        501.. => "5xx",
        _ => "",
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            route: Arc::clone(&self.route),
        }
    }
}

/// A service whose requests are observed.
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S, B> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut guard = Guard::start(&self.route, &request);
        let span = guard.span.clone();
        let inner = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let response = inner.await?;
            guard.answered(&response);
            Ok(response.map(|body| {
                Body::new(ObservedBody {
                    body: Box::pin(body),
                    _guard: guard,
                })
            }))
        })
    }
}

/// Records the request when it is dropped: with the answer's status if there was one, else as `cancelled`.
struct Guard {
    route: Arc<Route>,
    method: &'static str,
    started: Instant,
    in_flight: InFlight,
    status: u16,
    error_type: &'static str,
    span: Span,
}

impl Guard {
    fn start(route: &Arc<Route>, request: &Request) -> Self {
        let method = method_name(request.method());
        if let Some(active) = route.active.get(method) {
            active.increment(1.0);
        }
        let started = Instant::now();
        Self {
            route: Arc::clone(route),
            method,
            started,
            in_flight: InFlight::enter(started),
            status: 0,
            error_type: "cancelled",
            span: server_span(route.name, method, request.uri(), request.headers()),
        }
    }

    fn answered<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
        let named = response
            .extensions()
            .get::<ErrorType>()
            .map(|error_type| error_type.0);
        self.error_type = named.unwrap_or_else(|| default_error_type(self.status));
        self.span
            .record("http.response.status_code", i64::from(self.status));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let histogram = self
            .route
            .histogram(self.method, self.status, self.error_type);
        histogram.record(self.started.elapsed().as_secs_f64());
        if let Some(active) = self.route.active.get(self.method) {
            active.decrement(1.0);
        }
        if !self.error_type.is_empty() {
            self.span.record("error.type", self.error_type);
        }
        if self.status >= 500 {
            self.span.record("otel.status_code", "ERROR");
        }
        self.in_flight.leave(self.started);
    }
}

fn server_span(
    route: &'static str,
    method: &'static str,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
) -> Span {
    let span_method = if method == "_OTHER" { "HTTP" } else { method };
    let matched = (route != UNMATCHED).then_some(route);
    let name = matched.map_or_else(
        || span_method.to_owned(),
        |route| format!("{span_method} {route}"),
    );
    let span = tracing::info_span!(
        "server",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = matched,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
        url.path = uri.path(),
        url.scheme = "http",
    );
    context::adopt_parent(&span, headers);
    span
}

/// The body, and with it the guard: dropped together when the last byte is out or the client is gone.
struct ObservedBody<B> {
    body: Pin<Box<B>>,
    _guard: Guard,
}

impl<B: HttpBody<Data = Bytes>> HttpBody for ObservedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// When each request under way started, so that the oldest can be told: a request that hangs has no duration
/// yet and shows nowhere else.
static STARTED: Mutex<BTreeSet<(Instant, u64)>> = Mutex::new(BTreeSet::new());

#[derive(Debug)]
struct InFlight(u64);

impl InFlight {
    fn all() -> MutexGuard<'static, BTreeSet<(Instant, u64)>> {
        STARTED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(started: Instant) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self::all().insert((started, id));
        Self(id)
    }

    fn leave(&self, started: Instant) {
        Self::all().remove(&(started, self.0));
    }
}

/// Sets the age of the oldest request under way; zero when there is none.
pub(super) fn collect() {
    let oldest = InFlight::all().first().map(|entry| entry.0);
    let age = oldest.map_or(0.0, |started| started.elapsed().as_secs_f64());
    catalog::firedrill_http_server_oldest_request_age_seconds().set(age);
}
