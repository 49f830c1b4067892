//! Logs: one JSON object a line on standard error, each with the ids of the trace it belongs to.
//!
//! A log line that cannot be joined with its trace sends the reader back to guessing by time. The common JSON
//! formatter rewrites the whole span at each field that is recorded, which costs more than the request
//! itself; this layer looks at events alone and takes the two ids from the request's account. So a request whose
//! trace is not kept has them too.
//!
//! - `lines`: the bounded way to standard error
//! - `filter`: which events are written, changeable while the role runs
//! - `otlp`: the same events to a collector, if that is wanted

pub(super) mod filter;
pub(super) mod lines;
pub(super) mod otlp;

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::context::Identity;
use super::{catalog, context};

/// The longest that the texts of one event may be together, in bytes of JSON. Names and numbers come on top, but
/// these are not the client's to choose.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// One event, read once for all who write it.
#[derive(Debug)]
struct Record {
    time: SystemTime,
    level: Level,
    target: &'static str,
    of: Option<Identity>,
    fields: Vec<(&'static str, Value)>,
}

/// Writes events, to `W` as JSON lines.
pub(super) struct Events<W> {
    role: &'static str,
    write: W,
    export: Option<otlp::Export>,
}

impl<W: Fn(&[u8])> Events<W> {
    /// `write` is given one whole line at a time, on the thread of the event.
    pub(super) fn new(role: &'static str, write: W, export: Option<otlp::Export>) -> Self {
        for level in ["error", "warn", "info", "debug", "trace"] {
            catalog::firedrill_log_events_total(level).absolute(0);
        }
        Self {
            role,
            write,
            export,
        }
    }
}

impl<S: Subscriber, W: Fn(&[u8]) + 'static> Layer<S> for Events<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        catalog::firedrill_log_events_total(level_name(level)).increment(1);
        let mut fields = Fields::default();
        event.record(&mut fields);
        let record = Record {
            time: SystemTime::now(),
            level,
            target: event.metadata().target(),
            of: context::identity(),
            fields: fields.finish(),
        };
        if let Some(export) = &self.export {
            export.emit(&record);
        }
        (self.write)(record.into_line(self.role).as_bytes());
    }
}

impl Record {
    fn into_line(self, role: &str) -> String {
        let mut line = Map::new();
        line.insert("time_unix_s".into(), json!(unix_s(self.time)));
        line.insert("level".into(), json!(level_name(self.level)));
        line.insert("role".into(), json!(role));
        line.insert("target".into(), json!(self.target));
        if let Some(of) = self.of {
            line.insert("trace_id".into(), json!(of.trace_id.to_string()));
            line.insert("span_id".into(), json!(of.span_id.to_string()));
        }
        let fields = self.fields.into_iter();
        line.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        text
    }
}

/// The line that stands in the log where `dropped` others are missing.
pub(super) fn gap(role: &'static str, dropped: u64) -> String {
    let message = json!("Log lines are missing here: they came faster than they were read.");
    Record {
        time: SystemTime::now(),
        level: Level::WARN,
        target: "telemetry",
        of: None,
        fields: vec![("message", message), ("lines", json!(dropped))],
    }
    .into_line(role)
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

fn unix_s(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1e6).round() / 1e6
}

/// The fields of an event. What is too long is cut, and `truncated` says so.
struct Fields {
    list: Vec<(&'static str, Value)>,
    left: usize,
    truncated: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            left: TEXT_BYTES_MAX,
            truncated: false,
        }
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.list.push((field.name(), value));
    }

    fn add_text(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        let mut cut = Cut {
            text: String::new(),
            left: self.left,
        };
        // Formatting ends where the text is full: what would be cut off is not even made.
        if cut.write_fmt(value).is_err() {
            self.truncated = true;
        }
        self.left = cut.left;
        self.add(field, Value::String(cut.text));
    }

    fn finish(mut self) -> Vec<(&'static str, Value)> {
        if self.truncated {
            self.list.push(("truncated", Value::Bool(true)));
        }
        self.list
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, json!(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, json!(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, json!(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, json!(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, format_args!("{value}"));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add_text(field, format_args!("{value:?}"));
    }
}

/// A text that takes no more than what is `left`, in bytes of JSON.
struct Cut {
    text: String,
    left: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            let Some(left) = self.left.checked_sub(json_bytes(c)) else {
                // Nothing of what follows may slip in behind the cut.
                self.left = 0;
                return Err(std::fmt::Error);
            };
            self.left = left;
            self.text.push(c);
        }
        Ok(())
    }
}

fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\x1f' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What is written while `work` runs.
    fn written(work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let write = move |line: &[u8]| {
            let line = String::from_utf8(line.to_vec()).unwrap();
            sink.lock().unwrap().push(line);
        };
        let subscriber = Registry::default().with(Events::new("shop", write, None));
        tracing::subscriber::with_default(subscriber, work);
        lines.lock().unwrap().clone()
    }

    fn parsed(line: &str) -> Value {
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let lines = written(|| {
            let error = "two\nlines";
            tracing::warn!(target: "it", error, count = 3_u64, share = 0.5, ok = true, "It said \"no\".");
        });
        assert_eq!(lines.len(), 1);
        let mut line = parsed(&lines[0]);
        assert!(line["time_unix_s"].as_f64() > Some(1.7e9));
        line.as_object_mut().unwrap().remove("time_unix_s");
        let expected = json!({
            "level": "warn", "role": "shop", "target": "it", "message": "It said \"no\".",
            "error": "two\nlines", "count": 3, "share": 0.5, "ok": true,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_request_is_named_also_if_its_trace_is_not_kept() {
        let identity = Identity {
            trace_id: 7_u128.into(),
            span_id: 9_u64.into(),
            sampled: false,
        };
        let account = super::super::account::Account::new(Some(identity), None);
        let lines = written(|| account.enter(|| tracing::info!(target: "it", "Asked.")));
        let line = parsed(&lines[0]);
        assert_eq!(line["trace_id"], format!("{:032x}", 7));
        assert_eq!(line["span_id"], format!("{:016x}", 9));
    }

    #[test]
    fn a_line_is_bounded_whatever_is_in_it() {
        for unit in ["x", "\u{1}", "\"", "ü", "\n"] {
            let text = unit.repeat(100_000);
            let lines = written(|| {
                tracing::info!(target: "it", first = text, second = ?text, after = 7, "Said.");
            });
            assert!(lines[0].len() < TEXT_BYTES_MAX + 512, "{}", lines[0].len());
            let line = parsed(&lines[0]);
            assert_eq!(line["truncated"], true);
            assert_eq!(line["after"], 7);
            assert!(text.starts_with(line["first"].as_str().unwrap()));
        }
        let lines = written(|| tracing::info!(target: "it", "Short."));
        assert_eq!(parsed(&lines[0])["truncated"], Value::Null);
    }

    #[test]
    fn a_gap_says_how_many_lines_are_missing() {
        let line = parsed(&gap("shop", 12));
        assert_eq!(
            (&line["lines"], &line["level"]),
            (&json!(12), &json!("warn"))
        );
    }
}
