//! One attempt at a message: the channel phrases it, this module brings it there and back, the channel
//! judges the answer, and the ledger gets the far side's own words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daruma_model::{Attempt, AttemptOutcome, Clock, Message, MessageStatus, Span, Time};
use tokio::time::Instant;

use crate::channel::{Channel, Context, Open, Reach, ReceiverConfig, Request, Verdict};
use crate::http;
use crate::smtp::{self, Heard, SmtpReach};
use crate::text::{line, said};

/// How long an attempt over HTTP may take unless its channel says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// A far side may ask for a pause, not for silence for ever.
const RETRY_AFTER_MAX: Span = Span::hours(6);
/// Messages of which it is remembered who has them already.
const PARTIAL_MAX: usize = 1000;

/// Brings messages to the channels of receivers, one attempt at a time.
pub struct Sender {
    receivers: Vec<ReceiverConfig>,
    channels: BTreeMap<String, Box<dyn Channel>>,
    clock: Clock,
    context: Context,
    /// By channel and message: recipients whom an attempt reached that failed for others.
    reached: Mutex<BTreeMap<(u64, String), BTreeSet<String>>>,
}

/// Why receivers cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// Two of them have the same name.
    #[error("two receivers are called `{0}`; give each its own name")]
    Twice(String),
    /// One has no name.
    #[error("a receiver has no name; set `name`")]
    Nameless,
}

/// What came of an attempt, before it is dated.
struct Outcome {
    verdict: AttemptOutcome,
    said: String,
    retry_after: Option<Span>,
}

impl Sender {
    /// Takes receivers whose names differ. Files they refer to are read at each attempt, so that a
    /// secret may be rotated; [`Sender::warnings`] tells what would fail now.
    ///
    /// # Errors
    /// Two receivers of one name, or one without.
    pub fn new(receivers: Vec<ReceiverConfig>, clock: Clock) -> Result<Sender, SenderError> {
        let mut names = BTreeSet::new();
        for receiver in &receivers {
            if receiver.name.is_empty() {
                return Err(SenderError::Nameless);
            }
            if !names.insert(receiver.name.as_str()) {
                return Err(SenderError::Twice(receiver.name.clone()));
            }
        }
        let channels = receivers.iter().cloned().flat_map(ReceiverConfig::opened).collect();
        let (context, reached) = (Context::default(), Mutex::default());
        Ok(Sender { receivers, channels, clock, context, reached })
    }

    /// Where people look at incidents, such as `https://daruma.example.org`: messages link there.
    #[must_use]
    pub fn with_external_url(mut self, url: &str) -> Sender {
        url.trim_end_matches('/').clone_into(&mut self.context.external_url);
        self
    }

    /// The channels of a receiver, such as `ops/webhook[0]`; none if there is no such receiver.
    #[must_use]
    pub fn channels(&self, receiver: &str) -> Vec<String> {
        let found = self.receivers.iter().find(|config| config.name == receiver);
        found
            .map(ReceiverConfig::channels)
            .unwrap_or_default()
            .into_iter()
            .map(|(n, _)| n)
            .collect()
    }

    /// What would keep a channel from sending now (a secret file that cannot be read), one sentence
    /// each, naming the channel. Reads files, reaches nobody.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let opened =
            self.channels.iter().map(|(name, channel)| (name, channel.open(&self.context)));
        opened.filter_map(|(name, open)| open.err().map(|why| format!("{name}: {why}"))).collect()
    }

    /// One attempt at `message` over its channel, the `number`th. Takes at most the channel's timeout
    /// (for mail: of each server); never panics, never retries.
    pub async fn send(&self, message: &Message, number: u32) -> Attempt {
        let (at, begun) = ((self.clock)(), Instant::now());
        let outcome = self.attempt(message, at).await;
        let took = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Attempt {
            message: message.id,
            number,
            at,
            took: Span::millis(took),
            outcome: outcome.verdict,
            said: outcome.said,
            retry_after: outcome.retry_after,
        }
    }

    async fn attempt(&self, message: &Message, now: Time) -> Outcome {
        let Some(channel) = self.channels.get(&message.channel) else {
            let words =
                format!("the configuration has no channel `{}`", line(&message.channel, 200));
            return Outcome::of(AttemptOutcome::Rejected, words);
        };
        if message.status == MessageStatus::Resolved && !channel.send_resolved() {
            let words = "not sent: `send_resolved` is false for this channel".to_owned();
            return Outcome::of(AttemptOutcome::Accepted, words);
        }
        let Open { notifier, reach, secrets } = match channel.open(&self.context) {
            Ok(open) => open,
            // A file may be in the middle of its rotation.
            Err(why) => return Outcome::of(AttemptOutcome::Retry, line(&why, 500)),
        };
        let judge = |status: u16, body: &str| notifier.verdict(status, body);
        let mut outcome = match (notifier.request(message), reach) {
            (Request::Post { url, headers, body }, Reach::Http(reach)) => {
                match http::post(&reach, &url, headers, body).await {
                    Ok(answer) => judged(&answer, judge, now),
                    Err(why) => Outcome::of(AttemptOutcome::Retry, why),
                }
            }
            (Request::Mail { from, to, bytes }, Reach::Smtp(reach)) => {
                self.mail(message, &reach, &from, &to, &bytes, judge).await
            }
            (Request::Post { .. }, Reach::Smtp(_)) | (Request::Mail { .. }, Reach::Http(_)) => {
                Outcome::of(AttemptOutcome::Rejected, "the channel mixes mail and HTTP".to_owned())
            }
        };
        outcome.said = said(&outcome.said, &secrets);
        outcome
    }

    async fn mail(
        &self,
        message: &Message,
        reach: &SmtpReach,
        from: &lettre::Address,
        to: &[lettre::Address],
        bytes: &[u8],
        judge: impl Fn(u16, &str) -> Verdict,
    ) -> Outcome {
        let key = (message.id, message.channel.clone());
        let reached = || self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let have = reached().get(&key).cloned().unwrap_or_default();
        let left: Vec<_> =
            to.iter().filter(|to| !have.contains(&to.to_string())).cloned().collect();
        let heeded = smtp::deliver(reach, from, &left, bytes).await;

        let verdict = |heard: &Heard| match heard {
            Heard::Said(code, words) => (outcome(&judge(*code, words)), format!("{code} {words}")),
            Heard::Nothing(why) => (AttemptOutcome::Retry, why.clone()),
            Heard::Stopped(why) => (AttemptOutcome::Rejected, why.clone()),
        };
        let mut words = Vec::new();
        let mut outcomes = Vec::new();
        for (server, heard) in &heeded.servers {
            let (outcome, heard) = verdict(heard);
            words.push(format!("{server}: {heard}"));
            // What an earlier server said is history once another one dealt with the recipients.
            if heeded.recipients.is_empty() {
                outcomes.push(outcome);
            }
        }
        let mut now_have = have;
        for (address, heard) in &heeded.recipients {
            let (outcome, heard) = verdict(heard);
            if to.len() > 1 {
                words.push(format!("{address}: {heard}"));
            } else {
                words.push(heard);
            }
            if outcome == AttemptOutcome::Accepted {
                now_have.insert(address.to_string());
            }
            outcomes.push(outcome);
        }
        // Whoever can still be reached is worth another attempt; whoever cannot makes it known.
        let outcome = [AttemptOutcome::Retry, AttemptOutcome::Rejected]
            .into_iter()
            .find(|worst| outcomes.contains(worst))
            .unwrap_or(AttemptOutcome::Accepted);
        let mut reached = reached();
        if outcome == AttemptOutcome::Retry && !now_have.is_empty() {
            reached.insert(key, now_have);
            while reached.len() > PARTIAL_MAX {
                reached.pop_first();
            }
        } else {
            reached.remove(&key);
        }
        Outcome::of(outcome, words.join("; "))
    }
}

impl Outcome {
    fn of(verdict: AttemptOutcome, said: String) -> Outcome {
        Outcome { verdict, said, retry_after: None }
    }
}

fn outcome(verdict: &Verdict) -> AttemptOutcome {
    match verdict {
        Verdict::Accepted => AttemptOutcome::Accepted,
        Verdict::Retry(_) => AttemptOutcome::Retry,
        Verdict::Rejected(_) => AttemptOutcome::Rejected,
    }
}

fn judged(answer: &http::Answer, judge: impl Fn(u16, &str) -> Verdict, now: Time) -> Outcome {
    let verdict = judge(answer.status, &answer.body);
    let ours = match verdict {
        Verdict::Accepted => None,
        Verdict::Retry(word) | Verdict::Rejected(word) => word,
    };
    let mut words = format!("{} {}", answer.status, answer.reason);
    for more in [ours, answer.cut].into_iter().flatten() {
        words.push_str("; ");
        words.push_str(more);
    }
    if !answer.body.is_empty() {
        words.push_str(": ");
        words.push_str(&answer.body);
    }
    let verdict = outcome(&verdict);
    let asked = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let retry_after = asked.filter(|_| verdict == AttemptOutcome::Retry);
    Outcome { verdict, said: words, retry_after }
}

/// `Retry-After`: seconds, or a date; at most six hours.
fn retry_after(text: &str, now: Time) -> Option<Span> {
    let text = text.trim();
    let span = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than a number can have ask for longer than the longest.
        text.parse().map_or(RETRY_AFTER_MAX, Span::secs)
    } else {
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        Time(parser.parse_timestamp(text).ok()?.as_millisecond()).since(now)
    };
    Some(span.min(RETRY_AFTER_MAX))
}
