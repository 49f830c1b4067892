//! Patterns: what a value must look like as a whole.
//!
//! Most patterns of dashboards and rules are lists of texts, or texts that go on with `.*`. These are compared without
//! a regular expression: to compile one takes longer than most queries.

use regex::{Regex, RegexBuilder};

use super::translate;

/// How many bytes a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 512 * 1024;

/// How many bytes of text the alternatives of a pattern may have together to be compared without compiling.
const TEXT_MAX: usize = 64 * 1024;

/// How deep groups may nest in such a pattern.
const DEPTH_MAX: usize = 4;

/// A pattern that a whole value must match. A dot also matches a line break, as in Prometheus 3.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Texts(Texts),
    Compiled(Regex),
}

impl Pattern {
    /// The error says what is wrong with the pattern.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        match Texts::new(pattern) {
            Some(texts) => Ok(Self::Texts(texts)),
            None => Ok(Self::Compiled(compiled(pattern)?)),
        }
    }

    pub(crate) fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Texts(texts) => texts.is_match(value),
            Self::Compiled(regex) => regex.is_match(value),
        }
    }
}

/// A regular expression that must match the whole text. The error says what is wrong with the pattern.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    let translated = translate::from_go(pattern)?;
    RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("compiled it takes more than the limit of {limit} bytes")
            }
            // The last line; those above show the translated text.
            other => other
                .to_string()
                .lines()
                .last()
                .map_or("it is invalid", |line| line.trim_start_matches("error: "))
                .to_owned(),
        })
}

/// What a pattern without any real regular expression matches.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    /// Sorted.
    whole: Vec<String>,
    /// What a value may begin with, and the least bytes that must follow.
    prefixes: Vec<(String, usize)>,
}

impl Texts {
    /// `None` if the pattern needs a regular expression.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let mut reader = Reader {
            rest: pattern,
            bytes: 0,
        };
        let alternatives = reader.alternatives(0)?;
        let (prefixes, whole): (Vec<_>, Vec<_>) = alternatives
            .into_iter()
            .partition(|text| text.follows.is_some());
        let mut whole: Vec<String> = whole.into_iter().map(|text| text.begin).collect();
        whole.sort_unstable();
        let prefix = |text: Text| Some((text.begin, text.follows?));
        Some(Self {
            whole,
            prefixes: prefixes.into_iter().filter_map(prefix).collect(),
        })
    }

    fn is_match(&self, value: &str) -> bool {
        let begins = |(prefix, least): &(String, usize)| {
            let rest = value.strip_prefix(&**prefix);
            rest.is_some_and(|rest| rest.len() >= *least)
        };
        let found = self.whole.binary_search_by(|text| (**text).cmp(value));
        found.is_ok() || self.prefixes.iter().any(begins)
    }
}

/// One alternative.
#[derive(Debug, Clone, Default)]
struct Text {
    begin: String,
    /// The least bytes that follow, if anything may.
    follows: Option<usize>,
}

/// Reads literals, groups of alternatives, and a `.*` or `.+` at the end; gives up on anything else.
struct Reader<'a> {
    rest: &'a str,
    bytes: usize,
}

impl Reader<'_> {
    /// Up to the end of the group, or of the pattern if the depth is 0.
    fn alternatives(&mut self, depth: usize) -> Option<Vec<Text>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut all = Vec::new();
        let mut current = vec![Text::default()];
        while let Some(first) = self.rest.chars().next() {
            let brace = self.rest;
            self.rest = &self.rest[first.len_utf8()..];
            match first {
                '|' => {
                    self.spend(1)?;
                    all.append(&mut current);
                    current.push(Text::default());
                    continue;
                }
                ')' if depth > 0 => {
                    all.append(&mut current);
                    return Some(all);
                }
                _ => {}
            }
            if current.iter().any(|text| text.follows.is_some()) {
                return None;
            }
            match first {
                '(' => {
                    self.rest = self.rest.strip_prefix("?:").unwrap_or(self.rest);
                    let group = self.alternatives(depth + 1)?;
                    current = self.each_with_each(&current, &group)?;
                }
                '.' => {
                    let least = match self.rest.chars().next()? {
                        '*' => 0,
                        '+' => 1,
                        _ => return None,
                    };
                    self.rest = &self.rest[1..];
                    for text in &mut current {
                        text.follows = Some(least);
                    }
                }
                '\\' => {
                    let escaped = self.rest.chars().next()?;
                    if !escaped.is_ascii_punctuation() {
                        return None;
                    }
                    self.rest = &self.rest[1..];
                    self.push(&mut current, escaped)?;
                }
                '^' | '$' | '[' | '*' | '+' | '?' | ')' => return None,
                '{' if translate::repetition(brace).is_some() => return None,
                literal => self.push(&mut current, literal)?,
            }
        }
        all.append(&mut current);
        (depth == 0).then_some(all)
    }

    fn push(&mut self, current: &mut [Text], c: char) -> Option<()> {
        self.spend(current.len() * c.len_utf8())?;
        for text in current {
            text.begin.push(c);
        }
        Some(())
    }

    fn each_with_each(&mut self, left: &[Text], right: &[Text]) -> Option<Vec<Text>> {
        let mut all = Vec::new();
        for a in left {
            for b in right {
                self.spend(a.begin.len() + b.begin.len() + 1)?;
                all.push(Text {
                    begin: format!("{}{}", a.begin, b.begin),
                    follows: b.follows,
                });
            }
        }
        Some(all)
    }

    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.bytes += bytes;
        (self.bytes <= TEXT_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What needs no regular expression must match what the regular expression matches.
    #[test]
    fn texts_match_what_the_regular_expression_matches() {
        let values = [
            "", "a", "b", "ab", "abc", "ac", "b\n", "a.b", "a|b", "/items", "/items/7", "/orders",
            "{id}", "a)", "é",
        ];
        for pattern in [
            "",
            "a",
            "a|b",
            "|a",
            "a|",
            "(a|b)",
            "(?:a|b)c",
            "a(b|c|)",
            ".*",
            ".+",
            "a.*",
            "a.+",
            "b.+|a",
            "a\\.b",
            "a\\|b",
            "/(items|orders).*",
            "(a|b.*)",
            "((a|b)(b|c))c?|a",
            "\\{id\\}",
            "{id}",
            "a\\)",
            "é.*|é",
            "(|a)(|b)",
        ] {
            let needs_none = !pattern.contains('?') || pattern.starts_with("(?:");
            assert_eq!(Texts::new(pattern).is_some(), needs_none, "{pattern}");
            let (fast, slow) = (Pattern::new(pattern).unwrap(), compiled(pattern).unwrap());
            for value in values {
                assert_eq!(
                    fast.is_match(value),
                    slow.is_match(value),
                    "{pattern} {value}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_text_is_compiled() {
        for pattern in [
            "a.b",
            "a*",
            "a.*b",
            "(a|b.*)c",
            "a.*?",
            "a{2}",
            "[a]",
            "^a",
            "a$",
            "\\d",
            "\\Qa\\E",
            "(?i)a",
            "(?P<n>a)",
            "(a)+",
            ".",
            "4..|",
            "(a",
            "a)",
            "((((((a))))))",
        ] {
            assert!(Texts::new(pattern).is_none(), "{pattern}");
        }
        let many = "(a|b|c|d)".repeat(12);
        assert!(Texts::new(&many).is_none() && Pattern::new(&many).is_ok());
    }

    #[test]
    fn what_compiles_to_too_much_is_refused() {
        let error = Pattern::new("\\pL{80}").unwrap_err();
        assert!(error.contains(&COMPILED_BYTES_MAX.to_string()), "{error}");
        assert!(Pattern::new("\\w{80}").is_ok());
        assert!(Pattern::new("(((a{100}){100}){100})").is_err());
    }
}
