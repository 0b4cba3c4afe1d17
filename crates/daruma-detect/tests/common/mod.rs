//! A world for detection tests: series in a plain map, and a clock that the test moves.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part.

use std::collections::BTreeMap;

use daruma_detect::{DetectConfig, Detector, Evaluated, RuleFile, Ruleset};
use daruma_model::{
    Commit, Finding, Labels, LogRecord, Matcher, Point, Querier, Sample, Series, Severity,
    SourceHealth, SourceState, Time, Verdict, stale_marker,
};
use daruma_promql::Expr;

pub(crate) fn at(seconds: i64) -> Time {
    Time::from_secs(1_000_000 + seconds)
}

/// Series by the naive rule: everything that was appended, in order.
#[derive(Default, Clone)]
pub(crate) struct Shelf(pub(crate) BTreeMap<Labels, Vec<Point>>);

impl Querier for Shelf {
    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        let wanted = |point: &&Point| point.time > after && point.time <= until;
        self.0
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches(labels)))
            .map(|(labels, points)| Series {
                labels: labels.clone(),
                points: points.iter().filter(wanted).copied().collect(),
                ..Series::default()
            })
            .filter(|series| !series.points.is_empty())
            .collect()
    }
}

/// The labels of a series written as PromQL writes them.
pub(crate) fn series(text: &str) -> Labels {
    let expr = Expr::parse(text).unwrap();
    let selectors = expr.selectors();
    selectors[0].matchers.iter().map(|m| (m.name.clone(), m.value.clone())).collect()
}

pub(crate) struct World {
    pub(crate) detector: Detector,
    pub(crate) shelf: Shelf,
}

impl World {
    /// The rules of a `detect` section.
    pub(crate) fn new(yaml: &str) -> World {
        let detect: DetectConfig = serde_saphyr::from_str(yaml).unwrap();
        World::of(Ruleset { detect, ..Ruleset::default() })
    }

    /// The rules of a Prometheus rule file.
    pub(crate) fn with_file(yaml: &str) -> World {
        let groups = serde_saphyr::from_str(yaml).unwrap();
        let file = RuleFile { path: "rules.yml".into(), groups };
        World::of(Ruleset { files: vec![file], ..Ruleset::default() })
    }

    pub(crate) fn of(ruleset: Ruleset) -> World {
        World { detector: Detector::new(&ruleset).unwrap(), shelf: Shelf::default() }
    }

    /// One commit of samples; `NaN` stands for the staleness marker.
    pub(crate) fn commit(&mut self, now: Time, samples: &[(&str, f64)]) {
        let samples: Vec<Sample> = samples
            .iter()
            .map(|(text, value)| Sample {
                labels: series(text),
                time: now,
                value: if value.is_nan() { stale_marker() } else { *value },
            })
            .collect();
        self.append(now, &Commit::from(samples));
    }

    pub(crate) fn append(&mut self, now: Time, commit: &Commit) {
        for Sample { labels, time, value } in &commit.samples {
            let point = Point { time: *time, value: *value };
            self.shelf.0.entry(labels.clone()).or_default().push(point);
        }
        self.detector.on_commit(now, commit);
    }

    pub(crate) fn evaluate(&mut self, now: Time) -> Evaluated {
        let evaluated = self.detector.evaluate(now, &self.shelf);
        self.append(now, &evaluated.recorded);
        evaluated
    }

    /// Every second from `from` to `to`, both included: `samples`, then an evaluation.
    pub(crate) fn run(&mut self, from: i64, to: i64, samples: &[(&str, f64)]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for second in from..=to {
            self.commit(at(second), samples);
            findings.extend(self.evaluate(at(second)).findings);
        }
        findings
    }

    pub(crate) fn logs(&mut self, now: Time, lines: &[(&str, &str)]) -> Vec<Finding> {
        let records: Vec<LogRecord> =
            lines.iter().map(|(path, body)| record(now, path, body)).collect();
        self.detector.on_logs(now, &records)
    }

    pub(crate) fn source(&mut self, now: Time, path: &str, state: SourceState) {
        let health = SourceHealth {
            source: format!("log/{path}"),
            state,
            at: now,
            said: String::new(),
            signals: 0,
            lost: 0,
        };
        self.detector.on_source_health(now, &health);
    }
}

pub(crate) fn record(now: Time, path: &str, body: &str) -> LogRecord {
    let severity = body.contains("ERROR").then_some(Severity::Error);
    let labels = [("path", path), ("service", "shop")].into();
    LogRecord { time: now, labels, severity, body: body.to_owned() }
}

/// What was said, in order, without times and texts.
pub(crate) fn verdicts(findings: &[Finding]) -> Vec<(String, Verdict)> {
    findings.iter().map(|finding| (finding.labels.to_string(), finding.verdict)).collect()
}

pub(crate) fn said(findings: &[Finding]) -> Vec<Verdict> {
    findings.iter().map(|finding| finding.verdict).collect()
}
