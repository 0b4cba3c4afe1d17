//! The loop on a real service, with the real program: detect → confirm → recover → verify → tell.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use support::{Daruma, Hook, Service, program, request, until};

/// One at a time: what is judged here is judgement, not how a crowded machine delays a probe.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Stage {
    _alone: std::sync::MutexGuard<'static, ()>,
    service: Service,
    hook: Hook,
    daruma: Daruma,
    dir: tempfile::TempDir,
}

fn stage() -> Stage {
    let alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let hook = Hook::start();
    let daruma = Daruma::start(&service.config(&hook.url), &dir.path().join("data"));
    until("every source has spoken", || {
        let sources = daruma.view()["sources"].as_array().unwrap().clone();
        let spoken = sources.iter().filter(|source| source["state"] == "ok").count();
        (spoken >= 2).then_some(())
    });
    Stage { _alone: alone, service, hook, daruma, dir }
}

/// Whether the last word was that it is over.
fn told_the_end(hook: &Hook) -> Option<()> {
    hook.titles().last().is_some_and(|(status, _)| status == "resolved").then_some(())
}

fn ends(hook: &Hook) -> usize {
    hook.titles().iter().filter(|(status, _)| status == "resolved").count()
}

#[test]
fn a_killed_service_comes_back_with_proof_and_its_end_is_told() {
    let Stage { service, hook, daruma, dir: _dir, _alone } = stage();
    let old = service.pid();
    service.signal("KILL");
    until("another process answers", || (service.pid() != old && service.answers()).then_some(()));
    until("the end is told", || told_the_end(&hook));
    let titles = hook.titles();
    assert_eq!(titles[0].0, "firing", "{titles:?}");
    assert!(titles.last().unwrap().1.starts_with("healed"), "{titles:?}");
    assert_eq!(ends(&hook), 1, "{titles:?}");
    assert_eq!(service.restarts(), 1);
    let view = daruma.view();
    let incident = &view["incidents"][0];
    let kinds: Vec<&str> = incident["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    for kind in ["detected", "confirmed", "decided", "acted", "verified", "told", "resolved"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    // The command line tells the same story.
    let id = incident["id"].to_string();
    let (code, text, _) = daruma.cli(&["incident", "show", &id]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("verified"), "{text}");
    let (code, text, _) = daruma.cli(&["why", "Down"]);
    assert!(text.contains("it is over") || code == Some(0), "{text}");
    let (code, text, _) = daruma.cli(&["why", "NoSuchRule"]);
    assert_eq!((code, text.contains("no rule of this name")), (Some(0), true), "{text}");
}

#[test]
fn a_stopped_service_is_restarted_and_one_that_only_looks_cured_is_escalated() {
    let Stage { service, hook, daruma, dir: _dir, _alone } = stage();
    service.signal("STOP");
    until("it answers again", || service.answers().then_some(()));
    until("the end is told", || told_the_end(&hook));
    assert_eq!(service.restarts(), 1, "{}", daruma.story());
    // Now it runs and listens after a restart, but answers 500.
    std::fs::write(service.file("ill"), "").unwrap();
    until("a person is called", || {
        hook.titles().iter().any(|(_, title)| title.starts_with("needs a person")).then_some(())
    });
    assert_eq!(service.restarts(), 3, "two acts that did not help, and no more");
    let escalated = daruma.view()["incidents"][0]["escalated"].as_str().unwrap().to_owned();
    assert!(escalated.contains("did not help"), "{escalated}");
    std::fs::remove_file(service.file("ill")).unwrap();
    until("the end of both is told", || told_the_end(&hook));
}

#[test]
fn a_message_waits_for_its_channel_through_refusals_and_a_kill() {
    let Stage { service, hook, mut daruma, dir, _alone } = stage();
    hook.status.store(503, Ordering::SeqCst);
    service.signal("KILL");
    until("it was repaired", || (daruma.view()["healed_total"] == 1).then_some(()));
    assert_eq!(hook.titles(), []);
    daruma.kill();
    hook.status.store(200, Ordering::SeqCst);
    let daruma = Daruma::start(&service.config(&hook.url), &dir.path().join("data"));
    until("both ends of the story arrive", || told_the_end(&hook));
    let titles = hook.titles();
    assert_eq!((titles[0].0.as_str(), ends(&hook)), ("firing", 1), "{titles:?}");
    assert_eq!(service.restarts(), 1);
    drop(daruma);
}

#[test]
fn a_bad_reload_is_refused_a_good_one_is_taken_and_sigterm_ends_cleanly() {
    let Stage { service, hook, mut daruma, dir, _alone } = stage();
    let file = dir.path().join("data.yaml");
    std::fs::write(&file, "detect: { rulez: [] }\n").unwrap();
    daruma.signal("HUP");
    until("the mistake is named", || {
        let said = daruma.said.lock().unwrap().join("\n");
        said.contains("data.yaml:1:11: unknown field `rulez`; did you mean `rules`?").then_some(())
    });
    let asked = request(daruma.address, "POST", "/-/reload", &[], "").unwrap();
    assert_eq!(asked.0, 500, "{asked:?}");
    assert!(asked.1.contains("did you mean `rules`?"), "{asked:?}");
    // The old one still works.
    service.signal("KILL");
    until("it is repaired", || (daruma.view()["healed_total"] == 1).then_some(()));
    let config = service.config(&hook.url).replace("alert: Ill", "alert: Sick");
    std::fs::write(&file, config).unwrap();
    daruma.signal("HUP");
    until("the new rules are there", || {
        let rules = daruma.view()["rules"].to_string();
        (rules.contains("Sick") && !rules.contains("Ill")).then_some(())
    });
    // A browser that listens does not hold the end up.
    let mut listener = TcpStream::connect(daruma.address).unwrap();
    write!(listener, "GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", daruma.address).unwrap();
    let mut status = [0; 12];
    listener.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    daruma.signal("TERM");
    assert_eq!(daruma.ended(), Some(0));
    let said = daruma.said.lock().unwrap().join("\n");
    assert!(said.contains("stopping") && !said.contains("did not end in time"), "{said}");
}

/// Goal: the demonstration shows what it promises. Method: it runs once, as a stranger would start it.
#[test]
fn the_demonstration_heals_what_can_be_healed_and_calls_for_the_rest() {
    let out = std::process::Command::new(program())
        .args(["demo", "--once", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&out.stderr));
    for line in ["shop     healed, and proved", "mail     not healed", "search   not healed"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_hold_keeps_hands_off_while_a_command_runs() {
    let Stage { service, hook, daruma, dir, _alone } = stage();
    let marker = dir.path().join("held");
    let deploy = dir.path().join("deploy");
    let text = format!("#!/bin/sh\ntouch {}\nsleep 3\nexit 7\n", marker.display());
    std::fs::write(&deploy, text).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&deploy, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::thread::scope(|scope| {
        let held =
            scope.spawn(|| daruma.cli(&["hold", "service=app", "--", deploy.to_str().unwrap()]));
        until("the hold is taken", || marker.exists().then_some(()));
        service.signal("KILL");
        until("it is seen", || {
            (!daruma.view()["alerts"].as_array().unwrap().is_empty()).then_some(())
        });
        assert_eq!((service.restarts(), hook.titles().len()), (0, 0));
        let (code, _, said) = held.join().unwrap();
        assert_eq!(code, Some(7), "{said}");
    });
    until("still broken after the deploy: repaired", || service.answers().then_some(()));
    until("its end is told", || told_the_end(&hook));
}

#[test]
fn the_stop_file_stops_before_the_next_step() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let hook = Hook::start();
    let stop = dir.path().join("stop");
    std::fs::write(&stop, "").unwrap();
    let config = service.config(&hook.url).replace(
        "  mode: auto\n  actions",
        &format!("  mode: auto\n  stop_file: {}\n  actions", stop.display()),
    );
    let daruma = Daruma::start(&config, &dir.path().join("data"));
    until("it is stopped", || daruma.view()["stopped"].is_string().then_some(()));
    service.signal("KILL");
    until("it is told", || (hook.titles().len() == 1).then_some(()));
    until("it says why nothing is done", || {
        daruma.cli(&["why", "Down"]).1.contains("stopped all recovery").then_some(())
    });
    assert_eq!(service.restarts(), 0);
    std::fs::remove_file(&stop).unwrap();
    until("it is repaired", || service.answers().then_some(()));
}

#[test]
fn an_address_that_others_can_reach_demands_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("open.yaml");
    std::fs::write(&file, "server: { listen: \"0.0.0.0:0\" }\n").unwrap();
    let out = std::process::Command::new(support::program())
        .args(["check", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("server.tokens"));
}
