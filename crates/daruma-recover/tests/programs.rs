//! Real programs, well-behaved and not: what runs, what is said of it, and what is left behind.

#![allow(clippy::unwrap_used)] // In tests, helpers included, a panic is the message.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daruma_model::{ActionEnd, ActionId, ActionOutcome, ActionRequest, Labels, Span, Time};
use daruma_recover::{INCIDENT_BYTES_MAX, OUTPUT_BYTES_MAX, Performer, Registry};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A host with one action, `act`, which runs a script.
struct Host {
    dir: tempfile::TempDir,
    performer: Performer,
}

impl Host {
    fn with(script: &str, more: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("act");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = dir.path().display();
        let yaml = format!("act: {{argv: [{at}/act, {at}, two words], dir: {at}{more}}}");
        Host { performer: performer(&yaml), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    async fn act(&self) -> ActionOutcome {
        self.performer.run(request("act", 1), never()).await
    }
}

fn performer(yaml: &str) -> Performer {
    let registry: Registry = serde_saphyr::from_str(yaml).expect(yaml);
    let ticks = AtomicI64::new(0);
    Performer::new(registry, Arc::new(move || Time(ticks.fetch_add(1, Ordering::SeqCst))))
}

fn request(action: &str, fence: u64) -> ActionRequest {
    ActionRequest {
        id: ActionId { incident: 7, recovery: 3, step: 0, attempt: 2, fence },
        action: action.to_owned(),
        target: "web-1".to_owned(),
        labels: Labels::from([("job", "web")]),
        runbook: "web-hung".to_owned(),
        timeout: Span::secs(60),
        incident: json!({"id": 7, "title": "web is hung"}),
    }
}

fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

/// Waits until a file holds a line; a test that waits for ever fails by this bound.
async fn written(path: &Path) -> String {
    for _ in 0..1200 {
        if let Ok(text) = std::fs::read_to_string(path)
            && text.ends_with('\n')
        {
            return text.trim().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing was written to {} within 30 s", path.display());
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn gone(pid: &str) {
    for _ in 0..1200 {
        if !runs(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{pid} still runs after 30 s");
}

fn end_of(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_gets_its_arguments_a_clean_environment_and_the_incident() {
    let script = "printf '%s|' \"$@\" >args; env | sort >env; cat >in; umask; pwd; ps -o sid= -p $$ \
                  >sid; echo $$ >pid; ls /proc/self/fd >fds; grep SigIgn /proc/$$/status; echo err >&2; \
                  exit 3";
    let host = Host::with(script, ", env: {SHOP: a b}");
    let outcome = host.act().await;
    assert_eq!(outcome.end, ActionEnd::Exited(3));
    assert_eq!(outcome.id, request("act", 1).id);
    assert!(outcome.started < outcome.ended);
    let at = host.dir.path().display();
    assert_eq!(host.read("args"), format!("{at}|two words|"));
    let environment = host.read("env");
    let names = environment.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    // The shell itself adds these.
    let names: Vec<_> =
        names.filter(|name| !["PWD", "OLDPWD", "_", "SHLVL"].contains(name)).collect();
    let ours = ["DARUMA_ACTION_ID", "DARUMA_INCIDENT", "DARUMA_RUNBOOK", "DARUMA_TARGET"];
    assert_eq!(names, [&ours[..], &["LANG", "PATH", "SHOP"]].concat());
    for line in ["DARUMA_ACTION_ID=7-3-0-2", "DARUMA_TARGET=web-1", "LANG=C.UTF-8", "SHOP=a b"] {
        assert!(environment.lines().any(|found| found == line), "{line} in {environment}");
    }
    assert_eq!(host.read("in"), "{\"id\":7,\"title\":\"web is hung\"}\n");
    assert_eq!(host.read("sid").trim(), host.read("pid").trim(), "a session of its own");
    assert_eq!(host.read("fds").lines().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is ls's own");
    let said: Vec<_> = outcome.output.lines().collect();
    let [mask, pwd, ignored, err] = said[..] else { panic!("{said:?}") };
    assert_eq!((mask, pwd, err), ("0022", &*at.to_string(), "err"), "both streams, in order");
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:\t"), 16).unwrap();
    // 32 and 33 belong to the C library, which lets nobody set them.
    assert_eq!(ignored & !(3 << 31), 0, "{ignored:x}");
}

#[tokio::test]
async fn how_it_ended_is_told_apart() {
    for (script, end) in [
        ("exit 0", ActionEnd::Exited(0)),
        ("exit 200", ActionEnd::Exited(200)),
        ("kill -SEGV $$", ActionEnd::Signalled(11)),
        ("kill -KILL $$", ActionEnd::Signalled(9)),
    ] {
        assert_eq!(Host::with(script, "").act().await.end, end, "{script}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let host = Host::with("exit 0", "");
    let plain = host.path("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let lost = host.path("lost");
    std::fs::write(&lost, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&lost, std::fs::Permissions::from_mode(0o755)).unwrap();
    let performer = performer(&format!(
        "missing: {{argv: [/no/such]}}\nunknown: {{argv: [no-such-program]}}\nplain: {{argv: \
         [{}]}}\nlost: {{argv: [{}]}}\nnowhere: {{argv: ['true'], dir: /no/such}}\n",
        plain.display(),
        lost.display()
    ));
    for (fence, (action, words)) in [
        ("missing", "there is no /no/such"),
        ("unknown", "is not on the path"),
        ("plain", "is not executable"),
        ("lost", "its interpreter"),
        ("nowhere", "working directory /no/such"),
        ("rm -rf /", "`rm -rf /` is not in the actions registry"),
        ("../act", "is not in the actions registry"),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = performer.run(request(action, fence as u64), never()).await;
        let ActionEnd::NotStarted(why) = outcome.end else { panic!("{action}: {outcome:?}") };
        assert!(why.contains(words), "{action}: {why}");
    }
    let spent = ActionRequest { timeout: Span::ZERO, ..request("missing", 100) };
    let outcome = performer.run(spent, never()).await;
    assert_eq!(outcome.end, ActionEnd::NotStarted("its time was up before it began".to_owned()));
}

#[tokio::test]
async fn a_fence_is_spent_once_whatever_came_of_it() {
    let host = Host::with("echo ran >>ran", "");
    let (first, same) = (
        host.performer.run(request("act", 5), never()),
        host.performer.run(request("act", 5), never()),
    );
    let lower = host.performer.run(request("act", 4), never());
    let refused = host.performer.run(request("unknown", 6), never());
    let after_that = host.performer.run(request("act", 6), never());
    // In any order of polling: what counts is the order of asking.
    for (run, words) in [(after_that, "fence 6"), (same, "fence 5"), (lower, "fence 4")] {
        let ActionEnd::NotStarted(why) = run.await.end else { panic!("{words}") };
        assert!(why.starts_with(words), "{why}");
    }
    assert!(matches!(refused.await.end, ActionEnd::NotStarted(_)));
    assert_eq!(first.await.end, ActionEnd::Exited(0));
    assert_eq!(host.read("ran"), "ran\n");
    // After a restart: what the journal knows is spent; after a reload: what was spent stays so.
    let restarted = host.performer.clone().above(10);
    restarted.reload(Registry::default());
    for (fence, words) in [(10, "fence 10"), (11, "not in the actions registry")] {
        let outcome = restarted.run(request("act", fence), never()).await;
        let ActionEnd::NotStarted(why) = outcome.end else { panic!("{outcome:?}") };
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(host.read("ran"), "ran\n");
}

#[tokio::test]
async fn at_its_timeout_the_whole_group_is_ended() {
    // The program and a grandchild ignore the request to end; a third one heeds it.
    let script = "sh -c 'trap \"echo bye >bye; exit\" TERM; echo $$ >heeds; while :; do sleep 0.1; done' & \
                  trap '' TERM; sh -c 'echo $$ >deaf; while :; do sleep 1; done' & \
                  echo working; while :; do sleep 1; done";
    let host = Host::with(script, ", timeout: 2s");
    let outcome = host.act().await;
    assert_eq!(outcome.end, ActionEnd::TimedOut);
    // The shell may add a word about its ended jobs.
    assert!(outcome.output.starts_with("working\n"), "{}", outcome.output);
    for name in ["deaf", "heeds"] {
        gone(&written(&host.path(name)).await).await;
    }
    assert_eq!(written(&host.path("bye")).await, "bye", "it had its second");
}

#[tokio::test]
async fn the_shorter_timeout_counts() {
    let host = Host::with("sleep 600", "");
    let short = ActionRequest { timeout: Span::millis(200), ..request("act", 1) };
    assert_eq!(host.performer.run(short, never()).await.end, ActionEnd::TimedOut);
    let host = Host::with("sleep 600", ", timeout: 200ms");
    let long = ActionRequest { timeout: Span::hours(9), ..request("act", 1) };
    assert_eq!(host.performer.run(long, never()).await.end, ActionEnd::TimedOut);
}

#[tokio::test]
async fn a_service_it_started_lives_on_and_holds_nothing_up() {
    // The first keeps our pipe open, as careless start scripts do; the second is a proper daemon.
    let script = "sh -c 'echo $$ >careless; while :; do echo noise; sleep 0.05; done' & \
                  setsid sh -c 'echo $$ >proper; exec sleep 600' </dev/null >/dev/null 2>&1 & \
                  while ! test -s careless || ! test -s proper; do sleep 0.05; done; echo started";
    let host = Host::with(script, "");
    let outcome = host.act().await;
    assert_eq!(outcome.end, ActionEnd::Exited(0));
    assert!(outcome.output.contains("started"));
    for name in ["careless", "proper"] {
        let pid = written(&host.path(name)).await;
        assert!(runs(&pid), "{name}");
        end_of(&pid);
    }
}

#[tokio::test]
async fn a_daemon_survives_the_timeout_of_what_started_it() {
    let script =
        "setsid sh -c 'echo $$ >proper; exec sleep 600' </dev/null >/dev/null 2>&1 & sleep 600";
    let host = Host::with(script, ", timeout: 2s");
    assert_eq!(host.act().await.end, ActionEnd::TimedOut);
    let pid = written(&host.path("proper")).await;
    assert!(runs(&pid));
    end_of(&pid);
}

#[tokio::test]
async fn a_flood_of_output_is_drained_and_its_end_kept() {
    let host = Host::with("head -c 1000000000 /dev/zero; echo; echo the end", "");
    let outcome = host.act().await;
    assert_eq!(outcome.end, ActionEnd::Exited(0));
    assert!(outcome.output.ends_with("\nthe end\n"));
    assert!(outcome.output.len() <= OUTPUT_BYTES_MAX);
    let host = Host::with("exec yes", ", timeout: 500ms");
    let outcome = host.act().await;
    assert_eq!(outcome.end, ActionEnd::TimedOut);
    assert!(outcome.output.ends_with("y\ny\n") || outcome.output.ends_with("y\ny"));
}

#[tokio::test]
async fn an_incident_nobody_reads_blocks_nobody_and_a_huge_one_arrives_in_essence() {
    let huge = |bytes: usize| json!({"id": 7, "text": "x".repeat(bytes), "title": "hung"});
    for (script, incident) in [
        ("exec <&-; exit 0", huge(INCIDENT_BYTES_MAX - 100)),
        ("exit 0", huge(10_000_000)),
        ("cat >in", huge(INCIDENT_BYTES_MAX - 100)),
    ] {
        let host = Host::with(script, "");
        let request = ActionRequest { incident: incident.clone(), ..request("act", 1) };
        assert_eq!(
            host.performer.run(request, never()).await.end,
            ActionEnd::Exited(0),
            "{script}"
        );
        if script.contains("cat") {
            assert_eq!(serde_json::from_str::<Value>(&host.read("in")).unwrap(), incident);
        }
    }
    let many: BTreeMap<String, String> =
        (0..5000).map(|i| (format!("{i}\u{1}"), "\u{1}".repeat(100))).collect();
    for incident in
        [huge(1_000_000), json!(many), json!("y".repeat(1_000_000)), json!(vec![0; 500_000])]
    {
        let host = Host::with("cat >in", "");
        let request = ActionRequest { incident, ..request("act", 1) };
        assert_eq!(host.performer.run(request, never()).await.end, ActionEnd::Exited(0));
        let line = host.read("in");
        assert!(line.len() <= INCIDENT_BYTES_MAX && line.ends_with('\n'), "{}", line.len());
        let read: Value = serde_json::from_str(&line).unwrap();
        assert!(read["left_out"].is_array(), "{line:.200}");
        if line.contains("hung") {
            assert_eq!((&read["id"], &read["left_out"]), (&json!(7), &json!(["text"])));
        }
    }
}

#[tokio::test]
async fn hostile_text_reaches_environment_and_input_or_nothing() {
    let script = "printf %s \"$DARUMA_TARGET\" >target; cat >in; echo $# >count";
    for target in
        ["$(touch x)", "; touch x", "a\nb\n", "`touch x`", "--help", "ä\u{202e}\u{1b}[2J", ""]
    {
        let host = Host::with(script, "");
        let incident = json!({"label": target, "nul": "a\0b"});
        let request = ActionRequest {
            target: target.to_owned(),
            labels: Labels::from([("evil", target)]),
            incident: incident.clone(),
            ..request("act", 1)
        };
        assert_eq!(
            host.performer.run(request, never()).await.end,
            ActionEnd::Exited(0),
            "{target}"
        );
        assert_eq!(host.read("target"), target);
        assert_eq!(serde_json::from_str::<Value>(&host.read("in")).unwrap(), incident);
        assert_eq!(host.read("count"), "2\n", "no further argument");
        assert!(!host.path("x").exists(), "{target}");
    }
    for (target, words) in [("a\0b".to_owned(), "NUL"), ("y".repeat(1 << 20), "1048576 bytes")] {
        let host = Host::with("touch ran", "");
        let request = ActionRequest { target, ..request("act", 1) };
        let outcome = host.performer.run(request, never()).await;
        let ActionEnd::NotStarted(why) = outcome.end else { panic!("{outcome:?}") };
        assert!(why.contains(words) && why.len() < 200, "{why}");
        assert!(!host.path("ran").exists());
    }
}

#[tokio::test]
async fn an_abort_ends_it_and_a_lost_monitor_does_not() {
    let host = Host::with("echo $$ >pid; sleep 600", "");
    let (abort, asked) = watch::channel(false);
    let run = tokio::spawn(host.performer.run(request("act", 1), asked.clone()));
    let pid = written(&host.path("pid")).await;
    abort.send(true).unwrap();
    assert_eq!(run.await.unwrap().end, ActionEnd::Aborted);
    gone(&pid).await;
    let outcome = host.performer.run(request("act", 2), asked).await;
    let why = "it was aborted before it began".to_owned();
    assert_eq!(outcome.end, ActionEnd::NotStarted(why));

    // Whoever could abort goes away, then whoever waits for the outcome: the program goes on.
    let host = Host::with("echo $$ >pid; sleep 1; echo lost words; echo done >done", "");
    let (abort, asked) = watch::channel(false);
    let run = tokio::spawn(host.performer.run(request("act", 1), asked));
    written(&host.path("pid")).await;
    drop(abort);
    run.abort();
    assert_eq!(written(&host.path("done")).await, "done");
}

/// The monitor of the next test, as a process of its own; by itself it does nothing.
#[tokio::test]
async fn monitor_to_be_killed() {
    let Ok(dir) = std::env::var("DARUMA_TEST_MONITOR") else { return };
    let performer = performer(&format!("act: {{argv: [{dir}/act], dir: {dir}}}"));
    performer.run(request("act", 1), never()).await;
}

#[tokio::test]
async fn an_act_survives_the_death_of_the_monitor_and_of_its_group() {
    // It prints after the monitor's death: a broken pipe would kill it half-way.
    let script = "echo $$ >pid; while ! test -e dead; do sleep 0.05; done; \
                  i=0; while test $i -lt 200; do echo more words; i=$((i+1)); done; cat >in; echo done >done";
    let host = Host::with(script, "");
    let mut monitor = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "monitor_to_be_killed"])
        .env("DARUMA_TEST_MONITOR", host.dir.path())
        .process_group(0)
        .spawn()
        .unwrap();
    written(&host.path("pid")).await;
    let group = rustix::process::Pid::from_raw(monitor.id().unwrap() as i32).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    monitor.wait().await.unwrap();
    std::fs::write(host.path("dead"), "").unwrap();
    assert_eq!(written(&host.path("done")).await, "done");
    assert!(host.read("in").contains("web is hung"), "its input is whole");
}

#[tokio::test]
async fn many_at_once_do_not_hear_each_other() {
    let host = Host::with("sleep 0.2; echo \"$DARUMA_TARGET\"", "");
    let runs: Vec<_> = (0..64)
        .map(|fence| {
            let request = ActionRequest { target: format!("web-{fence}"), ..request("act", fence) };
            tokio::spawn(host.performer.run(request, never()))
        })
        .collect();
    for (number, run) in runs.into_iter().enumerate() {
        let outcome = run.await.unwrap();
        let told = (outcome.id.fence, outcome.end, outcome.output);
        assert_eq!(told, (number as u64, ActionEnd::Exited(0), format!("web-{number}\n")));
    }
}
