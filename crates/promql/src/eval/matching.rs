//! Operators between two vectors: which series meet, and what the result is called.

use std::collections::HashMap;

use super::column::{self, Column};
use super::{Budget, Evaluator, Grid, Result};
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
        for (round, (key, meeting)) in meetings(&node.key, &sides).into_iter().enumerate() {
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
                self.meet(&mut results, &meeting.many, one, (round, step))?;
            }
        }
        let mut columns = results.columns;
        columns.retain(|column| !column.cells.is_empty());
        if sides.include.is_some() {
            column::merge(columns).map_err(|_| grouping_labels_not_unique())
        } else {
            column::merge(columns)
        }
    }

    /// Combines one series with all of the many that are there at this step. That the match is not unique is an error
    /// even where the result of a comparison would be dropped.
    fn meet(
        &self,
        results: &mut Results<'_>,
        many: &[usize],
        one: usize,
        (round, step): (usize, usize),
    ) -> Result<()> {
        let mut matched = false;
        for at in many {
            let Some((left, right)) = results.operands(*at, one, step) else {
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
            let place = results.place(*at, one);
            if !results.is_first_of_its_name(place, (round, step)) {
                return Err(grouping_labels_not_unique());
            }
            let node = results.node;
            if let Some(value) = node.operator.sample(left, right, left, node.returns_bool) {
                results.set(place, step, value, &self.budget)?;
            }
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
        let mut series = [first, second].map(|at| all_labels(&self.one[at].labels));
        series.sort();
        let [first, second] = series;
        QueryError::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
             [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}

/// The results so far: a column for each pair of series that met.
struct Results<'a> {
    node: &'a Match,
    sides: &'a Sides<'a>,
    steps: usize,
    places: HashMap<(usize, usize), usize>,
    /// Without cells as long as there is no result.
    columns: Vec<Column>,
    /// For each column the number of its labels, which others may have too.
    names: Vec<usize>,
    numbers: HashMap<Labels, usize>,
    /// When labels were last met: the group and the step.
    met: Vec<Option<(usize, usize)>>,
}

impl<'a> Results<'a> {
    fn new(node: &'a Match, sides: &'a Sides<'a>, grid: Grid) -> Self {
        Self {
            node,
            sides,
            steps: grid.steps,
            places: HashMap::new(),
            columns: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            met: Vec::new(),
        }
    }

    /// The values of the left and of the right side, if both are there.
    fn operands(&self, many: usize, one: usize, step: usize) -> Option<(f64, f64)> {
        let many = self.sides.many[many].cells[step]?;
        let one = self.sides.one[one].cells[step]?;
        Some(if self.sides.swapped {
            (one, many)
        } else {
            (many, one)
        })
    }

    /// The position of the column for two series that met.
    fn place(&mut self, many: usize, one: usize) -> usize {
        if let Some(place) = self.places.get(&(many, one)) {
            return *place;
        }
        let labels = self.labels(many, one);
        let next = self.met.len();
        let number = *self.numbers.entry(labels.clone()).or_insert(next);
        if number == next {
            self.met.push(None);
        }
        self.names.push(number);
        self.columns.push(Column {
            labels,
            cells: Vec::new(),
        });
        self.places.insert((many, one), self.columns.len() - 1);
        self.columns.len() - 1
    }

    /// Whether no other column with the same labels was met in this group at this step.
    fn is_first_of_its_name(&mut self, place: usize, now: (usize, usize)) -> bool {
        self.met[self.names[place]].replace(now) != Some(now)
    }

    fn set(&mut self, place: usize, step: usize, value: f64, budget: &Budget) -> Result<()> {
        let cells = &mut self.columns[place].cells;
        if cells.is_empty() {
            budget.samples(self.steps)?;
            cells.resize(self.steps, None);
        }
        cells[step] = Some(value);
        Ok(())
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

/// All labels in braces, the name too, as Prometheus writes a series in this message.
fn all_labels(labels: &Labels) -> String {
    let pairs = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

fn grouping_labels_not_unique() -> QueryError {
    QueryError::Execution(
        "multiple matches for labels: grouping labels must ensure unique matches".into(),
    )
}
