//! One series: its labels, its chunks, its newest samples.
//!
//! Apart from [`crate::head`], which knows which series there are and what they cost together. Nothing
//! here refuses a sample: whoever adds one has seen that it is newer than all others.

use std::collections::VecDeque;

use daruma_model::{HistogramPoint, Labels, Point, Time};

use crate::chunk::{Open, Sealed};
use crate::histograms::Histograms;
use crate::watch::Hot;

/// Stands for the newest number of a series without one.
const NO_POINT: Point = Point { time: Time::MIN, value: 0.0 };

/// One series with its history. In this order in memory: what every reading looks at lies together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Track {
    pub(crate) labels: Labels,
    pub(crate) newest: Point,
    /// The newest points, decoded, if rules read them.
    pub(crate) hot: Option<Box<Hot>>,
    /// Its native histograms, if it has any. All else here is about its numbers.
    pub(crate) histograms: Option<Box<Histograms>>,
    pub(crate) open: Open,
    pub(crate) sealed: VecDeque<Sealed>,
}

impl Track {
    pub(crate) fn new(labels: Labels) -> Track {
        Track {
            labels,
            newest: NO_POINT,
            hot: None,
            histograms: None,
            open: Open::default(),
            sealed: VecDeque::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sealed.iter().map(Sealed::bytes).sum::<usize>()
            + self.open.bytes()
            + self.histogram_bytes()
    }

    pub(crate) fn histogram_bytes(&self) -> usize {
        self.histograms.as_ref().map_or(0, |histograms| histograms.bytes())
    }

    /// Samples of both kinds.
    pub(crate) fn len(&self) -> usize {
        self.points() + self.histograms.as_ref().map_or(0, |histograms| histograms.len())
    }

    fn points(&self) -> usize {
        self.sealed.iter().map(Sealed::len).sum::<usize>() + self.open.len()
    }

    pub(crate) fn has_points(&self) -> bool {
        self.open.len() > 0 || !self.sealed.is_empty()
    }

    fn oldest_point(&self) -> Time {
        self.sealed.front().map_or(self.open.first(), Sealed::first)
    }

    /// The times of the first and the last sample of either kind, if there is one.
    pub(crate) fn reach(&self) -> Option<(Time, Time)> {
        let points = self.has_points().then(|| (self.oldest_point(), self.newest.time));
        let histograms = self.histograms.as_ref().map(|all| (all.oldest(), all.newest().time));
        match (points, histograms) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, None) | (None, one) => one,
        }
    }

    /// Whether the newest sample is a histogram.
    pub(crate) fn ends_as_histogram(&self) -> bool {
        let newer = |all: &Histograms| !self.has_points() || all.newest().time > self.newest.time;
        self.histograms.as_deref().is_some_and(newer)
    }

    /// Adds a histogram that is newer than all else.
    pub(crate) fn push_histogram(&mut self, point: &HistogramPoint) {
        let alone = !self.ends_as_histogram();
        match &mut self.histograms {
            Some(histograms) => histograms.push(point, alone),
            None => self.histograms = Some(Box::new(Histograms::new(point))),
        }
    }

    /// The histograms in `(after, until]`.
    pub(crate) fn histogram_window(&self, after: Time, until: Time) -> Vec<HistogramPoint> {
        self.histograms.as_ref().map_or(Vec::new(), |all| all.window(after, until))
    }

    /// The newest sample in `(after, until]`, whichever kind it is.
    pub(crate) fn last_of_both(
        &self,
        after: Time,
        until: Time,
    ) -> (Vec<Point>, Vec<HistogramPoint>) {
        let point = self.last(after, until);
        let histogram = self.histograms.as_ref().and_then(|all| all.last(after, until));
        match (point, histogram) {
            (Some(point), Some(histogram)) if point.time > histogram.time => {
                (vec![point], Vec::new())
            }
            (_, Some(histogram)) => (Vec::new(), vec![histogram]),
            (point, None) => (point.into_iter().collect(), Vec::new()),
        }
    }

    pub(crate) fn push(&mut self, point: Point) {
        if self.open.is_full() {
            self.sealed.push_back(self.open.seal());
            self.open = Open::default();
        }
        self.open.push(point);
        self.newest = point;
        if let Some(hot) = &mut self.hot {
            hot.push(point);
        }
    }

    /// Keeps the newest points decoded so far back (ms); 0: not at all.
    pub(crate) fn heat(&mut self, reach: i64) {
        if reach == 0 {
            self.hot = None;
        } else if self.hot.as_ref().is_none_or(|hot| !hot.reaches(reach)) {
            let since = Hot::since(reach, self.newest.time);
            self.hot = Some(Box::new(Hot::new(reach, since, self.cold(since, Time::MAX))));
        }
    }

    pub(crate) fn hot_bytes(&self) -> usize {
        self.hot.as_ref().map_or(0, |hot| hot.bytes())
    }

    /// The points in `(after, until]`, decoding only chunks that reach into it.
    pub(crate) fn window(&self, after: Time, until: Time) -> Vec<Point> {
        if self.newest.time <= after {
            return Vec::new();
        }
        match self.hot.as_ref().and_then(|hot| hot.window(after, until)) {
            Some(points) => points.to_vec(),
            None => self.cold(after, until),
        }
    }

    /// The newest point in `(after, until]`.
    pub(crate) fn last(&self, after: Time, until: Time) -> Option<Point> {
        if self.newest.time <= after {
            return None;
        }
        if self.newest.time <= until && self.open.len() > 0 {
            return Some(self.newest);
        }
        match self.hot.as_ref().and_then(|hot| hot.window(after, until)) {
            Some(points) => points.last().copied(),
            None => self.cold(after, until).pop(),
        }
    }

    /// As [`Self::window`], from the chunks.
    fn cold(&self, after: Time, until: Time) -> Vec<Point> {
        if !self.has_points() || self.newest.time <= after || self.oldest_point() > until {
            return Vec::new();
        }
        let from = self.sealed.partition_point(|chunk| chunk.last() <= after);
        let sealed = || self.sealed.range(from..).take_while(|chunk| chunk.first() <= until);
        let open = (self.open.len() > 0 && self.open.first() <= until).then_some(&self.open);
        // Room for what is probably there: of chunks at the edges, their part of the time.
        let share = |first: Time, last: Time, length: usize| {
            let part = (last.min(until) - first.max(after)).as_secs_f64();
            let whole = (last - first).as_secs_f64().max(f64::MIN_POSITIVE);
            ((length as f64 * part / whole) as usize + 1).min(length)
        };
        let room: usize = sealed().map(|c| share(c.first(), c.last(), c.len())).sum();
        let room = room + open.map_or(0, |c| share(c.first(), c.last(), c.len()));
        let mut points = Vec::with_capacity(room);
        for chunk in sealed() {
            chunk.iter().append_to(after, until, &mut points);
        }
        if let Some(open) = open {
            open.iter().append_to(after, until, &mut points);
        }
        points
    }

    /// Drops whole sealed chunks that end at or before `floor`, and an open one likewise.
    /// Returns how many samples went.
    pub(crate) fn drop_before(&mut self, floor: Time) -> usize {
        let mut dropped = 0;
        while let Some(chunk) = self.sealed.pop_front_if(|chunk| chunk.last() <= floor) {
            dropped += chunk.len();
        }
        if self.sealed.is_empty() && self.open.len() > 0 && self.open.last() <= floor {
            dropped += self.open.len();
            self.open = Open::default();
        }
        if dropped > 0
            && let Some(hot) = &mut self.hot
        {
            let left = !self.sealed.is_empty() || self.open.len() > 0;
            let oldest = if left {
                self.sealed.front().map_or(self.open.first(), Sealed::first)
            } else {
                Time::MAX
            };
            hot.drop_before(oldest);
        }
        if let Some(histograms) = &mut self.histograms {
            let (gone, left) = histograms.drop_before(floor);
            dropped += gone;
            if !left {
                self.histograms = None;
            }
        }
        dropped
    }

    /// Drops samples after `ceiling`. Returns how many went.
    pub(crate) fn drop_after(&mut self, ceiling: Time) -> usize {
        if self.reach().is_none_or(|(_, newest)| newest <= ceiling) {
            return 0;
        }
        let before = self.len();
        let mut kept = Track::new(self.labels.clone());
        for point in self.cold(Time::MIN, ceiling) {
            kept.push(point);
        }
        kept.histograms = self.histograms.as_ref().and_then(|all| all.until(ceiling).map(Box::new));
        let reach = self.hot.as_ref().map(|hot| hot.reach());
        *self = kept;
        if let Some(reach) = reach {
            self.heat(reach);
        }
        before - self.len()
    }
}
