//! For tests of sources: one that runs, and what it has said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_model::{Clock, Commit, Labels, Signal, SourceHealth, SourceState, Time, is_stale};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::delivery::{Delivery, Outlet, Source};

/// Where test time begins: 2026-01-01.
pub(crate) const START: Time = Time(1_767_225_600_000);
/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Time that goes on from [`START`].
pub(crate) fn clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || Time(START.0 + i64::try_from(began.elapsed().as_millis()).unwrap()))
}

/// A source that runs until this is dropped.
pub(crate) struct Running {
    inbox: mpsc::Receiver<Delivery>,
    _stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn run<S: Source>(source: S) -> Running {
    let name = source.name();
    run_as(&name, |reporter| source.run(reporter))
}

pub(crate) fn run_as<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    source: impl FnOnce(crate::Reporter) -> F,
) -> Running {
    let (deliveries, inbox) = mpsc::channel(1000);
    let (stop, stopping) = watch::channel(false);
    let outlet = Outlet::new(clock(), deliveries, BTreeMap::new(), stopping);
    let task = tokio::spawn(source(outlet.reporter(name.to_owned())));
    Running { inbox, _stop: stop, task }
}

impl Running {
    async fn next(&mut self) -> Delivery {
        let next = timeout(PATIENCE, self.inbox.recv()).await;
        next.expect("nothing was delivered").expect("the source ended")
    }

    /// The next commit.
    pub(crate) async fn commit(&mut self) -> Commit {
        loop {
            if let Delivery::Signal(Signal::Samples(commit)) = self.next().await {
                return commit;
            }
        }
    }

    /// The next commit that is as wished.
    pub(crate) async fn until(&mut self, wish: impl Fn(&Commit) -> bool) -> Commit {
        for _ in 0..10_000 {
            let commit = self.commit().await;
            if wish(&commit) {
                return commit;
            }
        }
        panic!("no commit was as wished");
    }

    /// The next report on itself in this state.
    pub(crate) async fn health(&mut self, state: SourceState) -> SourceHealth {
        loop {
            if let Delivery::Health(health) = self.next().await
                && health.state == state
            {
                return health;
            }
        }
    }
}

/// The value of the one series of that name and these labels; `None` if it is absent or ended.
pub(crate) fn value(commit: &Commit, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |set: &Labels| {
        set.get(Labels::NAME) == name && labels.iter().all(|(name, value)| set.get(name) == *value)
    };
    let found: Vec<f64> =
        commit.samples.iter().filter(|s| fits(&s.labels)).map(|s| s.value).collect();
    assert!(found.len() <= 1, "{name} {labels:?} has {} values", found.len());
    found.first().copied().filter(|value| !is_stale(*value))
}

/// The names and labels of the series that a commit ends.
pub(crate) fn ended(commit: &Commit) -> Vec<String> {
    let ended = commit.samples.iter().filter(|sample| is_stale(sample.value));
    let mut ended: Vec<String> = ended.map(|sample| sample.labels.to_string()).collect();
    ended.sort();
    ended
}
