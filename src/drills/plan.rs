//! What one leg of a drill consists of: its conditions, how long each stretch lasts, what the report shows.
//!
//! All of it follows from the conditions in the file: a drill watches for as long as one of them asks.

use super::condition::{Anchor, Condition, Marks};
use super::format::{Drill, Expectation, OptionName};
use super::judge::Part;

/// The longest wait for the lab to become steady, in seconds.
pub(super) const WARM_UP_MAX_S: f64 = 90.0;

/// The longest wait, at the end, until the last seconds are settled.
pub(super) const SETTLE_MAX_S: f64 = 15.0;

/// What is added to the length of a run before choices expire by themselves.
const MARGIN_S: f64 = 30.0;

/// The length of the report's windows after the shock and after the fix, in seconds.
const ROW_S: f64 = 15.0;

/// One leg: an option that meets the shock, with or without the fix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg<'a> {
    pub(super) drill: &'a Drill,
    pub(super) option: OptionName,
    pub(super) fix: bool,
}

impl<'a> Leg<'a> {
    /// What is expected of it.
    pub(super) fn expectations(self) -> impl Iterator<Item = &'a Expectation> {
        let bounds = &self.drill.experiment.harm_bounds;
        let leg = match self.option {
            OptionName::Poor => &bounds.poor,
            OptionName::Sound => &bounds.sound,
        };
        std::iter::once(leg).chain(self.fix.then_some(&bounds.fixed))
    }

    /// Its conditions, with the part to which each belongs.
    pub(super) fn conditions(self) -> impl Iterator<Item = (Part, &'a Condition)> {
        let experiment = &self.drill.experiment;
        let steady = experiment.steady.iter().map(|one| (Part::Steady, one));
        let prove = experiment.prove.iter().map(|one| (Part::Prove, one));
        let harm = self.expectations().flat_map(|leg| &leg.must);
        let harm = harm.map(|one| (Part::HarmBounds, one));
        steady.chain(prove).chain(harm)
    }

    /// How long the shock lasts, from the begin of the first to the end of the last.
    pub(super) fn shock_s(self) -> f64 {
        let shocks = self.drill.experiment.shock.iter();
        shocks
            .map(|shock| shock.at_s + shock.ttl_s)
            .fold(0.0, f64::max)
    }

    /// How long the lab is watched after the shock.
    pub(super) fn watch_s(self) -> f64 {
        let shock_s = self.shock_s();
        self.last(|condition| match condition.window.anchor {
            Anchor::ShockBegin => condition.window.to_s - shock_s,
            Anchor::ShockEnd => condition.window.to_s,
            Anchor::Fix => 0.0,
        })
    }

    /// How long the lab is watched after the fix.
    pub(super) fn recover_s(self) -> f64 {
        self.last(|condition| match condition.window.anchor {
            Anchor::Fix => condition.window.to_s,
            Anchor::ShockBegin | Anchor::ShockEnd => 0.0,
        })
    }

    /// How long the lab must be steady.
    pub(super) fn steady_s(self) -> f64 {
        let steady = self.drill.experiment.steady.iter();
        steady.map(|one| -one.window.from_s).fold(0.0, f64::max)
    }

    /// After how many seconds whatever was set goes back by itself, should this process die.
    pub(super) fn ttl_s(self) -> f64 {
        WARM_UP_MAX_S + self.shock_s() + self.watch_s() + self.recover_s() + SETTLE_MAX_S + MARGIN_S
    }

    fn last(self, end_s: impl Fn(&Condition) -> f64) -> f64 {
        let conditions = self.conditions().map(|(_, condition)| end_s(condition));
        conditions.fold(0.0, f64::max)
    }

    /// The windows of the report, on the users' clock: name, begin, end.
    pub(super) fn windows(self, marks: &Marks) -> Vec<(String, f64, f64)> {
        let Marks {
            shock_begin_s,
            shock_end_s,
            fix_s,
        } = *marks;
        let mut windows = vec![
            (
                "steady".into(),
                shock_begin_s - self.steady_s(),
                shock_begin_s,
            ),
            ("shock".into(), shock_begin_s, shock_end_s),
        ];
        let mut slices = |name: &str, begin_s: f64, length_s: f64| {
            let mut from_s = 0.0;
            while from_s < length_s {
                let to_s = (from_s + ROW_S).min(length_s);
                let name = format!("{name} {from_s:.0}-{to_s:.0} s");
                windows.push((name, begin_s + from_s, begin_s + to_s));
                from_s = to_s;
            }
        };
        slices("after", shock_end_s, self.watch_s());
        if let Some(fix_s) = fix_s {
            slices("fixed", fix_s, self.recover_s());
        }
        windows
    }
}
