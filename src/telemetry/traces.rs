//! Traces: from `tracing` spans to OTLP over HTTP, from threads of their own.
//!
//! The exporter must not live on the runtime that it observes: while every worker is blocked it would send
//! nothing, which is when the spans are needed. So the batch thread of the SDK drives a blocking client.
//! The SDK drops spans in silence when its queue is full and reports failures as log text only; the wrappers
//! here bound the queue and count what ended, waits, was dropped, exported and refused, so that a gap between
//! traces and requests is a number on `/metrics`. Destination, queue and headers come from the standard `OTEL_*`
//! variables.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use tokio::runtime::Runtime;

use super::exports::Exports;
use super::{catalog, context};

/// How spans leave this process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which traces are kept: the name and the argument of a sampler, as `OTEL_TRACES_SAMPLER` has them.
    pub sampler: (Option<String>, Option<String>),
    /// `http/protobuf` (the default) or `grpc`, as `OTEL_EXPORTER_OTLP_PROTOCOL` has it.
    pub protocol: Option<String>,
    /// Spans that may wait for export; what ends beyond them is dropped and counted.
    pub queue_max: usize,
}

/// Builds the provider of tracers for a role.
pub(super) fn provider(resource: Resource, config: &Config) -> Result<SdkTracerProvider, String> {
    let queue = Arc::new(Queue::new(config.queue_max));
    let exporter = CountingExporter {
        inner: Exporter::new(config.protocol.as_deref())?,
        queue: Arc::clone(&queue),
        exports: Exports::new("Spans", catalog::otel_sdk_exporter_span_exported_total),
    };
    // Its queue never holds more than ours lets in, so what is dropped is dropped here, and counted.
    let batches = BatchConfigBuilder::default().with_max_queue_size(config.queue_max);
    let inner = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches.build())
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        // What comes this far was decided by ours, before its span was built.
        .with_sampler(Sampler::AlwaysOn)
        .with_id_generator(context::Ids)
        .with_span_processor(BoundedProcessor { queue, inner })
        .build())
}

/// What every span and log record says about its process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win, but for
/// the `version`, which was found out with their help.
pub(super) fn resource(role: &'static str, version: &str) -> Resource {
    let from_environment = Resource::builder().build();
    let named = from_environment
        .get(&opentelemetry::Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let mut attributes = vec![
        KeyValue::new("service.version", version.to_owned()),
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
        ["service.name", "service.version"].contains(&pair.key.as_str())
            || from_environment.get(&pair.key).is_none()
    });
    Resource::builder().with_attributes(attributes).build()
}

/// Under which name the process is known.
pub(super) fn service_name(resource: &Resource) -> String {
    let name = resource.get(&opentelemetry::Key::from_static_str("service.name"));
    name.map(|name| name.to_string()).unwrap_or_default()
}

/// The spans that wait for export, as the metrics show them: ended = waiting + processed, where what was
/// processed was handed to the exporter or found the queue full.
#[derive(Debug)]
struct Queue {
    max: usize,
    waiting: AtomicUsize,
    size: Gauge,
    ended: Counter,
    handed_over: Counter,
    dropped: Counter,
}

impl Queue {
    fn new(max: usize) -> Self {
        catalog::otel_sdk_processor_span_queue_capacity().set(max as f64);
        let queue = Self {
            max,
            waiting: AtomicUsize::new(0),
            size: catalog::otel_sdk_processor_span_queue_size(),
            ended: catalog::firedrill_spans_ended_total(),
            handed_over: catalog::otel_sdk_processor_span_processed_total(""),
            dropped: catalog::otel_sdk_processor_span_processed_total("queue_full"),
        };
        queue.size.set(0.0);
        for counter in [&queue.ended, &queue.handed_over, &queue.dropped] {
            counter.absolute(0);
        }
        queue
    }

    /// Whether there is a place for the span that has just ended.
    fn enter(&self) -> bool {
        self.ended.increment(1);
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.dropped.increment(1);
            return false;
        }
        self.size.increment(1.0);
        true
    }

    fn leave(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        self.size.decrement(spans as f64);
        self.handed_over.increment(spans as u64);
    }
}

/// Lets in what the queue has a place for. It never waits: that would make requests wait for a collector.
#[derive(Debug)]
struct BoundedProcessor {
    queue: Arc<Queue>,
    inner: BatchSpanProcessor,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Hands spans to the endpoint.
#[derive(Debug)]
enum Exporter {
    /// Blocks the batch thread, and nothing else.
    Http(Box<OtlpExporter>),
    /// gRPC needs a runtime: one of its own, for the application's may be what is stuck.
    Grpc(Arc<OtlpExporter>, Runtime),
}

impl Exporter {
    fn new(protocol: Option<&str>) -> Result<Self, String> {
        let in_words = |error: &dyn std::fmt::Display| {
            format!(
                "the OTLP exporter cannot be built from the OTEL_EXPORTER_OTLP_* variables: {error}"
            )
        };
        match protocol.unwrap_or_default() {
            "" | "http/protobuf" => OtlpExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .build()
                .map(|exporter| Self::Http(Box::new(exporter)))
                .map_err(|error| in_words(&error)),
            "grpc" => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("otlp-grpc")
                    .enable_all()
                    .build()
                    .map_err(|error| in_words(&error))?;
                let entered = runtime.enter();
                let exporter = OtlpExporter::builder().with_tonic().build();
                drop(entered);
                let exporter = exporter.map_err(|error| in_words(&error))?;
                Ok(Self::Grpc(Arc::new(exporter), runtime))
            }
            other => Err(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL cannot be {other:?}; allowed: http/protobuf, grpc"
            )),
        }
    }

    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self {
            Self::Http(exporter) => exporter.export(batch).await,
            Self::Grpc(exporter, runtime) => {
                let exporter = Arc::clone(exporter);
                let exporting = runtime.spawn(async move { exporter.export(batch).await });
                exporting
                    .await
                    .unwrap_or_else(|lost| Err(OTelSdkError::InternalFailure(lost.to_string())))
            }
        }
    }

    fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        match self {
            Self::Http(exporter) => exporter.shutdown_with_timeout(timeout),
            Self::Grpc(exporter, _) => exporter.shutdown_with_timeout(timeout),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self {
            Self::Http(exporter) => exporter.set_resource(resource),
            // Nobody else holds it while no export is under way.
            Self::Grpc(exporter, _) => {
                if let Some(exporter) = Arc::get_mut(exporter) {
                    exporter.set_resource(resource);
                }
            }
        }
    }
}

/// Counts what the endpoint took and what it did not.
#[derive(Debug)]
struct CountingExporter {
    inner: Exporter,
    queue: Arc<Queue>,
    exports: Exports,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queue.leave(spans);
        let result = self.inner.export(batch).await;
        self.exports.count(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
