//! Integration tests: real processes of the real binary, on port 0, on loopback.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(
    clippy::too_many_lines,
    reason = "tables of cases are read from top to bottom"
)]

mod support;

mod cli; // what a wrong call ends with
mod compose; // the Compose file: limits, versions, and what must agree with it
mod control; // the second listener: choices, token, a blocked data plane
mod crash; // kill -9 under load: nothing lost, nothing charged twice
mod dashboards; // what the panels ask for exists
mod http; // bad input at the shop
mod layers; // which module may import which
mod lifecycle; // start, drain, stop
mod metrics; // what is counted, and that it is there from the start
mod orders; // idempotency, stock, a client that leaves
mod profiles; // what the processor and the memory are used for, as others read it
mod rules; // the alert rules, their profiles and runbooks
mod traces; // one trace through three processes, as a real OTLP receiver sees it
mod up; // the supervisor
