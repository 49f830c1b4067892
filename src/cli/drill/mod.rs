//! `firedrill drill`: what drills there are, flying one, and proving all of them.

mod own_lab;

use std::borrow::Cow;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::args::{Common, DrillArgs, DrillCommand, DrillProofArgs, DrillRunArgs, DrillVerifyArgs};
use super::{print, say, small_runtime};
use crate::control::lifecycle::watch_for_stop;
use crate::drills::format::Harm;
use crate::drills::progress::Meter;
use crate::drills::{
    self, Clock, Drill, LabAddresses, Legs, OptionName, Proof, Record, Request, Shown, Verdict,
    proof, report,
};
use crate::http::client::base_url;
use crate::up::window;
use own_lab::OwnLab;

/// Runs the command, and returns its exit code.
pub(super) fn run(args: DrillArgs, common: &Common) -> Result<u8, String> {
    match args.command {
        DrillCommand::List => print(&drills::list()?),
        DrillCommand::Show { id, hints, answer } => {
            let shown = match (hints, answer) {
                (Some(most), _) => Shown::Hints(most),
                (None, true) => Shown::Answer,
                (None, false) => Shown::Briefing,
            };
            print(&drills::show(&*drills::find(&id)?, &id, shown));
        }
        DrillCommand::Export => print(&drills::export()?),
        DrillCommand::Run(args) => return run_one(&args, common),
        DrillCommand::Verify(args) => return verify(&args, common),
        DrillCommand::Proof(args) => print(&proof_table(&args)?),
    }
    Ok(0)
}

fn run_one(args: &DrillRunArgs, common: &Common) -> Result<u8, String> {
    let drill = drills::find(&args.id)?;
    refuse_seeds(args.prometheus.as_deref(), args.seed, 1)?;
    let option = match &args.option {
        Some(option) => option.parse()?,
        None if drill.experiment.harm == Harm::Nobody => OptionName::Sound,
        None => OptionName::Poor,
    };
    let legs = Legs::One {
        option,
        fix: args.fix,
    };
    let flight = Flight::new(args.prometheus.as_deref(), false, common)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let record = flight.fly(&drill, legs, seed)?;
    if args.json {
        print(&json(&record)?);
    } else {
        print(&report::text(&record));
    }
    Ok(exit_code(record.verdict))
}

/// Every leg of each drill, in one lab after the other: two at once would take the machine from each other.
fn verify(args: &DrillVerifyArgs, common: &Common) -> Result<u8, String> {
    let drills: Vec<Cow<'static, Drill>> = if args.names.is_empty() {
        drills::all()?.iter().map(Cow::Borrowed).collect()
    } else {
        let found = args.names.iter().map(|name| drills::find(name));
        found.collect::<Result<_, _>>()?
    };
    refuse_seeds(args.prometheus.as_deref(), args.seed, args.seeds)?;
    if let Some(dir) = &args.record {
        // Before an hour of flights is lost for it.
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("--record {} cannot be written: {error}", dir.display()))?;
    }
    let flight = Flight::new(args.prometheus.as_deref(), args.sabotage, common)?;
    let mut proofs = Vec::new();
    let mut failed = None;
    for (number, drill) in (1..).zip(&drills) {
        say(&format!(
            "{} ({number} of {})",
            drill.experiment.id,
            drills.len()
        ));
        let mut proof = Proof {
            drill: drill.experiment.id.clone(),
            records: Vec::new(),
        };
        failed = flight.prove(drill, args, &mut proof).err();
        if !proof.records.is_empty() {
            let written = args.record.as_ref().map(|dir| write(dir, &proof));
            failed = failed.or(written.and_then(Result::err));
            proofs.push(proof);
        }
        if failed.is_some() {
            break;
        }
    }
    // What was proved before something went wrong is not lost.
    if args.json {
        print(&json(&proofs)?);
    } else if !proofs.is_empty() {
        print(&proof::table(drills.iter().map(AsRef::as_ref), &proofs));
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(exit_code(Verdict::of_all(
            proofs.iter().map(Proof::verdict),
        ))),
    }
}

/// Refuses what would be ignored.
fn refuse_seeds(prometheus: Option<&str>, seed: Option<u64>, seeds: u32) -> Result<(), String> {
    if prometheus.is_some() && (seeds > 1 || seed.is_some()) {
        return Err(
            "the users of a running lab have the seed that they were started with, so --seed and \
             --seeds cannot be set with --prometheus"
                .into(),
        );
    }
    Ok(())
}

fn proof_table(args: &DrillProofArgs) -> Result<String, String> {
    let mut proofs = Vec::new();
    for path in &args.records {
        let cannot = |what: &str| format!("{} cannot be read: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| cannot(&error.to_string()))?;
        let proof = serde_json::from_str::<Proof>(&text);
        proofs.push(proof.map_err(|error| cannot(&error.to_string()))?);
    }
    Ok(proof::table(drills::all()?.iter(), &proofs))
}

fn write(dir: &Path, proof: &Proof) -> Result<(), String> {
    let path: PathBuf = dir.join(format!("{}.json", proof.drill));
    // In one line: it is for machines, and many times as long with each number on a line of its own.
    let text = serde_json::to_string(proof).map_err(|error| error.to_string())?;
    std::fs::write(&path, text + "\n")
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::AsExpected => 0,
        Verdict::NotAsExpected => 1,
        Verdict::Invalid => 3,
    }
}

/// What all runs of a command share.
struct Flight<'a> {
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    /// Who scrapes the running lab; without it, each run gets a lab of its own.
    prometheus: Option<String>,
    sabotage: bool,
    common: &'a Common,
}

impl<'a> Flight<'a> {
    fn new(prometheus: Option<&str>, sabotage: bool, common: &'a Common) -> Result<Self, String> {
        let base = |url| base_url("--prometheus", url, "http://127.0.0.1:9090");
        let prometheus = prometheus.map(base).transpose()?;
        let runtime = small_runtime()?;
        // Before there is anything to leave behind: Ctrl-C must take it away again from the first moment on.
        let stop = CancellationToken::new();
        runtime.block_on(async { watch_for_stop(&stop, false) })?;
        Ok(Self {
            runtime,
            stop,
            prometheus,
            sabotage,
            common,
        })
    }

    /// One run for each seed: the first has every leg, the others the sound and the poor one.
    fn prove(
        &self,
        drill: &Drill,
        args: &DrillVerifyArgs,
        proof: &mut Proof,
    ) -> Result<(), String> {
        let base = args.seed.unwrap_or_else(|| fastrand::u64(..));
        for nth in 0..args.seeds {
            let seed = base.wrapping_add(u64::from(nth));
            let legs = if nth == 0 { Legs::All } else { Legs::Both };
            let record = self.fly(drill, legs, seed)?;
            if !args.json {
                print(&report::text(&record));
            }
            proof.records.push(record);
        }
        Ok(())
    }

    fn fly(&self, drill: &Drill, legs: Legs, seed: u64) -> Result<Record, String> {
        drills::check(drill, legs)?;
        let token = self.common.token.as_deref();
        if let Some(url) = &self.prometheus {
            let discovered = LabAddresses::discover(url, token);
            let addresses = self.runtime.block_on(discovered)?;
            return self.run(drill, legs, None, &addresses);
        }
        let lab = OwnLab::start(drill, seed, self.common, &self.stop)?;
        let page = &lab.addresses.metrics;
        say(&format!(
            "A lab of its own runs, with seed {seed}; watch it at {page}"
        ));
        self.run(drill, legs, Some(seed), &lab.addresses)
    }

    fn run(
        &self,
        drill: &Drill,
        legs: Legs,
        seed: Option<u64>,
        addresses: &LabAddresses,
    ) -> Result<Record, String> {
        let request = Request {
            drill,
            legs,
            seed,
            fresh: self.prometheus.is_none(),
            sabotage: self.sabotage,
            clock: Clock::wall(),
        };
        let stderr = std::io::stderr();
        let columns = stderr.is_terminal().then(|| window(&stderr).0);
        let mut meter = Meter::new(stderr, columns);
        let run = drills::run(request, addresses, &self.stop, |progress| {
            meter.show(progress);
        });
        let result = self.runtime.block_on(run);
        meter.finish();
        result
    }
}
