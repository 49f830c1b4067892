//! Runs the legs of a drill in a lab that is up, one after another.
//!
//! steady → the sound option meets the shock → the poor one meets it → what is no cure, one after another, while
//! the outage lasts → the fix → the shock once more → steady. Options are deployed before the lab is found
//! steady, so that the steady window also shows that the poor option alone does no harm: it takes the shock as
//! well. `field` is the lab as the legs see it.

#[cfg(test)]
mod fake_lab;
mod field;
#[cfg(test)]
mod tests;

use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::condition::Marks;
use super::format::{Action, Drill, Experiment, Harm, OptionName, Outage};
use super::judge::{self, Check, Part};
use super::lab::LabAddresses;
use super::plan::Legs;
use super::progress::Progress;
use super::prometheus::Firing;
use super::record::{LegRecord, Record};
use field::Field;

/// What is asked of a run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The drill.
    pub drill: &'a Drill,
    /// Which legs are run.
    pub legs: Legs,
    /// The seed with which the users were started, for the record.
    pub seed: Option<u64>,
    /// Whether the lab was started for this run: then no alert of a cause may fire before the shock.
    pub fresh: bool,
    /// Deploys the poor option where the sound one is meant: a proof that can fail then does.
    pub sabotage: bool,
    /// The time of the lab.
    pub clock: Clock,
}

/// Runs the legs and judges them. Whatever was set is taken back at the end, also after an error and when `stop`
/// is cancelled. A sentence says why no record came of it.
pub async fn run(
    request: Request<'_>,
    addresses: &LabAddresses,
    stop: &CancellationToken,
    progress: impl FnMut(&Progress),
) -> Result<Record, String> {
    check(request.drill, request.legs)?;
    addresses.require(&request.drill.experiment)?;
    let mut campaign = Campaign {
        drill: request.drill,
        legs: request.legs,
        fresh: request.fresh,
        record: Record::begin(request.drill, request.seed, request.clock.now_s()),
        field: Field::new(request, addresses, progress),
    };
    campaign.field.require().await?;
    let played = tokio::select! {
        played = campaign.play() => played,
        () = stop.cancelled() => Err("the run was stopped before its end".into()),
    };
    let mut left_behind = campaign.field.lab.roll_back().await;
    left_behind.extend(campaign.field.lab.require_all_sound().await.err());
    match played {
        Ok(()) => {
            let now_s = request.clock.now_s();
            campaign.record.finish(now_s, left_behind);
            Ok(campaign.record)
        }
        Err(error) => Err(std::iter::once(error)
            .chain(left_behind)
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

/// Refuses legs that the drill does not have.
pub fn check(drill: &Drill, legs: Legs) -> Result<(), String> {
    let Experiment { id, harm, .. } = &drill.experiment;
    match legs {
        Legs::One {
            option: OptionName::Sound,
            fix: true,
        } => Err(
            "the fix goes with the option poor: where nothing is broken there is nothing to cure"
                .into(),
        ),
        Legs::One {
            option: OptionName::Poor,
            ..
        } if *harm == Harm::Nobody => Err(format!(
            "{id} is a control, in which nothing is poor: fly it with --option sound"
        )),
        _ => Ok(()),
    }
}

struct Campaign<'a, P> {
    drill: &'a Drill,
    legs: Legs,
    fresh: bool,
    field: Field<'a, P>,
    record: Record,
}

impl<P: FnMut(&Progress)> Campaign<'_, P> {
    async fn play(&mut self) -> Result<(), String> {
        self.record.metrics = self.field.metrics.program().await?;
        self.field.take_over().await?;
        let bounds = &self.drill.experiment.harm_bounds;
        let mut goes = true;
        if self.legs.have(OptionName::Sound) {
            self.record.expected.push(bounds.sound.says.clone());
            goes = self
                .meet(OptionName::Sound, "sound", Part::HarmBounds)
                .await?;
        }
        let Some(poor) = bounds.poor.as_ref().filter(|_| goes) else {
            return Ok(());
        };
        if self.legs.have(OptionName::Poor) {
            self.record.expected.push(poor.says.clone());
            goes = self
                .meet(OptionName::Poor, "poor", Part::HarmBounds)
                .await?;
        }
        if goes && self.legs.have_fix() {
            let fixed = bounds.fixed.iter().map(|fixed| fixed.says.clone());
            self.record.expected.extend(fixed);
            self.cure().await?;
        }
        Ok(())
    }

    /// An option meets the shock, or the lab as the fix has left it does. Returns whether it makes sense to go on:
    /// after a leg that did not come to its shock, or did not end as it must, it does not.
    async fn meet(
        &mut self,
        option: OptionName,
        name: &'static str,
        part: Part,
    ) -> Result<bool, String> {
        let experiment = &self.drill.experiment;
        let mut leg = self.field.begin(name);
        if part != Part::Replay {
            self.field.deploy(option).await?;
        }
        let first = self.record.legs.is_empty();
        leg.checks = self.field.steady(first && self.fresh).await?;
        let all_held = |checks: &[Check]| checks.iter().all(|check| check.held);
        if first && all_held(&leg.checks) {
            leg.checks.extend(self.field.calibrate().await?);
            self.record.calibrated = self.field.calibrated.clone();
        }
        if !all_held(&leg.checks) {
            self.end(leg, None).await?;
            return Ok(false);
        }
        let before = self.field.alerts_since(self.field.now_s() - 1.0).await?;
        let marks = self.field.shock(option).await?;
        let conditions = experiment.prove.iter();
        leg.checks
            .extend(self.field.judge(Part::Prove, conditions, &marks).await?);
        let bounds = experiment.bounds_of(option);
        leg.checks
            .extend(self.field.judge(part, bounds.iter(), &marks).await?);
        leg.alerts = self.field.alerts_since(marks.shock_begin_s).await?;
        leg.checks.extend(self.judge_alerts(option, &leg, &marks));
        if experiment.harm == Harm::Nobody {
            let new = |firing: &&_| !before.iter().any(|old| is_same(old, firing));
            let new: Vec<_> = leg.alerts.iter().filter(new).collect();
            leg.checks.push(judge::silent(
                Part::Alerts,
                "alerts that fire",
                &new,
                "Nothing is wrong, so whatever fires is a false alarm.",
            ));
        }
        // A sound option that failed may have left an outage behind; one that is not there cannot be cured.
        let broken = |check: &Check| check.part != Part::Alerts && !check.held;
        let goes = !leg.checks.iter().any(broken);
        self.end(leg, Some(marks)).await?;
        Ok(goes)
    }

    fn judge_alerts(&self, option: OptionName, leg: &LegRecord, marks: &Marks) -> Vec<Check> {
        let alerts = &self.drill.experiment.alerts;
        let mut checks = Vec::new();
        let unforeseen = match option {
            OptionName::Poor => {
                checks = judge::expected(alerts, &leg.alerts, marks.shock_begin_s);
                judge::unforeseen(alerts, &alerts.allowed, true, &leg.alerts)
            }
            OptionName::Sound => {
                judge::unforeseen(alerts, &alerts.allowed_sound, false, &leg.alerts)
            }
        };
        checks.push(judge::silent(
            Part::Alerts,
            "pages that the drill does not foresee",
            &unforeseen,
            "A page that has nothing to do with what is wrong sends people the wrong way.",
        ));
        checks
    }

    /// What is no cure, then the cure, while the outage lasts.
    async fn cure(&mut self) -> Result<(), String> {
        let experiment = &self.drill.experiment;
        if let Outage::WhileShock(onset_s) = experiment.outage {
            self.field.endless_shock(onset_s).await?;
        }
        if self.legs == Legs::All {
            for reject in &experiment.reject {
                self.reject(&reject.action, &reject.why).await?;
            }
        }
        self.fix().await?;
        if self.legs == Legs::All {
            let again = self.meet(OptionName::Sound, "replay", Part::Replay);
            if again.await? {
                self.calm().await?;
            }
        }
        Ok(())
    }

    /// The lab is as it was before the first shock.
    async fn calm(&mut self) -> Result<(), String> {
        let mut leg = self.field.begin("steady");
        leg.checks = self.field.steady(false).await?;
        self.end(leg, None).await
    }

    async fn reject(&mut self, action: &Action, why: &str) -> Result<(), String> {
        let mut leg = self.field.begin("reject");
        leg.action = action.to_string();
        let marks = self.field.act(std::slice::from_ref(action)).await?;
        leg.checks = self.field.kept_up(&marks).await?;
        let conditions = self.drill.experiment.bounds_of_fix();
        let mut oracle = self
            .field
            .judge(Part::Fixed, conditions.iter(), &marks)
            .await?;
        let healed = oracle.iter().all(|check| check.held);
        if healed && self.drill.experiment.outage == Outage::Lasts {
            // Whatever healed it: does it survive what broke it?
            let again = self.field.shock(OptionName::Sound).await?;
            let prove = self.drill.experiment.prove.iter();
            let proven = self.field.judge(Part::Prove, prove, &again).await?;
            leg.checks.extend(proven);
            let bounds = &self.drill.experiment.harm_bounds.sound.must;
            oracle.extend(
                self.field
                    .judge(Part::Replay, bounds.iter(), &again)
                    .await?,
            );
        }
        leg.checks.push(judge::rejected(&leg.action, why, oracle));
        self.field.undo(action).await?;
        self.end(leg, Some(marks)).await
    }

    async fn fix(&mut self) -> Result<(), String> {
        let experiment = &self.drill.experiment;
        let mut leg = self.field.begin("fix");
        let named: Vec<_> = experiment.fix.iter().map(ToString::to_string).collect();
        leg.action = named.join(", then ");
        let marks = self.field.act(&experiment.fix).await?;
        leg.checks = self.field.kept_up(&marks).await?;
        let conditions = experiment.bounds_of_fix();
        let fixed = self.field.judge(Part::Fixed, conditions.iter(), &marks);
        leg.checks.extend(fixed.await?);
        self.field.end_shocks().await?;
        let fix_s = marks.fix_s.unwrap_or_default();
        leg.checks.push(self.field.cleared(fix_s).await?);
        leg.alerts = self.field.alerts_since(fix_s).await?;
        self.end(leg, Some(marks)).await
    }

    /// Fills in what every leg has, and keeps it.
    async fn end(&mut self, mut leg: LegRecord, marks: Option<Marks>) -> Result<(), String> {
        leg.to_s = self.field.now_s();
        leg.marks = marks;
        if let Some(marks) = marks {
            self.field.measure_rows(&mut leg, &marks).await?;
        }
        self.record.legs.push(leg);
        Ok(())
    }
}

fn is_same(one: &Firing, other: &Firing) -> bool {
    one.name == other.name && one.labels == other.labels
}
