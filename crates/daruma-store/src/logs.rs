//! The newest log records of every source, in a bounded amount of memory.
//!
//! Apart from [`crate::head`] because records are kept whole and found by looking, not by index: this
//! is the page of context beside an incident, not an archive. The bound is shared: while there is
//! room every source keeps what it wrote, and when there is none the largest gives way first, so a
//! chatty source cannot push out a quiet one.

use std::collections::{HashMap, VecDeque};

use daruma_model::{Labels, LogRecord, Matcher, Severity, Time};

/// Sources kept at once; one more pushes out the one that has been silent longest.
const SOURCES_MAX: usize = 1024;

/// Bytes a record costs beside its text.
const RECORD_BYTES: usize = 64;

#[derive(Debug)]
struct Kept {
    /// Rises over all sources: the order of arrival.
    order: u64,
    time: Time,
    severity: Option<Severity>,
    body: Box<str>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.body.len() + RECORD_BYTES
    }
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Kept>,
    bytes: usize,
}

impl Ring {
    fn drop_oldest(&mut self) -> usize {
        let bytes = self.records.pop_front().map_or(0, |record| record.bytes());
        self.bytes -= bytes;
        bytes
    }
}

#[derive(Debug, Default)]
pub(crate) struct Logs {
    rings: HashMap<Labels, Ring>,
    bytes: usize,
    order: u64,
}

impl Logs {
    pub(crate) fn append(&mut self, bytes_max: usize, records: &[LogRecord]) {
        for record in records {
            self.append_one(bytes_max, record);
        }
        if self.bytes > bytes_max {
            // A little below the bound, so that the search for the largest is not made per record.
            self.shrink(bytes_max - bytes_max / 64);
        }
    }

    fn append_one(&mut self, bytes_max: usize, record: &LogRecord) {
        if record.body.len() + RECORD_BYTES > bytes_max {
            return;
        }
        if !self.rings.contains_key(&record.labels) {
            if self.rings.len() >= SOURCES_MAX {
                self.forget_most_silent();
            }
            self.rings.insert(record.labels.clone(), Ring::default());
        }
        self.order += 1;
        let kept = Kept {
            order: self.order,
            time: record.time,
            severity: record.severity,
            body: record.body.as_str().into(),
        };
        let bytes = kept.bytes();
        if let Some(ring) = self.rings.get_mut(&record.labels) {
            ring.bytes += bytes;
            ring.records.push_back(kept);
            self.bytes += bytes;
        }
        if self.bytes > bytes_max.saturating_mul(2) {
            self.shrink(bytes_max);
        }
    }

    fn forget_most_silent(&mut self) {
        let silent = self
            .rings
            .iter()
            .min_by_key(|(_, ring)| ring.records.back().map_or(0, |record| record.order))
            .map(|(labels, _)| labels.clone());
        if let Some(ring) = silent.and_then(|labels| self.rings.remove(&labels)) {
            self.bytes -= ring.bytes;
        }
    }

    fn shrink(&mut self, goal: usize) {
        while self.bytes > goal {
            let mut sizes: Vec<usize> = self.rings.values().map(|ring| ring.bytes).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            // Down to the second largest, or straight to the goal if that is nearer.
            let (largest, second) =
                (sizes.first().copied().unwrap_or(0), sizes.get(1).copied().unwrap_or(0));
            let level = second.max(largest.saturating_sub(self.bytes - goal));
            let Some(ring) = self.rings.values_mut().max_by_key(|ring| ring.bytes) else { return };
            // At least one, or equal rings would never shrink.
            self.bytes -= ring.drop_oldest();
            while ring.bytes > level && self.bytes > goal {
                let gone = ring.drop_oldest();
                if gone == 0 {
                    return;
                }
                self.bytes -= gone;
            }
        }
    }

    /// The newest `limit` records whose labels satisfy `matchers` and whose text `wanted` likes,
    /// oldest first.
    pub(crate) fn newest(
        &self,
        matchers: &[Matcher],
        limit: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<LogRecord> {
        let mut found: Vec<(u64, LogRecord)> = self
            .rings
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches(labels)))
            .flat_map(|(labels, ring)| {
                let newest = ring.records.iter().rev().filter(|record| wanted(&record.body));
                newest.take(limit).map(|record| {
                    let record_out = LogRecord {
                        time: record.time,
                        labels: labels.clone(),
                        severity: record.severity,
                        body: record.body.to_string(),
                    };
                    (record.order, record_out)
                })
            })
            .collect();
        found.sort_by_key(|(order, _)| *order);
        let skip = found.len().saturating_sub(limit);
        found.into_iter().skip(skip).map(|(_, record)| record).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn records(&self) -> usize {
        self.rings.values().map(|ring| ring.records.len()).sum()
    }
}
