//! What a drill tells while it runs: it lasts minutes, and a silent minute looks like a hang.

use std::io::Write;

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The leg and what happens in it.
    pub phase: String,
    /// Seconds left of it; where the lab is waited for, the most that it may still take.
    pub left_s: f64,
    /// How much of the whole run is done, about: 0 to 1.
    pub done: f64,
    /// What users of the drill's journey ask for, a second, and how much of it goes well.
    pub users: Option<(f64, f64)>,
}

/// Writes progress to a terminal as one line that changes, elsewhere as one line a phase.
#[derive(Debug)]
pub struct Meter<W> {
    out: W,
    /// How wide its line is; none where there is no terminal.
    width: Option<usize>,
    phase: String,
}

/// The cells of the bar.
const CELLS: usize = 16;

impl<W: Write> Meter<W> {
    /// Writes to `out`, which is a terminal with so many columns, or none.
    pub fn new(out: W, columns: Option<usize>) -> Self {
        Self {
            out,
            // One less, or some terminals wrap.
            width: columns.map(|columns| columns.saturating_sub(1)),
            phase: String::new(),
        }
    }

    /// Shows how far the run is. Nobody is left to tell when the output is gone, so a failure is no error.
    pub fn show(&mut self, progress: &Progress) {
        if let Some(width) = self.width {
            let line = line(progress);
            drop(write!(self.out, "\r{line:<width$.width$}"));
            drop(self.out.flush());
        } else if self.phase != progress.phase {
            let left_s = progress.left_s;
            drop(writeln!(
                self.out,
                "{}: up to {left_s:.0} s",
                progress.phase
            ));
        }
        self.phase.clone_from(&progress.phase);
    }

    /// Clears the line that changes.
    pub fn finish(&mut self) {
        if let Some(width) = self.width.filter(|_| !self.phase.is_empty()) {
            drop(write!(self.out, "\r{:width$}\r", ""));
            drop(self.out.flush());
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a few cells"
)]
fn line(progress: &Progress) -> String {
    let full = (progress.done.clamp(0.0, 1.0) * CELLS as f64) as usize;
    let bar = "#".repeat(full) + &".".repeat(CELLS - full);
    let left_s = progress.left_s.max(0.0);
    let users = progress.users.map_or_else(String::new, |(offered, good)| {
        format!("  {offered:.0}/s asked, {good:.0}/s good")
    });
    let phase = &progress.phase;
    format!("[{bar}] {phase:<22.22} {left_s:>3.0} s{users}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(columns: Option<usize>) -> String {
        let mut out = Vec::new();
        let mut meter = Meter::new(&mut out, columns);
        for (phase, left_s) in [
            ("poor: steady", 90.0),
            ("poor: steady", 89.0),
            ("poor: shock", 4.0),
        ] {
            meter.show(&Progress {
                phase: phase.into(),
                left_s,
                done: 0.5,
                users: Some((150.0, 20.0)),
            });
        }
        meter.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_one_line_that_changes() {
        let text = shown(Some(80));
        assert!(!text.contains('\n'));
        let line = "[########........] poor: shock              4 s  150/s asked, 20/s good";
        assert!(text.contains(line), "{text:?}");
        for columns in [80, 60, 5] {
            let text = shown(Some(columns));
            assert!(text.split('\r').all(|line| line.len() < columns));
        }
    }

    #[test]
    fn a_file_gets_a_line_a_phase() {
        assert_eq!(
            shown(None),
            "poor: steady: up to 90 s\npoor: shock: up to 4 s\n"
        );
    }
}
