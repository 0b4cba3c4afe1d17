//! A real process that records, is killed with `kill -9` at a random instant, and is read afterwards:
//! whatever it said was recorded is there.
//!
//! The victim is this test program itself, started anew with `DARUMA_JOURNAL_VICTIM` set.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Dice, event};
use daruma_journal::{Appended, Expected, Journal, JournalError, Options};

const VICTIM: &str = "DARUMA_JOURNAL_VICTIM";
const LIVES: u64 = 120;

fn options() -> Options {
    Options { reserve_bytes: 1 << 16, ..Options::default() }
}

/// Not a test by itself: what runs in the victim. Four writers record as fast as they can, with
/// checkpoints; a fifth takes snapshots and removes what they cover. Each says what was acknowledged.
#[test]
fn victim() {
    let Ok(directory) = std::env::var(VICTIM) else { return };
    let journal = Journal::open(Path::new(&directory), options()).unwrap();
    let life = journal.epoch();
    let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    say("\nborn\n".to_owned());
    std::thread::scope(|threads| {
        for writer in 0..4_u64 {
            let journal = &journal;
            threads.spawn(move || {
                // Bounded, should nobody kill it.
                for turn in 0..20_000_u64 {
                    let mut batch = Vec::new();
                    for part in 0..=(turn % 7 * writer) {
                        let mut one = event(writer as u8, 0);
                        one.event_id = format!("{life}-{writer}-{turn}-{part}");
                        batch.push(one);
                    }
                    let ids: Vec<String> = batch.iter().map(|e| e.event_id.clone()).collect();
                    let head = journal.head(writer as u8).unwrap().shard_seq;
                    let position = (format!("at:{writer}"), format!("{life} {turn}").into_bytes());
                    let expected = Some(Expected::head(writer as u8, head));
                    match journal.append_blocking(batch, expected, vec![position]).unwrap() {
                        Appended::Committed { first_seq, .. } => {
                            let lines = ids.iter().zip(first_seq..);
                            let said = lines.map(|(id, seq)| format!("kept {seq} {id}\n"));
                            say(said.collect::<String>() + &format!("at {writer} {life} {turn}\n"));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        threads.spawn(|| {
            for _ in 0..2_000 {
                std::thread::sleep(Duration::from_millis(7));
                let tail = journal.tail().unwrap();
                let state = tail.to_string().repeat(200);
                journal.snapshot_put_blocking(tail, state.into_bytes()).unwrap();
                let first = journal.truncate_before_blocking(tail.saturating_sub(200)).unwrap();
                say(format!("snapshot {tail}\nfirst {first}\n"));
            }
        });
    });
}

struct Victim(Child);

impl Victim {
    fn start(directory: &Path) -> Victim {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
            .env(VICTIM, directory)
            .stdout(Stdio::piped())
            .spawn();
        Victim(child.unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Already dead where the test went as it should.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_at_any_instant() {
    let place = tempfile::tempdir().unwrap();
    let mut dice = Dice(0x5eed_0001);
    let (mut acknowledged, mut lives_that_spoke, mut epoch, mut tail_before) = (0_u64, 0, 0, 0);
    for life in 1..=LIVES {
        let mut victim = Victim::start(place.path());
        let mut out = BufReader::new(victim.0.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "born" {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "life {life} never began");
        }
        let heard = std::thread::spawn(move || {
            // A last line without its end was cut by the kill: it was never said.
            let mut lines = Vec::new();
            let mut line = String::new();
            while out.read_line(&mut line).unwrap() > 0 {
                if line.ends_with('\n') {
                    lines.push(line.trim_end().to_owned());
                }
                line.clear();
            }
            lines
        });
        std::thread::sleep(Duration::from_micros(dice.below(60_000)));
        victim.0.kill().unwrap();
        victim.0.wait().unwrap();
        let heard = heard.join().unwrap();

        let journal = Journal::open(place.path(), options())
            .unwrap_or_else(|error| panic!("after life {life}: {error}"));
        let first_seq = journal.first_seq().unwrap();
        assert!(journal.tail().unwrap() >= tail_before, "life {life}");
        tail_before = journal.tail().unwrap();
        let mut last_position = std::collections::BTreeMap::new();
        for line in &heard {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["kept", seq, id] => {
                    acknowledged += 1;
                    let seq: u64 = seq.parse().unwrap();
                    if seq >= first_seq {
                        let found = journal.find(id).unwrap();
                        let found = found.unwrap_or_else(|| panic!("life {life}: {id} is lost"));
                        assert_eq!(found.seq, seq, "life {life}: {id}");
                    }
                }
                ["at", writer, _, turn] => {
                    let turn: u64 = turn.parse().unwrap();
                    last_position.insert(writer.to_owned(), turn);
                }
                ["snapshot", seq] => {
                    let kept = journal.snapshot_get().unwrap().unwrap();
                    assert!(kept.seq >= seq.parse().unwrap() && kept.damaged.is_empty());
                }
                ["first", first] => assert!(first_seq >= first.parse().unwrap()),
                _ => {}
            }
        }
        lives_that_spoke += u64::from(!last_position.is_empty());
        for (writer, turn) in last_position {
            let kept = journal.checkpoint_get(&format!("at:{writer}")).unwrap().unwrap();
            let kept = String::from_utf8(kept).unwrap();
            let kept: u64 = kept.split(' ').nth(1).unwrap().parse().unwrap();
            // One more may be durable than was said, never one less.
            assert!(kept == turn || kept == turn + 1, "life {life}: {kept}, said {turn}");
        }
        let report = journal.verify().unwrap();
        assert_eq!((report.damage, report.unchecked), (None, vec![]), "after life {life}");
        assert!(journal.epoch() > epoch || heard.is_empty(), "life {life} reused an epoch");
        epoch = journal.epoch() - 1;
    }
    println!("{LIVES} lives, {lives_that_spoke} spoke, {acknowledged} events acknowledged, 0 lost");
    assert!(lives_that_spoke > LIVES / 4, "the kills came too early to mean anything");
}

/// The lock goes with its holder: nobody has to remove a file after a crash.
#[test]
fn a_killed_daemon_does_not_lock_out_the_next() {
    let place = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(place.path());
    let mut out = BufReader::new(victim.0.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "born" {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    match Journal::open(place.path(), options()) {
        Err(JournalError::Locked { pid: Some(pid), .. }) => assert_eq!(pid, victim.0.id()),
        other => panic!("{other:?}"),
    }
    let beside = daruma_journal::ReadOnly::open(place.path()).unwrap();
    assert_eq!(beside.verify().unwrap().damage, None, "read beside the one that writes");
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    Journal::open(place.path(), options()).unwrap();
}
