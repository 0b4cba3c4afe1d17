//! Native histograms, as data: a whole distribution in one sample.
//!
//! It stands apart because everything that carries samples carries these, and only queries compute
//! with them. Nothing here adds, scales or compares; what is here is the shape, and whether data from
//! outside has it.
//!
//! Buckets grow exponentially (schema −4 to 8: each power of two is cut into 2^schema buckets) or lie
//! between bounds of their own (schema −53, [`Histogram::CUSTOM`]).

use std::sync::Arc;

use crate::{Time, is_stale, stale_marker};

/// What the producer says about whether a counter histogram began anew at this sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResetHint {
    /// Nothing is known; compare with the sample before.
    #[default]
    Unknown,
    /// The counts began anew after the sample before.
    Reset,
    /// The counts go on from the sample before.
    NotReset,
    /// Not a counter: counts may fall.
    Gauge,
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// The index of its first bucket; counted from the end of the run before, if there is one.
    pub offset: i32,
    /// How many buckets it holds.
    pub length: u32,
}

/// The buckets of one sign.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    /// Which indices are there; ascending.
    pub spans: Vec<BucketSpan>,
    /// Observations in each bucket (not cumulative), in order of the spans.
    pub counts: Vec<f64>,
}

impl Buckets {
    /// Index and count of every bucket, in order of index. Spans beyond the counts, or counts beyond the
    /// spans, are left out; indices saturate.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let mut next = 0_i32;
        let indices = self.spans.iter().flat_map(move |span| {
            let first = next.saturating_add(span.offset);
            next = first.saturating_add_unsigned(span.length);
            (0..span.length).map(move |i| first.saturating_add_unsigned(i))
        });
        indices.zip(self.counts.iter().copied())
    }

    /// How many buckets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Indices and counts, ascending by index; a repeated or falling index is added to the bucket before.
impl FromIterator<(i32, f64)> for Buckets {
    fn from_iter<I: IntoIterator<Item = (i32, f64)>>(pairs: I) -> Buckets {
        let mut buckets = Buckets::default();
        // The index behind the last bucket.
        let mut end = 0_i32;
        for (index, count) in pairs {
            match (buckets.spans.last_mut(), buckets.counts.last_mut()) {
                (Some(span), Some(_)) if index == end => span.length += 1,
                (Some(_), Some(last)) if index < end => {
                    *last += count;
                    continue;
                }
                _ => {
                    buckets.spans.push(BucketSpan { offset: index.saturating_sub(end), length: 1 })
                }
            }
            buckets.counts.push(count);
            end = index.saturating_add(1);
        }
        buckets
    }
}

/// One native histogram; counts are floats, because rates and sums of histograms are histograms, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// −4 to 8 for exponential buckets, [`Histogram::CUSTOM`] for bounds of its own.
    pub schema: i8,
    /// Whether the counts began anew.
    pub hint: ResetHint,
    /// All observations, those of NaN among them.
    pub count: f64,
    /// The sum of all observations; the staleness marker, if the series is gone.
    pub sum: f64,
    /// Half the width of the bucket around zero.
    pub zero_threshold: f64,
    /// Observations in the bucket around zero.
    pub zero_count: f64,
    /// Buckets above zero; with custom bounds, all buckets.
    pub positive: Buckets,
    /// Buckets below zero, mirrored; none with custom bounds.
    pub negative: Buckets,
    /// Upper bounds of custom buckets, ascending; the last bucket, up to +Inf, has none.
    pub custom_bounds: Arc<[f64]>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            schema: 0,
            hint: ResetHint::Unknown,
            count: 0.0,
            sum: 0.0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            positive: Buckets::default(),
            negative: Buckets::default(),
            custom_bounds: Arc::from([]),
        }
    }
}

/// Why data is not a histogram.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// A schema that does not exist.
    #[error("schema {schema} is unknown; -4 to 8 and -53 (custom bounds) are known")]
    Schema {
        /// What was found.
        schema: i8,
    },
    /// Spans and counts do not tell of the same buckets, or their indices are out of order or range.
    #[error("the spans do not fit the {counts} bucket counts beside them")]
    Spans {
        /// How many counts there are.
        counts: usize,
    },
    /// More buckets than one histogram may have.
    #[error("{found} buckets; at most {} are accepted", Histogram::BUCKETS_MAX)]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A count that counts nothing.
    #[error("{found} is no count of observations")]
    Count {
        /// What was found.
        found: f64,
    },
    /// The buckets hold more or fewer observations than there are.
    #[error("its buckets hold {buckets} observations, of {count}")]
    Mismatch {
        /// All observations, as said.
        count: f64,
        /// As counted.
        buckets: f64,
    },
    /// Custom bounds that do not rise, or that belong to no schema.
    #[error(
        "custom bounds must be finite, rise, and belong to schema -53 without buckets below zero"
    )]
    Bounds,
}

impl Histogram {
    /// The schema of custom bounds.
    pub const CUSTOM: i8 = -53;
    /// The coarsest exponential schema.
    pub const SCHEMA_MIN: i8 = -4;
    /// The finest exponential schema.
    pub const SCHEMA_MAX: i8 = 8;
    /// The most buckets one histogram may have when it comes from outside.
    pub const BUCKETS_MAX: usize = 20_000;

    /// The histogram that marks a series as gone.
    #[must_use]
    pub fn stale() -> Histogram {
        Histogram { sum: stale_marker(), ..Histogram::default() }
    }

    /// Whether it marks the series as gone.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether its buckets have bounds of their own.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.schema == Histogram::CUSTOM
    }

    /// How many buckets it holds, the one around zero included.
    #[must_use]
    pub fn buckets(&self) -> usize {
        1 + self.positive.len() + self.negative.len()
    }

    /// Whether data from outside has the shape of a histogram. What is computed may well have negative
    /// counts; what is observed may not.
    ///
    /// # Errors
    /// [`HistogramError`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        let exponential = (Histogram::SCHEMA_MIN..=Histogram::SCHEMA_MAX).contains(&self.schema);
        if !exponential && !self.is_custom() {
            return Err(HistogramError::Schema { schema: self.schema });
        }
        if self.is_stale() {
            return Ok(());
        }
        let spans = self.positive.spans.len().max(self.negative.spans.len());
        let found = self.buckets().saturating_add(self.custom_bounds.len()).max(spans);
        if found > Histogram::BUCKETS_MAX {
            return Err(HistogramError::TooMany { found });
        }
        if self.is_custom() {
            let bounds = &self.custom_bounds;
            let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
            let finite = bounds.iter().all(|bound| bound.is_finite());
            let bare = self.negative.is_empty() && self.zero_count == 0.0;
            if !rising || !finite || !bare {
                return Err(HistogramError::Bounds);
            }
        } else if !self.custom_bounds.is_empty() {
            return Err(HistogramError::Bounds);
        }
        for buckets in [&self.positive, &self.negative] {
            self.check_buckets(buckets)?;
        }
        let counts = [self.count, self.zero_count, self.zero_threshold];
        // A gauge may hold differences, hence counts below zero.
        let gauge = self.hint == ResetHint::Gauge;
        let bad = |found: &f64| !(*found >= 0.0 || gauge && found.is_finite());
        let all = self.positive.counts.iter().chain(&self.negative.counts).chain(&counts);
        match all.copied().find(bad) {
            Some(found) => Err(HistogramError::Count { found }),
            None => Ok(()),
        }
    }

    /// Whether its counts go on from `before`: both count the same way, have the same kind of buckets, and
    /// none holds less. What its producer says of it counts only where that is a reset.
    #[must_use]
    pub fn goes_on_from(&self, before: &Histogram) -> bool {
        let counters = self.hint != ResetHint::Gauge && before.hint != ResetHint::Gauge;
        let alike = self.schema == before.schema
            && self.zero_threshold == before.zero_threshold
            && self.custom_bounds == before.custom_bounds
            && self.is_stale() == before.is_stale();
        let fell = |now: &Buckets, before: &Buckets| any_fell(now.iter(), before.iter());
        counters
            && alike
            && self.hint != ResetHint::Reset
            && self.count >= before.count
            && self.zero_count >= before.zero_count
            && !fell(&self.positive, &before.positive)
            && !fell(&self.negative, &before.negative)
    }

    fn check_buckets(&self, buckets: &Buckets) -> Result<(), HistogramError> {
        let error = || HistogramError::Spans { counts: buckets.counts.len() };
        let (mut length, mut end) = (0_u64, 0_i64);
        for (i, span) in buckets.spans.iter().enumerate() {
            if i > 0 && span.offset < 0 {
                return Err(error());
            }
            length += u64::from(span.length);
            end += i64::from(span.offset) + i64::from(span.length);
        }
        let first = buckets.spans.first().map_or(0, |span| i64::from(span.offset));
        let far = first < i64::from(i32::MIN / 2) || end > i64::from(i32::MAX / 2);
        let outside = self.is_custom() && (first < 0 || end > self.custom_bounds.len() as i64 + 1);
        if length != buckets.counts.len() as u64 || far || outside {
            return Err(error());
        }
        Ok(())
    }
}

/// Whether a bucket holds less now than before. Both run in order of index; an index may repeat.
#[must_use]
pub fn any_fell(
    now: impl Iterator<Item = (i32, f64)>,
    before: impl Iterator<Item = (i32, f64)>,
) -> bool {
    let mut now = now.peekable();
    let mut before = before.peekable();
    while let Some((index, mut count_before)) = before.next() {
        while let Some((_, more)) = before.next_if(|(next, _)| *next == index) {
            count_before += more;
        }
        while now.next_if(|(next, _)| *next < index).is_some() {}
        let mut count_now = 0.0;
        while let Some((_, more)) = now.next_if(|(next, _)| *next == index) {
            count_now += more;
        }
        if count_now < count_before {
            return true;
        }
    }
    false
}

/// One histogram at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// Event time.
    pub time: Time,
    /// Since when its counts count, if that is known.
    pub start: Option<Time>,
    /// The distribution, possibly a staleness marker.
    pub histogram: Arc<Histogram>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indices_come_back_as_they_went_in() {
        let pairs = [(-3, 1.0), (-2, 0.0), (5, 2.0), (6, 3.0), (900, 4.0)];
        let buckets: Buckets = pairs.into_iter().collect();
        assert_eq!(buckets.spans.len(), 3);
        assert_eq!(buckets.spans[1], BucketSpan { offset: 6, length: 2 });
        assert_eq!(buckets.iter().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let good = Histogram {
            count: 3.0,
            positive: [(0, 1.0), (4, 2.0)].into_iter().collect(),
            ..Histogram::default()
        };
        let custom = Histogram {
            schema: Histogram::CUSTOM,
            custom_bounds: Arc::from([1.0, 2.0]),
            positive: [(2, 1.0)].into_iter().collect(),
            ..Histogram::default()
        };
        assert_eq!((good.validate(), custom.validate()), (Ok(()), Ok(())));
        assert_eq!(Histogram::stale().validate(), Ok(()));
        let broken = |change: &dyn Fn(&mut Histogram)| {
            let mut histogram = good.clone();
            change(&mut histogram);
            histogram.validate().unwrap_err()
        };
        assert_eq!(broken(&|h| h.schema = 9), HistogramError::Schema { schema: 9 });
        assert_eq!(broken(&|h| h.positive.counts[0] = -1.0), HistogramError::Count { found: -1.0 });
        assert_eq!(
            broken(&|h| h.positive.spans[1].offset = -1),
            HistogramError::Spans { counts: 2 }
        );
        assert_eq!(
            broken(&|h| h.positive.spans[1].length = 9),
            HistogramError::Spans { counts: 2 }
        );
        assert_eq!(broken(&|h| h.custom_bounds = Arc::from([1.0])), HistogramError::Bounds);
        let twice = Histogram { custom_bounds: Arc::from([2.0, 2.0]), ..custom.clone() };
        assert_eq!(twice.validate(), Err(HistogramError::Bounds));
        let beyond = Histogram { positive: [(3, 1.0)].into_iter().collect(), ..custom };
        assert_eq!(beyond.validate(), Err(HistogramError::Spans { counts: 1 }));
    }

    #[test]
    fn only_what_grew_in_the_same_buckets_goes_on() {
        let now = |count: f64, buckets: &[(i32, f64)]| Histogram {
            count,
            positive: buckets.iter().copied().collect(),
            ..Histogram::default()
        };
        let before = now(4.0, &[(1, 1.0), (3, 3.0)]);
        let hinted = |hint| Histogram { hint, ..before.clone() };
        for (histogram, want) in [
            (before.clone(), true),
            (now(9.0, &[(1, 1.0), (2, 5.0), (3, 3.0)]), true),
            (now(3.0, &[(1, 1.0), (3, 3.0)]), false),
            (now(9.0, &[(1, 0.5), (3, 8.5)]), false),
            (now(9.0, &[(3, 9.0)]), false),
            (hinted(ResetHint::Reset), false),
            (hinted(ResetHint::Gauge), false),
            (Histogram { schema: 1, ..before.clone() }, false),
            (Histogram { hint: ResetHint::NotReset, ..now(1.0, &[(1, 1.0)]) }, false),
            (Histogram::stale(), false),
        ] {
            assert_eq!(histogram.goes_on_from(&before), want, "{histogram:?}");
        }
    }

    proptest! {
        /// Spans from outside may say anything; reading them ends and does not panic.
        #[test]
        fn any_spans_can_be_read(
            spans in prop::collection::vec((any::<i32>(), any::<u32>()), 0..6),
            counts in prop::collection::vec(any::<f64>(), 0..20),
        ) {
            let spans =
                spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect();
            let buckets = Buckets { spans, counts };
            prop_assert!(buckets.iter().count() <= buckets.len());
            let _ = Histogram { positive: buckets, ..Histogram::default() }.validate();
        }
    }
}
