//! Growth over a window: `rate`, `increase`, `delta`, and `irate`, `idelta` between its last two samples;
//! of counters with their resets, of gauges, of native histograms.

use daruma_model::{Histogram, HistogramPoint, Labels, Point, ResetHint, Time};

use super::Window;
use super::edges::{
    Blend, histograms_between_edges, increase_between_edges, mixed_schemas, not_a_counter,
    not_a_gauge,
};
use super::leaves::mixed_types;
use super::windows::Job;
use crate::ast::Edges;
use crate::histogram::{Body, is_reset};
use crate::value::SampleValue;

/// A spacing this much wider than the mean still counts as the next sample being due.
const NEAR: f64 = 1.1;

/// Whether a sample that counts since `start` began anew after the sample at `before`, which counts
/// since `start_before`.
pub(super) fn started_anew(
    start_before: Option<Time>,
    before: Time,
    start: Option<Time>,
    time: Time,
) -> bool {
    let Some(start) = start else { return false };
    if start >= time || start < before {
        return false;
    }
    // Pointing at the sample before, it is a delta; or a counter of unknown start, whose first sample
    // has no start or its own time for one.
    start > before || start_before.is_some_and(|first| first < before)
}

/// Whether a sample claims to count since before the one before it, and not since that one's start.
fn overlaps(start_before: Option<Time>, before: Time, start: Option<Time>) -> bool {
    start.is_some_and(|start| start < before && Some(start) != start_before)
}

fn overlap_text(labels: &Labels) -> String {
    let name = labels.get(Labels::NAME);
    format!(
        "sample has start time that overlaps with previous sample timestamp for metric {name:?}"
    )
}

/// How much a series grew over the whole window, as far as its samples tell; a second if `per_second`.
///
/// The samples seldom lie on the window's edges, so the growth between them is extended to an edge
/// when that is about as near as the next sample would be, else by half a spacing; a counter is never
/// extended below zero. A counter that says since when it counts began there with nothing.
pub(super) fn growth(
    job: &Job<'_>,
    window: &Window<'_>,
    counter: bool,
    per_second: bool,
) -> Option<SampleValue> {
    let name = &window.labels;
    let (points, histograms) = (&*window.points, &*window.histograms);
    if !points.is_empty() && !histograms.is_empty() {
        job.eval.warn(mixed_types(name), job.span);
        return None;
    }
    let seconds = (job.until - job.after).as_secs_f64();
    if job.edges != Edges::Plain {
        if histograms.is_empty() {
            let growth = increase_between_edges(job, points, counter)?;
            return Some((if per_second { growth / seconds } else { growth }).into());
        }
        let mut growth = histograms_between_edges(job, name, histograms, counter)?;
        if per_second {
            growth.divide(seconds);
        }
        growth.hint = ResetHint::Gauge;
        return Some(growth.finish().into());
    }
    if histograms.is_empty() {
        let (first, last) = (points.first()?, points.last()?);
        let mut growth = last.value - first.value;
        if counter {
            growth += corrections(job, name, points, window.starts);
        }
        let stretch = Stretch {
            first: first.time,
            last: last.time,
            steps: points.len() - 1,
            start: window.starts.first().copied().flatten().filter(|_| counter),
        };
        let zero = (counter && growth > 0.0 && first.value >= 0.0).then(|| first.value / growth);
        let (factor, from_start) = stretch.factor(job, zero)?;
        if from_start {
            growth += first.value;
        }
        let factor = if per_second { factor / seconds } else { factor };
        return Some((growth * factor).into());
    }
    let (first, last) = (histograms.first()?, histograms.last()?);
    let mut growth = match histograms {
        [_] => None,
        _ => Some(histogram_growth(job, name, histograms, counter)?),
    };
    let stretch = Stretch {
        first: first.time,
        last: last.time,
        steps: histograms.len() - 1,
        start: first.start.filter(|_| counter),
    };
    let risen = growth.as_ref().map(|growth| growth.count).filter(|count| *count > 0.0);
    let zero = risen
        .filter(|_| counter && first.histogram.count >= 0.0)
        .map(|risen| first.histogram.count / risen);
    let (factor, from_start) = stretch.factor(job, zero)?;
    let factor = if per_second { factor / seconds } else { factor };
    if from_start {
        match &mut growth {
            None => growth = Some(Body::from(&*first.histogram)),
            Some(growth) => {
                let blend = Blend { eval: job.eval, name, span: job.span };
                if !blend.add(growth, &first.histogram, 1.0) {
                    return None;
                }
            }
        }
    }
    let mut growth = growth?;
    growth.scale(factor);
    Some(growth.finish().into())
}

/// What a counter had before each of its resets.
fn corrections(job: &Job<'_>, name: &Labels, points: &[Point], starts: &[Option<Time>]) -> f64 {
    let mut lost = 0.0;
    if starts.iter().all(Option::is_none) {
        for pair in points.windows(2) {
            if pair[1].value < pair[0].value {
                lost += pair[0].value;
            }
        }
        return lost;
    }
    let mut overlap = false;
    for (pair, start) in points.windows(2).zip(starts.windows(2)) {
        overlap |= overlaps(start[0], pair[0].time, start[1]);
        if pair[1].value < pair[0].value
            || started_anew(start[0], pair[0].time, start[1], pair[1].time)
        {
            lost += pair[0].value;
        }
    }
    if overlap {
        job.eval.warn(overlap_text(name), job.span);
    }
    lost
}

/// How far samples that lie `sampled` seconds and so many steps apart stand for a gap beside them.
pub(super) fn reach(sampled: f64, steps: usize) -> impl Fn(f64) -> f64 {
    let spacing = if steps > 0 { sampled / steps as f64 } else { 0.0 };
    let near = spacing * NEAR;
    move |gap| if gap >= near { spacing / 2.0 } else { gap }
}

/// Where the samples lie in their window.
struct Stretch {
    first: Time,
    last: Time,
    /// One less than there are samples.
    steps: usize,
    /// Since when the first sample counts.
    start: Option<Time>,
}

impl Stretch {
    /// How much longer than the stretch between the samples is what they stand for, and whether the
    /// value of the first sample grew within it, too. `zero` is the time before the first sample at
    /// which a counter was zero, in such stretches.
    fn factor(&self, job: &Job<'_>, zero: Option<f64>) -> Option<(f64, bool)> {
        let mut sampled = (self.last - self.first).as_secs_f64();
        let reach = reach(sampled, self.steps);
        let mut before = reach((self.first - job.after).as_secs_f64());
        let after = reach((job.until - self.last).as_secs_f64());
        let start = self.start.filter(|start| *start > job.after && *start < self.first);
        if let Some(start) = start {
            before = 0.0;
            sampled = (self.last - start).as_secs_f64();
        } else if self.steps == 0 {
            return None;
        } else if let Some(zero) = zero {
            before = before.min(sampled * zero);
        }
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + before + after) / sampled };
        Some((factor, start.is_some()))
    }
}

/// The growth between at least two histograms; `None`, with a remark, if they do not mix.
fn histogram_growth(
    job: &Job<'_>,
    name: &Labels,
    points: &[HistogramPoint],
    counter: bool,
) -> Option<Body<f64>> {
    let [first, .., last] = points else { return None };
    let second = &points[1];
    let gauge = |point: &HistogramPoint| point.histogram.hint == ResetHint::Gauge;
    let mixed = || job.eval.warn(mixed_schemas(name), job.span);
    if counter {
        if points.iter().any(gauge) {
            job.eval.warn(not_a_counter(name), job.span);
        }
    } else if !gauge(first) || !gauge(last) {
        job.eval.warn(not_a_gauge(name), job.span);
    }
    let anew = |a: &HistogramPoint, b: &HistogramPoint, before: &Histogram| {
        started_anew(a.start, a.time, b.start, b.time) || is_reset(&b.histogram, before)
    };
    // Of a first sample before a reset nothing is needed, not even the shape.
    let blank = (counter && anew(first, second, &first.histogram))
        .then(|| Body::<f64>::empty(&second.histogram).finish());
    let start: &Histogram = blank.as_ref().unwrap_or(&first.histogram);
    let custom = start.is_custom();
    let relevant = if counter { &points[1..] } else { std::slice::from_ref(last) };
    if relevant.iter().any(|point| point.histogram.is_custom() != custom) {
        mixed();
        return None;
    }
    let blend = Blend { eval: job.eval, name, span: job.span };
    let mut growth: Body<f64> = Body::from(&*last.histogram);
    for point in relevant {
        growth.reduce(point.histogram.schema);
    }
    if !blend.add(&mut growth, start, -1.0) {
        return None;
    }
    if counter {
        let (mut previous, mut overlap) = (start, false);
        for pair in points.windows(2) {
            overlap |= overlaps(pair[0].start, pair[0].time, pair[1].start);
            if anew(&pair[0], &pair[1], previous) && !blend.add(&mut growth, previous, 1.0) {
                return None;
            }
            previous = &pair[1].histogram;
        }
        if overlap {
            job.eval.warn(overlap_text(name), job.span);
        }
    }
    growth.hint = ResetHint::Gauge;
    Some(growth)
}

/// One of the last two samples of a window.
#[derive(Clone, Copy)]
enum Last<'w> {
    Float(Point, Option<Time>),
    Histogram(&'w HistogramPoint),
}

impl Last<'_> {
    fn time(self) -> Time {
        match self {
            Last::Float(point, _) => point.time,
            Last::Histogram(point) => point.time,
        }
    }
}

/// The step between the last two samples: per second for a counter, plain for a gauge.
pub(super) fn last_step(job: &Job<'_>, window: &Window<'_>, rate: bool) -> Option<SampleValue> {
    let name = &window.labels;
    let floats = window
        .points
        .iter()
        .enumerate()
        .rev()
        .take(2)
        .map(|(i, point)| Last::Float(*point, window.starts.get(i).copied().flatten()));
    let histograms = window.histograms.iter().rev().take(2).map(Last::Histogram);
    let mut newest: Vec<Last<'_>> = floats.chain(histograms).collect();
    newest.sort_by_key(|last| std::cmp::Reverse(last.time()));
    let [b, a, ..] = newest.as_slice() else { return None };
    let seconds = (b.time() - a.time()).as_secs_f64();
    if seconds == 0.0 {
        return None;
    }
    match (a, b) {
        (Last::Float(a, start_a), Last::Float(b, start_b)) => {
            if !rate {
                return Some((b.value - a.value).into());
            }
            // After a reset the counter began at zero.
            let anew = b.value < a.value || started_anew(*start_a, a.time, *start_b, b.time);
            let growth = if anew { b.value } else { b.value - a.value };
            Some((growth / seconds).into())
        }
        (Last::Histogram(a), Last::Histogram(b)) => {
            let gauge = |point: &HistogramPoint| point.histogram.hint == ResetHint::Gauge;
            match (rate, gauge(a), gauge(b)) {
                (true, false, false) | (false, true, true) => {}
                (true, ..) => job.eval.warn(not_a_counter(name), job.span),
                (false, ..) => job.eval.warn(not_a_gauge(name), job.span),
            }
            let mut growth: Body<f64> = Body::from(&*b.histogram);
            let anew = started_anew(a.start, a.time, b.start, b.time)
                || is_reset(&b.histogram, &a.histogram);
            let blend = Blend { eval: job.eval, name, span: job.span };
            let fits = rate && anew || blend.add(&mut growth, &a.histogram, -1.0);
            if !fits {
                return None;
            }
            growth.hint = ResetHint::Gauge;
            if rate {
                growth.divide(seconds);
            }
            Some(growth.finish().into())
        }
        _ => {
            job.eval.warn(mixed_types(name), job.span);
            None
        }
    }
}
