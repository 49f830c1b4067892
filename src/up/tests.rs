//! The supervisor with small shell scripts for roles: real processes, signals and pipes, none of the roles' own work.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::logs::Destination;
use super::output::Output;
use super::supervise::{self, Timings};
use super::{Plan, Ports, Shared, sequence};
use crate::control::lab::Lab;

/// An address at which nobody listens.
pub(super) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// What every script begins with: `$name` is its member's name, `$dir` the lab's directory. Where it may choose its
/// ports it takes its process id for one, so that a restart would show if it could choose again.
const PRELUDE: &str = r#"#!/bin/sh
role=$1
all=$*
listen=
while [ $# -gt 0 ]; do
  case $1 in
    --listen) listen=$2 ;;
    --control) control=$2 ;;
    --data) name=${2##*/}; dir=${2%/*} ;;
  esac
  shift
done
port=$(( $$ % 60000 + 1024 ))
case $control in *:0) control=127.0.0.1:$port ;; esac
case $listen in *:0) listen=127.0.0.1:$port ;; esac
if [ -n "$listen" ]; then data="\"$listen\""; else data=null; fi
echo "$all" >> "$dir/$name.starts"
starts=$(wc -l < "$dir/$name.starts")
ready() { echo "{\"event\":\"ready\",\"role\":\"$role\",\"pid\":$$,\"data\":$data,\"control\":\"$control\"}"; }
wait_for_parent() { while read -r line; do :; done; }
"#;

/// An executable whose roles do what a few lines of shell say.
pub(super) struct FakeRole(TempDir);

impl FakeRole {
    pub(super) fn new(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Written by another process: had we the file open while another test forks, it could not be executed.
        let mut writer = Command::new("/bin/sh")
            .args(["-c", r#"cat > "$0" && chmod +x "$0""#])
            .arg(dir.path().join("fake"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("{PRELUDE}{body}\n");
        let mut stdin = writer.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        assert!(writer.wait().unwrap().success());
        Self(dir)
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    fn binary(&self) -> PathBuf {
        self.dir().join("fake")
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir().join(file)).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

pub(super) fn plan(fake: &FakeRole) -> Plan {
    Plan {
        binary: fake.binary(),
        dir: fake.dir().to_owned(),
        ports: Ports::Auto,
        payments_replicas: 1,
        rate: 100.0,
        seed: Some(7),
        judge: vec![("--rules", "production".into())],
        run_for: None,
        token: None,
        otlp_endpoint: None,
        traces: true,
        log_export: false,
        log_filter: "info".into(),
        terminal: false,
        parent_pipe: false,
    }
}

/// Patient with scripts, which answer no probe, and quick to start them again.
fn timings() -> Timings {
    Timings {
        ready: DEADLINE,
        pause_first: Duration::from_millis(10),
        misses_max: 1_000_000,
        ..Timings::default()
    }
}

/// Keeps what is written.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn shared(plan: Plan, timings: Timings, out: &Kept) -> Arc<Shared> {
    let events = Destination::File(plan.dir.join("up.log"));
    let output = Output::spawn(plan.terminal, out.clone(), events).unwrap();
    Shared::new(plan, timings, output).unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn all_ready(lab: &Lab) -> bool {
    lab.members.len() >= 4
        && lab.member("traffic").is_some()
        && lab.members.iter().all(|member| member.pid > 0)
}

async fn finish(running: tokio::task::JoinHandle<Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(DEADLINE, running)
        .await
        .expect("the lab ends")
        .unwrap()
}

fn start(shared: &Arc<Shared>) -> tokio::task::JoinHandle<Result<(), String>> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move { sequence::run(&shared).await })
}

#[tokio::test]
async fn a_lab_starts_in_order_is_found_by_its_file_and_stops_backwards() {
    let body = r#"
        trap 'echo "$name" >> "$dir/ended"; exit 0' TERM
        echo "$name" >> "$dir/started"
        ready
        wait_for_parent"#;
    let fake = FakeRole::new(body);
    let out = Kept::default();
    let plan = Plan {
        payments_replicas: 2,
        ..plan(&fake)
    };
    let shared = shared(plan, timings(), &out);
    let running = start(&shared);
    until("ready", || shared.board.lab().members.len() == 5).await;
    let lab = Lab::read(fake.dir()).unwrap().unwrap();
    assert_eq!(lab, shared.board.lab());
    assert_eq!(lab.pid, std::process::id());
    let names: Vec<_> = lab
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["console", "payments-1", "payments-2", "shop", "traffic"]
    );
    assert_eq!(fake.lines("started"), names);
    let payments = lab.members[1].data.unwrap();
    assert!(
        fake.lines("shop.starts")[0].contains(&format!("--payments http://{payments},http://"))
    );

    shared.stop.cancel();
    finish(running).await.unwrap();
    let mut ended = fake.lines("ended");
    // The two replicas are asked at the same time.
    ended[2..4].sort();
    assert_eq!(
        ended,
        ["traffic", "shop", "payments-1", "payments-2", "console"]
    );
    shared.board.close();
    shared.output.close();
    assert_eq!(Lab::read(fake.dir()).unwrap(), None);
    let printed = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert_eq!(printed.lines().count(), 5);
    assert!(
        printed
            .lines()
            .all(|line| line.starts_with(r#"{"event":"ready""#))
    );
}

#[tokio::test]
async fn a_crashed_role_comes_back_with_the_same_ports() {
    let body = r#"
        ready
        if [ "$name" = shop ] && [ "$starts" -le 2 ]; then exit 1; fi
        wait_for_parent"#;
    let fake = FakeRole::new(body);
    let shared = shared(plan(&fake), timings(), &Kept::default());
    let running = start(&shared);
    let restarts = |lab: &Lab| lab.member("shop").map_or(0, |shop| shop.restarts);
    until("two restarts", || {
        let lab = shared.board.lab();
        all_ready(&lab) && restarts(&lab) == 2
    })
    .await;
    let starts = fake.lines("shop.starts");
    let shop = shared.board.lab().member("shop").unwrap().clone();
    assert!(starts[0].contains("--listen 127.0.0.1:0 --control 127.0.0.1:0"));
    assert_ne!(shop.control.port(), 0);
    let ports = format!("--listen {} --control {}", shop.data.unwrap(), shop.control);
    assert!(
        starts[1].contains(&ports) && starts[2].contains(&ports),
        "{starts:?}"
    );
    let others = ["console", "payments", "traffic"];
    assert!(
        others
            .iter()
            .all(|role| fake.lines(&format!("{role}.starts")).len() == 1)
    );
    shared.stop.cancel();
    finish(running).await.unwrap();
    shared.output.close();
    assert!(fake.lines("up.log")[0].contains("shop ended (exit status: 1); it is started again."));
}

#[tokio::test]
async fn a_role_that_fails_at_its_first_start_ends_the_lab() {
    let body = r#"
        trap 'echo "$name" >> "$dir/ended"; exit 0' TERM
        if [ "$name" = shop ]; then echo 'firedrill: the port is in use' >&2; exit 2; fi
        ready
        wait_for_parent"#;
    let fake = FakeRole::new(body);
    let plan = Plan {
        terminal: true,
        ..plan(&fake)
    };
    let shared = shared(plan, timings(), &Kept::default());
    let error = finish(start(&shared)).await.unwrap_err();
    assert_eq!(error, "shop did not start: the port is in use");
    assert_eq!(fake.lines("ended"), ["payments", "console"]);
    assert_eq!(
        fake.lines("logs/shop.log"),
        ["firedrill: the port is in use"]
    );
    assert!(fake.lines("traffic.starts").is_empty());
}

#[tokio::test]
async fn a_lab_ends_when_its_time_is_over_or_while_it_starts() {
    let fake = FakeRole::new("ready; wait_for_parent");
    let plan_for_a_moment = Plan {
        run_for: Some(Duration::from_millis(50)),
        ..plan(&fake)
    };
    let moment = shared(plan_for_a_moment, timings(), &Kept::default());
    finish(start(&moment)).await.unwrap();
    assert!(
        moment
            .board
            .lab()
            .members
            .iter()
            .all(|member| member.pid == 0)
    );

    let fake = FakeRole::new(r#"[ "$name" = shop ] || ready; wait_for_parent"#);
    let starting = shared(plan(&fake), timings(), &Kept::default());
    let running = start(&starting);
    until("shop is waited for", || {
        !fake.lines("shop.starts").is_empty()
    })
    .await;
    starting.stop.cancel();
    finish(running).await.unwrap();
}

#[tokio::test]
async fn a_second_request_to_stop_waits_for_nobody() {
    let fake = FakeRole::new("trap '' TERM; ready; wait_for_parent");
    let patient = Timings {
        grace: Duration::from_secs(3600),
        ..timings()
    };
    let shared = shared(plan(&fake), patient, &Kept::default());
    let running = start(&shared);
    until("ready", || all_ready(&shared.board.lab())).await;
    let lab = shared.board.lab();
    shared.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished(), "the roles ignore SIGTERM");
    shared.kill.cancel();
    finish(running).await.unwrap();
    for member in lab.members {
        let process = PathBuf::from(format!("/proc/{}", member.pid));
        assert!(!process.exists(), "{} is still there", member.name);
    }
}

/// A control plane: answers each probe while it is told to, and counts the answers.
async fn answer(listener: tokio::net::TcpListener, answers: Arc<AtomicU32>, on: Arc<AtomicBool>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (answers, on) = (Arc::clone(&answers), Arc::clone(&on));
        tokio::spawn(async move {
            let mut request = [0; 4096];
            while let Ok(1..) = stream.read(&mut request).await {
                if !on.load(Ordering::Relaxed) {
                    continue;
                }
                answers.fetch_add(1, Ordering::Relaxed);
                let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                drop(stream.write_all(ok).await);
            }
        });
    }
}

#[tokio::test]
async fn a_silent_role_is_killed_and_started_again_but_not_before() {
    let fake = FakeRole::new("trap '' TERM; ready; wait_for_parent");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timings = Timings {
        probe_every: Duration::from_millis(100),
        misses_max: 5,
        grace: Duration::from_millis(10),
        ..timings()
    };
    let shared = shared(plan(&fake), timings, &Kept::default());
    let mut spec = shared.plan.shop(&[], NOBODY);
    spec.control = listener.local_addr().unwrap();
    let (answers, on) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(true)));
    tokio::spawn(answer(listener, Arc::clone(&answers), Arc::clone(&on)));
    let child = supervise::start(&shared, &mut spec).await.unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(supervise::keep(
        Arc::clone(&shared),
        spec,
        child,
        stop.clone(),
    ));
    until("twenty answers", || answers.load(Ordering::Relaxed) >= 20).await;
    assert_eq!(shared.board.lab().members[0].restarts, 0);
    on.store(false, Ordering::Relaxed);
    until("a restart", || shared.board.lab().members[0].restarts > 0).await;
    stop.cancel();
    tokio::time::timeout(DEADLINE, keeping)
        .await
        .unwrap()
        .unwrap();
    shared.output.close();
    assert!(fake.lines("up.log")[0].contains("it did not answer /livez 5 times in a row"));
}
