//! Every channel against a vendor that is as strict as its documentation, and stricter.

#![allow(clippy::unwrap_used, missing_docs)] // In tests, helpers included, a panic is the message.

mod advice;
mod answers;
mod exec;
mod receipts;
mod secrets;
mod server;
mod stand_ins;
mod templates;
mod vendors;
mod web_push;

use std::sync::Arc;

use daruma_model::{Labels, Level, Message, MessageAlert, MessageStatus, Time};
use daruma_notify::{ReceiverConfig, Sender};

/// The time of every test, in seconds.
pub const NOW: i64 = 1_700_000_020;

pub fn message(channel: &str, title: &str, text: &str) -> Message {
    Message {
        id: 17,
        incident: 4,
        receiver: "ops".to_owned(),
        channel: channel.to_owned(),
        status: MessageStatus::Firing,
        level: Level::Critical,
        title: title.to_owned(),
        text: text.to_owned(),
        group_key: String::new(),
        group_labels: Labels::from([("alertname", "Down")]),
        route_labels: Labels::default(),
        left_out: 0,
        alerts: vec![MessageAlert {
            labels: Labels::from([
                ("alertname", "Down"),
                ("instance", "10.0.0.1:9100"),
                ("x", text),
            ]),
            annotations: Labels::from([("summary", text)]),
            status: MessageStatus::Firing,
            starts_at: Time::from_secs(NOW - 60),
            ends_at: None,
            generator_url: String::new(),
        }],
        created: Time::from_secs(NOW - 10),
    }
}

pub fn receiver(yaml: &str) -> Result<ReceiverConfig, String> {
    serde_saphyr::from_str(&format!("name: ops\n{yaml}\n")).map_err(|error| error.to_string())
}

pub fn sender(yaml: &str) -> Sender {
    let config = receiver(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let clock: daruma_model::Clock = Arc::new(|| Time::from_secs(NOW));
    Sender::new(vec![config], clock).unwrap().with_external_url("https://daruma.example.org")
}
