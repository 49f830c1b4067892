//! Traces: from `tracing` spans to OTLP over HTTP, from threads of their own.
//!
//! The exporter must not live on the runtime that it observes: while every worker is blocked it would send
//! nothing, which is when the spans are needed. So the batch thread of the SDK drives a blocking client.
//! The SDK drops spans in silence when its queue is full and reports failures as log text only; the two
//! wrappers here count what ended and what was exported, so that a gap between traces and requests is a
//! number on `/metrics`. Destination, sampler, queue and headers come from the standard `OTEL_*` variables.

use std::time::Duration;

use metrics::Counter;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};

use super::exports::Exports;
use super::{catalog, context};

/// Builds the provider of tracers for a role.
pub(super) fn provider(role: &'static str) -> Result<SdkTracerProvider, String> {
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()
        .map_err(|error| {
            format!(
                "the OTLP exporter cannot be built from the OTEL_EXPORTER_OTLP_* variables: {error}"
            )
        })?;
    let exporter = CountingExporter {
        inner: exporter,
        exports: Exports::new("Spans", catalog::otel_sdk_exporter_span_exported_total),
    };
    let processor = BatchSpanProcessor::builder(exporter).build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(role))
        // What comes this far was decided by ours, before its span was built.
        .with_sampler(Sampler::AlwaysOn)
        .with_id_generator(context::Ids)
        .with_span_processor(CountingProcessor(catalog::firedrill_spans_ended_total()))
        .with_span_processor(processor)
        .build())
}

/// What every span and log record says about its process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
pub(super) fn resource(role: &'static str) -> Resource {
    let from_environment = Resource::builder().build();
    let named = from_environment
        .get(&opentelemetry::Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new(
            "service.instance.id",
            format!("{role}-{}", std::process::id()),
        ),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if !named {
        attributes.push(KeyValue::new("service.name", role));
    }
    attributes.retain(|pair| {
        pair.key.as_str() == "service.name" || from_environment.get(&pair.key).is_none()
    });
    Resource::builder().with_attributes(attributes).build()
}

/// Counts the spans that ended, before any queue can lose them.
#[derive(Debug)]
struct CountingProcessor(Counter);

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, _: SpanData) {
        self.0.increment(1);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Counts what the endpoint took and what it did not.
#[derive(Debug)]
struct CountingExporter {
    inner: OtlpExporter,
    exports: Exports,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.exports.count(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
