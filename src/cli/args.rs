//! The flags of every command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::control::lifecycle;
use crate::{console, payments, shop, store, telemetry, traffic, up};

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
    #[arg(long, global = true, env = "OTEL_SDK_DISABLED", hide = true)]
    otel_sdk_disabled: Option<String>,
    #[arg(long, global = true, env = "OTEL_TRACES_EXPORTER", hide = true)]
    otel_traces_exporter: Option<String>,
}

impl Common {
    /// Whether spans are exported at all.
    pub(super) fn traces(&self) -> bool {
        let disabled = self
            .otel_sdk_disabled
            .as_deref()
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        !disabled && self.otel_traces_exporter.as_deref() != Some("none")
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
    /// List, explain and run drills.
    Drill(DrillArgs),
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
    /// End when standard input does.
    #[arg(long, hide = true)]
    pub(super) parent_pipe: bool,
}

/// What every role takes.
#[derive(Debug, Clone, Args)]
pub(super) struct RoleArgs {
    /// Where the role keeps its files.
    #[arg(
        long,
        env = "FIREDRILL_DATA",
        default_value = "firedrill-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// Threads that serve requests; by default as many as there are cores.
    #[arg(long, env = "FIREDRILL_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,
    /// File descriptors that the process may open.
    #[arg(long, env = "FIREDRILL_OPEN_FILES_MAX", value_name = "N")]
    open_files_max: Option<u64>,
    /// Memory for data that the process may hold.
    #[arg(long, env = "FIREDRILL_MEMORY_MAX", value_name = "BYTES")]
    memory_max: Option<u64>,
    /// End when standard input does.
    #[arg(long, hide = true)]
    parent_pipe: bool,
}

impl RoleArgs {
    fn config(
        self,
        role: &'static str,
        data: Option<SocketAddr>,
        control: SocketAddr,
        common: &Common,
    ) -> lifecycle::Config {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        lifecycle::Config {
            role,
            data,
            control,
            dir: self.data,
            token: common.token.clone(),
            workers: self.workers.map_or_else(cores, usize::from),
            open_files_max: self.open_files_max,
            memory_max: self.memory_max,
            parent_pipe: self.parent_pipe,
            telemetry: telemetry::Config {
                role,
                log_filter: common.log.clone(),
                traces: common.traces(),
            },
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill shop --payments http://127.0.0.1:8081 &
  curl -s 127.0.0.1:8080/items/1")]
pub(super) struct ShopArgs {
    /// Where the shop listens.
    #[arg(
        long,
        env = "FIREDRILL_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// Where its control plane listens.
    #[arg(
        long,
        env = "FIREDRILL_CONTROL",
        default_value = "127.0.0.1:9464",
        value_name = "ADDR"
    )]
    control: SocketAddr,
    /// Where payments listens; one URL a replica.
    #[arg(
        long,
        env = "FIREDRILL_PAYMENTS",
        default_value = "http://127.0.0.1:8081",
        value_delimiter = ',',
        value_name = "URL"
    )]
    payments: Vec<String>,
    /// Orders that a new database starts with.
    #[arg(long, env = "FIREDRILL_SEED_ORDERS", default_value_t = store::Seed::default().orders, value_name = "N")]
    seed_orders: u32,
    #[command(flatten)]
    role: RoleArgs,
}

impl ShopArgs {
    pub(super) fn config(self, common: &Common) -> Result<shop::Config, String> {
        if self.seed_orders > 10_000_000 {
            return Err(format!(
                "--seed-orders cannot be {}: at most 10000000",
                self.seed_orders
            ));
        }
        Ok(shop::Config {
            role: self
                .role
                .config("shop", Some(self.listen), self.control, common),
            payments: self.payments,
            seed: store::Seed {
                orders: self.seed_orders,
                ..store::Seed::default()
            },
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill payments --bank-slots 6 --bank-service-ms 120      a bank that charges 50 cards a second")]
pub(super) struct PaymentsArgs {
    /// Where payments listens.
    #[arg(
        long,
        env = "FIREDRILL_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// Where its control plane listens.
    #[arg(
        long,
        env = "FIREDRILL_CONTROL",
        default_value = "127.0.0.1:9465",
        value_name = "ADDR"
    )]
    control: SocketAddr,
    /// Charges that the bank works on at the same time.
    #[arg(long, env = "FIREDRILL_BANK_SLOTS", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=10_000), value_name = "N")]
    bank_slots: u16,
    /// How long each takes, in milliseconds.
    #[arg(long, env = "FIREDRILL_BANK_SERVICE_MS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=60_000), value_name = "MS")]
    bank_service_ms: u64,
    /// Charges that may wait for a slot.
    #[arg(long, env = "FIREDRILL_BANK_QUEUE", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    bank_queue: u32,
    /// The ledger's file, which replicas share; by default DATA/ledger.db.
    #[arg(long, env = "FIREDRILL_LEDGER", value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    role: RoleArgs,
}

impl PaymentsArgs {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "every role's flags are read alike"
    )]
    pub(super) fn config(self, common: &Common) -> Result<payments::Config, String> {
        Ok(payments::Config {
            role: self
                .role
                .config("payments", Some(self.listen), self.control, common),
            bank: payments::bank::Config {
                slots: usize::from(self.bank_slots),
                service_time: Duration::from_millis(self.bank_service_ms),
                queue: self.bank_queue as usize,
            },
            ledger: self.ledger,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill traffic --shop http://127.0.0.1:8080 --rate 50 &
  curl -s '127.0.0.1:9470/report' | jq .total")]
pub(super) struct TrafficArgs {
    /// Where the control plane listens.
    #[arg(
        long,
        env = "FIREDRILL_CONTROL",
        default_value = "127.0.0.1:9470",
        value_name = "ADDR"
    )]
    control: SocketAddr,
    /// Where the shop listens.
    #[arg(
        long,
        env = "FIREDRILL_SHOP",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    shop: String,
    /// Arrivals a second.
    #[arg(
        long,
        env = "FIREDRILL_RATE",
        default_value_t = 100.0,
        allow_negative_numbers = true
    )]
    rate: f64,
    /// Make arrivals repeatable; by default another seed each time, which the log names.
    #[arg(long, env = "FIREDRILL_SEED")]
    seed: Option<u64>,
    #[command(flatten)]
    role: RoleArgs,
}

impl TrafficArgs {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "every role's flags are read alike"
    )]
    pub(super) fn config(self, common: &Common) -> Result<traffic::Config, String> {
        Ok(traffic::Config {
            role: self.role.config("traffic", None, self.control, common),
            shop: self.shop,
            rate: self.rate,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill console --lab ./lab       the page at http://127.0.0.1:8900 shows the lab in ./lab")]
pub(super) struct ConsoleArgs {
    /// Where the page is served.
    #[arg(
        long,
        env = "FIREDRILL_LISTEN",
        default_value = "127.0.0.1:8900",
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// Where the control plane listens.
    #[arg(
        long,
        env = "FIREDRILL_CONTROL",
        default_value = "127.0.0.1:9480",
        value_name = "ADDR"
    )]
    control: SocketAddr,
    /// Where OTLP over HTTP is received.
    #[arg(
        long,
        env = "FIREDRILL_OTLP",
        default_value = "127.0.0.1:4318",
        value_name = "ADDR"
    )]
    otlp: SocketAddr,
    /// The directory of the lab that the page shows.
    #[arg(long, env = "FIREDRILL_LAB", value_name = "DIR")]
    lab: Option<PathBuf>,
    #[command(flatten)]
    role: RoleArgs,
}

impl ConsoleArgs {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "every role's flags are read alike"
    )]
    pub(super) fn config(self, common: &Common) -> Result<console::Config, String> {
        let mut role = self
            .role
            .config("console", Some(self.listen), self.control, common);
        // It would be its own customer: each batch that it receives would make it send another.
        role.telemetry.traces = false;
        Ok(console::Config {
            role,
            otlp: self.otlp,
            lab_dir: self.lab,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  firedrill choices list
  firedrill choices show retries
  firedrill choices set retries poor --ttl 5m")]
pub(super) struct ChoicesArgs {
    #[command(subcommand)]
    pub(super) command: ChoicesCommand,
    /// The directory of the lab, if `up` was given one.
    #[arg(long, global = true, env = "FIREDRILL_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ChoicesCommand {
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
  firedrill drill list
  firedrill drill show after-the-spike
  firedrill drill run after-the-spike --option poor --fix")]
pub(super) struct DrillArgs {
    #[command(subcommand)]
    pub(super) command: DrillCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DrillCommand {
    /// Every drill.
    List,
    /// What a drill is about; without its answer.
    Show {
        /// The drill's id.
        id: String,
        /// The lesson too, with the answer.
        #[arg(long)]
        answer: bool,
    },
    /// Run a drill in a fresh lab of its own. Exit code 0: it went as the drill says; 1: it did not;
    /// 3: this machine was too slow to tell.
    Run(DrillRunArgs),
}

#[derive(Debug, Args)]
pub(super) struct DrillRunArgs {
    /// The drill's id.
    pub(super) id: String,
    /// The option of the choice that meets the shock: poor or sound.
    #[arg(long, default_value = "poor")]
    pub(super) option: String,
    /// Apply the fix while the outage lasts, and watch the recovery.
    #[arg(long)]
    pub(super) fix: bool,
    /// Print the whole record as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Make the users' arrivals repeatable.
    #[arg(long, env = "FIREDRILL_SEED")]
    pub(super) seed: Option<u64>,
}

/// Reads a length of time: a number and `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let allowed =
        || format!("{text:?} is no length of time; write a number and s, m or h, like 30s");
    let unit_s = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(allowed()),
    };
    match text[..text.len() - 1].parse::<u32>() {
        Ok(number @ 1..=1_000_000) => Ok(Duration::from_secs(u64::from(number) * unit_s)),
        _ => Err(allowed()),
    }
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
    fn a_length_of_time_has_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "10", "-1s", "1.5s", "0s", "99999999999h", "5µ"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
