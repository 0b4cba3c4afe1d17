//! Messages on their way, and which of them may be attempted: per channel only the oldest of an incident,
//! and the oldest about an alert, so that an end never overtakes its beginning, nor the next beginning
//! it.
//!
//! Kept as messages come, move and go, because when a channel is away for long, thousands wait, and each
//! event asks. Follows from the outbox alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use daruma_model::{Labels, Message, Time};

use crate::{Delivery, Outgoing};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Waiting {
    all: BTreeMap<u64, Place>,
    channels: HashMap<String, Queues>,
    /// What may be attempted, and when.
    due: BTreeSet<(Time, u64)>,
}

/// One message.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Place {
    /// In so many queues another stands before it.
    behind: usize,
    /// When its next attempt is due; `None` while one is under way.
    at: Option<Time>,
}

/// What waits for one channel, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
struct Queues {
    incidents: HashMap<u64, BTreeSet<u64>>,
    alerts: HashMap<Labels, BTreeSet<u64>>,
    /// How many messages of each group wait.
    groups: HashMap<String, usize>,
}

impl Waiting {
    pub(crate) fn of(outbox: &BTreeMap<u64, Outgoing>) -> Waiting {
        let mut waiting = Waiting::default();
        let on_their_way =
            |out: &&Outgoing| matches!(out.delivery, Delivery::Queued | Delivery::Sending);
        outbox.values().filter(on_their_way).for_each(|out| waiting.comes(out));
        waiting
    }

    /// A message is to be sent.
    pub(crate) fn comes(&mut self, out: &Outgoing) {
        let id = out.message.id;
        let queues = self.channels.entry(out.message.channel.clone()).or_default();
        *queues.groups.entry(out.message.group_key.clone()).or_default() += 1;
        let mut behind = 0;
        let mut overtaken = Vec::new();
        let mut stand = |queue: &mut BTreeSet<u64>| {
            let first = queue.first().copied();
            if !queue.insert(id) {
                return; // The same alert twice in one message.
            }
            match first {
                Some(first) if first < id => behind += 1,
                Some(first) => overtaken.push(first),
                None => {}
            }
        };
        stand(queues.incidents.entry(out.message.incident).or_default());
        for alert in &out.message.alerts {
            stand(queues.alerts.entry(alert.labels.clone()).or_default());
        }
        self.all.insert(id, Place { behind, at: None });
        for other in overtaken {
            self.place(other, |place| place.behind += 1);
        }
        self.moves(out);
    }

    /// An attempt at it began, or is to be made at another time.
    pub(crate) fn moves(&mut self, out: &Outgoing) {
        let at = (out.delivery == Delivery::Queued).then_some(out.next_at);
        self.place(out.message.id, |place| place.at = at);
    }

    /// It is on its way no more.
    pub(crate) fn goes(&mut self, message: &Message) {
        let id = message.id;
        // Out of what is due.
        self.place(id, |place| place.at = None);
        if self.all.remove(&id).is_none() {
            return;
        }
        let Some(queues) = self.channels.get_mut(&message.channel) else { return };
        let mut next = Vec::new();
        leave(&mut queues.incidents, &message.incident, id, &mut next);
        for alert in &message.alerts {
            leave(&mut queues.alerts, &alert.labels, id, &mut next);
        }
        if let Some(count) = queues.groups.get_mut(&message.group_key) {
            *count -= 1;
            if *count == 0 {
                queues.groups.remove(&message.group_key);
            }
        }
        if queues.incidents.is_empty() {
            self.channels.remove(&message.channel);
        }
        for other in next {
            self.place(other, |place| place.behind -= 1);
        }
    }

    fn place(&mut self, id: u64, change: impl FnOnce(&mut Place)) {
        let Some(place) = self.all.get_mut(&id) else { return };
        let due = |place: &Place| place.at.filter(|_| place.behind == 0);
        let before = due(place);
        change(place);
        let after = due(place);
        if before != after {
            before.map(|at| self.due.remove(&(at, id)));
            after.map(|at| self.due.insert((at, id)));
        }
    }

    /// When the next attempt is due.
    pub(crate) fn wake(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is to be attempted by now, oldest first.
    pub(crate) fn due(&self, now: Time) -> Vec<u64> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let mut ids: Vec<u64> = due.map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a message of this group waits for this channel.
    pub(crate) fn waits(&self, group: &str, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|queues| queues.groups.contains_key(group))
    }

    pub(crate) fn contains(&self, id: &u64) -> bool {
        self.all.contains_key(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Ids, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &u64> {
        self.all.keys()
    }
}

/// Takes a message out of a queue; whoever comes first by that is added to `next`.
fn leave<K: std::hash::Hash + Eq>(
    queues: &mut HashMap<K, BTreeSet<u64>>,
    key: &K,
    id: u64,
    next: &mut Vec<u64>,
) {
    let Some(queue) = queues.get_mut(key) else { return };
    let first = queue.first() == Some(&id);
    if !queue.remove(&id) {
        return;
    }
    match queue.first() {
        Some(other) if first => next.push(*other),
        Some(_) => {}
        None => drop(queues.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use daruma_model::{Level, MessageAlert, MessageStatus};
    use proptest::prelude::*;

    use super::*;

    /// What may be attempted, by looking at all of them.
    fn heads(outbox: &BTreeMap<u64, Outgoing>) -> BTreeSet<(Time, u64)> {
        let (mut incidents, mut alerts) = (HashSet::new(), HashSet::new());
        let mut heads = BTreeSet::new();
        for out in outbox.values() {
            let channel = out.message.channel.as_str();
            let mut first = incidents.insert((channel, out.message.incident));
            for alert in &out.message.alerts {
                first &= alerts.insert((channel, &alert.labels));
            }
            if first && out.delivery == Delivery::Queued {
                heads.insert((out.next_at, out.message.id));
            }
        }
        heads
    }

    fn outgoing(id: u64, channel: u8, incident: u64, names: &BTreeSet<u8>) -> Outgoing {
        let alert = |name: &u8| MessageAlert {
            labels: [("alertname", name.to_string())].into_iter().collect(),
            annotations: Labels::default(),
            status: MessageStatus::Firing,
            starts_at: Time(0),
            ends_at: None,
            generator_url: String::new(),
        };
        let message = Message {
            id,
            incident,
            receiver: "ops".into(),
            channel: channel.to_string(),
            status: MessageStatus::Firing,
            level: Level::Error,
            title: String::new(),
            text: String::new(),
            group_key: incident.to_string(),
            group_labels: Labels::default(),
            route_labels: Labels::default(),
            alerts: names.iter().map(alert).collect(),
            left_out: 0,
            created: Time(0),
        };
        let json = serde_json::json!({
            "message": message, "delivery": "queued", "tries": 0, "next_at": id, "attempts": [],
        });
        serde_json::from_value(json).unwrap()
    }

    proptest! {
        /// Whatever comes, is tried, tried again and goes: what is due is what a look at all would find.
        #[test]
        fn the_heads_are_those_that_a_look_at_all_would_find(
            steps in prop::collection::vec(
                (0_u8..5, 0_u8..2, 0_u64..3, prop::collection::btree_set(0_u8..5, 0..3), 0_usize..20),
                0..80,
            ),
        ) {
            let (mut waiting, mut outbox) = (Waiting::default(), BTreeMap::new());
            for (id, (what, channel, incident, names, which)) in (1..).zip(steps) {
                let chosen = outbox.keys().nth(which % outbox.len().max(1)).copied();
                match (what, chosen) {
                    (0 | 1, _) | (_, None) => {
                        let out = outgoing(id, channel, incident, &names);
                        waiting.comes(&out);
                        outbox.insert(id, out);
                    }
                    (2, Some(chosen)) => {
                        let out = outbox.get_mut(&chosen).unwrap();
                        out.delivery = Delivery::Sending;
                        waiting.moves(out);
                    }
                    (3, Some(chosen)) => {
                        let out = outbox.get_mut(&chosen).unwrap();
                        (out.delivery, out.next_at) = (Delivery::Queued, Time(id as i64 + 100));
                        waiting.moves(out);
                    }
                    (_, Some(chosen)) => {
                        let out: Outgoing = outbox.remove(&chosen).unwrap();
                        waiting.goes(&out.message);
                        waiting.goes(&out.message);
                    }
                }
                prop_assert_eq!(&waiting.due, &heads(&outbox));
                prop_assert_eq!(&waiting, &Waiting::of(&outbox));
                prop_assert!(waiting.iter().eq(outbox.keys()));
            }
        }
    }
}
