//! One suite, every backend: what each must keep, whoever carries it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Dice, all, event, events, put};
use daruma_journal::{
    Appended, DamageKind, Expected, Journal, JournalError, Memory, NewEvent, Options,
    memory::{Fault, Row},
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// A disk that outlives the journals opened on it.
trait Place {
    fn open(&self) -> Journal;
    /// Changes one column of one stored record, behind the journal's back and while it is closed.
    fn flip(&self, seq: u64, column: &str);
    /// Changes an event and its hash, as somebody who rewrites history would.
    fn rewrite(&self, seq: u64);
    fn remove(&self, seq: u64);
}

struct InMemory(Memory);

impl InMemory {
    fn new() -> InMemory {
        InMemory(Memory::new())
    }

    fn change(&self, seq: u64, change: impl FnOnce(&mut Row)) {
        self.0.tamper(|rows| change(rows.iter_mut().find(|row| row.seq == seq).unwrap()));
    }
}

impl Place for InMemory {
    fn open(&self) -> Journal {
        self.0.journal()
    }

    fn flip(&self, seq: u64, column: &str) {
        self.change(seq, |row| match column {
            "seq" => row.seq += 1 << 20,
            "shard" => row.shard ^= 1,
            "shard_seq" => row.shard_seq ^= 1 << 20,
            "ts" => row.ts ^= 1,
            "kind" => row.kind = row.kind.replace('f', "g"),
            "event_id" => row.event_id.push('0'),
            "epoch" => row.epoch ^= 1,
            "prev_hash" => row.prev_hash[7] ^= 16,
            "hash" => row.hash[31] ^= 1,
            "body" => row.body = row.body.replace("91.5", "91.4"),
            other => panic!("{other}"),
        });
    }

    fn rewrite(&self, seq: u64) {
        self.change(seq, |row| {
            row.body = row.body.replace("91.5", "11.5");
            row.hash = row.computed_hash();
        });
    }

    fn remove(&self, seq: u64) {
        self.0.tamper(|rows| rows.retain(|row| row.seq != seq));
    }
}

struct OnDisk(tempfile::TempDir);

impl OnDisk {
    fn new() -> OnDisk {
        OnDisk(tempfile::tempdir().unwrap())
    }

    fn sql(&self, sql: &str, parameters: impl rusqlite::Params) {
        let conn = rusqlite::Connection::open(self.0.path().join("journal.db")).unwrap();
        assert_eq!(conn.execute(sql, parameters).unwrap(), 1, "{sql}");
    }
}

impl Place for OnDisk {
    fn open(&self) -> Journal {
        Journal::open(self.0.path(), Options { reserve_bytes: 0, ..Options::default() }).unwrap()
    }

    fn flip(&self, seq: u64, column: &str) {
        let value = match column {
            "seq" => "seq + 1048576",
            "shard" | "epoch" | "ts" => {
                return self.sql(
                    &format!("UPDATE events SET {column} = ({column} | 1) - ({column} & 1) WHERE seq = ?1"),
                    [seq as i64],
                );
            }
            "shard_seq" => "shard_seq + 1048576",
            "kind" => "replace(kind, 'f', 'g')",
            "event_id" => "event_id || '0'",
            "prev_hash" => "zeroblob(32)",
            "hash" => "randomblob(32)",
            "body" => "replace(body, '91.5', '91.4')",
            other => panic!("{other}"),
        };
        self.sql(&format!("UPDATE events SET {column} = {value} WHERE seq = ?1"), [seq as i64]);
    }

    fn rewrite(&self, seq: u64) {
        let journal = self.open();
        let found = journal.read(seq, 1).unwrap().remove(0);
        drop(journal);
        let mut row = Row {
            seq,
            shard: found.shard,
            shard_seq: found.shard_seq,
            ts: found.at.0,
            kind: found.kind,
            event_id: found.event_id,
            epoch: found.epoch,
            prev_hash: found.prev_hash,
            hash: found.hash,
            body: found.body.to_string().replace("91.5", "11.5"),
        };
        row.hash = row.computed_hash();
        self.sql(
            "UPDATE events SET body = ?2, hash = ?3 WHERE seq = ?1",
            rusqlite::params![seq as i64, row.body, row.hash],
        );
    }

    fn remove(&self, seq: u64) {
        self.sql("DELETE FROM events WHERE seq = ?1", [seq as i64]);
    }
}

macro_rules! suite {
    ($($scenario:ident)*) => {
        mod memory {
            $(#[test] fn $scenario() { super::$scenario(&|| Box::new(super::InMemory::new())); })*
        }
        mod sqlite {
            $(#[test] fn $scenario() { super::$scenario(&|| Box::new(super::OnDisk::new())); })*
        }
    };
}

suite! {
    an_empty_journal_says_so
    what_was_committed_reads_back_in_order_also_after_a_restart
    two_deciders_on_one_head_only_the_first_is_recorded
    a_retry_after_an_unknown_outcome_is_answered_with_where_it_stands
    checkpoints_move_with_their_batch_or_not_at_all
    the_last_two_snapshots_are_kept
    truncation_keeps_what_snapshots_need_and_the_chain
    what_breaks_a_bound_is_refused_whole
    any_batches_chain_and_read_back_after_a_restart
    writers_in_a_crowd_are_each_answered_once_and_kept
    an_export_alone_proves_the_chain
    a_changed_column_is_named_by_its_event
    a_rewritten_past_is_named_though_it_matches_its_own_hash
    a_missing_event_is_named_and_a_read_does_not_pass_over_it
    a_read_names_what_it_meets
}

type New<'a> = &'a dyn Fn() -> Box<dyn Place>;

fn an_empty_journal_says_so(new: New<'_>) {
    let place = new();
    let journal = place.open();
    assert_eq!((journal.tail().unwrap(), journal.first_seq().unwrap()), (0, 1));
    assert!(
        journal.read(0, 10).unwrap().is_empty() && journal.read_shard(3, 1, 9).unwrap().is_empty()
    );
    assert_eq!(journal.head(63).unwrap(), daruma_journal::Head::default());
    assert!(journal.head(64).is_err());
    assert_eq!(journal.snapshot_get().unwrap(), None);
    assert!(journal.health().created);
    let report = journal.verify().unwrap();
    assert_eq!((report.checked, report.damage), (0, None));
}

fn what_was_committed_reads_back_in_order_also_after_a_restart(new: New<'_>) {
    let place = new();
    let journal = place.open();
    assert_eq!(journal.epoch(), 1);
    assert_eq!(put(&journal, vec![event(5, 1), event(9, 2), event(5, 3)]), (1, 3));
    assert_eq!(put(&journal, vec![event(5, 4)]), (4, 4));
    let before = all(&journal);
    drop(journal);
    let journal = place.open();
    assert_eq!(put(&journal, vec![event(9, 5)]), (5, 5));
    let after = all(&journal);
    assert_eq!(after[..4], before[..]);
    for (found, (seq, shard, shard_seq, epoch)) in
        after.iter().zip([(1, 5, 1, 1), (2, 9, 1, 1), (3, 5, 2, 1), (4, 5, 3, 1), (5, 9, 2, 2)])
    {
        assert_eq!(
            (found.seq, found.shard, found.shard_seq, found.epoch),
            (seq, shard, shard_seq, epoch)
        );
        let brought = event(shard, seq);
        assert_eq!((&found.event_id, found.at), (&brought.event_id, brought.at));
        assert_eq!((&found.kind, &found.body.clone().into()), (&brought.kind, &brought.body));
    }
    assert_eq!(after[2].prev_hash, after[0].hash, "chained within the shard, over others' events");
    assert_eq!(after[4].prev_hash, after[1].hash, "chained over a restart");
    assert_eq!(journal.read(2, 2).unwrap(), after[1..3]);
    assert_eq!(journal.read(6, 2).unwrap(), []);
    let shard: Vec<u64> =
        journal.read_shard(5, 2, 10).unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(shard, [3, 4]);
    let head = journal.head(9).unwrap();
    assert_eq!((head.seq, head.shard_seq, head.hash), (5, 2, after[4].hash));
    assert_eq!(journal.find("e3").unwrap().as_ref(), Some(&after[2]));
    assert_eq!(journal.find("e33").unwrap(), None);
}

fn two_deciders_on_one_head_only_the_first_is_recorded(new: New<'_>) {
    let place = new();
    let journal = place.open();
    put(&journal, events(7, 0..3));
    let on_head = || Some(Expected::head(7, 3));
    let first = journal.append_blocking(vec![event(7, 10)], on_head(), vec![]).unwrap();
    assert_eq!(first, Appended::Committed { first_seq: 4, last_seq: 4 });
    let second = journal.append_blocking(vec![event(7, 11)], on_head(), vec![]).unwrap();
    assert_eq!(second, Appended::Conflict { shard: 7, head: journal.head(7).unwrap() });
    assert_eq!(journal.tail().unwrap(), 4);
    assert_eq!(journal.find("e11").unwrap(), None);
    // Other shards are no one's concern, and an empty one is expected as 0.
    let two = Some(Expected(vec![(7, 4), (8, 0)]));
    let batch = vec![event(7, 12), event(8, 13)];
    let third = journal.append_blocking(batch, two, vec![]).unwrap();
    assert_eq!(third, Appended::Committed { first_seq: 5, last_seq: 6 });
}

fn a_retry_after_an_unknown_outcome_is_answered_with_where_it_stands(new: New<'_>) {
    let place = new();
    let journal = place.open();
    put(&journal, events(1, 0..5));
    let mut batch = events(1, 20..30);
    batch.push(event(2, 3));
    let again = journal.append_blocking(batch, None, vec![("p".into(), b"1".to_vec())]);
    assert_eq!(again, Err(JournalError::Duplicate { event_id: "e3".into(), seq: 4 }));
    // Nothing of the refused batch is left, not even in the numbering.
    assert_eq!(journal.checkpoint_get("p").unwrap(), None);
    assert_eq!(put(&journal, events(1, 20..30)), (6, 15));
    assert_eq!(journal.verify().unwrap().damage, None);
}

fn checkpoints_move_with_their_batch_or_not_at_all(new: New<'_>) {
    let place = new();
    let journal = place.open();
    let at = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let blobs = vec![at("tail:/var/log/a", b"10"), at("tail:/var/log/b", b"\0\xff"), at("x", b"1")];
    journal.append_blocking(vec![event(0, 1)], None, blobs).unwrap();
    let late = journal
        .append_blocking(vec![event(0, 2)], Some(Expected::head(0, 9)), vec![at("x", b"2")])
        .unwrap();
    assert!(matches!(late, Appended::Conflict { shard: 0, .. }));
    assert_eq!(journal.checkpoint_get("x").unwrap().unwrap(), b"1");
    // Positions alone may move too, and go when their file is gone.
    let moved =
        journal.append_blocking(vec![], None, vec![at("x", b"3"), at("tail:/var/log/a", b"")]);
    assert_eq!(moved.unwrap(), Appended::Committed { first_seq: 2, last_seq: 1 });
    drop(journal);
    let journal = place.open();
    assert_eq!(journal.checkpoint_get("x").unwrap().unwrap(), b"3");
    assert_eq!(journal.checkpoint_get("tail:").unwrap(), None);
    assert_eq!(journal.checkpoints("tail:").unwrap(), [at("tail:/var/log/b", b"\0\xff")]);
    assert_eq!(journal.checkpoints("").unwrap().len(), 2);
}

fn the_last_two_snapshots_are_kept(new: New<'_>) {
    let place = new();
    let journal = place.open();
    put(&journal, events(0, 0..10));
    for seq in [2, 5, 9] {
        journal.snapshot_put_blocking(seq, format!("state {seq}").into_bytes()).unwrap();
    }
    drop(journal);
    let journal = place.open();
    let newest = journal.snapshot_get().unwrap().unwrap();
    assert_eq!((newest.seq, newest.bytes.as_slice()), (9, b"state 9".as_slice()));
    assert!(newest.damaged.is_empty());
    assert!(journal.snapshot_put_blocking(11, vec![]).is_err(), "of an event that is not there");
    // Snapshots 5 and 9 are kept, 2 is gone: events after 5 are needed, those up to 5 are not.
    assert_eq!(journal.truncate_before_blocking(100).unwrap(), 6);
}

fn truncation_keeps_what_snapshots_need_and_the_chain(new: New<'_>) {
    let place = new();
    let journal = place.open();
    for round in 0..10 {
        put(&journal, vec![event(1, round * 2), event(2, round * 2 + 1)]);
    }
    assert_eq!(journal.truncate_before_blocking(9).unwrap(), 1, "without a snapshot all is needed");
    journal.snapshot_put_blocking(20, b"all".to_vec()).unwrap();
    assert_eq!(journal.truncate_before_blocking(9).unwrap(), 9);
    assert_eq!(journal.truncate_before_blocking(4).unwrap(), 9, "never back");
    let gone = JournalError::Truncated { asked: 8, first_seq: 9 };
    assert_eq!(journal.read(8, 1), Err(gone));
    assert!(matches!(
        journal.read_shard(1, 4, 1),
        Err(JournalError::Truncated { first_seq: 5, .. })
    ));
    drop(journal);
    let journal = place.open();
    let report = journal.verify().unwrap();
    assert_eq!((report.checked, report.first_seq, report.tail, report.damage), (12, 9, 20, None));
    assert_eq!(journal.read(0, 1).unwrap()[0].seq, 9);
    assert_eq!(journal.read_shard(2, 0, 1).unwrap()[0].shard_seq, 5);
    // All of it may go: numbering and chain go on from what was.
    let head = journal.head(1).unwrap();
    assert_eq!(journal.truncate_before_blocking(21).unwrap(), 21);
    drop(journal);
    let journal = place.open();
    assert_eq!(put(&journal, vec![event(1, 50)]), (21, 21));
    let next = journal.read(0, 5).unwrap().remove(0);
    assert_eq!((next.prev_hash, next.shard_seq), (head.hash, 11));
    assert_eq!(journal.verify().unwrap().damage, None);
}

fn what_breaks_a_bound_is_refused_whole(new: New<'_>) {
    let place = new();
    let journal = place.open();
    let with = |change: &dyn Fn(&mut NewEvent)| {
        let mut bad = event(0, 2);
        change(&mut bad);
        vec![event(0, 1), bad]
    };
    for (batch, word) in [
        (with(&|event| event.shard = 64), "shard 64"),
        (with(&|event| event.kind = String::new()), "kind"),
        (with(&|event| event.kind = "Alert".into()), "kind"),
        (with(&|event| event.kind = "a".repeat(65)), "kind"),
        (with(&|event| event.event_id = String::new()), "event id"),
        (with(&|event| event.event_id = "a b".into()), "event id"),
        (with(&|event| event.event_id = "e".repeat(129)), "event id"),
        (with(&|event| event.event_id = "e1".into()), "twice"),
        (with(&|event| event.body = json!({ "text": 1 }).into()), "version"),
        (with(&|event| event.body = json!({ "v": 0 }).into()), "version"),
        (with(&|event| event.body = json!([1]).into()), "version"),
        (with(&|event| event.body = json!({ "v": 1, "t": "x".repeat(1 << 20) }).into()), "1 MiB"),
        (events(0, 0..1001), "1001 events"),
    ] {
        match journal.append_blocking(batch, None, vec![]) {
            Err(JournalError::Invalid { what }) => assert!(what.contains(word), "{what}: {word}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    assert!(journal.append_blocking(vec![], None, vec![(String::new(), vec![1])]).is_err());
    assert_eq!(journal.tail().unwrap(), 0);
    assert_eq!(put(&journal, events(0, 0..1000)), (1, 1000));
    assert_eq!(journal.read(1, usize::MAX).unwrap().len(), 1000);
}

/// Whatever is brought comes back, and chains, over restarts at any place between batches.
fn any_batches_chain_and_read_back_after_a_restart(new: New<'_>) {
    let body = prop_oneof![
        any::<f64>().prop_map(|number| json!({ "v": 1, "n": number })),
        "\\PC{0,40}"
            .prop_map(|text| json!({ "v": 2, "text": text, "nested": { "a": [null, true] } })),
        any::<i64>().prop_map(|number| json!({ "v": 3, "n": number, "z": "\0\u{1}\u{7f}\n\"\\" })),
    ];
    let one = (0_u8..64, "[a-z_.]{1,64}", any::<i64>(), body);
    let batches = prop::collection::vec((prop::collection::vec(one, 0..12), any::<bool>()), 1..12);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&batches, |batches| {
            let place = new();
            let mut journal = place.open();
            let mut brought = Vec::new();
            for (batch, restart) in batches {
                let batch: Vec<NewEvent> = (brought.len()..)
                    .zip(batch)
                    .map(|(number, (shard, kind, at, body))| {
                        let (event_id, at) = (format!("id-{number}"), daruma_model::Time(at));
                        NewEvent { shard, kind, event_id, at, body: body.into() }
                    })
                    .collect();
                put(&journal, batch.clone());
                brought.extend(batch);
                if restart {
                    drop(journal);
                    journal = place.open();
                }
            }
            let found = all(&journal);
            prop_assert_eq!(found.len(), brought.len());
            for (number, (found, brought)) in found.iter().zip(&brought).enumerate() {
                prop_assert_eq!(found.seq, number as u64 + 1);
                prop_assert_eq!((found.shard, &found.kind), (brought.shard, &brought.kind));
                prop_assert_eq!((found.at, &found.event_id), (brought.at, &brought.event_id));
                prop_assert_eq!(&daruma_journal::Body::from(found.body.clone()), &brought.body);
            }
            let report = journal.verify().unwrap();
            prop_assert_eq!((report.damage, report.checked), (None, brought.len() as u64));
            Ok(())
        })
        .unwrap();
}

fn writers_in_a_crowd_are_each_answered_once_and_kept(new: New<'_>) {
    let place = new();
    let journal = place.open();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut answered: Vec<(u64, u64)> = runtime.block_on(async {
        let writers: Vec<_> = (0..50_u64)
            .map(|writer| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    for turn in 0..20 {
                        let number = writer * 20 + turn;
                        if turn > 0 {
                            // A retry that is refused leaves nothing, whoever shares its transaction.
                            let again = vec![event(60, 5000 + number), event(61, number - 1)];
                            let refused = journal.append(again, None, vec![]).await;
                            assert!(matches!(refused, Err(JournalError::Duplicate { .. })));
                        }
                        let batch = vec![event((writer % 64) as u8, number)];
                        match journal.append(batch, None, vec![]).await.unwrap() {
                            Appended::Committed { first_seq, .. } => {
                                // Whoever was answered can read it.
                                assert!(journal.tail().unwrap() >= first_seq);
                                answered.push((first_seq, number));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    answered
                })
            })
            .collect();
        let mut all = Vec::new();
        for writer in writers {
            all.extend(writer.await.unwrap());
        }
        all
    });
    drop((journal, runtime));
    let journal = place.open();
    answered.sort_unstable();
    let kept: Vec<(u64, u64)> = all(&journal)
        .iter()
        .map(|event| (event.seq, event.body["number"].as_u64().unwrap()))
        .collect();
    assert_eq!(kept, answered);
    assert_eq!(kept.len(), 1000);
    assert_eq!(journal.verify().unwrap().damage, None);
}

fn an_export_alone_proves_the_chain(new: New<'_>) {
    let place = new();
    let journal = place.open();
    put(&journal, vec![event(1, 0), event(2, 1), event(1, 2), event(2, 3)]);
    let mut out = Vec::new();
    assert_eq!(journal.export(0, &mut out).unwrap(), 4);
    let text = String::from_utf8(out).unwrap();
    let mut last = std::collections::BTreeMap::new();
    for (line, event) in text.lines().zip(all(&journal)) {
        let found: Value = serde_json::from_str(line).unwrap();
        assert_eq!(found, serde_json::to_value(&event).unwrap(), "and as a reader would print it");
        let body = &line[line.find("\"body\":").unwrap() + 7..line.len() - 1];
        let row = Row {
            seq: event.seq,
            shard: event.shard,
            shard_seq: event.shard_seq,
            ts: event.at.0,
            kind: event.kind,
            event_id: event.event_id,
            epoch: event.epoch,
            prev_hash: last.get(&event.shard).copied().unwrap_or([0; 32]),
            hash: event.hash,
            body: body.to_owned(),
        };
        assert_eq!(row.computed_hash(), event.hash);
        last.insert(event.shard, event.hash);
    }
    let mut late = Vec::new();
    assert_eq!(journal.export(4, &mut late).unwrap(), 1);
    assert!(text.ends_with(std::str::from_utf8(&late).unwrap()));
}

fn filled(new: New<'_>) -> Box<dyn Place> {
    let place = new();
    let journal = place.open();
    // Odd shards and times, so that clearing the lowest bit of either changes it.
    for round in 0..40_u64 {
        let mut one = event((round % 3 * 2 + 1) as u8, round * 2 + 1);
        one.kind = format!("kind.of_{}", "f".repeat(1 + round as usize % 5));
        put(&journal, vec![one]);
    }
    drop(journal);
    place
}

fn a_changed_column_is_named_by_its_event(new: New<'_>) {
    let mut dice = Dice(0xdead_beef);
    for column in [
        "seq",
        "shard",
        "shard_seq",
        "ts",
        "kind",
        "event_id",
        "epoch",
        "prev_hash",
        "hash",
        "body",
    ] {
        // Far enough from the ends that a start does not look at it, and not the first of its shard.
        for seq in [20, 5 + dice.below(30)] {
            let place = filled(new);
            place.flip(seq, column);
            let found = damage_of(&*place).unwrap_or_else(|| panic!("{column} of {seq} unnoticed"));
            assert_eq!(found, seq, "{column} of {seq}");
        }
    }
}

/// The event that opening or verifying names.
fn damage_of(place: &dyn Place) -> Option<u64> {
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| place.open()));
    match opened {
        Ok(journal) => journal.verify().unwrap().damage.map(|damage| damage.seq),
        Err(panic) => {
            // The places unwrap what opening said: the text names the event.
            let said = panic.downcast_ref::<String>().unwrap();
            assert!(said.contains("Damaged"), "{said}");
            let seq = said.split("seq: Some(").nth(1).unwrap().split(')').next().unwrap();
            Some(seq.parse().unwrap())
        }
    }
}

fn a_rewritten_past_is_named_though_it_matches_its_own_hash(new: New<'_>) {
    // 38 and 39 are the last of their shards: only the recorded heads know better.
    for seq in [3, 17, 37, 38, 39, 40] {
        let place = filled(new);
        place.rewrite(seq);
        assert_eq!(damage_of(&*place), Some(seq), "rewritten {seq}");
    }
}

fn a_missing_event_is_named_and_a_read_does_not_pass_over_it(new: New<'_>) {
    for seq in [1, 18, 39, 40] {
        let place = filled(new);
        place.remove(seq);
        assert_eq!(damage_of(&*place), Some(seq), "removed {seq}");
    }
}

fn a_read_names_what_it_meets(new: New<'_>) {
    let place = new();
    let journal = place.open();
    for number in 0..200 {
        put(&journal, vec![event(4, number)]);
    }
    drop(journal);
    place.flip(100, "body");
    let journal = place.open();
    // A start looks at the ends alone; whoever reads over the place is told.
    assert_eq!(journal.read(150, 50).unwrap().len(), 50);
    for read in
        [journal.read(90, 20), journal.read_shard(4, 100, 1), journal.find("e99").map(|_| vec![])]
    {
        match read {
            Err(JournalError::Damaged { seq, found, .. }) => {
                assert_eq!(seq, Some(100), "{found}");
            }
            other => panic!("read over a flipped bit: {other:?}"),
        }
    }
    let report = journal.verify().unwrap();
    assert_eq!(report.damage.unwrap().kind, DamageKind::Flipped);
    let mut out = Vec::new();
    assert!(matches!(
        journal.export(0, &mut out),
        Err(JournalError::Damaged { seq: Some(100), .. })
    ));
    assert_eq!(out.split(|byte| *byte == b'\n').count(), 100, "99 good lines were written");
}

/// The simulator's disk: each injected fault reads as the contract says it may.
#[test]
fn memory_faults_and_crashes_keep_exactly_what_was_synced() {
    let memory = Memory::new();
    let journal = memory.journal();
    memory.inject([Fault::Refused, Fault::Full, Fault::UnknownLost, Fault::UnknownKept]);
    let append = |number| journal.append_blocking(vec![event(0, number)], None, vec![]);
    assert!(matches!(append(1), Err(JournalError::Io { .. })));
    assert!(matches!(append(2), Err(JournalError::Full { .. })));
    assert!(matches!(append(3), Ok(Appended::Unknown { .. })));
    assert_eq!(journal.find("e3").unwrap(), None);
    assert!(matches!(append(4), Ok(Appended::Unknown { .. })));
    assert_eq!(journal.find("e4").unwrap().unwrap().seq, 1);
    assert!(matches!(append(4), Err(JournalError::Duplicate { seq: 1, .. })));

    memory.hold();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (kept, lost) = runtime.block_on(async {
        let wait = |number| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(vec![event(0, number)], None, vec![]).await })
        };
        let kept = wait(5);
        tokio::task::yield_now().await;
        assert_eq!(journal.tail().unwrap(), 1, "taken, not yet durable");
        assert_eq!(memory.sync(), 1);
        memory.hold();
        let lost = wait(6);
        tokio::task::yield_now().await;
        memory.crash();
        (kept.await.unwrap().unwrap(), lost.await.unwrap().unwrap())
    });
    assert_eq!(kept, Appended::Committed { first_seq: 2, last_seq: 2 });
    assert!(matches!(lost, Appended::Unknown { .. }), "{lost:?}");
    assert_eq!(append(7), Err(JournalError::Closed), "a handle of the life before");
    let journal = memory.journal();
    assert_eq!(journal.tail().unwrap(), 2);
    assert_eq!(put(&journal, vec![event(0, 6)]), (3, 3));
    assert_eq!(journal.verify().unwrap().damage, None);
}

#[test]
fn two_daemons_on_one_directory_the_second_names_the_first() {
    let place = OnDisk::new();
    let first = place.open();
    match Journal::open(place.0.path(), Options::default()) {
        Err(error @ JournalError::Locked { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(error.to_string().contains("stop that one"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    put(&first, vec![event(0, 1)]);
    drop(first);
    assert_eq!(place.open().tail().unwrap(), 1);
}
