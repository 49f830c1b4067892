//! Matchers: what a selector asks of a label.

use super::pattern::Pattern;
use crate::error::QueryError;

/// The most characters of a pattern that an error shows.
const SHOWN_MAX: usize = 200;

/// A condition on one label. A missing label is matched as an empty one.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    NotEqual(String),
    Matches(Pattern),
    MatchesNot(Pattern),
}

impl Matcher {
    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            test: Test::Equal(value.into()),
        }
    }

    /// `name!="value"`
    pub fn not_equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            test: Test::NotEqual(value.into()),
        }
    }

    /// `name=~"pattern"`: the whole value must match.
    ///
    /// Fails if the pattern is no regular expression, or one that is too large.
    pub fn matches(name: impl Into<String>, pattern: &str) -> Result<Self, QueryError> {
        Ok(Self::with_pattern(name, read(pattern)?))
    }

    /// `name!~"pattern"`: the whole value must not match.
    ///
    /// Fails if the pattern is no regular expression, or one that is too large.
    pub fn matches_not(name: impl Into<String>, pattern: &str) -> Result<Self, QueryError> {
        Ok(Self::without_pattern(name, read(pattern)?))
    }

    pub(crate) fn with_pattern(name: impl Into<String>, pattern: Pattern) -> Self {
        Self {
            name: name.into(),
            test: Test::Matches(pattern),
        }
    }

    pub(crate) fn without_pattern(name: impl Into<String>, pattern: Pattern) -> Self {
        Self {
            name: name.into(),
            test: Test::MatchesNot(pattern),
        }
    }

    /// The label that is looked at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a value fulfils the condition.
    #[must_use]
    pub fn is_match(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => wanted == value,
            Test::NotEqual(unwanted) => unwanted != value,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::MatchesNot(pattern) => !pattern.is_match(value),
        }
    }

    /// The only value that matches, where the condition is equality.
    #[must_use]
    pub fn equal_value(&self) -> Option<&str> {
        match &self.test {
            Test::Equal(value) => Some(value),
            _ => None,
        }
    }
}

fn read(pattern: &str) -> Result<Pattern, QueryError> {
    Pattern::new(pattern).map_err(|why| not_a_pattern(pattern, &why))
}

/// The error for a pattern that cannot be used. Of a long one it shows the beginning.
pub(crate) fn not_a_pattern(pattern: &str, why: &str) -> QueryError {
    let shown: String = pattern.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < pattern.len() {
        "…"
    } else {
        ""
    };
    QueryError::Parse(format!(
        "{shown:?}{more} is not a regular expression: {why}"
    ))
}
