//! The control plane: the second listener of a role, on a thread and a runtime of its own.
//!
//! Metrics and the switch that cures must answer when nothing else does. If they shared the data plane's
//! workers, the outage would hide itself: `/metrics` would hang with the rest, a probe would kill the process
//! for being busy, and no choice could be flipped back.
//!
//! - [`lifecycle`]: how a role starts, says that it is ready, and stops
//! - `routes`: `/metrics /livez /readyz /choices /changes /shocks /log /exit`
//! - [`changes`]: what somebody did to a role, as events; [`release`]: which version of it runs
//! - [`restart`]: asks a role to start again, for those who deploy
//! - `debug`: `/debug/pprof/profile /debug/pprof/heap /debug/flamegraph`
//! - `auth`: the token, and the checks of `Host` and `Origin`
//! - [`lab`]: the file by which a running lab is found
//! - [`shocks`]: what the world does to a role, always with an end

mod auth;
pub mod changes;
mod debug;
pub mod lab;
pub mod lifecycle;
pub mod release;
pub mod restart;
mod routes;
pub mod shocks;

pub use auth::{Guard, check_bind, guard};

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::choices::Book;
use crate::http::server::{Limits, serve};
use crate::telemetry::Telemetry;
use changes::{Changes, Kind};
use release::Release;
use shocks::Shocks;

/// Whether the role can do its work. Off at start, and again from the moment it is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the role can, or can no longer, do its work.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it can.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the control plane of a role acts on.
#[derive(Debug, Clone)]
pub struct Plane {
    /// The role's name.
    pub role: &'static str,
    /// Its telemetry.
    pub telemetry: Arc<Telemetry>,
    /// Its choices.
    pub book: Arc<Book>,
    /// What was changed.
    pub changes: Arc<Changes>,
    /// Which version runs.
    pub release: Arc<Release>,
    /// Its shocks.
    pub shocks: Arc<Shocks>,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// Cancelled when the role is to stop.
    pub stop: CancellationToken,
    /// Who may ask.
    pub guard: Guard,
}

impl Plane {
    /// Serves the control plane on a thread of its own until the process ends. `more` holds the role's own
    /// control routes; they are guarded like the others.
    pub fn spawn(self, listener: TcpListener, more: Router) -> std::io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            // Also those of its blocking calls: a profile tells threads apart by their names.
            .thread_name("control")
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let listener = tokio::net::TcpListener::from_std(listener)
                        .expect("the listener is non-blocking");
                    tokio::spawn(housekeeping(self.clone()));
                    let limits = Limits {
                        listener: "control",
                        connections_max: 128,
                        // Well within the supervisor's patience: whoever takes every place loses it again before a
                        // role that is well is taken for stuck.
                        header_timeout: Duration::from_secs(5),
                        write_timeout: Duration::from_secs(5),
                        ..Limits::default()
                    };
                    // It answers until the process ends, also while the data plane drains.
                    serve(
                        listener,
                        routes::router(self, more),
                        limits,
                        CancellationToken::new(),
                    )
                    .await;
                });
            })?;
        Ok(address)
    }
}

/// Ends what has expired.
async fn housekeeping(plane: Plane) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        plane.shocks.expire();
        if plane.telemetry.log_filter().expire() {
            plane.changes.note(Kind::Config, "");
        }
        let book = Arc::clone(&plane.book);
        // Writes only when something has expired, and then not on the thread that must answer.
        let expired = tokio::task::spawn_blocking(move || book.expire()).await;
        for _ in 0..expired.unwrap_or(0) {
            plane.changes.note(Kind::Config, "");
        }
    }
}
