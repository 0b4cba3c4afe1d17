//! The store against a naive one, and its bounds.
#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

use std::collections::BTreeMap;

use daruma_model::{
    Commit, Labels, LogRecord, MatchOp, Matcher, Point, Querier, Sample, Series, Span, Time,
};
use daruma_store::{Config, Store};
use proptest::prelude::*;

fn sample(labels: &Labels, time: i64, value: f64) -> Sample {
    Sample { labels: labels.clone(), time: Time(time), value }
}

fn commit(samples: Vec<Sample>) -> Commit {
    Commit::from(samples)
}

fn name(name: &str) -> Labels {
    [(Labels::NAME, name)].into()
}

/// Everything that was accepted, in plain vectors.
#[derive(Default)]
struct Naive {
    series: BTreeMap<Labels, Vec<Point>>,
    floor: Option<i64>,
}

impl Naive {
    fn append(&mut self, sample: &Sample) -> &'static str {
        if self.floor.is_some_and(|floor| sample.time.0 <= floor) {
            return "out_of_order";
        }
        let points = self.series.entry(sample.labels.clone()).or_default();
        match points.last() {
            Some(last)
                if last.time == sample.time && last.value.to_bits() == sample.value.to_bits() =>
            {
                "repeated"
            }
            Some(last) if last.time >= sample.time => "out_of_order",
            _ => {
                points.push(Point { time: sample.time, value: sample.value });
                "accepted"
            }
        }
    }

    fn select(&self, matchers: &[Matcher], after: Time, until: Time) -> Vec<Series> {
        self.series
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches(labels)))
            .map(|(labels, points)| Series {
                labels: labels.clone(),
                points: points
                    .iter()
                    .filter(|point| point.time > after && point.time <= until)
                    .copied()
                    .collect(),
                ..Series::default()
            })
            .filter(|series| !series.points.is_empty())
            .collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, i64, i32)>),
    Evict(i64),
    Select(usize, i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((0_u8..12, -2_i64..20, -3_i32..3), 1..40).prop_map(Step::Append),
        1 => (0_i64..400).prop_map(Step::Evict),
        3 => (0_usize..8, -50_i64..1500, 0_i64..600)
            .prop_map(|(matchers, from, length)| Step::Select(matchers, from, length)),
    ]
}

fn labels_of(which: u8) -> Labels {
    let metric = ["cpu", "mem", "disk"][usize::from(which % 3)];
    let mut labels = name(metric);
    if which >= 3 {
        labels = labels.with("host", ["a", "b", "c"][usize::from(which / 3 - 1)]);
    }
    labels
}

fn matchers_of(which: usize) -> Vec<Matcher> {
    let matcher = |name, op, value| Matcher::new(name, op, value).unwrap();
    match which {
        0 => vec![],
        1 => vec![matcher("__name__", MatchOp::Equal, "cpu")],
        2 => vec![matcher("host", MatchOp::Regex, "a|c")],
        3 => vec![matcher("host", MatchOp::Equal, "")],
        4 => vec![
            matcher("__name__", MatchOp::NotEqual, "mem"),
            matcher("host", MatchOp::Equal, "b"),
        ],
        5 => vec![matcher("host", MatchOp::NotRegex, "b|")],
        6 => {
            vec![matcher("__name__", MatchOp::Equal, "disk"), matcher("host", MatchOp::Regex, "|a")]
        }
        _ => vec![matcher("nothing", MatchOp::Equal, "x")],
    }
}

proptest! {
    /// Whatever is appended, refused, evicted: the store shows what plain vectors would show.
    #[test]
    fn the_store_equals_a_naive_one(steps in prop::collection::vec(step(), 1..60)) {
        let retention = 300;
        let store = Store::new(Config { retention: Span(retention), ..Config::default() });
        let mut naive = Naive::default();
        let mut clock = BTreeMap::new();
        let mut newest = 0;
        for step in steps {
            match step {
                Step::Append(samples) => {
                    let mut samples: Vec<Sample> = samples
                        .into_iter()
                        .map(|(which, step, value)| {
                            let time = clock.entry(which).or_insert(0_i64);
                            *time += step;
                            sample(&labels_of(which), *time, f64::from(value))
                        })
                        .collect();
                    samples.dedup_by(|a, b| a.labels == b.labels);
                    newest = samples.iter().map(|sample| sample.time.0).fold(newest, i64::max);
                    let mut want: BTreeMap<&str, usize> = BTreeMap::new();
                    for sample in &samples {
                        *want.entry(naive.append(sample)).or_default() += 1;
                    }
                    let got = store.append(&commit(samples));
                    let count = |word| want.get(word).copied().unwrap_or(0);
                    prop_assert_eq!(got.accepted, count("accepted"));
                    prop_assert_eq!(got.repeated, count("repeated"));
                    prop_assert_eq!(got.out_of_order, count("out_of_order"));
                }
                Step::Evict(ahead) => {
                    let now = newest + ahead;
                    store.evict(Time(now));
                    let floor = now - retention;
                    naive.floor = naive.floor.max(Some(floor));
                }
                Step::Select(which, from, length) => {
                    // Whole chunks are dropped: what is older than the retention may still be there.
                    let from = naive.floor.map_or(from, |floor| from.max(floor));
                    let (after, until) = (Time(from), Time(from + length));
                    let matchers = matchers_of(which);
                    let want = naive.select(&matchers, after, until);
                    prop_assert_eq!(store.select(&matchers, after, until), want.clone());
                    prop_assert_eq!(store.snapshot().select(&matchers, after, until), want);
                }
            }
        }
        // What eviction forgot is forgotten everywhere.
        store.evict(Time(newest + 10_000));
        let stats = store.stats();
        prop_assert_eq!((stats.series, stats.points, stats.bytes), (0, 0, 0));
        prop_assert_eq!(store.label_names(), Vec::<String>::new());
    }

    /// A selector that is watched answers what it answers without: through new series, evictions,
    /// windows longer than what is kept, times before and behind the newest sample.
    #[test]
    fn watching_changes_no_answer(
        steps in prop::collection::vec(step(), 1..60),
        watched in prop::collection::vec((0_usize..8, 0_i64..400), 0..6),
        when in 0_usize..30,
        spread in prop_oneof![Just(1_i64), Just(1000), Just(40_000)],
    ) {
        let config = Config { retention: Span(300 * spread), ..Config::default() };
        let (plain, watching) = (Store::new(config.clone()), Store::new(config));
        let selectors: Vec<(Vec<Matcher>, Span)> = watched
            .iter()
            .map(|(which, reach)| (matchers_of(*which), Span(reach * spread)))
            .collect();
        let mut clock = BTreeMap::new();
        let mut newest = 0;
        for (i, step) in steps.into_iter().enumerate() {
            if i == when {
                watching.watch(&selectors);
            }
            match step {
                Step::Append(samples) => {
                    let mut samples: Vec<Sample> = samples
                        .into_iter()
                        .map(|(which, step, value)| {
                            let time = clock.entry(which).or_insert(0_i64);
                            *time += step * spread;
                            sample(&labels_of(which), *time, f64::from(value))
                        })
                        .collect();
                    samples.dedup_by(|a, b| a.labels == b.labels);
                    newest = samples.iter().map(|sample| sample.time.0).fold(newest, i64::max);
                    prop_assert_eq!(plain.append(&commit(samples.clone())), watching.append(&commit(samples)));
                }
                Step::Evict(ahead) => {
                    let now = Time(newest + ahead * spread);
                    prop_assert_eq!(plain.evict(now), watching.evict(now));
                }
                Step::Select(which, from, length) => {
                    let (after, until) = (Time(from * spread), Time((from + length) * spread));
                    let matchers = matchers_of(which);
                    let want = plain.select(&matchers, after, until);
                    prop_assert_eq!(&watching.select(&matchers, after, until), &want);
                    let last = |mut series: Series| {
                        series.points.drain(..series.points.len() - 1);
                        series
                    };
                    let want: Vec<Series> = want.into_iter().map(last).collect();
                    prop_assert_eq!(plain.select_newest(&matchers, after, until), want.clone());
                    prop_assert_eq!(watching.select_newest(&matchers, after, until), want);
                }
            }
        }
        watching.evict(Time(newest + 10_000 * spread));
        prop_assert_eq!((watching.stats().series, watching.stats().bytes), (0, 0));
    }

    #[test]
    fn no_labels_or_times_make_it_panic(
        samples in prop::collection::vec(("\\PC{0,8}", "\\PC{0,8}", any::<i64>(), any::<f64>()), 0..40),
        now in any::<i64>(),
    ) {
        let store = Store::new(Config { bytes_max: 4000, series_max: 5, ..Config::default() });
        for (name, value, time, number) in samples {
            let labels: Labels = [(name, value)].into_iter().collect();
            store.append(&commit(vec![sample(&labels, time, number)]));
            prop_assert!(store.stats().series <= 5);
        }
        store.evict(Time(now));
        store.select(&[], Time::MIN, Time::MAX);
    }
}

#[test]
fn a_reader_sees_a_commit_whole_or_not_at_all() {
    let store = std::sync::Arc::new(Store::new(Config::default()));
    let series: Vec<Labels> = (0..50).map(|i| name(&format!("m{i:02}"))).collect();
    let writer = {
        let (store, series) = (store.clone(), series.clone());
        std::thread::spawn(move || {
            for time in 1..=400 {
                let samples = series.iter().map(|s| sample(s, time, time as f64)).collect();
                assert_eq!(store.append(&commit(samples)).accepted, 50);
            }
        })
    };
    let mut torn = 0;
    while !writer.is_finished() {
        let found = store.select(&[], Time::MIN, Time::MAX);
        let newest: Vec<_> = found.iter().filter_map(|s| s.points.last()).collect();
        torn += usize::from(newest.windows(2).any(|pair| pair[0].time != pair[1].time));
        torn += usize::from(!found.is_empty() && found.len() != 50);
    }
    writer.join().unwrap();
    assert_eq!(torn, 0);
    assert_eq!(store.select(&[], Time(399), Time::MAX).len(), 50);
}

#[test]
fn a_window_is_cut_exactly_wherever_chunks_end() {
    let store = Store::new(Config::default());
    let labels = name("a");
    for time in 1..=500 {
        store.append(&commit(vec![sample(&labels, time, time as f64)]));
    }
    for after in 0..=500 {
        for until in [after, after + 1, after + 2, after + 119, after + 121, 500] {
            let want: Vec<i64> = (after + 1..=until.min(500)).collect();
            let found = store.select(&[], Time(after), Time(until));
            let got: Vec<i64> =
                found.iter().flat_map(|s| s.points.iter().map(|point| point.time.0)).collect();
            assert_eq!(got, want, "({after}, {until}]");
        }
    }
}

#[test]
fn one_series_too_many_is_refused_and_counted_while_the_others_go_on() {
    let store = Store::new(Config { series_max: 2, ..Config::default() });
    let appended = store.append(&commit(vec![
        sample(&name("a"), 1, 1.0),
        sample(&name("b"), 1, 1.0),
        sample(&name("c"), 1, 1.0),
    ]));
    assert_eq!((appended.accepted, appended.over_limit), (2, 1));
    assert_eq!(store.append(&commit(vec![sample(&name("a"), 2, 1.0)])).accepted, 1);
    assert_eq!((store.stats().series, store.stats().over_limit_total), (2, 1));
    let giant = name("a").with("x", &"y".repeat(20_000));
    assert_eq!(store.append(&commit(vec![sample(&giant, 3, 1.0)])).over_limit, 1);
}

#[test]
fn over_the_byte_limit_the_oldest_history_goes_first() {
    let store = Store::new(Config { bytes_max: 60_000, ..Config::default() });
    let labels = name("noise");
    let mut noise = 1_u64;
    for time in 1..=50_000 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = f64::from_bits(noise >> 2);
        assert_eq!(store.append(&commit(vec![sample(&labels, time, value)])).accepted, 1);
        assert!(store.stats().bytes <= 60_000, "{time}: {:?}", store.stats());
    }
    assert!(store.stats().evicted_early_total > 0);
    let points = &store.select(&[], Time::MIN, Time::MAX)[0].points;
    assert_eq!(points.last().unwrap().time, Time(50_000), "the newest is there");
    assert!(points.windows(2).all(|pair| pair[1].time.0 == pair[0].time.0 + 1), "without a hole");
}

#[test]
fn a_point_from_the_far_future_blocks_its_series_only_until_the_next_eviction() {
    let store = Store::new(Config::default());
    let now = 1_700_000_000_000;
    store.append(&commit(vec![sample(&name("a"), now, 1.0)]));
    store.append(&commit(vec![sample(&name("a"), now + 86_400_000, 2.0)]));
    assert_eq!(store.append(&commit(vec![sample(&name("a"), now + 1000, 3.0)])).out_of_order, 1);
    assert_eq!(store.evict(Time(now + 2000)).points, 1);
    assert_eq!(store.append(&commit(vec![sample(&name("a"), now + 3000, 4.0)])).accepted, 1);
    let points = &store.select(&[], Time::MIN, Time::MAX)[0].points;
    assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [1.0, 4.0]);
}

#[test]
fn labels_and_newest_are_known_without_decoding() {
    let store = Store::new(Config::default());
    let web = name("up").with("job", "web");
    store
        .append(&commit(vec![sample(&web, 5, 1.0), sample(&name("up").with("job", "db"), 5, 0.0)]));
    assert_eq!(store.label_names(), ["__name__", "job"]);
    assert_eq!(store.label_values("job"), ["db", "web"]);
    assert_eq!(store.newest(&web), Some(Point { time: Time(5), value: 1.0 }));
    assert_eq!(store.newest(&name("up")), None);
    assert_eq!(store.series(&[], Time(0), Time(4)), vec![]);
    assert_eq!(store.series(&[], Time(4), Time(5)).len(), 2);
}

fn record(path: &str, time: i64, body: &str) -> LogRecord {
    let labels = [("path", path)].into();
    LogRecord { time: Time(time), labels, severity: None, body: body.to_owned() }
}

#[test]
fn a_chatty_log_cannot_push_out_a_quiet_one() {
    let store = Store::new(Config { log_bytes_max: 100_000, ..Config::default() });
    store.append_logs(&[record("/quiet", 0, "the one line that matters")]);
    for i in 0..10_000 {
        store.append_logs(&[record("/chatty", i, &format!("line {i} {}", "x".repeat(50)))]);
    }
    assert!(store.stats().log_bytes <= 100_000);
    let quiet = Matcher::new("path", MatchOp::Equal, "/quiet").unwrap();
    assert_eq!(store.recent_logs(&[quiet], 10)[0].body, "the one line that matters");
    let newest = store.recent_logs(&[], 3);
    let bodies: Vec<_> = newest.iter().map(|record| &record.body[..9]).collect();
    assert_eq!(bodies, ["line 9997", "line 9998", "line 9999"]);
    let found = store.search_logs(&[], "matters", 10);
    assert_eq!(found.len(), 1);
    assert_eq!(store.search_logs(&[], "line 9999 ", 10).len(), 1);
}

#[test]
fn ten_thousand_sources_stay_within_the_bounds() {
    let store = Store::new(Config { log_bytes_max: 50_000, ..Config::default() });
    let many: Vec<_> = (0..10_000).map(|i| record(&format!("/{i}"), i, &"y".repeat(100))).collect();
    store.append_logs(&many);
    assert!(store.stats().log_bytes <= 50_000);
    assert_eq!(store.recent_logs(&[], 1)[0].labels.get("path"), "/9999");
    store.append_logs(&[record("/big", 1, &"z".repeat(60_000))]);
    assert_eq!(store.stats().log_dropped_total, 1);
}
