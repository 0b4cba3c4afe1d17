//! Selectors: what is read for them once, and what they yield at one time.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use daruma_model::{
    Histogram, HistogramPoint, Labels, Point, ResetHint, Series, Span, Time, is_stale,
};

use super::edges::{Blend, interpolated, mixed_schemas};
use super::{Element, Evaluated, Evaluator, Matrix, Window, shifted};
use crate::ast::{Edges, VectorSelector};
use crate::histogram::is_reset;
use crate::value::SampleValue;

/// A selector with everything it can look at.
pub(crate) struct Leaf {
    pub(crate) series: Vec<Series>,
    pub(crate) window: Span,
    pub(crate) offset: Span,
    /// Which series may not be counters, going by name and type; empty if all may be.
    doubtful: Vec<bool>,
    /// Where the points of each series' last window begin and end: the next window is mostly near.
    cursors: Vec<Cell<(usize, usize)>>,
}

impl Leaf {
    pub(crate) fn empty(window: Span) -> Leaf {
        Leaf {
            series: Vec::new(),
            window,
            offset: Span::ZERO,
            doubtful: Vec::new(),
            cursors: Vec::new(),
        }
    }
}

/// The newest sample of one series.
pub(crate) struct Newest<'e> {
    pub(crate) labels: &'e Labels,
    pub(crate) value: SampleValue,
    pub(crate) time: Time,
    /// Since when it counts, if that is known.
    pub(crate) start: Option<Time>,
}

impl Evaluator<'_> {
    pub(super) fn read(
        &self,
        selector: &VectorSelector,
        (first, last): (Time, Time),
        window: Span,
        offset: Span,
        counted: bool,
    ) -> Evaluated<Leaf> {
        let (mut after, mut until) = (first - window, last);
        if selector.edges != Edges::Plain && selector.window.is_some() {
            after = after - self.limits.lookback;
        }
        if selector.edges == Edges::Smoothed {
            until += self.limits.lookback;
        }
        let windowed = selector.window.is_some() || selector.edges != Edges::Plain;
        let mut series = if windowed || first != last {
            self.querier.select(&selector.matchers, after, until)
        } else {
            self.querier.select_newest(&selector.matchers, after, until)
        };
        for one in &mut series {
            if windowed {
                drop_stale(one);
            }
            if counted {
                resolve_hints(&mut one.histograms);
            }
            self.hold(one.points.len())?;
            for point in &one.histograms {
                self.hold_histogram(&point.histogram)?;
            }
        }
        let doubtful = match selector.window {
            Some(_) if !selector.name().is_some_and(counts) => {
                series.iter().map(|one| is_doubtful(&one.labels)).collect()
            }
            _ => Vec::new(),
        };
        let cursors = vec![Cell::new((0, 0)); series.len()];
        Ok(Leaf { series, window, offset, doubtful, cursors })
    }

    /// The newest sample of each series within the lookback, with its own time.
    pub(crate) fn newest(&self, selector: &VectorSelector, time: Time) -> Vec<Element> {
        self.newest_as(selector, time, |newest| Element {
            labels: newest.labels.clone(),
            drop_name: false,
            value: newest.value,
            time: newest.time,
        })
    }

    /// As [`Self::newest`], made into something else.
    pub(crate) fn newest_as<T>(
        &self,
        selector: &VectorSelector,
        time: Time,
        make: impl Fn(Newest<'_>) -> T,
    ) -> Vec<T> {
        let leaf = &self.leaves[selector.index];
        let (until, _) = shifted(selector.shift.at, leaf.offset, (time, time), self.bounds);
        let mut found = Vec::with_capacity(leaf.series.len());
        for (at, series) in leaf.series.iter().enumerate() {
            let newest = match selector.edges {
                Edges::Smoothed => self.smoothed(selector, series, until, leaf.window),
                _ => {
                    let end = leaf.moved(at, Time::MIN, until).end;
                    newest_of(series, end, until - leaf.window, until)
                }
            };
            found.extend(newest.map(&make));
        }
        found
    }

    /// The value on the line between the neighbours of `time`.
    fn smoothed<'e>(
        &self,
        selector: &VectorSelector,
        series: &'e Series,
        time: Time,
        lookback: Span,
    ) -> Option<Newest<'e>> {
        let (after, until) = (time - lookback, time + lookback);
        let points = within(&series.points, |point| point.time, after, until);
        let histograms = within(&series.histograms, |point| point.time, after, until);
        let labels = &series.labels;
        if !points.is_empty() && !histograms.is_empty() {
            self.warn(mixed_types(labels), &selector.span);
            return None;
        }
        let newest = |value: SampleValue| Some(Newest { labels, value, time, start: None });
        if histograms.is_empty() {
            let next = points.partition_point(|point| point.time < time);
            return match (next.checked_sub(1).map(|at| points[at]), points.get(next)) {
                (_, Some(exact)) if exact.time == time => newest(exact.value.into()),
                (None, _) => None,
                (Some(before), None) => newest(before.value.into()),
                (Some(before), Some(after)) => {
                    newest(super::edges::between(before, *after, time, false).into())
                }
            };
        }
        let next = histograms.partition_point(|point| point.time < time);
        let whole = |point: &HistogramPoint| SampleValue::Histogram(point.histogram.clone());
        match (next.checked_sub(1).map(|at| &histograms[at]), histograms.get(next)) {
            (_, Some(exact)) if exact.time == time => newest(whole(exact)),
            (None, _) => None,
            (Some(before), None) => newest(whole(before)),
            (Some(before), Some(after)) => {
                let counter = after.histogram.hint != ResetHint::Gauge;
                if before.histogram.is_custom() != after.histogram.is_custom() {
                    self.warn(mixed_schemas(labels), &selector.span);
                    return None;
                }
                let blend = Blend { eval: self, name: labels, span: &selector.span };
                let value = interpolated(&blend, before, after, time, counter)?;
                newest(value.into())
            }
        }
    }

    pub(super) fn windows(&self, selector: &VectorSelector, time: Time) -> Matrix<'_> {
        let (after, until, windows) = self.window_by_window(selector, time);
        let windows = windows.map(|(_, window)| window).collect();
        Matrix { windows, after, until, edges: selector.edges }
    }

    /// The bounds of the window, and what each series, by its place, has in it, one by one.
    pub(super) fn window_by_window<'e>(
        &'e self,
        selector: &VectorSelector,
        time: Time,
    ) -> (Time, Time, impl Iterator<Item = (usize, Window<'e>)> + use<'e>) {
        let leaf = &self.leaves[selector.index];
        let (after, until) = self.bounds_at(selector, time);
        let reach = self.reach(selector, (after, until));
        let window = move |at: usize| Some((at, leaf.window_of(at, reach)?));
        (after, until, (0..leaf.series.len()).filter_map(window))
    }

    /// The bounds, open and closed, of a selector's windows at a time.
    pub(super) fn bounds_at(&self, selector: &VectorSelector, time: Time) -> (Time, Time) {
        let leaf = &self.leaves[selector.index];
        let (until, _) = shifted(selector.shift.at, leaf.offset, (time, time), self.bounds);
        (until - leaf.window, until)
    }

    /// From where to where points are looked at for a window: its bounds, or beyond for its edges.
    pub(super) fn reach(
        &self,
        selector: &VectorSelector,
        (after, until): (Time, Time),
    ) -> (Time, Time) {
        let lookback = self.limits.lookback;
        match selector.edges {
            Edges::Plain => (after, until),
            Edges::Anchored => (after - lookback, until),
            Edges::Smoothed => (after - lookback, until + lookback),
        }
    }
}

impl Leaf {
    /// Whether neither name nor type say that the series at a place is a counter.
    pub(super) fn is_doubtful(&self, at: usize) -> bool {
        self.doubtful.get(at).copied().unwrap_or(false)
    }

    /// What the series at a place has in `(from, to]`, if anything.
    pub(super) fn window_of(&self, at: usize, (from, to): (Time, Time)) -> Option<Window<'_>> {
        let series = &self.series[at];
        let range = self.moved(at, from, to);
        let points = series.points.get(range.clone()).unwrap_or(&[]);
        let histograms = within(&series.histograms, |point| point.time, from, to);
        if points.is_empty() && histograms.is_empty() {
            return None;
        }
        Some(Window {
            labels: std::borrow::Cow::Borrowed(&series.labels),
            drop_name: false,
            points: points.into(),
            starts: series.starts.get(range).unwrap_or(&[]),
            histograms: histograms.into(),
            doubtful: self.is_doubtful(at),
        })
    }

    /// Where the points in `(from, to]` lie, found from where those of the last window lay.
    fn moved(&self, at: usize, from: Time, to: Time) -> Range<usize> {
        let points = &self.series[at].points;
        let place = |known: usize, bound: Time| {
            let before = |point: &Point| point.time <= bound;
            if known > 0 && !points.get(known - 1).is_some_and(before) {
                return points.partition_point(before);
            }
            let rest = points.get(known..).unwrap_or(&[]);
            // A few steps on foot; what lies farther is searched for.
            match rest.iter().take(8).position(|point| !before(point)) {
                Some(steps) => known + steps,
                None => known + rest.partition_point(before),
            }
        };
        let (start, end) = self.cursors[at].get();
        let range = place(start, from)..place(end, to);
        self.cursors[at].set((range.start, range.end));
        range
    }
}

/// Whether a metric's name is one of a counter.
fn counts(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end))
}

/// Whether neither name nor type say that a series is a counter.
pub(super) fn is_doubtful(labels: &Labels) -> bool {
    let name = labels.get(Labels::NAME);
    !name.is_empty() && !counts(name) && !matches!(labels.get("__type__"), "counter" | "histogram")
}

pub(crate) fn mixed_types(labels: &Labels) -> String {
    let name = labels.get(Labels::NAME);
    format!("encountered a mix of histograms and floats for metric name {name:?}")
}

/// What of `points` lies in `(after, until]`.
fn within<P>(points: &[P], time: impl Fn(&P) -> Time, after: Time, until: Time) -> &[P] {
    if points.is_empty() {
        return points;
    }
    let start = points.partition_point(|point| time(point) <= after);
    let end = points.partition_point(|point| time(point) <= until);
    points.get(start..end).unwrap_or(&[])
}

/// `end` points are not newer than `until`.
fn newest_of(series: &Series, end: usize, after: Time, until: Time) -> Option<Newest<'_>> {
    let point = end.checked_sub(1).and_then(|at| series.points.get(at));
    let point = point.filter(|point| point.time > after);
    let histogram = match series.histograms.as_slice() {
        [] => None,
        all => within(all, |point| point.time, after, until).last(),
    };
    let labels = &series.labels;
    match (point, histogram) {
        (point, Some(newer)) if point.is_none_or(|point| point.time < newer.time) => {
            let HistogramPoint { time, start, histogram } = newer;
            let value = SampleValue::Histogram(histogram.clone());
            (!histogram.is_stale()).then_some(Newest { labels, value, time: *time, start: *start })
        }
        (Some(point), _) => {
            let start = series.starts.get(end - 1).copied().flatten();
            let value = SampleValue::Float(point.value);
            (!is_stale(point.value)).then_some(Newest { labels, value, time: point.time, start })
        }
        (None, _) => None,
    }
}

/// Takes the staleness markers out.
fn drop_stale(series: &mut Series) {
    if series.points.iter().any(|point| is_stale(point.value)) {
        if !series.starts.is_empty() {
            let stale: Vec<bool> =
                series.points.iter().map(|point| is_stale(point.value)).collect();
            let mut stale = stale.into_iter();
            series.starts.retain(|_| !stale.next().unwrap_or(false));
        }
        series.points.retain(|point| !is_stale(point.value));
    }
    series.histograms.retain(|point| !point.histogram.is_stale());
}

/// Says of each histogram whether it began anew after the one before. Where only count and sum are
/// read, upstream leaves out the buckets and decides this while it reads.
fn resolve_hints(points: &mut [HistogramPoint]) {
    let mut before: Option<Arc<Histogram>> = None;
    for point in points {
        if point.histogram.is_stale() {
            before = None;
            continue;
        }
        let read = point.histogram.clone();
        if let Some(before) = before.filter(|_| read.hint == ResetHint::Unknown) {
            let hint =
                if is_reset(&read, &before) { ResetHint::Reset } else { ResetHint::NotReset };
            point.histogram = Arc::new(Histogram { hint, ..(*read).clone() });
        }
        before = Some(read);
    }
}
