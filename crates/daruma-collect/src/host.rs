//! Reads this host: processors, load, memory, disks, networks, descriptors, under the names and in
//! the units of node_exporter, so that the rules and dashboards people have go on working.
//!
//! A reading is one commit. What one part of it cannot read is left out of it and named in the
//! source's health; the rest is told. What never happens here: a file system that hangs (a network
//! disk whose server is gone) holds up nothing but its own lines.

use std::path::PathBuf;
use std::time::Duration;

use daruma_model::Labels;
use globset::{Glob, GlobMatcher};
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
#[cfg(target_os = "linux")]
mod space;

/// The section `collect.host`: what node_exporter would expose, with the label `instance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSource {
    /// How often to read.
    pub every: Every,
    /// The label `instance`; unless said, the name of this host.
    pub instance: Option<String>,
    /// Labels to put on all its samples.
    pub labels: Labels,
    /// Which file systems.
    pub filesystems: Filesystems,
    /// Folders whose free space is told besides, as file systems mounted there.
    pub paths: Vec<PathBuf>,
}

impl Default for HostSource {
    fn default() -> HostSource {
        HostSource {
            every: Every::secs(5),
            instance: None,
            labels: Labels::default(),
            filesystems: Filesystems::default(),
            paths: Vec::new(),
        }
    }
}

/// Which file systems are told of, besides the pseudo ones that never are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filesystems {
    /// Not those mounted at paths that match one of these globs.
    pub exclude: Vec<PathGlob>,
}

/// A glob over whole paths; `*` does not match `/`, `**` does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathGlob(GlobMatcher);

impl PathGlob {
    fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &PathGlob) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl TryFrom<String> for PathGlob {
    type Error = String;
    fn try_from(text: String) -> Result<PathGlob, String> {
        let glob = globset::GlobBuilder::new(&text).literal_separator(true).build();
        let glob: Result<Glob, _> = glob;
        Ok(PathGlob(
            glob.map_err(|error| format!("`{text}` is no glob: {error}"))?.compile_matcher(),
        ))
    }
}

impl From<PathGlob> for String {
    fn from(glob: PathGlob) -> String {
        glob.0.glob().glob().to_owned()
    }
}

/// What a reading could not read, in words.
type Troubles = Vec<String>;

impl Source for HostSource {
    fn name(&self) -> String {
        "host/self".into()
    }

    async fn run(self, mut reporter: Reporter) {
        let instance = self.instance.clone().unwrap_or_else(platform::host_name);
        let labels = Labels::from([("instance", &*instance)]).merged(&self.labels);
        let mut book = SeriesBook::new(labels);
        let mut schedule = Schedule::new(self.every, reporter.name());
        let mut reader = platform::Reader::new(&self);
        // Reading takes a millisecond or two of system calls, so it does not hold up other sources
        // on this thread.
        while reporter.next(&mut schedule).await {
            let at = reporter.now();
            let mut read = tokio::task::spawn_blocking(move || {
                let mut troubles = Troubles::new();
                book.begin(at);
                book.add("node_time_seconds", &[], at.as_secs_f64());
                reader.read(&mut book, &mut troubles);
                let commit = book.finish();
                (book, reader, commit, troubles)
            });
            let began = Instant::now();
            let read = loop {
                tokio::select! {
                    read = &mut read => break read,
                    go_on = reporter.wait_until(Instant::now() + Duration::from_secs(5)) => {
                        if !go_on {
                            return;
                        }
                        let seconds = began.elapsed().as_secs();
                        reporter.failing(format!("the system has not answered for {seconds} s"));
                    }
                }
            };
            let commit;
            let troubles;
            match read {
                Ok(read) => (book, reader, commit, troubles) = read,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return,
                },
            }
            reporter.samples(commit);
            if troubles.is_empty() {
                reporter.ok("");
            } else {
                // The rest of the reading is there, but what is not must not pass for healthy.
                reporter.failing(troubles.join("; "));
            }
        }
    }
}

#[cfg(test)]
mod tests;
