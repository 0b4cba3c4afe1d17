//! Telegram: a bot's `sendMessage`.
//!
//! Built-in words go out as HTML with everything from alerts escaped; an invisible blank behind `@`
//! keeps a name in an alert from calling its owner, which Telegram does in any text.

use std::fmt;
use std::path::PathBuf;

use daruma_model::{Message, Span};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::secret::Secret;
use crate::text::html;
use crate::words::{ACK, Template, Words};

/// Telegram counts after it has read the markup; this counts before, which is never less.
const TEXT: Limit = Limit::of("text", 4096, Unit::Utf16);

config! {
    /// One entry of `telegram_configs`.
    TelegramConfig;
    secrets {
        /// The token of the bot.
        bot_token, bot_token_file, bot_token_env;
    }
    fields {
        /// Where the API is.
        api_url: String = "https://api.telegram.org".to_owned();
        /// The chat: its number, or `@name` of a public channel.
        chat_id: Option<ChatId> = None;
        /// The file that holds the chat, read at each attempt.
        chat_id_file: Option<PathBuf> = None;
        /// The topic within the chat.
        message_thread_id: i64 = 0;
        /// Instead of the built-in words.
        message: Option<Template> = None;
        /// Whether it arrives without a sound.
        disable_notifications: bool = false;
        /// How `message` is read: `HTML`, `MarkdownV2`, `Markdown` or nothing.
        parse_mode: ParseMode = ParseMode::Html;
    }
}

/// How Telegram reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParseMode {
    /// A few tags.
    #[serde(rename = "HTML")]
    Html,
    /// Marks.
    MarkdownV2,
    /// Marks as of old.
    Markdown,
    /// As it is.
    #[serde(rename = "")]
    Plain,
}

/// A chat: its number, or `@name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ChatId(pub String);

impl<'de> Deserialize<'de> for ChatId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ChatId, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ChatId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a chat, or @name")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ChatId, E> {
                Ok(ChatId(number.to_string()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ChatId, E> {
                Ok(ChatId(number.to_string()))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ChatId, E> {
                chat(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn chat(text: &str) -> Result<ChatId, String> {
    let text = text.trim();
    let name = text.strip_prefix('@').is_some_and(|name| !name.is_empty());
    if text.len() <= 64 && (name || text.parse::<i64>().is_ok()) {
        return Ok(ChatId(text.to_owned()));
    }
    Err("`chat_id` is the number of a chat, or @name of a public channel".to_owned())
}

impl TelegramConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "telegram",
        auth: "the bot's token in the address",
        limits: &[TEXT],
        // To one group; more are answered with 429.
        pace: &[Rate { count: 1, per: Span::secs(1) }, Rate { count: 20, per: Span::secs(60) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/ok", "true")],
            code_at: &["/error_code"],
            codes: &[
                Code("400", Meaning::Never, "is `chat_id` right, and the bot in the chat?"),
                Code("401", Meaning::Never, "set a new `bot_token`"),
                Code("403", Meaning::Never, "the bot was thrown out of the chat, or blocked"),
                Code("404", Meaning::Never, "set a new `bot_token`"),
                Code("429", Meaning::Later, ""),
            ],
            wait_at: &["/parameters/retry_after"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways =
            [self.bot_token.is_some(), self.bot_token_file.is_some(), self.bot_token_env.is_some()];
        needed_secret("bot_token", ways)?;
        if self.chat_id.is_some() == self.chat_id_file.is_some() {
            return Err("exactly one of `chat_id` and `chat_id_file` must be set".to_owned());
        }
        if self.chat_id == Some(ChatId("0".into())) {
            return Err("`chat_id` must be set".to_owned());
        }
        check_url("api_url", &self.api_url)
    }
}

impl Channel for TelegramConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let token = there("bot_token", self.bot_token()?)?;
        let chat = match (&self.chat_id, &self.chat_id_file) {
            (Some(chat), _) => chat.clone(),
            (None, Some(file)) => chat(Secret::read(file)?.expose())?,
            (None, None) => return Err("`chat_id` must be set".to_owned()),
        };
        let base = self.api_url.trim_end_matches('/');
        let url = Secret::new(format!("{base}/bot{}/sendMessage", token.expose()));
        let mut secrets = vec![token];
        let reach = self.reach(&mut secrets)?;
        let notifier = Telegram { config: self.clone(), context: context.clone(), url, chat };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct Telegram {
    config: TelegramConfig,
    context: Context,
    url: Secret,
    chat: ChatId,
}

fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '@' => out.push_str("@\u{200b}"),
        c => out.push(c),
    }
}

fn escape_markdown(c: char, out: &mut String) {
    if "\\_*[]()~`>#+-=|{}.!".contains(c) {
        out.push('\\');
    }
    out.push(c);
    if c == '@' {
        out.push('\u{200b}');
    }
}

fn all(text: &str, escape: fn(char, &mut String)) -> String {
    let mut out = String::new();
    text.chars().for_each(|c| escape(c, &mut out));
    out
}

impl Notifier for Telegram {
    fn declared(&self) -> &'static Declared {
        &TelegramConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let escaped: fn(&str) -> String = match self.config.parse_mode {
            ParseMode::Html => |text| all(text, escape),
            ParseMode::MarkdownV2 => |text| all(text, escape_markdown),
            ParseMode::Markdown => |text| all(text, crate::words::inert),
            ParseMode::Plain => |text| text.replace('@', "@\u{200b}"),
        };
        let own = self.context.own("message", self.config.message.as_ref(), message, escaped);
        let (text, mode) = match own {
            // Cut markup would be refused for good.
            Some(text)
                if self.config.parse_mode != ParseMode::Plain && TEXT.measure(&text) > TEXT.max =>
            {
                self.context.note("built-in words for `message`: it is too long for Telegram");
                (self.built_in(message), ParseMode::Html)
            }
            Some(text) => (TEXT.fit(&text, plain), self.config.parse_mode),
            None => (self.built_in(message), ParseMode::Html),
        };
        let mut body = json!({
            "chat_id": self.chat.0.parse::<i64>().map_or(Value::String(self.chat.0.clone()), Value::from),
            "text": text,
            "disable_notification": self.config.disable_notifications,
            "link_preview_options": {"is_disabled": true},
        });
        if let Some(link) = self.context.ack(message).filter(|link| is_known_to_all(link)) {
            body["reply_markup"] = json!({"inline_keyboard": [[{"text": ACK, "url": link}]]});
        }
        if mode != ParseMode::Plain {
            body["parse_mode"] = json!(mode);
        }
        if self.config.message_thread_id != 0 {
            body["message_thread_id"] = self.config.message_thread_id.into();
        }
        Request::post_json(&self.url, &body)
    }
}

impl Telegram {
    fn built_in(&self, message: &Message) -> String {
        let words = Words::of(message, &self.context);
        let title = TEXT.minus(3000).fit(&words.title, escape);
        let end = words.link.map_or_else(String::new, |link| {
            let link = html(&link);
            format!("\n<a href=\"{link}\">{link}</a>")
        });
        let ack = words.ack.filter(|link| !is_known_to_all(link));
        let end = ack.map_or(end.clone(), |link| format!("{end}\n{ACK}: {}", html(&link)));
        let start = format!("<b>{title}</b>\n");
        let taken = TEXT.measure(&start) + TEXT.measure(&end);
        format!("{start}{}{end}", TEXT.minus(taken).fit(&words.text, escape))
    }
}

/// Whether a button may lead there: the vendor refuses a whole message for one that leads to a name
/// only a local network knows.
fn is_known_to_all(url: &str) -> bool {
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    host.trim_matches('.').contains('.') || url.contains("://[")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_text_becomes_a_tag_a_mark_or_a_mention(text in "[<>&\"@a_*.!\\\\\\[\\]()]{0,60}") {
            let html = all(&text, escape);
            proptest::prop_assert!(!html.contains(['<', '>', '"']) && !html.contains("@a"));
            let mut rest = all(&text, escape_markdown);
            proptest::prop_assert!(!rest.contains("@a"));
            while let Some(c) = rest.chars().next() {
                let len = if c == '\\' { 2 } else { c.len_utf8() };
                let harmless = matches!(c, '<' | '&' | '"' | '@' | 'a' | '\u{200b}');
                proptest::prop_assert!(len == 2 || harmless, "{}", rest);
                rest = rest[len..].to_owned();
            }
        }
    }
}
