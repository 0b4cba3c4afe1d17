//! The event stream: tells open pages that there is something new, and nothing about what. They ask
//! for it themselves, with their own rights.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::accept::Site;
use crate::answer::{self, Answer};

/// At most one event in this time: a busy minute must not make a phone busy.
const EVERY: Duration = Duration::from_millis(250);
/// A sign of life, so that both ends notice a connection that is gone.
const SIGN: Duration = Duration::from_secs(15);

pub(crate) fn events(site: &Arc<Site>) -> Answer {
    let Ok(permit) = Arc::clone(&site.streams).try_acquire_owned() else {
        return answer::refused(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open");
    };
    let (events, rest) = mpsc::channel(2);
    let mut view = site.shared.view.clone();
    let mut stopping = site.stopping.clone();
    let clock = Arc::clone(&site.shared.clock);
    tokio::spawn(async move {
        // Whoever comes back after a gap sees at once what it missed.
        let mut event = format!("retry: 2000\nevent: changed\ndata: {}\n\n", clock().0);
        loop {
            if events.send(Bytes::from(event)).await.is_err() {
                break;
            }
            tokio::time::sleep(EVERY).await;
            event = tokio::select! {
                changed = view.changed() => match changed {
                    Ok(()) => format!("event: changed\ndata: {}\n\n", clock().0),
                    Err(_) => break,
                },
                () = tokio::time::sleep(SIGN) => ": here\n\n".to_owned(),
                () = events.closed() => break,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
        }
        drop(permit);
    });
    answer::stream(rest)
}
