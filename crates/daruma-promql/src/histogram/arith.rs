//! Adding and scaling histograms.

use std::sync::Arc;

use daruma_model::{Buckets, Histogram, ResetHint};

use super::exponential_bound;
use crate::eval::sums::Sum;

/// Exponential and custom buckets have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// A count under way: a plain number, or one with its rounding errors kept apart.
pub(crate) trait Tally: Copy {
    fn of(value: f64) -> Self;
    fn plus(self, value: f64) -> Self;
    fn join(self, other: Self) -> Self;
    fn times(self, factor: f64) -> Self;
    fn over(self, divisor: f64) -> Self;
    fn total(self) -> f64;
}

impl Tally for f64 {
    fn of(value: f64) -> f64 {
        value
    }
    fn plus(self, value: f64) -> f64 {
        self + value
    }
    fn join(self, other: f64) -> f64 {
        self + other
    }
    fn times(self, factor: f64) -> f64 {
        self * factor
    }
    fn over(self, divisor: f64) -> f64 {
        self / divisor
    }
    fn total(self) -> f64 {
        self
    }
}

impl Tally for Sum {
    fn of(value: f64) -> Sum {
        Sum { high: value, low: 0.0 }
    }
    fn plus(self, value: f64) -> Sum {
        self.add(value)
    }
    fn join(self, other: Sum) -> Sum {
        let Sum { high, low } = self.add(other.high);
        Sum { high, low: low + other.low }
    }
    fn times(self, factor: f64) -> Sum {
        Sum { high: self.high * factor, low: self.low * factor }
    }
    fn over(self, divisor: f64) -> Sum {
        Sum { high: self.high / divisor, low: self.low / divisor }
    }
    fn total(self) -> f64 {
        Sum::total(self)
    }
}

/// What should be known about an addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// One side began anew and the other did not.
    pub(crate) collision: bool,
    /// Custom bounds differed; only those both have are left.
    pub(crate) reconciled: bool,
}

/// A histogram under way, with buckets by index.
#[derive(Debug, Clone)]
pub(crate) struct Body<T> {
    schema: i8,
    pub(crate) hint: ResetHint,
    pub(crate) count: T,
    sum: T,
    zero_threshold: f64,
    zero_count: T,
    positive: Vec<(i32, T)>,
    negative: Vec<(i32, T)>,
    bounds: Arc<[f64]>,
}

impl<T: Tally> From<&Histogram> for Body<T> {
    fn from(histogram: &Histogram) -> Body<T> {
        let side = |buckets: &Buckets| {
            buckets.iter().map(|(index, count)| (index, T::of(count))).collect()
        };
        Body {
            schema: histogram.schema,
            hint: histogram.hint,
            count: T::of(histogram.count),
            sum: T::of(histogram.sum),
            zero_threshold: histogram.zero_threshold,
            zero_count: T::of(histogram.zero_count),
            positive: side(&histogram.positive),
            negative: side(&histogram.negative),
            bounds: histogram.custom_bounds.clone(),
        }
    }
}

impl<T: Tally> Body<T> {
    /// A histogram without observations, of the shape of `like`.
    pub(crate) fn empty(like: &Histogram) -> Body<T> {
        Body {
            schema: like.schema,
            hint: ResetHint::Unknown,
            count: T::of(0.0),
            sum: T::of(0.0),
            zero_threshold: 0.0,
            zero_count: T::of(0.0),
            positive: Vec::new(),
            negative: Vec::new(),
            bounds: like.custom_bounds.clone(),
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema == Histogram::CUSTOM
    }

    /// Adds `factor · other`; only the factors 1 and −1 are meant.
    ///
    /// # Errors
    /// [`Incompatible`] if one has exponential buckets and the other custom ones; nothing changes then.
    pub(crate) fn add(&mut self, other: &Histogram, factor: f64) -> Result<Remarks, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let mut remarks = Remarks { collision: self.join_hint(other.hint), reconciled: false };
        self.count = self.count.plus(factor * other.count);
        self.sum = self.sum.plus(factor * other.sum);
        if self.is_custom() {
            remarks.reconciled = self.add_custom(other, factor);
            return Ok(remarks);
        }
        if self.zero_threshold == other.zero_threshold {
            self.zero_count = self.zero_count.plus(factor * other.zero_count);
        } else {
            self.reconcile_zero(other, factor);
        }
        if other.schema < self.schema {
            self.reduce(other.schema);
        }
        let (threshold, shift) = (self.zero_threshold, finer_by(other.schema, self.schema));
        // What lies within the zero bucket is counted there already.
        let outside = |(index, _): &(i32, f64)| {
            threshold == 0.0 || exponential_bound(*index, other.schema) > threshold
        };
        let side = |buckets: &Buckets| -> Vec<(i32, f64)> {
            let outside = buckets.iter().filter(outside);
            outside.map(|(index, count)| (coarser(index, shift), factor * count)).collect()
        };
        merge(&mut self.positive, side(&other.positive));
        merge(&mut self.negative, side(&other.negative));
        Ok(remarks)
    }

    /// The hint of a sum; whether one side began anew and the other did not.
    fn join_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        let (hint, collision) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.hint = hint;
        collision
    }

    /// Adds buckets with custom bounds; whether the bounds had to be reconciled.
    fn add_custom(&mut self, other: &Histogram, factor: f64) -> bool {
        let plain = |bounds: &[f64]| -> Vec<(i32, f64)> {
            let moved = Moved::new(&other.custom_bounds, bounds);
            other.positive.iter().map(|(i, count)| (moved.index(i), factor * count)).collect()
        };
        if self.bounds == other.custom_bounds {
            let buckets = other.positive.iter().map(|(i, count)| (i, factor * count)).collect();
            merge(&mut self.positive, buckets);
            return false;
        }
        let common = common_bounds(&self.bounds, &other.custom_bounds);
        let moved = Moved::new(&self.bounds, &common);
        for bucket in &mut self.positive {
            bucket.0 = moved.index(bucket.0);
        }
        join_equal(&mut self.positive);
        merge(&mut self.positive, plain(&common));
        self.bounds = common.into();
        true
    }

    /// Widens the narrower of the two zero buckets until both are equally wide, and adds `other`'s.
    fn reconcile_zero(&mut self, other: &Histogram, factor: f64) {
        let other: Body<f64> = Body::from(other);
        let (mut other_count, mut other_threshold) = (other.zero_count, other.zero_threshold);
        // Each round widens one of them to the end of a bucket, of which there are only so many.
        while other_threshold != self.zero_threshold {
            if self.zero_threshold > other_threshold {
                (other_count, other_threshold) = other.zero_for(self.zero_threshold);
            }
            if other_threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_for(other_threshold);
                let (schema, threshold) = (self.schema, self.zero_threshold);
                let outside = |bucket: &(i32, T)| lower(bucket.0, schema) >= threshold;
                self.positive.retain(outside);
                self.negative.retain(outside);
            }
            // NaN and the like: what is not comparable is not reconciled.
            if !(other_threshold <= f64::MAX && self.zero_threshold <= f64::MAX) {
                break;
            }
        }
        self.zero_count = self.zero_count.plus(factor * other_count);
    }

    /// The zero bucket widened to `threshold`, or to the end of the full bucket that lies in.
    pub(super) fn zero_for(&self, mut threshold: f64) -> (T, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'widen: loop {
            let mut count = self.zero_count;
            for side in [&self.positive, &self.negative] {
                for (index, here) in side {
                    let (low, high) =
                        (lower(*index, self.schema), exponential_bound(*index, self.schema));
                    if low >= threshold {
                        break;
                    }
                    count = count.join(*here);
                    if high > threshold {
                        if here.total() != 0.0 {
                            threshold = high;
                            continue 'widen;
                        }
                        break;
                    }
                }
            }
            return (count, threshold);
        }
    }

    /// To the resolution of `schema`, if that is coarser.
    pub(crate) fn reduce(&mut self, schema: i8) {
        if schema >= self.schema || self.is_custom() || schema == Histogram::CUSTOM {
            return;
        }
        let shift = finer_by(self.schema, schema);
        for side in [&mut self.positive, &mut self.negative] {
            for bucket in side.iter_mut() {
                bucket.0 = coarser(bucket.0, shift);
            }
            join_equal(side);
        }
        self.schema = schema;
    }

    fn each(&mut self, change: impl Fn(T) -> T) {
        for value in [&mut self.count, &mut self.sum, &mut self.zero_count] {
            *value = change(*value);
        }
        for (_, value) in self.positive.iter_mut().chain(&mut self.negative) {
            *value = change(*value);
        }
    }

    /// All counts and the sum times `factor`. What is negative is no counter.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.each(|value| value.times(factor));
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// All counts and the sum divided by `divisor`. Divided by zero, no bucket means anything any more.
    pub(crate) fn divide(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
        self.each(|value| value.over(divisor));
        if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Whether a count or the sum has left the range of numbers.
    pub(crate) fn overflows(&self) -> bool {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, value)| value);
        [&self.count, &self.sum, &self.zero_count]
            .into_iter()
            .chain(buckets)
            .any(|value| value.total().is_infinite())
    }

    /// The histogram, without empty buckets.
    pub(crate) fn finish(self) -> Histogram {
        let side = |buckets: Vec<(i32, T)>| -> Buckets {
            buckets
                .into_iter()
                .map(|(index, value)| (index, value.total()))
                .filter(|(_, count)| *count != 0.0)
                .collect()
        };
        Histogram {
            schema: self.schema,
            hint: self.hint,
            count: self.count.total(),
            sum: self.sum.total(),
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count.total(),
            positive: side(self.positive),
            negative: side(self.negative),
            custom_bounds: self.bounds,
        }
    }
}

/// `histogram` with all counts and the sum times `factor`.
pub(crate) fn scaled(histogram: &Histogram, factor: f64) -> Histogram {
    let mut body: Body<f64> = Body::from(histogram);
    body.scale(factor);
    body.finish()
}

/// `-histogram`: a gauge.
pub(crate) fn negated(histogram: &Histogram) -> Histogram {
    scaled(histogram, -1.0)
}

/// By how many schemas the first is finer than the second.
pub(super) fn finer_by(schema: i8, than: i8) -> i32 {
    i32::from(schema) - i32::from(than)
}

/// The index that a bucket has `shift` schemas coarser.
pub(super) fn coarser(index: i32, shift: i32) -> i32 {
    if shift <= 0 {
        return index;
    }
    (index.saturating_sub(1) >> shift.min(31)) + 1
}

fn lower(index: i32, schema: i8) -> f64 {
    exponential_bound(index.saturating_sub(1), schema)
}

/// Joins neighbours of one index.
fn join_equal<T: Tally>(buckets: &mut Vec<(i32, T)>) {
    buckets.dedup_by(|next, kept| {
        let equal = next.0 == kept.0;
        if equal {
            kept.1 = kept.1.join(next.1);
        }
        equal
    });
}

/// Adds `others`, ascending by index, to `buckets`, ascending too.
fn merge<T: Tally>(buckets: &mut Vec<(i32, T)>, others: Vec<(i32, f64)>) {
    let (known, mut at) = (buckets.len(), 0);
    for (index, count) in others {
        while at < known && buckets[at].0 < index {
            at += 1;
        }
        if at < known && buckets[at].0 == index {
            buckets[at].1 = buckets[at].1.plus(count);
            continue;
        }
        buckets.push((index, T::of(count)));
    }
    if buckets.len() > known {
        // Two ascending runs: the sort finds and merges them.
        buckets.sort_by_key(|bucket| bucket.0);
        join_equal(buckets);
    }
}

/// The bounds both have.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut common = Vec::new();
    let mut rest = b;
    for bound in a {
        while rest.first().is_some_and(|other| other < bound) {
            rest = &rest[1..];
        }
        if rest.first() == Some(bound) {
            common.push(*bound);
        }
    }
    common
}

/// Where buckets with some custom bounds lie among fewer bounds.
pub(super) struct Moved(Vec<i32>);

impl Moved {
    pub(super) fn new(from: &[f64], to: &[f64]) -> Moved {
        let mut at = 0;
        let place = |bound: &f64| {
            while to.get(at).is_some_and(|other| other < bound) {
                at += 1;
            }
            at as i32
        };
        let mut places: Vec<i32> = from.iter().map(place).collect();
        // Everything above the last bound lies above the last common one.
        places.push(to.len() as i32);
        Moved(places)
    }

    pub(super) fn index(&self, index: i32) -> i32 {
        let at = usize::try_from(index).unwrap_or(0).min(self.0.len() - 1);
        self.0[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exponential(schema: i8, buckets: &[(i32, f64)]) -> Histogram {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let positive = buckets.iter().copied().collect();
        Histogram { schema, count, sum: count, positive, ..Histogram::default() }
    }

    fn sum(a: &Histogram, b: &Histogram) -> Histogram {
        let mut body: Body<f64> = Body::from(a);
        body.add(b, 1.0).unwrap();
        body.finish()
    }

    #[test]
    fn a_sum_has_the_coarser_resolution_whichever_side_it_stands_on() {
        let fine = exponential(1, &[(1, 1.0), (2, 2.0), (3, 4.0)]);
        let coarse = exponential(0, &[(1, 10.0), (5, 1.0)]);
        let want = exponential(0, &[(1, 13.0), (2, 4.0), (5, 1.0)]);
        assert_eq!((sum(&fine, &coarse), sum(&coarse, &fine)), (want.clone(), want));
    }

    #[test]
    fn a_wider_zero_bucket_swallows_what_lies_in_it() {
        let narrow = Histogram {
            zero_threshold: 0.001,
            zero_count: 1.0,
            ..exponential(0, &[(-3, 2.0), (0, 3.0), (1, 4.0)])
        };
        // 0.75 lies within the full bucket (0.5, 1]: the zero bucket grows to 1.
        let wide =
            Histogram { zero_threshold: 0.75, zero_count: 5.0, ..exponential(0, &[(1, 6.0)]) };
        for got in [sum(&narrow, &wide), sum(&wide, &narrow)] {
            assert_eq!((got.zero_threshold, got.zero_count), (1.0, 11.0));
            assert_eq!(got.positive, [(1, 10.0)].into_iter().collect());
        }
    }

    #[test]
    fn custom_bounds_are_reduced_to_those_both_have() {
        let custom = |bounds: &[f64], counts: &[f64]| Histogram {
            schema: Histogram::CUSTOM,
            custom_bounds: bounds.into(),
            positive: counts.iter().enumerate().map(|(i, count)| (i as i32, *count)).collect(),
            ..Histogram::default()
        };
        let (a, b) = (custom(&[2.0, 4.0], &[1.0, 2.0, 3.0]), custom(&[1.0, 4.0], &[1.0, 1.0, 1.0]));
        let got = sum(&a, &b);
        assert_eq!(&*got.custom_bounds, [4.0]);
        assert_eq!(got.positive, [(0, 5.0), (1, 4.0)].into_iter().collect());
        let mut body: Body<f64> = Body::from(&a);
        assert_eq!(body.add(&exponential(0, &[]), 1.0), Err(Incompatible));
    }

    fn any_histogram() -> impl Strategy<Value = Histogram> {
        let side = prop::collection::btree_map(-40_i32..40, 0.0..100.0_f64, 0..12);
        let threshold = prop::sample::select(vec![0.0, 1e-3, 0.3, 1.0, 5.0, f64::INFINITY]);
        (-4_i8..=8, side.clone(), side, threshold, 0.0..9.0_f64).prop_map(
            |(schema, mut positive, mut negative, zero_threshold, zero_count)| {
                // No producer puts a bucket into its own zero bucket.
                for side in [&mut positive, &mut negative] {
                    side.retain(|index, _| exponential_bound(*index, schema) > zero_threshold);
                }
                Histogram {
                    schema,
                    count: positive.values().chain(negative.values()).sum::<f64>() + zero_count,
                    zero_threshold,
                    zero_count,
                    positive: positive.into_iter().collect(),
                    negative: negative.into_iter().collect(),
                    ..Histogram::default()
                }
            },
        )
    }

    proptest! {
        /// Whatever the shapes, adding ends, loses no observation and does not depend on the order.
        #[test]
        fn no_observation_is_lost_in_a_sum(a in any_histogram(), b in any_histogram()) {
            let (ab, ba) = (sum(&a, &b), sum(&b, &a));
            let total = |h: &Histogram| {
                let buckets = h.positive.counts.iter().chain(&h.negative.counts);
                buckets.sum::<f64>() + h.zero_count
            };
            prop_assert!((total(&ab) - total(&a) - total(&b)).abs() < 1e-6, "{ab:?}");
            prop_assert_eq!((ab.schema, ab.zero_threshold), (ba.schema, ba.zero_threshold));
            prop_assert_eq!(&ab.positive.spans, &ba.positive.spans);
        }
    }
}
