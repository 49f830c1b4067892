//! What a target says of its metrics, within bounds.
//!
//! A target may write new names into its comments with every scrape. So there is a most of what is kept, and only
//! what the last good scrape said is.

use std::collections::HashMap;

use crate::judge::text;

/// The most metrics of one target that are described, and the longest name or text, in bytes. A lab's largest
/// target has some 150, with texts of some 100 bytes.
const METRICS_MAX: usize = 2_000;
const TEXT_BYTES_MAX: usize = 1_024;

/// What a target says of a metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metadata {
    /// Its type; empty if it was not told.
    pub kind: String,
    /// Its help text.
    pub help: String,
}

/// The type and the help text of one metric, as they stand in the scrape.
#[derive(Debug, Clone, Copy, Default)]
struct Words<'a> {
    kind: &'a str,
    help: &'a str,
}

/// What the scrape that is being read says.
#[derive(Debug, Default)]
pub(super) struct Told<'a>(HashMap<&'a str, Words<'a>>);

impl<'a> Told<'a> {
    pub(super) fn kind(&mut self, name: &'a str, kind: &'a str) {
        let kind = if kind == "untyped" { "unknown" } else { kind };
        if let Some(words) = self.words(name, kind) {
            words.kind = kind;
        }
    }

    pub(super) fn help(&mut self, name: &'a str, help: &'a str) {
        if let Some(words) = self.words(name, help) {
            words.help = help;
        }
    }

    /// Where it is noted; nowhere, if it is too long or one too many.
    fn words(&mut self, name: &'a str, text: &str) -> Option<&mut Words<'a>> {
        let fits = name.len().max(text.len()) <= TEXT_BYTES_MAX;
        let room = self.0.len() < METRICS_MAX || self.0.contains_key(name);
        (fits && room).then(|| self.0.entry(name).or_default())
    }
}

/// What the last good scrape said, by the names of the metrics. The help texts still have their escapes.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Box<str>, Metadata>);

impl Known {
    /// Puts what was told now in the place of what was told before. Mostly it is the same, and nothing is copied.
    pub(super) fn replace(&mut self, told: &Told<'_>) {
        self.0.retain(|name, _| told.0.contains_key(&**name));
        for (name, words) in &told.0 {
            match self.0.get_mut(*name) {
                Some(known) if known.kind == words.kind && known.help == words.help => {}
                _ => {
                    let known = Metadata {
                        kind: words.kind.to_owned(),
                        help: words.help.to_owned(),
                    };
                    self.0.insert((*name).into(), known);
                }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Metadata)> {
        self.0.iter().map(|(name, known)| {
            let told = Metadata {
                kind: known.kind.clone(),
                help: text::help(&known.help),
            };
            (&**name, told)
        })
    }
}
