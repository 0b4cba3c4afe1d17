//! One test of a unit-test file, run: series are laid out, rules evaluated at their instants, and what
//! came of it compared with what was expected. No files, no output, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_detect::{ActiveAlert, GroupRun, RuleGroup, RuleSample, Surroundings};
use daruma_model::{Histogram, Labels, ResetHint, Span, Time};
use daruma_promql::script::{Item, Memory, items, labels_of};
use daruma_promql::{Expr, Limits, SampleValue, Value, format_value, histogram, instant};
use serde::Serialize;
use serde_saphyr::Spanned;

use super::rule_file::{AlertCase, ExpectedSample, QueryCase, TestGroup, labels};

/// A test that asks for more evaluations than this is refused.
const EVALUATIONS_MAX: i64 = 2_000_000;

/// What was other than expected.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The line of the expectation, from 1.
    pub line: u64,
    /// What was looked at: a query, an alert's name, a rule.
    pub what: String,
    /// When, since the start.
    pub at: Span,
    /// What was expected, a line an element.
    pub expected: Vec<String>,
    /// What there was.
    pub got: Vec<String>,
    /// Why it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is the same for all tests of a file.
pub struct Plan<'a> {
    /// The groups in the order of their evaluation.
    pub groups: Vec<&'a RuleGroup>,
    /// How often they are evaluated.
    pub interval: Span,
    /// Numbers may differ in their last bit.
    pub fuzzy: bool,
}

/// A series of the test that is laid out as time goes on: what lies ahead is not there yet.
struct Input {
    labels: Labels,
    samples: std::vec::IntoIter<(Time, Item)>,
    next: Option<(Time, Item)>,
}

struct Run<'a> {
    test: &'a TestGroup,
    plan: &'a Plan<'a>,
    start: Time,
    memory: Memory,
    failures: Vec<Failure>,
}

/// Runs one test.
pub fn run(test: &Spanned<TestGroup>, plan: &Plan<'_>) -> Vec<Failure> {
    let line = test.referenced.line();
    let test = &test.value;
    let mut run = Run {
        test,
        plan,
        start: test.start_timestamp.0,
        memory: Memory::default(),
        failures: Vec::new(),
    };
    match run.rules(line) {
        Ok(()) => run.queries(),
        Err(failures) => run.failures.extend(failures),
    }
    run.failures
}

fn broken(line: u64, what: &str, at: Span, error: String) -> Failure {
    let (what, expected, got) = (what.to_owned(), Vec::new(), Vec::new());
    Failure { line, what, at, expected, got, error: Some(error) }
}

impl Run<'_> {
    fn inputs(&self) -> Result<Vec<Input>, Failure> {
        let step = self.test.interval.filter(|span| *span > Span::ZERO);
        let step = step.unwrap_or(self.plan.interval);
        let mut inputs = Vec::new();
        for input in &self.test.input_series {
            let failed = |error: String| {
                let line = input.referenced.line();
                broken(line, &input.value.series, Span::ZERO, error)
            };
            let (labels, rest) = labels_of(&input.value.series).map_err(failed)?;
            if !rest.trim().is_empty() {
                return Err(failed(format!("`{}` does not belong to a series", rest.trim())));
            }
            let mut time = self.start;
            let mut samples = Vec::new();
            for item in items(&input.value.values.0).map_err(failed)? {
                if item != Item::Gap {
                    samples.push((time, item));
                }
                time += step;
            }
            let mut samples = samples.into_iter();
            let next = samples.next();
            inputs.push(Input { labels, samples, next });
        }
        Ok(inputs)
    }

    /// Evaluates all rules up to the last time that anything is expected of, and compares alerts.
    fn rules(&mut self, line: u64) -> Result<(), Vec<Failure>> {
        let mut inputs = self.inputs().map_err(|failure| vec![failure])?;
        let mut cases: Vec<&Spanned<AlertCase>> = self.test.alert_rule_test.iter().collect();
        if let Some(nameless) = cases.iter().find(|case| case.value.alertname.is_empty()) {
            let error = "`alertname` is missing here".to_owned();
            let at = nameless.value.eval_time;
            return Err(vec![broken(nameless.referenced.line(), "alert_rule_test", at, error)]);
        }
        cases.sort_by_key(|case| case.value.eval_time);
        let mut cases = cases.into_iter().peekable();
        let times = self.test.alert_rule_test.iter().map(|case| case.value.eval_time);
        let times = times.chain(self.test.promql_expr_test.iter().map(|case| case.value.eval_time));
        let end = times.max().unwrap_or(Span::ZERO);
        let interval = self.plan.interval;
        if end.0 / interval.0 > EVALUATIONS_MAX {
            let error = format!(
                "{} evaluations are too many; choose a longer `evaluation_interval`",
                end.0 / interval.0
            );
            return Err(vec![broken(line, "evaluation_interval", end, error)]);
        }
        let mut groups: Vec<GroupRun> =
            self.plan.groups.iter().map(|group| GroupRun::new(group)).collect();
        let external_labels = labels(self.test.external_labels.iter());
        let mut since = Span::ZERO;
        while since <= end {
            let now = self.start + since;
            for input in &mut inputs {
                while let Some((time, item)) = input.next.take_if(|(time, _)| *time <= now) {
                    let labels = input.labels.clone();
                    match item {
                        Item::Float(value) => self.memory.push(labels, time, value),
                        Item::Histogram { histogram, .. } => {
                            self.memory.push_histogram(labels, time, None, histogram);
                        }
                        Item::Gap => {}
                    }
                    input.next = input.samples.next();
                }
            }
            let mut failures = Vec::new();
            for group in &mut groups {
                let rules = group.names().len();
                for rule in 0..rules {
                    let around = Surroundings {
                        querier: &self.memory,
                        limits: &Limits::default(),
                        external_labels: &external_labels,
                        external_url: &self.test.external_url,
                    };
                    match group.evaluate(rule, now, around) {
                        Ok(samples) => keep(&mut self.memory, samples),
                        Err(error) => {
                            let name = group.names().nth(rule).unwrap_or_default();
                            failures.push(broken(line, &format!("rule {name}"), since, error));
                        }
                    }
                }
            }
            if !failures.is_empty() {
                return Err(failures);
            }
            let next = Span(since.0.saturating_add(interval.0));
            while let Some(case) = cases.next_if(|case| case.value.eval_time < next) {
                self.alerts(case, &groups);
            }
            since = next;
        }
        Ok(())
    }

    fn alerts(&mut self, case: &Spanned<AlertCase>, groups: &[GroupRun]) {
        let AlertCase { eval_time, alertname, exp_alerts } = &case.value;
        let shown = |(labels, annotations): (Labels, Labels)| {
            if annotations.is_empty() {
                labels.to_string()
            } else {
                format!("{labels} {annotations}")
            }
        };
        let mut expected: Vec<String> = exp_alerts
            .iter()
            .map(|alert| {
                let (labels, annotations) = alert.texts();
                shown((labels.with("alertname", alertname), annotations))
            })
            .collect();
        let firing = groups.iter().flat_map(|group| group.active(alertname));
        let mut got: Vec<String> = firing
            .filter(|alert| alert.firing)
            .map(|ActiveAlert { labels, annotations, .. }| shown((labels, annotations)))
            .collect();
        expected.sort();
        got.sort();
        if expected != got {
            self.failures.push(Failure {
                line: case.referenced.line(),
                what: alertname.clone(),
                at: *eval_time,
                expected,
                got,
                error: None,
            });
        }
    }

    fn queries(&mut self) {
        for case in &self.test.promql_expr_test {
            let QueryCase { expr, eval_time, exp_samples } = &case.value;
            let line = case.referenced.line();
            let compared = (|| {
                let expected = exp_samples.iter().map(expected_sample);
                let mut expected = expected.collect::<Result<Vec<_>, String>>()?;
                let mut got = ask(&self.memory, &expr.0, self.start + *eval_time)?;
                expected.sort_by(|a, b| a.0.cmp(&b.0));
                got.sort_by(|a, b| a.0.cmp(&b.0));
                Ok::<_, String>((expected, got))
            })();
            match compared {
                Err(error) => self.failures.push(broken(line, &expr.0, *eval_time, error)),
                Ok((expected, got)) => {
                    let same = expected.len() == got.len()
                        && expected.iter().zip(&got).all(|(a, b)| equal(a, b, self.plan.fuzzy));
                    if !same {
                        let shown = |samples: Vec<(Labels, SampleValue)>| {
                            let one = |(labels, value)| format!("{labels} {}", text(&value));
                            samples.into_iter().map(one).collect()
                        };
                        self.failures.push(Failure {
                            line,
                            what: expr.0.clone(),
                            at: *eval_time,
                            expected: shown(expected),
                            got: shown(got),
                            error: None,
                        });
                    }
                }
            }
        }
    }
}

fn keep(memory: &mut Memory, samples: Vec<RuleSample>) {
    for RuleSample { labels, time, value, histogram } in samples {
        match histogram {
            Some(histogram) => memory.push_histogram(labels, time, None, histogram),
            None => memory.push(labels, time, value),
        }
    }
}

fn ask(memory: &Memory, expr: &str, at: Time) -> Result<Vec<(Labels, SampleValue)>, String> {
    let expr = Expr::parse(expr).map_err(|error| error.to_string())?;
    let answer = instant(memory, &expr, at, &Limits::default()).map_err(|e| e.to_string())?;
    match answer.value {
        Value::Vector(samples) => {
            Ok(samples.into_iter().map(|sample| (sample.labels, sample.value)).collect())
        }
        Value::Scalar(value) => Ok(vec![(Labels::default(), value.into())]),
        Value::Matrix(_) | Value::String(_) => {
            Err("the query yields neither an instant vector nor a scalar".to_owned())
        }
    }
}

fn expected_sample(sample: &ExpectedSample) -> Result<(Labels, SampleValue), String> {
    let (labels, rest) = labels_of(&sample.labels)?;
    if !rest.trim().is_empty() {
        return Err(format!("`{}` does not belong to a label set", rest.trim()));
    }
    if sample.histogram.is_empty() {
        return Ok((labels, SampleValue::Float(sample.value.0)));
    }
    match items(&sample.histogram)?.as_slice() {
        [Item::Histogram { histogram, .. }] => {
            Ok((labels, SampleValue::Histogram(Arc::clone(histogram))))
        }
        _ => Err(format!("`{}` is not one native histogram", sample.histogram)),
    }
}

fn equal(a: &(Labels, SampleValue), b: &(Labels, SampleValue), fuzzy: bool) -> bool {
    a.0 == b.0
        && match (&a.1, &b.1) {
            (SampleValue::Float(a), SampleValue::Float(b)) => {
                a == b
                    || a.is_nan() && b.is_nan()
                    || fuzzy && (a.next_down() == *b || a.next_up() == *b)
            }
            (SampleValue::Histogram(a), SampleValue::Histogram(b)) => {
                a.hint == b.hint && histogram::same(a, b)
            }
            _ => false,
        }
}

fn text(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) => format_value(*value),
        SampleValue::Histogram(histogram) => described(histogram),
    }
}

/// The text of a histogram, with what it says of a reset.
fn described(histogram: &Arc<Histogram>) -> String {
    let hint = match histogram.hint {
        ResetHint::Unknown => "",
        ResetHint::Reset => " counter_reset_hint:reset",
        ResetHint::NotReset => " counter_reset_hint:not_reset",
        ResetHint::Gauge => " counter_reset_hint:gauge",
    };
    format!("{}{hint}", histogram::text(histogram))
}

/// Groups in the order in which they are evaluated: those that are named in `order` after all others,
/// as upstream sorts them.
///
/// # Errors
/// A name that stands twice in `order`.
pub fn ordered<'a>(
    mut groups: Vec<&'a RuleGroup>,
    order: &[String],
) -> Result<Vec<&'a RuleGroup>, String> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (place, name) in order.iter().enumerate() {
        if !known.insert(name) {
            return Err(format!("`{name}` stands twice in `group_eval_order`"));
        }
        places.insert(name, place);
    }
    groups.sort_by_key(|group| places.get(group.name.as_str()).copied().unwrap_or(0));
    Ok(groups)
}
