//! One step: an event in, effects out. The order within a step is fixed, so that a replay of the same
//! events decides the same.

use std::collections::{BTreeSet, HashSet};

use daruma_model::{ActionEnd, SourceHealth, SourceState, Span, Time, Verdict};

use crate::index::Index;
use crate::{AlertState, Command, Delivery, Effect, EntryKind, Event, Hold, Phase, Silence, State};

/// How long a holder or silencer may ask for at most: a forgotten one must end by itself.
const LEASE_MAX: Span = Span::hours(24 * 30);
/// How long an ack lasts unless said.
const ACK_TTL: Span = Span::hours(1);

/// The state, and an index of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Core {
    state: State,
    index: Index,
}

/// Which recoveries an event may move.
pub(crate) enum Touched {
    /// Any.
    All,
    /// At first only this one (by key), if any, and those whose deadline has come: answers of
    /// witnesses, verdicts of channels and deadlines are most of what comes in, and say nothing about
    /// the others.
    One(Option<String>),
}

/// One step at work.
pub(crate) struct Cx<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) index: &'a mut Index,
    pub(crate) now: Time,
    pub(crate) out: Vec<Effect>,
}

impl Default for Core {
    fn default() -> Core {
        Core::new()
    }
}

impl Core {
    /// A core that knows nothing yet.
    #[must_use]
    pub fn new() -> Core {
        Core::from_state(State::default())
    }

    /// A core with the state of a snapshot.
    #[must_use]
    pub fn from_state(state: State) -> Core {
        let index = Index::of(&state);
        Core { state, index }
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes in one event and says what is to be done. `now` never goes back: an earlier one counts
    /// as the last one.
    pub fn step(&mut self, now: Time, event: &Event) -> Vec<Effect> {
        let now = now.max(self.state.now);
        self.state.now = now;
        self.index.clock(&self.state);
        let mut cx = Cx { state: &mut self.state, index: &mut self.index, now, out: Vec::new() };
        let mut touched = Touched::All;
        match event {
            Event::Policy(policy) => cx.load((**policy).clone()),
            Event::Started => cx.started(),
            Event::Found(finding) => {
                if !cx.found(finding) {
                    touched = Touched::One(None);
                }
            }
            Event::Observed(observation) => touched = Touched::One(cx.observed(observation)),
            Event::Acted(outcome) => cx.acted(outcome),
            Event::Attempted(attempt) => {
                if !cx.attempted(attempt) {
                    touched = Touched::One(None);
                }
            }
            Event::Source(health) => cx.source(health),
            Event::Posted(alerts) => {
                cx.posted(alerts);
                touched = Touched::One(None);
            }
            Event::Reposted { again, fresh } => {
                cx.posted_again(again);
                cx.posted(fresh);
                touched = Touched::One(None);
            }
            Event::Commanded { by, command } => cx.commanded(by, command),
            Event::Tick => touched = Touched::One(None),
        }
        // What a start puts right comes before `Started`; until then nobody may know what is under
        // way, and what is due could go out twice.
        let correction = |outcome: &daruma_model::ActionOutcome| matches!(&outcome.end, ActionEnd::NotStarted(why) if why == crate::RESTARTED);
        if !matches!(event, Event::Acted(outcome) if correction(outcome)) {
            cx.settle(touched);
        }
        cx.out
    }

    /// The same event with what is known already left out of it, so that the journal need not hold it
    /// again and again. `seen` are the fingerprints of alerts in events that come before it and were not
    /// stepped yet; those of this one are added.
    #[must_use]
    pub fn condensed(&self, now: Time, event: Event, seen: &mut HashSet<u64>) -> Event {
        match event {
            Event::Posted(alerts) => {
                self.state.dispatch.condensed(now.max(self.state.now), alerts, seen)
            }
            other => other,
        }
    }

    /// A picture of everything that is posted, and how it is routed.
    #[must_use]
    pub fn listing(&self) -> crate::Listing {
        crate::Listing::of(&self.state, &self.index)
    }

    /// The silence that Alertmanager's API knows by this name, if it can still be changed.
    #[must_use]
    pub fn silence_named(&self, uuid: &str) -> Option<&Silence> {
        self.state.silences.values().find(|silence| silence.uuid == uuid)
    }

    /// The tests that [`Command::SendTest`] has just made for this receiver or channel, newest first.
    #[must_use]
    pub fn tests_of(&self, to: &str) -> Vec<&crate::Outgoing> {
        let count = crate::person::test_channels(&self.state, to).len();
        let all = self.state.outbox.values().rev().filter(|out| out.message.is_test());
        let fits = |out: &&crate::Outgoing| out.message.receiver == to || out.message.channel == to;
        all.filter(fits).take(count).collect()
    }

    /// When a deadline comes at which the core wants an [`Event::Tick`].
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let state = &self.state;
        let alerts = self.index.timers.first().map(|(at, _)| *at);
        let leases = state.holds.values().map(|hold| hold.until).chain(
            state.silences.values().map(|silence| match silence.from > state.now {
                true => silence.from,
                false => silence.until,
            }),
        );
        let recoveries = state.recoveries.values().filter_map(|r| crate::recovery::wake(state, r));
        let open = self.index.open.iter().filter_map(|id| state.incidents.get(id));
        let incidents = open.filter_map(|incident| crate::notices::wake(state, incident));
        let outbox = self.index.waiting.wake();
        let groups = crate::Dispatch::wake(&self.index.dispatch);
        let digests = state.digests.values().map(|gathered| gathered.due);
        let unreached = self.index.unreached.first().map(|(at, _)| *at);
        // At the opening hour it is looked at what waits for it.
        let busy = !self.index.open.is_empty();
        let closed = self.index.hours.iter().filter(|(open, _)| !open && busy);
        let hours = closed.map(|(_, until)| *until).filter(|until| *until < Time::MAX);
        alerts
            .into_iter()
            .chain(digests)
            .chain(unreached)
            .chain(hours)
            .chain(groups)
            .chain(leases)
            .chain(recoveries)
            .chain(incidents)
            .chain(outbox)
            .min()
    }
}

impl Cx<'_> {
    /// Everything that follows from the state and the time, in a fixed order.
    fn settle(&mut self, mut touched: Touched) {
        let now = self.now;
        let silences = self.silences_turn();
        let ended: Vec<u64> =
            self.state.holds.values().filter(|hold| hold.until <= now).map(|h| h.id).collect();
        for id in &ended {
            self.end_hold(*id, "its time is up");
        }
        let fired = self.alert_deadlines();
        if fired || !ended.is_empty() || silences {
            touched = Touched::All;
        }
        if !ended.is_empty() || silences {
            self.stir_groups();
        }
        self.recoveries(touched);
        self.flush_groups();
        self.close_incidents();
        self.notices();
        self.prune();
    }

    fn load(&mut self, policy: crate::Policy) {
        self.state.policy = policy;
        // Another `for` is another deadline.
        self.index.policy_comes(self.state);
        self.withdraw();
        self.other_routes();
        // Alerts whose rule is gone end with it: nobody would ever say that they are over.
        let gone: Vec<String> = self
            .state
            .alerts
            .values()
            .filter(|alert| alert.state != AlertState::Resolved)
            .filter(|alert| !alert.finding.rule.starts_with("daruma/"))
            .filter(|alert| !self.state.policy.rules.contains_key(&alert.finding.rule))
            .map(|alert| alert.key.clone())
            .collect();
        for key in gone {
            self.end_alert(&key, "its rule was removed from the configuration");
        }
        let channels: BTreeSet<&str> = self
            .state
            .policy
            .notify
            .receivers
            .iter()
            .flat_map(|receiver| &receiver.channels)
            .map(|(channel, _)| channel.as_str())
            .collect();
        let gone: Vec<String> = self
            .state
            .alerts
            .values()
            .filter(|alert| alert.state != AlertState::Resolved)
            .filter(|alert| alert.finding.rule == "daruma/ChannelFailing")
            .filter(|alert| !channels.contains(alert.finding.labels.get("channel")))
            .map(|alert| alert.key.clone())
            .collect();
        for key in gone {
            self.end_alert(&key, "its channel was removed from the configuration");
        }
        let gone: Vec<String> = self
            .state
            .recoveries
            .iter()
            .filter(|(_, r)| self.state.policy.runbook(&r.runbook).is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.drop_recovery(&key, "its runbook was removed from the configuration");
        }
        self.under_another_policy();
    }

    fn started(&mut self) {
        let now = self.now;
        self.tests_are_lost();
        for out in self.state.outbox.values_mut() {
            if out.delivery == Delivery::Sending {
                // The far side may have it: the same key goes out again, at least once.
                out.delivery = Delivery::Queued;
                out.next_at = now;
                self.index.waiting.moves(out);
            }
        }
        self.resume_recoveries();
    }

    fn source(&mut self, health: &SourceHealth) {
        self.state.sources.insert(health.source.clone(), health.clone());
        let verdict = match health.state {
            SourceState::Starting => return,
            SourceState::Ok => Verdict::Clear,
            SourceState::Failing => Verdict::Holds,
        };
        let labels = [
            ("alertname", "SourceFailing"),
            ("severity", "warning"),
            ("source", health.source.as_str()),
        ];
        let said = &health.said;
        self.found_own("SourceFailing", labels.into(), verdict, said.clone());
    }

    fn commanded(&mut self, by: &str, command: &Command) {
        let now = self.now;
        let until = |ttl: Span| now + ttl.clamp(Span::millis(1), LEASE_MAX);
        match command {
            Command::Ack { incident, ttl, comment } => {
                let ttl = ttl.unwrap_or(ACK_TTL);
                self.ack(*incident, by, ttl, until(ttl), comment);
            }
            Command::AckByLink { incident, link, nonce, expires, ttl } => {
                let times = (*ttl, until(*ttl));
                self.ack_by_link(*incident, by, times, (link, nonce, *expires));
            }
            Command::SendTest { to } => self.send_test(to),
            Command::Receipt(receipt) => self.received(receipt),
            Command::Silence { matchers, ttl, comment } if !matchers.0.is_empty() => {
                let (id, until) = (self.state.next_id(), until(*ttl));
                let (matchers, by, comment) = (matchers.clone(), by.to_owned(), comment.clone());
                let (uuid, updated) = (Silence::name(id, now), now);
                self.state.silences.insert(
                    id,
                    Silence { id, matchers, from: now, until, by, comment, uuid, updated },
                );
            }
            Command::PutSilence { uuid, matchers, from, until, by: who, comment } => {
                let who = if who.is_empty() { by } else { who };
                self.put_silence(uuid.as_deref(), matchers, (*from, *until), who, comment);
            }
            Command::EndSilence { uuid } => self.end_silence(uuid),
            Command::Unsilence { id } => {
                if let Some(uuid) = self.state.silences.get(id).map(|s| s.uuid.clone()) {
                    self.end_silence(&uuid);
                }
            }
            Command::Hold { matchers, ttl, comment } if !matchers.0.is_empty() => {
                let (id, until) = (self.state.next_id(), until(*ttl));
                let text = with(
                    &format!("{by} holds {matchers} for {ttl}: no recovery meanwhile"),
                    comment,
                );
                self.say_where(matchers, &text);
                let (matchers, by, comment) = (matchers.clone(), by.to_owned(), comment.clone());
                self.state.holds.insert(id, Hold { id, matchers, from: now, until, by, comment });
            }
            Command::Silence { .. } | Command::Hold { .. } => {}
            Command::Release { id } => self.end_hold(*id, &format!("released by {by}")),
            Command::Abort { incident } => self.abort(*incident, by),
            Command::Stop { on, comment } => {
                let why = with(&format!("{by} stopped all recovery"), comment);
                self.state.stopped = on.then(|| why.clone());
                let text = if *on { why } else { format!("{by} lets recovery go on") };
                for incident in self.state.incidents.values_mut().filter(|i| i.resolved.is_none()) {
                    incident.say(now, EntryKind::Person, text.clone());
                }
            }
            Command::ResetBreaker { runbook } => {
                self.state.breakers.remove(runbook);
                for recovery in self.state.recoveries.values_mut() {
                    if recovery.runbook == *runbook
                        && matches!(recovery.phase, Phase::Exhausted { .. })
                    {
                        recovery.no_help = 0;
                        recovery.phase = Phase::BackingOff { until: now };
                    }
                }
            }
        }
    }

    /// Writes a line into every open incident that has a matching alert.
    fn say_where(&mut self, matchers: &daruma_model::Matchers, text: &str) {
        let now = self.now;
        let ids: BTreeSet<u64> = self
            .state
            .alerts
            .values()
            .filter(|alert| {
                alert.state == AlertState::Firing && matchers.matches(&alert.finding.labels)
            })
            .filter_map(|alert| alert.incident)
            .collect();
        for id in ids {
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.say(now, EntryKind::Person, text);
            }
        }
    }

    fn end_hold(&mut self, id: u64, why: &str) {
        if let Some(hold) = self.state.holds.remove(&id) {
            let text = format!("the hold of {} on {} ended: {why}", hold.by, hold.matchers);
            self.say_where(&hold.matchers, &text);
            self.stir_groups();
        }
    }

    /// Keeps memory bounded: what is forgotten here is in the journal.
    fn prune(&mut self) {
        let state = &mut *self.state;
        let spare = (state.incidents.len() - self.index.open.len())
            .saturating_sub(crate::state::RESOLVED_MAX);
        let resolved = state.incidents.values().filter(|i| i.resolved.is_some()).map(|i| i.id);
        for id in resolved.take(spare).collect::<Vec<u64>>() {
            if let Some(incident) = state.incidents.remove(&id) {
                for key in incident.alerts {
                    if state.alerts.get(&key).is_some_and(|a| a.state == AlertState::Resolved) {
                        state.alerts.remove(&key);
                    }
                }
            }
        }
        let spare =
            (state.outbox.len() - self.index.waiting.len()).saturating_sub(crate::state::SENT_MAX);
        let done = state.outbox.values().filter(|out| out.unreached.is_none());
        let done = done.map(|out| out.message.id).filter(|id| !self.index.waiting.contains(id));
        for id in done.take(spare).collect::<Vec<u64>>() {
            state.outbox.remove(&id);
        }
        state.used_links.retain(|_, used| used.expires > state.now);
        state.cooldowns.retain(|_, until| *until > state.now);
        state.loose.retain(|_, act| act.until > state.now);
    }
}

pub(crate) fn with(text: &str, comment: &str) -> String {
    if comment.is_empty() { text.to_owned() } else { format!("{text}: {comment}") }
}
