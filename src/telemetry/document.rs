//! `docs/TELEMETRY.md`: everything that a role tells, written from the tables that the code itself uses.
//!
//! A list that is kept by hand beside the code is wrong after the next change, and a reader who has found it
//! wrong once does not look again. A test fails when the file in the repository is not this one.

use std::fmt::Write as _;

use super::catalog::{CATALOGUE, FRACTIONAL, Kind, Metric};
use super::spans::SPANS;

/// What the values of each label may be.
pub const LABELS: &[(&str, &str)] = &[
    (
        "http_request_method",
        "the methods of HTTP; `_OTHER` for all that clients invent",
    ),
    (
        "http_route",
        "the role's routes as they are written in code (`/items/{id}`); `unmatched` for all other paths, unless `label_policy` says otherwise",
    ),
    (
        "http_response_status_code",
        "a status; absent if there was no answer",
    ),
    (
        "error_type",
        "a fixed word (`timeout`, `cancelled`, `shed`, ...) or a status from 500; absent if all is well",
    ),
    ("url_scheme", "`http`"),
    ("part", "`busy`, `ready`, `pool`, `database`, `downstream`"),
    ("listener", "`data`, `control`, `otlp`"),
    (
        "reason",
        "why it was refused or not made: a fixed word for each bound",
    ),
    (
        "server_address",
        "the host of a peer that the role was told of",
    ),
    ("server_port", "its port"),
    ("peer", "the role that is called"),
    ("outcome", "how it ended: a fixed word for each ending"),
    ("db_system_name", "`sqlite`"),
    (
        "db_operation_name",
        "`SELECT`, `INSERT`, `UPDATE`, `DELETE`",
    ),
    ("db_collection_name", "a table"),
    ("db_client_connection_pool_name", "`shop`"),
    ("db_client_connection_state", "`used`, `idle`"),
    ("cache", "`items`, `popular`"),
    ("result", "`hit`, `stale`, `miss`"),
    ("queue", "a queue of the role, named in code"),
    (
        "journey",
        "what users do: `browse`, `order`, `login`, `search`",
    ),
    ("rule_group", "the name of a group in the rule file"),
    ("label", "the name of one of these labels"),
    ("worker", "the number of a thread, from 0"),
    ("service_name", "the role"),
    (
        "service_version",
        "the version that the process was started as",
    ),
    ("kind", "`deploy`, `config`"),
    ("state", "`used`, `free`"),
    ("process_context_switch_type", "`voluntary`, `involuntary`"),
    ("process_paging_fault_type", "`major`, `minor`"),
    ("level", "`error`, `warn`, `info`, `debug`, `trace`"),
    ("version", "the version of the program"),
    (
        "invariant",
        "`oversold`, `charged_twice`, `charge_without_order`",
    ),
    ("audit", "`stock`, `charges`"),
];

/// The chapters, each with the beginnings of its metrics' names. A metric belongs to the first that fits.
const CHAPTERS: &[(&str, &[&str])] = &[
    (
        "Requests that are served",
        &[
            "http_server_",
            "firedrill_http_server_",
            "firedrill_requests_",
        ],
    ),
    (
        "Requests that are sent",
        &["http_client_", "firedrill_client_"],
    ),
    ("Database", &["db_client_"]),
    (
        "Caches and queues",
        &["firedrill_cache_", "firedrill_queue_"],
    ),
    (
        "The shop's business",
        &[
            "firedrill_orders_",
            "firedrill_outbox_",
            "firedrill_invariant_",
            "firedrill_audit_",
        ],
    ),
    ("The bank", &["firedrill_bank_"]),
    ("The users", &["firedrill_journey"]),
    ("The judge", &["firedrill_judge_"]),
    ("The runtime", &["tokio_"]),
    (
        "The process",
        &[
            "process_",
            "firedrill_allocator_",
            "firedrill_panics_",
            "firedrill_build_",
            "firedrill_last_change_",
            "target_",
        ],
    ),
    (
        "Telemetry itself",
        &[
            "firedrill_spans_",
            "otel_",
            "firedrill_metrics_",
            "firedrill_label_",
            "firedrill_log",
        ],
    ),
    ("Everything else", &[""]),
];

const BEGINNING: &str = "\
# Telemetry

What every role tells about itself. Written by `firedrill telemetry`; a test fails when this file is another.

Metrics are on `/metrics` of each role's control plane, in Prometheus' text format, or in OpenMetrics with exemplars
for readers that ask for it. Names are those of OpenTelemetry's semantic conventions where these have one, else
`firedrill_*`; units are seconds, bytes and plain counts. `job`, `instance` and `role` come from the scrape.
Every series that can be known beforehand exists at zero from the start; what the requests of a route went through,
from the first of them on. None of the names, labels, attributes and log events depends on which choices are in force, and none says so.
";

/// The document, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(BEGINNING);
    let all: Vec<&Metric> = CATALOGUE.iter().chain(FRACTIONAL).collect();
    for (index, (title, _)) in CHAPTERS.iter().enumerate() {
        let of_chapter: Vec<_> = all
            .iter()
            .filter(|metric| chapter(metric) == index)
            .collect();
        if of_chapter.is_empty() {
            continue;
        }
        put(
            &mut text,
            format_args!(
                "\n## {title}\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n"
            ),
        );
        for metric in of_chapter {
            put(&mut text, format_args!("{}", row(metric)));
        }
    }
    put(
        &mut text,
        format_args!("\n## Labels\n\n| label | values |\n|---|---|\n"),
    );
    for (label, values) in LABELS {
        put(&mut text, format_args!("| `{label}` | {values} |\n"));
    }
    buckets(&mut text, &all);
    spans(&mut text);
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("writing to a string cannot fail");
}

fn chapter(metric: &Metric) -> usize {
    let fits = |(_, beginnings): &(&str, &[&str])| {
        beginnings
            .iter()
            .any(|beginning| metric.name.starts_with(beginning))
    };
    CHAPTERS
        .iter()
        .position(fits)
        .expect("the last chapter takes everything")
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
    let (name, labels, help) = (metric.name, labels.join(" "), metric.help.trim());
    format!("| `{name}` | {kind} | {labels} | {help} |\n")
}

fn buckets(text: &mut String, all: &[&Metric]) {
    put(
        text,
        format_args!("\n## Buckets\n\n| upper bounds | histograms |\n|---|---|\n"),
    );
    let mut written: Vec<&[f64]> = Vec::new();
    for metric in all.iter().filter(|metric| metric.kind == Kind::Histogram) {
        if written.contains(&metric.buckets) {
            continue;
        }
        written.push(metric.buckets);
        let bounds: Vec<_> = metric.buckets.iter().map(ToString::to_string).collect();
        let with_them = all.iter().filter(|other| other.buckets == metric.buckets);
        let names: Vec<_> = with_them.map(|m| format!("`{}`", m.name)).collect();
        put(
            text,
            format_args!("| {} | {} |\n", bounds.join(" "), names.join(" ")),
        );
    }
}

fn spans(text: &mut String) {
    let beginning = "\n## Spans\n\n\
        Sent over OTLP, as the `OTEL_*` variables say. An error sets the status and `error.type`.\n\n\
        | span | kind | what it is | attributes |\n|---|---|---|---|\n";
    text.push_str(beginning);
    for span in SPANS {
        let attributes: Vec<_> = span.attributes.iter().map(|a| format!("`{a}`")).collect();
        let (name, kind, help) = (span.name, span.kind, span.help);
        put(
            text,
            format_args!(
                "| `{name}` | {kind} | {help} | {} |\n",
                attributes.join(" ")
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_label_is_bounded_in_words() {
        let all = CATALOGUE.iter().chain(FRACTIONAL);
        let used: HashSet<_> = all.flat_map(|metric| metric.labels).collect();
        let known: HashSet<_> = LABELS.iter().map(|(label, _)| label).collect();
        assert_eq!(used, known);
        assert_eq!(known.len(), LABELS.len(), "none stands twice");
    }

    #[test]
    fn every_metric_has_a_chapter_of_its_kind() {
        let last = CHAPTERS.len() - 1;
        for metric in CATALOGUE.iter().chain(FRACTIONAL) {
            assert_ne!(chapter(metric), last, "{}", metric.name);
        }
    }
}
