//! What each role is told: its ports, its directory, its limits, its peers.
//!
//! Everything that `up` decides about a role stands here, as plain values, so that it can be read and tested
//! without starting a process. Were it spread over the code that starts them, a restarted role could come back
//! with other ports, and its peers would go on calling the old ones.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use crate::control::lifecycle::Ready;

/// Which ports the roles listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The documented ones, from 8080, 8900 and 9464 on.
    Standard,
    /// Any that are free; a role keeps its own over restarts.
    Auto,
}

/// A lab to run.
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that have nothing to do with each other"
)]
#[derive(Debug, Clone)]
pub struct Plan {
    /// The executable whose roles are started.
    pub binary: PathBuf,
    /// The lab's directory: exists, and belongs to this lab alone.
    pub dir: PathBuf,
    /// Which ports the roles listen on.
    pub ports: Ports,
    /// How many processes share the work of payments, 1 to 3.
    pub payments_replicas: u8,
    /// Arrivals per second at the start.
    pub rate: f64,
    /// Makes the load repeatable.
    pub seed: Option<u64>,
    /// Flags of the console that say who judges.
    pub judge: Vec<(&'static str, String)>,
    /// How long to run once every role is ready; until told to stop, if absent.
    pub run_for: Option<Duration>,
    /// The token that the control planes ask for.
    pub token: Option<String>,
    /// Where spans are sent; to the lab's console, if absent.
    pub otlp_endpoint: Option<String>,
    /// Whether the roles export spans at all.
    pub traces: bool,
    /// Whether roles export log events too.
    pub log_export: bool,
    /// Which log events the roles write, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Whether standard output is a terminal, on which a status is drawn.
    pub terminal: bool,
    /// Whether standard input is a pipe from a parent with whom the lab ends.
    pub parent_pipe: bool,
}

/// Descriptors of each role. Ten times what the default load needs, and low enough that a leak meets its end
/// within a drill; a desktop's limit of half a million would never be reached.
const OPEN_FILES_MAX: u64 = 1024;

/// Memory of each role in bytes, 1 GiB: eight times what the whole lab should need. A leak then ends the process
/// that leaks; without a limit the kernel would choose one, perhaps the learner's editor.
const MEMORY_MAX: u64 = 1 << 30;

/// What one bank has, divided among the replicas: they are three doors of one bank, not three banks.
const BANK_SLOTS: u8 = 6;
const BANK_QUEUE: u8 = 50;

/// How often spans are sent, in milliseconds. The standard 5 s would show a trace after the drill's moment is over.
const SPAN_DELAY_MS: &str = "1000";

/// The most replicas of payments: more would share two slots, and there are no more standard ports.
const REPLICAS_MAX: u8 = 3;

impl Plan {
    /// Says in a sentence what cannot be run.
    pub(super) fn check(&self) -> Result<(), String> {
        if (1..=REPLICAS_MAX).contains(&self.payments_replicas) {
            return Ok(());
        }
        Err(format!(
            "payments can have 1 to {REPLICAS_MAX} replicas, not {}",
            self.payments_replicas
        ))
    }

    /// Where the log of each role is kept, when standard error is not for logs.
    pub(super) fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Where the bank's ledger is kept: the replicas share it, so it is in the directory of none.
    pub(super) fn ledger_dir(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    fn at(&self, standard: u16) -> SocketAddr {
        let port = match self.ports {
            Ports::Standard => standard,
            Ports::Auto => 0,
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The console; its spans would feed itself, so it has none.
    pub(super) fn console(&self, otlp: SocketAddr) -> Spec {
        let mut spec = self.spec(
            "console",
            "console".into(),
            Some(self.at(8900)),
            self.at(9480),
        );
        spec.env.push(("OTEL_SDK_DISABLED", "true".into()));
        spec.arg("--otlp", otlp.to_string());
        spec.arg("--lab", &self.dir);
        for (flag, value) in &self.judge {
            spec.arg(flag, value);
        }
        spec
    }

    /// The replica `index` of payments, from 0.
    pub(super) fn payments(&self, index: u8, otlp: SocketAddr) -> Spec {
        let replicas = self.payments_replicas;
        let name = if replicas == 1 {
            "payments".to_owned()
        } else {
            format!("payments-{}", index + 1)
        };
        let (data, control) = (8081 + u16::from(index), 9465 + u16::from(index));
        let mut spec = self.spec("payments", name, Some(self.at(data)), self.at(control));
        self.trace(&mut spec, otlp);
        spec.arg("--ledger", self.ledger_dir().join("ledger.db"));
        spec.arg("--bank-slots", (BANK_SLOTS / replicas).to_string());
        spec.arg("--bank-queue", (BANK_QUEUE / replicas).to_string());
        spec
    }

    /// The shop, which calls `payments`.
    pub(super) fn shop(&self, payments: &[SocketAddr], otlp: SocketAddr) -> Spec {
        let mut spec = self.spec("shop", "shop".into(), Some(self.at(8080)), self.at(9464));
        self.trace(&mut spec, otlp);
        let urls: Vec<_> = payments
            .iter()
            .map(|peer| format!("http://{peer}"))
            .collect();
        spec.arg("--payments", urls.join(","));
        spec
    }

    /// The users of `shop`.
    pub(super) fn traffic(&self, shop: SocketAddr, otlp: SocketAddr) -> Spec {
        let mut spec = self.spec("traffic", "traffic".into(), None, self.at(9470));
        self.trace(&mut spec, otlp);
        spec.arg("--shop", format!("http://{shop}"));
        spec.arg("--rate", self.rate.to_string());
        if let Some(seed) = self.seed {
            spec.arg("--seed", seed.to_string());
        }
        spec
    }

    fn spec(
        &self,
        role: &'static str,
        name: String,
        data: Option<SocketAddr>,
        control: SocketAddr,
    ) -> Spec {
        let mut spec = Spec {
            binary: self.binary.clone(),
            role,
            name,
            data,
            control,
            more: Vec::new(),
            env: Vec::new(),
        };
        spec.arg("--data", self.dir.join(&spec.name));
        spec.arg("--log", &self.log_filter);
        spec.arg("--open-files-max", OPEN_FILES_MAX.to_string());
        spec.arg("--memory-max", MEMORY_MAX.to_string());
        if let Some(token) = &self.token {
            spec.env.push(("FIREDRILL_TOKEN", token.clone()));
        }
        spec
    }

    fn trace(&self, spec: &mut Spec, otlp: SocketAddr) {
        let endpoint = self.otlp_endpoint.clone().unwrap_or_else(|| {
            // The console speaks one of the protocols; a collector of one's own may want another.
            for name in [
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            ] {
                spec.env.push((name, "http/protobuf".into()));
            }
            format!("http://{otlp}")
        });
        spec.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
        spec.env
            .push(("OTEL_BSP_SCHEDULE_DELAY", SPAN_DELAY_MS.into()));
        if !self.traces {
            spec.env.push(("OTEL_TRACES_EXPORTER", "none".into()));
        }
        let logs = if self.log_export { "otlp" } else { "none" };
        spec.env.push(("OTEL_LOGS_EXPORTER", logs.into()));
    }

    /// The address of the console's OTLP receiver. The ready line does not tell this port, so the kernel is asked
    /// for a free one beforehand; another process could take it before the console does, but then the start
    /// fails with a sentence.
    pub(super) fn otlp(&self) -> Result<SocketAddr, String> {
        if self.ports == Ports::Standard {
            return Ok(self.at(4318));
        }
        TcpListener::bind(self.at(0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port can be found: {error}"))
    }
}

/// How one process is started, also the next time.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) binary: PathBuf,
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) data: Option<SocketAddr>,
    pub(super) control: SocketAddr,
    pub(super) env: Vec<(&'static str, String)>,
    more: Vec<OsString>,
}

impl Spec {
    fn arg(&mut self, flag: &str, value: impl AsRef<OsStr>) {
        self.more.push(flag.into());
        self.more.push(value.as_ref().into());
    }

    /// The arguments behind the name of the executable.
    pub(super) fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![self.role.into(), "--parent-pipe".into()];
        if let Some(data) = self.data {
            args.extend(["--listen".into(), data.to_string().into()]);
        }
        args.extend(["--control".into(), self.control.to_string().into()]);
        args.extend(self.more.iter().cloned());
        args
    }

    /// Keeps the addresses that a first start brought, so that the next one brings the same.
    pub(super) fn learn(&mut self, ready: &Ready) {
        if self.data.is_some() {
            self.data = ready.data;
        }
        self.control = ready.control.unwrap_or(self.control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::tests::{FakeRole, plan};

    fn value(spec: &Spec, flag: &str) -> Option<String> {
        let args = spec.args();
        let place = args.iter().position(|arg| arg == flag)?;
        Some(args.get(place + 1)?.to_string_lossy().into_owned())
    }

    fn env<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
        let pair = spec.env.iter().rev().find(|(known, _)| *known == name)?;
        Some(&pair.1)
    }

    const OTLP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);

    fn standard() -> Plan {
        Plan {
            ports: Ports::Standard,
            ..plan(&FakeRole::new(""))
        }
    }

    #[test]
    fn the_standard_ports_are_the_documented_ones() {
        let plan = standard();
        let data = |spec: &Spec| spec.data.map(|data| data.port());
        let console = plan.console(plan.otlp().unwrap());
        assert_eq!((data(&console), console.control.port()), (Some(8900), 9480));
        assert_eq!(value(&console, "--otlp").unwrap(), "127.0.0.1:4318");
        assert_eq!(value(&console, "--rules").unwrap(), "production");
        let payments = plan.payments(2, OTLP);
        assert_eq!(
            (data(&payments), payments.control.port()),
            (Some(8083), 9467)
        );
        let shop = plan.shop(&[], OTLP);
        assert_eq!((data(&shop), shop.control.port()), (Some(8080), 9464));
        let traffic = plan.traffic(OTLP, OTLP);
        assert_eq!((data(&traffic), traffic.control.port()), (None, 9470));
        assert_eq!(value(&traffic, "--listen"), None);
        assert_eq!(value(&traffic, "--rate").unwrap(), "100");
        assert_eq!(value(&traffic, "--seed").unwrap(), "7");
    }

    #[test]
    fn the_replicas_share_one_bank_and_one_ledger() {
        for (replicas, slots, queue) in [(1, "6", "50"), (2, "3", "25"), (3, "2", "16")] {
            let plan = Plan {
                payments_replicas: replicas,
                ..standard()
            };
            plan.check().unwrap();
            let specs: Vec<_> = (0..replicas)
                .map(|index| plan.payments(index, OTLP))
                .collect();
            let ledger = plan.dir.join("ledger/ledger.db");
            for spec in &specs {
                assert_eq!(value(spec, "--bank-slots").unwrap(), slots);
                assert_eq!(value(spec, "--bank-queue").unwrap(), queue);
                assert_eq!(value(spec, "--ledger").unwrap(), ledger.to_string_lossy());
            }
            let dirs: std::collections::BTreeSet<_> =
                specs.iter().map(|spec| value(spec, "--data")).collect();
            assert_eq!(dirs.len(), specs.len(), "each has its own choices");
        }
        let none = Plan {
            payments_replicas: 0,
            ..standard()
        };
        assert!(none.check().unwrap_err().contains("1 to 3 replicas, not 0"));
    }

    #[test]
    fn spans_go_to_the_console_but_never_its_own() {
        let mut plan = standard();
        let console = plan.console(OTLP);
        assert_eq!(env(&console, "OTEL_SDK_DISABLED"), Some("true"));
        let shop = plan.shop(&[], OTLP);
        let endpoint = env(&shop, "OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(endpoint, Some("http://127.0.0.1:4318"));
        assert_eq!(env(&shop, "OTEL_TRACES_EXPORTER"), None);
        assert_eq!(env(&shop, "OTEL_LOGS_EXPORTER"), Some("none"));
        assert_eq!(env(&shop, "FIREDRILL_TOKEN"), None);

        plan.otlp_endpoint = Some("http://collector:4318".into());
        plan.traces = false;
        plan.log_export = true;
        plan.token = Some("secret".into());
        let shop = plan.shop(&[], OTLP);
        let endpoint = env(&shop, "OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(endpoint, Some("http://collector:4318"));
        assert_eq!(env(&shop, "OTEL_TRACES_EXPORTER"), Some("none"));
        assert_eq!(env(&shop, "OTEL_LOGS_EXPORTER"), Some("otlp"));
        assert_eq!(env(&shop, "FIREDRILL_TOKEN"), Some("secret"));
    }

    #[test]
    fn every_role_is_limited_and_ends_with_its_parent() {
        let plan = standard();
        let specs = [
            plan.console(OTLP),
            plan.payments(0, OTLP),
            plan.shop(&[OTLP], OTLP),
            plan.traffic(OTLP, OTLP),
        ];
        for spec in specs {
            assert_eq!(value(&spec, "--open-files-max").unwrap(), "1024");
            assert_eq!(value(&spec, "--memory-max").unwrap(), "1073741824");
            assert_eq!(spec.args()[0], spec.role);
            assert_eq!(spec.args()[1], "--parent-pipe");
        }
    }
}
