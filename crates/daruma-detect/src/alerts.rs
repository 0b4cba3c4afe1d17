//! One PromQL alert rule: from query results to verdicts on label sets.
//!
//! The judgement on missing evidence is in [`crate::inputs`]; the one about who acts, and when, is
//! another stage's. Here a rule only says what changed.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Evidence, Finding, Labels, Querier, Span, Time, Verdict};
use daruma_promql::{Expr, Kind, Limits, SampleValue, Value, VectorSample, format_short, instant};

use crate::inputs::{History, Inputs, Missing, selector_text};
use crate::life::{Life, Seen, Waits};
use crate::rules::{RuleSample, Written, pairs};
use daruma_template::{Scene, Template};

/// How often a finding that goes on holding is told again with its newest value.
const REFRESH: Span = Span::secs(10);

/// Label sets one rule holds in mind at once.
pub(crate) const HELD_MAX: usize = 10_000;

/// The longest expression that evidence repeats, in characters.
const EXPR_CHARS_MAX: usize = 300;

/// An alert rule over series.
#[derive(Debug)]
pub(crate) struct AlertRule {
    pub(crate) name: String,
    pub(crate) alertname: String,
    pub(crate) expr: Expr,
    pub(crate) labels: Vec<(String, Template)>,
    pub(crate) annotations: Vec<(String, Template)>,
    hold_for: Span,
    keep_firing_for: Span,
    /// As Prometheus tells it, at grid instants.
    pub(crate) life: Life,
    pub(crate) written: Written,
    pub(crate) held: BTreeMap<Labels, Held>,
    pub(crate) refused: u64,
}

/// A label set that holds, or held when it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The result's labels, without the name and before the rule's own.
    raw: Labels,
    verdict: Verdict,
    annotations: Labels,
    evidence: Evidence,
    /// What the selectors showed when it last held; `None` if it held before the start.
    seen: Option<History>,
    told: Time,
}

/// One element of a result, with everything a finding needs.
struct Element {
    raw: Labels,
    labels: Labels,
    annotations: Labels,
    value: f64,
}

/// What surrounds an evaluation.
pub(crate) struct Context<'a> {
    pub(crate) querier: &'a dyn Querier,
    pub(crate) limits: &'a Limits,
    /// A result larger than this fails the rule; 0: no limit.
    pub(crate) limit: usize,
    pub(crate) external_labels: &'a Labels,
    pub(crate) external_url: &'a str,
}

impl AlertRule {
    /// A rule that was not judged yet. `waits` are `for` and `keep_firing_for`; `templates` those of
    /// its labels and its annotations.
    pub(crate) fn new(
        name: String,
        alertname: &str,
        expr: &Expr,
        waits: (Span, Span),
        templates: (&BTreeMap<String, Template>, &BTreeMap<String, Template>),
    ) -> AlertRule {
        AlertRule {
            name,
            alertname: alertname.to_owned(),
            expr: expr.clone(),
            labels: pairs(templates.0),
            annotations: pairs(templates.1),
            hold_for: waits.0,
            keep_firing_for: waits.1,
            life: Life::default(),
            written: Written::default(),
            held: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Marks a label set as held before the start, so that its end can be told.
    pub(crate) fn restore(&mut self, now: Time, labels: Labels) {
        let own =
            |name: &str| name == "alertname" || self.labels.iter().any(|(label, _)| label == name);
        let held = Held {
            raw: labels.filtered(|name| !own(name)),
            verdict: Verdict::Unknown,
            annotations: Labels::default(),
            evidence: Evidence::said("not looked at since the start"),
            seen: None,
            told: now,
        };
        self.held.entry(labels).or_insert(held);
    }

    /// Evaluates at `at` and returns what it writes: on the grid, at the instant `grid`, the series
    /// that tell of its alerts; nothing at other times. What changed is added to `findings`.
    ///
    /// # Errors
    /// The sentence that the findings carry, too: every label set that held is unknown now.
    pub(crate) fn evaluate(
        &mut self,
        at: Time,
        grid: Option<Time>,
        context: &Context<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<RuleSample>, String> {
        let found = self.elements(at, context).and_then(|elements| {
            match grid {
                Some(now) => self.live(now, context, &elements)?,
                None => within_limit(elements.len(), context)?,
            }
            Ok(elements)
        });
        let elements = match found {
            Ok(elements) => elements,
            Err(error) => {
                let said = format!("evaluation failed: {error}");
                for (labels, held) in &mut self.held {
                    if held.verdict != Verdict::Unknown || held.evidence.summary != said {
                        held.turn(at, Verdict::Unknown, Evidence::said(said.clone()));
                        findings.push(held.finding(&self.name, labels, at));
                    }
                }
                return Err(error);
            }
        };
        if !elements.is_empty() || !self.held.is_empty() {
            self.judge(at, context, elements, findings)?;
        }
        Ok(grid.map_or_else(Vec::new, |_| self.write(at)))
    }

    /// Evaluates at the grid instant `now` on the series at `at`, and judges nothing.
    ///
    /// # Errors
    /// A sentence; no alert has changed then, but for a limit: above it none is left.
    pub(crate) fn evaluate_alone(
        &mut self,
        now: Time,
        at: Time,
        context: &Context<'_>,
    ) -> Result<Vec<RuleSample>, String> {
        let elements = self.elements(at, context)?;
        self.live(now, context, &elements)?;
        Ok(self.write(at))
    }

    /// One grid instant in the life of its alerts.
    fn live(
        &mut self,
        now: Time,
        context: &Context<'_>,
        elements: &[Element],
    ) -> Result<(), String> {
        if elements.is_empty() && self.life.is_empty() {
            return Ok(());
        }
        let waits = Waits {
            hold_for: self.hold_for,
            keep_firing_for: self.keep_firing_for,
            limit: context.limit,
        };
        let seen = elements.iter().map(|element| Seen {
            labels: &element.labels,
            annotations: &element.annotations,
            value: element.value,
        });
        let held = &self.held;
        let unknown = |held: &Held| held.verdict == Verdict::Unknown;
        self.life.step(now, waits, seen, |labels| held.get(labels).is_some_and(unknown))
    }

    fn write(&mut self, at: Time) -> Vec<RuleSample> {
        let series = self.life.series().into_iter();
        let series = series.map(|(labels, value)| (labels, SampleValue::Float(value)));
        self.written.update(series.collect(), at)
    }

    fn judge(
        &mut self,
        at: Time,
        context: &Context<'_>,
        elements: Vec<Element>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), String> {
        let inputs = Inputs::look(context.querier, &self.expr, at, context.limits.lookback);
        let now_holding: BTreeSet<Labels> =
            elements.iter().map(|element| element.labels.clone()).collect();
        let now_raw: BTreeSet<&Labels> = elements.iter().map(|element| &element.raw).collect();
        let external = context.external_labels;
        self.judge_gone(at, &inputs, (&now_holding, &now_raw, external), findings);
        let mut refused = 0;
        for element in elements {
            refused += u64::from(!self.judge_holding(at, &inputs, element, findings));
        }
        self.refused += refused;
        if refused > 0 {
            return Err(format!("{refused} label sets more than {HELD_MAX} are not watched"));
        }
        Ok(())
    }

    fn elements(&self, at: Time, context: &Context<'_>) -> Result<Vec<Element>, String> {
        let answer = instant(context.querier, &self.expr, at, context.limits)
            .map_err(|error| error.to_string())?;
        let samples = samples(answer.value, at)?;
        let mut known = BTreeSet::new();
        samples
            .into_iter()
            .map(|sample| {
                let element = self.element(at, context, sample);
                if known.insert(element.labels.clone()) {
                    Ok(element)
                } else {
                    Err(format!("two results have the same labels {}", element.labels))
                }
            })
            .collect()
    }

    fn element(&self, at: Time, context: &Context<'_>, sample: VectorSample) -> Element {
        let raw = sample.labels.filtered(|name| name != Labels::NAME);
        let query = |text: &str| -> Result<Vec<(Labels, f64)>, String> {
            let expr = Expr::parse(text).map_err(|error| error.to_string())?;
            let answer = instant(context.querier, &expr, at, context.limits)
                .map_err(|error| error.to_string())?;
            Ok(samples(answer.value, at)?
                .into_iter()
                .map(|sample| (sample.labels, sample.value.number()))
                .collect())
        };
        let scene = Scene {
            labels: &raw,
            value: sample.value.number(),
            external_labels: context.external_labels,
            external_url: context.external_url,
            query: Some(&query),
        };
        let expanded = |templates: &[(String, Template)]| -> Vec<(String, String)> {
            templates
                .iter()
                .map(|(name, template)| (name.clone(), template.expand_or_say(&scene)))
                .collect()
        };
        let own = expanded(&self.labels);
        let labels = own.iter().fold(raw.clone(), |all, (name, value)| all.with(name, value));
        Element {
            labels: labels.with("alertname", &self.alertname),
            annotations: expanded(&self.annotations).into_iter().collect(),
            value: sample.value.number(),
            raw,
        }
    }

    /// Label sets that are no longer in the result: over on evidence, or unknown without.
    fn judge_gone(
        &mut self,
        at: Time,
        inputs: &Inputs,
        (now_holding, now_raw, external): (&BTreeSet<Labels>, &BTreeSet<&Labels>, &Labels),
        findings: &mut Vec<Finding>,
    ) {
        // Known by a finding from before the start alone, which had the external labels of then.
        let by_external = |held: &Held| {
            held.seen.is_none()
                && !external.is_empty()
                && now_raw.contains(&held.raw.filtered(|name| external.get(name).is_empty()))
        };
        let mut over = Vec::new();
        for (labels, held) in &mut self.held {
            if now_holding.contains(labels) {
                continue;
            }
            // The same result under other labels (a template changed with the value) is evidence.
            let missing = if now_raw.contains(&held.raw) || by_external(held) {
                None
            } else {
                inputs.missing(&held.raw, held.seen.as_ref())
            };
            match missing {
                None => {
                    let said = over_text(&self.expr, held.evidence.value);
                    let query = held.evidence.query.take();
                    let evidence = Evidence { query, ..Evidence::said(said) };
                    held.turn(at, Verdict::Clear, evidence);
                    findings.push(held.finding(&self.name, labels, at));
                    over.push(labels.clone());
                }
                Some(missing) if held.verdict != Verdict::Unknown => {
                    let query = held.evidence.query.take();
                    let said = missing_text(&missing, at);
                    let evidence = Evidence { query, ..Evidence::said(said) };
                    held.turn(at, Verdict::Unknown, evidence);
                    findings.push(held.finding(&self.name, labels, at));
                }
                Some(_) => {}
            }
        }
        for labels in over {
            self.held.remove(&labels);
        }
    }

    /// Whether the label set could be taken in.
    fn judge_holding(
        &mut self,
        at: Time,
        inputs: &Inputs,
        element: Element,
        findings: &mut Vec<Finding>,
    ) -> bool {
        let known = self.held.get(&element.labels);
        if known.is_none() && self.held.len() >= HELD_MAX {
            return false;
        }
        let changed = match known {
            None => true,
            Some(held) if held.verdict != Verdict::Holds => true,
            Some(held) => {
                let moved = held.evidence.value.map(f64::to_bits) != Some(element.value.to_bits())
                    || held.annotations != element.annotations;
                moved && at.since(held.told) >= REFRESH
            }
        };
        let seen = Some(inputs.seen(&element.raw));
        if !changed {
            if let Some(held) = self.held.get_mut(&element.labels) {
                held.seen = seen;
            }
            return true;
        }
        let evidence = Evidence {
            summary: holds_text(&self.expr, element.value),
            value: Some(element.value),
            query: plot(&self.expr, &inputs.selectable(&element.raw)),
            lines: Vec::new(),
        };
        let held = Held {
            raw: element.raw,
            verdict: Verdict::Holds,
            annotations: element.annotations,
            evidence,
            seen,
            told: at,
        };
        findings.push(held.finding(&self.name, &element.labels, at));
        self.held.insert(element.labels, held);
        true
    }
}

impl Held {
    fn turn(&mut self, at: Time, verdict: Verdict, evidence: Evidence) {
        self.verdict = verdict;
        self.evidence = evidence;
        self.told = at;
    }

    fn finding(&self, rule: &str, labels: &Labels, at: Time) -> Finding {
        Finding {
            rule: rule.to_owned(),
            labels: labels.clone(),
            annotations: self.annotations.clone(),
            at,
            verdict: self.verdict,
            evidence: self.evidence.clone(),
        }
    }
}

/// Off the grid nothing is kept of an alert, so what is there counts.
fn within_limit(alerts: usize, context: &Context<'_>) -> Result<(), String> {
    if context.limit > 0 && alerts > context.limit {
        return Err(format!("{alerts} alerts exceed the group's limit of {}", context.limit));
    }
    Ok(())
}

/// A rule's result as a vector: a scalar is one element without labels, as in Prometheus.
pub(crate) fn samples(value: Value, at: Time) -> Result<Vec<VectorSample>, String> {
    match value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar(value) => {
            Ok(vec![VectorSample { labels: Labels::default(), value: value.into(), time: at }])
        }
        Value::Matrix(_) | Value::String(_) => {
            Err("the result is neither an instant vector nor a scalar".to_owned())
        }
    }
}

fn cut(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= EXPR_CHARS_MAX {
        return text;
    }
    text.chars().take(EXPR_CHARS_MAX).chain(['…']).collect()
}

/// The left side of a comparison at the top, as written.
fn left_side(expr: &Expr) -> Option<&str> {
    let Kind::Binary(binary) = &expr.ast().bare().kind else { return None };
    // `bool` yields the truth, not the left side's value.
    let compares = binary.op.is_comparison() && !binary.returns_bool;
    expr.text().get(binary.left.span.clone()).filter(|_| compares)
}

/// `http_inflight is 16; the rule says http_inflight >= pool_threads`.
pub(crate) fn holds_text(expr: &Expr, value: f64) -> String {
    let (rule, value) = (cut(expr.text()), format_short(value));
    match left_side(expr) {
        Some(left) => format!("{} is {value}; the rule says {rule}", cut(left)),
        None => format!("the rule yields {value}: {rule}"),
    }
}

fn over_text(expr: &Expr, last: Option<f64>) -> String {
    let rule = cut(expr.text());
    match last {
        Some(value) => {
            format!(
                "no longer true on fresh samples: {rule} (last held at {})",
                format_short(value)
            )
        }
        None => format!("no longer true on fresh samples: {rule}"),
    }
}

fn missing_text(missing: &Missing, at: Time) -> String {
    let selector = cut(&missing.selector);
    let since = match missing.newest {
        Some(newest) => format!("for {}", at.since(newest)),
        None => "at all".to_owned(),
    };
    match missing.speaking {
        (_, 1) => format!("evidence missing: no samples of {selector} {since}"),
        (speaking, needed) => format!(
            "evidence missing: {speaking} of {needed} series of {selector} still have samples"
        ),
    }
}

/// PromQL that plots what the rule compares, for one label set.
pub(crate) fn plot(expr: &Expr, labels: &Labels) -> Option<String> {
    let mut node = expr.ast().bare();
    if let Kind::Binary(binary) = &node.kind
        && binary.op.is_comparison()
    {
        node = binary.left.bare();
    }
    let text = expr.text();
    let mut out = String::new();
    let mut from = node.span.start;
    for selector in node.selectors() {
        let mut matchers = selector.matchers.clone();
        for (name, value) in labels.iter() {
            let known = matchers
                .iter()
                .any(|matcher| matcher.name == name && matcher.op == daruma_model::MatchOp::Equal);
            if !known {
                matchers.push(
                    daruma_model::Matcher::new(name, daruma_model::MatchOp::Equal, value).ok()?,
                );
            }
        }
        out.push_str(text.get(from..selector.span.start)?);
        out.push_str(&selector_text(&matchers));
        // The selector's own text ends where its matchers do; window and shift follow.
        let written = text.get(selector.span.clone())?;
        out.push_str(&written[matchers_end(written)..]);
        from = selector.span.end;
    }
    out.push_str(text.get(from..node.span.end)?);
    // What was put together is only shown if it is a query.
    Expr::parse(&out).ok().map(|_| out)
}

/// Where `name{…}` ends within the text of a selector.
fn matchers_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(q), '\\') if q != '`' => escaped = true,
            (Some(q), _) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return at + 1,
            (None, '[' | '@') => return at,
            (None, ' ' | '\n' | '\t' | '\r')
                if !text[at..].trim_start().starts_with('{') && !text[..at].contains('{') =>
            {
                return at;
            }
            _ => {}
        }
    }
    text.len()
}
