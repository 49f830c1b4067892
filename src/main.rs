//! The binary: see the library's documentation.
fn main() {}
