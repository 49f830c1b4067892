//! The index: from a label and its value to the series that carry them.
//!
//! A regular expression is tried once on each distinct value of a label, not on each series. The index is also where
//! the text of labels is kept once, however many series share it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::matcher::Matcher;
use crate::labels::{Label, Labels};

/// Positions of series, ascending.
type Postings = Vec<u32>;

/// What one new name or value costs besides its text: the pointer, the counters, the map's node and the vector.
const ENTRY_BYTES: usize = 96;

/// What one series costs in one list of postings, spare room included.
const POSTING_BYTES: usize = 2 * size_of::<u32>();

#[derive(Debug, Default)]
pub(crate) struct Index {
    names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Postings>>,
    bytes: usize,
}

impl Index {
    /// Adds a series and returns its labels with shared text.
    pub(crate) fn insert(&mut self, labels: &Labels, position: u32) -> Labels {
        let pairs = labels.pairs().iter();
        Labels::from_sorted(pairs.map(|pair| self.insert_pair(pair, position)).collect())
    }

    fn insert_pair(&mut self, (name, value): &Label, position: u32) -> Label {
        let name = if let Some((shared, _)) = self.names.get_key_value(name) {
            Arc::clone(shared)
        } else {
            self.bytes += ENTRY_BYTES + name.len();
            Arc::clone(name)
        };
        let values = self.names.entry(Arc::clone(&name)).or_default();
        let value = if let Some((shared, _)) = values.get_key_value(value) {
            Arc::clone(shared)
        } else {
            self.bytes += ENTRY_BYTES + value.len();
            Arc::clone(value)
        };
        let postings = values.entry(Arc::clone(&value)).or_default();
        if let Err(at) = postings.binary_search(&position) {
            postings.insert(at, position);
            self.bytes += POSTING_BYTES;
        }
        (name, value)
    }

    /// What adding a series with these labels may cost at most.
    pub(crate) fn cost(labels: &Labels) -> usize {
        labels
            .iter()
            .map(|(name, value)| 2 * ENTRY_BYTES + name.len() + value.len() + POSTING_BYTES)
            .sum()
    }

    /// Removes a series, and the text that no other series needs.
    pub(crate) fn remove(&mut self, labels: &Labels, position: u32) {
        for (name, value) in labels.pairs() {
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            let Some(postings) = values.get_mut(value) else {
                continue;
            };
            if let Ok(at) = postings.binary_search(&position) {
                postings.remove(at);
                self.bytes -= POSTING_BYTES;
            }
            if postings.is_empty() {
                values.remove(value);
                self.bytes -= ENTRY_BYTES + value.len();
            }
            if values.is_empty() {
                self.names.remove(name);
                self.bytes -= ENTRY_BYTES + name.len();
            }
        }
    }

    /// The memory that the index takes, nearly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.names.get(name).into_iter();
        values.flat_map(|values| values.keys().map(|value| &**value))
    }

    /// The series that fulfil all conditions, or `None` if the conditions narrow nothing down and all series do
    /// except those of `excluded`.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Selection {
        let (narrowing, excluding): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|matcher| !matcher.is_match(""));
        let mut lists: Vec<Postings> = narrowing
            .into_iter()
            .map(|matcher| self.with_value(matcher, true))
            .collect();
        lists.sort_by_key(Vec::len);
        let included = lists.into_iter().reduce(|mut all, list| {
            all.retain(|position| list.binary_search(position).is_ok());
            all
        });
        let excluded = excluding
            .into_iter()
            .map(|matcher| self.with_value(matcher, false))
            .collect();
        Selection { included, excluded }
    }

    /// The series that have a value for the label which does, or does not, match.
    fn with_value(&self, matcher: &Matcher, wanted: bool) -> Postings {
        let Some(values) = self.names.get(matcher.name()) else {
            return Postings::new();
        };
        if let (Some(value), true) = (matcher.equal_value(), wanted) {
            return values.get(value).cloned().unwrap_or_default();
        }
        let mut all: Postings = values
            .iter()
            .filter(|(value, _)| matcher.is_match(value) == wanted)
            .flat_map(|(_, postings)| postings.iter().copied())
            .collect();
        all.sort_unstable();
        all
    }
}

/// What the index found.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Those that fulfil each condition which a missing label does not; `None` if there is no such condition.
    pub(crate) included: Option<Postings>,
    /// Those that fail one of the other conditions.
    excluded: Vec<Postings>,
}

impl Selection {
    pub(crate) fn excludes(&self, position: u32) -> bool {
        self.excluded
            .iter()
            .any(|list| list.binary_search(&position).is_ok())
    }
}
