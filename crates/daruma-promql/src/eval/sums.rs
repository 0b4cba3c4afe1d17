//! Sums, means, spreads and quantiles of plain numbers, with the digits Prometheus keeps.

/// Kahan's sum in Neumaier's form: the rounding errors are summed apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) high: f64,
    pub(crate) low: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(self, value: f64) -> Sum {
        let next = self.finite(value);
        if next.high.is_infinite() { Sum { high: next.high, low: 0.0 } } else { next }
    }

    /// As [`Self::add`], where the sum does not overflow.
    #[inline]
    fn finite(self, value: f64) -> Sum {
        let high = self.high + value;
        // A choice of operands rather than of ways: which is larger is anyone's guess.
        let larger = self.high.abs() >= value.abs();
        let (large, small) = if larger { (self.high, value) } else { (value, self.high) };
        Sum { high, low: self.low + ((large - high) + small) }
    }

    pub(crate) fn total(self) -> f64 {
        if self.high.is_infinite() { self.high } else { self.high + self.low }
    }
}

pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(Sum::default(), Sum::add).total()
}

pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values = values.into_iter();
    let Some(first) = values.next() else { return f64::NAN };
    let mut mean = Mean { sum: Sum { high: first, low: 0.0 }, count: 1.0, moving: false };
    // Nearly always to the end.
    for value in values.by_ref() {
        let next = mean.sum.finite(value);
        if next.high.is_infinite() {
            mean.add(value);
            break;
        }
        mean = Mean { sum: next, count: mean.count + 1.0, moving: false };
    }
    values.for_each(|value| mean.add(value));
    mean.finish()
}

/// The arithmetic mean under way. As long as the sum does not overflow it is divided at the end; from
/// there on the mean is moved by each value's share.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    sum: Sum,
    count: f64,
    moving: bool,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = Sum { high: value, low: 0.0 };
            return;
        }
        if !self.moving {
            let next = self.sum.add(value);
            if !next.high.is_infinite() {
                self.sum = next;
                return;
            }
            self.moving = true;
            let before = self.count - 1.0;
            self.sum = Sum { high: self.sum.high / before, low: self.sum.low / before };
        }
        let share = (self.count - 1.0) / self.count;
        let sum = Sum { high: share * self.sum.high, low: share * self.sum.low };
        self.sum = sum.add(value / self.count);
    }

    /// The mean; of nothing, NaN.
    pub(crate) fn finish(self) -> f64 {
        let Mean { sum: Sum { high, low }, count, moving } = self;
        if moving { high + low } else { high / count + low / count }
    }
}

/// The population variance, by Welford's recurrence (Technometrics 4(3), 1962) on compensated sums.
pub(crate) fn variance(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - (mean.high + mean.low);
        mean = mean.add(delta / count);
        squares = squares.add(delta * (value - (mean.high + mean.low)));
    }
    (squares.high + squares.low) / count
}

/// The φ-quantile with linear interpolation; NaN sorts lowest. φ below 0 gives −Inf, above 1 +Inf.
pub(crate) fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let rank = phi * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_not_lost_beside_large_ones() {
        assert_eq!(sum([5.0, 1e100, 1.0, -1e100]), 6.0);
        assert_eq!(sum([f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum([f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(mean([f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(variance([1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]), 2.0 / 3.0);
    }

    #[test]
    fn quantiles_interpolate_and_mark_the_impossible() {
        assert_eq!(quantile(0.5, vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(quantile(-1.0, vec![1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(2.0, vec![1.0]), f64::INFINITY);
        assert!(quantile(0.5, vec![]).is_nan());
    }
}
