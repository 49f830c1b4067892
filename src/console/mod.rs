//! The console: what a person sees of the lab.

pub mod otlp;
pub mod span;
pub mod traces;
pub mod waterfall;
