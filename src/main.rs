//! The binary: reads the command line, runs the command, and says how it ended.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match firedrill::cli::run() {
        Ok(code) => ExitCode::from(code),
        Err(sentence) => {
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(std::io::stderr().lock(), "firedrill: {sentence}"));
            ExitCode::from(2)
        }
    }
}
