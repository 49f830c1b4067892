//! Plans: what a query does, checked and typed.
//!
//! The parser's tree may hold any expression anywhere. A plan cannot: where the evaluation needs a number there is a
//! [`Scalar`], where it needs samples of several times there is a [`Range`]. So the types were checked once, when the
//! query was read, unknown and unsupported functions were refused by then, and the evaluation has no case that
//! "cannot happen".

mod build;
mod calls;
mod guard;
mod marks;
mod parts;
mod patterns;
mod selectors;
mod template;

pub(crate) use build::{plan, selector_matchers};
pub(crate) use template::Template;

use regex::Regex;

use crate::eval::over_time::RangeFunction;
use crate::labels::Labels;
use crate::store::Matcher;

/// A whole query.
#[derive(Debug)]
pub(crate) enum Root {
    Scalar(Scalar),
    Vector(Vector),
    Range(Range),
    Text(String),
}

/// An expression whose value is one number at each time.
#[derive(Debug)]
pub(crate) enum Scalar {
    Number(f64),
    /// The time of the evaluation, in seconds.
    Time,
    Negate(Box<Scalar>),
    Binary(Operator, Box<Scalar>, Box<Scalar>),
    /// `scalar(v)`
    FromVector(Box<Vector>),
}

/// An expression whose value is a set of series with one sample each at each time.
#[derive(Debug)]
pub(crate) enum Vector {
    Select(Selector),
    /// `vector(s)`
    FromScalar(Scalar),
    /// A function of the value alone, which renames the series.
    Map(fn(f64) -> f64, Box<Vector>),
    /// A function of the value and of scalars.
    MapWith(fn(f64, &[f64]) -> Option<f64>, Box<Vector>, Vec<Scalar>),
    /// `timestamp(selector)`: when the sample was taken.
    SampleTime(Selector),
    /// `timestamp(v)` of anything else: the time of the evaluation.
    EvaluationTime(Box<Vector>),
    OverTime(Box<OverTime>),
    Absent(Box<Vector>, Labels),
    AbsentOverTime(Box<Range>, Labels),
    Buckets(BucketFunction, Box<Vector>),
    Relabel(Relabel, Box<Vector>),
    Sort {
        of: Box<Vector>,
        descending: bool,
    },
    Aggregate(Box<Aggregate>),
    WithScalar(Box<WithScalar>),
    Match(Box<Match>),
    Set(Box<Set>),
}

/// An expression whose value is a set of series with samples of a span of time.
#[derive(Debug)]
pub(crate) enum Range {
    Select {
        selector: Selector,
        /// In milliseconds, above zero.
        range: i64,
    },
    Subquery {
        of: Box<Vector>,
        range: i64,
        /// In milliseconds; without it, the engine's default.
        step: Option<i64>,
        when: When,
    },
}

/// Which series, and when.
#[derive(Debug)]
pub(crate) struct Selector {
    /// Which of the query's selectors it is, from 0.
    pub(crate) number: usize,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) when: When,
}

/// What `@` and `offset` make of the time of the evaluation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct When {
    pub(crate) at: Option<At>,
    /// Milliseconds back; negative: ahead.
    pub(crate) offset: i64,
}

/// `@`
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    /// The first time of the whole query.
    Start,
    /// The last time of the whole query.
    End,
    /// Milliseconds since 1970.
    Time(i64),
}

/// A function over the samples of a span of time.
#[derive(Debug)]
pub(crate) struct OverTime {
    pub(crate) function: RangeFunction,
    pub(crate) parameter: Option<Scalar>,
    pub(crate) of: Range,
}

/// A function over the buckets of classic histograms.
#[derive(Debug)]
pub(crate) enum BucketFunction {
    Quantile(Scalar),
    Fraction { lower: Scalar, upper: Scalar },
}

/// A function that changes a label.
#[derive(Debug)]
pub(crate) enum Relabel {
    Replace {
        target: String,
        replacement: Template,
        source: String,
        pattern: Regex,
    },
    Join {
        target: String,
        separator: String,
        sources: Vec<String>,
    },
}

/// An operator that yields a number, or compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

/// An operator between a vector and a scalar.
#[derive(Debug)]
pub(crate) struct WithScalar {
    pub(crate) operator: Operator,
    pub(crate) vector: Vector,
    pub(crate) scalar: Scalar,
    pub(crate) scalar_is_left: bool,
    pub(crate) returns_bool: bool,
}

/// An operator between the series of two vectors that match.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) operator: Operator,
    pub(crate) left: Vector,
    pub(crate) right: Vector,
    pub(crate) key: Grouping,
    pub(crate) cardinality: Cardinality,
    pub(crate) returns_bool: bool,
}

/// How many series of one side may match one of the other.
#[derive(Debug)]
pub(crate) enum Cardinality {
    OneToOne,
    /// `group_left`, with the labels taken from the right side.
    ManyToOne(Vec<String>),
    /// `group_right`, with the labels taken from the left side.
    OneToMany(Vec<String>),
}

/// `and`, `or`, `unless`
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) operator: SetOperator,
    pub(crate) left: Vector,
    pub(crate) right: Vector,
    pub(crate) key: Grouping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOperator {
    And,
    Or,
    Unless,
}

/// Which labels decide whether series belong together.
#[derive(Debug)]
pub(crate) enum Grouping {
    /// `by` and `on`
    Only(Vec<String>),
    /// `without` and `ignoring`; the metric's name never counts.
    Except(Vec<String>),
}

impl Grouping {
    /// The labels of a series that count.
    pub(crate) fn key(&self, labels: &Labels) -> Labels {
        match self {
            Self::Only(names) if names.is_empty() => Labels::default(),
            Self::Only(names) => labels.filtered(|name| names.iter().any(|only| only == name)),
            Self::Except(names) => labels.filtered(|name| {
                name != crate::labels::METRIC_NAME && !names.iter().any(|except| except == name)
            }),
        }
    }
}

/// One sample for each group of series, or some of the group's.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) aggregator: Aggregator,
    pub(crate) of: Vector,
    pub(crate) grouping: Grouping,
}

#[derive(Debug)]
pub(crate) enum Aggregator {
    /// A function of a group's values.
    Values(fn(&mut [f64]) -> f64),
    Quantile(Scalar),
    CountValues(String),
    /// `topk` and `bottomk`
    Extremes {
        count: Scalar,
        largest: bool,
    },
}
