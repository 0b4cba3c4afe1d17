//! How detection reads series without knowing who keeps them.

use crate::{Labels, Matcher, Time};

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

/// A series with its points in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// All labels, `__name__` among them.
    pub labels: Labels,
    /// At most one point per time, ascending; staleness markers included.
    pub points: Vec<Point>,
}

/// Read access to series at rest.
pub trait Querier {
    /// Every series that satisfies all `matchers`, with its points in `(after, until]`
    /// (left-open, right-closed), in label-set order. Series without a point there are left out.
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series>;
}
