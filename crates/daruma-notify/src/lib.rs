//! From a message of the core to what a far side said about it.
//!
//! One file per channel says how to phrase a message and how to read the answer, purely
//! ([`Notifier`]); [`Sender`] does everything else, once for all: connections, TLS, timeouts, size
//! limits, secrets, and the words of the far side for the ledger.
//!
//! What never happens here:
//! - no retry, no schedule, no fallback: [`Sender::send`] is exactly one attempt, and the outbox of
//!   `daruma-alert` decides what follows;
//! - no optimism: a message is accepted when the far side said so, in the way this channel says so;
//! - no secret in a log, an error, an [`Attempt`](daruma_model::Attempt) or a `Debug` output;
//! - no text of an alert becomes markup, a header or a command of a protocol.

mod aliyun;
mod channel;
mod config;
mod declared;
mod dingtalk;
mod discord;
mod exec;
mod feishu;
mod http;
mod mail;
mod msteams;
mod ntfy;
mod pace;
mod pagerduty;
mod push_crypto;
mod secret;
mod send;
mod sign;
mod slack;
mod sms;
mod smtp;
mod telegram;
mod templates;
mod tencent;
mod text;
mod tls;
mod trial;
mod twilio;
mod unserved;
mod web_push;
mod webhook;
mod wechat;
mod wecom;
mod words;

pub use aliyun::AliyunSmsConfig;
pub use channel::{
    AckTokens, CHANNELS, DECLARED, Notifier, ReceiverConfig, Request, Sent, To, Verdict,
};
pub use declared::{
    Answers, Code, Declared, Judged, Limit, Meaning, Protocol, Rate, Receipts, Says, Unit,
};
pub use dingtalk::DingTalkConfig;
pub use discord::DiscordConfig;
pub use exec::ExecConfig;
pub use feishu::FeishuConfig;
pub use http::{Authorization, BasicAuth, HttpConfig};
pub use mail::{EmailConfig, Smarthosts};
pub use msteams::MsTeamsConfig;
pub use ntfy::NtfyConfig;
pub use pagerduty::PagerDutyConfig;
pub use secret::Secret;
pub use send::{Sender, SenderError, TIMEOUT};
pub use sign::{hmac_sha256, signature, twilio_signature};
pub use slack::SlackConfig;
pub use telegram::TelegramConfig;
pub use templates::TemplateProblem;
pub use tencent::TencentSmsConfig;
pub use tls::TlsConfig;
pub use trial::trial_message;
pub use twilio::TwilioConfig;
pub use unserved::Unserved;
pub use web_push::{Subscription, WebPushConfig};
pub use webhook::WebhookConfig;
pub use wechat::WeChatConfig;
pub use wecom::WeComConfig;
pub use words::{Template, data};
