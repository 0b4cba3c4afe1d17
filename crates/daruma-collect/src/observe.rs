//! Answers a witness's question freshly: looks once, now, with nothing kept from earlier looks.
//!
//! A recovery is decided and verified on these answers, so the three verdicts are kept apart with
//! care: [`Verdict::Clear`] only when it looked and saw that the statement is false;
//! [`Verdict::Unknown`] when it could not look, whatever the reason. What never happens here: a
//! connection, a process or a file handle outlives the answer.

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daruma_model::{Check, Clock, Evidence, FileCheck, ProcessCheck, Span, Time, Verdict};
use tokio::sync::Semaphore;

use crate::http::Client;
use crate::probe::{HttpCheck, Seen, TcpCheck};
use crate::process;

/// How long the system may take to answer about a process or a file.
const SYSTEM_WITHIN: Duration = Duration::from_secs(5);
/// The most such questions at once: one about a dead network disk holds a thread until it is back.
static ASKING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(16)));

/// Asks `check` now. The first of the three is when the look **began**.
///
/// [`Check::Expr`] is answered by whoever keeps the series; here it is [`Verdict::Unknown`].
pub async fn observe(check: &Check, clock: &Clock) -> (Time, Verdict, Evidence) {
    let began = clock();
    let (verdict, evidence) = match check {
        Check::Http(probe) => match HttpCheck::new(probe) {
            Ok(check) => seen(check.ask(&Client::new(clock.clone())).await),
            Err(why) => unknown(why),
        },
        Check::Tcp(probe) => match TcpCheck::new(probe) {
            Ok(check) => seen(check.ask().await),
            Err(why) => unknown(why),
        },
        Check::Process(check) => look_at_process(check).await,
        Check::File(check) => look_at_file(check, began).await,
        Check::Expr(_) => unknown("an expression is not asked of a witness at the target".into()),
    };
    (began, verdict, evidence)
}

fn unknown(why: String) -> (Verdict, Evidence) {
    (Verdict::Unknown, Evidence::said(why))
}

fn seen(seen: Seen) -> (Verdict, Evidence) {
    let verdict = match seen.failed {
        None => Verdict::Holds,
        Some(reason) if reason.is_evidence() => Verdict::Clear,
        Some(_) => Verdict::Unknown,
    };
    let evidence = Evidence {
        summary: seen.said,
        value: seen.status.map(f64::from),
        lines: seen.body.into_iter().filter(|body| !body.is_empty()).collect(),
        ..Evidence::default()
    };
    (verdict, evidence)
}

/// Asks the system on a thread of its own, and gives up on an answer that does not come.
async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let permit = ASKING.clone().try_acquire_owned();
    let permit = permit.map_err(|_| "too many questions to the system hang already".to_owned())?;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = question();
        drop(permit);
        answer
    });
    match tokio::time::timeout(SYSTEM_WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| format!("the question was broken off: {error}")),
        Err(_) => Err(format!("the system has not answered within {SYSTEM_WITHIN:?}")),
    }
}

async fn look_at_process(check: &ProcessCheck) -> (Verdict, Evidence) {
    let title = check.title();
    let check = check.clone();
    match ask(move || process::look_once(&check)).await {
        Ok(Ok(found)) => {
            let verdict = if found.state().is_up() { Verdict::Holds } else { Verdict::Clear };
            (verdict, Evidence::said(found.said(&title)))
        }
        Ok(Err(why)) => unknown(format!("process {title}: {why}")),
        Err(why) => unknown(format!("process {title}: {why}")),
    }
}

async fn look_at_file(check: &FileCheck, now: Time) -> (Verdict, Evidence) {
    let shown = check.path.display().to_string();
    let path = check.path.clone();
    let changed = match ask(move || changed(&path)).await {
        Ok(Ok(Some(changed))) => changed,
        Ok(Ok(None)) => {
            return (Verdict::Clear, Evidence::said(format!("there is no file {shown}")));
        }
        Ok(Err(error)) => return unknown(format!("cannot look at {shown}: {error}")),
        Err(why) => return unknown(format!("{shown}: {why}")),
    };
    let age = now - changed;
    if age < Span::secs(-60) {
        return unknown(format!("{shown} was written in the future: a clock is wrong"));
    }
    let (verdict, words) = if age > check.max_age {
        (Verdict::Clear, "more than")
    } else {
        (Verdict::Holds, "within")
    };
    let said = format!("{shown} was written {age} ago, {words} {}", check.max_age);
    (verdict, Evidence { value: Some(age.as_secs_f64()), ..Evidence::said(said) })
}

/// `None`: there is no such file.
fn changed(path: &Path) -> io::Result<Option<Time>> {
    let modified = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?.modified()?,
    };
    Ok(Some(time_of(modified)))
}

fn time_of(moment: SystemTime) -> Time {
    let milliseconds = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    match moment.duration_since(UNIX_EPOCH) {
        Ok(after) => Time(milliseconds(after)),
        Err(before) => Time(-milliseconds(before.duration())),
    }
}

#[cfg(test)]
mod tests;
