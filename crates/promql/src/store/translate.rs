//! Patterns as Go reads them, written for the `regex` crate.
//!
//! Prometheus compiles patterns with Go's `regexp`, whose syntax differs from that of the crate in small ways: `{id}`
//! is text if it is no repetition, `\Q…\E` quotes, `\d` and `\b` know ASCII only, `[a&&b]` is a set of three. Without
//! the translation such a pattern would be refused, or would match something else. What Go refuses is refused.

use std::fmt::Write as _;

/// The most times that Go repeats something by a count.
const REPEATS_MAX: u32 = 1_000;

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

type Result<T> = std::result::Result<T, String>;

/// The pattern for the crate, to be put between other parts. The error says what Go would not read.
pub(super) fn from_go(pattern: &str) -> Result<String> {
    let mut translator = Translator {
        rest: pattern,
        made: String::with_capacity(pattern.len() + 16),
    };
    translator.all()?;
    Ok(translator.made)
}

/// How often something is repeated: the text `{2}`, `{2,}` or `{2,3}` at the beginning, and its counts. Without such
/// a text the brace stands for itself.
pub(super) fn repetition(text: &str) -> Option<(&str, u32, Option<u32>)> {
    let end = text.find('}')?;
    let inner = text[..end].strip_prefix('{')?;
    let (least, most) = match inner.split_once(',') {
        None => (count(inner)?, Some(count(inner)?)),
        Some((least, "")) => (count(least)?, None),
        Some((least, most)) => (count(least)?, Some(count(most)?)),
    };
    Some((&text[..=end], least, most))
}

/// Digits without a leading zero. One that is too large for any use is as good as the largest.
fn count(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    (is_number && !leading_zero).then(|| digits.parse().unwrap_or(u32::MAX))
}

struct Translator<'a> {
    rest: &'a str,
    made: String,
}

impl<'a> Translator<'a> {
    fn all(&mut self) -> Result<()> {
        let mut depth = 0_usize;
        let mut after_repetition = false;
        while let Some(first) = self.next() {
            let mut is_repetition = false;
            match first {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => depth += usize::from(self.group()?),
                ')' => {
                    depth = depth.checked_sub(1).ok_or("unexpected )")?;
                    self.made.push(')');
                }
                '*' | '+' | '?' => {
                    self.made.push(first);
                    is_repetition = true;
                }
                '{' => is_repetition = self.brace()?,
                '}' | ']' => self.literal(first),
                other => self.made.push(other),
            }
            if is_repetition {
                if after_repetition {
                    return Err("a repetition of a repetition".into());
                }
                if self.take("?") {
                    self.made.push('?');
                }
            }
            after_repetition = is_repetition;
        }
        if depth > 0 {
            return Err("missing )".into());
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What lies before `end`, which is dropped.
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    /// A character that stands for itself, in a class or outside.
    fn literal(&mut self, c: char) {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            write!(self.made, "\\x{{{:x}}}", u32::from(c)).expect("a string takes any text");
        } else {
            self.made.push(c);
        }
    }

    /// After `{`: says whether it began a repetition.
    fn brace(&mut self) -> Result<bool> {
        let text = format!("{{{}", self.rest);
        let Some((text, least, most)) = repetition(&text) else {
            self.literal('{');
            return Ok(false);
        };
        let too_many = least > REPEATS_MAX || most.is_some_and(|most| most > REPEATS_MAX);
        if too_many || most.is_some_and(|most| most < least) {
            return Err(format!(
                "{text} is no valid repetition; at most {REPEATS_MAX} are allowed"
            ));
        }
        self.made.push_str(text);
        self.rest = &self.rest[text.len() - 1..];
        Ok(true)
    }

    /// After `(`: says whether a group began, and not only flags were set.
    fn group(&mut self) -> Result<bool> {
        if !self.take("?") {
            self.made.push('(');
            return Ok(true);
        }
        if self.take("P<") || self.take("<") {
            let name = self.until(">").unwrap_or_default();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                return Err(format!("invalid name of a group: {name:?}"));
            }
            write!(self.made, "(?P<{name}>").expect("a string takes any text");
            return Ok(true);
        }
        self.flags()
    }

    /// After `(?`. The crate takes no flag twice.
    fn flags(&mut self) -> Result<bool> {
        let (mut on, mut off) = (String::new(), String::new());
        let (mut clears, mut any) = (false, false);
        while let Some(c) = self.next() {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    let (into, other) = if clears {
                        (&mut off, &mut on)
                    } else {
                        (&mut on, &mut off)
                    };
                    other.retain(|flag| flag != c);
                    if !into.contains(c) {
                        into.push(c);
                    }
                    any = true;
                }
                '-' if !clears => (clears, any) = (true, false),
                ':' | ')' if any || !clears => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    let has_flags = !on.is_empty() || !off.is_empty();
                    let end = if c == ')' && !has_flags { ":)" } else { "" };
                    let begin = if end.is_empty() {
                        c.to_string()
                    } else {
                        String::new()
                    };
                    write!(self.made, "(?{on}{minus}{off}{begin}{end}")
                        .expect("a string takes any text");
                    return Ok(c == ':');
                }
                _ => break,
            }
        }
        Err("invalid or unsupported syntax after (?".into())
    }

    /// After `\`, outside of a class.
    fn escape(&mut self) -> Result<()> {
        if self.take("Q") {
            let rest = self.rest;
            let quoted = self.until("\\E").unwrap_or_else(|| {
                self.rest = "";
                rest
            });
            quoted.chars().for_each(|c| self.literal(c));
            return Ok(());
        }
        for look in ["A", "z"] {
            if self.take(look) {
                self.made.push('\\');
                self.made.push_str(look);
                return Ok(());
            }
        }
        for (boundary, ascii) in [("b", "(?-u:\\b)"), ("B", "(?-u:\\B)")] {
            if self.take(boundary) {
                self.made.push_str(ascii);
                return Ok(());
            }
        }
        if !self.named_class()? {
            let c = self.escaped_char()?;
            self.literal(c);
        }
        Ok(())
    }

    /// After `\`: `d` and its like, `p{Greek}`. Says whether it was one.
    fn named_class(&mut self) -> Result<bool> {
        const PERL: [(&str, &str); 6] = [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("s", "[\\t\\n\\f\\r ]"),
            ("S", "[^\\t\\n\\f\\r ]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
        ];
        for (letter, class) in PERL {
            if self.take(letter) {
                self.made.push_str(class);
                return Ok(true);
            }
        }
        let negated = self.rest.starts_with('P');
        if !self.take("p") && !self.take("P") {
            return Ok(false);
        }
        let name = if self.take("{") {
            self.until("}").ok_or("missing } after \\p{")?
        } else {
            let length = self.rest.chars().next().map_or(0, char::len_utf8);
            let (letter, rest) = self.rest.split_at(length);
            self.rest = rest;
            letter
        };
        let (name, inverted) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(format!("unknown class of characters: {name:?}"));
        }
        let letter = if negated == inverted { 'p' } else { 'P' };
        write!(self.made, "\\{letter}{{{name}}}").expect("a string takes any text");
        Ok(true)
    }

    /// After `\`: the character that is meant.
    fn escaped_char(&mut self) -> Result<char> {
        let c = self.next().ok_or("\\ at the end")?;
        let octal = |text: &str| text.starts_with(|c: char| matches!(c, '0'..='7'));
        let code = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.hexadecimal()?,
            '0'..='7' if c == '0' || octal(self.rest) => {
                let mut code = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    if octal(self.rest) {
                        code = code * 8 + self.next().and_then(|c| c.to_digit(8)).unwrap_or(0);
                    }
                }
                code
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            other => return Err(format!("unknown escape \\{other}")),
        };
        char::from_u32(code).ok_or_else(|| format!("{code:x} is no character"))
    }

    /// After `\x`: `41` or `{1F600}`.
    fn hexadecimal(&mut self) -> Result<u32> {
        let digits = if self.take("{") {
            self.until("}").unwrap_or_default()
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).unwrap_or_default();
            self.rest = rest;
            digits
        };
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| all_digits);
        code.ok_or_else(|| "\\x without a hexadecimal number".into())
    }

    /// After `[`. Only `]`, `\`, `[:alpha:]` and a `-` in between mean something in Go.
    fn class(&mut self) -> Result<()> {
        self.made.push('[');
        if self.take("^") {
            self.made.push('^');
        }
        let mut first = true;
        while first || !self.take("]") {
            first = false;
            if self.posix()? {
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix('\\') {
                let before = std::mem::replace(&mut self.rest, rest);
                if self.named_class()? {
                    continue;
                }
                self.rest = before;
            }
            let low = self.class_char()?;
            self.literal(low);
            let after_dash = self.rest.strip_prefix('-');
            if after_dash.is_some_and(|after| !after.is_empty() && !after.starts_with(']')) {
                self.take("-");
                let high = self.class_char()?;
                if high < low {
                    return Err(format!("invalid range {low}-{high} in [ ]"));
                }
                self.made.push('-');
                self.literal(high);
            }
        }
        self.made.push(']');
        Ok(())
    }

    fn class_char(&mut self) -> Result<char> {
        match self.next() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err("missing ]".into()),
        }
    }

    /// In a class: `[:alpha:]` or `[:^alpha:]`. Says whether it was one.
    fn posix(&mut self) -> Result<bool> {
        let Some((name, rest)) = self
            .rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(":]"))
        else {
            return Ok(false);
        };
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("unknown class of characters: [:{name}:]"));
        }
        write!(self.made, "[:{name}:]").expect("a string takes any text");
        self.rest = rest;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compiled;

    fn matches(pattern: &str, value: &str) -> bool {
        match compiled(pattern) {
            Ok(regex) => regex.is_match(value),
            Err(error) => panic!("{pattern}: {error}"),
        }
    }

    #[test]
    fn reads_what_go_reads() {
        for (pattern, yes, no) in [
            ("/items/{id}", "/items/{id}", "/items/id"),
            ("/items/({id})", "/items/{id}", "/items/id"),
            ("A{,2}", "A{,2}", "AA"),
            ("A{01}{}{a}{1,2", "A{01}{}{a}{1,2", "A"),
            ("A{2}}", "AA}", "AA"),
            ("A{1,}B{2,3}?", "AABB", "AAB"),
            ("a{2,3}{x}", "aa{x}", "aa"),
            (r"\Qa.b*\E+", "a.b***", "axb"),
            (r"x\Q|", "x|", "x"),
            (r"\d\w\s", "1a\t", "\u{661}a\t"),
            (r"\w+", "az_09", "\u{e9}"),
            (r"\s", "\t", "\u{b}"),
            (r"\D\W\S", "\u{661}\u{e9}\u{b}", "1\u{e9}\u{b}"),
            ("a\\b\u{e9}", "a\u{e9}", "a"),
            (r"a\B\w\b", "ab", "a"),
            (
                r"\pL\p{Greek}\PN\p{^Greek}\P{^Lu}",
                "a\u{3b1}aaA",
                "a\u{3b1}1aA",
            ),
            (r"\101\x42\x{43}\0\07", "ABC\0\u{7}", "ABC07"),
            (r"\_\<\>\/\-\ ", "_<>/- ", "_/- "),
            (r"[\d-z]\b{start}", "1{start}", "-{start}"),
            ("[]a][[b][&&c][~~d][+--]", "][&~,", "aaaaa"),
            ("[^]\\]]", "\n", "]"),
            ("[[:alpha:][:^word:]]", "a", "1"),
            ("[a[:alpha]", ":", "b"),
            (r"[\D1][\x41-\x{43}]", "1B", "2B"),
            ("(?P<a>x)(?<b>y)", "xy", "x"),
            ("(?)(?ii-s:x.)", "Xy", "X\n"),
            ("(?i-i:x)(?-si:.)(?i:y)", "x.Y", "x\nY"),
            (".|(?-s)..", "\n", "\n\n"),
            ("}]", "}]", ""),
            ("a|", "", "b"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in [
            "a)|(b",
            "(",
            "a**",
            "a{2}{3}",
            "a+*",
            "a{1001}",
            "a{2,1}",
            "*",
            "[",
            "[a",
            "[]",
            "[b-a]",
            "[a-\\d]",
            "[[:no:]]",
            "\\",
            "[\\",
            "\\1",
            "\\8",
            "\\Z",
            "\\C",
            "\\E",
            "\\u0041",
            "\\\u{e9}",
            "\\x4",
            "\\x{110000}",
            "\\x{d800}",
            "\\p{L",
            "\\p{",
            "\\p",
            "\\p{a=b}",
            "(?x)a",
            "(?u)a",
            "(?R)a",
            "(?=a)",
            "(?<!a)",
            "(?P<>a)",
            "(?P<a.b>a)",
            "(?P=a)",
            "(?i-)a",
            "(?",
            "[\\Q]\\E]",
            "\\p{Nope}",
        ] {
            assert!(compiled(pattern).is_err(), "{pattern}");
        }
    }
}
