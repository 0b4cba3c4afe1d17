//! How people want to be reached through a receiver: at once or gathered, and through whom else if not.

use serde::{Deserialize, Serialize};

use crate::interval::{Location, TimeOfDay};
use crate::{Level, Span, Time};

/// Alerts that wake nobody are gathered, and told together now and then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Digest {
    /// What is below this level is gathered; `error` unless said.
    pub below: Level,
    /// So long after the first of them it is told; a day unless said.
    pub every: Span,
    /// At this time of the day instead, such as `08:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeOfDay>,
    /// Whose clock `at` means; UTC unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { below: Level::Error, every: Span::hours(24), at: None, location: None }
    }
}

impl Digest {
    /// When what came first at `first` is told.
    #[must_use]
    pub fn due(&self, first: Time) -> Time {
        let at = self.at.and_then(|at| at.next(self.location.as_ref(), first));
        at.unwrap_or(first + self.every.max(Span::secs(1)))
    }
}

/// Who else is told if no channel of a receiver took a message in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Another receiver.
    pub to: String,
    /// So long after the message was due.
    pub after: Span,
}
