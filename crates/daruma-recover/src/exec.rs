//! One act: start the program, keep its last words, end it in time, say how it ended.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use daruma_model::{ActionEnd, ActionOutcome, ActionRequest, Clock, Span};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::os;
use crate::output::Tail;
use crate::registry::{self, PATH, Registry};

/// Between asking a group to end and ending it.
pub const GRACE: Duration = Duration::from_secs(1);
/// The longest incident a program gets on its standard input, in bytes; see [`Performer::run`].
pub const INCIDENT_BYTES_MAX: usize = 256 * 1024;
/// The longest target or runbook name a program gets, in bytes; longer ones are refused.
pub const TARGET_BYTES_MAX: usize = 4096;

/// After the program has ended, how long its last words may take to come through.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the system may take to end a killed program (uninterruptible reads of a dead disk).
const REAP: Duration = Duration::from_secs(5);
/// A field of an incident too large to pass whole is left out from this size on, in bytes.
const FIELD_BYTES_MAX: usize = 16 * 1024;
/// How many services, started by actions, may keep printing into the output pipe of theirs.
const LEFTOVERS_MAX: usize = 64;

/// Runs what the registry lists; see [`Performer::run`].
#[derive(Clone)]
pub struct Performer {
    registry: Arc<RwLock<Arc<Registry>>>,
    clock: Clock,
    /// The lowest fence that has not been asked for.
    next_fence: Arc<AtomicU64>,
    leftovers: Arc<Semaphore>,
}

impl Performer {
    /// A performer which has seen no fence yet.
    #[must_use]
    pub fn new(registry: Registry, clock: Clock) -> Performer {
        Performer {
            registry: Arc::new(RwLock::new(Arc::new(registry))),
            clock,
            next_fence: Arc::new(AtomicU64::new(0)),
            leftovers: Arc::new(Semaphore::new(LEFTOVERS_MAX)),
        }
    }

    /// Refuses `fence` and all below: the highest one in the journal, after a restart.
    #[must_use]
    pub fn above(self, fence: u64) -> Performer {
        self.next_fence.fetch_max(fence.saturating_add(1), Ordering::SeqCst);
        self
    }

    /// From now on this registry counts. What runs already is not touched; fences stay spent.
    pub fn reload(&self, registry: Registry) {
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
    }

    /// Runs the action `request` names, once.
    ///
    /// The fence is spent by this call, in order of calls, before the returned future is first polled:
    /// spawn the futures as you like. Dropping the future does not end the program.
    ///
    /// `abort`: `true` ends the program as its timeout would; a closed channel never does.
    ///
    /// The program gets the arguments of the registry and nothing else; as environment `PATH`
    /// ([`PATH`]), `LANG=C.UTF-8`, the entry's `env`, `DARUMA_INCIDENT` (number), `DARUMA_ACTION_ID`,
    /// `DARUMA_TARGET`, `DARUMA_RUNBOOK`; on standard input the incident as one line of JSON. Of an
    /// incident above [`INCIDENT_BYTES_MAX`] the large fields are left out and named in `left_out`.
    /// It runs until it ends, is aborted, or the shorter of the request's and the registry's timeout
    /// is up. Then the group is asked to end, and after [`GRACE`] ended.
    ///
    /// The outcome comes with the end of the program itself: descendants may live on, be it a service
    /// it started. Whatever keeps it from starting is [`ActionEnd::NotStarted`] with the reason.
    pub fn run(
        &self,
        request: ActionRequest,
        abort: watch::Receiver<bool>,
    ) -> impl Future<Output = ActionOutcome> + Send + 'static {
        let fresh = self.claim(request.id.fence);
        let registry = Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner));
        let (clock, leftovers) = (Arc::clone(&self.clock), Arc::clone(&self.leftovers));
        async move {
            let started = clock();
            let ran = match fresh {
                Ok(()) => perform(&registry, &request, abort, leftovers).await,
                Err(why) => Err(why),
            };
            let (end, output) =
                ran.unwrap_or_else(|why| (ActionEnd::NotStarted(why), String::new()));
            ActionOutcome { id: request.id, end, started, ended: clock(), output }
        }
    }

    fn claim(&self, fence: u64) -> Result<(), String> {
        let next = self.next_fence.fetch_max(fence.saturating_add(1), Ordering::SeqCst);
        if fence < next {
            return Err(format!("fence {fence} is spent; the lowest that is not is {next}"));
        }
        Ok(())
    }
}

async fn perform(
    registry: &Registry,
    request: &ActionRequest,
    mut abort: watch::Receiver<bool>,
    leftovers: Arc<Semaphore>,
) -> Result<(ActionEnd, String), String> {
    let name = &request.action;
    let spec = registry
        .get(name)
        .ok_or_else(|| format!("`{}` is not in the actions registry", name.escape_debug()))?;
    if *abort.borrow() {
        return Err("it was aborted before it began".to_owned());
    }
    let time = request.timeout.min(spec.timeout);
    if time <= Span::ZERO {
        return Err("its time was up before it began".to_owned());
    }
    let mut environment =
        vec![("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
    environment.extend(spec.env.clone());
    environment.push(("DARUMA_INCIDENT".to_owned(), request.id.incident.to_string()));
    environment.push(("DARUMA_ACTION_ID".to_owned(), request.id.to_string()));
    environment.push(("DARUMA_TARGET".to_owned(), exact("target", &request.target)?));
    environment.push(("DARUMA_RUNBOOK".to_owned(), exact("runbook", &request.runbook)?));
    let program = registry::program(spec)?;
    let dir = registry::dir(spec)?;
    let started =
        os::start(&program, &spec.argv[1..], &dir, &environment, incident(&request.incident));
    let os::Started { mut child, output } = started.map_err(|error| match error.kind() {
        // The file is there, it was looked at just now: what is missing is what should read it.
        std::io::ErrorKind::NotFound => {
            format!("{}: its interpreter (`#!` or loader) is missing", program.display())
        }
        _ => format!("{}: {error}", program.display()),
    })?;

    let mut words = Words { output, tail: Tail::default(), over: false };
    let ended = tokio::select! {
        // A loud program must not keep the clock from being heard.
        biased;
        status = child.wait() => Ok(status),
        () = asked(&mut abort) => Err(ActionEnd::Aborted),
        () = sleep(time.to_std()) => Err(ActionEnd::TimedOut),
        never = words.listen() => match never {},
    };
    let end = match ended {
        Ok(Ok(status)) => os::end(status),
        // Somebody else reaped it: how it ended cannot be known.
        Ok(Err(_)) => ActionEnd::Unknown,
        Err(end) => {
            end_group(&mut child, &mut words).await;
            end
        }
    };
    let drained = timeout(DRAIN, words.finish()).await.is_ok();
    let text = words.tail.text();
    if !drained && let Ok(permit) = leftovers.try_acquire_owned() {
        // A service that still holds the pipe would stall on a full one: it is read, to nowhere.
        tokio::spawn(async move {
            words.finish().await;
            drop(permit);
        });
    }
    Ok((end, text))
}

/// Asks the group, waits until it has gone or [`GRACE`] is up, and ends what is left of it.
async fn end_group(child: &mut tokio::process::Child, words: &mut Words) {
    os::terminate(child);
    let until = Instant::now() + GRACE;
    // The child is not reaped before the last signal: until then its number is its group's alone.
    while Instant::now() < until && !os::group_gone(child) {
        tokio::select! {
            biased;
            () = sleep_until(until.min(Instant::now() + Duration::from_millis(25))) => {}
            never = words.listen() => match never {},
        }
    }
    os::kill(child);
    tokio::select! {
        biased;
        // Neither a failed wait nor a program stuck in the kernel changes what is reported.
        _ = timeout(REAP, child.wait()) => {}
        never = words.listen() => match never {},
    }
}

async fn asked(abort: &mut watch::Receiver<bool>) {
    if abort.wait_for(|asked| *asked).await.is_err() {
        std::future::pending().await
    }
}

/// What the program says.
struct Words {
    output: os::Output,
    tail: Tail,
    over: bool,
}

impl Words {
    /// Keeps reading; at the end of the stream, waits for ever.
    async fn listen(&mut self) -> Infallible {
        self.finish().await;
        std::future::pending().await
    }

    /// Reads to the end of the stream. A read error is an end too: nothing more can be heard.
    async fn finish(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while !self.over {
            match self.output.read(&mut buffer).await {
                Ok(0) | Err(_) => self.over = true,
                Ok(count) => self.tail.push(&buffer[..count]),
            }
        }
    }
}

/// A value that names what is acted on is passed exactly or not at all: a shortened one would name
/// something else.
fn exact(what: &str, value: &str) -> Result<String, String> {
    if value.len() > TARGET_BYTES_MAX {
        return Err(format!("the {what} has {} bytes, above {TARGET_BYTES_MAX}", value.len()));
    }
    if value.contains('\0') {
        return Err(format!("the {what} holds a NUL byte, which no environment can carry"));
    }
    Ok(value.to_owned())
}

/// One line of JSON, at most [`INCIDENT_BYTES_MAX`] bytes and always whole.
fn incident(incident: &Value) -> Vec<u8> {
    let mut line = incident.to_string();
    if line.len() >= INCIDENT_BYTES_MAX {
        line = essence(incident).to_string();
    }
    line.push('\n');
    line.into_bytes()
}

fn essence(incident: &Value) -> Value {
    let mut kept = Map::new();
    let mut left_out = Vec::new();
    let (mut bytes, mut unnamed) = (0, 0);
    for (name, value) in incident.as_object().into_iter().flatten() {
        let size = Value::from(name.as_str()).to_string().len() + value.to_string().len();
        if name != "left_out" && size <= FIELD_BYTES_MAX && bytes + size <= INCIDENT_BYTES_MAX / 2 {
            bytes += size;
            kept.insert(name.clone(), value.clone());
        } else if name.len() <= 100 && left_out.len() < 100 {
            left_out.push(Value::from(name.as_str()));
        } else {
            unnamed += 1;
        }
    }
    if unnamed > 0 || left_out.is_empty() {
        left_out.push(Value::from(format!("{unnamed} more")));
    }
    kept.insert("left_out".to_owned(), Value::from(left_out));
    Value::from(kept)
}
