//! From the text of a scrape to samples in the store.
//!
//! The text of each series is remembered with its place in the store. So a steady scrape parses no label and hashes
//! no label set; and what was there before and is not now is marked as gone at once, or a series that has ended
//! would be found for another five minutes.
//!
//! A series that stands twice in a scrape is a fault of the target, and the scrape is refused. Prometheus 2.42 keeps
//! the first of the two and counts the other, so that the target stays up.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use promql::{AppendError, Labels, Sample, SeriesRef, Store};

use super::text::{self, Line, TextError};

/// How long scraped series are kept: the longest range of the drill profile is 72 minutes.
pub const RAW_KEPT: Duration = Duration::from_secs(75 * 60);

/// The most samples of one scrape; with more it is refused.
pub const SAMPLES_MAX: usize = 50_000;

/// What a target says of a metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metadata {
    /// Its type; empty if it was not told.
    pub kind: String,
    /// Its help text.
    pub help: String,
}

/// What became of the samples of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples in the text.
    pub scraped: usize,
    /// Series that were not there in the scrape before.
    pub added: usize,
    /// Samples that the store did not take.
    pub refused: usize,
}

/// What is written about a scrape, whether it succeeded or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Whether it succeeded.
    pub up: bool,
    /// How long it took.
    pub duration: Duration,
    /// What it brought.
    pub counts: Counts,
}

/// A series that the last good scrape had.
#[derive(Debug)]
struct Known {
    series: SeriesRef,
    /// The last scrape that had it.
    turn: u64,
    /// Whether it has to be marked when it is gone: it is not yet, and its samples have no times of their own.
    live: bool,
}

/// What is remembered of one target from scrape to scrape.
#[derive(Debug)]
pub struct Ingest {
    labels: Vec<(String, String)>,
    known: HashMap<Box<str>, Known>,
    metadata: HashMap<Box<str>, Metadata>,
    reports: HashMap<&'static str, SeriesRef>,
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
    New(Labels),
}

impl Ingest {
    /// For a target whose series all carry `labels`.
    #[must_use]
    pub fn new(labels: Vec<(String, String)>) -> Self {
        Self {
            labels,
            known: HashMap::new(),
            metadata: HashMap::new(),
            reports: HashMap::new(),
            turn: 0,
        }
    }

    /// What the target says of its metrics.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.metadata.iter().map(|(name, told)| (&**name, told))
    }

    /// Takes a scrape in, all of it or nothing: a scrape that is half read would be a service that is half gone.
    /// After an error call [`Ingest::fail`].
    pub fn take(
        &mut self,
        store: &RwLock<Store>,
        body: &[u8],
        at: i64,
    ) -> Result<Counts, (TextError, Counts)> {
        self.turn += 1;
        let mut found = Vec::with_capacity(self.known.len() + 16);
        let result = text::read(body, |line, content| match content {
            Line::Sample(raw) => self.find(line, raw, at).and_then(|one| {
                found.push(one);
                if found.len() > SAMPLES_MAX {
                    return Err(format!("more than the limit of {SAMPLES_MAX} samples"));
                }
                Ok(())
            }),
            Line::Help(name, help) => {
                self.describe(name, |told| &mut told.help, help, text::help);
                Ok(())
            }
            Line::Type(name, kind) => {
                let kind = if kind == "untyped" { "unknown" } else { kind };
                self.describe(name, |told| &mut told.kind, kind, str::to_owned);
                Ok(())
            }
        });
        let mut counts = Counts {
            scraped: found.len(),
            ..Counts::default()
        };
        result.map_err(|error| (error, counts))?;
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        let error = |error| (error, counts);
        let found = self.register(&mut store, found).map_err(error)?;
        counts.refused = counts.scraped - found.len();
        for one in found {
            counts.added += usize::from(matches!(one.series, Series::New(_)));
            counts.refused += usize::from(!self.append(&mut store, &one));
        }
        self.mark_vanished(&mut store, at);
        Ok(counts)
    }

    fn find<'a>(
        &mut self,
        line: usize,
        raw: text::RawSample<'a>,
        at: i64,
    ) -> Result<Found<'a>, String> {
        let series = match self.known.get_mut(raw.series) {
            Some(known) if known.turn == self.turn => return Err(twice(raw.series)),
            Some(known) => {
                known.turn = self.turn;
                known.live = raw.timestamp.is_none();
                Series::Known(known.series)
            }
            None => Series::New(self.merged(text::labels(raw.series)?)),
        };
        Ok(Found {
            line,
            text: raw.series,
            series,
            sample: Sample::new(raw.timestamp.unwrap_or(at), raw.value),
            timed: raw.timestamp.is_some(),
        })
    }

    /// The labels of a series and those of its target. Where both have one, the target's is meant.
    fn merged(&self, own: Vec<text::Label<'_>>) -> Labels {
        let own = own.into_iter().map(|(name, value)| {
            let taken = self.labels.iter().any(|(target, _)| *target == name);
            let name = if taken {
                format!("exported_{name}")
            } else {
                name.into_owned()
            };
            (name, value.into_owned())
        });
        Labels::new(own.chain(self.labels.iter().cloned()))
    }

    fn describe(
        &mut self,
        name: &str,
        field: impl Fn(&mut Metadata) -> &mut String,
        text: &str,
        read: impl Fn(&str) -> String,
    ) {
        let told = match self.metadata.get_mut(name) {
            Some(told) => told,
            None => self.metadata.entry(name.into()).or_default(),
        };
        let kept = field(told);
        // Escapes are rare: mostly the text is the same as the last time, and nothing is copied.
        if kept != text {
            *kept = read(text);
        }
    }

    /// Gives the new series their places in the store. Those for which there is no room are left out.
    fn register<'a>(
        &mut self,
        store: &mut Store,
        found: Vec<Found<'a>>,
    ) -> Result<Vec<Found<'a>>, TextError> {
        let is_new = |one: &Found<'_>| matches!(one.series, Series::New(_));
        if !found.iter().any(is_new) {
            return Ok(found);
        }
        let mut taken: HashSet<SeriesRef> = HashSet::with_capacity(found.len());
        for one in &found {
            if let Series::Known(series) = one.series {
                taken.insert(series);
            }
        }
        let mut kept = Vec::with_capacity(found.len());
        for one in found {
            if let Series::New(labels) = &one.series {
                let Ok(series) = store.register(labels, RAW_KEPT) else {
                    continue;
                };
                // The same labels in another order, or the same text for the second time.
                if !taken.insert(series) {
                    return Err(TextError {
                        line: one.line,
                        why: twice(one.text),
                    });
                }
                let known = Known {
                    series,
                    turn: self.turn,
                    live: !one.timed,
                };
                self.known.insert(one.text.into(), known);
            }
            kept.push(one);
        }
        Ok(kept)
    }

    /// Whether the store took the sample.
    fn append(&mut self, store: &mut Store, one: &Found<'_>) -> bool {
        let series = match &one.series {
            Series::Known(series) => *series,
            Series::New(_) => match self.known.get(one.text) {
                Some(known) => known.series,
                None => return false,
            },
        };
        match store.append(series, one.sample) {
            Ok(()) => true,
            Err(AppendError::UnknownSeries) => {
                let Some(series) = self.register_again(store, one.text) else {
                    return false;
                };
                store.append(series, one.sample).is_ok()
            }
            Err(_) => false,
        }
    }

    /// For a series that the store has dropped since, because it had no sample for long.
    fn register_again(&mut self, store: &mut Store, text: &str) -> Option<SeriesRef> {
        let labels = self.merged(text::labels(text).ok()?);
        let series = store.register(&labels, RAW_KEPT).ok()?;
        self.known.get_mut(text)?.series = series;
        Some(series)
    }

    fn mark_vanished(&mut self, store: &mut Store, at: i64) {
        let turn = self.turn;
        self.known.retain(|_, known| {
            if known.turn != turn {
                known.mark(store, at);
            }
            known.turn == turn
        });
    }

    /// After a scrape that failed: every series is marked as gone. They are remembered, so that they are not new
    /// when the target comes back.
    pub fn fail(&mut self, store: &RwLock<Store>, at: i64) {
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        for known in self.known.values_mut() {
            known.mark(&mut store, at);
        }
    }

    /// When the target is no target any more: what is written about it ends, too.
    pub fn end(&mut self, store: &RwLock<Store>, at: i64) {
        self.fail(store, at);
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        for series in self.reports.values() {
            // What the store has dropped needs no marker.
            drop(store.append(*series, Sample::stale(at)));
        }
    }

    /// Writes `up` and its companions. Returns how many the store did not take.
    pub fn report(&mut self, store: &RwLock<Store>, at: i64, report: &Report) -> usize {
        let Report {
            up,
            duration,
            counts,
        } = report;
        let values = [
            ("up", f64::from(u8::from(*up))),
            ("scrape_duration_seconds", duration.as_secs_f64()),
            ("scrape_samples_scraped", counts.scraped as f64),
            (
                "scrape_samples_post_metric_relabeling",
                counts.scraped as f64,
            ),
            ("scrape_series_added", counts.added as f64),
        ];
        let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
        let mut refused = 0;
        for (name, value) in values {
            let labels = || {
                let name = [("__name__".to_owned(), name.to_owned())];
                Labels::new(self.labels.iter().cloned().chain(name))
            };
            let sample = Sample::new(at, value);
            let known = self.reports.get(name).copied();
            let appended = match known.map(|series| (series, store.append(series, sample))) {
                Some((series, Ok(()))) => Ok(series),
                None | Some((_, Err(AppendError::UnknownSeries))) => store
                    .register(&labels(), RAW_KEPT)
                    .and_then(|series| store.append(series, sample).map(|()| series)),
                Some((_, Err(error))) => Err(error),
            };
            match appended {
                Ok(series) => drop(self.reports.insert(name, series)),
                Err(_) => refused += 1,
            }
        }
        refused
    }
}

impl Known {
    fn mark(&mut self, store: &mut Store, at: i64) {
        if self.live {
            // What the store has dropped needs no marker, and a full store can only be left as it is.
            drop(store.append(self.series, Sample::stale(at)));
            self.live = false;
        }
    }
}

fn twice(series: &str) -> String {
    format!("the series {series} stands twice")
}

#[cfg(test)]
mod tests {
    use promql::{Engine, Limits, Query};

    use super::*;

    struct Lab {
        store: RwLock<Store>,
        ingest: Ingest,
    }

    fn lab(limits: Limits) -> Lab {
        let labels = [("job", "firedrill"), ("instance", "a:1"), ("role", "shop")];
        let owned = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Lab {
            store: RwLock::new(Store::new(limits)),
            ingest: Ingest::new(owned.into()),
        }
    }

    impl Lab {
        fn take(&mut self, text: &str, at: i64) -> Result<Counts, String> {
            let result = self.ingest.take(&self.store, text.as_bytes(), at);
            result.map_err(|(error, _)| error.to_string())
        }

        fn ask(&self, query: &str, at: i64) -> Vec<String> {
            let query = Query::parse(query).unwrap();
            let store = self.store.read().unwrap();
            let value = Engine::default().instant(&store, &query, at).unwrap();
            let series = value.vector().iter();
            series
                .map(|s| format!("{} {}", s.labels, s.sample.value))
                .collect()
        }
    }

    #[test]
    fn series_carry_the_labels_of_their_target() {
        let mut lab = lab(Limits::default());
        let text =
            "# TYPE a untyped\n# HELP a Some\\nthing.\na{x=\"1\",job=\"mine\"} 5\nb 6 1500\n";
        let counts = lab.take(text, 2000).unwrap();
        assert_eq!((counts.scraped, counts.added, counts.refused), (2, 2, 0));
        assert_eq!(
            lab.ask("a", 2000),
            [r#"a{exported_job="mine", instance="a:1", job="firedrill", role="shop", x="1"} 5"#]
        );
        // Its own time counts, and it is not marked when it is gone.
        assert_eq!(lab.ask("b", 1499).len(), 0);
        assert_eq!(lab.take("c 1\n", 3000).unwrap().added, 1);
        assert_eq!((lab.ask("a", 3000).len(), lab.ask("b", 3000).len()), (0, 1));
        let told: Vec<_> = lab.ingest.metadata().collect();
        let expected = Metadata {
            kind: "unknown".into(),
            help: "Some\nthing.".into(),
        };
        assert_eq!(told, [("a", &expected)]);
    }

    #[test]
    fn what_is_gone_is_marked_and_may_come_back() {
        let mut lab = lab(Limits::default());
        assert_eq!(lab.take("a 1\nb 1\n", 1000).unwrap().added, 2);
        assert_eq!(lab.take("a 2\n", 2000).unwrap().added, 0);
        assert_eq!((lab.ask("a", 2000).len(), lab.ask("b", 2000).len()), (1, 0));
        assert_eq!(lab.take("b 3\na 3\n", 3000).unwrap().added, 1);
        assert_eq!(lab.ask("b", 3000).len(), 1);
        lab.ingest.fail(&lab.store, 4000);
        assert_eq!(lab.ask("{__name__=~\"a|b\"}", 4000).len(), 0);
        assert_eq!(lab.take("a 5\nb 5\n", 5000).unwrap().added, 0);
        assert_eq!(lab.ask("{__name__=~\"a|b\"}", 5000).len(), 2);
    }

    #[test]
    fn a_scrape_with_a_fault_leaves_nothing() {
        let mut lab = lab(Limits::default());
        lab.take("a 1\n", 1000).unwrap();
        for (text, why) in [
            ("a 2\nnew 1", "line 2: it has no line feed"),
            ("a 2\na 2\n", "line 2: the series a stands twice"),
            (
                "n{x=\"1\",y=\"2\"} 1\nn{y=\"2\",x=\"1\"} 1\n",
                "line 2: the series n",
            ),
            ("a 2\na{} 2\n", "line 2: the series a{} stands twice"),
            ("new 1\nnew 2\n", "line 2: the series new stands twice"),
            ("a 2\nb{x=1} 2\n", "line 2: "),
        ] {
            let error = lab.take(text, 2000).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
            assert_eq!(lab.ask("{__name__=~\"new|n|b\"}", 2000).len(), 0);
            let a = lab.ask("a", 2000);
            assert!(a.len() == 1 && a[0].ends_with(" 1"), "{a:?}");
        }
        let many = "a{x=\"1\"} 1\n".repeat(2);
        assert!(lab.take(&many, 2000).is_err());
        let many: Vec<_> = (0..=SAMPLES_MAX).map(|i| format!("m{i} 1\n")).collect();
        let many = many.concat();
        let error = lab.take(&many, 2000).unwrap_err();
        assert!(error.contains("limit of 50000"), "{error}");
        assert!(lab.take("a 2\n", 3000).is_ok());
    }

    #[test]
    fn what_a_full_store_does_not_take_is_counted() {
        let mut lab = lab(Limits {
            max_series: 2,
            max_bytes: 1 << 20,
        });
        let counts = lab.take("a 1\nb 1\nc 1\n", 1000).unwrap();
        assert_eq!((counts.added, counts.refused), (2, 1));
        let report = Report {
            up: true,
            duration: Duration::from_millis(5),
            counts,
        };
        assert_eq!(lab.ingest.report(&lab.store, 1000, &report), 5);
        assert_eq!(lab.take("a 1\nb 1\nc 1\n", 2000).unwrap().refused, 1);
    }

    #[test]
    fn a_series_that_the_store_has_dropped_is_registered_again() {
        let mut lab = lab(Limits::default());
        lab.take("a 1\n", 1000).unwrap();
        let later = 1000 + 2 * super::super::time::to_ms(RAW_KEPT);
        lab.store.write().unwrap().trim(later);
        assert_eq!(lab.take("a 2\n", later).unwrap().refused, 0);
        assert_eq!(lab.ask("a", later).len(), 1);
    }

    #[test]
    fn a_report_is_five_series_that_end_with_the_target() {
        let mut lab = lab(Limits::default());
        lab.take("a 1\n", 1000).unwrap();
        let report = Report {
            up: true,
            duration: Duration::from_millis(250),
            counts: Counts {
                scraped: 7,
                added: 2,
                refused: 0,
            },
        };
        assert_eq!(lab.ingest.report(&lab.store, 1000, &report), 0);
        let up = r#"up{instance="a:1", job="firedrill", role="shop"} 1"#;
        assert_eq!(lab.ask("up", 1000), [up]);
        for (name, value) in [
            ("scrape_duration_seconds", "0.25"),
            ("scrape_samples_scraped", "7"),
            ("scrape_samples_post_metric_relabeling", "7"),
            ("scrape_series_added", "2"),
        ] {
            assert!(
                lab.ask(name, 1000)[0].ends_with(&format!(" {value}")),
                "{name}"
            );
        }
        lab.ingest.end(&lab.store, 2000);
        assert_eq!(lab.ask("{job=\"firedrill\"}", 2000), Vec::<String>::new());
    }
}
