//! The record of a run: what was asked, what was seen, what was judged.
//!
//! It is what `--json` writes, and all that the report is made from.

use serde::Serialize;

use super::condition::{Journey, Marks, Signal};
use super::format::{Harm, OptionName};
use super::judge::{Judged, Verdict, judge, judge_steady, verdict};
use super::plan::Leg;
use super::seen::Observations;

/// A stretch of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// Its begin, on the users' clock.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

/// A row of the report: what was seen in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What the window is.
    pub name: String,
    /// Its begin, on the users' clock.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// Orders that users meant to place, a second.
    pub offered_per_s: Option<f64>,
    /// Orders that went well for their users, a second.
    pub good_per_s: Option<f64>,
    /// 99 % of the users had an answer, or gave up, within this many seconds.
    pub p99_s: Option<f64>,
    /// Attempts at payments for each call of the shop.
    pub attempts_per_order: Option<f64>,
    /// Charges that the bank finished, a second.
    pub bank_served_per_s: Option<f64>,
    /// Answers of the bank that nobody waited for, a second.
    pub bank_unclaimed_per_s: Option<f64>,
}

/// The journey that the report shows.
pub(super) const JOURNEY: Journey = Journey::Order;

impl Row {
    fn new(seen: &Observations, name: String, from_s: f64, to_s: f64) -> Self {
        let measure = |signal: Signal| {
            let journey = signal.is_of_a_journey().then_some(JOURNEY);
            seen.measure(signal, journey, from_s, to_s)
        };
        Self {
            name,
            from_s,
            to_s,
            offered_per_s: measure(Signal::OfferedPerS),
            good_per_s: measure(Signal::GoodPerS),
            p99_s: measure(Signal::P99S),
            attempts_per_order: measure(Signal::AttemptsPerOrder),
            bank_served_per_s: measure(Signal::BankServedPerS),
            bank_unclaimed_per_s: measure(Signal::BankUnclaimedPerS),
        }
    }
}

/// A run, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The drill's id.
    pub drill: String,
    /// The drill's title.
    pub title: String,
    /// Whom it harms.
    pub harm: Harm,
    /// The option of the choices under test.
    pub option: OptionName,
    /// Whether the fix was to be applied.
    pub fix: bool,
    /// The seed of the users.
    pub seed: u64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, a sentence each; empty if it was as expected.
    pub reasons: Vec<String>,
    /// What the file expects, in words.
    pub expected: Vec<String>,
    /// The conditions and what was measured.
    pub conditions: Vec<Judged>,
    /// What was seen, window by window.
    pub rows: Vec<Row>,
    /// The stretches of the run.
    pub phases: Vec<Phase>,
    /// When the shock and the fix were; none if the shock was never sent.
    pub marks: Option<Marks>,
    /// What could not be taken back at the end, a sentence each.
    pub left_behind: Vec<String>,
    /// All that was seen.
    pub observations: Observations,
}

impl Record {
    /// Judges a run from what was seen. Without `marks` the lab never became steady.
    pub(super) fn new(
        leg: Leg<'_>,
        seed: u64,
        marks: Option<Marks>,
        phases: Vec<Phase>,
        observations: Observations,
    ) -> Self {
        let experiment = &leg.drill.experiment;
        let conditions = match &marks {
            Some(marks) => judge(leg.conditions(), marks, &observations),
            None => judge_steady(leg, &observations),
        };
        let (verdict, reasons) = verdict(&conditions, marks.is_some());
        let windows = marks.map_or_else(Vec::new, |marks| leg.windows(&marks));
        let rows = windows
            .into_iter()
            .map(|(name, from_s, to_s)| Row::new(&observations, name, from_s, to_s))
            .collect();
        Self {
            drill: experiment.id.clone(),
            title: experiment.title.clone(),
            harm: experiment.harm,
            option: leg.option,
            fix: leg.fix,
            seed,
            verdict,
            reasons,
            expected: leg.expectations().map(|leg| leg.says.clone()).collect(),
            conditions,
            rows,
            phases,
            marks,
            left_behind: Vec::new(),
            observations,
        }
    }
}
