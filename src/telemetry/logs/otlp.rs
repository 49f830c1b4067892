//! Log events as OTLP log records, if `OTEL_LOGS_EXPORTER=otlp` asks for them.
//!
//! Standard error needs nobody who listens, so it is written always; a place that keeps its logs beside its traces
//! wants them the same way as these. The records carry the ids of the request's account: the SDK would look for a
//! span, and a request whose trace is not kept has none. They leave from the SDK's own thread over the
//! blocking client, for the reason that spans do (`traces`), with the same resource. What the SDK's queue drops is the
//! difference between the events and the records that were exported.

use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::TraceFlags;
use opentelemetry_otlp::{LogExporter as OtlpExporter, Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchLogProcessor, LogBatch, LogExporter, SdkLogger, SdkLoggerProvider,
};
use serde_json::Value;
use tracing::Level;

use super::super::catalog;
use super::super::exports::Exports;
use super::Record;

/// Hands records to the SDK.
#[derive(Debug)]
pub(in crate::telemetry) struct Export(SdkLogger);

/// How many records were exported and how many were not. Both series exist also where none ever is.
pub(in crate::telemetry) fn exports() -> Exports {
    Exports::new("Log records", catalog::otel_sdk_exporter_log_exported_total)
}

/// Builds the provider of loggers for a role.
pub(in crate::telemetry) fn provider(
    resource: Resource,
    exports: Exports,
) -> Result<SdkLoggerProvider, String> {
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()
        .map_err(|error| {
            format!(
                "the OTLP exporter of logs cannot be built from the OTEL_EXPORTER_OTLP_* variables: {error}"
            )
        })?;
    let exporter = Counting {
        inner: exporter,
        exports,
    };
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(BatchLogProcessor::builder(exporter).build())
        .build())
}

impl Export {
    pub(in crate::telemetry) fn new(provider: &SdkLoggerProvider) -> Self {
        Self(provider.logger("firedrill"))
    }

    /// Puts a record into the SDK's queue, or drops it if that is full.
    pub(super) fn emit(&self, event: &Record) {
        let mut record = self.0.create_log_record();
        record.set_timestamp(event.time);
        record.set_severity_number(severity(event.level));
        record.set_severity_text(event.level.as_str());
        // Receivers see it as the name of the scope.
        record.set_target(event.target);
        if let Some(of) = event.of {
            let flags = TraceFlags::NOT_SAMPLED.with_sampled(of.sampled);
            record.set_trace_context(of.trace_id, of.span_id, Some(flags));
        }
        for (name, value) in &event.fields {
            match *name {
                "message" => record.set_body(any(value)),
                name => record.add_attribute(name, any(value)),
            }
        }
        self.0.emit(record);
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

fn any(value: &Value) -> AnyValue {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}

/// Counts what the endpoint took and what it did not.
#[derive(Debug)]
struct Counting {
    inner: OtlpExporter,
    exports: Exports,
}

impl LogExporter for Counting {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().count();
        let result = self.inner.export(batch).await;
        self.exports.count(records, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
