//! The last traces, in memory, within bounds.
//!
//! An outage sends more spans than any other time, so the store must not grow with it. It also must not let
//! the many ordinary traces push out the few that explain something: failed and slow ones stand on a shelf of
//! their own, each shelf with half of the room, and on each the oldest goes first.
//!
//! The lock is held for map operations only, never across an await; who reads is given clones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::span::{Span, Status, TraceId};

/// The bounds of a store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Traces that are kept.
    pub traces: usize,
    /// Bytes that they may take, roughly.
    pub bytes: usize,
    /// Spans of one trace that are kept; further ones are counted only.
    pub trace_spans: usize,
    /// Bytes of one trace that are kept, roughly; what goes beyond is counted only.
    pub trace_bytes: usize,
}

/// The bounds that the console uses.
pub const LIMITS: Limits = Limits {
    traces: 8000,
    bytes: 16 * 1024 * 1024,
    trace_spans: 512,
    trace_bytes: 1024 * 1024,
};

/// A trace that lasts this long or longer is slow.
pub const SLOW: Duration = Duration::from_millis(250);

/// Traces that can be added to and asked for from any thread.
#[derive(Debug)]
pub struct Traces {
    limits: Limits,
    kept: Mutex<Kept>,
}

/// One trace: the spans that have arrived so far.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// Its spans, in the order of their arrival.
    pub spans: Vec<Arc<Span>>,
    /// Spans that were not kept, because the trace is too large.
    pub spans_dropped: u64,
    arrival: u64,
    bytes: usize,
    latest: Instant,
    start_ns: u64,
    end_ns: u64,
    errors: usize,
    services: BTreeSet<Arc<str>>,
}

/// A trace in one line.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Its id.
    pub id: TraceId,
    /// The name of its root span or, while that has not arrived, of its earliest span.
    pub name: String,
    /// Whether the root span has arrived.
    pub root_arrived: bool,
    /// When it began, in seconds since the epoch.
    pub start_s: f64,
    /// From the beginning of the first span to the end of the last, in seconds.
    pub duration_s: f64,
    /// The services that took part, by name.
    pub services: Vec<String>,
    /// How many spans have arrived.
    pub spans: u64,
    /// How many of the kept spans failed.
    pub errors: usize,
    /// Whether its root span failed: what the user saw.
    pub failed: bool,
}

/// Which traces are asked for.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only those in which a span failed.
    pub errors: bool,
    /// Only those that lasted this long or longer.
    pub at_least: Duration,
    /// Only those in which this service took part.
    pub service: Option<String>,
    /// Only those that no span was added to for so long: the parts of a trace arrive one by one.
    pub quiet: Duration,
    /// At most so many.
    pub limit: usize,
}

/// The traces that a filter let through, latest beginning first.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// How many there are in all.
    pub matched: usize,
    /// The first of them.
    pub traces: Vec<Summary>,
}

/// What a store holds and has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Traces that are kept.
    pub traces: usize,
    /// Bytes that they take, roughly.
    pub bytes: usize,
    /// Spans that were taken in.
    pub spans_received: u64,
    /// Spans that were rejected as malformed.
    pub spans_rejected: u64,
    /// Traces that had to go.
    pub traces_evicted: u64,
}

impl Filter {
    /// Every trace, the latest `limit`.
    #[must_use]
    pub fn all(limit: usize) -> Self {
        Self {
            errors: false,
            at_least: Duration::ZERO,
            service: None,
            quiet: Duration::ZERO,
            limit,
        }
    }

    fn lets_through(&self, trace: &Trace) -> bool {
        let service = self.service.as_deref();
        (!self.errors || trace.errors > 0)
            && trace.duration() >= self.at_least
            && trace.latest.elapsed() >= self.quiet
            && service.is_none_or(|name| trace.services.contains(name))
    }
}

impl Traces {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            kept: Mutex::default(),
        }
    }

    /// Takes spans in; `rejected` others of the same export were malformed.
    pub fn add(&self, spans: Vec<Span>, rejected: u64) {
        let mut kept = self.lock();
        kept.spans_received += spans.len() as u64;
        kept.spans_rejected += rejected;
        for span in spans {
            kept.add(span, &self.limits);
        }
        kept.evict(&self.limits);
    }

    /// The traces that `filter` lets through.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Listing {
        let kept = self.lock();
        let mut found: Vec<&Trace> = kept
            .traces
            .values()
            .filter(|trace| filter.lets_through(trace))
            .collect();
        found.sort_unstable_by_key(|trace| std::cmp::Reverse((trace.start_ns, trace.arrival)));
        let matched = found.len();
        found.truncate(filter.limit);
        let traces = found.into_iter().map(Trace::summary).collect();
        Listing { matched, traces }
    }

    /// The trace with this id.
    #[must_use]
    pub fn get(&self, id: &TraceId) -> Option<Trace> {
        self.lock().traces.get(id).cloned()
    }

    /// What the store holds and has seen.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let kept = self.lock();
        Stats {
            traces: kept.traces.len(),
            bytes: kept.shelves.iter().map(|shelf| shelf.bytes).sum(),
            spans_received: kept.spans_received,
            spans_rejected: kept.spans_rejected,
            traces_evicted: kept.evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    fn new(id: TraceId, arrival: u64) -> Self {
        Self {
            id,
            spans: Vec::new(),
            spans_dropped: 0,
            arrival,
            bytes: size_of::<Self>(),
            latest: Instant::now(),
            start_ns: u64::MAX,
            end_ns: 0,
            errors: 0,
            services: BTreeSet::new(),
        }
    }

    fn add(&mut self, span: Span, limits: &Limits) {
        // An exporter that saw no answer sends the same spans again.
        if self.spans.iter().any(|kept| kept.id == span.id) {
            return;
        }
        let bytes = span.bytes();
        if self.spans.len() == limits.trace_spans || self.bytes + bytes > limits.trace_bytes {
            self.spans_dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.latest = Instant::now();
        self.start_ns = self.start_ns.min(span.start_ns);
        self.end_ns = self.end_ns.max(span.end_ns);
        self.errors += usize::from(span.status == Status::Error);
        self.services.insert(Arc::clone(&span.service));
        self.spans.push(Arc::new(span));
    }

    /// When its first span began, in nanoseconds since the epoch.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    fn duration(&self) -> Duration {
        Duration::from_nanos(self.end_ns.saturating_sub(self.start_ns))
    }

    fn is_notable(&self) -> bool {
        self.errors > 0 || self.duration() >= SLOW
    }

    /// The trace in one line.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let root = self.spans.iter().find(|span| span.parent.is_none());
        let earliest = || self.spans.iter().min_by_key(|span| span.start_ns);
        let first = root.or_else(earliest);
        Summary {
            id: self.id,
            name: first.map(|span| span.name.clone()).unwrap_or_default(),
            root_arrived: root.is_some(),
            start_s: Duration::from_nanos(self.start_ns).as_secs_f64(),
            duration_s: self.duration().as_secs_f64(),
            services: self.services.iter().map(ToString::to_string).collect(),
            spans: self.spans.len() as u64 + self.spans_dropped,
            errors: self.errors,
            failed: root.is_some_and(|root| root.status == Status::Error),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    traces: HashMap<TraceId, Trace>,
    /// Ordinary traces, and notable ones.
    shelves: [Shelf; 2],
    arrivals: u64,
    evicted: u64,
    spans_received: u64,
    spans_rejected: u64,
}

/// Traces by their arrival, and what they take together.
#[derive(Debug, Default)]
struct Shelf {
    order: BTreeMap<u64, TraceId>,
    bytes: usize,
}

impl Shelf {
    fn is_over(&self, limits: &Limits) -> bool {
        self.order.len() > limits.traces / 2 || self.bytes > limits.bytes / 2
    }

    fn oldest(&self) -> Option<TraceId> {
        self.order.first_key_value().map(|(_, id)| *id)
    }
}

impl Kept {
    fn add(&mut self, span: Span, limits: &Limits) {
        let id = span.trace;
        let mut trace = self.take(&id).unwrap_or_else(|| {
            self.arrivals += 1;
            Trace::new(id, self.arrivals)
        });
        trace.add(span, limits);
        let place = self.place_of(&trace);
        place.order.insert(trace.arrival, id);
        place.bytes += trace.bytes;
        self.traces.insert(id, trace);
    }

    fn take(&mut self, id: &TraceId) -> Option<Trace> {
        let trace = self.traces.remove(id)?;
        let place = self.place_of(&trace);
        place.order.remove(&trace.arrival);
        place.bytes -= trace.bytes;
        Some(trace)
    }

    fn place_of(&mut self, trace: &Trace) -> &mut Shelf {
        &mut self.shelves[usize::from(trace.is_notable())]
    }

    fn evict(&mut self, limits: &Limits) {
        for number in 0..self.shelves.len() {
            while self.shelves[number].is_over(limits)
                && let Some(oldest) = self.shelves[number].oldest()
            {
                self.take(&oldest);
                self.evicted += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::span::SpanId;

    const MS: u64 = 1_000_000;

    /// Span `id` of trace `trace`, which begins at `trace` and lasts `ms`.
    fn span(trace: u64, id: u8, ms: u64) -> Span {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&trace.to_be_bytes());
        Span {
            trace: TraceId::from_bytes(&bytes).unwrap(),
            id: SpanId::from_bytes(&[id; 8]).unwrap(),
            parent: (id > 1).then(|| SpanId::from_bytes(&[1; 8]).unwrap()),
            name: format!("span {id}"),
            service: Arc::from(if id > 1 { "shop" } else { "traffic" }),
            instance: Arc::from(""),
            kind: "internal",
            start_ns: trace * MS,
            end_ns: (trace + ms) * MS,
            status: Status::Unset,
            message: String::new(),
            attributes: Vec::new(),
        }
    }

    fn failed(trace: u64) -> Span {
        Span {
            status: Status::Error,
            ..span(trace, 2, 1)
        }
    }

    fn starts(listing: &Listing) -> Vec<u64> {
        let start = |trace: &Summary| {
            let id = u128::from_str_radix(&trace.id.to_string(), 16).unwrap();
            u64::try_from(id).unwrap()
        };
        listing.traces.iter().map(start).collect()
    }

    #[test]
    fn the_oldest_ordinary_traces_go_and_notable_ones_stay() {
        let limits = Limits {
            traces: 20,
            ..LIMITS
        };
        let traces = Traces::new(limits);
        traces.add(vec![span(1, 1, 1), failed(1), span(2, 1, 300)], 0);
        traces.add((3..=102).map(|trace| span(trace, 1, 1)).collect(), 0);
        let kept = starts(&traces.list(&Filter::all(100)));
        let latest: Vec<u64> = (93..=102).rev().chain([2, 1]).collect();
        assert_eq!(kept, latest);
        assert_eq!(traces.stats().traces_evicted, 90);
    }

    #[test]
    fn a_flood_of_failures_is_bounded_too() {
        let limits = Limits {
            traces: 20,
            ..LIMITS
        };
        let traces = Traces::new(limits);
        traces.add((1..=1000).map(failed).collect(), 0);
        assert_eq!(traces.stats().traces, 10);
    }

    #[test]
    fn bytes_are_bounded() {
        let limits = Limits {
            bytes: 100_000,
            ..LIMITS
        };
        let traces = Traces::new(limits);
        for trace in 1..=100 {
            let name = "n".repeat(10_000);
            traces.add(
                vec![Span {
                    name,
                    ..span(trace, 1, 1)
                }],
                0,
            );
            assert!(traces.stats().bytes <= 50_000);
        }
        assert_eq!(starts(&traces.list(&Filter::all(100))), [100, 99, 98, 97]);
        // The count of bytes does not drift from what is there.
        let held: usize = traces.lock().traces.values().map(|trace| trace.bytes).sum();
        assert_eq!(traces.stats().bytes, held);
    }

    #[test]
    fn one_trace_is_bounded_and_says_so() {
        let limits = Limits {
            trace_spans: 3,
            ..LIMITS
        };
        let traces = Traces::new(limits);
        traces.add((1..=5).map(|id| span(1, id, 1)).collect(), 0);
        let trace = traces.get(&span(1, 1, 1).trace).unwrap();
        assert_eq!((trace.spans.len(), trace.spans_dropped), (3, 2));
        assert_eq!(trace.summary().spans, 5);
    }

    #[test]
    fn a_span_that_is_sent_again_counts_once() {
        let traces = Traces::new(LIMITS);
        traces.add(vec![failed(1), failed(1)], 0);
        let summary = traces.get(&failed(1).trace).unwrap().summary();
        assert_eq!((summary.spans, summary.errors), (1, 1));
        assert!(!summary.root_arrived);
    }

    #[test]
    fn filters_find_the_failed_the_slow_and_a_service() {
        let traces = Traces::new(LIMITS);
        traces.add(vec![span(1, 1, 1), span(2, 1, 300), failed(3)], 0);
        let with = |change: fn(&mut Filter)| {
            let mut filter = Filter::all(10);
            change(&mut filter);
            starts(&traces.list(&filter))
        };
        assert_eq!(with(|filter| filter.errors = true), [3]);
        assert_eq!(with(|filter| filter.at_least = SLOW), [2]);
        assert_eq!(with(|filter| filter.service = Some("shop".into())), [3]);
        assert_eq!(with(|filter| filter.limit = 1), [3]);
        let hour = |filter: &mut Filter| filter.quiet = Duration::from_secs(3600);
        assert!(with(hour).is_empty());
    }
}
