//! Connections: how many there may be, how long they may take, how much they may send. Everything
//! that a request passes on its way to an answer is called from here.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use crate::answer::{self, Answer};
use crate::config::{self, Config, ConfigError};
use crate::guard::{Denied, Guard};
use crate::plot::Plots;
use crate::prom::{self, Turns, Writes};
use crate::routes::{Demand, Endpoint};
use crate::shared::Shared;
use crate::{am, api, form, live, page, receipts, trial};

/// Connections at once; one more waits in the system's queue.
const CONNECTIONS_MAX: usize = 256;
/// Event streams at once: pages left open must leave room for those being opened.
pub(crate) const STREAMS_MAX: usize = 128;
/// A request's head must be there within this time; an idle connection is closed after it.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// And its body within this.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long a reload may take until its asker is told that nobody knows.
const RELOAD_WITHIN: Duration = Duration::from_secs(60);
/// A reader that takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// The largest request body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest form of a query: the longest query there is, written with three bytes a byte.
const QUERY_BYTES_MAX: usize = 256 * 1024;
/// The largest request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long open requests may go on when the program stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration would let strangers in.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener has no address.
    #[error("the address that is listened on cannot be read: {0}")]
    Listener(#[from] io::Error),
    /// Without randomness no secret can be made.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// What every request is answered from.
pub(crate) struct Site {
    pub(crate) shared: Shared,
    pub(crate) guard: Guard,
    pub(crate) plots: Plots,
    pub(crate) turns: Turns,
    pub(crate) writes: Writes,
    /// Whether samples may be pushed here.
    pub(crate) remote_write: bool,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// Before this nothing is known about how things were.
    pub(crate) started: daruma_model::Time,
}

/// Resolves when told to stop, or when nobody is left to tell.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Serves until `shutdown` becomes true or its sender is gone.
///
/// The address that counts is the listener's own, whatever `config.listen` says.
///
/// # Errors
/// Nothing is served at all; see [`ServeError`]. A connection that fails ends alone.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    shared: Shared,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let listen = listener.local_addr()?;
    let tokens = config::known(&Config { listen, ..config.clone() })?;
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| ServeError::Random(error.to_string()))?;
    let hosts = config.hosts.iter().cloned().chain([shared.host.clone()]).collect();
    let site = Arc::new(Site {
        guard: Guard::new(tokens, hosts, secret, config.secure_cookie),
        plots: Plots::new(Arc::clone(&shared.store) as _),
        turns: Turns::new(Arc::clone(&shared.store), config.query.clone()),
        writes: Writes::default(),
        remote_write: config.remote_write,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        stopping: shutdown.clone(),
        started: (shared.clock)(),
        shared,
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = stopped(&mut shutdown) => break,
        };
        let Ok(permit) = permit else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the peer is gone already: neither must end the server, nor
                // make it spin.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stopped(&mut shutdown) => break,
            Some(_) = open.join_next() => continue,
        };
        let site = Arc::clone(&site);
        open.spawn(async move {
            connection(site, stream).await;
            drop(permit);
        });
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        open.shutdown().await;
    }
    Ok(())
}

async fn connection(site: Arc<Site>, stream: TcpStream) {
    // Small answers leave at once; where the system does not know the option they leave later.
    drop(stream.set_nodelay(true));
    let mut stopping = site.stopping.clone();
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer::finish(handle(&site, request).await)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a connection broke is its peer's business.
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn handle(site: &Arc<Site>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let Some(endpoint) = Endpoint::find(&parts.method, parts.uri.path()) else {
        return page::plain(StatusCode::NOT_FOUND, "There is nothing at this address.");
    };
    let now = (site.shared.clock)();
    let demand = endpoint.demand();
    let caller = match site.guard.admit(demand, &parts, now) {
        Ok(caller) => caller,
        Err(denied) => return refuse(site, demand, &denied, &parts),
    };
    let query = parts.uri.query().unwrap_or_default();
    match endpoint {
        Endpoint::Now => page::now(site, &caller).await,
        Endpoint::Incident(id) => page::incident(site, &caller, id, query).await,
        Endpoint::Sources => page::sources(site, &caller).await,
        Endpoint::Silences => page::silences(site, &caller, query).await,
        Endpoint::Notify => page::notify(site, &caller, query).await,
        Endpoint::Explore => page::explore(site, &caller, query).await,
        Endpoint::Asset(asset) => answer::asset(asset),
        Endpoint::Events => live::events(site),
        Endpoint::View => api::view(site),
        Endpoint::Incidents => api::incidents(site),
        Endpoint::IncidentJson(id) => api::incident(site, id),
        Endpoint::Alerts => api::alerts(site),
        Endpoint::NotifyJson => api::notify(site).await,
        Endpoint::Why => api::why(site, query),
        Endpoint::Series => api::series(site, query).await,
        Endpoint::Journal => api::journal(site, query).await,
        Endpoint::Metrics => answer::text(StatusCode::OK, (site.shared.metrics)()),
        Endpoint::Healthy => answer::text(StatusCode::OK, "healthy"),
        Endpoint::Ready => match (site.shared.ready)() {
            Ok(()) => answer::text(StatusCode::OK, "ready"),
            // Why not is for those who may read.
            Err(why) if caller.may_act || !site.guard.is_closed() => {
                answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}"))
            }
            Err(_) => answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        },
        Endpoint::Ping(name, kind) => {
            if (site.shared.heartbeat)(&name, kind) {
                answer::text(StatusCode::OK, "OK")
            } else {
                answer::text(StatusCode::NOT_FOUND, "no heartbeat of this name is configured")
            }
        }
        Endpoint::Reload => reload(site).await,
        Endpoint::LoginPage => page::login(site, &caller, None, false),
        Endpoint::Prom(path) => {
            let form = parts.method == hyper::Method::POST;
            let body = if form { read(body, QUERY_BYTES_MAX).await } else { Ok(Bytes::new()) };
            match body {
                Ok(body) => prom::ask(site, &path, query, &body, &parts.headers).await,
                Err((status, why)) => answer::refused(status, &why),
            }
        }
        Endpoint::Am(path) if path.has_body() && !am::is_json(&parts.headers) => {
            let why = "only application/json is read here; set the header Content-Type";
            answer::json(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why)
        }
        Endpoint::Am(path) => {
            let body = match path.has_body() {
                true => read(body, am::BODY_BYTES_MAX).await,
                false => Ok(Bytes::new()),
            };
            match body {
                Ok(body) => am::ask(site, &caller, &path, query, body).await,
                Err((status, why)) => answer::refused(status, &why),
            }
        }
        Endpoint::Write if !site.remote_write => {
            let why = "remote write is switched off: `server.remote_write`";
            answer::refused(StatusCode::NOT_FOUND, why)
        }
        Endpoint::Write => {
            let Some(_turn) = site.writes.turn().await else {
                let why = "too many samples are being pushed; try again";
                return answer::refused(StatusCode::SERVICE_UNAVAILABLE, why);
            };
            match read(body, prom::WRITE_BYTES_MAX).await {
                Ok(body) => prom::write(site, &parts, body).await,
                Err((status, why)) => answer::refused(status, &why),
            }
        }
        Endpoint::AckPage(token) => page::ack(site, &token),
        Endpoint::Command
        | Endpoint::SendTest
        | Endpoint::Ack(_)
        | Endpoint::Receipt(..)
        | Endpoint::Form
        | Endpoint::Login
        | Endpoint::Logout => {
            let body = match read(body, BODY_BYTES_MAX).await {
                Ok(body) => body,
                Err((status, why)) => return answer::refused(status, &why),
            };
            match endpoint {
                Endpoint::Command => api::command(site, &caller, &body).await,
                Endpoint::SendTest => trial::post(site, &caller, &body).await,
                Endpoint::Ack(token) => page::acked(site, &token, &body).await,
                Endpoint::Receipt(channel, message) => {
                    receipts::post(site, &parts, &channel, message, &body).await
                }
                Endpoint::Form => form::act(site, &caller, &parts, &body).await,
                Endpoint::Login => form::login(site, &caller, &body, now).await,
                _ => form::logout(site, &caller, &body),
            }
        }
    }
}

/// Reads the configuration anew, and says what became of it.
async fn reload(site: &Site) -> Answer {
    let (reply, said) = tokio::sync::oneshot::channel();
    if site.shared.reload.try_send(reply).is_err() {
        let why = "the configuration is being read already";
        return answer::refused(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    match tokio::time::timeout(RELOAD_WITHIN, said).await {
        Ok(Ok(Ok(()))) => answer::text(StatusCode::OK, "the configuration was loaded anew"),
        Ok(Ok(Err(why))) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{why}\nthe running configuration stays"),
        ),
        Ok(Err(_)) | Err(_) => {
            answer::refused(StatusCode::SERVICE_UNAVAILABLE, "nobody said what became of it")
        }
    }
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, (StatusCode, String)> {
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let why = format!("the body is larger than {} KiB", bytes_max / 1024);
            Err((StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body broke off".to_owned())),
        Err(_) => {
            Err((StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s".to_owned()))
        }
    }
}

fn refuse(site: &Site, demand: Demand, denied: &Denied, parts: &Parts) -> Answer {
    let (status, why) = match denied {
        Denied::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "this server does not go by the name you asked for; add it to `server.hosts`, or use its address",
        ),
        Denied::Forged(why) => (StatusCode::FORBIDDEN, *why),
        Denied::Stranger => (StatusCode::UNAUTHORIZED, "a token is needed"),
        Denied::Role if demand == Demand::Write => {
            (StatusCode::FORBIDDEN, "this token may not push samples: give it the role `writer`")
        }
        Denied::Role => (StatusCode::FORBIDDEN, "this token may not give commands"),
        Denied::MediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the command as application/json")
        }
    };
    let mut answer = match (demand, denied) {
        (Demand::Page, Denied::Stranger) => {
            // The session's cookie is kept back when another site links here; our own reload of the
            // same address brings it.
            let linked = parts.headers.get("sec-fetch-site").is_some_and(|s| s == "cross-site");
            page::login(site, &site.guard.stranger(), Some(parts.uri.path()), linked)
        }
        (Demand::Page | Demand::Form | Demand::OwnForm | Demand::Link, _) => {
            page::plain(status, why)
        }
        _ => answer::refused(status, why),
    };
    if *denied == Denied::Stranger {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// A stream that is given up when the far side takes nothing for [`STALL`].
struct Patient {
    stream: TcpStream,
    /// When the present wait ends, while there is one.
    until: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Patient {
    fn new(stream: TcpStream) -> Patient {
        Patient { stream, until: Box::pin(tokio::time::sleep(STALL)), waiting: false }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.until.as_mut().reset(Instant::now() + STALL);
        }
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
