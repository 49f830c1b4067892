//! Telemetry: what every role tells about itself.
//!
//! This module imports none of the others, and no other module names the metrics or OpenTelemetry crates
//! (the console's receiver reads OTLP's own messages): a
//! change of library or of convention stays in here. Without it each role would count in its own words.
//!
//! - [`catalog`]: every metric, as a typed function
//! - [`observe`]: the outermost layer of a server, which counts each request in `Drop`
//! - `in_flight`: the requests under way
//! - [`account`]: what a request's time and memory went into
//! - [`context`], `sampler`: trace context between processes, and which traces are kept
//! - `exposition`, `histogram`: what a scrape is answered
//! - `traces`, `logs`, `process`, `runtime`: spans over OTLP, JSON lines, the process and its runtime
//! - `alloc`: the allocator, which counts
//! - [`profiles`]: what the processor's time and the memory go into, when asked

pub mod account;
mod alloc;
pub mod catalog;
pub mod context;
mod exposition;
mod histogram;
mod in_flight;
mod logs;
pub mod observe;
mod process;
pub mod profiles;
mod runtime;
mod sampler;
mod traces;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use exposition::Format;
pub use runtime::probe as probe_runtime;
use sampler::Sampler;

/// How a role wants to be observed.
#[derive(Debug, Clone)]
pub struct Config {
    /// The role, as spans, logs and errors name it.
    pub role: &'static str,
    /// Which log events are written, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Whether spans are exported.
    pub traces: bool,
    /// Which traces are kept: the name and the argument of a sampler, as `OTEL_TRACES_SAMPLER` has them.
    pub sampler: (Option<String>, Option<String>),
}

/// Reads at each scrape what is cheaper to ask than to count.
type Collector = Box<dyn Fn() + Send + Sync>;

/// The telemetry of this process. Exists once; [`Telemetry::shutdown`] flushes it.
#[derive(Debug)]
pub struct Telemetry {
    metrics: exposition::Kept,
    tracer_provider: Option<SdkTracerProvider>,
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
    let (name, argument) = &config.sampler;
    let sampler = Sampler::named(name.as_deref(), argument.as_deref())?;
    let metrics = exposition::install()?;
    let tracer_provider = config
        .traces
        .then(|| traces::provider(config.role))
        .transpose()?;
    if tracer_provider.is_some() {
        context::sample_by(sampler);
    }
    // The SDK would log each export that fails; ours counts them and logs the first. A filter may ask for more.
    let filter: EnvFilter = format!("opentelemetry=off,{}", config.log_filter)
        .parse()
        .map_err(|error| {
            format!(
                "the log filter {:?} cannot be read: {error}",
                config.log_filter
            )
        })?;
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
        .with(spans)
        .with(logs::JsonLines::new(config.role).with_filter(filter));
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| "telemetry is already installed in this process".to_owned())?;
    count_panics();
    let telemetry = Telemetry {
        metrics,
        tracer_provider,
        collectors: Collectors::default(),
    };
    telemetry.collect(process::collect);
    telemetry.collect(runtime::collect);
    telemetry.collect(observe::collect);
    catalog::firedrill_build_info(env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(telemetry)
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
        for collector in self
            .collectors
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            collector();
        }
        self.metrics.render(format, |text| {
            process::render(text);
            runtime::render(text);
        })
    }

    /// Sends what is still queued, for at most `timeout`. Blocks; call it when the servers have stopped.
    pub fn shutdown(&self, timeout: Duration) {
        if let Some(provider) = &self.tracer_provider
            && let Err(error) = provider.shutdown_with_timeout(timeout)
        {
            tracing::warn!(target: "telemetry", error = %error, "The last spans were not exported.");
        }
    }
}
