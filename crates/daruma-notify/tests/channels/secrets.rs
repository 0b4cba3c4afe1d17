use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daruma_notify::CHANNELS;

use super::server::{Reply, far_side};
use super::stand_ins::{HOOK, SECRET};
use super::vendors::{VENDORS, channel};
use super::{message, receiver, sender};

/// Every word of a configuration that must not be seen, in the shapes in which it may come back.
fn hushed(yaml: &str) -> Vec<String> {
    let mut all = Vec::new();
    if yaml.contains(SECRET) {
        let percent = SECRET.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let json = SECRET.replace('/', "\\/");
        let base64 = "aHVzaC9odXNoK2tleT09NDI=".to_owned();
        all.extend([SECRET.to_owned(), json, percent.to_lowercase(), percent, base64]);
    }
    let tokens = ["hushhushhush", "123456:hush-hush_bot", "hush-hush-robot", "hush-hush-key", HOOK];
    all.extend(tokens.iter().filter(|token| yaml.contains(*token)).map(|t| (*t).to_owned()));
    if yaml.contains("wechat") {
        all.push("token-of-2-hours".to_owned());
    }
    all
}

/// A far side that says everything back that it was told, in parts, since the ledger keeps only the
/// beginning of an answer.
#[tokio::test]
async fn a_vendor_that_repeats_our_secret_does_not_bring_it_into_the_ledger() {
    for vendor in VENDORS {
        let turn = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&turn);
        let stand_in = vendor.stand_in;
        let words = hushed(&(vendor.config)(0));
        assert!(!words.is_empty(), "{}", vendor.kind);
        let said_back = words.clone();
        let (port, seen) = far_side(move |seen| {
            if seen.method == "GET" {
                return stand_in(seen); // A login must succeed for a token to be repeated.
            }
            let mut parts = vec![format!("{}?{}", seen.path, seen.query)];
            parts.extend(seen.headers.iter().map(|(name, value)| format!("{name}: {value}")));
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            parts.extend(body.as_bytes().chunks(300).map(|c| String::from_utf8_lossy(c).into()));
            parts.extend(said_back.iter().map(|word| format!("wrong: {word}")));
            let turn = shared.load(Ordering::SeqCst);
            let part = parts.get(turn).cloned().unwrap_or_else(|| "END".to_owned());
            Reply(400, String::new(), part)
        })
        .await;
        let yaml = (vendor.config)(port);
        let config = receiver(&yaml).unwrap();
        let mut shown =
            format!("{config:?} {config:#?} {}", serde_json::to_string(&config).unwrap());
        let turns = loop {
            // Another one each time: the pace of the vendor is not what is tried here.
            let attempt = sender(&yaml).send(&message(&channel(vendor.kind), "t", "x"), 1).await;
            shown.push_str(&attempt.said);
            let turns = turn.fetch_add(1, Ordering::SeqCst);
            if attempt.said.contains("END") || turns > 200 {
                break turns;
            }
        };
        assert!((words.len() + 3..200).contains(&turns), "{}: {turns}", vendor.kind);
        assert!(!seen.lock().unwrap().is_empty());
        for word in &words {
            assert!(!shown.contains(word), "{}: {word} in {shown}", vendor.kind);
        }
    }
}

#[tokio::test]
async fn what_is_sent_shows_no_secret_when_it_is_printed() {
    let request = daruma_notify::Request::Post {
        url: daruma_notify::Secret::new(SECRET),
        headers: vec![("authorization", SECRET.to_owned())],
        body: SECRET.as_bytes().to_vec(),
    };
    let shown = format!("{request:?} {request:#?}");
    assert!(!shown.contains("hush") && !shown.contains("104, 117"), "{shown}");
    let run = daruma_notify::Request::Run {
        argv: vec!["/bin/true".to_owned()],
        env: vec![("TOKEN".to_owned(), daruma_notify::Secret::new(SECRET))],
        input: SECRET.as_bytes().to_vec(),
    };
    assert!(!format!("{run:?}").contains("hush"));
}

#[tokio::test]
async fn a_secret_comes_from_the_file_or_the_environment_as_well() {
    let (port, seen) = far_side(super::stand_ins::ntfy).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(format!("{SECRET}\n").as_bytes()).unwrap();
    let path = file.path().display();
    let ntfy = |key: &str| {
        sender(&format!(
            "ntfy_configs: [{{topic: ops, api_url: 'http://127.0.0.1:{port}', {key}}}]"
        ))
    };
    let it = message("ops/ntfy[0]", "web is down", "x");
    let attempt = ntfy(&format!("token_file: {path}")).send(&it, 1).await;
    assert_eq!(attempt.outcome, daruma_model::AttemptOutcome::Accepted, "{}", attempt.said);
    // No test may change the environment beside others; this variable is always there.
    let attempt = ntfy("token_env: CARGO_PKG_NAME").send(&it, 1).await;
    assert_eq!(attempt.outcome, daruma_model::AttemptOutcome::Rejected, "{}", attempt.said);
    assert_eq!(seen.lock().unwrap()[1].get("authorization"), "Bearer daruma-notify");
    for (key, words) in [
        ("token_env: DARUMA_NO_SUCH_VARIABLE", "DARUMA_NO_SUCH_VARIABLE is not set"),
        ("token_file: /no/such", "cannot read /no/such"),
    ] {
        let sender = ntfy(key);
        let attempt = sender.send(&it, 1).await;
        assert!(attempt.said.contains(words), "{}", attempt.said);
        assert!(
            sender.warnings("HostIsDown")[0].contains(words),
            "{:?}",
            sender.warnings("HostIsDown")
        );
    }
    let error = receiver("ntfy_configs: [{topic: x, token: a, token_env: B}]").unwrap_err();
    assert!(error.contains("at most one of them"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_when_it_is_read() {
    for (yaml, want) in [
        ("slack_configs: [{channel: x}]", "exactly one of `api_url` and `app_token`"),
        ("slack_configs: [{api_url: 'http://a/', app_token: x}]", "exactly one of"),
        ("slack_configs: [{app_token: x}]", "`channel` must be set"),
        ("slack_configs: [{api_url: 'http://a/', update_message: true}]", "webhooks cannot change"),
        ("telegram_configs: [{bot_token: x}]", "`chat_id`"),
        ("telegram_configs: [{bot_token: x, chat_id: nobody}]", "the number of a chat"),
        ("telegram_configs: [{bot_token: x, chat_id: 1, parse_mode: Word}]", "parse_mode"),
        ("pagerduty_configs: [{service_key: x}]", "Events API v2"),
        ("pagerduty_configs: [{}]", "`routing_key`"),
        ("msteamsv2_configs: [{}]", "`webhook_url`"),
        ("discord_configs: [{webhook_url: 'ftp://x'}]", "http"),
        ("ntfy_configs: [{topic: 'a/b'}]", "letters, digits"),
        ("ntfy_configs: [{topic: a, priority: 9}]", "from 1 to 5"),
        (
            "twilio_configs: [{account_sid: A, auth_token: x, from: a, to: ['12']}]",
            "no phone number",
        ),
        (
            "twilio_configs: [{account_sid: A, auth_token: x, to: ['+15551234567']}]",
            "exactly one of `from`",
        ),
        (
            "aliyun_sms_configs: [{access_key_id: a, access_key_secret: b, sign_name: c, template_code: d, template_param: {x: nonsense}}]",
            "fills no variable",
        ),
        ("tencent_sms_configs: [{secret_id: a, secret_key: b}]", "`sms_sdk_app_id`"),
        ("dingtalk_configs: [{secret: x}]", "`access_token`"),
        ("feishu_configs: [{}]", "`api_url`"),
        ("wecom_configs: [{}]", "`key`"),
        ("wechat_configs: [{corp_id: a}]", "`api_secret`"),
        ("web_push_configs: [{vapid_private_key: x}]", "`vapid_public_key`"),
        ("exec_configs: [{argv: []}]", "must name a program"),
        ("exec_configs: [{argv: [sh, -c, x]}]", "absolute path"),
    ] {
        let error = receiver(yaml).expect_err(yaml);
        assert!(error.contains(want), "{yaml}: {want} in {error}");
    }
    for kind in CHANNELS {
        assert!(receiver(&format!("{kind}_configs: [7]")).is_err());
    }
}
