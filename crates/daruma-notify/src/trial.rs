//! A message that says of itself that it is only a test.

use daruma_model::{Labels, Level, Message, MessageAlert, MessageStatus, Time};

/// What [`Sender::send_test`](crate::Sender::send_test) sends: marked in its title, its text and its
/// labels, about incident 0, which never exists.
#[must_use]
pub fn trial_message(channel: &str, status: MessageStatus, now: Time) -> Message {
    let resolved = status == MessageStatus::Resolved;
    let word = if resolved { "it would be over now" } else { "nothing is wrong" };
    let labels = [("alertname", "DarumaTest"), ("severity", "info"), ("test", "true")];
    Message {
        id: 0,
        incident: 0,
        receiver: channel.rsplit_once('/').map_or(channel, |(receiver, _)| receiver).to_owned(),
        channel: channel.to_owned(),
        status,
        level: Level::Info,
        title: format!("TEST: a message of Daruma; {word}"),
        text: format!("This is a test of the channel {channel}. Nobody needs to do anything."),
        group_key: String::new(),
        group_labels: Labels::from([("alertname", "DarumaTest")]),
        route_labels: Labels::default(),
        left_out: 0,
        alerts: vec![MessageAlert {
            labels: Labels::from(labels),
            annotations: Labels::from([("summary", "This is only a test.")]),
            status,
            starts_at: now,
            ends_at: resolved.then_some(now),
            generator_url: String::new(),
        }],
        created: now,
    }
}
