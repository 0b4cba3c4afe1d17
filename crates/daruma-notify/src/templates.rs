//! Templates as they stand in receivers: which of them will not work, and which stand there unsaid
//! where a configuration is Alertmanager's.

use daruma_template::{TemplateError, Templates};
use serde_json::Value;

use crate::ReceiverConfig;
use crate::words::Template;

/// A template in a receiver that cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("receiver `{receiver}`, `{key}`, {error}")]
pub struct TemplateProblem {
    /// The receiver's name.
    pub receiver: String,
    /// Where it stands, such as `slack_configs[0].title`.
    pub key: String,
    /// Where in its text, and what.
    pub error: TemplateError,
}

impl ReceiverConfig {
    /// Every template of the receiver that breaks the language's rules, or names a function or a
    /// template that does not exist.
    #[must_use]
    pub fn template_problems(&self, templates: &Templates) -> Vec<TemplateProblem> {
        let mut problems = Vec::new();
        // What a configuration holds as text is the same as what it was read from.
        let Ok(value) = serde_json::to_value(self) else { return problems };
        walk(&value, "", &mut |key, text| {
            if text.contains("{{")
                && let Err(error) = templates.check(text)
            {
                let (receiver, key) = (self.name.clone(), key.to_owned());
                problems.push(TemplateProblem { receiver, key, error });
            }
        });
        problems
    }

    /// The receiver as Alertmanager reads it: what is left out asks for the template that Alertmanager
    /// has there, so that a file of templates which gives `slack.default.title` other words is heeded.
    #[must_use]
    pub fn with_alertmanager_defaults(mut self) -> ReceiverConfig {
        let named = |name: &str| format!("{{{{ template {name:?} . }}}}");
        let put = |slot: &mut Option<Template>, name: &str| {
            slot.get_or_insert_with(|| Template(named(name)));
        };
        for slack in &mut self.slack_configs {
            put(&mut slack.title, "slack.default.title");
            put(&mut slack.title_link, "slack.default.titlelink");
            put(&mut slack.pretext, "slack.default.pretext");
            put(&mut slack.text, "slack.default.text");
            put(&mut slack.fallback, "slack.default.fallback");
            put(&mut slack.callback_id, "slack.default.callbackid");
            put(&mut slack.icon_emoji, "slack.default.iconemoji");
            put(&mut slack.icon_url, "slack.default.iconurl");
            put(&mut slack.footer, "slack.default.footer");
            put(&mut slack.color, "slack.default.color");
            if slack.username.is_empty() {
                slack.username = named("slack.default.username");
            }
        }
        for discord in &mut self.discord_configs {
            put(&mut discord.content, "discord.default.content");
            put(&mut discord.title, "discord.default.title");
            put(&mut discord.message, "discord.default.message");
        }
        for teams in &mut self.msteamsv2_configs {
            put(&mut teams.title, "msteamsv2.default.title");
            put(&mut teams.text, "msteamsv2.default.text");
        }
        for telegram in &mut self.telegram_configs {
            put(&mut telegram.message, "telegram.default.message");
        }
        for pager in &mut self.pagerduty_configs {
            put(&mut pager.description, "pagerduty.default.description");
            put(&mut pager.client, "pagerduty.default.client");
            put(&mut pager.client_url, "pagerduty.default.clientURL");
            let instances =
                |of: &str| format!("{{{{ template \"pagerduty.default.instances\" {of} }}}}");
            for (name, text) in [
                ("firing", instances(".Alerts.Firing")),
                ("resolved", instances(".Alerts.Resolved")),
                ("num_firing", "{{ .Alerts.Firing | len }}".to_owned()),
                ("num_resolved", "{{ .Alerts.Resolved | len }}".to_owned()),
            ] {
                pager.details.entry(name.to_owned()).or_insert_with(|| text.into());
            }
        }
        for wechat in &mut self.wechat_configs {
            put(&mut wechat.message, "wechat.default.message");
            for (slot, name) in [
                (&mut wechat.to_user, "wechat.default.to_user"),
                (&mut wechat.to_party, "wechat.default.to_party"),
                (&mut wechat.to_tag, "wechat.default.to_tag"),
                (&mut wechat.agent_id, "wechat.default.agent_id"),
            ] {
                if slot.is_empty() {
                    *slot = named(name);
                }
            }
        }
        for mail in &mut self.email_configs {
            mail.html.get_or_insert_with(|| named("email.default.html"));
            if !mail.headers.keys().any(|name| name.eq_ignore_ascii_case("subject")) {
                mail.headers.insert("Subject".to_owned(), named("email.default.subject"));
            }
        }
        self
    }
}

fn walk(value: &Value, key: &str, each: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => each(key, text),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, &format!("{key}[{at}]"), each);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let dot = if key.is_empty() { "" } else { "." };
                walk(field, &format!("{key}{dot}{name}"), each);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
