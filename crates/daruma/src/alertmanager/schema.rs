//! What may stand in an `alertmanager.yml`, as data: every key of Alertmanager 0.34 with its type. A key
//! that is not here is refused, as upstream refuses it.

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any scalar, as text.
    Text,
    /// Text that is never shown.
    Secret,
    /// An address that is never shown.
    SecretUrl,
    /// A template, which is judged when it is used, or such an address.
    SecretTemplateUrl,
    /// An address.
    Url,
    /// The path of a file.
    File,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A duration as Prometheus writes it.
    Span,
    /// A duration as Go writes it: fractions are allowed.
    GoSpan,
    /// `host:port`.
    HostPort,
    /// Names and texts.
    Map,
    /// Whatever there is.
    Any,
    /// Whatever there is, and never shown.
    SecretAny,
    /// Entries of one type.
    List(&'static Kind),
    /// Known keys.
    Keys(&'static [(&'static str, Kind)]),
    /// A text, or known keys.
    TextOr(&'static [(&'static str, Kind)]),
    /// A list of texts, or known keys.
    TextsOr(&'static [(&'static str, Kind)]),
    /// Names, and for each known keys.
    MapOf(&'static [(&'static str, Kind)]),
}

use Kind::{
    Any, Bool, File, GoSpan, HostPort, Int, Keys, List, Map, MapOf, Secret, SecretAny,
    SecretTemplateUrl, SecretUrl, Span, Text, TextOr, TextsOr, Url,
};

const TEXTS: Kind = List(&Text);

const TLS: &[(&str, Kind)] = &[
    ("ca", Text),
    ("cert", Text),
    ("key", Secret),
    ("ca_file", File),
    ("cert_file", File),
    ("key_file", File),
    ("ca_ref", Text),
    ("cert_ref", Text),
    ("key_ref", Text),
    ("server_name", Text),
    ("insecure_skip_verify", Bool),
    ("min_version", Text),
    ("max_version", Text),
];

const HEADER: &[(&str, Kind)] =
    &[("values", TEXTS), ("secrets", List(&Secret)), ("files", List(&File))];

const HTTP: Kind = Keys(&[
    (
        "basic_auth",
        Keys(&[
            ("username", Text),
            ("username_file", File),
            ("username_ref", Text),
            ("password", Secret),
            ("password_file", File),
            ("password_ref", Text),
        ]),
    ),
    (
        "authorization",
        Keys(&[
            ("type", Text),
            ("credentials", Secret),
            ("credentials_file", File),
            ("credentials_ref", Text),
        ]),
    ),
    (
        "oauth2",
        Keys(&[
            ("client_id", Text),
            ("client_secret", Secret),
            ("client_secret_file", File),
            ("client_secret_ref", Text),
            ("client_certificate_key_id", Text),
            ("client_certificate_key", Secret),
            ("client_certificate_key_file", File),
            ("client_certificate_key_ref", Text),
            ("grant_type", Text),
            ("iss", Text),
            ("audience", Text),
            ("claims", Any),
            ("signature_algorithm", Text),
            ("scopes", TEXTS),
            ("token_url", Text),
            ("endpoint_params", Map),
            ("tls_config", Keys(TLS)),
            ("proxy_url", Text),
            ("no_proxy", Text),
            ("proxy_from_environment", Bool),
            ("proxy_connect_header", SecretAny),
        ]),
    ),
    ("bearer_token", Secret),
    ("bearer_token_file", File),
    ("tls_config", Keys(TLS)),
    ("follow_redirects", Bool),
    ("enable_http2", Bool),
    ("http_headers", MapOf(HEADER)),
    // Upstream takes any text that Go can read as an address.
    ("proxy_url", Text),
    ("no_proxy", Text),
    ("proxy_from_environment", Bool),
    ("proxy_connect_header", SecretAny),
]);

/// The section `global`.
pub const GLOBAL: &[(&str, Kind)] = &[
    ("resolve_timeout", Span),
    ("http_config", HTTP),
    ("jira_api_url", Url),
    ("smtp_from", Text),
    ("smtp_hello", Text),
    ("smtp_smarthost", HostPort),
    ("smtp_auth_username", Text),
    ("smtp_auth_password", Secret),
    ("smtp_auth_password_file", File),
    ("smtp_auth_secret", Secret),
    ("smtp_auth_secret_file", File),
    ("smtp_auth_identity", Text),
    ("smtp_require_tls", Bool),
    ("smtp_tls_config", Keys(TLS)),
    ("smtp_force_implicit_tls", Bool),
    ("slack_api_url", SecretUrl),
    ("slack_api_url_file", File),
    ("slack_app_token", Secret),
    ("slack_app_token_file", File),
    ("slack_app_url", Url),
    ("pagerduty_url", Url),
    ("opsgenie_api_url", Url),
    ("opsgenie_api_key", Secret),
    ("opsgenie_api_key_file", File),
    ("wechat_api_url", Url),
    ("wechat_api_secret", Secret),
    ("wechat_api_secret_file", File),
    ("wechat_api_corp_id", Text),
    ("victorops_api_url", Url),
    ("victorops_api_key", Secret),
    ("victorops_api_key_file", File),
    ("telegram_api_url", Url),
    ("telegram_bot_token", Secret),
    ("telegram_bot_token_file", File),
    ("webex_api_url", Url),
    ("rocketchat_api_url", Url),
    ("rocketchat_token", Secret),
    ("rocketchat_token_file", File),
    ("rocketchat_token_id", Secret),
    ("rocketchat_token_id_file", File),
    ("mattermost_webhook_url", SecretUrl),
    ("mattermost_webhook_url_file", File),
];

const INTERVAL: Kind = Keys(&[
    ("times", List(&Keys(&[("start_time", Text), ("end_time", Text)]))),
    ("weekdays", TEXTS),
    ("days_of_month", TEXTS),
    ("months", TEXTS),
    ("years", TEXTS),
    ("location", Text),
]);

/// One entry of `time_intervals` and of `mute_time_intervals`.
pub const INTERVALS: Kind = Keys(&[("name", Text), ("time_intervals", List(&INTERVAL))]);

/// A route; its children are routes.
pub const ROUTE: &[(&str, Kind)] = &[
    ("receiver", Text),
    ("group_by", TEXTS),
    ("match", Map),
    ("match_re", Map),
    ("matchers", TEXTS),
    ("mute_time_intervals", TEXTS),
    ("active_time_intervals", TEXTS),
    ("continue", Bool),
    ("labels", Map),
    ("routes", List(&Any)),
    ("group_wait", Span),
    ("group_interval", Span),
    ("repeat_interval", Span),
];

/// One entry of `inhibit_rules`.
pub const INHIBIT: Kind = Keys(&[
    ("name", Text),
    ("source_match", Map),
    ("source_match_re", Map),
    ("source_matchers", TEXTS),
    ("target_match", Map),
    ("target_match_re", Map),
    ("target_matchers", TEXTS),
    ("equal", TEXTS),
]);

/// What the whole file may hold.
pub const FILE: &[(&str, Kind)] = &[
    ("global", Keys(GLOBAL)),
    ("route", Any),
    ("inhibit_rules", List(&INHIBIT)),
    ("receivers", List(&Any)),
    ("templates", List(&File)),
    ("mute_time_intervals", List(&INTERVALS)),
    ("time_intervals", List(&INTERVALS)),
    ("tracing", SecretAny),
];

const SLACK_FIELD: Kind = Keys(&[("title", Text), ("value", Text), ("short", Bool)]);
const SLACK_ACTION: Kind = Keys(&[
    ("type", Text),
    ("text", Text),
    ("url", Text),
    ("style", Text),
    ("name", Text),
    ("value", Text),
    (
        "confirm",
        Keys(&[("text", Text), ("title", Text), ("ok_text", Text), ("dismiss_text", Text)]),
    ),
]);
const JIRA_FIELD: &[(&str, Kind)] = &[("template", Text), ("enable_update", Bool)];
const MATTERMOST_ATTACHMENT: Kind = Keys(&[
    ("fallback", Text),
    ("color", Text),
    ("pretext", Text),
    ("text", Text),
    ("author_name", Text),
    ("author_link", Text),
    ("author_icon", Text),
    ("title", Text),
    ("title_link", Text),
    ("fields", List(&SLACK_FIELD)),
    ("thumb_url", Text),
    ("footer", Text),
    ("footer_icon", Text),
    ("image_url", Text),
]);

/// Kinds of receivers: the key in the file, and the keys of an entry besides `send_resolved` and
/// `http_config`.
pub const RECEIVERS: &[(&str, &[(&str, Kind)])] = &[
    (
        "webhook_configs",
        &[
            ("url", SecretTemplateUrl),
            ("url_file", File),
            ("max_alerts", Int),
            ("timeout", GoSpan),
            ("payload", Any),
        ],
    ),
    (
        "email_configs",
        &[
            ("to", Text),
            ("from", Text),
            ("hello", Text),
            ("smarthost", HostPort),
            ("auth_username", Text),
            ("auth_password", Secret),
            ("auth_password_file", File),
            ("auth_secret", Secret),
            ("auth_secret_file", File),
            ("auth_identity", Text),
            ("headers", Map),
            ("html", Text),
            ("text", Text),
            ("require_tls", Bool),
            ("tls_config", Keys(TLS)),
            ("force_implicit_tls", Bool),
            ("threading", Keys(&[("enabled", Bool), ("thread_by_date", Text)])),
        ],
    ),
    (
        "slack_configs",
        &[
            ("api_url", SecretUrl),
            ("api_url_file", File),
            ("app_token", Secret),
            ("app_token_file", File),
            ("app_url", Url),
            ("channel", Text),
            ("username", Text),
            ("color", Text),
            ("title", Text),
            ("title_link", Text),
            ("pretext", Text),
            ("text", Text),
            ("message_text", Text),
            ("fields", List(&SLACK_FIELD)),
            ("short_fields", Bool),
            ("footer", Text),
            ("fallback", Text),
            ("callback_id", Text),
            ("icon_emoji", Text),
            ("icon_url", Text),
            ("image_url", Text),
            ("thumb_url", Text),
            ("link_names", Bool),
            ("mrkdwn_in", TEXTS),
            ("actions", List(&SLACK_ACTION)),
            ("update_message", Bool),
            ("post_updates_to_thread", Bool),
            ("timeout", GoSpan),
        ],
    ),
    (
        "pagerduty_configs",
        &[
            ("service_key", Secret),
            ("service_key_file", File),
            ("routing_key", Secret),
            ("routing_key_file", File),
            ("url", Url),
            ("client", Text),
            ("client_url", Text),
            ("description", Text),
            ("details", Any),
            ("images", List(&Keys(&[("src", Text), ("alt", Text), ("href", Text)]))),
            ("links", List(&Keys(&[("href", Text), ("text", Text)]))),
            ("source", Text),
            ("severity", Text),
            ("class", Text),
            ("component", Text),
            ("group", Text),
            ("timeout", GoSpan),
        ],
    ),
    (
        "opsgenie_configs",
        &[
            ("api_key", Secret),
            ("api_key_file", File),
            ("api_url", Url),
            ("message", Text),
            ("description", Text),
            ("source", Text),
            ("details", Map),
            ("entity", Text),
            (
                "responders",
                List(&Keys(&[("id", Text), ("name", Text), ("username", Text), ("type", Text)])),
            ),
            ("actions", Text),
            ("tags", Text),
            ("note", Text),
            ("priority", Text),
            ("update_alerts", Bool),
        ],
    ),
    (
        "victorops_configs",
        &[
            ("api_key", Secret),
            ("api_key_file", File),
            ("api_url", Url),
            ("routing_key", Text),
            ("message_type", Text),
            ("state_message", Text),
            ("entity_display_name", Text),
            ("monitoring_tool", Text),
            ("custom_fields", Map),
        ],
    ),
    (
        "wechat_configs",
        &[
            ("api_secret", Secret),
            ("api_secret_file", File),
            ("corp_id", Text),
            ("message", Text),
            ("api_url", Url),
            ("to_user", Text),
            ("to_party", Text),
            ("to_tag", Text),
            ("agent_id", Text),
            ("message_type", Text),
        ],
    ),
    (
        "pushover_configs",
        &[
            ("user_key", Secret),
            ("user_key_file", File),
            ("token", Secret),
            ("token_file", File),
            ("title", Text),
            ("message", Text),
            ("url", Text),
            ("url_title", Text),
            ("device", Text),
            ("sound", Text),
            ("priority", Text),
            ("retry", GoSpan),
            ("expire", GoSpan),
            ("ttl", GoSpan),
            ("html", Bool),
            ("monospace", Bool),
        ],
    ),
    (
        "sns_configs",
        &[
            ("api_url", Text),
            (
                "sigv4",
                Keys(&[
                    ("region", Text),
                    ("access_key", Text),
                    ("secret_key", Secret),
                    ("profile", Text),
                    ("role_arn", Text),
                    ("external_id", Text),
                    ("use_fips_sts_endpoint", Bool),
                ]),
            ),
            ("topic_arn", Text),
            ("phone_number", Text),
            ("target_arn", Text),
            ("subject", Text),
            ("message", Text),
            ("attributes", Map),
            ("use_aws_http_client", Bool),
        ],
    ),
    (
        "telegram_configs",
        &[
            ("api_url", Url),
            ("bot_token", Secret),
            ("bot_token_file", File),
            ("chat_id", Int),
            ("chat_id_file", File),
            ("message_thread_id", Int),
            ("message", Text),
            ("disable_notifications", Bool),
            ("parse_mode", Text),
            ("timeout", GoSpan),
        ],
    ),
    (
        "discord_configs",
        &[
            ("webhook_url", SecretUrl),
            ("webhook_url_file", File),
            ("content", Text),
            ("title", Text),
            ("message", Text),
            ("username", Text),
            ("avatar_url", Text),
        ],
    ),
    ("webex_configs", &[("api_url", Url), ("message", Text), ("room_id", Text)]),
    (
        "msteams_configs",
        &[
            ("webhook_url", SecretUrl),
            ("webhook_url_file", File),
            ("title", Text),
            ("summary", Text),
            ("text", Text),
        ],
    ),
    (
        "msteamsv2_configs",
        &[("webhook_url", SecretUrl), ("webhook_url_file", File), ("title", Text), ("text", Text)],
    ),
    (
        "jira_configs",
        &[
            ("api_url", Url),
            ("api_type", Text),
            ("project", Text),
            ("summary", TextOr(JIRA_FIELD)),
            ("description", TextOr(JIRA_FIELD)),
            ("labels", TextsOr(&[("values", TEXTS), ("enable_update", Bool)])),
            ("priority", Text),
            ("issue_type", Text),
            ("reopen_transition", Text),
            ("resolve_transition", Text),
            ("wont_fix_resolution", Text),
            ("reopen_duration", Span),
            ("fields", Any),
        ],
    ),
    (
        "rocketchat_configs",
        &[
            ("api_url", Url),
            ("token_id", Secret),
            ("token_id_file", File),
            ("token", Secret),
            ("token_file", File),
            ("channel", Text),
            ("color", Text),
            ("title", Text),
            ("title_link", Text),
            ("text", Text),
            ("fields", List(&SLACK_FIELD)),
            ("short_fields", Bool),
            ("emoji", Text),
            ("icon_url", Text),
            ("image_url", Text),
            ("thumb_url", Text),
            ("link_names", Bool),
            (
                "actions",
                List(&Keys(&[
                    ("type", Text),
                    ("text", Text),
                    ("url", Text),
                    ("image_url", Text),
                    ("is_webview", Bool),
                    ("webview_height_ratio", Text),
                    ("msg", Text),
                    ("msg_in_chat_window", Bool),
                    ("msg_processing_type", Text),
                ])),
            ),
        ],
    ),
    (
        "mattermost_configs",
        &[
            ("webhook_url", SecretUrl),
            ("webhook_url_file", File),
            ("channel", Text),
            ("username", Text),
            ("text", Text),
            ("fallback", Text),
            ("color", Text),
            ("pretext", Text),
            ("author_name", Text),
            ("author_link", Text),
            ("author_icon", Text),
            ("title", Text),
            ("title_link", Text),
            ("fields", List(&SLACK_FIELD)),
            ("thumb_url", Text),
            ("footer", Text),
            ("footer_icon", Text),
            ("image_url", Text),
            ("icon_url", Text),
            ("icon_emoji", Text),
            ("attachments", List(&MATTERMOST_ATTACHMENT)),
            ("type", Text),
            ("props", Keys(&[("card", Text)])),
            (
                "priority",
                Keys(&[
                    ("priority", Text),
                    ("requested_ack", Bool),
                    ("persistent_notifications", Bool),
                ]),
            ),
        ],
    ),
    (
        "incidentio_configs",
        &[
            ("url", Url),
            ("url_file", File),
            ("alert_source_token", Secret),
            ("alert_source_token_file", File),
            ("max_alerts", Int),
            ("timeout", GoSpan),
        ],
    ),
];

/// What every entry of a receiver may hold besides; mail has no `http_config`.
pub fn common(kind: &str) -> &'static [(&'static str, Kind)] {
    const ALL: &[(&str, Kind)] = &[("send_resolved", Bool), ("http_config", HTTP)];
    if kind == "email_configs" { &ALL[..1] } else { ALL }
}
