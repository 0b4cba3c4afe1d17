//! Templates of notifications: files of bodies with one name space, and what they are filled with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_model::{Labels, Message, MessageAlert, MessageStatus, Time};
use serde::{Deserialize, Deserializer, de};

use crate::eval::{self, Defined, World};
use crate::functions::Dialect;
use crate::parse::{Node, Parsed};
use crate::sink::Escape;
use crate::time::{Moment, ZERO, Zones, parse_rfc3339};
use crate::value::{Kind, Struct, Value};
use crate::{TemplateError, place};

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// All files together, in bytes.
const FILES_BYTES_MAX: usize = 16 << 20;
/// The longest text that an expansion makes, in bytes.
const OUTPUT_MAX: usize = 256 << 10;

/// Bodies by name, from several files: of two with one name the later counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    defined: Defined,
    /// What bodies ask for by name: whose, at which place, which name.
    asked: Vec<(Arc<str>, TemplateError, String)>,
    bytes: usize,
}

/// Why a file holds no templates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{error}")]
pub struct FileError {
    /// The file as it was named.
    pub file: String,
    /// Where in it, and what.
    pub error: TemplateError,
}

/// What a template of a notification is filled with: what Alertmanager gives its own, and ours.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Data {
    /// The receiver's name.
    #[serde(alias = "Receiver")]
    pub receiver: String,
    /// `firing` as long as one alert fires, else `resolved`.
    #[serde(alias = "Status")]
    pub status: String,
    /// What it is about.
    #[serde(alias = "Alerts")]
    pub alerts: Vec<Alert>,
    /// Labels by which the alerts are grouped.
    #[serde(alias = "GroupLabels")]
    pub group_labels: Labels,
    /// Labels that all alerts share.
    #[serde(alias = "CommonLabels")]
    pub common_labels: Labels,
    /// Annotations that all alerts share.
    #[serde(alias = "CommonAnnotations")]
    pub common_annotations: Labels,
    /// Where the pages are.
    #[serde(alias = "externalURL", alias = "ExternalURL")]
    pub external_url: String,
    /// The same for all messages of one group.
    #[serde(alias = "GroupKey")]
    pub group_key: String,
    /// Labels of the route.
    #[serde(alias = "RouteLabels")]
    pub route_labels: Labels,
    /// Alerts that are not listed.
    #[serde(alias = "TruncatedAlerts")]
    pub truncated_alerts: u64,
    /// The incident's number; 0: none.
    pub incident: u64,
    /// Its page; empty: there is none.
    #[serde(alias = "incidentURL", alias = "IncidentURL")]
    pub incident_url: String,
    /// The link by which whoever reads it takes the incident on; empty: there is none.
    #[serde(alias = "ackURL", alias = "AckURL")]
    pub ack_url: String,
    /// Daruma's own words: one line.
    pub title: String,
    /// Daruma's own words: the timeline.
    pub text: String,
    /// `info`, `warning`, `error` or `critical`.
    pub level: String,
    /// What `since` counts to.
    #[serde(skip)]
    pub now: Time,
    /// Answers `tz`; without it only UTC is known.
    #[serde(skip)]
    pub zones: Option<Zones>,
}

/// One alert of [`Data`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Alert {
    /// `firing` or `resolved`.
    #[serde(alias = "Status")]
    pub status: String,
    /// Its labels.
    #[serde(alias = "Labels")]
    pub labels: Labels,
    /// Human text.
    #[serde(alias = "Annotations")]
    pub annotations: Labels,
    /// When it began to fire.
    #[serde(alias = "StartsAt", deserialize_with = "rfc3339")]
    pub starts_at: Option<Time>,
    /// When it ended, if it has.
    #[serde(alias = "EndsAt", deserialize_with = "rfc3339")]
    pub ends_at: Option<Time>,
    /// Where it can be looked at where it arose.
    #[serde(alias = "generatorURL", alias = "GeneratorURL")]
    pub generator_url: String,
    /// Its identity.
    #[serde(alias = "Fingerprint")]
    pub fingerprint: String,
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse_rfc3339(&text) {
        Some(time) => Ok(Some(time).filter(|time| *time != ZERO)),
        None if text.is_empty() => Ok(None),
        None => {
            Err(de::Error::custom(format!("{text:?} is not a time such as 2026-03-01T10:00:00Z")))
        }
    }
}

fn common(alerts: &[MessageAlert], of: impl Fn(&MessageAlert) -> &Labels) -> Labels {
    let Some((first, rest)) = alerts.split_first() else { return Labels::default() };
    let shared = of(first);
    shared.filtered(|name| rest.iter().all(|alert| of(alert).get(name) == shared.get(name)))
}

impl Data {
    /// What a message tells; `external_url` is where the pages are, or empty.
    #[must_use]
    pub fn of(message: &Message, external_url: &str) -> Data {
        let external_url = external_url.trim_end_matches('/');
        let incident_url = match (external_url, message.incident) {
            ("", _) | (_, 0) => String::new(),
            (url, _) => format!("{url}/incident/{}", message.incident),
        };
        let status = |status: MessageStatus| match status {
            MessageStatus::Firing => "firing".to_owned(),
            MessageStatus::Resolved => "resolved".to_owned(),
        };
        let alerts = message.alerts.iter().map(|alert| Alert {
            status: status(alert.status),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: Some(alert.starts_at),
            ends_at: alert.ends_at,
            generator_url: alert.generator_url.clone(),
            fingerprint: format!("{:016x}", alert.labels.fingerprint()),
        });
        Data {
            receiver: message.receiver.clone(),
            status: status(message.status),
            alerts: alerts.collect(),
            group_labels: message.group_labels.clone(),
            common_labels: common(&message.alerts, |alert| &alert.labels),
            common_annotations: common(&message.alerts, |alert| &alert.annotations),
            external_url: external_url.to_owned(),
            group_key: message.group_key.clone(),
            route_labels: message.route_labels.clone(),
            truncated_alerts: message.left_out,
            incident: message.incident,
            incident_url,
            ack_url: String::new(),
            title: message.title.clone(),
            text: message.text.clone(),
            level: message.level.as_str().to_owned(),
            now: message.created,
            zones: None,
        }
    }

    fn root(&self) -> Result<Value, String> {
        let text = |text: &str| Value::Text(text.to_owned());
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let moment = |time: Option<Time>| Value::Time(Moment::utc(time.unwrap_or(ZERO)));
        let alerts = self.alerts.iter().map(|alert| {
            let fields = vec![
                ("Status", text(&alert.status)),
                ("Labels", Value::Labels(alert.labels.clone())),
                ("Annotations", Value::Labels(alert.annotations.clone())),
                ("StartsAt", moment(alert.starts_at)),
                ("EndsAt", moment(alert.ends_at)),
                ("GeneratorURL", text(&alert.generator_url)),
                ("Fingerprint", text(&alert.fingerprint)),
            ];
            Value::Struct(Arc::new(Struct { kind: "template.Alert", fields }))
        });
        let fields = vec![
            ("Receiver", text(&self.receiver)),
            ("Status", text(&self.status)),
            ("Alerts", Value::list(Kind::Alerts, alerts.collect())?),
            ("GroupLabels", Value::Labels(self.group_labels.clone())),
            ("CommonLabels", Value::Labels(self.common_labels.clone())),
            ("CommonAnnotations", Value::Labels(self.common_annotations.clone())),
            ("ExternalURL", text(&self.external_url)),
            ("GroupKey", text(&self.group_key)),
            ("RouteLabels", Value::Labels(self.route_labels.clone())),
            ("TruncatedAlerts", number(self.truncated_alerts)),
            ("Incident", number(self.incident)),
            ("IncidentURL", text(&self.incident_url)),
            ("AckURL", text(&self.ack_url)),
            ("Title", text(&self.title)),
            ("Text", text(&self.text)),
            ("Level", text(&self.level)),
        ];
        Ok(Value::Struct(Arc::new(Struct { kind: "*template.Data", fields })))
    }
}

impl Templates {
    /// No templates at all.
    #[must_use]
    pub fn none() -> Templates {
        Templates::default()
    }

    /// The templates that are there without any file, by Alertmanager's names and in our words.
    #[must_use]
    pub fn built_in() -> Templates {
        let mut templates = Templates::none();
        for (name, text) in [
            ("default.tmpl", include_str!("default.tmpl")),
            ("email.tmpl", include_str!("email.tmpl")),
        ] {
            // A test parses both.
            if let Err(error) = templates.add(name, text) {
                debug_assert!(false, "{error}");
            }
        }
        templates
    }

    /// Adds what a file defines, over what was there; `file` is named in errors, and its last part is
    /// the name of what stands outside of `define`.
    ///
    /// # Errors
    /// The text breaks the language's rules, or names a function that does not exist.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), FileError> {
        let fail = |error| FileError { file: file.to_owned(), error };
        self.bytes = self.bytes.saturating_add(text.len());
        if text.len() > FILE_BYTES_MAX || self.bytes > FILES_BYTES_MAX {
            let most = if text.len() > FILE_BYTES_MAX { FILE_BYTES_MAX } else { FILES_BYTES_MAX };
            return Err(fail(place(text, 0, format!("longer than {most} bytes"))));
        }
        let Parsed { nodes, defined } = parse(text).map_err(fail)?;
        let file: Arc<str> = file.into();
        for nodes in defined.values().map(|body| body.as_slice()).chain([nodes.as_slice()]) {
            asked(nodes, &mut |name, at| {
                let missing = place(text, at, format!("template {name:?} not defined"));
                self.asked.push((Arc::clone(&file), missing, name.to_owned()));
            });
        }
        let blank = |node: &Node| matches!(node, Node::Text(text) if text.trim().is_empty());
        let base = file.rsplit(['/', '\\']).next().unwrap_or(&file);
        if !nodes.iter().all(blank) {
            self.defined.insert(base.to_owned(), Arc::new(nodes));
        }
        self.defined.extend(defined);
        Ok(())
    }

    /// What files ask for by name that no file defines, each with its place. Alertmanager finds out
    /// only when it sends.
    #[must_use]
    pub fn loose_ends(&self) -> Vec<FileError> {
        let missing = self.asked.iter().filter(|(_, _, name)| !self.defined.contains_key(name));
        missing
            .map(|(file, error, _)| FileError { file: file.to_string(), error: error.clone() })
            .collect()
    }

    /// The names that can be asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.defined.keys().map(String::as_str)
    }

    /// Looks a text of the configuration over without filling it.
    ///
    /// # Errors
    /// It breaks the language's rules, or names a function or a template that does not exist; a
    /// template that is asked for by the one it asks for counts, too.
    pub fn check(&self, text: &str) -> Result<(), TemplateError> {
        let parsed = parse(text)?;
        let mut seen = BTreeSet::new();
        let mut todo: Vec<(String, usize, String)> = Vec::new();
        let bodies = parsed.defined.values().map(|body| body.as_slice());
        for nodes in bodies.chain([parsed.nodes.as_slice()]) {
            asked(nodes, &mut |name, at| todo.push((name.to_owned(), at, String::new())));
        }
        while let Some((name, at, by)) = todo.pop() {
            if !seen.insert(name.clone()) || parsed.defined.contains_key(&name) {
                continue;
            }
            let Some(body) = self.defined.get(&name) else {
                return Err(place(text, at, format!("template {name:?} not defined{by}")));
            };
            asked(body, &mut |asked, _| {
                todo.push((asked.to_owned(), at, format!(", which {name:?} asks for")));
            });
        }
        Ok(())
    }

    /// The text with its holes filled.
    ///
    /// # Errors
    /// A sentence: the text breaks the language's rules, a field is missing, types are wrong, it grows
    /// or takes too long, or a hole is at a place that cannot be escaped for.
    pub fn expand(&self, text: &str, data: &Data, escape: Escape) -> Result<String, String> {
        let parsed = parse(text).map_err(|error| error.to_string())?;
        let defined: [&BTreeMap<_, _>; 2] = [&parsed.defined, &self.defined];
        let root = data.root()?;
        eval::run(&parsed.nodes, &defined, World::Notice(data), &root, escape, OUTPUT_MAX)
    }
}

fn parse(text: &str) -> Result<Parsed, TemplateError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(place(text, 0, format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    crate::parse::parse(text, Dialect::Notice).map_err(|(at, message)| place(text, at, message))
}

/// Every name that is asked for by `{{ template }}`.
fn asked(nodes: &[Node], each: &mut impl FnMut(&str, usize)) {
    for node in nodes {
        match node {
            Node::If(_, body, otherwise)
            | Node::With(_, body, otherwise)
            | Node::Range(_, body, otherwise) => {
                asked(body, each);
                asked(otherwise, each);
            }
            Node::Template(name, _, at) => each(name, *at),
            _ => {}
        }
    }
}
