//! Starts roles and labs, asks them, and stops them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use firedrill::control::lifecycle::Ready;
use serde_json::Value;
use tempfile::TempDir;

/// The longest that a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) fn firedrill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    command
        .stdin(Stdio::null())
        .env("OTEL_SDK_DISABLED", "true");
    for name in [
        "FIREDRILL_TOKEN",
        "FIREDRILL_DATA",
        "FIREDRILL_LOG",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        "OTEL_TRACES_EXPORTER",
        "OTEL_LOGS_EXPORTER",
        "FIREDRILL_ALERTMANAGER",
        "FIREDRILL_PROMETHEUS",
        "FIREDRILL_RULES",
        "FIREDRILL_SERVICE_VERSION",
        "OTEL_RESOURCE_ATTRIBUTES",
    ] {
        command.env_remove(name);
    }
    command
}

/// A process that is killed when the test ends.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) ready: Vec<Ready>,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts `command` and waits until it has said `roles` times that a role is ready.
    pub(crate) fn start(command: Command, log: &Path, roles: usize) -> Self {
        let stderr = std::fs::File::create(log).unwrap();
        let mut process = Self::spawn(command, stderr.into(), log);
        process.wait_until_ready(roles);
        process
    }

    /// The same, with what it writes to standard error going to `stderr`.
    pub(crate) fn start_into(command: Command, stderr: Stdio, roles: usize) -> Self {
        let mut process = Self::spawn(command, stderr, Path::new(""));
        process.wait_until_ready(roles);
        process
    }

    fn spawn(mut command: Command, stderr: Stdio, log: &Path) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            ready: Vec::new(),
            lines,
            log: log.to_owned(),
        }
    }

    fn wait_until_ready(&mut self, roles: usize) {
        for _ in 0..roles {
            let line = self
                .lines
                .recv_timeout(DEADLINE)
                .unwrap_or_else(|_| panic!("not ready:\n{}", self.log()));
            self.ready.push(serde_json::from_str(&line).unwrap());
        }
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        wait_for("the end of a process", || {
            code = self.child.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        code.flatten()
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // A zombie has ended; it only waits to be reaped.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One role.
pub(crate) struct Role {
    pub(crate) process: Process,
    pub(crate) data: String,
    pub(crate) control: String,
}

impl Role {
    /// Starts `firedrill ROLE` on free ports, with its files in `dir`.
    pub(crate) fn start(role: &str, dir: &Path, more: &[&str]) -> Self {
        Self::start_with(role, dir, more, &[])
    }

    pub(crate) fn start_with(role: &str, dir: &Path, more: &[&str], env: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mut command = firedrill();
        command
            .arg(role)
            .args(["--control", "127.0.0.1:0", "--data"])
            .arg(dir.join(role))
            .args(more);
        if role != "traffic" && !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        let process = Process::start(command, &dir.join(format!("{role}.log")), 1);
        let ready = &process.ready[0];
        let data = ready
            .data
            .map_or_else(String::new, |address| address.to_string());
        let control = ready.control.unwrap().to_string();
        Self {
            process,
            data,
            control,
        }
    }

    /// The value of a series: its name and, if it has labels, one text that they contain.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        metric(&get(&self.control, "/metrics").body, name, labels)
    }
}

/// A shop with its payments, on a small database.
#[expect(
    clippy::struct_field_names,
    reason = "the shop of a pair that is called after it"
)]
pub(crate) struct Shop {
    pub(crate) payments: Role,
    pub(crate) shop: Role,
    pub(crate) dir: TempDir,
}

impl Shop {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    pub(crate) fn start_with(payments: &[&str], shop: &[&str]) -> Self {
        Self::start_in(payments, shop, &[])
    }

    /// One that logs all that is its own, with this environment.
    pub(crate) fn start_telling(env: &[(&str, &str)]) -> Self {
        let all = ["--log", "debug,hyper_util=off"];
        Self::start_in(&all, &all, env)
    }

    fn start_in(payments: &[&str], shop: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let payments = Role::start_with("payments", dir.path(), payments, env);
        let url = format!("http://{}", payments.data);
        let arguments = [&["--payments", &url, "--seed-orders", "100"], shop].concat();
        let shop = Role::start_with("shop", dir.path(), &arguments, env);
        Self {
            payments,
            shop,
            dir,
        }
    }

    /// Places an order under `key`.
    pub(crate) fn order(&self, key: &str, body: &str) -> Answer {
        let headers = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
        send(
            &self.shop.data,
            "POST",
            "/orders",
            &headers,
            body.as_bytes(),
        )
    }
}

/// The one line of an order of one item.
pub(crate) const ORDER: &str = r#"{"customer_id":1,"item_id":1,"quantity":1}"#;

/// An answer, read to the end of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn get(address: &str, path: &str) -> Answer {
    send(address, "GET", path, "", b"")
}

pub(crate) fn put(address: &str, path: &str, body: &str) -> Answer {
    send(
        address,
        "PUT",
        path,
        "content-type: application/json\r\n",
        body.as_bytes(),
    )
}

/// One request over a connection of its own. `headers` are whole lines.
pub(crate) fn send(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    try_raw(address, &request).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Sends bytes and reads what comes back.
pub(crate) fn try_raw(address: &str, bytes: &[u8]) -> std::io::Result<Answer> {
    let mut stream = connect(address)?;
    // A server that refuses early may close before it has read all of it: its answer still counts.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or(std::io::ErrorKind::InvalidData)?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

pub(crate) fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// The sum of the series of `text` with this name whose labels contain `labels`.
pub(crate) fn metric(text: &str, name: &str, labels: &str) -> f64 {
    let values: Vec<f64> = text
        .lines()
        .filter(|line| {
            let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
            series.split('{').next() == Some(name) && series.contains(labels)
        })
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(
        !values.is_empty(),
        "no series {name} with {labels:?} in\n{text}"
    );
    values.iter().sum()
}
