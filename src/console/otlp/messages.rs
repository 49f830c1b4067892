//! From OTLP messages to the console's own spans.
//!
//! A span whose ids are malformed can be put nowhere and is rejected; the sender hears how many. Text is cut
//! and collections are cut short, so that no single span can crowd out the rest.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use serde_json::Value;

use crate::console::span::{Span, SpanId, Status, TraceId};

/// The longest text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// The attributes of one span, and the entries of one list, that are kept.
const ENTRIES_MAX: usize = 64;

/// How deep lists may stand in lists.
const DEPTH_MAX: usize = 3;

/// What one export brought.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The spans that can be kept.
    pub(super) spans: Vec<Span>,
    /// How many could not: their ids are malformed.
    pub(super) rejected: u64,
}

/// Reads every span of `request`.
pub(super) fn read(request: ExportTraceServiceRequest) -> Received {
    let mut received = Received::default();
    for group in request.resource_spans {
        let (service, instance) = identity(group.resource.as_ref());
        for sent in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            match span(sent, &service, &instance) {
                Some(span) => received.spans.push(span),
                None => received.rejected += 1,
            }
        }
    }
    received
}

/// Which service, and which of its processes, the spans of a resource come from.
fn identity(resource: Option<&Resource>) -> (Arc<str>, Arc<str>) {
    let named = |key: &str| {
        let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
        let pair = attributes.iter().find(|pair| pair.key == key)?;
        match pair.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(text) => Some(Arc::from(cut(text.clone()))),
            _ => None,
        }
    };
    (
        named("service.name").unwrap_or_else(|| Arc::from("unknown")),
        named("service.instance.id").unwrap_or_default(),
    )
}

fn span(sent: proto::Span, service: &Arc<str>, instance: &Arc<str>) -> Option<Span> {
    let parent = if sent.parent_span_id.is_empty() {
        None
    } else {
        Some(SpanId::from_bytes(&sent.parent_span_id)?)
    };
    let status = sent.status.unwrap_or_default();
    Some(Span {
        trace: TraceId::from_bytes(&sent.trace_id)?,
        id: SpanId::from_bytes(&sent.span_id)?,
        parent,
        name: cut(sent.name),
        service: Arc::clone(service),
        instance: Arc::clone(instance),
        kind: kind(sent.kind),
        start_ns: sent.start_time_unix_nano,
        end_ns: sent.end_time_unix_nano.max(sent.start_time_unix_nano),
        status: match status.code {
            1 => Status::Ok,
            2 => Status::Error,
            _ => Status::Unset,
        },
        message: cut(status.message),
        attributes: pairs(sent.attributes, 0).collect(),
    })
}

fn kind(number: i32) -> &'static str {
    match number {
        1 => "internal",
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "unspecified",
    }
}

fn pairs(sent: Vec<KeyValue>, depth: usize) -> impl Iterator<Item = (String, Value)> {
    sent.into_iter()
        .take(ENTRIES_MAX)
        .map(move |pair| (cut(pair.key), value(pair.value, depth)))
}

fn value(sent: Option<AnyValue>, depth: usize) -> Value {
    use any_value::Value as Sent;
    match sent.and_then(|sent| sent.value) {
        None => Value::Null,
        Some(Sent::StringValue(text)) => cut(text).into(),
        Some(Sent::BoolValue(yes)) => yes.into(),
        Some(Sent::IntValue(number)) => number.into(),
        // JSON has no infinity and no NaN; as text they are still readable.
        Some(Sent::DoubleValue(number)) if !number.is_finite() => number.to_string().into(),
        Some(Sent::DoubleValue(number)) => number.into(),
        Some(Sent::BytesValue(bytes)) => format!("{} bytes", bytes.len()).into(),
        Some(Sent::StringValueStrindex(index)) => format!("string {index}").into(),
        Some(Sent::ArrayValue(_) | Sent::KvlistValue(_)) if depth == DEPTH_MAX => "...".into(),
        Some(Sent::ArrayValue(list)) => list
            .values
            .into_iter()
            .take(ENTRIES_MAX)
            .map(|entry| value(Some(entry), depth + 1))
            .collect(),
        Some(Sent::KvlistValue(list)) => Value::Object(pairs(list.values, depth + 1).collect()),
    }
}

/// Cuts a long text at a character boundary and says that it was cut.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let boundary = (0..=TEXT_BYTES_MAX).rfind(|at| text.is_char_boundary(*at));
        text.truncate(boundary.unwrap_or_default());
        text.push_str("...");
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    use super::*;

    fn text(value: &str) -> AnyValue {
        AnyValue {
            value: Some(any_value::Value::StringValue(value.into())),
        }
    }

    fn pair(key: &str, value: Option<AnyValue>) -> KeyValue {
        KeyValue {
            key: key.into(),
            value,
            ..KeyValue::default()
        }
    }

    fn request(spans: Vec<proto::Span>) -> ExportTraceServiceRequest {
        let resource = Resource {
            attributes: vec![
                pair("service.name", Some(text("shop"))),
                pair("service.instance.id", Some(text("shop-7"))),
            ],
            ..Resource::default()
        };
        let scope_spans = vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans,
                ..ResourceSpans::default()
            }],
        }
    }

    fn valid() -> proto::Span {
        proto::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            start_time_unix_nano: 5,
            end_time_unix_nano: 9,
            ..proto::Span::default()
        }
    }

    #[test]
    fn a_span_keeps_its_service_parent_and_status() {
        let sent = proto::Span {
            parent_span_id: vec![3; 8],
            kind: 3,
            status: Some(proto::Status {
                code: 2,
                message: "refused".into(),
            }),
            ..valid()
        };
        let span = read(request(vec![sent])).spans.remove(0);
        assert_eq!((&*span.service, &*span.instance), ("shop", "shop-7"));
        assert_eq!(span.parent, SpanId::from_bytes(&[3; 8]));
        assert_eq!((span.kind, span.status), ("client", Status::Error));
        assert_eq!(span.message, "refused");
    }

    #[test]
    fn malformed_ids_are_rejected_one_by_one() {
        let bad = [
            proto::Span {
                trace_id: vec![1; 15],
                ..valid()
            },
            proto::Span {
                span_id: vec![0; 8],
                ..valid()
            },
            proto::Span {
                parent_span_id: vec![1],
                ..valid()
            },
        ];
        let received = read(request(bad.into_iter().chain([valid()]).collect()));
        assert_eq!((received.spans.len(), received.rejected), (1, 3));
    }

    #[test]
    fn a_span_that_ends_before_it_begins_lasts_no_time() {
        let sent = proto::Span {
            end_time_unix_nano: 1,
            ..valid()
        };
        assert_eq!(read(request(vec![sent])).spans[0].end_ns, 5);
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_cut() {
        let mut nested = text("inside");
        for _ in 0..50 {
            nested = AnyValue {
                value: Some(any_value::Value::ArrayValue(ArrayValue {
                    values: vec![nested],
                })),
            };
        }
        let mut attributes = vec![
            pair("long", Some(text(&"é".repeat(5000)))),
            pair("deep", Some(nested)),
        ];
        attributes.extend((0..1000).map(|number| pair(&number.to_string(), None)));
        let sent = proto::Span {
            attributes,
            ..valid()
        };
        let span = read(request(vec![sent])).spans.remove(0);
        assert_eq!(span.attributes.len(), ENTRIES_MAX);
        assert_eq!(span.attributes[1].1.to_string(), r#"[[["..."]]]"#);
        assert!(span.bytes() < 16 * 1024);
    }
}
