//! The life of an alert: inactive, pending, firing, resolved.
//!
//! The transitions are those of Prometheus, evaluation by evaluation, because people tune `for` and
//! `keep_firing_for` here and expect the same alert at the same second there.

use std::collections::BTreeMap;
use std::time::Duration;

use promql::{InstantSeries, Labels};

use super::super::template::Template;
use super::super::time::to_ms;
use super::Written;

/// How long a resolved alert is kept, so that it can still be told that it is resolved.
pub const RESOLVED_KEPT: Duration = Duration::from_secs(15 * 60);

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was firing and is resolved.
    Inactive,
    /// Its expression holds, not yet for long enough.
    Pending,
    /// It has held for long enough.
    Firing,
}

impl State {
    /// As Prometheus writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// What identifies it, `alertname` included.
    pub labels: Labels,
    /// The texts for a person, in the order of their names.
    pub annotations: Vec<(String, String)>,
    /// Where it is in its life.
    pub state: State,
    /// What the expression gave at last.
    pub value: f64,
    /// Since when the expression has held.
    pub active_at: i64,
    /// Since when it has been firing.
    pub fired_at: Option<i64>,
    /// When it was resolved.
    pub resolved_at: Option<i64>,
    /// Since when it has only been kept firing.
    pub keep_firing_since: Option<i64>,
    /// When it was last told to an Alertmanager.
    sent_at: Option<i64>,
}

/// A rule that raises alerts.
#[derive(Debug)]
pub struct Alerting {
    name: String,
    hold: Duration,
    keep_firing: Duration,
    labels: Vec<(String, Template)>,
    annotations: Vec<(String, Template)>,
    active: BTreeMap<Labels, Alert>,
}

impl Alerting {
    pub(super) fn new(
        name: &str,
        hold: Duration,
        keep_firing: Duration,
        labels: Vec<(String, Template)>,
        annotations: Vec<(String, Template)>,
    ) -> Self {
        Self {
            name: name.into(),
            hold,
            keep_firing,
            labels,
            annotations,
            active: BTreeMap::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its expression has to hold, and how long an alert is kept firing afterwards.
    #[must_use]
    pub fn durations(&self) -> (Duration, Duration) {
        (self.hold, self.keep_firing)
    }

    /// Its labels and annotations as they are written, by name.
    #[must_use]
    pub fn templates(&self) -> (BTreeMap<&str, &str>, BTreeMap<&str, &str>) {
        (by(&self.labels), by(&self.annotations))
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        let active = self.active.values();
        active.filter(|alert| alert.state != State::Inactive)
    }

    /// The state of the rule: that of its alert which is furthest.
    #[must_use]
    pub fn state(&self) -> State {
        let states = self.active.values().map(|alert| alert.state);
        states.max().unwrap_or(State::Inactive)
    }

    /// Takes in what the expression gave at `at`, and returns the samples to write.
    pub(super) fn update(
        &mut self,
        found: &[InstantSeries],
        at: i64,
        limit: usize,
    ) -> Result<Vec<Written>, String> {
        let mut present = BTreeMap::new();
        for series in found {
            let alert = self.alert(series, at);
            if present.insert(alert.labels.clone(), alert).is_some() {
                return Err(super::same_labels("alert"));
            }
        }
        for (labels, alert) in &present {
            match self.active.get_mut(labels) {
                Some(known) if known.state != State::Inactive => {
                    known.value = alert.value;
                    known.annotations.clone_from(&alert.annotations);
                }
                _ => {
                    self.active.insert(labels.clone(), alert.clone());
                }
            }
        }
        let (hold, keep_firing) = (to_ms(self.hold), to_ms(self.keep_firing));
        let mut active = 0;
        self.active.retain(|labels, alert| {
            let holds = present.contains_key(labels);
            let kept = holds || alert.outlasts(at, keep_firing);
            if holds {
                alert.keep_firing_since = None;
            }
            if kept {
                active += 1;
                if alert.state == State::Pending && at - alert.active_at >= hold {
                    alert.state = State::Firing;
                    alert.fired_at = Some(at);
                }
            }
            kept || alert.stays_resolved(at)
        });
        if limit > 0 && active > limit {
            self.active.clear();
            return Err(format!("exceeded limit of {limit} with {active} alerts"));
        }
        Ok(self
            .alerts()
            .flat_map(|alert| self.samples(alert))
            .collect())
    }

    fn alert(&self, series: &InstantSeries, at: i64) -> Alert {
        let value = series.sample.value;
        let expand = |template: &Template| template.expand(&series.labels, value);
        let own = series.labels.iter().filter(|(name, _)| *name != "__name__");
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = self.labels.iter();
        let given = given.map(|(name, template)| (name.clone(), expand(template)));
        let annotations = self.annotations.iter();
        Alert {
            labels: Labels::new(
                own.chain(given)
                    .chain([("alertname".into(), self.name.clone())]),
            ),
            annotations: annotations
                .map(|(name, template)| (name.clone(), expand(template)))
                .collect(),
            state: State::Pending,
            value,
            active_at: at,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            sent_at: None,
        }
    }

    /// What `ALERTS` and `ALERTS_FOR_STATE` say of an alert.
    fn samples(&self, alert: &Alert) -> [Written; 2] {
        // A label whose template gave nothing keeps its template here, as it does in Prometheus.
        let raw = self.labels.iter();
        let raw = raw.map(|(name, template)| (name.as_str(), template.text()));
        let base: Vec<(&str, &str)> = raw.chain(alert.labels.iter()).collect();
        let series =
            |own: &[(&'static str, &'static str)]| Labels::new(base.iter().chain(own).copied());
        let state = ("alertstate", alert.state.as_str());
        let since = alert.active_at.div_euclid(1000) as f64;
        [
            (series(&[("__name__", "ALERTS"), state]), 1.0),
            (series(&[("__name__", "ALERTS_FOR_STATE")]), since),
        ]
    }

    /// The alerts that an Alertmanager has to be told at `at`: those that fire, again after `resend`, and those
    /// that were resolved since they were told.
    pub(super) fn due(&mut self, at: i64, resend: Duration) -> Vec<Alert> {
        let resend = to_ms(resend);
        let due = self.active.values_mut().filter(|alert| {
            let news = alert.resolved_at > alert.sent_at;
            let again = alert.sent_at.is_none_or(|sent| sent + resend < at);
            alert.state != State::Pending && (news || again)
        });
        due.map(|alert| {
            alert.sent_at = Some(at);
            alert.clone()
        })
        .collect()
    }
}

fn by(list: &[(String, Template)]) -> BTreeMap<&str, &str> {
    let written = list.iter();
    written
        .map(|(name, template)| (name.as_str(), template.text()))
        .collect()
}

impl Alert {
    /// Whether it goes on firing although its expression does not hold any more; ends it if not.
    fn outlasts(&mut self, at: i64, keep_firing: i64) -> bool {
        if self.state == State::Firing && keep_firing > 0 {
            let since = *self.keep_firing_since.get_or_insert(at);
            if at - since < keep_firing {
                return true;
            }
        }
        if self.state == State::Firing {
            self.state = State::Inactive;
            self.resolved_at = Some(at);
        }
        false
    }

    /// Whether it fired once and that is not long ago.
    fn stays_resolved(&self, at: i64) -> bool {
        let kept = to_ms(RESOLVED_KEPT);
        self.resolved_at
            .is_some_and(|resolved| at - resolved <= kept)
    }
}

#[cfg(test)]
mod tests {
    use promql::Sample;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rule(hold_s: u32, keep_s: u32) -> Alerting {
        let template = |text: &str| Template::parse(text).unwrap();
        Alerting::new(
            "A",
            hold_s * SECOND,
            keep_s * SECOND,
            vec![("severity".into(), template("page"))],
            vec![(
                "summary".into(),
                template("{{ $value }} at {{ $labels.x }}"),
            )],
        )
    }

    fn series(x: &str, value: f64) -> InstantSeries {
        InstantSeries {
            labels: Labels::new([("__name__", "m"), ("x", x)]),
            sample: Sample::new(0, value),
        }
    }

    /// Evaluates once a second: `#` where the expression holds. Returns the states: `.`, `p`, `f`.
    fn run(rule: &mut Alerting, holds: &str) -> String {
        let mut states = String::new();
        for (second, holds) in holds.chars().enumerate() {
            let found = if holds == '#' {
                vec![series("1", 2.0)]
            } else {
                vec![]
            };
            let at = i64::try_from(second).unwrap() * 1000;
            let written = rule.update(&found, at, 0).unwrap();
            assert_eq!(written.len(), 2 * rule.alerts().count());
            states.push(match rule.state() {
                State::Inactive => '.',
                State::Pending => 'p',
                State::Firing => 'f',
            });
        }
        states
    }

    #[test]
    fn an_alert_goes_through_its_states() {
        for (hold, keep, holds, states) in [
            (0, 0, " ## ", ".ff."),
            (2, 0, "#####  ", "ppfff.."),
            // It flaps faster than `for`: it never fires.
            (2, 0, "## ## ##", "pp.pp.pp"),
            // Gone for one evaluation, it begins anew.
            (2, 0, "### ###", "ppf.ppf"),
            (0, 2, "#   #  ", "fff.fff"),
            (0, 3, "# # #    ", "ffffffff."),
            // Only what fires is kept.
            (2, 3, "##   ###   # ", "pp...ppffffff"),
        ] {
            assert_eq!(
                run(&mut rule(hold, keep), holds),
                states,
                "{hold} {keep} {holds:?}"
            );
        }
    }

    #[test]
    fn labels_and_annotations_are_made_of_the_sample() {
        let mut rule = rule(1, 0);
        let written = rule
            .update(&[series("1", 2.0), series("2", 3.0)], 5_500, 0)
            .unwrap();
        let texts: Vec<_> = written
            .iter()
            .map(|(labels, _)| labels.to_string())
            .collect();
        assert_eq!(
            texts[0],
            r#"ALERTS{alertname="A", alertstate="pending", severity="page", x="1"}"#
        );
        assert_eq!(
            texts[1],
            r#"ALERTS_FOR_STATE{alertname="A", severity="page", x="1"}"#
        );
        assert_eq!(written[1].1.to_string(), "5");
        let said: Vec<_> = rule.alerts().map(|a| a.annotations[0].1.clone()).collect();
        assert_eq!(said, ["2 at 1", "3 at 2"]);
        rule.update(&[series("1", 9.0)], 6_500, 0).unwrap();
        let alert = rule.alerts().next().unwrap();
        assert_eq!(
            (alert.value, alert.active_at, alert.fired_at),
            (9.0, 5_500, Some(6_500))
        );
        assert_eq!(alert.annotations[0].1, "9 at 1");
    }

    #[test]
    fn two_samples_for_one_alert_are_an_error_and_change_nothing() {
        let mut rule = rule(0, 0);
        rule.update(&[series("1", 2.0)], 0, 0).unwrap();
        let error = rule
            .update(&[series("2", 1.0), series("2", 2.0)], 1_000, 0)
            .unwrap_err();
        assert!(error.contains("same labelset"), "{error}");
        assert_eq!(rule.alerts().count(), 1);
        let many = [series("1", 1.0), series("2", 1.0)];
        let error = rule.update(&many, 2_000, 1).unwrap_err();
        assert_eq!(error, "exceeded limit of 1 with 2 alerts");
        assert_eq!(rule.alerts().count(), 0);
    }

    #[test]
    fn a_resolved_alert_is_kept_to_be_told_and_then_forgotten() {
        let mut rule = rule(0, 0);
        rule.update(&[series("1", 1.0)], 0, 0).unwrap();
        rule.update(&[], 1_000, 0).unwrap();
        assert_eq!(rule.active.len(), 1);
        let kept = 1_000 + to_ms(RESOLVED_KEPT);
        rule.update(&[], kept, 0).unwrap();
        assert_eq!(rule.active.len(), 1);
        rule.update(&[], kept + 1, 0).unwrap();
        assert_eq!(rule.active.len(), 0);
    }

    #[test]
    fn what_fires_is_told_again_each_minute_and_what_ends_at_once() {
        let minute = 60 * SECOND;
        let mut rule = rule(1, 0);
        let mut told = Vec::new();
        for second in 0..200 {
            let at = second * 1000;
            let found = if second < 100 {
                vec![series("1", 1.0)]
            } else {
                vec![]
            };
            rule.update(&found, at, 0).unwrap();
            let due = rule.due(at, minute);
            told.extend(due.into_iter().map(|alert| (second, alert.state.as_str())));
        }
        assert_eq!(
            told,
            [
                (1, "firing"),
                (62, "firing"),
                (100, "inactive"),
                (161, "inactive")
            ]
        );
    }
}
