//! Who is told what, and the outbox: attempts, retries and the ledger, decided here and only carried
//! out elsewhere.
//!
//! Whoever was told "firing" is told the end: through silences, holds, restarts and changed routes.

use std::collections::BTreeMap;

use daruma_model::{
    Attempt, AttemptOutcome, Labels, Level, Message, MessageAlert, MessageStatus, Span, Time,
    Verdict,
};

use crate::core::Cx;
use crate::escalation::LABEL as ESCALATION;
use crate::policy::Escalate;
use crate::{
    Alert, AlertState, Delivery, EntryKind, Incident, Outgoing, Phase, ReceiverPolicy, State,
};

/// Alerts one message names at most; the rest is counted in its text.
const ALERTS_PER_MESSAGE: usize = 100;
/// After so long a message is given up: the channel has long been an incident of its own.
const GIVE_UP: Span = Span::hours(24);
/// So many refused attempts in a row make the channel an incident.
const FAILING_TRIES: u32 = 5;
/// Attempts kept with a message; the journal has them all.
const ATTEMPTS_KEPT: usize = 20;

/// The pause after the `n`th failed attempt: quick at first, since most outages of a channel are
/// short, then every minute, then every five.
fn pause(n: u32) -> Span {
    match n {
        0 | 1 => Span::secs(1),
        2..=60 => Span::secs(1 << n.saturating_sub(2).min(3)),
        61..=120 => Span::minutes(1),
        _ => Span::minutes(5),
    }
}

/// When an incident must be looked at again by time alone.
pub(crate) fn wake(state: &State, incident: &Incident) -> Option<Time> {
    if incident.resolved.is_some() {
        return None;
    }
    let first = state
        .policy
        .notify
        .receivers
        .iter()
        .filter(|receiver| receiver.heal_first > Span::ZERO)
        .map(|receiver| incident.opened + receiver.heal_first)
        .filter(|at| *at > state.now)
        .min();
    let acked = incident.acked.as_ref().map(|(_, until)| *until);
    let climb = crate::escalation::wake(state, incident);
    let quiet = crate::incidents::quiet_at(state, incident);
    let all = incident.notify_at.into_iter().chain(first).chain(acked).chain(climb).chain(quiet);
    all.filter(|at| *at > state.now || incident.notify_at == Some(*at)).min()
}

/// Names of the receivers that are told of this alert.
pub(crate) fn receivers(state: &State, alert: &Alert) -> Vec<String> {
    let notify = &state.policy.notify;
    if alert.finding.rule == crate::fallback::RULE {
        return notify.receivers.iter().map(|r| r.name.clone()).collect();
    }
    notify.told_of(&alert.finding.labels)
}

fn is_muted(state: &State, labels: &Labels) -> bool {
    let active = |silence: &&crate::Silence| silence.is_active(state.now);
    state.silences.values().filter(active).any(|silence| silence.matchers.matches(labels))
        || state.holds.values().any(|hold| hold.matchers.matches(labels))
}

/// Why an alert is muted just now, if it is.
pub(crate) fn muted(state: &State, labels: &Labels) -> Option<String> {
    let silence = state
        .silences
        .values()
        .find(|silence| silence.is_active(state.now) && silence.matchers.matches(labels));
    let hold = state.holds.values().find(|hold| hold.matchers.matches(labels));
    silence
        .map(|s| format!("silenced by {} ({}): {}", s.by, s.matchers, s.comment))
        .or_else(|| hold.map(|h| format!("held by {} ({}): {}", h.by, h.matchers, h.comment)))
}

pub(crate) fn message_alert(alert: &Alert) -> MessageAlert {
    let ended = alert.state == AlertState::Resolved;
    MessageAlert {
        labels: alert.finding.labels.clone(),
        annotations: alert.finding.annotations.clone(),
        status: if ended { MessageStatus::Resolved } else { MessageStatus::Firing },
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at: alert.resolved_at,
        generator_url: String::new(),
    }
}

impl Cx<'_> {
    /// Puts what must be told into the outbox, and asks for the attempts that are due.
    pub(crate) fn notices(&mut self) {
        let now = self.now;
        self.fall_back_due();
        self.tell_digests();
        let over = |id: &u64| self.state.incidents.get(id).is_none_or(|i| i.resolved.is_some());
        let (owed, open): (Vec<u64>, Vec<u64>) = self.index.open.iter().copied().partition(over);
        self.state.calls.retain(|id, _| open.contains(id));
        for id in open {
            self.tell_firing(id);
            self.call(id);
            let mut ran_out = false;
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                if incident.notify_at.is_some_and(|at| at <= now) {
                    incident.notify_at = None;
                }
                if incident.acked.as_ref().is_some_and(|(_, until)| *until <= now) {
                    incident.acked = None;
                    incident.say(now, EntryKind::Person, "the ack ran out");
                    ran_out = true;
                }
            }
            if ran_out {
                self.climb_on(id);
            }
            self.climb(id);
        }
        for id in owed {
            self.tell_end(id);
            self.index.open.remove(&id);
        }
        self.send_due();
    }

    /// Whether a recovery is at work in an incident and may still help.
    pub(crate) fn is_healing(&self, id: u64) -> bool {
        self.state.recoveries.values().any(|recovery| {
            recovery.incident == id
                && !matches!(recovery.phase, Phase::Shadow { .. } | Phase::Exhausted { .. })
        })
    }

    /// Tells every receiver what it has not heard yet.
    fn tell_firing(&mut self, id: u64) {
        let now = self.now;
        let Some(incident) = self.state.incidents.get(&id) else { return };
        if incident.notify_at.is_some_and(|at| at > now) || incident.posted.is_some() {
            return;
        }
        let notify = &self.state.policy.notify;
        let healing = self.is_healing(id);
        let routed = self.is_routed();
        let firing: Vec<&Alert> = incident
            .alerts
            .iter()
            .filter_map(|key| self.state.alerts.get(key))
            .filter(|alert| alert.state == AlertState::Firing)
            // Of the rest the groups of the routes tell.
            .filter(|alert| !routed || is_of_channels(alert))
            .filter(|alert| !is_muted(self.state, &alert.finding.labels))
            .collect();
        if firing.is_empty() {
            return;
        }
        let mut news = Vec::new();
        let mut gathered: Vec<(String, MessageAlert)> = Vec::new();
        for (at, receiver) in notify.receivers.iter().enumerate() {
            let patient = receiver.heal_first > Span::ZERO
                && healing
                && incident.escalated.is_none()
                && now < incident.opened + receiver.heal_first;
            if patient {
                continue;
            }
            let told = incident.told.get(&receiver.name);
            let open = self.index.is_open(at);
            let mut fresh: Vec<(String, MessageAlert)> = Vec::new();
            for alert in firing
                .iter()
                .filter(|alert| told.is_none_or(|told| !told.contains_key(&alert.key)))
                .filter(|alert| receivers(self.state, alert).contains(&receiver.name))
                .filter(|alert| !about_itself(alert, receiver))
            {
                let level = notify.level(&alert.finding.labels);
                if receiver.gathers(level) {
                    gathered.push((receiver.name.clone(), message_alert(alert)));
                } else if level >= receiver.min_level
                    && (open || level >= receiver.always_from)
                    && !self.is_consequence(alert, level, receiver)
                {
                    fresh.push((alert.key.clone(), message_alert(alert)));
                }
            }
            if !fresh.is_empty() {
                news.push((receiver.clone(), fresh));
            }
        }
        let (title, level) = (incident.title.clone(), incident.level);
        let title = match incident.times {
            0 | 1 => title,
            times => format!("again ({times} times): {title}"),
        };
        for (receiver, alert) in gathered {
            self.gather(&receiver, &alert);
        }
        for (receiver, alerts) in news {
            self.enqueue(id, &receiver, MessageStatus::Firing, level, &title, alerts);
        }
    }

    /// Whether the receiver hears of something no less grave that this alert's service depends on: the
    /// cause is told, and the consequence only if it outlives it.
    fn is_consequence(&self, alert: &Alert, level: Level, receiver: &ReceiverPolicy) -> bool {
        let on = crate::incidents::dependencies(self.state, alert.service());
        if on.is_empty() {
            return false;
        }
        let notify = &self.state.policy.notify;
        let firing = self.index.firing.iter().filter_map(|key| self.state.alerts.get(key));
        firing.filter(|cause| cause.holds() && on.contains(cause.service())).any(|cause| {
            let grave = notify.level(&cause.finding.labels);
            grave >= level.max(receiver.min_level)
                && !receiver.gathers(grave)
                && receivers(self.state, cause).contains(&receiver.name)
        })
    }

    /// Calls for a person, once per incident, also where the incident was told before; a mute only
    /// puts it off.
    pub(crate) fn call(&mut self, id: u64) {
        let now = self.now;
        let Some(call) = self.state.calls.get_mut(&id) else { return };
        let (key, escalate, said) = (call.alert.clone(), call.escalate.clone(), call.said);
        call.said = true;
        let alert = self.state.alerts.get(&key);
        if said && alert.is_none_or(|alert| alert.state == AlertState::Resolved) {
            self.state.calls.remove(&id); // Over while it was muted: nobody is needed for it.
            return;
        }
        if let Some(why) = alert.and_then(|alert| muted(self.state, &alert.finding.labels)) {
            if let Some(incident) = self.state.incidents.get_mut(&id).filter(|_| !said) {
                incident.say(now, EntryKind::Told, format!("nobody is called yet: {why}"));
            }
            return;
        }
        self.state.calls.remove(&id);
        self.notify_escalation(id, &key, &escalate);
    }

    fn notify_escalation(&mut self, id: u64, alert: &str, escalate: &Escalate) {
        let Some(alert) = self.state.alerts.get(alert) else { return };
        let Some(incident) = self.state.incidents.get(&id) else { return };
        let names =
            if escalate.to.is_empty() { receivers(self.state, alert) } else { escalate.to.clone() };
        let mut call = message_alert(alert);
        call.labels = call
            .labels
            .with(ESCALATION, "needs-person")
            .with("severity", escalate.severity.as_str());
        call.starts_at = self.now;
        let why = incident.escalated.clone().unwrap_or_else(String::new);
        call.annotations = call.annotations.with("description", &why);
        let title = format!("needs a person: {}", incident.title);
        let key = format!("{}\u{1f}{ESCALATION}", alert.key);
        let all = self.state.policy.notify.receivers.clone();
        for receiver in all.iter().filter(|receiver| names.contains(&receiver.name)) {
            let alerts = vec![(key.clone(), call.clone())];
            self.enqueue(id, receiver, MessageStatus::Firing, escalate.severity, &title, alerts);
        }
    }

    /// Tells the end to whoever was told the beginning, even if muted or routed elsewhere by now.
    fn tell_end(&mut self, id: u64) {
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        let told = std::mem::take(&mut incident.told);
        let ended = incident.resolved;
        let (level, healed) = (incident.level, incident.healed);
        let title = match healed {
            true => format!("healed: {}", incident.title),
            false => format!("over: {}", incident.title),
        };
        for (name, labels) in told {
            let known = self.state.policy.notify.receivers.iter().find(|r| r.name == name).cloned();
            let Some(receiver) = known else { continue };
            let alerts = labels
                .into_iter()
                .map(|(key, labels)| {
                    let alert = self.state.alerts.get(bare(&key));
                    let mut told = match alert {
                        Some(alert) => message_alert(alert),
                        None => MessageAlert {
                            labels: labels.clone(),
                            annotations: Labels::default(),
                            status: MessageStatus::Resolved,
                            starts_at: self.now,
                            ends_at: ended,
                            generator_url: String::new(),
                        },
                    };
                    told.labels = labels;
                    told.status = MessageStatus::Resolved;
                    told.ends_at = told.ends_at.or(ended);
                    (told.labels.clone(), (key, told))
                })
                // Told for several reasons, it ends once.
                .collect::<BTreeMap<Labels, (String, MessageAlert)>>()
                .into_values()
                .collect();
            self.enqueue(id, &receiver, MessageStatus::Resolved, level, &title, alerts);
        }
    }

    pub(crate) fn enqueue(
        &mut self,
        id: u64,
        receiver: &ReceiverPolicy,
        status: MessageStatus,
        level: Level,
        title: &str,
        alerts: Vec<(String, MessageAlert)>,
    ) {
        self.enqueue_for(0, id, receiver, status, level, title, alerts);
    }

    /// `first` is the message instead of which this one is told, or 0.
    #[allow(clippy::too_many_arguments)] // A message has so many parts.
    pub(crate) fn enqueue_for(
        &mut self,
        mut first: u64,
        id: u64,
        receiver: &ReceiverPolicy,
        status: MessageStatus,
        level: Level,
        title: &str,
        alerts: Vec<(String, MessageAlert)>,
    ) {
        let now = self.now;
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        if status == MessageStatus::Firing {
            let told = incident.told.entry(receiver.name.clone()).or_default();
            told.extend(alerts.iter().map(|(key, alert)| (key.clone(), alert.labels.clone())));
        }
        let left_out = alerts.len().saturating_sub(ALERTS_PER_MESSAGE);
        let mut text = crate::view::lines(&incident.timeline, 30).join("\n");
        if left_out > 0 {
            text.push_str(&format!("\n{left_out} more alerts are not listed here"));
        }
        let shared = shared_labels(alerts.iter().map(|(_, alert)| &alert.labels));
        let alerts: Vec<MessageAlert> =
            alerts.into_iter().take(ALERTS_PER_MESSAGE).map(|(_, alert)| alert).collect();
        let own = first == 0;
        for (channel, send_resolved) in &receiver.channels {
            if status == MessageStatus::Resolved && !send_resolved {
                continue;
            }
            let message = Message {
                id: self.state.next_id(),
                incident: id,
                receiver: receiver.name.clone(),
                channel: channel.clone(),
                status,
                level,
                title: title.to_owned(),
                text: text.clone(),
                group_key: String::new(),
                group_labels: shared.clone(),
                route_labels: Labels::default(),
                left_out: 0,
                alerts: alerts.clone(),
                created: now,
            };
            if first == 0 && status == MessageStatus::Firing {
                first = message.id;
            }
            self.put_out(message, first);
        }
        if own && first != 0 {
            self.watch_over(first);
        }
    }

    /// Puts the digest of a receiver into the outbox.
    pub(crate) fn enqueue_digest(
        &mut self,
        receiver: &ReceiverPolicy,
        level: Level,
        title: String,
        text: Vec<String>,
        alerts: Vec<MessageAlert>,
    ) {
        let firing = alerts.iter().any(|alert| alert.status == MessageStatus::Firing);
        let status = if firing { MessageStatus::Firing } else { MessageStatus::Resolved };
        for (channel, _) in &receiver.channels {
            let message = Message {
                id: self.state.next_id(),
                incident: 0,
                receiver: receiver.name.clone(),
                channel: channel.clone(),
                status,
                level,
                title: title.clone(),
                text: text.join("\n"),
                group_key: format!("digest/{}", receiver.name),
                group_labels: shared_labels(alerts.iter().map(|alert| &alert.labels)),
                route_labels: Labels::default(),
                left_out: 0,
                alerts: alerts.clone(),
                created: self.now,
            };
            self.put_out(message, 0);
        }
    }

    /// Puts a message into the outbox.
    pub(crate) fn put_out(&mut self, message: Message, first: u64) {
        let out = Outgoing {
            delivery: Delivery::Queued,
            tries: 0,
            next_at: self.now,
            attempts: std::collections::VecDeque::new(),
            first,
            unreached: None,
            receipts: Vec::new(),
            message,
        };
        self.index.waiting.comes(&out);
        self.state.outbox.insert(out.message.id, out);
    }

    fn send_due(&mut self) {
        let now = self.now;
        for id in self.index.waiting.due(now) {
            let Some(out) = self.state.outbox.get_mut(&id) else { continue };
            out.delivery = Delivery::Sending;
            out.tries += 1;
            self.index.waiting.moves(out);
            let effect = crate::Effect::Send { message: out.message.clone(), number: out.tries };
            self.out.push(effect);
        }
    }

    /// Gives up what waits for channels that are in the configuration no more: sent after they came
    /// back, a beginning might have no end.
    pub(crate) fn withdraw(&mut self) {
        let now = self.now;
        for id in self.index.waiting.iter().copied().collect::<Vec<_>>() {
            let Some(out) = self.state.outbox.get(&id) else { continue };
            if has_channel(self.state, &out.message.channel) {
                continue;
            }
            let text = format!(
                "{} left the configuration: \"{}\" is not sent",
                out.message.channel, out.message.title
            );
            let (incident, first) = (out.message.incident, out.first);
            if let Some(out) = self.state.outbox.get_mut(&id) {
                out.delivery = Delivery::GaveUp;
                self.index.waiting.goes(&out.message);
            }
            self.hopeless(first);
            if let Some(incident) = self.state.incidents.get_mut(&incident) {
                incident.say(now, EntryKind::Told, text);
            }
        }
    }

    /// Takes in a channel's verdict; whether an alert about the channel heard of it.
    pub(crate) fn attempted(&mut self, attempt: &Attempt) -> bool {
        let now = self.now;
        let Some(out) = self.state.outbox.get_mut(&attempt.message) else { return false };
        if out.delivery != Delivery::Sending {
            return false; // A second word on an attempt that is decided.
        }
        if out.attempts.len() >= ATTEMPTS_KEPT {
            out.attempts.pop_front();
        }
        out.attempts.push_back(attempt.clone());
        out.delivery = match attempt.outcome {
            AttemptOutcome::Accepted => Delivery::Accepted,
            AttemptOutcome::Rejected => Delivery::Rejected,
            // Whoever tries a channel out is told what came of it, and tries again.
            AttemptOutcome::Retry if out.message.is_test() => Delivery::GaveUp,
            AttemptOutcome::Retry if now.since(out.message.created) >= GIVE_UP => Delivery::GaveUp,
            AttemptOutcome::Retry => Delivery::Queued,
        };
        if out.delivery == Delivery::Accepted && !out.message.group_key.is_empty() {
            self.state.dispatch.heard(&out.message.group_key, &out.message.channel, now);
        }
        out.next_at = now
            + pause(out.tries).max(attempt.retry_after.unwrap_or(Span::ZERO).min(Span::hours(1)));
        match out.delivery {
            Delivery::Queued => self.index.waiting.moves(out),
            _ => self.index.waiting.goes(&out.message),
        }
        let (delivery, tries, channel) = (out.delivery, out.tries, out.message.channel.clone());
        let (id, what) = (out.message.incident, out.message.title.clone());
        let (first, receiver) = (out.first, out.message.receiver.clone());
        if out.message.is_test() && delivery != Delivery::Accepted {
            return false; // A test opens no incident.
        }
        let late = now.since(out.message.created);
        let text = match delivery {
            Delivery::Accepted if tries > 1 => Some(format!(
                "{channel} took \"{what}\" at attempt {tries}, {late} late: {}",
                attempt.said
            )),
            Delivery::Accepted => Some(format!("{channel} took \"{what}\": {}", attempt.said)),
            Delivery::Rejected => {
                Some(format!("{channel} refuses \"{what}\" for good: {}", attempt.said))
            }
            Delivery::GaveUp => Some(format!("gave up telling {channel}: {}", attempt.said)),
            Delivery::Queued if tries == 1 => {
                Some(format!("{channel} did not take \"{what}\", trying again: {}", attempt.said))
            }
            Delivery::Queued | Delivery::Sending | Delivery::Delivered => None,
        };
        if let (Some(text), Some(incident)) = (text, self.state.incidents.get_mut(&id)) {
            incident.say(now, EntryKind::Told, text);
        }
        let mut moved = false;
        if delivery == Delivery::Accepted {
            self.reached(first);
            // Receipts may be quicker than the answer.
            self.stand(attempt.message);
            moved = self.reachable(&receiver);
        } else if crate::fallback::is_hopeless(delivery) {
            self.hopeless(first);
        }
        let verdict = match delivery {
            _ if !has_channel(self.state, &channel) => return moved, // What left cannot fail.
            Delivery::Accepted => Verdict::Clear,
            Delivery::Rejected | Delivery::GaveUp => Verdict::Holds,
            _ if tries >= FAILING_TRIES => Verdict::Holds,
            _ => return moved,
        };
        let labels =
            [("alertname", "ChannelFailing"), ("severity", "error"), ("channel", channel.as_str())];
        let said = match verdict {
            Verdict::Clear => format!("{channel} takes messages"),
            _ => format!("{channel} does not take messages: {}", attempt.said),
        };
        self.found_own("ChannelFailing", labels.into(), verdict, said) || moved
    }
}

/// The key of the alert that was told, whatever it was told for.
fn bare(key: &str) -> &str {
    let marks = ["\u{1f}escalation", "\u{1f}fallback"];
    marks.iter().find_map(|mark| key.split_once(mark)).map_or(key, |(key, _)| key)
}

/// Whether it says that people cannot be reached: no route decides who hears of that.
pub(crate) fn is_of_channels(alert: &Alert) -> bool {
    matches!(alert.finding.rule.as_str(), "daruma/ChannelFailing" | crate::fallback::RULE)
}

fn has_channel(state: &State, channel: &str) -> bool {
    let channels = state.policy.notify.receivers.iter().flat_map(|receiver| &receiver.channels);
    channels.into_iter().any(|(name, _)| name == channel)
}

/// Whether the alert says that this very receiver's channel fails: telling it so cannot work.
fn about_itself(alert: &Alert, receiver: &ReceiverPolicy) -> bool {
    let labels = &alert.finding.labels;
    match alert.finding.rule.as_str() {
        "daruma/ChannelFailing" => {
            receiver.channels.iter().any(|(name, _)| name == labels.get("channel"))
        }
        crate::fallback::RULE => receiver.name == labels.get("receiver"),
        _ => false,
    }
}

fn shared_labels<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    let mut shared: BTreeMap<String, String> = first.to_map();
    for labels in sets {
        shared.retain(|name, value| labels.get(name) == value);
    }
    shared.into_iter().collect()
}
