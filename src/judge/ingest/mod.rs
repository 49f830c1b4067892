//! From the text of a scrape to samples in the store.
//!
//! The text of each series is remembered with its place in the store. So a steady scrape parses no label and hashes
//! no label set; and what was there before and is not now is marked as gone at once, or a series that has ended
//! would be found for another five minutes.
//!
//! A series that stands twice in a scrape is a fault of the target, and the scrape is refused. Prometheus 2.42 keeps
//! the first of the two and counts the other, so that the target stays up.
//!
//! One target must not blind the others: how many series it may have is bounded well below what the store holds, and
//! the last part of the store is not for scraped samples at all, so that `up` and the rules go on.

mod known;
mod metadata;
mod report;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use promql::{AppendError, Labels, Limits, Sample, SeriesRef, Store};

use super::text::{self, Line};
use super::time::to_ms;
use known::{Known, Print};
pub use metadata::Metadata;
pub use report::Report;

/// How long scraped series are kept: the longest range of the drill profile is 72 minutes.
pub const RAW_KEPT: Duration = Duration::from_secs(75 * 60);

/// How far ahead of the scrape a sample's own time may be, as in Prometheus. How far behind: [`RAW_KEPT`].
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// The most series of one target, those that are gone and still kept included; and so the most samples of one
/// scrape. The largest target of a lab, the console, has some 4 200; a role that gives a series to whatever its clients
/// make up has ten times its usual number, and must not look dead for it.
pub const SERIES_MAX: usize = 30_000;

/// The longest name of a series with its labels, in bytes.
const SERIES_BYTES_MAX: usize = 4_096;

/// What became of the samples of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples in the text.
    pub scraped: usize,
    /// Series that were not there in the scrape before.
    pub added: usize,
    /// Samples that were not taken: their time is out of bounds, or the store is full.
    pub refused: usize,
}

/// Why there is nothing of a scrape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The target did not answer.
    #[error("{0}")]
    Failed(String),
    /// It answered what cannot be taken.
    #[error("{0}")]
    Refused(String),
}

/// What became of a scrape.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it was taken in.
    pub result: Result<(), Fault>,
    /// What was written about it.
    pub report: Report,
    /// Samples of the report that the store did not take.
    pub report_refused: usize,
}

/// What is remembered of one target from scrape to scrape.
#[derive(Debug)]
pub struct Ingest {
    labels: Vec<(String, String)>,
    /// How full the store may be and still take scraped samples.
    room: Limits,
    series: known::Series,
    metadata: metadata::Known,
    reports: report::Reports,
    prints: RandomState,
    turn: u64,
}

/// A sample of the scrape that is being read.
struct Found<'a> {
    line: usize,
    text: &'a str,
    series: Series,
    sample: Sample,
    timed: bool,
}

enum Series {
    Known(SeriesRef),
    New(Labels, Print),
}

/// A scrape that was read to its end.
struct Scrape<'a> {
    found: Vec<Found<'a>>,
    told: metadata::Told<'a>,
}

impl Ingest {
    /// For a target whose series all carry `labels`. Its samples are taken while the store holds less than `room`.
    #[must_use]
    pub fn new(labels: Vec<(String, String)>, room: Limits) -> Self {
        Self {
            reports: report::Reports::new(&labels),
            labels,
            room,
            series: known::Series::default(),
            metadata: metadata::Known::default(),
            prints: RandomState::new(),
            turn: 0,
        }
    }

    /// Takes the places of the reports, when the target is new.
    pub fn begin(&mut self, store: &mut Store) {
        self.reports.register(store);
    }

    /// What the target says of its metrics.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Metadata)> {
        self.metadata.iter()
    }

    /// Takes in what a target answered to a scrape that `began` then and counts as of `at`: all of it or nothing, for
    /// a scrape that is half read would be a service that is half gone. The report is written in the same moment, so
    /// that nobody sees series that have ended beside an `up` that says otherwise.
    pub fn take(
        &mut self,
        store: &RwLock<Store>,
        answer: Result<&[u8], String>,
        at: i64,
        began: Instant,
    ) -> Outcome {
        self.turn += 1;
        let mut counts = Counts::default();
        let read = match answer {
            Ok(body) => self.read(body, at, &mut counts).map_err(Fault::Refused),
            Err(why) => Err(Fault::Failed(why)),
        };
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        let result = read.and_then(|scrape| {
            let added = self.add(&mut store, &scrape.found, at, &mut counts);
            added.map_err(Fault::Refused)?;
            self.metadata.replace(&scrape.told);
            Ok(())
        });
        if result.is_err() {
            self.series.mark_all(&mut store, at);
        }
        let report = Report {
            up: result.is_ok(),
            duration: began.elapsed(),
            counts,
        };
        Outcome {
            report_refused: self.reports.write(&mut store, at, &report),
            result,
            report,
        }
    }

    /// When the target is no target any more: what is written about it ends, too.
    pub fn end(&mut self, store: &RwLock<Store>, at: i64) {
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        self.series.mark_all(&mut store, at);
        self.reports.end(&mut store, at);
    }

    fn read<'a>(
        &mut self,
        body: &'a [u8],
        at: i64,
        counts: &mut Counts,
    ) -> Result<Scrape<'a>, String> {
        let mut found = Vec::with_capacity(self.series.known.len() + 16);
        let mut told = metadata::Told::default();
        let times = at - to_ms(RAW_KEPT)..=at + to_ms(AHEAD_MAX);
        let read = text::read(body, |line, content| {
            match content {
                Line::Sample(raw) => {
                    counts.scraped += 1;
                    // Of what is beyond the limit only the number is of interest.
                    if counts.scraped <= SERIES_MAX {
                        let sample = Sample::new(raw.timestamp.unwrap_or(at), raw.value);
                        let timely = times.contains(&sample.timestamp);
                        match self.find(raw, timely)? {
                            Some(series) => found.push(Found {
                                line,
                                text: raw.series,
                                series,
                                sample,
                                timed: raw.timestamp.is_some(),
                            }),
                            None => counts.refused += 1,
                        }
                    }
                }
                Line::Help(name, help) => told.help(name, help),
                Line::Type(name, kind) => told.kind(name, kind),
            }
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        if counts.scraped > SERIES_MAX {
            let scraped = counts.scraped;
            return Err(format!(
                "{scraped} samples are more than the limit of {SERIES_MAX} of one target"
            ));
        }
        Ok(Scrape { found, told })
    }

    /// The series of a sample; none if the sample is not timely, for then it is as if the series were not there.
    fn find(&mut self, raw: text::RawSample<'_>, timely: bool) -> Result<Option<Series>, String> {
        let found = match self.series.known.get_mut(raw.series) {
            Some(known) if known.turn == self.turn => return Err(twice(raw.series)),
            Some(known) => {
                if timely {
                    known.turn = self.turn;
                    known.timed = raw.timestamp.is_some();
                }
                Series::Known(known.series)
            }
            None if raw.series.len() > SERIES_BYTES_MAX => {
                let length = raw.series.len();
                return Err(format!(
                    "a series of {length} bytes with its labels; the limit is {SERIES_BYTES_MAX}"
                ));
            }
            None => {
                let labels = self.merged(text::labels(raw.series)?);
                let print = self.prints.hash_one(&labels);
                Series::New(labels, print)
            }
        };
        Ok(timely.then_some(found))
    }

    /// The labels of a series and those of its target. Where both have one, the target's is meant, and the other is
    /// renamed until its name is free, as Prometheus does it.
    fn merged(&self, own: Vec<text::Label<'_>>) -> Labels {
        let is_targets = |name: &str| self.labels.iter().any(|(target, _)| target == name);
        let mut names: HashSet<String> = own.iter().map(|(name, _)| name.to_string()).collect();
        let mut own: Vec<(String, String)> = own
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        own.sort_by_key(|(name, _)| name.len());
        for (name, _) in &mut own {
            if is_targets(name) {
                while is_targets(name) || names.contains(name.as_str()) {
                    name.insert_str(0, "exported_");
                }
                names.insert(name.clone());
            }
        }
        Labels::new(own.into_iter().chain(self.labels.iter().cloned()))
    }

    /// Writes the samples of a scrape, and marks what it did not have. After an error nothing has changed.
    fn add(
        &mut self,
        store: &mut Store,
        found: &[Found<'_>],
        at: i64,
        counts: &mut Counts,
    ) -> Result<(), String> {
        self.check(found, at)?;
        let is_new = |one: &Found<'_>| matches!(one.series, Series::New(..));
        let mut places = 0;
        if found.iter().any(is_new) {
            places = self.room.max_series.saturating_sub(store.stats().series);
        }
        for one in found {
            let series = match &one.series {
                Series::Known(series) => Some(*series),
                Series::New(..) => self.register(store, one, &mut places),
            };
            counts.added += usize::from(is_new(one) && series.is_some());
            let taken = series.is_some_and(|series| self.append(store, series, one));
            counts.refused += usize::from(!taken);
        }
        self.series.settle(store, self.turn, at);
        Ok(())
    }

    /// Whether each series stands there once, and they are not too many with those that were there before.
    fn check(&mut self, found: &[Found<'_>], at: i64) -> Result<(), String> {
        let new: Vec<Print> = found
            .iter()
            .filter_map(|one| match one.series {
                Series::New(_, print) => Some(print),
                Series::Known(_) => None,
            })
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let known = self.series.known.values();
        let mut seen: HashSet<Print> = known
            .filter(|known| known.turn == self.turn)
            .map(|known| known.print)
            .collect();
        for one in found {
            // The same labels in another order, or the same text for the second time.
            if let Series::New(_, print) = one.series
                && !seen.insert(print)
            {
                return Err(format!("line {}: {}", one.line, twice(one.text)));
            }
        }
        let held = self.series.held_with(&new, at);
        if held > SERIES_MAX {
            let minutes = RAW_KEPT.as_secs() / 60;
            return Err(format!(
                "{held} series in {minutes} minutes, {} of them new, are more than the limit of {SERIES_MAX} \
                 of one target",
                new.len()
            ));
        }
        Ok(())
    }

    /// Gives a new series its place in the store, if there is room.
    fn register(
        &mut self,
        store: &mut Store,
        one: &Found<'_>,
        places: &mut usize,
    ) -> Option<SeriesRef> {
        let Series::New(labels, print) = &one.series else {
            return None;
        };
        if *places == 0 || store.bytes() > self.room.max_bytes {
            return None;
        }
        let series = store.register(labels, RAW_KEPT).ok()?;
        *places -= 1;
        let known = Known {
            series,
            print: *print,
            turn: self.turn,
            timed: one.timed,
            live: false,
        };
        self.series.add(one.text, known);
        Some(series)
    }

    /// Whether the store took the sample.
    fn append(&mut self, store: &mut Store, series: SeriesRef, one: &Found<'_>) -> bool {
        if store.bytes() > self.room.max_bytes {
            return false;
        }
        match store.append(series, one.sample) {
            Ok(()) => true,
            Err(AppendError::UnknownSeries) => {
                let again = self.register_again(store, one.text);
                again.is_some_and(|series| store.append(series, one.sample).is_ok())
            }
            Err(_) => false,
        }
    }

    /// For a series that the store has dropped since, because it had no sample for long.
    fn register_again(&mut self, store: &mut Store, text: &str) -> Option<SeriesRef> {
        let labels = self.merged(text::labels(text).ok()?);
        let series = store.register(&labels, RAW_KEPT).ok()?;
        self.series.known.get_mut(text)?.series = series;
        Some(series)
    }
}

fn twice(series: &str) -> String {
    format!("the series {series} stands twice")
}

#[cfg(test)]
mod tests;
