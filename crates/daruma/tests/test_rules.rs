//! `daruma test` on the built program: Prometheus' own material passes and fails as it is told to, and
//! whoever broke a rule sees where and how.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

use std::path::{Path, PathBuf};
use std::process::Command;

fn conformance(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Exit code, standard output, standard error.
fn daruma(arguments: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_daruma")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[test]
fn promtools_files_pass_and_fail_as_their_readme_tells() {
    let Some(folder) = conformance("prometheus/promtool") else { return };
    for (file, want) in [
        ("unittest.yml", 0),
        ("long-period.yml", 0),
        ("no-test-group-interval.yml", 0),
        ("at-modifier-test.yml", 0),
        ("bad-promql.yml", 1),
        ("bad-rules-error-test.yml", 1),
        ("failing.yml", 1),
        ("rules_run_no_fuzzy.yml", 1),
        ("rules_run.yml", 1),
        ("rules_run_extrafields.yml", 1),
    ] {
        let path = folder.join(file).display().to_string();
        let (code, out, err) = daruma(&["test", "rules", &path]);
        assert_eq!(code, want, "{file}\n{out}{err}");
    }
    let path = |file: &str| folder.join(file).display().to_string();
    let (code, out, _) = daruma(&["test", "rules", &path("rules_run.yml")]);
    assert!(code == 1 && out.contains("1 failed, 1 passed"), "{out}");
    let (code, out, _) = daruma(&["test", "rules", "--run", "^correct", &path("rules_run.yml")]);
    assert!(code == 0 && out.contains("1 passed"), "{out}");
    let lenient = ["test", "rules", "--ignore-unknown-fields", &path("rules_run_extrafields.yml")];
    assert_eq!(daruma(&lenient).0, 0);
}

#[test]
fn the_kubernetes_mixins_tests_pass() {
    let Some(folder) = conformance("kubernetes-mixin/tests") else { return };
    let files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    assert!(files.len() >= 6);
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(String::as_str));
    let (code, out, err) = daruma(&arguments);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn prometheus_query_scripts_pass() {
    let Some(folder) = conformance("prometheus/promqltest") else { return };
    let scripts = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // The others are the query language's own tests; here the command is tested.
    let script = scripts.filter(|path| path.extension().is_some_and(|ext| ext == "test")).min();
    let path = script.unwrap().display().to_string();
    let (code, out, err) = daruma(&["test", "promql", &path]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("passed"), "{out}");
}

const RULES: &str = "groups:
- name: first
  rules:
  - { record: late, expr: early * 2 }
  - { alert: Hot, expr: temperature > 80, for: 2m, labels: { team: a }, annotations: { summary: 'at {{ $value }}' } }
- name: second
  rules:
  - { record: early, expr: x }
";

const TESTS: &str = "rule_files: [ rules.yml ]
group_eval_order: [ second, first ]
tests:
- name: all is well
  input_series:
  - { series: 'temperature{room=\"a\"}', values: '90x5' }
  - { series: 'x', values: '1+1x5' }
  alert_rule_test:
  - { eval_time: 1m, alertname: Hot }
  - eval_time: 2m
    alertname: Hot
    exp_alerts: [ { exp_labels: { room: a, team: a }, exp_annotations: { summary: at 90 } } ]
  promql_expr_test:
  - { expr: early, eval_time: 3m, exp_samples: [ { labels: early, value: 4 } ] }
  - expr: ALERTS_FOR_STATE
    eval_time: 5m
    exp_samples: [ { labels: 'ALERTS_FOR_STATE{alertname=\"Hot\", room=\"a\", team=\"a\"}', value: 1767225600 } ]
  start_timestamp: 2026-01-01T00:00:00Z
- name: something else was meant
  input_series:
  - { series: 'temperature{room=\"a\"}', values: 90 90 90 90 }
  - { series: 'temperature{room=\"b\"}', values: 81x3 }
  alert_rule_test:
  - eval_time: 2m
    alertname: Hot
    exp_alerts: [ { exp_labels: { room: a, team: a }, exp_annotations: { summary: at 91 } } ]
  promql_expr_test:
  - { expr: 'temperature > 85', eval_time: 2m, exp_samples: [] }
";

#[test]
fn a_failing_test_shows_what_was_expected_and_what_there_was_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tests.yml");
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(&file, TESTS).unwrap();
    let path = file.display().to_string();
    let (code, out, err) = daruma(&["test", "rules", &path]);
    assert_eq!(code, 1, "{out}{err}");
    for want in [
        &format!("✗ {path}:19: something else was meant"),
        &format!("  {path}:24: Hot at 2m"),
        r#"    - {alertname="Hot", room="a", team="a"} {summary="at 91"}    (expected)"#,
        r#"    + {alertname="Hot", room="a", team="a"} {summary="at 90"}    (got)"#,
        r#"    + {alertname="Hot", room="b", team="a"} {summary="at 81"}    (got)"#,
        &format!("  {path}:28: temperature > 85 at 2m"),
        r#"    + temperature{room="a"} 90    (got)"#,
        "    nothing was expected",
        &format!("✗ {path}: 1 failed, 1 passed"),
    ] {
        assert!(out.lines().any(|line| line == want), "{want}\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "no colour into a pipe");
    let (code, out, _) = daruma(&["test", "rules", "--json", &path]);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, 1);
    assert_eq!((&lines[0]["passed"], &lines[1]["passed"]), (&true.into(), &false.into()));
    assert_eq!(lines[1]["failures"][0]["what"], "Hot");
    assert_eq!(lines[1]["failures"][0]["got"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart_from_a_test_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tests.yml");
    let path = file.display().to_string();
    let (code, out, _) = daruma(&["test", "rules", &path]);
    assert!(code == 2 && out.contains("cannot be read"), "{out}");
    std::fs::write(&file, "tests:\n- interval: 1m\n  input_serie: []\n").unwrap();
    let (code, out, _) = daruma(&["test", "rules", &path]);
    assert_eq!(code, 2);
    assert!(
        out.contains("tests.yml:3:3: unknown field `input_serie`; did you mean `input_series`?"),
        "{out}"
    );
    std::fs::write(&file, "rule_files: [ rules.yml ]\ntests: []\n").unwrap();
    std::fs::write(
        dir.path().join("rules.yml"),
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: sum(rat(x[5m]))\n",
    )
    .unwrap();
    let (code, out, _) = daruma(&["test", "rules", &path]);
    assert_eq!(code, 1, "a rule that does not load fails its tests");
    assert!(out.contains("rules.yml:5:11: PromQL, 1:5: unknown function `rat`"), "{out}");
    std::fs::write(&file, "load 5m\n  x 1\n\neval instant at 0 x\n  x 2\n").unwrap();
    let (code, out, _) = daruma(&["test", "promql", &path]);
    assert_eq!(code, 1);
    assert!(out.contains("tests.yml:4: x") && out.contains("1 failed, 0 passed"), "{out}");
    std::fs::write(&file, "evaluate x\n").unwrap();
    assert_eq!(daruma(&["test", "promql", &path]).0, 2);
}
