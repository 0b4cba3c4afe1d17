//! Where the text of an expansion goes: what the template says passes as it is, what stands in its
//! holes is escaped for the place it lands in.

use crate::html::Html;
use crate::value::{Safe, Value};

/// How what fills the holes of a template is kept from becoming markup.
#[derive(Debug, Clone, Copy)]
pub enum Escape {
    /// It is plain text: nothing is changed.
    Text,
    /// HTML: by the place of the hole, be it text, an attribute, an address or a style. A hole within a
    /// script, the name of an attribute or of a tag makes the expansion fail.
    Html,
    /// JSON: within quotes it stays within them; outside, what is no value by itself gets quotes.
    Json,
    /// Another language, by its own function; what went through `safeHtml` is left alone.
    With(fn(&str) -> String),
}

pub(crate) struct Sink {
    out: String,
    bytes_max: usize,
    state: State,
}

enum State {
    Text,
    With(fn(&str) -> String),
    Html(Html),
    Json { quoted: bool, escaped: bool },
}

impl Sink {
    pub(crate) fn new(escape: Escape, bytes_max: usize) -> Sink {
        let state = match escape {
            Escape::Text => State::Text,
            Escape::Html => State::Html(Html::default()),
            Escape::Json => State::Json { quoted: false, escaped: false },
            Escape::With(escape) => State::With(escape),
        };
        Sink { out: String::new(), bytes_max, state }
    }

    fn push(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > self.bytes_max {
            return Err(format!("more than {} bytes", self.bytes_max));
        }
        self.out.push_str(text);
        Ok(())
    }

    /// What the template itself says.
    pub(crate) fn literal(&mut self, text: &str) -> Result<(), String> {
        match &mut self.state {
            State::Text | State::With(_) => {}
            State::Html(html) => html.literal(text)?,
            State::Json { quoted, escaped } => json_over(text, quoted, escaped),
        }
        self.push(text)
    }

    /// What stands in a hole.
    pub(crate) fn hole(&mut self, value: &Value, text: &str) -> Result<(), String> {
        let escaped = match &mut self.state {
            State::Text => return self.push(text),
            State::With(_) if matches!(value, Value::Safe(Safe::Html, _)) => {
                return self.push(text);
            }
            State::With(escape) => escape(text),
            State::Html(html) => {
                let safe = match value {
                    Value::Safe(safe, _) => Some(*safe),
                    _ => None,
                };
                html.hole(text, safe)?
            }
            State::Json { quoted: true, .. } => {
                let whole = serde_json::Value::from(text).to_string();
                whole[1..whole.len() - 1].to_owned()
            }
            State::Json { .. } => {
                if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
                    text.to_owned()
                } else {
                    serde_json::Value::from(text).to_string()
                }
            }
        };
        self.push(&escaped)
    }

    pub(crate) fn end(self) -> Result<String, String> {
        if let State::Html(html) = &self.state {
            html.end()?;
        }
        Ok(self.out)
    }
}

fn json_over(text: &str, quoted: &mut bool, escaped: &mut bool) {
    for c in text.chars() {
        match (*quoted, c) {
            (true, _) if *escaped => *escaped = false,
            (true, '\\') => *escaped = true,
            (_, '"') => *quoted = !*quoted,
            _ => {}
        }
    }
}
