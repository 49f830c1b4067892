//! How far back the rules look, and whether that much is kept.
//!
//! A rule over three days is evaluated also where 75 minutes are kept. What it says then is true of 75 minutes, under a
//! name that speaks of three days. That is no error, but whoever reads the alert has to know it.

use std::collections::BTreeSet;
use std::time::Duration;

use promql_parser::parser::{self, Expr, Offset, VectorSelector};

use super::{Group, RECORDED_KEPT, RuleKind};
use crate::judge::ingest::RAW_KEPT;
use crate::judge::time::format_duration;

/// The most rules that a sentence names.
const NAMED_MAX: usize = 6;

/// The rules that look back further than is kept.
pub(super) fn beyond(groups: &[Group]) -> Vec<&str> {
    let recorded: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter(|rule| matches!(rule.kind, RuleKind::Recording(_)))
        .map(super::Rule::name)
        .chain(["ALERTS", "ALERTS_FOR_STATE"])
        .collect();
    let kept = |name: Option<&str>| match name {
        Some(name) if recorded.contains(name) => RECORDED_KEPT,
        _ => RAW_KEPT,
    };
    rules_with(groups, |selected| selected.back > kept(selected.name))
}

/// The rules over a range that holds less than two scrapes: a rate has no value there.
fn too_short(groups: &[Group], interval: Duration) -> Vec<&str> {
    let is_short = |range| range < interval * 2;
    rules_with(groups, |selected| selected.range.is_some_and(is_short))
}

/// The rules with a selector that is `wanted`, by name, each once.
fn rules_with(groups: &[Group], wanted: impl Fn(&Selected<'_>) -> bool) -> Vec<&str> {
    let has_one = |text: &str| {
        // It was parsed when it was loaded.
        parser::parse(text).is_ok_and(|expression| {
            let mut found = false;
            walk(&expression, Duration::ZERO, &mut |selected| {
                found |= wanted(&selected);
            });
            found
        })
    };
    let mut names = Vec::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        if has_one(rule.query.text()) && !names.contains(&rule.name()) {
            names.push(rule.name());
        }
    }
    names
}

/// Sentences about rules that look back further than is kept, or over less than two scrapes; none if there are none.
pub(super) fn notice(groups: &[Group], interval: Duration) -> Option<String> {
    let mut sentences = Vec::new();
    let (far, short) = (beyond(groups), too_short(groups, interval));
    if !far.is_empty() {
        sentences.push(format!(
            "The console keeps samples for {} and recorded series for {}. Rules that ask for more are computed over \
             what is there: {}.",
            format_duration(RAW_KEPT),
            format_duration(RECORDED_KEPT),
            listed(&far)
        ));
    }
    if !short.is_empty() {
        sentences.push(format!(
            "Scraped every {}, these rules look over less than two scrapes and find nothing: {}.",
            format_duration(interval),
            listed(&short)
        ));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn listed(names: &[&str]) -> String {
    let list = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// A selector in an expression.
struct Selected<'a> {
    name: Option<&'a str>,
    /// How far back it looks, with all that stands around it.
    back: Duration,
    /// Its own range, if it has one.
    range: Option<Duration>,
}

/// Calls `each` with every selector.
fn walk(expression: &Expr, back: Duration, each: &mut impl FnMut(Selected<'_>)) {
    match expression {
        Expr::VectorSelector(selector) => each(selected(selector, back, None)),
        Expr::MatrixSelector(matrix) => each(selected(&matrix.vs, back, Some(matrix.range))),
        Expr::Subquery(subquery) => {
            let back = back + subquery.range + ago(subquery.offset.as_ref());
            walk(&subquery.expr, back, each);
        }
        Expr::Aggregate(aggregate) => walk(&aggregate.expr, back, each),
        Expr::Unary(unary) => walk(&unary.expr, back, each),
        Expr::Paren(paren) => walk(&paren.expr, back, each),
        Expr::Binary(binary) => {
            walk(&binary.lhs, back, each);
            walk(&binary.rhs, back, each);
        }
        Expr::Call(call) => {
            for argument in &call.args.args {
                walk(argument, back, each);
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn selected(selector: &VectorSelector, back: Duration, range: Option<Duration>) -> Selected<'_> {
    Selected {
        name: selector.name.as_deref(),
        back: back + range.unwrap_or_default() + ago(selector.offset.as_ref()),
        range,
    }
}

/// An offset into the past; one into the future asks for nothing that is old.
fn ago(offset: Option<&Offset>) -> Duration {
    match offset {
        Some(Offset::Pos(back)) => *back,
        Some(Offset::Neg(_)) | None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use crate::rules::{PRODUCTION, compress};

    const SECOND: Duration = Duration::from_secs(1);

    fn groups(text: &str) -> Vec<Group> {
        load(text, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn ranges_and_offsets_are_compared_with_what_is_kept() {
        for (expression, too_far) in [
            ("rate(m[75m])", false),
            ("rate(m[76m])", true),
            ("m offset 2h", true),
            ("m offset -2h", false),
            ("rate(m[1h] offset 20m) > 1 or m", true),
            ("avg_over_time(r[12h])", false),
            ("1 - sum(avg_over_time(r[13h]))", true),
            ("max_over_time(rate(m[5m])[70m:1m])", false),
            ("max_over_time(rate(m[10m])[70m:1m])", true),
            ("time() - m", false),
        ] {
            let text = format!(
                "groups: [{{name: g, rules: [{{record: r, expr: m}}, {{alert: A, expr: '{expression}'}}]}}]"
            );
            let groups = groups(&text);
            assert_eq!(beyond(&groups) == ["A"], too_far, "{expression}");
            assert_eq!(notice(&groups, SECOND).is_some(), too_far);
        }
    }

    #[test]
    fn the_drill_profile_fits_and_that_of_production_is_told() {
        let drill = groups(&compress(PRODUCTION, 60).unwrap());
        assert_eq!(notice(&drill, SECOND), None);
        let told = notice(&drill, SECOND * 10).unwrap();
        assert!(
            told.contains("every 10s") && told.contains("slo:sli_error:ratio_rate5m"),
            "{told}"
        );
        let told = notice(&groups(PRODUCTION), SECOND).unwrap();
        assert!(
            told.contains("for 1h15m and recorded series for 12h"),
            "{told}"
        );
        assert!(
            told.contains("slo:sli_error:ratio_rate3d") && told.contains(" more."),
            "{told}"
        );
    }
}
