//! The leaves of the parser's tree: selectors, times, durations, groupings and operators.

use std::time::{Duration, SystemTime};

use promql_parser::label;
use promql_parser::parser::token::{self, TokenId};
use promql_parser::parser::{
    AtModifier, BinModifier, LabelModifier, Offset, VectorMatchCardinality, VectorSelector,
};

use super::marks::{self, Condition};
use super::patterns::Patterns;
use super::{At, Cardinality, Grouping, Operator, SetOperator, When};
use crate::error::QueryError;
use crate::labels::METRIC_NAME;
use crate::store::Matcher;

/// The longest range, offset or step: 1 000 years. Sums of a few stay far from the ends of 64 bits.
const DURATION_MAX_MS: i64 = 1_000 * 366 * 24 * 3_600 * 1_000;

type Result<T> = std::result::Result<T, QueryError>;

pub(super) fn matchers(selector: &VectorSelector, patterns: &Patterns) -> Result<Vec<Matcher>> {
    if !selector.matchers.or_matchers.is_empty() {
        return Err(QueryError::Unsupported(
            "\"or\" between label matchers".into(),
        ));
    }
    let name = selector.name.as_deref();
    let by_name = name.map(|name| Ok(Matcher::equal(METRIC_NAME, name)));
    let by_label = selector.matchers.matchers.iter().map(|matcher| {
        let name = &*matcher.name;
        let (condition, value) = condition(matcher)?;
        Ok(match condition {
            Condition::Equal => Matcher::equal(name, value),
            Condition::NotEqual => Matcher::not_equal(name, value),
            Condition::Matches => Matcher::with_pattern(name, patterns.pattern(value)?),
            Condition::MatchesNot => Matcher::without_pattern(name, patterns.pattern(value)?),
        })
    });
    let matchers: Vec<Matcher> = by_name.into_iter().chain(by_label).collect::<Result<_>>()?;
    if matchers.iter().all(|matcher| matcher.is_match("")) {
        return Err(QueryError::Parse(
            "a selector must have a name or a matcher that an empty label does not fulfil".into(),
        ));
    }
    Ok(matchers)
}

/// The operator and the value of a matcher. That a metric's name stands in braces by itself is an equality.
pub(super) fn condition(matcher: &label::Matcher) -> Result<(Condition, &str)> {
    match marks::read(&matcher.value) {
        Some(read) => Ok(read),
        None if matcher.name == METRIC_NAME => Ok((Condition::Equal, &matcher.value)),
        None => Err(QueryError::Parse(format!(
            "the matcher of {:?} has no value that can be read",
            matcher.name
        ))),
    }
}

pub(super) fn when(at: Option<&AtModifier>, offset: Option<&Offset>) -> Result<When> {
    let at = match at {
        None => None,
        Some(AtModifier::Start) => Some(At::Start),
        Some(AtModifier::End) => Some(At::End),
        Some(AtModifier::At(time)) => {
            let ms = match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => milliseconds(after, "the time after @")?,
                Err(before) => -milliseconds(before.duration(), "the time after @")?,
            };
            Some(At::Time(ms))
        }
    };
    let offset = match offset {
        None => 0,
        Some(Offset::Pos(back)) => milliseconds(*back, "the offset")?,
        Some(Offset::Neg(ahead)) => -milliseconds(*ahead, "the offset")?,
    };
    Ok(When { at, offset })
}

fn milliseconds(duration: Duration, what: &str) -> Result<i64> {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    if ms > DURATION_MAX_MS {
        return Err(QueryError::Parse(format!(
            "{what} is {duration:?}; at most 1000 years are allowed"
        )));
    }
    Ok(ms)
}

pub(super) fn positive(duration: Duration, what: &str) -> Result<i64> {
    match milliseconds(duration, what)? {
        0 => Err(QueryError::Parse(format!("{what} must be at least 1ms"))),
        ms => Ok(ms),
    }
}

pub(super) fn grouping(modifier: Option<&LabelModifier>) -> Grouping {
    match modifier {
        None => Grouping::Only(Vec::new()),
        Some(LabelModifier::Include(names)) => Grouping::Only(names.labels.clone()),
        Some(LabelModifier::Exclude(names)) => Grouping::Except(names.labels.clone()),
    }
}

pub(super) fn matching(modifier: Option<&BinModifier>) -> Result<(Grouping, Cardinality)> {
    let Some(modifier) = modifier else {
        return Ok((Grouping::Except(Vec::new()), Cardinality::OneToOne));
    };
    let fill = &modifier.fill_values;
    if fill.lhs.is_some() || fill.rhs.is_some() {
        return Err(QueryError::Unsupported(
            "the experimental fill modifier".into(),
        ));
    }
    let key = match &modifier.matching {
        None => Grouping::Except(Vec::new()),
        some => grouping(some.as_ref()),
    };
    let cardinality = match &modifier.card {
        VectorMatchCardinality::ManyToOne(include) => {
            Cardinality::ManyToOne(include.labels.clone())
        }
        VectorMatchCardinality::OneToMany(include) => {
            Cardinality::OneToMany(include.labels.clone())
        }
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {
            Cardinality::OneToOne
        }
    };
    Ok((key, cardinality))
}

pub(super) fn operator(id: TokenId) -> Option<Operator> {
    Some(match id {
        token::T_ADD => Operator::Add,
        token::T_SUB => Operator::Subtract,
        token::T_MUL => Operator::Multiply,
        token::T_DIV => Operator::Divide,
        token::T_MOD => Operator::Modulo,
        token::T_POW => Operator::Power,
        token::T_ATAN2 => Operator::Atan2,
        token::T_EQLC => Operator::Equal,
        token::T_NEQ => Operator::NotEqual,
        token::T_GTR => Operator::Greater,
        token::T_LSS => Operator::Less,
        token::T_GTE => Operator::GreaterOrEqual,
        token::T_LTE => Operator::LessOrEqual,
        _ => return None,
    })
}

pub(super) fn set_operator(id: TokenId) -> Option<SetOperator> {
    Some(match id {
        token::T_LAND => SetOperator::And,
        token::T_LOR => SetOperator::Or,
        token::T_LUNLESS => SetOperator::Unless,
        _ => return None,
    })
}
