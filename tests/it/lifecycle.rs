//! Start, drain, stop.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::{ORDER, Process, Role, Shop, connect, firedrill, get, is_alive, wait_for};

#[test]
fn a_role_that_is_told_to_stop_finishes_what_it_began() {
    let mut lab = Shop::start_with(&["--bank-service-ms", "400"], &[]);
    let mut stream = connect(&lab.shop.data).unwrap();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: shop\r\nidempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ORDER}",
        ORDER.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    wait_for("the charge to begin", || {
        lab.payments.metric("firedrill_bank_slots_busy", "") > 0.5
    });
    lab.shop.process.signal("TERM");
    wait_for("the shop to be unready", || {
        // Once it has drained its control plane is gone as well; the order's answer below tells the rest.
        crate::support::try_raw(
            &lab.shop.control,
            b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )
        .map_or(true, |answer| answer.status == 503)
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(
        lab.shop.process.exit_code(),
        Some(0),
        "{}",
        lab.shop.process.log()
    );
    assert!(
        connect(&lab.shop.data).is_err(),
        "it does not accept any more"
    );
}

#[test]
fn a_role_that_said_ready_is_and_its_log_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let shop = Role::start("shop", dir.path(), &arguments);
    assert_eq!(get(&shop.control, "/livez").status, 200);
    assert_eq!(get(&shop.control, "/readyz").status, 200);
    assert_eq!(get(&shop.data, "/items/1").status, 200);
    let mut log = String::new();
    wait_for("its log", || {
        log = shop.process.log();
        log.ends_with('\n')
    });
    for line in log.lines() {
        let event: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            event["message"].is_string() && event["role"] == "shop",
            "{line}"
        );
    }
}

#[test]
fn an_exit_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (how, code) in [("term", Some(0)), ("kill", None)] {
        let mut payments = Role::start("payments", dir.path(), &[]);
        let body = format!(r#"{{"how":"{how}"}}"#);
        // A killed process does not answer.
        let request = format!(
            "POST /exit HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        drop(crate::support::try_raw(
            &payments.control,
            request.as_bytes(),
        ));
        assert_eq!(payments.process.exit_code(), code, "{how}");
    }
}

#[test]
fn a_role_ends_with_its_parent_and_only_if_it_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let start = |more: &[&str]| {
        let mut command = firedrill();
        command.args([
            "payments",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--data",
        ]);
        command.arg(dir.path()).args(more).stdin(Stdio::piped());
        Process::start(command, &dir.path().join("log"), 1)
    };
    // As under Docker: standard input is closed from the start.
    let mut alone = start(&[]);
    drop(alone.child.stdin.take());
    let mut child = start(&["--parent-pipe"]);
    drop(child.child.stdin.take());
    assert_eq!(child.exit_code(), Some(0));
    assert!(is_alive(alone.child.id()));
}
