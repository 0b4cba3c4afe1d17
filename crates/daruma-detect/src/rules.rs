//! What recording and alerting rules have in common: how they are made from a rule file, what they
//! write as series, and how a group of them is evaluated at one instant.
//!
//! Here nothing decides when a rule is evaluated; that is the [`crate::Detector`]'s, or of whoever
//! tests rules at instants of their own ([`GroupRun`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_model::{Histogram, Labels, Querier, Span, Time, stale_marker};
use daruma_promql::{Expr, Limits, SampleValue, instant};

use crate::alerts::{AlertRule, Context, samples};
use crate::config::{FileRule, RuleGroup};
use crate::life::ActiveAlert;
use daruma_template::Template;

/// One sample that a rule writes; [`stale_marker`] where a series ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSample {
    /// The series.
    pub labels: Labels,
    /// The evaluation's time, shifted by the group's `query_offset`.
    pub time: Time,
    /// A number.
    pub value: f64,
    /// Instead of the number, a native histogram.
    pub histogram: Option<Arc<Histogram>>,
}

/// The series a rule wrote last: those that vanish get a staleness marker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(BTreeSet<Labels>);

impl Written {
    /// Samples of what there is now, and markers of what there is no more.
    pub(crate) fn update(
        &mut self,
        now: Vec<(Labels, SampleValue)>,
        time: Time,
    ) -> Vec<RuleSample> {
        if now.is_empty() && self.0.is_empty() {
            return Vec::new();
        }
        let there: BTreeSet<Labels> = now.iter().map(|(labels, _)| labels.clone()).collect();
        let gone = self.0.difference(&there).cloned();
        let gone =
            gone.map(|labels| RuleSample { labels, time, value: stale_marker(), histogram: None });
        let present = now.into_iter().map(|(labels, value)| match value {
            SampleValue::Float(value) => RuleSample { labels, time, value, histogram: None },
            SampleValue::Histogram(histogram) => {
                RuleSample { labels, time, value: 0.0, histogram: Some(histogram) }
            }
        });
        let all = present.chain(gone).collect();
        self.0 = there;
        all
    }

    /// What it wrote last.
    pub(crate) fn series(&self) -> impl Iterator<Item = &Labels> {
        self.0.iter()
    }
}

/// A recording rule.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) metric: String,
    pub(crate) expr: Expr,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) written: Written,
}

impl Recording {
    pub(crate) fn new(name: String, rule: &FileRule) -> Recording {
        let text = |(name, value): (&String, &Template)| (name.clone(), value.text().to_owned());
        Recording {
            name,
            metric: rule.name.clone(),
            expr: rule.expr.clone(),
            labels: rule.labels.iter().map(text).collect(),
            written: Written::default(),
        }
    }

    /// # Errors
    /// A sentence; nothing is written then, markers neither.
    pub(crate) fn evaluate(
        &mut self,
        at: Time,
        context: &Context<'_>,
    ) -> Result<Vec<RuleSample>, String> {
        let answer = instant(context.querier, &self.expr, at, context.limits)
            .map_err(|error| error.to_string())?;
        let results = samples(answer.value, at)?;
        let mut known = BTreeSet::new();
        let mut recorded = Vec::with_capacity(results.len());
        for result in results {
            let named = result.labels.with(Labels::NAME, &self.metric);
            let labels = self.labels.iter().fold(named, |all, (name, value)| all.with(name, value));
            if !known.insert(labels.clone()) {
                return Err(format!("two results have the same labels {labels}"));
            }
            recorded.push((labels, result.value));
        }
        if context.limit > 0 && recorded.len() > context.limit {
            return Err(format!(
                "{} results exceed the group's limit of {}",
                recorded.len(),
                context.limit
            ));
        }
        Ok(self.written.update(recorded, at))
    }
}

/// One rule over series.
#[derive(Debug)]
pub(crate) enum Body {
    Alert(Box<AlertRule>),
    Recording(Box<Recording>),
}

impl Body {
    pub(crate) fn new(name: String, rule: &FileRule) -> Body {
        if rule.records {
            Body::Recording(Box::new(Recording::new(name, rule)))
        } else {
            Body::Alert(Box::new(AlertRule::new(
                name,
                &rule.name,
                &rule.expr,
                (rule.hold_for, rule.keep_firing_for),
                (&rule.labels, &rule.annotations),
            )))
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Body::Alert(alert) => &alert.name,
            Body::Recording(recording) => &recording.name,
        }
    }

    pub(crate) fn expr(&self) -> &Expr {
        match self {
            Body::Alert(alert) => &alert.expr,
            Body::Recording(recording) => &recording.expr,
        }
    }

    pub(crate) fn written(&self) -> &Written {
        match self {
            Body::Alert(alert) => &alert.written,
            Body::Recording(recording) => &recording.written,
        }
    }
}

/// What surrounds the evaluation of a group: [`GroupRun::evaluate`].
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The series.
    pub querier: &'a dyn Querier,
    /// What bounds a query.
    pub limits: &'a Limits,
    /// For templates: `{{ $externalLabels }}`.
    pub external_labels: &'a Labels,
    /// For templates: `{{ $externalURL }}`.
    pub external_url: &'a str,
}

/// A group of a rule file, evaluated rule by rule at instants that the caller names, exactly as
/// Prometheus does at its own: for tests of rules.
#[derive(Debug)]
pub struct GroupRun {
    query_offset: Span,
    limit: usize,
    rules: Vec<Body>,
}

impl GroupRun {
    /// The group before its first evaluation.
    #[must_use]
    pub fn new(group: &RuleGroup) -> GroupRun {
        GroupRun {
            query_offset: group.query_offset.unwrap_or(Span::ZERO),
            limit: group.limit,
            rules: group.rules.iter().map(|rule| Body::new(rule.name.clone(), rule)).collect(),
        }
    }

    /// The names of its rules in order: the alert's, or the metric's that is recorded.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rules.iter().map(Body::name)
    }

    /// Evaluates one rule at `now`. What it returns is to be kept before the next rule is evaluated.
    ///
    /// # Errors
    /// A sentence; a rule that fails writes nothing and changes no alert.
    pub fn evaluate(
        &mut self,
        rule: usize,
        now: Time,
        around: Surroundings<'_>,
    ) -> Result<Vec<RuleSample>, String> {
        let context = Context {
            querier: around.querier,
            limits: around.limits,
            limit: self.limit,
            external_labels: around.external_labels,
            external_url: around.external_url,
        };
        let at = now - self.query_offset;
        match self.rules.get_mut(rule) {
            Some(Body::Alert(alert)) => alert.evaluate_alone(now, at, &context),
            Some(Body::Recording(recording)) => recording.evaluate(at, &context),
            None => Err(format!("the group has no rule {rule}")),
        }
    }

    /// The alerts of this name that are pending or fire.
    #[must_use]
    pub fn active(&self, alertname: &str) -> Vec<ActiveAlert> {
        let alerts = self.rules.iter().filter_map(|rule| match rule {
            Body::Alert(alert) if alert.alertname == alertname => Some(&alert.life),
            _ => None,
        });
        alerts.flat_map(|life| life.active()).collect()
    }
}

pub(crate) fn pairs(templates: &BTreeMap<String, Template>) -> Vec<(String, Template)> {
    templates.iter().map(|(name, template)| (name.clone(), template.clone())).collect()
}
