//! Which rule is judged when, and in what order.
//!
//! Two speeds. The *grid*: a group of a rule file is evaluated in order at multiples of its interval
//! (shifted by a hash of its name, so that restarts keep the grid), our own rules every `interval`.
//! *Eager*: an alert rule is evaluated at once when a commit touched a metric that it names.
//! Recordings are written on the grid only.

use std::collections::{BTreeMap, HashMap};

use daruma_model::{
    Commit, Finding, Labels, LogRecord, Point, Querier, Sample, SourceHealth, Span, Time,
    stale_marker,
};
use daruma_promql::{Expr, Limits, instant};

use crate::alerts::{AlertRule, Context, samples};
use crate::config::{Condition, DetectConfig, RuleGroups};
use crate::inputs::{Overlay, leaves, selector_text};
use crate::logrules::{LogAlert, LogRules};
use crate::template::Template;

/// An eager rule is evaluated at most once in this time.
pub const EAGER_MIN: Span = Span::millis(20);

/// Samples one rule may read: a rule that needs more would hold up all others.
const RULE_SAMPLES_MAX: usize = 10_000_000;

/// Everything a [`Detector`] is made of.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    /// The `detect` section.
    pub detect: DetectConfig,
    /// The rule files that its globs found, in order.
    pub files: Vec<RuleFile>,
    /// For templates: `{{ $externalLabels }}`.
    pub external_labels: Labels,
    /// For templates: `{{ $externalURL }}`.
    pub external_url: String,
}

/// A rule file that was read.
#[derive(Debug, Clone, Default)]
pub struct RuleFile {
    /// Its path, as shown.
    pub path: String,
    /// Its content.
    pub groups: RuleGroups,
}

/// What other stages must know of an alert rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleInfo {
    /// Unique: the alert's name for our own rules, `group/alert` for rule files; `#2`, `#3` … is put
    /// behind a name that is there already.
    pub rule: String,
    /// The `alertname` label.
    pub alertname: String,
    /// How long it must hold before the alert fires.
    pub hold_for: Span,
    /// How long evidence must say it is over before the alert resolves.
    pub keep_firing_for: Span,
    /// The rule's own labels as written, templates not expanded.
    pub labels: Labels,
    /// The condition as written: PromQL, or a log rule in words.
    pub condition: String,
    /// How often it is evaluated besides at once.
    pub interval: Span,
    /// The rule file, if it is from one.
    pub file: Option<String>,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// All log patterns are matched in one pass, which has a bound.
    #[error("the patterns of all log rules together cannot be used: {0}")]
    Patterns(#[from] regex::Error),
    /// An interval of zero would never end.
    #[error("`{0}` must be above zero")]
    Zero(&'static str),
}

/// What an evaluation found.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// Verdicts that changed, and fresh values of those that go on holding.
    pub findings: Vec<Finding>,
    /// What recording rules say, staleness markers included: to be appended to the store.
    pub recorded: Commit,
    /// Rules that failed. Their label sets are unknown; the findings say so, too.
    pub errors: Vec<RuleError>,
}

/// A rule that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Which rule.
    pub rule: String,
    /// Why.
    pub message: String,
}

#[derive(Debug)]
struct Recording {
    name: String,
    metric: String,
    expr: Expr,
    labels: Vec<(String, String)>,
    /// What it yielded last: what vanishes gets a staleness marker.
    last: BTreeMap<Labels, ()>,
}

#[derive(Debug)]
enum Body {
    Alert(Box<AlertRule>),
    Recording(Box<Recording>),
}

#[derive(Debug)]
struct Rule {
    body: Body,
    /// To be evaluated at once, from this time on.
    due: Option<Time>,
    evaluated: Option<Time>,
}

#[derive(Debug)]
struct Group {
    interval: Span,
    phase: i64,
    query_offset: Span,
    limit: usize,
    /// Evaluated at the grid's instant rather than at the time it is reached.
    on_grid: bool,
    rules: std::ops::Range<usize>,
    next: Option<Time>,
}

impl Group {
    /// The last grid instant at or before `now`.
    fn instant(&self, now: Time) -> Time {
        let since = now.0.saturating_sub(self.phase);
        Time(since.div_euclid(self.interval.0).saturating_mul(self.interval.0) + self.phase)
    }
}

/// All rules, and what they remember.
#[derive(Debug)]
pub struct Detector {
    groups: Vec<Group>,
    rules: Vec<Rule>,
    logs: LogRules,
    infos: Vec<RuleInfo>,
    /// Metric name → alert rules that read it.
    by_metric: HashMap<String, Vec<usize>>,
    /// Alert rules with a selector that names no metric.
    by_any: Vec<usize>,
    limits: Limits,
    external_labels: Labels,
    external_url: String,
    missed: u64,
}

impl Detector {
    /// Rules as configured, none of them judged yet.
    ///
    /// # Errors
    /// [`DetectError`].
    pub fn new(ruleset: &Ruleset) -> Result<Detector, DetectError> {
        Builder::default().build(ruleset)
    }

    /// Every alert rule.
    #[must_use]
    pub fn policies(&self) -> &[RuleInfo] {
        &self.infos
    }

    /// Takes over what `old` has learned and holds, for every rule of the same name and meaning, so
    /// that a reload neither forgets nor repeats. Returns rules and labels that held and whose rule
    /// is gone or means something else now.
    pub fn adopt(&mut self, old: Detector) -> Vec<(String, Labels)> {
        let mut lost = Vec::new();
        let infos: HashMap<&str, &RuleInfo> =
            self.infos.iter().map(|info| (info.rule.as_str(), info)).collect();
        let old_infos: HashMap<&str, &RuleInfo> =
            old.infos.iter().map(|info| (info.rule.as_str(), info)).collect();
        let same = |name: &str| {
            let meaning = |info: &RuleInfo| {
                (info.alertname.clone(), info.labels.clone(), info.condition.clone())
            };
            let (now, then) = (infos.get(name), old_infos.get(name));
            now.is_some() && now.map(|info| meaning(info)) == then.map(|info| meaning(info))
        };
        let mut alerts: HashMap<String, &mut AlertRule> = HashMap::new();
        let mut recordings: HashMap<String, &mut Recording> = HashMap::new();
        for rule in &mut self.rules {
            match &mut rule.body {
                Body::Alert(alert) => {
                    alerts.insert(alert.name.clone(), alert);
                }
                Body::Recording(recording) => {
                    recordings.insert(recording.name.clone(), recording);
                }
            }
        }
        for rule in old.rules {
            match rule.body {
                Body::Alert(then) => {
                    match alerts.get_mut(&then.name).filter(|_| same(&then.name)) {
                        Some(alert) => alert.held = then.held,
                        None => {
                            lost.extend(
                                then.held.into_keys().map(|labels| (then.name.clone(), labels)),
                            );
                        }
                    }
                }
                Body::Recording(then) => {
                    let now = recordings.get_mut(&then.name);
                    if let Some(recording) = now.filter(|now| now.metric == then.metric) {
                        recording.last = then.last;
                    }
                }
            }
        }
        let same: Vec<bool> = old.logs.alerts.iter().map(|then| same(&then.name)).collect();
        for (then, same) in old.logs.alerts.into_iter().zip(same) {
            match self.logs.alerts.iter_mut().find(|alert| same && alert.name == then.name) {
                Some(alert) => alert.adopt(then),
                None => lost.extend(then.held().map(|labels| (then.name.clone(), labels))),
            }
        }
        self.logs.adopt_sources(old.logs.failing);
        lost
    }

    /// Says that `labels` held under `rule` before the start, so that their end, or that there is
    /// no evidence of it, is told. Returns whether there is such a rule.
    pub fn restore(&mut self, now: Time, rule: &str, labels: &Labels) -> bool {
        for candidate in &mut self.rules {
            if let Body::Alert(alert) = &mut candidate.body
                && alert.name == rule
            {
                alert.restore(now, labels.clone());
                return true;
            }
        }
        match self.logs.alerts.iter_mut().find(|alert| alert.name == rule) {
            Some(alert) => {
                alert.restore(now, labels.clone());
                true
            }
            None => false,
        }
    }

    /// Marks the alert rules that read what the commit brings: they are due at once, but no sooner
    /// than [`EAGER_MIN`] after their last evaluation. To be called after the store has it.
    pub fn on_commit(&mut self, now: Time, commit: &Commit) {
        if commit.samples.is_empty() {
            return;
        }
        for &rule in &self.by_any {
            self.rules[rule].mark(now);
        }
        let mut last: Option<&str> = None;
        for sample in &commit.samples {
            let name = sample.labels.get(Labels::NAME);
            // Samples of one metric come together.
            if last == Some(name) {
                continue;
            }
            last = Some(name);
            for &rule in self.by_metric.get(name).map_or(&[][..], Vec::as_slice) {
                self.rules[rule].mark(now);
            }
        }
    }

    /// Judges log records at once. Their source is taken to be `log/` and their `path`, `unit` or
    /// `source` label; where the source is known, use [`Detector::on_logs_from`].
    pub fn on_logs(&mut self, now: Time, records: &[LogRecord]) -> Vec<Finding> {
        self.logs.take(now, None, records)
    }

    /// Judges log records of the source with this name (as in [`SourceHealth::source`]) at once.
    pub fn on_logs_from(&mut self, now: Time, source: &str, records: &[LogRecord]) -> Vec<Finding> {
        self.logs.take(now, Some(source), records)
    }

    /// Takes in how a source is. A failing one makes what log rules said of it unknown, at the next
    /// [`Detector::evaluate`], which is due at once.
    pub fn on_source_health(&mut self, _now: Time, health: &SourceHealth) {
        self.logs.source(health);
    }

    /// When [`Detector::evaluate`] has something to do; in the past if it is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let grid = self.groups.iter().map(|group| group.next.unwrap_or(Time::MIN));
        let eager = self.rules.iter().filter_map(|rule| rule.due);
        grid.chain(eager).chain(self.logs.wake_at()).min()
    }

    /// Evaluates what is due at `now`, and only that. `querier` should stand still meanwhile.
    pub fn evaluate(&mut self, now: Time, querier: &dyn Querier) -> Evaluated {
        let mut out = Evaluated::default();
        let mut added: BTreeMap<Labels, Vec<Point>> = BTreeMap::new();
        for group in &mut self.groups {
            let reached = match group.next {
                None => Some(now),
                Some(next) if next <= now => {
                    let instant = group.instant(now);
                    let late = instant.since(next).0 / group.interval.0;
                    self.missed += u64::try_from(late).unwrap_or(0);
                    Some(if group.on_grid { instant } else { now })
                }
                Some(_) => None,
            };
            let first = group.next.is_none();
            if reached.is_some() {
                group.next = Some(group.instant(now) + group.interval);
            }
            for i in group.rules.clone() {
                let Some(rule) = self.rules.get_mut(i) else { continue };
                let eager = rule.due.is_some_and(|due| due <= now);
                let at = match reached {
                    Some(at) => at,
                    None if eager => now,
                    None => continue,
                } - group.query_offset;
                rule.due = None;
                rule.evaluated = Some(now);
                let overlay = Overlay { base: querier, added: &added };
                let context = Context {
                    querier: &overlay,
                    limits: &self.limits,
                    limit: group.limit,
                    external_labels: &self.external_labels,
                    external_url: &self.external_url,
                };
                match &mut rule.body {
                    Body::Alert(alert) => {
                        if let Err(message) = alert.evaluate(at, &context, &mut out.findings) {
                            out.errors.push(RuleError { rule: alert.name.clone(), message });
                        }
                    }
                    // Off the grid nothing is recorded.
                    Body::Recording(_) if first => {}
                    Body::Recording(recording) => match recording.evaluate(at, &context) {
                        Ok(samples) => {
                            for sample in samples {
                                let point = Point { time: sample.time, value: sample.value };
                                added.entry(sample.labels.clone()).or_default().push(point);
                                out.recorded.samples.push(sample);
                            }
                        }
                        Err(message) => {
                            let rule = recording.name.clone();
                            out.errors.push(RuleError { rule, message });
                        }
                    },
                }
            }
        }
        self.logs.tick(now, &mut out.findings);
        let recorded = std::mem::take(&mut out.recorded);
        self.on_commit(now, &recorded);
        out.recorded = recorded;
        out
    }

    /// Grid instants that passed without an evaluation since the start.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Results and records not watched because a rule reached its bound on label sets.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let alerts = self.rules.iter().map(|rule| match &rule.body {
            Body::Alert(alert) => alert.refused,
            Body::Recording(_) => 0,
        });
        alerts.chain(self.logs.alerts.iter().map(LogAlert::refused)).sum()
    }

    /// Sentences about rules that read series of which there are none around `now`: a name is
    /// misspelt, or a source is missing. Arguments of `absent` are left out.
    #[must_use]
    pub fn warnings(&self, now: Time, querier: &dyn Querier) -> Vec<String> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            let (name, expr) = match &rule.body {
                Body::Alert(alert) => (&alert.name, &alert.expr),
                Body::Recording(recording) => (&recording.name, &recording.expr),
            };
            for leaf in leaves(expr, now, self.limits.lookback) {
                if !leaf.absence
                    && querier.select(&leaf.matchers, leaf.after, leaf.until).is_empty()
                {
                    let selector = selector_text(&leaf.matchers);
                    warnings.push(format!("rule `{name}`: no series matches {selector}"));
                }
            }
        }
        warnings
    }
}

impl Rule {
    fn mark(&mut self, now: Time) {
        let earliest = self.evaluated.map_or(now, |evaluated| now.max(evaluated + EAGER_MIN));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }
}

impl Recording {
    fn evaluate(&mut self, at: Time, context: &Context<'_>) -> Result<Vec<Sample>, String> {
        let answer = instant(context.querier, &self.expr, at, context.limits)
            .map_err(|error| error.to_string())?;
        let results = samples(answer.value, at)?;
        if context.limit > 0 && results.len() > context.limit {
            return Err(format!(
                "{} results exceed the group's limit of {}",
                results.len(),
                context.limit
            ));
        }
        let mut now = BTreeMap::new();
        let mut recorded = Vec::with_capacity(results.len());
        for result in results {
            let mut labels = result.labels.to_map();
            labels.insert(Labels::NAME.to_owned(), self.metric.clone());
            labels.extend(self.labels.iter().cloned());
            let labels: Labels = labels.into_iter().collect();
            if now.insert(labels.clone(), ()).is_some() {
                return Err(format!("two results have the same labels {labels}"));
            }
            let Some(value) = result.value.float() else {
                return Err(format!("{labels} is a native histogram, which is not recorded"));
            };
            recorded.push(Sample { labels, time: at, value });
        }
        for gone in self.last.keys().filter(|labels| !now.contains_key(*labels)) {
            recorded.push(Sample { labels: gone.clone(), time: at, value: stale_marker() });
        }
        self.last = now;
        Ok(recorded)
    }
}

#[derive(Default)]
struct Builder {
    groups: Vec<Group>,
    rules: Vec<Rule>,
    logs: Vec<LogAlert>,
    infos: Vec<RuleInfo>,
    names: HashMap<String, usize>,
}

impl Builder {
    fn build(mut self, ruleset: &Ruleset) -> Result<Detector, DetectError> {
        let detect = &ruleset.detect;
        for (name, span) in
            [("interval", detect.interval), ("evaluation_interval", detect.evaluation_interval)]
        {
            if span <= Span::ZERO {
                return Err(DetectError::Zero(name));
            }
        }
        for file in &ruleset.files {
            self.file(file, detect.evaluation_interval);
        }
        self.own(detect);
        let (mut by_metric, mut by_any) = (HashMap::<String, Vec<usize>>::new(), Vec::new());
        for (i, rule) in self.rules.iter().enumerate() {
            let Body::Alert(alert) = &rule.body else { continue };
            for selector in alert.expr.selectors() {
                let rules = match selector.name() {
                    Some(name) => by_metric.entry(name.to_owned()).or_default(),
                    None => &mut by_any,
                };
                if rules.last() != Some(&i) {
                    rules.push(i);
                }
            }
        }
        Ok(Detector {
            groups: self.groups,
            rules: self.rules,
            logs: LogRules::new(self.logs)?,
            infos: self.infos,
            by_metric,
            by_any,
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

    fn file(&mut self, file: &RuleFile, interval: Span) {
        for group in &file.groups.groups {
            let interval = group.interval.unwrap_or(interval);
            let start = self.rules.len();
            for rule in &group.rules {
                let name = self.unique(format!("{}/{}", group.name, rule.name));
                let body = if rule.records {
                    Body::Recording(Box::new(Recording {
                        name,
                        metric: rule.name.clone(),
                        expr: rule.expr.clone(),
                        labels: rule
                            .labels
                            .iter()
                            .map(|(name, value)| (name.clone(), value.text().to_owned()))
                            .collect(),
                        last: BTreeMap::new(),
                    }))
                } else {
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
                    Body::Alert(Box::new(AlertRule {
                        name,
                        alertname: rule.name.clone(),
                        expr: rule.expr.clone(),
                        labels: pairs(&rule.labels),
                        annotations: pairs(&rule.annotations),
                        held: BTreeMap::new(),
                        refused: 0,
                    }))
                };
                self.rules.push(Rule { body, due: None, evaluated: None });
            }
            self.groups.push(Group {
                interval,
                phase: phase(&format!("{};{}", file.path, group.name), interval),
                query_offset: group.query_offset,
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
                    let body = Body::Alert(Box::new(AlertRule {
                        name,
                        alertname,
                        expr: expr.clone(),
                        labels,
                        annotations,
                        held: BTreeMap::new(),
                        refused: 0,
                    }));
                    self.rules.push(Rule { body, due: None, evaluated: None });
                    self.groups.push(Group {
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

fn pairs(templates: &BTreeMap<String, Template>) -> Vec<(String, Template)> {
    templates.iter().map(|(name, template)| (name.clone(), template.clone())).collect()
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
