//! An embeddable PromQL engine and in-memory store, with the semantics of Prometheus 3.

pub mod error;
pub mod labels;
pub mod store;
pub mod value;
