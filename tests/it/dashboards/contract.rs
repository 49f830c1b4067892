//! The dashboards against the catalogue: no panel for what is not measured, no metric that nobody looks at.

use std::collections::BTreeSet;

use firedrill::telemetry::catalog::{CATALOGUE, FRACTIONAL, Kind};

use super::promql::{self, Selector};
use super::{Dashboard, dashboards, text};

/// Metrics of the catalogue that no dashboard shows, and why. None is the aim.
const UNUSED: &[(&str, &str)] = &[];

/// Series that the catalogue does not describe, with their labels: Prometheus's own.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "ALERTS",
        &["alertname", "alertstate", "severity", "service"],
    ),
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_post_metric_relabeling", &[]),
    ("scrape_samples_scraped", &[]),
    ("scrape_series_added", &[]),
    ("up", &[]),
];

/// Every expression of a dashboard, also those of its annotations and variables.
fn asked(dashboard: &Dashboard) -> Vec<(String, String)> {
    let annotations = dashboard.json["annotations"]["list"].as_array().unwrap();
    let variables = dashboard.variables().iter().filter_map(|variable| {
        let query = text(&variable["query"]).strip_prefix("label_values(")?;
        let (metric, _) = query.rsplit_once(", ")?;
        Some((text(&variable["name"]).to_owned(), metric.to_owned()))
    });
    let annotations = annotations
        .iter()
        .map(|a| (text(&a["name"]).to_owned(), text(&a["expr"]).to_owned()));
    dashboard
        .expressions()
        .map(|(panel, expression)| (panel.to_owned(), expression.to_owned()))
        .chain(annotations)
        .chain(variables)
        .collect()
}

/// The name in the catalogue and the labels of what a selector asks for, if there is such a series.
fn known(selector: &Selector) -> Option<(&'static str, BTreeSet<&'static str>)> {
    let name = selector.metric.as_str();
    let mut labels = BTreeSet::from(["job", "instance"]);
    if let Some((name, own)) = OTHERS.iter().find(|(other, _)| *other == name) {
        labels.extend(*own);
        return Some((name, labels));
    }
    let metric = CATALOGUE.iter().chain(FRACTIONAL).find(|metric| {
        metric.name == name && metric.kind != Kind::Histogram
            || metric.kind == Kind::Histogram
                && name
                    .strip_prefix(metric.name)
                    .is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
    })?;
    labels.extend(metric.labels);
    if name.ends_with("_bucket") {
        labels.insert("le");
    }
    Some((metric.name, labels))
}

#[test]
fn every_metric_and_label_asked_for_exists() {
    for dashboard in dashboards() {
        for (panel, expression) in asked(&dashboard) {
            let at = format!("{}, {panel}: {expression}", dashboard.stem);
            let found = promql::read(&expression).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(!found.selectors.is_empty(), "{at}: asks for nothing");
            let mut all = BTreeSet::new();
            for selector in &found.selectors {
                let (name, labels) =
                    known(selector).unwrap_or_else(|| panic!("{at}: no {}", selector.metric));
                for (label, operator, value) in &selector.matchers {
                    assert!(
                        labels.contains(label.as_str()),
                        "{at}: {name} has no {label}"
                    );
                    assert!(["=", "!=", "=~", "!~"].contains(&operator.as_str()), "{at}");
                    assert!(
                        label != "le" || is_bucket(name, value),
                        "{at}: {name} has no le={value}"
                    );
                }
                all.extend(labels);
            }
            for label in &found.labels {
                assert!(all.contains(label.as_str()), "{at}: no {label} to group by");
            }
        }
    }
}

fn is_bucket(name: &str, bound: &str) -> bool {
    CATALOGUE
        .iter()
        .filter(|metric| metric.name == name)
        .any(|metric| {
            metric
                .buckets
                .iter()
                .any(|bucket| bucket.to_string() == bound)
        })
}

#[test]
fn a_legend_names_labels_that_are_left() {
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            for target in panel["targets"].as_array().unwrap() {
                let grouped = promql::read(text(&target["expr"])).unwrap().labels;
                for name in text(&target["legendFormat"]).split("{{").skip(1) {
                    let name = name.split("}}").next().unwrap();
                    assert!(grouped.contains(name), "{:?}: {name}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_metric_of_the_catalogue_is_shown() {
    let mut shown = BTreeSet::new();
    for dashboard in dashboards() {
        for (_, expression) in dashboard.expressions() {
            let found = promql::read(expression).unwrap();
            shown.extend(
                found
                    .selectors
                    .iter()
                    .filter_map(|s| known(s).map(|(name, _)| name)),
            );
        }
    }
    for metric in CATALOGUE.iter().chain(FRACTIONAL) {
        let unused = UNUSED.iter().any(|(name, _)| *name == metric.name);
        assert_ne!(
            shown.contains(metric.name),
            unused,
            "{} must be in a dashboard or in UNUSED with a reason, and not in both",
            metric.name
        );
    }
    for (name, reason) in UNUSED {
        assert!(
            !reason.is_empty() && CATALOGUE.iter().any(|m| m.name == *name),
            "{name}"
        );
    }
}
