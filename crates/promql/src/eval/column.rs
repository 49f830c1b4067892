//! Columns: the values of one series at all times of a grid.
//!
//! A query over a range is evaluated expression by expression, each for all times at once, instead of the whole query
//! time by time. So labels are compared once for each pair of series, not again at each step.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::error::QueryError;
use crate::labels::Labels;

/// A value, or none, at each time.
pub(crate) type Cells = Vec<Option<f64>>;

/// One series of an instant vector.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) labels: Labels,
    pub(crate) cells: Cells,
}

impl Column {
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().all(Option::is_none)
    }
}

/// Drops metric names and joins the columns that then have the same labels.
pub(crate) fn without_metadata(columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    match drop_metadata(columns) {
        (columns, true) => Ok(columns),
        (columns, false) => merge(columns),
    }
}

/// The same, but columns with the same labels are an error even if they have values at different times.
pub(crate) fn without_metadata_unique(columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    let (columns, unique) = drop_metadata(columns);
    if unique {
        return Ok(columns);
    }
    let mut seen = HashSet::with_capacity(columns.len());
    let same = columns.iter().find(|column| !seen.insert(&column.labels));
    match same {
        Some(column) => Err(same_labels(&column.labels)),
        None => Ok(columns),
    }
}

/// Also says whether the columns are sure to be different still.
fn drop_metadata(mut columns: Vec<Column>) -> (Vec<Column>, bool) {
    let unique = all_of_one_metric(&columns);
    for column in &mut columns {
        column.labels = column.labels.without_metadata();
    }
    (columns, unique)
}

/// Whether all columns have the same name and nothing else to lose: then they stay different without it.
fn all_of_one_metric(columns: &[Column]) -> bool {
    let Some(first) = columns.first() else {
        return true;
    };
    let name = first.labels.metric_name();
    columns
        .iter()
        .all(|column| column.labels.metric_name() == name && !column.labels.has_type_or_unit())
}

/// Joins columns with the same labels. Two values at one time are an error.
pub(crate) fn merge(columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(columns.len());
    let mut merged: Vec<Column> = Vec::with_capacity(columns.len());
    for column in columns {
        match places.entry(column.labels.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(merged.len());
                merged.push(column);
            }
            Entry::Occupied(entry) => {
                let into = &mut merged[*entry.get()].cells;
                for (have, new) in into.iter_mut().zip(column.cells) {
                    if have.is_some() && new.is_some() {
                        return Err(same_labels(&column.labels));
                    }
                    *have = have.or(new);
                }
            }
        }
    }
    Ok(merged)
}

fn same_labels(labels: &Labels) -> QueryError {
    QueryError::Execution(format!(
        "vector cannot contain metrics with the same labelset: {labels}"
    ))
}
