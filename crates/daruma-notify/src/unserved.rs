//! What stands in for a channel that is configured and cannot be used: whoever should be told by it is
//! not told, and the ledger says so, message for message. It is never made from a configuration's text.

use crate::channel::{Channel, Context, Open};

/// A place in a receiver for which there is no channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// Its name within the receiver, such as `opsgenie[0]`.
    pub name: String,
    /// Why nothing goes there, and what to do about it; holds no secret.
    pub why: String,
    /// Whether it would be told the end.
    pub send_resolved: bool,
}

impl Channel for Unserved {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, _context: &Context) -> Result<Open, String> {
        Err(self.why.clone())
    }

    fn never(&self) -> Option<&str> {
        Some(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daruma_model::{AttemptOutcome, MessageStatus, Time};

    use super::Unserved;
    use crate::{ReceiverConfig, Sender, trial_message};

    #[tokio::test]
    async fn a_message_to_nowhere_is_refused_aloud_and_not_tried_again() {
        let place = Unserved {
            name: "opsgenie[0]".into(),
            why: "line 5: there is no channel for it".into(),
            send_resolved: true,
        };
        let receiver = ReceiverConfig { unserved: vec![place], ..ReceiverConfig::named("ops") };
        let sender = Sender::new(vec![receiver], Arc::new(|| Time(0))).unwrap();
        assert_eq!(sender.channels("ops"), ["ops/opsgenie[0]"]);
        let message = trial_message("ops/opsgenie[0]", MessageStatus::Firing, Time(0));
        let attempt = sender.send(&message, 1).await;
        assert_eq!(attempt.outcome, AttemptOutcome::Rejected);
        assert!(attempt.said.contains("no channel"), "{}", attempt.said);
    }
}
