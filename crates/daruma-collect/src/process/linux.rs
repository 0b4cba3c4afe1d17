//! Processes by `/proc` and pidfds.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};
use tokio::io::unix::AsyncFd;

use super::{Finder, Found, Identity, Reading, State};

/// How much later than its pid file's last change a process may have started: supervisors write it
/// before, daemons after their start; the boot time is only known to a second, and clocks slew.
const REUSE_SLACK_SECONDS: f64 = 10.0;
/// The most processes one source keeps.
const PROCESSES_MAX: usize = 1000;
/// The most exits one source waits for: descriptors are few.
const PIDFDS_MAX: usize = 64;
/// How often all processes are searched while those that were found run on.
const SEARCH_EVERY: Duration = Duration::from_secs(5);
/// How often the limits of one process are read.
const LIMITS_EVERY: Duration = Duration::from_secs(30);
/// How much of a command line is searched.
const COMMAND_BYTES_MAX: u64 = 64 << 10;
/// How much of a pid file is read.
const PID_FILE_BYTES_MAX: u64 = 64;

/// Finds, and remembers what it has found.
pub(crate) struct Looker {
    finder: Finder,
    /// Wait for exits; needs a runtime with I/O.
    watch: bool,
    known: Vec<Known>,
    searched: Option<Instant>,
    page_bytes: u64,
    ticks_per_second: f64,
}

struct Known {
    identity: Identity,
    started: f64,
    limits: Limits,
    limits_read: Instant,
    exit: Option<AsyncFd<OwnedFd>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    max_fds: Option<u64>,
    memory_bytes: Option<u64>,
}

impl Looker {
    pub(crate) fn new(finder: Finder, watch: bool) -> Looker {
        Looker {
            finder,
            watch,
            known: Vec::new(),
            searched: None,
            page_bytes: rustix::param::page_size() as u64,
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
        }
    }

    /// Resolves when one of the known processes has exited, once for each; cancel safe.
    pub(crate) async fn exited(&mut self) {
        poll_fn(|context| {
            for known in &mut self.known {
                if let Some(exit) = &known.exit
                    && exit.poll_read_ready(context).is_ready()
                {
                    known.exit = None;
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn look(&mut self) -> Result<Found, String> {
        match self.finder.clone() {
            Finder::PidFile(path) => self.look_by_pid_file(&path),
            Finder::Exe(path) => {
                let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let name = name.unwrap_or_default();
                self.look_by_search(&mut |pid| is_exe(pid, &path, &real, &name))
            }
            Finder::Pattern(pattern) => {
                self.look_by_search(&mut |pid| Ok(pattern.is_match(&command_line(pid)?)))
            }
        }
    }

    fn look_by_pid_file(&mut self, path: &Path) -> Result<Found, String> {
        let named = read_pid_file(path);
        let (pid, written) = match named {
            Ok(Named::Pid(pid, written)) => (pid, written),
            // Who was adopted by a good pid file is still the process meant when the file goes.
            Ok(Named::Nobody(why)) => return Ok(self.still_there().unwrap_or(gone(why))),
            Err(why) => return self.still_there().ok_or(why),
        };
        let Some(stat) = read_stat(pid).map_err(|error| cannot_look(pid, &error))? else {
            if Pid::from_raw(pid.cast_signed()).map(test_kill_process)
                == Some(Err(rustix::io::Errno::PERM))
            {
                return Err(format!("process {pid} is hidden from this user (/proc with hidepid)"));
            }
            self.known.clear();
            return Ok(gone(format!("{} names pid {pid}, which is no process", path.display())));
        };
        if !self.known.iter().any(|known| known.identity == stat.identity(pid)) {
            self.known.clear();
            let started = self.started(&stat)?;
            if written.is_some_and(|written| started > written + REUSE_SLACK_SECONDS) {
                return Ok(gone(format!(
                    "{} names pid {pid}, which started {:.0} s after the file was written: the number was used again",
                    path.display(),
                    started - written.unwrap_or(started),
                )));
            }
            self.adopt(stat.identity(pid), started);
        }
        Ok(self.read_known())
    }

    /// What is known, if any of it still runs.
    fn still_there(&mut self) -> Option<Found> {
        let found = self.read_known();
        found.state().is_up().then_some(found)
    }

    fn look_by_search(
        &mut self,
        fits: &mut dyn FnMut(u32) -> io::Result<bool>,
    ) -> Result<Found, String> {
        let fresh = self.searched.is_some_and(|searched| searched.elapsed() < SEARCH_EVERY);
        if fresh && !self.known.is_empty() {
            let before = self.known.len();
            let found = self.read_known();
            let all_up = found.processes.iter().all(|process| process.state < State::Zombie);
            if self.known.len() == before && all_up {
                return Ok(found);
            }
        }
        self.searched = Some(Instant::now());
        let own = std::process::id();
        let (mut denied, mut fitting) = (None, Vec::new());
        let entries =
            fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("cannot read /proc: {error}"))?;
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if pid == own {
                continue;
            }
            match fits(pid) {
                Ok(true) => fitting.push(pid),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(pid),
                // It exited meanwhile, or is a thread of the kernel.
                Err(_) => {}
            }
        }
        let by_pattern = matches!(self.finder, Finder::Pattern(_));
        let mut identities = Vec::new();
        for pid in fitting.into_iter().take(PROCESSES_MAX) {
            let Ok(Some(stat)) = read_stat(pid) else { continue };
            // A child of this program is a command it runs, whose arguments may well name the
            // service it restarts.
            if !(by_pattern && stat.parent == own) {
                identities.push((stat.identity(pid), stat));
            }
        }
        // A zombie has lost its command line and executable, but not its identity.
        self.known.retain(|known| {
            identities.iter().any(|(identity, _)| *identity == known.identity)
                || read_stat(known.identity.pid).is_ok_and(|stat| {
                    stat.is_some_and(|stat| {
                        stat.identity(known.identity.pid) == known.identity
                            && stat.state == State::Zombie
                    })
                })
        });
        for (identity, stat) in identities {
            if !self.known.iter().any(|known| known.identity == identity) {
                let started = self.started(&stat)?;
                self.adopt(identity, started);
            }
        }
        self.known.sort_by_key(|known| known.identity.start);
        let found = self.read_known();
        if !found.state().is_up() {
            if let Some(pid) = denied {
                return Err(format!("pid {pid} may be it, but this user may not look at it"));
            }
            if !Path::new("/proc/1").exists() {
                return Err("other users' processes are hidden (/proc with hidepid)".into());
            }
        }
        Ok(found)
    }

    fn started(&self, stat: &Stat) -> Result<f64, String> {
        let boot = boot_time().map_err(|error| format!("cannot read /proc/stat: {error}"))?;
        Ok(boot + stat.start as f64 / self.ticks_per_second)
    }

    fn adopt(&mut self, identity: Identity, started: f64) {
        let waiting = self.known.iter().filter(|known| known.exit.is_some()).count();
        // Without a pidfd (an old kernel, no descriptors left) the next look sees the exit.
        let exit = if self.watch && waiting < PIDFDS_MAX { exit_of(identity.pid) } else { None };
        // Between reading its start and opening the pidfd it may have gone, and its number be used
        // again; then the next look finds another start and lets go of this one.
        self.known.push(Known {
            identity,
            started,
            limits: read_limits(identity.pid),
            limits_read: Instant::now(),
            exit,
        });
    }

    /// Reads every known process; those that are gone are forgotten.
    fn read_known(&mut self) -> Found {
        let mut processes = Vec::with_capacity(self.known.len());
        let (page_bytes, ticks) = (self.page_bytes, self.ticks_per_second);
        self.known.retain_mut(|known| {
            let pid = known.identity.pid;
            let Ok(Some(stat)) = read_stat(pid) else { return false };
            if stat.identity(pid) != known.identity {
                return false;
            }
            if known.limits_read.elapsed() >= LIMITS_EVERY {
                known.limits = read_limits(pid);
                known.limits_read = Instant::now();
            }
            processes.push(Reading {
                identity: known.identity,
                state: stat.state_of_group(pid),
                resident_bytes: stat.resident_pages * page_bytes,
                cpu_seconds: stat.cpu_ticks as f64 / ticks,
                threads: stat.threads,
                started: known.started,
                open_fds: open_fds(pid),
                max_fds: known.limits.max_fds,
                memory_limit_bytes: known.limits.memory_bytes,
            });
            true
        });
        Found { processes, why: String::new() }
    }
}

#[expect(deprecated, reason = "sound for an OwnedFd, which stays open and the same")]
fn exit_of(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::NONBLOCK).ok()?;
    AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).ok()
}

fn gone(why: String) -> Found {
    Found { processes: Vec::new(), why }
}

fn cannot_look(pid: u32, error: &io::Error) -> String {
    format!("cannot look at process {pid}: {error}")
}

enum Named {
    /// The number, and when the file was last changed, in seconds since 1970.
    Pid(u32, Option<f64>),
    Nobody(String),
}

fn read_pid_file(path: &Path) -> Result<Named, String> {
    let shown = path.display();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Named::Nobody(format!("there is no pid file {shown}")));
        }
        opened => opened.map_err(|error| format!("cannot read the pid file {shown}: {error}"))?,
    };
    let mut text = Vec::new();
    let read = file.by_ref().take(PID_FILE_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| format!("cannot read the pid file {shown}: {error}"))?;
    let word = text.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
    let Some(word) = word else {
        return Ok(Named::Nobody(format!("the pid file {shown} is empty")));
    };
    let pid = std::str::from_utf8(word).ok().and_then(|word| word.parse::<i32>().ok());
    let Some(pid) = pid.filter(|pid| *pid > 0) else {
        return Err(format!("the pid file {shown} does not begin with a pid"));
    };
    let changed = file.metadata().and_then(|found| found.modified()).ok();
    let written = changed.map(|changed| match changed.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    });
    Ok(Named::Pid(pid.cast_unsigned(), written))
}

/// What one line of `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: State,
    parent: u32,
    cpu_ticks: u64,
    threads: u64,
    /// Ticks since boot.
    start: u64,
    resident_pages: u64,
}

impl Stat {
    fn identity(&self, pid: u32) -> Identity {
        Identity { pid, start: self.start }
    }

    /// A process whose first thread has exited is a zombie to `ps`, but its other threads serve on.
    fn state_of_group(&self, pid: u32) -> State {
        if self.state != State::Zombie || self.threads < 2 {
            return self.state;
        }
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return self.state };
        let states = tasks.take(4096).flatten().filter_map(|task| {
            let text = fs::read(task.path().join("stat")).ok()?;
            Some(parse_stat(&text)?.state)
        });
        states.min().unwrap_or(self.state)
    }
}

fn parse_stat(line: &[u8]) -> Option<Stat> {
    // The name of the command stands in parentheses and may hold any byte, these included.
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(close + 2..)?).ok()?;
    let mut fields = [""; 22];
    for (field, word) in fields.iter_mut().zip(rest.split_ascii_whitespace()) {
        *field = word;
    }
    let number = |field: usize| fields[field].parse::<u64>().ok();
    Some(Stat {
        state: match fields[0] {
            "R" => State::Running,
            "D" => State::Disk,
            "T" | "t" => State::Stopped,
            "Z" => State::Zombie,
            "X" | "x" => State::Gone,
            _ => State::Sleeping,
        },
        parent: fields[1].parse().ok()?,
        cpu_ticks: number(11)?.saturating_add(number(12)?),
        threads: number(17)?,
        start: number(19)?,
        resident_pages: fields[21].parse::<i64>().ok()?.max(0).cast_unsigned(),
    })
}

/// `None`: there is no such process.
fn read_stat(pid: u32) -> io::Result<Option<Stat>> {
    let mut line = [0; 1024];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line));
    match read {
        Ok(length) => match parse_stat(&line[..length]) {
            Some(stat) if stat.state == State::Gone => Ok(None),
            Some(stat) => Ok(Some(stat)),
            None => Err(io::Error::other("its stat line is no stat line")),
        },
        // ESRCH: it went between open and read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn boot_time() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok())
        .ok_or_else(|| io::Error::other("it has no btime"))
}

fn read_limits(pid: u32) -> Limits {
    // Without permission there is no limit to show, and the series is absent.
    fs::read_to_string(format!("/proc/{pid}/limits"))
        .map_or(Limits::default(), |text| parse_limits(&text))
}

fn parse_limits(text: &str) -> Limits {
    let soft = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    let memory = [soft("Max address space"), soft("Max data size")];
    Limits { max_fds: soft("Max open files"), memory_bytes: memory.into_iter().flatten().min() }
}

fn open_fds(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the size of this folder is the number of descriptors.
    match fs::metadata(&path) {
        Ok(found) if found.len() > 0 => {
            // Anyone may ask for the size, so it also tells where the folder may not be read.
            Some(found.len())
        }
        _ => Some(fs::read_dir(&path).ok()?.count() as u64),
    }
}

fn command_line(pid: u32) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/cmdline"))?.take(COMMAND_BYTES_MAX).read_to_end(&mut bytes)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(io::ErrorKind::NotFound.into()); // A thread of the kernel, or a zombie.
    }
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_exe(pid: u32, path: &Path, real: &Path, name: &str) -> io::Result<bool> {
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(found) => {
            // An executable that was replaced since is still the one meant.
            let found = match found.to_str().and_then(|found| found.strip_suffix(" (deleted)")) {
                Some(before) => PathBuf::from(before),
                None => found,
            };
            Ok(found == path || found == real)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // The command's name anyone may read; only one that fits leaves it open.
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"))?;
            let comm = comm.trim_end();
            if !comm.is_empty() && name.starts_with(comm) { Err(error) } else { Ok(false) }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_named_like_a_stat_line_fools_nobody() {
        let line = b"42 (evil) R 1 (x) S 7 42 42 0 -1 4194560 1 0 0 0 11 22 0 0 20 0 3 0 5555 1000 17 18446744073709551615 1\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.cpu_ticks), (State::Sleeping, 7, 33));
        assert_eq!((stat.threads, stat.start, stat.resident_pages), (3, 5555, 17));
    }

    #[test]
    fn limits_are_the_soft_ones() {
        let text = "Limit    Soft Limit  Hard Limit Units\n\
            Max data size             unlimited            unlimited            bytes\n\
            Max open files            1024                 20000                files\n\
            Max address space         1048576              unlimited            bytes\n";
        let want = Limits { max_fds: Some(1024), memory_bytes: Some(1 << 20) };
        assert_eq!(parse_limits(text), want);
    }

    proptest! {
        #[test]
        fn no_stat_line_makes_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&line);
        }

        #[test]
        fn no_limits_make_the_reader_panic(text in "(Max open files|Max data size)?\\PC{0,60}") {
            let _ = parse_limits(&text);
        }
    }
}
