//! The rules of Grafana's dashboard linter 0.2.0, for every panel type: 15 of its 17.
//!
//! `target-logql-rule` and `target-logql-auto-rule` judge queries to Loki. They are not here, because every panel and
//! every variable must ask a Prometheus: `panel-datasource-rule` and `template-datasource-rule` refuse any other.

use serde_json::Value;

use super::promql::{self, Selector};
use super::{Dashboard, dashboards, text};

/// Findings of a rule: the panel (or variable) and what is wrong with it.
type Findings = Vec<(String, String)>;
type Rule = (&'static str, fn(&Dashboard) -> Findings);

const RULES: &[Rule] = &[
    ("template-datasource-rule", template_datasource),
    ("template-job-rule", |d| template_variable(d, "job", "Job")),
    ("template-instance-rule", |d| {
        template_variable(d, "instance", "Instance")
    }),
    ("template-label-promql-rule", template_label_promql),
    ("template-on-time-change-reload-rule", template_reload),
    ("panel-datasource-rule", panel_datasource),
    ("panel-title-description-rule", panel_title_description),
    ("panel-units-rule", panel_units),
    ("panel-no-targets-rule", panel_no_targets),
    ("target-promql-rule", target_promql),
    ("target-rate-interval-rule", target_rate_interval),
    ("target-job-rule", |d| target_matcher(d, "job", "$job")),
    ("target-instance-rule", |d| {
        target_matcher(d, "instance", "$instance")
    }),
    ("target-counter-agg-rule", target_counter_aggregation),
    ("uneditable-dashboard", uneditable),
];

/// Rule, panel and the reason why the panel may break it.
const EXCLUDED: &[(&str, &str, &str)] = &[
    (
        "target-job-rule",
        "Firing alerts",
        "an alert on a sum has no job",
    ),
    (
        "target-instance-rule",
        "Firing alerts",
        "an alert on a sum has no instance",
    ),
];

/// The units that the dashboards use, as Grafana writes them.
const UNITS: &[&str] = &["bytes", "cps", "ops", "percentunit", "reqps", "s", "short"];

#[test]
fn the_linter_finds_nothing() {
    let mut excluded: Vec<_> = EXCLUDED
        .iter()
        .map(|(rule, panel, _)| (*rule, *panel))
        .collect();
    let mut findings = Vec::new();
    for dashboard in dashboards() {
        for (rule, check) in RULES {
            for (panel, finding) in check(&dashboard) {
                if EXCLUDED.iter().any(|(r, p, _)| r == rule && *p == panel) {
                    excluded.retain(|known| *known != (*rule, panel.as_str()));
                } else {
                    findings.push(format!("{rule}: {}, {panel}: {finding}", dashboard.stem));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(excluded.is_empty(), "not needed any more: {excluded:?}");
}

fn template_datasource(dashboard: &Dashboard) -> Findings {
    let sources: Vec<_> = dashboard
        .variables()
        .iter()
        .filter(|variable| variable["type"] == "datasource")
        .map(|v| (text(&v["name"]), text(&v["label"]), text(&v["query"])))
        .collect();
    if sources == [("datasource", "Data source", "prometheus")] {
        return Vec::new();
    }
    vec![("datasource".to_owned(), format!("{sources:?}"))]
}

fn template_variable(dashboard: &Dashboard, name: &str, label: &str) -> Findings {
    let right = dashboard.variables().iter().any(|v| {
        v["name"] == name
            && v["label"] == label
            && v["type"] == "query"
            && v["multi"] == true
            && v["allValue"] == ".+"
            && is_templated(v)
    });
    if right {
        return Vec::new();
    }
    vec![(
        name.to_owned(),
        format!("a query variable {label}, multi, all = .+"),
    )]
}

fn is_templated(value: &Value) -> bool {
    value["datasource"]["uid"] == "${datasource}" && value["datasource"]["type"] == "prometheus"
}

fn query_variables(dashboard: &Dashboard) -> impl Iterator<Item = &Value> {
    dashboard
        .variables()
        .iter()
        .filter(|v| v["type"] == "query")
}

fn template_label_promql(dashboard: &Dashboard) -> Findings {
    query_variables(dashboard)
        .filter(|variable| {
            let inner = text(&variable["query"])
                .strip_prefix("label_values(")
                .and_then(|query| query.strip_suffix(')'));
            let parts = inner.and_then(|inner| inner.rsplit_once(", "));
            parts.is_none_or(|(metric, _)| promql::read(metric).is_err())
        })
        .map(|variable| (text(&variable["name"]).to_owned(), "query".to_owned()))
        .collect()
}

fn template_reload(dashboard: &Dashboard) -> Findings {
    query_variables(dashboard)
        .filter(|variable| variable["refresh"] != 2)
        .map(|variable| (text(&variable["name"]).to_owned(), "refresh".to_owned()))
        .collect()
}

/// Those panels for which `wrong` has something to say.
fn panels(dashboard: &Dashboard, wrong: impl Fn(&Value) -> Option<String>) -> Findings {
    dashboard
        .panels()
        .filter_map(|panel| Some((text(&panel["title"]).to_owned(), wrong(panel)?)))
        .collect()
}

fn panel_datasource(dashboard: &Dashboard) -> Findings {
    panels(dashboard, |panel| {
        (!is_templated(panel)).then(|| panel["datasource"].to_string())
    })
}

fn panel_title_description(dashboard: &Dashboard) -> Findings {
    panels(dashboard, |panel| {
        let (title, description) = (text(&panel["title"]), text(&panel["description"]));
        // What you see, what bad looks like: no sentence holds both.
        let sentences = description.matches(['.', ':', ';']).count();
        (title.is_empty() || sentences < 2).then(|| description.to_owned())
    })
}

fn panel_units(dashboard: &Dashboard) -> Findings {
    panels(dashboard, |panel| {
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        (!UNITS.contains(&unit)).then(|| unit.to_owned())
    })
}

fn panel_no_targets(dashboard: &Dashboard) -> Findings {
    panels(dashboard, |panel| {
        let none = panel["targets"].as_array().is_none_or(Vec::is_empty);
        none.then(|| "no target".to_owned())
    })
}

fn target_promql(dashboard: &Dashboard) -> Findings {
    dashboard
        .expressions()
        .filter_map(|(panel, expression)| {
            let error = promql::read(expression).err()?;
            Some((panel.to_owned(), format!("{expression}: {error}")))
        })
        .collect()
}

/// Those selectors for which `wrong` holds.
fn selectors(dashboard: &Dashboard, wrong: impl Fn(&Selector) -> bool) -> Findings {
    dashboard
        .expressions()
        .filter_map(|(panel, expression)| Some((panel, promql::read(expression).ok()?)))
        .flat_map(|(panel, found)| found.selectors.into_iter().map(move |s| (panel, s)))
        .filter(|(_, selector)| wrong(selector))
        .map(|(panel, selector)| (panel.to_owned(), format!("{selector:?}")))
        .collect()
}

fn target_rate_interval(dashboard: &Dashboard) -> Findings {
    selectors(dashboard, |selector| {
        selector.function.as_deref() == Some("rate")
            && selector.range.as_deref() != Some("$__rate_interval")
    })
}

fn target_matcher(dashboard: &Dashboard, label: &str, value: &str) -> Findings {
    selectors(dashboard, |selector| {
        !selector
            .matchers
            .iter()
            .any(|(l, operator, v)| l == label && operator == "=~" && v == value)
    })
}

/// Also for the counters inside a histogram, which the linter does not look at.
fn target_counter_aggregation(dashboard: &Dashboard) -> Findings {
    selectors(dashboard, |selector| {
        let counter = [
            "_total",
            "_seconds_bucket",
            "_seconds_count",
            "_seconds_sum",
        ]
        .iter()
        .any(|end| selector.metric.ends_with(end));
        let rated = matches!(selector.function.as_deref(), Some("rate" | "increase"));
        counter && (selector.range.is_none() || !rated)
    })
}

fn uneditable(dashboard: &Dashboard) -> Findings {
    if dashboard.json["editable"] == false {
        return Vec::new();
    }
    vec![(dashboard.title.clone(), "editable".to_owned())]
}
