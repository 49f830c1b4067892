//! The flags of every command.

mod asks;
mod judge;
mod roles;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use asks::{
    ChoicesArgs, ChoicesCommand, DrillArgs, DrillCommand, DrillProofArgs, DrillRunArgs,
    DrillVerifyArgs, HealthArgs, LogArgs, RestartArgs, RulesArgs,
};
use judge::JudgeArgs;
use roles::{ConsoleArgs, PaymentsArgs, ShopArgs, TrafficArgs};

use crate::judge::time::{format_duration, parse_duration};
use crate::telemetry::traces;
use crate::up;

const ABOUT: &str = "\
A flight simulator for the people who keep services alive: a small shop, the users that load it, and the \
instruments that watch it, in one binary. It breaks on purpose, by design choices that you can read.";

const EXAMPLES: &str = "\
Examples:
  firedrill                                  start everything; the page is at http://127.0.0.1:8900
  firedrill drill run after-the-spike        one failure from first sign to verdict, in two minutes
  firedrill choices set retries poor         take the poor option in the lab that runs
  firedrill shop --help                      run one role by itself";

/// firedrill.
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, about = ABOUT, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct Common {
    /// Which log events are written to standard error, in the syntax of `RUST_LOG`.
    #[arg(
        long,
        global = true,
        env = "FIREDRILL_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub(super) log: String,
    /// The token that control planes ask for, and that this command sends to them.
    #[arg(long, global = true, env = "FIREDRILL_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// Where spans go; the other OTEL_* variables of the OpenTelemetry SDK work too.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide = true)]
    pub(super) otlp_endpoint: Option<String>,
    #[arg(long, global = true, env = "OTEL_RESOURCE_ATTRIBUTES", hide = true)]
    otel_resource_attributes: Option<String>,
    #[arg(long, global = true, env = "OTEL_SDK_DISABLED", hide = true)]
    otel_sdk_disabled: Option<String>,
    #[arg(long, global = true, env = "OTEL_TRACES_EXPORTER", hide = true)]
    otel_traces_exporter: Option<String>,
    #[arg(long, global = true, env = "OTEL_LOGS_EXPORTER", hide = true)]
    otel_logs_exporter: Option<String>,
    #[arg(long, global = true, env = "OTEL_TRACES_SAMPLER", hide = true)]
    otel_traces_sampler: Option<String>,
    #[arg(long, global = true, env = "OTEL_TRACES_SAMPLER_ARG", hide = true)]
    otel_traces_sampler_arg: Option<String>,
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_PROTOCOL", hide = true)]
    otel_exporter_otlp_protocol: Option<String>,
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        hide = true
    )]
    otel_exporter_otlp_traces_protocol: Option<String>,
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        hide = true
    )]
    otel_exporter_otlp_logs_protocol: Option<String>,
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        hide = true
    )]
    otel_exporter_otlp_logs_endpoint: Option<String>,
    #[arg(
        long,
        global = true,
        env = "OTEL_BSP_MAX_QUEUE_SIZE",
        default_value = "",
        value_parser = queue_max,
        hide = true
    )]
    otel_bsp_max_queue_size: u32,
}

impl Common {
    /// A token that is set and empty would open every control plane to everyone.
    pub(super) fn check(&self) -> Result<(), String> {
        let usable = |token: &str| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
        if !self.token.as_deref().is_none_or(usable) {
            return Err(
                "FIREDRILL_TOKEN (or --token) must be printable ASCII without spaces, and not empty"
                    .into(),
            );
        }
        for (variable, exporter, allowed) in [
            (
                "OTEL_LOGS_EXPORTER",
                &self.otel_logs_exporter,
                "otlp, or none (the default)",
            ),
            (
                "OTEL_TRACES_EXPORTER",
                &self.otel_traces_exporter,
                "otlp (the default), none",
            ),
        ] {
            if let Some(other) = exporter
                && !matches!(other.as_str(), "" | "none" | "otlp")
            {
                return Err(format!(
                    "{variable} cannot be {other:?}; allowed: {allowed}"
                ));
            }
        }
        let protocol = self.protocol(self.otel_exporter_otlp_logs_protocol.as_ref());
        match protocol.map(String::as_str) {
            Some(other) if self.log_export() && !matches!(other, "" | "http/protobuf") => {
                Err(format!(
                    "log records leave over http/protobuf only, and OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}; \
                    set OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf, and OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to \
                    where the collector takes it"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The protocol of one signal: the variable of its own, or the one of all.
    fn protocol<'a>(&'a self, own: Option<&'a String>) -> Option<&'a String> {
        own.or(self.otel_exporter_otlp_protocol.as_ref())
    }

    /// How spans are exported; `None` if they are not.
    pub(super) fn traces(&self) -> Option<traces::Config> {
        if self.sdk_disabled() || self.otel_traces_exporter.as_deref() == Some("none") {
            return None;
        }
        Some(traces::Config {
            sampler: (
                self.otel_traces_sampler.clone(),
                self.otel_traces_sampler_arg.clone(),
            ),
            protocol: self
                .protocol(self.otel_exporter_otlp_traces_protocol.as_ref())
                .cloned(),
            queue_max: self.otel_bsp_max_queue_size as usize,
        })
    }

    /// What `OTEL_RESOURCE_ATTRIBUTES` says of `key`.
    pub(super) fn resource_attribute(&self, key: &str) -> Option<String> {
        let given = self.otel_resource_attributes.as_deref()?;
        let mut pairs = given.split(',').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
        Some(value.trim().to_owned())
    }

    /// Whether log events are exported, beside being written to standard error.
    pub(super) fn log_export(&self) -> bool {
        !self.sdk_disabled() && self.otel_logs_exporter.as_deref() == Some("otlp")
    }

    /// A lab's own console takes spans, but no log records.
    pub(super) fn check_log_export_of_a_lab(&self) -> Result<(), String> {
        let endpoints = [&self.otlp_endpoint, &self.otel_exporter_otlp_logs_endpoint];
        if !self.log_export() || endpoints.iter().any(|endpoint| endpoint.is_some()) {
            return Ok(());
        }
        Err(
            "OTEL_LOGS_EXPORTER=otlp needs a collector that takes log records: name it in \
            OTEL_EXPORTER_OTLP_ENDPOINT, or for them alone in OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
                .into(),
        )
    }

    fn sdk_disabled(&self) -> bool {
        self.otel_sdk_disabled
            .as_deref()
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start every role on this machine and keep it running (the default).
    Up(UpArgs),
    /// Run the shop: takes orders, over its own database.
    Shop(ShopArgs),
    /// Run payments: charges cards at a simulated bank.
    Payments(PaymentsArgs),
    /// Run traffic: the users, who arrive whether or not the shop keeps up.
    Traffic(TrafficArgs),
    /// Run the console: receives traces and serves the page.
    Console(ConsoleArgs),
    /// List, explain and set the design choices of a lab that runs.
    Choices(ChoicesArgs),
    /// Show and change which log events the roles of a lab that runs write.
    Log(LogArgs),
    /// Start roles of a lab that runs again, one process after the other, or deploy another version of them.
    Restart(RestartArgs),
    /// List, explain and run drills.
    Drill(DrillArgs),
    /// Ask one address whether it is well: exit code 0 if so, 1 if not; for health checks of containers.
    Health(HealthArgs),
    /// Print the alert rules for Prometheus.
    Rules(RulesArgs),
    /// Print what every role tells about itself: metrics, labels, spans (as docs/TELEMETRY.md has it).
    Telemetry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ports {
    /// 8080 shop, 8081 payments, 8900 page, 4318 OTLP, 94xx control.
    Standard,
    /// Any that are free.
    Auto,
}

impl From<Ports> for up::Ports {
    fn from(ports: Ports) -> Self {
        match ports {
            Ports::Standard => Self::Standard,
            Ports::Auto => Self::Auto,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill up
  firedrill up --for 30s --ports auto | jq    one JSON line for each role that is ready
  firedrill up --data ./lab --rate 200        keep the data; twice the usual load")]
pub(super) struct UpArgs {
    /// End by itself after this long, like 30s, 5m or 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(super) run_for: Option<Duration>,
    /// Which ports to listen on.
    #[arg(long, env = "FIREDRILL_PORTS", value_enum, default_value = "standard")]
    pub(super) ports: Ports,
    /// Keep the data in this directory; without it, it is thrown away at the end.
    #[arg(long, env = "FIREDRILL_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Arrivals a second.
    #[arg(
        long,
        env = "FIREDRILL_RATE",
        default_value_t = 100.0,
        allow_negative_numbers = true
    )]
    pub(super) rate: f64,
    /// Make the users' arrivals repeatable.
    #[arg(long, env = "FIREDRILL_SEED")]
    pub(super) seed: Option<u64>,
    /// Replicas of payments, 1 to 3; they share the bank's capacity.
    #[arg(long, env = "FIREDRILL_PAYMENTS_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "N")]
    pub(super) payments_replicas: u8,
    #[command(flatten)]
    pub(super) judge: JudgeArgs,
    /// End when standard input does.
    #[arg(long, hide = true)]
    pub(super) parent_pipe: bool,
}

/// Reads `OTEL_BSP_MAX_QUEUE_SIZE`: empty is as good as unset, and then it is what the specification says.
fn queue_max(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(2048);
    }
    let read = text
        .parse()
        .ok()
        .filter(|max| (1..=1_000_000).contains(max));
    read.ok_or_else(|| {
        "OTEL_BSP_MAX_QUEUE_SIZE must be a whole number from 1 to 1000000".to_owned()
    })
}

/// The longest time that a command may be given: what is longer is a slip of the finger.
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Reads a length of time like `30s`, `5m` or `1h30m`: a second at least.
fn duration(text: &str) -> Result<Duration, String> {
    let read = parse_duration(text)?;
    if !(Duration::from_secs(1)..=TIME_MAX).contains(&read) {
        let most = format_duration(TIME_MAX);
        return Err(format!(
            "{text:?} is out of bounds; allowed are 1s to {most}"
        ));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_queue_without_a_size_has_the_usual_one() {
        assert_eq!(queue_max(""), Ok(2048));
        assert_eq!(queue_max("1"), Ok(1));
        for wrong in ["0", "-1", "many", "1000001"] {
            let error = queue_max(wrong).unwrap_err();
            assert!(error.contains("OTEL_BSP_MAX_QUEUE_SIZE"), "{error}");
        }
    }

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        for wrong in ["", "s", "10", "-1s", "1.5s", "0s", "99999999999h", "5µ"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
