//! Aggregations right over a function of a range vector, such as `sum by (job) (rate(m[5m]))`: at each
//! step the function's results go straight into their groups, without a vector between.
//!
//! It stands apart because it is only a shorter way: what it yields, and in which order, is what
//! `Evaluator::aggregate` yields; series with native histograms take the long way.

use std::rc::Rc;

use daruma_model::{Labels, Time};

use super::intern::{Interner, Selection};
use super::windows::KEEPS_NAME;
use super::{Element, Evaluated, Evaluator, sums};
use crate::ast::{Aggregate, AggregateOp, Call, Kind, Node, ValueType, VectorSelector};

/// What the function yields at every step of the query, by the group it goes to.
pub(crate) struct Fused {
    /// By group.
    labels: Vec<Labels>,
    /// By step: group and value, in order of the series.
    steps: Vec<Vec<(u32, f64)>>,
}

/// The most results that are held at once.
const CELLS_MAX: usize = 4_000_000;

const NONE: u32 = u32::MAX;

impl Evaluator<'_> {
    /// The aggregation's results, if it can go the short way.
    pub(super) fn fused(
        &self,
        node: &Node,
        aggregate: &Aggregate,
        selection: Selection<'_>,
        time: Time,
    ) -> Evaluated<Option<Vec<Element>>> {
        use AggregateOp::{Avg, Count, Group, Max, Min, Sum};
        if !self.repeats() || !matches!(aggregate.op, Avg | Count | Group | Max | Min | Sum) {
            return Ok(None);
        }
        let Kind::Call(call) = &aggregate.input.bare().kind else { return Ok(None) };
        if call.function.args != [ValueType::Matrix] || call.function.name == "absent_over_time" {
            return Ok(None);
        }
        let Kind::Selector(selector) = &call.args[0].bare().kind else { return Ok(None) };
        let known = self.fused.borrow().get(&node.id).cloned();
        let fused = match known {
            Some(known) => known,
            None => {
                let made = self.ahead(call, selector, selection)?.map(Rc::new);
                self.fused.borrow_mut().insert(node.id, made.clone());
                made
            }
        };
        let Some(fused) = fused else { return Ok(None) };
        // Within a subquery, times may lie beside the query's steps.
        let since = time.0 - self.bounds.0.0;
        if since < 0 || since % self.step.0 != 0 {
            return Ok(None);
        }
        let Some(step) = usize::try_from(since / self.step.0).ok() else { return Ok(None) };
        let Some(found) = fused.steps.get(step) else { return Ok(None) };
        let drop_name = !KEEPS_NAME.contains(&call.function.name);
        let mut floats = found.clone();
        // Groups in the order of their first member at this time.
        let mut order = vec![NONE; fused.labels.len()];
        let mut present: Vec<u32> = Vec::new();
        for (place, _) in &mut floats {
            let local = &mut order[*place as usize];
            if *local == NONE {
                *local = present.len() as u32;
                present.push(*place);
            }
            *place = *local;
        }
        let values = match aggregate.op {
            Count | Group => {
                let mut counts = vec![0.0; present.len()];
                floats.iter().for_each(|(place, _)| counts[*place as usize] += 1.0);
                if aggregate.op == Group { vec![1.0; present.len()] } else { counts }
            }
            Sum => {
                let mut totals = vec![sums::Sum::default(); present.len()];
                for (place, value) in &floats {
                    let total = &mut totals[*place as usize];
                    *total = total.add(*value);
                }
                totals.into_iter().map(sums::Sum::total).collect()
            }
            Avg => {
                let mut groups = vec![Vec::new(); present.len()];
                floats.iter().for_each(|(place, value)| groups[*place as usize].push(*value));
                groups.into_iter().map(sums::mean).collect()
            }
            op => {
                let better: fn(f64, f64) -> bool =
                    if op == Min { |a, b| a < b } else { |a, b| a > b };
                let mut best: Vec<Option<f64>> = vec![None; present.len()];
                for (place, value) in &floats {
                    let best = &mut best[*place as usize];
                    if best.is_none_or(|known| better(*value, known) || known.is_nan()) {
                        *best = Some(*value);
                    }
                }
                best.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect::<Vec<f64>>()
            }
        };
        let result = |(place, value): (u32, f64)| Element {
            labels: fused.labels[place as usize].clone(),
            drop_name,
            value: value.into(),
            time,
        };
        Ok(Some(present.into_iter().zip(values).map(result).collect()))
    }

    /// Everything at once, if it fits; not if a series has histograms, or where `@` stands still.
    fn ahead(
        &self,
        call: &Call,
        selector: &VectorSelector,
        selection: Selection<'_>,
    ) -> Evaluated<Option<Fused>> {
        let series = &self.leaves[selector.index].series;
        let length = self.bounds.1 - self.bounds.0;
        let Some(last) = length.0.checked_div(self.step.0).and_then(|n| usize::try_from(n).ok())
        else {
            return Ok(None);
        };
        if selector.shift.at.is_some()
            || last.saturating_add(1).saturating_mul(series.len()) > CELLS_MAX
            || series.iter().any(|one| !one.histograms.is_empty())
        {
            return Ok(None);
        }
        let mut interner = Interner::new(false);
        interner.expect(series.len());
        let mut labels = Vec::new();
        let mut places = Vec::with_capacity(series.len());
        for one in series {
            let place = interner.place(&one.labels, 0, &[selection]);
            if place == labels.len() {
                labels.push(selection.of(&one.labels));
            }
            places.push(place as u32);
        }
        let time = |step: usize| Time(self.bounds.0.0 + self.step.0 * step as i64);
        let times: Vec<Time> = (0..=last).map(time).collect();
        let mut steps = vec![Vec::with_capacity(series.len()); times.len()];
        self.floats_over_windows(call, selector, &times, |step, series, value| {
            steps[step].push((places[series], value));
        })?;
        Ok(Some(Fused { labels, steps }))
    }
}
