//! What stands between the observer and every handler: a limit on requests under way, and an end for panics.
//!
//! Without the limit a burst would hold memory for requests that are answered too late; without the other a panic
//! would close the connection and take the requests behind it along. Both are one service without a box of its own,
//! because each request pays for it.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

use super::Problem;
use crate::telemetry::catalog;

/// Stands before the handlers of a route.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
}

impl Gate {
    /// Lets as many requests in at the same time as there are places; whoever has the same ones shares the limit.
    pub(super) fn new(places: Arc<Semaphore>) -> Self {
        Self { places }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        let places = Arc::clone(&self.places);
        Gated { inner, places }
    }
}

/// Handlers behind a gate.
#[derive(Debug, Clone)]
pub(super) struct Gated<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Answer::Admitted {
                handler: self.inner.call(request),
                _place: place,
            },
            Err(_) => Answer::Refused,
        }
    }
}

pin_project! {
    /// The answer of a handler, or the one that the gate gives in its place.
    #[project = AnswerState]
    pub(super) enum Answer<F> {
        Admitted { #[pin] handler: F, _place: OwnedSemaphorePermit },
        Refused,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let AnswerState::Admitted { handler, .. } = self.project() else {
            return Poll::Ready(Ok(refused()));
        };
        // Nothing of the handler is used again after a panic.
        catch_unwind(AssertUnwindSafe(|| handler.poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Ok(panicked())))
    }
}

/// At once: a request that waits here would hold memory and be answered too late.
fn refused() -> Response {
    catalog::firedrill_requests_shed_total("concurrency").increment(1);
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many requests are under way.",
    )
    .retry_after(1)
    .error_type("shed")
    .into_response()
}

fn panicked() -> Response {
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
    use axum::http::Method;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::super::Routes;
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
