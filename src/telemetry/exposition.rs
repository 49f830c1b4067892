//! What a scrape is answered: the metrics as text, in the version that the reader asked for.
//!
//! Counters and gauges come from the exporter of the metrics crate, histograms from [`super::histogram`]. Only
//! OpenMetrics can carry exemplars, and only readers that ask for it may be given it: it names counters
//! without their suffix, knows no empty lines, and ends with a mark.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Arc;

use super::catalog::{CATALOGUE, Kind};
use super::histogram::Histograms;

/// A version of the text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
}

impl Format {
    /// The format for a reader with this `Accept` header: the richer one for whoever takes it at all.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let asks = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let rest: Vec<&str> = parts.collect();
            // Not the coming version 2, which is written in another way.
            let version = rest.iter().find_map(|part| part.strip_prefix("version="));
            let version = version.map(|version| version.trim_matches('"'));
            let weight = rest.iter().find_map(|part| part.strip_prefix("q="));
            let refused = weight.and_then(|q| q.parse().ok()) == Some(0.0_f64);
            media.eq_ignore_ascii_case("application/openmetrics-text")
                && version.is_none_or(|version| matches!(version, "1.0.0" | "0.0.1"))
                && !refused
        });
        if asks {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Where the metrics of this process are kept, as the scrape sees it.
#[derive(Debug)]
pub(super) struct Kept {
    exporter: PrometheusHandle,
    histograms: Arc<Histograms>,
}

/// Makes the catalogue's functions record from now on.
pub(super) fn install() -> Result<Kept, String> {
    let exporter = PrometheusBuilder::new().build_recorder();
    let kept = Kept {
        exporter: exporter.handle(),
        histograms: Arc::default(),
    };
    let split = Split {
        exporter,
        histograms: Arc::clone(&kept.histograms),
    };
    metrics::set_global_recorder(split)
        .map_err(|_| "metrics are already installed in this process".to_owned())?;
    for metric in CATALOGUE {
        let help = metric.help.trim();
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, help),
            // The catalogue is asked when they are written.
            Kind::Histogram => {}
        }
    }
    Ok(kept)
}

impl Kept {
    /// The metrics as text; `more` appends what is kept elsewhere, in the format of Prometheus.
    pub(super) fn render(&self, format: Format, more: impl FnOnce(&mut String)) -> String {
        let mut text = self.exporter.render();
        more(&mut text);
        if format == Format::OpenMetrics {
            text = open_metrics(&text);
        }
        let exemplars = format == Format::OpenMetrics;
        self.histograms.render(&mut text, exemplars);
        if exemplars {
            text.push_str("# EOF\n");
        }
        text
    }
}

/// Counters and gauges, rewritten.
fn open_metrics(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ").and_then(family) {
            Some((keyword, family, rest)) => {
                let name = family.strip_suffix("_total").unwrap_or(family);
                written.extend(["# ", keyword, " ", name, " ", rest]);
            }
            None => written.push_str(line),
        }
        written.push('\n');
    }
    written
}

/// Keyword, name of the family, and the rest, of a line about a family.
fn family(line: &str) -> Option<(&str, &str, &str)> {
    let (keyword, line) = line.split_once(' ')?;
    let (name, rest) = line.split_once(' ')?;
    matches!(keyword, "HELP" | "TYPE").then_some((keyword, name, rest))
}

/// Sends histograms to ours and the rest to the exporter.
struct Split {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder for Split {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_counter(key, unit, help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_gauge(key, unit, help);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.histograms.register(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        // As Prometheus 2.42 and 3 send it.
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        let quoted = r#"application/openmetrics-text; version="1.0.0""#;
        assert_eq!(Format::accepted(quoted), Format::OpenMetrics);
        for accept in [
            "",
            "*/*",
            "text/plain;version=0.0.4",
            "application/openmetrics-text; version=2.0.0",
            "application/openmetrics-text; q=0, text/plain",
            "application/openmetrics-text; q=0.000, text/plain",
        ] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn counters_lose_their_suffix_where_their_family_is_described() {
        let text = "# HELP a_total Sum of a_total things.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\n# TYPE d gauge\nd 2\n";
        let expected = "# HELP a Sum of a_total things.\n# TYPE a counter\na_total{b=\"c\"} 1\n# TYPE d gauge\nd 2\n";
        assert_eq!(open_metrics(text), expected);
    }
}
