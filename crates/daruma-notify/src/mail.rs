//! Mail: one thread per incident, text and HTML side by side.
//!
//! The identity of a mail depends on the message alone, so a copy that was sent twice is recognised by
//! mail stores; all mails of an incident refer to one made-up ancestor, so they form one thread
//! whichever of them arrive.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use daruma_model::{Level, Message, MessageStatus, Span};
use daruma_template::Escape;
use lettre::message::header::{self, HeaderName, HeaderValue, Headers};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::channel::{Channel, Context, Notifier, Open, Reach, Request, To};
use crate::declared::{Answers, Declared, Limit, Protocol, Receipts, Unit};
use crate::secret::{Secret, at_most_one};
use crate::smtp::{Server, SmtpReach};
use crate::text::{html, line};
use crate::tls::TlsConfig;
use crate::webhook::rfc3339;
use crate::words::{ACK, Template};

/// For one server, from the connection to its last word. Mail servers may hesitate on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest text of a mail, in bytes.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// What the HTML part says unless the configuration has its own.
const PAGE: &str = "{{ template \"email.default.html\" . }}";
/// Recipients of one entry.
const RECIPIENTS_MAX: usize = 100;
/// Servers of one entry.
const SERVERS_MAX: usize = 10;

/// One entry of `email_configs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct EmailConfig {
    /// Addresses, separated by commas.
    pub to: String,
    /// The sender; left out: `daruma` at this host.
    #[serde(default)]
    pub from: Option<String>,
    /// `host:port` of the mail server, or a list of them, tried in order.
    pub smarthost: Smarthosts,
    /// How to greet the server; left out: the name of this host.
    #[serde(default)]
    pub hello: Option<String>,
    /// The user to log in as; left out: no login.
    #[serde(default)]
    pub auth_username: Option<String>,
    /// The password; at most one of it and `auth_password_file`.
    #[serde(default)]
    pub auth_password: Option<Secret>,
    /// The file that holds the password, read at each attempt.
    #[serde(default)]
    pub auth_password_file: Option<PathBuf>,
    /// Whether to refuse a server without TLS.
    #[serde(default = "EmailConfig::yes")]
    pub require_tls: bool,
    /// TLS from the first byte on; left out: on port 465.
    #[serde(default)]
    pub force_implicit_tls: Option<bool>,
    /// Whom to believe.
    #[serde(default)]
    pub tls_config: TlsConfig,
    /// Further headers, and another `Subject`, `To` or `From` to show.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether it is told the end. Unlike Alertmanager, which leaves mail readers waiting: yes.
    #[serde(default = "EmailConfig::yes")]
    pub send_resolved: bool,
    /// The HTML part, a template; left out: Daruma's; an empty text: no such part.
    #[serde(default)]
    pub html: Option<String>,
    /// The plain part, a template; left out: Daruma's; an empty text: no such part.
    #[serde(default)]
    pub text: Option<String>,
    /// For one server, from the connection to its last word; 0 or left out: 30 s.
    #[serde(default)]
    pub timeout: Span,
}

/// One mail server or several, as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smarthosts(pub Vec<(String, u16)>);

impl Serialize for Smarthosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(host, port)| format!("{host}:{port}")))
    }
}

impl<'de> Deserialize<'de> for Smarthosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Smarthosts, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Smarthosts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("host:port of a mail server, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Smarthosts, E> {
                host_port(text).map(|one| Smarthosts(vec![one])).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Smarthosts, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    all.push(host_port(&text).map_err(de::Error::custom)?);
                }
                if all.is_empty() || all.len() > SERVERS_MAX {
                    let words = format!("`smarthost` takes 1 to {SERVERS_MAX} servers");
                    return Err(de::Error::custom(words));
                }
                Ok(Smarthosts(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let error = || {
        format!(
            "`{}` is not the address of a mail server; write host:port, such as \
             mail.example.org:587",
            line(text, 80)
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let port: u16 = port.parse().map_err(|_| error())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let fit = |c: char| c.is_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || port == 0 || !host.chars().all(fit) {
        return Err(error());
    }
    Ok((host.to_owned(), port))
}

impl<'de> Deserialize<'de> for EmailConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EmailConfig, D::Error> {
        let config = EmailConfig::deserialize(deserializer)?;
        config.well_formed().map_err(de::Error::custom)?;
        Ok(config)
    }
}

impl Serialize for EmailConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EmailConfig::serialize(self, serializer)
    }
}

/// Headers that are the channel's own.
const OWN_HEADERS: [&str; 9] = [
    "message-id",
    "in-reply-to",
    "references",
    "date",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "auto-submitted",
    "x-daruma-key",
];

impl EmailConfig {
    fn yes() -> bool {
        true
    }

    pub(crate) const DECLARED: Declared = Declared {
        kind: "email",
        auth: "`AUTH PLAIN` or `LOGIN`, over TLS",
        limits: &[
            Limit::of("subject", 200, Unit::Chars),
            Limit::of("text", TEXT_BYTES_MAX, Unit::Bytes),
        ],
        pace: &[],
        answers: Answers { protocol: Protocol::Smtp, ..Answers::HTTP },
        deduplicates: Some("Message-ID"),
        edits: false,
        receipts: Receipts::None,
    };

    fn recipients(&self) -> Result<Mailboxes, String> {
        let all: Mailboxes = self.to.parse().map_err(|_| {
            format!(
                "`to`: `{}` is not a list of mail addresses; write one@example.org, two@example.org",
                line(&self.to, 80)
            )
        })?;
        match all.iter().count() {
            1..=RECIPIENTS_MAX => Ok(all),
            _ => Err(format!("`to` takes 1 to {RECIPIENTS_MAX} addresses")),
        }
    }

    fn sender(&self) -> Result<Mailbox, String> {
        let from = self.from.clone().unwrap_or_else(|| format!("daruma@{}", host_name()));
        from.parse().map_err(|_| {
            format!("`from`: `{}` is not a mail address; write alerts@example.org", line(&from, 80))
        })
    }

    fn well_formed(&self) -> Result<(), String> {
        self.recipients()?;
        self.sender()?;
        at_most_one(
            "auth_password",
            self.auth_password.as_ref(),
            self.auth_password_file.as_ref(),
        )?;
        let password = self.auth_password.is_some() || self.auth_password_file.is_some();
        if password != self.auth_username.is_some() {
            return Err(
                "`auth_username` and a password belong together; set both or neither".into()
            );
        }
        if let Some(hello) = &self.hello
            && !is_host_name(hello)
        {
            return Err(format!("`hello`: `{}` is not a host name", line(hello, 80)));
        }
        let empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if empty(&self.html) && empty(&self.text) {
            return Err("`html` and `text` are both empty: nothing would be sent".into());
        }
        for name in self.headers.keys() {
            let known = OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str());
            let fit = |byte: u8| byte.is_ascii_graphic() && byte != b':';
            if known || name.is_empty() || name.len() > 60 || !name.bytes().all(fit) {
                return Err(format!("`headers`: `{}` cannot be set", line(name, 80)));
            }
        }
        Ok(())
    }
}

impl Channel for EmailConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let password =
            Secret::either(self.auth_password.as_ref(), self.auth_password_file.as_deref())?;
        let secrets = password
            .iter()
            .flat_map(|password| {
                let user = self.auth_username.as_deref().unwrap_or_default();
                let plain = format!("\0{user}\0{}", password.expose());
                let forms =
                    [password.expose().as_bytes(), plain.as_bytes()].map(crate::sign::base64);
                forms.into_iter().map(Secret::new).chain([password.clone()])
            })
            .collect();
        let servers = self.smarthost.0.iter().map(|(host, port)| Server {
            host: host.clone(),
            port: *port,
            implicit_tls: self.force_implicit_tls.unwrap_or(*port == 465),
        });
        let reach = SmtpReach {
            servers: servers.collect(),
            hello: self.hello.clone().unwrap_or_else(host_name),
            login: self.auth_username.clone().zip(password),
            require_tls: self.require_tls,
            tls: self.tls_config.clone(),
            timeout: if self.timeout > Span::ZERO { self.timeout.to_std() } else { TIMEOUT },
        };
        let notifier = Mail {
            from: self.sender()?,
            to: self.recipients()?,
            headers: self.headers.clone(),
            html: self.html.clone(),
            text: self.text.clone(),
            context: context.clone(),
        };
        Ok(Open::of(notifier, Reach::Smtp(reach), secrets))
    }
}

/// This host's name, if it is fit for a mail header.
fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    if is_host_name(&name) { name } else { "localhost".to_owned() }
}

fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

struct Mail {
    from: Mailbox,
    to: Mailboxes,
    headers: BTreeMap<String, String>,
    html: Option<String>,
    text: Option<String>,
    context: Context,
}

impl Notifier for Mail {
    fn declared(&self) -> &'static Declared {
        &EmailConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let domain = self.from.email.domain();
        let thread =
            format!("<daruma.incident.{}.{}@{domain}>", message.incident, self.from.email.user());
        let own = format!(
            "<daruma.message.{}.{}.{}@{domain}>",
            message.id, message.incident, message.created.0
        );
        let mut headers = Headers::new();
        headers.set(header::From::from(Mailboxes::from(self.from.clone())));
        headers.set(header::To::from(self.to.clone()));
        headers.set(header::Subject::from(line(&message.title, 200)));
        headers.set(header::Date::from(date(message)));
        headers.set(header::MessageId::from(own));
        headers.set(header::InReplyTo::from(thread.clone()));
        headers.set(header::References::from(thread));
        headers.set(header::MIME_VERSION_1_0);
        // Nobody's holiday notice should answer an alert.
        let mut own = vec![
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("X-Daruma-Key", message.id.to_string()),
        ];
        if message.level == Level::Critical && message.status == MessageStatus::Firing {
            own.push(("Importance", "high".to_owned()));
        }
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let theirs = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), self.context.one_line(name, value, message)));
        for (name, value) in own.chain(theirs).filter(|(_, value)| !value.is_empty()) {
            // Names were looked at when the configuration was read.
            if let Ok(name) = HeaderName::new_from_ascii(name) {
                headers.insert_raw(HeaderValue::new(name, line(&value, 900)));
            }
        }
        let mut bytes = headers.to_string().into_bytes();
        let left_out = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        bytes.extend(match (!left_out(&self.text), !left_out(&self.html)) {
            (_, false) => SinglePart::plain(self.text(message)).formatted(),
            (false, true) => SinglePart::html(self.page(message)).formatted(),
            (true, true) => MultiPart::builder()
                .kind(lettre::message::MultiPartKind::Alternative)
                .boundary(format!("daruma.{}.{}", message.id, message.created.0))
                .build()
                .singlepart(SinglePart::plain(self.text(message)))
                .singlepart(SinglePart::html(self.page(message)))
                .formatted(),
        });
        let to = self.to.iter().map(|mailbox| mailbox.email.clone()).collect();
        Request::Mail { from: self.from.email.clone(), to, bytes }
    }
}

impl Mail {
    fn text(&self, message: &Message) -> String {
        if let Some(own) = self.own("text", self.text.as_ref(), message, Escape::Text) {
            return own;
        }
        let mut text = format!("{}\n\n{}\n", line(&message.title, 500), cut(&message.text));
        for alert in &message.alerts {
            let when = when(alert.starts_at, alert.ends_at);
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                text,
                "\n{}: {}",
                word(alert.status),
                line(&alert.labels.to_string(), 1000)
            );
            let _ = writeln!(text, "  {when}");
            for (name, value) in alert.annotations.iter() {
                let _ = writeln!(text, "  {}: {}", line(name, 100), line(value, 1000));
            }
        }
        if let Some(link) = self.context.page(message) {
            let _ = write!(text, "\n{link}\n");
        }
        if let Some(link) = self.context.ack(message) {
            let _ = writeln!(text, "{ACK}: {link}");
        }
        let text: String =
            text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect();
        text.replace('\n', "\r\n")
    }

    /// The configuration's own words, if they can be had.
    fn own(
        &self,
        name: &str,
        text: Option<&String>,
        message: &Message,
        escape: Escape,
    ) -> Option<String> {
        let template = Template(text?.clone());
        let own = self.context.filled(name, Some(&template), message, escape)?;
        Some(cut(&own).replace('\n', "\r\n"))
    }

    fn page(&self, message: &Message) -> String {
        let built_in = PAGE.to_owned();
        let template = self.html.as_ref().unwrap_or(&built_in);
        if let Some(own) = self.own("html", Some(template), message, Escape::Html) {
            return own;
        }
        let mut page =
            String::from("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head>\n<body>\n");
        let _ = writeln!(page, "<h2>{}</h2>", html(&line(&message.title, 500)));
        let _ = writeln!(
            page,
            "<pre style=\"white-space: pre-wrap\">{}</pre>",
            html(cut(&message.text))
        );
        for alert in &message.alerts {
            let when = when(alert.starts_at, alert.ends_at);
            let _ =
                writeln!(page, "<h3>{}</h3>\n<p>{}</p>\n<table>", word(alert.status), html(&when));
            for (name, value) in alert.annotations.iter().chain(alert.labels.iter()) {
                let (name, value) = (html(&line(name, 100)), html(&line(value, 1000)));
                let _ = writeln!(page, "<tr><th align=\"left\">{name}</th><td>{value}</td></tr>");
            }
            page.push_str("</table>\n");
        }
        if let Some(link) = self.context.page(message) {
            let link = html(&link);
            let _ = writeln!(page, "<p><a href=\"{link}\">{link}</a></p>");
        }
        if let Some(link) = self.context.ack(message) {
            let _ = writeln!(page, "<p><a href=\"{}\">{ACK}</a></p>", html(&link));
        }
        page.push_str("</body></html>\n");
        page.replace("\r\n", "\n").replace('\n', "\r\n")
    }
}

fn when(starts_at: daruma_model::Time, ends_at: Option<daruma_model::Time>) -> String {
    match ends_at {
        Some(end) => format!("from {} to {}", rfc3339(starts_at), rfc3339(end)),
        None => format!("since {}", rfc3339(starts_at)),
    }
}

fn word(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Firing => "Firing",
        MessageStatus::Resolved => "Resolved",
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// A mail can be dated from 1970 to 9999.
fn date(message: &Message) -> SystemTime {
    let millis = message.created.0.clamp(0, 253_402_300_799_000);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial_message;

    fn mail(extra: &str) -> String {
        let yaml = format!("{{to: a@example.org, smarthost: 'm:25', {extra}}}");
        let config: EmailConfig = serde_saphyr::from_str(&yaml).expect(&yaml);
        let templates = std::sync::Arc::new(daruma_template::Templates::built_in());
        let url = "https://daruma.example.org".to_owned();
        let context = Context { templates, external_url: url, ..Context::default() };
        let open = config.open(&context).unwrap();
        let mut message =
            trial_message("ops/email[0]", MessageStatus::Firing, daruma_model::Time(0));
        (message.title, message.incident) = ("disk <b>full</b>".to_owned(), 7);
        let Request::Mail { bytes, .. } = open.notifier.request(&message, To::default()) else {
            panic!("no mail")
        };
        // Quoted-printable, undone as far as it matters here.
        String::from_utf8(bytes).unwrap().replace("=\r\n", "").replace("=3D", "=")
    }

    #[test]
    fn a_mail_is_a_page_of_its_own_unless_the_configuration_has_words() {
        let page = mail("");
        assert!(page.contains("<h1 style=") && page.contains("disk &lt;b&gt;full"), "{page}");
        assert!(page.contains("href=\"https://daruma.example.org/incident/7\""), "{page}");
        assert!(!page.contains("<img") && !page.contains("<link"), "nothing from elsewhere");
        let own = mail(
            "html: '<p title=\"{{ .Title }}\">mine</p>', text: 'is {{ .Status }}', \
             headers: {Subject: '[{{ .Status | toUpper }}] {{ .Receiver }}', X-Own: plain}",
        );
        for part in [
            "Subject: [FIRING] ops\r\n",
            "X-Own: plain\r\n",
            "is firing",
            "<p title=\"disk &lt;b&gt;full&lt;/b&gt;\">mine</p>",
        ] {
            assert!(own.contains(part), "{part}: {own}");
        }
        let failing = mail("html: '<p {{ .Title }}>', text: '{{ .Nope }}'");
        assert!(failing.contains("<h2>disk &lt;b&gt;full&lt;/b&gt;</h2>"), "{failing}");
        assert!(!mail("html: ''").contains("text/html"));
    }
}
