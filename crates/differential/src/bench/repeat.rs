//! A recording made longer: repeated before itself, counters going on from where they were.

use std::time::Duration;

use promql::{Labels, Limits, Matcher, Sample, Store};

use crate::peer::Prometheus;
use crate::process;
use crate::receiver::{Label, TimeSeries, WriteRequest, WrittenSample};
use crate::report::say;

/// The most samples of a request of remote write.
const BATCH: usize = 20_000;

/// The samples of each series, the recording repeated before itself for so many milliseconds.
pub(super) fn repeated(
    recorded: &Store,
    (start, end): (i64, i64),
    length: i64,
) -> Vec<(Labels, Vec<Sample>)> {
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

pub(super) fn fill(series: &[(Labels, Vec<Sample>)]) -> Result<Store, String> {
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
pub(super) fn send(peer: &Prometheus, series: &[(Labels, Vec<Sample>)]) -> Result<(), String> {
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
