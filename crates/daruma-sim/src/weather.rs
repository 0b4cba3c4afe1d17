//! How bad a simulated day is.

use daruma_model::Span;

use crate::rng::Rng;

/// How bad a simulated day is. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// How long it is bad; afterwards the sky clears, so that everything can come to its end.
    pub lasts: Span,
    /// Faults that begin in an hour.
    pub faults_per_hour: f64,
    /// Share of places in the loop at which the monitor dies.
    pub crash: f64,
    /// Share of samples that never arrive.
    pub lost_signal: f64,
    /// Share of samples that arrive up to 20 s late, or twice.
    pub odd_signal: f64,
    /// Times in an hour that a source goes silent, or a witness cannot look.
    pub blind_per_hour: f64,
    /// Share of witnesses' answers that are lost, or come very late.
    pub lost_answer: f64,
    /// Share of witnesses' answers that state the opposite, with a time from before the question.
    pub stale_answer: f64,
    /// Share of witnesses' answers that are lies.
    pub lie: f64,
    /// Share of acts that go wrong in one of many ways.
    pub bad_act: f64,
    /// Times in an hour that a channel stops to take messages.
    pub channel_down_per_hour: f64,
    /// Share of messages that are taken while the answer is lost.
    pub lost_receipt: f64,
    /// Commands of people in an hour.
    pub people_per_hour: f64,
    /// Policy changes in an hour.
    pub reloads_per_hour: f64,
    /// Clock jumps in an hour.
    pub jumps_per_hour: f64,
}

impl Weather {
    /// Faults come, and everything else works.
    #[must_use]
    pub fn calm() -> Weather {
        Weather {
            lasts: Span::minutes(90),
            faults_per_hour: 8.0,
            crash: 0.0,
            lost_signal: 0.0,
            odd_signal: 0.0,
            blind_per_hour: 0.0,
            lost_answer: 0.0,
            stale_answer: 0.0,
            lie: 0.0,
            bad_act: 0.05,
            channel_down_per_hour: 0.0,
            lost_receipt: 0.0,
            people_per_hour: 0.0,
            reloads_per_hour: 0.0,
            jumps_per_hour: 0.0,
        }
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub fn rough() -> Weather {
        Weather {
            lasts: Span::minutes(90),
            faults_per_hour: 10.0,
            crash: 0.003,
            lost_signal: 0.05,
            odd_signal: 0.05,
            blind_per_hour: 1.0,
            lost_answer: 0.05,
            stale_answer: 0.05,
            lie: 0.01,
            bad_act: 0.3,
            channel_down_per_hour: 1.5,
            lost_receipt: 0.05,
            people_per_hour: 6.0,
            reloads_per_hour: 1.5,
            jumps_per_hour: 0.5,
        }
    }

    /// The monitor dies again and again.
    #[must_use]
    pub fn crashing() -> Weather {
        Weather { crash: 0.03, lasts: Span::minutes(60), people_per_hour: 12.0, ..Weather::rough() }
    }

    /// A channel that is out for more than a day.
    #[must_use]
    pub fn long() -> Weather {
        Weather {
            lasts: Span::hours(27),
            faults_per_hour: 0.6,
            crash: 0.001,
            channel_down_per_hour: 0.15,
            people_per_hour: 0.3,
            reloads_per_hour: 0.05,
            jumps_per_hour: 0.05,
            blind_per_hour: 0.05,
            ..Weather::rough()
        }
    }

    /// A kind of day for this seed, so that many seeds see them all.
    #[must_use]
    pub fn of(seed: u64) -> Weather {
        let mut rng = Rng::new(seed.rotate_left(17) ^ 0x77);
        match rng.below(100) {
            0..20 => Weather::calm(),
            20..30 => Weather { people_per_hour: 10.0, reloads_per_hour: 4.0, ..Weather::calm() },
            30..38 => Weather { lie: 0.15, faults_per_hour: 20.0, ..Weather::rough() },
            38..70 => Weather::rough(),
            70..98 => Weather::crashing(),
            _ => Weather::long(),
        }
    }
}
