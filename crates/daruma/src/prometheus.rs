//! The part of a `prometheus.yml` that is taken over as it is: static targets and rule files. What is
//! not taken over is said.

use std::collections::BTreeMap;

use daruma_collect::ScrapeSource;
use daruma_detect::NameScheme;
use daruma_model::{Labels, Span};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The file. Sections that concern storage, remote endpoints and tracing mean nothing here.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Config {
    global: Global,
    /// Relative to the file.
    pub rule_files: Vec<RuleGlob>,
    scrape_configs: Vec<Scrape>,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Global {
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    evaluation_interval: Option<Span>,
    rule_query_offset: Option<Span>,
    metric_name_validation_scheme: Option<NameScheme>,
    external_labels: BTreeMap<LabelName, String>,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

/// A name that a label may have.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct LabelName(String);

impl TryFrom<String> for LabelName {
    type Error = String;

    fn try_from(name: String) -> Result<LabelName, String> {
        if name.is_empty() || name == "__name__" {
            return Err(format!("`{name}` is no name of an external label; choose another"));
        }
        Ok(LabelName(name))
    }
}

/// `$NAME` and `${NAME}` by the environment, `$$` as `$`; what the environment lacks is empty.
fn expanded(text: &str, environment: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, more) = braced.unwrap_or_else(|| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            after.split_at(after.find(|c| !is_part(c)).unwrap_or(after.len()))
        });
        match name {
            "" => out.push('$'),
            name => out.push_str(&environment(name).unwrap_or_default()),
        }
        rest = more;
    }
    out.push_str(rest);
    out
}

/// A glob whose wildcards stand in its last part alone, as upstream wants it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct RuleGlob(String);

impl RuleGlob {
    /// As written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuleGlob {
    type Error = String;

    fn try_from(text: String) -> Result<RuleGlob, String> {
        let above = text.rsplit_once('/').map_or("", |(above, _)| above);
        if above.contains('*') {
            return Err(format!(
                "`{text}`: a `*` may stand in the last part of a path only; name each folder"
            ));
        }
        Ok(RuleGlob(text))
    }
}

#[derive(Deserialize)]
struct Scrape {
    job_name: String,
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    #[serde(default)]
    static_configs: Vec<Static>,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Static {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Config {
    /// Of groups that name none; Prometheus' default is a minute.
    #[must_use]
    pub fn evaluation_interval(&self) -> Span {
        self.global.evaluation_interval.unwrap_or(Span::minutes(1))
    }

    /// The `query_offset` of groups that name none.
    #[must_use]
    pub fn rule_query_offset(&self) -> Span {
        self.global.rule_query_offset.unwrap_or(Span::ZERO)
    }

    /// How names of labels and annotations are judged.
    #[must_use]
    pub fn names(&self) -> NameScheme {
        self.global.metric_name_validation_scheme.unwrap_or_default()
    }

    /// What every alert carries that has no label of that name, by the environment where it says so.
    #[must_use]
    pub fn external_labels(&self, environment: impl Fn(&str) -> Option<String>) -> Labels {
        let pairs = self.global.external_labels.iter();
        pairs.map(|(name, value)| (name.0.clone(), expanded(value, &environment))).collect()
    }

    /// Its static targets as sources; what is left out becomes a warning.
    pub fn scrapes(&self, warnings: &mut Vec<String>) -> Vec<ScrapeSource> {
        for name in self.other.keys() {
            warnings.push(format!("prometheus.yml: `{name}` is not taken over"));
        }
        for name in self.global.other.keys() {
            warnings.push(format!("prometheus.yml: `global.{name}` is not taken over"));
        }
        let mut sources = Vec::new();
        for scrape in &self.scrape_configs {
            for name in scrape.other.keys() {
                let job = &scrape.job_name;
                warnings.push(format!("prometheus.yml: job `{job}`: `{name}` is not taken over"));
            }
            let minute = Span::minutes(1);
            let every = scrape.scrape_interval.or(self.global.scrape_interval).unwrap_or(minute);
            let timeout =
                scrape.scrape_timeout.or(self.global.scrape_timeout).unwrap_or(Span::secs(10));
            for group in &scrape.static_configs {
                let source = serde_json::json!({
                    "job": scrape.job_name,
                    "targets": group.targets,
                    "scheme": scrape.scheme.as_deref().unwrap_or("http"),
                    "path": scrape.metrics_path.as_deref().unwrap_or("/metrics"),
                    "every": every,
                    "timeout": timeout.min(every),
                    "labels": group.labels,
                });
                match serde_json::from_value(source) {
                    Ok(source) => sources.push(source),
                    Err(error) => {
                        warnings
                            .push(format!("prometheus.yml: job `{}`: {error}", scrape.job_name));
                    }
                }
            }
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_are_filled_from_the_environment() {
        let environment = |name: &str| (name == "ZONE").then(|| "eu-1".to_owned());
        for (text, want) in [
            ("plain", "plain"),
            ("$ZONE", "eu-1"),
            ("a-${ZONE}-b", "a-eu-1-b"),
            ("$ZONE/$NOWHERE.", "eu-1/."),
            ("$$ZONE", "$ZONE"),
            ("5$", "5$"),
            ("${ZONE", "${ZONE"),
        ] {
            assert_eq!(expanded(text, &environment), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_taken_over_of_global_is_said() {
        let text = "global: { external_labels: { cluster: c1 }, scrape_protocols: [ x ] }";
        let config: Config = serde_saphyr::from_str(text).unwrap();
        assert_eq!(config.external_labels(|_| None), Labels::from([("cluster", "c1")]));
        let mut warnings = Vec::new();
        config.scrapes(&mut warnings);
        assert_eq!(warnings, ["prometheus.yml: `global.scrape_protocols` is not taken over"]);
        let nameless = "global: { external_labels: { '': c1 } }";
        assert!(serde_saphyr::from_str::<Config>(nameless).is_err());
    }
}
