//! Alertmanager's API, version 2: whoever sends alerts there, or works with `amtool`, does so here.
//!
//! A posted alert and a silence are answered only when they are durable. What is read is a picture that
//! the loop hands out at once; how an alert stands (active, silenced, inhibited) is judged at the time
//! of the question.

mod alerts;
mod input;
mod silences;

use std::sync::Arc;
use std::time::Duration;

use daruma_alert::Listing;
use daruma_model::{Labels, MatchOp, Matcher, Time};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;
use crate::shared::LoopAsk;

/// The largest batch of alerts.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// How long the loop may take to answer.
const WITHIN: Duration = Duration::from_secs(20);

/// What can be asked for below `/api/v2/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    Status,
    Receivers,
    Alerts,
    Groups,
    Silences,
    Silence(String),
    PostAlerts,
    PutSilence,
    EndSilence(String),
}

impl Path {
    pub(crate) fn find(method: &Method, parts: &[&str]) -> Option<Path> {
        match (method.as_str(), parts) {
            ("GET" | "HEAD", ["status"]) => Some(Path::Status),
            ("GET" | "HEAD", ["receivers"]) => Some(Path::Receivers),
            ("GET" | "HEAD", ["alerts"]) => Some(Path::Alerts),
            ("GET" | "HEAD", ["alerts", "groups"]) => Some(Path::Groups),
            ("GET" | "HEAD", ["silences"]) => Some(Path::Silences),
            ("GET" | "HEAD", ["silence", id]) => Some(Path::Silence((*id).to_owned())),
            ("POST", ["alerts"]) => Some(Path::PostAlerts),
            ("POST", ["silences"]) => Some(Path::PutSilence),
            ("DELETE", ["silence", id]) => Some(Path::EndSilence((*id).to_owned())),
            _ => None,
        }
    }

    /// Whether a body comes with it.
    pub(crate) fn has_body(&self) -> bool {
        matches!(self, Path::PostAlerts | Path::PutSilence)
    }
}

/// Whether a body may be read as JSON: it says so, or says nothing.
pub(crate) fn is_json(headers: &hyper::HeaderMap) -> bool {
    let Some(kind) = headers.get(hyper::header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// A refusal in Alertmanager's form: a JSON string.
fn refused(status: StatusCode, why: &str) -> Answer {
    answer::json(status, &why)
}

/// What is wrong with a request, to be answered with 400.
type Bad = String;

/// The picture of everything, from the loop.
pub(crate) async fn listing(site: &Site) -> Result<Listing, Answer> {
    let (reply, told) = oneshot::channel();
    let asked = async {
        site.shared.loop_asks.send(LoopAsk::Listing { reply }).await.ok()?;
        told.await.ok()
    };
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(Some(listing)) => Ok(listing),
        _ => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "daruma is busy or stopping")),
    }
}

/// Answers what is asked below `/api/v2/`.
pub(crate) async fn ask(
    site: &Arc<Site>,
    caller: &Caller,
    path: &Path,
    query: &str,
    body: Bytes,
) -> Answer {
    match path {
        Path::PostAlerts => alerts::post(site, body).await,
        Path::PutSilence => silences::put(site, caller, &body).await,
        Path::EndSilence(id) => silences::end(site, caller, id).await,
        Path::Status | Path::Receivers => {
            let listing = match listing(site).await {
                Ok(listing) => listing,
                Err(answer) => return answer,
            };
            match path {
                Path::Status => status(site),
                _ => answer::json(StatusCode::OK, &receivers(&listing, query)),
            }
        }
        Path::Alerts | Path::Groups | Path::Silences | Path::Silence(_) => {
            let listing = match listing(site).await {
                Ok(listing) => listing,
                Err(answer) => return answer,
            };
            let (now, path, query) = ((site.shared.clock)(), path.clone(), query.to_owned());
            if path == Path::Alerts {
                let all = alerts::all(listing, now, &query);
                return all.unwrap_or_else(|why| refused(StatusCode::BAD_REQUEST, &why));
            }
            // A hundred thousand alerts take a while to write.
            let written = tokio::task::spawn_blocking(move || match path {
                Path::Groups => alerts::groups(&listing, now, &query),
                Path::Silence(id) => silences::one(&listing, now, &id),
                _ => silences::all(&listing, now, &query),
            });
            match written.await {
                Ok(Ok(Some(text))) => answer::json_text(StatusCode::OK, text),
                Ok(Ok(None)) => answer::empty(StatusCode::NOT_FOUND),
                Ok(Err(why)) => refused(StatusCode::BAD_REQUEST, &why),
                Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            }
        }
    }
}

fn status(site: &Site) -> Answer {
    let facts = (site.shared.facts)();
    answer::json(
        StatusCode::OK,
        &json!({
            "cluster": { "status": "disabled", "peers": [] },
            "config": { "original": facts.notify_config },
            "uptime": rfc3339(site.started),
            "versionInfo": {
                // Clients choose their words by it: the release whose API this is.
                "version": "0.34.0",
                "revision": format!("daruma {}", site.shared.version),
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            },
        }),
    )
}

fn receivers(listing: &Listing, query: &str) -> Vec<Value> {
    let wanted = values(query, "receiver_matchers");
    let matchers: Vec<Matcher> = wanted.iter().filter_map(|text| matcher(text).ok()).collect();
    let named = |name: &&str| {
        let labels: Labels = [("receiver", *name), ("name", *name)].into();
        matchers.iter().all(|matcher| matcher.matches(&labels))
    };
    let names = listing.notify.receivers.iter().map(|to| to.name.as_str());
    names.filter(named).map(|name| json!({ "name": name })).collect()
}

/// Every value of a parameter.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

/// A switch of a question, `true` unless said otherwise.
fn switch(query: &str, name: &str) -> Result<bool, Bad> {
    match values(query, name).last().map(String::as_str) {
        None | Some("" | "true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("`{name}` is {other:?}; write true or false")),
    }
}

/// One matcher as Alertmanager's API takes it: without braces.
fn matcher(text: &str) -> Result<Matcher, Bad> {
    if text.trim_start().starts_with('{') {
        return Err(format!("bad matcher format: {text:?}: no braces around a single matcher"));
    }
    // Where both notations read it, and differ, the classic one counts, as there.
    let read = Matcher::read(text);
    read.map(|(matcher, _)| matcher).map_err(|error| format!("bad matcher format: {error}"))
}

fn filters(query: &str) -> Result<Vec<Matcher>, Bad> {
    values(query, "filter").iter().map(|text| matcher(text)).collect()
}

/// A pattern over receivers' names, anchored at both ends.
fn receiver_pattern(query: &str) -> Result<Option<Matcher>, Bad> {
    match values(query, "receiver").last().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match Matcher::new("receiver", MatchOp::Regex, text) {
            Ok(matcher) => Ok(Some(matcher)),
            Err(error) => Err(format!("failed to parse receiver param: {error}")),
        },
    }
}

/// As the API writes times.
fn rfc3339(time: Time) -> String {
    let time =
        jiff::Timestamp::from_millisecond(time.0).map(|t| jiff::tz::Offset::UTC.to_datetime(t));
    let Some(time) = time.ok().filter(|time| time.year() >= 0) else {
        // What never ends is written as the last time that can be.
        return "9999-12-31T23:59:59.999Z".to_owned();
    };
    // Digit by digit: a listing holds hundreds of thousands of times.
    let mut text = String::with_capacity(24);
    let mut put = |number: i32, digits: u32, after: char| {
        for digit in (0..digits).rev() {
            text.push(char::from(b'0' + (number / 10_i32.pow(digit) % 10) as u8));
        }
        text.push(after);
    };
    put(i32::from(time.year()), 4, '-');
    put(i32::from(time.month()), 2, '-');
    put(i32::from(time.day()), 2, 'T');
    put(i32::from(time.hour()), 2, ':');
    put(i32::from(time.minute()), 2, ':');
    put(i32::from(time.second()), 2, '.');
    put(i32::from(time.millisecond()), 3, 'Z');
    text
}

/// Writes JSON; nothing in it can fail to be written.
fn text(value: &impl Serialize) -> Result<Vec<u8>, Bad> {
    serde_json::to_vec(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_others_write_them() {
        for millis in [0, 1, 999, 1_763_908_799_123, 4_102_444_799_999, 951_782_400_000] {
            let written = format!("{:.3}", jiff::Timestamp::from_millisecond(millis).unwrap());
            assert_eq!(rfc3339(Time(millis)), written);
        }
        assert_eq!(rfc3339(Time::MAX), "9999-12-31T23:59:59.999Z");
    }
}
