//! How fast it is here. Prints figures and asserts none of them: run with
//! `cargo test --release -p daruma-journal --test throughput -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use common::padded;
use daruma_journal::{Journal, NewEvent, Options};

/// How ids follow one another.
#[derive(Debug, Clone, Copy)]
enum Ids {
    Rising,
    Random,
}

/// About 300 bytes of body.
fn batch(ids: Ids, from: u64, size: u64) -> Vec<NewEvent> {
    let mut batch = Vec::new();
    for number in from..from + size {
        let mut one = padded((number % 64) as u8, number, 220);
        one.event_id = match ids {
            // Every leaf of the index is touched by every batch.
            Ids::Random => format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            Ids::Rising => format!("{number:016x}"),
        };
        batch.push(one);
    }
    batch
}

#[test]
#[ignore = "measures, asserts nothing"]
fn throughput() {
    for ids in [Ids::Rising, Ids::Random] {
        println!("ids: {ids:?}");
        measure(ids);
    }
}

fn measure(ids: Ids) {
    // In the target directory: temporary directories may be in memory, where a sync costs nothing.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let journal = Journal::open(place.path(), Options::default()).unwrap();
    let mut next = 0;
    for (size, batches) in [(1, 3_000), (100, 600), (1000, 100)] {
        let started = Instant::now();
        let mut slowest = std::time::Duration::ZERO;
        for _ in 0..batches {
            let batch = batch(ids, next, size);
            next += size;
            let one = Instant::now();
            journal.append_blocking(batch, None, vec![]).unwrap();
            slowest = slowest.max(one.elapsed());
        }
        let rate = (size * batches) as f64 / started.elapsed().as_secs_f64();
        println!("{size} a batch: {rate:.0} events/s, slowest answer {slowest:?}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for writers in [16_u64, 256] {
        let started = Instant::now();
        let turns = 200;
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|writer| {
                    let journal = journal.clone();
                    tokio::spawn(async move {
                        for turn in 0..turns {
                            let one = batch(ids, next + writer * turns + turn, 1);
                            journal.append(one, None, vec![]).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let rate = (writers * turns) as f64 / started.elapsed().as_secs_f64();
        println!("{writers} writers one by one: {rate:.0} events/s");
        next += writers * turns;
    }
    let started = Instant::now();
    let report = journal.verify().unwrap();
    let rate = report.checked as f64 / started.elapsed().as_secs_f64();
    println!("verify: {} events, {rate:.0} events/s, {:?}", report.checked, report.damage);
    let (started, mut from) = (Instant::now(), 1);
    loop {
        let events = journal.read(from, 10_000).unwrap();
        let Some(last) = events.last() else { break };
        from = last.seq + 1;
    }
    println!("read: {:.0} events/s", next as f64 / started.elapsed().as_secs_f64());
    let bytes = place.path().join("journal.db").metadata().unwrap().len();
    println!("{} bytes of database an event", bytes / next);
    drop(journal);
    let started = Instant::now();
    let journal = Journal::open(place.path(), Options::default()).unwrap();
    println!("open: {:?} with {} events", started.elapsed(), journal.tail().unwrap());
}
