//! The functions that rule templates have: Go's own and Prometheus'.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use daruma_model::{Labels, Span};

use crate::Scene;
use crate::eval::Value;
use crate::format::{general, printf};

/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

const KNOWN: &[&str] = &[
    "and",
    "args",
    "call",
    "eq",
    "externalURL",
    "first",
    "ge",
    "graphLink",
    "gt",
    "html",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "index",
    "js",
    "label",
    "le",
    "len",
    "lt",
    "match",
    "ne",
    "not",
    "now",
    "or",
    "parseDuration",
    "pathPrefix",
    "print",
    "printf",
    "println",
    "query",
    "reReplaceAll",
    "safeHtml",
    "slice",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "tmpl",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "urlQueryEscape",
    "urlquery",
    "value",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

pub(super) fn call(name: &str, args: Vec<Value>, scene: &Scene<'_>) -> Result<Value, String> {
    let count = |least: usize, most: usize| {
        if (least..=most).contains(&args.len()) {
            Ok(())
        } else {
            Err(format!("wrong number of args for {name}: want {least} got {}", args.len()))
        }
    };
    let text = |i: usize| match args.get(i) {
        Some(Value::Text(text)) => Ok(text.clone()),
        Some(other) => {
            Err(format!("wrong type for value; expected string; got {}", other.type_name()))
        }
        None => Err(format!("wrong number of args for {name}")),
    };
    let of_text = |change: fn(&str) -> String| {
        count(1, 1)?;
        Ok(Value::Text(change(&text(0)?)))
    };
    let of_float = |change: fn(f64) -> String| {
        count(1, 1)?;
        Ok(Value::Text(change(to_float(args.first())?)))
    };
    match name {
        "not" => {
            count(1, 1)?;
            Ok(Value::Bool(!args.first().is_some_and(Value::truth)))
        }
        "eq" => {
            let (first, others) = args.split_first().ok_or("missing argument for comparison")?;
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
            count(2, 2)?;
            Ok(Value::Bool(!equal(&args[0], &args[1])?))
        }
        "lt" | "le" | "gt" | "ge" => {
            count(2, 2)?;
            let order = compare(&args[0], &args[1])?;
            Ok(Value::Bool(match name {
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        "len" => {
            count(1, 1)?;
            let length = match &args[0] {
                Value::Text(text) => text.len(),
                Value::Labels(labels) => labels.len(),
                Value::List(list) => list.len(),
                Value::Map(map) => map.len(),
                other => return Err(format!("len of type {}", other.type_name())),
            };
            Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
        }
        "index" => index(&args),
        "slice" => slice(&args),
        "print" => Ok(Value::Text(print(&args))),
        "println" => {
            let words: Vec<String> = args.iter().map(Value::print).collect();
            Ok(Value::Text(words.join(" ") + "\n"))
        }
        "printf" => Ok(Value::Text(printf(&text(0)?, args.get(1..).unwrap_or_default()))),
        "html" => Ok(Value::Text(escape_html(&print(&args)))),
        "js" => Ok(Value::Text(escape_js(&print(&args)))),
        "urlquery" => Ok(Value::Text(query_escape(&print(&args)))),
        "urlQueryEscape" => of_text(query_escape),
        "toUpper" => of_text(str::to_uppercase),
        "toLower" => of_text(str::to_lowercase),
        "title" => of_text(title),
        // What is shown as HTML is escaped where it is shown.
        "safeHtml" => of_text(str::to_owned),
        "stripPort" => of_text(strip_port),
        "stripDomain" => of_text(strip_domain),
        "humanize" => of_float(humanize),
        "humanize1024" => of_float(humanize_1024),
        "humanizeDuration" => of_float(humanize_duration),
        "humanizePercentage" => of_float(|value| general(value * 100.0, 4) + "%"),
        "humanizeTimestamp" => {
            count(1, 1)?;
            timestamp(to_float(args.first())?).map(Value::Text)
        }
        "externalURL" => Ok(Value::Text(scene.external_url.to_owned())),
        "pathPrefix" => {
            let after_scheme = scene.external_url.split_once("://").map_or("", |(_, rest)| rest);
            let path = after_scheme.find('/').map_or("", |at| &after_scheme[at..]);
            Ok(Value::Text(path.split(['?', '#']).next().unwrap_or("").to_owned()))
        }
        "graphLink" => of_text(|expr| format!("/graph?g0.expr={}&g0.tab=0", query_escape(expr))),
        "tableLink" => of_text(|expr| format!("/graph?g0.expr={}&g0.tab=1", query_escape(expr))),
        "match" => {
            count(2, 2)?;
            Ok(Value::Bool(pattern(&text(0)?)?.is_match(&text(1)?)))
        }
        "reReplaceAll" => {
            count(3, 3)?;
            let replaced =
                pattern(&text(0)?)?.replace_all(&text(2)?, text(1)?.as_str()).into_owned();
            Ok(Value::Text(replaced))
        }
        "parseDuration" => {
            count(1, 1)?;
            let (given, negative) = match text(0)?.strip_prefix('-') {
                Some(rest) => (rest.to_owned(), true),
                None => (text(0)?, false),
            };
            let span: Span =
                given.parse().map_err(|_| format!("not a valid duration string: {given:?}"))?;
            let seconds = span.as_secs_f64();
            Ok(Value::Float(if negative { -seconds } else { seconds }))
        }
        "args" => {
            let named = (0..).zip(args).map(|(i, value)| (format!("arg{i}"), value));
            Ok(Value::Map(named.collect::<BTreeMap<_, _>>()))
        }
        "query" => {
            count(1, 1)?;
            let query = scene.query.ok_or("queries cannot be asked here")?;
            let found = query(&text(0)?)?;
            Ok(Value::List(
                found.into_iter().map(|(labels, value)| Value::Sample(labels, value)).collect(),
            ))
        }
        "first" => match args.first() {
            Some(Value::List(list)) => {
                list.first().cloned().ok_or("first() called on vector with no elements".to_owned())
            }
            _ => Err("first needs the result of a query".to_owned()),
        },
        "label" => {
            count(2, 2)?;
            let name = text(0)?;
            sample(args.get(1)).map(|(labels, _)| Value::Text(labels.get(&name).to_owned()))
        }
        "value" => sample(args.first()).map(|(_, value)| Value::Float(value)),
        "strvalue" => {
            sample(args.first()).map(|(labels, _)| Value::Text(labels.get("__value__").to_owned()))
        }
        "sortByLabel" => {
            count(2, 2)?;
            let name = text(0)?;
            let Some(Value::List(mut list)) = args.into_iter().nth(1) else {
                return Err("sortByLabel needs the result of a query".to_owned());
            };
            let key = |value: &Value| match value {
                Value::Sample(labels, _) => labels.get(&name).to_owned(),
                _ => String::new(),
            };
            list.sort_by_cached_key(key);
            Ok(Value::List(list))
        }
        other => Err(format!("function {other:?} is not supported")),
    }
}

fn sample(value: Option<&Value>) -> Result<(&Labels, f64), String> {
    match value {
        Some(Value::Sample(labels, value)) => Ok((labels, *value)),
        _ => Err("expected a result of a query".to_owned()),
    }
}

fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("the pattern {text:?} cannot be used: {error}"))
}

fn to_float(value: Option<&Value>) -> Result<f64, String> {
    match value {
        Some(Value::Float(number)) => Ok(*number),
        Some(Value::Int(number)) => Ok(*number as f64),
        Some(Value::Text(text)) => text
            .parse()
            .map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        Some(other) => Err(format!("can't convert {} to float", other.type_name())),
        None => Err("wrong number of args: want 1 got 0".to_owned()),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
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
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Int(_) | Value::Float(_) | Value::Text(_), _) => {
            Err("incompatible types for comparison".to_owned())
        }
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
        value = match (&value, key) {
            (Value::Labels(labels), Value::Text(name)) => Value::Text(labels.get(name).to_owned()),
            (Value::Map(map), Value::Text(name)) => map.get(name).cloned().unwrap_or(Value::Nil),
            (Value::List(list), _) => {
                let i = place(list.len())?;
                list.get(i).cloned().unwrap_or(Value::Nil)
            }
            (Value::Text(text), _) => {
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
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
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
    Ok(match first {
        // Go cuts bytes; what is cut within a character is shown as broken.
        Value::Text(text) => {
            Value::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
        }
        Value::List(list) => Value::List(list[from..to].to_vec()),
        _ => Value::Nil,
    })
}

/// Go's `Sprint`: a blank between two operands of which neither is a text.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if i > 0 && !is_text(value) && !is_text(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print());
    }
    out
}

fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn query_escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The first letter of each word in capitals, the others as they are.
fn title(text: &str) -> String {
    let mut previous = ' ';
    let mut out = String::new();
    for c in text.chars() {
        let starts = !(previous.is_alphanumeric() || matches!(previous, '_' | '\''));
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        previous = c;
    }
    out
}

fn strip_port(text: &str) -> String {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) if !port.contains(':') => host.to_owned(),
            _ => text.to_owned(),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains([':', '[', ']']) => host.to_owned(),
        _ => text.to_owned(),
    }
}

fn strip_domain(text: &str) -> String {
    let host = strip_port(text);
    let port = text.rsplit_once(':').filter(|_| host != text).map(|(_, port)| port);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let short = host.split('.').next().unwrap_or("");
    match port {
        Some(port) => format!("{short}:{port}"),
        None => short.to_owned(),
    }
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn shrunk<'a>(mut value: f64, prefixes: &[&'a str], base: f64) -> (f64, &'a str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < base {
            break;
        }
        prefix = next;
        value /= base;
    }
    (value, prefix)
}

fn grown(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        shrunk(value, &["k", "M", "G", "T", "P", "E", "Z", "Y"], 1000.0)
    } else {
        grown(value)
    };
    general(value, 4) + prefix
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value, 4);
    }
    let prefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
    let (value, prefix) = shrunk(value, &prefixes, 1024.0);
    general(value, 4) + prefix
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, 4);
    }
    if value == 0.0 {
        return general(value, 4) + "s";
    }
    if value.abs() < 1.0 {
        let (value, prefix) = grown(value);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (seconds, minutes) = (whole % 60, whole / 60 % 60);
    let (hours, days) = (whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", general(value, 4))
    }
}

/// Seconds since 1970 as Go prints a time in UTC.
fn timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(general(value, 4));
    }
    let nanos = value * 1e9;
    if nanos.abs() > 9.2e18 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp",
            general(value, 4)
        ));
    }
    let nanos = nanos as i64;
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut decimals = String::new();
    if fraction > 0 {
        decimals = format!(".{fraction:09}").trim_end_matches('0').to_owned();
    }
    Ok(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{decimals} +0000 UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
    ))
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (days since 0000-03-01 in eras of 400 years).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
