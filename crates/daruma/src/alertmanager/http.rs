//! `http_config` and `tls_config`: judged as upstream judges them, and handed on as far as channels can
//! follow. What they cannot follow is said.

use serde_json::{Map as Object, Value, json};

use super::tree::{Mistake, Node};

/// Headers that belong to whoever makes the request.
const RESERVED: &[&str] = &[
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    // What is added by SigV4.
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

fn set(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|value| match &value.item {
        super::tree::Item::Text(text) | super::tree::Item::Plain(text) => !text.is_empty(),
        _ => true,
    })
}

/// At most one of some keys.
pub fn at_most_one(node: &Node, names: &[&str], found: &mut Vec<Mistake>) {
    let there: Vec<&&str> = names.iter().filter(|name| set(node, name)).collect();
    if let [.., second] = there[..]
        && there.len() > 1
    {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let said = format!("at most one of {} may be set", names.join(", "));
        found.push(Mistake::new(node.place_of(second), said));
    }
}

/// What is wrong with an `http_config`, besides its form.
pub fn check_http(node: &Node, found: &mut Vec<Mistake>) {
    at_most_one(node, &["bearer_token", "bearer_token_file"], found);
    if set(node, "bearer_token") || set(node, "bearer_token_file") {
        at_most_one(node, &["authorization", "bearer_token", "bearer_token_file"], found);
        at_most_one(node, &["basic_auth", "oauth2", "bearer_token", "bearer_token_file"], found);
    }
    at_most_one(node, &["basic_auth", "authorization", "oauth2"], found);
    if let Some(auth) = node.get("basic_auth") {
        at_most_one(auth, &["username", "username_file", "username_ref"], found);
        at_most_one(auth, &["password", "password_file", "password_ref"], found);
    }
    if let Some(auth) = node.get("authorization") {
        at_most_one(auth, &["credentials", "credentials_file", "credentials_ref"], found);
        if auth.text_of("type").trim().eq_ignore_ascii_case("basic") {
            let said = "`authorization` cannot be of the type basic; write `basic_auth`";
            found.push(Mistake::new(auth.place_of("type"), said));
        }
    }
    if let Some(oauth2) = node.get("oauth2") {
        let jwt = oauth2.text_of("grant_type").ends_with("jwt-bearer");
        for name in ["client_id", "token_url"] {
            let spared = jwt && name == "client_id";
            if !spared && !set(oauth2, name) {
                let said = format!("`oauth2` needs `{name}`");
                found.push(Mistake::new(oauth2.at, said));
            }
        }
        let secret = ["client_secret", "client_secret_file", "client_secret_ref"];
        at_most_one(oauth2, &secret, found);
        let key =
            ["client_certificate_key", "client_certificate_key_file", "client_certificate_key_ref"];
        at_most_one(oauth2, &key, found);
        check_proxy(oauth2, found);
        oauth2.get("tls_config").into_iter().for_each(|tls| check_tls(tls, found));
    }
    if let Some(super::tree::Item::Map(headers)) = node.get("http_headers").map(|n| &n.item) {
        for (name, _) in headers {
            if RESERVED.contains(&name.name.to_ascii_lowercase().as_str()) {
                let said = format!("the header `{}` cannot be set here", name.name);
                found.push(Mistake::new(name.at, said));
            }
        }
    }
    check_proxy(node, found);
    node.get("tls_config").into_iter().for_each(|tls| check_tls(tls, found));
}

fn check_proxy(node: &Node, found: &mut Vec<Mistake>) {
    let from_environment = node.text_of("proxy_from_environment") == "true";
    if from_environment && (set(node, "proxy_url") || set(node, "no_proxy")) {
        let said = "`proxy_from_environment` stands alone, without `proxy_url` and `no_proxy`";
        found.push(Mistake::new(node.place_of("proxy_from_environment"), said));
    }
    for name in ["no_proxy", "proxy_connect_header"] {
        if set(node, name) && !set(node, "proxy_url") && !from_environment {
            let said = format!("`{name}` needs `proxy_url`");
            found.push(Mistake::new(node.place_of(name), said));
        }
    }
}

/// What is wrong with a `tls_config`, besides its form.
pub fn check_tls(node: &Node, found: &mut Vec<Mistake>) {
    for names in [
        ["ca", "ca_file", "ca_ref"],
        ["cert", "cert_file", "cert_ref"],
        ["key", "key_file", "key_ref"],
    ] {
        at_most_one(node, &names, found);
    }
    let has =
        |what: &str| ["", "_file", "_ref"].iter().any(|end| set(node, &format!("{what}{end}")));
    if has("cert") != has("key") {
        let said = "a client certificate needs both its certificate and its key";
        found.push(Mistake::new(node.at, said));
    }
    let mut versions = Vec::new();
    for name in ["min_version", "max_version"] {
        match node.text_of(name) {
            "" => versions.push(None),
            "TLS10" => versions.push(Some(0)),
            "TLS11" => versions.push(Some(1)),
            "TLS12" => versions.push(Some(2)),
            "TLS13" => versions.push(Some(3)),
            _ => {
                let said = format!("`{name}` is TLS10, TLS11, TLS12 or TLS13");
                found.push(Mistake::new(node.place_of(name), said));
            }
        }
    }
    if let [Some(min), Some(max)] = versions[..]
        && min > max
    {
        let said = "`max_version` is below `min_version`";
        found.push(Mistake::new(node.place_of("max_version"), said));
    }
}

/// The part of an `http_config` that channels follow, and the names of what they do not.
pub fn followed_http(value: &Value) -> (Value, Vec<String>) {
    let (mut all, mut left) = (Object::new(), Vec::new());
    for (name, value) in value.as_object().into_iter().flatten() {
        match name.as_str() {
            // What upstream does unless told otherwise changes nothing for a single POST.
            "follow_redirects" | "enable_http2" | "proxy_from_environment" => {
                if name == "proxy_from_environment" && value == true {
                    left.push(name.clone());
                }
            }
            "bearer_token" => {
                all.insert("authorization".into(), json!({ "credentials": value }));
            }
            "bearer_token_file" => {
                all.insert("authorization".into(), json!({ "credentials_file": value }));
            }
            "tls_config" => {
                let (tls, more) = followed_tls(value);
                all.insert(name.clone(), tls);
                left.extend(more.into_iter().map(|more| format!("tls_config.{more}")));
            }
            "basic_auth" | "authorization" => {
                let mut kept = value.as_object().cloned().unwrap_or_default();
                for key in ["username_file", "username_ref", "password_ref", "credentials_ref"] {
                    if kept.remove(key).is_some() {
                        left.push(format!("{name}.{key}"));
                    }
                }
                all.insert(name.clone(), Value::Object(kept));
            }
            _ => left.push(name.clone()),
        }
    }
    (Value::Object(all), left)
}

/// As [`followed_http`], for a `tls_config`.
pub fn followed_tls(value: &Value) -> (Value, Vec<String>) {
    let (mut all, mut left) = (Object::new(), Vec::new());
    for (name, value) in value.as_object().into_iter().flatten() {
        match name.as_str() {
            "insecure_skip_verify" | "ca_file" | "server_name" => {
                if value != "" {
                    all.insert(name.clone(), value.clone());
                }
            }
            // Older versions are never spoken.
            "min_version" if value == "TLS10" || value == "TLS11" || value == "TLS12" => {}
            _ => left.push(name.clone()),
        }
    }
    (Value::Object(all), left)
}
