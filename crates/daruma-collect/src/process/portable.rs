//! Processes where there is no `/proc`: what `sysinfo` knows. No exit is told at once.

use std::future::pending;

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::{Finder, Found, Identity, Reading, State};

/// How much later than its pid file's last change a process may have started, in seconds.
const REUSE_SLACK_SECONDS: f64 = 10.0;

pub(crate) struct Looker {
    finder: Finder,
    system: Result<System, sysinfo::Error>,
}

impl Looker {
    pub(crate) fn new(finder: Finder, _watch: bool) -> Looker {
        Looker { finder, system: System::new() }
    }

    pub(crate) async fn exited(&mut self) {
        pending().await
    }

    pub(crate) fn look(&mut self) -> Result<Found, String> {
        let system = self.system.as_mut().map_err(|error| error.to_string())?;
        let kind = ProcessRefreshKind::nothing()
            .with_memory()
            .with_cpu()
            .with_cmd(UpdateKind::OnlyIfNotSet)
            .with_exe(UpdateKind::OnlyIfNotSet);
        let mut written = None;
        let named = match &self.finder {
            Finder::PidFile(path) => {
                let shown = path.display();
                let text = match std::fs::read_to_string(path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        let why = format!("there is no pid file {shown}");
                        return Ok(Found { processes: Vec::new(), why });
                    }
                    read => {
                        read.map_err(|error| format!("cannot read the pid file {shown}: {error}"))?
                    }
                };
                let Some(word) = text.split_ascii_whitespace().next() else {
                    let why = format!("the pid file {shown} is empty");
                    return Ok(Found { processes: Vec::new(), why });
                };
                let pid: u32 = word
                    .parse()
                    .map_err(|_| format!("the pid file {shown} does not begin with a pid"))?;
                let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok();
                written = changed
                    .and_then(|changed| changed.duration_since(std::time::UNIX_EPOCH).ok())
                    .map(|since| since.as_secs_f64());
                Some(Pid::from_u32(pid))
            }
            _ => None,
        };
        let all = match &named {
            Some(pid) => std::slice::from_ref(pid),
            None => &[],
        };
        let which =
            if named.is_some() { ProcessesToUpdate::Some(all) } else { ProcessesToUpdate::All };
        system.refresh_processes_specifics(which, true, kind);
        let own = Pid::from_u32(std::process::id());
        let mut processes: Vec<Reading> = system
            .processes()
            .values()
            .filter(|process| match &self.finder {
                Finder::PidFile(_) => {
                    let started = process.start_time() as f64;
                    named == Some(process.pid())
                        && written.is_none_or(|written| started <= written + REUSE_SLACK_SECONDS)
                }
                Finder::Exe(path) => process.pid() != own && process.exe() == Some(path),
                Finder::Pattern(pattern) => {
                    let words: Vec<_> =
                        process.cmd().iter().map(|word| word.to_string_lossy()).collect();
                    process.pid() != own
                        && process.parent() != Some(own)
                        && pattern.is_match(&words.join(" "))
                }
            })
            .map(|process| Reading {
                identity: Identity { pid: process.pid().as_u32(), start: process.start_time() },
                state: match process.status() {
                    ProcessStatus::Run => State::Running,
                    ProcessStatus::Stop | ProcessStatus::Tracing => State::Stopped,
                    ProcessStatus::Zombie => State::Zombie,
                    ProcessStatus::Dead => State::Gone,
                    ProcessStatus::UninterruptibleDiskSleep => State::Disk,
                    _ => State::Sleeping,
                },
                resident_bytes: process.memory(),
                cpu_seconds: process.accumulated_cpu_time() as f64 / 1000.0,
                threads: process.tasks().map_or(1, |tasks| tasks.len() as u64 + 1),
                started: process.start_time() as f64,
                open_fds: process.open_files().map(|count| count as u64),
                max_fds: process.open_files_limit().map(|count| count as u64),
                memory_limit_bytes: None,
            })
            .filter(|process| process.state != State::Gone)
            .collect();
        processes.sort_by_key(|process| process.identity.start);
        Ok(Found { processes, why: String::new() })
    }
}
