//! Runs one leg of a drill in a lab that is up.
//!
//! Warm up until steady, shock, watch, perhaps cure, settle, roll back, judge. The choices are set before
//! the lab is found steady, so that the steady window also shows that the poor option alone does no harm:
//! it takes the shock as well.

#[cfg(test)]
mod fake_lab;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::condition::{Journey, Marks};
use super::format::{Drill, OptionName};
use super::judge::{judge_steady, steady_marks};
use super::lab::{Lab, LabAddresses};
use super::plan::{Leg, SETTLE_MAX_S, WARM_UP_MAX_S};
use super::progress::Progress;
use super::record::{JOURNEY, Phase, Record};
use super::seen::{Observations, Sample};

/// How many readings in a row may fail before the run is given up.
const MISSES_MAX: u32 = 5;

/// How far back the users are asked, in seconds: further than their report lags behind.
const LOOK_BACK_S: f64 = 10.0;

/// What is asked of a run.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The drill.
    pub drill: &'a Drill,
    /// The option of the choices under test.
    pub option: OptionName,
    /// Whether the fix is applied while the harm lasts.
    pub fix: bool,
    /// The seed with which the users were started, for the record.
    pub seed: u64,
    /// Seconds of the lab in one second of this process: 1, but for tests with a lab whose clock runs faster.
    pub time_scale: f64,
}

/// Runs a leg and judges it. Whatever was set is taken back at the end, also after an error and when `stop`
/// is cancelled. A sentence says why no record came of it.
pub async fn run(
    request: Request<'_>,
    addresses: &LabAddresses,
    stop: &CancellationToken,
    progress: impl FnMut(&Progress),
) -> Result<Record, String> {
    if request.fix && request.option == OptionName::Sound {
        return Err(
            "the fix goes with the option poor: where nothing is broken there is nothing to cure"
                .into(),
        );
    }
    let leg = Leg {
        drill: request.drill,
        option: request.option,
        fix: request.fix,
    };
    let mut lab = Lab::new(addresses);
    let run = tokio::select! {
        run = Run::play(leg, request.time_scale, &mut lab, progress) => run,
        () = stop.cancelled() => Err("the run was stopped before its end".into()),
    };
    let left_behind = lab.roll_back().await;
    match run {
        Ok(run) => {
            let mut record =
                Record::new(leg, request.seed, run.marks, run.phases, run.observations);
            record.left_behind = left_behind;
            Ok(record)
        }
        Err(error) => Err(std::iter::once(error)
            .chain(left_behind)
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

/// The users' clock, as this process reckons it.
#[derive(Debug, Clone, Copy)]
struct Clock {
    read: Instant,
    users_s: f64,
    scale: f64,
}

impl Clock {
    fn now_s(&self) -> f64 {
        self.users_s + self.read.elapsed().as_secs_f64() * self.scale
    }

    async fn wait_until(&self, at_s: f64) {
        let wait_s = (at_s - self.now_s()).max(0.0) / self.scale;
        tokio::time::sleep(Duration::from_secs_f64(wait_s)).await;
    }
}

struct Run<'a, 'l, P> {
    leg: Leg<'a>,
    lab: &'a mut Lab<'l>,
    progress: P,
    clock: Clock,
    next_reading_s: f64,
    misses: u32,
    marks: Option<Marks>,
    phases: Vec<Phase>,
    observations: Observations,
}

/// What is left of a run when it is over.
struct Finished {
    marks: Option<Marks>,
    phases: Vec<Phase>,
    observations: Observations,
}

impl<'a, 'l, P: FnMut(&Progress)> Run<'a, 'l, P> {
    async fn play(
        leg: Leg<'a>,
        scale: f64,
        lab: &'a mut Lab<'l>,
        progress: P,
    ) -> Result<Finished, String> {
        lab.require_all_sound().await?;
        let experiment = &leg.drill.experiment;
        let ttl_s = leg.ttl_s();
        for choice in experiment.masks.keys() {
            lab.set_choice(choice, OptionName::Poor, ttl_s).await?;
        }
        for (choice, poor) in &experiment.poor {
            let option = match leg.option {
                OptionName::Poor => *poor,
                OptionName::Sound => OptionName::Sound,
            };
            lab.set_choice(choice, option, ttl_s).await?;
        }
        lab.set_load(&experiment.load).await?;
        let users_s = lab.report(None).await?.now_s;
        let clock = Clock {
            read: Instant::now(),
            users_s,
            scale,
        };
        let mut run = Self {
            leg,
            lab,
            progress,
            clock,
            next_reading_s: users_s.ceil(),
            misses: 0,
            marks: None,
            phases: Vec::new(),
            observations: Observations::default(),
        };
        run.phases().await?;
        Ok(Finished {
            marks: run.marks,
            phases: run.phases,
            observations: run.observations,
        })
    }

    async fn phases(&mut self) -> Result<(), String> {
        if !self.warm_up().await? {
            return Ok(());
        }
        let mut marks = self.shock().await?;
        let watched_s = marks.shock_end_s + self.leg.watch_s();
        self.observe("after the shock", watched_s).await?;
        let mut end_s = watched_s;
        if self.leg.fix {
            let fix_s = self.clock.now_s().ceil();
            self.clock.wait_until(fix_s).await;
            let ttl_s = self.leg.ttl_s();
            for fix in &self.leg.drill.experiment.fix {
                self.lab.set_choice(&fix.choice, fix.option, ttl_s).await?;
            }
            marks.fix_s = Some(fix_s);
            end_s = fix_s + self.leg.recover_s();
            self.observe("after the fix", end_s).await?;
        }
        self.settle(end_s).await?;
        self.marks = Some(marks);
        let shown = self.leg.windows(&marks).into_iter();
        self.ask_quantiles(shown.map(|(_, from_s, to_s)| (JOURNEY, from_s, to_s)))
            .await?;
        let judged = self.leg.conditions().map(|(_, condition)| condition);
        self.ask_quantiles(judged.filter_map(|condition| condition.quantile(&marks)))
            .await
    }

    /// Waits until the steady conditions hold; whether they did.
    async fn warm_up(&mut self) -> Result<bool, String> {
        let begin_s = self.clock.now_s();
        let end_s = begin_s + WARM_UP_MAX_S;
        loop {
            self.step("warm-up", end_s).await?;
            let candidate = steady_marks(&self.observations);
            let steady = self.leg.drill.experiment.steady.iter();
            self.ask_quantiles(steady.filter_map(|condition| condition.quantile(&candidate)))
                .await?;
            let steady = judge_steady(self.leg, &self.observations);
            let now_s = self.clock.now_s();
            if steady.iter().all(|judged| judged.held) {
                self.end_phase("warm-up", begin_s, now_s);
                return Ok(true);
            }
            if now_s >= end_s {
                self.end_phase("warm-up", begin_s, now_s);
                return Ok(false);
            }
        }
    }

    /// Sends the shocks, each at its time, from a whole second on: users are counted by whole seconds.
    async fn shock(&mut self) -> Result<Marks, String> {
        let begin_s = (self.clock.now_s() + 0.2).ceil();
        self.observe("steady", begin_s).await?;
        let mut shocks: Vec<_> = self.leg.drill.experiment.shock.iter().collect();
        shocks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        for shock in shocks {
            self.observe("shock", begin_s + shock.at_s).await?;
            self.lab.begin_shock(shock).await?;
        }
        let marks = Marks {
            shock_begin_s: begin_s,
            shock_end_s: begin_s + self.leg.shock_s(),
            fix_s: None,
        };
        self.observe("shock", marks.shock_end_s).await?;
        Ok(marks)
    }

    /// Waits until the users have settled all that began before `end_s`.
    async fn settle(&mut self, end_s: f64) -> Result<(), String> {
        let deadline_s = self.clock.now_s() + SETTLE_MAX_S;
        while self.observations.settled_s() < Some(end_s) && self.clock.now_s() < deadline_s {
            self.step("settle", deadline_s).await?;
        }
        Ok(())
    }

    /// Asks the users for the quantiles of those windows that were seen whole, unless they were asked before.
    async fn ask_quantiles(
        &mut self,
        windows: impl IntoIterator<Item = (Journey, f64, f64)>,
    ) -> Result<(), String> {
        for (journey, from_s, to_s) in windows {
            let seen = self.observations.covers(from_s, to_s);
            if seen && self.observations.find_p99(journey, from_s, to_s).is_none() {
                let p99 = self.lab.p99(journey, from_s, to_s).await?;
                self.observations.p99.push(p99);
            }
        }
        Ok(())
    }

    /// Observes until `end_s`.
    async fn observe(&mut self, phase: &'static str, end_s: f64) -> Result<(), String> {
        let begin_s = self.clock.now_s();
        while self.clock.now_s() < end_s {
            self.step(phase, end_s).await?;
        }
        self.end_phase(phase, begin_s, end_s);
        Ok(())
    }

    fn end_phase(&mut self, name: &'static str, from_s: f64, to_s: f64) {
        if to_s > from_s {
            self.phases.push(Phase { name, from_s, to_s });
        }
    }

    /// Waits for the next reading or for `end_s`, whichever comes first.
    async fn step(&mut self, phase: &'static str, end_s: f64) -> Result<(), String> {
        if self.next_reading_s > end_s {
            self.clock.wait_until(end_s).await;
            return Ok(());
        }
        self.clock.wait_until(self.next_reading_s).await;
        match self.read().await {
            Ok(()) => self.misses = 0,
            Err(error) if self.misses + 1 >= MISSES_MAX => return Err(error),
            Err(_) => self.misses += 1,
        }
        let now_s = self.clock.now_s();
        // Readings stand on whole seconds, as the shock does: none of them mixes before and after.
        self.next_reading_s = (self.next_reading_s + 1.0).max(now_s.ceil());
        let last = self.observations.seconds.last();
        let count = last.map(|second| {
            second
                .journeys
                .get(JOURNEY.name())
                .copied()
                .unwrap_or_default()
        });
        (self.progress)(&Progress {
            phase,
            left_s: end_s - now_s,
            offered_per_s: count.map(|count| count.offered as f64),
            good_per_s: count.map(|count| count.good as f64),
        });
        Ok(())
    }

    /// Reads both sides once.
    async fn read(&mut self) -> Result<(), String> {
        let asked_s = self.clock.now_s();
        let first_s = self.clock.users_s.ceil();
        let known_s = self.observations.settled_s().unwrap_or(first_s);
        // Asked from further back than needed, so that the range is never empty.
        let since_s = (known_s - LOOK_BACK_S).max(0.0);
        let report = self.lab.report(Some(since_s)).await?;
        if report.now_s < asked_s - 1.0 {
            return Err("the users' clock went back: their process was started anew".into());
        }
        let new = report.seconds.into_iter();
        let new = new.filter(|second| second.at_s > known_s - 0.5);
        self.observations.seconds.extend(new);
        let at_s = self.clock.now_s();
        let scrapes = self.lab.scrape().await?;
        let sample = Sample::read(at_s, &scrapes.shop, &scrapes.payments, &scrapes.traffic);
        self.observations.samples.push(sample);
        Ok(())
    }
}
