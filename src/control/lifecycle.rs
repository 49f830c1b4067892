//! How a role starts, says that it is ready, and stops.
//!
//! Start: limits, telemetry, listeners (a port in use is found here, in one sentence), control plane (which
//! answers `/livez` from now on), then the role's own work, then one `ready` line on standard output.
//! Stop: readiness off, stop accepting, drain, the role's own end, flush the spans, flush the log lines. In any
//! other order requests are cut, or the last spans, or the lines that tell of them, are lost.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::release::Release;
use super::shocks::Shocks;
use super::{Guard, Plane, Readiness, check_bind};
use crate::choices::Book;
use crate::http::server::{Drained, Limits, serve};
use crate::telemetry::{self, Telemetry};

/// How long a role's own end may take: work without an end of its own must not keep the process.
const FINISH_MAX: Duration = Duration::from_secs(3);

/// How long standard error may take for the last log lines.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// How long all of stopping may take, when no parent is left to end it by force: five seconds of drain, three for
/// the role's own end, one for the runtime, three to send the last spans and log records, one to write the last log
/// lines, and some to spare.
const STOP_MAX: Duration = Duration::from_secs(15);

/// What every role is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The role's name.
    pub role: &'static str,
    /// Where the data plane listens; none for a role without one.
    pub data: Option<SocketAddr>,
    /// Where the control plane listens.
    pub control: SocketAddr,
    /// Where the role keeps its files; made if it is not there.
    pub dir: PathBuf,
    /// The token that the control plane asks for.
    pub token: Option<String>,
    /// Threads that run the data plane's tasks.
    pub workers: usize,
    /// File descriptors that the process may open; as inherited, if absent.
    pub open_files_max: Option<u64>,
    /// Memory for data that the process may hold, in bytes; as inherited, if absent.
    pub memory_max: Option<u64>,
    /// Whether standard input is a pipe from a parent with whom this process ends.
    pub parent_pipe: bool,
    /// How telemetry is set up.
    pub telemetry: telemetry::Config,
}

/// The one line on standard output, when a role is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: String,
    /// The role.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// Where its data plane listens.
    pub data: Option<SocketAddr>,
    /// Where its control plane listens.
    pub control: Option<SocketAddr>,
}

impl Ready {
    /// Says that `role`, this process, is ready.
    #[must_use]
    pub fn here(role: &str, data: Option<SocketAddr>, control: Option<SocketAddr>) -> Self {
        Self {
            event: "ready".into(),
            role: role.into(),
            pid: std::process::id(),
            data,
            control,
        }
    }

    /// Prints the line.
    pub fn print(&self) {
        let line = serde_json::to_string(self).expect("addresses and numbers can be written");
        // Nobody is left to tell when standard output is gone.
        drop(writeln!(std::io::stdout().lock(), "{line}"));
    }
}

/// What a role is given to work with.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its telemetry.
    pub telemetry: Arc<Telemetry>,
    /// Where it keeps its files.
    pub dir: PathBuf,
    /// Where its data plane listens, if it has one.
    pub data: Option<SocketAddr>,
    /// Where its control plane listens.
    pub control: SocketAddr,
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
}

/// What a role adds to its control plane.
#[derive(Debug, Default)]
pub struct Extras {
    /// Its shocks.
    pub shocks: Shocks,
    /// Its own control routes.
    pub routes: Router,
}

/// A role that runs: the service of its data plane, and what to do when the last request was answered.
pub struct Running<F> {
    /// The data plane; ignored by a role without a listener.
    pub router: Router,
    /// Called once, after the drain.
    pub finish: F,
}

impl<F> std::fmt::Debug for Running<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

/// Runs a role until it is told to stop. `start` does the role's own start-up on the data plane's runtime.
/// A sentence says what made it fail.
pub fn run<F: AsyncFnOnce()>(
    config: &Config,
    extras: Extras,
    start: impl AsyncFnOnce(Context) -> Result<Running<F>, String>,
) -> Result<(), String> {
    check_bind("the control plane", config.control, config.token.as_deref())?;
    limit(config)?;
    std::fs::create_dir_all(&config.dir).map_err(|error| {
        format!(
            "the directory {} cannot be made: {error}",
            config.dir.display()
        )
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_name("data")
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    let release = Release::open(&config.dir, &config.telemetry.service_version)?;
    let telemetry = Arc::new(telemetry::init(&telemetry::Config {
        service_version: release.version().into(),
        ..config.telemetry.clone()
    })?);
    let _last_lines = telemetry.last_lines(LAST_LINES_MAX);
    let stop = CancellationToken::new();
    let data = config
        .data
        .map(|address| bind("the data plane", address))
        .transpose()?;
    let control = control_plane(config, extras, &telemetry, release, &stop)?;
    let context = Context {
        telemetry: Arc::clone(&telemetry),
        dir: config.dir.clone(),
        data: data
            .as_ref()
            .and_then(|listener| listener.local_addr().ok()),
        control: control.0,
        stop: stop.clone(),
    };
    let result = runtime.block_on(async {
        watch_for_stop(&stop, config.parent_pipe)?;
        telemetry::probe_runtime();
        live(config, data, control, context, start).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    telemetry.shutdown(Duration::from_secs(3));
    result
}

async fn live<F: AsyncFnOnce()>(
    config: &Config,
    data: Option<TcpListener>,
    control: (SocketAddr, Readiness),
    context: Context,
    start: impl AsyncFnOnce(Context) -> Result<Running<F>, String>,
) -> Result<(), String> {
    let (control, readiness) = control;
    let stop = context.stop.clone();
    let running = tokio::select! {
        running = start(context) => running?,
        () = stop.cancelled() => return Ok(()),
    };
    let address = data
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    readiness.set(true);
    Ready::here(config.role, address, Some(control)).print();
    let data_address = address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    tracing::info!(target: "lifecycle", data = data_address, control = %control, "Ready.");
    let serving = serve_data(data, running.router, &stop);
    let unready = async {
        stop.cancelled().await;
        readiness.set(false);
    };
    let (drained, ()) = tokio::join!(serving, unready);
    if drained? == Drained::TimedOut {
        tracing::warn!(target: "lifecycle", "Requests were still under way when the drain ended.");
    }
    if tokio::time::timeout(FINISH_MAX, (running.finish)())
        .await
        .is_err()
    {
        tracing::warn!(target: "lifecycle", "Work was still under way when its time to finish ended.");
    }
    tracing::info!(target: "lifecycle", "Stopped.");
    Ok(())
}

/// Serves the data plane, if there is one, until `stop`.
async fn serve_data(
    data: Option<TcpListener>,
    router: Router,
    stop: &CancellationToken,
) -> Result<Drained, String> {
    let Some(listener) = data else {
        stop.cancelled().await;
        return Ok(Drained::Complete);
    };
    let in_words = |error: std::io::Error| format!("the data plane cannot start: {error}");
    listener.set_nonblocking(true).map_err(in_words)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(in_words)?;
    Ok(serve(listener, router, Limits::default(), stop.clone()).await)
}

fn control_plane(
    config: &Config,
    extras: Extras,
    telemetry: &Arc<Telemetry>,
    release: Release,
    stop: &CancellationToken,
) -> Result<(SocketAddr, Readiness), String> {
    let listener = bind("the control plane", config.control)?;
    release.keep()?;
    let readiness = Readiness::default();
    let plane = Plane {
        role: config.role,
        telemetry: Arc::clone(telemetry),
        book: Arc::new(Book::open(config.role, &config.dir)?),
        changes: Arc::new(Changes::new(release.deployed())),
        release: Arc::new(release),
        shocks: Arc::new(extras.shocks),
        readiness: readiness.clone(),
        stop: stop.clone(),
        guard: Guard::new(config.control, config.token.as_deref()),
    };
    let address = plane
        .spawn(listener, extras.routes)
        .map_err(|error| format!("the control plane cannot start: {error}"))?;
    Ok((address, readiness))
}

/// Binds a listener, or says in one sentence why not.
pub fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{what} cannot listen on {address}: the port is in use; choose another, or 0 for any (`firedrill up` does so with --ports auto)")
        }
        _ => format!("{what} cannot listen on {address}: {error}"),
    })
}

fn limit(config: &Config) -> Result<(), String> {
    let set = |what: &str, resource, value: Option<u64>| {
        let Some(value) = value else { return Ok(()) };
        let maximum = getrlimit(resource).maximum;
        if maximum.is_some_and(|maximum| value > maximum) {
            let maximum = maximum.unwrap_or_default();
            return Err(format!(
                "{what} cannot be {value}: this machine allows at most {maximum}"
            ));
        }
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum,
            },
        )
        .map_err(|error| format!("{what} cannot be set to {value}: {error}"))
    };
    set("--open-files-max", Resource::Nofile, config.open_files_max)?;
    // Private writable memory. RLIMIT_AS would also count what threads reserve and never touch.
    set("--memory-max", Resource::Data, config.memory_max)
}

/// Cancels `stop` on SIGTERM and SIGINT, and when the parent is gone.
pub fn watch_for_stop(stop: &CancellationToken, parent_pipe: bool) -> Result<(), String> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals =
            signal(kind).map_err(|error| format!("signals cannot be watched: {error}"))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    if parent_pipe {
        watch_parent(stop, || {
            std::thread::sleep(STOP_MAX);
            // The drain did not end, and nobody is left to end it.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("a process may kill itself");
        })?;
    }
    Ok(())
}

/// Cancels `stop` when standard input ends, which is when the parent does, and then runs `afterwards`. On a plain
/// thread: the parent's death must be noticed also while every worker is blocked.
pub fn watch_parent(
    stop: &CancellationToken,
    afterwards: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let stop = stop.clone();
    std::thread::Builder::new()
        .name("parent-pipe".into())
        .spawn(move || {
            // An error means the same as the end: nobody holds the other side any more.
            drop(std::io::copy(
                &mut std::io::stdin().lock(),
                &mut std::io::sink(),
            ));
            stop.cancel();
            afterwards();
        })
        .map(drop)
        .map_err(|error| format!("the parent cannot be watched: {error}"))
}
