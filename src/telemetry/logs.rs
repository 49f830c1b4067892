//! Logs: one JSON object a line on standard error, each with the ids of the trace it belongs to.
//!
//! A log line that cannot be joined with its trace sends the reader back to guessing by time. The common JSON
//! formatter rewrites the whole span at each field that is recorded, which costs more than the request
//! itself; this layer looks at events alone and takes the two ids from the request's account.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{catalog, context};

/// Writes events as JSON lines.
#[derive(Debug)]
pub(super) struct JsonLines {
    role: &'static str,
}

impl JsonLines {
    pub(super) fn new(role: &'static str) -> Self {
        for level in ["error", "warn", "info", "debug", "trace"] {
            catalog::firedrill_log_events_total(level).absolute(0);
        }
        Self { role }
    }
}

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = level_name(*event.metadata().level());
        catalog::firedrill_log_events_total(level).increment(1);
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("time_unix_s".into(), json!(now_unix_s()));
        line.insert("level".into(), json!(level));
        line.insert("role".into(), json!(self.role));
        line.insert("target".into(), json!(event.metadata().target()));
        if let Some(of) = context::identity() {
            line.insert("trace_id".into(), json!(of.trace_id.to_string()));
            line.insert("span_id".into(), json!(of.span_id.to_string()));
        }
        line.extend(fields.0);
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // Nobody is left to tell when standard error is gone.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn now_unix_s() -> f64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_secs_f64() * 1e6).round() / 1e6
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), json!(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), json!(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), json!(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), json!(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), json!(value));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0
            .insert(field.name().into(), json!(format!("{value:?}")));
    }
}
