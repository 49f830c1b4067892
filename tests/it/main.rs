//! Integration tests: real processes of the real binary, on port 0, on loopback.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(
    clippy::too_many_lines,
    reason = "tables of cases are read from top to bottom"
)]

mod support;

mod audit;
mod changes; // what must always be true, made false in the real databases
mod cli; // what a wrong call ends with
mod compose; // the Compose file: limits, versions, and what must agree with it
mod control; // the second listener: choices, token, a blocked data plane
mod crash; // kill -9 under load: nothing lost, nothing charged twice
mod dashboards; // what the panels ask for exists
mod drills; // what the files name exists; a killed drill leaves nothing behind
mod http; // bad input at the shop
mod judge; // the console as a Prometheus: scrapes, rules, API
mod layers; // which module may import which
mod lifecycle; // start, drain, stop
mod logs; // the writer that never waits, the filter, log records over OTLP
mod metrics; // what is counted, and that it is there from the start
mod observer; // whatever becomes of a request, it is counted
mod orders; // idempotency, stock, a client that leaves
mod profiles; // what the processor and the memory are used for, as others read it
mod rules; // the alert rules, their profiles and runbooks
mod spoilers; // no name depends on an option, and none tells it
mod traces; // one trace through three processes, as a real OTLP receiver sees it
mod up; // the supervisor
