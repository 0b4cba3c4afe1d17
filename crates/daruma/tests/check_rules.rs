//! `daruma check` on the built program: rules that load and still will not do what they are for.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use support::{Daruma, until};

const CONFIG: &str = "collect: {}
detect:
  rule_files: [ '*.rules' ]
  rules:
  - { alert: Own, expr: no_such_metric_at_all > 1 }
";

const FIRST: &str = "groups:
- name: shop
  interval: 15s
  rules:
  - { alert: Slow, expr: 'daruma_store_series > 1e9', labels: { severity: page } }
  - { alert: Slow, expr: 'daruma_store_series > 2e9', labels: { severity: page } }
  - { record: kept, expr: daruma_store_series }
  - { alert: Fine, expr: 'kept > 1e9 unless nothing_of_the_sort' }
  - { alert: Gone, expr: absent(nothing_of_the_sort) }
  - { alert: Misspelt, expr: 'sum(rate(daruma_stroe_series[5m])) > 1' }
  - { alert: Greedy, expr: 'max_over_time(daruma_store_series[3650d]) > 1e9' }
";

const SECOND: &str = "groups:
- name: shop
  rules:
  - { record: kept, expr: daruma_store_series }
";

/// Warnings as place and beginning of the text.
fn warnings(out: &str) -> Vec<String> {
    out.lines().filter(|line| line.starts_with("warning ")).map(str::to_owned).collect()
}

#[test]
fn rules_that_collide_read_nothing_or_read_too_much_are_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daruma.yaml");
    std::fs::write(&file, CONFIG).unwrap();
    std::fs::write(dir.path().join("a.rules"), FIRST).unwrap();
    std::fs::write(dir.path().join("b.rules"), SECOND).unwrap();
    let daruma = Daruma::start("{}", &dir.path().join("data"));
    until("its own figures are stored", || {
        let (_, answer) = daruma.get("/api/v1/query?query=daruma_store_series");
        answer.contains("daruma_store_series").then_some(())
    });
    let (code, out, err) = daruma.cli(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{out}{err}");
    let found = warnings(&out);
    let at = |name: &str| dir.path().join(name).display().to_string();
    for (place, said) in [
        (format!("{}:6:", at("a.rules")), format!("an alert `Slow` with the same labels is at {}:5", at("a.rules"))),
        (format!("{}:10:", at("a.rules")), "`Misspelt` can never be true here: no series matches daruma_stroe_series".to_owned()),
        (format!("{}:11:", at("a.rules")), "`Greedy` reads some 21.0 million samples every 15s: 1 series of daruma_store_series over 3650d".to_owned()),
        (format!("{}:2:", at("b.rules")), format!("a group `shop` is at {}:2", at("a.rules"))),
        (format!("{}:4:", at("b.rules")), format!("`kept` is at {}:7 already, word for word", at("a.rules"))),
        (format!("{}:5:", at("daruma.yaml")), "`Own` can never be true here".to_owned()),
    ] {
        let want = format!("warning {place} {said}");
        assert!(found.iter().any(|line| line.starts_with(&want)), "{want}\n{out}{err}");
    }
    assert_eq!(found.len(), 6, "{out}{err}");
    let (_, out, _) = daruma.cli(&["--json", "check", "--config", file.to_str().unwrap()]);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((first["level"].as_str(), first["line"].as_u64()), (Some("warning"), Some(6)));
}

#[test]
fn without_a_running_program_what_can_be_seen_is_told_and_the_rest_is_said_to_be_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daruma.yaml");
    std::fs::write(&file, "detect: { rule_files: [ a.rules ] }").unwrap();
    std::fs::write(dir.path().join("a.rules"), FIRST).unwrap();
    let out = std::process::Command::new(support::program())
        .args(["--server", "127.0.0.1:1", "check", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    let (said, err) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(warnings(&said).len(), 1, "{said}");
    assert!(err.contains("what series there are is not known: no daruma answers"), "{err}");
}

#[test]
fn rule_files_are_refused_with_their_place_as_prometheus_refuses_them() {
    let dir = tempfile::tempdir().unwrap();
    let check = |rules: &str| {
        let path = dir.path().join("rules.yml");
        std::fs::write(&path, rules).unwrap();
        let file = dir.path().join("prometheus.yml");
        let scheme = "global: { metric_name_validation_scheme: legacy }";
        std::fs::write(&file, format!("{scheme}\nrule_files: [ rules.yml ]\n")).unwrap();
        let out = std::process::Command::new(support::program())
            .args(["--server", "127.0.0.1:1", "check", "--prometheus-config"])
            .arg(&file)
            .output()
            .unwrap();
        let both = [out.stdout, out.stderr].concat();
        let text = String::from_utf8(both).unwrap().replace(path.to_str().unwrap(), "rules.yml");
        (out.status.code(), text)
    };
    for (rules, want) in [
        (
            "groups:\n- name: a\n- name: a\n",
            "rules.yml:3:3: group name `a` is repeated in this file",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - record: r\n",
            "rules.yml:4:5: rule `r` has no query; say `expr: QUERY`",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - expr: 1\n",
            "rules.yml:4:5: this rule has no name; say `record: METRIC` or `alert: NAME`",
        ),
        (
            "groups:\n- name: a\n  rules:\n  - { alert: A, expr: 1, annotations: { in-x: y } }\n",
            "rules.yml: rule `A`: `in-x` is not a valid legacy name",
        ),
    ] {
        let (code, out) = check(rules);
        assert!(code == Some(1) && out.contains(want), "{want}\n{out}");
    }
    let several = "groups:\n- name: a\n---\ngroups: nonsense\n";
    let (_, out) = check(several);
    assert!(
        out.contains("rules.yml:3: of several YAML documents in a rule file only the first counts"),
        "{out}"
    );
    assert!(out.contains("✓ good"), "{out}");
}

#[test]
fn a_rule_path_with_a_wildcard_above_its_last_part_is_refused() {
    let Some(folder) = ["prometheus/config"]
        .iter()
        .map(|name| {
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../../shared/conformance")
                .join(name)
        })
        .find(|path| path.exists())
    else {
        eprintln!("SKIPPED: the conformance material is not there");
        return;
    };
    for (file, want) in [
        ("rules.bad.yml", 1),
        ("rules_abs_path.good.yml", 0),
        ("rules_abs_path_windows.good.yml", 0),
    ] {
        let path = folder.join(file);
        let out = std::process::Command::new(support::program())
            .args(["--server", "127.0.0.1:1", "check", "--prometheus-config"])
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(i32::from(text.contains("error ")), want, "{file}\n{text}");
        assert!(
            want == 0 || text.contains(&format!("{}:3:5: `my/*/rule`", path.display())),
            "{text}"
        );
    }
}
