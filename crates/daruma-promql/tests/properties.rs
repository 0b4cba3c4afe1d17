//! Sentences that hold for any text and any data.

use daruma_model::{Histogram, Labels, ResetHint, Series, Span, Time, stale_marker};
use daruma_promql::script::{Memory, Script};
use daruma_promql::{
    Expr, FUNCTIONS, Limits, ParseError, ParseOptions, SampleValue, Value, ValueType, fresh_inputs,
    inputs_present, instant, line_column, range,
};
use proptest::prelude::*;

/// The whole language, experimental functions among it.
fn parse(text: &str) -> Result<Expr, ParseError> {
    Expr::parse_with(text, &ParseOptions { experimental: true })
}

/// Real queries, as seeds for mutation.
const QUERIES: &[&str] = &[
    r#"sum by (job) (rate(http_requests_total{code=~"5.."}[5m])) / ignoring(code) group_left sum(up) > bool 0.05"#,
    r#"histogram_quantile(0.99, sum without (instance) (rate(x_bucket[1m] offset -5m @ end()))) unless on() absent(y)"#,
    r#"max_over_time(deriv(x[1h])[30m:1m] @ 1234.5 offset 1h) + - 0x1F ^ -2"#,
    r#"label_replace({"utf-8 name", "a.b"!~"x|y"}, "dst", "$1", `src`, '(.*)') and topk(3, x) or vector(Inf)"#,
    r#"increase(x[min_of(step(), 5m) * 2 + 1s] smoothed) + on(a) fill_left(-1) y # a comment"#,
];

/// Random queries that parse: the arguments fit the function.
fn query(kind: ValueType) -> BoxedStrategy<String> {
    let scalar = prop_oneof![
        Just("0".to_owned()),
        Just("-1.5".to_owned()),
        Just("0.9".to_owned()),
        Just("NaN".to_owned()),
        Just("Inf".to_owned()),
        Just("1e300".to_owned()),
        Just("time()".to_owned()),
        Just("scalar(a)".to_owned()),
    ];
    let selector = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just(r#"{__name__=~"a|b"}"#.to_owned()),
        Just(r#"a{l!="1"} offset 30s"#.to_owned()),
        Just("b @ 60".to_owned()),
        Just("a offset 200000000y".to_owned()),
        Just("a smoothed".to_owned()),
        Just("b @ -9e15".to_owned()),
    ];
    let vector = selector.prop_recursive(4, 24, 3, move |inner| {
        let window = inner.clone().prop_flat_map(|text| {
            prop_oneof![
                Just("a[1m]".to_owned()),
                Just("b[5m] offset -1m".to_owned()),
                Just(r#"{l=~".*", __name__!=""}[2m]"#.to_owned()),
                Just(format!("({text})[2m:30s]")),
                Just(format!("({text})[1m:10s] @ end()")),
            ]
        });
        let functions: Vec<_> =
            FUNCTIONS.iter().filter(|f| f.returns == ValueType::Vector).collect();
        let scalars = scalar.clone();
        let call = (prop::sample::select(functions), inner.clone(), window, scalars.clone())
            .prop_map(|(function, vector, window, scalar)| {
                let args: Vec<String> = function
                    .args
                    .iter()
                    .map(|arg| match arg {
                        ValueType::Scalar => scalar.clone(),
                        ValueType::Vector => vector.clone(),
                        ValueType::Matrix => window.clone(),
                        ValueType::String => r#""l""#.to_owned(),
                    })
                    .collect();
                match function.name {
                    "info" => format!("info({vector})"),
                    "rate" if window == "a[1m]" => "rate(a[1m] smoothed)".to_owned(),
                    name => format!("{name}({})", args.join(", ")),
                }
            });
        let operator = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "==",
            "> bool",
            "<=",
            "and",
            "or",
            "unless",
            "== on(l)",
            "+ on(l) group_left()",
            "* ignoring(l) group_right(m)",
            "</",
            "+ fill(0)",
            "unless ignoring(l)",
        ]);
        let aggregate = prop::sample::select(vec![
            "sum",
            "avg",
            "count by (l)",
            "min without (l)",
            "max",
            "group",
            "stddev",
            "stdvar",
        ]);
        let chosen = prop::sample::select(vec![
            "topk",
            "bottomk by (l)",
            "quantile",
            "limitk",
            "limit_ratio",
        ]);
        prop_oneof![
            call,
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            (inner.clone(), scalars.clone()).prop_map(|(a, s)| format!("({a}) * {s}")),
            (aggregate, inner.clone()).prop_map(|(op, a)| format!("{op} ({a})")),
            (chosen, scalars, inner.clone()).prop_map(|(op, k, a)| format!("{op} ({k}, {a})")),
            inner.clone().prop_map(|a| format!(r#"count_values("v", {a})"#)),
            inner.prop_map(|a| format!("-({a})")),
        ]
    });
    match kind {
        ValueType::Vector => vector.boxed(),
        _ => Just("a[5m]".to_owned()).boxed(),
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1e3..1e3,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(stale_marker()),
        1 => Just(f64::MAX),
        1 => Just(0.0),
        1 => any::<f64>(),
    ]
}

/// Some of the data are numbers alone, which shorter ways are for.
fn data() -> impl Strategy<Value = Memory> {
    prop_oneof![samples(1), samples(0)]
}

fn samples(histograms: u32) -> impl Strategy<Value = Memory> {
    let name = prop::sample::select(vec!["a", "b", "b_total"]);
    let label = prop::sample::select(vec!["", "1", "2", "+Inf", "0.5"]);
    let sample = prop_oneof![
        4 => value().prop_map(SampleValue::Float),
        histograms => histogram().prop_map(SampleValue::from),
    ];
    let start = prop::option::weighted(
        if histograms > 0 { 0.5 } else { 0.02 },
        (0_i64..300_000).prop_map(Time),
    );
    let sample = (name, label.clone(), label, 0_i64..300_000, start, sample);
    prop::collection::vec(sample, 0..60).prop_map(|samples| {
        let mut memory = Memory::default();
        for (name, l, le, time, start, value) in samples {
            let labels = Labels::from([(Labels::NAME, name), ("l", l), ("le", le)]);
            match value {
                SampleValue::Float(value) => memory.push_since(labels, Time(time), start, value),
                SampleValue::Histogram(histogram) => {
                    memory.push_histogram(labels, Time(time), start, histogram);
                }
            }
        }
        memory
    })
}

/// Any shape, even one that no producer would send.
fn histogram() -> impl Strategy<Value = Histogram> {
    let schema = prop::sample::select(vec![0, 1, 8, -4, -53, -53, i8::MIN, i8::MAX]);
    let index = || prop_oneof![8 => -3..4, 1 => any::<i32>()];
    let side = || prop::collection::btree_map(index(), value(), 0..5);
    let bounds = prop::collection::vec(value(), 0..4);
    let hint = prop::sample::select(vec![
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ]);
    (schema, hint, [value(), value(), value(), value()], side(), side(), bounds).prop_map(
        |(schema, hint, [count, sum, zero_threshold, zero_count], positive, negative, bounds)| {
            Histogram {
                schema,
                hint,
                count,
                sum,
                zero_threshold,
                zero_count,
                positive: positive.into_iter().collect(),
                negative: negative.into_iter().collect(),
                custom_bounds: bounds.into(),
            }
        },
    )
}

/// A small limit keeps hostile queries short.
const LIMITS: Limits = Limits { samples_max: 20_000, lookback: Span::minutes(5) };

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.span.start <= text.len() && error.line >= 1 && error.column >= 1);
        }
    }

    #[test]
    fn no_mutilated_query_makes_the_parser_panic(
        query in prop::sample::select(QUERIES),
        cut in any::<prop::sample::Index>(),
        length in 0_usize..8,
        put in "[a-z0-9(){}\\[\\]@:,\"'`+*^#\\\\. é-]{0,6}",
    ) {
        let mut chars: Vec<char> = query.chars().collect();
        let at = cut.index(chars.len());
        let end = (at + length).min(chars.len());
        chars.splice(at..end, put.chars());
        let text: String = chars.into_iter().collect();
        if let Ok(expr) = parse(&text) {
            // What parses reads back as itself, and its leaves lie inside the text.
            let again: Expr = serde_json::from_str(&serde_json::to_string(&expr).unwrap()).unwrap();
            prop_assert_eq!(&again, &expr);
            for selector in expr.selectors() {
                prop_assert!(text.get(selector.span.clone()).is_some());
            }
            let printed = expr.one_line();
            let again = parse(&printed);
            prop_assert!(again.is_ok(), "{text}\n{printed}\n{:?}", again.err());
            prop_assert_eq!(again.unwrap().one_line(), printed);
        }
    }

    #[test]
    fn no_query_over_no_data_makes_the_evaluator_panic(
        text in query(ValueType::Vector),
        memory in data(),
        at in prop_oneof![
            4 => 0_i64..400_000,
            1 => prop::sample::select(vec![i64::MIN, i64::MAX, -1]),
        ],
    ) {
        let expr = parse(&text);
        prop_assert!(expr.is_ok(), "{text}: {:?}", expr.err());
        let expr = expr.unwrap();
        if let Ok(answer) = instant(&memory, &expr, Time(at), &LIMITS)
            && let Value::Vector(vector) = answer.value
        {
            let mut seen = std::collections::HashSet::new();
            for sample in vector {
                prop_assert!(seen.insert(sample.labels.clone()), "{text}: {} twice", sample.labels);
            }
        }
        let start = Time(at);
        let _ = range(&memory, &expr, start, start + Span::minutes(3), Span::secs(30), &LIMITS);
        let leaves = expr.selectors().len();
        let labels = Labels::from([("l", "1")]);
        prop_assert_eq!(inputs_present(&memory, &expr, start, &labels, &LIMITS).len(), leaves);
        prop_assert_eq!(fresh_inputs(&memory, &expr, start, Time(0), &labels).len(), leaves);
    }

    /// A range query is the instant queries of its steps, side by side.
    #[test]
    fn a_range_query_is_its_instant_queries(text in query(ValueType::Vector), memory in data()) {
        // `start()`, `end()` and the like mean the whole range, and are another question.
        prop_assume!(!["start", "end", "step", "range"].iter().any(|w| text.contains(&format!("{w}()"))));
        let expr = parse(&text).unwrap();
        let (start, step) = (Time(60_000), Span::secs(45));
        let whole = range(&memory, &expr, start, start + Span::secs(135), step, &Limits::default());
        let mut time = start;
        for _ in 0..4 {
            let one = instant(&memory, &expr, time, &Limits::default());
            match (&whole, one) {
                (Ok(whole), Ok(one)) => {
                    let Value::Matrix(matrix) = &whole.value else { panic!("no matrix") };
                    let Value::Vector(vector) = one.value else { panic!("no vector") };
                    let at = |series: &Series| {
                        let point = series.points.iter().find(|point| point.time == time);
                        let histogram = series.histograms.iter().find(|point| point.time == time);
                        // As text, because NaN does not equal itself.
                        point
                            .map(|point| format!("{:?}", SampleValue::Float(point.value)))
                            .or(histogram.map(|point| {
                                format!("{:?}", SampleValue::Histogram(point.histogram.clone()))
                            }))
                    };
                    let steps = matrix.iter().filter(|series| at(series).is_some()).count();
                    prop_assert_eq!(steps, vector.len(), "{} at {:?}", text, time);
                    for sample in vector {
                        let series = matrix.iter().find(|series| series.labels == sample.labels);
                        let value = series.and_then(at);
                        prop_assert_eq!(value, Some(format!("{:?}", sample.value)), "{}", text);
                    }
                }
                (Ok(_), Err(error)) => prop_assert!(false, "{text}: only at {time:?}: {error}"),
                // An error at one step is an error of the whole.
                (Err(_), _) => {}
            }
            time += step;
        }
    }

    /// What is printed is the same query, and prints the same again.
    #[test]
    fn a_printed_query_reads_back_as_itself(text in query(ValueType::Vector)) {
        let expr = parse(&text).unwrap();
        for printed in [expr.one_line(), expr.formatted()] {
            let again = parse(&printed);
            prop_assert!(again.is_ok(), "{text}\n{printed}\n{:?}", again.err());
            let again = again.unwrap();
            prop_assert_eq!(again.one_line(), expr.one_line());
            prop_assert_eq!(again.formatted(), expr.formatted());
        }
    }

    #[test]
    fn no_text_makes_the_script_reader_panic(text in "(load 5m|eval instant at 5m|clear|expect|x\\{|[a-z0-9_+\\-x{}\":, \n]){0,12}") {
        if let Ok(script) = Script::parse(&text) {
            for outcome in script.run(&LIMITS) {
                prop_assert!(outcome.line <= text.lines().count());
            }
        }
    }

    #[test]
    fn every_byte_of_a_text_has_a_line_and_a_column(text in "[a\nä]{0,20}", offset in 0_usize..50) {
        let (line, column) = line_column(&text, offset);
        prop_assert!(line <= text.lines().count().max(1) + 1 && column <= text.len() + 1);
    }
}

/// Nesting is refused before it could exhaust the stack, in every construct that can nest.
#[test]
fn deep_nesting_is_refused_rather_than_overflowing_the_stack() {
    let many = 20_000;
    for text in [
        "(".repeat(many),
        "-".repeat(many) + "1",
        "abs(".repeat(many / 2),
        "max_over_time(".repeat(many / 5),
        "1+".repeat(many) + "1",
        "2^".repeat(many) + "2",
        format!("x[{}", "(".repeat(many)),
        format!("x[1m{}]", "+1m".repeat(many / 2)),
        format!("x[{}1m]", "-".repeat(many)),
        "sum(".repeat(many / 2),
        "x or ".repeat(many / 4) + "x",
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("too deeply"), "{}…: {error}", &text[..20]);
    }
    // As deep as is allowed evaluates within the stack of a test's thread.
    let memory = Memory::default();
    for text in [
        "(".repeat(190) + "1" + &")".repeat(190),
        "abs(".repeat(190) + "x" + &")".repeat(190),
        "1 + ".repeat(190) + "1",
    ] {
        let expr = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let _ = instant(&memory, &expr, Time(0), &LIMITS);
    }
    let long = "x".repeat(daruma_promql::TEXT_BYTES_MAX + 1);
    assert!(parse(&long).unwrap_err().message.contains("at most 65536"));
}
