//! When a source looks again: every so often, never two looks at once, never a burst to catch up.
//!
//! Sources of one period are spread out by a hash of their names, so that they do not all look in
//! the same millisecond, and look at the same offsets in every run.

use std::time::Duration;

use daruma_model::Span;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A period between looks, of at least 100 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Span", into = "Span")]
pub struct Every(Span);

impl Every {
    /// The shortest period.
    pub const MIN: Span = Span::millis(100);

    /// The longest period: beyond a day, "every" is no watching.
    pub const MAX: Span = Span::hours(24);

    /// A period of whole seconds, for defaults.
    #[must_use]
    pub const fn secs(seconds: u32) -> Every {
        Every(Span::secs(if seconds == 0 { 1 } else { seconds as i64 }))
    }

    /// The period.
    #[must_use]
    pub const fn span(self) -> Span {
        self.0
    }
}

/// Why a span is no period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a source looks every 100ms at the most often and every 24h at the least, not every {0}")]
pub struct EveryError(Span);

impl TryFrom<Span> for Every {
    type Error = EveryError;
    fn try_from(span: Span) -> Result<Every, EveryError> {
        if (Every::MIN..=Every::MAX).contains(&span) {
            Ok(Every(span))
        } else {
            Err(EveryError(span))
        }
    }
}

impl From<Every> for Span {
    fn from(every: Every) -> Span {
        every.0
    }
}

/// The times at which one source looks.
#[derive(Debug, Clone)]
pub struct Schedule {
    period: Duration,
    next: Instant,
}

impl Schedule {
    /// Starts now, or up to a second later by the name's hash, so that sources spread out.
    #[must_use]
    pub fn new(every: Every, name: &str) -> Schedule {
        let period = every.span().to_std();
        let hash = crate::delivery::Fingerprint::of(name.as_bytes()).hash;
        let share = (hash % 1024) as f64 / 1024.0;
        let offset = period.min(Duration::from_secs(1)).mul_f64(share);
        Schedule { period, next: Instant::now() + offset }
    }

    /// When the next look is due. Looks that a slow one has passed over are left out.
    #[must_use]
    pub fn next_due(&mut self) -> Instant {
        self.next_at(Instant::now())
    }

    fn next_at(&mut self, now: Instant) -> Instant {
        if self.next + self.period < now {
            let behind = now.duration_since(self.next).as_nanos();
            let missed = behind / self.period.as_nanos().max(1);
            self.next += self.period.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        }
        let due = self.next;
        self.next += self.period;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_took_ten_periods_is_followed_by_one_look_not_by_ten() {
        let every: Every = Span::millis(100).try_into().unwrap();
        let mut schedule = Schedule::new(every, "probe/web");
        let start = schedule.next;
        assert_eq!(schedule.next_at(start), start);
        let late = start + Duration::from_millis(1030);
        let due = [schedule.next_at(late), schedule.next_at(late), schedule.next_at(late)];
        assert_eq!(due.map(|due| (due - start).as_millis()), [1000, 1100, 1200]);
    }

    #[test]
    fn no_source_may_look_more_often_than_every_100_ms() {
        assert!(Every::try_from(Span::millis(99)).is_err());
        assert!(Every::try_from(Span::millis(100)).is_ok());
    }
}
