//! Keeps the choices of a role on disk, with their expiry, and applies them.
//!
//! Without the file a restart would put every choice back to sound, and "restart it" would look like a cure.
//! What is asked is written and synced first and applied second: after a crash between the two, the next
//! start applies it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{CHOICES, Choice, ChoiceOption, find};

/// What one choice is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    option: ChoiceOption,
    /// When it goes back to sound, in seconds since the epoch; never, if absent.
    expires_unix_s: Option<u64>,
}

/// A choice and what it is set to, as the control plane shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The choice.
    pub name: String,
    /// The option in force.
    pub option: ChoiceOption,
    /// The poor option, in half a sentence.
    pub poor: String,
    /// The sound option, in half a sentence.
    pub sound: String,
    /// Seconds until it goes back to sound; never, if absent.
    pub expires_in_s: Option<u64>,
}

/// The choices of one role.
#[derive(Debug)]
pub struct Book {
    role: &'static str,
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Book {
    /// Reads the choices of `role` from `dir` and applies those that have not expired.
    pub fn open(role: &'static str, dir: &Path) -> Result<Self, String> {
        let path = dir.join("choices.json");
        let entries = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                format!(
                    "{} cannot be read: {error}; mend or delete it",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let book = Self {
            role,
            path,
            entries: Mutex::new(entries),
        };
        book.expire();
        for (name, entry) in book.lock().iter() {
            if let Some(choice) = book.choice(name) {
                choice.apply(entry.option);
            }
        }
        Ok(book)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The choice `name`, if it is part of this role.
    #[must_use]
    pub fn choice(&self, name: &str) -> Option<&'static Choice> {
        find(name).filter(|choice| choice.roles.contains(&self.role))
    }

    /// The choices of this role.
    pub fn choices(&self) -> impl Iterator<Item = &'static Choice> {
        CHOICES
            .iter()
            .copied()
            .filter(|choice| choice.roles.contains(&self.role))
    }

    /// Sets a choice, for good or for `ttl`: first on disk, then in force.
    pub fn set(
        &self,
        choice: &'static Choice,
        option: ChoiceOption,
        ttl: Option<Duration>,
    ) -> std::io::Result<()> {
        let mut entries = self.lock();
        let expires_unix_s = ttl.map(|ttl| now_unix_s() + ttl.as_secs());
        entries.insert(
            choice.name.into(),
            Entry {
                option,
                expires_unix_s,
            },
        );
        self.write(&entries)?;
        choice.apply(option);
        Ok(())
    }

    /// Puts what has expired back to sound; call it every second.
    pub fn expire(&self) {
        let mut entries = self.lock();
        let now = now_unix_s();
        let expired: Vec<String> = entries
            .iter()
            .filter(|(_, entry)| entry.expires_unix_s.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        if expired.is_empty() {
            return;
        }
        for name in &expired {
            entries.remove(name);
            if let Some(choice) = self.choice(name) {
                choice.apply(ChoiceOption::Sound);
            }
        }
        if let Err(error) = self.write(&entries) {
            tracing::error!(target: "control", error = %error, "The choices could not be written.");
        }
    }

    /// What every choice of this role is set to.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let entries = self.lock();
        let now = now_unix_s();
        self.choices()
            .map(|choice| Status {
                name: choice.name.into(),
                option: choice.option(),
                poor: choice.poor.into(),
                sound: choice.sound.into(),
                expires_in_s: entries
                    .get(choice.name)
                    .and_then(|entry| entry.expires_unix_s)
                    .map(|at| at.saturating_sub(now)),
            })
            .collect()
    }

    /// Writes a new file beside the old one and renames it, so that a crash leaves one of the two whole.
    fn write(&self, entries: &BTreeMap<String, Entry>) -> std::io::Result<()> {
        let beside = self.path.with_extension("json.new");
        let mut file = File::create(&beside)?;
        file.write_all(serde_json::to_string_pretty(entries)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

fn now_unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
