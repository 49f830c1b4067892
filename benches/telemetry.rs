//! What the instruments cost by themselves: a scrape, a choice, a sample.
//!
//! ```text
//! cargo bench --bench telemetry
//! ```
//!
//! Printed are the best of several rounds, on one thread; nothing is asserted. The scrape is one of 2 000 sample
//! lines, asked for young and after ten million further samples that nobody scraped: it should cost the same, and
//! the process should hold the same memory.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use firedrill::choices::retries;
use firedrill::telemetry::{self, Format, Telemetry, catalog};

const ROUNDS: u32 = 7;

fn main() {
    let config = telemetry::Config {
        role: "bench",
        service_version: "0".into(),
        log_filter: "off".into(),
        log_export: false,
        traces: None,
    };
    let telemetry = telemetry::init(&config).expect("it is the first");
    println!("| what | cost |\n|---|---|");
    choice();
    samples();
    scrape(&telemetry);
}

/// The shortest time that `work` took, for one of `times`.
fn best(times: u32, mut work: impl FnMut()) -> Duration {
    let one = || {
        let began = Instant::now();
        for _ in 0..times {
            work();
        }
        began.elapsed() / times
    };
    std::iter::repeat_with(one)
        .take(ROUNDS as usize)
        .min()
        .expect("there are rounds")
}

fn row(what: &str, cost: Duration) {
    println!("| {what} | {cost:?} |");
}

fn choice() {
    // A million in a row, so that a fraction of a nanosecond shows.
    let million = best(20, || {
        for _ in 0..1_000_000 {
            black_box(retries::CHOICE.option());
        }
    });
    println!(
        "| reading a choice | {:.2} ns |",
        million.as_secs_f64() * 1e3
    );
}

fn samples() {
    let histogram = catalog::firedrill_queue_wait_seconds("bench");
    row(
        "a sample of a histogram",
        best(1_000_000, || histogram.record(black_box(0.003))),
    );
    let counter = catalog::firedrill_panics_total();
    row(
        "an increment of a counter",
        best(1_000_000, || counter.increment(black_box(1))),
    );
}

fn lines(telemetry: &Telemetry) -> usize {
    let text = telemetry.render(Format::Prometheus);
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

fn scrape(telemetry: &Telemetry) {
    // As many series as it takes, most of them in histograms, as in a role.
    let mut histograms = Vec::new();
    for number in 0.. {
        if lines(telemetry) >= 2_000 {
            break;
        }
        histograms.push(catalog::firedrill_queue_wait_seconds(number.to_string()));
        catalog::firedrill_queue_depth(number.to_string()).set(1.0);
    }
    let count = lines(telemetry);
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let cost = best(20, || drop(black_box(telemetry.render(format))));
        row(&format!("a scrape of {count} lines, {format:?}"), cost);
    }
    let before = resident_kib();
    for number in 0..10_000_000_u32 {
        let histogram = &histograms[number as usize % histograms.len()];
        histogram.record(f64::from(number % 1000) / 1e3);
    }
    let after = resident_kib();
    let cost = best(20, || drop(black_box(telemetry.render(Format::Prometheus))));
    row("the same after 10 000 000 samples", cost);
    println!(
        "| memory that these took | {} KiB |",
        after.saturating_sub(before)
    );
}
