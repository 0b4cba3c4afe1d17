//! The life of one recovery: confirming → acting → verifying → healed, or backing off and trying
//! wider, or exhausted and a person is told.
//!
//! Never: an act before enough fresh witnesses agreed; an act that the envelope forbids; a second act
//! because the outcome of the first is unknown; a repair called proven on anything observed before
//! the act ended.

use std::sync::Arc;

use daruma_model::{
    ActionEnd, ActionId, ActionOutcome, ActionRequest, Labels, Observation, Span, Time, Verdict,
};

use crate::core::{Cx, Touched};
use crate::envelope::{self, Blocked};
use crate::incidents::dependencies;
use crate::index::Index;
use crate::state::ActRecord;
use crate::{
    Alert, Breaker, Call, CheckConfig, Effect, Entry, EntryKind, LooseAct, Mode, Phase, Recovery,
    Role, Runbook, State, Step, Vote, Watch, WatchCheck, Witness,
};

/// How long after an action's own timeout its outcome is waited for: the performer needs a moment to
/// end a process group that does not obey.
const OUTCOME_GRACE: Span = Span::secs(15);
/// How long at least alerts may take to clear after the repair is proved: their rules look back.
const SETTLE_MIN: Span = Span::secs(30);
/// How often a waiting recovery looks again at the latest.
const WAIT_LOOK: Span = Span::secs(10);
/// Acts remembered for budgets.
const ACTS_MAX: usize = 5_000;

fn key(runbook: &str, target: &str) -> String {
    format!("{runbook}\u{1f}{target}")
}

/// When to wake up for a recovery.
pub(crate) fn wake(state: &State, recovery: &Recovery) -> Option<Time> {
    match &recovery.phase {
        // Once past, only a finding moves it: a deadline that stays due would never let the loop rest.
        Phase::Healed { until, .. } => Some(*until).filter(|at| *at > state.now),
        _ => deadline(state, recovery),
    }
}

/// From when on a recovery may move by time alone.
fn deadline(state: &State, recovery: &Recovery) -> Option<Time> {
    match &recovery.phase {
        Phase::Confirming { since } => {
            Some(*since + state.policy.runbook(&recovery.runbook)?.confirm.within)
        }
        Phase::Waiting { until, .. }
        | Phase::Unconfirmed { until }
        | Phase::BackingOff { until }
        | Phase::Healed { until, .. } => Some(*until),
        Phase::Acting { deadline, .. } | Phase::Verifying { deadline, .. } => Some(*deadline),
        Phase::Shadow { .. } | Phase::Exhausted { .. } => None,
    }
}

/// The step that is next or at work; the last one, where a changed policy has fewer.
fn step_of(runbook: &Runbook, step: usize) -> &Step {
    &runbook.steps[step.min(runbook.steps.len() - 1)]
}

/// What a recovery would act on: the labels the runbook names, else the service (and the instance, if
/// the service declares it: otherwise two views of one service would be repaired side by side), else
/// the instance, else the alert itself.
fn target(state: &State, runbook: &Runbook, alert: &Alert) -> String {
    let labels = &alert.finding.labels;
    let instance = labels.get("instance");
    let declared =
        |service: &crate::Service| service.instances.iter().any(|known| known == instance);
    let names: Vec<&str> = match (runbook.target.as_slice(), alert.service()) {
        ([], "") => vec!["instance"],
        ([], service) if state.policy.service(service).is_some_and(declared) => {
            vec!["service", "instance"]
        }
        ([], _) => vec!["service"],
        (wanted, _) => wanted.iter().map(String::as_str).collect(),
    };
    let values: Vec<&str> =
        names.into_iter().map(|name| labels.get(name)).filter(|value| !value.is_empty()).collect();
    match values.is_empty() {
        true => format!("alert {:016x}", labels.fingerprint()),
        false => values.join("/"),
    }
}

/// Whether [`target`] is this one; asked often, so that it answers most times without writing it out.
fn is_about(state: &State, runbook: &Runbook, alert: &Alert, wanted: &str) -> bool {
    if runbook.target.is_empty() && !wanted.starts_with(alert.service()) {
        return false;
    }
    target(state, runbook, alert) == wanted
}

/// Whether alerts that this runbook is for say that the target is ill: on evidence, and where missing
/// evidence leaves it as it was.
fn illness(state: &State, index: &Index, runbook: &Runbook, wanted: &str) -> (bool, bool) {
    let mut may_be = false;
    for alert in index.firing.iter().filter_map(|key| state.alerts.get(key)) {
        if alert.clear_since.is_none()
            && is_about(state, runbook, alert, wanted)
            && runbook.matchers.matches(&alert.finding.labels)
        {
            if alert.holds() {
                return (true, true);
            }
            may_be = true;
        }
    }
    (false, may_be)
}

/// The questions to ask before acting (`confirm`, `only_if`, `unless`, dependencies).
fn questions(
    state: &State,
    runbook: &Runbook,
    step: usize,
    service: &str,
) -> Vec<(Role, CheckConfig, Verdict)> {
    let confirm: Vec<(Role, CheckConfig, Verdict)> = if runbook.confirm.checks.is_empty() {
        // No witnesses named: the post-condition must be seen to fail, or there is nothing to repair.
        let step = step_of(runbook, step);
        step.verify.all().into_iter().map(|c| (Role::Confirm, c, Verdict::Clear)).collect()
    } else {
        let fault =
            |c: &CheckConfig| if c.expr.is_some() { Verdict::Holds } else { Verdict::Clear };
        runbook.confirm.checks.iter().map(|c| (Role::Confirm, c.clone(), fault(c))).collect()
    };
    let only_if = runbook.only_if.iter().map(|c| (Role::OnlyIf, c.clone(), Verdict::Holds));
    let unless = runbook.unless.iter().map(|c| (Role::Unless, c.clone(), Verdict::Holds));
    let services = dependencies(state, service);
    let on = state.policy.recover.services.iter().filter(|s| services.contains(s.name.as_str()));
    let on = on.filter_map(|s| {
        let check = s.check.clone()?;
        let ill = if check.expr.is_some() { Verdict::Holds } else { Verdict::Clear };
        Some((Role::Dependency(s.name.clone()), check, ill))
    });
    let when = runbook.steps.get(step).and_then(|step| step.when.clone());
    let when = when.map(|check| (Role::When, check, Verdict::Holds));
    confirm.into_iter().chain(only_if).chain(when).chain(unless).chain(on).collect()
}

impl Cx<'_> {
    /// Starts what is called for and moves what is at work, until nothing moves any more.
    pub(crate) fn recoveries(&mut self, touched: Touched) {
        if let Touched::One(key) = touched {
            let (now, state) = (self.now, &*self.state);
            let due = |r: &Recovery| deadline(state, r).is_some_and(|at| at <= now);
            let late = state.recoveries.iter().filter(|(_, r)| due(r)).map(|(key, _)| key.clone());
            let keys: Vec<String> = key.into_iter().chain(late).collect();
            let mut moved = false;
            for key in keys {
                let before = self.state.recoveries.get(&key).map(|r| r.phase.clone());
                self.progress_far(&key);
                let after = self.state.recoveries.get(&key).map(|r| &r.phase);
                let same =
                    |a: &Phase, b: &Phase| std::mem::discriminant(a) == std::mem::discriminant(b);
                moved |= !before.as_ref().zip(after).is_some_and(|(a, b)| same(a, b));
            }
            if !moved {
                return; // What the others wait for is as it was.
            }
        }
        self.start_recoveries();
        for key in self.state.recoveries.keys().cloned().collect::<Vec<_>>() {
            self.progress_far(&key);
        }
    }

    fn progress_far(&mut self, key: &str) {
        // A recovery passes through few phases in one instant; the bound only guards the loop.
        for _ in 0..8 {
            if !self.progress(key) {
                break;
            }
        }
    }

    fn start_recoveries(&mut self) {
        let mut wanted = Vec::new();
        for key in &self.index.firing {
            let Some(alert) = self.state.alerts.get(key).filter(|alert| alert.holds()) else {
                continue;
            };
            for (order, runbook) in self.state.policy.recover.runbooks.iter().enumerate() {
                if envelope::mode(self.state, runbook) != Mode::Off
                    && runbook.matchers.matches(&alert.finding.labels)
                {
                    let target = target(self.state, runbook, alert);
                    if !self.state.recoveries.contains_key(&self::key(&runbook.name, &target)) {
                        wanted.push((order, alert.key.clone(), target));
                    }
                }
            }
        }
        wanted.sort();
        for (order, alert, target) in wanted {
            let runbook = self.state.policy.recover.runbooks[order].clone();
            let key = self::key(&runbook.name, &target);
            if self.state.recoveries.contains_key(&key) {
                continue; // A second alert about the same target.
            }
            let Some((service, incident)) = self
                .state
                .alerts
                .get(&alert)
                .and_then(|alert| Some((alert.service().to_owned(), alert.incident?)))
            else {
                continue;
            };
            let recovery = Recovery {
                id: self.state.next_id(),
                runbook: runbook.name.clone(),
                target,
                service,
                incident,
                alert,
                phase: Phase::Confirming { since: self.now },
                step: 0,
                attempt: 0,
                no_help: 0,
                watch: None,
                witnesses: Vec::new(),
                outcome: None,
                started: self.now,
            };
            self.state.recoveries.insert(key.clone(), recovery);
            self.ask_witnesses(&key);
        }
    }

    /// One move of one recovery; `false` when it stays where it is.
    fn progress(&mut self, key: &str) -> bool {
        let now = self.now;
        let Some(recovery) = self.state.recoveries.get(key) else { return false };
        let Some(runbook) = self.index.runbooks.get(&recovery.runbook) else { return false };
        // Most of the time most recoveries stay where they are.
        if matches!(recovery.phase, Phase::Acting { deadline, .. } if now < deadline) {
            return false;
        }
        let (ill, may_be_ill) = illness(self.state, self.index, runbook, &recovery.target);
        let gone = !may_be_ill;
        let rests = match recovery.phase {
            Phase::Unconfirmed { until } | Phase::BackingOff { until } => now < until,
            Phase::Shadow { .. } | Phase::Exhausted { .. } => true,
            _ => false,
        };
        if rests && may_be_ill && envelope::mode(self.state, runbook) != Mode::Off {
            return false;
        }
        let runbook = Arc::clone(runbook);
        let at_work = matches!(
            recovery.phase,
            Phase::Acting { .. } | Phase::Verifying { .. } | Phase::Healed { .. }
        );
        if envelope::mode(self.state, &runbook) == Mode::Off && !at_work {
            self.drop_recovery(key, "its runbook is off");
            return false;
        }
        match recovery.phase.clone() {
            Phase::Acting { deadline, .. } if now >= deadline => {
                self.verify(key, now, "its outcome never came");
                true
            }
            Phase::Acting { .. } => false,
            Phase::Verifying { deadline, .. } => self.progress_verifying(key, &runbook, deadline),
            Phase::Healed { at, until } if now >= until && ill => {
                // What never went away was not helped, and need not rest before something wider is
                // tried. What was over and came back is a fault of its own.
                if self.never_over(&runbook, key, at) {
                    let target = self.state.recoveries[key].target.clone();
                    self.state.cooldowns.remove(&target);
                }
                self.not_helped(
                    key,
                    &runbook,
                    "the post-condition holds, but the alert still fires",
                );
                true
            }
            // Kept until its incident closes, or for a fault that came back after it was over.
            Phase::Healed { .. } if gone && self.incident_over(key) => {
                self.remove_recovery(key);
                false
            }
            Phase::Healed { .. } => false,
            _ if gone => {
                self.gone_by_itself(key);
                false
            }
            Phase::Confirming { since } => self.progress_confirming(key, &runbook, since, ill),
            Phase::Unconfirmed { until } | Phase::BackingOff { until } if now >= until && ill => {
                self.set(key, Phase::Confirming { since: now });
                self.ask_witnesses(key);
                true
            }
            Phase::Unconfirmed { .. } | Phase::BackingOff { .. } => {
                // Due but without evidence either way: look again in a while.
                let recovery = self.state.recoveries.get_mut(key);
                if let Some(Recovery {
                    phase: Phase::Unconfirmed { until } | Phase::BackingOff { until },
                    ..
                }) = recovery
                    && *until <= now
                {
                    *until = now + WAIT_LOOK;
                }
                false
            }
            Phase::Waiting { since, why, until } => {
                let recovery = &self.state.recoveries[key];
                match envelope::may_act(self.state, self.index, &runbook, recovery) {
                    Ok(()) if ill => {
                        // What held a while ago need not hold now: confirm afresh.
                        self.set(key, Phase::Confirming { since: now });
                        self.ask_witnesses(key);
                        true
                    }
                    Ok(()) => {
                        if until <= now {
                            self.set(key, Phase::Waiting { since, why, until: now + WAIT_LOOK });
                        }
                        false
                    }
                    Err(blocked) => {
                        self.wait(key, &runbook, since, blocked);
                        false
                    }
                }
            }
            Phase::Shadow { .. } | Phase::Exhausted { .. } => false,
        }
    }

    /// Whether an alert about the target has fired without an end since before `at`.
    fn never_over(&self, runbook: &Runbook, key: &str, at: Time) -> bool {
        let wanted = &self.state.recoveries[key].target;
        self.index.firing.iter().filter_map(|key| self.state.alerts.get(key)).any(|alert| {
            alert.fired_at.is_some_and(|fired| fired <= at)
                && is_about(self.state, runbook, alert, wanted)
                && runbook.matchers.matches(&alert.finding.labels)
        })
    }

    fn incident_over(&self, key: &str) -> bool {
        let id = self.state.recoveries[key].incident;
        self.state.incidents.get(&id).is_none_or(|incident| incident.resolved.is_some())
    }

    fn set(&mut self, key: &str, phase: Phase) {
        if let Some(recovery) = self.state.recoveries.get_mut(key) {
            recovery.phase = phase;
        }
    }

    /// Writes into the story of the recovery's incident.
    fn tell(&mut self, key: &str, kind: EntryKind, text: String, detail: Option<String>) {
        let now = self.now;
        let id = self.state.recoveries.get(key).map(|recovery| recovery.incident);
        if let Some(incident) = id.and_then(|id| self.state.incidents.get_mut(&id)) {
            incident.tell(Entry { at: now, kind, text, evidence: None, detail });
        }
    }

    fn stop_watching(&mut self, key: &str) {
        if let Some(watch) = self.state.recoveries.get_mut(key).and_then(|r| r.watch.take()) {
            self.out.push(Effect::Unwatch(watch.id));
        }
    }

    fn watch(&mut self, key: &str, questions: Vec<(Role, CheckConfig, Verdict)>, after: Time) {
        self.stop_watching(key);
        let id = self.state.next_id();
        let Some(recovery) = self.state.recoveries.get_mut(key) else { return };
        let labels = match self.state.alerts.get(&recovery.alert) {
            Some(alert) => alert.finding.labels.clone(),
            None => Labels::default(),
        };
        let mut checks = Vec::new();
        recovery.witnesses.clear();
        for (role, config, counts_when) in questions {
            // The policy was validated at load, so a check that is no check cannot be here.
            let Ok(check) = config.check(&labels, &recovery.runbook) else { continue };
            let need_in_row = match role {
                Role::Confirm => config.fails.unwrap_or(1).max(1),
                _ => 1,
            };
            recovery.witnesses.push(Witness {
                role,
                title: check.title(),
                counts_when,
                need_in_row,
                in_row: 0,
                since: None,
                last: None,
            });
            checks.push(WatchCheck { check, every: config.every() });
        }
        let blind_before = matches!(recovery.phase, Phase::Verifying { .. });
        let watch = Watch { id, checks, after, blind_before, labels };
        recovery.watch = Some(watch.clone());
        self.out.push(Effect::Watch(watch));
    }

    fn ask_witnesses(&mut self, key: &str) {
        let Some(recovery) = self.state.recoveries.get(key) else { return };
        let Some(runbook) = self.state.policy.runbook(&recovery.runbook) else { return };
        let questions = questions(self.state, runbook, recovery.step, &recovery.service);
        self.watch(key, questions, self.now);
    }

    /// Takes in an answer; the key of the recovery that it tells something new, if there is one.
    pub(crate) fn observed(&mut self, seen: &Observation) -> Option<String> {
        let by_watch = |r: &Recovery| r.watch.as_ref().is_some_and(|w| w.id == seen.watch);
        let (key, recovery) = self.state.recoveries.iter_mut().find(|(_, r)| by_watch(r))?;
        let after = recovery.watch.as_ref().map_or(Time::MAX, |watch| watch.after);
        let verifying = matches!(recovery.phase, Phase::Verifying { .. });
        let witness = recovery.witnesses.get_mut(seen.check)?;
        // What was observed before it was asked for proves nothing now, nor does an older answer
        // that comes after a newer one.
        if seen.at <= after || witness.last.as_ref().is_some_and(|last| last.at >= seen.at) {
            return None;
        }
        if seen.verdict == witness.counts_when {
            witness.in_row = witness.in_row.saturating_add(1);
            witness.since = witness.since.or(Some(seen.at));
        } else if seen.verdict != Verdict::Unknown || verifying {
            // Unknown counts for neither side; but health must be seen without a break.
            witness.in_row = 0;
            witness.since = None;
        }
        witness.last = Some(Vote {
            at: seen.at,
            verdict: seen.verdict,
            said: seen.evidence.summary.chars().take(300).collect(),
        });
        Some(key.clone())
    }

    fn progress_confirming(
        &mut self,
        key: &str,
        runbook: &Runbook,
        since: Time,
        ill: bool,
    ) -> bool {
        let now = self.now;
        let recovery = &self.state.recoveries[key];
        let with =
            |wanted: fn(&Role) -> bool| recovery.witnesses.iter().filter(move |w| wanted(&w.role));
        let passed_over = with(|r| *r == Role::When)
            .any(|w| w.last.as_ref().is_some_and(|vote| vote.verdict == Verdict::Clear));
        if passed_over {
            return self.next_step(key, runbook);
        }
        let votes: Vec<&Witness> = with(|r| *r == Role::Confirm).filter(|w| w.votes()).collect();
        let need = runbook.confirm_need();
        let applies = with(|r| matches!(r, Role::OnlyIf | Role::When)).all(Witness::counts_now);
        let heard =
            with(|r| matches!(r, Role::Unless | Role::Dependency(_))).all(|w| w.last.is_some());
        let veto =
            with(|r| matches!(r, Role::Unless | Role::Dependency(_))).find(|w| w.counts_now());
        if votes.len() >= need && applies && heard && veto.is_none() && ill {
            let of = with(|r| *r == Role::Confirm).count();
            let said: Vec<&str> = votes
                .iter()
                .filter_map(|w| w.last.as_ref())
                .map(|vote| vote.said.as_str())
                .collect();
            let text = format!("confirmed by {} of {of} witnesses", votes.len());
            let detail = said.join("\n");
            self.tell(key, EntryKind::Confirmed, text, Some(detail));
            return self.decide(key, runbook);
        }
        if now < since + runbook.confirm.within {
            return false;
        }
        let of = with(|r| *r == Role::Confirm).count();
        let text = match veto {
            Some(w) => {
                let said = w.last.as_ref().map_or("", |vote| vote.said.as_str());
                match &w.role {
                    Role::Dependency(on) => {
                        format!("not touched: {on}, on which it depends, is ill: {said}")
                    }
                    _ => format!("not touched, because of {}: {said}", w.title),
                }
            }
            None if !applies => "not touched: the conditions for it do not hold".to_owned(),
            None => {
                format!("not confirmed: {} of {of} witnesses agree, {need} are needed", votes.len())
            }
        };
        let known = self.state.incidents.get(&recovery.incident).is_some_and(|incident| {
            incident.timeline.iter().rev().take(6).any(|entry| entry.text == text)
        });
        if !known {
            self.tell(key, EntryKind::Decided, text, None);
        }
        self.stop_watching(key);
        self.set(key, Phase::Unconfirmed { until: now + runbook.confirm.within });
        false
    }

    /// The step does not apply: on to the next, or back to the first after a pause. A round in which
    /// no step applied counts as an attempt that did not help: somebody must look.
    fn next_step(&mut self, key: &str, runbook: &Runbook) -> bool {
        let now = self.now;
        let Some(recovery) = self.state.recoveries.get_mut(key) else { return false };
        if recovery.step + 1 < runbook.steps.len() {
            recovery.step += 1;
            recovery.phase = Phase::Confirming { since: now };
            self.ask_witnesses(key);
            return true;
        }
        self.stop_watching(key);
        let Some(recovery) = self.state.recoveries.get_mut(key) else { return false };
        recovery.step = 0;
        if recovery.attempt == 0 || recovery.no_help >= runbook.limits.no_help.max(1) {
            recovery.no_help += 1;
        }
        let until = now + runbook.limits.backoff.pause(recovery.no_help.max(1));
        if recovery.no_help > runbook.limits.no_help.max(1) {
            let why = "no step applies any more".to_owned();
            self.escalate(key, runbook, &why);
            self.set(key, Phase::Exhausted { why });
        } else {
            self.set(key, Phase::BackingOff { until });
        }
        false
    }

    /// Confirmed: act, if the envelope allows it.
    fn decide(&mut self, key: &str, runbook: &Runbook) -> bool {
        let now = self.now;
        let recovery = &self.state.recoveries[key];
        match envelope::may_act(self.state, self.index, runbook, recovery) {
            Err(blocked) => {
                self.stop_watching(key);
                self.wait(key, runbook, now, blocked);
                false
            }
            Ok(()) if envelope::mode(self.state, runbook) == Mode::Shadow => {
                let action = &step_of(runbook, recovery.step).action;
                let text =
                    format!("in shadow mode: would run `{action}` on {} now", recovery.target);
                self.tell(key, EntryKind::Decided, text, None);
                self.stop_watching(key);
                self.set(key, Phase::Shadow { at: now });
                false
            }
            Ok(()) => {
                self.act(key, runbook);
                false
            }
        }
    }

    fn wait(&mut self, key: &str, runbook: &Runbook, since: Time, blocked: Blocked) {
        let now = self.now;
        let escalate_at = since + runbook.escalate.after;
        let recovery = &self.state.recoveries[key];
        let news = match &recovery.phase {
            Phase::Waiting { why, .. } => *why != blocked.why,
            _ => true,
        };
        if news {
            self.tell(key, EntryKind::Decided, format!("not acting: {}", blocked.why), None);
        }
        if blocked.tell || now >= escalate_at {
            self.escalate(key, runbook, &blocked.why);
        }
        let mut until = blocked.until.unwrap_or(Time::MAX).min(now + WAIT_LOOK);
        if escalate_at > now {
            until = until.min(escalate_at);
        }
        let until = until.max(now + Span::millis(1));
        self.set(key, Phase::Waiting { since, why: blocked.why, until });
    }

    fn act(&mut self, key: &str, runbook: &Runbook) {
        let now = self.now;
        self.stop_watching(key);
        self.state.last_fence += 1;
        let fence = self.state.last_fence;
        let recovery = &self.state.recoveries[key];
        let step = step_of(runbook, recovery.step);
        let Some(spec) = self.state.policy.recover.actions.get(&step.action) else { return };
        let timeout = step.timeout.unwrap_or(spec.timeout).min(spec.timeout);
        let used = envelope::used(self.state, runbook, &recovery.target);
        let text = format!("run `{}` on {}: {used}", step.action, recovery.target);
        let detail = spec.argv.join(" ");
        let labels =
            self.state.alerts.get(&recovery.alert).map(|alert| alert.finding.labels.clone());
        let id = ActionId {
            incident: recovery.incident,
            recovery: recovery.id,
            step: recovery.step,
            attempt: recovery.attempt + 1,
            fence,
        };
        let incident = self.state.incidents.get(&recovery.incident).map(|incident| {
            serde_json::json!({
                "id": incident.id,
                "title": incident.title,
                "group": incident.group,
                "level": incident.level,
                "opened": incident.opened,
                "labels": labels,
                "timeline": crate::view::lines(&incident.timeline, 50),
            })
        });
        let request = ActionRequest {
            id: id.clone(),
            action: step.action.clone(),
            target: recovery.target.clone(),
            labels: labels.unwrap_or_default(),
            runbook: runbook.name.clone(),
            timeout,
            incident: incident.unwrap_or(serde_json::Value::Null),
        };
        let record =
            ActRecord { at: now, runbook: runbook.name.clone(), target: recovery.target.clone() };
        self.state.acts.push_back(record);
        if self.state.acts.len() > ACTS_MAX {
            self.state.acts.pop_front();
        }
        self.tell(key, EntryKind::Decided, text, Some(detail));
        // Who acts says so at once: a repair quicker than `group_wait` must not stay untold.
        if let Some(incident) = self.state.incidents.get_mut(&id.incident) {
            incident.notify_at = Some(now);
        }
        if let Some(recovery) = self.state.recoveries.get_mut(key) {
            recovery.attempt += 1;
            recovery.outcome = None;
            let deadline = now + timeout + OUTCOME_GRACE;
            recovery.phase = Phase::Acting { action: id, since: now, deadline };
        }
        self.out.push(Effect::Act(request));
    }

    pub(crate) fn acted(&mut self, outcome: &ActionOutcome) {
        let at_work = |r: &Recovery| matches!(&r.phase, Phase::Acting { action, .. } if *action == outcome.id);
        if outcome.end != ActionEnd::Unknown {
            self.state.loose.remove(&outcome.id.fence);
        }
        let found = self.state.recoveries.iter().find(|(_, r)| at_work(r));
        let Some(key) = found.map(|(key, _)| key.clone()) else { return };
        let took = outcome.ended.since(outcome.started);
        let output = Some(outcome.output.clone()).filter(|output| !output.trim().is_empty());
        self.tell(&key, EntryKind::Acted, format!("{} after {took}", outcome.end), output);
        if let Some(recovery) = self.state.recoveries.get_mut(&key) {
            recovery.outcome = Some(outcome.clone());
        }
        let Some(runbook) =
            self.state.policy.runbook(&self.state.recoveries[&key].runbook).cloned()
        else {
            return;
        };
        match &outcome.end {
            ActionEnd::NotStarted(why) if why == RESTARTED => {
                // Decided, but certainly never begun: confirm afresh; it may still be needed.
                let now = self.now;
                self.set(&key, Phase::Confirming { since: now });
                self.ask_witnesses(&key);
            }
            ActionEnd::NotStarted(why) => self.not_helped(&key, &runbook, why),
            ActionEnd::Aborted => {
                self.set(&key, Phase::Exhausted { why: "aborted".into() });
            }
            _ => self.verify(&key, outcome.ended, ""),
        }
    }

    fn verify(&mut self, key: &str, after: Time, why: &str) {
        let now = self.now;
        let Some(recovery) = self.state.recoveries.get(key) else { return };
        let Some(runbook) = self.state.policy.runbook(&recovery.runbook) else { return };
        let verify = step_of(runbook, recovery.step).verify.clone();
        if !why.is_empty() {
            let text = format!("{why}: what it did is unknown, so it is verified and not repeated");
            self.tell(key, EntryKind::Acted, text, None);
        }
        let questions =
            verify.all().into_iter().map(|c| (Role::Verify, c, Verdict::Holds)).collect();
        let after = after.max(Time(0));
        let deadline = now + verify.within;
        self.set(key, Phase::Verifying { after, deadline, good_since: None });
        self.watch(key, questions, after);
    }

    fn progress_verifying(&mut self, key: &str, runbook: &Runbook, deadline: Time) -> bool {
        let now = self.now;
        let recovery = &self.state.recoveries[key];
        let verify = &step_of(runbook, recovery.step).verify;
        let all_good = recovery.witnesses.iter().all(Witness::votes);
        // Good from the moment the last witness turned good, proved as far as the least recent
        // observation reaches: time in which nothing was observed proves nothing.
        let since = recovery.witnesses.iter().filter_map(|w| w.since).max();
        let seen = recovery.witnesses.iter().filter_map(|w| w.last.as_ref().map(|v| v.at)).min();
        let good_since = since.filter(|_| all_good);
        if let (Some(since), Some(seen)) = (good_since, seen)
            && seen.since(since) >= verify.for_
        {
            let said: Vec<&str> = recovery
                .witnesses
                .iter()
                .filter_map(|w| w.last.as_ref().map(|vote| vote.said.as_str()))
                .collect();
            let (text, detail) =
                (format!("verified: good for {}", seen.since(since)), said.join("\n"));
            self.healed(key, runbook, text, detail);
            return false;
        }
        if now >= deadline {
            let bad: Vec<String> = recovery
                .witnesses
                .iter()
                .filter(|w| !w.votes())
                .map(|w| match &w.last {
                    Some(vote) => vote.said.clone(),
                    None => format!("{}: no answer", w.title),
                })
                .collect();
            let why = match bad.is_empty() {
                true => format!("it was not good for {} without a break", verify.for_),
                false => bad.join("; "),
            };
            self.not_helped(key, runbook, &why);
            return true;
        }
        if let Some(Recovery { phase: Phase::Verifying { good_since: kept, .. }, .. }) =
            self.state.recoveries.get_mut(key)
        {
            *kept = good_since;
        }
        false
    }

    fn healed(&mut self, key: &str, runbook: &Runbook, text: String, detail: String) {
        let now = self.now;
        self.stop_watching(key);
        self.tell(key, EntryKind::Verified, text, Some(detail));
        let recovery = &self.state.recoveries[key];
        let within = step_of(runbook, recovery.step).verify.within;
        self.state.cooldowns.insert(recovery.target.clone(), now + runbook.limits.cooldown);
        self.state.breakers.remove(&runbook.name);
        self.set(key, Phase::Healed { at: now, until: now + within.max(SETTLE_MIN) });
    }

    fn not_helped(&mut self, key: &str, runbook: &Runbook, why: &str) {
        let now = self.now;
        self.stop_watching(key);
        let why: String = why.chars().take(400).collect();
        self.tell(key, EntryKind::Verified, format!("did not help: {why}"), None);
        let Some(recovery) = self.state.recoveries.get_mut(key) else { return };
        recovery.no_help += 1;
        let half_open = self.state.breakers.contains_key(&runbook.name);
        let tried_enough = recovery.no_help >= runbook.limits.no_help.max(1);
        let steps_left = recovery.step + 1 < runbook.steps.len();
        // Wider steps that were not tried yet come before giving up.
        let rounds = recovery.attempt as usize >= runbook.steps.len() && tried_enough;
        if steps_left && !rounds {
            recovery.step += 1;
            recovery.phase = Phase::Confirming { since: now };
            self.ask_witnesses(key);
        } else if recovery.no_help >= runbook.limits.no_help.max(1) || half_open {
            let tried = recovery.no_help;
            let target = recovery.target.clone();
            let why = format!("{tried} acts on {target} in a row did not help: {why}");
            let breaker =
                self.state.breakers.entry(runbook.name.clone()).or_insert_with(|| Breaker {
                    opened: now,
                    half_open_at: now,
                    targets: std::collections::BTreeSet::new(),
                    why: String::new(),
                });
            breaker.half_open_at = now + runbook.limits.breaker_reset;
            breaker.targets.insert(target);
            breaker.why.clone_from(&why);
            self.escalate(key, runbook, &why);
            self.set(key, Phase::Exhausted { why });
        } else {
            let until = now + runbook.limits.backoff.pause(recovery.no_help);
            recovery.phase = Phase::BackingOff { until };
        }
    }

    fn escalate(&mut self, key: &str, runbook: &Runbook, why: &str) {
        let recovery = &self.state.recoveries[key];
        let (id, alert) = (recovery.incident, recovery.alert.clone());
        let told =
            self.state.incidents.get(&id).is_none_or(|incident| incident.escalated.is_some());
        if !told {
            self.tell(key, EntryKind::Escalated, format!("a person is needed: {why}"), None);
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.escalated = Some(why.to_owned());
                incident.level = incident.level.max(runbook.escalate.severity);
            }
            let escalate = runbook.escalate.clone();
            self.state.calls.insert(id, Call { alert, escalate, said: false });
        }
    }

    fn gone_by_itself(&mut self, key: &str) {
        let recovery = &self.state.recoveries[key];
        if recovery.attempt == 0 && !matches!(recovery.phase, Phase::Shadow { .. }) {
            self.tell(
                key,
                EntryKind::Decided,
                "nothing was done: it went away by itself".into(),
                None,
            );
        }
        self.remove_recovery(key);
    }

    pub(crate) fn remove_recovery(&mut self, key: &str) {
        self.stop_watching(key);
        self.state.recoveries.remove(key);
    }

    /// Remembers an act that may be at work although nobody waits for its outcome any more.
    fn let_loose(&mut self, key: &str, fence: u64, until: Time) {
        let Recovery { runbook, target, service, .. } = self.state.recoveries[key].clone();
        self.state.loose.insert(fence, LooseAct { runbook, target, service, until });
    }

    /// Ends a recovery for a reason from outside.
    pub(crate) fn drop_recovery(&mut self, key: &str, why: &str) {
        if let Some(Phase::Acting { action, deadline, .. }) =
            self.state.recoveries.get(key).map(|r| r.phase.clone())
        {
            self.let_loose(key, action.fence, deadline);
            self.out.push(Effect::Abort(action));
        }
        self.tell(key, EntryKind::Decided, format!("recovery ended: {why}"), None);
        self.remove_recovery(key);
    }

    pub(crate) fn abort(&mut self, id: u64, by: &str) {
        let now = self.now;
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        incident.aborted = true;
        incident.say(now, EntryKind::Person, format!("{by} aborted recovery in this incident"));
        let keys: Vec<String> = self
            .state
            .recoveries
            .iter()
            .filter(|(_, recovery)| recovery.incident == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            match self.state.recoveries[&key].phase.clone() {
                // The outcome of an act at work is still wanted.
                Phase::Acting { action, .. } => self.out.push(Effect::Abort(action)),
                _ => {
                    self.stop_watching(&key);
                    self.set(&key, Phase::Exhausted { why: format!("aborted by {by}") });
                }
            }
        }
    }

    /// After another policy was loaded: witnesses are heard by its rules, and what has no step left and
    /// failed often enough is not tried again.
    pub(crate) fn under_another_policy(&mut self) {
        let now = self.now;
        for key in self.state.recoveries.keys().cloned().collect::<Vec<_>>() {
            let Some(recovery) = self.state.recoveries.get(&key) else { continue };
            let Some(runbook) = self.index.runbooks.get(&recovery.runbook).cloned() else {
                continue;
            };
            let spent = recovery.step >= runbook.steps.len()
                && recovery.no_help >= runbook.limits.no_help.max(1);
            match recovery.phase {
                Phase::Confirming { .. }
                | Phase::Unconfirmed { .. }
                | Phase::Waiting { .. }
                | Phase::BackingOff { .. }
                    if spent =>
                {
                    let why = "its next step left the configuration".to_owned();
                    self.stop_watching(&key);
                    self.escalate(&key, &runbook, &why);
                    self.set(&key, Phase::Exhausted { why });
                }
                Phase::Confirming { .. } => {
                    self.set(&key, Phase::Confirming { since: now });
                    self.ask_witnesses(&key);
                }
                _ => {}
            }
        }
    }

    /// After a start of the program: watches are asked for again, and an act without an outcome is
    /// verified from now on.
    pub(crate) fn resume_recoveries(&mut self) {
        let now = self.now;
        for key in self.state.recoveries.keys().cloned().collect::<Vec<_>>() {
            match self.state.recoveries[&key].phase.clone() {
                Phase::Acting { action, deadline, .. } => {
                    self.let_loose(&key, action.fence, deadline);
                    self.verify(&key, now, "the monitor was restarted while it ran");
                    // It may be at work still, so that proof may take as much longer.
                    if let Some(Recovery {
                        phase: Phase::Verifying { deadline: due, .. }, ..
                    }) = self.state.recoveries.get_mut(&key)
                    {
                        *due = deadline.max(*due);
                    }
                }
                Phase::Verifying { after, .. } => self.verify(&key, after, ""),
                Phase::Confirming { .. } => {
                    self.set(&key, Phase::Confirming { since: now });
                    self.ask_witnesses(&key);
                }
                _ => {}
            }
        }
    }
}

/// The reason in [`ActionEnd::NotStarted`] for an act that was decided but certainly never begun,
/// because the program stopped between the two.
pub const RESTARTED: &str = "the monitor stopped before it began";
