//! Measures log rules: lines a second with ten patterns and a rule for new kinds.
//!
//! `cargo run --release -p daruma-detect --example measure`

use std::time::Instant;

use daruma_detect::{DetectConfig, Detector, Ruleset};
use daruma_model::{LogRecord, Severity, Time};

fn main() {
    let patterns = [
        "ERROR|panic|OutOfMemory",
        "(?i)connection (refused|reset)",
        r"status=5\d\d",
        "deadlock detected",
        r"disk .* full",
        "segfault at",
        r"timeout after \d+ ms",
        "Traceback \\(most recent call last\\)",
        "certificate (has )?expired",
        r"oom-killer|Out of memory: Killed",
    ];
    let rules = |patterns: &[&str], kinds: bool| {
        let mut yaml = String::from("rules:\n");
        for (i, pattern) in patterns.iter().enumerate() {
            yaml +=
                &format!("  - {{ alert: P{i}, log: {{ match: '{pattern}', more_than: 5 }} }}\n");
        }
        if kinds {
            yaml += "  - { alert: New, log: { new_kind: true, severity: trace } }\n";
        }
        let detect: Result<DetectConfig, _> = serde_saphyr::from_str(&yaml);
        match detect.map(|detect| Detector::new(&Ruleset { detect, ..Ruleset::default() })) {
            Ok(Ok(detector)) => detector,
            other => panic!("{other:?}"),
        }
    };
    let labels = [("path", "/srv/shop/log/app.log"), ("service", "shop")].into();
    let lines: Vec<LogRecord> = (0..200_000_i64)
        .map(|i| {
            let body = if i % 1000 == 0 {
                format!("2026-11-23T03:26:{:02}Z ERROR order {i} failed: connection refused by 10.0.0.{}", i % 60, i % 250)
            } else {
                format!("2026-11-23T03:26:{:02}Z INFO request id={i} path=/cart/{} status=200 took {} ms", i % 60, i % 97, i % 13)
            };
            let severity = Some(if i % 1000 == 0 { Severity::Error } else { Severity::Info });
            LogRecord { time: Time(i), labels: std::clone::Clone::clone(&labels), severity, body }
        })
        .collect();
    for (name, mut detector, batch) in [
        ("ten patterns, batches of 1000", rules(&patterns, false), 1000),
        ("ten patterns, line by line", rules(&patterns, false), 1),
        ("ten patterns and new kinds, batches of 1000", rules(&patterns, true), 1000),
        ("new kinds alone", rules(&[], true), 1000),
    ] {
        let mut slowest = std::time::Duration::ZERO;
        let start = Instant::now();
        let mut findings = 0;
        for chunk in lines.chunks(batch) {
            let began = Instant::now();
            findings += detector.on_logs(chunk[0].time, chunk).len();
            slowest = slowest.max(began.elapsed());
        }
        let spent = start.elapsed();
        println!(
            "{name}: {:.0} lines/s, slowest call {slowest:?}, {findings} findings",
            lines.len() as f64 / spent.as_secs_f64(),
        );
    }
}
