//! From a [`Ruleset`] to a [`Detector`]: names made unique, groups laid on their grid, selectors filed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use daruma_model::{Labels, Span, Time};
use daruma_promql::Limits;

use crate::alerts::AlertRule;
use crate::config::{Condition, DetectConfig};
use crate::detector::{DetectError, Detector, Group, Rule, RuleFile, RuleInfo, Ruleset};
use crate::edges::Edges;
use crate::logrules::{LogAlert, LogRules};
use crate::rules::{Body, pairs};
use daruma_template::Template;

/// Samples one rule may read: a rule that needs more would hold up all others.
const RULE_SAMPLES_MAX: usize = 10_000_000;

#[derive(Default)]
pub(crate) struct Builder {
    groups: Vec<Group>,
    rules: Vec<Rule>,
    logs: Vec<LogAlert>,
    infos: Vec<RuleInfo>,
    names: HashMap<String, usize>,
}

impl Builder {
    pub(crate) fn build(mut self, ruleset: &Ruleset) -> Result<Detector, DetectError> {
        let detect = &ruleset.detect;
        for (name, span) in
            [("interval", detect.interval), ("evaluation_interval", detect.evaluation_interval)]
        {
            if span <= Span::ZERO {
                return Err(DetectError::Zero(name));
            }
        }
        for file in &ruleset.files {
            self.file(file, detect.evaluation_interval, detect.rule_query_offset);
        }
        self.own(detect);
        let alerts = self.rules.iter().enumerate().filter_map(|(at, rule)| match &rule.body {
            Body::Alert(alert) => Some((at, &alert.expr)),
            Body::Recording(_) => None,
        });
        let (edges, eager) = (Edges::new(alerts.clone()), alerts.count() as u64);
        Ok(Detector {
            edges,
            marked: vec![false; self.rules.len()],
            eager,
            timetable: (0..self.groups.len()).map(|group| (Time::MIN, group)).collect(),
            due: BTreeSet::new(),
            orphans: Vec::new(),
            groups: self.groups,
            rules: self.rules,
            logs: LogRules::new(self.logs)?,
            infos: self.infos,
            limits: Limits { samples_max: RULE_SAMPLES_MAX, ..Limits::default() },
            external_labels: ruleset.external_labels.clone(),
            external_url: ruleset.external_url.clone(),
            missed: 0,
        })
    }

    /// `name`, or `name#2` when it is taken.
    fn unique(&mut self, name: String) -> String {
        let count = self.names.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { format!("{name}#{count}") }
    }

    fn file(&mut self, file: &RuleFile, interval: Span, query_offset: Span) {
        for group in &file.groups.groups {
            let interval = group.interval.unwrap_or(interval);
            let start = self.rules.len();
            for rule in &group.rules {
                let name = self.unique(format!("{}/{}", group.name, rule.name));
                if !rule.records {
                    self.infos.push(RuleInfo {
                        rule: name.clone(),
                        alertname: rule.name.clone(),
                        hold_for: rule.hold_for,
                        keep_firing_for: rule.keep_firing_for,
                        labels: as_written(&rule.labels),
                        condition: rule.expr.text().to_owned(),
                        interval,
                        file: Some(file.path.clone()),
                    });
                }
                self.rules.push(Rule::new(Body::new(name, rule), self.groups.len()));
            }
            self.groups.push(Group {
                name: group.name.clone(),
                file: Some(file.path.clone()),
                interval,
                phase: phase(&format!("{};{}", file.path, group.name), interval),
                query_offset: group.query_offset.unwrap_or(query_offset),
                limit: group.limit,
                on_grid: true,
                rules: start..self.rules.len(),
                next: None,
            });
        }
    }

    fn own(&mut self, detect: &DetectConfig) {
        for rule in &detect.rules {
            let name = self.unique(rule.alert.clone());
            let interval = rule.every.unwrap_or(detect.interval);
            let condition = match &rule.condition {
                Condition::Expr(expr) => expr.text().to_owned(),
                Condition::Log(log) => format!("{log:?}"),
            };
            self.infos.push(RuleInfo {
                rule: name.clone(),
                alertname: rule.alert.clone(),
                hold_for: rule.hold_for,
                keep_firing_for: rule.keep_firing_for,
                labels: as_written(&rule.labels),
                condition,
                interval,
                file: None,
            });
            let (labels, annotations) = (pairs(&rule.labels), pairs(&rule.annotations));
            let alertname = rule.alert.clone();
            match &rule.condition {
                Condition::Log(log) => {
                    let log = log.clone();
                    self.logs.push(LogAlert::new(name, alertname, log, labels, annotations));
                }
                Condition::Expr(expr) => {
                    let start = self.rules.len();
                    let phase = phase(&name, interval);
                    let waits = (rule.hold_for, rule.keep_firing_for);
                    let templates = (&rule.labels, &rule.annotations);
                    let alert = AlertRule::new(name, &alertname, expr, waits, templates);
                    self.rules.push(Rule::new(Body::Alert(Box::new(alert)), self.groups.len()));
                    self.groups.push(Group {
                        name: String::new(),
                        file: None,
                        interval,
                        phase,
                        query_offset: Span::ZERO,
                        limit: 0,
                        on_grid: false,
                        rules: start..start + 1,
                        next: None,
                    });
                }
            }
        }
    }
}

fn as_written(templates: &BTreeMap<String, Template>) -> Labels {
    templates.iter().map(|(name, template)| (name.as_str(), template.text())).collect()
}

/// Where a group's grid lies within its interval, the same after every restart.
fn phase(name: &str, interval: Span) -> i64 {
    let hash = Labels::from([("group", name)]).fingerprint();
    // Both fit: the interval is positive, so the remainder is below it.
    i64::try_from(hash % u64::try_from(interval.0).unwrap_or(1)).unwrap_or(0)
}
