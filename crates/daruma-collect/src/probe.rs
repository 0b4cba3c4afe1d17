//! Asks an endpoint, from outside and from scratch, whether it answers as it should.
//!
//! The judgement stands here once: [`HttpCheck`] and [`TcpCheck`] serve the scheduled
//! [`ProbeSource`] and the questions a witness is asked on demand (`observe.rs`). What never happens
//! here: a probe that could not look (no descriptors, no route, a silent resolver) is not told as
//! a failed one; its series end instead.

use std::fmt;
use std::time::Duration;

use daruma_model::{HttpProbe, Labels, Span, TcpProbe, Time};
use hyper::Method;
use regex::bytes::{Regex, RegexBuilder};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::time::Instant;

use crate::delivery::{Reporter, Source};
use crate::http::{self, Client, Failure, Reason, Request, Url};
use crate::schedule::{Every, Schedule};
use crate::series::SeriesBook;

/// How much of a body is read and searched.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest timeout.
const TIMEOUT_MAX: Span = Span::minutes(5);

/// One entry of `collect.probes`. Brings `probe_success`, `probe_duration_seconds`,
/// `probe_failure{reason}`, for HTTP `probe_http_status_code`, for HTTPS
/// `probe_ssl_earliest_cert_expiry`, all with the labels `probe` and `instance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct ProbeSource {
    /// Its name, the label `probe`.
    pub name: String,
    /// What is asked.
    pub target: Target,
    /// How often.
    pub every: Every,
    /// Labels to put on its samples.
    pub labels: Labels,
    /// Each probe waits up to this much longer, differently each time.
    pub jitter: Span,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// An HTTP or HTTPS endpoint.
    Http(HttpTarget),
    /// A port.
    Tcp(TcpTarget),
}

/// An [`HttpProbe`] that can be asked; as text, its URL alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct HttpTarget(pub HttpProbe);

/// A [`TcpProbe`] that can be asked; as text, its `host:port` alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TcpTarget(pub TcpProbe);

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "ProbeSource")]
struct Fields {
    /// Its name, the label `probe`.
    name: String,
    /// An HTTP or HTTPS endpoint: its URL, or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpTarget>,
    /// A port: `host:port`, or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpTarget>,
    /// How often.
    #[serde(default = "every_default")]
    every: Every,
    /// Labels to put on its samples.
    #[serde(default)]
    labels: Labels,
    /// Each probe waits up to this much longer, differently each time.
    #[serde(default)]
    jitter: Span,
}

fn every_default() -> Every {
    Every::secs(5)
}

impl TryFrom<Fields> for ProbeSource {
    type Error = String;

    fn try_from(fields: Fields) -> Result<ProbeSource, String> {
        let Fields { name, http, tcp, every, labels, jitter } = fields;
        let target = match (http, tcp) {
            (Some(http), None) => Target::Http(http),
            (None, Some(tcp)) => Target::Tcp(tcp),
            _ => return Err(format!("the probe `{name}` needs exactly one of `http` and `tcp`")),
        };
        if name.is_empty() || name.len() > 200 {
            return Err("a probe needs a name of 1 to 200 bytes".into());
        }
        if jitter > every.span() {
            return Err(format!("the jitter of `{name}` is longer than the time between probes"));
        }
        Ok(ProbeSource { name, target, every, labels, jitter })
    }
}

impl From<ProbeSource> for Fields {
    fn from(source: ProbeSource) -> Fields {
        let ProbeSource { name, target, every, labels, jitter } = source;
        let (http, tcp) = match target {
            Target::Http(http) => (Some(http), None),
            Target::Tcp(tcp) => (None, Some(tcp)),
        };
        Fields { name, http, tcp, every, labels, jitter }
    }
}

impl<'de> Deserialize<'de> for HttpTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HttpTarget, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = HttpTarget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a map with `url`")
            }
            fn visit_str<E: de::Error>(self, url: &str) -> Result<HttpTarget, E> {
                checked(HttpProbe::get(url))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<HttpTarget, A::Error> {
                checked(HttpProbe::deserialize(MapAccessDeserializer::new(map))?)
            }
        }
        fn checked<E: de::Error>(probe: HttpProbe) -> Result<HttpTarget, E> {
            HttpCheck::new(&probe).map_err(E::custom)?;
            Ok(HttpTarget(probe))
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for TcpTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TcpTarget, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TcpTarget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`host:port`, or a map with `address`")
            }
            fn visit_str<E: de::Error>(self, address: &str) -> Result<TcpTarget, E> {
                checked(TcpProbe { address: address.to_owned(), timeout: Span::secs(1) })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<TcpTarget, A::Error> {
                checked(TcpProbe::deserialize(MapAccessDeserializer::new(map))?)
            }
        }
        fn checked<E: de::Error>(probe: TcpProbe) -> Result<TcpTarget, E> {
            TcpCheck::new(&probe).map_err(E::custom)?;
            Ok(TcpTarget(probe))
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What one probe has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// `None`: as it should be.
    pub failed: Option<Reason>,
    /// A sentence: what was asked and what came.
    pub said: String,
    /// How long it took.
    pub took: Duration,
    /// The status of the answer.
    pub status: Option<u16>,
    /// When the first of the shown certificates expires.
    pub certificate_expiry: Option<Time>,
    /// The beginning of the body, if there is something wrong with the answer.
    pub body: Option<String>,
}

fn timeout(span: Span) -> Result<Duration, String> {
    if (Span::millis(1)..=TIMEOUT_MAX).contains(&span) {
        Ok(span.to_std())
    } else {
        Err(format!("a timeout lies between 1ms and {TIMEOUT_MAX}, not at {span}"))
    }
}

/// An HTTP probe, ready to be asked.
#[derive(Debug, Clone)]
pub struct HttpCheck {
    request: Request,
    status: Vec<u16>,
    body: Option<Regex>,
    title: String,
}

impl HttpCheck {
    /// Understands a probe.
    ///
    /// # Errors
    /// In words, if it can never be asked.
    pub fn new(probe: &HttpProbe) -> Result<HttpCheck, String> {
        let url: Url = probe.url.parse().map_err(|error: http::UrlError| error.to_string())?;
        let method = probe.method.as_deref().unwrap_or("GET");
        let known = method.len() <= 20 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let parsed = Method::from_bytes(method.as_bytes()).ok().filter(|_| known);
        let parsed = parsed.filter(|method| *method != Method::CONNECT);
        let parsed = parsed.ok_or_else(|| format!("`{method}` is no method; write GET or HEAD"))?;
        if let Some(status) = probe.status.iter().find(|status| !(200..600).contains(*status)) {
            return Err(format!("{status} is no status of an answer"));
        }
        let body = probe.body.as_ref().map(|pattern| {
            let regex = RegexBuilder::new(pattern).size_limit(1 << 20).build();
            regex.map_err(|error| format!("`body` is no regular expression: {error}"))
        });
        let title = format!("{method} {}", url.without_query());
        Ok(HttpCheck {
            request: Request {
                url,
                method: parsed,
                headers: http::header_map(&probe.headers)?,
                timeout: timeout(probe.timeout)?,
                insecure_skip_verify: probe.insecure_skip_verify,
                body_bytes_max: BODY_BYTES_MAX,
            },
            status: probe.status.clone(),
            body: body.transpose()?,
            title,
        })
    }

    /// Asks once.
    pub async fn ask(&self, client: &Client) -> Seen {
        let began = Instant::now();
        let answer = client.ask(&self.request).await;
        let took = began.elapsed();
        let title = &self.title;
        let reply = match answer {
            Ok(reply) => reply,
            Err(Failure { reason, said, certificate_expiry }) => {
                return Seen {
                    failed: Some(reason),
                    said: format!("{title}: {said}"),
                    took,
                    status: None,
                    certificate_expiry,
                    body: None,
                };
            }
        };
        let status = reply.status;
        let good = match self.status.as_slice() {
            [] => (200..300).contains(&status),
            listed => listed.contains(&status),
        };
        let found = self.body.as_ref().is_none_or(|body| body.is_match(&reply.body));
        let failed = match (good, found) {
            (false, _) => Some(Reason::Status),
            (true, false) => Some(Reason::Body),
            (true, true) => None,
        };
        let cut = if reply.cut { "the first MiB of " } else { "" };
        let pattern = self.body.as_ref().map_or("", |body| body.as_str());
        let said = match failed {
            Some(Reason::Body) => {
                format!("{title}: status {status}, but {cut}the body does not match `{pattern}`")
            }
            _ => format!("{title}: status {status} in {} ms", took.as_millis()),
        };
        let start = &reply.body[..reply.body.len().min(2000)];
        let body = failed.map(|_| String::from_utf8_lossy(start).chars().take(500).collect());
        Seen {
            failed,
            said,
            took,
            status: Some(status),
            certificate_expiry: reply.certificate_expiry,
            body,
        }
    }
}

/// A TCP probe, ready to be asked.
#[derive(Debug, Clone)]
pub struct TcpCheck {
    host: String,
    port: u16,
    address: String,
    timeout: Duration,
}

impl TcpCheck {
    /// Understands a probe.
    ///
    /// # Errors
    /// In words, if it can never be asked.
    pub fn new(probe: &TcpProbe) -> Result<TcpCheck, String> {
        let address = &probe.address;
        let parts = address.rsplit_once(':').and_then(|(host, port)| {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let plain = !host.is_empty() && !host.contains([':', '/', ' ', '@']);
            let host = inner.or(plain.then_some(host))?;
            Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
        });
        let (host, port) =
            parts.ok_or_else(|| format!("`{address}` is no address; write host:port"))?;
        Ok(TcpCheck { host, port, address: address.clone(), timeout: timeout(probe.timeout)? })
    }

    /// Asks once.
    pub async fn ask(&self) -> Seen {
        let began = Instant::now();
        let deadline = began + self.timeout;
        let connected = http::connect(&self.host, self.port, deadline, self.timeout).await;
        let took = began.elapsed();
        let address = &self.address;
        let (failed, said) = match connected {
            Ok(stream) => {
                drop(stream);
                (None, format!("connect {address}: accepted in {} ms", took.as_millis()))
            }
            Err(failure) => (Some(failure.reason), format!("connect {address}: {}", failure.said)),
        };
        Seen { failed, said, took, status: None, certificate_expiry: None, body: None }
    }
}

enum Check {
    Http(Box<HttpCheck>, Client),
    Tcp(TcpCheck),
}

impl Check {
    fn new(target: &Target, client: Client) -> Result<Check, String> {
        match target {
            Target::Http(HttpTarget(probe)) => {
                Ok(Check::Http(Box::new(HttpCheck::new(probe)?), client))
            }
            Target::Tcp(TcpTarget(probe)) => Ok(Check::Tcp(TcpCheck::new(probe)?)),
        }
    }

    async fn ask(&self) -> Seen {
        match self {
            Check::Http(check, client) => check.ask(client).await,
            Check::Tcp(check) => check.ask().await,
        }
    }

    fn instance(&self) -> String {
        match self {
            Check::Http(check, _) => check.request.url.without_query(),
            Check::Tcp(check) => check.address.clone(),
        }
    }
}

/// What one probe brings, over all its looks.
struct Notes {
    book: SeriesBook,
    reasons: Vec<Reason>,
    skipped: u64,
}

impl Notes {
    fn commit(&mut self, seen: &Seen, http: bool, at: Time) -> daruma_model::Commit {
        let book = &mut self.book;
        book.begin(at);
        if let Some(reason) = seen.failed.filter(|reason| !reason.is_evidence()) {
            // Nothing was seen. A name that could not be resolved is worth showing all the same.
            book.add("probe_failure", &[("reason", reason.as_str())], 1.0);
            return book.finish();
        }
        if let Some(reason) = seen.failed
            && !self.reasons.contains(&reason)
        {
            self.reasons.push(reason);
        }
        book.add("probe_success", &[], f64::from(u8::from(seen.failed.is_none())));
        book.add("probe_duration_seconds", &[], seen.took.as_secs_f64());
        book.add("probe_skipped_total", &[], self.skipped as f64);
        if http {
            book.add("probe_http_status_code", &[], f64::from(seen.status.unwrap_or(0)));
        }
        for reason in &self.reasons {
            let now = f64::from(u8::from(seen.failed == Some(*reason)));
            book.add("probe_failure", &[("reason", reason.as_str())], now);
        }
        if let Some(expiry) = seen.certificate_expiry {
            book.add("probe_ssl_earliest_cert_expiry", &[], expiry.as_secs_f64());
        }
        book.finish()
    }
}

impl Source for ProbeSource {
    fn name(&self) -> String {
        format!("probe/{}", self.name)
    }

    async fn run(self, mut reporter: Reporter) {
        let client = Client::new(reporter.clock());
        let check = match Check::new(&self.target, client) {
            Ok(check) => check,
            Err(why) => {
                // The configuration refuses it too; whoever builds a source by hand is told here.
                reporter.failing(why);
                while reporter.wait_until(Instant::now() + Duration::from_secs(5)).await {}
                return;
            }
        };
        let http = matches!(check, Check::Http(..));
        let own = Labels::from([("probe", &*self.name), ("instance", &check.instance())]);
        let mut notes = Notes {
            book: SeriesBook::new(own.merged(&self.labels)),
            reasons: Vec::new(),
            skipped: 0,
        };
        let mut schedule = Schedule::new(self.every, reporter.name());
        let period = self.every.span().to_std();
        let mut dice = crate::delivery::Fingerprint::of(self.name.as_bytes()).hash | 1;
        loop {
            // Marsaglia's xorshift: spreads, and needs to be no better.
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let jitter = self.jitter.to_std().mul_f64((dice >> 11) as f64 / (1_u64 << 53) as f64);
            let due = schedule.next_due() + jitter;
            if !reporter.wait_until(due).await {
                return;
            }
            let (at, began) = (reporter.now(), Instant::now());
            let Some(seen) = reporter.during(check.ask()).await else { return };
            notes.skipped += (began.elapsed().as_nanos() / period.as_nanos()) as u64;
            let commit = notes.commit(&seen, http, at);
            reporter.samples(commit);
            match seen.failed.filter(|reason| !reason.is_evidence()) {
                None => reporter.ok(""),
                Some(_) => reporter.failing(seen.said),
            }
        }
    }
}

#[cfg(test)]
mod tests;
