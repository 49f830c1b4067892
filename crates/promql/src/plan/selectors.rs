//! A walk over a plan to the selectors in it.

use super::{Aggregate, Aggregator, BucketFunction, Range, Root, Scalar, Selector, Vector};

impl Root {
    /// Each selector, from left to right.
    pub(crate) fn selectors(&self) -> Vec<&Selector> {
        let mut found = Found(Vec::new());
        match self {
            Self::Scalar(scalar) => found.scalar(scalar),
            Self::Vector(vector) => found.vector(vector),
            Self::Range(range) => found.range(range),
            Self::Text(_) => {}
        }
        found.0
    }
}

struct Found<'a>(Vec<&'a Selector>);

impl<'a> Found<'a> {
    fn selector(&mut self, selector: &'a Selector) {
        self.0.push(selector);
    }

    fn scalar(&mut self, scalar: &'a Scalar) {
        match scalar {
            Scalar::Number(_) | Scalar::Time => {}
            Scalar::Negate(of) => self.scalar(of),
            Scalar::FromVector(of) => self.vector(of),
            Scalar::Binary(_, left, right) => {
                self.scalar(left);
                self.scalar(right);
            }
        }
    }

    fn range(&mut self, range: &'a Range) {
        match range {
            Range::Select { selector, .. } => self.selector(selector),
            Range::Subquery { of, .. } => self.vector(of),
        }
    }

    fn vector(&mut self, vector: &'a Vector) {
        match vector {
            Vector::Select(selector) | Vector::SampleTime(selector) => self.selector(selector),
            Vector::FromScalar(scalar) => self.scalar(scalar),
            Vector::Map(_, of)
            | Vector::EvaluationTime(of)
            | Vector::Absent(of, _)
            | Vector::Relabel(_, of)
            | Vector::Sort { of, .. } => self.vector(of),
            Vector::MapWith(_, of, scalars) => {
                self.vector(of);
                for scalar in scalars {
                    self.scalar(scalar);
                }
            }
            Vector::OverTime(node) => {
                node.parameter.iter().for_each(|scalar| self.scalar(scalar));
                self.range(&node.of);
            }
            Vector::AbsentOverTime(of, _) => self.range(of),
            Vector::Buckets(function, of) => {
                self.buckets(function);
                self.vector(of);
            }
            Vector::Aggregate(node) => self.aggregate(node),
            Vector::WithScalar(node) if node.scalar_is_left => {
                self.scalar(&node.scalar);
                self.vector(&node.vector);
            }
            Vector::WithScalar(node) => {
                self.vector(&node.vector);
                self.scalar(&node.scalar);
            }
            Vector::Match(node) => {
                self.vector(&node.left);
                self.vector(&node.right);
            }
            Vector::Set(node) => {
                self.vector(&node.left);
                self.vector(&node.right);
            }
        }
    }

    fn buckets(&mut self, function: &'a BucketFunction) {
        match function {
            BucketFunction::Quantile(q) => self.scalar(q),
            BucketFunction::Fraction { lower, upper } => {
                self.scalar(lower);
                self.scalar(upper);
            }
        }
    }

    fn aggregate(&mut self, node: &'a Aggregate) {
        match &node.aggregator {
            Aggregator::Quantile(parameter)
            | Aggregator::Extremes {
                count: parameter, ..
            } => self.scalar(parameter),
            Aggregator::Values(_) | Aggregator::CountValues(_) => {}
        }
        self.vector(&node.of);
    }
}
