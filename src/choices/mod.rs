//! The design decisions that can go wrong: one file a lesson, one row a choice.
//!
//! A choice is deployed code with two options side by side, the poor and the sound one. Reading it on the
//! request path costs one relaxed atomic load. A role keeps its choices on disk before it applies them and
//! reads them at start, so that a restart cures nothing that it would not cure in life.
//!
//! To add one: a file with a `CHOICE` and both options, and its row in [`CHOICES`].

pub mod admission;
pub mod book;
pub mod cache_fill;
pub mod charge_timeout;
pub mod connection_scope;
pub mod label_policy;
pub mod order_listing;
pub mod password_hashing;
pub mod retries;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

pub use book::Book;

/// Every choice, simplest lesson first.
pub static CHOICES: &[&Choice] = &[
    &charge_timeout::CHOICE,
    &retries::CHOICE,
    &admission::CHOICE,
    &password_hashing::CHOICE,
    &connection_scope::CHOICE,
    &cache_fill::CHOICE,
    &label_policy::CHOICE,
    &order_listing::CHOICE,
];

/// The two options of every choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChoiceOption {
    /// Works in a demonstration, fails in life.
    Poor,
    /// What the lesson recommends; the default.
    Sound,
}

impl ChoiceOption {
    /// `poor` or `sound`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poor => "poor",
            Self::Sound => "sound",
        }
    }
}

impl std::str::FromStr for ChoiceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "poor" => Ok(Self::Poor),
            "sound" => Ok(Self::Sound),
            _ => Err(format!("{text:?} is no option; allowed: poor, sound")),
        }
    }
}

/// One design decision.
#[derive(Debug)]
pub struct Choice {
    /// Its name, as the control plane and the files know it.
    pub name: &'static str,
    /// The roles whose code it is part of.
    pub roles: &'static [&'static str],
    /// The poor option, in half a sentence.
    pub poor: &'static str,
    /// The sound option, in half a sentence.
    pub sound: &'static str,
    /// Called after the option changed: for a choice that is no branch on the request path.
    pub on_switch: fn(ChoiceOption),
    source: &'static str,
    is_poor: AtomicBool,
}

impl Choice {
    const fn new(
        name: &'static str,
        roles: &'static [&'static str],
        poor: &'static str,
        sound: &'static str,
        source: &'static str,
    ) -> Self {
        Self {
            name,
            roles,
            poor,
            sound,
            on_switch: |_| {},
            source,
            is_poor: AtomicBool::new(false),
        }
    }

    /// The option that is in force.
    #[must_use]
    pub fn option(&self) -> ChoiceOption {
        if self.is_poor.load(Ordering::Relaxed) {
            ChoiceOption::Poor
        } else {
            ChoiceOption::Sound
        }
    }

    fn apply(&self, option: ChoiceOption) {
        self.is_poor
            .store(option == ChoiceOption::Poor, Ordering::Relaxed);
        (self.on_switch)(option);
    }

    /// The lesson: the module's documentation, as text.
    #[must_use]
    pub fn lesson(&self) -> String {
        let lines = self
            .source
            .lines()
            .map_while(|line| line.strip_prefix("//!"));
        lines
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The choice with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Choice> {
    CHOICES.iter().find(|choice| choice.name == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_teaches() {
        for choice in CHOICES {
            let lesson = choice.lesson();
            for part in [
                "# The problem",
                "# What breaks",
                "# Under load",
                "# The cure",
                "# Who was bitten",
            ] {
                assert!(
                    lesson.contains(part),
                    "{}: the lesson lacks {part:?}",
                    choice.name
                );
            }
            assert_eq!(
                choice.option(),
                ChoiceOption::Sound,
                "{}: sound is the default",
                choice.name
            );
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> =
            CHOICES.iter().map(|choice| choice.name).collect();
        assert_eq!(names.len(), CHOICES.len());
    }
}
