//! What a post office promises, recomputed from outside: from what was posted, what people asked for,
//! and what the far sides received.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use daruma_alert::routing::Routing;
use daruma_alert::{
    Alert, AlertIn, AlertState, Command, Core, Delivery, Effect, Event, Policy, ReceiverPolicy,
    State,
};
use daruma_model::{
    AttemptOutcome, Labels, Level, Matchers, Message, MessageAlert, MessageStatus, Span, Time,
};

use crate::judge::{Held, broken};

macro_rules! must {
    ($name:literal, $condition:expr, $($said:tt)*) => {
        if !$condition {
            return broken($name, format!($($said)*));
        }
    };
}

/// One channel's view of one group.
type Place = (String, String);

/// What was said last to a channel of a group.
#[derive(Debug, Default)]
struct Said {
    /// When it was heard.
    at: Time,
    /// When it was decided.
    made: Time,
    id: u64,
    firing: BTreeSet<Labels>,
    /// Said to fire, and not yet said to be over.
    owed: BTreeSet<Labels>,
}

#[derive(Debug, Default)]
pub(crate) struct Judge {
    policy: Policy,
    loaded: Time,
    up_since: Time,
    /// Until when each alert counts as firing, by what was posted last.
    posted: BTreeMap<Labels, (Time, Time)>,
    silences: BTreeMap<u64, (Matchers, Time)>,
    holds: BTreeMap<u64, (Matchers, Time)>,
    acked: BTreeMap<u64, Time>,
    said: HashMap<Place, Said>,
    /// Alerts about which a channel was refused something for good, or that left it.
    excused: HashSet<(String, Labels)>,
    seen: u64,
    accepted: HashSet<u64>,
    /// By channel and labels: the last thing a far side received, and in which message.
    heard: BTreeMap<(String, Labels), (MessageStatus, u64)>,
    got: HashSet<u64>,
    /// Since when an alert could be told without hindrance.
    free: BTreeMap<Labels, Time>,
    steps: u64,
    pub(crate) receipts: u64,
    pub(crate) resends: u64,
    pub(crate) climbed: u64,
}

fn is_of_group(message: &Message) -> bool {
    !message.group_key.is_empty() && message.incident != 0
}

fn channels(policy: &Policy) -> impl Iterator<Item = &(String, bool)> {
    policy.notify.receivers.iter().flat_map(|receiver| &receiver.channels)
}

impl Judge {
    fn routing(&self) -> &Routing {
        static NONE: std::sync::LazyLock<Routing> = std::sync::LazyLock::new(Routing::default);
        self.policy.notify.routing.as_ref().unwrap_or(&NONE)
    }

    fn fires(&self, labels: &Labels, now: Time) -> bool {
        self.posted.get(labels).is_some_and(|(_, ends)| *ends > now)
    }

    fn muted(&self, labels: &Labels, now: Time) -> bool {
        let leases = self.silences.values().chain(self.holds.values());
        leases.into_iter().any(|(matchers, until)| *until > now && matchers.matches(labels))
    }

    fn inhibited(&self, labels: &Labels, now: Time) -> bool {
        self.routing().inhibit.iter().any(|rule| {
            rule.target.matches(labels)
                && self.posted.iter().any(|(source, (_, ends))| {
                    *ends > now
                        && rule.source.matches(source)
                        && !(rule.target.matches(source) && rule.source.matches(labels))
                        && rule.equal.iter().all(|name| source.get(name) == labels.get(name))
                })
        })
    }

    /// Whether a receiver wants to hear of this alert at once.
    fn wants(&self, receiver: &ReceiverPolicy, labels: &Labels, now: Time) -> bool {
        let level = Level::from_severity(labels.get("severity"));
        let gathered = receiver.digest.as_ref().is_some_and(|digest| level < digest.below);
        let open = receiver.hours.is_empty() || receiver.hours.iter().any(|h| h.contains(now));
        level >= receiver.min_level && !gathered && (open || level >= receiver.always_from)
    }

    /// Takes in an event that is durable, right before the core sees it; `state` is the core's.
    pub(crate) fn delivered(&mut self, now: Time, event: &Event, state: &State) {
        match event {
            Event::Policy(policy) => {
                for (channel, wanted) in channels(&self.policy) {
                    if !wanted || !channels(policy).any(|(name, end)| name == channel && *end) {
                        let heard = self.heard.keys().filter(|(c, _)| c == channel);
                        self.excused.extend(heard.cloned());
                        let said = self.said.iter().filter(|((c, _), _)| c == channel);
                        // Also what waits to be heard: its end may come, or came, while nobody wants it.
                        let waiting = state.outbox.values().map(|out| &out.message);
                        let waiting = waiting.filter(|message| message.channel == *channel);
                        self.excused.extend(waiting.flat_map(|message| {
                            let labels = message.alerts.iter().map(|alert| alert.labels.clone());
                            labels.map(|labels| (channel.clone(), labels)).collect::<Vec<_>>()
                        }));
                        let owed = said.flat_map(|(_, said)| said.owed.iter().cloned());
                        self.excused.extend(owed.map(|labels| (channel.clone(), labels)));
                    }
                }
                // Who comes back may be told anew.
                for ((channel, _), said) in &mut self.said {
                    if !channels(policy).any(|(name, end)| name == channel && *end) {
                        said.firing.clear();
                    }
                }
                self.policy = (**policy).clone();
                self.loaded = now;
                self.free.clear();
            }
            Event::Posted(alerts) => {
                for AlertIn { labels, starts_at, ends_at, .. } in alerts {
                    let (starts, ends) = (starts_at.unwrap_or(now), ends_at.unwrap_or(now));
                    if ends <= now || !self.fires(labels, now) {
                        self.free.remove(labels);
                    }
                    self.posted.insert(labels.clone(), (starts, ends));
                }
            }
            Event::Attempted(attempt) => {
                let out = state.outbox.get(&attempt.message);
                match attempt.outcome {
                    AttemptOutcome::Accepted => {
                        self.accepted.insert(attempt.message);
                        // What is said is repeated from when it was heard on.
                        if let Some(out) = out {
                            let place =
                                (out.message.channel.clone(), out.message.group_key.clone());
                            if let Some(said) = self.said.get_mut(&place) {
                                said.at = said.at.max(now);
                            }
                        }
                    }
                    AttemptOutcome::Rejected => {
                        for alert in out.iter().flat_map(|out| &out.message.alerts) {
                            let channel = out.map_or("", |out| &out.message.channel).to_owned();
                            self.excused.insert((channel, alert.labels.clone()));
                        }
                    }
                    AttemptOutcome::Retry => {}
                }
            }
            _ => {}
        }
    }

    fn commanded(&mut self, now: Time, command: &Command, state: &State) {
        match command {
            Command::Silence { matchers, ttl, .. } => {
                if let Some(id) = state.silences.keys().next_back() {
                    self.silences.insert(*id, (matchers.clone(), now + *ttl));
                }
            }
            Command::Unsilence { id } => {
                self.silences.remove(id);
            }
            Command::Hold { matchers, ttl, .. } => {
                if let Some(id) = state.holds.keys().next_back() {
                    self.holds.insert(*id, (matchers.clone(), now + *ttl));
                }
            }
            Command::Release { id } => {
                self.holds.remove(id);
            }
            Command::Ack { incident, ttl: Some(ttl), .. } => {
                self.acked.insert(*incident, now + *ttl);
            }
            _ => {}
        }
    }

    /// After a step of the core.
    pub(crate) fn after(
        &mut self,
        now: Time,
        event: &Event,
        effects: &[Effect],
        core: &Core,
    ) -> Held {
        let state = core.state();
        self.steps += 1;
        if let Event::Commanded { command, .. } = event {
            self.commanded(now, command, state);
        }
        self.silences.retain(|_, (_, until)| *until > now);
        self.holds.retain(|_, (_, until)| *until > now);
        must!(
            "nothing acknowledged is lost",
            self.silences.keys().eq(state.silences.keys())
                && self.holds.keys().eq(state.holds.keys()),
            "silences {:?}, acknowledged {:?}; holds {:?}, acknowledged {:?}",
            state.silences.keys(),
            self.silences.keys(),
            state.holds.keys(),
            self.holds.keys()
        );
        let mut last = self.seen;
        for (id, out) in state.outbox.range(self.seen + 1..) {
            last = *id;
            self.made(now, &out.message, state)?;
        }
        self.seen = last;
        for effect in effects {
            if let Effect::Send { message, .. } = effect {
                must!(
                    "sent is what was accepted, and once",
                    !self.accepted.contains(&message.id),
                    "#{} is sent again after it was taken",
                    message.id
                );
            }
        }
        let wake = core.wake_at();
        must!(
            "deadlines move on",
            wake.is_none_or(|at| at > now),
            "the core wants to be woken at {wake:?}, which is not after {now:?}"
        );
        self.acked.retain(|_, until| *until > now);
        if self.steps.is_multiple_of(4) {
            self.what_fires_is_told(now)?;
            self.climbs_and_falls_back(now, state)?;
            let waiting = |d| matches!(d, Delivery::Queued | Delivery::Sending);
            let waits = state.outbox.values().filter(|out| waiting(out.delivery)).count();
            must!(
                "bounded",
                waits <= 2_000 && state.outbox.len() <= waits + 600 && state.incidents.len() < 400,
                "{waits} messages wait, {} are kept, {} incidents",
                state.outbox.len(),
                state.incidents.len()
            );
        }
        Ok(())
    }

    /// A message was decided on.
    fn made(&mut self, now: Time, message: &Message, state: &State) -> Held {
        let what = format!("#{} to {} \"{}\"", message.id, message.channel, message.title);
        let receiver = self.policy.notify.receiver(&message.receiver).cloned();
        let Some(receiver) = receiver else {
            return broken("routed", format!("{what}: nobody is named so"));
        };
        must!(
            "one trouble is one story",
            message.incident == 0 || state.incidents.contains_key(&message.incident),
            "{what} is about incident {}, which is not there",
            message.incident
        );
        if !is_of_group(message) {
            let climbs = message.alerts.iter().any(|a| !a.labels.get("escalation").is_empty());
            if climbs && message.status == MessageStatus::Firing {
                self.climbed += 1;
                must!(
                    "an ack stops the climb",
                    self.acked.get(&message.incident).is_none_or(|until| *until <= now),
                    "{what} climbs while somebody looks after incident {}",
                    message.incident
                );
                // What the loop says of its own channels is judged elsewhere.
                let own = |labels: &Labels| labels.get("team").is_empty();
                for alert in message.alerts.iter().filter(|alert| !own(&alert.labels)) {
                    let labels = bare(&alert.labels);
                    must!(
                        "muted is not told",
                        self.fires(&labels, now)
                            && !self.muted(&labels, now)
                            && !self.inhibited(&labels, now),
                        "{what} calls somebody for {labels}, which is over or muted"
                    );
                }
            }
            return Ok(());
        }
        // What left a group that lives on is told its end apart from it.
        let left = message.group_key.strip_suffix("/left");
        let place = (message.channel.clone(), left.unwrap_or(&message.group_key).to_owned());
        let firing: BTreeSet<Labels> = message
            .alerts
            .iter()
            .filter(|alert| alert.status == MessageStatus::Firing)
            .map(|alert| alert.labels.clone())
            .collect();
        let mut repeat: Option<Span> = None;
        for labels in &firing {
            must!("what is told fires", self.fires(labels, now), "{what}: {labels} does not");
            must!(
                "muted is not told",
                !self.muted(labels, now) && !self.inhibited(labels, now),
                "{what}: {labels} is silenced, held or inhibited"
            );
            must!(
                "in its hours and levels",
                self.wants(&receiver, labels, now),
                "{what}: {labels} is not for {}",
                receiver.name
            );
            must!(
                "grouped",
                message.group_labels.iter().all(|(name, value)| labels.get(name) == value),
                "{what}: {labels} is not of group {}",
                message.group_labels
            );
            let routing = self.routing();
            let nodes = routing.matching(labels);
            let by = nodes.iter().find(|node| {
                let key = routing.group_key(**node, &routing.group_labels(**node, labels));
                key == message.group_key && routing.nodes[**node].receiver == receiver.name
            });
            let Some(by) = by else {
                return broken("routed", format!("{what}: no route leads {labels} there"));
            };
            must!(
                "muted is not told",
                routing.closed(*by, now).is_none(),
                "{what}: its route is closed"
            );
            repeat = Some(routing.nodes[*by].repeat_interval);
        }
        let ended: BTreeSet<Labels> = message
            .alerts
            .iter()
            .filter(|alert| alert.status == MessageStatus::Resolved)
            .map(|alert| alert.labels.clone())
            .collect();
        let acked = self.acked.get(&message.incident).is_some_and(|until| *until > now);
        let fires: Vec<bool> = ended.iter().map(|labels| self.fires(labels, now)).collect();
        let said = self.said.entry(place).or_default();
        for (labels, fires) in ended.iter().zip(fires) {
            must!(
                "end never before beginning",
                said.owed.contains(labels),
                "{what} {}: the end of {labels}, without a beginning",
                message.group_key
            );
            must!("what is over does not fire", !fires, "{what}: {labels} fires");
        }
        let begun = |alert: &MessageAlert| {
            alert.status == MessageStatus::Firing && alert.starts_at > said.made
        };
        let news = !ended.is_empty()
            || !firing.is_subset(&said.firing)
            || message.alerts.iter().any(begun);
        // Who does not want to hear ends hears a second beginning after none.
        let ends = receiver.channels.iter().any(|(name, end)| *name == message.channel && *end);
        if let Some(repeat) = repeat.filter(|_| !news && ends) {
            must!(
                "told once",
                now >= said.at + repeat,
                "{what} repeats what was told at {:?} in #{}, before {repeat} were over",
                said.at,
                said.id
            );
            must!("told once", !acked, "{what} reminds of what somebody looks after");
        }
        said.owed.retain(|labels| !ended.contains(labels));
        if left.is_some() {
            said.firing.retain(|labels| !ended.contains(labels));
            return Ok(());
        }
        said.at = now;
        said.made = now;
        said.id = message.id;
        said.owed.extend(firing.iter().cloned());
        said.firing = firing;
        Ok(())
    }

    /// A far side took a message, whatever the monitor heard of that.
    pub(crate) fn received(&mut self, message: &Message) -> Held {
        self.receipts += 1;
        must!(
            "sent is what was accepted, and once",
            !self.accepted.contains(&message.id),
            "{} got #{} again after it was known to have it",
            message.channel,
            message.id
        );
        self.resends += u64::from(!self.got.insert(message.id));
        if message.incident == 0 {
            return Ok(()); // A digest is a list to read.
        }
        for alert in &message.alerts {
            let key = (message.channel.clone(), alert.labels.clone());
            if let Some((_, before)) = self.heard.get(&key) {
                must!(
                    "an end never overtakes, nor is overtaken",
                    *before <= message.id,
                    "{} got #{} after #{before} about {}",
                    message.channel,
                    message.id,
                    alert.labels
                );
            }
            if !channels(&self.policy).any(|(name, end)| *name == message.channel && *end) {
                self.excused.insert(key.clone()); // It does not want to hear ends just now.
            }
            self.heard.insert(key, (alert.status, message.id));
        }
        Ok(())
    }

    /// The monitor is back: until it was, it could tell nothing.
    pub(crate) fn restarted(&mut self, now: Time, state: &State) {
        self.up_since = now;
        self.free.clear();
        self.acked = state
            .incidents
            .values()
            .filter_map(|incident| Some((incident.id, incident.acked.as_ref()?.1)))
            .collect();
    }

    /// Liveness: what fires and is not hindered is told within a bound, on every channel it is for.
    fn what_fires_is_told(&mut self, now: Time) -> Held {
        let all: Vec<Labels> = self.posted.keys().cloned().collect();
        for labels in all {
            let hindered = !self.fires(&labels, now)
                || self.muted(&labels, now)
                || self.inhibited(&labels, now)
                || self.routing().matching(&labels).iter().any(|node| {
                    let routing = self.routing();
                    let receiver = self.policy.notify.receiver(&routing.nodes[*node].receiver);
                    routing.closed(*node, now).is_some()
                        || receiver.is_some_and(|receiver| !self.wants(receiver, &labels, now))
                });
            if hindered {
                self.free.remove(&labels);
                continue;
            }
            let since = *self.free.entry(labels.clone()).or_insert(now);
            let routing = self.routing();
            for node in routing.matching(&labels) {
                let node_ = &routing.nodes[node];
                let patience = Span(node_.group_wait.0 + 2 * node_.group_interval.0 + 15_000);
                if now.since(since) <= patience {
                    continue;
                }
                let key = routing.group_key(node, &routing.group_labels(node, &labels));
                let receiver = self.policy.notify.receiver(&node_.receiver);
                for (channel, _) in receiver.into_iter().flat_map(|r| &r.channels) {
                    let said = self.said.get(&(channel.clone(), key.clone()));
                    must!(
                        "what fires is told",
                        said.is_some_and(|said| said.owed.contains(&labels)),
                        "{labels} fires unhindered since {since:?} and {channel} was not told"
                    );
                }
            }
        }
        Ok(())
    }

    /// Liveness: no step of a chain and no fallback waits for nothing.
    fn climbs_and_falls_back(&self, now: Time, state: &State) -> Held {
        for incident in state.incidents.values().filter(|i| i.resolved.is_none()) {
            let Some(climb) = &incident.climb else { continue };
            must!(
                "an escalation climbs",
                incident.acked.is_some() || now.since(climb.at) < Span::minutes(1),
                "step {} of {} was due at {:?}",
                climb.step,
                incident.title,
                climb.at
            );
        }
        for out in state.outbox.values() {
            let Some(step) = out.unreached else { continue };
            let Some(receiver) = self.policy.notify.receiver(&out.message.receiver) else {
                continue;
            };
            let Some(fallback) = receiver.fallback.get(step) else { continue };
            let due = (out.message.created + fallback.after).max(self.up_since).max(self.loaded);
            must!(
                "whoever cannot be reached is stood in for",
                now.since(due) < Span::minutes(1),
                "#{} was not taken, and {} was not told instead at {due:?}",
                out.message.id,
                fallback.to
            );
        }
        Ok(())
    }

    /// When all has been well for long: every story has its end.
    pub(crate) fn at_the_end(&self, state: &State) -> Held {
        // That channels fail is over with their next message, which may never come.
        let own = |key: &String| key.starts_with("daruma/");
        let open = state.incidents.values().filter(|i| !i.alerts.iter().any(own));
        if let Some(incident) = open.into_iter().find(|i| i.resolved.is_none()) {
            let lines: Vec<&str> =
                incident.timeline.iter().rev().take(5).map(|e| e.text.as_str()).collect();
            return broken(
                "every incident ends",
                format!("incident {} ({}) is still open: {lines:?}", incident.id, incident.title),
            );
        }
        let left = |alert: &&Alert| alert.state != AlertState::Resolved && !own(&alert.key);
        let open = state.alerts.values().find(left);
        must!(
            "every incident ends",
            open.is_none() && state.dispatch.counts().0 == 0 && state.digests.is_empty(),
            "{open:?} lives on, or {} posted alerts do, or digests: {:?}",
            state.dispatch.counts().0,
            state.digests
        );
        for out in state.outbox.values() {
            must!(
                "retries go on",
                !matches!(out.delivery, Delivery::Queued | Delivery::Sending)
                    && out.unreached.is_none(),
                "#{} to {} is {:?} at the end, unreached {:?}: {out:?}",
                out.message.id,
                out.message.channel,
                out.delivery,
                out.unreached
            );
        }
        let ends: BTreeMap<&str, bool> =
            channels(&self.policy).map(|(name, end)| (name.as_str(), *end)).collect();
        for ((channel, labels), (status, id)) in &self.heard {
            let excused = self.excused.contains(&(channel.clone(), labels.clone()));
            must!(
                "told the end",
                *status == MessageStatus::Resolved
                    || excused
                    || labels.get("team").is_empty()
                    || !ends[channel.as_str()],
                "{channel} was told in #{id} that {labels} fires and never heard its end"
            );
        }
        Ok(())
    }
}

fn bare(labels: &Labels) -> Labels {
    labels.iter().filter(|(name, _)| *name != "escalation").collect()
}
