//! The flags of the commands that ask or explain: `choices`, `log`, `restart`, `drill`, `health`
//! and `rules`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill choices list
  firedrill choices show retries
  firedrill choices set retries poor --ttl 5m")]
pub(in crate::cli) struct ChoicesArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ChoicesCommand,
    /// The directory of the lab, if `up` was given one.
    #[arg(long, global = true, env = "FIREDRILL_DATA", value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ChoicesCommand {
    /// Every choice and, if a lab runs, the option in force.
    List,
    /// The lesson of one choice.
    Show {
        /// The choice's name.
        name: String,
    },
    /// Take one option of a choice in the lab that runs.
    Set {
        /// The choice's name.
        name: String,
        /// `poor` or `sound`.
        option: String,
        /// Go back to sound after this long, like 30s or 5m.
        #[arg(long, value_parser = duration, value_name = "TIME")]
        ttl: Option<Duration>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill log                              the filter of each role
  firedrill log shop info,http=debug --ttl 5m    one line for each request, for five minutes
  firedrill log all info")]
pub(in crate::cli) struct LogArgs {
    /// The role, one of its replicas (`payments-2`), or `all`.
    #[arg(default_value = "all")]
    pub(in crate::cli) role: String,
    /// The events that are written from now on, in the syntax of `RUST_LOG`.
    pub(in crate::cli) filter: Option<String>,
    /// Go back to the filter before after this long, like 30s or 5m.
    #[arg(long, value_parser = duration, value_name = "TIME", requires = "filter")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// The directory of the lab, if `up` was given one.
    #[arg(long, env = "FIREDRILL_DATA", value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill restart shop
  firedrill restart payments --service-version 0.1.1    a deployment, one replica after the other")]
pub(in crate::cli) struct RestartArgs {
    /// The role, one of its replicas (`payments-2`), or `all`.
    pub(in crate::cli) role: String,
    /// The version that runs from then on, as its telemetry tells it; by default the one that runs now.
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) service_version: Option<String>,
    /// The directory of the lab, if `up` was given one.
    #[arg(long, env = "FIREDRILL_DATA", value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill drill list
  firedrill drill show after-the-spike
  firedrill drill run after-the-spike --option poor --fix
  firedrill drill verify after-the-spike --seeds 3")]
pub(in crate::cli) struct DrillArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: DrillCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DrillCommand {
    /// Every drill.
    List,
    /// What a drill is about; without its answer.
    Show {
        /// The drill's id, or its file.
        id: String,
        /// The first N of its hints, from vague to plain, and not the briefing.
        #[arg(long, value_name = "N", conflicts_with = "answer")]
        hints: Option<usize>,
        /// The lesson too, with the answer.
        #[arg(long)]
        answer: bool,
    },
    /// All drills as JSON, for load tools; `loadtest/drills.json` is this.
    Export,
    /// Fly one leg of a drill. Exit code 0: it went as the drill says; 1: it did not; 2: it was not flown to its end;
    /// 3: this machine was too slow to tell, or something was not measured.
    Run(DrillRunArgs),
    /// Prove drills: every leg of each, by machine. Exit codes as those of run; the worst counts.
    Verify(DrillVerifyArgs),
    /// The table of proofs as Markdown, from records that verify wrote.
    Proof(DrillProofArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DrillRunArgs {
    /// The drill's id, or its file.
    pub(in crate::cli) id: String,
    /// The option of the choice that meets the shock: poor or sound. By default poor; of a control sound.
    #[arg(long)]
    pub(in crate::cli) option: Option<String>,
    /// Apply the fix while the outage lasts, and watch the recovery.
    #[arg(long)]
    pub(in crate::cli) fix: bool,
    /// Print the whole record as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Make the users' arrivals repeatable.
    #[arg(long, env = "FIREDRILL_SEED")]
    pub(in crate::cli) seed: Option<u64>,
    /// Fly it in the running lab that this scrapes, and not in a fresh one: a Prometheus, or a lab's console.
    #[arg(long, value_name = "URL", help_heading = "Lab")]
    pub(in crate::cli) prometheus: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill drill verify                              every drill, in labs of its own
  firedrill drill verify after-the-spike --seeds 3
  firedrill drill verify after-the-spike --prometheus http://127.0.0.1:9090")]
pub(in crate::cli) struct DrillVerifyArgs {
    /// The drills' ids, or their files; all drills if there are none.
    #[arg(value_name = "NAME")]
    pub(in crate::cli) names: Vec<String>,
    /// How many seeds: the first flies every leg, each other one the sound and the poor leg.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "N")]
    pub(in crate::cli) seeds: u32,
    /// The first seed; the others count on from it. Random if it is not given.
    #[arg(long, env = "FIREDRILL_SEED")]
    pub(in crate::cli) seed: Option<u64>,
    /// Fly them in the running lab that this scrapes: a Prometheus, or a lab's console.
    #[arg(long, value_name = "URL", help_heading = "Lab")]
    pub(in crate::cli) prometheus: Option<String>,
    /// Print all records as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Write each drill's record to DIR/ID.json.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) record: Option<PathBuf>,
    /// Deploy the poor option wherever the sound one is meant: a proof worth its name then fails.
    #[arg(long, hide = true)]
    pub(in crate::cli) sabotage: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DrillProofArgs {
    /// Records that `firedrill drill verify --record` wrote.
    #[arg(required = true, value_name = "FILE")]
    pub(in crate::cli) records: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill health http://127.0.0.1:9464/readyz && echo ready")]
pub(in crate::cli) struct HealthArgs {
    /// What is asked with GET; it must answer with success within 2 s.
    pub(in crate::cli) url: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill rules > firedrill.rules.yml
  firedrill rules --compress 60 > firedrill.drill.rules.yml    an hour becomes a minute")]
pub(in crate::cli) struct RulesArgs {
    /// Divide every window and wait by this much, for drills that last minutes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "N")]
    pub(in crate::cli) compress: u32,
}
