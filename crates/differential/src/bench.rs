//! What the heaviest questions cost a real Prometheus and the promql crate, on the same samples, in turn.
//!
//! A recording of a minute is too short to be heavy, and waiting for hours would be no use: the recording is repeated
//! behind itself, counters going on from where they were, until it is as long as wanted. A second Prometheus, which
//! scrapes nothing, gets it by remote write, and a store of ours as it is.

use std::time::{Duration, Instant};

use promql::{Engine, Labels, Limits, Matcher, Query, Sample, Store};

use crate::expressions::{Group, Question};
use crate::peer::{Prometheus, Range, seconds};
use crate::process;
use crate::receiver::{Label, TimeSeries, WriteRequest, WrittenSample};
use crate::report::say;

/// How often each question is asked, the two sides in turn.
const RUNS: usize = 31;

/// The range and the step of the range queries: a dashboard of a quarter of an hour.
const RANGE_MS: i64 = 15 * 60_000;
const STEP_MS: i64 = 5_000;

/// The most samples of a request of remote write.
const BATCH: usize = 20_000;

/// A Prometheus to compare with.
#[derive(Debug)]
pub(crate) struct Rival<'a> {
    pub(crate) url: &'a str,
    pub(crate) pid: u32,
}

/// Fills both and asks both.
pub(crate) fn run(
    recorded: &Store,
    bounds: (i64, i64),
    minutes: i64,
    rival: &Rival<'_>,
    groups: &[Group],
) -> Result<(), String> {
    let peer = Prometheus::new(rival.url)?;
    let series = repeated(recorded, bounds, minutes * 60_000);
    let end = bounds.1;
    let resident = || process::resident_bytes(std::process::id());
    let before = (resident(), process::resident_bytes(rival.pid));
    let store = fill(&series)?;
    let ours = resident().saturating_sub(before.0);
    let cpu = process::cpu(rival.pid);
    send(&peer, &series)?;
    let writing = process::cpu(rival.pid).saturating_sub(cpu);
    let theirs = process::resident_bytes(rival.pid).saturating_sub(before.1);
    sizes(&store, minutes, ours, theirs, writing);

    let engine = Engine::default();
    let sides = Sides {
        store: &store,
        engine: &engine,
        peer: &peer,
        pid: rival.pid,
        end,
    };
    say(&format!(
        "\nMedian of {RUNS}, theirs over HTTP, ours in process with the same JSON made; in ms, and in ms on a processor."
    ));
    say(&format!(
        "{:22} {:>9} {:>9} {:>7}   {:>9} {:>9}   question",
        "", "theirs", "ours", "ratio", "cpu", "cpu"
    ));
    for group in heaviest_of_each(&sides, groups)? {
        let (name, text) = group;
        sides.measure(&format!("{name}, instant"), &text, None)?;
        let range = Range {
            start: end - RANGE_MS,
            end,
            step: STEP_MS,
        };
        sides.measure(&format!("{name}, range"), &text, Some(range))?;
    }
    Ok(())
}

/// The samples of each series, the recording repeated before itself for so many milliseconds.
fn repeated(recorded: &Store, (start, end): (i64, i64), length: i64) -> Vec<(Labels, Vec<Sample>)> {
    // Rounds of whole seconds keep the distances between scrapes.
    let round = (end - start) / 1_000 * 1_000;
    let rounds = length / round + 1;
    let everything = [Matcher::not_equal("__name__", "")];
    let repeat = |series: &promql::store::Series| {
        let mut once = Vec::new();
        series.read(end - round + 1, end, &mut once);
        let rise = if is_counter(series.labels().metric_name()) {
            rise(&once)
        } else {
            0.0
        };
        let rounds = (0..rounds).rev().flat_map(|back| {
            once.iter().map(move |sample| {
                let value = sample.value + rise * (rounds - 1 - back) as f64;
                let value = if sample.is_stale() {
                    sample.value
                } else {
                    value
                };
                Sample::new(sample.timestamp - back * round, value)
            })
        });
        (series.labels().clone(), rounds.collect::<Vec<Sample>>())
    };
    recorded
        .select(&everything)
        .into_iter()
        .map(repeat)
        .filter(|(_, samples)| !samples.is_empty())
        .collect()
}

fn is_counter(name: &str) -> bool {
    ["_total", "_bucket", "_count", "_sum"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

/// By how much the counter goes up in a round.
fn rise(samples: &[Sample]) -> f64 {
    let numbers = samples
        .iter()
        .filter(|sample| !sample.is_stale())
        .map(|sample| sample.value);
    let values: Vec<f64> = numbers.collect();
    let steps = values.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0));
    steps.sum()
}

fn fill(series: &[(Labels, Vec<Sample>)]) -> Result<Store, String> {
    let mut store = Store::new(Limits {
        max_series: 1_000_000,
        max_bytes: 4 << 30,
    });
    let mut references = Vec::new();
    for (labels, _) in series {
        let reference = store.register(labels, Duration::from_secs(86_400));
        references.push(reference.map_err(|error| error.to_string())?);
    }
    // Scrape by scrape, as they would come.
    let longest = series
        .iter()
        .map(|(_, samples)| samples.len())
        .max()
        .unwrap_or_default();
    let started = process::thread_cpu();
    let mut count = 0_u32;
    for position in 0..longest {
        for (reference, (_, samples)) in references.iter().zip(series) {
            let Some(sample) = samples.get(position) else {
                continue;
            };
            store
                .append(*reference, *sample)
                .map_err(|error| error.to_string())?;
            count += 1;
        }
    }
    let spent = process::thread_cpu().saturating_sub(started);
    say(&format!(
        "appending: {:.0} ns a sample on a processor",
        spent.as_nanos() as f64 / f64::from(count.max(1))
    ));
    Ok(store)
}

/// Writes in the order of time: what is older than the newest of a series would be refused.
fn send(peer: &Prometheus, series: &[(Labels, Vec<Sample>)]) -> Result<(), String> {
    let longest = series
        .iter()
        .map(|(_, samples)| samples.len())
        .max()
        .unwrap_or_default();
    let width = (BATCH / series.len().max(1)).max(1);
    for from in (0..longest).step_by(width) {
        let part = |(labels, samples): &(Labels, Vec<Sample>)| TimeSeries {
            labels: labels
                .iter()
                .map(|(name, value)| Label {
                    name: name.into(),
                    value: value.into(),
                })
                .collect(),
            samples: samples
                .iter()
                .skip(from)
                .take(width)
                .map(|sample| WrittenSample {
                    value: sample.value,
                    timestamp: sample.timestamp,
                })
                .collect(),
        };
        peer.write(&WriteRequest {
            series: series.iter().map(part).collect(),
        })?;
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

struct Sides<'a> {
    store: &'a Store,
    engine: &'a Engine,
    peer: &'a Prometheus,
    pid: u32,
    end: i64,
}

impl Sides<'_> {
    fn measure(&self, name: &str, text: &str, range: Option<Range>) -> Result<(), String> {
        let query = Query::parse(text).map_err(|error| error.to_string())?;
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        let (mut our_cpu, mut their_cpu) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..RUNS {
            let cpu = process::cpu(self.pid);
            theirs.push(timed(|| self.ask(text, range))?);
            their_cpu += process::cpu(self.pid).saturating_sub(cpu);
            let cpu = process::thread_cpu();
            ours.push(timed(|| self.evaluate(&query, range))?);
            our_cpu += process::thread_cpu().saturating_sub(cpu);
        }
        let (theirs, ours) = (median(theirs), median(ours));
        let runs = u32::try_from(RUNS).unwrap_or(u32::MAX);
        let words: Vec<&str> = text.split_whitespace().collect();
        say(&format!(
            "{name:22} {:>9.2} {:>9.2} {:>6.1}x   {:>9.1} {:>9.2}   {:.150}",
            ms(theirs),
            ms(ours),
            ms(theirs) / ms(ours),
            ms(their_cpu / runs),
            ms(our_cpu / runs),
            words.join(" "),
        ));
        Ok(())
    }

    fn ask(&self, text: &str, range: Option<Range>) -> Result<(), String> {
        let mut form = vec![("query", text.to_owned())];
        let path = if let Some(range) = range {
            let times = [
                ("start", range.start),
                ("end", range.end),
                ("step", range.step),
            ];
            form.extend(times.map(|(name, ms)| (name, seconds(ms))));
            "query_range"
        } else {
            form.push(("time", seconds(self.end)));
            "query"
        };
        let answer = self.peer.text(path, &form)?;
        if answer.starts_with(r#"{"status":"success""#) {
            Ok(())
        } else {
            Err(format!("{text}: {answer:.300}"))
        }
    }

    fn evaluate(&self, query: &Query, range: Option<Range>) -> Result<(), String> {
        let value = match range {
            Some(Range { start, end, step }) => {
                self.engine.range(self.store, query, start, end, step)
            }
            None => self.engine.instant(self.store, query, self.end),
        };
        let value = value.map_err(|error| error.to_string())?;
        let json = serde_json::to_string(&value).map_err(|error| error.to_string())?;
        std::hint::black_box(json);
        Ok(())
    }
}

/// Of the panels, of the recorded rules and of the alerts the one that takes Prometheus longest over a range.
fn heaviest_of_each(
    sides: &Sides<'_>,
    groups: &[Group],
) -> Result<Vec<(&'static str, String)>, String> {
    let kinds = [
        ("panel", "dashboards/"),
        ("recording rule", "recorded"),
        ("alert", "alerts"),
    ];
    let range = Range {
        start: sides.end - RANGE_MS,
        end: sides.end,
        step: STEP_MS,
    };
    let mut heaviest = Vec::new();
    for (kind, mark) in kinds {
        let mut slowest: Option<(Duration, String)> = None;
        for question in groups
            .iter()
            .filter(|group| group.name.contains(mark))
            .flat_map(|group| &group.questions)
        {
            let Question::Query { text, .. } = question else {
                continue;
            };
            // Twice, so that what is only slow the first time does not win.
            let first = timed(|| sides.ask(text, Some(range)))?;
            let time = first.min(timed(|| sides.ask(text, Some(range)))?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_counter_goes_on_and_a_gauge_starts_anew() {
        let mut store = Store::new(Limits::default());
        for (name, values) in [("a_total", [5.0, 1.0, 4.0]), ("gauge", [1.0, 2.0, 3.0])] {
            let labels = Labels::new([("__name__", name)]);
            let series = store.register(&labels, Duration::from_secs(60)).unwrap();
            for (time, value) in (0..).zip(values) {
                store
                    .append(series, Sample::new(time * 1_000 + 500, value))
                    .unwrap();
            }
        }
        let mut made = repeated(&store, (0, 3_000), 4_000);
        made.sort_by(|(a, _), (b, _)| a.cmp(b));
        let values =
            |at: usize| -> Vec<f64> { made[at].1.iter().map(|sample| sample.value).collect() };
        assert_eq!(values(0), [5.0, 1.0, 4.0, 8.0, 4.0, 7.0]);
        assert_eq!(values(1), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(made[0].1[0].timestamp, -2_500);
    }
}
