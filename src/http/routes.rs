//! The table of a role's routes, each wrapped the same way.
//!
//! From the outside in: the observer (so that it sees all the rest), then whatever turns a panic into a 500,
//! then the limit on requests under way, then the handler. A route added past this table would be neither
//! counted nor guarded.

use std::any::Any;
use std::convert::Infallible;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use super::Problem;
use crate::telemetry::catalog;
use crate::telemetry::observe::{Observe, UNMATCHED};

/// Collects routes; [`Routes::build`] makes the service.
#[derive(Debug)]
pub struct Routes<S> {
    router: Router<S>,
    places: Arc<Semaphore>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet. At most `requests_max` requests are worked on at the same time; more are refused.
    #[must_use]
    pub fn new(requests_max: usize) -> Self {
        catalog::firedrill_requests_shed_total("concurrency").absolute(0);
        let places = Arc::new(Semaphore::new(requests_max));
        Self {
            router: Router::new(),
            places,
        }
    }

    /// Adds one route for one method. `expected` are the statuses that it gives in normal use: their series
    /// exist from the start.
    #[must_use]
    pub fn on<T: 'static>(
        self,
        method: Method,
        path: &'static str,
        expected: &[u16],
        handler: impl Handler<T, S>,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("a route has a standard method");
        self.add(path, &[(method, expected)], on(filter, handler))
    }

    /// Adds one route with several methods.
    #[must_use]
    pub fn add(
        mut self,
        path: &'static str,
        expected: &[(Method, &[u16])],
        methods: MethodRouter<S>,
    ) -> Self {
        let expected: Vec<(Method, u16)> = expected
            .iter()
            .flat_map(|(method, statuses)| statuses.iter().map(|status| (method.clone(), *status)))
            .collect();
        let guarded = methods
            .fallback(method_not_allowed)
            .layer::<_, Infallible>(from_fn_with_state(Arc::clone(&self.places), limited))
            .layer::<_, Infallible>(CatchPanicLayer::custom(panicked))
            .layer::<_, Infallible>(Observe::new(path, &expected));
        self.router = self.router.route(path, guarded);
        self
    }

    /// The service: the routes, and a problem for everything else.
    pub fn build(self, state: S) -> Router {
        let unmatched = Observe::new(UNMATCHED, &[(Method::GET, 404)]);
        let fallback = on(MethodFilter::GET, no_such_path)
            .fallback(no_such_path)
            .layer::<_, Infallible>(unmatched)
            .with_state(());
        self.router.fallback_service(fallback).with_state(state)
    }
}

/// Refuses at once what would not fit: a request that waits here would hold memory and be answered too late.
async fn limited(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_place) = places.try_acquire() else {
        catalog::firedrill_requests_shed_total("concurrency").increment(1);
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests are under way.",
        )
        .retry_after(1)
        .error_type("shed")
        .into_response();
    };
    next.run(request).await
}

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found("path", "path", request.uri().path())
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = "This path does not answer that method; see the Allow header.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        .field("method")
        .value(request.method().as_str())
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The request failed for a reason that is not yours.",
    )
    .error_type("panic")
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    fn request(path: &str) -> Request {
        Request::get(path)
            .body(Body::empty())
            .expect("the path is valid")
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_not_kept_waiting() {
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, wait) = (Arc::clone(&entered), Arc::clone(&release));
        let handler = move || async move {
            inside.notify_one();
            wait.notified().await;
        };
        let app = Routes::new(1)
            .on(Method::GET, "/", &[200], handler)
            .build(());
        let first = tokio::spawn(app.clone().oneshot(request("/")));
        entered.notified().await;
        let second = app.clone().oneshot(request("/")).await.unwrap();
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.headers()["retry-after"], "1");
        release.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_panic_is_a_500_and_gives_its_place_back() {
        async fn handler() {
            panic!("on purpose");
        }
        let app = Routes::new(1)
            .on(Method::GET, "/", &[200], handler)
            .build(());
        for _ in 0..3 {
            let answer = app.clone().oneshot(request("/")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
