//! What Prometheus' HTTP API is told of this program: its rules, its targets, itself. Only put into the
//! words of `daruma_server` here; nothing is decided.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use daruma_collect::{ScrapeSource, Source};
use daruma_detect::{Detector, RuleStatus};
use daruma_model::{Span, Time};
use daruma_server::{
    Described, Descriptions, Facts, Rule, RuleGroup, RuleHealth, RuleKind, Target,
};
use serde_json::Value;

use crate::cli::Places;
use crate::config::Loaded;

/// Metrics of which something is known, at most.
const METRICS_MAX: usize = 20_000;
/// A description is cut to this many characters.
const HELP_CHARS_MAX: usize = 1_000;

/// What senders said of metrics. The newest word counts.
#[derive(Default)]
pub struct Catalogue(Mutex<Arc<Descriptions>>);

impl Catalogue {
    /// All of it.
    pub fn all(&self) -> Arc<Descriptions> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what is news; a metric over the bound is not described.
    pub fn learn(&self, said: Vec<(String, Described)>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (metric, mut described) in said {
            for text in [&mut described.help, &mut described.unit] {
                if let Some((end, _)) = text.char_indices().nth(HELP_CHARS_MAX) {
                    text.truncate(end);
                }
            }
            let known = all.get(&metric);
            if known == Some(&described) || known.is_none() && all.len() >= METRICS_MAX {
                continue;
            }
            Arc::make_mut(&mut all).insert(metric, described);
        }
    }
}

/// What is known of the program, kept for whoever asks.
pub type Known = Arc<RwLock<Facts>>;

/// Our own rules are shown as one group of this name.
const OWN: &str = "daruma.yaml";

/// Every group of rules as the API shows it.
#[must_use]
pub fn groups(detector: &Detector) -> Vec<RuleGroup> {
    let mut groups: Vec<RuleGroup> = Vec::new();
    for group in detector.groups() {
        let over_logs = group.file.is_none() && group.interval == Span::ZERO;
        let name = if group.file.is_none() { OWN.to_owned() } else { group.name };
        let file = group.file.unwrap_or_default();
        let rules: Vec<Rule> = group.rules.into_iter().map(|told| rule(told, over_logs)).collect();
        let evaluated = rules.iter().filter_map(|rule| rule.evaluated).max();
        let took: f64 = rules.iter().map(|rule| rule.took).sum();
        match groups.last_mut().filter(|last| file.is_empty() && last.file.is_empty()) {
            Some(last) => {
                last.rules.extend(rules);
                last.evaluated = last.evaluated.max(evaluated);
                last.took += took;
            }
            None => groups.push(RuleGroup {
                name,
                file,
                interval: group.interval,
                limit: group.limit,
                evaluated,
                took,
                rules,
            }),
        }
    }
    groups
}

fn rule(told: RuleStatus, over_logs: bool) -> Rule {
    let health = match told.failed {
        Some(why) => RuleHealth::Failed(why),
        // Records are judged whenever they come.
        None if over_logs || told.evaluated.is_some() => RuleHealth::Ok,
        None => RuleHealth::Unknown,
    };
    let kind = if told.records {
        RuleKind::Recording
    } else {
        RuleKind::Alerting {
            hold_for: told.hold_for,
            keep_firing_for: told.keep_firing_for,
            annotations: told.annotations,
        }
    };
    let RuleStatus { rule: id, name, query, labels, evaluated, .. } = told;
    let took = told.took as f64 / 1e6;
    Rule { id, name, query, labels, health, evaluated, took, kind }
}

/// What is known at the start.
#[must_use]
pub fn facts(now: Time, places: &Places, loaded: &Loaded) -> Known {
    let folder = std::env::current_dir().map(|folder| folder.display().to_string());
    let mut flags = BTreeMap::new();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    for (name, value) in [
        ("config", path(&places.config)),
        ("data", path(&places.data)),
        ("listen", Some(loaded.server.listen.to_string())),
        ("prometheus-config", path(&places.prometheus_config)),
    ] {
        flags.extend(value.map(|value| (name.to_owned(), value)));
    }
    let facts = Facts {
        started: now,
        flags,
        retention: loaded.store.retention.to_string(),
        folder: folder.unwrap_or_default(),
        ..Facts::default()
    };
    let known = Arc::new(RwLock::new(facts));
    self::loaded(&known, now, places, loaded);
    known
}

/// A configuration was loaded.
pub fn loaded(known: &Known, now: Time, places: &Places, loaded: &Loaded) {
    let config = match &places.config {
        // It was read a moment ago; if it is gone since, the running one is not known as text.
        Some(file) => std::fs::read_to_string(file).map_or_else(|_| String::new(), |t| shown(&t)),
        None => String::new(),
    };
    let targets = loaded.collect.scrape.iter().flat_map(targets).collect();
    let mut facts = known.write().unwrap_or_else(PoisonError::into_inner);
    let notify_config = loaded.original.clone();
    let external_labels = loaded.ruleset.external_labels.clone();
    *facts = Facts {
        loaded: now,
        loaded_well: true,
        config,
        notify_config,
        targets,
        external_labels,
        ..facts.clone()
    };
}

/// A configuration was refused; the running one stays.
pub fn not_loaded(known: &Known) {
    known.write().unwrap_or_else(PoisonError::into_inner).loaded_well = false;
}

/// The targets of one job, as they are configured.
fn targets(scrape: &ScrapeSource) -> Vec<Target> {
    let Ok(written) = serde_json::to_value(scrape) else { return Vec::new() };
    let text = |name: &str| written[name].as_str().unwrap_or_default().to_owned();
    let labels: BTreeMap<String, String> =
        serde_json::from_value(written["labels"].clone()).unwrap_or_default();
    let sources = scrape.clone().into_iter().map(|target| target.name());
    let instances = written["targets"].as_array().map_or(&[][..], Vec::as_slice);
    let instances = instances.iter().filter_map(Value::as_str);
    let every = text("every");
    let timeout = written["timeout"].as_str().map_or_else(|| every.clone(), str::to_owned);
    sources
        .zip(instances)
        .map(|(source, instance)| {
            let mut labels = labels.clone();
            labels.insert("job".to_owned(), text("job"));
            labels.entry("instance".to_owned()).or_insert_with(|| instance.to_owned());
            Target {
                job: text("job"),
                source,
                labels: labels.into_iter().collect(),
                url: format!("{}://{instance}{}", text("scheme"), text("path")),
                interval: every.clone(),
                timeout: timeout.clone(),
            }
        })
        .collect()
}

/// A configuration fit for showing: values that may be secret are not in it. Written anew, so comments
/// are gone; they hold secrets, too.
fn shown(text: &str) -> String {
    let Ok(mut value) = serde_saphyr::from_str::<Value>(text) else { return String::new() };
    hide(&mut value, false);
    serde_saphyr::to_string(&value).unwrap_or_default()
}

/// Names whose texts are secret wherever they stand; the address of a chat's webhook is its password.
const SECRET: [&str; 8] =
    ["token", "secret", "password", "passwd", "key", "credential", "authorization", "url"];

fn hide(value: &mut Value, secret: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let lower = name.to_ascii_lowercase();
                let named = !lower.ends_with("_file") && SECRET.iter().any(|s| lower.contains(s));
                // What stands under these may have any name; under `tokens` there are tokens by name.
                let all = lower == "headers" || lower == "env";
                hide(value, all || named || secret);
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| hide(item, secret && !item.is_object()));
        }
        Value::Null | Value::Bool(_) => {}
        text if secret => *text = Value::from("<secret>"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(help: &str) -> Described {
        Described { kind: "gauge".to_owned(), help: help.to_owned(), unit: String::new() }
    }

    #[test]
    fn a_shown_configuration_holds_no_secret() {
        let text = "# hunter0\nserver: { tokens: [ { name: a, token: hunter1, token_file: /f } ] }\n\
            collect: { scrape: [ { job: x, targets: ['h:1'], headers: { X-A: hunter2 } } ] }\n\
            notify: { receivers: [ { webhook_configs: [ { url: 'https://x/hunter3' } ], email_configs: [ { auth_password: 45678 } ] } ] }\n";
        let shown = shown(text);
        assert!(!shown.contains("hunter") && !shown.contains("45678"), "{shown}");
        assert!(shown.contains("/f") && shown.contains("h:1") && shown.contains("name"), "{shown}");
        assert_eq!(super::shown("{ broken: ["), "");
    }

    #[test]
    fn targets_stand_as_they_are_configured() {
        let job = r#"{"job":"web","targets":["h:1","h:2"],"every":"5s","labels":{"env":"prod"}}"#;
        let found = targets(&serde_json::from_str(job).unwrap());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].url, "http://h:2/metrics");
        assert_eq!(found[1].labels.to_string(), r#"{env="prod", instance="h:2", job="web"}"#);
        assert_eq!(found[1].interval, "5s");
        assert!(found[1].source.contains("web") && found[1].source.contains("h:2"));
    }

    #[test]
    fn the_newest_word_on_a_metric_counts_and_there_is_a_bound() {
        let catalogue = Catalogue::default();
        catalogue.learn(vec![("up".to_owned(), described("a"))]);
        catalogue.learn(vec![("up".to_owned(), described(&"ü".repeat(2_000)))]);
        assert_eq!(catalogue.all()["up"].help.chars().count(), HELP_CHARS_MAX);
        let many = (0..METRICS_MAX + 5).map(|i| (format!("m{i}"), described("x"))).collect();
        catalogue.learn(many);
        assert_eq!(catalogue.all().len(), METRICS_MAX);
    }
}
