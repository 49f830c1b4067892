//! Asks a real Prometheus and the promql crate the same questions about the same samples.
//!
//! `.ci/check-promql` runs it against a running lab. It prints the address to which Prometheus is to write, records
//! for a while, and then compares.

mod accepted;
mod bench;
mod compare;
mod expressions;
mod peer;
mod process;
mod receiver;
mod report;
mod rules;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clap::Parser;
use promql::Semantics;

use accepted::Accepted;
use peer::Prometheus;
use receiver::{Recording, Shared};
use run::Pair;

/// How much more is recorded than asked about: Prometheus sends what it stores within a second or two, a rule takes
/// some time to be evaluated, and a negative offset looks ahead.
const SETTLE: Duration = Duration::from_secs(8);

/// How long nothing may arrive before it is said that nothing does.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Arguments {
    /// The Prometheus to ask, which must write to the address that this prints.
    #[arg(long)]
    prometheus: String,
    /// Its major version: 2 compares with the semantics of 2.42.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    version: u8,
    /// How many seconds to record before asking.
    #[arg(long, default_value_t = 80)]
    record: u64,
    /// A list of differences that are known, with their reasons.
    #[arg(long)]
    accepted: Option<PathBuf>,
    /// The rule file that Prometheus evaluates, to be evaluated here too at the same times.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// The `rule_query_offset` of Prometheus, in milliseconds.
    #[arg(long, default_value_t = 0)]
    rule_delay: i64,
    /// Instead of comparing, measure: a Prometheus that takes remote writes and scrapes nothing, as URL,PID.
    #[arg(long, value_parser = bench::Server::parse)]
    bench: Option<bench::Server>,
    /// To measure over HTTP: a Prometheus that scrapes the same lab and evaluates the same rules, as URL,PID.
    #[arg(long, value_parser = bench::Server::parse, requires = "console")]
    scraper: Option<bench::Server>,
    /// The console of that lab, as URL,PID.
    #[arg(long, value_parser = bench::Server::parse, requires = "scraper")]
    console: Option<bench::Server>,
    /// How many minutes of samples to measure with.
    #[arg(long, default_value_t = 60)]
    minutes: i64,
    /// What to ask: rule files (.yml), dashboards (.json) and lists of expressions.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match compare_all(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::say(&format!("The comparison is not valid: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether every answer was the same, but for the accepted ones.
fn compare_all(arguments: &Arguments) -> Result<bool, String> {
    let groups = expressions::read(&arguments.files, arguments.version)?;
    let accepted = match &arguments.accepted {
        Some(path) => {
            let said = |error: String| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
            Accepted::parse(&text).map_err(said)?
        }
        None => Accepted::default(),
    };
    let recording: Shared = Arc::new(RwLock::new(Recording::new()));
    let address = receiver::listen(Arc::clone(&recording))?;
    report::say(&format!("http://{address}/write"));
    let live = arguments.scraper.as_ref().zip(arguments.console.as_ref());
    let used = live.map(|(scraper, console)| (scraper.cpu(), console.cpu(), Instant::now()));
    let bounds = record(&recording, Duration::from_secs(arguments.record))?;
    if let (Some((scraper, console)), Some((theirs, ours, since))) = (live, used) {
        let samples = recording
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .samples;
        bench::scraping(
            scraper.cpu().saturating_sub(theirs),
            console.cpu().saturating_sub(ours),
            since.elapsed(),
            samples,
        );
        bench::over_http(scraper, console, bounds.1, &groups)?;
    }

    let recording = recording.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(refused) = recording.refused.first() {
        let count = recording.refused.len();
        return Err(format!(
            "{count} samples were not taken, the first: {refused}"
        ));
    }
    let pair = Pair {
        url: &arguments.prometheus,
        store: &recording.store,
        semantics: if arguments.version == 2 {
            Semantics::V2
        } else {
            Semantics::V3
        },
        bounds,
    };
    same_samples(&pair)?;
    report::say(&report::recorded(&recording, bounds));
    if let Some(rival) = &arguments.bench {
        bench::run(&recording.store, bounds, arguments.minutes, rival, &groups)?;
        return Ok(true);
    }
    let outcomes = pair.ask_all(&groups)?;
    let same = report::print(&groups, &outcomes, &accepted);
    let Some(path) = &arguments.rules else {
        return Ok(same);
    };
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let same_rules = rules::compare(&pair, &text, arguments.rule_delay)?;
    Ok(same && same_rules)
}

/// Waits until so much was recorded, and tells from when to when the recording is complete.
fn record(recording: &Shared, length: Duration) -> Result<(i64, i64), String> {
    let bounds = || {
        recording
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .bounds
    };
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let deadline = Instant::now() + PATIENCE + length + SETTLE;
    loop {
        match bounds() {
            Some((oldest, newest)) if newest - oldest >= millis(length + SETTLE) => {
                return Ok((oldest, oldest + millis(length)));
            }
            found if Instant::now() > deadline => {
                return Err(format!("too little was written to this address: {found:?}"));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Both must hold the same samples, or nothing else that is compared means anything.
fn same_samples(pair: &Pair<'_>) -> Result<(), String> {
    let (start, end) = pair.bounds;
    let text = format!(r#"{{__name__=~".+"}}[{}ms]"#, end - start + 3_600_000);
    let theirs = Prometheus::new(pair.url)?.instant(&text, end, None)?;
    let query = promql::Query::parse(&text).map_err(|error| error.to_string())?;
    let ours = pair.engine(None).instant(pair.store, &query, end);
    let same = compare::answers(&theirs, &ours, false);
    same.map(|_| ())
        .map_err(|text| format!("the samples differ: {text}"))
}
