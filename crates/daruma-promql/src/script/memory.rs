//! Series in memory, as a script's `load` makes them: a [`Querier`] for scripts and tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::{
    Histogram, HistogramPoint, Labels, Matcher, Point, Querier, ResetHint, Series, Time,
};

/// Series in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Stored>,
}

#[derive(Debug, Clone, Default)]
struct Stored {
    points: Vec<Point>,
    /// Since when each of `points` counts; empty as long as none says so.
    starts: Vec<Option<Time>>,
    histograms: Vec<HistogramPoint>,
}

impl Memory {
    /// Adds one sample; a later one at the same time replaces it.
    pub fn push(&mut self, labels: Labels, time: Time, value: f64) {
        self.push_since(labels, time, None, value);
    }

    /// Adds one sample that counts since `start`; a later one at the same time replaces it.
    pub fn push_since(&mut self, labels: Labels, time: Time, start: Option<Time>, value: f64) {
        let Stored { points, starts, histograms } = self.series.entry(labels).or_default();
        histograms.retain(|point| point.time != time);
        if start.is_some() && starts.is_empty() {
            starts.resize(points.len(), None);
        }
        let place = points.partition_point(|point| point.time < time);
        let started = start.is_some() || !starts.is_empty();
        match points.get_mut(place) {
            Some(point) if point.time == time => {
                point.value = value;
                if started {
                    starts[place] = start;
                }
            }
            _ => {
                points.insert(place, Point { time, value });
                if started {
                    starts.insert(place, start);
                }
            }
        }
    }

    /// Adds one native histogram; a later sample at the same time replaces it.
    pub fn push_histogram(
        &mut self,
        labels: Labels,
        time: Time,
        start: Option<Time>,
        histogram: Arc<Histogram>,
    ) {
        let Stored { points, starts, histograms } = self.series.entry(labels).or_default();
        if let Ok(place) = points.binary_search_by_key(&time, |point| point.time) {
            points.remove(place);
            if !starts.is_empty() {
                starts.remove(place);
            }
        }
        let place = histograms.partition_point(|point| point.time < time);
        let point = HistogramPoint { time, start, histogram };
        match histograms.get_mut(place) {
            Some(known) if known.time == time => *known = point,
            _ => histograms.insert(place, point),
        }
    }
}

impl Stored {
    /// The histograms with the hints they have once they are stored: one that goes on from the sample
    /// before it says so; of any other nothing is known, because what was before it may be gone.
    fn hinted(&self) -> Vec<HistogramPoint> {
        let mut before: Option<&HistogramPoint> = None;
        let mut hinted = Vec::with_capacity(self.histograms.len());
        for point in &self.histograms {
            let goes_on = before.is_some_and(|before| {
                let between = self.points.partition_point(|other| other.time <= before.time)
                    != self.points.partition_point(|other| other.time <= point.time);
                !between && point.histogram.goes_on_from(&before.histogram)
            });
            let hint = match point.histogram.hint {
                ResetHint::Gauge => ResetHint::Gauge,
                _ if goes_on => ResetHint::NotReset,
                _ => ResetHint::Unknown,
            };
            let histogram = if hint == point.histogram.hint {
                point.histogram.clone()
            } else {
                Arc::new(Histogram { hint, ..(*point.histogram).clone() })
            };
            hinted.push(HistogramPoint { histogram, ..*point });
            before = Some(point);
        }
        hinted
    }
}

impl Querier for Memory {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let matching =
            |labels: &Labels| matchers.iter().all(|matcher: &Matcher| matcher.matches(labels));
        self.series
            .iter()
            .filter(|(labels, _)| matching(labels))
            .map(|(labels, stored)| {
                let start = stored.points.partition_point(|point| point.time <= after);
                let end = stored.points.partition_point(|point| point.time <= until);
                let mut histograms = stored.hinted();
                histograms.retain(|point| point.time > after && point.time <= until);
                Series {
                    labels: labels.clone(),
                    points: stored.points.get(start..end).unwrap_or(&[]).to_vec(),
                    starts: stored.starts.get(start..end).unwrap_or(&[]).to_vec(),
                    histograms,
                }
            })
            .filter(|series| !series.is_empty())
            .collect()
    }
}
