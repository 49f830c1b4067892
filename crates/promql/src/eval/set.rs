//! Set operators: `and`, `or` and `unless`.

use std::collections::HashMap;

use super::column::{self, Column};
use super::{Evaluator, Grid, Result};
use crate::labels::Labels;
use crate::plan::{Grouping, Set, SetOperator};

impl Evaluator<'_> {
    pub(super) fn set(&self, node: &Set, grid: Grid) -> Result<Vec<Column>> {
        let mut left = self.vector(&node.left, grid)?;
        let mut right = self.vector(&node.right, grid)?;
        self.budget.work((left.len() + right.len()) * grid.steps)?;
        match node.operator {
            SetOperator::And => {
                let there = presence(&node.key, &right, grid);
                filter(&node.key, &mut left, &there, true);
                Ok(left)
            }
            SetOperator::Unless => {
                let there = presence(&node.key, &right, grid);
                filter(&node.key, &mut left, &there, false);
                Ok(left)
            }
            SetOperator::Or => {
                let there = presence(&node.key, &left, grid);
                filter(&node.key, &mut right, &there, false);
                left.append(&mut right);
                column::merge(left)
            }
        }
    }
}

/// For each group: at which steps any of its series has a sample.
fn presence(key: &Grouping, columns: &[Column], grid: Grid) -> HashMap<Labels, Vec<bool>> {
    let mut groups: HashMap<Labels, Vec<bool>> = HashMap::new();
    for column in columns {
        let steps = groups
            .entry(key.key(&column.labels))
            .or_insert_with(|| vec![false; grid.steps]);
        for (there, cell) in steps.iter_mut().zip(&column.cells) {
            *there |= cell.is_some();
        }
    }
    groups
}

/// Keeps the samples whose group is, or is not, there at their step.
fn filter(
    key: &Grouping,
    columns: &mut Vec<Column>,
    there: &HashMap<Labels, Vec<bool>>,
    wanted: bool,
) {
    for column in &mut *columns {
        match there.get(&key.key(&column.labels)) {
            Some(steps) => {
                for (cell, there) in column.cells.iter_mut().zip(steps) {
                    if *there != wanted {
                        *cell = None;
                    }
                }
            }
            None if wanted => column.cells.fill(None),
            None => {}
        }
    }
    columns.retain(|column| !column.is_empty());
}
