//! Text to tokens. Total: any text either becomes tokens or an error that says where.

use std::ops::Range;

use crate::ParseError;
use crate::number::parse_number;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A word, keywords among them; outside brackets and braces it may hold colons.
    Word(String),
    /// A number, or a duration in seconds.
    Number(f64),
    /// A quoted text, unquoted.
    Text(String),
    /// A quoted text that is not valid UTF-8, as it is shown.
    Bytes(String),
    /// An operator or a bracket.
    Sign(&'static str),
    /// The end of the text.
    End,
}

impl Token {
    /// How messages name it.
    pub(crate) fn shown(&self, text: &str, span: &Range<usize>) -> String {
        match self {
            Token::End => "the end of the query".to_owned(),
            _ => format!("`{}`", text[span.clone()].chars().take(40).collect::<String>()),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) span: Range<usize>,
}

/// Longest first, so that `==` is not read as `=` twice.
const SIGNS: &[&str] = &[
    "==", "=~", "!=", "!~", "<=", ">=", "</", ">/", "(", ")", "{", "}", "[", "]", ",", ":", "=",
    "<", ">", "+", "-", "*", "/", "%", "^", "@",
];

pub(crate) fn lex(text: &str) -> Result<Vec<Lexeme>, ParseError> {
    let mut lexemes = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut brackets, mut braces) = (0, 0_usize, 0_usize);
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'#' => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at),
            b'"' | b'\'' | b'`' => {
                let (bytes, end) = unquote_bytes(text, at)?;
                at = end;
                let token = match String::from_utf8(bytes) {
                    Ok(unquoted) => Token::Text(unquoted),
                    Err(error) => Token::Bytes(shown_bytes(error.as_bytes())),
                };
                lexemes.push(Lexeme { token, span: start..at });
            }
            b'0'..=b'9' => {
                let (number, end) = number(text, at)?;
                at = end;
                lexemes.push(Lexeme { token: Token::Number(number), span: start..at });
            }
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                let (number, end) = number(text, at)?;
                at = end;
                lexemes.push(Lexeme { token: Token::Number(number), span: start..at });
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' if byte != b':' || (brackets + braces) == 0 => {
                let colons = brackets + braces == 0;
                let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || colons && *b == b':';
                at += bytes[at..].iter().take_while(|b| word(b)).count();
                lexemes.push(Lexeme {
                    token: Token::Word(text[start..at].to_owned()),
                    span: start..at,
                });
            }
            _ => {
                let Some(sign) = SIGNS.iter().find(|sign| text[at..].starts_with(**sign)) else {
                    let found = text[at..].chars().next().unwrap_or(' ');
                    return Err(ParseError::at(
                        text,
                        at..at + found.len_utf8(),
                        format!("unexpected character {found:?}"),
                    ));
                };
                // `<` before a regular division cannot occur: `a </ b` is always the trim operator.
                match *sign {
                    "[" => brackets += 1,
                    "]" => brackets = brackets.saturating_sub(1),
                    "{" => braces += 1,
                    "}" => braces = braces.saturating_sub(1),
                    _ => {}
                }
                at += sign.len();
                lexemes.push(Lexeme { token: Token::Sign(sign), span: start..at });
            }
        }
    }
    lexemes.push(Lexeme { token: Token::End, span: text.len()..text.len() });
    Ok(lexemes)
}

/// A number or duration that begins at `at`, and where it ends.
fn number(text: &str, at: usize) -> Result<(f64, usize), ParseError> {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'.';
    let mut end = at + bytes[at..].iter().take_while(|b| word(b)).count();
    // A sign belongs to the number only inside an exponent.
    let hex = text[at..end].starts_with("0x") || text[at..end].starts_with("0X");
    let exponent = |end: usize| !hex && matches!(bytes[end - 1], b'e' | b'E');
    if exponent(end)
        && matches!(bytes.get(end), Some(b'+' | b'-'))
        && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)
    {
        end += 1;
        end += bytes[end..].iter().take_while(|b| word(b)).count();
    }
    let found = &text[at..end];
    parse_number(found).map(|number| (number, end)).ok_or_else(|| {
        ParseError::at(
            text,
            at..end,
            format!(
                "`{}` is neither a number nor a duration; write 1.5, 0x1f, 1e3, 30s or 1h30m",
                found.chars().take(40).collect::<String>()
            ),
        )
    })
}

/// The quoted text that begins at `at`, with escapes as Go reads them, and where it ends.
pub(crate) fn unquote(text: &str, at: usize) -> Result<(String, usize), ParseError> {
    let (bytes, end) = unquote_bytes(text, at)?;
    let plain = String::from_utf8(bytes).map_err(|_| not_utf8(text, at..end))?;
    Ok((plain, end))
}

pub(crate) fn not_utf8(text: &str, span: Range<usize>) -> ParseError {
    ParseError::at(text, span, "this text is not valid UTF-8".to_owned())
}

/// Bytes in quotes, with what is not UTF-8 escaped.
fn shown_bytes(bytes: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        shown.extend(chunk.valid().escape_debug());
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown.push('"');
    shown
}

fn unquote_bytes(text: &str, at: usize) -> Result<(Vec<u8>, usize), ParseError> {
    let unended =
        || ParseError::at(text, at..text.len(), "this quoted text has no closing quote".to_owned());
    let quote = text[at..].chars().next().unwrap_or('"');
    let body = at + 1;
    if quote == '`' {
        let length = text[body..].find('`').ok_or_else(unended)?;
        return Ok((text.as_bytes()[body..body + length].to_vec(), body + length + 1));
    }
    let mut plain: Vec<u8> = Vec::new();
    let mut chars = text[body..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '\n' => return Err(unended()),
            c if c == quote => return Ok((plain, body + offset + 1)),
            '\\' => {
                let rest = &text[body + offset + 1..];
                let (taken, bytes) = escape(rest, quote).ok_or_else(|| {
                    let end = body + offset + 1 + rest.chars().next().map_or(0, char::len_utf8);
                    let message = "unknown escape sequence".to_owned();
                    ParseError::at(text, body + offset..end, message)
                })?;
                plain.extend(bytes);
                for _ in 0..taken {
                    chars.next();
                }
            }
            c => plain.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Err(unended())
}

/// What stands after a backslash: how many characters it takes, and the bytes it means.
fn escape(rest: &str, quote: char) -> Option<(usize, Vec<u8>)> {
    let kind = rest.chars().next()?;
    let digits = |skip: usize, count: usize, radix: u32| {
        let digits = rest.get(skip..skip + count)?;
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        u32::from_str_radix(digits, radix).ok()
    };
    let character = |code: u32| char::from_u32(code).map(|c| c.to_string().into_bytes());
    Some(match kind {
        'a' => (1, vec![7]),
        'b' => (1, vec![8]),
        'f' => (1, vec![12]),
        'n' => (1, vec![b'\n']),
        'r' => (1, vec![b'\r']),
        't' => (1, vec![b'\t']),
        'v' => (1, vec![11]),
        '\\' => (1, vec![b'\\']),
        c if c == quote => (1, vec![c as u8]),
        'x' => (3, vec![u8::try_from(digits(1, 2, 16)?).ok()?]),
        '0'..='7' => (3, vec![u8::try_from(digits(0, 3, 8)?).ok()?]),
        'u' => (5, character(digits(1, 4, 16)?)?),
        'U' => (9, character(digits(1, 8, 16)?)?),
        _ => return None,
    })
}
