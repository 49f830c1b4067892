//! The dashboards in `dashboards/`: complete, of one style, and never asking for what does not exist.
//!
//! Here they are read; that each panel really shows something is asked of a real Prometheus in
//! `.ci/check-dashboards`.

mod contract; // what they ask for exists
mod lint; // the rules of Grafana's dashboard linter
mod promises; // their lines are those of the rules
mod promql; // which series an expression asks for

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A dashboard's file.
struct Dashboard {
    stem: String,
    title: String,
    json: Value,
}

impl Dashboard {
    /// Its panels, without the rows that only part them.
    fn panels(&self) -> impl Iterator<Item = &Value> {
        let panels = self.json["panels"].as_array().unwrap();
        panels.iter().filter(|panel| panel["type"] != "row")
    }

    /// The title of each panel, with each of its expressions.
    fn expressions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.panels().flat_map(|panel| {
            let targets = panel["targets"].as_array().unwrap();
            targets
                .iter()
                .map(|target| (text(&panel["title"]), text(&target["expr"])))
        })
    }

    fn variables(&self) -> &[Value] {
        self.json["templating"]["list"].as_array().unwrap()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Every dashboard, in the order of their files' names.
fn dashboards() -> Vec<Dashboard> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Dashboard {
                stem: path.file_stem().unwrap().to_string_lossy().into_owned(),
                title: text(&json["title"]).to_owned(),
                json,
            }
        })
        .collect();
    found.sort_by(|a, b| a.stem.cmp(&b.stem));
    assert!(!found.is_empty(), "{folder} holds no dashboard");
    found
}

#[test]
fn dashboards_are_of_one_kind_and_linked() {
    let mut titles = BTreeSet::new();
    let same = json!({
        "id": null, "schemaVersion": 42, "editable": false, "graphTooltip": 1, "refresh": "5s",
        "time": { "from": "now-15m", "to": "now" }, "tags": ["firedrill"],
    });
    for dashboard in dashboards() {
        let json = &dashboard.json;
        for (key, value) in same.as_object().unwrap() {
            assert_eq!(&json[key], value, "{key} of {}", dashboard.stem);
        }
        // Links and provisioning rely on the uid; from the file's name it is unique.
        assert_eq!(text(&json["uid"]), format!("firedrill-{}", dashboard.stem));
        assert!(text(&json["uid"]).len() <= 40, "{}", dashboard.stem);
        assert!(
            titles.insert(dashboard.title.clone()),
            "{} twice",
            dashboard.title
        );
        assert!(
            text(&json["description"]).ends_with('.'),
            "{}",
            dashboard.stem
        );
        let link = &json["links"][0];
        assert_eq!(link["type"], "dashboards", "{}", dashboard.stem);
        assert_eq!(link["tags"], json!(["firedrill"]), "{}", dashboard.stem);
        assert_eq!(link["includeVars"], true, "{}", dashboard.stem);
        assert_eq!(link["keepTime"], true, "{}", dashboard.stem);
        let annotations = json["annotations"]["list"].as_array().unwrap();
        let annotations: Vec<_> = annotations.iter().map(|a| text(&a["name"])).collect();
        assert_eq!(
            annotations,
            ["Firing alerts", "Process starts", "Changes"],
            "{}",
            dashboard.stem
        );
    }
}

#[test]
fn panels_have_their_own_id_title_and_place() {
    for dashboard in dashboards() {
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in dashboard.json["panels"].as_array().unwrap() {
            let (title, at) = (text(&panel["title"]), &panel["gridPos"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "id of {title}");
            assert!(titles.insert(title), "{title} twice in {}", dashboard.stem);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| at[key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{title} leaves the page");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(
                    cells.insert(cell),
                    "{title} in {} covers another",
                    dashboard.stem
                );
            }
        }
    }
}

#[test]
fn thresholds_rise_from_a_base() {
    for dashboard in dashboards() {
        for panel in dashboard
            .panels()
            .filter(|panel| panel["type"] != "heatmap")
        {
            let title = text(&panel["title"]);
            let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
            let steps = steps
                .as_array()
                .unwrap_or_else(|| panic!("{title}: no thresholds"));
            assert!(
                steps[0]["value"].is_null(),
                "{title}: the base has no value"
            );
            let values: Vec<f64> = steps[1..]
                .iter()
                .map(|s| s["value"].as_f64().unwrap())
                .collect();
            assert!(values.is_sorted(), "{title}: {values:?}");
        }
    }
}

/// A description that sends the reader to a panel which was renamed is worse than none.
#[test]
fn descriptions_lead_to_panels_that_exist() {
    let all = dashboards();
    let has = |dashboard: &Dashboard, title: &str| dashboard.panels().any(|p| p["title"] == title);
    let mut seen = 0;
    for dashboard in &all {
        for panel in dashboard.panels() {
            let description = text(&panel["description"]);
            let Some(start) = description
                .rfind("ook next at ")
                .or(description.rfind("ompare with "))
            else {
                continue;
            };
            let mut pieces = description[start..].split('*');
            pieces.next();
            while let (Some(name), Some(after)) = (pieces.next(), pieces.next()) {
                let place = after.strip_prefix(" in ").unwrap_or_default();
                let place = place
                    .split(|c: char| !c.is_alphabetic())
                    .next()
                    .unwrap_or_default();
                let target = all
                    .iter()
                    .find(|other| other.title == format!("firedrill / {place}"))
                    .unwrap_or(dashboard);
                assert!(
                    has(target, name),
                    "{:?}: no {name} in {}",
                    panel["title"],
                    target.stem
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no description names a panel");
}

/// What is chosen and what shock is under way is for the learner to find out.
#[test]
fn dashboards_do_not_give_the_answer_away() {
    for dashboard in dashboards() {
        let all = dashboard.json.to_string().to_lowercase();
        for word in all.split(|c: char| !c.is_alphanumeric()) {
            let told = [
                "poor", "sound", "shock", "shocks", "choice", "choices", "drill", "drills",
            ];
            assert!(!told.contains(&word), "{}: {word}", dashboard.stem);
        }
    }
}
