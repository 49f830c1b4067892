//! What the crate promises, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers; // values, JSON, options
mod robust; // no query panics or runs away
mod scripts; // queries, family by family
mod store;
