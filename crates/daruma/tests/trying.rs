//! Trying channels out, and taking an incident on by the link in a message, on the running program.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::Value;
use support::{Daruma, Hook, until};

fn config(hook: &str) -> String {
    format!(
        "collect: {{}}\ndetect: {{}}\nnotify:\n  group_wait: 0s\n  external_url: https://daruma.example.org/\n  \
         receivers:\n    - name: ops\n      webhook_configs: [ {{ url: '{hook}' }} ]\n    - name: nobody\n"
    )
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn post(daruma: &Daruma, name: &str) {
    let body = format!(r#"[{{"labels":{{"alertname":"{name}","severity":"critical"}}}}]"#);
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[JSON], &body).unwrap().0, 200);
}

fn tests_in(ledger: &Value) -> Vec<&Value> {
    let all = ledger.as_array().unwrap().iter();
    all.filter(|out| out["message"]["group_labels"]["alertname"] == "DarumaTest").collect()
}

#[test]
fn a_test_reaches_the_channel_and_its_outcome_whoever_asked() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let daruma = Daruma::start(&config(&hook.url), dir.path());
    let (code, out, err) = daruma.cli(&["send-test", "ops"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.starts_with("✓ ops/webhook[0] took it after ") && out.contains("200"), "{out}");
    let told = hook.told.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["daruma"]["title"].as_str().unwrap().starts_with("TEST:"), "{}", told[0]);
    assert_eq!(told[0]["daruma"]["ackURL"], Value::Null, "there is nothing to look after");

    hook.status.store(500, Ordering::SeqCst);
    let (code, out, err) = daruma.cli(&["--json", "send-test", "ops/webhook[0]"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said["delivery"], &said["code"]), (&"gave_up".into(), &500.into()), "{said}");

    let (code, _, err) = daruma.cli(&["send-test", "opps"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no receiver and no channel `opps`"), "{err}");

    // It was an attempt that is seen, once each, and nothing is wrong because of it.
    let view = daruma.view();
    let tests = tests_in(&view["ledger"]);
    let states: Vec<_> = tests.iter().map(|out| (&out["delivery"], &out["tries"])).collect();
    assert_eq!(states, [(&"gave_up".into(), &1.into()), (&"accepted".into(), &1.into())]);
    assert_eq!(view["incidents"].as_array().unwrap().len(), 0, "{}", view["incidents"]);
}

#[test]
fn only_our_own_pages_and_scripts_send_tests() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let daruma = Daruma::start(&config(&hook.url), dir.path());
    let body = r#"{"to":"ops"}"#;
    for (headers, want) in [
        (vec![("content-type", "text/plain")], 415),
        (vec![JSON, ("sec-fetch-site", "cross-site")], 403),
        (vec![JSON, ("origin", "https://evil.example")], 403),
    ] {
        let (status, said) = daruma.call("POST", "/api/send-test", &headers, body).unwrap();
        assert_eq!(status, want, "{headers:?}: {said}");
    }
    assert_eq!(daruma.get("/api/send-test").0, 404);
    assert_eq!(daruma.call("POST", "/api/send-test", &[JSON], "{}").unwrap().0, 400);
    assert!(hook.told.lock().unwrap().is_empty());
}

#[test]
fn a_test_can_be_sent_while_no_daruma_runs() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let own = dir.path().join("daruma.yaml");
    std::fs::write(&own, config(&hook.url)).unwrap();
    let run = |to: &str| {
        let out = Command::new(support::program())
            .args(["send-test", to, "--config", own.to_str().unwrap()])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let (code, out, err) = run("ops");
    assert!(code == Some(0) && out.contains("took it"), "{out}{err}");
    assert_eq!(hook.told.lock().unwrap().len(), 1);
    hook.status.store(400, Ordering::SeqCst);
    let (code, out, err) = run("ops");
    assert!(code == Some(1) && out.contains("✗ ops/webhook[0] did not take it"), "{out}{err}");
    let (code, _, err) = run("night");
    assert!(code == Some(2) && err.contains("there are: ops, nobody"), "{err}");
}

/// Where the link in the newest message about `name` leads.
fn link(hook: &Hook, name: &str) -> String {
    until("somebody is told", || {
        let told = hook.told.lock().unwrap();
        let about = |m: &&Value| m["alerts"][0]["labels"]["alertname"] == name;
        let url = told.iter().rev().find(about)?["daruma"]["ackURL"].as_str()?.to_owned();
        Some(url.strip_prefix("https://daruma.example.org").unwrap().to_owned())
    })
}

fn acked(daruma: &Daruma, name: &str) -> Value {
    let view = daruma.view();
    let all = view["incidents"].as_array().unwrap().clone();
    let found = all.iter().find(|incident| incident["title"].as_str().unwrap().contains(name));
    found.unwrap_or_else(|| panic!("no incident {name}: {view}"))["acked"].clone()
}

#[test]
fn the_link_in_a_message_takes_the_incident_on_once_over_kill_9() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let mut daruma = Daruma::start(&config(&hook.url), dir.path());
    post(&daruma, "Burning");
    post(&daruma, "Flooded");
    let (burning, flooded) = (link(&hook, "Burning"), link(&hook, "Flooded"));

    // Whoever is quicker than the pages is told to look again.
    until("the incident is shown", || (daruma.get(&burning).0 != 503).then_some(()));
    // What reads mail follows links: looking does nothing, and shows one button.
    for _ in 0..2 {
        let (status, page) = daruma.get(&burning);
        assert_eq!(status, 200, "{page}");
        assert_eq!(page.matches("<button").count(), 1, "{page}");
        assert!(page.contains("Burning"), "{page}");
    }
    assert_eq!(acked(&daruma, "Burning"), Value::Null);

    // Nothing but the very link opens the door.
    let (stem, mark) = burning.rsplit_once('.').unwrap();
    let other = flooded.rsplit_once('.').unwrap().1;
    for forged in [
        format!("{stem}.{other}"),
        format!("{stem}."),
        format!("{stem}.{}", mark.replace(|_| true, "0")),
        burning.replacen("/ack/", "/ack/1", 1),
        "/ack/x".to_owned(),
    ] {
        let (status, said) = daruma.call("POST", &forged, &[FORM], "ttl=4h").unwrap();
        assert!(status == 404 && said.contains("not made here"), "{forged}: {status} {said}");
    }
    let (status, said) = daruma.call("POST", &burning, &[FORM], "ttl=1000000h").unwrap();
    assert!(status == 422 && said.contains("Choose"), "{status} {said}");
    assert_eq!(acked(&daruma, "Burning"), Value::Null);

    // What got its 200 is durable.
    let (status, said) = daruma.call("POST", &burning, &[FORM], "ttl=4h&name=ann+%3Cb%3E").unwrap();
    assert!(status == 200 && said.contains("is yours until"), "{status} {said}");
    daruma.kill();
    let daruma = Daruma::start(&config(&hook.url), dir.path());
    assert_eq!(acked(&daruma, "Burning")[0], "ann <b> (link to ops)");
    let story = daruma.story();
    assert!(story.contains("ann <b> (link to ops) looks after it for 4h"), "{story}");

    // Once is once, also after a restart; and it says so.
    for (method, body) in [("POST", "ttl=4h&name=bob"), ("GET", "")] {
        let (status, said) = daruma.call(method, &burning, &[FORM], body).unwrap();
        assert!(status == 410 && said.contains("used already"), "{status} {said}");
        assert!(said.contains("ann &lt;b&gt;"), "a name is no markup: {said}");
    }
    assert_eq!(acked(&daruma, "Burning")[0], "ann <b> (link to ops)");

    // A link that was sent before serves after, without a name and a choice too.
    let (status, said) = daruma.call("POST", &flooded, &[FORM], "").unwrap();
    assert_eq!(status, 200, "{said}");
    assert_eq!(acked(&daruma, "Flooded")[0], "somebody at ops (link)");

    // Nobody finds a link in what is kept and shown.
    let log = daruma.said.lock().unwrap().join("\n");
    let (_, journal, _) =
        daruma.cli(&["journal", "export", "--data", dir.path().to_str().unwrap()]);
    assert!(journal.contains("ack_by_link"), "{journal}");
    for text in [daruma.get("/api/view").1, journal, log] {
        assert!(!text.contains(mark) && !text.contains(other), "{text}");
    }

    // Where it is over, there is nothing to look after.
    post(&daruma, "Drowned");
    let drowned = link(&hook, "Drowned");
    let over = r#"[{"labels":{"alertname":"Drowned","severity":"critical"},"startsAt":"2024-01-01T00:00:00Z","endsAt":"2024-01-02T00:00:00Z"}]"#;
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[JSON], over).unwrap().0, 200);
    until("the incident is over", || {
        daruma.get(&drowned).1.contains("incident is over").then_some(())
    });
    let (status, said) = daruma.call("POST", &drowned, &[FORM], "ttl=4h").unwrap();
    assert!(status == 410 && said.contains("is over"), "{status} {said}");
}
