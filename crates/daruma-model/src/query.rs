//! How detection reads series without knowing who keeps them.

use crate::{HistogramPoint, Labels, Matcher, Time};

/// The bits of the NaN that marks a series as gone (Prometheus' staleness marker).
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the staleness marker; every other NaN is data.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// The staleness marker.
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// One value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Event time.
    pub time: Time,
    /// The value, possibly the staleness marker.
    pub value: f64,
}

/// A series with its samples in order of time. Most have `points` only:
/// `Series { labels, points, ..Series::default() }`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// All labels, `__name__` among them.
    pub labels: Labels,
    /// At most one point per time, ascending; staleness markers included.
    pub points: Vec<Point>,
    /// Since when each of `points` counts, where that is known: either empty or as long as `points`.
    pub starts: Vec<Option<Time>>,
    /// Native histograms, at most one per time, ascending, at no time of a point. A series that was
    /// once a float and is now a histogram has both.
    pub histograms: Vec<HistogramPoint>,
}

impl Series {
    /// Whether it holds no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.histograms.is_empty()
    }

    /// The time of every sample of either kind, and whether it is a staleness marker; the newest first.
    pub fn backwards(&self) -> impl Iterator<Item = (Time, bool)> + '_ {
        let number = |point: &Point| (point.time, is_stale(point.value));
        let histogram = |point: &HistogramPoint| (point.time, point.histogram.is_stale());
        let mut numbers = self.points.iter().rev().map(number).peekable();
        let mut histograms = self.histograms.iter().rev().map(histogram).peekable();
        std::iter::from_fn(move || match (numbers.peek(), histograms.peek()) {
            (Some((number, _)), Some((histogram, _))) if histogram > number => histograms.next(),
            (Some(_), _) => numbers.next(),
            (None, _) => histograms.next(),
        })
    }
}

/// Read access to series at rest.
pub trait Querier {
    /// Every series that satisfies all `matchers`, with its samples in `(after, until]`
    /// (left-open, right-closed), in label-set order. Series without a sample there are left out.
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series>;

    /// As [`Querier::select`], for whoever looks at the newest sample of each series alone (a staleness
    /// marker is one): those before it may be left out.
    fn select_newest(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.select(matchers, after, until)
    }

    /// Whether nobody waits for the answer any more. Long work asks now and then, and gives up with an
    /// error; whoever lends the data knows the deadline, so that pure code needs no clock.
    fn stopped(&self) -> bool {
        false
    }
}
