//! What a channel is, and the list of all channels.
//!
//! A new channel is a new file and one line in [`channels!`]: its configuration type implements
//! [`Channel`], and what that opens implements [`Notifier`].

use daruma_model::{Level, Message, Span};
use lettre::Address;
use serde::{Deserialize, Serialize};

use crate::http::HttpReach;
use crate::secret::Secret;
use crate::smtp::SmtpReach;

/// One way to reach people: how to phrase a message for it, and how to read its answer. Pure, like
/// all that decides; timeouts, TLS and secrets live once, in `send.rs`.
pub trait Notifier: Send + Sync {
    /// The message in this channel's words; the same for every attempt at it.
    fn request(&self, message: &Message) -> Request;

    /// What an answer means. `status` is the code of HTTP or SMTP; `body` is the beginning of the
    /// answer, which may have broken off.
    fn verdict(&self, status: u16, body: &str) -> Verdict;
}

/// What goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// An HTTP POST.
    Post {
        /// Where to; a secret, because many vendors put the token into it.
        url: Secret,
        /// Names and values besides those of authentication.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A mail.
    Mail {
        /// The sender of the envelope.
        from: Address,
        /// The recipients of the envelope.
        to: Vec<Address>,
        /// Headers and body as they go over the wire, before dot-stuffing.
        bytes: Vec<u8>,
    },
}

impl Request {
    /// A POST of JSON.
    #[must_use]
    pub fn post_json(url: &Secret, body: &serde_json::Value) -> Request {
        Request::Post {
            url: url.clone(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }
}

/// What an answer means, with a word of ours where the far side's does not suffice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The far side took responsibility.
    Accepted,
    /// Later it may work.
    Retry(Option<&'static str>),
    /// It will never work like this; the word says what to do about it.
    Rejected(Option<&'static str>),
}

impl Verdict {
    /// By HTTP's classes: 2xx accepted; 408, 425, 429 and 5xx retry; everything else rejected.
    #[must_use]
    pub fn from_status(status: u16) -> Verdict {
        match status {
            200..=299 => Verdict::Accepted,
            408 | 425 | 429 | 500..=599 => Verdict::Retry(None),
            300..=399 => {
                Verdict::Rejected(Some("redirects are not followed; set the address it points to"))
            }
            _ => Verdict::Rejected(None),
        }
    }

    /// By SMTP's classes: 2xx accepted; 4xx retry; everything else rejected.
    #[must_use]
    pub fn from_smtp(status: u16) -> Verdict {
        match status {
            200..=299 => Verdict::Accepted,
            400..=499 => Verdict::Retry(None),
            _ => Verdict::Rejected(None),
        }
    }
}

/// What channels may know of the installation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// Where people look at incidents, without a `/` at the end; empty if unknown.
    pub(crate) external_url: String,
}

/// A channel as configured.
pub(crate) trait Channel: Send + Sync {
    /// Whether it is told the end.
    fn send_resolved(&self) -> bool;
    /// Reads its files and makes ready for one attempt; the reason why not is fit for the ledger.
    fn open(&self, context: &Context) -> Result<Open, String>;
}

/// A channel with its secrets in hand, for one attempt.
pub(crate) struct Open {
    pub(crate) notifier: Box<dyn Notifier>,
    pub(crate) reach: Reach,
    /// What must not be shown, whoever says it.
    pub(crate) secrets: Vec<Secret>,
}

/// How to get to the far side.
pub(crate) enum Reach {
    Http(HttpReach),
    Smtp(SmtpReach),
}

macro_rules! channels {
    ($($(#[$doc:meta])* $kind:literal in $key:ident: $config:ty;)*) => {
        /// The kinds of channels, as they stand in channel names such as `ops/webhook[0]`.
        pub const CHANNELS: &[&str] = &[$($kind),*];

        /// One entry of `receivers`: Alertmanager's keys, and when to tell it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct ReceiverConfig {
            /// Its name, unique in the configuration.
            pub name: String,
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub $key: Vec<$config>,)*
            /// Only alerts of this level and above: `info`, `warning`, `error` or `critical`.
            #[serde(default = "ReceiverConfig::min_level_default")]
            pub min_level: Level,
            /// The first message waits this long while a recovery is under way.
            #[serde(default)]
            pub heal_first: Span,
        }

        impl ReceiverConfig {
            pub(crate) fn opened(self) -> Vec<(String, Box<dyn Channel>)> {
                let mut all: Vec<(String, Box<dyn Channel>)> = Vec::new();
                $(for (at, config) in self.$key.into_iter().enumerate() {
                    all.push((format!("{}/{}[{at}]", self.name, $kind), Box::new(config)));
                })*
                all
            }
        }
    };
}

channels! {
    /// Webhooks in Alertmanager's form.
    "webhook" in webhook_configs: crate::webhook::WebhookConfig;
    /// Mail.
    "email" in email_configs: crate::mail::EmailConfig;
}

impl ReceiverConfig {
    fn min_level_default() -> Level {
        Level::Info
    }

    /// Its channels by name, such as `ops/email[0]`, and whether each is told the end.
    #[must_use]
    pub fn channels(&self) -> Vec<(String, bool)> {
        let channels = self.clone().opened();
        channels.into_iter().map(|(name, channel)| (name, channel.send_resolved())).collect()
    }
}
