//! The functions that only notifications have: Alertmanager's.

use std::collections::BTreeMap;

use crate::functions::Args;
use crate::notice::Data;
use crate::time::Moment;
use crate::value::{Kind, Safe, Value, WEIGHT_MAX};

pub(crate) const KNOWN: &[&str] = &[
    "append",
    "date",
    "dict",
    "join",
    "list",
    "now",
    "routeLabels",
    "safeHtml",
    "safeUrl",
    "since",
    "stringSlice",
    "title",
    "toJson",
    "trimSpace",
    "tz",
    "urlUnescape",
];

pub(crate) fn call(args: Args<'_>, data: &Data) -> Result<Value, String> {
    let name = args.name;
    let moment = |i: usize| match args.values.get(i) {
        Some(Value::Time(moment)) => Ok(moment),
        Some(other) => {
            Err(format!("wrong type for value; expected time.Time; got {}", other.type_name()))
        }
        None => Err(format!("wrong number of args for {name}")),
    };
    match name {
        "title" => args.of_text(title),
        "trimSpace" => args.of_text(|text| text.trim().to_owned()),
        "safeHtml" | "safeUrl" => {
            args.count(1, 1)?;
            let safe = if name == "safeHtml" { Safe::Html } else { Safe::Url };
            Ok(Value::Safe(safe, args.text(0)?.to_owned()))
        }
        "urlUnescape" => {
            args.count(1, 1)?;
            unescape(args.text(0)?).map(Value::Text)
        }
        "join" => {
            args.count(2, 2)?;
            let separator = args.text(0)?;
            let Some(Value::List(list)) = args.values.get(1) else {
                return Err("join takes a separator and a list of texts".to_owned());
            };
            let mut out = String::new();
            for (i, item) in list.items.iter().enumerate() {
                let text = item.as_text().ok_or("join takes a list of texts")?;
                if i > 0 {
                    out.push_str(separator);
                }
                out.push_str(text);
                if out.len() > WEIGHT_MAX {
                    return Err(format!("join makes more than {WEIGHT_MAX} bytes"));
                }
            }
            Ok(Value::Text(out))
        }
        "stringSlice" => {
            (0..args.values.len()).try_for_each(|i| args.text(i).map(drop))?;
            Value::list(Kind::Texts, args.values)
        }
        "list" => Value::list(Kind::Any, args.values),
        "append" => {
            let mut values = args.values.into_iter();
            let Some(Value::List(list)) = values.next() else {
                return Err("append takes a list, and what to put behind it".to_owned());
            };
            let items = list.items.iter().cloned().chain(values).collect();
            Value::list(Kind::Any, items)
        }
        "dict" => {
            if !args.values.len().is_multiple_of(2) {
                return Err("dict takes names and values by turns".to_owned());
            }
            let mut map = BTreeMap::new();
            for (i, value) in args.values.iter().enumerate().skip(1).step_by(2) {
                map.insert(args.text(i - 1)?.to_owned(), value.clone());
            }
            Value::map(map)
        }
        "routeLabels" => {
            args.count(1, 1)?;
            Ok(Value::Text(data.route_labels.get(args.text(0)?).to_owned()))
        }
        "now" => {
            args.count(0, 0)?;
            Ok(Value::Time(Moment::utc(data.now)))
        }
        "since" => {
            args.count(1, 1)?;
            let millis = data.now.0.saturating_sub(moment(0)?.time.0);
            Ok(Value::Span(millis.saturating_mul(1_000_000)))
        }
        "date" => {
            args.count(2, 2)?;
            let layout = args.text(0)?;
            if layout.len() > 1000 {
                return Err("a layout is at most 1000 bytes long".to_owned());
            }
            Ok(Value::Text(moment(1)?.format(layout)))
        }
        "tz" => {
            args.count(2, 2)?;
            let (place, moment) = (args.text(0)?, moment(1)?);
            let zone = match place {
                "" | "UTC" => return Ok(Value::Time(Moment::utc(moment.time))),
                _ => data.zones.and_then(|zones| zones(place, moment.time)),
            };
            let zone = zone.ok_or(format!("unknown time zone {place}"))?;
            Ok(Value::Time(Moment { time: moment.time, zone }))
        }
        "toJson" => {
            args.count(1, 1)?;
            let json = json(&args.values[0]).to_string();
            // As Go writes it, so that it may stand within HTML.
            let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
            Ok(Value::Safe(Safe::Json, json))
        }
        other => Err(format!("function {other:?} is not supported")),
    }
}

/// Words in lower case that begin with a capital.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut within = false;
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        // An apostrophe or an underscore divides no word.
        within = c.is_alphanumeric() || (within && matches!(c, '\'' | '’' | '_' | '.' | ':'));
    }
    out
}

/// The way back from `urlquery`.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let code = text
                    .get(at + 1..at + 3)
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                out.push(code.ok_or("invalid URL escape")?);
                bytes.nth(1);
            }
            byte => out.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// As Go's `json.Marshal` has it, but for the names of what is a struct there.
fn json(value: &Value) -> serde_json::Value {
    use serde_json::{Map, Value as Json};
    match value {
        Value::Nil | Value::Root => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) | Value::Span(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Text(text) | Value::Safe(_, text) => Json::from(text.as_str()),
        Value::Labels(labels) => {
            labels.iter().map(|(n, v)| (n.to_owned(), Json::from(v))).collect()
        }
        Value::List(list) => list.items.iter().map(json).collect(),
        Value::Map(map) => {
            map.items.iter().map(|(name, value)| (name.clone(), json(value))).collect()
        }
        Value::Sample(labels, value) => Json::from_iter([
            ("Labels", json(&Value::Labels(labels.clone()))),
            ("Value", (*value).into()),
        ]),
        Value::Pair(pair) => {
            Json::from_iter([("Name", pair.0.as_str()), ("Value", pair.1.as_str())])
        }
        Value::Struct(object) => {
            let mut map = Map::new();
            for (name, value) in &object.fields {
                let mut name = (*name).to_owned();
                name[..1].make_ascii_lowercase();
                map.insert(name, json(value));
            }
            Json::Object(map)
        }
        Value::Time(moment) => Json::from(moment.rfc3339()),
    }
}
