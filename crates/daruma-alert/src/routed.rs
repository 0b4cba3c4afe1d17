//! Where the loop meets the dispatcher: its own alerts are posted like anybody's, and what a group must
//! tell becomes messages in the outbox, in an incident that people can handle.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, Level, Message, MessageStatus, Span, Time};

use crate::core::Cx;
use crate::dispatch::Flush;
use crate::dispatch::{AlertIn, Dispatch, DispatchIndex, Muted, Posted, Telling};
use crate::routing::{GroupBy, Node, Routing};
use crate::{Alert, AlertState, EntryKind, Incident, NotifyPolicy, Phase, ReceiverPolicy};

/// How often what was posted is told again unless a configuration says otherwise.
const REPEAT: Span = Span::hours(4);
/// The pace of groups unless a configuration says otherwise.
const INTERVAL: Span = Span::secs(10);
/// What has no end known waits for this long for a word, unless a configuration says otherwise.
const RESOLVE_TIMEOUT: Span = Span::minutes(5);

/// The routes in force: those that are written, or those that the simple form stands for.
pub(crate) fn routing(notify: &NotifyPolicy) -> Routing {
    if let Some(routing) = &notify.routing {
        return routing.clone();
    }
    let node = |receiver: &str, key: String, continues: bool| Node {
        receiver: receiver.to_owned(),
        matchers: daruma_model::Matchers::default(),
        group_by: GroupBy::Labels(vec!["alertname".to_owned(), "service".to_owned()]),
        group_wait: notify.group_wait,
        group_interval: INTERVAL,
        repeat_interval: REPEAT,
        mute: Vec::new(),
        active: Vec::new(),
        continues,
        labels: Labels::default(),
        children: Vec::new(),
        key,
    };
    let mut nodes = vec![node("", "{}".to_owned(), false)];
    let everybody = crate::Route {
        matchers: daruma_model::Matchers::default(),
        receivers: notify.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
    };
    for route in notify.routes.iter().chain([&everybody]) {
        let at = nodes.len();
        let key = format!("{{}}/{}", route.matchers);
        nodes.push(Node { matchers: route.matchers.clone(), ..node("", key.clone(), false) });
        nodes[0].children.push(at);
        for receiver in &route.receivers {
            let child = nodes.len();
            nodes.push(node(receiver, format!("{key}/{receiver}"), true));
            nodes[at].children.push(child);
        }
    }
    Routing { nodes, resolve_timeout: RESOLVE_TIMEOUT, ..Routing::default() }
}

impl Cx<'_> {
    /// Whether routes tell of the loop's own alerts, rather than its incidents do.
    pub(crate) fn is_routed(&self) -> bool {
        self.state.policy.notify.routing.is_some()
    }

    pub(crate) fn posted(&mut self, alerts: &[AlertIn]) {
        let routing = self.index.routing.clone();
        let now = self.now;
        self.state.dispatch.post(&mut self.index.dispatch, &routing, now, alerts);
    }

    pub(crate) fn posted_again(&mut self, again: &[crate::Again]) {
        let (routing, now) = (self.index.routing.clone(), self.now);
        self.state.dispatch.post_again(&mut self.index.dispatch, &routing, now, again);
    }

    /// The loop's own alert began or ended.
    pub(crate) fn post_own(&mut self, alert: &Alert) {
        if !self.is_routed() || crate::notices::is_of_channels(alert) {
            return;
        }
        self.posted(&[own(alert)]);
    }

    /// Other routes may hold from here on.
    pub(crate) fn other_routes(&mut self) {
        let (routing, now) = (self.index.routing.clone(), self.now);
        let receivers = &self.state.policy.notify.receivers;
        let index = &mut self.index.dispatch;
        let over = self.state.dispatch.regroup(index, &routing, receivers, now);
        over.into_iter().for_each(|id| self.group_is_over(id));
        let firing = |alert: &&Alert| alert.state == AlertState::Firing;
        let own: Vec<Alert> = self.state.alerts.values().filter(firing).cloned().collect();
        own.iter().for_each(|alert| self.post_own(alert));
    }

    pub(crate) fn stir_groups(&mut self) {
        let (routing, now) = (self.index.routing.clone(), self.now);
        self.state.dispatch.stir_all(&mut self.index.dispatch, &routing, now);
    }

    /// Tells what the groups whose tick has come must tell.
    pub(crate) fn flush_groups(&mut self) {
        let now = self.now;
        if Dispatch::wake(&self.index.dispatch).is_none_or(|at| at > now) {
            return;
        }
        let routing = self.index.routing.clone();
        let mut dispatch = std::mem::take(&mut self.state.dispatch);
        let mut index = std::mem::take(&mut self.index.dispatch);
        let ill = self.ill_services(&dispatch, &index);
        let state = &*self.state;
        let mute = |alert: &Posted| {
            let silence = state
                .silences
                .values()
                .filter(|silence| silence.is_active(now) && silence.matchers.matches(&alert.labels))
                .map(|silence| silence.until)
                .max();
            let hold = state.holds.values().filter(|hold| hold.matchers.matches(&alert.labels));
            let until = silence.into_iter().chain(hold.map(|hold| hold.until)).max();
            let service = alert.labels.get("service");
            until.map(Muted::until).or_else(|| {
                let on = crate::incidents::dependencies(state, service);
                let level = state.policy.notify.level(&alert.labels);
                let cause = on.into_iter().any(|on| ill.get(on).is_some_and(|ill| *ill >= level));
                cause.then(Muted::open)
            })
        };
        let notify = &state.policy.notify;
        let closed: BTreeMap<&str, Time> = notify
            .receivers
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.index.is_open(*at))
            .map(|(at, receiver)| (receiver.name.as_str(), self.index.hours[at].1))
            .collect();
        let spare = |alert: &Posted, receiver: &ReceiverPolicy| {
            let level = notify.level(&alert.labels);
            if level < receiver.min_level || receiver.gathers(level) {
                return Some(Muted::until(Time::MAX));
            }
            let opens = closed.get(receiver.name.as_str()).filter(|_| level < receiver.always_from);
            if let Some(opens) = opens {
                return Some(Muted::until(*opens));
            }
            let until = alert.starts_at + receiver.heal_first;
            let patient = receiver.heal_first > Span::ZERO && now < until;
            (patient && is_healing(state, &alert.labels))
                .then_some(Muted { until: Some(until), exactly: true })
        };
        let gathers = |alert: &Posted, receiver: &ReceiverPolicy| {
            receiver.gathers(notify.level(&alert.labels))
        };
        let level = |labels: &Labels| notify.level(labels);
        // Nobody is reminded of what somebody looks after.
        let is_acked =
            |id: &&u64| state.incidents.get(id).is_some_and(|incident| incident.acked.is_some());
        let acked: BTreeSet<u64> = self.index.open.iter().filter(is_acked).copied().collect();
        let due = index.due.range(..=(now, u64::MAX)).filter(|_| !acked.is_empty());
        let acked: BTreeSet<String> = due
            .filter_map(|(_, id)| dispatch.groups.get(id))
            .filter(|group| {
                let firing = group.members.iter().filter_map(|id| dispatch.alerts.get(id));
                let firing = firing.filter(|alert| !alert.is_over(now));
                let own = group.incident.filter(|id| self.index.open.contains(id));
                let incident = own.or_else(|| self.shared(&dispatch, firing.map(|it| &**it)));
                incident.is_some_and(|id| acked.contains(&id))
            })
            .map(|group| group.key.clone())
            .collect();
        let waiting = &self.index.waiting;
        let waits = |key: &str, channel: &str| acked.contains(key) || waiting.waits(key, channel);
        let flush = Flush {
            waits: &waits,
            routing: &routing,
            receivers: &state.policy.notify.receivers,
            now,
            mute: &mute,
            spare: &spare,
            gathers: &gathers,
            level: &level,
        };
        let flushed = dispatch.flush_due(&mut index, &flush);
        self.state.dispatch = dispatch;
        self.index.dispatch = index;
        let mut first = BTreeMap::new();
        for telling in flushed.tellings {
            self.enqueue_told(telling, &mut first);
        }
        for (receiver, alert) in flushed.gathered {
            self.gather(&receiver, &alert);
        }
        for id in flushed.over {
            self.group_is_over(id);
        }
    }

    /// Services on which something depends, with the gravest level of what fires about them, posted or
    /// our own, from `error` on.
    fn ill_services(&self, dispatch: &Dispatch, index: &DispatchIndex) -> BTreeMap<String, Level> {
        let now = self.now;
        let notify = &self.state.policy.notify;
        let firing = self.index.firing.iter().filter_map(|key| self.state.alerts.get(key));
        let own: Vec<(&str, Level)> = firing
            .filter(|alert| alert.holds())
            .map(|alert| (alert.service(), notify.level(&alert.finding.labels)))
            .collect();
        let on = self.state.policy.recover.services.iter().flat_map(|s| &s.depends_on);
        on.filter_map(|on| {
            let posted = index.services.get(on).into_iter().flatten();
            let posted = posted.filter_map(|fingerprint| dispatch.alerts.get(fingerprint));
            let posted = posted.filter(|alert| !alert.is_over(now));
            let posted = posted.map(|alert| notify.level(&alert.labels));
            let own = own.iter().filter(|(service, _)| service == on).map(|(_, level)| *level);
            let gravest = posted.chain(own).max().filter(|level| *level >= Level::Error)?;
            Some((on.clone(), gravest))
        })
        .collect()
    }

    /// Puts a message of a group into the outbox; `firsts` are the first messages by group and receiver.
    fn enqueue_told(&mut self, telling: Telling, firsts: &mut BTreeMap<(u64, String), u64>) {
        let incident = self.incident_of(&telling);
        let set = (telling.group, telling.receiver.clone());
        let firing = telling.alerts.iter().filter(|a| a.status == MessageStatus::Firing).count();
        let summary = match telling.alerts.as_slice() {
            [one] => one.annotations.get("summary"),
            _ => "",
        };
        let what = if summary.is_empty() { named(&telling) } else { summary.to_owned() };
        let title = match (telling.status, telling.alerts.len()) {
            (MessageStatus::Firing, 1) => what,
            (MessageStatus::Firing, _) => format!("{what}: {firing} firing"),
            (MessageStatus::Resolved, 1) => format!("over: {what}"),
            (MessageStatus::Resolved, n) => format!("over: {what}: {n} alerts"),
        };
        let timeline = self.state.incidents.get(&incident).map(|incident| &incident.timeline);
        let text = timeline.map_or_else(Vec::new, |timeline| crate::view::lines(timeline, 30));
        let message = Message {
            id: self.state.next_id(),
            incident,
            receiver: telling.receiver,
            channel: telling.channel,
            status: telling.status,
            level: telling.level,
            title: title.chars().take(200).collect(),
            text: text.join("\n"),
            group_key: telling.key,
            group_labels: telling.labels,
            route_labels: telling.route_labels,
            alerts: telling.alerts,
            left_out: telling.left_out,
            created: self.now,
        };
        if message.status == MessageStatus::Resolved {
            return self.put_out(message, 0);
        }
        match firsts.get(&set) {
            Some(first) => self.put_out(message, *first),
            None => {
                let first = message.id;
                self.put_out(message, first);
                self.watch_over(first);
                firsts.insert(set, first);
            }
        }
    }

    /// The open incident of another group that tells of one of these alerts: several routes may want
    /// to hear of it (`continue`), and still one person handles it once.
    fn shared<'a>(
        &self,
        dispatch: &Dispatch,
        firing: impl Iterator<Item = &'a Posted>,
    ) -> Option<u64> {
        let groups = firing.flat_map(|alert| alert.groups.iter());
        let incidents = groups.filter_map(|group| dispatch.groups.get(group)?.incident);
        incidents
            .filter(|id| self.index.open.contains(id))
            .filter(|id| self.state.incidents.get(id).is_some_and(|it| it.posted.is_some()))
            .min()
    }

    /// The incident by which people handle what a group tells: that of our own alert, if one is told of;
    /// else the group's own, which is made with its first message, unless another group's has the alert.
    fn incident_of(&mut self, telling: &Telling) -> u64 {
        let now = self.now;
        let own = telling.alerts.iter().find_map(|told| {
            let keys = self.index.own.get(&told.labels)?;
            keys.iter().find_map(|key| self.state.alerts.get(key)?.incident)
        });
        if let Some(own) = own {
            return own;
        }
        let open = |id: &u64| self.state.incidents.get(id).is_some_and(|i| i.resolved.is_none());
        let known = self.state.dispatch.groups.get(&telling.group).and_then(|g| g.incident);
        let known = known.or(telling.incident).filter(|id| open(id));
        let shared = || {
            let dispatch = &self.state.dispatch;
            let told = telling.alerts.iter().filter(|it| it.status == MessageStatus::Firing);
            let told = told.filter_map(|it| dispatch.alerts.get(&it.labels.fingerprint()));
            self.shared(dispatch, told.map(|alert| &**alert))
        };
        if let Some(id) = known.or_else(shared) {
            if let Some(group) = self.state.dispatch.groups.get_mut(&telling.group) {
                group.incident = Some(id);
            }
            let mut level = telling.level;
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.level = incident.level.max(telling.level);
                level = incident.level;
            }
            self.start_climb(id, level, telling.alerts.iter().map(|alert| &alert.labels));
            return id;
        }
        let ends = telling.status == MessageStatus::Resolved;
        let again = |incident: &Incident| incident.group == telling.key && !ends;
        if let Some(id) = self.reopened(again) {
            if let Some(incident) = self.state.incidents.get_mut(&id) {
                incident.posted = Some(telling.key.clone());
            }
            if let Some(group) = self.state.dispatch.groups.get_mut(&telling.group) {
                group.incident = Some(id);
            }
            self.start_climb(id, telling.level, telling.alerts.iter().map(|alert| &alert.labels));
            return id;
        }
        let first = telling.alerts.first();
        let title = match first.map_or("", |alert| alert.annotations.get("summary")) {
            "" => named(telling),
            summary => summary.to_owned(),
        };
        let id = self.state.next_id();
        let mut incident = Incident {
            id,
            title: title.chars().take(200).collect(),
            group: telling.key.clone(),
            level: telling.level,
            opened: first.map_or(now, |alert| alert.starts_at.min(now)),
            resolved: None,
            healed: false,
            alerts: BTreeSet::new(),
            timeline: Vec::new(),
            timeline_dropped: 0,
            acked: None,
            escalated: None,
            aborted: false,
            notify_at: None,
            told: std::collections::BTreeMap::new(),
            posted: Some(telling.key.clone()),
            times: 1,
            climb: None,
        };
        let n = telling.alerts.len() as u64 + telling.left_out;
        let labels = first.map_or_else(String::new, |alert| alert.labels.to_string());
        let more = if n > 1 { format!(" and {} more", n - 1) } else { String::new() };
        incident.say(now, EntryKind::Detected, format!("posted: {labels}{more}"));
        if ends {
            incident.resolved = Some(now); // Its beginning was another's story.
            incident.posted = None;
            self.state.incidents.insert(id, incident);
            return id;
        }
        self.state.incidents.insert(id, incident);
        self.index.open.insert(id);
        if let Some(group) = self.state.dispatch.groups.get_mut(&telling.group) {
            group.incident = Some(id);
        }
        self.start_climb(id, telling.level, telling.alerts.iter().map(|alert| &alert.labels));
        id
    }

    fn group_is_over(&mut self, id: u64) {
        let now = self.now;
        if self.state.dispatch.groups.values().any(|group| group.incident == Some(id)) {
            return; // Another group tells of it still.
        }
        let Some(incident) = self.state.incidents.get_mut(&id) else { return };
        if incident.posted.take().is_none() || incident.resolved.is_some() {
            return;
        }
        let lasted = now.since(incident.opened);
        incident.say(now, EntryKind::Resolved, format!("over after {lasted}"));
        incident.resolved = Some(now);
        self.state.resolved_total += 1;
    }
}

/// What a group is about where nobody has put it into words: the alert's name, and by what the group,
/// or its one alert, differs from others.
fn named(telling: &Telling) -> String {
    let first = telling.alerts.first();
    let name = match telling.labels.get("alertname") {
        "" => first.map_or("", |alert| alert.labels.get("alertname")),
        name => name,
    };
    let by_group = telling
        .labels
        .iter()
        .filter(|(name, value)| !matches!(*name, "alertname" | "severity") && !value.is_empty());
    let mut values: Vec<&str> = by_group.map(|(_, value)| value).collect();
    if let [one] = telling.alerts.as_slice() {
        let instance = one.labels.get("instance");
        if !instance.is_empty() && !values.contains(&instance) {
            values.push(instance);
        }
    }
    match values.is_empty() {
        true => name.to_owned(),
        false => format!("{name} ({})", values.join(", ")),
    }
}

fn own(alert: &Alert) -> AlertIn {
    AlertIn {
        labels: alert.finding.labels.clone(),
        annotations: alert.finding.annotations.clone(),
        starts_at: Some(alert.fired_at.unwrap_or(alert.active_at)),
        ends_at: Some(alert.resolved_at.unwrap_or(Time::MAX)),
        generator_url: String::new(),
    }
}

/// Whether a recovery is at work on an alert with these labels and may still help.
fn is_healing(state: &crate::State, labels: &Labels) -> bool {
    state.recoveries.values().any(|recovery| {
        !matches!(recovery.phase, Phase::Shadow { .. } | Phase::Exhausted { .. })
            && state.incidents.get(&recovery.incident).is_some_and(|i| i.escalated.is_none())
            && state
                .alerts
                .get(&recovery.alert)
                .is_some_and(|alert| alert.finding.labels == *labels)
    })
}
