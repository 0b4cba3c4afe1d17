//! What comes in: alerts and silences as JSON, checked before the loop sees them.

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
    labels: Labels,
    #[serde(default)]
    annotations: Option<Labels>,
    #[serde(default)]
    starts_at: Option<When>,
    #[serde(default)]
    ends_at: Option<When>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// A time as posted; one that cannot be read spoils its own alert, not the whole batch.
struct When(Result<Option<Time>, Bad>);

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<When, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = When;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time as text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<When, E> {
                Ok(When(time(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A time; Go's zero time stands for none.
fn time(text: &str) -> Result<Option<Time>, Bad> {
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Some(Time(time.as_millisecond()))),
        Err(error) => Err(format!("{text:?} is no RFC 3339 time: {error}")),
    }
}

fn named(time: Result<Option<Time>, Bad>, what: &str) -> Result<Option<Time>, Bad> {
    time.map_err(|why| format!("{what} {why}"))
}

/// Bytes of a text as JSON.
fn written(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

impl PostedAlert {
    /// The alert, and about how many bytes it has as JSON.
    pub(super) fn checked(self) -> Result<(AlertIn, usize), Bad> {
        let labels = self.labels;
        let annotations = self.annotations.unwrap_or_default();
        let generator_url = self.generator_url.unwrap_or_default();
        let texts = || labels.iter().chain(annotations.iter());
        let bytes: usize = texts().map(|(name, value)| written(name) + written(value) + 6).sum();
        let bytes = bytes + written(&generator_url) + 80;
        if labels.len().max(annotations.len()) > PAIRS_MAX || bytes > TEXT_BYTES_MAX {
            return Err(format!(
                "an alert has at most {PAIRS_MAX} labels and {TEXT_BYTES_MAX} bytes of text"
            ));
        }
        if texts().any(|(name, _)| name.is_empty()) {
            return Err("invalid label set: a label has an empty name".to_owned());
        }
        if labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        let read = |time: Option<When>, what| named(time.map_or(Ok(None), |time| time.0), what);
        let starts_at = read(self.starts_at, "startsAt")?;
        let ends_at = read(self.ends_at, "endsAt")?;
        if let (Some(start), Some(end)) = (starts_at, ends_at)
            && start > end
        {
            return Err("start time must be before end time".to_owned());
        }
        Ok((AlertIn { labels, annotations, starts_at, ends_at, generator_url }, bytes))
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
        let from = named(time(&self.starts_at), "startsAt")?.unwrap_or(now);
        let until = named(time(&self.ends_at), "endsAt")?
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
