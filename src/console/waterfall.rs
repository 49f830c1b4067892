//! A trace as a waterfall: parents above their children, in the order of time.
//!
//! Spans arrive in any order, from several processes, and some never do. A span whose parent is not there, or
//! whose ancestors run in a circle, is still shown: what is odd is what one came to look at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::span::{Span, SpanId, Status};
use super::trace::{Summary, Trace};

/// A trace, whole.
#[derive(Debug, Serialize)]
pub struct Waterfall {
    /// The trace in one line.
    #[serde(flatten)]
    pub summary: Summary,
    /// Spans that were not kept, because the trace is too large.
    pub spans_dropped: u64,
    /// Its spans, each below its parent.
    pub rows: Vec<Row>,
}

/// A span in its place.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub id: SpanId,
    /// The id of its parent; `null` for a root.
    pub parent: Option<SpanId>,
    /// How many ancestors stand above it.
    pub depth: usize,
    /// Whether it stands at the top although it names a parent: that has not arrived.
    pub detached: bool,
    /// What was done.
    pub name: String,
    /// Who did it.
    pub service: String,
    /// Which of its processes did it; empty if unknown.
    pub instance: String,
    /// `internal`, `server`, `client`, `producer`, `consumer` or `unspecified`.
    pub kind: &'static str,
    /// When it began, in seconds after the trace did.
    pub start_offset_s: f64,
    /// How long it lasted, in seconds.
    pub duration_s: f64,
    /// How it ended.
    pub status: Status,
    /// What its process said about the status.
    pub message: String,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// Puts the spans of `trace` in order.
#[must_use]
pub fn waterfall(trace: &Trace) -> Waterfall {
    let rows = order(&trace.spans)
        .into_iter()
        .map(|(depth, span)| row(span, depth, trace.start_ns))
        .collect();
    Waterfall {
        summary: trace.summary(),
        spans_dropped: trace.spans_dropped,
        rows,
    }
}

fn row(span: &Span, depth: usize, start_ns: u64) -> Row {
    let seconds = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from)).as_secs_f64();
    Row {
        id: span.id,
        parent: span.parent,
        depth,
        detached: depth == 0 && span.parent.is_some(),
        name: span.name.clone(),
        service: span.service.to_string(),
        instance: span.instance.to_string(),
        kind: span.kind,
        start_offset_s: seconds(start_ns, span.start_ns),
        duration_s: seconds(span.start_ns, span.end_ns),
        status: span.status,
        message: span.message.clone(),
        attributes: span.attributes.iter().cloned().collect(),
    }
}

/// Each span once, with its depth: parents first, siblings by their beginning.
fn order(spans: &[Arc<Span>]) -> Vec<(usize, &Span)> {
    // A span is taken out of here when it is placed, so that a circle ends.
    let mut waiting: HashMap<Option<SpanId>, Vec<&Span>> = HashMap::new();
    let known: HashSet<SpanId> = spans.iter().map(|span| span.id).collect();
    let mut latest_first: Vec<&Span> = spans.iter().map(|span| &**span).collect();
    latest_first.sort_by_key(|span| std::cmp::Reverse(span.start_ns));
    for span in &latest_first {
        let parent = span.parent.filter(|parent| known.contains(parent));
        waiting.entry(parent).or_default().push(span);
    }
    let mut placed = Vec::with_capacity(spans.len());
    place(&mut waiting, None, &mut placed);
    // Whoever is left stands in a circle, or below one: begin with the earliest.
    while let Some(first) = latest_first.pop() {
        if let Some(siblings) = waiting.get_mut(&first.parent)
            && let Some(at) = siblings.iter().position(|span| span.id == first.id)
        {
            siblings.remove(at);
            placed.push((0, first));
            place(&mut waiting, Some(first.id), &mut placed);
        }
    }
    placed
}

/// Places the descendants of `parent`, without recursion: the depth is the sender's to choose.
fn place<'a>(
    waiting: &mut HashMap<Option<SpanId>, Vec<&'a Span>>,
    parent: Option<SpanId>,
    placed: &mut Vec<(usize, &'a Span)>,
) {
    let base = usize::from(parent.is_some());
    let mut path = vec![waiting.remove(&parent).unwrap_or_default()];
    while let Some(siblings) = path.last_mut() {
        let Some(span) = siblings.pop() else {
            path.pop();
            continue;
        };
        placed.push((base + path.len() - 1, span));
        path.push(waiting.remove(&Some(span.id)).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::span::TraceId;

    fn span(id: u8, parent: u8, start_ns: u64) -> Arc<Span> {
        Arc::new(Span {
            trace: TraceId::from_bytes(&[1; 16]).unwrap(),
            id: SpanId::from_bytes(&[id; 8]).unwrap(),
            parent: SpanId::from_bytes(&[parent; 8]),
            name: id.to_string(),
            service: Arc::from("shop"),
            instance: Arc::from(""),
            kind: "internal",
            start_ns,
            end_ns: start_ns + 1,
            status: Status::Unset,
            message: String::new(),
            attributes: Vec::new(),
        })
    }

    fn shape(spans: &[Arc<Span>]) -> Vec<(usize, &str)> {
        let name = |(depth, span): (usize, &Span)| {
            let at = spans.iter().position(|other| other.id == span.id).unwrap();
            (depth, &*spans[at].name)
        };
        order(spans).into_iter().map(name).collect()
    }

    #[test]
    fn children_stand_below_their_parents_in_time_order() {
        // Arrived in no order: 1 has the children 3 and 2, and 3 has the child 4.
        let spans = [
            span(4, 3, 30),
            span(2, 1, 40),
            span(1, 0, 10),
            span(3, 1, 20),
        ];
        assert_eq!(shape(&spans), [(0, "1"), (1, "3"), (2, "4"), (1, "2")]);
    }

    #[test]
    fn a_span_without_its_parent_is_shown_at_the_top() {
        let spans = [span(2, 9, 20), span(1, 0, 10), span(3, 2, 30)];
        assert_eq!(shape(&spans), [(0, "1"), (0, "2"), (1, "3")]);
    }

    #[test]
    fn a_circle_is_shown_once() {
        // 2 and 3 are each other's parents, 4 is its own, 5 is below the circle.
        let spans = [
            span(1, 0, 10),
            span(2, 3, 20),
            span(3, 2, 30),
            span(4, 4, 40),
            span(5, 3, 50),
        ];
        let shape = shape(&spans);
        assert_eq!(shape, [(0, "1"), (0, "2"), (1, "3"), (2, "5"), (0, "4")]);
    }

    #[test]
    fn a_deep_chain_needs_no_deep_stack() {
        let spans: Vec<_> = (1..=255).map(|id| span(id, id - 1, id.into())).collect();
        assert_eq!(order(&spans).last().unwrap().0, 254);
    }
}
