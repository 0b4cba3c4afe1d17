//! Asks vendors what became of messages that they took, where they can be asked; what they tell goes the
//! way of every receipt. When to ask again follows from the message alone, so a restart forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use daruma_alert::{Command, Delivery, Event, Outgoing, View};
use daruma_model::{AttemptOutcome, Clock, Span, Time};
use daruma_notify::{Sender, Sent};
use tokio::sync::{mpsc, watch};

use crate::control::Input;

/// How often it is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A message is given so long to arrive before anybody asks.
const FIRST_AFTER: Span = Span::secs(5);
/// Vendors know for longer; after so long it does not help to hear.
const ASK_FOR: Span = Span::hours(72);

/// When each message was asked about last.
#[derive(Default)]
struct Asked(BTreeMap<u64, Time>);

impl Asked {
    /// Messages that are worth a question now: each is asked about after 5 s, and then again once it is
    /// half as old again, for three days.
    fn due<'a>(
        &mut self,
        ledger: &'a [Outgoing],
        now: Time,
        inquires: impl Fn(&str) -> bool,
    ) -> Vec<(&'a Outgoing, Time)> {
        let mut due = Vec::new();
        let mut still = BTreeMap::new();
        for out in ledger.iter().filter(|out| out.delivery == Delivery::Accepted) {
            let taken = out.attempts.iter().rfind(|it| it.outcome == AttemptOutcome::Accepted);
            let Some(taken) = taken.filter(|_| inquires(&out.message.channel)) else { continue };
            let at = taken.at + taken.took;
            let mut last = self.0.get(&out.message.id).copied().unwrap_or(at);
            let pause = FIRST_AFTER.max(Span(last.since(at).0 / 2));
            if now.since(last) >= pause && now.since(at) <= ASK_FOR {
                last = now;
                due.push((out, at));
            }
            still.insert(out.message.id, last);
        }
        self.0 = still;
        due
    }
}

/// Asks for as long as the loop runs.
pub async fn run(
    view: watch::Receiver<Arc<View>>,
    sender: Arc<RwLock<Arc<Sender>>>,
    inbox: mpsc::Sender<Input>,
    clock: Clock,
) {
    let mut asked = Asked::default();
    let mut refused = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let sender = Arc::clone(&sender.read().unwrap_or_else(PoisonError::into_inner));
        let view = Arc::clone(&view.borrow());
        for (out, at) in asked.due(&view.ledger, clock(), |channel| sender.inquires(channel)) {
            let message = &out.message;
            let (channel, created) = (message.channel.as_str(), message.created);
            let known: BTreeSet<String> = out.receipts.iter().map(|it| it.part.clone()).collect();
            let sent = Sent { message: message.id, channel, created, at };
            let (heard, ended) = sender.inquire(sent, &known).await;
            for receipt in heard {
                let event =
                    Event::Commanded { by: channel.to_owned(), command: Command::Receipt(receipt) };
                if inbox.send(Input::of(event)).await.is_err() {
                    return;
                }
            }
            // Said when it begins: whoever lacks a right lacks it at every question.
            match ended {
                Ok(()) => drop(refused.remove(channel)),
                Err(why) => {
                    if refused.insert(channel.to_owned(), why.clone()).is_none() {
                        let said = "does not tell what became of messages";
                        crate::log::warning(&format!("{channel} {said}: {why}"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use daruma_model::{Attempt, Message, MessageStatus};

    use super::*;

    fn taken(id: u64, delivery: Delivery) -> Outgoing {
        let accepted = Attempt {
            message: id,
            number: 1,
            at: Time(0),
            took: Span::ZERO,
            outcome: AttemptOutcome::Accepted,
            said: String::new(),
            retry_after: None,
        };
        Outgoing {
            message: Message::test(id, "ops/sms[0]", MessageStatus::Firing, Time(0)),
            delivery,
            tries: 1,
            next_at: Time(0),
            attempts: VecDeque::from([accepted]),
            first: 0,
            unreached: None,
            receipts: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_decided_is_asked_about_ever_more_seldom_for_three_days() {
        let (ledger, mut asked) = ([taken(1, Delivery::Accepted)], Asked::default());
        let at: Vec<i64> = (0..400_000)
            .filter(|second| {
                let now = Time::from_secs(*second);
                !asked.due(&ledger, now, |_| true).is_empty()
            })
            .collect();
        assert_eq!(at[..6], [5, 10, 15, 23, 35, 53]);
        let last = at[at.len() - 1];
        assert!((120_000..=72 * 3600).contains(&last), "{at:?}");
        assert!(at.len() < 40, "{at:?}");
    }

    #[test]
    fn only_what_was_taken_and_can_be_asked_about_is_asked_about() {
        let now = Time::from_secs(60);
        let due =
            |out: Outgoing, inquires: bool| Asked::default().due(&[out], now, |_| inquires).len();
        assert_eq!(due(taken(1, Delivery::Accepted), true), 1);
        assert_eq!(due(taken(1, Delivery::Accepted), false), 0);
        assert_eq!(due(taken(1, Delivery::Delivered), true), 0);
        assert_eq!(due(taken(1, Delivery::Rejected), true), 0);
    }
}
