//! What label sets, lists, times and lengths of time in notifications can be asked for.

use std::collections::BTreeSet;

use daruma_model::Time;

use crate::time::{DAYS, MONTHS, Moment, ZERO, go_duration};
use crate::value::{Kind, Value, sorted};

/// The method `name` of `on`, or `None` if it has no such method.
pub(crate) fn call(on: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    match on {
        Value::Labels(_) => of_labels(on, name, args),
        Value::List(list) if list.kind == Kind::Pairs => of_pairs(&list.items, on, name, args),
        Value::List(list) if list.kind == Kind::Alerts => {
            let wanted = match name {
                "Firing" => "firing",
                "Resolved" => "resolved",
                _ => return None,
            };
            let of = |alert: &&Value| match alert {
                Value::Struct(alert) => alert
                    .fields
                    .iter()
                    .any(|(name, value)| *name == "Status" && value.as_text() == Some(wanted)),
                _ => false,
            };
            let kept = list.items.iter().filter(of).cloned().collect();
            Some(none(args).and_then(|()| Value::list(Kind::Alerts, kept)))
        }
        Value::Time(moment) => of_time(moment, name, args),
        Value::Span(nanos) => of_span(*nanos, name, args),
        _ => None,
    }
}

fn none(args: &[Value]) -> Result<(), String> {
    if args.is_empty() { Ok(()) } else { Err("too many arguments for a method".to_owned()) }
}

fn of_labels(on: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let Value::Labels(labels) = on else { return None };
    let pairs = sorted(labels);
    Some(match name {
        "SortedPairs" => none(args).and_then(|()| {
            let pairs = pairs.iter().map(|(name, value)| Value::pair(name, value));
            Value::list(Kind::Pairs, pairs.collect())
        }),
        "Names" => none(args).and_then(|()| Value::texts(pairs.iter().map(|(name, _)| *name))),
        "Values" => none(args).and_then(|()| Value::texts(pairs.iter().map(|(_, value)| *value))),
        "String" => none(args).map(|()| Value::Text(on.print(true))),
        "Remove" => match args {
            [Value::List(list)] => {
                let gone: BTreeSet<&str> = list.items.iter().filter_map(Value::as_text).collect();
                Ok(Value::Labels(labels.filtered(|name| !gone.contains(name))))
            }
            _ => Err("Remove takes one list of names".to_owned()),
        },
        _ => return None,
    })
}

fn of_pairs(
    items: &[Value],
    on: &Value,
    name: &str,
    args: &[Value],
) -> Option<Result<Value, String>> {
    let each = |of: fn(&(String, String)) -> &str| {
        none(args).and_then(|()| {
            Value::texts(items.iter().filter_map(|item| match item {
                Value::Pair(pair) => Some(of(pair)),
                _ => None,
            }))
        })
    };
    Some(match name {
        "Names" => each(|pair| &pair.0),
        "Values" => each(|pair| &pair.1),
        "String" => none(args).map(|()| Value::Text(on.print(true))),
        _ => return None,
    })
}

fn of_time(moment: &Moment, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let millis = moment.time.0;
    let other = || match args {
        [Value::Time(other)] => Ok(other.time),
        _ => Err(format!("{name} takes one time")),
    };
    let plain = |value: Value| none(args).map(|()| value);
    let number = |number: i64| plain(Value::Int(number));
    let parts = moment.parts();
    Some(match name {
        "Format" => match args {
            [layout] if layout.as_text().is_some() => {
                Ok(Value::Text(moment.format(layout.as_text().unwrap_or_default())))
            }
            _ => Err("Format takes one layout".to_owned()),
        },
        "String" => plain(Value::Text(moment.to_string())),
        "Unix" => number(millis.div_euclid(1000)),
        "UnixMilli" => number(millis),
        "UnixNano" => number(millis.saturating_mul(1_000_000)),
        "Year" => number(parts.year),
        "Month" => plain(Value::Text(MONTHS[parts.month - 1].to_owned())),
        "Day" => number(parts.day),
        "YearDay" => number(parts.day_of_year),
        "Hour" => number(parts.hour),
        "Minute" => number(parts.minute),
        "Second" => number(parts.second),
        "Weekday" => plain(Value::Text(DAYS[parts.weekday].to_owned())),
        "IsZero" => plain(Value::Bool(moment.time == ZERO)),
        "UTC" | "Local" => plain(Value::Time(Moment::utc(moment.time))),
        "Before" => other().map(|other| Value::Bool(moment.time < other)),
        "After" => other().map(|other| Value::Bool(moment.time > other)),
        "Equal" => other().map(|other| Value::Bool(moment.time == other)),
        "Sub" => other()
            .map(|other| Value::Span(millis.saturating_sub(other.0).saturating_mul(1_000_000))),
        "Add" => {
            // A constant such as `28800e9` is a whole number to Go.
            let nanos = match args {
                [Value::Span(nanos) | Value::Int(nanos)] => *nanos,
                [Value::Float(nanos)] if nanos.fract() == 0.0 => *nanos as i64,
                _ => return Some(Err("Add takes one length of time in nanoseconds".to_owned())),
            };
            let time = Time(millis.saturating_add(nanos / 1_000_000));
            Ok(Value::Time(Moment { time, zone: moment.zone.clone() }))
        }
        _ => return None,
    })
}

fn of_span(nanos: i64, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let per = |unit: f64| none(args).map(|()| Value::Float(nanos as f64 / unit));
    let unit = || match args {
        [Value::Span(unit) | Value::Int(unit)] if *unit > 0 => Ok(*unit),
        [Value::Float(unit)] if *unit >= 1.0 => Ok(*unit as i64),
        _ => Err(format!("{name} takes one length of time in nanoseconds")),
    };
    Some(match name {
        "Seconds" => per(1e9),
        "Minutes" => per(60e9),
        "Hours" => per(3600e9),
        "Milliseconds" => none(args).map(|()| Value::Int(nanos / 1_000_000)),
        "String" => none(args).map(|()| Value::Text(go_duration(nanos))),
        "Truncate" => unit().map(|unit| Value::Span(nanos - nanos % unit)),
        "Round" => unit().map(|unit| {
            let rest = (nanos % unit).abs();
            let down = nanos - nanos % unit;
            let away = rest.saturating_mul(2) >= unit;
            Value::Span(if away { down.saturating_add(unit * nanos.signum()) } else { down })
        }),
        _ => return None,
    })
}
