//! The signal path: deliveries → store → rules → findings. On a thread of its own, so that a heavy
//! evaluation never delays the loop that decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daruma_alert::Event;
use daruma_collect::{Delivery, Position};
use daruma_detect::Detector;
use daruma_model::{Clock, Commit, Finding, Labels, Sample, Signal, SourceState, Span, Time};
use daruma_server::Ask;
use daruma_store::{Appended, Store};
use tokio::sync::{mpsc, watch};

use crate::control::Input;

/// Log positions are made durable at the latest after this long.
const CHECKPOINT_EVERY: Span = Span::millis(200);
/// Old samples are dropped this often.
const EVICT_EVERY: Span = Span::secs(60);
/// How long the path sleeps at most when no rule is due.
const IDLE: Duration = Duration::from_millis(500);
/// Positions of log files stand in the journal under this prefix.
pub const POSITION: &str = "position/";

/// What happened on the path, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples taken in.
    pub samples: AtomicU64,
    /// Log records taken in.
    pub records: AtomicU64,
    /// Samples refused by a bound or because they were late.
    pub refused: AtomicU64,
    /// Evaluations of rules that failed.
    pub errors: AtomicU64,
    /// Grid instants of rules that passed unevaluated, since the rules were loaded.
    pub missed: AtomicU64,
    /// Microseconds spent evaluating.
    pub evaluation_us: AtomicU64,
    /// The last time the path turned, in ms since 1970.
    pub turned_at: AtomicU64,
}

/// The path's own things.
pub struct Path {
    /// Signals at rest.
    pub store: Arc<Store>,
    /// The rules.
    pub detector: Detector,
    /// The time.
    pub clock: Clock,
    /// To the loop.
    pub inbox: mpsc::Sender<Input>,
    /// What is said of metrics.
    pub catalogue: Arc<crate::api::Catalogue>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// Replaces the rules, when a new configuration was loaded.
    pub reloads: std::sync::mpsc::Receiver<Detector>,
    /// Positions processed, not yet on their way to the journal.
    pub positions: Vec<Position>,
    /// Last states of sources: only changes reach the loop.
    pub sources: std::collections::BTreeMap<String, (SourceState, Time)>,
    /// What is asked over HTTP: samples to take in, rules to tell of.
    pub asks: mpsc::Receiver<Ask>,
    /// Turns true when the program stops and no source is left.
    pub closing: watch::Receiver<bool>,
}

impl Path {
    /// Runs until every source has gone, or it is told to close and everything is taken in.
    pub fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Delivery>,
        runtime: &tokio::runtime::Handle,
    ) {
        let (mut checkpoint_at, mut evict_at) = (Time::MIN, Time::MIN);
        loop {
            let now = (self.clock)();
            self.counters.turned_at.store(u64::try_from(now.0).unwrap_or(0), Ordering::Relaxed);
            let due =
                self.detector.next_due().map_or(IDLE, |due| due.since(now).to_std().min(IDLE));
            let pause =
                if self.positions.is_empty() { due } else { due.min(CHECKPOINT_EVERY.to_std()) };
            let (closing, asks) = (&mut self.closing, &mut self.asks);
            let mut asked = None;
            let first = runtime.block_on(async {
                tokio::select! {
                    biased;
                    first = deliveries.recv() => first.map(Some).ok_or(()),
                    Some(ask) = asks.recv() => { asked = Some(ask); Ok(None) }
                    _ = closing.wait_for(|closing| *closing) => Err(()),
                    () = tokio::time::sleep(pause) => Ok(None),
                }
            });
            let Ok(first) = first else { break };
            let mut next = first;
            // What has queued up meanwhile is taken in before rules are asked, up to a bound.
            for _ in 0..256 {
                let Some(delivery) = next.take() else { break };
                self.take_in(delivery);
                next = deliveries.try_recv().ok();
            }
            if let Some(delivery) = next {
                self.take_in(delivery);
            }
            while let Some(ask) = asked.take().or_else(|| self.asks.try_recv().ok()) {
                self.answer(ask);
            }
            while let Ok(mut detector) = self.reloads.try_recv() {
                let now = (self.clock)();
                std::mem::swap(&mut self.detector, &mut detector);
                // What held under a rule that means something else now waits for evidence anew.
                for (rule, labels) in self.detector.adopt(detector) {
                    self.detector.restore(now, &rule, &labels);
                }
                self.store.watch(&self.detector.selectors());
            }
            self.evaluate();
            let now = (self.clock)();
            if now >= checkpoint_at && !self.positions.is_empty() {
                self.checkpoint();
                checkpoint_at = now + CHECKPOINT_EVERY;
            }
            if now >= evict_at {
                self.store.evict(now);
                evict_at = now + EVICT_EVERY;
            }
        }
        self.checkpoint();
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Write { commits, reply } => {
                let now = (self.clock)();
                let mut taken = Appended::default();
                for commit in commits {
                    let one = self.samples(now, commit);
                    taken.accepted += one.accepted;
                    taken.repeated += one.repeated;
                    taken.out_of_order += one.out_of_order;
                    taken.over_limit += one.over_limit;
                    taken.histograms += one.histograms;
                }
                if reply.send(taken).is_err() {
                    // Whoever pushed has gone away; it will push the same again.
                }
            }
            Ask::Rules { reply } => drop(reply.send(crate::api::groups(&self.detector))),
        }
    }

    fn take_in(&mut self, delivery: Delivery) {
        let now = (self.clock)();
        match delivery {
            Delivery::Signal(Signal::Samples(commit)) => {
                self.samples(now, commit);
            }
            Delivery::Signal(Signal::Logs(records)) => self.logs(now, "", &records),
            Delivery::Logs { records, position } => {
                self.logs(now, &position.source, &records);
                self.positions.push(position);
            }
            Delivery::Described(said) => self.catalogue.learn(
                said.into_iter()
                    .map(|one| {
                        let (kind, help, unit) = (one.kind.to_owned(), one.help, one.unit);
                        (one.metric, daruma_server::Described { kind, help, unit })
                    })
                    .collect(),
            ),
            Delivery::Health(health) => {
                self.detector.on_source_health(now, &health);
                let known = self.sources.get(&health.source).copied();
                // The loop hears of changes, and of counts once a minute.
                let news = known.is_none_or(|(state, at)| {
                    state != health.state || health.at.since(at) >= Span::secs(60)
                });
                if news {
                    self.sources.insert(health.source.clone(), (health.state, health.at));
                    self.send(Input::of(Event::Source(health)));
                }
            }
        }
    }

    fn samples(&mut self, now: Time, commit: Commit) -> Appended {
        let appended = self.store.append(&commit);
        self.counters.samples.fetch_add(appended.accepted as u64, Ordering::Relaxed);
        let refused = appended.out_of_order + appended.over_limit;
        self.counters.refused.fetch_add(refused as u64, Ordering::Relaxed);
        self.detector.on_commit(now, &commit);
        appended
    }

    fn logs(&mut self, now: Time, source: &str, records: &[daruma_model::LogRecord]) {
        self.counters.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        let findings = self.detector.on_logs_from(now, source, records);
        self.report(findings);
        self.store.append_logs(records);
    }

    fn evaluate(&mut self) {
        let now = (self.clock)();
        if self.detector.next_due().is_none_or(|due| due > now) {
            return;
        }
        let began = std::time::Instant::now();
        // All rules see the same instant; the snapshot must be gone before anything is appended.
        let evaluated = {
            let snapshot = self.store.snapshot();
            let stopwatch = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.detector.evaluate_timed(now, &snapshot, &stopwatch)
        };
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.evaluation_us.fetch_add(took, Ordering::Relaxed);
        self.counters.missed.store(self.detector.missed(), Ordering::Relaxed);
        self.counters.errors.fetch_add(evaluated.errors.len() as u64, Ordering::Relaxed);
        if !evaluated.recorded.is_empty() {
            self.samples(now, evaluated.recorded);
        }
        self.report(evaluated.findings);
    }

    fn report(&mut self, findings: Vec<Finding>) {
        for mut finding in findings {
            // JSON has no NaN: a value that is none is left out, so that a replay sees the same.
            finding.evidence.value = finding.evidence.value.filter(|value| value.is_finite());
            self.send(Input::of(Event::Found(finding)));
        }
    }

    /// Positions become durable after everything that was found before them.
    fn checkpoint(&mut self) {
        let mut checkpoints = Vec::new();
        for position in self.positions.drain(..) {
            let name = format!("{POSITION}{}", position.key());
            let bytes = if position.ended { Ok(Vec::new()) } else { serde_json::to_vec(&position) };
            match bytes {
                Ok(bytes) => checkpoints.push((name, bytes)),
                Err(error) => crate::log::error(&format!("a log position cannot be kept: {error}")),
            }
        }
        if !checkpoints.is_empty() {
            self.send(Input { event: None, reply: None, checkpoints, look: None });
        }
    }

    fn send(&self, input: Input) {
        // The loop's inbox is bounded: a loop that cannot keep up slows this thread, never loses.
        if self.inbox.blocking_send(input).is_err() {
            // The program is ending.
        }
    }
}

/// The program's own figures as samples, so that rules and charts can use them.
#[must_use]
pub fn own_samples(now: Time, figures: &[(&str, f64)]) -> Commit {
    let sample = |(name, value): &(&str, f64)| Sample {
        labels: Labels::from([(Labels::NAME, *name), ("job", "daruma")]),
        time: now,
        value: *value,
    };
    Commit::from(figures.iter().map(sample).collect::<Vec<_>>())
}
