//! The functions that only rules have: Prometheus'.

use std::collections::BTreeMap;

use daruma_model::{Labels, Span};

use crate::Scene;
use crate::format::general;
use crate::functions::{Args, to_float};
use crate::text::{
    humanize, humanize_1024, query_escape, strip_domain, strip_port, timestamp, title,
};
use crate::value::{Kind, Value};

pub(crate) const KNOWN: &[&str] = &[
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "tmpl",
    "toDuration",
    "toTime",
    "urlQueryEscape",
    "value",
];

pub(crate) fn call(args: Args<'_>, scene: &Scene<'_>) -> Result<Value, String> {
    match args.name {
        "urlQueryEscape" => args.of_text(query_escape),
        "title" => args.of_text(title),
        // What is shown as HTML is escaped where it is shown.
        "safeHtml" => args.of_text(str::to_owned),
        "stripPort" => args.of_text(strip_port),
        "stripDomain" => args.of_text(strip_domain),
        "humanize" => args.of_float(humanize),
        "humanize1024" => args.of_float(humanize_1024),
        "humanizePercentage" => args.of_float(|value| general(value * 100.0, 4) + "%"),
        "humanizeTimestamp" => {
            args.count(1, 1)?;
            timestamp(to_float(args.values.first())?).map(Value::Text)
        }
        "externalURL" => Ok(Value::Text(scene.external_url.to_owned())),
        "pathPrefix" => {
            let after_scheme = scene.external_url.split_once("://").map_or("", |(_, rest)| rest);
            let path = after_scheme.find('/').map_or("", |at| &after_scheme[at..]);
            Ok(Value::Text(path.split(['?', '#']).next().unwrap_or("").to_owned()))
        }
        "graphLink" => {
            args.of_text(|expr| format!("/graph?g0.expr={}&g0.tab=0", query_escape(expr)))
        }
        "tableLink" => {
            args.of_text(|expr| format!("/graph?g0.expr={}&g0.tab=1", query_escape(expr)))
        }
        "parseDuration" => {
            args.count(1, 1)?;
            let (given, negative) = match args.text(0)?.strip_prefix('-') {
                Some(rest) => (rest.to_owned(), true),
                None => (args.text(0)?.to_owned(), false),
            };
            let span: Span =
                given.parse().map_err(|_| format!("not a valid duration string: {given:?}"))?;
            let seconds = span.as_secs_f64();
            Ok(Value::Float(if negative { -seconds } else { seconds }))
        }
        "args" => {
            let named = (0..).zip(args.values).map(|(i, value)| (format!("arg{i}"), value));
            Value::map(named.collect::<BTreeMap<_, _>>())
        }
        "query" => {
            args.count(1, 1)?;
            let query = scene.query.ok_or("queries cannot be asked here")?;
            let found = query(args.text(0)?)?;
            let found = found.into_iter().map(|(labels, value)| Value::Sample(labels, value));
            Value::list(Kind::Samples, found.collect())
        }
        "first" => match args.values.first() {
            Some(Value::List(list)) => list
                .items
                .first()
                .cloned()
                .ok_or("first() called on vector with no elements".to_owned()),
            _ => Err("first needs the result of a query".to_owned()),
        },
        "label" => {
            args.count(2, 2)?;
            let name = args.text(0)?;
            sample(args.values.get(1)).map(|(labels, _)| Value::Text(labels.get(name).to_owned()))
        }
        "value" => sample(args.values.first()).map(|(_, value)| Value::Float(value)),
        "strvalue" => sample(args.values.first())
            .map(|(labels, _)| Value::Text(labels.get("__value__").to_owned())),
        "sortByLabel" => {
            args.count(2, 2)?;
            let name = args.text(0)?;
            let Some(Value::List(list)) = args.values.get(1) else {
                return Err("sortByLabel needs the result of a query".to_owned());
            };
            let mut items = list.items.clone();
            items.sort_by_cached_key(|value| match value {
                Value::Sample(labels, _) => labels.get(name).to_owned(),
                _ => String::new(),
            });
            Value::list(list.kind, items)
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
