//! Operators between two operands: arithmetic, comparison, set operators and vector matching.

use std::collections::{HashMap, HashSet};

use daruma_model::{Labels, Time};

use super::{Element, Evaluated, Evaluator, Got, failed, nameless};
use crate::ast::{Binary, BinaryOp, Cardinality, Matching, Node};

/// The value of `left op right`, and whether a comparison keeps it.
fn apply(op: BinaryOp, left: f64, right: f64) -> (f64, bool) {
    let computed = match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        BinaryOp::Equal => return (left, left == right),
        BinaryOp::NotEqual => return (left, left != right),
        BinaryOp::Less => return (left, left < right),
        BinaryOp::LessEqual => return (left, left <= right),
        BinaryOp::Greater => return (left, left > right),
        BinaryOp::GreaterEqual => return (left, left >= right),
        BinaryOp::TrimUpper | BinaryOp::TrimLower => return (left, false),
        // Set operators never look at values.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => return (left, true),
    };
    (computed, true)
}

fn changes_meaning(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_set() && !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// What two elements must have in common to be partners.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != Labels::NAME && !listed(name))
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, node: &Node, binary: &Binary, time: Time) -> Evaluated<Got<'_>> {
        let left = self.node(&binary.left, time)?;
        let right = self.node(&binary.right, time)?;
        let op = binary.op;
        if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            let message = format!(
                "incompatible sample types encountered for binary operator {:?}: float {} float",
                op.as_str(),
                op.as_str()
            );
            self.info(message, &node.span);
        }
        Ok(match (left, right) {
            (Got::Scalar(left), Got::Scalar(right)) => {
                let (value, keep) = apply(op, left, right);
                Got::Scalar(if op.is_comparison() { f64::from(u8::from(keep)) } else { value })
            }
            (Got::Vector(vector), Got::Scalar(scalar)) => {
                Got::Vector(with_scalar(binary, vector, |value| apply(op, value, scalar)))
            }
            (Got::Scalar(scalar), Got::Vector(vector)) => {
                Got::Vector(with_scalar(binary, vector, |value| {
                    let (result, keep) = apply(op, scalar, value);
                    // A filter keeps the vector's value, on whichever side it stands.
                    (if op.is_comparison() { value } else { result }, keep)
                }))
            }
            (Got::Vector(left), Got::Vector(right)) => Got::Vector(match op {
                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => combined(binary, left, right),
                _ => matched(binary, left, right, time)?,
            }),
            _ => return failed("operands must be scalars or instant vectors"),
        })
    }
}

fn with_scalar(
    binary: &Binary,
    vector: Vec<Element>,
    compute: impl Fn(f64) -> (f64, bool),
) -> Vec<Element> {
    let mut results = Vec::with_capacity(vector.len());
    for mut element in vector {
        let (value, keep) = compute(element.value);
        if binary.returns_bool {
            element.value = f64::from(u8::from(keep));
        } else if keep {
            element.value = value;
        } else {
            continue;
        }
        element.drop_name |= changes_meaning(binary.op) || binary.returns_bool;
        results.push(element);
    }
    results
}

/// `and`, `or`, `unless`: presence by signature, never values.
fn combined(binary: &Binary, mut left: Vec<Element>, mut right: Vec<Element>) -> Vec<Element> {
    let signatures = |side: &[Element]| -> HashSet<Labels> {
        side.iter().map(|element| signature(&binary.matching, &element.labels)).collect()
    };
    match binary.op {
        BinaryOp::Or => {
            let present = signatures(&left);
            right
                .retain(|element| !present.contains(&signature(&binary.matching, &element.labels)));
            left.append(&mut right);
        }
        _ => {
            let present = signatures(&right);
            let keep = binary.op == BinaryOp::And;
            left.retain(|element| {
                present.contains(&signature(&binary.matching, &element.labels)) == keep
            });
        }
    }
    left
}

/// Arithmetic and comparison between the elements of two vectors that match.
fn matched(
    binary: &Binary,
    left: Vec<Element>,
    right: Vec<Element>,
    time: Time,
) -> Evaluated<Vec<Element>> {
    let matching = &binary.matching;
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (left.is_empty() || right.is_empty()) && !filled {
        return Ok(Vec::new());
    }
    // From here on the right side is the "one" side.
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    // `fill_left` and `fill_right` do not change sides with the operands: upstream reads them after
    // the swap, and a rule must mean the same here.
    let (many_fill, one_fill) = (matching.fill_left, matching.fill_right);

    let mut partners: HashMap<Labels, usize> = HashMap::with_capacity(one.len());
    for (place, element) in one.iter().enumerate() {
        let signature = signature(matching, &element.labels);
        if let Some(first) = partners.insert(signature.clone(), place) {
            return failed(format!(
                "found duplicate series for the match group {signature} on the {} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                if swapped { "left" } else { "right" },
                element.labels,
                one[first].labels,
            ));
        }
    }

    let mut results = Vec::with_capacity(many.len());
    // Result labels by signature, to find matches that are not unique.
    let mut seen: HashMap<Labels, HashSet<Labels>> = HashMap::new();
    let mut join = |many: &Element, one: &Element, signature: Labels| -> Evaluated<()> {
        let (left, right) = if swapped { (one, many) } else { (many, one) };
        let (value, keep) = apply(binary.op, left.value, right.value);
        let labels = result_labels(binary, &many.labels, &one.labels);
        let others = seen.entry(signature).or_default();
        if matching.cardinality == Cardinality::OneToOne && !others.is_empty() {
            return failed(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            );
        }
        if !others.insert(labels.clone()) {
            return failed(
                "multiple matches for labels: grouping labels must ensure unique matches",
            );
        }
        if keep || binary.returns_bool {
            let value = if binary.returns_bool { f64::from(u8::from(keep)) } else { value };
            let drop_name = binary.returns_bool || many.drop_name;
            results.push(Element { labels, drop_name, value, time });
        }
        Ok(())
    };
    let stand_in = |labels: &Labels, value: f64| Element {
        labels: signature(matching, labels),
        drop_name: false,
        value,
        time,
    };
    let mut met = vec![false; one.len()];
    for element in &many {
        let signature = signature(matching, &element.labels);
        match (partners.get(&signature), one_fill) {
            (Some(place), _) => {
                met[*place] = true;
                join(element, &one[*place], signature)?;
            }
            (None, Some(fill)) => join(element, &stand_in(&element.labels, fill), signature)?,
            (None, None) => {}
        }
    }
    if let Some(fill) = many_fill {
        for (element, _) in one.iter().zip(met).filter(|(_, met)| !met) {
            let signature = signature(matching, &element.labels);
            join(&stand_in(&element.labels, fill), element, signature)?;
        }
    }
    Ok(results)
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let matching = &binary.matching;
    let mut labels = if changes_meaning(binary.op) { nameless(many) } else { many.clone() };
    if matching.cardinality == Cardinality::OneToOne {
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        labels = labels.filtered(|name| listed(name) == matching.on);
    }
    for name in &matching.include {
        labels = labels.with(name, one.get(name));
    }
    labels
}
