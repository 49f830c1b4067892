//! Functions of instant vectors: of values, of labels, of presence and of order.

use super::column::{self, Column};
use super::math::nan_last;
use super::{Evaluator, Grid, Result};
use crate::labels::Labels;
use crate::plan::{Relabel, Scalar, Vector};

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
        if grid.is_instant() {
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
            self.budget.work(1)?;
            if let Some(labels) = relabelled(change, &column.labels) {
                column.labels = labels;
            }
        }
        column::merge(columns)
    }
}

/// The labels after the change, or `None` if it does not apply.
fn relabelled(change: &Relabel, labels: &Labels) -> Option<Labels> {
    match change {
        Relabel::Replace {
            target,
            replacement,
            source,
            pattern,
        } => {
            let captures = pattern.captures(labels.get(source))?;
            let mut value = String::new();
            captures.expand(replacement, &mut value);
            Some(labels.with(target, &value))
        }
        Relabel::Join {
            target,
            separator,
            sources,
        } => {
            let values: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
            Some(labels.with(target, &values.join(separator)))
        }
    }
}
