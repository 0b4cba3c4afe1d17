//! A group: alerts that one route tells together, its ticks, and what was told of it per channel.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, Span, Time};
use serde::{Deserialize, Serialize};

use super::{Dispatch, DispatchIndex, Posted};
use crate::ReceiverPolicy;
use crate::routing::Routing;

/// Ends the key of an orphan: what it is owed for is kept apart from what a group of that key tells.
const LEFT: &str = "/left";

/// Alerts that one route tells together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The route, by its place in [`Routing::nodes`].
    pub node: usize,
    /// The labels by which it is grouped.
    pub labels: Labels,
    /// The route's path and the labels: stays the same over restarts and reloads.
    pub key: String,
    /// Fingerprints of its alerts.
    pub members: BTreeSet<u64>,
    /// A tick of its grid; until the first flush, that flush.
    pub anchor: Time,
    /// Whether it was flushed since it came up.
    pub flushed: bool,
    /// The next tick that can bring news; `Time::MAX`: none.
    pub next: Time,
    /// The incident that people handle it by, once somebody was told of it.
    pub incident: Option<u64>,
    /// Its route is gone, and it lives on only to tell the end of what was told.
    pub orphan: bool,
}

impl Group {
    /// The first tick at or after `at`, and after `now`.
    fn tick(&self, interval: Span, at: Time, now: Time) -> Time {
        if !self.flushed {
            return self.anchor;
        }
        let wanted = at.max(now + Span::millis(1));
        if wanted == Time::MAX {
            return Time::MAX;
        }
        let (from, step) = (self.anchor.0, interval.0.max(1));
        let steps = wanted.0.saturating_sub(from).max(1).saturating_add(step - 1) / step;
        Time(from.saturating_add(steps.saturating_mul(step)))
    }
}

/// What one channel was told of one group last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: Time,
    /// Which alerts the last message said to fire.
    pub firing: BTreeSet<u64>,
    /// Alerts that some message said to fire and none said to be over, with their labels in case that
    /// nobody speaks of them any more.
    pub owed: BTreeMap<u64, Labels>,
}

impl Dispatch {
    /// Puts an alert into its group of a route; makes the group if there is none. Returns its number.
    pub(super) fn join(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        node: usize,
        fingerprint: u64,
        alert: &Posted,
    ) -> u64 {
        let labels = routing.group_labels(node, &alert.labels);
        let wait = routing.nodes.get(node).map_or(Span::ZERO, |node| node.group_wait);
        // An alert that has waited elsewhere waits no longer here.
        let at = if alert.starts_at + wait < now { now } else { now + wait };
        if let Some(&id) = index.by_labels.get(&(node, labels.clone())) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.members.insert(fingerprint);
                if !group.flushed && at < group.anchor {
                    group.anchor = at;
                }
            }
            self.stir(index, routing, now, id);
            return id;
        }
        self.last_group += 1;
        let id = self.last_group;
        let group = Group {
            node,
            key: routing.group_key(node, &labels),
            labels: labels.clone(),
            members: BTreeSet::from([fingerprint]),
            anchor: at,
            flushed: false,
            next: at,
            incident: None,
            orphan: false,
        };
        self.groups.insert(id, group);
        index.by_labels.insert((node, labels), id);
        index.due.insert((at, id));
        id
    }

    /// Something in the group changed: it is looked at with its next tick.
    pub(super) fn stir(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        id: u64,
    ) {
        self.look_at(index, routing, now, id, now);
    }

    /// Has the group looked at with its first tick at or after `at`, or before.
    pub(super) fn look_at(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        now: Time,
        id: u64,
        at: Time,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let interval =
            routing.nodes.get(group.node).map_or(Span::minutes(5), |node| node.group_interval);
        let next = group.tick(interval, at, now).min(group.next);
        set_next(index, id, group, next);
    }

    /// Has every group looked at with its next tick: a silence, a hold or an interval changed.
    pub(crate) fn stir_all(&mut self, index: &mut DispatchIndex, routing: &Routing, now: Time) {
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.stir(index, routing, now, id);
        }
    }

    /// Has the group looked at when `at` comes, tick or not.
    pub(super) fn look_exactly(&mut self, index: &mut DispatchIndex, id: u64, at: Time) {
        if let Some(group) = self.groups.get_mut(&id) {
            let next = at.min(group.next);
            set_next(index, id, group, next);
        }
    }

    /// What was told in groups that are no more is told its end by an orphan of the same key, and so is,
    /// by one of its own, what left a group that lives on, or whose receiver did.
    pub(super) fn adopt(
        &mut self,
        index: &mut DispatchIndex,
        routing: &Routing,
        receivers: &[ReceiverPolicy],
        now: Time,
        incidents: &mut BTreeMap<String, u64>,
    ) {
        let mut alive: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<&str>)> = BTreeMap::new();
        for group in self.groups.values() {
            let (members, channels) = alive.entry(&group.key).or_default();
            members.extend(&group.members);
            let receiver = routing.nodes.get(group.node).map_or("", |node| &node.receiver);
            let known = receivers.iter().filter(|known| known.name == receiver);
            channels.extend(known.flat_map(|known| &known.channels).map(|(name, _)| name.as_str()));
        }
        // What had left comes back as what it was.
        let mut back: Vec<(String, String, u64, Labels)> = Vec::new();
        for (key, told) in &mut self.told {
            let Some(base) = key.strip_suffix(LEFT) else { continue };
            let Some((members, channels)) = alive.get(base) else { continue };
            for (channel, told) in told.iter_mut().filter(|(c, _)| channels.contains(c.as_str())) {
                let all = std::mem::take(&mut told.owed).into_iter();
                let (here, away): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    all.partition(|(fingerprint, _)| members.contains(fingerprint));
                told.owed = away;
                back.extend(
                    here.into_iter().map(|(f, l)| (base.to_owned(), channel.clone(), f, l)),
                );
            }
        }
        for (key, channel, fingerprint, labels) in back {
            let fresh = || Told { at: now, ..Told::default() };
            let told = self.told.entry(key).or_default().entry(channel).or_insert_with(fresh);
            told.firing.insert(fingerprint);
            told.owed.insert(fingerprint, labels);
        }
        let mut left: BTreeMap<String, BTreeMap<String, Told>> = BTreeMap::new();
        for (key, told) in &mut self.told {
            let Some((members, channels)) = alive.get(key.as_str()) else { continue };
            for (channel, told) in told {
                let here = channels.contains(channel.as_str());
                let all = std::mem::take(&mut told.owed).into_iter();
                let (owed, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    all.partition(|(fingerprint, _)| here && members.contains(fingerprint));
                told.owed = owed;
                told.firing.retain(|fingerprint| !gone.contains_key(fingerprint));
                if !gone.is_empty() {
                    let orphan = left.entry(format!("{key}{LEFT}")).or_default();
                    orphan.entry(channel.clone()).or_default().owed.extend(gone);
                }
            }
        }
        let alive: BTreeSet<String> = alive.into_keys().map(str::to_owned).collect();
        for (key, channels) in left {
            let orphan = self.told.entry(key).or_default();
            for (channel, told) in channels {
                orphan.entry(channel).or_default().owed.extend(told.owed);
            }
        }
        // A group of the same key may come up again beside the orphan.
        let dead = |key: &&String| !alive.contains(*key) && !key.ends_with(LEFT);
        for key in self.told.keys().filter(dead).cloned().collect::<Vec<_>>() {
            let channels = self.told.remove(&key).unwrap_or_default();
            let orphan = self.told.entry(format!("{key}{LEFT}")).or_default();
            for (channel, told) in channels {
                let known = orphan.entry(channel).or_default();
                known.at = known.at.max(told.at);
                known.owed.extend(told.owed);
            }
        }
        self.told.retain(|_, channels| channels.values().any(|told| !told.owed.is_empty()));
        let gone: Vec<(String, BTreeSet<u64>)> = self
            .told
            .iter()
            .filter(|(key, _)| !alive.contains(*key))
            .map(|(key, channels)| {
                (key.clone(), channels.values().flat_map(|t| t.owed.keys().copied()).collect())
            })
            .collect();
        for (key, members) in gone {
            self.last_group += 1;
            let base = key.strip_suffix(LEFT).unwrap_or(&key);
            let of_alive = || self.groups.values().find(|group| group.key == base)?.incident;
            let of_dead = incidents.remove(&key).or_else(|| incidents.remove(base));
            let incident = of_dead.or_else(of_alive);
            let group = Group {
                node: 0,
                labels: Labels::default(),
                incident,
                key,
                members,
                anchor: now,
                flushed: true,
                next: now,
                orphan: true,
            };
            for fingerprint in &group.members {
                if let Some(alert) = self.alerts.get_mut(fingerprint) {
                    let groups = alert.groups.iter().copied().chain([self.last_group]);
                    let groups = groups.collect();
                    std::sync::Arc::make_mut(alert).groups = groups;
                }
            }
            index.due.insert((now, self.last_group));
            self.groups.insert(self.last_group, group);
        }
    }

    /// The key under which people know a group: an orphan has that of its group, unless that lives.
    pub(super) fn shown_key(&self, group: &Group) -> String {
        let base = group.key.strip_suffix(LEFT).filter(|_| group.orphan);
        let base = base.filter(|base| !self.groups.values().any(|group| group.key == *base));
        base.unwrap_or(&group.key).to_owned()
    }

    /// A group without members is gone.
    pub(super) fn end_group(&mut self, index: &mut DispatchIndex, id: u64) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        index.due.remove(&(group.next, id));
        if !group.orphan {
            index.by_labels.remove(&(group.node, group.labels.clone()));
        }
        self.told.remove(&group.key);
        Some(group)
    }
}

pub(super) fn set_next(index: &mut DispatchIndex, id: u64, group: &mut Group, next: Time) {
    if next == group.next {
        return;
    }
    index.due.remove(&(group.next, id));
    group.next = next;
    if next < Time::MAX {
        index.due.insert((next, id));
    }
}
