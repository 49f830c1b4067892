//! `firedrill drill`: what drills there are, and running one in a lab of its own.
//!
//! A drill starts from a known state or it proves nothing, so each run gets a fresh lab on free ports, which
//! ends with the run however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::{Common, DrillArgs, DrillCommand, DrillRunArgs};
use super::{labs, own_binary, print, say, small_runtime};
use crate::control::lab::Lab;
use crate::control::lifecycle::{Ready, watch_for_stop};
use crate::drills::progress::Meter;
use crate::drills::{self, Drill, LabAddresses, OptionName, Record, Request, Verdict, report};

/// How long a fresh lab may take to be ready.
const READY_MAX: Duration = Duration::from_secs(90);

/// The roles of a lab that a drill runs in.
const ROLES: usize = 4;

/// Runs the command, and returns its exit code.
pub(super) fn run(args: DrillArgs, common: &Common) -> Result<u8, String> {
    match args.command {
        DrillCommand::List => print(&drills::list()?),
        DrillCommand::Show { id, answer } => print(&drills::show(drills::find(&id)?, answer)),
        DrillCommand::Export => print(&drills::export()?),
        DrillCommand::Run(args) => return run_one(&args, common),
    }
    Ok(0)
}

fn run_one(args: &DrillRunArgs, common: &Common) -> Result<u8, String> {
    let drill = drills::find(&args.id)?;
    let option: OptionName = args.option.parse()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let request = Request {
        drill,
        option,
        fix: args.fix,
        seed,
        time_scale: 1.0,
    };
    let runtime = small_runtime()?;
    // Before there is anything to leave behind: Ctrl-C must take it away again from the first moment on.
    let stop = CancellationToken::new();
    runtime.block_on(async { watch_for_stop(&stop, false) })?;
    let lab = OwnLab::start(drill, seed, common)?;
    say(&format!("A lab of its own runs; watch it at {}", lab.page));
    let record = runtime.block_on(fly(request, &lab.addresses, &stop))?;
    drop(lab);
    if args.json {
        print(&serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?);
    } else {
        print(&report::text(&record));
    }
    Ok(match record.verdict {
        Verdict::AsExpected => 0,
        Verdict::NotAsExpected => 1,
        Verdict::Invalid => 3,
    })
}

async fn fly(
    request: Request<'_>,
    addresses: &LabAddresses,
    stop: &CancellationToken,
) -> Result<Record, String> {
    let mut meter = Meter::new(std::io::stderr(), std::io::stderr().is_terminal());
    let result = drills::run(request, addresses, stop, |progress| meter.show(progress)).await;
    meter.finish();
    result
}

/// A lab that ends, and whose files go, when this is dropped.
struct OwnLab {
    up: Child,
    dir: PathBuf,
    addresses: LabAddresses,
    page: String,
}

impl OwnLab {
    fn start(drill: &Drill, seed: u64, common: &Common) -> Result<Self, String> {
        let dir = labs::default_dir()?.with_file_name(format!("{DIR}{}", std::process::id()));
        sweep(&dir);
        std::fs::create_dir_all(&dir)
            .map_err(|error| format!("the directory {} cannot be made: {error}", dir.display()))?;
        let log = dir.join("up.log");
        let in_words = |error: std::io::Error| format!("the lab cannot start: {error}");
        let mut up = up_command(drill, seed, common, &dir)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(in_words)?)
            // Ctrl-C is for this process: the lab must outlive it until the drill has taken back what it did.
            .process_group(0)
            .spawn()
            .map_err(in_words)?;
        let ready = wait_until_ready(&mut up);
        let lab = Lab::read(&dir)?.unwrap_or_default();
        let own = Self {
            up,
            addresses: addresses(&lab, common),
            page: page(&lab),
            dir,
        };
        match ready {
            Ok(()) => Ok(own),
            Err(sentence) => Err(last_sentence(&log).unwrap_or(sentence)),
        }
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
    let rate = drill.experiment.load.rate.to_string();
    command.args(["up", "--ports", "auto", "--parent-pipe"]);
    command.args([
        "--log",
        &common.log,
        "--rate",
        &rate,
        "--seed",
        &seed.to_string(),
    ]);
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
fn wait_until_ready(up: &mut Child) -> Result<(), String> {
    let stdout = up.stdout.take().ok_or("the lab has no output")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    for _ in 0..ROLES {
        let line = lines
            .recv_timeout(READY_MAX)
            .map_err(|_| "the lab did not become ready".to_owned())?;
        serde_json::from_str::<Ready>(&line).map_err(|_| format!("the lab said {line:?}"))?;
    }
    Ok(())
}

fn addresses(lab: &Lab, common: &Common) -> LabAddresses {
    let controls = |role: &'static str| {
        let members = lab.members.iter().filter(move |member| member.role == role);
        members.map(|member| format!("http://{}", member.control))
    };
    LabAddresses {
        traffic_control: controls("traffic").next().unwrap_or_default(),
        shop_control: controls("shop").next().unwrap_or_default(),
        payments_controls: controls("payments").collect(),
        token: common.token.clone(),
    }
}

fn page(lab: &Lab) -> String {
    let data = lab.member("console").and_then(|console| console.data);
    data.map_or_else(String::new, |address| format!("http://{address}"))
}

/// What the lab said last before it gave up, without our name in front.
fn last_sentence(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("firedrill: "))?;
    Some(last.to_owned())
}
