//! Who is told when, and what if nobody answers: nights told as timelines.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

use std::collections::BTreeMap;

use daruma_alert::routing::{GroupBy, Node, Routing};
use daruma_alert::{
    AlertIn, Command, Core, Delivery, Effect, Event, NotifyPolicy, Policy, RulePolicy,
};
use daruma_model::{
    Attempt, AttemptOutcome, Evidence, Finding, Labels, Matchers, Message, MessageStatus, Receipt,
    ReceiptState, Span, Time, Verdict,
};
use proptest::prelude::*;

/// 2026-11-23, a Monday, at 20:00 UTC.
const EVENING: i64 = 1_795_464_000;

fn at(seconds: f64) -> Time {
    Time(EVENING * 1000 + (seconds * 1000.0).round() as i64)
}

struct Night {
    core: Core,
    now: Time,
    sent: Vec<(Time, Message)>,
    /// How channels answer; those not here take everything.
    answers: BTreeMap<&'static str, AttemptOutcome>,
    waiting: Vec<Attempt>,
}

impl Night {
    /// `notify` in YAML: receivers are `{ name, channels, … }`.
    fn new(notify: &str) -> Night {
        Night::with(notify, |_| {})
    }

    fn with(notify: &str, change: impl FnOnce(&mut Policy)) -> Night {
        let notify: NotifyPolicy = serde_saphyr::from_str(notify).unwrap();
        let mut policy = Policy { notify, ..Policy::default() };
        for name in ["Web", "Db", "Disk", "Note"] {
            policy.rules.insert(name.into(), RulePolicy::default());
        }
        change(&mut policy);
        policy.validate().unwrap();
        let mut night = Night {
            core: Core::new(),
            now: at(0.0),
            sent: Vec::new(),
            answers: BTreeMap::new(),
            waiting: Vec::new(),
        };
        night.event(0.0, Event::Policy(Box::new(policy)));
        night
    }

    fn event(&mut self, seconds: f64, event: Event) {
        self.go(seconds);
        self.step(&event);
    }

    /// Lives on until then, deadline by deadline.
    fn go(&mut self, seconds: f64) {
        while !self.waiting.is_empty() {
            let attempt = self.waiting.remove(0);
            self.step(&Event::Attempted(attempt));
        }
        let until = at(seconds);
        while let Some(wake) = self.core.wake_at().filter(|wake| *wake <= until) {
            self.now = wake;
            self.step(&Event::Tick);
            while !self.waiting.is_empty() {
                let attempt = self.waiting.remove(0);
                self.step(&Event::Attempted(attempt));
            }
        }
        self.now = until;
    }

    fn step(&mut self, event: &Event) {
        for effect in self.core.step(self.now, event) {
            let Effect::Send { message, number } = effect else { continue };
            let outcome = self.answers.get(message.receiver.as_str());
            let outcome = outcome.cloned().unwrap_or(AttemptOutcome::Accepted);
            let (message_, at, took) = (message.id, self.now, Span::ZERO);
            if outcome == AttemptOutcome::Accepted {
                self.sent.push((self.now, message));
            }
            let said = "far side".to_owned();
            self.waiting.push(Attempt {
                message: message_,
                number,
                at,
                took,
                outcome,
                said,
                retry_after: None,
            });
        }
        // What follows from the state alone must follow from it after a restart, too.
        assert_eq!(Core::from_state(self.core.state().clone()), self.core);
    }

    fn finds(&mut self, seconds: f64, rule: &str, severity: &str, verdict: Verdict) {
        let service = rule.to_lowercase();
        let finding = Finding {
            rule: rule.into(),
            labels: [("alertname", rule), ("service", &service), ("severity", severity)].into(),
            annotations: Labels::default(),
            at: at(seconds),
            verdict,
            evidence: Evidence::said("seen"),
        };
        self.event(seconds, Event::Found(finding));
    }

    fn posts(&mut self, seconds: f64, name: &str, severity: &str, ends: Option<f64>) {
        let alert = AlertIn {
            labels: [("alertname", name), ("severity", severity)].into(),
            annotations: Labels::default(),
            starts_at: Some(at(0.0)),
            ends_at: Some(ends.map_or(Time::MAX, at)),
            generator_url: String::new(),
        };
        self.event(seconds, Event::Posted(vec![alert]));
    }

    fn ack(&mut self, seconds: f64, minutes: i64) {
        self.go(seconds);
        let incident = *self.core.state().incidents.keys().next().unwrap();
        let (ttl, comment) = (Some(Span::minutes(minutes)), String::new());
        let command = Command::Ack { incident, ttl, comment };
        self.event(seconds, Event::Commanded { by: "ann".into(), command });
    }

    /// What was told, as `minutes receiver title`, with a `-` before the title of an end.
    #[track_caller]
    fn told(&mut self, until: f64, want: &[&str]) {
        self.go(until);
        let got: Vec<String> = self
            .sent
            .iter()
            .map(|(when, message)| {
                let minutes = (*when - at(0.0)).0 as f64 / 60_000.0;
                let end = if message.status == MessageStatus::Resolved { "-" } else { "" };
                let minutes = (minutes * 10.0).round() / 10.0;
                format!("{minutes} {} {end}{}", message.receiver, message.title)
            })
            .collect();
        assert_eq!(got, want);
    }
}

use Verdict::{Clear, Holds};

const M: f64 = 60.0;
const CHAIN: &str = r"
group_wait: 0s
routes: [ { receivers: [] } ]
receivers:
  - { name: ops, channels: [[ops/a, true]], min_level: info, heal_first: 0s }
  - { name: lead, channels: [[lead/a, true]], min_level: critical, heal_first: 0s }
  - { name: boss, channels: [[boss/a, true]], min_level: critical, heal_first: 0s }
escalations:
  - name: night
    min_level: error
    steps: [ { to: [ops] }, { after: 10m, to: [lead] }, { after: 30m, to: [boss, lead] } ]
";

#[test]
fn nobody_answers_and_one_after_another_is_told_and_all_hear_the_end() {
    let mut night = Night::new(CHAIN);
    night.finds(0.0, "Web", "error", Holds);
    night.finds(40.0 * M, "Web", "error", Clear);
    night.told(
        900.0 * M,
        &[
            "0 ops Web",
            "10 lead nobody looks after it for 10m: Web",
            "30 lead nobody looks after it for 30m: Web",
            "30 boss nobody looks after it for 30m: Web",
            "40 boss -over: Web",
            "40 lead -over: Web",
            "40 ops -over: Web",
        ],
    );
}

#[test]
fn an_ack_stops_the_climb_and_when_it_runs_out_the_last_are_told_again_first() {
    let mut night = Night::new(CHAIN);
    night.finds(0.0, "Web", "error", Holds);
    night.ack(12.0 * M, 60);
    night.told(71.0 * M, &["0 ops Web", "10 lead nobody looks after it for 10m: Web"]);
    night.sent.clear();
    night.told(
        120.0 * M,
        &[
            "72 lead nobody looks after it for 1h12m: Web",
            "92 lead nobody looks after it for 1h32m: Web",
            "92 boss nobody looks after it for 1h32m: Web",
        ],
    );
}

#[test]
fn below_its_level_and_muted_nothing_climbs() {
    let mut night = Night::new(CHAIN);
    night.finds(0.0, "Note", "warning", Holds);
    let matchers: Matchers = r#"service="web""#.parse().unwrap();
    let silence = Command::Silence { matchers, ttl: Span::minutes(45), comment: "move".into() };
    night.event(1.0, Event::Commanded { by: "ann".into(), command: silence });
    night.finds(2.0, "Web", "error", Holds);
    night.told(44.0 * M, &[]);
    // The steps that came due meanwhile are made up for one by one.
    night.go(50.0 * M);
    let told: Vec<&str> = night.sent.iter().map(|(_, m)| m.receiver.as_str()).collect();
    assert_eq!(told, ["ops", "lead", "lead", "boss"]);
}

#[test]
fn the_last_are_told_again_where_the_chain_says_so() {
    let chain = CHAIN.replace("    min_level: error\n", "    repeat: 20m\n");
    let mut night = Night::new(&chain.replace("[ { to: [ops] }, {", "[ {"));
    night.finds(0.0, "Web", "error", Holds);
    night.go(80.0 * M);
    let told: Vec<String> = night
        .sent
        .iter()
        .map(|(at_, m)| format!("{} {}", (*at_ - at(0.0)).0 / 60_000, m.receiver))
        .collect();
    let want = ["10 lead", "30 lead", "30 boss", "50 lead", "50 boss", "70 lead", "70 boss"];
    assert_eq!(told, want);
}

fn routed(policy: &mut Policy) {
    let node = Node {
        group_by: GroupBy::Labels(vec!["alertname".into()]),
        group_wait: Span::secs(1),
        group_interval: Span::secs(10),
        repeat_interval: Span::minutes(15),
        ..Node::root("ops")
    };
    let resolve_timeout = Span::minutes(5);
    let nodes = vec![node];
    policy.notify.routing = Some(Routing { nodes, resolve_timeout, ..Routing::default() });
}

#[test]
fn what_others_post_climbs_too_and_an_ack_stops_the_repeats() {
    let mut night = Night::with(CHAIN, routed);
    night.posts(0.0, "Web", "error", None);
    night.ack(12.0 * M, 30);
    night.posts(50.0 * M, "Web", "error", Some(50.0 * M));
    night.told(
        300.0 * M,
        &[
            "0 ops Web",
            "10 lead nobody looks after it for 10m1s: Web",
            "42 lead nobody looks after it for 42m: Web",
            "42 ops Web",
            "50 ops -over: Web",
            "50 lead -over: Web",
        ],
    );
}

/// Two routes hear of one alert, each in a group of its own: one incident, one chain, one ack.
#[test]
fn what_several_routes_hear_of_is_one_incident() {
    let several = |policy: &mut Policy| {
        routed(policy);
        let Some(routing) = &mut policy.notify.routing else { return };
        let root = routing.nodes[0].clone();
        let error: Matchers = r#"severity="critical""#.parse().unwrap();
        let child = |receiver: &str, labels: &[&str], key: &str| Node {
            receiver: receiver.into(),
            matchers: error.clone(),
            group_by: GroupBy::Labels(labels.iter().map(|name| (*name).to_owned()).collect()),
            continues: true,
            key: key.into(),
            ..root.clone()
        };
        let pager = child("ops", &["alertname"], "{}/pager");
        let chat = child("lead", &["alertname", "severity"], "{}/chat");
        routing.nodes.extend([pager, chat]);
        routing.nodes[0].children = vec![1, 2];
    };
    let mut night = Night::with(CHAIN, several);
    night.posts(0.0, "Web", "critical", None);
    night.told(9.0 * M, &["0 ops Web", "0 lead Web"]);
    let open = |night: &Night| {
        let all: Vec<bool> =
            night.core.state().incidents.values().map(|it| it.resolved.is_none()).collect();
        all
    };
    assert_eq!(open(&night), [true]);
    night.ack(9.0 * M, 120);
    night.posts(60.0 * M, "Web", "critical", None);
    night.go(60.0 * M);
    assert_eq!(night.sent.len(), 2, "an ack stops the repeats of both: {:?}", night.sent);
    night.posts(61.0 * M, "Web", "critical", Some(61.0 * M));
    night.told(300.0 * M, &["0 ops Web", "0 lead Web", "61 ops -over: Web", "61 lead -over: Web"]);
    assert_eq!(open(&night), [false]);
    assert_eq!(night.core.state().resolved_total, 1);
}

const HOURS: &str = r"
group_wait: 0s
routes: []
receivers:
  - name: day
    channels: [[day/a, true]]
    min_level: warning
    heal_first: 0s
    hours: [ { weekdays: ['monday:friday'], times: [ { start_time: '08:00', end_time: '18:00' } ] } ]
";

#[test]
fn outside_its_hours_a_receiver_hears_of_what_is_critical_alone() {
    for routes in [false, true] {
        let change = |policy: &mut Policy| {
            if routes {
                routed(policy);
                policy.notify.routing.as_mut().unwrap().nodes[0].receiver = "day".into();
            }
        };
        let mut night = Night::with(HOURS, change);
        night.finds(0.0, "Disk", "warning", Holds);
        night.finds(1.0, "Note", "warning", Holds);
        night.finds(2.0, "Web", "critical", Holds);
        night.finds(60.0, "Note", "warning", Clear);
        night.go(23.0 * 60.0 * M);
        let told: Vec<String> = night
            .sent
            .iter()
            .map(|(at_, m)| format!("{} {}", (*at_ - at(0.0)).0 / 3_600_000, m.title))
            .collect();
        let repeats = |told: &&String| *told == "0 Web" || told.starts_with("12 Disk");
        assert!(told.iter().any(|told| told == "0 Web"), "{told:?}");
        assert!(told.iter().any(|told| told == "12 Disk"), "at 08:00: {told:?}");
        if !routes {
            assert!(told.iter().all(|told| repeats(&told)), "{told:?}");
        }
        assert!(
            told.iter().all(|told| !told.contains("Note")),
            "over before anybody came: {told:?}"
        );
    }
}

const GATHERED: &str = r"
group_wait: 0s
routes: []
receivers:
  - name: ops
    channels: [[ops/a, true]]
    min_level: info
    heal_first: 0s
    digest: { below: error, at: '08:00' }
";

#[test]
fn what_wakes_nobody_is_told_together_in_the_morning() {
    for routes in [false, true] {
        let change: fn(&mut Policy) = if routes { routed } else { |_| {} };
        let mut night = Night::with(GATHERED, change);
        night.finds(0.0, "Note", "info", Holds);
        night.finds(60.0, "Disk", "warning", Holds);
        night.finds(120.0, "Note", "info", Clear);
        night.told(12.0 * 60.0 * M, &["720 ops digest: 2 alerts, 1 still firing"]);
        let digest = night.sent.pop().unwrap().1;
        assert!(digest.text.contains("Note") && digest.text.contains("over"), "{}", digest.text);
        // The next morning says what ended since; after that there is nothing to say.
        night.finds(13.0 * 60.0 * M, "Disk", "warning", Clear);
        night.told(90.0 * 60.0 * M, &["2160 ops -digest: 1 alerts, 0 still firing"]);
        assert!(night.core.state().digests.is_empty());
    }
}

const STANDINS: &str = r"
group_wait: 0s
routes: [ { receivers: [ops] } ]
unreached_after: 10m
receivers:
  - name: ops
    channels: [[ops/a, true], [ops/b, true]]
    min_level: info
    heal_first: 0s
    fallback: [ { to: sms, after: 2m }, { to: pager, after: 5m } ]
  - { name: sms, channels: [[sms/a, true]], min_level: critical, heal_first: 0s }
  - { name: pager, channels: [[pager/a, true]], min_level: critical, heal_first: 0s }
";

#[test]
fn whoever_cannot_be_reached_is_stood_in_for_and_hears_the_end() {
    let mut night = Night::new(STANDINS);
    night.answers.insert("ops", AttemptOutcome::Retry);
    night.finds(0.0, "Web", "error", Holds);
    night.told(4.0 * M, &["2 sms ops cannot be reached: Web"]);
    night.told(20.0 * M, &["2 sms ops cannot be reached: Web"]); // That was enough.
    night.answers.clear();
    night.finds(21.0 * M, "Web", "error", Clear);
    night.go(60.0 * M);
    let ends = night.sent.iter().filter(|(_, m)| m.status == MessageStatus::Resolved);
    let ends: Vec<&str> = ends.map(|(_, m)| m.channel.as_str()).collect();
    assert_eq!(ends, ["ops/a", "ops/b", "sms/a"]);
}

#[test]
fn a_refusal_for_good_waits_for_no_deadline_and_one_open_channel_is_enough() {
    let mut night = Night::new(STANDINS);
    night.answers.insert("ops", AttemptOutcome::Rejected);
    night.finds(0.0, "Web", "error", Holds);
    night.go(0.5 * M);
    assert_eq!(night.sent.first().map(|(_, m)| m.receiver.as_str()), Some("sms"));
    let mut night =
        Night::new(&STANDINS.replace("[[ops/a, true], [ops/b, true]]", "[[ops/a, true]]"));
    night.finds(0.0, "Web", "error", Holds);
    night.told(60.0 * M, &["0 ops Web"]);
}

/// The far side tells what became of the newest message to `channel`.
fn receipt(night: &mut Night, seconds: f64, channel: &str, part: &str, state: ReceiptState) {
    night.go(seconds);
    let outbox = &night.core.state().outbox;
    let message = outbox.values().rev().find(|out| out.message.channel == channel).unwrap();
    let receipt = Receipt {
        message: message.message.id,
        channel: channel.to_owned(),
        part: part.to_owned(),
        of: 2,
        state,
        said: String::new(),
    };
    let by = channel.to_owned();
    night.event(seconds, Event::Commanded { by, command: Command::Receipt(receipt) });
}

fn deliveries(night: &Night) -> Vec<(&str, Delivery)> {
    let all = night.core.state().outbox.values();
    all.map(|out| (out.message.channel.as_str(), out.delivery)).collect()
}

#[test]
fn what_was_taken_and_then_lost_is_told_to_whoever_stands_in() {
    use Delivery::{Accepted, Delivered, Rejected};
    let one = STANDINS.replace("[[ops/a, true], [ops/b, true]]", "[[ops/a, true]]");
    let mut night = Night::new(&one);
    night.finds(0.0, "Web", "error", Holds);
    receipt(&mut night, 10.0, "ops/a", "+1", ReceiptState::Lost);
    night.told(20.0, &["0 ops Web"]);
    assert_eq!(deliveries(&night), [("ops/a", Accepted)], "another number may still be reached");
    receipt(&mut night, 30.0, "ops/a", "+2", ReceiptState::Lost);
    night.told(60.0 * M, &["0 ops Web", "0.5 sms ops cannot be reached: Web"]);
    assert_eq!(deliveries(&night), [("ops/a", Rejected), ("sms/a", Accepted)]);
    // Phones that were off are on again.
    receipt(&mut night, 61.0 * M, "ops/a", "+1", ReceiptState::Delivered);
    assert_eq!(deliveries(&night)[0], ("ops/a", Delivered));
    let story: Vec<&str> = night
        .core
        .state()
        .incidents
        .values()
        .next()
        .unwrap()
        .timeline
        .iter()
        .map(|entry| entry.text.as_str())
        .collect();
    assert!(story.contains(&"ops/a: \"Web\" did not arrive at +2"), "{story:?}");
    assert!(story.contains(&"ops/a: \"Web\" was delivered to +1"), "{story:?}");

    // Another channel of the same receiver took it: nobody is missed.
    let mut night = Night::new(STANDINS);
    night.finds(0.0, "Web", "error", Holds);
    for part in ["+1", "+2"] {
        receipt(&mut night, 10.0, "ops/a", part, ReceiptState::Lost);
    }
    night.told(60.0 * M, &["0 ops Web", "0 ops Web"]);
    assert_eq!(deliveries(&night), [("ops/a", Rejected), ("ops/b", Accepted)]);
}

#[test]
fn receipts_count_once_in_any_order_and_before_the_answer_too() {
    use Delivery::{Accepted, Delivered, Queued};
    let mut night = Night::new(PLAIN);
    night.answers.insert("ops", AttemptOutcome::Retry);
    night.finds(0.0, "Web", "error", Holds);
    night.go(1.0);
    // The answer got lost, the message did not; and a repetition of it is lost on its way.
    receipt(&mut night, 1.0, "ops/a", "+1", ReceiptState::Read);
    receipt(&mut night, 1.0, "ops/a", "+2", ReceiptState::Delivered);
    assert_eq!(deliveries(&night), [("ops/a", Queued)]);
    night.answers.clear();
    night.go(10.0 * M);
    assert_eq!(deliveries(&night), [("ops/a", Delivered)]);
    let before = night.core.state().incidents.values().next().unwrap().timeline.len();
    for (part, state) in [
        ("+1", ReceiptState::Delivered),
        ("+1", ReceiptState::Lost),
        ("+2", ReceiptState::Lost),
        ("+2", ReceiptState::Delivered),
    ] {
        receipt(&mut night, 11.0 * M, "ops/a", part, state);
    }
    assert_eq!(deliveries(&night), [("ops/a", Delivered)]);
    assert_eq!(night.core.state().incidents.values().next().unwrap().timeline.len(), before);

    // What is about another channel's message, or none, changes nothing.
    let mut night = Night::new(PLAIN);
    night.finds(0.0, "Web", "error", Holds);
    night.go(1.0);
    let id = *night.core.state().outbox.keys().next().unwrap();
    for (message, channel) in [(id, "ops/b"), (id + 1, "ops/a"), (0, "")] {
        let (part, channel) = (String::new(), channel.to_owned());
        let (of, state, said) = (1, ReceiptState::Delivered, String::new());
        let receipt = Receipt { message, channel, part, of, state, said };
        let command = Command::Receipt(receipt);
        night.event(2.0, Event::Commanded { by: "x".into(), command });
    }
    assert_eq!(deliveries(&night), [("ops/a", Accepted)]);
}

#[test]
fn when_nobody_could_be_reached_every_other_channel_hears_of_it() {
    let mut night = Night::with(STANDINS, |policy| {
        let last = policy.notify.receivers.last().unwrap().clone();
        let name = "mail".to_owned();
        let channels = vec![("mail/a".to_owned(), true)];
        policy.notify.receivers.push(daruma_alert::ReceiverPolicy { name, channels, ..last });
    });
    for name in ["ops", "sms", "pager"] {
        night.answers.insert(name, AttemptOutcome::Retry);
    }
    night.finds(0.0, "Web", "error", Holds);
    night.go(16.0 * M);
    let [(when, message)] = night.sent.as_slice() else { panic!("{:?}", night.sent) };
    assert_eq!((message.receiver.as_str(), *when), ("mail", at(15.0 * M)));
    assert!(message.title.starts_with("nobody could be reached through ops"), "{}", message.title);
    night.answers.clear();
    night.go(60.0 * M);
    let over =
        night.sent.iter().any(|(_, m)| m.receiver == "mail" && m.status == MessageStatus::Resolved);
    assert!(over, "they can be reached again");
}

const PLAIN: &str = r"
group_wait: 0s
routes: []
receivers: [ { name: ops, channels: [[ops/a, true]], min_level: info, heal_first: 0s } ]
";

#[test]
fn what_comes_and_goes_is_one_incident_with_a_count_and_its_end_is_told_when_it_is_quiet() {
    let mut night = Night::new(PLAIN);
    for round in 0..6 {
        let minute = f64::from(round) * 2.0 * M;
        night.finds(minute, "Web", "error", Holds);
        night.finds(minute + M, "Web", "error", Clear);
    }
    night.told(
        100.0 * M,
        &[
            "0 ops Web",
            "1 ops -over: Web",
            "2 ops again (2 times): Web",
            "3 ops -over: Web",
            "4 ops again (3 times): Web",
            "21 ops -over: Web",
        ],
    );
    assert_eq!(night.core.state().incidents.len(), 1);
    assert_eq!(night.core.state().incidents.values().next().unwrap().times, 3);
}

#[test]
fn after_a_long_quiet_it_is_another_incident() {
    let mut night = Night::new(PLAIN);
    night.finds(0.0, "Web", "error", Holds);
    night.finds(1.0 * M, "Web", "error", Clear);
    night.finds(12.0 * M, "Web", "error", Holds);
    assert_eq!(night.core.state().incidents.len(), 2);
}

#[test]
fn labels_say_how_grave_it_is_where_severity_does_not() {
    let levels = "levels: [ { level: critical, matchers: ['service=\"db\"'] } ]\n";
    let plain = PLAIN.replace("min_level: info", "min_level: critical");
    let mut night = Night::new(&format!("{levels}{plain}"));
    night.finds(0.0, "Web", "error", Holds);
    night.finds(1.0, "Db", "warning", Holds);
    night.told(M, &["0 ops Db"]);
    assert_eq!(night.sent[0].1.level, daruma_model::Level::Critical);
}

#[test]
fn a_consequence_is_told_only_if_it_outlives_its_cause_or_is_graver() {
    let services = |policy: &mut Policy| {
        let services = "[ { name: db }, { name: web, depends_on: [db] } ]";
        policy.recover.services = serde_saphyr::from_str(services).unwrap();
    };
    let mut night = Night::with(PLAIN, services);
    night.finds(0.0, "Db", "error", Holds);
    night.finds(1.0, "Web", "error", Holds);
    night.told(M, &["0 ops Db"]);
    night.finds(2.0 * M, "Db", "error", Clear);
    night.told(3.0 * M, &["0 ops Db", "2 ops Db"]);
    assert_eq!(night.sent[1].1.alerts[0].labels.get("alertname"), "Web");
    let mut night = Night::with(PLAIN, services);
    night.finds(0.0, "Db", "error", Holds);
    night.finds(M, "Web", "critical", Holds);
    night.told(2.0 * M, &["0 ops Db", "1 ops Db"]);
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    for (was, is, want) in [
        ("to: [ops]", "to: [opz]", "opz"),
        ("to: [ops]", "to: []", "names nobody"),
        ("after: 10m", "after: 40m", "they rise"),
        ("name: night", "name: night\n    repeat: 1s", "a minute"),
    ] {
        let notify: NotifyPolicy = serde_saphyr::from_str(&CHAIN.replace(was, is)).unwrap();
        let said = Policy { notify, ..Policy::default() }.validate().unwrap_err().to_string();
        assert!(said.contains(want), "{said}");
    }
    for (was, is, want) in [
        ("to: sms", "to: ops", "stand in for itself"),
        ("to: sms", "to: smz", "smz"),
        ("after: 2m", "after: 9m", "they rise"),
    ] {
        let notify: NotifyPolicy = serde_saphyr::from_str(&STANDINS.replace(was, is)).unwrap();
        let said = Policy { notify, ..Policy::default() }.validate().unwrap_err().to_string();
        assert!(said.contains(want), "{said}");
    }
}

proptest! {
    /// A digest's morning is a morning: the clocks there show the time, and it lies ahead.
    #[test]
    fn the_next_morning_lies_ahead_by_a_day_at_most(from in 1_700_000_000_i64..1_900_000_000) {
        let digest: daruma_model::Digest =
            serde_saphyr::from_str("{ at: '08:00', location: America/New_York }").unwrap();
        let now = Time::from_secs(from);
        let due = digest.due(now);
        prop_assert!(due > now && (due - now) <= Span::hours(25), "{due:?}");
        prop_assert_eq!(digest.due(due - Span::millis(1)), due);
    }
}
