//! The functions that all templates have: Go's own, and those that rules and notifications share.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::eval::World;
use crate::format::printf;
use crate::text::{escape_html, escape_js, humanize_duration, query_escape};
use crate::value::{Value, WEIGHT_MAX};
use crate::{notice_functions, rule_functions};

/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Patterns compiled by one expansion.
const PATTERNS_MAX: usize = 100;

/// Whose functions and variables a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Rule,
    Notice,
}

impl Dialect {
    /// The variables that are there before the template begins; the root is the empty name.
    pub(crate) fn variables(self) -> &'static [&'static str] {
        match self {
            Dialect::Rule => &["", "labels", "externalLabels", "externalURL", "value"],
            Dialect::Notice => &[""],
        }
    }
}

const SHARED: &[&str] = &[
    "and",
    "call",
    "eq",
    "ge",
    "gt",
    "html",
    "index",
    "js",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
    "urlquery",
    "humanizeDuration",
    "match",
    "reReplaceAll",
    "toLower",
    "toUpper",
];

pub(crate) fn is_known(name: &str, dialect: Dialect) -> bool {
    SHARED.contains(&name)
        || match dialect {
            Dialect::Rule => rule_functions::KNOWN.contains(&name),
            Dialect::Notice => notice_functions::KNOWN.contains(&name),
        }
}

/// Patterns compiled so far, as a loop uses the same again and again.
#[derive(Default)]
pub(crate) struct Patterns(BTreeMap<String, regex::Regex>);

impl Patterns {
    fn get(&mut self, text: &str) -> Result<&regex::Regex, String> {
        if !self.0.contains_key(text) {
            if self.0.len() >= PATTERNS_MAX {
                return Err(format!("more than {PATTERNS_MAX} different patterns"));
            }
            let pattern = regex::RegexBuilder::new(&daruma_model::go_pattern(text))
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .map_err(|error| format!("the pattern {text:?} cannot be used: {error}"))?;
            self.0.insert(text.to_owned(), pattern);
        }
        self.0.get(text).ok_or_else(|| "the pattern is lost".to_owned())
    }
}

/// What a function was given.
pub(crate) struct Args<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: Vec<Value>,
}

impl Args<'_> {
    pub(crate) fn count(&self, least: usize, most: usize) -> Result<(), String> {
        let got = self.values.len();
        if (least..=most).contains(&got) {
            return Ok(());
        }
        Err(format!("wrong number of args for {}: want {least} got {got}", self.name))
    }

    pub(crate) fn text(&self, i: usize) -> Result<&str, String> {
        match self.values.get(i) {
            Some(value) => value.as_text().ok_or_else(|| {
                format!("wrong type for value; expected string; got {}", value.type_name())
            }),
            None => Err(format!("wrong number of args for {}", self.name)),
        }
    }

    pub(crate) fn of_text(&self, change: fn(&str) -> String) -> Result<Value, String> {
        self.count(1, 1)?;
        Ok(Value::Text(change(self.text(0)?)))
    }

    pub(crate) fn of_float(&self, change: fn(f64) -> String) -> Result<Value, String> {
        self.count(1, 1)?;
        Ok(Value::Text(change(to_float(self.values.first())?)))
    }
}

pub(crate) fn call(
    name: &str,
    values: Vec<Value>,
    world: World<'_>,
    patterns: &mut Patterns,
) -> Result<Value, String> {
    let args = Args { name, values };
    let methods = world.has_methods();
    let given = &args.values;
    match name {
        "not" => {
            args.count(1, 1)?;
            Ok(Value::Bool(!given.first().is_some_and(Value::truth)))
        }
        "eq" => {
            let (first, others) = given.split_first().ok_or("missing argument for comparison")?;
            if others.is_empty() {
                return Err("missing argument for comparison".to_owned());
            }
            for other in others {
                if equal(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "ne" => {
            args.count(2, 2)?;
            Ok(Value::Bool(!equal(&given[0], &given[1])?))
        }
        "lt" | "le" | "gt" | "ge" => {
            args.count(2, 2)?;
            let order = compare(&given[0], &given[1])?;
            Ok(Value::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        "len" => {
            args.count(1, 1)?;
            let length = match &given[0] {
                Value::Text(text) | Value::Safe(_, text) => text.len(),
                Value::Labels(labels) => labels.len(),
                Value::List(list) => list.items.len(),
                Value::Map(map) => map.items.len(),
                other => return Err(format!("len of type {}", other.type_name())),
            };
            Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
        }
        "index" => index(given),
        "slice" => slice(given),
        "print" => Ok(Value::Text(print(given, methods))),
        "println" => {
            let words: Vec<String> = given.iter().map(|value| value.print(methods)).collect();
            Ok(Value::Text(words.join(" ") + "\n"))
        }
        "printf" => {
            let values = given.get(1..).unwrap_or_default();
            printf(args.text(0)?, values, methods).map(Value::Text)
        }
        "html" => Ok(Value::Text(escape_html(&print(given, methods)))),
        "js" => Ok(Value::Text(escape_js(&print(given, methods)))),
        "urlquery" => Ok(Value::Text(query_escape(&print(given, methods)))),
        "toUpper" => args.of_text(str::to_uppercase),
        "toLower" => args.of_text(str::to_lowercase),
        "humanizeDuration" => args.of_float(humanize_duration),
        "match" => {
            args.count(2, 2)?;
            Ok(Value::Bool(patterns.get(args.text(0)?)?.is_match(args.text(1)?)))
        }
        "reReplaceAll" => {
            args.count(3, 3)?;
            let pattern = patterns.get(args.text(0)?)?;
            replace_all(pattern, args.text(1)?, args.text(2)?).map(Value::Text)
        }
        _ => match world {
            World::Rule(scene) => rule_functions::call(args, scene),
            World::Notice(data) => notice_functions::call(args, data),
        },
    }
}

fn replace_all(pattern: &regex::Regex, with: &str, text: &str) -> Result<String, String> {
    let (mut out, mut last) = (String::new(), 0);
    for found in pattern.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[last..whole.start()]);
        found.expand(with, &mut out);
        last = whole.end();
        if out.len() > WEIGHT_MAX {
            return Err(format!("reReplaceAll makes more than {WEIGHT_MAX} bytes"));
        }
    }
    out.push_str(&text[last..]);
    Ok(out)
}

pub(crate) fn to_float(value: Option<&Value>) -> Result<f64, String> {
    match value {
        Some(Value::Float(number)) => Ok(*number),
        Some(Value::Int(number)) => Ok(*number as f64),
        Some(Value::Span(nanos)) => Ok(*nanos as f64 / 1e9),
        Some(Value::Text(text) | Value::Safe(_, text)) => text
            .parse()
            .map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        Some(other) => Err(format!("can't convert {} to float", other.type_name())),
        None => Err("wrong number of args: want 1 got 0".to_owned()),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    if let (Some(a), Some(b)) = (a.as_text(), b.as_text()) {
        return Ok(a == b);
    }
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a) | Value::Span(a), Value::Int(b) | Value::Span(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Labels(_) | Value::List(_) | Value::Map(_), _)
        | (_, Value::Labels(_) | Value::List(_) | Value::Map(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    if let (Some(a), Some(b)) = (a.as_text(), b.as_text()) {
        return Ok(Some(a.cmp(b)));
    }
    match (a, b) {
        (Value::Int(a) | Value::Span(a), Value::Int(b) | Value::Span(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (
            Value::Int(_) | Value::Span(_) | Value::Float(_) | Value::Text(_) | Value::Safe(..),
            _,
        ) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let (first, keys) = args.split_first().ok_or("index of untyped nil")?;
    let mut value = first.clone();
    for key in keys {
        let place = |length: usize| {
            let i = key.as_int().ok_or(format!("cannot index with type {}", key.type_name()))?;
            let i = usize::try_from(i).ok().filter(|i| *i < length);
            i.ok_or("index out of range".to_owned())
        };
        value = match (&value, key.as_text()) {
            (Value::Labels(labels), Some(name)) => Value::Text(labels.get(name).to_owned()),
            (Value::Map(map), Some(name)) => map.items.get(name).cloned().unwrap_or(Value::Nil),
            (Value::List(list), _) => {
                let i = place(list.items.len())?;
                list.items.get(i).cloned().unwrap_or(Value::Nil)
            }
            (Value::Text(text) | Value::Safe(_, text), _) => {
                let i = place(text.len())?;
                Value::Int(i64::from(text.as_bytes()[i]))
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let (first, bounds) = args.split_first().ok_or("slice of untyped nil")?;
    let length = match first {
        Value::Text(text) | Value::Safe(_, text) => text.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 2 {
        return Err("too many slice indexes".to_owned());
    }
    let bound = |i: usize, default: usize| match bounds.get(i) {
        None => Ok(default),
        Some(value) => value
            .as_int()
            .and_then(|i| usize::try_from(i).ok())
            .filter(|i| *i <= length)
            .ok_or("index out of range".to_owned()),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match first {
        // Go cuts bytes; what is cut within a character is shown as broken.
        Value::Text(text) | Value::Safe(_, text) => {
            Ok(Value::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()))
        }
        Value::List(list) => Value::list(list.kind, list.items[from..to].to_vec()),
        _ => Ok(Value::Nil),
    }
}

/// Go's `Sprint`: a blank between two operands of which neither is a text.
fn print(args: &[Value], methods: bool) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        let is_text = |value: &Value| value.as_text().is_some();
        if i > 0 && !is_text(value) && !is_text(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print(methods));
    }
    out
}
