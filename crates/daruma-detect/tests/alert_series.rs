//! What rule groups write as series: `ALERTS`, `ALERTS_FOR_STATE`, recordings, and their ends.

#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

mod common;

use common::{World, at, series};
use daruma_detect::{Detector, RuleFile, Ruleset};
use daruma_model::{Labels, Span, Time, is_stale};

const DOWN: &str = r#"
groups:
  - name: g
    interval: 10s
    labels: { team: a }
    rules:
      - { alert: Down, expr: "up == 0", for: 20s, labels: { severity: page } }
      - { record: "alerts:count", expr: "count by (alertname, alertstate) (ALERTS)" }
"#;

/// Every sample that is written from one second to another, as text; `gone` for a marker.
fn written(world: &mut World, from: i64, to: i64, samples: &[(&str, f64)]) -> Vec<String> {
    let mut all = Vec::new();
    for second in from..=to {
        world.commit(at(second), samples);
        for sample in world.evaluate(at(second)).recorded.samples {
            let value =
                if is_stale(sample.value) { "gone".to_owned() } else { sample.value.to_string() };
            all.push(format!("{} {value}", sample.labels));
        }
    }
    all
}

/// The second from 0 on which the group is evaluated.
fn phase(world: &mut World) -> i64 {
    world.evaluate(at(0));
    let next = world.detector.next_due().unwrap();
    (next.0 - at(0).0 + 999) / 1000
}

#[test]
fn an_alert_tells_of_itself_at_every_grid_instant_and_later_rules_see_it_at_once() {
    let mut world = World::with_file(DOWN);
    let first = phase(&mut world);
    let down = [("up{job=\"db\"}", 0.0)];
    let pending =
        r#"ALERTS{alertname="Down", alertstate="pending", job="db", severity="page", team="a"}"#;
    let firing = pending.replace("pending", "firing");
    let since = r#"ALERTS_FOR_STATE{alertname="Down", job="db", severity="page", team="a"}"#;
    let count = r#"alerts:count{alertname="Down", alertstate="pending", team="a"}"#;
    let activated = at(first).0.div_euclid(1000);
    let found = written(&mut world, 1, first, &down);
    // The instant lies within the second before.
    let activated = [activated - 1, activated];
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], format!("{pending} 1"));
    assert!(activated.iter().any(|since_| found[1] == format!("{since} {since_}")), "{found:?}");
    assert_eq!(found[2], format!("{count} 1"));
    let found = written(&mut world, first + 1, first + 19, &down);
    assert_eq!(found.iter().filter(|text| text.starts_with(pending)).count(), 1, "{found:?}");
    // `for` is over at the third instant: the pending series ends where the firing one begins.
    let found = written(&mut world, first + 20, first + 20, &down);
    assert!(found.contains(&format!("{firing} 1")), "{found:?}");
    assert!(found.contains(&format!("{pending} gone")), "{found:?}");
    assert!(found.contains(&format!("{count} gone")), "{found:?}");
    let found = written(&mut world, first + 21, first + 30, &[("up{job=\"db\"}", 1.0)]);
    assert!(found.contains(&format!("{firing} gone")), "{found:?}");
    assert!(found.contains(&format!("{since} gone")), "{found:?}");
    assert!(!found.iter().any(|text| text.ends_with(" 1")), "{found:?}");
}

#[test]
fn what_was_active_before_a_restart_goes_on_from_when_it_began() {
    let mut world = World::with_file(DOWN);
    let labels = series(r#"{alertname="Down", job="db", severity="page", team="a"}"#);
    let since = at(-15);
    assert!(world.detector.restore_alert(
        at(0),
        "g/Down",
        (&labels, &Labels::default()),
        since,
        false
    ));
    let first = phase(&mut world);
    // Before anything has been seen of it again, it stands still, and is told.
    let found = written(&mut world, 1, first, &[]);
    assert!(found[0].contains(r#"alertstate="pending""#), "{found:?}");
    // Seen again: it has been active for longer than `for`.
    let found = written(&mut world, first + 1, first + 10, &[("up{job=\"db\"}", 0.0)]);
    assert!(found[0].contains(r#"alertstate="firing""#), "{found:?}");
    assert!(found[1].ends_with(&format!(" {}", since.0 / 1000)), "{found:?}");
}

#[test]
fn a_rule_that_is_gone_ends_its_series_unless_another_goes_on_with_them() {
    let file = |group: &str, rules: &str| {
        let yaml = format!("groups: [ {{ name: {group}, interval: 10s, rules: [ {rules} ] }} ]");
        let groups = serde_saphyr::from_str(&yaml).unwrap();
        Ruleset { files: vec![RuleFile { path: "r.yml".into(), groups }], ..Ruleset::default() }
    };
    let (kept, gone) = ("{ record: kept, expr: x }", "{ record: gone, expr: x }");
    let mut world = World::of(file("a", &format!("{kept}, {gone}")));
    written(&mut world, 0, 15, &[("x", 1.0)]);
    let old =
        std::mem::replace(&mut world.detector, Detector::new(&file("renamed", kept)).unwrap());
    assert_eq!(world.detector.adopt(old), vec![]);
    let found = written(&mut world, 16, 60, &[("x", 1.0)]);
    let ends: Vec<&String> = found.iter().filter(|text| text.ends_with("gone")).collect();
    assert_eq!(ends, ["gone{} gone"]);
}

#[test]
fn a_query_offset_shifts_what_is_read_and_what_is_written() {
    let mut world = World::with_file(
        "groups: [ { name: g, interval: 10s, query_offset: 5s, rules: [ { record: r, expr: x } ] } ]",
    );
    let mut samples = Vec::new();
    for second in 0..=30 {
        world.commit(at(second), &[("x", second as f64)]);
        let now = at(second);
        for sample in world.evaluate(now).recorded.samples {
            // Evaluated within the second, five seconds back.
            let back = now.since(sample.time);
            assert!(back >= Span::secs(5) && back < Span::secs(6), "{back}");
            assert_eq!(at(sample.value as i64), Time(sample.time.0.div_euclid(1000) * 1000));
            samples.push(sample);
        }
    }
    assert!(samples.len() >= 2, "{samples:?}");
}

#[test]
fn results_that_templates_make_equal_fail_the_rule_and_write_nothing() {
    for rule in [
        "{ alert: A, expr: 'x', labels: { i: same } }",
        "{ record: r, expr: 'x', labels: { i: same } }",
    ] {
        let yaml = format!("groups: [ {{ name: g, interval: 1s, rules: [ {rule} ] }} ]");
        let mut world = World::with_file(&yaml);
        world.commit(at(0), &[("x{i=\"a\"}", 1.0), ("x{i=\"b\"}", 1.0)]);
        world.evaluate(at(0));
        let evaluated = world.evaluate(at(1));
        assert!(evaluated.errors[0].message.contains("same labels"), "{rule}");
        assert!(evaluated.recorded.samples.is_empty() && evaluated.findings.is_empty(), "{rule}");
    }
}

/// The rules of [`DOWN`] under external labels.
fn under(external: &[(&str, &str)]) -> Ruleset {
    let groups = serde_saphyr::from_str(DOWN).unwrap();
    let file = RuleFile { path: "r.yml".into(), groups };
    let external_labels = external.iter().copied().collect();
    Ruleset { files: vec![file], external_labels, ..Ruleset::default() }
}

/// What findings say at a second: verdict and labels.
fn findings(world: &mut World, second: i64, samples: &[(&str, f64)]) -> Vec<String> {
    world.commit(at(second), samples);
    let findings = world.evaluate(at(second)).findings;
    findings.iter().map(|found| format!("{:?} {}", found.verdict, found.labels)).collect()
}

#[test]
fn findings_carry_external_labels_and_series_of_alerts_do_not() {
    let mut world = World::of(under(&[("cluster", "c1"), ("team", "b")]));
    let down = [("up{job=\"db\"}", 0.0), ("up{cluster=\"own\"}", 0.0)];
    let found = findings(&mut world, 1, &down);
    // What an alert has by itself stays.
    let told = [
        r#"Holds {alertname="Down", cluster="c1", job="db", severity="page", team="a"}"#,
        r#"Holds {alertname="Down", cluster="own", severity="page", team="a"}"#,
    ];
    for want in told {
        assert!(found.iter().any(|text| text == want), "{found:?}");
    }
    let series = written(&mut world, 2, 14, &down);
    assert!(series.iter().any(|text| text.contains(r#"job="db""#)), "{series:?}");
    assert!(!series.iter().any(|text| text.contains("c1")), "{series:?}");
    let found = findings(&mut world, 15, &[("up{job=\"db\"}", 1.0), down[1]]);
    assert_eq!(found, [told[0].replace("Holds", "Clear")]);
}

/// What is over ends under the name by which it was told, after a restart and under other external labels.
#[test]
fn what_was_told_under_external_labels_ends_under_them() {
    let told = |cluster: &str| {
        series(&format!(
            r#"{{alertname="Down", cluster="{cluster}", job="db", severity="page", team="a"}}"#
        ))
    };
    for before in ["c1", "c0"] {
        let mut world = World::of(under(&[("cluster", "c1")]));
        let labels = told(before);
        let texts = (&labels, &Labels::default());
        assert!(world.detector.restore_alert(at(0), "g/Down", texts, at(-60), true));
        // Down still: the same alert, or under other external labels another one in its place.
        let found = findings(&mut world, 1, &[("up{job=\"db\"}", 0.0)]);
        assert!(found.contains(&format!("Holds {}", told("c1"))), "{found:?}");
        let over = found.contains(&format!("Clear {}", told("c0")));
        assert_eq!(over, before == "c0", "{found:?}");
        let up = [("up{job=\"db\"}", 1.0)];
        let found: Vec<_> = (2..=21).flat_map(|second| findings(&mut world, second, &up)).collect();
        assert_eq!(found, [format!("Clear {}", told("c1"))]);
    }

    let mut world = World::of(under(&[("cluster", "c0")]));
    findings(&mut world, 1, &[("up{job=\"db\"}", 0.0)]);
    let new = Detector::new(&under(&[("cluster", "c1")])).unwrap();
    let old = std::mem::replace(&mut world.detector, new);
    let lost = world.detector.adopt(old);
    assert_eq!(lost, [("g/Down".to_owned(), told("c0"))]);
    world.detector.restore(at(2), "g/Down", &told("c0"));
    let found = findings(&mut world, 3, &[("up{job=\"db\"}", 0.0)]);
    assert!(found.contains(&format!("Holds {}", told("c1"))), "{found:?}");
    assert!(found.contains(&format!("Clear {}", told("c0"))), "{found:?}");
}
