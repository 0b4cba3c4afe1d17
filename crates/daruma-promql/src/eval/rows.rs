//! Range queries series by series: what a part of a query yields at every step of its grid, one row a
//! series, instead of one vector a step. What neighbouring steps share is still at hand then, and no
//! label set is touched per step.
//!
//! It stands apart because it is only a shorter way: what it yields is what [`Evaluator::node`] yields
//! at each step. Whatever it cannot do — native histograms, matching between vectors, functions of more
//! than windows and numbers — goes the long way, and meets prepared rows where its parts can be had so.

use std::rc::Rc;

use daruma_model::{Labels, Point, STALE_BITS, Series, Span, Time, is_stale};

use super::binary::Scalar;
use super::calls::plain;
use super::gather::{self, Gathered};
use super::intern::Interner;
use super::windows::KEEPS_NAME;
use super::{Element, EvalError, Evaluated, Evaluator, FINAL, SAME_LABELSET, failed};
use crate::ast::{Aggregate, Call, Edges, Kind, Node, ValueType, VectorSelector};

/// Stands in a row where there is no value. No result is ever the staleness marker.
pub(super) const NOTHING: f64 = f64::from_bits(STALE_BITS);

/// The most values that all prepared rows of a query hold at once (32 MB).
const CELLS_MAX: usize = 4_000_000;

/// Times at equal distances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    first: Time,
    step: Span,
    count: usize,
}

impl Grid {
    /// From `first` up to `last`; `None` where a row would be absurd, or times near the end of time.
    pub(super) fn new(first: Time, last: Time, step: Span) -> Option<Grid> {
        const FAR: i64 = i64::MAX / 4;
        let sane = |time: Time| (-FAR..FAR).contains(&time.0);
        if !sane(first) || !sane(last) || last < first || !(1..FAR).contains(&step.0) {
            return None;
        }
        let count = usize::try_from((last.0 - first.0) / step.0).ok()? + 1;
        (count <= CELLS_MAX).then_some(Grid { first, step, count })
    }

    pub(super) fn times(&self) -> impl Iterator<Item = Time> + use<> {
        let Grid { first, step, count } = *self;
        (0..count).map(move |at| Time(first.0 + step.0 * at as i64))
    }

    pub(super) fn step(&self) -> Span {
        self.step
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn place(&self, time: Time) -> Option<usize> {
        let since = time.0.checked_sub(self.first.0)?;
        if since < 0 || since % self.step.0 != 0 {
            return None;
        }
        usize::try_from(since / self.step.0).ok().filter(|place| *place < self.count)
    }
}

/// How a part of a query is had in rows.
pub(super) struct Rows<'n> {
    source: Source<'n>,
    /// What is done to each value, in this order.
    changes: Vec<Change<'n>>,
    /// Whether the metric's name goes.
    drop_name: bool,
}

enum Source<'n> {
    Newest(&'n VectorSelector),
    Windows {
        call: &'n Call,
        selector: &'n VectorSelector,
        params: [f64; 2],
    },
    Groups(&'n Aggregate),
    /// So many of each group.
    Chosen(&'n Aggregate, usize),
}

enum Change<'n> {
    Function(fn(f64) -> f64),
    Operator(Scalar<'n>),
}

/// Rows, or what was gathered from them, at hand for whoever asks step by step.
pub(super) enum Prepared {
    Groups(Gathered),
    /// The values of all series at one step stand together.
    Series {
        labels: Vec<Labels>,
        values: Vec<f64>,
        drop_name: bool,
    },
}

/// The groups of some series.
struct Grouping {
    labels: Vec<Labels>,
    /// By series.
    places: Vec<usize>,
}

/// The value of a number, however wrapped.
fn literal(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Number(number) => Some(*number),
        Kind::Paren(inner) => literal(inner),
        Kind::Unary { minus, inner } => literal(inner).map(|n| if *minus { -n } else { n }),
        _ => None,
    }
}

impl<'q> Evaluator<'q> {
    /// How `node` is had in rows, if it can be.
    pub(super) fn rows_of<'n>(&self, node: &'n Node) -> Option<Rows<'n>> {
        let changed = |inner: &'n Node, change: Change<'n>, drops: bool| {
            let mut rows = self.rows_of(inner)?;
            rows.changes.push(change);
            rows.drop_name |= drops;
            Some(rows)
        };
        let source = match &node.kind {
            Kind::Paren(inner) => return self.rows_of(inner),
            Kind::Unary { minus: false, inner } => return self.rows_of(inner),
            Kind::Unary { minus: true, inner } => {
                return changed(inner, Change::Function(|value| -value), true);
            }
            Kind::Binary(binary) => {
                let (inner, scalar, first) = match (literal(&binary.left), literal(&binary.right)) {
                    (None, Some(scalar)) => (&binary.left, scalar, false),
                    (Some(scalar), None) => (&binary.right, scalar, true),
                    _ => return None,
                };
                let operator = Scalar::new(binary, scalar, first)?;
                let drops = operator.drops_name();
                return changed(inner, Change::Operator(operator), drops);
            }
            Kind::Call(call) if call.function.args == [ValueType::Vector] => {
                let function = Change::Function(plain(call.function.name)?);
                return changed(call.args.first()?, function, true);
            }
            Kind::Call(call) => self.windows_of(call)?,
            Kind::Selector(selector) if selector.window.is_none() => {
                let plain = selector.edges == Edges::Plain && self.is_numeric(selector);
                plain.then_some(Source::Newest(selector))?
            }
            Kind::Aggregate(aggregate) => {
                let of_series = |rows: &Rows<'_>| {
                    !matches!(rows.source, Source::Groups(_) | Source::Chosen(..))
                };
                self.rows_of(&aggregate.input).filter(of_series)?;
                match &aggregate.param {
                    None if gather::can(aggregate.op) => Source::Groups(aggregate),
                    Some(k) if gather::chooses(aggregate.op) => {
                        let k = literal(k).filter(|k| (1.0..1e6).contains(k))?;
                        Source::Chosen(aggregate, k as usize)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        let drop_name = match &source {
            Source::Windows { call, .. } => !KEEPS_NAME.contains(&call.function.name),
            Source::Newest(_) => false,
            Source::Groups(aggregate) | Source::Chosen(aggregate, _) => {
                self.rows_of(&aggregate.input).is_some_and(|rows| rows.drop_name)
            }
        };
        Some(Rows { source, changes: Vec::new(), drop_name })
    }

    /// A function over the windows of a selector, its other parameters numbers.
    fn windows_of<'n>(&self, call: &'n Call) -> Option<Source<'n>> {
        // These remark or fail by their parameters, or look at all series together.
        const LONG_WAY: [&str; 3] =
            ["absent_over_time", "quantile_over_time", "double_exponential_smoothing"];
        let place = call.function.args.iter().position(|arg| *arg == ValueType::Matrix)?;
        if LONG_WAY.contains(&call.function.name) {
            return None;
        }
        let Kind::Selector(selector) = &call.args[place].bare().kind else { return None };
        let mut params = [f64::NAN; 2];
        let others = call.args.iter().enumerate().filter(|(at, _)| *at != place);
        for (param, (_, arg)) in params.iter_mut().zip(others) {
            *param = literal(arg)?;
        }
        self.is_numeric(selector).then_some(Source::Windows { call, selector, params })
    }

    /// Whether there are no native histograms among what a selector reads.
    fn is_numeric(&self, selector: &VectorSelector) -> bool {
        self.leaves[selector.index].series.iter().all(|one| one.histograms.is_empty())
    }

    /// Gives each row of `rows` with its labels (before any name goes) to `each`, in order of the
    /// series; `false`, and nothing given, if it would take too much room.
    fn each_row(
        &self,
        rows: &Rows<'_>,
        grid: &Grid,
        mut each: impl FnMut(usize, &Labels, &[f64]) -> Evaluated<()>,
    ) -> Evaluated<bool> {
        let mut row = vec![NOTHING; grid.count];
        let mut give = |at: usize, labels: &Labels, row: &mut [f64]| {
            if self.querier.stopped() {
                return Err(EvalError::Stopped);
            }
            for change in &rows.changes {
                change.apply(row);
            }
            each(at, labels, row)
        };
        match &rows.source {
            Source::Newest(selector) => {
                let leaf = &self.leaves[selector.index];
                let bounds: Vec<(Time, Time)> =
                    grid.times().map(|time| self.bounds_at(selector, time)).collect();
                for (at, one) in leaf.series.iter().enumerate() {
                    newest(&one.points, &bounds, &mut row);
                    give(at, &one.labels, &mut row)?;
                }
            }
            Source::Windows { call, selector, params } => {
                let pass = self.pass(call, selector, *params, grid)?;
                for (at, one) in self.leaves[selector.index].series.iter().enumerate() {
                    pass.row(at, &mut row);
                    give(at, &one.labels, &mut row)?;
                }
            }
            Source::Groups(aggregate) => {
                let Some(gathered) = self.gathered(aggregate, grid)? else {
                    return Ok(false);
                };
                for (at, labels) in gathered.labels.iter().enumerate() {
                    row.copy_from_slice(gathered.row(at));
                    give(at, labels, &mut row)?;
                }
            }
            Source::Chosen(aggregate, count) => {
                let Some(choice) = self.chosen_of(aggregate, *count, grid)? else {
                    return Ok(false);
                };
                let (_, series, _) = self.grouping(aggregate)?;
                choice.each_row(&mut row, |at, row| give(at, &series[at].labels, row))?;
            }
        }
        Ok(true)
    }

    /// What is aggregated, as rows, the series it is had from, and their groups.
    fn grouping<'n>(&self, aggregate: &'n Aggregate) -> Evaluated<(Rows<'n>, &[Series], Grouping)> {
        let Some(rows) = self.rows_of(&aggregate.input) else {
            return failed("an aggregation without rows");
        };
        let (Source::Newest(selector) | Source::Windows { selector, .. }) = &rows.source else {
            return failed("an aggregation of an aggregation in rows");
        };
        let series = &self.leaves[selector.index].series;
        let selection = aggregate.selection();
        let mut interner = Interner::new(false);
        interner.expect(series.len());
        let mut grouping =
            Grouping { labels: Vec::new(), places: Vec::with_capacity(series.len()) };
        for one in series {
            let place = interner.place(&one.labels, 0, &[selection]);
            if place == grouping.labels.len() {
                grouping.labels.push(selection.of(&one.labels));
            }
            grouping.places.push(place);
        }
        Ok((rows, series, grouping))
    }

    /// What an aggregation chooses at every step; `None` if it would take too much room.
    fn chosen_of(
        &self,
        aggregate: &Aggregate,
        count: usize,
        grid: &Grid,
    ) -> Evaluated<Option<gather::Choice>> {
        let (rows, _, Grouping { labels, places }) = self.grouping(aggregate)?;
        if !self.takes(labels.len().saturating_mul(count), grid) {
            return Ok(None);
        }
        let mut choice = gather::Choice::new(aggregate.op, count, labels.len(), grid.count);
        let whole = self.each_row(&rows, grid, |at, _, row| {
            choice.add(places[at], at, row);
            Ok(())
        })?;
        Ok(whole.then_some(choice))
    }

    /// The aggregation's groups at every step; `None` if they would take too much room.
    fn gathered(&self, aggregate: &Aggregate, grid: &Grid) -> Evaluated<Option<Gathered>> {
        let (rows, _, Grouping { labels, places }) = self.grouping(aggregate)?;
        if !self.takes(labels.len(), grid) {
            return Ok(None);
        }
        let mut gathering = gather::Gathering::new(aggregate.op, labels.len(), grid.count);
        let whole = self.each_row(&rows, grid, |at, _, row| {
            gathering.add(places[at], at, row);
            Ok(())
        })?;
        Ok(whole.then(|| gathering.finish(labels, rows.drop_name)))
    }

    /// Whether there is room for so many rows, which is then taken.
    fn takes(&self, rows: usize, grid: &Grid) -> bool {
        let cells = self.cells.get().saturating_add(rows.saturating_mul(grid.count));
        if cells > CELLS_MAX {
            return false;
        }
        self.cells.set(cells);
        true
    }

    /// The whole range query, if it can be had in rows.
    pub(super) fn matrix_of_rows(
        &self,
        node: &Node,
        grid: &Grid,
    ) -> Evaluated<Option<Vec<Series>>> {
        let Some(rows) = self.rows_of(node) else { return Ok(None) };
        let times: Vec<Time> = grid.times().collect();
        let mut interner = Interner::new(false);
        let mut found: Vec<Series> = Vec::new();
        let with = usize::from(rows.drop_name);
        let mut again = false;
        let whole = self.each_row(&rows, grid, |_, labels, row| {
            let present = row.iter().filter(|value| !is_stale(**value)).count();
            if present == 0 {
                return Ok(());
            }
            self.hold(present)?;
            let place = interner.place(labels, with, &FINAL);
            if place == found.len() {
                let labels = FINAL[with].of(labels);
                let points = Vec::with_capacity(present);
                found.push(Series { labels, points, ..Series::default() });
            } else {
                again = true;
            }
            let points = times.iter().zip(row).filter(|(_, value)| !is_stale(**value));
            let points = points.map(|(time, value)| Point { time: *time, value: *value });
            found[place].points.extend(points);
            Ok(())
        })?;
        if !whole {
            return Ok(None);
        }
        self.hold(grid.count)?;
        // Series that became one may take turns, but not meet.
        for one in found.iter_mut().filter(|_| again) {
            one.points.sort_by_key(|point| point.time);
            if one.points.windows(2).any(|pair| pair[0].time == pair[1].time) {
                return failed(SAME_LABELSET);
            }
        }
        Ok(Some(found))
    }

    /// What `node` yields at `time`, if its rows are prepared or can be.
    pub(super) fn prepared(&self, node: &Node, time: Time) -> Evaluated<Option<Vec<Element>>> {
        let Some(grid) = self.grids.get(&node.id) else { return Ok(None) };
        let Some(step) = grid.place(time) else { return Ok(None) };
        let known = self.ahead.borrow().get(&node.id).cloned();
        let prepared = match known {
            Some(known) => known,
            None => {
                let made = self.prepare(node, grid)?.map(Rc::new);
                self.ahead.borrow_mut().insert(node.id, made.clone());
                made
            }
        };
        Ok(prepared.map(|prepared| match &*prepared {
            Prepared::Groups(gathered) => gathered.at(step, time),
            Prepared::Series { labels, values, drop_name } => {
                let row = values.get(step * labels.len()..(step + 1) * labels.len());
                let present = labels.iter().zip(row.unwrap_or(&[]));
                let present = present.filter(|(_, value)| !is_stale(**value));
                let element = |(labels, value): (&Labels, &f64)| Element {
                    labels: labels.clone(),
                    drop_name: *drop_name,
                    value: (*value).into(),
                    time,
                };
                present.map(element).collect()
            }
        }))
    }

    fn prepare(&self, node: &Node, grid: &Grid) -> Evaluated<Option<Prepared>> {
        let Some(rows) = self.rows_of(node) else { return Ok(None) };
        match &rows.source {
            Source::Groups(aggregate) => Ok(self.gathered(aggregate, grid)?.map(Prepared::Groups)),
            // Step by step they have an order of their own.
            Source::Chosen(..) => Ok(None),
            Source::Newest(selector) | Source::Windows { selector, .. } => {
                let series = &self.leaves[selector.index].series;
                if !self.takes(series.len(), grid) {
                    return Ok(None);
                }
                let mut values = vec![NOTHING; series.len() * grid.count];
                self.each_row(&rows, grid, |at, _, row| {
                    let places = values.iter_mut().skip(at).step_by(series.len());
                    places.zip(row).for_each(|(place, value)| *place = *value);
                    Ok(())
                })?;
                let labels = series.iter().map(|one| one.labels.clone()).collect();
                Ok(Some(Prepared::Series { labels, values, drop_name: rows.drop_name }))
            }
        }
    }
}

impl Change<'_> {
    fn apply(&self, row: &mut [f64]) {
        for value in row.iter_mut().filter(|value| !is_stale(**value)) {
            *value = match self {
                // A sign that changes could make the marker of another NaN.
                Change::Function(function) => {
                    Some(function(*value)).filter(|value| !is_stale(*value)).unwrap_or(f64::NAN)
                }
                Change::Operator(operator) => operator.apply(*value).unwrap_or(NOTHING),
            };
        }
    }
}

/// The newest value in each of the bounds, which only move forward.
fn newest(points: &[Point], bounds: &[(Time, Time)], row: &mut [f64]) {
    let mut end = 0;
    for ((after, until), value) in bounds.iter().zip(row) {
        while points.get(end).is_some_and(|point| point.time <= *until) {
            end += 1;
        }
        // A marker stands for nothing just as well.
        let newest = end.checked_sub(1).and_then(|at| points.get(at));
        *value = newest.filter(|point| point.time > *after).map_or(NOTHING, |point| point.value);
    }
}
