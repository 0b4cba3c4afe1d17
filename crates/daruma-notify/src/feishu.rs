//! Robots of Feishu and Lark: a card, signed by time and secret, accepted only with `code` 0.
//!
//! All text of the card is `plain_text`, which reads neither markup nor `<at>`.

use daruma_model::{Level, Message, MessageStatus, Span};
use serde_json::json;

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::http::place;
use crate::secret::Secret;
use crate::sign::{base64, hmac_sha256};
use crate::text::url_secrets;
use crate::words::{ACK, Template, Words};

/// A body takes 20 KB.
const TEXT: Limit = Limit::of("text", 17_000, Unit::JsonBytes);
const TITLE: Limit = Limit::of("title", 800, Unit::JsonBytes);

config! {
    /// One entry of `feishu_configs`.
    FeishuConfig;
    secrets {
        /// The robot's address: `https://open.feishu.cn/open-apis/bot/v2/hook/…`, or Lark's.
        api_url, api_url_file, api_url_env;
        /// The robot's secret, if its security setting is a signature.
        secret, secret_file, secret_env;
    }
    fields {
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the built-in text.
        message: Option<Template> = None;
        /// A word added to each message, if the robot's security setting is a keyword.
        keyword: String = String::new();
    }
}

impl FeishuConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "feishu",
        auth: "the robot's address, and HMAC-SHA256 keyed by time and secret",
        limits: &[TITLE, TEXT],
        pace: &[Rate { count: 5, per: Span::secs(1) }, Rate { count: 100, per: Span::secs(60) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/code", "0")],
            code_at: &["/code"],
            codes: &[
                Code("11232", Meaning::Later, "too many messages at this time"),
                Code("11233", Meaning::Later, ""),
                Code("11247", Meaning::Later, ""),
                Code("9499", Meaning::Never, ""),
                Code("19001", Meaning::Never, "the robot was removed; set a new `api_url`"),
                Code("19002", Meaning::Never, ""),
                Code("19021", Meaning::Never, "check `secret` and this host's clock"),
                Code("19022", Meaning::Never, "allow this host's address in the robot's settings"),
                Code("19024", Meaning::Never, "set `keyword` as in the robot's settings"),
            ],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways =
            [self.api_url.is_some(), self.api_url_file.is_some(), self.api_url_env.is_some()];
        needed_secret("api_url", ways)?;
        self.api_url.as_ref().map_or(Ok(()), |url| check_url("api_url", url.expose()))
    }
}

impl Channel for FeishuConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let url = there("api_url", self.api_url()?)?;
        place(url.expose())?;
        let key = self.secret()?;
        let mut secrets = url_secrets(url.expose());
        secrets.extend(key.clone());
        let reach = self.reach(&mut secrets)?;
        let notifier = Feishu { config: self.clone(), context: context.clone(), url, key };
        Ok(Open::of(notifier, reach, secrets))
    }
}

/// Time and secret are the key, and nothing is the text. (DingTalk has it the other way round.)
fn sign(seconds: i64, secret: &str) -> String {
    base64(&hmac_sha256(format!("{seconds}\n{secret}").as_bytes(), b""))
}

struct Feishu {
    config: FeishuConfig,
    context: Context,
    url: Secret,
    key: Option<Secret>,
}

impl Notifier for Feishu {
    fn declared(&self) -> &'static Declared {
        &FeishuConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let words = Words::of(message, &self.context);
        let own = |name, template: &Option<Template>| {
            self.context.own(name, template.as_ref(), message, str::to_owned)
        };
        let title = own("title", &self.config.title).unwrap_or(words.title);
        let mut text = own("message", &self.config.message).unwrap_or(words.text);
        text = TEXT.minus(TEXT.measure(&self.config.keyword) + 2).fit(&text, plain);
        if !self.config.keyword.is_empty() {
            text = format!("{text}\n{}", self.config.keyword);
        }
        let colour = match (message.status, message.level) {
            (MessageStatus::Resolved, _) => "green",
            (_, Level::Critical) => "red",
            (_, Level::Error) => "orange",
            (_, Level::Warning) => "yellow",
            (_, Level::Info) => "blue",
        };
        let mut elements =
            vec![json!({"tag": "div", "text": {"tag": "plain_text", "content": text}})];
        let ack = words.ack.iter().map(|link| (ACK, link));
        let links = words.link.iter().map(|link| ("Open the incident", link)).chain(ack);
        let button = |(words, url)| {
            let text = json!({"tag": "plain_text", "content": words});
            json!({"tag": "button", "text": text, "url": url, "type": "default"})
        };
        let buttons: Vec<_> = links.map(button).collect();
        if !buttons.is_empty() {
            elements.push(json!({"tag": "action", "actions": buttons}));
        }
        let mut body = json!({
            "msg_type": "interactive",
            "card": {
                "config": {"wide_screen_mode": true},
                "header": {
                    "template": colour,
                    "title": {"tag": "plain_text", "content": TITLE.fit(&title, plain)},
                },
                "elements": elements,
            },
        });
        if let Some(key) = &self.key {
            let seconds = self.context.now.0.div_euclid(1000);
            body["timestamp"] = seconds.to_string().into();
            body["sign"] = sign(seconds, key.expose()).into();
        }
        Request::post_json(&self.url, &body)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_signature_is_that_of_the_vendors_rule() {
        let want = "eSJQnOl8XqPTMPHWz9e5IzeHS/tqoc68g2967ekIPmg=";
        assert_eq!(super::sign(1_700_000_000, "test"), want);
    }
}
