//! What the server is given, and what it hands on. The run loop wires both ends.

use std::sync::Arc;

use daruma_alert::{Command, View};
use daruma_model::{Clock, Querier};
use tokio::sync::{mpsc, oneshot, watch};

/// Everything the server sees of the program.
#[derive(Clone)]
pub struct Shared {
    /// The newest picture of the state.
    pub view: watch::Receiver<Arc<View>>,
    /// Where commands go; bounded, so that a flood of them waits at its sender.
    pub commands: mpsc::Sender<CommandRequest>,
    /// For charts.
    pub series: Arc<dyn Querier + Send + Sync>,
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
}

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
