//! Mail through a real server from Debian, Exim: what arrives, and what is said when it does not.
//!
//! The server keeps everything in a directory of its own, so several may run at once. Without the program
//! (package `exim4-daemon-light`) or without root the test says so and passes; continuous integration
//! has both. OpenSMTPD of Debian 12 will not do: its TLS answers every handshake with an internal error.

#![allow(clippy::unwrap_used)] // In tests, helpers included, a panic is the message.
#![cfg(unix)]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use daruma_model::{
    Attempt, AttemptOutcome, Labels, Level, Message, MessageAlert, MessageStatus, Time,
};
use daruma_notify::{ReceiverConfig, Sender};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const PASSWORD: &str = "s3cret-pass-w0rd";

fn message(id: u64, incident: u64) -> Message {
    let labels = Labels::from([("alertname", "ShopErrors"), ("path", "<script>alert(1)</script>")]);
    Message {
        id,
        incident,
        receiver: "ops".to_owned(),
        channel: "ops/email[0]".to_owned(),
        status: MessageStatus::Firing,
        level: Level::Critical,
        title: "shop hängt auf web-1; restarted once".to_owned(),
        text: "03:04 panic: <b>boom</b> & more\n.\n03:05 restarted\n".to_owned(),
        group_key: String::new(),
        group_labels: Labels::from([("alertname", "ShopErrors")]),
        route_labels: Labels::default(),
        left_out: 0,
        alerts: vec![MessageAlert {
            labels,
            annotations: Labels::from([("summary", "too many errors")]),
            status: MessageStatus::Firing,
            starts_at: Time::from_secs(1_700_000_000),
            ends_at: None,
            generator_url: String::new(),
        }],
        created: Time::from_secs(1_700_000_010),
    }
}

fn sender(email: &str) -> Sender {
    let yaml = format!("name: ops\nemail_configs:\n  - {{{email}}}\n");
    let config: ReceiverConfig = serde_saphyr::from_str(&yaml).expect(&yaml);
    let sender = Sender::new(vec![config], Arc::new(|| Time::from_secs(1_700_000_020))).unwrap();
    sender.with_external_url("https://daruma.example.org/")
}

async fn told(what: &str, sender: &Sender, message: &Message, number: u32) -> Attempt {
    let attempt = sender.send(message, number).await;
    println!("{what}: {:?}: {}", attempt.outcome, attempt.said);
    assert_eq!((attempt.message, attempt.number), (message.id, number));
    assert!(!attempt.said.contains(PASSWORD) && attempt.said.chars().count() <= 500);
    attempt
}

/// Exim with its configuration, certificate, spool and delivered mail in one directory.
struct Mailserver {
    dir: tempfile::TempDir,
    child: Child,
    starttls: u16,
    smtps: u16,
    plain: u16,
}

impl Drop for Mailserver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Mailserver {
    fn start() -> Option<Mailserver> {
        let program = "/usr/sbin/exim4";
        if !Path::new(program).exists() {
            eprintln!("SKIPPED: {program} (package exim4-daemon-light) is not installed");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: the mail server can only be run by root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("daruma-mail").tempdir().unwrap();
        let path = dir.path();
        run(Command::new("openssl").current_dir(path).args([
            // Not an authority, because those do not speak for a host.
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=mail of a daruma test",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]));
        for (name, mode) in [("", 0o755), ("key.pem", 0o644)] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path.join(name), mode).unwrap();
        }
        let [starttls, smtps, plain] = ports();
        let at = path.display();
        let config = format!(
            r#"primary_hostname = localhost
daemon_smtp_ports = {starttls} : {smtps} : {plain}
local_interfaces = 127.0.0.1
tls_on_connect_ports = {smtps}
tls_advertise_hosts = ${{if eq{{$received_port}}{{{plain}}}{{}}{{*}}}}
tls_certificate = {at}/cert.pem
tls_privatekey = {at}/key.pem
spool_directory = {at}/spool
log_file_path = {at}/%slog
acl_smtp_mail = sender
acl_smtp_rcpt = recipient
smtputf8_advertise_hosts =
begin acl
sender:
  deny condition = ${{if eq{{$received_port}}{{{plain}}}{{no}}{{yes}}}}
       !authenticated = *
       message = 530 5.7.0 authentication required
  accept
recipient:
  defer local_parts = busy
        message = 451 4.3.2 busy, try again
  accept domains = example.org
         local_parts = ops : night
  deny domains = example.org
       message = 550 5.1.1 no such user here
  deny message = 550 5.7.1 relaying denied
begin routers
all:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = {at}/mail
  maildir_format
  create_directory
  user = Debian-exim
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{bob}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"#
        );
        std::fs::write(path.join("exim.conf"), config).unwrap();
        std::fs::create_dir(path.join("mail")).unwrap();
        run(Command::new("chown").arg("Debian-exim").arg(path).arg(path.join("mail")));
        let log = std::fs::File::create(path.join("words")).unwrap();
        let child = Command::new(program)
            .arg("-C")
            .arg(path.join("exim.conf"))
            .arg("-bdf")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Mailserver { dir, child, starttls, smtps, plain };
        server.until("it listens", || {
            [starttls, smtps, plain]
                .iter()
                .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        Some(server)
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            self.child.wait().unwrap();
        }
    }

    fn until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        for _ in 0..600 {
            if happened() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.dir.path().join("words")).unwrap_or_default();
        panic!("not within 30 s: {what}; the server's log:\n{log}");
    }

    fn ca(&self) -> String {
        format!("tls_config: {{ca_file: {}}}", self.dir.path().join("cert.pem").display())
    }

    fn mails(&self) -> Vec<PathBuf> {
        // A maildir: what is in `new` is complete.
        let entries = std::fs::read_dir(self.dir.path().join("mail/new"));
        entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// Takes the `count` mails that arrive.
    fn take(&self, count: usize) -> Vec<Mail> {
        self.until("the mail arrives", || self.mails().len() >= count);
        let mails = self.mails();
        assert_eq!(mails.len(), count);
        let take = |path: PathBuf| {
            let mail = Mail::read(&path);
            std::fs::remove_file(path).unwrap();
            mail
        };
        mails.into_iter().map(take).collect()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ports<const N: usize>() -> [u16; N] {
    // All are held until all are chosen, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A mail as it lies in the box, taken apart by the rules of MIME and not by what wrote it.
struct Mail {
    headers: Vec<(String, String)>,
    /// Content types and decoded bodies.
    parts: Vec<(String, String)>,
}

impl Mail {
    fn read(path: &Path) -> Mail {
        let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        let (headers, body) = Mail::split(&text);
        let mut mail = Mail { headers, parts: Vec::new() };
        let content = mail.get("content-type");
        let boundary = content.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next());
        let Some(boundary) = boundary else {
            mail.parts = vec![Mail::decoded(&mail.headers, &body)];
            return mail;
        };
        let (inner, _) = body.split_once(&format!("--{boundary}--")).expect("a closing boundary");
        for part in inner.split(&format!("--{boundary}\n")).skip(1) {
            let (headers, body) = Mail::split(part);
            mail.parts.push(Mail::decoded(&headers, &body));
        }
        mail
    }

    fn split(text: &str) -> (Vec<(String, String)>, String) {
        let (head, body) = text.split_once("\n\n").expect("an empty line after the headers");
        let unfolded = head.replace("\n ", " ").replace("\n\t", " ");
        let headers = unfolded.lines().filter_map(|line| line.split_once(':'));
        let pair = |(name, value): (&str, &str)| (name.to_lowercase(), value.trim().to_owned());
        (headers.map(pair).collect(), body.to_owned())
    }

    fn decoded(headers: &[(String, String)], body: &str) -> (String, String) {
        let get = |name| headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value);
        let body = match get("content-transfer-encoding") {
            "quoted-printable" => quoted_printable(body),
            "7bit" => body.to_owned(),
            other => panic!("encoding {other}"),
        };
        (get("content-type").to_owned(), body)
    }

    fn get(&self, name: &str) -> String {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| value.clone()).unwrap_or_default();
        assert!(found.next().is_none(), "one {name}");
        value
    }
}

fn quoted_printable(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let [byte, tail @ ..] = rest {
        if *byte == b'=' {
            let hex = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn mail_through_a_real_server() {
    use AttemptOutcome::{Accepted, Rejected, Retry};
    let Some(mut server) = Mailserver::start() else { return };
    let (starttls, smtps, plain, ca) = (server.starttls, server.smtps, server.plain, server.ca());
    let secret = server.dir.path().join("password");
    std::fs::write(&secret, format!("{PASSWORD}\n")).unwrap();
    let to = "to: ops@example.org, from: 'Daruma <daruma@example.org>'";
    let login = format!("auth_username: bob, auth_password_file: {}", secret.display());

    // STARTTLS with login: it arrives as it was meant.
    let ops = sender(&format!("{to}, smarthost: 'localhost:{starttls}', {login}, {ca}"));
    assert_eq!(ops.channels("ops"), ["ops/email[0]"]);
    assert_eq!(ops.warnings("HostIsDown"), [""; 0]);
    let first = told("STARTTLS, login", &ops, &message(7, 3), 1).await;
    assert_eq!(first.outcome, Accepted);
    assert!(first.said.starts_with("250 OK id="), "the server's own words: {}", first.said);
    let mail = server.take(1).remove(0);
    assert_eq!(mail.get("from"), "Daruma <daruma@example.org>");
    assert_eq!(mail.get("to"), "ops@example.org");
    assert_eq!(mail.get("subject"), "shop =?utf-8?b?aMOkbmd0?= auf web-1; restarted once");
    assert_eq!(mail.get("date"), "Tue, 14 Nov 2023 22:13:30 +0000");
    assert_eq!(mail.get("auto-submitted"), "auto-generated");
    assert_eq!(mail.get("importance"), "high");
    assert_eq!(mail.get("x-daruma-key"), "7");
    let [(plain_type, text), (html_type, html)] = &mail.parts[..] else { panic!("two parts") };
    assert!(plain_type.starts_with("text/plain"), "{plain_type}");
    assert!(html_type.starts_with("text/html"), "{html_type}");
    assert!(mail.get("content-type").starts_with("multipart/alternative"));
    assert!(text.contains("03:04 panic: <b>boom</b> & more\n.\n03:05 restarted"), "{text}");
    assert!(text.contains("https://daruma.example.org/incident/3"), "{text}");
    assert!(html.contains("&lt;b&gt;boom&lt;/b&gt; &amp; more"), "{html}");
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"), "{html}");

    // The end of the incident belongs to the same thread; a copy is known as one; another is apart.
    let mut end = message(8, 3);
    end.status = MessageStatus::Resolved;
    for (which, number) in [(end.clone(), 1), (end, 2), (message(9, 4), 1)] {
        assert_eq!(told("thread", &ops, &which, number).await.outcome, Accepted);
    }
    let mut later = server.take(3);
    later.sort_by_key(|mail| mail.get("x-daruma-key"));
    let thread = |mail: &Mail| mail.get("references");
    assert_eq!(later[0].get("message-id"), later[1].get("message-id"), "a copy of itself");
    assert_ne!(later[0].get("message-id"), mail.get("message-id"));
    assert_eq!([thread(&later[0]), later[0].get("in-reply-to")], [thread(&mail), thread(&mail)]);
    assert_ne!(thread(&later[2]), thread(&mail));

    // Text that tries to be a header, a second mail, or a recipient.
    let mut evil = message(10, 5);
    evil.title = "x\r\nBcc: night@example.org\r\n\r\nboo".to_owned();
    evil.text = "\r\n.\r\nMAIL FROM:<x@example.org>\r\n\0\u{1b}[2J".to_owned();
    assert_eq!(told("hostile text", &ops, &evil, 1).await.outcome, Accepted);
    let mail = server.take(1).remove(0);
    assert_eq!(mail.get("subject"), "x Bcc: night@example.org boo");
    assert_eq!(mail.get("bcc"), "");
    assert!(mail.parts[0].1.contains("\n.\nMAIL FROM:<x@example.org>\n[2J"), "{}", mail.parts[0].1);

    // TLS from the first byte.
    let implicit = format!("{to}, smarthost: 'localhost:{smtps}', force_implicit_tls: true");
    let tls = sender(&format!("{implicit}, {login}, {ca}"));
    assert_eq!(told("implicit TLS, login", &tls, &message(11, 6), 1).await.outcome, Accepted);
    // One part when the other is switched off.
    let tls = sender(&format!("{implicit}, {login}, {ca}, html: ''"));
    assert_eq!(told("text only", &tls, &message(12, 6), 1).await.outcome, Accepted);
    let mut parts: Vec<_> = server.take(2).iter().map(|mail| mail.parts.len()).collect();
    parts.sort_unstable();
    assert_eq!(parts, [1, 2]);

    // What cannot work like this is said to be so, in the server's words where it has any.
    let other = server.dir.path().join("other");
    std::fs::write(&other, "wrong").unwrap();
    let wrong = format!("auth_username: bob, auth_password_file: {}", other.display());
    let unknown = "to: nobody-here@example.org";
    let foreign = "to: someone@example.com";
    let tls_at = format!("smarthost: 'localhost:{starttls}'");
    for (what, email, outcome, words) in [
        ("wrong password", format!("{to}, {tls_at}, {wrong}, {ca}"), Rejected, "535"),
        ("no login", format!("{to}, {tls_at}, {ca}"), Rejected, "530 5.7.0"),
        ("unknown recipient", format!("{unknown}, {tls_at}, {login}, {ca}"), Rejected, "550"),
        ("relaying", format!("{foreign}, {tls_at}, {login}, {ca}"), Rejected, "550"),
        ("untrusted certificate", format!("{to}, {tls_at}, {login}"), Retry, "certificate"),
        (
            "implicit TLS, untrusted",
            format!("{to}, smarthost: 'localhost:{smtps}', force_implicit_tls: true, {login}"),
            Retry,
            "certificate",
        ),
        (
            "no TLS offered",
            format!("{to}, smarthost: '127.0.0.1:{plain}'"),
            Rejected,
            "offers no STARTTLS",
        ),
        (
            "TLS against a plain port",
            format!("{to}, smarthost: 'localhost:{plain}', force_implicit_tls: true, {ca}"),
            Retry,
            "TLS",
        ),
        ("busy recipient", format!("to: busy@example.org, {tls_at}, {login}, {ca}"), Retry, "451"),
        (
            "password file gone",
            format!("{to}, {tls_at}, auth_username: bob, auth_password_file: /no/such, {ca}"),
            Retry,
            "cannot read /no/such",
        ),
    ] {
        let attempt = told(what, &sender(&email), &message(20, 9), 1).await;
        assert_eq!(attempt.outcome, outcome, "{what}: {}", attempt.said);
        assert!(attempt.said.contains(words), "{what}: {words} in {}", attempt.said);
    }
    // None of these left anything behind: the next mail is the only one.
    let clear = sender(&format!("{to}, smarthost: '127.0.0.1:{plain}', require_tls: false"));
    assert_eq!(told("in the clear, as asked", &clear, &message(21, 9), 1).await.outcome, Accepted);
    let believing = format!("{to}, {tls_at}, {login}, tls_config: {{insecure_skip_verify: true}}");
    let attempt = told("believing any certificate", &sender(&believing), &message(22, 9), 1).await;
    assert_eq!(attempt.outcome, Accepted);
    let mut keys: Vec<_> = server.take(2).iter().map(|mail| mail.get("x-daruma-key")).collect();
    keys.sort();
    assert_eq!(keys, ["21", "22"]);

    // One bad address among several: the others hear of it, and the failure is not hidden.
    let several =
        format!("to: 'ops@example.org, nobody-here@example.org', {tls_at}, {login}, {ca}");
    let attempt = told("one of two unknown", &sender(&several), &message(30, 10), 1).await;
    assert_eq!(attempt.outcome, Rejected);
    assert!(attempt.said.contains("ops@example.org: 250"), "{}", attempt.said);
    assert!(attempt.said.contains("nobody-here@example.org: 550"), "{}", attempt.said);
    assert_eq!(server.take(1).len(), 1);

    // One address is busy: the next attempt is for that one alone.
    let several =
        sender(&format!("to: 'ops@example.org, busy@example.org', {tls_at}, {login}, {ca}"));
    for number in 1..=3 {
        let attempt = told("one of two busy", &several, &message(31, 10), number).await;
        assert_eq!(attempt.outcome, Retry);
        assert!(attempt.said.contains("451"), "{}", attempt.said);
        assert_eq!(attempt.said.contains("ops@example.org"), number == 1, "{}", attempt.said);
    }
    assert_eq!(server.take(1).len(), 1, "and nobody got it twice");

    // Several servers: the first is down, the second takes it.
    let [dead] = ports();
    let both =
        format!("{to}, smarthost: ['localhost:{dead}', 'localhost:{starttls}'], {login}, {ca}");
    let attempt = told("first server down", &sender(&both), &message(40, 11), 1).await;
    assert_eq!(attempt.outcome, Accepted);
    assert!(attempt.said.contains("refused") && attempt.said.contains("250"), "{}", attempt.said);
    assert_eq!(server.take(1).len(), 1);

    // The server goes down.
    server.stop();
    let attempt = told("server down", &ops, &message(50, 12), 1).await;
    assert_eq!(attempt.outcome, Retry);
    assert!(attempt.said.contains("refused"), "{}", attempt.said);
}

/// A server which behaves up to a point and then resets the connection, or says nothing, or too much.
/// Real ones do this when they are overloaded or killed, but not on demand.
async fn failing_at(stage: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let reset = socket_reset(&stream);
            if stage == "connect" {
                drop(stream);
                continue;
            }
            let mut stream = BufReader::new(stream);
            if stage == "endless" {
                while stream.write_all(&[b'2'; 4096]).await.is_ok() {}
                continue;
            }
            if stage == "silent" {
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {}
                continue;
            }
            let mut answer = "220 x ESMTP\r\n";
            let mut in_data = false;
            loop {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
                let mut line = String::new();
                loop {
                    line.clear();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if !in_data || line == ".\r\n" {
                        break;
                    }
                }
                let word = if in_data { "end" } else { line.split([' ', '\r']).next().unwrap() };
                if word == stage {
                    break;
                }
                in_data = word == "DATA";
                answer = match word {
                    "DATA" => "354 go on\r\n",
                    _ => "250 fine\r\n",
                };
            }
            reset(stream.into_inner());
        }
    });
    port
}

/// Makes the later close a reset.
fn socket_reset(stream: &tokio::net::TcpStream) -> impl FnOnce(tokio::net::TcpStream) + use<> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    drop
}

#[tokio::test]
async fn a_server_that_breaks_off_has_accepted_nothing() {
    for (stage, words) in [
        ("connect", "greeting"),
        ("EHLO", "greeting"),
        ("MAIL", "sender"),
        ("RCPT", "recipient"),
        ("DATA", "message"),
        ("end", "message"),
        ("endless", "512 KiB"),
        ("silent", "no end of it within"),
    ] {
        let port = failing_at(stage).await;
        let email = format!(
            "to: ops@example.org, smarthost: '127.0.0.1:{port}', require_tls: false, timeout: 3s"
        );
        let attempt = told(stage, &sender(&email), &message(60, 13), 1).await;
        assert_eq!(attempt.outcome, AttemptOutcome::Retry, "{stage}: {}", attempt.said);
        assert!(attempt.said.contains(words), "{stage}: {words} in {}", attempt.said);
    }
    std::io::stdout().flush().unwrap();
}
