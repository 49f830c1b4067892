//! From the parser's tree to a plan.

use std::cell::Cell;

use promql_parser::parser::token;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Expr, MatrixSelector, SubqueryExpr, VectorSelector, parse,
};

use super::guard::{self, DEPTH_MAX};
use super::marks;
use super::parts::{grouping, matchers, matching, operator, positive, set_operator, when};
use super::patterns::Patterns;
use super::{
    Aggregate, Aggregator, Grouping, Match, Range, Root, Scalar, Selector, Set, Vector, WithScalar,
    calls,
};
use crate::error::QueryError;
use crate::eval::math;
use crate::labels::valid_label_name;
use crate::store::Matcher;

type Result<T> = std::result::Result<T, QueryError>;

/// Reads a query.
pub(crate) fn plan(query: &str) -> Result<Root> {
    let tree = parse_guarded(query)?;
    let shared = Shared::default();
    let builder = Builder {
        depth: DEPTH_MAX,
        shared: &shared,
    };
    match strip(&tree) {
        Expr::StringLiteral(text) => Ok(Root::Text(text.val.clone())),
        Expr::MatrixSelector(_) | Expr::Subquery(_) => Ok(Root::Range(builder.range(&tree)?)),
        _ => Ok(match builder.any(&tree)? {
            Operand::Scalar(scalar) => Root::Scalar(scalar),
            Operand::Vector(vector) => Root::Vector(vector),
        }),
    }
}

/// Reads a selector such as `up{job="shop"}`, without `offset` or `@`.
pub(crate) fn selector_matchers(text: &str) -> Result<Vec<Matcher>> {
    match parse_guarded(text)? {
        Expr::VectorSelector(selector) if selector.at.is_none() && selector.offset.is_none() => {
            matchers(&selector, &Patterns::default())
        }
        _ => Err(QueryError::Parse(format!(
            "{text:?} is not a selector; it must look like name{{label=\"value\"}}"
        ))),
    }
}

fn parse_guarded(query: &str) -> Result<Expr> {
    let marked = guard::check(query)?;
    parse(&marked).map_err(|error| QueryError::Parse(marks::removed(&error)))
}

fn strip(expression: &Expr) -> &Expr {
    let mut inner = expression;
    while let Expr::Paren(parentheses) = inner {
        inner = &parentheses.expr;
    }
    inner
}

/// A number or a vector: what most operators take.
pub(super) enum Operand {
    Scalar(Scalar),
    Vector(Vector),
}

/// What all levels of a plan share.
#[derive(Debug, Default)]
struct Shared {
    patterns: Patterns,
    selectors: Cell<usize>,
}

/// Builds one level of a plan; knows how many levels are left below it.
#[derive(Clone, Copy)]
pub(super) struct Builder<'a> {
    depth: usize,
    shared: &'a Shared,
}

impl<'a> Builder<'a> {
    pub(super) fn patterns(self) -> &'a Patterns {
        &self.shared.patterns
    }

    pub(super) fn select(self, selector: &VectorSelector) -> Result<Selector> {
        let number = self.shared.selectors.get();
        self.shared.selectors.set(number + 1);
        Ok(Selector {
            number,
            matchers: matchers(selector, self.patterns())?,
            when: when(selector.at.as_ref(), selector.offset.as_ref())?,
        })
    }

    fn below(self) -> Result<Self> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(QueryError::Parse(format!(
                "the query nests more than {DEPTH_MAX} levels"
            ))),
        }
    }

    pub(super) fn any(self, expression: &Expr) -> Result<Operand> {
        let below = self.below()?;
        Ok(match strip(expression) {
            Expr::NumberLiteral(number) => Operand::Scalar(Scalar::Number(number.val)),
            Expr::Unary(unary) => match below.any(&unary.expr)? {
                Operand::Scalar(scalar) => Operand::Scalar(Scalar::Negate(Box::new(scalar))),
                Operand::Vector(vector) => {
                    Operand::Vector(Vector::Map(std::ops::Neg::neg, Box::new(vector)))
                }
            },
            Expr::Binary(binary) => below.binary(binary)?,
            Expr::Call(call) => calls::call(below, call)?,
            Expr::VectorSelector(selector) => {
                Operand::Vector(Vector::Select(below.select(selector)?))
            }
            Expr::Aggregate(aggregate) => {
                let aggregate = below.aggregate(aggregate)?;
                Operand::Vector(Vector::Aggregate(Box::new(aggregate)))
            }
            Expr::MatrixSelector(_) | Expr::Subquery(_) => {
                return Err(mismatch("an instant vector or a scalar", "a range vector"));
            }
            Expr::StringLiteral(_) => {
                return Err(mismatch("an instant vector or a scalar", "a string"));
            }
            Expr::Paren(_) | Expr::Extension(_) => {
                return Err(QueryError::Unsupported("this extension of PromQL".into()));
            }
        })
    }

    pub(super) fn vector(self, expression: &Expr) -> Result<Vector> {
        match self.any(expression)? {
            Operand::Vector(vector) => Ok(vector),
            Operand::Scalar(_) => Err(mismatch("an instant vector", "a scalar")),
        }
    }

    pub(super) fn scalar(self, expression: &Expr) -> Result<Scalar> {
        match self.any(expression)? {
            Operand::Scalar(scalar) => Ok(scalar),
            Operand::Vector(_) => Err(mismatch("a scalar", "an instant vector")),
        }
    }

    pub(super) fn range(self, expression: &Expr) -> Result<Range> {
        match strip(expression) {
            Expr::MatrixSelector(MatrixSelector { vs, range }) => Ok(Range::Select {
                selector: self.select(vs)?,
                range: positive(*range, "the range")?,
            }),
            Expr::Subquery(subquery) => self.below()?.subquery(subquery),
            _ => Err(QueryError::Parse(
                "expected a range vector such as name[5m]".into(),
            )),
        }
    }

    fn subquery(self, subquery: &SubqueryExpr) -> Result<Range> {
        let step = subquery.step.map(|step| positive(step, "the step"));
        Ok(Range::Subquery {
            of: Box::new(self.vector(&subquery.expr)?),
            range: positive(subquery.range, "the range")?,
            step: step.transpose()?,
            when: when(subquery.at.as_ref(), subquery.offset.as_ref())?,
        })
    }

    fn binary(self, binary: &BinaryExpr) -> Result<Operand> {
        let (left, right) = (self.any(&binary.lhs)?, self.any(&binary.rhs)?);
        let returns_bool = binary.return_bool();
        let id = binary.op.id();
        if let Some(operator) = set_operator(id) {
            let (Operand::Vector(left), Operand::Vector(right)) = (left, right) else {
                return Err(mismatch(
                    "instant vectors around a set operator",
                    "a scalar",
                ));
            };
            let key = matching(binary.modifier.as_ref())?.0;
            let set = Set {
                operator,
                left,
                right,
                key,
            };
            return Ok(Operand::Vector(Vector::Set(Box::new(set))));
        }
        let operator = operator(id)
            .ok_or_else(|| QueryError::Unsupported(format!("the operator {}", binary.op)))?;
        let with_scalar = |vector, scalar, scalar_is_left| {
            Operand::Vector(Vector::WithScalar(Box::new(WithScalar {
                operator,
                vector,
                scalar,
                scalar_is_left,
                returns_bool,
            })))
        };
        Ok(match (left, right) {
            (Operand::Scalar(left), Operand::Scalar(right)) => {
                Operand::Scalar(Scalar::Binary(operator, Box::new(left), Box::new(right)))
            }
            (Operand::Vector(vector), Operand::Scalar(scalar)) => {
                with_scalar(vector, scalar, false)
            }
            (Operand::Scalar(scalar), Operand::Vector(vector)) => with_scalar(vector, scalar, true),
            (Operand::Vector(left), Operand::Vector(right)) => {
                let (key, cardinality) = matching(binary.modifier.as_ref())?;
                Operand::Vector(Vector::Match(Box::new(Match {
                    operator,
                    left,
                    right,
                    key,
                    cardinality,
                    returns_bool,
                })))
            }
        })
    }

    fn aggregate(self, aggregate: &AggregateExpr) -> Result<Aggregate> {
        let parameter = || {
            aggregate
                .param
                .as_deref()
                .ok_or_else(|| QueryError::Parse(format!("{} needs a parameter", aggregate.op)))
        };
        let extremes = |largest| -> Result<Aggregator> {
            let count = self.scalar(parameter()?)?;
            Ok(Aggregator::Extremes { count, largest })
        };
        let aggregator = match aggregate.op.id() {
            token::T_SUM => Aggregator::Values(math::sum),
            token::T_AVG => Aggregator::Values(math::mean),
            token::T_MIN => Aggregator::Values(math::smallest),
            token::T_MAX => Aggregator::Values(math::largest),
            token::T_GROUP => Aggregator::Values(|_| 1.0),
            token::T_COUNT => Aggregator::Values(|values| values.len() as f64),
            token::T_STDVAR => Aggregator::Values(math::variance),
            token::T_STDDEV => Aggregator::Values(|values| math::variance(values).sqrt()),
            token::T_QUANTILE => Aggregator::Quantile(self.scalar(parameter()?)?),
            token::T_TOPK => extremes(true)?,
            token::T_BOTTOMK => extremes(false)?,
            token::T_COUNT_VALUES => Aggregator::CountValues(label_name(parameter()?)?),
            _ => {
                return Err(QueryError::Unsupported(format!(
                    "the experimental aggregation {}",
                    aggregate.op
                )));
            }
        };
        let mut grouping = grouping(aggregate.modifier.as_ref());
        if let (Aggregator::CountValues(label), Grouping::Only(names)) =
            (&aggregator, &mut grouping)
        {
            names.push(label.clone());
        }
        Ok(Aggregate {
            aggregator,
            of: self.vector(&aggregate.expr)?,
            grouping,
        })
    }
}

pub(super) fn text(expression: &Expr) -> Result<&str> {
    match strip(expression) {
        Expr::StringLiteral(literal) => Ok(&literal.val),
        _ => Err(QueryError::Parse("expected a string".into())),
    }
}

pub(super) fn label_name(expression: &Expr) -> Result<String> {
    let name = text(expression)?;
    if valid_label_name(name) {
        Ok(name.to_owned())
    } else {
        // For Prometheus this is no fault of the grammar.
        Err(QueryError::Execution(format!(
            "invalid label name {name:?}"
        )))
    }
}

/// The selector that an expression consists of, if it is one.
pub(super) fn plain_selector(expression: &Expr) -> Option<&VectorSelector> {
    match strip(expression) {
        Expr::VectorSelector(selector) => Some(selector),
        _ => None,
    }
}

/// The selector that an expression or its range consists of, parentheses aside.
pub(super) fn absent_selector(expression: &Expr) -> Option<&VectorSelector> {
    match strip(expression) {
        Expr::VectorSelector(selector) => Some(selector),
        Expr::MatrixSelector(matrix) => Some(&matrix.vs),
        _ => None,
    }
}

fn mismatch(expected: &str, got: &str) -> QueryError {
    QueryError::Parse(format!("expected {expected}, got {got}"))
}
