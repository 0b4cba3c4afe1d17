//! Computing with native histograms: adding, scaling, comparing, and what can be read off one.
//!
//! It stands apart from the evaluator because none of it knows of series, time windows or labels, and
//! from the model because only queries compute. A sum of histograms has the coarser of the two
//! resolutions, the wider of the two zero buckets and the bounds both have; exponential and custom
//! buckets never mix ([`Incompatible`]).
//!
//! Never in here: a panic on data. Indices and counts may be anything that a source sends.

mod arith;
mod read;
mod reset;
mod trim;

use std::fmt::Write;

use daruma_model::Histogram;

use crate::number::format_short;

pub(crate) use arith::{Body, Incompatible, negated, scaled};
pub(crate) use read::{fraction, quantile, variance};
pub use reset::is_reset;
pub(crate) use trim::trimmed;

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation of exactly `lower` is in it.
    pub lower_closed: bool,
    /// Whether an observation of exactly `upper` is in it.
    pub upper_closed: bool,
    /// How many observations it holds.
    pub count: f64,
}

impl Bucket {
    /// Whether it is the one around zero, or reaches over it.
    pub(crate) fn spans_zero(&self) -> bool {
        self.lower <= 0.0 && self.upper >= 0.0
    }
}

/// The upper bound of the bucket at `index`.
pub(crate) fn bound(histogram: &Histogram, index: i32) -> f64 {
    if !histogram.is_custom() {
        return exponential_bound(index, histogram.schema);
    }
    match usize::try_from(index) {
        Ok(at) => histogram.custom_bounds.get(at).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

/// 2^(index / 2^schema); the bound above the largest number is that number.
pub(crate) fn exponential_bound(index: i32, schema: i8) -> f64 {
    if schema < 0 {
        let exponent = i64::from(index) << (-i64::from(schema)).min(31);
        return if exponent == 1024 { f64::MAX } else { (exponent as f64).exp2() };
    }
    let cuts = 1_i64 << schema.min(30);
    if i64::from(index) == 1024 * cuts {
        return f64::MAX;
    }
    let (whole, part) = (i64::from(index).div_euclid(cuts), i64::from(index).rem_euclid(cuts));
    (whole as f64).exp2() * (part as f64 / cuts as f64).exp2()
}

fn positive(histogram: &Histogram, index: i32, count: f64) -> Bucket {
    let custom = histogram.is_custom();
    let (lower, upper) = (bound(histogram, index.saturating_sub(1)), bound(histogram, index));
    let lower_closed = custom && index == 0;
    Bucket { lower, upper, lower_closed, upper_closed: true, count }
}

fn negative(histogram: &Histogram, index: i32, count: f64) -> Bucket {
    let (lower, upper) = (-bound(histogram, index), -bound(histogram, index.saturating_sub(1)));
    Bucket { lower, upper, lower_closed: true, upper_closed: false, count }
}

fn zero(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        lower_closed: true,
        upper_closed: true,
        count: histogram.zero_count,
    }
}

/// The buckets of `histogram` that hold anything, in order of their bounds. As upstream, what the bucket
/// around zero covers is no other's, and it is left out if a difference has made it negative.
#[must_use]
pub fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = histogram
        .negative
        .iter()
        .filter(|(_, count)| *count != 0.0)
        .map(|(index, count)| negative(histogram, index, count))
        .collect();
    all.reverse();
    let threshold = histogram.zero_threshold;
    for bucket in all.iter_mut().filter(|bucket| bucket.upper > -threshold) {
        bucket.upper = -threshold;
    }
    if histogram.zero_count > 0.0 {
        all.push(zero(histogram));
    }
    let before = all.len();
    let above = histogram.positive.iter().filter(|(_, count)| *count != 0.0);
    all.extend(above.map(|(index, count)| positive(histogram, index, count)));
    if !histogram.is_custom() {
        for bucket in all[before..].iter_mut().filter(|bucket| bucket.lower < threshold) {
            bucket.lower = threshold;
        }
    }
    all
}

/// The text form that `count_values` makes a label of: `{count:4, sum:5, (0.5,1]:1, (1,2]:3}`.
#[must_use]
pub fn text(histogram: &Histogram) -> String {
    let (count, sum) = (format_short(histogram.count), format_short(histogram.sum));
    let mut text = format!("{{count:{count}, sum:{sum}");
    for Bucket { lower, upper, lower_closed, upper_closed, count } in buckets(histogram) {
        let (open, close) =
            (if lower_closed { '[' } else { '(' }, if upper_closed { ']' } else { ')' });
        let (lower, upper) = (format_short(lower), format_short(upper));
        // Writing to a String does not fail.
        let _ = write!(text, ", {open}{lower},{upper}{close}:{}", format_short(count));
    }
    text.push('}');
    text
}

/// Whether two histograms tell the same: equal counts in equal buckets. An empty bucket is as good as
/// none; NaN equals NaN in the sum; hints do not count.
#[must_use]
pub fn same(a: &Histogram, b: &Histogram) -> bool {
    let full = |pair: &(i32, f64)| pair.1 != 0.0;
    let head = a.schema == b.schema
        && a.count == b.count
        && a.sum.to_bits() == b.sum.to_bits()
        && a.zero_count == b.zero_count
        && a.zero_threshold == b.zero_threshold
        && a.custom_bounds == b.custom_bounds;
    head && a.positive.iter().filter(full).eq(b.positive.iter().filter(full))
        && a.negative.iter().filter(full).eq(b.negative.iter().filter(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_two_and_their_roots() {
        for (index, schema, want) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-3, 0, 0.125),
            (1, -1, 4.0),
            (2, -2, 256.0),
            (1, 1, std::f64::consts::SQRT_2),
            (-1, 1, std::f64::consts::FRAC_1_SQRT_2),
            (8, 3, 2.0),
            (1024, 0, f64::MAX),
            (1024 * 256, 8, f64::MAX),
            (i32::MAX, 8, f64::INFINITY),
            (i32::MIN, 0, 0.0),
            (i32::MAX, -4, f64::INFINITY),
        ] {
            let got = exponential_bound(index, schema);
            assert!(got == want || (got / want - 1.0).abs() < 1e-15, "{index} {schema}: {got}");
        }
    }

    #[test]
    fn the_text_form_lists_full_buckets_in_order() {
        let histogram = Histogram {
            count: 7.0,
            sum: 1e21,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: [(0, 1.0), (1, 0.0), (2, 3.0)].into_iter().collect(),
            negative: [(1, 2.0)].into_iter().collect(),
            ..Histogram::default()
        };
        let want = "{count:7, sum:1e+21, [-2,-1):2, [-0.001,0.001]:1, (0.5,1]:1, (2,4]:3}";
        assert_eq!(text(&histogram), want);
    }
}
