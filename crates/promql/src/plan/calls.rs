//! From a function call to a plan: which functions there are, and what they take.

use promql_parser::parser::{Call, Expr, VectorSelector};

use super::build::{self, Builder, Operand};
use super::marks::Condition;
use super::parts;
use super::template::Template;
use super::{BucketFunction, OverTime, Relabel, Scalar, Vector};
use crate::error::QueryError;
use crate::eval::math;
use crate::eval::over_time::RangeFunction;
use crate::eval::{date, over_time};
use crate::labels::{Labels, METRIC_NAME};

type Result<T> = std::result::Result<T, QueryError>;

pub(super) fn call(builder: Builder<'_>, call: &Call) -> Result<Operand> {
    let name = call.func.name;
    if call.func.experimental {
        return Err(QueryError::Unsupported(format!(
            "the experimental function {name}()"
        )));
    }
    let arguments = Arguments {
        builder,
        name,
        list: &call.args.args,
    };
    match name {
        "time" => return Ok(Operand::Scalar(Scalar::Time)),
        "pi" => return Ok(Operand::Scalar(Scalar::Number(std::f64::consts::PI))),
        "scalar" => {
            let of = Box::new(arguments.vector(0)?);
            return Ok(Operand::Scalar(Scalar::FromVector(of)));
        }
        _ => {}
    }
    let vector = if let Some(function) = math::function(name) {
        Vector::Map(function, Box::new(arguments.vector(0)?))
    } else if let Some(function) = date::function(name) {
        Vector::Map(function, Box::new(arguments.vector_or_time()?))
    } else if let Some(function) = over_time::function(name) {
        arguments.over_time(function)?
    } else {
        arguments.other()?
    };
    Ok(Operand::Vector(vector))
}

/// The arguments of a call. The parser has counted them and checked most of their types.
struct Arguments<'a> {
    builder: Builder<'a>,
    name: &'static str,
    list: &'a [Box<Expr>],
}

impl Arguments<'_> {
    fn get(&self, position: usize) -> Result<&Expr> {
        self.list
            .get(position)
            .map(|argument| &**argument)
            .ok_or_else(|| {
                QueryError::Parse(format!(
                    "{}() needs more than {} arguments",
                    self.name,
                    self.list.len()
                ))
            })
    }

    fn vector(&self, position: usize) -> Result<Vector> {
        self.builder.vector(self.get(position)?)
    }

    fn scalar(&self, position: usize) -> Result<Scalar> {
        self.builder.scalar(self.get(position)?)
    }

    fn text(&self, position: usize) -> Result<String> {
        Ok(build::text(self.get(position)?)?.to_owned())
    }

    fn label(&self, position: usize) -> Result<String> {
        build::label_name(self.get(position)?)
    }

    /// Functions of dates take the time of the evaluation if they are given nothing.
    fn vector_or_time(&self) -> Result<Vector> {
        if self.list.is_empty() {
            Ok(Vector::FromScalar(Scalar::Time))
        } else {
            self.vector(0)
        }
    }

    fn over_time(&self, function: RangeFunction) -> Result<Vector> {
        let (range, parameter) = match self.name {
            "quantile_over_time" => (1, Some(self.scalar(0)?)),
            "predict_linear" => (0, Some(self.scalar(1)?)),
            _ => (0, None),
        };
        Ok(Vector::OverTime(Box::new(OverTime {
            function,
            parameter,
            of: self.builder.range(self.get(range)?)?,
        })))
    }

    fn with(&self, function: fn(f64, &[f64]) -> Option<f64>) -> Result<Vector> {
        let scalars = (1..self.list.len()).map(|position| self.scalar(position));
        let of = Box::new(self.vector(0)?);
        Ok(Vector::MapWith(
            function,
            of,
            scalars.collect::<Result<_>>()?,
        ))
    }

    fn sort(&self, descending: bool) -> Result<Vector> {
        let of = Box::new(self.vector(0)?);
        Ok(Vector::Sort { of, descending })
    }

    fn buckets(&self, function: BucketFunction, of: usize) -> Result<Vector> {
        Ok(Vector::Buckets(function, Box::new(self.vector(of)?)))
    }

    fn other(&self) -> Result<Vector> {
        match self.name {
            "vector" => Ok(Vector::FromScalar(self.scalar(0)?)),
            "round" => self.with(math::round),
            "clamp" => self.with(math::clamp),
            "clamp_min" => self.with(|value, limits| Some(math::go_max(limits[0], value))),
            "clamp_max" => self.with(|value, limits| Some(math::go_min(limits[0], value))),
            "sort" => self.sort(false),
            "sort_desc" => self.sort(true),
            "timestamp" => Ok(match build::plain_selector(self.get(0)?) {
                Some(selector) => Vector::SampleTime(self.builder.select(selector)?),
                None => Vector::EvaluationTime(Box::new(self.vector(0)?)),
            }),
            "absent" => {
                let labels = absent_labels(self.get(0)?);
                Ok(Vector::Absent(Box::new(self.vector(0)?), labels))
            }
            "absent_over_time" => {
                let labels = absent_labels(self.get(0)?);
                let of = self.builder.range(self.get(0)?)?;
                Ok(Vector::AbsentOverTime(Box::new(of), labels))
            }
            "histogram_quantile" => self.buckets(BucketFunction::Quantile(self.scalar(0)?), 1),
            "histogram_fraction" => {
                let (lower, upper) = (self.scalar(0)?, self.scalar(1)?);
                self.buckets(BucketFunction::Fraction { lower, upper }, 2)
            }
            "label_replace" => self.label_replace(),
            "label_join" => self.label_join(),
            "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev"
            | "histogram_stdvar" => Err(QueryError::Unsupported(format!(
                "{}(), a function of native histograms,",
                self.name
            ))),
            name => Err(QueryError::Unsupported(format!("the function {name}()"))),
        }
    }

    fn label_replace(&self) -> Result<Vector> {
        let text = self.text(4)?;
        let invalid = |why| {
            QueryError::Execution(format!(
                "invalid regular expression in label_replace(): {text}: {why}"
            ))
        };
        let pattern = self.builder.patterns().regex(&text, invalid)?;
        let change = Relabel::Replace {
            target: self.label(1)?,
            replacement: Template::new(&self.text(2)?, &pattern),
            source: self.text(3)?,
            pattern,
        };
        Ok(Vector::Relabel(change, Box::new(self.vector(0)?)))
    }

    fn label_join(&self) -> Result<Vector> {
        let sources = (3..self.list.len()).map(|position| self.label(position));
        let change = Relabel::Join {
            target: self.label(1)?,
            separator: self.text(2)?,
            sources: sources.collect::<Result<_>>()?,
        };
        Ok(Vector::Relabel(change, Box::new(self.vector(0)?)))
    }
}

/// What is known of the series that are absent: the labels that the selector demands, unless it demands two things of
/// one label.
fn absent_labels(expression: &Expr) -> Labels {
    let Some(VectorSelector { matchers, .. }) = build::absent_selector(expression) else {
        return Labels::default();
    };
    let mut seen: Vec<&str> = Vec::new();
    let mut labels = Labels::default();
    for matcher in &matchers.matchers {
        if matcher.name == METRIC_NAME {
            continue;
        }
        labels = match parts::condition(matcher) {
            Ok((Condition::Equal, value)) if !seen.contains(&&*matcher.name) => {
                seen.push(&matcher.name);
                labels.with(&matcher.name, value)
            }
            _ => labels.with(&matcher.name, ""),
        };
    }
    labels
}
