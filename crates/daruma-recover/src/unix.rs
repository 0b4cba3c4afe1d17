//! Starting and ending programs on Unix: a session of their own, and signals to the whole group.
//!
//! A program gets its own session, so that it outlives the monitor, a kill of the monitor's group and
//! a hang-up of its terminal; there is no parent-death signal. Its output pipe does not break when the
//! monitor dies: a restart that is half done must not fall over its own next line of output.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// What a running program prints, both streams.
pub(crate) type Output = tokio::net::unix::pipe::Receiver;

/// A program that runs.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) output: Output,
}

/// Starts `program` with exactly this environment and `stdin` to read.
pub(crate) fn start(
    program: &Path,
    arguments: &[String],
    dir: &Path,
    environment: &[(String, String)],
    stdin: Vec<u8>,
) -> io::Result<Started> {
    let (reader, writer) = io::pipe()?;
    let writer = unbreakable(&reader, writer);
    let output = Output::from_owned_fd(OwnedFd::from(reader))?;
    let (input, feed) = input(stdin)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(input)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(false);
    // Between fork and exec only these calls are made, each of them async-signal-safe and without
    // allocation; neither the standard library nor rustix offers setsid at spawn without this.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(fresh_start);
    }
    let mut child = command.spawn()?;
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), feed) {
        tokio::spawn(async move {
            // A program may end, or close its input, without having read it: that is its right.
            let _unread = tokio::io::AsyncWriteExt::write_all(&mut pipe, &bytes).await;
        });
    }
    Ok(Started { child, output })
}

/// In the child, before exec: own session, plain file mode, default signals, no foreign descriptors.
fn fresh_start() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Ignored signals survive exec: a monitor under nohup would make every program deaf to SIGHUP.
    // KILL, STOP and the two of the C library refuse, which is as it should be.
    for signal in 1..=64 {
        #[allow(unsafe_code)] // Setting a default disposition runs no code of ours.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    // Descriptors which the monitor itself inherited carelessly. Older kernels do not know the call;
    // what this process opens is close-on-exec anyway.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)] // Touches no memory; rustix does not wrap it.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

/// A pipe end for the program that is also its own reader, so that no write to it fails when the
/// monitor is gone; and room for what it prints from then on. Where that cannot be had, a plain end.
fn unbreakable(reader: &PipeReader, writer: PipeWriter) -> OwnedFd {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        if let Ok(both) = std::fs::File::options().read(true).write(true).open(path) {
            // Without the privilege for more room, the standard 64 KiB have to do.
            let _room = rustix::pipe::fcntl_setpipe_size(&both, 1 << 20);
            return both.into();
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = reader;
    writer.into()
}

/// `bytes` as a file in memory, which stays readable whatever becomes of the monitor and which nobody
/// has to wait for.
#[cfg(target_os = "linux")]
fn input(bytes: Vec<u8>) -> io::Result<(Stdio, Option<Vec<u8>>)> {
    use std::io::{Seek, Write};
    let file = rustix::fs::memfd_create("daruma-incident", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes)?;
    file.rewind()?;
    Ok((file.into(), None))
}

#[cfg(not(target_os = "linux"))]
fn input(bytes: Vec<u8>) -> io::Result<(Stdio, Option<Vec<u8>>)> {
    Ok((Stdio::piped(), Some(bytes)))
}

/// Asks the whole group to end.
pub(crate) fn terminate(child: &Child) {
    signal(child, Signal::TERM);
}

/// Ends the whole group.
pub(crate) fn kill(child: &mut Child) {
    signal(child, Signal::KILL);
}

/// The group's number is the child's until the child is reaped, and `id` is none from then on: no
/// stranger's group can be hit.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = pid {
        // Fails only when nobody is left to hear it.
        let _nobody = kill_process_group(group, signal);
    }
}

/// Whether nobody of the child's group runs any more (the unreaped child itself does not count).
/// `false` when that cannot be told.
pub(crate) fn group_gone(child: &Child) -> bool {
    let Some(group) = child.id() else { return true };
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let mut seen = false;
    for process in processes.flatten() {
        let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else { continue };
        // The name stands in parentheses and may hold anything; the fields after it are state,
        // parent, group.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let mut fields = fields.split_ascii_whitespace();
        let (state, of) = (fields.next(), fields.nth(1));
        if of.and_then(|of| of.parse().ok()) == Some(group) {
            seen = true;
            if !matches!(state, Some("Z" | "X")) {
                return false;
            }
        }
    }
    seen
}

/// How it ended.
pub(crate) fn end(status: std::process::ExitStatus) -> daruma_model::ActionEnd {
    use std::os::unix::process::ExitStatusExt;

    use daruma_model::ActionEnd::{Exited, Signalled, Unknown};
    match (status.code(), status.signal()) {
        (Some(code), _) => Exited(code),
        (None, Some(signal)) => Signalled(signal),
        (None, None) => Unknown,
    }
}
