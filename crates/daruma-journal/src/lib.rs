//! The journal: one durable, ordered record of everything the control plane accepted, decided and
//! learned. State is a fold over it; nothing else is the truth.
//!
//! It stands apart because every other promise rests on it: an answer "done" is given only after
//! the events behind it are on disk ([`Appended::Committed`]), so that a `kill -9` or a power cut at
//! any instant takes nothing back that somebody was told.
//!
//! - [`Journal`] is the handle all code uses; [`Backend`] is the contract a backend meets:
//!   [`sqlite`] (embedded, files) and [`memory`] (simulator and tests, with faults on demand).
//!   One test suite runs against every backend.
//! - Events are chained by SHA-256 per shard ([`chain`]): a hole, a flipped bit, a rewritten past or
//!   a torn tail is named by sequence number at the next read.
//! - [`ReadOnly`] reads, verifies and exports beside a running daemon.
//!
//! What never happens here: a decision, a wall clock (events carry their own time), a silent repair,
//! an acknowledgement before the disk has said yes.

pub mod chain;
mod disk;
mod error;
mod event;
mod journal;
pub mod memory;
pub mod sqlite;

pub use chain::{Damage, DamageKind, Head, Report};
pub use error::JournalError;
pub use event::{Body, Event, NewEvent, hex};
pub use journal::{
    Appended, Backend, Batch, Expected, HealthState, Job, Journal, JournalHealth, Reply, Snapshot,
    Work,
};
pub use memory::Memory;
pub use sqlite::{Options, ReadOnly};

/// Shards, fixed from day one: moving to a cluster is a copy of the journal, not a re-hash.
pub const SHARDS: u8 = 64;
/// Events in one batch, and the events one transaction gathers, at most.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of one event's body as JSON text, at most.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of one batch, bodies and checkpoints together, at most.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Bytes of an event's kind, at most.
pub const KIND_BYTES_MAX: usize = 64;
/// Bytes of an event's id, at most.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Bytes of a checkpoint's name, at most.
pub const CHECKPOINT_NAME_BYTES_MAX: usize = 4_096;
/// Bytes of one snapshot, at most.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// Kibibytes that may wait in the queue of a journal; who brings more waits for room.
pub const QUEUE_KIB_MAX: usize = 64 << 10;
/// Events one read returns, at most; ask again from the last one.
pub const READ_EVENTS_MAX: usize = 10_000;
/// Body bytes after which a read returns what it has, so that one answer stays small.
pub const READ_BYTES_MAX: usize = 32 << 20;
