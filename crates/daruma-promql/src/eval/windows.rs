//! Functions over range vectors: each looks at the window of one series at a time.

use std::ops::Range;

use daruma_model::{Histogram, HistogramPoint, Labels, Point, ResetHint, Time};

use super::aggregate::{COLLISION, quantile_range};
use super::edges::{mixed_schemas, reconciled};
use super::leaves::mixed_types;
use super::rates::{growth, last_step, started_anew};
use super::{Element, Evaluated, Evaluator, Window, failed, sums};
use crate::ast::{Call, Edges, Kind, Node};
use crate::histogram::{Body, is_reset, same};
use crate::value::SampleValue;

/// One function applied at one time: what is the same for all its windows.
pub(super) struct Job<'j> {
    pub(super) eval: &'j Evaluator<'j>,
    /// Where the range vector was written.
    pub(super) span: &'j Range<usize>,
    /// The bounds of the windows, open and closed.
    pub(super) after: Time,
    pub(super) until: Time,
    pub(super) edges: Edges,
    time: Time,
    params: [f64; 2],
    /// The metric whose name was last judged; neighbours mostly share it.
    judged: std::cell::RefCell<Option<Labels>>,
}

pub(super) type Compute = fn(&Job<'_>, &Window<'_>) -> Option<SampleValue>;

/// The functions that keep the metric's name.
pub(super) const KEEPS_NAME: [&str; 2] = ["first_over_time", "last_over_time"];

pub(super) fn computation(name: &str) -> Option<Compute> {
    Some(match name {
        "rate" => |job, window| counted(job, window, true),
        "increase" => |job, window| counted(job, window, false),
        "delta" => |job, window| growth(job, window, false, false),
        "irate" => |job, window| last_step(job, window, true),
        "idelta" => |job, window| last_step(job, window, false),
        "changes" => |job, window| steps(job, window, is_change),
        "resets" => |job, window| steps(job, window, is_restart),
        "deriv" => |job, window| {
            let points = floats(job, window, 2)?;
            Some(regression(points, points[0].time).0.into())
        },
        "predict_linear" => |job, window| {
            let (slope, intercept) = regression(floats(job, window, 2)?, job.time);
            Some((slope * job.params[0] + intercept).into())
        },
        "sum_over_time" => |job, window| match window.histograms.as_ref() {
            [] => Some(sums::sum(values(&window.points)).into()),
            histograms => total(job, window, histograms, false),
        },
        "avg_over_time" => |job, window| match window.histograms.as_ref() {
            [] => Some(sums::mean(values(&window.points)).into()),
            histograms => total(job, window, histograms, true),
        },
        "count_over_time" => {
            |_, window| Some(((window.points.len() + window.histograms.len()) as f64).into())
        }
        "min_over_time" => |job, window| extreme(job, window, |a, b| a < b).map(|p| p.value.into()),
        "max_over_time" => |job, window| extreme(job, window, |a, b| a > b).map(|p| p.value.into()),
        "ts_of_min_over_time" => {
            |job, window| extreme(job, window, |a, b| a <= b).map(|p| p.time.as_secs_f64().into())
        }
        "ts_of_max_over_time" => {
            |job, window| extreme(job, window, |a, b| a >= b).map(|p| p.time.as_secs_f64().into())
        }
        "stdvar_over_time" => {
            |job, window| Some(sums::variance(values(floats(job, window, 1)?)).into())
        }
        "stddev_over_time" => {
            |job, window| Some(sums::variance(values(floats(job, window, 1)?)).sqrt().into())
        }
        "quantile_over_time" => |job, window| {
            let points = floats(job, window, 1)?;
            Some(sums::quantile(job.params[0], values(points).collect()).into())
        },
        "mad_over_time" => |job, window| Some(deviation(floats(job, window, 1)?).into()),
        "first_over_time" => |_, window| {
            let (point, histogram) = (window.points.first(), window.histograms.first());
            pick(point, histogram, |a, b| a < b)
        },
        "last_over_time" => |_, window| {
            let (point, histogram) = (window.points.last(), window.histograms.last());
            pick(point, histogram, |a, b| a > b)
        },
        "ts_of_first_over_time" => |_, window| {
            let times = times(window.points.first(), window.histograms.first());
            times.min().map(|time| time.as_secs_f64().into())
        },
        "ts_of_last_over_time" => |_, window| {
            let times = times(window.points.last(), window.histograms.last());
            times.max().map(|time| time.as_secs_f64().into())
        },
        "present_over_time" => |_, _| Some(1.0.into()),
        "double_exponential_smoothing" => |job, window| {
            let points = floats(job, window, 2)?;
            smoothed(points, job.params[0], job.params[1]).map(SampleValue::Float)
        },
        _ => return None,
    })
}

impl<'j> Job<'j> {
    pub(super) fn new(
        eval: &'j Evaluator<'j>,
        span: &'j Range<usize>,
        (after, until): (Time, Time),
        edges: Edges,
        time: Time,
        params: [f64; 2],
    ) -> Job<'j> {
        let judged = std::cell::RefCell::new(None);
        Job { eval, span, after, until, edges, time, params, judged }
    }
}

impl Evaluator<'_> {
    /// Applies a function that takes a range vector.
    pub(super) fn over_windows(
        &self,
        node: &Node,
        call: &Call,
        time: Time,
    ) -> Evaluated<Vec<Element>> {
        if let Some(results) = self.prepared(node, time)? {
            return Ok(results);
        }
        let name = call.function.name;
        let Some(place) =
            call.function.args.iter().position(|arg| *arg == crate::ast::ValueType::Matrix)
        else {
            return failed(format!("`{name}` takes no range vector"));
        };
        let arg = &call.args[place];
        let mut params = [f64::NAN; 2];
        let scalars = call.args.iter().enumerate().filter(|(i, _)| *i != place);
        for (param, (_, arg)) in params.iter_mut().zip(scalars) {
            *param = self.scalar(arg, time)?;
        }
        if name == "absent_over_time" {
            let absent = self.matrix(arg, time)?.windows.is_empty();
            let element = || Element { labels: absent_labels(arg), ..Element::bare(1.0, time) };
            return Ok(absent.then(element).into_iter().collect());
        }
        let Some(compute) = computation(name) else {
            return failed(format!("`{name}` cannot be evaluated"));
        };
        let job = |after: Time, until: Time, edges: Edges| {
            Job::new(self, &arg.span, (after, until), edges, time, params)
        };
        // A selector's windows need not be held all at once.
        if let Kind::Selector(selector) = &arg.bare().kind {
            let (after, until, windows) = self.window_by_window(selector, time);
            let windows = windows.map(|(_, window)| window);
            return self.each_window(call, &job(after, until, selector.edges), compute, windows);
        }
        let matrix = self.matrix(arg, time)?;
        let job = job(matrix.after, matrix.until, matrix.edges);
        self.each_window(call, &job, compute, matrix.windows.into_iter())
    }

    fn each_window<'w>(
        &self,
        call: &Call,
        job: &Job<'_>,
        compute: Compute,
        windows: impl Iterator<Item = Window<'w>>,
    ) -> Evaluated<Vec<Element>> {
        let name = call.function.name;
        let keeps_name = KEEPS_NAME.contains(&name);
        let smoothing = name == "double_exponential_smoothing";
        let quantile = name == "quantile_over_time" && !(0.0..=1.0).contains(&job.params[0]);
        let mut results = Vec::with_capacity(windows.size_hint().1.unwrap_or(0).min(1 << 16));
        for window in windows {
            if smoothing {
                check_factors(job.params)?;
            }
            if quantile && !window.points.is_empty() {
                self.warn(quantile_range(job.params[0]), &call.args[0].span);
            }
            if let Some(value) = compute(job, &window) {
                if let SampleValue::Histogram(histogram) = &value {
                    self.hold_histogram(histogram)?;
                }
                let drop_name = window.drop_name || !keeps_name;
                let labels = window.labels.into_owned();
                results.push(Element { labels, drop_name, value, time: job.time });
            }
        }
        Ok(results)
    }
}

fn check_factors(params: [f64; 2]) -> Evaluated<()> {
    for (param, what, short) in [(params[0], "smoothing", "sf"), (params[1], "trend", "tf")] {
        if param <= 0.0 || param >= 1.0 || param.is_nan() {
            return failed(format!(
                "invalid {what} factor. Expected: 0 < {short} < 1, got: {param:.6}"
            ));
        }
    }
    Ok(())
}

/// `rate`, `increase`: with a remark on a name that is not one of a counter.
fn counted(job: &Job<'_>, window: &Window<'_>, per_second: bool) -> Option<SampleValue> {
    let value = growth(job, window, true, per_second)?;
    if window.doubtful && !window.points.is_empty() {
        remark_on_name(job, &window.labels);
    }
    Some(value)
}

/// A counter is known by its name.
pub(super) fn remark_on_name(job: &Job<'_>, labels: &Labels) {
    let name = labels.get(Labels::NAME);
    let mut judged = job.judged.borrow_mut();
    if judged.as_ref().is_some_and(|labels| labels.get(Labels::NAME) == name) {
        return;
    }
    *judged = Some(labels.clone());
    job.eval.info(
        format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
        ),
        job.span,
    );
}

/// The labels an absent selector would have had, as far as its matchers tell.
pub(super) fn absent_labels(arg: &Node) -> Labels {
    let Kind::Selector(selector) = &arg.bare().kind else { return Labels::default() };
    let mut labels = Labels::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in &selector.matchers {
        if matcher.name == Labels::NAME {
            continue;
        }
        if matcher.op == daruma_model::MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            labels = labels.with(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            labels = labels.with(&matcher.name, "");
        }
    }
    labels
}

fn values(points: &[Point]) -> impl Iterator<Item = f64> + '_ {
    points.iter().map(|point| point.value)
}

/// The numbers of a window, at least `least` of them, with a remark if histograms are left out.
fn floats<'w>(job: &Job<'_>, window: &'w Window<'_>, least: usize) -> Option<&'w [Point]> {
    if !window.points.is_empty() && !window.histograms.is_empty() {
        let name = window.labels.get(Labels::NAME);
        let message = format!(
            "ignored histograms in a range containing both floats and histograms for metric name {name:?}"
        );
        job.eval.info(message, job.span);
    }
    (window.points.len() >= least).then_some(&*window.points)
}

fn extreme(job: &Job<'_>, window: &Window<'_>, better: fn(f64, f64) -> bool) -> Option<Point> {
    floats(job, window, 1)?.iter().copied().reduce(|best, point| {
        if better(point.value, best.value) || best.value.is_nan() { point } else { best }
    })
}

fn deviation(points: &[Point]) -> f64 {
    if values(points).any(f64::is_nan) {
        return f64::NAN;
    }
    let median = sums::quantile(0.5, values(points).collect());
    sums::quantile(0.5, values(points).map(|value| (value - median).abs()).collect())
}

/// The float or the histogram, whichever time is preferred.
fn pick(
    point: Option<&Point>,
    histogram: Option<&HistogramPoint>,
    prefers: fn(Time, Time) -> bool,
) -> Option<SampleValue> {
    match (point, histogram) {
        (Some(point), None) => Some(point.value.into()),
        (Some(point), Some(other)) if prefers(point.time, other.time) => Some(point.value.into()),
        (_, Some(histogram)) => Some(SampleValue::Histogram(histogram.histogram.clone())),
        (None, None) => None,
    }
}

fn times(point: Option<&Point>, histogram: Option<&HistogramPoint>) -> impl Iterator<Item = Time> {
    let point = point.map(|point| point.time);
    point.into_iter().chain(histogram.map(|histogram| histogram.time))
}

/// The sum or the mean of a window's histograms.
fn total(
    job: &Job<'_>,
    window: &Window<'_>,
    histograms: &[HistogramPoint],
    mean: bool,
) -> Option<SampleValue> {
    let name = &window.labels;
    if !window.points.is_empty() {
        job.eval.warn(mixed_types(name), job.span);
        return None;
    }
    let mut running = Running::default();
    for point in histograms {
        if !running.add(&point.histogram, mean) {
            job.eval.warn(mixed_schemas(name), job.span);
            return None;
        }
    }
    running.remark(job.eval, job.span);
    running.finish(mean).map(Into::into)
}

/// A sum of histograms, or their mean, under way.
#[derive(Default)]
pub(super) struct Running {
    body: Option<Body<sums::Sum>>,
    count: f64,
    /// The sum would overflow: the body is the mean so far.
    moving: bool,
    began_anew: bool,
    went_on: bool,
    reconciled: bool,
}

impl Running {
    /// Adds one; `false` if it does not mix with those before.
    pub(super) fn add(&mut self, histogram: &Histogram, mean: bool) -> bool {
        self.began_anew |= histogram.hint == ResetHint::Reset;
        self.went_on |= histogram.hint == ResetHint::NotReset;
        self.count += 1.0;
        let Some(body) = &mut self.body else {
            self.body = Some(Body::from(histogram));
            return true;
        };
        if mean && !self.moving {
            let mut next = body.clone();
            let Ok(remarks) = next.add(histogram, 1.0) else { return false };
            if !next.overflows() {
                self.reconciled |= remarks.reconciled;
                *body = next;
                return true;
            }
            self.moving = true;
            body.divide(self.count - 1.0);
        }
        let added = if self.moving {
            body.scale((self.count - 1.0) / self.count);
            let mut share: Body<f64> = Body::from(histogram);
            share.divide(self.count);
            body.add(&share.finish(), 1.0)
        } else {
            body.add(histogram, 1.0)
        };
        self.reconciled |= added.is_ok_and(|remarks| remarks.reconciled);
        added.is_ok()
    }

    pub(super) fn remark(&self, eval: &Evaluator<'_>, span: &Range<usize>) {
        if self.began_anew && self.went_on {
            eval.warn(COLLISION.to_owned(), span);
        }
        if self.reconciled {
            eval.info(reconciled("aggregation"), span);
        }
    }

    pub(super) fn finish(self, mean: bool) -> Option<Histogram> {
        let mut body = self.body?;
        if mean && !self.moving {
            body.divide(self.count);
        }
        Some(body.finish())
    }
}

/// A sample as `changes` and `resets` see it.
#[derive(Clone, Copy)]
struct Seen<'w> {
    time: Time,
    start: Option<Time>,
    value: f64,
    histogram: Option<&'w Histogram>,
}

fn is_change(a: &Seen<'_>, b: &Seen<'_>) -> bool {
    match (a.histogram, b.histogram) {
        (None, None) => a.value != b.value && !(a.value.is_nan() && b.value.is_nan()),
        (Some(a), Some(b)) => !same(a, b),
        _ => true,
    }
}

fn is_restart(a: &Seen<'_>, b: &Seen<'_>) -> bool {
    let anew = || started_anew(a.start, a.time, b.start, b.time);
    match (a.histogram, b.histogram) {
        (None, None) => b.value < a.value || anew(),
        (Some(a), Some(b)) => anew() || is_reset(b, a),
        _ => true,
    }
}

/// How many neighbouring samples of the window `counts`; `anchored` adds the one at its left edge.
fn steps(
    job: &Job<'_>,
    window: &Window<'_>,
    counts: fn(&Seen<'_>, &Seen<'_>) -> bool,
) -> Option<SampleValue> {
    let floats = window.points.iter().enumerate().map(|(i, point)| Seen {
        time: point.time,
        start: window.starts.get(i).copied().flatten(),
        value: point.value,
        histogram: None,
    });
    let histograms = window.histograms.iter().map(|point| Seen {
        time: point.time,
        start: point.start,
        value: 0.0,
        histogram: Some(&point.histogram),
    });
    let mut all: Vec<Seen<'_>> = floats.chain(histograms).collect();
    if !window.histograms.is_empty() {
        all.sort_by_key(|seen| seen.time);
    }
    let mut from = 0;
    if job.edges == Edges::Anchored {
        let before = all.partition_point(|seen| seen.time <= job.after);
        if before == all.len() {
            return None;
        }
        from = before.saturating_sub(1);
    }
    let count = all[from..].windows(2).filter(|pair| counts(&pair[0], &pair[1])).count();
    Some((count as f64).into())
}

/// Least squares: the slope per second, and the value at `origin`.
fn regression(points: &[Point], origin: Time) -> (f64, f64) {
    let Some(first) = points.first() else { return (f64::NAN, f64::NAN) };
    if points.iter().all(|point| point.value == first.value) {
        return if first.value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first.value) };
    }
    let n = points.len() as f64;
    let total = |term: &dyn Fn(f64, f64) -> f64| {
        let sum = points
            .iter()
            .map(|point| term((point.time - origin).as_secs_f64(), point.value))
            .fold(sums::Sum::default(), sums::Sum::add);
        sum.high + sum.low
    };
    let (x, y) = (total(&|x, _| x), total(&|_, y| y));
    let covariance = total(&|x, y| x * y) - x * y / n;
    let slope = covariance / (total(&|x, _| x * x) - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Holt's linear method: level and trend, each smoothed.
fn smoothed(points: &[Point], level_factor: f64, trend_factor: f64) -> Option<f64> {
    let [a, b, ..] = points else { return None };
    let (mut previous, mut level, mut trend) = (0.0, a.value, b.value - a.value);
    for (i, point) in points.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - previous) + (1.0 - trend_factor) * trend;
        }
        let next = level_factor * point.value + (1.0 - level_factor) * (level + trend);
        (previous, level) = (level, next);
    }
    Some(level)
}
