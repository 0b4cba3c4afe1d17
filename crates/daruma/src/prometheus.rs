//! The part of a `prometheus.yml` that is taken over as it is: static targets and rule files. What is
//! not taken over is said.

use std::collections::BTreeMap;

use daruma_collect::ScrapeSource;
use daruma_detect::NameScheme;
use daruma_model::Span;
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

    /// Its static targets as sources; what is left out becomes a warning.
    pub fn scrapes(&self, warnings: &mut Vec<String>) -> Vec<ScrapeSource> {
        for name in self.other.keys() {
            warnings.push(format!("prometheus.yml: `{name}` is not taken over"));
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
