//! From text to tree: Go's grammar of templates.

use std::collections::BTreeMap;

use crate::functions;

/// Blocks within blocks, parentheses within parentheses.
const DEPTH_MAX: usize = 64;

/// An error and the byte it is at.
type Fail = (usize, String);

#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) nodes: Vec<Node>,
    /// The bodies of `define` and `block`, by name.
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
    /// The body of that name, on a value of its own.
    Template(String, Option<Pipe>),
}

#[derive(Debug)]
pub(super) struct Pipe {
    /// Variables set by it, and whether they are declared (`:=`) rather than assigned (`=`).
    pub(super) sets: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Arg>>,
}

#[derive(Debug)]
pub(super) enum Arg {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Function(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`, without the dollar; the root is the empty name.
    Variable(String, Vec<String>),
    /// `(…).a.b`
    Group(Box<Pipe>, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
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
struct Lexeme {
    token: Token,
    at: usize,
    spaced: bool,
}

enum Piece {
    Text(String),
    Action(Vec<Lexeme>, usize),
}

pub(super) fn parse(text: &str) -> Result<Parsed, Fail> {
    let mut pieces = split(text)?.into_iter();
    let mut parser = Parser {
        // The variables that Prometheus puts before every rule template.
        variables: ["", "labels", "externalLabels", "externalURL", "value"]
            .map(str::to_owned)
            .to_vec(),
        depth: 0,
        loops: 0,
        defined: BTreeMap::new(),
    };
    let (nodes, end) = parser.block(&mut pieces)?;
    match end {
        Stop::Text => Ok(Parsed { nodes, defined: parser.defined }),
        Stop::End(at) => Err((at, "unexpected {{end}}".to_owned())),
        Stop::Else(_, at) => Err((at, "unexpected {{else}}".to_owned())),
    }
}

/// Text and actions, with `{{-` and `-}}` applied and comments left out.
fn split(text: &str) -> Result<Vec<Piece>, Fail> {
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

/// What ended a block.
enum Stop {
    Text,
    End(usize),
    /// The lexemes after `else`.
    Else(Vec<Lexeme>, usize),
}

struct Parser {
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

type Pieces = std::vec::IntoIter<Piece>;

impl Parser {
    fn block(&mut self, pieces: &mut Pieces) -> Result<(Vec<Node>, Stop), Fail> {
        let mut nodes = Vec::new();
        while let Some(piece) = pieces.next() {
            let (lexemes, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(lexemes, at) => (lexemes, at),
            };
            let keyword = match lexemes.first().map(|lexeme| &lexeme.token) {
                Some(Token::Word(word)) => word.clone(),
                Some(_) => String::new(),
                None => return Err((at, "missing value for command".to_owned())),
            };
            let alone = lexemes.len() == 1;
            match keyword.as_str() {
                "end" if alone => return Ok((nodes, Stop::End(at))),
                "else" => {
                    return Ok((nodes, Stop::Else(lexemes.into_iter().skip(1).collect(), at)));
                }
                "if" | "with" | "range" => {
                    nodes.push(self.control(&keyword, &lexemes[1..], at, pieces)?);
                }
                "break" | "continue" if alone => {
                    if self.loops == 0 {
                        return Err((at, format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "block" | "template" => {
                    nodes.extend(self.named(&keyword, &lexemes, at, pieces)?);
                }
                "end" => return Err((at, "unexpected text after {{end".to_owned())),
                _ => {
                    let mut reader = Reader { lexemes: &lexemes, next: 0, end: at };
                    let pipe = self.pipe(&mut reader, false)?;
                    reader.must_end()?;
                    nodes.push(Node::Print(pipe));
                }
            }
        }
        Ok((nodes, Stop::Text))
    }

    /// `define "name"`, `block "name" pipeline`, `template "name" [pipeline]`.
    fn named(
        &mut self,
        keyword: &str,
        lexemes: &[Lexeme],
        at: usize,
        pieces: &mut Pieces,
    ) -> Result<Option<Node>, Fail> {
        let Some(Token::Text(name)) = lexemes.get(1).map(|lexeme| lexeme.token.clone()) else {
            return Err((at, format!("{{{{{keyword}}}}} needs a quoted name")));
        };
        if keyword == "define" && self.depth > 0 {
            return Err((at, "unexpected {{define}}".to_owned()));
        }
        let mut reader = Reader { lexemes: &lexemes[2..], next: 0, end: at };
        let given = reader.peek(0).is_some();
        if given == (keyword == "define") && keyword != "template" {
            return Err((at, format!("missing or unexpected value in {{{{{keyword}}}}}")));
        }
        let pipe = if given { Some(self.pipe(&mut reader, false)?) } else { None };
        reader.must_end()?;
        if keyword != "template" {
            // A body of its own sees nothing of what is around it.
            let around = std::mem::replace(&mut self.variables, vec![String::new()]);
            let loops = std::mem::take(&mut self.loops);
            let body = self.nested(at, |parser| parser.block(pieces));
            (self.variables, self.loops) = (around, loops);
            match body? {
                (body, Stop::End(_)) => self.defined.insert(name.clone(), body),
                _ => return Err((at, format!("{{{{{keyword}}}}} without {{{{end}}}}"))),
            };
        }
        Ok((keyword != "define").then_some(Node::Template(name, pipe)))
    }

    fn nested<T>(
        &mut self,
        at: usize,
        inner: impl FnOnce(&mut Parser) -> Result<T, Fail>,
    ) -> Result<T, Fail> {
        if self.depth >= DEPTH_MAX {
            return Err((at, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let scope = self.variables.len();
        let result = inner(self);
        self.variables.truncate(scope);
        self.depth -= 1;
        result
    }

    fn control(
        &mut self,
        keyword: &str,
        lexemes: &[Lexeme],
        at: usize,
        pieces: &mut Pieces,
    ) -> Result<Node, Fail> {
        self.nested(at, |parser| {
            let mut reader = Reader { lexemes, next: 0, end: at };
            let pipe = parser.pipe(&mut reader, keyword == "range")?;
            reader.must_end()?;
            parser.loops += usize::from(keyword == "range");
            let body = parser.block(pieces);
            parser.loops -= usize::from(keyword == "range");
            let (body, end) = body?;
            let otherwise = match end {
                Stop::End(_) => Vec::new(),
                Stop::Text => return Err((at, format!("{{{{{keyword}}}}} without {{{{end}}}}"))),
                Stop::Else(rest, place) => parser.otherwise(keyword, &rest, place, pieces)?,
            };
            Ok(match keyword {
                "if" => Node::If(pipe, body, otherwise),
                "with" => Node::With(pipe, body, otherwise),
                _ => Node::Range(pipe, body, otherwise),
            })
        })
    }

    fn otherwise(
        &mut self,
        keyword: &str,
        rest: &[Lexeme],
        at: usize,
        pieces: &mut Pieces,
    ) -> Result<Vec<Node>, Fail> {
        match rest.first().map(|lexeme| &lexeme.token) {
            None => {
                let (nodes, end) = self.block(pieces)?;
                match end {
                    Stop::End(_) => Ok(nodes),
                    Stop::Text => Err((at, "{{else}} without {{end}}".to_owned())),
                    Stop::Else(_, at) => Err((at, "expected end; found {{else}}".to_owned())),
                }
            }
            // `else if` shares its `end` with the `if` before it.
            Some(Token::Word(word)) if word == keyword && matches!(keyword, "if" | "with") => {
                Ok(vec![self.control(keyword, &rest[1..], at, pieces)?])
            }
            Some(_) => Err((at, "unexpected text after {{else".to_owned())),
        }
    }

    fn pipe(&mut self, reader: &mut Reader<'_>, ranges: bool) -> Result<Pipe, Fail> {
        let (mut sets, mut declares) = (Vec::new(), false);
        if let Some(Token::Variable(first)) = reader.peek(0) {
            let first = first.clone();
            match (reader.peek(1), reader.peek(2), reader.peek(3)) {
                (Some(Token::Declare | Token::Assign), ..) => {
                    declares = reader.peek(1) == Some(&Token::Declare);
                    sets.push(first);
                    reader.next += 2;
                }
                (
                    Some(Token::Comma),
                    Some(Token::Variable(second)),
                    Some(Token::Declare | Token::Assign),
                ) if ranges => {
                    declares = reader.peek(3) == Some(&Token::Declare);
                    sets.extend([first, second.clone()]);
                    reader.next += 4;
                }
                _ => {}
            }
        }
        if !declares && let Some(unknown) = sets.iter().find(|name| !self.variables.contains(name))
        {
            return Err((reader.at(), format!("undefined variable \"${unknown}\"")));
        }
        let mut commands = Vec::new();
        loop {
            let command = self.command(reader)?;
            // After the first, a command must take what the one before it yields.
            if !commands.is_empty()
                && !matches!(
                    command.first(),
                    Some(Arg::Function(_) | Arg::Field(_) | Arg::Variable(..) | Arg::Group(..))
                )
            {
                return Err((reader.at(), "non executable command in pipeline".to_owned()));
            }
            commands.push(command);
            if reader.peek(0) != Some(&Token::Pipe) {
                break;
            }
            reader.next += 1;
        }
        if declares {
            self.variables.extend(sets.iter().cloned());
        }
        Ok(Pipe { sets, declares, commands })
    }

    fn command(&mut self, reader: &mut Reader<'_>) -> Result<Vec<Arg>, Fail> {
        let mut args = Vec::new();
        while !matches!(reader.peek(0), None | Some(Token::Pipe | Token::Close)) {
            if !args.is_empty() && !reader.spaced() {
                return Err((reader.at(), "unexpected token in operand".to_owned()));
            }
            args.push(self.operand(reader)?);
        }
        if args.is_empty() {
            return Err((reader.at(), "missing value for command".to_owned()));
        }
        Ok(args)
    }

    fn operand(&mut self, reader: &mut Reader<'_>) -> Result<Arg, Fail> {
        let at = reader.at();
        let Some(token) = reader.take() else {
            return Err((at, "missing operand".to_owned()));
        };
        match token {
            Token::Field(name) => {
                let mut path = vec![name];
                path.extend(reader.fields());
                Ok(Arg::Field(path))
            }
            Token::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err((at, format!("undefined variable \"${name}\"")));
                }
                Ok(Arg::Variable(name, reader.fields()))
            }
            Token::Open => {
                let pipe = self.nested(at, |parser| parser.pipe(reader, false))?;
                if reader.take() != Some(Token::Close) {
                    return Err((at, "unclosed left paren".to_owned()));
                }
                Ok(Arg::Group(Box::new(pipe), reader.fields()))
            }
            token => {
                let arg = match token {
                    Token::Dot => Arg::Dot,
                    Token::Text(text) => Arg::Text(text),
                    Token::Int(number) => Arg::Int(number),
                    Token::Float(number) => Arg::Float(number),
                    Token::Word(word) => match word.as_str() {
                        "true" => Arg::Bool(true),
                        "false" => Arg::Bool(false),
                        "nil" => Arg::Nil,
                        name if functions::is_known(name) => Arg::Function(word),
                        _ => return Err((at, format!("function {word:?} not defined"))),
                    },
                    other => return Err((at, format!("unexpected {other:?} in operand"))),
                };
                if matches!(reader.peek(0), Some(Token::Field(_))) && !reader.spaced() {
                    return Err((reader.at(), "unexpected . after term".to_owned()));
                }
                Ok(arg)
            }
        }
    }
}

struct Reader<'a> {
    lexemes: &'a [Lexeme],
    next: usize,
    end: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.lexemes.get(self.next + ahead).map(|lexeme| &lexeme.token)
    }

    fn spaced(&self) -> bool {
        self.lexemes.get(self.next).is_none_or(|lexeme| lexeme.spaced)
    }

    fn at(&self) -> usize {
        self.lexemes.get(self.next).map_or(self.end, |lexeme| lexeme.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek(0).cloned();
        self.next += 1;
        token
    }

    /// The fields glued to what was just read.
    fn fields(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(Token::Field(name)) = self.peek(0) {
            if self.spaced() {
                break;
            }
            path.push(name.clone());
            self.next += 1;
        }
        path
    }

    fn must_end(&self) -> Result<(), Fail> {
        match self.peek(0) {
            None => Ok(()),
            Some(token) => Err((self.at(), format!("unexpected {token:?}"))),
        }
    }
}
