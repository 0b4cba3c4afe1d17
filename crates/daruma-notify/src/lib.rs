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

mod channel;
mod http;
mod mail;
mod secret;
mod send;
mod sign;
mod smtp;
mod text;
mod tls;
mod webhook;

pub use channel::{CHANNELS, Notifier, ReceiverConfig, Request, Verdict};
pub use http::{Authorization, BasicAuth, HttpConfig};
pub use mail::{EmailConfig, Smarthosts};
pub use secret::Secret;
pub use send::{Sender, SenderError, TIMEOUT};
pub use sign::{hmac_sha256, signature};
pub use tls::TlsConfig;
pub use webhook::WebhookConfig;
