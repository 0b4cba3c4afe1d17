//! The notation of series: `name{label="value"} 1 2+3x4 _ stale {{count:1 sum:2}}x3`.
//!
//! It stands apart because unit tests of rules write their series in it, too. Nothing here evaluates.

use std::sync::Arc;

use daruma_model::{Buckets, Histogram, Labels, ResetHint, Span, Time, stale_marker};

use crate::histogram::Body;
use crate::lex::{Token, lex, unquote};
use crate::number::parse_number;

/// The most samples one item of a script may stand for, so that `1x999999999` fills no memory.
const REPEAT_MAX: usize = 1_000_000;

/// The most numbers the histograms of one item may hold together.
const NUMBERS_MAX: usize = 10_000_000;

/// One value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A number; `stale` is the staleness marker.
    Float(f64),
    /// No sample.
    Gap,
    /// A native histogram.
    Histogram {
        /// What was written.
        histogram: Arc<Histogram>,
        /// Whether it was written whether the counts began anew.
        hinted: bool,
    },
}

pub(super) type Read<T> = Result<T, String>;

pub(super) fn time_of(text: &str) -> Read<Time> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let seconds = parse_number(digits).filter(|seconds| seconds.is_finite());
    let seconds = seconds.ok_or_else(|| format!("`{text}` is neither seconds nor a duration"))?;
    let ms = (seconds * 1000.0).round() as i64;
    Ok(Time(if minus { -ms } else { ms }))
}

/// Reads `name{label="value"}` at the start of `text`, and what follows.
///
/// # Errors
/// What is wrong with it, in words.
pub fn labels_of(text: &str) -> Read<(Labels, &str)> {
    let mut end =
        text.find(|c: char| matches!(c, '{' | '@') || c.is_whitespace()).unwrap_or(text.len());
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

/// Reads values, separated by blanks.
///
/// # Errors
/// What is wrong with them, in words.
pub fn items(text: &str) -> Read<Vec<Item>> {
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

/// How often a word repeats what stands before its `x`, and that.
fn repeated(word: &str) -> Read<(&str, Option<usize>)> {
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
    Ok((body, times))
}

/// `from`, and the step after its sign: `1+2`, `-30s-1m`.
fn stepped(body: &str, number: fn(&str) -> Option<f64>) -> Option<(f64, f64)> {
    body.char_indices()
        .skip(1)
        .filter(|(_, c)| matches!(c, '+' | '-'))
        .find_map(|(at, _)| Some((number(&body[..at])?, number(&body[at..])?)))
}

/// One word: a value, or several in short.
fn expand(word: &str, all: &mut Vec<Item>) -> Read<()> {
    let (body, times) = repeated(word)?;
    let count = times.map_or(1, |times| times + 1);
    match body {
        "_" => all.extend(std::iter::repeat_n(Item::Gap, times.unwrap_or(1))),
        "stale" => all.extend(std::iter::repeat_n(Item::Float(stale_marker()), count)),
        _ if body.starts_with("{{") => histograms(body, count, all)?,
        _ => {
            if let Some(value) = number(body) {
                all.extend(std::iter::repeat_n(Item::Float(value), count));
                return Ok(());
            }
            let bad = || format!("`{word}` is no value");
            let (from, step) = stepped(body, number).ok_or_else(bad)?;
            let mut value = from;
            for _ in 0..count {
                all.push(Item::Float(value));
                value += step;
            }
        }
    }
    Ok(())
}

/// Reads start times: offsets from the times of samples, in the notation of values.
pub(super) fn offsets(text: &str) -> Read<Vec<Option<Span>>> {
    let mut all = Vec::new();
    for word in text.split_whitespace() {
        let (body, times) = repeated(word)?;
        let count = times.map_or(1, |times| times + 1);
        if body == "_" {
            all.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let bad = || format!("`{word}` is no offset");
        let (from, step) = match seconds(body) {
            Some(from) => (from, 0.0),
            None => stepped(body, seconds).ok_or_else(bad)?,
        };
        let ms = |seconds: f64| Span((seconds * 1000.0).round() as i64);
        let (mut offset, step) = (ms(from), ms(step));
        for _ in 0..count {
            all.push(Some(offset));
            offset = Span(offset.0.saturating_add(step.0));
        }
    }
    Ok(all)
}

fn seconds(text: &str) -> Option<f64> {
    let (minus, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let seconds = parse_number(digits).filter(|seconds| seconds.is_finite())?;
    Some(if minus { -seconds } else { seconds })
}

/// `{{…}}`, repeated, or stepped by a second one.
fn histograms(body: &str, count: usize, all: &mut Vec<Item>) -> Read<()> {
    let bad = || format!("`{body}` is no histogram");
    let end = body.find("}}").ok_or_else(bad)? + 2;
    let (first, hinted) = histogram(&body[..end])?;
    let (factor, step) = match body.as_bytes().get(end) {
        None => (0.0, None),
        Some(b'+') => (1.0, Some(histogram(&body[end + 1..])?.0)),
        Some(b'-') => (-1.0, Some(histogram(&body[end + 1..])?.0)),
        Some(_) => return Err(bad()),
    };
    let size = first.buckets() + step.as_ref().map_or(0, Histogram::buckets);
    if size.saturating_mul(count) > NUMBERS_MAX {
        return Err(format!("`{body}` stands for more than {NUMBERS_MAX} numbers"));
    }
    let Some(step) = step else {
        let item = Item::Histogram { histogram: Arc::new(first), hinted };
        all.extend(std::iter::repeat_n(item, count));
        return Ok(());
    };
    let mut value: Body<f64> = Body::from(&first);
    for i in 0..count {
        if i > 0 && value.add(&step, factor).is_err() {
            return Err(format!("`{body}` mixes exponential and custom buckets"));
        }
        let histogram = if i == 0 { first.clone() } else { value.clone().finish() };
        all.push(Item::Histogram { histogram: Arc::new(histogram), hinted });
    }
    Ok(())
}

/// One `{{key:value …}}`, and whether it says if the counts began anew.
fn histogram(text: &str) -> Read<(Histogram, bool)> {
    let bad = || format!("`{text}` is no histogram");
    let inner = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let mut rest = inner.ok_or_else(bad)?.trim();
    let mut histogram = Histogram::default();
    let (mut hinted, mut offsets) = (false, [0, 0]);
    let mut counts = [Vec::new(), Vec::new()];
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(bad)?;
        let after = after.trim_start();
        let value = if let Some(list) = after.strip_prefix('[') {
            let end = list.find(']').ok_or_else(bad)?;
            rest = list[end + 1..].trim_start();
            &list[..end]
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            rest = after[end..].trim_start();
            &after[..end]
        };
        let one = || number(value).ok_or_else(bad);
        let whole = || value.parse::<i32>().map_err(|_| bad());
        let list = || -> Read<Vec<f64>> {
            value.split_whitespace().map(|word| number(word).ok_or_else(bad)).collect()
        };
        match key.trim() {
            "schema" => histogram.schema = value.parse().map_err(|_| bad())?,
            "sum" => histogram.sum = one()?,
            "count" => histogram.count = one()?,
            "z_bucket" => histogram.zero_count = one()?,
            "z_bucket_w" => histogram.zero_threshold = one()?,
            "buckets" => counts[0] = list()?,
            "n_buckets" => counts[1] = list()?,
            "offset" => offsets[0] = whole()?,
            "n_offset" => offsets[1] = whole()?,
            "custom_values" => histogram.custom_bounds = list()?.into(),
            "counter_reset_hint" => {
                hinted = true;
                histogram.hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    _ => {
                        return Err(format!(
                            "`{value}` is no hint; known are unknown, reset, not_reset and gauge"
                        ));
                    }
                };
            }
            other => return Err(format!("`{other}` is no part of a histogram")),
        }
    }
    let [positive, negative] = counts;
    let side = |offset: i32, counts: Vec<f64>| -> Buckets {
        (0_i32..).zip(counts).map(|(i, count)| (offset.saturating_add(i), count)).collect()
    };
    histogram.positive = side(offsets[0], positive);
    histogram.negative = side(offsets[1], negative);
    // Counts may be negative here, or not add up: expected results are written in this notation, too.
    let shape = Histogram { hint: ResetHint::Gauge, ..histogram.clone() };
    match shape.validate() {
        Ok(()) | Err(daruma_model::HistogramError::Count { .. }) => Ok((histogram, hinted)),
        Err(error) => Err(format!("`{text}`: {error}")),
    }
}

pub(super) fn number(text: &str) -> Option<f64> {
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
