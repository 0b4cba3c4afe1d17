//! Asking the system what it may take for ever to answer: a file on a dead network disk blocks
//! whoever asks, and cannot be interrupted. So it is asked on a thread of its own, one question at
//! a time, and the source stays able to say that it hangs.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// One question at a time to a system that may hang.
pub struct Blocking<T> {
    running: Option<(JoinHandle<T>, Instant)>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The system has not come back.
    #[error("the system has not answered for {} s", .0.as_secs())]
    Hangs(Duration),
    /// The question panicked, or the program is ending.
    #[error("the question was broken off by a defect")]
    BrokenOff,
}

impl<T> Default for Blocking<T> {
    fn default() -> Blocking<T> {
        Blocking { running: None }
    }
}

impl<T: Send + 'static> Blocking<T> {
    /// Asks, and waits at most `within` for the answer. While an earlier question hangs nothing
    /// new is asked, so threads do not pile up; its late answer is old and thrown away.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ask(
        &mut self,
        within: Duration,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        if let Some((hanging, since)) = &mut self.running {
            if timeout(within, hanging).await.is_err() {
                return Err(NoAnswer::Hangs(since.elapsed()));
            }
            self.running = None;
        }
        let mut asked = tokio::task::spawn_blocking(question);
        match timeout(within, &mut asked).await {
            Ok(answer) => answer.map_err(|_| NoAnswer::BrokenOff),
            Err(_) => {
                self.running = Some((asked, Instant::now() - within));
                Err(NoAnswer::Hangs(within))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_system_that_hangs_is_asked_once_and_believed_again_when_it_is_back() {
        let (unhang, hang) = mpsc::channel::<()>();
        let mut disk = Blocking::default();
        let short = Duration::from_millis(20);
        let first = disk.ask(short, move || hang.recv().map_or(0, |()| 1)).await;
        assert!(matches!(first, Err(NoAnswer::Hangs(_))));
        let second = disk.ask(short, || unreachable!("asked while the first question hangs")).await;
        assert!(matches!(second, Err(NoAnswer::Hangs(_))));
        unhang.send(()).unwrap();
        assert_eq!(disk.ask(Duration::from_secs(30), || 2).await, Ok(2));
    }
}
