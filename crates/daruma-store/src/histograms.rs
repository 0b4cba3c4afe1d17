//! The native histograms of one series, beside its numbers: few series have any.
//!
//! It knows their order and their chunks. Whether one is newer than the series' numbers is for
//! [`crate::head`] to see.

use std::collections::VecDeque;
use std::sync::Arc;

use daruma_model::{Histogram, HistogramPoint, ResetHint, Time};

use crate::histogram_chunk::{Open, Sealed};

/// What one series has of them; never without any.
#[derive(Debug)]
pub(crate) struct Histograms {
    sealed: VecDeque<Sealed>,
    open: Open,
    newest: HistogramPoint,
    /// In sealed chunks.
    sealed_points: usize,
    sealed_bytes: usize,
}

impl Histograms {
    /// With its first one.
    pub(crate) fn new(first: &HistogramPoint) -> Histograms {
        Histograms::begin(hinted(first, false))
    }

    fn begin(newest: HistogramPoint) -> Histograms {
        let mut open = Open::new(&newest.histogram, None);
        open.push(&newest);
        Histograms { sealed: VecDeque::new(), open, newest, sealed_points: 0, sealed_bytes: 0 }
    }

    /// Adds one that is newer than all others. `alone`: a number came after the newest.
    pub(crate) fn push(&mut self, point: &HistogramPoint, alone: bool) {
        let goes_on = !alone && point.histogram.goes_on_from(&self.newest.histogram);
        self.push_hinted(hinted(point, goes_on));
    }

    fn push_hinted(&mut self, point: HistogramPoint) {
        if !self.open.takes(&point.histogram) {
            let full = self.open.seal(self.sealed.back());
            self.sealed_points += full.len();
            self.sealed_bytes += full.bytes();
            // Its layout is shared, if it is the same.
            self.open = Open::new(&point.histogram, Some(&full));
            self.sealed.push_back(full);
        }
        self.open.push(&point);
        self.newest = point;
    }

    pub(crate) fn newest(&self) -> &HistogramPoint {
        &self.newest
    }

    pub(crate) fn oldest(&self) -> Time {
        self.sealed.front().map_or(self.open.first(), Sealed::first)
    }

    pub(crate) fn len(&self) -> usize {
        self.sealed_points + self.open.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        let newest = &self.newest.histogram;
        let wide = newest.buckets() + newest.positive.spans.len() + newest.negative.spans.len();
        let newest = (wide + newest.custom_bounds.len()) * 8 + size_of::<Histogram>();
        size_of::<Histograms>() + self.sealed_bytes + self.open.bytes() + newest
    }

    /// Those in `(after, until]`, decoding only chunks that reach into it.
    pub(crate) fn window(&self, after: Time, until: Time) -> Vec<HistogramPoint> {
        if self.newest.time <= after {
            return Vec::new();
        }
        let from = self.sealed.partition_point(|chunk| chunk.last() <= after);
        let wanted = |point: &HistogramPoint| point.time > after;
        let mut points = Vec::new();
        for chunk in self.sealed.range(from..).take_while(|chunk| chunk.first() <= until) {
            points.extend(chunk.iter().take_while(|point| point.time <= until).filter(wanted));
        }
        if self.open.first() <= until {
            points.extend(self.open.iter().take_while(|point| point.time <= until).filter(wanted));
        }
        points
    }

    /// The newest in `(after, until]`.
    pub(crate) fn last(&self, after: Time, until: Time) -> Option<HistogramPoint> {
        if self.newest.time <= until {
            return (self.newest.time > after).then(|| self.newest.clone());
        }
        self.window(after, until).pop()
    }

    /// Drops whole chunks that end at or before `floor`. Returns how many histograms went, and whether
    /// any is left.
    pub(crate) fn drop_before(&mut self, floor: Time) -> (usize, bool) {
        let mut dropped = 0;
        while let Some(chunk) = self.sealed.pop_front_if(|chunk| chunk.last() <= floor) {
            dropped += chunk.len();
            self.sealed_points -= chunk.len();
            self.sealed_bytes -= chunk.bytes();
        }
        if self.sealed.is_empty() && self.newest.time <= floor {
            return (dropped + self.open.len(), false);
        }
        (dropped, true)
    }

    /// Without those after `ceiling`, if any is left.
    pub(crate) fn until(&self, ceiling: Time) -> Option<Histograms> {
        let mut left = self.window(Time::MIN, ceiling).into_iter();
        let mut kept = Histograms::begin(left.next()?);
        left.for_each(|point| kept.push_hinted(point));
        Some(kept)
    }
}

/// As it is read: of what its producer said only that it is a gauge is believed.
fn hinted(point: &HistogramPoint, goes_on: bool) -> HistogramPoint {
    let histogram = &point.histogram;
    let hint = match histogram.hint {
        ResetHint::Gauge => ResetHint::Gauge,
        _ if goes_on => ResetHint::NotReset,
        _ => ResetHint::Unknown,
    };
    let histogram = if histogram.is_stale() {
        Arc::new(Histogram::stale())
    } else if hint == histogram.hint {
        Arc::clone(histogram)
    } else {
        Arc::new(Histogram { hint, ..(**histogram).clone() })
    };
    HistogramPoint { histogram, ..*point }
}

/// Whether two say the same, bit by bit, whatever is said of resets.
pub(crate) fn same(a: &HistogramPoint, b: &HistogramPoint) -> bool {
    let numbers = |point: &HistogramPoint| {
        let Histogram { count, sum, zero_threshold, zero_count, .. } = *point.histogram;
        [count, sum, zero_threshold, zero_count].map(f64::to_bits)
    };
    let (one, other) = (&*a.histogram, &*b.histogram);
    if one.is_stale() || other.is_stale() {
        return one.is_stale() && other.is_stale();
    }
    let equal =
        |a: &[f64], b: &[f64]| a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()));
    numbers(a) == numbers(b)
        && one.schema == other.schema
        && one.positive.spans == other.positive.spans
        && one.negative.spans == other.negative.spans
        && equal(&one.positive.counts, &other.positive.counts)
        && equal(&one.negative.counts, &other.negative.counts)
        && equal(&one.custom_bounds, &other.custom_bounds)
        && (one.hint == ResetHint::Gauge) == (other.hint == ResetHint::Gauge)
}
