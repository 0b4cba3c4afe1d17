//! How the core's events and decisions stand in the journal, and how the state is folded from it.
//!
//! An event is durable before the core sees it; the acts and messages it leads to (decisions) are
//! durable before a performer sees them. So after a crash an act without a decision record has
//! certainly not begun, and one with a record but without an outcome may have: it is verified.

use std::collections::BTreeMap;

use daruma_alert::{Core, Effect, Event, RESTARTED, State, group_of};
use daruma_journal::{Body, Journal, JournalError, NewEvent, SHARDS};
use daruma_model::{ActionEnd, ActionOutcome, ActionRequest, Time};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

/// The form of the records' bodies. A change of form gets a new number; old ones stay readable.
const VERSION: u32 = 1;
/// Under this prefix stand the kinds of decisions.
const DECIDED: &str = "decided.";

#[derive(Serialize, Deserialize)]
struct EventBody<E> {
    v: u32,
    event: E,
}

#[derive(Serialize, Deserialize)]
struct DecisionBody<E> {
    v: u32,
    effect: E,
}

/// The state at rest.
#[derive(Serialize, Deserialize)]
struct SnapshotBody<S> {
    v: u32,
    state: S,
}

/// Why the state cannot be folded from the journal.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record is whole, but not of a form this program knows.
    #[error(
        "journal record {seq} ({kind}) is not of a form this program knows: {why}; was it written by a newer daruma?"
    )]
    Form {
        /// Which record.
        seq: u64,
        /// Its kind.
        kind: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Makes ids that no other run of the program makes.
pub struct Ids {
    boot: String,
    count: u64,
}

impl Ids {
    /// `tail` is the journal's end at the start: no two runs that wrote anything share it.
    #[must_use]
    pub fn new(tail: u64, now: Time) -> Ids {
        Ids { boot: format!("{tail:x}-{:x}-{:x}", now.0, std::process::id()), count: 0 }
    }

    fn next(&mut self) -> String {
        self.count += 1;
        format!("{}-{:x}", self.boot, self.count)
    }

    /// An event's record.
    ///
    /// # Errors
    /// It cannot be written as JSON (never, for events the program makes).
    pub fn event(
        &mut self,
        core: &Core,
        now: Time,
        event: &Event,
    ) -> Result<NewEvent, serde_json::Error> {
        let body = Body::of(&EventBody { v: VERSION, event })?;
        Ok(NewEvent {
            shard: shard(&group(core.state(), event)),
            kind: event.kind().to_owned(),
            event_id: self.next(),
            at: now,
            body,
        })
    }

    /// A decision's record; `None` for effects that only ask to look.
    ///
    /// # Errors
    /// As [`Ids::event`].
    pub fn decision(
        &mut self,
        core: &Core,
        now: Time,
        effect: &Effect,
    ) -> Result<Option<NewEvent>, serde_json::Error> {
        let (kind, incident) = match effect {
            Effect::Act(request) => ("act", request.id.incident),
            Effect::Send { message, .. } => ("send", message.incident),
            Effect::Abort(_) | Effect::Watch(_) | Effect::Unwatch(_) => return Ok(None),
        };
        let body = Body::of(&DecisionBody { v: VERSION, effect })?;
        Ok(Some(NewEvent {
            shard: shard(&incident_group(core.state(), incident)),
            kind: format!("{DECIDED}{kind}"),
            event_id: self.next(),
            at: now,
            body,
        }))
    }
}

/// FNV-1a over the group's name.
fn shard(group: &str) -> u8 {
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u8::try_from(hash % u64::from(SHARDS)).unwrap_or(0)
}

fn incident_group(state: &State, incident: u64) -> String {
    state.incidents.get(&incident).map_or_else(String::new, |incident| incident.group.clone())
}

/// What an event is about, so that an incident and all that belongs to it share a shard.
fn group(state: &State, event: &Event) -> String {
    use daruma_alert::Command::{Abort, Ack};
    match event {
        Event::Found(finding) => group_of(&finding.labels),
        Event::Acted(outcome) => incident_group(state, outcome.id.incident),
        Event::Attempted(attempt) => match state.outbox.get(&attempt.message) {
            Some(out) => incident_group(state, out.message.incident),
            None => String::new(),
        },
        Event::Observed(seen) => {
            let watching = |r: &&daruma_alert::Recovery| {
                r.watch.as_ref().is_some_and(|watch| watch.id == seen.watch)
            };
            let recovery = state.recoveries.values().find(watching);
            recovery.map_or_else(String::new, |r| incident_group(state, r.incident))
        }
        Event::Commanded { command: Ack { incident, .. } | Abort { incident }, .. } => {
            incident_group(state, *incident)
        }
        Event::Policy(_)
        | Event::Started
        | Event::Source(_)
        | Event::Posted(_)
        | Event::Reposted { .. }
        | Event::Commanded { .. }
        | Event::Tick => String::new(),
    }
}

/// The state at the end of the journal.
pub struct Replayed {
    /// With everything the journal tells.
    pub core: Core,
    /// Acts that were decided by the core but have no decision record: they have not begun.
    pub never_begun: Vec<ActionRequest>,
    /// The last record folded in.
    pub tail: u64,
    /// Records folded in after the snapshot.
    pub records: u64,
}

impl Replayed {
    /// What the core must hear before [`Event::Started`].
    #[must_use]
    pub fn corrections(&self, now: Time) -> Vec<Event> {
        let outcome = |request: &ActionRequest| ActionOutcome {
            id: request.id.clone(),
            end: ActionEnd::NotStarted(RESTARTED.to_owned()),
            started: now,
            ended: now,
            output: String::new(),
        };
        self.never_begun.iter().map(|request| Event::Acted(outcome(request))).collect()
    }
}

/// A source of records: the open journal, or a read-only one.
pub trait Records {
    /// The newest good snapshot: the seq it stands for, and its bytes.
    ///
    /// # Errors
    /// The journal cannot be read.
    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, JournalError>;
    /// Records from `from` on, in order; empty at the end.
    ///
    /// # Errors
    /// The journal cannot be read, or a record is damaged.
    fn read(&self, from: u64) -> Result<Vec<daruma_journal::Event>, JournalError>;
}

const READ: usize = 2_000;

impl Records for Journal {
    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        Ok(self.snapshot_get()?.map(|snapshot| (snapshot.seq, snapshot.bytes)))
    }

    fn read(&self, from: u64) -> Result<Vec<daruma_journal::Event>, JournalError> {
        Journal::read(self, from, READ)
    }
}

impl Records for daruma_journal::ReadOnly {
    fn snapshot(&self) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        Ok(self.snapshot_get()?.map(|snapshot| (snapshot.seq, snapshot.bytes)))
    }

    fn read(&self, from: u64) -> Result<Vec<daruma_journal::Event>, JournalError> {
        daruma_journal::ReadOnly::read(self, from, READ)
    }
}

/// Folds the journal into a state.
///
/// # Errors
/// The journal cannot be read, or holds a record of an unknown form.
pub fn replay(journal: &impl Records) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed { core: Core::new(), never_begun: Vec::new(), tail: 0, records: 0 };
    if let Some((seq, bytes)) = journal.snapshot()? {
        // A snapshot of an older form is no loss: the events before it may still be there.
        match unpacked(&bytes) {
            Ok(state) => {
                replayed.core = Core::from_state(state);
                replayed.tail = seq;
            }
            Err(why) => {
                let (kind, why) = ("snapshot".to_owned(), why.to_string());
                return Err(ReplayError::Form { seq, kind, why });
            }
        }
    }
    let mut undecided: BTreeMap<u64, ActionRequest> = BTreeMap::new();
    loop {
        let records = journal.read(replayed.tail + 1)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            replayed.tail = record.seq;
            replayed.records += 1;
            let form = |why: serde_json::Error| ReplayError::Form {
                seq: record.seq,
                kind: record.kind.clone(),
                why: why.to_string(),
            };
            let body = record.body;
            if record.kind.starts_with(DECIDED) {
                let decision: DecisionBody<Effect> = serde_json::from_value(body).map_err(form)?;
                if let Effect::Act(request) = decision.effect {
                    undecided.remove(&request.id.fence);
                }
            } else {
                let event: EventBody<Event> = serde_json::from_value(body).map_err(form)?;
                for effect in replayed.core.step(record.at, &event.event) {
                    if let Effect::Act(request) = effect {
                        undecided.insert(request.id.fence, request);
                    }
                }
            }
        }
    }
    // An act whose outcome is in the journal is no longer in question.
    let at_work = |request: &ActionRequest| {
        replayed.core.state().recoveries.values().any(|recovery| {
            matches!(&recovery.phase, daruma_alert::Phase::Acting { action, .. } if *action == request.id)
        })
    };
    replayed.never_begun = undecided.into_values().filter(at_work).collect();
    Ok(replayed)
}

/// The state as bytes for a snapshot: JSON in gzip, since a hundred thousand alerts say much the same.
///
/// # Errors
/// It cannot be written as JSON.
pub fn snapshot(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let packer = GzEncoder::new(Vec::new(), Compression::fast());
    let mut out = std::io::BufWriter::with_capacity(64 << 10, packer);
    serde_json::to_writer(&mut out, &SnapshotBody { v: VERSION, state })?;
    let packer = out.into_inner().map_err(|error| serde_json::Error::io(error.into_error()))?;
    packer.finish().map_err(serde_json::Error::io)
}

/// A snapshot's state; the first ones were plain JSON.
fn unpacked(bytes: &[u8]) -> Result<State, serde_json::Error> {
    let body: SnapshotBody<State> = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => serde_json::from_reader(std::io::BufReader::new(GzDecoder::new(bytes)))?,
        false => serde_json::from_slice(bytes)?,
    };
    Ok(body.state)
}
