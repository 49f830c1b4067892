//! `up` and its companions: what is written about a scrape, whether it succeeded or not.

use std::time::Duration;

use promql::{AppendError, Labels, Sample, SeriesRef, Store};

use super::{Counts, RAW_KEPT};

/// The names, in the order of [`Report::values`].
const NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// What is written about a scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Whether it succeeded.
    pub up: bool,
    /// How long it took.
    pub duration: Duration,
    /// What it brought.
    pub counts: Counts,
}

impl Report {
    fn values(&self) -> [f64; NAMES.len()] {
        let scraped = self.counts.scraped as f64;
        [
            f64::from(u8::from(self.up)),
            self.duration.as_secs_f64(),
            scraped,
            scraped,
            self.counts.added as f64,
        ]
    }
}

/// The series of the reports about one target.
#[derive(Debug)]
pub(super) struct Reports([(Labels, Option<SeriesRef>); NAMES.len()]);

impl Reports {
    pub(super) fn new(target: &[(String, String)]) -> Self {
        Self(NAMES.map(|name| {
            let name = [("__name__".to_owned(), name.to_owned())];
            (Labels::new(target.iter().cloned().chain(name)), None)
        }))
    }

    /// Takes their places in the store, before others have taken them all.
    pub(super) fn register(&mut self, store: &mut Store) {
        for (labels, series) in &mut self.0 {
            // Without a place it is tried again with each report.
            *series = store.register(labels, RAW_KEPT).ok();
        }
    }

    /// Returns how many samples the store did not take.
    pub(super) fn write(&mut self, store: &mut Store, at: i64, report: &Report) -> usize {
        let mut refused = 0;
        for ((labels, series), value) in self.0.iter_mut().zip(report.values()) {
            let sample = Sample::new(at, value);
            let appended = series.map(|series| store.append(series, sample));
            let again = matches!(appended, None | Some(Err(AppendError::UnknownSeries)));
            let written = if again {
                store.register(labels, RAW_KEPT).and_then(|now| {
                    *series = Some(now);
                    store.append(now, sample)
                })
            } else {
                appended.unwrap_or(Ok(()))
            };
            refused += usize::from(written.is_err());
        }
        refused
    }

    /// Marks them as gone.
    pub(super) fn end(&self, store: &mut Store, at: i64) {
        for series in self.0.iter().filter_map(|(_, series)| *series) {
            // What the store has dropped needs no marker.
            drop(store.append(series, Sample::stale(at)));
        }
    }
}
