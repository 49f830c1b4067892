//! One series: its labels, its chunks, and how long they are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk::{COUNTERS_BYTES, Chunk, OpenChunk};
use crate::labels::{Label, Labels};
use crate::value::Sample;

/// What a vector of bytes may grow by at the first samples of a chunk.
const FIRST_GROWTH: usize = 64;

/// A series of the store. A copy shares what is sealed, so it costs the copy of one open chunk, and the store goes on
/// without it.
#[derive(Debug, Clone)]
pub struct Series {
    labels: Labels,
    retention: i64,
    sealed: Arc<VecDeque<Chunk>>,
    sealed_bytes: usize,
    open: OpenChunk,
    last: Option<Sample>,
}

impl Series {
    pub(crate) fn new(labels: Labels, retention: i64) -> Self {
        Self {
            labels,
            retention,
            sealed: Arc::default(),
            sealed_bytes: 0,
            open: OpenChunk::default(),
            last: None,
        }
    }

    /// What identifies the series.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The newest sample, which may be a stale marker.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        self.last
    }

    /// Appends the samples of `from..=to` (milliseconds since 1970) to `into`, oldest first, stale markers
    /// included.
    pub fn read(&self, from: i64, to: i64, into: &mut Vec<Sample>) {
        let older = self
            .sealed
            .partition_point(|chunk| chunk.last_timestamp() < from);
        let sealed = self.sealed.range(older..);
        for chunk in sealed.take_while(|chunk| chunk.overlaps(from, to)) {
            extend(into, chunk.samples(), from, to);
        }
        if self.open.overlaps(from, to) {
            extend(into, self.open.samples(), from, to);
        }
    }

    /// Whether a sample lies in `from..=to`, as far as the bounds of the chunks tell.
    #[must_use]
    pub fn overlaps(&self, from: i64, to: i64) -> bool {
        self.open.overlaps(from, to) || self.sealed.iter().any(|chunk| chunk.overlaps(from, to))
    }

    /// How many samples are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len() + self.sealed.iter().map(Chunk::len).sum::<usize>()
    }

    /// Whether no sample is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty()
    }

    pub(crate) fn keep_at_least(&mut self, retention: i64) {
        self.retention = self.retention.max(retention);
    }

    /// Appends without looking at the order. A full chunk is sealed first, and those past their time go.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.open.is_full() {
            let chunk = self.open.seal();
            self.sealed_bytes += chunk.heap_bytes();
            Arc::make_mut(&mut self.sealed).push_back(chunk);
            self.trim_sealed(sample.timestamp);
        }
        self.open.push(sample);
        self.last = Some(sample);
    }

    /// Drops the chunks whose newest sample is older than the retention at `now`.
    pub(crate) fn trim(&mut self, now: i64) {
        self.trim_sealed(now);
        let expired = now.saturating_sub(self.retention);
        if self.last.is_some_and(|last| last.timestamp < expired) {
            self.open = OpenChunk::default();
        }
        if self.sealed.is_empty() {
            self.sealed = Arc::default();
        }
    }

    fn trim_sealed(&mut self, now: i64) {
        let expired = now.saturating_sub(self.retention);
        while let Some(chunk) = self.sealed.front()
            && chunk.last_timestamp() < expired
        {
            self.sealed_bytes -= chunk.heap_bytes();
            Arc::make_mut(&mut self.sealed).pop_front();
        }
    }

    /// The memory that the series takes, index entries apart.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<VecDeque<Chunk>>()
            + COUNTERS_BYTES
            + self.labels.len() * size_of::<Label>()
            + self.sealed.capacity() * size_of::<Chunk>()
            + self.sealed_bytes
            + self.open.heap_bytes()
    }

    /// The most that the next sample may add to it: vectors at most double, and a full chunk is copied.
    pub(crate) fn growth(&self) -> usize {
        let open = self.open.heap_bytes().max(FIRST_GROWTH);
        if !self.open.is_full() {
            return open;
        }
        // A list that a copy shares is copied without its spare room.
        let is_shared = Arc::strong_count(&self.sealed) > 1;
        let list = if is_shared || self.sealed.len() == self.sealed.capacity() {
            self.sealed.capacity().max(4) * size_of::<Chunk>()
        } else {
            0
        };
        2 * open + list
    }
}

fn extend(into: &mut Vec<Sample>, samples: impl Iterator<Item = Sample>, from: i64, to: i64) {
    let wanted = samples
        .skip_while(|sample| sample.timestamp < from)
        .take_while(|sample| sample.timestamp <= to);
    into.extend(wanted);
}
