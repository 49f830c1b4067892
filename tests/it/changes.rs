//! Changes as events: what is told of them, and that it is not told what they were.

use serde_json::Value;

use crate::support::{Role, firedrill, get, metric, put, send, wait_for};
use crate::up::Up;

const LAST: &str = "firedrill_last_change_timestamp_seconds";

fn post(role: &Role, path: &str, body: &str) -> u16 {
    let json = "content-type: application/json\r\n";
    send(&role.control, "POST", path, json, body.as_bytes()).status
}

fn payments(dir: &std::path::Path, more: &[&str], env: &[(&str, &str)]) -> Role {
    Role::start_with("payments", dir, more, env)
}

fn shop(dir: &std::path::Path) -> Role {
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    Role::start("shop", dir, &arguments)
}

/// The changes that a role lists, and when the last of this kind was, by its metrics.
fn told(role: &Role, kind: &str) -> (Vec<Value>, f64) {
    let list = get(&role.control, "/changes").json()["changes"].clone();
    let last = role.metric(LAST, &format!("kind=\"{kind}\""));
    (list.as_array().unwrap().clone(), last)
}

#[test]
fn every_change_of_a_setting_is_told_once_and_in_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop(dir.path());
    assert_eq!(told(&shop, "config"), (Vec::new(), 0.0));
    let choose = |body: &str| {
        let answer = put(&shop.control, "/choices/label_policy", body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    choose(r#"{"option":"sound"}"#);
    assert_eq!(told(&shop, "config"), (Vec::new(), 0.0), "nothing changed");
    choose(r#"{"option":"poor"}"#);
    let (list, first) = told(&shop, "config");
    assert_eq!(list.len(), 1);
    choose(r#"{"option":"poor","ttl_s":3600}"#);
    choose(r#"{"option":"sound"}"#);
    choose(r#"{"option":"poor","ttl_s":0.1,"description":"release 41 of the settings"}"#);
    wait_for("its time to end", || told(&shop, "config").0.len() == 4);
    put(&shop.control, "/log", r#"{"filter":"warn"}"#);
    assert_eq!(post(&shop, "/changes", r#"{"kind":"config"}"#), 200);
    let (list, last) = told(&shop, "config");
    let said: Vec<_> = list
        .iter()
        .map(|change| (&change["kind"], change["description"].as_str().unwrap()))
        .collect();
    let config = Value::from("config");
    let expected = ["", "", "release 41 of the settings", "", "", ""];
    assert_eq!(said, expected.map(|said| (&config, said)));
    assert!(last > first && first > 1.7e9, "{first}, {last}");
    assert!((last - list[5]["at_s"].as_f64().unwrap()).abs() < 0.01);
    assert!(told(&shop, "deploy").1.abs() < f64::EPSILON);
}

#[test]
fn what_cannot_be_a_change_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let role = payments(dir.path(), &[], &[]);
    let refused = |path: &str, body: &str| {
        let json = "content-type: application/json\r\n";
        let answer = send(&role.control, "POST", path, json, body.as_bytes());
        assert!((400..500).contains(&answer.status), "{answer:?}");
        answer.json()["field"].clone()
    };
    assert_eq!(refused("/changes", r#"{"kind":"fashion"}"#), "kind");
    let long = format!(r#"{{"kind":"config","description":"{}"}}"#, "x".repeat(121));
    assert_eq!(refused("/changes", &long), "description");
    let exit = r#"{"how":"term","service_version":"one or two"}"#;
    assert_eq!(refused("/exit", exit), "service_version");
    assert_eq!(
        refused("/exit", r#"{"how":"now","service_version":"1"}"#),
        "how"
    );
    assert_eq!(get(&role.control, "/readyz").status, 200);
}

#[test]
fn a_start_as_another_version_is_a_deployment() {
    let dir = tempfile::tempdir().unwrap();
    let info = |role: &Role, version: &str| {
        let label = format!("service_version=\"{version}\"");
        role.metric("target_info", &label)
    };
    let mut first = payments(dir.path(), &["--service-version", "1.0"], &[]);
    assert!((info(&first, "1.0") - 1.0).abs() < f64::EPSILON);
    assert_eq!(told(&first, "deploy"), (Vec::new(), 0.0));
    let exit = r#"{"how":"term","service_version":"1.1"}"#;
    assert_eq!(post(&first, "/exit", exit), 202);
    assert_eq!(first.process.exit_code(), Some(0));
    let mut second = payments(dir.path(), &["--service-version", "1.0"], &[]);
    assert!((info(&second, "1.1") - 1.0).abs() < f64::EPSILON);
    let (list, deployed) = told(&second, "deploy");
    assert_eq!(list[0]["description"], "1.0 to 1.1");
    assert!(deployed > 1.7e9);
    assert_eq!(post(&second, "/exit", r#"{"how":"term"}"#), 202);
    assert_eq!(second.process.exit_code(), Some(0));
    let env = [("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.version=2.0")];
    let mut third = payments(dir.path(), &["--service-version", "1.0"], &env);
    let (_, again) = told(&third, "deploy");
    assert!((again - deployed).abs() < 1e-3, "a restart is none");
    third.process.signal("TERM");
    assert_eq!(third.process.exit_code(), Some(0));
    let fourth = payments(dir.path(), &[], &env);
    assert!((info(&fourth, "2.0") - 1.0).abs() < f64::EPSILON);
    assert_eq!(told(&fourth, "deploy").0[0]["description"], "1.1 to 2.0");
}

#[test]
fn replicas_are_deployed_one_after_the_other() {
    let up = Up::start_with_replicas(2);
    let mut command = firedrill();
    let output = command
        .args(["restart", "payments", "--service-version", "9.9", "--data"])
        .arg(up.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said, "payments-1: 9.9 is ready\npayments-2: 9.9 is ready\n",
        "{complaint}"
    );
    for member in up.lab().members {
        let text = get(&member.control.to_string(), "/metrics").body;
        let now = metric(
            &text,
            "target_info",
            &format!("service_name=\"{}\"", member.role),
        );
        assert!((now - 1.0).abs() < f64::EPSILON);
        let is_new = text.contains("service_version=\"9.9\"");
        assert_eq!(is_new, member.role == "payments", "{}", member.name);
        assert_eq!(member.restarts, u32::from(is_new));
    }
    let console = up.address("console");
    wait_for("the page to show both deployments", || {
        let status = get(&console, "/api/status").json();
        let seen = |change: &&Value| change["description"].as_str().unwrap().ends_with(" to 9.9");
        let changes = status["changes"].as_array().unwrap();
        changes.iter().filter(seen).count() == 2
    });
}
