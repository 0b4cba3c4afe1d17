//! A look that takes its time must not silence its source: while it lasts, the source goes on
//! delivering what it keeps and reporting on itself, and it stays able to stop.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Reporter;

/// How often a source speaks while it looks.
const SPEAK_EVERY: Duration = Duration::from_secs(5);

impl Reporter {
    /// What `look` brings; `None`: everything is being stopped, and the look was broken off.
    pub async fn during<T>(&mut self, look: impl Future<Output = T>) -> Option<T> {
        let mut look = pin!(look);
        loop {
            tokio::select! {
                biased;
                seen = &mut look => return Some(seen),
                go_on = self.wait_until(Instant::now() + SPEAK_EVERY) => {
                    if !go_on {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::run_as;
    use daruma_model::SourceState;

    #[tokio::test]
    async fn a_source_whose_look_never_ends_still_speaks() {
        let mut source = run_as("probe/slow", |mut reporter| async move {
            reporter.ok("");
            reporter.during(std::future::pending::<()>()).await;
        });
        let first = source.health(SourceState::Ok).await;
        let second = source.health(SourceState::Ok).await;
        assert!(second.at > first.at);
    }
}
