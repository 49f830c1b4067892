//! Drills: experiments in which a shock meets a poor choice, and a judgement on what came of it.
//!
//! Without them a lesson is an opinion. A drill states in numbers what each option does under the same shock,
//! runs it in a lab, and says whether it was so. Drills know a lab by its control planes only.
//!
//! - [`format`](mod@format): a drill's file; [`condition`]: its bounds; [`signals`]: what they are about; `parse`,
//!   `faults`: what is wrong with a file
//! - [`campaign`]: runs the legs; `plan`: how long each stretch lasts; `lab`: acts on the lab, and takes back;
//!   `known`: whether the lab has what the file names
//! - `prometheus`: asks one `/api/v1` URL; [`clock`]: by which time
//! - [`judge`]: the judgement; [`record`]: a whole run; [`report`]: a page of text; [`proof`]: the table of all
//! - `export`: what a load tool needs to fly a drill; [`progress`]: what is told on the way

pub mod campaign;
pub mod clock;
pub mod condition;
mod export;
mod faults;
pub mod format;
pub mod judge;
mod known;
mod lab;
mod parse;
mod plan;
pub mod progress;
mod prometheus;
pub mod proof;
pub mod record;
pub mod report;
pub mod signals;

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

pub use campaign::{Request, check, run};
pub use clock::Clock;
use format::Experiment;
use format::Harm;
pub use format::{Drill, OptionName};
pub use judge::Verdict;
pub use lab::LabAddresses;
pub use plan::Legs;
pub use proof::Proof;
pub use record::Record;

macro_rules! drill {
    ($file:literal) => {
        ($file, include_str!(concat!("../../drills/", $file)))
    };
}

/// Every drill: its file's name and the file, which is part of the binary.
pub static DRILLS: &[(&str, &str)] = &[
    drill!("01-after-the-spike.md"),
    drill!("02-nobody-complains.md"),
    drill!("03-the-sale.md"),
    drill!("04-monday-morning.md"),
    drill!("05-the-calm-database.md"),
    drill!("06-the-front-page.md"),
    drill!("07-the-visitor.md"),
    drill!("08-the-best-customer.md"),
    drill!("90-a-quiet-evening.md"),
    drill!("91-twice-as-many.md"),
    drill!("92-a-new-version.md"),
];

/// Every drill, read. A sentence says which file is wrong, and where.
pub fn all() -> Result<&'static [Drill], String> {
    static READ: LazyLock<Result<Vec<Drill>, String>> = LazyLock::new(|| {
        let drills = DRILLS.iter();
        drills
            .map(|(file, text)| Drill::parse(file, text))
            .collect()
    });
    READ.as_deref().map_err(Clone::clone)
}

/// The drill with this id, or in this file, so that whoever writes one can fly it at once. A sentence names those
/// that exist.
pub fn find(id: &str) -> Result<Cow<'static, Drill>, String> {
    if Path::new(id).extension().is_some() || id.contains('/') {
        return read(Path::new(id)).map(Cow::Owned);
    }
    let drills = all()?;
    let found = drills.iter().find(|drill| drill.experiment.id == id);
    found.map(Cow::Borrowed).ok_or_else(|| {
        let ids: Vec<_> = drills
            .iter()
            .map(|drill| drill.experiment.id.as_str())
            .collect();
        format!("there is no drill {id:?}; there are: {}", ids.join(", "))
    })
}

fn read(path: &Path) -> Result<Drill, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let name = path.file_name().unwrap_or_default();
    Drill::parse(&name.to_string_lossy(), &text)
}

/// The list of all drills, a line each.
pub fn list() -> Result<String, String> {
    let mut page = String::new();
    for Drill { experiment, .. } in all()? {
        let kind = if experiment.harm == Harm::Nobody {
            " (a control)"
        } else {
            ""
        };
        line(
            &mut page,
            &format!("{:<20} {}{kind}", experiment.id, experiment.title),
        );
    }
    Ok(page)
}

/// All drills as JSON, with what a load tool needs to play their users: see `loadtest/`.
pub fn export() -> Result<String, String> {
    export::json(all()?)
}

/// How much of a drill is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What a learner may read before the drill.
    Briefing,
    /// So many of the hints, the vaguest first.
    Hints(usize),
    /// All of it.
    Answer,
}

/// A page about a drill, which is called `name` where it was asked for.
#[must_use]
pub fn show(drill: &Drill, name: &str, shown: Shown) -> String {
    let mut page = String::new();
    line(&mut page, &format!("{}\n", drill.experiment.title));
    match shown {
        Shown::Briefing => brief(&mut page, drill, name),
        Shown::Hints(most) => hints(&mut page, &drill.experiment, most),
        Shown::Answer => answer(&mut page, drill),
    }
    page
}

fn brief(page: &mut String, drill: &Drill, name: &str) {
    let experiment = &drill.experiment;
    line(page, &format!("{}\n", drill.briefing()));
    let (what, flights): (_, &[_]) = if experiment.harm == Harm::Nobody {
        ("To run it:\n", &[""])
    } else {
        (
            "To run it, with the poor option, with the sound one, and with the cure applied on the way:\n",
            &[" --option poor", " --option sound", " --option poor --fix"],
        )
    };
    line(page, what);
    for options in flights {
        line(page, &format!("    firedrill drill run {name}{options}"));
    }
    let hints = experiment.hints.len();
    if hints > 0 {
        line(
            page,
            &format!("\nThe first of {hints} hints: firedrill drill show {name} --hints 1"),
        );
    }
    line(
        page,
        &format!("The whole lesson: firedrill drill show {name} --answer"),
    );
}

fn hints(page: &mut String, experiment: &Experiment, most: usize) {
    for (number, hint) in (1..=most).zip(&experiment.hints) {
        line(page, &format!("{number}. {hint}"));
    }
}

fn answer(page: &mut String, drill: &Drill) {
    let experiment = &drill.experiment;
    line(page, &drill.body);
    if !experiment.hints.is_empty() {
        line(page, "\nHints\n");
        hints(page, experiment, experiment.hints.len());
    }
    if let Some(cause) = &experiment.answer {
        line(page, "\nThe answer\n");
        line(page, &format!("- where: {}", cause.component));
        line(page, &format!("- what: {}", cause.mechanism));
        line(page, &format!("- set off by: {}", cause.trigger));
        line(page, &format!("- kept going by: {}", cause.sustained_by));
    }
    for fix in &experiment.fix {
        line(page, &format!("- cured by: {fix}"));
    }
    for reject in &experiment.reject {
        line(
            page,
            &format!("- not cured by: {}. {}", reject.action, reject.why),
        );
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded_and_can_be_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("drills");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let embedded: Vec<_> = DRILLS.iter().map(|(file, _)| *file).collect();
        assert_eq!(
            embedded, files,
            "the order of the files is that of the drills"
        );
        // Reading checks that the id is that of the file's name.
        assert_eq!(all().unwrap().len(), DRILLS.len());
    }

    #[test]
    fn every_drill_checks_that_the_machine_can_play_the_users() {
        for drill in all().unwrap() {
            let Drill {
                file, experiment, ..
            } = drill;
            let checks = |conditions: &[condition::Condition]| {
                conditions
                    .iter()
                    .any(|one| one.signal == "late_start_ratio")
            };
            assert!(
                checks(&experiment.steady),
                "{file}: steady lacks late_start_ratio"
            );
            assert!(
                checks(&experiment.prove),
                "{file}: prove lacks late_start_ratio"
            );
        }
    }

    #[test]
    fn what_is_shown_before_a_drill_gives_nothing_away() {
        for drill in all().unwrap() {
            let page = show(drill, &drill.experiment.id, Shown::Briefing);
            // Orders are what the shop is about.
            let words = drill.experiment.poor.keys();
            let words = words.flat_map(|choice| choice.split('_'));
            for word in words.filter(|word| *word != "order") {
                let stem = word.get(..4).unwrap_or(word);
                assert!(
                    !page.contains(stem),
                    "{}: the page says {stem:?}",
                    drill.file
                );
            }
            assert!(!page.contains("## "));
            if let Some(answer) = &drill.experiment.answer {
                let whole = show(drill, &drill.experiment.id, Shown::Answer);
                assert!(whole.contains(&answer.mechanism));
                let first = show(drill, "", Shown::Hints(1));
                assert!(first.contains("1. ") && !first.contains("2. "));
            }
        }
    }

    #[test]
    fn a_drill_is_found_by_its_id() {
        assert!(list().unwrap().contains("after-the-spike"));
        assert_eq!(
            find("after-the-spike").unwrap().file,
            "01-after-the-spike.md"
        );
        assert!(find("nothing").unwrap_err().contains("after-the-spike"));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/drills/01-after-the-spike.md");
        assert_eq!(find(file).unwrap(), find("after-the-spike").unwrap());
        let missing = find("drills/99-none.md").unwrap_err();
        assert!(
            missing.contains("drills/99-none.md cannot be read"),
            "{missing}"
        );
    }
}
