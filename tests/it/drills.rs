//! The drills' files stand for something that exists, and a drill that is killed leaves nothing behind.

use std::collections::BTreeSet;
use std::process::Stdio;

use firedrill::choices;
use firedrill::drills::condition::{Amount, Journey};
use firedrill::drills::format::{Drill, Experiment, RoleName};
use firedrill::drills::judge::Check;
use firedrill::drills::signals::{SIGNALS, Signal};
use firedrill::drills::{Proof, Record};
use serde_json::Value;

use crate::rules::{alerts, series_that_exist};
use crate::support::{Process, firedrill, get, is_alive, put, signal, wait_for};
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
        for name in drill.experiment.choices() {
            assert!(choices::find(name).is_some(), "{}: {name}", drill.file);
        }
        for name in drill.experiment.alert_names() {
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
    assert!(String::from_utf8_lossy(&second.stderr).contains("another drill goes on"));
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
fn a_drill_whose_console_dies_leaves_the_lab_as_it_was() {
    let up = Up::start(&[]);
    let (shop, traffic) = (up.control("shop"), up.control("traffic"));
    let load = || get(&traffic, "/load").json();
    let log = up.dir.path().join("drill.log");
    let mut flying = fly(&up.address("console"), &shop, &log);
    wait_for("its load", || load()["rate"] == 100.0);
    // It is started again, so it is killed again, until the drill has lost patience.
    let mut ended = None;
    wait_for("the drill to give up", || {
        let console = up.lab().member("console").unwrap().pid;
        if console != 0 && is_alive(console) {
            signal(console, "KILL");
        }
        ended = flying.child.try_wait().unwrap();
        ended.is_some()
    });
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(ended.unwrap().code(), Some(2), "{said}");
    assert!(poor_choices(&shop).is_empty(), "{said}");
    assert_eq!(load()["rate"], 20.0, "{said}");
    assert_eq!(shocks_under_way(&traffic), 0, "{said}");
}

#[test]
fn a_drill_that_is_stopped_while_its_lab_starts_takes_the_lab_with_it() {
    let cache = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(cache.path().join("drill.log")).unwrap();
    let mut command = firedrill();
    command.args(["drill", "run", "a-quiet-evening", "--option", "sound"]);
    command.env("XDG_CACHE_HOME", cache.path());
    let mut flying = Process::start_into(command, Stdio::from(log), 0);
    let labs = || {
        let entries = cache.path().join("firedrill").read_dir();
        entries.map_or(0, Iterator::count)
    };
    wait_for("the lab's directory", || labs() == 1);
    flying.signal("INT");
    assert_eq!(flying.exit_code(), Some(2));
    assert_eq!(labs(), 0);
}

/// The least and the most that an amount can be on a machine that can run the drill.
fn extremes(experiment: &Experiment, amount: &Amount) -> Vec<f64> {
    match amount {
        Amount::Fixed(number) => vec![*number],
        Amount::Scaled(scaled) => {
            let calibration = &experiment.calibrate[&scaled.of];
            let bounds = [calibration.min.unwrap(), calibration.max.unwrap()];
            bounds.map(|bound| scaled.number(bound)).to_vec()
        }
    }
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
                for number in extremes(&drill.experiment, amount) {
                    let within = known["min"].as_f64() <= Some(number)
                        && Some(number) <= known["max"].as_f64();
                    assert!(within, "{}: {name} = {number}", drill.file);
                }
            }
        }
    }
}

#[test]
fn the_tables_of_proofs_are_made_from_the_records() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let record = |folder: &str, id: &str| root.join(folder).join(format!("{id}.json"));
    let own = drills().iter();
    let own = own.map(|drill| record("docs/proof", &drill.experiment.id));
    let judged_by_prometheus = ["after-the-spike", "the-visitor"];
    let with_prometheus = judged_by_prometheus.map(|id| record("docs/proof/prometheus", id));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for records in [own.collect(), with_prometheus.to_vec()] {
        let records: Vec<_> = records;
        let mut command = firedrill();
        let table = command.args(["drill", "proof"]).args(&records).output();
        let table = table.unwrap();
        assert!(table.status.success(), "{table:?}");
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(
            !table.contains("**"),
            "a drill that is not proved is not shipped:\n{table}"
        );
        assert!(readme.contains(&table), "put this into README.md:\n{table}");
        for path in &records {
            let text = std::fs::read_to_string(path).unwrap();
            let proof: Proof = serde_json::from_str(&text).unwrap();
            let mut all = drills().iter();
            let drill = all.find(|drill| drill.experiment.id == proof.drill);
            for record in &proof.records {
                is_of_the_file(drill.unwrap(), record);
            }
        }
    }
}

/// Fails unless a record is of the drill as its file is now.
fn is_of_the_file(drill: &Drill, record: &Record) {
    let (experiment, file) = (&drill.experiment, &drill.file);
    let again = "was changed since it was proved: firedrill drill verify it again";
    assert_eq!(record.load, experiment.load, "the load of {file} {again}");
    assert_eq!(
        record.shock, experiment.shock,
        "the shock of {file} {again}"
    );
    let meanwhile = &experiment.meanwhile;
    assert_eq!(&record.meanwhile, meanwhile, "meanwhile in {file} {again}");
    let bounds = &experiment.harm_bounds;
    let legs = [
        ("poor", bounds.poor.as_ref()),
        ("sound", Some(&bounds.sound)),
        ("fix", bounds.fixed.as_ref()),
    ];
    for (name, expectation) in legs {
        let Some((leg, expectation)) = record.leg(name).zip(expectation) else {
            continue;
        };
        let all = expectation.must.iter();
        let all = all.chain(experiment.prove.iter().filter(|_| name != "fix"));
        for condition in all {
            let bound = |amount: &Option<Amount>| {
                let amount = amount.as_ref();
                amount.map(|amount| amount.number(&record.calibrated).unwrap())
            };
            let (says, min, max) = (
                experiment.words(condition),
                bound(&condition.min),
                bound(&condition.max),
            );
            let judged = |check: &Check| {
                check.says == says && is_same(check.min, min) && is_same(check.max, max)
            };
            assert!(leg.checks.iter().any(judged), "{says}, in {file}, {again}");
        }
    }
}

/// Whether two bounds are the same; what was written and read may differ in its last digit.
fn is_same(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * other.abs(),
        (one, other) => one.is_none() && other.is_none(),
    }
}
