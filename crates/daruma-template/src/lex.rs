//! From text to tokens.

use crate::parse::Fail;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Word(String),
    Field(String),
    Variable(String),
    Dot,
    Text(String),
    Int(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Declare,
    Assign,
    Comma,
}

/// A token, where it is, and whether blanks stand before it.
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) at: usize,
    pub(crate) spaced: bool,
}

pub(crate) enum Piece {
    Text(String),
    Action(Vec<Lexeme>, usize),
}

/// Text and actions, with `{{-` and `-}}` applied and comments left out.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, Fail> {
    let mut pieces = Vec::new();
    let (mut at, mut trim) = (0, false);
    loop {
        let rest = &text[at..];
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if trim {
            plain = plain.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        let Some(open) = open else {
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.to_owned()));
            }
            return Ok(pieces);
        };
        let start = at + open;
        let mut inside = start + 2;
        let blank = |at: usize| text[at..].starts_with([' ', '\t', '\r', '\n']);
        if text[inside..].starts_with('-') && blank(inside + 1) {
            plain = plain.trim_end_matches([' ', '\t', '\r', '\n']);
            inside += 2;
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.to_owned()));
        }
        if text[inside..].starts_with("/*") {
            let close = text[inside..].find("*/").ok_or((start, "unclosed comment".to_owned()))?;
            let after = inside + close + 2;
            let rest = &text[after..];
            let (end, trims) = if rest.starts_with("}}") {
                (after + 2, false)
            } else if rest.starts_with([' ', '\t', '\r', '\n']) && rest[1..].starts_with("-}}") {
                (after + 4, true)
            } else {
                return Err((start, "comment ends before closing delimiter".to_owned()));
            };
            (at, trim) = (end, trims);
            continue;
        }
        let (lexemes, end, trims) = lex(text, inside)?;
        pieces.push(Piece::Action(lexemes, start));
        (at, trim) = (end, trims);
    }
}

/// The tokens of one action from `at`; returns where the text goes on and whether it is trimmed.
fn lex(text: &str, mut at: usize) -> Result<(Vec<Lexeme>, usize, bool), Fail> {
    let mut lexemes = Vec::new();
    let mut spaced = true;
    loop {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else {
            return Err((at, "unclosed action".to_owned()));
        };
        if rest.starts_with("}}") {
            return Ok((lexemes, at + 2, false));
        }
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            if rest[1..].starts_with("-}}") {
                return Ok((lexemes, at + 4, true));
            }
            spaced = true;
            at += 1;
            continue;
        }
        let word_len = |text: &str| {
            text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
        };
        let (token, length) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' => text_token(rest).ok_or((at, "unterminated quoted string".to_owned()))?,
            '`' => {
                let end = rest[1..].find('`');
                let end = end.ok_or((at, "unterminated raw quoted string".to_owned()))?;
                (Token::Text(rest[1..=end].to_owned()), end + 2)
            }
            '\'' => {
                let end = rest[1..].find('\'').filter(|&end| end > 0);
                let end = end.ok_or((at, "unterminated character constant".to_owned()))?;
                let c = rest[1..].chars().next().map_or(0, u32::from);
                (Token::Int(i64::from(c)), end + 2)
            }
            '$' => {
                let length = word_len(&rest[1..]);
                (Token::Variable(rest[1..=length].to_owned()), length + 1)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                match word_len(&rest[1..]) {
                    0 => (Token::Dot, 1),
                    length => (Token::Field(rest[1..=length].to_owned()), length + 1),
                }
            }
            '0'..='9' | '+' | '-' | '.' => number(rest).ok_or((
                at,
                format!("bad number syntax: {:?}", rest.chars().take(12).collect::<String>()),
            ))?,
            _ => match word_len(rest) {
                0 => return Err((at, format!("unexpected {first:?} in command"))),
                length => (Token::Word(rest[..length].to_owned()), length),
            },
        };
        lexemes.push(Lexeme { token, at, spaced });
        at += length;
        spaced = false;
    }
}

/// A quoted string with Go's escapes, and its length in the text.
fn text_token(text: &str) -> Option<(Token, usize)> {
    let mut out: Vec<u8> = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let mut push = |c: char| {
        let mut buffer = [0; 4];
        out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    };
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                end = Some(at + 1);
                break;
            }
            '\n' => return None,
            '\\' => {
                let (_, escape) = chars.next()?;
                let plain = match escape {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'v' => '\x0b',
                    '\\' | '"' => escape,
                    'x' | 'u' | 'U' => {
                        let length = match escape {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let mut digits = String::new();
                        for _ in 0..length {
                            digits.push(chars.next()?.1);
                        }
                        let code = u32::from_str_radix(&digits, 16).ok()?;
                        // `\xff` is a byte in Go; alone it makes broken text, so it is shown as such.
                        match code {
                            0x80..=0xff if escape == 'x' => char::REPLACEMENT_CHARACTER,
                            code => char::from_u32(code)?,
                        }
                    }
                    '0'..='7' => {
                        let mut digits = escape.to_string();
                        for _ in 0..2 {
                            digits.push(chars.next()?.1);
                        }
                        char::from(u8::from_str_radix(&digits, 8).ok()?)
                    }
                    _ => return None,
                };
                push(plain);
            }
            other => push(other),
        }
    }
    Some((Token::Text(String::from_utf8(out).ok()?), end?))
}

fn number(text: &str) -> Option<(Token, usize)> {
    let mut length = 0;
    let mut previous = ' ';
    for c in text.chars() {
        let sign = matches!(c, '+' | '-');
        let goes_on = c.is_ascii_alphanumeric()
            || matches!(c, '.' | '_')
            || (sign && (length == 0 || matches!(previous, 'e' | 'E' | 'p' | 'P')));
        if !goes_on {
            break;
        }
        length += c.len_utf8();
        previous = c;
    }
    let word = text[..length].replace('_', "");
    let (negative, digits) = match word.strip_prefix(['+', '-']) {
        Some(digits) => (word.starts_with('-'), digits),
        None => (false, word.as_str()),
    };
    let radix = |prefix: [&str; 2], radix: u32| {
        let digits = digits.strip_prefix(prefix[0]).or_else(|| digits.strip_prefix(prefix[1]))?;
        i64::from_str_radix(digits, radix).ok()
    };
    let whole = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0b", "0B"], 2))
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| {
            // A leading zero makes it octal.
            if digits.len() > 1 && digits.starts_with('0') {
                i64::from_str_radix(digits, 8).ok()
            } else {
                digits.parse().ok()
            }
        });
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let token = match whole {
        Some(whole) => Token::Int(if negative { -whole } else { whole }),
        None => Token::Float(word.parse().ok().filter(|_| numeric)?),
    };
    Some((token, length))
}
