//! How a source is: every source reports on itself, because a silent one proves nothing.

use serde::{Deserialize, Serialize};

use crate::Time;

/// Whether a source can be believed just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It has not finished its first look.
    Starting,
    /// Its last look went well (what it saw may be bad).
    Ok,
    /// It cannot look: what it would say is unknown.
    Failing,
}

/// One source's report on itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceHealth {
    /// `kind/name`, e.g. `scrape/web`, `log//var/log/syslog`.
    pub source: String,
    /// Whether it can be believed.
    pub state: SourceState,
    /// When this was true.
    pub at: Time,
    /// What is wrong, or what is being done, in a sentence.
    pub said: String,
    /// Signals delivered since the start.
    pub signals: u64,
    /// Signals lost since the start, with every loss counted (truncation, full queue, over a bound).
    pub lost: u64,
}
