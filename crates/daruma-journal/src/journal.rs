//! The handle all code uses, and the contract a backend meets.
//!
//! Writes are [`Job`]s: checked here, counted against one bound (so that a stuck disk makes callers
//! wait and never makes the queue grow), answered through a callback. Reads are answered at once and
//! are bounded; from async code, wrap large ones in `spawn_blocking`.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::chain::{Head, Report};
use crate::event::{Draft, Event, NewEvent, check_shard};
use crate::sqlite::{Options, Sqlite};
use crate::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, CHECKPOINT_NAME_BYTES_MAX, JournalError, QUEUE_KIB_MAX,
    SNAPSHOT_BYTES_MAX, chain,
};

/// The heads a batch was decided on: it is recorded only if each named shard still ends there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected(pub Vec<(u8, u64)>);

impl Expected {
    /// `shard` ends with its event number `shard_seq` (0: has none).
    #[must_use]
    pub fn head(shard: u8, shard_seq: u64) -> Expected {
        Expected(vec![(shard, shard_seq)])
    }
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// On disk, all of it. A batch without events has `first_seq` = `last_seq` + 1.
    Committed {
        /// The place of its first event.
        first_seq: u64,
        /// The place of its last event.
        last_seq: u64,
    },
    /// Nothing was recorded: the shard does not end where the batch expects.
    Conflict {
        /// The shard.
        shard: u8,
        /// Where it ends.
        head: Head,
    },
    /// Nobody can tell: look for your event id ([`Journal::find`]) before any retry. A retry with the
    /// same ids is safe, it is refused as [`JournalError::Duplicate`] if the first one was kept.
    Unknown {
        /// Why.
        said: String,
    },
}

/// A checked batch: recorded whole or not at all.
#[derive(Debug)]
pub struct Batch {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) expected: Vec<(u8, u64)>,
    /// Name and bytes; empty bytes remove the name.
    pub(crate) checkpoints: Vec<(String, Vec<u8>)>,
    pub(crate) bytes: usize,
}

impl Batch {
    /// Checks every bound and form.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] names the first that is broken.
    pub fn new(
        events: Vec<NewEvent>,
        expected: Option<Expected>,
        checkpoints: Vec<(String, Vec<u8>)>,
    ) -> Result<Batch, JournalError> {
        let invalid = |what: String| Err(JournalError::Invalid { what });
        if events.len() > BATCH_EVENTS_MAX {
            return invalid(format!("a batch of {} events, over {BATCH_EVENTS_MAX}", events.len()));
        }
        let expected = expected.unwrap_or_default().0;
        for (shard, _) in &expected {
            check_shard(*shard)?;
        }
        let drafts = events.into_iter().map(Draft::new).collect::<Result<Vec<_>, _>>()?;
        if let Some(id) = chain::twice(&drafts) {
            return invalid(format!("event id {id} stands twice in the batch"));
        }
        for (name, _) in &checkpoints {
            if name.is_empty() || name.len() > CHECKPOINT_NAME_BYTES_MAX {
                let bytes = name.len();
                return invalid(format!("a checkpoint's name has {bytes} bytes, not 1 to 4096"));
            }
        }
        let bytes = drafts.iter().map(|draft| draft.body.len() + 512).sum::<usize>()
            + checkpoints.iter().map(|(name, blob)| name.len() + blob.len() + 128).sum::<usize>();
        if bytes > BATCH_BYTES_MAX {
            return invalid(format!("a batch of {bytes} bytes, over {BATCH_BYTES_MAX}"));
        }
        Ok(Batch { drafts, expected, checkpoints, bytes })
    }
}

/// State as it was after event `seq`, so that replay starts there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event folded into it.
    pub seq: u64,
    /// The state, in the form of whoever put it.
    pub bytes: Vec<u8>,
    /// SHA-256 over `seq` (big-endian) and `bytes`.
    pub hash: [u8; 32],
    /// Newer snapshots that did not match their hash and were passed over.
    pub damaged: Vec<u64>,
}

impl Snapshot {
    pub(crate) fn hash_of(seq: u64, bytes: &[u8]) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(seq.to_be_bytes()).chain_update(bytes).finalize().into()
    }
}

/// How a journal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Every write is taken.
    #[default]
    Well,
    /// The disk is full and the reserve is in use: end what runs, take nothing new.
    Reserve,
    /// The disk is full: writes are refused.
    Full,
    /// Writes fail for another reason.
    Failing,
}

/// How a journal is, with figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JournalHealth {
    /// In one word.
    pub state: HealthState,
    /// In words, empty when all is well.
    pub said: String,
    /// Whether the reserve was released and is not back yet.
    pub reserve_used: bool,
    /// Events recorded since it was opened.
    pub appended: u64,
    /// How long the last commit took, in milliseconds.
    pub last_commit_ms: f64,
    /// Writes that wait.
    pub queue_len: usize,
    /// Bytes of the write-ahead file; grows while somebody reads one transaction for long.
    pub wal_bytes: u64,
    /// Whether opening it made a new, empty journal.
    pub created: bool,
}

/// How a write is answered; called once, from the writer's thread: it must not block.
pub type Reply<T> = Box<dyn FnOnce(Result<T, JournalError>) + Send>;

/// A write.
pub enum Work {
    /// Record a batch.
    Append(Batch, Reply<Appended>),
    /// Keep a snapshot (seq, bytes) and the one before it; drop older ones.
    Snapshot(u64, Vec<u8>, Reply<()>),
    /// Remove events before this seq, as far as no kept snapshot needs them; answer with the first
    /// event kept.
    Truncate(u64, Reply<u64>),
}

impl Work {
    /// Refuses it.
    pub(crate) fn refuse(self, error: JournalError) {
        match self {
            Work::Append(_, reply) => reply(Err(error)),
            Work::Snapshot(_, _, reply) => reply(Err(error)),
            Work::Truncate(_, reply) => reply(Err(error)),
        }
    }
}

/// A write, and the room it takes in the queue until it is answered.
pub struct Job {
    /// What to do.
    pub work: Work,
    pub(crate) room: OwnedSemaphorePermit,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.work {
            Work::Append(..) => "append",
            Work::Snapshot(..) => "snapshot",
            Work::Truncate(..) => "truncate",
        };
        write!(f, "Job({name}, {} KiB)", self.room.num_permits())
    }
}

/// The contract of a backend.
///
/// - A batch is atomic and durable before it is answered with [`Appended::Committed`].
/// - Jobs are taken in the order of `submit`. A dropped reply reads as [`Appended::Unknown`].
/// - Readers see what was answered, at the latest when it was answered.
/// - Every read checks the hash chain of what it returns and names the first bad record.
pub trait Backend: Send + Sync {
    /// Takes a write. Never blocks for long; the answer comes through the job's reply.
    fn submit(&self, job: Job);
    /// See [`Journal::read`].
    fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError>;
    /// See [`Journal::read_shard`].
    fn read_shard(&self, shard: u8, from: u64, limit: usize) -> Result<Vec<Event>, JournalError>;
    /// See [`Journal::find`].
    fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError>;
    /// See [`Journal::tail`].
    fn tail(&self) -> Result<u64, JournalError>;
    /// See [`Journal::first_seq`].
    fn first_seq(&self) -> Result<u64, JournalError>;
    /// See [`Journal::head`].
    fn head(&self, shard: u8) -> Result<Head, JournalError>;
    /// See [`Journal::checkpoint_get`].
    fn checkpoint_get(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError>;
    /// See [`Journal::checkpoints`].
    fn checkpoints(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError>;
    /// See [`Journal::snapshot_get`].
    fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError>;
    /// See [`Journal::verify`].
    fn verify(&self) -> Result<Report, JournalError>;
    /// See [`Journal::export`].
    fn export(&self, from_seq: u64, out: &mut dyn Write) -> Result<u64, JournalError>;
    /// See [`Journal::epoch`].
    fn epoch(&self) -> u64;
    /// See [`Journal::health`].
    fn health(&self) -> JournalHealth;
}

/// The journal. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Journal {
    backend: Arc<dyn Backend>,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({:?})", self.health().state)
    }
}

impl Journal {
    /// Opens the journal of a data directory for writing, or makes a new one there.
    ///
    /// # Errors
    /// See [`JournalError`]: held by another daruma, damaged, full, read-only, newer.
    pub fn open(directory: &Path, options: Options) -> Result<Journal, JournalError> {
        Ok(Journal::of(Arc::new(Sqlite::open(directory, options)?)))
    }

    /// A journal on any backend.
    #[must_use]
    pub fn of(backend: Arc<dyn Backend>) -> Journal {
        Journal { backend, room: Arc::new(Semaphore::new(QUEUE_KIB_MAX)) }
    }

    /// Records a batch, atomically: all events in order, and the checkpoints in the same
    /// transaction (small named blobs such as log positions; empty bytes remove the name). Returns
    /// when it is on disk. Waits while the queue is full.
    ///
    /// Once it waits for the answer, dropping the future does not call the batch back.
    ///
    /// # Errors
    /// Nothing was recorded, and the error says why.
    pub async fn append(
        &self,
        events: Vec<NewEvent>,
        expected: Option<Expected>,
        checkpoints: Vec<(String, Vec<u8>)>,
    ) -> Result<Appended, JournalError> {
        let batch = Batch::new(events, expected, checkpoints)?;
        let bytes = batch.bytes;
        let answer = self.ask(bytes, |reply| Work::Append(batch, reply)).await?;
        answer.unwrap_or_else(|| Ok(no_answer()))
    }

    /// [`Journal::append`] for code outside of a runtime; blocks the calling thread.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_blocking(
        &self,
        events: Vec<NewEvent>,
        expected: Option<Expected>,
        checkpoints: Vec<(String, Vec<u8>)>,
    ) -> Result<Appended, JournalError> {
        let batch = Batch::new(events, expected, checkpoints)?;
        let bytes = batch.bytes;
        let answer = self.ask_blocking(bytes, |reply| Work::Append(batch, reply))?;
        answer.unwrap_or_else(|| Ok(no_answer()))
    }

    /// Keeps a snapshot of the state after event `seq`, at most 256 MiB, and the one before it.
    ///
    /// # Errors
    /// `seq` is after the tail, or the disk refused.
    pub async fn snapshot_put(&self, seq: u64, bytes: Vec<u8>) -> Result<(), JournalError> {
        let room = snapshot_room(&bytes)?;
        let answer = self.ask(room, |reply| Work::Snapshot(seq, bytes, reply)).await?;
        answer.unwrap_or(Err(JournalError::Closed))
    }

    /// [`Journal::snapshot_put`] for code outside of a runtime.
    ///
    /// # Errors
    /// As [`Journal::snapshot_put`].
    pub fn snapshot_put_blocking(&self, seq: u64, bytes: Vec<u8>) -> Result<(), JournalError> {
        let room = snapshot_room(&bytes)?;
        let answer = self.ask_blocking(room, |reply| Work::Snapshot(seq, bytes, reply))?;
        answer.unwrap_or(Err(JournalError::Closed))
    }

    /// Removes events before `seq`, except those that a kept snapshot still needs (without a
    /// snapshot: all are needed), and returns the first event kept. The chain stays verifiable. Ids
    /// of removed events are forgotten: they would be taken again.
    ///
    /// # Errors
    /// The disk refused; what was removed until then stays removed.
    pub async fn truncate_before(&self, seq: u64) -> Result<u64, JournalError> {
        let answer = self.ask(0, |reply| Work::Truncate(seq, reply)).await?;
        answer.unwrap_or(Err(JournalError::Closed))
    }

    /// [`Journal::truncate_before`] for code outside of a runtime.
    ///
    /// # Errors
    /// As [`Journal::truncate_before`].
    pub fn truncate_before_blocking(&self, seq: u64) -> Result<u64, JournalError> {
        let answer = self.ask_blocking(0, |reply| Work::Truncate(seq, reply))?;
        answer.unwrap_or(Err(JournalError::Closed))
    }

    /// Events of all shards in order, from `from_seq` on (0: from the first kept), at most `limit`
    /// and at most [`crate::READ_EVENTS_MAX`]. An empty answer means: that is the end.
    ///
    /// # Errors
    /// The first bad record is named; the asked part was removed; the disk failed.
    pub fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.backend.read(from_seq, limit)
    }

    /// Events of one shard in order, from its number `from` on (0: from the first kept).
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn read_shard(
        &self,
        shard: u8,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        check_shard(shard)?;
        self.backend.read_shard(shard, from, limit)
    }

    /// The event with this id: how to learn what came of an [`Appended::Unknown`].
    ///
    /// # Errors
    /// The record is bad, or the disk failed.
    pub fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError> {
        self.backend.find(event_id)
    }

    /// The last event's seq; 0 when there is none.
    ///
    /// # Errors
    /// The backend cannot be asked (never with the embedded one).
    pub fn tail(&self) -> Result<u64, JournalError> {
        self.backend.tail()
    }

    /// The seq of the first event kept; `tail() + 1` when there is none.
    ///
    /// # Errors
    /// The backend cannot be asked (never with the embedded one).
    pub fn first_seq(&self) -> Result<u64, JournalError> {
        self.backend.first_seq()
    }

    /// The last event of a shard; zeros when there is none.
    ///
    /// # Errors
    /// No such shard, or the backend cannot be asked.
    pub fn head(&self, shard: u8) -> Result<Head, JournalError> {
        check_shard(shard)?;
        self.backend.head(shard)
    }

    /// The bytes last recorded under a name.
    ///
    /// # Errors
    /// They do not match their hash, or the disk failed.
    pub fn checkpoint_get(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        self.backend.checkpoint_get(name)
    }

    /// All checkpoints whose names start with `prefix`, in the order of their names.
    ///
    /// # Errors
    /// As [`Journal::checkpoint_get`].
    pub fn checkpoints(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        self.backend.checkpoints(prefix)
    }

    /// The newest snapshot that matches its hash.
    ///
    /// # Errors
    /// There are snapshots and none matches its hash, or the disk failed.
    pub fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError> {
        self.backend.snapshot_get()
    }

    /// Reads and hashes everything up to the tail. Takes about a second for 200,000 events.
    ///
    /// # Errors
    /// Only what hindered the check itself; damage is in the report.
    pub fn verify(&self) -> Result<Report, JournalError> {
        self.backend.verify()
    }

    /// Writes the events from `from_seq` on (0: from the first kept) as JSON, one a line, bodies
    /// exactly as they were hashed. Returns how many were written.
    ///
    /// # Errors
    /// The first bad record is named, after the good ones before it were written.
    pub fn export(&self, from_seq: u64, out: &mut dyn Write) -> Result<u64, JournalError> {
        self.backend.export(from_seq, out)
    }

    /// Which life of the owner this is: every event it records carries it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.backend.epoch()
    }

    /// How it is now.
    #[must_use]
    pub fn health(&self) -> JournalHealth {
        self.backend.health()
    }

    /// Waits for room, submits, waits for the answer; `None`: the answer was dropped.
    async fn ask<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<Option<Result<T, JournalError>>, JournalError> {
        let room = self.room.clone().acquire_many_owned(kib(bytes)).await;
        let room = room.map_err(|_| JournalError::Closed)?;
        let (sender, receiver) = oneshot::channel();
        // Whoever does not wait any more has nothing to hear.
        let reply = Box::new(move |answer| drop(sender.send(answer)));
        self.backend.submit(Job { work: work(reply), room });
        Ok(receiver.await.ok())
    }

    fn ask_blocking<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<Option<Result<T, JournalError>>, JournalError> {
        let room = loop {
            match self.room.clone().try_acquire_many_owned(kib(bytes)) {
                Ok(room) => break room,
                Err(TryAcquireError::Closed) => return Err(JournalError::Closed),
                // A full queue is 64 MiB that wait for the disk: a millisecond more is nothing.
                Err(TryAcquireError::NoPermits) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let (sender, receiver) = mpsc::channel();
        let reply = Box::new(move |answer| drop(sender.send(answer)));
        self.backend.submit(Job { work: work(reply), room });
        Ok(receiver.recv().ok())
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from((bytes / 1024 + 1).min(QUEUE_KIB_MAX)).unwrap_or(1)
}

fn no_answer() -> Appended {
    Appended::Unknown { said: "the writer ended before it answered".to_owned() }
}

fn snapshot_room(bytes: &[u8]) -> Result<usize, JournalError> {
    if bytes.len() <= SNAPSHOT_BYTES_MAX {
        return Ok(bytes.len());
    }
    let what = format!("a snapshot of {} bytes, over {SNAPSHOT_BYTES_MAX}", bytes.len());
    Err(JournalError::Invalid { what })
}
