//! Alertmanager's timelines, lived by the core: what is posted when, and exactly what must be told when.
#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use daruma_alert::routing::{GroupBy, InhibitRule, Node, Routing};
use daruma_alert::{AlertIn, Command, Core, Effect, Event, Policy, ReceiverPolicy};
use daruma_model::{Attempt, AttemptOutcome, Labels, Matchers, Message, MessageStatus, Span, Time};
use proptest::prelude::*;

fn at(seconds: f64) -> Time {
    Time(1_000_000_000 + (seconds * 1000.0).round() as i64)
}

fn matchers(all: &[&str]) -> Matchers {
    Matchers(all.iter().map(|text| text.parse().unwrap()).collect())
}

fn root(group_by: &[&str], wait: f64, interval: f64, repeat: f64) -> Node {
    let span = |seconds: f64| Span::millis((seconds * 1000.0) as i64);
    Node {
        receiver: "ops".into(),
        matchers: Matchers::default(),
        group_by: GroupBy::Labels(group_by.iter().map(|name| (*name).to_owned()).collect()),
        group_wait: span(wait),
        group_interval: span(interval),
        repeat_interval: span(repeat),
        mute: Vec::new(),
        active: Vec::new(),
        continues: false,
        labels: Labels::default(),
        children: Vec::new(),
        key: "{}".into(),
    }
}

/// One alert as posted: name, start, end, annotation.
#[derive(Clone, Copy)]
struct A(&'static str, Option<f64>, Option<f64>, &'static str);

struct Life {
    core: Core,
    policy: Policy,
    now: Time,
    /// When, to which channel, and what.
    told: Vec<(Time, Message)>,
    waiting: Vec<(Time, Attempt)>,
    /// Channels that fail until then.
    deaf: BTreeMap<&'static str, Time>,
}

impl Life {
    fn new(nodes: Vec<Node>) -> Life {
        let mut policy = Policy::default();
        policy.notify.routing =
            Some(Routing { nodes, resolve_timeout: Span::minutes(5), ..Routing::default() });
        policy.notify.receivers = vec![ReceiverPolicy {
            name: "ops".into(),
            channels: vec![("ops/webhook[0]".into(), true)],
            ..ReceiverPolicy::default()
        }];
        let mut life = Life {
            core: Core::new(),
            policy: policy.clone(),
            now: at(0.0),
            told: Vec::new(),
            waiting: Vec::new(),
            deaf: BTreeMap::new(),
        };
        life.event(&Event::Policy(Box::new(policy)));
        life
    }

    fn second_channel(mut self, name: &str, send_resolved: bool) -> Life {
        self.policy.notify.receivers[0].channels.push((name.into(), send_resolved));
        self.reload();
        self
    }

    fn reload(&mut self) {
        self.event(&Event::Policy(Box::new(self.policy.clone())));
    }

    fn event(&mut self, event: &Event) {
        for effect in self.core.step(self.now, event) {
            let Effect::Send { message, number } = effect else { panic!("{effect:?}") };
            let fails = self.deaf.get(message.channel.as_str()).is_some_and(|at| *at > self.now);
            let outcome = if fails { AttemptOutcome::Retry } else { AttemptOutcome::Accepted };
            self.waiting.push((
                self.now,
                Attempt {
                    message: message.id,
                    number,
                    at: self.now,
                    took: Span::ZERO,
                    outcome,
                    said: "200 OK".into(),
                    retry_after: None,
                },
            ));
            if !fails {
                self.told.push((self.now, message));
            }
        }
        // What follows from the state alone must follow from it after a restart, too.
        let again = Core::from_state(self.core.state().clone());
        assert_eq!(again, self.core);
    }

    fn go(&mut self, until: Time) {
        loop {
            let wake = self.core.wake_at().filter(|wake| *wake <= until);
            let answer = self.waiting.first().map(|(at, _)| *at).filter(|at| *at <= until);
            match (wake, answer) {
                (_, Some(when)) => {
                    let (_, attempt) = self.waiting.remove(0);
                    self.now = self.now.max(when);
                    self.event(&Event::Attempted(attempt));
                }
                (Some(wake), None) => {
                    self.now = self.now.max(wake);
                    self.event(&Event::Tick);
                }
                (None, None) => break,
            }
        }
        self.now = self.now.max(until);
    }

    fn post(&mut self, seconds: f64, alerts: &[A]) {
        self.go(at(seconds));
        let alerts = alerts
            .iter()
            .map(|A(labels, starts, ends, note)| AlertIn {
                labels: labels
                    .split(',')
                    .map(|pair| pair.split_once('=').unwrap_or(("alertname", pair)))
                    .collect(),
                annotations: [("note", *note)].into(),
                starts_at: starts.map(at),
                ends_at: ends.map(at),
                generator_url: String::new(),
            })
            .collect();
        // What the journal keeps of it is less, and means the same.
        let whole = Event::Posted(alerts);
        let kept = self.core.condensed(self.now, whole.clone(), &mut HashSet::new());
        let mut by_whole = self.core.clone();
        let effects = by_whole.step(self.now, &whole);
        assert_eq!(self.core.clone().step(self.now, &kept), effects, "{kept:?}");
        let read: Event = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        assert_eq!(read, kept);
        self.event(&read);
        assert_eq!(self.core, by_whole, "{kept:?}");
    }

    fn command(&mut self, seconds: f64, command: Command) {
        self.go(at(seconds));
        self.event(&Event::Commanded { by: "ann".into(), command });
    }

    /// Exactly these messages, each `(channel, from, to, alerts)`; an alert is `name`, or `name!` if over.
    fn expect(mut self, end: f64, want: &[(&str, f64, f64, &str)]) {
        self.go(at(end));
        let mut rest = self.told.clone();
        for (channel, from, to, alerts) in want {
            let alerts: BTreeSet<String> = alerts.split(' ').map(str::to_owned).collect();
            let found = rest.iter().position(|(when, message)| {
                message.channel.ends_with(channel)
                    && (at(*from)..=at(*to)).contains(when)
                    && names(message) == alerts
            });
            let Some(found) = found else {
                panic!("no {alerts:?} to {channel} in [{from},{to}]: {}", self.story());
            };
            rest.remove(found);
        }
        assert!(rest.is_empty(), "{} more than expected: {}", rest.len(), self.story());
    }

    fn story(&self) -> String {
        let line = |(when, m): &(Time, Message)| {
            let seconds = when.since(at(0.0)).0 as f64 / 1000.0;
            format!("\n  {seconds} {} {:?} {:?}", m.channel, m.status, names(m))
        };
        self.told.iter().map(line).collect()
    }
}

fn names(message: &Message) -> BTreeSet<String> {
    let name = |labels: &Labels| {
        let text: Vec<&str> = ["alertname", "job", "zone"]
            .into_iter()
            .map(|name| labels.get(name))
            .filter(|value| !value.is_empty())
            .collect();
        text.join("/")
    };
    let one = |alert: &daruma_model::MessageAlert| {
        let over = if alert.status == MessageStatus::Resolved { "!" } else { "" };
        format!("{}{over}", name(&alert.labels))
    };
    message.alerts.iter().map(one).collect()
}

fn open(name: &'static str, start: f64) -> A {
    A(name, Some(start), None, "")
}

#[test]
fn two_words_on_one_alert_are_one_life_until_it_has_ended() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 1.0, 0.001)]);
    life.post(1.0, &[open("A", 1.1)]);
    life.post(1.2, &[open("A", 1.0)]);
    life.post(2.1, &[A("A", Some(2.0), None, "v1")]);
    life.post(3.6, &[A("A", Some(1.5), None, "v2")]);
    life.post(4.6, &[A("A", Some(3.0), Some(4.5), "v2")]);
    life.post(4.8, &[A("A", Some(2.9), Some(4.8), "v3"), A("A", Some(2.9), Some(4.1), "v3")]);
    life.post(5.3, &[open("A", 5.0)]);
    life.go(at(6.5));
    let told: Vec<(Time, Option<Time>, &str)> = life
        .told
        .iter()
        .map(|(_, m)| &m.alerts[0])
        .map(|alert| (alert.starts_at, alert.ends_at, alert.annotations.get("note")))
        .collect();
    let first = at(1.0);
    assert_eq!(
        told,
        [
            (first, None, ""),
            (first, None, "v1"),
            (first, None, "v2"),
            (first, Some(at(4.8)), "v3"),
            (at(5.0), None, ""),
        ]
    );
    life.expect(
        6.5,
        &[
            ("", 2.0, 2.5, "A"),
            ("", 3.0, 3.5, "A"),
            ("", 4.0, 4.5, "A"),
            ("", 5.0, 5.5, "A!"),
            ("", 6.0, 6.5, "A"),
        ],
    );
}

#[test]
fn repeats_come_at_ticks_only() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 1.0, 0.001)]);
    life.post(1.0, &[open("A", 1.0)]);
    life.post(3.5, &[A("A", Some(1.0), Some(3.0), "")]);
    life.expect(9.0, &[("", 2.0, 2.5, "A"), ("", 3.0, 3.5, "A"), ("", 4.0, 4.5, "A!")]);
}

#[test]
fn a_failing_channel_neither_delays_nor_repeats_the_other() {
    let life = Life::new(vec![root(&[], 1.0, 2.0, 3.0)]);
    let mut life = life.second_channel("ops/webhook[1]", true);
    life.deaf.insert("ops/webhook[1]", at(4.5));
    life.post(1.0, &[open("A", 1.0)]);
    life.expect(7.0, &[("[0]", 2.0, 2.5, "A"), ("[0]", 6.0, 6.5, "A"), ("[1]", 6.0, 6.5, "A")]);
}

#[test]
fn what_comes_together_is_told_together() {
    let mut life = Life::new(vec![root(&[], 1.0, 1.0, 4.9)]);
    life.post(1.1, &[open("t1", 1.0)]);
    life.post(1.7, &[open("t5", 1.0)]);
    life.post(3.3, &[open("t2", 1.5), open("t3", 1.5), open("t4", 1.6)]);
    let all = "t1 t2 t3 t4 t5";
    life.expect(10.0, &[("", 2.0, 2.5, "t1 t5"), ("", 4.1, 4.5, all), ("", 9.1, 9.5, all)]);
}

#[test]
fn what_nobody_speaks_of_any_more_times_out() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 5.0, 14_400.0)]);
    let routing = life.policy.notify.routing.as_mut().unwrap();
    routing.resolve_timeout = Span::secs(10);
    life.reload();
    let name = |job: &'static str| A(job, Some(1.0), None, "");
    let (a, b, c) = ("alertname=t,job=a", "alertname=t,job=b", "alertname=t,job=c");
    life.post(1.0, &[name(a), name(b), name(c)]);
    life.expect(20.0, &[("", 2.0, 2.5, "t/a t/b t/c"), ("", 12.0, 13.0, "t/a! t/b! t/c!")]);
}

#[test]
fn a_channel_that_shows_no_ends_is_not_told_for_the_sake_of_one() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 5.0, 14_400.0)]);
    life.policy.notify.routing.as_mut().unwrap().resolve_timeout = Span::secs(10);
    life.reload();
    let mut life = life.second_channel("ops/webhook[1]", false);
    let (a, b, c) = ("alertname=t,job=v1", "alertname=t,job=v2", "alertname=t,job=v3");
    life.post(1.0, &[open(a, 1.0), open(b, 1.0)]);
    life.post(3.0, &[A(a, Some(1.0), Some(4.0), ""), open(c, 3.0)]);
    life.post(8.0, &[open(c, 3.0)]);
    life.expect(
        14.0,
        &[
            ("[0]", 2.0, 2.5, "t/v1 t/v2"),
            ("[0]", 7.0, 7.5, "t/v1! t/v2 t/v3"),
            ("[0]", 12.0, 12.5, "t/v2! t/v3"),
            ("[1]", 2.0, 2.5, "t/v1 t/v2"),
            ("[1]", 7.0, 7.5, "t/v2 t/v3"),
        ],
    );
}

#[test]
fn a_reload_begins_the_ticks_anew_and_repeats_nothing() {
    let mut life = Life::new(vec![root(&[], 1.0, 6.0, 600.0)]);
    life.post(1.0, &[open("t1", 1.0)]);
    life.go(at(3.0));
    life.reload();
    life.post(4.0, &[open("t2", 4.0)]);
    life.expect(16.0, &[("", 2.0, 2.5, "t1"), ("", 9.0, 9.5, "t1 t2")]);
}

#[test]
fn a_source_keeps_its_targets_quiet_while_it_fires() {
    let mut life = Life::new(vec![root(&[], 1.0, 1.0, 1.0)]);
    life.policy.notify.routing.as_mut().unwrap().inhibit = vec![InhibitRule {
        name: String::new(),
        source: matchers(&["alertname=\"JobDown\""]),
        target: matchers(&["alertname=\"InstanceDown\""]),
        equal: vec!["job".into(), "zone".into()],
    }];
    life.reload();
    let aa = "alertname=InstanceDown,job=testjob,zone=aa";
    let ab = "alertname=InstanceDown,job=testjob,zone=ab";
    let down = "alertname=JobDown,job=testjob,zone=aa";
    life.post(1.0, &[open("test1", 1.0), open(aa, 1.0), open(ab, 1.0)]);
    life.post(2.2, &[open(down, 2.2)]);
    life.post(3.6, &[A(down, Some(2.2), Some(3.6), "")]);
    let (i, j) = ("InstanceDown/testjob", "JobDown/testjob");
    life.expect(
        4.6,
        &[
            ("", 2.0, 2.5, &format!("test1 {i}/aa {i}/ab")),
            ("", 3.0, 3.5, &format!("test1 {i}/ab {j}/aa")),
            ("", 4.0, 4.5, &format!("test1 {i}/aa {i}/ab {j}/aa!")),
        ],
    );
}

fn silence(name: &str, from: f64, until: f64) -> Command {
    Command::PutSilence {
        uuid: None,
        matchers: matchers(&[&format!("alertname=\"{name}\"")]),
        from: at(from),
        until: at(until),
        by: "ann".into(),
        comment: "known".into(),
    }
}

#[test]
fn a_silence_mutes_from_its_beginning_to_its_end() {
    let mut life = Life::new(vec![root(&[], 1.0, 1.0, 0.001)]);
    life.post(1.0, &[open("test1", 1.0), open("test2", 1.0)]);
    life.command(2.3, silence("test1", 2.5, 4.5));
    life.expect(
        5.5,
        &[
            ("", 2.0, 2.5, "test1 test2"),
            ("", 3.0, 3.5, "test2"),
            ("", 4.0, 4.5, "test2"),
            ("", 5.0, 5.5, "test1 test2"),
        ],
    );
}

#[test]
fn the_end_is_told_through_a_silence() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 1.0, 14_400.0)]);
    life.post(1.0, &[open("A", 1.0), open("B", 1.0)]);
    life.command(2.5, silence("A", 2.5, 100.0));
    life.post(4.2, &[A("A", Some(1.0), Some(4.2), "")]);
    life.expect(20.0, &[("", 2.0, 2.0, "A"), ("", 2.0, 2.0, "B"), ("", 5.0, 5.0, "A!")]);
}

#[test]
fn what_was_never_told_has_no_end_to_tell() {
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 1.0, 14_400.0)]);
    life.command(0.5, silence("A", 0.5, 100.0));
    life.post(1.0, &[open("A", 1.0)]);
    life.post(3.5, &[A("A", Some(1.0), Some(3.5), "")]);
    let blip = A("B", Some(4.0), Some(4.4), "");
    life.post(4.0, &[open("B", 4.0)]);
    life.post(4.4, &[blip]);
    life.go(at(8.0));
    assert_eq!(life.core.state().dispatch.counts(), (0, 0), "what is over is forgotten");
    life.expect(9.0, &[]);
}

#[test]
fn the_end_is_told_where_the_beginning_was_even_if_another_route_holds_now() {
    let mut other = root(&["alertname"], 1.0, 1.0, 14_400.0);
    other.receiver = "others".into();
    let mut life = Life::new(vec![root(&["alertname"], 1.0, 1.0, 14_400.0)]);
    life.policy.notify.receivers.push(ReceiverPolicy {
        name: "others".into(),
        channels: vec![("others/webhook[0]".into(), true)],
        ..ReceiverPolicy::default()
    });
    life.post(1.0, &[open("A", 1.0)]);
    life.go(at(2.5));
    other.key = "{}/{team=\"others\"}".into();
    life.policy.notify.routing.as_mut().unwrap().nodes = vec![other];
    life.reload();
    life.post(6.2, &[A("A", Some(1.0), Some(6.2), "")]);
    life.expect(
        20.0,
        &[
            ("ops/webhook[0]", 2.0, 2.0, "A"),
            ("others/webhook[0]", 2.5, 3.0, "A"),
            ("ops/webhook[0]", 6.2, 11.0, "A!"),
            ("others/webhook[0]", 6.2, 7.5, "A!"),
        ],
    );
}

#[test]
fn a_group_in_which_nothing_changes_wakes_nobody() {
    let mut life = Life::new(vec![root(&[], 1.0, 1.0, 14_400.0)]);
    life.post(1.0, &[A("A", Some(1.0), Some(7_200.0), "")]);
    life.go(at(3.0));
    assert_eq!(life.core.wake_at(), Some(at(7_200.0)));
}

#[test]
fn one_alert_of_a_route_with_a_child_goes_to_the_child_alone_unless_it_continues() {
    let mut parent = root(&[], 1.0, 1.0, 14_400.0);
    parent.children = vec![1, 2];
    let mut page = root(&["alertname"], 1.0, 1.0, 14_400.0);
    page.matchers = matchers(&["severity=\"page\""]);
    page.key = "{}/{severity=\"page\"}".into();
    page.continues = true;
    let mut team = root(&["team"], 1.0, 1.0, 14_400.0);
    team.matchers = matchers(&["team=\"db\""]);
    team.key = "{}/{team=\"db\"}".into();
    let mut life = Life::new(vec![parent, page, team]);
    let both = "alertname=A,severity=page,team=db";
    life.post(1.0, &[open(both, 1.0), open("B", 1.0)]);
    life.go(at(2.5));
    let keys: BTreeSet<&str> = life.told.iter().map(|(_, m)| m.group_key.as_str()).collect();
    assert_eq!(
        keys,
        BTreeSet::from([
            "{}:{}",
            "{}/{severity=\"page\"}:{alertname=\"A\"}",
            "{}/{team=\"db\"}:{team=\"db\"}"
        ])
    );
    life.expect(9.0, &[("", 2.0, 2.0, "A"), ("", 2.0, 2.0, "A"), ("", 2.0, 2.0, "B")]);
}

#[test]
fn what_is_said_again_in_the_same_words_is_only_named_in_the_journal() {
    let mut life = Life::new(vec![root(&["alertname"], 0.0, 10.0, 3600.0)]);
    let alert = |i: usize, end: f64| AlertIn {
        labels: [("alertname", "Full".to_owned()), ("unit", i.to_string())].into_iter().collect(),
        annotations: [("summary", "a disk is over its threshold")].into(),
        starts_at: Some(at(0.0)),
        ends_at: Some(at(end)),
        generator_url: "http://127.0.0.1/graph?g0.expr=full".into(),
    };
    let batch = |end: f64| Event::Posted((0..64).map(|i| alert(i, end)).collect());
    let kept = |life: &Life, event| life.core.condensed(life.now, event, &mut HashSet::new());
    let first = kept(&life, batch(300.0));
    assert_eq!(first, batch(300.0), "what is new is kept whole");
    life.event(&first);
    life.go(at(60.0));
    let again = kept(&life, batch(360.0));
    let bytes = serde_json::to_string(&again).unwrap().len();
    assert!(bytes < 64 * 16 + 100, "{bytes} bytes for 64 alerts: {again:?}");
    life.event(&again);
    let over = |life: &mut Life, end| {
        life.go(at(end));
        life.told.iter().any(|(_, message)| message.status == MessageStatus::Resolved)
    };
    assert!(!over(&mut life, 359.0), "the new end counts");
    assert!(over(&mut life, 371.0));
    // Whatever is not as it was is kept whole: another text, an end, an alert nobody knows any more.
    life.now = at(400.0);
    assert_eq!(kept(&life, batch(900.0)), batch(900.0), "they have ended and are forgotten");
    life.event(&batch(900.0));
    let mut other = alert(1, 900.0);
    other.annotations = [("summary", "two disks are")].into();
    let event = Event::Posted(vec![other, alert(2, 400.0)]);
    assert_eq!(kept(&life, event.clone()), event);
}

proptest! {
    /// However posts follow each other, also several before the first is taken in: what is kept of them
    /// leads where they themselves lead.
    #[test]
    fn what_is_kept_of_posts_means_what_was_posted(
        batches in prop::collection::vec(
            (0_i64..40_000, prop::collection::vec(
                prop::collection::vec((0_u8..4, 0_i64..60, prop::option::of(0_i64..120), 0_u8..2), 1..4),
                1..4,
            )),
            1..8,
        ),
    ) {
        let life = Life::new(vec![root(&["alertname"], 0.0, 5.0, 3600.0)]);
        let (mut by_kept, mut by_whole, mut now) = (life.core.clone(), life.core, at(0.0));
        for (pause, posts) in batches {
            now += Span::millis(pause);
            let mut seen = HashSet::new();
            let posts: Vec<Event> = posts.into_iter().map(|alerts| {
                let alerts = alerts.into_iter().map(|(name, start, end, note)| AlertIn {
                    labels: [("alertname", ["a", "b", "c", "d"][usize::from(name)])].into(),
                    annotations: [("note", ["x", "y"][usize::from(note)])].into(),
                    starts_at: (start > 9).then(|| at(start as f64)),
                    ends_at: end.map(|end| at(end as f64 + 60.0)),
                    generator_url: String::new(),
                });
                Event::Posted(alerts.collect())
            }).collect();
            let kept: Vec<Event> =
                posts.iter().map(|post| by_kept.condensed(now, post.clone(), &mut seen)).collect();
            for (post, kept) in posts.iter().zip(&kept) {
                prop_assert_eq!(by_kept.step(now, kept), by_whole.step(now, post));
                prop_assert_eq!(&by_kept, &by_whole);
            }
        }
    }
}
