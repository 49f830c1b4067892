//! Histograms with fixed buckets and exemplars, behind the facade of the metrics crate.
//!
//! The exporter's own keep every sample until somebody scrapes: memory then grows with traffic, a scrape costs
//! what happened since the last, and an exemplar has nowhere to stand. These count where the sample falls, at
//! once, in a fixed space. A sample that is recorded while a sampled request runs on the thread leaves that
//! request's ids in its bucket, so that from a slow bucket one comes to a trace that was slow.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{HistogramFn, Key};

use super::catalog::{CATALOGUE, Kind, Metric};
use super::context::{self, Identity};

/// The series of one family, by their labels as text.
type Family = BTreeMap<Arc<str>, Arc<Series>>;

/// Every histogram of this process.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    families: Mutex<BTreeMap<&'static str, (&'static Metric, Family)>>,
}

impl Histograms {
    /// The histogram with this name and these labels; one that records nothing if the catalogue does not know it.
    pub(super) fn register(&self, key: &Key) -> metrics::Histogram {
        let known = |metric: &&Metric| metric.kind == Kind::Histogram && metric.name == key.name();
        let Some(metric) = CATALOGUE.iter().find(known) else {
            return metrics::Histogram::noop();
        };
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, family) = families
            .entry(metric.name)
            .or_insert_with(|| (metric, Family::new()));
        let series = family
            .entry(labels(key).into())
            .or_insert_with(|| Arc::new(Series::new(metric.buckets)));
        metrics::Histogram::from_arc(Arc::clone(series))
    }

    /// Appends the families in the text format, with `exemplars` if the reader knows them.
    pub(super) fn render(&self, text: &mut String, exemplars: bool) {
        for (metric, family) in self.families() {
            let (name, help) = (metric.name, metric.help.trim());
            put(text, format_args!("# HELP {name} {help}\n"));
            put(text, format_args!("# TYPE {name} histogram\n"));
            for (labels, series) in family {
                series.render(text, name, &labels, exemplars);
            }
        }
    }

    /// All of them as they are now. To write them takes far longer, and a request that asks for a histogram waits for
    /// this lock.
    fn families(&self) -> Vec<(&'static Metric, Family)> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.values().cloned().collect()
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("writing to a string cannot fail");
}

/// `key="value",...`, escaped as the text format asks.
fn labels(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        let comma = if text.is_empty() { "" } else { "," };
        let value = label.value().replace('\\', r"\\");
        let value = value.replace('"', r#"\""#).replace('\n', r"\n");
        put(
            &mut text,
            format_args!("{comma}{}=\"{value}\"", label.key()),
        );
    }
    text
}

#[derive(Debug)]
struct Series {
    bounds: &'static [f64],
    /// One for each bound, and the last for what lies above all of them.
    buckets: Box<[AtomicU64]>,
    /// The bits of the sum, a float.
    sum: AtomicU64,
    /// Made for the first one: most series never see a sampled request.
    exemplars: OnceLock<Box<[Mutex<Option<Exemplar>>]>>,
}

#[derive(Debug, Clone, Copy)]
struct Exemplar {
    of: Identity,
    value: f64,
    unix_s: f64,
}

impl Series {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            exemplars: OnceLock::new(),
        }
    }

    fn keep_exemplar(&self, bucket: usize, of: Identity, value: f64) {
        let slots = self
            .exemplars
            .get_or_init(|| self.buckets.iter().map(|_| Mutex::default()).collect());
        // Whoever finds it taken leaves it: any recent one will do.
        if let Ok(mut slot) = slots[bucket].try_lock() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let unix_s = now.unwrap_or_default().as_secs_f64();
            *slot = Some(Exemplar { of, value, unix_s });
        }
    }

    fn exemplar(&self, bucket: usize) -> Option<Exemplar> {
        let slots = self.exemplars.get()?;
        *slots[bucket].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn render(&self, text: &mut String, name: &str, labels: &str, exemplars: bool) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            put(text, format_args!("{name}_bucket{{{labels}{comma}le=\""));
            match self.bounds.get(index) {
                Some(bound) => put(text, format_args!("{bound}")),
                None => text.push_str("+Inf"),
            }
            put(text, format_args!("\"}} {count}"));
            if let Some(exemplar) = self.exemplar(index).filter(|_| exemplars) {
                let Exemplar { of, value, unix_s } = exemplar;
                let (trace, span) = (of.trace_id, of.span_id);
                put(
                    text,
                    format_args!(
                        " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {unix_s:.3}"
                    ),
                );
            }
            text.push('\n');
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let braced = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        put(text, format_args!("{name}_sum{braced} {sum}\n"));
        put(text, format_args!("{name}_count{braced} {count}\n"));
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        // One of these would make the sum useless for ever.
        if value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always has a value, so this cannot fail.
        let _before = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if let Some(identity) = context::kept() {
            self.keep_exemplar(bucket, identity, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use metrics::Label;
    use opentelemetry::trace::{SpanId, TraceId};

    use super::super::account::Account;
    use super::*;

    fn rendered(histograms: &Histograms, exemplars: bool) -> String {
        let mut text = String::new();
        histograms.render(&mut text, exemplars);
        text
    }

    fn key() -> Key {
        let labels = vec![Label::new("queue", "a \"b\"\\")];
        Key::from_parts("firedrill_queue_wait_seconds", labels)
    }

    #[test]
    fn a_sample_falls_into_its_bucket_and_those_above() {
        let histograms = Histograms::default();
        let histogram = histograms.register(&key());
        for value in [0.0, 0.5, 0.5001, 99.0, f64::NAN] {
            histogram.record(value);
        }
        // The same series again, not another.
        histograms.register(&key()).record(1.0);
        let text = rendered(&histograms, true);
        let line = |what: &str| {
            let start = format!("firedrill_queue_wait_seconds_{what}");
            let found = text.lines().find_map(|line| line.strip_prefix(&start));
            found
                .unwrap_or_else(|| panic!("{start}: {text}"))
                .to_owned()
        };
        let labels = r#"queue="a \"b\"\\""#;
        assert_eq!(line(&format!("bucket{{{labels},le=\"0.25\"}}")), " 1");
        assert_eq!(line(&format!("bucket{{{labels},le=\"0.5\"}}")), " 2");
        assert_eq!(line(&format!("bucket{{{labels},le=\"1\"}}")), " 4");
        assert_eq!(line(&format!("bucket{{{labels},le=\"+Inf\"}}")), " 5");
        assert_eq!(line("count"), format!("{{{labels}}} 5"));
        assert_eq!(line("sum"), format!("{{{labels}}} 101.0001"));
        assert_eq!(text.matches("# TYPE").count(), 1);
    }

    #[test]
    fn only_a_sampled_request_leaves_its_ids() {
        let histograms = Histograms::default();
        let histogram = histograms.register(&key());
        let identity = |sampled| Identity {
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([2; 8]),
            sampled,
        };
        histogram.record(0.3);
        Account::new(Some(identity(false)), None).enter(|| histogram.record(0.3));
        assert!(!rendered(&histograms, true).contains("trace_id"));
        Account::new(Some(identity(true)), None).enter(|| histogram.record(0.3));
        let text = rendered(&histograms, true);
        let marked: Vec<_> = text.lines().filter(|line| line.contains(" # ")).collect();
        let [line] = marked[..] else { panic!("{text}") };
        let ids =
            "{trace_id=\"01010101010101010101010101010101\",span_id=\"0202020202020202\"} 0.3 ";
        assert!(
            line.contains("le=\"0.5\"} 3 # ") && line.contains(ids),
            "{line}"
        );
        assert!(!rendered(&histograms, false).contains("trace_id"));
    }

    #[test]
    fn a_scrape_that_is_written_holds_up_nobody() {
        let histograms = Histograms::default();
        let identity = Identity {
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([2; 8]),
            sampled: true,
        };
        let histogram = histograms.register(&key());
        Account::new(Some(identity), None).enter(|| histogram.record(0.3));
        let (_, family) = histograms.families().remove(0);
        let series = family.into_values().next().unwrap();
        // The writing stops here, in the middle.
        let held = series.exemplars.get().unwrap()[3].lock().unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| rendered(&histograms, true));
            std::thread::sleep(Duration::from_millis(50));
            let asking = scope.spawn(|| histograms.register(&key()));
            let asked = Instant::now();
            while !asking.is_finished() && asked.elapsed() < Duration::from_secs(10) {
                std::thread::yield_now();
            }
            let answered = asking.is_finished();
            assert!(!writing.is_finished());
            drop(held);
            assert!(answered, "it waited for the scrape");
        });
    }

    #[test]
    fn what_the_catalogue_does_not_know_is_not_kept() {
        let histograms = Histograms::default();
        histograms
            .register(&Key::from_name("made_up_seconds"))
            .record(1.0);
        assert_eq!(rendered(&histograms, true), "");
    }
}
