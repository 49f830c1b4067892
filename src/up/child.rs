//! One process: started, known to be ready, and ended in bounded time.
//!
//! A process that was started is not yet one that works: it is ready when it says so, in one line on standard
//! output. Whoever went on before that would hand out addresses at which nobody listens.

use std::io::PipeWriter;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::logs::{self, Destination, LastWords};
use super::plan::Spec;
use crate::control::lifecycle::Ready;

/// The longest ready line, in bytes.
const READY_BYTES_MAX: u64 = 4096;

/// How long a killed process is waited for. The kernel ends it at once, unless a disk holds it.
const KILLED_WAIT: Duration = Duration::from_secs(2);

/// A process that is ready. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    /// Nothing is ever written: its end tells the child that we are gone, however we went.
    parent_pipe: PipeWriter,
    words: LastWords,
}

/// What a start brought.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) ready: Ready,
    /// The ready line as it was received.
    pub(super) line: String,
}

/// Starts a process and waits until it is ready. A sentence says why it is not.
pub(super) async fn start(
    spec: &Spec,
    log: Destination,
    deadline: Duration,
) -> Result<Started, String> {
    let (mut child, stdout) =
        spawn(spec, log).map_err(|error| format!("{} cannot be started: {error}", spec.name))?;
    let Ok(said) = tokio::time::timeout(deadline, first_line(stdout)).await else {
        child.kill().await;
        let words = child.words.get().await;
        return Err(format!(
            "{} was not ready within {deadline:?}; the last that it said: {words:?}",
            spec.name
        ));
    };
    let Some(line) = said else {
        // It closed its standard output: it ended, or will never be ready.
        let status = tokio::time::timeout(KILLED_WAIT, child.process.wait()).await;
        if status.is_err() {
            child.kill().await;
        }
        let words = child.words.get().await;
        return Err(if words.is_empty() {
            let how = status.map_or_else(|_| "closed its standard output".into(), describe);
            format!("{} {how} before it was ready", spec.name)
        } else {
            format!("{} did not start: {words}", spec.name)
        });
    };
    match parse(spec, &line) {
        Ok(ready) => Ok(Started { child, ready, line }),
        Err(sentence) => {
            child.kill().await;
            Err(sentence)
        }
    }
}

fn spawn(spec: &Spec, log: Destination) -> std::io::Result<(Child, ChildStdout)> {
    let (stdin, parent_pipe) = std::io::pipe()?;
    let (log_from, stderr) = std::io::pipe()?;
    let words = logs::copy(log_from, log)?;
    let mut process = Command::new(&spec.binary)
        .args(spec.args())
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(stderr)
        // Ctrl-C must reach only the supervisor, or the shop would stop before its users do.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let stdout = process.stdout.take().expect("standard output is piped");
    let child = Child {
        process,
        parent_pipe,
        words,
    };
    Ok((child, stdout))
}

/// The first line; what follows is read and forgotten, so that the child never waits for us.
async fn first_line(stdout: ChildStdout) -> Option<String> {
    let mut reader = BufReader::new(stdout).take(READY_BYTES_MAX);
    let mut line = String::new();
    let read = reader.read_line(&mut line).await;
    let mut rest = reader.into_inner();
    tokio::spawn(async move {
        // It ends with the child; an error means the same.
        drop(tokio::io::copy_buf(&mut rest, &mut tokio::io::sink()).await);
    });
    matches!(read, Ok(1..)).then(|| line.trim_end().to_owned())
}

fn parse(spec: &Spec, line: &str) -> Result<Ready, String> {
    let ready: Option<Ready> = serde_json::from_str(line).ok();
    ready
        .filter(|ready| {
            ready.event == "ready"
                && ready.role == spec.role
                && ready.control.is_some()
                && ready.data.is_some() == spec.data.is_some()
        })
        .ok_or_else(|| {
            let said: String = line.chars().take(120).collect();
            format!(
                "{} said {said:?} on standard output, which is no ready line of {}",
                spec.name, spec.role
            )
        })
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(
        |error| format!("cannot be watched ({error})"),
        |status| format!("ended ({status})"),
    )
}

impl Child {
    /// The process; 0 once it has ended.
    pub(super) fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Waits until it ends, and says how.
    pub(super) async fn ended(&mut self) -> String {
        describe(self.process.wait().await)
    }

    /// The last line that it wrote, once it has ended.
    pub(super) async fn last_words(self) -> String {
        self.words.get().await
    }

    /// Ends it without asking.
    pub(super) async fn kill(&mut self) {
        // An error means that it has ended already.
        drop(self.process.start_kill());
        drop(tokio::time::timeout(KILLED_WAIT, self.process.wait()).await);
    }

    /// Asks it to end, and ends it after `grace`, or as soon as `kill` is cancelled. Says whether it ended by itself.
    pub(super) async fn stop(mut self, grace: Duration, kill: &CancellationToken) -> bool {
        if let Some(pid) = self
            .process
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        {
            // An error means that it has ended already.
            kill_process(pid, Signal::TERM).ok();
        }
        let ended = tokio::select! {
            biased;
            () = kill.cancelled() => false,
            ended = tokio::time::timeout(grace, self.process.wait()) => ended.is_ok(),
        };
        if !ended {
            self.kill().await;
        }
        drop(self.parent_pipe);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::tests::{FakeRole, NOBODY, plan};

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn start_fake(body: &str, deadline: Duration) -> Result<Started, String> {
        let fake = FakeRole::new(body);
        let spec = plan(&fake).shop(&[], NOBODY);
        let log = Destination::File(fake.dir().join("shop.log"));
        start(&spec, log, deadline).await
    }

    #[tokio::test]
    async fn a_ready_line_is_understood() {
        let started = start_fake("ready; wait_for_parent", DEADLINE)
            .await
            .unwrap();
        assert_eq!(started.ready.pid, started.child.pid());
        assert!(started.line.starts_with(r#"{"event":"ready""#));
        assert!(
            started
                .child
                .stop(DEADLINE, &CancellationToken::new())
                .await
        );
    }

    #[tokio::test]
    async fn a_child_that_is_never_ready_is_named() {
        let error = start_fake("wait_for_parent", Duration::from_millis(200))
            .await
            .unwrap_err();
        assert!(
            error.starts_with("shop was not ready within 200ms"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_child_that_fails_is_quoted() {
        let body = "echo 'firedrill: the data plane cannot listen' >&2; exit 2";
        let error = start_fake(body, DEADLINE).await.unwrap_err();
        assert_eq!(error, "shop did not start: the data plane cannot listen");
        let error = start_fake("exit 3", DEADLINE).await.unwrap_err();
        assert_eq!(error, "shop ended (exit status: 3) before it was ready");
    }

    #[tokio::test]
    async fn a_line_that_is_no_ready_line_is_refused() {
        let error = start_fake("echo hello; wait_for_parent", DEADLINE)
            .await
            .unwrap_err();
        assert!(error.contains("\"hello\""), "{error}");
        let payments =
            r#"echo '{"event":"ready","role":"payments","pid":1,"data":null,"control":null}'"#;
        let error = start_fake(payments, DEADLINE).await.unwrap_err();
        assert!(error.contains("no ready line of shop"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed() {
        let body = "trap '' TERM; ready; wait_for_parent";
        let started = start_fake(body, DEADLINE).await.unwrap();
        let grace = Duration::from_millis(200);
        assert!(!started.child.stop(grace, &CancellationToken::new()).await);
    }

    #[tokio::test]
    async fn a_child_ends_when_its_pipe_is_closed() {
        let mut started = start_fake("ready; wait_for_parent; exit 7", DEADLINE)
            .await
            .unwrap();
        drop(started.child.parent_pipe);
        let status = tokio::time::timeout(DEADLINE, started.child.process.wait()).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(7));
    }
}
