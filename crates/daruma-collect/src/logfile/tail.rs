//! One open file: reads what was appended, notices when it is no longer the file it was.
//!
//! What has been read is believed only after the file's first bytes have been compared again, so a
//! file that is truncated and written anew while it is read cannot mix two contents.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::delivery::{Fingerprint, Position};

use super::config::LogSource;
use super::group::{Group, Record};
use super::lines::{self, Lines, Restart};
use super::system::{self, Id};

/// The last bytes before the offset, kept to recognise a copy of the file.
const LAST_BYTES_MAX: usize = 256;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Tail {
    /// Under which path its lines are known; it keeps it when it is renamed.
    pub(super) path: PathBuf,
    /// Who it is.
    pub(super) id: Id,
    /// Whether its path still leads to it.
    pub(super) life: Life,
    /// What was there has been read.
    pub(super) drained: bool,
    /// It waits in line to be read.
    pub(super) queued: bool,
    /// The largest size seen.
    pub(super) size: u64,
    /// When the open record is ended though it looks unfinished.
    pub(super) hold_until: Option<Instant>,
    /// What the last piece of it looked like.
    pub(super) binary: bool,
    /// The position that was delivered last.
    pub(super) sent: Option<Position>,
    file: File,
    modified: Option<SystemTime>,
    start: Fingerprint,
    last: Vec<u8>,
    lines: Lines,
    group: Group,
}

/// Whether a path leads to the file that was opened under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It does.
    Live,
    /// Renamed or deleted; read until it is silent.
    Rotated {
        /// When that was noticed.
        noticed: Instant,
        /// When it last grew.
        grew: Instant,
    },
}

/// What one read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to read.
    More,
    /// The end, for now.
    End,
    /// The file is shorter than what was read, or begins differently: it was written anew.
    Truncated,
}

/// What was counted in one read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    /// Lines that ended.
    pub(super) lines: u64,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Bytes not delivered: the rest of over-long lines, and what is no text.
    pub(super) skipped: u64,
}

impl Tail {
    /// Begins to read `file` at `at`.
    ///
    /// # Errors
    /// The system's, from looking at its beginning.
    pub(super) fn new(path: PathBuf, file: File, at: Restart, how: &LogSource) -> io::Result<Tail> {
        let found = file.metadata()?;
        let mut last =
            vec![0; LAST_BYTES_MAX.min(usize::try_from(at.offset).unwrap_or(usize::MAX))];
        let from = at.offset - last.len() as u64;
        let got = system::fill_at(&file, &mut last, from)?;
        last.truncate(got);
        Ok(Tail {
            path,
            id: system::id(&found),
            life: Life::Live,
            drained: false,
            queued: false,
            size: found.len(),
            hold_until: None,
            binary: false,
            sent: None,
            modified: None,
            start: Fingerprint::of(&start_of(&file)?),
            last,
            lines: Lines::new(at, how.line_bytes_max),
            group: Group::default(),
            file,
        })
    }

    /// Reads one piece; records that ended in it are added to `records`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        how: &LogSource,
        records: &mut Vec<Record>,
    ) -> io::Result<(Turn, Counted)> {
        let mut counted = Counted::default();
        let before = self.file.metadata()?;
        let modified = before.modified().ok();
        if before.len() == self.lines.offset() && modified.is_some() && modified == self.modified {
            self.drained = true;
            return Ok((Turn::End, counted));
        }
        let count = system::fill_at(&self.file, buffer, self.lines.offset())?;
        let start = start_of(&self.file)?;
        let after = self.file.metadata()?.len();
        if after < self.lines.offset() + count as u64 || !self.start.fits(&start) {
            return Ok((Turn::Truncated, counted));
        }
        self.size = self.size.max(after);
        self.start = Fingerprint::of(&start);
        self.modified = modified;
        let bytes = &buffer[..count];
        counted.bytes = count as u64;
        self.remember(bytes);
        self.binary = if count == 0 {
            self.binary
        } else {
            lines::is_binary(bytes, self.lines.at_line_start())
        };
        if self.binary && count > 0 {
            records.extend(self.group.take());
            self.lines.pass_over(count as u64, bytes.ends_with(b"\n"));
            counted.skipped = count as u64;
        } else {
            let group = &mut self.group;
            let (ended, skipped) = self.lines.feed(bytes, |line| {
                records.extend(group.line(lines::text(line.bytes), line.from, &how.multiline));
            });
            (counted.lines, counted.skipped) = (ended, skipped);
        }
        let more = self.lines.offset() < after;
        self.drained = !more;
        Ok((if more { Turn::More } else { Turn::End }, counted))
    }

    /// Something has happened to the file: look closely, even if its size and time are as before.
    pub(super) fn touch(&mut self) {
        self.modified = None;
    }

    /// Where reading would begin again after every record that has been handed out.
    pub(super) fn restart(&self) -> Restart {
        if self.group.is_empty() { self.lines.restart() } else { self.group.from() }
    }

    /// The position after every record that has been handed out.
    pub(super) fn position(&self, source: &str, ended: bool) -> Position {
        let Restart { offset, skipping } = self.restart();
        Position {
            source: source.to_owned(),
            path: self.path.clone(),
            device: self.id.device,
            inode: self.id.inode,
            fingerprint: self.start,
            offset,
            skipping,
            ended,
        }
    }

    /// How far it has been read.
    pub(super) fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// Whether a record is open that looks as if more of it will come.
    pub(super) fn holds(&self, how: &LogSource) -> bool {
        self.group.looks_unfinished(&how.multiline)
    }

    /// Ends the open record.
    pub(super) fn end_record(&mut self) -> Option<Record> {
        self.hold_until = None;
        self.group.take()
    }

    /// The file is complete: hands out what had waited for more.
    pub(super) fn finish(&mut self, how: &LogSource, records: &mut Vec<Record>) {
        let group = &mut self.group;
        self.lines.finish(|line| {
            records.extend(group.line(lines::text(line.bytes), line.from, &how.multiline));
        });
        records.extend(self.end_record());
    }

    /// Whether it has no name any more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn is_deleted(&self) -> io::Result<bool> {
        Ok(system::links(&self.file.metadata()?) == 0)
    }

    /// Whether `file` holds at least what has been read of this one: then it is a copy of it, and
    /// reading can go on there. Files of which nothing has been read resemble everything, so never.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn is_copied_by(&self, file: &File) -> io::Result<bool> {
        if self.last.is_empty() || !self.start.fits(&start_of(file)?) {
            return Ok(false);
        }
        let mut last = vec![0; self.last.len()];
        let from = self.lines.offset() - self.last.len() as u64;
        Ok(system::fill_at(file, &mut last, from)? == last.len() && last == self.last)
    }

    /// Whether `file` begins like this one, which a copy in the making does, an empty one too.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begins_like(&self, file: &File) -> io::Result<bool> {
        let start = start_of(file)?;
        let mut ours = vec![0; start.len()];
        let count = system::fill_at(&self.file, &mut ours, 0)?;
        Ok(count == start.len() && ours == start)
    }

    /// Whether a file that begins with `start` begins like this one did when it was last read.
    pub(super) fn started_like(&self, start: &[u8]) -> bool {
        self.start.bytes > 0 && self.start.fits(start)
    }

    /// Goes on in a copy of the file, from the same place; gives back a reader of the old one from
    /// its beginning.
    ///
    /// # Errors
    /// The system's; nothing is changed then.
    pub(super) fn move_to_copy(
        &mut self,
        copy: File,
        now: Instant,
        how: &LogSource,
    ) -> io::Result<Tail> {
        let id = system::id(&copy.metadata()?);
        let again = self.file.try_clone()?;
        let mut fresh = Tail::new(self.path.clone(), again, Restart::default(), how)?;
        fresh.life = self.life;
        fresh.sent = None;
        self.file = copy;
        self.id = id;
        self.modified = None;
        self.drained = false;
        self.sent = None;
        self.life = Life::Rotated { noticed: now, grew: now };
        Ok(fresh)
    }

    /// Begins again at the beginning of the same file. Returns how many bytes were seen in it and
    /// are lost, as far as that can be known.
    ///
    /// # Errors
    /// The system's; nothing is changed then.
    pub(super) fn begin_again(&mut self, how: &LogSource) -> io::Result<u64> {
        let unread = self.size.saturating_sub(self.lines.offset());
        let fresh = Tail::new(self.path.clone(), self.file.try_clone()?, Restart::default(), how)?;
        let (life, queued) = (self.life, self.queued);
        *self = fresh;
        (self.life, self.queued) = (life, queued);
        Ok(unread)
    }

    fn remember(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(LAST_BYTES_MAX)..];
        let keep = LAST_BYTES_MAX - bytes.len();
        let drop = self.last.len().saturating_sub(keep);
        self.last.drain(..drop);
        self.last.extend_from_slice(bytes);
    }
}

/// The first bytes of a file, as many as a fingerprint covers.
///
/// # Errors
/// The system's.
pub(super) fn start_of(file: &File) -> io::Result<Vec<u8>> {
    let mut start = vec![0; Fingerprint::BYTES_MAX];
    let count = system::fill_at(file, &mut start, 0)?;
    start.truncate(count);
    Ok(start)
}

/// Where to begin in a file whose past does not matter: with the line that is being written, if its
/// beginning is near, otherwise after it.
///
/// # Errors
/// The system's.
pub(super) fn last_line_start(file: &File, how: &LogSource) -> io::Result<Restart> {
    let size = file.metadata()?.len();
    let near = size.min(how.line_bytes_max as u64);
    let mut buffer = vec![0; usize::try_from(near).unwrap_or(0)];
    let count = system::fill_at(file, &mut buffer, size - near)?;
    let read_to = size - near + count as u64;
    Ok(match buffer[..count].iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Restart { offset: size - near + at as u64 + 1, skipping: false },
        None if near == size => Restart::default(),
        None => Restart { offset: read_to, skipping: true },
    })
}
