//! Rule files as people have them: what Prometheus loads loads, what it refuses is refused.

#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

use std::path::{Path, PathBuf};

use daruma_detect::{
    Condition, DetectConfig, Detector, LogKind, NameScheme, RuleFile, RuleGroups, Ruleset,
};
use daruma_model::Span;

fn conformance(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "yml" || ext == "yaml") {
            found.push(path);
        }
    }
    found.sort();
}

/// The groups of a file; those of a Kubernetes `PrometheusRule` lie under `spec`.
fn load(path: &Path) -> Result<RuleGroups, String> {
    let mut text = std::fs::read_to_string(path).unwrap();
    if let Some((_, spec)) = text.split_once("\nspec:\n") {
        let lines = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line));
        text = lines.collect::<Vec<_>>().join("\n");
    }
    serde_saphyr::from_str(&text).map_err(|error| error.to_string())
}

#[test]
fn rules_that_people_deploy_load_into_one_detector() {
    let mut loaded = Vec::new();
    for name in [
        "awesome-prometheus-alerts",
        "kube-prometheus",
        "kubernetes-mixin/prometheus_alerts.yaml",
        "kubernetes-mixin/prometheus_rules.yaml",
        "compliance/alert_generator",
    ] {
        let Some(path) = conformance(name) else { return };
        let mut paths = Vec::new();
        if path.is_dir() {
            files(&path, &mut paths)
        } else {
            paths.push(path)
        }
        for path in paths.iter().filter(|path| !path.ends_with("alertmanager-secret.yaml")) {
            let groups = load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            loaded.push(RuleFile { path: path.display().to_string(), groups });
        }
    }
    let count = |records: bool| -> usize {
        let groups = loaded.iter().flat_map(|file| &file.groups.groups);
        groups.flat_map(|group| &group.rules).filter(|rule| rule.records == records).count()
    };
    assert!(count(false) >= 614 && count(true) >= 50, "{} {}", count(false), count(true));
    let ruleset = Ruleset { files: loaded.clone(), ..Ruleset::default() };
    let detector = Detector::new(&ruleset).unwrap();
    assert_eq!(detector.policies().len(), count(false));
    let mut names: Vec<_> = detector.policies().iter().map(|info| &info.rule).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count(false), "every rule has a name of its own");
}

#[test]
fn what_prometheus_refuses_is_refused() {
    let Some(rulefmt) = conformance("prometheus/rulefmt") else { return };
    let mut paths = Vec::new();
    files(&rulefmt, &mut paths);
    for path in &paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let scheme =
            if name.starts_with("legacy_") { NameScheme::Legacy } else { NameScheme::Utf8 };
        let got = load(path).and_then(|groups| match groups.misnamed(scheme).as_slice() {
            [] => Ok(()),
            bad => Err(bad.join("; ")),
        });
        assert_eq!(got.is_err(), name.contains(".bad."), "{name}: {got:?}");
    }
    assert!(paths.len() >= 12);
}

#[test]
fn prometheus_own_fixtures_load_but_for_those_made_to_fail() {
    for (folder, bad) in [
        ("prometheus/rules-fixtures", &["invalid_rules.yaml"][..]),
        ("prometheus/promtool", &["rules-bad.yml", "rules_extrafields.yml", "bad-promql.yml"][..]),
    ] {
        let Some(folder) = conformance(folder) else { return };
        let mut paths = Vec::new();
        files(&folder, &mut paths);
        let mut tried = 0;
        for path in paths {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // Unit tests and configurations lie beside the rule files.
            let text = std::fs::read_to_string(&path).unwrap();
            if !text.contains("\ngroups:") && !text.starts_with("groups:") {
                continue;
            }
            tried += 1;
            let got = load(&path);
            assert_eq!(got.is_err(), bad.contains(&name.as_str()), "{name}: {got:?}");
        }
        assert!(tried > 3);
    }
}

#[test]
fn an_error_in_a_rule_names_line_and_column() {
    for (yaml, want) in [
        ("groups:\n- name: a\n  rules:\n  - alert: X\n    expr: sum(rat(x[5m]))\n", "line 5"),
        ("groups:\n- name: a\n  rules:\n  - alert: X\n    exp: up\n", "exp"),
        (
            "groups:\n- name: a\n  rules:\n  - alert: X\n    expr: up\n    labels:\n      a: '{{ x'\n",
            "line 7",
        ),
    ] {
        let error = serde_saphyr::from_str::<RuleGroups>(yaml).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn our_own_rules_read_as_documented_and_say_what_is_wrong() {
    let detect: DetectConfig = serde_saphyr::from_str(
        r#"
rules:
  - { alert: ShopErrors, log: { match: "ERROR|panic", more_than: 5, within: 30s, by: [service] } }
  - alert: Odd
    log: { new_kind: true, severity: warning, learn_for: 1m, select: [ 'service="shop"' ] }
  - { alert: Quiet, log: { silent_for: 5m } }
  - { alert: Down, expr: probe_success == 0, for: 2s, every: 500ms, labels: { severity: critical } }
"#,
    )
    .unwrap();
    assert_eq!(detect.interval, Span::secs(1));
    let kinds: Vec<_> = detect.rules.iter().map(|rule| &rule.condition).collect();
    assert!(matches!(kinds[0], Condition::Log(log)
        if matches!(log.kind, LogKind::Matches { more_than: 5, within: Span(30_000), .. })));
    assert!(matches!(kinds[1], Condition::Log(log)
        if matches!(log.kind, LogKind::NewKind { learn_for: Span(60_000), .. })));
    assert!(matches!(kinds[3], Condition::Expr(_)));
    for (rule, want) in [
        ("{ alert: A }", "needs either `expr` or `log`"),
        ("{ alert: A, expr: up, log: { match: x } }", "both"),
        ("{ alert: A, log: { match: '(' } }", "cannot be used"),
        ("{ alert: A, log: { } }", "needs `match`"),
        ("{ alert: A, log: { match: x, learn_for: 1m } }", "`learn_for` does not belong"),
        ("{ alert: A, log: { match: x, within: 0 } }", "`within` must be above zero"),
        ("{ alert: A, log: { match: x, more_than: 1000000 } }", "at most"),
        ("{ alert: A, log: { new_kind: true, silent_for: 1m } }", "not both"),
        ("{ alert: A, log: { silent_for: 1h, spoke_within: 1m } }", "longer"),
        ("{ alert: A, expr: 'up[5m]' }", "range vector"),
        ("{ alert: A, expr: up, labels: { __name__: x } }", "cannot be a label"),
        ("{ alert: A, expr: up, fro: 1m }", "fro"),
        ("{ alert: A, expr: up, every: 0 }", "`every` must be above zero"),
    ] {
        let yaml = format!("rules: [ {rule} ]");
        let error = serde_saphyr::from_str::<DetectConfig>(&yaml).unwrap_err().to_string();
        assert!(error.contains(want), "{rule}: {error}");
    }
}
