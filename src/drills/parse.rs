//! Reads a drill's file, and says what is wrong with it: file, line and field in one sentence.
//!
//! Drills are written by hand. A misspelt bound that were read as "no bound" would make a drill that passes.

use super::condition::{Amount, Condition, Journey};
use super::format::{Drill, Experiment, HarmBounds};
use super::signals::SIGNALS;

impl Experiment {
    /// Every condition of the file.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let HarmBounds { poor, sound, fixed } = &self.harm_bounds;
        let legs = [poor.as_ref(), Some(sound), fixed.as_ref()];
        let harm = legs.into_iter().flatten().flat_map(|leg| &leg.must);
        self.steady.iter().chain(&self.prove).chain(harm)
    }

    /// Every signal that is asked for, with its journey.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&str, Option<Journey>)> {
        let conditions = self.conditions();
        let conditions = conditions.map(|one| (one.signal.as_str(), one.journey));
        let headline = self.headline.iter();
        conditions.chain(headline.map(|one| (one.signal.as_str(), one.journey)))
    }
}

impl Drill {
    /// Reads a drill. A sentence names the file, the line and the field that are wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let opening = text.strip_prefix("---\n");
        let (front, body) = opening
            .and_then(|rest| rest.split_once("\n---\n"))
            .ok_or_else(|| {
                format!("{file} line 1: a drill begins with front matter between two lines of ---, then comes the lesson")
            })?;
        // The empty first line stands for the opening ---, so that line numbers are those of the file.
        let experiment = read_yaml(file, &format!("\n{front}\n"))?;
        let drill = Self {
            file: file.into(),
            experiment,
            body: body.trim().into(),
        };
        let fault = drill
            .fault()
            .map(|(field, sentence)| (Place::Field(field), sentence));
        let faults = [fault, drill.reference_fault()];
        match faults.into_iter().flatten().next() {
            None => Ok(drill),
            Some((place, sentence)) => {
                let line = text.lines().position(|line| place.is_on(line));
                let line = line.map_or(1, |before| before + 1);
                Err(format!("{file} line {line}: {place} {sentence}"))
            }
        }
    }

    /// A name that stands for nothing.
    fn reference_fault(&self) -> Option<(Place, String)> {
        let experiment = &self.experiment;
        for (name, journey) in experiment.asked() {
            let fault = match experiment.signal(name) {
                None => {
                    let own = experiment.signals.keys().map(String::as_str);
                    let known: Vec<_> = own.chain(SIGNALS.iter().map(|one| one.name)).collect();
                    format!("is no signal; there are: {}", known.join(", "))
                }
                Some(signal) if signal.is_of_a_journey() && journey.is_none() => {
                    "is of a journey: say which".into()
                }
                Some(signal) if !signal.is_of_a_journey() && journey.is_some() => {
                    "is of no journey".into()
                }
                Some(_) => continue,
            };
            return Some((Place::Signal(name.into()), fault));
        }
        let bounds = experiment.conditions().flat_map(Condition::amounts);
        let parameters = experiment.shock.iter();
        let parameters = parameters.flat_map(|shock| shock.parameters.values());
        let of = bounds.chain(parameters).filter_map(Amount::of);
        let mut unknown = of.filter(|of| !experiment.calibrate.contains_key(*of));
        let unknown = unknown.next()?;
        let known: Vec<_> = experiment.calibrate.keys().map(String::as_str).collect();
        let known = known.join(", ");
        Some((
            Place::Of(unknown.into()),
            format!("is not under calibrate, which has: {known}"),
        ))
    }

    /// The body up to its first `##` heading: what a learner may know before the drill.
    #[must_use]
    pub fn briefing(&self) -> &str {
        let end = self.body.find("\n## ").unwrap_or(self.body.len());
        self.body[..end].trim()
    }
}

/// What a sentence is about, by which its line is found.
enum Place {
    Field(&'static str),
    Signal(String),
    Of(String),
}

impl Place {
    fn is_on(&self, line: &str) -> bool {
        match self {
            Self::Field(field) => line.starts_with(&format!("{field}:")),
            Self::Signal(name) => says(line, "signal", name),
            Self::Of(name) => says(line, "of", name),
        }
    }
}

/// Whether a line has `key: value`, also among others.
fn says(line: &str, key: &str, value: &str) -> bool {
    let pair = format!("{key}: {value}");
    let mut found = line.match_indices(&pair);
    found.any(|(at, _)| {
        let goes_on = |c: char| c.is_alphanumeric() || c == '_';
        !line[at + pair.len()..].starts_with(goes_on) && !line[..at].ends_with(goes_on)
    })
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field),
            Self::Signal(name) | Self::Of(name) => write!(f, "{name:?}"),
        }
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
fix: [{choice: {retries: sound}}]
hints: [Look., Look there.]
alerts: {expected: [{name: FiredrillUsersBudgetBurn, within_s: 20}]}
headline: [{signal: goodput_ratio, journey: order}]
---

The briefing.

## The cause

The lesson.
";

    #[test]
    fn a_file_is_read_whole() {
        let drill = Drill::parse("07-a-test.md", TEXT).unwrap();
        assert_eq!(drill.experiment.poor["retries"], OptionName::Poor);
        assert_eq!(drill.experiment.load.mix[&Journey::Order], 30);
        assert_eq!(drill.experiment.shock[0].role, RoleName::Traffic);
        assert_eq!(drill.experiment.steady[0].min, Some(Amount::Fixed(0.99)));
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
            (
                "goodput_ratio",
                "goodput",
                "line 11: \"goodput\" is no signal",
            ),
            (
                "bank_served_per_s",
                "bank_served_per_s, journey: order",
                "line 13: \"bank_served_per_s\" is of no journey",
            ),
            (
                "min: 45",
                "min: {of: cores, times: 2}",
                "line 13: \"cores\"",
            ),
            ("harm: users", "harm: nobody", "line 6: poor belongs to no"),
            (
                "{retries: sound}",
                "{retries: good}",
                "line 19: fix[0].choice",
            ),
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
            ("browse: 70", "brows: 70", "line 7: load.mix"),
            ("title: A test", "title: [A test", "line "),
            ("---\nschema", "schema", "line 1:"),
        ] {
            refused(from, to, expected);
        }
    }

    #[test]
    fn what_no_campaign_could_do_is_refused() {
        for (from, to, expected) in [
            (
                "harm: users",
                "harm: users\nmeanwhile: [{at_s: 1, do: {rate: 5}}]",
                "line 6: meanwhile may do",
            ),
            (
                "since_fix_s: [15, 30]",
                "since_shock_end_s: [15, 30]",
                "line 14: harm_bounds must have since_fix_s",
            ),
            (
                "harm: users",
                "harm: users\nsignals: {mine: {says: It is mine., expr: a}}",
                "line 6: signals",
            ),
            (
                "ttl_s: 4}",
                "ttl_s: 4}\n  - {at_s: 2, role: traffic, name: surge, ttl_s: 4}\noutage: {while_shock: 9}",
                "line 8: shock must have no at_s above 0",
            ),
            ("ttl_s: 4", "ttl_s: .inf", "line 8: shock"),
            ("within_s: 20", "within_s: -20", "line 21: alerts"),
            ("{retries: poor}", "{retries: sound}", "line 6: poor must"),
            (
                "[{choice: {retries: sound}}]",
                "[{choice: {retries: poor}}]",
                "line 19: fix must",
            ),
            ("[-15, 0]", "[.nan, 0]", "line 11: steady[0]"),
            ("min: 0.99", "min: 0.99, max: 0.5", "line 11: steady[0]"),
            ("browse: 70, order: 30", "", "line 7: load must"),
        ] {
            refused(from, to, expected);
        }
    }

    /// Fails unless the drill with this changed is refused with these words.
    fn refused(from: &str, to: &str, expected: &str) {
        assert!(TEXT.contains(from), "{from}");
        let error = Drill::parse("07-a-test.md", &TEXT.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("07-a-test.md line "), "{error}");
        assert!(error.contains(expected), "{to}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
