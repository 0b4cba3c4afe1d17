//! Which rule is judged when, and in what order.
//!
//! Two speeds. The *grid*: a group of a rule file is evaluated in order at multiples of its interval
//! (shifted by a hash of its name, so that restarts keep the grid), our own rules every `interval`.
//! *Eager*: an alert rule is evaluated at once when a commit touched a metric that it names.
//! Recordings are written on the grid only.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use daruma_model::{
    Commit, Finding, HistogramSample, Labels, LogRecord, Matcher, Point, Querier, Sample,
    SourceHealth, Span, Time, stale_marker,
};
use daruma_promql::Limits;

use crate::alerts::Context;
use crate::builder::Builder;
use crate::config::{DetectConfig, RuleGroups};
use crate::edges::Edges;
use crate::inputs::{Added, Overlay, leaves, selector_text};
use crate::logrules::{LogAlert, LogRules};
use crate::rules::{Body, RuleSample};

/// An eager rule is evaluated at most once in this time.
pub const EAGER_MIN: Span = Span::millis(20);

/// Points that all alert rules together may read in a second outside their grid, shared evenly: about
/// a hundredth of a processor. A rule that would need more is judged at its grid instants alone.
const EAGER_POINTS: u64 = 500_000;

/// What a label set that holds costs, in points: its texts are expanded and its inputs looked at.
const HELD_COST: u64 = 256;

/// What an evaluation costs however little it reads, in points.
const RULE_COST: u64 = 64;

/// Everything a [`Detector`] is made of.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    /// The `detect` section.
    pub detect: DetectConfig,
    /// The rule files that its globs found, in order.
    pub files: Vec<RuleFile>,
    /// Labels that findings carry where they have none of that name, as alerts do on their way to an
    /// Alertmanager; series of alerts do not. For templates: `{{ $externalLabels }}`.
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

/// A rule, and when it is to be looked at.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) body: Body,
    pub(crate) group: usize,
    /// To be evaluated at once, from this time on.
    due: Option<Time>,
    pub(crate) evaluated: Option<Time>,
    /// How long its last evaluation took, in microseconds.
    pub(crate) took: u64,
    /// Why its last evaluation failed, if it did.
    pub(crate) failed: Option<String>,
    /// Points that its last evaluation read, with something for the rest of the work.
    cost: u64,
}

impl Rule {
    pub(crate) fn new(body: Body, group: usize) -> Rule {
        Rule { body, group, due: None, evaluated: None, took: 0, failed: None, cost: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    /// As written; `""` for our own rules.
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) interval: Span,
    pub(crate) phase: i64,
    pub(crate) query_offset: Span,
    pub(crate) limit: usize,
    /// Evaluated at the grid's instant rather than at the time it is reached.
    pub(crate) on_grid: bool,
    pub(crate) rules: std::ops::Range<usize>,
    pub(crate) next: Option<Time>,
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
    pub(crate) groups: Vec<Group>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) logs: LogRules,
    pub(crate) infos: Vec<RuleInfo>,
    /// Which alert rules read a sample.
    pub(crate) edges: Edges,
    /// Rules that were touched since their last evaluation.
    pub(crate) marked: Vec<bool>,
    /// How many alert rules share what may be read at once.
    pub(crate) eager: u64,
    /// When a group is reached next, first things first.
    pub(crate) timetable: BTreeSet<(Time, usize)>,
    /// When a rule is due off the grid.
    pub(crate) due: BTreeSet<(Time, usize)>,
    /// Series of rules that are gone, and when they end unless another rule writes them.
    pub(crate) orphans: Vec<(Time, Labels)>,
    pub(crate) limits: Limits,
    pub(crate) external_labels: Labels,
    pub(crate) external_url: String,
    pub(crate) missed: u64,
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

    /// Says that `labels` held under `rule` before the start, so that their end, or that there is
    /// no evidence of it, is told. Returns whether there is such a rule.
    pub fn restore(&mut self, now: Time, rule: &str, labels: &Labels) -> bool {
        let labels = &self.inward(labels);
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

    /// As [`Detector::restore`], with what the alert's series go on to tell: since when it is active,
    /// and whether it fires.
    pub fn restore_alert(
        &mut self,
        now: Time,
        rule: &str,
        (labels, annotations): (&Labels, &Labels),
        since: Time,
        fires: bool,
    ) -> bool {
        let inward = self.inward(labels);
        for candidate in &mut self.rules {
            if let Body::Alert(alert) = &mut candidate.body
                && alert.name == rule
            {
                alert.life.restore(inward.clone(), annotations.clone(), since, fires);
            }
        }
        self.restore(now, rule, labels)
    }

    /// A finding's labels as its rule has them; an external label that the rule's result had by itself,
    /// with the same value, is taken for an external one.
    fn inward(&self, labels: &Labels) -> Labels {
        labels.without(&self.external_labels)
    }

    fn turned_outward(&self, mut findings: Vec<Finding>) -> Vec<Finding> {
        if !self.external_labels.is_empty() {
            for finding in &mut findings {
                finding.labels = self.external_labels.merged(&finding.labels);
            }
        }
        findings
    }

    /// Marks the alert rules that read what the commit brings: they are due at once, but no sooner
    /// than [`EAGER_MIN`] after their last evaluation, and later the more they read. To be called
    /// after the store has it.
    pub fn on_commit(&mut self, now: Time, commit: &Commit) {
        for at in self.edges.touched(commit, &mut self.marked) {
            let Some(rule) = self.rules.get_mut(at) else { continue };
            let share = rule.cost.saturating_mul(self.eager).saturating_mul(1000) / EAGER_POINTS;
            let pause = Span(i64::try_from(share).unwrap_or(i64::MAX)).max(EAGER_MIN);
            let earliest = rule.evaluated.map_or(now, |evaluated| now.max(evaluated + pause));
            // What comes no sooner than the grid is left to the grid.
            let grid = self.groups.get(rule.group).and_then(|group| group.next);
            if rule.due.is_none() && grid.is_some_and(|grid| earliest < grid) {
                rule.due = Some(earliest);
                self.due.insert((earliest, at));
            }
        }
    }

    /// Judges log records at once. Their source is taken to be `log/` and their `path`, `unit` or
    /// `source` label; where the source is known, use [`Detector::on_logs_from`].
    pub fn on_logs(&mut self, now: Time, records: &[LogRecord]) -> Vec<Finding> {
        let findings = self.logs.take(now, None, records);
        self.turned_outward(findings)
    }

    /// Judges log records of the source with this name (as in [`SourceHealth::source`]) at once.
    pub fn on_logs_from(&mut self, now: Time, source: &str, records: &[LogRecord]) -> Vec<Finding> {
        let findings = self.logs.take(now, Some(source), records);
        self.turned_outward(findings)
    }

    /// Takes in how a source is. A failing one makes what log rules said of it unknown, at the next
    /// [`Detector::evaluate`], which is due at once.
    pub fn on_source_health(&mut self, _now: Time, health: &SourceHealth) {
        self.logs.source(health);
    }

    /// When [`Detector::evaluate`] has something to do; in the past if it is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let first = |set: &BTreeSet<(Time, usize)>| set.first().map(|(time, _)| *time);
        [first(&self.timetable), first(&self.due), self.logs.wake_at()].into_iter().flatten().min()
    }

    /// Evaluates what is due at `now`, and only that. `querier` should stand still meanwhile.
    pub fn evaluate(&mut self, now: Time, querier: &dyn Querier) -> Evaluated {
        self.evaluate_timed(now, querier, &|| 0)
    }

    /// The same; `stopwatch` tells how many microseconds have passed since any one moment, so that what
    /// each rule took is known ([`RuleStatus::took`](crate::RuleStatus::took)).
    pub fn evaluate_timed(
        &mut self,
        now: Time,
        querier: &dyn Querier,
        stopwatch: &dyn Fn() -> u64,
    ) -> Evaluated {
        let mut out = Evaluated::default();
        let mut added = Added::default();
        let mut began = stopwatch();
        for (at, turn) in self.agenda(now) {
            self.judge(at, &turn, now, querier, &mut added, &mut out);
            let ended = stopwatch();
            if let Some(rule) = self.rules.get_mut(at) {
                rule.took = ended.saturating_sub(began);
            }
            began = ended;
        }
        self.end_orphans(now, &mut out.recorded);
        self.logs.tick(now, &mut out.findings);
        out.findings = self.turned_outward(std::mem::take(&mut out.findings));
        self.on_commit(now, &out.recorded);
        out
    }

    /// The rules to evaluate at `now`, in the order in which they are written.
    fn agenda(&mut self, now: Time) -> BTreeMap<usize, Turn> {
        let mut agenda = BTreeMap::new();
        let mut reached = Vec::new();
        while let Some(&(_, at)) = self.timetable.first().filter(|(next, _)| *next <= now) {
            self.timetable.pop_first();
            reached.push(at);
        }
        for at in reached {
            let Some(group) = self.groups.get_mut(at) else { continue };
            let instant = group.instant(now);
            let turn = match group.next {
                None => Turn::First,
                Some(next) => {
                    let late = instant.since(next).0 / group.interval.0;
                    self.missed += u64::try_from(late).unwrap_or(0);
                    Turn::Grid(if group.on_grid { instant } else { now })
                }
            };
            group.next = Some(instant + group.interval);
            self.timetable.insert((instant + group.interval, at));
            agenda.extend(group.rules.clone().map(|rule| (rule, turn)));
        }
        while let Some(&(_, at)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            agenda.entry(at).or_insert(Turn::Eager);
        }
        agenda
    }

    fn judge(
        &mut self,
        at: usize,
        turn: &Turn,
        now: Time,
        querier: &dyn Querier,
        added: &mut Added,
        out: &mut Evaluated,
    ) {
        let Some(rule) = self.rules.get_mut(at) else { return };
        let Some(group) = self.groups.get(rule.group) else { return };
        if let Some(marked) = self.marked.get_mut(at) {
            *marked = false;
        }
        if let Some(due) = rule.due.take() {
            self.due.remove(&(due, at));
        }
        rule.evaluated = Some(now);
        let grid = match turn {
            Turn::Grid(instant) => Some(*instant),
            Turn::First | Turn::Eager => None,
        };
        let time = grid.unwrap_or(now) - group.query_offset;
        let overlay = Overlay { base: querier, added, read: Cell::new(RULE_COST) };
        let context = Context {
            querier: &overlay,
            limits: &self.limits,
            limit: group.limit,
            external_labels: &self.external_labels,
            external_url: &self.external_url,
        };
        let written = match &mut rule.body {
            Body::Alert(alert) => alert.evaluate(time, grid, &context, &mut out.findings),
            // Off the grid nothing is recorded.
            Body::Recording(_) if grid.is_none() => Ok(Vec::new()),
            Body::Recording(recording) => recording.evaluate(time, &context),
        };
        rule.cost = overlay.read.get();
        if let Body::Alert(alert) = &rule.body {
            rule.cost += HELD_COST * alert.held.len() as u64;
        }
        rule.failed = written.as_ref().err().cloned();
        match written {
            Ok(written) => {
                for RuleSample { labels, time, value, histogram } in written {
                    if let Some(histogram) = histogram {
                        added.push_histogram(labels.clone(), time, &histogram);
                        let sample = HistogramSample { labels, time, start: None, histogram };
                        out.recorded.histograms.push(sample);
                        continue;
                    }
                    added.push(labels.clone(), Point { time, value });
                    out.recorded.samples.push(Sample { labels, time, value });
                }
            }
            Err(message) => {
                let rule = rule.body.name().to_owned();
                out.errors.push(RuleError { rule, message });
            }
        }
    }

    /// Ends the series of rules that are gone, once others had their turn to go on with them.
    fn end_orphans(&mut self, now: Time, recorded: &mut Commit) {
        if self.orphans.first().is_none_or(|(ends, _)| *ends > now) {
            return;
        }
        let kept: BTreeSet<&Labels> =
            self.rules.iter().flat_map(|rule| rule.body.written().series()).collect();
        self.orphans.retain(|(ends, labels)| {
            if *ends > now {
                return true;
            }
            if !kept.contains(labels) {
                let (labels, value) = (labels.clone(), stale_marker());
                recorded.samples.push(Sample { labels, time: now, value });
            }
            false
        });
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

    /// Every selector of every rule with how far back from now it reads, each once: what a store may
    /// keep at hand.
    #[must_use]
    pub fn selectors(&self) -> Vec<(Vec<Matcher>, Span)> {
        let mut all: Vec<(Vec<Matcher>, Span)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for rule in &self.rules {
            let offset = self.groups.get(rule.group).map_or(Span::ZERO, |g| g.query_offset);
            for leaf in leaves(rule.body.expr(), Time(0), self.limits.lookback) {
                let reach = if leaf.pinned { Span::ZERO } else { (Time(0) + offset) - leaf.after };
                let text = selector_text(&leaf.matchers);
                match known.get(&text) {
                    Some(&at) => all[at].1 = all[at].1.max(reach),
                    None => {
                        known.insert(text, all.len());
                        all.push((leaf.matchers, reach));
                    }
                }
            }
        }
        all
    }

    /// Sentences about rules that read series of which there are none around `now`: a name is
    /// misspelt, or a source is missing. Arguments of `absent` are left out.
    #[must_use]
    pub fn warnings(&self, now: Time, querier: &dyn Querier) -> Vec<String> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            for leaf in leaves(rule.body.expr(), now, self.limits.lookback) {
                if !leaf.absence
                    && querier.select(&leaf.matchers, leaf.after, leaf.until).is_empty()
                {
                    let selector = selector_text(&leaf.matchers);
                    let name = rule.body.name();
                    warnings.push(format!("rule `{name}`: no series matches {selector}"));
                }
            }
        }
        warnings
    }
}

/// Why a rule is evaluated.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// For the first time, at whatever time that is.
    First,
    /// Its group has reached this instant.
    Grid(Time),
    /// Something it reads arrived.
    Eager,
}
