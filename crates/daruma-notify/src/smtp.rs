//! One conversation with a mail server, or with the next when the first one fails as a whole.
//!
//! Each recipient is asked for by itself: one unknown address must not keep the others from hearing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::secret::Secret;
use crate::tls::TlsConfig;

/// All a server may say in one conversation, in bytes: a greeting without end must not fill memory.
const SAID_BYTES_MAX: usize = 512 * 1024;

/// How to get to a mail server.
pub(crate) struct SmtpReach {
    pub(crate) servers: Vec<Server>,
    pub(crate) hello: String,
    pub(crate) login: Option<(String, Secret)>,
    pub(crate) require_tls: bool,
    pub(crate) tls: TlsConfig,
    /// For one server.
    pub(crate) timeout: Duration,
}

/// One of the servers to try.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) implicit_tls: bool,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The server's answer that decides.
    Said(u16, String),
    /// There was none, for this reason; it may come another time.
    Nothing(String),
    /// We did not go on, for this reason, and would not the next time.
    Stopped(String),
}

/// What came of one attempt.
#[derive(Debug)]
pub(crate) struct Heeded {
    /// What was heard of each recipient, by the server that took the sender.
    pub(crate) recipients: Vec<(Address, Heard)>,
    /// What was heard of servers which failed as a whole, in order.
    pub(crate) servers: Vec<(String, Heard)>,
}

/// Tries the servers in order until one deals with the recipients.
pub(crate) async fn deliver(
    reach: &SmtpReach,
    from: &Address,
    to: &[Address],
    bytes: &[u8],
) -> Heeded {
    let mut servers = Vec::new();
    for server in &reach.servers {
        let name = format!("{}:{}", server.host, server.port);
        let talk = talk(reach, server, from, to, bytes);
        let heard = match timeout(reach.timeout, talk).await {
            Ok(Ok(recipients)) => return Heeded { recipients, servers },
            Ok(Err(heard)) => heard,
            Err(_) => Heard::Nothing(format!("no end of it within {:?}", reach.timeout)),
        };
        servers.push((name, heard));
    }
    Heeded { recipients: Vec::new(), servers }
}

async fn talk(
    reach: &SmtpReach,
    server: &Server,
    from: &Address,
    to: &[Address],
    bytes: &[u8],
) -> Result<Vec<(Address, Heard)>, Heard> {
    let hello = ClientId::Domain(reach.hello.clone());
    let stream = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(|error| Heard::Nothing(format!("cannot connect: {error}")))?;
    let peer = stream
        .peer_addr()
        .map_err(|error| Heard::Nothing(format!("lost the connection: {error}")))?;
    let mut encrypted = server.implicit_tls;
    let mut connection = if server.implicit_tls {
        let config = reach.tls.client().map_err(Heard::Nothing)?;
        let name = reach.tls.name(&server.host).map_err(Heard::Stopped)?;
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| Heard::Nothing(format!("TLS: {error}")))?;
        greet(Bounded::new(stream, peer), &hello).await?
    } else {
        greet(Bounded::new(stream, peer), &hello).await?
    };
    if !encrypted && connection.can_starttls() {
        let parameters = reach.tls.starttls(&server.host).map_err(Heard::Nothing)?;
        connection.starttls(parameters, &hello).await.map_err(|error| heard(&error, "STARTTLS"))?;
        encrypted = true;
    }
    if !encrypted && reach.require_tls {
        quit(&mut connection).await;
        let words = "it offers no STARTTLS; `require_tls: false` would send in the clear";
        return Err(Heard::Stopped(words.to_owned()));
    }
    if let Some((user, password)) = &reach.login {
        if !encrypted && !peer.ip().is_loopback() {
            quit(&mut connection).await;
            let words = "no password is sent over a connection without TLS";
            return Err(Heard::Stopped(words.to_owned()));
        }
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        let login = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
        if let Err(error) = login {
            let heard = heard(&error, "login");
            quit(&mut connection).await;
            return Err(heard);
        }
    }
    let plain = from.is_ascii_only() && to.iter().all(IsAscii::is_ascii_only);
    let mut parameters = Vec::new();
    if !plain {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            quit(&mut connection).await;
            let words = "it takes no addresses beyond ASCII (SMTPUTF8)";
            return Err(Heard::Stopped(words.to_owned()));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if let Err(error) = connection.command(Mail::new(Some(from.clone()), parameters)).await {
        let heard = heard(&error, "sender");
        quit(&mut connection).await;
        return Err(heard);
    }
    let mut recipients = Vec::new();
    let mut taken = 0;
    for address in to {
        match connection.command(Rcpt::new(address.clone(), Vec::new())).await {
            Ok(response) => {
                taken += 1;
                recipients.push((address.clone(), said(&response)));
            }
            Err(error) => match heard(&error, "recipient") {
                heard @ Heard::Said(..) => recipients.push((address.clone(), heard)),
                broken => return Err(broken),
            },
        }
    }
    if taken == 0 {
        quit(&mut connection).await;
        return Ok(recipients);
    }
    let last = match connection.command(Data).await {
        Ok(_) => connection.message(bytes).await,
        Err(error) => Err(error),
    };
    let last = match last {
        Ok(response) => said(&response),
        // From here on it may have the message or not: only its word counts.
        Err(error) => match heard(&error, "message") {
            heard @ Heard::Said(..) => heard,
            broken => return Err(broken),
        },
    };
    for (_, heard) in &mut recipients {
        if matches!(heard, Heard::Said(200..=299, _)) {
            *heard = last.clone();
        }
    }
    quit(&mut connection).await;
    Ok(recipients)
}

async fn greet(
    stream: impl AsyncTokioStream + 'static,
    hello: &ClientId,
) -> Result<AsyncSmtpConnection, Heard> {
    AsyncSmtpConnection::connect_with_transport(Box::new(stream), hello)
        .await
        .map_err(|error| heard(&error, "greeting"))
}

/// Politeness with a bound: what counts has been said.
async fn quit(connection: &mut AsyncSmtpConnection) {
    let _unheard = timeout(Duration::from_secs(1), connection.command(Quit)).await;
}

fn said(response: &Response) -> Heard {
    let words: Vec<&str> = response.message().collect();
    Heard::Said(number(&response.code().to_string()), words.join(" "))
}

fn number(code: &str) -> u16 {
    // Three digits by its type; a code that is not cannot have accepted anything.
    code.parse().unwrap_or(500)
}

fn heard(error: &lettre::transport::smtp::Error, at: &str) -> Heard {
    use std::error::Error;
    let mut words = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push(cause.to_string());
        source = cause.source();
    }
    words.dedup();
    let words = words.join(": ");
    match error.status() {
        Some(code) => Heard::Said(number(&code.to_string()), words),
        None if error.is_client() => Heard::Stopped(format!("{at}: {words}")),
        None => Heard::Nothing(format!("{at}: {error}")),
    }
}

trait IsAscii {
    fn is_ascii_only(&self) -> bool;
}

impl IsAscii for Address {
    fn is_ascii_only(&self) -> bool {
        AsRef::<str>::as_ref(self).is_ascii()
    }
}

/// A stream that ends with an error when the other side has said too much.
struct Bounded<S> {
    stream: S,
    peer: SocketAddr,
    room: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S, peer: SocketAddr) -> Bounded<S> {
        Bounded { stream, peer, room: SAID_BYTES_MAX }
    }
}

impl<S> fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounded({})", self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        if count > self.room {
            return Poll::Ready(Err(io::Error::other("it says more than 512 KiB")));
        }
        self.room -= count;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Bounded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
