//! Whether the leaves of a query find evidence. A condition that yields nothing is false only if
//! its inputs are there; detection asks here before it says so. Nothing is computed from values.

use daruma_model::{Labels, Matcher, Querier, Series, Span, Time, is_stale};

use crate::Expr;
use crate::ast::{Kind, Node};
use crate::eval::{Limits, shifted};

/// Labels that a rule's result has of its own, so that they say nothing about the inputs.
const OWN: [&str; 2] = [Labels::NAME, "alertname"];

/// For each selector of `expr`, in the order of [`Expr::selectors`]: whether, in a query at `at`, it
/// reads at least one sample (no staleness marker) newer than `after`, among the series that agree
/// with `labels` on every label name both have (`__name__` and `alertname` left out).
///
/// `offset` and `@` move both bounds: a selector that looks an hour back is fresh when it had a sample
/// in that hour's view.
#[must_use]
pub fn fresh_inputs(
    querier: &dyn Querier,
    expr: &Expr,
    at: Time,
    after: Time,
    labels: &Labels,
) -> Vec<bool> {
    let lookback = Limits::default().lookback;
    windows(expr, at, lookback)
        .into_iter()
        .map(|leaf| {
            // What is seen through an offset is as old as the offset, and still new to this query.
            let moved = at - leaf.until;
            let after = (after - moved).max(leaf.after);
            select(querier, &leaf.matchers, after, leaf.until, labels)
                .iter()
                .any(|series| series.points.iter().any(|point| !is_stale(point.value)))
        })
        .collect()
}

/// For each selector of `expr`, in the order of [`Expr::selectors`]: whether it finds anything in a
/// query at `at`, among the series that agree with `labels` as in [`fresh_inputs`]. An instant
/// selector whose newest sample is a staleness marker finds nothing.
#[must_use]
pub fn inputs_present(
    querier: &dyn Querier,
    expr: &Expr,
    at: Time,
    labels: &Labels,
    limits: &Limits,
) -> Vec<bool> {
    windows(expr, at, limits.lookback)
        .into_iter()
        .map(|leaf| {
            let found = select(querier, &leaf.matchers, leaf.after, leaf.until, labels);
            found.iter().any(|series| {
                if leaf.instant {
                    series.points.last().is_some_and(|point| !is_stale(point.value))
                } else {
                    series.points.iter().any(|point| !is_stale(point.value))
                }
            })
        })
        .collect()
}

fn select(
    querier: &dyn Querier,
    matchers: &[Matcher],
    after: Time,
    until: Time,
    labels: &Labels,
) -> Vec<Series> {
    let mut found = querier.select(matchers, after, until);
    found.retain(|series| {
        labels.iter().all(|(name, value)| {
            OWN.contains(&name) || !series.labels.has(name) || series.labels.get(name) == value
        })
    });
    found
}

struct Leaf {
    matchers: Vec<Matcher>,
    after: Time,
    until: Time,
    /// Whether only the newest sample counts.
    instant: bool,
}

fn windows(expr: &Expr, at: Time, lookback: Span) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    collect(expr.ast(), (at, at), at, lookback, &mut leaves);
    leaves
}

/// `(first, last)` are the times at which `node` is evaluated.
fn collect(
    node: &Node,
    (first, last): (Time, Time),
    at: Time,
    lookback: Span,
    leaves: &mut Vec<Leaf>,
) {
    let fixed =
        |duration: &crate::Duration| duration.resolve(Span::ZERO, Span::ZERO).unwrap_or(Span::ZERO);
    match &node.kind {
        Kind::Selector(selector) => {
            let offset = selector.shift.offset.as_ref().map_or(Span::ZERO, fixed);
            let (first, last) = shifted(selector.shift.at, offset, (first, last), (at, at));
            let window = selector.window.as_ref().map_or(lookback, fixed);
            leaves.push(Leaf {
                matchers: selector.matchers.clone(),
                after: first - window,
                until: last,
                instant: selector.window.is_none() && first == last,
            });
        }
        Kind::Subquery(subquery) => {
            let offset = subquery.shift.offset.as_ref().map_or(Span::ZERO, fixed);
            let (first, last) = shifted(subquery.shift.at, offset, (first, last), (at, at));
            let first = first - fixed(&subquery.window);
            collect(&subquery.inner, (first, last), at, lookback, leaves);
        }
        _ => {
            for child in node.children() {
                collect(child, (first, last), at, lookback, leaves);
            }
        }
    }
}
