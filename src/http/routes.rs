//! The table of a role's routes, each wrapped the same way.
//!
//! From the outside in: the observer (so that it sees all the rest), then the gate, then the handler. A route added
//! past this table would be neither counted nor limited.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::sync::Semaphore;

use super::Problem;
use super::gate::Gate;
use crate::telemetry::catalog;
use crate::telemetry::observe::{CANCELLED, Naming, Observe, UNMATCHED};

/// An answer that a route may give: a status, or a status and the label `error_type` that tells why. An empty one means
/// that the status tells.
pub trait Expected: Copy {
    /// The status, and why.
    fn answer(self) -> (u16, Option<&'static str>);
}

impl Expected for u16 {
    fn answer(self) -> (u16, Option<&'static str>) {
        (self, None)
    }
}

impl Expected for (u16, &'static str) {
    fn answer(self) -> (u16, Option<&'static str>) {
        let (status, error_type) = self;
        (status, (!error_type.is_empty()).then_some(error_type))
    }
}

/// What may become of a request at any route: its client leaves, or the gate refuses it.
const ALWAYS: [(u16, &str); 2] = [(0, CANCELLED), (503, "shed")];

/// Collects routes; [`Routes::build`] makes the service.
#[derive(Debug)]
pub struct Routes<S> {
    router: Router<S>,
    places: Arc<Semaphore>,
    unmatched: Naming,
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
            unmatched: |_| UNMATCHED,
        }
    }

    /// Counts what matches no route under the names that `naming` gives; without this, all of it under one.
    #[must_use]
    pub fn unmatched(mut self, naming: Naming) -> Self {
        self.unmatched = naming;
        self
    }

    /// Adds one route for one method. `expected` are the answers that it gives in normal use and when what it needs
    /// fails: their series exist from the start, so that the first of them is already an increase.
    #[must_use]
    pub fn on<T: 'static>(
        self,
        method: Method,
        path: &'static str,
        expected: &[impl Expected],
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
        expected: &[(Method, &[impl Expected])],
        methods: MethodRouter<S>,
    ) -> Self {
        let mut answers = Vec::new();
        for (method, expected) in expected {
            let expected = expected.iter().map(|expected| expected.answer());
            let always = ALWAYS.iter().map(|always| always.answer());
            for (status, error_type) in expected.chain(always) {
                answers.push((method.clone(), status, error_type));
            }
        }
        let methods = methods
            .fallback(method_not_allowed)
            // One layer made of two: the router boxes, copies and drops a service for each.
            .layer::<_, Infallible>((
                Observe::new(path, &answers),
                Gate::new(Arc::clone(&self.places)),
            ));
        self.router = self.router.route(path, methods);
        self
    }

    /// The service: the routes, and a problem for everything else.
    pub fn build(self, state: S) -> Router {
        let unmatched = Observe::unmatched(self.unmatched, &[(Method::GET, 404, None)]);
        let fallback = on(MethodFilter::GET, no_such_path)
            .fallback(no_such_path)
            .layer::<_, Infallible>(unmatched)
            .with_state(());
        self.router.fallback_service(fallback).with_state(state)
    }
}

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found("path", "path", request.uri().path())
}

/// The answer to a method that a path does not have.
pub async fn method_not_allowed(request: Request) -> Problem {
    let detail = "This path does not answer that method; see the Allow header.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        .field("method")
        .value(request.method().as_str())
}
