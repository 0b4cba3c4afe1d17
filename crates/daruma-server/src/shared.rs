//! What the server is given, and what it hands on. The run loop wires both ends.

use std::sync::Arc;

use std::collections::BTreeMap;

use daruma_alert::{AlertIn, Command, Listing, View};
use daruma_model::{Clock, Commit};
use daruma_store::Store;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::prom::{Facts, RuleGroup};

/// Everything the server sees of the program.
#[derive(Clone)]
pub struct Shared {
    /// The newest picture of the state.
    pub view: watch::Receiver<Arc<View>>,
    /// Where commands go; bounded, so that a flood of them waits at its sender.
    pub commands: mpsc::Sender<CommandRequest>,
    /// Series at rest, for charts and queries.
    pub store: Arc<Store>,
    /// Where the loop is asked for more than commands; bounded, so that a flood waits at its sender.
    pub loop_asks: mpsc::Sender<LoopAsk>,
    /// Where the signal path is asked; bounded, so that whoever asks waits.
    pub asks: mpsc::Sender<Ask>,
    /// What the program knows of itself.
    pub facts: Arc<dyn Fn() -> Facts + Send + Sync>,
    /// What is known of metrics, by name.
    pub describe: Arc<Describe>,
    /// Takes in what a sender says of metrics.
    pub described: Arc<Learn>,
    /// Knows the links in messages again.
    pub ack_links: crate::AckLinks,
    /// Judges what a far side tells about a message.
    pub receipts: Arc<Receipts>,
    /// The time.
    pub clock: Clock,
    /// This host's name: shown, and accepted in `Host`.
    pub host: String,
    /// The program's version.
    pub version: &'static str,
    /// A heartbeat came in; `false` if none of that name is configured.
    pub heartbeat: Arc<Heartbeat>,
    /// The text of `GET /metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the program does its work, or why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Records of the journal as JSON. Blocks: it reads the disk.
    pub history: Arc<History>,
    /// Where a new reading of the configuration is asked for; answered when it is in force, or with why
    /// the running one stays.
    pub reload: mpsc::Sender<Reload>,
}

/// Where to tell what became of a reload.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// How it is judged what a far side tells about a message: from the channel, the message's number, the
/// signature and the body. `Ok(None)`: nothing of interest. An error: nobody knows who says so.
pub type Receipts =
    dyn Fn(&str, u64, &str, &[u8]) -> Result<Option<daruma_model::Receipt>, String> + Send + Sync;

/// How what is known of metrics is read.
pub type Describe = dyn Fn() -> Arc<Descriptions> + Send + Sync;

/// How what is said of metrics is taken in.
pub type Learn = dyn Fn(Vec<(String, Described)>) + Send + Sync;

/// What is known of metrics, by name.
pub type Descriptions = BTreeMap<String, Described>;

/// What is said of a metric by whoever exposes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// `counter`, `gauge`, `histogram`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// A sentence.
    pub help: String,
    /// Its unit, if it is said.
    pub unit: String,
}

/// What the signal path is asked for.
pub enum Ask {
    /// Samples that were pushed to us, each commit to be seen whole; answered when they are stored.
    Write {
        /// In the order in which they are to be stored.
        commits: Vec<Commit>,
        /// What became of them.
        reply: oneshot::Sender<Taken>,
    },
    /// Every group of rules, and how its last evaluation went.
    Rules {
        /// Where to tell it.
        reply: oneshot::Sender<Vec<RuleGroup>>,
    },
}

/// What the loop is asked for beside commands.
pub enum LoopAsk {
    /// Alerts that somebody else's rules found; answered when they are durable, or with why they are not.
    Post {
        /// As they were posted.
        alerts: Vec<AlertIn>,
        /// What became of them.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A picture of everything that is posted.
    Listing {
        /// Where to tell it.
        reply: oneshot::Sender<Listing>,
    },
}

/// What became of pushed samples.
pub type Taken = daruma_store::Appended;

/// How a heartbeat is handed on: whether there is one of this name.
pub type Heartbeat = dyn Fn(&str, PingKind) -> bool + Send + Sync;

/// How records of the journal are read.
pub type History = dyn Fn(HistoryQuery) -> Result<Vec<serde_json::Value>, String> + Send + Sync;

/// Which records of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The first record's number; 0: from the first kept.
    pub from: u64,
    /// How many at most.
    pub limit: usize,
}

/// A command on its way to the core.
pub struct CommandRequest {
    /// Who: a token's name, or what a local client called itself.
    pub by: String,
    /// What.
    pub command: Command,
    /// Answered only once the command is durable, with the id of what it made.
    pub reply: oneshot::Sender<Result<serde_json::Value, Refusal>>,
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It names something that is not there, or is over.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense, such as a hold that matches everything.
    #[error("{0}")]
    Invalid(String),
    /// It could not be made durable; it may be sent again.
    #[error("{0}")]
    Unavailable(String),
}

/// What a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    /// The work begins.
    Start,
    /// The work was done.
    Success,
    /// The work failed.
    Fail,
}
