//! The record of a run: what was asked, what was measured, what was judged.
//!
//! It is what `--json` writes, and all that the report and the table of proofs are made from.

use serde::{Deserialize, Serialize};

use super::condition::{Calibrated, Marks};
use super::format::{Drill, Harm, Headline, Load, Meanwhile, Shock};
use super::judge::{Check, Verdict, verdict};
use super::prometheus::Firing;

/// A row of a leg's table: what was measured in one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What the window is.
    pub name: String,
    /// One for each column of the record.
    pub values: Vec<Option<f64>>,
}

/// One leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// What it is: sound, poor, reject, fix, replay.
    pub name: String,
    /// What was done in it, in words; empty where the shock is all that happened.
    pub action: String,
    /// When it began, in seconds since the epoch.
    pub from_s: f64,
    /// When it ended.
    pub to_s: f64,
    /// When the shock and the action were; none if it never came to that.
    pub marks: Option<Marks>,
    /// What was judged.
    pub checks: Vec<Check>,
    /// The alerts that fired.
    pub alerts: Vec<Firing>,
    /// What was measured, window by window.
    pub rows: Vec<Row>,
    /// The headline's signals over all of it.
    pub headline: Vec<Option<f64>>,
}

/// A run, whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The drill's id.
    pub drill: String,
    /// The drill's title.
    pub title: String,
    /// Whom it harms.
    pub harm: Harm,
    /// The seed of the users, where it is known.
    pub seed: Option<u64>,
    /// The program that ran it.
    pub version: String,
    /// The program that was asked for metrics, as `/api/v1` says.
    pub metrics: String,
    /// The cores of the machine that ran it.
    pub cores: usize,
    /// When it began, in seconds since the epoch.
    pub from_s: f64,
    /// How long it took.
    pub took_s: f64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, a sentence each; empty if it was as expected.
    pub reasons: Vec<String>,
    /// What the file expects of the legs that were run, in words.
    pub expected: Vec<String>,
    /// What users did all the time.
    pub load: Load,
    /// What the world did.
    pub shock: Vec<Shock>,
    /// What operators did meanwhile.
    pub meanwhile: Vec<Meanwhile>,
    /// What was measured of this machine.
    pub calibrated: Calibrated,
    /// The headline's signals.
    pub headline: Vec<Headline>,
    /// The heads of the columns of the legs' tables.
    pub columns: Vec<String>,
    /// The legs.
    pub legs: Vec<LegRecord>,
    /// What could not be taken back at the end, a sentence each.
    pub left_behind: Vec<String>,
}

impl Record {
    /// A record of a run that is about to begin.
    pub(super) fn begin(drill: &Drill, seed: Option<u64>, from_s: f64) -> Self {
        let experiment = &drill.experiment;
        let cores = std::thread::available_parallelism();
        Self {
            drill: experiment.id.clone(),
            title: experiment.title.clone(),
            harm: experiment.harm,
            seed,
            version: env!("CARGO_PKG_VERSION").into(),
            metrics: String::new(),
            cores: cores.map_or(1, std::num::NonZero::get),
            from_s,
            took_s: 0.0,
            verdict: Verdict::Invalid,
            reasons: Vec::new(),
            expected: Vec::new(),
            load: experiment.load.clone(),
            shock: experiment.shock.clone(),
            meanwhile: experiment.meanwhile.clone(),
            calibrated: Calibrated::new(),
            headline: experiment.headline.clone(),
            columns: experiment
                .columns()
                .map(|column| column.signal.title(column.journey))
                .collect(),
            legs: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    /// Judges all that was seen.
    pub(super) fn finish(&mut self, now_s: f64, left_behind: Vec<String>) {
        self.took_s = now_s - self.from_s;
        self.left_behind = left_behind;
        let checks = self.legs.iter().flat_map(|leg| &leg.checks);
        (self.verdict, self.reasons) = verdict(checks);
        if self.verdict == Verdict::AsExpected && !self.left_behind.is_empty() {
            self.verdict = Verdict::NotAsExpected;
            self.reasons = self.left_behind.clone();
        }
    }

    /// The first leg with this name.
    #[must_use]
    pub fn leg(&self, name: &str) -> Option<&LegRecord> {
        self.legs.iter().find(|leg| leg.name == name)
    }
}
