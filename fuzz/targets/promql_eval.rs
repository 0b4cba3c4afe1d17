//! Any query over data of every kind has an answer or an error, within its bounds.
#![no_main]

use std::sync::LazyLock;

use daruma_model::{Histogram, Labels, Span, Time, stale_marker};
use daruma_promql::script::Memory;
use daruma_promql::{
    Expr, Limits, ParseOptions, Value, fresh_inputs, inputs_present, instant, range,
};
use libfuzzer_sys::fuzz_target;

/// Small, so that a query ends soon.
const LIMITS: Limits = Limits { samples_max: 20_000, lookback: Span::minutes(5) };

/// Counters with resets, gauges, buckets, native histograms, gaps and markers; five minutes of them.
static DATA: LazyLock<Memory> = LazyLock::new(|| {
    let mut memory = Memory::default();
    for (at, time) in (0_i64..300_000).step_by(15_000).enumerate() {
        let time = Time(time);
        for (l, by) in [("1", 3.0), ("2", 7.5)] {
            let labels = |name: &str| Labels::from([(Labels::NAME, name), ("l", l)]);
            let counted = by * ((at % 13) as f64);
            memory.push_since(labels("a_total"), time, Some(Time(0)), counted);
            let gauge = match at % 9 {
                0 => f64::NAN,
                3 => f64::INFINITY,
                6 => stale_marker(),
                _ => by - at as f64,
            };
            memory.push(labels("a"), time, gauge);
            for (le, part) in [("0.5", 0.5), ("1", 0.75), ("+Inf", 1.0)] {
                let labels = labels("b_bucket").with("le", le);
                memory.push(labels, time, counted * part);
            }
            let histogram = Histogram {
                schema: if at % 5 == 0 { 0 } else { 2 },
                count: counted + 4.0,
                sum: counted * 1.5,
                zero_threshold: 0.001,
                zero_count: 1.0,
                positive: [(-1, 1.0), (2, counted + 1.0)].into_iter().collect(),
                negative: [(0, 1.0)].into_iter().collect(),
                ..Histogram::default()
            };
            memory.push_histogram(labels("h"), time, Some(Time(0)), histogram.into());
            let custom = Histogram {
                schema: -53,
                count: counted + 1.0,
                sum: counted,
                positive: [(0, 1.0), (1, counted)].into_iter().collect(),
                custom_bounds: vec![0.5, 2.0].into(),
                ..Histogram::default()
            };
            memory.push_histogram(labels("c"), time, None, custom.into());
        }
        memory.push([(Labels::NAME, "target_info"), ("l", "1"), ("data", "x")].into(), time, 1.0);
    }
    memory
});

fuzz_target!(|input: (i64, u8, &str)| {
    let (at, steps, text) = input;
    let Ok(expr) = Expr::parse_with(text, &ParseOptions { experimental: true }) else { return };
    let at = if at % 4 == 0 { at } else { at.rem_euclid(400_000) };
    if let Ok(answer) = instant(&*DATA, &expr, Time(at), &LIMITS)
        && let Value::Vector(vector) = answer.value
    {
        let mut seen = std::collections::HashSet::new();
        for sample in vector {
            assert!(seen.insert(sample.labels.clone()), "{text}: {} twice", sample.labels);
        }
    }
    let until = Time(at.saturating_add(i64::from(steps) * 7_000));
    let _ = range(&*DATA, &expr, Time(at), until, Span::secs(7), &LIMITS);
    let leaves = expr.selectors().len();
    let labels = Labels::from([("l", "1")]);
    assert_eq!(inputs_present(&*DATA, &expr, Time(at), &labels, &LIMITS).len(), leaves);
    assert_eq!(fresh_inputs(&*DATA, &expr, Time(at), Time(0), &labels).len(), leaves);
});
