//! Webhooks in the form of Alertmanager's, version 4, so that whatever receives its messages receives
//! ours; what it has no word for stands under `daruma`.

use std::path::PathBuf;

use daruma_model::{Labels, Message, MessageAlert, MessageStatus, Span, Time};
use daruma_template::Escape;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Reach, Request, To};
use crate::declared::{Answers, Declared, Receipts};
use crate::http::{HttpConfig, place};
use crate::secret::{Secret, at_most_one};
use crate::send::TIMEOUT;
use crate::sign::signature;
use crate::text::url_secrets;
use crate::words::Template;

/// One entry of `webhook_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct WebhookConfig {
    /// Where to post; exactly one of it and `url_file`.
    #[serde(default)]
    pub url: Option<Secret>,
    /// The file that holds the URL, read at each attempt.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Whether it is told the end.
    #[serde(default = "WebhookConfig::send_resolved_default")]
    pub send_resolved: bool,
    /// At most so many alerts in one message; 0: all.
    #[serde(default)]
    pub max_alerts: usize,
    /// From the connection to the end of the answer; 0 or left out: 10 s.
    #[serde(default)]
    pub timeout: Span,
    /// Authentication and TLS.
    #[serde(default)]
    pub http_config: HttpConfig,
    /// The key of the header `X-Daruma-Signature` (HMAC-SHA256 of the body); at most one of it and
    /// `secret_file`; neither: no such header.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The file that holds that key, read at each attempt.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The body instead of Alertmanager's: a template in Go's language, whose result is sent as it is.
    #[serde(default)]
    pub body: Option<Template>,
    /// The body as JSON instead of Alertmanager's: its texts are templates. At most one of it and `body`.
    #[serde(default)]
    pub payload: Option<Value>,
    /// The type of `body`.
    #[serde(default = "WebhookConfig::content_type_default")]
    pub content_type: String,
}

impl WebhookConfig {
    fn send_resolved_default() -> bool {
        true
    }

    fn content_type_default() -> String {
        "application/json".to_owned()
    }

    pub(crate) const DECLARED: Declared = Declared {
        kind: "webhook",
        auth: "as `http_config` says; HMAC-SHA256 of the body in `X-Daruma-Signature`",
        limits: &[],
        pace: &[],
        answers: Answers::HTTP,
        deduplicates: Some("X-Daruma-Key"),
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        if !self.content_type.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            return Err("`content_type` is a type such as text/plain".to_owned());
        }
        if self.body.is_some() && self.payload.is_some() {
            return Err("at most one of `body` and `payload` may be set".to_owned());
        }
        at_most_one("url", self.url.as_ref(), self.url_file.as_ref())?;
        at_most_one("secret", self.secret.as_ref(), self.secret_file.as_ref())?;
        match (&self.url, &self.url_file) {
            (Some(url), _) => place(url.expose()).map(|_| ()),
            (None, Some(_)) => Ok(()),
            (None, None) => Err("one of `url` and `url_file` must be set".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for WebhookConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WebhookConfig, D::Error> {
        let config = WebhookConfig::deserialize(deserializer)?;
        config.well_formed().map_err(serde::de::Error::custom)?;
        Ok(config)
    }
}

impl Serialize for WebhookConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WebhookConfig::serialize(self, serializer)
    }
}

impl Channel for WebhookConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let url = Secret::either(self.url.as_ref(), self.url_file.as_deref())?
            .ok_or("one of `url` and `url_file` must be set")?;
        place(url.expose())?;
        let key = Secret::either(self.secret.as_ref(), self.secret_file.as_deref())?;
        let mut secrets = url_secrets(url.expose());
        secrets.extend(key.clone());
        let timeout = if self.timeout > Span::ZERO { self.timeout.to_std() } else { TIMEOUT };
        let reach = self.http_config.reach(timeout, &mut secrets)?;
        let notifier = Webhook { url, key, config: self.clone(), context: context.clone() };
        Ok(Open::of(notifier, Reach::Http(reach), secrets))
    }
}

struct Webhook {
    url: Secret,
    key: Option<Secret>,
    config: WebhookConfig,
    context: Context,
}

impl Notifier for Webhook {
    fn declared(&self) -> &'static Declared {
        &WebhookConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        // What is inserted must not leave its place in the language of the body.
        let kind = self.config.content_type.to_ascii_lowercase();
        let escape = if kind.contains("json") {
            Escape::Json
        } else if kind.contains("html") || kind.contains("xml") {
            Escape::Html
        } else {
            Escape::Text
        };
        let own = self.context.filled("body", self.config.body.as_ref(), message, escape);
        let payload = self.config.payload.as_ref();
        let payload = payload.and_then(|value| self.context.deep("payload", value, message));
        let (body, kind) = match own {
            None if payload.is_some() => {
                (payload.unwrap_or_default().to_string(), WebhookConfig::content_type_default())
            }
            Some(own) => (own, self.config.content_type.clone()),
            None => (
                body(message, self.config.max_alerts, &self.context).to_string(),
                WebhookConfig::content_type_default(),
            ),
        };
        let body = body.into_bytes();
        let mut headers = vec![("content-type", kind), ("x-daruma-key", message.id.to_string())];
        if let Some(key) = &self.key {
            headers.push(("x-daruma-signature", signature(key.expose().as_bytes(), &body)));
        }
        Request::Post { url: self.url.clone(), headers, body }
    }
}

pub(crate) fn body(message: &Message, max_alerts: usize, context: &Context) -> Value {
    let kept = if max_alerts == 0 { message.alerts.len() } else { max_alerts };
    let alerts = &message.alerts[..kept.min(message.alerts.len())];
    let link = context.page(message).unwrap_or_default();
    let alert = |alert: &MessageAlert| {
        json!({
            "status": status(alert.status),
            "labels": alert.labels.to_map(),
            "annotations": alert.annotations.to_map(),
            "startsAt": rfc3339(alert.starts_at),
            // Alertmanager's zero time: it has not ended.
            "endsAt": alert.ends_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339),
            "generatorURL": if alert.generator_url.is_empty() { &link } else { &alert.generator_url },
            "fingerprint": format!("{:016x}", alert.labels.fingerprint()),
        })
    };
    // Stable from the first message to the last, as receivers pair them by it.
    let group_key = match message.group_key.as_str() {
        "" => format!("{{}}:{{incident=\"{}\"}}", message.incident),
        key => key.to_owned(),
    };
    let mut own = json!({
        "incident": message.incident,
        "message": message.id,
        "level": message.level.as_str(),
        "title": message.title,
        "text": message.text,
    });
    if let Some(link) = context.ack(message) {
        own["ackURL"] = link.into();
    }
    json!({
        "version": "4",
        "groupKey": group_key,
        "truncatedAlerts": (message.alerts.len() - alerts.len()) as u64 + message.left_out,
        "status": status(message.status),
        "receiver": message.receiver,
        "groupLabels": message.group_labels.to_map(),
        "commonLabels": common(&message.alerts, |alert| &alert.labels).to_map(),
        "commonAnnotations": common(&message.alerts, |alert| &alert.annotations).to_map(),
        "externalURL": context.external_url,
        "alerts": alerts.iter().map(alert).collect::<Vec<_>>(),
        "daruma": own,
    })
}

fn status(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Firing => "firing",
        MessageStatus::Resolved => "resolved",
    }
}

fn common(alerts: &[MessageAlert], of: impl Fn(&MessageAlert) -> &Labels) -> Labels {
    let Some((first, rest)) = alerts.split_first() else { return Labels::default() };
    let shared = of(first);
    shared.filtered(|name| rest.iter().all(|alert| of(alert).get(name) == shared.get(name)))
}

/// UTC, with as many digits as needed; times beyond what a calendar can say become its ends.
pub(crate) fn rfc3339(time: Time) -> String {
    jiff::Timestamp::from_millisecond(time.0)
        .unwrap_or(if time.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX })
        .to_string()
}
