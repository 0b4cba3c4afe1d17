//! In a process of its own, because it measures the memory of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // In tests, helpers included.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use daruma_collect::{Config, Context, Delivery, LogSource, start};
use daruma_model::{Clock, SourceState, Time};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What memory this process has at most held so far, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_line_of_200_mb_costs_its_cap_and_the_next_line_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let clock: Clock = Arc::new(|| Time(0));
    let (deliveries, mut inbox) = mpsc::channel(64);
    let source = LogSource::of(&[path.to_str().unwrap()]).unwrap();
    let config = Config { logs: vec![source], ..Config::default() };
    let handle = start(config, Context { clock, deliveries, positions: BTreeMap::new() });
    let (mut got, mut before) = (Vec::new(), None);
    while got.len() < 2 {
        match timeout(Duration::from_secs(120), inbox.recv()).await.unwrap().unwrap() {
            // The first look is over: what appears from now on is new.
            Delivery::Health(health) if health.state == SourceState::Ok && before.is_none() => {
                before = Some(peak_memory());
                let piece = vec![b'x'; 1 << 20];
                let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
                for _ in 0..200 {
                    file.write_all(&piece).unwrap();
                }
                file.write_all(b"\nINFO after\n").unwrap();
            }
            Delivery::Logs { records, .. } => got.extend(records.into_iter().map(|r| r.body)),
            _ => {}
        }
    }
    assert_eq!((got[0].len(), &*got[1]), (64 * 1024, "INFO after"));
    let grown = peak_memory() - before.unwrap();
    assert!(grown < 20 << 20, "memory grew by {grown} bytes");
    handle.shutdown().await;
}
