//! The console: what a person sees of the lab.
//!
//! Without it the lab would be four processes and their logs. It watches from outside: it takes in spans,
//! asks traffic what users got and the roles whether they are ready, and draws one page from that. It keeps
//! everything in memory and within bounds, so that it goes on while what it watches breaks.
//!
//! - [`otlp`]: takes spans in
//! - [`span`], [`trace`], [`traces`], [`waterfall`]: keeps them, finds them, puts them in order
//! - [`places`]: where the roles are
//! - [`report`], [`status`]: what users get, and the state of the roles
//! - [`changes`]: what was changed lately
//! - [`alerts`], [`runbooks`]: what fires, and what to do about it
//! - [`page`]: the page and its API

pub mod alerts;
pub mod changes;
pub mod otlp;
pub mod page;
pub mod places;
pub mod report;
pub mod runbooks;
pub mod span;
pub mod status;
pub mod trace;
pub mod traces;
pub mod waterfall;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::control::lifecycle::{self, Context, Extras, Running};
use crate::control::{Guard, check_bind};
use crate::http::server::{Drained, serve};
use crate::judge::ask::Ask;
use crate::judge::{self, Judge};

/// What the console is told when it starts. Its data plane is the page.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every role is told.
    pub role: lifecycle::Config,
    /// Where OTLP over HTTP is taken in.
    pub otlp: SocketAddr,
    /// Who says where the roles are.
    pub source: places::Source,
    /// Who judges the lab.
    pub judge: Judging,
}

/// Who evaluates the rules.
#[derive(Debug, Clone)]
pub enum Judging {
    /// The console itself.
    Here(judge::Config),
    /// A Prometheus at this URL, which has no slash at its end.
    Prometheus(String),
}

/// How long a Prometheus may take to tell its alerts: the page is drawn once a second.
const PATIENCE: Duration = Duration::from_millis(900);

/// Runs the console until it is told to stop. A sentence says what made it fail.
pub fn run(config: Config) -> Result<(), String> {
    let Config {
        mut role,
        otlp,
        source,
        judge,
    } = config;
    let token = role.token.clone();
    if let Some(page) = role.data {
        check_bind("the page", page, token.as_deref())?;
    }
    check_bind("the OTLP receiver", otlp, token.as_deref())?;
    // What it sends would come back to it, one span for each export of the last, and for each look at each role.
    role.telemetry.traces = None;
    role.telemetry.log_export = false;
    let page = role.data.unwrap_or(role.control);
    let guard = Guard::new(page, token.as_deref());
    lifecycle::run(&role, Extras::default(), async move |context| {
        let listener = lifecycle::bind("the OTLP receiver", otlp)?;
        let (judge, alerts) = match judge {
            Judging::Here(config) => {
                let judge = Arc::new(Judge::new(config)?);
                (Some(Arc::clone(&judge)), alerts::Source::Judge(judge))
            }
            Judging::Prometheus(url) => {
                let ask = Ask::new(&url, None, PATIENCE);
                (None, alerts::Source::Prometheus(ask))
            }
        };
        let watch = status::Watch::new(source, token)
            .with_alerts(alerts)
            .with_itself(reachable(context.control).to_string());
        start(context, listener, &guard, watch, judge)
    })
}

/// An address by which this machine reaches a listener, also one that listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn start(
    context: Context,
    listener: TcpListener,
    guard: &Guard,
    watch: status::Watch,
    judge: Option<Arc<Judge>>,
) -> Result<Running<impl AsyncFnOnce() + use<>>, String> {
    let cannot = |error| format!("the OTLP receiver cannot listen: {error}");
    let address = listener.local_addr().map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(cannot)?;
    tracing::info!(target: "console", otlp = %address, "Spans are taken in.");
    let traces = Arc::new(traces::Traces::new(traces::LIMITS));
    let watch = Arc::new(watch);
    let router = page::router(
        page::Shown {
            traces: Arc::clone(&traces),
            watch: Arc::clone(&watch),
            otlp: address,
            judge: judge.clone(),
        },
        guard,
    );
    let receiver = tokio::spawn(serve(
        listener,
        otlp::router(traces, address),
        otlp::limits(),
        context.stop.clone(),
    ));
    if let Some(judge) = judge {
        let page = reachable(context.data.unwrap_or(context.control));
        let url = format!("http://{page}");
        tokio::spawn(judge.run(watch.targets(), url, context.stop.clone()));
    }
    tokio::spawn(async move { watch.run(context.stop).await });
    let finish = async move || {
        if !matches!(receiver.await, Ok(Drained::Complete)) {
            tracing::warn!(target: "console", "Spans were still arriving when the drain ended.");
        }
    };
    Ok(Running { router, finish })
}
