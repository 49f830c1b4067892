//! Telemetry: what every role tells about itself.
//!
//! This module imports none of the others, and no other module names the metrics or OpenTelemetry crates
//! (the console's receiver reads OTLP's own messages): a
//! change of library or of convention stays in here. Without it each role would count in its own words.
//!
//! - [`catalog`]: every metric, as a typed function
//! - [`observe`]: the outermost layer of a server, which counts each request in `Drop`
//! - `durations`: their durations, by how they ended; `in_flight`: those under way
//! - [`account`]: what a request's time and memory went into
//! - [`wait`]: a time that is charged and recorded however it ends
//! - [`context`], `sampler`: trace context between processes, and which traces are kept
//! - `exposition`, `histogram`: what a scrape is answered
//! - [`traces`], `logs`, `exports`: spans over OTLP, log events as JSON lines and over OTLP, what became of the exports
//! - `process`, `runtime`: the process and its runtime
//! - `alloc`: the allocator, which counts
//! - [`document`], [`spans`]: what the documentation says of all this, from the same tables
//! - [`profiles`]: what the processor's time and the memory go into, when asked

pub mod account;
mod alloc;
pub mod catalog;
pub mod context;
pub mod document;
mod durations;
mod exports;
mod exposition;
mod histogram;
mod in_flight;
mod logs;
pub mod observe;
mod process;
pub mod profiles;
mod runtime;
mod sampler;
pub mod spans;
pub mod traces;
pub mod wait;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use exposition::Format;
pub use logs::filter::{FilterStatus, LogFilter};
use logs::lines::Lines;
pub use runtime::probe as probe_runtime;
use sampler::Sampler;

/// How a role wants to be observed.
#[derive(Debug, Clone)]
pub struct Config {
    /// The role, as spans, logs and errors name it.
    pub role: &'static str,
    /// Which version of it runs, as metrics, spans and log records have it.
    pub service_version: String,
    /// Which log events are written, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Whether log events are exported, beside being written.
    pub log_export: bool,
    /// How spans are exported; not at all, if absent.
    pub traces: Option<traces::Config>,
}

/// Reads at each scrape what is cheaper to ask than to count.
type Collector = Box<dyn Fn() + Send + Sync>;

/// The telemetry of this process. Exists once; [`Telemetry::shutdown`] flushes it.
#[derive(Debug)]
pub struct Telemetry {
    metrics: exposition::Kept,
    tracer_provider: Option<SdkTracerProvider>,
    logger_provider: Option<SdkLoggerProvider>,
    lines: Lines,
    log_filter: LogFilter,
    collectors: Collectors,
}

#[derive(Default)]
struct Collectors(Mutex<Vec<Collector>>);

impl std::fmt::Debug for Collectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collectors")
    }
}

/// Installs metrics, logs and traces for this process. A sentence says what was wrong otherwise.
pub fn init(config: &Config) -> Result<Telemetry, String> {
    let (filter, log_filter) = LogFilter::new(&config.log_filter)?;
    let metrics = exposition::install()?;
    let resource = traces::resource(config.role, &config.service_version);
    let service_name = traces::service_name(&resource);
    let tracer_provider = match &config.traces {
        None => None,
        Some(traces) => {
            let (name, argument) = &traces.sampler;
            let sampler = Sampler::named(name.as_deref(), argument.as_deref())?;
            let provider = traces::provider(resource.clone(), traces)?;
            context::sample_by(sampler);
            Some(provider)
        }
    };
    let exports = logs::otlp::exports();
    let logger_provider = config
        .log_export
        .then(|| logs::otlp::provider(resource, exports))
        .transpose()?;
    let lines = write_lines(config.role)?;
    let put = lines.clone();
    let events = logs::Events::new(
        config.role,
        move |line: &[u8]| put.put(line),
        logger_provider.as_ref().map(logs::otlp::Export::new),
    );
    let spans = tracer_provider.as_ref().map(|provider| {
        // Where a span was written in the code and on which thread it ran costs half of the export and answers no
        // question of a reader; what its time went into stands in the request's account.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("firedrill"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target().starts_with("firedrill")
            }))
    });
    let subscriber = Registry::default()
        .with(events.with_filter(filter))
        .with(spans);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| "telemetry is already installed in this process".to_owned())?;
    count_panics();
    let telemetry = Telemetry {
        metrics,
        tracer_provider,
        logger_provider,
        lines,
        log_filter,
        collectors: Collectors::default(),
    };
    telemetry.collect(process::collect);
    telemetry.collect(runtime::collect);
    telemetry.collect(observe::collect);
    telemetry.collect(depth_of(&telemetry.lines));
    catalog::firedrill_build_info(env!("CARGO_PKG_VERSION")).set(1.0);
    catalog::target_info(service_name, config.service_version.clone()).set(1.0);
    catalog::firedrill_metrics_render_size_bytes().set(0.0);
    drop(catalog::firedrill_metrics_render_duration_seconds());
    Ok(telemetry)
}

/// Starts the writer of log lines.
fn write_lines(role: &'static str) -> Result<Lines, String> {
    let gap = move |dropped| logs::gap(role, dropped);
    Lines::start(logs::lines::BOUNDS, std::io::stderr(), gap)
        .map_err(|error| format!("the writer of log lines cannot start: {error}"))
}

fn depth_of(lines: &Lines) -> impl Fn() + use<> {
    let (depth, lines) = (catalog::firedrill_queue_depth("logs"), lines.clone());
    move || depth.set(lines.depth() as f64)
}

/// Counts panics and logs each as one line: the default hook's text would break the log.
fn count_panics() {
    let panics = catalog::firedrill_panics_total();
    panics.absolute(0);
    std::panic::set_hook(Box::new(move |panic| {
        panics.increment(1);
        let location = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        tracing::error!(target: "panic", location, message, "A panic was caught.");
    }));
}

impl Telemetry {
    /// Runs `collector` before each scrape.
    pub fn collect(&self, collector: impl Fn() + Send + Sync + 'static) {
        let mut collectors = self
            .collectors
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        collectors.push(Box::new(collector));
    }

    /// Every metric, as text in this format.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let began = Instant::now();
        let collectors = self.collectors.0.lock();
        for collector in &*collectors.unwrap_or_else(PoisonError::into_inner) {
            collector();
        }
        let text = self.metrics.render(format, |text| {
            process::render(text);
            runtime::render(text);
        });
        catalog::firedrill_metrics_render_duration_seconds().record(began.elapsed().as_secs_f64());
        catalog::firedrill_metrics_render_size_bytes().set(text.len() as f64);
        text
    }

    /// Which log events are written.
    #[must_use]
    pub fn log_filter(&self) -> &LogFilter {
        &self.log_filter
    }

    /// Exports what is still queued, for at most `timeout`. Blocks; call it when the servers have stopped.
    pub fn shutdown(&self, timeout: Duration) {
        let ended = |what: &str, result: OTelSdkResult| {
            if let Err(error) = result {
                tracing::warn!(target: "telemetry", error = %error, "The last {what} were not exported.");
            }
        };
        // Side by side: a receiver that is gone must not cost the time twice.
        std::thread::scope(|scope| {
            if let Some(provider) = &self.logger_provider {
                scope.spawn(move || ended("log records", provider.shutdown_with_timeout(timeout)));
            }
            if let Some(provider) = &self.tracer_provider {
                ended("spans", provider.shutdown_with_timeout(timeout));
            }
        });
    }

    /// Waits, when what this returns is dropped, until standard error has taken the last log lines, for at most
    /// `timeout`: also where the role ends with an error or a panic.
    #[must_use]
    pub fn last_lines(&self, timeout: Duration) -> LastLines {
        LastLines {
            lines: self.lines.clone(),
            timeout,
        }
    }
}

/// See [`Telemetry::last_lines`].
#[derive(Debug)]
pub struct LastLines {
    lines: Lines,
    timeout: Duration,
}

impl Drop for LastLines {
    fn drop(&mut self) {
        // What is still there has nobody who reads it.
        let _all: bool = self.lines.flush(self.timeout);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_last_lines_are_written_also_when_a_role_panics() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let lines = Lines::start(logs::lines::BOUNDS, writer, |_| String::new()).unwrap();
        // More than a pipe holds: it is not written before somebody reads.
        let last = vec![b'x'; 100_000];
        let mut read = vec![0; last.len()];
        let of_role = lines.clone();
        let role = std::thread::spawn(move || {
            let _last_lines = LastLines {
                lines: of_role.clone(),
                timeout: Duration::from_secs(30),
            };
            of_role.put(&last);
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let reading = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            reader.read_exact(&mut read).unwrap();
        });
        assert!(role.join().is_err());
        assert!(lines.flush(Duration::ZERO), "it ended before its lines");
        reading.join().unwrap();
    }
}
