//! Watches one file from outside: whether it is there, how old, how large. For what leaves a mark
//! when it works (backups, exports, lock files), whose silence is the fault.
//!
//! A missing file is an answer (`daruma_file_present` is 0 and there is no age); a file that cannot
//! be looked at is none: the source fails, and nothing is said about the file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use daruma_model::{Commit, Labels, Sample, Time};
use serde::{Deserialize, Serialize};

use crate::blocking::Blocking;
use crate::delivery::{Reporter, Source};
use crate::schedule::{Every, Schedule};

/// One entry of `collect.files`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The file.
    pub path: PathBuf,
    /// Labels to put on its samples.
    #[serde(default)]
    pub labels: Labels,
    /// How often to look.
    #[serde(default = "FileSource::every_default")]
    pub every: Every,
}

/// How long the system may take to say how old a file is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl FileSource {
    fn every_default() -> Every {
        Every::secs(5)
    }

    fn commit(&self, seen: Option<Seen>, now: Time) -> Commit {
        let labels = self.labels.with("path", &self.path.to_string_lossy());
        let sample = |name: &str, value| {
            let labels = labels.with(Labels::NAME, name);
            Sample { labels, time: now, value }
        };
        let mut samples = vec![sample("daruma_file_present", f64::from(u8::from(seen.is_some())))];
        if let Some(Seen { modified, bytes }) = seen {
            samples.extend([
                // Negative for a file from the future: a wrong clock is worth seeing.
                sample("daruma_file_age_seconds", now.as_secs_f64() - modified),
                sample("daruma_file_mtime_seconds", modified),
                sample("daruma_file_size_bytes", bytes as f64),
            ]);
        }
        Commit::from(samples)
    }
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    /// Seconds since 1970.
    modified: f64,
    bytes: u64,
}

fn look(path: &Path) -> io::Result<Option<Seen>> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let modified = match found.modified()?.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    };
    Ok(Some(Seen { modified, bytes: found.len() }))
}

impl Source for FileSource {
    fn name(&self) -> String {
        format!("file/{}", self.path.display())
    }

    async fn run(self, mut reporter: Reporter) {
        let mut schedule = Schedule::new(self.every, reporter.name());
        let mut disk = Blocking::default();
        while reporter.next(&mut schedule).await {
            let path = self.path.clone();
            match disk.ask(ANSWER_WITHIN, move || look(&path)).await {
                Ok(Ok(seen)) => reporter.observed(self.commit(seen, reporter.now())),
                Ok(Err(error)) => {
                    reporter.failing(format!("cannot look at {}: {error}", self.path.display()));
                }
                Err(why) => reporter.failing(format!("{}: {why}", self.path.display())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(commit: &Commit) -> Vec<(&str, f64)> {
        commit.samples.iter().map(|s| (s.labels.get(Labels::NAME), s.value)).collect()
    }

    #[test]
    fn the_nightly_backup_is_there_then_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.tar");
        let source = FileSource {
            path: path.clone(),
            labels: [("job", "backup")].into(),
            every: Every::secs(5),
        };
        std::fs::write(&path, b"12345").unwrap();
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        let commit = source.commit(look(&path).unwrap(), Time::from_secs(1_000_060));
        assert_eq!(
            values(&commit),
            [
                ("daruma_file_present", 1.0),
                ("daruma_file_age_seconds", 60.0),
                ("daruma_file_mtime_seconds", 1_000_000.0),
                ("daruma_file_size_bytes", 5.0),
            ]
        );
        assert_eq!(commit.samples[0].labels.get("job"), "backup");
        std::fs::remove_file(&path).unwrap();
        let commit = source.commit(look(&path).unwrap(), Time::from_secs(1_000_060));
        assert_eq!(values(&commit), [("daruma_file_present", 0.0)]);
    }

    #[test]
    fn a_path_through_a_file_is_no_missing_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(look(&file.path().join("below")).is_err());
    }
}
