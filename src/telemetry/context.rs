//! W3C trace context: how a trace begins, and how it crosses from one process to the next.
//!
//! Without it each process would start traces of its own, and a slow charge could not be found from the order
//! that waited for it. Whether a trace is kept is decided here, before any span is built; a request that is
//! not kept has ids all the same, for its log lines and for whoever it calls. A `traceparent` that is malformed
//! is ignored whole, as the specification asks: the request then starts a trace of its own.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::IdGenerator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::account::{self, Account};
use super::sampler::Sampler;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Absent while this process makes no traces.
static SAMPLER: OnceLock<Sampler> = OnceLock::new();

/// From now on traces are made, as `sampler` decides.
pub(super) fn sample_by(sampler: Sampler) {
    SAMPLER.get_or_init(|| sampler);
}

/// Who a request is to the traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    /// Whether its spans are kept.
    pub(super) sampled: bool,
}

/// Opens the account of a piece of work that somebody asked for with these headers, or that begins here. `span`
/// makes its span, and is called only if the trace is kept.
pub fn open(headers: Option<&HeaderMap>, span: impl FnOnce() -> Span) -> (Arc<Account>, Span) {
    let parent = headers.and_then(parent);
    let state = parent.and_then(|_| headers?.get(&TRACESTATE).cloned());
    let Some(sampler) = SAMPLER.get() else {
        // Whoever takes part in no trace hands on what was handed in.
        return (Account::new(parent, state), Span::none());
    };
    let trace_id = parent.map_or_else(new_trace_id, |parent| parent.trace_id);
    if !sampler.keeps(trace_id, parent.map(|parent| parent.sampled)) {
        let identity = Identity {
            trace_id,
            span_id: parent.map_or_else(new_span_id, |parent| parent.span_id),
            sampled: false,
        };
        return (Account::new(Some(identity), state), Span::none());
    }
    let span = span();
    match parent {
        // Fails only where no tracer is installed; then there is no trace to join either.
        Some(parent) => {
            let caller = remote(parent, state.as_ref());
            let caller = opentelemetry::Context::new().with_remote_span_context(caller);
            drop(span.set_parent(caller));
        }
        None => NEXT_TRACE.set(Some(trace_id)),
    }
    let identity = identity_of(&span);
    NEXT_TRACE.set(None);
    (Account::new(Some(identity), state), span)
}

/// Opens the account of work that earlier requests left behind, each with its [`traceparent`] if it had one: a
/// trace of its own with a link to each of theirs that is kept. It is kept if one of them is.
pub fn open_linked<'a>(
    origins: impl IntoIterator<Item = &'a str>,
    span: impl FnOnce() -> Span,
) -> (Arc<Account>, Span) {
    let kept = origins.into_iter().filter_map(read);
    let mut kept = kept.filter(|origin| origin.sampled).peekable();
    if SAMPLER.get().is_none() || kept.peek().is_none() {
        return (Account::new(None, None), Span::none());
    }
    let span = span();
    for origin in kept {
        span.add_link(remote(origin, None));
    }
    let identity = identity_of(&span);
    (Account::new(Some(identity), None), span)
}

/// The identity of a span that is kept, which starts it.
fn identity_of(span: &Span) -> Identity {
    let context = span.context();
    let started = context.span().span_context().clone();
    Identity {
        trace_id: started.trace_id(),
        span_id: started.span_id(),
        sampled: true,
    }
}

/// The request that runs on this thread as a `traceparent` names it, for work that is left for later.
#[must_use]
pub fn traceparent() -> Option<String> {
    identity().map(written)
}

/// Opens the account of work that goes on for ever and belongs to no request: no trace of it is kept, in no process.
#[must_use]
pub fn untraced() -> Arc<Account> {
    let identity = Identity {
        trace_id: new_trace_id(),
        span_id: new_span_id(),
        sampled: false,
    };
    Account::new(Some(identity), None)
}

/// Whether the spans of the request that runs on this thread are kept. Who makes a span asks first: made
/// without its parent it would be a trace of its own.
#[must_use]
pub fn sampled() -> bool {
    kept().is_some()
}

/// The identity of the request that runs on this thread, if its spans are kept.
pub(super) fn kept() -> Option<Identity> {
    identity().filter(|identity| identity.sampled)
}

/// The identity of the request that runs on this thread, if it has one.
pub(super) fn identity() -> Option<Identity> {
    account::with(|account| account.identity()).flatten()
}

/// Writes into the headers of an outgoing request who asks: `span`, or the request that runs on this thread.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    let Some(Some((mut identity, state))) = account::with(|account| {
        let identity = account.identity()?;
        Some((identity, account.trace_state().cloned()))
    }) else {
        return;
    };
    if !span.is_none() {
        let context = span.context();
        let made = context.span().span_context().span_id();
        if made != SpanId::INVALID {
            identity.span_id = made;
        }
    }
    if let Ok(value) = HeaderValue::try_from(written(identity)) {
        headers.insert(&TRACEPARENT, value);
    }
    if let Some(state) = state {
        headers.insert(&TRACESTATE, state);
    }
}

fn written(identity: Identity) -> String {
    let Identity {
        trace_id,
        span_id,
        sampled,
    } = identity;
    format!("00-{trace_id}-{span_id}-{:02x}", u8::from(sampled))
}

/// The caller, as its `traceparent` names it.
fn parent(headers: &HeaderMap) -> Option<Identity> {
    read(headers.get(&TRACEPARENT)?.to_str().ok()?)
}

fn read(text: &str) -> Option<Identity> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let field = |from: usize, to: usize| text.get(from..to).filter(|f| f.bytes().all(lower_hex));
    let (version, trace, span, flags) =
        (field(0, 2)?, field(3, 35)?, field(36, 52)?, field(53, 55)?);
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
    // A later version may go on after the fields of the first.
    let ends = text.len() == 55 || (version != "00" && text.as_bytes()[55] == b'-');
    let identity = Identity {
        trace_id: TraceId::from_hex(trace).ok()?,
        span_id: SpanId::from_hex(span).ok()?,
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    };
    let valid = identity.trace_id != TraceId::INVALID && identity.span_id != SpanId::INVALID;
    (dashes && ends && version != "ff" && valid).then_some(identity)
}

/// A span of somebody else's that is kept.
fn remote(of: Identity, state: Option<&HeaderValue>) -> SpanContext {
    let state = state
        .and_then(|state| state.to_str().ok()?.parse::<TraceState>().ok())
        .unwrap_or_default();
    let flags = TraceFlags::default().with_sampled(true);
    SpanContext::new(of.trace_id, of.span_id, flags, true, state)
}

fn new_trace_id() -> TraceId {
    // Zero is no id.
    TraceId::from_bytes(fastrand::u128(1..).to_be_bytes())
}

fn new_span_id() -> SpanId {
    SpanId::from_bytes(fastrand::u64(1..).to_be_bytes())
}

thread_local! {
    /// The id that the sampler has judged, for the trace that begins next on this thread.
    static NEXT_TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Ids for the SDK: a trace gets the one that it was judged by.
#[derive(Debug)]
pub(super) struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT_TRACE.take().unwrap_or_else(new_trace_id)
    }

    fn new_span_id(&self) -> SpanId {
        new_span_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            assert_eq!(written(read(&text).unwrap()), text);
        }
        let random = read(&format!("00-{TRACE}-{SPAN}-03")).unwrap();
        assert!(random.sampled, "the flags are bits");
        let later = format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds");
        assert!(
            read(&later).is_some(),
            "a later version is read as far as it is known"
        );
    }

    #[test]
    fn a_malformed_traceparent_is_ignored_whole() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01more"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00_{TRACE}_{SPAN}_01"),
            "00-ü".repeat(20),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }
}
