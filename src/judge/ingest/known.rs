//! The series of one target: those that it has, and those that it had and that still take room.
//!
//! A target that names its series anew with each scrape fills the store although no scrape is large. So what is
//! gone counts, too, for as long as the store keeps it.

use std::collections::HashMap;
use std::time::Duration;

use promql::{Sample, SeriesRef, Store};

use super::RAW_KEPT;
use crate::judge::time::to_ms;

/// For how much longer than promised a series may be in the store: it is trimmed once a minute.
const TRIM_SLACK: Duration = Duration::from_secs(120);

/// Tells label sets apart: a hash with a key that only this process knows.
pub(super) type Print = u64;

/// A series that the last good scrape had.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) series: SeriesRef,
    pub(super) print: Print,
    /// The last scrape that had it.
    pub(super) turn: u64,
    /// Whether it had a time of its own there.
    pub(super) timed: bool,
    /// Whether it has to be marked when it is gone: it is not yet, and its samples have no times of their own.
    pub(super) live: bool,
}

impl Known {
    pub(super) fn mark(&mut self, store: &mut Store, at: i64) {
        if self.live {
            // What the store has dropped needs no marker, and a full store can only be left as it is.
            drop(store.append(self.series, Sample::stale(at)));
            self.live = false;
        }
    }
}

/// The series of one target, by the text that names them.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) known: HashMap<Box<str>, Known>,
    /// When those were last seen that are known no more.
    gone: HashMap<Print, i64>,
}

impl Series {
    /// How many the store may hold after a scrape that brings these new ones.
    pub(super) fn held_with(&mut self, new: &[Print], at: i64) -> usize {
        let kept = to_ms(RAW_KEPT) + to_ms(TRIM_SLACK);
        self.gone.retain(|_, last| at - *last <= kept);
        let back = new.iter().filter(|print| self.gone.contains_key(print));
        self.known.len() + self.gone.len() + new.len() - back.count()
    }

    pub(super) fn add(&mut self, text: &str, known: Known) {
        self.gone.remove(&known.print);
        self.known.insert(text.into(), known);
    }

    /// Ends the scrape `turn`: marks the series that it did not have, and forgets their texts.
    pub(super) fn settle(&mut self, store: &mut Store, turn: u64, at: i64) {
        let gone = &mut self.gone;
        let mut vanished = false;
        self.known.retain(|_, known| {
            if known.turn == turn {
                known.live = !known.timed;
                return true;
            }
            known.mark(store, at);
            gone.insert(known.print, at);
            vanished = true;
            false
        });
        if vanished {
            // One that is written in another way now is not gone.
            for known in self.known.values() {
                gone.remove(&known.print);
            }
        }
    }

    /// Marks all as gone. They are remembered, so that they are not new when the target comes back.
    pub(super) fn mark_all(&mut self, store: &mut Store, at: i64) {
        for known in self.known.values_mut() {
            known.mark(store, at);
        }
    }
}
