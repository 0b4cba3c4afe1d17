//! YAML with the place of every key and value, so that a mistake found late can still be pointed at.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_saphyr::Spanned;

/// Line and column, from 1; zeros where nothing is written.
pub type Place = (u64, u64);

/// A mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: Place,
    /// What was found and what to do. Never holds a secret.
    pub said: String,
}

impl Mistake {
    pub fn new(at: Place, said: impl Into<String>) -> Mistake {
        Mistake { at, said: said.into() }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub at: Place,
    pub item: Item,
    /// The bytes of a plain scalar in the file.
    bytes: Option<(usize, usize)>,
}

/// What a value is.
#[derive(Debug, Clone, Default)]
pub enum Item {
    /// Nothing, or `null`.
    #[default]
    Null,
    /// A text, as it is meant.
    Text(String),
    /// A number, `true` or `false`, as it is written.
    Plain(String),
    List(Vec<Node>),
    /// In the order of the file, without repeated keys.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    pub at: Place,
    pub name: String,
}

impl Node {
    /// A map.
    pub fn of(pairs: Vec<(Key, Node)>) -> Node {
        let at = pairs.first().map_or((0, 0), |(key, _)| key.at);
        Node { at, item: Item::Map(pairs), bytes: None }
    }

    /// The value under `name`, unless it is not there or is `null`.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Item::Map(pairs) = &self.item else { return None };
        let (_, node) = pairs.iter().find(|(key, _)| key.name == name)?;
        (!matches!(node.item, Item::Null)).then_some(node)
    }

    /// The entries of the list under `name`.
    pub fn list(&self, name: &str) -> &[Node] {
        match self.get(name).map(|node| &node.item) {
            Some(Item::List(all)) => all,
            _ => &[],
        }
    }

    /// A scalar's text.
    pub fn text(&self) -> &str {
        match &self.item {
            Item::Text(text) | Item::Plain(text) => text,
            _ => "",
        }
    }

    /// The text under `name`; empty if there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.get(name).map_or("", Node::text)
    }

    /// Where `name` stands, or else this.
    pub fn place_of(&self, name: &str) -> Place {
        let Item::Map(pairs) = &self.item else { return self.at };
        pairs.iter().find(|(key, _)| key.name == name).map_or(self.at, |(key, _)| key.at)
    }

    /// Writes numbers again as the file has them: `1.10` is a name to some keys.
    pub fn as_written(&mut self, source: &str) {
        match &mut self.item {
            Item::Plain(text) => {
                let slice = self.bytes.and_then(|(from, to)| source.get(from..to));
                if let Some(written) = slice.map(str::trim).filter(|slice| !slice.is_empty()) {
                    *text = written.to_owned();
                }
            }
            Item::List(all) => all.iter_mut().for_each(|node| node.as_written(source)),
            Item::Map(pairs) => pairs.iter_mut().for_each(|(_, node)| node.as_written(source)),
            Item::Null | Item::Text(_) => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Item>::deserialize(deserializer)?;
        let (at, span) = (spanned.referenced, spanned.defined.span());
        let byte = |number: u64| usize::try_from(number).ok();
        let bytes = span
            .byte_offset()
            .zip(span.byte_len())
            .and_then(|(from, length)| Some((byte(from)?, byte(from.checked_add(length)?)?)));
        Ok(Node { at: (at.line(), at.column()), item: spanned.value, bytes })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item::Null)
            }
            fn visit_none<E>(self) -> Result<Item, E> {
                Ok(Item::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Item, D::Error> {
                Item::deserialize(inner)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_i128<E>(self, value: i128) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_u128<E>(self, value: u128) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
                Ok(Item::Plain(value.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
                let mut all = Vec::new();
                while let Some(node) = seq.next_element()? {
                    all.push(node);
                }
                Ok(Item::List(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut all = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let at = (key.referenced.line(), key.referenced.column());
                    all.push((Key { at, name: key.value }, map.next_value()?));
                }
                Ok(Item::Map(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place_and_numbers_stay_as_written() {
        let text = "a: 1.10\nb:\n  - x: 'ä'\n    y: 0x10\n  - null\nc: yes # no\nd: \"2\"\ne: ~\n";
        let mut node: Node = serde_saphyr::from_str(text).unwrap();
        node.as_written(text);
        assert_eq!((node.text_of("a"), node.place_of("a")), ("1.10", (1, 1)));
        let first = &node.list("b")[0];
        assert_eq!((first.text_of("x"), first.place_of("y")), ("ä", (4, 5)));
        assert_eq!((first.text_of("y"), first.get("y").unwrap().at), ("0x10", (4, 8)));
        assert!(matches!(node.list("b")[1].item, Item::Null));
        assert_eq!(node.text_of("d"), "2");
        assert!(matches!(node.get("d").unwrap().item, Item::Text(_)));
        assert!(node.get("e").is_none());
        // A number behind an anchor is that of the anchor.
        let text = "a: &x 1.10\nb: *x\n";
        let mut node: Node = serde_saphyr::from_str(text).unwrap();
        node.as_written(text);
        assert_eq!(node.text_of("b"), "1.10");
        assert!(serde_saphyr::from_str::<Node>("a: 1\na: 2\n").is_err());
    }
}
