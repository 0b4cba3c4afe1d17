//! Prometheus' `.test` scripts: load series, evaluate queries, compare with what is expected.
//!
//! They are the query language's own acceptance test, and a good way to write down what a rule should
//! do. It stands apart from the evaluator because it judges it. The store it fills is in memory;
//! reading the files is the caller's.
//!
//! ```
//! use daruma_promql::{Limits, script::Script};
//!
//! let script = Script::parse("load 5m\n  up 1 1 0\n\neval instant at 10m up == 0\n  up 0\n").unwrap();
//! let outcomes = script.run(&Limits::default());
//! assert_eq!(outcomes[0].failure, None);
//! ```

use std::collections::BTreeMap;

use daruma_model::{Labels, Matcher, Point, Querier, Series, Span, Time, is_stale, stale_marker};

use crate::lex::{Token, lex, unquote};
use crate::number::{format_value, parse_number};
use crate::{
    Annotation, AnnotationLevel, Answer, EvalError, Expr, Kind, Limits, Value, instant, range,
};

/// The most samples one item of a script may stand for, so that `1x999999999` fills no memory.
const REPEAT_MAX: usize = 1_000_000;

/// Series in memory, as a script's `load` makes them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Vec<Point>>,
}

impl Memory {
    /// Adds one sample; a later one at the same time replaces it.
    pub fn push(&mut self, labels: Labels, time: Time, value: f64) {
        let points = self.series.entry(labels).or_default();
        let place = points.partition_point(|point| point.time < time);
        match points.get_mut(place) {
            Some(point) if point.time == time => point.value = value,
            _ => points.insert(place, Point { time, value }),
        }
    }
}

impl Querier for Memory {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let matching =
            |labels: &Labels| matchers.iter().all(|matcher: &Matcher| matcher.matches(labels));
        self.series
            .iter()
            .filter(|(labels, _)| matching(labels))
            .filter_map(|(labels, points)| {
                let start = points.partition_point(|point| point.time <= after);
                let end = points.partition_point(|point| point.time <= until);
                let points = points.get(start..end).filter(|points| !points.is_empty())?;
                Some(Series {
                    labels: labels.clone(),
                    points: points.to_vec(),
                    ..Series::default()
                })
            })
            .collect()
    }
}

/// Why a text is not a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// A parsed script.
#[derive(Debug, Clone)]
pub struct Script {
    commands: Vec<Command>,
}

/// How one evaluation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The line of the `eval`, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What was other than expected; `None` if nothing was.
    pub failure: Option<String>,
}

#[derive(Debug, Clone)]
enum Command {
    Clear,
    Load(Vec<Loaded>),
    Eval(Box<Eval>),
}

#[derive(Debug, Clone)]
struct Eval {
    line: usize,
    query: String,
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

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Float(f64),
    Gap,
    /// A native histogram: known to be there, not yet computed with.
    Histogram,
}

type Read<T> = Result<T, String>;

/// One series of a `load`.
type Loaded = (Labels, Vec<(Time, f64)>);

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ScriptError`] with the line that cannot be read. A query that does not parse is no error of
    /// the script: an evaluation may expect it to fail.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        let mut commands = Vec::new();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut at = 0;
        while at < lines.len() {
            let line = at + 1;
            let head = lines[at];
            at += 1;
            if is_blank(head) {
                continue;
            }
            let body_start = at;
            while at < lines.len() && !is_blank(lines[at]) && !begins_command(lines[at]) {
                at += 1;
            }
            // A comment within a block reads as a blank line, and so ends it.
            let body: Vec<(usize, &str)> = (body_start..at).map(|i| (i + 1, lines[i])).collect();
            let failed = |line: usize, message: String| ScriptError { line, message };
            let word = head.split_whitespace().next().unwrap_or("");
            let command = match word {
                "clear" => Command::Clear,
                "load" | "load_with_nhcb" => {
                    let step = time_of(head[word.len()..].trim())
                        .map_err(|message| failed(line, message))?;
                    let mut series = Vec::new();
                    for (line, text) in body {
                        let read = load_line(text, Span(step.0));
                        series.extend(read.map_err(|message| failed(line, message))?);
                    }
                    Command::Load(series)
                }
                _ if word.starts_with("eval") => {
                    let mut eval = eval_line(line, head).map_err(|m| failed(line, m))?;
                    for (line, text) in body {
                        expectation(&mut eval, text).map_err(|m| failed(line, m))?;
                    }
                    Command::Eval(Box::new(eval))
                }
                _ => {
                    let message = format!("`{word}` is no command; expected load, clear or eval");
                    return Err(failed(line, message));
                }
            };
            commands.push(command);
        }
        Ok(Script { commands })
    }

    /// Runs all commands in order on an empty store, and judges every evaluation.
    #[must_use]
    pub fn run(&self, limits: &Limits) -> Vec<Outcome> {
        let (mut memory, mut outcomes) = (Memory::default(), Vec::new());
        for command in &self.commands {
            match command {
                Command::Clear => memory = Memory::default(),
                Command::Load(series) => {
                    for (labels, samples) in series {
                        for (time, value) in samples {
                            memory.push(labels.clone(), *time, *value);
                        }
                    }
                }
                Command::Eval(eval) => outcomes.push(Outcome {
                    line: eval.line,
                    query: eval.query.clone(),
                    failure: eval.judge(&memory, limits).err(),
                }),
            }
        }
        outcomes
    }
}

fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn begins_command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or("");
    let eval = ["eval", "eval_fail", "eval_warn", "eval_info", "eval_ordered"].contains(&word)
        && matches!(line.split_whitespace().nth(1), Some("instant" | "range"));
    eval || line == "clear" || (word.starts_with("load") && !line.contains('{'))
}

fn time_of(text: &str) -> Read<Time> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let seconds = parse_number(digits).filter(|seconds| seconds.is_finite());
    let seconds = seconds.ok_or_else(|| format!("`{text}` is neither seconds nor a duration"))?;
    let ms = (seconds * 1000.0).round() as i64;
    Ok(Time(if minus { -ms } else { ms }))
}

/// One series of a `load`, or nothing for a line of start timestamps.
fn load_line(text: &str, step: Span) -> Read<Option<Loaded>> {
    let (labels, rest) = labels_of(text)?;
    if rest.starts_with("@st") {
        return Ok(None);
    }
    let (mut time, mut samples) = (Time(0), Vec::new());
    for item in items(rest)? {
        if let Item::Float(value) = item {
            samples.push((time, value));
        }
        time += step;
    }
    Ok(Some((labels, samples)))
}

/// `name{label="value"}` at the start of `text`, and what follows.
fn labels_of(text: &str) -> Read<(Labels, &str)> {
    let mut end = text.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(text.len());
    if text[end..].starts_with('{') {
        let mut at = end + 1;
        loop {
            let rest = &text[at..];
            match rest.chars().next() {
                None => return Err(format!("`{text}` has no closing brace")),
                Some('}') => break,
                Some('"' | '\'' | '`') => {
                    at = unquote(text, at).map_err(|error| error.message)?.1;
                }
                Some(c) => at += c.len_utf8(),
            }
        }
        end = at + 1;
    }
    let lexemes = lex(&text[..end]).map_err(|error| error.message)?;
    let mut pairs: Vec<(String, String)> = Vec::new();
    let tokens: Vec<Token> = lexemes.into_iter().map(|lexeme| lexeme.token).collect();
    let mut rest = tokens.as_slice();
    let bad = || format!("`{}` is no series", &text[..end]);
    if let [Token::Word(name), tail @ ..] = rest {
        pairs.push((Labels::NAME.to_owned(), name.clone()));
        rest = tail;
    }
    if let [Token::Sign("{"), tail @ ..] = rest {
        rest = tail;
        loop {
            rest = match rest {
                [Token::Sign("}"), ..] => break,
                [Token::Sign(","), tail @ ..] => tail,
                [
                    Token::Word(name) | Token::Text(name),
                    Token::Sign("="),
                    Token::Text(value),
                    tail @ ..,
                ] => {
                    pairs.push((name.clone(), value.clone()));
                    tail
                }
                [Token::Text(name), tail @ ..] => {
                    pairs.push((Labels::NAME.to_owned(), name.clone()));
                    tail
                }
                _ => return Err(bad()),
            };
        }
    }
    let after = text[end..].strip_prefix('@').map_or(text[end..].trim(), |_| &text[end..]);
    Ok((pairs.into_iter().collect(), after))
}

/// Values in the scripts' notation.
fn items(text: &str) -> Read<Vec<Item>> {
    let mut all = Vec::new();
    let (mut rest, mut word) = (text, String::new());
    // Histograms hold blanks; they end a word only outside `{{…}}`.
    let mut inside = false;
    loop {
        if !inside && rest.starts_with("{{") {
            inside = true;
        } else if inside && rest.starts_with("}}") {
            inside = false;
            word.push_str("}}");
            rest = &rest[2..];
            continue;
        }
        match rest.chars().next() {
            Some(c) if inside || !c.is_whitespace() => {
                word.push(c);
                rest = &rest[c.len_utf8()..];
            }
            other => {
                if !word.is_empty() {
                    expand(&word, &mut all)?;
                    word.clear();
                }
                let Some(blank) = other else { return Ok(all) };
                rest = &rest[blank.len_utf8()..];
            }
        }
    }
}

/// One word: a value, or several in short.
fn expand(word: &str, all: &mut Vec<Item>) -> Read<()> {
    let bad = || format!("`{word}` is no value");
    let (body, times) = match word.rsplit_once('x') {
        Some((body, times)) if times.bytes().all(|b| b.is_ascii_digit()) && !times.is_empty() => {
            (body, Some(times.parse::<usize>().map_err(|_| bad())?))
        }
        _ => (word, None),
    };
    if times.is_some_and(|times| times > REPEAT_MAX) {
        return Err(format!("`{word}` stands for more than {REPEAT_MAX} samples"));
    }
    let count = times.map_or(1, |times| times + 1);
    match body {
        "_" => all.extend(std::iter::repeat_n(Item::Gap, times.unwrap_or(1))),
        "stale" => all.extend(std::iter::repeat_n(Item::Float(stale_marker()), count)),
        _ if body.starts_with("{{") => all.extend(std::iter::repeat_n(Item::Histogram, count)),
        _ => {
            if let Some(value) = number(body) {
                all.extend(std::iter::repeat_n(Item::Float(value), count));
                return Ok(());
            }
            let (from, step) = body
                .char_indices()
                .skip(1)
                .filter(|(_, c)| matches!(c, '+' | '-'))
                .find_map(|(at, _)| Some((number(&body[..at])?, number(&body[at..])?)))
                .ok_or_else(bad)?;
            let mut value = from;
            for _ in 0..count {
                all.push(Item::Float(value));
                value += step;
            }
        }
    }
    Ok(())
}

fn number(text: &str) -> Option<f64> {
    let (minus, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    // Durations are no values: only numbers proper.
    let plain = digits.parse::<f64>().ok().or_else(|| parse_number(digits))?;
    Some(if minus { -plain } else { plain })
}

fn eval_line(line: usize, head: &str) -> Read<Eval> {
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
fn expectation(eval: &mut Eval, text: &str) -> Read<()> {
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
    fn judge(&self, memory: &Memory, limits: &Limits) -> Result<(), String> {
        let expr = match Expr::parse(&self.query) {
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
                let point = series.points.iter().find(|point| point.time == at)?;
                Some((series.labels, point.value))
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
                vector.iter().map(|sample| (sample.labels.clone(), sample.value)).collect(),
            ),
        }
    }

    fn check_vector(&self, vector: Vec<(Labels, f64)>) -> Result<(), String> {
        if self.scalar.is_some() {
            return Err("expected a scalar, got a vector".to_owned());
        }
        let mut wanted: Vec<(&Labels, Item)> = Vec::new();
        for (labels, items) in &self.series {
            match items.as_slice() {
                [item] => wanted.push((labels, *item)),
                _ => return Err(format!("{labels} needs exactly one expected value")),
            }
        }
        let shown = || {
            let shown: Vec<String> =
                vector.iter().take(10).map(|(l, v)| format!("{l} {}", format_value(*v))).collect();
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
            same(labels, item, Item::Float(*value))?;
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
            let mut points: BTreeMap<Time, f64> =
                got.points.iter().map(|point| (point.time, point.value)).collect();
            let mut time = start;
            for item in items {
                let found = points.remove(&time).map_or(Item::Gap, Item::Float);
                same(labels, *item, found).map_err(|why| format!("{why} at {time:?}"))?;
                time += step;
            }
            if let Some((time, value)) = points.first_key_value() {
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

fn same(labels: &Labels, wanted: Item, got: Item) -> Result<(), String> {
    match (wanted, got) {
        (Item::Gap, Item::Gap) => Ok(()),
        (Item::Float(wanted), Item::Float(got)) if nearly(wanted, got) => Ok(()),
        (wanted, got) => Err(format!("{labels}: expected {}, got {}", shown(wanted), shown(got))),
    }
}

fn shown(item: Item) -> String {
    match item {
        Item::Float(value) => format_value(value),
        Item::Gap => "nothing".to_owned(),
        Item::Histogram => "a native histogram".to_owned(),
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
