//! One trace through three processes, as a real OTLP receiver sees it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use firedrill::telemetry::spans::{ExportedSpan, SPANS};

use crate::support::{ORDER, Role, send, wait_for};

/// A span with the name of its service.
pub(crate) type Received = Arc<Mutex<Vec<(String, Span)>>>;

/// Receives spans over OTLP until the test ends.
pub(crate) fn receiver() -> (String, Received) {
    let received = Received::default();
    let sink = Arc::clone(&received);
    let endpoint = listen(move |path, body| {
        assert_eq!(path, "/v1/traces");
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for resource in request.resource_spans {
            let service = text(&resource.resource.unwrap().attributes, "service.name").unwrap();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            sink.lock()
                .unwrap()
                .extend(spans.map(|span| (service.clone(), span)));
        }
    });
    (endpoint, received)
}

/// Receives OTLP over HTTP until the test ends: `take` is given the path and the body of each export.
pub(crate) fn listen(take: impl Fn(&str, &[u8]) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let take = Arc::new(take);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, take) = (stream.unwrap(), Arc::clone(&take));
            std::thread::spawn(move || while take_one(&mut stream, &*take).is_ok() {});
        }
    });
    format!("http://{address}")
}

/// Reads one request, hands it on, answers 200.
fn take_one(stream: &mut std::net::TcpStream, take: &impl Fn(&str, &[u8])) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let path = head
        .strip_prefix("post ")
        .and_then(|rest| rest.split(' ').next());
    let path = path.unwrap_or_else(|| panic!("{head}"));
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut body)?;
    take(path, &body);
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
    )
}

pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|pair| pair.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()
}

pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attribute(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    match attribute(&span.attributes, key)? {
        Value::IntValue(number) => Some(*number),
        other => panic!("{key} is {other:?}"),
    }
}

#[test]
fn an_order_is_one_trace_from_the_user_to_the_bank() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, received) = receiver();
    let env = exporting(&endpoint);
    let payments = Role::start_with("payments", dir.path(), &[], &env);
    let url = format!("http://{}", payments.data);
    let shop = Role::start_with(
        "shop",
        dir.path(),
        &["--payments", &url, "--seed-orders", "100"],
        &env,
    );
    let url = format!("http://{}", shop.data);
    let _traffic = Role::start_with(
        "traffic",
        dir.path(),
        &["--shop", &url, "--rate", "20"],
        &env,
    );
    let mut trace = Vec::new();
    wait_for("a whole trace of an order", || {
        trace = whole_order(&received.lock().unwrap());
        !trace.is_empty()
    });
    for (service, span) in received.lock().unwrap().iter() {
        let kept = documented(service, span);
        let kind = format!("{:?}", span.kind()).to_lowercase();
        assert_eq!(kind, kept.kind, "{}", span.name);
        for attribute in &span.attributes {
            let key = attribute.key.as_str();
            assert!(kept.attributes.contains(&key), "{key} of {}", span.name);
        }
    }
    let span = |service: &str, name: &str| -> &Span {
        let found = trace
            .iter()
            .find(|(of, span)| of == service && span.name == name);
        &found
            .unwrap_or_else(|| panic!("no {name} of {service} in {trace:#?}"))
            .1
    };
    let user = span("traffic", "order");
    let sent = span("traffic", "POST");
    let served = span("shop", "POST /orders");
    let opened = span("shop", "INSERT orders");
    let charge = span("shop", "POST");
    let charged = span("payments", "POST /charges");
    let slot = span("payments", "bank slot");
    assert!(
        user.parent_span_id.is_empty(),
        "the user's journey is the root"
    );
    for (child, parent) in [
        (sent, user),
        (served, sent),
        (opened, served),
        (charge, served),
        (charged, charge),
        (slot, charged),
    ] {
        assert_eq!(
            child.parent_span_id, parent.span_id,
            "{} under {}",
            child.name, parent.name
        );
        assert!(
            child.start_time_unix_nano >= parent.start_time_unix_nano,
            "{} begins in {}",
            child.name,
            parent.name
        );
    }
    assert_eq!(
        (served.kind(), charge.kind(), user.kind()),
        (SpanKind::Server, SpanKind::Client, SpanKind::Internal)
    );
    assert_eq!(
        text(&served.attributes, "http.route").as_deref(),
        Some("/orders")
    );
    assert_eq!(
        text(&served.attributes, "http.request.method").as_deref(),
        Some("POST")
    );
    assert_eq!(
        text(&served.attributes, "url.path").as_deref(),
        Some("/orders")
    );
    assert_eq!(number(served, "http.response.status_code"), Some(201));
    assert_eq!(text(&served.attributes, "error.type"), None);
    assert_eq!(number(charge, "http.response.status_code"), Some(201));
    assert_eq!(
        text(&charge.attributes, "server.address").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(
        text(&opened.attributes, "db.system.name").as_deref(),
        Some("sqlite")
    );
    assert_eq!(
        text(&opened.attributes, "db.collection.name").as_deref(),
        Some("orders")
    );
}

/// What the table of spans calls this one: capitals stand for what differs.
fn documented(service: &str, span: &Span) -> &'static ExportedSpan {
    let word = |name: &str| name.chars().all(|c| c.is_ascii_uppercase());
    let words: Vec<&str> = span.name.split(' ').collect();
    let name = match (span.kind(), &words[..]) {
        (SpanKind::Internal, [_]) if service == "traffic" => "JOURNEY",
        (SpanKind::Server, [method, ..]) if word(method) => "METHOD ROUTE",
        (SpanKind::Client, [method]) if word(method) => "METHOD",
        (SpanKind::Client, [operation, _]) if word(operation) => "OPERATION TABLE",
        _ => &span.name,
    };
    let found = SPANS.iter().find(|kept| kept.name == name);
    found.unwrap_or_else(|| panic!("{name} of {service} is in no table"))
}

/// The spans of an order of which everything up to the bank has arrived.
fn whole_order(received: &[(String, Span)]) -> Vec<(String, Span)> {
    let mut traces: BTreeMap<&[u8], Vec<&(String, Span)>> = BTreeMap::new();
    for entry in received {
        traces.entry(&entry.1.trace_id).or_default().push(entry);
    }
    let wanted = [
        "order",
        "POST",
        "POST /orders",
        "INSERT orders",
        "POST /charges",
        "bank slot",
    ];
    let whole = |spans: &Vec<&(String, Span)>| {
        wanted
            .iter()
            .all(|name| spans.iter().any(|(_, span)| span.name == *name))
            && spans
                .iter()
                .any(|(service, span)| service == "shop" && span.name == "POST")
            && spans
                .iter()
                .any(|(service, span)| service == "traffic" && span.name == "POST")
    };
    traces
        .into_values()
        .find(whole)
        .map(|spans| spans.into_iter().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn the_last_span_is_sent_before_a_role_ends_and_its_log_has_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, received) = receiver();
    // The batch would wait for a minute; only the flush at the end can send the span in time.
    let env = [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ];
    // Nobody listens at port 1: the charge fails, and the shop says so in its log.
    let arguments = [
        "--payments",
        "http://127.0.0.1:1",
        "--seed-orders",
        "10",
        "--log",
        "debug",
    ];
    let mut shop = Role::start_with("shop", dir.path(), &arguments, &env);
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!(
        "content-type: application/json\r\nidempotency-key: k\r\ntraceparent: 00-{trace_id}-b7ad6b7169203331-01\r\n"
    );
    let answer = send(&shop.data, "POST", "/orders", &headers, ORDER.as_bytes());
    assert_eq!(answer.status, 503, "{answer:?}");
    shop.process.signal("TERM");
    assert_eq!(shop.process.exit_code(), Some(0), "{}", shop.process.log());
    let spans = received.lock().unwrap();
    let (_, served) = spans
        .iter()
        .find(|(_, span)| span.name == "POST /orders")
        .expect("the last span was sent");
    let sent = u128::from_str_radix(trace_id, 16).unwrap().to_be_bytes();
    assert_eq!(served.trace_id, sent, "the caller's trace goes on");
    assert_eq!(
        text(&served.attributes, "error.type").as_deref(),
        Some("payments")
    );
    assert!(
        shop.process
            .log()
            .contains(&format!("\"trace_id\":\"{trace_id}\"")),
        "{}",
        shop.process.log()
    );
}

#[test]
fn what_an_order_leaves_for_later_is_linked_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, received) = receiver();
    let env = exporting(&endpoint);
    let payments = Role::start("payments", dir.path(), &[]);
    let url = format!("http://{}", payments.data);
    let arguments = ["--payments", &url, "--seed-orders", "10"];
    let shop = Role::start_with("shop", dir.path(), &arguments, &env);
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!(
        "content-type: application/json\r\nidempotency-key: k\r\ntraceparent: 00-{trace_id}-b7ad6b7169203331-01\r\n"
    );
    let answer = send(&shop.data, "POST", "/orders", &headers, ORDER.as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    let find = |name: &str| {
        let spans = received.lock().unwrap();
        let found = spans.iter().find(|(_, span)| span.name == name);
        found.map(|(_, span)| span.clone())
    };
    wait_for("the delivery's spans", || {
        find("process outbox").is_some() && find("DELETE outbox").is_some()
    });
    let [order, delivery, database] =
        ["POST /orders", "process outbox", "DELETE outbox"].map(|name| find(name).unwrap());
    assert_eq!(delivery.kind(), SpanKind::Consumer);
    assert!(delivery.parent_span_id.is_empty(), "{delivery:?}");
    let [link] = &delivery.links[..] else {
        panic!("{delivery:?}")
    };
    assert_eq!(
        (&link.trace_id, &link.span_id),
        (&order.trace_id, &order.span_id)
    );
    assert_ne!(delivery.trace_id, order.trace_id);
    assert_eq!(database.parent_span_id, delivery.span_id);
    assert_eq!(number(&delivery, "messaging.batch.message_count"), Some(1));
}

#[test]
fn a_collector_that_does_not_answer_costs_spans_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut env = exporting(&endpoint).to_vec();
    env.push(("OTEL_BSP_MAX_QUEUE_SIZE", "16"));
    env.push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8"));
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let shop = Role::start_with("shop", dir.path(), &arguments, &env);
    let dropped = || {
        let processed = "otel_sdk_processor_span_processed_total";
        shop.metric(processed, "error_type=\"queue_full\"")
    };
    assert!(dropped() < 0.5);
    let mut asked = 0.0;
    wait_for("the queue to be full", || {
        let answer = crate::support::get(&shop.data, "/items/1");
        assert_eq!(answer.status, 200, "{answer:?}");
        asked += 1.0;
        dropped() > 5.0
    });
    let text = crate::support::get(&shop.control, "/metrics").body;
    let value = |name: &str| crate::support::metric(&text, name, "");
    assert!(value("firedrill_spans_ended_total") >= asked);
    let accounted = value("otel_sdk_processor_span_processed_total")
        + value("otel_sdk_processor_span_queue_size");
    assert!(
        (value("firedrill_spans_ended_total") - accounted).abs() < 1e-9,
        "{text}"
    );
    assert!((value("otel_sdk_processor_span_queue_capacity") - 16.0).abs() < 1e-9);
    assert!(value("otel_sdk_processor_span_queue_size") <= 16.0);
}

/// What makes a role export to `endpoint`, soon.
pub(crate) fn exporting(endpoint: &str) -> [(&'static str, &str); 3] {
    [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ]
}

#[test]
fn an_exporter_that_is_unknown_is_refused_with_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, value, allowed) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "carrier/pigeon",
            "http/protobuf, grpc",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "sometimes",
            "parentbased_traceidratio",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "from 1 to 1000000"),
    ] {
        let output = crate::support::firedrill()
            .args([
                "payments",
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(dir.path())
            .env("OTEL_SDK_DISABLED", "false")
            .env(name, value)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(
            said.contains(value) && said.contains(allowed),
            "{name}: {said}"
        );
    }
}
