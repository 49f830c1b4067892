//! Operators on two numbers, and between a vector and a number.

use super::column::{self, Column};
use super::{Evaluator, Grid, Result};
use crate::plan::{Operator, WithScalar};

impl Operator {
    pub(super) fn is_comparison(self) -> bool {
        self.compare(0.0, 0.0).is_some()
    }

    /// Whether the comparison holds; `None` for an operator that is none.
    #[expect(clippy::float_cmp, reason = "== of PromQL is exact")]
    fn compare(self, a: f64, b: f64) -> Option<bool> {
        Some(match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Greater => a > b,
            Self::Less => a < b,
            Self::GreaterOrEqual => a >= b,
            Self::LessOrEqual => a <= b,
            _ => return None,
        })
    }

    /// The result as a number: 1 or 0 for a comparison.
    pub(super) fn number(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Modulo => a % b,
            Self::Power => a.powf(b),
            Self::Atan2 => a.atan2(b),
            _ => f64::from(u8::from(self.compare(a, b) == Some(true))),
        }
    }

    /// The result for a sample: a comparison keeps the sample's own value or drops it, unless it `returns_bool`.
    pub(super) fn sample(self, a: f64, b: f64, own: f64, returns_bool: bool) -> Option<f64> {
        match self.compare(a, b) {
            Some(holds) if !returns_bool => holds.then_some(own),
            _ => Some(self.number(a, b)),
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn with_scalar(&self, node: &WithScalar, grid: Grid) -> Result<Vec<Column>> {
        let mut columns = self.vector(&node.vector, grid)?;
        let scalars = self.scalar(&node.scalar, grid)?;
        for column in &mut columns {
            self.budget.work(grid.steps)?;
            for (cell, scalar) in column.cells.iter_mut().zip(&scalars) {
                *cell = cell.and_then(|value| {
                    let (left, right) = if node.scalar_is_left {
                        (*scalar, value)
                    } else {
                        (value, *scalar)
                    };
                    let operator = node.operator;
                    operator.sample(left, right, value, node.returns_bool)
                });
            }
        }
        columns.retain(|column| !column.is_empty());
        if node.operator.is_comparison() && !node.returns_bool {
            return Ok(columns);
        }
        column::without_metadata(columns)
    }
}
