//! The trim operators: what of a distribution lies below (`</`) or above (`>/`) a value.

use daruma_model::{Buckets, Histogram};

use super::read::{one_sided, share_below};
use super::{Bucket, negative, positive, zero};

/// What a trim leaves.
struct Kept {
    count: f64,
    sum: f64,
    trimmed: bool,
}

/// What of `histogram` lies below `limit` (`upper`) or above it. Count and sum are computed anew from
/// the buckets that are left; a histogram of which nothing is cut stays as it is.
pub(crate) fn trimmed(histogram: &Histogram, limit: f64, upper: bool) -> Histogram {
    let mut kept = Kept { count: 0.0, sum: 0.0, trimmed: false };
    let custom = histogram.is_custom();
    let mut keep = |bucket: Bucket, linear: bool| {
        let cut = if upper { below } else { above };
        let (left, middle) = cut(bucket, limit, custom, linear);
        kept.trimmed |= left != bucket.count;
        if left != 0.0 {
            kept.count += left;
            kept.sum += left * middle;
        }
        left
    };
    let mut zero_count = 0.0;
    if histogram.zero_count != 0.0 {
        zero_count = keep(one_sided(zero(histogram), histogram), true);
    }
    let mut side = |buckets: &Buckets, bounds: fn(&Histogram, i32, f64) -> Bucket| -> Buckets {
        let full = buckets.iter().filter(|(_, count)| *count != 0.0);
        let left =
            full.map(|(index, count)| (index, keep(bounds(histogram, index, count), custom)));
        left.filter(|(_, count)| *count != 0.0).collect()
    };
    let (above, under) = (side(&histogram.positive, positive), side(&histogram.negative, negative));
    if !kept.trimmed {
        return histogram.clone();
    }
    Histogram {
        count: kept.count,
        sum: kept.sum,
        zero_count,
        positive: above,
        negative: under,
        ..histogram.clone()
    }
}

/// How many observations of a bucket lie below `limit`, and their middle.
fn below(bucket: Bucket, limit: f64, custom: bool, linear: bool) -> (f64, f64) {
    let Bucket { mut lower, upper, count, .. } = bucket;
    // The lowest bucket is taken to begin at zero, where its bound is positive.
    if custom && lower == f64::NEG_INFINITY && upper > 0.0 && upper < f64::INFINITY {
        lower = 0.0;
    }
    let bucket = Bucket { lower, ..bucket };
    if upper <= limit {
        return (count, middle(lower, upper, linear));
    }
    // Of an endless bucket nothing is known to lie below anything finite.
    if upper == f64::INFINITY || lower >= limit || limit.is_nan() {
        return (0.0, 0.0);
    }
    if lower == f64::NEG_INFINITY {
        return (count, limit);
    }
    (count * share_below(&bucket, limit, linear), middle(lower, limit, linear))
}

/// How many observations of a bucket lie above `limit`, and their middle.
fn above(bucket: Bucket, limit: f64, custom: bool, linear: bool) -> (f64, f64) {
    let Bucket { mut lower, upper, count, .. } = bucket;
    if custom && lower == f64::NEG_INFINITY && limit > lower {
        // Below zero nothing is known of where in the lowest bucket its observations lie.
        if !(limit >= 0.0 && upper > 0.0 && upper < f64::INFINITY) {
            return (0.0, 0.0);
        }
        lower = 0.0;
    }
    let bucket = Bucket { lower, ..bucket };
    if lower >= limit {
        return (count, middle(lower, upper, linear));
    }
    if upper <= limit || limit.is_nan() {
        return (0.0, 0.0);
    }
    if upper == f64::INFINITY {
        return (count, limit);
    }
    (count * (1.0 - share_below(&bucket, limit, linear)), middle(limit, upper, linear))
}

/// Where the observations between two bounds lie on average.
fn middle(lower: f64, upper: f64, linear: bool) -> f64 {
    if lower == f64::NEG_INFINITY {
        if upper == f64::INFINITY { 0.0 } else { upper }
    } else if upper == f64::INFINITY {
        lower
    } else if linear {
        (lower + upper) / 2.0
    } else {
        (lower * upper).sqrt().copysign(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_below_and_above_adds_up() {
        let histogram = Histogram {
            count: 34.0,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: [(0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)].into_iter().collect(),
            negative: [(0, 1.0), (1, 2.0)].into_iter().collect(),
            ..Histogram::default()
        };
        for limit in [-9.0, -1.3, -1.0, -0.0004, 0.0, 0.0004, 1.0, 1.9, 3.0, 100.0] {
            let (low, high) = (trimmed(&histogram, limit, true), trimmed(&histogram, limit, false));
            assert!((low.count + high.count - 34.0).abs() < 1e-9, "{limit}");
        }
        let nan = trimmed(&histogram, f64::NAN, true);
        assert_eq!((nan.count, nan.sum), (0.0, 0.0));
    }
}
