//! Rules over series, as incidents: what holds, what is over, and what nobody can know.

mod common;

use common::{World, at, said, series, verdicts};
use daruma_detect::witness;
use daruma_model::Verdict::{Clear, Holds, Unknown};
use daruma_model::{Labels, Sample, Span, Time, is_stale};
use daruma_promql::Expr;

const POOL: &str = r#"
rules:
  - alert: PoolFull
    expr: http_inflight >= pool_threads
    labels: { severity: critical, where: "{{ $labels.instance }}" }
    annotations: { summary: "{{ $value }} of the threads of {{ $labels.instance }} are busy" }
"#;

#[test]
fn a_value_back_to_normal_is_clear_and_each_change_is_told_once() {
    let mut world = World::new(POOL);
    let normal = [("http_inflight{instance=\"a\"}", 3.0), ("pool_threads{instance=\"a\"}", 16.0)];
    let full = [("http_inflight{instance=\"a\"}", 16.0), ("pool_threads{instance=\"a\"}", 16.0)];
    assert_eq!(world.run(0, 9, &normal), vec![], "a rule that never held says nothing");
    let found = world.run(10, 15, &full);
    assert_eq!(said(&found), [Holds]);
    let finding = &found[0];
    assert_eq!(
        finding.labels.to_string(),
        r#"{alertname="PoolFull", instance="a", severity="critical", where="a"}"#
    );
    assert_eq!((finding.rule.as_str(), finding.at), ("PoolFull", at(10)));
    assert_eq!(finding.annotations.get("summary"), "16 of the threads of a are busy");
    assert_eq!(
        finding.evidence.summary,
        "http_inflight is 16; the rule says http_inflight >= pool_threads"
    );
    assert_eq!(finding.evidence.value, Some(16.0));
    assert_eq!(finding.evidence.query.as_deref(), Some(r#"http_inflight{instance="a"}"#));
    let found = world.run(16, 20, &normal);
    assert_eq!(said(&found), [Clear]);
    assert_eq!(found[0].labels, finding.labels);
    assert_eq!(found[0].at, at(16), "told with the first sample that shows it");
}

#[test]
fn while_it_holds_a_new_value_is_told_every_ten_seconds_and_an_equal_one_never() {
    let mut world = World::new("rules: [ { alert: Hot, expr: temperature > 80 } ]");
    assert_eq!(said(&world.run(0, 30, &[("temperature", 90.0)])), [Holds]);
    let mut times = Vec::new();
    for second in 31..60 {
        let found = world.run(second, second, &[("temperature", 90.0 + second as f64)]);
        times.extend(found.iter().map(|finding| (second, finding.evidence.value)));
    }
    assert_eq!(times, [(31, Some(121.0)), (41, Some(131.0)), (51, Some(141.0))]);
}

#[test]
fn a_target_that_vanishes_is_unknown_never_clear() {
    for (case, ending) in [("its scrape marks it as gone", true), ("it just falls silent", false)] {
        let mut world = World::new("rules: [ { alert: Down, expr: 'up == 0' } ]");
        assert_eq!(said(&world.run(0, 9, &[("up{job=\"db\"}", 0.0)])), [Holds], "{case}");
        if ending {
            world.commit(at(10), &[("up{job=\"db\"}", f64::NAN)]);
        }
        let found = world.run(10, 900, &[("up{job=\"other\"}", 1.0)]);
        assert_eq!(
            verdicts(&found),
            [(r#"{alertname="Down", job="db"}"#.to_owned(), Unknown)],
            "{case}"
        );
        let when = if ending { at(10) } else { at(9 + 300) };
        assert_eq!(found[0].at, when, "{case}");
        let why = &found[0].evidence.summary;
        assert!(why.starts_with("evidence missing: no samples of up"), "{why}");
        // It comes back and is well: now there is evidence.
        let found = world.run(901, 905, &[("up{job=\"db\"}", 1.0)]);
        assert_eq!(said(&found), [Clear], "{case}");
    }
}

#[test]
fn a_sum_that_falls_because_a_member_vanished_is_unknown() {
    let mut world = World::new("rules: [ { alert: Errors, expr: 'sum by (job) (errors) > 10' } ]");
    let (a, b) = ("errors{job=\"x\", instance=\"a\"}", "errors{job=\"x\", instance=\"b\"}");
    assert_eq!(said(&world.run(0, 9, &[(a, 9.0), (b, 9.0)])), [Holds]);
    world.commit(at(10), &[(b, f64::NAN)]);
    let found = world.run(10, 20, &[(a, 9.0)]);
    assert_eq!(said(&found), [Unknown]);
    assert!(found[0].evidence.summary.contains("1 of 2 series of errors"), "{found:?}");
    assert_eq!(said(&world.run(21, 25, &[(a, 5.0), (b, 2.0)])), [Clear]);
}

#[test]
fn a_deploy_that_replaces_every_instance_can_still_clear() {
    let mut world = World::new("rules: [ { alert: Errors, expr: 'sum(errors) > 10' } ]");
    let old = ["errors{pod=\"a\"}", "errors{pod=\"b\"}"];
    assert_eq!(said(&world.run(0, 9, &[(old[0], 9.0), (old[1], 9.0)])), [Holds]);
    world.commit(at(10), &[(old[0], f64::NAN), (old[1], f64::NAN)]);
    let found = world.run(10, 20, &[("errors{pod=\"c\"}", 1.0), ("errors{pod=\"d\"}", 1.0)]);
    assert_eq!(said(&found), [Clear]);
}

#[test]
fn a_window_that_empties_for_lack_of_samples_is_unknown() {
    let mut world = World::new("rules: [ { alert: Errors, expr: 'rate(errors_total[10s]) > 1' } ]");
    let mut found = Vec::new();
    for second in 0..=9 {
        found.extend(world.run(second, second, &[("errors_total", second as f64 * 5.0)]));
    }
    assert_eq!(said(&found), [Holds]);
    let found = world.run(10, 60, &[]);
    assert_eq!(said(&found), [Holds, Unknown], "a last fresh value, then nothing to say");
    // The counter speaks again, and counts no errors.
    let found = world.run(61, 80, &[("errors_total", 45.0)]);
    assert_eq!(said(&found), [Clear]);
}

#[test]
fn a_slow_threshold_series_within_its_normal_spacing_is_evidence_enough() {
    let mut world = World::new(POOL);
    let (inflight, threads) = ("http_inflight{instance=\"a\"}", "pool_threads{instance=\"a\"}");
    let mut found = Vec::new();
    for second in 0..=100 {
        // The limit is written once a minute only.
        let mut samples = vec![(inflight, if second < 95 { 16.0 } else { 2.0 })];
        if second % 60 == 0 {
            samples.push((threads, 16.0));
        }
        found.extend(world.run(second, second, &samples));
    }
    assert_eq!(said(&found), [Holds, Clear]);
}

#[test]
fn absence_ends_when_the_data_is_back() {
    let mut world =
        World::new("rules: [ { alert: NoBackup, expr: 'absent(backup_age{job=\"b\"})' } ]");
    let found = world.run(0, 5, &[("other", 1.0)]);
    assert_eq!(verdicts(&found), [(r#"{alertname="NoBackup", job="b"}"#.to_owned(), Holds)]);
    assert_eq!(said(&world.run(6, 8, &[("backup_age{job=\"b\"}", 1.0)])), [Clear]);
    let found = world.run(9, 400, &[("other", 1.0)]);
    assert_eq!(said(&found), [Holds], "gone again");
}

#[test]
fn an_evaluation_that_fails_makes_everything_it_held_unknown() {
    let mut world = World::new("rules: [ { alert: Ratio, expr: 'a / on(x) b > 1' } ]");
    let good = [("a{x=\"1\"}", 4.0), ("b{x=\"1\"}", 2.0)];
    assert_eq!(said(&world.run(0, 2, &good)), [Holds]);
    // A second partner: the match is ambiguous.
    world.commit(at(3), &[("b{x=\"1\", y=\"2\"}", 2.0)]);
    let evaluated = world.evaluate(at(3));
    assert_eq!(said(&evaluated.findings), [Unknown]);
    assert!(evaluated.findings[0].evidence.summary.starts_with("evaluation failed: "));
    assert_eq!(evaluated.errors.len(), 1);
    assert_eq!(world.run(4, 6, &good), vec![], "told once");
    world.commit(at(7), &[("b{x=\"1\", y=\"2\"}", f64::NAN)]);
    assert_eq!(said(&world.run(7, 8, &good)), [Holds]);
}

#[test]
fn two_results_with_equal_labels_fail_the_rule() {
    let mut world =
        World::new("rules: [ { alert: Same, expr: 'x > 1', labels: { instance: everywhere } } ]");
    world.commit(at(0), &[("x{instance=\"a\"}", 2.0), ("x{instance=\"b\"}", 2.0)]);
    let evaluated = world.evaluate(at(0));
    assert_eq!(evaluated.findings, vec![]);
    assert!(evaluated.errors[0].message.contains("same labels"), "{:?}", evaluated.errors);
}

#[test]
fn a_label_that_changes_with_the_value_ends_one_alert_and_begins_another() {
    let mut world = World::new(
        "rules: [ { alert: Disk, expr: 'disk > 80',
          labels: { severity: '{{ if gt $value 90.0 }}critical{{ else }}warning{{ end }}' } } ]",
    );
    assert_eq!(said(&world.run(0, 1, &[("disk", 85.0)])), [Holds]);
    let found = world.run(2, 3, &[("disk", 95.0)]);
    assert_eq!(
        verdicts(&found),
        [
            (r#"{alertname="Disk", severity="warning"}"#.to_owned(), Clear),
            (r#"{alertname="Disk", severity="critical"}"#.to_owned(), Holds),
        ]
    );
}

#[test]
fn a_commit_makes_the_rules_that_read_it_due_at_once_but_not_in_a_storm() {
    let mut world = World::new("rules: [ { alert: A, expr: 'x > 1', every: 1h } ]");
    assert_eq!(world.detector.next_due(), Some(Time::MIN), "before its first look");
    world.evaluate(at(0));
    assert!(world.detector.next_due() > Some(at(1)));
    world.commit(at(1), &[("y", 5.0)]);
    assert!(world.detector.next_due() > Some(at(1)), "not its metric");
    world.commit(at(1), &[("x", 5.0)]);
    assert_eq!(world.detector.next_due(), Some(at(1)));
    assert_eq!(said(&world.evaluate(at(1)).findings), [Holds]);
    let soon = at(1) + Span::millis(3);
    world.commit(soon, &[("x", 0.0)]);
    assert_eq!(world.detector.next_due(), Some(at(1) + Span::millis(20)));
    assert_eq!(world.evaluate(soon).findings, vec![]);
    assert_eq!(said(&world.evaluate(at(1) + Span::millis(20)).findings), [Clear]);
}

const FILE: &str = r#"
groups:
  - name: shop
    interval: 10s
    rules:
      - { record: "job:errors:sum", expr: "sum by (job) (errors)", labels: { team: a } }
      - { alert: Many, expr: "job:errors:sum > 10", for: 1m }
"#;

#[test]
fn a_rule_file_keeps_its_grid_and_later_rules_see_what_earlier_ones_record() {
    let mut world = World::with_file(FILE);
    let info = &world.detector.policies()[0];
    assert_eq!((info.rule.as_str(), info.alertname.as_str()), ("shop/Many", "Many"));
    assert_eq!((info.hold_for, info.interval), (Span::minutes(1), Span::secs(10)));
    let (mut recorded, mut holds) = (Vec::new(), Vec::new());
    for second in 0..=30 {
        world.commit(at(second), &[("errors{job=\"x\", i=\"1\"}", 20.0)]);
        let evaluated = world.evaluate(at(second));
        let told = |sample: &Sample| sample.labels.get(Labels::NAME).starts_with("ALERTS");
        recorded.extend(evaluated.recorded.samples.into_iter().filter(|sample| !told(sample)));
        holds.extend(evaluated.findings.iter().map(|finding| finding.at));
    }
    let labels = series("{__name__=\"job:errors:sum\", job=\"x\", team=\"a\"}");
    assert_eq!(recorded.len(), 3);
    assert!(recorded.iter().all(|sample| sample.labels == labels && sample.value == 20.0));
    assert_eq!(recorded[1].time - recorded[0].time, Span::secs(10));
    assert_eq!(holds, [recorded[0].time], "in the same evaluation");
    // Another start meets the same grid.
    let mut again = World::with_file(FILE);
    let mut first = None;
    for second in 7..=30 {
        again.commit(at(second), &[("errors{job=\"x\", i=\"1\"}", 20.0)]);
        first = first.or(again.evaluate(at(second)).recorded.samples.first().map(|s| s.time));
    }
    let offset = |time: Time| time.0 % 10_000;
    assert_eq!(first.map(offset), Some(offset(recorded[0].time)));
}

#[test]
fn a_recorded_series_that_vanishes_gets_one_staleness_marker() {
    let mut world = World::with_file(FILE);
    let mut markers = 0;
    for second in 0..=60 {
        match second {
            0..=20 => world.commit(at(second), &[("errors{job=\"x\"}", 20.0)]),
            21 => world.commit(at(second), &[("errors{job=\"x\"}", f64::NAN)]),
            _ => {}
        }
        let recorded = world.evaluate(at(second)).recorded.samples;
        let gone = recorded.iter().filter(|sample| is_stale(sample.value));
        markers +=
            gone.filter(|sample| sample.labels.get(Labels::NAME) == "job:errors:sum").count();
    }
    assert_eq!(markers, 1);
}

#[test]
fn missed_grid_instants_are_counted_and_not_made_up_for() {
    let mut world = World::with_file(FILE);
    world.run(0, 20, &[("errors{job=\"x\"}", 1.0)]);
    assert_eq!(world.detector.missed(), 0);
    world.commit(at(100), &[("errors{job=\"x\"}", 1.0)]);
    assert_eq!(world.evaluate(at(100)).recorded.samples.len(), 1);
    assert_eq!(world.detector.missed(), 7);
}

#[test]
fn a_group_limit_fails_the_rule() {
    let mut world = World::with_file(
        "groups: [ { name: g, limit: 1, rules: [ { alert: A, expr: 'x > 0' } ] } ]",
    );
    world.commit(at(0), &[("x{i=\"a\"}", 1.0), ("x{i=\"b\"}", 1.0)]);
    let evaluated = world.evaluate(at(0));
    assert!(evaluated.findings.is_empty());
    assert!(evaluated.errors[0].message.contains("limit of 1"));
}

#[test]
fn what_held_before_a_restart_is_ended_by_evidence_only() {
    let labels = Labels::from([("alertname", "Down"), ("job", "db"), ("severity", "critical")]);
    let rules = "rules: [ { alert: Down, expr: 'up == 0', labels: { severity: critical } } ]";
    let mut world = World::new(rules);
    assert!(world.detector.restore(at(0), "Down", &labels));
    assert!(!world.detector.restore(at(0), "Nope", &labels));
    assert_eq!(world.run(0, 3, &[("up{job=\"other\"}", 1.0)]), vec![], "no word of db yet");
    let found = world.run(4, 6, &[("up{job=\"db\"}", 1.0)]);
    assert_eq!(verdicts(&found), [(labels.to_string(), Clear)]);
    let mut world = World::new(rules);
    world.detector.restore(at(0), "Down", &labels);
    let found = world.run(0, 3, &[("up{job=\"db\"}", 0.0)]);
    assert_eq!(verdicts(&found), [(labels.to_string(), Holds)]);
}

#[test]
fn a_reload_neither_forgets_nor_repeats() {
    let mut world = World::new(
        "rules: [ { alert: A, expr: 'x > 1' }, { alert: B, expr: 'x > 2' }, { alert: C, expr: 'x > 3' } ]",
    );
    assert_eq!(said(&world.run(0, 3, &[("x", 9.0)])), [Holds, Holds, Holds]);
    let mut next =
        World::new("rules: [ { alert: A, expr: 'x > 1', for: 5m }, { alert: B, expr: 'x > 20' } ]");
    next.shelf = world.shelf.clone();
    let lost = next.detector.adopt(world.detector);
    let lost: Vec<_> = lost.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(lost, ["B", "C"], "one means something else now, one is gone");
    assert_eq!(next.run(4, 6, &[("x", 9.0)]), vec![], "A goes on holding");
    assert_eq!(said(&next.run(7, 8, &[("x", 0.0)])), [Clear]);
}

#[test]
fn rules_that_read_nothing_are_named() {
    let mut world = World::new(
        "rules: [ { alert: A, expr: 'http_inflihgt > 1' }, { alert: B, expr: 'up == 0 or absent(backup)' } ]",
    );
    world.commit(at(0), &[("up", 1.0)]);
    assert_eq!(
        world.detector.warnings(at(1), &world.shelf),
        ["rule `A`: no series matches http_inflihgt"]
    );
}

#[test]
fn a_witness_speaks_on_fresh_samples_only() {
    // x was bad until 10, an action ended at 20, x was seen again at 25 and is well.
    let mut world = World::new("{}");
    for second in 0..=10 {
        world.commit(at(second), &[("x{i=\"1\"}", 9.0), ("x{i=\"2\"}", 1.0)]);
    }
    world.commit(at(22), &[("x{i=\"2\"}", 1.0)]);
    world.commit(at(25), &[("x{i=\"1\"}", 1.0), ("x{i=\"2\"}", 1.0)]);
    world.commit(at(26), &[("x{i=\"1\"}", 1.0), ("x{i=\"2\"}", 1.0)]);
    for (expr, now, after, want) in [
        ("x > 5", 10, -300, Holds),
        ("x > 5", 19, -300, Holds), // Its own look-back: right for confirming, as the sample is.
        ("x > 5", 21, 20, Unknown), // Nothing since the action.
        ("x > 5", 23, 20, Unknown), // One of two series only.
        ("x > 5", 25, 20, Clear),
        ("x < 5", 25, 20, Holds),
        ("rate(x[1m]) > 5", 25, 20, Unknown), // A rate needs two samples.
        ("rate(x[1m]) > 5", 26, 20, Clear),
        ("avg_over_time(x[1m]) > 3", 26, 20, Clear), // What came before the action is hidden.
        ("absent(x)", 21, 20, Unknown),              // That nothing came yet proves no absence.
        ("absent(x)", 25, 20, Clear),
        ("absent(gone)", 400, 20, Holds), // A whole look-back without it does.
        ("x > 5 or gone > 5", 25, 20, Clear), // A side that never spoke is not waited for.
        ("x > 5 and gone > 5", 25, 20, Unknown),
        ("gone > 5", 25, 20, Unknown),
        ("vector(1)", 25, 20, Holds),
        ("1", 25, 20, Holds),
        ("0", 25, 20, Clear),
        ("x / on() group_left x", 25, 20, Unknown), // An error is no answer.
    ] {
        let expr: Expr = expr.parse().unwrap();
        let (verdict, evidence) = witness(&expr, &world.shelf, at(now), at(after));
        assert_eq!(verdict, want, "{expr} at {now} after {after}: {evidence:?}");
        assert!(!evidence.summary.is_empty());
    }
}

#[test]
fn evidence_plots_the_left_side_for_these_labels() {
    for (expr, commit, want) in [
        (
            "sum by (job) (rate(errors_total[1m] offset 1s)) > 1",
            "errors_total",
            r#"sum by (job) (rate(errors_total{job="x"}[1m] offset 1s))"#,
        ),
        ("(disk{device=\"sda\"} / 2) > 1", "disk", r#"disk{device="sda", job="x"} / 2"#),
        ("disk > 1", "disk", r#"disk{device="sda", job="x"}"#),
        ("{__name__=\"disk\"} > 1", "disk", r#"disk{device="sda", job="x"}"#),
    ] {
        let mut world =
            World::new(&format!("rules: [ {{ alert: A, expr: '{}' }} ]", expr.replace('\'', "''")));
        let mut found = Vec::new();
        for second in 0..10 {
            let text = match commit {
                "disk" => "disk{device=\"sda\", job=\"x\"}",
                _ => "errors_total{job=\"x\"}",
            };
            found.extend(world.run(second, second, &[(text, second as f64 * 10.0)]));
        }
        assert_eq!(found[0].evidence.query.as_deref(), Some(want), "{expr}");
    }
}

mod never_without_evidence {
    use std::collections::BTreeMap;

    use daruma_model::{Labels, Point};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Sample(u8, i8),
        Gone(u8),
        Wait(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0_u8..3, 0_i8..10).prop_map(|(series, value)| Event::Sample(series, value)),
            1 => (0_u8..3).prop_map(Event::Gone),
            3 => prop_oneof![1_i64..5, 50_i64..400].prop_map(Event::Wait),
        ]
    }

    proptest! {
        /// Whatever comes, vanishes and comes back: what is told of `x > 5` is what the newest
        /// sample says, and where there is none, that nobody knows.
        #[test]
        fn every_verdict_is_what_the_newest_sample_says(
            events in prop::collection::vec(event(), 1..80),
        ) {
            let mut world = World::new("rules: [ { alert: High, expr: 'x > 5' } ]");
            let mut told = BTreeMap::<String, daruma_model::Verdict>::new();
            let mut newest = BTreeMap::<String, Point>::new();
            let mut now = 0;
            for event in events {
                let sample = |series: u8| format!("x{{i=\"{series}\"}}");
                now += 1;
                let (text, value) = match event {
                    Event::Sample(series, value) => (sample(series), f64::from(value)),
                    Event::Gone(series) => (sample(series), f64::NAN),
                    Event::Wait(seconds) => {
                        now += seconds;
                        ("other".to_owned(), 1.0)
                    }
                };
                world.commit(at(now), &[(&text, value)]);
                if text != "other" {
                    let labels = series(&text).filtered(|name| name != Labels::NAME);
                    newest.insert(labels.get("i").to_owned(), Point { time: at(now), value });
                }
                for finding in world.evaluate(at(now)).findings {
                    told.insert(finding.labels.get("i").to_owned(), finding.verdict);
                }
                for (series, verdict) in &told {
                    let point = newest[series];
                    let seen = !point.value.is_nan() && at(now).since(point.time) < Span::minutes(5);
                    match verdict {
                        Holds => prop_assert!(seen && point.value > 5.0, "{series} {point:?}"),
                        Unknown => prop_assert!(!seen, "{series} {point:?} at {now}"),
                        // Clear lasts until it holds again, whatever becomes of the series.
                        Clear => prop_assert!(!seen || point.value <= 5.0, "{series} {point:?}"),
                    }
                }
                for (series, point) in &newest {
                    if point.value > 5.0 && at(now).since(point.time) < Span::minutes(5) {
                        prop_assert_eq!(told.get(series), Some(&Holds));
                    }
                }
            }
        }
    }
}
