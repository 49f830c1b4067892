//! The flags of the roles: what all of them take, and what each of them adds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Common;
use super::judge::JudgeArgs;
use crate::console::places::Source;
use crate::control::lifecycle;
use crate::{console, payments, shop, store, telemetry, traffic};

/// What every role takes.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RoleArgs {
    /// Where the role keeps its files; by default firedrill-data/ROLE.
    #[arg(long, env = "FIREDRILL_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Threads that serve requests; by default as many as there are cores.
    #[arg(long, env = "FIREDRILL_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,
    /// File descriptors that the process may open.
    #[arg(long, env = "FIREDRILL_OPEN_FILES_MAX", value_name = "N", value_parser = clap::value_parser!(u64).range(64..))]
    open_files_max: Option<u64>,
    /// Memory for data that the process may hold; at least 64 MiB, or it could not even start.
    #[arg(long, env = "FIREDRILL_MEMORY_MAX", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(67_108_864..))]
    memory_max: Option<u64>,
    /// The version that its telemetry tells; by default that in `OTEL_RESOURCE_ATTRIBUTES`, or this program's own.
    #[arg(long, env = "FIREDRILL_SERVICE_VERSION", value_name = "VERSION")]
    service_version: Option<String>,
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
            dir: self
                .data
                .unwrap_or_else(|| PathBuf::from("firedrill-data").join(role)),
            token: common.token.clone(),
            workers: self.workers.map_or_else(cores, usize::from),
            open_files_max: self.open_files_max,
            memory_max: self.memory_max,
            parent_pipe: self.parent_pipe,
            telemetry: telemetry::Config {
                role,
                service_version: self
                    .service_version
                    .or_else(|| common.resource_attribute("service.version"))
                    .unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
                log_filter: common.log.clone(),
                log_export: common.log_export(),
                traces: common.traces(),
            },
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  firedrill shop --payments http://127.0.0.1:8081 &
  curl -s 127.0.0.1:8080/items/1")]
pub(in crate::cli) struct ShopArgs {
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
    pub(in crate::cli) fn config(self, common: &Common) -> Result<shop::Config, String> {
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
pub(in crate::cli) struct PaymentsArgs {
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
    pub(in crate::cli) fn config(self, common: &Common) -> Result<payments::Config, String> {
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
pub(in crate::cli) struct TrafficArgs {
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
    pub(in crate::cli) fn config(self, common: &Common) -> Result<traffic::Config, String> {
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
  firedrill console --lab ./lab       the page at http://127.0.0.1:8900 shows the lab in ./lab
  firedrill console --target shop=http://shop:9464 --target traffic=http://traffic:9470")]
pub(in crate::cli) struct ConsoleArgs {
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
    /// A role to show and the address of its control plane, where no lab's file says who runs where; once for each.
    #[arg(
        long = "target",
        env = "FIREDRILL_TARGETS",
        value_delimiter = ',',
        value_name = "ROLE=URL"
    )]
    targets: Vec<console::places::Target>,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    role: RoleArgs,
}

impl ConsoleArgs {
    pub(in crate::cli) fn config(self, common: &Common) -> Result<console::Config, String> {
        let judge = self.judge.judging()?;
        Ok(console::Config {
            role: self
                .role
                .config("console", Some(self.listen), self.control, common),
            otlp: self.otlp,
            judge,
            source: match self.lab {
                Some(dir) => Source::Lab(dir),
                None if self.targets.is_empty() => Source::Nobody,
                None => Source::Given(self.targets),
            },
        })
    }
}
