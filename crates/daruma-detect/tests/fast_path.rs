//! The fast way to a verdict is the plain one: rules over a store that was told what they read say and
//! write, instant by instant, what they say and write over everything kept in plain vectors.

#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

mod common;

use common::{Shelf, at};
use daruma_detect::{Detector, Evaluated, RuleFile, Ruleset};
use daruma_model::{Commit, Labels, Point, Sample, Span, Time, stale_marker};
use daruma_store::{Config, Store};
use proptest::prelude::*;

const RULES: &str = r#"
groups:
  - name: g
    interval: 10s
    rules:
      - { record: "job:x:sum", expr: "sum by (job) (x)" }
      - { record: "job:c:rate", expr: "sum by (job) (rate(c[40s]))", labels: { team: a } }
      - { alert: High, expr: 'x{i="a"} > 3', for: 20s, keep_firing_for: 10s }
      - { alert: Growing, expr: "job:c:rate > 0.2 unless on (job) job:x:sum < 2" }
      - { alert: Delayed, expr: "avg_over_time(x[30s] offset 20s) > 2" }
      - { alert: Hours, expr: 'max_over_time(x{i!="b"}[1h]) > 5' }
      - { alert: Gone, expr: 'absent(x{i="c", job="p"})' }
      - { alert: Told, expr: 'ALERTS{alertstate="firing"} == 1', for: 15s }
      - { alert: Steps, expr: 'max_over_time(sum(x)[1m:10s]) > 6' }
  - name: late
    interval: 15s
    query_offset: 7s
    rules:
      - { record: late, expr: "x + on (i, job) group_left c" }
"#;

fn detector() -> Detector {
    let groups = serde_saphyr::from_str(RULES).unwrap();
    let files = vec![RuleFile { path: "r.yml".into(), groups }];
    Detector::new(&Ruleset { files, ..Ruleset::default() }).unwrap()
}

/// One side: rules, and where their samples lie.
struct Side {
    detector: Detector,
    store: Option<Store>,
    shelf: Shelf,
}

impl Side {
    fn append(&mut self, now: Time, commit: &Commit) {
        match &self.store {
            Some(store) => drop(store.append(commit)),
            None => {
                for Sample { labels, time, value } in &commit.samples {
                    let points = self.shelf.0.entry(labels.clone()).or_default();
                    if points.last().is_none_or(|last| last.time < *time) {
                        points.push(Point { time: *time, value: *value });
                    }
                }
            }
        }
        self.detector.on_commit(now, commit);
    }

    fn evaluate(&mut self, now: Time) -> Evaluated {
        let out = match &self.store {
            Some(store) => self.detector.evaluate(now, &store.snapshot()),
            None => self.detector.evaluate(now, &self.shelf),
        };
        self.append(now, &out.recorded);
        out
    }
}

/// Bits, because a marker is no number that equals itself.
fn written(commit: &Commit) -> Vec<(String, Time, u64)> {
    let one = |sample: &Sample| (sample.labels.to_string(), sample.time, sample.value.to_bits());
    commit.samples.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_the_fast_path_says_is_what_the_plain_one_says(
        steps in prop::collection::vec(
            (0_i64..9_000, prop::collection::vec((0_usize..8, -1_i64..9), 0..8)), 1..120,
        ),
        told_at in 0_usize..40,
    ) {
        let store = Some(Store::new(Config::default()));
        let mut fast = Side { detector: detector(), store, shelf: Shelf::default() };
        let mut plain = Side { detector: detector(), store: None, shelf: Shelf::default() };
        let mut now = at(0);
        for (i, (pause, samples)) in steps.into_iter().enumerate() {
            if i == told_at && let Some(store) = &fast.store {
                store.watch(&fast.detector.selectors());
            }
            now += Span::millis(pause + 1);
            let sample = |(which, value): (usize, i64)| {
                let name = if which < 4 { "x" } else { "c" };
                let (i, job) = (["a", "b", "c", "a"][which % 4], ["p", "p", "p", "q"][which % 4]);
                let value = if value < 0 { stale_marker() } else { value as f64 };
                let labels = Labels::from([(Labels::NAME, name), ("i", i), ("job", job)]);
                Sample { labels, time: now, value }
            };
            let mut samples: Vec<Sample> = samples.into_iter().map(sample).collect();
            samples.sort_by(|a, b| a.labels.cmp(&b.labels));
            samples.dedup_by(|a, b| a.labels == b.labels);
            let commit = Commit::from(samples);
            fast.append(now, &commit);
            plain.append(now, &commit);
            prop_assert_eq!(fast.detector.next_due(), plain.detector.next_due());
            let (a, b) = (fast.evaluate(now), plain.evaluate(now));
            prop_assert_eq!(a.findings, b.findings, "at {:?}", now);
            prop_assert_eq!(written(&a.recorded), written(&b.recorded), "at {:?}", now);
            prop_assert_eq!(a.errors, b.errors);
        }
    }
}
