//! The lab as the legs of a drill see it: what they do there, wait for, and measure.

use super::Request;
use crate::drills::clock::Clock;
use crate::drills::condition::{Amount, Anchor, Calibrated, Condition, Journey, Marks, Window};
use crate::drills::format::{Action, Drill, Experiment, Harm, OptionName, Outage};
use crate::drills::judge::{self, Check, Part};
use crate::drills::known;
use crate::drills::lab::{Lab, LabAddresses};
use crate::drills::plan::{SETTLE_S, STEADY_MAX_S};
use crate::drills::progress::Progress;
use crate::drills::prometheus::{Firing, Metrics};
use crate::drills::record::{LegRecord, Row};

/// How many questions in a row may go unanswered before the run is given up.
const MISSES_MAX: u32 = 5;

/// Over how many seconds the progress line reckons its rates.
const SHOWN_S: f64 = 5.0;

/// The signals that tell whether the machine keeps up.
const OF_THE_MACHINE: [&str; 2] = ["late_start_ratio", "late_write_ratio"];

/// The most of either while something is done: processes are started then, and where the harm is a lack of time, the
/// users lack it as well.
const KEPT_UP_MAX: f64 = 0.1;

pub(super) struct Field<'a, P> {
    drill: &'a Drill,
    sabotage: bool,
    clock: Clock,
    pub(super) lab: Lab<'a>,
    pub(super) metrics: Metrics,
    pub(super) calibrated: Calibrated,
    progress: P,
    estimate_s: f64,
    begun_s: f64,
    leg: &'static str,
    next_look_s: f64,
    misses: u32,
}

impl<'a, P: FnMut(&Progress)> Field<'a, P> {
    pub(super) fn new(request: Request<'a>, addresses: &'a LabAddresses, progress: P) -> Self {
        let now_s = request.clock.now_s();
        Self {
            drill: request.drill,
            sabotage: request.sabotage,
            clock: request.clock,
            lab: Lab::new(addresses),
            metrics: Metrics::new(&addresses.metrics, addresses.token.as_deref()),
            calibrated: Calibrated::new(),
            progress,
            estimate_s: request.drill.experiment.estimate_s(request.legs),
            begun_s: now_s,
            leg: "",
            next_look_s: now_s,
            misses: 0,
        }
    }

    fn experiment(&self) -> &'a Experiment {
        &self.drill.experiment
    }

    pub(super) fn now_s(&self) -> f64 {
        self.clock.now_s()
    }

    /// Begins a leg: nothing happens yet.
    pub(super) fn begin(&mut self, name: &'static str) -> LegRecord {
        self.leg = name;
        LegRecord {
            name: name.into(),
            action: String::new(),
            from_s: self.now_s(),
            to_s: 0.0,
            marks: None,
            checks: Vec::new(),
            alerts: Vec::new(),
            rows: Vec::new(),
            headline: Vec::new(),
        }
    }

    /// Refuses a lab in which the drill cannot be flown; nothing is done to it.
    pub(super) async fn require(&self) -> Result<(), String> {
        self.lab.require_alone().await?;
        self.lab.require_all_sound().await?;
        known::require(self.drill, &self.lab, &self.metrics, self.now_s()).await
    }

    /// Makes the lab the drill's: its load, its masks.
    pub(super) async fn take_over(&mut self) -> Result<(), String> {
        for choice in self.experiment().masks.keys() {
            self.lab.set_choice(choice, OptionName::Poor).await?;
        }
        self.lab.set_load(&self.experiment().load).await
    }

    /// Deploys the choices under test.
    pub(super) async fn deploy(&mut self, option: OptionName) -> Result<(), String> {
        for (choice, poor) in &self.experiment().poor {
            let option = if option == OptionName::Poor || self.sabotage {
                *poor
            } else {
                OptionName::Sound
            };
            self.lab.set_choice(choice, option).await?;
        }
        Ok(())
    }

    /// Waits until the steady conditions hold and no page is left of what was before; with `quiet`, no alert but
    /// those whose windows a new lab has not filled yet. What was seen last, whether or not it came to that.
    pub(super) async fn steady(&mut self, quiet: bool) -> Result<Vec<Check>, String> {
        let begin_s = self.now_s();
        let end_s = begin_s + STEADY_MAX_S;
        self.observe("steady", begin_s + self.experiment().steady_s() + 1.0)
            .await?;
        loop {
            let now_s = self.now_s().floor();
            let marks = self.drill.marks(now_s);
            let conditions = self.experiment().steady.iter();
            let mut checks = self.judge(Part::Steady, conditions, &marks).await?;
            let firing = self.alerts_since(now_s - 1.0).await?;
            let alerts = &self.experiment().alerts;
            let in_the_way =
                |one: &&Firing| one.pages() || alerts.expects(one) || (quiet && !one.is_a_ticket());
            let in_the_way: Vec<_> = firing.iter().filter(in_the_way).collect();
            checks.push(judge::silent(
                Part::Steady,
                "alerts that fire",
                &in_the_way,
                "What an alert says of this shock can only be told if it was silent before.",
            ));
            let missing = checks.iter().find(|check| !check.held);
            let Some(missing) = missing.filter(|_| now_s < end_s) else {
                return Ok(checks);
            };
            let phase = format!("waits for {}", missing.says);
            self.step(&phase, end_s).await?;
        }
    }

    /// Measures what this machine can do.
    pub(super) async fn calibrate(&mut self) -> Result<Vec<Check>, String> {
        let now_s = self.now_s().floor();
        let mut checks = Vec::new();
        for (name, expr) in self.experiment().calibrations() {
            let calibration = &self.experiment().calibrate[name];
            let measured = self.metrics.number(&expr, now_s).await?;
            let bounds = (calibration.min, calibration.max);
            let says = calibration.says.clone();
            let part = Part::Calibrate;
            checks.push(Check {
                expr: Some(expr),
                at_s: Some(now_s),
                ..Check::of(part, says, bounds, measured, &calibration.why)
            });
            if let Some(measured) = measured {
                self.calibrated.insert(name.to_owned(), measured);
            }
        }
        Ok(checks)
    }

    /// Sends the shocks, and what operators do meanwhile, each at its time, and watches what comes of it.
    pub(super) async fn shock(&mut self, option: OptionName) -> Result<Marks, String> {
        let experiment = self.experiment();
        let begin_s = (self.now_s() + 0.2).ceil();
        self.observe("steady", begin_s).await?;
        let shocks = experiment.shock.iter().map(|shock| (shock.at_s, Ok(shock)));
        let meanwhile = experiment.meanwhile.iter();
        let meanwhile = meanwhile.map(|one| (one.at_s, Err(&one.action)));
        let mut timeline: Vec<_> = shocks.chain(meanwhile).collect();
        timeline.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at_s, what) in timeline {
            self.observe("shock", begin_s + at_s).await?;
            match what {
                Ok(shock) => {
                    let calibrated = &self.calibrated;
                    self.lab.begin_shock(shock, calibrated, false).await?;
                }
                Err(action) => self.lab.act(action, &experiment.load).await?,
            }
        }
        let marks = self.drill.marks(begin_s);
        self.observe("shock", marks.shock_end_s).await?;
        let end_s = marks.shock_end_s + experiment.watch_s(option);
        self.observe("after the shock", end_s).await?;
        self.settle().await?;
        Ok(marks)
    }

    /// Begins the shocks, to go on until they are ended, and waits until they do their harm.
    pub(super) async fn endless_shock(&mut self, onset_s: f64) -> Result<(), String> {
        self.leg = "shock";
        for shock in &self.experiment().shock {
            let calibrated = &self.calibrated;
            self.lab.begin_shock(shock, calibrated, true).await?;
        }
        self.observe("does its harm", self.now_s() + onset_s).await
    }

    pub(super) async fn end_shocks(&mut self) -> Result<(), String> {
        self.lab.end_shocks().await
    }

    /// Does something, and watches what comes of it.
    pub(super) async fn act(&mut self, actions: &[Action]) -> Result<Marks, String> {
        for action in actions {
            let skipped = matches!(action, Action::Choice(_)) && self.sabotage;
            if !skipped {
                self.lab.act(action, &self.experiment().load).await?;
            }
        }
        let fix_s = self.now_s().ceil();
        self.observe("watch", fix_s + self.experiment().recover_s())
            .await?;
        self.settle().await?;
        Ok(Marks {
            shock_begin_s: fix_s,
            shock_end_s: fix_s,
            fix_s: Some(fix_s),
        })
    }

    /// Whether the machine kept up while something was done: one that stood still would break bounds that no option
    /// broke.
    pub(super) async fn kept_up(&self, marks: &Marks) -> Result<Vec<Check>, String> {
        let of_the_machine = |one: &&Condition| OF_THE_MACHINE.contains(&one.signal.as_str());
        let over_all = |one: &Condition| Condition {
            window: Window {
                anchor: Anchor::Fix,
                from_s: 0.0,
                to_s: self.experiment().recover_s(),
            },
            max: Some(Amount::Fixed(KEPT_UP_MAX)),
            why: "Less than one in ten breaks no bound that nothing else has broken.".into(),
            ..one.clone()
        };
        let prove = self.experiment().prove.iter();
        let conditions: Vec<_> = prove.filter(of_the_machine).map(over_all).collect();
        self.judge(Part::Prove, conditions.iter(), marks).await
    }

    /// Takes back what was no cure, and waits until the harm is back if it was a relief.
    pub(super) async fn undo(&mut self, action: &Action) -> Result<(), String> {
        let experiment = self.experiment();
        match action {
            Action::Rate(_) => self.lab.set_load(&experiment.load).await?,
            Action::Choice(options) => {
                for choice in options.keys() {
                    let masked = experiment.masks.contains_key(choice);
                    let poor = experiment.poor.get(choice).copied();
                    let option = poor.or(masked.then_some(OptionName::Poor));
                    let option = option.unwrap_or(OptionName::Sound);
                    self.lab.set_choice(choice, option).await?;
                }
            }
            // A process that was started stays, and a log filter goes back by itself.
            Action::Restart(_) | Action::Deploy(_) | Action::Log(_) | Action::Silence => {
                return Ok(());
            }
        }
        let Outage::WhileShock(onset_s) = experiment.outage else {
            return Ok(());
        };
        self.observe("does its harm", self.now_s() + onset_s).await
    }

    /// Waits until the drill's alerts and all pages are silent: when, from `fix_s` on, the last of them was not.
    pub(super) async fn cleared(&mut self, fix_s: f64) -> Result<Check, String> {
        let alerts = &self.experiment().alerts;
        let end_s = fix_s + alerts.cleared_within_s;
        let counts = |one: &&Firing| one.pages() || alerts.expects(one);
        loop {
            let now_s = self.now_s();
            let firing = self.alerts_since(now_s - 1.0).await?;
            if now_s > end_s || !firing.iter().any(|one| counts(&one)) {
                break;
            }
            self.step("alerts clear", end_s).await?;
        }
        let fired = self.alerts_since(fix_s).await?;
        let last = fired.iter().filter(counts).map(|one| one.to_s - fix_s);
        let last_s = last.fold(0.0, f64::max);
        Ok(Check::of(
            Part::Fixed,
            "seconds until all pages are silent".into(),
            (None, Some(alerts.cleared_within_s)),
            Some(last_s),
            "A page that goes on after the cure hides the next outage.",
        ))
    }

    /// The alerts that fired from `from_s` until now.
    pub(super) async fn alerts_since(&self, from_s: f64) -> Result<Vec<Firing>, String> {
        self.metrics
            .firing(from_s.ceil(), self.now_s().floor())
            .await
    }

    /// Measures conditions against their bounds.
    pub(super) async fn judge<'c>(
        &self,
        part: Part,
        conditions: impl Iterator<Item = &'c Condition>,
        marks: &Marks,
    ) -> Result<Vec<Check>, String> {
        let mut checks = Vec::new();
        for condition in conditions {
            let bound = |amount: &Option<_>| match amount {
                None => Ok(None),
                Some(amount) => Amount::number(amount, &self.calibrated).map(Some),
            };
            let bounds = (bound(&condition.min)?, bound(&condition.max)?);
            let says = self.experiment().words(condition);
            let window = condition.window.on(marks);
            let (from_s, to_s) = window.ok_or_else(|| format!("{says}: it never came to that"))?;
            let asked = self.ask(&condition.signal, condition.journey, from_s, to_s)?;
            let measured = self.metrics.number(&asked, to_s).await?;
            checks.push(Check {
                expr: Some(asked),
                at_s: Some(to_s),
                ..Check::of(part, says, bounds, measured, &condition.why)
            });
        }
        Ok(checks)
    }

    fn ask(
        &self,
        signal: &str,
        journey: Option<Journey>,
        from_s: f64,
        to_s: f64,
    ) -> Result<String, String> {
        let known = self.experiment().signal(signal);
        let known = known.ok_or_else(|| format!("{signal:?} is no signal"))?;
        Ok(known.ask(journey, to_s - from_s))
    }

    /// Measures the headline's signals, and those of the table window by window.
    pub(super) async fn measure_rows(
        &self,
        leg: &mut LegRecord,
        marks: &Marks,
    ) -> Result<(), String> {
        let end_s = leg.to_s - SETTLE_S;
        let Experiment { outage, harm, .. } = self.experiment();
        let begin_s = match outage {
            // What the shock itself costs is the same for both options.
            Outage::Lasts if *harm != Harm::Nobody => marks.shock_end_s,
            _ => marks.shock_begin_s,
        };
        for one in &self.experiment().headline {
            let asked = self.ask(&one.signal, one.journey, begin_s, end_s)?;
            leg.headline.push(self.metrics.number(&asked, end_s).await?);
        }
        for (name, from_s, to_s) in self.experiment().rows_of(marks, end_s) {
            let mut values = Vec::new();
            for column in self.experiment().columns() {
                let asked = column.signal.ask(column.journey, to_s - from_s);
                values.push(self.metrics.number(&asked, to_s).await?);
            }
            leg.rows.push(Row { name, values });
        }
        Ok(())
    }

    /// Waits until what users began is over and was scraped.
    async fn settle(&mut self) -> Result<(), String> {
        self.observe("settle", self.now_s() + SETTLE_S).await
    }

    /// Lets time pass until `end_s`.
    async fn observe(&mut self, phase: &str, end_s: f64) -> Result<(), String> {
        while self.now_s() < end_s {
            self.step(phase, end_s).await?;
        }
        Ok(())
    }

    /// Waits for the next second or for `end_s`, whichever comes first, and tells how far the run is.
    async fn step(&mut self, phase: &str, end_s: f64) -> Result<(), String> {
        if self.next_look_s > end_s {
            self.clock.wait_until(end_s).await;
            return Ok(());
        }
        self.clock.wait_until(self.next_look_s).await;
        self.next_look_s = (self.next_look_s + 1.0).max(self.now_s().ceil());
        let seen = match self.look().await {
            Ok(users) => {
                self.misses = 0;
                users
            }
            Err(error) if self.misses + 1 >= MISSES_MAX => return Err(error),
            Err(_) => {
                self.misses += 1;
                None
            }
        };
        let now_s = self.now_s();
        (self.progress)(&Progress {
            phase: format!("{}: {phase}", self.leg),
            left_s: end_s - now_s,
            done: (now_s - self.begun_s) / self.estimate_s,
            users: seen,
        });
        Ok(())
    }

    /// Renews the leases, and asks how the users of the headline's journey are.
    async fn look(&mut self) -> Result<Option<(f64, f64)>, String> {
        self.lab.renew().await?;
        let journey = self
            .experiment()
            .headline
            .iter()
            .find_map(|one| one.journey);
        let Some(journey) = journey else {
            return Ok(None);
        };
        let now_s = self.now_s();
        let mut rates = [None; 2];
        for (rate, signal) in rates.iter_mut().zip(["offered_per_s", "good_per_s"]) {
            let asked = self.ask(signal, Some(journey), now_s - SHOWN_S, now_s)?;
            *rate = self.metrics.number(&asked, now_s).await?;
        }
        let [offered, good] = rates;
        Ok(offered.zip(good))
    }
}
