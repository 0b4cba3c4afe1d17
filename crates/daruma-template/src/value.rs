//! A value of the template language. What holds others is shared and knows its weight, so that no
//! template builds more than it could print.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::Labels;

use crate::format::float;
use crate::time::{Moment, go_duration};

/// Bytes that a value may print as, about.
pub(crate) const WEIGHT_MAX: usize = 1 << 20;
/// Lists within lists.
const DEPTH_MAX: usize = 50;

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// `map[string]string`; in notifications with methods.
    Labels(Labels),
    List(Arc<List>),
    /// A result of `query`.
    Sample(Labels, f64),
    /// The result of `args` or `dict`.
    Map(Arc<Map>),
    /// A name and a value of a label set.
    Pair(Arc<(String, String)>),
    Struct(Arc<Struct>),
    Time(Moment),
    /// A length of time in nanoseconds.
    Span(i64),
    /// A text that its author vouches for in one context.
    Safe(Safe, String),
    /// `.` at the top of a rule's template.
    Root,
}

/// Where a vouched-for text may stand as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safe {
    Html,
    Url,
    Json,
}

/// What kind of list it is, by which it has methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Samples,
    Texts,
    Pairs,
    Alerts,
    Any,
}

impl Kind {
    /// What was found or told may be more than what a template makes.
    fn weight_max(self) -> usize {
        if matches!(self, Kind::Samples | Kind::Alerts) { 16 * WEIGHT_MAX } else { WEIGHT_MAX }
    }
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) items: Vec<Value>,
    pub(crate) kind: Kind,
    weight: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) items: BTreeMap<String, Value>,
    weight: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) kind: &'static str,
    pub(crate) fields: Vec<(&'static str, Value)>,
}

fn measured<'a>(
    items: impl Iterator<Item = &'a Value>,
    weight_max: usize,
) -> Result<(usize, usize), String> {
    let (mut weight, mut depth) = (2_usize, 0);
    for item in items {
        weight = weight.saturating_add(item.weight()).saturating_add(8);
        depth = depth.max(item.depth());
    }
    if weight > weight_max {
        return Err(format!("a list of more than {weight_max} bytes"));
    }
    if depth >= DEPTH_MAX {
        return Err(format!("lists nested deeper than {DEPTH_MAX}"));
    }
    Ok((weight, depth + 1))
}

impl Value {
    pub(crate) fn list(kind: Kind, items: Vec<Value>) -> Result<Value, String> {
        let (weight, depth) = measured(items.iter(), kind.weight_max())?;
        Ok(Value::List(Arc::new(List { items, kind, weight, depth })))
    }

    pub(crate) fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Value, String> {
        Value::list(Kind::Texts, texts.map(|text| Value::Text(text.to_owned())).collect())
    }

    pub(crate) fn map(items: BTreeMap<String, Value>) -> Result<Value, String> {
        let (mut weight, depth) = measured(items.values(), WEIGHT_MAX)?;
        weight = items.keys().fold(weight, |sum, key| sum.saturating_add(key.len()));
        if weight > WEIGHT_MAX {
            return Err(format!("a map of more than {WEIGHT_MAX} bytes"));
        }
        Ok(Value::Map(Arc::new(Map { items, weight, depth })))
    }

    pub(crate) fn pair(name: &str, value: &str) -> Value {
        Value::Pair(Arc::new((name.to_owned(), value.to_owned())))
    }

    /// About as many bytes as it prints as.
    pub(crate) fn weight(&self) -> usize {
        let of = |labels: &Labels| labels.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        match self {
            Value::Text(text) | Value::Safe(_, text) => text.len(),
            Value::Labels(labels) | Value::Sample(labels, _) => of(labels),
            Value::List(list) => list.weight,
            Value::Map(map) => map.weight,
            Value::Pair(pair) => pair.0.len() + pair.1.len() + 4,
            Value::Struct(object) => {
                let weights = object.fields.iter().map(|(name, value)| name.len() + value.weight());
                weights.fold(2, usize::saturating_add)
            }
            _ => 24,
        }
    }

    pub(crate) fn weight_max(&self) -> usize {
        match self {
            Value::List(list) => list.kind.weight_max(),
            _ => WEIGHT_MAX,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(list) => list.depth,
            Value::Map(map) => map.depth,
            Value::Struct(_) => 4,
            _ => 0,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) | Value::Safe(..) => "string",
            Value::Labels(_) => "map[string]string",
            Value::List(list) => match list.kind {
                Kind::Samples => "template.queryResult",
                Kind::Texts => "[]string",
                Kind::Pairs => "template.Pairs",
                Kind::Alerts => "template.Alerts",
                Kind::Any => "[]interface {}",
            },
            Value::Sample(..) => "*template.sample",
            Value::Map(_) => "map[string]interface {}",
            Value::Pair(_) => "template.Pair",
            Value::Struct(object) => object.kind,
            Value::Time(_) => "time.Time",
            Value::Span(_) => "time.Duration",
            Value::Root => "struct",
        }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Safe(_, text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(truth) => *truth,
            Value::Int(number) | Value::Span(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) | Value::Safe(_, text) => !text.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.items.is_empty(),
            // Structs are always true in Go, and so is a time.
            Value::Sample(..)
            | Value::Root
            | Value::Pair(_)
            | Value::Struct(_)
            | Value::Time(_) => true,
        }
    }

    /// As `%v` prints it; `methods`: label sets and pairs print themselves.
    pub(crate) fn print(&self, methods: bool) -> String {
        let map = |pairs: Vec<String>| format!("map[{}]", pairs.join(" "));
        match self {
            Value::Nil => "<nil>".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => float(*number),
            Value::Text(text) | Value::Safe(_, text) => text.clone(),
            Value::Labels(labels) if methods => said(sorted(labels).into_iter()),
            Value::Labels(labels) => {
                map(labels.iter().map(|(name, value)| format!("{name}:{value}")).collect())
            }
            Value::List(list) if list.kind == Kind::Pairs => {
                said(list.items.iter().filter_map(|item| match item {
                    Value::Pair(pair) => Some((pair.0.as_str(), pair.1.as_str())),
                    _ => None,
                }))
            }
            Value::List(list) => {
                let items: Vec<String> = list.items.iter().map(|v| v.print(methods)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Sample(labels, value) => {
                let labels = Value::Labels(labels.clone()).print(methods);
                format!("&{{{labels} {}}}", float(*value))
            }
            Value::Map(values) => map(values
                .items
                .iter()
                .map(|(name, value)| format!("{name}:{}", value.print(methods)))
                .collect()),
            Value::Pair(pair) => format!("{{{} {}}}", pair.0, pair.1),
            Value::Struct(object) => {
                let fields: Vec<String> =
                    object.fields.iter().map(|(_, value)| value.print(methods)).collect();
                format!("{{{}}}", fields.join(" "))
            }
            Value::Time(moment) => moment.to_string(),
            Value::Span(nanos) => go_duration(*nanos),
            Value::Root => "{}".to_owned(),
        }
    }
}

/// Pairs by name, `alertname` before all others.
pub(crate) fn sorted(labels: &Labels) -> Vec<(&str, &str)> {
    let (first, rest): (Vec<_>, Vec<_>) = labels.iter().partition(|(name, _)| *name == "alertname");
    first.into_iter().chain(rest).collect()
}

fn said<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(", ")
}
