//! Log files through the whole collector: real files, real notification, real threads.

#![allow(clippy::unwrap_used)] // In tests, helpers included.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daruma_collect::{Config, Context, Delivery, Handle, LogSource, Position, start};
use daruma_model::{Clock, LogRecord, SourceHealth, SourceState, Time};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

struct Run {
    handle: Handle,
    inbox: mpsc::Receiver<Delivery>,
    kept: BTreeMap<String, Position>,
    health: Option<SourceHealth>,
}

fn run(source: LogSource, positions: BTreeMap<String, Position>) -> Run {
    let clock: Clock = Arc::new(|| Time(0));
    let (deliveries, inbox) = mpsc::channel(64);
    let config = Config { logs: vec![source], ..Config::default() };
    let handle = start(config, Context { clock, deliveries, positions: positions.clone() });
    Run { handle, inbox, kept: positions, health: None }
}

impl Run {
    async fn deliver(&mut self) -> Vec<LogRecord> {
        match timeout(PATIENCE, self.inbox.recv()).await.unwrap().unwrap() {
            Delivery::Logs { records, position } => {
                if position.ended {
                    self.kept.remove(&position.key());
                } else {
                    self.kept.insert(position.key(), position);
                }
                return records;
            }
            Delivery::Health(health) => self.health = Some(health),
            Delivery::Signal(_) | Delivery::Described(_) => {}
        }
        Vec::new()
    }

    /// The next so many records.
    async fn records(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            bodies.extend(self.deliver().await.into_iter().map(|record| record.body));
        }
        bodies
    }

    async fn health(&mut self, is: impl Fn(&SourceHealth) -> bool) -> SourceHealth {
        loop {
            self.deliver().await;
            if let Some(health) = self.health.clone().filter(&is) {
                return health;
            }
        }
    }

    /// The first look is over: what appears from now on is new.
    async fn looked(&mut self) {
        self.health(|health| health.state != SourceState::Starting).await;
    }
}

fn source(dir: &Path, glob: &str) -> LogSource {
    LogSource::of(&[dir.join(glob).to_str().unwrap()]).unwrap()
}

fn append(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}

#[tokio::test]
async fn a_service_is_deployed_into_a_new_directory_rotates_and_the_collector_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(source(dir.path(), "srv/**/*.log"), BTreeMap::new());
    run.looked().await; // Not even the root is there.
    let logs = dir.path().join("srv/shop/2026/log");
    fs::create_dir_all(&logs).unwrap();
    append(logs.join("shop.log"), "INFO 1\n");
    assert_eq!(run.records(1).await, ["INFO 1"]);
    append(logs.join("shop.log"), "INFO 2\n");
    fs::rename(logs.join("shop.log"), logs.join("shop.log.1")).unwrap();
    append(logs.join("shop.log"), "INFO 3\n");
    assert_eq!(run.records(2).await, ["INFO 2", "INFO 3"]);
    let positions = run.handle.shutdown().await;
    append(logs.join("shop.log"), "INFO 4\n");
    append(logs.join("other.log"), "INFO 5\n");
    let mut run = again(source(dir.path(), "srv/**/*.log"), positions);
    let mut got = run.records(2).await;
    got.sort();
    assert_eq!(got, ["INFO 4", "INFO 5"]);
    run.handle.shutdown().await;
}

/// The same as [`run`], for where a variable hides its name.
fn again(source: LogSource, positions: BTreeMap<String, Position>) -> Run {
    run(source, positions)
}

#[tokio::test]
async fn polling_sees_what_notification_sees() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), "*.log");
    source.poll = Some(serde_saphyr::from_str("100ms").unwrap());
    let mut run = run(source, BTreeMap::new());
    run.looked().await;
    append(dir.path().join("a.log"), "1\n");
    assert_eq!(run.records(1).await, ["1"]);
    fs::rename(dir.path().join("a.log"), dir.path().join("a.log.1")).unwrap();
    append(dir.path().join("a.log"), "2\n");
    assert_eq!(run.records(1).await, ["2"]);
    assert!(run.health(|health| !health.said.is_empty()).await.said.contains("every 100ms"));
    run.handle.shutdown().await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_a_stop_while_it_is_slow_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut run = run(source(dir.path(), "*.log"), BTreeMap::new());
    run.looked().await;
    // Far more than the channel holds, in pieces of their own deliveries.
    let lines: Vec<String> =
        (0..200_000).map(|i| format!("INFO line {i} {}", "x".repeat(60))).collect();
    append(&path, lines.join("\n") + "\n");
    let first = run.records(1000).await;
    let Run { handle, mut inbox, kept, .. } = run;
    // Stopped while nobody reads; what had been put on the channel is still taken from it.
    let positions = handle.shutdown().await;
    let mut got = first;
    while let Ok(delivery) = inbox.try_recv() {
        if let Delivery::Logs { records, .. } = delivery {
            got.extend(records.into_iter().map(|record| record.body));
        }
    }
    assert!(got.len() < lines.len(), "the stop came too late to test anything");
    assert!(kept.len() <= positions.len());
    let mut run = again(source(dir.path(), "*.log"), positions);
    got.extend(run.records(lines.len() - got.len()).await);
    assert!(got == lines);
    run.handle.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_cannot_be_read_is_a_failing_source_until_it_can() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    // Root may read everything, so the obstacle is one that stops root, too.
    symlink("loop.log", dir.path().join("loop.log")).unwrap();
    let secret = dir.path().join("secret.log");
    append(&secret, "x\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let mut run = run(source(dir.path(), "*.log"), BTreeMap::new());
    let health = run.health(|health| health.state == SourceState::Failing).await;
    assert!(health.said.contains("cannot read"), "{}", health.said);
    append(dir.path().join("good.log"), "INFO still read\n");
    assert_eq!(run.records(1).await, ["INFO still read"]);
    fs::remove_file(dir.path().join("loop.log")).unwrap();
    fs::remove_file(&secret).unwrap();
    run.health(|health| health.state == SourceState::Ok).await;
    run.handle.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_container_log_is_read_through_its_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("pods/a")).unwrap();
    fs::create_dir_all(dir.path().join("containers")).unwrap();
    let target = dir.path().join("pods/a/0.log");
    append(&target, "");
    std::os::unix::fs::symlink(&target, dir.path().join("containers/a.log")).unwrap();
    let mut run = run(source(dir.path(), "containers/*.log"), BTreeMap::new());
    run.looked().await;
    append(&target, "INFO 1\n");
    assert_eq!(run.records(1).await, ["INFO 1"]);
    run.handle.shutdown().await;
}
