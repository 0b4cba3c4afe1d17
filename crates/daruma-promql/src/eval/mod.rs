//! The reference evaluator: plain, complete, and the yardstick for any faster one.
//!
//! A query is evaluated time by time over a grid (an instant query is one time). Every selector is
//! read from the [`Querier`] once, for all the time the query can look at; windows are slices of what
//! was read. Inner results of a subquery are kept, because neighbouring windows share most of them.
//!
//! Never in here: a clock, a panic on data, unchecked arithmetic on time. Whatever grows is counted
//! against [`Limits::samples_max`].

mod aggregate;
mod binary;
mod buckets;
mod calls;
mod dates;
mod enrich;
mod sums;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use daruma_model::{Labels, Point, Querier, Series, Span, Time, is_stale};

use crate::Expr;
use crate::ast::{At, Duration, Edges, Kind, Node, Subquery, ValueType, VectorSelector};
use crate::value::{Annotation, AnnotationLevel, Answer, Value, VectorSample};

/// What bounds a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most samples it may hold, read and computed together.
    pub samples_max: usize,
    /// How far back an instant selector looks for the newest sample.
    pub lookback: Span,
}

impl Default for Limits {
    /// 50 million samples (about 1 GiB) and 5 minutes, as Prometheus.
    fn default() -> Limits {
        Limits { samples_max: 50_000_000, lookback: Span::minutes(5) }
    }
}

/// The distance of a subquery's steps when none is given, as Prometheus' default.
const SUBQUERY_STEP: Span = Span::minutes(1);

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The query reads or makes more samples than allowed.
    #[error(
        "query processing would load too many samples: more than {max}; narrow the selectors, the range or the step"
    )]
    TooManySamples {
        /// The limit.
        max: usize,
    },
    /// The querier said that nobody waits for the answer any more ([`Querier::stopped`]).
    #[error("the query was stopped before it ended")]
    Stopped,
    /// The query has no meaning on this data, such as several partners where one was asked for.
    #[error("{0}")]
    Execution(String),
}

type Evaluated<T> = Result<T, EvalError>;

pub(crate) fn failed<T>(message: impl Into<String>) -> Evaluated<T> {
    Err(EvalError::Execution(message.into()))
}

const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// Evaluates `expr` at one time.
///
/// A vector is ordered as the query orders it (`sort`, `topk`), else by the label sets of its
/// selectors; a matrix by label set.
///
/// # Errors
/// [`EvalError`], which is about the whole query: there is no partial result.
pub fn instant(
    querier: &dyn Querier,
    expr: &Expr,
    at: Time,
    limits: &Limits,
) -> Result<Answer, EvalError> {
    let eval = Evaluator::new(querier, expr, (at, at), Span::ZERO, limits)?;
    let value = match eval.node(expr.ast(), at)? {
        Got::Scalar(value) => Value::Scalar(value),
        Got::Text(text) => Value::String(text),
        Got::Vector(vector) => {
            let mut seen = HashSet::with_capacity(vector.len());
            let mut samples = Vec::with_capacity(vector.len());
            for element in vector {
                let labels = element.final_labels();
                if !seen.insert(labels.clone()) {
                    return failed(SAME_LABELSET);
                }
                samples.push(VectorSample { labels, value: element.value, time: at });
            }
            Value::Vector(samples)
        }
        Got::Matrix(matrix) => {
            let mut series = BTreeMap::new();
            for window in matrix.windows {
                let labels =
                    if window.drop_name { nameless(&window.labels) } else { window.labels };
                if series.insert(labels, window.points.into_owned()).is_some() {
                    return failed(SAME_LABELSET);
                }
            }
            Value::Matrix(
                series
                    .into_iter()
                    .map(|(labels, points)| Series { labels, points, ..Series::default() })
                    .collect(),
            )
        }
    };
    Ok(Answer { value, annotations: eval.notes.into_inner() })
}

/// Evaluates `expr` at `start`, `start + step`, … up to `end`.
///
/// The value is a matrix sorted by label set; a scalar becomes one series without labels.
///
/// # Errors
/// [`EvalError`]; also if `expr` is neither a scalar nor an instant vector, if `step` is not above
/// zero, or if `end` lies before `start`.
pub fn range(
    querier: &dyn Querier,
    expr: &Expr,
    start: Time,
    end: Time,
    step: Span,
    limits: &Limits,
) -> Result<Answer, EvalError> {
    if !matches!(expr.returns(), ValueType::Scalar | ValueType::Vector) {
        return failed(format!(
            "a range query takes a scalar or an instant vector, not a {}",
            expr.returns().as_str()
        ));
    }
    if step.0 <= 0 {
        return failed("the step of a range query must be above zero");
    }
    if end < start {
        return failed("the end of a range query lies before its start");
    }
    let eval = Evaluator::new(querier, expr, (start, end), step, limits)?;
    let mut series: BTreeMap<Labels, Vec<Point>> = BTreeMap::new();
    let mut time = start;
    loop {
        eval.hold(1)?;
        let vector = match eval.node(expr.ast(), time)? {
            Got::Vector(vector) => vector,
            Got::Scalar(value) => vec![Element::bare(value, time)],
            Got::Matrix(_) | Got::Text(_) => Vec::new(),
        };
        eval.hold(vector.len())?;
        for element in vector {
            let points = series.entry(element.final_labels()).or_default();
            if points.last().is_some_and(|point| point.time == time) {
                return failed(SAME_LABELSET);
            }
            points.push(Point { time, value: element.value });
        }
        let next = time + step;
        if next > end || next == time {
            break;
        }
        time = next;
    }
    let matrix = series
        .into_iter()
        .map(|(labels, points)| Series { labels, points, ..Series::default() })
        .collect();
    Ok(Answer { value: Value::Matrix(matrix), annotations: eval.notes.into_inner() })
}

/// The times at which something shifted by `offset` and `@` is looked at, when it is asked for from
/// `first` to `last` in a query over `bounds`.
pub(crate) fn shifted(
    at: Option<At>,
    offset: Span,
    (first, last): (Time, Time),
    bounds: (Time, Time),
) -> (Time, Time) {
    let (first, last) = match at {
        None => (first, last),
        Some(At::Time(time)) => (time, time),
        Some(At::Start) => (bounds.0, bounds.0),
        Some(At::End) => (bounds.1, bounds.1),
    };
    (first - offset, last - offset)
}

/// Labels that tell what a metric is; they go when a value is no longer that metric.
pub(crate) const METADATA: [&str; 3] = [Labels::NAME, "__type__", "__unit__"];

pub(crate) fn nameless(labels: &Labels) -> Labels {
    labels.filtered(|name| !METADATA.contains(&name))
}

/// One element of a vector under way.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) labels: Labels,
    /// Whether the metric's name goes when the result is complete: until then `by (__name__)`,
    /// `label_replace` and matching can still read it.
    pub(crate) drop_name: bool,
    pub(crate) value: f64,
    /// The time of the sample it was read from, or of the evaluation that computed it.
    pub(crate) time: Time,
}

impl Element {
    pub(crate) fn bare(value: f64, time: Time) -> Element {
        Element { labels: Labels::default(), drop_name: false, value, time }
    }

    fn final_labels(&self) -> Labels {
        if self.drop_name { nameless(&self.labels) } else { self.labels.clone() }
    }
}

/// One series of a range vector under way.
#[derive(Debug, Clone)]
pub(crate) struct Window<'e> {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    /// In order of time, without staleness markers, at least one.
    pub(crate) points: std::borrow::Cow<'e, [Point]>,
}

/// A range vector under way.
#[derive(Debug)]
pub(crate) struct Matrix<'e> {
    pub(crate) windows: Vec<Window<'e>>,
    /// The bounds of the window, open and closed. With filled-in edges there are points beyond.
    pub(crate) after: Time,
    pub(crate) until: Time,
    pub(crate) edges: Edges,
}

/// What a node yields at one time.
#[derive(Debug)]
pub(crate) enum Got<'e> {
    Scalar(f64),
    Vector(Vec<Element>),
    Matrix(Matrix<'e>),
    Text(String),
}

/// A selector with everything it can look at.
struct Leaf {
    series: Vec<Series>,
    window: Span,
    offset: Span,
}

/// A subquery with its lengths resolved.
#[derive(Clone, Copy)]
struct Inner {
    window: Span,
    step: Span,
    offset: Span,
}

/// The inner results of a subquery so far. It is asked for at times that never go back, because the
/// outermost grid does not, so what is new is always later than what is known.
#[derive(Default)]
struct Steps {
    /// The last step that was evaluated.
    done: Option<Time>,
    /// By labels, and whether the name is to go.
    series: BTreeMap<(Labels, bool), Vec<Point>>,
}

pub(crate) struct Evaluator<'q> {
    querier: &'q dyn Querier,
    /// The first and the last time of the outermost query.
    pub(crate) bounds: (Time, Time),
    pub(crate) step: Span,
    limits: Limits,
    /// By the selector's index.
    leaves: Vec<Leaf>,
    /// By the node's id.
    inners: HashMap<usize, Inner>,
    /// By the subquery's id.
    memo: RefCell<HashMap<usize, Steps>>,
    notes: RefCell<Vec<Annotation>>,
    held: Cell<usize>,
}

impl<'q> Evaluator<'q> {
    fn new(
        querier: &'q dyn Querier,
        expr: &Expr,
        bounds: (Time, Time),
        step: Span,
        limits: &Limits,
    ) -> Evaluated<Evaluator<'q>> {
        let mut eval = Evaluator {
            querier,
            bounds,
            step,
            limits: *limits,
            leaves: Vec::new(),
            inners: HashMap::new(),
            memo: RefCell::default(),
            notes: RefCell::default(),
            held: Cell::new(0),
        };
        eval.plan(expr.ast(), bounds)?;
        Ok(eval)
    }

    /// Reads every selector below for all the times at which it will be asked: `first` to `last`.
    fn plan(&mut self, node: &Node, (first, last): (Time, Time)) -> Evaluated<()> {
        match &node.kind {
            Kind::Selector(selector) => {
                let offset = self.offset(selector.shift.offset.as_ref())?;
                let window = match &selector.window {
                    Some(window) => self.length(window)?,
                    None => self.limits.lookback,
                };
                let (first, last) = shifted(selector.shift.at, offset, (first, last), self.bounds);
                let (mut after, mut until) = (first - window, last);
                if selector.edges != Edges::Plain && selector.window.is_some() {
                    after = after - self.limits.lookback;
                }
                if selector.edges == Edges::Smoothed {
                    until += self.limits.lookback;
                }
                let mut series = self.querier.select(&selector.matchers, after, until);
                if selector.window.is_some() || selector.edges != Edges::Plain {
                    for one in &mut series {
                        one.points.retain(|point| !is_stale(point.value));
                    }
                }
                for one in &series {
                    self.hold(one.points.len())?;
                }
                // Selectors are planned in order of writing, which is the order of their indices.
                debug_assert_eq!(self.leaves.len(), selector.index);
                self.leaves.push(Leaf { series, window, offset });
            }
            Kind::Subquery(subquery) => {
                let inner = Inner {
                    window: self.length(&subquery.window)?,
                    step: match &subquery.step {
                        Some(step) => self.length(step)?,
                        None => SUBQUERY_STEP,
                    },
                    offset: self.offset(subquery.shift.offset.as_ref())?,
                };
                let (first, last) =
                    shifted(subquery.shift.at, inner.offset, (first, last), self.bounds);
                self.inners.insert(node.id, inner);
                self.plan(&subquery.inner, (first - inner.window, last))?;
            }
            Kind::Call(call) if call.function.name == "info" && call.args.len() > 1 => {
                self.plan(&call.args[0], (first, last))?;
                // Matchers without a metric name would read the whole store: `info` reads for itself.
                self.leaves.push(Leaf {
                    series: Vec::new(),
                    window: self.limits.lookback,
                    offset: Span::ZERO,
                });
            }
            _ => {
                for child in node.children() {
                    self.plan(child, (first, last))?;
                }
            }
        }
        Ok(())
    }

    fn offset(&self, duration: Option<&Duration>) -> Evaluated<Span> {
        let Some(duration) = duration else { return Ok(Span::ZERO) };
        duration
            .resolve(self.step, self.bounds.1 - self.bounds.0)
            .map_err(|message| EvalError::Execution(message.to_owned()))
    }

    fn length(&self, duration: &Duration) -> Evaluated<Span> {
        let span = self.offset(Some(duration))?;
        if span.0 <= 0 {
            return failed("duration must be greater than 0");
        }
        Ok(span)
    }

    /// Counts samples against the limit.
    pub(crate) fn hold(&self, samples: usize) -> Evaluated<()> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        let max = self.limits.samples_max;
        if held > max { Err(EvalError::TooManySamples { max }) } else { Ok(()) }
    }

    /// Adds a remark, once.
    pub(crate) fn note(&self, level: AnnotationLevel, message: String, span: &Range<usize>) {
        let note = Annotation { level, message, span: span.clone() };
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub(crate) fn warn(&self, message: String, span: &Range<usize>) {
        self.note(AnnotationLevel::Warn, message, span);
    }

    pub(crate) fn info(&self, message: String, span: &Range<usize>) {
        self.note(AnnotationLevel::Info, message, span);
    }

    /// Evaluates `node` at `time`.
    pub(crate) fn node<'e>(&'e self, node: &Node, time: Time) -> Evaluated<Got<'e>> {
        if self.querier.stopped() {
            return Err(EvalError::Stopped);
        }
        Ok(match &node.kind {
            Kind::Number(number) => Got::Scalar(*number),
            Kind::Text(text) => Got::Text(text.clone()),
            Kind::Paren(inner) => self.node(inner, time)?,
            Kind::Selector(selector) if selector.window.is_some() => {
                Got::Matrix(self.windows(selector, time))
            }
            Kind::Selector(selector) => {
                let mut vector = self.newest(selector, time);
                for element in &mut vector {
                    element.time = time;
                }
                Got::Vector(vector)
            }
            Kind::Subquery(subquery) => Got::Matrix(self.subquery(node.id, subquery, time)?),
            Kind::Unary { minus, inner } => match self.node(inner, time)? {
                Got::Scalar(value) => Got::Scalar(if *minus { -value } else { value }),
                Got::Vector(mut vector) if *minus => {
                    for element in &mut vector {
                        element.value = -element.value;
                        element.drop_name = true;
                    }
                    Got::Vector(vector)
                }
                other => other,
            },
            Kind::Binary(binary) => self.binary(node, binary, time)?,
            Kind::Aggregate(aggregate) => Got::Vector(self.aggregate(node, aggregate, time)?),
            Kind::Call(call) => self.call(node, call, time)?,
        })
    }

    pub(crate) fn vector(&self, node: &Node, time: Time) -> Evaluated<Vec<Element>> {
        match self.node(node, time)? {
            Got::Vector(vector) => Ok(vector),
            Got::Scalar(value) => Ok(vec![Element::bare(value, time)]),
            Got::Matrix(_) | Got::Text(_) => failed("expected an instant vector"),
        }
    }

    pub(crate) fn scalar(&self, node: &Node, time: Time) -> Evaluated<f64> {
        match self.node(node, time)? {
            Got::Scalar(value) => Ok(value),
            _ => failed("expected a scalar"),
        }
    }

    pub(crate) fn matrix<'e>(&'e self, node: &Node, time: Time) -> Evaluated<Matrix<'e>> {
        match self.node(node, time)? {
            Got::Matrix(matrix) => Ok(matrix),
            _ => failed("expected a range vector"),
        }
    }

    pub(crate) fn text(&self, node: &Node, time: Time) -> Evaluated<String> {
        match self.node(node, time)? {
            Got::Text(text) => Ok(text),
            _ => failed("expected a string"),
        }
    }

    /// The newest sample of each series within the lookback, with its own time.
    pub(crate) fn newest(&self, selector: &VectorSelector, time: Time) -> Vec<Element> {
        let leaf = &self.leaves[selector.index];
        let (until, _) = shifted(selector.shift.at, leaf.offset, (time, time), self.bounds);
        let after = until - leaf.window;
        let element = |series: &Series| {
            let end = series.points.partition_point(|point| point.time <= until);
            let before = series.points[..end].last().filter(|point| point.time > after);
            let point = match selector.edges {
                Edges::Smoothed => {
                    windows::smoothed_at(before, series.points.get(end), until, leaf.window)?
                }
                _ => *before?,
            };
            if is_stale(point.value) {
                return None;
            }
            let labels = series.labels.clone();
            Some(Element { labels, drop_name: false, value: point.value, time: point.time })
        };
        leaf.series.iter().filter_map(element).collect()
    }

    fn windows(&self, selector: &VectorSelector, time: Time) -> Matrix<'_> {
        let leaf = &self.leaves[selector.index];
        let (until, _) = shifted(selector.shift.at, leaf.offset, (time, time), self.bounds);
        let after = until - leaf.window;
        let lookback = self.limits.lookback;
        let (from, to) = match selector.edges {
            Edges::Plain => (after, until),
            Edges::Anchored => (after - lookback, until),
            Edges::Smoothed => (after - lookback, until + lookback),
        };
        let window = |series: &'_ Series| {
            let start = series.points.partition_point(|point| point.time <= from);
            let end = series.points.partition_point(|point| point.time <= to);
            start..end
        };
        let windows = leaf
            .series
            .iter()
            .filter_map(|series| {
                let points = series.points.get(window(series)).unwrap_or(&[]);
                (!points.is_empty()).then(|| Window {
                    labels: series.labels.clone(),
                    drop_name: false,
                    points: points.into(),
                })
            })
            .collect();
        Matrix { windows, after, until, edges: selector.edges }
    }

    fn subquery(&self, id: usize, subquery: &Subquery, time: Time) -> Evaluated<Matrix<'_>> {
        let Some(inner) = self.inners.get(&id).copied() else {
            return failed("a subquery without a plan");
        };
        let (until, _) = shifted(subquery.shift.at, inner.offset, (time, time), self.bounds);
        let after = until - inner.window;
        // Taken out, because the inner query may hold subqueries of its own.
        let mut steps = self.memo.borrow_mut().remove(&id).unwrap_or_default();
        // The first multiple of the step after the open end, unless it is known already.
        let multiple = after.0.div_euclid(inner.step.0).saturating_add(1);
        let first = Time(multiple.saturating_mul(inner.step.0));
        let mut step = steps.done.map_or(first, |done| first.max(done + inner.step));
        while step <= until && step > after && steps.done != Some(step) {
            let vector = self.vector(&subquery.inner, step)?;
            self.hold(1 + vector.len())?;
            for Element { labels, drop_name, value, .. } in vector {
                let points = steps.series.entry((labels, drop_name)).or_default();
                points.push(Point { time: step, value });
            }
            steps.done = Some(step);
            step += inner.step;
        }
        let window = |((labels, drop_name), points): (&(Labels, bool), &Vec<Point>)| {
            let start = points.partition_point(|point| point.time <= after);
            let end = points.partition_point(|point| point.time <= until);
            let points = points.get(start..end).filter(|points| !points.is_empty())?;
            let points = points.to_vec().into();
            Some(Window { labels: labels.clone(), drop_name: *drop_name, points })
        };
        let windows = steps.series.iter().filter_map(window).collect();
        self.memo.borrow_mut().insert(id, steps);
        Ok(Matrix { windows, after, until, edges: Edges::Plain })
    }
}
