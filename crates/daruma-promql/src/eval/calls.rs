//! Functions over scalars and instant vectors, and the way to those over range vectors.

use std::cmp::Ordering;

use daruma_model::{Histogram, Labels, Time};

use super::aggregate::{by_value, quantile_range};
use super::buckets::fraction;
use super::dates::Civil;
use super::intern::Interner;
use super::windows::absent_labels;
use super::{Element, Evaluated, Evaluator, FINAL, Got, SAME_LABELSET, failed};
use crate::ast::{Call, Kind, Node, ValueType};
use crate::histogram::variance;
use crate::number::format_value;

/// Regular expressions in a query are compiled within this many bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

impl Evaluator<'_> {
    pub(super) fn call(&self, node: &Node, call: &Call, time: Time) -> Evaluated<Got<'_>> {
        let name = call.function.name;
        if call.function.args.contains(&ValueType::Matrix) {
            return Ok(Got::Vector(self.over_windows(node, call, time)?));
        }
        let scalar = |at: usize| self.scalar(&call.args[at], time);
        Ok(match name {
            "time" => Got::Scalar(time.as_secs_f64()),
            "pi" => Got::Scalar(std::f64::consts::PI),
            "start" => Got::Scalar(self.bounds.0.as_secs_f64()),
            "end" => Got::Scalar(self.bounds.1.as_secs_f64()),
            "step" => Got::Scalar(self.step.as_secs_f64()),
            "range" => Got::Scalar((self.bounds.1 - self.bounds.0).as_secs_f64()),
            "min_of" | "max_of" => {
                let (a, b) = (scalar(0)?, scalar(1)?);
                Got::Scalar(if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else if name == "min_of" {
                    a.min(b)
                } else {
                    a.max(b)
                })
            }
            "scalar" => {
                let vector = self.vector(&call.args[0], time)?;
                let mut floats = vector.iter().filter_map(|element| element.value.float());
                Got::Scalar(match (floats.next(), floats.next()) {
                    (Some(only), None) => only,
                    _ => f64::NAN,
                })
            }
            "vector" => Got::Vector(vec![Element::bare(scalar(0)?, time)]),
            "absent" => {
                let arg = &call.args[0];
                let absent = self.vector(arg, time)?.is_empty();
                let element = || Element { labels: absent_labels(arg), ..Element::bare(1.0, time) };
                Got::Vector(absent.then(element).into_iter().collect())
            }
            "timestamp" => Got::Vector(self.timestamps(&call.args[0], time)?),
            "start_timestamp" => Got::Vector(self.start_timestamps(&call.args[0], time)),
            "label_replace" => Got::Vector(self.label_replace(node, call, time)?),
            "label_join" => Got::Vector(self.label_join(node, call, time)?),
            "info" => Got::Vector(self.info_labels(node, call, time)?),
            "sort" | "sort_desc" => {
                let mut vector = self.vector(&call.args[0], time)?;
                vector.retain(|element| element.value.float().is_some());
                let descending = name == "sort_desc";
                vector.sort_by(|a, b| by_value(a.value.number(), b.value.number(), descending));
                Got::Vector(vector)
            }
            "sort_by_label" | "sort_by_label_desc" => Got::Vector(self.sort_by_label(call, time)?),
            "histogram_quantile" => {
                let phi = scalar(0)?;
                self.check_quantile(phi, &call.args[0]);
                let arg = &call.args[1];
                let found = self.histograms(node, arg, time)?;
                let mut results = Vec::with_capacity(found.native.len() + found.classic.len());
                for (labels, histogram) in found.native {
                    let value = self.native_quantile(phi, &labels, &histogram, &arg.span).into();
                    results.push(Element { labels, drop_name: true, value, time });
                }
                for histogram in found.classic {
                    let value = self.bucket_quantile(phi, &histogram, &arg.span, time).into();
                    let labels = histogram.labels;
                    results.push(Element { labels, drop_name: true, value, time });
                }
                Got::Vector(results)
            }
            "histogram_quantiles" => {
                let label = self.text(&call.args[1], time)?;
                let arg = &call.args[0];
                let mut phis = Vec::new();
                for arg in &call.args[2..] {
                    let phi = self.scalar(arg, time)?;
                    self.check_quantile(phi, arg);
                    phis.push(phi);
                }
                let found = self.histograms(node, arg, time)?;
                let mut results = Vec::new();
                for phi in phis {
                    self.hold(found.native.len() + found.classic.len())?;
                    let text = metric_float(phi);
                    for (labels, histogram) in &found.native {
                        let value = self.native_quantile(phi, labels, histogram, &arg.span).into();
                        let labels = labels.with(&label, &text);
                        results.push(Element { labels, drop_name: true, value, time });
                    }
                    for histogram in &found.classic {
                        let value = self.bucket_quantile(phi, histogram, &arg.span, time).into();
                        let labels = histogram.labels.with(&label, &text);
                        results.push(Element { labels, drop_name: true, value, time });
                    }
                }
                Got::Vector(results)
            }
            "histogram_fraction" => {
                let bounds = (scalar(0)?, scalar(1)?);
                let arg = &call.args[2];
                let found = self.histograms(node, arg, time)?;
                let mut results = Vec::with_capacity(found.native.len() + found.classic.len());
                for (labels, histogram) in found.native {
                    let value = self.native_fraction(bounds, &labels, &histogram, &arg.span).into();
                    results.push(Element { labels, drop_name: true, value, time });
                }
                for histogram in found.classic {
                    let value = fraction(bounds.0, bounds.1, &histogram.buckets).into();
                    let labels = histogram.labels;
                    results.push(Element { labels, drop_name: true, value, time });
                }
                Got::Vector(results)
            }
            // These read native histograms only: floats have no part in their result.
            "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev"
            | "histogram_stdvar" => {
                let read: fn(&Histogram) -> f64 = match name {
                    "histogram_avg" => |histogram| histogram.sum / histogram.count,
                    "histogram_count" => |histogram| histogram.count,
                    "histogram_sum" => |histogram| histogram.sum,
                    "histogram_stddev" => |histogram| variance(histogram).sqrt(),
                    _ => variance,
                };
                let mut vector = self.vector(&call.args[0], time)?;
                vector.retain_mut(|element| {
                    let Some(value) = element.value.histogram().map(|h| read(h)) else {
                        return false;
                    };
                    element.value = value.into();
                    element.drop_name = true;
                    true
                });
                Got::Vector(vector)
            }
            "clamp" | "clamp_min" | "clamp_max" => {
                let (low, high) = match name {
                    "clamp" => (scalar(1)?, scalar(2)?),
                    "clamp_min" => (scalar(1)?, f64::INFINITY),
                    _ => (f64::NEG_INFINITY, scalar(1)?),
                };
                if high < low {
                    return Ok(Got::Vector(Vec::new()));
                }
                self.mapped(&call.args[0], time, |value| {
                    if value.is_nan() || low.is_nan() || high.is_nan() {
                        f64::NAN
                    } else {
                        value.min(high).max(low)
                    }
                })?
            }
            "round" => {
                // Inverted, because fewer digits are lost so.
                let inverse = 1.0 / if call.args.len() > 1 { scalar(1)? } else { 1.0 };
                self.mapped(&call.args[0], time, |value| (value * inverse + 0.5).floor() / inverse)?
            }
            "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour"
            | "minute" | "month" | "year" => {
                let field = |seconds: f64| date_field(name, seconds);
                match call.args.first() {
                    Some(arg) => self.mapped(arg, time, field)?,
                    None => {
                        let seconds = time.0.div_euclid(1000) as f64;
                        Got::Vector(vec![Element::bare(field(seconds), time)])
                    }
                }
            }
            _ => match plain(name) {
                Some(function) => self.mapped(&call.args[0], time, function)?,
                None => return failed(format!("`{name}` cannot be evaluated")),
            },
        })
    }

    fn mapped(&self, arg: &Node, time: Time, function: impl Fn(f64) -> f64) -> Evaluated<Got<'_>> {
        let mut vector = self.vector(arg, time)?;
        // Functions of a number leave histograms out.
        vector.retain_mut(|element| {
            let Some(value) = element.value.float() else { return false };
            element.value = function(value).into();
            element.drop_name = true;
            true
        });
        Ok(Got::Vector(vector))
    }

    fn check_quantile(&self, phi: f64, arg: &Node) {
        if !(0.0..=1.0).contains(&phi) {
            self.warn(quantile_range(phi), &arg.span);
        }
    }

    /// The time of each sample for a plain selector; the evaluation's for anything computed.
    fn timestamps(&self, arg: &Node, time: Time) -> Evaluated<Vec<Element>> {
        let mut vector = match &arg.bare().kind {
            Kind::Selector(selector) => self.newest(selector, time),
            _ => self.vector(arg, time)?,
        };
        let computed = !matches!(&arg.bare().kind, Kind::Selector(_));
        for element in &mut vector {
            element.value = if computed { time } else { element.time }.as_secs_f64().into();
            element.time = time;
            element.drop_name = true;
        }
        Ok(vector)
    }

    /// Since when each sample of a plain selector counts, 0 where that is not known; nothing for
    /// anything computed.
    fn start_timestamps(&self, arg: &Node, time: Time) -> Vec<Element> {
        let Kind::Selector(selector) = &arg.bare().kind else { return Vec::new() };
        self.newest_as(selector, time, |newest| Element {
            labels: newest.labels.clone(),
            drop_name: true,
            value: newest.start.unwrap_or_default().as_secs_f64().into(),
            time,
        })
    }

    fn label_replace(&self, node: &Node, call: &Call, time: Time) -> Evaluated<Vec<Element>> {
        let text = |at: usize| self.text(&call.args[at], time);
        let (dst, replacement, src, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
        let Ok(regex) =
            regex::RegexBuilder::new(&format!("^(?s:{})$", daruma_model::go_pattern(&pattern)))
                .size_limit(REGEX_BYTES_MAX)
                .build()
        else {
            return failed(format!("invalid regular expression in label_replace(): {pattern}"));
        };
        if dst.is_empty() {
            return failed(format!("invalid destination label name in label_replace(): {dst}"));
        }
        self.relabelled(node, call, &dst, time, |labels| {
            let captures = regex.captures(labels.get(&src))?;
            let mut value = String::new();
            captures.expand(&replacement, &mut value);
            Some(labels.with(&dst, &value))
        })
    }

    /// The elements of the first argument with other labels, where `change` has any. What it made of a
    /// label set is remembered: its arguments are texts, and the same sets come again at each step.
    fn relabelled(
        &self,
        node: &Node,
        call: &Call,
        dst: &str,
        time: Time,
        change: impl Fn(&Labels) -> Option<Labels>,
    ) -> Evaluated<Vec<Element>> {
        let mut vector = self.vector(&call.args[0], time)?;
        let mut memo = self.recall(node.id);
        if memo.joined.len() > 2 * vector.len() + (1 << 12) {
            memo.joined.clear();
        }
        let repeats = self.repeats();
        for element in &mut vector {
            let key = (element.labels.address(), 0);
            let known =
                memo.joined.get(&key).filter(|_| repeats).map(|(.., labels)| labels.clone());
            let labels = match known {
                Some(labels) => labels,
                None => {
                    let labels = change(&element.labels).unwrap_or_else(|| element.labels.clone());
                    if repeats {
                        let before = element.labels.clone();
                        memo.joined.insert(key, (before.clone(), before, labels.clone()));
                    }
                    labels
                }
            };
            if labels.address() != element.labels.address() {
                element.labels = labels;
                element.drop_name &= dst != Labels::NAME;
            }
        }
        self.remember(node.id, memo);
        distinct(vector)
    }

    fn label_join(&self, node: &Node, call: &Call, time: Time) -> Evaluated<Vec<Element>> {
        let (dst, separator) = (self.text(&call.args[1], time)?, self.text(&call.args[2], time)?);
        let mut sources = Vec::new();
        for arg in &call.args[3..] {
            let source = self.text(arg, time)?;
            if source.is_empty() {
                return failed("invalid source label name in label_join(): ");
            }
            sources.push(source);
        }
        if dst.is_empty() {
            return failed("invalid destination label name in label_join(): ");
        }
        self.relabelled(node, call, &dst, time, |labels| {
            let values: Vec<&str> = sources.iter().map(|name| labels.get(name)).collect();
            Some(labels.with(&dst, &values.join(&separator)))
        })
    }

    fn sort_by_label(&self, call: &Call, time: Time) -> Evaluated<Vec<Element>> {
        let mut names = Vec::new();
        for arg in &call.args[1..] {
            names.push(self.text(arg, time)?);
        }
        let descending = call.function.name == "sort_by_label_desc";
        let mut vector = self.vector(&call.args[0], time)?;
        vector.sort_by(|a, b| {
            let by_names = names
                .iter()
                .map(|name| natural(a.labels.get(name), b.labels.get(name)))
                .find(|order| *order != Ordering::Equal);
            let order = by_names.unwrap_or_else(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        Ok(vector)
    }
}

/// Refuses two elements with one label set.
fn distinct(vector: Vec<Element>) -> Evaluated<Vec<Element>> {
    if vector.windows(2).all(|pair| pair[0].labels < pair[1].labels) {
        return Ok(vector);
    }
    let mut interner = Interner::new(false);
    interner.expect(vector.len());
    for (at, element) in vector.iter().enumerate() {
        if interner.place(&element.labels, 0, &FINAL) < at {
            return failed(SAME_LABELSET);
        }
    }
    Ok(vector)
}

/// A number as a label value in the exposition format: whole numbers end in `.0`.
fn metric_float(value: f64) -> String {
    let text = format_value(value);
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') { text + ".0" } else { text }
}

/// Digits compare as numbers, so that `eth2` comes before `eth10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (one, other) = (chunk(a), chunk(b));
        a = &a[one.len()..];
        b = &b[other.len()..];
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(one) && digits(other) {
            let (x, y) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| one.len().cmp(&other.len()))
        } else {
            one.cmp(other)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// The digits, or the other characters, at the start.
fn chunk(text: &str) -> &str {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len());
    &text[..end]
}

fn date_field(name: &str, seconds: f64) -> f64 {
    // Times that no calendar holds (NaN, infinity) have no date.
    if !seconds.is_finite() || seconds.abs() > 9.2e18 {
        return f64::NAN;
    }
    let civil = Civil::from_secs(seconds as i64);
    (match name {
        "day_of_month" => civil.day,
        "day_of_week" => civil.weekday,
        "day_of_year" => civil.year_day,
        "days_in_month" => civil.days_in_month(),
        "hour" => civil.hour,
        "minute" => civil.minute,
        "month" => civil.month,
        _ => civil.year,
    }) as f64
}

/// Functions of one number.
pub(super) fn plain(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "sgn" => |value| {
            if value > 0.0 {
                1.0
            } else if value < 0.0 {
                -1.0
            } else {
                value
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_labels_sort_as_numbers() {
        let mut names = ["eth10", "eth2", "eth", "eth02", "lo", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "eth", "eth2", "eth02", "eth10", "lo"]);
    }

    #[test]
    fn every_function_of_the_catalogue_has_a_computation() {
        for function in crate::FUNCTIONS {
            let vector_only = function.args == [ValueType::Vector] && function.optional == 0;
            let special = ["absent", "scalar", "sort", "sort_desc", "timestamp", "start_timestamp"];
            if vector_only
                && !function.name.starts_with("histogram_")
                && !special.contains(&function.name)
            {
                assert!(plain(function.name).is_some(), "{}", function.name);
            }
        }
    }
}
