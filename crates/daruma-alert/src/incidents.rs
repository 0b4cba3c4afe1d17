//! Which alerts belong together, and when it is over.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, Time};

use crate::core::Cx;
use crate::{Alert, AlertState, EntryKind, Incident, Phase, State};

/// Every service that `service` depends on, near and far.
pub(crate) fn dependencies<'a>(state: &'a State, service: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<&str> = vec![service];
    while let Some(name) = todo.pop() {
        for on in state.policy.service(name).into_iter().flat_map(|s| &s.depends_on) {
            if found.insert(on.as_str()) {
                todo.push(on);
            }
        }
    }
    found
}

/// What the incident of an alert with these labels is named after, e.g. `service web`. Also chooses
/// its shard of the journal.
#[must_use]
pub fn group_of(labels: &Labels) -> String {
    let name = labels.get("alertname");
    match (labels.get("service"), labels.get("instance")) {
        ("", "") => name.to_owned(),
        ("", instance) => format!("{name} {instance}"),
        (service, _) => format!("service {service}"),
    }
}

/// When what flaps counts as over, if none of its alerts fires: it must be quiet for a while first.
pub(crate) fn quiet_at(state: &State, incident: &Incident) -> Option<Time> {
    let flapping = &state.policy.notify.flapping;
    if incident.posted.is_some() || flapping.times == 0 || incident.times < flapping.times {
        return None;
    }
    let mut last = incident.opened;
    for alert in incident.alerts.iter().filter_map(|key| state.alerts.get(key)) {
        if alert.state != AlertState::Resolved {
            return None;
        }
        last = last.max(alert.resolved_at.unwrap_or(last));
    }
    Some(last + flapping.within)
}

impl Cx<'_> {
    /// The incident a firing alert belongs to: the open one it was in before, else that of its own
    /// group, else that of an ill dependency, else a new one.
    pub(crate) fn incident_for(&mut self, alert: &Alert) -> u64 {
        let group = group_of(&alert.finding.labels);
        let roots: Vec<String> = dependencies(self.state, alert.service())
            .into_iter()
            .map(|on| format!("service {on}"))
            .collect();
        let now = self.now;
        let level = self.state.policy.notify.level(&alert.finding.labels);
        let open = |wanted: &dyn Fn(&Incident) -> bool| {
            self.index
                .open
                .iter()
                .filter_map(|id| self.state.incidents.get(id))
                .find(|incident| incident.resolved.is_none() && wanted(incident))
                .map(|incident| incident.id)
        };
        // What was told in an incident that is still open goes on there.
        let own = open(&|incident| incident.alerts.contains(&alert.key))
            .or_else(|| open(&|incident| incident.group == group));
        let found = own.or_else(|| {
            open(&|incident| {
                roots.contains(&incident.group)
                    && incident
                        .alerts
                        .iter()
                        .filter_map(|key| self.state.alerts.get(key))
                        .any(Alert::holds)
            })
        });
        let wait = self.state.policy.notify.group_wait;
        if let Some(incident) = found.and_then(|id| self.state.incidents.get_mut(&id)) {
            incident.alerts.insert(alert.key.clone());
            incident.level = incident.level.max(level);
            incident.notify_at = incident.notify_at.or(Some(now + wait));
            return incident.id;
        }
        let again = |incident: &Incident| {
            incident.posted.is_none() && (incident.alerts.contains(&alert.key))
        };
        if let Some(id) = self.reopened(again) {
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.alerts.insert(alert.key.clone());
                incident.level = incident.level.max(level);
                incident.notify_at = Some(now + wait);
            }
            return id;
        }
        let id = self.state.next_id();
        let title = match alert.finding.annotations.get("summary") {
            "" => alert.finding.labels.get("alertname"),
            summary => summary,
        };
        let incident = Incident {
            id,
            title: title.chars().take(200).collect(),
            group,
            level,
            opened: now,
            resolved: None,
            healed: false,
            alerts: BTreeSet::from([alert.key.clone()]),
            timeline: Vec::new(),
            timeline_dropped: 0,
            acked: None,
            escalated: None,
            aborted: false,
            notify_at: Some(now + wait),
            told: BTreeMap::new(),
            posted: None,
            times: 1,
            climb: None,
        };
        self.state.incidents.insert(id, incident);
        self.index.open.insert(id);
        id
    }

    /// Takes up again the newest incident that ended within the time of flapping and is `wanted`: what
    /// comes and goes is one trouble, with a count.
    pub(crate) fn reopened(&mut self, wanted: impl Fn(&Incident) -> bool) -> Option<u64> {
        let now = self.now;
        let within = self.state.policy.notify.flapping.within;
        let id = self
            .state
            .incidents
            .values()
            .rev()
            .filter(|incident| incident.resolved.is_some_and(|at| now.since(at) < within))
            .find(|incident| wanted(incident))
            .map(|incident| incident.id)?;
        if self.index.open.contains(&id) {
            return None; // Its end is not told yet.
        }
        let incident = self.state.incidents.get_mut(&id)?;
        // What went on in another incident meanwhile stays there.
        let alerts = &self.state.alerts;
        let here = |key: &String| alerts.get(key).is_some_and(|alert| alert.incident == Some(id));
        incident.alerts.retain(here);
        incident.resolved = None;
        incident.times += 1;
        incident.escalated = None;
        incident.climb = None;
        incident.healed = false;
        let times = incident.times;
        incident.say(now, EntryKind::Detected, format!("it is back: {times} times by now"));
        self.index.open.insert(id);
        Some(id)
    }

    /// Resolves incidents whose alerts are all over and in which nothing is at work any more.
    pub(crate) fn close_incidents(&mut self) {
        let over: Vec<u64> = self
            .index
            .open
            .iter()
            .filter_map(|id| self.state.incidents.get(id))
            .filter(|incident| incident.resolved.is_none() && incident.posted.is_none())
            .filter(|incident| {
                incident.alerts.iter().all(|key| {
                    self.state.alerts.get(key).is_none_or(|a| a.state == AlertState::Resolved)
                })
            })
            .filter(|incident| quiet_at(self.state, incident).is_none_or(|at| at <= self.now))
            .map(|incident| incident.id)
            .filter(|id| {
                !self.state.recoveries.values().any(|recovery| {
                    recovery.incident == *id
                        && matches!(recovery.phase, Phase::Acting { .. } | Phase::Verifying { .. })
                })
            })
            .collect();
        for id in over {
            let keys: Vec<(String, bool)> = self
                .state
                .recoveries
                .iter()
                .filter(|(_, recovery)| recovery.incident == id)
                .map(|(key, r)| (key.clone(), matches!(r.phase, Phase::Healed { .. })))
                .collect();
            let healed = keys.iter().any(|(_, healed)| *healed);
            for (key, _) in keys {
                self.remove_recovery(&key);
            }
            let now = self.now;
            let Some(incident) = self.state.incidents.get_mut(&id) else { continue };
            incident.resolved = Some(now);
            incident.healed = healed;
            let lasted = now.since(incident.opened);
            let text = if healed {
                format!("healed in {lasted}")
            } else {
                format!("over after {lasted}, without our doing")
            };
            incident.say(now, EntryKind::Resolved, text);
            self.state.resolved_total += 1;
            self.state.healed_total += u64::from(healed);
        }
    }
}
