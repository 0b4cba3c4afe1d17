//! A chain of people, climbed until somebody looks after an incident.
//!
//! An ack stops the climb; when it runs out, whoever was told last is told again first, and the
//! deadlines go on from there. A mute puts a step off. The end of the incident ends the climb, and
//! everybody who was told on the way hears of it.

use std::collections::BTreeSet;

use daruma_model::{Labels, Level, MessageAlert, MessageStatus, Span, Time};

use crate::core::Cx;
use crate::{AlertState, Climb, EntryKind, Incident, ReceiverPolicy, State};

/// The label that sets a call for help apart from the alert it is about.
pub(crate) const LABEL: &str = "escalation";
/// A step that something mutes is looked at again so soon.
const LOOK_AGAIN: Span = Span::secs(10);
/// Alerts that one step names at most.
const ALERTS_MAX: usize = 100;

/// When the next step of an incident is due; nothing if it is overdue, since then something mutes it
/// whose end is an event of its own.
pub(crate) fn wake(state: &State, incident: &Incident) -> Option<Time> {
    let at = incident.climb.as_ref()?.at;
    let acked = incident.acked.as_ref().is_some_and(|(_, until)| *until > state.now);
    (!acked && at > state.now && at < Time::MAX).then_some(at)
}

impl Cx<'_> {
    /// Starts the first chain that fits an incident of this level with these alerts, if none is climbed.
    pub(crate) fn start_climb<'a>(
        &mut self,
        id: u64,
        level: Level,
        labels: impl Iterator<Item = &'a Labels> + Clone,
    ) {
        let now = self.now;
        let Some(chosen) = self.state.policy.notify.escalation(level, labels) else { return };
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        if incident.climb.is_none() {
            let after = chosen.steps.first().map_or(Span::ZERO, |step| step.after);
            let escalation = chosen.name.clone();
            let at = now + after;
            incident.climb = Some(Climb { escalation, since: now, step: 0, at, again: false });
        }
    }

    /// Takes the step that is due, if nobody looks after the incident.
    pub(crate) fn climb(&mut self, id: u64) {
        let now = self.now;
        let Some(incident) = self.state.incidents.get(&id) else { return };
        if incident.acked.is_some() || incident.resolved.is_some() {
            return;
        }
        if incident.climb.is_none() && incident.posted.is_none() {
            if self.state.policy.notify.escalations.is_empty() {
                return;
            }
            let labels: Vec<Labels> = incident
                .alerts
                .iter()
                .filter_map(|key| self.state.alerts.get(key))
                .filter(|alert| alert.state == AlertState::Firing)
                .map(|alert| alert.finding.labels.clone())
                .collect();
            let level = incident.level;
            self.start_climb(id, level, labels.iter());
        }
        let Some(incident) = self.state.incidents.get(&id) else { return };
        let Some(climb) = incident.climb.clone().filter(|climb| climb.at <= now) else { return };
        let notify = &self.state.policy.notify;
        let chain = notify.escalations.iter().find(|chain| chain.name == climb.escalation).cloned();
        let Some((chain, step)) = chain.and_then(|chain| {
            let step = chain.steps.get(climb.step).or(chain.steps.last())?.clone();
            Some((chain, step))
        }) else {
            // Another configuration has no such chain: what fits now is climbed from its start.
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.climb = None;
            }
            return;
        };
        let patience = self.patience(id, &step.to);
        if let Some(until) = patience {
            self.put_off(id, until);
            return;
        }
        let alerts = self.pressing(id);
        if alerts.is_empty() {
            self.put_off(id, now + LOOK_AGAIN); // Muted, or about to end.
            return;
        }
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        let (level, waited) = (incident.level, now.since(incident.opened));
        let title = match climb.step {
            0 => incident.title.clone(),
            _ => format!("nobody looks after it for {}: {}", waited.roughly(), incident.title),
        };
        let title: String = title.chars().take(200).collect();
        let number = climb.step + 1;
        let which = match number > chain.steps.len() {
            true => "the last step again".to_owned(),
            false => format!("step {number}"),
        };
        let text = format!("{}, {which}: to {}", chain.name, step.to.join(", "));
        incident.say(now, EntryKind::Escalated, text);
        let at = match chain.steps.get(number) {
            Some(next) => (climb.since + next.after).max(now),
            None => chain.repeat.map_or(Time::MAX, |repeat| now + repeat),
        };
        let step_at = number.min(chain.steps.len());
        let again = climb.again;
        incident.climb = Some(Climb { step: step_at, at, ..climb });
        let receivers = self.state.policy.notify.receivers.clone();
        for receiver in receivers.iter().filter(|receiver| step.to.contains(&receiver.name)) {
            if number == 1 && !again && self.has_heard(id, receiver) {
                continue; // By its route, just now.
            }
            let alerts = alerts
                .iter()
                .map(|(key, alert)| {
                    let mut alert = alert.clone();
                    alert.labels = alert.labels.with(LABEL, &chain.name);
                    (format!("{key}\u{1f}{LABEL}\u{1f}{}", chain.name), alert)
                })
                .collect();
            self.enqueue(id, receiver, MessageStatus::Firing, level, &title, alerts);
        }
    }

    /// An ack ran out: whoever was told last is told again, and the deadlines go on from there.
    pub(crate) fn climb_on(&mut self, id: u64) {
        let now = self.now;
        let Some(climb) = self.state.incidents.get(&id).and_then(|i| i.climb.clone()) else {
            return;
        };
        let chains = &self.state.policy.notify.escalations;
        let chain = chains.iter().find(|chain| chain.name == climb.escalation);
        let step = climb.step.saturating_sub(1);
        let after = chain.and_then(|chain| chain.steps.get(step)).map_or(Span::ZERO, |s| s.after);
        if let Some(incident) = self.state.incidents.get_mut(&id).filter(|_| climb.step > 0) {
            let since = Time(now.0 - after.0);
            incident.climb = Some(Climb { since, step, at: now, again: true, ..climb });
        }
    }

    fn has_heard(&self, id: u64, receiver: &ReceiverPolicy) -> bool {
        let Some(incident) = self.state.incidents.get(&id) else { return false };
        let dispatch = &self.state.dispatch;
        let groups = dispatch.groups.values().filter(|group| group.incident == Some(id));
        let keys = groups.map(|group| &group.key).chain(&incident.posted);
        let told = keys.filter_map(|key| dispatch.told.get(key)).collect::<Vec<_>>();
        let heard = |(channel, _): &(String, bool)| told.iter().any(|t| t.contains_key(channel));
        incident.told.contains_key(&receiver.name) || receiver.channels.iter().any(heard)
    }

    fn put_off(&mut self, id: u64, until: Time) {
        if let Some(climb) = self.state.incidents.get_mut(&id).and_then(|i| i.climb.as_mut()) {
            climb.at = until;
        }
    }

    /// Until when a step waits for a repair that is under way, if one of its people wants that.
    fn patience(&self, id: u64, to: &[String]) -> Option<Time> {
        let incident = self.state.incidents.get(&id)?;
        if incident.escalated.is_some() || !self.is_healing(id) {
            return None;
        }
        let receivers = self.state.policy.notify.receivers.iter();
        let wait = receivers.filter(|r| to.contains(&r.name)).map(|r| r.heal_first).max()?;
        let until = incident.opened + wait;
        (until > self.now).then_some(until)
    }

    /// What of an incident fires and is not muted, by a key of its own.
    fn pressing(&self, id: u64) -> Vec<(String, MessageAlert)> {
        let Some(incident) = self.state.incidents.get(&id) else { return Vec::new() };
        let own = incident
            .alerts
            .iter()
            .filter_map(|key| self.state.alerts.get(key))
            .filter(|alert| alert.state == AlertState::Firing)
            .map(|alert| (alert.key.clone(), crate::notices::message_alert(alert)));
        let groups = self.state.dispatch.groups.values();
        let groups = groups.filter(|group| group.incident == Some(id));
        // Several groups may tell of one alert.
        let members: BTreeSet<u64> =
            groups.flat_map(|group| group.members.iter().copied()).collect();
        let posted = members
            .iter()
            .filter_map(|fingerprint| self.state.dispatch.alerts.get(fingerprint))
            .filter(|alert| !alert.is_over(self.now))
            .filter(|alert| {
                let (sources, routing) = (&self.index.dispatch.sources, &self.index.routing);
                let by = self.state.dispatch.inhibitor(sources, routing, self.now, &alert.labels);
                by.is_none()
            })
            .map(|alert| {
                let one = MessageAlert {
                    labels: alert.labels.clone(),
                    annotations: alert.annotations.clone(),
                    status: MessageStatus::Firing,
                    starts_at: alert.starts_at,
                    ends_at: None,
                    generator_url: alert.generator_url.to_string(),
                };
                (alert.labels.to_string(), one)
            });
        own.chain(posted)
            .filter(|(_, alert)| crate::notices::muted(self.state, &alert.labels).is_none())
            .take(ALERTS_MAX)
            .collect()
    }
}
