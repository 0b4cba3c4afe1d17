//! A tick of a group: what is over, what is muted, and what each channel must be told.

use std::collections::BTreeMap;

use daruma_model::{Labels, Level, MessageAlert, MessageStatus, Span, Time};

use super::group::set_next;
use super::{Dispatch, DispatchIndex, Posted, Told};
use crate::ReceiverPolicy;
use crate::routing::Routing;

/// Alerts one message names at most; the rest is counted in it.
const ALERTS_PER_MESSAGE: usize = 1_000;

/// Why an alert is not told of just now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Muted {
    /// When that may be over, if it is known; it is looked at with the first tick from then on.
    pub(crate) until: Option<Time>,
    /// It is looked at exactly then, tick or not.
    pub(crate) exactly: bool,
}

impl Muted {
    /// For as long as something else lasts: looked at with each tick.
    pub(crate) fn open() -> Muted {
        Muted { until: None, exactly: false }
    }

    pub(crate) fn until(until: Time) -> Muted {
        Muted { until: Some(until), exactly: false }
    }
}

/// What one channel must be told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Telling {
    pub(crate) group: u64,
    pub(crate) key: String,
    pub(crate) labels: Labels,
    pub(crate) route_labels: Labels,
    pub(crate) receiver: String,
    pub(crate) channel: String,
    pub(crate) status: MessageStatus,
    pub(crate) level: Level,
    /// Firing ones first.
    pub(crate) alerts: Vec<MessageAlert>,
    pub(crate) left_out: u64,
    /// Fingerprints of what it says to fire.
    pub(crate) incident: Option<u64>,
}

/// What follows from the groups whose tick has come.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    pub(crate) tellings: Vec<Telling>,
    /// Receivers, and what is gathered for them.
    pub(crate) gathered: Vec<(String, MessageAlert)>,
    /// The incidents of groups that are over.
    pub(crate) over: Vec<u64>,
}

/// What a flush looks at besides the alerts.
pub(crate) struct Flush<'a> {
    pub(crate) routing: &'a Routing,
    pub(crate) receivers: &'a [ReceiverPolicy],
    pub(crate) now: Time,
    /// Silences, holds, dependencies.
    pub(crate) mute: &'a dyn Fn(&Posted) -> Option<Muted>,
    /// What holds one receiver back from an alert: its level, or that it is being repaired.
    pub(crate) spare: &'a dyn Fn(&Posted, &ReceiverPolicy) -> Option<Muted>,
    /// Whether one receiver wants an alert gathered rather than told at once.
    pub(crate) gathers: &'a dyn Fn(&Posted, &ReceiverPolicy) -> bool,
    /// Whether a message of this group still waits to be taken by this channel: what is not heard yet
    /// is not repeated.
    pub(crate) waits: &'a dyn Fn(&str, &str) -> bool,
    /// The level of an alert.
    pub(crate) level: &'a dyn Fn(&Labels) -> Level,
}

/// One alert at a flush.
struct Member<'a> {
    fingerprint: u64,
    labels: &'a Labels,
    alert: Option<&'a Posted>,
    over: bool,
}

impl Member<'_> {
    fn told(&self, now: Time, labels: &Labels) -> MessageAlert {
        match self.alert {
            Some(alert) => MessageAlert {
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                status: status(!self.over),
                starts_at: alert.starts_at,
                ends_at: self.over.then_some(alert.ends_at),
                generator_url: alert.generator_url.to_string(),
            },
            None => MessageAlert {
                labels: labels.clone(),
                annotations: Labels::default(),
                status: MessageStatus::Resolved,
                starts_at: now,
                ends_at: Some(now),
                generator_url: String::new(),
            },
        }
    }
}

fn status(firing: bool) -> MessageStatus {
    if firing { MessageStatus::Firing } else { MessageStatus::Resolved }
}

impl Dispatch {
    /// Looks at every group whose tick has come.
    pub(crate) fn flush_due(&mut self, index: &mut DispatchIndex, flush: &Flush<'_>) -> Flushed {
        let mut out = Flushed::default();
        while let Some(&(at, id)) = index.due.first() {
            if at > flush.now {
                break;
            }
            self.flush_one(index, flush, id, &mut out);
            if self.groups.get(&id).is_some_and(|group| group.members.is_empty()) {
                out.over.extend(self.end_group(index, id).and_then(|group| group.incident));
            }
        }
        out
    }

    fn flush_one(
        &mut self,
        index: &mut DispatchIndex,
        flush: &Flush<'_>,
        id: u64,
        out: &mut Flushed,
    ) {
        let now = flush.now;
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.anchor = if group.flushed { group.anchor.max(group.next) } else { now };
        group.flushed = true;
        set_next(index, id, group, Time::MAX);
        let group = group.clone();
        let node = flush.routing.nodes.get(group.node);
        let closed = flush.routing.closed(group.node, now).is_some() && !group.orphan;
        let mut told = self.told.remove(&group.key).unwrap_or_default();
        let none = Labels::default();
        let mut members: Vec<Member<'_>> = group
            .members
            .iter()
            .map(|fingerprint| {
                let alert = self.alerts.get(fingerprint).map(|alert| &**alert);
                Member {
                    fingerprint: *fingerprint,
                    labels: alert.map_or(&none, |alert| &alert.labels),
                    alert,
                    over: alert.is_none_or(|alert| alert.is_over(now)),
                }
            })
            .collect();
        members.sort_by(|a, b| a.over.cmp(&b.over).then_with(|| a.labels.cmp(b.labels)));
        // What is held back, and when to look again.
        let mut again: Option<Time> = None;
        let mut exactly: Option<Time> = None;
        let mut hold = |muted: &Muted| {
            let at = muted.until.unwrap_or(now);
            let place = if muted.exactly { &mut exactly } else { &mut again };
            *place = Some(place.map_or(at, |known| known.min(at)));
        };
        let inhibited = |alert: &Posted| {
            let by = self.inhibitor(&index.sources, flush.routing, now, &alert.labels);
            by.map(|_| Muted::open())
        };
        let mute = |member: &Member<'_>| -> Option<Muted> {
            let alert = member.alert.filter(|_| !member.over)?;
            if group.orphan || closed {
                return Some(Muted::open());
            }
            inhibited(alert).or_else(|| (flush.mute)(alert))
        };
        let mutes: Vec<Option<Muted>> = members.iter().map(mute).collect();
        let known = if group.orphan { None } else { node };
        let concerned = |receiver: &&ReceiverPolicy| match known {
            Some(node) => receiver.name == node.receiver,
            None => receiver.channels.iter().any(|(channel, _)| told.contains_key(channel)),
        };
        let receivers: Vec<&ReceiverPolicy> = flush.receivers.iter().filter(concerned).collect();
        let repeat = node.map_or(Span::hours(4), |node| node.repeat_interval);
        let mut repeats: Option<Time> = None;
        for receiver in receivers {
            let shown: Vec<bool> = members
                .iter()
                .zip(&mutes)
                .map(|(member, muted)| {
                    let muted = muted.clone().or_else(|| {
                        let alert = member.alert.filter(|_| !member.over)?;
                        if known.is_some() && (flush.gathers)(alert, receiver) {
                            let told = member.told(now, member.labels);
                            out.gathered.push((receiver.name.clone(), told));
                        }
                        (flush.spare)(alert, receiver)
                    });
                    // An orphan holds nothing back: it only waits for the end.
                    if let Some(muted) = muted.as_ref().filter(|_| !group.orphan) {
                        hold(muted);
                    }
                    muted.is_none()
                })
                .collect();
            for (channel, send_resolved) in &receiver.channels {
                let before = told.get(channel);
                if known.is_none() && before.is_none() {
                    continue;
                }
                let owed = |fingerprint: &u64| {
                    before.is_some_and(|before| before.owed.contains_key(fingerprint))
                };
                let firing: Vec<&Member<'_>> = members
                    .iter()
                    .zip(&shown)
                    .filter(|(member, shown)| !member.over && **shown)
                    .map(|(member, _)| member)
                    .collect();
                let ended: Vec<&Member<'_>> = members
                    .iter()
                    .filter(|member| member.over && owed(&member.fingerprint))
                    .collect();
                let news = match before {
                    None => !firing.is_empty(),
                    Some(before) => {
                        firing.iter().any(|m| !before.firing.contains(&m.fingerprint))
                            || !ended.is_empty() && (*send_resolved || firing.is_empty())
                            || !firing.is_empty()
                                && before.at + repeat <= now
                                && !(flush.waits)(&group.key, channel)
                    }
                };
                if news {
                    let sent = if *send_resolved { ended.as_slice() } else { &[] };
                    let mut entry = Told {
                        at: now,
                        firing: firing.iter().map(|m| m.fingerprint).collect(),
                        owed: before.map_or_else(BTreeMap::new, |before| before.owed.clone()),
                    };
                    entry.owed.extend(firing.iter().map(|m| (m.fingerprint, m.labels.clone())));
                    let labels_of = |member: &Member<'_>| {
                        entry.owed.get(&member.fingerprint).cloned().unwrap_or_default()
                    };
                    let all: Vec<MessageAlert> = firing
                        .iter()
                        .chain(sent)
                        .take(ALERTS_PER_MESSAGE)
                        .map(|member| member.told(now, &labels_of(member)))
                        .collect();
                    for member in &ended {
                        entry.owed.remove(&member.fingerprint);
                    }
                    let levels = all.iter().map(|alert| (flush.level)(&alert.labels));
                    let total = firing.len() + sent.len();
                    if total > 0 {
                        out.tellings.push(Telling {
                            group: id,
                            key: self.shown_key(&group),
                            labels: group.labels.clone(),
                            route_labels: known.map_or_else(Labels::default, |n| n.labels.clone()),
                            receiver: receiver.name.clone(),
                            channel: channel.clone(),
                            status: status(!firing.is_empty()),
                            level: levels.max().unwrap_or_default(),
                            left_out: (total - all.len()) as u64,
                            alerts: all,
                            incident: group.incident,
                        });
                    }
                    told.insert(channel.clone(), entry);
                }
                if let Some(entry) = told.get(channel).filter(|_| !firing.is_empty()) {
                    let at = entry.at + repeat;
                    repeats = Some(repeats.map_or(at, |known| known.min(at)));
                }
            }
        }
        let over: Vec<u64> = members.iter().filter(|m| m.over).map(|m| m.fingerprint).collect();
        let ends = members.iter().filter_map(|m| m.alert.filter(|_| !m.over)).map(|a| a.ends_at);
        let ends = ends.min();
        // Channels that left the configuration cannot be told anything.
        told.retain(|channel, _| {
            flush.receivers.iter().flat_map(|r| &r.channels).any(|(name, _)| name == channel)
        });
        self.leave(index, flush.routing, id, &over);
        let nothing_owed = group.orphan && told.values().all(|told| told.owed.is_empty());
        if let Some(group) = self.groups.get_mut(&id).filter(|_| nothing_owed) {
            group.members.clear();
        }
        if !told.is_empty() {
            self.told.insert(group.key.clone(), told);
        }
        let (routing, idle) = (flush.routing, |at: Time| at == Time::MAX);
        for at in [again, ends, repeats].into_iter().flatten().filter(|at| !idle(*at)) {
            self.look_at(index, routing, now, id, at);
        }
        if let Some(at) = exactly {
            self.look_exactly(index, id, at.max(now + Span::millis(1)));
        }
    }

    /// A channel took a message of a group: what it says is repeated from then on.
    pub(crate) fn heard(&mut self, key: &str, channel: &str, now: Time) {
        if let Some(told) = self.told.get_mut(key).and_then(|told| told.get_mut(channel)) {
            told.at = told.at.max(now);
        }
    }

    /// Takes what is over out of a group; out of its last one, it is forgotten.
    fn leave(&mut self, index: &mut DispatchIndex, routing: &Routing, id: u64, over: &[u64]) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        for fingerprint in over {
            group.members.remove(fingerprint);
        }
        for fingerprint in over {
            let Some(alert) = self.alerts.get(fingerprint) else { continue };
            let held = alert.groups.iter().any(|id| {
                self.groups.get(id).is_some_and(|group| group.members.contains(fingerprint))
            });
            if !held && let Some(alert) = self.alerts.remove(fingerprint) {
                index.alert_goes(routing, *fingerprint, &alert);
            }
        }
    }
}
