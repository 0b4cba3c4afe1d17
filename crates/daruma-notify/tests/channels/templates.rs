//! Templates of the configuration on their way to every vendor.

use std::sync::Arc;

use daruma_model::{AttemptOutcome, Time};
use daruma_notify::Sender;
use daruma_template::Templates;
use serde_json::json;

use crate::server::{Reply, far_side};
use crate::vendors::{VENDORS, channel};
use crate::{NOW, message, receiver};

fn sender(yaml: &str, templates: Templates) -> Sender {
    let config = receiver(yaml).unwrap().with_alertmanager_defaults();
    assert_eq!(config.template_problems(&templates), []);
    Sender::new(vec![config], Arc::new(|| Time::from_secs(NOW)))
        .unwrap()
        .with_external_url("https://daruma.example.org")
        .with_templates(templates)
}

/// As an alertmanager.yml has it that says nothing of words: the templates of Alertmanager's names
/// speak, and vendors take them whatever an alert says.
#[tokio::test]
async fn alertmanagers_defaults_reach_every_vendor_whatever_an_alert_says() {
    // The stand-in of Discord takes no mark at all, not even those of a template's own lists.
    for vendor in VENDORS.iter().filter(|vendor| vendor.kind != "discord") {
        for text in [
            "03:04 down".to_owned(),
            "<!channel> </b><a href=\"https://evil.example\">x</a> & @all **b** `c` \\".to_owned(),
            "<&>\"\\\n@a😀".repeat(20_000),
            String::new(),
        ] {
            let (port, seen) = far_side(vendor.stand_in).await;
            // That own words are read as `mrkdwn` is what the configuration asked for.
            let yaml = (vendor.config)(port)
                .replace("slack_configs: [{", "slack_configs: [{mrkdwn_in: [pretext], ");
            let sender = sender(&yaml, Templates::built_in());
            let attempt = sender.send(&message(&channel(vendor.kind), &text, &text), 1).await;
            let said = (vendor.kind, &attempt.said);
            assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{said:?}");
            assert!(!seen.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn files_of_templates_give_names_other_words() {
    let (port, seen) = far_side(|_| Reply::text(200, "ok")).await;
    let mut templates = Templates::built_in();
    let file = r##"{{ define "slack.default.title" }}*{{ .Status | toUpper }}* {{ .CommonLabels.alertname }} <{{ (index .Alerts 0).GeneratorURL }}|source>{{ end }}
{{ define "slack.default.titlelink" }}javascript:alert(1){{ end }}
{{ define "slack.default.username" }}bot of {{ .Receiver }}{{ end }}"##;
    templates.add("own.tmpl", file).unwrap();
    let yaml = format!(
        "slack_configs: [{{api_url: 'http://127.0.0.1:{port}/', text: '{{{{ .CommonAnnotations.summary }}}} & co'}}]"
    );
    let mut it = message("ops/slack[0]", "title", "a <b> & c");
    it.alerts[0].generator_url = "http://prom.example/g?a=1&b=2#3".to_owned();
    let attempt = sender(&yaml, templates).send(&it, 1).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    let body = seen.lock().unwrap()[0].json();
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["title"], "*FIRING* Down <http://prom.example/g?a=1&amp;b=2#3|source>");
    assert_eq!(attachment["text"], "a &lt;b&gt; &amp; c & co");
    let page = "https://daruma.example.org/incident/4";
    assert_eq!(attachment["title_link"], page, "no address that runs");
    assert_eq!(body["username"], "bot of ops");
}

#[tokio::test]
async fn details_and_payloads_are_filled_as_deep_as_they_go() {
    let (port, seen) = far_side(|_| Reply::text(202, r#"{"status": "success"}"#)).await;
    let yaml = format!(
        "pagerduty_configs: [{{routing_key: k, url: 'http://127.0.0.1:{port}/', details: {{firing: none, deep: {{a: ['{{{{ .Status }}}}', 1]}}, labels: '{{{{ .CommonLabels | toJson }}}}'}}}}]"
    );
    let attempt =
        sender(&yaml, Templates::built_in()).send(&message("ops/pagerduty[0]", "t", "x"), 1).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    let yaml = format!(
        "webhook_configs: [{{url: 'http://127.0.0.1:{port}/', payload: {{text: 'is {{{{ .Status }}}}', n: 3, all: '{{{{ .Alerts | toJson }}}}'}}}}]"
    );
    let attempt = sender(&yaml, Templates::built_in())
        .send(&message("ops/webhook[0]", "t", "\"x\" {a: b}"), 1)
        .await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    let seen = seen.lock().unwrap();
    let details = &seen[0].json()["payload"]["custom_details"];
    assert_eq!(details["deep"], json!({"a": ["firing", 1]}));
    assert_eq!(details["labels"]["alertname"], "Down");
    assert_eq!((&details["num_firing"], &details["firing"]), (&json!("1"), &json!("none")));
    let payload = seen[1].json();
    assert_eq!((&payload["text"], &payload["n"]), (&json!("is firing"), &json!(3)));
    assert_eq!(payload["all"][0]["annotations"]["summary"], "\"x\" {a: b}");
}

#[test]
fn what_cannot_be_filled_is_known_by_its_place() {
    let yaml = "slack_configs: [{api_url: 'http://x/', title: 'a {{ nosuch }}', fields: [{title: ok, value: \"{{ template \\\"nope\\\" . }}\"}]}]";
    let problems = receiver(yaml).unwrap().template_problems(&Templates::built_in());
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "receiver `ops`, `slack_configs[0].fields[0].value`, 1:1: template \"nope\" not defined",
            "receiver `ops`, `slack_configs[0].title`, 1:6: function \"nosuch\" not defined",
        ]
    );
}
