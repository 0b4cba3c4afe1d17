//! Compressed runs of native histograms of one series.
//!
//! All histograms of a chunk have one [`Layout`]: the same buckets of the same kind. What differs is
//! written bit by bit as in [`crate::chunk`]: times and whole counts as delta of delta, sums and other
//! counts by XOR with the value before. A histogram with another layout begins another chunk.
//!
//! Nothing here decides what is kept, or looks at labels. What is read back has every bit of what was
//! written, but for two things that are said of it anew: [`ResetHint`], and staleness markers, of which
//! only that they are markers is kept.

use std::sync::Arc;

use daruma_model::{BucketSpan, Buckets, Histogram, HistogramPoint, ResetHint, Time};

use crate::bits::{BitReader, BitWriter};

/// Histograms in a full chunk.
const CHUNK_POINTS: u16 = 120;

/// Bytes from which a chunk counts as full, so that reading one of very wide histograms has a bound.
const CHUNK_BYTES: usize = 32 << 10;

/// Whole numbers beyond this are not exact in an `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What all histograms of a chunk have in common.
#[derive(Debug, PartialEq)]
struct Layout {
    schema: i8,
    gauge: bool,
    /// All counts are whole.
    whole: bool,
    zero_threshold: u64,
    bounds: Arc<[f64]>,
    /// Of positive and negative buckets: the spans, and how many counts.
    spans: [Vec<BucketSpan>; 2],
    counts: [usize; 2],
}

impl Layout {
    fn of(histogram: &Histogram) -> Layout {
        let sides = [&histogram.positive, &histogram.negative];
        Layout {
            schema: histogram.schema,
            gauge: histogram.hint == ResetHint::Gauge,
            whole: is_whole(histogram),
            zero_threshold: histogram.zero_threshold.to_bits(),
            bounds: Arc::clone(&histogram.custom_bounds),
            spans: sides.map(|side| side.spans.clone()),
            counts: sides.map(Buckets::len),
        }
    }

    /// Whether a histogram has it.
    fn fits(&self, histogram: &Histogram) -> bool {
        let sides = [&histogram.positive, &histogram.negative];
        let bits = |bound: &f64| bound.to_bits();
        self.schema == histogram.schema
            && self.gauge == (histogram.hint == ResetHint::Gauge)
            && self.zero_threshold == histogram.zero_threshold.to_bits()
            && sides.iter().zip(&self.spans).all(|(side, spans)| side.spans == *spans)
            && sides.iter().zip(&self.counts).all(|(side, counts)| side.len() == *counts)
            && self.bounds.iter().map(bits).eq(histogram.custom_bounds.iter().map(bits))
            && self.whole == is_whole(histogram)
    }

    fn bytes(&self) -> usize {
        let spans = self.spans[0].capacity() + self.spans[1].capacity();
        size_of::<Layout>() + spans * size_of::<BucketSpan>() + self.bounds.len() * 8
    }

    /// Counts of one histogram: all, around zero, and of every bucket.
    fn columns(&self) -> usize {
        2 + self.counts[0] + self.counts[1]
    }
}

/// The counts of a histogram, in the order in which they are written.
fn counts(histogram: &Histogram) -> impl Iterator<Item = f64> + '_ {
    let buckets = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    [histogram.count, histogram.zero_count].into_iter().chain(buckets.copied())
}

fn is_whole(histogram: &Histogram) -> bool {
    // By way of the integer, so that -0 is seen not to come back.
    let whole =
        |count: f64| count.abs() < EXACT_MAX && (count as i64 as f64).to_bits() == count.to_bits();
    counts(histogram).all(whole)
}

/// Small numbers in few bits: the widths are for numbers that scatter around zero.
fn push_int(writer: &mut BitWriter, number: i64) {
    let (prefix, width) = match number {
        0 => return writer.push(0, 1),
        -4..=3 => (1, 3),
        -32..=31 => (2, 6),
        -256..=255 => (3, 9),
        -2048..=2047 => (4, 12),
        -131_072..=131_071 => (5, 18),
        _ => (6, 64),
    };
    writer.unary(prefix);
    writer.push(number as u64, width);
}

fn pull_int(reader: &mut BitReader<'_>) -> Option<i64> {
    let width = match reader.unary(6)? {
        0 => return Some(0),
        1 => 3,
        2 => 6,
        3 => 9,
        4 => 12,
        5 => 18,
        _ => 64,
    };
    let shift = 64 - width;
    Some(((reader.pull(width)? << shift) as i64) >> shift)
}

/// A number under way, that is written by how its growth differs from its growth before.
#[derive(Debug, Clone, Copy, Default)]
struct Whole {
    last: i64,
    slope: i64,
}

impl Whole {
    fn push(&mut self, writer: &mut BitWriter, number: i64) {
        let step = number.wrapping_sub(self.last);
        push_int(writer, step.wrapping_sub(self.slope));
        *self = Whole { last: number, slope: step };
    }

    fn pull(&mut self, reader: &mut BitReader<'_>) -> Option<i64> {
        self.slope = self.slope.wrapping_add(pull_int(reader)?);
        self.last = self.last.wrapping_add(self.slope);
        Some(self.last)
    }

    /// The first number of a run says nothing about its growth.
    fn begin(&mut self) {
        self.slope = 0;
    }
}

/// A float under way, that is written by the bits in which it differs from the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Xor {
    bits: u64,
    leading: u8,
    /// Of the bits written last; 0 before any.
    width: u8,
}

impl Xor {
    fn push(&mut self, writer: &mut BitWriter, value: f64) {
        let xor = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if xor == 0 {
            return writer.push(0, 1);
        }
        let (leading, trailing) = (xor.leading_zeros().min(31) as u8, xor.trailing_zeros() as u8);
        let end = self.leading + self.width;
        if self.width > 0 && leading >= self.leading && 64 - trailing <= end {
            writer.push(0b10, 2);
        } else {
            (self.leading, self.width) = (leading, 64 - leading - trailing);
            writer.push(0b11, 2);
            writer.push(u64::from(leading), 5);
            writer.push(u64::from(self.width - 1), 6);
        }
        writer.push(xor >> self.trailing(), u32::from(self.width));
    }

    fn pull(&mut self, reader: &mut BitReader<'_>) -> Option<f64> {
        if reader.pull(1)? == 1 {
            if reader.pull(1)? == 1 {
                self.leading = reader.pull(5)? as u8;
                self.width = reader.pull(6)? as u8 + 1;
            }
            if self.width == 0 || self.leading + self.width > 64 {
                return None;
            }
            self.bits ^= reader.pull(u32::from(self.width))? << self.trailing();
        }
        Some(f64::from_bits(self.bits))
    }

    fn trailing(&self) -> u32 {
        64 - u32::from(self.leading) - u32::from(self.width)
    }
}

/// What the next histogram is written against; the same when writing and when reading.
#[derive(Debug, Clone, Default)]
struct State {
    time: Whole,
    start: Option<Time>,
    sum: Xor,
    /// As the layout says, one of these is used.
    whole: Vec<Whole>,
    any: Vec<Xor>,
    /// How many times, and how many sums and counts, have passed: what comes first sets the pace.
    times: u32,
    bodies: u32,
}

impl State {
    fn new(layout: &Layout) -> State {
        let columns = layout.columns();
        if layout.whole {
            State { whole: vec![Whole::default(); columns], ..State::default() }
        } else {
            State { any: vec![Xor::default(); columns], ..State::default() }
        }
    }

    fn bytes(&self) -> usize {
        self.whole.capacity() * size_of::<Whole>() + self.any.capacity() * size_of::<Xor>()
    }

    fn push(&mut self, writer: &mut BitWriter, point: &HistogramPoint) {
        let histogram = &*point.histogram;
        self.time.push(writer, point.time.0);
        self.timed();
        let goes_on = histogram.hint == ResetHint::NotReset;
        let (stale, started) = (histogram.is_stale(), point.start != self.start);
        // Mostly a histogram goes on from the one before.
        if goes_on && !stale && !started {
            writer.push(0, 1);
        } else {
            writer.push(1, 1);
            for flag in [goes_on, stale, started] {
                writer.push(u64::from(flag), 1);
            }
            if started {
                writer.push(u64::from(point.start.is_some()), 1);
                if let Some(start) = point.start {
                    writer.push(start.0 as u64, 64);
                }
                self.start = point.start;
            }
        }
        if stale {
            return;
        }
        self.sum.push(writer, histogram.sum);
        for (column, count) in self.whole.iter_mut().zip(counts(histogram)) {
            column.push(writer, count as i64);
        }
        for (column, count) in self.any.iter_mut().zip(counts(histogram)) {
            column.push(writer, count);
        }
        self.counted();
    }

    fn pull(&mut self, reader: &mut BitReader<'_>, layout: &Layout) -> Option<HistogramPoint> {
        let time = Time(self.time.pull(reader)?);
        self.timed();
        let (mut goes_on, mut stale) = (true, false);
        if reader.pull(1)? == 1 {
            goes_on = reader.pull(1)? == 1;
            stale = reader.pull(1)? == 1;
            if reader.pull(1)? == 1 {
                let known = reader.pull(1)? == 1;
                self.start = if known { Some(Time(reader.pull(64)? as i64)) } else { None };
            }
        }
        let start = self.start;
        if stale {
            return Some(HistogramPoint { time, start, histogram: Arc::new(Histogram::stale()) });
        }
        let sum = self.sum.pull(reader)?;
        let (columns, (whole, any)) = (layout.columns(), (&mut self.whole, &mut self.any));
        let mut next = |at: usize| match whole.get_mut(at) {
            Some(column) => Some(column.pull(reader)? as f64),
            None => any.get_mut(at)?.pull(reader),
        };
        let (count, zero_count) = (next(0)?, next(1)?);
        let split = 2 + layout.counts[0];
        let positive: Option<Vec<f64>> = (2..split).map(&mut next).collect();
        let negative: Option<Vec<f64>> = (split..columns).map(next).collect();
        self.counted();
        let [above, below] = &layout.spans;
        let hint = match (layout.gauge, goes_on) {
            (true, _) => ResetHint::Gauge,
            (false, true) => ResetHint::NotReset,
            (false, false) => ResetHint::Unknown,
        };
        let histogram = Histogram {
            schema: layout.schema,
            hint,
            count,
            sum,
            zero_threshold: f64::from_bits(layout.zero_threshold),
            zero_count,
            positive: Buckets { spans: above.clone(), counts: positive? },
            negative: Buckets { spans: below.clone(), counts: negative? },
            custom_bounds: Arc::clone(&layout.bounds),
        };
        Some(HistogramPoint { time, start, histogram: Arc::new(histogram) })
    }

    fn timed(&mut self) {
        if self.times == 0 {
            self.time.begin();
        }
        self.times = 1;
    }

    fn counted(&mut self) {
        if self.bodies == 0 {
            self.whole.iter_mut().for_each(Whole::begin);
        }
        self.bodies = 1;
    }
}

/// A chunk that still grows.
#[derive(Debug)]
pub(crate) struct Open {
    layout: Arc<Layout>,
    writer: BitWriter,
    state: State,
    count: u16,
    first: Time,
}

impl Open {
    /// An empty chunk for histograms like this one, with the layout of the chunk `before` if it is the
    /// same.
    pub(crate) fn new(histogram: &Histogram, before: Option<&Sealed>) -> Open {
        let known = before.filter(|chunk| chunk.layout.fits(histogram));
        let layout = match known {
            Some(chunk) => Arc::clone(&chunk.layout),
            None => Arc::new(Layout::of(histogram)),
        };
        let state = State::new(&layout);
        Open { layout, writer: BitWriter::default(), state, count: 0, first: Time::MIN }
    }

    /// Whether one more like this can be written.
    pub(crate) fn takes(&self, histogram: &Histogram) -> bool {
        self.count < CHUNK_POINTS
            && self.writer.bytes().len() < CHUNK_BYTES
            && (histogram.is_stale() || self.layout.fits(histogram))
    }

    /// Appends a histogram that it [takes](Open::takes), later than the last one.
    pub(crate) fn push(&mut self, point: &HistogramPoint) {
        if self.count == 0 {
            self.first = point.time;
        }
        self.state.push(&mut self.writer, point);
        self.count += 1;
    }

    pub(crate) fn first(&self) -> Time {
        self.first
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Open>() + self.writer.capacity() + self.state.bytes() + self.layout.bytes()
    }

    pub(crate) fn iter(&self) -> Points<'_> {
        Points::new(self.writer.bytes(), &self.layout, self.count)
    }

    /// The finished chunk, behind the chunk `before`.
    pub(crate) fn seal(&self, before: Option<&Sealed>) -> Sealed {
        let shared = before.is_some_and(|chunk| Arc::ptr_eq(&chunk.layout, &self.layout));
        Sealed {
            own: if shared { 0 } else { self.layout.bytes() },
            bytes: self.writer.bytes().into(),
            layout: Arc::clone(&self.layout),
            first: self.first,
            last: Time(self.state.time.last),
            count: self.count,
        }
    }
}

/// A finished chunk.
#[derive(Debug)]
pub(crate) struct Sealed {
    layout: Arc<Layout>,
    bytes: Box<[u8]>,
    first: Time,
    last: Time,
    count: u16,
    /// Bytes of the layout, if the chunk brought it.
    own: usize,
}

impl Sealed {
    pub(crate) fn first(&self) -> Time {
        self.first
    }

    pub(crate) fn last(&self) -> Time {
        self.last
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Sealed>() + self.bytes.len() + self.own
    }

    pub(crate) fn iter(&self) -> Points<'_> {
        Points::new(&self.bytes, &self.layout, self.count)
    }
}

/// The histograms of a chunk in order of time.
pub(crate) struct Points<'a> {
    reader: BitReader<'a>,
    layout: &'a Layout,
    state: State,
    left: u16,
}

impl<'a> Points<'a> {
    fn new(bytes: &'a [u8], layout: &'a Layout, left: u16) -> Points<'a> {
        Points { reader: BitReader::new(bytes), layout, state: State::new(layout), left }
    }
}

impl Iterator for Points<'_> {
    type Item = HistogramPoint;

    fn next(&mut self) -> Option<HistogramPoint> {
        self.left = self.left.checked_sub(1)?;
        self.state.pull(&mut self.reader, self.layout)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_written(
            first in any::<i64>(),
            ints in prop::collection::vec(prop_oneof![any::<i64>(), -5000_i64..5000], 0..60),
            floats in prop::collection::vec(
                prop_oneof![any::<u64>(), (0_u64..9).prop_map(|n| (n as f64).to_bits())], 0..60),
        ) {
            let mut writer = BitWriter::default();
            let (mut whole, mut xor) = (Whole::default(), Xor::default());
            whole.push(&mut writer, first);
            whole.begin();
            ints.iter().for_each(|int| whole.push(&mut writer, *int));
            floats.iter().for_each(|bits| xor.push(&mut writer, f64::from_bits(*bits)));
            let mut reader = BitReader::new(writer.bytes());
            let (mut whole, mut xor) = (Whole::default(), Xor::default());
            prop_assert_eq!(whole.pull(&mut reader), Some(first));
            whole.begin();
            for int in ints {
                prop_assert_eq!(whole.pull(&mut reader), Some(int));
            }
            for bits in floats {
                prop_assert_eq!(xor.pull(&mut reader).map(f64::to_bits), Some(bits));
            }
        }
    }
}
