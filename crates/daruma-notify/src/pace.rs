//! How fast a far side may be told: a place in line per message, so that waiting is a delay and never
//! a loss, and whoever came first goes first.

use std::collections::VecDeque;

use daruma_model::{Span, Time};

use crate::declared::Rate;

/// The state of one channel's rates. Vendors count in a sliding window and punish one message too many
/// (some with ten minutes of silence), so the times themselves are kept, not a level that leaks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    /// When the latest went or will go out; as many as the largest rate counts.
    sent: VecDeque<Time>,
    /// Nothing goes out before; the far side asked for it.
    paused_until: Time,
}

impl Pace {
    /// When the next message may go out, and takes its place.
    pub(crate) fn reserve(&mut self, rates: &[Rate], now: Time) -> Span {
        let mut at = now.max(self.paused_until);
        for rate in rates {
            let before = self.sent.len().checked_sub(rate.count.max(1) as usize);
            if let Some(earlier) = before.and_then(|i| self.sent.get(i)) {
                at = at.max(Time(earlier.0.saturating_add(rate.per.0)));
            }
        }
        // In line: nobody overtakes, even if the clock was set back.
        at = at.max(self.sent.back().copied().unwrap_or(at).min(at + Span::hours(1)));
        let kept = rates.iter().map(|rate| rate.count.max(1) as usize).max().unwrap_or(0);
        self.sent.push_back(at);
        while self.sent.len() > kept {
            self.sent.pop_front();
        }
        at.since(now)
    }

    /// Gives back the place taken last.
    pub(crate) fn give_back(&mut self) {
        self.sent.pop_back();
    }

    /// The far side asked for a pause.
    pub(crate) fn pause(&mut self, until: Time) {
        self.paused_until = self.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATES: &[Rate] =
        &[Rate { count: 5, per: Span::secs(1) }, Rate { count: 20, per: Span::secs(60) }];

    #[test]
    fn a_storm_waits_in_line_and_a_lone_message_does_not() {
        let mut pace = Pace::default();
        let waits: Vec<i64> =
            (0..45).map(|_| pace.reserve(RATES, Time::from_secs(100)).0).collect();
        assert_eq!(waits[..6], [0, 0, 0, 0, 0, 1000]);
        assert_eq!((waits[19], waits[20], waits[40]), (3000, 60_000, 120_000));
        assert_eq!(pace.reserve(RATES, Time::from_secs(500)), Span::ZERO);
        pace.pause(Time::from_secs(510));
        assert_eq!(pace.reserve(RATES, Time::from_secs(501)), Span::secs(9));
    }

    proptest! {
        /// Whatever comes when: no window of the vendor's sees more than it allows, and all go out.
        #[test]
        fn the_rate_is_never_exceeded(gaps in prop::collection::vec(0_i64..5000, 1..120)) {
            let (mut pace, mut now, mut sent) = (Pace::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                sent.push(now + pace.reserve(RATES, Time(now)).0);
            }
            for (at, first) in sent.iter().enumerate() {
                for rate in RATES {
                    let within = sent[at..].iter().filter(|t| **t - first < rate.per.0).count();
                    prop_assert!(within <= rate.count as usize, "{within} from {first}");
                }
            }
        }
    }
}
