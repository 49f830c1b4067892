//! How many stand in a line, for a gauge: neither a semaphore nor a mutex tells.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A line, empty at first.
#[derive(Debug, Default)]
pub(crate) struct Line(AtomicUsize);

/// A place in a line, until it is dropped.
#[derive(Debug)]
pub(crate) struct InLine<'a>(&'a AtomicUsize);

impl Line {
    /// Takes a place.
    pub(crate) fn enter(&self) -> InLine<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        InLine(&self.0)
    }

    /// How many stand in it.
    pub(crate) fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
