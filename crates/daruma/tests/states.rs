//! The timelines of `../shared/conformance/alertmanager/acceptance.md` that are told by the API (13 to
//! 18), on the running program with an alertmanager.yml.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use serde_json::{Value, json};
use support::{Daruma, Hook, until};

struct Following {
    daruma: Daruma,
    hook: Hook,
    _folder: tempfile::TempDir,
}

fn following(rest: &str) -> Following {
    let folder = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let file = folder.path().join("alertmanager.yml");
    let receivers = format!(
        "receivers: [ {{ name: nobody }}, {{ name: hook, webhook_configs: [ {{ url: '{}' }} ] }} ]\n",
        hook.url
    );
    std::fs::write(&file, format!("{receivers}{rest}")).unwrap();
    let own = folder.path().join("daruma.yaml");
    std::fs::write(&own, "collect: {}\ndetect: {}\n").unwrap();
    let arguments =
        ["--config", own.to_str().unwrap(), "--alertmanager-config", file.to_str().unwrap()];
    let daruma = Daruma::with(&arguments, &folder.path().join("data"));
    Following { daruma: daruma.unwrap_or_else(|said| panic!("{said}")), hook, _folder: folder }
}

impl Following {
    fn post(&self, path: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json")];
        let (status, said) = self
            .daruma
            .call("POST", &format!("/api/v2/{path}"), &headers, &body.to_string())
            .unwrap();
        assert_eq!(status, 200, "{path}: {said}");
        if said.is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() }
    }

    fn get(&self, path: &str) -> Vec<Value> {
        let (status, said) = self.daruma.get(&format!("/api/v2/{path}"));
        assert_eq!(status, 200, "{path}: {said}");
        serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().clone()
    }

    fn silence(&self, matchers: &Value) -> String {
        let said = self.post(
            "silences",
            &json!({
                "matchers": matchers, "startsAt": "2020-01-01T00:00:00Z",
                "endsAt": "2100-01-01T00:00:00Z", "createdBy": "ann", "comment": "at work",
            }),
        );
        said["silenceID"].as_str().unwrap().to_owned()
    }

    /// State, silences and inhibitors of the one alert with this severity.
    fn state(&self, severity: &str) -> Value {
        let found = self.get(&format!("alerts?filter=severity%3D{severity}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let status = &found[0]["status"];
        json!([status["state"], status["silencedBy"], status["inhibitedBy"]])
    }
}

/// As a client writes it into an address.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

const PLAIN: &str = "route: { receiver: nobody, group_interval: 10m }\n";

#[test]
fn what_mutes_an_alert_is_shown_at_once_and_no_longer_than_it_lasts() {
    let inhibit = "inhibit_rules: [ { source_matchers: [ severity=critical ], \
                   target_matchers: [ severity=warning ], equal: [ alertname ] } ]\n";
    let it = following(&format!("{PLAIN}{inhibit}"));
    let alert =
        |severity: &str| json!([{ "labels": { "alertname": "Slow", "severity": severity } }]);
    it.post("alerts", &alert("warning"));
    assert_eq!(it.state("warning"), json!(["active", [], []]));
    let id = it.silence(
        &json!([{ "name": "alertname", "value": "Slow", "isRegex": false, "isEqual": true }]),
    );
    assert_eq!(it.state("warning"), json!(["suppressed", [id], []]));
    it.post("alerts", &alert("critical"));
    let critical = it.get("alerts?filter=severity%3Dcritical")[0]["fingerprint"].clone();
    assert_eq!(it.state("warning"), json!(["suppressed", [id], [critical]]));
    assert_eq!(it.state("critical"), json!(["suppressed", [id], []]));
    let (status, said) =
        it.daruma.call("DELETE", &format!("/api/v2/silence/{id}"), &[], "").unwrap();
    assert_eq!(status, 200, "{said}");
    assert_eq!(it.state("critical"), json!(["active", [], []]));
    assert_eq!(it.state("warning"), json!(["suppressed", [], [critical]]));
}

#[test]
fn filters_are_all_to_be_met() {
    let it = following(PLAIN);
    it.post(
        "alerts",
        &json!([
            { "labels": { "alertname": "test1", "severity": "warning" } },
            { "labels": { "system": "foo", "severity": "critical" } },
        ]),
    );
    let found = it.get("alerts?filter=alertname%3Dtest1&filter=severity%3Dwarning");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["status"]["state"], "active");
    assert_eq!(
        it.get("alerts?filter=alertname%3Dtest1&filter=severity%3Dcritical"),
        [Value::Null; 0]
    );
}

#[test]
fn names_and_values_of_every_script_are_taken_returned_and_found() {
    let it = following(PLAIN);
    let labels = json!({ "a": "a", "00": "b", "Σ": "c", "🙂": "dΘ" });
    it.post("alerts", &json!([{ "labels": labels }]));
    for filter in ["00=b", "Σ=c", r#""\xf0\x9f\x99\x82"=dΘ"#, "🙂=~d."] {
        let query = percent(filter);
        let found = it.get(&format!("alerts?filter={query}"));
        assert_eq!(found.len(), 1, "{filter}");
        assert_eq!(found[0]["labels"], labels, "{filter}");
        let groups = it.get(&format!("alerts/groups?filter={query}"));
        assert_eq!(groups[0]["alerts"][0]["labels"], labels, "{filter}");
    }
    assert_eq!(it.get(&format!("alerts?filter={}", percent("Σ=d"))), [Value::Null; 0]);
    let matchers = json!([{ "name": "fooΣ", "value": "bar🙂", "isRegex": false, "isEqual": true }]);
    let id = it.silence(&matchers);
    let found = it.get(&format!("silences?filter={}", percent("fooΣ=bar🙂")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["id"], &found[0]["matchers"]), (&json!(id), &matchers));
    assert_eq!(it.get(&format!("silences?filter={}", percent("fooΣ=bar"))), [Value::Null; 0]);
}

#[test]
fn a_route_may_ask_for_a_label_of_any_script() {
    let it = following(
        "route: { receiver: nobody, routes: [ { receiver: hook, matchers: [ 'foo🙂=bar' ], \
         group_by: [ 'foo🙂' ], group_wait: 10ms } ] }\n",
    );
    it.post("alerts", &json!([{ "labels": { "foo🙂": "bar" } }, { "labels": { "foo🙂": "baz" } }]));
    let told = until("it is told", || it.hook.told.lock().unwrap().first().cloned());
    assert_eq!(told["groupLabels"], json!({ "foo🙂": "bar" }));
    assert_eq!(told["alerts"].as_array().unwrap().len(), 1, "{told}");
}
