//! What wakes nobody is gathered for a receiver, and told together when its digest is due.
//!
//! A digest says what began since the last one and whether it still fires; what still fires is said to
//! be over by a later one. An end that nobody heard the beginning of is told with it.

use std::collections::BTreeMap;

use daruma_model::{Labels, Level, MessageAlert, MessageStatus, Time};

use crate::core::Cx;
use crate::{Gathered, GatheredAlert};

/// Alerts kept for one digest; more are counted.
const GATHERED_MAX: usize = 1_000;
/// Alerts named in one digest; more are counted in its text.
const ALERTS_PER_DIGEST: usize = 100;

impl Cx<'_> {
    /// Keeps an alert for the digest of a receiver.
    pub(crate) fn gather(&mut self, receiver: &str, alert: &MessageAlert) {
        let now = self.now;
        let digest = self.state.policy.notify.receiver(receiver).and_then(|r| r.digest.clone());
        let Some(digest) = digest else { return };
        let gathered = self.state.digests.entry(receiver.to_owned()).or_insert_with(|| Gathered {
            due: digest.due(now),
            alerts: BTreeMap::new(),
            left_out: 0,
        });
        let key = alert.labels.to_string();
        if let Some(known) = gathered.alerts.get_mut(&key) {
            if known.starts_at < alert.starts_at {
                known.starts_at = alert.starts_at;
                known.times += 1;
                known.told = false;
            }
            return;
        }
        if gathered.alerts.len() >= GATHERED_MAX {
            gathered.left_out += 1;
            return;
        }
        let one = GatheredAlert {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: alert.starts_at,
            times: 1,
            told: false,
        };
        gathered.alerts.insert(key, one);
    }

    /// Tells the digests that are due.
    pub(crate) fn tell_digests(&mut self) {
        let now = self.now;
        let due = |(_, gathered): &(&String, &Gathered)| gathered.due <= now;
        let names: Vec<String> =
            self.state.digests.iter().filter(due).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.tell_digest(&name);
        }
    }

    fn tell_digest(&mut self, name: &str) {
        let now = self.now;
        let Some(mut gathered) = self.state.digests.remove(name) else { return };
        let Some(receiver) = self.state.policy.notify.receiver(name).cloned() else { return };
        let mut firing = Vec::new();
        let mut over = Vec::new();
        for (key, alert) in &gathered.alerts {
            match self.ended(&alert.labels) {
                None => firing.push((key.clone(), alert.clone(), None)),
                Some(at) => over.push((key.clone(), alert.clone(), Some(at))),
            }
        }
        let news = firing.iter().any(|(_, alert, _)| !alert.told) || !over.is_empty();
        let still = firing.len();
        let all: Vec<_> = firing.into_iter().chain(over).collect();
        if news {
            let level = |labels: &Labels| self.state.policy.notify.level(labels);
            let gravest = all.iter().map(|(_, alert, _)| level(&alert.labels)).max();
            let mut text: Vec<String> = all
                .iter()
                .take(ALERTS_PER_DIGEST)
                .map(|(_, alert, ended)| line(alert, *ended, now))
                .collect();
            let left_out = all.len().saturating_sub(ALERTS_PER_DIGEST) as u64 + gathered.left_out;
            if left_out > 0 {
                text.push(format!("{left_out} more alerts are not listed here"));
            }
            let title = format!("digest: {} alerts, {still} still firing", all.len());
            let alerts = all
                .iter()
                .take(ALERTS_PER_DIGEST)
                .map(|(_, alert, ended)| MessageAlert {
                    labels: alert.labels.clone(),
                    annotations: alert.annotations.clone(),
                    status: match ended {
                        Some(_) => MessageStatus::Resolved,
                        None => MessageStatus::Firing,
                    },
                    starts_at: alert.starts_at,
                    ends_at: ended.map(|at| at.max(alert.starts_at)),
                    generator_url: String::new(),
                })
                .collect();
            self.enqueue_digest(&receiver, gravest.unwrap_or(Level::Info), title, text, alerts);
        }
        // What fires still is kept until a digest has said that it is over.
        gathered.alerts.clear();
        gathered.left_out = 0;
        for (key, alert, ended) in all {
            if ended.is_none() {
                gathered.alerts.insert(key, GatheredAlert { told: true, times: 0, ..alert });
            }
        }
        if let Some(digest) = receiver.digest.as_ref().filter(|_| !gathered.alerts.is_empty()) {
            gathered.due = digest.due(now);
            self.state.digests.insert(name.to_owned(), gathered);
        }
    }

    /// When an alert with these labels ended; nothing while it fires.
    fn ended(&self, labels: &Labels) -> Option<Time> {
        if self.index.own.contains_key(labels) {
            return None;
        }
        match self.state.dispatch.alerts.get(&labels.fingerprint()) {
            Some(alert) if !alert.is_over(self.now) => None,
            Some(alert) => Some(alert.ends_at),
            None => Some(self.now),
        }
    }
}

fn line(alert: &GatheredAlert, ended: Option<Time>, now: Time) -> String {
    let name = match alert.annotations.get("summary") {
        "" => alert.labels.to_string(),
        summary => format!("{summary} {}", alert.labels),
    };
    let ago = now.since(alert.starts_at);
    let often = match alert.times {
        0 | 1 => String::new(),
        times => format!(", {times} times"),
    };
    match ended {
        None => format!("fires since {ago}{often}: {name}"),
        Some(_) => format!("began {ago} ago, over{often}: {name}"),
    }
}
