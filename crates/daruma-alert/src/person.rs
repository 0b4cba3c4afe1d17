//! What people ask for that concerns messages: to look after an incident, by name or by the link of a
//! message, and to be sent a test.

use std::collections::VecDeque;

use daruma_model::{Message, MessageStatus, Span, Time};

use crate::core::Cx;
use crate::state::USED_LINKS_MAX;
use crate::{Delivery, Effect, EntryKind, Outgoing, State, UsedLink};

impl Cx<'_> {
    /// Somebody looks after an incident until `until`.
    pub(crate) fn ack(&mut self, id: u64, by: &str, ttl: Span, until: Time, comment: &str) {
        let now = self.now;
        if let Some(incident) = self.state.incidents.get_mut(&id) {
            incident.acked = Some((by.to_owned(), until));
            let text = format!("{by} looks after it for {ttl}");
            incident.say(now, EntryKind::Person, crate::core::with(&text, comment));
        }
    }

    /// The same by a link: once, before it runs out, and while the incident is open.
    pub(crate) fn ack_by_link(
        &mut self,
        id: u64,
        by: &str,
        (ttl, until): (Span, Time),
        (link, nonce, expires): (&str, &str, Time),
    ) {
        let open = self.state.incidents.get(&id).is_some_and(|i| i.resolved.is_none());
        let links = &mut self.state.used_links;
        let known = links.contains_key(link) || links.len() >= USED_LINKS_MAX;
        if !open || known || expires <= self.now {
            return;
        }
        let (by_whom, nonce) = (by.to_owned(), nonce.to_owned());
        let used = UsedLink { at: self.now, by: by_whom, incident: id, expires, nonce };
        links.insert(link.to_owned(), used);
        self.ack(id, by, ttl, until, "");
    }

    /// Sends a test to a receiver or a channel. It goes past the outbox's queue: it is not tried again,
    /// and nothing waits for it.
    pub(crate) fn send_test(&mut self, to: &str) {
        for channel in test_channels(self.state, to) {
            let id = self.state.next_id();
            let message = Message::test(id, &channel, MessageStatus::Firing, self.now);
            let out = Outgoing {
                delivery: Delivery::Sending,
                tries: 1,
                next_at: self.now,
                attempts: VecDeque::new(),
                first: 0,
                unreached: None,
                receipts: Vec::new(),
                message: message.clone(),
            };
            self.index.waiting.comes(&out);
            self.state.outbox.insert(id, out);
            self.out.push(Effect::Send { message, number: 1 });
        }
    }

    /// Tests whose outcome got lost: nobody waits for it any more.
    pub(crate) fn tests_are_lost(&mut self) {
        for out in self.state.outbox.values_mut() {
            if out.message.is_test() && out.delivery == Delivery::Sending {
                out.delivery = Delivery::GaveUp;
                self.index.waiting.goes(&out.message);
            }
        }
    }
}

/// The channels of a receiver, or the one channel, of this name.
pub(crate) fn test_channels(state: &State, to: &str) -> Vec<String> {
    let receivers = state.policy.notify.receivers.iter();
    let all = receivers.flat_map(|r| r.channels.iter().map(move |(channel, _)| (&r.name, channel)));
    all.filter(|(name, channel)| *name == to || *channel == to).map(|(_, c)| c.clone()).collect()
}
