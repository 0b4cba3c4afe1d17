//! PromQL: the parser, and the reference (batch) evaluator over any [`Querier`].
//!
//! It stands apart because everything that asks about series asks here: rules, the HTTP API, charts
//! and command line share one meaning of a query, and the streaming evaluator is held equal to it.
//!
//! Never in here: a clock, I/O, randomness, async. Time comes in as an argument, samples through
//! [`Querier`]. No text makes the parser panic and no data the evaluator; both are bounded, in the
//! length and height of a query and in the samples it may hold ([`Limits`]).
//!
//! ```
//! use daruma_promql::{Expr, ValueType};
//!
//! let expr: Expr = "sum by (job) (rate(http_requests_total[5m])) > 10".parse()?;
//! assert_eq!(expr.returns(), ValueType::Vector);
//! assert_eq!(expr.selectors()[0].name(), Some("http_requests_total"));
//!
//! let error = "sum(rat(x[5m]))".parse::<Expr>().unwrap_err();
//! assert_eq!(error.to_string(), "1:5: unknown function `rat`; did you mean `rate`?");
//! # Ok::<(), daruma_promql::ParseError>(())
//! ```

mod ast;
mod eval;
mod functions;
pub mod histogram;
mod inputs;
mod lex;
mod number;
mod parse;
mod print;
pub mod script;
mod tree;
mod value;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Duration, DurationExpr, Edges,
    Kind, Matching, Node, Shift, Subquery, ValueType, VectorSelector,
};
pub use eval::{EvalError, Limits, instant, range};
pub use functions::{FUNCTIONS, Function};
pub use inputs::{fresh_inputs, inputs_present};
pub use number::{format_short, format_value};
pub use value::{Annotation, AnnotationLevel, Answer, SampleValue, Value, VectorSample};

#[doc(no_inline)]
pub use daruma_model::Querier;

/// The longest query that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A parsed query. Cheap to clone; compares, prints and serializes as its text.
#[derive(Clone)]
pub struct Expr(Arc<Inner>);

struct Inner {
    text: String,
    root: Node,
}

/// What of the language is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Functions and operators that may still change upstream ([`Function::experimental`]). Off by
    /// default, as in Prometheus.
    pub experimental: bool,
}

impl Expr {
    /// Parses and checks a query, with the default [`ParseOptions`].
    ///
    /// # Errors
    /// [`ParseError`] with the place in the text and what was expected there.
    pub fn parse(text: &str) -> Result<Expr, ParseError> {
        Expr::parse_with(text, &ParseOptions::default())
    }

    /// Parses and checks a query.
    ///
    /// # Errors
    /// [`ParseError`] with the place in the text and what was expected there, or which switch allows
    /// what was found.
    pub fn parse_with(text: &str, options: &ParseOptions) -> Result<Expr, ParseError> {
        let root = parse::parse(text, options)?;
        Ok(Expr(Arc::new(Inner { text: text.to_owned(), root })))
    }

    /// Refuses what `options` do not allow. Configuration is read before its switches are known, so
    /// deserialization accepts the whole language; whoever knows the switches asks here.
    ///
    /// # Errors
    /// [`ParseError`] with the place of the first thing that is not switched on.
    pub fn check(&self, options: &ParseOptions) -> Result<(), ParseError> {
        match parse::experimental(self.ast()).into_iter().next() {
            Some((name, span)) if !options.experimental => {
                Err(parse::not_switched_on(self.text(), name, span))
            }
            _ => Ok(()),
        }
    }

    /// The query as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The root of the tree.
    #[must_use]
    pub fn ast(&self) -> &Node {
        &self.0.root
    }

    /// Every selector (leaf), with its window and shift, in order of writing.
    #[must_use]
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        self.0.root.selectors()
    }

    /// What it yields.
    #[must_use]
    pub fn returns(&self) -> ValueType {
        self.0.root.returns()
    }
}

impl Expr {
    /// The same query, read as of `time`: every selector and subquery that has no `@` gets one, as if
    /// `@ time` were written. The text stays as it is.
    pub(crate) fn pinned(&self, time: daruma_model::Time) -> Expr {
        let mut root = self.0.root.clone();
        let mut todo = vec![&mut root];
        while let Some(node) = todo.pop() {
            let inner = match &mut node.kind {
                Kind::Selector(selector) => {
                    selector.shift.at.get_or_insert(At::Time(time));
                    continue;
                }
                Kind::Subquery(subquery) => {
                    subquery.shift.at.get_or_insert(At::Time(time));
                    continue;
                }
                _ => node.children_mut(),
            };
            todo.extend(inner);
        }
        Expr(Arc::new(Inner { text: self.0.text.clone(), root }))
    }
}

impl TryFrom<String> for Expr {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Expr, ParseError> {
        Expr::parse(&text)
    }
}

impl FromStr for Expr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Expr, ParseError> {
        Expr::parse(text)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Expr {}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.text())
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Expr, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Expr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a PromQL query")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expr, E> {
                Expr::parse_with(text, &ParseOptions { experimental: true })
                    .map_err(|error| E::custom(format_args!("PromQL, {error}")))
            }
            // `expr: 1` is a query in YAML, too.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Expr, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Expr, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Expr, E> {
                self.visit_str(&format_value(number))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Why a text is not a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
    /// What was found, and what was expected.
    pub message: String,
    /// The line of the span's start, from 1.
    pub line: usize,
    /// The column of the span's start in characters, from 1.
    pub column: usize,
}

impl ParseError {
    pub(crate) fn at(text: &str, span: Range<usize>, message: String) -> ParseError {
        let (line, column) = line_column(text, span.start);
        ParseError { span, message, line, column }
    }
}

/// The line and column (in characters), both from 1, of the byte at `offset` in `text`.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (line, column)
}
