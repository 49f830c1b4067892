//! Templates: what `label_replace` puts in for a match, such as `${host}:$2`.
//!
//! A template is read once, as Go reads it, so that the length of what it makes is known before it is made: a short
//! template may repeat a long value thousands of times.

use regex::{Captures, Regex};

/// Text with groups of a pattern in it.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A group that the pattern has; others are empty and are left out.
    Group(usize),
}

impl Template {
    pub(super) fn new(text: &str, pattern: &Regex) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            parts.push(Part::Text(before.to_owned()));
            if let Some(after) = after.strip_prefix('$') {
                parts.push(Part::Text("$".into()));
                rest = after;
            } else if let Some((name, after)) = name(after) {
                parts.extend(group(name, pattern).map(Part::Group));
                rest = after;
            } else {
                parts.push(Part::Text("$".into()));
                rest = after;
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Self(parts)
    }

    /// The text for a match, or `Err` with its length if that is more than `most` bytes.
    pub(crate) fn expand(&self, found: &Captures<'_>, most: usize) -> Result<String, usize> {
        let texts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Group(number) => found.get(*number).map_or("", |group| group.as_str()),
        });
        let length = texts.clone().map(str::len).sum();
        if length > most {
            return Err(length);
        }
        Ok(texts.collect())
    }
}

/// The name after a dollar, in braces or without, and what follows.
fn name(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = inner.find(|c| !in_word(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let rest = if inner.len() < text.len() {
        rest.strip_prefix('}')?
    } else {
        rest
    };
    (!name.is_empty()).then_some((name, rest))
}

/// The number of a group by its number or its name, if there is such a group.
fn group(name: &str, pattern: &Regex) -> Option<usize> {
    let leading_zero = name.len() > 1 && name.starts_with('0');
    let is_number = !leading_zero && name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        let number: usize = name.parse().ok()?;
        return (number < pattern.captures_len()).then_some(number);
    }
    pattern.capture_names().position(|have| have == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(template: &str) -> String {
        let pattern = Regex::new("(?P<first>a+)(b*)(c)?").unwrap();
        let found = pattern.captures("aab").unwrap();
        let template = Template::new(template, &pattern);
        template.expand(&found, 100).unwrap()
    }

    #[test]
    fn reads_what_go_reads() {
        for (template, expected) in [
            ("", ""),
            ("x", "x"),
            ("$1-$2", "aa-b"),
            ("${1}x$1x", "aax"),
            ("$first.${first}", "aa.aa"),
            ("$0$3$9$none", "aab"),
            ("$$1 $", "$1 $"),
            ("${1 ${} $-", "${1 ${} $-"),
            ("$01", ""),
        ] {
            assert_eq!(expanded(template), expected, "{template}");
        }
    }

    #[test]
    fn says_what_is_too_long_before_making_it() {
        let pattern = Regex::new("(a+)").unwrap();
        let value = "a".repeat(1_000);
        let found = pattern.captures(&value).unwrap();
        let template = Template::new(&"$1".repeat(1_000), &pattern);
        assert_eq!(template.expand(&found, 999_999), Err(1_000_000));
    }
}
