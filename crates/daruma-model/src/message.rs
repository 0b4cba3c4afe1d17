//! What people are told, and what the far side said to it.

use serde::{Deserialize, Serialize};

use crate::{Labels, Span, Time};

/// How much a message matters, from the label `severity`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know, nobody is woken.
    Info,
    /// Needs a look in working hours.
    Warning,
    /// Needs somebody soon.
    #[default]
    Error,
    /// Wakes somebody.
    Critical,
}

impl Level {
    /// From a `severity` label as people write it; `error` when it says something else.
    #[must_use]
    pub fn from_severity(text: &str) -> Level {
        match text.to_ascii_lowercase().as_str() {
            "info" | "none" | "debug" | "notice" => Level::Info,
            "warning" | "warn" | "minor" | "low" => Level::Warning,
            "critical" | "page" | "emergency" | "fatal" | "high" | "major" => Level::Critical,
            _ => Level::Error,
        }
    }

    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

/// Whether a message opens, updates or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// Something is wrong.
    Firing,
    /// What was told is over.
    Resolved,
}

/// One alert within a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageAlert {
    /// Its labels, which identify it to the receiver.
    pub labels: Labels,
    /// Human text.
    pub annotations: Labels,
    /// Firing or resolved.
    pub status: MessageStatus,
    /// When it began to fire.
    pub starts_at: Time,
    /// When it ended, if it has.
    pub ends_at: Option<Time>,
    /// Where it can be looked at where it arose, or `""`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
}

/// A message for one receiver over one channel; the same for every attempt at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Rises within an installation; also the key by which a vendor may deduplicate.
    pub id: u64,
    /// The incident it is about.
    pub incident: u64,
    /// The receiver's name.
    pub receiver: String,
    /// Which of the receiver's channels, e.g. `ops/webhook[0]`.
    pub channel: String,
    /// Opens or closes.
    pub status: MessageStatus,
    /// How much it matters.
    pub level: Level,
    /// One line: what, where, and what was done about it.
    pub title: String,
    /// Plain text: the timeline so far.
    pub text: String,
    /// What is told together: the same for all messages of one group, so that a far side can tell that
    /// they belong together. `""`: by incident.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_key: String,
    /// Labels all alerts of the group share, because it is by them that they are grouped.
    pub group_labels: Labels,
    /// Labels of the route that led here.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub route_labels: Labels,
    /// What it is about, at most 100.
    pub alerts: Vec<MessageAlert>,
    /// Alerts that are not listed because there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// When the core decided to send it.
    pub created: Time,
}

impl Message {
    /// A message that says of itself that it is only a test, in its title, its text and its labels. It
    /// is about incident 0, which never exists.
    #[must_use]
    pub fn test(id: u64, channel: &str, status: MessageStatus, now: Time) -> Message {
        let resolved = status == MessageStatus::Resolved;
        let word = if resolved { "it would be over now" } else { "nothing is wrong" };
        let labels = [("alertname", "DarumaTest"), ("severity", "info"), ("test", "true")];
        Message {
            id,
            incident: 0,
            receiver: channel.rsplit_once('/').map_or(channel, |(receiver, _)| receiver).to_owned(),
            channel: channel.to_owned(),
            status,
            level: Level::Info,
            title: format!("TEST: a message of Daruma; {word}"),
            text: format!("This is a test of the channel {channel}. Nobody needs to do anything."),
            group_key: format!("{TEST_GROUP}{channel}"),
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

    /// Whether it is a [`Message::test`].
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.incident == 0 && self.group_key.starts_with(TEST_GROUP)
    }
}

/// How the group keys of tests begin; those of groups begin with a brace.
const TEST_GROUP: &str = "test/";

/// How one attempt at a message ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The far side took responsibility for it.
    Accepted,
    /// It may work later: refused for now, unreachable, timed out. Try again.
    Retry,
    /// It will never work like this; retrying would repeat the error.
    Rejected,
}

/// One attempt at a message, in the far side's own words. The ledger is the list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which message.
    pub message: u64,
    /// The attempt, from 1.
    pub number: u32,
    /// When it began.
    pub at: Time,
    /// How long it took.
    pub took: Span,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What the far side said (status and start of the body), or why it was not reached; without
    /// secrets, at most 500 characters.
    pub said: String,
    /// The far side asked to wait this long (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

/// What became of a message, later than the far side took it. The later ones outdo the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptState {
    /// It will not arrive.
    Lost,
    /// It arrived where its recipient reads.
    Delivered,
    /// It was read.
    Read,
}

/// What a far side tells about one recipient of a message that it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which message.
    pub message: u64,
    /// Through which channel it was sent.
    pub channel: String,
    /// Which recipient, such as a number.
    pub part: String,
    /// How many recipients there are.
    pub of: u32,
    /// What became of it.
    pub state: ReceiptState,
    /// The far side's word on it; may be empty, at most 200 characters.
    pub said: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The form that serde asks for.
fn is_zero(number: &u64) -> bool {
    *number == 0
}
