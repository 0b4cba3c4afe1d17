//! One POST and its answer, whatever the far side does: bounded in time and size, redirects not followed.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::secret::{Secret, at_most_one};
use crate::sign::base64;
use crate::tls::TlsConfig;

/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Alertmanager's `http_config`, as far as it concerns a single POST.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct HttpConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    pub authorization: Option<Authorization>,
    /// Whom to believe.
    pub tls_config: TlsConfig,
    /// `false` or left out: a notification goes where it was addressed.
    pub follow_redirects: Option<bool>,
}

/// Alertmanager's `basic_auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user's name.
    pub username: String,
    /// The password; at most one of it and `password_file`.
    pub password: Option<Secret>,
    /// The file that holds the password, read at each attempt.
    pub password_file: Option<std::path::PathBuf>,
}

/// Alertmanager's `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// `Bearer` unless said.
    #[serde(rename = "type")]
    pub kind: String,
    /// The token; at most one of it and `credentials_file`.
    pub credentials: Option<Secret>,
    /// The file that holds the token, read at each attempt.
    pub credentials_file: Option<std::path::PathBuf>,
}

impl Default for Authorization {
    fn default() -> Authorization {
        Authorization { kind: "Bearer".to_owned(), credentials: None, credentials_file: None }
    }
}

impl<'de> Deserialize<'de> for HttpConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HttpConfig, D::Error> {
        let config = HttpConfig::deserialize(deserializer)?;
        config.well_formed().map_err(serde::de::Error::custom)?;
        Ok(config)
    }
}

impl Serialize for HttpConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HttpConfig::serialize(self, serializer)
    }
}

impl HttpConfig {
    fn well_formed(&self) -> Result<(), String> {
        if self.follow_redirects == Some(true) {
            return Err(
                "`follow_redirects: true` is not offered: a notification goes where it was \
                        addressed; leave the key out"
                    .to_owned(),
            );
        }
        if let Some(auth) = &self.basic_auth {
            at_most_one("password", auth.password.as_ref(), auth.password_file.as_ref())?;
            if auth.username.contains(':') {
                return Err("`username` of `basic_auth` must not hold a colon".to_owned());
            }
        }
        if let Some(auth) = &self.authorization {
            at_most_one("credentials", auth.credentials.as_ref(), auth.credentials_file.as_ref())?;
            if self.basic_auth.is_some() {
                return Err("at most one of `basic_auth` and `authorization` may be set".to_owned());
            }
            if auth.kind.eq_ignore_ascii_case("basic") {
                return Err("`authorization` cannot be of type Basic; use `basic_auth`".to_owned());
            }
            if auth.kind.is_empty() || !auth.kind.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err("`type` of `authorization` is one word such as Bearer".to_owned());
            }
        }
        Ok(())
    }

    /// Reads the secrets and makes ready; what must be masked goes to `secrets`.
    pub(crate) fn reach(
        &self,
        timeout: Duration,
        secrets: &mut Vec<Secret>,
    ) -> Result<HttpReach, String> {
        let mut authorization = None;
        if let Some(auth) = &self.basic_auth {
            let password = Secret::either(auth.password.as_ref(), auth.password_file.as_deref())?
                .unwrap_or_default();
            let words = base64(format!("{}:{}", auth.username, password.expose()).as_bytes());
            secrets.extend([password, Secret::new(&*words)]);
            authorization = Some(Secret::new(format!("Basic {words}")));
        }
        if let Some(auth) = &self.authorization {
            let token =
                Secret::either(auth.credentials.as_ref(), auth.credentials_file.as_deref())?
                    .unwrap_or_default();
            authorization = Some(Secret::new(format!("{} {}", auth.kind, token.expose())));
            secrets.push(token);
        }
        Ok(HttpReach { authorization, tls: self.tls_config.clone(), timeout })
    }
}

/// How to get to an HTTP server.
pub(crate) struct HttpReach {
    authorization: Option<Secret>,
    tls: TlsConfig,
    timeout: Duration,
}

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    /// The beginning of the body, invalid UTF-8 replaced.
    pub(crate) body: String,
    /// Why there is no more of it, if there should be.
    pub(crate) cut: Option<&'static str>,
    pub(crate) retry_after: Option<String>,
}

/// Where a URL leads.
pub(crate) struct Place {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// For the `Host` header.
    pub(crate) authority: String,
    /// User information of the URL.
    user: Option<String>,
    path: String,
}

/// Reads an `http` or `https` URL; the reason why not never repeats it.
pub(crate) fn place(url: &str) -> Result<Place, String> {
    let uri: hyper::Uri = url.trim().parse().map_err(|_| "`url` is not a URL".to_owned())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err("`url` must begin with http:// or https://".to_owned()),
    };
    let authority = uri.authority().ok_or("`url` names no host")?;
    let host = authority.host().to_owned();
    if host.is_empty() {
        return Err("`url` names no host".to_owned());
    }
    let (user, named) = match authority.as_str().rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest.to_owned()),
        None => (None, authority.as_str().to_owned()),
    };
    let port = match authority.port_u16() {
        Some(0) => return Err("`url` names port 0".to_owned()),
        Some(port) => port,
        None if named != host => return Err("the port in `url` is not a number".to_owned()),
        None if tls => 443,
        None => 80,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Place { tls, host, port, authority: named, user, path })
}

/// Posts once. An error is a reason why there is no answer at all.
pub(crate) async fn post(
    reach: &HttpReach,
    url: &Secret,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Result<Answer, String> {
    ask(reach, hyper::Method::POST, url, headers, body).await
}

/// Asks once for what a URL has.
pub(crate) async fn get(reach: &HttpReach, url: &Secret) -> Result<Answer, String> {
    ask(reach, hyper::Method::GET, url, Vec::new(), Vec::new()).await
}

async fn ask(
    reach: &HttpReach,
    method: hyper::Method,
    url: &Secret,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Result<Answer, String> {
    let place = place(url.expose())?;
    let mut request = request(reach, &place, headers, body)?;
    *request.method_mut() = method;
    let at = format!("{}:{}", place.host, place.port);
    let deadline = Instant::now() + reach.timeout;
    let late = |doing: &str| format!("{at}: {doing} took longer than {:?}", reach.timeout);

    let address = (place.host.trim_matches(['[', ']']), place.port);
    let stream = timeout_at(deadline, TcpStream::connect(address))
        .await
        .map_err(|_| late("connecting"))?
        .map_err(|error| format!("{at}: cannot connect: {error}"))?;
    if !place.tls {
        return exchange(stream, request, deadline, &at, &late).await;
    }
    let connector = tokio_rustls::TlsConnector::from(reach.tls.client()?);
    let stream = timeout_at(deadline, connector.connect(reach.tls.name(&place.host)?, stream))
        .await
        .map_err(|_| late("the TLS handshake"))?
        .map_err(|error| format!("{at}: TLS: {error}"))?;
    exchange(stream, request, deadline, &at, &late).await
}

fn request(
    reach: &HttpReach,
    place: &Place,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Result<hyper::Request<Full<Bytes>>, String> {
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| "the credentials hold a character no header can carry".to_owned())?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    let mut request = hyper::Request::post(place.path.as_str())
        .header("host", &place.authority)
        .header("user-agent", concat!("daruma/", env!("CARGO_PKG_VERSION")));
    if headers.iter().any(|(name, _)| *name == "authorization") {
        // The channel's own.
    } else if let Some(authorization) = &reach.authorization {
        request = request.header("authorization", secret(authorization.expose())?);
    } else if let Some(user) = &place.user {
        let words = base64(percent_decoded(user).as_bytes());
        request = request.header("authorization", secret(&format!("Basic {words}"))?);
    }
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("the header {name} holds a character no header can carry"))?;
        value.set_sensitive(name == "authorization");
        request = request.header(HeaderName::from_static(name), value);
    }
    request.body(Full::new(Bytes::from(body))).map_err(|_| "`url` cannot be asked for".to_owned())
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::Request<Full<Bytes>>,
    deadline: Instant,
    at: &str,
    late: &impl Fn(&str) -> String,
) -> Result<Answer, String> {
    let broke = |error: hyper::Error| {
        use std::error::Error;
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{at}: no answer: {error}{cause}")
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(ANSWER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    // The connection lives as long as this attempt, however that ends.
    let _connection = AbortOnDrop(tokio::spawn(async move {
        // Its end is seen at the answer.
        let _seen_there = connection.await;
    }));
    let response = timeout_at(deadline, sender.send_request(request))
        .await
        .map_err(|_| late("its answer"))?
        .map_err(broke)?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let (mut kept, mut body) = (Vec::new(), response.into_body());
    let cut = loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => break Some("the rest of the answer took too long"),
            Ok(None) => break None,
            Ok(Some(Err(_))) => break Some("the answer broke off"),
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                let room = ANSWER_BYTES_MAX - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    break Some("the answer is longer than 64 KiB");
                }
            }
        }
    };
    Ok(Answer {
        status: status.as_u16(),
        reason: status.canonical_reason().unwrap_or_default(),
        body: String::from_utf8_lossy(&kept).into_owned(),
        cut,
        retry_after,
    })
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_read_as_browsers_read_them() {
        for (url, want) in [
            ("http://a.example/x?y=1", Ok((false, "a.example", 80, "/x?y=1"))),
            ("https://a.example", Ok((true, "a.example", 443, "/"))),
            ("https://a.example:8443/", Ok((true, "a.example", 8443, "/"))),
            ("http://[::1]:9/x", Ok((false, "[::1]", 9, "/x"))),
            ("http://u:p@a.example/", Ok((false, "a.example", 80, "/"))),
            ("http://a.example:x/", Err("port")),
            ("http://a.example:/", Err("port")),
            ("http://a.example:99999/", Err("port")),
            ("ftp://a.example/", Err("http:// or https://")),
            ("a.example/x", Err("url")),
            ("/x", Err("http:// or https://")),
            ("", Err("URL")),
            ("http://", Err("URL")),
        ] {
            match (place(url), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!((got.tls, &*got.host, got.port, &*got.path), want, "{url}");
                    assert!(!got.authority.contains('@'), "{url}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{url}: {got}"),
                (got, want) => panic!("{url}: {:?} {want:?}", got.map(|place| place.host)),
            }
        }
    }

    proptest! {
        #[test]
        fn no_url_panics(url in "(https?://)?\\PC{0,60}") {
            let _ = place(&url);
            let _ = percent_decoded(&url);
        }
    }
}
