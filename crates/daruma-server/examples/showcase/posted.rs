//! What other people's rules post, held and routed by a real core.

use std::sync::Arc;

use daruma_alert::routing::{GroupBy, Node, Routing};
use daruma_alert::{
    AlertIn, Core, Escalation, EscalationStep, Event, NotifyPolicy, Policy, ReceiverPolicy, View,
};
use daruma_model::interval::TimeInterval;
use daruma_model::{Digest, Fallback, Labels, Level, Matchers, Span};
use daruma_server::LoopAsk;
use tokio::sync::{mpsc, watch};

use crate::scene::{HOSTILE, NIGHT};

/// Answers what the loop is asked for: posted alerts of a core of its own, silences and holds of the
/// picture.
pub(crate) fn loop_path(view: watch::Receiver<Arc<View>>) -> mpsc::Sender<LoopAsk> {
    let (asks, mut asked) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut core = Core::new();
        let notify = notify();
        let policy = Policy { notify, ..Policy::default() };
        core.step(NIGHT, &Event::Policy(Box::new(policy)));
        core.step(NIGHT, &Event::Posted(alerts()));
        // The waits of the groups are over.
        core.step(NIGHT + Span::secs(31), &Event::Tick);
        while let Some(ask) = asked.recv().await {
            match ask {
                LoopAsk::Post { alerts, reply } => {
                    let now = view.borrow().now;
                    core.step(now, &Event::Posted(alerts));
                    drop(reply.send(Ok(()))); // Whoever asked may have gone away.
                }
                LoopAsk::Listing { reply } => {
                    let mut listing = core.listing();
                    let shown = view.borrow();
                    listing.silences = shown.silences.clone();
                    listing.holds = shown.holds.clone();
                    drop(reply.send(listing));
                }
            }
        }
    });
    asks
}

/// Whom to tell: a tree with a branch that is silent on working days, a chain, a digest.
fn notify() -> NotifyPolicy {
    let receiver = |name: &str, channels: &[&str]| ReceiverPolicy {
        name: name.to_owned(),
        channels: channels.iter().map(|channel| (format!("{name}/{channel}"), true)).collect(),
        ..ReceiverPolicy::default()
    };
    let matchers = |texts: &[&str]| {
        Matchers(texts.iter().map(|text| text.parse().expect("a matcher")).collect())
    };
    let node = |to: &str, of: &[&str], by: &[&str]| Node {
        matchers: matchers(of),
        group_by: GroupBy::Labels(by.iter().map(|name| (*name).to_owned()).collect()),
        ..Node::root(to)
    };
    let mut routing = Routing::to("ops");
    let east = node("night", &["cluster=\"east\""], &["alertname", "cluster"]);
    let east = routing.add(0, Node { continues: true, ..east });
    routing.add(east, node("daily", &["severity=~\"warning|info\""], &["cluster"]));
    let weekly = node("ops", &["team=\"web\""], &["service"]);
    routing.add(0, Node { mute: vec!["working days".to_owned()], ..weekly });
    let week = TimeInterval {
        weekdays: vec!["monday:friday".parse().expect("days")],
        ..TimeInterval::default()
    };
    routing.intervals.insert("working days".to_owned(), vec![week]);
    let step = |after, to: &str| EscalationStep { after, to: vec![to.to_owned()] };
    NotifyPolicy {
        receivers: vec![
            ReceiverPolicy {
                fallback: vec![Fallback { to: "night".to_owned(), after: Span::minutes(5) }],
                ..receiver("ops", &["webhook[0]", "email[0]"])
            },
            receiver("night", &["webhook[0]", HOSTILE]),
            ReceiverPolicy {
                digest: Some(Digest::default()),
                min_level: Level::Info,
                ..receiver("daily", &["email[0]"])
            },
        ],
        routing: Some(routing),
        escalations: vec![Escalation {
            name: "nights".to_owned(),
            matchers: Matchers::default(),
            min_level: Level::Error,
            steps: vec![step(Span::ZERO, "ops"), step(Span::minutes(30), "night")],
            repeat: Some(Span::hours(1)),
        }],
        ..NotifyPolicy::default()
    }
}

fn alerts() -> Vec<AlertIn> {
    let one = |host: usize, name: &str, summary: &str| AlertIn {
        labels: Labels::from([
            ("alertname", name),
            ("cluster", "east"),
            ("host", format!("rack4-{host}").as_str()),
            ("severity", "warning"),
        ]),
        annotations: Labels::from([("summary", summary)]),
        starts_at: Some(NIGHT - Span::minutes(40)),
        ends_at: Some(NIGHT + Span::hours(30)),
        generator_url: String::new(),
    };
    let mut all: Vec<AlertIn> = (0..60)
        .map(|host| one(host, "PowerLost", &format!("rack4-{host} runs on one feed")))
        .collect();
    all.push(one(60, HOSTILE, HOSTILE));
    all
}
