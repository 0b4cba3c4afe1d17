//! One act on a target: what is asked of a performer, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Labels, Span, Time};

/// Identifies one act for ever: (incident, step, attempt) and the fence that makes a stale one void.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId {
    /// The incident it is for.
    pub incident: u64,
    /// Which run of a runbook within this installation.
    pub recovery: u64,
    /// The step of the runbook, from 0.
    pub step: usize,
    /// The attempt at this recovery, from 1.
    pub attempt: u32,
    /// Rises with every act that was ever decided: a performer refuses one it has seen.
    pub fence: u64,
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.incident, self.recovery, self.step, self.attempt)
    }
}

/// How much an action may disturb.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Adds or frees what is safe to lose.
    Safe,
    /// Interrupts service for a moment.
    #[default]
    Disruptive,
    /// May lose data.
    Destructive,
}

/// One entry of the actions registry: nothing else can ever be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionSpec {
    /// The program and its arguments; never a shell line, never expanded from alert text.
    pub argv: Vec<String>,
    /// When the whole process group is ended.
    #[serde(default = "ActionSpec::timeout_default")]
    pub timeout: Span,
    /// How much it may disturb.
    #[serde(default)]
    pub kind: ActionKind,
    /// The whole environment besides `PATH`, `LANG` and `DARUMA_*`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working directory, `/` unless said.
    #[serde(default)]
    pub dir: Option<std::path::PathBuf>,
}

impl ActionSpec {
    fn timeout_default() -> Span {
        Span::secs(30)
    }
}

/// A wish of the core: run this action of the registry, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionRequest {
    /// Which act this is.
    pub id: ActionId,
    /// The name in the actions registry.
    pub action: String,
    /// What it acts on.
    pub target: String,
    /// Labels of the alert that led here.
    pub labels: Labels,
    /// The runbook that decided.
    pub runbook: String,
    /// After this long the performer ends it, whatever it is doing.
    pub timeout: Span,
    /// The incident as JSON, given to the program on its standard input.
    pub incident: serde_json::Value,
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionEnd {
    /// It ended by itself with this code; 0 is not yet success.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// Its time was up and its whole process group was ended.
    TimedOut,
    /// It never ran, for this reason.
    NotStarted(String),
    /// The monitor died between act and outcome: nobody knows. Verified, never repeated blindly.
    Unknown,
    /// A person or the stop file ended it.
    Aborted,
}

impl fmt::Display for ActionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionEnd::Exited(code) => write!(f, "exit {code}"),
            ActionEnd::Signalled(signal) => write!(f, "ended by signal {signal}"),
            ActionEnd::TimedOut => f.write_str("timed out, process group ended"),
            ActionEnd::NotStarted(why) => write!(f, "not started: {why}"),
            ActionEnd::Unknown => f.write_str("outcome unknown"),
            ActionEnd::Aborted => f.write_str("aborted"),
        }
    }
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOutcome {
    /// Which act.
    pub id: ActionId,
    /// How it ended.
    pub end: ActionEnd,
    /// When it began.
    pub started: Time,
    /// When it ended: verification counts only what is observed after this.
    pub ended: Time,
    /// The last output, both streams, at most 4 KiB, invalid UTF-8 replaced.
    pub output: String,
}
