//! `daruma why`: what was decided of an alert and for which reasons; of alerts that others post, who is
//! told of them, and why not.

use daruma_alert::View;
use daruma_model::{Labels, MatchOp, Matcher};
use serde::Deserialize;

use crate::cli::{NOTHING, SOMETHING};
use crate::client::Client;
use crate::print::{self, Style};

/// Alerts that are told of, at most.
const SHOWN_MAX: usize = 100;

/// A group as `/api/v2/alerts/groups` tells it.
#[derive(Deserialize)]
struct Group {
    receiver: Receiver,
    alerts: Vec<Posted>,
}

#[derive(Deserialize)]
struct Receiver {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: Labels,
    starts_at: String,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    inhibited_by: Vec<String>,
    silenced_by: Vec<String>,
    muted_by: Vec<String>,
}

/// The trace of one decision, or why there was none to make.
///
/// # Errors
/// Nobody answers, or there is no such incident.
pub async fn main(client: &Client, view: &View, what: &str, style: Style) -> Result<u8, String> {
    if let Ok(id) = what.trim_start_matches('#').parse::<u64>() {
        let code = crate::cli::show(style, view, id)?;
        let found = view.incidents.iter().find(|v| v.incident.id == id);
        if !style.json {
            for member in found.iter().flat_map(|v| &v.members) {
                print_why(style, member);
            }
        }
        return Ok(code);
    }
    let asked = what.parse::<Matcher>();
    let by_labels = asked.is_ok();
    let matcher = asked.or_else(|_| Matcher::new("alertname", MatchOp::Equal, what));
    let matcher = matcher.map_err(|error| error.to_string())?;
    let found = own(view, &matcher, style) + posted(client, view, &matcher, style).await?;
    if found > 0 {
        return Ok(SOMETHING);
    }
    let known = view.rules.iter().any(|rule| rule.rsplit('/').next() == Some(what) || rule == what);
    let text = match (known, by_labels) {
        (true, _) => "the rule is loaded, and it does not hold: there is nothing to do or to tell",
        (false, true) => "no alert with such labels is pending, firing or lately resolved",
        (false, false) => {
            "no rule of this name is loaded, and nobody has posted an alert of this name that is active"
        }
    };
    if style.json {
        print::object(&serde_json::json!({ "why": [text] }));
    } else {
        print::line(text);
    }
    Ok(NOTHING)
}

/// Tells of our own alerts, also of those that were lately resolved; returns of how many.
fn own(view: &View, matcher: &Matcher, style: Style) -> usize {
    let past = view
        .incidents
        .iter()
        .flat_map(|v| &v.members)
        .filter(|m| m.alert.state == daruma_alert::AlertState::Resolved);
    let all = view.alerts.iter().chain(past);
    let mut found = 0;
    for alert in all.filter(|a| matcher.matches(&a.alert.finding.labels)) {
        found += 1;
        if style.json {
            print::object(alert);
        } else {
            print_why(style, alert);
        }
    }
    found
}

fn print_why(style: Style, alert: &daruma_alert::AlertView) {
    print::line(&format!(
        "{} {}",
        style.level(alert.level),
        style.paint("1", &alert.alert.finding.labels.to_string())
    ));
    for text in &alert.why {
        print::line(&format!("  {}", print::clean(text)));
    }
}

/// Tells of posted alerts that are active now and that no own alert stands for; returns of how many.
async fn posted(
    client: &Client,
    view: &View,
    matcher: &Matcher,
    style: Style,
) -> Result<usize, String> {
    let filter = matcher.to_string();
    let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    let path = format!("/api/v2/alerts/groups?filter={filter}");
    let groups: Vec<Group> = client.get(&path).await.map_err(|error| error.to_string())?;
    let own = |labels: &Labels| view.alerts.iter().any(|own| own.alert.finding.labels == *labels);
    let mut shown = 0;
    for group in &groups {
        let alerts = group.alerts.iter().filter(|alert| matcher.matches(&alert.labels));
        for alert in alerts.filter(|alert| !own(&alert.labels)).take(SHOWN_MAX - shown) {
            shown += 1;
            let why = reasons(view, &group.receiver.name, &alert.status);
            if style.json {
                print::object(&serde_json::json!({
                    "labels": alert.labels, "receiver": group.receiver.name,
                    "since": alert.starts_at, "why": why,
                }));
                continue;
            }
            let level = daruma_model::Level::from_severity(alert.labels.get("severity"));
            let labels = print::clean(&alert.labels.to_string());
            print::line(&format!("{} {}", style.level(level), style.paint("1", &labels)));
            print::line(&format!("  posted, active since {}", print::clean(&alert.starts_at)));
            why.iter().for_each(|text| print::line(&format!("  {}", print::clean(text))));
        }
    }
    Ok(shown)
}

/// Why a receiver is told, or is not.
fn reasons(view: &View, receiver: &str, status: &Status) -> Vec<String> {
    let silenced = status.silenced_by.iter().map(|uuid| {
        let known = view.silences.iter().find(|silence| silence.uuid == *uuid);
        let by = known.map_or_else(String::new, |silence| {
            format!(": #{} by {}, {}", silence.id, silence.by, silence.comment)
        });
        format!("{receiver} is not told: silenced{by}")
    });
    let inhibited = status.inhibited_by.iter().map(|fingerprint| {
        format!("{receiver} is not told: the alert with fingerprint {fingerprint} inhibits it")
    });
    let muted = status
        .muted_by
        .iter()
        .map(|interval| format!("{receiver} is not told now: by the time interval `{interval}`"));
    let all: Vec<String> = silenced.chain(inhibited).chain(muted).collect();
    if all.is_empty() { vec![format!("{receiver} is told")] } else { all }
}
