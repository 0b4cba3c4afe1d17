//! Every address there is, and what each demands of whoever asks. What is not found here is 404, so
//! that a page nobody thought of cannot be open.

use hyper::Method;

use crate::ack_links::unhex;
use crate::shared::PingKind;
use crate::statics::{self, Asset};
use crate::{am, prom};

/// One thing that can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Endpoint {
    Now,
    Incident(u64),
    Sources,
    Silences,
    Notify,
    Explore,
    Asset(&'static Asset),
    Events,
    View,
    Incidents,
    IncidentJson(u64),
    Alerts,
    NotifyJson,
    Why,
    Series,
    Journal,
    Command,
    SendTest,
    AckPage(String),
    Ack(String),
    Receipt(String, u64),
    Form,
    LoginPage,
    Login,
    Logout,
    Ping(String, PingKind),
    Prom(prom::Path),
    Am(am::Path),
    Write,
    Reload,
    Metrics,
    Healthy,
    Ready,
}

/// What must be true of a request before anything is done for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing: it shows nothing about this installation.
    Nothing,
    /// The right to read. A page: strangers are led to the login.
    Page,
    /// The right to read, by a script.
    Read,
    /// The right to give commands, as JSON.
    Command,
    /// The right to give commands, with the page's own token against forgery.
    Form,
    /// A form that needs no rights, but must come from our own page.
    OwnForm,
    /// Nothing but the right to know the address: it holds its own proof, which nobody can guess.
    Link,
    /// Any token: a program tells that it lives.
    Ping,
    /// The right to push samples.
    Write,
    /// The right to give commands, by a plain request such as Prometheus' operators send.
    Operate,
}

/// The longest heartbeat name, in bytes.
const NAME_BYTES_MAX: usize = 200;

impl Endpoint {
    /// What `method` and `path` ask for.
    pub(crate) fn find(method: &Method, path: &str) -> Option<Endpoint> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').take(6).collect();
        if let ["ping", rest @ ..] = parts.as_slice() {
            return match *method {
                Method::GET | Method::HEAD | Method::POST => ping(rest),
                _ => None,
            };
        }
        if let ["api", "v1", rest @ ..] = parts.as_slice() {
            return match *method {
                Method::GET | Method::HEAD => prom::Path::find(false, rest).map(Endpoint::Prom),
                Method::POST if rest == ["write"] => Some(Endpoint::Write),
                Method::POST => prom::Path::find(true, rest).map(Endpoint::Prom),
                _ => None,
            };
        }
        if let ["api", "v2", rest @ ..] = parts.as_slice() {
            return am::Path::find(method, rest).map(Endpoint::Am);
        }
        match *method {
            Method::GET | Method::HEAD => match parts.as_slice() {
                [""] => Some(Endpoint::Now),
                ["incident", id] => number(id).map(Endpoint::Incident),
                ["sources"] => Some(Endpoint::Sources),
                ["silences"] => Some(Endpoint::Silences),
                ["notify"] => Some(Endpoint::Notify),
                ["explore"] => Some(Endpoint::Explore),
                ["login"] => Some(Endpoint::LoginPage),
                ["ack", token] => Some(Endpoint::AckPage((*token).to_owned())),
                ["static", name] => statics::find(name).map(Endpoint::Asset),
                ["events"] => Some(Endpoint::Events),
                ["api", "view"] => Some(Endpoint::View),
                ["api", "incidents"] => Some(Endpoint::Incidents),
                ["api", "incidents", id] => number(id).map(Endpoint::IncidentJson),
                ["api", "alerts"] => Some(Endpoint::Alerts),
                ["api", "notify"] => Some(Endpoint::NotifyJson),
                ["api", "why"] => Some(Endpoint::Why),
                ["api", "series"] => Some(Endpoint::Series),
                ["api", "journal"] => Some(Endpoint::Journal),
                ["metrics"] => Some(Endpoint::Metrics),
                ["-", "healthy"] => Some(Endpoint::Healthy),
                ["-", "ready"] => Some(Endpoint::Ready),
                _ => None,
            },
            Method::POST => match parts.as_slice() {
                ["api", "command"] => Some(Endpoint::Command),
                ["api", "send-test"] => Some(Endpoint::SendTest),
                ["ack", token] => Some(Endpoint::Ack((*token).to_owned())),
                ["receipt", channel, message] => number(message).and_then(|message| {
                    unhex(channel).map(|name| Endpoint::Receipt(name, message))
                }),
                ["act"] => Some(Endpoint::Form),
                ["login"] => Some(Endpoint::Login),
                ["logout"] => Some(Endpoint::Logout),
                ["-", "reload"] => Some(Endpoint::Reload),
                _ => None,
            },
            Method::PUT if path == "/-/reload" => Some(Endpoint::Reload),
            _ => None,
        }
    }

    /// What it demands. Exhaustive on purpose: a new endpoint does not compile without an answer.
    pub(crate) fn demand(&self) -> Demand {
        match self {
            Endpoint::Asset(_) | Endpoint::LoginPage | Endpoint::Healthy | Endpoint::Ready => {
                Demand::Nothing
            }
            Endpoint::Now
            | Endpoint::Incident(_)
            | Endpoint::Sources
            | Endpoint::Silences
            | Endpoint::Notify
            | Endpoint::Explore => Demand::Page,
            Endpoint::Events
            | Endpoint::View
            | Endpoint::Incidents
            | Endpoint::IncidentJson(_)
            | Endpoint::Alerts
            | Endpoint::NotifyJson
            | Endpoint::Why
            | Endpoint::Series
            | Endpoint::Journal
            | Endpoint::Prom(_)
            | Endpoint::Metrics => Demand::Read,
            Endpoint::Am(am::Path::PutSilence | am::Path::EndSilence(_)) => Demand::Operate,
            Endpoint::Write | Endpoint::Am(am::Path::PostAlerts) => Demand::Write,
            Endpoint::Am(_) => Demand::Read,
            Endpoint::Reload => Demand::Operate,
            Endpoint::Command | Endpoint::SendTest => Demand::Command,
            Endpoint::AckPage(_) | Endpoint::Ack(_) | Endpoint::Receipt(..) => Demand::Link,
            Endpoint::Form => Demand::Form,
            Endpoint::Login | Endpoint::Logout => Demand::OwnForm,
            Endpoint::Ping(..) => Demand::Ping,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn ping(parts: &[&str]) -> Option<Endpoint> {
    let (name, kind) = match parts {
        [name] | [name, "success"] => (name, PingKind::Success),
        [name, "start"] => (name, PingKind::Start),
        [name, "fail"] => (name, PingKind::Fail),
        _ => return None,
    };
    let name = percent_decoded(name)?;
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    fits.then_some(Endpoint::Ping(name, kind))
}

/// The text of one path segment, or `None` if it is not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    // A form's decoder reads `+` as a blank; in a path it is a plus.
    let escaped = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (name, _) = form_urlencoded::parse(escaped.as_bytes()).next()?;
    (!name.contains('\u{fffd}')).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_address_demands_what_the_table_says_and_nothing_else_is_there() {
        let table = [
            ("GET", "/", Demand::Page),
            ("GET", "/incident/7", Demand::Page),
            ("GET", "/sources", Demand::Page),
            ("GET", "/silences", Demand::Page),
            ("GET", "/notify", Demand::Page),
            ("GET", "/explore", Demand::Page),
            ("GET", "/login", Demand::Nothing),
            ("GET", "/static/daruma.css", Demand::Nothing),
            ("GET", "/events", Demand::Read),
            ("GET", "/api/view", Demand::Read),
            ("GET", "/api/incidents", Demand::Read),
            ("GET", "/api/incidents/7", Demand::Read),
            ("GET", "/api/alerts", Demand::Read),
            ("GET", "/api/notify", Demand::Read),
            ("GET", "/api/why", Demand::Read),
            ("GET", "/api/series", Demand::Read),
            ("GET", "/api/journal", Demand::Read),
            ("GET", "/api/v1/query", Demand::Read),
            ("GET", "/api/v2/status", Demand::Read),
            ("GET", "/api/v2/receivers", Demand::Read),
            ("GET", "/api/v2/alerts", Demand::Read),
            ("GET", "/api/v2/alerts/groups", Demand::Read),
            ("GET", "/api/v2/silences", Demand::Read),
            ("GET", "/api/v2/silence/a-b", Demand::Read),
            ("POST", "/api/v2/alerts", Demand::Write),
            ("POST", "/api/v2/silences", Demand::Operate),
            ("DELETE", "/api/v2/silence/a-b", Demand::Operate),
            ("POST", "/api/v1/write", Demand::Write),
            ("POST", "/-/reload", Demand::Operate),
            ("PUT", "/-/reload", Demand::Operate),
            ("GET", "/metrics", Demand::Read),
            ("GET", "/-/healthy", Demand::Nothing),
            ("GET", "/-/ready", Demand::Nothing),
            ("POST", "/api/command", Demand::Command),
            ("POST", "/api/send-test", Demand::Command),
            ("GET", "/ack/1.2.3.4", Demand::Link),
            ("POST", "/ack/1.2.3.4", Demand::Link),
            ("POST", "/receipt/6f70732f7477696c696f5b305d/7", Demand::Link),
            ("POST", "/act", Demand::Form),
            ("POST", "/login", Demand::OwnForm),
            ("POST", "/logout", Demand::OwnForm),
            ("GET", "/ping/backup", Demand::Ping),
            ("POST", "/ping/backup/start", Demand::Ping),
            ("HEAD", "/ping/backup/success", Demand::Ping),
            ("GET", "/ping/backup/fail", Demand::Ping),
        ];
        let mut kinds = Vec::new();
        for (method, path, want) in table {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found = Endpoint::find(&method, path);
            assert_eq!(found.as_ref().map(Endpoint::demand), Some(want), "{method} {path}");
            kinds.push(std::mem::discriminant(&found.unwrap()));
            // What changes something is out of reach of a link, an image or a preload.
            if matches!(want, Demand::Command | Demand::Form | Demand::OwnForm) {
                let by_link = Endpoint::find(&Method::GET, path).map(|found| found.demand());
                assert!(matches!(by_link, None | Some(Demand::Nothing)), "GET {path}");
            }
        }
        kinds.dedup();
        assert_eq!(kinds.len(), 33, "each kind of endpoint stands in the table");
        for (method, path) in [
            ("GET", ""),
            ("GET", "//"),
            ("GET", "/incident/"),
            ("GET", "/incident/-1"),
            ("GET", "/incident/+7"),
            ("GET", "/incident/7/"),
            ("GET", "/incident/99999999999999999999"),
            ("GET", "/static/../daruma.css"),
            ("GET", "/static/%2e%2e"),
            ("GET", "/api"),
            ("GET", "/api/command"),
            ("GET", "/api/send-test"),
            ("GET", "/ack"),
            ("GET", "/ack/a/b"),
            ("GET", "/receipt/6f/7"),
            ("POST", "/receipt/6f/x"),
            ("POST", "/receipt/6/7"),
            ("POST", "/receipt/zz/7"),
            ("POST", "/receipt/6f/7/8"),
            ("GET", "/ping/"),
            ("GET", "/ping/a/b"),
            ("GET", "/ping/%ff"),
            ("DELETE", "/ping/a"),
            ("PUT", "/api/command"),
            ("OPTIONS", "/api/command"),
            ("OPTIONS", "/api/v1/query"),
            ("GET", "/api/v1/write"),
            ("POST", "/api/v1/rules"),
            ("POST", "/api/v1/admin/tsdb/delete_series"),
            ("GET", "/api/v1/read"),
            ("POST", "/api/view"),
            ("GET", "/api/v2"),
            ("GET", "/api/v2/silence"),
            ("DELETE", "/api/v2/alerts"),
            ("POST", "/api/v2/silence/a"),
            ("POST", "/"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(Endpoint::find(&method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn a_heartbeat_name_is_read_as_it_was_written() {
        for (path, want) in [
            ("/ping/nightly%20backup", "nightly backup"),
            ("/ping/a+b&c=d", "a+b&c=d"),
            ("/ping/a%2Fb", "a/b"),
        ] {
            let found = Endpoint::find(&Method::GET, path);
            assert_eq!(found, Some(Endpoint::Ping(want.to_owned(), PingKind::Success)), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_table_panic(path in "\\PC{0,60}") {
            for method in [Method::GET, Method::POST, Method::HEAD] {
                let found = Endpoint::find(&method, &format!("/{path}"));
                prop_assert!(found.is_none() || found.is_some_and(|f| f.demand() != Demand::Command
                    || path == "api/command" || path == "api/send-test"));
            }
        }
    }
}
