//! A restart forgets no alert: what was pending goes on from when it began, and its series say so.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use support::{Daruma, until};

const RULES: &str = "groups:
- name: g
  interval: 1s
  rules:
  - { alert: Long, expr: 'daruma_uptime_seconds >= 0', for: 10h, labels: { severity: page } }
  - { alert: Short, expr: 'daruma_uptime_seconds >= 0', labels: { severity: page } }
";

/// The value of a query that yields one series, and that series' labels.
fn ask(daruma: &Daruma, query: &str) -> Option<(f64, String)> {
    let (_, answer) = daruma.get(&format!("/api/v1/query?query={query}"));
    let answer: serde_json::Value = serde_json::from_str(&answer).ok()?;
    let one = answer.pointer("/data/result/0")?;
    let value = one.pointer("/value/1")?.as_str()?.parse().ok()?;
    Some((value, one["metric"].to_string()))
}

#[test]
fn a_pending_alert_goes_on_after_kill_9_from_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let config = "collect: {}\ndetect: { rule_files: [ rules.yml ] }\n";
    let data = dir.path().join("data");
    let mut daruma = Daruma::start(config, &data);
    let since = "ALERTS_FOR_STATE%7Balertname=%22Long%22%7D";
    let (began, labels) = until("the alert is told", || ask(&daruma, since));
    assert!(labels.contains(r#""severity":"page""#), "{labels}");
    let state = |daruma: &Daruma, name: &str| {
        ask(daruma, &format!("ALERTS%7Balertname=%22{name}%22%7D")).map(|(_, labels)| labels)
    };
    assert!(until("it is pending", || state(&daruma, "Long")).contains("pending"));
    assert!(until("the other fires", || state(&daruma, "Short")).contains("firing"));
    // Long enough that a clock started anew would show.
    until("a while has passed", || {
        let (up, _) = ask(&daruma, "daruma_uptime_seconds")?;
        (up > 8.0).then_some(())
    });
    daruma.kill();
    let daruma = Daruma::start(config, &data);
    let (again, _) = until("it is told after the restart", || ask(&daruma, since));
    assert!((again - began).abs() <= 2.0, "began at {began}, after the restart at {again}");
    assert!(until("it is pending", || state(&daruma, "Long")).contains("pending"));
}
