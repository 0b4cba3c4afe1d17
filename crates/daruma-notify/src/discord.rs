//! Discord: an embed posted to a webhook, with `wait=true`, so that the answer is the message itself.
//!
//! Nobody is mentioned (`allowed_mentions` is empty), and what comes from alerts has its marks escaped.

use daruma_model::{Message, Span};
use serde_json::{Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::http::place;
use crate::secret::Secret;
use crate::text::url_secrets;
use crate::words::{ACK, Template, Words, colour};

const TITLE: Limit = Limit::of("title", 256, Unit::Utf16);
const TEXT: Limit = Limit::of("message", 4096, Unit::Utf16);
const CONTENT: Limit = Limit::of("content", 2000, Unit::Utf16);

config! {
    /// One entry of `discord_configs`.
    DiscordConfig;
    secrets {
        /// The address of the webhook.
        webhook_url, webhook_url_file, webhook_url_env;
    }
    fields {
        /// Before the embed.
        content: Option<Template> = None;
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the built-in text.
        message: Option<Template> = None;
        /// The name to post under.
        username: String = String::new();
        /// The picture of the poster.
        avatar_url: String = String::new();
    }
}

impl DiscordConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "discord",
        auth: "the address of the webhook",
        limits: &[TITLE, TEXT, CONTENT],
        pace: &[Rate { count: 5, per: Span::secs(2) }, Rate { count: 30, per: Span::secs(60) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Has("/id")],
            code_at: &["/code"],
            codes: &[
                Code("10015", Meaning::Never, "the webhook was deleted; set a new `webhook_url`"),
                Code("50027", Meaning::Never, "set a new `webhook_url`"),
                Code("50035", Meaning::Never, ""),
            ],
            wait_at: &["/retry_after"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.webhook_url.is_some(),
            self.webhook_url_file.is_some(),
            self.webhook_url_env.is_some(),
        ];
        needed_secret("webhook_url", ways)?;
        self.webhook_url.as_ref().map_or(Ok(()), |url| check_url("webhook_url", url.expose()))
    }
}

impl Channel for DiscordConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let url = there("webhook_url", self.webhook_url()?)?;
        place(url.expose())?;
        let mut secrets = url_secrets(url.expose());
        let reach = self.reach(&mut secrets)?;
        let glue = if url.expose().contains('?') { '&' } else { '?' };
        let url = Secret::new(format!("{}{glue}wait=true", url.expose().trim()));
        let notifier = Discord { config: self.clone(), context: context.clone(), url };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct Discord {
    config: DiscordConfig,
    context: Context,
    url: Secret,
}

fn escape(c: char, out: &mut String) {
    if "\\*_~`|>#[]()<:@-+".contains(c) {
        out.push('\\');
    }
    out.push(c);
    // Numbered lists have no backslash that stops them.
    if c.is_ascii_digit() && out.len() == 1 {
        out.insert(0, '\u{200b}');
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| escape(c, &mut out));
    out
}

impl Notifier for Discord {
    fn declared(&self) -> &'static Declared {
        &DiscordConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let words = Words::of(message, &self.context);
        let own = |name, template: &Option<Template>| {
            self.context.own(name, template.as_ref(), message, escaped)
        };
        let title = own("title", &self.config.title)
            .map_or_else(|| TITLE.fit(&words.title, escape), |title| TITLE.fit(&title, plain));
        let text = own("message", &self.config.message)
            .map_or_else(|| TEXT.fit(&words.text, escape), |text| TEXT.fit(&text, plain));
        let mut embed = json!({
            "title": title,
            "description": text,
            "color": u32::from_str_radix(colour(message), 16).unwrap_or(0),
        });
        if let Some(link) = words.link {
            embed["url"] = link.into();
        }
        if let Some(link) = words.ack {
            embed["fields"] = json!([{"name": "\u{200b}", "value": format!("[{ACK}]({link})")}]);
        }
        let mut body = json!({"embeds": [embed], "allowed_mentions": {"parse": []}});
        let content = own("content", &self.config.content).unwrap_or_default();
        for (name, value) in [
            ("content", CONTENT.fit(&content, plain)),
            ("username", self.context.one_line("username", &self.config.username, message)),
            ("avatar_url", self.context.one_line("avatar_url", &self.config.avatar_url, message)),
        ] {
            if !value.is_empty() {
                body[name] = Value::String(value);
            }
        }
        Request::post_json(&self.url, &body)
    }
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn every_mark_is_escaped(text in "[*_`~|<>@#a \\\\\\[\\]()]{0,60}") {
            let mut rest = super::escaped(&text);
            while let Some(c) = rest.chars().next() {
                let len = if c == '\\' { 2 } else { c.len_utf8() };
                let harmless = matches!(c, 'a' | ' ' | '\u{200b}');
                proptest::prop_assert!(len == 2 || harmless, "{}", rest);
                rest = rest[len..].to_owned();
            }
        }
    }
}
