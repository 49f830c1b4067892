//! The supervisor: starts every role as a process, keeps it running, and stops all of them together.
//!
//! A lab is half a dozen processes that must find each other, survive each other's crashes and leave nothing
//! behind. Without a supervisor a learner would need a terminal for each, and a drill that kills a role would
//! end the lab with it.
//!
//! - `plan`: what each role is told: ports, directories, limits
//! - `child`: one process: start, ready line, end
//! - `logs`: what the processes say on standard error
//! - `supervise`: restart with backoff, liveness
//! - `sequence`: the order of starting and stopping
//! - `board`: who runs where, for us and in `DIR/lab.json`
//! - `figures`, `status`, `output`: what a person or a pipe gets to see
//! - `signals`: what ends the lab

mod board;
mod child;
mod figures;
mod logs;
mod output;
mod plan;
mod sequence;
mod signals;
mod status;
mod supervise;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub use figures::window;
pub use plan::{Plan, Ports};

use crate::http::Client;
use board::Board;
use output::Output;
use supervise::Timings;

/// What everything in here works with.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    timings: Timings,
    board: Board,
    output: Output,
    client: Client,
    started: Instant,
    /// Cancelled when the lab is to stop.
    stop: CancellationToken,
    /// Cancelled when nobody is to be waited for any more.
    kill: CancellationToken,
}

impl Shared {
    fn new(plan: Plan, timings: Timings, output: Output) -> Result<Arc<Self>, String> {
        make_dir(&plan.ledger_dir())?;
        if plan.terminal {
            make_dir(&plan.logs_dir())?;
        }
        Ok(Arc::new(Self {
            board: Board::open(&plan.dir)?,
            plan,
            timings,
            output,
            client: Client::new(),
            started: Instant::now(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        }))
    }
}

fn make_dir(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir)
        .map_err(|error| format!("the directory {} cannot be made: {error}", dir.display()))
}

/// Runs a lab until it is told to stop: by SIGINT, SIGTERM, the end of [`Plan::run_for`] or that of the parent.
/// A sentence says what made it fail otherwise.
pub fn run(plan: Plan) -> Result<(), String> {
    plan.check()?;
    // One thread is enough to watch six processes, and leaves the cores to them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    let output = if plan.terminal {
        Output::terminal(&plan.logs_dir())
    } else {
        Output::pipes()
    }?;
    let shared = Shared::new(plan, Timings::default(), output)?;
    let result = runtime.block_on(async {
        signals::watch(&shared.stop, &shared.kill, shared.plan.parent_pipe)?;
        let showing = tokio::spawn(figures::show(Arc::clone(&shared)));
        let result = sequence::run(&shared).await;
        showing.abort();
        if shared.plan.terminal {
            figures::draw(&shared, None);
        }
        result
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    shared.board.close();
    shared.output.close();
    result
}
