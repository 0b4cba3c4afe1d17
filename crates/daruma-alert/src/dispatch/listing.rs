//! What is held, for whoever asks: a picture that is taken at once and read elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::{Labels, Time};

use super::{Dispatch, Group, Posted, Sources};
use crate::index::Index;
use crate::routing::Routing;
use crate::state::Gathered;
use crate::{Hold, NotifyPolicy, Silence};

/// The picture of everything that is posted and how it is routed at one time. Cheap to take: the
/// alerts themselves are shared.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// When it was taken.
    pub now: Time,
    /// The routes in force.
    pub routing: Arc<Routing>,
    /// Every silence, also future ones and those that ended lately.
    pub silences: Vec<Silence>,
    /// Every hold.
    pub holds: Vec<Hold>,
    /// Whom to tell and how it climbs. Without a tree in it, `routing` is what its list comes to.
    pub notify: Arc<NotifyPolicy>,
    /// What waits to be told together.
    pub digests: Vec<ListedDigest>,
    alerts: Dispatch,
    sources: Arc<Sources>,
}

/// A group in a [`Listing`].
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its receiver's name.
    pub receiver: String,
    /// Stays the same over restarts and reloads.
    pub key: String,
    /// By which it is grouped.
    pub labels: Labels,
    /// Fingerprints of its alerts.
    pub members: Vec<u64>,
    /// The incident people handle it by, once somebody was told of it.
    pub incident: Option<u64>,
    /// The next tick that can bring news.
    pub next: Option<Time>,
    /// By which intervals the whole route is muted now.
    pub muted_by: Vec<String>,
}

/// What waits to be told together to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDigest {
    /// Its name.
    pub receiver: String,
    /// When it is told.
    pub due: Time,
    /// How many alerts it is about, also those that found no room.
    pub alerts: u64,
}

impl ListedDigest {
    fn of((receiver, gathered): (&String, &Gathered)) -> ListedDigest {
        let alerts = gathered.alerts.len() as u64 + gathered.left_out;
        ListedDigest { receiver: receiver.clone(), due: gathered.due, alerts }
    }
}

impl Listing {
    pub(crate) fn of(state: &crate::State, index: &Index) -> Listing {
        let dispatch = &state.dispatch;
        Listing {
            now: state.now,
            silences: state
                .silences
                .values()
                .chain(state.ended_silences.values())
                .cloned()
                .collect(),
            holds: state.holds.values().cloned().collect(),
            alerts: Dispatch {
                alerts: dispatch.alerts.clone(),
                groups: dispatch.groups.clone(),
                ..Dispatch::default()
            },
            sources: Arc::clone(&index.dispatch.sources),
            routing: Arc::clone(&index.routing),
            notify: Arc::clone(&index.notify),
            digests: state.digests.iter().map(ListedDigest::of).collect(),
        }
    }

    /// The groups, by number.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<u64, Listed> {
        self.live().map(|(id, group)| (*id, self.listed(group))).collect()
    }

    /// The group of this key.
    #[must_use]
    pub fn group(&self, key: &str) -> Option<Listed> {
        self.live().find(|(_, group)| group.key == key).map(|(_, group)| self.listed(group))
    }

    fn live(&self) -> impl Iterator<Item = (&u64, &Group)> {
        self.alerts.groups.iter().filter(|(_, group)| !group.orphan)
    }

    fn listed(&self, group: &Group) -> Listed {
        let node = self.routing.nodes.get(group.node);
        Listed {
            receiver: node.map_or_else(String::new, |node| node.receiver.clone()),
            key: group.key.clone(),
            labels: group.labels.clone(),
            members: group.members.iter().copied().collect(),
            incident: group.incident,
            next: Some(group.next).filter(|next| *next < Time::MAX),
            muted_by: self.routing.muted_by(group.node, self.now),
        }
    }

    /// Every alert from this fingerprint on that is not over at `now`, by fingerprint.
    pub fn alerts_from(&self, fingerprint: u64, now: Time) -> impl Iterator<Item = (u64, &Posted)> {
        let all = self.alerts.alerts.from(fingerprint);
        all.map(|(fingerprint, alert)| (*fingerprint, &**alert))
            .filter(move |(_, alert)| !alert.is_over(now))
    }

    /// Every alert that is not over at `now`, by fingerprint.
    pub fn alerts(&self, now: Time) -> impl Iterator<Item = (u64, &Posted)> {
        let all = self.alerts.alerts.iter().map(|(fingerprint, alert)| (*fingerprint, &**alert));
        all.filter(move |(_, alert)| !alert.is_over(now))
    }

    /// The alert of this fingerprint.
    #[must_use]
    pub fn alert(&self, fingerprint: u64) -> Option<&Posted> {
        self.alerts.alerts.get(&fingerprint).map(|alert| &**alert)
    }

    /// How many alerts are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alerts.alerts.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fingerprints of the alerts that inhibit one with these labels at `now`.
    #[must_use]
    pub fn inhibited_by(&self, now: Time, labels: &Labels) -> Vec<u64> {
        self.alerts.inhibitors(&self.sources, &self.routing, now, labels).collect()
    }

    /// The active silences that mute these labels at `now`.
    pub fn silenced_by<'a>(
        &'a self,
        now: Time,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Silence> {
        let active = self.silences.iter().filter(move |silence| silence.is_active(now));
        active.filter(move |silence| silence.matchers.matches(labels))
    }

    /// Names of the receivers of the groups an alert is in, in the order of the routes.
    pub fn receivers_of<'a>(&'a self, alert: &'a Posted) -> impl Iterator<Item = &'a str> {
        let groups = alert.groups.iter().filter_map(|id| self.alerts.groups.get(id));
        let nodes = groups.filter(|group| !group.orphan).map(|group| group.node);
        nodes.filter_map(|node| Some(self.routing.nodes.get(node)?.receiver.as_str()))
    }
}
