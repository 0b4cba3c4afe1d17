//! One alert as somebody posted it, and how two words on the same alert become one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use daruma_model::{Labels, Span, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Dispatch, DispatchIndex, POSTED_MAX};
use crate::routing::Routing;
use crate::{Event, ReceiverPolicy};

/// An alert as it comes in: from the API, or from the loop's own rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertIn {
    /// Which alert; not empty.
    #[serde(rename = "l")]
    pub labels: Labels,
    /// Human text.
    #[serde(rename = "a", default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// When it began; left out: when it was posted.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Time>,
    /// When it ended or will be taken to have; left out: after `resolve_timeout`.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Time>,
    /// Where it can be looked at, or `""`.
    #[serde(rename = "g", default, skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
}

/// An alert that is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// Which alert.
    pub labels: Labels,
    /// Human text: the newest.
    pub annotations: Labels,
    /// When it began: the earliest of this life.
    pub starts_at: Time,
    /// When it ended or will be taken to have.
    pub ends_at: Time,
    /// Whether that end is only the want of a word.
    pub times_out: bool,
    /// When it was last spoken of.
    pub updated_at: Time,
    /// Where it can be looked at, or `""`.
    pub generator_url: Arc<str>,
    /// Numbers of its groups.
    pub groups: Box<[u64]>,
}

/// What one word on an alert says of its time.
fn life(routing: &Routing, now: Time, starts_at: Option<Time>, ends_at: Option<Time>) -> Life {
    Life {
        starts_at: starts_at.unwrap_or_else(|| ends_at.unwrap_or(now).min(now)),
        ends_at: ends_at.unwrap_or(now + routing.resolve_timeout.max(Span::millis(1))),
        times_out: ends_at.is_none(),
    }
}

impl Posted {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        self.ends_at <= now
    }

    /// Whether a word on it says nothing new but its end, and leaves it firing.
    fn is_said_again(&self, now: Time, said: &AlertIn) -> bool {
        !self.is_over(now)
            && said.ends_at.is_none_or(|end| end > now)
            && (self.starts_at..self.ends_at).contains(&said.starts_at.unwrap_or(now))
            && said.labels == self.labels
            && said.annotations == self.annotations
            && *said.generator_url == *self.generator_url
    }

    fn life(&self) -> Life {
        Life { starts_at: self.starts_at, ends_at: self.ends_at, times_out: self.times_out }
    }
}

/// When an alert begins and ends, by one word on it.
#[derive(Debug, Clone, Copy)]
struct Life {
    starts_at: Time,
    ends_at: Time,
    times_out: bool,
}

impl Life {
    /// One life out of two words on it, of which `newer` came later.
    fn merged(older: Life, newer: Life, now: Time) -> Life {
        let overlap = (newer.ends_at > older.starts_at && newer.ends_at < older.ends_at)
            || (newer.starts_at > older.starts_at && newer.starts_at < older.ends_at)
            || newer.starts_at == older.starts_at;
        if !overlap {
            return newer;
        }
        let mut one = newer;
        one.starts_at = one.starts_at.min(older.starts_at);
        // A real end beats one that is only the want of a word; of several real ones the latest counts.
        let later = older.ends_at > one.ends_at;
        let is_over = |life: &Life| life.ends_at <= now;
        if later && if is_over(&one) { is_over(&older) } else { !older.times_out } {
            one.ends_at = older.ends_at;
            one.times_out = older.times_out;
        }
        one
    }
}

/// Alerts that are held and were posted again with the same words: all that differs is their end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// As in [`AlertIn::ends_at`].
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Time>,
    /// Fingerprints of their labels; in JSON one text, sixteen hexadecimal digits each.
    #[serde(rename = "f", with = "fingerprints")]
    pub of: Vec<u64>,
}

/// One text for each address, since thousands of alerts come from one rule. What it holds follows from
/// nothing but what was asked of it, and says nothing: any two are equal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Urls {
    texts: HashSet<Arc<str>>,
    kept: usize,
}

impl PartialEq for Urls {
    fn eq(&self, _: &Urls) -> bool {
        true
    }
}

impl Urls {
    fn shared(&mut self, url: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(url) {
            return Arc::clone(known);
        }
        if self.texts.len() > 2 * self.kept + 1_000 {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.kept = self.texts.len();
        }
        let new: Arc<str> = Arc::from(url);
        self.texts.insert(Arc::clone(&new));
        new
    }
}

impl Dispatch {
    /// What is known already, and said again in the same words, is only named: most of what comes in, and
    /// all of it would be written to the journal. `seen` are alerts spoken of before these words, which
    /// may not be taken in yet.
    pub(crate) fn condensed(
        &self,
        now: Time,
        alerts: Vec<AlertIn>,
        seen: &mut HashSet<u64>,
    ) -> Event {
        let (mut again, mut fresh) = (Vec::<Again>::new(), Vec::new());
        for alert in alerts {
            let fingerprint = alert.labels.fingerprint();
            let known = self.alerts.get(&fingerprint).filter(|_| seen.insert(fingerprint));
            if !known.is_some_and(|known| known.is_said_again(now, &alert)) {
                seen.insert(fingerprint);
                fresh.push(alert);
                continue;
            }
            match again.last_mut().filter(|last| last.ends_at == alert.ends_at) {
                Some(last) => last.of.push(fingerprint),
                None => again.push(Again { ends_at: alert.ends_at, of: vec![fingerprint] }),
            }
        }
        if again.is_empty() { Event::Posted(fresh) } else { Event::Reposted { again, fresh } }
    }

    /// Takes in what was posted. Returns how many were refused because of the bound.
    pub(crate) fn post(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        alerts: &[AlertIn],
    ) -> u64 {
        let mut refused = 0;
        for alert in alerts {
            refused += u64::from(!self.take_in(index, routing, now, alert));
        }
        self.refused += refused;
        refused
    }

    /// Takes in what was posted again.
    pub(crate) fn post_again(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        again: &[Again],
    ) {
        for Again { ends_at, of } in again {
            for fingerprint in of {
                let Some(known) = self.alerts.get(fingerprint) else {
                    self.refused += 1;
                    continue;
                };
                let newer = life(routing, now, Some(known.starts_at), *ends_at);
                self.spoken_of(index, routing, now, *fingerprint, newer, None);
            }
        }
    }

    fn take_in(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        alert: &AlertIn,
    ) -> bool {
        let fingerprint = alert.labels.fingerprint();
        let newer = life(routing, now, alert.starts_at, alert.ends_at);
        if self.alerts.get(&fingerprint).is_some() {
            self.spoken_of(index, routing, now, fingerprint, newer, Some(alert));
            return true;
        }
        if newer.ends_at <= now {
            return true; // Nobody was told that it began.
        }
        if self.alerts.len() >= POSTED_MAX {
            return false;
        }
        let posted = Posted {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: newer.starts_at,
            ends_at: newer.ends_at,
            times_out: newer.times_out,
            updated_at: now,
            generator_url: index.urls.shared(&alert.generator_url),
            groups: Box::default(),
        };
        self.arrive(index, routing, now, fingerprint, posted);
        true
    }

    /// Another word on an alert that is held; `said`, if it may be in other words.
    fn spoken_of(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        fingerprint: u64,
        newer: Life,
        said: Option<&AlertIn>,
    ) {
        let Some(held) = self.alerts.get_mut(&fingerprint) else { return };
        let known = held.life();
        let merged = Life::merged(known, newer, now);
        let alert = Arc::make_mut(held);
        alert.starts_at = merged.starts_at;
        alert.ends_at = merged.ends_at;
        alert.times_out = merged.times_out;
        alert.updated_at = now;
        if let Some(said) = said {
            if alert.annotations != said.annotations {
                alert.annotations = said.annotations.clone();
            }
            if *alert.generator_url != *said.generator_url {
                alert.generator_url = index.urls.shared(&said.generator_url);
            }
        }
        let turned = (known.ends_at <= now) != (merged.ends_at <= now);
        if turned || merged.ends_at < known.ends_at {
            let groups = alert.groups.clone();
            if turned && merged.ends_at > now {
                self.come_back(index, routing, now, fingerprint);
            }
            for id in groups {
                self.stir(index, routing, now, id);
            }
        }
    }

    /// An alert fires again that some groups have done with and others have not: it is in all of them.
    fn come_back(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        fingerprint: u64,
    ) {
        let Some(alert) = self.alerts.get(&fingerprint).map(|alert| (**alert).clone()) else {
            return;
        };
        let owing = |id: &&u64| {
            let group = self.groups.get(id);
            group.is_some_and(|group| group.orphan && group.members.contains(&fingerprint))
        };
        let owing: Vec<u64> = alert.groups.iter().filter(owing).copied().collect();
        self.arrive(index, routing, now, fingerprint, alert);
        if let Some(alert) = self.alerts.get_mut(&fingerprint).filter(|_| !owing.is_empty()) {
            let alert = Arc::make_mut(alert);
            alert.groups = alert.groups.iter().copied().chain(owing).collect();
        }
    }

    fn arrive(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        fingerprint: u64,
        mut alert: Posted,
    ) {
        let nodes = routing.matching(&alert.labels);
        alert.groups = nodes
            .into_iter()
            .map(|node| self.join(index, routing, now, node, fingerprint, &alert))
            .collect();
        index.alert_comes(routing, fingerprint, &alert);
        self.alerts.insert(fingerprint, Arc::new(alert));
    }

    /// Puts everything into groups anew, because other routes hold: timers begin again, what was told
    /// stays told. Returns the incidents of groups that live on in no form.
    pub(crate) fn regroup(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        receivers: &[ReceiverPolicy],
        now: Time,
    ) -> Vec<u64> {
        let old = std::mem::take(&mut self.groups);
        let mut incidents: BTreeMap<String, u64> =
            old.values().filter_map(|group| Some((group.key.clone(), group.incident?))).collect();
        *index = DispatchIndex::of(self, routing);
        index.sources = Arc::new(super::Sources::new(&routing.inhibit));
        index.services.clear();
        for (fingerprint, alert) in std::mem::take(&mut self.alerts).iter() {
            self.arrive(index, routing, now, *fingerprint, (**alert).clone());
        }
        for group in self.groups.values_mut() {
            group.incident = incidents.remove(&group.key);
        }
        self.adopt(index, routing, receivers, now, &mut incidents);
        incidents.into_values().collect()
    }
}

/// At rest the alerts are a plain list: their key follows from their labels.
pub(super) mod at_rest {
    use super::{Arc, Deserialize, Deserializer, Posted, Serializer};
    use crate::dispatch::{ALERT_BITS, Table};

    type Alerts = Table<Arc<Posted>, ALERT_BITS>;

    pub(crate) fn serialize<S: Serializer>(
        alerts: &Alerts,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(alerts.values().map(|alert| &**alert))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Alerts, D::Error> {
        let all = Vec::<Posted>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|alert| (alert.labels.fingerprint(), Arc::new(alert))).collect())
    }
}

mod fingerprints {
    use std::fmt::Write;

    use serde::de::Error;

    use super::{Deserialize, Deserializer, Serializer};

    const DIGITS: usize = 16;

    pub(super) fn serialize<S: Serializer>(of: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(of.len() * DIGITS);
        for fingerprint in of {
            write!(text, "{fingerprint:016x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(DIGITS).map(|digits| {
            let digits = str::from_utf8(digits).ok().filter(|digits| digits.len() == DIGITS);
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
        });
        let all: Option<Vec<u64>> = digits.collect();
        all.ok_or_else(|| Error::custom("fingerprints are sixteen hexadecimal digits each"))
    }
}
