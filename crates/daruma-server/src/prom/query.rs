//! `query`, `query_range`, `query_exemplars`.

use std::time::Duration;

use daruma_model::{Span, Time};
use daruma_promql::{Annotation, AnnotationLevel, EvalError, Limits, Value, ValueType};

use super::json::Json;
use super::params::Params;
use super::turns::Took;
use super::{Failure, FailureKind, Found};
use crate::accept::Site;

/// Points of one series at most, as Prometheus has it: enough for 60 s resolution over a week.
const POINTS_MAX: i64 = 11_000;
/// Remarks of one kind in an answer.
const REMARKS_MAX: usize = 10;
/// Said when `limit` cut something off.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Failure {
        match error {
            EvalError::Stopped => {
                Failure::of(FailureKind::Timeout, "query timed out in expression evaluation")
            }
            error => Failure::of(FailureKind::Execution, error.to_string()),
        }
    }
}

/// What both kinds of query have in common.
struct Asked {
    expr: daruma_promql::Expr,
    limits: Limits,
    limit: usize,
    timeout: Option<Span>,
    stats: bool,
}

fn asked(site: &Site, params: &Params) -> Result<Asked, Failure> {
    let limit = params.limit()?;
    let timeout = params.duration("timeout")?.map(|span| span.max(Span::ZERO));
    let expr = params.expr(site)?;
    let lookback = match params.duration("lookback_delta")? {
        Some(span) if span <= Span::ZERO => {
            let said = "zero or negative lookback_delta is not accepted";
            return Err(Failure::parameter("lookback_delta", said));
        }
        Some(span) => span,
        None => site.turns.limits.lookback,
    };
    let samples_max = site.turns.limits.samples_max;
    let limits = Limits { samples_max, lookback };
    Ok(Asked { expr, limits, limit, timeout, stats: !params.get("stats").is_empty() })
}

/// `query`: one time.
pub(super) async fn instant(site: &Site, params: &Params) -> Result<Found, Failure> {
    let at = params.time("time")?.unwrap_or_else(|| (site.shared.clock)());
    let Asked { expr, limits, limit, timeout, stats } = asked(site, params)?;
    let work = move |reader: &super::turns::Reader| {
        let answer = daruma_promql::instant(reader, &expr, at, &limits)?;
        written(answer, expr.text(), at, limit)
    };
    let (found, took) = site.turns.take(timeout, work).await?;
    Ok(closed(found, stats, took))
}

/// `query_range`: many times.
pub(super) async fn range(site: &Site, params: &Params) -> Result<Found, Failure> {
    let required = |name: &str| {
        params
            .time(name)?
            .ok_or_else(|| Failure::parameter(name, "cannot parse \"\" to a valid timestamp"))
    };
    let (start, end) = (required("start")?, required("end")?);
    if end < start {
        return Err(Failure::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params
        .duration("step")?
        .ok_or_else(|| Failure::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step <= Span::ZERO {
        let said = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::parameter("step", said));
    }
    if (end - start).0 / step.0 > POINTS_MAX {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let Asked { expr, limits, limit, timeout, stats } = asked(site, params)?;
    if !matches!(expr.returns(), ValueType::Scalar | ValueType::Vector) {
        let said = format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            expr.returns().as_str()
        );
        return Err(Failure::parameter("query", said));
    }
    let work = move |reader: &super::turns::Reader| {
        let answer = daruma_promql::range(reader, &expr, start, end, step, &limits)?;
        written(answer, expr.text(), end, limit)
    };
    let (found, took) = site.turns.take(timeout, work).await?;
    Ok(closed(found, stats, took))
}

/// `query_exemplars`: none are kept.
pub(super) fn exemplars(site: &Site, params: &Params) -> Result<Found, Failure> {
    params.bounds()?;
    params.expr(site)?;
    Found::of(&serde_json::json!([]))
}

/// `format_query`: the same query as Prometheus writes it.
pub(super) fn format(site: &Site, params: &Params) -> Result<Found, Failure> {
    Found::of(&params.expr(site)?.formatted())
}

/// `parse_query`: the query's tree.
pub(super) fn parse(site: &Site, params: &Params) -> Result<Found, Failure> {
    Found::of(&params.expr(site)?.to_json())
}

/// The answer up to `data`'s closing brace, before which statistics may follow, and the remarks.
fn written(
    answer: daruma_promql::Answer,
    query: &str,
    at: Time,
    limit: usize,
) -> Result<Found, Failure> {
    let mut data = Json::answer();
    let mut warnings = remarks(&answer.annotations, AnnotationLevel::Warn, query);
    let infos = remarks(&answer.annotations, AnnotationLevel::Info, query);
    let mut cut = |length: usize| {
        if length > limit {
            warnings.push(TRUNCATED.to_owned());
        }
        length.min(limit)
    };
    let kind = match &answer.value {
        Value::Scalar(_) => "scalar",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
        Value::String(_) => "string",
    };
    data.raw(b"{\"resultType\":\"");
    data.raw(kind.as_bytes());
    data.raw(b"\",\"result\":");
    match &answer.value {
        Value::Scalar(value) => data.point(at, *value),
        Value::Vector(vector) => data.vector(&vector[..cut(vector.len())])?,
        Value::Matrix(matrix) => data.matrix(&matrix[..cut(matrix.len())])?,
        Value::String(text) => {
            data.raw(b"[");
            data.time(at);
            data.raw(b",");
            data.value(text)?;
            data.raw(b"]");
        }
    }
    Ok(Found { data, warnings, infos })
}

fn closed(mut found: Found, stats: bool, took: Took) -> Found {
    if stats {
        let seconds = |span: Duration| span.as_secs_f64();
        let (ran, queued) = (seconds(took.ran), seconds(took.queued));
        // The evaluator does not tell its phases apart: all of its time is evaluation.
        let stats = serde_json::json!({
            "timings": {
                "evalTotalTime": ran, "resultSortTime": 0.0, "queryPreparationTime": 0.0,
                "innerEvalTime": ran, "execQueueTime": queued, "execTotalTime": ran + queued,
            },
            "samples": { "totalQueryableSamples": took.samples, "peakSamples": took.samples },
        });
        found.data.raw(b",\"stats\":");
        found.data.raw(stats.to_string().as_bytes());
    }
    found.data.raw(b"}");
    found
}

/// The remarks of one level, at most ten and a word about the rest.
fn remarks(notes: &[Annotation], level: AnnotationLevel, query: &str) -> Vec<String> {
    let of_level = || notes.iter().filter(|note| note.level == level);
    let mut texts: Vec<String> =
        of_level().take(REMARKS_MAX).map(|note| note.text(query)).collect();
    let rest = of_level().count().saturating_sub(REMARKS_MAX);
    if rest > 0 {
        let word = match level {
            AnnotationLevel::Warn => "warning",
            AnnotationLevel::Info => "info",
        };
        texts.push(format!("{rest} more {word} annotations omitted"));
    }
    texts
}
