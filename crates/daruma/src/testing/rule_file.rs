//! promtool's unit-test files as people have them: read strictly, nothing judged.

use std::collections::BTreeMap;
use std::fmt;

use daruma_model::{Labels, Span, Time};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// Globs relative to the file.
    #[serde(default)]
    pub rule_files: Vec<String>,
    /// Rules are evaluated so often; a minute unless given.
    #[serde(default)]
    evaluation_interval: Option<Span>,
    /// Groups in the order in which they are evaluated.
    #[serde(default)]
    pub group_eval_order: Vec<String>,
    /// Numbers may differ in their last bit.
    #[serde(default)]
    pub fuzzy_compare: bool,
    /// The tests, each with series of its own.
    #[serde(default)]
    pub tests: Vec<Spanned<TestGroup>>,
}

impl TestFile {
    /// How often rules are evaluated.
    pub fn evaluation_interval(&self) -> Span {
        self.evaluation_interval.filter(|span| *span > Span::ZERO).unwrap_or(Span::minutes(1))
    }
}

/// One test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestGroup {
    /// The distance of the samples; the file's evaluation interval unless given.
    #[serde(default)]
    pub interval: Option<Span>,
    /// What is there.
    #[serde(default)]
    pub input_series: Vec<Spanned<InputSeries>>,
    /// Alerts that must fire, and no others of their names.
    #[serde(default)]
    pub alert_rule_test: Vec<Spanned<AlertCase>>,
    /// What queries must yield.
    #[serde(default)]
    pub promql_expr_test: Vec<Spanned<QueryCase>>,
    /// For templates.
    #[serde(default)]
    pub external_labels: BTreeMap<String, Text>,
    /// For templates.
    #[serde(default)]
    pub external_url: String,
    /// What it is about.
    #[serde(default)]
    pub name: String,
    /// The time of the first sample; 1970 unless given.
    #[serde(default)]
    pub start_timestamp: Start,
}

/// A series and its samples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSeries {
    /// `name{label="value"}`.
    pub series: String,
    /// `1 2+3x4 _ stale`.
    pub values: Text,
}

/// Which alerts of one name fire at one time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertCase {
    /// Since the start.
    #[serde(default)]
    pub eval_time: Span,
    /// The name.
    #[serde(default)]
    pub alertname: String,
    /// All of them.
    #[serde(default)]
    pub exp_alerts: Vec<ExpectedAlert>,
}

/// An alert, `alertname` left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedAlert {
    /// All its labels.
    exp_labels: Option<BTreeMap<String, Text>>,
    /// All its annotations.
    exp_annotations: Option<BTreeMap<String, Text>>,
}

impl ExpectedAlert {
    /// Labels and annotations.
    pub fn texts(&self) -> (Labels, Labels) {
        let set = |map: &Option<BTreeMap<String, Text>>| labels(map.iter().flatten());
        (set(&self.exp_labels), set(&self.exp_annotations))
    }
}

/// What a query yields at one time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryCase {
    /// The query.
    pub expr: Text,
    /// Since the start.
    #[serde(default)]
    pub eval_time: Span,
    /// All of it, in any order.
    #[serde(default)]
    pub exp_samples: Vec<ExpectedSample>,
}

/// One element of a result.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSample {
    /// `name{label="value"}`.
    #[serde(default)]
    pub labels: String,
    /// A number …
    #[serde(default)]
    pub value: Number,
    /// … or a native histogram: `{{sum:3 count:2}}`.
    #[serde(default)]
    pub histogram: String,
}

/// The pairs as a label set.
pub fn labels<'a>(pairs: impl Iterator<Item = (&'a String, &'a Text)>) -> Labels {
    pairs.map(|(name, value)| (name.as_str(), value.0.as_str())).collect()
}

/// A text; YAML may take what was written for a number.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(daruma_promql::format_value(number)))
            }
            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Text, E> {
                Ok(Text(truth.to_string()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A number, also as `NaN`, `+Inf` or in quotes.
#[derive(Debug, Default)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let plain = text.trim().replace('_', "");
        let named = plain.trim_start_matches(['+', '-', '.']).to_ascii_lowercase();
        let number = match named.as_str() {
            "inf" if plain.starts_with('-') => Some(f64::NEG_INFINITY),
            "inf" => Some(f64::INFINITY),
            "nan" => Some(f64::NAN),
            _ => plain.parse().ok(),
        };
        number.map(Number).ok_or_else(|| de::Error::custom(format!("`{text}` is not a number")))
    }
}

/// RFC 3339, or seconds since 1970.
#[derive(Debug)]
pub struct Start(pub Time);

impl Default for Start {
    fn default() -> Start {
        Start(Time(0))
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Start, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let ms = match text.trim().parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => Some((seconds * 1000.0).round() as i64),
            _ => text.trim().parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        };
        ms.map(|ms| Start(Time(ms))).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is neither RFC 3339 nor seconds since 1970"))
        })
    }
}
