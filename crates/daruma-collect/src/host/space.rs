//! How much room a file system has, asked so that one that hangs is left behind.
//!
//! `statvfs` on a network disk whose server is gone does not return, and cannot be interrupted. So
//! it is called on a thread beside; when it does not come back in time, that thread is left to
//! wait for it, and the file system is not asked again until it has answered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// How long one file system may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The most threads that are left waiting.
const HANGING_MAX: usize = 64;

/// The room in one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) bytes: u64,
    pub(super) bytes_free: u64,
    /// To everybody, not only to the administrator.
    pub(super) bytes_available: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
    pub(super) read_only: bool,
}

/// How to ask; another one in tests.
type Ask = fn(&Path) -> io::Result<Space>;
type Answer = io::Result<Space>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSpace {
    /// It has not come back.
    #[error("does not answer")]
    Hangs,
    /// It says why.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Asks one file system at a time.
pub(super) struct Asker {
    ask: Ask,
    within: Duration,
    worker: Option<Worker>,
    hanging: HashMap<PathBuf, Receiver<Answer>>,
}

struct Worker {
    questions: Sender<PathBuf>,
    answers: Receiver<Answer>,
}

impl Asker {
    pub(super) fn new() -> Asker {
        Asker::asking(statvfs, ANSWER_WITHIN)
    }

    fn asking(ask: Ask, within: Duration) -> Asker {
        Asker { ask, within, worker: None, hanging: HashMap::new() }
    }

    /// The room in the file system that holds `path`.
    ///
    /// # Errors
    /// [`NoSpace`].
    pub(super) fn ask(&mut self, path: &Path) -> Result<Space, NoSpace> {
        if let Some(late) = self.hanging.get(path) {
            match late.try_recv() {
                Err(mpsc::TryRecvError::Empty) => return Err(NoSpace::Hangs),
                // It is back (its answer is old); it may be asked again.
                Ok(_) | Err(mpsc::TryRecvError::Disconnected) => self.hanging.remove(path),
            };
        }
        if self.hanging.len() >= HANGING_MAX {
            return Err(NoSpace::Hangs);
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start()?,
        };
        let gone = || io::Error::other("the asking thread ended");
        worker.questions.send(path.to_owned()).map_err(|_| gone())?;
        match worker.answers.recv_timeout(self.within) {
            Ok(answer) => {
                self.worker = Some(worker);
                Ok(answer?)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Without its questions the thread ends as soon as it is back.
                self.hanging.insert(path.to_owned(), worker.answers);
                Err(NoSpace::Hangs)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone().into()),
        }
    }

    fn start(&self) -> io::Result<Worker> {
        let (questions, asked) = mpsc::channel::<PathBuf>();
        let (answering, answers) = mpsc::channel();
        let ask = self.ask;
        thread::Builder::new().name("statvfs".into()).stack_size(128 << 10).spawn(move || {
            for path in asked {
                if answering.send(ask(&path)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Worker { questions, answers })
    }
}

fn statvfs(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    let block = found.f_frsize;
    Ok(Space {
        bytes: found.f_blocks.saturating_mul(block),
        bytes_free: found.f_bfree.saturating_mul(block),
        bytes_available: found.f_bavail.saturating_mul(block),
        files: found.f_files,
        files_free: found.f_ffree,
        read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    static UNHANG: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn hangs_on_the_dead(path: &Path) -> io::Result<Space> {
        if path == Path::new("/dead") {
            ASKED.fetch_add(1, Ordering::SeqCst);
            let mut unhung = UNHANG.0.lock().unwrap();
            while !*unhung {
                unhung = UNHANG.1.wait(unhung).unwrap();
            }
        }
        statvfs(Path::new("/"))
    }

    #[test]
    fn a_dead_network_disk_is_left_behind_and_taken_back_when_it_answers() {
        let mut asker = Asker::asking(hangs_on_the_dead, Duration::from_millis(50));
        assert!(matches!(asker.ask(Path::new("/dead")), Err(NoSpace::Hangs)));
        asker.within = Duration::from_secs(60); // Others have all the time they need.
        assert!(asker.ask(Path::new("/")).unwrap().bytes > 0);
        asker.within = Duration::from_millis(50);
        for _ in 0..3 {
            assert!(matches!(asker.ask(Path::new("/dead")), Err(NoSpace::Hangs)));
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1, "one thread waits for it, not one per reading");
        asker.within = Duration::from_secs(60);
        *UNHANG.0.lock().unwrap() = true;
        UNHANG.1.notify_all();
        for _ in 0..1000 {
            match asker.ask(Path::new("/dead")) {
                Ok(space) => return assert!(space.bytes_available <= space.bytes),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("never taken back");
    }

    #[test]
    fn a_path_that_is_not_there_says_so() {
        let failed = Asker::new().ask(Path::new("/no/such/path"));
        assert!(
            matches!(failed, Err(NoSpace::Failed(error)) if error.kind() == io::ErrorKind::NotFound)
        );
    }
}
