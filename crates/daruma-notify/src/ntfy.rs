//! ntfy: a notification published to a topic, as JSON, so that no text passes through a header.

use daruma_model::{Level, Message, MessageStatus, Span};
use serde_json::json;

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::secret::Secret;
use crate::words::{ACK, Template, Words};

/// What is longer becomes an attachment, or is refused where there are none.
const TEXT: Limit = Limit::of("message", 4096, Unit::Bytes);
const TITLE: Limit = Limit::of("title", 250, Unit::Bytes);

config! {
    /// One entry of `ntfy_configs`.
    NtfyConfig;
    secrets {
        /// An access token; user and password stand in `http_config`.
        token, token_file, token_env;
    }
    fields {
        /// Where the server is.
        api_url: String = "https://ntfy.sh".to_owned();
        /// The topic.
        topic: String = String::new();
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the built-in text.
        message: Option<Template> = None;
        /// 1 to 5; left out: by level.
        priority: Option<u8> = None;
        /// Further tags.
        tags: Vec<String> = Vec::new();
    }
}

impl NtfyConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "ntfy",
        auth: "`Authorization: Bearer` with a token, or Basic",
        limits: &[TITLE, TEXT],
        pace: &[Rate { count: 60, per: Span::secs(300) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/event", "message")],
            code_at: &["/code"],
            codes: &[
                Code("401*", Meaning::Never, "set another `token`"),
                Code("403*", Meaning::Never, "may `token` write to `topic`?"),
                Code("413*", Meaning::Never, ""),
                Code("429*", Meaning::Later, ""),
                Code("400*", Meaning::Never, ""),
                Code("404*", Meaning::Never, "is `api_url` a server of ntfy?"),
                Code("507*", Meaning::Later, ""),
            ],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        needed("topic", &self.topic)?;
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.topic.len() > 64 || !self.topic.chars().all(fit) {
            return Err("`topic` takes up to 64 letters, digits, - and _".to_owned());
        }
        if self.priority.is_some_and(|priority| !(1..=5).contains(&priority)) {
            return Err("`priority` is a number from 1 to 5".to_owned());
        }
        check_url("api_url", &self.api_url)
    }
}

impl Channel for NtfyConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let token = self.token()?;
        let mut secrets: Vec<Secret> = token.iter().cloned().collect();
        let reach = self.reach(&mut secrets)?;
        let notifier = Ntfy { config: self.clone(), context: context.clone(), token };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct Ntfy {
    config: NtfyConfig,
    context: Context,
    token: Option<Secret>,
}

impl Notifier for Ntfy {
    fn declared(&self) -> &'static Declared {
        &NtfyConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let words = Words::of(message, &self.context);
        let own = |name, template: &Option<Template>| {
            self.context.own(name, template.as_ref(), message, str::to_owned)
        };
        let by_level = match (message.status, message.level) {
            (MessageStatus::Resolved, _) => 3,
            (_, Level::Info) => 2,
            (_, Level::Warning) => 3,
            (_, Level::Error) => 4,
            (_, Level::Critical) => 5,
        };
        let mark = match message.status {
            MessageStatus::Resolved => "white_check_mark",
            MessageStatus::Firing => "rotating_light",
        };
        let mut tags = vec![mark.to_owned(), message.level.as_str().to_owned()];
        tags.extend(self.config.tags.iter().cloned());
        let title = own("title", &self.config.title).unwrap_or(words.title);
        let text = own("message", &self.config.message).unwrap_or(words.text);
        let mut body = json!({
            "topic": self.config.topic,
            "title": TITLE.fit(&title, plain),
            "message": TEXT.fit(&text, plain),
            "priority": self.config.priority.unwrap_or(by_level),
            "tags": tags,
        });
        if let Some(link) = words.link {
            body["click"] = link.into();
        }
        if let Some(link) = words.ack {
            body["actions"] = json!([{"action": "view", "label": ACK, "url": link, "clear": true}]);
        }
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {}", token.expose())));
        }
        let url = Secret::new(format!("{}/", self.config.api_url.trim_end_matches('/')));
        Request::Post { url, headers, body: body.to_string().into_bytes() }
    }
}
