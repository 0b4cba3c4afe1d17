//! Aggregations: many elements of a group to one, or to the chosen few.

use std::cmp::Ordering;
use std::collections::HashMap;

use daruma_model::{Labels, Time};

use super::{Element, Evaluated, Evaluator, failed, sums};
use crate::ast::{Aggregate, AggregateOp, Node};
use crate::number::{format_short, format_value};

struct Group {
    labels: Labels,
    members: Vec<Element>,
}

fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let listed = |name: &str| aggregate.labels.iter().any(|label| label == name);
    if aggregate.without {
        labels.filtered(|name| name != Labels::NAME && !listed(name))
    } else {
        labels.filtered(listed)
    }
}

/// Groups in order of their first member.
fn grouped(aggregate: &Aggregate, vector: Vec<Element>) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for element in vector {
        let labels = group_labels(aggregate, &element.labels);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            groups.push(Group { labels: labels.clone(), members: Vec::new() });
            groups.len() - 1
        });
        groups[place].members.push(element);
    }
    groups
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
                return self.count_values(aggregate, &label, time);
            }
            (Some(param), _) => self.scalar(param, time)?,
            (None, _) => 0.0,
        };
        let vector = self.vector(&aggregate.input, time)?;
        let param_span = aggregate.param.as_ref().map_or(&node.span, |param| &param.span);
        match aggregate.op {
            TopK | BottomK | LimitK => return chosen(aggregate, param, vector),
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
                return Ok(sampled(aggregate, ratio, vector));
            }
            Quantile if !(0.0..=1.0).contains(&param) => {
                self.warn(quantile_range(param), param_span);
            }
            _ => {}
        }
        let groups = grouped(aggregate, vector).into_iter();
        Ok(groups
            .map(|group| {
                let values = || group.members.iter().map(|element| element.value);
                let extreme = |better: fn(f64, f64) -> bool| {
                    values()
                        .reduce(
                            |best, value| {
                                if better(value, best) || best.is_nan() { value } else { best }
                            },
                        )
                        .unwrap_or(f64::NAN)
                };
                let value = match aggregate.op {
                    Sum => sums::sum(values()),
                    Avg => sums::mean(values()),
                    Count => group.members.len() as f64,
                    Min => extreme(|a, b| a < b),
                    Max => extreme(|a, b| a > b),
                    Group => 1.0,
                    Stdvar => sums::variance(values()),
                    Stddev => sums::variance(values()).sqrt(),
                    Quantile => sums::quantile(param, values().collect()),
                    // Decided above.
                    TopK | BottomK | LimitK | LimitRatio | CountValues => f64::NAN,
                };
                let drop_name = group.members.iter().any(|element| element.drop_name);
                Element { labels: group.labels, drop_name, value, time }
            })
            .collect())
    }

    fn count_values(
        &self,
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
            element.labels = element.labels.with(label, &format_value(element.value));
        }
        let element = |group: Group| Element {
            labels: group.labels,
            drop_name: false,
            value: group.members.len() as f64,
            time,
        };
        Ok(grouped(&by_value, vector).into_iter().map(element).collect())
    }
}

pub(super) fn quantile_range(phi: f64) -> String {
    format!("quantile value should be between 0 and 1, got {}", format_short(phi))
}

/// `topk`, `bottomk`, `limitk`: at most k members of each group, as they are.
fn chosen(aggregate: &Aggregate, k: f64, vector: Vec<Element>) -> Evaluated<Vec<Element>> {
    if k.is_nan() {
        return failed("Parameter value is NaN");
    }
    if k >= i64::MAX as f64 || k <= i64::MIN as f64 {
        return failed(format!("Scalar value {} overflows int64", format_short(k)));
    }
    if k < 1.0 {
        return Ok(Vec::new());
    }
    let count = k as usize;
    let mut results = Vec::new();
    for mut group in grouped(aggregate, vector) {
        if aggregate.op != AggregateOp::LimitK {
            let descending = aggregate.op == AggregateOp::TopK;
            group.members.sort_by(|a, b| by_value(a.value, b.value, descending));
        }
        group.members.truncate(count);
        results.append(&mut group.members);
    }
    Ok(results)
}

/// `limit_ratio`: the members whose hash falls into the share; `r` and `-(1 - r)` complement each
/// other. Which members a share picks is this code's own choice: upstream hashes otherwise.
fn sampled(aggregate: &Aggregate, ratio: f64, vector: Vec<Element>) -> Vec<Element> {
    let picked = |element: &Element| {
        // The fingerprint's low bits vary more than its high bits: mix before dividing.
        let hash = element.labels.fingerprint();
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        let place = (hash ^ (hash >> 33)) as f64 / 2f64.powi(64);
        if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
    };
    let groups = grouped(aggregate, vector).into_iter();
    groups.flat_map(|group| group.members).filter(picked).collect()
}
