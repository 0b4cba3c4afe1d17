//! What sources bring in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Histogram, HistogramPoint, Labels, Time};

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

/// One native histogram of one series. Beside [`Sample`], because nearly all samples are numbers, and
/// are not to pay for those that are not.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// The series: all labels, `__name__` among them.
    pub labels: Labels,
    /// Event time.
    pub time: Time,
    /// Since when its counts count, if that is known.
    pub start: Option<Time>,
    /// The distribution, possibly a staleness marker.
    pub histogram: Arc<Histogram>,
}

impl HistogramSample {
    /// As it stands in its series.
    #[must_use]
    pub fn point(&self) -> HistogramPoint {
        let HistogramSample { time, start, ref histogram, .. } = *self;
        HistogramPoint { time, start, histogram: Arc::clone(histogram) }
    }
}

/// The unit of visibility: one scrape, one probe, one reading of the host. Seen whole or not at all.
/// Most have numbers only: `Commit::from(samples)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// Its numbers, at most one per series.
    pub samples: Vec<Sample>,
    /// Its native histograms, at most one per series, none of a series with a number.
    pub histograms: Vec<HistogramSample>,
}

impl Commit {
    /// How many samples it holds, of both kinds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }

    /// The series of its samples.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        let numbers = self.samples.iter().map(|sample| &sample.labels);
        numbers.chain(self.histograms.iter().map(|sample| &sample.labels))
    }
}

impl From<Vec<Sample>> for Commit {
    fn from(samples: Vec<Sample>) -> Commit {
        Commit { samples, histograms: Vec::new() }
    }
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
