//! The control plane: it answers when nothing else does, keeps its choices, and asks who is there.

use std::io::Write;

use crate::support::{Role, Shop, connect, get, put, send};

#[test]
fn it_answers_while_every_worker_of_the_data_plane_is_blocked() {
    let lab = Shop::start_with(&[], &["--workers", "1"]);
    let (data, control) = (&lab.shop.data, &lab.shop.control);
    assert_eq!(
        put(control, "/choices/password_hashing", r#"{"option":"poor"}"#).status,
        200
    );
    // The one worker now hashes; forty logins keep it busy for long after the first of them.
    let body = r#"{"customer_id":1,"password":"guess"}"#;
    let login = format!(
        "POST /sessions HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut logins: Vec<_> = (0..40).map(|_| connect(data).unwrap()).collect();
    for stream in &mut logins {
        stream.write_all(login.as_bytes()).unwrap();
    }
    // While they are under way, the control plane answers, tells of them, and cures.
    let mut seen_busy = false;
    for _ in 0..200 {
        seen_busy |= lab.shop.metric("http_server_active_requests", "POST") > 0.5;
        if seen_busy {
            break;
        }
    }
    assert!(
        seen_busy,
        "the control plane answered while logins were under way"
    );
    assert_eq!(get(control, "/livez").status, 200);
    assert_eq!(
        put(
            control,
            "/choices/password_hashing",
            r#"{"option":"sound"}"#
        )
        .status,
        200
    );
    assert!(
        lab.shop.metric("http_server_active_requests", "POST") > 0.5,
        "all that while they were under way"
    );
}

#[test]
fn a_choice_outlives_a_crash_and_ends_with_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--payments", "http://127.0.0.1:1", "--seed-orders", "10"];
    let option = |role: &Role, name: &str| {
        let choices = get(&role.control, "/choices").json();
        let choices = choices["choices"].as_array().unwrap().clone();
        choices
            .into_iter()
            .find(|choice| choice["name"] == name)
            .unwrap()["option"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut shop = Role::start("shop", dir.path(), &arguments);
    assert_eq!(
        put(&shop.control, "/choices/retries", r#"{"option":"poor"}"#).status,
        200
    );
    assert_eq!(
        put(
            &shop.control,
            "/choices/charge_timeout",
            r#"{"option":"poor","ttl_s":1}"#
        )
        .status,
        200
    );
    assert_eq!(option(&shop, "charge_timeout"), "poor");
    shop.process.signal("KILL");
    shop.process.exit_code();
    let shop = Role::start("shop", dir.path(), &arguments);
    assert_eq!(option(&shop, "retries"), "poor", "a restart cures nothing");
    crate::support::wait_for("the choice to end with its time", || {
        option(&shop, "charge_timeout") == "sound"
    });
}

#[test]
fn what_it_does_not_know_it_names() {
    let lab = Shop::start();
    let control = &lab.shop.control;
    let cases = [
        (
            put(control, "/choices/retrys", r#"{"option":"poor"}"#),
            404,
            "name",
        ),
        (
            put(control, "/choices/retries", r#"{"option":"worse"}"#),
            422,
            "option",
        ),
        (
            put(
                control,
                "/choices/retries",
                r#"{"option":"poor","ttl_s":0}"#,
            ),
            422,
            "ttl_s",
        ),
        (
            put(
                control,
                "/choices/retries",
                r#"{"option":"poor","forever":true}"#,
            ),
            422,
            "forever",
        ),
        (put(control, "/choices/retries", "poor"), 400, "body"),
        (
            send(control, "PUT", "/choices/retries", "", b"{}"),
            415,
            "Content-Type",
        ),
        (put(control, "/shocks/surge", r#"{"ttl_s":1}"#), 404, "name"),
        (
            put(
                &lab.payments.control,
                "/shocks/bank_slow",
                r#"{"factor":0.5,"ttl_s":1}"#,
            ),
            422,
            "factor",
        ),
        (get(control, "/nothing"), 404, "path"),
        (
            send(
                control,
                "POST",
                "/exit",
                "content-type: application/json\r\n",
                br#"{"how":"nicely"}"#,
            ),
            422,
            "how",
        ),
    ];
    for (answer, status, field) in cases {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["field"], field, "{answer:?}");
    }
}

#[test]
fn where_a_token_is_set_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start_with(
        "payments",
        dir.path(),
        &[],
        &[("FIREDRILL_TOKEN", "secret")],
    );
    let control = &payments.control;
    for open in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(get(control, open).status, 200, "{open}");
    }
    for (method, path) in [
        ("GET", "/choices"),
        ("GET", "/shocks"),
        ("GET", "/log"),
        ("PUT", "/log"),
        ("POST", "/exit"),
        ("GET", "/nothing"),
    ] {
        let answer = send(control, method, path, "", b"");
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (401, Some("Authorization")),
            "{path}"
        );
        assert_eq!(
            send(
                control,
                method,
                path,
                "authorization: Bearer wrong\r\n",
                b""
            )
            .status,
            401,
            "{path}"
        );
    }
    assert_eq!(
        send(
            control,
            "GET",
            "/choices",
            "authorization: Bearer secret\r\n",
            b""
        )
        .status,
        200
    );
}

#[test]
fn a_token_that_is_set_and_empty_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for token in ["", " ", "ü"] {
        let mut command = crate::support::firedrill();
        command.args([
            "payments",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--data",
        ]);
        let output = command
            .arg(dir.path())
            .env("FIREDRILL_TOKEN", token)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{token:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("FIREDRILL_TOKEN"));
    }
}

#[test]
fn a_page_of_another_site_cannot_ask() {
    let lab = Shop::start();
    let answer = send(
        &lab.shop.control,
        "GET",
        "/choices",
        "origin: http://evil.example\r\n",
        b"",
    );
    assert_eq!(answer.status, 403);
    let rebound = crate::support::try_raw(
        &lab.shop.control,
        b"GET /choices HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(rebound.unwrap().status, 421);
}

#[test]
fn a_shock_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let active = || get(&payments.control, "/shocks").json()["shocks"][0]["ends_in_s"].is_number();
    assert_eq!(
        put(
            &payments.control,
            "/shocks/bank_slow",
            r#"{"factor":5,"ttl_s":1.5}"#
        )
        .status,
        200
    );
    assert!(active());
    crate::support::wait_for("the shock to end", || !active());
}
