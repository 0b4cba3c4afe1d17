//! Samples and log records at rest, in memory.
//!
//! [`Store`] is shared by reference between the thread that appends and those that read. A commit is
//! appended under one lock, so a reader sees it whole or not at all; [`Store::snapshot`] holds a
//! reader still for as long as a whole evaluation takes.
//!
//! What never happens here: unbounded growth (series, bytes, records and label texts are all
//! bounded, and every refusal is counted), a guess (a sample that cannot be kept is refused and said
//! so), or a look at the clock ([`Store::evict`] is told the time).

mod bits;
mod chunk;
mod head;
mod histogram_chunk;
mod histograms;
mod logs;
mod track;
mod watch;

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use daruma_model::{Commit, Labels, LogRecord, Matcher, Point, Querier, Series, Span, Time};
use head::Head;
use logs::Logs;
use serde::{Deserialize, Serialize};

/// The bounds of a [`Store`]: the `store` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How far back samples are kept. Whole chunks go, so a little more may be there.
    pub retention: Span,
    /// Series kept at once; a sample of one more is refused.
    pub series_max: usize,
    /// Bytes for series, labels and chunks together. Above it the oldest history goes early.
    pub bytes_max: usize,
    /// Bytes for log records over all sources. Above it the largest source loses its oldest.
    pub log_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            retention: Span::hours(6),
            series_max: 200_000,
            bytes_max: 256 << 20,
            log_bytes_max: 4 << 20,
        }
    }
}

/// What became of the samples of one commit. The first four counts add up to their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Kept.
    pub accepted: usize,
    /// The same value at the same time as the newest point: nothing to do.
    pub repeated: usize,
    /// Refused: not after the series' newest point (or another value at its time), or older than
    /// the retention.
    pub out_of_order: usize,
    /// Refused: a new series over [`Config::series_max`] or [`Config::bytes_max`], or one whose
    /// labels are longer than 16 KiB; or a histogram of more than [`BUCKETS_MAX`](daruma_model::Histogram::BUCKETS_MAX) buckets.
    pub over_limit: usize,
    /// Of those kept and repeated: native histograms.
    pub histograms: usize,
}

/// What [`Store::evict`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Points dropped.
    pub points: usize,
    /// Series that had no point left.
    pub series: usize,
}

/// How full the store is, and what it refused since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Series known.
    pub series: usize,
    /// Points held.
    pub points: usize,
    /// Bytes of chunks, labels and index, nearly (allocator overhead is estimated).
    pub bytes: usize,
    /// Of them the compressed points alone.
    pub chunk_bytes: usize,
    /// Log records held.
    pub log_records: usize,
    /// Bytes of them.
    pub log_bytes: usize,
    /// Log records never kept because a single one was over [`Config::log_bytes_max`].
    pub log_dropped_total: u64,
    /// Samples kept.
    pub accepted_total: u64,
    /// Samples refused as out of order.
    pub out_of_order_total: u64,
    /// Samples refused because a bound was reached.
    pub over_limit_total: u64,
    /// Points dropped before their retention because [`Config::bytes_max`] was reached.
    pub evicted_early_total: u64,
}

/// Series and log records at rest.
#[derive(Debug, Default)]
pub struct Store {
    config: Config,
    head: RwLock<Head>,
    logs: RwLock<Logs>,
}

impl Store {
    /// An empty store with these bounds.
    #[must_use]
    pub fn new(config: Config) -> Store {
        Store { config, head: RwLock::default(), logs: RwLock::default() }
    }

    fn head(&self) -> RwLockReadGuard<'_, Head> {
        // A reader that panicked changed nothing, and a writer leaves whole samples behind.
        self.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what came in together; readers see all that was accepted of it, or nothing.
    pub fn append(&self, commit: &Commit) -> Appended {
        let mut head = self.head.write().unwrap_or_else(PoisonError::into_inner);
        head.append(&self.config, commit)
    }

    /// Keeps log records, the newest at the cost of the oldest.
    pub fn append_logs(&self, records: &[LogRecord]) {
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        logs.append(self.config.log_bytes_max, records);
    }

    /// Drops what is older than the retention, whole chunks at a time, and series without points.
    /// Also drops points more than an hour ahead of `now`, which would block their series. Meant to
    /// be called every minute or so.
    pub fn evict(&self, now: Time) -> Evicted {
        let mut head = self.head.write().unwrap_or_else(PoisonError::into_inner);
        head.evict(&self.config, now)
    }

    /// A reader before which nothing moves: appends wait until it is dropped.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { head: self.head() }
    }

    /// Says which selectors will be asked for again and again, and how far back from now they read:
    /// their series are kept at hand, their newest points decoded. Replaces what was said before.
    /// Answers are the same with and without.
    pub fn watch(&self, selectors: &[(Vec<Matcher>, Span)]) {
        let mut head = self.head.write().unwrap_or_else(PoisonError::into_inner);
        head.watch(selectors);
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        Stats {
            log_records: logs.records(),
            log_bytes: logs.bytes(),
            log_dropped_total: logs.dropped(),
            ..self.head().stats()
        }
    }

    /// How many chunks there are, and the times of the first and the last point of all. Looks at every
    /// series.
    #[must_use]
    pub fn extent(&self) -> (usize, Option<(Time, Time)>) {
        self.head().extent()
    }

    /// All label names, sorted.
    #[must_use]
    pub fn label_names(&self) -> Vec<String> {
        self.head().label_names()
    }

    /// All values of one label, sorted.
    #[must_use]
    pub fn label_values(&self, name: &str) -> Vec<String> {
        self.head().label_values(name)
    }

    /// The label sets that satisfy `matchers` and may have points in `(after, until]`, sorted.
    /// Judged by a series' first and last point, without decoding.
    #[must_use]
    pub fn series(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Labels> {
        self.head().series(matchers, after, until)
    }

    /// The newest number of exactly this series, possibly a staleness marker.
    #[must_use]
    pub fn newest(&self, labels: &Labels) -> Option<Point> {
        self.head().newest(labels)
    }

    /// The newest `limit` records of the sources that satisfy `matchers`, oldest first.
    #[must_use]
    pub fn recent_logs(&self, matchers: &[Matcher], limit: usize) -> Vec<LogRecord> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.newest(matchers, limit, |_| true)
    }

    /// As [`Store::recent_logs`], but only records that contain `text` (exactly, case counts).
    #[must_use]
    pub fn search_logs(&self, matchers: &[Matcher], text: &str, limit: usize) -> Vec<LogRecord> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.newest(matchers, limit, |body| body.contains(text))
    }
}

/// Each call sees whole commits; use [`Store::snapshot`] where several calls must agree.
impl Querier for Store {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.head().select(matchers, after, until)
    }

    fn select_newest(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.head().select_newest(matchers, after, until)
    }
}

/// A still view of the series of a [`Store`].
#[derive(Debug)]
pub struct Snapshot<'a> {
    head: RwLockReadGuard<'a, Head>,
}

impl Querier for Snapshot<'_> {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.head.select(matchers, after, until)
    }

    fn select_newest(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.head.select_newest(matchers, after, until)
    }
}
