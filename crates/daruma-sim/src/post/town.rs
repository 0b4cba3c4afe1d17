//! Routes, receivers and alerts by chance.

use daruma_alert::routing::{GroupBy, InhibitRule, Node, Routing};
use daruma_alert::{Escalation, EscalationStep, Flapping, NotifyPolicy, Policy, ReceiverPolicy};
use daruma_model::interval::TimeInterval;
use daruma_model::{Digest, Fallback, Labels, Level, Matchers, Span};

use crate::rng::Rng;

const RECEIVERS: [&str; 4] = ["ops", "lead", "boss", "desk"];

/// What posters speak of.
pub(super) fn labels(rng: &mut Rng) -> Vec<Labels> {
    let mut all = Vec::new();
    for name in ["A", "B", "C"] {
        for team in ["red", "blue"] {
            for instance in ["1", "2"] {
                let severity = *rng.pick(&["info", "warning", "error", "critical"]);
                all.push(
                    [
                        ("alertname", name),
                        ("team", team),
                        ("instance", instance),
                        ("severity", severity),
                    ]
                    .into(),
                );
            }
        }
    }
    all.truncate(4 + rng.below(9));
    all
}

/// Configurations that a day changes between; it ends with the first.
pub(super) fn policies(rng: &mut Rng) -> Vec<Policy> {
    (0..3).map(|_| policy(rng)).collect()
}

fn policy(rng: &mut Rng) -> Policy {
    let receivers: Vec<ReceiverPolicy> = RECEIVERS.iter().map(|name| receiver(rng, name)).collect();
    let steps = (0..1 + rng.below(3)).map(|n| EscalationStep {
        after: Span::minutes(n as i64 * 7),
        to: vec![(*rng.pick(&RECEIVERS)).to_owned()],
    });
    let steps = steps.collect();
    let escalation = Escalation {
        name: "chain".to_owned(),
        matchers: Matchers::default(),
        min_level: *rng.pick(&[Level::Warning, Level::Error]),
        steps,
        repeat: rng.chance(0.3).then(|| Span::minutes(20)),
    };
    let routing = routing(rng);
    let notify = NotifyPolicy {
        receivers,
        routing: Some(routing),
        escalations: if rng.chance(0.6) { vec![escalation] } else { Vec::new() },
        flapping: Flapping::default(),
        ..NotifyPolicy::default()
    };
    let policy = Policy { notify, ..Policy::default() };
    if let Err(error) = policy.validate() {
        panic!("{error}");
    }
    policy
}

fn receiver(rng: &mut Rng, name: &str) -> ReceiverPolicy {
    let channels = if rng.chance(0.3) { 2 } else { 1 };
    let hours = || -> Vec<TimeInterval> {
        let text = r#"[{"times": [{"start_time": "07:30", "end_time": "17:00"}]}]"#;
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"))
    };
    let other = RECEIVERS.iter().find(|other| **other != name && rng.chance(0.5));
    let fallback = Fallback {
        to: (*other.unwrap_or(&if name == "ops" { "lead" } else { "ops" })).to_owned(),
        after: Span::secs(*rng.pick(&[10, 120, 300])),
    };
    ReceiverPolicy {
        name: name.to_owned(),
        channels: (0..channels).map(|n| (format!("{name}/{n}"), rng.chance(0.9))).collect(),
        min_level: *rng.pick(&[Level::Info, Level::Info, Level::Error]),
        hours: if rng.chance(0.15) { hours() } else { Vec::new() },
        digest: rng.chance(0.15).then(|| Digest {
            below: Level::Error,
            every: Span::minutes(20),
            ..Digest::default()
        }),
        fallback: if rng.chance(0.4) { vec![fallback] } else { Vec::new() },
        ..ReceiverPolicy::default()
    }
}

fn routing(rng: &mut Rng) -> Routing {
    let mut routing = Routing::to("ops");
    for (label, value) in [("team", "red"), ("severity", "critical"), ("alertname", "A")] {
        if rng.chance(0.5) {
            let parent = rng.below(routing.nodes.len());
            let matchers = format!("{label}=\"{value}\"");
            let node = Node {
                matchers: matchers.parse().unwrap_or_else(|error| panic!("{error}")),
                continues: rng.chance(0.4),
                mute: if rng.chance(0.15) { vec!["dawn".to_owned()] } else { Vec::new() },
                ..Node::root(rng.pick::<&str>(&RECEIVERS))
            };
            routing.add(parent, node);
        }
    }
    let dawn = r#"[{"times": [{"start_time": "06:40", "end_time": "08:20"}]}]"#;
    let dawn = serde_json::from_str(dawn).unwrap_or_else(|error| panic!("{error}"));
    routing.intervals.insert("dawn".to_owned(), dawn);
    for node in &mut routing.nodes {
        node.group_by = match rng.below(4) {
            0 => GroupBy::All,
            1 => GroupBy::Labels(Vec::new()),
            2 => GroupBy::Labels(vec!["team".to_owned()]),
            _ => GroupBy::Labels(vec!["alertname".to_owned(), "team".to_owned()]),
        };
        node.group_wait = Span::secs(*rng.pick(&[0, 5, 30]));
        node.group_interval = Span::secs(*rng.pick(&[5, 30, 60]));
        node.repeat_interval = Span::minutes(*rng.pick(&[10, 60]));
    }
    if rng.chance(0.5) {
        routing.inhibit.push(InhibitRule {
            source: "severity=\"critical\"".parse().unwrap_or_else(|error| panic!("{error}")),
            target: "severity=~\"warning|error\"".parse().unwrap_or_else(|error| panic!("{error}")),
            equal: vec!["team".to_owned()],
            ..InhibitRule::default()
        });
    }
    routing.resolve_timeout = Span::minutes(5);
    routing
}
