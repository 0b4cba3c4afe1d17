//! Disks that are full or read-only, on real small file systems. They are mounted for the test,
//! which needs root; without it these tests say aloud that they were skipped.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{all, event, events, padded, put};
use daruma_journal::{Appended, HealthState, Journal, JournalError, Options, ReadOnly};

/// A file system of a few MiB, gone with the test.
struct Disk {
    path: PathBuf,
    _place: tempfile::TempDir,
}

impl Disk {
    fn mount(test: &str, size: &str) -> Option<Disk> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("disk");
        fs::create_dir(&path).unwrap();
        let option = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", option.as_str(), "daruma-test"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { path, _place: place }),
            other => {
                eprintln!("SKIPPED {test}: a small disk cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn remount(&self, mode: &str) {
        let option = format!("remount,{mode}");
        let done = Command::new("mount").args(["-o", option.as_str()]).arg(&self.path).status();
        assert!(done.unwrap().success());
    }

    /// Writes into a file until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.path.join("somebody-elses-core-dump");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a journal of a failed test may still hold files there.
        let done = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn options() -> Options {
    Options { reserve_bytes: 1 << 20, ..Options::default() }
}

fn append(journal: &Journal, number: u64) -> Result<Appended, JournalError> {
    journal.append_blocking(vec![padded((number % 64) as u8, number, 2000)], None, vec![])
}

/// Waits until the journal is in this state; how long that takes is not the matter here.
fn until(journal: &Journal, state: HealthState) {
    for _ in 0..600 {
        if journal.health().state == state {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never {state:?}: {:?}", journal.health());
}

#[test]
fn a_full_disk_first_takes_the_reserve_then_refuses_aloud_and_loses_nothing() {
    let Some(disk) = Disk::mount("full disk", "16m") else { return };
    let data = disk.path.join("data");
    let journal = Journal::open(&data, options()).unwrap();
    let mut kept: Vec<String> = Vec::new();
    for number in 0..20 {
        append(&journal, number).unwrap();
        kept.push(format!("e{number}"));
    }
    assert_eq!(journal.health().state, HealthState::Well);
    assert!(data.join("journal.reserve").exists());
    let filler = disk.fill();

    // The incident that runs is recorded from the reserve, and everybody can see that it is.
    let (mut from_reserve, mut number) = (0, 20);
    let refused = loop {
        match append(&journal, number) {
            Ok(Appended::Committed { .. }) => {
                kept.push(format!("e{number}"));
                let health = journal.health();
                if health.reserve_used {
                    from_reserve += 1;
                    assert_eq!(health.state, HealthState::Reserve, "{health:?}");
                    assert!(health.said.contains("full"), "{health:?}");
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
        number += 1;
        assert!(number < 5_000, "the disk never was full");
    };
    println!("{from_reserve} events went into a reserve of 1 MiB");
    assert!(from_reserve > 200, "{from_reserve} events went into the reserve");
    assert!(matches!(refused, JournalError::Full { .. }), "{refused:?}");
    assert!(refused.to_string().contains("free space"), "{refused}");
    let health = journal.health();
    assert_eq!((health.state, health.reserve_used), (HealthState::Full, true));
    assert!(append(&journal, number).is_err(), "and again");

    // What was refused is not there, what was accepted is, also for a start on the full disk.
    let check = |journal: &Journal, kept: &[String]| {
        let found: Vec<String> = all(journal).into_iter().map(|event| event.event_id).collect();
        assert_eq!(found, kept);
        assert_eq!(journal.verify().unwrap().damage, None);
    };
    check(&journal, &kept);

    // Space is back: the next append works without a restart, and the reserve is made again.
    fs::remove_file(&filler).unwrap();
    append(&journal, number).unwrap();
    kept.push(format!("e{number}"));
    until(&journal, HealthState::Well);
    assert!(data.join("journal.reserve").exists());
    assert!(!journal.health().reserve_used);
    drop(journal);
    check(&Journal::open(&data, options()).unwrap(), &kept);
}

#[test]
fn a_start_on_a_full_disk_uses_the_reserve() {
    let Some(disk) = Disk::mount("start on a full disk", "16m") else { return };
    let data = disk.path.join("data");
    put(&Journal::open(&data, options()).unwrap(), events(0, 0..10));
    // As after a crash of the machine: the shared memory file is not there and has no room.
    let _ = fs::remove_file(data.join("journal.db-shm"));
    let _ = fs::remove_file(data.join("journal.db-wal"));
    let filler = disk.fill();
    let journal = Journal::open(&data, options()).unwrap();
    assert_eq!(journal.health().state, HealthState::Reserve);
    append(&journal, 10).unwrap();
    assert_eq!(all(&journal).len(), 11);
    drop(journal);
    fs::remove_file(filler).unwrap();
    assert_eq!(Journal::open(&data, options()).unwrap().health().state, HealthState::Well);
}

#[test]
fn a_first_start_on_a_full_disk_says_so_and_leaves_nothing_half_made() {
    let Some(disk) = Disk::mount("first start on a full disk", "1m") else { return };
    let data = disk.path.join("data");
    fs::create_dir(&data).unwrap();
    let filler = disk.fill();
    let error = Journal::open(&data, options()).unwrap_err();
    assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
    fs::remove_file(filler).unwrap();
    let journal = Journal::open(&data, Options { reserve_bytes: 4096, ..options() }).unwrap();
    assert_eq!(put(&journal, events(0, 0..3)), (1, 3));
}

#[test]
fn a_disk_that_turns_read_only_refuses_aloud_and_is_read_by_the_command_line() {
    let Some(disk) = Disk::mount("read-only disk", "16m") else { return };
    let data = disk.path.join("data");
    let fresh = disk.path.join("fresh");
    put(&Journal::open(&data, options()).unwrap(), events(0, 0..10));
    disk.remount("ro");
    for place in [&data, &fresh] {
        let error = Journal::open(place, options()).unwrap_err();
        assert!(matches!(error, JournalError::ReadOnly { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("remount") && said.contains(place.to_str().unwrap()), "{said}");
    }
    let beside = ReadOnly::open(&data).unwrap();
    assert_eq!(beside.read(0, 100).unwrap().len(), 10);
    assert_eq!(beside.verify().unwrap().damage, None);
    drop(beside);
    disk.remount("rw");
    assert_eq!(put(&Journal::open(&data, options()).unwrap(), vec![event(0, 10)]), (11, 11));
}

#[test]
fn a_path_that_is_a_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let path: &Path = &place.path().join("data");
    fs::write(path, "a file").unwrap();
    let said = Journal::open(path, options()).unwrap_err().to_string();
    assert!(said.contains(path.to_str().unwrap()), "{said}");
}
