//! Selectors that are asked for again and again: rules ask the same every few seconds.
//!
//! For each one the series that satisfy it are kept in order, brought up to date when a series comes
//! or goes, so that asking costs what it finds. The newest points of those series are kept decoded
//! ([`Hot`]) as far back as the selectors reach, so that asking decodes nothing.
//!
//! Whatever is kept here can be computed from the chunks and the index at any time; what does not fit
//! the bounds is not kept, and answered from there.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use daruma_model::{Labels, MatchOp, Matcher, Point, Span, Time};

/// Windows longer than this (ms) are read from the chunks: they would take too much room.
const REACH_MAX: i64 = 20 * 60_000;

/// How much further back (ms) points are kept: a grid instant may lie behind the newest sample.
const SLACK: i64 = 30_000;

/// Points kept decoded for one series.
const POINTS_MAX: usize = 1024;

/// Series noted over all selectors.
const NOTED_MAX: usize = 8 << 20;

/// One selector.
#[derive(Debug)]
struct Watch {
    matchers: Vec<Matcher>,
    reach: i64,
    /// In order of their label sets; `None` if they are too many to note.
    series: Option<Vec<u32>>,
}

/// All selectors, by what they ask.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    all: Vec<Watch>,
    hasher: RandomState,
    by_hash: HashMap<u64, Vec<usize>>,
    /// Selectors by one pair that their series carry: label name → value → selectors.
    anchored: HashMap<String, HashMap<String, Vec<usize>>>,
    /// Selectors without such a pair.
    loose: Vec<usize>,
    noted: usize,
}

impl Watches {
    /// `find` yields the series of a selector in order of label sets.
    pub(crate) fn new(
        selectors: &[(Vec<Matcher>, Span)],
        find: impl Fn(&[Matcher]) -> Vec<u32>,
    ) -> Watches {
        let mut pairs: HashMap<(&str, &str), usize> = HashMap::new();
        let equal = |matcher: &&Matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty();
        for matcher in selectors.iter().flat_map(|(matchers, _)| matchers).filter(equal) {
            *pairs.entry((&matcher.name, &matcher.value)).or_default() += 1;
        }
        let mut watches = Watches::default();
        for (matchers, reach) in selectors {
            let at = watches.all.len();
            // The pair that the fewest selectors share tells most.
            let shared = |m: &&Matcher| pairs.get(&(m.name.as_str(), m.value.as_str())).copied();
            match matchers.iter().filter(equal).min_by_key(shared) {
                Some(anchor) => {
                    let values = watches.anchored.entry(anchor.name.clone()).or_default();
                    values.entry(anchor.value.clone()).or_default().push(at);
                }
                None => watches.loose.push(at),
            }
            let found = find(matchers);
            let series = (watches.noted + found.len() <= NOTED_MAX).then_some(found);
            watches.noted += series.as_ref().map_or(0, Vec::len);
            let hash = watches.hasher.hash_one(matchers.as_slice());
            watches.by_hash.entry(hash).or_default().push(at);
            let reach = if reach.0 <= REACH_MAX { reach.0.max(0) } else { 0 };
            watches.all.push(Watch { matchers: matchers.clone(), reach, series });
        }
        watches
    }

    /// The series of exactly these matchers, if they are watched.
    pub(crate) fn series(&self, matchers: &[Matcher]) -> Option<&[u32]> {
        if self.all.is_empty() {
            return None;
        }
        let candidates = self.by_hash.get(&self.hasher.hash_one(matchers))?;
        let watches = candidates.iter().filter_map(|&at| self.all.get(at));
        watches.filter(|watch| watch.matchers == matchers).find_map(|watch| watch.series.as_deref())
    }

    /// Every noted series with how far back it is read.
    pub(crate) fn reaches(&self) -> impl Iterator<Item = (u32, i64)> {
        let noted = |watch: &Watch| {
            let (reach, series) = (watch.reach, watch.series.clone().unwrap_or_default());
            series.into_iter().map(move |id| (id, reach))
        };
        self.all.iter().filter(|watch| watch.reach > 0).flat_map(noted)
    }

    /// A series came. `labels_of` tells the labels of those noted. Returns how far back it is read.
    pub(crate) fn add<'l>(
        &mut self,
        id: u32,
        labels: &Labels,
        labels_of: impl Fn(u32) -> Option<&'l Labels>,
    ) -> i64 {
        let mut reach = 0;
        let anchored = labels
            .iter()
            .filter_map(|(name, value)| self.anchored.get(name)?.get(value))
            .flatten()
            .chain(&self.loose);
        for &at in anchored {
            let Some(watch) = self.all.get_mut(at) else { continue };
            if !watch.matchers.iter().all(|matcher| matcher.matches(labels)) {
                continue;
            }
            let Some(series) = watch.series.as_mut() else { continue };
            if self.noted >= NOTED_MAX {
                self.noted -= series.len();
                watch.series = None;
                continue;
            }
            self.noted += 1;
            let place = series
                .partition_point(|&other| labels_of(other).is_some_and(|other| other < labels));
            series.insert(place, id);
            reach = reach.max(watch.reach);
        }
        reach
    }

    /// Series went.
    pub(crate) fn remove(&mut self, gone: impl Fn(u32) -> bool) {
        for series in self.all.iter_mut().filter_map(|watch| watch.series.as_mut()) {
            let before = series.len();
            series.retain(|&id| !gone(id));
            self.noted -= before - series.len();
        }
    }
}

/// The newest points of a series, decoded.
#[derive(Debug)]
pub(crate) struct Hot {
    reach: i64,
    /// Every point of the series after this is here.
    since: i64,
    points: Vec<Point>,
    /// Points before this place have left.
    from: usize,
}

impl Hot {
    /// `points` are all points of the series after `since`.
    pub(crate) fn new(reach: i64, since: Time, points: Vec<Point>) -> Hot {
        let mut hot = Hot { reach: reach.saturating_add(SLACK), since: since.0, points, from: 0 };
        hot.trim();
        hot
    }

    /// How far back a new one must know its series that ends at `newest`.
    pub(crate) fn since(reach: i64, newest: Time) -> Time {
        Time(newest.0.saturating_sub(reach).saturating_sub(SLACK))
    }

    /// How far back it reaches, as it was asked to.
    pub(crate) fn reach(&self) -> i64 {
        self.reach.saturating_sub(SLACK)
    }

    /// Whether it reaches as far.
    pub(crate) fn reaches(&self, reach: i64) -> bool {
        self.reach >= reach.saturating_add(SLACK)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>() + size_of::<Hot>()
    }

    pub(crate) fn push(&mut self, point: Point) {
        self.points.push(point);
        self.trim();
    }

    fn trim(&mut self) {
        let Some(newest) = self.points.last() else { return };
        let floor = newest.time.0.saturating_sub(self.reach);
        while let Some(point) = self.points.get(self.from)
            && (point.time.0 <= floor || self.points.len() - self.from > POINTS_MAX)
        {
            self.since = self.since.max(point.time.0);
            self.from += 1;
        }
        // Moved down now and then, so that a push costs no more than a copy.
        if self.from > 16 && self.from > self.points.len() / 2 {
            self.points.drain(..self.from);
            self.from = 0;
        }
    }

    /// Points before `oldest` are gone from the series.
    pub(crate) fn drop_before(&mut self, oldest: Time) {
        while self.points.get(self.from).is_some_and(|point| point.time < oldest) {
            self.from += 1;
        }
    }

    /// The points in `(after, until]`, if all of them are here.
    pub(crate) fn window(&self, after: Time, until: Time) -> Option<&[Point]> {
        if after.0 < self.since {
            return None;
        }
        let points = self.points.get(self.from..)?;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Some(points);
        };
        let end = if last.time <= until {
            points.len()
        } else {
            points.partition_point(|point| point.time <= until)
        };
        if after < first.time {
            return points.get(..end);
        }
        // Samples mostly come at one pace: the place is guessed, and found on foot from there. To
        // search would touch memory that is not read anyway.
        let (reach, steps) = (last.time.since(first.time).0, points.len() as i64 - 1);
        let back = last.time.since(after).0.saturating_mul(steps) / reach.max(1);
        let mut start = points.len().saturating_sub(usize::try_from(back).unwrap_or(0)).min(end);
        while start > 0 && points.get(start - 1).is_some_and(|point| point.time > after) {
            start -= 1;
        }
        while start < end && points.get(start).is_some_and(|point| point.time <= after) {
            start += 1;
        }
        points.get(start..end)
    }
}
