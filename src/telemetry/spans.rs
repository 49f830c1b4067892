//! Every span that any role makes, as its reader sees it.
//!
//! The spans themselves are made where the work is done. This table is what they must keep to: the integration
//! tests compare what a receiver gets with it, and the documentation is written from it.

/// A span, as it is exported.
#[derive(Debug, Clone, Copy)]
pub struct ExportedSpan {
    /// Its name; words in capitals stand for what differs.
    pub name: &'static str,
    /// `server`, `client`, `consumer` or `internal`.
    pub kind: &'static str,
    /// What it measures.
    pub help: &'static str,
    /// The keys of its attributes; which of them are set depends on how the work went.
    pub attributes: &'static [&'static str],
}

/// Every span.
pub const SPANS: &[ExportedSpan] = &[
    ExportedSpan {
        name: "JOURNEY",
        kind: "internal",
        help: "What a user did (`browse`, `order`, `login`, `search`), from start to answer; the root of its trace.",
        attributes: &["error.type"],
    },
    ExportedSpan {
        name: "METHOD ROUTE",
        kind: "server",
        help: "A request in the server, until the last byte of its answer was handed over; only `METHOD` if no route matched.",
        attributes: &[
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "error.type",
            "url.path",
            "url.scheme",
            "firedrill.busy_s",
            "firedrill.ready_s",
            "firedrill.pool_s",
            "firedrill.database_s",
            "firedrill.downstream_s",
            "firedrill.polls",
            "firedrill.database_operations",
            "firedrill.allocated_bytes",
        ],
    },
    ExportedSpan {
        name: "METHOD",
        kind: "client",
        help: "One attempt of an outgoing request.",
        attributes: &[
            "http.request.method",
            "http.request.resend_count",
            "http.response.status_code",
            "error.type",
            "server.address",
            "server.port",
            "url.full",
        ],
    },
    ExportedSpan {
        name: "OPERATION TABLE",
        kind: "client",
        help: "One operation of the database, on its connection; the wait for one is not in it.",
        attributes: &[
            "db.system.name",
            "db.operation.name",
            "db.collection.name",
            "error.type",
        ],
    },
    ExportedSpan {
        name: "bank slot",
        kind: "internal",
        help: "A charge in its slot at the bank; the wait in the bank's queue is before it.",
        attributes: &[],
    },
    ExportedSpan {
        name: "process outbox",
        kind: "consumer",
        help: "A delivery of the outbox: a trace of its own, with a link to each order that it is for.",
        attributes: &[
            "messaging.system",
            "messaging.destination.name",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.batch.message_count",
            "error.type",
        ],
    },
];
