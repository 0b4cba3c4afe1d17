//! Compressed runs of points of one series.
//!
//! A chunk is [`Open`] while it grows and becomes [`Sealed`] when it is full. Open chunks are written
//! point by point: delta of delta for times, XOR with the previous value for values (the scheme of
//! Gorilla, VLDB 2015). Sealing tries a second form, since most readings are short decimals or
//! counters: if every value is `n / 10^scale` exactly, the integers `n` are stored by first or second
//! difference in Rice codes. The smaller form is kept; both give back every bit of every value.
//!
//! Nothing here knows labels, time ranges wanted, or locks.

use daruma_model::{Point, Time};

use crate::bits::{BitReader, BitWriter};

/// Points in a full chunk: short enough that reading the newest value decodes little, long enough
/// that a chunk's fixed cost does not show.
pub(crate) const CHUNK_POINTS: usize = 120;

/// Ones after which a Rice code gives up and writes the number whole.
const ESCAPE: u32 = 24;

/// The largest decimal scale tried when sealing.
const SCALE_MAX: u8 = 6;

/// Integers beyond this are not exact in an `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

const CODEC_XOR: u8 = 0;
const CODEC_DELTA: u8 = 1;
const CODEC_DELTA2: u8 = 2;

/// A chunk that still grows.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    writer: BitWriter,
    count: u16,
    first: i64,
    last: i64,
    step: i64,
    value: u64,
    leading: u8,
    trailing: u8,
}

impl Default for Open {
    fn default() -> Open {
        Open {
            writer: BitWriter::default(),
            count: 0,
            first: 0,
            last: 0,
            step: 0,
            value: 0,
            leading: NO_WINDOW,
            trailing: 0,
        }
    }
}

/// No window of meaningful bits was written yet.
const NO_WINDOW: u8 = u8::MAX;

impl Open {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= CHUNK_POINTS
    }

    pub(crate) fn first(&self) -> Time {
        Time(self.first)
    }

    pub(crate) fn last(&self) -> Time {
        Time(self.last)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.writer.capacity()
    }

    /// Appends a point; the caller guarantees that its time is after the last one's.
    pub(crate) fn push(&mut self, point: Point) {
        let (time, bits) = (point.time.0, point.value.to_bits());
        if self.count == 0 {
            self.first = time;
            self.writer.push(bits, 64);
        } else {
            let step = time.wrapping_sub(self.last);
            self.push_time(step.wrapping_sub(self.step));
            self.push_value(bits);
            self.step = step;
        }
        self.last = time;
        self.value = bits;
        self.count += 1;
    }

    fn push_time(&mut self, bend: i64) {
        let writer = &mut self.writer;
        let mut coded = |prefix: u64, prefix_width: u32, width: u32| {
            writer.push(prefix, prefix_width);
            writer.push(bend as u64, width);
        };
        match bend {
            0 => coded(0, 1, 0),
            -64..=63 => coded(0b10, 2, 7),
            -1024..=1023 => coded(0b110, 3, 11),
            -65_536..=65_535 => coded(0b1110, 4, 17),
            _ => coded(0b11110, 5, 64),
        }
    }

    fn push_value(&mut self, bits: u64) {
        let xor = bits ^ self.value;
        if xor == 0 {
            self.writer.push(0, 1);
            return;
        }
        // Five bits hold the count of leading zeros.
        let (leading, trailing) = (xor.leading_zeros().min(31) as u8, xor.trailing_zeros() as u8);
        let fits =
            self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing;
        if fits {
            self.writer.push(0b10, 2);
        } else {
            (self.leading, self.trailing) = (leading, trailing);
            let width = 64 - u32::from(leading) - u32::from(trailing);
            self.writer.push(0b11, 2);
            self.writer.push(u64::from(leading), 5);
            self.writer.push(u64::from(width - 1), 6);
        }
        let width = 64 - u32::from(self.leading) - u32::from(self.trailing);
        self.writer.push(xor >> self.trailing, width);
    }

    pub(crate) fn iter(&self) -> Points<'_> {
        Points::xor(self.writer.bytes(), self.count, self.first)
    }

    /// The finished chunk in its smallest form.
    pub(crate) fn seal(&self) -> Sealed {
        let points: Vec<Point> = self.iter().collect();
        let plain = self.writer.bytes();
        let (codec, bytes) = match decimal(&points) {
            Some((codec, bytes)) if bytes.len() < plain.len() => (codec, bytes.into()),
            _ => (CODEC_XOR, Box::from(plain)),
        };
        Sealed { bytes, first: self.first, last: self.last, count: self.count, codec }
    }
}

/// A finished chunk.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    bytes: Box<[u8]>,
    first: i64,
    last: i64,
    count: u16,
    /// The codec in the low four bits, the decimal scale in the high four.
    codec: u8,
}

impl Sealed {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn first(&self) -> Time {
        Time(self.first)
    }

    pub(crate) fn last(&self) -> Time {
        Time(self.last)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + size_of::<Sealed>()
    }

    pub(crate) fn iter(&self) -> Points<'_> {
        match self.codec & 15 {
            CODEC_XOR => Points::xor(&self.bytes, self.count, self.first),
            codec => Points::decimal(&self.bytes, self.count, self.first, codec, self.codec >> 4),
        }
    }
}

fn zigzag(number: i64) -> u64 {
    (number.wrapping_shl(1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

/// How many bits the Rice code with parameter `k` needs for `number`.
fn rice_width(number: u64, k: u32) -> u64 {
    let ones = number >> k;
    if ones < u64::from(ESCAPE) { ones + 1 + u64::from(k) } else { u64::from(ESCAPE) + 1 + 64 }
}

/// The parameter that makes `numbers` shortest, and how many bits they then need.
fn rice_best(numbers: &[u64]) -> (u32, u64) {
    (0..48)
        .map(|k| (k, numbers.iter().map(|&number| rice_width(number, k)).sum::<u64>()))
        .min_by_key(|&(_, width)| width)
        .unwrap_or((0, 0))
}

fn rice_push(writer: &mut BitWriter, number: u64, k: u32) {
    let ones = number >> k;
    if ones < u64::from(ESCAPE) {
        writer.unary(ones as u32);
        writer.push(number, k);
    } else {
        writer.unary(ESCAPE);
        writer.push(number, 64);
    }
}

/// `value` as an integer over `10^scale`, if that gives back every bit.
fn scaled(value: f64, scale: u8) -> Option<i64> {
    let power = 10_f64.powi(i32::from(scale));
    let rounded = (value * power).round();
    // False for NaN and the infinities too.
    if rounded.abs() >= EXACT_MAX || rounded.is_nan() {
        return None;
    }
    // By way of the integer, so that -0 is seen not to come back.
    let number = rounded as i64;
    (number as f64 / power).to_bits().eq(&value.to_bits()).then_some(number)
}

/// The decimal form of `points`, with its codec byte, if every value has one.
fn decimal(points: &[Point]) -> Option<(u8, Vec<u8>)> {
    let integers_at = |scale| -> Option<Vec<i64>> {
        points.iter().map(|point| scaled(point.value, scale)).collect()
    };
    let (scale, integers) = (0..=SCALE_MAX).find_map(|scale| Some((scale, integers_at(scale)?)))?;
    let differences = |numbers: &[i64]| -> Vec<i64> {
        std::iter::once(0)
            .chain(numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])))
            .collect()
    };
    let coded = |numbers: &[i64]| -> Vec<u64> { numbers.iter().map(|&n| zigzag(n)).collect() };
    let times: Vec<i64> = points.iter().map(|point| point.time.0).collect();
    let bends = coded(&differences(&differences(&times)));
    let first_order = differences(&integers);
    let second_order = coded(&differences(&first_order));
    let first_order = coded(&first_order);
    let (delta, delta2) = (rice_best(&first_order), rice_best(&second_order));
    let (codec, values, k_value) = if delta.1 <= delta2.1 {
        (CODEC_DELTA, first_order, delta.0)
    } else {
        (CODEC_DELTA2, second_order, delta2.0)
    };
    let k_time = rice_best(&bends).0;
    let mut writer = BitWriter::default();
    writer.push(u64::from(k_time), 6);
    writer.push(u64::from(k_value), 6);
    writer.push(zigzag(*integers.first()?), 64);
    for (&bend, &value) in bends.iter().zip(&values).skip(1) {
        rice_push(&mut writer, bend, k_time);
        rice_push(&mut writer, value, k_value);
    }
    Some((codec | scale << 4, writer.bytes().to_vec()))
}

/// The points of a chunk in order of time.
pub(crate) struct Points<'a> {
    reader: BitReader<'a>,
    left: u16,
    fresh: bool,
    time: i64,
    step: i64,
    form: Form,
}

enum Form {
    Xor { value: u64, leading: u32, width: u32 },
    Decimal { codec: u8, power: f64, k_time: u32, k_value: u32, number: i64, slope: i64 },
}

impl<'a> Points<'a> {
    fn xor(bytes: &'a [u8], count: u16, first: i64) -> Points<'a> {
        let form = Form::Xor { value: 0, leading: 0, width: 64 };
        let reader = BitReader::new(bytes);
        Points { reader, left: count, fresh: true, time: first, step: 0, form }
    }

    fn decimal(bytes: &'a [u8], count: u16, first: i64, codec: u8, scale: u8) -> Points<'a> {
        let power = 10_f64.powi(i32::from(scale));
        let form = Form::Decimal { codec, power, k_time: 0, k_value: 0, number: 0, slope: 0 };
        let reader = BitReader::new(bytes);
        Points { reader, left: count, fresh: true, time: first, step: 0, form }
    }

    /// Appends those in `(after, until]` to `out`.
    pub(crate) fn append_to(mut self, after: Time, until: Time, out: &mut Vec<Point>) {
        let mut put = |point: Point| {
            if point.time > after && point.time <= until {
                out.push(point);
            }
            point.time <= until
        };
        if !self.next().is_none_or(&mut put) {
            return;
        }
        // A loop of its own for the form that most chunks have.
        if let Form::Decimal { codec, power, k_time, k_value, mut number, mut slope } = self.form {
            let Points { mut reader, left, mut time, mut step, .. } = self;
            let (delta, k_time, k_value) = (codec == CODEC_DELTA, k_time.min(47), k_value.min(47));
            for _ in 0..left {
                let bend = reader.rice(k_time, ESCAPE);
                let (Some(bend), Some(residue)) = (bend, reader.rice(k_value, ESCAPE)) else {
                    return;
                };
                step = step.wrapping_add(unzigzag(bend));
                time = time.wrapping_add(step);
                let residue = unzigzag(residue);
                slope = if delta { residue } else { slope.wrapping_add(residue) };
                number = number.wrapping_add(slope);
                if !put(Point { time: Time(time), value: number as f64 / power }) {
                    return;
                }
            }
        } else {
            for point in self {
                if !put(point) {
                    return;
                }
            }
        }
    }

    #[inline]
    fn step(&mut self) -> Option<f64> {
        let Points { reader, fresh, time, step, form, .. } = self;
        let first = std::mem::take(fresh);
        match form {
            Form::Xor { value, leading, width } => {
                if first {
                    *value = reader.pull(64)?;
                    return Some(f64::from_bits(*value));
                }
                let bend = match reader.unary(4)? {
                    0 => 0,
                    1 => sign_extend(reader.pull(7)?, 7),
                    2 => sign_extend(reader.pull(11)?, 11),
                    3 => sign_extend(reader.pull(17)?, 17),
                    _ => reader.pull(64)? as i64,
                };
                *step = step.wrapping_add(bend);
                *time = time.wrapping_add(*step);
                if reader.pull(1)? == 1 {
                    if reader.pull(1)? == 1 {
                        *leading = reader.pull(5)? as u32;
                        *width = reader.pull(6)? as u32 + 1;
                    }
                    let trailing = 64_u32.checked_sub(*leading + *width)?;
                    *value ^= reader.pull(*width)? << trailing;
                }
                Some(f64::from_bits(*value))
            }
            Form::Decimal { codec, power, k_time, k_value, number, slope } => {
                if first {
                    *k_time = reader.pull(6)? as u32;
                    *k_value = reader.pull(6)? as u32;
                    *number = unzigzag(reader.pull(64)?);
                    return Some(*number as f64 / *power);
                }
                *step = step.wrapping_add(unzigzag(reader.rice(*k_time, ESCAPE)?));
                *time = time.wrapping_add(*step);
                let residue = unzigzag(reader.rice(*k_value, ESCAPE)?);
                *slope = if *codec == CODEC_DELTA { residue } else { slope.wrapping_add(residue) };
                *number = number.wrapping_add(*slope);
                Some(*number as f64 / *power)
            }
        }
    }
}

fn sign_extend(bits: u64, width: u32) -> i64 {
    let shift = 64 - width;
    ((bits << shift) as i64) >> shift
}

impl Iterator for Points<'_> {
    type Item = Point;

    #[inline]
    fn next(&mut self) -> Option<Point> {
        self.left = self.left.checked_sub(1)?;
        let value = self.step()?;
        Some(Point { time: Time(self.time), value })
    }
}

#[cfg(test)]
mod tests {
    use daruma_model::stale_marker;
    use proptest::prelude::*;

    use super::*;

    fn both_forms(points: &[Point]) -> (Vec<Point>, Vec<Point>) {
        let mut open = Open::default();
        for &point in points {
            open.push(point);
        }
        (open.iter().collect(), open.seal().iter().collect())
    }

    /// Bit for bit: `==` would take -0 for 0 and no NaN for itself.
    fn bits(points: &[Point]) -> Vec<(i64, u64)> {
        points.iter().map(|point| (point.time.0, point.value.to_bits())).collect()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            any::<u64>().prop_map(f64::from_bits),
            (-1_000_000_i64..1_000_000).prop_map(|n| n as f64),
            (0_i64..1_000_000, 0..7).prop_map(|(n, scale)| n as f64 / 10_f64.powi(scale)),
            Just(stale_marker()),
            Just(-0.0),
            Just(f64::MAX),
            Just(9_007_199_254_740_993.0),
        ]
    }

    #[test]
    fn a_negative_zero_among_round_numbers_keeps_its_sign() {
        let points: Vec<Point> = (0..120)
            .map(|i| Point { time: Time(i), value: if i == 60 { -0.0 } else { i as f64 } })
            .collect();
        let (open, sealed) = both_forms(&points);
        assert_eq!((bits(&open), bits(&sealed)), (bits(&points), bits(&points)));
    }

    proptest! {
        #[test]
        fn every_bit_of_every_point_comes_back(
            first in any::<i64>(),
            steps in prop::collection::vec((prop_oneof![
                Just(5000_i64), 4990_i64..5010, 1_i64..100_000, 1..i64::MAX / 200,
            ], value()), 1..CHUNK_POINTS),
        ) {
            let mut time = first;
            let points: Vec<Point> = steps
                .into_iter()
                .map(|(step, value)| {
                    time = time.wrapping_add(step);
                    Point { time: Time(time), value }
                })
                .collect();
            let (open, sealed) = both_forms(&points);
            prop_assert_eq!(bits(&open), bits(&points));
            prop_assert_eq!(bits(&sealed), bits(&points));
        }

        #[test]
        fn counters_and_decimals_take_the_small_form(
            start in 0_i64..1_000_000_000, slope in 0_i64..1000, scale in 0..3,
        ) {
            let points: Vec<Point> = (0..120)
                .map(|i| Point {
                    time: Time(1_700_000_000_000 + i * 5000),
                    value: (start + i * slope) as f64 / 10_f64.powi(scale),
                })
                .collect();
            let mut open = Open::default();
            for &point in &points {
                open.push(point);
            }
            let sealed = open.seal();
            prop_assert_eq!(bits(&sealed.iter().collect::<Vec<_>>()), bits(&points));
            prop_assert!(sealed.bytes.len() <= 72, "{} bytes for a straight line", sealed.bytes.len());
        }
    }
}
