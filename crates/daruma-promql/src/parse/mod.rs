//! Tokens to a checked tree. Types, matching rules and modifiers are judged here, so that the
//! evaluator meets only trees that mean something; it is never asked about text.

mod durations;
mod selectors;

use std::ops::Range;

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Edges, Kind, Matching, Node,
    Shift, ValueType,
};
use crate::functions::{FUNCTIONS, Function, nearest};
use crate::lex::{Lexeme, Token, lex, not_utf8};
use crate::{ParseError, ParseOptions, TEXT_BYTES_MAX};

/// The longest way from the root of a tree to a leaf. Recursion over the tree needs no other bound;
/// 200 levels fit in a quarter of the 2 MiB stack of a thread, unoptimised.
const HEIGHT_MAX: usize = 200;

pub(crate) fn parse(text: &str, options: &ParseOptions) -> Result<Node, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "the query is {} bytes long; at most {TEXT_BYTES_MAX} are accepted",
            text.len()
        );
        return Err(ParseError::at(text, 0..0, message));
    }
    let mut parser = Parser { text, lexemes: lex(text)?, at: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Err(parser.error(0..text.len(), "the query is empty"));
    }
    let mut root = parser.expr(0)?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("an operator or the end"));
    }
    parser.check_selectors(&root, false)?;
    if !options.experimental
        && let Some((name, span)) = experimental(&root).into_iter().next()
    {
        return Err(not_switched_on(text, name, span));
    }
    number_nodes(&mut root);
    Ok(root)
}

/// The experimental functions and operators of a tree, in order of writing, with their places.
pub(crate) fn experimental(root: &Node) -> Vec<(&'static str, Range<usize>)> {
    let (mut found, mut todo) = (Vec::new(), vec![root]);
    while let Some(node) = todo.pop() {
        let name = match &node.kind {
            Kind::Call(call) if call.function.experimental => Some(call.function.name),
            Kind::Aggregate(aggregate) if aggregate.op.is_experimental() => {
                Some(aggregate.op.as_str())
            }
            _ => None,
        };
        if let Some(name) = name {
            found.push((name, node.span.start..node.span.start + name.len()));
        }
        todo.extend(node.children().into_iter().rev());
    }
    found
}

pub(crate) fn not_switched_on(text: &str, name: &str, span: Range<usize>) -> ParseError {
    let message = format!(
        "`{name}` is experimental; the switch `experimental` allows it (in Prometheus: --enable-feature=promql-experimental-functions)"
    );
    ParseError::at(text, span, message)
}

/// Numbers nodes and selectors in order of writing.
fn number_nodes(root: &mut Node) {
    let (mut id, mut index, mut todo) = (0, 0, vec![root]);
    while let Some(node) = todo.pop() {
        node.id = id;
        id += 1;
        if let Kind::Selector(selector) = &mut node.kind {
            selector.index = index;
            index += 1;
        }
        todo.extend(node.children_mut().into_iter().rev());
    }
}

struct Parser<'t> {
    text: &'t str,
    lexemes: Vec<Lexeme>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, ParseError>;

/// What stood behind a binary operator.
#[derive(Default)]
struct Modifiers {
    returns_bool: bool,
    matching: Matching,
    grouped: bool,
    given: Option<Range<usize>>,
    filled: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.lexemes[self.at].token
    }

    fn peek_after(&self) -> &Token {
        &self.lexemes[(self.at + 1).min(self.lexemes.len() - 1)].token
    }

    fn span(&self) -> Range<usize> {
        self.lexemes[self.at].span.clone()
    }

    /// Where the last token taken ended.
    fn end(&self) -> usize {
        self.lexemes[self.at.saturating_sub(1)].span.end
    }

    fn take(&mut self) -> Lexeme {
        let lexeme = self.lexemes[self.at].clone();
        self.at = (self.at + 1).min(self.lexemes.len() - 1);
        lexeme
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.take();
        }
        found
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str, wanted: &str) -> Parsed<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, span, message.into())
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let span = self.span();
        let found = self.peek().shown(self.text, &span);
        self.error(span, format!("unexpected {found}, expected {wanted}"))
    }

    /// Runs `parse` one level deeper, unless that would be too deep.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= HEIGHT_MAX {
            return Err(self.too_deep(self.span()));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self, span: Range<usize>) -> ParseError {
        self.error(span, format!("the query is nested too deeply; {HEIGHT_MAX} levels at most"))
    }

    fn node(&self, kind: Kind, start: usize) -> Parsed<Node> {
        let mut node = Node { kind, span: start..self.end().max(start), id: 0, height: 0 };
        node.height = 1 + node.children().iter().map(|child| child.height).max().unwrap_or(0);
        if node.height > HEIGHT_MAX {
            return Err(self.too_deep(node.span));
        }
        Ok(node)
    }

    /// Precedence climbing: everything that binds at least as tight as `floor`.
    fn expr(&mut self, floor: u8) -> Parsed<Node> {
        self.deeper(|this| {
            let mut left = this.unary()?;
            while let Some(op) = this.binary_op() {
                if op.precedence() < floor {
                    break;
                }
                let sign = this.take().span;
                let modifiers = this.modifiers(op)?;
                let tighter = u8::from(op != BinaryOp::Pow);
                let right = this.expr(op.precedence() + tighter)?;
                left = this.binary(op, &sign, modifiers, left, right)?;
            }
            Ok(left)
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        match self.peek() {
            Token::Sign(sign) => Some(match *sign {
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                "/" => BinaryOp::Div,
                "%" => BinaryOp::Mod,
                "^" => BinaryOp::Pow,
                "==" => BinaryOp::Equal,
                "!=" => BinaryOp::NotEqual,
                "<" => BinaryOp::Less,
                "<=" => BinaryOp::LessEqual,
                ">" => BinaryOp::Greater,
                ">=" => BinaryOp::GreaterEqual,
                "</" => BinaryOp::TrimUpper,
                ">/" => BinaryOp::TrimLower,
                _ => return None,
            }),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "and" => Some(BinaryOp::And),
                "or" => Some(BinaryOp::Or),
                "unless" => Some(BinaryOp::Unless),
                "atan2" => Some(BinaryOp::Atan2),
                _ => None,
            },
            _ => None,
        }
    }

    fn modifiers(&mut self, op: BinaryOp) -> Parsed<Modifiers> {
        let mut modifiers = Modifiers::default();
        if self.is_word("bool") {
            let span = self.take().span;
            if !op.is_comparison() {
                return Err(self.error(span, "`bool` can only stand behind a comparison operator"));
            }
            modifiers.returns_bool = true;
        }
        let start = self.span().start;
        if self.is_word("on") || self.is_word("ignoring") {
            modifiers.matching.on = self.is_word("on");
            self.take();
            modifiers.matching.labels = self.label_list()?;
            modifiers.given = Some(start..self.end());
            let side =
                [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
                    .into_iter()
                    .find(|(word, _)| self.is_word(word));
            if let Some((_, cardinality)) = side {
                let span = self.take().span;
                if op.is_set() {
                    let message = format!("no grouping is allowed for `{}`", op.as_str());
                    return Err(self.error(span, message));
                }
                modifiers.matching.cardinality = cardinality;
                modifiers.grouped = true;
                if self.is_sign("(") {
                    modifiers.matching.include = self.label_list()?;
                }
                let both = modifiers.matching.include.iter().find(|label| {
                    modifiers.matching.on && modifiers.matching.labels.contains(label)
                });
                if let Some(label) = both {
                    let message =
                        format!("label `{label}` must not occur in both the on and the group list");
                    return Err(self.error(start..self.end(), message));
                }
            }
        }
        self.fills(op, &mut modifiers)?;
        if op.is_set() {
            modifiers.matching.cardinality = Cardinality::ManyToMany;
        }
        Ok(modifiers)
    }

    fn fills(&mut self, op: BinaryOp, modifiers: &mut Modifiers) -> Parsed<()> {
        while let Token::Word(word) = self.peek() {
            let word = word.to_ascii_lowercase();
            let fill = matches!(word.as_str(), "fill" | "fill_left" | "fill_right");
            if !fill || !matches!(self.peek_after(), Token::Sign("(")) {
                break;
            }
            let span = self.take().span;
            if op.is_set() {
                return Err(self.error(span, "a set operator has nothing to fill"));
            }
            self.expect("(", "`(`")?;
            let minus = self.sign();
            let Some(value) = self.number() else { return Err(self.unexpected("a number")) };
            let value = if minus { -value } else { value };
            self.expect(")", "`)`")?;
            if word != "fill_right" {
                modifiers.matching.fill_left = Some(value);
            }
            if word != "fill_left" {
                modifiers.matching.fill_right = Some(value);
            }
            modifiers.filled = true;
            modifiers.given.get_or_insert(span);
        }
        Ok(())
    }

    /// An optional sign; whether it was a minus.
    fn sign(&mut self) -> bool {
        let minus = self.take_sign("-");
        if !minus {
            self.take_sign("+");
        }
        minus
    }

    /// A number token, `inf` and `nan` included.
    fn number(&mut self) -> Option<f64> {
        let number = match self.peek() {
            Token::Number(number) => *number,
            Token::Word(word) if word.eq_ignore_ascii_case("inf") => f64::INFINITY,
            Token::Word(word) if word.eq_ignore_ascii_case("nan") => f64::NAN,
            _ => return None,
        };
        self.take();
        Some(number)
    }

    fn binary(
        &self,
        op: BinaryOp,
        sign: &Range<usize>,
        modifiers: Modifiers,
        left: Node,
        right: Node,
    ) -> Parsed<Node> {
        let (l, r) = (left.returns(), right.returns());
        for (side, node) in [(l, &left), (r, &right)] {
            if !matches!(side, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "`{}` takes scalars and instant vectors, not a {}",
                    op.as_str(),
                    side.as_str()
                );
                return Err(self.error(node.span.clone(), message));
            }
        }
        let span = left.span.start..right.span.end;
        let vectors = (l, r) == (ValueType::Vector, ValueType::Vector);
        if op.is_comparison() && l == r && l == ValueType::Scalar && !modifiers.returns_bool {
            let message = format!(
                "a comparison between scalars must use `bool`: write `{} bool`",
                op.as_str()
            );
            return Err(self.error(sign.clone(), message));
        }
        if op.is_set() && !vectors {
            let message = format!("`{}` is only allowed between instant vectors", op.as_str());
            return Err(self.error(span, message));
        }
        let Modifiers { returns_bool, mut matching, given, filled, .. } = modifiers;
        if !vectors {
            let says = match (filled, matching.labels.is_empty()) {
                (true, _) => Some("filling is only allowed between instant vectors"),
                (_, false) => Some("vector matching is only allowed between instant vectors"),
                // `a + on() 1` names nothing to match; Prometheus overlooks it.
                (false, true) => None,
            };
            if let (Some(message), Some(given)) = (says, given) {
                return Err(self.error(given, message));
            }
            matching = Matching::default();
        }
        let start = left.span.start;
        let binary = Binary { op, left, right, returns_bool, matching };
        self.node(Kind::Binary(Box::new(binary)), start)
    }

    fn unary(&mut self) -> Parsed<Node> {
        if !self.is_sign("-") && !self.is_sign("+") {
            return self.postfix();
        }
        let sign = self.take();
        let minus = sign.token == Token::Sign("-");
        // A sign binds as tight as `*`: `-2 ^ 2` is −4.
        let inner = self.expr(BinaryOp::Mul.precedence() + 1)?;
        if !matches!(inner.returns(), ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "a sign takes a scalar or an instant vector, not a {}",
                inner.returns().as_str()
            );
            return Err(self.error(inner.span, message));
        }
        self.node(Kind::Unary { minus, inner: Box::new(inner) }, sign.span.start)
    }

    /// A primary with the windows and modifiers behind it.
    fn postfix(&mut self) -> Parsed<Node> {
        let mut node = self.primary()?;
        loop {
            let start = node.span.start;
            match self.peek() {
                Token::Sign("[") => node = self.window(node)?,
                Token::Sign("@") => {
                    let span = self.take().span;
                    let at = self.at_time()?;
                    let whole = start..self.end();
                    let message = "`@` must follow an instant vector selector, a range vector selector or a subquery";
                    let misplaced = self.error(span.clone(), message);
                    let shift = shift_of(&mut node).ok_or(misplaced)?;
                    if shift.at.replace(at).is_some() {
                        return Err(self.error(span, "`@` may be given once only"));
                    }
                    node.span = whole;
                }
                Token::Word(word) if word.eq_ignore_ascii_case("offset") => {
                    let span = self.take().span;
                    let offset = self.offset()?;
                    let whole = start..self.end();
                    let message = "`offset` must follow an instant vector selector, a range vector selector or a subquery";
                    let misplaced = self.error(span.clone(), message);
                    let shift = shift_of(&mut node).ok_or(misplaced)?;
                    if shift.offset.replace(offset).is_some() {
                        return Err(self.error(span, "`offset` may be given once only"));
                    }
                    node.span = whole;
                }
                Token::Word(word)
                    if word.eq_ignore_ascii_case("anchored")
                        || word.eq_ignore_ascii_case("smoothed") =>
                {
                    let edges = if word.eq_ignore_ascii_case("anchored") {
                        Edges::Anchored
                    } else {
                        Edges::Smoothed
                    };
                    let span = self.take().span;
                    let Kind::Selector(selector) = &mut node.kind else {
                        return Err(self.error(span, "this modifier must follow a selector"));
                    };
                    if selector.edges != Edges::Plain {
                        let message = "only one of `anchored` and `smoothed` may be given, once";
                        return Err(self.error(span, message));
                    }
                    selector.edges = edges;
                    node.span = start..self.end();
                }
                _ => return Ok(node),
            }
            if let Kind::Selector(selector) = &mut node.kind {
                selector.span = node.span.clone();
            }
        }
    }

    fn primary(&mut self) -> Parsed<Node> {
        let start = self.span().start;
        match self.peek().clone() {
            Token::Number(number) => {
                self.take();
                self.node(Kind::Number(number), start)
            }
            Token::Text(text) => {
                self.take();
                self.node(Kind::Text(text), start)
            }
            Token::Sign("(") => {
                self.take();
                let inner = self.expr(0)?;
                self.expect(")", "an operator or `)`")?;
                self.node(Kind::Paren(Box::new(inner)), start)
            }
            Token::Bytes(_) => Err(not_utf8(self.text, self.span())),
            Token::Sign("{") => self.selector(None, start),
            Token::Word(word) => self.word(&word, start),
            _ => Err(self.unexpected("a value, a selector, a function or `(`")),
        }
    }

    fn word(&mut self, word: &str, start: usize) -> Parsed<Node> {
        let called = matches!(self.peek_after(), Token::Sign("("));
        let grouped = matches!(self.peek_after(), Token::Word(next)
            if next.eq_ignore_ascii_case("by") || next.eq_ignore_ascii_case("without"));
        if let Some(op) = AggregateOp::parse(word)
            && (called || grouped)
        {
            return self.aggregate(op, start);
        }
        if called {
            return self.call(word, start);
        }
        match word.to_ascii_lowercase().as_str() {
            "inf" => {
                self.take();
                self.node(Kind::Number(f64::INFINITY), start)
            }
            "nan" => {
                self.take();
                self.node(Kind::Number(f64::NAN), start)
            }
            // Words that are never metric names, unless quoted in braces.
            "and" | "or" | "unless" | "atan2" if !word.contains(':') => {
                // The grammar knows what it means here: a metric with an operator's name.
                self.take();
                self.selector(Some((word.to_owned(), start)), start)
            }
            "bool" | "on" | "ignoring" | "group_left" | "group_right" => {
                Err(self.unexpected("a value, a selector, a function or `(`"))
            }
            _ => {
                self.take();
                self.selector(Some((word.to_owned(), start)), start)
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: usize) -> Parsed<Node> {
        self.take();
        let mut grouping = self.grouping()?;
        let open = self.span();
        if op == AggregateOp::CountValues
            && let Token::Bytes(shown) = self.peek_after()
        {
            let span = self.lexemes[self.at + 1].span.clone();
            return Err(self.error(span, format!("invalid label name {shown}")));
        }
        let mut args = self.args()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (labels, without) = grouping.unwrap_or_default();
        let wanted = 1 + usize::from(op.param().is_some());
        if args.len() != wanted {
            let message = format!(
                "`{}` takes {wanted} argument{}, not {}",
                op.as_str(),
                if wanted == 1 { "" } else { "s" },
                args.len()
            );
            return Err(self.error(open.start..self.end(), message));
        }
        let types = op.param().into_iter().chain([ValueType::Vector]);
        for (arg, wanted) in args.iter().zip(types) {
            self.check_type(arg, wanted, op.as_str())?;
        }
        let Some(input) = args.pop() else { return Err(self.unexpected("an argument")) };
        let aggregate = Aggregate { op, param: args.pop(), input, labels, without };
        self.node(Kind::Aggregate(Box::new(aggregate)), start)
    }

    fn grouping(&mut self) -> Parsed<Option<(Vec<String>, bool)>> {
        let without = self.is_word("without");
        if !without && !self.is_word("by") {
            return Ok(None);
        }
        self.take();
        Ok(Some((self.label_list()?, without)))
    }

    /// `(a, "b.c", by)`: any word is a label name here.
    fn label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect("(", "`(` and label names")?;
        let mut labels = Vec::new();
        while !self.take_sign(")") {
            let lexeme = self.lexemes[self.at].clone();
            match lexeme.token {
                Token::Word(word) if !word.contains(':') => labels.push(word),
                Token::Text(text) if !text.is_empty() => labels.push(text),
                _ => return Err(self.unexpected("a label name")),
            }
            self.take();
            if !self.take_sign(",") && !self.is_sign(")") {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        Ok(labels)
    }

    fn args(&mut self) -> Parsed<Vec<Node>> {
        self.expect("(", "`(`")?;
        let mut args = Vec::new();
        if self.take_sign(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            if self.take_sign(")") {
                return Ok(args);
            }
            if !self.take_sign(",") {
                return Err(self.unexpected("an operator, `,` or `)`"));
            }
            if self.is_sign(")") {
                let message = "a trailing comma is not allowed in function arguments";
                return Err(self.error(self.span(), message));
            }
        }
    }

    fn call(&mut self, word: &str, start: usize) -> Parsed<Node> {
        let name_span = self.take().span;
        // The functions that stand for the query's bounds are keywords, hence of any case.
        let lower = word.to_ascii_lowercase();
        let name = match lower.as_str() {
            "start" | "end" | "step" | "range" | "min_of" | "max_of" => lower.as_str(),
            _ => word,
        };
        let Some(function) = Function::named(name) else {
            let names = FUNCTIONS.iter().map(|f| f.name);
            let names = names.chain(AggregateOp::ALL.iter().map(|(name, _)| *name));
            let hint = match (word, nearest(word, names)) {
                ("holt_winters", _) => "; it is now `double_exponential_smoothing`".to_owned(),
                (_, Some(name)) => format!("; did you mean `{name}`?"),
                (_, None) => String::new(),
            };
            return Err(self.error(name_span, format!("unknown function `{word}`{hint}")));
        };
        let args = self.args()?;
        let (most, least) = (function.args.len(), function.args.len() - function.optional);
        if args.len() < least || args.len() > most && !function.repeats {
            let wanted = match (least, most, function.repeats) {
                (least, _, true) => format!("at least {least}"),
                (least, most, _) if least == most => format!("{least}"),
                (least, most, _) => format!("{least} to {most}"),
            };
            let message =
                format!("`{}` takes {wanted} argument(s), not {}", function.name, args.len());
            return Err(self.error(start..self.end(), message));
        }
        for (i, arg) in args.iter().enumerate() {
            if let Some(wanted) = function.arg(i) {
                self.check_type(arg, wanted, function.name)?;
            }
        }
        if function.name == "info"
            && let Some(second) = args.get(1)
            && !matches!(&second.kind, Kind::Selector(_))
        {
            let message = "the second argument of `info` must be label matchers in braces";
            return Err(self.error(second.span.clone(), message));
        }
        self.check_edges(function.name, &args)?;
        self.node(Kind::Call(Call { function, args }), start)
    }

    /// Windows with filled-in edges serve only the functions that are defined on them.
    fn check_edges(&self, function: &str, args: &[Node]) -> Parsed<()> {
        for arg in args {
            let Kind::Selector(selector) = &arg.bare().kind else { continue };
            let (word, allowed): (_, &[&str]) = match (selector.edges, &selector.window) {
                (Edges::Anchored, Some(_)) => {
                    ("anchored", &["changes", "delta", "increase", "rate", "resets"])
                }
                (Edges::Smoothed, Some(_)) => ("smoothed", &["delta", "increase", "rate"]),
                _ => continue,
            };
            if !allowed.contains(&function) {
                let message = format!(
                    "{word} modifier can only be used with: {} - not with {function}",
                    allowed.join(", ")
                );
                return Err(self.error(arg.span.clone(), message));
            }
        }
        Ok(())
    }

    fn check_type(&self, arg: &Node, wanted: ValueType, context: &str) -> Parsed<()> {
        let found = arg.returns();
        if found == wanted {
            return Ok(());
        }
        let hint = match (wanted, &arg.bare().kind) {
            (ValueType::Matrix, Kind::Selector(_)) => "; add a window, such as [5m]",
            (ValueType::Matrix, _) => "; add a window and a step, such as [5m:1m]",
            (ValueType::Vector, Kind::Selector(_)) => "; leave out the window",
            (ValueType::Vector, _) if found == ValueType::Scalar => "; write vector(…)",
            (ValueType::Scalar, _) if found == ValueType::Vector => "; write scalar(…)",
            _ => "",
        };
        let message = format!(
            "`{context}` expects {} {}, not {} {}{hint}",
            article(wanted),
            wanted.as_str(),
            article(found),
            found.as_str(),
        );
        Err(self.error(arg.span.clone(), message))
    }
}

fn article(value_type: ValueType) -> &'static str {
    if value_type == ValueType::Vector { "an" } else { "a" }
}

fn shift_of(node: &mut Node) -> Option<&mut Shift> {
    match &mut node.kind {
        Kind::Selector(selector) => Some(&mut selector.shift),
        Kind::Subquery(subquery) => Some(&mut subquery.shift),
        _ => None,
    }
}
