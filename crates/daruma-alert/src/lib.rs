//! The loop: from findings, outcomes and commands to effects. Every decision that restarts a service
//! or wakes a person is taken in this crate and nowhere else.
//!
//! [`Core::step`] is the whole interface: one [`Event`] in at a time `now`, [`Effect`]s out.
//!
//! Invariants:
//! - no clock, no randomness, no I/O: the same events at the same times give the same effects;
//! - evidence, never silence, moves an alert: a lost signal neither convicts nor acquits;
//! - nothing is done that the envelope forbids, and at most one action runs on a target at a time;
//! - an act without a known outcome is verified, never repeated blindly;
//! - whoever was told "firing" is told the end.

mod alerts;
mod core;
mod digest;
mod dispatch;
mod envelope;
mod escalation;
mod event;
mod fallback;
mod incidents;
mod index;
mod notices;
mod notify_policy;
mod person;
mod policy;
mod receipts;
mod recovery;
mod routed;
pub mod routing;
mod silences;
mod state;
mod view;
mod waiting;
mod why;

pub use crate::core::Core;
pub use dispatch::{Again, AlertIn, Dispatch, Group, Listed, ListedDigest, Listing, Posted, Told};
pub use envelope::Blocked;
pub use event::{Command, Effect, Event, Watch, WatchCheck};
pub use incidents::group_of;
pub use notify_policy::{
    Escalation, EscalationStep, Flapping, LevelRule, NotifyPolicy, ReceiverPolicy, Route,
};
pub use policy::{
    Backoff, CheckConfig, Confirm, Escalate, GlobalLimits, Limits, Mode, Percent, Policy,
    PolicyError, ProbeConfig, Rate, RecoverConfig, RulePolicy, Runbook, Service, Step, Verify,
};
pub use recovery::RESTARTED;
pub use state::{
    Alert, AlertState, Breaker, Call, Climb, Delivery, Entry, EntryKind, Gathered, GatheredAlert,
    Hold, Incident, LooseAct, Outgoing, Phase, Recovery, Role, Silence, State, UsedLink, Vote,
    Witness,
};
pub use view::{AlertView, EnvelopeView, IncidentView, RecoveryView, View};
