//! Functions over the windows of one series after another, at all steps of a grid. Windows only move
//! forward, so their ends are found by walking; what neighbouring windows share is computed once.
//!
//! It stands apart because it is a shorter way: every value is the one that `windows` computes.

use daruma_model::{Point, Time, is_stale};

use super::leaves::Leaf;
use super::rows::{Grid, NOTHING};
use super::windows::{Compute, Job, computation, remark_on_name};
use super::{Evaluated, Evaluator, Window, failed};
use crate::ast::{Call, Edges, VectorSelector};
use crate::value::SampleValue;

/// One function on its way over all series of a selector.
pub(super) struct Pass<'p> {
    leaf: &'p Leaf,
    /// By step.
    jobs: Vec<Job<'p>>,
    /// From where to where points are looked at, by step.
    reaches: Vec<(Time, Time)>,
    compute: Compute,
    swift: Option<Swift>,
    /// Whether all windows are the same one, and all values.
    still: bool,
}

/// Functions with a way of their own.
#[derive(Clone, Copy)]
enum Swift {
    Growth { counter: bool, per_second: bool },
    Extreme(fn(f64, f64) -> bool),
}

impl Evaluator<'_> {
    /// `params` are the function's other parameters.
    pub(super) fn pass<'p>(
        &'p self,
        call: &'p Call,
        selector: &VectorSelector,
        params: [f64; 2],
        grid: &Grid,
    ) -> Evaluated<Pass<'p>> {
        let name = call.function.name;
        let arg = call.args.iter().find(|arg| arg.bare().selectors().len() == 1);
        let (Some(compute), Some(arg)) = (computation(name), arg) else {
            return failed(format!("`{name}` cannot be evaluated"));
        };
        let still = selector.shift.at.is_some() && name != "predict_linear";
        let jobs: Vec<Job<'_>> = grid
            .times()
            .take(if still { 1 } else { usize::MAX })
            .map(|time| {
                let bounds = self.bounds_at(selector, time);
                Job::new(self, &arg.span, bounds, selector.edges, time, params)
            })
            .collect();
        let reaches = jobs.iter().map(|job| self.reach(selector, (job.after, job.until))).collect();
        let plain = selector.edges == Edges::Plain;
        let swift = match name {
            "rate" if plain => Some(Swift::Growth { counter: true, per_second: true }),
            "increase" if plain => Some(Swift::Growth { counter: true, per_second: false }),
            "delta" if plain => Some(Swift::Growth { counter: false, per_second: false }),
            "min_over_time" if plain => Some(Swift::Extreme(|a, b| a < b)),
            "max_over_time" if plain => Some(Swift::Extreme(|a, b| a > b)),
            _ => None,
        };
        let leaf = &self.leaves[selector.index];
        Ok(Pass { leaf, jobs, reaches, compute, swift, still })
    }
}

/// The points of windows that only move forward.
struct Walk<'p> {
    points: &'p [Point],
    start: usize,
    end: usize,
}

impl Walk<'_> {
    /// Where the points in `(from, to]` lie.
    #[inline]
    fn on(&mut self, (from, to): (Time, Time)) -> (usize, usize) {
        while self.points.get(self.start).is_some_and(|point| point.time <= from) {
            self.start += 1;
        }
        self.end = self.end.max(self.start);
        while self.points.get(self.end).is_some_and(|point| point.time <= to) {
            self.end += 1;
        }
        (self.start, self.end)
    }
}

impl Pass<'_> {
    /// What the function yields for the series at a place, step by step.
    pub(super) fn row(&self, place: usize, row: &mut [f64]) {
        let Some(series) = self.leaf.series.get(place) else { return };
        match self.swift {
            Some(Swift::Growth { counter, per_second }) if series.starts.is_empty() => {
                self.growth(&series.points, counter, per_second, row);
                if counter
                    && self.leaf.is_doubtful(place)
                    && row.iter().any(|value| !is_stale(*value))
                {
                    let job = self.jobs.first();
                    job.into_iter().for_each(|job| remark_on_name(job, &series.labels));
                }
            }
            Some(Swift::Extreme(better)) => self.extreme(&series.points, better, row),
            _ => self.plain(place, row),
        }
        if self.still
            && let Some((first, rest)) = row.split_first_mut()
        {
            rest.fill(*first);
        }
    }

    fn plain(&self, place: usize, row: &mut [f64]) {
        let series = &self.leaf.series[place];
        let mut walk = Walk { points: &series.points, start: 0, end: 0 };
        for ((job, reach), value) in self.jobs.iter().zip(&self.reaches).zip(row) {
            let (start, end) = walk.on(*reach);
            *value = NOTHING;
            if start == end {
                continue;
            }
            let window = Window {
                labels: std::borrow::Cow::Borrowed(&series.labels),
                drop_name: false,
                points: series.points[start..end].into(),
                starts: series.starts.get(start..end).unwrap_or(&[]),
                histograms: (&[]).into(),
                doubtful: self.leaf.is_doubtful(place),
            };
            if let Some(found) = (self.compute)(job, &window).as_ref().and_then(SampleValue::float)
            {
                *value = found;
            }
        }
    }

    /// The least or the greatest value of each window.
    fn extreme(&self, points: &[Point], better: fn(f64, f64) -> bool, row: &mut [f64]) {
        let mut walk = Walk { points, start: 0, end: 0 };
        // The best of the last window, and where that ended.
        let (mut best, mut seen) = (0, 0);
        for (reach, value) in self.reaches.iter().zip(row) {
            let (start, end) = walk.on(*reach);
            if start == end {
                *value = NOTHING;
                continue;
            }
            if best < start || seen <= start {
                (best, seen) = (start, start + 1);
            }
            for at in seen..end {
                let known = points[best].value;
                if better(points[at].value, known) || known.is_nan() {
                    best = at;
                }
            }
            seen = end;
            *value = points[best].value;
        }
    }

    /// `rate`, `increase`, `delta` of numbers, as `rates::growth` has them.
    fn growth(&self, points: &[Point], counter: bool, per_second: bool, row: &mut [f64]) {
        let mut resets: Vec<usize> = Vec::new();
        if counter {
            let falls = points.windows(2).enumerate();
            let falls = falls.filter(|(_, pair)| pair[1].value < pair[0].value);
            resets.extend(falls.map(|(before, _)| before + 1));
        }
        let mut walk = Walk { points, start: 0, end: 0 };
        let mut next_reset = 0;
        let mut stretch = Stretched::default();
        for (job, value) in self.jobs.iter().zip(row) {
            let (start, end) = walk.on((job.after, job.until));
            *value = NOTHING;
            if end - start < 2 {
                continue;
            }
            let (first, last) = (points[start], points[end - 1]);
            while resets.get(next_reset).is_some_and(|at| *at <= start) {
                next_reset += 1;
            }
            let mut lost = 0.0;
            for at in resets.get(next_reset..).unwrap_or(&[]).iter().take_while(|at| **at < end) {
                lost += points[at - 1].value;
            }
            let growth = last.value - first.value + lost;
            let shape = Shape {
                before: (first.time - job.after).0,
                length: (last.time - first.time).0,
                after: (job.until - last.time).0,
                width: (job.until - job.after).0,
                steps: end - start - 1,
            };
            if shape != stretch.shape {
                stretch = Stretched::of(shape);
            }
            let falls_to_zero = counter && growth > 0.0 && first.value >= 0.0;
            let factor = stretch.factor(falls_to_zero.then_some((first.value, growth)));
            *value = growth * if per_second { factor / stretch.seconds } else { factor };
        }
    }
}

/// How the samples lie in a window, in milliseconds.
#[derive(Default, Clone, Copy, PartialEq)]
struct Shape {
    before: i64,
    length: i64,
    after: i64,
    width: i64,
    steps: usize,
}

/// What follows from the shape alone: regular samples have the same in nearly every window.
#[derive(Default)]
struct Stretched {
    shape: Shape,
    sampled: f64,
    before: f64,
    after: f64,
    seconds: f64,
    whole: f64,
}

impl Stretched {
    fn of(shape: Shape) -> Stretched {
        let seconds = |ms: i64| daruma_model::Span(ms).as_secs_f64();
        let sampled = seconds(shape.length);
        let reach = super::rates::reach(sampled, shape.steps);
        let (before, after) = (reach(seconds(shape.before)), reach(seconds(shape.after)));
        let mut made =
            Stretched { shape, sampled, before, after, seconds: seconds(shape.width), whole: 1.0 };
        made.whole = made.with(before);
        made
    }

    fn with(&self, before: f64) -> f64 {
        if self.sampled == 0.0 { 1.0 } else { (self.sampled + before + self.after) / self.sampled }
    }

    /// How much longer the window is than the stretch between its samples, as far as they stand for it;
    /// of a counter, its first value and its growth, because it was never below zero.
    #[inline]
    fn factor(&self, counter: Option<(f64, f64)>) -> f64 {
        let Some((first, growth)) = counter else { return self.whole };
        // Mostly it is plain, without a division, that zero lies before the window.
        let (ahead, needed) = (first * self.sampled, self.before * growth * 1.000_001);
        if needed > 1e-200 && needed.is_finite() && ahead >= needed {
            return self.whole;
        }
        self.with(self.before.min(self.sampled * (first / growth)))
    }
}
