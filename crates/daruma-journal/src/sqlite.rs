//! The embedded journal: one SQLite database in the data directory.
//!
//! WAL and `synchronous=FULL`: a commit returns after its frames were synced. One thread writes; it
//! takes whatever waits, up to 1,000 events, commits it as one transaction and answers all of it, so
//! that many writers share one sync and a lonely one never waits for company.
//!
//! | file | what |
//! |---|---|
//! | `journal.db`, `-wal`, `-shm` | the database; people may read it with `sqlite3 -readonly` |
//! | `journal.lock` | held by the daruma that writes, names its process |
//! | `journal.reserve` | room for a full disk |
//! | `journal.witness` | how far the journal was durable, noted outside of it |
//!
//! SQLite forgets what a torn or flipped write-ahead file held behind the damage; that alone would
//! read as an older, whole journal. The witness tells the difference, so that such a loss is named.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::chain::{Head, Ledger, Report, Witness};
use crate::disk::{self, Lock, Reserve, WitnessFile};
use crate::journal::{
    Appended, Backend, Batch, HealthState, Job, JournalHealth, Reply, Snapshot, Work,
};
use crate::{BATCH_EVENTS_MAX, Event, JournalError};

mod read;

pub use read::ReadOnly;
use read::{Reader, Stop, int};

/// Marks the database as a journal of daruma: "DRMA".
const APPLICATION: i64 = 0x4452_4d41;
/// The newest format this program writes and reads.
const VERSION: i64 = 1;
/// Pages written, about, after which the write-ahead file is moved into the database: 4 MiB. (Its
/// size cannot say: it starts anew within the file it has.)
const WAL_PAGES: u64 = 1_000;
/// The write-ahead file is cut back to this when it starts anew.
const WAL_BYTES_KEPT: i64 = 16 << 20;
/// Events removed in one transaction, so that appends in between never wait for long.
const TRUNCATE_SLICE: u64 = 10_000;
/// Time between two tries to make the reserve again.
const RESERVE_RETRY: Duration = Duration::from_millis(500);

const SCHEMA: &str = "
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, shard INTEGER NOT NULL, shard_seq INTEGER NOT NULL, ts INTEGER NOT NULL,
  kind TEXT NOT NULL, event_id TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL,
  prev_hash BLOB NOT NULL, hash BLOB NOT NULL, body TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX events_shard ON events (shard, shard_seq);
CREATE TABLE heads (
  shard INTEGER PRIMARY KEY, seq INTEGER NOT NULL, shard_seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE anchors (
  shard INTEGER PRIMARY KEY, seq INTEGER NOT NULL, shard_seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE meta (
  one INTEGER PRIMARY KEY CHECK (one = 1), first_seq INTEGER NOT NULL, tail INTEGER NOT NULL,
  epoch INTEGER NOT NULL, commits INTEGER NOT NULL) STRICT;
CREATE TABLE checkpoints (name TEXT PRIMARY KEY, bytes BLOB NOT NULL, hash BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
INSERT INTO meta VALUES (1, 1, 0, 0, 0);
";

/// How a journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes kept free for a full disk; 0 keeps none. 4 MiB unless said: room for some
    /// thousand events.
    pub reserve_bytes: u64,
    /// A database of up to this many bytes is checked whole by SQLite at every start (64 MiB unless
    /// said: a fraction of a second); of a larger one, only the ends are.
    pub check_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { reserve_bytes: 4 << 20, check_bytes_max: 64 << 20 }
    }
}

fn database(directory: &Path) -> PathBuf {
    directory.join("journal.db")
}

fn witness_path(directory: &Path) -> PathBuf {
    directory.join("journal.witness")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn wal_bytes(path: &Path) -> u64 {
    beside(path, "-wal").metadata().map_or(0, |found| found.len())
}

/// Whether commits wait in the write-ahead file.
fn waits(path: &Path) -> bool {
    wal_bytes(path) > 0
}

fn checkpoint_hash(name: &str, bytes: &[u8]) -> [u8; 32] {
    let length = (name.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(name).chain_update(bytes).finalize().into()
}

/// What the database said, as what it means for the journal at `path`.
fn named(path: &Path, error: &rusqlite::Error) -> JournalError {
    let (path, found) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full { path, found },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            JournalError::ReadOnly { path, found }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { path, found, seq: None }
        }
        // The one writer never breaks a constraint: what it builds on is not what it wrote.
        Some(ErrorCode::ConstraintViolation) => {
            let found = format!("another program has written to it: {found}");
            JournalError::Damaged { path, found, seq: None }
        }
        // SQLite tells some full and read-only disks apart only by what the system says beside.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            match disk::space(path.parent().unwrap_or(Path::new("."))) {
                Some(space) if space.read_only => JournalError::ReadOnly { path, found },
                Some(space) if space.free < 64 << 10 => JournalError::Full { path, found },
                _ => JournalError::Io { path, found },
            }
        }
        _ => JournalError::Io { path, found },
    }
}

/// The embedded backend.
pub struct Sqlite {
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    reader: Mutex<Reader>,
    shared: Arc<Shared>,
    path: PathBuf,
    directory: PathBuf,
    // Last: held until the writer has ended.
    _lock: Lock,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sqlite({})", self.path.display())
    }
}

/// What the writer tells the others.
struct Shared {
    ledger: Mutex<Ledger>,
    health: Mutex<JournalHealth>,
    queue_len: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves whole values behind at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sqlite {
    /// See [`crate::Journal::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(directory: &Path, options: Options) -> Result<Sqlite, JournalError> {
        std::fs::create_dir_all(directory)
            .map_err(|error| JournalError::from_io(directory, &error))?;
        let lock = Lock::take(directory.join("journal.lock"))?;
        let path = database(directory);
        let mut reserve = Reserve::new(directory.join("journal.reserve"), options.reserve_bytes);
        let (created, conn) = match begin(directory, &path) {
            // A restart on a full disk: the reserve is for exactly this.
            Err(JournalError::Full { .. }) if reserve.release() => begin(directory, &path)?,
            other => other?,
        };
        let witness = disk::witness(&witness_path(directory))?;
        let reader = Reader::open(&path)?;
        let checked = reader
            .quick_check(options.check_bytes_max)
            .and_then(|()| reader.check_ends(witness))
            // A look at the ends says that something is wrong; a full one says where it begins.
            .map_err(|error| reader.first_damage(witness).unwrap_or(error));
        let book = checked?;
        let mut health = JournalHealth { created, ..JournalHealth::default() };
        let witness_file = match WitnessFile::open(&witness_path(directory)) {
            Ok(file) => Some(file),
            // Without room for 128 bytes the journal still keeps what it accepts.
            Err(error @ JournalError::Full { .. }) => {
                health.said = error.to_string();
                None
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = reserve.make() {
            health.state = HealthState::Reserve;
            health.reserve_used = true;
            health.said = format!("no reserve for a full disk: {error}");
        }
        let ledger = Ledger {
            first_seq: book.first_seq,
            tail: book.tail,
            heads: book.heads,
            epoch: book.epoch + 1,
        };
        let shared = Arc::new(Shared {
            ledger: Mutex::new(ledger.clone()),
            health: Mutex::new(health),
            queue_len: AtomicUsize::new(0),
        });
        let writer = Writer {
            conn,
            path: path.clone(),
            directory: directory.to_owned(),
            ledger,
            commits: book.commits,
            stale: false,
            reserve,
            reserve_tried: Instant::now(),
            witness: witness_file,
            shared: shared.clone(),
            truncating: VecDeque::new(),
            pages: wal_bytes(&path) / 4096,
        };
        let (jobs, waiting) = channel();
        let writer = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| JournalError::from_io(&path, &error))?;
        Ok(Sqlite {
            jobs: Some(jobs),
            writer: Some(writer),
            reader: Mutex::new(reader),
            shared,
            path,
            directory: directory.to_owned(),
            _lock: lock,
        })
    }
}

/// Makes the database if there never was one, and opens it; says whether it was made.
fn begin(directory: &Path, path: &Path) -> Result<(bool, Connection), JournalError> {
    let damaged = |found: String| JournalError::Damaged { path: path.to_owned(), found, seq: None };
    let created = match path.metadata() {
        // It is renamed into place whole: an empty file is never one that was just being made.
        Ok(found) if found.len() == 0 => {
            return Err(damaged("it is empty, not even its header is there".to_owned()));
        }
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if waits(path) {
                let bytes = wal_bytes(path);
                return Err(damaged(format!("it is gone, its write-ahead file has {bytes} bytes")));
            }
            if let Some(Witness { commits: 1.., tail, .. }) =
                disk::witness(&witness_path(directory))?
            {
                return Err(damaged(format!(
                    "it is gone, and journal.witness says that events up to {tail} were acknowledged \
                     (to begin anew on purpose, remove journal.witness too)"
                )));
            }
            create(directory, path)?;
            true
        }
        Err(error) => return Err(JournalError::from_io(path, &error)),
    };
    let conn = connect(path).map_err(|error| named(path, &error))?;
    if conn.is_readonly("main").map_err(|error| named(path, &error))? {
        let found = "the file is write-protected".to_owned();
        return Err(JournalError::ReadOnly { path: path.to_owned(), found });
    }
    read::check_version(&conn, path)?;
    Ok((created, conn))
}

/// Makes an empty journal beside its place and renames it there, so that at its place there is a
/// whole one or none.
fn create(directory: &Path, path: &Path) -> Result<(), JournalError> {
    let new = directory.join("journal.db.new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let left = beside(&new, suffix);
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(JournalError::from_io(&left, &error));
            }
            _ => {}
        }
    }
    let made = Connection::open(&new).and_then(|conn| {
        conn.pragma_update(None, "application_id", APPLICATION)?;
        conn.pragma_update(None, "user_version", VERSION)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.execute_batch(&format!("BEGIN; {SCHEMA} COMMIT;"))?;
        // Moves everything into the one file that is renamed, and removes the others.
        conn.close().map_err(|(_, error)| error)
    });
    made.map_err(|error| named(&new, &error))?;
    std::fs::rename(&new, path).map_err(|error| JournalError::from_io(path, &error))?;
    disk::sync_directory(directory)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    // Closing never rewrites a damaged journal: what is left of it stays as evidence.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.query_row("PRAGMA journal_mode = wal", [], |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get::<_, i64>(0))?;
    let limit = format!("PRAGMA journal_size_limit = {WAL_BYTES_KEPT}");
    conn.query_row(&limit, [], |row| row.get::<_, i64>(0))?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // KiB, negative by SQLite's convention: the pages of a full batch, so that none is written twice.
    conn.pragma_update(None, "cache_size", -8192)?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // An answer may hold the last clone: the writer does not wait for itself.
            if writer.thread().id() != std::thread::current().id() {
                // A writer that panicked has answered nothing it had not committed.
                drop(writer.join());
            }
        }
    }
}

impl Backend for Sqlite {
    fn submit(&self, job: Job) {
        self.shared.queue_len.fetch_add(1, Ordering::Relaxed);
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|refused| refused.0),
            None => Err(job),
        };
        if let Err(job) = sent {
            self.shared.queue_len.fetch_sub(1, Ordering::Relaxed);
            job.work.refuse(JournalError::Closed);
        }
    }

    fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        lock(&self.reader).read(from_seq, limit)
    }

    fn read_shard(&self, shard: u8, from: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        lock(&self.reader).read_shard(shard, from, limit)
    }

    fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError> {
        lock(&self.reader).find(event_id)
    }

    fn tail(&self) -> Result<u64, JournalError> {
        Ok(lock(&self.shared.ledger).tail)
    }

    fn first_seq(&self) -> Result<u64, JournalError> {
        Ok(lock(&self.shared.ledger).first_seq)
    }

    fn head(&self, shard: u8) -> Result<Head, JournalError> {
        crate::event::check_shard(shard)?;
        Ok(lock(&self.shared.ledger).heads[usize::from(shard)])
    }

    fn checkpoint_get(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let found = lock(&self.reader).checkpoints(name, true)?;
        Ok(found.into_iter().next().map(|(_, bytes)| bytes))
    }

    fn checkpoints(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        lock(&self.reader).checkpoints(prefix, false)
    }

    fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError> {
        lock(&self.reader).snapshot_get()
    }

    // Long reads take a connection of their own, so that the short ones never wait for them.
    fn verify(&self) -> Result<Report, JournalError> {
        let witness = disk::witness(&witness_path(&self.directory))?;
        Reader::open(&self.path)?.verify(witness)
    }

    fn export(&self, from_seq: u64, out: &mut dyn std::io::Write) -> Result<u64, JournalError> {
        Reader::open(&self.path)?.export(from_seq, out)
    }

    fn epoch(&self) -> u64 {
        lock(&self.shared.ledger).epoch
    }

    fn health(&self) -> JournalHealth {
        JournalHealth {
            queue_len: self.shared.queue_len.load(Ordering::Relaxed),
            ..lock(&self.shared.health).clone()
        }
    }
}

/// Why a transaction did not happen, and whether that is certain.
struct Failed {
    error: JournalError,
    unknown: bool,
}

/// One answer for each batch of a group.
type Answer = Result<Appended, JournalError>;

/// A batch that waits for its answer.
struct Waiting {
    batch: Batch,
    reply: Reply<Appended>,
    room: OwnedSemaphorePermit,
}

struct Truncating {
    before: u64,
    reply: Reply<u64>,
    room: OwnedSemaphorePermit,
}

/// The one that writes.
struct Writer {
    conn: Connection,
    path: PathBuf,
    directory: PathBuf,
    ledger: Ledger,
    commits: u64,
    /// After an unknown outcome, what is here is read again from the database before the next write.
    stale: bool,
    reserve: Reserve,
    reserve_tried: Instant,
    witness: Option<WitnessFile>,
    shared: Arc<Shared>,
    truncating: VecDeque<Truncating>,
    /// About how many pages were written since the write-ahead file was last moved.
    pages: u64,
}

/// About how many pages a transaction writes: what it carries twice (as itself and in the indexes),
/// and those that every one touches.
fn pages_of(bytes: usize) -> u64 {
    8 + bytes as u64 / 2048
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut next: Option<Job> = None;
        loop {
            let job = match next.take() {
                Some(job) => Some(job),
                None if !self.truncating.is_empty() => match jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => break,
                },
                None if !self.reserve.there => match jobs.recv_timeout(RESERVE_RETRY) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                },
                None => match jobs.recv() {
                    Ok(job) => Some(job),
                    Err(_) => break,
                },
            };
            match job {
                Some(Job { work: Work::Append(batch, reply), room }) => {
                    next = self.group(Waiting { batch, reply, room }, jobs);
                }
                Some(Job { work: Work::Snapshot(seq, bytes, reply), room }) => {
                    self.shared.queue_len.fetch_sub(1, Ordering::Relaxed);
                    let answer = self.snapshot(seq, &bytes);
                    drop(room);
                    reply(answer);
                }
                Some(Job { work: Work::Truncate(before, reply), room }) => {
                    self.shared.queue_len.fetch_sub(1, Ordering::Relaxed);
                    self.truncating.push_back(Truncating { before, reply, room });
                }
                None => {}
            }
            self.truncate_some();
            self.tidy();
        }
        // Only shortens the next start; what stays in the write-ahead file is just as durable.
        drop(self.checkpoint("TRUNCATE"));
    }

    /// Gathers what waits behind `first`, up to the bound, commits it and answers. Returns a job of
    /// another kind that ended the gathering.
    fn group(&mut self, first: Waiting, jobs: &Receiver<Job>) -> Option<Job> {
        let mut events = first.batch.drafts.len();
        let mut group = vec![first];
        let mut other = None;
        while events < BATCH_EVENTS_MAX && group.len() < BATCH_EVENTS_MAX {
            match jobs.try_recv() {
                Ok(Job { work: Work::Append(batch, reply), room })
                    if events + batch.drafts.len() <= BATCH_EVENTS_MAX =>
                {
                    events += batch.drafts.len();
                    group.push(Waiting { batch, reply, room });
                }
                Ok(job) => {
                    other = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        let batches: Vec<&Batch> = group.iter().map(|waiting| &waiting.batch).collect();
        let answers = self.settle(&batches);
        self.shared.queue_len.fetch_sub(group.len(), Ordering::Relaxed);
        for (Waiting { reply, room, .. }, answer) in group.into_iter().zip(answers) {
            drop(room);
            reply(answer);
        }
        other
    }

    /// Commits, and if there is no room, makes some and tries again.
    fn settle(&mut self, batches: &[&Batch]) -> Vec<Answer> {
        let mut failed = match self.commit(batches) {
            Ok(answers) => return answers,
            Err(failed) => failed,
        };
        if is_full(&failed.error) {
            // What fits into the database itself makes room in the write-ahead file.
            drop(self.checkpoint("PASSIVE"));
            match self.commit(batches) {
                Ok(answers) => return answers,
                Err(again) => failed = again,
            }
        }
        if is_full(&failed.error) && self.reserve.release() {
            // First of all into the database, where an event takes a fifth of its frames' room.
            drop(self.checkpoint("PASSIVE"));
            match self.commit(batches) {
                Ok(answers) => return answers,
                Err(again) => failed = again,
            }
        }
        if is_full(&failed.error) && batches.len() > 1 {
            // A small one may still fit where all together do not.
            return batches.iter().flat_map(|batch| self.settle(&[*batch])).collect();
        }
        self.say(&failed.error);
        let answer = if failed.unknown {
            Ok(Appended::Unknown { said: failed.error.to_string() })
        } else {
            Err(failed.error)
        };
        vec![answer; batches.len()]
    }

    fn commit(&mut self, batches: &[&Batch]) -> Result<Vec<Answer>, Failed> {
        let mut ledger = self.ledger_now()?;
        let tail = ledger.tail;
        let mut answers = Vec::with_capacity(batches.len());
        let wrote = self.transact(&mut ledger, |conn, ledger| {
            let mut wrote = false;
            for batch in batches {
                let answer = append(conn, ledger, batch)?;
                wrote |= matches!(answer, Ok(Appended::Committed { .. }));
                answers.push(answer);
            }
            Ok(wrote)
        })?;
        if wrote {
            self.pages += pages_of(batches.iter().map(|batch| batch.bytes).sum());
            let mut health = lock(&self.shared.health);
            health.appended += self.ledger.tail - tail;
        }
        Ok(answers)
    }

    /// What the next write builds on.
    fn ledger_now(&mut self) -> Result<Ledger, Failed> {
        if self.stale {
            let book = read::book(&self.conn)
                .map_err(|stop| Failed { error: stop.named(&self.path), unknown: false })?;
            self.ledger.first_seq = book.first_seq;
            self.ledger.tail = book.tail;
            self.ledger.heads = book.heads;
            self.commits = book.commits;
            self.stale = false;
        }
        Ok(self.ledger.clone())
    }

    /// Runs one transaction; `change` says whether there is anything to commit. Afterwards the
    /// ledger, the witness and the health are those of the commit, or nothing has changed.
    fn transact(
        &mut self,
        ledger: &mut Ledger,
        change: impl FnOnce(&Connection, &mut Ledger) -> Result<bool, Stop>,
    ) -> Result<bool, Failed> {
        let started = Instant::now();
        let before = ledger.clone();
        let conn = &self.conn;
        let mut committing = false;
        let done = (|| -> Result<bool, Stop> {
            conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            if !change(conn, ledger)? {
                conn.prepare_cached("ROLLBACK")?.execute([])?;
                return Ok(false);
            }
            record(conn, &before, ledger, self.commits + 1)?;
            committing = true;
            conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(true)
        })();
        match done {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.commits += 1;
                self.ledger = ledger.clone();
                let witness =
                    Witness { commits: self.commits, tail: ledger.tail, hash: ledger.tail_hash() };
                let noted = self.note(witness);
                let mut health = lock(&self.shared.health);
                health.last_commit_ms = started.elapsed().as_secs_f64() * 1000.0;
                (health.state, health.said) = match noted {
                    Err(error) => {
                        let said = format!("journal.witness cannot be written: {error}");
                        (HealthState::Failing, said)
                    }
                    Ok(()) if self.reserve.there => (HealthState::Well, String::new()),
                    Ok(()) => {
                        let said = "the disk is full, the reserve is in use: free space";
                        (HealthState::Reserve, said.to_owned())
                    }
                };
                health.reserve_used = !self.reserve.there;
                drop(health);
                *lock(&self.shared.ledger) = self.ledger.clone();
                Ok(true)
            }
            Err(stop) => {
                *ledger = before;
                if !self.conn.is_autocommit() {
                    // Some errors roll back by themselves; where one does not and this fails too,
                    // the next BEGIN fails and says so.
                    drop(self.conn.execute_batch("ROLLBACK"));
                }
                let error = stop.named(&self.path);
                // A failed write of the last frame is no commit; after a failed sync, nobody knows.
                let unknown = committing && !is_full(&error);
                self.stale = true;
                Err(Failed { error, unknown })
            }
        }
    }

    /// Notes outside of the database how far it is durable.
    fn note(&mut self, witness: Witness) -> Result<(), JournalError> {
        let path = witness_path(&self.directory);
        if self.witness.is_none() {
            self.witness = Some(WitnessFile::open(&path)?);
        }
        let noted = self.witness.as_mut().map_or(Ok(()), |file| file.note(witness));
        noted.map_err(|error| JournalError::from_io(&path, &error))
    }

    fn say(&self, error: &JournalError) {
        let mut health = lock(&self.shared.health);
        health.state = if is_full(error) { HealthState::Full } else { HealthState::Failing };
        health.said = error.to_string();
        health.reserve_used = !self.reserve.there;
    }

    fn snapshot(&mut self, seq: u64, bytes: &[u8]) -> Result<(), JournalError> {
        if seq > self.ledger.tail {
            let what = format!("a snapshot of event {seq}, after the tail {}", self.ledger.tail);
            return Err(JournalError::Invalid { what });
        }
        let put = |conn: &Connection, _: &mut Ledger| {
            let hash = Snapshot::hash_of(seq, bytes);
            conn.prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3)")?
                .execute(params![int(seq), bytes, hash])?;
            conn.prepare_cached(
                "DELETE FROM snapshots WHERE seq NOT IN \
                 (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT 2)",
            )?
            .execute([])?;
            Ok(true)
        };
        self.pages += pages_of(bytes.len());
        self.change(put)
    }

    /// One transaction that is no append: an unknown outcome is an error, to be tried again.
    fn change(
        &mut self,
        change: impl FnOnce(&Connection, &mut Ledger) -> Result<bool, Stop>,
    ) -> Result<(), JournalError> {
        let changed = self.ledger_now().and_then(|mut ledger| self.transact(&mut ledger, change));
        changed.map(drop).map_err(|failed| {
            self.say(&failed.error);
            failed.error
        })
    }

    /// Removes one slice for the first that asked.
    fn truncate_some(&mut self) {
        let Some(Truncating { before, reply, room }) = self.truncating.pop_front() else { return };
        let mut ended = false;
        let slice = |conn: &Connection, ledger: &mut Ledger| {
            let oldest: Option<i64> =
                conn.query_row("SELECT min(seq) FROM snapshots", [], |row| row.get(0))?;
            let needed = oldest.and_then(|seq| u64::try_from(seq).ok()).map_or(1, |seq| seq + 1);
            let goal = before.min(needed);
            let cut = goal.min(ledger.first_seq.saturating_add(TRUNCATE_SLICE));
            ended = cut == goal;
            if cut <= ledger.first_seq {
                ended = true;
                return Ok(false);
            }
            conn.prepare_cached(
                "INSERT OR REPLACE INTO anchors SELECT shard, seq, shard_seq, hash FROM events \
                 WHERE seq IN (SELECT max(seq) FROM events WHERE seq < ?1 GROUP BY shard)",
            )?
            .execute([int(cut)])?;
            conn.prepare_cached("DELETE FROM events WHERE seq < ?1")?.execute([int(cut)])?;
            ledger.first_seq = cut;
            Ok(true)
        };
        self.pages += WAL_PAGES / 2; // Removing touches pages all over the indexes.
        match self.change(slice) {
            Ok(()) if !ended => self.truncating.push_front(Truncating { before, reply, room }),
            answer => {
                drop(room);
                reply(answer.map(|()| self.ledger.first_seq));
            }
        }
    }

    /// Between two commits: moves what has gathered, and makes the reserve again.
    fn tidy(&mut self) {
        let wal = wal_bytes(&self.path);
        // On a full disk always: the write-ahead file starts anew in the room it has.
        if self.pages > WAL_PAGES || !self.reserve.there && self.pages > 0 {
            // What could not be moved now is moved later; readers may be in the way.
            drop(self.checkpoint("PASSIVE"));
            self.pages = 0;
        }
        let mut said = None;
        if !self.reserve.there && self.reserve_tried.elapsed() >= RESERVE_RETRY {
            self.reserve_tried = Instant::now();
            said = Some(self.reserve.make());
        }
        let mut health = lock(&self.shared.health);
        health.wal_bytes = wal;
        health.reserve_used = !self.reserve.there;
        match said {
            Some(Ok(())) if health.state != HealthState::Failing => {
                (health.state, health.said) = (HealthState::Well, String::new());
            }
            Some(Err(error)) if health.state == HealthState::Reserve => {
                health.said = format!("no reserve for a full disk: {error}");
            }
            _ => {}
        }
    }

    fn checkpoint(&self, mode: &str) -> rusqlite::Result<()> {
        self.conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }
}

fn is_full(error: &JournalError) -> bool {
    matches!(error, JournalError::Full { .. })
}

/// One batch within a transaction: all of it, or nothing and the reason.
fn append(conn: &Connection, ledger: &mut Ledger, batch: &Batch) -> Result<Answer, Stop> {
    if let Some(conflict) = ledger.conflict(batch) {
        return Ok(Ok(conflict));
    }
    let (first_seq, before) = (ledger.tail + 1, ledger.clone());
    conn.prepare_cached("SAVEPOINT batch")?.execute([])?;
    let mut insert =
        conn.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for draft in &batch.drafts {
        let row = ledger.chain(draft);
        let inserted = insert.execute(params![
            int(row.seq),
            row.shard,
            int(row.shard_seq),
            row.ts,
            row.kind,
            row.event_id,
            int(row.epoch),
            row.prev_hash,
            row.hash,
            row.body,
        ]);
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let seq: Option<i64> = conn
                    .prepare_cached("SELECT seq FROM events WHERE event_id = ?1")?
                    .query_row([&row.event_id], |found| found.get(0))
                    .optional()?;
                // Another constraint: something else has written here.
                let Some(seq) = seq.and_then(|seq| u64::try_from(seq).ok()) else {
                    return Err(error.into());
                };
                *ledger = before;
                conn.prepare_cached("ROLLBACK TO batch")?.execute([])?;
                conn.prepare_cached("RELEASE batch")?.execute([])?;
                return Ok(Err(JournalError::Duplicate { event_id: row.event_id, seq }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (name, bytes) in &batch.checkpoints {
        if bytes.is_empty() {
            conn.prepare_cached("DELETE FROM checkpoints WHERE name = ?1")?.execute([name])?;
        } else {
            conn.prepare_cached("INSERT OR REPLACE INTO checkpoints VALUES (?1, ?2, ?3)")?
                .execute(params![name, bytes, checkpoint_hash(name, bytes)])?;
        }
    }
    conn.prepare_cached("RELEASE batch")?.execute([])?;
    Ok(Ok(Appended::Committed { first_seq, last_seq: ledger.tail }))
}

/// Writes what has changed beside the events.
fn record(conn: &Connection, before: &Ledger, after: &Ledger, commits: u64) -> Result<(), Stop> {
    let mut put = conn.prepare_cached("INSERT OR REPLACE INTO heads VALUES (?1, ?2, ?3, ?4)")?;
    for (shard, (old, new)) in (0_u8..).zip(before.heads.iter().zip(&after.heads)) {
        if old != new {
            put.execute(params![shard, int(new.seq), int(new.shard_seq), new.hash])?;
        }
    }
    conn.prepare_cached(
        "UPDATE meta SET first_seq = ?1, tail = ?2, epoch = ?3, commits = ?4 WHERE one = 1",
    )?
    .execute([int(after.first_seq), int(after.tail), int(after.epoch), int(commits)])?;
    Ok(())
}
