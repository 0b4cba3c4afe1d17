//! The limits no recovery may exceed. Asked right before every act, over state that survives a crash.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{ActionKind, Span, Time};

use crate::incidents::dependencies;
use crate::index::Index;
use crate::{EnvelopeView, Mode, Phase, Recovery, Runbook, State};

/// Why an act may not start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// In words for people.
    pub why: String,
    /// When it is worth looking again, if time alone may change it.
    pub until: Option<Time>,
    /// Whether a person should hear of it at once rather than after a while.
    pub tell: bool,
}

/// The share of services that must be ill before a common cause is suspected needs so many of them.
const STORM_OF: usize = 3;

/// Why the fault looks common to many services, if it does: of three and more declared services (or
/// instances of one), too many are ill without an ill dependency that would explain it.
fn storm(state: &State, index: &Index, service: &str) -> Option<String> {
    let min_healthy = state.policy.recover.min_healthy.0 as usize;
    let services = &state.policy.recover.services;
    let unexplained = services
        .iter()
        .filter(|s| index.ill.contains_key(&s.name))
        .filter(|s| !dependencies(state, &s.name).iter().any(|on| index.ill.contains_key(*on)))
        .count();
    let too_few = |ill: usize, all: usize| {
        all >= STORM_OF && ill > 1 && (all - ill.min(all)) * 100 < min_healthy * all
    };
    if too_few(unexplained, services.len()) {
        return Some(format!(
            "{unexplained} of {} services are ill at once and no dependency explains it: \
             the cause is common, or in the monitor",
            services.len()
        ));
    }
    let instances = &state.policy.service(service)?.instances;
    let sick =
        |instance: &&String| index.sick.contains_key(&(service.to_owned(), (*instance).clone()));
    let ill = instances.iter().filter(sick).count();
    too_few(ill, instances.len()).then(|| {
        format!(
            "{ill} of {} instances of {service} are ill at once: the cause is common",
            instances.len()
        )
    })
}

/// Starts of `runbook` on `target` within its attempts window, oldest first.
fn attempts<'a>(
    state: &'a State,
    runbook: &'a Runbook,
    target: &'a str,
) -> impl Iterator<Item = Time> + 'a {
    let from = state.now - runbook.limits.attempts.per;
    state
        .acts
        .iter()
        .filter(move |act| act.runbook == runbook.name && act.target == target && act.at > from)
        .map(|act| act.at)
}

/// Starts within the global budget's window, oldest first.
fn budget(state: &State) -> impl Iterator<Item = Time> + '_ {
    let from = state.now - state.policy.recover.limits.actions.per;
    state.acts.iter().map(|act| act.at).filter(move |at| *at > from)
}

/// `attempt 2 of 3 in 30m, action 5 of 20 in 1h`, counting the one about to start.
pub(crate) fn used(state: &State, runbook: &Runbook, target: &str) -> String {
    let (mine, all) = (runbook.limits.attempts, state.policy.recover.limits.actions);
    format!(
        "attempt {} of {} in {}, action {} of {} in {}",
        attempts(state, runbook, target).count() + 1,
        mine.most,
        mine.per,
        budget(state).count() + 1,
        all.most,
        all.per
    )
}

/// The mode in force: a runbook may only be stricter than the ceiling.
pub(crate) fn mode(state: &State, runbook: &Runbook) -> Mode {
    runbook.mode.min(state.policy.recover.mode)
}

/// Whether this recovery may act now.
pub(crate) fn may_act(
    state: &State,
    index: &Index,
    runbook: &Runbook,
    recovery: &Recovery,
) -> Result<(), Blocked> {
    let now = state.now;
    let wait = |why: String, until: Option<Time>| Err(Blocked { why, until, tell: false });
    let tell = |why: String, until: Option<Time>| Err(Blocked { why, until, tell: true });
    let labels = state.alerts.get(&recovery.alert).map(|alert| &alert.finding.labels);
    let Some(labels) = labels else { return wait("its alert is gone".into(), None) };

    if let Some(why) = &state.stopped {
        return wait(why.clone(), None);
    }
    if state.incidents.get(&recovery.incident).is_none_or(|incident| incident.aborted) {
        return wait("recovery in this incident was aborted".into(), None);
    }
    if let Some(hold) = state.holds.values().find(|hold| hold.matchers.matches(labels)) {
        return wait(
            format!("{} holds {}: {}", hold.by, hold.matchers, hold.comment),
            Some(hold.until),
        );
    }
    if let Some(s) = state
        .silences
        .values()
        .find(|silence| silence.is_active(state.now) && silence.matchers.matches(labels))
    {
        return wait(format!("{} silenced {}: {}", s.by, s.matchers, s.comment), Some(s.until));
    }
    let step = &runbook.steps[recovery.step.min(runbook.steps.len() - 1)];
    let kind = state.policy.recover.actions.get(&step.action).map(|action| action.kind);
    if kind == Some(ActionKind::Destructive) {
        return tell(format!("`{}` may destroy data: a person must do it", step.action), None);
    }
    let on = dependencies(state, &recovery.service);
    if let Some(on) = on.iter().find(|on| index.ill.contains_key(**on)) {
        return wait(
            format!("{on}, which {} depends on, is ill: act there first", recovery.service),
            None,
        );
    }
    if let Some(why) = storm(state, index, &recovery.service) {
        return tell(why, None);
    }

    let working = |r: &&Recovery| matches!(r.phase, Phase::Acting { .. } | Phase::Verifying { .. });
    let others = || state.recoveries.values().filter(working).filter(|r| r.id != recovery.id);
    if let Some(other) = others().find(|other| other.target == recovery.target) {
        return wait(format!("`{}` is at work on {}", other.runbook, other.target), None);
    }
    let loose = || state.loose.values().filter(|act| act.until > now);
    // What others do ends with an event; what nobody hears of any more ends by its time.
    let next_end = loose().map(|act| act.until).min();
    if let Some(act) = loose().find(|act| act.target == recovery.target) {
        let why = format!("an act of `{}` may be at work on {} still", act.runbook, act.target);
        return wait(why, Some(act.until));
    }
    // A dependent is left alone while what it depends on is being repaired: two hands on one chain
    // cannot tell whose work helped.
    if let Some(other) = others().find(|other| on.contains(other.service.as_str())) {
        return wait(format!("{} is being repaired first", other.service), None);
    }
    let limits = &state.policy.recover.limits;
    let acting =
        others().filter(|r| matches!(r.phase, Phase::Acting { .. })).count() + loose().count();
    if acting >= limits.concurrent.max(1) {
        return wait(
            format!("{acting} actions are at work, {} are allowed", limits.concurrent),
            next_end,
        );
    }
    if let Some(service) = state.policy.service(&recovery.service)
        && !service.instances.is_empty()
    {
        let share = service.instances.len() * limits.in_flight.0 as usize / 100;
        let repaired = others().filter(|r| r.service == recovery.service).map(|r| &r.target);
        let left = loose().filter(|act| act.service == recovery.service).map(|act| &act.target);
        let in_flight = repaired.chain(left).collect::<BTreeSet<_>>().len();
        if in_flight >= share.max(1) {
            let all = service.instances.len();
            return wait(
                format!("{in_flight} of {all} instances are being repaired already"),
                next_end,
            );
        }
    }

    let acked =
        state.incidents.get(&recovery.incident).is_some_and(|incident| incident.acked.is_some());
    if let Some(until) = state.cooldowns.get(&recovery.target)
        && *until > now
        && !acked
    {
        let rest = until.since(now);
        return wait(
            format!("{} was repaired a moment ago and rests for {rest}", recovery.target),
            Some(*until),
        );
    }
    if let Some(breaker) = state.breakers.get(&runbook.name)
        && breaker.half_open_at > now
    {
        let why = format!("the breaker of `{}` is open: {}", runbook.name, breaker.why);
        return tell(why, Some(breaker.half_open_at));
    }
    // Half open: one trial at a time, so that a runbook that helps no more is found out on one target.
    let trial = || others().map(|r| &r.runbook).chain(loose().map(|act| &act.runbook));
    if state.breakers.contains_key(&runbook.name) && trial().any(|name| *name == runbook.name) {
        let why =
            format!("the breaker of `{}` is half open, and one trial is at work", runbook.name);
        return wait(why, next_end);
    }
    let most = runbook.limits.attempts;
    let starts: Vec<Time> = attempts(state, runbook, &recovery.target).collect();
    if starts.len() >= most.most as usize {
        let free = starts[starts.len() - most.most as usize] + most.per + Span::millis(1);
        return tell(
            format!("{} attempts on {} in {} are used up", most.most, recovery.target, most.per),
            Some(free),
        );
    }
    let starts: Vec<Time> = budget(state).collect();
    if starts.len() >= limits.actions.most as usize {
        let free = starts[starts.len() - limits.actions.most as usize]
            + limits.actions.per
            + Span::millis(1);
        return tell(format!("the budget of {} actions is used up", limits.actions), Some(free));
    }
    Ok(())
}

/// What every runbook may still do, for people.
pub(crate) fn views(state: &State) -> Vec<EnvelopeView> {
    state
        .policy
        .recover
        .runbooks
        .iter()
        .map(|runbook| {
            let mut counts = BTreeMap::new();
            for act in &state.acts {
                if act.runbook == runbook.name && act.at > state.now - runbook.limits.attempts.per {
                    *counts.entry(act.target.clone()).or_insert(0) += 1;
                }
            }
            EnvelopeView {
                runbook: runbook.name.clone(),
                mode: mode(state, runbook),
                attempts: counts,
                attempts_max: runbook.limits.attempts.most,
                breaker: state.breakers.get(&runbook.name).cloned(),
            }
        })
        .collect()
}
