//! A message that says of itself that it is only a test.

use daruma_model::{Message, MessageStatus, Time};

/// Kinds of channels at which a message opens something that stays open until it is closed.
const OPENS: &[&str] = &["pagerduty"];

/// What [`Sender::send_test`](crate::Sender::send_test) sends; see [`Message::test`].
#[must_use]
pub fn trial_message(channel: &str, status: MessageStatus, now: Time) -> Message {
    Message::test(0, channel, status, now)
}

/// The end of a test, for far sides where it would stay open.
pub(crate) fn end_of(test: &Message) -> Option<Message> {
    let kind = test.channel.rsplit_once('/').map_or("", |(_, kind)| kind);
    let kind = kind.split('[').next().unwrap_or_default();
    let opened = test.is_test() && test.status == MessageStatus::Firing && OPENS.contains(&kind);
    opened.then(|| Message::test(test.id, &test.channel, MessageStatus::Resolved, test.created))
}
