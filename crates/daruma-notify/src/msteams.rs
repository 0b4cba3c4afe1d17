//! Microsoft Teams: a card posted to a workflow.
//!
//! All text stands in `TextRun`s, which unlike `TextBlock`s read no Markdown; and nobody is mentioned,
//! since a card without `entities` cannot.

use daruma_model::{Message, MessageStatus, Span};
use serde_json::{Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::http::place;
use crate::secret::Secret;
use crate::text::url_secrets;
use crate::words::{ACK, Template, Words};

/// A message of Teams takes 28 KB; the card around the text, 2 of them.
const TEXT: Limit = Limit::of("text", 24_000, Unit::JsonBytes);
const TITLE: Limit = Limit::of("title", 1_000, Unit::JsonBytes);
/// Blocks of text in a card.
const BLOCKS_MAX: usize = 20;

config! {
    /// One entry of `msteamsv2_configs`.
    MsTeamsConfig;
    secrets {
        /// The address of the workflow.
        webhook_url, webhook_url_file, webhook_url_env;
    }
    fields {
        /// Instead of the built-in title.
        title: Option<Template> = None;
        /// Instead of the built-in text.
        text: Option<Template> = None;
    }
}

impl MsTeamsConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "msteamsv2",
        auth: "the address of the workflow",
        limits: &[TITLE, TEXT],
        pace: &[Rate { count: 4, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[200, 202],
            // Errors behind the workflow came with status 200 and this in the body.
            says: &[Says::Without("HTTP error")],
            code_at: &["/error/code"],
            codes: &[
                Code("WorkflowTriggerIsNotEnabled", Meaning::Never, "turn the workflow on"),
                Code("DirectApi*", Meaning::Never, "set the new address of the workflow"),
                Code("404", Meaning::Never, "the workflow was deleted; set a new `webhook_url`"),
                Code("410", Meaning::Never, "the workflow was deleted; set a new `webhook_url`"),
                Code("413", Meaning::Never, ""),
            ],
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

impl Channel for MsTeamsConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let url = there("webhook_url", self.webhook_url()?)?;
        place(url.expose())?;
        let mut secrets = url_secrets(url.expose());
        let reach = self.reach(&mut secrets)?;
        let notifier = MsTeams { config: self.clone(), context: context.clone(), url };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct MsTeams {
    config: MsTeamsConfig,
    context: Context,
    url: Secret,
}

fn block(text: &str, style: &Value) -> Value {
    let mut run = style.clone();
    run["type"] = "TextRun".into();
    run["text"] = text.into();
    json!({"type": "RichTextBlock", "inlines": [run]})
}

impl Notifier for MsTeams {
    fn declared(&self) -> &'static Declared {
        &MsTeamsConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let words = Words::of(message, &self.context);
        let own = |name, template: &Option<Template>| {
            self.context.own(name, template.as_ref(), message, str::to_owned)
        };
        let title = own("title", &self.config.title).unwrap_or(words.title);
        let text = own("text", &self.config.text).unwrap_or(words.text);
        let colour = match message.status {
            MessageStatus::Resolved => "good",
            MessageStatus::Firing if message.level >= daruma_model::Level::Error => "attention",
            MessageStatus::Firing => "warning",
        };
        // A run shows no line ends; a block does by standing below the last. The brackets of a block
        // count towards the size, so not every line gets its own.
        let lines: Vec<&str> = text.splitn(BLOCKS_MAX, '\n').collect();
        let mut text = lines.join("\n");
        if let (BLOCKS_MAX, Some(last)) = (lines.len(), lines.last()) {
            text.truncate(text.len() - last.len());
            text.push_str(&last.replace('\n', " · "));
        }
        let text = TEXT.fit(&text, plain);
        let mut blocks = vec![block(
            &TITLE.fit(&title, plain),
            &json!({"weight": "bolder", "size": "large", "color": colour}),
        )];
        let lines = text.split('\n').filter(|line| !line.is_empty());
        blocks.extend(lines.map(|line| block(line, &json!({}))));
        let mut card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "full"},
            "body": blocks,
        });
        let ack = words.ack.iter().map(|link| (ACK, link));
        let links = words.link.iter().map(|link| ("Open the incident", link)).chain(ack);
        let open = |(title, url)| json!({"type": "Action.OpenUrl", "title": title, "url": url});
        let actions: Vec<Value> = links.map(open).collect();
        if !actions.is_empty() {
            card["actions"] = actions.into();
        }
        let body = json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": card,
            }],
        });
        Request::post_json(&self.url, &body)
    }
}
