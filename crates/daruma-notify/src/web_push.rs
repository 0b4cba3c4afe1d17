//! Web Push: browsers that subscribed on our own pages, with no third party but their push service,
//! which cannot read what it carries.

use std::io::Read;
use std::path::PathBuf;

use daruma_model::{Level, Message, MessageStatus, Span};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{config, needed, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Unit, plain};
use crate::http::place;
use crate::push_crypto::{Agreed, TEXT_BYTES_MAX, Vapid};
use crate::secret::Secret;
use crate::sign::{from_base64, sha256_hex};
use crate::text::url_secrets;
use crate::words::Words;

const TITLE: Limit = Limit::of("title", 500, Unit::JsonBytes);
const TEXT: Limit = Limit::of("text", TEXT_BYTES_MAX - 2000, Unit::JsonBytes);
/// Browsers of one entry.
const BROWSERS_MAX: usize = 100;
/// Above this a file of subscriptions is not one, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

config! {
    /// One entry of `web_push_configs`.
    WebPushConfig;
    secrets {
        /// The private key by which push services know us: P-256, base64url.
        vapid_private_key, vapid_private_key_file, vapid_private_key_env;
    }
    fields {
        /// The public key that belongs to it: the uncompressed point, base64url.
        vapid_public_key: String = String::new();
        /// Whom a push service may write to: `mailto:` or `https:`.
        subject: String = String::new();
        /// A JSON list of subscriptions, as browsers give them; read at each attempt.
        subscriptions_file: PathBuf = PathBuf::new();
        /// How long a push service keeps a message for a browser that is off.
        ttl: Span = Span::hours(24);
    }
}

/// A browser's subscription, as `PushSubscription.toJSON()` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The address at the push service; whoever has it and our key can push.
    pub endpoint: Secret,
    /// What a message is encrypted with.
    pub keys: SubscriptionKeys,
}

/// What a message is encrypted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionKeys {
    /// The browser's public key, base64url.
    pub p256dh: Secret,
    /// A secret of the browser, base64url.
    pub auth: Secret,
}

impl WebPushConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "web_push",
        auth: "VAPID (RFC 8292)",
        limits: &[TITLE, TEXT],
        pace: &[Rate { count: 50, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[200, 201, 202],
            codes: &[
                Code("404", Meaning::Gone, "the browser has unsubscribed"),
                Code("410", Meaning::Gone, "the browser has unsubscribed"),
                Code("400", Meaning::Never, ""),
                Code("401", Meaning::Never, "the browser subscribed with another VAPID key"),
                Code("403", Meaning::Never, "the browser subscribed with another VAPID key"),
                Code("413", Meaning::Never, ""),
            ],
            ..Answers::HTTP
        },
        deduplicates: Some("Topic, until it is delivered"),
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.vapid_private_key.is_some(),
            self.vapid_private_key_file.is_some(),
            self.vapid_private_key_env.is_some(),
        ];
        needed_secret("vapid_private_key", ways)?;
        if from_base64(&self.vapid_public_key).is_none_or(|key| key.len() != 65) {
            return Err(
                "`vapid_public_key` is a point of P-256 in base64url (87 characters)".into()
            );
        }
        if !self.subject.starts_with("mailto:") && !self.subject.starts_with("https://") {
            return Err("`subject` must be set to mailto:… or https://…".to_owned());
        }
        if let Some(private) = &self.vapid_private_key {
            Vapid::of(private, &self.vapid_public_key)?;
        }
        needed("subscriptions_file", &self.subscriptions_file.to_string_lossy())
    }

    fn subscriptions(&self) -> Result<Vec<Subscription>, String> {
        let path = &self.subscriptions_file;
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(|error| said(&error))?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| said(&error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(said(&"it is longer than 1 MiB"));
        }
        // The parser's own words could quote a secret.
        let all: Vec<Subscription> = serde_json::from_str(&text)
            .map_err(|error| said(&format!("no list of subscriptions: line {}", error.line())))?;
        if all.is_empty() || all.len() > BROWSERS_MAX {
            return Err(said(&format!(
                "{} subscriptions; 1 to {BROWSERS_MAX} are served",
                all.len()
            )));
        }
        Ok(all)
    }
}

impl Channel for WebPushConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let private = there("vapid_private_key", self.vapid_private_key()?)?;
        let vapid = Vapid::of(&private, &self.vapid_public_key)?;
        let mut secrets = vec![private];
        let mut browsers = Vec::new();
        for Subscription { endpoint, keys } in self.subscriptions()? {
            let place = place(endpoint.expose())?;
            // A browser names the address we post to: not into this network's own web servers.
            let here = matches!(place.host.as_str(), "127.0.0.1" | "[::1]" | "localhost");
            if !place.tls && !here {
                return Err(
                    "the endpoint of a subscription does not begin with https://".to_owned()
                );
            }
            let scheme = if place.tls { "https" } else { "http" };
            let origin = format!("{scheme}://{}", place.authority);
            secrets.extend(url_secrets(endpoint.expose()));
            secrets.extend([keys.auth.clone(), keys.p256dh.clone()]);
            browsers.push(Browser {
                name: sha256_hex(endpoint.expose().as_bytes())[..12].to_owned(),
                authorization: vapid.authorization(&origin, &self.subject, context.now)?,
                agreed: Agreed::with(keys.p256dh.expose(), keys.auth.expose())?,
                endpoint,
            });
        }
        let reach = self.reach(&mut secrets)?;
        let notifier = WebPush { browsers, context: context.clone(), ttl: self.ttl };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct Browser {
    name: String,
    endpoint: Secret,
    authorization: String,
    agreed: Agreed,
}

struct WebPush {
    browsers: Vec<Browser>,
    context: Context,
    ttl: Span,
}

impl Notifier for WebPush {
    fn declared(&self) -> &'static Declared {
        &WebPushConfig::DECLARED
    }

    fn parts(&self) -> Vec<String> {
        self.browsers.iter().map(|browser| browser.name.clone()).collect()
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let words = Words::of(message, &self.context);
        let short = Limit::of("link", 500, Unit::JsonBytes);
        let text = json!({
            "title": TITLE.fit(&words.title, plain),
            "body": TEXT.fit(&words.text, plain),
            "url": words.link.filter(|link| short.measure(link) <= short.max),
            "ack": words.ack.filter(|link| short.measure(link) <= short.max),
            "tag": format!("incident-{}", message.incident),
            "level": message.level.as_str(),
            "status": words.status,
            "id": message.id,
        })
        .to_string();
        let urgency = match (message.status, message.level) {
            (MessageStatus::Firing, Level::Critical | Level::Error) => "high",
            (_, Level::Info) => "low",
            _ => "normal",
        };
        let browser = self.browsers.iter().find(|browser| browser.name == to.part);
        let url = browser.map(|browser| browser.endpoint.clone()).unwrap_or_default();
        let authorization = browser.map(|browser| browser.authorization.clone());
        let body = browser.and_then(|browser| browser.agreed.seal(text.as_bytes()));
        Request::Post {
            url,
            headers: vec![
                ("authorization", authorization.unwrap_or_default()),
                ("content-encoding", "aes128gcm".to_owned()),
                ("content-type", "application/octet-stream".to_owned()),
                ("ttl", (self.ttl.0.max(0) / 1000).to_string()),
                ("urgency", urgency.to_owned()),
                // A later word on an incident takes the place of one that is not delivered yet.
                ("topic", format!("incident-{}", message.incident)),
            ],
            body: body.unwrap_or_default(),
        }
    }
}
