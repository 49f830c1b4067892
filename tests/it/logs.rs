//! Logs: lines that never hold up a request, a filter that changes while the role runs, records over OTLP.

use std::io::{BufRead, BufReader, PipeReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{ORDER, Process, Role, firedrill, get, metric, put, send, try_raw, wait_for};
use crate::traces::{attribute, listen, text};
use crate::up::Up;

const EVENTS: &str = "firedrill_log_events_total";
const DROPPED: &str = "firedrill_log_lines_dropped_total";
const DEPTH: &str = "firedrill_queue_depth";

/// A shop without payments whose standard error is a pipe that nobody reads yet.
fn shop_into_pipe(dir: &Path, log: &str) -> (Process, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = firedrill();
    command.args([
        "shop",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
    ]);
    command.args(["--payments", "http://127.0.0.1:1", "--seed-orders", "10"]);
    command.args(["--log", log, "--data"]).arg(dir);
    let process = Process::start_into(command, Stdio::from(writer), 1);
    (process, reader)
}

fn addresses(process: &Process) -> (String, String) {
    let ready = &process.ready[0];
    (
        ready.data.unwrap().to_string(),
        ready.control.unwrap().to_string(),
    )
}

/// Asks for an item so many times over one connection; the last answer, after all the others, ends it.
fn ask(data: &str, times: usize) {
    let one = "GET /items/1 HTTP/1.1\r\nhost: shop\r\n";
    let requests = format!("{one}\r\n").repeat(times - 1) + one + "connection: close\r\n\r\n";
    let answer = try_raw(data, requests.as_bytes()).unwrap();
    let all = answer.body.matches("HTTP/1.1 200").count() + usize::from(answer.status == 200);
    assert_eq!(all, times, "answers");
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_request_and_its_losses_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut shop, reader) = shop_into_pipe(dir.path(), "debug");
    let (data, control) = addresses(&shop);
    let value = |name: &str, labels: &str| metric(&get(&control, "/metrics").body, name, labels);
    assert!(value(DROPPED, "") < 0.5);
    // Each request logs one line, so the pipe fills, then the queue.
    wait_for("lines to be dropped", || {
        ask(&data, 200);
        value(DROPPED, "") > 100.0
    });
    let full = value("firedrill_queue_capacity", "queue=\"logs\"");
    assert!((value(DEPTH, "queue=\"logs\"") - full).abs() < 0.5);
    ask(&data, 200);

    let read = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines
            .map(|line| serde_json::from_str::<Value>(&line).unwrap())
            .collect::<Vec<_>>()
    });
    wait_for("the lines to be read", || {
        value(DEPTH, "queue=\"logs\"") < 0.5
    });
    let (dropped, events) = (value(DROPPED, ""), value(EVENTS, ""));
    shop.signal("TERM");
    assert_eq!(shop.exit_code(), Some(0));
    let lines = read.join().unwrap();
    let missing = |line: &&Value| line["lines"].is_u64();
    let said: f64 = lines
        .iter()
        .filter(missing)
        .filter_map(|line| line["lines"].as_f64())
        .sum();
    assert!(
        (said - dropped).abs() < 0.5,
        "the log says {said}, the metric {dropped}"
    );
    let last = lines.last().unwrap();
    assert_eq!(last["message"], "Stopped.");
    // What came after the events were counted, when no line was dropped any more: the end.
    let written = lines.iter().filter(|line| !missing(line)).count() as f64;
    let late = written + dropped - events;
    assert!(
        (0.5..10.0).contains(&late),
        "{written} written, {dropped} dropped, {events} events"
    );
}

#[test]
fn a_role_whose_log_nobody_reads_still_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut shop, reader) = shop_into_pipe(dir.path(), "debug");
    let (data, control) = addresses(&shop);
    wait_for("the pipe to be full", || {
        ask(&data, 200);
        metric(&get(&control, "/metrics").body, DEPTH, "queue=\"logs\"") > 100.0
    });
    shop.signal("TERM");
    assert_eq!(shop.exit_code(), Some(0));
    drop(reader);
}

#[test]
fn a_role_that_fails_says_why_after_its_last_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("choices.json"), "{").unwrap();
    let mut command = firedrill();
    command.args([
        "payments",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
        "--data",
    ]);
    let output = command.arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("firedrill: ") && last.contains("choices.json"),
        "{said}"
    );
}

/// The lines of `log` that tell of a request, as JSON.
fn requests(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "A request ended.")
        .collect()
}

#[test]
fn the_filter_changes_while_the_role_runs_and_goes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let shop = Role::start("shop", dir.path(), &arguments);
    let in_force = || get(&shop.control, "/log").json();
    let lasting = json!({ "role": "shop", "filter": "info", "expires_in_s": null });
    assert_eq!(in_force(), lasting);
    assert_eq!(get(&shop.data, "/items/1").status, 200);

    let body = r#"{"filter":"info,http=debug","ttl_s":3}"#;
    let answer = put(&shop.control, "/log", body);
    assert_eq!(
        (answer.status, &answer.json()["filter"]),
        (200, &json!("info,http=debug"))
    );
    wait_for("a request to be logged", || {
        assert_eq!(get(&shop.data, "/items/2").status, 200);
        !requests(&shop.process.log()).is_empty()
    });
    wait_for("the filter to go back", || in_force() == lasting);
    let before = shop.metric(EVENTS, "level=\"debug\"");
    assert_eq!(get(&shop.data, "/items/3").status, 200);
    assert!((shop.metric(EVENTS, "level=\"debug\"") - before).abs() < 0.5);

    for (body, status, field, detail) in [
        (
            r#"{"filter":"shop=loud"}"#,
            400,
            "filter",
            "parsing level filter",
        ),
        (r#"{"filter":""}"#, 400, "filter", "empty"),
        (r#"{"filter":"info","ttl_s":0}"#, 422, "ttl_s", "seconds"),
        (r#"{"filter":7}"#, 422, "filter", "string"),
        (r#"{"level":"info"}"#, 422, "level", "unknown field"),
    ] {
        let answer = put(&shop.control, "/log", body);
        assert_eq!(answer.status, status, "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{problem}"
        );
    }
    assert_eq!(in_force(), lasting);
}

#[test]
fn a_request_that_failed_is_one_event_with_its_trace() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let shop = Role::start("shop", dir.path(), &arguments);
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!(
        "content-type: application/json\r\nidempotency-key: k\r\ntraceparent: 00-{trace_id}-b7ad6b7169203331-00\r\n"
    );
    assert_eq!(get(&shop.data, "/items/1").status, 200);
    let answer = send(&shop.data, "POST", "/orders", &headers, ORDER.as_bytes());
    assert_eq!(answer.status, 503, "{answer:?}");
    wait_for("its event", || !requests(&shop.process.log()).is_empty());
    let told = requests(&shop.process.log());
    assert_eq!(told.len(), 1, "{told:?}");
    for (key, value) in [
        ("level", json!("warn")),
        ("target", json!("http")),
        ("http.request.method", json!("POST")),
        ("http.route", json!("/orders")),
        ("http.response.status_code", json!(503)),
        ("error.type", json!("payments")),
        ("trace_id", json!(trace_id)),
    ] {
        assert_eq!(told[0][key], value, "{key} of {}", told[0]);
    }
    assert!(told[0]["duration_s"].as_f64() >= told[0]["database_s"].as_f64());
    assert!(told[0]["database_s"].as_f64() > Some(0.0));
}

/// A record with the names of its service and of its scope.
type Received = Arc<Mutex<Vec<(String, String, LogRecord)>>>;

fn receiver() -> (String, Received) {
    let received = Received::default();
    let sink = Arc::clone(&received);
    let endpoint = listen(move |path, body| {
        assert_eq!(path, "/v1/logs");
        let request = ExportLogsServiceRequest::decode(body).unwrap();
        for resource in request.resource_logs {
            let service = text(&resource.resource.unwrap().attributes, "service.name").unwrap();
            for scope in resource.scope_logs {
                let name = scope.scope.unwrap().name;
                let records = scope.log_records.into_iter();
                let mut sink = sink.lock().unwrap();
                sink.extend(records.map(|record| (service.clone(), name.clone(), record)));
            }
        }
    });
    (endpoint, received)
}

#[test]
fn log_events_are_exported_with_their_trace_and_the_last_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, received) = receiver();
    // The batch would wait for a minute; only the flush at the end can send the records in time.
    let env = [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "60000"),
    ];
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let mut shop = Role::start_with("shop", dir.path(), &arguments, &env);
    // The caller does not keep the trace: there is no span, and the record has the ids all the same.
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = format!(
        "content-type: application/json\r\nidempotency-key: k\r\ntraceparent: {traceparent}\r\n"
    );
    let answer = send(&shop.data, "POST", "/orders", &headers, ORDER.as_bytes());
    assert_eq!(answer.status, 503, "{answer:?}");
    shop.process.signal("TERM");
    assert_eq!(shop.process.exit_code(), Some(0), "{}", shop.process.log());
    let received = received.lock().unwrap();
    let body = |record: &LogRecord| match record.body.clone()?.value? {
        Any::StringValue(text) => Some(text),
        _ => None,
    };
    let find = |said: &str| {
        let mut found = received
            .iter()
            .filter(|(_, _, record)| body(record).as_deref() == Some(said));
        let one = found
            .next()
            .unwrap_or_else(|| panic!("no {said} in {received:#?}"));
        assert!(found.next().is_none(), "{said} twice");
        one
    };
    let (service, scope, ended) = find("A request ended.");
    assert_eq!((service.as_str(), scope.as_str()), ("shop", "http"));
    assert_eq!(ended.severity_number(), SeverityNumber::Warn);
    assert_eq!(ended.severity_text, "WARN");
    assert_eq!(
        ended.trace_id,
        0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()
    );
    assert_eq!(ended.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert!(ended.time_unix_nano > 1_700_000_000_000_000_000);
    let status = attribute(&ended.attributes, "http.response.status_code");
    assert_eq!(status, Some(&Any::IntValue(503)));
    assert_eq!(
        text(&ended.attributes, "http.route").as_deref(),
        Some("/orders")
    );
    let (_, _, stopped) = find("Stopped.");
    assert!(stopped.trace_id.is_empty());
}

#[test]
fn a_receiver_of_logs_that_is_not_there_is_counted_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let env = [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
    ];
    let shop = Role::start_with("payments", dir.path(), &[], &env);
    wait_for("a failed export", || {
        let series = "otel_sdk_exporter_log_exported_total";
        shop.metric(series, "error_type=\"export_failed\"") > 0.0
    });
    wait_for("a word about it", || {
        shop.process
            .log()
            .contains("Log records cannot be exported")
    });
}

#[test]
fn an_export_that_cannot_be_is_refused() {
    let otlp = ("OTEL_LOGS_EXPORTER", "otlp");
    for (command, variables, words) in [
        ("payments", vec![("OTEL_LOGS_EXPORTER", "console")], "otlp"),
        ("payments", vec![("OTEL_TRACES_EXPORTER", "zipkin")], "otlp"),
        (
            "payments",
            vec![otlp, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        ),
        ("up", vec![otlp], "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = firedrill();
        process
            .args([command, "--data"])
            .arg(dir.path())
            .env("OTEL_SDK_DISABLED", "false")
            .envs(variables.clone());
        let mut process = Process::start(process, &dir.path().join("log"), 0);
        assert_eq!(process.exit_code(), Some(2), "{variables:?}");
        let said = process.log();
        let (variable, _) = variables[0];
        assert!(said.contains(words), "{variables:?}: {said}");
        assert!(said.contains(variable) || variables.len() > 1, "{said}");
    }
}

#[test]
fn the_command_shows_and_changes_the_filters_of_a_lab() {
    let up = Up::start(&[]);
    let log = |arguments: &[&str]| {
        let mut command = firedrill();
        let data = up.dir.path();
        let output = command
            .arg("log")
            .args(arguments)
            .arg("--data")
            .arg(data)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout) + &text(output.stderr),
        )
    };
    let all = "console: info\npayments: info\nshop: info\ntraffic: info\n";
    assert_eq!(log(&[]), (Some(0), all.to_owned()));
    let (code, said) = log(&["shop", "info,http=debug", "--ttl", "5m"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("shop: info,http=debug (for 2"), "{said}");
    assert!(log(&["payments"]).1.starts_with("payments: info\n"));
    for (arguments, expected) in [
        (&["bank"][..], "payments"),
        (&["shop", "shop=loud"], "parsing level filter"),
        (&["shop", "--ttl", "5m"], "--ttl"),
    ] {
        let (code, said) = log(arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
