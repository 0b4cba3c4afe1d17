//! What a query means, written down in one notation for two parsers: Daruma's and `promql-parser`, which
//! others wrote from the same grammar. Whatever both read must have the same shape.
//!
//! Never in here: a repair of what one of them got wrong. Where they may differ, [`newer`], [`stricter`] and
//! [`unread`] say why.

use std::time::{Duration as Length, SystemTime};

use daruma_promql::{
    At, BinaryOp, Cardinality, Duration, DurationExpr, Edges, Expr, Kind, Matching, Node,
    ParseError, Shift, VectorSelector,
};
use promql_parser::label::{Labels, METRIC_NAME, Matchers};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    self, AtModifier, BinModifier, LabelModifier, Offset, VectorMatchCardinality,
};

/// The tree of a query as Daruma reads it. Lists in it are ordered as written, conditions by name.
#[must_use]
pub fn ours(expr: &Expr) -> String {
    node(expr.ast())
}

/// The tree of a query as `promql-parser` reads it.
///
/// # Errors
/// Its own words.
pub fn theirs(text: &str) -> Result<String, String> {
    parser::parse(text).map(|expr| other(&expr))
}

fn number(value: f64) -> String {
    // One notation for every NaN; `-0` stays apart from `0`.
    if value.is_nan() { "NaN".to_owned() } else { format!("{value:?}") }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(" "))
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    list(names.into_iter().map(|name| format!("{name:?}")))
}

fn conditions(mut conditions: Vec<(String, String, String)>) -> String {
    conditions.sort();
    list(conditions.into_iter().map(|(name, op, value)| format!("{name:?}{op}{value:?}")))
}

/// The number a literal stands for, with the signs before it.
fn literal(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Number(value) => Some(*value),
        Kind::Unary { minus, inner } => {
            literal(inner).map(|value| if *minus { -value } else { value })
        }
        _ => None,
    }
}

fn node(tree: &Node) -> String {
    if let Some(value) = literal(tree) {
        return number(value);
    }
    match &tree.kind {
        Kind::Number(value) => number(*value),
        Kind::Text(text) => format!("{text:?}"),
        Kind::Paren(inner) => format!("(paren {})", node(inner)),
        // A plus before something changes nothing, and is not kept by the other.
        Kind::Unary { minus: false, inner } => node(inner),
        Kind::Unary { minus: true, inner } => format!("(negate {})", node(inner)),
        Kind::Selector(selector) => leaf(selector),
        Kind::Subquery(subquery) => format!(
            "(subquery {} {} {}{})",
            node(&subquery.inner),
            length(&subquery.window),
            subquery.step.as_ref().map_or_else(|| "-".to_owned(), length),
            shift(&subquery.shift),
        ),
        Kind::Call(call) => {
            format!("({} {})", call.function.name, list(call.args.iter().map(node)))
        }
        Kind::Aggregate(aggregate) => format!(
            "({} {} {} {} {})",
            aggregate.op.as_str(),
            if aggregate.without { "without" } else { "by" },
            names(&aggregate.labels),
            aggregate.param.as_ref().map_or_else(|| "-".to_owned(), node),
            node(&aggregate.input),
        ),
        Kind::Binary(binary) => format!(
            "({}{} {} {} {})",
            binary.op.as_str(),
            if binary.returns_bool { " bool" } else { "" },
            matching(binary.op, &binary.matching),
            node(&binary.left),
            node(&binary.right),
        ),
    }
}

fn leaf(selector: &VectorSelector) -> String {
    let matchers = selector.matchers.iter().map(|matcher| {
        (matcher.name.clone(), matcher.op.as_str().to_owned(), matcher.value.clone())
    });
    let edges = match selector.edges {
        Edges::Plain => "",
        Edges::Anchored => " anchored",
        Edges::Smoothed => " smoothed",
    };
    let window = selector.window.as_ref().map_or_else(|| "-".to_owned(), length);
    let conditions = conditions(matchers.collect());
    format!("(series {conditions} {window}{edges}{})", shift(&selector.shift))
}

/// In milliseconds.
fn length(duration: &Duration) -> String {
    duration.fixed().map_or_else(|| "computed".to_owned(), |span| span.0.to_string())
}

fn shift(shift: &Shift) -> String {
    let at = match shift.at {
        None => String::new(),
        Some(At::Start) => " @start".to_owned(),
        Some(At::End) => " @end".to_owned(),
        Some(At::Time(time)) => format!(" @{}", time.0),
    };
    let offset = shift.offset.as_ref().map(|offset| format!(" offset {}", length(offset)));
    at + &offset.unwrap_or_default()
}

fn matching(op: BinaryOp, matching: &Matching) -> String {
    let cardinality = match matching.cardinality {
        _ if op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    matched(
        cardinality,
        matching.on,
        &names(&matching.labels),
        &names(&matching.include),
        [matching.fill_left, matching.fill_right],
    )
}

fn matched(
    cardinality: &str,
    on: bool,
    labels: &str,
    include: &str,
    fill: [Option<f64>; 2],
) -> String {
    let word = if on { "on" } else { "ignoring" };
    let [left, right] = fill.map(|value| value.map_or_else(|| "-".to_owned(), number));
    format!("{cardinality} {word} {labels} {include} {left} {right}")
}

fn other(tree: &parser::Expr) -> String {
    use parser::Expr as E;
    match tree {
        E::NumberLiteral(literal) => number(literal.val),
        E::StringLiteral(literal) => format!("{:?}", literal.val),
        E::Paren(paren) => format!("(paren {})", other(&paren.expr)),
        E::Unary(unary) => format!("(negate {})", other(&unary.expr)),
        E::VectorSelector(selector) => other_leaf(selector, "-"),
        E::MatrixSelector(matrix) => other_leaf(&matrix.vs, &ms(matrix.range)),
        E::Subquery(subquery) => format!(
            "(subquery {} {} {}{})",
            other(&subquery.expr),
            ms(subquery.range),
            subquery.step.map_or_else(|| "-".to_owned(), ms),
            other_shift(subquery.at.as_ref(), subquery.offset.as_ref()),
        ),
        E::Call(call) => {
            format!("({} {})", call.func.name, list(call.args.args.iter().map(|arg| other(arg))))
        }
        E::Aggregate(aggregate) => {
            let (word, labels) = match &aggregate.modifier {
                Some(LabelModifier::Exclude(labels)) => ("without", names(&labels.labels)),
                Some(LabelModifier::Include(labels)) => ("by", names(&labels.labels)),
                None => ("by", names(&[])),
            };
            let param = aggregate.param.as_ref().map_or_else(|| "-".to_owned(), |p| other(p));
            format!("({} {word} {labels} {param} {})", aggregate.op, other(&aggregate.expr))
        }
        E::Binary(binary) => {
            let modifier = binary.modifier.clone().unwrap_or_default();
            let vector = |side: &parser::Expr| side.value_type() == ValueType::Vector;
            // Prometheus forgets `on ()` beside a scalar; they keep it, without a meaning.
            let matched = match vector(&binary.lhs) && vector(&binary.rhs) {
                true => other_matching(&modifier),
                false => other_matching(&BinModifier::default()),
            };
            format!(
                "({}{} {matched} {} {})",
                binary.op,
                if modifier.return_bool { " bool" } else { "" },
                other(&binary.lhs),
                other(&binary.rhs),
            )
        }
        E::Extension(extension) => format!("{extension:?}"),
    }
}

fn other_leaf(selector: &parser::VectorSelector, window: &str) -> String {
    let Matchers { matchers, or_matchers } = &selector.matchers;
    let mut all: Vec<_> = matchers
        .iter()
        .chain(or_matchers.iter().flatten())
        .map(|matcher| (matcher.name.clone(), matcher.op.to_string(), matcher.value.clone()))
        .collect();
    // The name in front is a condition like any other.
    let name = selector.name.iter();
    all.extend(name.map(|name| (METRIC_NAME.to_owned(), "=".to_owned(), name.clone())));
    let shift = other_shift(selector.at.as_ref(), selector.offset.as_ref());
    format!("(series {} {window}{shift})", conditions(all))
}

fn ms(length: Length) -> String {
    length.as_millis().to_string()
}

fn other_shift(at: Option<&AtModifier>, offset: Option<&Offset>) -> String {
    let at = match at {
        None => String::new(),
        Some(AtModifier::Start) => " @start".to_owned(),
        Some(AtModifier::End) => " @end".to_owned(),
        Some(AtModifier::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => format!(" @{}", since.as_millis()),
            Err(before) => format!(" @-{}", before.duration().as_millis()),
        },
    };
    at + &match offset {
        None => String::new(),
        Some(Offset::Pos(length)) => format!(" offset {}", ms(*length)),
        Some(Offset::Neg(length)) if length.as_millis() == 0 => " offset 0".to_owned(),
        Some(Offset::Neg(length)) => format!(" offset -{}", ms(*length)),
    }
}

fn other_matching(modifier: &BinModifier) -> String {
    let none = Labels::new(Vec::new());
    let (cardinality, include) = match &modifier.card {
        VectorMatchCardinality::OneToOne => ("one-to-one", &none),
        VectorMatchCardinality::ManyToOne(include) => ("many-to-one", include),
        VectorMatchCardinality::OneToMany(include) => ("one-to-many", include),
        VectorMatchCardinality::ManyToMany => ("many-to-many", &none),
    };
    let on = modifier.is_matching_on();
    let labels = modifier.matching.as_ref().map_or(&none, LabelModifier::labels);
    let fill = [modifier.fill_values.lhs, modifier.fill_values.rhs];
    matched(cardinality, on, &names(&labels.labels), &names(&include.labels), fill)
}

/// What of a query the other parser does not read, and why; it stands at Prometheus 3.8.
#[must_use]
pub fn newer(expr: &Expr) -> Option<&'static str> {
    let mut todo = vec![expr.ast()];
    while let Some(node) = todo.pop() {
        let lengths = match &node.kind {
            Kind::Selector(selector) if selector.edges != Edges::Plain => {
                return Some("`anchored` and `smoothed` are reserved there, without a meaning");
            }
            Kind::Selector(selector) => {
                [selector.window.as_ref(), None, selector.shift.offset.as_ref()]
            }
            Kind::Subquery(subquery) => {
                [Some(&subquery.window), subquery.step.as_ref(), subquery.shift.offset.as_ref()]
            }
            Kind::Binary(binary)
                if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) =>
            {
                return Some("`</` and `>/` came later");
            }
            Kind::Call(call)
                if call.function.name == "info" && !has_a_firm_condition(&call.args) =>
            {
                return Some(
                    "the conditions of `info` may all match the empty text, unlike a selector's",
                );
            }
            _ => [None; 3],
        };
        if lengths.into_iter().flatten().any(|length| !is_plain(&length.expr)) {
            return Some("arithmetic over lengths of time is not read there");
        }
        todo.extend(node.children());
    }
    None
}

/// Why the other parser refuses `text`, which Prometheus takes, if its `words` are about that.
#[must_use]
pub fn unread(text: &str, words: &str) -> Option<&'static str> {
    let about = |start: &str| words.starts_with(start);
    let grouped =
        || text.as_bytes().windows(2).any(|two| two[0].is_ascii_alphanumeric() && two[1] == b'_');
    if about("bad number or duration syntax") && grouped() {
        return Some("`1_000` came later");
    }
    if (about("unknown escape sequence") || about("unterminated quoted string `"))
        && text.contains('`')
    {
        return Some("a backslash in a raw text is no escape, but is read as one there");
    }
    if about("duration must be greater than 0") {
        return Some("a length of 0 is refused there everywhere, not as a window alone");
    }
    if about("unexpected character inside brackets: '.'") {
        return Some("a number in brackets must begin with a digit there");
    }
    if about("unexpected character inside brackets: '+'") {
        return Some("a sign before a length came later");
    }
    if about("ParseFloatError") {
        return Some("a leading 0 is octal there even before an exponent");
    }
    if about("illegal regex for ") {
        return Some("a brace that counts nothing is overlooked there if it stands behind another");
    }
    None
}

fn has_a_firm_condition(args: &[Node]) -> bool {
    let Some(Kind::Selector(selector)) = args.get(1).map(|arg| &arg.kind) else { return true };
    selector.matchers.iter().any(|matcher| !matcher.matches_value(""))
}

/// Why Prometheus refuses what the other parser takes, if `error` is about such a text.
#[must_use]
pub fn stricter(error: &ParseError) -> Option<&'static str> {
    let about = |words: &str| error.message.contains(words);
    if about("not valid UTF-8") || about("invalid label name") {
        return Some("`\\xff` is a byte; there it is a character");
    }
    if about("`limitk` expects a scalar") || about("`limit_ratio` expects a scalar") {
        return Some("nobody asks there what these take");
    }
    if about("this time is out of range") {
        return Some("a time beyond what a clock counts is taken for the last one there");
    }
    if about("duration must be greater than 0") {
        return Some("a bare 0 is taken for a window there");
    }
    if about("a sign takes a scalar or an instant vector") {
        return Some("a plus is dropped there before anybody asks what it stands before");
    }
    if about("filling is only allowed between instant vectors") {
        return Some("a fill beside a scalar is overlooked there");
    }
    None
}

fn is_plain(length: &DurationExpr) -> bool {
    match length {
        DurationExpr::Seconds(_) | DurationExpr::Number(_) => true,
        DurationExpr::Negate(inner) => {
            is_plain(inner) && !matches!(**inner, DurationExpr::Negate(_))
        }
        _ => false,
    }
}
