//! Aggregations: from the series of a group to one, or to some of them.

use std::collections::HashMap;

use super::column::{self, Cells, Column};
use super::math::{self, nan_last};
use super::{Evaluator, Grid, Result};
use crate::error::QueryError;
use crate::format::{format_float, format_float_plain};
use crate::labels::Labels;
use crate::plan::{Aggregate, Aggregator, Grouping, Scalar};

/// The labels of a group and the positions of its columns.
type Groups = Vec<(Labels, Vec<usize>)>;

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, node: &Aggregate, grid: Grid) -> Result<Vec<Column>> {
        let columns = self.vector(&node.of, grid)?;
        self.budget.work(columns.len() * grid.steps)?;
        match &node.aggregator {
            Aggregator::Values(function) => {
                self.each_group(node, &columns, grid, |_, values| function(values))
            }
            Aggregator::Quantile(q) => {
                let q = self.scalar(q, grid)?;
                self.each_group(node, &columns, grid, |step, values| {
                    math::quantile(q[step], values)
                })
            }
            Aggregator::CountValues(label) => {
                self.count_values(label, &node.grouping, &columns, grid)
            }
            Aggregator::Extremes { count, largest } => {
                let groups = group(&node.grouping, &columns);
                self.extremes(count, *largest, &groups, columns, grid)
            }
        }
    }

    fn each_group(
        &self,
        node: &Aggregate,
        columns: &[Column],
        grid: Grid,
        function: impl Fn(usize, &mut [f64]) -> f64,
    ) -> Result<Vec<Column>> {
        let mut values = Vec::new();
        let mut results = Vec::new();
        for (labels, members) in group(&node.grouping, columns) {
            self.budget.samples(grid.steps)?;
            let mut cells = Cells::with_capacity(grid.steps);
            for step in 0..grid.steps {
                self.budget.work(members.len())?;
                values.clear();
                values.extend(members.iter().filter_map(|at| columns[*at].cells[step]));
                cells.push((!values.is_empty()).then(|| function(step, &mut values)));
            }
            results.push(Column { labels, cells });
        }
        Ok(results)
    }

    fn count_values(
        &self,
        label: &str,
        grouping: &Grouping,
        columns: &[Column],
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut results: Vec<Column> = Vec::new();
        for column in columns {
            for (step, value) in column.cells.iter().enumerate() {
                let Some(value) = value else { continue };
                self.budget.work(1)?;
                let labels = column.labels.with(label, &format_float_plain(*value));
                let labels = grouping.key(&labels);
                let place = if let Some(place) = places.get(&labels) {
                    *place
                } else {
                    self.budget.samples(grid.steps)?;
                    places.insert(labels.clone(), results.len());
                    let cells = vec![None; grid.steps];
                    results.push(Column { labels, cells });
                    results.len() - 1
                };
                *results[place].cells[step].get_or_insert(0.0) += 1.0;
            }
        }
        column::merge(results)
    }

    /// `topk` and `bottomk`: the samples stay as they are, the others go.
    fn extremes(
        &self,
        count: &Scalar,
        largest: bool,
        groups: &Groups,
        mut columns: Vec<Column>,
        grid: Grid,
    ) -> Result<Vec<Column>> {
        let counts = whole_numbers(&self.scalar(count, grid)?)?;
        let mut order = Vec::new();
        for (step, count) in counts.into_iter().enumerate() {
            for (_, members) in groups {
                self.budget.work(members.len())?;
                let present = members
                    .iter()
                    .filter_map(|at| Some((*at, columns[*at].cells[step]?)));
                let mut ranked: Vec<(usize, f64)> = present.collect();
                ranked.sort_by(|(_, a), (_, b)| {
                    let ordering = a.partial_cmp(b);
                    nan_last(
                        *a,
                        *b,
                        if largest {
                            ordering.map(std::cmp::Ordering::reverse)
                        } else {
                            ordering
                        },
                    )
                });
                let kept = count.min(ranked.len());
                for (at, _) in &ranked[kept..] {
                    columns[*at].cells[step] = None;
                }
                if grid.ordered {
                    order.extend(ranked[..kept].iter().map(|(at, _)| *at));
                }
            }
        }
        if grid.ordered {
            // The answer lists each group's samples in the order of their values.
            return Ok(order.into_iter().map(|at| columns[at].clone()).collect());
        }
        columns.retain(|column| !column.is_empty());
        Ok(columns)
    }
}

/// How many to keep at each step; a count below one means none. That none of them can be a count is an error whether
/// or not there is anything to keep.
fn whole_numbers(counts: &[f64]) -> Result<Vec<usize>> {
    const INT64_END: f64 = 9_223_372_036_854_775_808.0;
    let failed = |text: String| Err(QueryError::Execution(text));
    if counts.iter().all(|count| *count < 1.0) {
        return Ok(vec![0; counts.len()]);
    }
    if counts.iter().any(|count| count.is_nan()) {
        return failed("Parameter value is NaN".into());
    }
    if let Some(count) = counts.iter().find(|count| **count <= -INT64_END) {
        return failed(format!(
            "Scalar value {} underflows int64",
            format_float(*count)
        ));
    }
    if let Some(count) = counts.iter().find(|count| **count >= INT64_END) {
        return failed(format!(
            "Scalar value {} overflows int64",
            format_float(*count)
        ));
    }
    Ok(counts.iter().map(|count| math::whole(*count)).collect())
}

fn group(grouping: &Grouping, columns: &[Column]) -> Groups {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Groups = Vec::new();
    for (position, column) in columns.iter().enumerate() {
        let key = grouping.key(&column.labels);
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(position);
    }
    groups
}
