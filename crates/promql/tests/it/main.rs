//! What the crate promises, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod store;
