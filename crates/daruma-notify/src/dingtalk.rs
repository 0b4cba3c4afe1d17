//! Robots of DingTalk: signed by time and secret, accepted only with `errcode` 0.
//!
//! The built-in form is `text`, which reads no markup; whom it calls is said by `at` alone. In the form
//! `markdown` every mark from an alert becomes its full-width twin.

use daruma_model::{Message, Span};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::secret::Secret;
use crate::sign::{base64, hmac_sha256, percent};
use crate::words::{ACK, Template, Words, inert};

/// A message takes 20,000 bytes.
const TEXT: Limit = Limit::of("text", 18_000, Unit::JsonBytes);
const TITLE: Limit = Limit::of("title", 200, Unit::Chars);

config! {
    /// One entry of `dingtalk_configs`.
    DingTalkConfig;
    secrets {
        /// The robot's `access_token`.
        access_token, access_token_file, access_token_env;
        /// The robot's secret, `SEC…`, if its security setting is a signature.
        secret, secret_file, secret_env;
    }
    fields {
        /// Where robots are.
        api_url: String = "https://oapi.dingtalk.com/robot/send".to_owned();
        /// The form of messages.
        message_type: TextOrMarkdown = TextOrMarkdown::Text;
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the built-in text.
        message: Option<Template> = None;
        /// A word added to each message, if the robot's security setting is a keyword.
        keyword: String = String::new();
        /// Whom to call, by phone number.
        at_mobiles: Vec<String> = Vec::new();
        /// Whom to call, by user id.
        at_user_ids: Vec<String> = Vec::new();
        /// Whether to call everybody.
        at_all: bool = false;
    }
}

/// The form of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextOrMarkdown {
    /// As it is.
    #[default]
    Text,
    /// With markup.
    Markdown,
}

impl DingTalkConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "dingtalk",
        auth: "`access_token` in the address, and HMAC-SHA256 of time and secret",
        limits: &[TITLE, TEXT],
        // One more blocks the robot for ten minutes.
        pace: &[Rate { count: 20, per: Span::secs(60) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/errcode", "0")],
            code_at: &["/errcode"],
            codes: &[
                Code("-1", Meaning::Later, ""),
                Code("130101", Meaning::Later, "too many messages"),
                Code("410100", Meaning::Later, "too many messages"),
                Code(
                    "310000",
                    Meaning::Never,
                    "check `secret`, `keyword`, the clock and allowed addresses",
                ),
                Code("300001", Meaning::Never, "set a new `access_token`"),
                Code("40014", Meaning::Never, "set a new `access_token`"),
                Code("400101", Meaning::Never, "set a new `access_token`"),
                Code("400102", Meaning::Never, "the robot was stopped"),
                Code("400013", Meaning::Never, "the group was dissolved"),
                Code("400105", Meaning::Never, ""),
                Code("400106", Meaning::Never, "the robot was removed"),
                Code("40035", Meaning::Never, ""),
                Code("43004", Meaning::Never, ""),
                Code("430101", Meaning::Never, "a link in it is held to be unsafe"),
                Code("430102", Meaning::Never, "its text is held to be unfit"),
                Code("430103", Meaning::Never, "a picture in it is held to be unfit"),
                Code("430104", Meaning::Never, "its text is held to be unfit"),
            ],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.access_token.is_some(),
            self.access_token_file.is_some(),
            self.access_token_env.is_some(),
        ];
        needed_secret("access_token", ways)?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for DingTalkConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let token = there("access_token", self.access_token()?)?;
        let key = self.secret()?;
        let mut url = format!("{}?access_token={}", self.api_url, percent(token.expose()));
        if let Some(key) = &key {
            let sign = percent(&sign(context.now.0, key.expose()));
            url.push_str(&format!("&timestamp={}&sign={sign}", context.now.0));
        }
        let mut secrets = vec![token];
        secrets.extend(key);
        let reach = self.reach(&mut secrets)?;
        let notifier =
            DingTalk { config: self.clone(), context: context.clone(), url: Secret::new(url) };
        Ok(Open::of(notifier, reach, secrets))
    }
}

/// The secret is the key, time and secret are the text. (Feishu has it the other way round.)
fn sign(millis: i64, secret: &str) -> String {
    base64(&hmac_sha256(secret.as_bytes(), format!("{millis}\n{secret}").as_bytes()))
}

struct DingTalk {
    config: DingTalkConfig,
    context: Context,
    url: Secret,
}

pub(crate) fn made_inert(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| inert(c, &mut out));
    out
}

impl Notifier for DingTalk {
    fn declared(&self) -> &'static Declared {
        &DingTalkConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let (config, words) = (&self.config, Words::of(message, &self.context));
        let own = |name, template: &Option<Template>| {
            self.context.own(name, template.as_ref(), message, made_inert)
        };
        let markdown = config.message_type == TextOrMarkdown::Markdown;
        let escape = if markdown { inert } else { plain };
        let title = own("title", &config.title)
            .map_or_else(|| TITLE.fit(&words.title, escape), |title| TITLE.fit(&title, plain));
        let mut end = String::new();
        if let Some(link) = &words.link {
            let link = if markdown { format!("[{link}]({link})") } else { link.clone() };
            end.push_str(&format!("\n\n{link}"));
        }
        if let Some(link) = &words.ack {
            let link = if markdown { format!("[{ACK}]({link})") } else { format!("{ACK}: {link}") };
            end.push_str(&format!("\n\n{link}"));
        }
        // The group shows who is called where the text names them.
        let called = config.at_mobiles.iter().chain(&config.at_user_ids);
        for word in called.map(|name| format!("@{name}")).chain([config.keyword.clone()]) {
            if !word.is_empty() {
                end.push_str(&format!("\n{word}"));
            }
        }
        let room = TEXT.minus(TEXT.measure(&end) + TEXT.measure(&title) + 16);
        let text = match own("message", &config.message) {
            Some(text) => room.fit(&text, plain),
            // Markdown joins lines unless they end with two blanks.
            None if markdown => room.fit(&words.text, |c, out| match c {
                '\n' => out.push_str("  \n"),
                c => inert(c, out),
            }),
            None => room.fit(&words.text, plain),
        };
        let body = if markdown {
            let text = format!("#### {title}\n\n{text}{end}");
            json!({"msgtype": "markdown", "markdown": {"title": title, "text": text}})
        } else {
            json!({"msgtype": "text", "text": {"content": format!("{title}\n{text}{end}")}})
        };
        let mut body = body;
        body["at"] = json!({
            "atMobiles": config.at_mobiles, "atUserIds": config.at_user_ids, "isAtAll": config.at_all,
        });
        Request::post_json(&self.url, &body)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_signature_is_that_of_the_vendors_rule() {
        let want = "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g=";
        assert_eq!(super::sign(1_700_000_000_000, "SECtest"), want);
    }
}
