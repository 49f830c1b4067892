//! What a lab of 3 000 series, scraped each second, costs: appending, memory, and typical queries.
//!
//! ```sh
//! cargo bench -p promql            # 15 minutes of data
//! cargo bench -p promql -- 60      # an hour
//! ```
//!
//! It prints what it measured and asserts nothing. Times are those that this thread spent on a processor, so that
//! other work on the machine hardly counts.

#![expect(clippy::print_stdout, reason = "this is a command")]
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use promql::{Engine, Labels, Limits, Query, Sample, SeriesRef, Store};

/// The time of the first scrape.
const START: i64 = 1_700_000_000_000;

const QUERIES: &[(&str, &str)] = &[
    (
        "sum by route of rate",
        "sum by (http_route) (rate(http_server_request_duration_seconds_count[1m]))",
    ),
    (
        "p99 by route",
        "histogram_quantile(0.99, sum by (http_route, le) (rate(http_server_request_duration_seconds_bucket[1m])))",
    ),
    (
        "burn rate 5m and 1m",
        r#"sum by (http_route) (rate(http_server_request_duration_seconds_count{code=~"5.."}[5m]))
             / sum by (http_route) (rate(http_server_request_duration_seconds_count[5m])) > 0.001
           and
           sum by (http_route) (rate(http_server_request_duration_seconds_count{code=~"5.."}[1m]))
             / sum by (http_route) (rate(http_server_request_duration_seconds_count[1m])) > 0.001"#,
    ),
    (
        "slow share 15m, all buckets",
        r#"1 - sum(rate(http_server_request_duration_seconds_bucket{le="0.5"}[15m])) / sum(rate(http_server_request_duration_seconds_bucket{le="+Inf"}[15m]))"#,
    ),
    (
        "max of subquery",
        "max_over_time(sum(rate(http_server_request_duration_seconds_count[1m]))[5m:10s])",
    ),
    ("topk of gauges", "topk(5, queue_depth)"),
    (
        "regex",
        r#"count({__name__=~"queue.*", queue=~"queue-1.*"})"#,
    ),
    ("group_left", "queue_depth / on (instance) group_left up"),
];

fn main() {
    let minutes = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let minutes: u32 = minutes.unwrap_or(15);
    let before = resident_bytes();
    let (store, scrape) = fill(minutes * 60);
    println!("appending a scrape: {:.3} ms", ms(scrape));
    let stats = store.stats();
    println!(
        "{} series, {} samples, {} bytes accounted = {:.2} bytes a sample; resident memory grew by {} bytes",
        stats.series,
        stats.samples,
        stats.bytes,
        stats.bytes as f64 / stats.samples as f64,
        resident_bytes().saturating_sub(before),
    );
    let engine = Engine::default();
    let end = START + i64::from(minutes) * 60_000;
    println!(
        "{:30} {:>12} {:>26}",
        "query", "instant", "range 15 min, step 5 s"
    );
    for (name, text) in QUERIES {
        let query = Query::parse(text).unwrap();
        let instant = mean(200, || {
            black_box(engine.instant(&store, &query, end).unwrap());
        });
        let range = mean(20, || {
            let start = end - 15 * 60_000;
            black_box(engine.range(&store, &query, start, end, 5_000).unwrap());
        });
        println!("{name:30} {:>9.2} ms {:>23.1} ms", ms(instant), ms(range));
    }
}

/// A series and how it moves: what a second adds to a counter at most, or `None` for a gauge.
struct Source {
    series: SeriesRef,
    growth: Option<u32>,
    value: f64,
}

/// Appends a scrape for each second, and measures the mean time of one.
fn fill(seconds: u32) -> (Store, Duration) {
    let mut store = Store::new(Limits {
        max_series: 10_000,
        max_bytes: 1 << 30,
    });
    let mut sources = register(&mut store);
    let mut random = fastrand::Rng::with_seed(7);
    let mut spent = Duration::ZERO;
    for second in 0..seconds {
        for source in &mut sources {
            match source.growth {
                Some(most) => source.value += f64::from(random.u32(0..=most)),
                None => source.value = f64::from(random.u32(0..100)),
            }
        }
        let time = START + i64::from(second) * 1_000 + random.i64(0..3);
        spent += measured(|| {
            for source in &sources {
                let sample = Sample::new(time, source.value);
                store.append(source.series, sample).unwrap();
            }
        });
    }
    (store, spent / seconds)
}

fn register(store: &mut Store) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut add = |pairs: &[(&str, &str)], growth| {
        let own = [("job", "shop"), ("instance", "127.0.0.1:9100")];
        let labels = Labels::new(pairs.iter().chain(&own).copied());
        let series = store
            .register(&labels, Duration::from_secs(75 * 60))
            .unwrap();
        sources.push(Source {
            series,
            growth,
            value: 0.0,
        });
    };
    for route in 0..25 {
        for code in ["200", "400", "404", "500"] {
            let route = format!("/orders/{{id}}/{route}");
            let labels = |name| vec![("__name__", name), ("http_route", &*route), ("code", code)];
            for le in 0..22 {
                let bound = if le == 21 {
                    "+Inf".into()
                } else {
                    (0.001 * 1.5_f64.powi(le)).to_string()
                };
                let mut bucket = labels("http_server_request_duration_seconds_bucket");
                bucket.push(("le", if le == 15 { "0.5" } else { &bound }));
                add(&bucket, Some(u32::try_from(le).unwrap()));
            }
            add(
                &labels("http_server_request_duration_seconds_count"),
                Some(20),
            );
            add(
                &labels("http_server_request_duration_seconds_sum"),
                Some(10),
            );
        }
    }
    for queue in 0..599 {
        let queue = format!("queue-{queue}");
        add(&[("__name__", "queue_depth"), ("queue", &queue)], None);
    }
    add(&[("__name__", "up")], None);
    sources
}

/// The mean time of a run. A single one may be shorter than what the clock of the processor resolves.
fn mean(runs: u32, mut run: impl FnMut()) -> Duration {
    measured(|| (0..runs).for_each(|_| run())) / runs
}

fn measured(run: impl FnOnce()) -> Duration {
    let (started, on_processor) = (Instant::now(), processor_time());
    run();
    match (on_processor, processor_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => started.elapsed(),
    }
}

/// How long this thread was on a processor, where Linux tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The memory of this process, where Linux tells.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1_024
}
