//! How many queries run at once, how long each may take, and on what it reads. A query runs on a thread
//! of its own, away from those that serve connections; it is told to stop when its time is over or when
//! whoever asked has gone away.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daruma_model::{Matcher, Querier, Series, Span, Time};
use daruma_promql::ParseOptions;
use daruma_store::Store;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Failure, FailureKind};

/// What bounds queries that come over HTTP: the section `server.query`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLimits {
    /// How long a query may take, its wait for a turn included.
    pub timeout: Span,
    /// Queries at once; detection needs cores, too.
    pub at_once: usize,
    /// Samples one query may hold, read and computed together.
    pub samples_max: usize,
    /// How far back an instant selector looks for the newest sample.
    pub lookback: Span,
    /// Whether functions that may still change upstream can be used, as Prometheus'
    /// `promql-experimental-functions`.
    pub experimental: bool,
}

impl QueryLimits {
    pub(crate) fn options(&self) -> ParseOptions {
        ParseOptions { experimental: self.experimental }
    }
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        QueryLimits {
            timeout: Span::minutes(2),
            at_once: 4,
            // About 500 MB at worst, each.
            samples_max: 20_000_000,
            lookback: Span::minutes(5),
            experimental: false,
        }
    }
}

/// The turns of queries.
pub(crate) struct Turns {
    store: Arc<Store>,
    free: Arc<Semaphore>,
    pub(crate) limits: QueryLimits,
}

/// What a query took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    pub(super) queued: Duration,
    pub(super) ran: Duration,
    pub(super) samples: usize,
}

/// Tells the query to stop when it is dropped: nobody waits for its answer any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Turns {
    pub(crate) fn new(store: Arc<Store>, limits: QueryLimits) -> Turns {
        Turns { store, free: Arc::new(Semaphore::new(limits.at_once.max(1))), limits }
    }

    /// Does `work` on a thread of its own, in its turn, and within `within` (the configured timeout at
    /// most).
    pub(super) async fn take<T: Send + 'static>(
        &self,
        within: Option<Span>,
        work: impl FnOnce(&Reader) -> Result<T, Failure> + Send + 'static,
    ) -> Result<(T, Took), Failure> {
        let within = within.unwrap_or(self.limits.timeout).min(self.limits.timeout).to_std();
        let late =
            |place: &str| Failure::of(FailureKind::Timeout, format!("query timed out in {place}"));
        let began = Instant::now();
        let turn = tokio::time::timeout(within, Arc::clone(&self.free).acquire_owned());
        let turn = match turn.await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => {
                return Err(Failure::of(FailureKind::Unavailable, "daruma is stopping"));
            }
            Err(_) => return Err(late("query queue")),
        };
        let queued = began.elapsed();
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&stop));
        let reader = Reader { store: Arc::clone(&self.store), stop, samples: Cell::new(0) };
        let done = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let made = work(&reader);
            // The turn lasts as long as the work, whoever has gone away meanwhile.
            drop(turn);
            let took = Took { queued, ran: began.elapsed(), samples: reader.samples.get() };
            made.map(|made| (made, took))
        });
        let ended = tokio::time::timeout(within.saturating_sub(queued), done).await;
        drop(waiting);
        match ended {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => Err(Failure::of(FailureKind::Internal, error.to_string())),
            Err(_) => Err(late("expression evaluation")),
        }
    }
}

/// What a query reads.
pub(super) struct Reader {
    pub(super) store: Arc<Store>,
    stop: Arc<AtomicBool>,
    samples: Cell<usize>,
}

impl Querier for Reader {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let found = self.store.select(matchers, after, until);
        let read: usize = found.iter().map(|one| one.points.len() + one.histograms.len()).sum();
        self.samples.set(self.samples.get().saturating_add(read));
        found
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
