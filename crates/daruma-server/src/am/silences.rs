//! Silences, in and out.

use std::sync::Arc;

use daruma_alert::{Command, Listing, Silence};
use daruma_model::{Labels, MatchOp, Time};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::input::PostedSilence;
use super::{Bad, filters, refused, rfc3339, switch, text};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;
use crate::shared::{CommandRequest, Refusal};

async fn command(site: &Site, caller: &Caller, command: Command) -> Result<Value, Refusal> {
    let (reply, told) = oneshot::channel();
    let busy = || Refusal::Unavailable("daruma is busy or stopping".to_owned());
    let request = CommandRequest { by: caller.name.clone(), command, reply };
    let asked = async {
        site.shared.commands.send(request).await.ok()?;
        told.await.ok()
    };
    match tokio::time::timeout(super::WITHIN, asked).await {
        Ok(Some(said)) => said,
        Ok(None) | Err(_) => Err(busy()),
    }
}

fn said(refusal: &Refusal) -> Answer {
    let status = match refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refused(status, &refusal.to_string())
}

/// `POST /api/v2/silences`.
pub(super) async fn put(site: &Arc<Site>, caller: &Caller, body: &[u8]) -> Answer {
    let read = serde_json::from_slice::<PostedSilence>(body).map_err(|error| error.to_string());
    let checked = match read.and_then(|posted| posted.checked((site.shared.clock)())) {
        Ok(checked) => checked,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    if let Some(id) = &checked.id {
        let listing = match super::listing(site).await {
            Ok(listing) => listing,
            Err(answer) => return answer,
        };
        if !listing.silences.iter().any(|silence| silence.uuid == *id) {
            return refused(StatusCode::NOT_FOUND, &format!("silence {id} not found"));
        }
    }
    let put = Command::PutSilence {
        uuid: checked.id,
        matchers: checked.matchers,
        from: checked.from,
        until: checked.until,
        by: checked.by,
        comment: checked.comment,
    };
    match command(site, caller, put).await {
        Ok(made) => answer::json(StatusCode::OK, &json!({ "silenceID": made["uuid"] })),
        Err(refusal) => said(&refusal),
    }
}

/// `DELETE /api/v2/silence/{id}`.
pub(super) async fn end(site: &Arc<Site>, caller: &Caller, id: &str) -> Answer {
    match command(site, caller, Command::EndSilence { uuid: id.to_owned() }).await {
        Ok(_) => answer::empty(StatusCode::OK),
        Err(refusal) => said(&refusal),
    }
}

fn state(silence: &Silence, now: Time) -> &'static str {
    match (silence.until <= now, silence.from > now) {
        (true, _) => "expired",
        (false, true) => "pending",
        (false, false) => "active",
    }
}

fn shown(silence: &Silence, now: Time) -> Value {
    let matchers: Vec<Value> = silence
        .matchers
        .0
        .iter()
        .map(|matcher| {
            json!({
                "name": matcher.name,
                "value": matcher.value,
                "isRegex": matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
                "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
            })
        })
        .collect();
    json!({
        "id": silence.uuid,
        "status": { "state": state(silence, now) },
        "updatedAt": rfc3339(silence.updated),
        "comment": silence.comment,
        "createdBy": silence.by,
        "startsAt": rfc3339(silence.from),
        "endsAt": rfc3339(silence.until),
        "matchers": matchers,
    })
}

/// `GET /api/v2/silence/{id}`.
pub(super) fn one(listing: &Listing, now: Time, id: &str) -> Result<Option<Vec<u8>>, Bad> {
    let found = listing.silences.iter().find(|silence| silence.uuid == id);
    found.map(|silence| text(&shown(silence, now))).transpose()
}

/// `GET /api/v2/silences`: active ones first, those that end first; then pending ones, those that begin
/// first; then ended ones, the last first.
pub(super) fn all(listing: &Listing, now: Time, query: &str) -> Result<Option<Vec<u8>>, Bad> {
    let filters = filters(query)?;
    let wanted = [
        ("active", switch(query, "active")?),
        ("pending", switch(query, "pending")?),
        ("expired", switch(query, "expired")?),
    ];
    // A filter looks at what a silence's matchers name as if it were a label set.
    let fits = |silence: &Silence| {
        let all = silence.matchers.0.iter();
        let labels: Labels = all.map(|m| (m.name.as_str(), m.value.as_str())).collect();
        filters.iter().all(|filter| filter.matches(&labels))
    };
    let mut found: Vec<&Silence> = listing
        .silences
        .iter()
        .filter(|s| wanted.iter().any(|(name, on)| *on && *name == state(s, now)) && fits(s))
        .collect();
    let key = |silence: &Silence| match state(silence, now) {
        "active" => (0, silence.until.0),
        "pending" => (1, silence.from.0),
        _ => (2, -silence.until.0),
    };
    found.sort_by_key(|silence| key(silence));
    text(&found.into_iter().map(|silence| shown(silence, now)).collect::<Vec<_>>()).map(Some)
}
