//! Who runs where: kept here for the status, and in `DIR/lab.json` for everyone else.
//!
//! The console, the drills and `firedrill choices` find the lab by that file, so it is written at each change
//! and is gone when the lab is. A file that named a process long dead would send them to whoever has its port now.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::output::{Level, Output};
use super::plan::Spec;
use crate::control::lab::{Lab, Member};

/// The lab as it is now.
#[derive(Debug)]
pub(super) struct Board {
    dir: PathBuf,
    lab: Mutex<Lab>,
}

impl Board {
    /// An empty lab; takes the place of what an earlier one may have left behind.
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let lab = Lab {
            pid: std::process::id(),
            members: Vec::new(),
        };
        lab.write(dir).map_err(|error| {
            format!(
                "{} cannot be written: {error}",
                dir.join(Lab::FILE).display()
            )
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            lab: Mutex::new(lab),
        })
    }

    /// The process of `spec` is ready, for the first time or again.
    pub(super) fn up(&self, spec: &Spec, pid: u32, output: &Output) {
        self.change(output, |lab| {
            let known = lab
                .members
                .iter_mut()
                .find(|member| member.name == spec.name);
            if let Some(member) = known {
                member.pid = pid;
                member.restarts += 1;
            } else {
                lab.members.push(Member {
                    name: spec.name.clone(),
                    role: spec.role.to_owned(),
                    pid,
                    data: spec.data,
                    control: spec.control,
                    restarts: 0,
                });
            }
        });
    }

    /// The process called `name` has ended.
    pub(super) fn down(&self, name: &str, output: &Output) {
        self.change(output, |lab| {
            for member in lab.members.iter_mut().filter(|member| member.name == name) {
                member.pid = 0;
            }
        });
    }

    fn change(&self, output: &Output, change: impl FnOnce(&mut Lab)) {
        let mut lab = self.lab.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lab);
        if let Err(error) = lab.write(&self.dir) {
            // The lab runs on; only those who look for it are misled.
            let message = "The lab file cannot be written.";
            output.event(
                Level::Error,
                message,
                &json!({ "error": error.to_string() }),
            );
        }
    }

    /// The lab as it is now.
    pub(super) fn lab(&self) -> Lab {
        self.lab
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Removes the file.
    pub(super) fn close(&self) {
        // An error means that it is gone already, or that its directory is.
        drop(std::fs::remove_file(self.dir.join(Lab::FILE)));
    }
}
