//! The one place where the machine's clock is read.
//!
//! The time it gives never goes back and never stands still: a wall clock that is set back is ridden
//! out on the monotonic one, from the last time given.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use daruma_model::{Clock, Time};

/// The machine's clock, beginning no earlier than `at_least` (the journal's last time).
#[must_use]
pub fn system(at_least: Time) -> Clock {
    monotone(at_least, wall, Instant::now)
}

fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn monotone(
    at_least: Time,
    wall: impl Fn() -> Time + Send + Sync + 'static,
    steady: impl Fn() -> Instant + Send + Sync + 'static,
) -> Clock {
    // The last time given, and the steady instant at which it was given.
    let last = Mutex::new((wall().max(at_least), steady()));
    Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let instant = steady();
        let passed = instant.saturating_duration_since(last.1).as_millis();
        let ridden = Time(last.0.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)));
        let now = wall().max(ridden);
        // Only whole milliseconds were counted: the rest stays with the steady instant.
        if now > last.0 {
            *last = (now, instant);
        }
        now
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    #[test]
    fn a_clock_set_back_goes_on_at_its_pace_and_one_set_forward_is_followed() {
        static WALL: AtomicI64 = AtomicI64::new(5_000);
        static STEADY: AtomicI64 = AtomicI64::new(0);
        let start = Instant::now();
        let clock = monotone(
            Time(1_000),
            || Time(WALL.load(Ordering::SeqCst)),
            move || start + Duration::from_millis(STEADY.load(Ordering::SeqCst).unsigned_abs()),
        );
        for (wall, steady, want) in [
            (5_000, 0, 5_000),
            (6_000, 1_000, 6_000),
            (2_000, 1_000, 6_000), // Set back by 4 s.
            (2_500, 1_500, 6_500),
            (3_000, 2_000, 7_000),
            (90_000, 2_001, 90_000), // Set forward.
            (90_001, 2_002, 90_001),
        ] {
            WALL.store(wall, Ordering::SeqCst);
            STEADY.store(steady, Ordering::SeqCst);
            assert_eq!(clock(), Time(want), "wall {wall}, steady {steady}");
        }
    }

    #[test]
    fn it_begins_no_earlier_than_the_journal_ended() {
        let start = Instant::now();
        assert_eq!(monotone(Time(9_000), || Time(10), move || start)(), Time(9_000));
    }
}
