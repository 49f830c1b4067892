//! What is asked: every expression of the rules and of the dashboards, and lists written for the purpose.

use std::collections::HashSet;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

/// What Grafana would put in for its variables. With a scrape every second `$__rate_interval` is 4 s at least.
const VARIABLES: &[(&str, &str)] = &[
    ("__rate_interval", "4s"),
    ("__range", "60s"),
    ("job", "firedrill"),
    ("instance", ".+"),
    ("http_route", ".+"),
];

/// A question to both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// An expression.
    Query {
        text: String,
        /// Instead of five minutes, in milliseconds.
        lookback: Option<i64>,
    },
    /// The values of a label among the series that a selector matches.
    LabelValues { label: String, selector: String },
}

/// Questions of one origin.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) questions: Vec<Question>,
}

impl Question {
    fn query(text: &str) -> Self {
        Self::Query {
            text: text.trim().to_owned(),
            lookback: None,
        }
    }

    /// Whether the order of the answer at one time is part of it.
    pub(crate) fn is_ordered(&self) -> bool {
        let Self::Query { text, .. } = self else {
            return false;
        };
        ["sort(", "sort_desc(", "topk(", "bottomk("]
            .iter()
            .any(|name| text.starts_with(name))
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Query { text, .. } => {
                let words: Vec<&str> = text.split_whitespace().collect();
                f.write_str(&words.join(" "))
            }
            Self::LabelValues { label, selector } => write!(f, "label_values({selector}, {label})"),
        }
    }
}

/// Reads each file by its kind, and drops questions that an earlier group has already.
pub(crate) fn read(paths: &[impl AsRef<Path>], prometheus: u8) -> Result<Vec<Group>, String> {
    let mut groups = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let said = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yml") => groups.extend(rules(&name, &text).map_err(said)?),
            Some("json") => groups.push(dashboard(&name, &text).map_err(said)?),
            _ => groups.extend(list(&text, prometheus).map_err(said)?),
        }
    }
    let mut seen = HashSet::new();
    for group in &mut groups {
        group
            .questions
            .retain(|question| seen.insert(question.clone()));
    }
    groups.retain(|group| !group.questions.is_empty());
    Ok(groups)
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
}

fn rules(name: &str, text: &str) -> Result<Vec<Group>, String> {
    let file: RuleFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let all = file.groups.into_iter().flat_map(|group| group.rules);
    let (alerts, records): (Vec<Rule>, Vec<Rule>) = all.partition(|rule| rule.alert.is_some());
    let group = |what: &str, rules: &[Rule]| Group {
        name: format!("{name}, {what}"),
        questions: rules
            .iter()
            .map(|rule| Question::query(&rule.expr))
            .collect(),
    };
    Ok(vec![group("recorded", &records), group("alerts", &alerts)])
}

fn dashboard(name: &str, text: &str) -> Result<Group, String> {
    let dashboard: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let items = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let mut texts = Vec::new();
    for panel in items(&dashboard["panels"]) {
        texts.extend(
            items(&panel["targets"])
                .into_iter()
                .map(|target| target["expr"].clone()),
        );
    }
    let annotations = items(&dashboard["annotations"]["list"]);
    texts.extend(
        annotations
            .into_iter()
            .map(|annotation| annotation["expr"].clone()),
    );
    for variable in items(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            texts.push(variable["query"].clone());
        }
    }
    let mut questions = Vec::new();
    for text in texts {
        let text = text.as_str().ok_or("a target without an expression")?;
        questions.push(question(&substitute(text)?)?);
    }
    let name = format!("dashboards/{name}");
    Ok(Group { name, questions })
}

/// A panel's expression, or the list of a variable's values.
fn question(text: &str) -> Result<Question, String> {
    let pattern =
        Regex::new(r"^label_values\((.+), (\w+)\)$").map_err(|error| error.to_string())?;
    Ok(match pattern.captures(text) {
        Some(found) => Question::LabelValues {
            label: found[2].to_owned(),
            selector: found[1].to_owned(),
        },
        None => Question::query(text),
    })
}

/// The text with Grafana's variables replaced; an unknown one is an error.
fn substitute(text: &str) -> Result<String, String> {
    let pattern = Regex::new(r"\$(?:\{(\w+)\}|(\w+))").map_err(|error| error.to_string())?;
    let mut made = String::new();
    let mut after = 0;
    for found in pattern.captures_iter(text) {
        let name = found
            .get(1)
            .or(found.get(2))
            .map_or("", |name| name.as_str());
        let value = VARIABLES.iter().find(|(have, _)| *have == name);
        let (_, value) = value.ok_or_else(|| format!("unknown variable {name:?} in {text}"))?;
        let whole = found.get_match();
        made.push_str(&text[after..whole.start()]);
        made.push_str(value);
        after = whole.end();
    }
    made.push_str(&text[after..]);
    Ok(made)
}

/// One expression a line; `#` begins a comment, `== NAME` a group. After the name may stand `[3]`, for what only
/// Prometheus 3 answers, and `[lookback MILLISECONDS]`.
fn list(text: &str, prometheus: u8) -> Result<Vec<Group>, String> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut wanted, mut lookback) = (true, None);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix("== ") {
            let mut parts = heading.split(" [");
            let name = parts.next().unwrap_or_default().to_owned();
            (wanted, lookback) = (true, None);
            for option in parts {
                let option = option.trim_end_matches(']');
                match option.strip_prefix("lookback ").map(str::parse) {
                    Some(Ok(ms)) => lookback = Some(ms),
                    None if option == "3" => wanted = prometheus >= 3,
                    _ => return Err(format!("line {number}: unknown option {option:?}")),
                }
            }
            let questions = Vec::new();
            groups.push(Group { name, questions });
            continue;
        }
        let group = groups
            .last_mut()
            .ok_or_else(|| format!("line {number}: an expression before the first \"== NAME\""))?;
        if wanted {
            group.questions.push(Question::Query {
                text: line.to_owned(),
                lookback,
            });
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_list_with_its_options() {
        let text = "# why\n== plain\nup\n\n== new [3]\nnew\n== short [lookback 7000]\nup # not a comment\n";
        let groups = list(text, 3).unwrap();
        let texts: Vec<_> = groups.iter().map(|group| group.questions.len()).collect();
        assert_eq!(texts, [1, 1, 1]);
        assert_eq!(list(text, 2).unwrap()[1].questions.len(), 0);
        let Question::Query { lookback, .. } = &groups[2].questions[0] else {
            panic!("{groups:?}");
        };
        assert_eq!(*lookback, Some(7_000));
        assert!(list("up", 3).is_err());
        assert!(list("== a [4]", 3).is_err());
    }

    #[test]
    fn substitutes_variables_and_refuses_unknown_ones() {
        let text = r#"rate(a{job=~"$job"}[${__range}])"#;
        assert_eq!(
            substitute(text).unwrap(),
            r#"rate(a{job=~"firedrill"}[60s])"#
        );
        assert!(substitute("$other").is_err());
    }

    #[test]
    fn reads_the_kinds_of_files() {
        let text = "groups: [{name: g, rules: [{record: a, expr: b}, {alert: c, expr: ' d '}]}]";
        let groups = rules("r.yml", text).unwrap();
        assert_eq!(groups[1].questions, [Question::query("d")]);
        let text = r#"{"panels": [{"targets": [{"expr": "a"}]}], "annotations": {"list": [{"expr": "b"}]},
            "templating": {"list": [{"type": "query", "query": "label_values(up{job=~\"$job\"}, x)"}, {"type": "datasource"}]}}"#;
        let group = dashboard("d.json", text).unwrap();
        assert_eq!(group.questions.len(), 3);
        assert_eq!(
            group.questions[2].to_string(),
            r#"label_values(up{job=~"firedrill"}, x)"#
        );
    }
}
