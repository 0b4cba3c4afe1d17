//! What comes in: alerts and silences as JSON, checked before the loop sees them.

use std::collections::BTreeMap;

use daruma_alert::AlertIn;
use daruma_model::{Labels, MatchOp, Matcher, Matchers, Time};
use serde::Deserialize;

use super::Bad;

/// Labels or annotations of one alert.
const PAIRS_MAX: usize = 1_000;
/// Bytes of all texts of one alert.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Matchers of one silence.
const MATCHERS_MAX: usize = 100;

/// One alert as posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedAlert {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// A time; Go's zero time stands for none.
fn time(text: Option<&str>, what: &str) -> Result<Option<Time>, Bad> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Some(Time(time.as_millisecond()))),
        Err(error) => Err(format!("{what} {text:?} is no RFC 3339 time: {error}")),
    }
}

impl PostedAlert {
    pub(super) fn checked(self) -> Result<AlertIn, Bad> {
        let annotations = self.annotations.unwrap_or_default();
        let texts = self.labels.iter().chain(&annotations);
        let bytes: usize = texts.map(|(name, value)| name.len() + value.len()).sum();
        if self.labels.len().max(annotations.len()) > PAIRS_MAX || bytes > TEXT_BYTES_MAX {
            return Err(format!(
                "an alert has at most {PAIRS_MAX} labels and {TEXT_BYTES_MAX} bytes of text"
            ));
        }
        for name in self.labels.keys().chain(annotations.keys()) {
            if name.is_empty() {
                return Err("invalid label set: a label has an empty name".to_owned());
            }
        }
        let labels: Labels = self.labels.into_iter().collect();
        if labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        let starts_at = time(self.starts_at.as_deref(), "startsAt")?;
        let ends_at = time(self.ends_at.as_deref(), "endsAt")?;
        if let (Some(start), Some(end)) = (starts_at, ends_at)
            && start > end
        {
            return Err("start time must be before end time".to_owned());
        }
        Ok(AlertIn {
            labels,
            annotations: annotations.into_iter().collect(),
            starts_at,
            ends_at,
            generator_url: self.generator_url.unwrap_or_default(),
        })
    }
}

/// A silence as posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<PostedMatcher>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: String,
    value: String,
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

/// A silence that can be made.
pub(super) struct Checked {
    pub(super) id: Option<String>,
    pub(super) matchers: Matchers,
    pub(super) from: Time,
    pub(super) until: Time,
    pub(super) by: String,
    pub(super) comment: String,
}

impl PostedSilence {
    pub(super) fn checked(self, now: Time) -> Result<Checked, Bad> {
        if self.matchers.is_empty() {
            return Err("invalid silence: at least one matcher required".to_owned());
        }
        if self.matchers.len() > MATCHERS_MAX {
            return Err(format!("invalid silence: at most {MATCHERS_MAX} matchers"));
        }
        let mut matchers = Vec::new();
        for posted in self.matchers {
            if posted.name.is_empty() {
                return Err("invalid silence: a matcher has no label name".to_owned());
            }
            let op = match (posted.is_equal, posted.is_regex) {
                (true, false) => MatchOp::Equal,
                (false, false) => MatchOp::NotEqual,
                (true, true) => MatchOp::Regex,
                (false, true) => MatchOp::NotRegex,
            };
            let matcher = Matcher::new(&posted.name, op, &posted.value);
            matchers.push(matcher.map_err(|error| format!("invalid silence: {error}"))?);
        }
        if matchers.iter().all(|matcher| matcher.matches_value("")) {
            return Err(
                "invalid silence: at least one matcher must not match the empty string".to_owned()
            );
        }
        let from = time(Some(&self.starts_at), "startsAt")?.unwrap_or(now);
        let until = time(Some(&self.ends_at), "endsAt")?
            .ok_or_else(|| "invalid silence: it has no end".to_owned())?;
        if until <= now {
            return Err("Failed to create silence: end time can't be in the past".to_owned());
        }
        if until <= from {
            return Err("Failed to create silence: start time must be before end time".to_owned());
        }
        // A silence nobody answers for, or knows why, is one nobody dares to end.
        if self.created_by.trim().is_empty() || self.comment.trim().is_empty() {
            return Err("invalid silence: it needs an owner and a comment".to_owned());
        }
        Ok(Checked {
            id: self.id.filter(|id| !id.is_empty()),
            matchers: Matchers(matchers),
            from,
            until,
            by: self.created_by,
            comment: self.comment,
        })
    }
}
