//! One promise, one number: what the rules alert on is what the dashboards draw, what the load scripts demand and what
//! the documents say. Two numbers for one promise is an argument in the middle of an outage.

use std::collections::BTreeMap;

use firedrill::rules::PRODUCTION;
use serde_json::Value;

use super::promql::{self, Selector};
use super::{Dashboard, dashboards, text};

/// The journeys that were promised something, as the rules order them.
const JOURNEYS: [&str; 3] = ["browse", "order", "login"];

/// The share of good answers that is promised, and that of good answers in time.
const AVAILABILITY: f64 = 0.995;
const LATENCY: f64 = 0.99;

/// The factors of the burn alerts.
const FACTORS: [f64; 4] = [1.0, 3.0, 6.0, 14.4];

/// Panel by panel, the alert whose number its highest line is.
const CAUSES: &[(&str, &str, &str)] = &[
    (
        "dependencies",
        "Waits that ended without",
        "FiredrillPoolTimeouts",
    ),
    (
        "dependencies",
        "Attempts per call",
        "FiredrillRetryAmplification",
    ),
    ("dependencies", "Outbox lag", "FiredrillOutboxLag"),
    (
        "dependencies",
        "Loads in the life of a value",
        "FiredrillCacheStampede",
    ),
    ("engine", "Scheduler delay", "FiredrillSchedulerDelay"),
    ("requests", "Oldest request", "FiredrillRequestStuck"),
];

/// The panels that show how well a promise is kept, and the share that was promised.
const KEPT: &[(&str, &str, f64)] = &[
    ("overview", "Availability", AVAILABILITY),
    ("overview", "Answered in time", LATENCY),
    ("overview", "Users: journeys that went well", AVAILABILITY),
    ("users", "Journeys that went well", AVAILABILITY),
    ("users", "Good ones in time", LATENCY),
    ("users", "Good journeys by kind", AVAILABILITY),
];

/// The panels of how long something takes that every user waits for, with a line for each promise.
const DURATIONS: &[(&str, &str)] = &[
    ("overview", "Latency"),
    ("requests", "p99 by route"),
    ("requests", "p50 by route"),
    ("users", "p99 by journey"),
    ("users", "Client and server p99"),
];

/// What stands between `before` and the next quote.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split('"').next()
}

/// The journey that a selector is about, if it is about one.
fn journey(selector: &Selector) -> Option<&'static str> {
    let is = |name: &str, wanted: &str| {
        let found = selector.matchers.iter().find(|(label, _, _)| label == name);
        found.is_some_and(|(_, _, value)| value == wanted)
    };
    JOURNEYS.into_iter().find(|name| match *name {
        _ if is("journey", name) => true,
        "browse" => is("http_request_method", "GET"),
        "order" => is("http_request_method", "POST") && is("http_route", "/orders"),
        _ => is("http_request_method", "POST") && is("http_route", "/sessions"),
    })
}

/// How long each journey may take, in seconds, as the users' rules say and as the shop's rules say.
fn promised() -> BTreeMap<&'static str, f64> {
    let mut found = BTreeMap::new();
    for line in PRODUCTION.lines().filter(|line| line.contains("le=\"0.")) {
        let bound: f64 = quoted(line, "le=\"").unwrap().parse().unwrap();
        let of: Vec<_> = match quoted(line, "http_request_method=\"") {
            Some("GET") => vec!["browse"],
            Some(_) => vec!["order", "login"],
            None => {
                let users = line.contains("firedrill_journey_duration_seconds_bucket");
                if !users {
                    continue;
                }
                let names = line.split("journey").nth(2).unwrap();
                JOURNEYS.into_iter().filter(|n| names.contains(n)).collect()
            }
        };
        assert!(!of.is_empty(), "{line}");
        for name in of {
            let known = *found.entry(name).or_insert(bound);
            assert!(known.to_bits() == bound.to_bits(), "{name}: {line}");
        }
    }
    assert_eq!(found.len(), JOURNEYS.len(), "{found:?}");
    found
}

fn panel<'a>(all: &'a [Dashboard], stem: &str, title: &str) -> &'a Value {
    let dashboard = all.iter().find(|d| d.stem == stem).unwrap();
    let found = dashboard.panels().find(|p| p["title"] == title);
    found.unwrap_or_else(|| panic!("{stem} has no {title}"))
}

/// The values of a panel's thresholds, without the base.
fn lines(panel: &Value) -> Vec<f64> {
    let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
    let steps = steps.as_array().unwrap().iter();
    steps.filter_map(|step| step["value"].as_f64()).collect()
}

#[test]
fn the_objectives_are_the_same_everywhere() {
    for (slo, objective) in [("availability", AVAILABILITY), ("latency", LATENCY)] {
        for view in ["users", "server"] {
            let rule = format!(
                "        expr: vector({objective})\n        labels:\n          slo: {view}-{slo}\n"
            );
            assert!(PRODUCTION.contains(&rule), "{rule}");
        }
    }
    let all = dashboards();
    for (stem, title, objective) in KEPT {
        assert_eq!(lines(panel(&all, stem, title)), [*objective], "{title}");
    }
    for title in ["Burn in the last minute", "Budget burn by window"] {
        assert_eq!(lines(panel(&all, "overview", title)), FACTORS, "{title}");
    }
    for factor in FACTORS {
        assert!(PRODUCTION.contains(&format!("burn_rate: \"{factor}\"")));
    }
}

#[test]
fn each_journey_has_one_bound_in_rules_and_dashboards() {
    let promised = promised();
    let all = dashboards();
    let mut bounds: Vec<_> = promised.values().copied().collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    for (stem, title) in DURATIONS {
        assert_eq!(lines(panel(&all, stem, title)), bounds, "{title}");
    }
    let mut seen = 0;
    for dashboard in &all {
        for (panel, expression) in dashboard.expressions() {
            for selector in promql::read(expression).unwrap().selectors {
                let bound = selector.matchers.iter().find(|(label, ..)| label == "le");
                let Some((_, _, bound)) = bound else { continue };
                let of = journey(&selector).unwrap_or_else(|| panic!("{panel}: {expression}"));
                assert_eq!(bound, &promised[of].to_string(), "{panel}: {of}");
                seen += 1;
            }
        }
    }
    assert!(
        seen >= 2 * JOURNEYS.len(),
        "bounds in the dashboards: {seen}"
    );
}

#[test]
fn the_load_scripts_and_the_documents_promise_the_same() {
    let read = |name: &str| {
        std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (load, alerts) = (read("loadtest/lib/load.js"), read("alerts/README.md"));
    for (journey, bound) in promised() {
        let ms = bound * 1000.0;
        assert!(
            load.contains(&format!("{journey}: {ms}")),
            "{journey}: {ms}"
        );
        let row = alerts
            .lines()
            .find(|l| l.starts_with(&format!("| {journey} |")));
        let row = row.unwrap_or_else(|| panic!("alerts/README.md promises nothing for {journey}"));
        assert!(
            row.ends_with(&format!("| 99.5 % | 99 % within {ms} ms |")),
            "{row}"
        );
    }
    let rates = format!("['rate<={}']", (1000.0 - AVAILABILITY * 1000.0) / 1000.0);
    assert!(load.contains(&rates), "{rates}");
    let readme = read("README.md");
    let said = "99.5 % answered, 99 % of it in time: 250 ms to browse, 500 ms to order or log in";
    assert!(readme.contains(said), "{said}");
}

#[test]
fn a_line_of_a_cause_is_the_number_of_its_alert() {
    let all = dashboards();
    for (stem, title, alert) in CAUSES {
        let rule = PRODUCTION
            .split(&format!("- alert: {alert}\n"))
            .nth(1)
            .unwrap();
        let expression = rule.split("\n        for:").next().unwrap();
        let number = expression.rsplit('>').next().unwrap().trim();
        let number: f64 = number
            .parse()
            .unwrap_or_else(|e| panic!("{alert}: {number}: {e}"));
        let lines = lines(panel(&all, stem, title));
        assert_eq!(lines.last(), Some(&number), "{title}: {alert}");
        assert!(text(&panel(&all, stem, title)["description"]).len() > 40);
    }
}
