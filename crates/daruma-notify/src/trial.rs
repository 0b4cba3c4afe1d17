//! Messages that are about nothing: one that says of itself that it is only a test, and one by which a
//! configuration is checked.

use daruma_model::{Labels, Message, MessageStatus, Time};

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

/// What is phrased to see how a channel's words come out, and never sent: an alert as they usually are.
pub(crate) fn sample(channel: &str, alertname: &str, status: MessageStatus, now: Time) -> Message {
    let mut message = Message::test(1, channel, status, now);
    let word = if status == MessageStatus::Firing { "fires" } else { "is over" };
    message.incident = 1;
    message.title = format!("{alertname} {word} on web-1:9100");
    message.text = format!("{alertname} {word} since 10:00.");
    message.group_labels = Labels::from([("alertname", alertname)]);
    message.group_key = format!("{{}}:{{alertname={alertname:?}}}");
    for alert in &mut message.alerts {
        alert.labels = Labels::from([
            ("alertname", alertname),
            ("instance", "web-1:9100"),
            ("job", "node"),
            ("severity", "critical"),
        ]);
        alert.annotations = Labels::from([
            ("description", "It is so for five minutes, and may cost orders."),
            ("runbook_url", "https://example.org/runbook"),
            ("summary", "Something is wrong with web-1."),
        ]);
        alert.generator_url = "https://example.org/graph".to_owned();
    }
    message
}
