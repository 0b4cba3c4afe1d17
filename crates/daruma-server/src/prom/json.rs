//! JSON as Prometheus writes it: values as text in Go's shortest form, times as seconds with up to three
//! decimals. Written straight into one buffer, because a range query can hold millions of numbers; the
//! buffer has a bound, because whoever asks decides how many.

use std::io::Write;

use daruma_model::{Histogram, Labels, Point, Series, Time};
use daruma_promql::histogram::buckets;
use daruma_promql::{SampleValue, VectorSample};
use serde::Serialize;

use super::{Failure, FailureKind};

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// What an answer begins with, up to its data.
const OPENING: &[u8] = b"{\"status\":\"success\",\"data\":";

/// JSON under way.
#[derive(Default)]
pub(super) struct Json {
    out: Vec<u8>,
    stamps: Stamps,
}

impl Json {
    /// The beginning of an answer, up to its data.
    pub(super) fn answer() -> Json {
        Json { out: OPENING.to_vec(), ..Json::default() }
    }

    pub(super) fn raw(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    pub(super) fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value)
            .map_err(|error| Failure::of(FailureKind::Internal, error.to_string()))
    }

    /// The finished text.
    pub(super) fn done(self) -> Result<Vec<u8>, Failure> {
        self.fits()?;
        Ok(self.out)
    }

    fn fits(&self) -> Result<(), Failure> {
        if self.out.len() <= ANSWER_BYTES_MAX {
            return Ok(());
        }
        let said = format!(
            "the answer is longer than {ANSWER_BYTES_MAX} bytes; narrow the selectors, the range or the step, or set `limit`"
        );
        Err(Failure::of(FailureKind::Execution, said))
    }

    /// Elements between commas.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Json, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.raw(b"[");
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.raw(b",");
            }
            write(self, item)?;
        }
        self.raw(b"]");
        Ok(())
    }

    pub(super) fn labels(&mut self, labels: &Labels) -> Result<(), Failure> {
        self.value(labels)
    }

    /// `1767436620` or `1767436620.123`.
    pub(super) fn time(&mut self, time: Time) {
        stamp(time, &mut self.out);
    }

    /// A value between quotes: the shortest digits, with an exponent below 1e-6 and from 1e21 on.
    pub(super) fn float(&mut self, value: f64) {
        self.raw(b"\"");
        let size = value.abs();
        if value.is_nan() {
            self.raw(b"NaN");
        } else if value.is_infinite() {
            self.raw(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        } else if size < 1e15 && size.fract() == 0.0 && (size != 0.0 || value.is_sign_positive()) {
            if value < 0.0 {
                self.raw(b"-");
            }
            whole(size as u64, &mut self.out);
        } else if (1e-4..1e15).contains(&size) {
            // The same digits as the standard library's, sooner; in this range without an exponent.
            let mut buffer = zmij::Buffer::new();
            self.raw(buffer.format_finite(value).as_bytes());
        } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = exponent(value);
            self.raw(text.as_bytes());
        } else {
            // Writing to memory cannot fail.
            let _infallible = write!(self.out, "{value}");
        }
        self.raw(b"\"");
    }

    /// `[time,"value"]`.
    pub(super) fn point(&mut self, time: Time, value: f64) {
        self.raw(b"[");
        self.time(time);
        self.raw(b",");
        self.float(value);
        self.raw(b"]");
    }

    /// `[[time,"value"],…]`.
    fn points(&mut self, points: &[Point]) {
        // Enough for most points; a longer one makes its own room.
        self.out.reserve(points.len() * 36);
        let mut stamps = std::mem::take(&mut self.stamps);
        for (i, point) in points.iter().enumerate() {
            self.raw(if i == 0 { b"[[" } else { b",[" });
            stamps.write(point.time, &mut self.out);
            self.raw(b",");
            self.float(point.value);
            self.raw(b"]");
        }
        self.raw(if points.is_empty() { b"[]" } else { b"]" });
        self.stamps = stamps;
    }

    /// `{"count","sum","buckets":[[boundaries, lower, upper, count], …]}`; only buckets that hold something.
    fn histogram(&mut self, histogram: &Histogram) -> Result<(), Failure> {
        self.raw(b"{\"count\":");
        self.float(histogram.count);
        self.raw(b",\"sum\":");
        self.float(histogram.sum);
        let buckets = buckets(histogram);
        if !buckets.is_empty() {
            self.raw(b",\"buckets\":");
            self.list(&buckets, |out, bucket| {
                // Which of the bounds belong to the bucket.
                out.raw(match (bucket.lower_closed, bucket.upper_closed) {
                    (false, true) => b"[0,",
                    (true, false) => b"[1,",
                    (false, false) => b"[2,",
                    (true, true) => b"[3,",
                });
                out.float(bucket.lower);
                out.raw(b",");
                out.float(bucket.upper);
                out.raw(b",");
                out.float(bucket.count);
                out.raw(b"]");
                Ok(())
            })?;
        }
        self.raw(b"}");
        Ok(())
    }

    fn histogram_point(&mut self, time: Time, histogram: &Histogram) -> Result<(), Failure> {
        self.raw(b"[");
        self.time(time);
        self.raw(b",");
        self.histogram(histogram)?;
        self.raw(b"]");
        Ok(())
    }

    pub(super) fn vector(&mut self, vector: &[VectorSample]) -> Result<(), Failure> {
        self.list(vector, |out, sample| {
            out.raw(b"{\"metric\":");
            out.labels(&sample.labels)?;
            match &sample.value {
                SampleValue::Float(value) => {
                    out.raw(b",\"value\":");
                    out.point(sample.time, *value);
                }
                SampleValue::Histogram(histogram) => {
                    out.raw(b",\"histogram\":");
                    out.histogram_point(sample.time, histogram)?;
                }
            }
            out.raw(b"}");
            out.fits()
        })
    }

    pub(super) fn matrix(&mut self, matrix: &[Series]) -> Result<(), Failure> {
        self.list(matrix, |out, series| {
            out.raw(b"{\"metric\":");
            out.labels(&series.labels)?;
            if !series.points.is_empty() {
                out.raw(b",\"values\":");
                out.points(&series.points);
            }
            if !series.histograms.is_empty() {
                out.raw(b",\"histograms\":");
                out.list(&series.histograms, |out, point| {
                    out.histogram_point(point.time, &point.histogram)?;
                    out.fits()
                })?;
            }
            out.raw(b"}");
            out.fits()
        })
    }
}

/// Times that were written, as text: most series have the same.
#[derive(Default)]
struct Stamps {
    /// In order of time, with the place of the text.
    times: Vec<(Time, std::ops::Range<usize>)>,
    text: Vec<u8>,
    /// Where the next time is looked for.
    next: usize,
}

/// The most times that are remembered: the steps of a range query.
const STAMPS_MAX: usize = 11_001;
/// And the most among which another is put.
const STAMPS_MIXED: usize = 1024;

impl Stamps {
    fn write(&mut self, time: Time, out: &mut Vec<u8>) {
        let known = |at: usize| self.times.get(at).is_some_and(|(known, _)| *known == time);
        let mut at = self.next;
        if !known(at) {
            at = self.times.partition_point(|(known, _)| *known < time);
            if !known(at) {
                let last = at == self.times.len();
                if self.times.len() >= if last { STAMPS_MAX } else { STAMPS_MIXED } {
                    return stamp(time, out);
                }
                let start = self.text.len();
                stamp(time, &mut self.text);
                self.times.insert(at, (time, start..self.text.len()));
            }
        }
        self.next = at + 1;
        let text = self.times.get(at).and_then(|(_, range)| self.text.get(range.clone()));
        out.extend_from_slice(text.unwrap_or(&[]));
    }
}

fn stamp(time: Time, out: &mut Vec<u8>) {
    let ms = time.0.unsigned_abs();
    if time.0 < 0 {
        out.push(b'-');
    }
    whole(ms / 1000, out);
    if !ms.is_multiple_of(1000) {
        let rest = ms % 1000;
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

fn whole(number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at, mut rest) = ([0_u8; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Go's `%e` with the shortest digits: `1e+21`, `2.5e-07`.
pub(super) fn exponent(value: f64) -> String {
    if !value.is_finite() {
        return daruma_promql::format_value(value);
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(value: f64) -> String {
        let mut out = Json::default();
        out.float(value);
        String::from_utf8(out.out).unwrap()
    }

    fn time(ms: i64) -> String {
        let mut out = Json::default();
        out.time(Time(ms));
        String::from_utf8(out.out).unwrap()
    }

    #[test]
    fn numbers_look_as_go_prints_them() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (0.1 + 0.2, "0.30000000000000004"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-07"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value), format!("\"{want}\""));
        }
        assert_eq!((exponent(1.0).as_str(), exponent(0.0).as_str()), ("1e+00", "0e+00"));
    }

    #[test]
    fn times_are_seconds_with_milliseconds_where_there_are_any() {
        for (ms, want) in
            [(0, "0"), (1000, "1"), (1001, "1.001"), (1100, "1.100"), (-1500, "-1.500")]
        {
            assert_eq!(time(ms), want);
        }
        assert_eq!(time(i64::MIN), "-9223372036854775.808");
    }

    #[test]
    fn a_histogram_tells_its_full_buckets_and_which_bounds_belong_to_them() {
        let buckets = |pairs: &[(i32, f64)]| pairs.iter().copied().collect();
        let histogram = Histogram {
            count: 12.5,
            sum: -42.1,
            zero_count: 1.0,
            zero_threshold: 0.001,
            positive: buckets(&[(0, 5.0), (1, 0.0), (2, 0.5)]),
            negative: buckets(&[(1, 6.0)]),
            ..Histogram::default()
        };
        let mut out = Json::default();
        out.histogram(&histogram).unwrap();
        let want = r#"{"count":"12.5","sum":"-42.1","buckets":[[1,"-2","-1","6"],[3,"-0.001","0.001","1"],[0,"0.5","1","5"],[0,"2","4","0.5"]]}"#;
        assert_eq!(String::from_utf8(out.out).unwrap(), want);
    }

    proptest! {
        /// Printed together, each point looks as it does alone.
        #[test]
        fn points_are_printed_one_by_one(
            series in prop::collection::vec(prop::collection::btree_map(-50_i64..50, any::<f64>(), 0..12), 0..6),
        ) {
            let (mut together, mut alone) = (Json::default(), Json::default());
            for points in &series {
                let points: Vec<Point> =
                    points.iter().map(|(ms, value)| Point { time: Time(ms * 500), value: *value }).collect();
                together.points(&points);
                alone
                    .list(&points, |out, point| {
                        out.point(point.time, point.value);
                        Ok(())
                    })
                    .unwrap();
            }
            prop_assert_eq!(String::from_utf8(together.out).unwrap(), String::from_utf8(alone.out).unwrap());
        }

        /// The digits are those of the standard library, which are Go's, too.
        #[test]
        fn numbers_without_exponent_are_the_standard_ones(value in prop_oneof![
            -1e3..1e3, 1e-6..1e-3, 1e14..1e17, (0_u64..10_000_000).prop_map(|n| n as f64 / 1000.0),
            any::<u64>().prop_map(|n| n as f64 / 7.0),
        ]) {
            prop_assert_eq!(float(value), format!("\"{value}\""));
        }

        #[test]
        fn a_printed_number_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let text = float(value);
            let back: f64 = text.trim_matches('"').parse().unwrap();
            prop_assert!(back.to_bits() == bits || value.is_nan() && back.is_nan(), "{}", text);
        }
    }
}
