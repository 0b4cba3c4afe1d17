//! Classic histograms: cumulative counters with an `le` label, and what can be read off them.

use std::ops::Range;
use std::sync::Arc;

use daruma_model::{Histogram as Native, Labels, Time};

use super::dates::Civil;
use super::intern::Selection;
use super::{Element, Evaluated, Evaluator};
use crate::ast::Node;
use crate::number::format_short;

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
        time: Time,
    ) -> f64 {
        let (value, repair) = quantile(phi, &histogram.buckets);
        if let Some(mut repair) = repair {
            (repair.first, repair.last) = (time, time);
            let message = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                for_metric(histogram.labels.get(Labels::NAME))
            );
            self.info_repaired(message, span, repair);
        }
        value
    }
}

/// What had to be repaired in classic histograms so that their counts rise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repair {
    /// The lowest and the highest bound of a bucket that was raised.
    lowest: f64,
    highest: f64,
    /// The most by which one was raised.
    most: f64,
    /// When this was met first and last, and how often.
    first: Time,
    last: Time,
    samples: u64,
}

impl Repair {
    pub(crate) fn join(&mut self, other: &Repair) {
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        self.most = self.most.max(other.most);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.samples = self.samples.saturating_add(other.samples);
    }

    /// What the remark ends in.
    pub(crate) fn text(&self) -> String {
        let day = |time: Time| {
            let seconds = time.0.div_euclid(1000);
            let Civil { year, month, day, hour, minute, .. } = Civil::from_secs(seconds);
            let second = seconds.rem_euclid(60);
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        };
        format!(
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            format_short(self.lowest),
            format_short(self.highest),
            two_digits(self.most),
            self.samples,
            day(self.first),
            day(self.last),
        )
    }
}

/// A value as Go's `%.2g` prints it.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if !(1e-4..100.0).contains(&rounded.abs()) && rounded != 0.0 && rounded.is_finite() {
        let text = format!("{rounded:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format_short(rounded)
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

/// Makes counts rise; what was in the way, if that was more than rounding.
fn repair(buckets: &mut [Bucket]) -> Option<Repair> {
    let mut previous = buckets.first()?.count;
    let mut repair: Option<Repair> = None;
    for bucket in &mut buckets[1..] {
        if nearly_equal(previous, bucket.count) {
            bucket.count = previous;
        } else if bucket.count < previous {
            let here = Repair {
                lowest: bucket.upper,
                highest: bucket.upper,
                most: previous - bucket.count,
                first: Time::MAX,
                last: Time::MIN,
                samples: 0,
            };
            repair.get_or_insert(here).join(&here);
            bucket.count = previous;
        } else {
            previous = bucket.count;
        }
    }
    repair.map(|repair| Repair { samples: 1, ..repair })
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
fn quantile(phi: f64, buckets: &[Bucket]) -> (f64, Option<Repair>) {
    if phi.is_nan() {
        return (f64::NAN, None);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, None);
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
        assert_eq!(quantile(0.5, &latency), (0.1, None));
        assert!((quantile(0.7, &latency).0 - 0.15).abs() < 1e-12);
        // In the last bucket nothing is known but its lower bound.
        let slow = buckets(&[(0.1, 1.0), (inf, 100.0)]);
        assert_eq!(quantile(0.99, &slow), (0.1, None));
        // Without +Inf, or with a single bucket, there is no answer.
        assert!(quantile(0.5, &buckets(&[(0.1, 1.0), (0.2, 2.0)])).0.is_nan());
        assert!(quantile(0.5, &buckets(&[(inf, 1.0)])).0.is_nan());
        assert!(quantile(0.5, &[]).0.is_nan());
    }

    #[test]
    fn rounding_is_forgiven_and_real_steps_down_are_told() {
        let inf = f64::INFINITY;
        let rounded = buckets(&[(0.1, 10.0), (0.2, 10.0 - 1e-13), (inf, 20.0)]);
        assert_eq!(quantile(0.5, &rounded).1, None);
        let broken = buckets(&[(0.1, 10.0), (0.2, 8.0), (inf, 20.0)]);
        let mut repair = quantile(0.5, &broken).1.unwrap();
        (repair.first, repair.last) = (Time(0), Time(90_061_000));
        assert_eq!(
            repair.text(),
            ", from buckets 0.2 to 0.2, with a max diff of 2, over 1 samples from 1970-01-01T00:00:00Z to 1970-01-02T01:01:01Z"
        );
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
