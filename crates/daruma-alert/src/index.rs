//! What follows from the state alone and is kept beside it, so that an event costs what it moves, not
//! what is known. Never stored: it is rebuilt with the state, and equals what the state gives.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_model::interval::next_change;
use daruma_model::{Labels, Level, Time};

use crate::dispatch::DispatchIndex;
use crate::routing::Routing;
use crate::waiting::Waiting;
use crate::{Alert, AlertState, Incident, NotifyPolicy, Runbook, State};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    /// The runbooks of the policy in force, by name.
    pub(crate) runbooks: BTreeMap<String, Arc<Runbook>>,
    /// Deadlines of alerts.
    pub(crate) timers: BTreeSet<(Time, String)>,
    /// Keys of the alerts that fire.
    pub(crate) firing: BTreeSet<String>,
    /// Services that evidence calls ill now, and by how many alerts of level `error` and above.
    pub(crate) ill: BTreeMap<String, usize>,
    /// Instances of services that evidence speaks against now, and by how many alerts.
    pub(crate) sick: BTreeMap<(String, String), usize>,
    /// Incidents that are not over, or whose end is not told yet.
    pub(crate) open: BTreeSet<u64>,
    /// Messages that are neither accepted, refused nor given up.
    pub(crate) waiting: Waiting,
    /// The routes in force.
    pub(crate) routing: Arc<Routing>,
    /// Whom to tell, for whoever takes a picture of it.
    pub(crate) notify: Arc<NotifyPolicy>,
    /// Keys of the alerts that fire, by their labels alone.
    pub(crate) own: BTreeMap<Labels, BTreeSet<String>>,
    /// How many silences are at work.
    pub(crate) silenced: usize,
    /// Firsts of messages whose receiver is not reached yet, and when others are told instead.
    pub(crate) unreached: BTreeSet<(Time, u64)>,
    /// Per receiver: whether it is within its hours, and until when that holds.
    pub(crate) hours: Vec<(bool, Time)>,
    /// Of what was posted.
    pub(crate) dispatch: DispatchIndex,
}

impl Index {
    pub(crate) fn of(state: &State) -> Index {
        let routing = Arc::new(crate::routed::routing(&state.policy.notify));
        let dispatch = DispatchIndex::of(&state.dispatch, &routing);
        let notify = Arc::new(state.policy.notify.clone());
        let runbooks = runbooks(state);
        let mut index = Index { runbooks, routing, notify, dispatch, ..Index::default() };
        for alert in state.alerts.values() {
            index.alert_comes(state, alert);
        }
        index.silenced = state.silences.values().filter(|s| s.is_active(state.now)).count();
        let open = |incident: &&Incident| incident.resolved.is_none() || !incident.told.is_empty();
        index.open = state.incidents.values().filter(open).map(|incident| incident.id).collect();
        index.waiting = Waiting::of(&state.outbox);
        index.unreached = unreached(state);
        index.hours = hours(state);
        index
    }

    /// After another policy was loaded: with it go the deadlines and the runbooks.
    pub(crate) fn policy_comes(&mut self, state: &State) {
        self.timers = crate::alerts::timers(state);
        self.runbooks = runbooks(state);
        self.routing = Arc::new(crate::routed::routing(&state.policy.notify));
        self.notify = Arc::new(state.policy.notify.clone());
        self.unreached = unreached(state);
        self.hours = hours(state);
        // Other levels make others ill.
        self.ill.clear();
        let notify = &state.policy.notify;
        for alert in state.alerts.values().filter(|a| a.holds() && !a.service().is_empty()) {
            if notify.level(&alert.finding.labels) >= Level::Error {
                *self.ill.entry(alert.service().to_owned()).or_default() += 1;
            }
        }
    }

    /// Looks at the clock where that may have changed something.
    pub(crate) fn clock(&mut self, state: &State) {
        if self.hours.iter().any(|(_, until)| *until <= state.now) {
            self.hours = hours(state);
        }
    }

    /// Whether the receiver at this place is within its hours.
    pub(crate) fn is_open(&self, receiver: usize) -> bool {
        self.hours.get(receiver).is_none_or(|(open, _)| *open)
    }

    pub(crate) fn alert_comes(&mut self, state: &State, alert: &Alert) {
        if let Some(at) = crate::alerts::deadline(state, alert) {
            self.timers.insert((at, alert.key.clone()));
        }
        if alert.state == AlertState::Firing {
            self.firing.insert(alert.key.clone());
            self.own.entry(alert.finding.labels.clone()).or_default().insert(alert.key.clone());
        }
        if alert.holds() && !alert.service().is_empty() {
            *self.sick.entry(place(alert)).or_default() += 1;
            if state.policy.notify.level(&alert.finding.labels) >= Level::Error {
                *self.ill.entry(alert.service().to_owned()).or_default() += 1;
            }
        }
    }

    pub(crate) fn alert_goes(&mut self, state: &State, alert: &Alert) {
        if let Some(at) = crate::alerts::deadline(state, alert) {
            self.timers.remove(&(at, alert.key.clone()));
        }
        if self.firing.remove(&alert.key)
            && let Entry::Occupied(mut keys) = self.own.entry(alert.finding.labels.clone())
        {
            keys.get_mut().remove(&alert.key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
        if alert.holds() && !alert.service().is_empty() {
            one_less(&mut self.sick, place(alert));
            if state.policy.notify.level(&alert.finding.labels) >= Level::Error {
                one_less(&mut self.ill, alert.service().to_owned());
            }
        }
    }
}

fn unreached(state: &State) -> BTreeSet<(Time, u64)> {
    let all = state.outbox.values();
    all.filter_map(|out| Some((crate::fallback::deadline(state, out)?, out.message.id))).collect()
}

fn hours(state: &State) -> Vec<(bool, Time)> {
    let now = state.now;
    let receivers = state.policy.notify.receivers.iter();
    receivers
        .map(|receiver| {
            let open = receiver.is_open(now);
            let hours: Vec<_> = receiver.hours.iter().collect();
            let change = next_change(&hours, now, open, |at| receiver.is_open(at));
            (open, change.unwrap_or(Time::MAX))
        })
        .collect()
}

fn runbooks(state: &State) -> BTreeMap<String, Arc<Runbook>> {
    let all = state.policy.recover.runbooks.iter();
    all.map(|runbook| (runbook.name.clone(), Arc::new(runbook.clone()))).collect()
}

fn place(alert: &Alert) -> (String, String) {
    (alert.service().to_owned(), alert.finding.labels.get("instance").to_owned())
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
