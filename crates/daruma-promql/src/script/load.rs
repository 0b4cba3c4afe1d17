//! The lines of a `load`: series, their start times, and the native twins of classic histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_model::{Buckets, Histogram, Labels, Span, Time};

use super::memory::Memory;
use super::notation::{Item, Read, items, labels_of, offsets};

/// One series of a `load`: its samples with their times and start times.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    labels: Labels,
    samples: Vec<(Time, Option<Time>, Item)>,
}

/// What a block has said so far.
#[derive(Default)]
pub(super) struct Block {
    series: Vec<Loaded>,
    starts: BTreeMap<Labels, Vec<Option<Span>>>,
}

impl Block {
    pub(super) fn line(&mut self, text: &str, step: Span) -> Read<()> {
        let (labels, rest) = labels_of(text)?;
        if let Some(starts) = rest.strip_prefix("@st") {
            self.starts.insert(labels, offsets(starts)?);
            return Ok(());
        }
        let starts = self.starts.remove(&labels).unwrap_or_default();
        let (mut time, mut samples) = (Time(0), Vec::new());
        for (i, item) in items(rest)?.into_iter().enumerate() {
            if item != Item::Gap {
                let start = starts.get(i).copied().flatten();
                // Time 0 means that no start is known.
                let start = start.map(|offset| time + offset).filter(|start| start.0 != 0);
                samples.push((time, start, item));
            }
            time += step;
        }
        self.series.push(Loaded { labels, samples });
        Ok(())
    }

    pub(super) fn finish(mut self, with_native: bool) -> Read<Vec<Loaded>> {
        if let Some((labels, _)) = self.starts.first_key_value() {
            return Err(format!("start times of {labels} without samples"));
        }
        if with_native {
            let native = twins(&self.series);
            self.series.extend(native);
        }
        Ok(self.series)
    }
}

impl Loaded {
    pub(super) fn push_to(&self, memory: &mut Memory) {
        for (time, start, item) in &self.samples {
            let labels = self.labels.clone();
            match item {
                Item::Float(value) => memory.push_since(labels, *time, *start, *value),
                Item::Histogram { histogram, .. } => {
                    memory.push_histogram(labels, *time, *start, histogram.clone());
                }
                Item::Gap => {}
            }
        }
    }
}

/// What is known of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Upper bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The classic histograms of a block as native ones with custom bounds, under their base names.
fn twins(series: &[Loaded]) -> Vec<Loaded> {
    let mut found: BTreeMap<Labels, BTreeMap<Time, Classic>> = BTreeMap::new();
    for Loaded { labels, samples } in series {
        let name = labels.get(Labels::NAME);
        let part = ["_bucket", "_count", "_sum"].into_iter().find(|end| name.ends_with(end));
        let Some(part) = part else { continue };
        let bound = labels.get("le").parse::<f64>().ok();
        if (part == "_bucket") != bound.is_some() {
            continue;
        }
        let base = name.strip_suffix(part).unwrap_or(name);
        let base = labels.with("le", "").with(Labels::NAME, base);
        let times = found.entry(base).or_default();
        for (time, _, item) in samples {
            let Item::Float(value) = item else { continue };
            let classic = times.entry(*time).or_default();
            match (part, bound) {
                ("_bucket", Some(bound)) => classic.buckets.push((bound, *value)),
                ("_count", _) => classic.count = Some(*value),
                _ => classic.sum = *value,
            }
        }
    }
    let twin = |(labels, times): (Labels, BTreeMap<Time, Classic>)| {
        let native = |(time, classic): (Time, Classic)| {
            let histogram = Arc::new(native(classic)?);
            Some((time, None, Item::Histogram { histogram, hinted: false }))
        };
        let samples: Vec<_> = times.into_iter().filter_map(native).collect();
        (!samples.is_empty()).then_some(Loaded { labels, samples })
    };
    found.into_iter().filter_map(twin).collect()
}

fn native(mut classic: Classic) -> Option<Histogram> {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = classic.count.or_else(|| classic.buckets.last().map(|(_, count)| *count))?;
    if classic.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut below = 0.0;
    let positive: Buckets = (0_i32..)
        .zip(&classic.buckets)
        .map(|(i, (_, count))| (i, count - std::mem::replace(&mut below, *count)))
        .collect();
    let bounds = classic.buckets.iter().map(|(bound, _)| *bound);
    Some(Histogram {
        schema: Histogram::CUSTOM,
        count,
        sum: classic.sum,
        positive,
        custom_bounds: bounds.filter(|bound| bound.is_finite()).collect(),
        ..Histogram::default()
    })
}
