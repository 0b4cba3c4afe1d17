//! Series for charts: any PromQL query, within bounds that no page and no script can stretch. A gap in
//! the evidence stays a gap.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daruma_model::{Labels, Querier, Series, Span, Time};
use daruma_promql::{EvalError, Expr, Kind, Limits, Node, ParseError, Value};
use serde::Serialize;
use tokio::sync::Semaphore;

/// Queries evaluated at once: charts must not take the cores that detection needs.
const AT_ONCE: usize = 2;
/// How long a query waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Points of one line.
const POINTS_MAX: i64 = 1000;
/// Points when nobody says a step.
const POINTS_USUAL: i64 = 240;
/// Lines of one chart; more could not be told apart.
const LINES_MAX: usize = 8;
/// The longest query.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Samples one query may touch.
const SAMPLES_MAX: usize = 5_000_000;
/// The longest range.
const RANGE_MAX: Span = Span::hours(24 * 400);
/// A value is drawn for at most this long after its sample. It bridges one sample a minute; what is
/// silent for longer is shown as silent, though PromQL itself looks back five minutes.
const BRIDGE: Span = Span::secs(65);
/// The host's charts are made anew at most this often, however many pages are open.
const HOST_EVERY: Span = Span::secs(5);

/// What to plot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlotQuery {
    pub(crate) text: String,
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) step: Option<Span>,
    /// Only lines that agree with this on every label both have.
    pub(crate) like: Labels,
}

/// Lines over common times.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Plot {
    /// Seconds since 1970.
    pub(crate) times: Vec<f64>,
    /// Seconds.
    pub(crate) step: f64,
    pub(crate) lines: Vec<Line>,
    /// Lines there are beyond those shown.
    pub(crate) left_out: usize,
    /// Remarks of the evaluation.
    pub(crate) said: Vec<String>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    /// As many as there are times; `null` where nothing is known.
    pub(crate) values: Vec<Option<f64>>,
}

/// Why nothing is plotted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlotError {
    #[error("the query is longer than {QUERY_BYTES_MAX} bytes")]
    Long,
    #[error("PromQL, {0}")]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Eval(#[from] EvalError),
    #[error("the range must be longer than zero and end after it begins, within 400 days")]
    Range,
    #[error("the step must be at least 1 ms and give at most {POINTS_MAX} points")]
    Step,
    #[error("too many charts are being made; try again")]
    Busy,
    #[error("the chart broke off: {0}")]
    Broke(String),
}

/// Makes charts.
pub(crate) struct Plots {
    series: Arc<dyn Querier + Send + Sync>,
    turns: Arc<Semaphore>,
    host: Mutex<Option<(Time, Arc<Vec<HostChart>>)>>,
    host_turn: tokio::sync::Mutex<()>,
}

impl Plots {
    pub(crate) fn new(series: Arc<dyn Querier + Send + Sync>) -> Plots {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Plots { series, turns, host: Mutex::new(None), host_turn: tokio::sync::Mutex::new(()) }
    }

    pub(crate) async fn plot(&self, query: PlotQuery) -> Result<Plot, PlotError> {
        self.on_a_thread(move |series| plot(series, &query)).await?
    }

    /// This host's charts over the last hour.
    pub(crate) async fn host(&self, now: Time) -> Result<Arc<Vec<HostChart>>, PlotError> {
        // One asks, the others wait for its answer.
        let _turn = self.host_turn.lock().await;
        let last = self.host.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, charts)) = last.filter(|(at, _)| *at <= now && now < *at + HOST_EVERY) {
            return Ok(charts);
        }
        let made = self.on_a_thread(move |series| {
            HOST.iter().map(|what| HostChart::new(series, what, now)).collect::<Vec<_>>()
        });
        let charts = Arc::new(made.await?);
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, Arc::clone(&charts)));
        Ok(charts)
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Querier) -> T + Send + 'static,
    ) -> Result<T, PlotError> {
        let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.turns).acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(PlotError::Busy) };
        let series = Arc::clone(&self.series);
        let done = tokio::task::spawn_blocking(move || {
            let made = work(&*series);
            drop(turn);
            made
        });
        done.await.map_err(|error| PlotError::Broke(error.to_string()))
    }
}

fn plot(series: &dyn Querier, query: &PlotQuery) -> Result<Plot, PlotError> {
    if query.text.len() > QUERY_BYTES_MAX {
        return Err(PlotError::Long);
    }
    let expr = Expr::parse(&query.text)?;
    let range = query.to - query.from;
    if range <= Span::ZERO || range > RANGE_MAX {
        return Err(PlotError::Range);
    }
    let step = query.step.unwrap_or(Span((range.0 / POINTS_USUAL).max(1)));
    if step.0 < 1 || range.0 / step.0 > POINTS_MAX {
        return Err(PlotError::Step);
    }
    let limits = Limits { samples_max: SAMPLES_MAX, lookback: BRIDGE.max(step) };
    let answer = daruma_promql::range(series, &expr, query.from, query.to, step, &limits)?;
    let said = answer.annotations.iter().take(5).map(|note| note.text(&query.text)).collect();
    let Value::Matrix(mut found) = answer.value else { return Ok(Plot::default()) };
    found.retain(|series| agree(&series.labels, &query.like));
    Ok(Plot { said, ..laid_out(found, (query.from, query.to), step) })
}

/// The first few of `found`, on the times from `from` to `to` at a distance of `step`, which is above
/// zero and gives a bounded number of points.
pub(crate) fn laid_out(mut found: Vec<Series>, (from, to): (Time, Time), step: Span) -> Plot {
    let times: Vec<Time> = (0..=(to - from).0 / step.0.max(1))
        .map(|i| from + Span(i.saturating_mul(step.0)))
        .collect();
    let left_out = found.len().saturating_sub(LINES_MAX);
    found.truncate(LINES_MAX);
    let lines = found
        .into_iter()
        .map(|series| {
            let mut values = vec![None; times.len()];
            for point in series.points {
                let i = usize::try_from((point.time - from).0 / step.0.max(1)).ok();
                if let Some(value) = i.and_then(|i| values.get_mut(i)) {
                    // JSON has no words for the others, and neither has an axis.
                    *value = Some(point.value).filter(|value| value.is_finite());
                }
            }
            Line { name: name(&series.labels), labels: series.labels, values }
        })
        .collect();
    let times = times.iter().map(|time| time.as_secs_f64()).collect();
    Plot { times, step: step.as_secs_f64(), lines, left_out, said: Vec::new() }
}

fn agree(labels: &Labels, like: &Labels) -> bool {
    like.iter()
        .all(|(name, value)| name == Labels::NAME || !labels.has(name) || labels.get(name) == value)
}

/// A short name for a legend.
fn name(labels: &Labels) -> String {
    match labels.len() {
        0 => "value".to_owned(),
        _ => labels.to_string().chars().take(120).collect(),
    }
}

/// What to draw for a rule's query, and the line it must not cross: of `a > 5 and b` it is `a` and 5.
/// The comparison itself would draw nothing as long as all is well.
pub(crate) fn drawn(text: &str) -> (String, Option<f64>) {
    let Ok(expr) = Expr::parse(text) else { return (text.to_owned(), None) };
    match compared(expr.ast()) {
        Some((span, threshold)) => match text.get(span) {
            Some(part) => (part.to_owned(), Some(threshold)),
            None => (text.to_owned(), None),
        },
        None => (text.to_owned(), None),
    }
}

fn compared(node: &Node) -> Option<(Range<usize>, f64)> {
    match &node.kind {
        Kind::Paren(inner) => compared(inner),
        Kind::Binary(binary) if binary.op.is_comparison() => {
            match (constant(&binary.left), constant(&binary.right)) {
                (None, Some(threshold)) => Some((binary.left.span.clone(), threshold)),
                (Some(threshold), None) => Some((binary.right.span.clone(), threshold)),
                _ => None,
            }
        }
        Kind::Binary(binary) if binary.op.is_set() => {
            compared(&binary.left).or_else(|| compared(&binary.right))
        }
        _ => None,
    }
}

fn constant(node: &Node) -> Option<f64> {
    use daruma_promql::BinaryOp::{Add, Div, Mul, Sub};
    match &node.kind {
        Kind::Number(number) => Some(*number),
        Kind::Paren(inner) => constant(inner),
        Kind::Unary { minus, inner } => {
            constant(inner).map(|number| if *minus { -number } else { number })
        }
        Kind::Binary(binary) => {
            let (left, right) = (constant(&binary.left)?, constant(&binary.right)?);
            match binary.op {
                Add => Some(left + right),
                Sub => Some(left - right),
                Mul => Some(left * right),
                Div => Some(left / right),
                _ => None,
            }
        }
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// How the number beside a chart is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Percent,
    Plain,
    PerSecond,
}

struct HostQuery {
    title: &'static str,
    says: &'static str,
    query: &'static str,
    unit: Unit,
    top: Option<f64>,
}

const HOST: [HostQuery; 5] = [
    HostQuery {
        title: "cpu",
        says: "busy, all cores",
        query: r#"100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle"}[1m]))) or 100 * avg(node_cpu_busy_ratio)"#,
        unit: Unit::Percent,
        top: Some(100.0),
    },
    HostQuery {
        title: "memory",
        says: "not available",
        query: "max(100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes))",
        unit: Unit::Percent,
        top: Some(100.0),
    },
    HostQuery {
        title: "disk",
        says: "fullest file system",
        query: "max(100 * (1 - node_filesystem_avail_bytes / (node_filesystem_size_bytes > 0)) \
                unless (node_filesystem_readonly == 1))",
        unit: Unit::Percent,
        top: Some(100.0),
    },
    HostQuery {
        title: "load",
        says: "1 min average",
        query: "max(node_load1)",
        unit: Unit::Plain,
        top: None,
    },
    HostQuery {
        title: "log lines",
        says: "all files",
        query: "sum(rate(daruma_log_lines_total[1m]))",
        unit: Unit::PerSecond,
        top: None,
    },
];

/// One of this host's small charts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostChart {
    pub(crate) title: &'static str,
    pub(crate) says: &'static str,
    pub(crate) query: &'static str,
    pub(crate) unit: Unit,
    /// Where the axis ends, if that is known.
    pub(crate) top: Option<f64>,
    /// Nothing, or why there is nothing.
    pub(crate) values: Result<Vec<Option<f64>>, String>,
}

impl HostChart {
    fn new(series: &dyn Querier, what: &HostQuery, now: Time) -> HostChart {
        let to = now;
        let query = PlotQuery {
            text: what.query.to_owned(),
            from: to - Span::hours(1),
            to,
            step: Some(Span::minutes(1)),
            like: Labels::default(),
        };
        let values = match plot(series, &query) {
            Ok(mut plot) => Ok(plot.lines.pop().map(|line| line.values).unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        };
        let HostQuery { title, says, query, unit, top } = *what;
        HostChart { title, says, query, unit, top, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_what_is_compared_with_its_threshold() {
        for (query, want, threshold) in [
            ("http_inflight > 15", "http_inflight", Some(15.0)),
            ("a / b < 0.05 and ro == 0", "a / b", Some(0.05)),
            ("(sum(rate(x[1m])) >= bool 2 * 3)", "sum(rate(x[1m]))", Some(6.0)),
            ("-1 > delta(t[1m])", "delta(t[1m])", Some(-1.0)),
            ("a > b", "a > b", None),
            ("up", "up", None),
            ("not a query(", "not a query(", None),
        ] {
            assert_eq!(drawn(query), (want.to_owned(), threshold), "{query}");
        }
    }
}
