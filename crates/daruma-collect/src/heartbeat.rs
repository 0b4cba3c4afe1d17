//! Heartbeats: jobs that tell us they ran, so that their silence can be told from their success.
//!
//! A ping is an event and changes [`Heartbeats`] at once; whether a job is late is a question of
//! time, which its task asks when its deadline passes. Before the first ping nothing is said, unless
//! the job is expected from the start: a job that never ran is not yet one that stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_model::{Commit, Labels, Sample, Span, Time};
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::delivery::{Reporter, Source};

/// One entry of `collect.heartbeats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatSource {
    /// How its URL calls it: letters, digits, `_`, `-` and `.`, at most 100.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// How often it succeeds when all is well.
    #[serde(deserialize_with = "period")]
    pub period: Span,
    /// How much later than that it may be.
    #[serde(default)]
    pub grace: Span,
    /// Labels to put on its samples.
    #[serde(default)]
    pub labels: Labels,
    /// It is late when it has never been heard of for `period` and `grace`.
    #[serde(default)]
    pub expect_from_start: bool,
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=100).contains(&name.len()) && name.bytes().all(valid) {
        return Ok(name);
    }
    let found: String = name.chars().take(100).collect();
    Err(de::Error::custom(format!(
        "a heartbeat cannot be called {found:?}: letters, digits, `_`, `-` and `.`, at most 100"
    )))
}

fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span >= Span::millis(100) {
        return Ok(span);
    }
    Err(de::Error::custom(format!("`period` is {span}; it must be at least 100ms")))
}

/// What a job says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// It begins.
    Start,
    /// It is done.
    Success,
    /// It failed.
    Fail,
}

/// What is known of one job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// When it last said that it begins; nothing once it has ended.
    pub started: Option<Time>,
    /// When it last succeeded.
    pub succeeded: Option<Time>,
    /// It has said since then that it failed.
    pub failed: bool,
    /// From start to success, the last time both were heard of.
    pub took: Option<Span>,
    /// When it was first waited for: the first ping, or being configured.
    pub expected: Option<Time>,
}

impl Heard {
    fn ping(&mut self, kind: Ping, now: Time) {
        self.expected.get_or_insert(now);
        match kind {
            Ping::Start => self.started = Some(now),
            Ping::Success => {
                self.took = self.started.take().map(|started| now.since(started)).or(self.took);
                (self.succeeded, self.failed) = (Some(now), false);
            }
            Ping::Fail => (self.started, self.failed) = (None, true),
        }
    }

    /// After which time it is late; nothing when it is not waited for.
    fn late_after(&self, source: &HeartbeatSource) -> Option<Time> {
        Some(self.succeeded.or(self.expected)? + source.period + source.grace)
    }

    /// Whether it is well, or nothing when that cannot be known yet.
    fn up(&self, source: &HeartbeatSource, now: Time) -> Option<bool> {
        let late = now > self.late_after(source)?;
        if self.failed || late { Some(false) } else { self.succeeded.map(|_| true) }
    }

    fn commit(&self, source: &HeartbeatSource, now: Time) -> Commit {
        let labels = source.labels.with("heartbeat", &source.name);
        let values = [
            ("daruma_heartbeat_up", self.up(source, now).map(|up| f64::from(u8::from(up)))),
            (
                "daruma_heartbeat_last_success_timestamp_seconds",
                self.succeeded.map(Time::as_secs_f64),
            ),
            ("daruma_heartbeat_last_duration_seconds", self.took.map(Span::as_secs_f64)),
            ("daruma_heartbeat_age_seconds", self.succeeded.map(|at| now.since(at).as_secs_f64())),
        ];
        let samples = values.into_iter().filter_map(|(name, value)| {
            Some(Sample { labels: labels.with(Labels::NAME, name), time: now, value: value? })
        });
        Commit::from(samples.collect::<Vec<_>>())
    }
}

/// All heartbeats; clones share them. Whoever serves the ping URLs calls [`Heartbeats::ping`].
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Beat>>>);

#[derive(Debug, Default)]
struct Beat {
    heard: Heard,
    pinged: Arc<Notify>,
}

impl Heartbeats {
    /// What is known of every job, to be kept over a restart.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<String, Heard> {
        self.lock().iter().map(|(name, beat)| (name.clone(), beat.heard.clone())).collect()
    }

    /// Takes note of a ping; its samples follow at once. Whether a heartbeat of this name is
    /// configured: no other is kept, so that pings cannot fill the memory.
    #[must_use]
    pub fn ping(&self, name: &str, kind: Ping, now: Time) -> bool {
        let heard = self.with(name, |beat| {
            beat.heard.ping(kind, now);
            beat.pinged.notify_one();
        });
        heard.is_some()
    }

    /// Takes over what was heard before a restart or by the collector before this one, for the
    /// heartbeats that are configured and have not been heard of since.
    pub fn adopt(&self, heard: BTreeMap<String, Heard>) {
        let mut beats = self.lock();
        for (name, heard) in heard {
            if let Some(beat) = beats.get_mut(&name)
                && (beat.heard.started, beat.heard.succeeded, beat.heard.failed)
                    == (None, None, false)
            {
                beat.heard = heard;
                beat.pinged.notify_one();
            }
        }
    }

    /// Waits for these from now on; gives the sources to run.
    pub(crate) fn configure(&self, sources: Vec<HeartbeatSource>, now: Time) -> Vec<Watched> {
        let mut beats = self.lock();
        for source in &sources {
            let beat = beats.entry(source.name.clone()).or_default();
            if source.expect_from_start {
                beat.heard.expected.get_or_insert(now);
            }
        }
        drop(beats);
        let watched = |source| Watched { source, heartbeats: self.clone() };
        sources.into_iter().map(watched).collect()
    }

    fn with<T>(&self, name: &str, look: impl FnOnce(&mut Beat) -> T) -> Option<T> {
        self.lock().get_mut(name).map(look)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        // Every change is one assignment after another, none of which panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A heartbeat and where its pings arrive.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    source: HeartbeatSource,
    heartbeats: Heartbeats,
}

/// How often its age is told when nothing happens.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl Source for Watched {
    fn name(&self) -> String {
        format!("heartbeat/{}", self.source.name)
    }

    async fn run(self, mut reporter: Reporter) {
        let name = &self.source.name;
        let Some(pinged) = self.heartbeats.with(name, |beat| Arc::clone(&beat.pinged)) else {
            return reporter.stopping().await; // Never: `configure` put it there.
        };
        loop {
            let now = reporter.now();
            let heard = self.heartbeats.with(name, |beat| beat.heard.clone()).unwrap_or_default();
            reporter.observed(heard.commit(&self.source, now));
            let late = heard.late_after(&self.source).filter(|at| *at >= now);
            // One millisecond beyond the last moment at which it is not late.
            let until_late = late.map(|at| (at - now).to_std() + Duration::from_millis(1));
            let wait = until_late.map_or(TELL_EVERY, |wait| wait.min(TELL_EVERY));
            tokio::select! {
                go = reporter.wait_until(Instant::now() + wait) => if !go { return },
                () = pinged.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ping::{Fail, Start, Success};

    fn source(expect_from_start: bool) -> HeartbeatSource {
        let yaml = format!(
            "{{ name: backup, period: 60s, grace: 10s, expect_from_start: {expect_from_start} }}"
        );
        serde_saphyr::from_str(&yaml).unwrap()
    }

    #[test]
    fn a_job_is_well_until_it_is_late_or_says_that_it_failed() {
        let source = source(false);
        let mut heard = Heard::default();
        for (now, ping, want) in [
            (0, None, None), // Never heard of: nothing is known.
            (1, Some(Start), None),
            (5, Some(Success), Some(true)),
            (75, None, Some(true)), // The last moment of its grace.
            (76, None, Some(false)),
            (80, Some(Success), Some(true)),
            (81, Some(Start), Some(true)),
            (82, Some(Fail), Some(false)),
            (90, Some(Success), Some(true)),
        ] {
            let now = Time::from_secs(now);
            if let Some(ping) = ping {
                heard.ping(ping, now);
            }
            assert_eq!(heard.up(&source, now), want, "{now:?} {ping:?}");
        }
        assert_eq!(heard.took, Some(Span::secs(4)));
    }

    #[test]
    fn a_job_that_began_and_never_ended_is_late_too() {
        let mut heard = Heard::default();
        heard.ping(Start, Time::from_secs(0));
        assert_eq!(heard.up(&source(false), Time::from_secs(71)), Some(false));
    }

    #[test]
    fn a_job_expected_from_the_start_is_late_though_never_heard_of() {
        let heartbeats = Heartbeats::default();
        drop(heartbeats.configure(vec![source(true)], Time::from_secs(0)));
        let heard = heartbeats.heard()["backup"].clone();
        assert_eq!(heard.up(&source(true), Time::from_secs(70)), None);
        assert_eq!(heard.up(&source(true), Time::from_secs(71)), Some(false));
    }

    #[test]
    fn a_new_collector_takes_over_what_was_heard_and_only_configured_names_are_known() {
        let heartbeats = Heartbeats::default();
        drop(heartbeats.configure(vec![source(false)], Time(0)));
        assert!(heartbeats.ping("backup", Success, Time(5)));
        assert!(!heartbeats.ping("guess", Success, Time(5)));
        let after = Heartbeats::default();
        drop(after.configure(vec![source(true)], Time(9)));
        after.adopt(heartbeats.heard());
        assert_eq!(after.heard(), heartbeats.heard());
        assert!(after.ping("backup", Success, Time(12)));
        after.adopt(heartbeats.heard()); // Older than what it has heard itself.
        assert_eq!(after.heard()["backup"].succeeded, Some(Time(12)));
    }

    #[test]
    fn a_name_that_would_not_fit_into_a_url_is_refused() {
        for name in ["", "a/b", "a b", "ä"] {
            let yaml = format!("{{ name: \"{name}\", period: 60s }}");
            assert!(serde_saphyr::from_str::<HeartbeatSource>(&yaml).is_err(), "{name:?}");
        }
    }
}
