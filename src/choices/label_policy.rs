//! Label policy: what a metric calls a request that no route wants.
//!
//! # The problem
//! A request that matched a route is counted under the route's template, `/items/{id}`, however many items
//! there are. A request that matched none has no template, and still it must be counted under some name.
//!
//! # What breaks
//! The path is at hand, and it looks like the more exact answer. But it is the client's to choose: whoever
//! asks for a page that was never there makes a time series, which the process keeps until it ends, and
//! which every scrape carries from then on. No request fails and none is slower. What grows is the text of
//! `/metrics`, the time that a scrape takes, the memory of the service, and most of all that of whoever
//! scrapes it.
//!
//! # Under load
//! A histogram of 18 buckets is 20 lines for each path. A crawler that asks for 50 made-up pages a second
//! adds a thousand series a second, and half a million in ten minutes, to a service that had two thousand.
//! In life this ends with a scrape that takes longer than it may, and then the watched service looks dead.
//! Here it ends earlier: the role gives no more than a thousand series to such names.
//!
//! # The cure
//! One name for all of them. Whoever wants to know which pages were asked for looks into a trace or a log,
//! which hold one event each and are thrown away in time. A series that exists is not taken back by better
//! code: it goes with the process that has it, so the fix is the deployment and then a restart.
//!
//! # Who was bitten
//! Prometheus' own client for Go, whose HTTP middleware counted by the method that the client sent
//! (CVE-2022-21698), and OpenTelemetry's for Go, by method and user agent (CVE-2023-45142): whoever sent
//! requests with invented ones filled the server's memory.

use super::{Choice, ChoiceOption};
use crate::telemetry::observe::UNMATCHED;

/// The row of this choice.
pub static CHOICE: Choice = Choice::new(
    "label_policy",
    &["shop"],
    "count a request that matches no route under its path",
    "count requests that match no route under one name",
    include_str!("label_policy.rs"),
);

/// What the label of a request for `path` says, of which `template` is the route that it matched, if any.
#[must_use]
pub fn label<'a>(option: ChoiceOption, template: Option<&'a str>, path: &'a str) -> &'a str {
    match option {
        ChoiceOption::Poor => template.unwrap_or(path),
        ChoiceOption::Sound => template.unwrap_or(UNMATCHED),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The values of the label after a thousand looks at items and a thousand at pages that are not there.
    fn values(option: ChoiceOption) -> usize {
        let items = (0..1_000).map(|id| (Some("/items/{id}"), format!("/items/{id}")));
        let nowhere = (0..1_000).map(|page| (None, format!("/pages/{page}")));
        let asked: Vec<_> = items.chain(nowhere).collect();
        let labels = asked.iter().map(|(of, path)| label(option, *of, path));
        labels.collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn poor_lets_clients_make_as_many_series_as_they_like() {
        assert_eq!(values(ChoiceOption::Poor), 1_001);
    }

    #[test]
    fn sound_has_a_name_for_each_route_and_one_for_the_rest() {
        assert_eq!(values(ChoiceOption::Sound), 2);
    }
}
