//! Bad days from a seed: a simulated world that drives the loop ([`daruma_alert::Core`]) through
//! faults, lies, lost answers and crashes, and a judge that recomputes every promise from outside.
//!
//! One number decides a whole day, so a day that broke a promise can be lived again:
//! [`run_seed`] says which promise broke, when, and how it came to it. Nothing here sleeps, reads a
//! clock or touches the machine.
//!
//! `cargo test -p daruma-sim` lives the first thousand days; other ones, such as a night's worth of
//! new ones, are chosen by `DARUMA_SIM_SEEDS=1000..21000 cargo test -p daruma-sim thousand`. A day
//! that broke a promise is told with its number, its story and the command that lives it again.
#![doc = ""]
#![doc = include_str!("../MUTATIONS.md")]

mod day;
mod journal;
mod judge;
mod post;
mod rng;
mod town;
mod weather;

use std::fmt;

use daruma_model::Time;

pub use weather::Weather;

/// What happened on a day that kept every promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events the core took in.
    pub events: u64,
    /// Times the monitor died.
    pub crashes: u64,
    /// Incidents that came to an end.
    pub incidents: u64,
    /// Of them those that a recovery ended.
    pub healed: u64,
    /// Incidents for which a person was called.
    pub escalated: u64,
    /// Acts begun.
    pub acts: u64,
    /// Messages that channels received, and of them those received again after a lost answer.
    pub receipts: u64,
    /// See [`Stats::receipts`].
    pub resends: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.incidents += other.incidents;
        self.healed += other.healed;
        self.escalated += other.escalated;
        self.acts += other.acts;
        self.receipts += other.receipts;
        self.resends += other.resends;
    }
}

/// A day on which a promise broke.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which day.
    pub seed: u64,
    /// When, in the world's own time.
    pub at: Time,
    /// Which promise, and how it broke.
    pub invariant: String,
    /// What led to it, oldest first; the last lines of the day.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {} at {:?}: {}", self.seed, self.at, self.invariant)?;
        let (seed, next) = (self.seed, self.seed.saturating_add(1));
        write!(f, "again: DARUMA_SIM_SEEDS={seed}..{next} cargo test -p daruma-sim thousand")
    }
}

impl std::error::Error for Failure {}

/// Lives one day.
///
/// # Errors
/// The promise that broke, with the story of how.
pub fn run_seed(seed: u64, weather: Weather) -> Result<Stats, Failure> {
    if let Ok(stats) = live(seed, weather, false) {
        return Ok(stats);
    }
    // The same day again, told aloud: telling costs, and most days have nothing to tell.
    live(seed, weather, true).map_err(|failure| *failure)
}

/// Lives one day of a post office.
///
/// # Errors
/// The promise that broke, with the story of how.
pub fn run_post_seed(seed: u64) -> Result<Stats, Failure> {
    if let Ok(stats) = live_post(seed, false) {
        return Ok(stats);
    }
    live_post(seed, true).map_err(|failure| *failure)
}

fn live_post(seed: u64, telling: bool) -> Result<Stats, Box<Failure>> {
    let mut day = post::PostDay::new(seed, telling);
    match lived(|| day.run()) {
        None => Ok(day.stats),
        Some(invariant) => {
            Err(Box::new(Failure { seed, at: day.now(), invariant, story: day.story() }))
        }
    }
}

fn live(seed: u64, weather: Weather, telling: bool) -> Result<Stats, Box<Failure>> {
    let mut day = day::Day::new(seed, weather, telling);
    match lived(|| day.run()) {
        None => Ok(day.stats),
        Some(invariant) => {
            Err(Box::new(Failure { seed, at: day.now(), invariant, story: day.story() }))
        }
    }
}

/// Which promise broke, if one did.
fn lived(day: impl FnOnce() -> judge::Held) -> Option<String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(day)) {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(format!("{}: {}", broken.invariant, broken.said)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(format!("never panics: {}", said.unwrap_or_else(|| "panicked".to_owned())))
        }
    }
}
