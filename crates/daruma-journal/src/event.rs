//! One event: as it is brought, as it is kept, as it is read. Bounds and forms are checked here,
//! before anything reaches a backend.

use daruma_model::Time;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    BODY_BYTES_MAX, EVENT_ID_BYTES_MAX, JournalError, KIND_BYTES_MAX, SHARDS, chain::Damage,
    chain::DamageKind,
};

/// An event to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Below [`SHARDS`]; an incident, its alerts, recoveries and notifications share one.
    pub shard: u8,
    /// What happened, such as `alert.firing`: 1 to 64 bytes of `a-z`, `_` and `.`.
    pub kind: String,
    /// Unique in the journal, 1 to 128 printable ASCII bytes: how a writer finds its own event again
    /// after an unknown outcome. Ids that rise (a time or a counter first) are kept about twice as
    /// fast as random ones, which touch every page of their index.
    pub event_id: String,
    /// When it happened, by the journal's time.
    pub at: Time,
    /// A JSON object whose `v` is the version of its form (1 or more); at most 1 MiB as text.
    pub body: Body,
}

/// The body of an event to be recorded: JSON as text, written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(String);

impl Body {
    /// What is serialized becomes the text, without a value in between.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of(what: &impl Serialize) -> Result<Body, serde_json::Error> {
        serde_json::to_string(what).map(Body)
    }

    /// The JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Body {
        Body(value.to_string())
    }
}

/// Of a body, its version.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// An event as recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its place in the order over all shards, from 1, without gaps.
    pub seq: u64,
    /// Its shard.
    pub shard: u8,
    /// Its place in its shard, from 1, without gaps.
    pub shard_seq: u64,
    /// When it happened.
    #[serde(rename = "ts")]
    pub at: Time,
    /// What happened.
    pub kind: String,
    /// Unique in the journal.
    pub event_id: String,
    /// Which life of the owner wrote it: rises each time a journal is opened for writing.
    pub epoch: u64,
    /// The hash of the event before it in its shard; zeros for the first.
    #[serde(serialize_with = "as_hex")]
    pub prev_hash: [u8; 32],
    /// SHA-256 over all of the above but `seq`, and the body's exact text.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
    /// What is known about it, versioned by its member `v`.
    pub body: Value,
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

fn as_hex<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(hash))
}

/// A checked event whose body is the text that will be hashed and stored.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) shard: u8,
    pub(crate) kind: String,
    pub(crate) event_id: String,
    pub(crate) at: Time,
    pub(crate) body: String,
}

impl Draft {
    pub(crate) fn new(event: NewEvent) -> Result<Draft, JournalError> {
        let NewEvent { shard, kind, event_id, at, body } = event;
        let invalid = |what: String| Err(JournalError::Invalid { what });
        check_shard(shard)?;
        if kind.is_empty()
            || kind.len() > KIND_BYTES_MAX
            || !kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.')
        {
            let kind: String = kind.chars().take(80).collect();
            return invalid(format!("kind {kind:?} is not 1 to 64 bytes of a-z, _ and ."));
        }
        if event_id.is_empty()
            || event_id.len() > EVENT_ID_BYTES_MAX
            || !event_id.bytes().all(|b| b.is_ascii_graphic())
        {
            let id: String = event_id.chars().take(160).collect();
            return invalid(format!("event id {id:?} is not 1 to 128 printable ASCII bytes"));
        }
        let Body(body) = body;
        if serde_json::from_str::<Versioned>(&body).map_or(0, |body| body.v) == 0
            || !body.starts_with('{')
        {
            return invalid(format!("the body of {kind} has no version: `v` of 1 or more"));
        }
        if body.len() > BODY_BYTES_MAX {
            return invalid(format!("the body of {kind} has {} bytes, over 1 MiB", body.len()));
        }
        Ok(Draft { shard, kind, event_id, at, body })
    }
}

pub(crate) fn check_shard(shard: u8) -> Result<(), JournalError> {
    if shard < SHARDS {
        return Ok(());
    }
    Err(JournalError::Invalid { what: format!("shard {shard} is not below {SHARDS}") })
}

/// An event exactly as stored: the body is the text that was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place in the order over all shards.
    pub seq: u64,
    /// Shard.
    pub shard: u8,
    /// Place in the shard.
    pub shard_seq: u64,
    /// Milliseconds since 1970 UTC.
    pub ts: i64,
    /// What happened.
    pub kind: String,
    /// Unique in the journal.
    pub event_id: String,
    /// Life of the owner.
    pub epoch: u64,
    /// Hash of the event before it in its shard.
    pub prev_hash: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// JSON text.
    pub body: String,
}

impl Row {
    /// SHA-256 over the domain, the previous hash, the fixed-width fields and the length-prefixed
    /// texts, so that no two different events feed the same bytes. All numbers big-endian.
    #[must_use]
    pub fn computed_hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"daruma.journal.1");
        hasher.update(self.prev_hash);
        hasher.update([self.shard]);
        hasher.update(self.shard_seq.to_be_bytes());
        hasher.update(self.ts.to_be_bytes());
        hasher.update(self.epoch.to_be_bytes());
        for text in [&self.kind, &self.event_id, &self.body] {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().into()
    }

    pub(crate) fn into_event(self) -> Result<Event, Damage> {
        let body = serde_json::from_str(&self.body).map_err(|error| {
            let said = format!("its body is not JSON: {error}");
            Damage::at(&self, DamageKind::Unreadable, said)
        })?;
        let Row { seq, shard, shard_seq, ts, kind, event_id, epoch, prev_hash, hash, .. } = self;
        let at = Time(ts);
        Ok(Event { seq, shard, shard_seq, at, kind, event_id, epoch, prev_hash, hash, body })
    }

    /// One line of an export: the body stands in it exactly as it was hashed, so that a reader of
    /// the export alone can check the chain.
    pub(crate) fn json_line(&self) -> String {
        format!(
            "{{\"seq\":{},\"shard\":{},\"shard_seq\":{},\"ts\":{},\"kind\":{},\"event_id\":{},\
             \"epoch\":{},\"prev_hash\":\"{}\",\"hash\":\"{}\",\"body\":{}}}\n",
            self.seq,
            self.shard,
            self.shard_seq,
            self.ts,
            Value::from(self.kind.as_str()),
            Value::from(self.event_id.as_str()),
            self.epoch,
            hex(&self.prev_hash),
            hex(&self.hash),
            self.body
        )
    }
}
