//! firedrill: a flight simulator for the people who keep services alive.
//!
//! # Layout, in reading order
//!
//! - [`cli`]: the commands; the one reader of the environment
//! - [`shop`], [`payments`], [`traffic`], [`console`]: the roles, each a process
//! - [`choices`]: the design decisions that can go wrong, one lesson a file
//! - [`drills`]: experiments that meet a poor choice with a shock, and judge what came of it
//! - [`rules`]: the alert rules, with windows for production or for a drill
//! - [`judge`]: scrapes the roles, evaluates the rules, answers as a Prometheus does
//! - [`up`]: starts every role and keeps it running
//! - [`control`]: the second listener of each role: metrics, health, choices, shocks
//! - [`store`], [`http`], [`telemetry`]: the database, the network, the instruments
//!
//! `docs/ARCHITECTURE.md` says what may import what; `tests/it/layers.rs` enforces it.

pub mod choices;
pub mod cli;
pub mod console;
pub mod control;
pub mod drills;
pub mod http;
pub mod judge;
pub mod payments;
pub mod rules;
pub mod shop;
pub mod store;
pub mod telemetry;
pub mod traffic;
pub mod up;
