//! The life of one alert: pending → firing → resolved. Evidence, never silence, moves it: an unknown
//! verdict freezes it where it stands.

use std::collections::BTreeSet;

use daruma_model::{Evidence, Finding, Labels, Span, Time, Verdict};

use crate::core::Cx;
use crate::state::ALERTS_MAX;
use crate::{Alert, AlertState, Entry, EntryKind, RulePolicy, State};

/// How long a source must fail before it is an incident: a restart of the far side is none.
const SOURCE_FAILING_FOR: Span = Span::minutes(1);

/// The key under which an alert is kept.
pub(crate) fn key(rule: &str, labels: &Labels) -> String {
    format!("{rule}\u{1f}{labels}")
}

fn rule(state: &State, name: &str) -> RulePolicy {
    match name {
        "daruma/SourceFailing" => RulePolicy { for_: SOURCE_FAILING_FOR, ..RulePolicy::default() },
        _ => state.policy.rules.get(name).cloned().unwrap_or_default(),
    }
}

/// When the alert moves by itself, if the evidence stays as it is.
pub(crate) fn deadline(state: &State, alert: &Alert) -> Option<Time> {
    let rule = rule(state, &alert.finding.rule);
    match (alert.state, alert.finding.verdict, alert.clear_since) {
        (AlertState::Pending, Verdict::Holds, _) => Some(alert.active_at + rule.for_),
        (AlertState::Firing, _, Some(since)) => Some(since + rule.keep_firing_for),
        _ => None,
    }
}

/// Every alert that moves by itself, by its deadline.
pub(crate) fn timers(state: &State) -> BTreeSet<(Time, String)> {
    let timer = |(key, alert): (&String, &Alert)| Some((deadline(state, alert)?, key.clone()));
    state.alerts.iter().filter_map(timer).collect()
}

impl Cx<'_> {
    /// What the program finds about itself; see [`Cx::found`].
    pub(crate) fn found_own(
        &mut self,
        name: &str,
        labels: Labels,
        verdict: Verdict,
        said: String,
    ) -> bool {
        self.found(&Finding {
            rule: format!("daruma/{name}"),
            labels,
            annotations: [("summary", said.as_str())].into(),
            at: self.now,
            verdict,
            evidence: Evidence::said(said),
        })
    }

    /// Takes in a finding; whether there is an alert that it speaks of.
    pub(crate) fn found(&mut self, finding: &Finding) -> bool {
        let (now, key) = (self.now, key(&finding.rule, &finding.labels));
        let known =
            self.state.alerts.get(&key).is_some_and(|alert| alert.state != AlertState::Resolved);
        if !known {
            if finding.verdict != Verdict::Holds {
                return false;
            }
            if self.state.alerts.len() >= ALERTS_MAX {
                self.state.alerts_refused += 1;
                return false;
            }
            let alert = Alert {
                key: key.clone(),
                finding: finding.clone(),
                state: AlertState::Pending,
                active_at: now,
                fired_at: None,
                clear_since: None,
                resolved_at: None,
                incident: None,
            };
            self.put(alert);
            self.advance(&key);
            return true;
        }
        let Some(mut alert) = self.take(&key) else { return false };
        let before = alert.finding.verdict;
        match (alert.state, finding.verdict) {
            // A pending alert that evidence clears was a blip: nobody hears of it.
            (AlertState::Pending, Verdict::Clear) => return true,
            // While evidence is missing it does not come nearer to firing.
            (AlertState::Pending, Verdict::Holds) if before != Verdict::Holds => {
                alert.active_at = now;
            }
            (AlertState::Firing, Verdict::Clear) => {
                alert.clear_since = alert.clear_since.or(Some(now));
            }
            // Being over must be seen for as long as it takes: a gap proves nothing.
            (AlertState::Firing, Verdict::Holds | Verdict::Unknown) => alert.clear_since = None,
            _ => {}
        }
        let mut entry = None;
        if alert.state == AlertState::Firing && before != finding.verdict {
            let name = finding.labels.get("alertname");
            entry = match (before, finding.verdict) {
                (_, Verdict::Unknown) => Some((
                    EntryKind::Unknown,
                    format!("{name}: the evidence is missing, so it stays as it is"),
                )),
                (Verdict::Unknown, Verdict::Holds) => {
                    Some((EntryKind::Detected, format!("{name} is seen again")))
                }
                (Verdict::Clear, Verdict::Holds) => {
                    Some((EntryKind::Detected, format!("{name} is back")))
                }
                _ => None,
            };
        }
        alert.finding = finding.clone();
        let incident = alert.incident;
        self.put(alert);
        if let (Some((kind, text)), Some(id)) = (entry, incident)
            && let Some(incident) = self.state.incidents.get_mut(&id)
        {
            incident.tell(Entry {
                at: now,
                kind,
                text,
                evidence: Some(finding.evidence.clone()),
                detail: None,
            });
        }
        self.advance(&key);
        true
    }

    /// Every alert whose deadline has come; whether there was one.
    pub(crate) fn alert_deadlines(&mut self) -> bool {
        let mut any = false;
        while let Some((at, key)) = self.index.timers.first().cloned() {
            if at > self.now {
                break;
            }
            self.index.timers.pop_first();
            self.advance(&key);
            any = true;
        }
        any
    }

    /// Moves one alert as far as the time allows.
    fn advance(&mut self, key: &str) {
        let Some(alert) = self.state.alerts.get(key) else { return };
        let due = deadline(self.state, alert).is_some_and(|at| at <= self.now);
        match alert.state {
            AlertState::Pending if due => self.fire(key),
            AlertState::Firing if due => {
                let said = alert.finding.evidence.summary.clone();
                self.end_alert(key, &said);
            }
            _ => {}
        }
    }

    fn fire(&mut self, key: &str) {
        let Some(mut alert) = self.take(key) else { return };
        alert.state = AlertState::Firing;
        alert.fired_at = Some(self.now);
        let id = self.incident_for(&alert);
        alert.incident = Some(id);
        let held = self.now.since(alert.active_at);
        let name = alert.finding.labels.get("alertname");
        let text = match (held, alert.finding.evidence.summary.as_str()) {
            (Span::ZERO, said) => format!("{name}: {said}"),
            (held, said) => format!("{name}, for {held}: {said}"),
        };
        if let Some(incident) = self.state.incidents.get_mut(&id) {
            incident.tell(Entry {
                at: self.now,
                kind: EntryKind::Detected,
                text,
                evidence: Some(alert.finding.evidence.clone()),
                detail: None,
            });
        }
        self.post_own(&alert);
        self.put(alert);
    }

    /// Resolves an alert, on evidence or because nobody can ever speak of it again.
    pub(crate) fn end_alert(&mut self, key: &str, why: &str) {
        let Some(mut alert) = self.take(key) else { return };
        if alert.state == AlertState::Pending {
            return;
        }
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(self.now);
        let name = alert.finding.labels.get("alertname").to_owned();
        let id = alert.incident;
        self.post_own(&alert);
        self.put(alert);
        if let Some(incident) = id.and_then(|id| self.state.incidents.get_mut(&id)) {
            incident.say(self.now, EntryKind::Resolved, format!("{name} is over: {why}"));
        }
    }

    fn take(&mut self, key: &str) -> Option<Alert> {
        let alert = self.state.alerts.remove(key)?;
        self.index.alert_goes(self.state, &alert);
        Some(alert)
    }

    fn put(&mut self, alert: Alert) {
        self.index.alert_comes(self.state, &alert);
        self.state.alerts.insert(alert.key.clone(), alert);
    }
}
