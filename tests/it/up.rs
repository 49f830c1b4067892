//! The supervisor, with the real roles.

use std::process::{Command, Stdio};

use firedrill::control::lab::{Lab, Member};
use tempfile::TempDir;

use crate::support::{Process, firedrill, get, is_alive, signal, wait_for};

/// `firedrill up` on free ports.
pub(crate) struct Up {
    pub(crate) process: Process,
    pub(crate) dir: TempDir,
}

impl Up {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::launch(firedrill(), 1, more)
    }

    /// Starts a lab with so many replicas of payments.
    pub(crate) fn start_with_replicas(replicas: usize) -> Self {
        let number = replicas.to_string();
        Self::launch(firedrill(), replicas, &["--payments-replicas", &number])
    }

    fn start_with_traces() -> Self {
        let mut command = firedrill();
        command.env_remove("OTEL_SDK_DISABLED");
        Self::launch(command, 1, &[])
    }

    fn launch(mut command: Command, replicas: usize, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        command
            .args(["up", "--ports", "auto", "--rate", "20", "--data"])
            .arg(dir.path())
            .args(more);
        let process = Process::start(command, &dir.path().join("up-test.log"), 3 + replicas);
        Self { process, dir }
    }

    pub(crate) fn lab(&self) -> Lab {
        Lab::read(self.dir.path()).unwrap().expect("the lab runs")
    }

    pub(crate) fn control(&self, role: &str) -> String {
        self.member(role).control.to_string()
    }

    fn member(&self, role: &str) -> Member {
        self.lab()
            .member(role)
            .unwrap_or_else(|| panic!("no {role}"))
            .clone()
    }

    pub(crate) fn address(&self, role: &str) -> String {
        self.member(role).data.unwrap().to_string()
    }

    fn pids(&self) -> Vec<u32> {
        self.lab().members.iter().map(|member| member.pid).collect()
    }
}

#[test]
fn one_command_starts_a_shop_with_users() {
    let mut up = Up::start(&[]);
    let roles: Vec<_> = up
        .process
        .ready
        .iter()
        .map(|ready| ready.role.as_str())
        .collect();
    assert_eq!(roles, ["console", "payments", "shop", "traffic"]);
    let traffic = up.member("traffic").control.to_string();
    wait_for("users to be served", || {
        let total = get(&traffic, "/report").json()["total"].clone();
        total["good"].as_f64() > Some(50.0) && total["bad"].as_f64() == Some(0.0)
    });
    let page = get(&up.address("console"), "/");
    assert!(
        page.status == 200 && page.body.contains("<html"),
        "{page:?}"
    );
    let pids = up.pids();
    up.process.signal("TERM");
    assert_eq!(up.process.exit_code(), Some(0), "{}", up.process.log());
    assert!(
        pids.into_iter().all(|pid| !is_alive(pid)),
        "every role has ended"
    );
    assert_eq!(
        Lab::read(up.dir.path()),
        Ok(None),
        "the lab is not there any more"
    );
}

#[test]
fn traces_reach_the_page() {
    let up = Up::start_with_traces();
    let console = up.address("console");
    wait_for("a trace of three services", || {
        let traces = get(&console, "/api/traces?limit=100").json();
        traces["traces"].as_array().is_some_and(|traces| {
            traces.iter().any(|trace| {
                trace["services"]
                    .as_array()
                    .is_some_and(|services| services.len() >= 3)
            })
        })
    });
}

#[test]
fn it_ends_by_itself_when_asked_to() {
    let mut up = Up::start(&["--for", "2s"]);
    assert_eq!(up.process.exit_code(), Some(0), "{}", up.process.log());
}

#[test]
fn no_role_outlives_a_supervisor_that_was_killed() {
    let mut up = Up::start(&[]);
    let pids = up.pids();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    up.process.signal("KILL");
    up.process.exit_code();
    wait_for("every role to end", || {
        pids.iter().all(|pid| !is_alive(*pid))
    });
}

#[test]
fn a_role_that_died_comes_back_on_its_ports() {
    let up = Up::start(&[]);
    for role in ["payments", "traffic", "console", "shop"] {
        let before = up.member(role);
        signal(before.pid, "KILL");
        wait_for("the role to be back", || {
            let now = up.member(role);
            now.restarts == before.restarts + 1 && now.pid != 0
        });
        let now = up.member(role);
        assert_eq!(
            (now.data, now.control),
            (before.data, before.control),
            "{role}"
        );
        wait_for("it to be ready", || {
            get(&now.control.to_string(), "/readyz").status == 200
        });
    }
}

#[test]
fn the_lab_has_three_replicas_if_asked_for() {
    let up = Up::start_with_replicas(3);
    let replicas: Vec<_> = up
        .lab()
        .members
        .into_iter()
        .filter(|member| member.role == "payments")
        .collect();
    assert_eq!(replicas.len(), 3);
    wait_for("each replica to charge", || {
        replicas.iter().all(|replica| {
            let text = get(&replica.control.to_string(), "/metrics").body;
            crate::support::metric(&text, "firedrill_bank_charges_total", "outcome=\"charged\"")
                > 0.5
        })
    });
}

#[test]
fn a_second_lab_in_the_same_place_is_refused() {
    let up = Up::start(&[]);
    let mut command = firedrill();
    command
        .args(["up", "--ports", "auto", "--data"])
        .arg(up.dir.path())
        .stdout(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already runs"));
}

#[test]
fn choices_are_set_by_name_in_the_lab_that_runs() {
    let up = Up::start(&[]);
    let choices = |arguments: &[&str]| {
        let mut command = firedrill();
        command
            .arg("choices")
            .args(arguments)
            .arg("--data")
            .arg(up.dir.path());
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(choices(&["set", "retries", "poor"]).contains("retries is poor"));
    let listed = choices(&["list"]);
    let line = listed
        .lines()
        .find(|line| line.starts_with("retries"))
        .unwrap();
    assert!(line.contains(" poor "), "{listed}");
}
