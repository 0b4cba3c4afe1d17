//! The reference evaluator.

use daruma_model::{Querier, Span, Time};

use crate::Expr;
use crate::ast::At;
use crate::value::Answer;

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
    /// The query has no meaning on this data, such as several partners where one was asked for.
    #[error("{0}")]
    Execution(String),
}

/// Evaluates `expr` at one time.
///
/// # Errors
/// [`EvalError`].
pub fn instant(
    querier: &dyn Querier,
    expr: &Expr,
    at: Time,
    limits: &Limits,
) -> Result<Answer, EvalError> {
    let _ = (querier, at, limits);
    Err(EvalError::Execution(format!("{expr} cannot be evaluated yet")))
}

/// Evaluates `expr` at `start`, `start + step`, … up to `end`.
///
/// # Errors
/// [`EvalError`]; also if `expr` is neither a scalar nor an instant vector, or `step` is not above zero.
pub fn range(
    querier: &dyn Querier,
    expr: &Expr,
    start: Time,
    end: Time,
    step: Span,
    limits: &Limits,
) -> Result<Answer, EvalError> {
    let _ = (querier, start, end, step, limits);
    Err(EvalError::Execution(format!("{expr} cannot be evaluated yet")))
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
