//! Whoever cannot be reached is stood in for: one receiver after another, each by a deadline, and at
//! last everybody else hears that nobody could be reached.

use daruma_model::{Labels, MessageAlert, MessageStatus, Span, Time, Verdict};

use crate::core::Cx;
use crate::{Delivery, EntryKind, Outgoing, State};

/// The rule by which everybody else hears of it.
pub(crate) const RULE: &str = "daruma/NobodyReached";
const NAME: &str = "NobodyReached";

/// When the next one is told instead, or everybody else.
pub(crate) fn deadline(state: &State, out: &Outgoing) -> Option<Time> {
    let step = out.unreached?;
    let receiver = state.policy.notify.receiver(&out.message.receiver);
    let chain = receiver.map_or(&[][..], |receiver| &receiver.fallback);
    let after = match chain.get(step) {
        Some(fallback) => fallback.after,
        None => {
            let last = chain.last().map_or(Span::ZERO, |fallback| fallback.after);
            Span(last.0.saturating_add(state.policy.notify.unreached_after.0))
        }
    };
    Some(out.message.created + after)
}

impl Cx<'_> {
    /// Has the first of some messages watched over, until one of them is taken.
    pub(crate) fn watch_over(&mut self, first: u64) {
        let Some(out) = self.state.outbox.get_mut(&first) else { return };
        out.unreached = Some(0);
        self.arm(first);
    }

    fn arm(&mut self, first: u64) {
        let at = self.state.outbox.get(&first).and_then(|out| deadline(self.state, out));
        if let Some(at) = at {
            self.index.unreached.insert((at, first));
        }
    }

    fn disarm(&mut self, first: u64) {
        let at = self.state.outbox.get(&first).and_then(|out| deadline(self.state, out));
        if let Some(at) = at {
            self.index.unreached.remove(&(at, first));
        }
    }

    /// A message was taken: its receiver, or whoever stood in for it, is reached.
    pub(crate) fn reached(&mut self, first: u64) {
        self.disarm(first);
        if let Some(out) = self.state.outbox.get_mut(&first) {
            out.unreached = None;
        }
    }

    /// A message will never be taken: if that is the last of those by which its receiver hears the
    /// same, nobody waits for the deadline.
    pub(crate) fn hopeless(&mut self, first: u64) {
        let waits = |id: &u64| self.state.outbox.get(id).is_some_and(|out| out.first == first);
        if !self.index.waiting.iter().any(waits) {
            self.fall_back(first);
        }
    }

    /// Tells others instead, where a deadline has come.
    pub(crate) fn fall_back_due(&mut self) {
        while let Some(&(at, first)) = self.index.unreached.first() {
            if at > self.now {
                break;
            }
            self.fall_back(first);
        }
    }

    fn fall_back(&mut self, first: u64) {
        self.disarm(first);
        let Some(out) = self.state.outbox.get(&first) else { return };
        let Some(step) = out.unreached else { return };
        let message = out.message.clone();
        let waited = self.now.since(message.created);
        let said = out.attempts.back().map_or("no answer yet", |attempt| attempt.said.as_str());
        let said = said.to_owned();
        // Whoever looks after it was reached.
        let incident = self.state.incidents.get(&message.incident);
        let open = incident.is_some_and(|i| i.resolved.is_none() && i.acked.is_none());
        let pressing: Vec<MessageAlert> =
            message.alerts.iter().filter(|alert| open && self.presses(alert)).cloned().collect();
        let notify = &self.state.policy.notify;
        // Whoever left the configuration is not looked for, and what is over or muted by now is not
        // missed.
        let receiver = notify.receiver(&message.receiver).filter(|_| !pressing.is_empty());
        let chain = receiver.map(|receiver| &receiver.fallback);
        let next = chain.and_then(|chain| chain.get(step));
        let next = next.and_then(|next| notify.receiver(&next.to)).cloned();
        let is_missed = chain.is_some();
        if let Some(out) = self.state.outbox.get_mut(&first) {
            out.unreached = next.as_ref().map(|_| step + 1);
        }
        self.arm(first);
        if !is_missed {
            return;
        }
        let name = &message.receiver;
        let Some(next) = next else {
            let labels =
                [("alertname", NAME), ("severity", "critical"), ("receiver", name.as_str())];
            let text = format!(
                "nobody could be reached through {name} for {waited}: \"{}\" is not told: {said}",
                message.title
            );
            if let Some(incident) = self.state.incidents.get_mut(&message.incident) {
                incident.say(self.now, EntryKind::Told, text.clone());
            }
            self.found_own(NAME, labels.into(), Verdict::Holds, text);
            return;
        };
        if let Some(incident) = self.state.incidents.get_mut(&message.incident) {
            let text = format!("{name} took nothing for {waited}: {} is told instead", next.name);
            incident.say(self.now, EntryKind::Told, text);
        }
        let alerts = pressing
            .into_iter()
            .map(|alert| (format!("{}\u{1f}fallback", alert.labels), alert))
            .collect();
        let title = format!("{name} cannot be reached: {}", message.title);
        let title: String = title.chars().take(200).collect();
        let firing = MessageStatus::Firing;
        self.enqueue_for(first, message.incident, &next, firing, message.level, &title, alerts);
    }

    /// Whether an alert of a message still fires and nothing mutes it.
    fn presses(&self, alert: &MessageAlert) -> bool {
        let told = &alert.labels;
        let climbs = !told.get(crate::escalation::LABEL).is_empty();
        // A call for help carries labels of its own.
        let labels = if climbs { self.called_for(told) } else { Some(told.clone()) };
        let Some(labels) = labels else { return true };
        let (sources, routing) = (&self.index.dispatch.sources, &self.index.routing);
        let by = self.state.dispatch.inhibitor(sources, routing, self.now, &labels);
        self.fires(&labels) && by.is_none() && crate::notices::muted(self.state, &labels).is_none()
    }

    /// The labels of the alert that a call for help is about, if they can be told.
    fn called_for(&self, told: &Labels) -> Option<Labels> {
        let without: Labels =
            told.iter().filter(|(name, _)| *name != crate::escalation::LABEL).collect();
        // A runbook's call says how grave it is instead of what the alert says.
        (told.get(crate::escalation::LABEL) != "needs-person").then_some(without)
    }

    /// Whether an alert with these labels fires, ours or somebody's.
    pub(crate) fn fires(&self, labels: &Labels) -> bool {
        let posted = self.state.dispatch.alerts.get(&labels.fingerprint());
        self.index.own.contains_key(labels) || posted.is_some_and(|alert| !alert.is_over(self.now))
    }

    /// A receiver took something: it can be reached.
    pub(crate) fn reachable(&mut self, receiver: &str) -> bool {
        let labels = [("alertname", NAME), ("severity", "critical"), ("receiver", receiver)].into();
        let key = crate::alerts::key(RULE, &labels);
        if !self.state.alerts.contains_key(&key) {
            return false;
        }
        let said = format!("{receiver} takes messages");
        self.found_own(NAME, labels, Verdict::Clear, said)
    }
}

/// Whether a message need not be watched over any more when it ends like this.
pub(crate) fn is_hopeless(delivery: Delivery) -> bool {
    matches!(delivery, Delivery::Rejected | Delivery::GaveUp)
}
