//! A look at a query before it is parsed.
//!
//! The parser and the tree that it builds are recursive, so a query of ten thousand brackets would end the process
//! with a stack overflow, which nothing can catch. Whatever makes a tree deeper is an operator or a bracket; counting
//! them first keeps every tree within bounds. Matchers count, too: each costs a walk over the values of a label. Durations
//! that the parser cannot hold are refused here. On the way the text is made that the parser gets, see [`marks`].

use super::marks;
use crate::error::QueryError;

/// The most bytes of a query.
pub(super) const LENGTH_MAX: usize = 64 * 1024;

/// The most operators, brackets and matchers of a query.
const OPERATORS_MAX: usize = 1_000;

/// The most levels of a query.
pub(super) const DEPTH_MAX: usize = 100;

/// The longest duration that is given as a number of seconds. The parser panics on what does not fit its own type.
const SECONDS_MAX: f64 = 1e11;

/// The most digits before a unit: the parser takes longer numbers for zero.
const DIGITS_MAX: usize = 9;

/// Checks a query and returns it as the parser is to read it.
pub(super) fn check(query: &str) -> Result<String, QueryError> {
    if query.len() > LENGTH_MAX {
        return Err(QueryError::Parse(format!(
            "the query has {} bytes; at most {LENGTH_MAX} are allowed",
            query.len()
        )));
    }
    let (operators, marked) = scan(query)?;
    if operators > OPERATORS_MAX {
        return Err(QueryError::Parse(format!(
            "the query has {operators} operators, brackets and matchers; at most {OPERATORS_MAX} are allowed"
        )));
    }
    Ok(marked)
}

/// Counts what may deepen the tree, and the matchers, outside of strings and comments; looks at durations; and marks
/// the values of matchers.
fn scan(query: &str) -> Result<(usize, String), QueryError> {
    let mut count = 0;
    let mut marked = String::with_capacity(query.len() + 64);
    // The operator of a matcher whose value has not come yet, and where it is in the marked text.
    let mut pending = None;
    let (mut in_braces, mut in_brackets, mut after_offset) = (false, false, false);
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        let expects_duration = in_brackets || after_offset;
        after_offset = after_offset && (first.is_whitespace() || matches!(first, '+' | '-'));
        match first {
            '"' | '\'' | '`' => {
                let length = string_length(rest, first);
                marks::write_string(&rest[..length], pending.take(), &mut marked);
                rest = &rest[length..];
                continue;
            }
            '#' => taken = rest.find('\n').unwrap_or(rest.len()),
            '{' => in_braces = true,
            '}' => in_braces = false,
            '=' | '!' if in_braces => {
                count += 1;
                let condition = marks::Condition::at_start(rest);
                pending = condition.map(|condition| (condition, marked.len()));
                taken = condition.map_or(1, |condition| condition.operator().len());
                marked.push_str(&rest[..taken]);
                rest = &rest[taken..];
                continue;
            }
            _ if in_braces => {}
            '[' => {
                in_brackets = true;
                count += 1;
            }
            ']' => in_brackets = false,
            '(' | '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '!' => count += 1,
            _ if first.is_alphanumeric() || matches!(first, '.' | '_') => {
                taken = word_length(rest);
                let word = &rest[..taken];
                check_duration(word, expects_duration)?;
                let keyword = word.to_ascii_lowercase();
                after_offset = keyword == "offset";
                if matches!(&*keyword, "and" | "or" | "unless" | "atan2") {
                    count += 1;
                }
            }
            _ => {}
        }
        if !first.is_whitespace() && first != '#' {
            pending = None;
        }
        marked.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok((count, marked))
}

/// How many bytes the word or number at the beginning takes.
fn word_length(text: &str) -> usize {
    let is_decimal = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let mut before = ' ';
    let end = text.find(|c: char| {
        let in_exponent = is_decimal && matches!(before, 'e' | 'E') && matches!(c, '+' | '-');
        before = c;
        !(c.is_alphanumeric() || matches!(c, '.' | '_') || in_exponent)
    });
    end.unwrap_or(text.len())
}

fn check_duration(word: &str, expected: bool) -> Result<(), QueryError> {
    let after_digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_number = word.parse::<f64>().is_ok();
    let is_hexadecimal = word.starts_with("0x") || word.starts_with("0X");
    let has_unit = after_digits.len() < word.len() && !is_number && !is_hexadecimal;
    let mut runs = word.split(|c: char| !c.is_ascii_digit());
    let too_many_digits = has_unit && runs.any(|run| run.len() > DIGITS_MAX);
    let seconds = word.parse().ok().filter(|_| expected);
    let too_many_seconds = seconds.is_some_and(|s: f64| !(0.0..=SECONDS_MAX).contains(&s));
    let too_long = expected && is_hexadecimal && word.len() > DIGITS_MAX;
    if too_many_digits || too_many_seconds || too_long {
        return Err(QueryError::Parse(format!("{word} is too long a duration")));
    }
    Ok(())
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
    fn counts_what_deepens_the_tree_and_matchers() {
        let count = |query| scan(query).unwrap().0;
        assert_eq!(count("a and b or sum(c)"), 3);
        assert_eq!(count(r#"a{b="(((", c!='\'))', d =~ "!"} # ((("#), 3);
        assert_eq!(count("`\\` + \"\\\" +\" - 1"), 2);
        assert_eq!(count("android + ünless - 1e-5"), 2);
    }

    #[test]
    fn refuses_what_is_too_long_or_too_deep() {
        assert!(check(&"-".repeat(OPERATORS_MAX)).is_ok());
        assert!(check(&"-".repeat(OPERATORS_MAX + 1)).is_err());
        assert!(check(&" ".repeat(LENGTH_MAX + 1)).is_err());
    }

    #[test]
    fn refuses_durations_that_the_parser_cannot_hold() {
        for query in [
            "a[1e30]",
            "a[1e+30]",
            "a[Inf]",
            "a[NaN:5m]",
            "a[5m:1e30]",
            "a offset -1e30",
            "a offset inf",
            "a[5000000000ms]",
            "a offset 1h5000000000ms",
            "5000000000ms",
            "a[0xffffffffffffffff]",
        ] {
            assert!(check(query).is_err(), "{query}");
        }
        for query in [
            "a[5m:1e2]",
            "a offset -1e9",
            "1e300 + Inf",
            "a123456789012m",
            "12345678901234567890",
            "0x12345678901",
        ] {
            assert!(check(query).is_ok(), "{query}");
        }
    }
}
