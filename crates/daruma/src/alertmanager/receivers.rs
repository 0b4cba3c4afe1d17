//! Receivers: each entry judged as upstream judges it, filled up from `global`, and given to the channel
//! that serves it. An entry that no channel serves becomes a place in the ledger where every message to
//! it fails with the reason; it is never dropped.

use std::collections::BTreeSet;
use std::path::Path;

use daruma_notify::{ReceiverConfig, Unserved};
use serde_json::{Map as Object, Value, json};

use super::check::{check, object};
use super::http::{at_most_one, check_http, check_tls, followed_http, followed_tls};
use super::routes::Said;
use super::schema::{GLOBAL, Kind, RECEIVERS, common};
use super::tree::{Item, Mistake, Node};

/// Values of which a file may hold the text instead, in `global`.
const GLOBAL_PAIRS: &[&str] = &[
    "slack_api_url",
    "slack_app_token",
    "opsgenie_api_key",
    "victorops_api_key",
    "telegram_bot_token",
    "smtp_auth_password",
    "smtp_auth_secret",
    "rocketchat_token",
    "rocketchat_token_id",
    "wechat_api_secret",
    "mattermost_webhook_url",
];

/// What an entry takes from `global` where it says nothing: kind, key, key there, and whether there must
/// be one by then. A key marked `true` has a `_file` beside it, and either stands for both.
const INHERITED: &[(&str, &str, &str, bool, bool)] = &[
    ("email_configs", "smarthost", "smtp_smarthost", false, true),
    ("email_configs", "from", "smtp_from", false, true),
    ("email_configs", "hello", "smtp_hello", false, false),
    ("email_configs", "auth_username", "smtp_auth_username", false, false),
    ("email_configs", "auth_password", "smtp_auth_password", true, false),
    ("email_configs", "auth_secret", "smtp_auth_secret", true, false),
    ("email_configs", "auth_identity", "smtp_auth_identity", false, false),
    ("email_configs", "require_tls", "smtp_require_tls", false, false),
    ("email_configs", "tls_config", "smtp_tls_config", false, false),
    ("email_configs", "force_implicit_tls", "smtp_force_implicit_tls", false, false),
    ("pagerduty_configs", "url", "pagerduty_url", false, false),
    ("opsgenie_configs", "api_url", "opsgenie_api_url", false, false),
    ("opsgenie_configs", "api_key", "opsgenie_api_key", true, true),
    ("wechat_configs", "api_url", "wechat_api_url", false, false),
    ("wechat_configs", "api_secret", "wechat_api_secret", true, true),
    ("wechat_configs", "corp_id", "wechat_api_corp_id", false, true),
    ("victorops_configs", "api_url", "victorops_api_url", false, false),
    ("victorops_configs", "api_key", "victorops_api_key", true, true),
    ("telegram_configs", "api_url", "telegram_api_url", false, false),
    ("telegram_configs", "bot_token", "telegram_bot_token", true, true),
    ("webex_configs", "api_url", "webex_api_url", false, false),
    ("jira_configs", "api_url", "jira_api_url", false, true),
    ("rocketchat_configs", "api_url", "rocketchat_api_url", false, false),
    ("rocketchat_configs", "token", "rocketchat_token", true, true),
    ("rocketchat_configs", "token_id", "rocketchat_token_id", true, true),
    ("mattermost_configs", "webhook_url", "mattermost_webhook_url", true, true),
];

/// Keys of which at most one may be set, by kind.
const AT_MOST_ONE: &[(&str, &[&str])] = &[
    ("webhook_configs", &["url", "url_file"]),
    ("slack_configs", &["api_url", "api_url_file"]),
    ("slack_configs", &["app_token", "app_token_file"]),
    ("pagerduty_configs", &["routing_key", "routing_key_file"]),
    ("pagerduty_configs", &["service_key", "service_key_file"]),
    ("opsgenie_configs", &["api_key", "api_key_file"]),
    ("victorops_configs", &["api_key", "api_key_file"]),
    ("wechat_configs", &["api_secret", "api_secret_file"]),
    ("pushover_configs", &["user_key", "user_key_file"]),
    ("pushover_configs", &["token", "token_file"]),
    ("pushover_configs", &["html", "monospace"]),
    ("telegram_configs", &["bot_token", "bot_token_file"]),
    ("telegram_configs", &["chat_id", "chat_id_file"]),
    ("discord_configs", &["webhook_url", "webhook_url_file"]),
    ("msteams_configs", &["webhook_url", "webhook_url_file"]),
    ("msteamsv2_configs", &["webhook_url", "webhook_url_file"]),
    ("rocketchat_configs", &["token", "token_file"]),
    ("rocketchat_configs", &["token_id", "token_id_file"]),
    ("mattermost_configs", &["webhook_url", "webhook_url_file"]),
    ("incidentio_configs", &["url", "url_file"]),
    ("incidentio_configs", &["alert_source_token", "alert_source_token_file"]),
];

/// Keys of which one must be set, by kind.
const ONE_OF: &[(&str, &[&str])] = &[
    ("webhook_configs", &["url", "url_file"]),
    ("email_configs", &["to"]),
    ("pagerduty_configs", &["routing_key", "routing_key_file", "service_key", "service_key_file"]),
    ("victorops_configs", &["routing_key"]),
    ("pushover_configs", &["user_key", "user_key_file"]),
    ("pushover_configs", &["token", "token_file"]),
    ("sns_configs", &["topic_arn", "phone_number", "target_arn"]),
    ("telegram_configs", &["chat_id", "chat_id_file"]),
    ("discord_configs", &["webhook_url", "webhook_url_file"]),
    ("webex_configs", &["room_id"]),
    ("msteams_configs", &["webhook_url", "webhook_url_file"]),
    ("msteamsv2_configs", &["webhook_url", "webhook_url_file"]),
    ("jira_configs", &["project"]),
    ("jira_configs", &["issue_type"]),
    ("incidentio_configs", &["url", "url_file"]),
];

/// Where a key has few values, by kind.
const WORDS: &[(&str, &str, &[&str])] = &[
    ("wechat_configs", "message_type", &["text", "markdown"]),
    ("telegram_configs", "parse_mode", &["", "Markdown", "MarkdownV2", "HTML"]),
    ("jira_configs", "api_type", &["auto", "cloud", "datacenter"]),
];

/// Kinds that are told the end only when they ask for it.
const UNTOLD: &[&str] = &["email_configs", "slack_configs", "wechat_configs", "rocketchat_configs"];

const SLACK_APP: &str = "https://slack.com/api/chat.postMessage";

/// All receivers. `base` is the folder of the file: certificates and the like lie relative to it.
pub fn read(file: &Node, base: &Path, said: &mut Said) -> Vec<ReceiverConfig> {
    let nothing = Node::default();
    let global = file.get("global").unwrap_or(&nothing);
    for name in GLOBAL_PAIRS {
        at_most_one(global, &[name, &format!("{name}_file")], said.mistakes);
    }
    if let Some(http) = global.get("http_config") {
        check_http(http, said.mistakes);
    }
    if let Some(tls) = global.get("smtp_tls_config") {
        check_tls(tls, said.mistakes);
    }
    let app_url = match global.text_of("slack_app_url") {
        "" => SLACK_APP,
        url => url,
    };
    let hooked = global.text_of("slack_api_url") != app_url;
    let any = |names: [&str; 2]| names.iter().any(|name| !global.text_of(name).is_empty());
    if hooked
        && any(["slack_api_url", "slack_api_url_file"])
        && any(["slack_app_token", "slack_app_token_file"])
    {
        let why =
            "at most one of `slack_app_token` and `slack_api_url` (or their files) may be set";
        said.mistakes.push(Mistake::new(global.place_of("slack_app_token"), why));
    }
    // What is wrong in it was said when the file was checked.
    let values = match global.item {
        Item::Map(_) => object(global, &[GLOBAL], &mut Vec::new()),
        _ => json!({}),
    };
    let world = World { global: values, base, app_url: app_url.to_owned() };
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for node in file.list("receivers") {
        let Some(receiver) = one(node, &world, said) else { continue };
        if receiver.name.is_empty() {
            said.mistakes.push(Mistake::new(node.at, "a receiver needs a `name`"));
        } else if !names.insert(receiver.name.clone()) {
            let why = format!("two receivers are named `{}`", receiver.name);
            said.mistakes.push(Mistake::new(node.place_of("name"), why));
        }
        all.push(receiver);
    }
    all
}

struct World<'a> {
    global: Value,
    base: &'a Path,
    app_url: String,
}

fn one(node: &Node, world: &World, said: &mut Said) -> Option<ReceiverConfig> {
    let Item::Map(pairs) = &node.item else {
        said.mistakes.push(Mistake::new(node.at, "a receiver is a map with a `name`"));
        return None;
    };
    let mut receiver = ReceiverConfig::named(node.text_of("name"));
    for (key, value) in pairs {
        if key.name == "name" {
            check(value, Kind::Text, said.mistakes);
            continue;
        }
        let Some((kind, keys)) = RECEIVERS.iter().find(|(kind, _)| *kind == key.name) else {
            let known: Vec<&'static str> =
                RECEIVERS.iter().map(|(kind, _)| *kind).chain(["name"]).collect();
            said.mistakes.push(Mistake::new(key.at, crate::config::unknown(&key.name, &known)));
            continue;
        };
        let entries = match &value.item {
            Item::List(all) => all.as_slice(),
            Item::Null => &[],
            _ => {
                said.mistakes.push(Mistake::new(value.at, "here must stand a list"));
                continue;
            }
        };
        for (at, entry) in entries.iter().enumerate() {
            let place = format!("{}[{at}]", kind.trim_end_matches("_configs"));
            let before = said.mistakes.len();
            let value = judged(entry, kind, keys, world, said);
            if said.mistakes.len() == before {
                serve(&mut receiver, kind, &place, value, entry, world, said);
            }
        }
    }
    Some(receiver)
}

/// An entry as upstream would have it by the end of its reading.
fn judged(
    entry: &Node,
    kind: &str,
    keys: &'static [(&'static str, Kind)],
    world: &World,
    said: &mut Said,
) -> Object<String, Value> {
    // Upstream has nothing of its own in these.
    let may_be_empty =
        ["slack_configs", "opsgenie_configs", "wechat_configs", "rocketchat_configs"];
    if matches!(entry.item, Item::Null) && !may_be_empty.contains(&kind) {
        said.mistakes.push(Mistake::new(entry.at, "this entry is empty"));
        return Object::new();
    }
    let before = said.mistakes.len();
    let mut value = match entry.item {
        Item::Null => Object::new(),
        _ => match object(entry, &[keys, common(kind)], said.mistakes) {
            Value::Object(value) => value,
            _ => return Object::new(),
        },
    };
    // What is wrong is not missing besides.
    if said.mistakes.len() > before {
        return Object::new();
    }
    for (_, names) in AT_MOST_ONE.iter().filter(|(of, _)| *of == kind) {
        let on = |name: &&str| value.get(*name).is_some_and(|value| *value != false);
        let names: Vec<&str> = names.iter().copied().filter(on).collect();
        at_most_one(entry, &names, said.mistakes);
    }
    let is = |value: &Object<String, Value>, name: &str| {
        value.get(name).is_some_and(|value| *value != "" && *value != 0)
    };
    for (_, names) in ONE_OF.iter().filter(|(of, _)| *of == kind) {
        if !names.iter().any(|name| is(&value, name)) {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let why = format!("{} must be set here", names.join(" or "));
            said.mistakes.push(Mistake::new(entry.at, why));
        }
    }
    for (_, name, words) in WORDS.iter().filter(|(of, ..)| *of == kind) {
        let word = entry.text_of(name);
        if entry.get(name).is_some() && !words.contains(&word) {
            let why = format!("`{name}` is one of {}", words.join(", "));
            said.mistakes.push(Mistake::new(entry.place_of(name), why));
        }
    }
    if let Some(http) = entry.get("http_config") {
        check_http(http, said.mistakes);
    }
    if let Some(tls) = entry.get("tls_config") {
        check_tls(tls, said.mistakes);
    }
    let inherit = |value: &mut Object<String, Value>, name: &str, from: &str| {
        if let Some(default) = world.global.get(from) {
            value.insert(name.to_owned(), default.clone());
        }
    };
    for (_, name, from, pair, needed) in INHERITED.iter().filter(|it| it.0 == kind) {
        let file = format!("{name}_file");
        let there = |value: &Object<String, Value>| is(value, name) || (*pair && is(value, &file));
        if !there(&value) {
            inherit(&mut value, name, from);
            if *pair {
                inherit(&mut value, &file, &format!("{from}_file"));
            }
        }
        if *needed && !there(&value) {
            let why = format!("`{name}` must be set here, or `{from}` under `global`");
            said.mistakes.push(Mistake::new(entry.at, why));
        }
    }
    own_rules(entry, kind, &mut value, world, said);
    if kind != "email_configs" && !value.contains_key("http_config") {
        inherit(&mut value, "http_config", "http_config");
    }
    value.entry("send_resolved").or_insert_with(|| Value::Bool(!UNTOLD.contains(&kind)));
    value
}

/// What no table says.
fn own_rules(
    entry: &Node,
    kind: &str,
    value: &mut Object<String, Value>,
    world: &World,
    said: &mut Said,
) {
    let mut mistakes = Vec::new();
    let mut wrong = |key: &str, why: &str| mistakes.push(Mistake::new(entry.place_of(key), why));
    let set = |name: &str| !entry.text_of(name).is_empty();
    let authorized =
        entry.get("http_config").is_some_and(|http| http.get("authorization").is_some());
    match kind {
        "slack_configs" => {
            let hook = set("api_url") || set("api_url_file");
            let token = set("app_token") || set("app_token_file");
            if hook && token {
                wrong(
                    "app_token",
                    "at most one of `api_url` and `app_token` (or their files) may be set",
                );
            }
            for key in ["update_message", "post_updates_to_thread"] {
                let on = value.get(key) == Some(&Value::Bool(true));
                if on && entry.text_of("api_url") != SLACK_APP {
                    wrong(
                        key,
                        &format!(
                            "`{key}` needs the token of an application: set `api_url` to {SLACK_APP}, and the token \
                         under `http_config.authorization`"
                        ),
                    );
                }
            }
            for action in entry.list("actions") {
                for (key, fits) in [
                    ("type", !action.text_of("type").is_empty()),
                    ("text", !action.text_of("text").is_empty()),
                    (
                        "url",
                        !action.text_of("url").is_empty() || !action.text_of("name").is_empty(),
                    ),
                ] {
                    if !fits {
                        said.mistakes
                            .push(Mistake::new(action.at, format!("an action needs `{key}`")));
                    }
                }
            }
            slack_way(entry, value, authorized, world, said);
        }
        "mattermost_configs" | "rocketchat_configs" => {}
        "email_configs" => {
            let mut names = BTreeSet::new();
            if let Some(Item::Map(headers)) = entry.get("headers").map(|node| &node.item) {
                for (name, _) in headers {
                    if !names.insert(name.name.to_ascii_lowercase()) {
                        let why = format!("the header `{}` stands here twice", name.name);
                        said.mistakes.push(Mistake::new(name.at, why));
                    }
                }
            }
            if let Some(threading) =
                entry.get("threading").filter(|t| t.text_of("enabled") == "true")
            {
                for name in ["references", "in-reply-to"] {
                    if names.contains(name) {
                        wrong("threading", &format!("threading writes the header `{name}` itself"));
                    }
                }
                if !["none", "daily"].contains(&threading.text_of("thread_by_date")) {
                    wrong("threading", "`thread_by_date` is none or daily");
                }
            }
        }
        "opsgenie_configs" => {
            for responder in entry.list("responders") {
                if ["id", "name", "username"].iter().all(|key| responder.text_of(key).is_empty()) {
                    let why = "a responder needs an `id`, a `name` or a `username`";
                    said.mistakes.push(Mistake::new(responder.at, why));
                }
                let kind = responder.text_of("type").to_lowercase();
                let known = ["team", "teams", "user", "escalation", "schedule"];
                if !kind.contains("{{") && !known.contains(&&*kind) {
                    let why = format!("`type` is one of {}", known.join(", "));
                    said.mistakes.push(Mistake::new(responder.place_of("type"), why));
                }
            }
        }
        "victorops_configs" => {
            if let Some(Item::Map(fields)) = entry.get("custom_fields").map(|node| &node.item) {
                let own = [
                    "routing_key",
                    "message_type",
                    "state_message",
                    "entity_display_name",
                    "monitoring_tool",
                    "entity_id",
                    "entity_state",
                ];
                for (name, _) in fields.iter().filter(|(name, _)| own.contains(&&*name.name)) {
                    let why = format!("`{}` is a field of its own", name.name);
                    said.mistakes.push(Mistake::new(name.at, why));
                }
            }
        }
        "webex_configs" if !authorized => {
            wrong("http_config", "Webex needs `http_config.authorization` with the bot's token");
        }
        "incidentio_configs" => {
            let token = set("alert_source_token") || set("alert_source_token_file");
            if token && authorized {
                wrong(
                    "alert_source_token",
                    "at most one of `alert_source_token` and `http_config.authorization` may be set",
                );
            }
            if !token && !authorized && entry.get("http_config").is_some() {
                wrong(
                    "http_config",
                    "`alert_source_token` or `http_config.authorization` must be set",
                );
            }
        }
        _ => {}
    }
    said.mistakes.append(&mut mistakes);
}

/// Which of its two ways Slack takes: a webhook, or an application's token.
fn slack_way(
    entry: &Node,
    value: &mut Object<String, Value>,
    authorized: bool,
    world: &World,
    said: &mut Said,
) {
    let inherit = |value: &mut Object<String, Value>, name: &str, from: &str| {
        if let Some(default) = world.global.get(from) {
            value.insert(name.to_owned(), default.clone());
        }
    };
    let token = |value: &Object<String, Value>| {
        value.contains_key("app_token") || value.contains_key("app_token_file")
    };
    let hook = |value: &Object<String, Value>| {
        value.contains_key("api_url") || value.contains_key("api_url_file")
    };
    if !token(value) && !authorized && !hook(value) {
        inherit(value, "app_token", "slack_app_token");
        inherit(value, "app_token_file", "slack_app_token_file");
    }
    if token(value) {
        value.entry("app_url").or_insert_with(|| world.app_url.clone().into());
        value.remove("api_url");
        value.remove("api_url_file");
        if authorized {
            let why = "`http_config.authorization` cannot stand beside `app_token`";
            said.mistakes.push(Mistake::new(entry.place_of("http_config"), why));
        }
        return;
    }
    value.remove("app_url");
    if !hook(value) {
        inherit(value, "api_url", "slack_api_url");
        inherit(value, "api_url_file", "slack_api_url_file");
    }
    if !hook(value) {
        let why = "`api_url` or `app_token` must be set here, or `slack_api_url` or `slack_app_token` under `global`";
        said.mistakes.push(Mistake::new(entry.at, why));
    }
}

/// Gives an entry to its channel, or to the place where what cannot be sent is recorded.
fn serve(
    receiver: &mut ReceiverConfig,
    kind: &str,
    place: &str,
    mut value: Object<String, Value>,
    entry: &Node,
    world: &World,
    said: &mut Said,
) {
    let mut left = Vec::new();
    if let Some(http) = value.get("http_config") {
        let (mut http, more) = followed_http(http);
        absolute(&mut http, world.base);
        left.extend(more.into_iter().map(|name| format!("http_config.{name}")));
        value.insert("http_config".into(), http);
    }
    if let Some(tls) = value.get("tls_config") {
        let (mut tls, more) = followed_tls(tls);
        absolute(&mut tls, world.base);
        left.extend(more.into_iter().map(|name| format!("tls_config.{name}")));
        value.insert("tls_config".into(), tls);
    }
    for (of, name) in [
        ("email_configs", "auth_secret"),
        ("email_configs", "auth_secret_file"),
        ("email_configs", "auth_identity"),
        ("slack_configs", "post_updates_to_thread"),
    ] {
        let used = of == kind && value.remove(name).is_some_and(|it| it != "" && it != false);
        left.extend(used.then(|| name.to_owned()));
    }
    // Mails of an incident form a thread in any case.
    if kind == "email_configs" {
        value.remove("threading");
    }
    if let Some(Value::Array(actions)) =
        value.get_mut("actions").filter(|_| kind == "slack_configs")
    {
        for action in actions.iter_mut().filter_map(Value::as_object_mut) {
            left.extend(action.remove("confirm").map(|_| "actions.confirm".to_owned()));
        }
    }
    // An empty text is none; of a mail's parts it leaves the part out.
    let kept = |name: &str| kind == "email_configs" && (name == "html" || name == "text");
    value.retain(|name, value| *value != "" || kept(name));
    let send_resolved = value.get("send_resolved") != Some(&Value::Bool(false));
    let why = match given(receiver, kind, Value::Object(value)) {
        Ok(()) => {
            if !left.is_empty() {
                let why = format!("{}/{place}: {} is not followed", receiver.name, left.join(", "));
                said.warnings.push((entry.at, why));
            }
            return;
        }
        Err(why) => why,
    };
    let (line, name) = (entry.at.0, place);
    said.warnings.push((
        entry.at,
        format!(
            "{}/{name}: nobody is told by it, and each message to it is recorded as failed: {why}",
            receiver.name
        ),
    ));
    receiver.unserved.push(Unserved {
        name: name.to_owned(),
        why: format!("line {line} of the Alertmanager configuration: {why}"),
        send_resolved,
    });
}

/// Relative files of `http_config` lie beside the configuration.
fn absolute(value: &mut Value, base: &Path) {
    for (name, value) in value.as_object_mut().into_iter().flatten() {
        if value.is_object() {
            absolute(value, base);
        } else if name.ends_with("_file")
            && let Some(path) = value.as_str().filter(|path| !path.is_empty())
        {
            *value = base.join(path).to_string_lossy().into_owned().into();
        }
    }
}

fn given(receiver: &mut ReceiverConfig, kind: &str, value: Value) -> Result<(), String> {
    fn read<T: serde::de::DeserializeOwned>(all: &mut Vec<T>, value: Value) -> Result<(), String> {
        all.push(serde_json::from_value(value).map_err(|error| error.to_string())?);
        Ok(())
    }
    match kind {
        "webhook_configs" if value.get("payload").is_some() => {
            Err("`payload` is not offered; set `body` of a webhook in daruma.yaml".into())
        }
        "webhook_configs" => read(&mut receiver.webhook_configs, value),
        "email_configs" => read(&mut receiver.email_configs, value),
        "slack_configs" => read(&mut receiver.slack_configs, value),
        "pagerduty_configs" => read(&mut receiver.pagerduty_configs, value),
        "wechat_configs" => read(&mut receiver.wechat_configs, value),
        "telegram_configs" => read(&mut receiver.telegram_configs, value),
        "discord_configs" => read(&mut receiver.discord_configs, value),
        "msteamsv2_configs" => read(&mut receiver.msteamsv2_configs, value),
        "msteams_configs" => {
            Err("the connectors of Microsoft Teams were switched off; make a workflow and use \
                 `msteamsv2_configs`"
                .into())
        }
        kind => Err(format!("there is no channel for `{kind}` yet")),
    }
}
