//! Every metric that any role exposes, as a typed function.
//!
//! A metric that is named at its call site drifts: the help text is missing, a label is spelled in two ways,
//! a dashboard asks for a series that was renamed. Here a name exists once, the doc comment *is* the help
//! text that Prometheus shows, and labels are arguments, so that a forgotten one does not compile. Only this
//! file may use the macros of the metrics crate (clippy enforces it).
//!
//! Names follow the OpenTelemetry semantic conventions where these have one, else `firedrill_*` in base
//! units. A label with an empty value is left out: to Prometheus both mean the same.

use std::fmt::{self, Write as _};

use metrics::{Label, SharedString};

pub use metrics::{Counter, Gauge, Histogram};

/// The kinds of metric that are exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from zero at the start of the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution over fixed buckets.
    Histogram,
}

/// One metric, as the catalogue describes it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name as it is exposed.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it counts or measures, and in which unit.
    pub help: &'static str,
    /// The label keys it may carry; the values are bounded.
    pub labels: &'static [&'static str],
    /// Upper bounds of the buckets; empty for counters and gauges.
    pub buckets: &'static [f64],
}

/// The buckets of request durations: those of the semantic conventions, and three below 5 ms, because a
/// fast handler would otherwise live inside the first bucket and every quantile of it would be invented.
pub const REQUEST_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// The buckets of what a request's time went into: most parts of most requests take microseconds.
pub const PART_SECONDS: &[f64] = &[
    0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// The buckets of polls: a request that never waits takes one.
pub const POLLS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0];

/// The buckets of operations of the database: most requests need one or two.
pub const OPERATIONS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// The buckets of allocated bytes, each four times the one before.
pub const ALLOCATED_BYTES: &[f64] = &[
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The buckets of database operations (semantic conventions, refined below 5 ms).
pub const DATABASE_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// The buckets of waits: for a slot, a connection, a permit, a turn on the scheduler.
pub const WAIT_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// The buckets of a turn of the audit: the more orders there were, the longer it takes.
pub const AUDIT_SECONDS: &[f64] = &[
    0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

fn labels<const N: usize>(pairs: [(&'static str, SharedString); N]) -> Vec<Label> {
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| Label::new(key, value))
        .collect()
}

macro_rules! buckets {
    () => {
        &[]
    };
    ($buckets:ident) => {
        $buckets
    };
}

macro_rules! catalogue {
    ($( $(#[doc = $help:literal])+ $kind:ident $handle:ident $name:ident ( $($label:ident),* ) $($buckets:ident)? ; )+) => {
        $(
            $(#[doc = $help])+
            #[expect(clippy::disallowed_macros, reason = "this is the one place that names metrics")]
            pub fn $name($($label: impl Into<SharedString>),*) -> $handle {
                metrics::$kind!(stringify!($name), labels([$((stringify!($label), $label.into())),*]))
            }
        )+

        /// Every metric, in reading order.
        pub const CATALOGUE: &[Metric] = &[$(
            Metric {
                name: stringify!($name),
                kind: Kind::$handle,
                help: concat!($($help),+),
                labels: &[$(stringify!($label)),*],
                buckets: buckets!($($buckets)?),
            },
        )+];
    };
}

catalogue! {
    /// Duration of a request in this server, from its headers read to its answer sent or abandoned. The SLI; its count is the request counter.
    histogram Histogram http_server_request_duration_seconds(http_request_method, http_route, http_response_status_code, error_type) REQUEST_SECONDS;
    /// Time from a request's headers read to the headers of its answer ready. What the duration has above it went into the body.
    histogram Histogram firedrill_http_server_headers_duration_seconds(http_route) REQUEST_SECONDS;
    /// Requests that this server is working on.
    gauge Gauge http_server_active_requests(http_request_method, url_scheme);
    /// Age of the oldest request that this server is still working on: what a request that never ends shows before it has a duration.
    gauge Gauge firedrill_http_server_oldest_request_age_seconds(http_route);
    /// What the time of a request went into: busy on a thread, ready and waiting for one, waiting for the pool, in the database, waiting for another service.
    histogram Histogram firedrill_http_server_request_part_seconds(http_route, part) PART_SECONDS;
    /// How often a runtime let a request run; each time it gave its thread away in between.
    histogram Histogram firedrill_http_server_request_polls(http_route) POLLS;
    /// How often a request went to the database, each time for one statement or one transaction.
    histogram Histogram firedrill_http_server_request_database_operations(http_route) OPERATIONS;
    /// Bytes that a request asked the allocator for.
    histogram Histogram firedrill_http_server_request_allocated_bytes(http_route) ALLOCATED_BYTES;
    /// Connections that a listener of this process holds open.
    gauge Gauge firedrill_http_server_open_connections(listener);
    /// Connections that a listener may hold open; more wait in the kernel's accept queue.
    gauge Gauge firedrill_http_server_connections_max(listener);
    /// Requests that this server refused before it worked on them.
    counter Counter firedrill_requests_shed_total(reason);

    /// Duration of one attempt of an outgoing request.
    histogram Histogram http_client_request_duration_seconds(http_request_method, server_address, server_port, http_response_status_code, error_type) REQUEST_SECONDS;
    /// Connections to a peer that are open, in use or kept for the next request.
    gauge Gauge http_client_open_connections(server_address, server_port);
    /// Outgoing requests that are under way.
    gauge Gauge http_client_active_requests(server_address, server_port);
    /// Logical calls to a peer, however many attempts each of them took.
    counter Counter firedrill_client_calls_total(peer, outcome);
    /// Attempts of logical calls. Attempts divided by calls is the retry amplification.
    counter Counter firedrill_client_attempts_total(peer);
    /// Further attempts that were not made.
    counter Counter firedrill_client_retries_withheld_total(peer, reason);

    /// Duration of one database operation, without the wait for a connection.
    histogram Histogram db_client_operation_duration_seconds(db_system_name, db_operation_name, db_collection_name, error_type) DATABASE_SECONDS;
    /// Connections of a pool, by state.
    gauge Gauge db_client_connection_count(db_client_connection_pool_name, db_client_connection_state);
    /// Connections that a pool may hold.
    gauge Gauge db_client_connection_max(db_client_connection_pool_name);
    /// Requests that wait for a connection of a pool.
    gauge Gauge db_client_connection_pending_requests(db_client_connection_pool_name);
    /// Waits for a connection, or for the turn to write on it, that ended without.
    counter Counter db_client_connection_timeouts_total(db_client_connection_pool_name);
    /// Time that a request waited for a connection, also if it left without one.
    histogram Histogram db_client_connection_wait_time_seconds(db_client_connection_pool_name) WAIT_SECONDS;
    /// Time that it took to open a connection.
    histogram Histogram db_client_connection_create_time_seconds(db_client_connection_pool_name) WAIT_SECONDS;
    /// Time that a connection was held.
    histogram Histogram db_client_connection_use_time_seconds(db_client_connection_pool_name) REQUEST_SECONDS;

    /// Look-ups in a cache: answered from it, answered with a value past its time, or not answered.
    counter Counter firedrill_cache_requests_total(cache, result);
    /// Entries of a cache.
    gauge Gauge firedrill_cache_entries(cache);
    /// For how long a value of a cache counts as fresh.
    gauge Gauge firedrill_cache_ttl_seconds(cache);
    /// Loads of a value for a cache that are under way.
    gauge Gauge firedrill_cache_active_loads(cache);
    /// Duration of one load of a value for a cache, with the wait for a connection; also if nobody took the value any more.
    histogram Histogram firedrill_cache_load_duration_seconds(cache) REQUEST_SECONDS;
    /// Entries that wait in a queue; of `orders`, which has places and no line, those under way.
    gauge Gauge firedrill_queue_depth(queue);
    /// Entries that a queue may hold; `+Inf` if nothing bounds them.
    gauge Gauge firedrill_queue_capacity(queue);
    /// Time that an entry waited in a queue, until work on it began or it left.
    histogram Histogram firedrill_queue_wait_seconds(queue) WAIT_SECONDS;

    /// Orders, by how they ended.
    counter Counter firedrill_orders_total(outcome);
    /// Orders that were left open (a lost answer, a crash) and settled later.
    counter Counter firedrill_orders_reconciled_total(outcome);
    /// Orders that this process is charging; those that wait to be reconciled are not among them.
    gauge Gauge firedrill_orders_open();
    /// Orders that began to charge more than 3 seconds ago and are not settled: still being charged, or left to be reconciled.
    gauge Gauge firedrill_orders_unsettled();
    /// Age of the oldest of the orders that are unsettled; 0 if there is none.
    gauge Gauge firedrill_orders_oldest_unsettled_age_seconds();
    /// Events of the outbox, by how their delivery ended.
    counter Counter firedrill_outbox_events_total(outcome);
    /// Age of the oldest event in the outbox that is not delivered yet.
    gauge Gauge firedrill_outbox_lag_seconds();

    /// What the audit found at its last complete turn: items of which more are sold and left than ever came in, charges of an order beyond its first, charges whose order is neither paid nor open. 0 also before the first turn, and old while the timestamp of the last success is.
    gauge Gauge firedrill_invariant_violations(invariant);
    /// When the audit last read a page of the books, in seconds since the epoch; 0 before the first. A turn through all of them takes the longer the more there is, so this tells whether it gets on.
    gauge Gauge firedrill_audit_last_page_timestamp_seconds(audit);
    /// When a turn of the audit was last completed, in seconds since the epoch; 0 before the first.
    gauge Gauge firedrill_audit_last_success_timestamp_seconds(audit);
    /// Duration of a complete turn of the audit, most of which is rest.
    histogram Histogram firedrill_audit_duration_seconds(audit) AUDIT_SECONDS;

    /// Charges whose slot at the bank has ended, by how they ended.
    counter Counter firedrill_bank_charges_total(outcome);
    /// Answers of the bank that nobody waited for any more.
    counter Counter firedrill_bank_answers_unclaimed_total();
    /// Charges that the bank can work on at the same time.
    gauge Gauge firedrill_bank_slots();
    /// Charges that the bank is working on.
    gauge Gauge firedrill_bank_slots_busy();

    /// What users did, by journey, from the moment each meant to start until the answer was complete or given up.
    histogram Histogram firedrill_journey_duration_seconds(journey, outcome) REQUEST_SECONDS;
    /// Journeys that users meant to start.
    counter Counter firedrill_journey_arrivals_total(journey);
    /// Journeys that users are on.
    gauge Gauge firedrill_journeys_active();
    /// Arrivals a second that the users are set to.
    gauge Gauge firedrill_journey_target_rate(journey);
    /// How late a journey started, because the process that plays the users was itself too slow.
    histogram Histogram firedrill_journey_start_delay_seconds() WAIT_SECONDS;

    /// Scrapes, by what came of them: `refused` brought an answer that breaks the format or a bound.
    counter Counter firedrill_judge_scrapes_total(outcome);
    /// Samples of scrapes and rules, by whether the store kept them.
    counter Counter firedrill_judge_samples_total(outcome);
    /// Series in the store of samples.
    gauge Gauge firedrill_judge_series();
    /// Series that the store of samples may hold; the samples of more are dropped.
    gauge Gauge firedrill_judge_series_max();
    /// Memory that the store of samples takes.
    gauge Gauge firedrill_judge_store_bytes();
    /// Memory that the store of samples may take; when it is full samples are dropped.
    gauge Gauge firedrill_judge_store_bytes_max();
    /// Rules that were evaluated, by how that ended.
    counter Counter firedrill_judge_rule_evaluations_total(outcome);
    /// Evaluations of a group of rules that did not take place because the last one was still under way.
    counter Counter firedrill_judge_rule_iterations_missed_total();
    /// Time that the evaluation of a group of rules took.
    histogram Histogram firedrill_judge_rule_group_duration_seconds(rule_group) WAIT_SECONDS;
    /// Alerts for the Alertmanager, by what came of them: `dropped` found the queue full.
    counter Counter firedrill_judge_notifications_total(outcome);

    /// Threads that run tasks of the data plane.
    gauge Gauge tokio_workers();
    /// Tasks that exist in the data plane's runtime.
    gauge Gauge tokio_alive_tasks();
    /// Tasks that wait in the runtime's shared queue.
    gauge Gauge tokio_global_queue_depth();
    /// How much later than asked a timer of 10 ms fired: the time a ready task waits for a worker.
    histogram Histogram tokio_scheduler_delay_seconds() WAIT_SECONDS;

    /// Times that a worker of the data plane went to sleep for want of work.
    counter Counter tokio_worker_parks_total(worker);

    /// Memory that the allocator holds, by whether it is in use or was given back and is kept for later.
    gauge Gauge firedrill_allocator_bytes(state);
    /// Times that the kernel took a thread off its core, because it waited (`voluntary`) or had its turn.
    counter Counter process_context_switches_total(process_context_switch_type);
    /// Pages that were not in memory when they were touched, by whether the disk had to be read (`major`).
    counter Counter process_paging_faults_total(process_paging_fault_type);
    /// Resident memory.
    gauge Gauge process_resident_memory_bytes();
    /// Virtual memory.
    gauge Gauge process_virtual_memory_bytes();
    /// Open file descriptors.
    gauge Gauge process_open_fds();
    /// File descriptors that the process may open.
    gauge Gauge process_max_fds();
    /// Operating-system threads.
    gauge Gauge process_threads();
    /// When the process started, in seconds since the epoch.
    gauge Gauge process_start_time_seconds();

    /// Spans that ended and were sampled.
    counter Counter firedrill_spans_ended_total();
    /// Spans that wait to be exported.
    gauge Gauge otel_sdk_processor_span_queue_size();
    /// Spans that may wait to be exported; one that ends when it is full is dropped.
    gauge Gauge otel_sdk_processor_span_queue_capacity();
    /// Spans that left the queue for the exporter, or found it full (`queue_full`) and were dropped.
    counter Counter otel_sdk_processor_span_processed_total(error_type);
    /// Spans handed to the OTLP endpoint, by result.
    counter Counter otel_sdk_exporter_span_exported_total(error_type);
    /// Time that it took to write the metrics for one scrape; seen at the next.
    histogram Histogram firedrill_metrics_render_duration_seconds() WAIT_SECONDS;
    /// Size of the answer to the last scrape.
    gauge Gauge firedrill_metrics_render_size_bytes();
    /// Log events, by level.
    counter Counter firedrill_log_events_total(level);
    /// Log lines that standard error did not get, because it was not read fast enough or refused them.
    counter Counter firedrill_log_lines_dropped_total();
    /// Bytes of log lines that standard error took.
    counter Counter firedrill_log_bytes_written_total();
    /// Log records handed to the OTLP endpoint, by result.
    counter Counter otel_sdk_exporter_log_exported_total(error_type);
    /// Values of a label that were not kept, because the label has as many as it may have; what they stood for is counted without them.
    counter Counter firedrill_label_values_dropped_total(label);
    /// Panics that were caught.
    counter Counter firedrill_panics_total();
    /// Always 1; its labels say which program runs.
    gauge Gauge firedrill_build_info(version);
    /// Always 1; its labels say what this process is, as its spans do.
    gauge Gauge target_info(service_name, service_version);
    /// When something of this process was last changed, in seconds since the epoch; 0 before the first time. A deployment is a start as another version than before, and is remembered over starts.
    gauge Gauge firedrill_last_change_timestamp_seconds(kind);
}

/// Counters in fractions of a second. The exporter counts in whole numbers, so whoever knows the time writes it
/// as text, with `write_counter`.
pub const FRACTIONAL: &[Metric] = &[
    Metric {
        name: "tokio_worker_busy_seconds_total",
        kind: Kind::Counter,
        help: "Time that a worker of the data plane was not idle.",
        labels: &["worker"],
        buckets: &[],
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "CPU time that the process used, user and system.",
        labels: &[],
        buckets: &[],
    },
];

/// Appends a family of [`FRACTIONAL`]: each sample with the value of its label, empty if it has none.
pub(super) fn write_counter(
    text: &mut String,
    name: &str,
    samples: impl IntoIterator<Item = (String, f64)>,
) {
    let Some(metric) = FRACTIONAL.iter().find(|metric| metric.name == name) else {
        return;
    };
    let mut line = |what: fmt::Arguments<'_>| {
        text.write_fmt(what)
            .expect("writing to a string cannot fail");
    };
    line(format_args!("# HELP {name} {}\n", metric.help));
    line(format_args!("# TYPE {name} counter\n"));
    for (value, sample) in samples {
        match metric.labels {
            [label, ..] => line(format_args!("{name}{{{label}=\"{value}\"}} {sample}\n")),
            [] => line(format_args!("{name} {sample}\n")),
        }
    }
    line(format_args!("\n"));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_their_unit() {
        let mut seen = HashSet::new();
        for metric in CATALOGUE {
            assert!(seen.insert(metric.name), "{} stands twice", metric.name);
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}: counters, and only they, end in _total",
                metric.name
            );
            assert_eq!(
                metric.kind == Kind::Histogram,
                !metric.buckets.is_empty(),
                "{}",
                metric.name
            );
            assert!(
                metric.help.trim().ends_with('.'),
                "{}: help is a sentence",
                metric.name
            );
        }
    }

    #[test]
    fn an_empty_label_value_is_left_out() {
        let kept = labels([("a", "1".into()), ("b", "".into())]);
        assert_eq!(kept, [Label::new("a", "1")]);
    }

    #[test]
    fn a_fractional_counter_is_written_with_its_help() {
        let mut text = String::new();
        write_counter(
            &mut text,
            "tokio_worker_busy_seconds_total",
            [("0".into(), 1.5)],
        );
        write_counter(
            &mut text,
            "process_cpu_seconds_total",
            [(String::new(), 0.25)],
        );
        for line in [
            "# TYPE tokio_worker_busy_seconds_total counter",
            "tokio_worker_busy_seconds_total{worker=\"0\"} 1.5",
            "process_cpu_seconds_total 0.25",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
