//! One attempt at a message: the channel phrases it, this module brings it there and back, the channel
//! judges the answer, and the ledger gets the far side's own words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_model::{
    Attempt, AttemptOutcome, Clock, Message, MessageStatus, Receipt, ReceiptState, Span, Time,
};
use daruma_template::Templates;
use tokio::time::Instant;

use crate::channel::{
    AckTokens, Call, Channel, Context, Login, Open, Reach, ReceiverConfig, Request, Sent, To,
    Verdict,
};
use crate::declared::Judged;
use crate::http::{self, HttpReach};
use crate::pace::Pace;
use crate::secret::Secret;
use crate::sign::sha256_hex;
use crate::smtp::{self, Heard, SmtpReach};
use crate::text::{line, said, shapes};
use crate::trial::{sample, trial_message};

/// How long an attempt over HTTP may take unless its channel says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// A far side may ask for a pause, not for silence for ever.
const RETRY_AFTER_MAX: Span = Span::hours(6);
/// Entries of each table of what is remembered.
const REMEMBERED_MAX: usize = 1000;
/// An attempt waits so long for its place in line; for a later place the outbox waits.
const PLACE_WAIT_MAX: Span = Span::secs(60);

/// Brings messages to the channels of receivers, one attempt at a time.
pub struct Sender {
    receivers: Vec<ReceiverConfig>,
    channels: BTreeMap<String, Box<dyn Channel>>,
    clock: Clock,
    context: Context,
    memory: Arc<Mutex<Memory>>,
}

/// What one attempt leaves for the next. Nothing that must survive: losing it costs a repetition.
#[derive(Default)]
struct Memory {
    /// By message and channel: recipients whom an attempt reached that failed for others.
    reached: BTreeMap<(u64, String), BTreeSet<String>>,
    /// By incident and channel: by what the far side knows the message to change.
    handles: BTreeMap<(u64, String), String>,
    /// By account at the far side: how fast it may be told.
    paces: BTreeMap<String, Pace>,
    /// By login: the token.
    tokens: BTreeMap<String, Secret>,
}

fn bounded<K: Ord, V>(table: &mut BTreeMap<K, V>) {
    while table.len() > REMEMBERED_MAX {
        table.pop_first();
    }
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
        let templates = Arc::new(Templates::built_in());
        let (context, memory) = (Context { templates, ..Context::default() }, Arc::default());
        Ok(Sender { receivers, channels, clock, context, memory })
    }

    /// The templates that those of receivers may ask for; without it, the built-in ones.
    #[must_use]
    pub fn with_templates(mut self, templates: Templates) -> Sender {
        self.context.templates = Arc::new(templates);
        self
    }

    /// Goes on where `earlier` is: who was reached, which messages can be changed, and places in line.
    #[must_use]
    pub fn in_place_of(mut self, earlier: &Sender) -> Sender {
        self.memory = Arc::clone(&earlier.memory);
        self
    }

    /// Where people look at incidents, such as `https://daruma.example.org`: messages link there.
    #[must_use]
    pub fn with_external_url(mut self, url: &str) -> Sender {
        url.trim_end_matches('/').clone_into(&mut self.context.external_url);
        self
    }

    /// Messages carry a link by which whoever reads one takes the incident on: below the address of the
    /// pages, `/ack/` and what `tokens` makes. It must make the same for every attempt at a message.
    #[must_use]
    pub fn with_ack_tokens(mut self, tokens: Arc<AckTokens>) -> Sender {
        self.context.ack_tokens = Some(tokens);
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

    /// What would keep a channel from sending now (a secret file that cannot be read), or from sending
    /// the configuration's own words whole, one sentence each, naming the channel: every channel phrases
    /// the beginning and the end of an alert called `alertname`. Reads files, reaches nobody.
    #[must_use]
    pub fn warnings(&self, alertname: &str) -> Vec<String> {
        let mut all = Vec::new();
        // Whoever made a place that never sends has said so, with its line.
        for (name, channel) in self.channels.iter().filter(|(_, it)| it.never().is_none()) {
            all.extend(channel.advice().into_iter().map(|word| format!("{name}: {word}")));
            let mut context = self.context_at((self.clock)());
            context.checks = true;
            // As long as a real one, and opens nothing.
            context.ack_tokens =
                Some(Arc::new(|message| Some("x".repeat(56 + message.receiver.len() * 2))));
            match channel.open(&context) {
                Err(why) => all.push(format!("{name}: {why}")),
                Ok(open) => {
                    for status in [MessageStatus::Firing, MessageStatus::Resolved] {
                        if status == MessageStatus::Resolved && !channel.send_resolved() {
                            continue;
                        }
                        let message = sample(name, alertname, status, context.now);
                        for part in open.notifier.parts().iter().take(1) {
                            let to = To { part, ..To::default() };
                            drop(open.notifier.request(&message, to));
                        }
                    }
                    all.extend(context.taken_notes().into_iter().map(|n| format!("{name}: {n}")));
                }
            }
        }
        all
    }

    /// Sends a message that says it is a test, and returns the line for the ledger. What a far side
    /// would keep open (PagerDuty) is closed at once.
    pub async fn send_test(&self, channel: &str, status: MessageStatus) -> Attempt {
        self.send(&trial_message(channel, status, (self.clock)()), 1).await
    }

    /// Judges what came to the address of a message's receipts; `None`: nothing of interest.
    ///
    /// # Errors
    /// The channel tells nothing later, or nobody knows who says so; the text holds no secret.
    pub fn receipt(
        &self,
        channel: &str,
        message: u64,
        signature: &str,
        body: &[u8],
    ) -> Result<Option<Receipt>, String> {
        let found = self.channels.get(channel);
        let found = found.ok_or_else(|| "this channel tells nothing later".to_owned())?;
        let context = self.context_at((self.clock)());
        found.receipt(&context, &Call { channel, message, signature, body })
    }

    /// Whether the far side of `channel` is to be asked what became of messages.
    #[must_use]
    pub fn inquires(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|channel| channel.inquires())
    }

    /// Asks the far side what became of `sent`, at each recipient but those in `known`. What it cannot
    /// tell yet is left out. Takes at most the channel's timeout for each recipient.
    ///
    /// # Errors
    /// What was heard until then, and why no more: it cannot be reached, or does not tell us; the text
    /// holds no secret.
    pub async fn inquire(
        &self,
        sent: Sent<'_>,
        known: &BTreeSet<String>,
    ) -> (Vec<Receipt>, Result<(), String>) {
        let mut heard = Vec::new();
        let Some(channel) = self.channels.get(sent.channel) else { return (heard, Ok(())) };
        let open = match channel.open(&self.context_at((self.clock)())) {
            Ok(open) => open,
            Err(why) => return (heard, Err(line(&why, 500))),
        };
        let parts = open.notifier.parts();
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for part in parts.iter().filter(|part| !known.contains(*part)) {
            match inquire(&open, &sent, part).await {
                Ok(None) => {}
                Ok(Some((state, word))) => heard.push(Receipt {
                    message: sent.message,
                    channel: sent.channel.to_owned(),
                    part: part.clone(),
                    of,
                    state,
                    said: word,
                }),
                Err(why) => return (heard, Err(said(&why, &shapes(&open.secrets)))),
            }
        }
        (heard, Ok(()))
    }

    /// Tells the far side of `message` that somebody has taken the incident on; `None` if its channel
    /// has no word for that.
    pub async fn acknowledge(&self, message: &Message) -> Option<Attempt> {
        let (at, begun) = ((self.clock)(), Instant::now());
        let context = self.context_at(at);
        let open = self.channels.get(&message.channel)?.open(&context);
        let outcome = match open {
            Err(why) => Outcome::of(AttemptOutcome::Retry, line(&why, 500)),
            Ok(open) => {
                let (Reach::Http(reach), Some(Request::Post { url, headers, body })) =
                    (&open.reach, open.notifier.acknowledge(message))
                else {
                    return None;
                };
                let mut outcome = match http::post(reach, &url, headers, body).await {
                    Ok(answer) => {
                        let judged = open.notifier.verdict(answer.status, &answer.body);
                        judged_answer(&answer, &judged, at).into_outcome()
                    }
                    Err(why) => Outcome::of(AttemptOutcome::Retry, why),
                };
                outcome.said = said(&outcome.said, &shapes(&open.secrets));
                outcome
            }
        };
        Some(outcome.dated(message.id, 1, at, begun))
    }

    fn context_at(&self, now: Time) -> Context {
        Context { now, notes: Arc::default(), ..self.context.clone() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt at `message` over its channel, the `number`th. Takes at most the channel's timeout
    /// (for mail: of each server; where recipients are asked one by one: for each) and a minute of
    /// waiting for a place in line; never panics, never retries.
    pub async fn send(&self, message: &Message, number: u32) -> Attempt {
        let (at, begun) = ((self.clock)(), Instant::now());
        let mut outcome = self.attempt(message, at).await;
        if outcome.verdict == AttemptOutcome::Accepted
            && let Some(end) = crate::trial::end_of(message)
        {
            let ended = self.attempt(&end, at).await;
            outcome.said = said(&format!("{}; closed again: {}", outcome.said, ended.said), &[]);
            outcome.verdict = ended.verdict;
        }
        outcome.dated(message.id, number, at, begun)
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
        if let Some(why) = channel.never() {
            return Outcome::of(AttemptOutcome::Rejected, line(why, 500));
        }
        let context = self.context_at(now);
        let mut open = match channel.open(&context) {
            Ok(open) => open,
            // A file may be in the middle of its rotation.
            Err(why) => return Outcome::of(AttemptOutcome::Retry, line(&why, 500)),
        };
        let mut outcome = match self.logged_in(&mut open, now).await {
            Ok(token) => self.parts(message, &open, &token, now).await,
            Err(outcome) => outcome,
        };
        for note in context.taken_notes() {
            outcome.said.push_str("; ");
            outcome.said.push_str(&note);
        }
        // Whoever reads the ledger may not use the link of somebody else.
        open.secrets.extend(context.ack_token(message));
        outcome.said = said(&outcome.said, &shapes(&open.secrets));
        outcome
    }

    /// The token of a channel that must log in: the one at hand, or a new one.
    async fn logged_in(&self, open: &mut Open, now: Time) -> Result<Secret, Outcome> {
        let (Some(Login { url, answers }), Reach::Http(reach)) = (&open.login, &open.reach) else {
            return Ok(Secret::default());
        };
        let key = sha256_hex(url.expose().as_bytes());
        let known = self.memory().tokens.get(&key).cloned();
        let token = match known {
            Some(token) => token,
            None => {
                let answer = http::get(reach, url)
                    .await
                    .map_err(|why| Outcome::of(AttemptOutcome::Retry, format!("login: {why}")))?;
                let judged = answers.judge(answer.status, &answer.body);
                let Some(token) = judged.handle.clone().map(Secret::new) else {
                    let mut outcome = judged_answer(&answer, &judged, now).into_outcome();
                    if outcome.verdict == AttemptOutcome::Accepted {
                        outcome.verdict = AttemptOutcome::Retry;
                    }
                    outcome.said = format!("login: {}", outcome.said);
                    return Err(outcome);
                };
                let mut memory = self.memory();
                memory.tokens.insert(key, token.clone());
                bounded(&mut memory.tokens);
                token
            }
        };
        open.secrets.push(token.clone());
        Ok(token)
    }

    /// Asks for each part that was not reached yet.
    async fn parts(&self, message: &Message, open: &Open, token: &Secret, now: Time) -> Outcome {
        let key = (message.id, message.channel.clone());
        let mut have = self.memory().reached.get(&key).cloned().unwrap_or_default();
        let parts = open.notifier.parts();
        let mut outcomes: Vec<(Verdict, String)> = Vec::new();
        let mut retry_after = None;
        for part in parts.iter().filter(|part| !have.contains(*part)).cloned().collect::<Vec<_>>() {
            let one = self.part(message, open, token, &part, now).await;
            if one.verdict == Verdict::Accepted {
                have.insert(part.clone());
            }
            retry_after = retry_after.max(one.retry_after);
            let words = if part.is_empty() { one.said } else { format!("{part}: {}", one.said) };
            outcomes.push((one.verdict, words));
        }
        // Whoever can still be reached is worth another attempt; whoever cannot makes it known. Those
        // who left count only if nobody is left.
        let any = |is: fn(&Verdict) -> bool| outcomes.iter().any(|(verdict, _)| is(verdict));
        let verdict = if any(|verdict| matches!(verdict, Verdict::Retry(_))) {
            AttemptOutcome::Retry
        } else if any(|verdict| matches!(verdict, Verdict::Rejected(_))) || have.is_empty() {
            AttemptOutcome::Rejected
        } else {
            AttemptOutcome::Accepted
        };
        let mut memory = self.memory();
        if verdict == AttemptOutcome::Retry && !have.is_empty() {
            memory.reached.insert(key, have);
            bounded(&mut memory.reached);
        } else {
            memory.reached.remove(&key);
        }
        // The failures first, since the ledger keeps the beginning.
        outcomes.sort_by_key(|(verdict, _)| *verdict == Verdict::Accepted);
        let said = outcomes.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; ");
        Outcome { verdict, said, retry_after }
    }

    async fn part(
        &self,
        message: &Message,
        open: &Open,
        token: &Secret,
        part: &str,
        now: Time,
    ) -> Part {
        let rates = open.notifier.declared().pace;
        let account = account(message, open);
        let wait = {
            let mut memory = self.memory();
            let pace = memory.paces.entry(account.clone()).or_default();
            let wait = pace.reserve(rates, (self.clock)());
            if wait > PLACE_WAIT_MAX {
                pace.give_back();
                let words = "held back: the vendor takes no more messages at this time".to_owned();
                return Part {
                    verdict: Verdict::Retry(None),
                    said: words,
                    retry_after: Some(wait),
                };
            }
            bounded(&mut memory.paces);
            wait
        };
        if wait > Span::ZERO {
            tokio::time::sleep(wait.to_std()).await;
        }
        let about = (message.incident, message.channel.clone());
        // Digests and tests are about no incident: none of them takes the place of another.
        let handle = self.memory().handles.get(&about).filter(|_| message.incident != 0).cloned();
        let to = To { part, handle: handle.as_deref(), token: token.expose() };
        match (open.notifier.request(message, to), &open.reach) {
            (Request::Post { url, headers, body }, Reach::Http(reach)) => {
                let answer = match post(reach, &url, headers, body).await {
                    Ok(answer) => answer,
                    Err(part) => return part,
                };
                let judged = open.notifier.verdict(answer.status, &answer.body);
                let part = judged_answer(&answer, &judged, now);
                self.learn(message, open, &account, &judged, part.retry_after);
                part
            }
            (Request::Run { argv, env, input }, Reach::Run(timeout)) => {
                match crate::exec::run(&argv, &env, input, *timeout).await {
                    Ok((status, words)) => {
                        let verdict = open.notifier.verdict(status, &words).verdict;
                        let said = match verdict.word() {
                            Some(word) => format!("exit {status}; {word}: {words}"),
                            None => format!("exit {status}: {words}"),
                        };
                        Part { verdict, said, retry_after: None }
                    }
                    Err(why) => {
                        Part { verdict: Verdict::Retry(None), said: why, retry_after: None }
                    }
                }
            }
            (Request::Mail { from, to, bytes }, Reach::Smtp(reach)) => {
                let judge = |status: u16, body: &str| open.notifier.verdict(status, body).verdict;
                let outcome = self.mail(message, reach, &from, &to, &bytes, judge).await;
                let verdict = match outcome.verdict {
                    AttemptOutcome::Accepted => Verdict::Accepted,
                    AttemptOutcome::Retry => Verdict::Retry(None),
                    AttemptOutcome::Rejected => Verdict::Rejected(None),
                };
                Part { verdict, said: outcome.said, retry_after: outcome.retry_after }
            }
            _ => {
                let words = "the channel mixes protocols".to_owned();
                Part { verdict: Verdict::Rejected(None), said: words, retry_after: None }
            }
        }
    }

    /// What an answer teaches for the next request.
    fn learn(
        &self,
        message: &Message,
        open: &Open,
        account: &str,
        judged: &Judged,
        wait: Option<Span>,
    ) {
        let mut memory = self.memory();
        if let Some(wait) = wait {
            let until = (self.clock)() + wait;
            memory.paces.entry(account.to_owned()).or_default().pause(until);
        }
        if judged.stale
            && let Some(login) = &open.login
        {
            memory.tokens.remove(&sha256_hex(login.url.expose().as_bytes()));
        }
        let about = (message.incident, message.channel.clone());
        let over = message.status == MessageStatus::Resolved && judged.verdict == Verdict::Accepted;
        if judged.anew || over || message.incident == 0 {
            memory.handles.remove(&about);
        } else if let (true, Some(handle)) = (open.notifier.declared().edits, &judged.handle) {
            memory.handles.insert(about, handle.clone());
            bounded(&mut memory.handles);
        }
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
        // Beside the channel's one nameless part, which is kept under the channel's own name.
        let key = (message.id, format!("{} recipients", message.channel));
        let have = self.memory().reached.get(&key).cloned().unwrap_or_default();
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
        let reached = &mut self.memory().reached;
        if outcome == AttemptOutcome::Retry && !now_have.is_empty() {
            reached.insert(key, now_have);
            bounded(reached);
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

    fn dated(self, message: u64, number: u32, at: Time, begun: Instant) -> Attempt {
        let took = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Attempt {
            message,
            number,
            at,
            took: Span::millis(took),
            outcome: self.verdict,
            said: self.said,
            retry_after: self.retry_after,
        }
    }
}

/// What came of asking for one part.
struct Part {
    verdict: Verdict,
    said: String,
    retry_after: Option<Span>,
}

impl Part {
    fn into_outcome(self) -> Outcome {
        let verdict = outcome(&self.verdict);
        Outcome { verdict, said: self.said, retry_after: self.retry_after }
    }
}

fn outcome(verdict: &Verdict) -> AttemptOutcome {
    match verdict {
        Verdict::Accepted => AttemptOutcome::Accepted,
        Verdict::Retry(_) => AttemptOutcome::Retry,
        Verdict::Rejected(_) | Verdict::Gone(_) => AttemptOutcome::Rejected,
    }
}

/// Asks about one recipient.
async fn inquire(
    open: &Open,
    sent: &Sent<'_>,
    part: &str,
) -> Result<Option<(ReceiptState, String)>, String> {
    let (Some(Request::Post { url, headers, body }), Reach::Http(reach)) =
        (open.notifier.inquiry(sent, part), &open.reach)
    else {
        return Ok(None);
    };
    let answer = http::post(reach, &url, headers, body).await?;
    let unread = || format!("{} {}: {}", answer.status, answer.reason, answer.body);
    let json = serde_json::from_str(&answer.body).map_err(|_| unread())?;
    open.notifier.heard(sent, &json)
}

/// Who we are to the far side, as far as it counts how much we say.
fn account(message: &Message, open: &Open) -> String {
    let mut words: Vec<&str> = open.secrets.iter().map(Secret::expose).collect();
    if words.is_empty() {
        words.push(&message.channel);
    }
    let kind = open.notifier.declared().kind;
    format!("{kind} {}", &sha256_hex(words.join("\n").as_bytes())[..16])
}

async fn post(
    reach: &HttpReach,
    url: &Secret,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Result<http::Answer, Part> {
    let lost = |why| Part { verdict: Verdict::Retry(None), said: why, retry_after: None };
    http::post(reach, url, headers, body).await.map_err(lost)
}

fn judged_answer(answer: &http::Answer, judged: &Judged, now: Time) -> Part {
    let mut words = format!("{} {}", answer.status, answer.reason);
    for more in [judged.verdict.word(), answer.cut].into_iter().flatten() {
        words.push_str("; ");
        words.push_str(more);
    }
    if !answer.body.is_empty() {
        words.push_str(": ");
        words.push_str(&answer.body);
    }
    let asked = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let asked = asked.max(judged.wait.map(|wait| wait.min(RETRY_AFTER_MAX)));
    let retry_after = asked.filter(|_| matches!(judged.verdict, Verdict::Retry(_)));
    Part { verdict: judged.verdict.clone(), said: words, retry_after }
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
