//! The tree as JSON, in the shape of Prometheus' `/api/v1/parse_query`.

use daruma_model::{Labels, MatchOp, Span};
use serde_json::{Value, json};

use crate::Expr;
use crate::ast::{
    At, BinaryOp, Cardinality, Duration, Edges, Kind, Matching, Node, Shift, ValueType,
    VectorSelector,
};
use crate::number::format_value;

impl Expr {
    /// The tree as Prometheus' API gives it: nodes are objects with a `type` (`aggregation`,
    /// `binaryExpr`, `call`, `matrixSelector`, `subquery`, `numberLiteral`, `parenExpr`, `stringLiteral`,
    /// `unaryExpr`, `vectorSelector`); lengths of time and times are in milliseconds. A length that
    /// depends on the query's step or range is 0.
    #[must_use]
    pub fn to_json(&self) -> Value {
        tree(self.ast(), self.text())
    }
}

fn tree(node: &Node, text: &str) -> Value {
    let below = |node: &Node| tree(node, text);
    if let Some(value) = node.literal() {
        return json!({ "type": "numberLiteral", "val": format_value(value) });
    }
    match &node.kind {
        Kind::Number(value) => json!({ "type": "numberLiteral", "val": format_value(*value) }),
        Kind::Text(value) => json!({ "type": "stringLiteral", "val": value }),
        Kind::Paren(inner) => json!({ "type": "parenExpr", "expr": below(inner) }),
        Kind::Unary { minus, inner } => {
            let op = if *minus { "-" } else { "+" };
            json!({ "type": "unaryExpr", "op": op, "expr": below(inner) })
        }
        Kind::Selector(selector) => leaf(selector, text),
        Kind::Subquery(subquery) => {
            let mut object = json!({
                "type": "subquery",
                "expr": below(&subquery.inner),
                "range": ms(Some(&subquery.window)),
                "step": ms(subquery.step.as_ref()),
            });
            put_shift(&mut object, &subquery.shift);
            object
        }
        Kind::Call(call) => {
            let function = call.function;
            let variadic = if function.repeats { -1 } else { function.optional as i64 };
            let types: Vec<&str> = function.args.iter().map(|arg| type_name(*arg)).collect();
            json!({
                "type": "call",
                "func": {
                    "name": function.name,
                    "argTypes": types,
                    "variadic": variadic,
                    "returnType": type_name(function.returns),
                },
                "args": call.args.iter().map(below).collect::<Vec<_>>(),
            })
        }
        Kind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": below(&aggregate.input),
            "param": aggregate.param.as_ref().map(below),
            "grouping": aggregate.labels,
            "without": aggregate.without,
        }),
        Kind::Binary(binary) => {
            let vector = |node: &Node| node.returns() == ValueType::Vector;
            let vectors = vector(&binary.left) && vector(&binary.right);
            json!({
                "type": "binaryExpr",
                "op": binary.op.as_str(),
                "lhs": below(&binary.left),
                "rhs": below(&binary.right),
                "matching": vectors.then(|| matching(binary.op, &binary.matching)),
                "bool": binary.returns_bool,
            })
        }
    }
}

fn leaf(selector: &VectorSelector, text: &str) -> Value {
    let written = text.get(selector.span.clone()).unwrap_or("");
    let name = (!written.starts_with('{')).then(|| selector.name()).flatten().unwrap_or("");
    let mut matchers: Vec<_> = selector.matchers.iter().collect();
    // A name in front of the braces counts as written behind them.
    if !name.is_empty()
        && let Some(at) = matchers.iter().position(|matcher| {
            matcher.name == Labels::NAME && matcher.op == MatchOp::Equal && matcher.value == name
        })
    {
        matchers[at..].rotate_left(1);
    }
    let matchers: Vec<Value> = matchers
        .into_iter()
        .map(|matcher| {
            json!({ "name": matcher.name, "type": matcher.op.as_str(), "value": matcher.value })
        })
        .collect();
    let mut object = json!({
        "type": "vectorSelector",
        "name": name,
        "matchers": matchers,
        "anchored": selector.edges == Edges::Anchored,
        "smoothed": selector.edges == Edges::Smoothed,
    });
    put_shift(&mut object, &selector.shift);
    if selector.window.is_some() {
        object["type"] = json!("matrixSelector");
        object["range"] = json!(ms(selector.window.as_ref()));
    }
    object
}

fn put_shift(object: &mut Value, shift: &Shift) {
    let (timestamp, bound) = match shift.at {
        None => (None, None),
        Some(At::Time(time)) => (Some(time.0), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    };
    object["offset"] = json!(ms(shift.offset.as_ref()));
    object["timestamp"] = json!(timestamp);
    object["startOrEnd"] = json!(bound);
}

fn ms(duration: Option<&Duration>) -> i64 {
    duration.and_then(Duration::fixed).unwrap_or(Span::ZERO).0
}

fn matching(op: BinaryOp, matching: &Matching) -> Value {
    let card = match matching.cardinality {
        _ if op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    // JSON has no number for NaN and infinity.
    let fill = |value: Option<f64>| match value {
        Some(value) if value.is_finite() => json!(value),
        Some(value) => json!(format_value(value)),
        None => Value::Null,
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right) },
    })
}

fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_the_shape_of_the_api() {
        let expr =
            Expr::parse(r#"sum by (job) (rate(x{a="1"}[5m] @ end() offset 1m)) > bool on(job) y"#);
        let want = json!({
            "type": "binaryExpr",
            "op": ">",
            "bool": true,
            "lhs": {
                "type": "aggregation",
                "op": "sum",
                "grouping": ["job"],
                "without": false,
                "param": null,
                "expr": {
                    "type": "call",
                    "func": {
                        "name": "rate",
                        "argTypes": ["matrix"],
                        "variadic": 0,
                        "returnType": "vector",
                    },
                    "args": [{
                        "type": "matrixSelector",
                        "name": "x",
                        "range": 300_000,
                        "offset": 60_000,
                        "timestamp": null,
                        "startOrEnd": "end",
                        "anchored": false,
                        "smoothed": false,
                        "matchers": [
                            { "name": "a", "type": "=", "value": "1" },
                            { "name": "__name__", "type": "=", "value": "x" },
                        ],
                    }],
                },
            },
            "rhs": {
                "type": "vectorSelector",
                "name": "y",
                "offset": 0,
                "timestamp": null,
                "startOrEnd": null,
                "anchored": false,
                "smoothed": false,
                "matchers": [{ "name": "__name__", "type": "=", "value": "y" }],
            },
            "matching": {
                "card": "one-to-one",
                "labels": ["job"],
                "on": true,
                "include": [],
                "fillValues": { "lhs": null, "rhs": null },
            },
        });
        assert_eq!(expr.unwrap().to_json(), want);
    }
}
