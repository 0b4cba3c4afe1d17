//! The rules of acting and telling, as configured: the sections `recover` and `notify`, and what the
//! core must know of every detection rule. Every limit has a safe default, and none can be switched
//! off: an unlimited runbook cannot be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use daruma_model::{
    ActionSpec, Check, FileCheck, HttpProbe, Labels, Level, Matchers, ProcessCheck, Span, TcpProbe,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::NotifyPolicy;

/// What the core decides by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// By [`daruma_model::Finding::rule`].
    pub rules: BTreeMap<String, RulePolicy>,
    /// How to act.
    pub recover: RecoverConfig,
    /// Whom to tell.
    pub notify: NotifyPolicy,
}

impl Policy {
    /// The runbook of this name.
    #[must_use]
    pub fn runbook(&self, name: &str) -> Option<&Runbook> {
        self.recover.runbooks.iter().find(|runbook| runbook.name == name)
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.recover.services.iter().find(|service| service.name == name)
    }

    /// Everything in it that cannot work, in words for the person who wrote it.
    ///
    /// # Errors
    /// The first mistake that would make the policy unsafe or void.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.recover.validate()?;
        self.notify.validate()?;
        let routing = self.notify.routing.as_ref();
        if let Some(routing) = routing {
            routing.validate().map_err(PolicyError::Routing)?;
        }
        let used = routing
            .iter()
            .flat_map(|tree| tree.nodes.iter().map(|node| &node.receiver))
            .chain(self.recover.runbooks.iter().flat_map(|runbook| &runbook.escalate.to));
        for receiver in used {
            if self.notify.receiver(receiver).is_none() {
                return Err(PolicyError::NoSuchReceiver(receiver.clone()));
            }
        }
        Ok(())
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A step names an action that the registry does not have.
    #[error(
        "runbook `{runbook}` does `{action}`, which `recover.actions` does not list; add it there, or correct the name"
    )]
    NoSuchAction {
        /// Which runbook.
        runbook: String,
        /// The unknown action.
        action: String,
    },
    /// A runbook without matchers would act on everything.
    #[error(
        "runbook `{0}` has no matchers: an empty selection never means everything; say which alerts it is for"
    )]
    NoMatchers(String),
    /// A runbook without steps.
    #[error("runbook `{0}` has no steps")]
    NoSteps(String),
    /// A step without a post-condition.
    #[error(
        "runbook `{runbook}`, step {step}: `verify` names nothing to look at; add a probe, expr, process or file, because exit code 0 is not success"
    )]
    NoVerification {
        /// Which runbook.
        runbook: String,
        /// Which step, from 1.
        step: usize,
    },
    /// `need` is larger than the number of checks.
    #[error("runbook `{runbook}` needs {need} votes but has {checks} checks under `confirm`")]
    TooFewChecks {
        /// Which runbook.
        runbook: String,
        /// Votes asked for.
        need: usize,
        /// Checks there are.
        checks: usize,
    },
    /// Two things of one name.
    #[error("two {what} are named `{name}`; names must be unique")]
    Twice {
        /// `runbooks` or `services`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A service depends on something that is not declared.
    #[error(
        "service `{service}` depends on `{on}`, which is not declared under `recover.services`"
    )]
    NoSuchService {
        /// Which service.
        service: String,
        /// The undeclared one.
        on: String,
    },
    /// Services depend on each other in a ring.
    #[error("the services {0} depend on each other in a ring")]
    Ring(String),
    /// A check that names no kind, or two.
    #[error("{0}: a check needs exactly one of probe, expr, process, file")]
    Check(String),
    /// A tree of routes that cannot work.
    #[error("{0}")]
    Routing(String),
    /// Something under `notify` that cannot work.
    #[error("{0}")]
    Notify(String),
    /// A receiver that nobody configured.
    #[error("receiver `{0}` is not listed under `notify.receivers`")]
    NoSuchReceiver(String),
}

/// What the core must know of a detection rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePolicy {
    /// How long it must hold before it fires.
    #[serde(rename = "for", default)]
    pub for_: Span,
    /// How long evidence must say it is over before it is resolved.
    #[serde(default)]
    pub keep_firing_for: Span,
}

/// How far recovery may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is decided.
    Off,
    /// Decides and records what it would do, and does not.
    #[default]
    Shadow,
    /// Acts within its limits.
    Auto,
}

impl Mode {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Shadow => "shadow",
            Mode::Auto => "auto",
        }
    }
}

/// The section `recover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecoverConfig {
    /// The ceiling for every runbook.
    pub mode: Mode,
    /// While this file exists, no action starts.
    pub stop_file: Option<PathBuf>,
    /// Storm guard: with fewer of the services well (of 3 and more), the fault is common or in the
    /// monitor: touch none, tell once.
    pub min_healthy: Percent,
    /// Limits over all runbooks.
    pub limits: GlobalLimits,
    /// What depends on what.
    pub services: Vec<Service>,
    /// The only things that may ever be run.
    pub actions: BTreeMap<String, ActionSpec>,
    /// What to do when; of two that fit, the first.
    pub runbooks: Vec<Runbook>,
}

impl Default for RecoverConfig {
    fn default() -> RecoverConfig {
        RecoverConfig {
            mode: Mode::Auto,
            stop_file: None,
            min_healthy: Percent(51),
            limits: GlobalLimits::default(),
            services: Vec::new(),
            actions: BTreeMap::new(),
            runbooks: Vec::new(),
        }
    }
}

impl RecoverConfig {
    fn validate(&self) -> Result<(), PolicyError> {
        let mut names = BTreeSet::new();
        for service in &self.services {
            if !names.insert(&service.name) {
                return Err(PolicyError::Twice { what: "services", name: service.name.clone() });
            }
        }
        for service in &self.services {
            for on in &service.depends_on {
                if !names.contains(on) {
                    let (service, on) = (service.name.clone(), on.clone());
                    return Err(PolicyError::NoSuchService { service, on });
                }
            }
            if let Some(check) = &service.check {
                check.check(&Labels::default(), &format!("service `{}`", service.name))?;
            }
        }
        self.no_ring()?;
        let mut names = BTreeSet::new();
        for runbook in &self.runbooks {
            if !names.insert(&runbook.name) {
                return Err(PolicyError::Twice { what: "runbooks", name: runbook.name.clone() });
            }
            self.validate_runbook(runbook)?;
        }
        Ok(())
    }

    fn validate_runbook(&self, runbook: &Runbook) -> Result<(), PolicyError> {
        let name = || runbook.name.clone();
        if runbook.matchers.0.is_empty() {
            return Err(PolicyError::NoMatchers(name()));
        }
        if runbook.steps.is_empty() {
            return Err(PolicyError::NoSteps(name()));
        }
        for (i, step) in runbook.steps.iter().enumerate() {
            if !self.actions.contains_key(&step.action) {
                let action = step.action.clone();
                return Err(PolicyError::NoSuchAction { runbook: name(), action });
            }
            if step.verify.all().is_empty() {
                return Err(PolicyError::NoVerification { runbook: name(), step: i + 1 });
            }
        }
        let confirm = &runbook.confirm;
        let (need, checks) = (confirm.need, confirm.checks.len());
        if need > checks && !(checks == 0 && need <= 1) {
            return Err(PolicyError::TooFewChecks { runbook: name(), need, checks });
        }
        let place = format!("runbook `{}`", runbook.name);
        let verify = runbook.steps.iter().flat_map(|step| step.verify.all());
        let when = runbook.steps.iter().filter_map(|step| step.when.as_ref());
        let all = confirm
            .checks
            .iter()
            .chain(&runbook.only_if)
            .chain(&runbook.unless)
            .chain(when)
            .cloned();
        for check in all.chain(verify) {
            check.check(&Labels::default(), &place)?;
        }
        Ok(())
    }

    /// Depth-first over `depends_on`; a service met again on its own path closes a ring.
    fn no_ring(&self) -> Result<(), PolicyError> {
        fn visit<'a>(
            all: &'a [Service],
            service: &'a Service,
            path: &mut Vec<&'a str>,
        ) -> Result<(), PolicyError> {
            if path.contains(&service.name.as_str()) {
                path.push(&service.name);
                return Err(PolicyError::Ring(path.join(" → ")));
            }
            path.push(&service.name);
            for on in all.iter().filter(|other| service.depends_on.contains(&other.name)) {
                visit(all, on, path)?;
            }
            path.pop();
            Ok(())
        }
        self.services.iter().try_for_each(|service| visit(&self.services, service, &mut Vec::new()))
    }
}

/// Limits over all runbooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalLimits {
    /// The budget of actions.
    pub actions: Rate,
    /// Actions at work at once.
    pub concurrent: usize,
    /// Targets of one service with a recovery in flight, as a share of its instances (at least 1).
    pub in_flight: Percent,
}

impl Default for GlobalLimits {
    fn default() -> GlobalLimits {
        GlobalLimits {
            actions: Rate { most: 20, per: Span::hours(1) },
            concurrent: 2,
            in_flight: Percent(10),
        }
    }
}

/// Something that can be ill and that others may depend on. Alerts name it by the label `service`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// As in the label.
    pub name: String,
    /// While one of these is ill, act there and hold here.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// A fresh look at its health, taken before anything that depends on it is touched.
    #[serde(default)]
    pub check: Option<CheckConfig>,
    /// Its instances, when there are several, as in the label `instance`.
    #[serde(default)]
    pub instances: Vec<String>,
}

/// What to do about matching alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// Its name.
    pub name: String,
    /// Which alerts it is for; must not be empty.
    #[serde(default)]
    pub matchers: Matchers,
    /// How far it may go; `shadow` unless said.
    #[serde(default)]
    pub mode: Mode,
    /// Labels that name the target. Unless said: `service`, with `instance` where the service declares
    /// it among its `instances`.
    #[serde(default)]
    pub target: Vec<String>,
    /// Evidence demanded before acting. Without checks: the first step's post-condition must fail.
    #[serde(default)]
    pub confirm: Confirm,
    /// Every one of these statements must hold, seen freshly.
    #[serde(default)]
    pub only_if: Vec<CheckConfig>,
    /// None of these statements may hold, seen freshly.
    #[serde(default)]
    pub unless: Vec<CheckConfig>,
    /// Smallest first: the next is tried when one did not help.
    pub steps: Vec<Step>,
    /// How often and how fast.
    #[serde(default)]
    pub limits: Limits,
    /// Whom to tell when nothing helped.
    #[serde(default)]
    pub escalate: Escalate,
}

impl Runbook {
    /// Votes needed to confirm.
    #[must_use]
    pub fn confirm_need(&self) -> usize {
        self.confirm.need.max(1)
    }
}

/// k of n fresh witnesses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confirm {
    /// Votes needed.
    pub need: usize,
    /// How long witnesses are heard before they are left alone for as long again.
    pub within: Span,
    /// The witnesses.
    pub checks: Vec<CheckConfig>,
}

impl Default for Confirm {
    fn default() -> Confirm {
        Confirm { need: 1, within: Span::secs(30), checks: Vec::new() }
    }
}

/// One step of a runbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// An action of the registry.
    #[serde(rename = "do")]
    pub action: String,
    /// The step is passed over unless this statement holds, seen freshly.
    #[serde(default)]
    pub when: Option<CheckConfig>,
    /// The post-condition: what must be seen after the act.
    pub verify: Verify,
    /// Ends the action earlier than the registry's own timeout.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// A post-condition on signals observed after the act ended. Everything named must be good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// An endpoint that must answer.
    pub probe: Option<ProbeConfig>,
    /// PromQL that must return a series, on samples after the act.
    pub expr: Option<String>,
    /// A process that must run.
    pub process: Option<ProcessCheck>,
    /// A file that must be fresh.
    pub file: Option<FileCheck>,
    /// More of the same.
    pub checks: Vec<CheckConfig>,
    /// How long all of it must be good without a break.
    #[serde(rename = "for")]
    pub for_: Span,
    /// Until when, counted from the end of the act.
    pub within: Span,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify {
            probe: None,
            expr: None,
            process: None,
            file: None,
            checks: Vec::new(),
            for_: Span::secs(5),
            within: Span::secs(60),
        }
    }
}

impl Verify {
    /// Every check it names.
    #[must_use]
    pub fn all(&self) -> Vec<CheckConfig> {
        let one = CheckConfig::default;
        let probe = self.probe.clone().map(|probe| CheckConfig { probe: Some(probe), ..one() });
        let expr = self.expr.clone().map(|expr| CheckConfig { expr: Some(expr), ..one() });
        let process = self.process.clone().map(|p| CheckConfig { process: Some(p), ..one() });
        let file = self.file.clone().map(|file| CheckConfig { file: Some(file), ..one() });
        [probe, expr, process, file].into_iter().flatten().chain(self.checks.clone()).collect()
    }
}

/// One check as written: exactly one of `probe`, `expr`, `process`, `file`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// States: the endpoint answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
    /// States: the expression returns a series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// States: the process runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessCheck>,
    /// States: the file is fresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileCheck>,
    /// So many equal answers in a row make a vote; 1 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<u32>,
    /// How often it is asked; 250 ms unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
}

impl CheckConfig {
    /// How often it is asked.
    #[must_use]
    pub fn every(&self) -> Span {
        self.every.unwrap_or(Span::millis(250)).max(Span::millis(20))
    }

    /// The check, with `{{ $labels.NAME }}` in URLs, addresses, paths and expressions replaced.
    ///
    /// # Errors
    /// [`PolicyError::Check`] if it is not exactly one kind.
    pub fn check(&self, labels: &Labels, place: &str) -> Result<Check, PolicyError> {
        let fill = |text: &str| fill(text, labels);
        let mut found = Vec::new();
        if let Some(probe) = &self.probe {
            found.push(probe.check(&fill).ok_or_else(|| PolicyError::Check(place.to_owned()))?);
        }
        if let Some(expr) = &self.expr {
            found.push(Check::Expr(fill(expr)));
        }
        if let Some(process) = &self.process {
            let path = |path: &PathBuf| PathBuf::from(fill(&path.to_string_lossy()));
            found.push(Check::Process(ProcessCheck {
                pid_file: process.pid_file.as_ref().map(path),
                ..process.clone()
            }));
        }
        if let Some(file) = &self.file {
            found.push(Check::File(file.clone()));
        }
        match (found.pop(), found.is_empty()) {
            (Some(check), true) => Ok(check),
            _ => Err(PolicyError::Check(place.to_owned())),
        }
    }
}

/// `{{ $labels.NAME }}` replaced by the label's value, if that is made of harmless characters only
/// (letters, digits, `.` `_` `:` `-`); everything else becomes `_`, so that no label can change the
/// meaning of a URL or an expression.
fn fill(text: &str, labels: &Labels) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("{{") {
        let Some(end) = rest[at..].find("}}") else { break };
        out.push_str(&rest[..at]);
        let inner = rest[at + 2..at + end].trim();
        match inner.strip_prefix("$labels.") {
            Some(name) => out.extend(labels.get(name).chars().map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-') {
                    c
                } else {
                    '_'
                }
            })),
            None => out.push_str(&rest[at..at + end + 2]),
        }
        rest = &rest[at + end + 2..];
    }
    out.push_str(rest);
    out
}

/// A probe as written under `probe:`; exactly one of `http` and `tcp`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// `http://…` or `https://…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// For the whole probe; 1 s unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Good status codes; 200–299 unless said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// A regular expression that must be found in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// GET unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Extra request headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Accept any certificate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

impl ProbeConfig {
    fn check(&self, fill: &impl Fn(&str) -> String) -> Option<Check> {
        let timeout = self.timeout.unwrap_or(Span::secs(1));
        match (&self.http, &self.tcp) {
            (Some(url), None) => Some(Check::Http(HttpProbe {
                url: fill(url),
                method: self.method.clone(),
                headers: self.headers.clone(),
                status: self.status.clone(),
                body: self.body.clone(),
                timeout,
                insecure_skip_verify: self.insecure_skip_verify,
            })),
            (None, Some(address)) => Some(Check::Tcp(TcpProbe { address: fill(address), timeout })),
            _ => None,
        }
    }
}

/// How often and how fast one runbook may act on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Acts on one target.
    pub attempts: Rate,
    /// Pauses between attempts that did not help, doubling.
    pub backoff: Backoff,
    /// After a recovery that helped, the target is left alone for this long.
    pub cooldown: Span,
    /// Acts in a row that did not help before the breaker opens.
    pub no_help: u32,
    /// How long the breaker stays open before one trial.
    pub breaker_reset: Span,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            attempts: Rate { most: 3, per: Span::minutes(30) },
            backoff: Backoff { from: Span::secs(10), to: Span::minutes(5) },
            cooldown: Span::minutes(10),
            no_help: 2,
            breaker_reset: Span::minutes(30),
        }
    }
}

/// Whom to tell when nothing helped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Escalate {
    /// Receivers; those that the alert's routes name unless said.
    pub to: Vec<String>,
    /// The level of that message.
    pub severity: Level,
    /// A recovery that is kept waiting for this long is escalated.
    pub after: Span,
}

impl Default for Escalate {
    fn default() -> Escalate {
        Escalate { to: Vec::new(), severity: Level::Critical, after: Span::minutes(3) }
    }
}

/// A share, written `51%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(pub u32);

/// So many in a length of time, written `3/30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at most 1,000.
    pub most: u32,
    /// In how long.
    pub per: Span,
}

/// Pauses that double, written `10s..5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub from: Span,
    /// The longest.
    pub to: Span,
}

impl Backoff {
    /// The pause after the `n`th failure, from 1.
    #[must_use]
    pub fn pause(&self, n: u32) -> Span {
        let factor = 1_i64 << n.saturating_sub(1).min(20);
        Span(self.from.0.saturating_mul(factor)).min(self.to)
    }
}

macro_rules! text_form {
    ($type:ty, $want:literal, $parse:expr) => {
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<$type, String> {
                let parse: fn(&str) -> Option<$type> = $parse;
                parse(text).ok_or_else(|| {
                    let found: String = text.chars().take(40).collect();
                    format!(concat!("`{}` is not ", $want), found)
                })
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

text_form!(Percent, "a share such as 51%", |text| {
    let number: u32 = text.strip_suffix('%')?.trim().parse().ok()?;
    (number <= 100).then_some(Percent(number))
});
text_form!(Rate, "a number in a length of time such as 3/30m (1 to 1000)", |text| {
    let (most, per) = text.split_once('/')?;
    let (most, per) = (most.trim().parse().ok()?, per.trim().parse().ok()?);
    ((1..=1000).contains(&most) && per > Span::ZERO).then_some(Rate { most, per })
});
text_form!(Backoff, "a range of pauses such as 10s..5m", |text| {
    let (from, to) = text.split_once("..")?;
    let (from, to): (Span, Span) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then_some(Backoff { from, to })
});

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, self.per)
    }
}
impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Result<RecoverConfig, String> {
        let config: RecoverConfig = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn what_could_do_harm_is_refused_with_a_reason() {
        let runbook = |body: &str| {
            format!(
                "actions: {{ r: {{ argv: [/bin/true] }} }}\n\
                 runbooks: [ {{ name: a, {body} }} ]"
            )
        };
        let steps = "steps: [ { do: r, verify: { probe: { tcp: 'h:1' } } } ]";
        let good = "matchers: [ 'a=\"b\"' ]";
        for (yaml, want) in [
            (runbook(&format!("{good}, {steps}")), None),
            (runbook(steps), Some("no matchers")),
            (runbook(&format!("{good}, steps: []")), Some("no steps")),
            (
                runbook(&format!("{good}, steps: [ {{ do: r, verify: {{}} }} ]")),
                Some("exit code 0"),
            ),
            (
                runbook(&format!("{good}, {}", steps.replace("do: r", "do: q"))),
                Some("recover.actions"),
            ),
            (runbook(&format!("{good}, confirm: {{ need: 2 }}, {steps}")), Some("needs 2 votes")),
            (runbook(&format!("{good}, limits: {{ attempts: 0/1h }}, {steps}")), Some("3/30m")),
            (runbook(&format!("{good}, limits: {{ no_help: ever }}, {steps}")), Some("u32")),
            ("services: [ { name: a, depends_on: [b] } ]".into(), Some("not declared")),
            (
                "services: [ { name: a, depends_on: [b] }, { name: b, depends_on: [a] } ]".into(),
                Some("ring"),
            ),
            (runbook(&format!("{good}, unless: [ {{ fails: 2 }} ], {steps}")), Some("exactly one")),
        ] {
            match (config(&yaml), want) {
                (Ok(_), None) => {}
                (Err(got), Some(want)) => assert!(got.contains(want), "{yaml}\n{got}"),
                (got, want) => panic!("{yaml}\n{got:?}, wanted {want:?}"),
            }
        }
    }

    #[test]
    fn a_label_cannot_change_the_meaning_of_a_url() {
        let labels: Labels = [("instance", "evil/../@host?x=1 #"), ("i", "web-1:8080")].into();
        assert_eq!(fill("http://{{ $labels.i }}/x", &labels), "http://web-1:8080/x");
        assert_eq!(
            fill("http://{{$labels.instance}}/", &labels),
            "http://evil_.._@host_x_1__/".replace('@', "_")
        );
        assert_eq!(fill("{{ $labels.none }}|{{ other }}|{{", &labels), "|{{ other }}|{{");
    }
}
