//! HTTP, as every role speaks it: one accept loop, one client, one shape of error.
//!
//! Frameworks leave the edges open: a connection that never finishes its header, a drain that never ends, an
//! error page in plain text. Here each edge has a bound, and each refusal says which field, which value and
//! what is allowed.

pub mod client;
mod connections;
pub mod deadline;
pub mod extract;
mod gate;
pub mod problem;
pub mod routes;
pub mod server;

pub use client::Client;
pub use deadline::Deadline;
pub use problem::Problem;
pub use routes::Routes;
