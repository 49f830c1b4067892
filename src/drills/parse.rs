//! Reads a drill's file, and says what is wrong with it: file, line and field in one sentence.
//!
//! Drills are written by hand. A misspelt bound that were read as "no bound" would make a drill that passes.

use std::path::Path;

use super::condition::{Anchor, Condition};
use super::format::{Drill, Experiment};

impl Drill {
    /// Reads a drill. A sentence names the file, the line and the field that are wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let opening = text.strip_prefix("---\n");
        let (front, body) = opening
            .and_then(|rest| rest.split_once("\n---\n"))
            .ok_or_else(|| {
                format!("{file} line 1: a drill begins with front matter between two lines of ---")
            })?;
        // The empty first line stands for the opening ---, so that line numbers are those of the file.
        let experiment = read_yaml(file, &format!("\n{front}\n"))?;
        let drill = Self {
            file: file.into(),
            experiment,
            body: body.trim().into(),
        };
        match drill.fault() {
            None => Ok(drill),
            Some((field, sentence)) => {
                let line = text
                    .lines()
                    .position(|line| line.starts_with(&format!("{field}:")));
                let line = line.map_or(1, |before| before + 1);
                Err(format!("{file} line {line}: {field} {sentence}"))
            }
        }
    }

    /// What no type can say: the first field that is wrong, and how.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        let experiment = &self.experiment;
        let stem = Path::new(&self.file).file_stem()?.to_str()?;
        let id = stem.split_once('-').map_or("", |(_, id)| id);
        let anchors = |conditions: &[Condition], anchor| {
            conditions
                .iter()
                .any(|condition| condition.window.anchor == anchor)
        };
        let bounds = &experiment.harm_bounds;
        let late = |condition: &Condition| {
            condition.window.anchor != Anchor::ShockBegin || condition.window.to_s > 0.0
        };
        let faults = [
            (
                experiment.id != id,
                "id",
                "must be the id in the file's name, NN-id.md",
            ),
            (experiment.poor.is_empty(), "poor", "must name a choice"),
            (
                experiment.load.rate == 0,
                "load",
                "must have a rate above 0",
            ),
            (
                !experiment.shock.iter().any(|shock| shock.at_s <= 0.0),
                "shock",
                "must begin with a shock whose at_s is 0",
            ),
            (
                experiment
                    .shock
                    .iter()
                    .any(|shock| shock.at_s < 0.0 || shock.ttl_s <= 0.0),
                "shock",
                "must have no at_s below 0 and no ttl_s of 0 or below",
            ),
            (
                experiment.steady.is_empty() || experiment.steady.iter().any(late),
                "steady",
                "must have a condition, and each must end when the shock begins or before",
            ),
            (
                experiment.prove.is_empty() || anchors(&experiment.prove, Anchor::Fix),
                "prove",
                "must have a condition, and none may wait for the fix",
            ),
            (
                [&bounds.poor, &bounds.sound, &bounds.fixed]
                    .iter()
                    .any(|leg| leg.must.is_empty()),
                "harm_bounds",
                "must have a condition for each leg",
            ),
            (
                anchors(&bounds.poor.must, Anchor::Fix) || anchors(&bounds.sound.must, Anchor::Fix),
                "harm_bounds",
                "may have since_fix_s under fixed only",
            ),
            (experiment.fix.is_empty(), "fix", "must have a step"),
            (experiment.hints.is_empty(), "hints", "must have a hint"),
        ];
        faults
            .into_iter()
            .find(|(wrong, ..)| *wrong)
            .map(|(_, field, sentence)| (field, sentence))
    }

    /// The body up to its first `##` heading: what a learner may know before the drill.
    #[must_use]
    pub fn briefing(&self) -> &str {
        let end = self.body.find("\n## ").unwrap_or(self.body.len());
        self.body[..end].trim()
    }
}

fn read_yaml(file: &str, yaml: &str) -> Result<Experiment, String> {
    let mut field = String::new();
    let read = serde_saphyr::with_deserializer_from_str(yaml, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let said = error.without_snippet().to_string();
        // The parser repeats the place at the end.
        let said = said.split(" at line ").next().unwrap_or_default();
        let field = if field.is_empty() || field == "." {
            String::new()
        } else {
            format!(" {field}:")
        };
        format!("{file} line {line}:{field} {said}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::format::{OptionName, RoleName};
    use super::*;

    const TEXT: &str = "---
schema: drill/v1
id: a-test
title: A test
harm: users
poor: {retries: poor}
load: {rate: 100, mix: {browse: 70, order: 30}}
shock:
  - {at_s: 0, role: traffic, name: surge, parameters: {order: 5}, ttl_s: 4}
steady:
  - {signal: goodput_ratio, journey: order, since_shock_begin_s: [-15, 0], min: 0.99, why: Healthy.}
prove:
  - {signal: bank_served_per_s, since_shock_end_s: [0, 60], min: 45, why: Fast.}
harm_bounds:
  poor: {says: It fails., must: [{signal: bank_queue_depth, since_shock_end_s: [0, 60], min: 40, why: Full.}]}
  sound: {says: It heals., must: [{signal: bank_queue_depth, since_shock_end_s: [9, 60], max: 5, why: Empty.}]}
  fixed: {says: It heals., must: [{signal: bank_queue_depth, since_fix_s: [15, 30], max: 5, why: Empty.}]}
answer: {component: shop, mechanism: a, trigger: b, sustained_by: c}
fix: [{choice: retries, option: sound}]
hints: [Look., Look there.]
---

The briefing.

## The cause

The lesson.
";

    #[test]
    fn a_file_is_read_whole() {
        let drill = Drill::parse("07-a-test.md", TEXT).unwrap();
        assert_eq!(drill.experiment.poor["retries"], OptionName::Poor);
        assert_eq!(drill.experiment.load.mix["order"], 30);
        assert_eq!(drill.experiment.shock[0].role, RoleName::Traffic);
        assert_eq!(drill.experiment.steady[0].min, Some(0.99));
        assert_eq!(drill.briefing(), "The briefing.");
        assert!(drill.body.ends_with("The lesson."));
    }

    #[test]
    fn an_error_names_file_line_and_field() {
        for (from, to, expected) in [
            ("harm: users", "harm: everyone", "line 5: harm:"),
            ("rate: 100", "rate: many", "line 7: load.rate:"),
            ("rate: 100", "rte: 100", "line 7: load"),
            ("title: A test\n", "", "title"),
            ("goodput_ratio", "goodput", "line 11: steady[0].signal:"),
            ("min: 0.99, ", "", "line 11: steady[0]"),
            ("drill/v1", "drill/v9", "line 2: schema:"),
            ("hints: [Look., Look there.]", "hints: []", "line 20: hints"),
            ("id: a-test", "id: another", "line 3: id"),
            (
                "since_shock_begin_s: [-15, 0]",
                "since_shock_begin_s: [-15, 1]",
                "line 10: steady",
            ),
            ("at_s: 0", "at_s: 1", "line 8: shock"),
            ("title: A test", "title: [A test", "line "),
            ("---\nschema", "schema", "line 1:"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Drill::parse("07-a-test.md", &TEXT.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with("07-a-test.md line "), "{error}");
            assert!(error.contains(expected), "{to}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
