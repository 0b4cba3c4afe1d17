//! Vendors as their documentation describes them, and stricter: whatever is not documented, too long,
//! unsigned, late or marked up is refused, in the vendor's own way of refusing.
//!
//! Signatures are computed here a second time, by another implementation.

use ring::{digest, hmac};
use serde_json::{Value, json};

use super::NOW;
use super::server::{Reply, Seen, fields};

pub const SECRET: &str = "hush/hush+key==42";
pub const HOOK: &str = "T0000000/B0000000/hushhushhush";

type Check = Result<(), &'static str>;

fn need(holds: bool, why: &'static str) -> Check {
    if holds { Ok(()) } else { Err(why) }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let six = |six: &[u8]| (0..6).fold(0, |sum, i| sum * 2 + six.get(i).copied().unwrap_or(0));
    let mut text: String =
        bits.chunks(6).map(|chunk| char::from(LETTERS[usize::from(six(chunk))])).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac256(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn only(value: &Value, names: &[&str]) -> bool {
    value.as_object().is_some_and(|fields| fields.keys().all(|key| names.contains(&key.as_str())))
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn posted(seen: &Seen, kind: &str) -> Check {
    need(seen.method == "POST", "method")?;
    need(seen.get("content-type").starts_with(kind), "content-type")
}

fn slack_body(body: &Value) -> Check {
    let known = [
        "attachments",
        "link_names",
        "parse",
        "text",
        "channel",
        "username",
        "ts",
        "icon_emoji",
        "icon_url",
    ];
    need(only(body, &known), "no_text")?;
    let attachments = body["attachments"].as_array().ok_or("no_text")?;
    need(attachments.len() == 1, "no_text")?;
    let it = &attachments[0];
    need(!text(it, "/fallback").is_empty() && !text(it, "/title").is_empty(), "no_text")?;
    need(text(it, "/title").chars().count() <= 1024, "msg_too_long")?;
    need(text(it, "/text").chars().count() <= 4000, "msg_too_long")?;
    // Whatever begins with `<` calls, links or calls everybody; nothing here may.
    let words = ["/title", "/text", "/fallback"].map(|at| text(it, at)).join(" ");
    need(!words.contains(['<', '>']), "markup")?;
    let entities = words.matches('&').count();
    let known = ["&amp;", "&lt;", "&gt;"].iter().map(|e| words.matches(e).count()).sum::<usize>();
    need(entities == known, "markup")?;
    let markup = it["mrkdwn_in"].as_array().ok_or("markup")?;
    need(!markup.contains(&json!("text")), "markup")
}

pub fn slack_hook(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == format!("/services/{HOOK}"), "no_service")?;
        slack_body(&seen.json())
    };
    match judge() {
        Ok(()) => Reply::text(200, "ok"),
        Err("no_service") => Reply::text(404, "no_service"),
        Err(why) => Reply::text(400, why),
    }
}

pub fn slack_api(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json; charset=utf-8")?;
        need(seen.get("authorization") == format!("Bearer {SECRET}"), "invalid_auth")?;
        let body = seen.json();
        match seen.path.as_str() {
            "/api/chat.postMessage" => need(body["channel"] == "#ops", "channel_not_found")?,
            "/api/chat.update" => need(
                body["channel"] == "C024BE91L" && body["ts"] == "1401383885.000061",
                "message_not_found",
            )?,
            _ => return Err("unknown_method"),
        }
        slack_body(&body)
    };
    match judge() {
        Ok(()) => {
            Reply::json(200, json!({"ok": true, "channel": "C024BE91L", "ts": "1401383885.000061"}))
        }
        Err(why) => Reply::json(200, json!({"ok": false, "error": why})),
    }
}

pub fn msteams(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == format!("/workflows/{HOOK}"), "DirectApiAuthorizationRequired")?;
        need(seen.body.len() <= 28 * 1024, "too long")?;
        let body = seen.json();
        need(only(&body, &["type", "attachments"]) && body["type"] == "message", "type")?;
        let it = &body["attachments"][0];
        need(it["contentType"] == "application/vnd.microsoft.card.adaptive", "contentType")?;
        let card = &it["content"];
        need(only(card, &["$schema", "type", "version", "msteams", "body", "actions"]), "card")?;
        need(card["type"] == "AdaptiveCard" && card["version"] == "1.4", "card")?;
        let blocks = card["body"].as_array().ok_or("body")?;
        need(!blocks.is_empty(), "body")?;
        for block in blocks {
            // Anything else reads Markdown.
            need(block["type"] == "RichTextBlock" && only(block, &["type", "inlines"]), "markup")?;
            need(block["inlines"][0]["type"] == "TextRun", "markup")?;
            need(!text(block, "/inlines/0/text").contains('\n'), "line end")?;
        }
        need(card["msteams"]["entities"].is_null(), "mention")
    };
    match judge() {
        Ok(()) => Reply::text(202, ""),
        Err(why) => Reply::json(400, json!({"error": {"code": why}})),
    }
}

pub fn discord(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == format!("/api/webhooks/{HOOK}") && seen.query == "wait=true", "10015")?;
        let body = seen.json();
        need(
            only(&body, &["embeds", "allowed_mentions", "content", "username", "avatar_url"]),
            "50035",
        )?;
        need(body["allowed_mentions"] == json!({"parse": []}), "mention")?;
        let embed = &body["embeds"][0];
        need(only(embed, &["title", "description", "color", "url"]), "50035")?;
        let units = |at| text(embed, at).encode_utf16().count();
        need((1..=256).contains(&units("/title")) && units("/description") <= 4096, "50035")?;
        let mut rest = text(embed, "/description").chars();
        while let Some(c) = rest.next() {
            need(!"*_~`|<>[]#@".contains(c), "markup")?;
            if c == '\\' {
                rest.next();
            }
        }
        Ok(())
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"id": "1061234"})),
        Err("10015") => Reply::json(404, json!({"message": "Unknown Webhook", "code": 10015})),
        Err(why) => Reply::json(400, json!({"message": why, "code": 50035})),
    }
}

/// Telegram's HTML: a few tags, closed in order, and four entities.
fn telegram_html(html: &str) -> Check {
    let (mut open, mut rest) = (Vec::new(), html);
    while let Some(at) = rest.find(['<', '>', '&', '@']) {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('@') {
            need(!after.starts_with(|c: char| c.is_alphanumeric()), "mention")?;
            rest = after;
        } else if rest.starts_with('&') {
            let end = rest.find(';').ok_or("entity")?;
            need(["&lt;", "&gt;", "&amp;", "&quot;"].contains(&&rest[..=end]), "entity")?;
            rest = &rest[end..];
        } else {
            let end = rest.find('>').ok_or("tag")?;
            match &rest[1..end] {
                "b" => open.push("b"),
                tag if tag.starts_with("a href=\"https://daruma.example.org/") => open.push("a"),
                tag => need(tag.strip_prefix('/').is_some_and(|t| open.pop() == Some(t)), "tag")?,
            }
            rest = &rest[end + 1..];
        }
    }
    need(open.is_empty(), "tag")
}

pub fn telegram(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == "/bot123456:hush-hush_bot/sendMessage", "token")?;
        let body = seen.json();
        let known = [
            "chat_id",
            "text",
            "parse_mode",
            "disable_notification",
            "message_thread_id",
            "link_preview_options",
        ];
        need(only(&body, &known), "field")?;
        need(body["chat_id"] == -1_001_234, "chat not found")?;
        need((1..=4096).contains(&text(&body, "/text").encode_utf16().count()), "too long")?;
        need(body["parse_mode"] == "HTML", "parse_mode")?;
        telegram_html(text(&body, "/text"))
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"ok": true, "result": {"message_id": 5}})),
        Err("token") => {
            Reply::json(404, json!({"ok": false, "error_code": 404, "description": "Not Found"}))
        }
        Err(why) => Reply::json(400, json!({"ok": false, "error_code": 400, "description": why})),
    }
}

pub fn pagerduty(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == "/v2/enqueue", "path")?;
        need(seen.body.len() <= 512 * 1024, "too long")?;
        let body = seen.json();
        need(body["routing_key"] == SECRET, "routing_key")?;
        let key = text(&body, "/dedup_key").len();
        need((1..=255).contains(&key), "dedup_key")?;
        match text(&body, "/event_action") {
            "acknowledge" => return Ok(()),
            "trigger" | "resolve" => {}
            _ => return Err("event_action"),
        }
        need((1..=1024).contains(&text(&body, "/payload/summary").chars().count()), "summary")?;
        need(!text(&body, "/payload/source").is_empty(), "source")?;
        let severity = text(&body, "/payload/severity");
        need(["critical", "error", "warning", "info"].contains(&severity), "severity")
    };
    match judge() {
        Ok(()) => {
            Reply::json(202, json!({"status": "success", "dedup_key": seen.json()["dedup_key"]}))
        }
        Err(why) => Reply::json(400, json!({"status": "invalid event", "errors": [why]})),
    }
}

pub fn ntfy(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        need(seen.path == "/", "path")?;
        need(seen.get("authorization") == format!("Bearer {SECRET}"), "auth")?;
        let body = seen.json();
        need(only(&body, &["topic", "title", "message", "priority", "tags", "click"]), "field")?;
        need(body["topic"] == "ops", "topic")?;
        need((1..=4096).contains(&text(&body, "/message").len()), "too long")?;
        need(!text(&body, "/title").contains('\n'), "title")?;
        need(body["priority"].as_u64().is_some_and(|p| (1..=5).contains(&p)), "priority")
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"id": "x7", "event": "message", "topic": "ops"})),
        Err("auth") => Reply::json(403, json!({"code": 40301, "http": 403, "error": "forbidden"})),
        Err(why) => Reply::json(400, json!({"code": 40024, "http": 400, "error": why})),
    }
}

pub fn twilio(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/x-www-form-urlencoded")?;
        need(seen.path == "/2010-04-01/Accounts/AC0123/Messages.json", "20404")?;
        let basic = format!("Basic {}", base64(format!("AC0123:{SECRET}").as_bytes()));
        need(seen.get("authorization") == basic, "20003")?;
        let all = fields(&String::from_utf8_lossy(&seen.body));
        let field = |name: &str| {
            all.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default()
        };
        need(field("From") == "+15550000000", "21606")?;
        need(["+15551111111", "+15552222222"].contains(&field("To")), "21211")?;
        let body = field("Body");
        need(!body.is_empty(), "21602")?;
        need(body.chars().count() <= 1600, "21617")?;
        need(!body.is_ascii() || body.len() <= 459, "21617")?;
        need(body.is_ascii() || body.encode_utf16().count() <= 201, "21617")
    };
    match judge() {
        Ok(()) => Reply::json(201, json!({"sid": "SM0123", "status": "queued"})),
        Err(why) => {
            let status = if why == "20003" { 401 } else { 400 };
            Reply::json(status, json!({"code": why.parse::<i64>().unwrap_or(0), "status": status}))
        }
    }
}

/// Variables of a template: present, short, and nothing like an address.
fn variable(value: &str, chars_max: usize) -> Check {
    need(!value.is_empty() && value.chars().count() <= chars_max, "isv.PARAM_LENGTH_LIMIT")?;
    let chars: Vec<char> = value.chars().collect();
    let link = chars
        .windows(3)
        .any(|w| w[0].is_alphanumeric() && ".@".contains(w[1]) && w[2].is_alphanumeric());
    need(!link && !value.contains("://") && !value.contains('\n'), "isv.TEMPLATE_PARAMS_ILLEGAL")
}

/// The action that is asked for, of a request as the vendor's description wants it signed.
fn aliyun_signed(seen: &Seen) -> Result<&str, &'static str> {
    need(seen.method == "POST" && seen.path == "/", "InvalidAction")?;
    let date: jiff::Timestamp =
        seen.get("x-acs-date").parse().map_err(|_| "InvalidTimeStamp.Format")?;
    need((date.as_second() - NOW).abs() <= 900, "InvalidTimeStamp.Expired")?;
    need(seen.get("x-acs-version") == "2017-05-25", "InvalidVersion")?;
    need(seen.get("x-acs-signature-nonce").len() >= 16, "SignatureNonceMissing")?;
    let signed = [
        "host",
        "x-acs-action",
        "x-acs-content-sha256",
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-version",
    ];
    let lines: String = signed.iter().map(|name| format!("{name}:{}\n", seen.get(name))).collect();
    let mut pairs: Vec<&str> = seen.query.split('&').collect();
    pairs.sort_unstable();
    let (names, hash) = (signed.join(";"), sha256(&seen.body));
    let canonical = format!("POST\n/\n{}\n{lines}\n{names}\n{hash}", pairs.join("&"));
    let text = format!("ACS3-HMAC-SHA256\n{}", sha256(canonical.as_bytes()));
    let signature = hex(&hmac256(SECRET.as_bytes(), text.as_bytes()));
    let want =
        format!("ACS3-HMAC-SHA256 Credential=LTAI0123,SignedHeaders={names},Signature={signature}");
    need(seen.get("authorization") == want, "SignatureDoesNotMatch")?;
    Ok(seen.get("x-acs-action"))
}

fn aliyun_refuses(why: &str) -> Reply {
    let status = if why.starts_with("isv.") { 200 } else { 400 };
    Reply::json(status, json!({"Code": why, "Message": why, "RequestId": "1"}))
}

fn field(fields: &[(String, String)], name: &str) -> String {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
}

pub fn aliyun(seen: &Seen) -> Reply {
    let judge = || -> Check {
        need(aliyun_signed(seen)? == "SendSms", "InvalidAction")?;
        let all = seen.query_fields();
        let field = |name: &str| field(&all, name);
        let numbers = ["13800000000", "13900000000"];
        need(numbers.contains(&&*field("PhoneNumbers")), "isv.MOBILE_NUMBER_ILLEGAL")?;
        need(field("SignName") == "达摩", "isv.SMS_SIGNATURE_ILLEGAL")?;
        need(field("TemplateCode") == "SMS_1", "isv.SMS_TEMPLATE_ILLEGAL")?;
        let param: Value = serde_json::from_str(&field("TemplateParam"))
            .map_err(|_| "isv.TEMPLATE_PARAMS_ILLEGAL")?;
        for name in ["alert", "where"] {
            variable(param[name].as_str().ok_or("isv.TEMPLATE_MISSING_PARAMETERS")?, 35)?;
        }
        Ok(())
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"Code": "OK", "Message": "OK", "BizId": "9^0"})),
        Err(why) => aliyun_refuses(why),
    }
}

/// `QuerySendDetails`: what became of messages to one number on one of the vendor's days, where
/// `became` has its status and code by `OutId`.
pub fn aliyun_details(seen: &Seen, day: &str, became: &[(String, i64, &str)]) -> Reply {
    let judge = || -> Check {
        need(aliyun_signed(seen)? == "QuerySendDetails", "InvalidAction")?;
        let all = seen.query_fields();
        let field = |name: &str| field(&all, name);
        let numbers = ["13800000000", "13900000000"];
        need(numbers.contains(&&*field("PhoneNumber")), "isv.MOBILE_NUMBER_ILLEGAL")?;
        need(field("SendDate") == day, "isv.INVALID_PARAMETERS")?;
        need(field("CurrentPage").parse::<u32>().is_ok_and(|n| n > 0), "isv.INVALID_PARAMETERS")?;
        let size = field("PageSize").parse::<u32>();
        need(size.is_ok_and(|n| (1..=50).contains(&n)), "isv.INVALID_PARAMETERS")
    };
    if let Err(why) = judge() {
        return aliyun_refuses(why);
    }
    let number = field(&seen.query_fields(), "PhoneNumber");
    let details = became.iter().map(|(id, status, code)| {
        json!({
            "OutId": id, "SendStatus": status, "ErrCode": code, "PhoneNum": number,
            "TemplateCode": "SMS_1", "Content": "【达摩】", "SendDate": "2023-11-15 06:13:20",
        })
    });
    let details: Vec<Value> = details.collect();
    Reply::json(
        200,
        json!({
            "Code": "OK", "Message": "OK", "TotalCount": details.len().to_string(),
            "SmsSendDetailDTOs": {"SmsSendDetailDTO": details},
        }),
    )
}

/// The action that is asked for, of a request as the vendor's description wants it signed.
fn tencent_signed(seen: &Seen) -> Result<&str, &'static str> {
    posted(seen, "application/json; charset=utf-8").map_err(|_| "InvalidParameter")?;
    need(seen.get("x-tc-version") == "2021-01-11", "NoSuchVersion")?;
    need(seen.get("x-tc-region") == "ap-guangzhou", "UnsupportedRegion")?;
    let seconds: i64 = seen.get("x-tc-timestamp").parse().map_err(|_| "InvalidParameter")?;
    need((seconds - NOW).abs() <= 300, "AuthFailure.SignatureExpire")?;
    let date = jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%d").to_string();
    let action = seen.get("x-tc-action");
    let lines = format!(
        "content-type:{}\nhost:{}\nx-tc-action:{}\n",
        seen.get("content-type"),
        seen.get("host"),
        action.to_lowercase()
    );
    let names = "content-type;host;x-tc-action";
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256(&seen.body));
    let scope = format!("{date}/sms/tc3_request");
    let text = format!("TC3-HMAC-SHA256\n{seconds}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let key = hmac256(format!("TC3{SECRET}").as_bytes(), date.as_bytes());
    let key = hmac256(&hmac256(&key, b"sms"), b"tc3_request");
    let want = format!(
        "TC3-HMAC-SHA256 Credential=AKID0123/{scope}, SignedHeaders={names}, Signature={}",
        hex(&hmac256(&key, text.as_bytes()))
    );
    need(seen.get("authorization") == want, "AuthFailure.SignatureFailure")?;
    Ok(action)
}

fn tencent_refuses(why: &str) -> Reply {
    Reply::json(200, json!({"Response": {"Error": {"Code": why, "Message": why}}}))
}

pub fn tencent(seen: &Seen) -> Reply {
    let judge = || -> Check {
        need(tencent_signed(seen)? == "SendSms", "InvalidAction")?;
        let body = seen.json();
        let known = [
            "PhoneNumberSet",
            "SmsSdkAppId",
            "SignName",
            "TemplateId",
            "TemplateParamSet",
            "SessionContext",
        ];
        need(only(&body, &known), "UnknownParameter")?;
        need(body["SmsSdkAppId"] == "1400000000" && body["TemplateId"] == "7", "InvalidParameter")?;
        for value in body["TemplateParamSet"].as_array().ok_or("MissingParameter")? {
            variable(value.as_str().unwrap_or_default(), 12)
                .map_err(|_| "InvalidParameterValue.TemplateParameterLengthLimit")?;
        }
        Ok(())
    };
    match judge() {
        Ok(()) => {
            let known = seen.json()["PhoneNumberSet"] == json!(["+8613800000000"]);
            let code = if known { "Ok" } else { "InvalidParameterValue.IncorrectPhoneNumber" };
            Reply::json(
                200,
                json!({"Response": {"SendStatusSet": [{"Code": code, "SerialNo": "1"}]}}),
            )
        }
        Err(why) => tencent_refuses(why),
    }
}

/// `PullSmsSendStatusByPhoneNumber`: what became of messages to one number since a time, where
/// `became` has its status and words by `SessionContext`.
pub fn tencent_status(seen: &Seen, sent: i64, became: &[(String, &str, &str)]) -> Reply {
    let judge = || -> Check {
        need(tencent_signed(seen)? == "PullSmsSendStatusByPhoneNumber", "InvalidAction")?;
        let body = seen.json();
        let known = ["BeginTime", "EndTime", "Offset", "Limit", "PhoneNumber", "SmsSdkAppId"];
        need(only(&body, &known), "UnknownParameter")?;
        need(body["SmsSdkAppId"] == "1400000000", "InvalidParameter")?;
        need(body["PhoneNumber"] == "+8613800000000", "InvalidParameter")?;
        need(body["Offset"] == 0, "InvalidParameter")?;
        need(body["Limit"].as_u64().is_some_and(|n| (1..=100).contains(&n)), "InvalidParameter")?;
        let begin = body["BeginTime"].as_i64().ok_or("MissingParameter")?;
        need(begin > NOW - 7 * 86_400 && begin <= sent, "InvalidParameterValue.BeginTime")
    };
    if let Err(why) = judge() {
        return tencent_refuses(why);
    }
    let all = became.iter().map(|(id, status, words)| {
        json!({
            "SessionContext": id, "ReportStatus": status, "Description": words, "SerialNo": "1",
            "PhoneNumber": "+8613800000000", "CountryCode": "86", "UserReceiveTime": NOW,
        })
    });
    let all: Vec<Value> = all.collect();
    Reply::json(200, json!({"Response": {"PullSmsSendStatusSet": all, "RequestId": "1"}}))
}

pub fn dingtalk(seen: &Seen) -> Reply {
    let judge = || -> Check {
        posted(seen, "application/json")?;
        let all = seen.query_fields();
        let field = |name: &str| {
            all.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default()
        };
        need(seen.path == "/robot/send" && field("access_token") == "hush-hush-robot", "token")?;
        let millis: i64 = field("timestamp").parse().map_err(|_| "sign not match")?;
        need((millis - NOW * 1000).abs() <= 3_600_000, "invalid timestamp")?;
        let sign = hmac256(SECRET.as_bytes(), format!("{millis}\n{SECRET}").as_bytes());
        need(field("sign") == base64(&sign), "sign not match")?;
        need(seen.body.len() <= 20_000, "too long")?;
        let body = seen.json();
        need(body["at"]["isAtAll"] == false, "everybody")?;
        match text(&body, "/msgtype") {
            "text" => need(!text(&body, "/text/content").is_empty(), "no content"),
            "markdown" => {
                need(!text(&body, "/markdown/title").is_empty(), "no title")?;
                let words = text(&body, "/markdown/text");
                // Our own marks: the heading, and the link at the end.
                let words = words.strip_prefix("#### ").ok_or("markup")?;
                let words = words.split("\n\n[https://daruma.example.org/").next().unwrap();
                need(!words.contains(['*', '_', '[', ']', '`', '#', '!', '>', '<', '@']), "markup")
            }
            _ => Err("msgtype"),
        }
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"errcode": 0, "errmsg": "ok"})),
        Err("token") => {
            Reply::json(200, json!({"errcode": 300_001, "errmsg": "token is not exist"}))
        }
        Err(why) => Reply::json(200, json!({"errcode": 310_000, "errmsg": why})),
    }
}

pub fn feishu(seen: &Seen) -> Reply {
    let judge = || -> Result<(), i64> {
        posted(seen, "application/json").map_err(|_| 9499)?;
        let hook = seen.path == format!("/open-apis/bot/v2/hook/{HOOK}");
        need(hook, "").map_err(|_| 19001)?;
        need(seen.body.len() <= 20 * 1024, "").map_err(|_| 9499)?;
        let body = seen.json();
        let seconds: i64 = text(&body, "/timestamp").parse().map_err(|_| 19021)?;
        let sign = base64(&hmac256(format!("{seconds}\n{SECRET}").as_bytes(), b""));
        if (seconds - NOW).abs() > 3600 || body["sign"] != sign {
            return Err(19021);
        }
        let card = &body["card"];
        let plain = |value: &Value| value["tag"] == "plain_text" && value["content"].is_string();
        let fits = body["msg_type"] == "interactive"
            && only(&body, &["msg_type", "card", "timestamp", "sign"])
            && plain(&card["header"]["title"])
            && card["elements"].as_array().is_some_and(|all| {
                all.iter().all(|e| plain(&e["text"]) || plain(&e["actions"][0]["text"]))
            });
        if fits { Ok(()) } else { Err(19002) }
    };
    match judge() {
        Ok(()) => Reply::json(200, json!({"code": 0, "data": {}, "msg": "success"})),
        Err(code) => Reply::json(200, json!({"code": code, "data": {}, "msg": "refused"})),
    }
}

fn wecom_content(body: &Value) -> Result<(), i64> {
    let (content, max) = match text(body, "/msgtype") {
        "text" => (text(body, "/text/content"), 2048),
        "markdown" => (text(body, "/markdown/content"), 4096),
        _ => return Err(40008),
    };
    if content.is_empty() || content.len() > max {
        return Err(40058);
    }
    // `<@user>` and `<font>` are all the markup that could call or deceive.
    let marked = max == 4096 && content.contains(['<', '>', '`', '@']);
    if marked { Err(40058) } else { Ok(()) }
}

pub fn wecom(seen: &Seen) -> Reply {
    let judge = || -> Result<(), i64> {
        posted(seen, "application/json").map_err(|_| 40058)?;
        if seen.path != "/cgi-bin/webhook/send" || seen.query != "key=hush-hush-key" {
            return Err(93000);
        }
        wecom_content(&seen.json())
    };
    let code = judge().err().unwrap_or(0);
    Reply::json(200, json!({"errcode": code, "errmsg": "words"}))
}

pub fn wechat(seen: &Seen) -> Reply {
    if seen.method == "GET" && seen.path == "/cgi-bin/gettoken" {
        let want = [("corpid".to_owned(), "ww1".to_owned()), ("corpsecret".into(), SECRET.into())];
        return match seen.query_fields() == want {
            true => Reply::json(200, json!({"errcode": 0, "access_token": "token-of-2-hours"})),
            false => Reply::json(200, json!({"errcode": 40_001, "errmsg": "invalid credential"})),
        };
    }
    let judge = || -> Result<(), i64> {
        posted(seen, "application/json").map_err(|_| 40058)?;
        if seen.path != "/cgi-bin/message/send" || seen.query != "access_token=token-of-2-hours" {
            return Err(40014);
        }
        let body = seen.json();
        if body["agentid"] != "7" {
            return Err(40056);
        }
        if body["touser"] != "ops" {
            return Err(81013);
        }
        wecom_content(&body)
    };
    let code = judge().err().unwrap_or(0);
    Reply::json(200, json!({"errcode": code, "errmsg": "words"}))
}
