//! The file as it may be shown: its values in its order, with `<secret>` in place of what is secret, in
//! a form that `amtool` reads.

use super::schema::{FILE, Kind, RECEIVERS, ROUTE, common};
use super::tree::{Item, Node};

/// What stands for a secret.
const SECRET: &str = "<secret>";

/// The whole file.
pub fn shown(file: &Node) -> String {
    let mut out = String::new();
    if let Item::Map(pairs) = &file.item {
        for (key, node) in pairs {
            let kind = FILE.iter().find(|(name, _)| *name == key.name).map_or(Kind::Any, |it| it.1);
            let kind = match key.name.as_str() {
                "route" => Kind::Keys(ROUTE),
                "receivers" => Kind::List(&Kind::Any),
                _ => kind,
            };
            field(&key.name, node, kind, key.name == "receivers", 0, &mut out);
        }
    }
    out
}

fn field(name: &str, node: &Node, kind: Kind, receivers: bool, indent: usize, out: &mut String) {
    out.push_str(&" ".repeat(indent));
    out.push_str(&quoted(name));
    out.push(':');
    value(node, kind, receivers, indent, out);
}

/// A value after its key or dash, with the end of the line.
fn value(node: &Node, kind: Kind, receivers: bool, indent: usize, out: &mut String) {
    match &node.item {
        Item::Null => out.push_str(" null\n"),
        Item::Text(text) => out.push_str(&format!(" {}\n", scalar(text, kind, true))),
        Item::Plain(text) => out.push_str(&format!(" {}\n", scalar(text, kind, false))),
        Item::List(all) if all.is_empty() => out.push_str(" []\n"),
        Item::Map(all) if all.is_empty() => out.push_str(" {}\n"),
        Item::List(all) => {
            out.push('\n');
            let one = match kind {
                Kind::List(one) => *one,
                Kind::TextsOr(_) => Kind::Text,
                Kind::SecretAny => Kind::SecretAny,
                _ => Kind::Any,
            };
            for node in all {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                if receivers {
                    receiver(node, indent, out);
                } else {
                    value(node, one, false, indent + 2, out);
                }
            }
        }
        Item::Map(pairs) => {
            out.push('\n');
            for (key, node) in pairs {
                let known = |keys: &[(&str, Kind)]| {
                    keys.iter().find(|(name, _)| *name == key.name).map_or(Kind::Any, |it| it.1)
                };
                let inner = match kind {
                    Kind::Keys(_) if key.name == "routes" => Kind::List(&Kind::Keys(ROUTE)),
                    Kind::Keys(keys) | Kind::TextOr(keys) | Kind::TextsOr(keys) => known(keys),
                    Kind::MapOf(keys) => Kind::Keys(keys),
                    Kind::SecretAny => Kind::SecretAny,
                    _ => Kind::Any,
                };
                field(&key.name, node, inner, false, indent + 2, out);
            }
        }
    }
}

fn receiver(node: &Node, indent: usize, out: &mut String) {
    let Item::Map(pairs) = &node.item else {
        return value(node, Kind::Any, false, indent + 2, out);
    };
    out.push('\n');
    for (key, node) in pairs {
        let keys = RECEIVERS.iter().find(|(name, _)| *name == key.name);
        let (Some((kind, keys)), Item::List(all)) = (keys, &node.item) else {
            field(&key.name, node, Kind::Any, false, indent + 4, out);
            continue;
        };
        out.push_str(&format!("{}{}:\n", " ".repeat(indent + 4), quoted(&key.name)));
        for node in all {
            out.push_str(&format!("{}-", " ".repeat(indent + 4)));
            let Item::Map(pairs) = &node.item else {
                value(node, Kind::Any, false, indent + 6, out);
                continue;
            };
            out.push_str(if pairs.is_empty() { " {}\n" } else { "\n" });
            for (key, node) in pairs {
                let known = keys.iter().chain(common(kind)).find(|(name, _)| *name == key.name);
                field(&key.name, node, known.map_or(Kind::Any, |it| it.1), false, indent + 8, out);
            }
        }
    }
}

fn scalar(text: &str, kind: Kind, quote: bool) -> String {
    match kind {
        Kind::Secret | Kind::SecretUrl | Kind::SecretTemplateUrl | Kind::SecretAny
            if !text.is_empty() =>
        {
            SECRET.to_owned()
        }
        // Some carry a user and a password.
        _ if text.contains("://") && text.contains('@') => quoted(&without_user(text)),
        _ if quote => quoted(text),
        _ => text.to_owned(),
    }
}

/// An address without the user and password before its host.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

/// As YAML's double quotes have it, which JSON's are; plain where nothing can be mistaken.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
