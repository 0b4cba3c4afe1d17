//! The newest log records of every source, in a bounded amount of memory.
//!
//! Apart from [`crate::head`] because records are kept whole and found by looking, not by index: this
//! is the page of context beside an incident, not an archive. The bound is shared: while there is
//! room every source keeps what it wrote, and when there is none the largest gives way first, so a
//! chatty source cannot push out a quiet one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

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
    dropped: u64,
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
            self.dropped += 1;
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
        let mut rings: Vec<&mut Ring> = self.rings.values_mut().collect();
        // The largest first; of equal ones that with the oldest record.
        let rank = |ring: &Ring| (ring.bytes, Reverse(ring.records.front().map(|r| r.order)));
        let mut heap: BinaryHeap<_> =
            rings.iter().enumerate().map(|(i, ring)| (rank(ring), i)).collect();
        while self.bytes > goal {
            let Some((_, largest)) = heap.pop() else { break };
            let next = heap.peek().map_or(0, |((bytes, _), _)| *bytes);
            let ring = &mut rings[largest];
            loop {
                self.bytes -= ring.drop_oldest();
                if ring.bytes <= next || self.bytes <= goal {
                    break;
                }
            }
            if !ring.records.is_empty() {
                heap.push((rank(ring), largest));
            }
        }
        self.rings.retain(|_, ring| !ring.records.is_empty());
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

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn records(&self) -> usize {
        self.rings.values().map(|ring| ring.records.len()).sum()
    }
}
