//! All files of one source: which there are, which of them were rotated, who is read next.
//!
//! One call of [`Tailer::turn`] looks for what hints or time make due, reads at most one piece of
//! each file that has something to read, delivers, and says when to call again. It waits for nothing
//! but the deliveries and the disk, and takes the time as an argument, so tests walk it step by step.
//!
//! Invariants:
//! - a position is delivered with or after the records before it, never before them;
//! - a rotated file is read to its end before the file that took its path is begun;
//! - whatever bytes are known to be lost are counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_model::{Commit, Labels, LogRecord, Sample, Time};

use crate::delivery::{Fingerprint, Position, Stopping};

use super::config::{LogSource, StartAt};
use super::group::Record;
use super::lines::Restart;
use super::system::{self, Id};
use super::tail::{self, Counted, Life, Tail, Turn};
use super::walk::{Found, Patterns, Walk, is_compressed};
use super::watch::{Hints, Watch};

/// How much of one file is read before the next has its turn.
const PIECE_BYTES: usize = 128 * 1024;

/// How often files and directories are looked at although nothing was heard of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often when the system does not tell.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Looking at a large tree may take this share of the time: one part in so many.
const LOOK_SHARE: u32 = 50;

/// Samples of a file that changes, and of all files when there are few and when there are many.
const SAMPLE_CHANGED_EVERY: Duration = Duration::from_millis(100);
const SAMPLE_ALL_EVERY: Duration = Duration::from_secs(1);
const SAMPLE_MANY_EVERY: Duration = Duration::from_secs(5);
const MANY_FILES: usize = 100;

/// Longer than a rotation takes: what a renamed file still gets after this is a writer that stayed.
const ROTATION_TAKES: Duration = Duration::from_secs(1);

/// How long a file that begins like another is left alone, because it may be a copy in the making.
const COPY_TAKES: Duration = Duration::from_secs(10);

/// How many directory entries are gone through in search of a renamed file.
const SIBLINGS_MAX: usize = 10_000;

/// How many positions are kept of files that are not there.
const POSITIONS_KEPT_MAX: usize = 1000;

/// While only the position moves, as in an over-long line, it is delivered every so many bytes.
const POSITION_EVERY_BYTES: u64 = 4 << 20;

/// Where a source's files go.
pub(super) trait Out {
    /// The time for records and samples.
    fn now(&self) -> Time;
    /// Records of one file and the position after them; waits for room.
    ///
    /// # Errors
    /// [`Stopping`].
    fn logs(&mut self, records: Vec<LogRecord>, position: Position) -> Result<(), Stopping>;
    /// Samples.
    fn samples(&mut self, commit: Commit);
    /// How the source is: what it cannot do, or nothing; what else is to be said; how much was lost
    /// since the last report.
    fn health(&mut self, failing: Option<String>, said: String, lost: u64);
}

/// The files of one source.
pub(super) struct Tailer<O> {
    how: Arc<LogSource>,
    name: String,
    patterns: Patterns,
    out: O,
    watch: Option<Watch>,
    unwatched: Option<String>,
    files: BTreeMap<u64, Tail>,
    next_key: u64,
    by_id: HashMap<Id, u64>,
    by_path: HashMap<PathBuf, u64>,
    ready: VecDeque<u64>,
    buffer: Vec<u8>,
    restored: Vec<Position>,
    /// The source ran before, so what it does not know is new.
    resumed: bool,
    first: bool,
    /// Files that are read to their end and closed, though the patterns name them.
    closed: HashMap<Id, Position>,
    /// Files that may be copies in the making: since when they are left alone, and where they are.
    maybe_copies: HashMap<Id, (Instant, PathBuf)>,
    counts: BTreeMap<PathBuf, Counts>,
    unreadable: BTreeMap<PathBuf, String>,
    over: usize,
    cut_short: bool,
    lost: u64,
    lost_said: String,
    next_look: Instant,
    next_changed_samples: Instant,
    next_all_samples: Instant,
}

/// What is known of one path, whatever files it has led to.
#[derive(Debug)]
struct Counts {
    labels: [Labels; 5],
    record_labels: Labels,
    lines: u64,
    bytes: u64,
    lost: u64,
    size: u64,
    changed: bool,
}

const SAMPLES: [&str; 5] = [
    "daruma_log_lines_total",
    "daruma_log_bytes_total",
    "daruma_log_lost_bytes_total",
    "daruma_log_file_size_bytes",
    "daruma_log_rotated_still_growing",
];

impl Counts {
    fn new(path: &Path, labels: &Labels) -> Counts {
        let record_labels = labels.with("path", &path.to_string_lossy());
        let labels = SAMPLES.map(|name| record_labels.with(Labels::NAME, name));
        Counts { labels, record_labels, lines: 0, bytes: 0, lost: 0, size: 0, changed: true }
    }

    fn samples(&self, time: Time, growing: bool) -> impl Iterator<Item = Sample> {
        let values = [
            self.lines as f64,
            self.bytes as f64,
            self.lost as f64,
            self.size as f64,
            f64::from(u8::from(growing)),
        ];
        let labels = self.labels.clone();
        labels.into_iter().zip(values).map(move |(labels, value)| Sample { labels, time, value })
    }
}

/// Whether rotation gives such names to what was `original`: `app.log.1`, `app-20261123.log`.
fn is_named_after(path: &Path, original: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let from = original.file_name().unwrap_or_default().as_encoded_bytes();
    let stem = original.file_stem().unwrap_or_default().as_encoded_bytes();
    // `app.log` is not named after `app.log.1`.
    name.starts_with(stem) && !from.starts_with(name)
}

/// Whether what is at `path` begins with `start`, and that says something.
fn begins_like_path(start: &[u8], path: &Path) -> bool {
    let there = system::open(path).and_then(|file| tail::start_of(&file));
    !start.is_empty() && there.is_ok_and(|there| there.starts_with(start))
}

impl<O: Out> Tailer<O> {
    /// Goes on from `restored`. With `watch` the system tells about changes; without, because of
    /// `unwatched`, everything is looked at often.
    pub(super) fn new(
        how: Arc<LogSource>,
        name: String,
        restored: Vec<Position>,
        out: O,
        watch: Result<Watch, String>,
        now: Instant,
    ) -> Tailer<O> {
        let (watch, unwatched) = match watch {
            Ok(watch) => (Some(watch), None),
            Err(why) => (None, Some(why)),
        };
        Tailer {
            patterns: Patterns::new(&how),
            how,
            name,
            out,
            watch,
            unwatched,
            files: BTreeMap::new(),
            next_key: 0,
            by_id: HashMap::new(),
            by_path: HashMap::new(),
            ready: VecDeque::new(),
            buffer: vec![0; PIECE_BYTES],
            resumed: !restored.is_empty(),
            restored,
            first: true,
            closed: HashMap::new(),
            maybe_copies: HashMap::new(),
            counts: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            over: 0,
            cut_short: false,
            lost: 0,
            lost_said: String::new(),
            next_look: now,
            next_changed_samples: now,
            next_all_samples: now,
        }
    }

    /// Looks, reads and delivers what is due, and says when the next call is.
    ///
    /// # Errors
    /// [`Stopping`]: what was read last has not been delivered; this must not be called again.
    pub(super) fn turn(&mut self, now: Instant, hints: &Hints) -> Result<Instant, Stopping> {
        let look = hints.everything || now >= self.next_look;
        if look {
            let began = Instant::now();
            self.look_at_all(now)?;
            for key in self.files.keys().copied().collect::<Vec<_>>() {
                self.queue(key);
            }
            self.next_look = now + self.look_every().max(began.elapsed() * LOOK_SHARE);
        } else {
            for directory in &hints.directories {
                self.look_at_one(directory, now)?;
            }
        }
        self.note_touched(&hints.files, now)?;
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            self.read(key, now)?;
        }
        self.end_held(now)?;
        if look {
            self.close_silent(now)?;
            self.report();
        }
        self.sample(now);
        Ok(self.next_turn(now))
    }

    fn look_every(&self) -> Duration {
        match (self.how.poll, &self.watch) {
            (Some(every), _) => every.span().to_std(),
            (None, None) => POLL_EVERY,
            (None, Some(_)) => LOOK_EVERY,
        }
    }

    fn next_turn(&self, now: Instant) -> Instant {
        if !self.ready.is_empty() {
            return now;
        }
        let held = self.files.values().filter_map(|file| file.hold_until).min();
        let samples = if self.counts.values().any(|counts| counts.changed) {
            self.next_changed_samples
        } else {
            self.next_all_samples
        };
        self.next_look.min(samples).min(held.unwrap_or(self.next_look))
    }

    // ---- Which files there are. ----

    fn look_at_all(&mut self, now: Instant) -> Result<(), Stopping> {
        let mut walk = self.patterns.walk();
        if self.watch_all(&walk) {
            // Something may have come between reading a directory and watching it.
            walk = self.patterns.walk();
        }
        self.cut_short = walk.cut_short;
        self.over = 0;
        self.unreadable.clear();
        if self.first {
            self.claim_renamed(&walk, now);
        }
        self.reconcile(&walk, true, now)?;
        self.forget_missing(&walk)?;
        if self.first {
            self.first = false;
            if !self.resumed {
                // That the source has run at all is worth keeping: whatever it finds from now on
                // is new, after a restart, too.
                let mark = Position {
                    source: self.name.clone(),
                    path: PathBuf::new(),
                    device: 0,
                    inode: 0,
                    fingerprint: Fingerprint::default(),
                    offset: 0,
                    skipping: false,
                    ended: false,
                };
                self.out.logs(Vec::new(), mark)?;
                self.resumed = true;
            }
        }
        Ok(())
    }

    fn look_at_one(&mut self, directory: &Path, now: Instant) -> Result<(), Stopping> {
        let walk = {
            let watch = &self.watch;
            let new = |below: &Path| watch.as_ref().is_some_and(|watch| !watch.has(below));
            let walk = self.patterns.walk_one(directory, &new);
            let fresh: Vec<PathBuf> =
                walk.directories.iter().filter(|found| new(found)).cloned().collect();
            (walk, fresh)
        };
        let (walk, fresh) = walk;
        self.reconcile(&walk, false, now)?;
        for directory in fresh {
            if self.watch_one(&directory) {
                self.look_at_one(&directory, now)?;
            }
        }
        Ok(())
    }

    /// Whether any directory was not watched before.
    fn watch_all(&mut self, walk: &Walk) -> bool {
        let mut directories = walk.directories.clone();
        // Where links lead, changes must be heard of, too.
        for found in &walk.found {
            if let Ok(real) = fs::canonicalize(&found.path)
                && let Some(directory) = real.parent()
            {
                directories.insert(directory.to_owned());
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.keep_only(&directories);
        }
        let mut new = false;
        for directory in &directories {
            new |= self.watch_one(directory);
        }
        new
    }

    fn watch_one(&mut self, directory: &Path) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        match watch.add(directory) {
            Ok(new) => new,
            Err(error) => {
                let gone = matches!(&error.kind, notify::ErrorKind::PathNotFound)
                    || matches!(&error.kind, notify::ErrorKind::Io(error) if error.kind() == io::ErrorKind::NotFound);
                if !gone {
                    // Half watching would be slow in places nobody expects: look everywhere.
                    self.watch = None;
                    self.unwatched = Some(format!("cannot watch {}: {error}", directory.display()));
                }
                false
            }
        }
    }

    /// Compares what was found with what is read: opens what is new, and notices what has lost its
    /// path.
    fn reconcile(&mut self, walk: &Walk, all: bool, now: Instant) -> Result<(), Stopping> {
        for (path, error) in &walk.problems {
            self.unreadable.insert(path.clone(), error.to_string());
        }
        let now_at: HashMap<&Path, Id> =
            walk.found.iter().map(|found| (&*found.path, found.id)).collect();
        let mut rotated = Vec::new();
        for (key, file) in &mut self.files {
            let seen = walk.shows(&file.path, all);
            let here = now_at.get(&*file.path) == Some(&file.id);
            match file.life {
                Life::Live if seen && !here => {
                    file.life = Life::Rotated { noticed: now, grew: now };
                    rotated.push(*key);
                }
                Life::Rotated { .. } if here => {
                    file.life = Life::Live;
                    self.by_path.insert(file.path.clone(), *key);
                }
                _ => {}
            }
        }
        for key in rotated {
            if let Some(file) = self.files.get_mut(&key) {
                file.drained = false;
                file.touch();
                self.by_path.remove(&file.path);
                if let Some(counts) = self.counts.get_mut(&file.path) {
                    counts.changed = true;
                }
            }
            self.queue(key);
        }
        let mut new: Vec<&Found> =
            walk.found.iter().filter(|found| !self.by_id.contains_key(&found.id)).collect();
        // Those that are known first, so that a copy of one of them is recognised. And when not all
        // fit, those that are written to are worth more.
        new.sort_by_key(|found| {
            (self.strangeness(found), Reverse(found.modified), found.path.clone())
        });
        for found in new {
            self.meet(found, now)?;
        }
        Ok(())
    }

    /// 0: read before under this path; 1: read before; 2: never seen.
    fn strangeness(&self, found: &Found) -> u8 {
        let known = self.closed.get(&found.id).or_else(|| {
            let same = |p: &&Position| (p.device, p.inode) == (found.id.device, found.id.inode);
            self.restored.iter().find(same)
        });
        known.map_or(2, |known| u8::from(known.path != found.path))
    }

    /// A file that is not being read.
    fn meet(&mut self, found: &Found, now: Instant) -> Result<(), Stopping> {
        if self.closed.get(&found.id).is_some_and(|position| found.bytes == position.offset) {
            return Ok(());
        }
        if self.by_id.contains_key(&found.id) {
            return Ok(()); // Two names of one file: it is read once.
        }
        if self.files.len() >= self.how.files_max {
            self.over += 1;
            return Ok(());
        }
        let opened = system::open(&found.path).and_then(|file| Ok((file.metadata()?, file)));
        let (known, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.unreadable.insert(found.path.clone(), error.to_string());
                return Ok(());
            }
        };
        if !known.is_file() || system::id(&known) != found.id {
            return Ok(()); // Replaced since it was found: the next look sees what is there now.
        }
        if let Err(error) = self.begin(found, file, now) {
            self.unreadable.insert(found.path.clone(), error.to_string());
        }
        Ok(())
    }

    fn begin(&mut self, found: &Found, file: File, now: Instant) -> io::Result<()> {
        let start = tail::start_of(&file)?;
        let size = file.metadata()?.len();
        let known = match self.closed.remove(&found.id) {
            Some(position) => Some(Position { path: found.path.clone(), ..position }),
            None => self.claim(found, &start),
        };
        if let Some(position) = known {
            if position.fingerprint.fits(&start) && size >= position.offset {
                return self.resume(position, found, file, size, now);
            }
            // Under its old path it was truncated. Under another it only has the number of a file
            // that is gone, and is as new as any.
            if position.path == found.path {
                self.resume_copy(&position, now)?;
                return self.open(found.path.clone(), file, Restart::default());
            }
        }
        if !self.first || self.resumed {
            // The copy of a file that was copied and truncated is found by whoever misses its lines.
            if self.may_be_copy(found, &file)? {
                let path = || (now, found.path.clone());
                let since = self.maybe_copies.entry(found.id).or_insert_with(path).0;
                if now < since + COPY_TAKES {
                    return Ok(());
                }
            }
            self.maybe_copies.remove(&found.id);
        }
        // A file that an editor or a restore has put in place of the old one holds what was read.
        // Two logs may begin with the same few lines, so it takes a whole fingerprint to say so, and
        // an old file that is gone rather than renamed.
        let replaced = self.files.iter().find(|(_, old)| {
            old.path == found.path
                && old.offset() >= Fingerprint::BYTES_MAX as u64
                && old.is_deleted().unwrap_or(false)
                && old.is_copied_by(&file).unwrap_or(false)
        });
        let at = if let Some(key) = replaced.map(|(key, _)| *key) {
            self.files.remove(&key).map_or_else(Restart::default, |old| {
                self.by_id.remove(&old.id);
                self.closed.insert(old.id, old.position(&self.name, false));
                old.restart()
            })
        } else if self.first && !self.resumed && self.how.from == StartAt::End {
            tail::last_line_start(&file, &self.how)?
        } else {
            Restart::default()
        };
        self.open(found.path.clone(), file, at)
    }

    /// Goes on in a file that was known before.
    fn resume(
        &mut self,
        position: Position,
        found: &Found,
        file: File,
        size: u64,
        now: Instant,
    ) -> io::Result<()> {
        let moved = position.path != found.path;
        if moved && size == position.offset {
            // An old rotated file that the patterns name, read long ago.
            self.closed.insert(found.id, position);
            return Ok(());
        }
        let at = Restart { offset: position.offset, skipping: position.skipping };
        let mut tail = Tail::new(position.path.clone(), file, at, &self.how)?;
        if moved {
            tail.life = Life::Rotated { noticed: now, grew: now };
        }
        tail.sent = Some(position);
        self.add(tail);
        Ok(())
    }

    /// A file was written anew while nobody looked: if a copy of it was made, the rest is there.
    fn resume_copy(&mut self, position: &Position, now: Instant) -> io::Result<()> {
        let at = Restart { offset: position.offset, skipping: position.skipping };
        let fits = |file: &File, size: u64| {
            Ok(position.fingerprint.bytes > 0
                && size >= position.offset
                && position.fingerprint.fits(&tail::start_of(file)?))
        };
        match self.sibling(&position.path, &fits) {
            Some(copy) => {
                let mut tail = Tail::new(position.path.clone(), copy, at, &self.how)?;
                tail.life = Life::Rotated { noticed: now, grew: now };
                self.add(tail);
            }
            None => self.loses(&position.path, 0, "was written anew while nobody looked"),
        }
        Ok(())
    }

    fn open(&mut self, path: PathBuf, file: File, at: Restart) -> io::Result<()> {
        self.add(Tail::new(path, file, at, &self.how)?);
        Ok(())
    }

    fn add(&mut self, tail: Tail) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.by_id.insert(tail.id, key);
        if tail.life == Life::Live {
            self.by_path.insert(tail.path.clone(), key);
            if let Ok(real) = fs::canonicalize(&tail.path)
                && real != tail.path
            {
                self.by_path.insert(real, key);
            }
        }
        self.counts
            .entry(tail.path.clone())
            .or_insert_with(|| Counts::new(&tail.path, &self.how.labels));
        self.files.insert(key, tail);
        self.queue(key);
        key
    }

    /// The kept position of a found file: the same file on the same device or, because devices
    /// change their numbers when a machine starts, the same file number under the same path.
    fn claim(&mut self, found: &Found, start: &[u8]) -> Option<Position> {
        let exact = self.restored.iter().position(|position| {
            (position.device, position.inode) == (found.id.device, found.id.inode)
        });
        let at = exact.or_else(|| {
            self.restored.iter().position(|position| {
                position.inode == found.id.inode
                    && position.path == found.path
                    && position.fingerprint.bytes > 0
                    && position.fingerprint.fits(start)
            })
        })?;
        let position = self.restored.swap_remove(at);
        let reused = position.fingerprint.bytes == 0
            && (self.resembles_known(start)
                || (found.path != position.path && begins_like_path(start, &position.path)));
        (!reused).then_some(position)
    }

    /// Whether a file begins like one that is or was read: of two files with one number, of which
    /// the older was empty, the newer is then no continuation of the older but a copy of a third.
    fn resembles_known(&self, start: &[u8]) -> bool {
        let like = |known: &Fingerprint| known.bytes > 0 && known.fits(start);
        self.restored.iter().any(|position| like(&position.fingerprint))
            || self.files.values().any(|file| file.started_like(start))
    }

    /// Files that were renamed while nobody looked, to names that the patterns do not name: found by
    /// their identity beside the path they had.
    fn claim_renamed(&mut self, walk: &Walk, now: Instant) {
        let there: HashSet<u64> = walk.found.iter().map(|found| found.id.inode).collect();
        let known: Vec<Fingerprint> = self.restored.iter().map(|p| p.fingerprint).collect();
        let (missing, rest): (Vec<Position>, Vec<Position>) = std::mem::take(&mut self.restored)
            .into_iter()
            .partition(|position| position.inode != 0 && !there.contains(&position.inode));
        self.restored = rest;
        let mut found = Vec::new();
        for position in missing {
            let fits = |file: &File, size: u64| {
                let id = system::id(&file.metadata()?);
                let start = tail::start_of(file)?;
                let like_other = known.iter().any(|other| other.bytes > 0 && other.fits(&start));
                let reused = position.fingerprint.bytes == 0
                    && (like_other || begins_like_path(&start, &position.path));
                Ok(id.inode == position.inode
                    && size >= position.offset
                    && position.fingerprint.fits(&start)
                    && !reused)
            };
            match self.same_inode(&position, &fits) {
                Some(file) => {
                    let modified = file.metadata().and_then(|found| found.modified()).ok();
                    found.push((modified, position, file));
                }
                None => {
                    if walk.found.iter().any(|found| found.path == position.path) {
                        self.loses(&position.path, 0, "was replaced while nobody looked");
                    }
                    self.restored.push(position);
                }
            }
        }
        // Of several old files of one path the oldest was written first.
        found.sort_by_key(|(modified, ..)| *modified);
        for (_, position, file) in found {
            let at = Restart { offset: position.offset, skipping: position.skipping };
            match Tail::new(position.path.clone(), file, at, &self.how) {
                Ok(mut tail) => {
                    tail.life = Life::Rotated { noticed: now, grew: now };
                    tail.sent = Some(position);
                    self.add(tail);
                }
                Err(error) => {
                    self.unreadable.insert(position.path, error.to_string());
                }
            }
        }
    }

    fn same_inode(
        &self,
        position: &Position,
        fits: &dyn Fn(&File, u64) -> io::Result<bool>,
    ) -> Option<File> {
        let entries = fs::read_dir(position.path.parent()?).ok()?;
        entries
            .take(SIBLINGS_MAX)
            .flatten()
            .filter(|entry| system::may_be(entry, position.inode))
            .find_map(|entry| {
                let file = system::open(&entry.path()).ok()?;
                let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
                fits(&file, found.len()).ok()?.then_some(file)
            })
    }

    /// The newest file beside `path`, named after it and not read yet, that `fits`.
    fn sibling(&self, path: &Path, fits: &dyn Fn(&File, u64) -> io::Result<bool>) -> Option<File> {
        let mut best = None;
        for entry in fs::read_dir(path.parent()?).ok()?.take(SIBLINGS_MAX).flatten() {
            if !is_named_after(&entry.path(), path) || is_compressed(&entry.path()) {
                continue;
            }
            let Ok(known) = entry.metadata() else { continue };
            let id = system::id(&known);
            if !known.is_file() || self.by_id.contains_key(&id) || self.closed.contains_key(&id) {
                continue;
            }
            let Ok(file) = system::open(&entry.path()) else { continue };
            let Ok(start) = tail::start_of(&file) else { continue };
            if self.restored.iter().any(|position| {
                let same = (position.device, position.inode) == (id.device, id.inode);
                same && position.fingerprint.bytes > 0 && position.fingerprint.fits(&start)
            }) {
                continue;
            }
            let modified = known.modified().ok();
            if best.as_ref().is_none_or(|(newest, _)| modified > *newest)
                && fits(&file, known.len()).unwrap_or(false)
            {
                best = Some((modified, file));
            }
        }
        best.map(|(_, file)| file)
    }

    /// Whether a file that has just been found is the copy, or the beginning of one, of a file that
    /// is being read: then its lines have been delivered already.
    fn may_be_copy(&self, found: &Found, file: &File) -> io::Result<bool> {
        for tail in self.files.values().filter(|tail| tail.life == Life::Live) {
            let named_after = tail.path.parent() == found.path.parent()
                && is_named_after(&found.path, &tail.path);
            if !named_after {
                continue;
            }
            let whole = tail.offset() > 0 && found.bytes >= tail.offset();
            if if whole { tail.is_copied_by(file)? } else { tail.begins_like(file)? } {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Closed files that are gone, and positions that nobody claimed, are ended.
    fn forget_missing(&mut self, walk: &Walk) -> Result<(), Stopping> {
        let there: HashSet<Id> = walk.found.iter().map(|found| found.id).collect();
        let gone: Vec<Id> = self
            .closed
            .iter()
            .filter(|(id, position)| !there.contains(*id) && walk.shows(&position.path, true))
            .map(|(id, _)| *id)
            .collect();
        let mut ended: Vec<Position> =
            gone.iter().filter_map(|id| self.closed.remove(id)).collect();
        self.maybe_copies.retain(|id, _| there.contains(id));
        if self.first {
            // A path that leads nowhere may be on a disk that is not mounted yet: its position is
            // kept. One that leads to another file says that the old one is gone.
            let paths: HashSet<&Path> = walk.found.iter().map(|found| &*found.path).collect();
            let (over, kept): (Vec<Position>, Vec<Position>) =
                self.restored.drain(..).partition(|position| {
                    let id = Id { device: position.device, inode: position.inode };
                    position.inode != 0 && paths.contains(&*position.path) && !there.contains(&id)
                });
            ended.extend(over);
            self.restored = kept;
            self.restored.retain(|position| position.inode != 0);
            ended.extend(self.restored.drain(POSITIONS_KEPT_MAX.min(self.restored.len())..));
        }
        for position in ended {
            self.out.logs(Vec::new(), Position { ended: true, ..position })?;
        }
        Ok(())
    }

    // ---- Reading. ----

    fn queue(&mut self, key: u64) {
        if let Some(file) = self.files.get_mut(&key)
            && !file.queued
        {
            file.queued = true;
            self.ready.push_back(key);
        }
    }

    fn note_touched(&mut self, touched: &BTreeSet<PathBuf>, now: Instant) -> Result<(), Stopping> {
        let mut unknown = false;
        // A file that is named by the patterns but left alone may now show whose copy it is not.
        let mut directories = BTreeSet::new();
        for path in touched {
            match self.by_path.get(path).copied() {
                Some(key) => {
                    if let Some(file) = self.files.get_mut(&key) {
                        file.touch();
                    }
                    self.queue(key);
                }
                None => {
                    unknown = true;
                    directories.extend(path.parent().filter(|_| self.patterns.name(path)));
                }
            }
        }
        if unknown {
            // A renamed file is written to under a name that nobody here knows it by.
            let rotated = self.files.iter().filter(|(_, file)| file.life != Life::Live);
            for key in rotated.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.queue(key);
            }
        }
        directories.into_iter().try_for_each(|directory| self.look_at_one(directory, now))
    }

    /// Reads one piece of a file and delivers what is complete in it.
    fn read(&mut self, key: u64, now: Instant) -> Result<(), Stopping> {
        let Some(file) = self.files.get_mut(&key) else { return Ok(()) };
        file.queued = false;
        if file.life == Life::Live && self.waits_for_older(key) {
            self.queue(key);
            return Ok(());
        }
        let Some(file) = self.files.get_mut(&key) else { return Ok(()) };
        let mut records = Vec::new();
        let (turn, counted) = match file.read(&mut self.buffer, &self.how, &mut records) {
            Ok(read) => read,
            Err(error) => {
                // A live file is tried again at the next look; a rotated one must not hold up the
                // file that took its path.
                file.drained = true;
                self.unreadable.insert(file.path.clone(), error.to_string());
                return Ok(());
            }
        };
        if turn == Turn::Truncated {
            return self.truncated(key, now);
        }
        if counted.bytes > 0
            && let Life::Rotated { noticed, .. } = file.life
        {
            file.life = Life::Rotated { noticed, grew: now };
        }
        if turn == Turn::More {
            file.hold_until = None;
        } else if !file.holds(&self.how) {
            records.extend(file.end_record());
        } else if counted.lines > 0 || file.hold_until.is_none() {
            file.hold_until = Some(now + self.how.multiline.wait.to_std());
        }
        self.count(key, counted);
        self.deliver(key, records, turn == Turn::End)?;
        if turn == Turn::More {
            self.queue(key);
        }
        Ok(())
    }

    /// Whether an older file of the same path has not been read to its end.
    fn waits_for_older(&self, key: u64) -> bool {
        let Some(file) = self.files.get(&key) else { return false };
        self.files.iter().any(|(other, older)| {
            *other != key && older.life != Life::Live && !older.drained && older.path == file.path
        })
    }

    fn count(&mut self, key: u64, counted: Counted) {
        let Some(file) = self.files.get(&key) else { return };
        let Some(counts) = self.counts.get_mut(&file.path) else { return };
        counts.lines += counted.lines;
        counts.bytes += counted.bytes;
        counts.lost += counted.skipped;
        if file.life == Life::Live && counts.size != file.offset().max(file.size) {
            counts.size = file.offset().max(file.size);
            counts.changed = true;
        }
        counts.changed |= counted.bytes > 0;
    }

    fn deliver(&mut self, key: u64, records: Vec<Record>, at_end: bool) -> Result<(), Stopping> {
        let Some(file) = self.files.get_mut(&key) else { return Ok(()) };
        let position = file.position(&self.name, false);
        if records.is_empty() {
            let moved = match &file.sent {
                None => true,
                Some(sent) if at_end => *sent != position,
                Some(sent) => position.offset.abs_diff(sent.offset) >= POSITION_EVERY_BYTES,
            };
            if !moved {
                return Ok(());
            }
        }
        let Some(counts) = self.counts.get(&file.path) else { return Ok(()) };
        let time = self.out.now();
        let records = records
            .into_iter()
            .map(|Record { body, severity }| LogRecord {
                time,
                labels: counts.record_labels.clone(),
                severity,
                body,
            })
            .collect();
        file.sent = Some(position.clone());
        self.out.logs(records, position)
    }

    fn end_held(&mut self, now: Instant) -> Result<(), Stopping> {
        let due = self.files.iter().filter(|(_, file)| file.hold_until.is_some_and(|at| at <= now));
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            let ended = self.files.get_mut(&key).and_then(Tail::end_record);
            self.deliver(key, ended.into_iter().collect(), true)?;
        }
        Ok(())
    }

    /// A file begins anew. What was not read of it goes on in a copy, if rotation made one;
    /// otherwise it is lost, and said to be.
    fn truncated(&mut self, key: u64, now: Instant) -> Result<(), Stopping> {
        let Some(file) = self.files.get(&key) else { return Ok(()) };
        let path = file.path.clone();
        let (offset, size) = (file.offset(), file.size);
        let fits =
            |copy: &File, bytes: u64| Ok(bytes >= size.max(offset) && file.is_copied_by(copy)?);
        let copy = self.sibling(&path, &fits);
        let how = Arc::clone(&self.how);
        self.pass_over_short_copies(key, copy.as_ref())?;
        let Some(file) = self.files.get_mut(&key) else { return Ok(()) };
        let again = match copy {
            Some(copy) => file.move_to_copy(copy, now, &how).map(Some),
            None => {
                let mut records = Vec::new();
                file.finish(&how, &mut records);
                self.deliver(key, records, true)?;
                let Some(file) = self.files.get_mut(&key) else { return Ok(()) };
                file.begin_again(&how).map(|unread| {
                    self.loses(&path, unread, "was truncated");
                    None
                })
            }
        };
        match again {
            Ok(Some(fresh)) => {
                // The reader of the copy keeps its key; the path now leads to a new reader.
                let Some(moved) = self.files.get(&key) else { return Ok(()) };
                self.by_id.insert(moved.id, key);
                self.maybe_copies.remove(&moved.id);
                self.queue(key);
                self.add(fresh);
            }
            Ok(None) => self.queue(key),
            Err(error) => {
                self.unreadable.insert(path, error.to_string());
            }
        }
        Ok(())
    }

    /// Copies that were made before the last lines were written hold nothing that was not read.
    fn pass_over_short_copies(&mut self, key: u64, chosen: Option<&File>) -> Result<(), Stopping> {
        let chosen = chosen.and_then(|file| file.metadata().ok()).map(|found| system::id(&found));
        let Some(file) = self.files.get(&key) else { return Ok(()) };
        let mut passed = Vec::new();
        for (id, (_, path)) in &self.maybe_copies {
            if Some(*id) == chosen || path.parent() != file.path.parent() {
                continue;
            }
            let Ok(copy) = system::open(path) else { continue };
            let (Ok(found), Ok(start)) = (copy.metadata(), tail::start_of(&copy)) else { continue };
            let offset = found.len();
            if system::id(&found) == *id && offset > 0 && file.started_like(&start) {
                let restart = Position { path: path.clone(), ..file.position(&self.name, false) };
                let Id { device, inode } = *id;
                let fingerprint = Fingerprint::of(&start);
                passed.push(Position {
                    device,
                    inode,
                    fingerprint,
                    offset,
                    skipping: false,
                    ..restart
                });
            }
        }
        for position in passed {
            let id = Id { device: position.device, inode: position.inode };
            self.maybe_copies.remove(&id);
            self.closed.insert(id, position.clone());
            self.out.logs(Vec::new(), position)?;
        }
        Ok(())
    }

    fn loses(&mut self, path: &Path, bytes: u64, why: &str) {
        self.lost += u64::from(bytes > 0);
        let count = if bytes > 0 {
            format!("{bytes} bytes of it are lost")
        } else {
            "what it got after the last look, if anything, is lost".to_owned()
        };
        self.lost_said = format!("{} {why}; {count}", path.display());
        if let Some(counts) = self.counts.get_mut(path) {
            counts.lost += bytes;
            counts.changed = true;
        }
    }

    // ---- Closing, and what is told. ----

    fn close_silent(&mut self, now: Instant) -> Result<(), Stopping> {
        let grace = self.how.grace.to_std();
        let mut silent = Vec::new();
        for (key, file) in &self.files {
            let Life::Rotated { noticed, grew } = file.life else { continue };
            if !file.drained || file.hold_until.is_some() {
                continue;
            }
            // Until the new file has been written to, the writer may still hold the old one.
            let followed = self
                .by_path
                .get(&file.path)
                .is_some_and(|next| self.files.get(next).is_some_and(|next| next.offset() > 0));
            let patience =
                if followed || file.is_deleted().unwrap_or(true) { grace } else { grace * 60 };
            if now >= grew.max(noticed) + patience {
                silent.push(*key);
            }
        }
        for key in silent {
            let Some(file) = self.files.get_mut(&key) else { continue };
            let mut records = Vec::new();
            file.finish(&self.how, &mut records);
            self.deliver(key, records, true)?;
            let Some(file) = self.files.remove(&key) else { continue };
            self.by_id.remove(&file.id);
            let position = file.position(&self.name, false);
            // Named by the patterns under its new name: it is to be known when it is found there.
            self.closed.insert(file.id, position);
            if !self.files.values().any(|other| other.path == file.path) {
                self.counts.remove(&file.path);
            }
        }
        Ok(())
    }

    fn report(&mut self) {
        let binary: Vec<&Path> =
            self.files.values().filter(|file| file.binary).map(|file| &*file.path).collect();
        let mut said = Vec::new();
        if let Some(why) = &self.unwatched {
            said.push(format!("looking every {}ms: {why}", self.look_every().as_millis()));
        }
        if self.files.is_empty() && self.unreadable.is_empty() {
            said.push("no file there yet".to_owned());
        }
        if self.over > 0 {
            let max = self.how.files_max;
            said.push(format!("{} files more than files_max ({max}) are not read", self.over));
        }
        if self.cut_short {
            said.push("there are more files and directories than one look goes through".to_owned());
        }
        if let Some(path) = binary.first() {
            said.push(format!("{} files hold no text, e.g. {}", binary.len(), path.display()));
        }
        if !self.lost_said.is_empty() {
            said.push(self.lost_said.clone());
        }
        let failing =
            self.unreadable.iter().next().map(|(path, why)| match self.unreadable.len() {
                1 => format!("cannot read {}: {why}", path.display()),
                many => format!("cannot read {many} paths, e.g. {}: {why}", path.display()),
            });
        self.out.health(failing, said.join("; "), std::mem::take(&mut self.lost));
    }

    fn sample(&mut self, now: Instant) {
        let all = now >= self.next_all_samples;
        let changed = now >= self.next_changed_samples;
        if !all && !changed {
            return;
        }
        let time = self.out.now();
        let grace = self.how.grace.to_std();
        let growing: HashSet<&Path> = self
            .files
            .values()
            .filter(|file| match file.life {
                Life::Live => false,
                Life::Rotated { noticed, grew } => {
                    grew >= noticed + ROTATION_TAKES && now < grew + grace
                }
            })
            .map(|file| &*file.path)
            .collect();
        let mut samples = Vec::new();
        for (path, counts) in &mut self.counts {
            if all || counts.changed {
                counts.changed = false;
                samples.extend(counts.samples(time, growing.contains(&**path)));
            }
        }
        if all {
            let many = self.counts.len() > MANY_FILES;
            self.next_all_samples = now + if many { SAMPLE_MANY_EVERY } else { SAMPLE_ALL_EVERY };
        }
        self.next_changed_samples = now + SAMPLE_CHANGED_EVERY;
        if !samples.is_empty() {
            self.out.samples(Commit::from(samples));
        }
    }
}
