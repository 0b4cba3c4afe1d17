//! How matchers are written: Alertmanager's two notations, and which of them counts.
//!
//! The newer notation takes any UTF-8 name and value, quoted as in Go where they hold a reserved
//! character; the classic one takes Prometheus' label names, values without quotes, and backslashes
//! that need no doubling. A text is read both ways; where both succeed and differ, the classic reading
//! counts, because that is what the text has always meant, and the difference is told.

use std::str::FromStr;

use crate::{LabelError, MatchOp, Matcher, Matchers};

/// The longest text that is read as matchers, in bytes.
pub const MATCHERS_BYTES_MAX: usize = 64 << 10;

/// The signs of [`MatchOp`], longest first.
const SIGNS: [(&str, MatchOp); 4] = [
    ("=~", MatchOp::Regex),
    ("!~", MatchOp::NotRegex),
    ("!=", MatchOp::NotEqual),
    ("=", MatchOp::Equal),
];

/// A matcher before its regular expression is compiled.
#[derive(Debug, PartialEq)]
struct Raw {
    name: String,
    op: MatchOp,
    value: String,
}

impl Raw {
    fn compiled(self) -> Result<Matcher, LabelError> {
        Matcher::new(&self.name, self.op, &self.value)
    }
}

/// Whether a character ends a name or value that stands without quotes.
pub(crate) fn reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

impl Matchers {
    /// Reads a list such as `{a="b", c=~"d|e"}`, with or without braces, and says what about it will
    /// change its meaning one day, if anything does. An empty text is an empty list.
    ///
    /// # Errors
    /// [`LabelError::Matcher`] if neither notation can be read, [`LabelError::Regex`] if a regular
    /// expression does not compile.
    pub fn read(text: &str) -> Result<(Matchers, Option<String>), LabelError> {
        let (raw, warning) = either(text, utf8(text), classic_list(text))?;
        let matchers = raw.into_iter().map(Raw::compiled).collect::<Result<_, _>>()?;
        Ok((Matchers(matchers), warning))
    }
}

impl Matcher {
    /// Reads one matcher, as the API takes it: braces around it are refused. Says what about it will
    /// change its meaning one day, if anything does.
    ///
    /// # Errors
    /// As [`Matchers::read`], and if there is not exactly one.
    pub fn read(text: &str) -> Result<(Matcher, Option<String>), LabelError> {
        let trimmed = text.trim();
        if trimmed.starts_with('{') || trimmed.ends_with('}') && utf8(text).is_none() {
            return Err(error(text));
        }
        let one = |list: Option<Vec<Raw>>| list.filter(|list| list.len() == 1);
        let classic = classic_one(text).map(|raw| vec![raw]);
        let (mut raw, warning) = either(text, one(utf8(text)), classic)?;
        let raw = raw.pop().ok_or_else(|| error(text))?;
        Ok((raw.compiled()?, warning))
    }
}

/// One matcher, without braces, in either notation.
impl FromStr for Matcher {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Matcher, LabelError> {
        Matcher::read(text).map(|(matcher, _)| matcher)
    }
}

/// A list, with or without braces, in either notation.
impl FromStr for Matchers {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Matchers, LabelError> {
        Matchers::read(text).map(|(matchers, _)| matchers)
    }
}

fn error(text: &str) -> LabelError {
    LabelError::Matcher { found: text.chars().take(80).collect() }
}

/// Which reading counts.
fn either(
    text: &str,
    utf8: Option<Vec<Raw>>,
    classic: Option<Vec<Raw>>,
) -> Result<(Vec<Raw>, Option<String>), LabelError> {
    let written = |list: &[Raw]| {
        let all: Vec<String> =
            list.iter().map(|raw| crate::labels::written(&raw.name, raw.op, &raw.value)).collect();
        all.join(", ")
    };
    match (utf8, classic) {
        (None, None) => Err(error(text)),
        (Some(utf8), None) => Ok((utf8, None)),
        (Some(utf8), Some(classic)) if utf8 == classic => Ok((utf8, None)),
        (Some(utf8), Some(classic)) => {
            let warning = format!(
                "`{text}` has two readings; it is taken as {}, not as {}; write the one you mean",
                written(&classic),
                written(&utf8)
            );
            Ok((classic, Some(warning)))
        }
        (None, Some(classic)) => {
            let warning = format!(
                "`{text}` can be read in the classic notation only; write {} instead",
                written(&classic)
            );
            Ok((classic, Some(warning)))
        }
    }
}

/// The newer notation: `{name op value, …}`, braces and a last comma optional.
fn utf8(text: &str) -> Option<Vec<Raw>> {
    if text.len() > MATCHERS_BYTES_MAX {
        return None;
    }
    let mut rest = text.trim_start();
    let opened = take(&mut rest, "{");
    let mut all = Vec::new();
    loop {
        if rest.is_empty() || rest.starts_with('}') {
            break;
        }
        let name = word(&mut rest)?;
        let op = SIGNS.iter().find_map(|(sign, op)| take(&mut rest, sign).then_some(*op))?;
        let value = word(&mut rest)?;
        all.push(Raw { name, op, value });
        if !take(&mut rest, ",") {
            break;
        }
    }
    (take(&mut rest, "}") == opened && rest.is_empty()).then_some(all)
}

/// Takes `sign` and the blanks after it off the front.
fn take(rest: &mut &str, sign: &str) -> bool {
    let Some(after) = rest.strip_prefix(sign) else { return false };
    *rest = after.trim_start();
    true
}

/// A name or value, quoted or not, with the blanks after it.
fn word(rest: &mut &str) -> Option<String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let (word, after) = unquoted(quoted)?;
        *rest = after.trim_start();
        return Some(word);
    }
    let end = rest.find(reserved).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after.trim_start();
    (!word.is_empty()).then(|| word.to_owned())
}

/// The text up to the closing quote with Go's escapes undone, and what follows the quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut bytes, mut chars) = (Vec::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((String::from_utf8(bytes).ok()?, &text[at + 1..])),
            '\n' => return None,
            '\\' => {
                let (_, sign) = chars.next()?;
                let mut digits = |count: usize, radix: u32, first: Option<char>| {
                    let mut number = first.map_or(Some(0), |c| c.to_digit(radix))?;
                    for _ in 0..count {
                        let digit = chars.next()?.1.to_digit(radix)?;
                        number = number.checked_mul(radix)?.checked_add(digit)?;
                    }
                    Some(number)
                };
                match sign {
                    'a' => bytes.push(7),
                    'b' => bytes.push(8),
                    'f' => bytes.push(12),
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    'v' => bytes.push(11),
                    '\\' | '"' => bytes.push(sign as u8),
                    'x' => bytes.push(u8::try_from(digits(2, 16, None)?).ok()?),
                    '0'..='7' => bytes.push(u8::try_from(digits(2, 8, Some(sign))?).ok()?),
                    'u' | 'U' => {
                        let count = if sign == 'u' { 4 } else { 8 };
                        let c = char::from_u32(digits(count, 16, None)?)?;
                        bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    _ => return None,
                }
            }
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

/// A list in the classic notation: commas within quotes do not separate.
fn classic_list(text: &str) -> Option<Vec<Raw>> {
    if text.len() > MATCHERS_BYTES_MAX {
        return None;
    }
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut tokens, mut token) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            ',' if !quoted => {
                tokens.push(std::mem::take(&mut token));
                continue;
            }
            '"' if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
        token.push(c);
    }
    if !token.trim().is_empty() {
        tokens.push(token);
    }
    tokens.iter().map(|token| classic_one(token)).collect()
}

/// One matcher in the classic notation; its value needs no quotes and may be left out.
fn classic_one(text: &str) -> Option<Raw> {
    if text.len() > MATCHERS_BYTES_MAX {
        return None;
    }
    let text = text.trim();
    let at = text.find(['=', '!'])?;
    let (name, rest) = (text[..at].trim_end(), &text[at..]);
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let (sign, op) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign))?;
    let value = rest[sign.len()..].trim();
    let (value, mut open) = match value.strip_prefix('"') {
        Some(value) => (value, true),
        None => (value, false),
    };
    let (mut plain, mut chars) = (String::with_capacity(value.len()), value.chars().peekable());
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(next @ ('"' | '\\'))) => plain.push(next),
            ('\\', Some(next)) => plain.extend(['\\', next]),
            ('\\', None) => plain.push('\\'),
            ('"', next) => {
                if !open || next.is_some() {
                    return None;
                }
                open = false;
                continue;
            }
            (c, _) => {
                plain.push(c);
                continue;
            }
        }
        // What a backslash stands before is taken with it.
        chars.next();
    }
    (!open).then(|| Raw { name: name.to_owned(), op: *op, value: plain })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list as it is printed and whether there is something to tell, or `None` if it is refused.
    fn list(text: &str) -> Option<(String, bool)> {
        Matchers::read(text).ok().map(|(list, warning)| (list.to_string(), warning.is_some()))
    }

    #[test]
    fn lists_read_as_alertmanager_reads_them() {
        for (text, want, warned) in [
            (r#"{a="b", c=~"d|e"}"#, Some(r#"{a="b", c=~"d|e"}"#), false),
            (r#"a="b",c!="d","#, Some(r#"{a="b", c!="d"}"#), false),
            ("foo = bar", Some(r#"{foo="bar"}"#), false),
            ("{}", Some("{}"), false),
            ("", Some("{}"), false),
            (r#"{"quoted name"="x"}"#, Some(r#"{"quoted name"="x"}"#), false),
            ("Προμηθεύς=x", Some(r#"{Προμηθεύς="x"}"#), false),
            ("a=[a-z]+", Some(r#"{a="[a-z]+"}"#), false),
            (r#"a="b,c""#, Some(r#"{a="b,c"}"#), false),
            // Readable in the classic notation only.
            ("foo=", Some(r#"{foo=""}"#), true),
            (r#"a=~"\d+""#, Some(r#"{a=~"\\d+"}"#), true),
            ("a=b c", Some(r#"{a="b c"}"#), true),
            ("a==b", Some(r#"{a="=b"}"#), true),
            // Two readings that differ: what it has always meant counts.
            (r#"a="\xf0\x9f\x99\x82""#, Some(r#"{a="\\xf0\\x9f\\x99\\x82"}"#), true),
            // Neither.
            (r#"{{a="b"}}"#, None, false),
            (r#"a="b"#, None, false),
            ("a", None, false),
            (r#"a="b" c="d""#, None, false),
            (r#""a b"="c"}"#, None, false),
            ("a=~(", None, false),
        ] {
            let want = want.map(|want| (want.to_owned(), warned));
            assert_eq!(list(text), want, "{text}");
        }
    }

    #[test]
    fn braces_around_one_matcher_are_refused_where_one_is_asked_for() {
        for (text, taken) in [
            (r#"a="b""#, true),
            (r#"{a="b"}"#, false),
            (r#"a="b"}"#, false),
            (r#"a="b",c="d""#, false),
            (r#""a b"="c}""#, true),
            ("", false),
        ] {
            assert_eq!(Matcher::read(text).is_ok(), taken, "{text}");
        }
        assert_eq!("a=b".parse::<Matcher>().map(|m| m.to_string()), Ok(r#"a="b""#.into()));
    }

    #[test]
    fn what_go_escapes_is_unescaped() {
        for (text, want) in [
            (r#""a b"="\t\n\"\\""#, Some("\t\n\"\\")),
            (r#""a b"="\u00e9\U0001f642""#, Some("é🙂")),
            (r#""a b"="\xc3\xa9\101""#, Some("éA")),
            (r#""a b"="\xff""#, None), // Not UTF-8.
            (r#""a b"="\777""#, None),
            (r#""a b"="\q""#, None),
            (r#""a b"="\ud800""#, None),
        ] {
            let got = text.parse::<Matcher>().ok().map(|matcher| matcher.value);
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,30}", mixed in "[a{}=!~,\\\\\"x1 \n]{0,20}") {
            let _ = (Matchers::read(&text), Matcher::read(&text));
            let _ = (Matchers::read(&mixed), Matcher::read(&mixed));
        }

        #[test]
        fn a_printed_matcher_reads_back(name in "\\PC{1,8}|[a-c]{1,3}", value in "\\PC{0,8}|[\\\\\"\na{},]{0,8}") {
            let matcher = Matcher::new(&name, MatchOp::NotEqual, &value).unwrap();
            prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher.clone()));
            let list = Matchers(vec![matcher.clone(), matcher]);
            prop_assert_eq!(list.to_string().parse::<Matchers>(), Ok(list));
        }
    }
}
