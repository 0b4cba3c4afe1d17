//! Watches one process, or the group of processes that one pattern finds.
//!
//! Where the system can tell of an exit (a pidfd), it is told within a millisecond, and the
//! successor is looked for at once, so that a planned restart shows as a restart and not as an
//! outage. Everything else (stopped, zombie, memory, descriptors) is seen at the next look.
//!
//! What never happens here: a process that could not be looked at is not told as gone; its series
//! end. A number in an old pid file that now belongs to another process is not told as running.

use std::path::PathBuf;
use std::time::Duration;

use daruma_model::{Commit, Labels, ProcessCheck, Time};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::delivery::{Reporter, Source};
use crate::schedule::{Every, Schedule};
use crate::series::SeriesBook;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as platform;

/// How long after an exit the successor is looked for without rest.
const SUCCESSOR_WITHIN: Duration = Duration::from_millis(500);
/// The rest between two such looks.
const SUCCESSOR_EVERY: Duration = Duration::from_millis(20);

/// One entry of `collect.processes`. Brings `daruma_process_up`, `daruma_process_state{state}`,
/// `daruma_process_count`, `daruma_process_memory_limit_bytes`, `process_resident_memory_bytes`,
/// `process_cpu_seconds_total`, `process_open_fds`, `process_max_fds`, `process_threads` and
/// `process_start_time_seconds`, all with the label `process`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct ProcessSource {
    /// Its name, the label `process`.
    pub name: String,
    /// How it is found.
    pub check: ProcessCheck,
    /// How often it is looked at.
    pub every: Every,
    /// Labels to put on its samples.
    pub labels: Labels,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "ProcessSource")]
struct Fields {
    /// Its name, the label `process`.
    name: String,
    /// The file that holds its pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_file: Option<PathBuf>,
    /// The path of its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exe: Option<PathBuf>,
    /// A regular expression over its command line, arguments joined by blanks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<Pattern>,
    /// How often it is looked at.
    #[serde(default = "every_default")]
    every: Every,
    /// Labels to put on its samples.
    #[serde(default)]
    labels: Labels,
}

/// A regular expression that compiles.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(pattern: String) -> Result<Pattern, String> {
        regex(&pattern)?;
        Ok(Pattern(pattern))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    if pattern.is_empty() {
        return Err("an empty pattern would find every process".into());
    }
    let regex = RegexBuilder::new(pattern).size_limit(1 << 20).build();
    regex.map_err(|error| format!("`pattern` is no regular expression: {error}"))
}

fn every_default() -> Every {
    Every::secs(1)
}

impl TryFrom<Fields> for ProcessSource {
    type Error = String;

    fn try_from(fields: Fields) -> Result<ProcessSource, String> {
        let Fields { name, pid_file, exe, pattern, every, labels } = fields;
        if name.is_empty() || name.len() > 200 {
            return Err("a process needs a name of 1 to 200 bytes".into());
        }
        let check = ProcessCheck { pid_file, exe, pattern: pattern.map(|pattern| pattern.0) };
        Finder::new(&check).map_err(|why| format!("the process `{name}`: {why}"))?;
        Ok(ProcessSource { name, check, every, labels })
    }
}

impl From<ProcessSource> for Fields {
    fn from(source: ProcessSource) -> Fields {
        let ProcessSource { name, check, every, labels } = source;
        let ProcessCheck { pid_file, exe, pattern } = check;
        Fields { name, pid_file, exe, pattern: pattern.map(Pattern), every, labels }
    }
}

/// How a process is found, understood.
#[derive(Debug, Clone)]
pub(crate) enum Finder {
    PidFile(PathBuf),
    Exe(PathBuf),
    Pattern(Regex),
}

impl Finder {
    pub(crate) fn new(check: &ProcessCheck) -> Result<Finder, String> {
        match (&check.pid_file, &check.exe, &check.pattern) {
            (Some(path), None, None) => Ok(Finder::PidFile(path.clone())),
            (None, Some(path), None) => Ok(Finder::Exe(path.clone())),
            (None, None, Some(pattern)) => Ok(Finder::Pattern(regex(pattern)?)),
            _ => Err("it is found by exactly one of `pid_file`, `exe` and `pattern`".into()),
        }
    }
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Running,
    Sleeping,
    Disk,
    Stopped,
    Zombie,
    Gone,
}

impl State {
    const ALL: [State; 6] =
        [State::Running, State::Sleeping, State::Disk, State::Stopped, State::Zombie, State::Gone];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Sleeping => "sleeping",
            State::Disk => "disk",
            State::Stopped => "stopped",
            State::Zombie => "zombie",
            State::Gone => "gone",
        }
    }

    pub(crate) fn is_up(self) -> bool {
        matches!(self, State::Running | State::Sleeping | State::Disk)
    }
}

/// One process: the same pid with another start is another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// In whatever unit the system counts; only compared.
    pub(crate) start: u64,
}

/// What one process is and uses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) threads: u64,
    /// Seconds since 1970.
    pub(crate) started: f64,
    /// Unknown without permission.
    pub(crate) open_fds: Option<u64>,
    /// `None`: unknown or unlimited.
    pub(crate) max_fds: Option<u64>,
    /// `None`: unknown or unlimited.
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Found {
    /// In order of their starts.
    pub(crate) processes: Vec<Reading>,
    /// Why there is none, if there is more to say than that.
    pub(crate) why: String,
}

impl Found {
    /// The best state of all: a service with one stopped helper runs.
    pub(crate) fn state(&self) -> State {
        self.processes.iter().map(|process| process.state).min().unwrap_or(State::Gone)
    }

    /// One plain sentence.
    pub(crate) fn said(&self, name: &str) -> String {
        let state = self.state();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        match self.processes.as_slice() {
            [] => format!("process {name} is gone{why}"),
            [one] => format!("process {name} (pid {}) is {}", one.identity.pid, state.as_str()),
            many => {
                let up = many.iter().filter(|process| process.state.is_up()).count();
                format!("process {name} is {}, {up} of {} run", state.as_str(), many.len())
            }
        }
    }
}

/// Looks once, without memory of earlier looks.
///
/// # Errors
/// In words, if it could not look.
pub(crate) fn look_once(check: &ProcessCheck) -> Result<Found, String> {
    platform::Looker::new(Finder::new(check)?, false).look()
}

fn read_into(book: &mut SeriesBook, found: &Found, at: Time) -> Commit {
    book.begin(at);
    let state = found.state();
    book.add("daruma_process_up", &[], f64::from(u8::from(state.is_up())));
    for each in State::ALL {
        let now = f64::from(u8::from(each == state));
        book.add("daruma_process_state", &[("state", each.as_str())], now);
    }
    let up = found.processes.iter().filter(|process| process.state.is_up()).count();
    book.add("daruma_process_count", &[], up as f64);
    // A zombie and nothing use nothing; that they do not is told by the state.
    let live: Vec<&Reading> =
        found.processes.iter().filter(|process| process.state < State::Zombie).collect();
    let Some(oldest) = live.first() else { return book.finish() };
    let sum = |of: fn(&Reading) -> f64| live.iter().map(|process| of(process)).sum();
    book.add("process_resident_memory_bytes", &[], sum(|process| process.resident_bytes as f64));
    book.add("process_cpu_seconds_total", &[], sum(|process| process.cpu_seconds));
    book.add("process_threads", &[], sum(|process| process.threads as f64));
    book.add("process_start_time_seconds", &[], oldest.started);
    // Descriptors and their limit are those of the process that is nearest to its limit: sums
    // would hide that one of many has none left.
    let share = |process: &&&Reading| match (process.open_fds, process.max_fds) {
        (Some(open), Some(max)) => open as f64 / max.max(1) as f64,
        _ => 0.0,
    };
    let nearest = live
        .iter()
        .filter(|process| process.open_fds.is_some())
        .max_by(|a, b| share(a).total_cmp(&share(b)));
    if let Some(nearest) = nearest {
        let pair = [("process_open_fds", nearest.open_fds), ("process_max_fds", nearest.max_fds)];
        for (name, value) in pair {
            if let Some(value) = value {
                book.add(name, &[], value as f64);
            }
        }
    }
    if let Some(limit) = live.iter().filter_map(|process| process.memory_limit_bytes).min() {
        book.add("daruma_process_memory_limit_bytes", &[], limit as f64);
    }
    book.finish()
}

impl Source for ProcessSource {
    fn name(&self) -> String {
        format!("process/{}", self.name)
    }

    async fn run(self, reporter: Reporter) {
        self.watch(reporter, SUCCESSOR_WITHIN).await;
    }
}

impl ProcessSource {
    async fn watch(self, mut reporter: Reporter, successor_within: Duration) {
        let finder = match Finder::new(&self.check) {
            Ok(finder) => finder,
            Err(why) => {
                reporter.failing(why);
                while reporter.wait_until(Instant::now() + Duration::from_secs(5)).await {}
                return;
            }
        };
        let labels = Labels::from([("process", &*self.name)]).merged(&self.labels);
        let mut book = SeriesBook::new(labels);
        let mut looker = platform::Looker::new(finder, true);
        let mut schedule = Schedule::new(self.every, reporter.name());
        let mut regular = schedule.next_due();
        let mut hurry_until = Instant::now();
        let mut last = Time::MIN;
        loop {
            let now = Instant::now();
            let due = if now < hurry_until { regular.min(now + SUCCESSOR_EVERY) } else { regular };
            let exited = tokio::select! {
                biased;
                () = looker.exited() => true,
                go_on = reporter.wait_until(due) => {
                    if !go_on {
                        return;
                    }
                    false
                }
            };
            if exited {
                hurry_until = Instant::now() + successor_within;
            }
            let hurried = !exited && Instant::now() < regular;
            if Instant::now() >= regular {
                regular = schedule.next_due();
            }
            let looked = looker.look();
            // A hurried look tells only of a successor: that none is there yet was told before.
            if hurried && !looked.as_ref().is_ok_and(|found| found.state().is_up()) {
                continue;
            }
            if hurried {
                hurry_until = Instant::now();
            }
            // Two looks may fall into one millisecond, and a series has one value at one time.
            let at = reporter.now().max(last + daruma_model::Span::millis(1));
            last = at;
            match looked {
                Ok(found) => {
                    reporter.samples(read_into(&mut book, &found, at));
                    reporter.ok(found.said(&self.name));
                }
                Err(why) => {
                    book.begin(at);
                    reporter.samples(book.finish());
                    reporter.failing(why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
