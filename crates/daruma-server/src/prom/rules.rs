//! `rules` and `alerts`. Which rules there are, and how their last evaluation went, is told by the signal
//! path; whether an alert is pending or firing, by the same picture that the pages draw.

use std::collections::{BTreeMap, BTreeSet};

use daruma_alert::{AlertState, AlertView};
use daruma_model::{Labels, Matcher, Span, Time};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::json::exponent;
use super::params::Params;
use super::{Failure, FailureKind, Found};
use crate::accept::Site;
use crate::shared::Ask;

/// A group of rules and how its last evaluation went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleGroup {
    /// Its name, unique within `file`.
    pub name: String,
    /// The rule file, as shown; `""` for rules of `daruma.yaml`.
    pub file: String,
    /// How often it is evaluated.
    pub interval: Span,
    /// Results one rule may have; 0: no limit.
    pub limit: usize,
    /// When it was evaluated last.
    pub evaluated: Option<Time>,
    /// How long that took, in seconds.
    pub took: f64,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As in [`daruma_model::Finding::rule`].
    pub id: String,
    /// The alert's or the recorded metric's name.
    pub name: String,
    /// The expression; for a rule over logs, its condition in words.
    pub query: String,
    /// Labels as written.
    pub labels: Labels,
    /// How its last evaluation went.
    pub health: RuleHealth,
    /// When it was evaluated last.
    pub evaluated: Option<Time>,
    /// How long that took, in seconds.
    pub took: f64,
    /// What it makes.
    pub kind: RuleKind,
}

/// How a rule's last evaluation went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RuleHealth {
    /// There was none yet.
    #[default]
    Unknown,
    /// Well.
    Ok,
    /// It failed, and why.
    Failed(String),
}

/// What a rule makes.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// Series.
    Recording,
    /// Alerts.
    Alerting {
        /// `for`.
        hold_for: Span,
        /// `keep_firing_for`.
        keep_firing_for: Span,
        /// Annotations as written.
        annotations: Labels,
    },
}

/// What `rules` is asked for.
struct Wanted {
    alerting: bool,
    recording: bool,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    sets: Vec<Vec<Matcher>>,
    with_alerts: bool,
    page: usize,
    from: String,
}

impl Wanted {
    fn read(params: &Params) -> Result<Wanted, Failure> {
        let (alerting, recording) = match params.get("type").to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(Failure::parameter("type", format!("not supported value {other:?}")));
            }
        };
        let with_alerts = match params.get("exclude_alerts") {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => true,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => false,
            other => {
                let other: String = other.chars().take(40).collect();
                let said =
                    format!("error converting exclude_alerts: {other:?} is neither true nor false");
                return Err(Failure::parameter("exclude_alerts", said));
            }
        };
        let page = match params.get("group_limit") {
            "" => usize::MAX,
            text => text.parse::<usize>().ok().filter(|page| *page > 0).ok_or_else(|| {
                Failure::parameter("group_limit", "group_limit needs to be a number greater than 0")
            })?,
        };
        let from = params.get("group_next_token").to_owned();
        if !from.is_empty() && page == usize::MAX {
            let said = "group_limit needs to be present in order to paginate over the groups";
            return Err(Failure::parameter("group_next_token", said));
        }
        let all = |name: &str| params.all(name).map(str::to_owned).collect();
        Ok(Wanted {
            alerting,
            recording,
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            sets: params.selectors()?,
            with_alerts,
            page,
            from,
        })
    }

    fn group(&self, group: &RuleGroup) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.contains(&group.file))
    }

    fn rule(&self, rule: &Rule) -> bool {
        let kind = match rule.kind {
            RuleKind::Recording => self.recording,
            RuleKind::Alerting { .. } => self.alerting,
        };
        let selected = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(&rule.labels));
        kind && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.sets.is_empty() || self.sets.iter().any(selected))
    }
}

/// `rules`.
pub(super) async fn rules(site: &Site, params: &Params) -> Result<Found, Failure> {
    let wanted = Wanted::read(params)?;
    let gone = || Failure::of(FailureKind::Unavailable, "daruma is stopping");
    let (reply, told) = oneshot::channel();
    site.shared.asks.send(Ask::Rules { reply }).await.map_err(|_| gone())?;
    let groups = told.await.map_err(|_| gone())?;
    let external = &(site.shared.facts)().external_labels;
    let view = site.shared.view.borrow().clone();
    let mut alerts: BTreeMap<&str, Vec<&AlertView>> = BTreeMap::new();
    for alert in &view.alerts {
        alerts.entry(&alert.alert.finding.rule).or_default().push(alert);
    }
    let mut shown: Vec<Value> = Vec::new();
    let (mut begun, mut next) = (wanted.from.is_empty(), None);
    for group in &groups {
        if !begun {
            if token(group) != wanted.from {
                continue;
            }
            begun = true;
        }
        if !wanted.group(group) {
            continue;
        }
        let rules: Vec<Value> = group
            .rules
            .iter()
            .filter(|rule| wanted.rule(rule))
            .map(|rule| {
                let alerts = alerts.get(rule.id.as_str()).map_or(&[][..], Vec::as_slice);
                rule_json(rule, alerts, wanted.with_alerts.then_some(external))
            })
            .collect();
        if rules.is_empty() {
            continue;
        }
        if shown.len() == wanted.page {
            next = Some(token(group));
            break;
        }
        shown.push(json!({
            "name": group.name, "file": group.file, "rules": rules,
            "interval": group.interval.as_secs_f64(), "limit": group.limit,
            "evaluationTime": group.took, "lastEvaluation": instant(group.evaluated),
        }));
    }
    if !begun {
        let said = "invalid group_next_token. were rule groups changed?";
        return Err(Failure::parameter("group_next_token", said));
    }
    let mut data = Map::from_iter([("groups".to_owned(), Value::Array(shown))]);
    if let Some(next) = next {
        data.insert("groupNextToken".to_owned(), Value::String(next));
    }
    Found::of(&data)
}

/// `alerts`: all that are pending or firing.
pub(super) fn alerts(site: &Site) -> Result<Found, Failure> {
    let view = site.shared.view.borrow().clone();
    let external = &(site.shared.facts)().external_labels;
    let alerts: Vec<Value> = view.alerts.iter().map(|alert| alert_json(alert, external)).collect();
    Found::of(&json!({ "alerts": alerts }))
}

/// What names a group on the next page; nothing in it means anything to whoever carries it.
fn token(group: &RuleGroup) -> String {
    let hash = Sha256::new_with_prefix(&group.file).chain_update(";").chain_update(&group.name);
    hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// `external`: the external labels; without them, without alerts.
fn rule_json(rule: &Rule, alerts: &[&AlertView], external: Option<&Labels>) -> Value {
    let (health, error) = match &rule.health {
        RuleHealth::Unknown => ("unknown", None),
        RuleHealth::Ok => ("ok", None),
        RuleHealth::Failed(why) => ("err", Some(why.as_str())),
    };
    let mut out = json!({
        "name": rule.name, "query": rule.query, "labels": rule.labels, "health": health,
        "evaluationTime": rule.took, "lastEvaluation": instant(rule.evaluated),
    });
    if let Some(error) = error {
        out["lastError"] = Value::from(error);
    }
    match &rule.kind {
        RuleKind::Recording => {
            out["type"] = "recording".into();
            // As upstream: nothing rather than an empty set.
            if let Some(fields) = out.as_object_mut().filter(|_| rule.labels.is_empty()) {
                fields.remove("labels");
            }
        }
        RuleKind::Alerting { hold_for, keep_firing_for, annotations } => {
            let state = if alerts.iter().any(|a| a.alert.state == AlertState::Firing) {
                "firing"
            } else if !alerts.is_empty() {
                "pending"
            } else if rule.health == RuleHealth::Unknown {
                "unknown"
            } else {
                "inactive"
            };
            out["type"] = "alerting".into();
            out["state"] = state.into();
            out["duration"] = hold_for.as_secs_f64().into();
            out["keepFiringFor"] = keep_firing_for.as_secs_f64().into();
            out["annotations"] = json!(annotations);
            if let Some(external) = external {
                out["alerts"] = alerts.iter().map(|alert| alert_json(alert, external)).collect();
            }
        }
    }
    out
}

fn alert_json(alert: &AlertView, external: &Labels) -> Value {
    let alert = &alert.alert;
    let labels = alert.finding.labels.without(external);
    let state = if alert.state == AlertState::Firing { "firing" } else { "pending" };
    let mut out = json!({
        "labels": labels, "annotations": alert.finding.annotations, "state": state,
        "activeAt": instant(Some(alert.active_at)),
        "value": exponent(alert.finding.evidence.value.unwrap_or(f64::NAN)),
    });
    if let Some(since) = alert.clear_since {
        out["keepFiringSince"] = instant(Some(since)).into();
    }
    out
}

/// RFC 3339; Go's zero time where there is none.
pub(super) fn instant(time: Option<Time>) -> String {
    time.and_then(|time| jiff::Timestamp::from_millisecond(time.0).ok())
        .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}
