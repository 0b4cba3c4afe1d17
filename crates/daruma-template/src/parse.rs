//! From text to tree: Go's grammar of templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::functions::{self, Dialect};
use crate::lex::{Lexeme, Piece, Token, split};

/// Blocks within blocks, parentheses within parentheses.
const DEPTH_MAX: usize = 64;

/// An error and the byte it is at.
pub(crate) type Fail = (usize, String);

#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) nodes: Vec<Node>,
    /// The bodies of `define` and `block`, by name.
    pub(crate) defined: BTreeMap<String, Arc<Vec<Node>>>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    Print(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
    /// The body of that name, on a value of its own, and the byte it is asked for at.
    Template(String, Option<Pipe>, usize),
}

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Variables set by it, and whether they are declared (`:=`) rather than assigned (`=`).
    pub(crate) sets: Vec<String>,
    pub(crate) declares: bool,
    pub(crate) commands: Vec<Vec<Arg>>,
}

#[derive(Debug)]
pub(crate) enum Arg {
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

pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Parsed, Fail> {
    let mut pieces = split(text)?.into_iter();
    let mut parser = Parser {
        dialect,
        variables: dialect.variables().iter().map(|name| (*name).to_owned()).collect(),
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

/// What ended a block.
enum Stop {
    Text,
    End(usize),
    /// The lexemes after `else`.
    Else(Vec<Lexeme>, usize),
}

struct Parser {
    dialect: Dialect,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    defined: BTreeMap<String, Arc<Vec<Node>>>,
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
                (body, Stop::End(_)) => self.defined.insert(name.clone(), Arc::new(body)),
                _ => return Err((at, format!("{{{{{keyword}}}}} without {{{{end}}}}"))),
            };
        }
        Ok((keyword != "define").then_some(Node::Template(name, pipe, at)))
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
                        name if functions::is_known(name, self.dialect) => Arg::Function(word),
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
