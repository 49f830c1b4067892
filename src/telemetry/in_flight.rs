//! The requests under way at a route, and which of them is the oldest.
//!
//! A request that hangs has no duration yet and shows in no histogram: the worst outage would look like silence.
//! Noting a start and taking it off again cost the same however many are under way; only a scrape looks at all.

use std::time::Instant;

/// When each request under way at a route started: a request that hangs has no duration yet and shows nowhere
/// else.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    started: Vec<Option<Instant>>,
    free: Vec<usize>,
}

impl InFlight {
    /// Notes a start, and says where.
    pub(super) fn enter(&mut self, started: Instant) -> usize {
        if let Some(place) = self.free.pop() {
            self.started[place] = Some(started);
            return place;
        }
        self.started.push(Some(started));
        self.started.len() - 1
    }

    pub(super) fn leave(&mut self, place: usize) {
        self.started[place] = None;
        self.free.push(place);
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.started.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_is_told_and_places_are_used_again() {
        let mut in_flight = InFlight::default();
        let first = Instant::now();
        let second = first + Duration::from_secs(1);
        assert_eq!(in_flight.oldest(), None);
        let place = in_flight.enter(first);
        in_flight.enter(second);
        assert_eq!(in_flight.oldest(), Some(first));
        in_flight.leave(place);
        assert_eq!(in_flight.oldest(), Some(second));
        assert_eq!(in_flight.enter(first), place);
    }
}
