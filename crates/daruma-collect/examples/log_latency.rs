//! Measures log tailing on this machine: from append to delivery, and how much a second.
//!
//! ```console
//! $ cargo run --release -p daruma-collect --example log_latency
//! ```

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_collect::{Config, Context, Delivery, LogSource, start};
use daruma_model::{Clock, Time};
use tokio::sync::mpsc;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Lines for the latency, one every few milliseconds as a busy service writes them.
const LINES: usize = 4000;
/// Bytes for the throughput.
const BULK: usize = 1 << 30;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    for (what, level) in [("INFO lines", "INFO"), ("ERROR lines (held for their trace)", "ERROR")] {
        let mut took = latency(dir.path(), level).await?;
        took.sort();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{what}: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms over {} appends",
            at(0.5),
            at(0.99),
            at(1.0),
            took.len()
        );
    }
    throughput(dir.path()).await
}

fn begin(
    dir: &std::path::Path,
    name: &str,
) -> Result<(daruma_collect::Handle, mpsc::Receiver<Delivery>), Failed> {
    let path = dir.join(name);
    let source = LogSource::of(&[path.to_str().ok_or("a path that is no text")?])?;
    let clock: Clock = Arc::new(|| Time(0));
    let (deliveries, inbox) = mpsc::channel(256);
    let config = Config { logs: vec![source], ..Config::default() };
    Ok((start(config, Context { clock, deliveries, positions: BTreeMap::new() }), inbox))
}

async fn latency(dir: &std::path::Path, level: &str) -> Result<Vec<Duration>, Failed> {
    let name = format!("{level}.log");
    let path = dir.join(&name);
    std::fs::write(&path, "")?;
    let (handle, mut inbox) = begin(dir, &name)?;
    let began = Instant::now();
    let level = level.to_owned();
    let writer = std::thread::spawn(move || -> Result<(), std::io::Error> {
        std::thread::sleep(Duration::from_millis(500));
        let mut file = OpenOptions::new().append(true).open(path)?;
        for i in 0..LINES {
            let now = began.elapsed().as_nanos();
            file.write_all(format!("2026-11-23 04:00:00 {level} line {i} at {now}\n").as_bytes())?;
            // From 1 to 8 ms, so that no timer falls into step with it.
            std::thread::sleep(Duration::from_micros(1000 + (i as u64 * 7919) % 7000));
        }
        Ok(())
    });
    let mut took = Vec::with_capacity(LINES);
    while took.len() < LINES {
        let Delivery::Logs { records, .. } = inbox.recv().await.ok_or("the collector ended")?
        else {
            continue;
        };
        let now = began.elapsed();
        for record in records {
            let at: u64 = record.body.rsplit(' ').next().unwrap_or("").parse()?;
            took.push(now.saturating_sub(Duration::from_nanos(at)));
        }
    }
    writer.join().map_err(|_| "the writer panicked")??;
    handle.shutdown().await;
    Ok(took)
}

async fn throughput(dir: &std::path::Path) -> Result<(), Failed> {
    let line = "2026-11-23 04:00:00,123 INFO [worker-7] c.s.Shop - order 4711 was taken by customer 815 and paid\n";
    let (handle, mut inbox) = begin(dir, "bulk.log")?;
    while !matches!(inbox.recv().await, Some(Delivery::Health(health)) if health.state == daruma_model::SourceState::Ok)
    {
    }
    let path = dir.join("new.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let piece = line.repeat(10_000);
    let mut wanted = 0;
    while wanted * line.len() < BULK {
        file.write_all(piece.as_bytes())?;
        wanted += 10_000;
    }
    let began = Instant::now();
    std::fs::rename(&path, dir.join("bulk.log"))?;
    let mut got = 0;
    while got < wanted {
        if let Some(Delivery::Logs { records, .. }) = inbox.recv().await {
            got += records.len();
        }
    }
    let took = began.elapsed().as_secs_f64();
    let megabytes = (wanted * line.len()) as f64 / 1e6;
    println!("throughput: {:.0} MB/s, {:.0} lines/s", megabytes / took, wanted as f64 / took);
    handle.shutdown().await;
    Ok(())
}
