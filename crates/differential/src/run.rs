//! Asks both, at many times, and counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use promql::{
    Engine, Matcher, Options, Query, QueryError, Sample, Semantics, Store, Value, parse_selector,
};

use crate::compare::{self, Closeness};
use crate::expressions::{Group, Question};
use crate::peer::{Prometheus, Range};

/// How many times each expression is asked at.
const INSTANTS: i64 = 20;

/// The steps of the range queries, in turn: multiples of the scrapes' distance and others.
const STEPS_MS: [i64; 4] = [1_000, 2_500, 5_000, 7_300];

/// Questions are asked by this many threads.
const WORKERS: usize = 2;

/// The step of a subquery that names none, as the configured Prometheus has it.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(1);

/// Both sides.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) url: &'a str,
    pub(crate) store: &'a Store,
    pub(crate) semantics: Semantics,
    /// The times of the oldest and of the newest sample that may be asked for.
    pub(crate) bounds: (i64, i64),
}

/// What became of one question.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) queries: usize,
    pub(crate) equal: usize,
    /// Answers, equal or not, that both refused.
    pub(crate) refused: usize,
    /// Answers of Prometheus without any series.
    pub(crate) empty: usize,
    pub(crate) closeness: Closeness,
    /// The first differences.
    pub(crate) differences: Vec<String>,
    pub(crate) their_time: Duration,
    pub(crate) our_time: Duration,
}

impl Outcome {
    pub(crate) fn different(&self) -> usize {
        self.queries - self.equal
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.equal += other.equal;
        self.refused += other.refused;
        self.empty += other.empty;
        self.closeness.add(other.closeness);
        self.their_time += other.their_time;
        self.our_time += other.our_time;
    }

    fn note(
        &mut self,
        what: &str,
        theirs: &crate::peer::Answer,
        compared: Result<Closeness, String>,
    ) {
        self.queries += 1;
        match theirs {
            Err(_) => self.refused += 1,
            Ok(Value::Vector(series)) if series.is_empty() => self.empty += 1,
            Ok(Value::Matrix(series)) if series.is_empty() => self.empty += 1,
            Ok(_) => {}
        }
        match compared {
            Ok(closeness) => {
                self.equal += 1;
                self.closeness.add(closeness);
            }
            Err(text) if self.differences.len() < 3 => {
                // A difference may be a whole vector.
                self.differences.push(format!("{what}: {text:.400}"));
            }
            Err(_) => {}
        }
    }
}

impl Pair<'_> {
    /// Asks every question of every group, each with its outcome, in order.
    pub(crate) fn ask_all(&self, groups: &[Group]) -> Result<Vec<Vec<Outcome>>, String> {
        let questions: Vec<&Question> = groups.iter().flat_map(|group| &group.questions).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let peer = Prometheus::new(self.url)?;
            let mut found = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(question) = questions.get(at) else {
                    return Ok(found);
                };
                found.push((at, self.ask(&peer, question, at)?));
            }
        };
        let found: Vec<Result<Vec<(usize, Outcome)>, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a worker panicked".into()))
            };
            threads.into_iter().map(join).collect()
        });
        let mut outcomes: Vec<(usize, Outcome)> = Vec::new();
        for part in found {
            outcomes.extend(part?);
        }
        outcomes.sort_by_key(|(at, _)| *at);
        let mut outcomes = outcomes.into_iter().map(|(_, outcome)| outcome);
        let sizes = groups.iter().map(|group| group.questions.len());
        Ok(sizes
            .map(|size| outcomes.by_ref().take(size).collect())
            .collect())
    }

    fn ask(&self, peer: &Prometheus, question: &Question, at: usize) -> Result<Outcome, String> {
        match question {
            Question::Query { text, lookback } => self.query(
                peer,
                text,
                *lookback,
                question.is_ordered(),
                STEPS_MS[at % STEPS_MS.len()],
            ),
            Question::LabelValues { label, selector } => self.label_values(peer, label, selector),
        }
    }

    fn query(
        &self,
        peer: &Prometheus,
        text: &str,
        lookback: Option<i64>,
        ordered: bool,
        step: i64,
    ) -> Result<Outcome, String> {
        let engine = self.engine(lookback);
        let query = Query::parse(text);
        let evaluate = |how: &dyn Fn(&Query) -> Result<Value, QueryError>| match &query {
            Ok(query) => how(query),
            Err(error) => Err(error.clone()),
        };
        let mut outcome = Outcome::default();
        for time in self.instants() {
            let started = Instant::now();
            let theirs = peer.instant(text, time, lookback)?;
            let asked = Instant::now();
            let ours = evaluate(&|query| engine.instant(self.store, query, time));
            outcome.our_time += asked.elapsed();
            outcome.their_time += asked - started;
            let compared = compare::answers(&theirs, &ours, ordered);
            outcome.note(&format!("at {time}"), &theirs, compared);
        }
        let (start, end) = self.bounds;
        let range = Range { start, end, step };
        let theirs = peer.range(text, range, lookback)?;
        let ours = evaluate(&|query| engine.range(self.store, query, start, end, step));
        let what = format!("from {start} to {end} by {step}");
        outcome.note(&what, &theirs, compare::answers(&theirs, &ours, false));
        Ok(outcome)
    }

    fn label_values(
        &self,
        peer: &Prometheus,
        label: &str,
        selector: &str,
    ) -> Result<Outcome, String> {
        let matchers = parse_selector(selector).map_err(|error| error.to_string())?;
        let theirs = peer.label_values(label, selector)?;
        let ours = self
            .store
            .label_values(label, &[matchers], i64::MIN, i64::MAX);
        let mut outcome = Outcome {
            queries: 1,
            equal: usize::from(theirs == ours),
            empty: usize::from(theirs.is_empty()),
            ..Outcome::default()
        };
        if theirs != ours {
            outcome
                .differences
                .push(format!("theirs {theirs:?}, ours {ours:?}"));
        }
        Ok(outcome)
    }

    pub(crate) fn engine(&self, lookback: Option<i64>) -> Engine {
        let mut options = Options {
            subquery_step: EVALUATION_INTERVAL,
            semantics: self.semantics,
            ..Options::default()
        };
        if let Some(ms) = lookback {
            options.lookback = Duration::from_millis(ms.unsigned_abs());
        }
        Engine::new(options)
    }

    /// Times all over the recording: whole seconds, the very time of a scrape, the millisecond after one, and any.
    /// A scrape's time is also the edge of each range of whole seconds.
    fn instants(&self) -> Vec<i64> {
        let (start, end) = self.bounds;
        let scrapes = self.scrapes();
        let spread = |position: i64| {
            start + (end - start) * (position + 1) / (INSTANTS + 1) + position * 37 % 100
        };
        let at = |position: i64| {
            let time = spread(position);
            let scraped = scrapes
                .iter()
                .rev()
                .find(|scrape| **scrape <= time)
                .copied()
                .unwrap_or(time);
            match position % 4 {
                0 => time / 1_000 * 1_000,
                1 => scraped,
                2 => scraped + 1,
                _ => time,
            }
        };
        (0..INSTANTS).map(at).collect()
    }

    /// When anything was scraped.
    fn scrapes(&self) -> Vec<i64> {
        let mut samples: Vec<Sample> = Vec::new();
        for series in self.store.select(&[Matcher::equal("__name__", "up")]) {
            series.read(i64::MIN, i64::MAX, &mut samples);
        }
        let mut times: Vec<i64> = samples.iter().map(|sample| sample.timestamp).collect();
        times.sort_unstable();
        times
    }
}
