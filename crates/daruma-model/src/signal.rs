//! What sources bring in.

use serde::{Deserialize, Serialize};

use crate::{Labels, Time};

/// One value of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The series: all labels, `__name__` among them.
    pub labels: Labels,
    /// Event time.
    pub time: Time,
    /// The value, in the unit its name tells.
    pub value: f64,
}

/// The unit of visibility: one scrape, one probe, one reading of the host. Seen whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Its samples, at most one per series.
    pub samples: Vec<Sample>,
}

/// How grave the writer of a log record said it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Finest detail.
    Trace,
    /// For developers.
    Debug,
    /// Normal events.
    Info,
    /// Unusual, but handled.
    Warning,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Critical,
}

/// One log record; several lines when they belong together, as in a stack trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was read (event time parsed from the text comes with a later stage).
    pub time: Time,
    /// Labels of its source, `path` (or `unit`) among them.
    pub labels: Labels,
    /// As extracted from the text, if it says.
    pub severity: Option<Severity>,
    /// The text, valid UTF-8 (invalid bytes replaced), capped, lines joined by `\n`.
    pub body: String,
}

/// What flows from sources to the store and to detection.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// Samples that become visible together.
    Samples(Commit),
    /// Log records in the order in which they were written.
    Logs(Vec<LogRecord>),
}
