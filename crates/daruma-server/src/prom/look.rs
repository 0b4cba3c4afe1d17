//! A query for the Explore page: its value at the end, and its course. In the same turns and bounds as
//! those of the API, because it is the same work.

use daruma_model::{Span, Time};
use daruma_promql::{Answer, Expr, Limits, ValueType};

use super::turns::Reader;
use crate::accept::Site;

/// What is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) expr: Expr,
    pub(crate) from: Time,
    pub(crate) to: Time,
    /// Above zero, and such that there are at most 11,000 points.
    pub(crate) step: Span,
}

/// What is seen.
pub(crate) struct Look {
    /// At the end.
    pub(crate) last: Answer,
    /// From the beginning to the end, where it has a course.
    pub(crate) course: Option<Answer>,
    /// How long it took.
    pub(crate) took: Span,
}

/// Asks.
///
/// # Errors
/// In words.
pub(crate) async fn look(site: &Site, asked: Asked) -> Result<Look, String> {
    let limits =
        Limits { samples_max: site.turns.limits.samples_max, lookback: site.turns.limits.lookback };
    let work = move |reader: &Reader| {
        let Asked { expr, from, to, step } = asked;
        let last = daruma_promql::instant(reader, &expr, to, &limits)?;
        let course = match expr.returns() {
            ValueType::Scalar | ValueType::Vector => {
                Some(daruma_promql::range(reader, &expr, from, to, step, &limits)?)
            }
            ValueType::Matrix | ValueType::String => None,
        };
        Ok((last, course))
    };
    let ((last, course), took) =
        site.turns.take(None, work).await.map_err(|failure| failure.said)?;
    let took = Span(i64::try_from(took.ran.as_millis()).unwrap_or(i64::MAX));
    Ok(Look { last, course, took })
}
