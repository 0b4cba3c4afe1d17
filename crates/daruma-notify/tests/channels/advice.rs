//! What whoever checks a configuration hears before it is needed.

use daruma_model::{Message, MessageStatus};

use super::server::{Reply, far_side};
use super::{message, sender};

const TWILIO: &str =
    "account_sid: AC0123, auth_token: hush, from: '+15550000000', to: ['+15551111111']";
const TENCENT: &str = "secret_id: AKID0123, secret_key: hush, sms_sdk_app_id: '1400000000', \
                       sign_name: x, template_id: '7', phone_numbers: ['+8613800000000']";

fn advice(config: &str) -> Vec<String> {
    sender(config)
        .with_external_url("https://daruma.example.org")
        .warnings("DiskWillFillInFourHours")
}

#[test]
fn a_text_message_that_would_be_cut_is_told_with_its_length() {
    let twilio = |more: &str| advice(&format!("twilio_configs: [{{{TWILIO}{more}}}]"));
    assert_eq!(twilio(""), [""; 0], "built-in words fit");
    assert_eq!(twilio(", message: '{{ .Title }} {{ .AckURL }}'"), [""; 0]);
    // The end has no link to look after it, and fits.
    assert_eq!(
        twilio(
            ", segments_max: 1, message: '{{ .Title }}, please look: {{ .AckURL }} {{ range .Alerts }}{{ .Annotations.description }}{{ end }}'"
        ),
        ["ops/twilio[0]: cut to 1 parts of 2, see `segments_max`"]
    );
    assert_eq!(
        twilio(", message: 'Disk – {{ .Title }}…'"),
        [
            "ops/twilio[0]: `–…` in `message` is in no short alphabet: parts hold 70 characters rather than 160"
        ]
    );
    assert_eq!(twilio(", message: '磁盘… {{ .Title }}'"), [""; 0], "letters need it");
    assert_eq!(
        twilio(", message: '{{ \"–\" | len }} disk'"),
        [""; 0],
        "what is in a hole is not sent"
    );
}

#[test]
fn a_variable_that_is_longer_than_the_vendor_takes_is_told_with_what_is_left_of_it() {
    let tencent = |params: &str| {
        advice(&format!("tencent_sms_configs: [{{{TENCENT}, template_params: {params}}}]"))
    };
    assert_eq!(tencent("[level, status, instance, '=ops']"), [""; 0]);
    assert_eq!(
        tencent("[alertname]"),
        [
            "ops/tencent_sms[0]: `alertname` is cut to 12 characters, such as \"DiskWillFil…\"; see `variable_max`"
        ]
    );
    let said = tencent("['=call the people of the night']");
    assert!(said.len() == 1 && said[0].contains("is cut to 12 characters"), "{said:?}");
    assert_eq!(tencent("[alertname], variable_max: 40"), [""; 0]);
}

#[test]
fn a_variable_that_nothing_fills_is_told_whether_it_stands_in_the_beginning_or_the_end() {
    let slack = |text: &str| {
        advice(&format!("slack_configs: [{{api_url: 'http://127.0.0.1:1/x', text: '{text}'}}]"))
    };
    assert_eq!(
        slack("{{ .CommonLabels.nobody }} {{ range .Alerts }}{{ .Labels.job }}{{ end }}"),
        [""; 0]
    );
    for text in [
        "{{ .Sumary }}",
        "{{ range .Alerts }}{{ .Anotations.summary }}{{ end }}",
        "{{ range .Alerts.Resolved }}{{ .EndedAt }}{{ end }}",
        "{{ if eq .Status \"resolved\" }}{{ .Titel }}{{ end }}",
    ] {
        let said = slack(text);
        assert!(
            said.len() == 1 && said[0].contains("built-in words for `text`"),
            "{text}: {said:?}"
        );
    }
    // Whoever is not told the end cannot miss a word in it.
    let quiet = "slack_configs: [{api_url: 'http://127.0.0.1:1/x', send_resolved: false, \
                 text: '{{ range .Alerts.Resolved }}{{ .EndedAt }}{{ end }}'}]";
    assert_eq!(advice(quiet), [""; 0]);
}

/// The link by which the incident is taken on, or that of its page, is never cut: the title is.
#[tokio::test]
async fn a_text_message_has_one_link_and_has_it_whole() {
    let (port, seen) = far_side(|_| Reply::json(201, serde_json::json!({ "sid": "SM1" }))).await;
    let config = format!(
        "twilio_configs: [{{{TWILIO}, segments_max: 2, api_url: 'http://127.0.0.1:{port}'}}]"
    );
    let long = message("ops/twilio[0]", &"磁盘x".repeat(100), "");
    let (page, taken_on) =
        ("https://daruma.example.org/incident/4", "https://daruma.example.org/ack/4.f00.signed");
    let plain = sender(&config);
    let linked =
        sender(&config).with_ack_tokens(std::sync::Arc::new(|_| Some("4.f00.signed".to_owned())));
    for (sender, link) in [(plain, page), (linked, taken_on)] {
        assert_eq!(sender.send(&long, 1).await.outcome, daruma_model::AttemptOutcome::Accepted);
        let body = String::from_utf8(seen.lock().unwrap().pop().unwrap().body).unwrap();
        let fields = super::server::fields(&body);
        let text = &fields.iter().find(|(name, _)| name == "Body").unwrap().1;
        assert!(text.starts_with("磁盘x") && text.ends_with(&format!("...\n{link}")), "{text}");
        assert!(text.encode_utf16().count() <= 2 * 67, "{text}");
        assert_eq!(text.matches("https://").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn the_ledger_says_what_was_cut() {
    let (port, _) = far_side(|seen| {
        let _: &super::server::Seen = seen;
        Reply::json(201, serde_json::json!({ "sid": "SM1" }))
    })
    .await;
    let config = format!(
        "twilio_configs: [{{{TWILIO}, segments_max: 1, api_url: 'http://127.0.0.1:{port}'}}]"
    );
    let long =
        Message { status: MessageStatus::Firing, ..message("ops/twilio[0]", &"x".repeat(400), "") };
    let attempt = sender(&config).send(&long, 1).await;
    assert!(attempt.said.contains("; cut to 1 parts of 3, see `segments_max`"), "{}", attempt.said);
}

#[test]
fn receipts_that_nobody_could_send_or_prove_are_refused_or_told() {
    let config = format!("twilio_configs: [{{{TWILIO}, receipts: true}}]");
    assert_eq!(advice(&config), [""; 0]);
    let said = sender(&config).with_external_url("").warnings("X");
    assert!(
        said.len() == 1 && said[0].contains("`receipts` need `notify.external_url`"),
        "{said:?}"
    );
    for more in ["api_key: SK1", "status_callback: 'https://a.example/'"] {
        let error =
            super::receiver(&format!("twilio_configs: [{{{TWILIO}, receipts: true, {more}}}]"));
        assert!(error.unwrap_err().contains("`receipts`"), "{more}");
    }
}
