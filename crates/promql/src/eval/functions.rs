//! Functions of instant vectors: of values, of labels, of presence and of order.

use super::column::{self, Column};
use super::math::nan_last;
use super::{Evaluator, Grid, Result};
use crate::error::QueryError;
use crate::labels::Labels;
use crate::plan::{Relabel, Scalar, Vector};
use crate::value::Sample;

/// The most bytes of a label's value that a query makes.
const LABEL_BYTES_MAX: usize = 64 * 1024;

impl Evaluator<'_> {
    pub(crate) fn as_vector(&self, scalar: &Scalar, grid: Grid) -> Result<Vec<Column>> {
        let cells = self.scalar(scalar, grid)?.into_iter().map(Some).collect();
        Ok(vec![Column {
            labels: Labels::default(),
            cells,
        }])
    }

    pub(super) fn map(
        &self,
        function: fn(f64) -> f64,
        of: &Vector,
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let mut columns = self.vector(of, grid)?;
        for column in &mut columns {
            self.budget.work(grid.steps)?;
            for value in column.cells.iter_mut().flatten() {
                *value = function(*value);
            }
        }
        column::without_metadata(columns)
    }

    pub(super) fn map_with(
        &self,
        function: fn(f64, &[f64]) -> Option<f64>,
        of: &Vector,
        scalars: &[Scalar],
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let mut columns = self.vector(of, grid)?;
        let given: Vec<Vec<f64>> = scalars
            .iter()
            .map(|scalar| self.scalar(scalar, grid))
            .collect::<Result<_>>()?;
        for step in 0..grid.steps {
            self.budget.work(columns.len())?;
            let now: Vec<f64> = given.iter().map(|values| values[step]).collect();
            for column in &mut columns {
                let cell = &mut column.cells[step];
                *cell = cell.and_then(|value| function(value, &now));
            }
        }
        columns.retain(|column| !column.is_empty());
        column::without_metadata(columns)
    }

    pub(super) fn evaluation_time(&self, of: &Vector, grid: Grid) -> Result<Vec<Column>> {
        let mut columns = self.vector(of, grid)?;
        for column in &mut columns {
            self.budget.work(grid.steps)?;
            for (cell, time) in column.cells.iter_mut().zip(grid.times()) {
                *cell = cell.map(|_| time as f64 / 1e3);
            }
        }
        column::without_metadata(columns)
    }

    pub(super) fn absent(&self, of: &Vector, labels: &Labels, grid: Grid) -> Result<Vec<Column>> {
        let columns = self.vector(of, grid)?;
        let mut cells = Vec::with_capacity(grid.steps);
        for step in 0..grid.steps {
            self.budget.work(columns.len())?;
            let present = columns.iter().any(|column| column.cells[step].is_some());
            cells.push((!present).then_some(1.0));
        }
        Ok(vec![Column {
            labels: labels.clone(),
            cells,
        }])
    }

    /// Sorts by value. Over a range there is no one order, and the result is sorted by labels.
    pub(super) fn sort(&self, of: &Vector, descending: bool, grid: Grid) -> Result<Vec<Column>> {
        let mut columns = self.vector(of, grid)?;
        if grid.ordered {
            columns.retain(|column| !column.is_empty());
            columns.sort_by(|a, b| {
                let (a, b) = (
                    a.cells[0].unwrap_or(f64::NAN),
                    b.cells[0].unwrap_or(f64::NAN),
                );
                let order = a.partial_cmp(&b);
                nan_last(
                    a,
                    b,
                    if descending {
                        order.map(std::cmp::Ordering::reverse)
                    } else {
                        order
                    },
                )
            });
        }
        Ok(columns)
    }

    pub(super) fn relabel(&self, change: &Relabel, of: &Vector, grid: Grid) -> Result<Vec<Column>> {
        let mut columns = self.vector(of, grid)?;
        columns.retain(|column| !column.is_empty());
        for column in &mut columns {
            if let Some((target, value)) = self.made_label(change, &column.labels)? {
                // Text takes room as samples do.
                self.budget.samples(value.len() / size_of::<Sample>())?;
                column.labels = column.labels.with(target, &value);
            }
            self.budget.work(1)?;
        }
        column::merge(columns)
    }

    /// The label that the change makes, by name and value, or `None` if it does not apply.
    fn made_label<'a>(
        &self,
        change: &'a Relabel,
        labels: &Labels,
    ) -> Result<Option<(&'a str, String)>> {
        let made = match change {
            Relabel::Replace {
                target,
                replacement,
                source,
                pattern,
            } => {
                let value = labels.get(source);
                self.budget.work(value.len())?;
                let Some(found) = pattern.captures(value) else {
                    return Ok(None);
                };
                (target, replacement.expand(&found, LABEL_BYTES_MAX))
            }
            Relabel::Join {
                target,
                separator,
                sources,
            } => {
                let values: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
                let separators = separator.len() * values.len().saturating_sub(1);
                let length = values.iter().map(|value| value.len()).sum::<usize>() + separators;
                let is_short = length <= LABEL_BYTES_MAX;
                (
                    target,
                    is_short.then(|| values.join(separator)).ok_or(length),
                )
            }
        };
        match made {
            (target, Ok(value)) => Ok(Some((target, value))),
            (target, Err(length)) => Err(QueryError::Execution(format!(
                "the value of the label {target:?} would have {length} bytes; at most {LABEL_BYTES_MAX} are allowed"
            ))),
        }
    }
}
