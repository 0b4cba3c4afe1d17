//! What people are shown: a plain, serializable picture of the state at one time. Pages, the command
//! line and the API all read this, so they cannot disagree.

use std::collections::BTreeMap;

use daruma_model::{Level, SourceHealth, Time, Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    Alert, AlertState, Breaker, Entry, Hold, Incident, Mode, Outgoing, Phase, Recovery, Silence,
    State, Witness,
};

/// The whole picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The time it shows.
    pub now: Time,
    /// Open incidents first (gravest, then oldest), then resolved ones, newest first.
    pub incidents: Vec<IncidentView>,
    /// Every alert that is pending or firing.
    pub alerts: Vec<AlertView>,
    /// Leases that keep recovery off, oldest first.
    pub holds: Vec<Hold>,
    /// Silences, oldest first.
    pub silences: Vec<Silence>,
    /// Messages on their way and the last finished ones, newest first: the ledger.
    pub ledger: Vec<Outgoing>,
    /// Links of messages by which incidents were taken on, by their digest.
    #[serde(default)]
    pub used_links: BTreeMap<String, crate::UsedLink>,
    /// Every source, failing ones first.
    pub sources: Vec<SourceHealth>,
    /// The envelope of every runbook.
    pub envelopes: Vec<EnvelopeView>,
    /// Names of all loaded rules.
    pub rules: Vec<String>,
    /// Why no action may start, if the global stop is on.
    pub stopped: Option<String>,
    /// Incidents resolved since the first start.
    pub resolved_total: u64,
    /// Of them, healed by a recovery.
    pub healed_total: u64,
}

/// One incident as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// The incident itself, timeline included.
    #[serde(flatten)]
    pub incident: Incident,
    /// One plain sentence: what is going on now.
    pub sentence: String,
    /// Its alerts.
    pub members: Vec<AlertView>,
    /// Its recoveries.
    pub recoveries: Vec<RecoveryView>,
    /// Its messages.
    pub messages: Vec<Outgoing>,
    /// Whether something is being done about it now.
    pub healing: bool,
    /// Whether any of its alerts has no evidence either way just now.
    pub unknown: bool,
}

/// One alert as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertView {
    /// The alert itself.
    #[serde(flatten)]
    pub alert: Alert,
    /// Its level.
    pub level: Level,
    /// The trace of what was decided about it and why, or why nothing was; one sentence a line.
    pub why: Vec<String>,
}

/// One recovery as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryView {
    /// The recovery itself.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// One plain sentence.
    pub sentence: String,
    /// When the present phase must be over, for a countdown.
    pub due: Option<Time>,
    /// Witnesses that speak for the fault (or, when verifying, for health), and how many are needed.
    pub votes: (usize, usize),
}

/// What a runbook may still do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeView {
    /// Which runbook.
    pub runbook: String,
    /// Its mode, the global ceiling applied.
    pub mode: Mode,
    /// Actions it started within the attempts window, per target.
    pub attempts: BTreeMap<String, u32>,
    /// How many are allowed.
    pub attempts_max: u32,
    /// Its breaker, if it is open.
    pub breaker: Option<Breaker>,
}

impl View {
    /// The picture of `state`.
    #[must_use]
    pub fn of(state: &State) -> View {
        let alert_view = |alert: &Alert| AlertView {
            alert: alert.clone(),
            level: state.policy.notify.level(&alert.finding.labels),
            why: crate::why::alert(state, alert),
        };
        let mut messages: BTreeMap<u64, Vec<Outgoing>> = BTreeMap::new();
        for out in state.outbox.values() {
            messages.entry(out.message.incident).or_default().push(out.clone());
        }
        let mut incidents: Vec<IncidentView> = state
            .incidents
            .values()
            .map(|incident| {
                let members: Vec<AlertView> = incident
                    .alerts
                    .iter()
                    .filter_map(|key| state.alerts.get(key))
                    .map(alert_view)
                    .collect();
                let recoveries: Vec<RecoveryView> = state
                    .recoveries
                    .values()
                    .filter(|recovery| recovery.incident == incident.id)
                    .map(|recovery| recovery_view(state, recovery))
                    .collect();
                IncidentView {
                    sentence: crate::why::incident(state, incident),
                    healing: incident.resolved.is_none()
                        && recoveries.iter().any(|r| is_healing(&r.recovery.phase)),
                    unknown: incident.resolved.is_none()
                        && members.iter().any(|m| {
                            m.alert.state == AlertState::Firing
                                && m.alert.finding.verdict == Verdict::Unknown
                        }),
                    messages: messages.remove(&incident.id).unwrap_or_default(),
                    members,
                    recoveries,
                    incident: incident.clone(),
                }
            })
            .collect();
        incidents.sort_by(|a, b| {
            let open = |v: &IncidentView| v.incident.resolved.is_some();
            open(a).cmp(&open(b)).then_with(|| match (a.incident.resolved, b.incident.resolved) {
                (Some(x), Some(y)) => y.cmp(&x),
                _ => (b.incident.level, a.incident.opened)
                    .cmp(&(a.incident.level, b.incident.opened)),
            })
        });
        let mut sources: Vec<SourceHealth> = state.sources.values().cloned().collect();
        sources.sort_by_key(|s| s.state == daruma_model::SourceState::Ok);
        View {
            now: state.now,
            incidents,
            alerts: state
                .alerts
                .values()
                .filter(|alert| alert.state != AlertState::Resolved)
                .map(alert_view)
                .collect(),
            holds: state.holds.values().cloned().collect(),
            silences: state.silences.values().cloned().collect(),
            ledger: state.outbox.values().rev().cloned().collect(),
            used_links: state.used_links.clone(),
            sources,
            envelopes: crate::envelope::views(state),
            rules: state.policy.rules.keys().cloned().collect(),
            stopped: state.stopped.clone(),
            resolved_total: state.resolved_total,
            healed_total: state.healed_total,
        }
    }
}

/// Whether something is being done in this phase.
fn is_healing(phase: &Phase) -> bool {
    matches!(
        phase,
        Phase::Confirming { .. }
            | Phase::Acting { .. }
            | Phase::Verifying { .. }
            | Phase::BackingOff { .. }
            | Phase::Healed { .. }
    )
}

fn recovery_view(state: &State, recovery: &Recovery) -> RecoveryView {
    let counted: Vec<&Witness> = recovery
        .witnesses
        .iter()
        .filter(|w| matches!(w.role, crate::Role::Confirm | crate::Role::Verify))
        .collect();
    let votes = counted.iter().filter(|w| w.votes()).count();
    let need = match recovery.phase {
        Phase::Verifying { .. } => counted.len(),
        _ => state.policy.runbook(&recovery.runbook).map_or(0, |runbook| runbook.confirm_need()),
    };
    let due = match recovery.phase {
        Phase::Acting { deadline, .. } | Phase::Verifying { deadline, .. } => Some(deadline),
        Phase::Unconfirmed { until }
        | Phase::BackingOff { until }
        | Phase::Waiting { until, .. }
        | Phase::Healed { until, .. } => Some(until),
        Phase::Confirming { .. } | Phase::Shadow { .. } | Phase::Exhausted { .. } => None,
    };
    RecoveryView {
        sentence: crate::why::recovery(state, recovery),
        due,
        votes: (votes, need),
        recovery: recovery.clone(),
    }
}

/// The last entries of a timeline as text lines, newest last.
pub(crate) fn lines(timeline: &[Entry], most: usize) -> Vec<String> {
    let from = timeline.len().saturating_sub(most);
    timeline[from..].iter().map(|entry| entry.text.clone()).collect()
}
