//! What can be read off one histogram: quantiles, fractions, the spread.

use daruma_model::Histogram;

use super::{Bucket, buckets, negative, positive, zero};
use crate::eval::sums::Sum;

/// What the buckets do not say, because observations of NaN are in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caveat {
    /// The result is NaN.
    Unknown,
    /// The result is higher than without them.
    Skewed,
}

impl Caveat {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Caveat::Unknown => "NaN",
            Caveat::Skewed => "skewed higher",
        }
    }
}

/// A full bucket, its bounds not yet computed.
#[derive(Clone, Copy)]
enum Cell {
    Negative(i32, f64),
    Zero(f64),
    Positive(i32, f64),
}

impl Cell {
    fn count(self) -> f64 {
        match self {
            Cell::Negative(_, count) | Cell::Zero(count) | Cell::Positive(_, count) => count,
        }
    }

    fn bucket(self, histogram: &Histogram) -> Bucket {
        match self {
            Cell::Negative(index, count) => negative(histogram, index, count),
            Cell::Zero(_) => zero(histogram),
            Cell::Positive(index, count) => positive(histogram, index, count),
        }
    }
}

fn cells(histogram: &Histogram) -> Vec<Cell> {
    let mut cells: Vec<Cell> =
        histogram.negative.iter().map(|(index, count)| Cell::Negative(index, count)).collect();
    cells.reverse();
    if histogram.zero_count > 0.0 {
        cells.push(Cell::Zero(histogram.zero_count));
    }
    cells.extend(histogram.positive.iter().map(|(index, count)| Cell::Positive(index, count)));
    cells
}

/// The zero bucket of a histogram with buckets on one side only begins, or ends, at zero.
pub(super) fn one_sided(mut bucket: Bucket, histogram: &Histogram) -> Bucket {
    match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
    bucket
}

/// The φ-quantile: within a bucket exponential, in the zero bucket and custom buckets linear.
pub(crate) fn quantile(phi: f64, histogram: &Histogram) -> (f64, Option<Caveat>) {
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || phi.is_nan() {
        return (f64::NAN, None);
    }
    let nan_sum = histogram.sum.is_nan();
    let forward = nan_sum || phi < 0.5;
    let mut rank = if forward { phi } else { 1.0 - phi } * histogram.count;
    let mut cells = cells(histogram);
    if !forward {
        cells.reverse();
    }
    let (mut below, mut found) = (0.0, None);
    for cell in cells.into_iter().filter(|cell| cell.count() != 0.0) {
        below += cell.count();
        found = Some(cell);
        if below >= rank {
            break;
        }
    }
    let Some(cell) = found else {
        return (f64::NAN, nan_sum.then_some(Caveat::Unknown));
    };
    let mut bucket = cell.bucket(histogram);
    // Rounding may leave more in the buckets than was counted.
    below = below.min(histogram.count);
    if below < rank {
        return if nan_sum { (f64::NAN, Some(Caveat::Unknown)) } else { (bucket.upper, None) };
    }
    let caveat = nan_sum.then_some(Caveat::Skewed);
    if histogram.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, caveat);
            }
            bucket.lower = 0.0;
        }
        if bucket.upper == f64::INFINITY {
            return (bucket.lower, caveat);
        }
    } else if bucket.spans_zero() {
        bucket = one_sided(bucket, histogram);
    }
    rank = if forward { rank - (below - bucket.count) } else { below - rank };
    (at_share(&bucket, rank / bucket.count, histogram.is_custom()), caveat)
}

/// The value below which the given share of a bucket's observations lies.
fn at_share(bucket: &Bucket, share: f64, custom: bool) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if custom || bucket.spans_zero() {
        return lower + (upper - lower) * share;
    }
    let (low, high) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (low + (high - low) * share).exp2()
    } else {
        -(high + (low - high) * (1.0 - share)).exp2()
    }
}

/// The share of a bucket's observations that lies below `value`, which is within its bounds.
pub(super) fn share_below(bucket: &Bucket, value: f64, custom: bool) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if custom || bucket.spans_zero() {
        return (value - lower) / (upper - lower);
    }
    let (low, high, at) = (lower.abs().log2(), upper.abs().log2(), value.abs().log2());
    if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
}

/// The share of observations between `lower` and `upper`, and whether observations of NaN are in none.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    let nan_sum = histogram.sum.is_nan();
    let all = buckets(histogram);
    let counted: f64 = all.iter().map(|bucket| bucket.count).sum();
    let nans = nan_sum && counted < histogram.count;
    if lower >= upper {
        return (0.0, nans);
    }
    let most = if nan_sum { counted } else { histogram.count };
    let rank =
        |value: f64| rank(value, &all, histogram).filter(|rank| *rank <= most).unwrap_or(most);
    ((rank(upper) - rank(lower)) / histogram.count, nans)
}

/// How many observations lie below `value`; `None` if all do.
fn rank(value: f64, all: &[Bucket], histogram: &Histogram) -> Option<f64> {
    let custom = histogram.is_custom();
    let mut below = 0.0;
    for bucket in all {
        let mut bucket = *bucket;
        if !custom && bucket.spans_zero() {
            bucket = one_sided(bucket, histogram);
        } else if custom && bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
            bucket.lower = 0.0;
        }
        if bucket.lower >= value {
            return Some(below);
        }
        if bucket.upper > value {
            // Nothing is known of where in an endless bucket its observations lie.
            return Some(if bucket.upper == f64::INFINITY {
                below
            } else if bucket.lower == f64::NEG_INFINITY {
                below + bucket.count
            } else {
                below + bucket.count * share_below(&bucket, value, custom)
            });
        }
        below += bucket.count;
    }
    None
}

/// The population variance, each observation taken to lie in the middle of its bucket.
pub(crate) fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let term = |bucket: &Bucket| {
        let Bucket { lower, upper, count, .. } = *bucket;
        let middle = if histogram.is_custom() {
            (upper + lower) / 2.0
        } else if bucket.spans_zero() {
            0.0
        } else {
            (upper * lower).sqrt().copysign(upper)
        };
        count * (middle - mean) * (middle - mean)
    };
    let total = buckets(histogram).iter().map(term).fold(Sum::default(), Sum::add);
    (total.high + total.low) / histogram.count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_and_a_fraction_undo_each_other() {
        let histogram = Histogram {
            count: 12.0,
            sum: 100.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive: [(0, 2.0), (1, 3.0), (3, 1.0), (4, 4.0)].into_iter().collect(),
            ..Histogram::default()
        };
        for phi in [0.08, 0.2, 0.3, 0.45, 0.6, 0.9, 0.99] {
            let (value, caveat) = quantile(phi, &histogram);
            assert_eq!(caveat, None);
            let (back, _) = fraction(f64::NEG_INFINITY, value, &histogram);
            assert!((back - phi).abs() < 1e-12, "{phi}: {value} {back}");
        }
        assert_eq!(quantile(1.0, &histogram).0, 16.0);
    }

    #[test]
    fn observations_of_nan_skew_and_then_hide_the_quantile() {
        let histogram = Histogram {
            count: 15.0,
            sum: f64::NAN,
            positive: [(0, 12.0)].into_iter().collect(),
            ..Histogram::default()
        };
        assert_eq!(quantile(0.8, &histogram), (1.0, Some(Caveat::Skewed)));
        let (value, caveat) = quantile(0.81, &histogram);
        assert!(value.is_nan() && caveat == Some(Caveat::Unknown));
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &histogram), (0.8, true));
    }
}
