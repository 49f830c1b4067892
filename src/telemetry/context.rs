//! W3C trace context: how a trace crosses from one process to the next.
//!
//! Without it each process would start traces of its own, and a slow charge could not be found from the
//! order that waited for it. A `traceparent` that is malformed is ignored whole, as the specification asks:
//! the request then starts a trace of its own.

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes `span` a child of the span that the caller named in its headers, if it named one.
///
/// Must be called before the span is entered for the first time: afterwards its trace id is fixed.
pub fn adopt_parent(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if context.span().span_context().is_valid() {
        // Fails only where no tracer is installed; then there is no trace to join either.
        drop(span.set_parent(context));
    }
}

/// Writes the identity of `span` into the headers of an outgoing request.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
}
