//! Series in memory: an inverted index from label to series, and what is kept of each.
//!
//! Single-threaded on purpose: [`crate::Store`] puts the lock around it, so that what one commit
//! brings becomes visible at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use daruma_model::{
    Commit, Histogram, HistogramPoint, HistogramSample, Labels, MatchOp, Matcher, Point, Sample,
    Series, Span, Time, is_stale,
};

use crate::chunk::Sealed;
use crate::histograms::same;
use crate::track::Track;
use crate::watch::Watches;
use crate::{Appended, Config, Evicted, Stats};

/// Bytes a series costs beside its labels and chunks: slot, map entry and posting entries.
const SERIES_BYTES: usize = 320;

/// Bytes one label pair costs beside its text: two lengths, and an entry among the postings.
const LABEL_BYTES: usize = 8;

/// Decoded points may take this part of the room: one in so many bytes.
const HOT_SHARE: usize = 4;

/// Names and values longer than this in sum over a series are refused: no honest series needs them.
const LABELS_BYTES_MAX: usize = 16 << 10;

/// Points further than this (ms) ahead of the clock would block their series for as long.
const AHEAD_MAX: i64 = 3_600_000;

/// What a series and its label set cost.
fn label_bytes(labels: &Labels) -> usize {
    let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    SERIES_BYTES + LABEL_BYTES * labels.len() + text
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Head {
    tracks: Vec<Option<Track>>,
    vacant: Vec<u32>,
    by_labels: HashMap<Labels, u32>,
    /// Label name → value → ids of the series that carry it, ascending.
    index: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
    /// Each distinct label text of the index once.
    texts: HashSet<Arc<str>>,
    points: usize,
    chunk_bytes: usize,
    hot_bytes: usize,
    label_bytes: usize,
    text_bytes: usize,
    watches: Watches,
    totals: Totals,
    /// Points at or before this are gone for ever.
    floor: Option<Time>,
}

#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    out_of_order: u64,
    over_limit: u64,
    evicted_early: u64,
}

impl Head {
    pub(crate) fn append(&mut self, config: &Config, commit: &Commit) -> Appended {
        let mut appended = Appended::default();
        for sample in &commit.samples {
            self.append_one(config, sample, &mut appended);
        }
        for sample in &commit.histograms {
            self.append_histogram(config, sample, &mut appended);
        }
        if self.bytes() > config.bytes_max {
            self.make_room(config);
        }
        self.totals.accepted += appended.accepted as u64;
        self.totals.out_of_order += appended.out_of_order as u64;
        self.totals.over_limit += appended.over_limit as u64;
        appended
    }

    /// The place of a series, made if there is room; `None` if the sample must be refused.
    fn place(
        &mut self,
        config: &Config,
        labels: &Labels,
        time: Time,
        appended: &mut Appended,
    ) -> Option<usize> {
        if self.floor.is_some_and(|floor| time <= floor) {
            appended.out_of_order += 1;
            return None;
        }
        let known = self.by_labels.get(labels).copied();
        let id = known.or_else(|| self.create(config, labels));
        if id.is_none() {
            appended.over_limit += 1;
        }
        id.map(|id| id as usize)
    }

    fn append_one(&mut self, config: &Config, sample: &Sample, appended: &mut Appended) {
        let point = Point { time: sample.time, value: sample.value };
        let Some(id) = self.place(config, &sample.labels, point.time, appended) else { return };
        let Some(track) = self.tracks.get_mut(id).and_then(Option::as_mut) else { return };
        if track.ends_as_histogram() {
            // What ends a series need not know of what kind it was.
            if is_stale(point.value) {
                let histogram = Arc::new(Histogram::stale());
                let point = HistogramPoint { time: point.time, start: None, histogram };
                return self.append_point(id, &point, appended);
            }
            if track.reach().is_some_and(|(_, newest)| point.time <= newest) {
                appended.out_of_order += 1;
                return;
            }
        } else if track.has_points() {
            if point.time == track.newest.time
                && point.value.to_bits() == track.newest.value.to_bits()
            {
                appended.repeated += 1;
                return;
            }
            if point.time <= track.newest.time {
                appended.out_of_order += 1;
                return;
            }
        }
        // Only sealing changes anything but the open chunk; counting the difference keeps the
        // running sum exact without visiting every chunk.
        let before = track.open.bytes();
        let sealed_before = track.sealed.len();
        let hot_before = track.hot_bytes();
        // Above its share of the room nothing is kept twice.
        if hot_before > 0 && self.hot_bytes > config.bytes_max / HOT_SHARE {
            track.hot = None;
        }
        track.push(point);
        self.hot_bytes = self.hot_bytes + track.hot_bytes() - hot_before;
        self.chunk_bytes += track.open.bytes();
        if track.sealed.len() > sealed_before {
            self.chunk_bytes += track.sealed.back().map_or(0, Sealed::bytes);
        }
        self.chunk_bytes -= before;
        self.points += 1;
        appended.accepted += 1;
    }

    fn append_histogram(
        &mut self,
        config: &Config,
        sample: &HistogramSample,
        appended: &mut Appended,
    ) {
        let Histogram { positive, negative, custom_bounds, .. } = &*sample.histogram;
        let sides = positive.len() + positive.spans.len() + negative.len() + negative.spans.len();
        if sides + custom_bounds.len() > 2 * Histogram::BUCKETS_MAX {
            appended.over_limit += 1;
            return;
        }
        if let Some(id) = self.place(config, &sample.labels, sample.time, appended) {
            self.append_point(id, &sample.point(), appended);
        }
    }

    fn append_point(&mut self, id: usize, point: &HistogramPoint, appended: &mut Appended) {
        let Some(track) = self.tracks.get_mut(id).and_then(Option::as_mut) else { return };
        if track.reach().is_some_and(|(_, newest)| point.time <= newest) {
            let known = track.histograms.as_ref().map(|histograms| histograms.newest());
            if known.is_some_and(|known| known.time == point.time && same(known, point)) {
                appended.repeated += 1;
                appended.histograms += 1;
            } else {
                appended.out_of_order += 1;
            }
            return;
        }
        let before = track.histogram_bytes();
        track.push_histogram(point);
        self.chunk_bytes = self.chunk_bytes + track.histogram_bytes() - before;
        self.points += 1;
        appended.accepted += 1;
        appended.histograms += 1;
    }

    /// A new series, unless a bound forbids it.
    fn create(&mut self, config: &Config, labels: &Labels) -> Option<u32> {
        let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.by_labels.len() >= config.series_max
            || self.bytes() >= config.bytes_max
            || text > LABELS_BYTES_MAX
        {
            return None;
        }
        let labels = labels.clone();
        let track = Some(Track::new(labels.clone()));
        let id = match self.vacant.pop() {
            Some(id) => {
                self.tracks[id as usize] = track;
                id
            }
            None => {
                let id = u32::try_from(self.tracks.len()).ok()?;
                self.tracks.push(track);
                id
            }
        };
        for (name, value) in labels.iter() {
            let (name, value) = (self.text(name), self.text(value));
            let ids = self.index.entry(name).or_default().entry(value).or_default();
            if let Err(at) = ids.binary_search(&id) {
                ids.insert(at, id);
            }
        }
        self.label_bytes += label_bytes(&labels);
        let tracks = &self.tracks;
        let labels_of = |id: u32| Some(&tracks.get(id as usize)?.as_ref()?.labels);
        let reach = self.watches.add(id, &labels, labels_of);
        if let Some(track) = self.tracks.get_mut(id as usize).and_then(Option::as_mut) {
            track.heat(reach);
            self.hot_bytes += track.hot_bytes();
        }
        self.by_labels.insert(labels, id);
        Some(id)
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.text_bytes += text.len() + 64;
        self.texts.insert(Arc::clone(&new));
        new
    }

    /// Over the byte limit: the oldest tenth of the history goes, up to all but the open chunks.
    fn make_room(&mut self, config: &Config) {
        let reaches = || self.tracks.iter().flatten().filter_map(Track::reach);
        let (Some(oldest), Some(newest)) =
            (reaches().map(|reach| reach.0).min(), reaches().map(|reach| reach.1).max())
        else {
            return;
        };
        let tenth = newest.since(oldest).0 / 10 + 1;
        for tenths in 1..=10_i64 {
            let floor = oldest.0.saturating_add(tenth.saturating_mul(tenths));
            // What ends last stays.
            let floor = Time(floor.min(newest.0.saturating_sub(1)));
            let gone = self.drop_range(Some(floor), None, false);
            self.totals.evicted_early += gone.points as u64;
            if self.bytes() <= config.bytes_max / 10 * 9 {
                return;
            }
        }
    }

    pub(crate) fn evict(&mut self, config: &Config, now: Time) -> Evicted {
        let floor = now - config.retention;
        self.floor = self.floor.max(Some(floor));
        self.drop_range(Some(floor), Some(Time(now.0.saturating_add(AHEAD_MAX))), true)
    }

    /// Drops what lies outside; `series` says whether series left without points go too.
    fn drop_range(&mut self, floor: Option<Time>, ceiling: Option<Time>, series: bool) -> Evicted {
        let mut gone = Evicted::default();
        let mut empty = HashSet::new();
        for (id, track) in (0_u32..).zip(&mut self.tracks) {
            let Some(track) = track else { continue };
            let (bytes_before, hot_before) = (track.bytes(), track.hot_bytes());
            gone.points += floor.map_or(0, |floor| track.drop_before(floor));
            gone.points += ceiling.map_or(0, |ceiling| track.drop_after(ceiling));
            self.chunk_bytes = self.chunk_bytes + track.bytes() - bytes_before;
            self.hot_bytes = self.hot_bytes + track.hot_bytes() - hot_before;
            if series && track.len() == 0 {
                empty.insert(id);
            }
        }
        self.points -= gone.points;
        gone.series = empty.len();
        self.forget(&empty);
        gone
    }

    fn forget(&mut self, ids: &HashSet<u32>) {
        if ids.is_empty() {
            return;
        }
        for &id in ids {
            let Some(track) = self.tracks.get_mut(id as usize).and_then(Option::take) else {
                continue;
            };
            self.by_labels.remove(&track.labels);
            self.label_bytes -= label_bytes(&track.labels);
            self.hot_bytes -= track.hot_bytes();
            self.vacant.push(id);
        }
        self.watches.remove(|id| ids.contains(&id));
        self.index.retain(|_, values| {
            values.retain(|_, postings| {
                postings.retain(|id| !ids.contains(id));
                postings.shrink_to_fit();
                !postings.is_empty()
            });
            !values.is_empty()
        });
        // What only this set still holds belongs to no series.
        let text_bytes = &mut self.text_bytes;
        self.texts.retain(|text| {
            let used = Arc::strong_count(text) > 1;
            if !used {
                *text_bytes -= text.len() + 64;
            }
            used
        });
    }

    pub(crate) fn bytes(&self) -> usize {
        self.chunk_bytes + self.hot_bytes + self.label_bytes + self.text_bytes
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            series: self.by_labels.len(),
            points: self.points,
            bytes: self.bytes(),
            chunk_bytes: self.chunk_bytes,
            accepted_total: self.totals.accepted,
            out_of_order_total: self.totals.out_of_order,
            over_limit_total: self.totals.over_limit,
            evicted_early_total: self.totals.evicted_early,
            ..Stats::default()
        }
    }

    /// How many chunks there are, and from when to when they reach.
    pub(crate) fn extent(&self) -> (usize, Option<(Time, Time)>) {
        let tracks = self.tracks.iter().flatten().filter(|track| track.reach().is_some());
        let chunks = tracks.clone().map(|track| track.sealed.len() + 1).sum();
        let reach = tracks
            .filter_map(crate::track::Track::reach)
            .reduce(|(first, last), (a, b)| (first.min(a), last.max(b)));
        (chunks, reach)
    }

    pub(crate) fn newest(&self, labels: &Labels) -> Option<Point> {
        let track = self.tracks.get(*self.by_labels.get(labels)? as usize)?.as_ref()?;
        track.has_points().then_some(track.newest)
    }

    pub(crate) fn label_names(&self) -> Vec<String> {
        self.index.keys().map(|name| name.to_string()).collect()
    }

    pub(crate) fn label_values(&self, name: &str) -> Vec<String> {
        self.index
            .get(name)
            .map(|values| values.keys().map(|value| value.to_string()).collect())
            .unwrap_or_default()
    }

    /// Notes the series of these selectors and keeps their newest points decoded as far back as said.
    pub(crate) fn watch(&mut self, selectors: &[(Vec<Matcher>, Span)]) {
        let watches = Watches::new(selectors, |matchers| {
            let mut ids = self.matching(matchers);
            ids.sort_by(|a, b| self.labels_of(*a).cmp(&self.labels_of(*b)));
            ids
        });
        let mut reaches: HashMap<u32, i64> = HashMap::new();
        for (id, reach) in watches.reaches() {
            let known = reaches.entry(id).or_default();
            *known = reach.max(*known);
        }
        self.watches = watches;
        self.hot_bytes = 0;
        for (id, track) in (0_u32..).zip(&mut self.tracks) {
            let Some(track) = track else { continue };
            track.heat(reaches.get(&id).copied().unwrap_or(0));
            self.hot_bytes += track.hot_bytes();
        }
    }

    fn track(&self, id: u32) -> Option<&Track> {
        self.tracks.get(id as usize)?.as_ref()
    }

    fn labels_of(&self, id: u32) -> Option<&Labels> {
        self.track(id).map(|track| &track.labels)
    }

    /// The series that satisfy all `matchers`, in no order.
    fn matching(&self, matchers: &[Matcher]) -> Vec<u32> {
        // A matcher that the empty value satisfies says nothing about which series carry the label.
        let narrowing = || matchers.iter().filter(|matcher| !matcher.matches_value(""));
        let equal = |matcher: &&Matcher| matcher.op == MatchOp::Equal;
        let mut postings: Vec<&[u32]> = narrowing()
            .filter(equal)
            .map(|matcher| {
                let values = self.index.get(matcher.name.as_str());
                let ids = values.and_then(|values| values.get(matcher.value.as_str()));
                ids.map_or(&[][..], Vec::as_slice)
            })
            .collect();
        postings.sort_by_key(|ids| ids.len());
        if let Some((fewest, others)) = postings.split_first() {
            let rest: Vec<&Matcher> = matchers
                .iter()
                .filter(|matcher| !equal(matcher) || matcher.matches_value(""))
                .collect();
            let holds = |id: &u32| {
                others.iter().all(|ids| ids.binary_search(id).is_ok())
                    && (rest.is_empty()
                        || self.labels_of(*id).is_some_and(|l| rest.iter().all(|m| m.matches(l))))
            };
            return fewest.iter().copied().filter(holds).collect();
        }
        let holds = |id: &u32| {
            self.labels_of(*id).is_some_and(|labels| matchers.iter().all(|m| m.matches(labels)))
        };
        if let Some(matcher) = narrowing().next() {
            // A series has one value per name, so no id comes twice.
            let values = self.index.get(matcher.name.as_str()).into_iter().flatten();
            return values
                .filter(|(value, _)| matcher.matches_value(value))
                .flat_map(|(_, ids)| ids.iter().copied())
                .filter(holds)
                .collect();
        }
        (0_u32..).take(self.tracks.len()).filter(holds).collect()
    }

    pub(crate) fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.read(matchers, |track| {
            (track.window(after, until), track.histogram_window(after, until))
        })
    }

    /// As [`Self::select`], but of each series the newest sample alone.
    pub(crate) fn select_newest(
        &self,
        matchers: &[Matcher],
        after: Time,
        until: Time,
    ) -> Vec<Series> {
        self.read(matchers, |track| track.last_of_both(after, until))
    }

    fn read(
        &self,
        matchers: &[Matcher],
        samples: impl Fn(&Track) -> (Vec<Point>, Vec<HistogramPoint>),
    ) -> Vec<Series> {
        let read = |id: u32| {
            let track = self.track(id)?;
            let (points, histograms) = samples(track);
            if points.is_empty() && histograms.is_empty() {
                return None;
            }
            let labels = track.labels.clone();
            Some(Series { labels, points, starts: Vec::new(), histograms })
        };
        if let Some(ids) = self.watches.series(matchers) {
            let mut found = Vec::with_capacity(ids.len());
            found.extend(ids.iter().filter_map(|&id| read(id)));
            return found;
        }
        let mut found: Vec<Series> = self.matching(matchers).into_iter().filter_map(read).collect();
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        found
    }

    pub(crate) fn series(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Labels> {
        let mut labels: Vec<Labels> = self
            .matching(matchers)
            .into_iter()
            .filter_map(|id| self.track(id))
            .filter(|track| {
                track.reach().is_some_and(|(oldest, newest)| newest > after && oldest <= until)
            })
            .map(|track| track.labels.clone())
            .collect();
        labels.sort();
        labels
    }
}
