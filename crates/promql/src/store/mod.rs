//! The store: recent samples, compressed, in memory, within bounds.
//!
//! A scraper registers each series once and appends by [`SeriesRef`], so that no label is hashed for a sample. Two
//! bounds hold at any time: how many series there are and how many bytes they take. What does not fit is refused with
//! an error that says so; nothing that was accepted is lost before its retention has passed.
//!
//! The store has no lock of its own. Wrap it in an `RwLock`: appending a scrape holds the write half for about a
//! millisecond, and queries share the read half, or only [load](crate::Engine::load) under it.

mod bits;
mod chunk;
mod index;
mod matcher;
mod pattern;
mod series;
mod translate;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use index::Index;
pub use matcher::Matcher;
pub(crate) use matcher::not_a_pattern;
pub(crate) use pattern::{Pattern, Texts, compiled};
pub use series::Series;

use crate::error::AppendError;
use crate::labels::Labels;
use crate::value::Sample;

/// What a place for a series and its entry among all labels cost, spare room of the tables included.
const SLOT_BYTES: usize = 2 * size_of::<Slot>() - size_of::<Series>() + 64;

/// How much a store may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most series at a time.
    pub max_series: usize,
    /// The most bytes for samples, labels and index.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 50 000 series and 256 MiB.
    fn default() -> Self {
        Self {
            max_series: 50_000,
            max_bytes: 256 << 20,
        }
    }
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Series with at least one sample, or registered since the last trim.
    pub series: usize,
    /// Samples of all series.
    pub samples: usize,
    /// The memory they take, labels and index included.
    pub bytes: usize,
}

/// Names a series for appending. It outlives the series: appending to one that is gone is an error, and the series
/// has to be registered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesRef {
    position: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    series: Option<Series>,
}

/// Series and their samples. See the [module](self).
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_labels: HashMap<Labels, u32>,
    index: Index,
    series_bytes: usize,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_labels: HashMap::new(),
            index: Index::default(),
            series_bytes: 0,
        }
    }

    /// Finds or adds the series with these labels. Its samples are kept for at least `retention`; of several
    /// retentions given for one series the longest holds.
    ///
    /// Fails if a new series would exceed a bound, or if there is no label.
    pub fn register(
        &mut self,
        labels: &Labels,
        retention: Duration,
    ) -> Result<SeriesRef, AppendError> {
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        if let Some(position) = self.by_labels.get(labels).copied() {
            let slot = &mut self.slots[position as usize];
            if let Some(series) = &mut slot.series {
                series.keep_at_least(retention);
            }
            let generation = slot.generation;
            return Ok(SeriesRef {
                position,
                generation,
            });
        }
        if labels.is_empty() {
            return Err(AppendError::NoLabels);
        }
        if self.by_labels.len() >= self.limits.max_series {
            return Err(AppendError::TooManySeries {
                limit: self.limits.max_series,
            });
        }
        let cost = Index::cost(labels) + Series::new(labels.clone(), retention).bytes();
        self.check_room(cost + SLOT_BYTES)?;
        Ok(self.add(labels, retention))
    }

    fn add(&mut self, labels: &Labels, retention: i64) -> SeriesRef {
        let position = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                series: None,
            });
            u32::try_from(self.slots.len() - 1).expect("a series takes more than one byte")
        });
        let labels = self.index.insert(labels, position);
        let series = Series::new(labels.clone(), retention);
        self.series_bytes += series.bytes() + SLOT_BYTES;
        self.by_labels.insert(labels, position);
        let slot = &mut self.slots[position as usize];
        slot.series = Some(series);
        SeriesRef {
            position,
            generation: slot.generation,
        }
    }

    fn check_room(&self, more: usize) -> Result<(), AppendError> {
        if self.bytes() + more > self.limits.max_bytes {
            return Err(AppendError::OutOfMemory {
                limit: self.limits.max_bytes,
            });
        }
        Ok(())
    }

    /// Appends a sample. The same sample twice is accepted once, as in Prometheus.
    ///
    /// Fails if the series is gone, if the sample is older than the newest one or differs from it at the same time,
    /// or if it may exceed the bound of memory.
    pub fn append(&mut self, series: SeriesRef, sample: Sample) -> Result<(), AppendError> {
        let total = self.bytes();
        let slot = self.slots.get_mut(series.position as usize);
        let series = slot
            .filter(|slot| slot.generation == series.generation)
            .and_then(|slot| slot.series.as_mut())
            .ok_or(AppendError::UnknownSeries)?;
        if let Some(last) = series.last() {
            if sample.timestamp < last.timestamp {
                return Err(AppendError::OutOfOrder {
                    timestamp: sample.timestamp,
                    newest: last.timestamp,
                });
            }
            if sample.timestamp == last.timestamp {
                return if sample.value.to_bits() == last.value.to_bits() {
                    Ok(())
                } else {
                    Err(AppendError::Duplicate {
                        timestamp: sample.timestamp,
                    })
                };
            }
        }
        if total + series.growth() > self.limits.max_bytes {
            return Err(AppendError::OutOfMemory {
                limit: self.limits.max_bytes,
            });
        }
        let before = series.bytes();
        series.push(sample);
        self.series_bytes = self.series_bytes + series.bytes() - before;
        Ok(())
    }

    /// Drops the chunks that are past their retention at `now` (milliseconds since 1970), and the series without any
    /// sample left. Call it now and then: a series that gets no samples is not trimmed otherwise.
    pub fn trim(&mut self, now: i64) {
        for position in 0..self.slots.len() {
            let slot = &mut self.slots[position];
            let Some(series) = &mut slot.series else {
                continue;
            };
            let before = series.bytes();
            series.trim(now);
            self.series_bytes = self.series_bytes + series.bytes() - before;
            if series.is_empty() {
                self.remove(position);
            }
        }
    }

    fn remove(&mut self, position: usize) {
        let slot = &mut self.slots[position];
        let Some(series) = slot.series.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        let position = u32::try_from(position).expect("positions are handed out as u32");
        self.free.push(position);
        self.by_labels.remove(series.labels());
        self.index.remove(series.labels(), position);
        self.series_bytes -= series.bytes() + SLOT_BYTES;
    }

    /// The memory that series, labels and index take. Never above [`Limits::max_bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.series_bytes + self.index.bytes()
    }

    /// What the store holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let series = self.slots.iter().filter_map(|slot| slot.series.as_ref());
        Stats {
            series: self.by_labels.len(),
            samples: series.map(Series::len).sum(),
            bytes: self.bytes(),
        }
    }

    /// The series that fulfil all conditions, in the order of their places.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher]) -> Vec<&Series> {
        let selection = self.index.select(matchers);
        let get = |position: u32| {
            let slot = self.slots.get(position as usize)?;
            slot.series
                .as_ref()
                .filter(|_| !selection.excludes(position))
        };
        match &selection.included {
            Some(positions) => positions.iter().copied().filter_map(get).collect(),
            None => (0..self.slots.len() as u64)
                .filter_map(|position| get(u32::try_from(position).ok()?))
                .collect(),
        }
    }

    /// The labels of the series that match any of the selectors (of all series if there is none) and have samples
    /// in `from..=to`, sorted.
    #[must_use]
    pub fn series(&self, selectors: &[Vec<Matcher>], from: i64, to: i64) -> Vec<Labels> {
        let found = self.select_any(selectors, from, to);
        found.into_iter().cloned().collect()
    }

    /// The names of labels that these series carry, sorted.
    #[must_use]
    pub fn label_names(&self, selectors: &[Vec<Matcher>], from: i64, to: i64) -> Vec<String> {
        let found = self.select_any(selectors, from, to);
        let names: BTreeSet<&str> = found
            .iter()
            .flat_map(|labels| labels.iter().map(|(name, _)| name))
            .collect();
        let known = self.index.names().filter(|name| names.contains(name));
        known.map(str::to_owned).collect()
    }

    /// The values that these series have for the label, sorted.
    #[must_use]
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        from: i64,
        to: i64,
    ) -> Vec<String> {
        let found = self.select_any(selectors, from, to);
        let values: BTreeSet<&str> = found.iter().map(|labels| labels.get(name)).collect();
        let known = self
            .index
            .values(name)
            .filter(|value| values.contains(value));
        known.map(str::to_owned).collect()
    }

    fn select_any(&self, selectors: &[Vec<Matcher>], from: i64, to: i64) -> BTreeSet<&Labels> {
        let all = [Vec::new()];
        let selectors = if selectors.is_empty() {
            &all
        } else {
            selectors
        };
        selectors
            .iter()
            .flat_map(|matchers| self.select(matchers))
            .filter(|series| series.overlaps(from, to))
            .map(Series::labels)
            .collect()
    }
}
