//! What telemetry costs a request: `GET /items/{id}`, answered from the cache, with none of it and with all.
//!
//! ```text
//! cargo bench --bench request_cost                          # nine rounds, a minute and a half
//! cargo bench --bench request_cost -- --rounds 3
//! cargo bench --bench request_cost -- --podinfo PATH        # beside a podinfo binary, 1 % of its traces sampled
//! ```
//!
//! Each server is a process of its own with one worker, held on one core; the load, over 16 connections kept open, is
//! on the other, and so is the receiver of the spans. The servers take turns, so that a noisy neighbour hurts all of them. Printed are medians over the
//! rounds of throughput and of the server's CPU time a request (all its threads, from the kernel's accounting), and
//! both against the server without telemetry. Nothing is asserted: machines differ.
//!
//! - `axum`: the framework's own server, and a handler that does what the shop's does
//! - `server`: the same behind this project's accept loop, with its limits
//! - `shop`: the real shop, without traces, with 1 % of them, and with all
//! - `podinfo`: its smallest JSON answer

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use firedrill::http::server::{Limits, serve};
use firedrill::store::model::Item;
use moka::future::Cache;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 16;

const SERVER_CORE: usize = 0;
/// Of the load, and of whoever receives the spans: neither may take the servers' time.
const LOAD_CORE: usize = 1;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    match after("--serve").as_deref() {
        Some("sink") => sink(),
        Some(kind) => serve_bare(kind),
        None => {
            let number = |flag: &str, otherwise: u64| {
                after(flag).map_or(otherwise, |text| text.parse().expect("a number"))
            };
            let rounds = number("--rounds", 9);
            let seconds = number("--seconds", 2);
            compare(rounds, Duration::from_secs(seconds), after("--podinfo"));
        }
    }
}

/// A server under test.
struct Server {
    name: &'static str,
    path: &'static str,
    address: SocketAddr,
    child: Child,
    _dir: Option<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One round of one server.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
}

fn compare(rounds: u64, time: Duration, podinfo: Option<String>) {
    hold_on(LOAD_CORE);
    let receiver = start_self("sink", LOAD_CORE);
    let endpoint = format!("http://{}", receiver.address);
    let mut servers = vec![
        start_self("axum", SERVER_CORE),
        start_self("server", SERVER_CORE),
        start_shop("shop, no traces", None, &endpoint),
        start_shop("shop, 1 % of traces", Some("0.01"), &endpoint),
        start_shop("shop, all traces", Some("1"), &endpoint),
    ];
    servers.extend(podinfo.map(|path| start_podinfo(&path)));
    let mut samples = vec![Vec::new(); servers.len()];
    for round in 0..=rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            let sample = measure(server, time);
            // The first warms the caches up, also the processor's.
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    report(&servers, &samples);
}

fn report(servers: &[Server], samples: &[Vec<Sample>]) {
    let median = |samples: &[Sample], of: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let bare = servers.iter().position(|server| server.name == "server");
    let bare = &samples[bare.expect("it is among them")];
    let (bare_rate, bare_cpu) = (median(bare, |s| s.per_second), median(bare, |s| s.cpu_us));
    println!("| server | requests/s | of `server` | CPU µs a request | of `server` |");
    println!("|---|---|---|---|---|");
    for (server, samples) in servers.iter().zip(samples) {
        let (rate, cpu) = (
            median(samples, |s| s.per_second),
            median(samples, |s| s.cpu_us),
        );
        println!(
            "| {} | {rate:.0} | {:.2} | {cpu:.1} | {:.2} |",
            server.name,
            rate / bare_rate,
            cpu / bare_cpu
        );
    }
}

/// Asks `server` for `time`, and says what each request cost it.
fn measure(server: &Server, time: Duration) -> Sample {
    let request = format!("GET {} HTTP/1.1\r\nhost: bench\r\n\r\n", server.path);
    let mut connections: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(server.address).expect("the server listens");
            stream.set_nodelay(true).expect("a socket option");
            stream
        })
        .collect();
    let length = answer_length(&mut connections[0], &request);
    let mut answer = vec![0; length];
    let cpu_before = cpu_time(&server.child);
    let began = Instant::now();
    let mut requests = 0_u32;
    while began.elapsed() < time {
        // All at once, then all answers: the server always has something to do.
        for connection in &mut connections {
            connection
                .write_all(request.as_bytes())
                .expect("it takes requests");
        }
        for connection in &mut connections {
            connection.read_exact(&mut answer).expect("it answers");
            assert!(answer.starts_with(b"HTTP/1.1 200"), "it answers well");
            requests += 1;
        }
    }
    let elapsed = began.elapsed();
    let cpu = cpu_time(&server.child).saturating_sub(cpu_before);
    Sample {
        per_second: f64::from(requests) / elapsed.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / f64::from(requests),
    }
}

/// The bytes of one answer; they are the same each time, but for the time of day, which has a fixed length.
fn answer_length(connection: &mut TcpStream, request: &str) -> usize {
    connection
        .write_all(request.as_bytes())
        .expect("it takes requests");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer).expect("it answers");
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|l| l.parse().ok()).expect("a length");
            if body.len() >= length {
                return answer.len();
            }
        }
    }
}

/// CPU time of all threads of a process, which the kernel counts in nanoseconds.
fn cpu_time(process: &Child) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("it runs");
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Keeps this process, and those that it starts, on one core.
fn hold_on(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // On a machine with one core there is nothing to choose.
    let _held = sched_setaffinity(None, &set);
}

fn start(
    mut command: Command,
    core: usize,
    ready: impl Fn(&str) -> Option<SocketAddr>,
) -> (SocketAddr, Child) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // The child inherits the core of the thread that starts it.
    hold_on(core);
    let mut child = command.spawn().expect("it can be started");
    hold_on(LOAD_CORE);
    let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let address = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| ready(&line));
    (address.expect("it says where it listens"), child)
}

fn start_self(kind: &'static str, core: usize) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
    command.args(["--serve", kind]);
    let (address, child) = start(command, core, |line| line.parse().ok());
    Server {
        name: kind,
        path: "/items/1",
        address,
        child,
        _dir: None,
    }
}

/// The real shop; nobody is at its payments, for nothing is ordered.
fn start_shop(name: &'static str, sampled: Option<&str>, endpoint: &str) -> Server {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    command
        .args([
            "shop",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
        ])
        .args([
            "--payments",
            "http://127.0.0.1:1",
            "--workers",
            "1",
            "--data",
        ])
        .arg(dir.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env(
            "OTEL_SDK_DISABLED",
            if sampled.is_none() { "true" } else { "false" },
        )
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", sampled.unwrap_or("0"));
    let (address, child) = start(command, SERVER_CORE, |line| {
        let ready: serde_json::Value = serde_json::from_str(line).ok()?;
        ready["data"].as_str()?.parse().ok()
    });
    Server {
        name,
        path: "/items/1",
        address,
        child,
        _dir: Some(dir),
    }
}

fn start_podinfo(path: &str) -> Server {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a port is free");
    let mut command = Command::new(path);
    command
        .args(["--port", &address.port().to_string(), "--host", "127.0.0.1"])
        .args(["--level", "error", "--otel-service-name", "podinfo"])
        .env("GOMAXPROCS", "1")
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.01")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    hold_on(SERVER_CORE);
    let child = command.spawn().expect("podinfo can be started");
    hold_on(LOAD_CORE);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "podinfo listens");
        std::thread::sleep(Duration::from_millis(50));
    }
    Server {
        name: "podinfo, 1 % of traces",
        path: "/version",
        address,
        child,
        _dir: None,
    }
}

type Items = Cache<i64, Option<Arc<Item>>>;

/// What the shop's handler does when the item is in its cache.
async fn show(State(items): State<Items>, Path(id): Path<i64>) -> Result<Json<Item>, StatusCode> {
    let item = match items.get(&id).await {
        Some(kept) => kept,
        None => Box::pin(load(&items, id)).await,
    };
    let item = item.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Item::clone(&item)))
}

async fn load(items: &Items, id: i64) -> Option<Arc<Item>> {
    let item = Some(Arc::new(Item {
        id,
        name: "yellow clock 1".into(),
        price_cents: 4868,
        stock: 1_000_000_000,
    }));
    items.insert(id, item.clone()).await;
    item
}

fn serve_bare(kind: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let items: Items = Cache::builder()
        .max_capacity(2_000)
        .time_to_live(Duration::from_secs(5))
        .build();
    let router = Router::new()
        .route("/items/{id}", get(show))
        .with_state(items);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        println!("{}", listener.local_addr().expect("it listens"));
        if kind == "axum" {
            axum::serve(listener, router).await.expect("it serves");
        } else {
            serve(
                listener,
                router,
                Limits::default(),
                CancellationToken::new(),
            )
            .await;
        }
    });
}

/// Takes whatever is sent to it and says that all is well.
fn sink() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        println!("{}", listener.local_addr().expect("it listens"));
        let router = Router::new().fallback(|_: axum::body::Bytes| async {});
        axum::serve(listener, router).await.expect("it serves");
    });
}
