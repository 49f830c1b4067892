//! What the parser gets instead of a matcher's operator.
//!
//! The parser compiles each regular expression that it reads: once more than needed, with another syntax than Go's,
//! and before anything is known of its size. So each matcher is given to it as an equality, and a character before the
//! value tells which operator there was. The characters are of Unicode's private use; every value has one, so a value
//! that begins with such a character is no exception. The parser also takes a backslash in a raw string for an escape,
//! which it is not; raw strings are given to it as others.

/// The operator of a matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Equal,
    NotEqual,
    Matches,
    MatchesNot,
}

const MARKS: [(Condition, char, &str); 4] = [
    (Condition::Matches, '\u{e001}', "=~"),
    (Condition::MatchesNot, '\u{e002}', "!~"),
    (Condition::NotEqual, '\u{e003}', "!="),
    // After the one that begins with it.
    (Condition::Equal, '\u{e000}', "="),
];

impl Condition {
    /// The operator that a text begins with.
    pub(super) fn at_start(text: &str) -> Option<Self> {
        let found = MARKS
            .iter()
            .find(|(_, _, operator)| text.starts_with(operator));
        found.map(|(condition, _, _)| *condition)
    }

    pub(super) fn operator(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> (Self, char, &'static str) {
        let [matches, matches_not, not_equal, equal] = MARKS;
        match self {
            Self::Equal => equal,
            Self::NotEqual => not_equal,
            Self::Matches => matches,
            Self::MatchesNot => matches_not,
        }
    }
}

/// The operator and the value of a marked value; `None` for one without a mark.
pub(super) fn read(marked: &str) -> Option<(Condition, &str)> {
    MARKS.iter().find_map(|(condition, mark, _)| {
        let value = marked.strip_prefix(*mark)?;
        Some((*condition, value))
    })
}

/// An error of the parser, which may quote what it was given.
pub(super) fn removed(text: &str) -> String {
    text.replace(MARKS.map(|(_, mark, _)| mark), "")
}

/// Writes a string literal for the parser. If it is a matcher's value, the operator becomes an equality; it stands in
/// what was written before, where `matcher` tells.
pub(super) fn write_string(literal: &str, matcher: Option<(Condition, usize)>, into: &mut String) {
    let mut mark = None;
    if let Some((condition, at)) = matcher {
        into.replace_range(at..at + condition.operator().len(), "=");
        mark = Some(condition.entry().1);
    }
    let inner = literal.strip_prefix('`');
    let Some(raw) = inner.and_then(|rest| rest.strip_suffix('`')) else {
        let (quote, rest) = literal.split_at(1);
        into.push_str(quote);
        into.extend(mark);
        into.push_str(rest);
        return;
    };
    into.push('"');
    into.extend(mark);
    for c in raw.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            // As Go reads raw strings.
            '\r' => {}
            other => into.push(other),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::guard::check;
    use super::*;

    fn marked(query: &str) -> String {
        let mut text = check(query).unwrap();
        for (condition, mark, _) in MARKS {
            text = text.replace(mark, &format!("<{condition:?}>"));
        }
        text
    }

    #[test]
    fn every_value_is_marked_and_nothing_else() {
        for (query, expected) in [
            (r#"a{b="c"}"#, r#"a{b="<Equal>c"}"#),
            (
                r#"a{b=~"c",d!~'e'}"#,
                r#"a{b="<Matches>c",d='<MatchesNot>e'}"#,
            ),
            (r#"{"n","l" != "v"}"#, r#"{"n","l" = "<NotEqual>v"}"#),
            ("a{b=~ # \"\n`\\d\"`}", "a{b= # \"\n\"<Matches>\\\\d\\\"\"}"),
            ("a == 1 != 2 or `\\d`", "a == 1 != 2 or \"\\\\d\""),
            (r#"a{b=c"d"}"#, r#"a{b=c"d"}"#),
            (r#"a{b=!"d"}"#, r#"a{b=!"d"}"#),
        ] {
            assert_eq!(marked(query), expected, "{query}");
        }
    }

    #[test]
    fn a_value_may_begin_with_a_mark() {
        let text = "\u{e001}\u{e000}x";
        assert_eq!(read(text), Some((Condition::Matches, "\u{e000}x")));
        assert_eq!(read("x"), None);
        assert_eq!(removed(text), "x");
    }
}
