//! A span as the console keeps it.
//!
//! What arrives over OTLP is whatever a process somewhere chose to send. It is checked and cut to size once,
//! when it is taken in; the store and the page then work on values that are known to be sound.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// An id of `N` bytes, not all of them zero. Its text is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id<const N: usize>([u8; N]);

/// The id of a trace: 32 hexadecimal digits.
pub type TraceId = Id<16>;

/// The id of a span: 16 hexadecimal digits.
pub type SpanId = Id<8>;

impl<const N: usize> Id<N> {
    /// The id in `bytes`; `None` if their number is wrong or all are zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; N] = bytes.try_into().ok()?;
        bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
    }
}

impl<const N: usize> Display for Id<N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Id<N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Id<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<const N: usize> FromStr for Id<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digit = |at: usize| char::from(text.as_bytes()[at]).to_digit(16);
        let byte = |at: usize| u8::try_from(digit(2 * at)? * 16 + digit(2 * at + 1)?).ok();
        let bytes: Option<Vec<u8>> = if text.len() == 2 * N {
            (0..N).map(byte).collect()
        } else {
            None
        };
        bytes
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| format!("{} hexadecimal digits, not all of them 0", 2 * N))
    }
}

/// How a span ended, as its process reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing was said; no error is known.
    Unset,
    /// Marked as successful.
    Ok,
    /// Marked as failed.
    Error,
}

/// One piece of work in one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that caused it; `None` for the root of its trace.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: String,
    /// Who did it: the resource's `service.name`.
    pub service: Arc<str>,
    /// Which of its processes did it: the resource's `service.instance.id`, or nothing.
    pub instance: Arc<str>,
    /// `internal`, `server`, `client`, `producer`, `consumer` or `unspecified`.
    pub kind: &'static str,
    /// When it began, in nanoseconds since the epoch.
    pub start_ns: u64,
    /// When it ended, in nanoseconds since the epoch; not before it began.
    pub end_ns: u64,
    /// How it ended.
    pub status: Status,
    /// What its process said about the status.
    pub message: String,
    /// Its attributes, in the order in which they were sent.
    pub attributes: Vec<(String, Value)>,
}

impl Span {
    /// Roughly how many bytes of memory it takes: close enough to bound a store by.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let attribute = |(key, value): &(String, Value)| {
            size_of::<(String, Value)>() + key.len() + value_bytes(value)
        };
        size_of::<Self>()
            + self.name.len()
            + self.message.len()
            + self.attributes.iter().map(attribute).sum::<usize>()
    }
}

fn value_bytes(value: &Value) -> usize {
    let own = size_of::<Value>();
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| own + value_bytes(value)).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| own + size_of::<String>() + key.len() + value_bytes(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let text = "0af7651916cd43dd8448eb211c80319c";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<TraceId>().unwrap(), id);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "0af7", "00000000000000000000000000000000", "é"] {
            assert!(text.parse::<TraceId>().is_err(), "{text:?}");
        }
        assert!(
            "zaf7651916cd43dd8448eb211c80319c"
                .parse::<TraceId>()
                .is_err()
        );
        assert!("é".repeat(16).parse::<TraceId>().is_err());
        assert_eq!(SpanId::from_bytes(&[0; 8]), None);
        assert_eq!(SpanId::from_bytes(&[1; 7]), None);
    }
}
