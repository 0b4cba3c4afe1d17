//! Rules over log records, as incidents.

mod common;

use common::{World, at, record, said, verdicts};
use daruma_model::SourceState::{Failing, Ok as Healthy};
use daruma_model::Verdict::{Clear, Holds, Unknown};
use daruma_model::{Labels, Span, Time};
use proptest::prelude::*;

const ERRORS: &str = r#"
rules:
  - alert: ShopErrors
    log: { match: "ERROR|panic", more_than: 2, within: 30s, select: [ 'service="shop"' ] }
    labels: { severity: critical }
    annotations: { summary: "{{ $value }} errors of {{ $labels.service }}" }
"#;

#[test]
fn more_than_n_matches_hold_at_once_and_a_quiet_window_clears() {
    let mut world = World::new(ERRORS);
    let log = "/srv/a.log";
    assert_eq!(world.logs(at(0), &[(log, "all is well"), (log, "ERROR one")]), vec![]);
    assert_eq!(world.logs(at(10), &[("/srv/b.log", "panic: two")]), vec![], "two are allowed");
    let found = world.logs(at(20), &[(log, "ERROR three"), (log, "no news")]);
    let labels = r#"{alertname="ShopErrors", service="shop", severity="critical"}"#;
    assert_eq!(verdicts(&found), [(labels.to_owned(), Holds)]);
    assert_eq!(
        found[0].evidence.summary,
        "3 records match /ERROR|panic/ within 30s; the rule says more than 2"
    );
    assert_eq!(found[0].evidence.lines, ["ERROR one", "panic: two", "ERROR three"]);
    assert_eq!(found[0].annotations.get("summary"), "3 errors of shop");
    // Fewer, but not none: it goes on.
    assert_eq!(world.logs(at(45), &[(log, "ERROR four")]), vec![]);
    assert_eq!(world.evaluate(at(60)).findings, vec![]);
    assert_eq!(world.detector.next_due(), Some(at(75)));
    let found = world.evaluate(at(75)).findings;
    assert_eq!(verdicts(&found), [(labels.to_owned(), Clear)]);
    assert_eq!(world.detector.next_due(), None, "nothing left to wait for");
}

#[test]
fn three_in_three_windows_are_not_three_in_one() {
    let mut world = World::new(ERRORS);
    for second in [0, 16, 31, 47, 62] {
        assert_eq!(world.logs(at(second), &[("/a", "ERROR")]), vec![], "{second}");
    }
}

#[test]
fn another_source_is_not_counted_unless_selected() {
    let mut world = World::new(ERRORS);
    let mut records: Vec<_> = (0..5).map(|_| record(at(0), "/a", "ERROR")).collect();
    for record in &mut records {
        record.labels = [("path", "/a"), ("service", "blog")].into();
    }
    assert_eq!(world.detector.on_logs(at(0), &records), vec![]);
}

#[test]
fn a_log_that_cannot_be_read_is_unknown_and_quiet_counts_from_its_return() {
    let mut world = World::new(ERRORS);
    let errors = [("/a", "ERROR"), ("/a", "ERROR"), ("/a", "ERROR")];
    assert_eq!(said(&world.logs(at(0), &errors)), [Holds]);
    world.source(at(5), "/a", Failing);
    let found = world.evaluate(at(5)).findings;
    assert_eq!(said(&found), [Unknown]);
    assert_eq!(found[0].evidence.summary, "evidence missing: log//a cannot be read");
    for second in 6..100 {
        assert_eq!(world.evaluate(at(second)).findings, vec![], "silence acquits nobody");
    }
    assert!(world.detector.next_due().is_none_or(|due| due > at(100)), "no busy waiting");
    world.source(at(100), "/a", Healthy);
    let mut found = Vec::new();
    for second in 100..140 {
        found.extend(world.evaluate(at(second)).findings);
    }
    assert_eq!(said(&found), [Clear]);
    assert_eq!(found[0].at, at(130), "after a whole window that was seen");
}

#[test]
fn a_source_that_reads_many_files_is_known_by_the_name_it_gives_itself() {
    let mut world = World::new(ERRORS);
    let errors = [record(at(0), "/srv/a.log", "ERROR"), record(at(0), "/srv/b.log", "ERROR")];
    world.detector.on_logs_from(at(0), "log//srv/*.log", &errors);
    let found = world.detector.on_logs_from(at(1), "log//srv/*.log", &errors[..1]);
    assert_eq!(said(&found), [Holds]);
    world.source(at(2), "/srv/*.log", Failing);
    assert_eq!(said(&world.evaluate(at(2)).findings), [Unknown]);
}

#[test]
fn a_failing_source_of_another_log_changes_nothing() {
    let mut world = World::new(ERRORS);
    let errors = [("/a", "ERROR"), ("/a", "ERROR"), ("/a", "ERROR")];
    world.logs(at(0), &errors);
    world.source(at(5), "/b", Failing);
    assert_eq!(said(&world.evaluate(at(30)).findings), [Clear]);
}

#[test]
fn matches_are_counted_apart_by_the_chosen_labels() {
    let mut world = World::new(
        r#"rules: [ { alert: E, log: { match: ERROR, within: 10s, by: [ path ] } },
                    { alert: All, log: { match: ERROR, within: 10s, by: [] } } ]"#,
    );
    let found = world.logs(at(0), &[("/a", "ERROR"), ("/b", "ERROR"), ("/a", "ERROR")]);
    let labels: Vec<_> = found.iter().map(|finding| finding.labels.to_string()).collect();
    assert_eq!(
        labels,
        [r#"{alertname="E", path="/a"}"#, r#"{alertname="E", path="/b"}"#, r#"{alertname="All"}"#,]
    );
}

#[test]
fn a_kind_of_error_not_seen_before_is_told_once_learned_ones_are_not() {
    let mut world = World::new(
        "rules: [ { alert: NewError, log: { new_kind: true, learn_for: 10m, hold: 1m } } ]",
    );
    world.evaluate(at(0));
    assert_eq!(world.logs(at(10), &[("/a", "ERROR db 10.0.0.1:5432 refused")]), vec![]);
    let later = 700;
    for (second, line, want) in [
        (later, "ERROR db 10.9.9.9:5432 refused", vec![]), // The same kind, other numbers.
        (later + 1, "INFO something quite new", vec![]),   // Not an error.
        (later + 2, "ERROR disk /dev/sda1 full at 99%", vec![Holds]),
        (later + 3, "ERROR disk /dev/sdb1 full at 98%", vec![]),
    ] {
        assert_eq!(said(&world.logs(at(second), &[("/a", line)])), want, "{line}");
    }
    assert_eq!(world.evaluate(at(later + 61)).findings, vec![]);
    let found = world.evaluate(at(later + 62)).findings;
    assert_eq!(said(&found), [Clear]);
    assert_eq!(world.logs(at(later + 63), &[("/a", "ERROR disk /dev/sdc1 full at 97%")]), vec![]);
}

#[test]
fn learning_begins_with_the_program_not_with_the_first_error() {
    let mut world =
        World::new("rules: [ { alert: New, log: { new_kind: true, learn_for: 10m } } ]");
    world.evaluate(at(0));
    let found = world.logs(at(3600), &[("/a", "ERROR out of memory")]);
    assert_eq!(said(&found), [Holds]);
    assert_eq!(found[0].evidence.summary, "a kind of record not seen before: ERROR out of memory");
}

#[test]
fn a_log_that_used_to_speak_and_falls_silent_is_told() {
    let mut world = World::new(
        "rules: [ { alert: Silent, log: { silent_for: 1m, spoke_within: 1h, by: [ path ] } } ]",
    );
    let mut found = Vec::new();
    for second in 0..=400 {
        if second % 10 == 0 && second <= 100 {
            found.extend(world.logs(at(second), &[("/a", "tick")]));
        }
        if second % 10 == 0 {
            found.extend(world.logs(at(second), &[("/b", "tick")]));
        }
        found.extend(world.evaluate(at(second)).findings);
    }
    let labels = r#"{alertname="Silent", path="/a"}"#.to_owned();
    assert_eq!(verdicts(&found), [(labels.clone(), Holds)]);
    assert_eq!(found[0].at, at(160));
    assert_eq!(
        found[0].evidence.summary,
        "nothing was written for 1m, by a log that used to speak"
    );
    assert_eq!(verdicts(&world.logs(at(401), &[("/a", "tick")])), [(labels, Clear)]);
}

#[test]
fn a_silent_log_that_cannot_be_read_is_no_finding() {
    let mut world = World::new("rules: [ { alert: Silent, log: { silent_for: 1m } } ]");
    world.logs(at(0), &[("/a", "tick")]);
    world.source(at(30), "/a", Failing);
    for second in 30..300 {
        assert_eq!(world.evaluate(at(second)).findings, vec![]);
    }
    world.source(at(300), "/a", Healthy);
    let mut found = Vec::new();
    for second in 300..400 {
        found.extend(world.evaluate(at(second)).findings);
    }
    assert_eq!(said(&found), [Holds]);
    assert_eq!(found[0].at, at(360), "silent for a minute while it could be read");
}

#[test]
fn what_held_before_a_restart_clears_after_a_quiet_window() {
    let labels =
        Labels::from([("alertname", "ShopErrors"), ("service", "shop"), ("severity", "critical")]);
    let mut world = World::new(ERRORS);
    assert!(world.detector.restore(at(0), "ShopErrors", &labels));
    assert_eq!(world.evaluate(at(29)).findings, vec![]);
    assert_eq!(verdicts(&world.evaluate(at(30)).findings), [(labels.to_string(), Clear)]);
    let mut world = World::new(ERRORS);
    world.detector.restore(at(0), "ShopErrors", &labels);
    let errors = [("/a", "ERROR"), ("/a", "ERROR"), ("/a", "ERROR")];
    assert_eq!(verdicts(&world.logs(at(1), &errors)), [(labels.to_string(), Holds)]);
}

#[test]
fn a_flood_is_bounded_in_lines_counts_and_label_sets() {
    let mut world =
        World::new(r#"rules: [ { alert: E, log: { match: ERROR, within: 1h, by: [ path ] } } ]"#);
    let long = "ERROR ".to_owned() + &"é".repeat(5000);
    let mut told = 0;
    for i in 0..12_000 {
        told += world.logs(at(0), &[(&format!("/{i}"), &long)]).len();
    }
    assert_eq!(told, 10_000);
    assert_eq!(world.detector.refused(), 2_000);
    let many: Vec<(&str, &str)> = vec![("/0", long.as_str()); 50];
    for second in 0..100 {
        for finding in world.logs(at(100 + second), &many) {
            assert!(finding.evidence.lines.len() <= 10);
            assert!(finding.evidence.lines.iter().all(|line| line.chars().count() <= 500));
            assert!(finding.evidence.value <= Some(1000.0));
        }
    }
}

proptest! {
    /// A rule holds exactly while the naive count over the window has been exceeded and no quiet
    /// window has passed since.
    #[test]
    fn the_window_equals_a_naive_count(
        gaps in prop::collection::vec(1_i64..20, 1..60),
        more_than in 0_usize..4,
        within in 5_i64..40,
    ) {
        let yaml = format!(
            "rules: [ {{ alert: E, log: {{ match: ERROR, more_than: {more_than}, within: {within}s }} }} ]"
        );
        let mut world = World::new(&yaml);
        let mut times = Vec::new();
        let mut next = 0;
        for gap in gaps {
            next += gap;
            times.push(next);
        }
        let (mut holds, mut expected) = (false, false);
        for second in 0..=next + 60 {
            let mut found = Vec::new();
            if times.contains(&second) {
                found.extend(world.logs(at(second), &[("/a", "ERROR")]));
            }
            found.extend(world.evaluate(at(second)).findings);
            for finding in found {
                match finding.verdict {
                    Holds => holds = true,
                    Clear => holds = false,
                    Unknown => prop_assert!(false, "its source is well"),
                }
            }
            let count =
                times.iter().filter(|&&time| time > second - within && time <= second).count();
            expected = count > more_than || (expected && count > 0);
            prop_assert_eq!(holds, expected, "at {}", second);
        }
    }

    #[test]
    fn no_record_makes_a_rule_panic(body in "\\PC{0,200}", second in any::<i64>()) {
        let mut world = World::new(
            r#"rules: [ { alert: A, log: { match: '(?i)\d+|.*x' } }, { alert: B, log: { new_kind: true, learn_for: 0, severity: trace } },
                        { alert: C, log: { silent_for: 1s } } ]"#,
        );
        let mut hostile = record(Time(second), "/a", &body);
        world.detector.on_logs(at(0), std::slice::from_ref(&hostile));
        hostile.severity = Some(daruma_model::Severity::Critical);
        world.detector.on_logs(Time(second), &[hostile]);
        world.evaluate(at(5) + Span(second));
    }
}
