//! Which version of a role runs, which one is to run next, and whether that was a deployment.
//!
//! All versions of a lab are the same program. What a deployment does to everyone else is real all the same: the
//! process drains, ends and comes back, what it held in memory is gone, and its telemetry tells another version. So the
//! version that was asked for is kept in `DIR/release.json`, where the next start finds it, as it would find another
//! program there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::changes::{Change, Kind, now_s};
use crate::choices::book::replace;
use crate::http::Problem;

/// The longest version, in bytes: it is the value of a label.
const VERSION_MAX: usize = 40;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// What the role was started with. If that changes, nothing else counts.
    configured: String,
    /// What runs after the next start.
    next: String,
    /// What ran after the last.
    running: String,
    /// The last time that another version than before was started.
    deployed: Option<Change>,
}

/// The version of this process.
#[derive(Debug)]
pub struct Release {
    path: PathBuf,
    kept: Kept,
    /// Whether the file says so already.
    is_kept: bool,
    started_at_s: f64,
}

impl Release {
    /// Finds out in `dir` which version is to run, where the role was started as `configured`. Changes nothing yet: a
    /// start may fail.
    pub fn open(dir: &Path, configured: &str) -> Result<Self, String> {
        check(configured).map_err(|allowed| {
            format!("--service-version cannot be {configured:?}: it must be {allowed}")
        })?;
        let path = dir.join("release.json");
        let before: Option<Kept> = read(&path)?;
        let next = before.as_ref().map(|kept| kept.next_of(configured));
        let version = next.unwrap_or(configured);
        let deployed = match &before {
            Some(kept) if kept.running != version => Some(Change {
                kind: Kind::Deploy,
                at_s: now_s(),
                description: format!("{} to {version}", kept.running),
            }),
            kept => kept.as_ref().and_then(|kept| kept.deployed.clone()),
        };
        let kept = Kept {
            configured: configured.into(),
            next: version.into(),
            running: version.into(),
            deployed,
        };
        let is_kept = before.as_ref() == Some(&kept);
        Ok(Self {
            path,
            kept,
            is_kept,
            started_at_s: now_s(),
        })
    }

    /// Remembers that this version was started.
    pub fn keep(&self) -> Result<(), String> {
        if self.is_kept {
            return Ok(());
        }
        let path = self.path.display();
        replace(&self.path, &self.kept)
            .map_err(|error| format!("{path} cannot be written: {error}"))
    }

    /// The version that runs.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.kept.running
    }

    /// When this process was started, in seconds since the epoch: it tells one process from the next.
    #[must_use]
    pub fn started_at_s(&self) -> f64 {
        self.started_at_s
    }

    /// Its deployment; none if it is the first that ever ran here.
    #[must_use]
    pub fn deployed(&self) -> Option<Change> {
        self.kept.deployed.clone()
    }

    /// Has `version` run after the next start. Blocks for as long as the disk does.
    pub(super) fn plan(&self, version: &str) -> io::Result<()> {
        let kept = Kept {
            next: version.into(),
            ..self.kept.clone()
        };
        replace(&self.path, &kept)
    }
}

impl Kept {
    fn next_of<'a>(&'a self, configured: &'a str) -> &'a str {
        if self.configured == configured {
            &self.next
        } else {
            configured
        }
    }
}

fn read(path: &Path) -> Result<Option<Kept>, String> {
    let told = |error: &dyn std::fmt::Display| {
        let path = path.display();
        format!("{path} cannot be read: {error}; mend or delete it")
    };
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| told(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(&error)),
    }
}

/// Whether `version` can be one; if not, what can.
fn check(version: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if !version.is_empty() && version.len() <= VERSION_MAX && version.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "1 to {VERSION_MAX} letters, digits, dots, and any of _+-"
    ))
}

/// Refuses what cannot be a version.
pub(super) fn valid(version: &str) -> Result<(), Problem> {
    check(version).map_err(|allowed| Problem::invalid("service_version", version, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &Path, configured: &str) -> Release {
        let release = Release::open(dir, configured).unwrap();
        release.keep().unwrap();
        release
    }

    #[test]
    fn what_was_planned_runs_after_the_next_start_and_is_a_deployment_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path(), "0.1.0");
        assert_eq!((first.version(), first.deployed()), ("0.1.0", None));
        first.plan("0.1.1").unwrap();
        // One that fails before it has started anything is none.
        drop(Release::open(dir.path(), "0.1.0").unwrap());
        let second = start(dir.path(), "0.1.0");
        assert_eq!(second.version(), "0.1.1");
        let deployed = second.deployed().unwrap();
        assert_eq!(deployed.description, "0.1.0 to 0.1.1");
        let again = start(dir.path(), "0.1.0");
        assert_eq!(again.version(), "0.1.1");
        let still = again.deployed().unwrap();
        assert_eq!(still.description, deployed.description);
        // Written and read, a time may differ in its last digit.
        let later_s = still.at_s - deployed.at_s;
        assert!(later_s.abs() < 1e-3, "a restart is none: {later_s}");
    }

    #[test]
    fn whoever_starts_it_as_another_version_wins() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path(), "0.1.0").plan("0.1.1").unwrap();
        start(dir.path(), "0.1.0");
        let newer = start(dir.path(), "0.2.0");
        assert_eq!(newer.version(), "0.2.0");
        assert_eq!(newer.deployed().unwrap().description, "0.1.1 to 0.2.0");
    }

    #[test]
    fn what_cannot_be_a_version_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["", "a b", "1\n", &"1".repeat(VERSION_MAX + 1)] {
            let error = Release::open(dir.path(), wrong).unwrap_err();
            assert!(error.contains("--service-version"), "{error}");
            let problem = valid(wrong).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("service_version"));
        }
        std::fs::write(dir.path().join("release.json"), "{").unwrap();
        let error = Release::open(dir.path(), "1").unwrap_err();
        assert!(error.contains("release.json cannot be read"), "{error}");
    }
}
