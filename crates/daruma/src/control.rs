//! The one loop where time and disk meet the core: an event is kept, then the core decides, then the
//! decisions are kept, and only then does a performer see them.
//!
//! Never: a performer before the record; an answer to a command before it is durable; a lost event
//! (what cannot be written waits, and the queue in front of it fills visibly).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daruma_alert::{Core, Effect, Event, Listing, View};
use daruma_journal::{Appended, Journal, NewEvent};
use daruma_model::{Clock, Span, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::records::{self, Ids};

/// Events decided on together at most.
const BATCH_MAX: usize = 500;
/// So many bytes of records at most are kept in one write, unless one event alone has more.
const BATCH_BYTES: usize = 8 << 20;
/// A snapshot is taken after so many records, so that a start replays few.
const SNAPSHOT_EVERY: u64 = 20_000;
/// Or after so many bytes of them.
const SNAPSHOT_BYTES: usize = 128 << 20;
/// The picture of the state is made at most this often,
const SHOW_EVERY: Span = Span::millis(50);
/// and so seldom that making it takes one part in so many of the loop's time,
const SHOW_SHARE: u32 = 50;
/// but at least this often.
const SHOW_WITHIN: Duration = Duration::from_secs(2);
/// How long a failed write waits for its next try.
const RETRY: Duration = Duration::from_millis(500);
/// How long the core's next deadline may be away before the loop looks again anyway.
const LOOK: Span = Span::secs(60);

/// One event on its way to the core.
pub struct Input {
    /// What happened; `None` if only the checkpoints are to be kept.
    pub event: Option<Event>,
    /// For commands: told once it is durable, or why it was refused.
    pub reply: Option<oneshot::Sender<Result<serde_json::Value, String>>>,
    /// Named blobs that become durable together with the event.
    pub checkpoints: Vec<(String, Vec<u8>)>,
    /// Where to give a picture of everything that is posted.
    pub look: Option<oneshot::Sender<Listing>>,
}

impl Input {
    /// An event that nobody waits for.
    #[must_use]
    pub fn of(event: Event) -> Input {
        Input { event: Some(event), reply: None, checkpoints: Vec::new(), look: None }
    }
}

/// Carries out what the core wishes; outcomes come back as events.
pub trait Perform {
    /// Begins, and returns at once.
    fn start(&mut self, effect: Effect);
}

/// What the loop did, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events the core has seen.
    pub events: AtomicU64,
    /// Acts and messages decided.
    pub decisions: AtomicU64,
    /// Writes to the journal that failed and were tried again.
    pub write_failures: AtomicU64,
    /// Commands refused because they could not be made durable.
    pub refused: AtomicU64,
    /// The last time the loop turned, in ms since 1970: a stalled loop is seen from outside.
    pub turned_at: AtomicU64,
}

/// The loop's own things.
pub struct Control<P> {
    /// The judgement.
    pub core: Core,
    /// The memory.
    pub journal: Journal,
    /// The hands.
    pub performers: P,
    /// The time.
    pub clock: Clock,
    /// Where the picture of the state is shown.
    pub view: watch::Sender<Arc<View>>,
    /// What it did.
    pub counters: Arc<Counters>,
    /// Names for records.
    pub ids: Ids,
    /// The last record.
    pub tail: u64,
    /// The record of the last snapshot.
    pub snapshot_at: u64,
    /// Bytes of the records since it was begun.
    pub since_snapshot: usize,
    /// A snapshot that is being written.
    pub snapshot: Option<JoinHandle<()>>,
    /// Turns true when the program stops; performers hold the inbox open, so its end does not tell.
    pub closing: watch::Receiver<bool>,
    /// When the picture was last shown.
    pub shown_at: Time,
    /// How long it lasts.
    pub show_every: Span,
    /// Whether something happened since.
    pub hidden: bool,
}

impl<P: Perform> Control<P> {
    /// Runs until it is told to close and the inbox is empty; then takes a snapshot, so that the next start is quick.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Input>) {
        let mut held: VecDeque<Input> = VecDeque::new();
        loop {
            if held.is_empty() {
                match self.next(&mut inbox).await {
                    Some(input) => held.push_back(input),
                    None => break,
                }
                while held.len() < BATCH_MAX {
                    let Ok(input) = inbox.try_recv() else { break };
                    held.push_back(input);
                }
            }
            if !self.turn(&mut held).await {
                tokio::time::sleep(RETRY).await;
            }
        }
        for _ in 0..2 {
            // What is being written first, if anything; then what has come since.
            if let Some(writing) = self.snapshot.take() {
                said(writing.await);
            }
            self.begin_snapshot();
        }
        if let Some(writing) = self.snapshot.take() {
            said(writing.await);
        }
    }

    /// The next event, or a tick when a deadline of the core comes first.
    async fn next(&mut self, inbox: &mut mpsc::Receiver<Input>) -> Option<Input> {
        loop {
            let now = (self.clock)();
            let turned = u64::try_from(now.0).unwrap_or(0);
            self.counters.turned_at.store(turned, Ordering::Relaxed);
            let mut wake = self.core.wake_at().unwrap_or(Time::MAX).min(now + LOOK);
            if self.hidden {
                wake = wake.min(self.shown_at + self.show_every);
            }
            tokio::select! {
                biased;
                input = inbox.recv() => return input,
                _ = self.closing.wait_for(|closing| *closing) => return None,
                () = tokio::time::sleep(wake.since(now).to_std()) => {}
            }
            let now = (self.clock)();
            if self.hidden {
                self.show(now);
            }
            // Woken only to look at the clock, nothing is recorded.
            if self.core.wake_at().is_some_and(|wake| wake <= now) {
                return Some(Input::of(Event::Tick));
            }
        }
    }

    /// Keeps a batch from the front of what is held, decides, keeps the decisions, performs. `false`: it
    /// could not be kept, and what may wait is held again.
    async fn turn(&mut self, held: &mut VecDeque<Input>) -> bool {
        let now = (self.clock)();
        self.counters.turned_at.store(u64::try_from(now.0).unwrap_or(0), Ordering::Relaxed);
        let mut batch = Vec::with_capacity(held.len());
        let mut records = Vec::with_capacity(held.len());
        let mut checkpoints = Vec::new();
        let mut bytes = 0;
        // Alerts that are spoken of in this batch; `None` once something in it may move any alert.
        let mut seen = Some(HashSet::new());
        while let Some(mut input) = (bytes < BATCH_BYTES).then(|| held.pop_front()).flatten() {
            checkpoints.append(&mut input.checkpoints);
            if let Some(look) = input.look.take() {
                // Whoever asked may have gone away.
                drop(look.send(self.core.listing()));
            }
            let Some(event) = input.event.take() else { continue };
            let event = match (&event, &mut seen) {
                (Event::Posted(_), Some(seen)) => self.core.condensed(now, event, seen),
                (Event::Attempted(_) | Event::Tick, _) => event,
                _ => {
                    seen = None;
                    event
                }
            };
            match self.ids.event(&self.core, now, &event) {
                Ok(record) => {
                    bytes += record.body.text().len();
                    records.push(record);
                    batch.push(Input { event: Some(event), ..input });
                }
                Err(error) => {
                    crate::log::error(&format!("an event cannot be written as JSON: {error}"));
                    refuse(&mut input, &error.to_string());
                }
            }
        }
        if records.is_empty() && checkpoints.is_empty() {
            return true;
        }
        // Of two positions of one file the later counts.
        let mut seen = std::collections::HashSet::new();
        checkpoints.reverse();
        checkpoints.retain(|(name, _): &(String, Vec<u8>)| seen.insert(name.clone()));
        if let Err(why) = self.keep(records, checkpoints.clone()).await {
            self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
            crate::log::error(&format!("cannot write to the journal, trying again: {why}"));
            // A command is refused aloud: whoever gave it can give it again. Signals wait.
            batch.retain_mut(|input| {
                let waits = input.reply.is_none();
                if !waits {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    refuse(input, &why);
                }
                waits
            });
            held.push_front(Input { event: None, reply: None, checkpoints, look: None });
            batch.into_iter().rev().for_each(|input| held.push_front(input));
            return false;
        }
        self.since_snapshot += bytes;
        let mut effects = Vec::new();
        let mut answers = Vec::new();
        for mut input in batch {
            let Some(event) = input.event.take() else { continue };
            self.counters.events.fetch_add(1, Ordering::Relaxed);
            effects.extend(self.core.step(now, &event));
            if let Some(reply) = input.reply.take() {
                let answer = answer(&self.core, &event);
                match event {
                    Event::Commanded { .. } => answers.push((reply, answer)),
                    // Whoever asked may have gone away; it is durable all the same.
                    _ => drop(reply.send(answer)),
                }
            }
        }
        self.keep_decisions(now, &effects).await;
        for effect in effects {
            self.performers.start(effect);
        }
        // Whoever asked for something sees it done when they look next.
        if !answers.is_empty() {
            self.show_every = Span::ZERO;
        }
        self.show(now);
        for (reply, answer) in answers {
            drop(reply.send(answer));
        }
        if let Some(writing) = self.snapshot.take_if(|writing| writing.is_finished()) {
            said(writing.await);
        }
        if self.tail >= self.snapshot_at + SNAPSHOT_EVERY || self.since_snapshot > SNAPSHOT_BYTES {
            self.begin_snapshot();
        }
        true
    }

    /// Shows the state, but not more often than anybody could look.
    fn show(&mut self, now: Time) {
        self.hidden = now.since(self.shown_at) < self.show_every;
        if !self.hidden {
            self.shown_at = now;
            let began = Instant::now();
            self.view.send_replace(Arc::new(View::of(self.core.state())));
            let pause = (began.elapsed() * SHOW_SHARE).min(SHOW_WITHIN);
            let pause = Span::millis(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
            self.show_every = SHOW_EVERY.max(pause);
        }
    }

    /// Decisions must be durable before they are acted on, however long that takes.
    async fn keep_decisions(&mut self, now: Time, effects: &[Effect]) {
        let mut records = Vec::new();
        for effect in effects {
            match self.ids.decision(&self.core, now, effect) {
                Ok(record) => records.extend(record),
                Err(error) => crate::log::error(&format!("a decision cannot be written: {error}")),
            }
        }
        if records.is_empty() {
            return;
        }
        self.counters.decisions.fetch_add(records.len() as u64, Ordering::Relaxed);
        while let Err(why) = self.keep(records.clone(), Vec::new()).await {
            self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
            crate::log::error(&format!("decisions wait, the journal cannot be written: {why}"));
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn keep(
        &mut self,
        records: Vec<NewEvent>,
        checkpoints: Vec<(String, Vec<u8>)>,
    ) -> Result<(), String> {
        let last = records.last().map(|record| record.event_id.clone());
        match self.journal.append(records, None, checkpoints).await {
            Ok(Appended::Committed { last_seq, .. }) => {
                self.tail = last_seq;
                Ok(())
            }
            Ok(Appended::Conflict { shard, .. }) => {
                Err(format!("shard {shard} was written by another"))
            }
            // Look for our own before any retry.
            Ok(Appended::Unknown { said }) => match last.map(|id| self.journal.find(&id)) {
                Some(Ok(Some(event))) => {
                    self.tail = event.seq;
                    Ok(())
                }
                Some(Err(error)) => Err(error.to_string()),
                _ => Err(said),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has a snapshot written beside the loop, unless one is, or nothing has come since the last.
    fn begin_snapshot(&mut self) {
        if self.tail == self.snapshot_at || self.snapshot.is_some() {
            return;
        }
        let (state, tail, journal) = (self.core.state().clone(), self.tail, self.journal.clone());
        self.snapshot_at = tail;
        self.since_snapshot = 0;
        self.snapshot = Some(tokio::spawn(async move {
            let packed = tokio::task::spawn_blocking(move || records::snapshot(&state)).await;
            let put = match packed {
                Ok(Ok(bytes)) => {
                    journal.snapshot_put(tail, bytes).await.map_err(|error| error.to_string())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // The next one comes in its time; until then a start folds more of the journal.
            if let Err(why) = put {
                crate::log::error(&format!("no snapshot: {why}"));
            }
        }));
    }
}

/// How the writing of a snapshot ended, where it has not said so itself.
fn said(written: Result<(), tokio::task::JoinError>) {
    if let Err(error) = written {
        crate::log::error(&format!("no snapshot: {error}"));
    }
}

fn refuse(input: &mut Input, why: &str) {
    if let Some(reply) = input.reply.take() {
        drop(reply.send(Err(why.to_owned())));
    }
}

/// What a command's sender is told: the id of what it made, or that what it named is not there.
fn answer(core: &Core, event: &Event) -> Result<serde_json::Value, String> {
    use daruma_alert::Command::{
        Abort, Ack, AckByLink, EndSilence, Hold, PutSilence, SendTest, Silence, Unsilence,
    };
    let Event::Commanded { command, .. } = event else { return Ok(serde_json::Value::Null) };
    let id = match command {
        Silence { .. } => core.state().silences.keys().next_back().copied(),
        PutSilence { uuid, .. } => {
            let changed = uuid.as_deref().and_then(|uuid| core.silence_named(uuid));
            let made = changed.or_else(|| core.state().silences.values().next_back());
            let made = made.map(|silence| (silence.id, silence.uuid.clone()));
            return Ok(serde_json::json!({
                "id": made.as_ref().map(|(id, _)| id),
                "uuid": made.as_ref().map(|(_, uuid)| uuid),
            }));
        }
        Unsilence { id } => match core.state().ended_silences.contains_key(id) {
            true => Some(*id),
            false => return Err(format!("there is no silence {id}")),
        },
        EndSilence { uuid } => {
            let ended = |silence: &daruma_alert::Silence| silence.uuid == *uuid;
            return match core.state().ended_silences.values().find(|silence| ended(silence)) {
                Some(silence) => Ok(serde_json::json!({ "id": silence.id, "uuid": uuid })),
                None => Err(format!("there is no silence {uuid}")),
            };
        }
        AckByLink { incident, link, nonce, .. } => match core.state().used_links.get(link) {
            Some(used) if used.nonce == *nonce => Some(*incident),
            Some(used) => return Err(format!("this link was used already by {}", used.by)),
            None => match core.state().incidents.get(incident) {
                None => return Err(format!("there is no incident {incident}")),
                Some(it) if it.resolved.is_some() => {
                    return Err(format!("incident {incident} is over"));
                }
                Some(_) => return Err("this link has run out".to_owned()),
            },
        },
        SendTest { to } => {
            let tests = core.tests_of(to);
            if tests.is_empty() {
                return Err(format!("there is no receiver and no channel `{to}` that can be told"));
            }
            let one = |out: &&daruma_alert::Outgoing| serde_json::json!({ "id": out.message.id, "channel": out.message.channel });
            return Ok(
                serde_json::json!({ "messages": tests.iter().map(one).collect::<Vec<_>>() }),
            );
        }
        Hold { .. } => core.state().holds.keys().next_back().copied(),
        Ack { incident, .. } | Abort { incident } => match core.state().incidents.get(incident) {
            Some(incident) if incident.resolved.is_none() => Some(incident.id),
            Some(_) => return Err(format!("incident {incident} is over")),
            None => return Err(format!("there is no incident {incident}")),
        },
        _ => None,
    };
    Ok(serde_json::json!({ "id": id }))
}
