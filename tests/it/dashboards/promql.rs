//! Enough of Prometheus' query language to know which series an expression asks for, and how.
//!
//! It is a tokenizer, not a parser: that an expression is valid is for a real Prometheus to say, and
//! `.ci/check-dashboards` asks one.

use std::collections::BTreeSet;

/// Aggregations and functions that the dashboards use; any other name before a parenthesis is an error.
const FUNCTIONS: &[&str] = &[
    "clamp_min",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "rate",
    "sum",
    "time",
    "vector",
];
const GROUPING: &[&str] = &["by", "without", "on", "ignoring"];
const OPERATORS: &[&str] = &["and", "or", "unless"];

/// What is asked of one metric.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator and value of each matcher.
    pub(crate) matchers: Vec<(String, String, String)>,
    /// What stands in the brackets behind it.
    pub(crate) range: Option<String>,
    /// The function that it is an argument of.
    pub(crate) function: Option<String>,
}

/// An expression, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Expression {
    pub(crate) selectors: Vec<Selector>,
    /// The labels of `by`, `without`, `on` and `ignoring`.
    pub(crate) labels: BTreeSet<String>,
}

/// Takes `text` apart, or says what it does not understand.
pub(crate) fn read(text: &str) -> Result<Expression, String> {
    let mut found = Expression::default();
    let mut rest = text;
    // What each open parenthesis belongs to: a function, a grouping, or nothing.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut word: Option<String> = None;
    let mut aggregation: Option<String> = None;
    while let Some(first) = rest.chars().next() {
        let before = word.take();
        if first.is_ascii_alphabetic() || first == '_' {
            let (name, after) = split(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            rest = after.trim_start();
            if GROUPING.contains(&name) {
                aggregation = before;
                word = Some(name.to_owned());
            } else if OPERATORS.contains(&name) {
            } else if open
                .last()
                .is_some_and(|of| of.as_deref().is_some_and(|of| GROUPING.contains(&of)))
            {
                found.labels.insert(name.to_owned());
            } else if rest.starts_with('(') || starts_with_grouping(rest) {
                if !FUNCTIONS.contains(&name) {
                    return Err(format!("unknown function {name}"));
                }
                word = Some(name.to_owned());
            } else {
                let function = open.last().cloned().flatten();
                rest = selector(name, function, rest, &mut found)?;
            }
            continue;
        }
        match first {
            '(' => open.push(before.or_else(|| aggregation.take())),
            ')' => {
                let closed = open.pop().ok_or("a parenthesis too many is closed")?;
                if closed.is_some_and(|of| GROUPING.contains(&of.as_str())) {
                    // `sum by (le) (`: the next parenthesis belongs to the aggregation.
                    rest = rest[1..].trim_start();
                    word = aggregation.take();
                    continue;
                }
            }
            '0'..='9' => {
                rest = split(rest, |c| c.is_ascii_digit() || c == '.').1;
                continue;
            }
            ' ' | ',' | '+' | '-' | '*' | '/' | '>' | '<' | '=' | '!' => {
                word = before.filter(|_| first == ' ');
            }
            other => return Err(format!("unexpected {other:?}")),
        }
        rest = &rest[1..];
    }
    if open.is_empty() {
        Ok(found)
    } else {
        Err("a parenthesis is not closed".to_owned())
    }
}

fn starts_with_grouping(rest: &str) -> bool {
    let (word, after) = split(rest, |c| c.is_ascii_alphabetic());
    GROUPING.contains(&word) && after.trim_start().starts_with('(')
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// Reads what follows a metric's name: matchers and range.
fn selector<'a>(
    metric: &str,
    function: Option<String>,
    mut rest: &'a str,
    found: &mut Expression,
) -> Result<&'a str, String> {
    let mut selector = Selector {
        metric: metric.to_owned(),
        function,
        ..Selector::default()
    };
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let (label, after) = split(inner, |c| c.is_ascii_alphanumeric() || c == '_');
            let (operator, after) = split(after, |c| "=!~".contains(c));
            let (value, after) = after
                .strip_prefix('"')
                .and_then(|quoted| quoted.split_once('"'))
                .ok_or_else(|| format!("no value for {label} of {metric}"))?;
            selector
                .matchers
                .push((label.to_owned(), operator.to_owned(), value.to_owned()));
            inner = after.trim_start_matches([',', ' ']);
        }
        rest = &inner[1..];
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let (range, after) = inner.split_once(']').ok_or("a range is not closed")?;
        selector.range = Some(range.to_owned());
        rest = after;
    }
    found.selectors.push(selector);
    Ok(rest)
}

#[test]
fn an_expression_is_taken_apart() {
    let read = |text| read(text).unwrap();
    let found =
        read(r#"sum by (le, a) (rate(x_bucket{b=~"$b", c=""}[5m]) and on (d) y) / (z > 0)"#);
    assert_eq!(found.labels, ["a", "d", "le"].map(str::to_owned).into());
    let seen: Vec<_> = found
        .selectors
        .iter()
        .map(|s| (s.metric.as_str(), s.function.as_deref(), s.range.as_deref()))
        .collect();
    let expected = [
        ("x_bucket", Some("rate"), Some("5m")),
        ("y", Some("sum"), None),
        ("z", None, None),
    ];
    assert_eq!(seen, expected);
    assert_eq!(found.selectors[0].matchers[0].2, "$b");
    assert_eq!(found.selectors[0].matchers[1].1, "=");
    for wrong in ["sum(x", "x)", "rats(x[5m])", "x{a=b}", "x[5m"] {
        assert!(super::promql::read(wrong).is_err(), "{wrong}");
    }
}
