//! What comes into the core and what goes out of it.

use daruma_model::{
    ActionId, ActionOutcome, ActionRequest, Attempt, Check, Finding, Labels, Matchers, Message,
    Observation, SourceHealth, Span, Time,
};
use serde::{Deserialize, Serialize};

use crate::Policy;

/// One thing that happened. The journal keeps every one of them before the core sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// A configuration was loaded; it rules from here on, so a replay meets it at the same place.
    Policy(Box<Policy>),
    /// The program started (again). Acts whose outcome was not recorded have an unknown one.
    Started,
    /// A rule changed its mind about a label set.
    Found(Finding),
    /// A witness answered.
    Observed(Observation),
    /// An act ended.
    Acted(ActionOutcome),
    /// An attempt at a message ended.
    Attempted(Attempt),
    /// A source changed its state.
    Source(SourceHealth),
    /// Somebody else's rules say that these alerts fire, or are over: one batch of the API.
    Posted(Vec<crate::AlertIn>),
    /// As [`Event::Posted`], where some is held already: of what was said again in the same words only the
    /// name is kept.
    Reposted {
        /// What is held.
        again: Vec<crate::Again>,
        /// The rest.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fresh: Vec<crate::AlertIn>,
    },
    /// A person or a script asked for something.
    Commanded {
        /// Who, as far as it is known: a name given on the command line or a token's name.
        by: String,
        /// What.
        command: Command,
    },
    /// A deadline that [`crate::Core::wake_at`] named has come.
    Tick,
}

impl Event {
    /// The name under which the journal files it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Policy(_) => "policy",
            Event::Started => "started",
            Event::Found(_) => "found",
            Event::Observed(_) => "observed",
            Event::Acted(_) => "acted",
            Event::Attempted(_) => "attempted",
            Event::Source(_) => "source",
            Event::Posted(_) => "posted",
            Event::Reposted { .. } => "reposted",
            Event::Commanded { .. } => "commanded",
            Event::Tick => "tick",
        }
    }
}

/// What a person or a script may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Somebody looks after the incident. Ends by itself.
    Ack {
        /// Which incident.
        incident: u64,
        /// For how long; 1 h unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl: Option<Span>,
        /// A word to the others.
        #[serde(default)]
        comment: String,
    },
    /// Mutes notifications of matching alerts, and keeps recovery off them.
    Silence {
        /// What it mutes; not empty.
        matchers: Matchers,
        /// When it ends.
        ttl: Span,
        /// Why.
        comment: String,
    },
    /// Makes or changes a silence as Alertmanager's API does: one that is changed beyond its end and its
    /// comment ends, and another begins.
    PutSilence {
        /// The one to change, by its [`crate::Silence::uuid`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<String>,
        /// What it mutes; not empty, and not satisfied by having no labels at all.
        matchers: Matchers,
        /// When it begins; the past counts as now.
        from: daruma_model::Time,
        /// When it ends.
        until: daruma_model::Time,
        /// Who, in their own words.
        by: String,
        /// Why.
        comment: String,
    },
    /// Ends a silence now.
    EndSilence {
        /// Which, by its [`crate::Silence::uuid`].
        uuid: String,
    },
    /// Ends a silence now.
    Unsilence {
        /// Which.
        id: u64,
    },
    /// Keeps recovery off matching targets and mutes their alerts, e.g. in a deploy.
    Hold {
        /// What it holds; not empty.
        matchers: Matchers,
        /// When it ends by itself.
        ttl: Span,
        /// Why.
        comment: String,
    },
    /// Ends a hold now.
    Release {
        /// Which.
        id: u64,
    },
    /// Stops every recovery in this incident and starts none again until it is resolved.
    Abort {
        /// Which incident.
        incident: u64,
    },
    /// The global stop: no action starts while it is on.
    Stop {
        /// On or off.
        on: bool,
        /// Why; e.g. the stop file's path.
        #[serde(default)]
        comment: String,
    },
    /// Somebody looks after the incident, by the link in a message. The link serves once.
    AckByLink {
        /// Which incident.
        incident: u64,
        /// By what the link is remembered: a digest, from which it cannot be told.
        link: String,
        /// Tells this use of it from any other.
        nonce: String,
        /// When it serves no more.
        expires: daruma_model::Time,
        /// For how long.
        ttl: Span,
    },
    /// Sends a message that says it is a test, once, whatever comes of it.
    SendTest {
        /// A receiver, or one of its channels such as `ops/webhook[0]`.
        to: String,
    },
    /// A far side told what became of a message that it took.
    Receipt(daruma_model::Receipt),
    /// Closes the breaker of a runbook again.
    ResetBreaker {
        /// Which runbook.
        runbook: String,
    },
}

/// Fresh observations that the core wants: every check at its own pace until [`Effect::Unwatch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Returned in every [`Observation`].
    pub id: u64,
    /// The questions; their index is returned in every [`Observation`].
    pub checks: Vec<WatchCheck>,
    /// Only what is observed after this counts.
    pub after: Time,
    /// Verification: what was observed up to `after` must not even be looked at, so that no window
    /// reaches back over the act. Otherwise (confirmation) a window may, if its newest sample is new.
    pub blind_before: bool,
    /// The labels of the target, for the record.
    pub labels: Labels,
}

/// One question of a [`Watch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchCheck {
    /// What to ask.
    pub check: Check,
    /// How often.
    pub every: Span,
}

/// A wish of the core. [`Effect::Act`] and [`Effect::Send`] are recorded as decisions before a
/// performer sees them; the other two only ask to look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum Effect {
    /// Run an action once.
    Act(ActionRequest),
    /// End a running action.
    Abort(ActionId),
    /// Attempt a message.
    Send {
        /// What to say, to whom.
        message: Message,
        /// The attempt, from 1.
        number: u32,
    },
    /// Begin to observe.
    Watch(Watch),
    /// Observe no longer.
    Unwatch(u64),
}
