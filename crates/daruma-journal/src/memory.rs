//! The journal in memory, for the simulator and for tests of whoever writes to a journal: the same
//! contract, with faults on demand and a crash that keeps exactly what was synced.
//!
//! A [`Memory`] is the disk; [`Memory::journal`] starts a life on it, which ends the one before, as a
//! restart does. Writes are answered in the calling thread, unless they are held.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chain::{
    Damage, DamageKind, Follow, Head, Heads, Ledger, Order, Report, Verifier, Witness,
};
pub use crate::event::Row;
use crate::journal::{
    Appended, Backend, Batch, HealthState, Job, Journal, JournalHealth, Snapshot, Work,
};
use crate::{Event, JournalError, READ_BYTES_MAX, READ_EVENTS_MAX, SHARDS};

/// What the next append meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused before anything was durable.
    Refused,
    /// Refused because the disk is full.
    Full,
    /// Answered `Unknown`; it was not kept.
    UnknownLost,
    /// Answered `Unknown`; it was kept.
    UnknownKept,
}

#[derive(Debug)]
struct Disk {
    rows: Vec<Row>,
    ledger: Ledger,
    anchors: Heads,
    checkpoints: BTreeMap<String, Vec<u8>>,
    /// Bytes and hash by seq.
    snapshots: BTreeMap<u64, (Vec<u8>, [u8; 32])>,
    commits: u64,
    epoch_kept: u64,
    life: u64,
    faults: VecDeque<Fault>,
    held: bool,
    waiting: VecDeque<Job>,
    health: JournalHealth,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

/// Runs once nothing is locked any more.
type Answer = Box<dyn FnOnce() + Send>;

impl Memory {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Memory {
        let disk = Disk {
            rows: Vec::new(),
            ledger: Ledger::empty(0),
            anchors: [Head::default(); SHARDS as usize],
            checkpoints: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            commits: 0,
            epoch_kept: 0,
            life: 0,
            faults: VecDeque::new(),
            held: false,
            waiting: VecDeque::new(),
            health: JournalHealth::default(),
        };
        Memory { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Starts the next life on this disk; handles of the one before are closed.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.crash();
        let mut disk = self.lock();
        disk.ledger.epoch = disk.epoch_kept + 1;
        disk.health = JournalHealth { created: disk.commits == 0, ..JournalHealth::default() };
        let life = disk.life;
        drop(disk);
        Journal::of(Arc::new(Life { memory: self.clone(), life }))
    }

    /// The power goes: what was not synced is gone, open handles are closed, waiting appends read
    /// as unknown.
    pub fn crash(&self) {
        let mut disk = self.lock();
        disk.life += 1;
        disk.held = false;
        let lost = std::mem::take(&mut disk.waiting);
        drop(disk);
        drop(lost);
    }

    /// Faults the next appends meet, one each, in order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// From now on writes are taken and neither synced nor answered. (A blocking append would wait
    /// for ever: use the async one.)
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Syncs and answers all that is held, and holds no more. Returns how many writes that were.
    pub fn sync(&self) -> usize {
        let mut disk = self.lock();
        disk.held = false;
        let waiting = std::mem::take(&mut disk.waiting);
        let answers: Vec<Answer> =
            waiting.into_iter().map(|Job { work, room }| disk.apply(work, room)).collect();
        drop(disk);
        let count = answers.len();
        answers.into_iter().for_each(|answer| answer());
        count
    }

    /// Damages what is on the disk.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<Row>)) {
        change(&mut self.lock().rows);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // No code here can panic half-way through a change of the disk.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn apply(&mut self, work: Work, room: tokio::sync::OwnedSemaphorePermit) -> Answer {
        match work {
            Work::Append(batch, reply) => {
                let answer = self.append(batch);
                self.health.state = match answer {
                    Err(JournalError::Full { .. }) => HealthState::Full,
                    Ok(Appended::Unknown { .. }) | Err(JournalError::Io { .. }) => {
                        HealthState::Failing
                    }
                    _ => HealthState::Well,
                };
                self.health.said =
                    answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
                Box::new(move || {
                    drop(room);
                    reply(answer);
                })
            }
            Work::Snapshot(seq, bytes, reply) => {
                let answer = self.snapshot(seq, bytes);
                Box::new(move || {
                    drop(room);
                    reply(answer);
                })
            }
            Work::Truncate(before, reply) => {
                let answer = self.truncate(before);
                Box::new(move || {
                    drop(room);
                    reply(Ok(answer));
                })
            }
        }
    }

    fn append(&mut self, batch: Batch) -> Result<Appended, JournalError> {
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::Refused) => {
                let found = "injected: the disk refused".to_owned();
                return Err(JournalError::Io { path: place(), found });
            }
            Some(Fault::Full) => {
                let found = "injected".to_owned();
                return Err(JournalError::Full { path: place(), found });
            }
            Some(Fault::UnknownLost) => {
                return Ok(Appended::Unknown { said: "injected".to_owned() });
            }
            Some(Fault::UnknownKept) | None => {}
        }
        if let Some(conflict) = self.ledger.conflict(&batch) {
            return Ok(conflict);
        }
        for draft in &batch.drafts {
            if let Some(row) = self.rows.iter().find(|row| row.event_id == draft.event_id) {
                let event_id = draft.event_id.clone();
                return Err(JournalError::Duplicate { event_id, seq: row.seq });
            }
        }
        let first_seq = self.ledger.tail + 1;
        for draft in &batch.drafts {
            let row = self.ledger.chain(draft);
            self.rows.push(row);
        }
        for (name, bytes) in batch.checkpoints {
            if bytes.is_empty() {
                self.checkpoints.remove(&name);
            } else {
                self.checkpoints.insert(name, bytes);
            }
        }
        self.commits += 1;
        self.epoch_kept = self.ledger.epoch;
        self.health.appended += batch.drafts.len() as u64;
        if fault == Some(Fault::UnknownKept) {
            return Ok(Appended::Unknown { said: "injected".to_owned() });
        }
        Ok(Appended::Committed { first_seq, last_seq: self.ledger.tail })
    }

    fn snapshot(&mut self, seq: u64, bytes: Vec<u8>) -> Result<(), JournalError> {
        if seq > self.ledger.tail {
            let what = format!("a snapshot of event {seq}, after the tail {}", self.ledger.tail);
            return Err(JournalError::Invalid { what });
        }
        let hash = Snapshot::hash_of(seq, &bytes);
        self.snapshots.insert(seq, (bytes, hash));
        while self.snapshots.len() > 2 {
            self.snapshots.pop_first();
        }
        self.commits += 1;
        Ok(())
    }

    fn truncate(&mut self, before: u64) -> u64 {
        let needed = self.snapshots.keys().next().map_or(1, |oldest| oldest + 1);
        let before = before.min(needed).max(self.ledger.first_seq);
        let anchors = &mut self.anchors;
        self.rows.retain(|row| {
            if row.seq < before {
                anchors[usize::from(row.shard)] = Head::of(row);
            }
            row.seq >= before
        });
        self.ledger.first_seq = before;
        self.commits += 1;
        before
    }

    /// Checks and converts what a read found.
    fn checked<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let limit = limit.min(READ_EVENTS_MAX);
        let mut follow = Follow::new(order);
        let (mut events, mut bytes) = (Vec::new(), 0);
        for row in rows {
            if events.len() == limit || bytes > READ_BYTES_MAX {
                return Ok(events);
            }
            follow.check(row, |shard, number| self.before(shard, number)).map_err(damaged)?;
            bytes += row.body.len();
            events.push(row.clone().into_event().map_err(damaged)?);
        }
        if limit > 0 {
            follow.ended(self.ledger.tail, &self.ledger.heads).map_err(damaged)?;
        }
        Ok(events)
    }

    /// The event with this number in this shard, or the shard's anchor.
    fn before(&self, shard: u8, number: u64) -> Result<Option<Head>, Damage> {
        let row = self.rows.iter().find(|row| row.shard == shard && row.shard_seq == number);
        let anchor = self.anchors[usize::from(shard)];
        let anchor = (anchor.shard_seq == number).then_some(anchor);
        Ok(row.map(Head::of).or(anchor))
    }

    fn start(&self, from_seq: u64) -> Result<u64, JournalError> {
        let first_seq = self.ledger.first_seq;
        match from_seq {
            0 => Ok(first_seq),
            asked if asked < first_seq => Err(JournalError::Truncated { asked, first_seq }),
            asked => Ok(asked),
        }
    }

    /// The order a database would read them in.
    fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.seq);
        rows
    }
}

fn place() -> PathBuf {
    PathBuf::from("memory")
}

fn damaged(damage: Damage) -> JournalError {
    JournalError::Damaged { path: place(), seq: Some(damage.seq), found: damage.to_string() }
}

/// One life on the disk.
struct Life {
    memory: Memory,
    life: u64,
}

impl Life {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, JournalError> {
        let disk = self.memory.lock();
        if disk.life == self.life { Ok(disk) } else { Err(JournalError::Closed) }
    }
}

impl Backend for Life {
    fn submit(&self, job: Job) {
        let answer: Answer = match self.disk() {
            Err(error) => Box::new(move || job.work.refuse(error)),
            Ok(mut disk) if disk.held => {
                disk.waiting.push_back(job);
                return;
            }
            Ok(mut disk) => disk.apply(job.work, job.room),
        };
        answer();
    }

    fn read(&self, from_seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        let disk = self.disk()?;
        let from = disk.start(from_seq)?;
        let rows = disk.sorted();
        let skip = rows.partition_point(|row| row.seq < from);
        disk.checked(rows[skip..].iter().copied(), Order::All(from), limit)
    }

    fn read_shard(&self, shard: u8, from: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        let disk = self.disk()?;
        let kept = disk.anchors[usize::from(shard)].shard_seq + 1;
        if from > 0 && from < kept {
            return Err(JournalError::Truncated { asked: from, first_seq: kept });
        }
        let mut rows: Vec<&Row> =
            disk.rows.iter().filter(|row| row.shard == shard && row.shard_seq >= from).collect();
        rows.sort_by_key(|row| row.shard_seq);
        disk.checked(rows.into_iter(), Order::Shard(shard, from.max(kept)), limit)
    }

    fn find(&self, event_id: &str) -> Result<Option<Event>, JournalError> {
        let disk = self.disk()?;
        let found = disk.rows.iter().filter(|row| row.event_id == event_id);
        Ok(disk.checked(found, Order::One, 1)?.pop())
    }

    fn tail(&self) -> Result<u64, JournalError> {
        Ok(self.disk()?.ledger.tail)
    }

    fn first_seq(&self) -> Result<u64, JournalError> {
        Ok(self.disk()?.ledger.first_seq)
    }

    fn head(&self, shard: u8) -> Result<Head, JournalError> {
        Ok(self.disk()?.ledger.heads[usize::from(shard)])
    }

    fn checkpoint_get(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.disk()?.checkpoints.get(name).cloned())
    }

    fn checkpoints(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        let disk = self.disk()?;
        let from = disk.checkpoints.range(prefix.to_owned()..);
        let found = from.take_while(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, bytes)| (name.clone(), bytes.clone())).collect())
    }

    fn snapshot_get(&self) -> Result<Option<Snapshot>, JournalError> {
        let disk = self.disk()?;
        let newest_first = disk.snapshots.iter().rev();
        newest_snapshot(newest_first.map(|(seq, (bytes, hash))| (*seq, bytes.clone(), *hash)))
            .map_err(damaged)
    }

    fn verify(&self) -> Result<Report, JournalError> {
        let disk = self.disk()?;
        let Ledger { first_seq, tail, heads, .. } = &disk.ledger;
        let witness = Witness { commits: disk.commits, tail: *tail, hash: disk.ledger.tail_hash() };
        let mut verifier = Verifier::new(*first_seq, disk.anchors, Some(witness));
        let damage = disk
            .sorted()
            .into_iter()
            .try_for_each(|row| {
                verifier.feed(row)?;
                row.clone().into_event().map(drop)
            })
            .and_then(|()| verifier.finish(heads, *tail, disk.commits))
            .err();
        let (first_seq, tail, checked) = (*first_seq, *tail, verifier.checked);
        Ok(Report { checked, first_seq, tail, damage, unchecked: Vec::new() })
    }

    fn export(&self, from_seq: u64, out: &mut dyn Write) -> Result<u64, JournalError> {
        let disk = self.disk()?;
        let from = disk.start(from_seq)?;
        let mut follow = Follow::new(Order::All(from));
        let mut written = 0;
        for row in disk.sorted().into_iter().filter(|row| row.seq >= from) {
            follow.check(row, |shard, number| disk.before(shard, number)).map_err(damaged)?;
            out.write_all(row.json_line().as_bytes())
                .map_err(|error| JournalError::from_io(Path::new("the export"), &error))?;
            written += 1;
        }
        follow.ended(disk.ledger.tail, &disk.ledger.heads).map_err(damaged)?;
        Ok(written)
    }

    fn epoch(&self) -> u64 {
        self.memory.lock().ledger.epoch
    }

    fn health(&self) -> JournalHealth {
        let disk = self.memory.lock();
        JournalHealth { queue_len: disk.waiting.len(), ..disk.health.clone() }
    }
}

/// The first of the snapshots, newest first, that matches its hash.
pub(crate) fn newest_snapshot(
    snapshots: impl Iterator<Item = (u64, Vec<u8>, [u8; 32])>,
) -> Result<Option<Snapshot>, Damage> {
    let mut damaged = Vec::new();
    for (seq, bytes, hash) in snapshots {
        if Snapshot::hash_of(seq, &bytes) == hash {
            return Ok(Some(Snapshot { seq, bytes, hash, damaged }));
        }
        damaged.push(seq);
    }
    match damaged.first() {
        None => Ok(None),
        Some(seq) => {
            let said = format!("none of the snapshots ({damaged:?}) matches its hash");
            Err(Damage::whole(*seq, DamageKind::Beside, said))
        }
    }
}
