//! Which log events are written, changeable while the role runs.
//!
//! The events that explain an outage are too many to be written always, and a restart to turn them on would end
//! the outage or hide it. So the filter can be exchanged, for a time if wanted: what is turned on in a hurry is
//! forgotten in one. A restart goes back to what the role was started with.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::{Registry, reload};

/// The filter of this process.
#[derive(Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    set: Mutex<Set>,
}

#[derive(Debug)]
struct Set {
    /// In force when nothing else is.
    lasting: String,
    /// In force until its time is over.
    passing: Option<(String, Instant)>,
}

/// The filter that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterStatus {
    /// In the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// Until it goes back to the one before; never, if absent.
    pub expires_in: Option<Duration>,
}

impl LogFilter {
    /// The layer's side, which applies `filter`, and the side that changes it.
    pub(in crate::telemetry) fn new(
        filter: &str,
    ) -> Result<(reload::Layer<EnvFilter, Registry>, Self), String> {
        let compiled = compile(filter)
            .map_err(|error| format!("the log filter {filter:?} cannot be read: {error}"))?;
        let (layer, handle) = reload::Layer::new(compiled);
        let set = Mutex::new(Set {
            lasting: filter.to_owned(),
            passing: None,
        });
        Ok((layer, Self { handle, set }))
    }

    /// Puts `filter` in force, for good or for `ttl`, after which the last lasting one is again. A filter that
    /// cannot be read changes nothing; the parser's complaint is returned.
    pub fn change(&self, filter: &str, ttl: Option<Duration>) -> Result<(), String> {
        if filter.trim().is_empty() {
            return Err("it is empty; `off` writes nothing".into());
        }
        let compiled = compile(filter)?;
        let mut set = self.set();
        let ttl_s = ttl.map(|ttl| ttl.as_secs_f64());
        // While the old one is in force: the new one may let nothing through.
        tracing::info!(target: "telemetry", filter, ttl_s, "The log filter is changed.");
        self.apply(compiled)?;
        set.passing = ttl.map(|ttl| (filter.to_owned(), Instant::now() + ttl));
        if ttl.is_none() {
            filter.clone_into(&mut set.lasting);
        }
        Ok(())
    }

    /// Goes back to the lasting filter if the time of the other is over, and says whether it was; call it every second.
    pub fn expire(&self) -> bool {
        let mut set = self.set();
        let now = Instant::now();
        if set.passing.take_if(|(_, until)| *until <= now).is_none() {
            return false;
        }
        // It was in force before, so it can be read.
        if let Ok(compiled) = compile(&set.lasting)
            && self.apply(compiled).is_ok()
        {
            tracing::info!(target: "telemetry", filter = set.lasting, "The log filter is the one before again.");
        }
        true
    }

    /// What is in force.
    #[must_use]
    pub fn status(&self) -> FilterStatus {
        let set = self.set();
        match &set.passing {
            Some((filter, until)) => FilterStatus {
                filter: filter.clone(),
                expires_in: Some(until.saturating_duration_since(Instant::now())),
            },
            None => FilterStatus {
                filter: set.lasting.clone(),
                expires_in: None,
            },
        }
    }

    fn apply(&self, compiled: EnvFilter) -> Result<(), String> {
        self.handle
            .reload(compiled)
            .map_err(|error| format!("it cannot be put in force: {error}"))
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SDK would log each export that fails; ours counts them and logs the first. A filter may ask for more.
fn compile(filter: &str) -> Result<EnvFilter, String> {
    let directives = filter.split(',').map(str::trim);
    let mut bare = directives.filter(|one| !one.is_empty() && !one.contains(['=', '[']));
    // The parser takes any word for a target, and a misspelt level for silence.
    if let Some(word) = bare.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!(
            "{word:?} is no level; there are off, error, warn, info, debug and trace, and TARGET=LEVEL"
        ));
    }
    format!("opentelemetry=off,{filter}")
        .parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    struct Counting(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Counting {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let counts = event.metadata().target() == "it";
            self.0.fetch_add(usize::from(counts), Ordering::Relaxed);
        }
    }

    #[test]
    fn it_changes_at_once_and_goes_back_by_itself() {
        let (layer, filter) = LogFilter::new("info").unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let subscriber = Registry::default().with(Counting(Arc::clone(&seen)).with_filter(layer));
        tracing::subscriber::with_default(subscriber, || {
            let debug_is_seen = || {
                let before = seen.load(Ordering::Relaxed);
                tracing::debug!(target: "it", "Asked.");
                seen.load(Ordering::Relaxed) > before
            };
            assert!(!debug_is_seen());
            filter.change("info,it=debug", None).unwrap();
            assert!(debug_is_seen());
            filter.change("error", Some(Duration::ZERO)).unwrap();
            assert!(!debug_is_seen());
            assert_eq!(filter.status().filter, "error");
            filter.expire();
            assert!(debug_is_seen());
            assert_eq!(
                filter.status(),
                FilterStatus {
                    filter: "info,it=debug".into(),
                    expires_in: None
                }
            );
        });
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (_layer, filter) = LogFilter::new("info").unwrap();
        for wrong in ["", " ", "shop=loud", "a=b=c", "wran", "info,htpp"] {
            assert!(!filter.change(wrong, None).unwrap_err().is_empty());
        }
        assert_eq!(filter.status().filter, "info");
        assert!(
            LogFilter::new("shop=loud")
                .unwrap_err()
                .contains("shop=loud")
        );
    }
}
