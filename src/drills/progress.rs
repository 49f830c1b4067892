//! What a drill tells while it runs: it lasts minutes, and a silent minute looks like a hang.

use std::io::Write;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The phase.
    pub phase: &'static str,
    /// Seconds left of the phase; of the warm-up, the most that it may still take.
    pub left_s: f64,
    /// Orders that users meant to place in the last second that is known.
    pub offered_per_s: Option<f64>,
    /// Those that went well.
    pub good_per_s: Option<f64>,
}

/// Writes progress to a terminal as one line that changes, elsewhere as one line a phase.
#[derive(Debug)]
pub struct Meter<W> {
    out: W,
    terminal: bool,
    phase: &'static str,
}

/// One column less than a terminal has, or some of them wrap.
const WIDTH: usize = 79;

impl<W: Write> Meter<W> {
    /// Writes to `out`, which is a terminal or not.
    pub fn new(out: W, terminal: bool) -> Self {
        Self {
            out,
            terminal,
            phase: "",
        }
    }

    /// Shows how far the run is. Nobody is left to tell when the output is gone, so a failure is no error.
    pub fn show(&mut self, progress: &Progress) {
        if self.terminal {
            let line = line(progress);
            drop(write!(self.out, "\r{line:<WIDTH$.WIDTH$}"));
            drop(self.out.flush());
        } else if self.phase != progress.phase {
            drop(writeln!(
                self.out,
                "{}: up to {:.0} s",
                progress.phase, progress.left_s
            ));
        }
        self.phase = progress.phase;
    }

    /// Clears the line that changes.
    pub fn finish(&mut self) {
        if self.terminal && !self.phase.is_empty() {
            drop(write!(self.out, "\r{:WIDTH$}\r", ""));
            drop(self.out.flush());
        }
    }
}

fn line(progress: &Progress) -> String {
    let left_s = progress.left_s.max(0.0);
    let orders = match (progress.offered_per_s, progress.good_per_s) {
        (Some(offered), Some(good)) => {
            format!("   orders: {offered:.0}/s offered, {good:.0}/s good")
        }
        _ => String::new(),
    };
    // How long the warm-up takes depends on the machine; the number is its limit.
    let most = if progress.phase == "warm-up" {
        "at most "
    } else {
        ""
    };
    format!("{:<16} {most}{left_s:>4.0} s left{orders}", progress.phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool) -> String {
        let mut out = Vec::new();
        let mut meter = Meter::new(&mut out, terminal);
        for (phase, left_s) in [("warm-up", 90.0), ("warm-up", 89.0), ("shock", 4.0)] {
            meter.show(&Progress {
                phase,
                left_s,
                offered_per_s: Some(150.0),
                good_per_s: Some(20.0),
            });
        }
        meter.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_one_line_that_changes() {
        let text = shown(true);
        assert!(!text.contains('\n'));
        assert!(text.contains("shock               4 s left   orders: 150/s offered, 20/s good"));
        assert!(text.split('\r').all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn a_file_gets_a_line_a_phase() {
        assert_eq!(shown(false), "warm-up: up to 90 s\nshock: up to 4 s\n");
    }
}
