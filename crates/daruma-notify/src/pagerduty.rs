//! PagerDuty, Events API v2: one alert there per incident here, by `dedup_key`.
//!
//! A repeated trigger of an open alert is no second page, so this channel may be repeated safely.

use std::collections::BTreeMap;

use daruma_model::{Message, MessageStatus, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::secret::Secret;
use crate::sign::sha256_hex;
use crate::webhook::rfc3339;
use crate::words::{ACK, Template, Words};

const SUMMARY: Limit = Limit::of("summary", 1024, Unit::Chars);
/// An event takes 512 KB.
const DETAILS: Limit = Limit::of("details", 100_000, Unit::JsonBytes);
const SHORT: Limit = Limit::of("source", 255, Unit::Chars);

config! {
    /// One entry of `pagerduty_configs`.
    PagerDutyConfig;
    secrets {
        /// The key of an integration of type "Events API v2".
        routing_key, routing_key_file, routing_key_env;
        /// The key of an integration of the first version, which is not served; see `routing_key`.
        service_key, service_key_file, service_key_env;
    }
    fields {
        /// Where events go.
        url: String = "https://events.pagerduty.com/v2/enqueue".to_owned();
        /// Who says it.
        client: Option<Template> = None;
        /// Where that can be looked at.
        client_url: Option<Template> = None;
        /// Instead of the built-in summary.
        description: Option<Template> = None;
        /// Instead of the level: `critical`, `error`, `warning` or `info`.
        severity: Option<Template> = None;
        /// Further details.
        details: BTreeMap<String, Value> = BTreeMap::new();
        /// Pictures.
        images: Vec<PagerDutyImage> = Vec::new();
        /// Links.
        links: Vec<PagerDutyLink> = Vec::new();
        /// Where it happens; left out: the label `instance`.
        source: Option<Template> = None;
        /// What of it.
        component: Option<Template> = None;
        /// What it belongs to.
        group: Option<Template> = None;
        /// What kind of thing it is.
        class: Option<Template> = None;
    }
}

/// A picture beside an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyImage {
    /// Where it leads.
    pub href: Template,
    /// Where it is.
    pub src: Template,
    /// For those who do not see it.
    pub alt: Template,
}

/// A link beside an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyLink {
    /// Where it leads.
    pub href: Template,
    /// What it says.
    pub text: Template,
}

impl PagerDutyConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "pagerduty",
        auth: "`routing_key` in the body",
        limits: &[SUMMARY, DETAILS, SHORT],
        pace: &[Rate { count: 120, per: Span::secs(60) }],
        answers: Answers {
            statuses: &[202],
            says: &[Says::Is("/status", "success")],
            code_at: &[],
            codes: &[
                Code(
                    "400",
                    Meaning::Never,
                    "is `routing_key` that of an Events API v2 integration?",
                ),
                Code("429", Meaning::Later, ""),
            ],
            ..Answers::HTTP
        },
        deduplicates: Some("dedup_key"),
        edits: true,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        if self.service_key.is_some()
            || self.service_key_file.is_some()
            || self.service_key_env.is_some()
        {
            return Err("`service_key` belongs to the first version of PagerDuty's API; make an \
                        integration \"Events API v2\" and set its `routing_key`"
                .to_owned());
        }
        let ways = [
            self.routing_key.is_some(),
            self.routing_key_file.is_some(),
            self.routing_key_env.is_some(),
        ];
        needed_secret("routing_key", ways)?;
        check_url("url", &self.url)
    }
}

impl Channel for PagerDutyConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let key = there("routing_key", self.routing_key()?)?;
        let mut secrets = vec![key.clone()];
        let reach = self.reach(&mut secrets)?;
        let notifier = PagerDuty { config: self.clone(), context: context.clone(), key };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct PagerDuty {
    config: PagerDutyConfig,
    context: Context,
    key: Secret,
}

impl Notifier for PagerDuty {
    fn declared(&self) -> &'static Declared {
        &PagerDutyConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let mut event = self.event(
            message,
            match message.status {
                MessageStatus::Firing => "trigger",
                MessageStatus::Resolved => "resolve",
            },
        );
        let words = Words::of(message, &self.context);
        let own = |name: &str, template: Option<&Template>| {
            self.context.own(name, template, message, str::to_owned)
        };
        let each = |name: &str, template: &Template| own(name, Some(template)).unwrap_or_default();
        let client = own("client", self.config.client.as_ref());
        event.insert("client".into(), client.unwrap_or_else(|| "daruma".into()).into());
        let client_url = own("client_url", self.config.client_url.as_ref());
        if let Some(url) = client_url.or_else(|| words.link.clone()) {
            event.insert("client_url".into(), url.into());
        }
        let summary = own("description", self.config.description.as_ref()).unwrap_or(words.title);
        let instance = message.alerts.first().map(|alert| alert.labels.get("instance"));
        let source = own("source", self.config.source.as_ref())
            .or_else(|| instance.filter(|i| !i.is_empty()).map(str::to_owned))
            .unwrap_or_else(|| "daruma".to_owned());
        let severity = own("severity", self.config.severity.as_ref())
            .filter(|word| ["critical", "error", "warning", "info"].contains(&word.as_str()))
            .unwrap_or_else(|| message.level.as_str().to_owned());
        let mut details = Map::new();
        details.insert("text".into(), DETAILS.fit(&words.text, plain).into());
        let room = DETAILS.max / (self.config.details.len() + 1);
        for (name, value) in &self.config.details {
            let value = self.context.deep("details", value, message).unwrap_or(Value::Null);
            details.insert(name.clone(), bounded(value, room));
        }
        let mut payload = json!({
            "summary": SUMMARY.fit(&summary, plain),
            "source": SHORT.fit(&source, plain),
            "severity": severity,
            "timestamp": rfc3339(message.created),
            "custom_details": details,
        });
        for (name, template) in [
            ("component", &self.config.component),
            ("group", &self.config.group),
            ("class", &self.config.class),
        ] {
            if let Some(value) = own(name, template.as_ref()) {
                payload[name] = SHORT.fit(&value, plain).into();
            }
        }
        event.insert("payload".into(), payload);
        let images = self.config.images.iter().map(|image| {
            json!({
                "href": each("images", &image.href),
                "src": each("images", &image.src),
                "alt": each("images", &image.alt),
            })
        });
        let links = self.config.links.iter().map(
            |link| json!({"href": each("links", &link.href), "text": each("links", &link.text)}),
        );
        let links =
            words.link.iter().map(|link| json!({"href": link, "text": "incident"})).chain(links);
        let ack = words.ack.iter().map(|link| json!({"href": link, "text": ACK}));
        let links = ack.chain(links);
        event.insert("images".into(), images.collect());
        event.insert("links".into(), links.collect());
        self.post(event)
    }

    fn acknowledge(&self, message: &Message) -> Option<Request> {
        Some(self.post(self.event(message, "acknowledge")))
    }
}

/// A detail that leaves room for the others.
fn bounded(value: Value, room: usize) -> Value {
    let limit = Limit { max: room, ..DETAILS };
    match value {
        Value::String(text) => limit.fit(&text, plain).into(),
        value if value.to_string().len() > room => "left out: too large".into(),
        value => value,
    }
}

impl PagerDuty {
    fn event(&self, message: &Message, action: &str) -> Map<String, Value> {
        // Two installations count their incidents from one; the page's address tells them apart.
        let whose = &sha256_hex(self.context.external_url.as_bytes())[..12];
        let key = format!("daruma-{whose}-{}", message.incident);
        let mut event = Map::new();
        event.insert("routing_key".into(), self.key.expose().into());
        event.insert("event_action".into(), action.into());
        event.insert("dedup_key".into(), key.into());
        event
    }

    fn post(&self, event: Map<String, Value>) -> Request {
        Request::post_json(&Secret::new(&*self.config.url), &Value::Object(event))
    }
}
