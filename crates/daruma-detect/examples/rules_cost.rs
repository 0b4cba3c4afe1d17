//! What rules cost: CPU seconds a 15 s cycle beyond ingest, over a fleet of 100 series a host that
//! arrive as remote write brings them (2,000 series a commit), with ten minutes of history.
//!
//! `cargo run --release -p daruma-detect --example rules_cost [-- SERIES [CYCLES]]`

use std::time::Instant;

use daruma_detect::{Detector, RuleFile, RuleGroups, Ruleset};
use daruma_model::{Commit, Labels, Sample, Time};
use daruma_store::{Config, Store};

const INTERVAL: i64 = 15_000;

/// A generator that needs no crate (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn part(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Constant,
}

/// What a node exporter tells of one host, 100 series.
fn host(instance: &str, job: &str) -> Vec<(Labels, Kind)> {
    let mut all: Vec<(Vec<(&str, String)>, Kind)> = Vec::new();
    let mut put = |name: String, more: Vec<(&'static str, String)>, kind: Kind| {
        let mut labels = vec![("__name__", name)];
        labels.extend(more);
        all.push((labels, kind));
    };
    for cpu in 0..4 {
        for mode in ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"] {
            let more = vec![("cpu", cpu.to_string()), ("mode", mode.to_owned())];
            put("node_cpu_seconds_total".to_owned(), more, Kind::Counter);
        }
    }
    for device in ["eth0", "eth1", "lo"] {
        for what in ["bytes", "packets", "errs"] {
            for way in ["receive", "transmit"] {
                let kind = if what == "errs" { Kind::Constant } else { Kind::Counter };
                let name = format!("node_network_{way}_{what}_total");
                put(name, vec![("device", device.to_owned())], kind);
            }
        }
    }
    for mount in ["/", "/boot", "/var", "/home"] {
        for (what, kind) in [
            ("avail_bytes", Kind::Gauge),
            ("size_bytes", Kind::Constant),
            ("files_free", Kind::Gauge),
        ] {
            let more = vec![
                ("mountpoint", mount.to_owned()),
                ("fstype", "ext4".to_owned()),
                ("device", "/dev/vda1".to_owned()),
            ];
            put(format!("node_filesystem_{what}"), more, kind);
        }
    }
    for device in ["vda", "vdb"] {
        for what in [
            "read_bytes",
            "written_bytes",
            "reads_completed",
            "writes_completed",
            "io_time_seconds",
        ] {
            let more = vec![("device", device.to_owned())];
            put(format!("node_disk_{what}_total"), more, Kind::Counter);
        }
    }
    for what in [
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Buffers",
        "Cached",
        "SwapTotal",
        "SwapFree",
        "Dirty",
    ] {
        let kind = if what.contains("Total") { Kind::Constant } else { Kind::Gauge };
        put(format!("node_memory_{what}_bytes"), vec![], kind);
    }
    for what in
        ["load1", "load5", "load15", "procs_running", "procs_blocked", "entropy_available_bits"]
    {
        put(format!("node_{what}"), vec![], Kind::Gauge);
    }
    for name in ["up", "node_boot_time_seconds", "node_build_info"] {
        put(name.to_owned(), vec![], Kind::Constant);
    }
    for unit in all.len()..100 {
        let more = vec![("name", format!("unit-{unit}.service")), ("state", "active".to_owned())];
        all.push((
            [("__name__", "node_systemd_unit_state".to_owned())].into_iter().chain(more).collect(),
            Kind::Constant,
        ));
    }
    all.truncate(100);
    all.into_iter()
        .map(|(labels, kind)| {
            let own = [("instance", instance.to_owned()), ("job", job.to_owned())];
            let labels = labels.into_iter().chain(own);
            (labels.map(|(name, value)| (name.to_owned(), value)).collect(), kind)
        })
        .collect()
}

struct Fleet {
    series: Vec<(Labels, Kind)>,
    values: Vec<f64>,
    steps: Vec<f64>,
    dice: Dice,
}

impl Fleet {
    fn new(count: usize) -> Fleet {
        let hosts = count / 100;
        let mut series = Vec::with_capacity(count);
        for i in 0..hosts {
            series.extend(host(&format!("host-{i:05}:9100"), &format!("job{:02}", i * 10 / hosts)));
        }
        let mut dice = Dice(1);
        let values = series
            .iter()
            .map(|(_, kind)| match kind {
                Kind::Counter => (dice.part() * 1e7).floor(),
                Kind::Gauge => (dice.part() * 1e8).round() / 100.0,
                Kind::Constant => 1.0,
            })
            .collect();
        let steps = series.iter().map(|_| dice.part() * 1500.0).collect();
        Fleet { series, values, steps, dice }
    }

    /// One sample of each series, 2,000 a commit.
    fn commits(&mut self, time: Time) -> Vec<Commit> {
        for ((value, step), (_, kind)) in self.values.iter_mut().zip(&self.steps).zip(&self.series)
        {
            match kind {
                Kind::Counter => *value += (step * (0.5 + self.dice.part())).round(),
                Kind::Gauge => {
                    *value = (*value * (0.98 + 0.04 * self.dice.part()) * 100.0).round() / 100.0;
                }
                Kind::Constant => {}
            }
        }
        let samples: Vec<Sample> = self
            .series
            .iter()
            .zip(&self.values)
            .map(|((labels, _), value)| Sample { labels: labels.clone(), time, value: *value })
            .collect();
        samples.chunks(2000).map(|chunk| Commit::from(chunk.to_vec())).collect()
    }
}

fn rules(count: usize, hosts: usize, fleet: bool) -> String {
    let mut dice = Dice(3);
    let mut text = String::from("groups:\n");
    for i in 0..count {
        if i % 50 == 0 {
            text += &format!("- name: g{i}\n  interval: 15s\n  rules:\n");
        }
        let at = (dice.roll() % hosts as u64) as usize;
        let (h, j) = if fleet {
            (format!("job!=\"x{i}\""), String::new())
        } else {
            (
                format!("instance=\"host-{at:05}:9100\""),
                format!("job=\"job{:02}\",", dice.roll() % 10),
            )
        };
        let expr = match i % 10 {
            0..=3 => format!("node_load1{{{h}}} > 1e12"),
            4 | 5 => format!("rate(node_network_receive_bytes_total{{{h}}}[5m]) > 1e12"),
            6 => format!("sum by (job) (rate(node_cpu_seconds_total{{{j}mode=\"user\"}}[5m])) < 0"),
            7 => format!("avg_over_time(node_memory_MemAvailable_bytes{{{h}}}[10m]) < 0"),
            8 => {
                format!("predict_linear(node_filesystem_avail_bytes{{{h}}}[10m], 3600) < -1e15")
            }
            _ => format!("absent(up{{{h}}})"),
        };
        text += &format!("  - {{alert: R{i}, expr: '{expr}', for: 1m}}\n");
    }
    text
}

fn detector(text: &str) -> Detector {
    let groups: RuleGroups = match serde_saphyr::from_str(text) {
        Ok(groups) => groups,
        Err(error) => panic!("{error}"),
    };
    let file = RuleFile { path: "rules.yml".to_owned(), groups };
    match Detector::new(&Ruleset { files: vec![file], ..Ruleset::default() }) {
        Ok(detector) => detector,
        Err(error) => panic!("{error}"),
    }
}

/// Seconds this thread has had a processor, where the system tells.
fn cpu() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    ns.map_or_else(|| began().elapsed().as_secs_f64(), |ns| ns / 1e9)
}

fn began() -> Instant {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000_usize);
    let cycles = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(4_i64);
    let start = 1_700_000_000_000_i64;
    for (name, text) in [
        ("no rules", "groups: []\n".to_owned()),
        ("5,000 host rules", rules(5000, count / 100, false)),
        ("100 fleet rules", rules(100, count / 100, true)),
    ] {
        let mut fleet = Fleet::new(count);
        let store = Store::new(Config::default());
        let mut detector = detector(&text);
        let mut now = start;
        store.watch(&detector.selectors());
        for _ in 0..40 {
            for commit in fleet.commits(Time(now)) {
                store.append(&commit);
            }
            now += INTERVAL;
        }
        let (mut ingest, mut marking, mut judging, mut calls) = (0.0, 0.0, 0.0, 0);
        let (mut findings, mut errors) = (0, 0);
        // The first cycle is the start, which no steady state knows.
        for cycle in 0..=cycles {
            let commits = fleet.commits(Time(now));
            if cycle == 1 {
                (ingest, marking, judging, calls) = (0.0, 0.0, 0.0, 0);
            }
            let mut at = now;
            let mut judge = |detector: &mut Detector, until: i64, at: &mut i64| {
                let before = cpu();
                while detector.next_due().is_some_and(|due| due <= Time(until)) {
                    *at = detector.next_due().map_or(until, |due| due.0.max(*at));
                    calls += 1;
                    let out = detector.evaluate(Time(*at), &store.snapshot());
                    findings += out.findings.len();
                    errors += out.errors.len();
                    if !out.recorded.samples.is_empty() {
                        store.append(&out.recorded);
                    }
                }
                judging += cpu() - before;
            };
            for commit in &commits {
                let before = cpu();
                store.append(commit);
                let between = cpu();
                detector.on_commit(Time(at), commit);
                ingest += between - before;
                marking += cpu() - between;
                let until = at + 20;
                judge(&mut detector, at, &mut at);
                at = until;
            }
            judge(&mut detector, now + INTERVAL - 1, &mut at);
            now += INTERVAL;
        }
        let each = |sum: f64| sum / cycles as f64;
        let stats = store.stats();
        println!(
            "{name}: ingest {:.3} s, marking {:.3} s, judging {:.3} s a cycle in {} calls; {:.0} bytes a series; {findings} findings, {errors} errors",
            each(ingest),
            each(marking),
            each(judging),
            calls / cycles,
            stats.bytes as f64 / stats.series as f64,
        );
    }
}
