//! The drills' files stand for something that exists, and a drill that is killed leaves nothing behind.

use std::collections::BTreeSet;
use std::process::Stdio;

use firedrill::choices;
use firedrill::drills::condition::{Amount, Journey};
use firedrill::drills::format::{Action, Drill, Experiment, RoleName};
use firedrill::drills::signals::{SIGNALS, Signal};
use serde_json::Value;

use crate::rules::{alerts, series_that_exist};
use crate::support::{Process, firedrill, get, put, wait_for};
use crate::up::Up;

fn drills() -> &'static [Drill] {
    firedrill::drills::all().unwrap()
}

/// Every question that a drill can ask.
fn questions(experiment: &Experiment) -> Vec<String> {
    let own = experiment.signals.iter().map(|(name, own)| Signal {
        name,
        says: &own.says,
        expr: &own.expr,
    });
    let calibrate = experiment.calibrate.iter().map(|(name, one)| Signal {
        name,
        says: &one.says,
        expr: &one.expr,
    });
    let all = own.chain(calibrate).chain(SIGNALS.iter().copied());
    all.map(|signal| signal.ask(Some(Journey::Order), 20.0))
        .collect()
}

#[test]
fn every_question_is_promql_about_series_that_exist() {
    let known = series_that_exist();
    let mut asked = 0;
    for drill in drills() {
        for question in questions(&drill.experiment) {
            let parsed = promql_parser::parser::parse(&question);
            assert!(parsed.is_ok(), "{}: {question}: {parsed:?}", drill.file);
            let words = question.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = |word: &&str| {
                [
                    "firedrill_",
                    "http_",
                    "db_",
                    "tokio_",
                    "process_",
                    "scrape_",
                ]
                .iter()
                .any(|prefix| word.starts_with(prefix))
            };
            for word in words.filter(ours) {
                assert!(known.contains(word), "{}: {word}", drill.file);
                asked += 1;
            }
        }
    }
    assert!(asked > 10, "the words were not found: {asked}");
}

#[test]
fn every_choice_and_alert_of_a_drill_exists() {
    let known = alerts();
    for drill in drills() {
        let Experiment {
            poor,
            masks,
            fix,
            reject,
            alerts,
            ..
        } = &drill.experiment;
        let actions = fix.iter().chain(reject.iter().map(|reject| &reject.action));
        let set = actions.filter_map(|action| match action {
            Action::Choice(options) => Some(options.keys()),
            Action::Restart(_) | Action::Silence | Action::Rate(_) => None,
        });
        let names = poor.keys().chain(masks.keys()).chain(set.flatten());
        for name in names {
            assert!(choices::find(name).is_some(), "{}: {name}", drill.file);
        }
        let expected = alerts.expected.iter().map(|expected| &expected.name);
        let allowed = alerts.allowed.keys().chain(alerts.allowed_sound.keys());
        for name in expected.chain(allowed) {
            assert!(known.contains(name), "{}: {name}", drill.file);
        }
    }
}

/// The choices that a drill may leave poor for a while, by name.
fn poor_choices(shop: &str) -> BTreeSet<String> {
    let told = get(shop, "/choices").json();
    let choices = told["choices"].as_array().unwrap();
    let poor = choices.iter().filter(|one| one["option"] == "poor");
    poor.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn shocks_under_way(control: &str) -> usize {
    let told = get(control, "/shocks").json();
    let shocks = told["shocks"].as_array().unwrap();
    shocks.iter().filter(|one| !one["values"].is_null()).count()
}

/// Starts a drill in a running lab, and waits until it has deployed the poor option.
fn fly(console: &str, shop: &str, log: &std::path::Path) -> Process {
    let mut command = firedrill();
    let url = format!("http://{console}");
    command.args(["drill", "run", "after-the-spike", "--prometheus", &url]);
    let file = std::fs::File::create(log).unwrap();
    let flying = Process::start_into(command, Stdio::from(file), 0);
    wait_for("the poor option", || poor_choices(shop).contains("retries"));
    flying
}

#[test]
fn a_drill_that_is_stopped_or_killed_leaves_the_lab_as_it_was() {
    let up = Up::start(&[]);
    let (shop, traffic) = (up.control("shop"), up.control("traffic"));
    let log = up.dir.path().join("drill.log");
    let load = || get(&traffic, "/load").json();
    let mut flying = fly(&up.address("console"), &shop, &log);
    wait_for("its load", || load()["rate"] == 100.0);
    // A second drill in the same lab would be two causes at once.
    let second = firedrill()
        .args(["drill", "run", "after-the-spike", "--prometheus"])
        .arg(format!("http://{}", up.address("console")))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("is poor in this lab"));
    flying.signal("INT");
    assert_eq!(
        flying.exit_code(),
        Some(2),
        "{}",
        std::fs::read_to_string(&log).unwrap()
    );
    assert!(poor_choices(&shop).is_empty());
    assert_eq!(load()["rate"], 20.0);

    let mut flying = fly(&up.address("console"), &shop, &log);
    wait_for("its load", || load()["rate"] == 100.0);
    assert_eq!(
        put(&traffic, "/shocks/surge", r#"{"order":2,"ttl_s":5}"#).status,
        200
    );
    flying.signal("KILL");
    flying.exit_code();
    wait_for("the lease to end", || {
        poor_choices(&shop).is_empty()
            && load()["rate"] == 20.0
            && load()["ends_in_s"] == Value::Null
            && shocks_under_way(&traffic) == 0
    });
}

#[test]
fn every_shock_of_a_drill_is_one_of_the_role_that_it_hits() {
    let up = Up::start(&[]);
    for drill in drills() {
        for shock in &drill.experiment.shock {
            let role = match shock.role {
                RoleName::Shop => "shop",
                RoleName::Payments => "payments",
                RoleName::Traffic => "traffic",
            };
            let told = get(&up.control(role), "/shocks").json();
            let shocks = told["shocks"].as_array().unwrap();
            let spec = shocks
                .iter()
                .find(|spec| spec["name"] == shock.name.as_str());
            let spec = spec.unwrap_or_else(|| panic!("{}: {}", drill.file, shock.name));
            for (name, amount) in &shock.parameters {
                let known = spec["parameters"].as_array().unwrap();
                let known = known.iter().find(|one| one["name"] == name.as_str());
                let known = known.unwrap_or_else(|| panic!("{}: {name}", drill.file));
                if let Amount::Fixed(number) = amount {
                    let within = known["min"].as_f64() <= Some(*number)
                        && Some(*number) <= known["max"].as_f64();
                    assert!(within, "{}: {name} = {number}", drill.file);
                }
            }
        }
    }
}

#[test]
fn the_table_of_proofs_is_made_from_the_records() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let records: Vec<_> = drills()
        .iter()
        .map(|drill| root.join(format!("docs/proof/{}.json", drill.experiment.id)))
        .collect();
    let table = firedrill()
        .args(["drill", "proof"])
        .args(&records)
        .output()
        .unwrap();
    assert!(table.status.success(), "{table:?}");
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        !table.contains("**"),
        "a drill that is not proved is not shipped:\n{table}"
    );
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.contains(&table), "put this into README.md:\n{table}");
}
