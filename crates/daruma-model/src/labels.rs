//! Label sets and matchers over them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::matcher_text::reserved;
use crate::pattern::go_pattern;

/// A label set, sorted by name, without empty values (an empty label is an absent one).
///
/// Cheap to clone: stages pass the same set along. One piece of memory holds all of it, because
/// hundreds of thousands are held: the number of pairs, then for each pair the lengths of its name and
/// its value and both texts. Numbers are written six bits a character, so that the whole is a text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Default for Labels {
    fn default() -> Labels {
        static NONE: LazyLock<Labels> = LazyLock::new(|| packed::<&str, &str>(&[]));
        NONE.clone()
    }
}

/// The pairs of a set, in order of their names.
#[derive(Clone)]
struct Pairs<'a> {
    text: &'a str,
    at: usize,
    left: usize,
}

impl<'a> Pairs<'a> {
    fn of(labels: &'a Labels) -> Pairs<'a> {
        let mut pairs = Pairs { text: &labels.0, at: 0, left: 0 };
        pairs.left = pairs.number();
        pairs
    }

    #[inline]
    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        loop {
            let digit = usize::from(self.text.as_bytes()[self.at]);
            self.at += 1;
            number |= (digit & 63) << shift;
            if digit < 64 {
                return number;
            }
            shift += 6;
        }
    }

    #[inline]
    fn text(&mut self, length: usize) -> &'a str {
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        text
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        self.left = self.left.checked_sub(1)?;
        let (name, value) = (self.number(), self.number());
        Some((self.text(name), self.text(value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

/// A set of pairs that are sorted, each name once, no value empty.
fn packed<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Labels {
    let texts = pairs.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len() + 4);
    let mut text = String::with_capacity(texts.sum::<usize>() + 2);
    let number = |text: &mut String, mut number: usize| {
        while number > 63 {
            text.push(char::from(64 | (number & 63) as u8));
            number >>= 6;
        }
        text.push(char::from(number as u8));
    };
    number(&mut text, pairs.len());
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        number(&mut text, name.len());
        number(&mut text, value.len());
        text.push_str(name);
        text.push_str(value);
    }
    Labels(text.into())
}

impl Labels {
    /// The label under which a series carries its metric name.
    pub const NAME: &'static str = "__name__";

    /// The value of `name`, or `""` when it is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        // Asked for more than anything else: nothing is cut out of the text but the answer.
        let (bytes, mut pairs) = (self.0.as_bytes(), Pairs::of(self));
        for _ in 0..pairs.left {
            let (known, value) = (pairs.number(), pairs.number());
            let at = pairs.at + known;
            if known == name.len() && bytes[pairs.at..at] == *name.as_bytes() {
                return &self.0[at..at + value];
            }
            pairs.at = at + value;
        }
        ""
    }

    /// Whether `name` is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Pairs in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        Pairs::of(self)
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        Pairs::of(self).left
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same set with `name` set to `value`; an empty value removes it.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut pairs: Vec<(&str, &str)> = self.iter().collect();
        put(&mut pairs, name, value);
        packed(&pairs)
    }

    /// The same set with every pair of `other` put over it.
    #[must_use]
    pub fn merged(&self, other: &Labels) -> Labels {
        let mut pairs: Vec<(&str, &str)> = self.iter().collect();
        for (name, value) in other.iter() {
            put(&mut pairs, name, value);
        }
        packed(&pairs)
    }

    /// The same set without the pairs that `other` has as well.
    #[must_use]
    pub fn without(&self, other: &Labels) -> Labels {
        self.filtered(|name| !other.has(name) || other.get(name) != self.get(name))
    }

    /// Only the labels for which `keep` says yes.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        packed(&self.iter().filter(|(name, _)| keep(name)).collect::<Vec<_>>())
    }

    /// Where the set lies in memory: equal for clones of one set, and not used again as long as one of
    /// them lives. Two equal sets may well differ in it.
    #[must_use]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }

    /// A plain map, for templates and JSON.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// FNV-1a (64 bit) over sorted name, byte 255, value, byte 255: Alertmanager's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| {
            hash ^= u64::from(byte);
            hash = hash.wrapping_mul(0x0100_0000_01b3);
        };
        for (name, value) in self.iter() {
            name.bytes().for_each(&mut add);
            add(255);
            value.bytes().for_each(&mut add);
            add(255);
        }
        hash
    }
}

/// Pair by pair, first by name, then by value.
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Sets `name` among sorted pairs; an empty value removes it.
fn put<'a>(pairs: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
    match pairs.binary_search_by(|(known, _)| (*known).cmp(name)) {
        Ok(at) if value.is_empty() => drop(pairs.remove(at)),
        Ok(at) => pairs[at].1 = value,
        Err(_) if value.is_empty() => {}
        Err(at) => pairs.insert(at, (name, value)),
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Labels {
        let mut all: Vec<(N, V)> = pairs.into_iter().collect();
        let rises = |two: &[(N, V)]| two[0].0.as_ref() < two[1].0.as_ref();
        if !all.windows(2).all(rises) {
            all.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
            // Of two pairs with one name the later wins, as in a map.
            all.reverse();
            all.dedup_by(|a, b| a.0.as_ref() == b.0.as_ref());
            all.reverse();
        }
        all.retain(|(_, value)| !value.as_ref().is_empty());
        packed(&all)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(pairs: [(&str, &str); N]) -> Labels {
        pairs.into_iter().collect()
    }
}

/// Prometheus' notation: `name{a="b", c="d"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get(Labels::NAME))?;
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().filter(|(name, _)| *name != Labels::NAME).enumerate()
        {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct Map;
        impl<'de> de::Visitor<'de> for Map {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(Text<'de>, Text<'de>)> = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// A text, taken from where it is read, unless it must be unescaped.
struct Text<'de>(Cow<'de, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        struct Any;
        impl<'de> de::Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Any)
    }
}

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends, `.` matches newlines.
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A condition on one label; an absent label has the value `""`.
#[derive(Clone)]
pub struct Matcher {
    /// The label it looks at.
    pub name: String,
    /// How it compares.
    pub op: MatchOp,
    /// What it compares with.
    pub value: String,
    regex: Option<Regex>,
}

/// Why a matcher cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The regular expression does not compile or is too large.
    #[error("the regular expression {pattern:?} cannot be used: {why}")]
    Regex {
        /// The pattern as written.
        pattern: String,
        /// The engine's own words.
        why: String,
    },
    /// The text is not of the form `name="value"`.
    #[error("`{found}` is not a matcher; write name=\"value\", with =, !=, =~ or !~")]
    Matcher {
        /// The text that was found.
        found: String,
    },
}

/// The largest compiled regular expression that a matcher or rule may have, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

impl Matcher {
    /// A matcher; regular expressions are compiled here as Go reads them, anchored at both ends.
    ///
    /// # Errors
    /// [`LabelError::Regex`] if the pattern does not compile within 1 MiB.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Matcher, LabelError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(
                regex::RegexBuilder::new(&format!("^(?s:{})$", go_pattern(value)))
                    .size_limit(REGEX_BYTES_MAX)
                    .build()
                    .map_err(|error| LabelError::Regex {
                        pattern: value.to_owned(),
                        why: error.to_string(),
                    })?,
            ),
        };
        Ok(Matcher { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// Whether a label value satisfies it.
    #[must_use]
    pub fn matches_value(&self, value: &str) -> bool {
        let regex = |value| self.regex.as_ref().is_some_and(|regex| regex.is_match(value));
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => regex(value),
            MatchOp::NotRegex => !regex(value),
        }
    }

    /// Whether a label set satisfies it.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.name))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(&self.name, self.op, &self.value))
    }
}

/// The one form of a matcher that both notations read alike: the value in quotes, the name too where it
/// must be.
pub(crate) fn written(name: &str, op: MatchOp, value: &str) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        format!("\"{text}\"")
    };
    let plain = !name.is_empty() && !name.contains(reserved);
    let name = if plain { name.to_owned() } else { quoted(name) };
    format!("{name}{}{}", op.as_str(), quoted(value))
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Matcher, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Matchers that must all hold. An empty list matches everything; whoever acts on a selection
/// refuses an empty one at load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Matchers(pub Vec<Matcher>);

/// The labels that words such as `severity=critical` spell, each written as a matcher is.
///
/// # Errors
/// The first word that says not what an alert is, quoted.
pub fn spelled<'a>(words: impl Iterator<Item = &'a str>) -> Result<Labels, String> {
    let mut labels = Labels::default();
    for word in words {
        let quoted = || word.chars().take(80).collect::<String>();
        let matcher: Matcher =
            word.parse().map_err(|_| format!("`{}` is not a label; write name=value", quoted()))?;
        if matcher.op != MatchOp::Equal {
            return Err(format!(
                "`{}` says what an alert is not; write what it is: name=value",
                quoted()
            ));
        }
        labels = labels.with(&matcher.name, &matcher.value);
    }
    Ok(labels)
}

impl Matchers {
    /// Whether every matcher holds.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|matcher| matcher.matches(labels))
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, matcher) in self.0.iter().enumerate() {
            write!(f, "{}{matcher}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_label_set_is_sorted_and_holds_no_empty_values() {
        let labels: Labels = [("z", "1"), ("a", "2"), ("m", ""), ("a", "3")].into();
        assert_eq!(labels.to_string(), r#"{a="3", z="1"}"#);
        assert_eq!((labels.get("a"), labels.get("m"), labels.len()), ("3", "", 2));
    }

    #[test]
    fn the_fingerprint_is_fnv_1a_with_byte_255_after_names_and_values() {
        assert_eq!(Labels::default().fingerprint(), 0xcbf2_9ce4_8422_2325);
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in b"a\xffb\xff" {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        assert_eq!(Labels::from([("a", "b")]).fingerprint(), hash);
    }

    #[test]
    fn matchers_read_and_match() {
        let labels: Labels = [("service", "web"), ("code", "500")].into();
        for (text, want) in [
            (r#"service="web""#, Some(true)),
            ("service=web", Some(true)),
            (r#"service!="web""#, Some(false)),
            (r#"code=~"5..""#, Some(true)),
            (r#"code=~"5""#, Some(false)), // Anchored.
            (r#"absent="""#, Some(true)),
            (r#"absent!~".+""#, Some(true)),
            ("service", None),
            (r#"service="web"#, None),
            (r#"code=~"(""#, None),
            (r#""1 x"="a""#, Some(false)),
        ] {
            let got = text.parse::<Matcher>().ok().map(|matcher| matcher.matches(&labels));
            assert_eq!(got, want, "{text}");
        }
    }

    proptest! {
        /// Whatever the texts and however long, a set is read back as it was, sorts as its pairs do, and
        /// goes through JSON.
        #[test]
        fn a_packed_set_holds_what_was_put_in(
            one in prop::collection::btree_map("\\PC{1,9}", "\\PC{1,70}", 0..9),
            many in 0_usize..80,
            long in 1_usize..9_000,
            other in prop::collection::btree_map("[a-c]{1,2}", "[a-c]{1,2}", 0..3),
            like in prop::collection::btree_map("[a-c]{1,2}", "[a-c]{1,2}", 0..3),
        ) {
            let mut one = one;
            one.extend((0..many).map(|i| (format!("n{i}"), "x".repeat(1 + i * long / 80))));
            let labels: Labels = one.iter().collect();
            prop_assert_eq!(&labels.to_map(), &one);
            prop_assert_eq!(labels.len(), one.len());
            for (name, value) in &one {
                prop_assert_eq!(labels.get(name), value);
            }
            let text = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Labels>(&text).unwrap(), &labels);
            let (a, b): (Labels, Labels) = (other.iter().collect(), like.iter().collect());
            let (other, like): (Vec<_>, Vec<_>) = (other.iter().collect(), like.iter().collect());
            prop_assert_eq!(a.cmp(&b), other.cmp(&like));
            prop_assert_eq!(a == b, other == like);
        }

        /// Setting one label after another is what a map would do.
        #[test]
        fn labels_put_over_others_are_as_in_a_map(
            base in prop::collection::btree_map("[a-d]", "[xy]?", 0..4),
            over in prop::collection::btree_map("[a-e]", "[xyz]?", 0..4),
        ) {
            let labels: Labels = base.clone().into_iter().collect();
            let mut map = base;
            let mut one_by_one = labels.clone();
            for (name, value) in &over {
                map.insert(name.clone(), value.clone());
                one_by_one = one_by_one.with(name, value);
            }
            prop_assert_eq!(&one_by_one, &map.into_iter().collect::<Labels>());
            // Of a label set, empty values are not there to be put over.
            let over: Labels = over.into_iter().collect();
            let merged = over.iter().fold(labels.clone(), |all, (name, value)| all.with(name, value));
            prop_assert_eq!(labels.merged(&over), merged);
        }

        #[test]
        fn no_text_makes_the_matcher_parser_panic(text in "\\PC{0,30}") {
            let _ = text.parse::<Matcher>();
        }

        #[test]
        fn a_printed_equality_matcher_reads_back(value in "[a-zA-Z0-9 \\\\\"]{0,12}") {
            let matcher = Matcher::new("name", MatchOp::Equal, &value).unwrap();
            prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher));
        }
    }
}
