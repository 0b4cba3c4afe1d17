//! A program of this host: arguments as they are configured, the message as JSON on its standard input,
//! and no shell in between, so that no text of an alert becomes a command.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use daruma_model::{Message, Span};
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::channel::{Channel, Context, Notifier, Open, Reach, Request, To};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Protocol, Receipts, Unit};
use crate::secret::Secret;
use crate::send::TIMEOUT;

/// What is kept of what a program says, in bytes.
const SAID_BYTES_MAX: u64 = 64 * 1024;
/// Arguments and variables.
const WORDS_MAX: usize = 100;

/// One entry of `exec_configs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ExecConfig {
    /// The program by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// Its environment besides `PATH` and `HOME`.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// How long it may take; 0 or left out: 10 s.
    #[serde(default)]
    pub timeout: Span,
    /// Whether it is told the end.
    #[serde(default = "ExecConfig::yes")]
    pub send_resolved: bool,
}

impl ExecConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "exec",
        auth: "none: it runs as this program does",
        limits: &[Limit::of("said", SAID_BYTES_MAX as usize, Unit::Bytes)],
        pace: &[],
        answers: Answers {
            protocol: Protocol::Exit,
            // The codes of sysexits.h which say that repeating is of no use.
            codes: &[
                Code("64", Meaning::Never, "it does not understand its arguments"),
                Code("65", Meaning::Never, "it does not understand the message"),
                Code("67", Meaning::Never, "it does not know the addressee"),
                Code("77", Meaning::Never, "it has not the right"),
                Code("78", Meaning::Never, "its configuration is wrong"),
            ],
            ..Answers::HTTP
        },
        deduplicates: Some("`daruma.message` in its input"),
        edits: false,
        receipts: Receipts::None,
    };

    fn yes() -> bool {
        true
    }

    fn well_formed(&self) -> Result<(), String> {
        let Some(program) = self.argv.first() else {
            return Err("`argv` must name a program".to_owned());
        };
        if !std::path::Path::new(program).is_absolute() {
            return Err("`argv` begins with the absolute path of a program".to_owned());
        }
        if self.argv.len() > WORDS_MAX || self.env.len() > WORDS_MAX {
            return Err(format!("`argv` and `env` take {WORDS_MAX} words each"));
        }
        let named = self.env.keys().all(|name| !name.is_empty() && !name.contains(['=', '\0']));
        let values = self.env.values().map(Secret::expose);
        if !named || self.argv.iter().map(String::as_str).chain(values).any(|w| w.contains('\0')) {
            return Err("`argv` or `env` holds a word no program can be given".to_owned());
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ExecConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExecConfig, D::Error> {
        let config = ExecConfig::deserialize(deserializer)?;
        config.well_formed().map_err(de::Error::custom)?;
        Ok(config)
    }
}

impl Serialize for ExecConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ExecConfig::serialize(self, serializer)
    }
}

impl Channel for ExecConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        if let Some(program) = self.argv.first()
            && !std::path::Path::new(program).is_file()
        {
            return Err(format!("{program} is not a file"));
        }
        let timeout = if self.timeout > Span::ZERO { self.timeout.to_std() } else { TIMEOUT };
        let notifier = Exec { config: self.clone(), context: context.clone() };
        Ok(Open::of(notifier, Reach::Run(timeout), self.env.values().cloned().collect()))
    }
}

struct Exec {
    config: ExecConfig,
    context: Context,
}

impl Notifier for Exec {
    fn declared(&self) -> &'static Declared {
        &ExecConfig::DECLARED
    }

    fn request(&self, message: &Message, _to: To<'_>) -> Request {
        let body = crate::webhook::body(message, 0, &self.context);
        let env = self.config.env.iter().map(|(name, v)| (name.clone(), v.clone())).collect();
        Request::Run {
            argv: self.config.argv.clone(),
            env,
            input: format!("{body}\n").into_bytes(),
        }
    }
}

/// Runs a program once: its exit status and the beginning of what it said. An error is a reason why
/// there is no status at all.
pub(crate) async fn run(
    argv: &[String],
    env: &[(String, Secret)],
    input: Vec<u8>,
    timeout: Duration,
) -> Result<(u16, String), String> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err("no program is named".to_owned());
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let group = Group(child.id());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Whoever does not read its input may still do its work: its status counts.
            let _unread = stdin.write_all(&input).await;
        }
    };
    let all = async {
        let ((), said, complaints, status) =
            tokio::join!(feed, heard(stdout), heard(stderr), child.wait());
        (status, said, complaints)
    };
    let (status, said, complaints) = tokio::time::timeout(timeout, all)
        .await
        .map_err(|_| format!("{program}: it took longer than {timeout:?} and was ended"))?;
    drop(group);
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    let said = [complaints, said].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match status.code().map(u16::try_from) {
        Some(Ok(code)) => Ok((code, said)),
        _ => Err(format!("{program}: {status}: {said}")),
    }
}

/// All is read, so that a talkative program does not stand still; the beginning is kept.
async fn heard(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is all there is to say about it.
        let _ended = (&mut stream).take(SAID_BYTES_MAX).read_to_end(&mut kept).await;
        let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

/// The program and its children, which end with the attempt.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.0.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // None of them may be left, which is as well.
            let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}
