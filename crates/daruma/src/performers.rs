//! The hands: actions, messages and witnesses run as tasks of their own; what comes of them returns as
//! events. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use daruma_alert::{Effect, Event, Watch, WatchCheck};
use daruma_model::{ActionId, Check, Clock, Evidence, Observation, Querier, Span, Time, Verdict};
use daruma_promql::Expr;
use daruma_store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::control::{Input, Perform};

/// What the performers work with.
pub struct Performers {
    /// Outcomes return through it.
    pub inbox: mpsc::Sender<Input>,
    /// Runs actions.
    pub actions: daruma_recover::Performer,
    /// Sends messages; replaced when the configuration is.
    pub sender: Arc<RwLock<Arc<daruma_notify::Sender>>>,
    /// Where witnesses read series.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Clock,
    /// How to end actions at work.
    pub aborts: BTreeMap<ActionId, watch::Sender<bool>>,
    /// Observers at work, by watch.
    pub watches: BTreeMap<u64, Vec<JoinHandle<()>>>,
}

impl Perform for Performers {
    fn start(&mut self, effect: Effect) {
        match effect {
            Effect::Act(request) => {
                let (abort, aborted) = watch::channel(false);
                self.aborts.retain(|_, sender| !sender.is_closed());
                self.aborts.insert(request.id.clone(), abort);
                let outcome = self.actions.run(request, aborted);
                let inbox = self.inbox.clone();
                tokio::spawn(async move {
                    let outcome = outcome.await;
                    // The loop has ended only if the program is ending: the outcome is then unknown,
                    // and verified at the next start.
                    drop(inbox.send(Input::of(Event::Acted(outcome))).await);
                });
            }
            Effect::Abort(id) => {
                if let Some(abort) = self.aborts.remove(&id) {
                    abort.send_replace(true);
                }
            }
            Effect::Send { message, number } => {
                let sender =
                    Arc::clone(&self.sender.read().unwrap_or_else(PoisonError::into_inner));
                let inbox = self.inbox.clone();
                tokio::spawn(async move {
                    let attempt = sender.send(&message, number).await;
                    drop(inbox.send(Input::of(Event::Attempted(attempt))).await);
                });
            }
            Effect::Watch(watch) => self.watch(watch),
            Effect::Unwatch(id) => {
                for task in self.watches.remove(&id).unwrap_or_default() {
                    task.abort();
                }
            }
        }
    }
}

impl Performers {
    fn watch(&mut self, watch: Watch) {
        let tasks = watch
            .checks
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, WatchCheck { check, every })| {
                let observer = Observer {
                    inbox: self.inbox.clone(),
                    store: Arc::clone(&self.store),
                    clock: Arc::clone(&self.clock),
                    watch: watch.clone(),
                    index,
                };
                tokio::spawn(async move {
                    let mut ticks = tokio::time::interval(every.to_std());
                    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    loop {
                        ticks.tick().await;
                        if !observer.observe(&check).await {
                            break;
                        }
                    }
                })
            })
            .collect();
        self.watches.insert(watch.id, tasks);
    }
}

struct Observer {
    inbox: mpsc::Sender<Input>,
    store: Arc<Store>,
    clock: Clock,
    watch: Watch,
    index: usize,
}

impl Observer {
    /// Looks once and reports; `false` when nobody listens any more.
    async fn observe(&self, check: &Check) -> bool {
        let (at, verdict, evidence) = match check {
            Check::Expr(text) => self.expr(text),
            other => daruma_collect::observe(other, &self.clock).await,
        };
        let seen = Observation {
            watch: self.watch.id,
            check: self.index,
            at,
            verdict,
            evidence,
            labels: self.watch.labels.clone(),
        };
        self.inbox.send(Input::of(Event::Observed(seen))).await.is_ok()
    }

    fn expr(&self, text: &str) -> (Time, Verdict, Evidence) {
        let now = (self.clock)();
        let expr = match Expr::parse(text) {
            Ok(expr) => expr,
            // Refused at load already; a label filled in can still make it one.
            Err(error) => {
                return (now, Verdict::Unknown, Evidence::said(format!("{text}: {error}")));
            }
        };
        let after = if self.watch.blind_before { self.watch.after } else { now - LOOK_BACK };
        let (verdict, evidence) = daruma_detect::witness(&expr, &*self.store, now, after);
        (newest(&expr, &*self.store, now), verdict, evidence)
    }
}

/// How far a confirming expression may look back.
const LOOK_BACK: Span = Span::hours(24);

/// When the evidence of an expression was observed: the newest sample of its least recent input. An
/// answer is as old as that, however late it is given.
fn newest(expr: &Expr, querier: &dyn Querier, now: Time) -> Time {
    let newest = |matchers: &[daruma_model::Matcher]| {
        let series = querier.select(matchers, now - Span::minutes(5), now);
        let real = |series: &daruma_model::Series| series.backwards().find(|(_, stale)| !stale);
        series.iter().filter_map(real).map(|(time, _)| time).max()
    };
    let inputs: Vec<Time> =
        expr.selectors().iter().filter_map(|leaf| newest(&leaf.matchers)).collect();
    inputs.into_iter().min().unwrap_or(now)
}
