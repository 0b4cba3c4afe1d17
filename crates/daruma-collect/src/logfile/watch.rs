//! Being told about changes. What comes in is merged to a set of paths, so however fast files
//! change, what waits to be looked at is bounded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};

/// More paths than this are not told apart: everything is looked at.
const PATHS_MAX: usize = 4096;

/// What may have changed since the last look.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Hints {
    /// Anything at all.
    pub(super) everything: bool,
    /// Directories in which names came, went or changed.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Files that were written to.
    pub(super) files: BTreeSet<PathBuf>,
    /// It is time to stop.
    pub(super) stop: bool,
}

impl Hints {
    fn any(&self) -> bool {
        self.everything || self.stop || !self.directories.is_empty() || !self.files.is_empty()
    }

    fn note(&mut self, event: &notify::Event) {
        let structural = match event.kind {
            _ if event.need_rescan() => {
                self.everything = true;
                return;
            }
            EventKind::Access(_) => return, // We read, too.
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => true,
            _ => false,
        };
        for path in &event.paths {
            if structural && let Some(directory) = path.parent() {
                self.directories.insert(directory.to_owned());
            }
            self.files.insert(path.clone());
        }
        if self.files.len() + self.directories.len() > PATHS_MAX {
            *self = Hints { everything: true, stop: self.stop, ..Hints::default() };
        }
    }
}

/// Where hints gather until they are taken.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    hints: Mutex<Hints>,
    came: Condvar,
}

impl Mailbox {
    /// Waits until there are hints, but not beyond `until`, and takes them.
    pub(super) fn wait(&self, until: Instant) -> Hints {
        let mut hints = self.lock();
        while !hints.any() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            hints = self.came.wait_timeout(hints, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let stop = hints.stop;
        std::mem::replace(&mut *hints, Hints { stop, ..Hints::default() })
    }

    /// Wakes whoever waits, for good.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.came.notify_all();
    }

    fn note(&self, event: notify::Result<notify::Event>) {
        let mut hints = self.lock();
        match event {
            Ok(event) => hints.note(&event),
            Err(_) => hints.everything = true, // Told badly is told that something changed.
        }
        if hints.any() {
            self.came.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hints> {
        // Hints stay usable whatever happened to who held them: at worst one is missing, and the
        // periodic look makes up for it.
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directories we are told about.
pub(super) struct Watch {
    watcher: notify::RecommendedWatcher,
    watched: std::collections::BTreeMap<PathBuf, super::system::Id>,
}

impl Watch {
    /// Begins to watch nothing.
    ///
    /// # Errors
    /// The system's words, e.g. that this user has as many watches as are allowed.
    pub(super) fn new(mailbox: Arc<Mailbox>) -> notify::Result<Watch> {
        let watcher = notify::recommended_watcher(move |event| mailbox.note(event))?;
        Ok(Watch { watcher, watched: std::collections::BTreeMap::new() })
    }

    /// Watches a directory, also when another one has taken its place. Whether it was not watched
    /// before: then what is in it must be looked at again, because it may have come in between.
    ///
    /// # Errors
    /// The system's words.
    pub(super) fn add(&mut self, directory: &Path) -> notify::Result<bool> {
        let id = super::system::id(&std::fs::metadata(directory).map_err(notify::Error::io)?);
        if self.watched.get(directory) == Some(&id) {
            return Ok(false);
        }
        if self.watched.remove(directory).is_some() {
            // It is gone already as far as the system is concerned; only our list still has it.
            drop(self.watcher.unwatch(directory));
        }
        self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
        self.watched.insert(directory.to_owned(), id);
        Ok(true)
    }

    /// Stops watching whatever is not in `directories`.
    pub(super) fn keep_only(&mut self, directories: &BTreeSet<PathBuf>) {
        let gone: Vec<PathBuf> = self
            .watched
            .keys()
            .filter(|watched| !directories.contains(*watched))
            .cloned()
            .collect();
        for directory in gone {
            self.watched.remove(&directory);
            drop(self.watcher.unwatch(&directory)); // Fails when the directory itself is gone.
        }
    }

    /// Whether a directory is watched.
    pub(super) fn has(&self, directory: &Path) -> bool {
        self.watched.contains_key(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, DataChange};

    #[test]
    fn a_flood_of_changes_becomes_one_look_at_everything() {
        let mut hints = Hints::default();
        for i in 0..PATHS_MAX + 1 {
            let kind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
            hints.note(&notify::Event::new(kind).add_path(format!("/a/{i}").into()));
        }
        assert!(hints.everything && hints.files.is_empty());
    }

    #[test]
    fn our_own_reading_is_no_change_and_a_new_file_is_one_of_its_directory() {
        let mut hints = Hints::default();
        hints
            .note(&notify::Event::new(EventKind::Access(AccessKind::Read)).add_path("/a/x".into()));
        assert!(!hints.any());
        let created = EventKind::Create(CreateKind::File);
        hints.note(&notify::Event::new(created).add_path("/a/x".into()));
        assert_eq!(hints.directories, BTreeSet::from(["/a".into()]));
    }
}
