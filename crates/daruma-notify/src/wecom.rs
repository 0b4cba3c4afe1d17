//! Robots of WeCom: no signature, so the key in the address is the secret; accepted only with
//! `errcode` 0.

use daruma_model::{Message, Span};
use serde_json::json;

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::dingtalk::{TextOrMarkdown, made_inert};
use crate::secret::Secret;
use crate::sign::percent;
use crate::words::{ACK, Template, Words, inert};

/// Of a message in the form `text`.
const TEXT: Limit = Limit::of("text", 2048, Unit::Bytes);
/// Of a message in the form `markdown`.
const MARKDOWN: Limit = Limit::of("markdown", 4096, Unit::Bytes);
const TITLE: Limit = Limit::of("title", 400, Unit::Bytes);

config! {
    /// One entry of `wecom_configs`.
    WeComConfig;
    secrets {
        /// The robot's key.
        key, key_file, key_env;
    }
    fields {
        /// Where robots are.
        api_url: String = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send".to_owned();
        /// The form of messages.
        message_type: TextOrMarkdown = TextOrMarkdown::Text;
        /// Instead of the built-in words.
        message: Option<Template> = None;
        /// Whom to call, by user id, or `@all`; in the form `text`.
        mentioned_list: Vec<String> = Vec::new();
        /// Whom to call, by phone number, or `@all`; in the form `text`.
        mentioned_mobile_list: Vec<String> = Vec::new();
    }
}

/// Codes that all of WeCom's interfaces share.
pub(crate) const ANSWERS: Answers = Answers {
    statuses: &[200],
    says: &[Says::Is("/errcode", "0")],
    code_at: &["/errcode"],
    codes: &[
        Code("-1", Meaning::Later, ""),
        Code("45009", Meaning::Later, "too many messages"),
        Code("45033", Meaning::Later, "too many messages at a time"),
        Code("42001", Meaning::Stale, "the access token has run out"),
        Code("40014", Meaning::Stale, "the access token is not valid"),
        Code("93000", Meaning::Never, "the robot was removed; set a new `key`"),
        Code("93008", Meaning::Never, "the robot is not in the group"),
        Code("40001", Meaning::Never, "set another `api_secret`"),
        Code("40013", Meaning::Never, "set another `corp_id`"),
        Code("40056", Meaning::Never, "set another `agent_id`"),
        Code("60020", Meaning::Never, "allow this host's address in the application's settings"),
        Code("81013", Meaning::Never, "nobody of the addressees is known"),
        Code("40003", Meaning::Never, "set another `to_user`"),
        Code("40008", Meaning::Never, ""),
        Code("40058", Meaning::Never, ""),
        Code("44004", Meaning::Never, ""),
        Code("45002", Meaning::Never, "it is too long"),
    ],
    ..Answers::HTTP
};

impl WeComConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "wecom",
        auth: "`key` in the address",
        limits: &[TITLE, TEXT, MARKDOWN],
        pace: &[Rate { count: 20, per: Span::secs(60) }],
        answers: ANSWERS,
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        needed_secret(
            "key",
            [self.key.is_some(), self.key_file.is_some(), self.key_env.is_some()],
        )?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for WeComConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let key = there("key", self.key()?)?;
        let url = Secret::new(format!("{}?key={}", self.api_url, percent(key.expose())));
        let mut secrets = vec![key];
        let reach = self.reach(&mut secrets)?;
        let notifier = WeCom { config: self.clone(), context: context.clone(), url };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct WeCom {
    config: WeComConfig,
    context: Context,
    url: Secret,
}

/// The words of a message in one of WeCom's two forms.
pub(crate) fn content(
    form: TextOrMarkdown,
    own: Option<String>,
    message: &Message,
    context: &Context,
) -> String {
    let markdown = form == TextOrMarkdown::Markdown;
    let limit = if markdown { MARKDOWN } else { TEXT };
    if let Some(own) = own {
        return limit.fit(&own, plain);
    }
    let words = Words::of(message, context);
    let escape = if markdown { inert } else { plain };
    let title = TITLE.fit(&words.title, escape);
    let title = if markdown { format!("**{title}**\n") } else { format!("{title}\n") };
    let link = words.link.map_or_else(String::new, |link| match markdown {
        true => format!("\n[{link}]({link})"),
        false => format!("\n{link}"),
    });
    let ack = words.ack.map_or_else(String::new, |ack| match markdown {
        true => format!("\n[{ACK}]({ack})"),
        false => format!("\n{ACK}: {ack}"),
    });
    let link = link + &ack;
    let text = limit.minus(title.len() + link.len()).fit(&words.text, escape);
    format!("{title}{text}{link}")
}

impl Notifier for WeCom {
    fn declared(&self) -> &'static Declared {
        &WeComConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let config = &self.config;
        let markdown = config.message_type == TextOrMarkdown::Markdown;
        let escape = if markdown { made_inert } else { str::to_owned };
        let own = self.context.own("message", config.message.as_ref(), message, escape);
        let content = content(config.message_type, own, message, &self.context);
        let body = if markdown {
            json!({"msgtype": "markdown", "markdown": {"content": content}})
        } else {
            json!({"msgtype": "text", "text": {
                "content": content,
                "mentioned_list": config.mentioned_list,
                "mentioned_mobile_list": config.mentioned_mobile_list,
            }})
        };
        Request::post_json(&self.url, &body)
    }
}
