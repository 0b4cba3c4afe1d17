//! Aggregations of rows: each row is added to its group, step by step of its length, so that the room
//! taken is that of the groups, not of the series.

use daruma_model::{Labels, Time, is_stale};

use super::rows::NOTHING;
use super::{Element, Evaluated, sums};
use crate::ast::AggregateOp;

/// Whether an aggregation can be gathered from rows.
pub(super) fn can(op: AggregateOp) -> bool {
    use AggregateOp::{Avg, Count, Group, Max, Min, Sum};
    matches!(op, Avg | Count | Group | Max | Min | Sum)
}

/// Whether an aggregation chooses some of each group, step by step, by their values or order.
pub(super) fn chooses(op: AggregateOp) -> bool {
    matches!(op, AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK)
}

/// Offers a value, with the number of whose it is, to those chosen so far: a binary heap with the worst on
/// top. Among equals it decides who stays, so it is upstream's heap, step by step.
pub(super) fn offer(
    chosen: &mut Vec<(f64, u32)>,
    count: usize,
    descending: bool,
    (value, number): (f64, u32),
) {
    let worse = |a: f64, b: f64| a.is_nan() || if descending { a < b } else { a > b };
    if chosen.len() < count {
        chosen.push((value, number));
        let mut at = chosen.len() - 1;
        while at > 0 && worse(chosen[at].0, chosen[(at - 1) / 2].0) {
            chosen.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        return;
    }
    let Some(top) = chosen.first_mut() else { return };
    if value.is_nan() || !worse(top.0, value) {
        return;
    }
    *top = (value, number);
    let mut at = 0;
    while let Some(left) = chosen.get(2 * at + 1) {
        let right = chosen.get(2 * at + 2).filter(|right| worse(right.0, left.0));
        let below = 2 * at + 1 + usize::from(right.is_some());
        if !worse(chosen[below].0, chosen[at].0) {
            break;
        }
        chosen.swap(below, at);
        at = below;
    }
}

/// The chosen under way.
pub(super) struct Choice {
    op: AggregateOp,
    count: usize,
    steps: usize,
    /// Of each group and step the values and rows chosen so far, as [`offer`] keeps them.
    chosen: Vec<Vec<(f64, u32)>>,
}

impl Choice {
    pub(super) fn new(op: AggregateOp, count: usize, groups: usize, steps: usize) -> Choice {
        Choice { op, count, steps, chosen: vec![Vec::new(); groups * steps] }
    }

    /// Offers a row to a group.
    pub(super) fn add(&mut self, group: usize, number: usize, row: &[f64]) {
        let number = number as u32;
        let descending = self.op == AggregateOp::TopK;
        let cells = &mut self.chosen[group * self.steps..(group + 1) * self.steps];
        for (chosen, value) in cells.iter_mut().zip(row).filter(|(_, value)| !is_stale(**value)) {
            if self.op != AggregateOp::LimitK {
                offer(chosen, self.count, descending, (*value, number));
            } else if chosen.len() < self.count {
                chosen.push((*value, number));
            }
        }
    }

    /// Gives each row of which something was chosen, and only that of it.
    pub(super) fn each_row(
        self,
        row: &mut [f64],
        mut each: impl FnMut(usize, &mut [f64]) -> Evaluated<()>,
    ) -> Evaluated<()> {
        let mut all: Vec<(u32, usize, f64)> = Vec::new();
        for (cell, chosen) in self.chosen.iter().enumerate() {
            all.extend(chosen.iter().map(|(value, number)| (*number, cell % self.steps, *value)));
        }
        all.sort_unstable_by_key(|(number, step, _)| (*number, *step));
        for of_row in all.chunk_by(|a, b| a.0 == b.0) {
            row.fill(NOTHING);
            for (_, step, value) in of_row {
                row[*step] = *value;
            }
            each(of_row[0].0 as usize, row)?;
        }
        Ok(())
    }
}

/// Groups under way; of each group and step one state, group after group.
pub(super) struct Gathering {
    steps: usize,
    /// The row that came first.
    firsts: Vec<u32>,
    states: States,
}

enum States {
    Sums(Vec<sums::Sum>),
    Means(Vec<sums::Mean>),
    Counts(Vec<f64>),
    Ones,
    Least(Vec<f64>),
    Greatest(Vec<f64>),
}

const NONE: u32 = u32::MAX;

impl Gathering {
    pub(super) fn new(op: AggregateOp, groups: usize, steps: usize) -> Gathering {
        let cells = groups * steps;
        let states = match op {
            AggregateOp::Sum => States::Sums(vec![sums::Sum::default(); cells]),
            AggregateOp::Avg => States::Means(vec![sums::Mean::default(); cells]),
            AggregateOp::Count => States::Counts(vec![0.0; cells]),
            AggregateOp::Min => States::Least(vec![NOTHING; cells]),
            AggregateOp::Max => States::Greatest(vec![NOTHING; cells]),
            _ => States::Ones,
        };
        Gathering { steps, firsts: vec![NONE; cells], states }
    }

    /// Adds a row to a group.
    pub(super) fn add(&mut self, group: usize, number: usize, row: &[f64]) {
        let cells = group * self.steps..(group + 1) * self.steps;
        let number = number as u32;
        for (first, value) in self.firsts[cells.clone()].iter_mut().zip(row) {
            if *first == NONE && !is_stale(*value) {
                *first = number;
            }
        }
        fn each<T>(states: &mut [T], row: &[f64], mut add: impl FnMut(&mut T, f64)) {
            for (state, value) in states.iter_mut().zip(row) {
                if !is_stale(*value) {
                    add(state, *value);
                }
            }
        }
        match &mut self.states {
            States::Sums(all) => each(&mut all[cells], row, |sum, value| *sum = sum.add(value)),
            States::Means(all) => each(&mut all[cells], row, sums::Mean::add),
            States::Counts(all) => each(&mut all[cells], row, |count, _| *count += 1.0),
            States::Ones => {}
            States::Least(all) => each(&mut all[cells], row, |best, value| {
                if value < *best || best.is_nan() {
                    *best = value;
                }
            }),
            States::Greatest(all) => each(&mut all[cells], row, |best, value| {
                if value > *best || best.is_nan() {
                    *best = value;
                }
            }),
        }
    }

    pub(super) fn finish(self, labels: Vec<Labels>, drop_name: bool) -> Gathered {
        let mut values: Vec<f64> = match self.states {
            States::Sums(all) => all.into_iter().map(sums::Sum::total).collect(),
            States::Means(all) => all.into_iter().map(sums::Mean::finish).collect(),
            States::Ones => vec![1.0; self.firsts.len()],
            States::Counts(all) | States::Least(all) | States::Greatest(all) => all,
        };
        for (value, first) in values.iter_mut().zip(&self.firsts) {
            if *first == NONE {
                *value = NOTHING;
            }
        }
        Gathered { labels, steps: self.steps, firsts: self.firsts, values, drop_name }
    }
}

/// Groups and what they yield at every step.
pub(super) struct Gathered {
    pub(super) labels: Vec<Labels>,
    steps: usize,
    /// By group, then step.
    firsts: Vec<u32>,
    values: Vec<f64>,
    drop_name: bool,
}

impl Gathered {
    pub(super) fn row(&self, group: usize) -> &[f64] {
        &self.values[group * self.steps..(group + 1) * self.steps]
    }

    /// The groups that have a value at a step, in the order of their first members there.
    pub(super) fn at(&self, step: usize, time: Time) -> Vec<Element> {
        let cells = (0..self.labels.len()).map(|group| (group, group * self.steps + step));
        let mut present: Vec<(u32, usize, f64)> = cells
            .filter(|(_, cell)| self.firsts[*cell] != NONE)
            .map(|(group, cell)| (self.firsts[cell], group, self.values[cell]))
            .collect();
        present.sort_unstable_by_key(|(first, ..)| *first);
        let element = |(_, group, value): (u32, usize, f64)| Element {
            labels: self.labels[group].clone(),
            drop_name: self.drop_name,
            value: value.into(),
            time,
        };
        present.into_iter().map(element).collect()
    }
}
