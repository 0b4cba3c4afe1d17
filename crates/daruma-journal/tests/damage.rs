//! Files that were torn, flipped, lost, swapped or written by somebody else: damage to what was
//! acknowledged is named, never silently accepted. What damage leaves whole still reads the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Dice, all, event, events, put};
use daruma_journal::{Event, Journal, JournalError, Options, ReadOnly};

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::default() }
}

fn open(directory: &Path) -> Result<Journal, JournalError> {
    Journal::open(directory, options())
}

/// What lay on the disk at one instant, to be laid out again and again.
struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    fn of(directory: &Path) -> Files {
        let names = ["journal.db", "journal.db-wal", "journal.witness"];
        let found = names.iter().filter_map(|name| {
            fs::read(directory.join(name)).ok().map(|bytes| (PathBuf::from(name), bytes))
        });
        Files(found.collect())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        &self.0.iter().find(|(found, _)| found == Path::new(name)).unwrap().1
    }

    /// Lays them out with one of them changed.
    fn with(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let mut change = Some(change);
        for (found, bytes) in &self.0 {
            let mut bytes = bytes.clone();
            if found == Path::new(name) {
                change.take().unwrap()(&mut bytes);
            }
            fs::write(place.path().join(found), bytes).unwrap();
        }
        place
    }
}

/// 120 acknowledged commits in the write-ahead file, as a crash leaves them.
fn crashed() -> (Files, Vec<Event>) {
    let place = tempfile::tempdir().unwrap();
    let journal = open(place.path()).unwrap();
    for number in 0..120 {
        put(&journal, vec![event((number % 5) as u8, number)]);
    }
    // Every byte was synced and nothing is being written: this is what the disk holds.
    let files = Files::of(place.path());
    assert!(files.bytes("journal.db-wal").len() > 120 * 4096, "all of it still waits there");
    (files, all(&journal))
}

/// The same, moved into the database by a clean end.
fn closed() -> (Files, Vec<Event>) {
    let place = tempfile::tempdir().unwrap();
    let journal = open(place.path()).unwrap();
    for number in 0..30 {
        put(&journal, events((number % 5) as u8, number * 10..number * 10 + 10));
    }
    let before = all(&journal);
    journal.snapshot_put_blocking(100, vec![7; 9000]).unwrap();
    journal.append_blocking(vec![], None, vec![("at".into(), b"here".to_vec())]).unwrap();
    drop(journal);
    (Files::of(place.path()), before)
}

/// Opens and reads it all: the events, or where and how it was refused.
fn look(directory: &Path) -> Result<Vec<Event>, String> {
    let journal = open(directory).map_err(|error| error.to_string())?;
    let report = journal.verify().map_err(|error| error.to_string())?;
    match report.damage {
        Some(damage) => Err(damage.to_string()),
        None => Ok(all(&journal)),
    }
}

#[test]
fn a_torn_write_ahead_file_is_a_torn_tail_and_says_from_where() {
    let (files, before) = crashed();
    assert_eq!(look(files.with("journal.db-wal", |_| {}).path()).unwrap(), before);
    let length = files.bytes("journal.db-wal").len();
    let mut dice = Dice(0xf00d);
    for _ in 0..60 {
        let cut = dice.below(length as u64) as usize;
        let place = files.with("journal.db-wal", |wal| wal.truncate(cut));
        match open(place.path()) {
            Err(JournalError::Damaged { seq: Some(seq), found, .. }) => {
                assert!((1..=120).contains(&seq), "{found}");
                assert!(found.contains("torn tail") && found.contains("120"), "cut {cut}: {found}");
                // The evidence is left as it was found.
                assert_eq!(fs::read(place.path().join("journal.db-wal")).unwrap().len(), cut);
                // Without the witness it is a whole, older journal: that is all SQLite can tell.
                fs::remove_file(place.path().join("journal.witness")).unwrap();
                let older = look(place.path()).unwrap();
                assert_eq!(older.len() as u64, seq - 1);
                assert_eq!(older, before[..older.len()]);
            }
            other => panic!("cut at {cut} of {length}: {other:?}"),
        }
    }
}

#[test]
fn what_was_never_acknowledged_may_be_torn() {
    let (files, before) = crashed();
    let mut dice = Dice(0xabcd);
    for _ in 0..10 {
        // A crash in the middle of the next commit: part of its frames, whatever they hold.
        let place = files.with("journal.db-wal", |wal| {
            let more = dice.below(9000);
            wal.extend((0..more).map(|_| dice.below(256) as u8));
        });
        assert_eq!(look(place.path()).unwrap(), before);
        let journal = open(place.path()).unwrap();
        assert_eq!(put(&journal, vec![event(1, 500)]), (121, 121));
    }
}

#[test]
fn a_flipped_bit_in_the_write_ahead_file_is_named_or_changes_nothing() {
    let (files, before) = crashed();
    let length = files.bytes("journal.db-wal").len() as u64;
    let mut dice = Dice(0xbeef);
    let mut named = 0;
    for _ in 0..60 {
        let (at, bit) = (dice.below(length) as usize, dice.below(8));
        let place = files.with("journal.db-wal", |wal| wal[at] ^= 1 << bit);
        match look(place.path()) {
            Ok(found) => assert_eq!(found, before, "bit {bit} of byte {at}"),
            Err(_) => named += 1,
        }
    }
    assert!(named > 50, "{named} of 60");
}

#[test]
fn a_flipped_bit_in_the_database_is_named_or_changes_nothing() {
    let (files, before) = closed();
    let length = files.bytes("journal.db").len() as u64;
    let mut dice = Dice(0xcafe);
    let (mut named, mut harmless) = (0, 0);
    let places = (0..100).chain((0..200).map(|_| 100 + dice.below(length - 100)));
    for at in places.collect::<Vec<_>>() {
        let bit = dice.below(8);
        let place = files.with("journal.db", |db| db[at as usize] ^= 1 << bit);
        match look(place.path()) {
            // Room that holds nothing, or a count that only SQLite's own bookkeeping uses.
            Ok(found) => {
                harmless += 1;
                assert_eq!(found, before, "bit {bit} of byte {at}");
            }
            Err(said) => {
                named += 1;
                assert!(said.contains("journal.db") || said.starts_with("event "), "{said}");
            }
        }
    }
    println!("{named} named, {harmless} harmless");
    assert!(named > 150, "{named} named, {harmless} harmless");
}

#[test]
fn a_database_cut_short_is_named() {
    let (files, before) = closed();
    let length = files.bytes("journal.db").len() as u64;
    let mut dice = Dice(0x1234);
    for cut in (0..40).map(|_| dice.below(length)).chain([0, 1, 100, 4096, length - 1]) {
        let place = files.with("journal.db", |db| db.truncate(cut as usize));
        match look(place.path()) {
            Err(said) if said.starts_with("event ") => {} // Named by the full check.
            Err(said) => assert!(said.contains("journal.db") && said.contains("backup"), "{said}"),
            // Less than the last page is missing, and it held nothing there.
            Ok(found) => {
                assert!(cut > length - 4096 && found == before, "cut at {cut} of {length}")
            }
        }
    }
}

#[test]
fn a_lost_or_older_database_is_not_taken_for_a_new_one() {
    let (files, _) = closed();
    let place = files.with("journal.db", |_| {});
    fs::remove_file(place.path().join("journal.db")).unwrap();
    let said = open(place.path()).unwrap_err().to_string();
    assert!(said.contains("is gone") && said.contains("300"), "{said}");

    // A backup from before: whole, and older than what was acknowledged.
    let place = tempfile::tempdir().unwrap();
    put(&open(place.path()).unwrap(), events(0, 0..3));
    let backup = fs::read(place.path().join("journal.db")).unwrap();
    put(&open(place.path()).unwrap(), events(0, 3..7));
    fs::write(place.path().join("journal.db"), &backup).unwrap();
    match open(place.path()) {
        Err(JournalError::Damaged { seq: Some(4), found, .. }) => {
            assert!(found.contains("up to 7 were acknowledged"), "{found}");
        }
        other => panic!("{other:?}"),
    }
    // Another journal, of the same length, in its place.
    let other = tempfile::tempdir().unwrap();
    put(&open(other.path()).unwrap(), events(1, 0..7));
    fs::copy(other.path().join("journal.db"), place.path().join("journal.db")).unwrap();
    let said = open(place.path()).unwrap_err().to_string();
    assert!(said.contains("rewritten past") && said.contains("acknowledged here"), "{said}");
}

#[test]
fn checkpoints_that_went_back_are_named_though_no_event_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let journal = open(place.path()).unwrap();
    put(&journal, events(0, 0..3));
    let before = Files::of(place.path());
    journal.append_blocking(vec![], None, vec![("at".into(), b"9".to_vec())]).unwrap();
    drop(journal);
    let witness = fs::read(place.path().join("journal.witness")).unwrap();
    let place = before.with("journal.witness", |bytes| *bytes = witness);
    let said = open(place.path()).unwrap_err().to_string();
    assert!(said.contains("checkpoints went back"), "{said}");
}

#[test]
fn a_damaged_checkpoint_and_snapshot_are_named_and_the_older_snapshot_serves() {
    let (files, _) = closed();
    let place = files.with("journal.db", |_| {});
    let journal = open(place.path()).unwrap();
    journal.snapshot_put_blocking(200, vec![8; 9000]).unwrap();
    drop(journal);
    let conn = rusqlite::Connection::open(place.path().join("journal.db")).unwrap();
    conn.execute("UPDATE snapshots SET bytes = zeroblob(9000) WHERE seq = 200", []).unwrap();
    let journal = open(place.path()).unwrap();
    let kept = journal.snapshot_get().unwrap().unwrap();
    assert_eq!((kept.seq, kept.bytes, kept.damaged), (100, vec![7; 9000], vec![200]));
    assert_eq!(journal.verify().unwrap().damage.unwrap().seq, 200);
    conn.execute("UPDATE checkpoints SET bytes = x'00' WHERE name = 'at'", []).unwrap();
    let said = journal.checkpoint_get("at").unwrap_err().to_string();
    assert!(said.contains("checkpoint \"at\" does not match"), "{said}");
    conn.execute("UPDATE snapshots SET bytes = x'01'", []).unwrap();
    assert!(journal.snapshot_get().is_err());
}

#[test]
fn a_file_of_somebody_else_or_of_a_later_daruma_is_refused_untouched() {
    let refused = |bytes: Vec<u8>| {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal.db");
        fs::write(&path, &bytes).unwrap();
        let error = open(place.path()).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        error
    };
    let text = refused(b"not a database at all, but some text\n".repeat(300));
    assert!(matches!(text, JournalError::Damaged { .. }), "{text}");

    let made = |sql: &str| {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("other.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        fs::read(&path).unwrap()
    };
    // In WAL mode already, as the journal is, so that opening has no reason to write.
    let foreign =
        refused(made("PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1);"));
    assert!(foreign.to_string().contains("not a journal"), "{foreign}");

    let (files, _) = closed();
    let place = files.with("journal.db", |_| {});
    let path = place.path().join("journal.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let newer = open(place.path()).unwrap_err();
    assert_eq!(newer, JournalError::Newer { path: path.clone(), found: 2, supported: 1 });
    assert!(matches!(ReadOnly::open(place.path()), Err(JournalError::Newer { .. })));
}

#[test]
fn somebody_who_writes_beside_the_daemon_is_noticed_at_the_next_append() {
    let place = tempfile::tempdir().unwrap();
    let journal = open(place.path()).unwrap();
    put(&journal, events(0, 0..3));
    let conn = rusqlite::Connection::open(place.path().join("journal.db")).unwrap();
    conn.execute(
        "INSERT INTO events SELECT seq + 3, shard, shard_seq + 3, ts, kind, 'forged', epoch, \
         prev_hash, hash, body FROM events WHERE seq = 1",
        [],
    )
    .unwrap();
    match journal.append_blocking(vec![event(0, 9)], None, vec![]) {
        Err(JournalError::Damaged { found, .. }) => assert!(found.contains("another program")),
        other => panic!("{other:?}"),
    }
    assert_eq!(journal.verify().unwrap().damage.unwrap().seq, 4);
}

#[test]
fn the_command_line_reads_beside_the_daemon() {
    let place = tempfile::tempdir().unwrap();
    assert!(matches!(ReadOnly::open(place.path()), Err(JournalError::Missing { .. })));
    let journal = open(place.path()).unwrap();
    put(&journal, events(3, 0..5));
    let beside = ReadOnly::open(place.path()).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            (5..400).for_each(|number| assert!(put(&journal, vec![event(3, number)]).0 > 5))
        });
        let mut seen = 0;
        while seen < 400 {
            let report = beside.verify().unwrap();
            assert_eq!(report.damage, None);
            assert!(report.tail >= seen);
            seen = report.tail;
        }
    });
    assert_eq!(beside.read(0, 1000).unwrap(), all(&journal));
    assert_eq!(beside.read_shard(3, 399, 9).unwrap().len(), 2);
    let mut out = Vec::new();
    assert_eq!(beside.export(0, &mut out).unwrap(), 400);
    // The tool people have.
    match std::process::Command::new("sqlite3")
        .arg("-readonly")
        .arg(place.path().join("journal.db"))
        .arg("SELECT max(seq), max(shard_seq), count(DISTINCT event_id) FROM events")
        .output()
    {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "400|400|400\n"),
        Err(error) => eprintln!("SKIPPED reading with sqlite3: {error}"),
    }
    drop(journal);
    assert_eq!(ReadOnly::open(place.path()).unwrap().tail().unwrap(), 400, "and after its end");
}

/// What version 1 wrote is read for ever, byte for byte, and continued.
#[test]
fn events_of_version_1_stay_readable() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let place = tempfile::tempdir().unwrap();
    fs::copy(golden.join("v1.db"), place.path().join("journal.db")).unwrap();
    let want = fs::read_to_string(golden.join("v1.jsonl")).unwrap();
    let exported = |journal: &Journal| {
        let mut out = Vec::new();
        journal.export(0, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let journal = open(place.path()).unwrap();
    assert_eq!(exported(&journal), want);
    assert_eq!(journal.checkpoint_get("tail:/var/log/syslog").unwrap().unwrap(), b"{\"at\":10}");
    assert_eq!(journal.snapshot_get().unwrap().unwrap().bytes, b"state after 4");
    put(&journal, vec![event(7, 100)]);
    assert_eq!(journal.verify().unwrap().damage, None);
    assert!(exported(&journal).starts_with(&want));
    // The same events make the same hashes today: two programs agree on one journal.
    let again = tempfile::tempdir().unwrap();
    golden_events(&open(again.path()).unwrap());
    assert_eq!(exported(&open(again.path()).unwrap()), want);
}

fn golden_events(journal: &Journal) {
    put(journal, vec![event(7, 1), event(7, 2), event(0, 3)]);
    let position = ("tail:/var/log/syslog".to_owned(), b"{\"at\":10}".to_vec());
    journal.append_blocking(vec![event(63, 4)], None, vec![position]).unwrap();
    journal.snapshot_put_blocking(4, b"state after 4".to_vec()).unwrap();
    let mut odd = event(7, 5);
    odd.at = daruma_model::Time(-1);
    odd.body = serde_json::json!({ "v": 3, "f": 0.1, "n": null, "s": "\u{1}\n\"\u{1f38e}", "i": i64::MIN }).into();
    put(journal, vec![odd]);
}

/// Writes the golden files, once for a version; never again for one that was released.
#[test]
#[ignore = "makes the golden files of the current version"]
fn make_golden_files() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let place = tempfile::tempdir().unwrap();
    let journal = open(place.path()).unwrap();
    golden_events(&journal);
    let mut out = Vec::new();
    journal.export(0, &mut out).unwrap();
    drop(journal);
    fs::write(golden.join("v1.jsonl"), out).unwrap();
    fs::copy(place.path().join("journal.db"), golden.join("v1.db")).unwrap();
}
