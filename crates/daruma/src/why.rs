//! `daruma why` of alerts that others post: who is told of them, and why not.

use daruma_alert::View;
use daruma_model::{Labels, Matcher, Matchers};
use serde::Deserialize;

use crate::cli::SOMETHING;
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

/// Tells of posted alerts that are active now and that no own alert stands for; `None` if there are none.
///
/// # Errors
/// Nobody answers.
pub async fn posted(
    client: &Client,
    view: &View,
    what: &str,
    style: Style,
) -> Result<Option<u8>, String> {
    if what.trim_start_matches('#').parse::<u64>().is_ok() {
        return Ok(None);
    }
    let matcher: Matcher = match what.parse() {
        Ok(matcher) => matcher,
        Err(_) => format!("alertname={what:?}").parse().map_err(|error| format!("{error}"))?,
    };
    let filter = matcher.to_string();
    let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    let path = format!("/api/v2/alerts/groups?filter={filter}");
    let groups: Vec<Group> = client.get(&path).await.map_err(|error| error.to_string())?;
    let matchers = Matchers(vec![matcher]);
    let own = |labels: &Labels| view.alerts.iter().any(|own| own.alert.finding.labels == *labels);
    let mut shown = 0;
    for group in &groups {
        let alerts = group.alerts.iter().filter(|alert| matchers.matches(&alert.labels));
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
    Ok((shown > 0).then_some(SOMETHING))
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
