//! Promise 1, on the running program: what was acknowledged survives `kill -9` at any instant.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use support::{Daruma, program};

/// Lives in all; the work is shared by this many at a time.
const LIVES: usize = 208;
const AT_ONCE: usize = 4;

/// A quiet configuration: the commands are what is watched here.
const CONFIG: &str = "collect: { host: { every: 10s } }\ndetect: { rules: [] }\n";

#[test]
fn no_acknowledged_command_is_lost_in_two_hundred_kills() {
    let acknowledged: usize = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..AT_ONCE).map(|worker| scope.spawn(move || lives(worker))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{LIVES} lives, {acknowledged} commands acknowledged, none lost");
    assert!(acknowledged > LIVES, "hardly anything was acknowledged, so nothing was tested");
}

fn lives(worker: usize) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    // A small generator of its own: the instants differ from life to life, and can be run again.
    let mut seed = 0x9e37_79b9_u64.wrapping_mul(worker as u64 + 1);
    for life in 0..LIVES / AT_ONCE {
        let mut daruma = Daruma::start(CONFIG, &data);
        let view = daruma.view();
        let there: BTreeSet<u64> = view["silences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|silence| silence["id"].as_u64().unwrap())
            .collect();
        let lost: Vec<&u64> = kept.difference(&there).collect();
        assert!(lost.is_empty(), "worker {worker}, life {life}: acknowledged and lost: {lost:?}");
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_micros(seed >> 33 & 0x7fff);
        std::thread::scope(|scope| {
            let speaker = scope.spawn(|| {
                let mut acknowledged = Vec::new();
                let command =
                    r#"{"do":"silence","matchers":["service=x"],"ttl":"1h","comment":"kill"}"#;
                while let Ok((200, answer)) = daruma.command(command) {
                    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    acknowledged.push(answer["id"].as_u64().unwrap());
                }
                acknowledged
            });
            std::thread::sleep(pause);
            daruma.signal("KILL");
            kept.extend(speaker.join().unwrap());
        });
        daruma.kill();
    }
    let out =
        Command::new(program()).args(["journal", "verify", "--data"]).arg(&data).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    kept.len()
}
