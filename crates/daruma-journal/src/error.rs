//! What can go wrong with a journal: where, what was found, and what to do next.

use std::path::PathBuf;

/// An answer that is not "done". Nothing of the refused batch is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The record contradicts itself or cannot be read.
    #[error(
        "{path} is damaged: {found}; keep the file, run `daruma journal verify` for the exact place \
         and `daruma journal export` for what can be read, then restore a backup or move journal.* aside"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What contradicts what.
        found: String,
        /// The first bad record, if it can be told.
        seq: Option<u64>,
    },
    /// No room for the commit; it was rolled back.
    #[error(
        "{path} cannot grow: the disk is full ({found}); free space there, nothing accepted was lost"
    )]
    Full {
        /// The database.
        path: PathBuf,
        /// The words of the disk.
        found: String,
    },
    /// The files cannot be written.
    #[error(
        "{path} cannot be written: {found}; remount it read-write, or give this user write permission"
    )]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
        /// The words of the disk.
        found: String,
    },
    /// Another daruma has the journal open for writing.
    #[error(
        "{path} is held by another daruma ({}); stop that one, or give this one its own --data directory",
        pid.map_or_else(|| "process unknown".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as the file says.
        pid: Option<u32>,
    },
    /// Written by a later program.
    #[error(
        "{path} has format version {found}, this daruma reads up to {supported}; use the newer daruma"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        supported: i64,
    },
    /// There is no journal where one was to be read.
    #[error("{path} is not there; is this the data directory of a daruma that ran?")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The caller's mistake: nothing that breaks a bound or a form is recorded.
    #[error("not recorded: {what}")]
    Invalid {
        /// Which rule was broken, with the value.
        what: String,
    },
    /// An event with this id is already recorded; a retry after `Unknown` has its answer here.
    #[error("event id {event_id} is already recorded as event {seq}")]
    Duplicate {
        /// The id.
        event_id: String,
        /// Where it stands.
        seq: u64,
    },
    /// The asked part was removed by `truncate_before`.
    #[error("event {asked} was removed from the journal; the first one kept is {first_seq}")]
    Truncated {
        /// The first asked event.
        asked: u64,
        /// The first one there is.
        first_seq: u64,
    },
    /// The journal was closed, or its writer ended.
    #[error("the journal is closed")]
    Closed,
    /// Anything else the disk or the database said.
    #[error("{path}: {found}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The words of the disk.
        found: String,
    },
}

impl JournalError {
    /// Names what a file operation said. `path` is the file it was about.
    pub(crate) fn from_io(path: &std::path::Path, error: &std::io::Error) -> JournalError {
        use std::io::ErrorKind;
        let (path, found) = (path.to_owned(), error.to_string());
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::Full { path, found },
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                JournalError::ReadOnly { path, found }
            }
            _ => JournalError::Io { path, found },
        }
    }
}
