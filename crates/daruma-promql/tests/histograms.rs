//! What native histograms and start times mean to somebody who watches a service.

#![allow(clippy::unwrap_used)] // Helpers of tests, too.

use daruma_model::{Histogram, Labels, Querier, Span, Time};
use daruma_promql::script::{Memory, Script};
use daruma_promql::{EvalError, Expr, Limits, ParseOptions, Value, instant, range};

/// Scripts are the shortest way to tell a story in series.
fn told(script: &str) {
    let outcomes = Script::parse(script).unwrap().run(&Limits::default());
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        assert_eq!(outcome.failure, None, "line {}: {}", outcome.line, outcome.query);
    }
}

#[test]
fn a_classic_histogram_and_its_native_twin_tell_the_same() {
    let mut script = String::from(
        r#"
load_with_nhcb 5m
  latency_bucket{le="0.1", start="positive"}   0+5x10
  latency_bucket{le=".2", start="positive"}    0+7x10
  latency_bucket{le="1e0", start="positive"}   0+11x10
  latency_bucket{le="+Inf", start="positive"}  0+12x10
  latency_bucket{le="-.2", start="negative"}   0+1x10
  latency_bucket{le="-0.1", start="negative"}  0+2x10
  latency_bucket{le="0.3", start="negative"}   0+2x10
  latency_bucket{le="+Inf", start="negative"}  0+3x10
"#,
    );
    for (query, positive, negative) in [
        ("histogram_quantile(0, X)", "0", "-0.2"),
        ("histogram_quantile(0.2, X)", "0.048", "-0.2"),
        ("histogram_quantile(0.5, X)", "0.15", "-0.15"),
        ("histogram_quantile(0.8, X)", "0.72", "0.3"),
        ("histogram_quantile(1, X)", "1", "0.3"),
        ("histogram_fraction(-Inf, -0.2, X)", "0", "0.3333333333333333"),
        ("histogram_fraction(-0.2, 0, X)", "0", "0.3333333333333333"),
        ("histogram_fraction(0, 0.2, X)", "0.5833333333333334", "0"),
        ("histogram_fraction(0.2, 0.6, X)", "0.16666666666666666", "0"),
        ("histogram_fraction(-Inf, +Inf, X)", "1", "1"),
    ] {
        for metric in ["latency_bucket", "latency"] {
            let query = query.replace('X', metric);
            script += &format!("\neval instant at 50m {query}\n");
            script += &format!("  {{start=\"positive\"}} {positive}\n");
            script += &format!("  {{start=\"negative\"}} {negative}\n");
        }
    }
    told(&script);
}

#[test]
fn a_restart_seen_in_one_bucket_only_is_a_restart() {
    told(
        r#"
load 1m
  latency {{schema:0 count:4 sum:4 buckets:[1 3]}} {{schema:0 count:6 sum:9 buckets:[0 2 4]}}

eval instant at 1m resets(latency[2m])
  {} 1

eval instant at 1m irate(latency[2m]) * 60
  {} {{schema:0 count:6 sum:9 buckets:[0 2 4] counter_reset_hint:gauge}}

eval instant at 1m histogram_quantile(0.5, increase(latency[2m]))
  {} 2.378414230005442
"#,
    );
}

#[test]
fn numbers_and_histograms_do_not_mix_silently() {
    told(
        r#"
load 1m
  value{l="1"} 3
  spread{l="1"} {{schema:0 count:3 sum:3 buckets:[3]}}
  custom{l="1"} {{schema:-53 count:3 sum:3 custom_values:[1] buckets:[3]}}

eval instant at 0 value == bool on(l) spread
  expect info msg: PromQL info: incompatible sample types encountered for binary operator "==": float == histogram (1:1)

eval instant at 0 spread > bool on(l) spread
  expect info msg: PromQL info: incompatible sample types encountered for binary operator ">": histogram > histogram (1:1)

eval instant at 0 spread == bool on(l) spread
  expect no_info
  {l="1"} 1

eval instant at 0 spread + on(l) custom
  expect warn msg: PromQL warning: incompatible bucket layout encountered for binary operator + (1:1)

eval instant at 0 max({l="1"})
  expect info msg: PromQL info: ignored histogram in max aggregation (1:5)
  {} 3

eval instant at 0 topk(5, {l="1"})
  expect info msg: PromQL info: ignored histogram in topk aggregation (1:1)
  value{l="1"} 3

eval instant at 0 sum({l="1", __name__!="custom"})
  expect warn msg: PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)

eval instant at 0 abs({l="1"})
  {l="1"} 3

eval instant at 0 count_values("is", spread)
  {is="{count:3, sum:3, (0.5,1]:3}"} 1

eval instant at 0 spread / 3
  {l="1"} {{schema:0 count:1 sum:1 buckets:[1]}}

eval instant at 0 3 / spread
  expect info msg: PromQL info: incompatible sample types encountered for binary operator "/": float / histogram (1:1)
"#,
    );
}

#[test]
fn a_batch_job_that_says_since_when_it_counts_is_counted_from_its_first_sample() {
    told(
        r#"
load 1m
  done_total{job="told"}@st  _ _ -30s
  done_total{job="told"}     _ _ 120
  done_total{job="untold"}   _ _ 120

eval instant at 2m increase(done_total[5m])
  {job="told"} 120

eval instant at 2m start_timestamp(done_total)
  {job="told"} 90
  {job="untold"} 0
"#,
    );
}

#[test]
fn an_experimental_function_needs_its_switch() {
    for text in ["mad_over_time(x[5m])", "sum(limitk(2, x))", "sort_by_label(x, \"l\")", "end()"] {
        let error = Expr::parse(text).unwrap_err();
        assert!(error.message.contains("the switch `experimental` allows it"), "{error}");
        let on = ParseOptions { experimental: true };
        let expr = Expr::parse_with(text, &on).unwrap();
        assert_eq!(expr.check(&ParseOptions::default()), Err(error));
        assert_eq!(expr.check(&on), Ok(()));
    }
    assert_eq!(Expr::parse("sum(limitk(2, x))").unwrap_err().column, 5);
}

/// A histogram is as large as its buckets are many: a limit on samples that counted it as one would
/// not hold the memory down.
#[test]
fn a_query_over_wide_histograms_meets_its_limit() {
    let mut memory = Memory::default();
    for i in 0..10 {
        let histogram = Histogram {
            schema: 8,
            positive: (0..1000).map(|index| (index, 1.0)).collect(),
            ..Histogram::default()
        };
        let labels = Labels::from([(Labels::NAME, "wide")]);
        memory.push_histogram(labels, Time::from_secs(i), None, histogram.into());
    }
    let limits = Limits { samples_max: 5000, ..Limits::default() };
    let wide = Expr::parse("wide").unwrap();
    let answer = instant(&memory, &wide, Time::from_secs(10), &limits);
    assert_eq!(answer, Err(EvalError::TooManySamples { max: 5000 }));
    let short = Limits { lookback: Span::secs(2), ..limits };
    let Value::Vector(vector) = instant(&memory, &wide, Time::from_secs(10), &short).unwrap().value
    else {
        panic!("no vector");
    };
    assert_eq!(vector[0].value.histogram().unwrap().positive.len(), 1000);
    // Results count, too.
    let query = Expr::parse("wide @ 9 * 2").unwrap();
    let (start, end) = (Time::from_secs(10), Time::from_secs(20));
    let answer = range(&memory, &query, start, end, Span::secs(1), &short);
    assert_eq!(answer, Err(EvalError::TooManySamples { max: 5000 }));
}

#[test]
fn stored_histograms_say_whether_they_go_on_from_the_one_before() {
    use daruma_model::ResetHint::{Gauge, NotReset, Unknown};
    let mut memory = Memory::default();
    let labels = Labels::from([(Labels::NAME, "latency")]);
    for (i, (count, hint)) in
        [(1.0, Unknown), (2.0, Unknown), (1.0, Unknown), (3.0, Gauge), (4.0, Unknown)]
            .into_iter()
            .enumerate()
    {
        let histogram = Histogram { count, hint, ..Histogram::default() };
        let time = Time::from_secs(i as i64);
        memory.push_histogram(labels.clone(), time, None, histogram.into());
    }
    let series = memory.select(&[], Time::MIN, Time::MAX);
    let hints: Vec<_> = series[0].histograms.iter().map(|point| point.histogram.hint).collect();
    assert_eq!(hints, [Unknown, NotReset, Unknown, Gauge, Unknown]);
}
