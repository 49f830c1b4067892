//! What is wrong with a drill that no type can say: fields that contradict each other, or that no campaign could follow.
//!
//! Found when the file is read. A drill that contradicts itself would fail after minutes, or pass for nothing.

use std::path::Path;

use super::condition::{Anchor, Condition, LONGEST_S};
use super::format::{Action, Drill, Experiment, Harm, OptionName, Outage};

impl Drill {
    /// The first field that is wrong, and how.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
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
        Some((field, sentence.into()))
    }
}

/// Whether something is wrong, with which field, and what must be.
type Fault = (bool, &'static str, &'static str);

/// Whether a length of time is one that can be waited for.
fn lasts(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= LONGEST_S
}

/// Whether a moment is at a begin or after it, and can be waited for.
fn comes(seconds: f64) -> bool {
    (0.0..=LONGEST_S).contains(&seconds)
}

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
            !shocks
                .iter()
                .all(|shock| comes(shock.at_s) && lasts(shock.ttl_s)),
            "shock",
            "must have at_s of 0 to 3600 and ttl_s above 0 and up to 3600",
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
            !meanwhile.iter().all(|one| comes(one.at_s)),
            "meanwhile",
            "must have at_s of 0 to 3600",
        ),
        (
            !meanwhile.iter().all(|one| harmless(&one.action)),
            "meanwhile",
            "may do log, restart and deploy only",
        ),
    ]
}

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

fn length_faults(experiment: &Experiment) -> [Fault; 2] {
    let alerts = &experiment.alerts;
    let mut expected = alerts.expected.iter();
    let between = "must have times above 0 and up to 3600 s";
    [
        (
            !lasts(alerts.cleared_within_s) || !expected.all(|one| lasts(one.within_s)),
            "alerts",
            between,
        ),
        (
            matches!(experiment.outage, Outage::WhileShock(onset_s) if !lasts(onset_s)),
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
