//! What the heaviest questions cost a real Prometheus and the promql crate, on the same samples, in turn.
//!
//! A recording of a minute is too short to be heavy, and waiting for hours would be no use: the recording is repeated
//! behind itself, counters going on from where they were, until it is as long as wanted. A second Prometheus, which
//! scrapes nothing, gets it by remote write, and a store of ours as it is.

mod repeat;

use std::time::{Duration, Instant};

use promql::{Engine, Query, Store};

use crate::expressions::{Group, Question};
use crate::peer::{Prometheus, Range, seconds};
use crate::process;
use crate::report::say;

/// How often each question is asked, the two sides in turn.
const RUNS: usize = 31;

/// The range and the step of the range queries: a dashboard of a quarter of an hour.
const RANGE_MS: i64 = 15 * 60_000;
const STEP_MS: i64 = 5_000;

/// The same for what was scraped in the last minute.
const LIVE_RANGE_MS: i64 = 60_000;
const LIVE_STEP_MS: i64 = 1_000;

/// A process that answers `/api/v1`.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: String,
    pid: u32,
}

impl Server {
    /// From `URL,PID`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once(',')
            .and_then(|(url, pid)| Some((url, pid.parse().ok()?)));
        let (url, pid) = parts.ok_or_else(|| format!("{text:?} is not URL,PID"))?;
        let url = url.to_owned();
        Ok(Self { url, pid })
    }

    pub(crate) fn cpu(&self) -> Duration {
        process::cpu(self.pid)
    }
}

/// Prints what scraping and evaluating the rules took both, while so many samples came to be.
pub(crate) fn scraping(theirs: Duration, ours: Duration, wall: Duration, samples: usize) {
    let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / wall.as_secs_f64();
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / samples as f64;
    say(&format!(
        "Scraping the lab and evaluating the rules for {:.0} s, {samples} samples: Prometheus {:.1} % of a core \
         ({:.2} µs a sample), the console with all else that it does {:.1} % ({:.2} µs).",
        wall.as_secs_f64(),
        share(theirs),
        each(theirs),
        share(ours),
        each(ours),
    ));
}

/// The heaviest questions over HTTP, to both processes that scrape the lab. Each holds what it has scraped itself.
pub(crate) fn over_http(
    scraper: &Server,
    console: &Server,
    end: i64,
    groups: &[Group],
) -> Result<(), String> {
    let (theirs, ours) = (Asked::http(scraper)?, Asked::http(console)?);
    let range = Range {
        start: end - LIVE_RANGE_MS,
        end,
        step: LIVE_STEP_MS,
    };
    heading("Both over HTTP, a minute by a second, of what each has scraped.");
    for (name, text) in heaviest_of_each(&theirs, range, groups)? {
        measure(
            &format!("{name}, instant"),
            &text,
            None,
            end,
            (&theirs, &ours),
        )?;
        measure(
            &format!("{name}, range"),
            &text,
            Some(range),
            end,
            (&theirs, &ours),
        )?;
    }
    Ok(())
}

/// Fills both and asks both.
pub(crate) fn run(
    recorded: &Store,
    bounds: (i64, i64),
    minutes: i64,
    rival: &Server,
    groups: &[Group],
) -> Result<(), String> {
    let peer = Prometheus::new(&rival.url)?;
    let series = repeat::repeated(recorded, bounds, minutes * 60_000);
    let end = bounds.1;
    let resident = || process::resident_bytes(std::process::id());
    let before = (resident(), process::resident_bytes(rival.pid));
    let store = repeat::fill(&series)?;
    let ours = resident().saturating_sub(before.0);
    let cpu = rival.cpu();
    repeat::send(&peer, &series)?;
    let writing = rival.cpu().saturating_sub(cpu);
    let theirs = process::resident_bytes(rival.pid).saturating_sub(before.1);
    sizes(&store, minutes, ours, theirs, writing);
    drop(series);

    let engine = Engine::default();
    let theirs = Asked::Http {
        peer,
        pid: rival.pid,
    };
    let ours = Asked::InProcess {
        store: &store,
        engine: &engine,
    };
    let range = Range {
        start: end - RANGE_MS,
        end,
        step: STEP_MS,
    };
    heading(
        "Theirs over HTTP, ours in process with the same JSON made; a quarter of an hour by 5 s.",
    );
    for (name, text) in heaviest_of_each(&theirs, range, groups)? {
        measure(
            &format!("{name}, instant"),
            &text,
            None,
            end,
            (&theirs, &ours),
        )?;
        measure(
            &format!("{name}, range"),
            &text,
            Some(range),
            end,
            (&theirs, &ours),
        )?;
    }
    Ok(())
}

fn sizes(store: &Store, minutes: i64, ours: u64, theirs: u64, writing: Duration) {
    let stats = store.stats();
    let samples = stats.samples.max(1) as f64;
    let series_hours = stats.series as f64 * minutes as f64 / 60.0;
    say(&format!(
        "{} series, {} samples, {minutes} minutes. Ours: {:.2} bytes a sample accounted for, {:.2} of resident memory, \
         {:.1} kB a series and hour. Theirs: {:.2} of resident memory, {:.1} kB a series and hour; \
         remote write took them {:.0} ns a sample on a processor.",
        stats.series,
        stats.samples,
        stats.bytes as f64 / samples,
        ours as f64 / samples,
        ours as f64 / 1e3 / series_hours,
        theirs as f64 / samples,
        theirs as f64 / 1e3 / series_hours,
        writing.as_nanos() as f64 / samples,
    ));
}

/// Whom to ask.
enum Asked<'a> {
    Http {
        peer: Prometheus,
        pid: u32,
    },
    InProcess {
        store: &'a Store,
        engine: &'a Engine,
    },
}

impl Asked<'_> {
    fn http(server: &Server) -> Result<Self, String> {
        let peer = Prometheus::new(&server.url)?;
        Ok(Self::Http {
            peer,
            pid: server.pid,
        })
    }

    fn cpu(&self) -> Duration {
        match self {
            Self::Http { pid, .. } => process::cpu(*pid),
            Self::InProcess { .. } => process::thread_cpu(),
        }
    }

    /// Asks for the value at `end`, or at each time of the range, and has the answer as JSON.
    fn ask(&self, text: &str, range: Option<Range>, end: i64) -> Result<(), String> {
        let json = match self {
            Self::Http { peer, .. } => over(peer, text, range, end)?,
            Self::InProcess { store, engine } => within(store, engine, text, range, end)?,
        };
        std::hint::black_box(json);
        Ok(())
    }
}

fn over(peer: &Prometheus, text: &str, range: Option<Range>, end: i64) -> Result<String, String> {
    let mut form = vec![("query", text.to_owned())];
    let path = if let Some(Range { start, end, step }) = range {
        let times = [("start", start), ("end", end), ("step", step)];
        form.extend(times.map(|(name, ms)| (name, seconds(ms))));
        "query_range"
    } else {
        form.push(("time", seconds(end)));
        "query"
    };
    let answer = peer.text(path, &form)?;
    if answer.starts_with(r#"{"status":"success""#) {
        Ok(answer)
    } else {
        Err(format!("{text}: {answer:.300}"))
    }
}

fn within(
    store: &Store,
    engine: &Engine,
    text: &str,
    range: Option<Range>,
    end: i64,
) -> Result<String, String> {
    // Reading the query is part of it: over HTTP it is, too.
    let query = Query::parse(text).map_err(|error| error.to_string())?;
    let value = match range {
        Some(Range { start, end, step }) => engine.range(store, &query, start, end, step),
        None => engine.instant(store, &query, end),
    };
    let value = value.map_err(|error| error.to_string())?;
    serde_json::to_string(&value).map_err(|error| error.to_string())
}

fn heading(what: &str) {
    say(&format!(
        "\n{what} Median of {RUNS}, in turn, in ms; mean time on a processor in ms."
    ));
    say(&format!(
        "{:24} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7}   question",
        "", "theirs", "ours", "ratio", "cpu", "cpu", "ratio"
    ));
}

/// Measures both sides in turn and prints a row.
fn measure(
    name: &str,
    text: &str,
    range: Option<Range>,
    end: i64,
    sides: (&Asked<'_>, &Asked<'_>),
) -> Result<(), String> {
    let mut times = [Vec::new(), Vec::new()];
    let mut cpu = [Duration::ZERO; 2];
    for _ in 0..RUNS {
        for (at, side) in [sides.0, sides.1].into_iter().enumerate() {
            let before = side.cpu();
            times[at].push(timed(|| side.ask(text, range, end))?);
            cpu[at] += side.cpu().saturating_sub(before);
        }
    }
    let [theirs, ours] = times.map(|times| ms(median(times)));
    let [their_cpu, our_cpu] = cpu.map(|total| ms(total) / RUNS as f64);
    let words: Vec<&str> = text.split_whitespace().collect();
    say(&format!(
        "{name:24} {theirs:>8.2} {ours:>8.2} {:>6.1}x {their_cpu:>8.2} {our_cpu:>8.2} {:>6.1}x   {:.120}",
        theirs / ours,
        their_cpu / our_cpu,
        words.join(" "),
    ));
    Ok(())
}

/// Of the panels, of the recorded rules and of the alerts the one that takes this side longest over a range.
fn heaviest_of_each(
    side: &Asked<'_>,
    range: Range,
    groups: &[Group],
) -> Result<Vec<(&'static str, String)>, String> {
    let kinds = [
        ("panel", "dashboards/"),
        ("recording rule", "recorded"),
        ("burn-rate alert", "alerts"),
    ];
    let mut heaviest = Vec::new();
    for (kind, mark) in kinds {
        let mut slowest: Option<(Duration, String)> = None;
        let wanted = groups.iter().filter(|group| group.name.contains(mark));
        for question in wanted.flat_map(|group| &group.questions) {
            let Question::Query { text, .. } = question else {
                continue;
            };
            if mark == "alerts" && !text.contains("slo:sli_error:ratio_rate") {
                continue;
            }
            // The quicker of two, so that what is only slow the first time does not win.
            let first = timed(|| side.ask(text, Some(range), range.end))?;
            let time = first.min(timed(|| side.ask(text, Some(range), range.end))?);
            if slowest.as_ref().is_none_or(|(most, _)| time > *most) {
                slowest = Some((time, text.clone()));
            }
        }
        heaviest.extend(slowest.map(|(_, text)| (kind, text)));
    }
    Ok(heaviest)
}

fn timed(run: impl FnOnce() -> Result<(), String>) -> Result<Duration, String> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
