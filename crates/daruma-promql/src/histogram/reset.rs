//! Whether a counter histogram began anew.

use daruma_model::{Buckets, Histogram, ResetHint, any_fell};

use super::arith::{Body, Moved, coarser, common_bounds, finer_by};
use super::exponential_bound;

/// Whether `current` began anew after `previous`: its producer says so, or a count fell, or its buckets
/// are finer or its zero bucket narrower than they were.
#[must_use]
pub fn is_reset(current: &Histogram, previous: &Histogram) -> bool {
    match current.hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count || current.is_custom() != previous.is_custom() {
        return true;
    }
    if current.is_custom() {
        return custom_fell(current, previous);
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let threshold = current.zero_threshold;
    let mut zero_before = previous.zero_count;
    if threshold != previous.zero_threshold {
        let (count, widened) = Body::<f64>::from(previous).zero_for(threshold);
        // It ends within a full bucket of before, so the old counts cannot be told apart.
        if widened != threshold {
            return true;
        }
        zero_before = count;
    }
    let shift = finer_by(previous.schema, current.schema);
    let outside =
        |index: i32, schema: i8| threshold == 0.0 || exponential_bound(index, schema) > threshold;
    let fell = |now: &Buckets, before: &Buckets| {
        let before = before.iter().filter(|(index, _)| outside(*index, previous.schema));
        let before = before.map(|(index, count)| (coarser(index, shift), count));
        any_fell(now.iter().filter(|(index, _)| outside(*index, current.schema)), before)
    };
    current.zero_count < zero_before
        || fell(&current.positive, &previous.positive)
        || fell(&current.negative, &previous.negative)
}

fn custom_fell(current: &Histogram, previous: &Histogram) -> bool {
    let (now, before) = (&current.custom_bounds, &previous.custom_bounds);
    if now == before {
        return any_fell(current.positive.iter(), previous.positive.iter());
    }
    let common = common_bounds(now, before);
    let (now, before) = (Moved::new(now, &common), Moved::new(before, &common));
    any_fell(
        current.positive.iter().map(|(index, count)| (now.index(index), count)),
        previous.positive.iter().map(|(index, count)| (before.index(index), count)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i8, count: f64, buckets: &[(i32, f64)]) -> Histogram {
        let positive = buckets.iter().copied().collect();
        Histogram { schema, count, positive, ..Histogram::default() }
    }

    #[test]
    fn a_fallen_bucket_betrays_a_restart_even_when_the_count_rose() {
        let before = histogram(1, 4.0, &[(1, 1.0), (2, 3.0)]);
        for (now, want) in [
            (histogram(1, 5.0, &[(1, 2.0), (2, 3.0)]), false),
            (histogram(1, 9.0, &[(1, 9.0)]), true),
            (histogram(1, 3.0, &[(1, 1.0), (2, 3.0)]), true),
            // Coarser: buckets 1 and 2 are one now.
            (histogram(0, 4.0, &[(1, 4.0)]), false),
            (histogram(0, 4.0, &[(1, 3.0)]), true),
            (histogram(2, 4.0, &[(1, 4.0)]), true),
        ] {
            assert_eq!(is_reset(&now, &before), want, "{now:?}");
            let hinted = Histogram { hint: ResetHint::NotReset, ..now.clone() };
            assert!(!is_reset(&hinted, &before));
            assert!(is_reset(&Histogram { hint: ResetHint::Reset, ..now }, &before));
        }
    }
}
