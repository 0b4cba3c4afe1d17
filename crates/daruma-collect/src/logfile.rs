//! Log files: every line that is written reaches the channel, once, within milliseconds.
//!
//! A file is known by who it is (device, inode, first bytes), not by its name, so rotation of any
//! kind is followed: a renamed or deleted file is read until it is silent, and before the file that
//! takes its place; a truncated one is read again from its beginning, after the copy that rotation
//! made of it, if there is one; after a restart reading goes on at the very byte. What cannot be had
//! (lines truncated away unread, the rest of over-long lines, binary data) is counted and said.
//!
//! What never happens here: a line is not dropped because a reader is slow (files keep lines, so
//! reading waits); no input makes memory grow beyond the bounds in `config.rs`.
//!
//! | file | decides |
//! |---|---|
//! | `config.rs` | what can be configured, and that patterns compile |
//! | `walk.rs` | which files there are |
//! | `watch.rs` | how we hear of changes |
//! | `tailer.rs` | who is opened, read, rotated, closed |
//! | `tail.rs` | what is new in one file, and whether it still is that file |
//! | `lines.rs` | bytes to lines |
//! | `group.rs` | lines to records |
//! | `severity.rs` | how grave a record says it is |
//! | `system.rs` | what differs between systems |
//!
//! Reading blocks, so each source has a thread of its own.

mod config;
mod group;
mod lines;
mod severity;
mod system;
mod tail;
mod tailer;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daruma_model::{Commit, LogRecord, Time};
use tokio::sync::oneshot;

pub use config::{GlobError, Join, LogSource, Multiline, PathGlob, Pattern, StartAt};
pub use severity::severity;

use crate::delivery::{Position, Reporter, Source, Stopping};
use tailer::{Out, Tailer};
use watch::{Mailbox, Watch};

/// A look that has not come back after this is reported: the disk hangs.
const LOOK_TAKES_MAX: Duration = Duration::from_secs(10);

impl Source for LogSource {
    fn name(&self) -> String {
        match &self.name {
            Some(name) => format!("log/{name}"),
            None => {
                let paths: Vec<&str> = self.paths.iter().map(PathGlob::as_str).collect();
                format!("log/{}", paths.join(","))
            }
        }
    }

    async fn run(self, reporter: Reporter) {
        let mailbox = Arc::new(Mailbox::default());
        let pulse = Arc::new(AtomicU64::new(0));
        let (ended, mut end) = oneshot::channel();
        let mut stopping = std::pin::pin!(reporter.stopping());
        let mut onlooker = reporter.beside();
        let thread = {
            let (mailbox, pulse) = (Arc::clone(&mailbox), Arc::clone(&pulse));
            let runtime = tokio::runtime::Handle::current();
            std::thread::Builder::new().name("log".to_owned()).spawn(move || {
                let out = Channel { reporter, runtime, pulse };
                follow(Arc::new(self), &mailbox, out);
                // Nobody may be waiting any more.
                let (Ok(()) | Err(())) = ended.send(());
            })
        };
        if let Err(error) = thread {
            onlooker.failing(format!("cannot start a thread: {error}"));
            return stopping.await;
        }
        let mut last = pulse.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                _ = &mut end => return,
                () = &mut stopping => {
                    mailbox.stop();
                    // `Handle::shutdown` bounds this wait; an error says that the thread panicked.
                    let (Ok(()) | Err(_)) = end.await;
                    return;
                }
                () = tokio::time::sleep(LOOK_TAKES_MAX) => {
                    let seen = pulse.load(Ordering::Relaxed);
                    // Odd: inside a look. A look that waits for room on the channel says so itself.
                    if seen == last && seen % 2 == 1 {
                        let seconds = LOOK_TAKES_MAX.as_secs();
                        onlooker.failing(format!("the disk has not answered for {seconds} s"));
                    }
                    last = seen;
                }
            }
        }
    }
}

/// The thread of one source: turns until told to stop.
fn follow(how: Arc<LogSource>, mailbox: &Arc<Mailbox>, out: Channel) {
    let watch = if how.poll.is_some() {
        Err("as configured".to_owned())
    } else if let Some(far) = how.paths.iter().find_map(PathGlob::on_network) {
        Err(format!("{} is on a network file system", far.display()))
    } else {
        Watch::new(Arc::clone(mailbox)).map_err(|error| format!("cannot watch: {error}"))
    };
    let pulse = Arc::clone(&out.pulse);
    let (name, restored) = (out.reporter.name().to_owned(), out.reporter.positions());
    let mut tailer = Tailer::new(how, name, restored, out, watch, Instant::now());
    let mut next = Instant::now();
    loop {
        let hints = mailbox.wait(next);
        if hints.stop {
            return;
        }
        pulse.fetch_add(1, Ordering::Relaxed);
        let turned = tailer.turn(Instant::now(), &hints);
        pulse.fetch_add(1, Ordering::Relaxed);
        match turned {
            Ok(at) => next = at,
            Err(Stopping) => return,
        }
    }
}

/// The way from the thread to the channel.
struct Channel {
    reporter: Reporter,
    runtime: tokio::runtime::Handle,
    pulse: Arc<AtomicU64>,
}

impl Out for Channel {
    fn now(&self) -> Time {
        self.reporter.now()
    }

    fn logs(&mut self, records: Vec<LogRecord>, position: Position) -> Result<(), Stopping> {
        // Even while it waits, so that a slow reader is not taken for a slow disk.
        self.pulse.fetch_add(1, Ordering::Relaxed);
        let delivered = self.runtime.block_on(self.reporter.logs(records, position));
        self.pulse.fetch_add(1, Ordering::Relaxed);
        delivered
    }

    fn samples(&mut self, commit: Commit) {
        self.reporter.samples(commit);
    }

    fn health(&mut self, failing: Option<String>, said: String, lost: u64) {
        self.reporter.lost(lost);
        match failing {
            Some(why) if said.is_empty() => self.reporter.failing(why),
            Some(why) => self.reporter.failing(format!("{why}; {said}")),
            None => self.reporter.ok(said),
        }
    }
}
