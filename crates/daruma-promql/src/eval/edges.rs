//! Windows with filled-in edges: `anchored` takes the last sample before an edge for the value there,
//! `smoothed` the value on the line between the edge's neighbours. The growth between two such values
//! needs no extrapolation.

use std::ops::Range;

use daruma_model::{Histogram, HistogramPoint, Labels, Point, ResetHint, Time};

use super::Evaluator;
use super::windows::Job;
use crate::histogram::{Body, Incompatible, is_reset, scaled};

/// The value at `time` on the line between two points; a counter that was reset starts at zero.
pub(super) fn between(a: Point, b: Point, time: Time, counter: bool) -> f64 {
    let from = if counter && b.value < a.value { 0.0 } else { a.value };
    from + (b.value - from) * share(a.time, b.time, time)
}

fn share(a: Time, b: Time, time: Time) -> f64 {
    (time - a).as_secs_f64() / (b - a).as_secs_f64()
}

/// Where remarks about an interpolation go.
pub(super) struct Blend<'b, 'q> {
    pub(super) eval: &'b Evaluator<'q>,
    pub(super) name: &'b Labels,
    pub(super) span: &'b Range<usize>,
}

impl Blend<'_, '_> {
    /// Adds `factor · other`, with the remarks this calls for; `false` if they do not mix.
    pub(super) fn add(&self, body: &mut Body<f64>, other: &Histogram, factor: f64) -> bool {
        match body.add(other, factor) {
            Ok(remarks) => {
                if remarks.reconciled {
                    let operation = if factor < 0.0 { "subtraction" } else { "addition" };
                    self.eval.info(reconciled(operation), self.span);
                }
                true
            }
            Err(Incompatible) => {
                self.eval.warn(mixed_schemas(self.name), self.span);
                false
            }
        }
    }
}

pub(super) fn reconciled(operation: &str) -> String {
    format!("mismatched custom buckets were reconciled during {operation}")
}

pub(super) fn mixed_schemas(labels: &Labels) -> String {
    let name = labels.get(Labels::NAME);
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name:?}"
    )
}

/// The histogram at `time` on the line between two; `None`, with a remark, if they do not mix.
pub(super) fn interpolated(
    blend: &Blend<'_, '_>,
    a: &HistogramPoint,
    b: &HistogramPoint,
    time: Time,
    counter: bool,
) -> Option<Histogram> {
    if time == a.time {
        return Some((*a.histogram).clone());
    }
    if time == b.time {
        return Some((*b.histogram).clone());
    }
    let share = share(a.time, b.time, time);
    if counter && is_reset(&b.histogram, &a.histogram) {
        return Some(scaled(&b.histogram, share));
    }
    let mut body: Body<f64> = Body::from(&*b.histogram);
    if !blend.add(&mut body, &a.histogram, -1.0) {
        return None;
    }
    body.scale(share);
    blend.add(&mut body, &a.histogram, 1.0).then(|| body.finish())
}

/// The growth between the values at the window's edges.
pub(super) fn increase_between_edges(
    job: &Job<'_>,
    points: &[Point],
    counter: bool,
) -> Option<f64> {
    let smoothed = job.smoothed();
    let (first, last) = job.edge_places(points, |point| point.time)?;
    let left = if smoothed && points[first].time < job.after {
        between(points[first], *points.get(first + 1)?, job.after, counter)
    } else {
        points[first].value
    };
    let right = if smoothed && last > 0 && points[last].time > job.until {
        between(points[last - 1], points[last], job.until, counter)
    } else {
        points[last].value
    };
    let mut growth = right - left;
    if counter {
        let inner = job.inner(points, first, last);
        let mut previous = left;
        for value in inner.iter().map(|point| point.value).chain([right]) {
            if value < previous {
                growth += previous;
            }
            previous = value;
        }
    }
    Some(growth)
}

/// As [`increase_between_edges`], of histograms.
pub(super) fn histograms_between_edges(
    job: &Job<'_>,
    name: &Labels,
    points: &[HistogramPoint],
    counter: bool,
) -> Option<Body<f64>> {
    let smoothed = job.smoothed();
    let (first, last) = job.edge_places(points, |point| point.time)?;
    let custom = points[first].histogram.is_custom();
    for point in points.get(first..=last).unwrap_or(&[]) {
        if point.histogram.is_custom() != custom {
            job.eval.warn(mixed_schemas(name), job.span);
            return None;
        }
        if counter && point.histogram.hint == ResetHint::Gauge {
            job.eval.warn(not_a_counter(name), job.span);
        }
    }
    let blend = Blend { eval: job.eval, name, span: job.span };
    let left = if smoothed && points[first].time < job.after {
        interpolated(&blend, &points[first], points.get(first + 1)?, job.after, counter)?
    } else {
        (*points[first].histogram).clone()
    };
    let right = if smoothed && last > 0 && points[last].time > job.until {
        interpolated(&blend, &points[last - 1], &points[last], job.until, counter)?
    } else {
        (*points[last].histogram).clone()
    };
    let gauges = left.hint == ResetHint::Gauge && right.hint == ResetHint::Gauge;
    if !counter && !gauges {
        job.eval.warn(not_a_gauge(name), job.span);
    }
    let mut growth: Body<f64> = Body::from(&right);
    if !blend.add(&mut growth, &left, -1.0) {
        return None;
    }
    if counter {
        let mut place = first + 1;
        let mut previous = &left;
        let spans_reset = |next: &HistogramPoint| {
            smoothed
                && points[first].time < job.after
                && is_reset(&next.histogram, &points[first].histogram)
        };
        if let Some(next) = points.get(place).filter(|next| spans_reset(next)) {
            // The left value was found across this reset, which is thereby accounted for.
            previous = &next.histogram;
            place += 1;
        }
        if place > last {
            return Some(growth);
        }
        // The last one is what `right` was made of, and carries the same hint.
        let inner = points.get(place..last).unwrap_or(&[]);
        for current in inner.iter().map(|point| &*point.histogram).chain([&right]) {
            if is_reset(current, previous) && !blend.add(&mut growth, previous, 1.0) {
                return None;
            }
            previous = current;
        }
    }
    Some(growth)
}

pub(super) fn not_a_counter(labels: &Labels) -> String {
    let name = labels.get(Labels::NAME);
    format!("this native histogram metric is not a counter: {name:?}")
}

pub(super) fn not_a_gauge(labels: &Labels) -> String {
    let name = labels.get(Labels::NAME);
    format!("this native histogram metric is not a gauge: {name:?}")
}

impl Job<'_> {
    pub(super) fn smoothed(&self) -> bool {
        self.edges == crate::ast::Edges::Smoothed
    }

    /// The samples at, or nearest beyond, the two edges; `None` if the window lies beside them.
    fn edge_places<P>(&self, points: &[P], time: impl Fn(&P) -> Time) -> Option<(usize, usize)> {
        let end = points.len().checked_sub(1)?;
        let first = points[..end].partition_point(|point| time(point) <= self.after);
        let first = first.saturating_sub(1);
        let last = if self.smoothed() {
            points[..end].partition_point(|point| time(point) < self.until)
        } else {
            end
        };
        let beside = time(&points[last]) <= self.after
            || self.smoothed() && time(&points[first]) > self.until;
        (!beside).then_some((first, last))
    }

    /// The points strictly within the edges.
    fn inner<'p>(&self, points: &'p [Point], first: usize, last: usize) -> &'p [Point] {
        let first = first + usize::from(points[first].time <= self.after);
        let end = if points[last].time >= self.until { last } else { last + 1 };
        points.get(first..end).unwrap_or(&[])
    }
}
