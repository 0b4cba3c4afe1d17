//! `status/…`, `targets`, and their kin: what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};

use daruma_model::{Labels, MatchOp, Matcher, SourceState, Time};
use serde_json::{Value, json};

use super::params::{self, Params};
use super::rules::instant;
use super::turns::Reader;
use super::{Failure, Found};
use crate::accept::Site;

/// Rows of each table of `status/tsdb`, unless asked for more.
const ROWS_USUAL: usize = 10;
/// Rows of each table at most.
const ROWS_MAX: usize = 10_000;

/// What the program knows of itself, for `status/…` and `targets`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// When it started.
    pub started: Time,
    /// When its configuration was loaded last.
    pub loaded: Time,
    /// Whether the newest attempt to load it went well.
    pub loaded_well: bool,
    /// The configuration as YAML, without a secret.
    pub config: String,
    /// The routes of notifications in Alertmanager's form, without a secret.
    pub notify_config: String,
    /// How it was started, by the name of the option.
    pub flags: BTreeMap<String, String>,
    /// How far back series are kept, in words.
    pub retention: String,
    /// The folder it runs in.
    pub folder: String,
    /// What it scrapes.
    pub targets: Vec<Target>,
    /// What alerts carry to whoever is told, and the API leaves out as Prometheus' does.
    pub external_labels: Labels,
}

/// One scraped endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its job.
    pub job: String,
    /// Its source, as in [`daruma_model::SourceHealth::source`].
    pub source: String,
    /// Labels put on what it brings.
    pub labels: Labels,
    /// Where it is.
    pub url: String,
    /// How often it is scraped, in words.
    pub interval: String,
    /// How long a scrape may take, in words.
    pub timeout: String,
}

/// `status/buildinfo`. Clients ask which Prometheus they speak to, to know what it can do; this is the one
/// whose API is served here.
const SPEAKS: &str = "3.14.0";

pub(super) fn build_info(site: &Site) -> Result<Found, Failure> {
    Found::of(&json!({
        "version": SPEAKS, "revision": format!("daruma {}", site.shared.version), "branch": "",
        "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

pub(super) fn runtime_info(site: &Site) -> Result<Found, Failure> {
    let facts = (site.shared.facts)();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Found::of(&json!({
        "startTime": instant(Some(facts.started)), "CWD": facts.folder,
        "hostname": site.shared.host, "serverTime": instant(Some((site.shared.clock)())),
        "reloadConfigSuccess": facts.loaded_well, "lastConfigTime": instant(Some(facts.loaded)),
        "corruptionCount": 0, "goroutineCount": 0, "GOMAXPROCS": cores, "GOMEMLIMIT": 0,
        "GOGC": "", "GODEBUG": "", "storageRetention": facts.retention,
    }))
}

pub(super) fn config(site: &Site) -> Result<Found, Failure> {
    Found::of(&json!({ "yaml": (site.shared.facts)().config }))
}

pub(super) fn flags(site: &Site) -> Result<Found, Failure> {
    Found::of(&(site.shared.facts)().flags)
}

/// Series are kept in memory: there is no log to replay.
pub(super) fn wal_replay() -> Result<Found, Failure> {
    Found::of(&json!({ "min": 0, "max": 0, "current": 0, "state": "done" }))
}

/// Messages go out from here; no Alertmanager is asked.
pub(super) fn alertmanagers() -> Result<Found, Failure> {
    Found::of(&json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

pub(super) async fn tsdb(site: &Site, params: &Params) -> Result<Found, Failure> {
    let limit = match params.limit()? {
        usize::MAX => ROWS_USUAL,
        rows => rows.min(ROWS_MAX),
    };
    let work = move |reader: &Reader| {
        let stats = reader.store.stats();
        let (chunks, reach) = reader.store.extent();
        // An empty head begins after it ends, as Prometheus' does.
        let (first, last) = reach.unwrap_or((Time::MAX, Time::MIN));
        let all = reader.store.series(&[], Time::MIN, Time::MAX);
        let mut metrics: BTreeMap<&str, usize> = BTreeMap::new();
        let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for labels in &all {
            *metrics.entry(labels.get(Labels::NAME)).or_default() += 1;
            for pair in labels.iter() {
                *pairs.entry(pair).or_default() += 1;
            }
        }
        let (mut values, mut bytes) = (BTreeMap::new(), BTreeMap::new());
        for ((name, value), count) in &pairs {
            *values.entry(*name).or_insert(0_usize) += 1;
            *bytes.entry(*name).or_insert(0_usize) += value.len() * count;
        }
        let joined = pairs.iter().map(|((name, value), count)| (format!("{name}={value}"), *count));
        let owned = |map: &BTreeMap<&str, usize>| {
            map.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>()
        };
        Found::of(&json!({
            "headStats": {
                "numSeries": stats.series, "numLabelPairs": pairs.len(),
                "chunkCount": chunks, "minTime": first.0, "maxTime": last.0,
            },
            "seriesCountByMetricName": top(owned(&metrics), limit),
            "labelValueCountByLabelName": top(owned(&values), limit),
            "memoryInBytesByLabelName": top(owned(&bytes), limit),
            "seriesCountByLabelValuePair": top(joined.collect(), limit),
        }))
    };
    Ok(site.turns.take(None, work).await?.0)
}

fn top(mut rows: Vec<(String, usize)>, limit: usize) -> Vec<Value> {
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rows.truncate(limit);
    rows.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// `targets`: what is scraped, and how the last scrape went.
pub(super) fn targets(site: &Site, params: &Params) -> Result<Found, Failure> {
    let (active, pool) = (params.get("state").to_ascii_lowercase(), params.get("scrapePool"));
    let facts = (site.shared.facts)();
    let view = site.shared.view.borrow().clone();
    let chosen = facts
        .targets
        .iter()
        .filter(|target| active != "dropped" && (pool.is_empty() || target.job == pool));
    let rows: Vec<Value> = chosen
        .map(|target| {
            let health = view.sources.iter().find(|source| source.source == target.source);
            let (word, error, at) = match health {
                Some(health) => match health.state {
                    SourceState::Ok => ("up", "", Some(health.at)),
                    SourceState::Starting => ("unknown", "", None),
                    SourceState::Failing => ("down", health.said.as_str(), Some(health.at)),
                },
                None => ("unknown", "", None),
            };
            let took = site
                .shared
                .store
                .newest(&target.labels.with(Labels::NAME, "scrape_duration_seconds"));
            let took = took.map_or(0.0, |point| point.value);
            json!({
                "discoveredLabels": discovered(target),
                "labels": target.labels, "scrapePool": target.job, "scrapeUrl": target.url,
                "globalUrl": target.url, "lastError": error, "lastScrape": instant(at),
                "lastScrapeDuration": if took.is_finite() { took } else { 0.0 },
                "health": word, "scrapeInterval": target.interval, "scrapeTimeout": target.timeout,
            })
        })
        .collect();
    let dropped: BTreeMap<&str, u64> =
        facts.targets.iter().map(|target| (target.job.as_str(), 0)).collect();
    Found::of(&json!({
        "activeTargets": rows, "droppedTargets": [], "droppedTargetCounts": dropped,
    }))
}

/// A target's labels before any was changed.
fn discovered(target: &Target) -> Value {
    let (scheme, rest) = target.url.split_once("://").unwrap_or(("http", &target.url));
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut all = json!({
        "__address__": target.labels.get("instance"), "__metrics_path__": path, "__scheme__": scheme,
        "__scrape_interval__": target.interval, "__scrape_timeout__": target.timeout,
        "job": target.job,
    });
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // Of several of one name the first, as upstream.
        let name = format!("__param_{name}");
        if all[&name].is_null() {
            all[name] = value.into();
        }
    }
    all
}

pub(super) fn scrape_pools(site: &Site) -> Result<Found, Failure> {
    let facts = (site.shared.facts)();
    let pools: BTreeSet<&str> = facts.targets.iter().map(|target| target.job.as_str()).collect();
    Found::of(&json!({ "scrapePools": pools }))
}

/// `targets/metadata`: what is known of the metrics that a target has.
pub(super) async fn targets_metadata(site: &Site, params: &Params) -> Result<Found, Failure> {
    let limit = params.limit()?.min(ROWS_MAX);
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => params::selector(text).map_err(|said| Failure::parameter("match_target", said))?,
    };
    let metric = params.get("metric").to_owned();
    let facts = (site.shared.facts)();
    let known = (site.shared.describe)();
    let work = move |reader: &Reader| {
        let mut rows: Vec<Value> = Vec::new();
        let targets = facts.targets.iter();
        for target in targets.filter(|t| matchers.iter().all(|m| m.matches(&t.labels))) {
            let equal = |(name, value)| Matcher::new(name, MatchOp::Equal, value).ok();
            let own: Vec<Matcher> = target.labels.iter().filter_map(equal).collect();
            // Metadata is kept by metric; a target has it if it has such a series.
            let names: BTreeSet<String> = reader
                .store
                .series(&own, Time::MIN, Time::MAX)
                .iter()
                .map(|labels| labels.get(Labels::NAME).to_owned())
                .filter(|name| metric.is_empty() || *name == metric)
                .collect();
            for name in names {
                let Some(described) = known.get(&name) else { continue };
                if rows.len() == limit {
                    return Found::of(&rows);
                }
                rows.push(json!({
                    "target": target.labels, "metric": name, "type": described.kind,
                    "help": described.help, "unit": described.unit,
                }));
            }
        }
        Found::of(&rows)
    };
    Ok(site.turns.take(None, work).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovered_labels_hold_path_and_parameters_apart() {
        let target = Target {
            job: "web".to_owned(),
            source: "scrape/web".to_owned(),
            labels: Labels::from([("instance", "h:9100"), ("job", "web")]),
            url: "https://h:9100/probe?target=a%20b&target=c&module=http".to_owned(),
            interval: "15s".to_owned(),
            timeout: "10s".to_owned(),
        };
        let want = json!({
            "__address__": "h:9100", "__metrics_path__": "/probe", "__param_module": "http",
            "__param_target": "a b", "__scheme__": "https", "__scrape_interval__": "15s",
            "__scrape_timeout__": "10s", "job": "web",
        });
        assert_eq!(discovered(&target), want);
    }
}
