//! What chats, pages and text messages say unless the configuration has its own words.

use std::fmt;

use daruma_model::{Level, Message, MessageStatus, Time};
use daruma_template::{Data, Escape, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channel::Context;
use crate::text::line;

/// Words of the configuration: a text, or with `{{` a template in Go's language.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub String);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The built-in words.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// One line.
    pub(crate) title: String,
    /// Lines: what happened, and the alerts.
    pub(crate) text: String,
    /// The page of the incident.
    pub(crate) link: Option<String>,
    /// By this link whoever reads it takes the incident on.
    pub(crate) ack: Option<String>,
    /// `firing` or `resolved`.
    pub(crate) status: &'static str,
}

impl Words {
    pub(crate) fn of(message: &Message, context: &Context) -> Words {
        let mut text = clean(message.text.trim_end());
        for alert in &message.alerts {
            let status = status(alert.status);
            text.push_str(&format!("\n{status}: {}", line(&alert.labels.to_string(), 500)));
            for name in ["summary", "description"] {
                let words = alert.annotations.get(name);
                if !words.is_empty() {
                    text.push_str(&format!("\n  {}", line(words, 500)));
                }
            }
        }
        let title = match line(&visible(&message.title), 500) {
            title if title.is_empty() => format!("incident {}", message.incident),
            title => title,
        };
        let (link, ack) = (context.page(message), context.ack(message));
        let text = text.trim_start_matches('\n').to_owned();
        Words { title, text, link, ack, status: self::status(message.status) }
    }
}

impl Context {
    /// The configuration's own words, if it has any that can be had, with `escape` over what fills
    /// their holes. A template that fails must not keep a message from being sent: it goes out in
    /// built-in words, and the ledger says why.
    pub(crate) fn own(
        &self,
        name: &str,
        template: Option<&Template>,
        message: &Message,
        escape: fn(&str) -> String,
    ) -> Option<String> {
        self.filled(name, template, message, Escape::With(escape))
    }

    /// What the ledger should know.
    pub(crate) fn note(&self, note: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.insert(note.to_owned());
    }

    /// What whoever checks the configuration should know, and the ledger need not.
    pub(crate) fn advise(&self, note: impl FnOnce() -> String) {
        if self.checks {
            self.note(&note());
        }
    }

    /// The same with any [`Escape`].
    pub(crate) fn filled(
        &self,
        name: &str,
        template: Option<&Template>,
        message: &Message,
        escape: Escape,
    ) -> Option<String> {
        let Template(text) = template.filter(|template| !template.0.is_empty())?;
        if !text.contains("{{") {
            return Some(clean(text));
        }
        let mut data = data(message, &self.external_url);
        data.ack_url = self.ack(message).unwrap_or_default();
        match self.templates.expand(text, &data, escape) {
            // A title is one line wherever it is shown.
            Ok(text) if name == "title" => Some(clean(text.trim()).replace('\n', " ")),
            Ok(text) => Some(clean(&text)),
            Err(why) => {
                self.note(&format!("built-in words for `{name}`: {}", line(&why, 200)));
                None
            }
        }
    }

    /// A value of the configuration with the templates in its texts filled; a text that `toJson` makes
    /// becomes what it describes. `None` if one of them cannot be had.
    pub(crate) fn deep(&self, name: &str, value: &Value, message: &Message) -> Option<Value> {
        Some(match value {
            Value::String(text) if text.contains("{{") => {
                let template = Template(text.clone());
                let filled = self.filled(name, Some(&template), message, Escape::Text)?;
                let whole = if text.contains("toJson") {
                    serde_json::from_str(&filled)
                        .ok()
                        .filter(|value: &Value| value.is_object() || value.is_array())
                } else {
                    None
                };
                whole.unwrap_or(Value::String(filled))
            }
            Value::Array(items) => {
                items.iter().map(|item| self.deep(name, item, message)).collect::<Option<_>>()?
            }
            Value::Object(fields) => {
                let mut filled = serde_json::Map::new();
                for (key, value) in fields {
                    let key = self.one_line(name, key, message);
                    filled.insert(key, self.deep(name, value, message)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    /// One line of the configuration that may hold a template; empty if it cannot be had.
    pub(crate) fn one_line(&self, name: &str, text: &str, message: &Message) -> String {
        if !text.contains("{{") {
            return text.to_owned();
        }
        let template = Template(text.to_owned());
        let filled = self.filled(name, Some(&template), message, Escape::Text);
        filled.map(|text| line(&text, 900)).unwrap_or_default()
    }
}

/// The word on the button or the link by which somebody takes an incident on.
pub(crate) const ACK: &str = "I look after it";

/// What templates see of a message. It depends on the message alone, so that a repeated attempt says
/// the same.
#[must_use]
pub fn data(message: &Message, external_url: &str) -> Data {
    Data { zones: Some(zone), ..Data::of(message, external_url) }
}

/// What the clocks of a place show, by the system's own tables.
fn zone(name: &str, time: Time) -> Option<Zone> {
    if name.len() > 64 {
        return None;
    }
    let zone = match name {
        "Local" => jiff::tz::TimeZone::try_system().ok()?,
        name => jiff::tz::TimeZone::get(name).ok()?,
    };
    let info = zone.to_offset_info(jiff::Timestamp::from_millisecond(time.0).ok()?);
    Some(Zone { seconds: info.offset().seconds(), name: info.abbreviation().to_owned() })
}

/// An address that a click may follow: that of a page.
pub(crate) fn page_address(address: String) -> Option<String> {
    let page = address.starts_with("http://") || address.starts_with("https://");
    (page && !address.contains(char::is_whitespace)).then_some(address)
}

pub(crate) fn status(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Firing => "firing",
        MessageStatus::Resolved => "resolved",
    }
}

/// Without what no reader should have to obey: control characters besides line ends and tabs, and
/// those that turn the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let kept = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    kept.filter(|c| !turns(*c)).collect()
}

fn visible(text: &str) -> String {
    text.chars().filter(|c| !turns(*c)).collect()
}

fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The colour of a message, as `rrggbb`.
pub(crate) fn colour(message: &Message) -> &'static str {
    match (message.status, message.level) {
        (MessageStatus::Resolved, _) => "2e7d32",
        (_, Level::Critical) => "b71c1c",
        (_, Level::Error) => "e65100",
        (_, Level::Warning) => "f9a825",
        (_, Level::Info) => "1565c0",
    }
}

/// Markdown of unknown dialects: whatever might be markup becomes its full-width twin, which no
/// dialect reads, and no line begins like a list, a heading or a quotation.
pub(crate) fn inert(c: char, out: &mut String) {
    let at_start = out.is_empty() || out.ends_with('\n');
    match c {
        '-' | '+' | '=' | '0'..='9' | ' ' | '\t' if at_start => out.push('\u{200b}'),
        _ => {}
    }
    out.push(match c {
        '!'..='/' | ':'..='@' | '['..='`' | '{'..='~' if MARKS.contains(c) => {
            // U+FF01 to U+FF5E stand in the order of ASCII.
            char::from_u32(c as u32 + 0xfee0).unwrap_or(' ')
        }
        c => c,
    });
}

const MARKS: &str = "\\`*_{}[]<>()#!|~@$&";

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn inert_text_holds_no_mark_of_any_dialect(text in "[\\x20-\\x7e\n]{0,80}") {
            let mut out = String::new();
            text.chars().for_each(|c| inert(c, &mut out));
            proptest::prop_assert!(!out.contains(|c| MARKS.contains(c)));
            for line in out.lines() {
                proptest::prop_assert!(!line.starts_with(['-', '+', '=', ' ', '#', '>']));
            }
        }
    }
}
