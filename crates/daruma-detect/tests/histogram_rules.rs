//! Rules over native histograms: recorded as what they are, read by the next rule, and as much a proof
//! of life as numbers.
#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

use std::sync::Arc;

use daruma_detect::{Detector, RuleFile, Ruleset};
use daruma_model::{
    Commit, Finding, Histogram, HistogramSample, Labels, MatchOp, Matcher, Querier, Time, Verdict,
};
use daruma_promql::script::Memory;

const FILE: &str = r#"
groups:
- name: latency
  interval: 10s
  rules:
  - record: job:latency
    expr: sum by (job) (rate(latency[1m]))
  - record: job:latency:p90
    expr: histogram_quantile(0.9, job:latency)
  - alert: Slow
    expr: job:latency:p90 > 1 and on () histogram_count(job:latency) > 0
  - alert: Busy
    expr: histogram_count(increase(latency[20s])) > 0
"#;

struct World {
    detector: Detector,
    memory: Memory,
}

fn at(second: i64) -> Time {
    Time::from_secs(1_000_000 + second)
}

impl World {
    fn new() -> World {
        let groups = serde_saphyr::from_str(FILE).unwrap();
        let file = RuleFile { path: "rules.yml".into(), groups };
        let ruleset = Ruleset { files: vec![file], ..Ruleset::default() };
        World { detector: Detector::new(&ruleset).unwrap(), memory: Memory::default() }
    }

    fn keep(&mut self, commit: &Commit) {
        for sample in &commit.samples {
            self.memory.push(sample.labels.clone(), sample.time, sample.value);
        }
        for one in &commit.histograms {
            let (labels, histogram) = (one.labels.clone(), Arc::clone(&one.histogram));
            self.memory.push_histogram(labels, one.time, one.start, histogram);
        }
    }

    /// Latencies between 1 and 2 seconds, one a second and instance.
    fn observe(&mut self, second: i64) {
        let histograms = ["a", "b"].map(|instance| {
            let count = second as f64;
            let positive = [(1, count)].into_iter().collect();
            let histogram = Histogram { count, sum: 1.5 * count, positive, ..Histogram::default() };
            HistogramSample {
                labels: [(Labels::NAME, "latency"), ("job", "x"), ("instance", instance)].into(),
                time: at(second),
                start: None,
                histogram: Arc::new(histogram),
            }
        });
        let commit = Commit { histograms: histograms.into(), ..Commit::default() };
        self.keep(&commit);
        self.detector.on_commit(at(second), &commit);
    }

    fn evaluate(&mut self, second: i64) -> Vec<Finding> {
        let evaluated = self.detector.evaluate(at(second), &self.memory);
        assert_eq!(evaluated.errors, []);
        self.keep(&evaluated.recorded);
        evaluated.findings
    }
}

#[test]
fn a_recorded_histogram_is_kept_and_read_by_the_next_rule_of_its_group() {
    let mut world = World::new();
    let mut findings = Vec::new();
    for second in 1..=40 {
        world.observe(second);
        findings.extend(world.evaluate(second));
    }
    let series = |name: &str| {
        let matcher = Matcher::new(Labels::NAME, MatchOp::Equal, name).unwrap();
        world.memory.select(&[matcher], Time::MIN, Time::MAX)
    };
    let recorded = &series("job:latency")[0];
    assert!(recorded.points.is_empty() && recorded.histograms.len() == 4, "{recorded:?}");
    assert!(
        recorded
            .histograms
            .iter()
            .all(|point| point.histogram.count > 0.1 && point.histogram.count < 2.1)
    );
    let p90 = &series("job:latency:p90")[0];
    let times =
        |all: &[daruma_model::HistogramPoint]| all.iter().map(|p| p.time).collect::<Vec<_>>();
    let read: Vec<Time> = p90.points.iter().map(|point| point.time).collect();
    assert_eq!(read, times(&recorded.histograms), "at the same instants");
    assert!(p90.points.iter().all(|point| point.value > 1.8 && point.value < 2.0), "{p90:?}");
    let holds =
        |finding: &&Finding| finding.verdict == Verdict::Holds && finding.rule.ends_with("Slow");
    assert_eq!(findings.iter().find(holds).unwrap().at, recorded.histograms[0].time);
}

#[test]
fn histograms_that_stop_coming_leave_an_alert_without_evidence() {
    let mut world = World::new();
    let mut last = None;
    for second in 1..=100 {
        if second <= 30 {
            world.observe(second);
        }
        let findings = world.evaluate(second);
        let busy = findings.into_iter().filter(|finding| finding.rule.ends_with("Busy"));
        last = busy.last().map(|finding| finding.verdict).or(last);
        if (15..=30).contains(&second) {
            assert_eq!(last, Some(Verdict::Holds), "{second}");
        }
    }
    assert_eq!(last, Some(Verdict::Unknown));
}

#[test]
fn a_histogram_wakes_the_rules_that_read_it() {
    let mut world = World::new();
    // Until nothing is due before the next grid instant, some seconds from now.
    let mut second = 1;
    let far = |world: &World, second| world.detector.next_due().is_some_and(|due| due > at(second));
    while !far(&world, second + 3) {
        world.observe(second);
        world.evaluate(second);
        second += 1;
        world.evaluate(second);
        assert!(second < 60);
    }
    world.observe(second + 1);
    assert!(!far(&world, second + 3));
}
