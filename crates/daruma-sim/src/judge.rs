//! What must never happen, checked from outside: from what the world saw (acts begun, messages
//! received), from what was durable, and from what was delivered to the core. The core's own
//! bookkeeping is compared with these, never believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use daruma_alert::{
    Alert, AlertState, Command, Delivery, Effect, Event, Mode, Phase, Policy, ReceiverPolicy,
    Runbook, State,
};
use daruma_model::{
    ActionEnd, ActionKind, ActionRequest, AttemptOutcome, Labels, Level, Matchers, Message,
    MessageStatus, Observation, Span, Time, Verdict,
};

/// A broken promise.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) said: String,
}

pub(crate) type Held = Result<(), Broken>;

pub(crate) fn broken(invariant: &'static str, said: impl Into<String>) -> Held {
    Err(Broken { invariant, said: said.into() })
}

macro_rules! must {
    ($name:literal, $condition:expr, $($said:tt)*) => {
        if !$condition {
            return broken($name, format!($($said)*));
        }
    };
}

/// An act as the world saw it.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) fence: u64,
    pub(crate) recovery: u64,
    pub(crate) runbook: String,
    pub(crate) target: String,
    pub(crate) service: String,
    pub(crate) at: Time,
    pub(crate) at_work: bool,
}

/// A watch as the world was asked for it.
#[derive(Debug, Clone)]
struct Asked {
    recovery: u64,
    service: String,
    target: String,
    after: Time,
    verifies: bool,
    live: bool,
    /// Per check: what was delivered and began late enough, oldest first.
    seen: Vec<Vec<(Time, Verdict)>>,
}

/// What was delivered about one alert.
#[derive(Debug, Clone)]
struct Told {
    labels: Labels,
    rule: String,
    verdict: Verdict,
    /// Since when that verdict is the newest without a break.
    since: Time,
    /// Since when nothing but that was said about it, as far as `for` is concerned.
    removed: bool,
}

/// A lease or a silence that was acknowledged.
#[derive(Debug, Clone)]
struct Lease {
    matchers: Matchers,
    until: Time,
}

/// What one channel received: the newest word about each label set, and by which message.
#[derive(Debug, Default)]
struct Received {
    last: HashMap<Labels, (MessageStatus, u64)>,
    messages: HashSet<u64>,
    keys: HashMap<(Labels, bool, Time), u64>,
}

/// A message that was attempted.
#[derive(Debug, Clone)]
struct Tried {
    channel: String,
    created: Time,
}

/// A recovery as seen from outside.
#[derive(Debug, Default, Clone)]
struct Run {
    /// Acts since the last proof, by the step.
    failed: u32,
    last_step_acts: u32,
    /// An act began and no verification was asked for since.
    unverified: bool,
    /// When the last act ended, as was delivered; or when the monitor came back without an outcome.
    ended: Option<Time>,
    healed: bool,
    confirm: Option<u64>,
    verify: Option<u64>,
}

/// A recovery as the core showed it last.
#[derive(Debug)]
struct Seen {
    phase: &'static str,
    runbook: String,
    target: String,
    step: usize,
}

#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) policy: Policy,
    acts: VecDeque<Begun>,
    fences: HashSet<u64>,
    watches: HashMap<u64, Asked>,
    live: BTreeSet<u64>,
    findings: BTreeMap<String, Told>,
    holds: BTreeMap<u64, Lease>,
    silences: BTreeMap<u64, Lease>,
    stopped: bool,
    aborted: BTreeSet<u64>,
    acked: BTreeMap<u64, Time>,
    runs: BTreeMap<u64, Run>,
    /// By target: proved well at, how long it rests, by which run.
    healed: HashMap<String, (Time, Span, u64)>,
    /// By runbook: open until.
    breakers: BTreeMap<String, Time>,
    received: BTreeMap<String, Received>,
    /// Messages whose fate is decided for good.
    accepted: HashSet<u64>,
    refused: HashSet<u64>,
    /// Messages that a performer of this run is attempting.
    in_flight: HashSet<u64>,
    /// Per waiting message: what it is, when the last attempt began, which that was.
    tries: HashMap<u64, (Tried, Time, u32)>,
    /// Labels of alerts about which a channel was refused something for good, or that left it.
    excused: HashSet<(String, Labels)>,
    shape: Vec<(AlertState, Option<Time>, Option<Time>)>,
    alerts: HashMap<String, (AlertState, Option<Time>)>,
    phases: HashMap<u64, Seen>,
    /// Messages the core made: what each channel is to be told.
    made: HashSet<(String, Labels, u64, bool)>,
    last_message: u64,
    /// By alert: since when nobody attends to it.
    unattended: HashMap<String, Time>,
    untold: HashMap<String, Time>,
    /// The monitor runs and has said so to its core.
    started: bool,
    steps: u64,
    pub(crate) acts_total: u64,
    pub(crate) heals: u64,
    pub(crate) receipts: u64,
    pub(crate) resends: u64,
    pub(crate) escalated: BTreeSet<u64>,
}

fn key(rule: &str, labels: &Labels) -> String {
    format!("{rule}\u{1f}{labels}")
}

fn depends<'a>(policy: &'a Policy, service: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut todo: Vec<&'a str> = policy
        .service(service)
        .into_iter()
        .flat_map(|s| &s.depends_on)
        .map(String::as_str)
        .collect();
    while let Some(name) = todo.pop() {
        if found.insert(name) {
            let more = policy.service(name).into_iter().flat_map(|s| &s.depends_on);
            todo.extend(more.map(String::as_str));
        }
    }
    found
}

fn has_channel(policy: &Policy, channel: &str) -> bool {
    policy.notify.receivers.iter().flat_map(|r| &r.channels).any(|(name, _)| name == channel)
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Confirming { .. } => "confirming",
        Phase::Unconfirmed { .. } => "unconfirmed",
        Phase::Waiting { .. } => "waiting",
        Phase::Acting { .. } => "acting",
        Phase::Verifying { .. } => "verifying",
        Phase::BackingOff { .. } => "backing off",
        Phase::Healed { .. } => "healed",
        Phase::Shadow { .. } => "shadow",
        Phase::Exhausted { .. } => "exhausted",
    }
}

impl Judge {
    pub(crate) fn new() -> Judge {
        Judge {
            policy: Policy::default(),
            acts: VecDeque::new(),
            fences: HashSet::new(),
            watches: HashMap::new(),
            live: BTreeSet::new(),
            findings: BTreeMap::new(),
            holds: BTreeMap::new(),
            silences: BTreeMap::new(),
            stopped: false,
            aborted: BTreeSet::new(),
            acked: BTreeMap::new(),
            runs: BTreeMap::new(),
            healed: HashMap::new(),
            breakers: BTreeMap::new(),
            received: BTreeMap::new(),
            accepted: HashSet::new(),
            refused: HashSet::new(),
            in_flight: HashSet::new(),
            tries: HashMap::new(),
            excused: HashSet::new(),
            shape: Vec::new(),
            alerts: HashMap::new(),
            phases: HashMap::new(),
            made: HashSet::new(),
            last_message: 0,
            unattended: HashMap::new(),
            untold: HashMap::new(),
            started: false,
            steps: 0,
            acts_total: 0,
            heals: 0,
            receipts: 0,
            resends: 0,
            escalated: BTreeSet::new(),
        }
    }

    // ── What the core is told: only what was durable counts as delivered. ──

    /// Takes in an event that is durable, right before the core sees it.
    pub(crate) fn delivered(&mut self, now: Time, event: &Event) {
        match event {
            Event::Policy(policy) => self.policy_loaded(now, policy),
            Event::Found(finding) => {
                let key = key(&finding.rule, &finding.labels);
                let known = self.findings.get(&key).filter(|told| !told.removed);
                let since = match known {
                    Some(told) if told.verdict == finding.verdict => told.since,
                    _ => now,
                };
                let told = Told {
                    labels: finding.labels.clone(),
                    rule: finding.rule.clone(),
                    verdict: finding.verdict,
                    since,
                    removed: false,
                };
                self.findings.insert(key, told);
            }
            Event::Observed(seen) => self.observed(seen),
            Event::Acted(outcome) => {
                if let Some(run) = self.runs.get_mut(&outcome.id.recovery) {
                    run.ended = Some(outcome.ended);
                    if matches!(outcome.end, ActionEnd::NotStarted(_)) {
                        run.unverified = false;
                    }
                }
            }
            Event::Attempted(attempt) => {
                self.in_flight.remove(&attempt.message);
                let decided = match attempt.outcome {
                    AttemptOutcome::Accepted => self.accepted.insert(attempt.message),
                    AttemptOutcome::Rejected => self.refused.insert(attempt.message),
                    AttemptOutcome::Retry => false,
                };
                if decided {
                    self.tries.remove(&attempt.message);
                }
            }
            Event::Started => self.started = true,
            Event::Tick
            | Event::Posted(_)
            | Event::Reposted { .. }
            | Event::Source(_)
            | Event::Commanded { .. } => {}
        }
    }

    fn policy_loaded(&mut self, now: Time, policy: &Policy) {
        for told in self.findings.values_mut() {
            if !policy.rules.contains_key(&told.rule) && !told.removed {
                told.removed = true;
                told.since = now;
            }
        }
        // Who leaves the configuration cannot be told the end of what it was told.
        for receiver in &self.policy.notify.receivers {
            let stays = policy.notify.receivers.iter().find(|r| r.name == receiver.name);
            for (channel, _) in &receiver.channels {
                if !stays
                    .is_some_and(|r| r.channels.iter().any(|(name, end)| name == channel && *end))
                {
                    let received = self.received.get(channel);
                    for labels in received.iter().flat_map(|received| received.last.keys()) {
                        self.excused.insert((channel.clone(), labels.clone()));
                    }
                }
            }
        }
        self.policy = policy.clone();
        // What waits for a channel that left is not tried any more.
        let (policy, tries) = (&self.policy, &mut self.tries);
        tries.retain(|_, (message, ..)| has_channel(policy, &message.channel));
        self.unattended.clear();
        self.untold.clear();
    }

    fn observed(&mut self, seen: &Observation) {
        let Some(watch) = self.watches.get_mut(&seen.watch).filter(|watch| watch.live) else {
            return;
        };
        let after = watch.after;
        let Some(answers) = watch.seen.get_mut(seen.check) else { return };
        if seen.at > after && answers.last().is_none_or(|(at, _)| *at < seen.at) {
            answers.push((seen.at, seen.verdict));
        }
    }

    /// A command whose sender was told that it is durable; `state` is the core's, right after it.
    pub(crate) fn acknowledged(&mut self, now: Time, command: &Command, state: &State) {
        let until = |ttl: Span| now + ttl;
        match command {
            Command::Silence { matchers, ttl, .. } => {
                let lease = Lease { matchers: matchers.clone(), until: until(*ttl) };
                if let Some(id) = state.silences.keys().next_back() {
                    self.silences.insert(*id, lease);
                }
            }
            Command::Hold { matchers, ttl, .. } => {
                let lease = Lease { matchers: matchers.clone(), until: until(*ttl) };
                if let Some(id) = state.holds.keys().next_back() {
                    self.holds.insert(*id, lease);
                }
            }
            Command::PutSilence { matchers, until, .. } => {
                let lease = Lease { matchers: matchers.clone(), until: *until };
                if let Some(id) = state.silences.keys().next_back() {
                    self.silences.insert(*id, lease);
                }
            }
            Command::EndSilence { uuid } => {
                let named = |id: &u64| {
                    state.ended_silences.get(id).is_some_and(|silence| silence.uuid == *uuid)
                };
                self.silences.retain(|id, _| !named(id));
            }
            Command::Unsilence { id } => {
                self.silences.remove(id);
            }
            Command::Release { id } => {
                self.holds.remove(id);
            }
            Command::Abort { incident } => {
                if state.incidents.contains_key(incident) {
                    self.aborted.insert(*incident);
                }
            }
            Command::Stop { on, .. } => self.stopped = *on,
            Command::Ack { incident, ttl, .. } => {
                if state.incidents.contains_key(incident) {
                    self.acked.insert(*incident, until(ttl.unwrap_or(Span::hours(1))));
                }
            }
            Command::AckByLink { incident, link, nonce, ttl, .. } => {
                if state.used_links.get(link).is_some_and(|used| used.nonce == *nonce) {
                    self.acked.insert(*incident, until(*ttl));
                }
            }
            Command::SendTest { .. } | Command::Receipt(_) => {}
            Command::ResetBreaker { runbook } => {
                self.breakers.remove(runbook);
                for recovery in state.recoveries.values().filter(|r| r.runbook == *runbook) {
                    if let Some(run) = self.runs.get_mut(&recovery.id) {
                        run.failed = 0;
                        run.last_step_acts = 0;
                    }
                }
            }
        }
    }

    /// The monitor is gone, and every watch with it.
    pub(crate) fn crashed(&mut self) {
        self.started = false;
        self.in_flight.clear();
        for id in std::mem::take(&mut self.live) {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.live = false;
            }
        }
        self.unattended.clear();
        self.untold.clear();
    }

    /// The monitor is back, at `now`: an act without an outcome has ended for it as far as it may
    /// know only now.
    pub(crate) fn restarted(&mut self, now: Time, state: &State) {
        for recovery in state.recoveries.values() {
            if matches!(recovery.phase, Phase::Acting { .. })
                && let Some(run) = self.runs.get_mut(&recovery.id)
            {
                run.ended = Some(now);
            }
        }
    }

    // ── What the world sees. ──

    /// An act was decided and never begun: the world saw nothing of it.
    pub(crate) fn never_begun(&mut self, request: &ActionRequest) {
        self.fences.remove(&request.id.fence);
        self.acts.retain(|act| act.fence != request.id.fence);
        if let Some(run) = self.runs.get_mut(&request.id.recovery) {
            run.failed = run.failed.saturating_sub(1);
            run.unverified = false;
        }
    }

    /// An act ended in the world.
    pub(crate) fn ended(&mut self, fence: u64) {
        if let Some(act) = self.acts.iter_mut().find(|act| act.fence == fence) {
            act.at_work = false;
        }
    }

    /// A channel has received a message (it took it, whatever the monitor heard of that).
    pub(crate) fn received(&mut self, message: &Message) -> Held {
        self.receipts += 1;
        let channel = &message.channel;
        // A channel that does not want to hear ends hears a second beginning after none.
        let ends = self.policy.notify.receivers.iter().flat_map(|r| &r.channels);
        let deaf_to_ends = ends.clone().any(|(name, end)| name == channel && !end);
        let received = self.received.entry(channel.clone()).or_default();
        must!(
            "sent is what was accepted, and once",
            !self.accepted.contains(&message.id),
            "{channel} got message #{} again after it was known to have it",
            message.id
        );
        let again = !received.messages.insert(message.id);
        self.resends += u64::from(again);
        for alert in &message.alerts {
            let excused = self.excused.contains(&(channel.clone(), alert.labels.clone()));
            let before = received.last.get(&alert.labels).copied();
            let fires = message.status == MessageStatus::Firing;
            let key = (alert.labels.clone(), fires, alert.starts_at);
            let first = *received.keys.entry(key).or_insert(message.id);
            must!(
                "told once",
                first == message.id,
                "{channel} was told {:?} {} since {:?} in #{first} and again in #{}",
                message.status,
                alert.labels,
                alert.starts_at,
                message.id
            );
            match (before, message.status) {
                (Some((_, id)), _) if id > message.id => {
                    return broken(
                        "an end never overtakes, nor is overtaken",
                        format!(
                            "{channel} got #{} ({:?}) after #{id} about {}",
                            message.id, message.status, alert.labels
                        ),
                    );
                }
                (Some((MessageStatus::Firing, id)), MessageStatus::Firing)
                    if id != message.id && !excused && !deaf_to_ends =>
                {
                    return broken(
                        "told once",
                        format!(
                            "{channel} was told in #{} that {} fires, which it knew from #{id}",
                            message.id, alert.labels
                        ),
                    );
                }
                (None | Some((MessageStatus::Resolved, _)), MessageStatus::Resolved)
                    if before.is_none_or(|(_, id)| id != message.id) && !excused =>
                {
                    return broken(
                        "end never before beginning",
                        format!(
                            "{channel} was told the end of {} in #{}, without a beginning",
                            alert.labels, message.id
                        ),
                    );
                }
                _ => {}
            }
            received.last.insert(alert.labels.clone(), (message.status, message.id));
        }
        Ok(())
    }

    /// A performer begins an act: the envelope, recomputed.
    pub(crate) fn begins(&mut self, now: Time, request: &ActionRequest, state: &State) -> Held {
        let id = &request.id;
        must!(
            "at most once acts",
            self.fences.insert(id.fence),
            "fence {} was performed twice",
            id.fence
        );
        self.acts_total += 1;
        let Some(runbook) = self.policy.runbook(&request.runbook).cloned() else {
            return broken("mode", format!("`{}` is not in the policy", request.runbook));
        };
        let service = request.target.split('/').next().unwrap_or("").to_owned();
        self.not_while_another_is_at_work(request)?;
        self.within_attempts_and_budget(now, request, &runbook)?;
        self.within_concurrency_and_share(request, &service)?;
        self.not_in_cooldown(now, request)?;
        self.breaker_is_closed(now, request)?;
        self.no_storm(&service)?;
        self.dependencies_first(&service)?;
        self.nobody_forbids(now, request, &runbook)?;
        self.confirmed_by_fresh_witnesses(request, &runbook)?;
        let run = self.runs.entry(id.recovery).or_default();
        must!(
            "verified before repeated",
            !run.unverified,
            "a second act on {} before the first was verified",
            request.target
        );
        run.unverified = true;
        run.healed = false;
        run.failed += 1;
        run.ended = None;
        let last = id.step + 1 >= runbook.steps.len();
        if last {
            run.last_step_acts += 1;
        }
        let most = runbook.limits.no_help.max(1);
        must!(
            "breaker: no_help acts, then a person",
            run.failed <= most.max(runbook.steps.len() as u32),
            "act {} of one run on {} since it was last proved well; {most} may fail",
            run.failed,
            request.target
        );
        self.acts.push_back(Begun {
            fence: id.fence,
            recovery: id.recovery,
            runbook: request.runbook.clone(),
            target: request.target.clone(),
            service,
            at: now,
            at_work: true,
        });
        if self.acts.len() > 2_000 {
            self.acts.pop_front();
        }
        let _ = state;
        Ok(())
    }

    fn not_while_another_is_at_work(&self, request: &ActionRequest) -> Held {
        let other = self.acts.iter().find(|act| act.at_work && act.target == request.target);
        must!(
            "one act at a time on a target",
            other.is_none(),
            "act {} on {} began while act {} is at work there",
            request.id.fence,
            request.target,
            other.map_or(0, |act| act.fence)
        );
        Ok(())
    }

    fn within_attempts_and_budget(
        &self,
        now: Time,
        request: &ActionRequest,
        runbook: &Runbook,
    ) -> Held {
        let most = runbook.limits.attempts;
        let mine = self
            .acts
            .iter()
            .filter(|act| act.target == request.target && act.runbook == request.runbook)
            .filter(|act| act.at > now - most.per)
            .count();
        must!(
            "attempts",
            mine < most.most as usize,
            "act {} of {most} by `{}` on {}",
            mine + 1,
            request.runbook,
            request.target
        );
        let most = self.policy.recover.limits.actions;
        let all = self.acts.iter().filter(|act| act.at > now - most.per).count();
        must!("budget", all < most.most as usize, "act {} of {most}", all + 1);
        Ok(())
    }

    fn within_concurrency_and_share(&self, request: &ActionRequest, service: &str) -> Held {
        let limits = &self.policy.recover.limits;
        let at_work = self.acts.iter().filter(|act| act.at_work).count();
        must!(
            "concurrency",
            at_work < limits.concurrent.max(1),
            "{} acts at work at once, {} are allowed",
            at_work + 1,
            limits.concurrent
        );
        let instances = self.policy.service(service).map_or(0, |s| s.instances.len());
        if instances == 0 {
            return Ok(());
        }
        let mut targets: BTreeSet<&str> = self
            .acts
            .iter()
            .filter(|act| act.at_work && act.service == service)
            .map(|act| act.target.as_str())
            .collect();
        let verifying = self.live.iter().filter_map(|id| self.watches.get(id));
        targets.extend(
            verifying.filter(|w| w.verifies && w.service == service).map(|w| w.target.as_str()),
        );
        targets.remove(request.target.as_str());
        let most = (instances * limits.in_flight.0 as usize / 100).max(1);
        must!(
            "share in flight",
            targets.len() < most,
            "{} and {targets:?} of {instances} instances are in flight, {most} may be",
            request.target
        );
        Ok(())
    }

    fn not_in_cooldown(&self, now: Time, request: &ActionRequest) -> Held {
        let Some((at, rests, run)) = self.healed.get(&request.target) else { return Ok(()) };
        let acked = self.acked.get(&request.id.incident).is_some_and(|until| *until > now);
        must!(
            "cooldown",
            now >= *at + *rests || *run == request.id.recovery || acked,
            "{} was proved well at {at:?} and rests for {rests}",
            request.target
        );
        Ok(())
    }

    fn breaker_is_closed(&self, now: Time, request: &ActionRequest) -> Held {
        let open = self.breakers.get(&request.runbook);
        must!(
            "breaker",
            open.is_none_or(|until| now >= *until),
            "`{}` acted on {} while its breaker is open until {open:?} ({:?})",
            request.runbook,
            request.target,
            self.policy.runbook(&request.runbook).map(|r| &r.limits)
        );
        if open.is_some() {
            // Half open: one trial at a time.
            let trials =
                self.acts.iter().filter(|act| act.at_work && act.runbook == request.runbook);
            let verifying = self.live.iter().filter_map(|id| self.watches.get(id)).filter(|w| {
                w.verifies
                    && self
                        .acts
                        .iter()
                        .any(|a| a.recovery == w.recovery && a.runbook == request.runbook)
            });
            must!(
                "breaker: one trial when half open",
                trials.count() + verifying.count() == 0,
                "`{}` began a second trial on {} while its breaker is half open",
                request.runbook,
                request.target
            );
        }
        Ok(())
    }

    fn holding(&self) -> impl Iterator<Item = &Told> {
        self.findings.values().filter(|told| told.verdict == Verdict::Holds && !told.removed)
    }

    fn ill(&self) -> BTreeSet<&str> {
        self.holding()
            .filter(|told| Level::from_severity(told.labels.get("severity")) >= Level::Error)
            .map(|told| told.labels.get("service"))
            .filter(|service| !service.is_empty())
            .collect()
    }

    fn no_storm(&self, service: &str) -> Held {
        let ill = self.ill();
        let all = &self.policy.recover.services;
        let unexplained = all
            .iter()
            .filter(|s| ill.contains(s.name.as_str()))
            .filter(|s| depends(&self.policy, &s.name).is_disjoint(&ill))
            .count();
        let least = self.policy.recover.min_healthy.0 as usize;
        let well = |ill: usize, all: usize| {
            all < 3 || ill <= 1 || (all - ill.min(all)) * 100 >= least * all
        };
        must!(
            "storm",
            well(unexplained, all.len()),
            "{unexplained} of {} services are ill at once, and {service} was touched",
            all.len()
        );
        let Some(declared) = self.policy.service(service) else { return Ok(()) };
        let sick: BTreeSet<&str> = self
            .holding()
            .filter(|told| told.labels.get("service") == service)
            .map(|told| told.labels.get("instance"))
            .filter(|instance| declared.instances.iter().any(|name| name == instance))
            .collect();
        must!(
            "storm",
            well(sick.len(), declared.instances.len()),
            "{} of {} instances of {service} are ill at once, and it was touched",
            sick.len(),
            declared.instances.len()
        );
        Ok(())
    }

    fn dependencies_first(&self, service: &str) -> Held {
        let ill = self.ill();
        let on = depends(&self.policy, service);
        let first = on.iter().find(|on| ill.contains(*on));
        must!(
            "dependency order",
            first.is_none(),
            "{service} was touched while {first:?}, which it needs, is ill"
        );
        let at_work = self.acts.iter().filter(|act| act.at_work).map(|act| act.service.as_str());
        let proving = self.live.iter().filter_map(|id| self.watches.get(id));
        let proving = proving.filter(|watch| watch.verifies).map(|watch| watch.service.as_str());
        let first = at_work.chain(proving).find(|at| on.contains(at));
        must!(
            "dependency order",
            first.is_none(),
            "{service} was touched while {first:?}, which it needs, is being repaired"
        );
        Ok(())
    }

    fn nobody_forbids(&self, now: Time, request: &ActionRequest, runbook: &Runbook) -> Held {
        let name = &request.runbook;
        must!(
            "mode",
            runbook.mode.min(self.policy.recover.mode) == Mode::Auto,
            "`{name}` acted though it is in mode {}",
            runbook.mode.min(self.policy.recover.mode).as_str()
        );
        let kind = self.policy.recover.actions.get(&request.action).map(|action| action.kind);
        must!(
            "destructive",
            kind.is_some_and(|kind| kind != ActionKind::Destructive),
            "`{}` may destroy data, or is unknown, and was run",
            request.action
        );
        must!("stop", !self.stopped, "`{name}` acted while all recovery is stopped");
        must!(
            "abort",
            !self.aborted.contains(&request.id.incident),
            "`{name}` acted in incident {}, in which recovery was aborted",
            request.id.incident
        );
        for (what, leases) in [("hold", &self.holds), ("silence", &self.silences)] {
            let lease = leases
                .values()
                .find(|lease| lease.until > now && lease.matchers.matches(&request.labels));
            if let Some(lease) = lease {
                return broken(
                    if what == "hold" { "hold" } else { "silence" },
                    format!(
                        "`{name}` acted on {} despite a {what} on {}",
                        request.target, lease.matchers
                    ),
                );
            }
        }
        Ok(())
    }

    fn confirmed_by_fresh_witnesses(&self, request: &ActionRequest, runbook: &Runbook) -> Held {
        let run = self.runs.get(&request.id.recovery);
        let watch = run.and_then(|run| run.confirm).and_then(|id| self.watches.get(&id));
        let Some(watch) = watch else {
            return broken("confirmed", format!("{} was never confirmed", request.target));
        };
        let verify;
        let (checks, own) = if runbook.confirm.checks.is_empty() {
            verify = runbook.steps[request.id.step.min(runbook.steps.len() - 1)].verify.all();
            (&verify, true)
        } else {
            (&runbook.confirm.checks, false)
        };
        let mut votes = 0;
        for (i, check) in checks.iter().enumerate() {
            let fault = if check.expr.is_some() && !own { Verdict::Holds } else { Verdict::Clear };
            let Some(seen) = watch.seen.get(i) else { continue };
            let in_row = seen
                .iter()
                .rev()
                .filter(|(_, verdict)| *verdict != Verdict::Unknown)
                .take_while(|(_, verdict)| *verdict == fault)
                .count();
            votes += usize::from(in_row >= check.fails.unwrap_or(1).max(1) as usize);
        }
        must!(
            "confirmed",
            votes >= runbook.confirm_need(),
            "{} was touched on {votes} fresh votes, {} are needed",
            request.target,
            runbook.confirm_need()
        );
        Ok(())
    }

    // ── What the core decided. ──

    /// The effects of one step; `state` is the core's after it.
    pub(crate) fn decided(&mut self, now: Time, effects: &[Effect], state: &State) -> Held {
        for effect in effects {
            match effect {
                Effect::Watch(watch) => {
                    let by = |r: &&daruma_alert::Recovery| {
                        r.watch.as_ref().is_some_and(|w| w.id == watch.id)
                    };
                    let recovery = state.recoveries.values().find(by);
                    let asked = Asked {
                        recovery: recovery.map_or(0, |r| r.id),
                        service: recovery.map_or(String::new(), |r| r.service.clone()),
                        target: recovery.map_or(String::new(), |r| r.target.clone()),
                        after: watch.after,
                        verifies: watch.blind_before,
                        live: true,
                        seen: vec![Vec::new(); watch.checks.len()],
                    };
                    if let Some(recovery) = recovery {
                        let run = self.runs.entry(recovery.id).or_default();
                        if watch.blind_before {
                            run.verify = Some(watch.id);
                            run.unverified = false;
                            // Without a known end, only what is seen from now on may count.
                            let ended = *run.ended.get_or_insert(now);
                            must!(
                                "verified by fresh evidence",
                                watch.after >= ended,
                                "{} is to be proved after {:?}, but its act ended at {ended:?}",
                                asked.target,
                                watch.after
                            );
                        } else {
                            run.confirm = Some(watch.id);
                        }
                    }
                    self.live.insert(watch.id);
                    self.watches.insert(watch.id, asked);
                }
                Effect::Unwatch(id) => {
                    self.live.remove(id);
                    if let Some(watch) = self.watches.get_mut(id) {
                        watch.live = false;
                    }
                }
                Effect::Send { message, number } => {
                    must!(
                        "sent is what was accepted, and once",
                        !self.accepted.contains(&message.id),
                        "#{} is sent again after it was accepted",
                        message.id
                    );
                    must!(
                        "one attempt at a time",
                        self.in_flight.insert(message.id),
                        "#{} is attempted while an attempt at it is under way",
                        message.id
                    );
                    let (channel, created) = (message.channel.clone(), message.created);
                    self.tries.insert(message.id, (Tried { channel, created }, now, *number));
                }
                Effect::Act(_) | Effect::Abort(_) => {}
            }
        }
        Ok(())
    }

    /// Whether the configuration has this channel.
    pub(crate) fn knows(&self, channel: &str) -> bool {
        has_channel(&self.policy, channel)
    }

    /// Everything that must be true after every step.
    pub(crate) fn after(
        &mut self,
        now: Time,
        event: &Event,
        state: &State,
        wake: Option<Time>,
    ) -> Held {
        self.steps += 1;
        self.holds.retain(|_, lease| lease.until > now);
        self.silences.retain(|_, lease| lease.until > now);
        self.acked.retain(|_, until| *until > now);
        self.nothing_acknowledged_is_lost(now, state)?;
        self.missing_is_not_healthy(now, state)?;
        self.verified_by_fresh_evidence(now, state)?;
        self.watches_are_those_of_recoveries(state)?;
        self.new_messages(state);
        self.a_dead_channel_is_an_incident(event, state)?;
        if matches!(event, Event::Policy(_)) {
            self.what_left_the_policy_is_over(state)?;
        }
        must!(
            "deadlines move on",
            !self.started || wake.is_none_or(|wake| wake > now),
            "the core wants to be woken at {wake:?}, which is not after {now:?}: the loop would spin"
        );
        for incident in state.incidents.values().filter(|i| i.escalated.is_some()) {
            self.escalated.insert(incident.id);
        }
        self.somebody_attends(now, state)?;
        if self.steps.is_multiple_of(16) {
            self.bounded(state)?;
            self.retries_go_on(now, state)?;
        }
        Ok(())
    }

    pub(crate) fn nothing_acknowledged_is_lost(&self, now: Time, state: &State) -> Held {
        let same = |kept: &BTreeMap<u64, Lease>, ids: Vec<u64>| {
            let mine: Vec<u64> =
                kept.iter().filter(|(_, lease)| lease.until > now).map(|(id, _)| *id).collect();
            mine == ids
        };
        let name = "nothing acknowledged is lost";
        let left = state.holds.values().filter(|hold| hold.until > now);
        let holds: Vec<u64> = left.map(|hold| hold.id).collect();
        if !same(&self.holds, holds) {
            return broken(name, format!("holds {:?}, acknowledged {:?}", state.holds, self.holds));
        }
        let left = state.silences.values().filter(|silence| silence.until > now);
        let silences: Vec<u64> = left.map(|silence| silence.id).collect();
        if !same(&self.silences, silences) {
            let (got, want) = (&state.silences, &self.silences);
            return broken(name, format!("silences {got:?}, acknowledged {want:?}"));
        }
        if state.stopped.is_some() != self.stopped {
            return broken(name, format!("stopped is {:?}, not {}", state.stopped, self.stopped));
        }
        for (id, until) in self.acked.iter().filter(|(_, until)| **until > now) {
            let Some(incident) = state.incidents.get(id) else { continue };
            let kept = incident.acked.as_ref().is_some_and(|(_, t)| t == until);
            if !kept && incident.resolved.is_none() {
                return broken(name, format!("the ack of incident {id} until {until:?} is lost"));
            }
        }
        for id in &self.aborted {
            if state.incidents.get(id).is_some_and(|incident| !incident.aborted) {
                return broken(name, format!("the abort of incident {id} is lost"));
            }
        }
        if self.steps.is_multiple_of(64) && state.policy != self.policy {
            return broken(name, "the policy in force is not the one that was loaded");
        }
        Ok(())
    }

    /// No alert fires before its `for`, and none ends without positive evidence.
    fn missing_is_not_healthy(&mut self, now: Time, state: &State) -> Held {
        let shape = || state.alerts.values().map(|a| (a.state, a.fired_at, a.resolved_at));
        if shape().eq(self.shape.iter().copied()) {
            return Ok(());
        }
        for alert in state.alerts.values() {
            let before = self.alerts.get(&alert.key).copied();
            if before == Some((alert.state, alert.fired_at)) {
                continue;
            }
            self.alerts.insert(alert.key.clone(), (alert.state, alert.fired_at));
            let Some(told) = self.findings.get(&alert.key) else {
                continue; // The monitor's own.
            };
            let rule = self.policy.rules.get(&told.rule).cloned().unwrap_or_default();
            let name = &alert.key.replace('\u{1f}', " ");
            match alert.state {
                AlertState::Firing => must!(
                    "fires on evidence",
                    told.verdict == Verdict::Holds && now >= told.since + rule.for_,
                    "{name} fires; delivered was {:?} since {:?}, it must hold for {}",
                    told.verdict,
                    told.since,
                    rule.for_
                ),
                AlertState::Resolved => must!(
                    "missing is not healthy",
                    told.removed
                        || told.verdict == Verdict::Clear
                            && now >= told.since + rule.keep_firing_for,
                    "{name} was resolved; delivered was {:?} since {:?}, kept for {}",
                    told.verdict,
                    told.since,
                    rule.keep_firing_for
                ),
                AlertState::Pending => {}
            }
        }
        self.shape = shape().collect();
        Ok(())
    }

    /// What the last verification of a run was good for, without a break and seen after its act ended:
    /// from when to when.
    fn proof(&self, run: &Run) -> Option<(Time, Time)> {
        let watch = self.watches.get(&run.verify?)?;
        let (ended, mut since, mut until) = (run.ended?, Time::MIN, Time::MAX);
        for seen in &watch.seen {
            let good = seen.iter().rev().take_while(|(_, verdict)| *verdict == Verdict::Holds);
            let good: Vec<Time> = good.map(|(at, _)| *at).filter(|at| *at > ended).collect();
            since = since.max(*good.last()?);
            until = until.min(*good.first()?);
        }
        (!watch.seen.is_empty()).then_some((since, until))
    }

    fn verified_by_fresh_evidence(&mut self, now: Time, state: &State) -> Held {
        for recovery in state.recoveries.values() {
            let phase = phase_name(&recovery.phase);
            let seen = self.phases.entry(recovery.id).or_insert_with(|| Seen {
                phase: "",
                runbook: recovery.runbook.clone(),
                target: recovery.target.clone(),
                step: recovery.step,
            });
            seen.step = recovery.step;
            let before = std::mem::replace(&mut seen.phase, phase);
            if phase == before {
                continue;
            }
            let Some(runbook) = self.policy.runbook(&recovery.runbook) else { continue };
            let runbook = runbook.clone();
            if phase == "healed" {
                let proof = self.runs.get(&recovery.id).and_then(|run| self.proof(run));
                let verify = &runbook.steps[recovery.step.min(runbook.steps.len() - 1)].verify;
                must!(
                    "verified by fresh evidence",
                    proof.is_some_and(|(since, until)| until.since(since) >= verify.for_),
                    "{} is called healed; after its act it was seen good {proof:?}: not for {}",
                    recovery.target,
                    verify.for_
                );
                self.is_well(now, recovery.id, &recovery.target, &runbook);
            }
            if before == "healed" && phase != "healed" {
                // It was no repair if an alert about it has fired all the while.
                let at = self.healed.get(&recovery.target).map_or(Time::MIN, |(at, ..)| *at);
                let never_over = state.alerts.values().any(|alert| {
                    alert.state == AlertState::Firing
                        && alert.fired_at.is_some_and(|fired| fired <= at)
                        && runbook.matchers.matches(&alert.finding.labels)
                        && self.place(&alert.finding.labels) == recovery.target
                });
                if never_over {
                    self.healed.remove(&recovery.target);
                }
            }
            let failed = self.runs.get(&recovery.id).map_or(0, |run| run.failed);
            if phase == "exhausted"
                && matches!(before, "verifying" | "acting" | "healed")
                && failed >= runbook.limits.no_help.max(1)
                && !self.aborted.contains(&recovery.incident)
            {
                let until = now + runbook.limits.breaker_reset;
                self.breakers.insert(recovery.runbook.clone(), until);
            }
        }
        if self.phases.len() > state.recoveries.len() {
            let alive: HashSet<u64> = state.recoveries.values().map(|r| r.id).collect();
            let gone: Vec<(u64, Seen)> =
                self.phases.extract_if(|id, _| !alive.contains(id)).collect();
            for (id, seen) in gone.into_iter().filter(|(_, seen)| seen.phase == "verifying") {
                // Proved in the very step in which its incident closed, or not proved.
                let Some(runbook) = self.policy.runbook(&seen.runbook).cloned() else { continue };
                let verify = &runbook.steps[seen.step.min(runbook.steps.len() - 1)].verify;
                let proof = self.runs.get(&id).and_then(|run| self.proof(run));
                if proof.is_some_and(|(since, until)| until.since(since) >= verify.for_) {
                    self.is_well(now, id, &seen.target, &runbook);
                }
            }
        }
        Ok(())
    }

    /// A target was proved well.
    fn is_well(&mut self, now: Time, id: u64, target: &str, runbook: &Runbook) {
        self.heals += 1;
        let run = self.runs.entry(id).or_default();
        run.failed = 0;
        run.last_step_acts = 0;
        run.healed = true;
        self.healed.insert(target.to_owned(), (now, runbook.limits.cooldown, id));
        self.breakers.remove(&runbook.name);
    }

    /// The target that alerts with these labels are about.
    fn place(&self, labels: &Labels) -> String {
        let (service, instance) = (labels.get("service"), labels.get("instance"));
        let declared = self.policy.service(service).map_or(&[][..], |service| &service.instances);
        match declared.iter().any(|name| name == instance) {
            true => format!("{service}/{instance}"),
            false => service.to_owned(),
        }
    }

    fn watches_are_those_of_recoveries(&self, state: &State) -> Held {
        if !self.started {
            return Ok(()); // Watches are asked for again only then.
        }
        let wanted = state.recoveries.values().filter_map(|r| r.watch.as_ref()).map(|w| w.id);
        must!(
            "every watch ends",
            self.live.len() <= state.recoveries.len()
                && wanted.collect::<BTreeSet<u64>>() == self.live,
            "the world still watches {:?}, the recoveries want {:?}",
            self.live,
            state
                .recoveries
                .values()
                .filter_map(|r| r.watch.as_ref())
                .map(|w| w.id)
                .collect::<Vec<_>>()
        );
        Ok(())
    }

    fn new_messages(&mut self, state: &State) {
        for (id, out) in state.outbox.range(self.last_message + 1..) {
            for alert in &out.message.alerts {
                self.made.insert((
                    out.message.channel.clone(),
                    alert.labels.clone(),
                    out.message.incident,
                    out.message.status == MessageStatus::Firing,
                ));
            }
            self.last_message = *id;
        }
        // What is given up for good cannot be told its end in order.
        for out in state.outbox.values() {
            if matches!(out.delivery, Delivery::Rejected | Delivery::GaveUp) {
                for alert in &out.message.alerts {
                    self.excused.insert((out.message.channel.clone(), alert.labels.clone()));
                }
            }
        }
    }

    /// Nobody speaks any more of an alert without a rule, and nobody takes a message for a channel
    /// without a configuration: neither may live on.
    fn what_left_the_policy_is_over(&self, state: &State) -> Held {
        let left = state.alerts.values().find(|alert| {
            alert.state != AlertState::Resolved
                && self.findings.get(&alert.key).is_some_and(|told| told.removed)
        });
        must!(
            "what left the policy is over",
            left.is_none(),
            "{:?} lives on without its rule",
            left.map(|alert| &alert.finding.labels)
        );
        let waits = state.outbox.values().find(|out| {
            matches!(out.delivery, Delivery::Queued | Delivery::Sending)
                && !has_channel(&self.policy, &out.message.channel)
        });
        must!(
            "what left the policy is over",
            waits.is_none(),
            "#{:?} waits for a channel that is not configured",
            waits.map(|out| out.message.id)
        );
        Ok(())
    }

    fn a_dead_channel_is_an_incident(&self, event: &Event, state: &State) -> Held {
        let Event::Attempted(attempt) = event else { return Ok(()) };
        let Some(out) = state.outbox.get(&attempt.message) else { return Ok(()) };
        if attempt.outcome == AttemptOutcome::Accepted || out.tries < 5 {
            return Ok(());
        }
        let channel = &out.message.channel;
        let said = state.alerts.values().any(|alert| {
            alert.finding.labels.get("alertname") == "ChannelFailing"
                && alert.finding.labels.get("channel") == channel
                && alert.state == AlertState::Firing
        });
        must!(
            "a dead channel is an incident",
            said || !has_channel(&self.policy, channel),
            "{channel} refused {} attempts and no incident says so",
            out.tries
        );
        Ok(())
    }

    fn bounded(&self, state: &State) -> Held {
        let waiting = |d| matches!(d, Delivery::Queued | Delivery::Sending);
        let outbox = state.outbox.values().filter(|out| waiting(out.delivery)).count();
        let resolved = state.incidents.values().filter(|i| i.resolved.is_some()).count();
        let longest = state.incidents.values().map(|i| i.timeline.len()).max().unwrap_or(0);
        must!(
            "bounded",
            outbox <= 2_000
                && state.outbox.len() <= outbox + 500
                && resolved <= 200
                && longest <= 400
                && state.acts.len() <= 5_000
                && state.recoveries.len() <= 64
                && state.alerts.len() <= 400,
            "{outbox} messages wait, {} kept, {resolved} resolved incidents, a story of {longest} lines, \
             {} acts, {} recoveries, {} alerts",
            state.outbox.len(),
            state.acts.len(),
            state.recoveries.len(),
            state.alerts.len()
        );
        Ok(())
    }

    fn retries_go_on(&self, now: Time, state: &State) -> Held {
        for (id, (Tried { created, .. }, tried, number)) in &self.tries {
            let delivery = state.outbox.get(id).map(|out| out.delivery);
            let (age, quiet) = (now.since(*created), now.since(*tried));
            must!(
                "retries go on",
                match delivery {
                    Some(Delivery::Queued | Delivery::Sending) => quiet <= Span::minutes(70),
                    _ => age >= Span::hours(24),
                },
                "message #{id} is {delivery:?} after {age} and {number} tries, the last {quiet} ago"
            );
        }
        Ok(())
    }

    fn muted(&self, now: Time, labels: &Labels) -> bool {
        self.holds
            .values()
            .chain(self.silences.values())
            .any(|lease| lease.until > now && lease.matchers.matches(labels))
    }

    /// Whether something that the alert's service depends on, and that is no less grave, is for the same
    /// receiver: then that is told, and this only if it outlives it.
    fn cause_is_told(&self, state: &State, alert: &Alert, receiver: &ReceiverPolicy) -> bool {
        let notify = &self.policy.notify;
        let service = |name: &str| self.policy.recover.services.iter().find(|s| s.name == name);
        let mut on: Vec<&str> = Vec::new();
        let mut todo = vec![alert.finding.labels.get("service")];
        while let Some(name) = todo.pop() {
            for next in service(name).into_iter().flat_map(|s| &s.depends_on) {
                if !on.contains(&next.as_str()) {
                    on.push(next);
                    todo.push(next);
                }
            }
        }
        let level = notify.level(&alert.finding.labels).max(receiver.min_level);
        state.alerts.values().any(|cause| {
            let labels = &cause.finding.labels;
            let route = notify.routes.iter().find(|r| r.matchers.matches(labels));
            cause.state == AlertState::Firing
                && on.contains(&labels.get("service"))
                && notify.level(labels) >= level
                && route.is_none_or(|route| route.receivers.contains(&receiver.name))
        })
    }

    /// Liveness: what fires is told within a bound, and what a runbook is for is repaired or escalated.
    fn somebody_attends(&mut self, now: Time, state: &State) -> Held {
        if !self.steps.is_multiple_of(8) {
            return Ok(());
        }
        let patience = self.policy.notify.receivers.iter().map(|r| r.heal_first).max();
        let told_within =
            Span(self.policy.notify.group_wait.0 + patience.unwrap_or(Span::ZERO).0 + 120_000);
        let mut seen = HashSet::new();
        for alert in state.alerts.values().filter(|alert| alert.state == AlertState::Firing) {
            let (Some(id), labels) = (alert.incident, &alert.finding.labels) else { continue };
            seen.insert(alert.key.clone());
            if self.muted(now, labels) {
                self.untold.remove(&alert.key);
                self.unattended.remove(&alert.key);
                continue;
            }
            let nobody = alert.finding.rule == "daruma/NobodyReached";
            let mut routes = self.policy.notify.routes.iter();
            let route = routes.find(|r| r.matchers.matches(labels)).filter(|_| !nobody);
            let missing = self.policy.notify.receivers.iter().find(|receiver| {
                route.is_none_or(|route| route.receivers.contains(&receiver.name))
                    && self.policy.notify.level(labels) >= receiver.min_level
                    && !receiver.channels.iter().any(|(c, _)| c == labels.get("channel"))
                    && receiver.name != labels.get("receiver")
                    && !self.cause_is_told(state, alert, receiver)
                    && receiver.channels.iter().any(|(channel, _)| {
                        !self.made.contains(&(channel.clone(), labels.clone(), id, true))
                    })
            });
            match missing {
                Some(receiver) => {
                    let since = self.untold.entry(alert.key.clone()).or_insert(now);
                    let since = (*since).max(alert.fired_at.unwrap_or(now));
                    must!(
                        "what fires is told",
                        now.since(since) <= told_within,
                        "{} fires unmuted since {since:?} and {} was not told",
                        labels,
                        receiver.name
                    );
                }
                None => {
                    self.untold.remove(&alert.key);
                }
            }
            self.repaired_or_escalated(now, &alert.key, alert, state)?;
        }
        self.untold.retain(|key, _| seen.contains(key));
        self.unattended.retain(|key, _| seen.contains(key));
        Ok(())
    }

    fn repaired_or_escalated(
        &mut self,
        now: Time,
        key: &str,
        alert: &daruma_alert::Alert,
        state: &State,
    ) -> Held {
        let incident = alert.incident.and_then(|id| state.incidents.get(&id));
        let auto = self.policy.recover.runbooks.iter().any(|runbook| {
            runbook.mode.min(self.policy.recover.mode) == Mode::Auto
                && runbook.only_if.is_empty()
                && runbook.unless.is_empty()
                && runbook.matchers.matches(&alert.finding.labels)
        });
        let shadow = state.recoveries.values().any(|r| matches!(r.phase, Phase::Shadow { .. }));
        let idle = auto
            && !shadow
            && alert.finding.verdict == Verdict::Holds
            && !self.stopped
            && incident.is_some_and(|i| i.escalated.is_none() && !i.aborted);
        let acted = |since: Time| {
            self.acts
                .iter()
                .any(|act| act.at >= since && act.service == alert.finding.labels.get("service"))
        };
        let doubtful = |r: &daruma_alert::Recovery| {
            matches!(r.phase, Phase::Confirming { .. } | Phase::Unconfirmed { .. })
        };
        // Witnesses that do not agree keep a recovery off for good reason: then nobody is blamed.
        // One recovery speaks for all alerts about its target.
        let about = |r: &daruma_alert::Recovery| {
            r.alert == key || r.target == self.place(&alert.finding.labels)
        };
        let disputed = state.recoveries.values().any(|r| about(r) && doubtful(r));
        if !idle || disputed {
            self.unattended.remove(key);
            return Ok(());
        }
        let since = *self.unattended.entry(key.to_owned()).or_insert(now);
        let since = since.max(alert.fired_at.unwrap_or(now));
        must!(
            "repaired or escalated",
            now.since(since) <= Span::minutes(30) || acted(since),
            "{} fires and holds since {since:?}; nothing was done and nobody was called: {:?}",
            alert.finding.labels,
            state
                .recoveries
                .values()
                .filter(|r| r.incident == alert.incident.unwrap_or(0))
                .map(|r| (r.target.as_str(), &r.phase))
                .collect::<Vec<_>>()
        );
        Ok(())
    }

    /// When the sky has been clear for long enough: every story has its end.
    pub(crate) fn at_the_end(&self, state: &State) -> Held {
        if let Some(incident) = state.incidents.values().find(|i| i.resolved.is_none()) {
            let lines: Vec<&str> =
                incident.timeline.iter().rev().take(5).map(|e| e.text.as_str()).collect();
            return broken(
                "every incident ends",
                format!("incident {} ({}) is still open: {lines:?}", incident.id, incident.title),
            );
        }
        must!(
            "every incident ends",
            state.recoveries.is_empty(),
            "recoveries are left over: {:?}",
            state.recoveries.keys()
        );
        for out in state.outbox.values() {
            must!(
                "retries go on",
                !matches!(out.delivery, Delivery::Queued | Delivery::Sending),
                "message #{} to {} is {:?} at the end",
                out.message.id,
                out.message.channel,
                out.delivery
            );
        }
        let ends: HashMap<&str, bool> = self
            .policy
            .notify
            .receivers
            .iter()
            .flat_map(|r| &r.channels)
            .map(|(name, end)| (name.as_str(), *end))
            .collect();
        for (channel, received) in &self.received {
            if !ends.get(channel.as_str()).copied().unwrap_or(false) {
                continue;
            }
            for (labels, (status, id)) in &received.last {
                let excused = self.excused.contains(&(channel.clone(), labels.clone()));
                must!(
                    "told the end",
                    *status == MessageStatus::Resolved || excused,
                    "{channel} was told in #{id} that {labels} fires and never heard its end"
                );
            }
        }
        Ok(())
    }
}
