//! One alert as somebody posted it, and how two words on the same alert become one.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::{Labels, Span, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Dispatch, DispatchIndex, POSTED_MAX};
use crate::routing::Routing;

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

impl Posted {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        self.ends_at <= now
    }

    /// One life out of two words on it, of which `newer` came later.
    fn merged(older: &Posted, newer: Posted, now: Time) -> Posted {
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
        if later && if one.is_over(now) { older.is_over(now) } else { !older.times_out } {
            one.ends_at = older.ends_at;
            one.times_out = older.times_out;
        }
        one
    }
}

impl Dispatch {
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

    fn take_in(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        alert: &AlertIn,
    ) -> bool {
        let fingerprint = alert.labels.fingerprint();
        let (ends_at, times_out) = match alert.ends_at {
            Some(at) => (at, false),
            None => (now + routing.resolve_timeout.max(Span::millis(1)), true),
        };
        let known = self.alerts.get(&fingerprint);
        let url = known.map(|known| &known.generator_url);
        let generator_url = match url {
            Some(url) if **url == *alert.generator_url => Arc::clone(url),
            _ => Arc::from(alert.generator_url.as_str()),
        };
        let newer = Posted {
            labels: known.map_or_else(|| alert.labels.clone(), |known| known.labels.clone()),
            annotations: match known {
                Some(known) if known.annotations == alert.annotations => known.annotations.clone(),
                _ => alert.annotations.clone(),
            },
            starts_at: alert.starts_at.unwrap_or_else(|| alert.ends_at.unwrap_or(now).min(now)),
            ends_at,
            times_out,
            updated_at: now,
            generator_url,
            groups: known.map_or_else(Box::default, |known| known.groups.clone()),
        };
        let Some(known) = known else {
            if newer.is_over(now) {
                return true; // Nobody was told that it began.
            }
            if self.alerts.len() >= POSTED_MAX {
                return false;
            }
            self.arrive(index, routing, now, fingerprint, newer);
            return true;
        };
        let merged = Posted::merged(known, newer, now);
        let turned = known.is_over(now) != merged.is_over(now);
        let sooner = merged.ends_at < known.ends_at;
        let groups = merged.groups.clone();
        self.alerts.insert(fingerprint, Arc::new(merged));
        if turned || sooner {
            groups.iter().for_each(|id| self.stir(index, routing, now, *id));
        }
        true
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
    /// stays told.
    pub(crate) fn regroup(&mut self, index: &mut DispatchIndex, routing: &Routing, now: Time) {
        let old = std::mem::take(&mut self.groups);
        let incidents: BTreeMap<String, u64> =
            old.into_values().filter_map(|group| Some((group.key, group.incident?))).collect();
        *index = DispatchIndex::of(self, routing);
        index.sources = super::Sources::new(&routing.inhibit);
        index.services.clear();
        for (fingerprint, alert) in std::mem::take(&mut self.alerts) {
            self.arrive(index, routing, now, fingerprint, (*alert).clone());
        }
        for group in self.groups.values_mut() {
            group.incident = incidents.get(&group.key).copied();
        }
        self.adopt(index, now);
    }
}

/// At rest the alerts are a plain list: their key follows from their labels.
pub(super) mod at_rest {
    use super::{Arc, BTreeMap, Deserialize, Deserializer, Posted, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        alerts: &BTreeMap<u64, Arc<Posted>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(alerts.values().map(|alert| &**alert))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, Arc<Posted>>, D::Error> {
        let all = Vec::<Posted>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|alert| (alert.labels.fingerprint(), Arc::new(alert))).collect())
    }
}
