//! A tour of everything that must not bring the monitor down: every hostile thing at once, against one
//! running program, which goes on healing a service beside them.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use support::{Daruma, Hook, Service, until};

/// The length of the longest line, in bytes.
const GIGABYTE: usize = 1 << 30;
/// What the program may hold at most meanwhile, in kB: its bounds, not the size of what is thrown at it.
const RSS_MAX_KB: u64 = 700_000;

/// Serves every connection with `answer`, in a thread of its own.
fn serve(answer: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn head(stream: &mut TcpStream) {
    let mut request = [0; 4096];
    drop(stream.read(&mut request)); // What is asked does not matter.
}

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\r\n";

/// Samples without end.
fn endless(mut stream: TcpStream) {
    head(&mut stream);
    let line = format!("endless{{x=\"{}\"}} 1\n", "y".repeat(1000));
    let mut sent = stream.write_all(OK);
    while sent.is_ok() {
        sent = stream.write_all(line.as_bytes());
    }
}

/// A million series, then a proper end.
fn million(mut stream: TcpStream) {
    head(&mut stream);
    let mut text = String::with_capacity(32 << 20);
    for i in 0..1_000_000 {
        text.push_str(&format!("million{{i=\"{i}\"}} 1\n"));
    }
    // Whoever has had enough hangs up.
    drop(stream.write_all(OK).and_then(|()| stream.write_all(text.as_bytes())));
}

/// Takes the connection and never says a word.
fn mute(mut stream: TcpStream) {
    drop(std::io::copy(&mut stream, &mut std::io::sink()));
}

/// A mail server that takes the message's first lines, then resets the connection.
fn resetting(mut stream: TcpStream) {
    let mut said = stream.write_all(b"220 mail.example ESMTP\r\n");
    for answer in ["250 mail.example\r\n", "250 fine\r\n", "250 fine\r\n", "354 go on\r\n"] {
        head(&mut stream);
        said = said.and_then(|()| stream.write_all(answer.as_bytes()));
    }
    // Unread bytes at the close make it a reset.
    drop(said);
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn rss_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Goal: nothing that comes from outside stops the loop, and each has its clear word. Method: all of it
/// at once; then a service beside is killed and must come back.
#[test]
fn everything_hostile_at_once_is_named_and_the_loop_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let hook = Hook::start();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    // A link that leads to itself can be opened by nobody, not even by root.
    std::os::unix::fs::symlink(logs.join("loop.log"), logs.join("loop.log")).unwrap();
    std::fs::create_dir(logs.join("folder.log")).unwrap();
    let mut noise: Vec<u8> =
        (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    noise.extend(b"\nBROKEN <script>alert(1)</script>\n");
    std::fs::write(logs.join("binary.log"), &noise).unwrap();
    std::fs::File::create(logs.join("long.log")).unwrap();
    let hang = dir.path().join("hang");
    let children = dir.path().join("children");
    script(
        &hang,
        &format!(
            "#!/bin/sh\nsleep 600 &\necho $! >> {0}\necho $$ >> {0}\nyes | head -c 50000000\nsleep 600\n",
            children.display()
        ),
    );
    let config = service
            .config(&hook.url)
            .replace(
                "\ncollect:\n",
                &format!(
                    "\ncollect:\n  host: {{ every: 1s }}\n  logs: [ {{ name: all, paths: [ \"{logs}/*.log\" ], from: beginning }} ]\n  \
                     scrape:\n  - {{ job: endless, targets: [ \"{endless}\" ], every: 1s, timeout: 900ms }}\n  \
                     - {{ job: million, targets: [ \"{million}\" ], every: 2s }}\n  \
                     - {{ job: mute, targets: [ \"{mute}\" ], every: 500ms, timeout: 400ms }}\n",
                    logs = logs.display(),
                    endless = serve(endless),
                    million = serve(million),
                    mute = serve(mute),
                ),
            )
            .replace(
                "  rules:\n",
                "  rules:\n    - { alert: Broken, log: { match: BROKEN }, labels: { service: noise } }\n    \
                 - { alert: AfterLong, log: { match: 'after a long line' }, labels: { service: noise } }\n    \
                 - { alert: Hanging, expr: 'up{job=\"mute\"} == 0', labels: { service: hanging, severity: critical } }\n",
            )
            .replace(
                "  actions: { ",
                &format!("  actions: {{ hang: {{ argv: [ \"{}\" ], timeout: 1s }}, ", hang.display()),
            )
            .replace(
                "  runbooks:\n",
                "  runbooks:\n    - name: hang\n      matchers: [ 'alertname=\"Hanging\"' ]\n      mode: auto\n      \
                     steps: [ { do: hang, verify: { probe: { tcp: \"127.0.0.1:1\" }, within: 1s } } ]\n      \
                     limits: { no_help: 1 }\n",
            )
            .replace(
                "  receivers: [ ",
                &format!(
                    "  receivers: [ {{ name: post, email_configs: [ {{ to: ops@example.org, from: daruma@example.org, \
                     smarthost: \"{}\", require_tls: false }} ] }}, ",
                    serve(resetting)
                ),
            );
    let daruma = Daruma::start(&config, &dir.path().join("data"));
    let source = |name: &str| {
        let view = daruma.view();
        let sources = view["sources"].as_array().unwrap();
        sources.iter().find(|s| s["source"].as_str().is_some_and(|s| s.contains(name))).cloned()
    };
    let fails_with = |name: &str, words: &[&str]| {
        let began = std::time::Instant::now();
        loop {
            let health = source(name).unwrap_or_default();
            let said = health["said"].as_str().unwrap_or_default();
            if health["state"] == "failing" && words.iter().any(|words| said.contains(words)) {
                break;
            }
            assert!(
                began.elapsed() < support::PATIENCE,
                "{name} never fails with {words:?}: {health}"
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    fails_with("endless", &["900ms", "larger than"]);
    fails_with("million", &["sample"]);
    fails_with("mute", &["400ms"]);
    until("the unreadable log is named", || {
        source("log/all")?["said"].as_str()?.contains("loop.log").then_some(())
    });

    // A line of a gigabyte, and what comes after it is found.
    let mut long = std::fs::OpenOptions::new().append(true).open(logs.join("long.log")).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..GIGABYTE / piece.len() {
        long.write_all(&piece).unwrap();
    }
    long.write_all(b"\nBROKEN after a long line\n").unwrap();
    drop(long);
    until("the line after the long one is found", || {
        daruma.view()["alerts"].to_string().contains("AfterLong").then_some(())
    });
    // What a log says is text, never markup.
    assert!(!daruma.get("/").1.contains("<script>alert"));

    // The command that hangs is ended with everything it began, and a person is called.
    until("the hanging command is given up", || {
        let story = daruma.story();
        (story.contains("Hanging") && story.contains("a person is needed")).then_some(())
    });
    for pid in std::fs::read_to_string(&children).unwrap().lines() {
        until("its processes are gone", || (!alive(pid)).then_some(()));
    }

    // The mail server that resets is a failed attempt with its words, and is tried again.
    until("the reset is in the ledger", || daruma.story().contains("post/email[0]").then_some(()));

    // And the loop still does what it is for.
    service.signal("KILL");
    until("the service is repaired", || {
        (service.restarts() == 1 && service.answers()).then_some(())
    });
    until("it is proved", || (daruma.view()["healed_total"] == 1).then_some(()));
    assert_eq!(daruma.get("/-/ready").0, 200);
    let held = rss_kb(daruma.pid());
    assert!(held < RSS_MAX_KB, "it held {held} kB");
}

/// Goal: a wall clock that is set back neither stops the loop nor turns its time back. Method: the program
/// runs under libfaketime, which sets the clock back by an hour while it works.
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let library = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|library| Path::new(library).exists());
    let Some(library) = library else {
        eprintln!("SKIPPED: libfaketime is not installed, the clock cannot be set back");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let hook = Hook::start();
    let (clock, file) = (dir.path().join("clock"), dir.path().join("daruma.yaml"));
    std::fs::write(&clock, "+0").unwrap();
    std::fs::write(&file, service.config(&hook.url)).unwrap();
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let arguments = ["--config", file.to_str().unwrap()];
    let daruma = Daruma::within(&environment, &arguments, &dir.path().join("data"))
        .unwrap_or_else(|said| panic!("{said}"));
    let now = || daruma.view()["now"].as_i64().unwrap();
    service.signal("KILL");
    until("it is repaired", || (daruma.view()["healed_total"] == 1).then_some(()));
    let before = now();
    std::fs::write(&clock, "-3600").unwrap();
    service.signal("KILL");
    until("it is repaired again", || (daruma.view()["healed_total"] == 2).then_some(()));
    assert!(now() >= before, "time went back from {before} to {}", now());
    until("both ends are told", || {
        (hook.titles().iter().filter(|(status, _)| status == "resolved").count() >= 2).then_some(())
    });
}

/// Whether a process is there and not just waiting to be collected.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}
