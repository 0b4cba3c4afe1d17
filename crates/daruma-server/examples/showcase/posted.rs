//! What other people's rules post, held and routed by a real core.

use std::sync::Arc;

use daruma_alert::{AlertIn, Core, Event, NotifyPolicy, Policy, View};
use daruma_model::{Labels, Span};
use daruma_server::LoopAsk;
use tokio::sync::{mpsc, watch};

use crate::scene::{HOSTILE, NIGHT};

/// Answers what the loop is asked for: posted alerts of a core of its own, silences and holds of the
/// picture.
pub(crate) fn loop_path(view: watch::Receiver<Arc<View>>) -> mpsc::Sender<LoopAsk> {
    let (asks, mut asked) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut core = Core::new();
        let notify = NotifyPolicy { routing: Some(Default::default()), ..NotifyPolicy::default() };
        let policy = Policy { notify, ..Policy::default() };
        core.step(NIGHT, &Event::Policy(Box::new(policy)));
        core.step(NIGHT, &Event::Posted(alerts()));
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
