//! The alert rules, and the same rules with time made shorter.
//!
//! A burn rate over an hour cannot fire in a drill of five minutes. So there are two rule files, and if both
//! were written by hand they would soon promise different things. Here the second is made of the first: an
//! hour becomes a minute, and nothing else changes. Recorded series keep their names, so that one set of
//! dashboards reads both.
//!
//! This reads the rules as lines of text, not as YAML and expressions: the file is ours, and what the
//! reading cannot understand it refuses.

use crate::judge::time::parse_duration;

/// The rules with the windows of production, as they are in `alerts/firedrill.rules.yml`.
pub const PRODUCTION: &str = include_str!("../alerts/firedrill.rules.yml");

/// No range and no `for` gets shorter: at one scrape a second a range needs some samples to have a rate, and
/// an alert should outlast a scrape that was missed.
const FLOOR_S: u64 = 5;

/// No group is evaluated more often: nothing is scraped more often either.
const INTERVAL_FLOOR_S: u64 = 1;

/// The keys whose value is a length of time, and how short each may become.
const KEYS: &[(&str, u64)] = &[
    ("for", FLOOR_S),
    ("keep_firing_for", FLOOR_S),
    ("long", FLOOR_S),
    ("short", FLOOR_S),
    ("interval", INTERVAL_FLOOR_S),
];

/// What counts in seconds inside an expression, where it would not be seen to be time.
const REFUSED: &[&str] = &["predict_linear(", "deriv(", "time()", " offset ", " @ "];

/// The first lines of a file that was made here.
const HEADER: &str = "\
# Made by `firedrill rules --compress {factor}` of firedrill.rules.yml, where the comments are. Do not edit.
";

/// The rules in `text` with time divided by `factor` (1 leaves them as they are).
///
/// # Errors
///
/// One sentence if a line holds time in a place where it would not be divided.
pub fn compress(text: &str, factor: u32) -> Result<String, String> {
    if factor == 1 {
        return Ok(text.to_owned());
    }
    let factor = u64::from(factor);
    let mut made = HEADER.replace("{factor}", &factor.to_string());
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(refused) = REFUSED.iter().find(|refused| line.contains(**refused)) {
            let refused = refused.trim();
            return Err(format!(
                "line {}: {refused} counts in seconds and cannot be compressed",
                index + 1
            ));
        }
        let shorter = match keyed(line) {
            Some((key, value, floor)) => {
                duration(value).map(|s| key.to_owned() + &shorten(s, factor, floor))
            }
            None => ranges(line, factor),
        };
        made += &shorter.map_err(|what| format!("line {}: {what}", index + 1))?;
        made.push('\n');
    }
    Ok(made)
}

/// Splits a line of a key that holds a length of time into what stands before the value, the value, and how
/// short it may become.
fn keyed(line: &str) -> Option<(&str, &str, u64)> {
    let (key, value) = line.split_once(": ")?;
    let (_, floor) = KEYS.iter().find(|(name, _)| *name == key.trim_start())?;
    Some((&line[..key.len() + 2], value, *floor))
}

/// The line with each range like `[5m]` made shorter.
fn ranges(line: &str, factor: u64) -> Result<String, String> {
    let mut made = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let (range, behind) = after
            .split_once(']')
            .ok_or("a bracket is opened and not closed")?;
        let shorter = shorten(duration(range)?, factor, FLOOR_S);
        made.extend([before, "[", &shorter, "]"]);
        rest = behind;
    }
    Ok(made + rest)
}

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads a length of time like `5m`, in seconds.
fn duration(text: &str) -> Result<u64, String> {
    let read = parse_duration(text)?;
    if read.subsec_nanos() != 0 {
        return Err(format!("{text:?} is no number of whole seconds"));
    }
    Ok(read.as_secs())
}

/// A length of time divided by `factor`, in its largest unit.
fn shorten(seconds: u64, factor: u64, floor_s: u64) -> String {
    let seconds = seconds.div_ceil(factor).max(floor_s);
    let whole = UNITS
        .iter()
        .find(|(_, unit_s)| seconds.is_multiple_of(*unit_s));
    let (unit, unit_s) = whole.expect("every number is a multiple of 1");
    format!("{}{unit}", seconds / unit_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_becomes_a_minute_and_names_stay() {
        let text = "\
# a comment
- record: slo:sli_error:ratio_rate6h
  expr: rate(x{le=\"0.25\"}[6h]) / (rate(y[5m]) > 0.5)
- alert: A
  expr: slo:sli_error:ratio_rate3d > 0.072
  for: 2m
  keep_firing_for: 15m
  labels:
    long: 3d
";
        let made = compress(text, 60).unwrap();
        assert_eq!(
            made.lines().skip(1).collect::<Vec<_>>().join("\n"),
            "\
- record: slo:sli_error:ratio_rate6h
  expr: rate(x{le=\"0.25\"}[6m]) / (rate(y[5s]) > 0.5)
- alert: A
  expr: slo:sli_error:ratio_rate3d > 0.072
  for: 5s
  keep_firing_for: 15s
  labels:
    long: 72m"
        );
        assert_eq!(compress(text, 1).unwrap(), text);
    }

    #[test]
    fn nothing_becomes_too_short() {
        assert_eq!(shorten(60, 60, FLOOR_S), "5s");
        assert_eq!(shorten(30, 60, INTERVAL_FLOOR_S), "1s");
        assert_eq!(shorten(30 * 86_400, 60, FLOOR_S), "12h");
        assert_eq!(shorten(301, 60, FLOOR_S), "6s");
    }

    #[test]
    fn what_cannot_be_compressed_is_refused() {
        for (line, why) in [
            ("expr: predict_linear(x[5m], 1800) > 1", "predict_linear("),
            ("expr: time() - x > 60", "time()"),
            ("expr: x offset 1h", "offset"),
            ("expr: max_over_time(x[1h:1m])", "\"1h:1m\""),
            ("expr: rate(x[", "closed"),
            ("for: soon", "\"soon\""),
            ("for: 1500ms", "whole seconds"),
        ] {
            let said = compress(line, 60).unwrap_err();
            assert!(said.starts_with("line 1: ") && said.contains(why), "{said}");
        }
    }
}
