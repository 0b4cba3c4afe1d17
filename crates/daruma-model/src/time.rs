//! Points in time and lengths of time, both in whole milliseconds, as Prometheus counts them.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01 UTC. Arithmetic saturates, so hostile timestamps cannot overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

/// How code at the edge asks for the time. The one that reads the machine's clock is made in
/// `daruma/src/clock.rs`; tests make their own.
pub type Clock = std::sync::Arc<dyn Fn() -> Time + Send + Sync>;

/// A length of time in milliseconds; never negative when parsed from text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

impl Time {
    /// Before every signal.
    pub const MIN: Time = Time(i64::MIN);
    /// After every signal.
    pub const MAX: Time = Time(i64::MAX);

    /// From seconds since 1970.
    #[must_use]
    pub fn from_secs(seconds: i64) -> Time {
        Time(seconds.saturating_mul(1000))
    }

    /// Seconds since 1970, with fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// How long before `self` the time `earlier` was; zero if it was later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of whole seconds.
    #[must_use]
    pub const fn secs(seconds: i64) -> Span {
        Span(seconds.saturating_mul(1000))
    }

    /// A span of milliseconds.
    #[must_use]
    pub const fn millis(milliseconds: i64) -> Span {
        Span(milliseconds)
    }

    /// A span of whole minutes.
    #[must_use]
    pub const fn minutes(minutes: i64) -> Span {
        Span(minutes.saturating_mul(60_000))
    }

    /// A span of whole hours.
    #[must_use]
    pub const fn hours(hours: i64) -> Span {
        Span(hours.saturating_mul(3_600_000))
    }

    /// Seconds, with fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// As people say it: whole seconds from a second on, whole minutes from an hour on; cut, not
    /// rounded up.
    #[must_use]
    pub fn roughly(self) -> Span {
        let unit = match self.0.unsigned_abs() {
            0..1000 => 1,
            1000..3_600_000 => 1000,
            _ => 60_000,
        };
        Span(self.0 / unit * unit)
    }

    /// The same length for timers of the standard library; negative spans become zero.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Sub<Time> for Time {
    type Output = Span;
    fn sub(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{:03}", self.0.div_euclid(1000), self.0.rem_euclid(1000))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The shortest exact text in Prometheus' form, e.g. `1h30m`, `250ms`, `0s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (unit, length) in
            [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
        {
            // Weeks only when they come out even, as Prometheus prints them.
            if rest >= length && (unit != "w" || rest.is_multiple_of(length)) {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        if rest > 0 {
            write!(f, "{rest}ms")?;
        }
        Ok(())
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a duration; write a number with a unit, such as 250ms, 30s, 5m, 2h or 1h30m"
)]
pub struct SpanError {
    /// The text that was found, cut to 40 characters.
    pub found: String,
}

/// Prometheus' form: whole numbers with the units `y w d h m s ms` in falling order, or `0`.
impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Span, SpanError> {
        let error = || SpanError { found: text.chars().take(40).collect() };
        if text == "0" {
            return Ok(Span::ZERO);
        }
        let units: [(&str, i64); 7] = [
            ("y", 31_536_000_000),
            ("w", 604_800_000),
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
            ("ms", 1),
        ];
        let (mut rest, mut next_unit, mut total) = (text, 0, 0_i64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let at = units[next_unit..]
                .iter()
                .position(|(unit, _)| *unit == &rest[..letters])
                .ok_or_else(error)?;
            let length = units[next_unit + at].1;
            next_unit += at + 1;
            rest = &rest[letters..];
            total = number
                .checked_mul(length)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(error)?;
        }
        if next_unit == 0 { Err(error()) } else { Ok(Span(total)) }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 250ms, 30s, 5m or 1h30m")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Span, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("0", Some(0)),
            ("100ms", Some(100)),
            ("1h30m", Some(5_400_000)),
            ("1w", Some(604_800_000)),
            ("1m30", None),
            ("30m1h", None),
            ("1.5h", None),
            ("5", None),
            ("", None),
            ("-5s", None),
            ("5 s", None),
            ("1ä", None),
            ("99999999999y", None),
        ] {
            assert_eq!(text.parse::<Span>().ok().map(|span| span.0), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms in 0_i64..10_000_000_000) {
            prop_assert_eq!(Span(ms).to_string().parse::<Span>(), Ok(Span(ms)));
        }

        #[test]
        fn no_text_makes_the_duration_parser_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<Span>();
        }
    }
}
