//! A look at a query before it is parsed.
//!
//! The parser and the tree that it builds are recursive, so a query of ten thousand brackets would end the process
//! with a stack overflow, which nothing can catch. Whatever makes a tree deeper is an operator or a bracket; counting
//! them first keeps every tree within bounds.

use crate::error::QueryError;

/// The most bytes of a query.
pub(super) const LENGTH_MAX: usize = 64 * 1024;

/// The most operators and brackets of a query.
const OPERATORS_MAX: usize = 1_000;

/// The most levels of a query.
pub(super) const DEPTH_MAX: usize = 100;

pub(super) fn check(query: &str) -> Result<(), QueryError> {
    if query.len() > LENGTH_MAX {
        return Err(QueryError::Parse(format!(
            "the query has {} bytes; at most {LENGTH_MAX} are allowed",
            query.len()
        )));
    }
    let operators = count_operators(query);
    if operators > OPERATORS_MAX {
        return Err(QueryError::Parse(format!(
            "the query has {operators} operators and brackets; at most {OPERATORS_MAX} are allowed"
        )));
    }
    Ok(())
}

/// Counts what may deepen the tree, outside of strings, comments and label matchers.
fn count_operators(query: &str) -> usize {
    let mut count = 0;
    let mut in_braces = false;
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '"' | '\'' | '`' => taken = string_length(rest, first),
            '#' => taken = rest.find('\n').unwrap_or(rest.len()),
            '{' => in_braces = true,
            '}' => in_braces = false,
            _ if in_braces => {}
            '(' | '[' | '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '!' => count += 1,
            _ if first.is_alphabetic() => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                taken = end.unwrap_or(rest.len());
                let word = rest[..taken].to_ascii_lowercase();
                if matches!(&*word, "and" | "or" | "unless" | "atan2") {
                    count += 1;
                }
            }
            _ => {}
        }
        rest = &rest[taken..];
    }
    count
}

/// How many bytes the string literal at the beginning takes, its quotes included.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_what_deepens_the_tree() {
        assert_eq!(count_operators("a and b or sum(c)"), 3);
        assert_eq!(count_operators(r#"a{b="(((", c!='\'))'} # ((("#), 0);
        assert_eq!(count_operators("`\\` + \"\\\" +\" - 1"), 2);
        assert_eq!(count_operators("android + ünless"), 1);
    }

    #[test]
    fn refuses_what_is_too_long_or_too_deep() {
        assert!(check(&"-".repeat(OPERATORS_MAX)).is_ok());
        assert!(check(&"-".repeat(OPERATORS_MAX + 1)).is_err());
        assert!(check(&" ".repeat(LENGTH_MAX + 1)).is_err());
    }
}
