//! An expression as a fresh witness: what it says on samples after a given time only.
//!
//! Used before an action to confirm (with an `after` some way back) and after one to verify (with
//! the end of the action). The alert's own look-back is no proof of anything: samples at or before
//! `after` are hidden, so what is answered is answered by what came later.

use daruma_model::{Evidence, Labels, Querier, Time, Verdict};
use daruma_promql::{Expr, Limits, instant};

use crate::alerts::{holds_text, plot, samples};
use crate::inputs::{After, Leaf, leaves, selector_text};

/// What `expr` says at `now`, on samples after `after` only.
///
/// - `Unknown` while a selector that feeds it lacks samples: every selector needs at least one
///   series with a sample after `after` (two, for one that reads a window), and no fewer series than
///   spoke just before `after`. A side of `or` and the right of `unless` may lack them if nothing
///   spoke there before either. An argument of `absent` may, once `after` lies a whole window back.
/// - `Holds` if it returns a series, or a scalar other than zero.
/// - `Clear` if it returns nothing, on complete inputs.
///
/// With several series returned, the evidence is about the first.
#[must_use]
pub fn witness(expr: &Expr, querier: &dyn Querier, now: Time, after: Time) -> (Verdict, Evidence) {
    let limits = Limits::default();
    let unknown = |why: String| (Verdict::Unknown, Evidence::said(why));
    let all = leaves(expr, now, limits.lookback);
    if let Some(why) = all.iter().find_map(|leaf| lacks(leaf, querier, after)) {
        return unknown(why);
    }
    let fresh = After { base: querier, after };
    let found =
        instant(&fresh, expr, now, &limits).map_err(|error| error.to_string()).and_then(|answer| {
            let scalar = matches!(answer.value, daruma_promql::Value::Scalar(_));
            let mut found = samples(answer.value, now)?;
            // As a condition, a number is true unless it is zero.
            found.retain(|sample| !(scalar && sample.value.float() == Some(0.0)));
            Ok(found)
        });
    match found {
        Err(error) => unknown(format!("evaluation failed: {error}")),
        Ok(found) => match found.first() {
            Some(sample) => {
                let labels = sample.labels.filtered(|name| name != Labels::NAME);
                let more = match found.len() {
                    1 => String::new(),
                    many => format!(" ({labels} and {} more)", many - 1),
                };
                let evidence = Evidence {
                    summary: holds_text(expr, sample.value.number()) + &more,
                    value: sample.value.float(),
                    query: plot(expr, &Labels::default()),
                    lines: Vec::new(),
                };
                (Verdict::Holds, evidence)
            }
            None => {
                let evidence = Evidence {
                    query: plot(expr, &Labels::default()),
                    ..Evidence::said(format!("not true on fresh samples: {}", expr.text()))
                };
                (Verdict::Clear, evidence)
            }
        },
    }
}

/// Why a selector is no evidence, if it is none.
fn lacks(leaf: &Leaf, querier: &dyn Querier, after: Time) -> Option<String> {
    if leaf.pinned {
        return None;
    }
    let series = querier.select(&leaf.matchers, leaf.after, leaf.until);
    let real = |series: &daruma_model::Series, fresh: bool| {
        series.backwards().filter(|(time, stale)| (*time > after) == fresh && !stale).count()
    };
    let needed_points = if leaf.ranged { 2 } else { 1 };
    let fresh = series.iter().filter(|series| real(series, true) >= needed_points).count();
    // A series that had ended by then is not waited for.
    let before = series
        .iter()
        .filter(|series| {
            let last = series.backwards().find(|(time, _)| *time <= after);
            last.is_some_and(|(_, stale)| !stale)
        })
        .count();
    let whole_window = leaf.after >= after;
    let needed = match (leaf.absence, leaf.optional) {
        (true, _) if whole_window => 0,
        (false, true) => before,
        _ => before.max(1),
    };
    (fresh < needed).then(|| {
        format!(
            "evidence missing: {fresh} of {needed} series of {} have {} since",
            selector_text(&leaf.matchers),
            if leaf.ranged { "two samples" } else { "a sample" },
        )
    })
}
