use daruma_model::{AttemptOutcome, Message, MessageStatus};
use daruma_notify::{CHANNELS, DECLARED, Sender};
use serde_json::{Value, json};

use super::server::{Reply, Seen, far_side};
use super::stand_ins::{self as far, HOOK, SECRET};
use super::{message, receiver, sender};

/// What is done to a good request, and how.
pub type Break = (&'static str, fn(&mut Seen));

/// A vendor: its channel, our configuration of it, and what it makes of a request; then what breaks a
/// good request so that it must refuse.
pub struct Vendor {
    pub kind: &'static str,
    pub config: fn(u16) -> String,
    pub stand_in: fn(&Seen) -> Reply,
    pub broken: &'static [Break],
}

const fn vendor(
    kind: &'static str,
    config: fn(u16) -> String,
    stand_in: fn(&Seen) -> Reply,
    broken: &'static [Break],
) -> Vendor {
    Vendor { kind, config, stand_in, broken }
}

fn at(seen: &mut Seen, pointer: &str, value: Value) {
    seen.change(|body| *body.pointer_mut(pointer).unwrap() = value.clone());
}

fn without(seen: &mut Seen, name: &str) {
    seen.change(|body| drop(body.as_object_mut().unwrap().remove(name)));
}

fn long(c: &str) -> Value {
    c.repeat(40_000).into()
}

fn in_query(seen: &mut Seen, from: &str, to: &str) {
    assert!(seen.query.contains(from), "{}", seen.query);
    seen.query = seen.query.replace(from, to);
}

fn in_body(seen: &mut Seen, from: &str, to: &str) {
    let body = String::from_utf8(seen.body.clone()).unwrap();
    assert!(body.contains(from), "{body}");
    seen.body = body.replace(from, to).into_bytes();
}

pub const VENDORS: &[Vendor] = &[
    vendor(
        "slack",
        |port| format!("slack_configs: [{{api_url: 'http://127.0.0.1:{port}/services/{HOOK}'}}]"),
        far::slack_hook,
        &[
            ("another hook", |seen| seen.path.push('x')),
            ("no attachments", |seen| without(seen, "attachments")),
            ("too long", |seen| at(seen, "/attachments/0/text", long("x"))),
            ("markup", |seen| at(seen, "/attachments/0/text", "<!channel>".into())),
        ],
    ),
    vendor(
        "slack",
        |port| {
            let url = format!("http://127.0.0.1:{port}/api/chat.postMessage");
            format!(
                "slack_configs: [{{app_token: '{SECRET}', app_url: '{url}', channel: '#ops', update_message: true}}]"
            )
        },
        far::slack_api,
        &[
            ("another token", |seen| seen.set("authorization", "Bearer xoxb")),
            ("another channel", |seen| at(seen, "/channel", "#all".into())),
            ("no text", |seen| at(seen, "/attachments", json!([]))),
            ("an unknown field", |seen| seen.change(|body| body["blocks"] = json!([]))),
        ],
    ),
    vendor(
        "msteamsv2",
        |port| {
            format!(
                "msteamsv2_configs: [{{webhook_url: 'http://127.0.0.1:{port}/workflows/{HOOK}'}}]"
            )
        },
        far::msteams,
        &[
            ("another hook", |seen| seen.path.push('x')),
            ("too long", |seen| {
                at(seen, "/attachments/0/content/body/0/inlines/0/text", long("x"))
            }),
            ("markup", |seen| at(seen, "/attachments/0/content/body/0/type", "TextBlock".into())),
            ("no card", |seen| without(seen, "attachments")),
            ("a mention", |seen| {
                at(seen, "/attachments/0/content/msteams", json!({"entities": [{}]}))
            }),
        ],
    ),
    vendor(
        "discord",
        |port| {
            format!(
                "discord_configs: [{{webhook_url: 'http://127.0.0.1:{port}/api/webhooks/{HOOK}'}}]"
            )
        },
        far::discord,
        &[
            ("another hook", |seen| seen.path.push('x')),
            ("too long", |seen| at(seen, "/embeds/0/description", long("x"))),
            ("a mention", |seen| at(seen, "/allowed_mentions", json!({"parse": ["everyone"]}))),
            ("markup", |seen| at(seen, "/embeds/0/description", "[a](https://b.example)".into())),
            ("no embed", |seen| without(seen, "embeds")),
        ],
    ),
    vendor(
        "telegram",
        |port| {
            format!(
                "telegram_configs: [{{bot_token: '123456:hush-hush_bot', chat_id: -1001234, api_url: 'http://127.0.0.1:{port}'}}]"
            )
        },
        far::telegram,
        &[
            ("another bot", |seen| seen.path = "/bot1:x/sendMessage".into()),
            ("another chat", |seen| at(seen, "/chat_id", 5.into())),
            ("too long", |seen| at(seen, "/text", "😀".repeat(2049).into())),
            ("a broken tag", |seen| at(seen, "/text", "a < b".into())),
            ("a mention", |seen| at(seen, "/text", "@everyone".into())),
            ("no text", |seen| without(seen, "text")),
        ],
    ),
    vendor(
        "pagerduty",
        |port| {
            format!(
                "pagerduty_configs: [{{routing_key: '{SECRET}', url: 'http://127.0.0.1:{port}/v2/enqueue'}}]"
            )
        },
        far::pagerduty,
        &[
            ("another key", |seen| at(seen, "/routing_key", "x".into())),
            ("no dedup_key", |seen| without(seen, "dedup_key")),
            ("another action", |seen| at(seen, "/event_action", "wake".into())),
            ("another severity", |seen| at(seen, "/payload/severity", "page".into())),
            ("too long", |seen| at(seen, "/payload/summary", long("x"))),
        ],
    ),
    vendor(
        "ntfy",
        |port| {
            format!(
                "ntfy_configs: [{{topic: ops, token: '{SECRET}', api_url: 'http://127.0.0.1:{port}'}}]"
            )
        },
        far::ntfy,
        &[
            ("another token", |seen| seen.set("authorization", "Bearer x")),
            ("too long", |seen| at(seen, "/message", long("x"))),
            ("too urgent", |seen| at(seen, "/priority", 6.into())),
            ("no topic", |seen| without(seen, "topic")),
        ],
    ),
    vendor(
        "twilio",
        |port| {
            format!(
                "twilio_configs: [{{account_sid: AC0123, auth_token: '{SECRET}', from: '+15550000000', to: ['+15551111111', '+15552222222'], api_url: 'http://127.0.0.1:{port}'}}]"
            )
        },
        far::twilio,
        &[
            ("another token", |seen| seen.set("authorization", "Basic QUMwMTIzOng=")),
            ("another account", |seen| seen.path = seen.path.replace("AC0123", "AC9")),
            ("a number nobody has", |seen| in_body(seen, "To=%2B1555", "To=%2B9555")),
            ("too long", |seen| in_body(seen, "&Body=", &format!("&Body={}", "x".repeat(1600)))),
            ("no sender", |seen| in_body(seen, "From=", "Form=")),
        ],
    ),
    vendor(
        "aliyun_sms",
        |port| {
            format!(
                "aliyun_sms_configs: [{{access_key_id: LTAI0123, access_key_secret: '{SECRET}', sign_name: 达摩, template_code: SMS_1, template_param: {{alert: title, where: instance}}, phone_numbers: ['13800000000', '13900000000'], api_url: 'http://127.0.0.1:{port}/'}}]"
            )
        },
        far::aliyun,
        &[
            ("a changed number", |seen| in_query(seen, "PhoneNumbers=13", "PhoneNumbers=15")),
            ("another signature", |seen| seen.set("authorization", "ACS3-HMAC-SHA256 x")),
            ("a replay of yesterday", |seen| seen.set("x-acs-date", "2023-11-13T22:13:40Z")),
            ("a late signature", |seen| seen.set("x-acs-date", "2023-11-14T22:14:00Z")),
            ("a changed body", |seen| seen.body = b"x".to_vec()),
            ("no nonce", |seen| seen.set("x-acs-signature-nonce", "")),
        ],
    ),
    vendor(
        "tencent_sms",
        |port| {
            format!(
                "tencent_sms_configs: [{{secret_id: AKID0123, secret_key: '{SECRET}', sms_sdk_app_id: '1400000000', sign_name: 达摩, template_id: '7', template_params: [title, 'label:instance'], phone_numbers: ['+8613800000000'], api_url: 'http://127.0.0.1:{port}/'}}]"
            )
        },
        far::tencent,
        &[
            ("a changed body", |seen| at(seen, "/TemplateId", "8".into())),
            ("another signature", |seen| seen.set("authorization", "TC3-HMAC-SHA256 x")),
            ("a replay of yesterday", |seen| seen.set("x-tc-timestamp", "1699913600")),
            ("another time", |seen| seen.set("x-tc-timestamp", "1700000021")),
            ("another action", |seen| seen.set("x-tc-action", "DeleteSms")),
        ],
    ),
    vendor(
        "dingtalk",
        |port| {
            format!(
                "dingtalk_configs: [{{access_token: hush-hush-robot, secret: '{SECRET}', api_url: 'http://127.0.0.1:{port}/robot/send'}}]"
            )
        },
        far::dingtalk,
        &[
            ("another token", |seen| in_query(seen, "hush-hush-robot", "x")),
            ("a replay of yesterday", |seen| in_query(seen, "timestamp=1700", "timestamp=1699")),
            ("another signature", |seen| in_query(seen, "&sign=", "&sign=x")),
            ("no signature", |seen| seen.query = "access_token=hush-hush-robot".into()),
            ("too long", |seen| at(seen, "/text/content", long("x"))),
            ("calling everybody", |seen| at(seen, "/at/isAtAll", true.into())),
        ],
    ),
    vendor(
        "dingtalk",
        |port| {
            format!(
                "dingtalk_configs: [{{access_token: hush-hush-robot, secret: '{SECRET}', message_type: markdown, api_url: 'http://127.0.0.1:{port}/robot/send'}}]"
            )
        },
        far::dingtalk,
        &[
            ("markup", |seen| at(seen, "/markdown/text", "#### a\n[b](https://c.example)".into())),
            ("no title", |seen| at(seen, "/markdown", json!({"text": "x"}))),
        ],
    ),
    vendor(
        "feishu",
        |port| {
            format!(
                "feishu_configs: [{{secret: '{SECRET}', api_url: 'http://127.0.0.1:{port}/open-apis/bot/v2/hook/{HOOK}'}}]"
            )
        },
        far::feishu,
        &[
            ("another hook", |seen| seen.path.push('x')),
            ("another signature", |seen| at(seen, "/sign", "x".into())),
            ("no signature", |seen| without(seen, "sign")),
            ("a replay of yesterday", |seen| at(seen, "/timestamp", "1699913620".into())),
            ("too long", |seen| at(seen, "/card/header/title/content", long("x"))),
            ("markup", |seen| at(seen, "/card/elements/0/text/tag", "lark_md".into())),
        ],
    ),
    vendor(
        "wecom",
        |port| {
            format!(
                "wecom_configs: [{{key: hush-hush-key, api_url: 'http://127.0.0.1:{port}/cgi-bin/webhook/send'}}]"
            )
        },
        far::wecom,
        &[
            ("another key", |seen| in_query(seen, "hush", "push")),
            ("too long", |seen| at(seen, "/text/content", long("x"))),
            ("no text", |seen| without(seen, "text")),
        ],
    ),
    vendor(
        "wecom",
        |port| {
            format!(
                "wecom_configs: [{{key: hush-hush-key, message_type: markdown, api_url: 'http://127.0.0.1:{port}/cgi-bin/webhook/send'}}]"
            )
        },
        far::wecom,
        &[("a mention", |seen| at(seen, "/markdown/content", "<@all>".into()))],
    ),
    vendor(
        "wechat",
        |port| {
            format!(
                "wechat_configs: [{{corp_id: ww1, agent_id: '7', api_secret: '{SECRET}', to_user: ops, api_url: 'http://127.0.0.1:{port}/cgi-bin/'}}]"
            )
        },
        far::wechat,
        &[
            ("a stale token", |seen| in_query(seen, "token-of", "token-on")),
            ("another application", |seen| at(seen, "/agentid", "8".into())),
            ("nobody", |seen| at(seen, "/touser", "".into())),
            ("too long", |seen| at(seen, "/text/content", long("x"))),
        ],
    ),
];

pub fn channel(kind: &str) -> String {
    format!("ops/{kind}[0]")
}

async fn told(vendor: &Vendor, message: &Message) -> (daruma_model::Attempt, Vec<Seen>, Sender) {
    let (port, seen) = far_side(vendor.stand_in).await;
    let sender = sender(&(vendor.config)(port));
    let attempt = sender.send(message, 1).await;
    let seen = seen.lock().unwrap().clone();
    (attempt, seen, sender)
}

#[tokio::test]
async fn every_vendor_takes_our_message_and_refuses_a_broken_one() {
    for vendor in VENDORS {
        let message = message(&channel(vendor.kind), "web is down", "03:04 down\n03:05 still down");
        let (attempt, seen, sender) = told(vendor, &message).await;
        let said = &attempt.said;
        assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}: {said}", vendor.kind);
        let mut warnings = sender.warnings("HostIsDown");
        // Some take so little that a title never fits.
        warnings.retain(|warning| !warning.contains("`title` is cut to"));
        assert_eq!(warnings, [""; 0]);
        let good = seen.last().unwrap();
        let declared = DECLARED.iter().find(|declared| declared.kind == vendor.kind).unwrap();
        for (what, breaks) in vendor.broken {
            let mut broken = good.clone();
            breaks(&mut broken);
            let Reply(status, _, body) = (vendor.stand_in)(&broken);
            let verdict = declared.answers.judge(status, &body).verdict;
            let refused = verdict != daruma_notify::Verdict::Accepted;
            assert!(refused, "{}: {what} was taken: {status} {body}", vendor.kind);
        }
        let Reply(status, _, body) = (vendor.stand_in)(good);
        let verdict = declared.answers.judge(status, &body).verdict;
        assert_eq!(verdict, daruma_notify::Verdict::Accepted, "{body}");
    }
}

/// Text that would call everybody, break out of its field, or be far too long by every measure.
#[tokio::test]
async fn no_text_becomes_markup_a_mention_or_too_long() {
    let hostile = [
        "<!channel> <!everyone> <@U012> <https://evil.example|ok>".to_owned(),
        "@all @everyone @here <at user_id=\"all\">x</at> <@all>".to_owned(),
        "</b><a href=\"https://evil.example\">x</a> &lt; & &amp;".to_owned(),
        "[x](https://evil.example) ![x](https://evil.example/p.png) **b** _i_ `c`".to_owned(),
        "# heading\n> quote\n- item\n1. item\n| a | b |\n---\n~~~\n```".to_owned(),
        "\u{202e}esrever \u{0} \u{1b}[2J \u{7} \r\n\r\nX: y \\ \" ' {{ . }} ${x} $(x)".to_owned(),
        "http://10.0.0.1:80/x?y=1&z=2#3 bob@evil.example 【sign】".to_owned(),
        String::new(),
        " \n\t ".to_owned(),
        "x".repeat(200_000),
        "😀".repeat(60_000),
        "<&>\"\\\n".repeat(30_000),
        "@a".repeat(30_000),
        "中文".repeat(30_000),
        "\\*_".repeat(30_000),
    ];
    for vendor in VENDORS {
        for text in &hostile {
            let message = message(&channel(vendor.kind), text, text);
            let (attempt, ..) = told(vendor, &message).await;
            let (said, start) = (&attempt.said, text.chars().take(40).collect::<String>());
            assert_eq!(
                attempt.outcome,
                AttemptOutcome::Accepted,
                "{}: {start}: {said}",
                vendor.kind
            );
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_an_alert_says_every_vendor_takes_it(text in "[<>&@*_`\\\\\\[\\]()#!|~\"'.:/\n a-f\u{4e00}\u{1f600}]{0,300}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for vendor in VENDORS {
                let message = message(&channel(vendor.kind), &text, &text);
                let (attempt, ..) = told(vendor, &message).await;
                let said = &attempt.said;
                assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}: {said}", vendor.kind);
            }
        });
    }
}

#[tokio::test]
async fn a_vendor_that_asks_for_patience_is_left_alone_for_so_long() {
    for vendor in VENDORS {
        let (port, seen) =
            far_side(|_| Reply(429, "retry-after: 3600\r\n".into(), "slow down".into())).await;
        let sender = sender(&(vendor.config)(port));
        let message = message(&channel(vendor.kind), "web is down", "");
        let first = sender.send(&message, 1).await;
        assert_eq!(first.outcome, AttemptOutcome::Retry, "{}: {}", vendor.kind, first.said);
        let asked = seen.lock().unwrap().len();
        let hour = daruma_model::Span::secs(3600);
        assert!(first.retry_after >= Some(hour), "{}: {:?}", vendor.kind, first.retry_after);
        if vendor.kind == "wechat" {
            continue; // Its login is not counted by the vendor.
        }
        let second = sender.send(&message, 2).await;
        assert_eq!(second.outcome, AttemptOutcome::Retry, "{}: {}", vendor.kind, second.said);
        assert!(second.said.contains("held back") && second.retry_after >= Some(hour));
        assert_eq!(seen.lock().unwrap().len(), asked, "{}", vendor.kind);
    }
}

#[tokio::test]
async fn slack_changes_the_message_it_has_and_sends_a_new_one_when_it_is_gone() {
    let forgetful = |seen: &Seen| {
        let over = seen.json()["attachments"][0]["title"] == "gone";
        let update = seen.path.ends_with("update");
        if over && update {
            return Reply::json(200, json!({"ok": false, "error": "message_not_found"}));
        }
        far::slack_api(seen)
    };
    let (port, seen) = far_side(forgetful).await;
    let sender = sender(&(VENDORS[1].config)(port));
    for (title, outcome, path) in [
        ("down", AttemptOutcome::Accepted, "/api/chat.postMessage"),
        ("still down", AttemptOutcome::Accepted, "/api/chat.update"),
        ("gone", AttemptOutcome::Retry, "/api/chat.update"),
        ("gone", AttemptOutcome::Accepted, "/api/chat.postMessage"),
    ] {
        let attempt = sender.send(&message("ops/slack[0]", title, ""), 1).await;
        assert_eq!(attempt.outcome, outcome, "{title}: {}", attempt.said);
        assert_eq!(seen.lock().unwrap().last().unwrap().path, path, "{title}");
    }
}

#[tokio::test]
async fn whoever_has_the_text_message_is_not_told_twice() {
    let (port, seen) = far_side(|seen| {
        let second = String::from_utf8_lossy(&seen.body).contains("2222222");
        let busy = second && seen.get("x-busy").is_empty();
        if busy { Reply::json(429, json!({"code": 20429})) } else { far::twilio(seen) }
    })
    .await;
    let twilio = VENDORS.iter().find(|vendor| vendor.kind == "twilio").unwrap();
    let sender = sender(&(twilio.config)(port));
    let message = message("ops/twilio[0]", "web is down", "");
    let first = sender.send(&message, 1).await;
    assert_eq!(first.outcome, AttemptOutcome::Retry, "{}", first.said);
    assert!(first.said.starts_with("+15552222222: 429"), "{}", first.said);
    assert_eq!(sender.send(&message, 2).await.outcome, AttemptOutcome::Retry);
    let numbers: Vec<bool> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|seen| String::from_utf8_lossy(&seen.body).contains("1111111"))
        .collect();
    assert_eq!(numbers, [true, false, false]);
}

#[tokio::test]
async fn a_token_that_ran_out_is_asked_for_again() {
    let (port, seen) = far_side(|seen| {
        let old = Reply::json(200, json!({"errcode": 0, "access_token": "old"}));
        let first = seen.method == "GET" && seen.get("x").is_empty();
        if first && LOGINS.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            return old;
        }
        far::wechat(seen)
    })
    .await;
    static LOGINS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let wechat = VENDORS.iter().find(|vendor| vendor.kind == "wechat").unwrap();
    let sender = sender(&(wechat.config)(port));
    let message = message("ops/wechat[0]", "web is down", "");
    let first = sender.send(&message, 1).await;
    assert_eq!(first.outcome, AttemptOutcome::Retry, "{}", first.said);
    let second = sender.send(&message, 2).await;
    assert_eq!(second.outcome, AttemptOutcome::Accepted, "{}", second.said);
    assert_eq!(sender.send(&message, 3).await.outcome, AttemptOutcome::Accepted);
    let logins = seen.lock().unwrap().iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(logins, 2);
}

#[tokio::test]
async fn pagerduty_hears_of_one_incident_from_its_beginning_to_its_end() {
    let vendor = VENDORS.iter().find(|vendor| vendor.kind == "pagerduty").unwrap();
    let (port, seen) = far_side(vendor.stand_in).await;
    let sender = sender(&(vendor.config)(port));
    let down = message("ops/pagerduty[0]", "web is down", "");
    let up = Message { status: MessageStatus::Resolved, id: 18, ..down.clone() };
    assert_eq!(sender.send(&down, 1).await.outcome, AttemptOutcome::Accepted);
    let acked = sender.acknowledge(&down).await.unwrap();
    assert_eq!(acked.outcome, AttemptOutcome::Accepted, "{}", acked.said);
    assert_eq!(sender.send(&up, 1).await.outcome, AttemptOutcome::Accepted);
    let bodies: Vec<Value> = seen.lock().unwrap().iter().map(Seen::json).collect();
    let actions: Vec<&str> = bodies.iter().map(|b| b["event_action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
    assert!(bodies.iter().all(|body| body["dedup_key"] == bodies[0]["dedup_key"]));
    assert_eq!(bodies[0]["payload"]["severity"], "critical");
    let slack = super::sender("slack_configs: [{api_url: 'http://127.0.0.1:9/x'}]");
    assert!(slack.acknowledge(&message("ops/slack[0]", "", "")).await.is_none());
}

#[tokio::test]
async fn a_test_message_says_so_and_gives_the_line_for_the_ledger() {
    for vendor in VENDORS {
        let (port, seen) = far_side(vendor.stand_in).await;
        let sender = sender(&(vendor.config)(port));
        let attempt = sender.send_test(&channel(vendor.kind), MessageStatus::Firing).await;
        assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}: {}", vendor.kind, attempt.said);
        let seen = seen.lock().unwrap().last().unwrap().all();
        assert!(seen.contains("TEST"), "{seen}");
    }
}

/// What the manual shows can be written so, and it shows every channel.
#[test]
fn the_manual_shows_every_channel_as_it_is() {
    let manual = include_str!("../../../../docs/receivers.md");
    let yaml = manual.split("```yaml\nname: ops\n").nth(1).unwrap().split("```").next().unwrap();
    let channels = receiver(yaml).unwrap().channels();
    for declared in DECLARED {
        let kind = declared.kind;
        assert!(channels.iter().any(|(name, _)| *name == channel(kind)), "{kind} is not shown");
        assert!(manual.contains(&format!("\n| {kind} |")), "{kind} is not in the table");
    }
}

/// A template that fails gives way to built-in words, and the ledger says so.
#[tokio::test]
async fn own_words_are_sent_if_they_can_be_had_and_never_keep_a_message_back() {
    let (port, seen) = far_side(|_| Reply::text(200, "")).await;
    let webhook = |body: &str| {
        let body = serde_json::to_string(body).unwrap();
        sender(&format!(
            "webhook_configs: [{{url: 'http://127.0.0.1:{port}/', body: {body}, secret: k}}]"
        ))
    };
    let it = message("ops/webhook[0]", "a \"quoted\" word", "x");
    let own = r#"{"alarm": "{{ .Title }}", "words": {{ template "words" . }}}"#;
    let mut templates = daruma_template::Templates::built_in();
    templates.add("own.tmpl", "{{ define \"words\" }}[{{ .Text }}]{{ end }}").unwrap();
    let with = webhook(own).with_templates(templates).send(&it, 1).await;
    assert_eq!(with.outcome, AttemptOutcome::Accepted, "{}", with.said);
    let failing = webhook("{{ fail }}");
    let why = "built-in words for `body`: 1:4: function \"fail\" not defined";
    assert_eq!(failing.warnings("HostIsDown"), [format!("ops/webhook[0]: {why}")]);
    let failed = failing.send(&it, 1).await;
    assert_eq!(failed.outcome, AttemptOutcome::Accepted, "{}", failed.said);
    assert!(failed.said.contains("built-in words for `body`"), "{}", failed.said);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].json(), json!({"alarm": "a \"quoted\" word", "words": ["x"]}));
    let signed = daruma_notify::signature(b"k", &seen[0].body);
    assert_eq!(seen[0].get("x-daruma-signature"), signed);
    assert_eq!(seen[1].json()["version"], json!("4"));
}

#[test]
fn a_channel_is_a_file_and_a_line_in_the_list_and_is_tried_here() {
    let elsewhere = ["webhook", "email", "exec", "web_push"];
    for (kind, declared) in CHANNELS.iter().zip(DECLARED) {
        assert_eq!(*kind, declared.kind);
        let here = VENDORS.iter().any(|vendor| vendor.kind == *kind);
        assert!(here || elsewhere.contains(kind), "{kind} has no test");
        let key = format!("{kind}_configs");
        let error = receiver(&format!("{key}: [{{no_such_key: 1}}]")).expect_err(kind);
        assert!(error.contains("no_such_key"), "{kind}: {error}");
        assert!(
            !declared.auth.is_empty() && !receiver(&format!("{key}: []")).unwrap().name.is_empty()
        );
    }
    assert_eq!(CHANNELS.len(), DECLARED.len());
}
