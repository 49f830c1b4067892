//! The durations of the requests of one route, by how they ended.
//!
//! Their handles are cached, because a request builds no label. A role may also have a request counted under another
//! name than that of its route, as it decides for paths that match none. Such names come from clients and end
//! nowhere, so how many series they can make is bounded here, and what is beyond is counted under the route's own
//! name.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Histogram};

use super::catalog;
use super::observe::METHODS;

/// The most series that other names can make for one route: half of what the OpenTelemetry SDKs allow a metric.
/// With the 20 lines that each has they are some 20 000, ten times what a role has without, and a scrape of them
/// still ends in time.
const NAMED_MAX: usize = 1_000;

/// The longest of those names in bytes; what is longer is cut. A path may be as long as all headers together.
const NAME_BYTES_MAX: usize = 256;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its place in [`METHODS`].
    pub(super) method: usize,
    /// Zero if there was no answer.
    pub(super) status: u16,
    pub(super) error_type: &'static str,
}

impl Outcome {
    /// Whether the server failed, or nobody stayed for all of the answer. What a client did wrong has no type.
    pub(super) fn has_failed(self) -> bool {
        !self.error_type.is_empty()
    }

    fn series(self, name: impl Into<metrics::SharedString>) -> Histogram {
        let code = match self.status {
            0 => String::new(),
            status => status.to_string(),
        };
        let method = METHODS[self.method];
        catalog::http_server_request_duration_seconds(method, name, code, self.error_type)
    }
}

/// Few exist for one name, so a list is searched faster than a table.
type ByOutcome = Vec<(Outcome, Histogram)>;

/// The durations of one route.
#[derive(Debug)]
pub(super) struct Durations {
    route: &'static str,
    own: RwLock<ByOutcome>,
    named: RwLock<Named>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Named {
    by_name: HashMap<Box<str>, ByOutcome>,
    series: usize,
}

impl Durations {
    pub(super) fn of(route: &'static str) -> Self {
        let dropped = catalog::firedrill_label_values_dropped_total("http_route");
        dropped.absolute(0);
        Self {
            route,
            own: RwLock::default(),
            named: RwLock::default(),
            dropped,
        }
    }

    /// The histogram of requests that ended so and are counted under `name`, or under that of their route.
    pub(super) fn histogram(&self, name: Option<&str>, outcome: Outcome) -> Histogram {
        let named = name.and_then(|name| self.named(cut(name), outcome));
        named.unwrap_or_else(|| self.own(outcome))
    }

    fn own(&self, outcome: Outcome) -> Histogram {
        let known = self.own.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = find(&known, outcome) {
            return histogram;
        }
        drop(known);
        let mut known = self.own.write().unwrap_or_else(PoisonError::into_inner);
        // Another request may have been quicker.
        find(&known, outcome).unwrap_or_else(|| {
            let made = outcome.series(self.route);
            known.push((outcome, made.clone()));
            made
        })
    }

    /// Those of another name; none if it is new and there are too many.
    fn named(&self, name: &str, outcome: Outcome) -> Option<Histogram> {
        let search = |named: &Named| {
            let of_name = named.by_name.get(name)?;
            find(of_name, outcome)
        };
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = search(&named) {
            return Some(histogram);
        }
        drop(named);
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        search(&named).or_else(|| {
            if named.series >= NAMED_MAX {
                self.dropped.increment(1);
                return None;
            }
            let made = outcome.series(name.to_owned());
            let of_name = named.by_name.entry(name.into()).or_default();
            of_name.push((outcome, made.clone()));
            named.series += 1;
            Some(made)
        })
    }
}

fn find(known: &ByOutcome, outcome: Outcome) -> Option<Histogram> {
    let found = known.iter().find(|(of, _)| *of == outcome);
    found.map(|(_, histogram)| histogram.clone())
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Outcome = Outcome {
        method: 0,
        status: 404,
        error_type: "",
    };

    fn series(durations: &Durations) -> (usize, usize) {
        let named = durations.named.read().unwrap();
        (durations.own.read().unwrap().len(), named.series)
    }

    #[test]
    fn names_that_end_nowhere_end_at_a_bound() {
        let durations = Durations::of("unmatched");
        for number in 0..2 * NAMED_MAX {
            drop(durations.histogram(Some(&format!("/{number}")), ANSWERED));
        }
        assert_eq!(series(&durations), (1, NAMED_MAX));
        // Those that have a place keep it.
        drop(durations.histogram(Some("/0"), ANSWERED));
        assert_eq!(series(&durations), (1, NAMED_MAX));
    }

    #[test]
    fn each_outcome_of_a_name_takes_a_place() {
        let durations = Durations::of("unmatched");
        for status in [404, 404, 405, 503] {
            let outcome = Outcome { status, ..ANSWERED };
            drop(durations.histogram(Some("/a"), outcome));
            drop(durations.histogram(None, outcome));
        }
        assert_eq!(series(&durations), (3, 3));
    }

    #[test]
    fn a_long_name_is_cut() {
        let durations = Durations::of("unmatched");
        let long = "/".repeat(NAME_BYTES_MAX - 1) + "ä";
        drop(durations.histogram(Some(&long), ANSWERED));
        let named = durations.named.read().unwrap();
        assert!(named.by_name.keys().all(|name| name.len() < NAME_BYTES_MAX));
    }
}
