//! The notation of series: `name{label="value"} 1 2+3x4 _ stale`.

use promql::{Labels, Matcher, Sample, parse_selector};

#[derive(Debug, Clone, Copy)]
pub(super) enum Point {
    /// A number or a stale marker.
    Value(f64),
    Missing,
    /// A native histogram, which this engine does not know.
    Histogram,
}

pub(super) fn series(line: &str) -> Result<(Labels, Vec<Point>), String> {
    let end = end_of_labels(line);
    let (name, values) = line.split_at(end);
    Ok((labels(name.trim())?, points(values)?))
}

/// The position of the first white space outside of braces.
fn end_of_labels(line: &str) -> usize {
    let (mut braces, mut quote, mut escaped) = (0, None, false);
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('`') if c == '\\' => {}
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '{' => braces += 1,
                '}' => braces -= 1,
                // A space may stand between a name and its braces.
                c if c.is_whitespace() && braces == 0 => {
                    let rest = line[at..].trim_start();
                    // A space may stand between a name and its braces; two braces begin a histogram.
                    if !rest.starts_with('{') || rest.starts_with("{{") {
                        return at;
                    }
                }
                _ => {}
            },
        }
    }
    line.len()
}

fn labels(text: &str) -> Result<Labels, String> {
    if text.replace(' ', "") == "{}" {
        return Ok(Labels::default());
    }
    let matchers = parse_selector(text).map_err(|error| format!("{text:?}: {error}"))?;
    let pair = |matcher: &Matcher| {
        let value = matcher.equal_value()?;
        Some((matcher.name().to_owned(), value.to_owned()))
    };
    let pairs: Option<Vec<_>> = matchers.iter().map(pair).collect();
    let pairs = pairs.ok_or_else(|| format!("{text:?} is not a series"))?;
    Ok(Labels::new(pairs))
}

fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with("{{") {
            rest = after_histogram(rest).ok_or("{{ without }}")?.trim_start();
            points.push(Point::Histogram);
            continue;
        }
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        expand(word, &mut points)?;
        rest = after.trim_start();
    }
    Ok(points)
}

/// What follows `{{…}}`, `{{…}}x5` or `{{…}}+{{…}}x5`.
fn after_histogram(text: &str) -> Option<&str> {
    let rest = &text[text.find("}}")? + 2..];
    match rest.strip_prefix(['+', '-']) {
        Some(step) if step.starts_with("{{") => after_histogram(step),
        _ => Some(rest.find(char::is_whitespace).map_or("", |at| &rest[at..])),
    }
}

/// `_`, `_x5`, `stale`, `1`, `1x5`, `1+2x5`, `1-2x5`
fn expand(word: &str, points: &mut Vec<Point>) -> Result<(), String> {
    let unknown = || format!("{word:?} is no value");
    let (value, times) = match word.rsplit_once('x') {
        Some((value, times)) if !times.is_empty() && times.bytes().all(|b| b.is_ascii_digit()) => {
            (value, Some(times.parse::<usize>().map_err(|_| unknown())?))
        }
        _ => (word, None),
    };
    match value {
        "_" => {
            points.extend(vec![Point::Missing; times.unwrap_or(1)]);
            return Ok(());
        }
        "stale" => {
            let count = times.map_or(1, |times| times + 1);
            points.extend(vec![Point::Value(Sample::stale(0).value); count]);
            return Ok(());
        }
        _ => {}
    }
    let (mut current, step) = start_and_step(value).ok_or_else(unknown)?;
    points.push(Point::Value(current));
    for _ in 0..times.unwrap_or(0) {
        current += step;
        points.push(Point::Value(current));
    }
    Ok(())
}

/// Splits `1e-3+2` where both parts are numbers.
fn start_and_step(text: &str) -> Option<(f64, f64)> {
    if let Some(start) = number(text) {
        return Some((start, 0.0));
    }
    let signs = text.char_indices().skip(1);
    signs
        .filter(|(_, c)| matches!(c, '+' | '-'))
        .find_map(|(at, _)| Some((number(&text[..at])?, number(&text[at..])?)))
}

pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// `1h30m`, `-5m`, `100ms`; a bare number counts seconds. In milliseconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let unknown = || format!("{text:?} is no duration");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if let Ok(seconds) = rest.parse::<i64>() {
        return Ok(sign * seconds * 1_000);
    }
    if rest.is_empty() {
        return Err(unknown());
    }
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(unknown)?;
        let value: i64 = rest[..digits].parse().map_err(|_| unknown())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += value
            * match &rest[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 7 * 86_400_000,
                "y" => 365 * 86_400_000,
                _ => return Err(unknown()),
            };
        rest = &rest[letters..];
    }
    Ok(sign * total)
}
