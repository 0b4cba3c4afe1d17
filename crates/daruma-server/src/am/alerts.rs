//! Alerts and their groups, in and out.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_alert::{Listing, Posted};
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

/// `POST /api/v2/alerts`: what is valid is taken, also beside what is not.
pub(super) async fn post(site: &Arc<Site>, body: Bytes) -> Answer {
    let read = tokio::task::spawn_blocking(move || {
        let posted: Vec<PostedAlert> =
            serde_json::from_slice(&body).map_err(|error| format!("bad request: {error}"))?;
        if posted.len() > ALERTS_MAX {
            return Err(format!("{} alerts at once; at most {ALERTS_MAX}", posted.len()));
        }
        let mut good = Vec::with_capacity(posted.len());
        let mut bad = Vec::new();
        for alert in posted {
            match alert.checked() {
                Ok(alert) => good.push(alert),
                Err(why) => bad.push(why),
            }
        }
        Ok((good, bad))
    });
    let (good, bad) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(why)) => return refused(StatusCode::BAD_REQUEST, &why),
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    if !good.is_empty() {
        let (reply, told) = oneshot::channel();
        let asked = async {
            site.shared.loop_asks.send(LoopAsk::Post { alerts: good, reply }).await.ok()?;
            told.await.ok()
        };
        match tokio::time::timeout(super::WITHIN, asked).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(why))) => return refused(StatusCode::SERVICE_UNAVAILABLE, &why),
            Ok(None) | Err(_) => {
                return refused(StatusCode::SERVICE_UNAVAILABLE, "daruma is busy or stopping");
            }
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

/// `GET /api/v2/alerts`.
pub(super) fn all(listing: &Listing, now: Time, query: &str) -> Result<Option<Vec<u8>>, Bad> {
    let wanted = Wanted::of(query)?;
    let mut out = Vec::with_capacity(listing.len().saturating_mul(600).min(1 << 26));
    out.push(b'[');
    for found in listing.alerts(now) {
        let Some(alert) = wanted.shown(listing, now, found) else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &alert).map_err(|error| error.to_string())?;
    }
    out.push(b']');
    Ok(Some(out))
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
    for group in listing.groups.values() {
        if !wanted.receiver.as_ref().is_none_or(|r| r.matches_value(&group.receiver)) {
            continue;
        }
        if !muted && group.muted_by.is_some() {
            continue;
        }
        for fingerprint in &group.members {
            let alert = listing.alert(*fingerprint).filter(|alert| !alert.is_over(now));
            let found = alert.and_then(|a| wanted.shown(listing, now, (*fingerprint, a)));
            if let Some(mut alert) = found {
                alert.status.muted_by = group.muted_by.as_deref().into_iter().collect();
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
