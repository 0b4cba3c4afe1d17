//! Who asks, and whether the request could have been forged by another site.
//!
//! Three things are checked, each for its own reason:
//! - `Host` must be a name of ours or an address written as a number. A site whose name is made to
//!   point at 127.0.0.1 (DNS rebinding) sends its own name, and meets a closed door.
//! - What changes something must come from our own pages (`Sec-Fetch-Site`, `Origin`), and either carry
//!   the page's token (forms) or be JSON, which no other site can send without asking first.
//! - With tokens configured, a token or a session made from one. Without any, whoever reaches the
//!   loopback address is this machine's user.
//!
//! Never in here: a comparison of secrets that stops at the first difference.

use std::net::IpAddr;

use daruma_model::{Span, Time};
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Known, Role};
use crate::routes::Demand;

/// How long a login lasts.
const SESSION: Span = Span::hours(24 * 30);
/// The cookie's name.
pub(crate) const COOKIE_NAME: &str = "daruma_session";

/// What is needed to judge a request.
pub(crate) struct Guard {
    tokens: Vec<Known>,
    hosts: Vec<String>,
    secret: [u8; 32],
    secure_cookie: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Stands beside commands.
    pub(crate) name: String,
    /// Whether it may give commands.
    pub(crate) may_act: bool,
    /// Whether it may push samples.
    pub(crate) may_write: bool,
    /// What its forms must carry.
    pub(crate) csrf: String,
    /// Whether it can log out.
    pub(crate) session: bool,
}

/// Why nothing is done for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Sent to a name that is not ours.
    Host,
    /// It may come from another site.
    Forged(&'static str),
    /// Nobody known asks.
    Stranger,
    /// Somebody known asks for more than it may.
    Role,
    /// Not JSON.
    MediaType,
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const CLIENT: HeaderName = HeaderName::from_static("x-daruma-client");

impl Guard {
    pub(crate) fn new(
        tokens: Vec<Known>,
        hosts: Vec<String>,
        secret: [u8; 32],
        secure_cookie: bool,
    ) -> Guard {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
        Guard { tokens, hosts, secret, secure_cookie }
    }

    /// Whether anybody must say who they are.
    pub(crate) fn is_closed(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Lets a request in, or says why not. The body of a form is checked later, by
    /// [`Guard::is_own_form`].
    pub(crate) fn admit(&self, demand: Demand, parts: &Parts, now: Time) -> Result<Caller, Denied> {
        let host = self.host(parts)?;
        Guard::unforged(demand, parts, &host)?;
        let caller = self.caller(parts, now);
        match demand {
            Demand::Nothing | Demand::OwnForm | Demand::Link => {
                Ok(caller.unwrap_or_else(|| self.nobody()))
            }
            Demand::Page | Demand::Read | Demand::Ping => caller.ok_or(Denied::Stranger),
            Demand::Write => {
                let caller = caller.ok_or(Denied::Stranger)?;
                if caller.may_write { Ok(caller) } else { Err(Denied::Role) }
            }
            Demand::Command | Demand::Form | Demand::Operate => {
                let caller = caller.ok_or(Denied::Stranger)?;
                if !caller.may_act {
                    return Err(Denied::Role);
                }
                Ok(caller)
            }
        }
    }

    /// Whoever has not said who they are.
    pub(crate) fn stranger(&self) -> Caller {
        self.nobody()
    }

    /// Whether a form carries the token of the page it claims to come from.
    pub(crate) fn is_own_form(&self, caller: &Caller, carried: &str) -> bool {
        caller.csrf.as_bytes().ct_eq(carried.as_bytes()).into()
    }

    /// The host the request was sent to, if it is ours.
    fn host(&self, parts: &Parts) -> Result<String, Denied> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Denied::Host) };
        let host = host.to_str().map_err(|_| Denied::Host)?.to_ascii_lowercase();
        let asked = parts.uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
        if asked.is_some_and(|asked| asked != host) {
            return Err(Denied::Host);
        }
        let name = without_port(&host).ok_or(Denied::Host)?;
        let ours = name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || self.hosts.iter().any(|known| known == name);
        if ours { Ok(host) } else { Err(Denied::Host) }
    }

    fn unforged(demand: Demand, parts: &Parts, host: &str) -> Result<(), Denied> {
        let text = |name: &HeaderName| {
            parts.headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"))
        };
        let (site, mode) = (text(&FETCH_SITE), text(&FETCH_MODE));
        let from_elsewhere = site.is_some_and(|site| site != "same-origin" && site != "none");
        match demand {
            // Of a link the address is the secret: no other site knows it, and whoever does may use it.
            Demand::Nothing | Demand::Link => Ok(()),
            // A link in a chat leads to a page; a script of another site reads nothing.
            // A form of another site that posts to the API is no link.
            Demand::Page | Demand::Read
                if from_elsewhere && (mode != Some("navigate") || parts.method == Method::POST) =>
            {
                Err(Denied::Forged("another site asked for this"))
            }
            Demand::Page | Demand::Read => Ok(()),
            Demand::Ping | Demand::Write if from_elsewhere => {
                Err(Denied::Forged("another site sent this"))
            }
            Demand::Ping | Demand::Write => Ok(()),
            Demand::Command | Demand::Form | Demand::OwnForm | Demand::Operate => {
                if site.is_some_and(|site| site != "same-origin") {
                    return Err(Denied::Forged("another site sent this"));
                }
                let own = |origin: &str| {
                    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
                        == Some(host)
                };
                match text(&ORIGIN) {
                    // Our pages send no referrer, and browsers then send this origin with a form.
                    Some("null") if site == Some("same-origin") => {}
                    Some(origin) if !own(origin) => {
                        return Err(Denied::Forged("the page that sent this is of another site"));
                    }
                    _ => {}
                }
                let media = text(&CONTENT_TYPE).unwrap_or_default();
                let media = media.split(';').next().unwrap_or_default().trim();
                if demand == Demand::Command && !media.eq_ignore_ascii_case("application/json") {
                    return Err(Denied::MediaType);
                }
                Ok(())
            }
        }
    }

    fn caller(&self, parts: &Parts, now: Time) -> Option<Caller> {
        if self.tokens.is_empty() {
            let name = parts.headers.get(CLIENT).and_then(|value| value.to_str().ok());
            let plain = |c: &char| c.is_ascii_alphanumeric() || "-_. ".contains(*c);
            let name: String = name.unwrap_or_default().chars().filter(plain).take(40).collect();
            let name = if name.trim().is_empty() { "web".to_owned() } else { name };
            return Some(Caller { name, may_act: true, may_write: true, ..self.nobody() });
        }
        if let Some(value) = parts.headers.get(AUTHORIZATION) {
            let (scheme, given) = value.to_str().ok()?.split_once(' ')?;
            let known =
                self.known(given.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
            return Some(Caller {
                name: known.name.clone(),
                may_act: known.role >= Role::Responder,
                may_write: known.role >= Role::Writer,
                // A script has no pages, so that no form of its exists.
                csrf: self.mark(&["bearer", &known.name]),
                session: false,
            });
        }
        let cookie = cookie(parts)?;
        let known = self.session(cookie, now)?;
        Some(Caller {
            name: known.name.clone(),
            may_act: known.role >= Role::Responder,
            may_write: known.role >= Role::Writer,
            csrf: mac(known.secret.as_bytes(), &["form", cookie]),
            session: true,
        })
    }

    /// Whose secret this is. All are compared, by their hashes: neither length nor place tells.
    pub(crate) fn known(&self, given: &str) -> Option<&Known> {
        let hash = |text: &str| Sha256::digest(text.as_bytes());
        let given = hash(given);
        let mut found = None;
        for token in &self.tokens {
            if bool::from(hash(&token.secret).as_slice().ct_eq(given.as_slice())) {
                found = Some(token);
            }
        }
        found
    }

    /// The cookie of a new session. It is made from the token's secret, so that it outlives a restart
    /// of the program and ends with the token.
    pub(crate) fn set_cookie(&self, known: &Known, now: Time) -> String {
        let until = (now + SESSION).0.to_string();
        let mark = mac(known.secret.as_bytes(), &["session", &known.name, &until]);
        format!("{COOKIE_NAME}={}.{until}.{mark}; {}", known.name, self.cookie_rules(SESSION))
    }

    /// The cookie that ends a session.
    pub(crate) fn end_cookie(&self) -> String {
        format!("{COOKIE_NAME}=; {}", self.cookie_rules(Span::ZERO))
    }

    fn cookie_rules(&self, age: Span) -> String {
        let secure = if self.secure_cookie { "; Secure" } else { "" };
        format!("Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", age.0 / 1000)
    }

    fn session(&self, cookie: &str, now: Time) -> Option<&Known> {
        let mut parts = cookie.split('.');
        let (name, until, mark) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || until.parse::<i64>().ok().is_none_or(|until| until <= now.0) {
            return None;
        }
        let known = self.tokens.iter().find(|token| token.name == name)?;
        let want = mac(known.secret.as_bytes(), &["session", name, until]);
        bool::from(want.as_bytes().ct_eq(mark.as_bytes())).then_some(known)
    }

    /// Somebody without rights, whose forms we know again all the same.
    fn nobody(&self) -> Caller {
        let csrf = self.mark(&["anyone"]);
        Caller { name: String::new(), may_act: false, may_write: false, csrf, session: false }
    }

    fn mark(&self, parts: &[&str]) -> String {
        mac(&self.secret, parts)
    }
}

fn cookie(parts: &Parts) -> Option<&str> {
    let all = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

/// The name in a `Host` header; `None` if it is not one.
fn without_port(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        return (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(inside);
    }
    match host.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name),
        None => Some(host),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// HMAC-SHA256 (RFC 2104) over the parts, each closed by a byte that none of them holds; as hex.
pub(crate) fn mac(key: &[u8], parts: &[&str]) -> String {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    for part in parts {
        inner.update(part.as_bytes());
        inner.update([0xff]);
    }
    let outer = Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}
