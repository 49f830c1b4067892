//! The templates in labels and annotations of alerts.
//!
//! Prometheus expands these with Go's template language, which has loops, functions and queries. A judge that
//! understood most of it would write a wrong text now and then, so this one understands exactly what the rules use
//! and refuses everything else when a file is loaded: `{{ $labels.x }}` and `{{ $value }}`, either through
//! `humanize`, `humanizeDuration`, `humanizePercentage` or `printf "%.2f"`.

use promql::Labels;

use super::number::{general, plain, shortest};

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Label(String, Vec<Filter>),
    Value(Vec<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
enum Filter {
    Humanize,
    Duration,
    Percentage,
    Printf {
        before: String,
        verb: Verb,
        after: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Fixed(usize),
    General(usize),
    Any,
}

impl Template {
    /// Reads a template; a sentence says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (inside, after) = behind
                .split_once("}}")
                .ok_or_else(|| format!("{{{{{behind} is not closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(action(inside.trim()).map_err(|why| format!("{{{{{inside}}}}}: {why}"))?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// The template as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text for a sample. As in Prometheus, what cannot be expanded says so in the text.
    #[must_use]
    pub fn expand(&self, labels: &Labels, value: f64) -> String {
        let mut made = String::new();
        for part in &self.parts {
            let expanded = match part {
                Part::Text(text) => Ok(text.clone()),
                Part::Label(name, filters) => {
                    filtered(Content::Text(labels.get(name).to_owned()), filters)
                }
                Part::Value(filters) => filtered(Content::Number(value), filters),
            };
            match expanded {
                Ok(text) => made += &text,
                Err(why) => return format!("<error expanding template: {why}>"),
            }
        }
        made
    }
}

fn action(inside: &str) -> Result<Part, String> {
    const ALLOWED: &str = "allowed are $value and $labels.NAME, through humanize, humanizeDuration, \
                           humanizePercentage or printf with one %.Nf, %.Ng, %s or %v";
    let mut words = inside.split('|').map(str::trim);
    let subject = words.next().unwrap_or_default();
    let filters = words
        .map(|word| filter(word).ok_or_else(|| format!("{word:?} is not understood; {ALLOWED}")))
        .collect::<Result<Vec<_>, _>>()?;
    if subject == "$value" {
        return Ok(Part::Value(filters));
    }
    match subject.strip_prefix("$labels.") {
        Some(name) if super::text::is_label_name(name) => Ok(Part::Label(name.into(), filters)),
        _ => Err(format!("{subject:?} is not understood; {ALLOWED}")),
    }
}

fn filter(word: &str) -> Option<Filter> {
    match word {
        "humanize" => return Some(Filter::Humanize),
        "humanizeDuration" => return Some(Filter::Duration),
        "humanizePercentage" => return Some(Filter::Percentage),
        _ => {}
    }
    let format = word.strip_prefix("printf")?.trim_start();
    let format = format.strip_prefix('"')?.strip_suffix('"')?;
    if format.contains(['\\', '"']) {
        return None;
    }
    let (before, rest) = format.split_once('%')?;
    let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
    let (digits, behind) = rest.split_at(end);
    let after = &behind[1..];
    let precision = match digits {
        "" => None,
        _ => Some(
            digits
                .strip_prefix('.')?
                .parse()
                .ok()
                .filter(|n| *n <= 20)?,
        ),
    };
    let verb = match (&behind[..1], precision) {
        ("f", precision) => Verb::Fixed(precision.unwrap_or(6)),
        ("g", Some(precision)) => Verb::General(precision),
        ("s" | "v", None) => Verb::Any,
        _ => return None,
    };
    (!after.contains('%')).then(|| Filter::Printf {
        before: before.into(),
        verb,
        after: after.into(),
    })
}

/// What goes from one filter to the next.
enum Content {
    Text(String),
    Number(f64),
}

fn filtered(mut content: Content, filters: &[Filter]) -> Result<String, String> {
    for filter in filters {
        content = Content::Text(filter.apply(&content)?);
    }
    Ok(match content {
        Content::Text(text) => text,
        Content::Number(number) => shortest(number),
    })
}

impl Filter {
    fn apply(&self, content: &Content) -> Result<String, String> {
        Ok(match self {
            Self::Humanize => humanize(number(content)?),
            Self::Duration => humanize_duration(number(content)?),
            Self::Percentage => format!("{}%", general(number(content)? * 100.0, 4)),
            Self::Printf {
                before,
                verb,
                after,
            } => format!("{before}{}{after}", verb.print(content)),
        })
    }
}

/// A label that is to be humanized is read as a number.
fn number(content: &Content) -> Result<f64, String> {
    match content {
        Content::Number(number) => Ok(*number),
        Content::Text(text) => text.parse().map_err(|_| format!("{text:?} is no number")),
    }
}

impl Verb {
    /// As Go's `fmt` prints it, also where the kind of the value does not fit the verb.
    fn print(self, content: &Content) -> String {
        match (self, content) {
            (Self::Fixed(precision), Content::Number(n)) => plain(*n, precision),
            (Self::General(precision), Content::Number(n)) => general(*n, precision),
            (Self::Any, Content::Number(n)) => shortest(*n),
            (Self::Any, Content::Text(text)) => text.clone(),
            (Self::Fixed(_), Content::Text(text)) => format!("%!f(string={text})"),
            (Self::General(_), Content::Text(text)) => format!("%!g(string={text})"),
        }
    }
}

const LARGE: [&str; 9] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 9] = ["", "m", "u", "n", "p", "f", "a", "z", "y"];

/// A number with four digits and a prefix of the SI.
fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    if value.abs() < 1.0 {
        return small(value);
    }
    // Divided and not multiplied by 0.001, which is no binary fraction.
    let (value, prefix) = scaled(value, &LARGE, |size| size < 1000.0, |value| value / 1000.0);
    general(value, 4) + prefix
}

fn small(value: f64) -> String {
    let (value, prefix) = scaled(value, &SMALL, |size| size >= 1.0, |value| value * 1000.0);
    general(value, 4) + prefix
}

/// The number and its prefix, after as many steps as it takes until its size fits.
fn scaled(
    mut value: f64,
    prefixes: &[&'static str],
    fits: impl Fn(f64) -> bool,
    step: impl Fn(f64) -> f64,
) -> (f64, &'static str) {
    let mut prefix = prefixes[0];
    for next in &prefixes[1..] {
        if fits(value.abs()) {
            break;
        }
        (value, prefix) = (step(value), next);
    }
    (value, prefix)
}

/// A number of seconds in days, hours, minutes and seconds.
fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, 4);
    }
    if value == 0.0 {
        return general(value, 4) + "s";
    }
    if value.abs() < 1.0 {
        return small(value) + "s";
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole seconds are what is wanted, and what is too large becomes the largest"
    )]
    let whole = value as u64;
    let (seconds, minutes) = (whole % 60, whole / 60 % 60);
    let (hours, days) = (whole / 3_600 % 24, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(value, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, value: f64) -> String {
        let labels = Labels::new([("role", "shop"), ("seconds", "90")]);
        Template::parse(text).unwrap().expand(&labels, value)
    }

    #[test]
    fn labels_and_values_are_filled_in() {
        assert_eq!(
            expand("{{ $labels.role }}: {{$value}} of {{ $labels.none }}.", 3.0),
            "shop: 3 of ."
        );
        assert_eq!(expand("{{ $value }}", 1_234_567.0), "1.234567e+06");
        assert_eq!(expand("{{ $value }}", 0.1), "0.1");
        assert_eq!(expand("{{ $value }}", f64::INFINITY), "+Inf");
        assert_eq!(expand("plain", 0.0), "plain");
    }

    #[test]
    fn numbers_are_humanized_as_prometheus_does() {
        for (value, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (1_234_567.0, "1.235M"),
            (-1000.0, "-1k"),
            (999.96, "1000"),
            (0.012_345, "12.35m"),
            (1e-30, "1e-06y"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(expand("{{ $value | humanize }}", value), text);
        }
        for (value, text) in [
            (0.123_456, "12.35%"),
            (1.0, "100%"),
            (12_345.0, "1.234e+06%"),
            (-0.5, "-50%"),
        ] {
            assert_eq!(expand("{{ $value | humanizePercentage }}", value), text);
        }
        for (value, text) in [
            (0.0, "0s"),
            (0.0123, "12.3ms"),
            (5.25, "5.25s"),
            (90.9, "1m 30s"),
            (-3_700.0, "-1h 1m 40s"),
            (200_000.0, "2d 7h 33m 20s"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(expand("{{ $value | humanizeDuration }}", value), text);
        }
        assert_eq!(
            expand("{{ $labels.seconds | humanizeDuration }}", 0.0),
            "1m 30s"
        );
        assert!(expand("{{ $labels.role | humanize }}", 0.0).starts_with("<error expanding"));
    }

    #[test]
    fn printf_has_one_verb() {
        assert_eq!(expand("{{ $value | printf \"%.2f s\" }}", 1.005), "1.00 s");
        assert_eq!(
            expand("{{ $value | printf \"%.3g\" }}", 12_345.0),
            "1.23e+04"
        );
        assert_eq!(
            expand("{{ $value | printf \"%.1f\" | printf \"<%s>\" }}", 2.25),
            "<2.2>"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "{{ $value",
            "{{ range query \"up\" }}",
            "{{ .Value }}",
            "{{ $externalURL }}",
            "{{ $value | toUpper }}",
            "{{ $labels.a.b }}",
            "{{ $value | printf \"%d\" }}",
            "{{ $value | printf \"%.2f %f\" }}",
            "{{ printf \"%.2f\" $value }}",
            "{{ $value | printf %.2f }}",
            "{{- $value }}",
            "{{ }}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
