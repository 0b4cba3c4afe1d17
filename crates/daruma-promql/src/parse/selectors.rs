//! Selectors: a name, conditions in braces, and whether they select anything less than everything.

use daruma_model::{LabelError, Labels, MatchOp, Matcher};

use super::{Parsed, Parser};
use crate::ast::{Edges, Kind, Node, Shift, VectorSelector};
use crate::lex::Token;

impl Parser<'_> {
    pub(super) fn selector(&mut self, name: Option<(String, usize)>, start: usize) -> Parsed<Node> {
        let mut matchers = Vec::new();
        let mut name = name.map(|(name, _)| name);
        if self.take_sign("{") {
            while !self.take_sign("}") {
                self.matcher(&mut name, &mut matchers)?;
                if !self.take_sign(",") && !self.is_sign("}") {
                    return Err(self.unexpected("`,` or `}`"));
                }
            }
        }
        if let Some(name) = name {
            if let Some(twice) = matchers.iter().find(|m: &&Matcher| m.name == Labels::NAME) {
                let message =
                    format!("metric name must not be set twice: `{name}` and `{}`", twice.value);
                return Err(self.error(start..self.end(), message));
            }
            matchers.insert(0, self.compile(Labels::NAME, MatchOp::Equal, &name, start)?);
        }
        let span = start..self.end();
        let selector = VectorSelector {
            matchers,
            window: None,
            shift: Shift::default(),
            edges: Edges::Plain,
            span: span.clone(),
            index: 0,
        };
        self.node(Kind::Selector(Box::new(selector)), start)
    }

    /// `label="value"`, or a metric name in quotes.
    pub(super) fn matcher(
        &mut self,
        name: &mut Option<String>,
        matchers: &mut Vec<Matcher>,
    ) -> Parsed<()> {
        let lexeme = self.lexemes[self.at].clone();
        let label = match lexeme.token {
            Token::Word(word) => word,
            Token::Text(text) => text,
            _ => return Err(self.unexpected("a label name or `}`")),
        };
        self.take();
        let quoted = self.text[lexeme.span.clone()].starts_with(['"', '\'', '`']);
        if quoted && (self.is_sign(",") || self.is_sign("}")) {
            if let Some(first) = name.replace(label.clone()) {
                let message = format!("metric name must not be set twice: `{first}` and `{label}`");
                return Err(self.error(lexeme.span, message));
            }
            return Ok(());
        }
        let op = match self.peek() {
            Token::Sign("=") => MatchOp::Equal,
            Token::Sign("!=") => MatchOp::NotEqual,
            Token::Sign("=~") => MatchOp::Regex,
            Token::Sign("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("`=`, `!=`, `=~` or `!~`")),
        };
        self.take();
        let value_start = self.span().start;
        let Token::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("a quoted value"));
        };
        self.take();
        matchers.push(self.compile(&label, op, &value, value_start)?);
        Ok(())
    }

    pub(super) fn compile(
        &self,
        name: &str,
        op: MatchOp,
        value: &str,
        start: usize,
    ) -> Parsed<Matcher> {
        Matcher::new(name, op, value).map_err(|error| {
            let message = match error {
                // The engine draws the place over several lines; its last line says what is wrong.
                LabelError::Regex { pattern, why } => {
                    let why = why.lines().last().unwrap_or("").trim_start_matches("error: ");
                    format!("the regular expression {pattern:?} cannot be used: {why}")
                }
                other => other.to_string(),
            };
            self.error(start..self.end(), message)
        })
    }

    /// A selector of everything would read the whole store; at least one matcher must refuse "".
    pub(super) fn check_selectors(&self, node: &Node, in_info: bool) -> Parsed<()> {
        if let Kind::Selector(selector) = &node.kind
            && !in_info
            && selector.matchers.iter().all(|matcher| matcher.matches_value(""))
        {
            let message =
                "a selector needs at least one matcher that does not match the empty text";
            return Err(self.error(node.span.clone(), message));
        }
        let info = matches!(&node.kind, Kind::Call(call) if call.function.name == "info");
        for (i, child) in node.children().into_iter().enumerate() {
            self.check_selectors(child, info && i == 1)?;
        }
        Ok(())
    }
}
