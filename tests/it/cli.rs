//! What a wrong call ends with: one clear sentence on standard error, and exit code 2.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;

use crate::support::firedrill;

fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = firedrill();
    command.args(arguments);
    for (name, value) in env {
        command.env(name, value);
    }
    command.output().unwrap()
}

/// Runs a call that must fail, and returns what it said.
fn refused(arguments: &[&str], env: &[(&str, &str)]) -> String {
    let output = run(arguments, env);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(
        !said.contains("panicked") && !said.contains("stack backtrace"),
        "{said}"
    );
    said
}

#[test]
fn a_wrong_call_is_explained_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").to_str().unwrap().to_owned();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let file = dir.path().join("file");
    std::fs::write(
        &file,
        "not a database, and long enough to be looked at: ".repeat(50),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::copy(file, broken.join("shop.db")).unwrap();
    let broken = broken.to_str().unwrap();
    let any = ["--control", "127.0.0.1:0", "--data", &data];
    let with = |role: &'static str, more: &[&'static str]| -> Vec<String> {
        [&[role], &any[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let cases: Vec<(Vec<String>, &str)> = vec![
        (vec!["--nothing".into()], "--nothing"),
        (
            vec!["shop".into(), "--listen".into(), "here".into()],
            "here",
        ),
        (with("payments", &["--bank-slots", "0"]), "--bank-slots"),
        (with("traffic", &["--shop", "not a url"]), "--shop"),
        (with("traffic", &["--rate", "-1"]), "rate"),
        (with("console", &["--target", "shop=9464"]), "shop=http"),
        (
            with(
                "shop",
                &["--listen", "127.0.0.1:0", "--payments", "ftp://x"],
            ),
            "--payments",
        ),
        (
            vec![
                "payments".into(),
                "--control".into(),
                port.clone(),
                "--data".into(),
                data.clone(),
            ],
            "in use",
        ),
        (
            vec![
                "payments".into(),
                "--listen".into(),
                port,
                "--data".into(),
                data.clone(),
            ],
            "in use",
        ),
        (
            [
                "shop",
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--data",
                broken,
            ]
            .map(Into::into)
            .to_vec(),
            "database",
        ),
        (
            ["payments", "--data", file].map(Into::into).to_vec(),
            "directory",
        ),
        (
            [
                "payments",
                "--listen",
                "127.0.0.1:0",
                "--control",
                "0.0.0.0:0",
                "--data",
                &data,
            ]
            .map(Into::into)
            .to_vec(),
            "FIREDRILL_TOKEN",
        ),
        (with("payments", &["--log", "a=b=c"]), "log filter"),
        (
            ["choices", "set", "retries", "poor", "--data", &data]
                .map(Into::into)
                .to_vec(),
            "no lab runs",
        ),
        (
            ["restart", "shop", "--data", &data]
                .map(Into::into)
                .to_vec(),
            "no lab runs",
        ),
        (
            ["choices", "show", "nothing"].map(Into::into).to_vec(),
            "retries",
        ),
        (
            ["drill", "run", "nothing"].map(Into::into).to_vec(),
            "after-the-spike",
        ),
        (["up", "--for", "10"].map(Into::into).to_vec(), "30s"),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = refused(&arguments, &[]);
        assert!(said.contains(expected), "{arguments:?} said: {said}");
    }
}

#[test]
fn a_bad_otlp_endpoint_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let arguments = [
        "payments",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
        "--data",
        data,
    ];
    let env = [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost 4318"),
    ];
    let said = refused(&arguments, &env);
    assert!(said.contains("OTEL_EXPORTER_OTLP"), "{said}");
}

#[test]
fn each_command_teaches_with_an_example() {
    for command in [
        "up", "shop", "payments", "traffic", "console", "choices", "drill",
    ] {
        let output = run(&[command, "--help"], &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.contains("Example"),
            "{command}: {said}"
        );
        assert!(
            said.contains(&format!("firedrill {command}")),
            "{command}: {said}"
        );
    }
}

#[test]
fn a_lesson_can_be_read_without_a_lab() {
    let output = run(&["choices", "show", "retries"], &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("# Who was bitten"),
        "{said}"
    );
    let dir = tempfile::tempdir().unwrap();
    let listed = run(
        &["choices", "list", "--data", dir.path().to_str().unwrap()],
        &[],
    );
    let said = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.status.success() && said.contains("connection_scope"),
        "{said}"
    );
}

#[test]
fn health_is_an_exit_code() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    let answers = ["200 OK", "503 Service Unavailable"];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let well = run(&["health", &url], &[]);
    assert_eq!(
        (well.status.code(), well.stderr.as_slice()),
        (Some(0), &b""[..])
    );
    let unwell = run(&["health", &url], &[]);
    server.join().unwrap();
    let silent = run(&["health", &url], &[]);
    for (output, why) in [(unwell, "answers 503"), (silent, "does not answer")] {
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    refused(&["health", "not a url"], &[]);
}
