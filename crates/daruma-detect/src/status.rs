//! What can be told of every rule: what it is, when it was evaluated last, and how that went. Read only;
//! nothing here judges.

use daruma_model::{Labels, Span, Time};

use crate::Detector;
use crate::rules::Body;
use daruma_template::Template;

/// A group of a rule file, or one of our own rules over series.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStatus {
    /// Its name; `""` for our own rules.
    pub name: String,
    /// The rule file, if it is from one.
    pub file: Option<String>,
    /// How often it is evaluated.
    pub interval: Span,
    /// Results one rule may have; 0: no limit.
    pub limit: usize,
    /// Its rules, in order.
    pub rules: Vec<RuleStatus>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleStatus {
    /// As in [`daruma_model::Finding::rule`].
    pub rule: String,
    /// The alert's name, or the metric it records.
    pub name: String,
    /// Whether it records a series.
    pub records: bool,
    /// The expression as written; of a rule over logs, its condition in words.
    pub query: String,
    /// Labels as written.
    pub labels: Labels,
    /// Annotations as written.
    pub annotations: Labels,
    /// How long it must hold before the alert fires.
    pub hold_for: Span,
    /// How long evidence must say it is over before the alert resolves.
    pub keep_firing_for: Span,
    /// When it was evaluated last; a rule over logs is whenever something is written.
    pub evaluated: Option<Time>,
    /// How long that took, in microseconds; 0 where nobody measures, as of a rule over logs.
    pub took: u64,
    /// Why its last evaluation failed, if it did.
    pub failed: Option<String>,
}

impl Detector {
    /// Every group and its rules, in the order in which they are written; rules over logs come last, as
    /// a group of our own.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        let mut all: Vec<GroupStatus> = self
            .groups
            .iter()
            .map(|group| GroupStatus {
                name: group.name.clone(),
                file: group.file.clone(),
                interval: group.interval,
                limit: group.limit,
                rules: self.rules[group.rules.clone()]
                    .iter()
                    .map(|rule| RuleStatus {
                        evaluated: rule.evaluated,
                        took: rule.took,
                        failed: rule.failed.clone(),
                        ..self.told(&rule.body)
                    })
                    .collect(),
            })
            .collect();
        let over_logs: Vec<RuleStatus> = self
            .logs
            .alerts
            .iter()
            .map(|alert| RuleStatus {
                labels: as_written(&alert.labels),
                annotations: as_written(&alert.annotations),
                ..self.info(&alert.name, &alert.alertname)
            })
            .collect();
        if !over_logs.is_empty() {
            let (name, file, interval) = (String::new(), None, Span::ZERO);
            all.push(GroupStatus { name, file, interval, limit: 0, rules: over_logs });
        }
        all
    }

    fn told(&self, body: &Body) -> RuleStatus {
        match body {
            Body::Alert(alert) => RuleStatus {
                query: alert.expr.text().to_owned(),
                labels: as_written(&alert.labels),
                annotations: as_written(&alert.annotations),
                ..self.info(&alert.name, &alert.alertname)
            },
            Body::Recording(recording) => RuleStatus {
                records: true,
                query: recording.expr.text().to_owned(),
                labels: recording.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
                ..self.info(&recording.name, &recording.metric)
            },
        }
    }

    fn info(&self, rule: &str, name: &str) -> RuleStatus {
        let info = self.infos.iter().find(|info| info.rule == rule);
        RuleStatus {
            rule: rule.to_owned(),
            name: name.to_owned(),
            records: false,
            query: info.map_or_else(String::new, |info| info.condition.clone()),
            labels: Labels::default(),
            annotations: Labels::default(),
            hold_for: info.map_or(Span::ZERO, |info| info.hold_for),
            keep_firing_for: info.map_or(Span::ZERO, |info| info.keep_firing_for),
            evaluated: None,
            took: 0,
            failed: None,
        }
    }
}

fn as_written(templates: &[(String, Template)]) -> Labels {
    templates.iter().map(|(name, template)| (name.as_str(), template.text())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RuleFile, RuleGroups, Ruleset};
    use daruma_model::{Matcher, Querier, Series};

    struct Nothing;

    impl Querier for Nothing {
        fn select(&self, _: &[Matcher], _: Time, _: Time) -> Vec<Series> {
            Vec::new()
        }
    }

    #[test]
    fn every_rule_is_told_with_how_its_last_evaluation_went() {
        let groups: RuleGroups = serde_saphyr::from_str(
            "groups: [ { name: shop, interval: 5s, limit: 1, rules: [ { record: 'a:b', expr: 'vector(1) or label_replace(vector(2), \"x\", \"y\", \"\", \"\")' }, \
             { alert: Down, expr: up == 0, for: 1m, labels: { severity: page }, annotations: { summary: 'x {{ $value }}' } } ] } ]",
        )
        .unwrap();
        let file = RuleFile { path: "shop.yml".to_owned(), groups };
        let mut detector =
            Detector::new(&Ruleset { files: vec![file], ..Ruleset::default() }).unwrap();
        assert_eq!(detector.groups()[0].rules[0].evaluated, None);
        let watch = std::cell::Cell::new(0);
        let stopwatch = || watch.replace(watch.get() + 7);
        for second in [1, 20] {
            detector.evaluate_timed(Time::from_secs(second), &Nothing, &stopwatch);
        }
        let groups = detector.groups();
        assert_eq!((groups.len(), groups[0].name.as_str(), groups[0].limit), (1, "shop", 1));
        assert_eq!(groups[0].file.as_deref(), Some("shop.yml"));
        let [recording, alert] = groups[0].rules.as_slice() else { panic!("{groups:?}") };
        assert!(recording.records && recording.name == "a:b");
        assert!(
            recording.failed.as_ref().is_some_and(|why| why.contains("limit")),
            "{recording:?}"
        );
        assert_eq!((alert.rule.as_str(), alert.query.as_str()), ("shop/Down", "up == 0"));
        assert_eq!((alert.hold_for, alert.failed.as_ref()), (Span::minutes(1), None));
        assert_eq!(alert.annotations.get("summary"), "x {{ $value }}");
        assert_eq!((alert.evaluated, alert.took), (Some(Time::from_secs(20)), 7));
    }
}
