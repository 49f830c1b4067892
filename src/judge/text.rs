//! Reads the text format of Prometheus, version 0.0.4.
//!
//! A scrape is read twice: once for what stands in each line, without copying it, and for the few series that were
//! not there in the scrape before a second time for their labels. So a steady scrape costs one look at its bytes and
//! one hash of each line's beginning.
//!
//! What cannot be read is refused whole, with the number of the line. This goes beyond Prometheus 2.42 in one point:
//! the format asks for a line feed at the end of the last line, and a text without it was cut off, perhaps in the
//! middle of a number. Prometheus takes it.

use std::borrow::Cow;

/// A sample as it stands in its line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawSample<'a> {
    /// The name and the labels, as they were written.
    pub series: &'a str,
    /// The value.
    pub value: f64,
    /// Milliseconds since 1970, if the line says so.
    pub timestamp: Option<i64>,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line<'a> {
    /// A sample.
    Sample(RawSample<'a>),
    /// `# HELP name text`, the text as it was written.
    Help(&'a str, &'a str),
    /// `# TYPE name type`
    Type(&'a str, &'a str),
}

/// Why a scrape cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Calls `each` with the number and the content of every line that says something, from the first to the last. Ends
/// at the first line that cannot be read, or that `each` refuses with a sentence.
pub fn read<'a>(
    body: &'a [u8],
    mut each: impl FnMut(usize, Line<'a>) -> Result<(), String>,
) -> Result<(), TextError> {
    let text = std::str::from_utf8(body).map_err(|error| TextError {
        line: 1 + count_lines(&body[..error.valid_up_to()]),
        why: "it is not UTF-8".into(),
    })?;
    let whole = text.strip_suffix('\n');
    if whole.is_none() && !text.is_empty() {
        return Err(TextError {
            line: 1 + count_lines(body),
            why: "it has no line feed at its end, so the text was cut off".into(),
        });
    }
    for (index, line) in whole.unwrap_or_default().split('\n').enumerate() {
        let read = content(line).and_then(|content| match content {
            Some(content) => each(index + 1, content),
            None => Ok(()),
        });
        read.map_err(|why| TextError {
            line: index + 1,
            why,
        })?;
    }
    Ok(())
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

const BLANK: [char; 2] = [' ', '\t'];

fn content(line: &str) -> Result<Option<Line<'_>>, String> {
    let line = line.trim_start_matches(BLANK);
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_prefix('#') {
        Some(comment) => described(comment.trim_start_matches(BLANK)),
        None => sample(line).map(|sample| Some(Line::Sample(sample))),
    }
}

/// What a comment says of a metric, if it does.
fn described(comment: &str) -> Result<Option<Line<'_>>, String> {
    let of_key = |key| {
        let rest: &str = comment.strip_prefix(key)?;
        let named = rest.trim_start_matches(BLANK);
        // Without a blank it is a word that only begins like the key.
        (named.len() < rest.len()).then(|| named.split_once(BLANK).unwrap_or((named, "")))
    };
    if let Some((name, text)) = of_key("HELP") {
        return Ok(Some(Line::Help(name, text.trim_start_matches(BLANK))));
    }
    if let Some((name, kind)) = of_key("TYPE") {
        let kind = kind.trim_matches(BLANK);
        return match kind {
            "counter" | "gauge" | "histogram" | "summary" | "untyped" | "unknown" => {
                Ok(Some(Line::Type(name, kind)))
            }
            _ => Err(format!("{kind:?} is no type of a metric")),
        };
    }
    Ok(None)
}

fn sample(line: &str) -> Result<RawSample<'_>, String> {
    let (series, rest) = line.split_at(series_end(line)?);
    let mut words = rest.split(BLANK).filter(|word| !word.is_empty());
    let text = words.next().ok_or("a series without a value")?;
    let value = text.parse().map_err(|_| format!("{text:?} is no value"))?;
    let timestamp = match words.next() {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| format!("{text:?} is no time in milliseconds"))?,
        ),
    };
    match words.next() {
        None => Ok(RawSample {
            series,
            value,
            timestamp,
        }),
        Some(more) => Err(format!("{more:?} stands behind the time")),
    }
}

/// Where the name and the labels end.
fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let name_end = bytes
        .iter()
        .position(|byte| matches!(byte, b'{' | b' ' | b'\t'))
        .ok_or("a series without a value")?;
    // A blank may stand before the brace.
    let brace = line.len() - line[name_end..].trim_start_matches(BLANK).len();
    if bytes.get(brace) != Some(&b'{') {
        let name = &line[..name_end];
        return if is_name(name) {
            Ok(name_end)
        } else {
            Err(format!("{name:?} is no name of a metric"))
        };
    }
    let mut quoted = false;
    let mut at = brace + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Ok(at + 1),
            _ => {}
        }
        at += 1;
    }
    Err("the labels do not end".into())
}

/// Whether a name needs no quotes as that of a metric.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit())
}

/// Whether a name needs no quotes as that of a label.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    is_name(name) && !name.contains(':')
}

/// A name and a value; `__name__` is the name of the metric.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The labels of a series as it was written, in the order of the text.
pub fn labels(series: &str) -> Result<Vec<Label<'_>>, String> {
    let (name, list) = series.split_once('{').unwrap_or((series, "}"));
    let name = name.trim_end_matches(BLANK);
    let mut found: Vec<Label<'_>> = Vec::new();
    if !name.is_empty() {
        if !is_name(name) {
            return Err(format!("{name:?} is no name of a metric"));
        }
        found.push(("__name__".into(), name.into()));
    }
    let mut rest = list.trim_start_matches(BLANK);
    while rest != "}" {
        let (label, behind) = next_label(rest)?;
        if found.iter().any(|(name, _)| *name == label.0) {
            return Err(format!("the label {:?} stands twice", label.0));
        }
        found.push(label);
        let behind = behind.trim_start_matches(BLANK);
        rest = match behind.strip_prefix(',') {
            Some(more) => more.trim_start_matches(BLANK),
            None if behind == "}" => behind,
            None => return Err(format!("a comma is missing before {behind:?}")),
        };
    }
    if found.iter().all(|(name, _)| name != "__name__") {
        return Err("a series without a name".into());
    }
    Ok(found)
}

/// The first label of a list, and what stands behind it. Text in quotes alone is the name of the metric.
fn next_label(list: &str) -> Result<(Label<'_>, &str), String> {
    let (name, behind) = if list.starts_with('"') {
        quoted(list)?
    } else {
        let end = list
            .find(|c: char| c == '=' || BLANK.contains(&c))
            .ok_or_else(|| format!("{list:?} is no label"))?;
        let name = &list[..end];
        if !is_label_name(name) {
            return Err(format!("{name:?} is no name of a label"));
        }
        (name.into(), &list[end..])
    };
    match behind.trim_start_matches(BLANK).strip_prefix('=') {
        Some(value) => {
            let (value, behind) = quoted(value.trim_start_matches(BLANK))?;
            Ok(((name, value), behind))
        }
        None if list.starts_with('"') => Ok((("__name__".into(), name), behind)),
        None => Err(format!("the label {name:?} has no value")),
    }
}

/// A text in quotes with its escapes undone, and what stands behind it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let inside = text
        .strip_prefix('"')
        .ok_or_else(|| format!("{text:?} does not begin with a quote"))?;
    let stops = |c| c == '"' || c == '\\';
    let first = inside.find(stops).ok_or("a quote is not closed")?;
    if inside.as_bytes()[first] == b'"' {
        return Ok((inside[..first].into(), &inside[first + 1..]));
    }
    let mut value = String::new();
    let mut rest = inside;
    while let Some(at) = rest.find(stops) {
        value += &rest[..at];
        if rest.as_bytes()[at] == b'"' {
            return Ok((value.into(), &rest[at + 1..]));
        }
        let mut escaped = rest[at + 1..].chars();
        match escaped.next() {
            Some('n') => value.push('\n'),
            Some(c @ ('"' | '\\')) => value.push(c),
            // As in Prometheus: an unknown escape stays as it is.
            Some(c) => value.extend(['\\', c]),
            None => break,
        }
        rest = escaped.as_str();
    }
    Err("a quote is not closed".into())
}

/// The text of a `# HELP` line with its escapes undone.
#[must_use]
pub fn help(text: &str) -> String {
    text.replace("\\\\", "\u{0}")
        .replace("\\n", "\n")
        .replace('\u{0}', "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<Line<'_>>, TextError> {
        let mut found = Vec::new();
        read(text.as_bytes(), |_, line| {
            found.push(line);
            Ok(())
        })?;
        Ok(found)
    }

    fn one(text: &str) -> RawSample<'_> {
        match lines(text).unwrap()[..] {
            [Line::Sample(sample)] => sample,
            ref other => panic!("{other:?}"),
        }
    }

    fn pairs(series: &str) -> Vec<(String, String)> {
        let owned = |(name, value): Label<'_>| (name.into_owned(), value.into_owned());
        labels(series).unwrap().into_iter().map(owned).collect()
    }

    #[test]
    fn a_route_with_braces_is_one_label() {
        let sample = one("x_total{http_route=\"/items/{id}\",q=\"a=b, c\"} 3 1700000000123\n");
        assert_eq!(
            (sample.value, sample.timestamp),
            (3.0, Some(1_700_000_000_123))
        );
        let expected = [
            ("__name__", "x_total"),
            ("http_route", "/items/{id}"),
            ("q", "a=b, c"),
        ];
        assert_eq!(
            pairs(sample.series),
            expected.map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn escapes_are_undone_and_blanks_allowed() {
        let sample = one("\t a { x = \"q\\\"\\\\}\\n\\t\" , }  1e3\n");
        assert_eq!(sample.value.to_string(), "1000");
        assert_eq!(pairs(sample.series)[1].1, "q\"\\}\n\\t");
        assert_eq!(pairs("{\"a.b\",\"x.y\"=\"1\"}")[0].1, "a.b");
        assert_eq!(pairs("{\"a.b\",\"x.y\"=\"1\"}")[1].0, "x.y");
    }

    #[test]
    fn values_may_be_no_numbers() {
        for (text, value) in [
            ("a NaN\n", "NaN"),
            ("a +Inf\n", "inf"),
            ("a{} -Inf\n", "-inf"),
            ("a\t 0.5\n", "0.5"),
        ] {
            assert_eq!(one(text).value.to_string(), value);
        }
    }

    #[test]
    fn help_and_type_are_told_and_other_comments_are_not() {
        let text =
            "# HELP a What it\\n is \\\\n.\n#TYPE a counter\n# HELPER x\n#\n\n# TYPE b untyped\n";
        assert_eq!(
            lines(text).unwrap(),
            [
                Line::Help("a", "What it\\n is \\\\n."),
                Line::Type("a", "counter"),
                Line::Type("b", "untyped")
            ]
        );
        assert_eq!(help("What it\\n is \\\\n."), "What it\n is \\n.");
        assert_eq!(lines("").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        for (text, line, why) in [
            ("a 1\nb 2", 2, "cut off"),
            ("a 1\nb\n", 2, "without a value"),
            ("a 1\n\nb{x=\"1\" 2\n", 3, "do not end"),
            ("a one\n", 1, "\"one\" is no value"),
            ("a 1 soon\n", 1, "\"soon\" is no time"),
            ("a 1 2 3\n", 1, "behind the time"),
            ("a-b 1\n", 1, "\"a-b\" is no name"),
            ("# TYPE a kind\n", 1, "\"kind\" is no type"),
        ] {
            let error = lines(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.why.contains(why), "{text:?}: {error}");
        }
        let error = read(b"a 1\nb{x=\"\xff\"} 1\n", |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "line 2: it is not UTF-8");
        let refused = read(b"a 1\nb 1\n", |number, _| match number {
            2 => Err("no more".into()),
            _ => Ok(()),
        });
        assert_eq!(refused.unwrap_err().to_string(), "line 2: no more");
    }

    #[test]
    fn labels_that_cannot_be_read_say_why() {
        for (series, why) in [
            ("a{x}", "no label"),
            ("a{x=1}", "begin with a quote"),
            ("a{x=\"1\"y=\"2\"}", "comma"),
            ("a{x=\"1\",x=\"2\"}", "twice"),
            ("a{0x=\"1\"}", "no name of a label"),
            ("{x=\"1\"}", "without a name"),
            ("a{\"b\"}", "twice"),
            ("a{x=\"1}", "not closed"),
            ("a{,}", "no label"),
        ] {
            let error = labels(series).unwrap_err();
            assert!(error.contains(why), "{series}: {error}");
        }
    }

    #[test]
    fn mangled_text_is_refused_or_says_what_it_was_read_as() {
        let sound = "# TYPE a counter\na{x=\"\\\"}\",y=\"\"} 1 5\nb_bucket{le=\"+Inf\"} 2\n";
        let (mut refused, mut read_back) = (0, 0);
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = sound.as_bytes().to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, *random.choice(b"\\\"{}=, #\n").unwrap_or(&b' ')),
                }
            }
            let mut accepted = Vec::new();
            let result = read(&bytes, |_, line| {
                if let Line::Sample(sample) = line {
                    accepted.push((labels(sample.series)?, sample));
                }
                if let Line::Help(_, text) = line {
                    drop(help(text));
                }
                Ok(())
            });
            refused += usize::from(result.is_err());
            for (labels, sample) in &accepted {
                read_again(labels, sample);
            }
            read_back += accepted.len();
        }
        // Most of what is mangled is no text of the format any more, and much of the rest still is.
        assert!(
            refused > 5_000 && read_back > 5_000,
            "{refused} {read_back}"
        );
    }

    /// What was accepted says the same when it is written properly and read again.
    fn read_again(found: &[Label<'_>], sample: &RawSample<'_>) {
        let quote = |text: &str| {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{}\"", text.replace('\n', "\\n"))
        };
        let pair = |(name, value): &Label<'_>| match &**name {
            "__name__" => quote(value),
            name => format!("{}={}", quote(name), quote(value)),
        };
        let series: Vec<_> = found.iter().map(pair).collect();
        let time = sample
            .timestamp
            .map_or_else(String::new, |at| format!(" {at}"));
        let text = format!("{{{}}} {:?}{time}\n", series.join(","), sample.value);
        let again = one(&text);
        let same_value = again.value.to_bits() == sample.value.to_bits()
            || again.value.is_nan() && sample.value.is_nan();
        assert!(same_value && again.timestamp == sample.timestamp, "{text}");
        assert_eq!(labels(again.series).unwrap(), found, "{text}");
    }
}
