//! An alertmanager.yml given to the built program: read, judged, asked, and reloaded whole or not at all.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Daruma, request, until};

const FILE: &str = "global: { slack_api_url: 'http://127.0.0.1:1/hunter2' }
route:
  receiver: default
  group_by: [ service ]
  routes:
  - { match_re: { test: '^[12]$' }, receiver: test1, continue: true }
  - { match: { test: 2 }, receiver: test2, mute_time_intervals: [ always ] }
receivers:
- { name: default, slack_configs: [ { channel: '#x' } ] }
- { name: test1, webhook_configs: [ { url: 'http://127.0.0.1:1/' } ] }
- { name: test2, pushover_configs: [ { user_key: hunter2, token: hunter2 } ] }
time_intervals:
- { name: always, time_intervals: [ { months: [ '1:12' ] } ] }
";

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(support::program()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn who_is_told_is_said_with_path_group_and_silence() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "alertmanager.yml", FILE);
    let test = |more: &[&str]| {
        let mut all = vec!["route", "test", "--alertmanager-config", &file];
        all.extend(more);
        run(&all)
    };
    let (code, out, err) = test(&["test=2", "service=web"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(
        out,
        "test1,test2\n  default → {test=~\"^[12]$\"} test1\n    group {}/{test=~\"^[12]$\"}:{service=\"web\"}\n    \
         waits 30s, looks every 5m, repeats after 4h\n  default → {test=\"2\"} test2\n    group {}/{test=\"2\"}:{service=\"web\"}\n    \
         waits 30s, looks every 5m, repeats after 4h\n    silent now: within always\n"
    );
    for (labels, want, code) in [
        ("test=2", "test2,test1", 0),
        ("test=2", "test1", 1),
        ("test=3", "default", 0),
        ("test!=3", "default", 2),
    ] {
        let (got, out, err) = test(&[labels, "--verify.receivers", want]);
        assert_eq!(got, Some(code), "{labels} {want}: {out}{err}");
    }
    let (_, out, _) = test(&["test=1", "--tree"]);
    assert!(
        out.ends_with(
            "default by service\n├─ {test=~\"^[12]$\"} test1 by service, continue ✓\n\
             └─ {test=\"2\"} test2 by service, silent within always\n"
        ),
        "{out}"
    );
    let (_, out, _) = test(&["test=2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["receivers"], serde_json::json!(["test1", "test2"]));
    assert_eq!(json["routes"][1]["silent"], "within always");
}

#[test]
fn a_bad_file_is_refused_with_its_place_and_a_reload_of_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "alertmanager.yml", FILE);
    let (code, out, _) = run(&["check", "--alertmanager-config", &file]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains(&format!("{file}:11:38: test2/pushover[0]: nobody is told by it")),
        "{out}"
    );
    assert!(!out.contains("hunter2"), "{out}");
    let broken = FILE.replace("receiver: test1", "receiver: test11");
    let bad = written(dir.path(), "bad.yml", &broken);
    let (code, out, _) = run(&["check", "--alertmanager-config", &bad]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains(&format!("{bad}:6:37: no receiver is named `test11`; did you mean `test1`?")),
        "{out}"
    );

    let config = "collect: {}\nnotify: { alertmanager_config: alertmanager.yml }\n";
    let own = written(dir.path(), "daruma.yaml", config);
    let daruma = Daruma::with(&["--config", &own], &dir.path().join("data")).unwrap();
    written(dir.path(), "alertmanager.yml", &broken);
    let reload = || request(daruma.address, "POST", "/-/reload", &[], "").unwrap();
    let (status, said) = reload();
    assert!(status != 200 && said.contains("test11"), "{status} {said}");
    written(dir.path(), "alertmanager.yml", FILE);
    until("the good file is taken", || (reload().0 == 200).then_some(()));
    let shown: serde_json::Value = serde_json::from_str(&daruma.get("/api/v2/status").1).unwrap();
    let shown = shown["config"]["original"].as_str().unwrap();
    assert!(shown.contains("slack_api_url: <secret>") && !shown.contains("hunter2"), "{shown}");
    let log = daruma.said.lock().unwrap().join("\n");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn routes_of_daruma_yaml_have_the_same_form() {
    let dir = tempfile::tempdir().unwrap();
    let config = "notify:
  receivers: [ { name: ops }, { name: night } ]
  route:
    receiver: ops
    routes: [ { matchers: [ 'severity=\"page\"' ], receiver: night, mute_time_intervals: [ x ] } ]
  time_intervals: [ { name: x, time_intervals: [ { years: [ 1999 ] } ] } ]
";
    let good = written(dir.path(), "daruma.yaml", config);
    let (code, out, err) = run(&["route", "test", "--config", &good, "severity=page"]);
    assert_eq!((code, out.lines().next()), (Some(0), Some("night")), "{out}{err}");
    let bad =
        written(dir.path(), "bad.yaml", &config.replace("receiver: night", "receiver: knight"));
    let (code, out, _) = run(&["check", "--config", &bad]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("bad.yaml:5:50: no receiver is named `knight`; did you mean `night`?"),
        "{out}"
    );
    let both = written(
        dir.path(),
        "both.yaml",
        &format!("{config}  routes: [ {{ receivers: [ ops ] }} ]\n"),
    );
    let (_, out, _) = run(&["check", "--config", &both]);
    assert!(out.contains("only one of them can decide"), "{out}");
}

/// What the manual shows can be written so, and a mistake in it is found.
#[test]
fn the_manual_of_escalation_shows_what_works() {
    let manual = include_str!("../../../docs/escalation.md");
    let yaml = manual.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let good = written(dir.path(), "daruma.yaml", yaml);
    let (code, out, err) = run(&["check", "--config", &good]);
    assert!(code == Some(0) && out.contains("3 receivers"), "{code:?} {out}{err}");
    for (was, is, want) in [
        ("to: [ lead ] }  ", "to: [ laed ] }  ", "`laed` is not listed"),
        ("after: 10m", "after: 10h", "they rise"),
        ("at: \"08:00\"", "at: \"8\"", "`8` is not a time"),
        ("location: Europe/Berlin }\n", "location: Europe/Berln }\n", "Europe/Berln"),
        ("level: critical,", "level: grave,", "grave"),
    ] {
        assert!(yaml.contains(was), "{was}");
        let bad = written(dir.path(), "bad.yaml", &yaml.replacen(was, is, 1));
        let (code, out, err) = run(&["check", "--config", &bad]);
        assert_eq!(code, Some(1), "{is}: {out}{err}");
        assert!(format!("{out}{err}").contains(want), "{is}: {out}{err}");
    }
}
