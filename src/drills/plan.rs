//! How long each stretch of a drill lasts.
//!
//! All of it follows from the conditions in the file: a drill watches for as long as one of them asks.

use super::condition::{Anchor, Condition, Marks};
use super::format::{Drill, Experiment, OptionName, Outage};

/// The longest wait for the lab to become steady, in seconds.
pub(super) const STEADY_MAX_S: f64 = 120.0;

/// What is waited before a stretch is judged: what users began in it must end, and be scraped.
pub(super) const SETTLE_S: f64 = 3.0;

/// What a stretch of waiting is reckoned with in the progress bar.
const WAIT_S: f64 = 15.0;

/// The length of the report's windows after the shock and after the fix, in seconds.
const ROW_S: f64 = 15.0;

/// Which legs are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legs {
    /// One option meets the shock, perhaps with the fix after it.
    One {
        /// Which.
        option: OptionName,
        /// Whether the fix is applied while the harm lasts.
        fix: bool,
    },
    /// The sound option, then the poor one.
    Both,
    /// All of them: both, what is no cure, the fix, the shock once more.
    All,
}

impl Legs {
    /// Whether the option meets the shock in one of them.
    pub(super) fn have(self, option: OptionName) -> bool {
        match self {
            Self::One { option: only, .. } => only == option,
            Self::Both | Self::All => true,
        }
    }

    pub(super) fn have_fix(self) -> bool {
        matches!(self, Self::All | Self::One { fix: true, .. })
    }
}

impl Experiment {
    /// How long the shock lasts, from the begin of the first to the end of the last.
    pub(super) fn shock_s(&self) -> f64 {
        let ends = self.shock.iter().map(|shock| shock.at_s + shock.ttl_s);
        ends.fold(0.0, f64::max)
    }

    /// How long the lab must be steady.
    pub(super) fn steady_s(&self) -> f64 {
        let begins = self.steady.iter().map(|one| -one.window.from_s);
        begins.fold(0.0, f64::max)
    }

    /// The bounds of one option.
    pub(super) fn bounds_of(&self, option: OptionName) -> &[Condition] {
        match (option, &self.harm_bounds.poor) {
            (OptionName::Poor, Some(poor)) => &poor.must,
            (OptionName::Poor, None) => &[],
            (OptionName::Sound, _) => &self.harm_bounds.sound.must,
        }
    }

    /// The bounds of the fix.
    pub(super) fn bounds_of_fix(&self) -> &[Condition] {
        self.harm_bounds.fixed.as_ref().map_or(&[], |leg| &leg.must)
    }

    /// How long the lab is watched after the shock ended, when this option meets it.
    pub(super) fn watch_s(&self, option: OptionName) -> f64 {
        let shock_s = self.shock_s();
        let conditions = self.prove.iter().chain(self.bounds_of(option));
        let ends = conditions.map(|condition| match condition.window.anchor {
            Anchor::ShockBegin => condition.window.to_s - shock_s,
            Anchor::ShockEnd => condition.window.to_s,
            Anchor::Fix => 0.0,
        });
        let alerts = self.alerts.expected.iter();
        let alerts = alerts.filter(|_| option == OptionName::Poor);
        let meanwhile = self.meanwhile.iter().map(|one| one.at_s - shock_s);
        let last = ends
            .chain(alerts.map(|alert| alert.within_s - shock_s))
            .chain(meanwhile);
        last.fold(0.0, f64::max)
    }

    /// How long the lab is watched after the fix.
    pub(super) fn recover_s(&self) -> f64 {
        let ends = self.bounds_of_fix().iter().map(|one| one.window.to_s);
        ends.fold(0.0, f64::max)
    }

    /// About how long all of it takes, for the progress bar.
    pub(super) fn estimate_s(&self, legs: Legs) -> f64 {
        let steady_s = self.steady_s() + WAIT_S;
        let leg_s = |option| steady_s + self.shock_s() + self.watch_s(option) + SETTLE_S;
        let options = [OptionName::Sound, OptionName::Poor].into_iter();
        let met_s: f64 = options.filter(|one| legs.have(*one)).map(leg_s).sum();
        let onset_s = match self.outage {
            Outage::Lasts => 0.0,
            Outage::WhileShock(onset_s) => onset_s,
        };
        let act_s = self.recover_s() + SETTLE_S;
        let rejects = self.reject.iter().filter(|_| legs == Legs::All);
        let rejects_s = rejects.count() as f64 * (act_s + WAIT_S);
        let fix_s = if legs.have_fix() {
            onset_s + act_s
        } else {
            0.0
        };
        let replay_s = if legs == Legs::All && !self.fix.is_empty() {
            leg_s(OptionName::Sound) + steady_s
        } else {
            0.0
        };
        met_s + rejects_s + fix_s + replay_s
    }

    /// The windows of a leg's table: name, begin, end.
    pub(super) fn rows_of(&self, marks: &Marks, end_s: f64) -> Vec<(String, f64, f64)> {
        let Marks {
            shock_begin_s,
            shock_end_s,
            fix_s,
        } = *marks;
        let mut rows = Vec::new();
        let mut slices = |name: &str, begin_s: f64, end_s: f64| {
            let mut from_s = begin_s;
            while from_s < end_s - 1.0 {
                let to_s = (from_s + ROW_S).min(end_s);
                let label = format!("{name} {:.0}-{:.0} s", from_s - begin_s, to_s - begin_s);
                rows.push((label, from_s, to_s));
                from_s = to_s;
            }
        };
        if let Some(fix_s) = fix_s {
            slices("acted", fix_s, end_s);
        } else {
            slices("shock", shock_begin_s, shock_end_s);
            slices("after", shock_end_s, end_s);
            let steady = (
                "steady".into(),
                shock_begin_s - self.steady_s(),
                shock_begin_s,
            );
            rows.insert(0, steady);
        }
        rows
    }
}

impl Drill {
    /// The marks of a shock that begins at `begin_s`.
    pub(super) fn marks(&self, begin_s: f64) -> Marks {
        Marks {
            shock_begin_s: begin_s,
            shock_end_s: begin_s + self.experiment.shock_s(),
            fix_s: None,
        }
    }
}
