//! Reads a drill's file, and says what is wrong with it: file, line and field in one sentence.
//!
//! Drills are written by hand. A misspelt bound that were read as "no bound" would make a drill that passes.

use std::path::Path;

use super::condition::{Amount, Anchor, Condition, Journey};
use super::format::{Action, Drill, Experiment, Harm, HarmBounds, OptionName, Outage};
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
        let faults = [drill.fault(), drill.reference_fault()];
        match faults.into_iter().flatten().next() {
            None => Ok(drill),
            Some((place, sentence)) => {
                let line = text.lines().position(|line| place.is_on(line));
                let line = line.map_or(1, |before| before + 1);
                Err(format!("{file} line {line}: {place} {sentence}"))
            }
        }
    }

    /// What no type can say: the first field that is wrong, and how.
    fn fault(&self) -> Option<(Place, String)> {
        let experiment = &self.experiment;
        let stem = Path::new(&self.file).file_stem()?.to_str()?;
        let id = stem.split_once('-').map_or("", |(_, id)| id);
        let faults = [
            (
                experiment.id != id,
                "id",
                "must be the id in the file's name, NN-id.md",
            ),
            (
                experiment.load.rate == 0,
                "load",
                "must have a rate above 0",
            ),
            (
                experiment.load.mix.values().all(|part| *part == 0),
                "load",
                "must have a journey in its mix",
            ),
            (
                // As many as `firedrill up` can start.
                !(1..=3).contains(&experiment.payments_replicas),
                "payments_replicas",
                "must be 1 to 3",
            ),
        ];
        let faults = faults
            .into_iter()
            .chain(shock_faults(experiment))
            .chain(meanwhile_faults(experiment))
            .chain(signal_faults(experiment))
            .chain(option_faults(experiment))
            .chain(length_faults(experiment))
            .chain(window_faults(experiment))
            .chain(control_faults(experiment));
        let mut wrong = faults.filter(|(wrong, ..)| *wrong);
        let (_, field, sentence) = wrong.next()?;
        Some((Place::Field(field), sentence.into()))
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

/// Whether something is wrong, with which field, and what must be.
type Fault = (bool, &'static str, &'static str);

fn shock_faults(experiment: &Experiment) -> [Fault; 3] {
    let shocks = &experiment.shock;
    let control = experiment.harm == Harm::Nobody;
    let first = shocks.iter().any(|shock| shock.at_s <= 0.0);
    [
        (
            !(first || (control && shocks.is_empty())),
            "shock",
            "must begin with a shock whose at_s is 0",
        ),
        (
            shocks
                .iter()
                .any(|shock| shock.at_s < 0.0 || shock.ttl_s <= 0.0),
            "shock",
            "must have no at_s below 0 and no ttl_s of 0 or below",
        ),
        (
            experiment.outage != Outage::Lasts && shocks.iter().any(|shock| shock.at_s > 0.0),
            "shock",
            "must have no at_s above 0 where the outage ends with it: all of it goes on while cures are tried",
        ),
    ]
}

/// What is done meanwhile is not taken back, so it must end by itself or change nothing that a later leg is about.
fn meanwhile_faults(experiment: &Experiment) -> [Fault; 2] {
    let meanwhile = &experiment.meanwhile;
    let harmless = |action: &Action| {
        matches!(
            action,
            Action::Log(_) | Action::Restart(_) | Action::Deploy(_)
        )
    };
    [
        (
            meanwhile.iter().any(|one| one.at_s < 0.0),
            "meanwhile",
            "must have no at_s below 0",
        ),
        (
            !meanwhile.iter().all(|one| harmless(&one.action)),
            "meanwhile",
            "may do log, restart and deploy only",
        ),
    ]
}

/// The longest that anything may take, in seconds.
const LONGEST_S: f64 = 3600.0;

fn option_faults(experiment: &Experiment) -> [Fault; 2] {
    let sound = |action: &Action| match action {
        Action::Choice(options) => options.values().all(|one| *one == OptionName::Sound),
        _ => true,
    };
    [
        (
            experiment.poor.values().any(|one| *one != OptionName::Poor),
            "poor",
            "must name poor options: in the sound leg they are sound",
        ),
        (
            !experiment.fix.iter().all(sound),
            "fix",
            "must set choices to sound",
        ),
    ]
}

fn length_faults(experiment: &Experiment) -> [Fault; 4] {
    let long = |seconds: f64| !(seconds > 0.0 && seconds <= LONGEST_S);
    let shocks = experiment.shock.iter();
    let alerts = &experiment.alerts;
    let between = "must have times above 0 and up to 3600 s";
    [
        (
            shocks
                .clone()
                .any(|one| long(one.ttl_s) || long(one.at_s + 1.0)),
            "shock",
            between,
        ),
        (
            experiment.meanwhile.iter().any(|one| long(one.at_s + 1.0)),
            "meanwhile",
            between,
        ),
        (
            long(alerts.cleared_within_s) || alerts.expected.iter().any(|one| long(one.within_s)),
            "alerts",
            between,
        ),
        (
            matches!(experiment.outage, Outage::WhileShock(onset_s) if long(onset_s)),
            "outage",
            between,
        ),
    ]
}

fn signal_faults(experiment: &Experiment) -> [Fault; 1] {
    let unasked = |name: &str| !experiment.asked().any(|(asked, _)| asked == name);
    [(
        experiment.signals.keys().any(|name| unasked(name)),
        "signals",
        "must have none that no condition and no headline asks for",
    )]
}

fn window_faults(experiment: &Experiment) -> [Fault; 6] {
    let has = |conditions: &[Condition], anchor| {
        conditions
            .iter()
            .any(|condition| condition.window.anchor == anchor)
    };
    let late = |condition: &Condition| {
        condition.window.anchor != Anchor::ShockBegin || condition.window.to_s > 0.0
    };
    let bounds = &experiment.harm_bounds;
    let mut legs = [&bounds.poor, &bounds.fixed].into_iter().flatten();
    let poor = bounds.poor.iter().flat_map(|leg| &leg.must);
    let mut fixed = bounds.fixed.iter().flat_map(|leg| &leg.must);
    let mut early = experiment.steady.iter().flat_map(Condition::amounts);
    let mut before_fix = poor.chain(&bounds.sound.must);
    [
        (
            experiment.steady.is_empty() || experiment.steady.iter().any(late),
            "steady",
            "must have a condition, and each must end when the shock begins or before",
        ),
        (
            experiment.prove.is_empty() || has(&experiment.prove, Anchor::Fix),
            "prove",
            "must have a condition, and none may wait for the fix",
        ),
        (
            bounds.sound.must.is_empty() || legs.any(|leg| leg.must.is_empty()),
            "harm_bounds",
            "must have a condition for each leg",
        ),
        (
            before_fix.any(|condition| condition.window.anchor == Anchor::Fix),
            "harm_bounds",
            "may have since_fix_s under fixed only",
        ),
        (
            fixed.any(|condition| condition.window.anchor != Anchor::Fix),
            "harm_bounds",
            "must have since_fix_s under fixed",
        ),
        (
            early.any(|amount| amount.of().is_some()),
            "steady",
            "cannot have amounts of what is calibrated, for that is done afterwards",
        ),
    ]
}

/// A control has nothing to find and nothing to cure; a drill has both.
fn control_faults(experiment: &Experiment) -> [Fault; 7] {
    let control = experiment.harm == Harm::Nobody;
    let bounds = &experiment.harm_bounds;
    let both = bounds.poor.is_some() && bounds.fixed.is_some();
    let neither = bounds.poor.is_none() && bounds.fixed.is_none();
    let there = if control {
        "belongs to no control: harm is nobody"
    } else {
        "must be there, unless harm is nobody"
    };
    [
        (experiment.poor.is_empty() != control, "poor", there),
        (
            if control { !neither } else { !both },
            "harm_bounds",
            if control {
                "of a control must have sound alone: harm is nobody"
            } else {
                "must have poor, sound and fixed"
            },
        ),
        (experiment.answer.is_none() != control, "answer", there),
        (experiment.fix.is_empty() != control, "fix", there),
        (experiment.hints.is_empty() != control, "hints", there),
        (
            experiment.alerts.expected.is_empty() != control,
            "alerts",
            there,
        ),
        (
            experiment.headline.is_empty(),
            "headline",
            "must name a signal",
        ),
    ]
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
    use super::super::format::RoleName;
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
