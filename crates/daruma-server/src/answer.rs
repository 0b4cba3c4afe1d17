//! Responses, and the headers that all of them carry.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use maud::Markup;
use serde::Serialize;
use tokio::sync::mpsc;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Answer = Response<Body>;

/// Scripts and styles come from our own files alone; nothing is framed, nothing is sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Carried by every response, errors among them.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

fn bytes(status: StatusCode, media: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

pub(crate) fn html(status: StatusCode, markup: Markup) -> Answer {
    bytes(status, "text/html; charset=utf-8", markup.into_string())
}

pub(crate) fn text(status: StatusCode, said: impl Into<String>) -> Answer {
    let mut said: String = said.into();
    if !said.ends_with('\n') {
        said.push('\n');
    }
    bytes(status, "text/plain; charset=utf-8", said)
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(out) => bytes(status, "application/json", out),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// JSON that is text already.
pub(crate) fn json_text(status: StatusCode, text: Vec<u8>) -> Answer {
    bytes(status, "application/json", text)
}

/// JSON that is made piece by piece, each when the one before it was taken.
pub(crate) fn pieces(pieces: impl Iterator<Item = Bytes> + Send + Unpin + 'static) -> Answer {
    let mut answer = Response::new(Pieces { pieces, rested: true }.boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

struct Pieces<I> {
    pieces: I,
    rested: bool,
}

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Between two pieces others have their turn.
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.next().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// What a script is told when nothing was done for it.
pub(crate) fn refused(status: StatusCode, why: &str) -> Answer {
    let body = serde_json::json!({ "error": why }).to_string();
    bytes(status, "application/json", body)
}

pub(crate) fn asset(asset: &'static crate::statics::Asset) -> Answer {
    let mut answer = bytes(StatusCode::OK, asset.media, asset.bytes);
    // The address of a file carries its version, so that a copy of it never grows old.
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, forever);
    answer
}

/// Shows another page after a form. `path` is one of our own.
pub(crate) fn see_other(path: &str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "see there");
    let target = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(LOCATION, target);
    answer
}

/// An event stream, fed through `events` until its sender is dropped.
pub(crate) fn stream(events: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = Response::new(Events(events).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

/// Puts the headers on that every response carries.
pub(crate) fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

struct Events(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}
