//! Subqueries: an expression evaluated at absolute multiples of a step, as a range vector. What
//! neighbouring windows share is evaluated once.

use std::sync::Arc;

use daruma_model::{Histogram, HistogramPoint, Point, ResetHint, Series, Span, Time};

use super::intern::Interner;
use super::{Element, Evaluated, Evaluator, FINAL, Matrix, Window, failed, leaves, shifted};
use crate::ast::{Edges, Subquery};
use crate::value::SampleValue;

/// A subquery with its lengths resolved.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    pub(super) window: Span,
    pub(super) step: Span,
    pub(super) offset: Span,
}

impl Inner {
    /// The first multiple of the step after a time.
    pub(super) fn first_after(&self, after: Time) -> Time {
        let multiple = after.0.div_euclid(self.step.0).saturating_add(1);
        Time(multiple.saturating_mul(self.step.0))
    }
}

/// The inner results of a subquery so far. It is asked for at times that never go back, because the
/// outermost grid does not, so what is new is always later than what is known.
#[derive(Default)]
pub(super) struct Steps {
    /// The last step that was evaluated.
    done: Option<Time>,
    /// One for elements that keep their names, one for those that lose them.
    interners: [Interner; 2],
    columns: [Vec<Series>; 2],
}

impl Evaluator<'_> {
    pub(super) fn subquery(
        &self,
        id: usize,
        subquery: &Subquery,
        time: Time,
    ) -> Evaluated<Matrix<'_>> {
        let Some(inner) = self.inners.get(&id).copied() else {
            return failed("a subquery without a plan");
        };
        let (until, _) = shifted(subquery.shift.at, inner.offset, (time, time), self.bounds);
        let after = until - inner.window;
        // Taken out, because the inner query may hold subqueries of its own.
        let mut steps = self.steps.borrow_mut().remove(&id).unwrap_or_else(|| Steps {
            interners: [Interner::new(true), Interner::new(true)],
            ..Steps::default()
        });
        // Unless it is known already.
        let first = inner.first_after(after);
        let mut step = steps.done.map_or(first, |done| first.max(done + inner.step));
        while step <= until && step > after && steps.done != Some(step) {
            let vector = self.vector(&subquery.inner, step)?;
            self.hold(1 + vector.len())?;
            for interner in &mut steps.interners {
                interner.expect(vector.len());
            }
            for Element { labels, drop_name, value, .. } in vector {
                let with = usize::from(drop_name);
                let place = steps.interners[with].place(&labels, 0, &FINAL);
                let columns = &mut steps.columns[with];
                if place == columns.len() {
                    columns.push(Series { labels, ..Series::default() });
                }
                match value {
                    SampleValue::Float(value) => {
                        columns[place].points.push(Point { time: step, value });
                    }
                    SampleValue::Histogram(histogram) => {
                        self.hold(histogram.buckets())?;
                        let histogram = unhinted(histogram);
                        let point = HistogramPoint { time: step, start: None, histogram };
                        columns[place].histograms.push(point);
                    }
                }
            }
            steps.done = Some(step);
            step += inner.step;
        }
        let window = |(drop_name, column): (bool, &Series)| {
            let start = column.points.partition_point(|point| point.time <= after);
            let end = column.points.partition_point(|point| point.time <= until);
            let points = column.points.get(start..end).unwrap_or(&[]).to_vec();
            let start = column.histograms.partition_point(|point| point.time <= after);
            let end = column.histograms.partition_point(|point| point.time <= until);
            let histograms = column.histograms.get(start..end).unwrap_or(&[]).to_vec();
            (!points.is_empty() || !histograms.is_empty()).then(|| Window {
                labels: std::borrow::Cow::Owned(column.labels.clone()),
                drop_name,
                points: points.into(),
                starts: &[],
                histograms: histograms.into(),
                doubtful: leaves::is_doubtful(&column.labels),
            })
        };
        let [kept, dropped] = &steps.columns;
        let kept = kept.iter().map(|column| (false, column));
        let dropped = dropped.iter().map(|column| (true, column));
        let windows = kept.chain(dropped).filter_map(window).collect();
        self.steps.borrow_mut().insert(id, steps);
        Ok(Matrix { windows, after, until, edges: Edges::Plain })
    }
}

/// The histogram without what it says of the sample before it: a subquery's step may have passed over
/// that one.
fn unhinted(histogram: Arc<Histogram>) -> Arc<Histogram> {
    match histogram.hint {
        ResetHint::Unknown | ResetHint::Gauge => histogram,
        ResetHint::Reset | ResetHint::NotReset => {
            Arc::new(Histogram { hint: ResetHint::Unknown, ..(*histogram).clone() })
        }
    }
}
