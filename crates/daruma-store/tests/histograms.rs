//! Native histograms at rest: what goes in comes out, beside numbers, within the same bounds.
#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not know as such.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::{
    BucketSpan, Buckets, Commit, Histogram, HistogramPoint, HistogramSample, Labels, MatchOp,
    Matcher, Point, Querier, ResetHint, Sample, Series, Span, Time, is_stale, stale_marker,
};
use daruma_store::{Config, Store};
use proptest::prelude::*;

/// What a sample says.
#[derive(Debug, Clone)]
enum Said {
    Number(f64),
    Whole(Arc<Histogram>),
}

fn labels(which: u8) -> Labels {
    [(Labels::NAME, ["a", "b", "c"][usize::from(which % 3)])].into()
}

fn commit(which: u8, time: i64, start: Option<Time>, said: &Said) -> Commit {
    let (labels, time) = (labels(which), Time(time));
    match said {
        Said::Number(value) => Commit::from(vec![Sample { labels, time, value: *value }]),
        Said::Whole(histogram) => {
            let histogram = Arc::clone(histogram);
            let sample = HistogramSample { labels, time, start, histogram };
            Commit { histograms: vec![sample], ..Commit::default() }
        }
    }
}

/// Every bit of everything: `==` would take -0 for 0 and no NaN for itself.
fn bits(series: &[Series]) -> Vec<String> {
    let buckets = |buckets: &Buckets| {
        let counts: Vec<u64> = buckets.counts.iter().map(|count| count.to_bits()).collect();
        format!("{:?} {counts:?}", buckets.spans)
    };
    let histogram = |point: &HistogramPoint| {
        let it = &*point.histogram;
        let numbers = [it.count, it.sum, it.zero_threshold, it.zero_count].map(f64::to_bits);
        let sides = [buckets(&it.positive), buckets(&it.negative)];
        format!(
            "{:?} {:?} {} {:?} {numbers:?} {sides:?} {:?}",
            point.time, point.start, it.schema, it.hint, it.custom_bounds
        )
    };
    let one = |one: &Series| {
        let points: Vec<_> = one.points.iter().map(|p| (p.time, p.value.to_bits())).collect();
        let histograms: Vec<_> = one.histograms.iter().map(histogram).collect();
        format!("{} {points:?} {histograms:?}", one.labels)
    };
    series.iter().map(one).collect()
}

/// A histogram without what is said of resets.
fn content(histogram: &Histogram) -> Vec<String> {
    let hint = match histogram.hint {
        ResetHint::Gauge => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    let histogram = Arc::new(Histogram { hint, ..histogram.clone() });
    let point = HistogramPoint { time: Time(0), start: None, histogram };
    bits(&[Series { histograms: vec![point], ..Series::default() }])
}

/// Everything that was accepted, in order of arrival.
#[derive(Default)]
struct Naive {
    series: BTreeMap<Labels, Vec<(Time, Option<Time>, Said)>>,
    floor: Option<i64>,
}

impl Naive {
    fn append(&mut self, which: u8, time: i64, start: Option<Time>, said: &Said) -> &'static str {
        if self.floor.is_some_and(|floor| time <= floor) {
            return "out_of_order";
        }
        let all = self.series.entry(labels(which)).or_default();
        let (mut said, mut start) = (said.clone(), start);
        let last = all.last();
        if let (Some((.., Said::Whole(_))), Said::Number(value)) = (last, &said)
            && is_stale(*value)
        {
            (said, start) = (Said::Whole(Arc::new(Histogram::stale())), None);
        }
        if let Said::Whole(histogram) = &mut said {
            let goes_on =
                matches!(last, Some((.., Said::Whole(last))) if histogram.goes_on_from(last));
            let hint = match histogram.hint {
                ResetHint::Gauge => ResetHint::Gauge,
                _ if goes_on => ResetHint::NotReset,
                _ => ResetHint::Unknown,
            };
            *histogram = Arc::new(if histogram.is_stale() {
                Histogram::stale()
            } else {
                Histogram { hint, ..(**histogram).clone() }
            });
        }
        match last {
            Some((last, _, Said::Number(known))) if *last == Time(time) => match said {
                Said::Number(value) if value.to_bits() == known.to_bits() => "repeated",
                _ => "out_of_order",
            },
            Some((last, _, Said::Whole(known))) if *last == Time(time) => match &said {
                Said::Whole(histogram) if content(histogram) == content(known) => "repeated",
                _ => "out_of_order",
            },
            Some((last, ..)) if *last >= Time(time) => "out_of_order",
            _ => {
                all.push((Time(time), start, said));
                "accepted"
            }
        }
    }

    fn select(&self, after: Time, until: Time, newest: bool) -> Vec<Series> {
        let mut found = Vec::new();
        for (labels, all) in &self.series {
            let mut series = Series { labels: labels.clone(), ..Series::default() };
            let inside = all.iter().filter(|(time, ..)| *time > after && *time <= until);
            let left = if newest { inside.clone().count().saturating_sub(1) } else { 0 };
            for (time, start, said) in inside.skip(left) {
                match said {
                    Said::Number(value) => series.points.push(Point { time: *time, value: *value }),
                    Said::Whole(histogram) => series.histograms.push(HistogramPoint {
                        time: *time,
                        start: *start,
                        histogram: Arc::clone(histogram),
                    }),
                }
            }
            if !series.is_empty() {
                found.push(series);
            }
        }
        found
    }
}

fn count() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0_u32..40).prop_map(f64::from),
        2 => any::<u64>().prop_map(|n| n as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(-0.0),
        1 => 0.0..50.0,
    ]
}

fn buckets(counts: impl Strategy<Value = f64> + Clone) -> impl Strategy<Value = Buckets> {
    let spans = prop::collection::vec((-3_i32..9, 0_u32..4), 0..3);
    spans.prop_flat_map(move |spans| {
        let spans: Vec<BucketSpan> =
            spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect();
        let length: u32 = spans.iter().map(|span| span.length).sum();
        prop::collection::vec(counts.clone(), length as usize)
            .prop_map(move |counts| Buckets { spans: spans.clone(), counts })
    })
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let hint = prop_oneof![
        4 => Just(ResetHint::Unknown),
        1 => Just(ResetHint::Reset),
        1 => Just(ResetHint::NotReset),
        1 => Just(ResetHint::Gauge),
    ];
    let counts = || prop_oneof![3 => (0_u32..9).prop_map(f64::from), 1 => count()].boxed();
    let bounds = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(any::<f64>(), 1..4)];
    let shape = (-4_i8..3, hint, prop_oneof![Just(0.0), Just(0.001), any::<f64>()], bounds);
    let body = (count(), any::<f64>(), counts(), buckets(counts()), buckets(counts()));
    (shape, body).prop_map(|((schema, hint, zero_threshold, bounds), body)| {
        let (count, sum, zero_count, positive, negative) = body;
        let custom_bounds = bounds.into();
        Histogram {
            schema,
            hint,
            count,
            sum,
            zero_threshold,
            zero_count,
            positive,
            negative,
            custom_bounds,
        }
    })
}

#[derive(Debug, Clone)]
enum Step {
    /// Another histogram, or a number.
    Push(u8, i64, Option<i64>, Said),
    /// The same histogram grown by so much in each bucket, so many times.
    Grow(u8, i64, f64, usize),
    Evict(i64),
    Select(i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let said = prop_oneof![
        5 => histogram().prop_map(|histogram| Said::Whole(Arc::new(histogram))),
        1 => Just(Said::Whole(Arc::new(Histogram { count: 9.0, ..Histogram::stale() }))),
        3 => (-3_i32..3).prop_map(|value| Said::Number(f64::from(value))),
        2 => Just(Said::Number(stale_marker())),
    ];
    let start = prop::option::weighted(0.2, any::<i64>());
    prop_oneof![
        6 => (0_u8..3, -1_i64..20, start, said).prop_map(|(a, b, c, d)| Step::Push(a, b, c, d)),
        4 => (0_u8..3, 1_i64..4, prop_oneof![(0_u8..4).prop_map(f64::from), Just(0.3)], 1_usize..150)
            .prop_map(|(a, b, c, d)| Step::Grow(a, b, c, d)),
        1 => (0_i64..900).prop_map(Step::Evict),
        3 => (-50_i64..1500, 0_i64..600).prop_map(|(from, length)| Step::Select(from, length)),
    ]
}

proptest! {
    /// Whatever is appended, refused, evicted: the store shows what plain vectors would show, watched
    /// or not.
    #[test]
    fn the_store_equals_a_naive_one(steps in prop::collection::vec(step(), 1..40), watched in any::<bool>()) {
        let retention = 700;
        let store = Store::new(Config { retention: Span(retention), ..Config::default() });
        let any = Matcher::new(Labels::NAME, MatchOp::Regex, ".+").unwrap();
        if watched {
            store.watch(&[(vec![any.clone()], Span(300))]);
        }
        let mut naive = Naive::default();
        let (mut clock, mut newest) = ([0_i64; 3], 0);
        let mut last: [Option<Arc<Histogram>>; 3] = Default::default();
        for step in steps {
            let mut pushes = Vec::new();
            match step {
                Step::Push(which, step, start, said) => {
                    if let Said::Whole(histogram) = &said {
                        last[usize::from(which)] = Some(Arc::clone(histogram));
                    }
                    clock[usize::from(which)] += step;
                    pushes.push((which, clock[usize::from(which)], start.map(Time), said));
                }
                Step::Grow(which, step, by, times) => {
                    let Some(mut histogram) = last[usize::from(which)].clone() else { continue };
                    for _ in 0..times {
                        let mut next = (*histogram).clone();
                        next.positive.counts.iter_mut().chain(&mut next.negative.counts).for_each(|c| *c += by);
                        next.count += by * (next.buckets() - 1) as f64;
                        histogram = Arc::new(next);
                        clock[usize::from(which)] += step;
                        pushes.push((which, clock[usize::from(which)], None, Said::Whole(histogram.clone())));
                    }
                    last[usize::from(which)] = Some(histogram);
                }
                Step::Evict(ahead) => {
                    store.evict(Time(newest + ahead));
                    let floor = newest + ahead - retention;
                    naive.floor = naive.floor.max(Some(floor));
                    // Nothing goes on from what is gone.
                    naive.series.retain(|_, all| all.last().is_some_and(|last| last.0 > Time(floor)));
                }
                Step::Select(from, length) => {
                    // Whole chunks are dropped: what is older than the retention may still be there.
                    let from = naive.floor.map_or(from, |floor| from.max(floor));
                    let (after, until) = (Time(from), Time(from + length));
                    let any = std::slice::from_ref(&any);
                    let want = bits(&naive.select(after, until, false));
                    prop_assert_eq!(bits(&store.select(any, after, until)), want);
                    let want = bits(&naive.select(after, until, true));
                    prop_assert_eq!(bits(&store.select_newest(any, after, until)), want);
                }
            }
            for (which, time, start, said) in pushes {
                newest = newest.max(time);
                let want = naive.append(which, time, start, &said);
                let got = store.append(&commit(which, time, start, &said));
                let got = (got.accepted, got.repeated, got.out_of_order);
                let is = |word| usize::from(want == word);
                prop_assert_eq!(got, (is("accepted"), is("repeated"), is("out_of_order")), "{} {:?}", time, said);
            }
        }
        let points: usize = naive.select(Time::MIN, Time::MAX, false).iter().map(|s| s.points.len() + s.histograms.len()).sum();
        prop_assert!(store.stats().points <= points);
        // What eviction forgot is forgotten everywhere.
        store.evict(Time(newest + 10_000));
        let stats = store.stats();
        prop_assert_eq!((stats.series, stats.points, stats.bytes), (0, 0, 0));
    }
}

fn steady(round: u32) -> Histogram {
    let counts: Vec<f64> = (0..20).map(|i| f64::from(round * (20 - i))).collect();
    let positive = Buckets { spans: vec![BucketSpan { offset: -8, length: 20 }], counts };
    let count = positive.counts.iter().sum();
    Histogram { schema: 3, count, sum: count * 0.37, positive, ..Histogram::default() }
}

fn push(store: &Store, time: i64, histogram: Histogram) -> daruma_store::Appended {
    store.append(&commit(0, time, None, &Said::Whole(Arc::new(histogram))))
}

#[test]
fn a_histogram_sent_again_is_repeated_and_another_at_its_time_refused() {
    let store = Store::new(Config::default());
    assert_eq!((push(&store, 5, steady(1)).accepted, push(&store, 5, steady(1)).repeated), (1, 1));
    let told = push(&store, 5, steady(1));
    assert_eq!((told.repeated, told.histograms), (1, 1));
    assert_eq!(push(&store, 5, steady(2)).out_of_order, 1);
    assert_eq!(push(&store, 4, steady(1)).out_of_order, 1);
    assert_eq!(store.append(&commit(0, 5, None, &Said::Number(1.0))).out_of_order, 1);
    assert_eq!(push(&store, 6, Histogram::stale()).accepted, 1);
    assert_eq!(push(&store, 6, Histogram::stale()).repeated, 1);
    assert_eq!((store.stats().accepted_total, store.stats().out_of_order_total), (2, 3));
    assert_eq!(store.series(&[], Time(0), Time(9)), [labels(0)]);
    assert_eq!(store.label_values(Labels::NAME), ["a"]);
}

#[test]
fn a_restarted_service_does_not_look_as_if_it_went_on() {
    let store = Store::new(Config::default());
    for (time, round) in [(1, 5), (2, 6), (3, 2), (4, 3)] {
        push(&store, time, steady(round));
    }
    store.append(&commit(0, 5, None, &Said::Number(stale_marker())));
    push(&store, 6, steady(4));
    push(&store, 7, Histogram { hint: ResetHint::Reset, ..steady(5) });
    push(&store, 8, Histogram { hint: ResetHint::Gauge, ..steady(6) });
    let found = store.select(&[], Time::MIN, Time::MAX);
    let hints: Vec<_> = found[0].histograms.iter().map(|point| point.histogram.hint).collect();
    use ResetHint::{Gauge, NotReset, Unknown};
    assert_eq!(hints, [Unknown, NotReset, Unknown, NotReset, Unknown, Unknown, Unknown, Gauge]);
    assert!(found[0].points.is_empty() && found[0].histograms[4].histogram.is_stale());
}

#[test]
fn over_the_byte_limit_the_oldest_histograms_go_first() {
    let store = Store::new(Config { bytes_max: 60_000, ..Config::default() });
    let mut noise = 1_u32;
    for time in 1..=20_000 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        assert_eq!(push(&store, time, steady(noise >> 8)).accepted, 1);
        assert!(store.stats().bytes <= 60_000, "{time}: {:?}", store.stats());
    }
    assert!(store.stats().evicted_early_total > 0);
    let found = &store.select(&[], Time::MIN, Time::MAX)[0].histograms;
    assert_eq!(found.last().unwrap().time, Time(20_000), "the newest is there");
    assert!(found.windows(2).all(|pair| pair[1].time.0 == pair[0].time.0 + 1), "without a hole");
}

#[test]
fn a_histogram_of_endless_spans_is_refused() {
    let store = Store::new(Config::default());
    let spans = vec![BucketSpan { offset: 1, length: 0 }; 50_000];
    let wide = Histogram { positive: Buckets { spans, counts: vec![] }, ..Histogram::default() };
    assert_eq!(push(&store, 1, wide).over_limit, 1);
    assert_eq!((store.stats().series, store.stats().over_limit_total), (0, 1));
}

#[test]
fn a_histogram_from_the_far_future_blocks_its_series_only_until_the_next_eviction() {
    let store = Store::new(Config::default());
    let now = 1_700_000_000_000;
    push(&store, now, steady(1));
    push(&store, now + 86_400_000, steady(2));
    assert_eq!(push(&store, now + 1000, steady(3)).out_of_order, 1);
    assert_eq!(store.evict(Time(now + 2000)).points, 1);
    assert_eq!(push(&store, now + 3000, steady(4)).accepted, 1);
    let found = &store.select(&[], Time::MIN, Time::MAX)[0].histograms;
    let hints: Vec<_> =
        found.iter().map(|point| (point.time.0 - now, point.histogram.hint)).collect();
    assert_eq!(hints, [(0, ResetHint::Unknown), (3000, ResetHint::NotReset)]);
}
