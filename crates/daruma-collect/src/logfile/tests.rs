//! Days in the life of a log file, on a real disk, walked step by step in a time of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daruma_model::{Commit, Labels, LogRecord, Severity, Time};
use proptest::prelude::*;

use super::config::{LogSource, StartAt};
use super::tailer::{Out, Tailer};
use super::watch::Hints;
use crate::delivery::{Position, Stopping};

/// What has been processed, and thus survives.
#[derive(Default)]
struct Kept {
    records: Vec<LogRecord>,
    positions: BTreeMap<String, Position>,
    samples: BTreeMap<String, f64>,
    failing: Option<String>,
    said: String,
    lost: u64,
    /// After so many deliveries the power fails.
    power: Option<u32>,
}

#[derive(Clone, Default)]
struct Book(Arc<Mutex<Kept>>);

impl Out for Book {
    fn now(&self) -> Time {
        Time(0)
    }

    fn logs(&mut self, records: Vec<LogRecord>, position: Position) -> Result<(), Stopping> {
        let mut kept = self.0.lock().unwrap();
        if let Some(left) = &mut kept.power {
            *left = left.checked_sub(1).ok_or(Stopping)?;
        }
        kept.records.extend(records);
        if position.ended {
            kept.positions.remove(&position.key());
        } else {
            kept.positions.insert(position.key(), position);
        }
        Ok(())
    }

    fn samples(&mut self, commit: Commit) {
        let mut kept = self.0.lock().unwrap();
        for sample in commit.samples {
            let name = sample.labels.get(Labels::NAME).to_owned();
            let file = Path::new(sample.labels.get("path")).file_name().unwrap();
            kept.samples.insert(format!("{name} {}", file.to_string_lossy()), sample.value);
        }
    }

    fn health(&mut self, failing: Option<String>, said: String, lost: u64) {
        let mut kept = self.0.lock().unwrap();
        kept.failing = failing;
        kept.said = said;
        kept.lost += lost;
    }
}

struct Host {
    dir: tempfile::TempDir,
    how: LogSource,
    book: Book,
    tailer: Option<Tailer<Book>>,
    now: Instant,
}

impl Host {
    /// A host whose log directory is read by the pattern `glob`, from the beginning.
    fn new(glob: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let glob = dir.path().join(glob);
        let mut how = LogSource::of(&[glob.to_str().unwrap()]).unwrap();
        how.from = StartAt::Beginning;
        Host { dir, how, book: Book::default(), tailer: None, now: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Looks at everything until nothing is left to read, some `seconds` later. A power failure on
    /// the way stops the program.
    fn look_after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let (how, book, now) = (self.how.clone(), self.book.clone(), self.now);
        let positions = book.0.lock().unwrap().positions.values().cloned().collect();
        let tailer = self.tailer.get_or_insert_with(|| {
            Tailer::new(Arc::new(how), "log/test".into(), positions, book, Err("test".into()), now)
        });
        let mut hints = Hints { everything: true, ..Hints::default() };
        for _ in 0..10_000 {
            match tailer.turn(self.now, &hints) {
                Err(Stopping) => {
                    self.tailer = None;
                    return;
                }
                Ok(next) if next <= self.now => {}
                Ok(next) if next <= self.now + Duration::from_millis(50) => self.now = next,
                Ok(_) => return,
            }
            hints = Hints::default();
        }
        panic!("there is always something left to read");
    }

    fn look(&mut self) {
        self.look_after(1);
    }

    fn restart(&mut self) {
        self.tailer = None;
        self.book.0.lock().unwrap().power = None;
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.book.0.lock().unwrap()
    }

    /// All records so far.
    fn bodies(&self) -> Vec<String> {
        self.kept().records.iter().map(|record| record.body.clone()).collect()
    }

    fn sample(&self, name: &str) -> f64 {
        self.kept().samples[name]
    }
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_its_successor() {
    let mut host = Host::new("app.log");
    host.append("app.log", "1\n");
    host.look();
    host.append("app.log", "2\n");
    let mut writer = OpenOptions::new().append(true).open(host.path("app.log")).unwrap();
    host.rename("app.log", "app.log.1");
    host.append("app.log", "4\n");
    writer.write_all(b"3\n").unwrap(); // Not told yet that its file was rotated.
    host.look();
    assert_eq!(host.bodies(), ["1", "2", "3", "4"]);
    assert_eq!(host.sample("daruma_log_rotated_still_growing app.log"), 0.0);
    writer.write_all(b"5\n").unwrap(); // It has stayed behind.
    host.look_after(5);
    assert_eq!(host.sample("daruma_log_rotated_still_growing app.log"), 1.0);
    host.look_after(11);
    host.look();
    assert_eq!(host.sample("daruma_log_rotated_still_growing app.log"), 0.0);
    assert_eq!(host.bodies(), ["1", "2", "3", "4", "5"]);
    // Of the old file nothing is kept; the mark that the source has run is.
    let kept: Vec<PathBuf> = host.kept().positions.values().map(|p| p.path.clone()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(host.sample("daruma_log_lines_total app.log"), 5.0);
}

#[test]
fn a_backlog_in_the_old_file_is_finished_before_the_new_file_is_begun() {
    let mut host = Host::new("app.log");
    host.append("app.log", "first\n");
    host.look();
    // Several pieces, so that the two files would have their turns by and by.
    let old: Vec<String> = (0..500).map(|i| format!("old {i:03} {}", "x".repeat(1000))).collect();
    host.append("app.log", old.join("\n") + "\n");
    host.rename("app.log", "app.log.1");
    host.append("app.log", "new\n");
    host.look();
    let got = host.bodies();
    assert_eq!((got.len(), &*got[501]), (502, "new"));
    assert_eq!(got[1..501], old);
}

#[test]
fn a_record_that_is_still_held_when_the_power_fails_is_read_again() {
    let mut host = Host::new("app.log");
    host.append("app.log", "INFO 1\n");
    host.look();
    host.append("app.log", "INFO 2\nERROR 3\n");
    host.now += Duration::from_secs(1);
    let tailer = host.tailer.as_mut().unwrap();
    tailer.turn(host.now, &Hints { everything: true, ..Hints::default() }).unwrap();
    assert_eq!(host.bodies(), ["INFO 1", "INFO 2"]); // A trace may follow the error.
    host.restart();
    host.append("app.log", "\tat shop.Stock\n");
    host.look();
    assert_eq!(host.bodies(), ["INFO 1", "INFO 2", "ERROR 3\n\tat shop.Stock"]);
}

#[test]
fn a_truncated_file_is_read_again_and_its_copy_saves_what_was_unread() {
    let mut host = Host::new("app.log");
    host.append("app.log", "one\n");
    host.look();
    host.append("app.log", "two\nthr");
    fs::copy(host.path("app.log"), host.path("app.log.1")).unwrap();
    File::create(host.path("app.log")).unwrap();
    host.append("app.log", "4\n");
    host.look();
    assert_eq!(host.bodies(), ["one", "two", "4"]);
    host.look_after(11);
    host.look();
    assert_eq!(host.bodies(), ["one", "two", "4", "thr"]);
    assert_eq!(host.kept().lost, 0);
}

#[test]
fn what_a_truncation_destroys_is_counted_and_said() {
    let mut host = Host::new("app.log");
    host.append("app.log", "one\n");
    host.look();
    // Of these 128 KiB pieces only the first is read before the file is cut.
    let (now, line) = (host.now + Duration::from_secs(1), format!("{}\n", "x".repeat(1023)));
    host.append("app.log", line.repeat(300));
    let tailer = host.tailer.as_mut().unwrap();
    tailer.turn(now, &Hints { everything: true, ..Hints::default() }).unwrap();
    File::create(host.path("app.log")).unwrap();
    host.append("app.log", "after\n");
    host.look();
    assert_eq!(host.bodies().last().unwrap(), "after");
    host.look();
    let read = host.bodies().len() as u64 - 2;
    assert_eq!(host.sample("daruma_log_lost_bytes_total app.log"), (300 - read) as f64 * 1024.0);
    assert!(host.kept().said.contains("was truncated") && host.kept().lost == 1);
}

#[test]
fn a_file_written_anew_over_its_old_length_is_not_mistaken_for_grown() {
    let mut host = Host::new("app.log");
    host.append("app.log", "old\n");
    host.look();
    fs::write(host.path("app.log"), "entirely new\nand longer\n").unwrap();
    host.look();
    assert_eq!(host.bodies(), ["old", "entirely new", "and longer"]);
}

#[test]
fn a_deleted_file_gives_up_its_last_words_and_a_new_one_starts_afresh() {
    let mut host = Host::new("app.log");
    host.append("app.log", "1\n");
    host.look();
    host.append("app.log", "2\nlast words");
    fs::remove_file(host.path("app.log")).unwrap();
    host.look();
    host.append("app.log", "3\n");
    host.look();
    host.look_after(11);
    host.look();
    assert_eq!(host.bodies(), ["1", "2", "3", "last words"]);
}

#[test]
fn a_file_rotated_while_nobody_looked_is_found_by_who_it_is() {
    for glob in ["app.log", "app.log*"] {
        let mut host = Host::new(glob);
        host.append("app.log", "1\n");
        host.look();
        host.restart();
        host.append("app.log", "2\n");
        host.rename("app.log", "app.log.1");
        host.append("app.log", "3\n");
        host.look();
        assert_eq!(host.bodies(), ["1", "2", "3"], "{glob}");
    }
}

#[test]
fn after_a_restart_files_that_appeared_meanwhile_are_read_whole() {
    let mut host = Host::new("*.log");
    host.how.from = StartAt::End;
    host.append("old.log", "history\n");
    host.look();
    host.append("old.log", "1\n");
    host.look();
    host.restart();
    host.append("new.log", "2\n");
    host.look();
    assert_eq!(host.bodies(), ["1", "2"]);
}

#[test]
fn at_the_first_start_the_line_being_written_is_the_first() {
    let mut host = Host::new("app.log");
    host.how.from = StartAt::End;
    host.append("app.log", "history\nnow being wri");
    host.look();
    host.append("app.log", "tten\n");
    host.look();
    assert_eq!(host.bodies(), ["now being written"]);
}

#[test]
fn a_machine_that_starts_may_number_its_devices_otherwise() {
    let mut host = Host::new("app.log");
    host.append("app.log", "1\n");
    host.look();
    host.restart();
    let moved: BTreeMap<String, Position> = std::mem::take(&mut host.kept().positions)
        .into_values()
        .map(|position| Position {
            device: position.device + u64::from(position.inode > 0),
            ..position
        })
        .map(|position| (position.key(), position))
        .collect();
    host.kept().positions = moved;
    host.append("app.log", "2\n");
    host.look();
    assert_eq!(host.bodies(), ["1", "2"]);
}

#[test]
fn a_copy_in_the_making_is_not_read_as_a_new_file() {
    let mut host = Host::new("app.log*");
    host.append("app.log", "a line of some length\n");
    host.look();
    fs::copy(host.path("app.log"), host.path("app.log.1")).unwrap();
    host.look(); // Between copy and truncation.
    File::create(host.path("app.log")).unwrap();
    host.append("app.log", "2\n");
    host.look();
    host.look_after(30);
    assert_eq!(host.bodies(), ["a line of some length", "2"]);
}

#[test]
fn a_file_replaced_by_an_edited_copy_is_not_read_twice() {
    let mut host = Host::new("app.log");
    let long = "x".repeat(300);
    host.append("app.log", format!("{long}\n"));
    host.look();
    fs::copy(host.path("app.log"), host.path("tmp")).unwrap();
    host.rename("tmp", "app.log");
    host.append("app.log", "three\n");
    host.look();
    assert_eq!(host.bodies(), [&*long, "three"]);
}

#[test]
fn a_trace_arrives_as_one_record_with_the_severity_of_its_first_line() {
    let mut host = Host::new("app.log");
    let trace = "ERROR no stock\n\tat shop.Stock\nCaused by: gone\n\tat shop.Disk";
    host.append("app.log", format!("INFO a\n{trace}\nINFO b\n"));
    host.look();
    assert_eq!(host.bodies(), ["INFO a", trace, "INFO b"]);
    assert_eq!(host.kept().records[1].severity, Some(Severity::Error));
}

#[test]
fn a_trace_whose_lines_come_one_by_one_is_still_one_record() {
    let mut host = Host::new("app.log");
    host.look();
    let mut hints = Hints { everything: true, ..Hints::default() };
    for line in ["Traceback (most recent call last):\n", "  File \"a\"\n", "KeyError: 7\n"] {
        host.append("app.log", line);
        host.now += Duration::from_millis(1);
        let tailer = host.tailer.as_mut().unwrap();
        while tailer.turn(host.now, &hints).unwrap() <= host.now {}
        hints = Hints { files: BTreeSet::from([host.path("app.log")]), ..Hints::default() };
        assert_eq!(host.bodies(), [""; 0]);
    }
    host.look();
    assert_eq!(host.bodies(), ["Traceback (most recent call last):\n  File \"a\"\nKeyError: 7"]);
}

#[test]
fn binary_data_is_skipped_and_said_and_text_after_it_is_read() {
    let mut host = Host::new("app.log");
    host.append("app.log", "text\n");
    host.look();
    host.append("app.log", [[1_u8, 2, 3, 4, 5, 6, 7, 8].repeat(1000), b"\n".to_vec()].concat());
    host.look();
    assert!(host.kept().said.contains("no text"), "{}", host.kept().said);
    host.append("app.log", b"invalid \xff but text\n");
    host.append("app.log", b"Gr\xfc\xdfe\n");
    host.look();
    assert_eq!(host.bodies(), ["text", "invalid \u{fffd} but text", "Gr\u{fffd}\u{fffd}e"]);
    assert_eq!(host.sample("daruma_log_lost_bytes_total app.log"), 8001.0);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_log_file_and_holds_nothing_up() {
    let mut host = Host::new("*.log");
    let made = std::process::Command::new("mkfifo").arg(host.path("pipe.log")).status().unwrap();
    assert!(made.success());
    host.append("app.log", "1\n");
    host.look();
    assert_eq!(host.bodies(), ["1"]);
}

#[test]
fn more_files_than_allowed_are_said_and_the_busy_ones_are_read() {
    let mut host = Host::new("*.log");
    host.how.files_max = 2;
    for name in ["a.log", "b.log", "c.log"] {
        host.append(name, format!("{name}\n"));
        let age = match name {
            "a.log" => 300,
            _ => 0,
        };
        let modified = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        File::options().write(true).open(host.path(name)).unwrap().set_modified(modified).unwrap();
    }
    host.look();
    assert_eq!(host.bodies(), ["b.log", "c.log"]);
    assert!(host.kept().said.contains("1 files more than files_max (2)"), "{}", host.kept().said);
}

/// What happens to a log file and to its reader.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    /// A line without its end; the next one ends it.
    Part,
    AppendToOld,
    Rename,
    CopyTruncate {
        look_between: bool,
    },
    Truncate,
    Delete,
    Look,
    Restart,
    PowerFailsAfter(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u8).prop_map(Step::Append),
        2 => Just(Step::Part),
        1 => Just(Step::AppendToOld),
        2 => Just(Step::Rename),
        2 => any::<bool>().prop_map(|look_between| Step::CopyTruncate { look_between }),
        1 => Just(Step::Truncate),
        1 => Just(Step::Delete),
        5 => Just(Step::Look),
        2 => Just(Step::Restart),
        2 => (0..4_u32).prop_map(Step::PowerFailsAfter),
    ]
}

/// Plays a writer, a rotator and a reader that is stopped now and then; checks what was delivered.
fn play(glob: &str, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut host = Host::new(glob);
    let (mut next, mut rotations) = (0_u32, 0);
    let mut written: Vec<String> = Vec::new(); // Finished lines and last words, in order.
    let (mut part, mut left_behind) = (String::new(), Vec::new());
    // Written since the last look: only these may a truncation destroy.
    let (mut unseen, mut in_file, mut destroyed) = (0_usize, 0_usize, BTreeSet::new());
    let (mut old, mut behind, mut settled): (Option<File>, bool, bool) = (None, false, true);
    host.append("app.log", "");
    host.look();
    // In a file that has no name any more: they live as long as the reader has it open.
    let mut doomed: Vec<(String, bool)> = Vec::new();
    for step in steps {
        if host.tailer.is_none() {
            destroyed.extend(doomed.drain(..).map(|(line, _)| line));
        }
        // One rotation between two looks: what came and went unseen nobody can follow.
        let rotates = matches!(
            step,
            Step::Rename | Step::CopyTruncate { .. } | Step::Truncate | Step::Delete
        );
        if rotates && !settled {
            host.restart();
            destroyed.extend(doomed.drain(..).map(|(line, _)| line));
            host.look();
            unseen = 0;
        }
        let mut line = |end: &str, part: &mut String| {
            next += 1;
            // Of one width, so that no line is the beginning of another.
            let text = format!("{part}line {next:04}");
            if end.is_empty() {
                text.clone_into(part);
            } else {
                part.clear();
            }
            text
        };
        match step {
            Step::Append(count) => {
                for _ in 0..*count {
                    let had = part.len();
                    let text = line("\n", &mut part);
                    host.append("app.log", format!("{}\n", &text[had..]));
                    written.push(text);
                    (unseen, in_file) = (unseen + 1, in_file + 1);
                }
            }
            Step::Part if part.is_empty() => {
                let text = line("", &mut part);
                host.append("app.log", &text);
            }
            Step::Part => {}
            Step::AppendToOld => {
                if let Some(old) = &mut old {
                    let text = line("\n", &mut String::new());
                    write!(old, "\n{text}\n").unwrap(); // First the end of what it left unfinished.
                    left_behind.push(text);
                    behind = true;
                }
            }
            Step::Rename | Step::CopyTruncate { .. } | Step::Truncate | Step::Delete => {
                let has_words = !part.is_empty();
                if has_words {
                    written.push(std::mem::take(&mut part));
                    (unseen, in_file) = (unseen + 1, in_file + 1);
                    behind = true; // Last words come when the file has been silent.
                }
                rotations += 1;
                let name = format!("app.log.{rotations}");
                let from = written.len() - unseen;
                let lost = from..written.len();
                old = None;
                match step {
                    Step::Rename => {
                        old = Some(
                            OpenOptions::new().append(true).open(host.path("app.log")).unwrap(),
                        );
                        host.rename("app.log", &name);
                    }
                    Step::CopyTruncate { look_between } => {
                        fs::copy(host.path("app.log"), host.path(&name)).unwrap();
                        if *look_between {
                            host.look();
                        }
                        File::create(host.path("app.log")).unwrap();
                        // If nothing of it had been read, the copy cannot be recognised.
                        if in_file <= unseen {
                            destroyed.extend(written[lost].iter().cloned());
                        }
                    }
                    Step::Truncate => {
                        File::create(host.path("app.log")).unwrap();
                        destroyed.extend(written[lost].iter().cloned());
                    }
                    _ => {
                        fs::remove_file(host.path("app.log")).unwrap();
                        let words = usize::from(has_words);
                        let (lines, last) = written[lost].split_at(written.len() - from - words);
                        doomed.extend(lines.iter().map(|line| (line.clone(), false)));
                        doomed.extend(last.iter().map(|line| (line.clone(), true)));
                    }
                }
                host.append("app.log", "");
                (settled, in_file) = (false, 0);
                continue;
            }
            Step::Look => host.look(),
            Step::Restart => host.restart(),
            Step::PowerFailsAfter(deliveries) => {
                host.kept().power = Some(*deliveries);
                host.look();
            }
        }
        if matches!(step, Step::Look | Step::PowerFailsAfter(_)) && host.tailer.is_some() {
            unseen = 0;
            settled = true;
            // Last words are delivered when the file has been silent.
            doomed.retain(|(_, last_words)| *last_words);
        }
    }
    destroyed.extend(doomed.into_iter().map(|(line, _)| line));
    host.restart();
    host.look();
    host.append("app.log", "\nend\n");
    written.extend((!part.is_empty()).then_some(part));
    written.push("end".to_owned());
    for seconds in [1, 11, 1, 1000, 1] {
        host.look_after(seconds);
    }
    written.extend(left_behind);
    let got = host.bodies();
    let unique: BTreeSet<&String> = got.iter().collect();
    prop_assert_eq!(unique.len(), got.len(), "read twice: {:?}", got);
    for line in &written {
        prop_assert!(unique.contains(line) || destroyed.contains(line), "lost {}: {:?}", line, got);
    }
    for line in &got {
        // Of a line that was truncated away its beginning may have been read.
        let begun = destroyed.iter().any(|whole| whole.starts_with(line.as_str()));
        prop_assert!(written.contains(line) || begun, "never written: {}", line);
    }
    // Between files that the patterns name one by one there is no order.
    if !behind && glob == "app.log" {
        let in_order: Vec<&String> = written.iter().filter(|line| unique.contains(line)).collect();
        let got: Vec<&String> = got.iter().filter(|line| written.contains(line)).collect();
        prop_assert_eq!(got, in_order);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Through rotations of every kind, restarts and power failures, a line is delivered once, in
    /// order; only what was truncated away unread may be missing.
    #[test]
    fn every_line_once(steps in prop::collection::vec(step(), 1..40), rotated_too in any::<bool>()) {
        play(if rotated_too { "app.log*" } else { "app.log" }, &steps)?;
    }
}
