//! One trace, as far as it has arrived.
//!
//! What a list or a filter asks for is kept up to date span by span: to work it out anew for thousands of
//! traces at each look would hold up the spans that arrive meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::span::{Span, Status, TraceId};
use super::traces::Limits;

/// A trace that lasts this long or longer is slow.
pub const SLOW: Duration = Duration::from_millis(250);

/// One trace: the spans that have arrived so far.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// Its spans, in the order of their arrival.
    pub spans: Vec<Arc<Span>>,
    /// Spans that were not kept, because the trace is too large.
    pub spans_dropped: u64,
    pub(super) arrival: u64,
    pub(super) bytes: usize,
    pub(super) latest: Instant,
    pub(super) start_ns: u64,
    end_ns: u64,
    pub(super) errors: usize,
    pub(super) services: BTreeSet<Arc<str>>,
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

impl Trace {
    pub(super) fn new(id: TraceId, arrival: u64) -> Self {
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

    pub(super) fn add(&mut self, span: Span, limits: &Limits) {
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

    pub(super) fn duration(&self) -> Duration {
        Duration::from_nanos(self.end_ns.saturating_sub(self.start_ns))
    }

    pub(super) fn is_notable(&self) -> bool {
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
