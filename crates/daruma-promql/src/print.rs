//! The tree back to text, in the form Prometheus prints: one line, or broken and indented where a line
//! would grow too long. What is printed reads back as the same query.
//!
//! It stands apart because the text a rule was written in is what people see; this form is for those
//! who ask for it. Comments are lost, parentheses are kept.

use std::fmt::Write;

use daruma_model::{Labels, MatchOp, Matcher, Span};

use crate::Expr;
use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Duration, DurationExpr, Edges, Kind, Matching,
    Node, Shift, Subquery, VectorSelector,
};
use crate::number::{format_value, parse_number};

/// Longer lines are broken, if what they hold can be.
const LINE_MAX: usize = 100;

const YEAR: i64 = 365 * 86_400_000;

impl Expr {
    /// The query on one line, in Prometheus' form.
    #[must_use]
    pub fn one_line(&self) -> String {
        Printer { text: self.text() }.line(self.ast())
    }

    /// The query in Prometheus' form, as its API formats it: on one line if that fits into 100
    /// characters, else broken and indented by two blanks a level.
    #[must_use]
    pub fn formatted(&self) -> String {
        Printer { text: self.text() }.pretty(self.ast(), 0)
    }
}

struct Printer<'t> {
    /// The query as written: it tells how a number or a name was meant.
    text: &'t str,
}

impl Printer<'_> {
    fn line(&self, node: &Node) -> String {
        match &node.kind {
            Kind::Number(_) => self.number(node),
            Kind::Unary { .. } if node.literal().is_some() => self.number(node),
            Kind::Text(text) => quoted(text),
            Kind::Selector(selector) => self.selector(selector),
            Kind::Subquery(subquery) => self.line(&subquery.inner) + &self.steps(subquery),
            Kind::Call(call) => {
                let args: Vec<String> = call.args.iter().map(|arg| self.line(arg)).collect();
                format!("{}({})", call.function.name, args.join(", "))
            }
            Kind::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref().map(|param| self.line(param) + ", ");
                let input = self.line(&aggregate.input);
                format!("{}({}{input})", grouping(aggregate), param.unwrap_or_default())
            }
            Kind::Binary(binary) => {
                let (left, right) = (self.line(&binary.left), self.line(&binary.right));
                format!("{} {} {right}", base(binary, &left), operator(binary))
            }
            Kind::Unary { minus, inner } => sign(*minus).to_owned() + &self.line(inner),
            Kind::Paren(inner) => format!("({})", self.line(inner)),
        }
    }

    fn pretty(&self, node: &Node, level: usize) -> String {
        let indent = "  ".repeat(level);
        let line = self.line(node);
        let splits = line.len() > LINE_MAX;
        match &node.kind {
            Kind::Aggregate(aggregate) if splits => {
                let param = aggregate.param.as_ref();
                let param = param.map(|param| self.pretty(param, level + 1) + ",\n");
                format!(
                    "{indent}{}(\n{}{}\n{indent})",
                    grouping(aggregate),
                    param.unwrap_or_default(),
                    self.pretty(&aggregate.input, level + 1),
                )
            }
            Kind::Binary(binary) if splits => format!(
                "{}\n{indent}{}\n{}",
                base(binary, &self.pretty(&binary.left, level + 1)),
                operator(binary),
                self.pretty(&binary.right, level + 1),
            ),
            Kind::Call(call) if splits => {
                let args: Vec<String> =
                    call.args.iter().map(|arg| self.pretty(arg, level + 1)).collect();
                format!("{indent}{}(\n{}\n{indent})", call.function.name, args.join(",\n"))
            }
            Kind::Paren(inner) if splits => {
                format!("{indent}(\n{}\n{indent})", self.pretty(inner, level + 1))
            }
            Kind::Subquery(subquery) if splits => {
                self.pretty(&subquery.inner, level) + &self.steps(subquery)
            }
            Kind::Unary { minus, inner } if splits => {
                indent + sign(*minus) + self.pretty(inner, level).trim()
            }
            _ => indent + &line,
        }
    }

    /// A number with its signs; what was written as a length of time stays one.
    fn number(&self, node: &Node) -> String {
        let value = node.literal().unwrap_or(f64::NAN);
        let mut digits = node;
        while let Kind::Unary { inner, .. } = &digits.kind {
            digits = inner;
        }
        let written = self.text.get(digits.span.clone()).unwrap_or("");
        if is_duration(written) && value.is_finite() {
            return length((value * 1000.0).round() as i64);
        }
        format_value(value)
    }

    fn selector(&self, selector: &VectorSelector) -> String {
        // A name in front stays in front; one in braces stays in braces.
        let written = self.text.get(selector.span.clone()).unwrap_or("");
        let front = (!written.starts_with('{')).then(|| selector.name()).flatten();
        let mut rest: Vec<String> = selector
            .matchers
            .iter()
            .filter(|matcher| !(is_name(matcher) && front == Some(matcher.value.as_str())))
            .map(condition)
            .collect();
        rest.sort();
        let mut text = front.unwrap_or("").to_owned();
        if !rest.is_empty() || front.is_none() {
            // Writing to a String does not fail.
            let _ = write!(text, "{{{}}}", rest.join(","));
        }
        if let Some(window) = &selector.window {
            let _ = write!(text, "[{}]", duration(window));
        }
        text += match selector.edges {
            Edges::Plain => "",
            Edges::Anchored => " anchored",
            Edges::Smoothed => " smoothed",
        };
        text + &shift(&selector.shift)
    }

    fn steps(&self, subquery: &Subquery) -> String {
        let step = subquery.step.as_ref().map(duration).unwrap_or_default();
        format!("[{}:{step}]{}", duration(&subquery.window), shift(&subquery.shift))
    }
}

/// The left side of an operator as it is printed: before a power, the sign of `+Inf` would read back as
/// one of the power.
fn base(binary: &Binary, left: &str) -> String {
    match left.trim_start() {
        "+Inf" if binary.op == BinaryOp::Pow => left.replace('+', ""),
        _ => left.to_owned(),
    }
}

fn sign(minus: bool) -> &'static str {
    if minus { "-" } else { "+" }
}

/// Whether a number was written as a length of time.
pub(crate) fn is_duration(written: &str) -> bool {
    written.ends_with(['s', 'm', 'h', 'd', 'w', 'y']) && parse_number(written).is_some()
}

fn is_name(matcher: &Matcher) -> bool {
    matcher.name == Labels::NAME && matcher.op == MatchOp::Equal
}

/// A text as Go quotes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            // Writing to a String does not fail.
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn label(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let legacy = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(plain);
    if legacy && !name.is_empty() { name.to_owned() } else { quoted(name) }
}

fn labels(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| label(name)).collect();
    names.join(", ")
}

fn condition(matcher: &Matcher) -> String {
    format!("{}{}{}", label(&matcher.name), matcher.op.as_str(), quoted(&matcher.value))
}

fn grouping(aggregate: &Aggregate) -> String {
    let op = aggregate.op.as_str();
    let names = labels(&aggregate.labels);
    match (aggregate.without, aggregate.labels.is_empty()) {
        (true, _) => format!("{op} without ({names}) "),
        (false, false) => format!("{op} by ({names}) "),
        (false, true) => op.to_owned(),
    }
}

/// The operator with what stands behind it.
fn operator(binary: &Binary) -> String {
    let returns_bool = if binary.returns_bool { " bool" } else { "" };
    format!("{}{returns_bool}{}", binary.op.as_str(), matching(&binary.matching))
}

fn matching(matching: &Matching) -> String {
    let mut text = String::new();
    let side = match matching.cardinality {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    // Writing to a String does not fail.
    if matching.on || !matching.labels.is_empty() || side.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        let _ = write!(text, " {word} ({})", labels(&matching.labels));
    }
    if let Some(side) = side {
        let _ = write!(text, " group_{side} ({})", labels(&matching.include));
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            let _ = write!(text, " fill ({})", format_value(left));
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    let _ = write!(text, " {word} ({})", format_value(value));
                }
            }
        }
    }
    text
}

fn shift(shift: &Shift) -> String {
    let mut text = match shift.at {
        None => String::new(),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        Some(At::Time(time)) => {
            let (seconds, ms) = (time.0.unsigned_abs() / 1000, time.0.unsigned_abs() % 1000);
            format!(" @ {}{seconds}.{ms:03}", if time.0 < 0 { "-" } else { "" })
        }
    };
    if let Some(offset) = &shift.offset {
        // Behind `offset` only one term is read.
        let wrapped = matches!(offset.expr, DurationExpr::Binary(..));
        let offset = duration(offset);
        text += &if wrapped { format!(" offset ({offset})") } else { format!(" offset {offset}") };
    }
    text
}

/// Whole milliseconds in Prometheus' form.
fn length(ms: i64) -> String {
    if ms != 0 && ms % YEAR == 0 { format!("{}y", ms / YEAR) } else { Span(ms).to_string() }
}

fn duration(duration: &Duration) -> String {
    match &duration.expr {
        // A constant by itself is a length, whichever way it was written.
        DurationExpr::Seconds(_) | DurationExpr::Number(_) => match duration.fixed() {
            Some(span) => length(span.0),
            None => arithmetic(&duration.expr, 0),
        },
        expr => arithmetic(expr, 0),
    }
}

/// Arithmetic over lengths; in parentheses if it binds less tightly than `floor`.
fn arithmetic(expr: &DurationExpr, floor: u8) -> String {
    let (text, binds) = match expr {
        DurationExpr::Seconds(seconds) => {
            let ms = seconds * 1000.0;
            let whole = ms.fract() == 0.0 && (0.0..9e15).contains(&ms);
            (if whole { length(ms as i64) } else { format_value(*seconds) }, u8::MAX)
        }
        DurationExpr::Number(number) => (format_value(*number), u8::MAX),
        DurationExpr::Step => ("step()".to_owned(), u8::MAX),
        DurationExpr::Range => ("range()".to_owned(), u8::MAX),
        DurationExpr::MinOf(a, b) => {
            (format!("min_of({}, {})", arithmetic(a, 0), arithmetic(b, 0)), u8::MAX)
        }
        DurationExpr::MaxOf(a, b) => {
            (format!("max_of({}, {})", arithmetic(a, 0), arithmetic(b, 0)), u8::MAX)
        }
        DurationExpr::Negate(inner) => {
            // A sign binds as tight as `*`.
            let binds = BinaryOp::Mul.precedence();
            (format!("-{}", arithmetic(inner, binds + 1)), binds)
        }
        DurationExpr::Binary(op, a, b) => {
            let binds = op.precedence();
            // Powers lean to the right, all others to the left.
            let (left, right) =
                if *op == BinaryOp::Pow { (binds + 1, binds) } else { (binds, binds + 1) };
            let (a, b) = (arithmetic(a, left), arithmetic(b, right));
            (format!("{a} {} {b}", op.as_str()), binds)
        }
    };
    if binds < floor { format!("({text})") } else { text }
}

#[cfg(test)]
mod tests {
    use crate::{Expr, ParseOptions};

    fn parsed(text: &str) -> Expr {
        Expr::parse_with(text, &ParseOptions { experimental: true })
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn queries_are_printed_as_prometheus_prints_them() {
        for (text, want) in [
            ("sum(rate(x[5m]))by(job)", "sum by (job) (rate(x[5m]))"),
            ("sum without() (x)", "sum without () (x)"),
            // A sign before a power is the power's.
            ("--inf ^ -i", "--Inf ^ -i"),
            ("Inf + -i", "+Inf + -i"),
            ("sum by () (x)", "sum(x)"),
            ("topk(5,x)", "topk(5, x)"),
            (r#"x{b="1",a!~'y"'}offset 5m@10"#, r#"x{a!~"y\"",b="1"} @ 10.000 offset 5m"#),
            (r#"{"my.metric",a="1"}"#, r#"{__name__="my.metric",a="1"}"#),
            (r#"{__name__="up"}"#, r#"{__name__="up"}"#),
            (r#"sum by ("a.b", c) (x)"#, r#"sum by ("a.b", c) (x)"#),
            ("a+on(x)group_left(y)b", "a + on (x) group_left (y) b"),
            ("a>bool ignoring(x)b", "a > bool ignoring (x) b"),
            ("a/fill(0)b", "a / fill (0) b"),
            ("a/on()fill_left(-1)fill_right(Inf)b", "a / on () fill_left (-1) fill_right (+Inf) b"),
            ("-(1+2)^3", "-(1 + 2) ^ 3"),
            ("1h30m+0x10+1e3", "1h30m + 16 + 1000"),
            ("x[90s:]offset -1w", "x[1m30s:] offset -1w"),
            ("rate(x[300] smoothed@end())", "rate(x[5m] smoothed @ end())"),
            ("x[(step()+1m)*2:min_of(5m,range())]", "x[(step() + 1m) * 2:min_of(5m, range())]"),
            ("x offset (step()-2)", "x offset (step() - 2)"),
            ("x offset -(5m*2)", "x offset -(5m * 2)"),
            ("up == 1 # a comment", "up == 1"),
            ("- -1 + +Inf - -5m", "1 + +Inf - -5m"),
            ("'a\\n\"'", r#""a\n\"""#),
        ] {
            let expr = parsed(text);
            assert_eq!(expr.one_line(), want, "{text}");
            assert_eq!(parsed(want).one_line(), want);
            assert_eq!(expr.formatted(), want);
        }
    }

    #[test]
    fn long_queries_are_broken_where_they_can_be() {
        let errors =
            r#"sum by (job) (rate(http_requests_total{code=~"5..",handler="/api/v1/query"}[5m]))"#;
        let long = format!("{errors} / on (job) group_left () sum by (job) (rate(x[5m])) > 0.05");
        let lines = [
            &format!("    {errors}"),
            "  / on (job) group_left ()",
            "    sum by (job) (rate(x[5m]))",
            ">",
            "  0.05",
        ];
        let formatted = parsed(&long).formatted();
        assert_eq!(formatted.lines().collect::<Vec<_>>(), lines);
        assert_eq!(parsed(&formatted).one_line(), long);
        let nested =
            format!("topk(3, (label_replace({errors}, \"dst\", \"$1\", \"job\", \"(.*)\")))");
        let lines = [
            "topk(",
            "  3,",
            "  (",
            "    label_replace(",
            &format!("      {errors},"),
            "      \"dst\",",
            "      \"$1\",",
            "      \"job\",",
            "      \"(.*)\"",
            "    )",
            "  )",
            ")",
        ];
        assert_eq!(parsed(&nested).formatted().lines().collect::<Vec<_>>(), lines);
    }
}
