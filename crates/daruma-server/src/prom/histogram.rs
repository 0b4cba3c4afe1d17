//! The native histogram of remote write, the same message in both versions.
//!
//! It comes in two flavours: whole counts as differences from bucket to bucket, and counts as floats.

use std::sync::Arc;

use daruma_model::wire::{Broken, Fields, Wire, zigzag};
use daruma_model::{
    BucketSpan, Buckets, Histogram, HistogramError, HistogramPoint, ResetHint, Time,
};

/// The finest schema that may be sent; what is finer than [`Histogram::SCHEMA_MAX`] is made coarser.
const SCHEMA_SENT_MAX: i64 = 52;

/// The buckets of one sign as sent: as differences or as they are.
#[derive(Default)]
struct Sent {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// A list under way. What goes on beyond what a histogram may have is told apart, not kept.
fn push<T>(list: &mut Vec<T>, one: T, over: &mut bool) {
    if list.len() > Histogram::BUCKETS_MAX {
        *over = true;
    } else {
        list.push(one);
    }
}

/// Reads a histogram with its time; the inner error is why what it says is no histogram.
///
/// # Errors
/// [`Broken`], if it is not the message.
pub(super) fn histogram(bytes: &[u8]) -> Result<Result<HistogramPoint, HistogramError>, Broken> {
    let mut it = Histogram::default();
    let (mut schema, mut time, mut floats, mut over) = (0, Time(0), false, false);
    let (mut positive, mut negative) = (Sent::default(), Sent::default());
    let mut bounds = Vec::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let side = if number < 11 { &mut negative } else { &mut positive };
        match (number, wire) {
            (1, Wire::Varint(count)) => (it.count, floats) = (count as f64, false),
            (2, Wire::Fixed64(bits)) => (it.count, floats) = (f64::from_bits(bits), true),
            (3, Wire::Fixed64(bits)) => it.sum = f64::from_bits(bits),
            (4, Wire::Varint(coded)) => schema = zigzag(coded),
            (5, Wire::Fixed64(bits)) => it.zero_threshold = f64::from_bits(bits),
            (6, Wire::Varint(count)) => it.zero_count = count as f64,
            (7, Wire::Fixed64(bits)) => it.zero_count = f64::from_bits(bits),
            (8 | 11, Wire::Bytes(bytes)) => push(&mut side.spans, span(bytes)?, &mut over),
            (9 | 12, Wire::Bytes(packed)) => {
                for delta in Fields(packed).varints() {
                    push(&mut side.deltas, zigzag(delta?), &mut over);
                }
            }
            (9 | 12, Wire::Varint(coded)) => push(&mut side.deltas, zigzag(coded), &mut over),
            (10 | 13, Wire::Bytes(packed)) => {
                Fields(packed).doubles()?.for_each(|one| push(&mut side.counts, one, &mut over));
            }
            (10 | 13, Wire::Fixed64(bits)) => {
                push(&mut side.counts, f64::from_bits(bits), &mut over);
            }
            (14, Wire::Varint(hint)) => {
                it.hint = match hint {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NotReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            (15, Wire::Varint(ms)) => time = Time(ms as i64),
            (16, Wire::Bytes(packed)) => {
                Fields(packed).doubles()?.for_each(|one| push(&mut bounds, one, &mut over));
            }
            (16, Wire::Fixed64(bits)) => push(&mut bounds, f64::from_bits(bits), &mut over),
            _ => {}
        }
    }
    it.custom_bounds = bounds.into();
    let checked = checked(it, schema, floats, over, positive, negative);
    // When its counts began is not kept: upstream does so behind a switch alone, and rates depend on it.
    Ok(checked.map(|it| HistogramPoint { time, start: None, histogram: Arc::new(it) }))
}

fn span(bytes: &[u8]) -> Result<BucketSpan, Broken> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(coded)) => span.offset = zigzag(coded) as i32,
            (2, Wire::Varint(length)) => span.length = length as u32,
            _ => {}
        }
    }
    Ok(span)
}

fn checked(
    mut it: Histogram,
    schema: i64,
    floats: bool,
    over: bool,
    positive: Sent,
    negative: Sent,
) -> Result<Histogram, HistogramError> {
    if it.is_stale() {
        return Ok(Histogram::stale());
    }
    if over {
        return Err(HistogramError::TooMany { found: Histogram::BUCKETS_MAX + 1 });
    }
    let finer = schema - i64::from(Histogram::SCHEMA_MAX);
    let too_fine = finer > 0 && schema <= SCHEMA_SENT_MAX;
    it.schema = match i8::try_from(schema) {
        Ok(_) if too_fine => Histogram::SCHEMA_MAX,
        Ok(schema) => schema,
        Err(_) => return Err(HistogramError::Schema { schema: i8::MAX }),
    };
    it.positive = buckets(positive, floats)?;
    it.negative = buckets(negative, floats)?;
    it.validate()?;
    // Of a gauge, too: what falls below zero is a difference, which nobody observes.
    let counts = it.positive.counts.iter().chain(&it.negative.counts);
    if let Some(found) = counts.chain([&it.count, &it.zero_count]).copied().find(|&one| one < 0.0) {
        return Err(HistogramError::Count { found });
    }
    if !floats {
        // Of observations of NaN only the count tells, and the sum that is none.
        let held =
            it.positive.counts.iter().chain(&it.negative.counts).sum::<f64>() + it.zero_count;
        let lacks = if it.sum.is_nan() { held > it.count } else { held != it.count };
        if lacks {
            return Err(HistogramError::Mismatch { count: it.count, buckets: held });
        }
    }
    if too_fine {
        for side in [&mut it.positive, &mut it.negative] {
            let coarser = |(index, count): (i32, f64)| {
                let last = i64::from(index).saturating_sub(1) >> finer.min(40);
                ((last + 1) as i32, count)
            };
            *side = side.iter().map(coarser).collect();
        }
    }
    Ok(it)
}

fn buckets(sent: Sent, floats: bool) -> Result<Buckets, HistogramError> {
    let Sent { spans, deltas, counts } = sent;
    if floats {
        return Ok(Buckets { spans, counts });
    }
    let mut count = 0_i64;
    let counts = deltas.into_iter().map(|delta| {
        count = count.checked_add(delta).ok_or(HistogramError::Count { found: f64::INFINITY })?;
        Ok(count as f64)
    });
    Ok(Buckets { spans, counts: counts.collect::<Result<_, HistogramError>>()? })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use daruma_model::wire::write::{bytes, double, number, signed, varint, zigzag};
    use proptest::prelude::*;

    fn packed(field: u64, doubles: &[f64]) -> Vec<u8> {
        bytes(field, &doubles.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    fn deltas(field: u64, counts: &[i64]) -> Vec<u8> {
        let mut last = 0;
        let coded = counts.iter().flat_map(|count| {
            let delta = count - last;
            last = *count;
            zigzag(delta)
        });
        bytes(field, &coded.collect::<Vec<_>>())
    }

    fn spans(field: u64, spans: &[(i64, u64)]) -> Vec<u8> {
        let one = |(offset, length): &(i64, u64)| {
            bytes(field, &[signed(1, *offset), number(2, *length)].concat())
        };
        spans.iter().flat_map(one).collect()
    }

    /// Six observations, two of them around zero.
    pub(crate) fn whole(ms: i64) -> Vec<u8> {
        [
            number(1, 6),
            double(3, 8.5),
            signed(4, 3),
            double(5, 0.001),
            number(6, 2),
            spans(8, &[(0, 1)]),
            deltas(9, &[1]),
            spans(11, &[(-2, 1), (3, 1)]),
            deltas(12, &[2, 1]),
            number(14, 1),
            number(15, ms as u64),
        ]
        .concat()
    }

    fn read(bytes: &[u8]) -> Result<Histogram, HistogramError> {
        histogram(bytes).unwrap().map(|point| (*point.histogram).clone())
    }

    #[test]
    fn whole_and_float_counts_say_the_same() {
        let want = Histogram {
            schema: 3,
            hint: ResetHint::Reset,
            count: 6.0,
            sum: 8.5,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive: [(-2, 2.0), (2, 1.0)].into_iter().collect(),
            negative: [(0, 1.0)].into_iter().collect(),
            ..Histogram::default()
        };
        let point = histogram(&whole(-7)).unwrap().unwrap();
        assert_eq!((point.time, point.start, &*point.histogram), (Time(-7), None, &want));
        let floats = [
            double(2, 6.0),
            double(3, 8.5),
            signed(4, 3),
            double(5, 0.001),
            double(7, 2.0),
            spans(8, &[(0, 1)]),
            packed(10, &[1.0]),
            spans(11, &[(-2, 1), (3, 1)]),
            // Not packed, as an old sender may write them.
            double(13, 2.0),
            double(13, 1.0),
            number(14, 1),
        ];
        assert_eq!(read(&floats.concat()), Ok(want));
    }

    #[test]
    fn custom_bounds_and_too_fine_schemas_are_understood() {
        let custom = [
            number(1, 3),
            signed(4, -53),
            spans(11, &[(0, 3)]),
            deltas(12, &[1, 0, 2]),
            packed(16, &[0.5, 1.0]),
        ];
        let custom = read(&custom.concat()).unwrap();
        assert_eq!((custom.schema, &*custom.custom_bounds), (-53, &[0.5, 1.0][..]));
        let fine =
            [number(1, 3), signed(4, 10), spans(11, &[(4, 2), (1, 1)]), deltas(12, &[1, 1, 1])];
        let fine = read(&fine.concat()).unwrap();
        assert_eq!(fine.schema, 8);
        // Buckets 4, 5 and 7 of four times as many.
        assert_eq!(fine.positive.iter().collect::<Vec<_>>(), [(1, 1.0), (2, 2.0)]);
    }

    #[test]
    fn a_marker_is_a_marker_whatever_else_is_sent() {
        let marker = [double(3, daruma_model::stale_marker()), signed(4, 99), number(15, 5)];
        let point = histogram(&marker.concat()).unwrap().unwrap();
        assert!(point.histogram.is_stale() && point.time == Time(5));
    }

    #[test]
    fn what_counts_nothing_is_refused() {
        let endless = vec![0_u8; 100_000];
        for (parts, want) in [
            (vec![number(1, 1)], "its buckets hold 0 observations, of 1"),
            (vec![signed(4, 53)], "schema 53 is unknown"),
            (vec![signed(4, 1000)], "schema 127 is unknown"),
            (vec![signed(4, -5)], "schema -5 is unknown"),
            (vec![number(1, 1), spans(11, &[(0, 2)]), deltas(12, &[1])], "do not fit the 1"),
            (vec![number(1, 1), spans(11, &[(0, 4_294_967_295)]), deltas(12, &[1])], "do not fit"),
            (vec![number(1, 0), spans(11, &[(0, 2)]), deltas(12, &[1, -1])], "-1 is no count"),
            (vec![number(1, 9), deltas(12, &[i64::MAX]), bytes(12, &zigzag(9))], "no count"),
            (
                vec![double(2, 1.0), spans(11, &[(0, 1)]), packed(13, &[f64::NAN])],
                "NaN is no count",
            ),
            (vec![double(2, -1.0)], "-1 is no count"),
            (vec![double(2, -1.0), number(14, 3)], "-1 is no count"),
            (vec![spans(11, &[(2_147_483_647, 1), (2_147_483_647, 0)]), deltas(12, &[0])], "fit"),
            (vec![bytes(12, &endless)], "at most 20000"),
            (vec![bytes(11, &[]).repeat(50_000)], "at most 20000"),
            (vec![signed(4, -53), packed(16, &[2.0, 1.0])], "custom bounds must"),
            (vec![packed(16, &[2.0])], "custom bounds must"),
        ] {
            let said = read(&parts.concat()).unwrap_err().to_string();
            assert!(said.contains(want), "{said} / {want}");
        }
        // More observations than in the buckets: some were NaN.
        assert!(read(&[number(1, 1), double(3, f64::NAN)].concat()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..200, byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut body = [whole(5), tail].concat();
            let at = at % body.len();
            body[at] = byte;
            if let Ok(Ok(point)) = histogram(&body) {
                prop_assert!(point.histogram.validate().is_ok());
            }
            let _ = histogram(&varint(byte.into()));
        }
    }
}
