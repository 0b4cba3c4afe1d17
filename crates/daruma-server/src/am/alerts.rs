//! Alerts and their groups, in and out.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_alert::{AlertIn, Listing, Posted};
use daruma_model::{Matcher, Time};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tokio::sync::oneshot;

use super::input::PostedAlert;
use super::{Bad, filters, receiver_pattern, refused, rfc3339, switch, text};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::shared::LoopAsk;

/// Alerts one post may hold.
const ALERTS_MAX: usize = 50_000;
/// A body up to this size is read in well under a millisecond.
const AT_ONCE_BYTES: usize = 128 << 10;
/// Bytes of alerts as JSON in one event, which the journal keeps up to twice that size.
const EVENT_BYTES: usize = 512 << 10;
/// A listing is written in pieces of about this size, each when the one before it was taken.
const PIECE_BYTES: usize = 64 << 10;
/// Alerts that are looked at for one piece.
const PIECE_ALERTS: usize = 2_000;

/// What a post holds: batches that each fit into one event, and what is wrong with the rest.
type Read = (Vec<Vec<AlertIn>>, Vec<Bad>);

fn read(body: &[u8]) -> Result<Read, Bad> {
    let posted: Vec<PostedAlert> =
        serde_json::from_slice(body).map_err(|error| format!("bad request: {error}"))?;
    if posted.len() > ALERTS_MAX {
        return Err(format!("{} alerts at once; at most {ALERTS_MAX}", posted.len()));
    }
    let (mut good, mut bad, mut room) = (Vec::<Vec<AlertIn>>::new(), Vec::new(), 0);
    for alert in posted {
        match alert.checked() {
            Ok((alert, bytes)) => {
                if bytes > room {
                    room = EVENT_BYTES;
                    good.push(Vec::new());
                }
                room = room.saturating_sub(bytes);
                if let Some(last) = good.last_mut() {
                    last.push(alert);
                }
            }
            Err(why) => bad.push(why),
        }
    }
    Ok((good, bad))
}

/// `POST /api/v2/alerts`: what is valid is taken, also beside what is not.
pub(super) async fn post(site: &Arc<Site>, body: Bytes) -> Answer {
    // What is read in less time than it takes to hand it over is read here.
    let read = match body.len() <= AT_ONCE_BYTES {
        true => Ok(read(&body)),
        false => tokio::task::spawn_blocking(move || read(&body)).await,
    };
    let (good, bad) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(why)) => return refused(StatusCode::BAD_REQUEST, &why),
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let asked = async {
        let mut answers = Vec::with_capacity(good.len());
        for alerts in good {
            let (reply, told) = oneshot::channel();
            site.shared.loop_asks.send(LoopAsk::Post { alerts, reply }).await.ok()?;
            answers.push(told);
        }
        let mut said = Ok(());
        for told in answers {
            said = said.and(told.await.ok()?);
        }
        Some(said)
    };
    match tokio::time::timeout(super::WITHIN, asked).await {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(why))) => return refused(StatusCode::SERVICE_UNAVAILABLE, &why),
        Ok(None) | Err(_) => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "daruma is busy or stopping");
        }
    }
    if bad.is_empty() {
        answer::empty(StatusCode::OK)
    } else {
        refused(StatusCode::BAD_REQUEST, &bad.join("; "))
    }
}

/// Labels as a JSON object.
struct Map<'a>(&'a daruma_model::Labels);

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    inhibited_by: Vec<String>,
    muted_by: Vec<&'a str>,
    silenced_by: Vec<&'a str>,
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    annotations: Map<'a>,
    ends_at: String,
    fingerprint: String,
    receivers: Vec<Name<'a>>,
    starts_at: String,
    status: Status<'a>,
    updated_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    labels: Map<'a>,
}

/// Which alerts are asked for.
struct Wanted {
    active: bool,
    silenced: bool,
    inhibited: bool,
    matchers: Vec<Matcher>,
    receiver: Option<Matcher>,
}

impl Wanted {
    fn of(query: &str) -> Result<Wanted, Bad> {
        // Nothing waits to be judged here, so this switch is read and has nothing to say.
        switch(query, "unprocessed")?;
        Ok(Wanted {
            active: switch(query, "active")?,
            silenced: switch(query, "silenced")?,
            inhibited: switch(query, "inhibited")?,
            matchers: filters(query)?,
            receiver: receiver_pattern(query)?,
        })
    }

    /// The alert as the API shows it, if it is asked for.
    fn shown<'a>(
        &self,
        listing: &'a Listing,
        now: Time,
        (fingerprint, alert): (u64, &'a Posted),
    ) -> Option<Alert<'a>> {
        if !self.matchers.iter().all(|matcher| matcher.matches(&alert.labels)) {
            return None;
        }
        let mut receivers: Vec<Name<'a>> = Vec::new();
        for name in listing.receivers_of(alert) {
            if !receivers.iter().any(|known| known.name == name) {
                receivers.push(Name { name });
            }
        }
        let wanted = |pattern: &Matcher| receivers.iter().any(|r| pattern.matches_value(r.name));
        if !self.receiver.as_ref().is_none_or(wanted) {
            return None;
        }
        let silenced_by: Vec<&str> =
            listing.silenced_by(now, &alert.labels).map(|s| s.uuid.as_str()).collect();
        let inhibited_by: Vec<String> = listing
            .inhibited_by(now, &alert.labels)
            .into_iter()
            .map(|by| format!("{by:016x}"))
            .collect();
        let quiet = !silenced_by.is_empty() || !inhibited_by.is_empty();
        let shown = (self.active || quiet)
            && (self.silenced || silenced_by.is_empty())
            && (self.inhibited || inhibited_by.is_empty());
        shown.then(|| Alert {
            annotations: Map(&alert.annotations),
            ends_at: rfc3339(alert.ends_at),
            fingerprint: format!("{fingerprint:016x}"),
            receivers,
            starts_at: rfc3339(alert.starts_at),
            status: Status {
                inhibited_by,
                muted_by: Vec::new(),
                silenced_by,
                state: if quiet { "suppressed" } else { "active" },
            },
            updated_at: rfc3339(alert.updated_at),
            generator_url: &alert.generator_url,
            labels: Map(&alert.labels),
        })
    }
}

/// `GET /api/v2/alerts`: written as fast as it is read, so that neither a hundred thousand alerts nor a
/// slow reader takes more than one piece of memory.
pub(super) fn all(listing: Listing, now: Time, query: &str) -> Result<Answer, Bad> {
    let wanted = Wanted::of(query)?;
    Ok(answer::pieces(Pieces { listing, now, wanted, from: Some(0), first: true }))
}

/// A listing on its way.
struct Pieces {
    listing: Listing,
    now: Time,
    wanted: Wanted,
    /// The next fingerprint; `None` after the last.
    from: Option<u64>,
    first: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let from = self.from.take()?;
        let mut out = Vec::with_capacity(PIECE_BYTES + 4096);
        let alerts = self.listing.alerts_from(from, self.now).enumerate();
        for (looked_at, (fingerprint, alert)) in alerts {
            if out.len() >= PIECE_BYTES || looked_at >= PIECE_ALERTS {
                self.from = Some(fingerprint);
                break;
            }
            let shown = self.wanted.shown(&self.listing, self.now, (fingerprint, alert));
            let Some(shown) = shown else { continue };
            out.push(if self.first { b'[' } else { b',' });
            self.first = false;
            if let Err(error) = serde_json::to_writer(&mut out, &shown) {
                // Texts, times and numbers can always be written.
                debug_assert!(false, "{error}");
                return None;
            }
        }
        if self.from.is_none() {
            out.extend_from_slice(if self.first { b"[]" } else { b"]" });
        }
        Some(Bytes::from(out))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    alerts: Vec<Alert<'a>>,
    labels: Map<'a>,
    receiver: Name<'a>,
}

/// `GET /api/v2/alerts/groups`.
pub(super) fn groups(listing: &Listing, now: Time, query: &str) -> Result<Option<Vec<u8>>, Bad> {
    let wanted = Wanted::of(query)?;
    let muted = switch(query, "muted")?;
    // Groups of one receiver and one label set are shown as one, whatever routes lead there.
    let mut shown: BTreeMap<(&daruma_model::Labels, &str), BTreeMap<u64, Alert<'_>>> =
        BTreeMap::new();
    let all = listing.groups();
    for group in all.values() {
        if !wanted.receiver.as_ref().is_none_or(|r| r.matches_value(&group.receiver)) {
            continue;
        }
        if !muted && !group.muted_by.is_empty() {
            continue;
        }
        for fingerprint in &group.members {
            let alert = listing.alert(*fingerprint).filter(|alert| !alert.is_over(now));
            let found = alert.and_then(|a| wanted.shown(listing, now, (*fingerprint, a)));
            if let Some(mut alert) = found {
                alert.status.muted_by = group.muted_by.iter().map(String::as_str).collect();
                if !alert.status.muted_by.is_empty() {
                    alert.status.state = "suppressed";
                }
                let place = shown.entry((&group.labels, &group.receiver)).or_default();
                place.insert(*fingerprint, alert);
            }
        }
    }
    let all: Vec<Group<'_>> = shown
        .into_iter()
        .map(|((labels, receiver), alerts)| Group {
            alerts: alerts.into_values().collect(),
            labels: Map(labels),
            receiver: Name { name: receiver },
        })
        .collect();
    text(&all).map(Some)
}
