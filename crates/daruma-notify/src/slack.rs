//! Slack: an incoming webhook, or `chat.postMessage` with a token, which can also change a message.
//!
//! Slack answers 200 to nearly everything; only `ok` (webhook) or `"ok": true` (API) counts. What comes
//! from alerts never becomes markup: `&`, `<` and `>` are escaped, so that no `<!channel>` pages
//! everybody, and built-in words stand in fields that are not read as `mrkdwn`.

use daruma_model::{Message, MessageStatus, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit};
use crate::http::place;
use crate::secret::Secret;
use crate::text::url_secrets;
use crate::words::{ACK, Template, Words, colour, page_address};

const TITLE: Limit = Limit::of("title", 1024, Unit::Chars);
const TEXT: Limit = Limit::of("text", 4000, Unit::Chars);
const API: &str = "https://slack.com/api/chat.postMessage";

config! {
    /// One entry of `slack_configs`.
    SlackConfig;
    secrets {
        /// The incoming webhook.
        api_url, api_url_file, api_url_env;
        /// The token of an application; with it `chat.postMessage` is used.
        app_token, app_token_file, app_token_env;
    }
    fields {
        /// Where `app_token` is used; left out: Slack's.
        app_url: String = String::new();
        /// The channel, `#name` or its id; webhooks have their own.
        channel: String = String::new();
        /// The name to post under.
        username: String = String::new();
        /// The colour of the bar; left out: by level.
        color: Option<Template> = None;
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the page of the incident.
        title_link: Option<Template> = None;
        /// Before the message.
        pretext: Option<Template> = None;
        /// Instead of the built-in text.
        text: Option<Template> = None;
        /// The message above the attachment.
        message_text: Option<Template> = None;
        /// Further fields.
        fields: Vec<SlackField> = Vec::new();
        /// Whether fields may stand side by side.
        short_fields: bool = false;
        /// Below the message.
        footer: Option<Template> = None;
        /// Where attachments are not shown; left out: the title.
        fallback: Option<Template> = None;
        /// For actions.
        callback_id: Option<Template> = None;
        /// The picture of the poster.
        icon_emoji: Option<Template> = None;
        /// The picture of the poster.
        icon_url: Option<Template> = None;
        /// A picture.
        image_url: Option<Template> = None;
        /// A small picture.
        thumb_url: Option<Template> = None;
        /// Whether `@name` and `#channel` become links.
        link_names: bool = false;
        /// Which fields are read as `mrkdwn`; left out: those with words of the configuration.
        mrkdwn_in: Option<Vec<String>> = None;
        /// Buttons.
        actions: Vec<SlackAction> = Vec::new();
        /// Whether later messages of an incident change the first one; needs `app_token`.
        update_message: bool = false;
    }
}

/// A field of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackField {
    /// Its name.
    pub title: Template,
    /// Its text.
    pub value: Template,
    /// Whether it may stand beside another.
    pub short: Option<bool>,
}

/// A button of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackAction {
    /// `button`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What stands on it.
    pub text: Template,
    /// Where it leads.
    pub url: Template,
    /// Its look.
    pub style: String,
    /// For the application that hears of it.
    pub name: String,
    /// For the application that hears of it.
    pub value: Template,
}

impl SlackConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "slack",
        auth: "the address of the webhook, or `Authorization: Bearer` with the application's token",
        limits: &[TITLE, TEXT],
        pace: &[Rate { count: 1, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Text("ok"), Says::Is("/ok", "true")],
            code_at: &["/error"],
            codes: &[
                Code("ratelimited", Meaning::Later, ""),
                Code("rate_limited", Meaning::Later, ""),
                Code("internal_error", Meaning::Later, ""),
                Code("fatal_error", Meaning::Later, ""),
                Code("service_unavailable", Meaning::Later, ""),
                Code("request_timeout", Meaning::Later, ""),
                Code("rollup_error", Meaning::Later, ""),
                Code("message_not_found", Meaning::Anew, "the earlier message is gone"),
                Code("cant_update_message", Meaning::Anew, "the earlier message cannot be changed"),
                Code(
                    "edit_window_closed",
                    Meaning::Anew,
                    "the earlier message is too old to change",
                ),
                Code("no_service", Meaning::Never, "the webhook was deleted; set a new `api_url`"),
                Code("no_active_hooks", Meaning::Never, "the webhook is disabled"),
                Code("invalid_token", Meaning::Never, "set a new `api_url`"),
                Code("invalid_auth", Meaning::Never, "set a new `app_token`"),
                Code("not_authed", Meaning::Never, "set `app_token`"),
                Code("token_*", Meaning::Never, "set a new `app_token`"),
                Code("account_inactive", Meaning::Never, "set a new `app_token`"),
                Code("missing_scope", Meaning::Never, "give the application the scope chat:write"),
                Code("channel_not_found", Meaning::Never, "set another `channel`"),
                Code("not_in_channel", Meaning::Never, "invite the application to the channel"),
                Code("is_archived", Meaning::Never, "the channel is archived; set another"),
                Code("channel_is_archived", Meaning::Never, "the channel is archived; set another"),
                Code("action_prohibited", Meaning::Never, "the workspace's owner forbids it"),
                Code("restricted_action*", Meaning::Never, "the workspace's owner forbids it"),
                Code("invalid_payload", Meaning::Never, ""),
                Code("invalid_blocks*", Meaning::Never, ""),
                Code("msg_too_long", Meaning::Never, ""),
                Code("no_text", Meaning::Never, ""),
            ],
            handle_at: &["/channel", "/ts"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: true,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let hook =
            self.api_url.is_some() || self.api_url_file.is_some() || self.api_url_env.is_some();
        let token = self.app_token.is_some()
            || self.app_token_file.is_some()
            || self.app_token_env.is_some();
        if hook == token {
            return Err(
                "exactly one of `api_url` and `app_token` (or their files) must be set".into()
            );
        }
        if token && self.channel.is_empty() {
            return Err("`channel` must be set beside `app_token`".into());
        }
        let authorized = self.http_config.authorization.is_some();
        if self.update_message && !token && !authorized {
            return Err(
                "`update_message` needs `app_token`: webhooks cannot change a message".into()
            );
        }
        if !self.app_url.is_empty() {
            check_url("app_url", &self.app_url)?;
        }
        self.api_url.as_ref().map_or(Ok(()), |url| check_url("api_url", url.expose()))
    }
}

impl Channel for SlackConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let token = self.app_token()?;
        let url = match &token {
            Some(_) if self.app_url.is_empty() => Secret::new(API),
            Some(_) => Secret::new(&*self.app_url),
            None => there("api_url", self.api_url()?)?,
        };
        place(url.expose())?;
        let mut secrets = if token.is_some() { Vec::new() } else { url_secrets(url.expose()) };
        secrets.extend(token.clone());
        let reach = self.reach(&mut secrets)?;
        let notifier = Slack { config: self.clone(), context: context.clone(), url, token };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct Slack {
    config: SlackConfig,
    context: Context,
    url: Secret,
    token: Option<Secret>,
}

/// The characters with a meaning in every text of Slack's.
fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// Where names become links, a name out of an alert must not.
fn escape_names(c: char, out: &mut String) {
    escape(c, out);
    if matches!(c, '@' | '#') {
        out.push('\u{200b}');
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| escape(c, &mut out));
    out
}

/// What was cut within an entity loses the rest of it.
fn whole_entities(text: String) -> String {
    let Some(stem) = text.strip_suffix('…') else { return text };
    match stem.rfind('&') {
        Some(at) if !stem[at..].contains(';') && stem.len() - at < 5 => format!("{}…", &stem[..at]),
        _ => text,
    }
}

fn names_escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| escape_names(c, &mut out));
    out
}

impl Notifier for Slack {
    fn declared(&self) -> &'static Declared {
        &SlackConfig::DECLARED
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let (config, words) = (&self.config, Words::of(message, &self.context));
        let escape = if config.link_names { escape_names } else { escape };
        let escape_holes = if config.link_names { names_escaped } else { escaped };
        let own = |name: &str, template: Option<&Template>| {
            self.context.own(name, template, message, escape_holes)
        };
        // Where an address stands, nothing is read as markup.
        let address = |name: &str, template: Option<&Template>| {
            let address = self.context.own(name, template, message, str::to_owned);
            address.and_then(page_address)
        };
        let raw = crate::declared::plain;
        let title = own("title", config.title.as_ref());
        let text = own("text", config.text.as_ref());
        let markup = match &config.mrkdwn_in {
            Some(fields) => fields.clone(),
            None if text.is_some() => vec!["text".into(), "pretext".into()],
            None => vec!["pretext".into()],
        };
        let fit = |limit: Limit, own: Option<String>, built_in: &str| match own {
            Some(own) => whole_entities(limit.fit(&own, raw)),
            None => limit.fit(built_in, escape),
        };
        let title = fit(TITLE, title, &words.title);
        let text = fit(TEXT, text, &words.text);
        let link = address("title_link", config.title_link.as_ref()).or(words.link);
        let ack = words.ack;
        let fallback = own("fallback", config.fallback.as_ref());
        let mut attachment = Map::new();
        attachment.insert(
            "fallback".into(),
            fallback.map_or_else(|| title.clone(), |own| fit(TEXT, Some(own), "")).into(),
        );
        attachment.insert("title".into(), title.into());
        attachment.insert("text".into(), text.into());
        attachment.insert("mrkdwn_in".into(), markup.into());
        let colour = || match message.status {
            MessageStatus::Resolved => "good".to_owned(),
            MessageStatus::Firing => format!("#{}", colour(message)),
        };
        let color = own("color", config.color.as_ref()).unwrap_or_else(colour);
        attachment.insert("color".into(), color.into());
        for (name, value) in [
            ("title_link", link),
            ("pretext", own("pretext", config.pretext.as_ref())),
            ("footer", own("footer", config.footer.as_ref())),
            ("callback_id", own("callback_id", config.callback_id.as_ref())),
            ("image_url", address("image_url", config.image_url.as_ref())),
            ("thumb_url", address("thumb_url", config.thumb_url.as_ref())),
        ] {
            if let Some(value) = value {
                attachment.insert(name.into(), TEXT.fit(&value, raw).into());
            }
        }
        let own = |name: &str, template: &Template| own(name, Some(template)).unwrap_or_default();
        let fields = config.fields.iter().map(|field| {
            json!({
                "title": own("fields", &field.title),
                "value": own("fields", &field.value),
                "short": field.short.unwrap_or(config.short_fields),
            })
        });
        let actions = config.actions.iter().map(|action| {
            json!({
                "type": action.kind,
                "text": own("actions", &action.text),
                "url": address("actions", Some(&action.url)).unwrap_or_default(),
                "style": action.style,
                "name": action.name,
                "value": own("actions", &action.value),
            })
        });
        // Whoever wrote buttons of their own put those they want.
        let ack = ack.filter(|_| config.actions.is_empty());
        let ack = ack.map(|url| json!({"type": "button", "text": ACK, "url": url}));
        let actions = actions.chain(ack);
        for (name, list) in [("fields", fields.collect()), ("actions", actions.collect::<Vec<_>>())]
        {
            if !list.is_empty() {
                attachment.insert(name.into(), Value::Array(list));
            }
        }
        let mut body = Map::new();
        body.insert("attachments".into(), json!([attachment]));
        body.insert("link_names".into(), config.link_names.into());
        body.insert("parse".into(), "none".into());
        for (name, template) in
            [("text", config.message_text.as_ref()), ("icon_emoji", config.icon_emoji.as_ref())]
        {
            let value = template.map(|template| own(name, template)).unwrap_or_default();
            if !value.is_empty() {
                body.insert(name.into(), value.into());
            }
        }
        for (name, text) in [("channel", &config.channel), ("username", &config.username)] {
            let value = self.context.one_line(name, text, message);
            if !value.is_empty() {
                body.insert(name.into(), value.into());
            }
        }
        if let Some(icon) = address("icon_url", config.icon_url.as_ref()) {
            body.insert("icon_url".into(), icon.into());
        }
        let mut url = self.url.clone();
        let place = url.expose().strip_suffix("chat.postMessage");
        if let (true, Some(base), Some((channel, ts))) =
            (config.update_message, place, to.handle.and_then(|handle| handle.split_once(' ')))
        {
            body.insert("channel".into(), channel.into());
            body.insert("ts".into(), ts.into());
            url = Secret::new(format!("{base}chat.update"));
        }
        let mut headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        if let Some(token) = &self.token {
            headers.push(("authorization", format!("Bearer {}", token.expose())));
        }
        Request::Post { url, headers, body: Value::Object(body).to_string().into_bytes() }
    }
}
