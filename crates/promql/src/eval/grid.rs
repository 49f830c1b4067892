//! The times at which an expression is evaluated.

/// Times at equal distances, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    /// At least 1.
    pub(crate) step: i64,
    /// How many times there are.
    pub(crate) steps: usize,
    /// Whether this is the time of an instant query itself: its answer has the order that `sort` and `topk` give it.
    /// Neither a range query nor a subquery keeps one, not even with a single step.
    pub(crate) ordered: bool,
}

impl Grid {
    pub(crate) fn instant(time: i64) -> Self {
        Self {
            start: time,
            step: 1,
            steps: 1,
            ordered: true,
        }
    }

    /// The times from `start` to `end`; `None` if there are more than `most`.
    pub(crate) fn between(start: i64, end: i64, step: i64, most: usize) -> Option<Self> {
        let steps = if end < start {
            0
        } else {
            usize::try_from(end.abs_diff(start) / step.unsigned_abs().max(1))
                .unwrap_or(usize::MAX)
                .saturating_add(1)
        };
        (steps <= most).then_some(Self {
            start,
            step,
            steps,
            ordered: false,
        })
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..)
            .take(self.steps)
            .map(move |step: i64| self.start + self.step * step)
    }

    pub(crate) fn has_one_step(self) -> bool {
        self.steps == 1
    }
}
