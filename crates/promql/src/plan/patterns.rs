//! The regular expressions of one query: how many it may have, and each compiled once.
//!
//! A query of 64 KiB has room for thousands of patterns that each compile to half a megabyte. Without a bound,
//! to read it would take seconds and gigabytes, and no timeout counts yet.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use regex::Regex;

use crate::error::QueryError;
use crate::store::{Pattern, Texts, compiled, not_a_pattern};

/// The most different patterns of a query that have to be compiled.
const PATTERNS_MAX: usize = 50;

/// The most bytes of text that they may have together.
const BYTES_MAX: usize = 16 * 1024;

/// The patterns that a query has had so far. Those that need no regular expression do not count.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    compiled: RefCell<HashMap<String, Regex>>,
    bytes: Cell<usize>,
}

impl Patterns {
    /// The pattern of a matcher.
    pub(super) fn pattern(&self, text: &str) -> Result<Pattern, QueryError> {
        if let Some(texts) = Texts::new(text) {
            return Ok(Pattern::Texts(texts));
        }
        let regex = self.regex(text, |why| not_a_pattern(text, &why))?;
        Ok(Pattern::Compiled(regex))
    }

    /// The pattern as a regular expression; `invalid` makes the error from why it is none.
    pub(super) fn regex(
        &self,
        text: &str,
        invalid: impl FnOnce(String) -> QueryError,
    ) -> Result<Regex, QueryError> {
        let mut known = self.compiled.borrow_mut();
        if let Some(regex) = known.get(text) {
            return Ok(regex.clone());
        }
        let bytes = self.bytes.get() + text.len();
        if bytes > BYTES_MAX {
            return Err(QueryError::Parse(format!(
                "the regular expressions of the query have more than {BYTES_MAX} bytes"
            )));
        }
        if known.len() >= PATTERNS_MAX {
            return Err(QueryError::Parse(format!(
                "the query has more than {PATTERNS_MAX} different regular expressions"
            )));
        }
        let regex = compiled(text).map_err(invalid)?;
        self.bytes.set(bytes);
        known.insert(text.to_owned(), regex.clone());
        Ok(regex)
    }
}
