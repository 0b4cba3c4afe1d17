//! What a channel is, and the list of all channels.
//!
//! A new channel is a new file and one line in [`channels!`]: its configuration type implements
//! [`Channel`], and what that opens implements [`Notifier`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use daruma_model::interval::TimeInterval;
use daruma_model::{Digest, Fallback, Level, Message, Receipt, ReceiptState, Span, Time};
use daruma_template::Templates;
use lettre::Address;
use serde::{Deserialize, Serialize};

use crate::declared::{Answers, Declared, Judged};
use crate::http::HttpReach;
use crate::secret::Secret;
use crate::smtp::SmtpReach;

/// One way to reach people: how to phrase a message for it, and how to read its answer. Pure, like
/// all that decides: the time, and what randomness it needs, were given to it when it was opened;
/// timeouts, TLS and secrets live once, in `send.rs`.
pub trait Notifier: Send + Sync {
    /// What this kind of channel declares about itself.
    fn declared(&self) -> &'static Declared;

    /// Whom the far side must be asked for one by one, so that those who were reached are not told
    /// twice; one empty name where it takes all at once.
    fn parts(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// The message in this channel's words.
    fn request(&self, message: &Message, to: To<'_>) -> Request;

    /// What tells the far side that somebody has taken the incident on; `None` if it has no word for it.
    fn acknowledge(&self, _message: &Message) -> Option<Request> {
        None
    }

    /// What asks the far side what became of `sent` at the recipient `part`; `None` if it cannot be asked.
    fn inquiry(&self, _sent: &Sent<'_>, _part: &str) -> Option<Request> {
        None
    }

    /// What `answer` to [`Notifier::inquiry`] says; `None`: it is not decided yet.
    ///
    /// # Errors
    /// The far side's words where it does not tell.
    fn heard(
        &self,
        _sent: &Sent<'_>,
        _answer: &serde_json::Value,
    ) -> Result<Option<(ReceiptState, String)>, String> {
        Ok(None)
    }

    /// What an answer means. `status` is the code of HTTP or SMTP or of a program's end; `body` is the
    /// beginning of the answer, which may have broken off.
    fn verdict(&self, status: u16, body: &str) -> Judged {
        self.declared().answers.judge(status, body)
    }
}

/// A message that a far side took.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// Its id.
    pub message: u64,
    /// Through which channel.
    pub channel: &'a str,
    /// When it was made.
    pub created: Time,
    /// When it was taken.
    pub at: Time,
}

/// What a request depends on besides the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct To<'a> {
    /// Which of [`Notifier::parts`].
    pub part: &'a str,
    /// By what the far side knows the earlier message of the incident, if one went there.
    pub handle: Option<&'a str>,
    /// What came of logging in, where the channel must.
    pub token: &'a str,
}

/// What goes over the wire. `Debug` shows how much, and nothing of what.
#[derive(Clone, PartialEq, Eq)]
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
    /// A program, without a shell.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Its environment besides `PATH` and `HOME`.
        env: Vec<(String, Secret)>,
        /// Its standard input.
        input: Vec<u8>,
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

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Post { body, .. } => write!(f, "Post({} bytes)", body.len()),
            Request::Run { argv, input, .. } => {
                write!(f, "Run({} words, {} bytes)", argv.len(), input.len())
            }
            Request::Mail { to, bytes, .. } => {
                write!(f, "Mail({} recipients, {} bytes)", to.len(), bytes.len())
            }
        }
    }
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
    /// This recipient is no more, which does not concern the others.
    Gone(Option<&'static str>),
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

    /// Our word on it, if there is one.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Verdict::Accepted => None,
            Verdict::Retry(word) | Verdict::Rejected(word) | Verdict::Gone(word) => *word,
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

/// What makes the last part of the link by which whoever reads a message takes its incident on; `None`
/// where there is nothing to take on.
pub type AckTokens = dyn Fn(&Message) -> Option<String> + Send + Sync;

/// What channels may know of the installation.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// Where people look at incidents, without a `/` at the end; empty if unknown.
    pub(crate) external_url: String,
    /// Makes the last part of the address by which whoever reads a message takes its incident on.
    pub(crate) ack_tokens: Option<Arc<AckTokens>>,
    /// The time of the attempt, for signatures.
    pub(crate) now: Time,
    /// Nothing is sent: whoever checks a configuration hears what would be cut, too.
    pub(crate) checks: bool,
    /// The templates that those of the configuration may ask for.
    pub(crate) templates: Arc<Templates>,
    /// What the ledger should know about the making of the request.
    pub(crate) notes: Arc<Mutex<BTreeSet<String>>>,
}

impl Context {
    /// Where the incident of a message is looked at; where there is none, the pages.
    pub(crate) fn page(&self, message: &Message) -> Option<String> {
        match (self.external_url.as_str(), message.incident) {
            ("", _) => None,
            (url, 0) => Some(format!("{url}/")),
            (url, incident) => Some(format!("{url}/incident/{incident}")),
        }
    }

    /// The last part of [`Context::ack`], which nobody but the message's readers should see.
    pub(crate) fn ack_token(&self, message: &Message) -> Option<Secret> {
        let tokens = self.ack_tokens.as_ref().filter(|_| !self.external_url.is_empty())?;
        tokens(message).map(Secret::new)
    }

    /// The link by which whoever reads the message takes its incident on.
    pub(crate) fn ack(&self, message: &Message) -> Option<String> {
        let token = self.ack_token(message)?;
        Some(format!("{}/ack/{}", self.external_url, token.expose()))
    }

    /// Where the far side tells what became of a message; `None` where nobody can tell us.
    pub(crate) fn receipt_url(&self, channel: &str, message: u64) -> Option<String> {
        let name: String = channel.bytes().map(|byte| format!("{byte:02x}")).collect();
        let known = !self.external_url.is_empty() && message != 0;
        known.then(|| format!("{}/receipt/{name}/{message}", self.external_url))
    }

    /// The notes so far, each once.
    pub(crate) fn taken_notes(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came to the address of a message's receipts.
pub(crate) struct Call<'a> {
    pub(crate) channel: &'a str,
    pub(crate) message: u64,
    pub(crate) signature: &'a str,
    pub(crate) body: &'a [u8],
}

/// A channel as configured.
pub(crate) trait Channel: Send + Sync {
    /// Whether it is told the end.
    fn send_resolved(&self) -> bool;
    /// Why it can never send, if so; fit for the ledger.
    fn never(&self) -> Option<&str> {
        None
    }
    /// What the far side told about a message that it took: `call` came to
    /// [`Context::receipt_url`]. `None`: nothing of interest. An error: nobody knows who says so.
    fn receipt(&self, _context: &Context, _call: &Call<'_>) -> Result<Option<Receipt>, String> {
        Err("this channel tells nothing later".to_owned())
    }
    /// Whether its far side is to be asked what became of messages, by [`Notifier::inquiry`].
    fn inquires(&self) -> bool {
        false
    }
    /// What will work and is probably not meant, in words for whoever checks the configuration.
    fn advice(&self) -> Vec<String> {
        Vec::new()
    }
    /// Reads its files and makes ready for one attempt; the reason why not is fit for the ledger.
    fn open(&self, context: &Context) -> Result<Open, String>;
}

/// A channel with its secrets in hand, for one attempt.
pub(crate) struct Open {
    pub(crate) notifier: Box<dyn Notifier>,
    pub(crate) reach: Reach,
    /// What must not be shown, whoever says it.
    pub(crate) secrets: Vec<Secret>,
    /// Where to get a token first, for channels that must log in.
    pub(crate) login: Option<Login>,
}

impl Open {
    pub(crate) fn of(
        notifier: impl Notifier + 'static,
        reach: Reach,
        secrets: Vec<Secret>,
    ) -> Open {
        Open { notifier: Box::new(notifier), reach, secrets, login: None }
    }
}

/// Getting a token that serves for a while.
pub(crate) struct Login {
    /// A GET of this, which holds the credentials.
    pub(crate) url: Secret,
    /// Which answer has the token, by `handle_at`.
    pub(crate) answers: &'static Answers,
}

/// How to get to the far side.
pub(crate) enum Reach {
    Http(HttpReach),
    Smtp(SmtpReach),
    /// A program of this host, which may take so long.
    Run(std::time::Duration),
}

macro_rules! channels {
    ($($(#[$doc:meta])* $kind:literal in $key:ident: $config:ty;)*) => {
        /// The kinds of channels, as they stand in channel names such as `ops/webhook[0]`.
        pub const CHANNELS: &[&str] = &[$($kind),*];

        /// What each of [`CHANNELS`] declares about itself, in the same order.
        pub const DECLARED: &[&Declared] = &[$(&<$config>::DECLARED),*];

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
            /// It is told within these hours; left out: at any time.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub hours: Vec<TimeInterval>,
            /// What is of this level and above is told at any hour.
            #[serde(default = "ReceiverConfig::always_from_default")]
            pub always_from: Level,
            /// What is gathered and told now and then.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub digest: Option<Digest>,
            /// Receivers that are told if it cannot be reached, one after another.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub fallback: Vec<Fallback>,
            /// What is configured elsewhere and has no channel; never read from here.
            #[serde(skip)]
            pub unserved: Vec<crate::Unserved>,
        }

        impl ReceiverConfig {
            pub(crate) fn opened(self) -> Vec<(String, Box<dyn Channel>)> {
                let mut all: Vec<(String, Box<dyn Channel>)> = Vec::new();
                $(for (at, config) in self.$key.into_iter().enumerate() {
                    all.push((format!("{}/{}[{at}]", self.name, $kind), Box::new(config)));
                })*
                for place in self.unserved {
                    all.push((format!("{}/{}", self.name, place.name), Box::new(place)));
                }
                all
            }

            /// One with a name and nothing else.
            #[must_use]
            pub fn named(name: &str) -> ReceiverConfig {
                ReceiverConfig {
                    name: name.to_owned(),
                    $($key: Vec::new(),)*
                    min_level: ReceiverConfig::min_level_default(),
                    heal_first: Span::ZERO,
                    hours: Vec::new(),
                    always_from: ReceiverConfig::always_from_default(),
                    digest: None,
                    fallback: Vec::new(),
                    unserved: Vec::new(),
                }
            }
        }
    };
}

channels! {
    /// Webhooks in Alertmanager's form.
    "webhook" in webhook_configs: crate::webhook::WebhookConfig;
    /// Mail.
    "email" in email_configs: crate::mail::EmailConfig;
    /// Slack.
    "slack" in slack_configs: crate::slack::SlackConfig;
    /// Microsoft Teams, by workflows.
    "msteamsv2" in msteamsv2_configs: crate::msteams::MsTeamsConfig;
    /// Discord.
    "discord" in discord_configs: crate::discord::DiscordConfig;
    /// Telegram.
    "telegram" in telegram_configs: crate::telegram::TelegramConfig;
    /// PagerDuty.
    "pagerduty" in pagerduty_configs: crate::pagerduty::PagerDutyConfig;
    /// ntfy.
    "ntfy" in ntfy_configs: crate::ntfy::NtfyConfig;
    /// Browsers that subscribed.
    "web_push" in web_push_configs: crate::web_push::WebPushConfig;
    /// Text messages by Twilio.
    "twilio" in twilio_configs: crate::twilio::TwilioConfig;
    /// Text messages by Aliyun.
    "aliyun_sms" in aliyun_sms_configs: crate::aliyun::AliyunSmsConfig;
    /// Text messages by Tencent.
    "tencent_sms" in tencent_sms_configs: crate::tencent::TencentSmsConfig;
    /// Robots of DingTalk.
    "dingtalk" in dingtalk_configs: crate::dingtalk::DingTalkConfig;
    /// Robots of Feishu and Lark.
    "feishu" in feishu_configs: crate::feishu::FeishuConfig;
    /// Robots of WeCom.
    "wecom" in wecom_configs: crate::wecom::WeComConfig;
    /// Applications of WeCom.
    "wechat" in wechat_configs: crate::wechat::WeChatConfig;
    /// Programs of this host.
    "exec" in exec_configs: crate::exec::ExecConfig;
}

impl ReceiverConfig {
    fn min_level_default() -> Level {
        Level::Info
    }

    fn always_from_default() -> Level {
        Level::Critical
    }

    /// Its channels by name, such as `ops/email[0]`, and whether each is told the end.
    #[must_use]
    pub fn channels(&self) -> Vec<(String, bool)> {
        let channels = self.clone().opened();
        channels.into_iter().map(|(name, channel)| (name, channel.send_resolved())).collect()
    }
}
