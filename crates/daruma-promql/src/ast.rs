//! The tree of a parsed query. Every node carries the byte range it was written in, so that errors,
//! annotations and the trace of a decision can point at the text. Nothing here evaluates.

use std::ops::Range;

use daruma_model::{Matcher, Span, Time};

use crate::functions::Function;

/// What an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// At most one value per label set.
    Vector,
    /// A window of values per label set.
    Matrix,
    /// Text.
    String,
}

impl ValueType {
    /// The words Prometheus uses in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

/// One node of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it was written: bytes of the query's text.
    pub span: Range<usize>,
    /// Its place in the tree in order of writing, unique within one expression.
    pub id: usize,
    /// The longest way down to a leaf; bounded, so that recursion over the tree is.
    pub(crate) height: usize,
}

/// The kinds of node.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `1`, `0x1f`, `Inf`, `1h30m` (seconds).
    Number(f64),
    /// `"text"`.
    Text(String),
    /// `up{job="x"}`, with or without a window.
    Selector(Box<VectorSelector>),
    /// `expr[1h:1m]`.
    Subquery(Box<Subquery>),
    /// `rate(…)`.
    Call(Call),
    /// `sum by (job) (…)`.
    Aggregate(Box<Aggregate>),
    /// `a + b`.
    Binary(Box<Binary>),
    /// `-a`, `+a`.
    Unary {
        /// Whether the sign is a minus.
        minus: bool,
        /// What follows it.
        inner: Box<Node>,
    },
    /// `(a)`.
    Paren(Box<Node>),
}

/// How the edges of a window are filled in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edges {
    /// As sampled.
    #[default]
    Plain,
    /// `anchored`: the value at each edge is the last one before it.
    Anchored,
    /// `smoothed`: the value at each edge lies on the line between its neighbours.
    Smoothed,
}

/// The time of an `@` modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// `@ 1234.5`.
    Time(Time),
    /// `@ start()`: the first evaluation time of the outermost query.
    Start,
    /// `@ end()`: the last evaluation time of the outermost query.
    End,
}

/// `offset` and `@`: how a selector or subquery is moved in time.
#[derive(Debug, Clone, Default)]
pub struct Shift {
    /// `offset …`; positive looks back.
    pub offset: Option<Duration>,
    /// `@ …`.
    pub at: Option<At>,
}

/// A leaf of the tree: which series, over which window.
#[derive(Debug, Clone)]
pub struct VectorSelector {
    /// Every condition, that on the metric name among them.
    pub matchers: Vec<Matcher>,
    /// The window of a range selector, `None` for an instant selector.
    pub window: Option<Duration>,
    /// `offset` and `@`.
    pub shift: Shift,
    /// `anchored`, `smoothed`.
    pub edges: Edges,
    /// Where it was written: bytes of the query's text.
    pub span: Range<usize>,
    /// Its place among [`crate::Expr::selectors`].
    pub index: usize,
}

impl VectorSelector {
    /// The metric name, if one is demanded by equality.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find(|matcher| {
                matcher.name == daruma_model::Labels::NAME
                    && matcher.op == daruma_model::MatchOp::Equal
            })
            .map(|matcher| matcher.value.as_str())
    }
}

/// `inner[window:step]`.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub inner: Node,
    /// How far it looks back.
    pub window: Duration,
    /// The distance of its steps; `None` takes the default.
    pub step: Option<Duration>,
    /// `offset` and `@`.
    pub shift: Shift,
}

/// A function and what it is applied to.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which function.
    pub function: &'static Function,
    /// Its arguments, checked against the function's types.
    pub args: Vec<Node>,
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    Quantile,
    CountValues,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    pub(crate) const ALL: [(&'static str, AggregateOp); 14] = [
        ("sum", AggregateOp::Sum),
        ("avg", AggregateOp::Avg),
        ("count", AggregateOp::Count),
        ("min", AggregateOp::Min),
        ("max", AggregateOp::Max),
        ("group", AggregateOp::Group),
        ("stddev", AggregateOp::Stddev),
        ("stdvar", AggregateOp::Stdvar),
        ("topk", AggregateOp::TopK),
        ("bottomk", AggregateOp::BottomK),
        ("quantile", AggregateOp::Quantile),
        ("count_values", AggregateOp::CountValues),
        ("limitk", AggregateOp::LimitK),
        ("limit_ratio", AggregateOp::LimitRatio),
    ];

    pub(crate) fn parse(word: &str) -> Option<AggregateOp> {
        AggregateOp::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, op)| *op)
    }

    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        AggregateOp::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// Whether it stands behind the experimental switch.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::LimitK | AggregateOp::LimitRatio)
    }

    /// The type of its parameter, if it takes one.
    pub(crate) fn param(self) -> Option<ValueType> {
        use AggregateOp::{BottomK, CountValues, LimitK, LimitRatio, Quantile, TopK};
        match self {
            TopK | BottomK | Quantile | LimitK | LimitRatio => Some(ValueType::Scalar),
            CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// `op by (labels) (param, input)`.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Which operator.
    pub op: AggregateOp,
    /// The parameter of `topk`, `bottomk`, `quantile`, `count_values`, `limitk`, `limit_ratio`.
    pub param: Option<Node>,
    /// What is aggregated.
    pub input: Node,
    /// The labels of `by` or `without`.
    pub labels: Vec<String>,
    /// Whether `labels` are those to lose rather than those to keep.
    pub without: bool,
}

/// The binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// Whether it compares.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether it combines sets of series.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// Binds tighter when larger.
    pub(crate) fn precedence(self) -> u8 {
        use BinaryOp::*;
        match self {
            Or => 1,
            And | Unless => 2,
            Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | TrimUpper
            | TrimLower => 3,
            Add | Sub => 4,
            Mul | Div | Mod | Atan2 => 5,
            Pow => 6,
        }
    }
}

/// How many partners an element may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cardinality {
    /// One on each side.
    #[default]
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the elements of two vectors find each other.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// How many partners an element may have.
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` are those to compare rather than those to leave out.
    pub on: bool,
    /// Labels copied from the "one" side.
    pub include: Vec<String>,
    /// `fill_left`: the value of a missing left partner.
    pub fill_left: Option<f64>,
    /// `fill_right`: the value of a missing right partner.
    pub fill_right: Option<f64>,
}

/// `left op right`.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Which operator.
    pub op: BinaryOp,
    /// The left operand.
    pub left: Node,
    /// The right operand.
    pub right: Node,
    /// `bool`: a comparison yields 0 or 1 rather than filtering.
    pub returns_bool: bool,
    /// How elements match, when both sides are vectors.
    pub matching: Matching,
}

/// A length of time as written: a constant, or arithmetic over the query's step and range.
#[derive(Debug, Clone)]
pub struct Duration {
    /// The arithmetic, in seconds.
    pub expr: DurationExpr,
    /// Where it was written: bytes of the query's text.
    pub span: Range<usize>,
}

/// Arithmetic over lengths of time, in seconds.
#[derive(Debug, Clone)]
pub enum DurationExpr {
    /// A length with a unit: `5m`.
    Seconds(f64),
    /// A bare number: seconds by itself, a factor in `5m * 2`.
    Number(f64),
    /// `step()`: the distance of the query's steps.
    Step,
    /// `range()`: from the query's first step to its last.
    Range,
    /// `-a`.
    Negate(Box<DurationExpr>),
    /// `a + b`.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(a, b)`.
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`.
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
}

impl DurationExpr {
    /// In seconds, or why there is no such length.
    pub(crate) fn seconds(&self, step: Span, range: Span) -> Result<f64, &'static str> {
        Ok(match self {
            DurationExpr::Seconds(seconds) | DurationExpr::Number(seconds) => *seconds,
            DurationExpr::Step => step.as_secs_f64(),
            DurationExpr::Range => range.as_secs_f64(),
            DurationExpr::Negate(inner) => -inner.seconds(step, range)?,
            DurationExpr::MinOf(a, b) => a.seconds(step, range)?.min(b.seconds(step, range)?),
            DurationExpr::MaxOf(a, b) => a.seconds(step, range)?.max(b.seconds(step, range)?),
            DurationExpr::Binary(op, a, b) => {
                let (a, b) = (a.seconds(step, range)?, b.seconds(step, range)?);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div if b == 0.0 => return Err("division by zero"),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod if b == 0.0 => return Err("modulo by zero"),
                    BinaryOp::Mod => a % b,
                    _ => a.powf(b),
                }
            }
        })
    }

    pub(crate) fn is_constant(&self) -> bool {
        match self {
            DurationExpr::Seconds(_) | DurationExpr::Number(_) => true,
            DurationExpr::Step | DurationExpr::Range => false,
            DurationExpr::Negate(inner) => inner.is_constant(),
            DurationExpr::Binary(_, a, b)
            | DurationExpr::MinOf(a, b)
            | DurationExpr::MaxOf(a, b) => a.is_constant() && b.is_constant(),
        }
    }
}

impl Duration {
    /// The length in a query of this step and range.
    ///
    /// # Errors
    /// A sentence, if the arithmetic yields no length, or one beyond what a clock can count.
    pub fn resolve(&self, step: Span, range: Span) -> Result<Span, &'static str> {
        let seconds = self.expr.seconds(step, range)?;
        // About 292 million years: as far as Prometheus counts.
        if !seconds.is_finite() || seconds.abs() > 9.2e15 {
            return Err("duration is out of range");
        }
        // Seconds as binary fractions miss whole milliseconds by a hair (1.001 · 1000); what is really
        // less than a millisecond is cut, as upstream does.
        let ms = seconds * 1000.0;
        let near = (ms - ms.round()).abs() < 1e-3;
        Ok(Span(if near { ms.round() } else { ms.trunc() } as i64))
    }

    /// The length, if it is the same in every query.
    #[must_use]
    pub fn fixed(&self) -> Option<Span> {
        if !self.expr.is_constant() {
            return None;
        }
        self.resolve(Span::ZERO, Span::ZERO).ok()
    }
}

impl Node {
    /// What it yields.
    #[must_use]
    pub fn returns(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::String,
            Kind::Selector(selector) if selector.window.is_some() => ValueType::Matrix,
            Kind::Subquery(_) => ValueType::Matrix,
            Kind::Selector(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Call(call) => call.function.returns,
            Kind::Binary(binary) => {
                let scalar = |node: &Node| node.returns() == ValueType::Scalar;
                if scalar(&binary.left) && scalar(&binary.right) {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            Kind::Unary { inner, .. } | Kind::Paren(inner) => inner.returns(),
        }
    }

    /// What it is applied to, in order of writing.
    #[must_use]
    pub fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) => Vec::new(),
            Kind::Subquery(subquery) => vec![&subquery.inner],
            Kind::Call(call) => call.args.iter().collect(),
            Kind::Aggregate(aggregate) => {
                aggregate.param.iter().chain([&aggregate.input]).collect()
            }
            Kind::Binary(binary) => vec![&binary.left, &binary.right],
            Kind::Unary { inner, .. } | Kind::Paren(inner) => vec![inner],
        }
    }

    pub(crate) fn children_mut(&mut self) -> Vec<&mut Node> {
        match &mut self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) => Vec::new(),
            Kind::Subquery(subquery) => vec![&mut subquery.inner],
            Kind::Call(call) => call.args.iter_mut().collect(),
            Kind::Aggregate(aggregate) => {
                let Aggregate { param, input, .. } = aggregate.as_mut();
                param.iter_mut().chain([input]).collect()
            }
            Kind::Binary(binary) => {
                let Binary { left, right, .. } = binary.as_mut();
                vec![left, right]
            }
            Kind::Unary { inner, .. } | Kind::Paren(inner) => vec![inner],
        }
    }

    /// The number a literal stands for, with the signs before it, as Prometheus takes it for one.
    pub(crate) fn literal(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(value) => Some(*value),
            Kind::Unary { minus, inner } => {
                inner.literal().map(|value| if *minus { -value } else { value })
            }
            _ => None,
        }
    }

    /// The node within any parentheses.
    #[must_use]
    pub fn bare(&self) -> &Node {
        let mut node = self;
        while let Kind::Paren(inner) = &node.kind {
            node = inner;
        }
        node
    }

    /// Every selector below, in order of writing.
    #[must_use]
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let (mut found, mut todo) = (Vec::new(), vec![self]);
        while let Some(node) = todo.pop() {
            if let Kind::Selector(selector) = &node.kind {
                found.push(&**selector);
            }
            todo.extend(node.children().into_iter().rev());
        }
        found
    }
}
