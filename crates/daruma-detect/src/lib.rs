//! Rules over signals → findings.
//!
//! [`Detector`] is the whole interface: samples, records and the state of sources go in with a time
//! `now`, changes of verdict come out. [`witness`] asks an expression once, on fresh samples.
//!
//! Invariants:
//! - no clock, no I/O, no randomness: the same signals at the same times give the same findings;
//! - missing data convicts and acquits nobody: what held is `clear` only on evidence, else `unknown`;
//! - only changes are told (and, while a rule holds, its newest value now and then);
//! - every window, table and text has a bound; what goes over it is counted.

mod alerts;
mod builder;
mod config;
mod detector;
mod edges;
mod inputs;
mod kinds;
mod life;
mod logrules;
mod reload;
mod rules;
mod status;
mod witness;

pub use config::{
    Condition, DetectConfig, FileRule, LogKind, LogRule, NameScheme, Pattern, RuleConfig,
    RuleGroup, RuleGroups,
};
pub use detector::{
    DetectError, Detector, EAGER_MIN, Evaluated, RuleError, RuleFile, RuleInfo, Ruleset,
};
pub use inputs::{Read, reads};
pub use life::ActiveAlert;
pub use rules::{GroupRun, RuleSample, Surroundings};
pub use status::{GroupStatus, RuleStatus};
pub use witness::witness;
