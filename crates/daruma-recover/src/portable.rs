//! Starting and ending programs where there are no process groups or sessions.
//!
//! What is missing against Unix: at a timeout only the program itself is ended, at once and without
//! being asked; its descendants run on.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// What a running program prints, both streams.
pub(crate) type Output = tokio::fs::File;

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
    #[cfg(windows)]
    let reader = std::fs::File::from(std::os::windows::io::OwnedHandle::from(reader));
    #[cfg(not(windows))]
    let reader = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(false)
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        tokio::spawn(async move {
            // A program may end, or close its input, without having read it: that is its right.
            let _unread = tokio::io::AsyncWriteExt::write_all(&mut pipe, &stdin).await;
        });
    }
    Ok(Started { child, output: tokio::fs::File::from_std(reader) })
}

/// There is no way to ask.
pub(crate) fn terminate(_child: &Child) {}

/// Ends the program.
pub(crate) fn kill(child: &mut Child) {
    // Fails only when it has ended already.
    let _gone = child.start_kill();
}

/// Nobody was asked, so there is nothing to wait for.
pub(crate) fn group_gone(_child: &Child) -> bool {
    true
}

/// How it ended.
pub(crate) fn end(status: std::process::ExitStatus) -> daruma_model::ActionEnd {
    status.code().map_or(daruma_model::ActionEnd::Unknown, daruma_model::ActionEnd::Exited)
}
