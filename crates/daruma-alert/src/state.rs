//! What the core knows: a fold over its events, and nothing else. Serializable, for snapshots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use daruma_model::{
    ActionId, ActionOutcome, Attempt, Evidence, Finding, Labels, Level, Matchers, Message,
    SourceHealth, Time, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::{Escalate, Policy, Watch};

/// Entries a timeline keeps; older ones in the middle are dropped and counted.
pub(crate) const TIMELINE_MAX: usize = 400;
/// Resolved incidents kept in memory; the journal has them all.
pub(crate) const RESOLVED_MAX: usize = 200;
/// Finished messages kept in memory; the journal has them all.
pub(crate) const SENT_MAX: usize = 500;
/// How long an ended silence is remembered, and how many at most.
pub(crate) const ENDED_SILENCE: daruma_model::Span = daruma_model::Span::hours(24 * 5);
/// See [`ENDED_SILENCE`].
pub(crate) const ENDED_SILENCES_MAX: usize = 1_000;
/// Used links remembered; one more is not taken.
pub(crate) const USED_LINKS_MAX: usize = 10_000;
/// Alerts kept at once; one more is refused and counted.
pub(crate) const ALERTS_MAX: usize = 200_000;

/// Everything the core knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The rules in force.
    pub policy: Policy,
    /// By rule and labels.
    pub alerts: BTreeMap<String, Alert>,
    /// Open ones and the last resolved ones, by id.
    pub incidents: BTreeMap<u64, Incident>,
    /// By runbook and target.
    pub recoveries: BTreeMap<String, Recovery>,
    /// By id.
    pub holds: BTreeMap<u64, Hold>,
    /// By id.
    pub silences: BTreeMap<u64, Silence>,
    /// Silences that ended within the last days, by id.
    #[serde(default)]
    pub ended_silences: BTreeMap<u64, Silence>,
    /// What was posted, in its groups.
    #[serde(default)]
    pub dispatch: crate::Dispatch,
    /// Messages on their way and the last finished ones, by id.
    pub outbox: BTreeMap<u64, Outgoing>,
    /// By receiver: what is gathered for its next digest.
    #[serde(default)]
    pub digests: BTreeMap<String, Gathered>,
    /// Links of messages that were used, by their digest, until they would have run out.
    #[serde(default)]
    pub used_links: BTreeMap<String, UsedLink>,
    /// By runbook.
    pub breakers: BTreeMap<String, Breaker>,
    /// When actions were started, newest last; bounded by the budget's window and 1,000.
    pub acts: VecDeque<ActRecord>,
    /// Acts whose end nobody knows and which may be at work still, by fence.
    #[serde(default)]
    pub loose: BTreeMap<u64, LooseAct>,
    /// By incident: a person is to be called as soon as nothing mutes it.
    #[serde(default)]
    pub calls: BTreeMap<u64, Call>,
    /// By target: until when it is left alone after a recovery that helped.
    pub cooldowns: BTreeMap<String, Time>,
    /// By source.
    pub sources: BTreeMap<String, SourceHealth>,
    /// Why no action may start, if the global stop is on.
    pub stopped: Option<String>,
    /// The last id given to anything.
    pub last_id: u64,
    /// The fence of the last act.
    pub last_fence: u64,
    /// The last `now`: time never goes back.
    pub now: Time,
    /// Alerts refused because of the bound.
    pub alerts_refused: u64,
    /// Ends of incidents, and of them those by a recovery, since the first start; what flaps ends often.
    pub resolved_total: u64,
    /// See [`State::resolved_total`].
    pub healed_total: u64,
}

/// One started action, for budgets, attempts and cooldowns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActRecord {
    /// When it was decided.
    pub at: Time,
    /// By which runbook.
    pub runbook: String,
    /// On what.
    pub target: String,
}

/// An act that was at work when the monitor, or its runbook, went away: programs outlive both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LooseAct {
    /// By which runbook.
    pub runbook: String,
    /// On what.
    pub target: String,
    /// Of which service, or `""`.
    pub service: String,
    /// When its time is up.
    pub until: Time,
}

/// A call for a person that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// About which alert.
    pub alert: String,
    /// Whom, and how grave it is.
    pub escalate: Escalate,
    /// Whether the story says already why nobody was called.
    pub said: bool,
}

/// The one use of a link by which an incident was taken on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedLink {
    /// When.
    pub at: Time,
    /// Who, as far as it is known.
    pub by: String,
    /// Which incident.
    pub incident: u64,
    /// When it would have run out.
    pub expires: Time,
    /// Which use it was.
    pub nonce: String,
}

/// What is gathered for a receiver's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    /// When it is told.
    pub due: Time,
    /// By labels.
    pub alerts: BTreeMap<String, GatheredAlert>,
    /// Alerts that found no room.
    pub left_out: u64,
}

/// One alert of a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatheredAlert {
    /// Which.
    pub labels: Labels,
    /// Human text.
    pub annotations: Labels,
    /// When it began last.
    pub starts_at: Time,
    /// How often it began since the digest before.
    pub times: u32,
    /// Whether a digest said already that it fires.
    pub told: bool,
}

/// How far an incident has climbed a chain of people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// Which chain.
    pub escalation: String,
    /// From when its deadlines count.
    pub since: Time,
    /// The next step, from 0.
    pub step: usize,
    /// When it is due.
    pub at: Time,
    /// Whether somebody looked after it for a while already.
    #[serde(default)]
    pub again: bool,
}

/// Where an alert stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Holds, but not yet for as long as its rule's `for`.
    Pending,
    /// Holds, or nothing has shown yet that it does not.
    Firing,
    /// Positive evidence ended it.
    Resolved,
}

/// A rule and a label set, with a life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Under which it is kept: rule and labels.
    pub key: String,
    /// The newest finding.
    pub finding: Finding,
    /// Where it stands.
    pub state: AlertState,
    /// Since when it holds without a break.
    pub active_at: Time,
    /// When it began to fire.
    pub fired_at: Option<Time>,
    /// When evidence first said it is over, while `keep_firing_for` runs.
    pub clear_since: Option<Time>,
    /// When it was resolved.
    pub resolved_at: Option<Time>,
    /// The incident it belongs to, once it fires.
    pub incident: Option<u64>,
}

impl Alert {
    /// The service it speaks of, or `""`.
    #[must_use]
    pub fn service(&self) -> &str {
        self.finding.labels.get("service")
    }

    /// Whether evidence says, now, that something is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state != AlertState::Resolved
            && self.clear_since.is_none()
            && self.finding.verdict == Verdict::Holds
    }
}

/// What a timeline entry is about; each has its own mark on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A rule began to hold.
    Detected,
    /// Enough fresh witnesses agreed.
    Confirmed,
    /// An act was decided, or decided against.
    Decided,
    /// An act ended.
    Acted,
    /// Fresh evidence proved or disproved the repair.
    Verified,
    /// A message was accepted, refused or is late.
    Told,
    /// A person is needed.
    Escalated,
    /// Evidence went missing.
    Unknown,
    /// A person or script did something.
    Person,
    /// It is over.
    Resolved,
}

/// One line of an incident's story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// What about.
    pub kind: EntryKind,
    /// One sentence.
    pub text: String,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// More, such as the output of an action or a vendor's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a person or a runbook handles: alerts that belong together, with one timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: u64,
    /// What its alerts have in common, e.g. `service web`.
    pub group: String,
    /// One line: the first alert's summary or name.
    pub title: String,
    /// The gravest level of its alerts.
    pub level: Level,
    /// When it opened.
    pub opened: Time,
    /// When it ended.
    pub resolved: Option<Time>,
    /// Whether a recovery ended it.
    pub healed: bool,
    /// Keys of its alerts.
    pub alerts: BTreeSet<String>,
    /// Its story.
    pub timeline: Vec<Entry>,
    /// Entries dropped from the middle of the story.
    pub timeline_dropped: u64,
    /// Who looks after it, and until when.
    pub acked: Option<(String, Time)>,
    /// Why a person is needed, if so; said once.
    pub escalated: Option<String>,
    /// Set by an abort: no recovery starts in it again.
    pub aborted: bool,
    /// When its first message may go out, while it waits for company.
    pub notify_at: Option<Time>,
    /// Per receiver: what it was told fires, and is owed the end of.
    pub told: BTreeMap<String, BTreeMap<String, Labels>>,
    /// The key of the group of posted alerts that it stands for, until that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<String>,
    /// How often it began: more than once if it came and went.
    #[serde(default = "once")]
    pub times: u32,
    /// Who is told next if nobody looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub climb: Option<Climb>,
}

fn once() -> u32 {
    1
}

/// What a witness is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its vote counts towards confirmation.
    Confirm,
    /// Its statement must hold for the runbook to apply.
    OnlyIf,
    /// Its statement must hold for the step to apply.
    When,
    /// Its statement must not hold.
    Unless,
    /// It states the health of a service that the target depends on.
    Dependency(String),
    /// Its statement is the post-condition.
    Verify,
}

/// One witness with its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// What it is asked for.
    pub role: Role,
    /// A short name for people.
    pub title: String,
    /// The statement's verdict that counts (towards the fault, the veto, the health).
    pub counts_when: Verdict,
    /// So many such answers in a row make a vote.
    pub need_in_row: u32,
    /// Such answers in a row so far.
    pub in_row: u32,
    /// When the row began (observation time).
    pub since: Option<Time>,
    /// Its last answer.
    pub last: Option<Vote>,
}

/// One answer of a witness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// When its observation began.
    pub at: Time,
    /// The statement's verdict.
    pub verdict: Verdict,
    /// What was seen.
    pub said: String,
}

/// Where a recovery stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// Witnesses are heard.
    Confirming {
        /// Since when.
        since: Time,
    },
    /// Witnesses did not agree in time; they are asked again later.
    Unconfirmed {
        /// When they are asked again.
        until: Time,
    },
    /// Confirmed, but the envelope forbids it for now.
    Waiting {
        /// Since when.
        since: Time,
        /// Why.
        why: String,
        /// When to look again at the latest.
        until: Time,
    },
    /// The action runs.
    Acting {
        /// Which.
        action: ActionId,
        /// When it was decided.
        since: Time,
        /// When a missing outcome is taken for a lost one.
        deadline: Time,
    },
    /// The post-condition is watched.
    Verifying {
        /// Observations must be later than this.
        after: Time,
        /// When proof is due.
        deadline: Time,
        /// Since when everything observed is good.
        good_since: Option<Time>,
    },
    /// Not helped: the next attempt waits.
    BackingOff {
        /// Until when.
        until: Time,
    },
    /// Proved; the alerts are expected to clear.
    Healed {
        /// When it was proved.
        at: Time,
        /// When still-firing alerts mean that it did not help after all.
        until: Time,
    },
    /// Decided, but only in shadow: what would have been done is recorded.
    Shadow {
        /// When it was decided.
        at: Time,
    },
    /// Nothing more may be tried; a person was told.
    Exhausted {
        /// Why.
        why: String,
    },
}

/// One run of a runbook against one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Its number.
    pub id: u64,
    /// Which runbook.
    pub runbook: String,
    /// Against what.
    pub target: String,
    /// The service of the target, or `""`.
    pub service: String,
    /// For which incident.
    pub incident: u64,
    /// The alert that led here.
    pub alert: String,
    /// Where it stands.
    pub phase: Phase,
    /// The step that is next or at work, from 0.
    pub step: usize,
    /// Acts started in this run.
    pub attempt: u32,
    /// Acts in a row that did not help.
    pub no_help: u32,
    /// The watch at work.
    pub watch: Option<Watch>,
    /// What the watch's checks have said; same order.
    pub witnesses: Vec<Witness>,
    /// The last act's outcome.
    pub outcome: Option<ActionOutcome>,
    /// When the run began.
    pub started: Time,
}

/// Recovery is kept off, and matching alerts are muted: a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// What it holds.
    pub matchers: Matchers,
    /// When it began.
    pub from: Time,
    /// When it ends by itself.
    pub until: Time,
    /// Who.
    pub by: String,
    /// Why.
    pub comment: String,
}

/// Matching alerts are muted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Its number.
    pub id: u64,
    /// What it mutes.
    pub matchers: Matchers,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub until: Time,
    /// Who.
    pub by: String,
    /// Why.
    pub comment: String,
    /// The name under which Alertmanager's API knows it.
    #[serde(default)]
    pub uuid: String,
    /// When it was last changed.
    #[serde(default)]
    pub updated: Time,
}

impl Silence {
    /// Whether it mutes now.
    #[must_use]
    pub fn is_active(&self, now: Time) -> bool {
        self.from <= now && now < self.until
    }

    /// A name in the form of a UUID that no other silence of this journal has.
    pub(crate) fn name(id: u64, from: Time) -> String {
        let mix = |seed: u64| {
            let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let (a, b) = (mix(id), mix(id ^ from.0.cast_unsigned().rotate_left(32)));
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Waits for its (next) attempt.
    Queued,
    /// An attempt is under way.
    Sending,
    /// The far side took it.
    Accepted,
    /// The far side told later that it arrived.
    Delivered,
    /// The far side will never take it.
    Rejected,
    /// Tried for too long.
    GaveUp,
}

/// A message with its ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// What is said, to whom.
    pub message: Message,
    /// Where it stands.
    pub delivery: Delivery,
    /// Attempts started.
    pub tries: u32,
    /// When the next attempt is due.
    pub next_at: Time,
    /// The last 20 attempts.
    pub attempts: VecDeque<Attempt>,
    /// The first message of those by which a receiver hears the same: if one is taken, it was reached.
    /// 0: nobody watches over it.
    #[serde(default)]
    pub first: u64,
    /// Of such a first message: which fallback is next, until the receiver is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreached: Option<usize>,
    /// What the far side told later, one of each recipient.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<daruma_model::Receipt>,
}

/// The breaker of a runbook: open after acts that did not help.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Since when it is open.
    pub opened: Time,
    /// When one trial is allowed again.
    pub half_open_at: Time,
    /// On which targets it failed.
    pub targets: BTreeSet<String>,
    /// Why.
    pub why: String,
}

impl Witness {
    /// Whether enough answers in a row count.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.in_row >= self.need_in_row
    }

    /// Whether its newest answer counts.
    #[must_use]
    pub fn counts_now(&self) -> bool {
        self.last.as_ref().is_some_and(|vote| vote.verdict == self.counts_when)
    }
}

impl Incident {
    /// Adds a line to the story; beyond the bound the middle is dropped and counted.
    pub(crate) fn say(&mut self, at: Time, kind: EntryKind, text: impl Into<String>) {
        self.tell(Entry { at, kind, text: text.into(), evidence: None, detail: None });
    }

    /// See [`Incident::say`].
    pub(crate) fn tell(&mut self, entry: Entry) {
        if self.timeline.len() >= TIMELINE_MAX {
            self.timeline.remove(TIMELINE_MAX / 4);
            self.timeline_dropped += 1;
        }
        self.timeline.push(entry);
    }
}

impl State {
    /// A number that was never given before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
