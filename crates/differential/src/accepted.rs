//! Differences that are known and why they are.

use std::collections::HashSet;

/// The expressions whose answers may differ.
#[derive(Debug, Default)]
pub(crate) struct Accepted(HashSet<String>);

impl Accepted {
    /// Reads a list: an expression a line, each below at least one line of comment that tells the reason.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut accepted = HashSet::new();
        let mut reason = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() {
                reason = false;
            } else if line.starts_with('#') {
                reason = true;
            } else if reason {
                accepted.insert(line.to_owned());
            } else {
                return Err(format!(
                    "line {number}: an accepted difference without a reason above it"
                ));
            }
        }
        Ok(Self(accepted))
    }

    pub(crate) fn contains(&self, question: &str) -> bool {
        self.0.contains(question)
    }

    /// What is accepted but was not asked: a line that has outlived its reason.
    pub(crate) fn not_among(&self, questions: &HashSet<String>) -> Vec<String> {
        let mut unknown: Vec<String> = self.0.difference(questions).cloned().collect();
        unknown.sort();
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_needs_a_reason() {
        let accepted = Accepted::parse("# both are right\na\nb\n\n# another\nc").unwrap();
        assert!(accepted.contains("b") && !accepted.contains("d"));
        assert_eq!(
            accepted.not_among(&HashSet::from(["a".into(), "b".into()])),
            ["c"]
        );
        assert!(Accepted::parse("# reason\n\na").is_err());
    }
}
