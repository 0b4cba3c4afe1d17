//! Classic histograms: cumulative counters with an `le` label, and what can be read off them.

use std::ops::Range;
use std::sync::Arc;

use daruma_model::{Histogram as Native, Labels, Time};

use super::intern::Selection;
use super::{Element, Evaluated, Evaluator};
use crate::ast::Node;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

pub(super) struct Histogram {
    pub(super) labels: Labels,
    pub(super) buckets: Vec<Bucket>,
}

/// The histograms of a vector: native ones, and classic ones put together from their buckets.
pub(super) struct Histograms {
    pub(super) native: Vec<(Labels, Arc<Native>)>,
    pub(super) classic: Vec<Histogram>,
}

/// A relative step down between neighbouring buckets that is rounding, not a fault of the data.
const SMALL: f64 = 1e-12;

impl Evaluator<'_> {
    /// The histograms among the elements of `node`, classic ones by their labels without `le`. Where a
    /// native and a classic one have the same labels, neither counts.
    pub(super) fn histograms(&self, call: &Node, node: &Node, time: Time) -> Evaluated<Histograms> {
        const NONE: u32 = u32::MAX;
        let le = ["le".to_owned()];
        let selections = [Selection::Except(&le), Selection::All];
        let mut found = Histograms { native: Vec::new(), classic: Vec::new() };
        let vector = self.vector(node, time)?;
        let mut memo = self.recall(call.id);
        memo.interner.expect(vector.len());
        // Places in this vector by places of all times.
        let mut local = vec![NONE; memo.interner.len()];
        for Element { labels, value, .. } in vector {
            let count = match value {
                crate::SampleValue::Float(count) => count,
                crate::SampleValue::Histogram(histogram) => {
                    found.native.push((labels, histogram));
                    continue;
                }
            };
            let text = labels.get("le");
            let Some(upper) = bound(text) else {
                let name = labels.get(Labels::NAME);
                let message = format!(
                    "bucket label \"le\" is missing or has a malformed value of {text:?}{}",
                    for_metric(name)
                );
                self.warn(message, &node.span);
                continue;
            };
            let place = memo.interner.place(&labels, 0, &selections);
            if place == memo.labels.len() {
                memo.labels.push(selections[0].of(&labels));
                local.push(NONE);
            }
            if local[place] == NONE {
                local[place] = found.classic.len() as u32;
                let labels = memo.labels[place].clone();
                found.classic.push(Histogram { labels, buckets: Vec::new() });
            }
            found.classic[local[place] as usize].buckets.push(Bucket { upper, count });
        }
        let classic = &mut found.classic;
        found.native.retain(|(labels, _)| {
            let place = memo.interner.find(labels, 1, &selections);
            let place = place.map(|place| local[place]).filter(|place| *place != NONE);
            let Some(place) = place.map(|place| place as usize) else { return true };
            let message = format!(
                "vector contains a mix of classic and native histograms{}",
                for_metric(labels.get(Labels::NAME))
            );
            self.warn(message, &node.span);
            classic[place].buckets.clear();
            false
        });
        self.remember(call.id, memo);
        classic.retain(|histogram| !histogram.buckets.is_empty());
        for histogram in classic {
            histogram.buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
        }
        Ok(found)
    }

    /// The φ-quantile of a native histogram, with a remark if observations of NaN are in the way.
    pub(super) fn native_quantile(
        &self,
        phi: f64,
        labels: &Labels,
        histogram: &Native,
        span: &Range<usize>,
    ) -> f64 {
        let (value, caveat) = crate::histogram::quantile(phi, histogram);
        if let Some(caveat) = caveat {
            let message = format!(
                "input to histogram_quantile has NaN observations, result is {}{}",
                caveat.as_str(),
                for_metric(labels.get(Labels::NAME))
            );
            self.info(message, span);
        }
        value
    }

    /// The share of a native histogram between two values, with a remark as for a quantile.
    pub(super) fn native_fraction(
        &self,
        (lower, upper): (f64, f64),
        labels: &Labels,
        histogram: &Native,
        span: &Range<usize>,
    ) -> f64 {
        let (value, nans) = crate::histogram::fraction(lower, upper, histogram);
        if nans {
            let message = format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                for_metric(labels.get(Labels::NAME))
            );
            self.info(message, span);
        }
        value
    }

    /// The φ-quantile of one histogram, with a remark if its buckets had to be repaired.
    pub(super) fn bucket_quantile(
        &self,
        phi: f64,
        histogram: &Histogram,
        span: &Range<usize>,
    ) -> f64 {
        let (value, repaired) = quantile(phi, &histogram.buckets);
        if repaired {
            let message = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                for_metric(histogram.labels.get(Labels::NAME))
            );
            self.info(message, span);
        }
        value
    }
}

/// Names the metric, if it has a name.
fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {name:?}") }
}

/// The bound an `le` label names.
fn bound(text: &str) -> Option<f64> {
    if text.is_empty() {
        return None;
    }
    text.parse().ok().filter(|bound: &f64| !bound.is_nan())
}

/// Equal bounds merged.
fn coalesced(buckets: &[Bucket]) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match merged.last_mut() {
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            _ => merged.push(*bucket),
        }
    }
    merged
}

/// Makes counts rise; whether more than rounding was in the way.
fn repair(buckets: &mut [Bucket]) -> bool {
    let Some(first) = buckets.first() else { return false };
    let (mut previous, mut repaired) = (first.count, false);
    for bucket in &mut buckets[1..] {
        if nearly_equal(previous, bucket.count) {
            bucket.count = previous;
        } else if bucket.count < previous {
            bucket.count = previous;
            repaired = true;
        } else {
            previous = bucket.count;
        }
    }
    repaired
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (size, distance) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return distance < SMALL * f64::MIN_POSITIVE;
    }
    distance / size.min(f64::MAX) < SMALL
}

/// The φ-quantile by linear interpolation inside the bucket it falls into, and whether the buckets
/// had to be repaired. `buckets` are sorted by their bounds.
fn quantile(phi: f64, buckets: &[Bucket]) -> (f64, bool) {
    if phi.is_nan() {
        return (f64::NAN, false);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if phi > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, false);
    }
    let mut buckets = coalesced(buckets);
    let repaired = repair(&mut buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, repaired);
    }
    let rank = phi * observations;
    let found = buckets[..last].partition_point(|bucket| bucket.count < rank);
    let value = if found == last {
        buckets[last - 1].upper
    } else if found == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let Bucket { upper, count } = buckets[found];
        let (lower, below) = match found {
            0 => (0.0, 0.0),
            _ => (buckets[found - 1].upper, buckets[found - 1].count),
        };
        lower + (upper - lower) * ((rank - below) / (count - below))
    };
    (value, repaired)
}

/// The share of observations between `lower` and `upper`. `buckets` are sorted by their bounds.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    let mut buckets = coalesced(buckets);
    repair(&mut buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || count.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, &buckets) - rank(lower, &buckets)) / count
}

/// How many observations lie at or below `value`, by linear interpolation.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let mut below = Bucket { upper: f64::NEG_INFINITY, count: 0.0 };
    for (i, bucket) in buckets.iter().enumerate() {
        if below.upper >= value {
            return below.count;
        }
        if value < bucket.upper {
            // The lowest bucket is taken to begin at zero, where its bound is positive.
            let lower = if i == 0 && bucket.upper > 0.0 { 0.0 } else { below.upper };
            if value <= lower || bucket.upper.is_infinite() {
                return below.count;
            }
            if lower.is_infinite() {
                return bucket.count;
            }
            let share = (value - lower) / (bucket.upper - lower);
            return below.count + (bucket.count - below.count) * share;
        }
        below = *bucket;
    }
    below.count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(upper, count)| Bucket { upper, count }).collect()
    }

    #[test]
    fn a_quantile_is_interpolated_inside_its_bucket() {
        let inf = f64::INFINITY;
        let latency = buckets(&[(0.1, 50.0), (0.2, 90.0), (0.4, 100.0), (inf, 100.0)]);
        assert_eq!(quantile(0.5, &latency), (0.1, false));
        assert!((quantile(0.7, &latency).0 - 0.15).abs() < 1e-12);
        // In the last bucket nothing is known but its lower bound.
        let slow = buckets(&[(0.1, 1.0), (inf, 100.0)]);
        assert_eq!(quantile(0.99, &slow), (0.1, false));
        // Without +Inf, or with a single bucket, there is no answer.
        assert!(quantile(0.5, &buckets(&[(0.1, 1.0), (0.2, 2.0)])).0.is_nan());
        assert!(quantile(0.5, &buckets(&[(inf, 1.0)])).0.is_nan());
        assert!(quantile(0.5, &[]).0.is_nan());
    }

    #[test]
    fn rounding_is_forgiven_and_real_steps_down_are_told() {
        let inf = f64::INFINITY;
        let rounded = buckets(&[(0.1, 10.0), (0.2, 10.0 - 1e-13), (inf, 20.0)]);
        assert!(!quantile(0.5, &rounded).1);
        let broken = buckets(&[(0.1, 10.0), (0.2, 8.0), (inf, 20.0)]);
        assert!(quantile(0.5, &broken).1);
    }

    #[test]
    fn a_fraction_counts_what_lies_between() {
        let inf = f64::INFINITY;
        let latency = buckets(&[(0.1, 50.0), (0.2, 90.0), (inf, 100.0)]);
        assert!((fraction(0.0, 0.2, &latency) - 0.9).abs() < 1e-12);
        assert!((fraction(0.05, 0.15, &latency) - 0.45).abs() < 1e-12);
        assert_eq!(fraction(-inf, inf, &latency), 1.0);
        assert_eq!(fraction(0.2, 0.1, &latency), 0.0);
    }
}
