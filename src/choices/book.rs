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
    /// When it goes back to sound, in milliseconds since the epoch; never, if absent.
    expires_unix_ms: Option<u64>,
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
    /// Held by whoever changes the file, so that readers need not wait for the disk.
    writing: Mutex<()>,
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
            writing: Mutex::new(()),
        };
        book.expire();
        for (name, entry) in book.entries().iter() {
            if let Some(choice) = book.choice(name) {
                choice.apply(entry.option);
            }
        }
        Ok(book)
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
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

    /// Sets a choice, for good or for `ttl`: first on disk, then in force. What could not be written has changed
    /// nothing. Says whether another option was in force before. Blocks for as long as the disk does.
    pub fn set(
        &self,
        choice: &'static Choice,
        option: ChoiceOption,
        ttl: Option<Duration>,
    ) -> std::io::Result<bool> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let expires_unix_ms = ttl.map(|ttl| now_unix_ms() + millis(ttl));
        let mut next = self.entries().clone();
        let entry = Entry {
            option,
            expires_unix_ms,
        };
        next.insert(choice.name.into(), entry);
        replace(&self.path, &next)?;
        *self.entries() = next;
        let before = choice.option();
        choice.apply(option);
        Ok(before != option)
    }

    /// Puts what has expired back to sound; call it every second. Says for how many choices another option was in force
    /// before. Blocks like [`Book::set`], if there is any.
    pub fn expire(&self) -> usize {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_unix_ms();
        let is_over = |entry: &Entry| entry.expires_unix_ms.is_some_and(|at| at <= now);
        let mut next = self.entries().clone();
        let expired: Vec<String> = next
            .extract_if(.., |_, entry| is_over(entry))
            .map(|(name, _)| name)
            .collect();
        if expired.is_empty() {
            return 0;
        }
        // Over is over: what cannot be written is expired again at the next start.
        if let Err(error) = replace(&self.path, &next) {
            tracing::error!(target: "control", error = %error, "The choices could not be written.");
        }
        *self.entries() = next;
        let expired = expired.iter().filter_map(|name| self.choice(name));
        expired
            .filter(|choice| {
                let before = choice.option();
                choice.apply(ChoiceOption::Sound);
                before != ChoiceOption::Sound
            })
            .count()
    }

    /// What every choice of this role is set to.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let entries = self.entries();
        let now = now_unix_ms();
        self.choices()
            .map(|choice| Status {
                name: choice.name.into(),
                option: choice.option(),
                poor: choice.poor.into(),
                sound: choice.sound.into(),
                expires_in_s: entries
                    .get(choice.name)
                    .and_then(|entry| entry.expires_unix_ms)
                    .map(|at| at.saturating_sub(now) / 1000),
            })
            .collect()
    }
}

/// Writes a new JSON file beside the old one and renames it, so that a crash leaves one of the two whole.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(serde_json::to_string_pretty(value)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn now_unix_ms() -> u64 {
    millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::retries;

    #[test]
    fn a_choice_that_could_not_be_written_has_changed_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let book = Book::open("shop", &gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        book.set(&retries::CHOICE, ChoiceOption::Poor, None)
            .unwrap_err();
        fs::create_dir(&gone).unwrap();
        book.set(&retries::CHOICE, ChoiceOption::Sound, None)
            .unwrap();
        let written = fs::read_to_string(gone.join("choices.json")).unwrap();
        assert!(!written.contains("poor"), "{written}");
    }
}
