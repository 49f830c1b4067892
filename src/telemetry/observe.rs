//! The outermost layer of a server: every request is counted, whatever becomes of it.
//!
//! Code behind an `.await` does not run when the client leaves or a timeout drops the handler, so a layer
//! that records there loses the slowest requests exactly when they matter. The guard here records in `Drop`
//! and travels with the answer's body, so that the duration ends when the last byte was handed over; an answer
//! whose body was not wanted to its end was cancelled, whatever its status. The guard belongs to one route, and
//! its handles are cached: a request builds no label.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{Method, Response};
use metrics::{Gauge, Histogram};
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span, field};

use super::account::{Account, Carried, Part};
use super::durations::{Durations, Outcome};
use super::in_flight::InFlight;
use super::{catalog, context};

/// From this long on a request is slow: twice what is promised of the slowest kind.
const SLOW: Duration = Duration::from_secs(1);

/// Put into a response's extensions by who knows why it is an error: a short, fixed word for the label
/// `error_type` (`timeout`, `shed`, ...). Without it a 5xx is labelled with its status.
#[derive(Debug, Clone, Copy)]
pub struct ErrorType(pub &'static str);

/// The route of requests that match none.
pub const UNMATCHED: &str = "unmatched";

/// Says under which name a request for a path is counted that matches no route. Whoever has no reason for another
/// says [`UNMATCHED`]: paths are the client's to choose, and each name is a series.
pub type Naming = fn(path: &str) -> &str;

/// Observes the requests of one route.
#[derive(Debug, Clone)]
pub struct Observe {
    route: Arc<Route>,
}

/// The series of one route.
#[derive(Debug)]
struct Route {
    name: &'static str,
    /// Absent where requests are counted under the route's name.
    naming: Option<Naming>,
    durations: Durations,
    active: [Gauge; METHODS.len()],
    /// Made for the first request: some 130 lines for each route that nobody asks for would be most of a scrape.
    anatomy: OnceLock<Anatomy>,
    in_flight: Mutex<InFlight>,
    oldest: Gauge,
}

/// What the requests of a route go through.
#[derive(Debug)]
struct Anatomy {
    headers: Histogram,
    parts: [Histogram; Part::ALL.len()],
    polls: Histogram,
    database_operations: Histogram,
    allocated: Histogram,
}

impl Anatomy {
    fn of(route: &'static str) -> Self {
        let part =
            |part: Part| catalog::firedrill_http_server_request_part_seconds(route, part.name());
        Self {
            headers: catalog::firedrill_http_server_headers_duration_seconds(route),
            parts: Part::ALL.map(part),
            polls: catalog::firedrill_http_server_request_polls(route),
            database_operations: catalog::firedrill_http_server_request_database_operations(route),
            allocated: catalog::firedrill_http_server_request_allocated_bytes(route),
        }
    }
}

impl Observe {
    /// Observes `route`; the series of each of `expected` exist at zero from now on. An answer is a method, a status (0
    /// if there is none) and its `error_type`; without one, that of the status alone.
    #[must_use]
    pub fn new(route: &'static str, expected: &[(Method, u16, Option<&'static str>)]) -> Self {
        Self::named(route, None, expected)
    }

    /// Observes what matches no route, counted as `naming` says.
    #[must_use]
    pub fn unmatched(naming: Naming, expected: &[(Method, u16, Option<&'static str>)]) -> Self {
        Self::named(UNMATCHED, Some(naming), expected)
    }

    fn named(
        route: &'static str,
        naming: Option<Naming>,
        expected: &[(Method, u16, Option<&'static str>)],
    ) -> Self {
        let active = |method| catalog::http_server_active_requests(method, "http");
        let route = Route {
            name: route,
            naming,
            durations: Durations::of(route),
            active: METHODS.map(active),
            anatomy: OnceLock::new(),
            in_flight: Mutex::default(),
            oldest: catalog::firedrill_http_server_oldest_request_age_seconds(route),
        };
        for (method, status, error_type) in expected {
            let outcome = Outcome {
                method: method_index(method),
                status: *status,
                error_type: error_type.unwrap_or_else(|| default_error_type(*status)),
            };
            drop(route.durations.histogram(None, outcome));
        }
        let route = Arc::new(route);
        lock(&ROUTES).push(Arc::downgrade(&route));
        Self { route }
    }
}

impl Route {
    fn anatomy(&self) -> &Anatomy {
        self.anatomy.get_or_init(|| Anatomy::of(self.name))
    }

    /// The name under which a request for `path` is counted, if it is not that of the route.
    fn name_of(&self, path: &str) -> Option<Box<str>> {
        let name = (self.naming?)(path);
        (name != self.name).then(|| name.into())
    }

    /// Records what the request that has this account went through until now.
    fn record(&self, account: &Account) {
        let anatomy = self.anatomy();
        for (part, histogram) in Part::ALL.into_iter().zip(&anatomy.parts) {
            histogram.record(account.spent(part).as_secs_f64());
        }
        anatomy.polls.record(account.polls() as f64);
        let operations = account.database_operations();
        anatomy.database_operations.record(operations as f64);
        anatomy.allocated.record(account.allocated() as f64);
    }
}

pub(super) const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "_OTHER",
];

/// The place of its bounded name: methods that the client invents all become `_OTHER`.
fn method_index(method: &Method) -> usize {
    let found = METHODS.iter().position(|known| *known == method.as_str());
    found.unwrap_or(METHODS.len() - 1)
}

fn default_error_type(status: u16) -> &'static str {
    match status {
        500.. => status_error_type(status),
        _ => "",
    }
}

/// The label `error_type` of an answer that has no better word for its error than its status.
#[must_use]
pub fn status_error_type(status: u16) -> &'static str {
    match status {
        400 => "400",
        401 => "401",
        402 => "402",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        431 => "431",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ if status >= 500 => "5xx",
        _ if status >= 400 => "4xx",
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

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let guard = Guard::start(&self.route, &request);
        // Only makes the future; the work begins with its first poll.
        let inner = self.inner.call(request);
        Answering {
            inner: guard.account.follow(inner.instrument(guard.span.clone())),
            guard: Some(guard),
        }
    }
}

pin_project_lite::pin_project! {
    /// A request under way.
    pub struct Answering<F> {
        #[pin]
        inner: Carried<Instrumented<F>>,
        // Until the answer takes it along.
        guard: Option<Guard>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Answering<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Poll::Ready(Ok(response)) = this.inner.poll(context) else {
            return Poll::Pending;
        };
        let mut guard = this.guard.take().expect("nobody polls what has ended");
        guard.answered(&response);
        Poll::Ready(Ok(
            response.map(|body| Body::new(ObservedBody::new(body, guard)))
        ))
    }
}

/// Records the request when it is dropped: with the answer's status if there was one, else as `cancelled`.
struct Guard {
    route: Arc<Route>,
    /// Under which it is counted, if it is not that of the route.
    name: Option<Box<str>>,
    account: Arc<Account>,
    outcome: Outcome,
    started: Instant,
    /// Whether all that the client wanted was handed over.
    complete: bool,
    /// Where its start is noted.
    place: usize,
    span: Span,
}

/// The `error_type` of a request whose client did not stay for all of the answer, or for any.
pub const CANCELLED: &str = "cancelled";

impl Guard {
    fn start(route: &Arc<Route>, request: &Request) -> Self {
        let method = method_index(request.method());
        route.active[method].increment(1.0);
        let started = Instant::now();
        let (account, span) = context::open(Some(request.headers()), || {
            server_span(route.name, METHODS[method], request.uri())
        });
        Self {
            route: Arc::clone(route),
            name: route.name_of(request.uri().path()),
            account,
            outcome: Outcome {
                method,
                status: 0,
                error_type: CANCELLED,
            },
            started,
            complete: false,
            place: lock(&route.in_flight).enter(started),
            span,
        }
    }

    fn answered(&mut self, response: &Response<Body>) {
        let status = response.status().as_u16();
        let named = response
            .extensions()
            .get::<ErrorType>()
            .map(|error_type| error_type.0);
        self.outcome.status = status;
        self.outcome.error_type = named.unwrap_or_else(|| default_error_type(status));
        // An answer to HEAD has no body, though it may describe one.
        self.complete = METHODS[self.outcome.method] == "HEAD";
        let elapsed = self.started.elapsed().as_secs_f64();
        let headers = &self.route.anatomy().headers;
        self.account.enter(|| headers.record(elapsed));
    }

    /// Logs the request's one event: of all requests at `debug`, of a slow one at `info`, of one that failed or that
    /// nobody waited for at `warn`.
    fn log(&self, elapsed: Duration) {
        macro_rules! tell {
            ($level:ident) => {{
                let (outcome, account) = (self.outcome, &self.account);
                let spent_s = |part| account.spent(part).as_secs_f64();
                tracing::event!(
                    target: "http",
                    tracing::Level::$level,
                    http.request.method = METHODS[outcome.method],
                    http.route = self.route.name,
                    http.response.status_code = (outcome.status > 0).then_some(outcome.status),
                    error.type = (!outcome.error_type.is_empty()).then_some(outcome.error_type),
                    duration_s = elapsed.as_secs_f64(),
                    busy_s = spent_s(Part::Busy),
                    ready_s = spent_s(Part::Ready),
                    pool_s = spent_s(Part::Pool),
                    database_s = spent_s(Part::Database),
                    downstream_s = spent_s(Part::Downstream),
                    "A request ended."
                );
            }};
        }
        if self.outcome.has_failed() {
            tell!(WARN);
        } else if elapsed >= SLOW {
            tell!(INFO);
        } else {
            tell!(DEBUG);
        }
    }

    /// Tells the span how the request ended and what it went through, all at once: each time costs a search for it.
    fn tell_span(&self) {
        let (outcome, account) = (self.outcome, &self.account);
        let spent_s = |part| account.spent(part).as_secs_f64();
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        tracing::record_all!(
            self.span,
            http.response.status_code =
                (outcome.status > 0).then_some(i64::from(outcome.status)),
            error.type = outcome.has_failed().then_some(outcome.error_type),
            otel.status_code = outcome.has_failed().then_some("ERROR"),
            firedrill.busy_s = spent_s(Part::Busy),
            firedrill.ready_s = spent_s(Part::Ready),
            firedrill.pool_s = spent_s(Part::Pool),
            firedrill.database_s = spent_s(Part::Database),
            firedrill.downstream_s = spent_s(Part::Downstream),
            firedrill.polls = number(account.polls()),
            firedrill.database_operations = number(account.database_operations()),
            firedrill.allocated_bytes = number(account.allocated())
        );
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        if !self.complete && self.outcome.error_type.is_empty() {
            self.outcome.error_type = CANCELLED;
        }
        let (route, account) = (&self.route, &self.account);
        account.enter(|| {
            let durations = route
                .durations
                .histogram(self.name.as_deref(), self.outcome);
            durations.record(elapsed.as_secs_f64());
            route.record(account);
            self.log(elapsed);
        });
        route.active[self.outcome.method].decrement(1.0);
        self.tell_span();
        lock(&route.in_flight).leave(self.place);
    }
}

fn server_span(route: &'static str, method: &'static str, uri: &axum::http::Uri) -> Span {
    let span_method = if method == "_OTHER" { "HTTP" } else { method };
    let matched = (route != UNMATCHED).then_some(route);
    let name = matched.map_or_else(
        || span_method.to_owned(),
        |route| format!("{span_method} {route}"),
    );
    tracing::info_span!(
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
        firedrill.busy_s = field::Empty,
        firedrill.ready_s = field::Empty,
        firedrill.pool_s = field::Empty,
        firedrill.database_s = field::Empty,
        firedrill.downstream_s = field::Empty,
        firedrill.polls = field::Empty,
        firedrill.database_operations = field::Empty,
        firedrill.allocated_bytes = field::Empty,
    )
}

/// The body, and with it the guard: dropped together when the last byte is out or the client is gone.
struct ObservedBody {
    body: Body,
    guard: Guard,
}

impl ObservedBody {
    fn new(body: Body, mut guard: Guard) -> Self {
        guard.complete |= body.is_end_stream();
        Self { body, guard }
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Err(_))) => self.guard.outcome.error_type = "body",
            Poll::Ready(end) if end.is_none() || self.body.is_end_stream() => {
                self.guard.complete = true;
            }
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Every route of this process that is observed.
static ROUTES: Mutex<Vec<Weak<Route>>> = Mutex::new(Vec::new());

/// Sets the age of the oldest request under way at each route; zero where there is none.
pub(super) fn collect() {
    let routes = lock(&ROUTES);
    // Two servers of one process share the gauges of the routes that both have, as `unmatched`.
    let mut ages: HashMap<&str, (f64, Arc<Route>)> = HashMap::new();
    for route in routes.iter().filter_map(Weak::upgrade) {
        let oldest = lock(&route.in_flight).oldest();
        let age = oldest.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let (known, _) = ages.entry(route.name).or_insert((0.0, route));
        *known = known.max(age);
    }
    for (age, route) in ages.into_values() {
        route.oldest.set(age);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
