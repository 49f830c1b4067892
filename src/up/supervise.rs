//! Keeps one process running: started again when it ends, killed when it is dead but has not ended.
//!
//! A process that crashes at once and is started at once burns a core and fills the log, so the pause before
//! each start doubles, up to a bound, until the process has proven healthy again.
//!
//! The liveness probe asks only whether the process is dead. Each role answers it from its control plane, which
//! has a thread and a runtime of its own, so a role that is merely busy still answers; ten misses in a row mean
//! that the process as a whole has stopped. A probe that measured load would kill the busiest process first
//! and hand its load to the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::child::{self, Child, Started};
use super::logs::Destination;
use super::output::Level;
use super::plan::Spec;

/// How patient the supervisor is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timings {
    /// From the start of a process until its ready line. The first start seeds a database, perhaps on a slow disk.
    pub(super) ready: Duration,
    /// The first pause before a process is started again; it doubles with each start.
    pub(super) pause_first: Duration,
    /// The longest such pause.
    pub(super) pause_max: Duration,
    /// A process that ran this long was healthy: the next pause is the first again.
    pub(super) healthy_after: Duration,
    /// From one liveness probe to the next, also how long one is waited for.
    pub(super) probe_every: Duration,
    /// How many probes in a row may bring no answer.
    pub(super) misses_max: u32,
    /// How long a process gets to stop: five seconds of drain, three for its own end, one for its runtime,
    /// three to send its last spans, and some to spare.
    pub(super) grace: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(60),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            healthy_after: Duration::from_secs(10),
            probe_every: Duration::from_secs(1),
            misses_max: 10,
            grace: Duration::from_secs(15),
        }
    }
}

impl Timings {
    /// The pause before the next start of a process that ran for `lived`, after a pause of `previous`.
    fn pause(&self, previous: Option<Duration>, lived: Duration) -> Duration {
        match previous {
            Some(pause) if lived < self.healthy_after => (pause * 2).min(self.pause_max),
            _ => self.pause_first,
        }
    }
}

/// Starts a process, and puts it on the board once it is ready.
pub(super) async fn start(shared: &Shared, spec: &mut Spec) -> Result<Child, String> {
    let log = if shared.plan.terminal {
        Destination::File(shared.plan.logs_dir().join(format!("{}.log", spec.name)))
    } else {
        Destination::StandardError
    };
    let Started { child, ready, line } = child::start(spec, log, shared.timings.ready).await?;
    spec.learn(&ready);
    // The file first: who reads the ready line looks there next.
    shared.board.up(spec, child.pid(), &shared.output);
    shared.output.ready(&line);
    Ok(child)
}

/// Keeps a process running until `stop` is cancelled, then stops it.
pub(super) async fn keep(
    shared: Arc<Shared>,
    mut spec: Spec,
    mut child: Child,
    stop: CancellationToken,
) {
    let mut pause = None;
    loop {
        let started = Instant::now();
        let how = tokio::select! {
            how = child.ended() => how,
            () = unanswered(&shared, spec.control) => {
                child.kill().await;
                format!("was killed: it did not answer /livez {} times in a row", shared.timings.misses_max)
            }
            () = stop.cancelled() => return end(&shared, &spec, child).await,
        };
        let lived = started.elapsed();
        shared.board.down(&spec.name, &shared.output);
        let words = child.last_words().await;
        let message = format!("{} {how}; it is started again.", spec.name);
        shared
            .output
            .event(Level::Warn, &message, &json!({ "last_line": words }));
        let again = again(&shared, &mut spec, &mut pause, lived);
        child = tokio::select! {
            child = again => child,
            // A process that is not ready yet is dropped, and killed by that: it has promised nothing to anyone.
            () = stop.cancelled() => return,
        };
    }
}

/// Starts a process again until it is ready.
async fn again(
    shared: &Shared,
    spec: &mut Spec,
    pause: &mut Option<Duration>,
    mut lived: Duration,
) -> Child {
    loop {
        let next = shared.timings.pause(*pause, lived);
        *pause = Some(next);
        tokio::time::sleep(next).await;
        match start(shared, spec).await {
            Ok(child) => return child,
            Err(sentence) => shared.output.event(Level::Warn, &sentence, &json!({})),
        }
        lived = Duration::ZERO;
    }
}

/// Returns once the control plane has been silent for too long.
async fn unanswered(shared: &Shared, control: SocketAddr) {
    let url = format!("http://{control}/livez");
    let every = shared.timings.probe_every;
    let mut misses = 0;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while misses < shared.timings.misses_max {
        tick.tick().await;
        let probe = shared.client.control(Method::GET, &url, None, None);
        match tokio::time::timeout(every, probe).await {
            Ok(Ok(_)) => misses = 0,
            _ => misses += 1,
        }
    }
}

async fn end(shared: &Shared, spec: &Spec, child: Child) {
    let grace = shared.timings.grace;
    if !child.stop(grace, &shared.kill).await && !shared.kill.is_cancelled() {
        let message = format!(
            "{} did not stop within {grace:?} and was killed.",
            spec.name
        );
        shared.output.event(Level::Warn, &message, &json!({}));
    }
    shared.board.down(&spec.name, &shared.output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_start_over_after_health() {
        let timings = Timings::default();
        let mut pause = None;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = timings.pause(pause, Duration::from_secs(1));
            pauses.push(next.as_millis());
            pause = Some(next);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let healthy = timings.pause(pause, Duration::from_secs(10));
        assert_eq!(healthy.as_millis(), 100);
    }
}
