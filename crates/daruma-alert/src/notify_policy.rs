//! Whom to tell, when, and how it climbs if nobody answers: the part of the section `notify` that the
//! core decides by.

use std::collections::BTreeSet;

use daruma_model::interval::TimeInterval;
use daruma_model::{Digest, Fallback, Labels, Level, Matchers, Span, Time};
use serde::{Deserialize, Serialize};

use crate::policy::PolicyError;
use crate::routing::Routing;

/// Steps a chain may have.
const STEPS_MAX: usize = 20;

/// Whom to tell: the part of the section `notify` that the core decides by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotifyPolicy {
    /// How long an incident's first message waits for company.
    pub group_wait: Span,
    /// The first route whose matchers fit names the receivers; without a fitting one, all are told.
    pub routes: Vec<Route>,
    /// Everybody who can be told.
    pub receivers: Vec<ReceiverPolicy>,
    /// Alertmanager's tree; where it is there, it decides instead of `routes` and `group_wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// How grave an alert is: the first whose matchers fit; else its label `severity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelRule>,
    /// Chains of people who are told one after another until somebody looks after it; the first that
    /// fits an incident is climbed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escalations: Vec<Escalation>,
    /// What comes and goes.
    #[serde(default)]
    pub flapping: Flapping,
    /// If no channel took a message so long after it and its fallbacks were due, everybody else hears
    /// that the receiver cannot be reached.
    #[serde(default = "unreached_after")]
    pub unreached_after: Span,
}

fn unreached_after() -> Span {
    Span::minutes(10)
}

impl Default for NotifyPolicy {
    fn default() -> NotifyPolicy {
        NotifyPolicy {
            group_wait: Span::ZERO,
            routes: Vec::new(),
            receivers: Vec::new(),
            routing: None,
            levels: Vec::new(),
            escalations: Vec::new(),
            flapping: Flapping::default(),
            unreached_after: unreached_after(),
        }
    }
}

/// Which alerts go to whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which alerts; empty: all.
    #[serde(default)]
    pub matchers: Matchers,
    /// Who is told; may be empty: nobody.
    pub receivers: Vec<String>,
}

/// How grave some alerts are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelRule {
    /// Which alerts.
    pub matchers: Matchers,
    /// How grave.
    pub level: Level,
}

/// People who are told one after another until somebody looks after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// Its name.
    pub name: String,
    /// Incidents with an alert like this; empty: all.
    #[serde(default)]
    pub matchers: Matchers,
    /// Only incidents of this level and above; `error` unless said.
    #[serde(default)]
    pub min_level: Level,
    /// Who is told when.
    pub steps: Vec<EscalationStep>,
    /// After the last step its people are told again so often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
}

/// One step of an [`Escalation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationStep {
    /// So long after the incident began, unless somebody looks after it by then.
    #[serde(default)]
    pub after: Span,
    /// Receivers.
    pub to: Vec<String>,
}

/// When something that comes and goes is one trouble rather than many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flapping {
    /// What begins again within this time after its end goes on as the incident it was.
    pub within: Span,
    /// From so many beginnings on, its end is told only after it was quiet for `within`.
    pub times: u32,
}

impl Default for Flapping {
    fn default() -> Flapping {
        Flapping { within: Span::minutes(10), times: 3 }
    }
}

/// What the core must know of a receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiverPolicy {
    /// Its name.
    pub name: String,
    /// Its channels, and whether each is told the end.
    pub channels: Vec<(String, bool)>,
    /// Only alerts of this level and above.
    pub min_level: Level,
    /// The first message waits this long while a recovery is under way.
    pub heal_first: Span,
    /// It is told within these hours; empty: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<TimeInterval>,
    /// What is of this level and above is told at any hour.
    #[serde(default = "ReceiverPolicy::critical")]
    pub always_from: Level,
    /// What is gathered for it rather than told at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Who else is told if it cannot be reached, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<Fallback>,
}

impl Default for ReceiverPolicy {
    fn default() -> ReceiverPolicy {
        ReceiverPolicy {
            name: String::new(),
            channels: Vec::new(),
            min_level: Level::default(),
            heal_first: Span::ZERO,
            hours: Vec::new(),
            always_from: ReceiverPolicy::critical(),
            digest: None,
            fallback: Vec::new(),
        }
    }
}

impl ReceiverPolicy {
    fn critical() -> Level {
        Level::Critical
    }

    /// Whether `now` is within its hours.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        self.hours.is_empty() || self.hours.iter().any(|hours| hours.contains(now))
    }

    /// Whether an alert of this level is gathered for it.
    #[must_use]
    pub fn gathers(&self, level: Level) -> bool {
        level >= self.min_level && self.digest.as_ref().is_some_and(|digest| level < digest.below)
    }
}

impl NotifyPolicy {
    /// How grave an alert with these labels is.
    #[must_use]
    pub fn level(&self, labels: &Labels) -> Level {
        let rule = self.levels.iter().find(|rule| rule.matchers.matches(labels));
        rule.map_or_else(|| Level::from_severity(labels.get("severity")), |rule| rule.level)
    }

    /// Names of those who hear of an alert with these labels, each once, in the order of the routes.
    #[must_use]
    pub fn told_of(&self, labels: &Labels) -> Vec<String> {
        let Some(routing) = &self.routing else {
            let everybody = || self.receivers.iter().map(|to| to.name.clone()).collect();
            return self.route(labels).map_or_else(everybody, |(_, route)| route.receivers.clone());
        };
        let mut told: Vec<String> = Vec::new();
        for at in routing.matching(labels) {
            let name = &routing.nodes[at].receiver;
            if !told.contains(name) {
                told.push(name.clone());
            }
        }
        told
    }

    /// The first of `routes` that fits these labels, with its place; where there is no tree, it decides.
    #[must_use]
    pub fn route(&self, labels: &Labels) -> Option<(usize, &Route)> {
        self.routes.iter().enumerate().find(|(_, route)| route.matchers.matches(labels))
    }

    /// The first chain that fits an incident of this level with such alerts.
    #[must_use]
    pub fn escalation<'a>(
        &self,
        level: Level,
        labels: impl Iterator<Item = &'a Labels> + Clone,
    ) -> Option<&Escalation> {
        self.escalations.iter().find(|chain| {
            level >= chain.min_level && labels.clone().any(|labels| chain.matchers.matches(labels))
        })
    }

    /// The receiver of this name.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Option<&ReceiverPolicy> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }

    /// That every name means something and every chain ends.
    ///
    /// # Errors
    /// The first mistake.
    pub(crate) fn validate(&self) -> Result<(), PolicyError> {
        let receivers: BTreeSet<&str> = self.receivers.iter().map(|r| r.name.as_str()).collect();
        let known = |name: &String| match receivers.contains(name.as_str()) {
            true => Ok(()),
            false => Err(PolicyError::NoSuchReceiver(name.clone())),
        };
        self.routes.iter().flat_map(|route| &route.receivers).try_for_each(known)?;
        for receiver in &self.receivers {
            receiver.fallback.iter().map(|fallback| &fallback.to).try_for_each(known)?;
            let refused = |said: &str| {
                let name = &receiver.name;
                Err(PolicyError::Notify(format!("receiver `{name}`: {said}")))
            };
            if receiver.fallback.iter().any(|fallback| fallback.to == receiver.name) {
                return refused("it cannot stand in for itself under `fallback`");
            }
            if !receiver.fallback.is_sorted_by_key(|fallback| fallback.after) {
                return refused(
                    "each `after` under `fallback` counts from the message, so they rise",
                );
            }
            if let Some(why) = receiver.hours.iter().find_map(|hours| hours.validate().err()) {
                return refused(&why);
            }
        }
        if let Some(rule) = self.levels.iter().find(|rule| rule.matchers.0.is_empty()) {
            return Err(PolicyError::Notify(format!(
                "`notify.levels` has an entry for `{}` without matchers: it would make everything \
                 that grave; say which alerts it is for",
                rule.level.as_str()
            )));
        }
        let mut names = BTreeSet::new();
        for escalation in &self.escalations {
            let name = &escalation.name;
            if !names.insert(name) {
                let name = name.clone();
                return Err(PolicyError::Twice { what: "escalations", name });
            }
            escalation.steps.iter().flat_map(|step| &step.to).try_for_each(known)?;
            let refused =
                |said: &str| Err(PolicyError::Notify(format!("escalation `{name}`: {said}")));
            if escalation.steps.is_empty() || escalation.steps.len() > STEPS_MAX {
                return refused(&format!("it needs 1 to {STEPS_MAX} steps"));
            }
            if escalation.steps.iter().any(|step| step.to.is_empty()) {
                return refused("a step names nobody under `to`");
            }
            if !escalation.steps.is_sorted_by_key(|step| step.after) {
                return refused("each `after` counts from the incident's beginning, so they rise");
            }
            if escalation.repeat.is_some_and(|repeat| repeat < Span::minutes(1)) {
                return refused("`repeat` is a minute or longer");
            }
        }
        Ok(())
    }
}
