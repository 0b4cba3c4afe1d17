//! What chats, pages and text messages say unless the configuration has its own words.

use std::fmt;
use std::sync::Arc;

use daruma_model::{Level, Message, MessageStatus};
use serde::{Deserialize, Serialize};

use crate::channel::Context;
use crate::text::line;

/// Expands a template over a message; the function escapes what comes from alerts, as the markup of the
/// channel needs it. The engine belongs to another stage and is handed in.
pub type Render =
    Arc<dyn Fn(&str, &Message, fn(&str) -> String) -> Result<String, String> + Send + Sync>;

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
        let url = &context.external_url;
        let link = (!url.is_empty()).then(|| format!("{url}/incident/{}", message.incident));
        let text = text.trim_start_matches('\n').to_owned();
        Words { title, text, link, status: self::status(message.status) }
    }
}

impl Context {
    /// The configuration's own words, if it has any that can be had; `true` when they are its own.
    /// A template that fails must not keep a message from being sent: it goes out in built-in words,
    /// and the ledger says why.
    pub(crate) fn own(
        &self,
        name: &str,
        template: Option<&Template>,
        message: &Message,
        escape: fn(&str) -> String,
    ) -> Option<String> {
        let Template(text) = template.filter(|template| !template.0.is_empty())?;
        if !text.contains("{{") {
            return Some(clean(text));
        }
        let rendered = match &self.render {
            Some(render) => render(text, message, escape),
            None => Err("no template engine is at hand".to_owned()),
        };
        match rendered {
            Ok(text) => Some(clean(&text)),
            Err(why) => {
                let note = format!("built-in words for `{name}`: {}", line(&why, 200));
                let mut notes =
                    self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                notes.insert(note);
                None
            }
        }
    }
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
