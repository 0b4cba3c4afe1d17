//! Sentences for people, made from the same state as the pictures: what goes on, why something was
//! done, and why nothing was.

use daruma_model::{Span, Verdict};

use crate::{Alert, AlertState, Delivery, Incident, Mode, Phase, Recovery, Role, State};

/// What goes on in an incident.
pub(crate) fn incident(state: &State, incident: &Incident) -> String {
    if let Some(at) = incident.resolved {
        let lasted = at.since(incident.opened);
        return match (incident.healed, &incident.escalated) {
            (true, None) => format!("healed in {lasted}, nobody was needed"),
            (true, Some(_)) => format!("healed in {lasted}, after a person was called"),
            (false, _) => format!("over after {lasted}"),
        };
    }
    let rank = |recovery: &Recovery| match recovery.phase {
        Phase::Acting { .. } => 0,
        Phase::Verifying { .. } => 1,
        Phase::Healed { .. } => 2,
        Phase::Confirming { .. } | Phase::BackingOff { .. } => 3,
        _ => 4,
    };
    let mine = state.recoveries.values().filter(|recovery| recovery.incident == incident.id);
    match (mine.min_by_key(|r| rank(r)), &incident.escalated) {
        (Some(r), None) => recovery(state, r),
        (Some(r), Some(_)) if rank(r) < 4 => recovery(state, r),
        (_, Some(why)) => format!("a person is needed: {why}"),
        (None, None) => "no runbook is for it: somebody must look".to_owned(),
    }
}

/// Where a recovery stands.
pub(crate) fn recovery(state: &State, recovery: &Recovery) -> String {
    let now = state.now;
    let runbook = state.policy.runbook(&recovery.runbook);
    let action = runbook
        .and_then(|runbook| runbook.steps.get(recovery.step))
        .map_or("?", |step| step.action.as_str());
    let (target, most) = (&recovery.target, runbook.map_or(0, |r| r.limits.attempts.most));
    match &recovery.phase {
        Phase::Confirming { .. } => {
            let confirm = || recovery.witnesses.iter().filter(|w| w.role == Role::Confirm);
            let votes = confirm().filter(|w| w.votes()).count();
            let need = runbook.map_or(1, |runbook| runbook.confirm_need());
            format!(
                "asking witnesses about {target}: {votes} of {} agree, {need} needed",
                confirm().count()
            )
        }
        Phase::Unconfirmed { until } => {
            format!("witnesses do not agree about {target}; asked again in {}", until.since(now))
        }
        Phase::Waiting { why, .. } => format!("confirmed, but not acting on {target}: {why}"),
        Phase::Acting { since, .. } => format!(
            "`{action}` runs on {target} (attempt {} of {most}) for {}",
            recovery.attempt,
            now.since(*since)
        ),
        Phase::Verifying { deadline, .. } => format!(
            "`{action}` ended on {target} (attempt {} of {most}); proof expected within {}",
            recovery.attempt,
            deadline.since(now)
        ),
        Phase::BackingOff { until } => {
            format!("`{action}` did not help {target}; next attempt in {}", until.since(now))
        }
        Phase::Healed { at, .. } => {
            format!(
                "{target} is proved well since {}; waiting for its alerts to clear",
                now.since(*at)
            )
        }
        Phase::Shadow { at } => {
            format!("in shadow mode: `{action}` would have run on {target} {} ago", now.since(*at))
        }
        Phase::Exhausted { why } => format!("nothing more is tried on {target}: {why}"),
    }
}

/// The trace of one alert: what was decided, and why nothing more was.
pub(crate) fn alert(state: &State, alert: &Alert) -> Vec<String> {
    let now = state.now;
    let mut lines = Vec::new();
    let rule = state.policy.rules.get(&alert.finding.rule).cloned().unwrap_or_default();
    let held = now.since(alert.active_at);
    lines.push(match (alert.state, alert.finding.verdict) {
        (AlertState::Pending, Verdict::Holds) => {
            format!("the rule holds for {held} of the {} it must before it fires", rule.for_)
        }
        (AlertState::Pending, _) => "the rule held, but the evidence is missing now".to_owned(),
        (AlertState::Firing, Verdict::Unknown) => {
            "it fires; the evidence is missing now, and missing evidence ends nothing".to_owned()
        }
        (AlertState::Firing, Verdict::Clear) => format!(
            "evidence says it is over; it stays for keep_firing_for = {}",
            rule.keep_firing_for
        ),
        (AlertState::Firing, Verdict::Holds) => format!("it fires, and held for {held} so far"),
        (AlertState::Resolved, _) => "it is over".to_owned(),
    });
    lines.push(format!("evidence: {}", alert.finding.evidence.summary));
    if alert.state == AlertState::Resolved {
        return lines;
    }
    let labels = &alert.finding.labels;
    let fitting: Vec<_> =
        state.policy.recover.runbooks.iter().filter(|r| r.matchers.matches(labels)).collect();
    if fitting.is_empty() {
        lines.push("nothing is done: no runbook's matchers fit it".to_owned());
    }
    for runbook in fitting {
        let mine = state.recoveries.values().find(|recovery| {
            recovery.runbook == runbook.name && Some(recovery.incident) == alert.incident
        });
        lines.push(match (mine, crate::envelope::mode(state, runbook)) {
            (_, Mode::Off) => format!("runbook `{}` is off", runbook.name),
            (Some(r), _) => format!("runbook `{}`: {}", runbook.name, recovery(state, r)),
            (None, _) if alert.state == AlertState::Pending => {
                format!("runbook `{}` begins when it fires", runbook.name)
            }
            (None, _) => format!("runbook `{}` has nothing at work", runbook.name),
        });
        for witness in mine.iter().flat_map(|recovery| &recovery.witnesses) {
            let what = match &witness.role {
                Role::Confirm => "witness",
                Role::OnlyIf | Role::When => "condition",
                Role::Unless => "veto",
                Role::Dependency(_) => "dependency",
                Role::Verify => "proof",
            };
            let said = match &witness.last {
                Some(vote) => vote.said.as_str(),
                None => "has not answered yet",
            };
            let counts = if witness.votes() { "counts" } else { "does not count" };
            lines.push(format!("  {what} {}: {said} ({counts})", witness.title));
        }
    }
    if let Some(why) = crate::notices::muted(state, labels) {
        lines.push(format!("nobody is told: {why}"));
    }
    let names = crate::notices::receivers(state, alert);
    if names.is_empty() {
        lines.push("nobody is told: no route names a receiver for it".to_owned());
    }
    for name in names {
        let Some(receiver) = state.policy.notify.receivers.iter().find(|r| r.name == name) else {
            continue;
        };
        let level = state.policy.notify.level(labels);
        if level < receiver.min_level {
            let (level, min) = (level.as_str(), receiver.min_level.as_str());
            lines.push(format!("{name} is not told: it is {level}, below {min}"));
            continue;
        }
        let messages: Vec<_> = state
            .outbox
            .values()
            .filter(|out| {
                Some(out.message.incident) == alert.incident && out.message.receiver == name
            })
            .collect();
        if messages.is_empty() {
            let wait = match receiver.heal_first {
                Span::ZERO => String::new(),
                wait => format!(" (it is told only if it is not healed within {wait})"),
            };
            lines.push(format!("{name} has not been told yet{wait}"));
        }
        for out in messages {
            let said =
                out.attempts.back().map_or("no attempt yet", |attempt| attempt.said.as_str());
            let how = match out.delivery {
                Delivery::Queued => "waits for its next attempt",
                Delivery::Sending => "is being sent",
                Delivery::Accepted => "was accepted",
                Delivery::Delivered => "was delivered",
                Delivery::Rejected => "was refused for good",
                Delivery::GaveUp => "was given up",
            };
            let (channel, title) = (&out.message.channel, &out.message.title);
            lines
                .push(format!("{channel}: \"{title}\" {how} after {} attempts: {said}", out.tries));
        }
    }
    lines
}
