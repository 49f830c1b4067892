//! The command line, and the one place that reads the environment.
//!
//! Each command is a struct of flags whose help teaches with an example; a flag's fallback in the environment
//! stands beside it. Reading is kept apart from doing: what is wrong is said here, in one sentence, before
//! anything starts.

mod args;
mod choices;
mod drill;
mod health;
mod labs;
mod log;
mod restart;
mod rules;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Parser;

use crate::up;
use args::{Cli, Command, UpArgs};

/// Runs the command that this process was called with, and returns its exit code.
pub fn run() -> Result<u8, String> {
    let mut cli = Cli::parse();
    if cli.command.is_none() {
        // Read again and not made up, so that the fallbacks in the environment hold.
        cli = Cli::parse_from(std::env::args_os().chain(["up".into()]));
    }
    let common = cli.common;
    common.check()?;
    match cli.command.ok_or("there is no command")? {
        Command::Up(args) => up(&args, &common).map(|()| 0),
        Command::Shop(args) => crate::shop::run(args.config(&common)?).map(|()| 0),
        Command::Payments(args) => crate::payments::run(args.config(&common)?).map(|()| 0),
        Command::Traffic(args) => crate::traffic::run(args.config(&common)?).map(|()| 0),
        Command::Console(args) => crate::console::run(args.config(&common)?).map(|()| 0),
        Command::Choices(args) => choices::run(args, &common).map(|()| 0),
        Command::Log(args) => log::run(&args, &common).map(|()| 0),
        Command::Restart(args) => restart::run(&args, &common).map(|()| 0),
        Command::Drill(args) => drill::run(args, &common),
        Command::Health(args) => health::run(&args),
        Command::Rules(args) => rules::run(&args).map(|()| 0),
        Command::Telemetry => {
            print(&crate::telemetry::document::markdown());
            Ok(0)
        }
    }
}

fn up(args: &UpArgs, common: &args::Common) -> Result<(), String> {
    let (dir, keep) = match &args.data {
        Some(dir) => (dir.clone(), true),
        None => (labs::default_dir()?, false),
    };
    let _claim = labs::claim(&dir, keep)?;
    let result = up::run(plan(args, common, dir.clone())?);
    if !keep {
        // What could not be removed is removed at the next start.
        drop(labs::empty(&dir));
    }
    result
}

/// What `up` is to do; what it would have to refuse later is refused here, before anything starts.
fn plan(args: &UpArgs, common: &args::Common, dir: PathBuf) -> Result<up::Plan, String> {
    crate::traffic::load::Load::new(args.rate)?;
    common.check_log_export_of_a_lab()?;
    args.judge.judging()?;
    Ok(up::Plan {
        binary: own_binary()?,
        dir,
        ports: args.ports.into(),
        payments_replicas: args.payments_replicas,
        rate: args.rate,
        seed: args.seed,
        judge: args.judge.flags(),
        run_for: args.run_for,
        token: common.token.clone(),
        otlp_endpoint: common.otlp_endpoint.clone(),
        traces: common.traces().is_some(),
        log_export: common.log_export(),
        log_filter: common.log.clone(),
        terminal: std::io::stdout().is_terminal(),
        parent_pipe: args.parent_pipe,
    })
}

/// The file that this process runs: its children run the same.
fn own_binary() -> Result<PathBuf, String> {
    std::env::current_exe()
        .map_err(|error| format!("this program's own file cannot be found: {error}"))
}

/// Prints text for a person or a script.
fn print(text: &str) {
    // A reader that closed the pipe has seen enough.
    drop(writeln!(std::io::stdout().lock(), "{}", text.trim_end()));
}

/// Tells a person something, beside the output.
fn say(sentence: &str) {
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(std::io::stderr().lock(), "{sentence}"));
}

/// A runtime for a command that asks a few things and ends.
fn small_runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))
}
