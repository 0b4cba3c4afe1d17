//! Rules over log records: a pattern more than n times, a kind of line not seen before, a log that
//! fell silent.
//!
//! Records are judged as they come, timers by [`LogRules::tick`]. Every window is bounded: a rule
//! keeps the times of at most as many matches as it waits for, of a bounded number of label sets.
//! A source that cannot be read makes what it said unknown; quiet from a healthy one is evidence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use daruma_model::{
    Evidence, Finding, Labels, LogRecord, SourceHealth, SourceState, Span, Time, Verdict,
};
use regex::{RegexSet, RegexSetBuilder};

use crate::config::{LogKind, LogRule};
use crate::kinds::{Kinds, kind_of};
use daruma_template::{Scene, Template};

/// Label sets one rule keeps apart; more are counted and not watched.
const SETS_MAX: usize = 10_000;
/// Kinds one rule remembers.
const KINDS_MAX: usize = 10_000;
/// Lines of evidence, and characters of each.
const LINES_MAX: usize = 10;
const LINE_CHARS_MAX: usize = 500;
/// Sources one label set may come from.
const SOURCES_MAX: usize = 64;
/// Matches counted exactly, at least; a window of fewer would say "1" of a flood.
const COUNT_MIN: usize = 1000;
/// How often a set that goes on holding is told again.
const REFRESH: Span = Span::secs(10);
/// The largest automaton over all patterns together, in bytes.
const PATTERNS_BYTES_MAX: usize = 64 << 20;

/// One log rule with its windows.
#[derive(Debug)]
pub(crate) struct LogAlert {
    pub(crate) name: String,
    pub(crate) alertname: String,
    pub(crate) rule: LogRule,
    pub(crate) labels: Vec<(String, Template)>,
    pub(crate) annotations: Vec<(String, Template)>,
    /// By group labels.
    sets: BTreeMap<Labels, Window>,
    kinds: Kinds,
    learning_since: Option<Time>,
    refused: u64,
    /// Label sets that the current batch reached.
    touched: Vec<Labels>,
}

/// What one rule knows of one label set.
#[derive(Debug, Clone, Default)]
struct Window {
    /// Times of the newest matches, bounded.
    times: VecDeque<Time>,
    /// The newest matching lines.
    lines: VecDeque<String>,
    /// When a record last did what the rule waits for.
    last: Option<Time>,
    /// What was last said; `None` if nothing that still stands.
    verdict: Option<Verdict>,
    told: Option<Time>,
    /// Value at that time.
    value: f64,
    /// Something to tell at the end of the batch.
    touched: bool,
    /// Where its records come from, as sources name themselves.
    sources: BTreeSet<String>,
    /// When all of them could be read again: quiet counts from here.
    healthy_since: Option<Time>,
    /// Set when it was taken over from before the start and its own labels are all there is.
    final_labels: Option<Labels>,
}

/// All log rules.
#[derive(Debug)]
pub(crate) struct LogRules {
    pub(crate) alerts: Vec<LogAlert>,
    /// The patterns of all rules that have one, matched in one pass.
    patterns: RegexSet,
    /// The rule that each pattern belongs to.
    owners: Vec<usize>,
    /// Rules without a pattern.
    open: Vec<usize>,
    /// Sources that cannot be read, by their own name.
    pub(crate) failing: BTreeSet<String>,
    /// Which rules select the source with these labels; bounded.
    selected: BTreeMap<Labels, Vec<bool>>,
    dirty: bool,
}

impl LogAlert {
    pub(crate) fn new(
        name: String,
        alertname: String,
        rule: LogRule,
        labels: Vec<(String, Template)>,
        annotations: Vec<(String, Template)>,
    ) -> LogAlert {
        LogAlert {
            name,
            alertname,
            rule,
            labels,
            annotations,
            sets: BTreeMap::new(),
            kinds: Kinds::new(KINDS_MAX),
            learning_since: None,
            refused: 0,
            touched: Vec::new(),
        }
    }

    /// Records refused because of the bound on label sets.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes over what another of the same definition has learned.
    pub(crate) fn adopt(&mut self, old: LogAlert) {
        self.sets = old.sets;
        self.kinds = old.kinds;
        self.learning_since = old.learning_since;
        self.refused = old.refused;
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Labels> {
        self.sets
            .iter()
            .filter(|(_, window)| window.verdict.is_some())
            .map(|(group, window)| self.final_labels(group, window))
    }

    pub(crate) fn restore(&mut self, now: Time, labels: Labels) {
        let own =
            |name: &str| name == "alertname" || self.labels.iter().any(|(label, _)| label == name);
        let group = labels.filtered(|name| !own(name));
        let window = self.sets.entry(group).or_default();
        window.verdict = Some(Verdict::Unknown);
        window.last = Some(now);
        window.healthy_since = Some(now);
        window.final_labels = Some(labels);
    }

    fn group(&self, labels: &Labels) -> Labels {
        match &self.rule.by {
            Some(by) => labels.filtered(|name| by.iter().any(|wanted| wanted == name)),
            None => labels.filtered(|name| name != "path"),
        }
    }

    /// How long quiet must last before it speaks.
    fn quiet(&self) -> Span {
        match &self.rule.kind {
            LogKind::Matches { within, .. } => *within,
            LogKind::NewKind { hold, .. } => *hold,
            LogKind::Silent { silent_for, .. } => *silent_for,
        }
    }

    fn take(&mut self, now: Time, source: Option<&str>, record: &LogRecord) {
        let at = record.time.min(now);
        if let LogKind::NewKind { severity, learn_for, .. } = &self.rule.kind {
            if severity.is_some_and(|least| record.severity.is_none_or(|is| is < least)) {
                return;
            }
            let learning = self.learning_since.is_none_or(|since| now.since(since) < *learn_for);
            let new = self.kinds.meet(&kind_of(&record.body));
            if learning || !new {
                return;
            }
        }
        let group = self.group(&record.labels);
        if !self.sets.contains_key(&group) && self.sets.len() >= SETS_MAX {
            // One that says nothing may be forgotten; what is told must be kept to be ended.
            let idle = self.sets.iter().filter(|(_, window)| window.verdict.is_none());
            let idle = idle.min_by_key(|(_, window)| window.last).map(|(group, _)| group.clone());
            match idle {
                Some(idle) => self.sets.remove(&idle),
                None => {
                    self.refused += 1;
                    return;
                }
            };
        }
        let window = self.sets.entry(group.clone()).or_default();
        window.last = window.last.max(Some(at));
        if !std::mem::replace(&mut window.touched, true) {
            self.touched.push(group);
        }
        if window.sources.len() < SOURCES_MAX {
            match source {
                Some(source) if window.sources.contains(source) => {}
                Some(source) => {
                    window.sources.insert(source.to_owned());
                }
                None => window.sources.extend(source_names(&record.labels)),
            }
        }
        if let LogKind::Silent { .. } = self.rule.kind {
            return;
        }
        window.lines.push_back(line_of(&record.body));
        if window.lines.len() > LINES_MAX {
            window.lines.pop_front();
        }
        let keep = match &self.rule.kind {
            LogKind::Matches { more_than, .. } => (more_than + 1).max(COUNT_MIN),
            _ => COUNT_MIN,
        };
        window.times.push_back(at);
        if window.times.len() > keep {
            window.times.pop_front();
        }
    }

    /// What is to be said of these label sets, after a batch of records or a while of quiet.
    fn judge(
        &mut self,
        now: Time,
        failing: &BTreeSet<String>,
        groups: Vec<Labels>,
        findings: &mut Vec<Finding>,
    ) {
        let quiet = self.quiet();
        let mut gone = Vec::new();
        let mut said = Vec::new();
        for group in groups {
            let Some(window) = self.sets.get_mut(&group) else { continue };
            let touched = std::mem::take(&mut window.touched);
            while window.times.front().is_some_and(|time| *time <= now - quiet) {
                window.times.pop_front();
            }
            let blind = window.sources.iter().find(|source| failing.contains(*source));
            if blind.is_some() {
                window.healthy_since = None;
            } else if window.healthy_since.is_none() {
                window.healthy_since = Some(now);
            }
            let Some(last) = window.last else { continue };
            let quiet_since = window.healthy_since.map_or(now, |healthy| healthy.max(last));
            let is_quiet = now.since(quiet_since) >= quiet;
            let verdict = match &self.rule.kind {
                LogKind::Silent { spoke_within, .. } => match (blind.is_some(), window.verdict) {
                    _ if touched => Some(Verdict::Clear),
                    (true, _) => Some(Verdict::Unknown),
                    (false, None) if is_quiet && now.since(last) <= *spoke_within => {
                        Some(Verdict::Holds)
                    }
                    (false, Some(_)) if is_quiet => Some(Verdict::Holds),
                    (false, verdict) => verdict,
                },
                LogKind::Matches { more_than, .. } => {
                    let many = window.times.len() > *more_than;
                    match blind.is_some() {
                        // What was read counts, whatever cannot be read now.
                        _ if many && touched => Some(Verdict::Holds),
                        true => Some(Verdict::Unknown),
                        false if many => Some(Verdict::Holds),
                        false if is_quiet => Some(Verdict::Clear),
                        false => window.verdict,
                    }
                }
                LogKind::NewKind { .. } => match blind.is_some() {
                    _ if touched => Some(Verdict::Holds),
                    true => Some(Verdict::Unknown),
                    false if is_quiet => Some(Verdict::Clear),
                    false if !window.times.is_empty() => Some(Verdict::Holds),
                    false => window.verdict,
                },
            };
            let before = window.verdict;
            let value = match &self.rule.kind {
                LogKind::Silent { .. } => now.since(last).as_secs_f64(),
                _ => window.times.len() as f64,
            };
            let changed = match (before, verdict) {
                // What never held is not told.
                (None, Some(Verdict::Holds)) => true,
                (None, _) => false,
                (Some(before), Some(verdict)) if before != verdict => true,
                (Some(Verdict::Holds), Some(Verdict::Holds)) => {
                    // Below the limit it only waits to be over; the evidence stays what it was.
                    let least = match &self.rule.kind {
                        LogKind::Matches { more_than, .. } => *more_than as f64,
                        _ => 0.0,
                    };
                    value > least
                        && value.to_bits() != window.value.to_bits()
                        && window.told.is_none_or(|told| now.since(told) >= REFRESH)
                }
                _ => false,
            };
            // Sets with nothing to say and nothing to remember go.
            let told_or_nothing = matches!(verdict, None | Some(Verdict::Clear));
            let settled = match &self.rule.kind {
                LogKind::Silent { spoke_within, .. } => now.since(last) > *spoke_within,
                _ => is_quiet,
            };
            if told_or_nothing && settled {
                gone.push(group.clone());
            }
            if !changed {
                continue;
            }
            window.verdict = verdict.filter(|verdict| *verdict != Verdict::Clear);
            window.told = Some(now);
            window.value = value;
            let Some(verdict) = verdict else { continue };
            said.push((group, verdict, value, blind.cloned()));
        }
        for (group, verdict, value, blind) in said {
            if let Some(window) = self.sets.get(&group) {
                findings.push(self.finding(now, &group, window, verdict, value, blind));
            }
        }
        for group in gone {
            self.sets.remove(&group);
        }
    }

    fn final_labels(&self, group: &Labels, window: &Window) -> Labels {
        if let Some(labels) = &window.final_labels {
            return labels.clone();
        }
        let scene = Scene::new(group, window.value);
        let mut labels = group.to_map();
        for (name, template) in &self.labels {
            labels.insert(name.clone(), template.expand_or_say(&scene));
        }
        labels.insert("alertname".to_owned(), self.alertname.clone());
        labels.into_iter().collect()
    }

    fn finding(
        &self,
        now: Time,
        group: &Labels,
        window: &Window,
        verdict: Verdict,
        value: f64,
        blind: Option<String>,
    ) -> Finding {
        let scene = Scene::new(group, value);
        let annotations = self
            .annotations
            .iter()
            .map(|(name, template)| (name.clone(), template.expand_or_say(&scene)))
            .collect();
        let summary = match (verdict, blind) {
            (Verdict::Unknown, Some(source)) => {
                format!("evidence missing: {source} cannot be read")
            }
            (Verdict::Unknown, None) => "evidence missing".to_owned(),
            (Verdict::Holds, _) => self.holds_text(window, value),
            (Verdict::Clear, _) => self.clear_text(),
        };
        let lines = if verdict == Verdict::Holds {
            window.lines.iter().cloned().collect()
        } else {
            Vec::new()
        };
        Finding {
            rule: self.name.clone(),
            labels: self.final_labels(group, window),
            annotations,
            at: now,
            verdict,
            evidence: Evidence { summary, value: Some(value), query: None, lines },
        }
    }

    fn holds_text(&self, window: &Window, value: f64) -> String {
        match &self.rule.kind {
            LogKind::Matches { pattern, more_than, within } => {
                let least = if window.times.len() >= (more_than + 1).max(COUNT_MIN) {
                    "at least "
                } else {
                    ""
                };
                format!(
                    "{least}{value} {} {} within {within}; the rule says more than {more_than}",
                    if value == 1.0 { "record matches" } else { "records match" },
                    cut(&format!("{pattern:?}"), 200),
                )
            }
            LogKind::NewKind { .. } => {
                let kind = window.lines.back().map(|line| kind_of(line)).unwrap_or_default();
                format!("a kind of record not seen before: {}", cut(&kind, 300))
            }
            LogKind::Silent { .. } => {
                let seconds = Span((value * 1000.0) as i64);
                format!("nothing was written for {seconds}, by a log that used to speak")
            }
        }
    }

    fn clear_text(&self) -> String {
        match &self.rule.kind {
            LogKind::Matches { pattern, within, .. } => {
                format!("no record matched {} for {within}", cut(&format!("{pattern:?}"), 200))
            }
            LogKind::NewKind { hold, .. } => format!("no new kind of record for {hold}"),
            LogKind::Silent { .. } => "the log speaks again".to_owned(),
        }
    }

    /// When something may have to be said though nothing comes.
    fn wake_at(&self) -> Option<Time> {
        let quiet = self.quiet();
        let speaks = matches!(self.rule.kind, LogKind::Silent { .. });
        let waits = |window: &Window| {
            // A silent log is ended by a record, and a blind one by its source.
            if speaks && window.verdict == Some(Verdict::Holds) {
                return None;
            }
            Some(window.healthy_since?.max(window.last?) + quiet)
        };
        self.sets.values().filter_map(waits).min()
    }

    fn groups(&self) -> Vec<Labels> {
        self.sets.keys().cloned().collect()
    }
}

/// The names under which the source of a record may report on itself.
fn source_names(labels: &Labels) -> impl Iterator<Item = String> {
    ["source", "path", "unit"]
        .into_iter()
        .map(|name| labels.get(name))
        .filter(|value| !value.is_empty())
        .map(
            |value| {
                if value.starts_with("log/") { value.to_owned() } else { format!("log/{value}") }
            },
        )
        .collect::<Vec<_>>()
        .into_iter()
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn line_of(body: &str) -> String {
    cut(body, LINE_CHARS_MAX - 1)
}

impl LogRules {
    /// # Errors
    /// The engine's words, if the patterns together are too large.
    pub(crate) fn new(alerts: Vec<LogAlert>) -> Result<LogRules, regex::Error> {
        let (mut texts, mut owners, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for (i, alert) in alerts.iter().enumerate() {
            let pattern = match &alert.rule.kind {
                LogKind::Matches { pattern, .. } => Some(pattern),
                LogKind::NewKind { pattern, .. } | LogKind::Silent { pattern, .. } => {
                    pattern.as_ref()
                }
            };
            match pattern {
                Some(pattern) => {
                    texts.push(pattern.regex().as_str());
                    owners.push(i);
                }
                None => open.push(i),
            }
        }
        let patterns = RegexSetBuilder::new(&texts)
            .size_limit(PATTERNS_BYTES_MAX)
            .dfa_size_limit(8 << 20)
            .build()?;
        Ok(LogRules {
            alerts,
            patterns,
            owners,
            open,
            failing: BTreeSet::new(),
            selected: BTreeMap::new(),
            dirty: false,
        })
    }

    /// Learning begins when the program does, not with the first error.
    fn learn_from(&mut self, now: Time) {
        for alert in &mut self.alerts {
            alert.learning_since.get_or_insert(now);
        }
    }

    /// Judges records as they come; what changed is told at once.
    pub(crate) fn take(
        &mut self,
        now: Time,
        source: Option<&str>,
        records: &[LogRecord],
    ) -> Vec<Finding> {
        if self.alerts.is_empty() {
            return Vec::new();
        }
        self.learn_from(now);
        let mut touched = BTreeSet::new();
        let mut at = 0;
        while let Some(first) = records.get(at) {
            // Records come in runs of one source: its labels are judged once a run.
            let run = records[at..].iter().take_while(|record| record.labels == first.labels);
            let end = at + run.count();
            let selected = self.selected_by(&first.labels);
            for record in &records[at..end] {
                self.take_one(now, source, record, &selected, &mut touched);
            }
            at = end;
        }
        let mut findings = Vec::new();
        for i in touched {
            let groups = std::mem::take(&mut self.alerts[i].touched);
            self.alerts[i].judge(now, &self.failing, groups, &mut findings);
        }
        findings
    }

    fn take_one(
        &mut self,
        now: Time,
        source: Option<&str>,
        record: &LogRecord,
        selected: &[bool],
        touched: &mut BTreeSet<usize>,
    ) {
        let chosen = |i: &usize| selected.get(*i).copied().unwrap_or(false);
        for i in self.open.iter().copied().filter(chosen) {
            self.alerts[i].take(now, source, record);
            touched.insert(i);
        }
        if self.owners.is_empty() {
            return;
        }
        let matched = self.patterns.matches(&record.body);
        if !matched.matched_any() {
            return;
        }
        for i in matched.iter().filter_map(|pattern| self.owners.get(pattern).copied()) {
            if chosen(&i) {
                self.alerts[i].take(now, source, record);
                touched.insert(i);
            }
        }
    }

    fn selected_by(&mut self, labels: &Labels) -> Vec<bool> {
        if let Some(known) = self.selected.get(labels) {
            return known.clone();
        }
        let selected: Vec<bool> =
            self.alerts.iter().map(|alert| alert.rule.select.matches(labels)).collect();
        if self.selected.len() >= SETS_MAX {
            self.selected.clear();
        }
        self.selected.insert(labels.clone(), selected.clone());
        selected
    }

    pub(crate) fn source(&mut self, health: &SourceHealth) {
        let changed = match health.state {
            SourceState::Failing => self.failing.insert(health.source.clone()),
            SourceState::Ok => self.failing.remove(&health.source),
            // It has not looked yet: nothing is known anew.
            SourceState::Starting => false,
        };
        self.dirty |= changed;
    }

    /// Takes over which sources cannot be read.
    pub(crate) fn adopt_sources(&mut self, failing: BTreeSet<String>) {
        self.failing = failing;
        self.dirty = true;
    }

    /// What quiet has to say.
    pub(crate) fn tick(&mut self, now: Time, findings: &mut Vec<Finding>) {
        let dirty = std::mem::take(&mut self.dirty);
        self.learn_from(now);
        for alert in &mut self.alerts {
            if dirty || alert.wake_at().is_some_and(|wake| wake <= now) {
                let groups = alert.groups();
                alert.judge(now, &self.failing, groups, findings);
            }
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Time> {
        if self.dirty {
            return Some(Time::MIN);
        }
        self.alerts.iter().filter_map(LogAlert::wake_at).min()
    }
}
