//! Finding the files that patterns name, within bounds: a tree of a million directories or a pattern
//! that matches everything costs a bounded look and a sentence in the source's health.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::{LogSource, PathGlob};
use super::system::{self, Id};

/// The most directory entries one look goes through.
const ENTRIES_MAX: usize = 200_000;

/// The most directories one look enters.
const DIRECTORIES_MAX: usize = 10_000;

/// Never read as text, whatever the patterns say: rotation leaves them beside the logs.
const COMPRESSED: [&str; 7] = ["gz", "xz", "zst", "bz2", "lz4", "zip", "Z"];

/// What to look for.
#[derive(Debug)]
pub(super) struct Patterns {
    include: Vec<PathGlob>,
    exclude: Vec<PathGlob>,
}

/// A file that the patterns name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Under which path.
    pub(super) path: PathBuf,
    /// Who it is.
    pub(super) id: Id,
    /// Its size.
    pub(super) bytes: u64,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The files, by path.
    pub(super) found: Vec<Found>,
    /// The directories that were read, and whose changes matter.
    pub(super) directories: BTreeSet<PathBuf>,
    /// What could not be read, with the system's words.
    pub(super) problems: Vec<(PathBuf, io::Error)>,
    /// There is more than a look may go through.
    pub(super) cut_short: bool,
    entries: usize,
}

impl Walk {
    /// Whether a file at `path` would have been found if it were there. After a look at `all`, its
    /// directory may also have gone.
    pub(super) fn shows(&self, path: &Path, all: bool) -> bool {
        if self.problems.iter().any(|(problem, _)| path.starts_with(problem)) {
            return false;
        }
        (all && !self.cut_short) || path.parent().is_some_and(|d| self.directories.contains(d))
    }
}

impl Patterns {
    /// Of a source.
    pub(super) fn new(source: &LogSource) -> Patterns {
        Patterns { include: source.paths.clone(), exclude: source.exclude.clone() }
    }

    /// Whether this path is to be read.
    pub(super) fn name(&self, path: &Path) -> bool {
        !is_compressed(path)
            && self.include.iter().any(|glob| glob.matches(path))
            && !self.exclude.iter().any(|glob| glob.matches(path))
    }

    /// All files there are.
    pub(super) fn walk(&self) -> Walk {
        let mut walk = Walk::default();
        for glob in &self.include {
            // While the directory is not there yet, the nearest one above it will tell.
            let there = glob.root().ancestors().find(|directory| directory.is_dir());
            if let Some(directory) = there {
                self.enter(directory.to_owned(), &|_| true, &mut walk);
            }
        }
        walk.found.sort_by(|a, b| a.path.cmp(&b.path));
        walk
    }

    /// The files in one directory, and in those directories below it that are `new`.
    pub(super) fn walk_one(&self, directory: &Path, new: &dyn Fn(&Path) -> bool) -> Walk {
        let mut walk = Walk::default();
        if self.include.iter().any(|glob| glob.leads_through(directory)) {
            self.enter(directory.to_owned(), new, &mut walk);
        }
        walk.found.sort_by(|a, b| a.path.cmp(&b.path));
        walk
    }

    fn enter(&self, directory: PathBuf, below: &dyn Fn(&Path) -> bool, walk: &mut Walk) {
        let mut waiting = vec![directory];
        while let Some(directory) = waiting.pop() {
            if walk.directories.contains(&directory) {
                continue;
            }
            if walk.directories.len() >= DIRECTORIES_MAX {
                walk.cut_short = true;
                return;
            }
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    walk.problems.push((directory, error));
                    continue;
                }
            };
            for entry in entries {
                walk.entries += 1;
                if walk.entries > ENTRIES_MAX {
                    walk.cut_short = true;
                    return;
                }
                let Ok(entry) = entry else { continue }; // Removed while we read the directory.
                let path = entry.path();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    if self.include.iter().any(|glob| glob.leads_through(&path)) && below(&path) {
                        waiting.push(path);
                    }
                } else if self.name(&path) {
                    self.file(path, walk);
                }
            }
            walk.directories.insert(directory);
        }
    }

    /// Follows links to files, as container runtimes make them; links to directories are not
    /// followed, because they can go in circles.
    fn file(&self, path: PathBuf, walk: &mut Walk) {
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => walk.found.push(Found {
                id: system::id(&found),
                bytes: found.len(),
                modified: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => walk.problems.push((path, error)),
        }
    }
}

/// Whether a path has a name that compressors give.
pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|found| COMPRESSED.iter().any(|known| found == *known))
}
