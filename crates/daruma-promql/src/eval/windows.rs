//! Functions over range vectors: each looks at the window of one series at a time.

use daruma_model::{Labels, Point, Span, Time};

use super::aggregate::quantile_range;
use super::{Element, Evaluated, Evaluator, Matrix, Window, failed, sums};
use crate::ast::{Call, Edges, Kind, Node};

/// A spacing this much wider than the mean still counts as the next sample being due.
const NEAR: f64 = 1.1;

/// The functions that keep the metric's name.
const KEEPS_NAME: [&str; 2] = ["first_over_time", "last_over_time"];

impl Evaluator<'_> {
    /// Applies a function that takes a range vector.
    pub(super) fn over_windows(&self, call: &Call, time: Time) -> Evaluated<Vec<Element>> {
        let name = call.function.name;
        let Some(place) =
            call.function.args.iter().position(|arg| *arg == crate::ast::ValueType::Matrix)
        else {
            return failed(format!("`{name}` takes no range vector"));
        };
        let arg = &call.args[place];
        let mut params = Vec::new();
        for (i, param) in call.args.iter().enumerate() {
            if i != place {
                params.push(self.scalar(param, time)?);
            }
        }
        let matrix = self.matrix(arg, time)?;
        if name == "absent_over_time" {
            let absent = matrix.windows.is_empty();
            let element = || Element { labels: absent_labels(arg), ..Element::bare(1.0, time) };
            return Ok(absent.then(element).into_iter().collect());
        }
        let param = |at: usize| params.get(at).copied().unwrap_or(f64::NAN);
        if name == "quantile_over_time"
            && !(0.0..=1.0).contains(&param(0))
            && !matrix.windows.is_empty()
        {
            self.warn(quantile_range(param(0)), &call.args[0].span);
        }
        if name == "double_exponential_smoothing" {
            for (param, what) in [(param(0), "smoothing"), (param(1), "trend")] {
                if !(param > 0.0 && param < 1.0) {
                    return failed(format!(
                        "invalid {what} factor. Expected: 0 < {} < 1, got: {param:.6}",
                        if what == "smoothing" { "sf" } else { "tf" }
                    ));
                }
            }
        }
        let mut results = Vec::with_capacity(matrix.windows.len());
        for window in &matrix.windows {
            if let Some(value) = compute(name, &matrix, &window.points, time, &param) {
                if matches!(name, "rate" | "increase") {
                    self.remark_on_name(window, arg);
                }
                let drop_name = window.drop_name || !KEEPS_NAME.contains(&name);
                results.push(Element { labels: window.labels.clone(), drop_name, value, time });
            }
        }
        Ok(results)
    }

    /// A counter is known by its name.
    fn remark_on_name(&self, window: &Window<'_>, arg: &Node) {
        let name = window.labels.get(Labels::NAME);
        let counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
        let kind = window.labels.get("__type__");
        if name.is_empty() || counter || matches!(kind, "counter" | "histogram") {
            return;
        }
        self.info(
            format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
            ),
            &arg.span,
        );
    }
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

fn compute(
    name: &str,
    matrix: &Matrix<'_>,
    points: &[Point],
    time: Time,
    param: &dyn Fn(usize) -> f64,
) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let values = || points.iter().map(|point| point.value);
    let extreme = |better: fn(f64, f64) -> bool| {
        points
            .iter()
            .copied()
            .reduce(|best, point| {
                if better(point.value, best.value) || best.value.is_nan() { point } else { best }
            })
            .unwrap_or(*first)
    };
    Some(match name {
        "rate" => increase(matrix, points, true)? / (matrix.until - matrix.after).as_secs_f64(),
        "increase" => increase(matrix, points, true)?,
        "delta" => increase(matrix, points, false)?,
        "irate" => last_step(points, true)?,
        "idelta" => last_step(points, false)?,
        "changes" => pairs(matrix, points)?
            .filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan()))
            .count() as f64,
        "resets" => pairs(matrix, points)?.filter(|(a, b)| b < a).count() as f64,
        "deriv" if points.len() < 2 => return None,
        "deriv" => regression(points, first.time).0,
        "predict_linear" if points.len() < 2 => return None,
        "predict_linear" => {
            let (slope, intercept) = regression(points, time);
            slope * param(0) + intercept
        }
        "sum_over_time" => sums::sum(values()),
        "avg_over_time" => sums::mean(values()),
        "count_over_time" => points.len() as f64,
        "min_over_time" => extreme(|a, b| a < b).value,
        "max_over_time" => extreme(|a, b| a > b).value,
        "ts_of_min_over_time" => extreme(|a, b| a <= b).time.as_secs_f64(),
        "ts_of_max_over_time" => extreme(|a, b| a >= b).time.as_secs_f64(),
        "stdvar_over_time" => sums::variance(values()),
        "stddev_over_time" => sums::variance(values()).sqrt(),
        "quantile_over_time" => sums::quantile(param(0), values().collect()),
        "mad_over_time" if values().any(f64::is_nan) => f64::NAN,
        "mad_over_time" => {
            let median = sums::quantile(0.5, values().collect());
            sums::quantile(0.5, values().map(|value| (value - median).abs()).collect())
        }
        "first_over_time" => first.value,
        "last_over_time" => last.value,
        "ts_of_first_over_time" => first.time.as_secs_f64(),
        "ts_of_last_over_time" => last.time.as_secs_f64(),
        "present_over_time" => 1.0,
        "double_exponential_smoothing" => smoothed(points, param(0), param(1))?,
        _ => return None,
    })
}

/// How much a series grew over the whole window, as far as its samples tell.
///
/// The samples seldom lie on the window's edges, so the growth between them is extended to an edge
/// when that is about as near as the next sample would be, else by half a spacing; a counter is never
/// extended below zero.
fn increase(matrix: &Matrix<'_>, points: &[Point], counter: bool) -> Option<f64> {
    if matrix.edges != Edges::Plain {
        return increase_between_edges(matrix, points, counter);
    }
    if points.len() < 2 {
        return None;
    }
    let (first, last) = (points.first()?, points.last()?);
    let mut growth = last.value - first.value;
    if counter {
        for pair in points.windows(2) {
            if pair[1].value < pair[0].value {
                growth += pair[0].value;
            }
        }
    }
    let sampled = (last.time - first.time).as_secs_f64();
    let spacing = sampled / (points.len() - 1) as f64;
    let reach = |gap: f64| if gap >= spacing * NEAR { spacing / 2.0 } else { gap };
    let mut before = reach((first.time - matrix.after).as_secs_f64());
    if counter && growth > 0.0 && first.value >= 0.0 {
        before = before.min(sampled * (first.value / growth));
    }
    let after = reach((matrix.until - last.time).as_secs_f64());
    Some(growth * ((sampled + before + after) / sampled))
}

/// The growth between the values at the window's edges: the last ones before them (`anchored`), or
/// those on the line between their neighbours (`smoothed`).
fn increase_between_edges(matrix: &Matrix<'_>, points: &[Point], counter: bool) -> Option<f64> {
    let smoothed = matrix.edges == Edges::Smoothed;
    let last_place = points.len() - 1;
    let before = |place: usize| points[..place].partition_point(|p| p.time <= matrix.after);
    let mut first = before(last_place).saturating_sub(1);
    let mut last = if smoothed {
        points[..last_place].partition_point(|point| point.time < matrix.until)
    } else {
        last_place
    };
    if points[last].time <= matrix.after || points[first].time > matrix.until {
        return None;
    }
    let left = if smoothed && points[first].time < matrix.after {
        between(points[first], *points.get(first + 1)?, matrix.after, counter)
    } else {
        points[first].value
    };
    let right = if smoothed && last > 0 && points[last].time > matrix.until {
        between(points[last - 1], points[last], matrix.until, counter)
    } else {
        points[last].value
    };
    let mut growth = right - left;
    if counter {
        if points[first].time <= matrix.after {
            first += 1;
        }
        if points[last].time >= matrix.until {
            last = last.checked_sub(1)?;
        }
        let inner = points.get(first..=last).unwrap_or(&[]);
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

/// The value at `time` on the line between two points; a counter that was reset starts at zero.
fn between(a: Point, b: Point, time: Time, counter: bool) -> f64 {
    let from = if counter && b.value < a.value { 0.0 } else { a.value };
    let share = (time - a.time).as_secs_f64() / (b.time - a.time).as_secs_f64();
    from + (b.value - from) * share
}

/// The value of a `smoothed` instant selector at `time`, from its neighbours.
pub(super) fn smoothed_at(
    before: Option<&Point>,
    next: Option<&Point>,
    time: Time,
    lookback: Span,
) -> Option<Point> {
    let before = before?;
    let next = next.filter(|next| next.time <= time + lookback && before.time < time);
    let value = next.map_or(before.value, |next| between(*before, *next, time, false));
    Some(Point { time, value })
}

/// Neighbouring values in the window; `anchored` adds the value at its left edge.
fn pairs<'p>(
    matrix: &Matrix<'_>,
    points: &'p [Point],
) -> Option<impl Iterator<Item = (f64, f64)> + 'p> {
    let mut from = 0;
    if matrix.edges == Edges::Anchored {
        let last = points.len() - 1;
        if points[last].time <= matrix.after {
            return None;
        }
        from = points[..last].partition_point(|p| p.time <= matrix.after).saturating_sub(1);
    }
    Some(points[from..].windows(2).map(|pair| (pair[0].value, pair[1].value)))
}

/// The step between the last two samples: per second for a counter, plain for a gauge.
fn last_step(points: &[Point], rate: bool) -> Option<f64> {
    let [.., a, b] = points else { return None };
    let seconds = (b.time - a.time).as_secs_f64();
    if seconds == 0.0 {
        return None;
    }
    if !rate {
        return Some(b.value - a.value);
    }
    // After a reset the counter began at zero.
    let growth = if b.value < a.value { b.value } else { b.value - a.value };
    Some(growth / seconds)
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
