//! A tree of YAML against the schema: what is wrong with it, where, and the same as plain JSON.

use daruma_model::Span;
use serde_json::{Map as Object, Value};

use super::schema::Kind;
use super::tree::{Item, Mistake, Node};

/// Every mistake in `node` goes to `found`; what is right comes back, without what is `null`.
pub fn check(node: &Node, kind: Kind, found: &mut Vec<Mistake>) -> Value {
    if matches!(node.item, Item::Null) {
        return Value::Null;
    }
    match kind {
        Kind::Any | Kind::SecretAny => any(node),
        Kind::List(one) => match &node.item {
            Item::List(all) => all.iter().map(|node| check(node, *one, found)).collect(),
            _ => wrong(node, "a list", found),
        },
        Kind::Keys(keys) => match &node.item {
            Item::Map(_) => object(node, &[keys], found),
            _ => wrong(node, "a map", found),
        },
        Kind::TextOr(keys) => match &node.item {
            Item::Map(_) => object(node, &[keys], found),
            _ => check(node, Kind::Text, found),
        },
        Kind::TextsOr(keys) => match &node.item {
            Item::Map(_) => object(node, &[keys], found),
            _ => check(node, Kind::List(&Kind::Text), found),
        },
        Kind::Map | Kind::MapOf(_) => match &node.item {
            Item::Map(pairs) => {
                let one = match kind {
                    Kind::MapOf(keys) => Kind::Keys(keys),
                    _ => Kind::Text,
                };
                let value = |node: &Node, found: &mut Vec<Mistake>| match check(node, one, found) {
                    Value::Null => Value::String(String::new()),
                    value => value,
                };
                let pairs = pairs.iter().map(|(key, node)| (key.name.clone(), value(node, found)));
                Value::Object(pairs.collect())
            }
            _ => wrong(node, "a map", found),
        },
        _ => match &node.item {
            Item::Text(text) | Item::Plain(text) => scalar(node, text, kind, found),
            _ => wrong(node, "one value", found),
        },
    }
}

/// As [`check`] for a map whose keys are in one of `tables`.
pub fn object(
    node: &Node,
    tables: &[&'static [(&'static str, Kind)]],
    found: &mut Vec<Mistake>,
) -> Value {
    let Item::Map(pairs) = &node.item else { return wrong(node, "a map", found) };
    let known = || tables.iter().flat_map(|table| table.iter());
    let mut all = Object::new();
    for (key, node) in pairs {
        let Some((_, kind)) = known().find(|(name, _)| *name == key.name) else {
            let names: Vec<&'static str> = known().map(|(name, _)| *name).collect();
            found.push(Mistake::new(key.at, crate::config::unknown(&key.name, &names)));
            continue;
        };
        let value = check(node, *kind, found);
        if !value.is_null() {
            all.insert(key.name.clone(), value);
        }
    }
    Value::Object(all)
}

fn wrong(node: &Node, want: &str, found: &mut Vec<Mistake>) -> Value {
    let is = match node.item {
        Item::Null => "nothing",
        Item::Text(_) | Item::Plain(_) => "one value",
        Item::List(_) => "a list",
        Item::Map(_) => "a map",
    };
    found.push(Mistake::new(node.at, format!("here must stand {want}, not {is}")));
    Value::Null
}

/// A text of the file for an error: short, and of nothing that may be secret.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

fn scalar(node: &Node, text: &str, kind: Kind, found: &mut Vec<Mistake>) -> Value {
    let said = match kind {
        Kind::Bool => match (&node.item, text) {
            (Item::Plain(_), "true" | "True" | "TRUE") => return Value::Bool(true),
            (Item::Plain(_), "false" | "False" | "FALSE") => return Value::Bool(false),
            // The older YAML of upstream has more words for it.
            (Item::Text(_), "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y") => {
                return Value::Bool(true);
            }
            (Item::Text(_), "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N") => {
                return Value::Bool(false);
            }
            _ => format!("`{}` is neither true nor false", shown(text)),
        },
        Kind::Int => match text.parse::<i64>() {
            Ok(number) => return number.into(),
            Err(_) => format!("`{}` is not a whole number", shown(text)),
        },
        Kind::Span => match text.parse::<Span>() {
            Ok(span) => return span.to_string().into(),
            Err(error) => error.to_string(),
        },
        Kind::GoSpan => match go_span(text) {
            Some(span) => return span.to_string().into(),
            None => format!(
                "`{}` is not a duration; write a number with a unit, such as 10s or 1m30s",
                shown(text)
            ),
        },
        Kind::Url => match address(text) {
            Ok(()) => return text.into(),
            Err(why) => why,
        },
        // As upstream prints one: it stands for an address that is not shown.
        Kind::SecretUrl if text == "<secret>" => return text.into(),
        Kind::SecretTemplateUrl if text.contains("{{") || text == "<secret>" => return text.into(),
        Kind::SecretUrl | Kind::SecretTemplateUrl => match address(text) {
            Ok(()) => return text.into(),
            Err(why) => why,
        },
        Kind::HostPort => match text.rsplit_once(':') {
            _ if text.is_empty() => return text.into(),
            Some((_, port)) if !port.is_empty() => return text.into(),
            _ => format!("`{}` is not host:port, such as mail.example.org:587", shown(text)),
        },
        _ => return text.into(),
    };
    found.push(Mistake::new(node.at, said));
    Value::Null
}

/// Why a text is no address; the reason never repeats it, for addresses carry secrets.
fn address(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or("this address must begin with http:// or https://")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err("this address names no host".to_owned());
    }
    if rest.chars().any(|c| c.is_control() || c == ' ') {
        return Err("this address holds a blank or a control character".to_owned());
    }
    Ok(())
}

/// Go's form: numbers with fractions and units, added up.
fn go_span(text: &str) -> Option<Span> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Span::ZERO);
    }
    let (mut rest, mut ms) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-6,
            "us" | "µs" | "μs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            _ => return None,
        };
        ms += number * unit;
        rest = &rest[letters..];
    }
    // A float cast saturates; what is above zero stays above.
    #[allow(clippy::cast_possible_truncation)]
    (!text.is_empty()).then(|| Span::millis(ms.ceil() as i64))
}

/// Whatever there is, as JSON.
fn any(node: &Node) -> Value {
    match &node.item {
        Item::Null => Value::Null,
        Item::Text(text) => text.clone().into(),
        Item::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Item::List(all) => all.iter().map(any).collect(),
        Item::Map(pairs) => {
            Value::Object(pairs.iter().map(|(key, node)| (key.name.clone(), any(node))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_may_have_fractions() {
        for (text, want) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500us", Some(1)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("1d", None),
            ("s", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(go_span(text).map(|span| span.0), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.smh]{0,8}") {
            let _ = (go_span(&text), address(&text));
        }
    }
}
