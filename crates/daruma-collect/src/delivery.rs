//! How what sources see reaches the run loop: one bounded channel, and rules for when it is full.
//!
//! Sources differ in what to do when the reader is slow, and the difference is decided here once:
//! - a log line is never dropped: its source waits, and the file keeps the lines meanwhile;
//! - a sample grows old while it waits: each source keeps [`COMMITS_KEPT_MAX`] commits, then drops
//!   the oldest and counts them in [`SourceHealth::lost`];
//! - of several reports on a source's health only the newest matters.
//!
//! What never happens here: no source blocks another, and nothing queues without a bound.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_model::{Clock, Commit, LogRecord, Signal, SourceHealth, SourceState, Span, Time};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::schedule::Schedule;

/// How many commits one source keeps while the channel is full: at ten a second, some six seconds.
pub const COMMITS_KEPT_MAX: usize = 64;

/// How often a source reports its health when nothing about it changes.
const HEALTH_EVERY: Span = Span::secs(5);

/// What a source hands over.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Samples of one look.
    Signal(Signal),
    /// A source's report on itself.
    Health(SourceHealth),
    /// Log records of one file, in order. Whoever has processed them (and every delivery before)
    /// may make `position` durable under [`Position::key`]; started again from there, the source
    /// goes on with exactly the next byte. `records` may be empty when only the position moved.
    Logs {
        /// The records.
        records: Vec<LogRecord>,
        /// Where reading goes on after them.
        position: Position,
    },
    /// What a source says of the metrics that it brings.
    Described(Vec<Described>),
}

/// What is said of a metric by whoever exposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub metric: String,
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or `unknown`.
    pub kind: &'static str,
    /// A sentence; may be empty.
    pub help: String,
    /// Its unit; may be empty.
    pub unit: String,
}

/// How far one log file has been delivered. The identity, not the path, says which file it is:
/// after a rotation two files have had the same path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The source that reads it, as in [`SourceHealth::source`]: two sources may read one file.
    pub source: String,
    /// Its path when it was last seen under one that its source names.
    pub path: PathBuf,
    /// The device that holds it.
    pub device: u64,
    /// Its inode (file index on Windows).
    pub inode: u64,
    /// Its first bytes, because inodes are used again.
    pub fingerprint: Fingerprint,
    /// Bytes from its start that need not be read again.
    pub offset: u64,
    /// The offset lies within an over-long line whose beginning has been delivered: skip to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipping: bool,
    /// The file is gone and read to its end: forget the position.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Position {
    /// Under which name to keep it: a later position with the same key replaces it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}#{:x}:{:x}", self.source, self.device, self.inode)
    }
}

/// The beginning of a file, as a hash: a file whose first `bytes` differ is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many bytes from the start it covers, at most [`Fingerprint::BYTES_MAX`].
    pub bytes: u16,
    /// FNV-1a (64 bit) of them.
    pub hash: u64,
}

/// Of an empty file.
impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint::of(b"")
    }
}

impl Fingerprint {
    /// Enough for a time stamp and some words; few enough to read again at every look.
    pub const BYTES_MAX: usize = 256;

    /// Of the first bytes of a file; what is beyond [`Fingerprint::BYTES_MAX`] is left out.
    #[must_use]
    pub fn of(start: &[u8]) -> Fingerprint {
        let start = &start[..start.len().min(Fingerprint::BYTES_MAX)];
        let hash = start.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Fingerprint { bytes: start.len() as u16, hash }
    }

    /// Whether a file that starts with `start` can be the one this was taken from. An empty
    /// fingerprint fits every file.
    #[must_use]
    pub fn fits(&self, start: &[u8]) -> bool {
        start.get(..usize::from(self.bytes)).is_some_and(|start| Fingerprint::of(start) == *self)
    }
}

/// Something that brings in signals for as long as it is left running.
///
/// A source looks on its [`Schedule`], reports through its [`Reporter`] and ends when
/// [`Reporter::next`] says so. It is cloned and started again if it panics.
pub trait Source: Clone + Send + Sync + 'static {
    /// `kind/name`, the same in every run: the name under which health and positions are kept.
    fn name(&self) -> String;

    /// Looks until told to stop.
    fn run(self, reporter: Reporter) -> impl Future<Output = ()> + Send;
}

/// What all sources of one run share.
#[derive(Clone)]
pub struct Outlet {
    /// The time.
    pub clock: Clock,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// The newest delivered position of every file, by key.
    pub(crate) positions: Arc<Mutex<BTreeMap<String, Position>>>,
}

impl Outlet {
    /// Deliveries of tests and of sources that are run outside [`crate::start`]. Sources stop when
    /// the sender of `stopping` says `true` or is gone.
    #[must_use]
    pub fn new(
        clock: Clock,
        deliveries: mpsc::Sender<Delivery>,
        positions: BTreeMap<String, Position>,
        stopping: watch::Receiver<bool>,
    ) -> Outlet {
        Outlet { clock, deliveries, stopping, positions: Arc::new(Mutex::new(positions)) }
    }

    /// The reporter of the source called `name`.
    #[must_use]
    pub fn reporter(&self, name: String) -> Reporter {
        let health = SourceHealth {
            source: name,
            state: SourceState::Starting,
            at: (self.clock)(),
            said: String::new(),
            signals: 0,
            lost: 0,
        };
        let mut reporter = Reporter {
            outlet: self.clone(),
            health,
            counts: Arc::default(),
            commits: VecDeque::new(),
            health_due: true,
            reported: None,
        };
        reporter.flush();
        reporter
    }

    pub(crate) fn positions(&self) -> MutexGuard<'_, BTreeMap<String, Position>> {
        // A panic between two whole insertions leaves nothing half done.
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a delivery did not happen: everything is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopping")]
pub struct Stopping;

/// Signals delivered and lost since the start.
#[derive(Debug, Default)]
struct Counts {
    signals: AtomicU64,
    lost: AtomicU64,
}

/// How one source speaks: samples, log records, and how it is itself.
pub struct Reporter {
    outlet: Outlet,
    health: SourceHealth,
    counts: Arc<Counts>,
    commits: VecDeque<Commit>,
    health_due: bool,
    reported: Option<Time>,
}

impl Reporter {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.outlet.clock)()
    }

    /// How the source asks for the time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.outlet.clock.clone()
    }

    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.health.source
    }

    /// Waits until the next look is due, delivering meanwhile what is kept. `false`: stop.
    pub async fn next(&mut self, schedule: &mut Schedule) -> bool {
        let due = schedule.next_due();
        self.wait_until(due).await
    }

    /// Waits until `due`, delivering meanwhile what is kept. `false`: stop.
    pub async fn wait_until(&mut self, due: Instant) -> bool {
        let mut stopping = self.outlet.stopping.clone();
        let deliveries = self.outlet.deliveries.clone();
        loop {
            self.flush();
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return false,
                () = sleep_until(due) => return true,
                // Kept deliveries wait for room; the permit is given back and `flush` takes it.
                permit = deliveries.reserve(), if self.keeps_something() => {
                    if permit.is_err() {
                        return false; // Nobody listens any more.
                    }
                }
            }
        }
    }

    /// A second voice of the same source, to speak while the first is held up. It says nothing
    /// by itself.
    pub(crate) fn beside(&self) -> Reporter {
        Reporter {
            outlet: self.outlet.clone(),
            health: self.health.clone(),
            counts: Arc::clone(&self.counts),
            commits: VecDeque::new(),
            health_due: false,
            reported: None,
        }
    }

    /// Resolves when everything is being stopped: for `select!` around a look that may hang.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.outlet.stopping.clone();
        async move {
            // An error says that whoever could tell is gone, which also means stop.
            let (Ok(_) | Err(_)) = stopping.wait_for(|stop| *stop).await.map(drop);
        }
    }

    /// A look that went well: its samples, visible together. What they say may be bad.
    pub fn observed(&mut self, commit: Commit) {
        self.set(SourceState::Ok, String::new());
        self.samples(commit);
    }

    /// Samples, without a word on health.
    pub fn samples(&mut self, commit: Commit) {
        if commit.is_empty() {
            return self.flush();
        }
        self.counts.signals.fetch_add(commit.len() as u64, Relaxed);
        self.commits.push_back(commit);
        self.flush();
        while self.commits.len() > COMMITS_KEPT_MAX {
            if let Some(oldest) = self.commits.pop_front() {
                self.counts.signals.fetch_sub(oldest.len() as u64, Relaxed);
                self.lost(oldest.len() as u64);
            }
        }
    }

    /// The source can be believed; `said` adds what it is doing, or stays empty.
    pub fn ok(&mut self, said: impl Into<String>) {
        self.set(SourceState::Ok, said.into());
        self.flush();
    }

    /// The source cannot look; `why` in a sentence.
    pub fn failing(&mut self, why: impl Into<String>) {
        self.set(SourceState::Failing, why.into());
        self.flush();
    }

    /// Counts signals that are gone for good.
    pub fn lost(&mut self, signals: u64) {
        self.counts.lost.fetch_add(signals, Relaxed);
        self.health_due |= signals > 0;
    }

    /// Delivers log records of one file, waiting for as long as the channel is full.
    ///
    /// # Errors
    /// [`Stopping`]: they were not delivered, and the position of the file stays where it was.
    pub async fn logs(
        &mut self,
        records: Vec<LogRecord>,
        position: Position,
    ) -> Result<(), Stopping> {
        let mut stopping = self.outlet.stopping.clone();
        let permit = tokio::select! {
            biased;
            permit = self.outlet.deliveries.reserve() => permit.map_err(|_| Stopping)?,
            _ = stopping.wait_for(|stop| *stop) => return Err(Stopping),
        };
        self.counts.signals.fetch_add(records.len() as u64, Relaxed);
        {
            let mut positions = self.outlet.positions();
            if position.ended {
                positions.remove(&position.key());
            } else {
                positions.insert(position.key(), position.clone());
            }
        }
        permit.send(Delivery::Logs { records, position });
        Ok(())
    }

    /// The positions of this source's files: restored ones, and since then delivered ones.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        self.outlet
            .positions()
            .values()
            .filter(|position| position.source == self.health.source)
            .cloned()
            .collect()
    }

    /// Whether everything is being stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.outlet.stopping.borrow() || self.outlet.stopping.has_changed().is_err()
    }

    /// How the source is, as last set.
    #[must_use]
    pub fn health(&self) -> &SourceHealth {
        &self.health
    }

    /// Delivers what is kept, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(commit) = self.commits.pop_front() {
            match self.outlet.deliveries.try_send(Delivery::Signal(Signal::Samples(commit))) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(Delivery::Signal(Signal::Samples(commit)))) => {
                    self.commits.push_front(commit);
                    return;
                }
                Err(_) => return, // Nobody listens any more: the run is over.
            }
        }
        let now = self.now();
        // A clock set back must not silence the report, so any other time than shortly after counts.
        let fresh = self.reported.is_some_and(|at| (at..at + HEALTH_EVERY).contains(&now));
        if self.health_due || !fresh {
            self.health.at = now;
            self.health.signals = self.counts.signals.load(Relaxed);
            self.health.lost = self.counts.lost.load(Relaxed);
            if self.outlet.deliveries.try_send(Delivery::Health(self.health.clone())).is_ok() {
                self.health_due = false;
                self.reported = Some(now);
            }
        }
    }

    /// Hands over what is said of metrics; given back when there is no room.
    pub(crate) fn describe(&self, said: Vec<Described>) -> Vec<Described> {
        match self.outlet.deliveries.try_send(Delivery::Described(said)) {
            Err(mpsc::error::TrySendError::Full(Delivery::Described(said))) => said,
            _ => Vec::new(),
        }
    }

    fn set(&mut self, state: SourceState, said: String) {
        self.health_due |= self.health.state != state || self.health.said != said;
        self.health.state = state;
        self.health.said = said;
    }

    fn keeps_something(&self) -> bool {
        self.health_due || !self.commits.is_empty()
    }
}

/// How long a stop may take before a source that hangs in the system is left behind.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long a source that failed by a defect rests before it is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs a source until everything stops. One that panics is reported and started again: a defect in
/// one source blinds one source, for a second, and visibly.
pub(crate) async fn supervise<S: Source>(source: S, outlet: Outlet) {
    let name = source.name();
    loop {
        let reporter = outlet.reporter(name.clone());
        let ended = tokio::spawn(source.clone().run(reporter)).await;
        let mut reporter = outlet.reporter(name.clone());
        match ended {
            Ok(()) if reporter.is_stopping() => return,
            Ok(()) => reporter.failing("ended by itself, which is a defect; started again"),
            Err(_) => reporter.failing("panicked, which is a defect; started again"),
        }
        if !reporter.wait_until(Instant::now() + RESTART_AFTER).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_model::{Labels, Sample};

    fn outlet(room: usize) -> (Outlet, mpsc::Receiver<Delivery>, watch::Sender<bool>) {
        let (deliveries, inbox) = mpsc::channel(room);
        let (stop, stopping) = watch::channel(false);
        let clock: Clock = Arc::new(|| Time(1000));
        (Outlet::new(clock, deliveries, BTreeMap::new(), stopping), inbox, stop)
    }

    fn commit(value: f64) -> Commit {
        let labels = Labels::from([("__name__", "x")]);
        Commit::from(vec![Sample { labels, time: Time(0), value }])
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_misses_the_oldest_samples_and_is_told_how_many() {
        let (outlet, mut inbox, _stop) = outlet(1);
        let mut reporter = outlet.reporter("host/self".into()); // Its first report fills the channel.
        for i in 0..COMMITS_KEPT_MAX + 10 {
            reporter.samples(commit(i as f64));
        }
        let (mut values, mut lost) = (Vec::new(), 0);
        for _ in 0..1000 {
            match inbox.try_recv() {
                Ok(Delivery::Signal(Signal::Samples(commit))) => {
                    values.push(commit.samples[0].value);
                }
                Ok(Delivery::Health(health)) => lost = health.lost,
                Ok(other) => panic!("{other:?}"),
                Err(_) => reporter.flush(),
            }
        }
        assert_eq!((lost, values[0], values.len()), (10, 10.0, COMMITS_KEPT_MAX));
    }

    #[tokio::test]
    async fn log_records_wait_for_room_and_a_stop_leaves_the_position_behind_them() {
        let (outlet, mut inbox, stop) = outlet(1);
        let mut reporter = outlet.reporter("log/app".into());
        let position = |offset| Position {
            source: "log/app".into(),
            path: "/app.log".into(),
            device: 1,
            inode: 2,
            fingerprint: Fingerprint::default(),
            offset,
            skipping: false,
            ended: false,
        };
        assert!(matches!(inbox.recv().await, Some(Delivery::Health(_))));
        assert_eq!(reporter.logs(vec![], position(10)).await, Ok(()));
        let waiting = tokio::spawn(async move { reporter.logs(vec![], position(20)).await });
        tokio::task::yield_now().await;
        stop.send(true).unwrap();
        assert_eq!(waiting.await.unwrap(), Err(Stopping));
        let kept: Vec<u64> = outlet.positions().values().map(|position| position.offset).collect();
        assert_eq!(kept, [10]);
    }

    #[test]
    fn a_fingerprint_fits_the_file_as_it_grows_and_no_other() {
        let taken = Fingerprint::of(b"Nov 23 start");
        assert!(taken.fits(b"Nov 23 start of the log"));
        assert!(!taken.fits(b"Nov 24 start of the log"));
        assert!(!taken.fits(b"Nov 23"));
        assert!(Fingerprint::default().fits(b"anything"));
    }
}
