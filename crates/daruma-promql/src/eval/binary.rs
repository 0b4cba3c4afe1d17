//! Operators between two operands: arithmetic, comparison, set operators and vector matching.

use std::collections::HashSet;
use std::ops::Range;

use daruma_model::{Histogram, Labels, ResetHint, Time};

use super::edges::reconciled;
use super::intern::{Interner, Selection};
use super::{Element, Evaluated, Evaluator, FINAL, Got, Memo, failed};
use crate::ast::{Binary, BinaryOp, Cardinality, Matching, Node};
use crate::histogram::{Body, Incompatible, same, scaled, trimmed};
use crate::value::SampleValue;

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
    !op.is_comparison() && !op.is_set() && !is_trim(op)
}

fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

impl Matching {
    /// What two elements must have in common to be partners.
    fn selection(&self) -> Selection<'_> {
        if self.on { Selection::Only(&self.labels) } else { Selection::Without(&self.labels) }
    }
}

/// An operator between the elements of a vector and one number.
pub(super) struct Scalar<'b> {
    binary: &'b Binary,
    scalar: f64,
    /// Whether the number stands on the left.
    first: bool,
}

impl<'b> Scalar<'b> {
    /// `None` for operators that have no meaning between numbers.
    pub(super) fn new(binary: &'b Binary, scalar: f64, first: bool) -> Option<Scalar<'b>> {
        let fits = !is_trim(binary.op) && !binary.op.is_set();
        fits.then_some(Scalar { binary, scalar, first })
    }

    pub(super) fn drops_name(&self) -> bool {
        changes_meaning(self.binary.op) || self.binary.returns_bool
    }

    /// The result, if the value is kept; see [`Operation::with_scalar`].
    pub(super) fn apply(&self, value: f64) -> Option<f64> {
        let (left, right) = if self.first { (self.scalar, value) } else { (value, self.scalar) };
        let (computed, keep) = apply(self.binary.op, left, right);
        if self.binary.returns_bool {
            return Some(f64::from(u8::from(keep)));
        }
        keep.then_some(if self.binary.op.is_comparison() { value } else { computed })
    }
}

/// One operator where it stands.
struct Operation<'b> {
    eval: &'b Evaluator<'b>,
    binary: &'b Binary,
    /// Where the whole expression was written.
    span: &'b Range<usize>,
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, node: &Node, binary: &Binary, time: Time) -> Evaluated<Got<'_>> {
        let left = self.node(&binary.left, time)?;
        let right = self.node(&binary.right, time)?;
        let operation = Operation { eval: self, binary, span: &node.span };
        Ok(match (left, right) {
            (Got::Scalar(left), Got::Scalar(right)) => {
                if is_trim(binary.op) {
                    operation.unfit("float", "float");
                }
                let (value, keep) = apply(binary.op, left, right);
                let truth = f64::from(u8::from(keep));
                Got::Scalar(if binary.op.is_comparison() { truth } else { value })
            }
            (Got::Vector(vector), Got::Scalar(scalar)) => {
                Got::Vector(operation.with_scalar(vector, scalar, false)?)
            }
            (Got::Scalar(scalar), Got::Vector(vector)) => {
                Got::Vector(operation.with_scalar(vector, scalar, true)?)
            }
            (Got::Vector(left), Got::Vector(right)) => {
                let mut memo = self.recall(node.id);
                memo.interner.expect(left.len() + right.len());
                let result = match binary.op {
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                        Ok(combined(binary, left, right, &mut memo.interner))
                    }
                    _ => operation.matched(left, right, time, &mut memo),
                };
                self.remember(node.id, memo);
                Got::Vector(result?)
            }
            _ => return failed("operands must be scalars or instant vectors"),
        })
    }
}

impl Operation<'_> {
    /// A remark that these two kinds of sample have nothing to do with each other here.
    fn unfit(&self, left: &str, right: &str) {
        let op = self.binary.op.as_str();
        let message = format!(
            "incompatible sample types encountered for binary operator {op:?}: {left} {op} {right}"
        );
        self.eval.info(message, self.span);
    }

    /// The value of `left op right`, and whether a comparison keeps it. `None` if there is no value,
    /// which has been remarked upon.
    fn apply(
        &self,
        left: &SampleValue,
        right: &SampleValue,
    ) -> Evaluated<Option<(SampleValue, bool)>> {
        use SampleValue::{Float, Histogram as Native};
        let op = self.binary.op;
        let histogram = match (left, right) {
            (Float(left), Float(right)) => {
                if is_trim(op) {
                    self.unfit("float", "float");
                    return Ok(None);
                }
                let (value, keep) = apply(op, *left, *right);
                return Ok(Some((Float(value), keep)));
            }
            (Native(histogram), Float(factor)) | (Float(factor), Native(histogram))
                if op == BinaryOp::Mul =>
            {
                scaled(histogram, *factor)
            }
            (Native(histogram), Float(divisor)) if op == BinaryOp::Div => {
                let mut body: Body<f64> = Body::from(&**histogram);
                body.divide(*divisor);
                body.finish()
            }
            (Native(histogram), Float(limit)) if is_trim(op) => {
                trimmed(histogram, *limit, op == BinaryOp::TrimUpper)
            }
            (Native(a), Native(b)) => match op {
                BinaryOp::Add | BinaryOp::Sub => match self.total(a, b) {
                    Some(histogram) => histogram,
                    None => return Ok(None),
                },
                BinaryOp::Equal => return Ok(Some((left.clone(), same(a, b)))),
                BinaryOp::NotEqual => return Ok(Some((left.clone(), !same(a, b)))),
                _ => {
                    self.unfit("histogram", "histogram");
                    return Ok(None);
                }
            },
            _ => {
                let kind = |value: &SampleValue| match value {
                    Float(_) => "float",
                    Native(_) => "histogram",
                };
                self.unfit(kind(left), kind(right));
                return Ok(None);
            }
        };
        self.eval.hold_histogram(&histogram)?;
        Ok(Some((histogram.into(), true)))
    }

    /// The sum or the difference of two histograms.
    fn total(&self, a: &Histogram, b: &Histogram) -> Option<Histogram> {
        let minus = self.binary.op == BinaryOp::Sub;
        let mut body: Body<f64> = Body::from(a);
        match body.add(b, if minus { -1.0 } else { 1.0 }) {
            Err(Incompatible) => {
                let message = format!(
                    "incompatible bucket layout encountered for binary operator {}",
                    self.binary.op.as_str()
                );
                self.eval.warn(message, self.span);
                return None;
            }
            Ok(remarks) => {
                let operation = if minus { "subtraction" } else { "addition" };
                if remarks.collision {
                    let message =
                        format!("conflicting counter resets during histogram {operation}");
                    self.eval.warn(message, self.span);
                }
                if remarks.reconciled {
                    self.eval.info(reconciled(operation), self.span);
                }
            }
        }
        if minus {
            body.hint = ResetHint::Gauge;
        }
        Some(body.finish())
    }

    fn with_scalar(
        &self,
        vector: Vec<Element>,
        scalar: f64,
        scalar_first: bool,
    ) -> Evaluated<Vec<Element>> {
        let binary = self.binary;
        let scalar = SampleValue::Float(scalar);
        let mut results = Vec::with_capacity(vector.len());
        for mut element in vector {
            let applied = if scalar_first {
                self.apply(&scalar, &element.value)?
            } else {
                self.apply(&element.value, &scalar)?
            };
            let Some((value, keep)) = applied else { continue };
            if binary.returns_bool {
                element.value = f64::from(u8::from(keep)).into();
            } else if !keep {
                continue;
            } else if !binary.op.is_comparison() {
                // A filter keeps the vector's value, on whichever side it stands.
                element.value = value;
            }
            element.drop_name |= changes_meaning(binary.op) || binary.returns_bool;
            results.push(element);
        }
        Ok(results)
    }

    /// Arithmetic and comparison between the elements of two vectors that match.
    fn matched(
        &self,
        left: Vec<Element>,
        right: Vec<Element>,
        time: Time,
        memo: &mut Memo,
    ) -> Evaluated<Vec<Element>> {
        const NONE: usize = usize::MAX;
        let binary = self.binary;
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
        let selections = [matching.selection()];

        // The element of the "one" side at each place.
        let mut partners: Vec<usize> = vec![NONE; memo.interner.len()];
        for (at, element) in one.iter().enumerate() {
            let place = memo.interner.place(&element.labels, 0, &selections);
            if place == partners.len() {
                partners.push(NONE);
            }
            let first = std::mem::replace(&mut partners[place], at);
            if first != NONE {
                return failed(format!(
                    "found duplicate series for the match group {} on the {} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    selections[0].of(&element.labels),
                    if swapped { "left" } else { "right" },
                    element.labels,
                    one[first].labels,
                ));
            }
        }

        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let mut results = Vec::with_capacity(many.len());
        let mut taken: Vec<bool> = Vec::new();
        let mut seen: HashSet<(usize, Labels)> = HashSet::new();
        let mut join = |many: &Element,
                        one: &Element,
                        place: usize,
                        joined: &mut super::intern::ByAddress<_, _>|
         -> Evaluated<()> {
            let (left, right) = if swapped { (one, many) } else { (many, one) };
            let Some((value, keep)) = self.apply(&left.value, &right.value)? else {
                return Ok(());
            };
            if !keep && !binary.returns_bool {
                return Ok(());
            }
            let labels = self.result_labels(&many.labels, &one.labels, joined);
            if one_to_one {
                if taken.len() <= place {
                    taken.resize(place + 1, false);
                }
                if std::mem::replace(&mut taken[place], true) {
                    return failed(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    );
                }
            } else if !seen.insert((place, labels.clone())) {
                return failed(
                    "multiple matches for labels: grouping labels must ensure unique matches",
                );
            }
            let value = if binary.returns_bool { f64::from(u8::from(keep)).into() } else { value };
            let drop_name = binary.returns_bool || many.drop_name;
            results.push(Element { labels, drop_name, value, time });
            Ok(())
        };
        let stand_in = |labels: &Labels, value: f64| Element {
            labels: selections[0].of(labels),
            ..Element::bare(value, time)
        };
        let mut met = vec![false; one.len()];
        let repeats = self.eval.repeats();
        for element in &many {
            let place = if filled || repeats {
                memo.interner.place(&element.labels, 0, &selections)
            } else {
                match memo.interner.find(&element.labels, 0, &selections) {
                    Some(place) => place,
                    None => continue,
                }
            };
            match (partners.get(place).filter(|at| **at != NONE), one_fill) {
                (Some(at), _) => {
                    met[*at] = true;
                    join(element, &one[*at], place, &mut memo.joined)?;
                }
                (None, Some(fill)) => {
                    join(element, &stand_in(&element.labels, fill), place, &mut memo.joined)?;
                }
                (None, None) => {}
            }
        }
        if let Some(fill) = many_fill {
            for (element, _) in one.iter().zip(met).filter(|(_, met)| !met) {
                let place = memo.interner.place(&element.labels, 0, &selections);
                join(&stand_in(&element.labels, fill), element, place, &mut memo.joined)?;
            }
        }
        Ok(results)
    }

    /// The labels of a match; remembered, where the same two label sets come again.
    fn result_labels(
        &self,
        many: &Labels,
        one: &Labels,
        joined: &mut super::intern::ByAddress<(usize, usize), (Labels, Labels, Labels)>,
    ) -> Labels {
        let key = (many.address(), one.address());
        if let Some((_, _, labels)) = joined.get(&key) {
            return labels.clone();
        }
        let matching = &self.binary.matching;
        let meaning = FINAL[usize::from(changes_meaning(self.binary.op))];
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        let keeps =
            |name: &str| meaning.keeps(name) && (!one_to_one || listed(name) == matching.on);
        let mut labels = if many.iter().all(|(name, _)| keeps(name)) {
            many.clone()
        } else {
            many.filtered(keeps)
        };
        for name in &matching.include {
            labels = labels.with(name, one.get(name));
        }
        if self.eval.repeats() {
            // Label sets made anew at each step are not worth keeping without end.
            if joined.len() > JOINED_MAX {
                joined.clear();
            }
            joined.insert(key, (many.clone(), one.clone(), labels.clone()));
        }
        labels
    }
}

/// The most matches whose labels one operator remembers.
const JOINED_MAX: usize = 1 << 18;

/// `and`, `or`, `unless`: presence by signature, never values.
fn combined(
    binary: &Binary,
    mut left: Vec<Element>,
    mut right: Vec<Element>,
    interner: &mut Interner,
) -> Vec<Element> {
    let selections = [binary.matching.selection()];
    let present = |side: &[Element], interner: &mut Interner| -> Vec<bool> {
        let mut present = vec![false; interner.len()];
        for element in side {
            let place = interner.place(&element.labels, 0, &selections);
            if present.len() <= place {
                present.resize(place + 1, false);
            }
            present[place] = true;
        }
        present
    };
    let or = binary.op == BinaryOp::Or;
    let present = present(if or { &left } else { &right }, interner);
    let is_present = |element: &Element, interner: &Interner| {
        let place = interner.find(&element.labels, 0, &selections);
        place.is_some_and(|place| present.get(place).copied().unwrap_or(false))
    };
    if or {
        right.retain(|element| !is_present(element, interner));
        left.append(&mut right);
    } else {
        let keep = binary.op == BinaryOp::And;
        left.retain(|element| is_present(element, interner) == keep);
    }
    left
}
