//! JSON for scripts and for the command line: the same picture that the pages draw.

use std::sync::Arc;

use daruma_alert::Command;
use daruma_model::{Labels, Span, Time};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::guard::Caller;
use crate::plot::{PlotError, PlotQuery};
use crate::shared::{CommandRequest, HistoryQuery, Refusal};

/// Records of one answer at most.
const RECORDS_MAX: usize = 1000;
/// A command's comment, in characters.
const COMMENT_CHARS_MAX: usize = 500;
/// The digest of a link, in bytes.
const LINK_BYTES_MAX: usize = 64;
/// Matchers of one command.
const MATCHERS_MAX: usize = 20;

pub(crate) fn view(site: &Site) -> Answer {
    answer::json(StatusCode::OK, &**site.shared.view.borrow())
}

pub(crate) fn incidents(site: &Site) -> Answer {
    answer::json(StatusCode::OK, &site.shared.view.borrow().incidents)
}

pub(crate) fn incident(site: &Site, id: u64) -> Answer {
    let view = site.shared.view.borrow();
    match view.incidents.iter().find(|incident| incident.incident.id == id) {
        Some(incident) => answer::json(StatusCode::OK, incident),
        None => answer::refused(StatusCode::NOT_FOUND, &format!("there is no incident {id}")),
    }
}

pub(crate) fn alerts(site: &Site) -> Answer {
    answer::json(StatusCode::OK, &site.shared.view.borrow().alerts)
}

/// `GET /api/notify`: whom to tell and how it climbs, as it is in force; no secret is in it.
pub(crate) async fn notify(site: &Site) -> Answer {
    match crate::am::listing(site).await {
        Ok(listing) => answer::json(StatusCode::OK, &*listing.notify),
        Err(answer) => answer,
    }
}

/// One alert's trace.
#[derive(Serialize)]
struct Why<'a> {
    alert: &'a str,
    labels: &'a Labels,
    incident: Option<u64>,
    why: &'a [String],
}

/// `?alert=KEY|ALERTNAME|RULE` or `?incident=ID`: every line of reasoning there is.
pub(crate) fn why(site: &Site, query: &str) -> Answer {
    let view = site.shared.view.borrow();
    let of = |member: &daruma_alert::AlertView| {
        let alert = &member.alert;
        serde_json::to_value(Why {
            alert: &alert.key,
            labels: &alert.finding.labels,
            incident: alert.incident,
            why: &member.why,
        })
    };
    let (sentence, found): (Option<String>, Vec<_>) = if let Some(id) = parameter(query, "incident")
    {
        let id = id.parse::<u64>().ok();
        let Some(incident) = view.incidents.iter().find(|i| Some(i.incident.id) == id) else {
            return answer::refused(StatusCode::NOT_FOUND, "there is no such incident");
        };
        (Some(incident.sentence.clone()), incident.members.iter().map(of).collect())
    } else if let Some(name) = parameter(query, "alert") {
        let named = |member: &&daruma_alert::AlertView| {
            let alert = &member.alert;
            alert.key == name
                || alert.finding.rule == name
                || alert.finding.labels.get("alertname") == name
        };
        (None, view.alerts.iter().filter(named).map(of).collect())
    } else {
        return answer::refused(
            StatusCode::BAD_REQUEST,
            "say what about: ?alert=NAME or ?incident=NUMBER",
        );
    };
    if found.is_empty() && sentence.is_none() {
        return answer::refused(
            StatusCode::NOT_FOUND,
            "no alert of this name is pending or firing",
        );
    }
    match found.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(alerts) => answer::json(
            StatusCode::OK,
            &serde_json::json!({ "sentence": sentence, "alerts": alerts }),
        ),
        Err(error) => answer::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `?query=PROMQL&from=SECONDS&to=SECONDS&step=SECONDS&like={"name":"value"}`; all but the query may
/// be left out (the last hour, at a step that fits).
pub(crate) async fn series(site: &Site, query: &str) -> Answer {
    let now = (site.shared.clock)();
    let seconds = |name: &str| match parameter(query, name) {
        None => Ok(None),
        Some(text) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number.abs() < 1e11 => Ok(Some(number)),
            _ => Err(format!("`{name}` is not a number of seconds")),
        },
    };
    let asked = || -> Result<PlotQuery, String> {
        let text = parameter(query, "query").ok_or("say what to plot: ?query=PROMQL")?;
        let to = seconds("to")?.map_or(now, |at| Time((at * 1000.0) as i64));
        let from = seconds("from")?.map_or(to - Span::hours(1), |at| Time((at * 1000.0) as i64));
        let step = seconds("step")?.map(|step| Span((step * 1000.0) as i64));
        let like = match parameter(query, "like") {
            None => Labels::default(),
            Some(text) => serde_json::from_str(&text).map_err(|e| format!("`like`: {e}"))?,
        };
        Ok(PlotQuery { text, from, to, step, like })
    };
    let asked = match asked() {
        Ok(asked) => asked,
        Err(why) => return answer::refused(StatusCode::BAD_REQUEST, &why),
    };
    match site.plots.plot(asked).await {
        Ok(plot) => answer::json(StatusCode::OK, &plot),
        Err(error @ PlotError::Busy) => {
            answer::refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
        Err(error) => answer::refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// `?from=NUMBER&limit=NUMBER`: records of the journal in order.
pub(crate) async fn journal(site: &Site, query: &str) -> Answer {
    let number = |name: &str, otherwise: u64| {
        parameter(query, name).map_or(Some(otherwise), |text| text.parse().ok())
    };
    let (Some(from), Some(limit)) = (number("from", 0), number("limit", 100)) else {
        return answer::refused(StatusCode::BAD_REQUEST, "`from` and `limit` are whole numbers");
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(RECORDS_MAX);
    let history = Arc::clone(&site.shared.history);
    // It reads the disk, and the disk may be slow.
    match tokio::task::spawn_blocking(move || history(HistoryQuery { from, limit })).await {
        Ok(Ok(records)) => answer::json(StatusCode::OK, &records),
        Ok(Err(why)) => answer::refused(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(error) => answer::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// A [`Command`] as JSON. Answered with 200 only once it is durable.
pub(crate) async fn command(site: &Site, caller: &Caller, body: &Bytes) -> Answer {
    let command = match serde_json::from_slice::<Command>(body) {
        Ok(command) => command,
        Err(error) => {
            let why = format!("this is not a command: {error}");
            return answer::refused(StatusCode::BAD_REQUEST, &why);
        }
    };
    if matches!(command, Command::Receipt(_)) {
        let why = "a receipt comes from the far side alone, signed";
        return answer::refused(StatusCode::UNPROCESSABLE_ENTITY, why);
    }
    match order(site, &caller.name, command).await {
        Ok(value) => answer::json(StatusCode::OK, &value),
        Err(refusal) => answer::refused(status(&refusal), &refusal.to_string()),
    }
}

pub(crate) fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Hands a command on and waits until it is durable.
pub(crate) async fn order(
    site: &Site,
    by: &str,
    command: Command,
) -> Result<serde_json::Value, Refusal> {
    sensible(&command).map_err(Refusal::Invalid)?;
    let gone = || Refusal::Unavailable("daruma is stopping; nothing was done".to_owned());
    let (reply, answered) = oneshot::channel();
    let request = CommandRequest { by: by.to_owned(), command, reply };
    site.shared.commands.send(request).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

/// What no core needs to be asked about.
pub(crate) fn sensible(command: &Command) -> Result<(), String> {
    let (comment, matchers, ttl) = match command {
        Command::Ack { ttl, comment, .. } => (comment.as_str(), None, *ttl),
        Command::Silence { matchers, ttl, comment } | Command::Hold { matchers, ttl, comment } => {
            (comment.as_str(), Some(matchers), Some(*ttl))
        }
        Command::Stop { comment, .. } => (comment.as_str(), None, None),
        Command::AckByLink { link, nonce, ttl, .. } => {
            if link.len() > LINK_BYTES_MAX || nonce.len() > LINK_BYTES_MAX {
                return Err("this is no digest of a link".to_owned());
            }
            ("", None, Some(*ttl))
        }
        _ => ("", None, None),
    };
    if matches!(command, Command::Silence { .. }) && comment.trim().is_empty() {
        return Err("say why: whoever finds the silence asks".to_owned());
    }
    if comment.chars().count() > COMMENT_CHARS_MAX {
        return Err(format!("the comment is longer than {COMMENT_CHARS_MAX} characters"));
    }
    if ttl.is_some_and(|ttl| ttl <= Span::ZERO || ttl > Span::hours(24 * 366)) {
        return Err("it must end: between 1 ms and a year from now".to_owned());
    }
    match matchers.map(|matchers| matchers.0.len()) {
        Some(0) => Err("an empty selection never means everything: say what it is for".to_owned()),
        Some(1..=MATCHERS_MAX) | None => Ok(()),
        Some(_) => Err(format!("more than {MATCHERS_MAX} matchers")),
    }
}

/// The first value of `name` in a query string.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
