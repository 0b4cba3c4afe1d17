//! What the journal's tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses its own part of it.

use daruma_journal::{Appended, Event, Journal, NewEvent};
use daruma_model::Time;
use serde_json::{Value, json};

/// The event with this number: its id, time and body follow from it.
pub fn event(shard: u8, number: u64) -> NewEvent {
    NewEvent {
        shard,
        kind: "alert.firing".to_owned(),
        event_id: format!("e{number}"),
        at: Time(1_800_000_000_000 + number as i64),
        body: body(number).into(),
    }
}

fn body(number: u64) -> Value {
    json!({ "v": 1, "number": number, "text": "disk / is 91.5 % full \u{1f38e}" })
}

/// The same event with so many bytes more.
pub fn padded(shard: u8, number: u64, bytes: usize) -> NewEvent {
    let mut body = body(number);
    body["pad"] = "x".repeat(bytes).into();
    NewEvent { body: body.into(), ..event(shard, number) }
}

pub fn events(shard: u8, numbers: std::ops::Range<u64>) -> Vec<NewEvent> {
    numbers.map(|number| event(shard, number)).collect()
}

/// Appends and expects it to be committed.
pub fn put(journal: &Journal, batch: Vec<NewEvent>) -> (u64, u64) {
    match journal.append_blocking(batch, None, vec![]) {
        Ok(Appended::Committed { first_seq, last_seq }) => (first_seq, last_seq),
        other => panic!("not committed: {other:?}"),
    }
}

/// Everything there is, read in small steps.
pub fn all(journal: &Journal) -> Vec<Event> {
    let mut found: Vec<Event> = Vec::new();
    loop {
        let from = found.last().map_or(0, |last| last.seq + 1);
        let next = journal.read(from, 700).unwrap();
        if next.is_empty() {
            return found;
        }
        found.extend(next);
    }
}

/// Small numbers from a seed (xorshift): tests that choose at random choose the same again.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
