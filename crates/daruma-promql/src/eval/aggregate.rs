//! Aggregations: many elements of a group to one, or to the chosen few.

use std::cmp::Ordering;

use daruma_model::{Labels, Time};

use super::edges::mixed_schemas;
use super::gather::offer;
use super::intern::Selection;
use super::windows::Running;
use super::{Element, Evaluated, Evaluator, failed, sums};
use crate::ast::{Aggregate, AggregateOp, Node};
use crate::number::format_short;
use crate::value::SampleValue;

/// Said when histograms that began anew meet others that went on.
pub(super) const COLLISION: &str = "conflicting counter resets during histogram aggregation";

/// The elements of a vector by group; groups in order of their first member.
struct Groups {
    /// The group of each element.
    places: Vec<u32>,
    /// The labels of each group.
    labels: Vec<Labels>,
}

impl Aggregate {
    pub(super) fn selection(&self) -> Selection<'_> {
        if self.without { Selection::Without(&self.labels) } else { Selection::Only(&self.labels) }
    }
}

/// By value, NaN after all others whichever way the order goes.
pub(super) fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        node: &Node,
        aggregate: &Aggregate,
        time: Time,
    ) -> Evaluated<Vec<Element>> {
        use AggregateOp::{
            Avg, BottomK, Count, CountValues, Group, LimitK, LimitRatio, Max, Min, Quantile,
            Stddev, Stdvar, Sum, TopK,
        };
        let param = match (&aggregate.param, aggregate.op) {
            (Some(param), CountValues) => {
                let label = self.text(param, time)?;
                return self.count_values(node, aggregate, &label, time);
            }
            (Some(param), _) => self.scalar(param, time)?,
            (None, _) => 0.0,
        };
        if let Some(results) = self.prepared(node, time)? {
            return Ok(results);
        }
        let vector = self.vector(&aggregate.input, time)?;
        let param_span = aggregate.param.as_ref().map_or(&node.span, |param| &param.span);
        match aggregate.op {
            TopK | BottomK | LimitK => return self.chosen(node, aggregate, param, vector),
            LimitRatio => {
                if param.is_nan() {
                    return failed("Ratio value is NaN");
                }
                let ratio = param.clamp(-1.0, 1.0);
                if ratio != param {
                    let message = format!(
                        "ratio value should be between -1 and 1, got {}, capping to {}",
                        format_short(param),
                        format_short(ratio)
                    );
                    self.warn(message, param_span);
                }
                return Ok(self.sampled(node, aggregate, ratio, vector));
            }
            Quantile if !(0.0..=1.0).contains(&param) => {
                self.warn(quantile_range(param), param_span);
            }
            _ => {}
        }
        let groups = self.grouped(node, aggregate, &vector);
        let mut drop_names = vec![false; groups.labels.len()];
        for (element, place) in vector.iter().zip(&groups.places) {
            drop_names[*place as usize] |= element.drop_name;
        }
        let values = match aggregate.op {
            Count | Group => {
                let mut counts = vec![0.0; groups.labels.len()];
                for place in &groups.places {
                    counts[*place as usize] += 1.0;
                }
                let value = |count| if aggregate.op == Group { 1.0 } else { count };
                counts.into_iter().map(|count| Some(value(count).into())).collect()
            }
            Sum | Avg => self.totals(aggregate, &vector, &groups)?,
            op => {
                if vector.iter().any(|element| element.value.float().is_none()) {
                    let message = format!("ignored histogram in {} aggregation", op.as_str());
                    self.info(message, &aggregate.input.span);
                }
                let (values, ranges) = by_group(&vector, &groups);
                let compute = |values: &[f64]| -> f64 {
                    let each = || values.iter().copied();
                    match op {
                        Min => extreme(values, |a, b| a < b),
                        Max => extreme(values, |a, b| a > b),
                        Stdvar => sums::variance(each()),
                        Stddev => sums::variance(each()).sqrt(),
                        // The others are decided above.
                        _ => sums::quantile(param, values.to_vec()),
                    }
                };
                let value = |range: std::ops::Range<usize>| {
                    (!range.is_empty()).then(|| compute(&values[range]).into())
                };
                ranges.into_iter().map(value).collect()
            }
        };
        let mut results = Vec::with_capacity(values.len());
        for ((labels, drop_name), value) in groups.labels.into_iter().zip(drop_names).zip(values) {
            if let Some(value) = value {
                results.push(Element { labels, drop_name, value, time });
            }
        }
        Ok(results)
    }

    fn grouped(&self, node: &Node, aggregate: &Aggregate, vector: &[Element]) -> Groups {
        const NONE: u32 = u32::MAX;
        let mut groups = Groups { places: Vec::with_capacity(vector.len()), labels: Vec::new() };
        if aggregate.labels.is_empty() && !aggregate.without {
            groups.places.resize(vector.len(), 0);
            groups.labels.extend((!vector.is_empty()).then(Labels::default));
            return groups;
        }
        let selections = [aggregate.selection()];
        let mut memo = self.recall(node.id);
        memo.interner.expect(vector.len());
        // Places in this vector by places of all times.
        let mut local = vec![NONE; memo.interner.len()];
        for element in vector {
            let place = memo.interner.place(&element.labels, 0, &selections);
            if place == memo.labels.len() {
                memo.labels.push(selections[0].of(&element.labels));
                local.push(NONE);
            }
            if local[place] == NONE {
                local[place] = groups.labels.len() as u32;
                groups.labels.push(memo.labels[place].clone());
            }
            groups.places.push(local[place]);
        }
        self.remember(node.id, memo);
        groups
    }

    /// Sums or means; of a group that mixes what does not mix there is none, and a remark.
    fn totals(
        &self,
        aggregate: &Aggregate,
        vector: &[Element],
        groups: &Groups,
    ) -> Evaluated<Vec<Option<SampleValue>>> {
        let mean = aggregate.op == AggregateOp::Avg;
        let span = &aggregate.input.span;
        let (floats, ranges) = by_group(vector, groups);
        let number = |range: std::ops::Range<usize>| -> Option<SampleValue> {
            let values = floats.get(range).filter(|values| !values.is_empty())?.iter().copied();
            Some(if mean { sums::mean(values) } else { sums::sum(values) }.into())
        };
        let mut totals: Vec<Option<SampleValue>> = ranges.into_iter().map(number).collect();
        if floats.len() == vector.len() {
            return Ok(totals);
        }
        let mut running: Vec<Option<Running>> = groups.labels.iter().map(|_| None).collect();
        let mut incompatible = vec![false; groups.labels.len()];
        for (element, place) in vector.iter().zip(&groups.places) {
            let place = *place as usize;
            let Some(histogram) = element.value.histogram() else { continue };
            let running = running[place].get_or_insert_default();
            if !incompatible[place] && !running.add(histogram, mean) {
                incompatible[place] = true;
                self.warn(mixed_schemas(&element.labels), span);
            }
        }
        for (place, running) in running.into_iter().enumerate() {
            let Some(running) = running else { continue };
            running.remark(self, span);
            if totals[place].is_some() {
                let message = "encountered a mix of histograms and floats for aggregation";
                self.warn(message.to_owned(), span);
                totals[place] = None;
            } else if !incompatible[place] {
                let histogram = running.finish(mean);
                if let Some(histogram) = &histogram {
                    self.hold_histogram(histogram)?;
                }
                totals[place] = histogram.map(Into::into);
            }
        }
        Ok(totals)
    }

    fn count_values(
        &self,
        node: &Node,
        aggregate: &Aggregate,
        label: &str,
        time: Time,
    ) -> Evaluated<Vec<Element>> {
        if label.is_empty() {
            return failed("invalid label name \"\"");
        }
        let mut by_value = aggregate.clone();
        if !by_value.without {
            by_value.labels.push(label.to_owned());
        }
        let mut vector = self.vector(&aggregate.input, time)?;
        for element in &mut vector {
            element.labels = element.labels.with(label, &element.value.to_string());
        }
        let groups = self.grouped(node, &by_value, &vector);
        let mut counts = vec![0.0; groups.labels.len()];
        for place in &groups.places {
            counts[*place as usize] += 1.0;
        }
        let element =
            |(labels, count): (Labels, f64)| Element { labels, ..Element::bare(count, time) };
        Ok(groups.labels.into_iter().zip(counts).map(element).collect())
    }

    /// `topk`, `bottomk`, `limitk`: at most k members of each group, as they are.
    fn chosen(
        &self,
        node: &Node,
        aggregate: &Aggregate,
        k: f64,
        mut vector: Vec<Element>,
    ) -> Evaluated<Vec<Element>> {
        if k.is_nan() {
            return failed("Parameter value is NaN");
        }
        if k >= i64::MAX as f64 || k <= i64::MIN as f64 {
            return failed(format!("Scalar value {} overflows int64", format_short(k)));
        }
        if k < 1.0 {
            return Ok(Vec::new());
        }
        let ordered = aggregate.op != AggregateOp::LimitK;
        if ordered {
            let before = vector.len();
            vector.retain(|element| element.value.float().is_some());
            if vector.len() < before {
                let message = format!("ignored histogram in {} aggregation", aggregate.op.as_str());
                self.info(message, &node.span);
            }
        }
        let groups = self.grouped(node, aggregate, &vector);
        let mut members: Vec<Vec<(f64, u32)>> = groups.labels.iter().map(|_| Vec::new()).collect();
        let (count, descending) = (k as usize, aggregate.op == AggregateOp::TopK);
        for (at, (element, place)) in vector.iter().zip(groups.places).enumerate() {
            let (group, one) = (&mut members[place as usize], (element.value.number(), at as u32));
            if ordered {
                offer(group, count, descending, one);
            } else if group.len() < count {
                group.push(one);
            }
        }
        if ordered {
            for group in &mut members {
                group.sort_by(|a, b| by_value(a.0, b.0, descending));
            }
        }
        let mut vector: Vec<Option<Element>> = vector.into_iter().map(Some).collect();
        let taken = members.into_iter().flatten().filter_map(|(_, at)| vector[at as usize].take());
        Ok(taken.collect())
    }

    /// `limit_ratio`: the members whose hash falls into the share; `r` and `-(1 - r)` complement each
    /// other. Which members a share picks is this code's own choice: upstream hashes otherwise.
    fn sampled(
        &self,
        node: &Node,
        aggregate: &Aggregate,
        ratio: f64,
        vector: Vec<Element>,
    ) -> Vec<Element> {
        let picked = |element: &Element| {
            // The fingerprint's low bits vary more than its high bits: mix before dividing.
            let hash = element.labels.fingerprint();
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            let place = (hash ^ (hash >> 33)) as f64 / 2f64.powi(64);
            if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
        };
        let groups = self.grouped(node, aggregate, &vector);
        let mut members: Vec<(u32, Element)> =
            groups.places.into_iter().zip(vector).filter(|(_, element)| picked(element)).collect();
        members.sort_by_key(|(place, _)| *place);
        members.into_iter().map(|(_, element)| element).collect()
    }
}

fn extreme(values: &[f64], better: fn(f64, f64) -> bool) -> f64 {
    let pick = |best: f64, value: f64| {
        if better(value, best) || best.is_nan() { value } else { best }
    };
    values.iter().copied().reduce(pick).unwrap_or(f64::NAN)
}

/// The numbers among the elements, group after group, and where each group's lie.
fn by_group(vector: &[Element], groups: &Groups) -> (Vec<f64>, Vec<std::ops::Range<usize>>) {
    let each = || {
        let pairs = vector.iter().zip(&groups.places);
        pairs.filter_map(|(element, place)| Some((element.value.float()?, *place as usize)))
    };
    let mut ends = vec![0_usize; groups.labels.len()];
    for (_, place) in each() {
        ends[place] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    let mut values = vec![0.0; start];
    for (value, place) in each() {
        values[ends[place]] = value;
        ends[place] += 1;
    }
    let mut start = 0;
    let ranges = ends.into_iter().map(|end| std::mem::replace(&mut start, end)..end).collect();
    (values, ranges)
}

pub(super) fn quantile_range(phi: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", format_short(phi))
}
