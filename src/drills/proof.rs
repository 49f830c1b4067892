//! The proof of a drill: its records, one for each seed, and the table that a README carries.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::format::{Drill, Harm};
use super::judge::{Part, Verdict, number};
use super::record::{LegRecord, Record};

/// What came of a drill's verification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proof {
    /// The drill's id.
    pub drill: String,
    /// The first seed's record has every leg, the others have the sound and the poor one.
    pub records: Vec<Record>,
}

impl Proof {
    /// What its records say together.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::of_all(self.records.iter().map(|record| record.verdict))
    }

    /// How long it took, in seconds.
    fn took_s(&self) -> f64 {
        self.records.iter().map(|record| record.took_s).sum()
    }

    fn legs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a LegRecord> {
        self.records
            .iter()
            .filter_map(move |record| record.leg(name))
    }
}

/// The table of proofs as Markdown, in the order of the drills.
#[must_use]
pub fn table<'a>(drills: impl Iterator<Item = &'a Drill>, proofs: &[Proof]) -> String {
    let mut page = String::from(
        "| drill | measured | poor | sound | expected alert fires after | silent after the fix | verdict | runs |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for drill in drills {
        let id = &drill.experiment.id;
        for proof in proofs.iter().filter(|proof| proof.drill == *id) {
            row(&mut page, drill, proof);
        }
    }
    page
}

fn row(page: &mut String, drill: &Drill, proof: &Proof) {
    let experiment = &drill.experiment;
    let mut cells = vec![format!("[{}](drills/{})", experiment.id, drill.file)];
    let heads = experiment.headline.iter().map(|one| {
        let signal = experiment.signal(&one.signal);
        signal.map_or_else(String::new, |signal| signal.title(one.journey))
    });
    cells.push(lines(heads));
    let legs = if experiment.harm == Harm::Nobody {
        cells.push("no such option".into());
        ["sound"].as_slice()
    } else {
        ["poor", "sound"].as_slice()
    };
    for leg in legs {
        let numbers = (0..experiment.headline.len()).map(|at| {
            let values = proof
                .legs(leg)
                .filter_map(|leg| leg.headline.get(at).copied()?);
            span(values)
        });
        cells.push(lines(numbers));
    }
    cells.push(alerts(drill, proof));
    let cleared = proof.legs("fix").flat_map(|leg| &leg.checks);
    let cleared = cleared.filter(|check| check.part == Part::Fixed && check.expr.is_none());
    cells.push(seconds(span(cleared.filter_map(|check| check.measured))));
    cells.push(
        match proof.verdict() {
            Verdict::AsExpected => "as expected",
            Verdict::NotAsExpected => "**not as expected**",
            Verdict::Invalid => "**invalid**",
        }
        .into(),
    );
    let runs = proof.records.len();
    let seeds = if runs == 1 { "seed" } else { "seeds" };
    cells.push(format!("{runs} {seeds}, {:.0} s", proof.took_s()));
    writeln!(page, "| {} |", cells.join(" | ")).expect("a string takes any text");
}

/// Each expected alert and the seconds after which it fired.
fn alerts(drill: &Drill, proof: &Proof) -> String {
    let alerts = &drill.experiment.alerts;
    if alerts.expected.is_empty() {
        let fired: usize = proof.legs("sound").map(|leg| leg.alerts.len()).sum();
        return format!("{fired} fired");
    }
    let fired = alerts.expected.iter().map(|expected| {
        let after = proof.legs("poor").filter_map(|leg| {
            let begin_s = leg.marks?.shock_begin_s;
            let those = leg.alerts.iter().filter(|firing| expected.is(firing));
            those.map(|firing| firing.from_s - begin_s).reduce(f64::min)
        });
        format!("{}: {}", expected.title(), seconds(span(after)))
    });
    lines(fired)
}

fn seconds(span: String) -> String {
    if span == "-" {
        span
    } else {
        format!("{span} s")
    }
}

/// The least and the most of some numbers.
fn span(numbers: impl Iterator<Item = f64>) -> String {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for one in numbers {
        (least, most) = (least.min(one), most.max(one));
    }
    if least > most {
        return "-".into();
    }
    let (least, most) = (number(least), number(most));
    if least == most {
        least
    } else {
        format!("{least} to {most}")
    }
}

fn lines(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_as_short_as_it_can_be() {
        assert_eq!(span([].into_iter()), "-");
        assert_eq!(span([1.0].into_iter()), "1");
        assert_eq!(span([0.5, 0.25, 12.34].into_iter()), "0.25 to 12.3");
    }
}
