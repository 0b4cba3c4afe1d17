//! What queries mean, told as things that happen to a service.

#![allow(clippy::unwrap_used)] // Helpers of tests, too.

use daruma_model::{Labels, MatchOp, Matcher, Querier, Series, Span, Time, stale_marker};
use daruma_promql::script::{Memory, Script};
use daruma_promql::{
    AnnotationLevel, EvalError, Expr, Kind, Limits, Value, ValueType, fresh_inputs, inputs_present,
    instant, range,
};

fn at(seconds: i64) -> Time {
    Time::from_secs(seconds)
}

fn expr(text: &str) -> Expr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Labels and values.
type Told<'a> = (&'a [(&'a str, &'a str)], &'a [f64]);

/// Series sampled every 15 s from time 0.
fn every_15s(series: &[Told<'_>]) -> Memory {
    let mut memory = Memory::default();
    for (labels, values) in series {
        let labels: Labels = labels.iter().copied().collect();
        for (i, value) in values.iter().enumerate() {
            memory.push(labels.clone(), at(15 * i as i64), *value);
        }
    }
    memory
}

fn vector(memory: &Memory, text: &str, time: Time) -> Vec<(String, f64)> {
    let answer = instant(memory, &expr(text), time, &Limits::default());
    match answer.unwrap_or_else(|error| panic!("{text}: {error}")).value {
        Value::Vector(vector) => vector
            .into_iter()
            .map(|sample| (sample.labels.to_string(), sample.value.number()))
            .collect(),
        Value::Scalar(value) => vec![("scalar".to_owned(), value)],
        other => panic!("{text}: {other:?}"),
    }
}

/// Scripts are the shortest way to tell a story in series.
fn told(script: &str) {
    let outcomes = Script::parse(script).unwrap().run(&Limits::default());
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        assert_eq!(outcome.failure, None, "line {}: {}", outcome.line, outcome.query);
    }
}

#[test]
fn a_leak_is_forecast_before_the_memory_is_gone() {
    // 10 MB are lost a minute, 100 MB are left.
    told(
        r#"
load 1m
  free_mb{host="a"} 200-10x10
  free_mb{host="b"} 200+0x10

eval instant at 10m predict_linear(free_mb[10m], 900) < 0
  {host="a"} -50

eval instant at 10m deriv(free_mb[10m]) * 60
  {host="a"} -10
  {host="b"} 0
"#,
    );
}

#[test]
fn a_restart_resets_a_counter_and_the_rate_goes_on() {
    told(
        r"
load 15s
  requests_total 0 30 60 90 10 40 70 100 130

eval instant at 2m increase(requests_total[2m1ms])
  {} 220

eval instant at 2m resets(requests_total[2m1ms])
  {} 1

eval instant at 2m irate(requests_total[2m])
  {} 2
",
    );
}

/// Growth is extended to the edge of the window when that is within 1.1 spacings, else by half a one.
#[test]
fn growth_is_extended_to_an_edge_that_is_near() {
    told(
        r"
load 10s
  level _ _ 20 30 40 50 60
  seen_total _ _ 1 2 3 4 5

eval instant at 60s delta(level[50900ms])
  {} 50.9

eval instant at 60s delta(level[51500ms])
  {} 45

eval instant at 70900ms delta(level[50900ms])
  {} 50.9

eval instant at 71500ms delta(level[51500ms])
  {} 45

# A counter was zero at most ten seconds before it was one: it never began below zero.
eval instant at 60s increase(seen_total[50900ms])
  {} 5
",
    );
}

#[test]
fn two_series_that_become_one_are_an_error_only_in_the_result() {
    told(
        r#"
load 1m
  sent_total 0 60 120
  read_total 0 60 120

eval instant at 2m rate({__name__=~"(sent|read)_total"}[2m])
  expect fail msg: vector cannot contain metrics with the same labelset

eval range from 1m to 2m step 1m rate({__name__=~"(sent|read)_total"}[2m])
  expect fail msg: vector cannot contain metrics with the same labelset

eval instant at 2m sum(rate({__name__=~"(sent|read)_total"}[2m]))
  {} 2

eval instant at 2m label_replace(rate({__name__=~"(sent|read)_total"}[2m]), "from", "$1", "__name__", "(.*)_total")
  {from="sent"} 1
  {from="read"} 1
"#,
    );
}

#[test]
fn the_error_share_is_taken_per_service_and_the_loudest_is_named() {
    told(
        r#"
load 1m
  http_total{service="shop", code="200"} 0+90x10
  http_total{service="shop", code="500"} 0+10x10
  http_total{service="blog", code="200"} 0+60x10

eval instant at 10m sum by (service) (rate(http_total{code=~"5.."}[5m])) / sum by (service) (rate(http_total[5m])) > 0.05
  {service="shop"} 0.1

eval instant at 10m topk(1, sum by (service) (rate(http_total[5m])))
  {service="shop"} 1.6666666666666667

eval instant at 10m http_total / on(service) group_left sum by (service) (http_total)
  {service="shop", code="200"} 0.9
  {service="shop", code="500"} 0.1
  {service="blog", code="200"} 1

eval instant at 10m http_total / on(service) sum by (service) (http_total)
  expect fail msg: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)
"#,
    );
}

#[test]
fn a_vanished_target_is_absent_at_once_when_it_says_so_and_after_five_minutes_when_not() {
    told(
        r#"
load 1m
  up{job="web"} 1 1 stale
  up{job="db"} 1 1

eval instant at 2m absent(up{job="web"})
  {job="web"} 1

eval instant at 5m absent(up{job="db"})

eval instant at 6m absent(up{job="db"})
  {job="db"} 1

eval instant at 6m absent_over_time(up{job="db"}[10m])
"#,
    );
}

#[test]
fn every_slow_bucket_counts_toward_the_latency() {
    told(
        r#"
load 1m
  latency_bucket{le="0.1"} 0+50x10
  latency_bucket{le="0.5"} 0+90x10
  latency_bucket{le="+Inf"} 0+100x10
  broken_bucket{le="0.1"} 10
  broken_bucket{le="0.5"} 5
  broken_bucket{le="+Inf"} 20

eval instant at 10m histogram_quantile(0.7, rate(latency_bucket[5m]))
  {} 0.3

eval instant at 0 histogram_quantile(0.5, broken_bucket)
  expect info regex: monotonicity .* \(1:25\)
  {} 0.1
"#,
    );
}

#[test]
fn a_query_that_cannot_be_meant_is_refused_with_the_place_and_a_way_out() {
    for (text, want) in [
        ("", "1:1: the query is empty"),
        ("rat(x[5m])", "1:1: unknown function `rat`; did you mean `rate`?"),
        (
            "holt_winters(x[5m], 0.5, 0.5)",
            "1:1: unknown function `holt_winters`; it is now `double_exponential_smoothing`",
        ),
        (
            "sum(rate(x))",
            "1:10: `rate` expects a range vector, not an instant vector; add a window, such as [5m]",
        ),
        (
            "x > 1\nand rate(sum(x)) > 0",
            "2:10: `rate` expects a range vector, not an instant vector; add a window and a step, such as [5m:1m]",
        ),
        ("{}", "1:1: a selector needs at least one matcher that does not match the empty text"),
        (
            r#"{job=~".*"}"#,
            "1:1: a selector needs at least one matcher that does not match the empty text",
        ),
        ("1 > 2", "1:3: a comparison between scalars must use `bool`: write `> bool`"),
        ("x + bool y", "1:5: `bool` can only stand behind a comparison operator"),
        ("x + on(a) 1", "1:5: vector matching is only allowed between instant vectors"),
        ("x + fill(0) 1", "1:5: filling is only allowed between instant vectors"),
        ("x and 1", "1:1: `and` is only allowed between instant vectors"),
        ("x[5m", "1:5: unexpected the end of the query, expected `:` or `]`"),
        ("x[5m] offset", "1:13: unexpected the end of the query, expected a duration, such as 5m"),
        ("x[0s]", "1:3: duration must be greater than 0"),
        (
            "x[5q]",
            "1:3: `5q` is neither a number nor a duration; write 1.5, 0x1f, 1e3, 30s or 1h30m",
        ),
        ("x offset 5m[1m]", "1:12: `offset` must stand behind the window"),
        ("x offset 5m offset 5m", "1:13: `offset` may be given once only"),
        (r#"x{a="b}"#, "1:5: this quoted text has no closing quote"),
        (r#"x{a=~"("}"#, r#"1:6: the regular expression "(" cannot be used: unclosed group"#),
        ("sum by (job (x)", "1:13: unexpected `(`, expected `,` or `)`"),
        ("x y", "1:3: unexpected `y`, expected an operator or the end"),
        ("x on(a) y", "1:3: unexpected `on`, expected an operator or the end"),
        (
            "x + on(a) group_left(a) y",
            "1:5: label `a` must not occur in both the on and the group list",
        ),
        ("clamp(x, 1)", "1:1: `clamp` takes 3 argument(s), not 2"),
        ("topk(x)", "1:5: `topk` takes 2 arguments, not 1"),
        ("x §", "1:3: unexpected character '§'"),
    ] {
        let error = Expr::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(want), "{text}\n  got  {error}\n  want {want}");
    }
}

#[test]
fn a_rule_file_points_at_the_place_inside_the_expression() {
    #[derive(Debug, serde::Deserialize)]
    struct Rule {
        #[allow(dead_code)]
        expr: Expr,
    }
    let yaml = "expr: sum(rate(x[5m])) > flor(y)\n";
    let error = serde_saphyr::from_str::<Rule>(yaml).unwrap_err().to_string();
    assert!(
        error.contains("PromQL, 1:20: unknown function `flor`; did you mean `floor`?"),
        "{error}"
    );
    assert!(serde_saphyr::from_str::<Rule>("expr: up == 0\n").is_ok());
    // YAML reads a bare number as one; it is a query all the same.
    assert!(serde_saphyr::from_str::<Rule>("expr: 1\n").is_ok());
}

#[test]
fn the_tree_tells_what_a_query_reads() {
    let expr = expr(r#"rate(a{x="1"}[5m] offset 1h) > on() b @ 60 or max_over_time(c[1h:1m])"#);
    let leaves = expr.selectors();
    let names: Vec<_> = leaves.iter().map(|leaf| leaf.name()).collect();
    assert_eq!(names, [Some("a"), Some("b"), Some("c")]);
    assert_eq!(leaves[0].window.as_ref().and_then(|window| window.fixed()), Some(Span::minutes(5)));
    let offset = leaves[0].shift.offset.as_ref();
    assert_eq!(offset.and_then(|offset| offset.fixed()), Some(Span::hours(1)));
    assert_eq!(&expr.text()[leaves[0].span.clone()], r#"a{x="1"}[5m] offset 1h"#);
    assert_eq!(&expr.text()[leaves[1].span.clone()], "b @ 60");
    assert!(leaves.iter().enumerate().all(|(place, leaf)| leaf.index == place));
    assert_eq!(expr.returns(), ValueType::Vector);
    assert!(matches!(&expr.ast().kind, Kind::Binary(binary) if binary.op.as_str() == "or"));
}

#[test]
fn operators_bind_as_in_mathematics_and_comparisons_below_them() {
    for (text, want) in [
        ("2 + 3 * 4 ^ 2 / 8", 8.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("10 - 2 - 3", 5.0),
        ("1 + 1 == bool 2", 1.0),
        ("0x1F + 1_000 + 010", 1039.0),
        ("1h30m", 5400.0),
        ("5 % -3", 2.0),
    ] {
        let got = vector(&Memory::default(), text, at(0));
        assert_eq!(got, [("scalar".to_owned(), want)], "{text}");
    }
}

/// A window holds its newest instant and not its oldest.
#[test]
fn windows_are_open_on_the_left_and_closed_on_the_right() {
    let memory = every_15s(&[(&[("__name__", "x")], &[1.0, 2.0, 3.0, 4.0, 5.0])]);
    for (query, time, want) in [
        ("count_over_time(x[30s])", 60, Some(2.0)),
        ("count_over_time(x[31s])", 60, Some(3.0)),
        ("count_over_time(x[1m:1m])", 60, Some(1.0)),
        ("x", 359, Some(5.0)),
        ("x", 360, None), // Five minutes after the last sample.
        ("x offset -15s", 0, Some(2.0)),
        ("sum_over_time(x[30s] @ 30)", 1_000_000, Some(5.0)),
    ] {
        let got: Vec<f64> = vector(&memory, query, at(time)).into_iter().map(|(_, v)| v).collect();
        assert_eq!(got, want.into_iter().collect::<Vec<_>>(), "{query} at {time}");
    }
}

#[test]
fn a_condition_that_is_false_is_told_from_one_without_evidence() {
    let mut memory = every_15s(&[
        (&[("__name__", "errors"), ("host", "a")], &[0.0; 21]),
        (&[("__name__", "errors"), ("host", "b")], &[0.0; 3]),
        (&[("__name__", "limit")], &[5.0; 21]),
    ]);
    let rule = expr("errors > on() group_left limit");
    let host = |name| Labels::from([("host", name), ("alertname", "TooManyErrors")]);
    let limits = Limits::default();
    let present = |memory: &Memory, time, labels: &Labels| {
        inputs_present(memory, &rule, at(time), labels, &limits)
    };
    let fresh = |memory: &Memory, time, after, labels: &Labels| {
        fresh_inputs(memory, &rule, at(time), at(after), labels)
    };
    // Five minutes in: `a` has evidence; `b` was last heard of after half a minute.
    assert!(vector(&memory, rule.text(), at(300)).is_empty());
    assert_eq!(present(&memory, 300, &host("a")), [true, true]);
    assert_eq!(present(&memory, 330, &host("b")), [false, true]);
    assert_eq!(present(&memory, 300, &host("nowhere")), [false, true]);
    // Something was done at 200 s: only what was seen after that proves anything.
    assert_eq!(fresh(&memory, 300, 200, &host("a")), [true, true]);
    assert_eq!(fresh(&memory, 300, 200, &host("b")), [false, true]);
    assert_eq!(fresh(&memory, 300, 300, &host("a")), [false, false]);
    // A series that was declared gone is no evidence, however new the declaration.
    let gone = Labels::from([("__name__", "errors"), ("host", "a")]);
    memory.push(gone, at(310), stale_marker());
    assert_eq!(present(&memory, 320, &host("a")), [false, true]);
    assert_eq!(fresh(&memory, 320, 301, &host("a")), [false, false]);
}

#[test]
fn evidence_is_looked_for_where_the_query_looks() {
    let memory = every_15s(&[(&[("__name__", "x")], &[1.0; 5])]); // Until 60 s.
    let none = Labels::default();
    for (query, time, after, fresh, present) in [
        ("rate(x[5m])", 120, 0, true, true),
        ("rate(x[30s])", 120, 0, false, false),
        // Through an offset, "after" is seen as late as everything else.
        ("x offset 1m", 120, 110, true, true),
        ("x offset 1m", 180, 150, false, true),
        ("max_over_time(x[10m:1m])", 600, 0, true, true),
        ("x @ 60", 86_400, 86_390, true, true),
    ] {
        let rule = expr(query);
        let got = fresh_inputs(&memory, &rule, at(time), at(after), &none);
        assert_eq!(got, [fresh], "fresh: {query} at {time} after {after}");
        let got = inputs_present(&memory, &rule, at(time), &none, &Limits::default());
        assert_eq!(got, [present], "present: {query} at {time}");
    }
}

#[test]
fn a_query_that_would_hold_too_much_fails_cleanly() {
    let memory = every_15s(&[(&[("__name__", "x")], &[1.0; 100])]);
    let few = Limits { samples_max: 50, ..Limits::default() };
    let too_many = EvalError::TooManySamples { max: 50 };
    assert_eq!(instant(&memory, &expr("sum_over_time(x[1h])"), at(1500), &few), Err(too_many));
    assert!(instant(&memory, &expr("x"), at(1500), &few).is_ok());
    // A subquery of absurd length ends at the limit, not at the end of time.
    let error = instant(&memory, &expr("max_over_time(vector(1)[100y:1ms])"), at(1500), &few);
    assert!(matches!(error, Err(EvalError::TooManySamples { .. })), "{error:?}");
    for (start, end, step) in [(0, 10, 0), (0, 10, -1), (10, 0, 1)] {
        let got = range(&memory, &expr("x"), at(start), at(end), Span::secs(step), &few);
        assert!(matches!(got, Err(EvalError::Execution(_))), "{start} {end} {step}");
    }
}

#[test]
fn remarks_come_once_with_their_place() {
    let memory = every_15s(&[(&[("__name__", "x")], &[1.0; 9])]);
    let query = expr("1 +\n  quantile_over_time(1.5, x[1m])");
    let got = range(&memory, &query, at(0), at(120), Span::secs(15), &Limits::default()).unwrap();
    assert_eq!(got.annotations.len(), 1);
    assert_eq!(got.annotations[0].level, AnnotationLevel::Warn);
    assert_eq!(
        got.annotations[0].text(query.text()),
        "PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:22)"
    );
    let gauge = instant(&memory, &expr("rate(x[1m])"), at(60), &Limits::default()).unwrap();
    assert_eq!(
        gauge.annotations[0].message,
        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\""
    );
}

/// A store that does not keep its promises may give wrong results, but no panic.
#[test]
fn points_out_of_order_do_no_harm() {
    struct Careless;
    impl Querier for Careless {
        fn select(&self, _: &[Matcher], _: Time, _: Time) -> Vec<Series> {
            let point = |time, value| daruma_model::Point { time: Time(time), value };
            let points = vec![point(9000, 1.0), point(1000, 2.0), point(9000, 3.0), point(0, 4.0)];
            vec![Series { points, ..Series::default() }, Series::default()]
        }
    }
    for query in ["x", "rate(x[5s])", "increase(x[5s] smoothed)", "x smoothed", "irate(x[1m])"] {
        let _ = instant(&Careless, &expr(query), at(5), &Limits::default());
        let _ = range(&Careless, &expr(query), at(0), at(9), Span::secs(1), &Limits::default());
    }
}

#[test]
fn utf8_names_and_keywords_are_names_like_any_other() {
    let memory = every_15s(&[
        (&[("__name__", "a.b"), ("x y", "1")], &[7.0]),
        (&[("__name__", "sum"), ("by", "on")], &[8.0]),
    ]);
    for (query, want) in [
        (r#"{"a.b", "x y"="1"}"#, 7.0),
        (r#"sum{by="on"}"#, 8.0),
        (r#"sum by (by,) (sum)"#, 8.0),
        (r#"{__name__=~"a.b"}"#, 7.0),
    ] {
        let got = vector(&memory, query, at(0));
        assert_eq!(got.len(), 1, "{query}");
        assert_eq!(got[0].1, want, "{query}");
    }
    let name = &expr(r#"{"a.b"}"#);
    let wanted = Matcher::new("__name__", MatchOp::Equal, "a.b").unwrap();
    assert_eq!(name.selectors()[0].matchers, [wanted]);
}

/// Dashboards carry matching left over from an older form of the query.
#[test]
fn matching_that_names_no_label_is_overlooked_beside_a_scalar() {
    let memory = every_15s(&[(&[("__name__", "x"), ("l", "1")], &[7.0])]);
    for query in ["x + on() 1", "1 + ignoring() x", "x + on() group_left(y) 1", "1 + on() x + 0"] {
        let got = vector(&memory, query, at(0));
        assert_eq!(got.len(), 1, "{query}");
        assert_eq!(got[0].1, 8.0, "{query}");
    }
    assert_eq!(expr("x + on() group_left(y) 1").one_line(), "x + 1");
}
