//! Measures the store on host-like data: bytes a point, time a sample, memory for six hours.
//!
//! `cargo run --release -p daruma-store --example measure`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use daruma_model::{
    Buckets, Commit, Histogram, HistogramSample, Labels, MatchOp, Matcher, Querier, Sample, Time,
};
use daruma_store::{Config, Store};

/// A small generator of its own: the figures are the same on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1_u32 << 24)
    }
}

fn main() {
    let store = Store::new(Config::default());
    let series: Vec<Labels> = (0..300)
        .map(|i| {
            [
                ("__name__".to_owned(), format!("node_metric_{}_total", i % 60)),
                ("instance".to_owned(), "localhost".to_owned()),
                ("job".to_owned(), "host".to_owned()),
                ("device".to_owned(), format!("dev{}", i / 60)),
            ]
            .into_iter()
            .collect()
        })
        .collect();
    let mut noise = Noise(1);
    let mut values = vec![0.0_f64; series.len()];
    let before = resident_kib();
    let (mut spent, mut samples_total) = (std::time::Duration::ZERO, 0_u32);
    for tick in 0..4320_i64 {
        let jitter = (noise.next() * 4.0) as i64;
        let time = Time(1_700_000_000_000 + tick * 5000 + jitter);
        let mut samples = Vec::with_capacity(series.len());
        for (i, labels) in series.iter().enumerate() {
            let value = &mut values[i];
            match i % 6 {
                // CPU seconds of one mode: a counter in hundredths.
                0 => *value = ((*value + noise.next() * 0.5) * 100.0).round() / 100.0,
                // Bytes moved: a counter of whole numbers in bursts.
                1 => *value += (noise.next() * noise.next() * 1e6).floor(),
                // Memory in bytes: pages come and go.
                2 => *value = (4e9 + noise.next() * 1e7).div_euclid(4096.0) * 4096.0,
                // A constant, as most file systems and limits are.
                3 => *value = 1e9,
                // Load in hundredths.
                4 => *value = (noise.next() * 400.0).round() / 100.0,
                // A small count that seldom moves.
                _ => *value += (noise.next() * 1.02).floor(),
            }
            samples.push(Sample { labels: labels.clone(), time, value: *value });
        }
        let commit = Commit::from(samples);
        let start = Instant::now();
        let appended = store.append(&commit);
        spent += start.elapsed();
        samples_total += appended.accepted as u32;
    }
    let stats = store.stats();
    println!("samples {samples_total}, series {}", stats.series);
    println!("bytes a point {:.2}", stats.chunk_bytes as f64 / stats.points as f64);
    println!("append {} ns a sample", (spent / samples_total).as_nanos());
    println!(
        "store says {} KiB, resident grew by {} KiB",
        stats.bytes >> 10,
        resident_kib() - before
    );
    let newest = Time(1_700_000_000_000 + 4320 * 5000);
    let all = [Matcher::new("job", MatchOp::Equal, "host").unwrap_or_else(|_| unreachable!())];
    let start = Instant::now();
    let mut points = 0_usize;
    for _ in 0..100 {
        let found = store.select(&all, Time(newest.0 - 300_000), newest);
        points += found.iter().map(|series| series.points.len()).sum::<usize>();
    }
    println!("5 min of 300 series: {:?} ({} points)", start.elapsed() / 100, points / 100);
    let start = Instant::now();
    let found = store.select(&all, Time::MIN, Time::MAX);
    let points: usize = found.iter().map(|series| series.points.len()).sum();
    println!("all of it: {:?} ({points} points)", start.elapsed());
    histograms(&mut noise);
}

/// Latencies of a busy service, as a client library counts them: schema 3, some sixty buckets, of which
/// a third grows between two scrapes.
fn histograms(noise: &mut Noise) {
    let store = Store::new(Config::default());
    let series: Vec<Labels> = (0..50)
        .map(|i| [("__name__", "request_seconds"), ("path", &*format!("/{i}"))].into())
        .collect();
    let mut buckets = vec![BTreeMap::<i32, f64>::new(); series.len()];
    let mut sums = vec![0.0; series.len()];
    let (mut spent, mut total) = (std::time::Duration::ZERO, 0_u32);
    for tick in 0..1440_i64 {
        let mut commit = Commit::default();
        for (i, labels) in series.iter().enumerate() {
            for _ in 0..(noise.next() * 40.0) as usize {
                // The product of such numbers is nearly log-normal.
                let seconds: f64 = (0..6).map(|_| 0.3 + noise.next() * 1.5).product::<f64>() * 0.05;
                sums[i] += seconds;
                *buckets[i].entry((seconds.log2() * 8.0).ceil() as i32).or_default() += 1.0;
            }
            let positive: Buckets = buckets[i].iter().map(|(at, count)| (*at, *count)).collect();
            let count = positive.counts.iter().sum();
            let zero_threshold = 2.938_735_877_055_719e-39;
            let histogram = Histogram {
                schema: 3,
                count,
                sum: sums[i],
                positive,
                zero_threshold,
                ..Histogram::default()
            };
            let (time, histogram) = (Time(1_700_000_000_000 + tick * 15_000), Arc::new(histogram));
            let sample = HistogramSample { labels: labels.clone(), time, start: None, histogram };
            commit.histograms.push(sample);
        }
        let start = Instant::now();
        total += store.append(&commit).accepted as u32;
        spent += start.elapsed();
    }
    let stats = store.stats();
    let wide: usize = buckets.iter().map(BTreeMap::len).sum::<usize>() / series.len();
    println!(
        "histograms of {wide} buckets: {:.1} bytes each, append {} ns",
        stats.chunk_bytes as f64 / stats.points as f64,
        (spent / total).as_nanos()
    );
    let start = Instant::now();
    let found = store.select(&[], Time::MIN, Time::MAX);
    let read: usize = found.iter().map(|series| series.histograms.len()).sum();
    println!("reading all: {} ns each ({read})", start.elapsed().as_nanos() / read.max(1) as u128);
}

/// Resident memory in KiB; 0 where the system does not tell.
fn resident_kib() -> i64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}
