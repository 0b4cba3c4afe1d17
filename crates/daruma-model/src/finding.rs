//! What a rule says about one label set at one time.

use serde::{Deserialize, Serialize};

use crate::{Labels, Time};

/// The three answers. Missing evidence is an answer of its own: it convicts and acquits nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The condition holds, seen on evidence.
    Holds,
    /// The condition does not hold, seen on evidence.
    Clear,
    /// There is no evidence either way.
    Unknown,
}

/// Why a finding says what it says; bounded, fit for showing and for the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// One plain sentence, e.g. `http_inflight is 16, above 15`.
    pub summary: String,
    /// The deciding value, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// PromQL that plots the evidence, if it is a series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Log lines or probe answers, at most 10 of at most 500 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Evidence {
    /// Evidence that is one sentence.
    #[must_use]
    pub fn said(summary: impl Into<String>) -> Evidence {
        Evidence { summary: summary.into(), ..Evidence::default() }
    }
}

/// What one rule says about one label set at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's name, unique in the configuration (`group/alert` for rule files).
    pub rule: String,
    /// The alert's labels: result labels, the rule's own, `alertname`. They identify the alert.
    pub labels: Labels,
    /// Human text by name (`summary`, `description`, …), templates expanded.
    #[serde(default)]
    pub annotations: Labels,
    /// When the newest evidence was observed.
    pub at: Time,
    /// The answer.
    pub verdict: Verdict,
    /// The reason.
    pub evidence: Evidence,
}
