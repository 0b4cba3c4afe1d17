//! Collects signals: one file per kind of source, each on its own schedule, each reporting on its
//! own health. [`start`] runs what [`Config`] lists; everything arrives as [`Delivery`]s on one
//! bounded channel.
//!
//! | source | file | brings |
//! |---|---|---|
//! | a file's age | `file_age.rs` | presence, age, size |
//! | log files | `logfile.rs` | records, line and byte counts |
//! | this host | `host.rs` | what node_exporter tells |
//! | heartbeats | `heartbeat.rs` | whether jobs that ping are well or late |
//! | processes | `process.rs` | up, state, use of resources, exits at once |
//! | probes | `probe.rs` | whether an endpoint answers, how fast, until when its certificate holds |
//! | scrapes | `scrape.rs` | what programs expose as text |
//!
//! [`observe`] answers a witness's question on demand with the same eyes.
//!
//! Invariants:
//! - no source can stop or slow another: each has its own task, and a thread where the system blocks;
//! - no log line is dropped between file and channel; samples may be, oldest first, and are counted;
//! - a source that cannot look says so; it never says what it did not see.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub mod blocking;
pub mod delivery;
mod during;
pub mod exposition;
pub mod file_age;
pub mod heartbeat;
pub mod host;
pub mod http;
pub mod logfile;
mod observe;
pub mod probe;
pub mod process;
pub mod schedule;
pub mod scrape;
mod series;
#[cfg(test)]
mod testing;

pub use delivery::{
    Delivery, Described, Fingerprint, Outlet, Position, Reporter, Source, Stopping,
};
pub use file_age::FileSource;
pub use heartbeat::{HeartbeatSource, Heartbeats, Ping};
pub use host::HostSource;
pub use logfile::LogSource;
pub use observe::observe;
pub use probe::ProbeSource;
pub use process::ProcessSource;
pub use schedule::{Every, EveryError, Schedule};
pub use scrape::ScrapeSource;

/// The section `collect` of `daruma.yaml`: what to look at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Log files to read.
    pub logs: Vec<LogSource>,
    /// Files whose presence, age and size are watched from outside.
    pub files: Vec<FileSource>,
    /// This host; absent, it is not read.
    pub host: Option<HostSource>,
    /// Processes.
    pub processes: Vec<ProcessSource>,
    /// Jobs that ping when they ran.
    pub heartbeats: Vec<HeartbeatSource>,
    /// Endpoints that are asked whether they answer.
    pub probes: Vec<ProbeSource>,
    /// Endpoints that expose metrics as text.
    pub scrape: Vec<ScrapeSource>,
}

impl Config {
    /// The names of two sources of one kind must differ: under its name a source reports its health,
    /// keeps its place in log files and labels what it brings.
    ///
    /// # Errors
    /// The first name that is used twice, as `kind/name`.
    pub fn check(&self) -> Result<(), String> {
        let beats = self.heartbeats.iter().map(|beat| format!("heartbeat/{}", beat.name));
        let names = names(&self.logs)
            .chain(names(&self.files))
            .chain(names(&self.host))
            .chain(names(&self.processes))
            .chain(names(&self.probes))
            .chain(self.scrape.iter().flat_map(|job| {
                job.clone().into_iter().map(|target| target.name()).collect::<Vec<_>>()
            }))
            .chain(beats);
        let mut seen = BTreeSet::new();
        for name in names {
            if seen.contains(&name) {
                return Err(name);
            }
            seen.insert(name);
        }
        Ok(())
    }
}

fn names<'c, S: Source + 'c>(
    sources: impl IntoIterator<Item = &'c S>,
) -> impl Iterator<Item = String> {
    sources.into_iter().map(Source::name)
}

/// What the collector is given.
pub struct Context {
    /// The time.
    pub clock: Clock,
    /// Where everything goes. Its bound is what may be in flight.
    pub deliveries: mpsc::Sender<Delivery>,
    /// Positions of log files by [`Position::key`], as last made durable.
    pub positions: BTreeMap<String, Position>,
}

/// The running sources.
pub struct Handle {
    outlet: Outlet,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    heartbeats: Heartbeats,
}

/// Starts every source of `config`. Needs a tokio runtime with time and I/O.
#[must_use]
pub fn start(config: Config, context: Context) -> Handle {
    let Context { clock, deliveries, positions } = context;
    let (stop, stopping) = watch::channel(false);
    let outlet = Outlet::new(clock, deliveries, positions, stopping);
    let now = (outlet.clock)();
    let heartbeats = Heartbeats::default();
    let mut handle = Handle { outlet, stop, tasks: JoinSet::new(), heartbeats: heartbeats.clone() };
    let Config { logs, files, heartbeats: beats, host, processes, probes, scrape } = config;
    handle.add(logs);
    handle.add(heartbeats.configure(beats, now));
    handle.add(files);
    handle.add(host);
    handle.add(processes);
    handle.add(probes);
    handle.add(scrape.into_iter().flatten());
    handle
}

impl Handle {
    fn add<S: Source>(&mut self, sources: impl IntoIterator<Item = S>) {
        for source in sources {
            self.tasks.spawn(delivery::supervise(source, self.outlet.clone()));
        }
    }

    /// Where pings go. After a reload, [`Heartbeats::adopt`] what the collector before had heard.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.clone()
    }

    /// Stops every source and returns the positions up to which log records have been put on the
    /// channel: where the next [`start`] of this process goes on, while what is still on the
    /// channel is processed. Waits at most a few seconds for sources that hang in the system.
    pub async fn shutdown(mut self) -> BTreeMap<String, Position> {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(delivery::STOP_WITHIN, all).await.is_err() {
            self.tasks.abort_all();
        }
        self.outlet.positions().clone()
    }
}
