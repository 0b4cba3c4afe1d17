//! Reading the database: beside the writer in the daemon, and from another process. Every answer is
//! taken from one consistent view, and everything returned is checked against the chain.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::chain::{
    Damage, DamageKind, Follow, Head, Heads, Order, Report, Verifier, Witness, check_link,
    check_own,
};
use crate::event::{Row, check_shard};
use crate::journal::Snapshot;
use crate::memory::newest_snapshot;
use crate::sqlite::{APPLICATION, VERSION, database, named, witness_path};
use crate::{Event, JournalError, READ_BYTES_MAX, READ_EVENTS_MAX, SHARDS, disk};

/// Why a read stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Sql(rusqlite::Error),
    Damage(Damage),
    Other(JournalError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Sql(error)
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Stop {
        Stop::Damage(damage)
    }
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Stop {
        Stop::Other(error)
    }
}

impl Stop {
    pub(super) fn named(self, path: &Path) -> JournalError {
        match self {
            Stop::Sql(error) => named(path, &error),
            Stop::Damage(damage) => damaged(path, &damage),
            Stop::Other(error) => error,
        }
    }
}

pub(super) fn damaged(path: &Path, damage: &Damage) -> JournalError {
    let (path, found) = (path.to_owned(), damage.to_string());
    JournalError::Damaged { path, found, seq: Some(damage.seq) }
}

/// What stands beside the events.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) first_seq: u64,
    pub(super) tail: u64,
    pub(super) epoch: u64,
    pub(super) commits: u64,
    pub(super) heads: Heads,
    pub(super) anchors: Heads,
}

const COLUMNS: &str =
    "seq, shard, shard_seq, ts, kind, event_id, epoch, prev_hash, hash, body FROM events";

/// SQLite's integers are signed; nothing here comes near their end.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(value: ValueRef<'_>) -> Option<u64> {
    value.as_i64().ok().and_then(|number| u64::try_from(number).ok())
}

fn bytes32(value: ValueRef<'_>) -> Option<[u8; 32]> {
    value.as_blob().ok()?.try_into().ok()
}

/// Any stored bytes may be damaged: every column is looked at as it is.
fn row(found: &rusqlite::Row<'_>) -> Result<Row, Stop> {
    let number = found.get_ref(0)?.as_i64().unwrap_or(0);
    let Some(seq) = unsigned(found.get_ref(0)?).filter(|seq| *seq > 0) else {
        let said = format!("a record has {number} as its place");
        return Err(Damage::whole(0, DamageKind::Unreadable, said).into());
    };
    let bad = |column: &str| {
        let said = format!("its column {column} does not hold what belongs there");
        Stop::Damage(Damage::whole(seq, DamageKind::Flipped, said))
    };
    let text = |column: usize, name: &str| -> Result<String, Stop> {
        found.get_ref(column)?.as_str().map(str::to_owned).map_err(|_| bad(name))
    };
    let count = |column: usize, name: &str| -> Result<u64, Stop> {
        unsigned(found.get_ref(column)?).ok_or_else(|| bad(name))
    };
    let hash = |column: usize, name: &str| -> Result<[u8; 32], Stop> {
        bytes32(found.get_ref(column)?).ok_or_else(|| bad(name))
    };
    let shard = u8::try_from(count(1, "shard")?).ok().filter(|shard| *shard < SHARDS);
    Ok(Row {
        seq,
        shard: shard.ok_or_else(|| bad("shard"))?,
        shard_seq: count(2, "shard_seq")?,
        ts: found.get_ref(3)?.as_i64().map_err(|_| bad("ts"))?,
        kind: text(4, "kind")?,
        event_id: text(5, "event_id")?,
        epoch: count(6, "epoch")?,
        prev_hash: hash(7, "prev_hash")?,
        hash: hash(8, "hash")?,
        body: text(9, "body")?,
    })
}

fn heads(conn: &Connection, table: &str) -> Result<Heads, Stop> {
    let mut heads = [Head::default(); SHARDS as usize];
    let sql = format!("SELECT shard, seq, shard_seq, hash FROM {table}");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        let shard = unsigned(found.get_ref(0)?).and_then(|shard| usize::try_from(shard).ok());
        let head = (
            shard.and_then(|shard| heads.get_mut(shard)),
            unsigned(found.get_ref(1)?),
            unsigned(found.get_ref(2)?),
            bytes32(found.get_ref(3)?),
        );
        let (Some(place), Some(seq), Some(shard_seq), Some(hash)) = head else {
            let said = format!("table {table} holds what does not belong there");
            return Err(Damage::whole(0, DamageKind::Beside, said).into());
        };
        *place = Head { seq, shard_seq, hash };
    }
    Ok(heads)
}

pub(super) fn book(conn: &Connection) -> Result<Book, Stop> {
    let mut statement =
        conn.prepare_cached("SELECT first_seq, tail, epoch, commits FROM meta WHERE one = 1")?;
    let mut rows = statement.query([])?;
    let bad = || Damage::whole(0, DamageKind::Beside, "table meta is not readable".to_owned());
    let found = rows.next()?.ok_or_else(bad)?;
    let number = |column: usize| -> Result<u64, Stop> {
        Ok(unsigned(found.get_ref(column)?).ok_or_else(bad)?)
    };
    Ok(Book {
        first_seq: number(0)?,
        tail: number(1)?,
        epoch: number(2)?,
        commits: number(3)?,
        heads: heads(conn, "heads")?,
        anchors: heads(conn, "anchors")?,
    })
}

/// Whether this is a journal, and one this program can read.
pub(super) fn check_version(conn: &Connection, path: &Path) -> Result<(), JournalError> {
    let pragma = |name: &str| {
        conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map_err(|error| named(path, &error))
    };
    let application = pragma("application_id")?;
    if application != APPLICATION {
        let found = format!("it is not a journal: its application id is {application}");
        return Err(JournalError::Damaged { path: path.to_owned(), found, seq: None });
    }
    let version = pragma("user_version")?;
    if version > VERSION {
        let (path, supported) = (path.to_owned(), VERSION);
        return Err(JournalError::Newer { path, found: version, supported });
    }
    Ok(())
}

/// A connection that only reads.
pub(super) struct Reader {
    conn: Connection,
    path: PathBuf,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|conn| {
            conn.busy_timeout(Duration::from_secs(5))?;
            conn.pragma_update(None, "trusted_schema", false)?;
            conn.pragma_update(None, "cell_size_check", true)?;
            conn.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
            Ok(conn)
        });
        let conn = match opened {
            Ok(conn) => conn,
            // On a read-only disk the shared memory of a reader cannot be made; when nothing waits
            // in the write-ahead file, the database alone is the whole truth.
            Err(rusqlite::Error::SqliteFailure(error, _))
                if matches!(error.code, ErrorCode::CannotOpen | ErrorCode::ReadOnly)
                    && path.metadata().is_ok_and(|found| found.len() > 0)
                    && !super::waits(path) =>
            {
                let uri = format!("file:{}?immutable=1", escaped(path));
                Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                    .map_err(|error| named(path, &error))?
            }
            Err(error) => return Err(named(path, &error)),
        };
        conn.set_prepared_statement_cache_capacity(32);
        check_version(&conn, path)?;
        Ok(Reader { conn, path: path.to_owned() })
    }

    /// One consistent view for everything `look` asks.
    fn view<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, Stop>,
    ) -> Result<T, JournalError> {
        let named = |stop: Stop| stop.named(&self.path);
        let view = self.conn.unchecked_transaction().map_err(|error| named(error.into()))?;
        look(&view).map_err(named)
    }

    pub(super) fn book(&self) -> Result<Book, JournalError> {
        self.view(book)
    }

    pub(super) fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.view(|conn| {
            let book = book(conn)?;
            let from = start(&book, from_seq)?;
            let sql = format!("SELECT {COLUMNS} WHERE seq >= ?1 ORDER BY seq LIMIT ?2");
            let keys = [int(from), 0];
            checked(conn, &book, &sql, keys, Order::All(from), limit)
        })
    }

    pub(super) fn read_shard(
        &self,
        shard: u8,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        check_shard(shard)?;
        self.view(|conn| {
            let book = book(conn)?;
            let kept = book.anchors[usize::from(shard)].shard_seq + 1;
            if from > 0 && from < kept {
                return Err(JournalError::Truncated { asked: from, first_seq: kept }.into());
            }
            let from = from.max(kept);
            let sql = format!(
                "SELECT {COLUMNS} WHERE shard = ?3 AND shard_seq >= ?1 ORDER BY shard_seq LIMIT ?2"
            );
            let keys = [int(from), i64::from(shard)];
            checked(conn, &book, &sql, keys, Order::Shard(shard, from), limit)
        })
    }

    pub(super) fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError> {
        self.view(|conn| {
            let seq: Option<i64> = conn
                .prepare_cached("SELECT seq FROM events WHERE event_id = ?1")?
                .query_row([event_id], |row| row.get(0))
                .optional()?;
            let Some(seq) = seq else { return Ok(None) };
            let sql = format!("SELECT {COLUMNS} WHERE seq = ?1 LIMIT ?2");
            Ok(checked(conn, &book(conn)?, &sql, [seq, 0], Order::One, 1)?.pop())
        })
    }

    pub(super) fn checkpoints(
        &self,
        prefix: &str,
        exact: bool,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        self.view(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT name, bytes, hash FROM checkpoints WHERE name >= ?1 ORDER BY name",
            )?;
            let mut rows = statement.query([prefix])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, bytes) = checkpoint(row)?;
                if !name.starts_with(prefix) || exact && name != prefix {
                    break;
                }
                found.push((name, bytes));
                if exact {
                    break;
                }
            }
            Ok(found)
        })
    }

    pub(super) fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError> {
        self.view(|conn| {
            let mut statement =
                conn.prepare_cached("SELECT seq, bytes, hash FROM snapshots ORDER BY seq DESC")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let seq = unsigned(row.get_ref(0)?).unwrap_or(0);
                // A column of the wrong kind is a snapshot that does not match its hash.
                let bytes = row.get_ref(1)?.as_bytes().unwrap_or(&[]).to_vec();
                found.push((seq, bytes, bytes32(row.get_ref(2)?).unwrap_or([0; 32])));
            }
            Ok(newest_snapshot(found.into_iter())?)
        })
    }

    /// `witness` must have been read before, so that it is not ahead of the view.
    pub(super) fn verify(&self, witness: Option<Witness>) -> Result<Report, JournalError> {
        self.view(|conn| {
            let mut report = Report::default();
            if witness.is_none() {
                report.unchecked.push(
                    "journal.witness is not readable: a loss of whole commits at the end would not \
                     show"
                    .to_owned(),
                );
            }
            match walk(conn, witness, &mut report) {
                Ok(()) => {}
                Err(Stop::Damage(damage)) => report.damage = Some(damage),
                // A page that cannot be made sense of: the first event not read is on or behind it.
                Err(Stop::Sql(error)) if corrupt(&error) => {
                    let seq = report.first_seq.max(1) + report.checked;
                    let said = format!("the database says: {error}");
                    report.damage = Some(Damage::whole(seq, DamageKind::Unreadable, said));
                }
                Err(stop) => return Err(stop),
            }
            Ok(report)
        })
    }

    /// The first bad record, if a full look finds one.
    pub(super) fn first_damage(&self, witness: Option<Witness>) -> Option<JournalError> {
        let damage = self.verify(witness).ok()?.damage?;
        Some(damaged(&self.path, &damage))
    }

    pub(super) fn export(&self, from_seq: u64, out: &mut dyn Write) -> Result<u64, JournalError> {
        self.view(|conn| {
            let book = book(conn)?;
            let from = start(&book, from_seq)?;
            let mut follow = Follow::new(Order::All(from));
            let sql = format!("SELECT {COLUMNS} WHERE seq >= ?1 ORDER BY seq");
            let mut statement = conn.prepare(&sql)?;
            let mut rows = statement.query([int(from)])?;
            let mut written = 0;
            while let Some(found) = rows.next()? {
                let row = row(found)?;
                follow.check(&row, |shard, number| before(conn, &book, shard, number))?;
                out.write_all(row.json_line().as_bytes())
                    .map_err(|error| JournalError::from_io(Path::new("the export"), &error))?;
                written += 1;
            }
            follow.ended(book.tail, &book.heads)?;
            Ok(written)
        })
    }

    /// A look at the ends, short enough for every start: what stands last in each shard, whether it
    /// matches the recorded heads, and whether the witness saw more.
    pub(super) fn check_ends(&self, witness: Option<Witness>) -> Result<Book, JournalError> {
        self.view(|conn| {
            let book = book(conn)?;
            check_ends(conn, &book, witness)?;
            Ok(book)
        })
    }

    /// SQLite's own check of its pages and types: of the whole database when it has at most
    /// `bytes_max`, of the small tables otherwise.
    pub(super) fn quick_check(&self, bytes_max: u64) -> Result<(), JournalError> {
        let bytes = self.path.metadata().map_or(0, |found| found.len());
        let checks: &[&str] = if bytes <= bytes_max {
            &["PRAGMA quick_check(1)"]
        } else {
            &["PRAGMA quick_check(meta)", "PRAGMA quick_check(heads)"]
        };
        self.view(|conn| {
            for check in checks {
                let said: String = conn.query_row(check, [], |row| row.get(0))?;
                if said != "ok" {
                    return Err(Damage::whole(0, DamageKind::Unreadable, said).into());
                }
            }
            Ok(())
        })
    }
}

pub(super) fn corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn start(book: &Book, from_seq: u64) -> Result<u64, JournalError> {
    let first_seq = book.first_seq;
    match from_seq {
        0 => Ok(first_seq),
        asked if asked < first_seq => Err(JournalError::Truncated { asked, first_seq }),
        asked => Ok(asked),
    }
}

fn checkpoint(found: &rusqlite::Row<'_>) -> Result<(String, Vec<u8>), Stop> {
    let name = String::from_utf8_lossy(found.get_ref(0)?.as_bytes().unwrap_or(&[])).into_owned();
    let bytes = found.get_ref(1)?.as_bytes().unwrap_or(&[]).to_vec();
    if bytes32(found.get_ref(2)?) != Some(super::checkpoint_hash(&name, &bytes)) {
        let said = format!("checkpoint {name:?} does not match its hash");
        return Err(Damage::whole(0, DamageKind::Beside, said).into());
    }
    Ok((name, bytes))
}

/// The event with this number in this shard, or the shard's anchor.
fn before(conn: &Connection, book: &Book, shard: u8, number: u64) -> Result<Option<Head>, Stop> {
    let anchor = book.anchors[usize::from(shard)];
    if anchor.shard_seq == number {
        return Ok(Some(anchor));
    }
    let sql = format!("SELECT {COLUMNS} WHERE shard = ?1 AND shard_seq = ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([i64::from(shard), int(number)])?;
    rows.next()?.map(|found| row(found).map(|row| Head::of(&row))).transpose()
}

fn checked(
    conn: &Connection,
    book: &Book,
    sql: &str,
    [from, shard]: [i64; 2],
    order: Order,
    limit: usize,
) -> Result<Vec<Event>, Stop> {
    let limit = limit.min(READ_EVENTS_MAX);
    let mut follow = Follow::new(order);
    let mut statement = conn.prepare_cached(sql)?;
    let limit_asked = int(limit as u64 + 1);
    let mut rows = if statement.parameter_count() == 3 {
        statement.query(params![from, limit_asked, shard])?
    } else {
        statement.query(params![from, limit_asked])?
    };
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(found) = rows.next()? {
        if events.len() == limit || bytes > READ_BYTES_MAX {
            return Ok(events);
        }
        let row = row(found)?;
        follow.check(&row, |shard, number| before(conn, book, shard, number))?;
        bytes += row.body.len();
        events.push(row.into_event()?);
    }
    follow.ended(book.tail, &book.heads)?;
    Ok(events)
}

/// Everything, in order.
fn walk(conn: &Connection, witness: Option<Witness>, report: &mut Report) -> Result<(), Stop> {
    let book = book(conn)?;
    (report.first_seq, report.tail) = (book.first_seq, book.tail);
    let mut verifier = Verifier::new(book.first_seq, book.anchors, witness);
    {
        let mut statement = conn.prepare(&format!("SELECT {COLUMNS} ORDER BY seq"))?;
        let mut rows = statement.query([])?;
        while let Some(found) = rows.next()? {
            let row = row(found)?;
            verifier.feed(&row)?;
            row.into_event()?;
            report.checked = verifier.checked;
        }
    }
    verifier.finish(&book.heads, book.tail, book.commits)?;
    let mut statement = conn.prepare("SELECT name, bytes, hash FROM checkpoints")?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        checkpoint(found)?;
    }
    let mut statement = conn.prepare("SELECT seq, bytes, hash FROM snapshots")?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        let seq = unsigned(found.get_ref(0)?).unwrap_or(0);
        let bytes = found.get_ref(1)?.as_bytes().unwrap_or(&[]);
        if bytes32(found.get_ref(2)?) != Some(Snapshot::hash_of(seq, bytes)) {
            let said = "the snapshot of this event does not match its hash".to_owned();
            return Err(Damage::whole(seq, DamageKind::Beside, said).into());
        }
    }
    let said: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(Damage::whole(0, DamageKind::Beside, said).into());
    }
    Ok(())
}

/// Events per shard that are looked at when a journal is opened.
const ENDS: i64 = 16;

fn check_ends(conn: &Connection, book: &Book, witness: Option<Witness>) -> Result<(), Stop> {
    let last: Option<i64> = conn.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    let tail = last.map_or(book.first_seq.saturating_sub(1), |seq| u64::try_from(seq).unwrap_or(0));
    if tail != book.tail {
        let kind = if tail < book.tail { DamageKind::TornTail } else { DamageKind::Rewritten };
        let said = format!("event {tail} stands last, {} was recorded as the last", book.tail);
        return Err(Damage::whole(tail.min(book.tail) + 1, kind, said).into());
    }
    let sql = format!("SELECT {COLUMNS} WHERE shard = ?1 ORDER BY shard_seq DESC LIMIT ?2");
    let mut statement = conn.prepare(&sql)?;
    for (shard, head) in (0_u8..).zip(book.heads) {
        let mut rows = statement.query(params![shard, ENDS])?;
        // Newest first: each must be what the later one recorded about it.
        let mut later: Option<Row> = None;
        while let Some(found) = rows.next()? {
            let row = row(found)?;
            check_own(&row)?;
            match &later {
                Some(later) => check_link(Head::of(&row), later)?,
                None if Head::of(&row) != head => {
                    let said = format!(
                        "its shard ends with number {}, number {} was recorded as its head",
                        row.shard_seq, head.shard_seq
                    );
                    return Err(Damage::at(&row, DamageKind::Rewritten, said).into());
                }
                None => {}
            }
            later = Some(row);
        }
        if later.is_none() && head != book.anchors[usize::from(shard)] {
            let said = format!("shard {shard} has no events, its head is {}", head.shard_seq);
            return Err(Damage::whole(head.seq, DamageKind::TornTail, said).into());
        }
    }
    let Some(witness) = witness else { return Ok(()) };
    if witness.tail > book.tail {
        let said = format!("events up to {} were acknowledged and are gone", witness.tail);
        return Err(Damage::whole(book.tail + 1, DamageKind::TornTail, said).into());
    }
    let sql = format!("SELECT {COLUMNS} WHERE seq = ?1");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([int(witness.tail)])?;
    if let Some(found) = rows.next()? {
        let row = row(found)?;
        if row.hash != witness.hash {
            let said = "another event was acknowledged in its place".to_owned();
            return Err(Damage::at(&row, DamageKind::Rewritten, said).into());
        }
    }
    if witness.commits > book.commits {
        let said = format!(
            "{} commits were acknowledged, {} are here: checkpoints went back",
            witness.commits, book.commits
        );
        return Err(Damage::whole(book.tail, DamageKind::TornTail, said).into());
    }
    Ok(())
}

/// A path as the path of a URI.
fn escaped(path: &Path) -> String {
    let mut uri = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'?' | b'#' | b'%' | 0..=b' ' | 127.. => uri.push_str(&format!("%{byte:02X}")),
            byte => uri.push(char::from(*byte)),
        }
    }
    uri
}

/// A journal that is only read, also while a daemon writes it: for the command line.
pub struct ReadOnly {
    reader: Reader,
    directory: PathBuf,
}

impl std::fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadOnly({})", self.reader.path.display())
    }
}

impl ReadOnly {
    /// Opens the journal of a data directory, or a journal's database file itself (as from a backup).
    ///
    /// # Errors
    /// There is none, or it cannot be read; see [`JournalError`].
    pub fn open(path: &Path) -> Result<ReadOnly, JournalError> {
        let path = if path.is_dir() { database(path) } else { path.to_owned() };
        match path.metadata() {
            Ok(found) if found.len() == 0 => {
                let found = "it is empty, not even its header is there".to_owned();
                return Err(JournalError::Damaged { path, found, seq: None });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(JournalError::Missing { path });
            }
            Err(error) => return Err(JournalError::from_io(&path, &error)),
        }
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(ReadOnly { reader: Reader::open(&path)?, directory })
    }

    /// See [`crate::Journal::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.reader.read(from_seq, limit)
    }

    /// See [`crate::Journal::read_shard`].
    ///
    /// # Errors
    /// As there.
    pub fn read_shard(
        &self,
        shard: u8,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.reader.read_shard(shard, from, limit)
    }

    /// See [`crate::Journal::find`].
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError> {
        self.reader.find(event_id)
    }

    /// See [`crate::Journal::tail`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self) -> Result<u64, JournalError> {
        Ok(self.reader.book()?.tail)
    }

    /// See [`crate::Journal::first_seq`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first_seq(&self) -> Result<u64, JournalError> {
        Ok(self.reader.book()?.first_seq)
    }

    /// See [`crate::Journal::checkpoints`].
    ///
    /// # Errors
    /// As there.
    pub fn checkpoints(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        self.reader.checkpoints(prefix, false)
    }

    /// See [`crate::Journal::snapshot_get`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError> {
        self.reader.snapshot_get()
    }

    /// See [`crate::Journal::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<Report, JournalError> {
        let witness = disk::witness(&witness_path(&self.directory))?;
        self.reader.verify(witness)
    }

    /// See [`crate::Journal::export`].
    ///
    /// # Errors
    /// As there.
    pub fn export(&self, from_seq: u64, out: &mut dyn Write) -> Result<u64, JournalError> {
        self.reader.export(from_seq, out)
    }
}
