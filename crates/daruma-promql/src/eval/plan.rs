//! Before a query is evaluated: every selector is read for all the times at which it will be asked, and
//! what will be asked at many times is told from what is asked once.

use daruma_model::{Span, Time};

use super::leaves::Leaf;
use super::rows::Grid;
use super::subqueries::Inner;
use super::{EvalError, Evaluated, Evaluator, SUBQUERY_STEP, failed, shifted};
use crate::ast::{Duration, Kind, Node, ValueType};

/// Whether a function looks at the time at which it is asked, beside its arguments.
fn moves(node: &Node) -> bool {
    let Kind::Call(call) = &node.kind else { return false };
    match call.function.name {
        "time" | "timestamp" | "predict_linear" => true,
        // Dates, of now if of nothing else.
        _ => call.args.is_empty() && call.function.returns == ValueType::Vector,
    }
}

impl Evaluator<'_> {
    /// Reads every selector below for all the times at which it will be asked: `first` to `last`.
    /// Says whether the node yields the same at all of them, because `@` holds every selector in it.
    /// `grid` tells these times one by one, if they lie on one. `counted` says that of native histograms only count and sum matter.
    pub(super) fn plan(
        &mut self,
        node: &Node,
        (first, last): (Time, Time),
        grid: Option<Grid>,
        counted: bool,
    ) -> Evaluated<bool> {
        if let (Kind::Aggregate(_) | Kind::Call(_), Some(grid)) = (&node.kind, grid) {
            self.grids.insert(node.id, grid);
        }
        Ok(match &node.kind {
            Kind::Number(_) | Kind::Text(_) => true,
            Kind::Selector(selector) => {
                let offset = self.offset(selector.shift.offset.as_ref())?;
                let window = match &selector.window {
                    Some(window) => self.length(window)?,
                    None => self.limits.lookback,
                };
                let times = shifted(selector.shift.at, offset, (first, last), self.bounds);
                // Selectors are planned in order of writing, which is the order of their indices.
                debug_assert_eq!(self.leaves.len(), selector.index);
                let leaf = self.read(selector, times, window, offset, counted)?;
                self.leaves.push(leaf);
                selector.shift.at.is_some()
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
                // Between windows that do not touch, nothing is asked.
                let touching =
                    first == last || grid.is_some_and(|grid| grid.step() <= inner.window);
                let start = inner.first_after(first - inner.window);
                let grid = Grid::new(start, last, inner.step).filter(|_| touching);
                if self.plan(&subquery.inner, (first - inner.window, last), grid, false)? {
                    self.keep_still(&subquery.inner);
                }
                subquery.shift.at.is_some()
            }
            Kind::Call(call) if call.function.name == "info" => {
                let base = &call.args[0];
                let still = self.plan(base, (first, last), grid, counted)?;
                if call.args.len() > 1 {
                    // Matchers without a metric name would read the whole store: `info` has its own.
                    self.leaves.push(Leaf::empty(self.limits.lookback));
                }
                let times = (self.reference(base, first), self.reference(base, last));
                let infos = self.read_infos(call, times)?;
                self.infos.insert(node.id, infos);
                still
            }
            _ => {
                let counted = match &node.kind {
                    Kind::Binary(_) => false,
                    Kind::Call(call) => match call.function.name {
                        "histogram_count" | "histogram_sum" | "histogram_avg" => true,
                        "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                            false
                        }
                        _ => counted,
                    },
                    _ => counted,
                };
                let (mut still, mut stills) = (!moves(node), Vec::new());
                for child in node.children() {
                    if !self.plan(child, (first, last), grid, counted)? {
                        still = false;
                    } else if !matches!(child.kind, Kind::Number(_) | Kind::Text(_)) {
                        stills.push(child);
                    }
                }
                if !still {
                    stills.into_iter().for_each(|child| self.keep_still(child));
                }
                still
            }
        })
    }

    /// Notes that what `node` yields is to be found out once.
    pub(super) fn keep_still(&mut self, node: &Node) {
        let windows = matches!(node.returns(), ValueType::Matrix | ValueType::String);
        if !windows && !node.selectors().is_empty() && self.repeats() {
            self.still.insert(node.id, std::cell::OnceCell::new());
        }
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
}
