//! A rule file as Prometheus reads it.
//!
//! What Prometheus would refuse is refused here, and so is what this judge does not do: a rule that was left out
//! without a word would be an alert that never fires.

use std::collections::BTreeMap;
use std::time::Duration;

use promql::Query;
use serde::Deserialize;

use super::super::template::Template;
use super::super::text::{is_label_name, is_name};
use super::super::time::parse_duration;
use super::{Alerting, Group, Recording, Rule, RuleKind};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: Vec<RawGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    name: String,
    interval: Option<String>,
    #[serde(default)]
    limit: usize,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    hold: Option<String>,
    keep_firing_for: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Reads a rule file. A group without an interval of its own is evaluated every `interval`.
pub(super) fn read(text: &str, interval: Duration) -> Result<Vec<Group>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut groups: Vec<Group> = Vec::with_capacity(file.groups.len());
    for raw in file.groups {
        let name = raw.name.clone();
        if name.is_empty() {
            return Err("a group has no name".into());
        }
        if groups.iter().any(|group| group.name == name) {
            return Err(format!("group {name}: the name stands twice in the file"));
        }
        groups.push(group(raw, interval).map_err(|why| format!("group {name}: {why}"))?);
    }
    Ok(groups)
}

fn group(raw: RawGroup, interval: Duration) -> Result<Group, String> {
    let interval = match raw.interval.as_deref().map(parse_duration).transpose()? {
        None | Some(Duration::ZERO) => interval,
        Some(own) => own,
    };
    let mut rules = Vec::with_capacity(raw.rules.len());
    for (index, mut one) in raw.rules.into_iter().enumerate() {
        let name = one.alert.clone().or_else(|| one.record.clone());
        let named = name.map_or_else(
            || format!("rule {}", index + 1),
            |name| format!("rule {name}"),
        );
        for (label, value) in &raw.labels {
            let own = one.labels.entry(label.clone());
            own.or_insert_with(|| value.clone());
        }
        rules.push(rule(&one).map_err(|why| format!("{named}: {why}"))?);
    }
    Ok(Group::new(raw.name, interval, raw.limit, rules))
}

fn rule(raw: &RawRule) -> Result<Rule, String> {
    let query = Query::parse(&raw.expr).map_err(|error| format!("expr: {error}"))?;
    for name in raw.labels.keys() {
        if !is_label_name(name) || name == "__name__" {
            return Err(format!("labels: {name:?} is no name of a label"));
        }
    }
    let kind = match (&raw.alert, &raw.record) {
        (Some(name), None) if !name.is_empty() => RuleKind::Alerting(alerting(name, raw)?),
        (None, Some(name)) => RuleKind::Recording(recording(name, raw)?),
        _ => return Err("exactly one of alert and record must be set".into()),
    };
    Ok(Rule::new(query, kind))
}

fn recording(name: &str, raw: &RawRule) -> Result<Recording, String> {
    if !is_name(name) {
        return Err(format!("record: {name:?} is no name of a metric"));
    }
    for (field, set) in [
        ("for", raw.hold.is_some()),
        ("keep_firing_for", raw.keep_firing_for.is_some()),
        ("annotations", !raw.annotations.is_empty()),
    ] {
        if set {
            return Err(format!("{field} is only for alerts"));
        }
    }
    Ok(Recording {
        name: name.into(),
        labels: raw.labels.clone().into_iter().collect(),
    })
}

fn alerting(name: &str, raw: &RawRule) -> Result<Alerting, String> {
    let duration = |field: &str, text: &Option<String>| match text {
        None => Ok(Duration::ZERO),
        Some(text) => parse_duration(text).map_err(|why| format!("{field}: {why}")),
    };
    let templates = |field: &str, texts: &BTreeMap<String, String>| {
        let one = |(name, text): (&String, &String)| {
            let template =
                Template::parse(text).map_err(|why| format!("{field}: {name}: {why}"))?;
            Ok((name.clone(), template))
        };
        texts.iter().map(one).collect::<Result<Vec<_>, String>>()
    };
    if let Some(name) = raw.annotations.keys().find(|name| !is_label_name(name)) {
        return Err(format!("annotations: {name:?} is no name of an annotation"));
    }
    Ok(Alerting::new(
        name,
        duration("for", &raw.hold)?,
        duration("keep_firing_for", &raw.keep_firing_for)?,
        templates("labels", &raw.labels)?,
        templates("annotations", &raw.annotations)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{PRODUCTION, compress};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_bundled_rule_loads() {
        for text in [PRODUCTION.to_owned(), compress(PRODUCTION, 60).unwrap()] {
            let groups = read(&text, SECOND).unwrap();
            let rules = groups.iter().map(|group| group.rules.len()).sum::<usize>();
            let written = text
                .lines()
                .filter(|line| line.trim_start().starts_with("- alert: "));
            let recorded = text
                .lines()
                .filter(|line| line.trim_start().starts_with("- record: "));
            assert_eq!(rules, written.count() + recorded.count());
        }
    }

    #[test]
    fn a_file_that_is_wrong_names_the_group_and_the_rule() {
        let rule = |text: &str| format!("groups:\n- name: g\n  rules:\n  - {text}\n");
        for (text, parts) in [
            (
                rule("{alert: A, expr: 'up =='}"),
                vec!["group g: rule A: expr"],
            ),
            (
                rule("{alert: A, expr: up, record: b}"),
                vec!["rule A", "exactly one"],
            ),
            (rule("{expr: up}"), vec!["rule 1", "exactly one"]),
            (
                rule("{alert: A, expr: up, for: soon}"),
                vec!["rule A: for", "\"soon\""],
            ),
            (
                rule("{record: a, expr: up, for: 1s}"),
                vec!["rule a", "only for alerts"],
            ),
            (rule("{record: a-b, expr: up}"), vec!["\"a-b\" is no name"]),
            (
                rule("{alert: A, expr: up, labels: {'a.b': x}}"),
                vec!["labels: \"a.b\""],
            ),
            (
                rule("{alert: A, expr: up, annotations: {summary: '{{ .Value }}'}}"),
                vec!["rule A: annotations: summary", ".Value"],
            ),
            (rule("{alert: A, expr: up, colour: red}"), vec!["colour"]),
            (
                rule("{alert: A, expr: 'info(up)'}"),
                vec!["rule A: expr", "not supported"],
            ),
            (
                "groups:\n- {name: g}\n- {name: g}\n".into(),
                vec!["group g", "twice"],
            ),
            (
                "groups:\n- {name: g, interval: x}\n".into(),
                vec!["group g", "\"x\""],
            ),
            ("rules: []\n".into(), vec!["rules"]),
            ("groups: 5\n".into(), vec![]),
        ] {
            let error = read(&text, SECOND).map(drop).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }

    #[test]
    fn a_group_gives_its_rules_labels_and_an_interval() {
        let text = "groups:\n- name: g\n  interval: 5s\n  limit: 3\n  labels: {team: a, x: '1'}\n  \
                    rules:\n  - {record: r, expr: up, labels: {x: '2'}}\n- name: h\n";
        let groups = read(text, SECOND).unwrap();
        assert_eq!((groups[0].interval, groups[0].limit), (5 * SECOND, 3));
        assert_eq!(groups[1].interval, SECOND);
        let RuleKind::Recording(recording) = &groups[0].rules[0].kind else {
            panic!("it records");
        };
        let expected = [("team", "a"), ("x", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(recording.labels, expected);
    }
}
