//! Runs test scripts in Prometheus' `promqltest` format against this engine.
//!
//! ```sh
//! cargo run -p promql --example promqltest -- FILE…
//! ```
//!
//! For each file it prints how many evaluations passed, failed, were not supported by the engine, or were left out
//! because they need native histograms; then each failure. It exits with 1 if anything failed.

mod runner;

use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "this is a command")]
#[expect(clippy::print_stderr, reason = "this is a command")]
fn main() -> ExitCode {
    let mut failed = false;
    for file in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        match runner::run(&text) {
            Ok(report) => {
                println!("{file}: {report}");
                for problem in &report.problems {
                    println!("  {problem}");
                }
                failed |= report.failed > 0;
            }
            Err(error) => {
                eprintln!("{file}: {error}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
