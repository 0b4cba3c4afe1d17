//! One `eval` of a script: what it asks and expects, and whether the answer is that.

use std::collections::BTreeMap;

use daruma_model::{Histogram, Labels, Series, Span, Time, is_stale};

use super::memory::Memory;
use super::notation::{Item, Read, items, labels_of, number, time_of};
use crate::lex::unquote;
use crate::number::format_value;
use crate::{
    Annotation, AnnotationLevel, Answer, EvalError, Expr, Kind, Limits, ParseOptions, SampleValue,
    Value, histogram, instant, range,
};

#[derive(Debug, Clone)]
pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) query: String,
    at: EvalAt,
    expects: Expects,
    series: Vec<(Labels, Vec<Item>)>,
    scalar: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum EvalAt {
    Instant(Time),
    Range(Time, Time, Span),
}

#[derive(Debug, Clone, Default)]
struct Expects {
    fail: Option<Text>,
    warn: Vec<Text>,
    info: Vec<Text>,
    no_warn: bool,
    no_info: bool,
    ordered: bool,
    string: Option<String>,
    window: Option<(Time, Time, Span)>,
}

#[derive(Debug, Clone)]
enum Text {
    Any,
    Exactly(String),
    Containing(regex::Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(wanted) => wanted == text,
            Text::Containing(regex) => regex.is_match(text),
        }
    }

    fn shown(&self) -> String {
        match self {
            Text::Any => "any".to_owned(),
            Text::Exactly(wanted) => format!("{wanted:?}"),
            Text::Containing(regex) => format!("/{regex}/"),
        }
    }
}

pub(super) fn eval_line(line: usize, head: &str) -> Read<Eval> {
    let mut words = head.splitn(2, char::is_whitespace);
    let command = words.next().unwrap_or("");
    let rest = words.next().unwrap_or("").trim();
    let mut expects = Expects::default();
    match command {
        "eval" => {}
        "eval_fail" => expects.fail = Some(Text::Any),
        "eval_warn" => expects.warn.push(Text::Any),
        "eval_info" => expects.info.push(Text::Any),
        "eval_ordered" => expects.ordered = true,
        _ => return Err(format!("`{command}` is no command; expected eval")),
    }
    let (words, query) = match rest.split_whitespace().next() {
        Some("instant") => cut(rest, 3)?,
        Some("range") => cut(rest, 7)?,
        _ => return Err("expected `instant at …` or `range from … to … step …`".to_owned()),
    };
    let at = match words.as_slice() {
        ["instant", "at", at] => EvalAt::Instant(time_of(at)?),
        ["range", "from", from, "to", to, "step", step] => {
            EvalAt::Range(time_of(from)?, time_of(to)?, Span(time_of(step)?.0))
        }
        _ => return Err("expected `instant at …` or `range from … to … step …`".to_owned()),
    };
    let query = query.to_owned();
    Ok(Eval { line, query, at, expects, series: Vec::new(), scalar: None })
}

/// The first `count` words of `text`, and the rest.
fn cut(text: &str, count: usize) -> Read<(Vec<&str>, &str)> {
    let (mut words, mut rest) = (Vec::new(), text);
    for _ in 0..count {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        if end == 0 {
            return Err("the line breaks off".to_owned());
        }
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    Ok((words, rest.trim()))
}

/// One line below an `eval`.
pub(super) fn expectation(eval: &mut Eval, text: &str) -> Read<()> {
    let Some(expect) = text.strip_prefix("expect ").map(str::trim) else {
        if let Some(value) = number(text) {
            eval.scalar = Some(value);
            return Ok(());
        }
        let (labels, rest) = labels_of(text)?;
        eval.series.push((labels, items(rest)?));
        return Ok(());
    };
    let (word, rest) = expect.split_once(char::is_whitespace).unwrap_or((expect, ""));
    let rest = rest.trim();
    let wanted = || -> Read<Text> {
        if let Some(text) = rest.strip_prefix("msg:") {
            Ok(Text::Exactly(text.trim().to_owned()))
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            let regex = regex::Regex::new(pattern.trim()).map_err(|error| error.to_string())?;
            Ok(Text::Containing(regex))
        } else if rest.is_empty() {
            Ok(Text::Any)
        } else {
            Err(format!("expected `msg:` or `regex:`, not `{rest}`"))
        }
    };
    match word {
        "fail" => eval.expects.fail = Some(wanted()?),
        "warn" => eval.expects.warn.push(wanted()?),
        "info" => eval.expects.info.push(wanted()?),
        "no_warn" => eval.expects.no_warn = true,
        "no_info" => eval.expects.no_info = true,
        "ordered" => eval.expects.ordered = true,
        "string" => {
            let unquoted = unquote(rest, 0).map_err(|error| error.message)?;
            eval.expects.string = Some(unquoted.0);
        }
        "range" => match cut(rest, 7)?.0.as_slice() {
            ["vector", "from", from, "to", to, "step", step] => {
                eval.expects.window = Some((time_of(from)?, time_of(to)?, Span(time_of(step)?.0)));
            }
            _ => return Err("expected `range vector from … to … step …`".to_owned()),
        },
        _ => return Err(format!("`expect {word}` is unknown")),
    }
    Ok(())
}

impl Eval {
    /// What is other than expected.
    pub(super) fn judge(&self, memory: &Memory, limits: &Limits) -> Result<(), String> {
        let expr = match Expr::parse_with(&self.query, &ParseOptions { experimental: true }) {
            Ok(expr) => expr,
            Err(error) => return self.judge_failure(&error.message, &error.to_string()),
        };
        match self.at {
            EvalAt::Range(start, end, step) => {
                let result = range(memory, &expr, start, end, step, limits);
                let Some(answer) = self.answer(result)? else { return Ok(()) };
                self.check_notes(&answer.annotations, &expr)?;
                self.check_matrix(&answer.value, start, step)
            }
            EvalAt::Instant(at) => {
                let result = instant(memory, &expr, at, limits);
                let Some(answer) = self.answer(result)? else { return Ok(()) };
                self.check_notes(&answer.annotations, &expr)?;
                self.check_value(&answer.value)?;
                self.judge_elsewhere(memory, limits, &expr, at)
            }
        }
    }

    /// A result that was expected; `Ok(None)` if an expected failure came.
    fn answer(&self, result: Result<Answer, EvalError>) -> Result<Option<Answer>, String> {
        match result {
            Ok(_) if self.expects.fail.is_some() => {
                Err("expected a failure, got a result".to_owned())
            }
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                let text = error.to_string();
                self.judge_failure(&text, &text).map(|()| None)
            }
        }
    }

    fn judge_failure(&self, message: &str, shown: &str) -> Result<(), String> {
        match &self.expects.fail {
            None => Err(format!("failed: {shown}")),
            Some(wanted) if wanted.fits(message) => Ok(()),
            Some(wanted) => Err(format!("expected the failure {}, got: {shown}", wanted.shown())),
        }
    }

    /// An instant query must yield the same pinned to its time and asked for at another, and as a
    /// step of a range query.
    fn judge_elsewhere(
        &self,
        memory: &Memory,
        limits: &Limits,
        expr: &Expr,
        at: Time,
    ) -> Result<(), String> {
        if !reads_the_time(expr) {
            let pinned = expr.pinned(at);
            let others = match at.0 {
                0 => [-1000, 0, 1000],
                ms => [ms.saturating_mul(-10), ms / 5, ms.saturating_mul(10)],
            };
            for other in others.map(Time) {
                let place = |why: String| format!("pinned with @ and asked at {other:?}: {why}");
                let answer = instant(memory, &pinned, other, limits);
                let answer = answer.map_err(|error| place(error.to_string()))?;
                self.check_value(&answer.value).map_err(place)?;
            }
        }
        let mentions = ["start()", "end()", "range()", "step()"]
            .iter()
            .any(|call| self.query.to_ascii_lowercase().contains(call));
        let special =
            self.expects.ordered || self.expects.string.is_some() || self.expects.window.is_some();
        if mentions || special || !matches!(expr.returns(), crate::ValueType::Vector) {
            return Ok(());
        }
        let minute = Span::minutes(1);
        let place = |why: String| format!("as a step of a range query: {why}");
        let answer = range(memory, expr, at - minute, at + minute, minute, limits)
            .map_err(|error| place(error.to_string()))?;
        let Value::Matrix(matrix) = answer.value else { return Ok(()) };
        let vector = matrix
            .into_iter()
            .filter_map(|series| {
                let value = at_time(&series).remove(&at)?;
                Some((series.labels, value))
            })
            .collect();
        self.check_vector(vector).map_err(place)
    }

    fn check_notes(&self, notes: &[Annotation], expr: &Expr) -> Result<(), String> {
        for (level, wanted, none) in [
            (AnnotationLevel::Warn, &self.expects.warn, self.expects.no_warn),
            (AnnotationLevel::Info, &self.expects.info, self.expects.no_info),
        ] {
            let texts: Vec<String> = notes
                .iter()
                .filter(|note| note.level == level)
                .map(|note| note.text(expr.text()))
                .collect();
            if none && !texts.is_empty() {
                return Err(format!("unexpected annotations: {texts:?}"));
            }
            if let Some(missing) =
                wanted.iter().find(|wanted| !texts.iter().any(|text| wanted.fits(text)))
            {
                let missing = missing.shown();
                return Err(format!("no annotation is {missing}; there are {texts:?}"));
            }
            if !wanted.is_empty()
                && let Some(text) =
                    texts.iter().find(|text| !wanted.iter().any(|wanted| wanted.fits(text)))
            {
                return Err(format!("unexpected annotation: {text:?}"));
            }
        }
        Ok(())
    }

    fn check_value(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::Scalar(value) => match self.scalar {
                Some(wanted) if nearly(wanted, *value) => Ok(()),
                Some(wanted) => Err(format!("expected {wanted}, got {}", format_value(*value))),
                None => Err(format!("expected no scalar, got {}", format_value(*value))),
            },
            Value::String(text) => match &self.expects.string {
                Some(wanted) if wanted == text => Ok(()),
                wanted => Err(format!("expected {wanted:?}, got {text:?}")),
            },
            Value::Matrix(_) => match self.expects.window {
                Some((start, _, step)) => self.check_matrix(value, start, step),
                None => Err("got a range vector, which was not expected".to_owned()),
            },
            Value::Vector(vector) => self.check_vector(
                vector.iter().map(|sample| (sample.labels.clone(), item(&sample.value))).collect(),
            ),
        }
    }

    fn check_vector(&self, vector: Vec<(Labels, Item)>) -> Result<(), String> {
        if self.scalar.is_some() {
            return Err("expected a scalar, got a vector".to_owned());
        }
        let mut wanted: Vec<(&Labels, &Item)> = Vec::new();
        for (labels, items) in &self.series {
            match items.as_slice() {
                [item] => wanted.push((labels, item)),
                _ => return Err(format!("{labels} needs exactly one expected value")),
            }
        }
        let shown = || {
            let shown: Vec<String> =
                vector.iter().take(10).map(|(l, v)| format!("{l} {}", shown(v))).collect();
            shown.join(", ")
        };
        if wanted.len() != vector.len() {
            return Err(format!(
                "expected {} series, got {}: {}",
                wanted.len(),
                vector.len(),
                shown()
            ));
        }
        if self.expects.ordered {
            for ((wanted, _), (got, _)) in wanted.iter().zip(&vector) {
                if *wanted != got {
                    return Err(format!("expected {wanted} in this place, got {got}"));
                }
            }
        }
        for (labels, item) in wanted {
            let Some((_, value)) = vector.iter().find(|(found, _)| found == labels) else {
                return Err(format!("{labels} is missing; there are {}", shown()));
            };
            same(labels, item, value)?;
        }
        Ok(())
    }

    fn check_matrix(&self, value: &Value, start: Time, step: Span) -> Result<(), String> {
        let Value::Matrix(matrix) = value else {
            return Err("expected a range vector".to_owned());
        };
        if matrix.windows(2).any(|pair| pair[0].labels >= pair[1].labels) {
            return Err("the matrix is not sorted by label sets".to_owned());
        }
        let wanted: Vec<_> = self
            .series
            .iter()
            .filter(|(_, items)| items.iter().any(|item| *item != Item::Gap))
            .collect();
        if let Some(extra) =
            matrix.iter().find(|got| !wanted.iter().any(|(labels, _)| *labels == got.labels))
        {
            return Err(format!("unexpected series {}", extra.labels));
        }
        for (labels, items) in wanted {
            let Some(got) = matrix.iter().find(|series| series.labels == *labels) else {
                return Err(format!("{labels} is missing"));
            };
            let mut points = at_time(got);
            let mut time = start;
            for item in items {
                let found = points.remove(&time).unwrap_or(Item::Gap);
                same(labels, item, &found).map_err(|why| format!("{why} at {time:?}"))?;
                time += step;
            }
            if let Some((time, value)) = points.first_key_value() {
                let value = shown(value);
                return Err(format!("{labels}: unexpected value {value} at {time:?}"));
            }
        }
        Ok(())
    }
}

/// Whether the result depends on when it is asked for even if its data does not.
fn reads_the_time(expr: &Expr) -> bool {
    const READERS: [&str; 16] = [
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "days_in_month",
        "end",
        "hour",
        "minute",
        "month",
        "predict_linear",
        "range",
        "start",
        "step",
        "time",
        "timestamp",
        "year",
        "info",
    ];
    let mut todo = vec![expr.ast()];
    while let Some(node) = todo.pop() {
        if let Kind::Call(call) = &node.kind
            && READERS.contains(&call.function.name)
        {
            return true;
        }
        todo.extend(node.children());
    }
    false
}

/// The samples of a series by their times.
fn at_time(series: &Series) -> BTreeMap<Time, Item> {
    let floats = series.points.iter().map(|point| (point.time, Item::Float(point.value)));
    let histograms = series.histograms.iter().map(|point| {
        (point.time, Item::Histogram { histogram: point.histogram.clone(), hinted: true })
    });
    floats.chain(histograms).collect()
}

fn item(value: &SampleValue) -> Item {
    match value {
        SampleValue::Float(value) => Item::Float(*value),
        SampleValue::Histogram(histogram) => {
            Item::Histogram { histogram: histogram.clone(), hinted: true }
        }
    }
}

fn same(labels: &Labels, wanted: &Item, got: &Item) -> Result<(), String> {
    match (wanted, got) {
        (Item::Gap, Item::Gap) => Ok(()),
        (Item::Float(wanted), Item::Float(got)) if nearly(*wanted, *got) => Ok(()),
        (Item::Histogram { histogram: a, hinted }, Item::Histogram { histogram: b, .. })
            if nearly_same(a, b) && (!hinted || a.hint == b.hint) =>
        {
            Ok(())
        }
        (wanted, got) => Err(format!("{labels}: expected {}, got {}", shown(wanted), shown(got))),
    }
}

/// Whether two histograms are equal within a millionth, empty buckets left out.
fn nearly_same(a: &Histogram, b: &Histogram) -> bool {
    let sides = |h: &Histogram| -> [Vec<(i32, f64)>; 2] {
        [&h.positive, &h.negative]
            .map(|side| side.iter().filter(|(_, count)| *count != 0.0).collect())
    };
    a.schema == b.schema
        && a.custom_bounds == b.custom_bounds
        && nearly(a.count, b.count)
        && nearly(a.sum, b.sum)
        && nearly(a.zero_threshold, b.zero_threshold)
        && nearly(a.zero_count, b.zero_count)
        && sides(a).iter().zip(&sides(b)).all(|(a, b)| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && nearly(a.1, b.1))
        })
}

fn shown(item: &Item) -> String {
    match item {
        Item::Float(value) => format_value(*value),
        Item::Gap => "nothing".to_owned(),
        Item::Histogram { histogram, .. } => {
            let Histogram { schema, hint, .. } = **histogram;
            format!("{} (schema {schema}, {hint:?})", histogram::text(histogram))
        }
    }
}

/// Equal within a millionth; NaN equals NaN, the staleness marker only itself.
fn nearly(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-6;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (size, distance) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return distance < TOLERANCE * f64::MIN_POSITIVE;
    }
    distance / size.min(f64::MAX) < TOLERANCE
}
