//! A lab that a drill starts for itself, on free ports and with fresh data.
//!
//! A drill starts from a known state or it proves nothing, so each run gets a lab that ends with the run however
//! that ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::cli::args::Common;
use crate::cli::{labs, own_binary};
use crate::control::lab::Lab;
use crate::control::lifecycle::Ready;
use crate::drills::{Drill, LabAddresses};

/// How long a fresh lab may take to be ready.
const READY_MAX: Duration = Duration::from_secs(90);

/// How often it is looked whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The processes of a lab beside payments: users, shop, console.
const OTHERS: usize = 3;

/// A lab that ends, and whose files go, when this is dropped.
pub(super) struct OwnLab {
    up: Child,
    dir: PathBuf,
    pub(super) addresses: LabAddresses,
}

impl OwnLab {
    pub(super) fn start(
        drill: &Drill,
        seed: u64,
        common: &Common,
        stop: &CancellationToken,
    ) -> Result<Self, String> {
        let dir = labs::default_dir()?.with_file_name(format!("{DIR}{}", std::process::id()));
        sweep(&dir);
        std::fs::create_dir_all(&dir)
            .map_err(|error| format!("the directory {} cannot be made: {error}", dir.display()))?;
        let log = dir.join("up.log");
        let in_words = |error: std::io::Error| format!("the lab cannot start: {error}");
        let up = up_command(drill, seed, common, &dir)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(in_words)?)
            // Ctrl-C is for this process: the lab must outlive it until the drill has taken back what it did.
            .process_group(0)
            .spawn()
            .map_err(in_words)?;
        let mut own = Self {
            up,
            addresses: addresses(&Lab::default(), common),
            dir,
        };
        let processes = OTHERS + usize::from(drill.experiment.payments_replicas);
        wait_until_ready(&mut own.up, processes, stop)
            .map_err(|sentence| last_sentence(&log).unwrap_or(sentence))?;
        let lab = Lab::read(&own.dir)?.unwrap_or_default();
        own.addresses = addresses(&lab, common);
        Ok(own)
    }
}

/// What the directory of a drill's lab is called, before the number of the drill's process.
const DIR: &str = "drill-";

/// Removes what drills that were killed left behind. What cannot be removed is tried again by the next drill.
fn sweep(own: &Path) {
    let Some(entries) = own.parent().and_then(|parent| parent.read_dir().ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(DIR)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// The call that starts the lab. What the caller set for a lab of their own (another bank, say) would make it
/// another experiment, so none of it is handed on.
fn up_command(drill: &Drill, seed: u64, common: &Common, dir: &Path) -> Result<Command, String> {
    let mut command = Command::new(own_binary()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIREDRILL_") {
            command.env_remove(name);
        }
    }
    let experiment = &drill.experiment;
    let settings = [
        ("--log", common.log.clone()),
        ("--rate", experiment.load.rate.to_string()),
        ("--seed", seed.to_string()),
        (
            "--payments-replicas",
            experiment.payments_replicas.to_string(),
        ),
    ];
    command.args(["up", "--ports", "auto", "--parent-pipe"]);
    for (flag, value) in settings {
        command.args([flag, &value]);
    }
    command.arg("--data").arg(dir);
    command.envs(common.token.iter().map(|token| ("FIREDRILL_TOKEN", token)));
    Ok(command)
}

impl Drop for OwnLab {
    fn drop(&mut self) {
        // The pipe's end is the lab's end; it stops in order, and by force after some seconds.
        drop(self.up.stdin.take());
        drop(self.up.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Reads the ready lines of the roles, and whatever comes after them, so that the lab never waits for us.
fn wait_until_ready(
    up: &mut Child,
    processes: usize,
    stop: &CancellationToken,
) -> Result<(), String> {
    let stdout = up.stdout.take().ok_or("the lab has no output")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    let deadline = Instant::now() + READY_MAX;
    for _ in 0..processes {
        let line = loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => break line,
                Err(_) if stop.is_cancelled() => return Err("the run was stopped".into()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => return Err("the lab did not become ready".into()),
            }
        };
        serde_json::from_str::<Ready>(&line).map_err(|_| format!("the lab said {line:?}"))?;
    }
    Ok(())
}

fn addresses(lab: &Lab, common: &Common) -> LabAddresses {
    let controls = |role: &'static str| {
        let members = lab.members.iter().filter(move |member| member.role == role);
        members.map(|member| format!("http://{}", member.control))
    };
    let console = lab.member("console").and_then(|console| console.data);
    LabAddresses {
        metrics: console.map_or_else(String::new, |address| format!("http://{address}")),
        traffic: controls("traffic").next().unwrap_or_default(),
        shop: controls("shop").next().unwrap_or_default(),
        payments: controls("payments").collect(),
        token: common.token.clone(),
    }
}

/// What the lab said last before it gave up, without our name in front.
fn last_sentence(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text.lines().rev().find_map(|line| {
        let ours = line.strip_prefix("firedrill: ");
        ours.or_else(|| line.strip_prefix("error: "))
    })?;
    Some(last.to_owned())
}
