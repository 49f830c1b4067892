//! Matchers: what a selector asks of a label.

use regex::Regex;

use crate::error::QueryError;

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
    Matches(Regex),
    MatchesNot(Regex),
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
    /// Fails if the pattern is no regular expression.
    pub fn matches(name: impl Into<String>, pattern: &str) -> Result<Self, QueryError> {
        Ok(Self {
            name: name.into(),
            test: Test::Matches(anchored(pattern)?),
        })
    }

    /// `name!~"pattern"`: the whole value must not match.
    ///
    /// Fails if the pattern is no regular expression.
    pub fn matches_not(name: impl Into<String>, pattern: &str) -> Result<Self, QueryError> {
        Ok(Self {
            name: name.into(),
            test: Test::MatchesNot(anchored(pattern)?),
        })
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

/// A pattern that must match the whole text, in which a dot also matches a line break, as in Prometheus 3.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, QueryError> {
    Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| {
        QueryError::Parse(format!("{pattern:?} is not a regular expression: {error}"))
    })
}
