//! Alerts that others post, by Alertmanager's API on the running program: what got its 200 survives
//! `kill -9`, is told once, and is told the end.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use support::{Daruma, Hook, until};

fn config(hook: &str, wait: &str) -> String {
    format!(
        "collect: {{}}\nnotify:\n  group_wait: {wait}\n  receivers:\n    - name: ops\n      min_level: info\n      webhook_configs: [ {{ url: '{hook}' }} ]\n"
    )
}

fn call(daruma: &Daruma, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let headers = [("content-type", "application/json")];
    let (status, body) = daruma.call(method, path, &headers, body).unwrap();
    let value = serde_json::from_str(&body).unwrap_or(serde_json::Value::Null);
    (status, value)
}

fn post(daruma: &Daruma, name: &str, ended: bool) -> u16 {
    let end = if ended { r#","endsAt":"2024-01-01T00:00:02Z""# } else { "" };
    let body = format!(
        r#"[{{"labels":{{"alertname":"{name}","severity":"warning"}},"startsAt":"2024-01-01T00:00:01Z"{end}}}]"#
    );
    call(daruma, "POST", "/api/v2/alerts", &body).0
}

/// (status, name) of what the hook was told of alerts.
fn told(hook: &Hook) -> Vec<(String, String)> {
    let told = hook.told.lock().unwrap();
    let alerts = told.iter().flat_map(|message| message["alerts"].as_array().unwrap().clone());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    alerts.map(|a| (text(&a["status"]), text(&a["labels"]["alertname"]))).collect()
}

#[test]
fn what_is_posted_is_told_once_and_told_the_end_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let config = config(&hook.url, "0s");
    let mut daruma = Daruma::start(&config, dir.path());
    assert_eq!(post(&daruma, "Down", false), 200);
    until("it is told", || (!told(&hook).is_empty()).then_some(()));
    until("that it was taken is kept", || {
        let (_, view) = call(&daruma, "GET", "/api/view", "");
        (view["ledger"][0]["delivery"] == "accepted").then_some(())
    });
    daruma.kill();
    let daruma = Daruma::start(&config, dir.path());
    assert_eq!(post(&daruma, "Down", false), 200);
    assert_eq!(post(&daruma, "Other", false), 200);
    let fires = |name: &str| ("firing".to_owned(), name.to_owned());
    until("the other is told", || told(&hook).contains(&fires("Other")).then_some(()));
    assert_eq!(told(&hook).iter().filter(|one| **one == fires("Down")).count(), 1);
    let (_, listed) = call(&daruma, "GET", "/api/v2/alerts?filter=alertname%3D%22Down%22", "");
    assert_eq!(listed[0]["startsAt"], "2024-01-01T00:00:01.000Z", "{listed}");
    assert_eq!(listed[0]["receivers"][0]["name"], "ops", "{listed}");
    let over = ("resolved".to_owned(), "Down".to_owned());
    assert!(!told(&hook).contains(&over), "{:?}", told(&hook));
    assert_eq!(post(&daruma, "Down", true), 200);
    until("its end is told", || told(&hook).contains(&over).then_some(()));
    assert_eq!(told(&hook).iter().filter(|one| **one == over).count(), 1);
}

#[test]
fn what_waits_for_company_is_told_after_kill_9_though_nobody_posts_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let config = config(&hook.url, "3s");
    let mut daruma = Daruma::start(&config, dir.path());
    let body = r#"[{"labels":{"alertname":"Lost","severity":"page"}}]"#;
    assert_eq!(call(&daruma, "POST", "/api/v2/alerts", body).0, 200);
    daruma.kill();
    assert_eq!(told(&hook), [], "it waits");
    let _daruma = Daruma::start(&config, dir.path());
    until("it is told", || told(&hook).iter().any(|(_, name)| name == "Lost").then_some(()));
}

#[test]
fn a_silence_survives_kill_9_and_mutes_what_comes_then() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let config = config(&hook.url, "0s");
    let mut daruma = Daruma::start(&config, dir.path());
    let silence = |matcher: &str| {
        format!(
            r#"{{"matchers":[{matcher}],"startsAt":"2024-01-01T00:00:00Z","endsAt":"2100-01-01T00:00:00Z","createdBy":"ann","comment":"known"}}"#
        )
    };
    let quiet = r#"{"name":"alertname","value":"Qu.*","isRegex":true,"isEqual":true}"#;
    let (status, made) = call(&daruma, "POST", "/api/v2/silences", &silence(quiet));
    assert_eq!(status, 200, "{made}");
    let id = made["silenceID"].as_str().unwrap().to_owned();
    daruma.kill();
    let daruma = Daruma::start(&config, dir.path());
    let (status, one) = call(&daruma, "GET", &format!("/api/v2/silence/{id}"), "");
    assert_eq!((status, &one["status"]["state"]), (200, &"active".into()), "{one}");
    assert_eq!(post(&daruma, "Quiet", false), 200);
    assert_eq!(post(&daruma, "Loud", false), 200);
    until("the loud one is told", || told(&hook).iter().any(|(_, n)| n == "Loud").then_some(()));
    assert!(!told(&hook).iter().any(|(_, name)| name == "Quiet"), "{:?}", told(&hook));
    let (_, listed) = call(&daruma, "GET", "/api/v2/alerts?filter=alertname%3DQuiet", "");
    assert_eq!(listed[0]["status"]["state"], "suppressed", "{listed}");
    assert_eq!(listed[0]["status"]["silencedBy"][0], id.as_str(), "{listed}");
    assert_eq!(call(&daruma, "DELETE", &format!("/api/v2/silence/{id}"), "").0, 200);
    assert_eq!(call(&daruma, "DELETE", "/api/v2/silence/none", "").0, 404);
    let unknown = silence(quiet).replacen('{', r#"{"id":"none","#, 1);
    assert_eq!(call(&daruma, "POST", "/api/v2/silences", &unknown).0, 404);
    let (_, ended) = call(&daruma, "GET", "/api/v2/silences?active=false", "");
    assert_eq!(ended[0]["status"]["state"], "expired", "what ended lately is still shown: {ended}");
    until("it is told when the silence is over", || {
        told(&hook).iter().any(|(_, name)| name == "Quiet").then_some(())
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_good_beside_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let daruma = Daruma::start(&config(&hook.url, "0s"), dir.path());
    let refused = |path: &str, body: &str| {
        let (status, said) = call(&daruma, "POST", path, body);
        assert_eq!(status, 400, "{body}: {said}");
        said.as_str().unwrap().to_owned()
    };
    let both = r#"[{"labels":{"alertname":"Good"}},{"labels":{"alertname":""}}]"#;
    assert!(refused("/api/v2/alerts", both).contains("at least one label"), "{both}");
    until("the good one is told", || told(&hook).iter().any(|(_, n)| n == "Good").then_some(()));
    for (path, body, want) in [
        ("/api/v2/alerts", "{", "bad request"),
        ("/api/v2/alerts", r#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#, "RFC 3339"),
        (
            "/api/v2/alerts",
            r#"[{"labels":{"a":"b"},"startsAt":"2024-01-02T00:00:00Z","endsAt":"2024-01-01T00:00:00Z"}]"#,
            "start time must be before end time",
        ),
        (
            "/api/v2/silences",
            r#"{"matchers":[],"startsAt":"2024-01-01T00:00:00Z","endsAt":"2100-01-01T00:00:00Z","createdBy":"a","comment":"b"}"#,
            "at least one matcher",
        ),
        (
            "/api/v2/silences",
            r#"{"matchers":[{"name":"a","value":".*","isRegex":true}],"startsAt":"2024-01-01T00:00:00Z","endsAt":"2100-01-01T00:00:00Z","createdBy":"a","comment":"b"}"#,
            "must not match the empty string",
        ),
        (
            "/api/v2/silences",
            r#"{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2024-01-01T00:00:00Z","endsAt":"2100-01-01T00:00:00Z","createdBy":" ","comment":"b"}"#,
            "owner",
        ),
        (
            "/api/v2/silences",
            r#"{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2024-01-01T00:00:00Z","endsAt":"2024-01-02T00:00:00Z","createdBy":"a","comment":"b"}"#,
            "in the past",
        ),
    ] {
        let said = refused(path, body);
        assert!(said.contains(want), "{body}: {said}");
    }
}

/// So many alerts that they are more than one event may hold, kept, said again, snapshotted and read.
#[test]
fn thousands_in_one_post_and_their_later_end_survive_kill_9_and_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = "collect: {}\nnotify:\n  receivers: [ { name: ops, min_level: info } ]\n";
    let mut daruma = Daruma::start(config, dir.path());
    let all = |end: &str| {
        let note = "x".repeat(400);
        let one = |i: usize| {
            format!(
                r#"{{"labels":{{"alertname":"Full","unit":"u{i}"}},"annotations":{{"note":"{note}"}},"startsAt":"2024-01-01T00:00:01Z","endsAt":"{end}"}}"#
            )
        };
        format!("[{}]", (0..3000).map(one).collect::<Vec<_>>().join(","))
    };
    let held = |daruma: &Daruma, end: &str| {
        let (status, listed) = call(daruma, "GET", "/api/v2/alerts", "");
        let listed = listed.as_array().unwrap();
        assert_eq!((status, listed.len()), (200, 3000));
        let right = |one: &&serde_json::Value| one["endsAt"] == end && one["labels"]["unit"] != "";
        assert_eq!(listed.iter().filter(right).count(), 3000, "{}", listed[0]);
    };
    assert_eq!(call(&daruma, "POST", "/api/v2/alerts", &all("2099-01-01T00:00:00Z")).0, 200);
    let journal = || std::fs::metadata(dir.path().join("journal.db-wal")).unwrap().len();
    let first = journal();
    assert_eq!(call(&daruma, "POST", "/api/v2/alerts", &all("2099-01-02T00:00:00Z")).0, 200);
    let again = journal() - first;
    assert!(again < first / 5, "{first} bytes the first time, {again} the second");
    daruma.kill();
    let mut daruma = Daruma::start(config, dir.path());
    held(&daruma, "2099-01-02T00:00:00.000Z");
    daruma.signal("TERM");
    until("it has ended", || daruma.ended());
    let daruma = Daruma::start(config, dir.path());
    held(&daruma, "2099-01-02T00:00:00.000Z");
}
