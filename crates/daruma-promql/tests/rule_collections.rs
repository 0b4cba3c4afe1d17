//! Every query people really deploy, in the rule collections beside the project, must parse.
//!
//! The collections lie outside the project; without them this test says so and passes.

#![allow(clippy::unwrap_used)] // Helpers of tests, too.

use std::path::{Path, PathBuf};

use daruma_promql::Expr;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    groups: Vec<Group>,
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    expr: Expr,
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            found.push(path);
        }
    }
}

/// The tree without the order in which matchers were written: printing sorts them.
fn shape(mut tree: serde_json::Value) -> serde_json::Value {
    match &mut tree {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                *value = shape(value.take());
                if let ("matchers", Some(matchers)) = (name.as_str(), value.as_array_mut()) {
                    matchers.sort_by_key(ToString::to_string);
                }
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                *item = shape(item.take());
            }
        }
        _ => {}
    }
    tree
}

#[test]
fn every_query_of_the_rule_collections_parses() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    if !shared.is_dir() {
        println!("SKIPPED: {} is not there", shared.display());
        return;
    }
    let mut total = 0;
    let mut broken = Vec::new();
    // At least as many queries as the collections are known to hold, so that none is lost on the way.
    for (collection, known) in
        [("awesome-prometheus-alerts", 614), ("kube-prometheus", 175), ("kubernetes-mixin", 136)]
    {
        let (mut files, mut queries) = (Vec::new(), 0);
        files_below(&shared.join(collection), &mut files);
        for file in files.iter().filter(|file| !file.components().any(|c| c.as_os_str() == "tests"))
        {
            let text = std::fs::read_to_string(file).unwrap();
            let parsed: File = match serde_saphyr::from_str(&text) {
                Ok(parsed) => parsed,
                // Other resources of a cluster have other shapes and no rules.
                Err(_) if !text.contains("expr:") => continue,
                Err(error) => {
                    broken.push(format!("{}: {error}", file.display()));
                    continue;
                }
            };
            if !parsed.kind.is_empty() && parsed.kind != "PrometheusRule" {
                continue;
            }
            let groups = parsed.groups.iter().chain(parsed.spec.iter().flat_map(|s| &s.groups));
            for rule in groups.flat_map(|group| &group.rules) {
                queries += 1;
                // What is printed reads back as the same query, and prints the same again.
                for printed in [rule.expr.one_line(), rule.expr.formatted()] {
                    let again =
                        Expr::parse(&printed).unwrap_or_else(|error| panic!("{printed}\n{error}"));
                    assert_eq!(again.one_line(), rule.expr.one_line());
                    assert_eq!(again.formatted(), rule.expr.formatted());
                    assert_eq!(shape(again.to_json()), shape(rule.expr.to_json()));
                }
            }
        }
        println!("{collection}: {queries} queries");
        assert!(queries >= known || !broken.is_empty(), "{collection}: only {queries} found");
        total += queries;
    }
    assert!(broken.is_empty(), "{} of {total}:\n{}", broken.len(), broken.join("\n"));
}

#[derive(Deserialize)]
struct Patterns {
    test_cases: Vec<Pattern>,
}

#[derive(Deserialize)]
struct Pattern {
    query: String,
}

/// The patterns of the compliance suite, with every hole filled in every way that changes the parse.
#[test]
fn every_query_pattern_of_the_compliance_suite_parses() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/conformance/compliance/promql/promql-test-queries.yml");
    if !file.is_file() {
        println!("SKIPPED: {} is not there", file.display());
        return;
    }
    let holes: [(&str, &[&str]); 12] = [
        ("offset", &["1m", "10m"]),
        ("range", &["1s", "1h"]),
        ("quantile", &["-0.5", "0.9", "1"]),
        ("simpleAggrOp", &["sum", "avg", "max", "min", "count", "stddev", "stdvar"]),
        ("topBottomOp", &["topk", "bottomk"]),
        ("binOp", &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="]),
        ("arithBinOp", &["+", "-", "*", "/", "%", "^", "atan2"]),
        ("compBinOp", &["==", "!=", "<", ">", "<=", ">="]),
        ("simpleTimeAggrOp", &["sum", "avg", "max", "min", "count", "stddev", "stdvar", "last"]),
        ("simpleMathFunc", &["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sgn"]),
        ("dateFunc", &["day_of_month", "day_of_week", "days_in_month", "hour", "minute", "year"]),
        ("clampFunc", &["clamp_min", "clamp_max"]),
    ];
    let text = std::fs::read_to_string(file).unwrap();
    let patterns: Patterns = serde_saphyr::from_str(&text).unwrap();
    let mut total = 0;
    for Pattern { query } in patterns.test_cases {
        let rates = ["{{.extrapolatedRateFunc}}", "{{.instantRateFunc}}"];
        let mut filled = vec![query.replace(rates[0], "increase").replace(rates[1], "idelta")];
        for (hole, values) in holes {
            let hole = format!("{{{{.{hole}}}}}");
            filled = filled
                .into_iter()
                .flat_map(|query| match query.contains(&hole) {
                    true => values.iter().map(|value| query.replace(&hole, value)).collect(),
                    false => vec![query],
                })
                .collect();
        }
        for query in filled {
            total += 1;
            let parsed = Expr::parse(&query);
            // All others that must fail do so on the data, not on the text.
            assert_eq!(parsed.is_err(), query == r#"{__name__=~".*"}"#, "{query}: {parsed:?}");
        }
    }
    println!("compliance: {total} queries");
    assert!(total > 300, "only {total}");
}
