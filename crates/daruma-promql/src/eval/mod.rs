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
mod edges;
mod enrich;
mod gather;
mod intern;
mod leaves;
mod notes;
mod passes;
mod plan;
mod rates;
mod rows;
mod subqueries;
pub(crate) mod sums;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use daruma_model::{Histogram, HistogramPoint, Labels, Point, Querier, Series, Span, Time};

use crate::Expr;
use crate::ast::{At, Edges, Kind, Node, ValueType};
use crate::histogram::negated;
use crate::value::{Annotation, AnnotationLevel, Answer, SampleValue, Value, VectorSample};
use buckets::Repair;
use intern::{Interner, Selection};
use leaves::Leaf;
use rows::{Grid, Prepared};
use subqueries::{Inner, Steps};

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
            let mut samples = Vec::with_capacity(vector.len());
            for element in vector {
                let labels = FINAL[usize::from(element.drop_name)].of(&element.labels);
                samples.push(VectorSample { labels, value: element.value, time: at });
            }
            if !distinct(&samples) {
                return failed(SAME_LABELSET);
            }
            Value::Vector(samples)
        }
        Got::Matrix(matrix) => {
            let mut all = Vec::with_capacity(matrix.windows.len());
            for window in matrix.windows {
                all.push(Series {
                    labels: FINAL[usize::from(window.drop_name)].of(&window.labels),
                    points: window.points.into_owned(),
                    starts: window.starts.to_vec(),
                    histograms: window.histograms.into_owned(),
                });
            }
            sorted(all)?
        }
    };
    Ok(Answer { value, annotations: eval.annotations() })
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
    if let Some(grid) = Grid::new(start, end, step)
        && let Some(series) = eval.matrix_of_rows(expr.ast(), &grid)?
    {
        return Ok(Answer { value: sorted(series)?, annotations: eval.annotations() });
    }
    let mut interner = Interner::new(true);
    let mut series: Vec<Series> = Vec::new();
    let mut time = start;
    loop {
        eval.hold(1)?;
        let vector = match eval.node(expr.ast(), time)? {
            Got::Vector(vector) => vector,
            Got::Scalar(value) => vec![Element::bare(value, time)],
            Got::Matrix(_) | Got::Text(_) => Vec::new(),
        };
        eval.hold(vector.len())?;
        interner.expect(vector.len());
        for element in vector {
            let drop_name = usize::from(element.drop_name);
            let place = interner.place(&element.labels, drop_name, &FINAL);
            if place == series.len() {
                let labels = FINAL[drop_name].of(&element.labels);
                series.push(Series { labels, ..Series::default() });
            }
            let one = &mut series[place];
            if one.points.last().is_some_and(|point| point.time == time)
                || one.histograms.last().is_some_and(|point| point.time == time)
            {
                return failed(SAME_LABELSET);
            }
            match element.value {
                SampleValue::Float(value) => one.points.push(Point { time, value }),
                SampleValue::Histogram(histogram) => {
                    eval.hold(histogram.buckets())?;
                    one.histograms.push(HistogramPoint { time, start: None, histogram });
                }
            }
        }
        let next = time + step;
        if next > end || next == time {
            break;
        }
        time = next;
    }
    Ok(Answer { value: sorted(series)?, annotations: eval.annotations() })
}

/// Whether no two samples have the same labels. Most results are in order, which shows it at once.
fn distinct(samples: &[VectorSample]) -> bool {
    if samples.windows(2).all(|pair| pair[0].labels < pair[1].labels) {
        return true;
    }
    let mut interner = Interner::new(false);
    interner.expect(samples.len());
    samples.iter().enumerate().all(|(at, one)| interner.place(&one.labels, 0, &FINAL) == at)
}

/// The matrix, sorted by label sets.
fn sorted(mut series: Vec<Series>) -> Evaluated<Value> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    if series.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return failed(SAME_LABELSET);
    }
    Ok(Value::Matrix(series))
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

/// The labels of a result: with the metric's name, or without.
pub(crate) const FINAL: [Selection<'static>; 2] = [Selection::All, Selection::Nameless];

/// One element of a vector under way.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) labels: Labels,
    /// Whether the metric's name goes when the result is complete: until then `by (__name__)`,
    /// `label_replace` and matching can still read it.
    pub(crate) drop_name: bool,
    pub(crate) value: SampleValue,
    /// The time of the sample it was read from, or of the evaluation that computed it.
    pub(crate) time: Time,
}

impl Element {
    pub(crate) fn bare(value: f64, time: Time) -> Element {
        Element { labels: Labels::default(), drop_name: false, value: value.into(), time }
    }
}

/// One series of a range vector under way.
#[derive(Debug, Clone)]
pub(crate) struct Window<'e> {
    pub(crate) labels: std::borrow::Cow<'e, Labels>,
    pub(crate) drop_name: bool,
    /// In order of time, without staleness markers; there is at least one here or in `histograms`.
    pub(crate) points: std::borrow::Cow<'e, [Point]>,
    /// Since when each of `points` counts; empty where that is not known.
    pub(crate) starts: &'e [Option<Time>],
    pub(crate) histograms: std::borrow::Cow<'e, [HistogramPoint]>,
    /// Whether neither name nor type say that it is a counter.
    pub(crate) doubtful: bool,
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

/// What a node yields at every step.
enum Still {
    Scalar(f64),
    Vector(Vec<Element>),
}

/// What one node found out about label sets, for its next step.
pub(crate) struct Memo {
    pub(crate) interner: Interner,
    /// Result labels by place.
    pub(crate) labels: Vec<Labels>,
    /// Result labels by the addresses of the label sets they were made from, which are kept with them.
    pub(crate) joined: intern::ByAddress<(usize, usize), (Labels, Labels, Labels)>,
}

pub(crate) struct Evaluator<'q> {
    pub(crate) querier: &'q dyn Querier,
    /// The first and the last time of the outermost query.
    pub(crate) bounds: (Time, Time),
    pub(crate) step: Span,
    pub(crate) limits: Limits,
    /// By the selector's index.
    pub(crate) leaves: Vec<Leaf>,
    /// By the node's id.
    inners: HashMap<usize, Inner>,
    /// By the subquery's id.
    steps: RefCell<HashMap<usize, Steps>>,
    /// By the node's id.
    memos: RefCell<HashMap<usize, Memo>>,
    /// At which times aggregations and functions of windows are asked, by the node's id.
    grids: HashMap<usize, Grid>,
    /// What was computed for all these times at once; without a value where that cannot be.
    ahead: RefCell<HashMap<usize, Option<std::rc::Rc<Prepared>>>>,
    /// What does not change from step to step, by the node's id, once it is known.
    still: HashMap<usize, std::cell::OnceCell<Still>>,
    /// The info metrics that a call of `info` reads, by its id.
    infos: HashMap<usize, enrich::Infos>,
    /// How many values are held so.
    cells: Cell<usize>,
    notes: RefCell<Vec<Annotation>>,
    /// Places in `notes` by level and text.
    noted: RefCell<HashMap<(AnnotationLevel, String), usize>>,
    /// What the remark at a place of `notes` is about, where the same was met often.
    repairs: RefCell<HashMap<usize, Repair>>,
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
            steps: RefCell::default(),
            memos: RefCell::default(),
            grids: HashMap::new(),
            ahead: RefCell::default(),
            still: HashMap::new(),
            infos: HashMap::new(),
            cells: Cell::new(0),
            notes: RefCell::default(),
            noted: RefCell::default(),
            repairs: RefCell::default(),
            held: Cell::new(0),
        };
        let grid = Grid::new(bounds.0, bounds.1, step).filter(|grid| grid.count() > 1);
        if eval.plan(expr.ast(), bounds, grid, false)? {
            eval.keep_still(expr.ast());
        }
        Ok(eval)
    }

    /// Counts samples against the limit.
    pub(crate) fn hold(&self, samples: usize) -> Evaluated<()> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        let max = self.limits.samples_max;
        if held > max { Err(EvalError::TooManySamples { max }) } else { Ok(()) }
    }

    /// Counts a histogram, with its buckets, against the limit.
    pub(crate) fn hold_histogram(&self, histogram: &Histogram) -> Evaluated<()> {
        self.hold(1 + histogram.buckets())
    }

    /// What the node of that id remembers; to be given back with [`Self::remember`].
    pub(crate) fn recall(&self, id: usize) -> Memo {
        let known = self.memos.borrow_mut().remove(&id);
        known.unwrap_or_else(|| Memo {
            interner: Interner::new(self.repeats()),
            labels: Vec::new(),
            joined: intern::ByAddress::default(),
        })
    }

    pub(crate) fn remember(&self, id: usize, memo: Memo) {
        if self.repeats() {
            self.memos.borrow_mut().insert(id, memo);
        }
    }

    /// Whether nodes are asked more than once.
    pub(crate) fn repeats(&self) -> bool {
        self.bounds.0 != self.bounds.1 || !self.inners.is_empty()
    }

    /// Evaluates `node` at `time`.
    pub(crate) fn node<'e>(&'e self, node: &Node, time: Time) -> Evaluated<Got<'e>> {
        let known = if self.still.is_empty() { None } else { self.still.get(&node.id) };
        let Some(known) = known else { return self.anew(node, time) };
        let still = match known.get() {
            Some(still) => still,
            None => {
                let still = match self.anew(node, time)? {
                    Got::Scalar(value) => Still::Scalar(value),
                    Got::Vector(vector) => Still::Vector(vector),
                    other => return Ok(other),
                };
                known.get_or_init(|| still)
            }
        };
        Ok(match still {
            Still::Scalar(value) => Got::Scalar(*value),
            Still::Vector(vector) => {
                let mut vector = vector.clone();
                vector.iter_mut().for_each(|element| element.time = time);
                Got::Vector(vector)
            }
        })
    }

    fn anew<'e>(&'e self, node: &Node, time: Time) -> Evaluated<Got<'e>> {
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
                        element.value = match &element.value {
                            SampleValue::Float(value) => SampleValue::Float(-value),
                            SampleValue::Histogram(histogram) => negated(histogram).into(),
                        };
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
}
