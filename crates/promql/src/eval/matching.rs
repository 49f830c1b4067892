//! Operators between two vectors: which series meet, and what the result is called.

use std::collections::HashMap;

use super::column::{self, Column};
use super::{Evaluator, Grid, Result};
use crate::error::QueryError;
use crate::labels::Labels;
use crate::plan::{Cardinality, Grouping, Match};

/// The series of both sides that have the same labels as far as these count.
#[derive(Default)]
struct Meeting {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// Both sides, turned such that `one` is the side on which a group has a single series.
struct Sides<'a> {
    many: &'a [Column],
    one: &'a [Column],
    /// Whether the many are on the right.
    swapped: bool,
    /// The labels that a result takes from the one side; `None` for one to one.
    include: Option<&'a [String]>,
}

impl Evaluator<'_> {
    pub(super) fn match_vectors(&self, node: &Match, grid: Grid) -> Result<Vec<Column>> {
        let left = self.vector(&node.left, grid)?;
        let right = self.vector(&node.right, grid)?;
        let sides = match &node.cardinality {
            Cardinality::OneToOne => Sides::new(&left, &right, None),
            Cardinality::ManyToOne(include) => Sides::new(&left, &right, Some(include)),
            Cardinality::OneToMany(include) => Sides {
                swapped: true,
                ..Sides::new(&right, &left, Some(include))
            },
        };
        let either_is_empty = steps_without(&left, &right, grid);
        let mut results = Results::new(node, &sides, grid);
        for (key, meeting) in meetings(&node.key, &sides) {
            self.budget
                .work((meeting.many.len() + meeting.one.len()) * grid.steps)?;
            for (step, skip) in either_is_empty.iter().enumerate() {
                if *skip {
                    continue;
                }
                let present = meeting.one.iter().copied();
                let mut present = present.filter(|at| sides.one[*at].cells[step].is_some());
                let Some(one) = present.next() else { continue };
                if let Some(second) = present.next() {
                    return Err(sides.ambiguous(&key, one, second));
                }
                self.meet(&mut results, &meeting.many, one, step)?;
            }
        }
        if sides.include.is_some() {
            column::merge(results.columns).map_err(|_| grouping_labels_not_unique())
        } else {
            column::merge(results.columns)
        }
    }

    /// Combines one series with all of the many that are there at this step.
    fn meet(
        &self,
        results: &mut Results<'_>,
        many: &[usize],
        one: usize,
        step: usize,
    ) -> Result<()> {
        let mut matched = false;
        for at in many {
            let Some(result) = results.value(*at, one, step) else {
                continue;
            };
            if matched && results.sides.include.is_none() {
                return Err(QueryError::Execution(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)"
                        .into(),
                ));
            }
            matched = true;
            let column = results.column(*at, one, &self.budget)?;
            column.cells[step] = Some(result);
        }
        Ok(())
    }
}

impl<'a> Sides<'a> {
    fn new(many: &'a [Column], one: &'a [Column], include: Option<&'a [String]>) -> Self {
        Self {
            many,
            one,
            swapped: false,
            include,
        }
    }

    fn ambiguous(&self, key: &Labels, first: usize, second: usize) -> QueryError {
        let side = if self.swapped { "left" } else { "right" };
        QueryError::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
             [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            self.one[second].labels, self.one[first].labels
        ))
    }
}

/// The results so far: a column for each pair of series that met.
struct Results<'a> {
    node: &'a Match,
    sides: &'a Sides<'a>,
    steps: usize,
    places: HashMap<(usize, usize), usize>,
    columns: Vec<Column>,
}

impl<'a> Results<'a> {
    fn new(node: &'a Match, sides: &'a Sides<'a>, grid: Grid) -> Self {
        Self {
            node,
            sides,
            steps: grid.steps,
            places: HashMap::new(),
            columns: Vec::new(),
        }
    }

    fn value(&self, many: usize, one: usize, step: usize) -> Option<f64> {
        let many = self.sides.many[many].cells[step]?;
        let one = self.sides.one[one].cells[step]?;
        let (left, right) = if self.sides.swapped {
            (one, many)
        } else {
            (many, one)
        };
        let node = self.node;
        node.operator.sample(left, right, left, node.returns_bool)
    }

    fn column(&mut self, many: usize, one: usize, budget: &super::Budget) -> Result<&mut Column> {
        let place = if let Some(place) = self.places.get(&(many, one)) {
            *place
        } else {
            budget.samples(self.steps)?;
            self.columns.push(Column {
                labels: self.labels(many, one),
                cells: vec![None; self.steps],
            });
            self.places.insert((many, one), self.columns.len() - 1);
            self.columns.len() - 1
        };
        Ok(&mut self.columns[place])
    }

    /// What a result is called: like the series of the many side, without what no longer holds, and with what is to
    /// be taken from the other.
    fn labels(&self, many: usize, one: usize) -> Labels {
        let mut labels = self.sides.many[many].labels.clone();
        let node = self.node;
        if !node.operator.is_comparison() || node.returns_bool {
            labels = labels.without_metadata();
        }
        let Some(include) = self.sides.include else {
            return match &node.key {
                Grouping::Only(_) => node.key.key(&labels),
                Grouping::Except(names) => {
                    labels.filtered(|name| !names.iter().any(|except| except == name))
                }
            };
        };
        let from = &self.sides.one[one].labels;
        include
            .iter()
            .fold(labels, |labels, name| labels.with(name, from.get(name)))
    }
}

/// At which steps one of the sides has no sample at all: then nothing is matched, and nothing can be ambiguous.
fn steps_without(left: &[Column], right: &[Column], grid: Grid) -> Vec<bool> {
    let none = |columns: &[Column], step: usize| columns.iter().all(|c| c.cells[step].is_none());
    (0..grid.steps)
        .map(|step| none(left, step) || none(right, step))
        .collect()
}

/// The groups in which both sides meet, in the order of the one side.
fn meetings(key: &Grouping, sides: &Sides<'_>) -> Vec<(Labels, Meeting)> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut meetings: Vec<(Labels, Meeting)> = Vec::new();
    for (position, column) in sides.one.iter().enumerate() {
        let labels = key.key(&column.labels);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            meetings.push((labels, Meeting::default()));
            meetings.len() - 1
        });
        meetings[place].1.one.push(position);
    }
    for (position, column) in sides.many.iter().enumerate() {
        if let Some(place) = places.get(&key.key(&column.labels)) {
            meetings[*place].1.many.push(position);
        }
    }
    meetings
}

fn grouping_labels_not_unique() -> QueryError {
    QueryError::Execution(
        "multiple matches for labels: grouping labels must ensure unique matches".into(),
    )
}
