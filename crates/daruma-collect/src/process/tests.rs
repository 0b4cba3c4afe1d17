//! Real processes, killed, stopped, replaced and mistaken for each other.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use super::*;
use crate::testing::{PATIENCE, Running, ended, run, run_as, value};
use daruma_model::{SourceState, Span};
use tempfile::TempDir;

/// A child that dies with the test, and is reaped then, not before.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be dead already, which is what most tests are about.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

impl Victim {
    fn new(command: &mut Command) -> Victim {
        let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
        Victim(quiet.spawn().unwrap())
    }

    fn sleeping() -> Victim {
        Victim::new(Command::new("sleep").arg("1000").stdout(Stdio::null()))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

/// A folder with a pid file that names `pid`.
fn pid_file(pid: u32) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.pid");
    fs::write(&path, format!("{pid}\n")).unwrap();
    (dir, path)
}

fn by_pid_file(path: &Path, every: Span) -> ProcessSource {
    ProcessSource {
        name: "web".into(),
        check: ProcessCheck { pid_file: Some(path.into()), ..ProcessCheck::default() },
        every: every.try_into().unwrap(),
        labels: [("service", "shop")].into(),
    }
}

/// Looks once a day: what it tells after the first look, it was told by the system.
fn told_by_exits(path: &Path) -> ProcessSource {
    by_pid_file(path, Span::hours(24))
}

const OWN: [(&str, &str); 2] = [("process", "web"), ("service", "shop")];

fn up(commit: &Commit) -> Option<f64> {
    value(commit, "daruma_process_up", &OWN)
}

fn state(commit: &Commit) -> String {
    let states = State::ALL.map(State::as_str);
    let is = |state: &&str| value(commit, "daruma_process_state", &[("state", state)]) == Some(1.0);
    let now: Vec<&str> = states.into_iter().filter(is).collect();
    now.join(" and ")
}

async fn until_up(source: &mut Running, want: f64) -> Commit {
    source.until(|commit| up(commit) == Some(want)).await
}

#[tokio::test]
async fn a_killed_process_is_told_by_the_system_and_stays_a_zombie_until_it_is_reaped() {
    let mut victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let mut source = run(told_by_exits(&path));
    let commit = source.commit().await;
    assert_eq!((up(&commit), value(&commit, "daruma_process_count", &OWN)), (Some(1.0), Some(1.0)));
    assert!(value(&commit, "process_resident_memory_bytes", &OWN).unwrap() > 0.0);
    assert_eq!(value(&commit, "process_threads", &OWN), Some(1.0));
    assert!(value(&commit, "process_open_fds", &OWN).unwrap() >= 3.0);
    assert!(value(&commit, "process_max_fds", &OWN).unwrap() >= 3.0);
    assert!(value(&commit, "process_cpu_seconds_total", &OWN).is_some());
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let started = value(&commit, "process_start_time_seconds", &OWN).unwrap();
    assert!((since_1970.as_secs_f64() - started).abs() < 600.0, "{started}");

    victim.0.kill().unwrap();
    let commit = source.commit().await;
    assert_eq!((up(&commit), &*state(&commit)), (Some(0.0), "zombie"));
    assert!(
        ended(&commit).iter().any(|series| series.starts_with("process_resident_memory_bytes"))
    );
    victim.0.wait().unwrap();
    drop(source);
    let mut source = run(told_by_exits(&path));
    let commit = source.commit().await;
    assert_eq!((up(&commit), &*state(&commit)), (Some(0.0), "gone"));
    let said = source.health(SourceState::Ok).await.said;
    assert!(said.contains("which is no process"), "{said}");
}

#[tokio::test]
async fn a_restart_that_writes_the_pid_file_late_is_down_and_up_again() {
    let mut victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let source = told_by_exits(&path);
    // All the time that a loaded machine may need between two lines of this test.
    let mut source = run_as("process/web", |reporter| source.watch(reporter, PATIENCE));
    let before = until_up(&mut source, 1.0).await;
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    until_up(&mut source, 0.0).await;
    let successor = Victim::sleeping();
    fs::write(&path, successor.pid().to_string()).unwrap();
    let after = until_up(&mut source, 1.0).await;
    let start = |commit| value(commit, "process_start_time_seconds", &OWN).unwrap();
    assert!(start(&after) >= start(&before));
    assert!(after.samples[0].time > before.samples[0].time);
    // The successor's exit is told too.
    drop(successor);
    until_up(&mut source, 0.0).await;
}

#[tokio::test]
async fn a_restart_that_hands_over_is_never_down() {
    let mut victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let mut source = run(told_by_exits(&path));
    until_up(&mut source, 1.0).await;
    let successor = Victim::sleeping();
    fs::write(&path, successor.pid().to_string()).unwrap();
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    assert_eq!(up(&source.commit().await), Some(1.0));
}

#[tokio::test]
async fn a_stopped_process_is_down_and_a_continued_one_is_up() {
    let victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let mut source = run(by_pid_file(&path, Span::millis(100)));
    until_up(&mut source, 1.0).await;
    victim.signal(rustix::process::Signal::STOP);
    let commit = until_up(&mut source, 0.0).await;
    assert_eq!(state(&commit), "stopped");
    assert!(value(&commit, "process_resident_memory_bytes", &OWN).is_some(), "it still holds it");
    victim.signal(rustix::process::Signal::CONT);
    let commit = until_up(&mut source, 1.0).await;
    assert!(matches!(&*state(&commit), "running" | "sleeping"));
}

fn set_age(path: &Path, age: Duration) {
    let written = SystemTime::now() - age;
    fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
}

fn look(check: &ProcessCheck) -> Result<Found, String> {
    look_once(check)
}

fn check_of(path: &Path) -> ProcessCheck {
    ProcessCheck { pid_file: Some(path.into()), ..ProcessCheck::default() }
}

#[test]
fn a_number_from_an_old_pid_file_that_another_process_has_now_is_not_ours() {
    let victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    assert!(look(&check_of(&path)).unwrap().state().is_up());
    set_age(&path, Duration::from_secs(3600));
    let found = look(&check_of(&path)).unwrap();
    assert_eq!(found.state(), State::Gone);
    assert!(found.said("web").contains("the number was used again"), "{}", found.said("web"));
}

#[test]
fn a_pid_file_says_nobody_somebody_or_nothing_to_rely_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.pid");
    let gone = |words: &str| {
        let found = look(&check_of(&path)).unwrap();
        assert_eq!(found.state(), State::Gone);
        assert!(found.said("web").contains(words), "{}", found.said("web"));
    };
    gone("there is no pid file");
    fs::write(&path, " \n").unwrap();
    gone("is empty");
    for text in ["web", "-1", "0", "99999999999", "\u{0}", "1e3"] {
        fs::write(&path, text).unwrap();
        let why = look(&check_of(&path)).unwrap_err();
        assert!(why.contains("does not begin with a pid"), "{text}: {why}");
    }
    assert!(look(&check_of(&path.join("below"))).is_err(), "a path through a file");
    let victim = Victim::sleeping();
    fs::write(&path, format!("  {}\nmore text", victim.pid())).unwrap();
    assert!(look(&check_of(&path)).unwrap().state().is_up());
}

#[tokio::test]
async fn who_loses_its_pid_file_still_runs() {
    let victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let mut source = run(by_pid_file(&path, Span::millis(100)));
    until_up(&mut source, 1.0).await;
    fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(up(&source.commit().await), Some(1.0));
    }
    drop(victim);
    until_up(&mut source, 0.0).await;
}

#[tokio::test]
async fn an_unreadable_pid_file_says_nothing_about_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.pid");
    let victim = Victim::sleeping();
    fs::write(&path, victim.pid().to_string()).unwrap();
    let mut source = run(by_pid_file(&path, Span::millis(100)));
    until_up(&mut source, 1.0).await;
    fs::write(&path, "garbage").unwrap();
    // Adopted, it is known by more than its file; gone, nobody knows who is meant.
    drop(victim);
    let commit = source.until(|commit| up(commit).is_none()).await;
    assert!(ended(&commit).iter().any(|series| series.starts_with("daruma_process_up")));
    let health = source.health(SourceState::Failing).await;
    assert!(health.said.contains("does not begin with a pid"), "{}", health.said);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_whose_first_thread_has_exited_runs_on() {
    // The exit of a thread, not of its process, by its number.
    let exit = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    let script = format!(
        "import threading,time,ctypes\n\
         threading.Thread(target=time.sleep,args=(1000,)).start()\n\
         ctypes.CDLL(None).syscall({exit},0)"
    );
    let mut command = Command::new("python3");
    if Command::new("python3").arg("-c").arg("import ctypes").status().is_err() {
        return println!("SKIPPED: no python3");
    }
    let victim = Victim::new(command.arg("-c").arg(script).stdout(Stdio::null()));
    let (_dir, path) = pid_file(victim.pid());
    let status = format!("/proc/{}/status", victim.pid());
    for _ in 0..1000 {
        if fs::read_to_string(&status).unwrap().contains("State:\tZ") {
            let found = look(&check_of(&path)).unwrap();
            return assert!(found.state().is_up(), "{}", found.said("web"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("its first thread never exited");
}

#[cfg(target_os = "linux")]
#[test]
fn a_memory_limit_is_told() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1000000; echo set; exec sleep 1000"]).stdout(Stdio::piped());
    let mut victim = Victim::new(&mut command);
    let mut word = [0; 4];
    victim.0.stdout.take().unwrap().read_exact(&mut word).unwrap();
    let (_dir, path) = pid_file(victim.pid());
    let found = look(&check_of(&path)).unwrap();
    assert_eq!(found.processes[0].memory_limit_bytes, Some(1_024_000_000));
}

#[test]
fn an_executable_is_found_by_its_path_even_after_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my-service");
    fs::copy("/bin/sleep", &path).unwrap();
    let check = ProcessCheck { exe: Some(path.clone()), ..ProcessCheck::default() };
    assert_eq!(look(&check).unwrap().state(), State::Gone);
    let victims = [1, 2].map(|_| Victim::new(Command::new(&path).arg("1000")));
    let found = look(&check).unwrap();
    assert_eq!((found.processes.len(), found.state().is_up()), (2, true));
    fs::remove_file(&path).unwrap();
    assert_eq!(look(&check).unwrap().processes.len(), 2);
    drop(victims);
    assert_eq!(look(&check).unwrap().state(), State::Gone);
}

/// A restart command names the service in its arguments; that is not the service.
#[test]
fn a_pattern_finds_the_service_and_not_the_command_that_restarts_it() {
    let unique = format!("86400.{}", std::process::id());
    let check = ProcessCheck {
        pattern: Some(format!("sleep {}$", unique.replace('.', "\\."))),
        ..ProcessCheck::default()
    };
    assert_eq!(look(&check).unwrap().state(), State::Gone);
    // A direct child, as an action of a runbook is.
    let command = Victim::new(Command::new("sleep").arg(&unique).stdout(Stdio::null()));
    assert_eq!(look(&check).unwrap().state(), State::Gone);
    drop(command);
    let script = format!("sleep {unique} & echo $!; wait");
    let mut shell = Command::new("sh");
    let mut shell = Victim::new(shell.args(["-c", &script]).stdout(Stdio::piped()));
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(shell.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    // Told by the shell before it has become `sleep`.
    let mut found = look(&check).unwrap();
    for _ in 0..1000 {
        if found.state().is_up() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        found = look(&check).unwrap();
    }
    let pids: Vec<u32> = found.processes.iter().map(|process| process.identity.pid).collect();
    assert_eq!(pids, [pid]);
    let service = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(service, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_group_is_as_well_as_its_best_member_and_as_short_of_descriptors_as_its_worst() {
    let reading = |pid, state, open, max| Reading {
        identity: Identity { pid, start: u64::from(pid) },
        state,
        resident_bytes: 100,
        cpu_seconds: 1.5,
        threads: 2,
        started: 1000.0 + f64::from(pid),
        open_fds: Some(open),
        max_fds: Some(max),
        memory_limit_bytes: None,
    };
    let found = Found {
        processes: vec![
            reading(1, State::Zombie, 0, 9),
            reading(2, State::Sleeping, 90, 100),
            reading(3, State::Stopped, 500, 1000),
        ],
        why: String::new(),
    };
    let mut book = SeriesBook::new(Labels::default());
    let commit = read_into(&mut book, &found, Time(1));
    for (name, want) in [
        ("daruma_process_up", 1.0),
        ("daruma_process_count", 1.0),
        ("process_resident_memory_bytes", 200.0),
        ("process_cpu_seconds_total", 3.0),
        ("process_threads", 4.0),
        ("process_open_fds", 90.0),
        ("process_max_fds", 100.0),
        ("process_start_time_seconds", 1002.0),
    ] {
        assert_eq!(value(&commit, name, &[]), Some(want), "{name}");
    }
    assert_eq!(state(&commit), "sleeping");
    assert_eq!(found.said("web"), "process web is sleeping, 1 of 3 run");
}

#[tokio::test]
async fn where_there_is_no_proc_the_same_is_seen() {
    let victim = Victim::sleeping();
    let (_dir, path) = pid_file(victim.pid());
    let mut looker = portable::Looker::new(Finder::new(&check_of(&path)).unwrap(), false);
    let found = looker.look().unwrap();
    assert_eq!((found.processes.len(), found.state().is_up()), (1, true), "{found:?}");
    victim.signal(rustix::process::Signal::STOP);
    for _ in 0..1000 {
        if looker.look().unwrap().state() == State::Stopped {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(looker.look().unwrap().state(), State::Stopped);
    drop(victim);
    assert_eq!(looker.look().unwrap().state(), State::Gone);
    // Nobody tells of an exit there; the next look sees it.
    let told = tokio::time::timeout(Duration::from_millis(1), looker.exited()).await;
    assert!(told.is_err());
}

#[test]
fn a_process_is_found_in_exactly_one_way() {
    let read =
        |yaml: &str| serde_saphyr::from_str::<ProcessSource>(yaml).map_err(|e| e.to_string());
    let source = read("{ name: web, pattern: 'nginx: master', every: 200ms }").unwrap();
    let again: ProcessSource =
        serde_json::from_value(serde_json::to_value(&source).unwrap()).unwrap();
    assert_eq!(again, source);
    for (yaml, words) in [
        ("{ name: web }", "exactly one of"),
        ("{ name: web, exe: /bin/x, pattern: x }", "exactly one of"),
        ("{ name: web, pattern: '(' }", "no regular expression"),
        ("{ name: web, pattern: '' }", "every process"),
        ("{ name: '', exe: /bin/x }", "name"),
        ("{ name: web, exe: /bin/x, every: 99ms }", "100ms"),
        ("{ name: web, pidfile: /x }", "pidfile"),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(words), "{yaml}: {error}");
    }
}
