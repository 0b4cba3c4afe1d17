//! The hash chain: how events follow one another in a shard, how the next ones are made, and how
//! anything that does not follow is named. Pure, and shared by every backend.
//!
//! Two orders are kept: `seq` over all shards has no gaps, and within a shard each event carries the
//! hash of the one before it. Beside the events stand the heads (the last event of each shard), so
//! that a tail that was cut off is missed, and the anchors (the last removed event of each shard),
//! so that the chain stays verifiable after old events were removed.

use std::collections::HashSet;
use std::fmt;

use crate::event::{Draft, Row, hex};
use crate::{Appended, Batch, SHARDS};

/// The last event of a shard: zeros for a shard that has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order over all shards.
    pub seq: u64,
    /// Its place in the shard.
    pub shard_seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Head {
    pub(crate) fn of(row: &Row) -> Head {
        Head { seq: row.seq, shard_seq: row.shard_seq, hash: row.hash }
    }
}

/// One [`Head`] for each shard.
pub(crate) type Heads = [Head; SHARDS as usize];

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// Events are missing in the middle.
    Hole,
    /// A record does not match its own hash.
    Flipped,
    /// A record matches its own hash, but not what its neighbours recorded about it.
    Rewritten,
    /// Acknowledged events are missing at the end.
    TornTail,
    /// A record cannot be read at all.
    Unreadable,
    /// The events are whole, but what is kept beside them (index, checkpoint, snapshot) is not.
    Beside,
}

/// The first bad record that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The record: for what is missing, the first missing one.
    pub seq: u64,
    /// Its shard, if it can be told.
    pub shard: Option<u8>,
    /// Its place in its shard, if it can be told.
    pub shard_seq: Option<u64>,
    /// What kind of damage.
    pub kind: DamageKind,
    /// What was found, for people.
    pub said: String,
}

impl Damage {
    pub(crate) fn at(row: &Row, kind: DamageKind, said: String) -> Damage {
        let (shard, shard_seq) = (Some(row.shard), Some(row.shard_seq));
        Damage { seq: row.seq, shard, shard_seq, kind, said }
    }

    pub(crate) fn whole(seq: u64, kind: DamageKind, said: String) -> Damage {
        Damage { seq, shard: None, shard_seq: None, kind, said }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            DamageKind::Hole => "hole",
            DamageKind::Flipped => "flipped bit",
            DamageKind::Rewritten => "rewritten past",
            DamageKind::TornTail => "torn tail",
            DamageKind::Unreadable => "unreadable",
            DamageKind::Beside => "beside the events",
        };
        write!(f, "event {}", self.seq)?;
        if let (Some(shard), Some(shard_seq)) = (self.shard, self.shard_seq) {
            write!(f, " (shard {shard}, {shard_seq})")?;
        }
        write!(f, ": {name}: {}", self.said)
    }
}

/// What a full check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were read and hashed.
    pub checked: u64,
    /// The first event kept.
    pub first_seq: u64,
    /// The last event; 0 in an empty journal.
    pub tail: u64,
    /// The first bad record; `None`: every event is whole and follows from the one before it.
    pub damage: Option<Damage>,
    /// What could not be checked, for people; empty when everything was.
    pub unchecked: Vec<String>,
}

/// Everything a backend must remember to make the next event.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) first_seq: u64,
    pub(crate) tail: u64,
    pub(crate) heads: Heads,
    /// The life that writes.
    pub(crate) epoch: u64,
}

impl Ledger {
    pub(crate) fn empty(epoch: u64) -> Ledger {
        Ledger { first_seq: 1, tail: 0, heads: [Head::default(); SHARDS as usize], epoch }
    }

    /// The hash of the last event over all shards.
    pub(crate) fn tail_hash(&self) -> [u8; 32] {
        self.heads.iter().find(|head| head.seq == self.tail).map_or([0; 32], |head| head.hash)
    }

    /// The shard whose head is not what the batch expects, and that head.
    pub(crate) fn conflict(&self, batch: &Batch) -> Option<Appended> {
        let (shard, head) = batch
            .expected
            .iter()
            .map(|(shard, shard_seq)| (*shard, *shard_seq, self.heads[usize::from(*shard)]))
            .find(|(_, shard_seq, head)| head.shard_seq != *shard_seq)
            .map(|(shard, _, head)| (shard, head))?;
        Some(Appended::Conflict { shard, head })
    }

    /// The stored form of the next event; the ledger moves on to it.
    pub(crate) fn chain(&mut self, draft: &Draft) -> Row {
        let head = &mut self.heads[usize::from(draft.shard)];
        let mut row = Row {
            seq: self.tail + 1,
            shard: draft.shard,
            shard_seq: head.shard_seq + 1,
            ts: draft.at.0,
            kind: draft.kind.clone(),
            event_id: draft.event_id.clone(),
            epoch: self.epoch,
            prev_hash: head.hash,
            hash: [0; 32],
            body: draft.body.clone(),
        };
        row.hash = row.computed_hash();
        *head = Head::of(&row);
        self.tail = row.seq;
        row
    }
}

/// The first event id that stands twice in a batch.
pub(crate) fn twice(drafts: &[Draft]) -> Option<&str> {
    let mut seen = HashSet::with_capacity(drafts.len());
    drafts.iter().map(|draft| draft.event_id.as_str()).find(|id| !seen.insert(*id))
}

/// Reads events in order and says where the first does not follow.
pub(crate) struct Verifier {
    /// The seq the next event must have.
    next: u64,
    /// The last event of each shard, as read so far; at first the anchors.
    last: Heads,
    witness: Option<Witness>,
    pub(crate) checked: u64,
}

/// What was noted about the journal's end outside of it, after it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Transactions committed.
    pub(crate) commits: u64,
    /// The last event.
    pub(crate) tail: u64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
}

impl Verifier {
    pub(crate) fn new(first_seq: u64, anchors: Heads, witness: Option<Witness>) -> Verifier {
        Verifier { next: first_seq, last: anchors, witness, checked: 0 }
    }

    /// Takes the next event in the order of `seq`.
    pub(crate) fn feed(&mut self, row: &Row) -> Result<(), Damage> {
        self.checked += 1;
        if row.seq > self.next {
            let said = format!("missing up to event {}", row.seq - 1);
            return Err(Damage::whole(self.next, DamageKind::Hole, said));
        }
        if row.seq < self.next {
            let said = format!("it stands before event {}, the first one kept", self.next);
            return Err(Damage::at(row, DamageKind::Rewritten, said));
        }
        check_own(row)?;
        let last = &mut self.last[usize::from(row.shard)];
        check_link(*last, row)?;
        *last = Head::of(row);
        self.next += 1;
        match self.witness {
            Some(witness) if witness.tail == row.seq && witness.hash != row.hash => {
                Err(Damage::at(
                    row,
                    DamageKind::Rewritten,
                    format!(
                        "{} was acknowledged here, {} stands here",
                        hex(&witness.hash[..8]),
                        hex(&row.hash[..8])
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Compares the end with the recorded heads, the number of commits and the witness.
    pub(crate) fn finish(&self, heads: &Heads, tail: u64, commits: u64) -> Result<(), Damage> {
        let ended = self.next - 1;
        if ended < tail {
            let said = format!("the journal ends here, {tail} was recorded as its last event");
            return Err(Damage::whole(self.next, DamageKind::TornTail, said));
        }
        if ended > tail {
            let said = format!("it stands after event {tail}, the recorded last one");
            return Err(Damage::whole(tail + 1, DamageKind::Rewritten, said));
        }
        for (shard, (last, head)) in (0..).zip(self.last.iter().zip(heads)) {
            if last != head {
                let said = format!(
                    "its shard ends with {}/{}, its recorded head is {}/{}",
                    last.shard_seq,
                    hex(&last.hash[..8]),
                    head.shard_seq,
                    hex(&head.hash[..8])
                );
                let (kind, seq) = if head.shard_seq > last.shard_seq {
                    (DamageKind::TornTail, head.seq)
                } else {
                    (DamageKind::Rewritten, last.seq)
                };
                let (shard, shard_seq) = (Some(shard), Some(last.shard_seq));
                return Err(Damage { seq, shard, shard_seq, kind, said });
            }
        }
        match self.witness {
            Some(witness) if witness.tail > tail => {
                let said = format!("events up to {} were acknowledged and are gone", witness.tail);
                Err(Damage::whole(tail + 1, DamageKind::TornTail, said))
            }
            Some(witness) if witness.commits > commits => {
                let said = format!(
                    "{} commits were acknowledged, {commits} are here: checkpoints went back",
                    witness.commits
                );
                Err(Damage::whole(tail, DamageKind::TornTail, said))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a record matches its own hash.
pub(crate) fn check_own(row: &Row) -> Result<(), Damage> {
    let computed = row.computed_hash();
    if computed == row.hash {
        return Ok(());
    }
    let said = format!(
        "its content hashes to {}, its recorded hash is {}",
        hex(&computed[..8]),
        hex(&row.hash[..8])
    );
    Err(Damage::at(row, DamageKind::Flipped, said))
}

/// Whether a record that matches its own hash follows `last`, the event before it in its shard.
pub(crate) fn check_link(last: Head, row: &Row) -> Result<(), Damage> {
    if row.shard_seq != last.shard_seq + 1 {
        let said = format!(
            "it is number {} of its shard, the one before it (event {}) is number {}",
            row.shard_seq, last.seq, last.shard_seq
        );
        return Err(Damage::at(row, DamageKind::Hole, said));
    }
    if row.prev_hash != last.hash {
        let said = format!(
            "event {} recorded {} as the hash before it, {} is there",
            row.seq,
            hex(&row.prev_hash[..8]),
            hex(&last.hash[..8])
        );
        // The later one matches its own hash and was written in the knowledge of the original: the
        // earlier one is what changed.
        return Err(Damage {
            seq: last.seq,
            shard: Some(row.shard),
            shard_seq: Some(last.shard_seq),
            kind: DamageKind::Rewritten,
            said,
        });
    }
    Ok(())
}

/// Checks what a read returns: like [`Verifier`], but from any place on.
pub(crate) struct Follow {
    order: Order,
    last: [Option<Head>; SHARDS as usize],
}

/// Which order a read goes by, and the number its next event must have there.
pub(crate) enum Order {
    /// All shards, by `seq`.
    All(u64),
    /// One shard, by `shard_seq`.
    Shard(u8, u64),
    /// A single event.
    One,
}

impl Follow {
    pub(crate) fn new(order: Order) -> Follow {
        Follow { order, last: [None; SHARDS as usize] }
    }

    /// `before` looks up the event with this number in this shard, or the shard's anchor.
    pub(crate) fn check<E: From<Damage>>(
        &mut self,
        row: &Row,
        before: impl FnOnce(u8, u64) -> Result<Option<Head>, E>,
    ) -> Result<(), E> {
        match &mut self.order {
            Order::All(next) if row.seq != *next => {
                let said = format!("missing up to event {}", row.seq.saturating_sub(1));
                return Err(Damage::whole(*next, DamageKind::Hole, said).into());
            }
            Order::Shard(_, next) if row.shard_seq != *next => {
                let said = format!("number {next} of its shard is missing before it");
                return Err(Damage::at(row, DamageKind::Hole, said).into());
            }
            Order::All(next) | Order::Shard(_, next) => *next += 1,
            Order::One => {}
        }
        check_own(row)?;
        let known = self.last[usize::from(row.shard)];
        let last = match known {
            Some(last) => last,
            None if row.shard_seq <= 1 => Head::default(),
            None => before(row.shard, row.shard_seq - 1)?.ok_or_else(|| {
                let said = format!("number {} of its shard is missing", row.shard_seq - 1);
                Damage::at(row, DamageKind::Hole, said)
            })?,
        };
        check_link(last, row)?;
        self.last[usize::from(row.shard)] = Some(Head::of(row));
        Ok(())
    }

    /// Called when there was nothing more to read: the events must reach the recorded end.
    pub(crate) fn ended(&self, tail: u64, heads: &Heads) -> Result<(), Damage> {
        match self.order {
            Order::All(next) if next <= tail => {
                let said = format!("the journal ends here, {tail} was recorded as its last event");
                Err(Damage::whole(next, DamageKind::TornTail, said))
            }
            Order::Shard(shard, next) if next <= heads[usize::from(shard)].shard_seq => {
                let head = heads[usize::from(shard)];
                let said =
                    format!("its shard ends at {}, {} is its head", next - 1, head.shard_seq);
                let (shard, shard_seq) = (Some(shard), Some(next));
                Err(Damage { seq: head.seq, shard, shard_seq, kind: DamageKind::TornTail, said })
            }
            _ => Ok(()),
        }
    }
}
