//! The accept loop: bounded connections, bounded headers, a drain that ends.
//!
//! axum's own loop gives a slow client for ever to finish its header and to read its answer, and its graceful shutdown
//! waits for the last connection without a limit. All three are outages; the loop here bounds them and counts what
//! it does.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::catalog::Gauge;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::catalog;

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What metrics call the listener.
    pub listener: &'static str,
    /// Connections held open at the same time; more wait in the kernel's accept queue.
    pub connections_max: usize,
    /// Time from the first byte of a request until its header is complete, also the longest idle time.
    pub header_timeout: Duration,
    /// Time that a client may leave an answer unread before its connection is closed.
    pub write_timeout: Duration,
    /// Bytes of a request's header.
    pub header_bytes_max: usize,
    /// Time that requests under way get to finish, once the server is told to stop.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            listener: "data",
            // Under `up` a process may open 1024 files; its database and its own calls need some of them.
            connections_max: 640,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            header_bytes_max: 16 * 1024,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request was answered.
    Complete,
    /// Requests were still under way when the drain timeout ended.
    TimedOut,
}

/// Serves until `stop` is cancelled, then stops accepting, lets requests under way finish and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> Drained {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let maximum = catalog::firedrill_http_server_connections_max(limits.listener);
    maximum.set(limits.connections_max as f64);
    let open = catalog::firedrill_http_server_open_connections(limits.listener);
    open.set(0.0);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = accepted;
        let (router, stop) = (router.clone(), stop.clone());
        let counted = OpenCount::new(open.clone());
        connections.spawn(async move {
            connection(stream, router, limits, stop).await;
            drop((counted, place));
        });
    }
    drop(listener);
    connections.close();
    match tokio::time::timeout(limits.drain_timeout, connections.wait()).await {
        Ok(()) => Drained::Complete,
        Err(_) => Drained::TimedOut,
    }
}

/// Counts a connection as open while it lives, however it ends.
struct OpenCount(Gauge);

impl OpenCount {
    fn new(open: Gauge) -> Self {
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The next connection, once there is a place for it. A failed accept (no descriptors left) is tried again
/// after a pause: the error stays until another connection closes.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(target: "http", error = %error, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    // Small answers must not wait for the acknowledgement of the one before; without it they are only slower.
    drop(stream.set_nodelay(true));
    // The kernel keeps this one: it knows whether the other side takes the bytes.
    let unread_ms = u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
    let _set = set_tcp_user_timeout(&stream, unread_ms);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    tokio::select! {
        // A client that breaks the protocol or leaves is its own affair; requests are counted elsewhere.
        result = serving.as_mut() => drop(result),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            drop(serving.await);
        }
    }
}
