//! Label sets of readings that repeat: a source that reads the same few hundred values every second
//! names them once, not every second.
//!
//! [`SeriesBook`] relies on readings coming in about the same order each time, so most lookups are
//! one comparison with what came next last time. It also knows which series a reading no longer
//! brought, and ends them with the staleness marker. What never happens here: two samples of one
//! series in one commit.

use std::collections::HashSet;

use daruma_model::{Commit, Labels, Sample, Time, stale_marker};

/// The series of one source.
pub(crate) struct SeriesBook {
    fixed: Labels,
    known: Vec<Known>,
    cursor: usize,
    gone: Vec<Labels>,
    samples: Vec<Sample>,
    time: Time,
    /// Whether this reading brought series otherwise than the one before.
    shuffled: bool,
}

struct Known {
    name: Box<str>,
    pairs: Vec<(Box<str>, Box<str>)>,
    labels: Labels,
}

impl Known {
    fn is(&self, name: &str, pairs: &[(&str, &str)]) -> bool {
        *self.name == *name
            && self.pairs.len() == pairs.len()
            && self.pairs.iter().zip(pairs).all(|(a, b)| (&*a.0, &*a.1) == *b)
    }
}

impl SeriesBook {
    /// A book of series that all have the labels `fixed`.
    pub(crate) fn new(fixed: Labels) -> SeriesBook {
        SeriesBook {
            fixed,
            known: Vec::new(),
            cursor: 0,
            gone: Vec::new(),
            samples: Vec::new(),
            time: Time::default(),
            shuffled: false,
        }
    }

    /// Begins a reading at `time`.
    pub(crate) fn begin(&mut self, time: Time) {
        self.time = time;
        self.cursor = 0;
        self.samples = Vec::with_capacity(self.known.len() + 8);
    }

    /// One value of the series `name` with `pairs` over the fixed labels.
    pub(crate) fn add(&mut self, name: &str, pairs: &[(&str, &str)], value: f64) {
        if !self.known.get(self.cursor).is_some_and(|known| known.is(name, pairs)) {
            self.shuffled = true;
            let ahead = &self.known[self.cursor..];
            match ahead.iter().position(|known| known.is(name, pairs)) {
                Some(skipped) => {
                    let skipped = self.known.drain(self.cursor..self.cursor + skipped);
                    self.gone.extend(skipped.map(|known| known.labels));
                }
                None => {
                    let own = |&(name, value): &(&str, &str)| (name.into(), value.into());
                    let labels = self.fixed.iter().chain(pairs.iter().copied());
                    let labels = labels.chain([(Labels::NAME, name)]).collect();
                    let known =
                        Known { name: name.into(), pairs: pairs.iter().map(own).collect(), labels };
                    self.known.insert(self.cursor, known);
                }
            }
        }
        let labels = self.known[self.cursor].labels.clone();
        self.samples.push(Sample { labels, time: self.time, value });
        self.cursor += 1;
    }

    /// Ends the reading: its samples, and markers for the series of the reading before that it
    /// did not bring.
    pub(crate) fn finish(&mut self) -> Commit {
        let rest = self.known.drain(self.cursor..);
        self.gone.extend(rest.map(|known| known.labels));
        let mut samples = std::mem::take(&mut self.samples);
        if std::mem::take(&mut self.shuffled) || !self.gone.is_empty() {
            let mut seen = HashSet::with_capacity(samples.len());
            samples.retain(|sample| seen.insert(sample.labels.clone()));
            for labels in self.gone.drain(..) {
                if seen.insert(labels.clone()) {
                    samples.push(Sample { labels, time: self.time, value: stale_marker() });
                }
            }
            // A series that came twice would be known twice, and end while it is still there.
            seen.clear();
            self.known.retain(|known| seen.insert(known.labels.clone()));
        }
        Commit::from(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_model::is_stale;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn read(book: &mut SeriesBook, devices: &[u8]) -> Commit {
        book.begin(Time(7));
        for device in devices {
            book.add("reads", &[("device", &format!("d{device}"))], f64::from(*device));
        }
        book.finish()
    }

    #[test]
    fn a_disk_that_is_pulled_out_ends_its_series_once() {
        let mut book = SeriesBook::new([("instance", "here")].into());
        read(&mut book, &[1, 2, 3]);
        let commit = read(&mut book, &[1, 3]);
        let seen: Vec<(String, bool)> =
            commit.samples.iter().map(|s| (s.labels.to_string(), is_stale(s.value))).collect();
        assert_eq!(
            seen,
            [
                (r#"reads{device="d1", instance="here"}"#.to_owned(), false),
                (r#"reads{device="d3", instance="here"}"#.to_owned(), false),
                (r#"reads{device="d2", instance="here"}"#.to_owned(), true),
            ]
        );
        assert_eq!(read(&mut book, &[1, 3]).samples.len(), 2);
    }

    #[test]
    fn a_disk_that_is_listed_twice_is_told_once_in_every_reading() {
        let mut book = SeriesBook::new(Labels::default());
        for _ in 0..3 {
            assert_eq!(read(&mut book, &[1, 1, 2]).samples.len(), 2);
        }
    }

    proptest! {
        /// However devices come, go, repeat and change places: each present one has one value, and
        /// each one that went has one marker.
        #[test]
        fn every_series_has_one_sample(readings in prop::collection::vec(
            prop::collection::vec(0_u8..6, 0..8), 1..8))
        {
            let mut book = SeriesBook::new(Labels::default());
            let mut before = BTreeSet::new();
            for devices in readings {
                let commit = read(&mut book, &devices);
                let now: BTreeSet<u8> = devices.iter().copied().collect();
                let mut got = BTreeMap::new();
                for sample in &commit.samples {
                    let twice = got.insert(sample.labels.get("device").to_owned(), sample.value);
                    prop_assert!(twice.is_none());
                }
                let name = |device: &u8| format!("d{device}");
                let devices = |stale: bool| -> Vec<String> {
                    let got = got.iter().filter(|(_, value)| is_stale(**value) == stale);
                    got.map(|(device, _)| device.clone()).collect()
                };
                let went: Vec<String> = before.difference(&now).map(name).collect();
                let here: Vec<String> = now.iter().map(name).collect();
                prop_assert_eq!((devices(true), devices(false)), (went, here));
                before = now;
            }
        }
    }
}
