//! One HTTP request over one connection of its own, for probes and scrapes.
//!
//! A probe asks whether a stranger could get an answer now, so nothing is kept that a stranger
//! would not have: no pooled connection, no cached address, no resumed TLS session. Everything from
//! the name to the last byte lies within one deadline, and everything that comes back is bounded.
//!
//! What never happens here: no redirect is followed, no body is decompressed, and a failure of this
//! machine ([`Reason::Local`], [`Reason::Resolver`]) is never told as one of the other side.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use daruma_model::{Clock, Time};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most header fields of an answer.
const HEADERS_MAX: usize = 200;
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// The most names that are being resolved at once: a dead resolver blocks a thread for half a
/// minute for each.
static RESOLVING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(32)));
/// The certificate authorities this machine trusts, read once.
static ROOTS: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
static CRYPTO: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// An `http://` or `https://` address that has been understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` cannot be requested: {why}")]
pub struct UrlError {
    /// The text, without a password in it, cut to 200 characters.
    pub found: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let error = |why| {
            let shown = match text.rsplit_once('@') {
                Some((_, after)) => after,
                None => text,
            };
            UrlError { found: shown.chars().take(200).collect(), why }
        };
        let tls = text.starts_with("https://");
        if !tls && !text.starts_with("http://") {
            return Err(error("it must begin with http:// or https://"));
        }
        let uri: Uri = text.parse().map_err(|_| error("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| error("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(error(
                "a password does not belong into a URL; use the header Authorization",
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(error("it names no host"));
        }
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => Some(if tls { 443 } else { 80 }),
            Some(port) => port.parse().ok().filter(|port| *port > 0),
        };
        let port = port.ok_or_else(|| error("its port is not one"))?;
        Ok(Url { host, port, tls, uri })
    }
}

impl Url {
    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address without its query, which may hold a secret.
    #[must_use]
    pub fn without_query(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", self.uri.path())
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

/// What to ask for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where.
    pub url: Url,
    /// How.
    pub method: Method,
    /// With these fields, besides `Host`, `User-Agent`, `Accept` and `Connection`.
    pub headers: HeaderMap,
    /// From the name to the last byte.
    pub timeout: Duration,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// How much of the body is read; the rest is left unread and [`Reply::cut`] set.
    pub body_bytes_max: usize,
}

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `Content-Type`, if it is text.
    pub content_type: Option<String>,
    /// `Content-Encoding`, if it is there and not `identity`.
    pub content_encoding: Option<String>,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
    /// The body is longer than what may be read of it.
    pub cut: bool,
    /// When the first of the shown certificates expires.
    pub certificate_expiry: Option<Time>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The host refused the connection.
    ConnectRefused,
    /// Nobody answered the attempt to connect.
    ConnectTimeout,
    /// The network says that there is no such way or host.
    Unreachable,
    /// There is no such name.
    Dns,
    /// The TLS handshake failed: certificate, name, protocol.
    Tls,
    /// Connected, but no whole answer came in time, or the connection broke.
    NoAnswer,
    /// An answer with the wrong status.
    Status,
    /// An answer with the wrong body.
    Body,
    /// An answer beyond every bound.
    TooLarge,
    /// Something that is not HTTP.
    Protocol,
    /// The resolver did not answer: whether the name exists is unknown.
    Resolver,
    /// This machine could not ask: no descriptors, no route, no permission, no trusted roots.
    Local,
}

impl Reason {
    /// As in the label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ConnectRefused => "connect_refused",
            Reason::ConnectTimeout => "connect_timeout",
            Reason::Unreachable => "unreachable",
            Reason::Dns | Reason::Resolver => "dns",
            Reason::Tls => "tls",
            Reason::NoAnswer => "no_answer",
            Reason::Status => "status",
            Reason::Body => "body",
            Reason::TooLarge => "too_large",
            Reason::Protocol => "protocol",
            Reason::Local => "local",
        }
    }

    /// Whether the other side was looked at: else the failure says nothing about it.
    #[must_use]
    pub fn is_evidence(self) -> bool {
        !matches!(self, Reason::Resolver | Reason::Local)
    }
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct Failure {
    /// Which kind.
    pub reason: Reason,
    /// What happened, to stand behind "GET url: ".
    pub said: String,
    /// When the first of the shown certificates expires, if it came that far.
    pub certificate_expiry: Option<Time>,
}

impl Failure {
    fn new(reason: Reason, said: impl Into<String>) -> Failure {
        Failure { reason, said: said.into(), certificate_expiry: None }
    }
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    clock: Clock,
    roots: Option<Arc<RootCertStore>>,
}

impl Client {
    /// Certificates are valid by `clock`, and by the authorities this machine trusts.
    #[must_use]
    pub fn new(clock: Clock) -> Client {
        Client { clock, roots: None }
    }

    /// Trusts `roots` instead of this machine's.
    #[must_use]
    pub fn trusting(self, roots: RootCertStore) -> Client {
        Client { roots: Some(Arc::new(roots)), ..self }
    }

    /// One request.
    ///
    /// # Errors
    /// [`Failure`] if there is no whole answer within the timeout, or the body is cut and
    /// unreadable. An answer with a bad status is an answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let deadline = Instant::now() + request.timeout;
        let url = &request.url;
        let stream = connect(&url.host, url.port, deadline, request.timeout).await?;
        if !url.tls {
            return exchange(stream, request, deadline).await;
        }
        let expiry = Arc::new(AtomicI64::new(i64::MAX));
        let known = |expiry: &AtomicI64| match expiry.load(Ordering::Relaxed) {
            i64::MAX => None,
            seconds => Some(Time::from_secs(seconds)),
        };
        let config = self.tls(request.insecure_skip_verify, expiry.clone()).await?;
        let name = ServerName::try_from(url.host.clone())
            .map_err(|_| Failure::new(Reason::Tls, format!("`{}` is no host name", url.host)))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let handshake = timeout_at(deadline, connector.connect(name, stream)).await;
        let answered = match handshake {
            Err(_) => Err(no_answer("TLS handshake", request.timeout)),
            Ok(Err(error)) => Err(tls_failure(&error)),
            Ok(Ok(stream)) => exchange(stream, request, deadline).await,
        };
        match answered {
            Ok(reply) => Ok(Reply { certificate_expiry: known(&expiry), ..reply }),
            Err(failure) => Err(Failure { certificate_expiry: known(&expiry), ..failure }),
        }
    }

    async fn tls(&self, insecure: bool, expiry: Arc<AtomicI64>) -> Result<ClientConfig, Failure> {
        let local = |why: String| Failure::new(Reason::Local, why);
        let verifier = if insecure {
            None
        } else {
            let roots = match &self.roots {
                Some(roots) => roots.clone(),
                None => ROOTS.get_or_try_init(native_roots).await?.clone(),
            };
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, CRYPTO.clone());
            Some(
                verifier
                    .build()
                    .map_err(|error| local(format!("no certificate can be checked: {error}")))?,
            )
        };
        let time = Arc::new(Clocked(self.clock.clone()));
        let witness = Arc::new(Witness { verifier, expiry });
        let mut config = ClientConfig::builder_with_details(CRYPTO.clone(), time)
            .with_safe_default_protocol_versions()
            .map_err(|error| local(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(witness)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

async fn native_roots() -> Result<Arc<RootCertStore>, Failure> {
    let local = |why: String| Failure::new(Reason::Local, why);
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| local(format!("the trusted authorities cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let why = loaded.errors.first().map_or(String::new(), |error| format!(": {error}"));
        return Err(local(format!(
            "this machine trusts no certificate authority (install ca-certificates){why}"
        )));
    }
    Ok(Arc::new(roots))
}

/// Opens a TCP connection to `host:port` before `deadline`. `within` is what the message tells.
///
/// # Errors
/// [`Failure`] with the reason of the last address that was tried.
pub async fn connect(
    host: &str,
    port: u16,
    deadline: Instant,
    within: Duration,
) -> Result<TcpStream, Failure> {
    let addresses = resolve(host, port, deadline, within).await?;
    let mut last = Failure::new(Reason::Dns, format!("{host} has no address"));
    for (i, address) in addresses.iter().enumerate() {
        // A dead first address must leave time for the second.
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(addresses.len() - i).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = connect_failure(*address, &error),
            Err(_) => {
                let said = format!("no connection to {address} within {within:?}");
                last = Failure::new(Reason::ConnectTimeout, said);
            }
        }
    }
    Err(last)
}

async fn resolve(
    host: &str,
    port: u16,
    deadline: Instant,
    within: Duration,
) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let silent =
        || Failure::new(Reason::Resolver, format!("the resolver did not answer within {within:?}"));
    let permit = timeout_at(deadline, RESOLVING.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(silent()) };
    let name = host.to_owned();
    let lookup = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        drop(permit);
        found.map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>())
    });
    match timeout_at(deadline, lookup).await {
        Err(_) => Err(silent()),
        Ok(Err(_)) => Err(Failure::new(Reason::Local, "the lookup was broken off")),
        Ok(Ok(Ok(addresses))) => Ok(addresses),
        Ok(Ok(Err(error))) => {
            let reason = if no_such_name(&error) { Reason::Dns } else { Reason::Resolver };
            Err(Failure::new(reason, format!("{host}: {error}")))
        }
    }
}

/// The system's resolver tells only in words whether it knows that a name does not exist.
fn no_such_name(error: &io::Error) -> bool {
    let said = error.to_string().to_lowercase();
    [
        "name or service not known",
        "nodename nor servname",
        "does not resolve",
        "no such host",
        "no address",
    ]
    .iter()
    .any(|words| said.contains(words))
}

fn connect_failure(address: SocketAddr, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        io::ErrorKind::HostUnreachable => Reason::Unreachable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Reason::NoAnswer,
        // No route, no free port, no descriptor, forbidden: the other side was not looked at.
        _ => Reason::Local,
    };
    Failure::new(reason, format!("cannot connect to {address}: {error}"))
}

fn no_answer(what: &str, within: Duration) -> Failure {
    Failure::new(Reason::NoAnswer, format!("no {what} within {within:?}"))
}

fn tls_failure(error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => Failure::new(Reason::Tls, format!("TLS: {inner}")),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::new(Reason::Tls, "the connection was closed in the TLS handshake")
        }
        None => Failure::new(Reason::NoAnswer, format!("TLS handshake: {error}")),
    }
}

async fn exchange<S>(stream: S, request: &Request, deadline: Instant) -> Result<Reply, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).max_buf_size(256 << 10);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // Dropped, and so aborted, when this function returns. Its errors also reach the sender.
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let message = hyper::Request::builder()
        .method(request.method.clone())
        .uri(request.url.uri.path_and_query().map_or("/", |path| path.as_str()))
        .body(Empty::<Bytes>::new());
    let mut message =
        message.map_err(|error| Failure::new(Reason::Local, format!("bad request: {error}")))?;
    *message.headers_mut() = headers(request)?;
    let response = match timeout_at(deadline, sender.send_request(message)).await {
        Err(_) => return Err(no_answer("answer", request.timeout)),
        Ok(Err(error)) => return Err(broken(&error)),
        Ok(Ok(response)) => response,
    };
    let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let mut reply = Reply {
        status: response.status().as_u16(),
        content_type: field(header::CONTENT_TYPE).map(str::to_owned),
        content_encoding: field(header::CONTENT_ENCODING)
            .filter(|encoding| *encoding != "identity")
            .map(str::to_owned),
        body: Vec::new(),
        cut: false,
        certificate_expiry: None,
    };
    let mut body = response.into_body();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(no_answer("end of the answer", request.timeout)),
            Ok(None) => return Ok(reply),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            let room = request.body_bytes_max - reply.body.len();
            reply.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                reply.cut = true;
                return Ok(reply);
            }
        }
    }
}

fn headers(request: &Request) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let host = request.url.uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(host)
        .map_err(|_| Failure::new(Reason::Local, "the host does not fit into a header"))?;
    headers.insert(header::HOST, host);
    let agent = concat!("daruma/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &request.headers {
        headers.insert(name, value.clone());
    }
    Ok(headers)
}

fn broken(error: &hyper::Error) -> Failure {
    // That kind of error has a method only where hyper is built as a server.
    if error.is_parse() && error.to_string().contains("too large") {
        return Failure::new(Reason::TooLarge, "the head of the answer is too large");
    }
    // The cause tells more than the outermost error.
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        source = cause.source();
    }
    if error.is_parse() {
        return Failure::new(Reason::Protocol, format!("the answer is not HTTP: {said}"));
    }
    Failure::new(Reason::NoAnswer, format!("the connection broke: {said}"))
}

/// Header fields of a configuration.
///
/// # Errors
/// In words, if one cannot be sent.
pub fn header_map(fields: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    if fields.len() > HEADERS_MAX {
        return Err(format!("at most {HEADERS_MAX} headers can be set"));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let field =
            HeaderName::from_str(name).map_err(|_| format!("`{name}` is no header name"))?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE].contains(&field) {
            return Err(format!("the header `{name}` cannot be set"));
        }
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(field, value);
    }
    Ok(headers)
}

/// Keeps the earliest expiry of what is shown, then judges as rustls does, or not at all.
struct Witness {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    expiry: Arc<AtomicI64>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) {
                self.expiry.fetch_min(parsed.validity().not_after.timestamp(), Ordering::Relaxed);
            }
        }
        match &self.verifier {
            None => Ok(ServerCertVerified::assertion()),
            Some(verifier) => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &CRYPTO.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &CRYPTO.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CRYPTO.signature_verification_algorithms.supported_schemes()
    }
}

/// Certificates are judged by the same clock as everything else.
struct Clocked(Clock);

impl fmt::Debug for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clocked")
    }
}

impl rustls::time_provider::TimeProvider for Clocked {
    fn current_time(&self) -> Option<UnixTime> {
        let milliseconds = u64::try_from((self.0)().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(milliseconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused_without_showing_a_password() {
        for (text, want) in [
            ("http://127.0.0.1:8080/ready", Ok(("127.0.0.1:8080", false))),
            ("https://[::1]/x?y=1", Ok(("[::1]:443", true))),
            ("http://web", Ok(("web:80", false))),
            ("web:80/x", Err("begin with")),
            ("ftp://web/", Err("begin with")),
            ("http://", Err("not a URL")),
            ("http://user:secret@web/", Err("password")),
            ("http://web:99999/", Err("port")),
            ("http://web:/", Err("port")),
            ("http://we b/", Err("not a URL")),
        ] {
            match (text.parse::<Url>(), want) {
                (Ok(url), Ok((address, tls))) => {
                    assert_eq!((url.address().as_str(), url.tls), (address, tls), "{text}");
                }
                (Err(error), Err(words)) => {
                    let error = error.to_string();
                    assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
                }
                (got, want) => panic!("{text}: {got:?}, {want:?}"),
            }
        }
        let url: Url = "https://web/a?token=secret".parse().unwrap();
        assert_eq!(url.without_query(), "https://web/a");
    }

    #[test]
    fn only_a_resolver_that_knows_says_that_a_name_does_not_exist() {
        let said = |words: &str| no_such_name(&io::Error::other(words.to_owned()));
        assert!(said("failed to lookup address information: Name or service not known"));
        assert!(!said(
            "failed to lookup address information: Temporary failure in name resolution"
        ));
    }
}
