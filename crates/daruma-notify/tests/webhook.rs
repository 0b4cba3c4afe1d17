//! Webhooks against HTTP servers that answer well, badly, never, or for ever.

#![allow(clippy::unwrap_used)] // In tests, helpers included, a panic is the message.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_model::{
    Attempt, AttemptOutcome, Labels, Level, Message, MessageAlert, MessageStatus, Span, Time,
};
use daruma_notify::{ReceiverConfig, Secret, Sender, signature};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "B0000XYZWtoken";

fn message() -> Message {
    let alert = |instance: &str, ends_at| MessageAlert {
        labels: Labels::from([("alertname", "Down"), ("job", "web"), ("instance", instance)]),
        annotations: Labels::from([("summary", "it is down")]),
        status: if ends_at { MessageStatus::Resolved } else { MessageStatus::Firing },
        starts_at: Time(1_700_000_000_250),
        ends_at: ends_at.then_some(Time::from_secs(1_700_000_060)),
        generator_url: String::new(),
    };
    Message {
        id: 17,
        incident: 4,
        receiver: "ops".to_owned(),
        channel: "ops/webhook[0]".to_owned(),
        status: MessageStatus::Firing,
        level: Level::Critical,
        title: "web is down".to_owned(),
        text: "03:04 down".to_owned(),
        group_key: String::new(),
        group_labels: Labels::from([("alertname", "Down")]),
        route_labels: Labels::default(),
        left_out: 0,
        alerts: vec![alert("a", false), alert("b", true)],
        created: Time::from_secs(1_700_000_010),
    }
}

fn receiver(yaml: &str) -> Result<ReceiverConfig, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn sender(webhook: &str) -> Sender {
    let config = receiver(&format!("name: ops\nwebhook_configs: [{{{webhook}}}]\n")).unwrap();
    let clock = Arc::new(|| Time::from_secs(1_700_000_020));
    Sender::new(vec![config], clock).unwrap().with_external_url("https://daruma.example.org")
}

#[derive(Debug, Clone, Default)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// What a server does once it has read the request.
#[derive(Clone)]
enum Does {
    Say(String),
    Hang,
    Reset,
    /// This, then bytes for ever.
    Endless(&'static str),
    /// This, then a byte now and then.
    Drip(&'static str),
}

async fn server(does: Does) -> (u16, Arc<Mutex<Vec<Seen>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (does, log) = (does.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let request = read(&mut stream).await;
                log.lock().unwrap().push(request);
                serve(stream.into_inner(), does).await;
            });
        }
    });
    (port, seen)
}

async fn read(stream: &mut BufReader<TcpStream>) -> Seen {
    let mut seen = Seen::default();
    // A TLS handshake is no request: the client is told so by the end of the connection.
    if stream.read_line(&mut seen.line).await.is_err() {
        return seen;
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.to_lowercase(), value.to_owned()));
    }
    seen.body = vec![0; seen.get("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut seen.body).await.unwrap();
    seen
}

async fn serve(mut stream: TcpStream, does: Does) {
    match does {
        // The client may have gone; what it saw is what is asserted.
        Does::Say(answer) => drop(stream.write_all(answer.as_bytes()).await),
        Does::Hang => std::future::pending().await,
        Does::Reset => {
            #[cfg(unix)]
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        Does::Endless(head) => {
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
        }
        Does::Drip(head) => {
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Does {
    let length = body.len();
    Does::Say(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
}

#[tokio::test]
async fn what_alertmanager_would_post_is_posted_with_ours_beside_it() {
    let (port, seen) = server(answer("200 OK", "", "thanks")).await;
    let key = tempfile::NamedTempFile::new().unwrap();
    key.as_file().write_all(b"the-key\n").unwrap();
    let ops = sender(&format!(
        "url: 'http://127.0.0.1:{port}/hook?a=1', max_alerts: 1, secret_file: {}, http_config: \
         {{basic_auth: {{username: u, password: hunter22}}}}",
        key.path().display()
    ));
    let attempt = ops.send(&message(), 3).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted);
    assert_eq!((attempt.message, attempt.number, &*attempt.said), (17, 3, "200 OK: thanks"));
    assert_eq!(attempt.at, Time::from_secs(1_700_000_020));
    // Every attempt is the same to the byte, so that it can be recognised.
    ops.send(&message(), 4).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0].body, seen[1].body);
    let request = &seen[0];
    assert_eq!(request.line, "POST /hook?a=1 HTTP/1.1\r\n");
    assert_eq!(request.get("x-daruma-key"), "17");
    assert_eq!(request.get("content-type"), "application/json");
    assert_eq!(request.get("authorization"), "Basic dTpodW50ZXIyMg==");
    assert_eq!(request.get("x-daruma-signature"), signature(b"the-key", &request.body));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let labels = json!({"alertname": "Down", "job": "web", "instance": "a"});
    assert_eq!(
        body,
        json!({
            "version": "4",
            "groupKey": "{}:{incident=\"4\"}",
            "truncatedAlerts": 1,
            "status": "firing",
            "receiver": "ops",
            "groupLabels": {"alertname": "Down"},
            "commonLabels": {"alertname": "Down", "job": "web"},
            "commonAnnotations": {"summary": "it is down"},
            "externalURL": "https://daruma.example.org",
            "alerts": [{
                "status": "firing",
                "labels": labels,
                "annotations": {"summary": "it is down"},
                "startsAt": "2023-11-14T22:13:20.25Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "https://daruma.example.org/incident/4",
                "fingerprint": format!("{:016x}", message().alerts[0].labels.fingerprint()),
            }],
            "daruma": {
                "incident": 4, "message": 17, "level": "critical", "title": "web is down",
                "text": "03:04 down",
            },
        })
    );
    let (port, seen) = self::server(answer("200 OK", "", "")).await;
    sender(&format!("url: 'http://127.0.0.1:{port}'")).send(&message(), 1).await;
    let body: Value = serde_json::from_slice(&seen.lock().unwrap()[0].body).unwrap();
    assert_eq!(body["alerts"][1]["endsAt"], "2023-11-14T22:14:20Z");
    assert_eq!(body["truncatedAlerts"], 0);
}

#[tokio::test]
async fn an_answer_means_what_its_status_says_and_is_kept_in_its_own_words() {
    use AttemptOutcome::{Accepted, Rejected, Retry};
    let long = "y".repeat(2000);
    let echo = format!("no such hook /services/{TOKEN}");
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n";
    let chunked = "HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFF\r\n";
    for (does, outcome, words, wait) in [
        (answer("204 No Content", "", ""), Accepted, "204", None),
        (
            answer("503 x", "", "go away\n\u{1b}[2J later"),
            Retry,
            "503 Service Unavailable: go",
            None,
        ),
        (answer("429 x", "retry-after: 7\r\n", "slow down"), Retry, "slow down", Some(7)),
        (
            answer("503 x", "Retry-After: Tue, 14 Nov 2023 22:15:00 GMT\r\n", ""),
            Retry,
            "503",
            Some(80),
        ),
        (answer("503 x", "retry-after: 99999999999999999999\r\n", ""), Retry, "", Some(21_600)),
        (answer("503 x", "retry-after: soon\r\n", ""), Retry, "", None),
        (answer("404 x", "retry-after: 7\r\n", &echo), Rejected, "404 Not Found: no such", None),
        (answer("408 x", "", ""), Retry, "408", None),
        (answer("400 x", "", &long), Rejected, "yyyy…", None),
        (answer("302 x", "location: /elsewhere\r\n", ""), Rejected, "redirects are not", None),
        (Does::Hang, Retry, "its answer took longer than 1s", None),
        (Does::Reset, Retry, "no answer", None),
        (Does::Say("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), Retry, "no answer", None),
        (Does::Say(String::new()), Retry, "no answer", None),
        (Does::Endless(head), Accepted, "longer than 64 KiB", None),
        (Does::Endless(chunked), Retry, "longer than 64 KiB", None),
        (Does::Endless("HTTP/1.1 200 OK\r\nx: "), Retry, "no answer", None),
        (Does::Drip(head), Accepted, "took too long", None),
        (Does::Drip("HTTP/1.1 200 OK\r\nx: "), Retry, "its answer took longer", None),
    ] {
        let (port, _) = server(does).await;
        let url = format!("http://127.0.0.1:{port}/services/{TOKEN}");
        let attempt = sender(&format!("url: '{url}', timeout: 1s")).send(&message(), 1).await;
        println!("{:?}: {}", attempt.outcome, attempt.said.chars().take(120).collect::<String>());
        assert_eq!(attempt.outcome, outcome, "{}", attempt.said);
        assert!(attempt.said.contains(words), "{words} in {}", attempt.said);
        assert_eq!(attempt.retry_after, wait.map(Span::secs), "{}", attempt.said);
        fit_for_the_ledger(&attempt);
    }
}

fn fit_for_the_ledger(attempt: &Attempt) {
    assert!(attempt.said.chars().count() <= 500);
    assert!(!attempt.said.contains(TOKEN) && !attempt.said.contains(char::is_control));
}

#[tokio::test]
async fn who_cannot_be_reached_is_tried_again_and_what_is_not_configured_is_not() {
    use AttemptOutcome::{Accepted, Rejected, Retry};
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (port, seen) = server(answer("200 OK", "", "")).await;
    for (webhook, outcome, words) in [
        (format!("url: 'http://{nobody}/{TOKEN}'"), Retry, "cannot connect: Connection refused"),
        (format!("url: 'https://127.0.0.1:{port}/{TOKEN}', timeout: 2s"), Retry, "TLS"),
        ("url_file: /no/such".to_owned(), Retry, "cannot read /no/such"),
    ] {
        let ops = sender(&webhook);
        let attempt = ops.send(&message(), 1).await;
        assert_eq!(attempt.outcome, outcome, "{}", attempt.said);
        assert!(attempt.said.contains(words), "{words} in {}", attempt.said);
        assert_eq!(ops.warnings("HostIsDown").len(), usize::from(webhook.contains("_file")));
        fit_for_the_ledger(&attempt);
    }
    seen.lock().unwrap().clear();
    let ops = sender(&format!("url: 'http://127.0.0.1:{port}', send_resolved: false"));
    let elsewhere = Message { channel: "ops/webhook[1]".to_owned(), ..message() };
    let attempt = ops.send(&elsewhere, 1).await;
    assert_eq!(attempt.outcome, Rejected);
    assert_eq!(attempt.said, "the configuration has no channel `ops/webhook[1]`");
    let end = Message { status: MessageStatus::Resolved, ..message() };
    let attempt = ops.send(&end, 1).await;
    assert_eq!((attempt.outcome, seen.lock().unwrap().len()), (Accepted, 0));
    assert!(attempt.said.starts_with("not sent"), "{}", attempt.said);
}

#[test]
fn channels_are_named_by_receiver_kind_and_place() {
    let config = receiver(
        "name: ops\nmin_level: warning\nheal_first: 30s\nwebhook_configs:\n- url: http://a.example/x\n- \
         {url_file: /etc/hook, send_resolved: false}\nemail_configs:\n- {to: a@example.org, smarthost: \
         'mail.example.org:587'}\n",
    )
    .unwrap();
    let channels = config.channels();
    let expected = [("ops/webhook[0]", true), ("ops/webhook[1]", false), ("ops/email[0]", true)];
    assert_eq!(channels, expected.map(|(name, end)| (name.to_owned(), end)));
    let clock: daruma_model::Clock = Arc::new(|| Time(0));
    let twice = Sender::new(vec![config.clone(), config], clock).err().unwrap();
    assert_eq!(twice.to_string(), "two receivers are called `ops`; give each its own name");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_a_sentence() {
    for (yaml, want) in [
        ("webhook_configs: [{url: 'x', url_file: /y}]", "at most one of `url` and `url_file`"),
        ("webhook_configs: [{}]", "one of `url` and `url_file` must be set"),
        ("webhook_configs: [{url: 'ftp://x/'}]", "must begin with http:// or https://"),
        ("webhook_configs: [{url: 'http://x/', urll: 1}]", "unknown field"),
        (
            "webhook_configs: [{url: 'http://x/', http_config: {follow_redirects: true}}]",
            "leave the key out",
        ),
        ("email_configs: [{to: a@example.org}]", "smarthost"),
        ("email_configs: [{to: a@example.org, smarthost: mail}]", "write host:port"),
        ("email_configs: [{to: a@example.org, smarthost: []}]", "1 to 10 servers"),
        ("email_configs: [{to: nobody, smarthost: 'm:25'}]", "not a list of mail addresses"),
        ("email_configs: [{to: '', smarthost: 'm:25'}]", "addresses"),
        ("email_configs: [{to: a@example.org, smarthost: 'm:25', auth_username: u}]", "together"),
        (
            "email_configs: [{to: a@example.org, smarthost: 'm:25', html: '', text: ''}]",
            "nothing would",
        ),
        (
            "email_configs: [{to: a@example.org, smarthost: 'm:25', headers: {Date: x}}]",
            "cannot be set",
        ),
        (
            "email_configs: [{to: a@example.org, smarthost: 'm:25', headers: {\"a\\r\\nb\": x}}]",
            "`headers`",
        ),
        ("carrier_pigeon_configs: []", "unknown field"),
    ] {
        let error = receiver(&format!("name: ops\n{yaml}\n")).expect_err(yaml);
        assert!(error.contains(want), "{yaml}: {want} in {error}");
    }
}

/// Goal: no way to print a configuration prints a secret.
#[test]
fn secrets_are_never_shown() {
    let config = receiver(
        "name: ops\nwebhook_configs: [{url: 'http://x/hush-hush', secret: hush-hush, http_config: \
         {authorization: {credentials: hush-hush}}}, {url: 'http://x/', http_config: {basic_auth: \
         {username: u, password: hush-hush}}}]\nemail_configs: [{to: a@example.org, smarthost: 'm:25', \
         auth_username: u, auth_password: hush-hush}]\n",
    )
    .unwrap();
    let debug = format!("{config:?} {config:#?} {:?}", Secret::new("hush-hush"));
    let json = serde_json::to_string(&config).unwrap();
    for shown in [&debug, &json] {
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("<secret>"), "{shown}");
    }
    // Nor does a text that is not accepted come back with what was written.
    for yaml in [
        "webhook_configs: [{url: 'hush-hush'}]",
        "webhook_configs: [{url: 'ftp://hush-hush/'}]",
        "webhook_configs: [{url: 'http://hush-hush:x/'}]",
    ] {
        // The reader of YAML shows the line; what we say about it must not.
        let error = receiver(&format!("name: ops\n{yaml}\n")).expect_err(yaml);
        assert!(!error.lines().next().unwrap_or_default().contains("hush"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_configuration_panic(text in "\\PC{0,120}") {
        let _ = receiver(&text);
        for key in ["to", "from", "smarthost", "hello"] {
            let value = serde_json::to_string(&text).unwrap();
            let mut email = json!({"to": "a@example.org", "smarthost": "m:25"});
            email[key] = serde_json::from_str(&value).unwrap();
            let _ = receiver(&json!({"name": "ops", "email_configs": [email]}).to_string());
        }
        let _ = receiver(&json!({"name": "o", "webhook_configs": [{"url": text}]}).to_string());
    }
}
