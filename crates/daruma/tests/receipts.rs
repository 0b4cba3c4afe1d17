//! What a vendor tells about a message that it took, on the running program.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::{Daruma, until};

const TOKEN: &str = "token-of-the-account";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Takes every message, and keeps where the vendor is to tell what became of it.
fn vendor() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || drop(take(stream, &kept)));
        }
    });
    (port, told)
}

/// The head and the body of a request.
fn request(stream: &TcpStream) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, String::from_utf8(body).unwrap()))
}

fn answer(mut stream: TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn take(stream: TcpStream, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (_, body) = request(&stream)?;
    let back = body.split('&').find_map(|pair| pair.strip_prefix("StatusCallback=")).unwrap();
    kept.lock().unwrap().push(back.replace("%3A", ":").replace("%2F", "/"));
    answer(stream, 201, r#"{"sid":"SM0123"}"#)
}

/// A vendor that is asked: it takes every message, tells of each that it is on its way, and, when
/// `arrived`, that it was delivered.
fn asked_vendor(arrived: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, arrived) = (listener.local_addr().unwrap().port(), Arc::clone(arrived));
    std::thread::spawn(move || {
        let mut sent = serde_json::Value::Null;
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok((head, body)) = request(&stream) else { continue };
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let said = if head.contains("PullSmsSendStatusByPhoneNumber") {
                let status = if arrived.load(Ordering::SeqCst) { "SUCCESS" } else { "" };
                let one = json!({"SessionContext": sent, "ReportStatus": status});
                json!({"Response": {"PullSmsSendStatusSet": [one]}})
            } else {
                sent = body["SessionContext"].clone();
                json!({"Response": {"SendStatusSet": [{"Code": "Ok", "SerialNo": "1"}]}})
            };
            drop(answer(stream, 200, &said.to_string()));
        }
    });
    port
}

/// A callback of the vendor, signed with `token`.
fn call(daruma: &Daruma, url: &str, token: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let signature = daruma_notify::twilio_signature(token, url, fields);
    let body: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace('+', "%2B")))
        .collect();
    let path = url.strip_prefix("https://daruma.example.org").unwrap();
    let headers = [FORM, ("x-twilio-signature", signature.as_str())];
    daruma.call("POST", path, &headers, &body.join("&")).unwrap()
}

#[test]
fn a_vendor_is_asked_what_became_of_a_message_and_a_kill_9_forgets_no_question() {
    let dir = tempfile::tempdir().unwrap();
    let arrived = Arc::default();
    let port = asked_vendor(&arrived);
    let config = format!(
        "collect: {{}}\ndetect: {{}}\nnotify:\n  group_wait: 0s\n  receivers:\n    - name: ops\n      tencent_sms_configs: \
         [ {{ secret_id: AKID1, secret_key: {TOKEN}, sms_sdk_app_id: '14', sign_name: s, template_id: '7', \
         template_params: [level], phone_numbers: ['+8613800000000'], api_url: 'http://127.0.0.1:{port}' }} ]\n"
    );
    let mut daruma = Daruma::start(&config, dir.path());
    let alert = r#"[{"labels":{"alertname":"Burning","severity":"critical"}}]"#;
    let json = ("content-type", "application/json");
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[json], alert).unwrap().0, 200);
    let delivery = |daruma: &Daruma| daruma.view()["ledger"][0]["delivery"].clone();
    until("it is taken", || (delivery(&daruma) == "accepted").then_some(()));
    daruma.kill();
    let daruma = Daruma::start(&config, dir.path());
    arrived.store(true, Ordering::SeqCst);
    until("it is known", || (delivery(&daruma) == "delivered").then_some(()));
    let story = daruma.story();
    assert!(story.contains("was delivered to +8613800000000"), "{story}");
}

#[test]
fn what_the_vendor_tells_is_in_the_ledger_over_kill_9_and_nobody_else_can_tell_it() {
    let dir = tempfile::tempdir().unwrap();
    let (port, told) = vendor();
    let config = format!(
        "collect: {{}}\ndetect: {{}}\nnotify:\n  group_wait: 0s\n  external_url: https://daruma.example.org/\n  \
         receivers:\n    - name: ops\n      twilio_configs: [ {{ account_sid: AC1, auth_token: {TOKEN}, from: '+15550000000', \
         to: ['+15551111111'], receipts: true, api_url: 'http://127.0.0.1:{port}' }} ]\n"
    );
    let mut daruma = Daruma::start(&config, dir.path());
    let alert = r#"[{"labels":{"alertname":"Burning","severity":"critical"}}]"#;
    let json = ("content-type", "application/json");
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[json], alert).unwrap().0, 200);
    let url = until("the vendor is told where to tell", || told.lock().unwrap().first().cloned());
    let delivery = |daruma: &Daruma| daruma.view()["ledger"][0]["delivery"].clone();
    until("it is taken", || (delivery(&daruma) == "accepted").then_some(()));

    let all = |state| [("MessageSid", "SM0123"), ("MessageStatus", state), ("To", "+15551111111")];
    // Somebody else's signature, none, that of another message, of another channel.
    let (stem, id) = url.rsplit_once('/').unwrap();
    let other = format!("{stem}/{}", id.parse::<u64>().unwrap() + 1);
    assert_eq!(call(&daruma, &url, "another", &all("delivered")).0, 403);
    assert_eq!(call(&daruma, &url, "", &all("delivered")).0, 403);
    let signature = daruma_notify::twilio_signature(TOKEN, &other, &all("delivered"));
    let path = url.strip_prefix("https://daruma.example.org").unwrap();
    let body = "MessageSid=SM0123&MessageStatus=delivered&To=%2B15551111111";
    for signature in [signature.as_str(), ""] {
        let headers = [FORM, ("x-twilio-signature", signature)];
        assert_eq!(daruma.call("POST", path, &headers, body).unwrap().0, 403);
    }
    assert_eq!(daruma.call("POST", "/receipt/6f7073/7", &[FORM], body).unwrap().0, 403);
    let command = format!(
        r#"{{"do":"receipt","message":{id},"channel":"ops/twilio[0]","part":"+15551111111","of":1,"state":"read","said":""}}"#
    );
    let (status, said) = daruma.call("POST", "/api/command", &[json], &command).unwrap();
    assert!(status == 422 && said.contains("signed"), "{status} {said}");
    assert_eq!(delivery(&daruma), "accepted");

    // The vendor itself, step by step; what is on its way is no news.
    assert_eq!(call(&daruma, &url, TOKEN, &all("sent")).0, 200);
    assert_eq!(delivery(&daruma), "accepted");
    assert_eq!(call(&daruma, &url, TOKEN, &all("delivered")).0, 200);
    daruma.kill();
    let daruma = Daruma::start(&config, dir.path());
    until("it is known", || (delivery(&daruma) == "delivered").then_some(()));
    for _ in 0..3 {
        assert_eq!(call(&daruma, &url, TOKEN, &all("delivered")).0, 200);
    }
    let (_, journal, _) =
        daruma.cli(&["journal", "export", "--data", dir.path().to_str().unwrap()]);
    assert_eq!(journal.matches(r#""do":"receipt""#).count(), 1, "{journal}");
    assert!(!journal.contains(TOKEN), "{journal}");

    // It does not arrive: the incident's story has the vendor's reason.
    let alert = alert.replace("Burning", "Flooded");
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[json], &alert).unwrap().0, 200);
    let url = until("the next is sent", || told.lock().unwrap().get(1).cloned());
    let mut lost = all("undelivered").to_vec();
    lost.push(("ErrorCode", "30003"));
    until("it is taken", || {
        call(&daruma, &url, TOKEN, &lost);
        let view = daruma.view();
        let all = view["ledger"].as_array().unwrap().clone();
        all.iter().any(|out| out["delivery"] == "rejected").then_some(())
    });
    let story = daruma.story();
    assert!(story.contains("did not arrive at +15551111111: 30003 the phone is off"), "{story}");
}
